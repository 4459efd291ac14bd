/* test_jit.c - the machine code of doc/jit.md, as a compiler would emit it at run time:
 * allocation with the type known and unknown, the poll of a safepoint, decoding and
 * encoding refs. It does what mirt_new, mirt_safepoint_poll, mirt_decode and mirt_encode
 * do, object by object and bit by bit; and it is, byte by byte, what the document says.
 *
 * The emitters are for x86-64 and arm64. Both are compared with the document everywhere;
 * only the code for this processor can be run.
 */
#include "test.h"

#include <mirt.h>
#include <sys/mman.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define GiB ((size_t)1 << 30)

/* Where the fields are that emitted code uses: what the document says. */
#define CELL_WORD 8
#define CELL_GROUP 16
#define CELL_BLOCK_SIZE 24
_Static_assert(offsetof(mirt_cell_t, word) == CELL_WORD, "word");
_Static_assert(offsetof(mirt_cell_t, group) == CELL_GROUP, "group");
_Static_assert(offsetof(mirt_cell_t, block_size) == CELL_BLOCK_SIZE, "block_size");
_Static_assert(offsetof(mirt_type_t, cell) == 0, "a type's cell");
_Static_assert(sizeof((mirt_type_t *)NULL)->cell == 4, "a type's cell");
_Static_assert(offsetof(mirt_safepoint_flag_t, is_requested) == 0, "the flag");
#if UINTPTR_MAX > 0xffffffff
_Static_assert(offsetof(mirt_type_t, size) == 8, "a type's size");
_Static_assert(offsetof(mirt_type_t, block_size) == 16, "a type's block_size");
_Static_assert(offsetof(mirt_cage_t, base) == 0, "base");
_Static_assert(offsetof(mirt_cage_t, shift) == 16, "shift");
_Static_assert(offsetof(mirt_cage_t, mode) == 20, "mode");
#endif

/* ---- code ---- */

#define CODE_MAX 256

struct code {
  unsigned char bytes[CODE_MAX];
  size_t size;
};

static void put(struct code *code, const unsigned char *bytes, size_t size) {
  if (code->size + size > CODE_MAX) abort();
  memcpy(code->bytes + code->size, bytes, size);
  code->size += size;
}

/* Low byte first, as both processors have it. */
static void put_number(struct code *code, uint64_t number, size_t size) {
  for (size_t i = 0; i < size; i++) {
    const unsigned char byte = (unsigned char)(number >> (8 * i));
    put(code, &byte, 1);
  }
}

#define PUT(code, ...) \
  put(code, (const unsigned char[]){__VA_ARGS__}, sizeof((unsigned char[]){__VA_ARGS__}))

/* What is emitted for. */
struct task {
  uint32_t cell;
  size_t block_size;
  uint64_t type, slow;      /* addresses: a type, mirt_new_slow */
  uint64_t safepoint, stop; /* a safepoint, mirt_safepoint_stop */
  mirt_cage_mode_t mode;
  unsigned shift;
  uint64_t base;
};

typedef void emit_fun(struct code *code, const struct task *task);

static bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

static unsigned log2_of(size_t n) { return (unsigned)__builtin_ctzll(n); }

/* ---- x86-64, System V: arguments in rdi and rsi, result in rax; rcx and rdx are free ---- */

/* A conditional jump forward, to be bound. */
static size_t x86_jump(struct code *code, unsigned char opcode) {
  PUT(code, opcode, 0);
  return code->size;
}

static void x86_bind(struct code *code, size_t jump) {
  code->bytes[jump - 1] = (unsigned char)(code->size - jump);
}

/* mov rax, address; jmp rax */
static void x86_jump_far(struct code *code, uint64_t address) {
  PUT(code, 0x48, 0xb8);
  put_number(code, address, 8);
  PUT(code, 0xff, 0xe0);
}

static void x86_scale(struct code *code, size_t block_size) {
  if (is_power_of_two(block_size)) { /* shl rax, n */
    PUT(code, 0x48, 0xc1, 0xe0, (unsigned char)log2_of(block_size));
  } else if (block_size < 128) { /* imul rax, rax, n */
    PUT(code, 0x48, 0x6b, 0xc0, (unsigned char)block_size);
  } else {
    PUT(code, 0x48, 0x69, 0xc0);
    put_number(code, block_size, 4);
  }
}

static void x86_new_end(struct code *code, const struct task *task, size_t jump) {
  PUT(code, 0x48, 0x89, 0x8f); /* mov [rdi + cell + 8], rcx */
  put_number(code, task->cell + CELL_WORD, 4);
  PUT(code, 0xf3, 0x48, 0x0f, 0xbc, 0xc0); /* tzcnt rax, rax */
  x86_scale(code, task->block_size);
  PUT(code, 0x48, 0x03, 0x87); /* add rax, [rdi + cell + 16] */
  put_number(code, task->cell + CELL_GROUP, 4);
  PUT(code, 0xc3); /* ret */
  x86_bind(code, jump);
  PUT(code, 0x48, 0xbe); /* mov rsi, type */
  put_number(code, task->type, 8);
  x86_jump_far(code, task->slow);
}

/* void *f(mirt_mutator_t *) */
static void x86_new_known(struct code *code, const struct task *task) {
  PUT(code, 0x48, 0x8b, 0x87); /* mov rax, [rdi + cell + 8] */
  put_number(code, task->cell + CELL_WORD, 4);
  PUT(code, 0x48, 0x85, 0xc0);              /* test rax, rax */
  const size_t jump = x86_jump(code, 0x74); /* jz slow */
  PUT(code, 0x48, 0x8d, 0x48, 0xff);        /* lea rcx, [rax - 1] */
  PUT(code, 0x48, 0x21, 0xc1);              /* and rcx, rax */
  x86_new_end(code, task, jump);
}

