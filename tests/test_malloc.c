/* test_malloc.c - the functions that allocate, resize, free, copy and measure, each of
 * each family; callbacks, statistics and options.
 *
 * Functions that do the same under many names are in one table with what each promises,
 * and each promise is one test that runs over the table.
 */
#include "test.h"

#include <mirt/stats.h>

#include <limits.h>
#include <sys/mman.h>

#include "base/bits.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The pages of the system; what mi_valloc aligns to. */
#define SYSTEM_PAGE ((size_t)sysconf(_SC_PAGESIZE))

/* ---- the table of functions ---- */

struct call {
  void *p;
  size_t count, size, alignment, offset;
};

enum {
  ZEROES = 1,          /* all of the block, or all that is added, is zero */
  SMALL = 2,           /* sizes up to MI_SMALL_SIZE_MAX only */
  COUNTS = 4,          /* multiplies count and size */
  RESIZES = 8,         /* takes p */
  ALIGNS = 16,         /* takes an alignment */
  OFFSETS = 32,        /* takes an offset, too */
  INSISTS = 64,        /* ends the process when there is no memory */
  RETURNS_ERROR = 128, /* does not set errno, does not report a bad alignment */
  FREES = 256,         /* frees p when it fails */
  OF_HEAP = 512,       /* takes a heap */
  OF_PAGES = 1024      /* aligned to system pages */
};

/* The heap that the functions with OF_HEAP are given. */
static mi_heap_t *side_heap;

static void *call_posix_memalign(const struct call *c) {
  void *p = side_heap; /* some value that must stay when it fails */
  const int before = errno;
  const int error = mi_posix_memalign(&p, c->alignment, c->size);
  ck_assert_int_eq(errno, before);
  if (error == 0) return p;
  ck_assert_ptr_eq(p, side_heap);
  errno = error;
  return NULL;
}

static void *call_reallocarr(const struct call *c) {
  void *p = c->p;
  const int error = mi_reallocarr(&p, c->count, c->size);
  if (error == 0) return p;
  ck_assert_int_eq(errno, error);
  ck_assert_ptr_eq(p, c->p);
  return NULL;
}

/* What the functions with a u tell. */
struct told {
  size_t before, after;
};

static void *check_told(void *p, const struct told *told) {
  ck_assert_uint_eq(told->after, mi_usable_size(p));
  return p;
}

static void *call_urealloc(const struct call *c) {
  const size_t usable = mi_usable_size(c->p);
  struct told told = {1, 1};
  void *p = mi_urealloc(c->p, c->size, &told.before, &told.after);
  ck_assert_uint_eq(told.before, usable);
  return check_told(p, &told);
}

#define P c->p
#define N c->count
#define S c->size
#define A c->alignment
#define O c->offset
#define H side_heap
#define TOLD(call) check_told(call, &told)

#define FUNCTIONS(X) \
  X(malloc, 0, mi_malloc(S)) \
  X(calloc, ZEROES | COUNTS, mi_calloc(N, S)) \
  X(zalloc, ZEROES, mi_zalloc(S)) \
  X(mallocn, COUNTS, mi_mallocn(N, S)) \
  X(malloc_small, SMALL, mi_malloc_small(S)) \
  X(zalloc_small, SMALL | ZEROES, mi_zalloc_small(S)) \
  X(umalloc, 0, TOLD(mi_umalloc(S, &told.after))) \
  X(ucalloc, ZEROES | COUNTS, TOLD(mi_ucalloc(N, S, &told.after))) \
  X(umalloc_small, SMALL, TOLD(mi_umalloc_small(S, &told.after))) \
  X(uzalloc_small, SMALL | ZEROES, TOLD(mi_uzalloc_small(S, &told.after))) \
  X(new, INSISTS, mi_new(S)) \
  X(new_n, INSISTS | COUNTS, mi_new_n(N, S)) \
  X(new_nothrow, 0, mi_new_nothrow(S)) \
  X(valloc, OF_PAGES, mi_valloc(S)) \
  X(pvalloc, OF_PAGES, mi_pvalloc(S)) \
  X(heap_malloc, OF_HEAP, mi_heap_malloc(H, S)) \
  X(heap_calloc, OF_HEAP | ZEROES | COUNTS, mi_heap_calloc(H, N, S)) \
  X(heap_zalloc, OF_HEAP | ZEROES, mi_heap_zalloc(H, S)) \
  X(heap_mallocn, OF_HEAP | COUNTS, mi_heap_mallocn(H, N, S)) \
  X(heap_malloc_small, OF_HEAP | SMALL, mi_heap_malloc_small(H, S)) \
  X(heap_zalloc_small, OF_HEAP | SMALL | ZEROES, mi_heap_zalloc_small(H, S)) \
  X(heap_alloc_new, OF_HEAP | INSISTS, mi_heap_alloc_new(H, S)) \
  X(heap_alloc_new_n, OF_HEAP | INSISTS | COUNTS, mi_heap_alloc_new_n(H, N, S)) \
  X(malloc_aligned, ALIGNS, mi_malloc_aligned(S, A)) \
  X(zalloc_aligned, ALIGNS | ZEROES, mi_zalloc_aligned(S, A)) \
  X(calloc_aligned, ALIGNS | ZEROES | COUNTS, mi_calloc_aligned(N, S, A)) \
  X(umalloc_aligned, ALIGNS, TOLD(mi_umalloc_aligned(S, A, &told.after))) \
  X(uzalloc_aligned, ALIGNS | ZEROES, TOLD(mi_uzalloc_aligned(S, A, &told.after))) \
  X(memalign, ALIGNS, mi_memalign(A, S)) \
  X(aligned_alloc, ALIGNS, mi_aligned_alloc(A, S)) \
  X(posix_memalign, ALIGNS | RETURNS_ERROR, call_posix_memalign(c)) \
  X(new_aligned, ALIGNS | INSISTS, mi_new_aligned(S, A)) \
  X(new_aligned_nothrow, ALIGNS, mi_new_aligned_nothrow(S, A)) \
  X(heap_malloc_aligned, OF_HEAP | ALIGNS, mi_heap_malloc_aligned(H, S, A)) \
  X(heap_zalloc_aligned, OF_HEAP | ALIGNS | ZEROES, mi_heap_zalloc_aligned(H, S, A)) \
  X(heap_calloc_aligned, OF_HEAP | ALIGNS | ZEROES | COUNTS, \
    mi_heap_calloc_aligned(H, N, S, A)) \
  X(malloc_aligned_at, OFFSETS, mi_malloc_aligned_at(S, A, O)) \
  X(zalloc_aligned_at, OFFSETS | ZEROES, mi_zalloc_aligned_at(S, A, O)) \
  X(calloc_aligned_at, OFFSETS | ZEROES | COUNTS, mi_calloc_aligned_at(N, S, A, O)) \
  X(heap_malloc_aligned_at, OF_HEAP | OFFSETS, mi_heap_malloc_aligned_at(H, S, A, O)) \
  X(heap_zalloc_aligned_at, OF_HEAP | OFFSETS | ZEROES, \
    mi_heap_zalloc_aligned_at(H, S, A, O)) \
  X(heap_calloc_aligned_at, OF_HEAP | OFFSETS | ZEROES | COUNTS, \
    mi_heap_calloc_aligned_at(H, N, S, A, O)) \
  X(realloc, RESIZES, mi_realloc(P, S)) \
  X(reallocn, RESIZES | COUNTS, mi_reallocn(P, N, S)) \
  X(reallocf, RESIZES | FREES, mi_reallocf(P, S)) \
  X(reallocarray, RESIZES | COUNTS, mi_reallocarray(P, N, S)) \
  X(reallocarr, RESIZES | COUNTS, call_reallocarr(c)) \
  X(urealloc, RESIZES, call_urealloc(c)) \
  X(rezalloc, RESIZES | ZEROES, mi_rezalloc(P, S)) \
  X(recalloc, RESIZES | ZEROES | COUNTS, mi_recalloc(P, N, S)) \
  X(new_realloc, RESIZES | INSISTS, mi_new_realloc(P, S)) \
  X(new_reallocn, RESIZES | INSISTS | COUNTS, mi_new_reallocn(P, N, S)) \
  X(heap_realloc, OF_HEAP | RESIZES, mi_heap_realloc(H, P, S)) \
  X(heap_reallocn, OF_HEAP | RESIZES | COUNTS, mi_heap_reallocn(H, P, N, S)) \
  X(heap_reallocf, OF_HEAP | RESIZES | FREES, mi_heap_reallocf(H, P, S)) \
  X(heap_rezalloc, OF_HEAP | RESIZES | ZEROES, mi_heap_rezalloc(H, P, S)) \
  X(heap_recalloc, OF_HEAP | RESIZES | ZEROES | COUNTS, mi_heap_recalloc(H, P, N, S)) \
  X(realloc_aligned, RESIZES | ALIGNS, mi_realloc_aligned(P, S, A)) \
  X(rezalloc_aligned, RESIZES | ALIGNS | ZEROES, mi_rezalloc_aligned(P, S, A)) \
  X(recalloc_aligned, RESIZES | ALIGNS | ZEROES | COUNTS, \
    mi_recalloc_aligned(P, N, S, A)) \
  X(aligned_recalloc, RESIZES | ALIGNS | ZEROES | COUNTS, \
    mi_aligned_recalloc(P, N, S, A)) \
  X(heap_realloc_aligned, OF_HEAP | RESIZES | ALIGNS, \
    mi_heap_realloc_aligned(H, P, S, A)) \
  X(heap_rezalloc_aligned, OF_HEAP | RESIZES | ALIGNS | ZEROES, \
    mi_heap_rezalloc_aligned(H, P, S, A)) \
  X(heap_recalloc_aligned, OF_HEAP | RESIZES | ALIGNS | ZEROES | COUNTS, \
    mi_heap_recalloc_aligned(H, P, N, S, A)) \
  X(realloc_aligned_at, RESIZES | OFFSETS, mi_realloc_aligned_at(P, S, A, O)) \
  X(rezalloc_aligned_at, RESIZES | OFFSETS | ZEROES, mi_rezalloc_aligned_at(P, S, A, O)) \
  X(recalloc_aligned_at, RESIZES | OFFSETS | ZEROES | COUNTS, \
    mi_recalloc_aligned_at(P, N, S, A, O)) \
  X(aligned_offset_recalloc, RESIZES | OFFSETS | ZEROES | COUNTS, \
    mi_aligned_offset_recalloc(P, N, S, A, O)) \
  X(heap_realloc_aligned_at, OF_HEAP | RESIZES | OFFSETS, \
    mi_heap_realloc_aligned_at(H, P, S, A, O)) \
  X(heap_rezalloc_aligned_at, OF_HEAP | RESIZES | OFFSETS | ZEROES, \
    mi_heap_rezalloc_aligned_at(H, P, S, A, O)) \
  X(heap_recalloc_aligned_at, OF_HEAP | RESIZES | OFFSETS | ZEROES | COUNTS, \
    mi_heap_recalloc_aligned_at(H, P, N, S, A, O))

/* With the prefix in place, none of the names below is one of the C library's macros. */
#define DEFINE_FUNCTION(name, flags, expression) \
  static void *of_##name(const struct call *c) { \
    struct told told = {1, 1}; \
    (void)c, (void)told; \
    return expression; \
  }
FUNCTIONS(DEFINE_FUNCTION)

#define LIST_FUNCTION(name, flags, expression) {"mi_" #name, of_##name, flags},
static const struct function {
  const char *name;
  void *(*call)(const struct call *);
  unsigned flags;
} functions[] = {FUNCTIONS(LIST_FUNCTION)};

#undef P
#undef N
#undef S
#undef A
#undef O
#undef H
#undef TOLD

static bool takes_alignment(const struct function *f) {
  return (f->flags & (ALIGNS | OFFSETS)) != 0;
}

/* Call with a size, at the least alignment and no offset. */
static void *call_size(const struct function *f, void *p, size_t size) {
  const struct call call = {p, 1, size, 16, 0};
  return f->call(&call);
}

/* Name the function and the size where a check fails in the middle of a table. */
#define assert_for(f, n, condition) \
  ck_assert_msg(condition, "%s, %zu: " #condition, (f)->name, (size_t)(n))

/* A test that runs for each function of the table: START_TEST with a parameter f. */
#define TEST_OF_EACH(name) \
  static void name##_of(const struct function *f); \
  START_TEST(name) { \
    for (size_t i = 0; i < COUNT_OF(functions); i++) name##_of(&functions[i]); \
  } \
  END_TEST \
  static void name##_of(const struct function *f)

/* ---- memory ---- */

/* bytes_are, a word at a time, for blocks of any size. */
static bool filled_with(const void *p, size_t size, unsigned char value) {
  const unsigned char *bytes = p;
  const uint64_t words_value = value * (uint64_t)0x0101010101010101u;
  size_t i = 0;
  for (; i + sizeof words_value <= size; i += sizeof words_value) {
    uint64_t word;
    memcpy(&word, bytes + i, sizeof word);
    if (word != words_value) return false;
  }
  return bytes_are(bytes + i, size - i, value);
}

/* A pattern in which no two words are the same. */
static uint64_t pattern_word(size_t i) { return (i / 8 + 1) * 0x9e3779b97f4a7c15u; }

static void pattern_write(void *p, size_t size) {
  unsigned char *bytes = p;
  for (size_t i = 0; i < size; i += 8) {
    const uint64_t word = pattern_word(i);
    memcpy(bytes + i, &word, size - i < 8 ? size - i : 8);
  }
}

static bool pattern_is(const void *p, size_t size) {
  const unsigned char *bytes = p;
  for (size_t i = 0; i < size; i += 8) {
    const uint64_t word = pattern_word(i);
    if (memcmp(bytes + i, &word, size - i < 8 ? size - i : 8) != 0) return false;
  }
  return true;
}

static bool is_aligned(const void *p, size_t alignment) {
  return ((uintptr_t)p & (alignment - 1)) == 0;
}

static size_t largest_power_in(size_t n) { return n & (0 - n); }

static bool overlap(const void *p, const void *q) {
  const uintptr_t a = (uintptr_t)p, b = (uintptr_t)q;
  return a < b + mi_usable_size(q) && b < a + mi_usable_size(p);
}

/* Free by each of the functions that may free such a block, in turn. */
static void free_somehow(void *p, size_t size, size_t alignment) {
  static unsigned turn;
  const size_t usable = mi_usable_size(p);
  size_t told = 1;
  switch (turn++ % 7) {
    case 0: mi_free(p); break;
    case 1: mi_free_size(p, size); break;
    case 2: mi_free_aligned(p, alignment); break;
    case 3: mi_free_size_aligned(p, size, alignment); break;
    case 4: mi_cfree(p); break;
    case 5:
      mi_ufree(p, &told);
      ck_assert_uint_eq(told, usable);
      break;
    case 6:
      if (size <= MI_SMALL_SIZE_MAX) {
        mi_free_small(p);
      } else {
        mi_ufree(p, NULL);
      }
      break;
  }
}

/* Allocate from pages in which no pointer into the middle of a block was ever handed out:
 * only there is such a pointer an error for sure. */
static void clean_pages_begin(void) { mi_heap_set_default(mi_heap_new()); }

static void clean_pages_end(void) {
  mi_heap_t *heap = mi_heap_set_default(mi_heap_get_backing());
  mi_heap_destroy(heap);
}

/* Pages in use when the calling thread holds none that it does not need. */
static int64_t pages_settled(void) {
  mi_collect(true);
  return pages_now();
}

/* ---- each size ---- */

/* The sizes on both sides of each change of block size. */
struct edges {
  size_t good; /* of the block size we are at */
  int side;    /* -1, 0, 1 */
};

static size_t edges_next(struct edges *edges) {
  if (edges->side == 1) {
    edges->good = mi_good_size(edges->good + 1);
    edges->side = -1;
  } else {
    edges->side++;
  }
  return edges->good + (size_t)edges->side;
}

static struct edges edges_begin(void) { return (struct edges){mi_good_size(0), -1}; }

static void check_size(const struct function *f, size_t size) {
  if ((f->flags & SMALL) != 0 && size > MI_SMALL_SIZE_MAX) return;
  mi_heap_t *heap = (f->flags & OF_HEAP) != 0 ? side_heap : mi_heap_get_default();
  unsigned char *pair[2];
  for (int i = 0; i < 2; i++) {
    unsigned char *p = pair[i] = call_size(f, NULL, size);
    assert_for(f, size, p != NULL);
    const size_t usable = mi_usable_size(p);
    assert_for(f, size, usable >= size && usable > 0);
    assert_for(f, size,
               mi_malloc_size(p) == usable && mi_malloc_usable_size(p) == usable);
    assert_for(f, size, is_aligned(p, 16));
    assert_for(f, size, (f->flags & OF_PAGES) == 0 || is_aligned(p, SYSTEM_PAGE));
    assert_for(f, size, mi_heap_of(p) == heap && mi_heap_contains_block(heap, p));
    assert_for(f, size, (f->flags & ZEROES) == 0 || filled_with(p, usable, 0));
    if ((f->flags & OF_PAGES) == 0) {
      const size_t good = mi_good_size(size), slice = mi_arena_min_alignment();
      assert_for(f, size, usable == good && mi_malloc_good_size(size) == good);
      /* The block size tells the alignment, up to that of pages. */
      const size_t power = largest_power_in(good);
      assert_for(f, size, is_aligned(p, power < slice ? power : slice));
    }
    memset(p, 0x11 * (i + 1), usable);
  }
  assert_for(f, size, !overlap(pair[0], pair[1]));
  for (int i = 0; i < 2; i++) {
    const size_t usable = mi_usable_size(pair[i]);
    assert_for(f, size, filled_with(pair[i], usable, (unsigned char)(0x11 * (i + 1))));
    free_somehow(pair[i], size, 16);
  }
}

TEST_OF_EACH(sizes_of_each_function) {
  struct edges edges = edges_begin();
  const size_t last = TEST_HAS_SHADOW ? 20 * KiB : 256 * KiB;
  for (size_t size = edges_next(&edges); size <= last; size = edges_next(&edges)) {
    check_size(f, size);
  }
  check_size(f, 0);
  check_size(f, TEST_HAS_SHADOW ? 300000 : 5 * MiB);
  assert_no_errors();
}

START_TEST(sizes_to_many_mebibytes) {
  struct edges edges = edges_begin();
  const struct function *f = &functions[0];
  for (size_t size = edges_next(&edges); size <= 3 * MiB; size = edges_next(&edges)) {
    check_size(f, size);
  }
  for (size_t size = 4 * MiB; size <= 256 * MiB; size *= 2) {
    char *p = mi_malloc(size), *q = mi_malloc(size + 1);
    ck_assert(p != NULL && q != NULL && !overlap(p, q));
    ck_assert_uint_ge(mi_usable_size(p), size);
    ck_assert_uint_ge(mi_usable_size(q), size + 1);
    p[0] = p[size - 1] = q[0] = q[size] = 1;
    mi_free(p);
    mi_free(q);
  }
  assert_no_errors();
}
END_TEST

START_TEST(good_size_is_the_block_size) {
  /* Never smaller, never falling, and a good size is good for itself. */
  size_t before = 0;
  for (size_t size = 0; size <= 300000; size += size < 5000 ? 1 : 97) {
    const size_t good = mi_good_size(size);
    ck_assert_uint_ge(good, size);
    ck_assert_uint_ge(good, before);
    ck_assert_uint_eq(mi_good_size(good), good);
    before = good;
  }
  ck_assert_uint_gt(mi_good_size(0), 0);
  /* No block can be as large as this. */
  ck_assert_uint_eq(mi_good_size(SIZE_MAX), SIZE_MAX);
  ck_assert_uint_eq(mi_malloc_good_size((size_t)PTRDIFF_MAX + 1),
                    (size_t)PTRDIFF_MAX + 1);
}
END_TEST

TEST_OF_EACH(zero_bytes_give_a_block_each) {
  void *blocks[100];
  for (size_t i = 0; i < COUNT_OF(blocks); i++) {
    /* With either factor 0, where there are two. */
    const struct call call = {NULL, i % 2, (f->flags & COUNTS) != 0 ? 1 - i % 2 : 0, 16,
                              0};
    blocks[i] = f->call(&call);
    assert_for(f, i, blocks[i] != NULL && mi_usable_size(blocks[i]) > 0);
    for (size_t j = 0; j < i; j++) assert_for(f, i, !overlap(blocks[i], blocks[j]));
  }
  for (size_t i = 0; i < COUNT_OF(blocks); i++) mi_free(blocks[i]);
  assert_no_errors();
}

TEST_OF_EACH(count_times_size) {
  if ((f->flags & COUNTS) == 0) return;
  static const size_t factors[][2] = {{1, 100}, {100, 1}, {7, 13}, {1000, 1001}, {3, 0}};
  for (size_t i = 0; i < COUNT_OF(factors); i++) {
    const struct call call = {NULL, factors[i][0], factors[i][1], 16, 0};
    const size_t total = call.count * call.size;
    void *p = f->call(&call);
    assert_for(f, total, p != NULL);
    ck_assert_uint_eq(mi_usable_size(p), mi_good_size(total));
    mi_free(p);
  }
  assert_no_errors();
}

/* ---- when it cannot be had ---- */

/* A failed call has left errno, one report of the same error, and what is at p alone. */
static void check_failure(const struct function *f, size_t n, void *p, size_t live,
                          int error) {
  assert_for(f, n, errno == error);
  assert_for(f, n, errors_of(error) == 1 && errors_total() == 1);
  errors_clear();
  if (p == NULL) return;
  if ((f->flags & FREES) != 0) {
    assert_for(f, n, mi_heap_of(p) == NULL || !mi_heap_contains_block(mi_heap_of(p), p));
    return;
  }
  assert_for(f, n, pattern_is(p, live));
  mi_free(p);
  assert_no_errors();
}

static void check_no_memory(const struct function *f, size_t count, size_t size) {
  const size_t sizes[] = {0, 100, 40000};
  for (size_t i = 0; i < ((f->flags & RESIZES) != 0 ? COUNT_OF(sizes) : 1); i++) {
    struct call call = {NULL, count, size, 64, 8};
    if (sizes[i] != 0) {
      call.p = call_size(f, NULL, sizes[i]);
      pattern_write(call.p, sizes[i]);
    }
    errno = 0;
    assert_for(f, size, f->call(&call) == NULL);
    check_failure(f, size, call.p, sizes[i], ENOMEM);
  }
}

/* Volatile, or compilers warn of them. The last is more than the address space of a
 * process. */
static const volatile size_t impossible_sizes[] = {
    SIZE_MAX,    SIZE_MAX - 15,   (size_t)PTRDIFF_MAX + 1,
    PTRDIFF_MAX, (size_t)1 << 62, (size_t)1 << 47};

static const volatile size_t no_alignment = 24;
static const volatile size_t far_alignments[] = {(size_t)1 << 62, (size_t)1 << 63};

TEST_OF_EACH(impossible_size) {
  if ((f->flags & (INSISTS | SMALL)) != 0) return;
  for (size_t i = 0; i < COUNT_OF(impossible_sizes); i++) {
    check_no_memory(f, 1, impossible_sizes[i]);
  }
}

TEST_OF_EACH(count_times_size_overflows) {
  if ((f->flags & COUNTS) == 0 || (f->flags & INSISTS) != 0) return;
  static const size_t factors[][2] = {{SIZE_MAX, 2},
                                      {2, SIZE_MAX},
                                      {SIZE_MAX, SIZE_MAX},
                                      {(size_t)1 << 32, (size_t)1 << 32},
                                      {SIZE_MAX / 8 + 2, 8}}; /* the product would be 8 */
  for (size_t i = 0; i < COUNT_OF(factors); i++) {
    check_no_memory(f, factors[i][0], factors[i][1]);
  }
}

/* What throws; there when the C++ library is, which some sanitizers bring with them. */
extern void _ZSt17__throw_bad_allocv(void) __attribute__((weak));

/* Where there is no C++ library, there is nothing to throw: NULL, as from the others. */
TEST_OF_EACH(new_without_cxx) {
  if ((f->flags & INSISTS) == 0 || _ZSt17__throw_bad_allocv != NULL) return;
  check_no_memory(f, 1, impossible_sizes[3]);
  if ((f->flags & COUNTS) != 0) check_no_memory(f, impossible_sizes[0], 16);
}

START_TEST(sizes_told_on_failure) {
  size_t before = 7, after = 7;
  ck_assert_ptr_null(mi_umalloc(impossible_sizes[3], &after));
  ck_assert_uint_eq(after, 0);
  after = 7;
  ck_assert_ptr_null(mi_ucalloc(impossible_sizes[3], 5, &after));
  ck_assert_uint_eq(after, 0);
  void *p = mi_malloc(50);
  after = 7;
  ck_assert_ptr_null(mi_urealloc(p, impossible_sizes[0], &before, &after));
  ck_assert_uint_eq(before, mi_usable_size(p));
  ck_assert_uint_eq(after, 0);
  ck_assert_ptr_null(mi_urealloc(p, impossible_sizes[0], NULL, NULL));
  after = 7;
  ck_assert_ptr_null(mi_umalloc_aligned(8, no_alignment, &after));
  ck_assert_uint_eq(after, 0);
  ck_assert_uint_eq(errors_of(ENOMEM), 4);
  ck_assert_uint_eq(errors_of(EINVAL), 1);
  errors_clear();
  mi_ufree(p, &after);
  ck_assert_uint_gt(after, 0);
  mi_ufree(p, &after); /* nothing is freed */
  ck_assert_uint_eq(after, 0);
  assert_errors(EFAULT, 1);
  mi_ufree(NULL, &after);
  ck_assert_uint_eq(after, 0);
  /* Nobody has to want to know. */
  p = mi_umalloc(10, NULL);
  p = mi_urealloc(p, 1000, NULL, NULL);
  mi_ufree(p, NULL);
  assert_no_errors();
}
END_TEST

START_TEST(memory_after_failure) {
  /* Running out is no lasting condition. */
  const int64_t before = pages_settled();
  for (size_t i = 0; i < 50; i++) {
    ck_assert_ptr_null(mi_malloc(impossible_sizes[i % COUNT_OF(impossible_sizes)]));
    void *p = mi_malloc(i * 1000);
    ck_assert_ptr_nonnull(p);
    mi_free(p);
  }
  assert_errors(ENOMEM, 50);
  ck_assert_int_eq(pages_settled(), before);
}
END_TEST

/* ---- alignment ---- */

static void check_aligned(const struct function *f, size_t size, size_t alignment,
                          size_t offset) {
  const struct call call = {NULL, 1, size, alignment, offset};
  char *p = f->call(&call);
  assert_for(f, alignment, p != NULL);
  assert_for(f, alignment, is_aligned(p + offset, alignment));
  const size_t usable = mi_usable_size(p);
  assert_for(f, alignment, usable >= size);
  const size_t most = TEST_HAS_SHADOW ? 2 * KiB : 100 * KiB;
  const size_t looked = usable < most ? usable : most;
  if ((f->flags & ZEROES) != 0) {
    assert_for(f, alignment, filled_with(p, looked, 0));
    assert_for(f, alignment, filled_with(p + usable - looked, looked, 0));
  }
  char *q = f->call(&call);
  assert_for(f, alignment, q != NULL && is_aligned(q + offset, alignment));
  assert_for(f, alignment, !overlap(p, q));
  memset(p, 0x33, looked);
  memset(p + usable - looked, 0x33, looked);
  free_somehow(q, size, alignment);
  assert_for(f, alignment, filled_with(p, looked, 0x33));
  free_somehow(p, size, alignment);
}

TEST_OF_EACH(alignments) {
  if (!takes_alignment(f)) return;
  const size_t first = (f->flags & RETURNS_ERROR) != 0 ? sizeof(void *) : 1;
  for (size_t alignment = first; alignment <= 4 * MiB; alignment *= 2) {
    const size_t sizes[] = {
        0, 1, alignment - 1, alignment, alignment + 1, 3 * alignment / 2};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) check_aligned(f, sizes[i], alignment, 0);
  }
  assert_no_errors();
}