/* The same with BMI1. */
static void x86_new_known_bmi(struct code *code, const struct task *task) {
  PUT(code, 0x48, 0x8b, 0x87); /* mov rax, [rdi + cell + 8] */
  put_number(code, task->cell + CELL_WORD, 4);
  PUT(code, 0xc4, 0xe2, 0xf0, 0xf3, 0xc8);  /* blsr rcx, rax */
  const size_t jump = x86_jump(code, 0x72); /* jc slow */
  x86_new_end(code, task, jump);
}

/* void *f(mirt_mutator_t *, const mirt_type_t *) */
static void x86_new_unknown(struct code *code, const struct task *task) {
  PUT(code, 0x8b, 0x0e);                                    /* mov ecx, [rsi] */
  PUT(code, 0x48, 0x8b, 0x44, 0x0f, CELL_WORD);             /* mov rax, [rdi + rcx + 8] */
  PUT(code, 0x48, 0x85, 0xc0);                              /* test rax, rax */
  const size_t jump = x86_jump(code, 0x74);                 /* jz slow */
  PUT(code, 0x48, 0x8d, 0x50, 0xff);                        /* lea rdx, [rax - 1] */
  PUT(code, 0x48, 0x21, 0xc2);                              /* and rdx, rax */
  PUT(code, 0x48, 0x89, 0x54, 0x0f, CELL_WORD);             /* mov [rdi + rcx + 8], rdx */
  PUT(code, 0xf3, 0x48, 0x0f, 0xbc, 0xc0);                  /* tzcnt rax, rax */
  PUT(code, 0x48, 0x0f, 0xaf, 0x44, 0x0f, CELL_BLOCK_SIZE); /* imul rax, [... + 24] */
  PUT(code, 0x48, 0x03, 0x44, 0x0f, CELL_GROUP); /* add rax, [rdi + rcx + 16] */
  PUT(code, 0xc3);                               /* ret */
  x86_bind(code, jump);
  x86_jump_far(code, task->slow);
}

/* void f(void) */
static void x86_poll(struct code *code, const struct task *task) {
  PUT(code, 0x48, 0xbf); /* mov rdi, safepoint */
  put_number(code, task->safepoint, 8);
  PUT(code, 0x48, 0x83, 0x3f, 0x00);        /* cmp qword [rdi], 0 */
  const size_t jump = x86_jump(code, 0x75); /* jne stop */
  PUT(code, 0xc3);                          /* ret */
  x86_bind(code, jump);
  x86_jump_far(code, task->stop);
}

/* mov rcx, base */
static void x86_base(struct code *code, const struct task *task) {
  PUT(code, 0x48, 0xb9);
  put_number(code, task->base, 8);
}

/* void *f(mirt_ref_t) */
static void x86_decode(struct code *code, const struct task *task) {
  const unsigned char shift = (unsigned char)task->shift;
  if (task->mode == MIRT_CAGE_SIGNED) {
    PUT(code, 0x48, 0x63, 0xc7); /* movsxd rax, edi */
  } else {
    PUT(code, 0x89, 0xf8); /* mov eax, edi */
  }
  if (task->mode == MIRT_CAGE_ZERO_BASED || task->mode == MIRT_CAGE_ALIGNED ||
      shift > 3) {
    if (shift != 0) PUT(code, 0x48, 0xc1, 0xe0, shift); /* shl rax, shift */
  }
  if (task->mode != MIRT_CAGE_ZERO_BASED) x86_base(code, task);
  if (task->mode == MIRT_CAGE_ALIGNED) {
    PUT(code, 0x48, 0x09, 0xc8); /* or rax, rcx */
  } else if (task->mode != MIRT_CAGE_ZERO_BASED && shift > 3) {
    PUT(code, 0x48, 0x01, 0xc8); /* add rax, rcx */
  } else if (task->mode != MIRT_CAGE_ZERO_BASED) {
    const unsigned char scaled = (unsigned char)(0x01 | shift << 6);
    PUT(code, 0x48, 0x8d, 0x04, scaled); /* lea rax, [rcx + rax * 2^shift] */
  }
  PUT(code, 0xc3); /* ret */
}

/* mirt_ref_t f(const void *) */
static void x86_encode(struct code *code, const struct task *task) {
  PUT(code, 0x48, 0x89, 0xf8); /* mov rax, rdi */
  if (task->mode == MIRT_CAGE_ANY_BASE || task->mode == MIRT_CAGE_SIGNED) {
    x86_base(code, task);
    PUT(code, 0x48, 0x29, 0xc8); /* sub rax, rcx */
  }
  if (task->shift != 0) {
    PUT(code, 0x48, 0xc1, 0xe8, (unsigned char)task->shift); /* shr rax, shift */
  }
  PUT(code, 0xc3); /* ret */
}

/* ---- arm64: arguments in x0 and x1, result in x0; x9 to x16 are free ---- */

static void arm_put(struct code *code, uint32_t instruction) {
  put_number(code, instruction, 4);
}

/* mov and movk: a number of so many times 16 bits. */
static void arm_number(struct code *code, uint32_t to, uint64_t number, uint32_t parts) {
  for (uint32_t i = 0; i < parts; i++) {
    const uint32_t part = (uint32_t)(number >> (16 * i)) & 0xffff;
    arm_put(code, (i == 0 ? 0xd2800000u : 0xf2800000u) | i << 21 | part << 5 | to);
  }
}

/* ldr, and with is_store str, xN, [xM, #offset] */
static void arm_access(struct code *code, bool is_store, uint32_t n, uint32_t m,
                       uint32_t offset) {
  const uint32_t opcode = is_store ? 0xf9000000u : 0xf9400000u;
  arm_put(code, opcode | (offset / 8) << 10 | m << 5 | n);
}

/* cbz, and with is_not cbnz, forward, to be bound. */
static size_t arm_jump(struct code *code, bool is_not, uint32_t n) {
  arm_put(code, (is_not ? 0xb5000000u : 0xb4000000u) | n);
  return code->size - 4;
}

/* The distance counts instructions, in bits 5 to 23: here in the lowest two bytes. */
static void arm_bind(struct code *code, size_t jump) {
  const size_t distance = (code->size - jump) / 4 << 5;
  code->bytes[jump] |= (unsigned char)distance;
  code->bytes[jump + 1] |= (unsigned char)(distance >> 8);
}

static void arm_jump_far(struct code *code, uint64_t address) {
  arm_number(code, 16, address, 4);
  arm_put(code, 0xd61f0200); /* br x16 */
}

static void arm_lowest_bit(struct code *code) {
  arm_put(code, 0xdac0014a); /* rbit x10, x10 */
  arm_put(code, 0xdac0114a); /* clz x10, x10 */
}

/* void *f(mirt_mutator_t *) */
static void arm_new_known(struct code *code, const struct task *task) {
  uint32_t from = 0, offset = task->cell; /* x0, and what fits into an instruction */
  if (offset + CELL_GROUP > 4095 * 8) {   /* add x9, x0, #(offset >> 12), lsl #12 */
    arm_put(code, 0x91400009u | (offset >> 12) << 10);
    from = 9;
    offset &= 4095;
  }
  arm_access(code, false, 10, from, offset + CELL_WORD);  /* ldr x10, [..., #8] */
  const size_t jump = arm_jump(code, false, 10);          /* cbz x10, slow */
  arm_put(code, 0xd100054b);                              /* sub x11, x10, #1 */
  arm_put(code, 0x8a0a016b);                              /* and x11, x11, x10 */
  arm_access(code, true, 11, from, offset + CELL_WORD);   /* str x11, [..., #8] */
  arm_access(code, false, 11, from, offset + CELL_GROUP); /* ldr x11, [..., #16] */
  arm_lowest_bit(code);
  if (is_power_of_two(task->block_size)) { /* add x0, x11, x10, lsl #n */
    arm_put(code, 0x8b0a0160u | log2_of(task->block_size) << 10);
  } else {
    arm_number(code, 12, task->block_size, task->block_size > 0xffff ? 2 : 1);
    arm_put(code, 0x9b0c2d40); /* madd x0, x10, x12, x11 */
  }
  arm_put(code, 0xd65f03c0); /* ret */
  arm_bind(code, jump);
  arm_number(code, 1, task->type, 4);
  arm_jump_far(code, task->slow);
}

/* void *f(mirt_mutator_t *, const mirt_type_t *) */
static void arm_new_unknown(struct code *code, const struct task *task) {
  arm_put(code, 0xb9400029);                       /* ldr w9, [x1] */
  arm_put(code, 0x8b090009);                       /* add x9, x0, x9 */
  arm_put(code, 0xa940ad2a);                       /* ldp x10, x11, [x9, #8] */
  const size_t jump = arm_jump(code, false, 10);   /* cbz x10, slow */
  arm_put(code, 0xd100054c);                       /* sub x12, x10, #1 */
  arm_put(code, 0x8a0a018c);                       /* and x12, x12, x10 */
  arm_access(code, true, 12, 9, CELL_WORD);        /* str x12, [x9, #8] */
  arm_access(code, false, 13, 9, CELL_BLOCK_SIZE); /* ldr x13, [x9, #24] */
  arm_lowest_bit(code);
  arm_put(code, 0x9b0d2d40); /* madd x0, x10, x13, x11 */
  arm_put(code, 0xd65f03c0); /* ret */
  arm_bind(code, jump);
  arm_jump_far(code, task->slow);
}

/* void f(void) */
static void arm_poll(struct code *code, const struct task *task) {
  arm_number(code, 0, task->safepoint, 4);
  arm_access(code, false, 9, 0, 0);            /* ldr x9, [x0] */
  const size_t jump = arm_jump(code, true, 9); /* cbnz x9, stop */
  arm_put(code, 0xd65f03c0);                   /* ret */
  arm_bind(code, jump);
  arm_jump_far(code, task->stop);
}

/* void *f(mirt_ref_t) */
static void arm_decode(struct code *code, const struct task *task) {
  const uint32_t shift = task->shift;
  if (task->mode != MIRT_CAGE_ZERO_BASED) arm_number(code, 1, task->base, 4);
  switch (task->mode) {
    case MIRT_CAGE_ZERO_BASED: /* ubfiz x0, x0, #shift, #32 */
      arm_put(code, 0xd3407c00u | ((64 - shift) & 63) << 16);
      break;
    case MIRT_CAGE_ALIGNED:
      arm_put(code, 0x2a0003e0);                /* mov w0, w0 */
      arm_put(code, 0xaa000020u | shift << 10); /* orr x0, x1, x0, lsl #shift */
      break;
    case MIRT_CAGE_ANY_BASE: /* add x0, x1, w0, uxtw #shift */
      arm_put(code, 0x8b204020u | shift << 10);
      break;
    default: /* add x0, x1, w0, sxtw #shift */ arm_put(code, 0x8b20c020u | shift << 10);
  }
  arm_put(code, 0xd65f03c0); /* ret */
}

/* mirt_ref_t f(const void *) */
static void arm_encode(struct code *code, const struct task *task) {
  if (task->mode == MIRT_CAGE_ANY_BASE || task->mode == MIRT_CAGE_SIGNED) {
    arm_number(code, 1, task->base, 4);
    arm_put(code, 0xcb010000); /* sub x0, x0, x1 */
  }
  arm_put(code, 0xd340fc00u | task->shift << 16); /* lsr x0, x0, #shift */
  arm_put(code, 0xd65f03c0);                      /* ret */
}