START_TEST(alignments_far_beyond_the_size) {
  static const size_t alignments[] = {64 * MiB, GiB, 8 * GiB};
  const int64_t before = pages_settled();
  for (size_t i = 0; i < COUNT_OF(alignments); i++) {
    void *p = mi_malloc_aligned(1, alignments[i]);
    void *q = mi_zalloc_aligned(100, alignments[i]);
    ck_assert(p != NULL && q != NULL && p != q);
    ck_assert(is_aligned(p, alignments[i]) && is_aligned(q, alignments[i]));
    ck_assert(bytes_are(q, 100, 0));
    mi_free(p);
    mi_free(q);
  }
  /* A power of two, but there is no such address. */
  errno = 0;
  ck_assert_ptr_null(mi_malloc_aligned(1, far_alignments[0]));
  ck_assert_int_eq(errno, ENOMEM);
  ck_assert_ptr_null(mi_malloc_aligned(1, far_alignments[1]));
  ck_assert_ptr_null(mi_malloc_aligned_at(100, far_alignments[0], 8));
  ck_assert_ptr_null(mi_malloc_aligned_at(100, far_alignments[1], 8));
  assert_errors(ENOMEM, 4);
  ck_assert_int_eq(pages_settled(), before);
}
END_TEST

TEST_OF_EACH(alignment_that_is_none) {
  static const size_t alignments[] = {0,    3,     5,     24,          48,
                                      1000, 65535, 65537, PTRDIFF_MAX, SIZE_MAX};
  if (!takes_alignment(f)) return;
  for (size_t i = 0; i < COUNT_OF(alignments); i++) {
    struct call call = {NULL, 1, 100, alignments[i], 0};
    if ((f->flags & RESIZES) != 0 && i % 2 == 0) {
      call.p = call_size(f, NULL, 100);
      pattern_write(call.p, 100);
    }
    errno = 0;
    assert_for(f, alignments[i], f->call(&call) == NULL);
    if ((f->flags & RETURNS_ERROR) != 0) {
      ck_assert_int_eq(errno, EINVAL);
      errors_clear(); /* whether it is reported, too, POSIX does not say */
    } else {
      check_failure(f, alignments[i], call.p, 100, EINVAL);
    }
  }
}

START_TEST(posix_memalign_returns_its_errors) {
  void *p = &p;
  static const size_t alignments[] = {0, 1, 2, 4, 12, 24, 100};
  for (size_t i = 0; i < COUNT_OF(alignments); i++) {
    errno = 77;
    ck_assert_int_eq(mi_posix_memalign(&p, alignments[i], 10), EINVAL);
    ck_assert_int_eq(errno, 77);
    ck_assert_ptr_eq(p, &p);
  }
  ck_assert_int_eq(mi_posix_memalign(NULL, 64, 10), EINVAL);
  ck_assert_int_eq(mi_posix_memalign(&p, 64, impossible_sizes[2]), ENOMEM);
  ck_assert_int_eq(errno, 77);
  ck_assert_ptr_eq(p, &p);
  void *q = NULL;
  ck_assert_int_eq(mi_posix_memalign(&p, 64, 0), 0);
  ck_assert_int_eq(mi_posix_memalign(&q, 64, 0), 0);
  ck_assert(p != NULL && q != NULL && p != q);
  mi_free(p);
  mi_free(q);
}
END_TEST

TEST_OF_EACH(offsets) {
  if ((f->flags & OFFSETS) == 0) return;
  static const size_t sizes[] = {1, 40, 1000, 5000, 70000, 300000};
  for (size_t alignment = 1; alignment <= 256 * KiB; alignment *= 4) {
    const size_t offsets[] = {
        0, 1, 7, 8, 16, alignment / 2, alignment - 1, alignment, alignment + 8};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
      for (size_t j = 0; j < COUNT_OF(offsets); j++) {
        if (offsets[j] <= sizes[i]) check_aligned(f, sizes[i], alignment, offsets[j]);
      }
      check_aligned(f, sizes[i], alignment, sizes[i]);
    }
  }
  assert_no_errors();
}

/* The memory of a large block goes with it: there the address is just unknown. */
static void check_reported_double_free(void *p, size_t size) {
  errno = 0;
  mi_free(p);
  const int error = errno;
  ck_assert(error == EFAULT || (size > 128 * KiB && error == EINVAL));
  assert_errors(error, 1);
}

static void *free_all(void *argument) {
  void **blocks = argument;
  for (; *blocks != NULL; blocks++) mi_free(*blocks);
  return NULL;
}

START_TEST(interior_pointers) {
  /* What the _at functions return may lie inside a block, and is a block all the same. */
  static const size_t sizes[] = {8, 100, 1000, 3000, 40000, 400000};
  const int64_t before = pages_settled();
  void *blocks[COUNT_OF(sizes) + 1] = {0};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    const size_t size = sizes[i];
    char *p = mi_malloc_aligned_at(size, 64, 8);
    ck_assert(is_aligned(p + 8, 64));
    ck_assert(mi_check_owned(p) && mi_check_owned(p + size - 1));
    pattern_write(p, size);
    char *q = mi_realloc(p, 3 * size);
    ck_assert(pattern_is(q, size));
    p = mi_realloc_aligned_at(q, 2 * size, 256, 40);
    ck_assert(is_aligned(p + 40, 256) && pattern_is(p, size));
    ck_assert_ptr_eq(mi_expand(p, mi_usable_size(p)), p);
    ck_assert_ptr_null(mi_expand(p, mi_usable_size(p) + 1));
    mi_free(p);
    assert_no_errors();
    blocks[i] = mi_zalloc_aligned_at(size, 128, 24); /* keeps the page of the next one */
    char *twice = mi_malloc_aligned_at(size, 128, 24);
    mi_free(twice);
    check_reported_double_free(twice, size);
  }
  thread_run(free_all, blocks);
  assert_no_errors();
  ck_assert_int_eq(pages_settled(), before);
}
END_TEST