/* ---- this processor ---- */

#if defined(__x86_64__) && !defined(__ILP32__)
#define CAN_RUN 1
#define NEW_KNOWN x86_new_known
#define NEW_UNKNOWN x86_new_unknown
#define POLL x86_poll
#define DECODE x86_decode
#define ENCODE x86_encode
static bool has_bmi(void) { return __builtin_cpu_supports("bmi"); }
#elif defined(__aarch64__) && !defined(__ILP32__)
#define CAN_RUN 1
#define NEW_KNOWN arm_new_known
#define NEW_UNKNOWN arm_new_unknown
#define POLL arm_poll
#define DECODE arm_decode
#define ENCODE arm_encode
static bool has_bmi(void) { return false; }
#else
#define CAN_RUN 0
#endif

/* ---- code in memory ---- */

#if CAN_RUN

/* Not at the start of a page: some sanitizers read what lies before a function. */
#define CODE_OFFSET 64

union function {
  void *address;
  void *(*new_known)(mirt_mutator_t *mutator);
  void *(*new_unknown)(mirt_mutator_t *mutator, const mirt_type_t *type);
  void (*poll)(void);
  void *(*decode)(mirt_ref_t ref);
  mirt_ref_t (*encode)(const void *p);
};

/* Pages of code: written, and only then executable. */
struct pages {
  char *begin;
  size_t size, used;
};

static struct pages pages_map(size_t functions) {
  struct pages pages = {.size = CODE_OFFSET + functions * CODE_MAX};
  pages.begin =
      mmap(NULL, pages.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert(pages.begin != MAP_FAILED);
  pages.used = CODE_OFFSET;
  return pages;
}

static union function pages_emit(struct pages *pages, emit_fun *emit,
                                 const struct task *task) {
  struct code code = {.size = 0};
  emit(&code, task);
  assert_quick(pages->used + CODE_MAX <= pages->size);
  char *at = pages->begin + pages->used;
  memcpy(at, code.bytes, code.size);
  pages->used += CODE_MAX;
  return (union function){.address = at};
}

static void pages_seal(struct pages *pages) {
  ck_assert_int_eq(mprotect(pages->begin, pages->size, PROT_READ | PROT_EXEC), 0);
  __builtin___clear_cache(pages->begin, pages->begin + pages->used);
}

static void pages_unmap(struct pages *pages) {
  ck_assert_int_eq(munmap(pages->begin, pages->size), 0);
}

static union function emit_one(struct pages *pages, emit_fun *emit,
                               const struct task *task) {
  *pages = pages_map(1);
  const union function function = pages_emit(pages, emit, task);
  pages_seal(pages);
  return function;
}

/* Does this system let a process run what it has written? */
static bool can_execute(void) {
  char *page = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;
  const bool can = mprotect(page, 1, PROT_READ | PROT_EXEC) == 0;
  munmap(page, 1);
  return can;
}

/* The three ways to allocate, as one. */
enum { KNOWN, UNKNOWN, KNOWN_BMI, WAYS };

static emit_fun *emitter_of(int way) {
#if defined(__x86_64__)
  if (way == KNOWN_BMI && has_bmi()) return x86_new_known_bmi;
#endif
  (void)has_bmi;
  return way == UNKNOWN ? NEW_UNKNOWN : NEW_KNOWN;
}

static void *run_new(union function function, int way, mirt_mutator_t *mutator,
                     const mirt_type_t *type) {
  return way == UNKNOWN ? function.new_unknown(mutator, type)
                        : function.new_known(mutator);
}

static struct task task_of(const mirt_type_t *type) {
  return (struct task){.cell = type->cell,
                       .block_size = type->block_size,
                       .type = (uintptr_t)type,
                       .slow = (uintptr_t)mirt_new_slow};
}

/* ---- the fast path alone ---- */

static const mirt_mutator_t *slow_mutator;
static const mirt_type_t *slow_type;
static size_t slow_calls;

static void *slow_is_called(const mirt_mutator_t *mutator, const mirt_type_t *type) {
  slow_mutator = mutator;
  slow_type = type;
  slow_calls++;
  return &slow_calls;
}

static mirt_cell_t *cell_of(void *mutator, const mirt_type_t *type) {
  return (mirt_cell_t *)(void *)((char *)mutator + type->cell);
}

/* A mutator that is none, with one cell: what the code does with each bit of its word, and
 * what mirt_new does with it. */
static void check_cell(union function function, int way, char *mutator,
                       const mirt_type_t *type, uint64_t word) {
  mirt_cell_t *cell = cell_of(mutator, type);
  const mirt_cell_t before = {
      .word = word, .group = 0x70000000, .block_size = type->block_size};
  mirt_mutator_t *as_mutator = (mirt_mutator_t *)(void *)mutator;
  for (uint64_t left = word; left != 0; left &= left - 1) {
    *cell = before;
    cell->word = left;
    char *expected = mirt_new(as_mutator, type);
    const mirt_cell_t after = *cell;
    cell->word = left;
    const size_t calls = slow_calls;
    assert_quick(run_new(function, way, as_mutator, type) == expected);
    assert_quick(memcmp(cell, &after, sizeof after) == 0 && slow_calls == calls);
    assert_quick((uintptr_t)expected ==
                 before.group + (size_t)__builtin_ctzll(left) * type->block_size);
  }
  *cell = before;
  cell->word = 0;
  const size_t calls = slow_calls;
  assert_quick(run_new(function, way, as_mutator, type) == &slow_calls);
  assert_quick(slow_calls == calls + 1 && slow_mutator == as_mutator);
  assert_quick(slow_type == type);
}

/* Cells up to the last that a mutator can have, blocks of many sizes, words with few and
 * with many bits. */
START_TEST(test_fast_path) {
  static const size_t sizes[] = {16,    24,    32,    48,     64,     112,
                                 120,   128,   136,   160,    1024,   4104,
                                 65528, 65536, 65544, 131072, 100000, 104};
  static const size_t cells[] = {0, 1, 9, 10, 84, 85, 86, 1000, MIRT_TYPES_MAX - 1};
  const size_t size = 64 + MIRT_TYPES_MAX * (size_t)384;
  char *mutator = calloc(1, size);
  ck_assert_ptr_nonnull(mutator);
  struct pages pages = pages_map(COUNT_OF(sizes) * COUNT_OF(cells));
  union function functions[COUNT_OF(sizes) * COUNT_OF(cells)];
  mirt_type_t types[COUNT_OF(functions)];
  for (size_t i = 0; i < COUNT_OF(functions); i++) {
    types[i] = (mirt_type_t){
        .cell = (uint32_t)(64 + 384 * cells[i % COUNT_OF(cells)]),
        .block_size = sizes[i / COUNT_OF(cells)],
    };
    struct task task = task_of(&types[i]);
    task.slow = (uintptr_t)slow_is_called;
    functions[i] = pages_emit(&pages, emitter_of(_i), &task);
  }
  pages_seal(&pages);
  struct dice dice = dice_new(1);
  for (size_t i = 0; i < COUNT_OF(functions); i++) {
    check_cell(functions[i], _i, mutator, &types[i], ~(uint64_t)0);
    check_cell(functions[i], _i, mutator, &types[i], 1);
    check_cell(functions[i], _i, mutator, &types[i], (uint64_t)1 << 63);
    for (int j = 0; j < 10; j++) {
      check_cell(functions[i], _i, mutator, &types[i], dice_word(&dice));
    }
  }
  ck_assert_uint_eq(slow_calls, 13 * COUNT_OF(functions));
  slow_calls = 0;
  pages_unmap(&pages);
  free(mutator);
}
END_TEST

/* ---- allocating ---- */

static const size_t object_sizes[] = {
    1,   8,    16,   17,   24,   32,    40,    48,    56,     64,
    80,  96,   100,  112,  128,  130,   144,   160,   192,    256,
    500, 1000, 1024, 2048, 4096, 10000, 16384, 65536, 131072, 200000};
#define OBJECT_TYPES COUNT_OF(object_sizes)
#define FILLERS 32 /* types between two of these, so that cells lie far apart */

/* A runtime with types of all sizes, and a mutator that is bound. */
struct machine {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator;
  mirt_type_t *types[OBJECT_TYPES];
  struct pages pages;
  union function functions[OBJECT_TYPES]; /* NULL: mirt_new */
  int way;
};

static void machine_emit(struct machine *machine, int way) {
  machine->way = way;
  machine->pages = pages_map(OBJECT_TYPES);
  for (size_t i = 0; i < OBJECT_TYPES; i++) {
    const struct task task = task_of(machine->types[i]);
    machine->functions[i] = pages_emit(&machine->pages, emitter_of(way), &task);
  }
  pages_seal(&machine->pages);
}

static void machine_begin(struct machine *machine) {
  memset(machine, 0, sizeof *machine);
  const mirt_runtime_options_t options = {.size = 2 * GiB};
  ck_assert_int_eq(mirt_runtime_create(&options, &machine->runtime), 0);
  for (size_t i = 0; i < OBJECT_TYPES; i++) {
    const mirt_type_options_t type = {.name = "object", .size = object_sizes[i]};
    machine->types[i] = mirt_type_new(machine->runtime, &type);
    ck_assert_ptr_nonnull(machine->types[i]);
    for (size_t j = 0; j < FILLERS; j++) {
      const mirt_type_options_t filler = {.name = "filler", .size = 16};
      ck_assert_ptr_nonnull(mirt_type_new(machine->runtime, &filler));
    }
  }
  machine->mutator = mirt_mutator_create_in(machine->runtime);
  ck_assert_ptr_nonnull(machine->mutator);
  ck_assert_int_eq(mirt_mutator_bind(machine->mutator), 0);
}

static void machine_end(struct machine *machine) {
  ck_assert_int_eq(mirt_mutator_unbind(machine->mutator), 0);
  ck_assert_int_eq(mirt_runtime_destroy(machine->runtime), 0);
  if (machine->pages.begin != NULL) pages_unmap(&machine->pages);
}

static void *machine_new(struct machine *machine, size_t i) {
  if (machine->functions[i].address == NULL) {
    return mirt_new(machine->mutator, machine->types[i]);
  }
  return run_new(machine->functions[i], machine->way, machine->mutator,
                 machine->types[i]);
}

/* An object with its number at both ends, so that none may overlap another. */
struct held {
  char *object;
  size_t size;
  unsigned char number;
};

static void hold(struct held *held, char *object, size_t size, size_t number) {
  *held = (struct held){object, size, (unsigned char)number};
  object[0] = object[size - 1] = (char)held->number;
}

static void let_go(struct held *held) {
  assert_quick((unsigned char)held->object[0] == held->number);
  assert_quick((unsigned char)held->object[held->size - 1] == held->number);
  mirt_delete(held->object);
}

#define OPERATIONS 20000u
#define HELD_MAX 600u

/* Allocate and free by the same dice, and note where each object was, from the start of
 * the arena. */
static void machine_run(struct machine *machine, size_t *places) {
  struct dice dice = dice_new(2);
  struct held held[HELD_MAX];
  size_t count = 0, arena_size;
  const char *arena = mi_arena_area(mirt_runtime_arena(machine->runtime), &arena_size);
  for (size_t i = 0; i < OPERATIONS; i++) {
    const size_t which = dice_roll(&dice, OBJECT_TYPES);
    if (count == HELD_MAX || (count != 0 && dice_roll(&dice, 100) < 45)) {
      struct held *victim = &held[dice_roll(&dice, count)];
      let_go(victim);
      *victim = held[--count];
      places[i] = 0;
      continue;
    }
    char *object = machine_new(machine, which);
    assert_quick(object != NULL && (size_t)(object - arena) < arena_size);
    mirt_found_t found;
    assert_quick(mirt_find(machine->runtime, (uintptr_t)object, &found));
    assert_quick(found.object == object && found.type == machine->types[which]);
    hold(&held[count++], object, object_sizes[which], i);
    places[i] = (size_t)(object - arena);
  }
  while (count > 0) let_go(&held[--count]);
}

/* Emitted code and mirt_new give the same objects in the same order. */
START_TEST(test_same_as_mirt_new) {
  static size_t expected[OPERATIONS], places[OPERATIONS];
  struct machine machine;
  machine_begin(&machine);
  machine_run(&machine, expected);
  machine_end(&machine);
  machine_begin(&machine);
  machine_emit(&machine, _i);
  machine_run(&machine, places);
  mirt_runtime_stats_t stats;
  ck_assert(mirt_runtime_stats(machine.runtime, &stats));
  ck_assert_uint_eq(stats.live_bytes, 0);
  machine_end(&machine);
  for (size_t i = 0; i < OPERATIONS; i++) assert_quick(places[i] == expected[i]);
  assert_no_errors();
}
END_TEST

/* What mirt_new_slow refuses, the code hands on. */
START_TEST(test_slow_path_fails) {
  struct machine machine;
  machine_begin(&machine);
  machine_emit(&machine, _i);
  ck_assert_int_eq(mirt_budget_set(machine.runtime, 0, 100000), 0);
  size_t count = 0;
  const size_t which = 7; /* 48 bytes */
  while (count < 10000 && machine_new(&machine, which) != NULL) count++;
  ck_assert_uint_gt(count, 1000);
  ck_assert_uint_lt(count, 10000);
  assert_errors(ENOMEM, 1);
  ck_assert_int_eq(mirt_budget_set(machine.runtime, 0, 0), 0);
  ck_assert_ptr_nonnull(machine_new(&machine, which));

  ck_assert_int_eq(mirt_mutator_unbind(machine.mutator), 0);
  ck_assert_ptr_null(machine_new(&machine, which + 1));
  assert_errors(EPERM, 1);
  ck_assert_int_eq(mirt_mutator_bind(machine.mutator), 0);
  machine_end(&machine);
}
END_TEST

/* ---- with collections ---- */

struct link {
  struct link *next;
  uint64_t number;
};

struct list {
  struct link *first;
  size_t collections;
};

static void mark_list(mirt_marker_t *marker, void *list) {
  mirt_mark(marker, ((struct list *)list)->first);
}

static void collect_list(mirt_runtime_t *runtime, size_t live, const mirt_type_t *type,
                         void *argument) {
  struct list *list = argument;
  (void)live, (void)type;
  list->collections++;
  ck_assert_int_eq(mirt_collect(runtime, mark_list, list, NULL, NULL), 0);
}

/* The slow path collects: the code finds its cell as the sweep has left it. */
START_TEST(test_slow_path_collects) {
  struct list list = {.first = NULL};
  const mirt_runtime_options_t options = {
      .size = GiB, .soft_limit = 200000, .on_soft_limit = collect_list, .arg = &list};
  mirt_runtime_t *runtime;
  ck_assert_int_eq(mirt_runtime_create(&options, &runtime), 0);
  const uint64_t map = 1;
  const mirt_type_options_t link = {.name = "link",
                                    .size = sizeof(struct link),
                                    .slot_size = sizeof(void *),
                                    .map = &map,
                                    .map_slots = 1};
  const mirt_type_t *type = mirt_type_new(runtime, &link);
  mirt_mutator_t *mutator = mirt_mutator_create_in(runtime);
  ck_assert(type != NULL && mutator != NULL && mirt_mutator_bind(mutator) == 0);
  struct pages pages;
  const struct task task = task_of(type);
  const union function function = emit_one(&pages, emitter_of(_i), &task);

  for (uint64_t i = 0; i < 100000; i++) { /* every 20th stays */
    struct link *object = run_new(function, _i, mutator, type);
    assert_quick(object != NULL);
    *object = (struct link){list.first, i};
    if (i % 20 == 0) list.first = object;
  }
  ck_assert_uint_ge(list.collections, 5);
  uint64_t expected = 100000;
  for (const struct link *l = list.first; l != NULL; l = l->next) {
    expected -= 20;
    assert_quick(l->number == expected);
  }
  ck_assert_uint_eq(expected, 0);
  ck_assert_int_eq(mirt_mutator_unbind(mutator), 0);
  ck_assert_int_eq(mirt_runtime_destroy(runtime), 0);
  pages_unmap(&pages);
  assert_no_errors();
}
END_TEST

/* ---- the poll ---- */

static void *stopped_at;
static size_t stop_calls;

static void stop_is_called(void *safepoint) {
  stopped_at = safepoint;
  stop_calls++;
}

START_TEST(test_poll) {
  mirt_safepoint_flag_t flag = {.is_requested = 0};
  struct pages pages;
  const struct task task = {.safepoint = (uintptr_t)&flag,
                            .stop = (uintptr_t)stop_is_called};
  const union function function = emit_one(&pages, POLL, &task);
  stop_calls = 0;
  function.poll();
  ck_assert_uint_eq(stop_calls, 0);
  flag.is_requested = 1;
  function.poll();
  ck_assert_uint_eq(stop_calls, 1);
  ck_assert_ptr_eq(stopped_at, &flag);
  flag.is_requested = 0;
  function.poll();
  ck_assert_uint_eq(stop_calls, 1);
  pages_unmap(&pages);
}
END_TEST

struct poller {
  mirt_safepoint_t *safepoint;
  union function function;
  AO_t has_begun, shall_end;
  size_t polls; /* read while it is stopped */
};

static void *poll_until_the_end(void *argument) {
  struct poller *poller = argument;
  mirt_safepoint_attach(poller->safepoint);
  AO_store_release(&poller->has_begun, 1);
  while (AO_load_acquire(&poller->shall_end) == 0) {
    poller->polls++;
    poller->function.poll();
  }
  mirt_safepoint_detach(poller->safepoint);
  return NULL;
}

/* A thread that stops nowhere but in emitted code. */
START_TEST(test_poll_stops) {
  struct poller poller = {.safepoint = mirt_safepoint_create()};
  ck_assert_ptr_nonnull(poller.safepoint);
  struct pages pages;
  const struct task task = {.safepoint = (uintptr_t)poller.safepoint,
                            .stop = (uintptr_t)mirt_safepoint_stop};
  poller.function = emit_one(&pages, POLL, &task);
  mirt_safepoint_attach(poller.safepoint);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, poll_until_the_end, &poller), 0);
  while (AO_load_acquire(&poller.has_begun) == 0) sched_yield();
  for (int i = 0; i < 100; i++) {
    ck_assert(mirt_safepoint_request(poller.safepoint));
    const size_t polls = poller.polls;
    sched_yield();
    ck_assert_uint_eq(poller.polls, polls);
    mirt_safepoint_resume(poller.safepoint);
  }
  AO_store_release(&poller.shall_end, 1);
  mirt_safepoint_leave(poller.safepoint);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  mirt_safepoint_enter(poller.safepoint);
  mirt_safepoint_detach(poller.safepoint);
  ck_assert_uint_gt(poller.polls, 0);
  ck_assert_int_eq(mirt_safepoint_destroy(poller.safepoint), 0);
  pages_unmap(&pages);
}
END_TEST