/* ---- zeroes ---- */

TEST_OF_EACH(zeroed_on_fresh_and_on_dirty_memory) {
  if ((f->flags & ZEROES) == 0) return;
  static const size_t sizes[] = {1,    8,    24,   100,   500,   1000,
                                 1024, 1025, 5000, 40000, 200000};
  mi_heap_t *heap = (f->flags & OF_HEAP) != 0 ? side_heap : mi_heap_get_default();
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    const size_t size = sizes[i];
    if ((f->flags & SMALL) != 0 && size > MI_SMALL_SIZE_MAX) continue;
    void *blocks[100];
    const size_t count = size < 10000 ? COUNT_OF(blocks) : 10;
    for (size_t round = 0; round < 3; round++) {
      /* More each time, so that the later ones come from memory that is still fresh. */
      const size_t used = round == 0 ? count / 4 : count;
      for (size_t j = 0; j < used; j++) {
        const struct call call = {NULL, 1, size, 32, 8};
        blocks[j] = f->call(&call);
        assert_for(f, size, filled_with(blocks[j], mi_usable_size(blocks[j]), 0));
        memset(blocks[j], 0xdb, mi_usable_size(blocks[j]));
      }
      for (size_t j = 0; j < used; j++) mi_free(blocks[j]);
      if (round == 1) { /* dirt by a function that does not clean */
        for (size_t j = 0; j < used; j++) {
          blocks[j] = mi_heap_malloc(heap, size);
          memset(blocks[j], 0xbd, mi_usable_size(blocks[j]));
        }
        for (size_t j = used; j > 0; j--) mi_free(blocks[j - 1]);
      }
    }
  }
  assert_no_errors();
}

START_TEST(zeroed_memory_that_others_dirtied) {
  /* Freed by another thread, or left by one that ended, memory is still dirty. */
  static const size_t sizes[] = {32, 1000, 30000, 500000};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    for (size_t round = 0; round < 4; round++) {
      void *blocks[21] = {0};
      for (size_t j = 0; j < 20; j++) {
        blocks[j] = mi_zalloc(sizes[i]);
        ck_assert(filled_with(blocks[j], mi_usable_size(blocks[j]), 0));
        memset(blocks[j], 0xdb, mi_usable_size(blocks[j]));
      }
      thread_run(free_all, blocks);
    }
  }
  assert_no_errors();
}
END_TEST

/* ---- resizing ---- */

static const size_t resize_sizes[] = {0,     1,      15,     16,     17,     100,
                                      1000,  1024,   1025,   4096,   10000,  65536,
                                      65537, 131072, 131073, 300000, 1048576};

static void check_resize(const struct function *f, size_t from, size_t to) {
  const struct call first = {NULL, 1, from, 64, 24};
  struct call then = {f->call(&first), 1, to, 64, 24};
  assert_for(f, from, then.p != NULL);
  pattern_write(then.p, from);
  unsigned char *p = f->call(&then);
  assert_for(f, to, p != NULL && mi_usable_size(p) >= to);
  const size_t kept = from < to ? from : to;
  assert_for(f, to, pattern_is(p, kept));
  if ((f->flags & ZEROES) != 0) assert_for(f, to, filled_with(p + kept, to - kept, 0));
  if ((f->flags & OFFSETS) != 0) assert_for(f, to, is_aligned(p + 24, 64));
  if ((f->flags & ALIGNS) != 0) assert_for(f, to, is_aligned(p, 64));
  memset(p, 0x77, to);
  mi_free(p);
}

TEST_OF_EACH(resizing_keeps_contents) {
  if ((f->flags & RESIZES) == 0) return;
  /* Without the largest where each access costs more. */
  const size_t count = COUNT_OF(resize_sizes) - (TEST_HAS_SHADOW ? 2 : 0);
  for (size_t i = 0; i < count; i++) {
    for (size_t j = 0; j < count; j++) {
      check_resize(f, resize_sizes[i], resize_sizes[j]);
    }
  }
  assert_no_errors();
}

TEST_OF_EACH(resizing_step_by_step) {
  if ((f->flags & RESIZES) == 0) return;
  struct call call = {NULL, 1, 0, 32, 8};
  unsigned char *p = NULL;
  for (size_t size = 0; size < 3000; size += 37) {
    call.p = p;
    call.size = size;
    p = f->call(&call);
    assert_for(f, size, pattern_is(p, size < 37 ? 0 : size - 37));
    pattern_write(p, size);
  }
  for (size_t size = 2990; size >= 13; size -= 13) {
    call.p = p;
    call.size = size;
    p = f->call(&call);
    assert_for(f, size, pattern_is(p, size));
  }
  /* A block that has shrunk gives its memory back: it does not stay as large as it
   * was. */
  assert_for(f, 13, mi_usable_size(p) < 1000);
  mi_free(p);
  assert_no_errors();
}

TEST_OF_EACH(resizing_to_nothing_does_not_free) {
  if ((f->flags & RESIZES) == 0) return;
  static const size_t sizes[] = {0, 1, 100, 100000};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    void *p = call_size(f, call_size(f, NULL, sizes[i]), 0);
    assert_for(f, 0, p != NULL && mi_usable_size(p) > 0);
    void *q = mi_malloc(0);
    assert_for(f, 0, !overlap(p, q));
    mi_free(q);
    mi_free(p);
  }
  assert_no_errors();
}

TEST_OF_EACH(what_is_added_is_zero_after_shrinking) {
  if ((f->flags & RESIZES) == 0 || (f->flags & ZEROES) == 0) return;
  static const size_t sizes[] = {1000, 600,  1000,   990,    1020,   16, 24, 4000,
                                 3000, 3100, 200000, 150000, 200000, 10, 16};
  struct call call = {NULL, 1, 0, 32, 8};
  unsigned char *p = NULL;
  size_t before = 0;
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    call.p = p;
    call.size = sizes[i];
    p = f->call(&call);
    const size_t kept = before < sizes[i] ? before : sizes[i];
    assert_for(f, sizes[i], filled_with(p, kept, 0xee));
    assert_for(f, sizes[i], filled_with(p + kept, sizes[i] - kept, 0));
    memset(p, 0xee, sizes[i]);
    before = sizes[i];
  }
  mi_free(p);
  assert_no_errors();
}

TEST_OF_EACH(resizing_changes_the_alignment) {
  if ((f->flags & RESIZES) == 0 || !takes_alignment(f)) return;
  const bool has_offset = (f->flags & OFFSETS) != 0;
  struct call call = {NULL, 1, 500, 16, 0};
  struct dice dice = dice_new((uint64_t)(f - functions));
  for (size_t i = 0; i < 200; i++) {
    call.alignment = (size_t)1 << dice_roll(&dice, 18);
    call.offset = has_offset ? dice_roll(&dice, 300) : 0;
    unsigned char *p = f->call(&call);
    assert_for(f, call.alignment, is_aligned(p + call.offset, call.alignment));
    if (call.p != NULL) assert_for(f, call.alignment, pattern_is(p, 500));
    pattern_write(p, 500);
    call.p = p;
  }
  mi_free(call.p);
  assert_no_errors();
}

TEST_OF_EACH(resizing_moves_into_the_heap_named) {
  if ((f->flags & RESIZES) == 0) return;
  mi_heap_t *other = (f->flags & OF_HEAP) != 0 ? mi_heap_get_default() : side_heap;
  mi_heap_t *own = (f->flags & OF_HEAP) != 0 ? side_heap : mi_heap_get_default();
  void *p = mi_heap_zalloc(other, 100);
  pattern_write(p, 100);
  p = call_size(f, p, 10000); /* has to move */
  assert_for(f, 10000, mi_heap_of(p) == own && pattern_is(p, 100));
  mi_free(p);
  assert_no_errors();
}

TEST_OF_EACH(resizing_what_is_no_live_block) {
  if ((f->flags & RESIZES) == 0 || (f->flags & INSISTS) != 0) return;
  /* One that fails and frees reports the free as well. */
  const size_t reports = (f->flags & FREES) != 0 ? 2 : 1;
  static const size_t sizes[] = {50, 100, 5000}; /* stays, stays, would move */
  clean_pages_begin();
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    char *p = call_size(f, NULL, 100), *neighbor = call_size(f, NULL, 100);
    pattern_write(neighbor, 100);
    errno = 0;
    assert_for(f, sizes[i], call_size(f, neighbor + 1, sizes[i]) == NULL);
    assert_for(f, sizes[i], errno == EINVAL && errors_of(EINVAL) == reports);
    errors_clear();
    mi_free(p);
    assert_no_errors();
    errno = 0;
    assert_for(f, sizes[i], call_size(f, p, sizes[i]) == NULL);
    assert_for(f, sizes[i], errno == EFAULT && errors_of(EFAULT) == reports);
    errors_clear();
    char local[64] = {0};
    errno = 0;
    assert_for(f, sizes[i], call_size(f, local, sizes[i]) == NULL);
    assert_for(f, sizes[i], errno == EINVAL && errors_of(EINVAL) == reports);
    errors_clear();
    assert_for(f, sizes[i], pattern_is(neighbor, 100));
    mi_free(neighbor);
    assert_no_errors();
  }
  clean_pages_end();
}

START_TEST(resizing_guarded_blocks) {
  mi_heap_guarded_set_sample_rate(side_heap, 1, 1);
  static const size_t sizes[] = {0, 1, 16, 100, 5000, 100000};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    for (size_t j = 0; j < COUNT_OF(sizes); j++) {
      void *p = mi_heap_malloc(side_heap, sizes[i]);
      ck_assert_msg(p != NULL && mi_usable_size(p) >= sizes[i] && mi_usable_size(p) > 0,
                    "size %zu: %p, usable %zu", sizes[i], p, mi_usable_size(p));
      pattern_write(p, sizes[i]);
      p = mi_heap_realloc(side_heap, p, sizes[j]);
      ck_assert_ptr_nonnull(p);
      ck_assert(pattern_is(p, sizes[i] < sizes[j] ? sizes[i] : sizes[j]));
      mi_free(p);
    }
  }
  assert_no_errors();
}
END_TEST

START_TEST(expand_stays_in_place) {
  static const size_t sizes[] = {0, 1, 100, 1000, 5000, 200000};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    char *p = mi_malloc(sizes[i]);
    const size_t usable = mi_usable_size(p);
    pattern_write(p, usable);
    errno = 77;
    ck_assert_ptr_eq(mi_expand(p, 0), p);
    ck_assert_ptr_eq(mi_expand(p, usable), p);
    ck_assert_ptr_null(mi_expand(p, usable + 1));
    ck_assert_ptr_null(mi_expand(p, impossible_sizes[0]));
    ck_assert_ptr_null(mi_expand(NULL, 0));
    ck_assert_ptr_eq(mi__expand(p, usable), p);
    ck_assert_int_eq(errno, 77);
    ck_assert_ptr_null(mi__expand(p, usable + 1));
    ck_assert_int_eq(errno, ENOMEM);
    errno = 0;
    ck_assert_ptr_null(mi__expand(NULL, 1));
    ck_assert_int_eq(errno, ENOMEM);
    ck_assert(pattern_is(p, usable));
    mi_free(p);
  }
  assert_no_errors();
}
END_TEST