/* ---- refs ---- */

static const mirt_cage_mode_t modes[] = {MIRT_CAGE_ZERO_BASED, MIRT_CAGE_ALIGNED,
                                         MIRT_CAGE_ANY_BASE, MIRT_CAGE_SIGNED};

/* Code for a cage, which need not exist, does what the functions do with such a cage. */
static void check_refs(const mirt_cage_t *cage) {
  const uint64_t top = (uint64_t)1 << 32;
  const struct task task = {.mode = cage->mode, .shift = cage->shift, .base = cage->base};
  struct pages pages = pages_map(2);
  const union function decode = pages_emit(&pages, DECODE, &task);
  const union function encode = pages_emit(&pages, ENCODE, &task);
  pages_seal(&pages);
  struct dice dice = dice_new(3);
  for (size_t i = 0; i < 1000; i++) {
    const mirt_ref_t ref =
        i < 4 ? (mirt_ref_t)(top / 4 * i - (i & 1)) : (mirt_ref_t)dice_word(&dice);
    const char *expected = mirt_decode(cage, ref);
    assert_quick(decode.decode(ref) == expected);
    assert_quick(encode.encode(expected) == ref);
    /* In a debug build it is asserted. */
    if (mirt_ref_encodable(cage, expected)) {
      assert_quick(mirt_encode(cage, expected) == ref);
    }
    assert_quick(mirt_decode_at(cage->base, cage->shift, cage->mode, ref) == expected);
  }
  pages_unmap(&pages);
}