/* ---- strings ---- */

/* A copy at the end of its own block of the C library, for the tools that watch it. */
static char *unterminated(const char *s) {
  char *copy = malloc(strlen(s));
  ck_assert_ptr_nonnull(copy);
  return memcpy(copy, s, strlen(s));
}

START_TEST(strings_are_copied) {
  static const char *const texts[] = {"", "a", "fifteen letters", "sixteen letters!",
                                      "a text that is longer than the smallest block"};
  for (size_t i = 0; i < COUNT_OF(texts); i++) {
    const char *text = texts[i];
    char *copies[] = {mi_strdup(text), mi_heap_strdup(side_heap, text),
                      mi_strndup(text, 1000),
                      mi_heap_strndup(side_heap, text, strlen(text)),
                      (char *)mi_mbsdup((const unsigned char *)text)};
    for (size_t j = 0; j < COUNT_OF(copies); j++) {
      ck_assert_str_eq(copies[j], text);
      ck_assert_uint_gt(mi_usable_size(copies[j]), strlen(text));
      mi_free(copies[j]);
    }
    char *open = unterminated(text);
    char *copy = mi_strndup(open, strlen(text));
    ck_assert_str_eq(copy, text);
    mi_free(copy);
    free(open);
    const size_t half = strlen(text) / 2;
    copy = mi_heap_strndup(side_heap, text, half);
    ck_assert_uint_eq(strlen(copy), half);
    ck_assert_int_eq(memcmp(copy, text, half), 0);
    ck_assert_ptr_eq(mi_heap_of(copy), side_heap);
    mi_free(copy);
  }
  ck_assert_ptr_null(mi_strdup(NULL));
  ck_assert_ptr_null(mi_strndup(NULL, 5));
  ck_assert_ptr_null(mi_heap_strdup(side_heap, NULL));
  ck_assert_ptr_null(mi_heap_strndup(side_heap, NULL, 5));
  ck_assert_ptr_null(mi_mbsdup(NULL));
  ck_assert_ptr_null(mi_wcsdup(NULL));
  assert_no_errors();
}
END_TEST

START_TEST(wide_strings_have_units_of_16_bits) {
  static const unsigned short text[] = {'m', 0x100, 0xd83d, 0xde00, 1, 0, 'x'};
  unsigned short *copy = mi_wcsdup(text);
  ck_assert_int_eq(memcmp(copy, text, 6 * sizeof text[0]), 0);
  ck_assert_uint_ge(mi_usable_size(copy), 6 * sizeof text[0]);
  mi_free(copy);
  static const unsigned short empty[] = {0};
  copy = mi_wcsdup(empty);
  ck_assert_uint_eq(copy[0], 0);
  mi_free(copy);
}
END_TEST

START_TEST(paths_are_resolved) {
  char expected[PATH_MAX], buffer[PATH_MAX];
  ck_assert_ptr_nonnull(realpath(".", expected));
  char *path = mi_realpath("./.", NULL);
  ck_assert_str_eq(path, expected);
  mi_free(path);
  path = mi_heap_realpath(side_heap, "/usr/../", NULL);
  ck_assert_str_eq(path, "/");
  ck_assert_ptr_eq(mi_heap_of(path), side_heap);
  mi_free(path);
  ck_assert_ptr_eq(mi_realpath(".", buffer), buffer);
  ck_assert_str_eq(buffer, expected);
  ck_assert_ptr_eq(mi_heap_realpath(side_heap, "/", buffer), buffer);
  ck_assert_str_eq(buffer, "/");
  errno = 0;
  ck_assert_ptr_null(mi_realpath("/there/is/no/such/file", NULL));
  ck_assert_int_eq(errno, ENOENT);
  errno = 0;
  ck_assert_ptr_null(mi_realpath("/there/is/no/such/file", buffer));
  ck_assert_int_eq(errno, ENOENT);
  errno = 0;
  ck_assert_ptr_null(mi_realpath(NULL, NULL));
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_ptr_null(mi_realpath("", NULL));
  assert_no_errors();
}
END_TEST

START_TEST(environment_is_copied) {
  ck_assert_int_eq(setenv("MIRT_TEST_VARIABLE", "some value", 1), 0);
  char *copy = NULL;
  size_t size = 7;
  ck_assert_int_eq(mi_dupenv_s(&copy, &size, "MIRT_TEST_VARIABLE"), 0);
  ck_assert_str_eq(copy, "some value");
  ck_assert_ptr_ne(copy, getenv("MIRT_TEST_VARIABLE"));
  ck_assert_uint_eq(size, sizeof "some value");
  mi_free(copy);
  ck_assert_int_eq(mi_dupenv_s(&copy, NULL, "MIRT_TEST_VARIABLE"), 0);
  ck_assert_str_eq(copy, "some value");
  mi_free(copy);
  ck_assert_int_eq(unsetenv("MIRT_TEST_VARIABLE"), 0);
  ck_assert_int_eq(mi_dupenv_s(&copy, &size, "MIRT_TEST_VARIABLE"), 0);
  ck_assert_ptr_null(copy);
  ck_assert_uint_eq(size, 0);
  ck_assert_int_eq(mi_dupenv_s(NULL, &size, "PATH"), EINVAL);
  ck_assert_int_eq(mi_dupenv_s(&copy, &size, NULL), EINVAL);
  static const unsigned short name[] = {'P', 0};
  unsigned short *wide = (unsigned short *)(uintptr_t)name;
  size = 7;
  ck_assert_int_eq(mi_wdupenv_s(&wide, &size, name), EINVAL);
  ck_assert_ptr_null(wide);
  ck_assert_uint_eq(size, 0);
  ck_assert_int_eq(mi_wdupenv_s(NULL, NULL, name), EINVAL);
}
END_TEST

/* ---- freeing and measuring what is no block ---- */

START_TEST(free_null) {
  size_t told = 1;
  errno = 77;
  mi_free(NULL);
  mi_free_small(NULL);
  mi_free_size(NULL, 10);
  mi_free_aligned(NULL, 64);
  mi_free_size_aligned(NULL, 10, 64);
  mi_cfree(NULL);
  mi_ufree(NULL, &told);
  ck_assert_int_eq(errno, 77);
  assert_no_errors();
}
END_TEST

START_TEST(free_leaves_errno_alone) {
  static const size_t sizes[] = {1, 1000, 100000, MiB, 100 * MiB, 800 * MiB};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    void *p = mi_malloc(sizes[i]);
    ck_assert_ptr_nonnull(p);
    errno = 77;
    mi_free(p);
    ck_assert_int_eq(errno, 77);
  }
  mi_option_set(mi_option_purge_delay, 0); /* the free calls the system, too */
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    void *p = mi_malloc(sizes[i]);
    errno = 77;
    mi_free(p);
    ck_assert_int_eq(errno, 77);
  }
  mi_option_set(mi_option_purge_delay, 10);
}
END_TEST

START_TEST(double_free) {
  static const size_t sizes[] = {0, 16, 100, 1000, 5000, 100000, 300000};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    void *keep = mi_malloc(sizes[i]);
    void *p = mi_malloc(sizes[i]);
    ck_assert(keep != NULL && p != NULL);
    mi_free(p);
    assert_no_errors();
    check_reported_double_free(p, sizes[i]);
    /* It can be had once, and not twice. */
    void *q = mi_malloc(sizes[i]), *r = mi_malloc(sizes[i]);
    ck_assert(!overlap(q, r) && !overlap(q, keep) && !overlap(r, keep));
    mi_free(keep);
    mi_free(q);
    mi_free(r);
    assert_no_errors();
  }
}
END_TEST

START_TEST(free_what_is_no_block) {
  static char global[100];
  char local[100];
  clean_pages_begin();
  char *p = mi_malloc(100), *large = mi_malloc(MiB);
  void *strangers[] = {global,
                       local,
                       (void *)1,
                       (void *)-1,
                       p + 1,
                       p + 8,
                       large + 16,
                       large + 4096,
                       (void *)((uintptr_t)1 << 46),
                       (void *)((uintptr_t)1 << 63)};
  for (size_t i = 0; i < COUNT_OF(strangers); i++) {
    errno = 0;
    mi_free(strangers[i]);
    ck_assert_int_eq(errno, EINVAL);
    assert_errors(EINVAL, 1);
    size_t told = 1;
    mi_ufree(strangers[i], &told);
    ck_assert_uint_eq(told, 0);
    assert_errors(EINVAL, 1);
    mi_cfree(strangers[i]); /* does not mind */
    assert_no_errors();
  }
  mi_free(p);
  mi_free(large);
  assert_no_errors();
  clean_pages_end();
}
END_TEST

START_TEST(usable_size_of_what_is_no_block) {
  char local[100];
  clean_pages_begin();
  char *p = mi_malloc(100);
  ck_assert_uint_eq(mi_usable_size(NULL), 0);
  ck_assert_uint_eq(mi_usable_size(local), 0);
  ck_assert_uint_eq(mi_usable_size((void *)8), 0);
  ck_assert_uint_eq(mi_malloc_size(local), 0);
  ck_assert_uint_eq(mi_malloc_usable_size(local), 0);
  ck_assert_uint_eq(mi_usable_size(p + 1), 0);
  ck_assert_uint_eq(mi_usable_size(p + 16), 0);
  ck_assert_ptr_null(mi_expand(local, 1));
  mi_free(p);
  assert_no_errors();
  clean_pages_end();
}
END_TEST

static void free_twice_fatally(void *argument) {
  (void)argument;
  mi_option_enable(mi_option_corruption_is_fatal);
  void *keep = mi_malloc(10), *p = mi_malloc(10);
  mi_free(p);
  mi_free(p);
  mi_free(keep);
}

START_TEST(corruption_can_be_fatal) {
  ck_assert_int_eq(child_signal(free_twice_fatally, NULL), SIGABRT);
}
END_TEST

/* ---- large blocks and other threads ---- */

static void *free_one(void *argument) {
  mi_free(argument);
  return NULL;
}

START_TEST(block_larger_than_an_arena) {
  const size_t size = 3 * GiB + 12345;
  const mi_stats_t before = stats_now();
  for (int round = 0; round < 3; round++) {
    char *p = round == 0   ? mi_malloc(size)
              : round == 1 ? mi_calloc(3, size / 3 + 1)
                           : mi_malloc_aligned(size, 2 * MiB);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_ge(mi_usable_size(p), size);
    ck_assert(is_aligned(p, round == 2 ? 2 * MiB : 64 * KiB));
    ck_assert(p[0] == 0 || round != 1);
    char *volatile all = p; /* compilers know what was asked for only */
    p[0] = p[size / 2] = all[mi_usable_size(p) - 1] = 1;
    ck_assert(mi_check_owned(p) && mi_check_owned(p + size / 2));
    ck_assert(mi_is_in_heap_region(p + size - 1));
    ck_assert_int_eq(stats_now().large_blocks.current, before.large_blocks.current + 1);
    if (round == 1) {
      thread_run(free_one, p);
    } else {
      mi_free(p);
    }
    /* Its addresses go back to the system, and nothing of it stays. */
    ck_assert(!mi_is_in_heap_region(p + size / 2));
    ck_assert_uint_eq(mi_usable_size(p), 0);
    const mi_stats_t now = stats_now();
    ck_assert_int_eq(now.large_blocks.current, before.large_blocks.current);
    ck_assert_int_eq(now.reserved.current, before.reserved.current);
    /* Less when a purge of free slices has come due meanwhile. */
    ck_assert_int_le(now.committed.current, before.committed.current);
    errno = 0;
    mi_free(p);
    ck_assert_int_eq(errno, EINVAL);
    assert_errors(EINVAL, 1);
  }
}
END_TEST

START_TEST(huge_block_shrinks) {
  char *p = mi_malloc(3 * GiB);
  ck_assert_ptr_nonnull(p);
  pattern_write(p, MiB);
  p = mi_realloc(p, MiB);
  ck_assert(pattern_is(p, MiB));
  ck_assert_uint_lt(mi_usable_size(p), 4 * MiB);
  mi_free(p);
  assert_no_errors();
}
END_TEST

START_TEST(large_blocks_freed_by_another_thread) {
  static const size_t sizes[] = {128 * KiB + 1, MiB, 100 * MiB, 700 * MiB};
  const int64_t before = pages_settled();
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    char *p = mi_malloc(sizes[i]);
    p[0] = p[sizes[i] - 1] = 1;
    ck_assert_int_gt(pages_now(), before);
    thread_run(free_one, p);
    ck_assert_int_eq(pages_now(), before); /* at once: nobody has to collect it */
  }
  assert_no_errors();
}
END_TEST

struct production {
  void *blocks[2001];
  size_t size;
};

static void *produce(void *argument) {
  struct production *production = argument;
  for (size_t i = 0; i < 2000; i++) {
    production->blocks[i] = mi_malloc(production->size);
    memset(production->blocks[i], (int)i, production->size);
  }
  return NULL;
}

START_TEST(blocks_of_an_ended_thread) {
  static struct production production;
  static const size_t sizes[] = {16, 100, 1024, 3000};
  const int64_t before = pages_settled();
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    production.size = sizes[i];
    thread_run(produce, &production);
    for (size_t j = 0; j < 2000; j++) {
      ck_assert(filled_with(production.blocks[j], sizes[i], (unsigned char)j));
      ck_assert_uint_ge(mi_usable_size(production.blocks[j]), sizes[i]);
      if (j % 2 == 0)
        production.blocks[j] = mi_realloc(production.blocks[j], 2 * sizes[i]);
    }
    for (size_t j = 0; j < 2000; j++) mi_free(production.blocks[j]);
    ck_assert_int_eq(pages_settled(), before);
    ck_assert_int_eq(stats_now().pages_abandoned.current, 0);
  }
  assert_no_errors();
}
END_TEST

/* ---- threads, processes, collecting ---- */

static void *use_thread_functions(void *argument) {
  const int64_t before = *(int64_t *)argument;
  mi_thread_init();
  mi_thread_init();
  ck_assert_int_eq(stats_now().threads.current, before + 1);
  mi_thread_set_in_threadpool();
  char *p = mi_malloc(100);
  pattern_write(p, 100);
  mi_heap_t *heap = mi_heap_new();
  char *q = mi_heap_malloc(heap, 100);
  pattern_write(q, 100);
  mi_thread_done();
  ck_assert_int_eq(stats_now().threads.current, before);
  ck_assert(pattern_is(p, 100) && pattern_is(q, 100));
  mi_free(p); /* without having begun again */
  char *r = mi_malloc(100);
  ck_assert_ptr_nonnull(r);
  ck_assert(!overlap(q, r));
  mi_free(r);
  mi_free(q);
  mi_thread_done();
  mi_thread_done();
  return NULL;
}

START_TEST(thread_functions) {
  const int64_t pages = pages_settled();
  int64_t before = stats_now().threads.current;
  thread_run(use_thread_functions, &before);
  ck_assert_int_eq(stats_now().threads.current, before);
  ck_assert_int_eq(pages_settled(), pages);
  assert_no_errors();
}
END_TEST

START_TEST(process_functions) {
  mi_process_init();
  mi_process_init();
  ck_assert_int_eq(mi_version(), 240); /* the interface of 2.4 */
  ck_assert_int_eq(mi_version(), MI_MALLOC_VERSION);
  ck_assert(!mi_is_redirected()); /* malloc is the C library's here */
  mi_process_info(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
  void *p = mi_malloc(50 * MiB);
  memset(p, 1, 50 * MiB);
  size_t elapsed, user, system, rss = 0, peak_rss = 0, commit = 0, peak_commit = 0,
                                faults;
  mi_process_info(&elapsed, &user, &system, &rss, &peak_rss, &commit, &peak_commit,
                  &faults);
  ck_assert_uint_ge(rss, 50 * MiB);
  ck_assert_uint_ge(peak_rss, 50 * MiB);
  ck_assert_uint_ge(commit, 50 * MiB);
  ck_assert_uint_ge(peak_commit, commit);
  ck_assert_int_eq((int64_t)commit, stats_now().committed.current);
  mi_free(p);
  assert_no_errors();
}
END_TEST

#define HOLD 3000

START_TEST(collecting_keeps_what_lives) {
  const int64_t before = pages_settled();
  void **blocks = calloc(HOLD, sizeof(void *));
  for (size_t i = 0; i < HOLD; i++) {
    blocks[i] = mi_malloc(i);
    pattern_write(blocks[i], i);
  }
  const int64_t full = pages_now();
  for (size_t i = 0; i < HOLD; i++) {
    if (i % 100 != 0) mi_free(blocks[i]);
  }
  mi_collect(false);
  mi_collect(true);
  mi_collect_reduce(PTRDIFF_MAX);
  mi_collect_reduce(0);
  mi_heap_collect(mi_heap_get_default(), false);
  mi_heap_collect(mi_heap_get_default(), true);
  ck_assert_int_lt(pages_now(), full);
  ck_assert_int_gt(pages_now(), before);
  for (size_t i = 0; i < HOLD; i += 100) {
    ck_assert(pattern_is(blocks[i], i));
    mi_free(blocks[i]);
  }
  mi_collect_reduce(0);
  ck_assert_int_eq(pages_now(), before);
  free(blocks);
  assert_no_errors();
}
END_TEST

START_TEST(typed_macros) {
  struct pair {
    double x, y;
  };
  struct pair *p = mi_malloc_tp(struct pair);
  ck_assert_uint_ge(mi_usable_size(p), sizeof *p);
  mi_free(p);
  p = mi_zalloc_tp(struct pair);
  ck_assert(p->x == 0 && p->y == 0);
  mi_free(p);
  p = mi_calloc_tp(struct pair, 10);
  ck_assert(p[9].y == 0 && mi_usable_size(p) >= 10 * sizeof *p);
  p = mi_recalloc_tp(p, struct pair, 200);
  ck_assert(p[199].y == 0 && mi_usable_size(p) >= 200 * sizeof *p);
  mi_free(p);
  p = mi_mallocn_tp(struct pair, 10);
  p[9].y = 9;
  p = mi_reallocn_tp(p, struct pair, 100);
  ck_assert(p[9].y == 9 && mi_usable_size(p) >= 100 * sizeof *p);
  mi_free(p);
  p = mi_heap_malloc_tp(side_heap, struct pair);
  ck_assert_ptr_eq(mi_heap_of(p), side_heap);
  mi_free(p);
  p = mi_heap_zalloc_tp(side_heap, struct pair);
  ck_assert(p->x == 0 && mi_heap_of(p) == side_heap);
  mi_free(p);
  p = mi_heap_calloc_tp(side_heap, struct pair, 10);
  ck_assert(p[9].y == 0);
  p = mi_heap_recalloc_tp(side_heap, p, struct pair, 300);
  ck_assert(p[299].y == 0);
  mi_free(p);
  p = mi_heap_mallocn_tp(side_heap, struct pair, 10);
  p[9].y = 9;
  p = mi_heap_reallocn_tp(side_heap, p, struct pair, 100);
  ck_assert(p[9].y == 9 && mi_heap_of(p) == side_heap);
  mi_free(p);
}
END_TEST

/* ---- deferred frees ---- */

#define WAITING_MAX 100000

static struct {
  unsigned calls, forced;
  bool inside, recursed, disordered, wrong_argument;
  unsigned long long heartbeat;
  void *waiting[WAITING_MAX];
  size_t waiting_count;
} deferred;

/* Frees what waits, as a runtime would, and allocates enough to come by the slow path. */
static void deferred_free(bool force, unsigned long long heartbeat, void *argument) {
  if (deferred.inside) deferred.recursed = true;
  if (heartbeat <= deferred.heartbeat) deferred.disordered = true;
  if (argument != &deferred) deferred.wrong_argument = true;
  deferred.inside = true;
  deferred.calls++;
  deferred.forced += force;
  deferred.heartbeat = heartbeat;
  while (deferred.waiting_count > 0) mi_free(deferred.waiting[--deferred.waiting_count]);
  void *blocks[300];
  for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = mi_malloc(i % 3 * 100);
  for (size_t i = 0; i < COUNT_OF(blocks); i++) mi_free(blocks[i]);
  deferred.inside = false;
}

static void deferred_begin(void) {
  memset(&deferred, 0, sizeof deferred);
  mi_register_deferred_free(deferred_free, &deferred);
}

static void deferred_end(void) {
  mi_register_deferred_free(NULL, NULL);
  ck_assert(!deferred.recursed && !deferred.disordered && !deferred.wrong_argument);
  assert_no_errors();
}

START_TEST(deferred_frees_are_done) {
  const int64_t before = pages_settled();
  deferred_begin();
  int64_t most = 0;
  for (size_t i = 0; i < WAITING_MAX; i++) {
    void *p = mi_malloc(100); /* may free all that waits */
    deferred.waiting[deferred.waiting_count++] = p;
    if (pages_now() > most) most = pages_now();
  }
  ck_assert_uint_gt(deferred.calls, 0);
  ck_assert_uint_eq(deferred.forced, 0);
  /* All of it would be about 170 pages of 64 KiB. */
  ck_assert_int_lt(most - before, 20);
  mi_collect(true);
  ck_assert_uint_eq(deferred.forced, 1);
  ck_assert_uint_eq(deferred.waiting_count, 0);
  deferred_end();
  const unsigned calls = deferred.calls;
  void *blocks[1000];
  for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = mi_malloc(777);
  for (size_t i = 0; i < COUNT_OF(blocks); i++) mi_free(blocks[i]);
  mi_collect(true);
  ck_assert_uint_eq(deferred.calls, calls); /* not registered any more */
  ck_assert_int_eq(pages_now(), before);
}
END_TEST

START_TEST(deferred_frees_with_each_size) {
  static const size_t sizes[] = {16, 1000, 5000, 100000, MiB};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    deferred_begin();
    void *blocks[200];
    for (size_t j = 0; j < COUNT_OF(blocks); j++) blocks[j] = mi_malloc(sizes[i]);
    ck_assert_msg(deferred.calls > 0, "never called for blocks of %zu bytes", sizes[i]);
    for (size_t j = 0; j < COUNT_OF(blocks); j++) mi_free(blocks[j]);
    deferred_end();
  }
}
END_TEST

/* ---- messages ---- */

static struct {
  char bytes[20000];
  size_t length;
  void *argument;
} printed;