START_TEST(test_refs) {
  for (size_t i = 0; i < COUNT_OF(modes); i++) {
    for (unsigned shift = 0; shift <= 4; shift++) {
      static const uintptr_t bases[] = {0, (uintptr_t)0x7 << 40, 0x123456780000,
                                        0x700000010000};
      const uint64_t sign = modes[i] == MIRT_CAGE_SIGNED ? 0x80000000u : 0;
      const mirt_cage_t cage = {.base = bases[i],
                                .sign = sign,
                                .shift = shift,
                                .mode = modes[i],
                                .reservation = (void *)(bases[i] - (sign << shift)),
                                .reserved = ((size_t)1 << 32) << shift};
      check_refs(&cage);
    }
  }
}
END_TEST

/* And with cages that do exist, whatever the system gives. */
START_TEST(test_refs_of_cages) {
  for (unsigned i = 0; i < 10; i++) {
    const mirt_cage_options_t options = {
        .size = GiB, .shift = i / 2, .signed_refs = i % 2 == 1};
    mirt_cage_t *cage;
    ck_assert_int_eq(mirt_cage_create(&options, &cage), 0);
    check_refs(cage);
    ck_assert_int_eq(mirt_cage_destroy(cage), 0);
  }
}
END_TEST

#endif

/* ---- the document ---- */

/* The example of the document. */
static const struct task example = {.cell = 0x1c0,
                                    .block_size = 48,
                                    .type = 0x00007f0123456780,
                                    .slow = 0x00007f00abcdef00,
                                    .safepoint = 0x00007f0011223340,
                                    .stop = 0x00007f00abcdf000,
                                    .shift = 3};

struct listing {
  const char *head; /* of a block of the document */
  emit_fun *emit;
  uint32_t cell;
  mirt_cage_mode_t mode;
  uint64_t base;
};

#define ALIGNED_BASE 0x0000700000000000
#define OTHER_BASE 0x0000700000010000