static void print(const char *text, void *argument) {
  const size_t length = strlen(text);
  ck_assert_uint_lt(printed.length + length, sizeof printed.bytes);
  memcpy(printed.bytes + printed.length, text, length + 1);
  printed.length += length;
  printed.argument = argument;
}

static void print_begin(void) {
  memset(&printed, 0, sizeof printed);
  mi_register_output(print, &printed);
}

/* What is printed consists of whole lines. Forget it. */
static void assert_lines_with(const char *part) {
  ck_assert_msg(strstr(printed.bytes, part) != NULL, "no '%s' in:\n%s", part,
                printed.bytes);
  ck_assert_int_eq(printed.bytes[printed.length - 1], '\n');
  printed.length = 0;
  printed.bytes[0] = 0;
}

START_TEST(output_is_registered) {
  print_begin();
  mi_stats_print(NULL);
  ck_assert_ptr_eq(printed.argument, &printed);
  assert_lines_with("committed");
  mi_stats_print_out(NULL, NULL);
  assert_lines_with("pages_abandoned");
  mi_thread_stats_print_out(NULL, NULL);
  assert_lines_with("pages");
  mi_options_print();
  assert_lines_with("purge_delay");
  mi_options_print();
  assert_lines_with("corruption_is_fatal");
  mi_options_print();
  assert_lines_with("ignored");
  void *p = mi_malloc(100);
  mi_arenas_print();
  assert_lines_with("arena");
  mi_debug_show_arenas();
  assert_lines_with("arena");
  mi_free(p);
  /* A function that is passed goes before the one registered. */
  mi_register_output(output_discard, NULL);
  int other;
  mi_stats_print_out(print, &other);
  ck_assert_ptr_eq(printed.argument, &other);
  assert_lines_with("reserved");
  mi_thread_stats_print_out(print, &other);
  assert_lines_with("pages");
}
END_TEST

static void free_twice(void) {
  void *keep = mi_malloc(100), *p = mi_malloc(100);
  mi_free(p);
  mi_free(p);
  mi_free(keep);
}

START_TEST(errors_are_printed) {
  print_begin();
  mi_option_set(mi_option_max_errors, -1);
  free_twice();
  assert_lines_with("double free");
  ck_assert_ptr_null(mi_malloc(impossible_sizes[0]));
  assert_lines_with("no memory");
  ck_assert_ptr_null(mi_calloc(impossible_sizes[0], 2));
  assert_lines_with("mi_calloc");
  ck_assert_ptr_null(mi_malloc_aligned(10, no_alignment));
  assert_lines_with("24");
  mi_free(&printed);
  assert_lines_with("not the address of a block");
  /* As many as wanted, and the error function hears of all. */
  mi_option_set(mi_option_max_errors, 0);
  errors_clear();
  free_twice();
  ck_assert_uint_eq(printed.length, 0);
  assert_errors(EFAULT, 1);
  mi_option_set(mi_option_max_errors, 32);
}
END_TEST

static int error_argument;

static void error_once(int error, void *argument) {
  ck_assert_int_eq(error, ENOMEM);
  ck_assert_ptr_eq(argument, &error_argument);
  error_argument++;
}

START_TEST(error_function_is_registered) {
  error_argument = 0;
  mi_register_error(error_once, &error_argument);
  ck_assert_ptr_null(mi_malloc(impossible_sizes[1]));
  ck_assert_int_eq(error_argument, 1);
  mi_register_error(NULL, NULL);
  ck_assert_ptr_null(mi_malloc(impossible_sizes[1]));
  ck_assert_int_eq(error_argument, 1);
  assert_no_errors();
}
END_TEST

/* Runs in a child: nothing is registered, and the message goes where it does then. */
static void free_twice_to_file(void *argument) {
  dup2(*(int *)argument, STDERR_FILENO);
  mi_register_output(NULL, NULL);
  mi_option_set(mi_option_max_errors, -1);
  mi_option_disable(mi_option_show_errors);
  free_twice();
  if (lseek(STDERR_FILENO, 0, SEEK_END) != 0) _exit(1);
  mi_option_enable(mi_option_show_errors);
  free_twice();
  if (lseek(STDERR_FILENO, 0, SEEK_END) == 0) _exit(2);
}

START_TEST(errors_go_to_standard_error) {
  FILE *file = tmpfile();
  ck_assert_ptr_nonnull(file);
  int descriptor = fileno(file);
  ck_assert_int_eq(child_run(free_twice_to_file, &descriptor), 0);
  fclose(file);
}
END_TEST

/* ---- statistics ---- */

START_TEST(statistics_follow) {
  mi_free(mi_malloc(1)); /* this thread's backing heap is made */
  mi_collect(true);
  const mi_stats_t before = stats_now();
  ck_assert_uint_eq(before.version, MI_STAT_VERSION);
  ck_assert_uint_eq(before.size, sizeof(mi_stats_t));
  void *blocks[1000];
  for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = mi_malloc(1000);
  void *large = mi_malloc(MiB);
  mi_heap_t *heap = mi_heap_new();
  const mi_stats_t now = stats_now();
  ck_assert_int_ge(now.pages.current, before.pages.current + 15);
  ck_assert_int_ge(now.page_bytes.current, before.page_bytes.current + 1000 * 1000);
  ck_assert_int_ge(now.pages.total, before.pages.total + 15);
  ck_assert_int_eq(now.large_blocks.current, before.large_blocks.current + 1);
  ck_assert_int_eq(now.heaps.current, before.heaps.current + 1);
  ck_assert_int_ge(now.arenas.current, 1);
  ck_assert_int_ge(now.committed.current, now.page_bytes.current);
  ck_assert_int_ge(now.reserved.current, now.committed.current);
  ck_assert_int_ge(now.mmap_calls, 1);
  for (size_t i = 0; i < COUNT_OF(blocks); i++) mi_free(blocks[i]);
  mi_free(large);
  mi_heap_delete(heap);
  mi_collect(true);
  const mi_stats_t after = stats_now();
  ck_assert_int_eq(after.pages.current, before.pages.current);
  ck_assert_int_eq(after.page_bytes.current, before.page_bytes.current);
  ck_assert_int_eq(after.large_blocks.current, before.large_blocks.current);
  ck_assert_int_eq(after.heaps.current, before.heaps.current);
  ck_assert_int_ge(after.pages.peak, now.pages.current);
  ck_assert_int_gt(after.purged, before.purged);
  ck_assert_int_gt(after.purge_calls, before.purge_calls);
}
END_TEST

START_TEST(statistics_start_anew) {
  void *p = mi_malloc(3 * MiB);
  void *q = mi_malloc(100);
  mi_free(p);
  mi_stats_merge();
  mi_stats_reset();
  const mi_stats_t now = stats_now();
  const mi_stat_count_t counts[] = {now.reserved,     now.committed,       now.arenas,
                                    now.pages,        now.page_bytes,      now.heaps,
                                    now.large_blocks, now.pages_abandoned, now.threads};
  for (size_t i = 0; i < COUNT_OF(counts); i++) {
    ck_assert_int_eq(counts[i].total, 0);
    ck_assert_int_eq(counts[i].peak, counts[i].current);
  }
  ck_assert_int_eq(now.pages_adopted, 0);
  ck_assert_int_eq(now.purged, 0);
  ck_assert_int_eq(now.mmap_calls, 0);
  ck_assert_int_eq(now.commit_calls, 0);
  ck_assert_int_eq(now.purge_calls, 0);
  ck_assert_int_gt(now.pages.current, 0); /* what is there is still there */
  mi_free(q);
}
END_TEST

START_TEST(statistics_of_other_sizes) {
  /* A program that is older than the library, or newer. */
  struct {
    mi_stats_t stats;
    unsigned char more[64];
  } area;
  static const size_t sizes[] = {16, offsetof(mi_stats_t, pages),
                                 offsetof(mi_stats_t, pages) + 3, sizeof(mi_stats_t),
                                 sizeof(mi_stats_t) + 64};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    memset(&area, 0x5e, sizeof area);
    area.stats.size = sizes[i];
    ck_assert(mi_stats_get(&area.stats));
    const size_t filled = sizes[i] < sizeof(mi_stats_t) ? sizes[i] : sizeof(mi_stats_t);
    ck_assert_uint_eq(area.stats.size, filled);
    ck_assert_uint_eq(area.stats.version, MI_STAT_VERSION);
    const unsigned char *bytes = (const unsigned char *)&area;
    ck_assert(bytes_are(bytes + filled, sizeof area - filled, 0x5e));
  }
  for (size_t size = 0; size < 16; size++) {
    memset(&area, 0x5e, sizeof area);
    area.stats.size = size;
    errno = 0;
    ck_assert(!mi_stats_get(&area.stats));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_uint_eq(area.stats.size, size);
    ck_assert_uint_eq(area.stats.version, 0x5e5e5e5e5e5e5e5e);
  }
  errno = 0;
  ck_assert(!mi_stats_get(NULL));
  ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* ---- JSON: enough of a reader to know that it is some ---- */

static const char *skip_space(const char *s) { return s + strspn(s, " \t\r\n"); }

static const char *json_string(const char *s) {
  if (*s++ != '"') return NULL;
  for (; *s != '"'; s++) {
    if ((unsigned char)*s < 0x20 || *s == '\\') return NULL; /* we write no escapes */
  }
  return s + 1;
}

static const char *json_number(const char *s) {
  if (*s == '-') s++;
  if (*s == '0') return s + 1;
  const size_t digits = strspn(s, "0123456789");
  return digits == 0 ? NULL : s + digits;
}

static const char *json_object(const char *s, unsigned depth, size_t *members);

/* An array of objects, not empty. */
static const char *json_array(const char *s, unsigned depth) {
  do {
    size_t inner = 0;
    s = json_object(skip_space(s + 1), depth, &inner);
    if (s == NULL) return NULL;
    s = skip_space(s);
  } while (*s == ',');
  return *s == ']' ? s + 1 : NULL;
}

/* An object of numbers, objects and arrays. Returns what comes after it, or NULL. */
static const char *json_object(const char *s, unsigned depth, size_t *members) {
  if (*s++ != '{' || depth == 0) return NULL;
  for (;;) {
    s = json_string(skip_space(s));
    if (s == NULL) return NULL;
    s = skip_space(s);
    if (*s++ != ':') return NULL;
    s = skip_space(s);
    size_t inner = 0;
    s = *s == '{'   ? json_object(s, depth - 1, &inner)
        : *s == '[' ? json_array(s, depth - 1)
                    : json_number(s);
    if (s == NULL) return NULL;
    ++*members;
    s = skip_space(s);
    if (*s == '}') return s + 1;
    if (*s++ != ',') return NULL;
  }
}

/* The number with this key in the object with that one. */
static long long json_find(const char *text, const char *object, const char *key) {
  const char *s = strstr(text, object);
  ck_assert_msg(s != NULL, "no %s in:\n%s", object, text);
  s = strstr(s, key);
  ck_assert_msg(s != NULL, "no %s in:\n%s", key, text);
  return atoll(strchr(s, ':') + 1);
}

START_TEST(statistics_as_json) {
  char *text = mi_stats_get_json(0, NULL);
  ck_assert_ptr_nonnull(text);
  ck_assert_uint_gt(mi_usable_size(text), strlen(text));
  size_t members = 0;
  const char *end = json_object(skip_space(text), 2, &members);
  ck_assert_msg(end != NULL && *skip_space(end) == 0, "no JSON:\n%s", text);
  ck_assert_uint_ge(members, 16); /* version, 9 quantities, 5 counters, tags */
  mirt_stats_t of_tag;
  ck_assert(mirt_stats_tag(0, &of_tag));
  ck_assert_int_eq(json_find(text, "\"tag\": 0", "\"pages\""), of_tag.pages);
  ck_assert_int_eq(json_find(text, "\"tag\": 0", "\"committed\""), of_tag.committed);
  ck_assert_int_eq(json_find(text, "\"tag\": 0", "\"peak\""), of_tag.peak);
  static const char *const names[] = {
      "\"version\"",    "\"reserved\"",     "\"committed\"",     "\"arenas\"",
      "\"pages\"",      "\"page_bytes\"",   "\"heaps\"",         "\"pages_abandoned\"",
      "\"threads\"",    "\"large_blocks\"", "\"pages_adopted\"", "\"purged\"",
      "\"mmap_calls\"", "\"commit_calls\"", "\"purge_calls\""};
  for (size_t i = 0; i < COUNT_OF(names); i++) {
    ck_assert_msg(strstr(text, names[i]) != NULL, "no %s in:\n%s", names[i], text);
  }
  const mi_stats_t now = stats_now();
  ck_assert_int_eq(json_find(text, "\"pages\"", "\"current\""), now.pages.current);
  ck_assert_int_eq(json_find(text, "\"reserved\"", "\"peak\""), now.reserved.peak);
  ck_assert_int_eq(json_find(text, "\"heaps\"", "\"total\""), now.heaps.total);

  const size_t length = strlen(text);
  char *buffer = malloc(length + 1);
  ck_assert_ptr_eq(mi_stats_get_json(length + 1, buffer), buffer);
  ck_assert_str_eq(buffer, text);
  errno = 0;
  ck_assert_ptr_null(mi_stats_get_json(length, buffer)); /* no room for the zero */
  ck_assert_int_eq(errno, ERANGE);
  buffer[0] = 'x';
  ck_assert_ptr_null(mi_stats_get_json(0, buffer));
  ck_assert_int_eq(buffer[0], 'x');
  free(buffer);
  mi_free(text);
}
END_TEST

/* ---- options ---- */

START_TEST(options_are_set_and_read) {
  const long before = mi_option_get(mi_option_purge_delay);
  ck_assert_int_eq(before, 10);
  mi_option_set(mi_option_purge_delay, 123);
  ck_assert_int_eq(mi_option_get(mi_option_purge_delay), 123);
  ck_assert_int_eq(mi_option_get(mi_option_decommit_delay), 123); /* its older name */
  ck_assert_int_eq(mi_option_get_clamp(mi_option_purge_delay, 0, 100), 100);
  ck_assert_int_eq(mi_option_get_clamp(mi_option_purge_delay, 200, 300), 200);
  ck_assert_int_eq(mi_option_get_clamp(mi_option_purge_delay, 123, 123), 123);
  ck_assert_uint_eq(mi_option_get_size(mi_option_purge_delay), 123);
  mi_option_set(mi_option_purge_delay, -1);
  ck_assert_int_eq(mi_option_get(mi_option_purge_delay), -1);
  ck_assert_uint_eq(mi_option_get_size(mi_option_purge_delay), 0);
  mi_option_set_default(mi_option_purge_delay, 5); /* set already */
  ck_assert_int_eq(mi_option_get(mi_option_purge_delay), -1);
  mi_option_set(mi_option_purge_delay, before);

  mi_option_enable(mi_option_visit_abandoned);
  ck_assert(mi_option_is_enabled(mi_option_visit_abandoned));
  ck_assert_int_eq(mi_option_get(mi_option_visit_abandoned), 1);
  mi_option_disable(mi_option_visit_abandoned);
  ck_assert(!mi_option_is_enabled(mi_option_visit_abandoned));
  mi_option_set_enabled(mi_option_visit_abandoned, true);
  ck_assert(mi_option_is_enabled(mi_option_visit_abandoned));
  mi_option_set_enabled_default(mi_option_visit_abandoned, false); /* set already */
  ck_assert(mi_option_is_enabled(mi_option_visit_abandoned));
  mi_option_set_enabled(mi_option_visit_abandoned, false);

  /* Nothing else here sets these two. */
  mi_option_set_default(mi_option_use_numa_nodes, 3);
  ck_assert_int_eq(mi_option_get(mi_option_use_numa_nodes), 3);
  mi_option_set_default(mi_option_use_numa_nodes, 4);
  ck_assert_int_eq(mi_option_get(mi_option_use_numa_nodes), 3);
  mi_option_set(mi_option_use_numa_nodes, 0);
  mi_option_set_enabled_default(mi_option_guarded_precise, true);
  ck_assert(mi_option_is_enabled(mi_option_guarded_precise));
  mi_option_set(mi_option_guarded_precise, 0);

  /* In KiB, and in bytes. */
  ck_assert_int_eq(mi_option_get(mi_option_arena_reserve), MiB);
  ck_assert_uint_eq(mi_option_get_size(mi_option_arena_reserve), GiB);
  ck_assert_uint_eq(mi_option_get_size(mi_option_guarded_max), GiB);
  assert_no_errors();
}
END_TEST

START_TEST(options_that_do_not_exist) {
  static const int numbers[] = {-1, _mi_option_last, _mi_option_last + 1, INT_MAX,
                                INT_MIN};
  for (size_t i = 0; i < COUNT_OF(numbers); i++) {
    const mi_option_t option = (mi_option_t)numbers[i];
    ck_assert(!mi_option_is_enabled(option));
    assert_no_errors();
    ck_assert_int_eq(mi_option_get(option), 0);
    assert_errors(EINVAL, 1);
    ck_assert_int_eq(mi_option_get_clamp(option, -5, 5), 0);
    assert_errors(EINVAL, 1);
    ck_assert_uint_eq(mi_option_get_size(option), 0);
    assert_errors(EINVAL, 1);
    mi_option_set(option, 1);
    assert_errors(EINVAL, 1);
    mi_option_set_default(option, 1);
    assert_errors(EINVAL, 1);
    mi_option_set_enabled(option, true);
    mi_option_set_enabled_default(option, true);
    mi_option_enable(option);
    mi_option_disable(option);
    assert_errors(EINVAL, 4);
    ck_assert_int_eq(mi_option_get(option), 0);
    errors_clear();
  }
}
END_TEST

START_TEST(options_have_their_defaults) {
  for (int option = 0; option < (int)_mi_option_last; option++) {
    const long value = mi_option_get((mi_option_t)option);
    ck_assert_int_eq(mi_option_get_clamp((mi_option_t)option, LONG_MIN, LONG_MAX), value);
    ck_assert(mi_option_is_enabled((mi_option_t)option) == (value != 0));
    mi_option_set((mi_option_t)option, value); /* accepted, whatever it means */
    ck_assert_int_eq(mi_option_get((mi_option_t)option), value);
  }
  assert_no_errors();
}
END_TEST

/* ---- all of it ---- */

static void heap_begin(void) { side_heap = mi_heap_new_ex(7, false, 0); }

static void heap_end(void) { mi_heap_delete(side_heap); }

static TCase *case_with_heap(Suite *suite, const char *name) {
  TCase *test_case = case_begin(suite, name);
  tcase_add_checked_fixture(test_case, heap_begin, heap_end);
  return test_case;
}

int main(void) {
  Suite *suite = suite_create("malloc");
  TCase *c = case_with_heap(suite, "sizes");
  tcase_add_test(c, sizes_of_each_function);
  tcase_add_test(c, sizes_to_many_mebibytes);
  tcase_add_test(c, good_size_is_the_block_size);
  tcase_add_test(c, zero_bytes_give_a_block_each);
  tcase_add_test(c, count_times_size);
  c = case_with_heap(suite, "no memory");
  tcase_add_test(c, impossible_size);
  tcase_add_test(c, count_times_size_overflows);
  tcase_add_test(c, new_without_cxx);
  tcase_add_test(c, sizes_told_on_failure);
  tcase_add_test(c, memory_after_failure);
  c = case_with_heap(suite, "alignment");
  tcase_add_test(c, alignments);
  tcase_add_test(c, alignments_far_beyond_the_size);
  tcase_add_test(c, alignment_that_is_none);
  tcase_add_test(c, posix_memalign_returns_its_errors);
  tcase_add_test(c, offsets);
  tcase_add_test(c, interior_pointers);
  c = case_with_heap(suite, "zeroes");
  tcase_add_test(c, zeroed_on_fresh_and_on_dirty_memory);
  tcase_add_test(c, zeroed_memory_that_others_dirtied);
  c = case_with_heap(suite, "resizing");
  tcase_add_test(c, resizing_keeps_contents);
  tcase_add_test(c, resizing_step_by_step);
  tcase_add_test(c, resizing_to_nothing_does_not_free);
  tcase_add_test(c, what_is_added_is_zero_after_shrinking);
  tcase_add_test(c, resizing_changes_the_alignment);
  tcase_add_test(c, resizing_moves_into_the_heap_named);
  tcase_add_test(c, resizing_what_is_no_live_block);
  tcase_add_test(c, resizing_guarded_blocks);
  tcase_add_test(c, expand_stays_in_place);
  c = case_with_heap(suite, "strings");
  tcase_add_test(c, strings_are_copied);
  tcase_add_test(c, wide_strings_have_units_of_16_bits);
  tcase_add_test(c, paths_are_resolved);
  tcase_add_test(c, environment_is_copied);
  c = case_begin(suite, "no block");
  tcase_add_test(c, free_null);
  tcase_add_test(c, free_leaves_errno_alone);
  tcase_add_test(c, double_free);
  tcase_add_test(c, free_what_is_no_block);
  tcase_add_test(c, usable_size_of_what_is_no_block);
  tcase_add_test(c, corruption_can_be_fatal);
  c = case_begin(suite, "large and far");
  tcase_add_test(c, block_larger_than_an_arena);
  tcase_add_test(c, huge_block_shrinks);
  tcase_add_test(c, large_blocks_freed_by_another_thread);
  tcase_add_test(c, blocks_of_an_ended_thread);
  c = case_with_heap(suite, "process");
  tcase_add_test(c, thread_functions);
  tcase_add_test(c, process_functions);
  tcase_add_test(c, collecting_keeps_what_lives);
  tcase_add_test(c, typed_macros);
  c = case_begin(suite, "callbacks");
  tcase_add_test(c, deferred_frees_are_done);
  tcase_add_test(c, deferred_frees_with_each_size);
  tcase_add_test(c, output_is_registered);
  tcase_add_test(c, errors_are_printed);
  tcase_add_test(c, error_function_is_registered);
  tcase_add_test(c, errors_go_to_standard_error);
  c = case_begin(suite, "statistics and options");
  tcase_add_test(c, statistics_follow);
  tcase_add_test(c, statistics_start_anew);
  tcase_add_test(c, statistics_of_other_sizes);
  tcase_add_test(c, statistics_as_json);
  tcase_add_test(c, options_are_set_and_read);
  tcase_add_test(c, options_that_do_not_exist);
  tcase_add_test(c, options_have_their_defaults);
  return suite_run(suite);
}