static const struct listing listings[] = {
    {.head = "x86-64 known", .emit = x86_new_known},
    {.head = "x86-64 known, BMI1", .emit = x86_new_known_bmi},
    {.head = "x86-64 unknown", .emit = x86_new_unknown},
    {.head = "x86-64 poll", .emit = x86_poll},
    {.head = "x86-64 decode, zero-based", .emit = x86_decode},
    {.head = "x86-64 decode, aligned",
     .emit = x86_decode,
     .mode = MIRT_CAGE_ALIGNED,
     .base = ALIGNED_BASE},
    {.head = "x86-64 decode, any base",
     .emit = x86_decode,
     .mode = MIRT_CAGE_ANY_BASE,
     .base = OTHER_BASE},
    {.head = "x86-64 decode, signed",
     .emit = x86_decode,
     .mode = MIRT_CAGE_SIGNED,
     .base = OTHER_BASE},
    {.head = "x86-64 encode, zero-based or aligned", .emit = x86_encode},
    {.head = "x86-64 encode, any base or signed",
     .emit = x86_encode,
     .mode = MIRT_CAGE_SIGNED,
     .base = OTHER_BASE},
    {.head = "arm64 known", .emit = arm_new_known},
    {.head = "arm64 known, a cell at 0x21040", .emit = arm_new_known, .cell = 0x21040},
    {.head = "arm64 unknown", .emit = arm_new_unknown},
    {.head = "arm64 poll", .emit = arm_poll},
    {.head = "arm64 decode, zero-based", .emit = arm_decode},
    {.head = "arm64 decode, aligned",
     .emit = arm_decode,
     .mode = MIRT_CAGE_ALIGNED,
     .base = ALIGNED_BASE},
    {.head = "arm64 decode, any base",
     .emit = arm_decode,
     .mode = MIRT_CAGE_ANY_BASE,
     .base = OTHER_BASE},
    {.head = "arm64 decode, signed",
     .emit = arm_decode,
     .mode = MIRT_CAGE_SIGNED,
     .base = OTHER_BASE},
    {.head = "arm64 encode, zero-based or aligned", .emit = arm_encode},
    {.head = "arm64 encode, any base or signed",
     .emit = arm_encode,
     .mode = MIRT_CAGE_SIGNED,
     .base = OTHER_BASE},
};

static FILE *open_document(void) {
  const char *root = getenv("top_srcdir");
  char name[4096];
  snprintf(name, sizeof name, "%s/doc/jit.md", root == NULL ? "." : root);
  return fopen(name, "r");
}

/* The bytes at the start of a line, up to two blanks: "48 8b 87", or a word of eight
 * digits, whose low byte comes first. */
static void read_bytes(struct code *code, const char *line) {
  while (*line == ' ') line++;
  while (*line != ' ' && *line != '\n' && *line != 0) {
    char *end;
    const unsigned long number = strtoul(line, &end, 16);
    ck_assert_msg(end - line == 2 || end - line == 8, "no bytes: %s", line);
    put_number(code, number, (size_t)(end - line) / 2);
    line = *end == ' ' ? end + 1 : end;
  }
}

/* Read the block of the document whose first line is this. Returns false if there is none. */
static bool read_listing(const char *head, struct code *code) {
  FILE *document = open_document();
  ck_assert_msg(document != NULL, "there is no doc/jit.md");
  char line[256], first[256];
  snprintf(first, sizeof first, "    ; %s\n", head);
  bool is_inside = false;
  code->size = 0;
  while (fgets(line, sizeof line, document) != NULL) {
    if (strncmp(line, "    ", 4) != 0) {
      if (is_inside) break;
    } else if (is_inside) {
      read_bytes(code, line);
    } else {
      is_inside = strcmp(line, first) == 0;
    }
  }
  fclose(document);
  return is_inside;
}

static void describe(char *text, size_t size, const struct code *code) {
  size_t used = 0;
  for (size_t i = 0; i < code->size && used + 4 < size; i++) {
    used += (size_t)snprintf(text + used, size - used, " %02x", code->bytes[i]);
  }
}

START_TEST(test_document) {
  const struct listing *listing = &listings[_i];
  struct task task = example;
  if (listing->cell != 0) task.cell = listing->cell;
  task.mode = listing->mode;
  task.base = listing->base;
  struct code code = {.size = 0}, written;
  listing->emit(&code, &task);
  ck_assert_msg(read_listing(listing->head, &written), "no block \"; %s\"",
                listing->head);
  char is[1024] = "", says[1024] = "";
  describe(is, sizeof is, &code);
  describe(says, sizeof says, &written);
  ck_assert_msg(strcmp(is, says) == 0, "%s\n  emitted%s\n  written%s", listing->head, is,
                says);
}
END_TEST

/* Each listing of the document is one of these. */
START_TEST(test_document_has_no_other) {
  FILE *document = open_document();
  ck_assert_msg(document != NULL, "there is no doc/jit.md");
  char line[256];
  size_t count = 0;
  while (fgets(line, sizeof line, document) != NULL) {
    count += strncmp(line, "    ; ", 6) == 0;
  }
  fclose(document);
  ck_assert_uint_eq(count, COUNT_OF(listings));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("jit");
  TCase *document = case_begin(suite, "document");
  tcase_add_loop_test(document, test_document, 0, (int)COUNT_OF(listings));
  tcase_add_test(document, test_document_has_no_other);
#if CAN_RUN
  if (can_execute()) {
    TCase *allocation = case_begin(suite, "allocation");
    tcase_add_loop_test(allocation, test_fast_path, 0, WAYS);
    tcase_add_loop_test(allocation, test_same_as_mirt_new, 0, WAYS);
    tcase_add_loop_test(allocation, test_slow_path_fails, 0, WAYS);
    tcase_add_loop_test(allocation, test_slow_path_collects, 0, WAYS);
    TCase *others = case_begin(suite, "poll and refs");
    tcase_add_test(others, test_poll);
    tcase_add_test(others, test_poll_stops);
    tcase_add_test(others, test_refs);
    tcase_add_test(others, test_refs_of_cages);
  } else {
    printf("this system runs no code that a process has written\n");
  }
#endif
  return suite_run(suite);
}
