/* test_managed.c - memory that a program hands over: mappings of every kind, that heaps
 * in it ask the system for no mapping, memory that must not be purged, areas that are
 * refused, how an arena is given up again, also while other threads work, and who may
 * take memory from which arena. */
#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>
#ifdef __linux__
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include <mirt/arena.h>
#include <mirt/cage.h>

#include "arena/arena.h"
#include "arena/page_map.h"
#include "base/bits.h"
#include "os/os.h"

/* ---- areas ---- */

struct area {
  char *start;
  size_t size;
};

/* Private memory on a slice boundary, without transparent huge pages: those make more
 * resident than is touched. */
static struct area area_map(size_t size, int protection) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  char *p = mmap(NULL, size + SLICE_SIZE, protection, flags, -1, 0);
  assert_quick(p != MAP_FAILED);
  char *start = (char *)align_up((uintptr_t)p, SLICE_SIZE);
  char *end = p + size + SLICE_SIZE;
  if (start > p) assert_quick(munmap(p, (size_t)(start - p)) == 0);
  if (end > start + size) {
    assert_quick(munmap(start + size, (size_t)(end - start) - size) == 0);
  }
#ifdef MADV_NOHUGEPAGE
  madvise(start, size, MADV_NOHUGEPAGE);
#endif
  return (struct area){start, size};
}

static struct area area_touchable(size_t size) {
  return area_map(size, PROT_READ | PROT_WRITE);
}

static void area_unmap(struct area area) {
  ck_assert_int_eq(munmap(area.start, area.size), 0);
}

/* How memory is handed over. */
enum { COMMITTED = 1, PINNED = 2, ZERO = 4, FOR_ALL = 8 };

static bool try_hand_over(struct area area, int how, mi_arena_id_t *id) {
  return mi_manage_os_memory_ex(area.start, area.size, (how & COMMITTED) != 0,
                                (how & PINNED) != 0, (how & ZERO) != 0, -1,
                                (how & FOR_ALL) == 0, id);
}

static mi_arena_id_t hand_over(struct area area, int how) {
  mi_arena_id_t id = 0;
  assert_quick(try_hand_over(area, how, &id) && id > 0);
  return id;
}

static mi_arena_id_t reserve(size_t size, bool exclusive) {
  mi_arena_id_t id = 0;
  const int error = mi_reserve_os_memory_ex(size, false, false, exclusive, &id);
  assert_quick(error == 0 && id > 0);
  return id;
}

static void give_up(mi_arena_id_t id) { ck_assert_int_eq(mirt_arena_destroy(id), 0); }

static void assert_busy(mi_arena_id_t id) {
  ck_assert_int_eq(mirt_arena_destroy(id), EBUSY);
  assert_errors(EBUSY, 1);
}

static void assert_unknown_id(mi_arena_id_t id) {
  ck_assert_int_eq(mirt_arena_destroy(id), EINVAL);
  assert_errors(EINVAL, 1);
}

static mi_heap_t *heap_in(mi_arena_id_t id) {
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  assert_quick(heap != NULL);
  return heap;
}

/* Leave only arenas that something lives in, so that it is known where the default heap
 * takes its next memory from. */
static void destroy_idle_arenas(void) {
  mi_collect(true);
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    if (mi_arena_area(id, NULL) != NULL) mirt_arena_destroy(id);
  }
  errors_clear();
}

/* Bytes for blocks in an arena over an area on a slice boundary. */
static size_t room_in(struct area area) {
  const size_t slices = area.size >> SLICE_SHIFT;
  return (slices - arena_metadata_slices(slices)) << SLICE_SHIFT;
}

static bool lies_in(struct area area, const void *p) {
  return (uintptr_t)p - (uintptr_t)area.start < area.size;
}

static size_t resident_pages(void *p, size_t size) {
  const size_t count = size / os_page_size();
  unsigned char *pages = malloc(count);
  ck_assert_ptr_nonnull(pages);
  ck_assert_int_eq(mincore(p, size, pages), 0);
  size_t resident = 0;
  for (size_t i = 0; i < count; i++) resident += pages[i] & 1;
  free(pages);
  return resident;
}

/* Can all bytes of an area be read and written, as the system sees it? */
static bool area_is_writable(struct area area) {
  FILE *maps = fopen("/proc/self/maps", "r");
  ck_assert_ptr_nonnull(maps);
  const uintptr_t first = (uintptr_t)area.start, last = first + area.size;
  size_t covered = 0;
  char line[1024], rights[8];
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long start, end;
    if (sscanf(line, "%lx-%lx %7s", &start, &end, rights) != 3) continue;
    if (start < first) start = first;
    if (end > last) end = last;
    if (start < end && strncmp(rights, "rw", 2) == 0) covered += end - start;
  }
  fclose(maps);
  return covered == area.size;
}

/* ---- options that a test changes ---- */

struct option_change {
  mi_option_t option;
  long before;
};

static struct option_change option_change(mi_option_t option, long value) {
  const struct option_change change = {option, mi_option_get(option)};
  mi_option_set(option, value);
  return change;
}

static void option_restore(struct option_change change) {
  mi_option_set(change.option, change.before);
}

/* ---- blocks with contents ---- */

struct block {
  unsigned char *start;
  size_t size;
};

#define BLOCKS_MAX 150000
static struct block blocks[BLOCKS_MAX];

static unsigned char block_byte(size_t number) { return (unsigned char)(number * 7 + 1); }

static void block_put(size_t number, void *start) {
  assert_quick(number < BLOCKS_MAX);
  blocks[number] = (struct block){start, mi_usable_size(start)};
  memset(start, block_byte(number), blocks[number].size);
}

static void blocks_check(size_t count) {
  for (size_t i = 0; i < count; i++) {
    assert_quick(bytes_are(blocks[i].start, blocks[i].size, block_byte(i)));
  }
}

static void blocks_shuffle(size_t count, struct dice *dice) {
  for (size_t i = count; i > 1; i--) {
    const size_t j = dice_roll(dice, i);
    const struct block other = blocks[j];
    blocks[j] = blocks[i - 1];
    blocks[i - 1] = other;
  }
}

static void blocks_free(size_t count) {
  for (size_t i = 0; i < count; i++) mi_free(blocks[i].start);
}

static const size_t many_sizes[] = {1, 16, 100, 700, 3000, 12000, 40000, 100000, 300000};
#define MANY_SIZES (sizeof many_sizes / sizeof many_sizes[0])

/* Allocate blocks of many sizes, every other one zeroed, until not even the smallest can
 * be had. Returns how many. */
static size_t fill_up(mi_heap_t *heap, mi_arena_id_t id, struct dice *dice) {
  size_t count = 0, failures = 0, area_size = 0;
  mi_arena_area(id, &area_size);
  /* A few large blocks would be all that fits into a small area. */
  for (size_t choices = area_size > MiB ? MANY_SIZES : MANY_SIZES - 3; choices > 0;) {
    const size_t size = many_sizes[dice_roll(dice, choices)];
    const bool zeroed = count % 2 == 0;
    unsigned char *p =
        zeroed ? mi_heap_calloc(heap, 1, size) : mi_heap_malloc(heap, size);
    if (p == NULL) {
      assert_quick(errno == ENOMEM);
      failures++;
      choices--; /* for what is left, something smaller */
      continue;
    }
    assert_quick(mi_arena_contains(id, p) && mi_arena_contains(id, p + size - 1));
    assert_quick(!zeroed || bytes_are(p, size, 0));
    block_put(count++, p);
  }
  assert_errors(ENOMEM, failures);
  blocks_check(count);
  return count;
}

/* ---- every kind of mapping ---- */

#define KIND_SIZE (4 * MiB)

static char static_buffer[MiB + 4096];
static char data_buffer[MiB] = {1}; /* not in .bss */

static struct area make_anonymous(void) { return area_touchable(KIND_SIZE); }

static struct area make_not_committed(void) { return area_map(KIND_SIZE, PROT_NONE); }

static struct area make_static(void) {
  memset(static_buffer, 0, sizeof static_buffer);
  return (struct area){static_buffer + 13, MiB};
}

static struct area make_data(void) {
  memset(data_buffer, 0xa5, sizeof data_buffer);
  return (struct area){data_buffer, sizeof data_buffer};
}

/* Map an open file, which the mapping keeps, and close it. */
static struct area map_file(int file, int flags) {
  char *p = mmap(NULL, KIND_SIZE, PROT_READ | PROT_WRITE, flags, file, 0);
  ck_assert_ptr_ne(p, MAP_FAILED);
  ck_assert_int_eq(close(file), 0);
  return (struct area){p, KIND_SIZE};
}

#ifdef MFD_CLOEXEC
static struct area make_memory_file(void) {
  const int file = memfd_create("managed", MFD_CLOEXEC);
  ck_assert_int_ge(file, 0);
  ck_assert_int_eq(ftruncate(file, KIND_SIZE), 0);
  return map_file(file, MAP_SHARED);
}
#endif

/* A file of KIND_SIZE bytes of this value. */
static int file_of(int value) {
  FILE *stream = tmpfile();
  ck_assert_ptr_nonnull(stream);
  for (size_t i = 0; i < KIND_SIZE; i++) assert_quick(putc(value, stream) == value);
  ck_assert_int_eq(fflush(stream), 0);
  const int file = dup(fileno(stream));
  ck_assert_int_ge(file, 0);
  fclose(stream);
  return file;
}

static struct area make_shared_file(void) { return map_file(file_of(0x3c), MAP_SHARED); }

static struct area make_private_file(void) {
  return map_file(file_of(0x5c), MAP_PRIVATE);
}

static void keep(struct area area) { (void)area; }

static const struct kind {
  const char *name;
  struct area (*make)(void);
  void (*drop)(struct area);
  int how; /* the first time: later it is not zero any more */
} kinds[] = {
    {"anonymous", make_anonymous, area_unmap, COMMITTED | ZERO},
    {"anonymous, pinned", make_anonymous, area_unmap, COMMITTED | PINNED | ZERO},
    {"not committed", make_not_committed, area_unmap, ZERO},
    {"not committed, contents unknown", make_not_committed, area_unmap, 0},
    {"static buffer", make_static, keep, COMMITTED | ZERO},
    {"data buffer", make_data, keep, COMMITTED},
#ifdef MFD_CLOEXEC
    {"shared memory file", make_memory_file, area_unmap, COMMITTED | ZERO},
#endif
    {"shared file", make_shared_file, area_unmap, COMMITTED},
    {"private file", make_private_file, area_unmap, COMMITTED},
};
#define KINDS ((int)(sizeof kinds / sizeof kinds[0]))

/* All slices but those of the metadata, for one block. */
static void assert_whole_is_free(mi_heap_t *heap, mi_arena_id_t id) {
  size_t size = 0;
  mi_arena_area(id, &size);
  size = room_in((struct area){NULL, size});
  char *whole = mi_heap_calloc(heap, 1, size);
  ck_assert_ptr_nonnull(whole);
  ck_assert(bytes_are(whole, size, 0));
  ck_assert(mi_arena_contains(id, whole) && mi_arena_contains(id, whole + size - 1));
  memset(whole, 0xee, size);
  mi_free(whole);
}

static void use_kind(const struct kind *kind, struct area area, int how) {
  struct dice dice = dice_new(1);
  const mi_arena_id_t id = hand_over(area, how);
  mi_heap_t *heap = heap_in(id);
  const int64_t purged = stats_now().purged;
  for (int round = 0; round < 3; round++) {
    const size_t count = fill_up(heap, id, &dice);
    ck_assert_msg(count > 50, "%s: %zu blocks", kind->name, count);
    blocks_shuffle(count, &dice);
    blocks_free(count);
    mi_heap_collect(heap, true);
    if (round > 0) assert_whole_is_free(heap, id);
  }
  ck_assert_msg((stats_now().purged > purged) == ((how & PINNED) == 0), "%s", kind->name);
  mi_heap_destroy(heap);
  give_up(id);
  assert_no_errors();
}

START_TEST(memory_of_every_kind) {
  const struct kind *kind = &kinds[_i];
  struct area area = kind->make();
  use_kind(kind, area, kind->how);
  if ((kind->how & COMMITTED) == 0) {
    ck_assert_int_eq(mprotect(area.start, area.size, PROT_READ | PROT_WRITE), 0);
  }
  /* All of it is the owner's again, and may come back with anything in it. */
  memset(area.start, 0x77, area.size);
  ck_assert(bytes_are(area.start, area.size, 0x77));
  use_kind(kind, area, kind->how & ~ZERO);
  kind->drop(area);
}
END_TEST

START_TEST(zero_memory_is_not_touched_to_zero_it) {
  struct area area = area_touchable(8 * MiB);
  const mi_arena_id_t id = hand_over(area, COMMITTED | ZERO);
  mi_heap_t *heap = heap_in(id);
  char *large = mi_heap_calloc(heap, 1, 2 * MiB);
  ck_assert_uint_eq(resident_pages(large, 2 * MiB), 0);
  for (size_t i = 0; i < 100; i++) {
    blocks[i].start = mi_heap_calloc(heap, 2, 4096);
    ck_assert_uint_eq(resident_pages(blocks[i].start, 8192), 0);
  }
  ck_assert(bytes_are(large, 2 * MiB, 0)); /* only now: to read makes resident */
  for (size_t i = 0; i < 100; i++) ck_assert(bytes_are(blocks[i].start, 8192, 0));
  mi_heap_destroy(heap);
  give_up(id);
  area_unmap(area);
}
END_TEST

START_TEST(other_memory_is_zeroed) {
  /* What is not known to be zero is written, even if it is zero. */
  struct area area = area_touchable(8 * MiB);
  const mi_arena_id_t id = hand_over(area, COMMITTED);
  mi_heap_t *heap = heap_in(id);
  char *large = mi_heap_calloc(heap, 1, 2 * MiB);
  ck_assert_uint_eq(resident_pages(large, 2 * MiB), 2 * MiB / os_page_size());
  mi_heap_destroy(heap);
  give_up(id);
  area_unmap(area);
}
END_TEST

START_TEST(used_memory_is_zeroed_again) {
  struct area area = area_touchable(8 * MiB);
  const mi_arena_id_t id = hand_over(area, COMMITTED | ZERO);
  mi_heap_t *heap = heap_in(id);
  for (int forced = 0; forced < 2; forced++) { /* kept, and purged */
    static const size_t sizes[] = {40, 5000, 100000, 3 * MiB};
    for (size_t i = 0; i < 4; i++) {
      const size_t count = 5 * MiB / sizes[i]; /* more than half of the area */
      for (size_t j = 0; j < count; j++) {
        blocks[j].start = mi_heap_malloc(heap, sizes[i]);
        memset(blocks[j].start, 0xdd, sizes[i]);
      }
      blocks_free(count);
      mi_heap_collect(heap, forced != 0);
      for (size_t j = 0; j < count; j++) {
        blocks[j].start = mi_heap_calloc(heap, 1, sizes[i]);
        assert_quick(bytes_are(blocks[j].start, sizes[i], 0));
      }
      blocks_free(count);
      mi_heap_collect(heap, forced != 0);
    }
  }
  mi_heap_destroy(heap);
  give_up(id);
  area_unmap(area);
}
END_TEST

/* Free every other block, in a thread of its own. */
static void *free_every_other(void *count) {
  for (size_t i = 0; i < *(size_t *)count; i += 2) mi_free(blocks[i].start);
  return NULL;
}

static bool count_live(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                       size_t size, void *count) {
  (void)heap, (void)area, (void)size;
  *(size_t *)count += block != NULL;
  return true;
}

static size_t live_blocks(mi_heap_t *heap) {
  size_t count = 0;
  ck_assert(mi_heap_visit_blocks(heap, true, count_live, &count));
  return count;
}

START_TEST(old_contents_are_no_records) {
  /* Nothing that was in the memory is taken for what another thread has freed. */
  struct area area = area_touchable(8 * MiB);
  memset(area.start, 0xff, area.size);
  const mi_arena_id_t id = hand_over(area, COMMITTED);
  mi_heap_t *heap = heap_in(id);
  size_t count = 2000;
  for (size_t i = 0; i < count; i++) {
    block_put(i, mi_heap_malloc(heap, many_sizes[i % 5] + 8));
  }
  thread_run(free_every_other, &count);
  mi_heap_collect(heap, true);
  ck_assert_uint_eq(live_blocks(heap), count / 2);
  for (size_t i = 0; i < count; i += 2) {
    block_put(i, mi_heap_malloc(heap, many_sizes[i % 5] + 8));
  }
  blocks_check(count);
  ck_assert_uint_eq(live_blocks(heap), count);
  mi_heap_destroy(heap);
  give_up(id);
  area_unmap(area);
  assert_no_errors();
}
END_TEST

/* ---- roles: what needs a process of its own ---- */

#define EXIT_SKIPPED 77

static const char *program; /* argv[0] */

static void execute_role(void *name) {
  const char *path = access("/proc/self/exe", X_OK) == 0 ? "/proc/self/exe" : program;
  execl(path, program, (char *)name, (char *)NULL);
  _exit(127);
}

/* Run this program again in a role. Returns its wait status. A role returns 0, or the
 * number of the first step that went wrong: Check is not running there. */
static int role_run(const char *name) {
  return child_run(execute_role, (void *)(uintptr_t)name);
}

static void assert_role_succeeds(const char *name) {
  const int status = role_run(name);
  ck_assert_msg(WIFEXITED(status), "%s: status %#x", name, (unsigned)status);
  if (WEXITSTATUS(status) == EXIT_SKIPPED) return; /* it has said why */
  ck_assert_msg(WEXITSTATUS(status) == 0, "%s: step %d", name, WEXITSTATUS(status));
}

/* ---- no mapping calls ---- */

/* The numbers of system calls, and no other thread's, are known here. A sanitizer maps
 * memory for itself, and so do the threads of other C libraries. */
#if defined(__x86_64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif
#if defined(__linux__) && defined(__GLIBC__) && defined(THIS_ARCHITECTURE) && \
    defined(SECCOMP_FILTER_FLAG_TSYNC) && defined(SECCOMP_RET_KILL_PROCESS) && \
    !TEST_HAS_SHADOW
#define CAN_FORBID_MAPPINGS 1

/* From here on a call of this process that changes mappings ends it. Returns false when
 * the system does not filter calls. */
static bool forbid_mappings(void) {
#define KILL_IF(number, distance) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), (distance), 0)
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCHITECTURE, 0, 6),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      KILL_IF(SYS_mmap, 4),
      KILL_IF(SYS_munmap, 3),
      KILL_IF(SYS_mremap, 2),
      KILL_IF(SYS_brk, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
#undef KILL_IF
  const struct sock_fprog filter = {sizeof code / sizeof code[0], code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
                 &filter) == 0;
}

#define TENANT_SIZE (128 * MiB)

static pthread_barrier_t tenants_meet;
static void *exchanged[2][200];

struct link {
  struct link *next;
};
static struct link *chains[2];

struct tenant {
  mi_arena_id_t id;
  int number;
  int failed; /* the step, or 0 */
};

/* A block of each of many sizes and alignments, from both heaps. */
static bool take_all_sizes(mi_heap_t *const heaps[2]) {
  for (size_t size = 1; size <= MiB; size = size * 9 / 8 + 1) {
    char *p = mi_heap_malloc(heaps[size % 2], size);
    if (p == NULL) return false;
    memset(p, 1, size);
    mi_free(p);
  }
  for (size_t alignment = 16; alignment <= 2 * MiB; alignment *= 2) {
    char *p = mi_heap_zalloc_aligned(heaps[0], 3 * alignment / 2, alignment);
    if (p == NULL || (uintptr_t)p % alignment != 0) return false;
    if (!bytes_are(p, 3 * alignment / 2, 0)) return false;
    if (alignment % 64 == 0) mi_free(p); /* the others end with the heap */
  }
  return true;
}

/* Give blocks to the other thread and free what it gives. */
static bool exchange_blocks(const struct tenant *self, mi_heap_t *const heaps[2]) {
  for (size_t i = 0; i < 200; i++) {
    void *p = mi_heap_malloc(heaps[i % 2], i % 50 == 0 ? 200000 : 10 + i * 5);
    if (p == NULL) return false;
    exchanged[self->number][i] = p;
  }
  pthread_barrier_wait(&tenants_meet);
  for (size_t i = 0; i < 200; i++) mi_free(exchanged[1 - self->number][i]);
  return true;
}

/* Both allocate until there is nothing left, then each frees what the other has. */
static bool exhaust_together(const struct tenant *self, mi_heap_t *heap) {
  struct link *chain = NULL;
  size_t count = 0;
  for (struct link *p; (p = mi_heap_malloc(heap, 3000)) != NULL; count++) {
    p->next = chain;
    chain = p;
  }
  const bool told = errno == ENOMEM;
  chains[self->number] = chain;
  pthread_barrier_wait(&tenants_meet);
  for (struct link *p = chains[1 - self->number], *next; p != NULL; p = next) {
    next = p->next;
    mi_free(p);
  }
  pthread_barrier_wait(&tenants_meet);
  return told && count > 0;
}

static int tenant_life(const struct tenant *self) {
  mi_heap_t *heaps[2];
  heaps[0] = mi_heap_new_ex(0, true, self->id);
  heaps[1] = mi_heap_new_ex(0, false, self->id);
  if (heaps[0] == NULL || heaps[1] == NULL) return 1;
  if (!take_all_sizes(heaps)) return 2;
  if (!exchange_blocks(self, heaps)) return 3;
  if (!exhaust_together(self, heaps[1])) return 4;
  /* Left behind, for the other thread's next heap to adopt, or for nobody. */
  if (mi_heap_malloc(heaps[1], 500) == NULL) return 5;
  mi_heap_destroy(heaps[0]);
  mi_heap_delete(heaps[1]);
  mi_collect(true);
  return 0;
}

/* Meets the other thread as often whatever goes wrong. */
static void *tenant_run(void *argument) {
  struct tenant *self = argument;
  pthread_barrier_wait(&tenants_meet); /* the filter is there */
  for (int life = 0; life < 3; life++) {
    const int failed = tenant_life(self);
    if (failed != 0) _exit(10 * (life + 1) + failed);
  }
  return NULL;
}

static int role_tenants(int how) {
  errors_begin();
  struct area area =
      area_map(TENANT_SIZE, (how & COMMITTED) != 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
  mi_arena_id_t id;
  if (!try_hand_over(area, how, &id)) return 1;
  struct tenant tenants[2] = {{id, 0, 0}, {id, 1, 0}};
  pthread_barrier_init(&tenants_meet, NULL, 2);
  pthread_t other;
  if (pthread_create(&other, NULL, tenant_run, &tenants[1]) != 0) return 2;
  if (!forbid_mappings()) {
    /* The other thread waits for us; the process just ends. */
    static const char why[] = "no_mapping_calls skipped: the system filters no calls\n";
    if (write(STDOUT_FILENO, why, sizeof why - 1) < 0) return 3;
    _exit(EXIT_SKIPPED);
  }
  tenant_run(&tenants[0]);
  if (pthread_join(other, NULL) != 0) return 4;
  if (errors_total() != errors_of(ENOMEM)) return 5;
  return 0;
}

/* What the filter is for. */
static int role_maps_after_all(void) {
  if (!forbid_mappings()) return EXIT_SKIPPED;
  area_map(SLICE_SIZE, PROT_NONE);
  return 0;
}
#else
#define CAN_FORBID_MAPPINGS 0
static int role_tenants(int how) { return (void)how, 1; }
static int role_maps_after_all(void) { return 1; }
#endif

static bool can_forbid_mappings(void) {
  if (CAN_FORBID_MAPPINGS) return true;
  printf("no_mapping_calls skipped: %s\n",
         TEST_HAS_SHADOW ? "the sanitizer maps memory" : "calls cannot be filtered here");
  return false;
}

START_TEST(no_mapping_calls) {
  if (!can_forbid_mappings()) return;
  assert_role_succeeds(_i == 0 ? "tenants" : "tenants-not-committed");
}
END_TEST

START_TEST(a_mapping_call_would_be_seen) {
  if (!can_forbid_mappings()) return;
  const int status = role_run("maps-after-all");
  if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIPPED) return;
  ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}
END_TEST

/* ---- pinned memory ---- */

#define PINNED_SIZE (4 * MiB)

/* Fill and free blocks of many sizes. What was in them stays. */
static void assert_free_blocks_keep_contents(mi_heap_t *heap) {
  size_t count = 0;
  for (; count < 500; count++) {
    void *p = mi_heap_malloc(heap, many_sizes[count % (MANY_SIZES - 2)]);
    if (p == NULL) break;
    block_put(count, p);
  }
  ck_assert_uint_gt(count, 100);
  blocks_free(count);
  blocks_check(count);
  mi_collect(true);
  blocks_check(count);
}

static void assert_pinned_stays(struct area area, mi_heap_t *heap) {
  const size_t all = area.size / os_page_size();
  ck_assert_uint_eq(resident_pages(area.start, area.size), all);
  unsigned char *p = mi_heap_malloc(heap, MiB);
  memset(p, 0x5a, MiB);
  mi_free(p);
  ck_assert(bytes_are(p, MiB, 0x5a));
  mi_collect(true);
  ck_assert(bytes_are(p, MiB, 0x5a));
  assert_free_blocks_keep_contents(heap);
  errors_clear();
  ck_assert_uint_eq(resident_pages(area.start, area.size), all);
}

START_TEST(pinned_memory_stays) {
  const struct option_change delay = option_change(mi_option_purge_delay, 0);
  const struct option_change decommits = option_change(mi_option_purge_decommits, _i);
  destroy_idle_arenas(); /* the only purges would be ours */
  struct area area = area_touchable(PINNED_SIZE);
  memset(area.start, 0x11, area.size);
  const int64_t purges = stats_now().purge_calls;
  const mi_arena_id_t id = hand_over(area, PINNED); /* implies committed */
  mi_heap_t *heap = heap_in(id);
  assert_pinned_stays(area, heap);
  mi_heap_destroy(heap);
  heap = heap_in(id);
  assert_pinned_stays(area, heap);
  mi_heap_destroy(heap);
  give_up(id);
  ck_assert_uint_eq(resident_pages(area.start, area.size), area.size / os_page_size());
  ck_assert_int_eq(stats_now().purge_calls, purges);
  area_unmap(area);
  option_restore(decommits);
  option_restore(delay);
}
END_TEST

/* Guarded blocks in an arena. Returns whether a protection changed while they lived. */
static bool guards_protect(struct area area, int how) {
  const mi_arena_id_t id = hand_over(area, how);
  mi_heap_t *heap = heap_in(id);
  mi_heap_guarded_set_sample_rate(heap, 1, 0);
  bool changed = false;
  for (size_t size = 1; size <= 200000; size = size * 3 + 1) {
    char *p = mi_heap_malloc(heap, size);
    ck_assert_ptr_nonnull(p);
    memset(p, 1, size);
    changed |= !area_is_writable(area);
    if (size % 2 == 0) mi_free(p);
  }
  mi_heap_destroy(heap);
  ck_assert(area_is_writable(area)); /* what was protected is so no more */
  give_up(id);
  memset(area.start, 1, area.size);
  assert_no_errors();
  return changed;
}

START_TEST(pinned_memory_is_not_protected) {
  struct area area = area_touchable(PINNED_SIZE);
  ck_assert(!guards_protect(area, PINNED));
  ck_assert(!guards_protect(area, PINNED | COMMITTED));
  ck_assert(guards_protect(area, COMMITTED)); /* else the test would see nothing */
  area_unmap(area);
}
END_TEST

/* ---- NUMA nodes ---- */

struct text {
  char bytes[65536];
  size_t used, lines;
};

static void text_append(const char *piece, void *argument) {
  struct text *text = argument;
  for (; *piece != 0 && text->used < sizeof text->bytes - 1; piece++) {
    text->bytes[text->used++] = *piece;
    if (*piece == '\n') text->lines++;
  }
  text->bytes[text->used] = 0;
}

static struct text text;

/* The node that the map of an arena shows. */
static long shown_node(mi_arena_id_t id) {
  static const char key[] = "\"numa_node\": ";
  text = (struct text){.used = 0};
  ck_assert_int_eq(mirt_arena_map(id, text_append, &text), 0);
  const char *place = strstr(text.bytes, key);
  ck_assert_ptr_nonnull(place);
  return strtol(place + sizeof key - 1, NULL, 10);
}

START_TEST(the_node_is_remembered) {
  static const int nodes[] = {0, 1, 7, 63, 1023, 1024, 99999, INT_MAX, -1, -2, INT_MIN};
  struct area area = area_touchable(MiB);
  for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
    mi_arena_id_t id = 0;
    ck_assert(mi_manage_os_memory_ex(area.start, area.size, true, false, false, nodes[i],
                                     false, &id));
    ck_assert_int_eq(shown_node(id), nodes[i] < 0 ? -1 : nodes[i]);
    void *p = mi_malloc(100);
    ck_assert_ptr_nonnull(p);
    mi_free(p);
    mi_heap_t *heap = heap_in(id);
    ck_assert(mi_arena_contains(id, mi_heap_malloc(heap, 100)));
    mi_heap_destroy(heap);
    give_up(id);
  }
  area_unmap(area);
  assert_no_errors();
}
END_TEST

START_TEST(the_nearest_node_first) {
  /* As if there were one node, which is this thread's. */
  destroy_idle_arenas();
  const struct option_change one = option_change(mi_option_use_numa_nodes, 1);
  const struct option_change only = option_change(mi_option_disallow_os_alloc, 1);
  static const int nodes[] = {7, -1, 0}; /* handed over in the wrong order */
  struct area areas[3];
  mi_arena_id_t ids[3];
  for (int i = 0; i < 3; i++) {
    areas[i] = area_touchable(MiB);
    ck_assert(mi_manage_os_memory_ex(areas[i].start, MiB, true, false, true, nodes[i],
                                     false, &ids[i]));
  }
  size_t count = 0;
  for (int i = 2; i >= 0; i--) {
    for (size_t j = 0; j < room_in(areas[i]) / SLICE_SIZE; j++) {
      blocks[count].start = mi_malloc(SLICE_SIZE);
      ck_assert(lies_in(areas[i], blocks[count++].start));
    }
  }
  ck_assert_ptr_null(mi_malloc(SLICE_SIZE));
  assert_errors(ENOMEM, 1);
  blocks_free(count);
  option_restore(only);
  option_restore(one);
  for (int i = 0; i < 3; i++) {
    give_up(ids[i]);
    area_unmap(areas[i]);
  }
}
END_TEST

/* ---- areas that are refused ---- */

/* Handing an area over is refused as invalid, with an id of 0. */
static void assert_refused(const void *start, size_t size) {
  const struct area area = {(char *)(uintptr_t)start, size};
  mi_arena_id_t id = 77;
  ck_assert(!try_hand_over(area, 0, &id));
  ck_assert_int_eq(id, 0);
  assert_errors(EINVAL, 1);
}

START_TEST(an_area_with_a_small_block_is_refused) {
  char *p = mi_malloc(100);
  memset(p, 1, 100);
  char *slice = (char *)align_down((uintptr_t)p, SLICE_SIZE);
  assert_refused(p, MiB);
  assert_refused(slice, MiB);
  assert_refused(slice - MiB, MiB + SLICE_SIZE);
  ck_assert(bytes_are(p, 100, 1));
  mi_free(p);
  assert_no_errors();
}
END_TEST

START_TEST(an_area_with_a_large_block_is_refused) {
  destroy_idle_arenas();
  const struct option_change small = option_change(mi_option_arena_reserve, 8192);
  const size_t size = 6 * MiB; /* more than half an arena: a mapping of its own */
  char *p = mi_malloc(size);
  memset(p, 1, size);
  for (mi_arena_id_t id = 1; id < 100; id++) ck_assert(!mi_arena_contains(id, p));
  ck_assert(mi_is_in_heap_region(p + size - 1));
  assert_refused(p, size);
  assert_refused(p + MiB, MiB);
  assert_refused(p - MiB, MiB + SLICE_SIZE);
  assert_refused(p + size - SLICE_SIZE, MiB);
  assert_refused(p - MiB, size + 2 * MiB);
  ck_assert(bytes_are(p, size, 1));
  mi_free(p);
  ck_assert(!mi_is_in_heap_region(p));
  option_restore(small);
  assert_no_errors();
}
END_TEST

START_TEST(an_area_in_a_cage_is_refused) {
  /* Also where no block of the cage can lie: the whole reservation is the cage's. */
  const mirt_cage_options_t options = {.size = 64 * MiB};
  mirt_cage_t *cage;
  if (mirt_cage_create(&options, &cage) != 0) {
    printf("an_area_in_a_cage_is_refused skipped: no address space\n");
    return;
  }
  char *start = cage->reservation;
  size_t arena_size = 0;
  char *arena = mi_arena_area(cage->arena, &arena_size);
  assert_refused(arena, arena_size);
  assert_refused(arena + arena_size - SLICE_SIZE, MiB);
  assert_refused(arena + arena_size, MiB);
  assert_refused(start + GiB, MiB);
  assert_refused(start + cage->reserved - MiB, MiB);
  ck_assert_int_eq(mirt_cage_destroy(cage), 0);
}
END_TEST

#define RIVALS ((size_t)2)
#define RIVAL_ROUNDS TEST_ROUNDS(10000)
#define RIVAL_SIZE (256 * MiB) /* to describe it takes a while */

struct rival {
  struct area area;
  atomic_word *gate; /* how often rivals have come to it */
  size_t won, odd;
};

/* Wait for the other rivals, awake, so that all go on at the same time. */
static void gate_pass(const struct rival *self, size_t *passed) {
  *passed += RIVALS;
  atomic_fetch_add_full(self->gate, 1);
  for (size_t looks = 1; atomic_load_acquire(self->gate) < *passed; looks++) {
    if (looks % 10000 == 0) sched_yield();
  }
}

/* Hand the same area over as the others do, as often as they do. */
static void *hand_over_at_once(void *argument) {
  struct rival *self = argument;
  size_t passed = 0;
  for (int round = 0; round < RIVAL_ROUNDS; round++) {
    gate_pass(self, &passed);
    mi_arena_id_t id;
    const bool won = try_hand_over(self->area, COMMITTED, &id);
    self->won += won;
    if (!won && (id != 0 || errno != EINVAL)) self->odd++;
    gate_pass(self, &passed);
    if (won && mirt_arena_destroy(id) != 0) self->odd++;
  }
  return NULL;
}

START_TEST(one_of_two_wins) {
  /* The same area, and areas that share a slice. */
  struct area area = area_touchable(RIVAL_SIZE);
  atomic_word gate = 0;
  struct rival rivals[RIVALS];
  for (size_t i = 0; i < RIVALS; i++) {
    const size_t offset = i * (size_t)_i * (RIVAL_SIZE / 2 - SLICE_SIZE);
    rivals[i] = (struct rival){{area.start + offset, area.size - offset}, &gate, 0, 0};
  }
  if (_i != 0) rivals[0].area.size = RIVAL_SIZE / 2;
  threads_run(RIVALS, hand_over_at_once, rivals, sizeof rivals[0]);
  size_t won = 0;
  for (size_t i = 0; i < RIVALS; i++) {
    won += rivals[i].won;
    ck_assert_uint_eq(rivals[i].odd, 0);
  }
  ck_assert_uint_eq(won, (size_t)RIVAL_ROUNDS);
  assert_errors(EINVAL, won * (RIVALS - 1));
  area_unmap(area);
}
END_TEST

/* ---- messages ---- */

static struct option_change messages_begin(void) {
  mi_register_output(text_append, &text);
  return option_change(mi_option_max_errors, -1);
}

static void messages_end(struct option_change limit) {
  mi_register_output(output_discard, NULL);
  option_restore(limit);
}

/* One line was written, which names the function and a value. It is forgotten. */
static void assert_told(const char *function, const char *value) {
  ck_assert_msg(text.lines == 1, "%zu lines: %s", text.lines, text.bytes);
  ck_assert_int_eq(text.bytes[text.used - 1], '\n');
  ck_assert_msg(strstr(text.bytes, function) != NULL, "no %s: %s", function, text.bytes);
  ck_assert_msg(strstr(text.bytes, value) != NULL, "no %s: %s", value, text.bytes);
  text = (struct text){.used = 0};
}

static void assert_refusal_told(const void *start, size_t size) {
  char value[32];
  text = (struct text){.used = 0};
  assert_refused(start, size);
  struct text said = text;
  snprintf(value, sizeof value, "%p", start);
  assert_told("mi_manage_os_memory", value);
  text = said;
  snprintf(value, sizeof value, "%zu", size);
  assert_told("mi_manage_os_memory", value);
}

START_TEST(refusals_are_told_in_one_line) {
  struct area area = area_touchable(4 * MiB);
  const struct option_change limit = messages_begin();
  assert_refusal_told(NULL, MiB);
  assert_refusal_told(area.start, 0);
  assert_refusal_told(area.start, mi_arena_min_size() - 1);
  assert_refusal_told(area.start, SIZE_MAX);
  assert_refusal_told((void *)((uintptr_t)1 << ADDRESS_BITS), MiB);
  const mi_arena_id_t id = hand_over(area, COMMITTED);
  assert_refusal_told(area.start, area.size);
  assert_refusal_told(area.start + 1, area.size - 1);
  void *p = mi_malloc(100);
  assert_refusal_told(p, MiB);
  mi_free(p);
  give_up(id);
  ck_assert_uint_eq(text.used, 0); /* success is silent */
  messages_end(limit);
  area_unmap(area);
}
END_TEST

START_TEST(arenas_that_stay_are_told_in_one_line) {
  const struct option_change limit = messages_begin();
  const mi_arena_id_t id = reserve(MiB, true);
  mi_heap_t *heap = heap_in(id);
  char number[16];
  snprintf(number, sizeof number, "%d", id);
  text = (struct text){.used = 0};
  assert_busy(id);
  assert_told("mirt_arena_destroy", number);
  mi_heap_destroy(heap);
  give_up(id);
  assert_unknown_id(id);
  assert_told("mirt_arena_destroy", number);
  ck_assert_ptr_null(mi_heap_new_ex(0, true, id));
  assert_told("mi_heap_new_ex", number);
  ck_assert_int_eq(mirt_arena_map(id, NULL, NULL), EINVAL);
  assert_told("mirt_arena_map", number);
  ck_assert_int_eq(mi_reserve_os_memory(SIZE_MAX, false, false), EINVAL);
  assert_told("mi_reserve_os_memory", "18446744073709551615");
  messages_end(limit);
}
END_TEST

/* ---- the owner's memory again ---- */

START_TEST(an_area_comes_back_whole) {
  /* Whatever was done in it: blocks left by deleted heaps excepted, which keep it. */
  struct area area = area_touchable(4 * MiB);
  const int64_t mappings = stats_now().mmap_calls;
  for (int how = COMMITTED; how < 2 * FOR_ALL; how = (how + 1) | COMMITTED) {
    memset(area.start, 0, area.size);
    const mi_arena_id_t id = hand_over(area, how);
    mi_heap_t *heap = heap_in(id);
    mi_heap_guarded_set_sample_rate(heap, 3, 1);
    for (size_t i = 0; i < 50; i++) {
      ck_assert_ptr_nonnull(mi_heap_malloc(heap, many_sizes[i % 6]));
    }
    mi_heap_destroy(heap);
    give_up(id);
    ck_assert(area_is_writable(area));
    memset(area.start, how, area.size);
    mi_collect(true); /* nobody works on it any more */
    ck_assert(bytes_are(area.start, area.size, (unsigned char)how));
  }
  ck_assert_int_eq(stats_now().mmap_calls, mappings);
  area_unmap(area);
  mi_collect(true);
  assert_no_errors();
}
END_TEST

START_TEST(handed_over_ten_thousand_times) {
  struct area area = area_touchable(MiB);
  mi_collect(true);
  const mi_stats_t before = stats_now();
  mi_arena_id_t first = 0;
  for (int round = 0; round < TEST_ROUNDS(10000); round++) {
    const mi_arena_id_t id = hand_over(area, round == 0 ? COMMITTED | ZERO : COMMITTED);
    if (round == 0) first = id;
    assert_quick(id == first);
    mi_heap_t *heap = mi_heap_new_ex(round % 3, true, id);
    char *p = mi_heap_calloc(heap, 1, (size_t)1 << (round % 18));
    assert_quick(mi_arena_contains(id, p) && *p == 0);
    *p = 1;
    mi_heap_destroy(heap);
    assert_quick(mirt_arena_destroy(id) == 0);
  }
  const mi_stats_t after = stats_now();
  ck_assert_int_eq(after.arenas.current, before.arenas.current);
  ck_assert_int_eq(after.reserved.current, before.reserved.current);
  ck_assert_int_eq(after.committed.current, before.committed.current);
  ck_assert_int_eq(after.pages.current, before.pages.current);
  ck_assert_int_eq(after.page_bytes.current, before.page_bytes.current);
  ck_assert_int_eq(after.heaps.current, before.heaps.current);
  ck_assert_int_eq(after.mmap_calls, before.mmap_calls);
  area_unmap(area);
  assert_no_errors();
}
END_TEST

static struct area exit_area; /* must be there until the very end */

static void look_at_exit_area(void) {
  if (exit_area.start != NULL) memset(exit_area.start, 1, exit_area.size);
}

/* After all that atexit runs. */
__attribute__((destructor)) static void look_last(void) { look_at_exit_area(); }

/* The process ends with two heaps and their blocks in an area. */
static int role_heaps_until_exit(bool destroy) {
  errors_begin();
  mi_option_set(mi_option_destroy_on_exit, destroy);
  exit_area = area_touchable(8 * MiB);
  mi_arena_id_t id;
  if (!try_hand_over(exit_area, COMMITTED | ZERO | FOR_ALL, &id)) return 1;
  mi_heap_t *heaps[2];
  for (int i = 0; i < 2; i++) {
    heaps[i] = mi_heap_new_ex(i, i == 0, id);
    if (heaps[i] == NULL) return 2;
    for (size_t size = 1; size < 300000; size *= 3) {
      if (mi_heap_malloc(heaps[i], size) == NULL) return 3;
    }
  }
  if (mi_malloc(100) == NULL) return 4;
  return errors_total() == 0 ? 0 : 5;
}

static int role_heaps_destroyed_at_exit(void) { return role_heaps_until_exit(true); }
static int role_heaps_kept_at_exit(void) { return role_heaps_until_exit(false); }

/* An area that is unmapped before the process ends. */
static int role_unmapped_before_exit(void) {
  errors_begin();
  mi_option_set(mi_option_destroy_on_exit, 1);
  struct area area = area_touchable(4 * MiB);
  mi_arena_id_t id;
  if (!try_hand_over(area, COMMITTED | ZERO | FOR_ALL, &id)) return 1;
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  if (heap == NULL || mi_heap_malloc(heap, 1000) == NULL) return 2;
  void *p = mi_malloc(1000);
  if (!mi_arena_contains(id, p)) return 3;
  mi_free(p);
  mi_heap_destroy(heap);
  if (mirt_arena_destroy(id) != 0) return 4;
  if (munmap(area.start, area.size) != 0) return 5;
  if (mi_is_in_heap_region(p) || mi_usable_size(p) != 0) return 6;
  p = mi_malloc(1000); /* from elsewhere, and left there */
  if (p == NULL || lies_in(area, p)) return 7;
  mi_collect(true);
  return errors_total() == 0 ? 0 : 8;
}

START_TEST(process_ends_with_heaps_in_an_area) {
  assert_role_succeeds("heaps-destroyed-at-exit");
  assert_role_succeeds("heaps-kept-at-exit");
  assert_role_succeeds("unmapped-before-exit");
}
END_TEST

/* ---- giving an arena up ---- */

/* A thread that does one thing after the other, each when it is told, and lives on in
 * between. */
struct companion {
  pthread_t thread;
  pthread_barrier_t barrier;
  void (*task)(void *); /* NULL: end */
  void *argument;
};

static void *companion_live(void *argument) {
  struct companion *self = argument;
  for (;;) {
    pthread_barrier_wait(&self->barrier);
    if (self->task == NULL) return NULL;
    self->task(self->argument);
    pthread_barrier_wait(&self->barrier);
  }
}

static void companion_begin(struct companion *companion) {
  ck_assert_int_eq(pthread_barrier_init(&companion->barrier, NULL, 2), 0);
  ck_assert_int_eq(pthread_create(&companion->thread, NULL, companion_live, companion),
                   0);
}

static void companion_do(struct companion *companion, void (*task)(void *),
                         void *argument) {
  companion->task = task;
  companion->argument = argument;
  pthread_barrier_wait(&companion->barrier);
  pthread_barrier_wait(&companion->barrier);
}

static void companion_end(struct companion *companion) {
  companion->task = NULL;
  pthread_barrier_wait(&companion->barrier);
  ck_assert_int_eq(pthread_join(companion->thread, NULL), 0);
  pthread_barrier_destroy(&companion->barrier);
}

static void task_allocate(void *place) { *(void **)place = mi_malloc(1000); }
static void task_free(void *place) { mi_free(*(void **)place); }
static void task_collect(void *unused) {
  (void)unused;
  mi_collect(true);
}

/* An area that serves everybody and is the only one that does. */
struct shared_area {
  struct area area;
  mi_arena_id_t id;
  struct option_change only;
};

static struct shared_area shared_begin(size_t size) {
  destroy_idle_arenas();
  struct shared_area shared = {.area = area_touchable(size)};
  shared.only = option_change(mi_option_disallow_os_alloc, 1);
  shared.id = hand_over(shared.area, COMMITTED | ZERO | FOR_ALL);
  return shared;
}

static void shared_end(struct shared_area shared) {
  give_up(shared.id);
  option_restore(shared.only);
  area_unmap(shared.area);
}

/* After EBUSY everything goes on as before. */
static void assert_busy_but_working(mi_arena_id_t id) {
  assert_busy(id);
  char *p = mi_malloc(5000);
  ck_assert(mi_arena_contains(id, p));
  memset(p, 1, 5000);
  mi_free(p);
  mi_heap_t *heap = heap_in(id);
  ck_assert(mi_arena_contains(id, mi_heap_malloc(heap, 200000)));
  mi_heap_destroy(heap);
  assert_busy(id);
  assert_no_errors();
}

START_TEST(unknown_arenas_are_not_given_up) {
  static const mi_arena_id_t ids[] = {0,       -1,         INT_MIN,
                                      INT_MAX, ARENAS_MAX, ARENAS_MAX + 1};
  for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) assert_unknown_id(ids[i]);
  const mi_arena_id_t id = reserve(MiB, true);
  give_up(id);
  assert_unknown_id(id); /* twice */
}
END_TEST

START_TEST(the_arena_of_a_cage_is_not_given_up) {
  const mirt_cage_options_t options = {.size = MiB};
  mirt_cage_t *cage;
  if (mirt_cage_create(&options, &cage) != 0) {
    printf("the_arena_of_a_cage_is_not_given_up skipped: no address space\n");
    return;
  }
  assert_unknown_id(cage->arena);
  mi_heap_t *heap = heap_in(cage->arena);
  ck_assert(mi_arena_contains(cage->arena, mi_heap_malloc(heap, 1000)));
  assert_unknown_id(cage->arena);
  mi_heap_destroy(heap);
  ck_assert_int_eq(mirt_cage_destroy(cage), 0);
}
END_TEST

START_TEST(busy_with_a_heap) {
  for (int managed = 0; managed < 2; managed++) {
    struct area area = area_touchable(MiB);
    const mi_arena_id_t id =
        managed != 0 ? hand_over(area, COMMITTED) : reserve(MiB, true);
    mi_heap_t *heaps[2] = {heap_in(id), heap_in(id)};
    assert_busy(id);
    char *p = mi_heap_malloc(heaps[0], 1000);
    ck_assert(mi_arena_contains(id, p)); /* it goes on */
    mi_heap_destroy(heaps[0]);
    assert_busy(id);
    ck_assert(mi_arena_contains(id, mi_heap_malloc(heaps[1], 1000)));
    mi_heap_destroy(heaps[1]);
    give_up(id);
    area_unmap(area);
  }
  assert_no_errors();
}
END_TEST

START_TEST(busy_with_a_block_of_the_default_heap) {
  struct shared_area shared = shared_begin(4 * MiB);
  static const size_t sizes[] = {100, 20000, 500000};
  for (size_t i = 0; i < 3; i++) {
    unsigned char *p = mi_malloc(sizes[i]);
    ck_assert(mi_arena_contains(shared.id, p));
    memset(p, 3, sizes[i]);
    assert_busy_but_working(shared.id);
    ck_assert(bytes_are(p, sizes[i], 3));
    mi_free(p);
  }
  shared_end(shared); /* the pages that this thread keeps are no hindrance */
}
END_TEST

START_TEST(busy_with_a_block_of_an_ended_thread) {
  struct shared_area shared = shared_begin(4 * MiB);
  const int64_t abandoned = stats_now().pages_abandoned.current;
  struct companion companion;
  companion_begin(&companion);
  unsigned char *p;
  companion_do(&companion, task_allocate, &p);
  companion_end(&companion);
  ck_assert(mi_arena_contains(shared.id, p));
  ck_assert_int_eq(stats_now().pages_abandoned.current, abandoned + 1);
  memset(p, 3, 1000);
  assert_busy_but_working(shared.id);
  ck_assert(bytes_are(p, 1000, 3));
  mi_free(p);
  ck_assert_int_eq(stats_now().pages_abandoned.current, abandoned);
  shared_end(shared);
}
END_TEST

START_TEST(busy_with_a_page_of_a_living_thread) {
  struct shared_area shared = shared_begin(4 * MiB);
  struct companion companion;
  companion_begin(&companion);
  void *p;
  companion_do(&companion, task_allocate, &p);
  assert_busy_but_working(shared.id);
  companion_do(&companion, task_free, &p);
  assert_busy_but_working(shared.id); /* it keeps the page for its next allocation */
  companion_do(&companion, task_collect, NULL);
  give_up(shared.id);
  shared.id = hand_over(shared.area, COMMITTED | FOR_ALL);
  companion_do(&companion, task_allocate, &p);
  ck_assert(mi_arena_contains(shared.id, p));
  mi_free(p); /* from here: the page is the other's still */
  assert_busy_but_working(shared.id);
  companion_end(&companion);
  shared_end(shared);
}
END_TEST

START_TEST(busy_with_blocks_of_a_deleted_heap) {
  const mi_arena_id_t id = reserve(MiB, true);
  mi_heap_t *heap = heap_in(id);
  void *small = mi_heap_malloc(heap, 100), *large = mi_heap_malloc(heap, 200000);
  mi_heap_delete(heap);
  assert_busy(id);
  mi_free(small);
  assert_busy(id);
  mi_free(large);
  give_up(id);
  assert_no_errors();
}
END_TEST

START_TEST(ids_are_used_again) {
  mi_arena_id_t ids[4];
  for (int i = 0; i < 4; i++) ids[i] = reserve(MiB, true);
  give_up(ids[2]);
  give_up(ids[1]);
  ck_assert_int_eq(reserve(MiB, true), ids[1]);
  ck_assert_int_eq(reserve(MiB, true), ids[2]);
  for (int i = 0; i < 4; i++) give_up(ids[i]);
}
END_TEST

static void assert_is_nothing(void *p) {
  ck_assert(!mi_is_in_heap_region(p));
  ck_assert_uint_eq(mi_usable_size(p), 0);
  ck_assert_ptr_null(mi_heap_of(p));
  ck_assert(!mi_check_owned(p));
  mi_free(p);
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mi_realloc(p, 10));
  assert_errors(EINVAL, 1);
}

START_TEST(pointers_into_it_are_blocks_no_more) {
  for (int managed = 0; managed < 2; managed++) {
    struct area area = area_touchable(8 * MiB);
    const mi_arena_id_t id =
        managed != 0 ? hand_over(area, COMMITTED) : reserve(8 * MiB, true);
    char *start = mi_arena_area(id, NULL);
    mi_heap_t *heap = heap_in(id);
    for (size_t i = 0; i < MANY_SIZES; i++) {
      blocks[i].start = mi_heap_malloc(heap, many_sizes[i]);
      ck_assert_ptr_eq(mi_heap_of(blocks[i].start), heap);
    }
    mi_heap_destroy(heap);
    ck_assert(mi_is_in_heap_region(start));
    give_up(id);
    for (size_t i = 0; i < MANY_SIZES; i++) assert_is_nothing(blocks[i].start);
    assert_is_nothing(start);
    assert_is_nothing(start + 8 * MiB - 1);
    area_unmap(area);
  }
}
END_TEST

static void *give_up_elsewhere(void *id) {
  return (void *)(intptr_t)mirt_arena_destroy(*(mi_arena_id_t *)id);
}

START_TEST(any_thread_may_give_up) {
  /* Also one that never allocated. */
  mi_arena_id_t id = reserve(MiB, true);
  const int64_t arenas = stats_now().arenas.current;
  thread_run(give_up_elsewhere, &id);
  ck_assert_int_eq(stats_now().arenas.current, arenas - 1);
  assert_unknown_id(id);
}
END_TEST

/* ---- arenas that come and go beside threads that allocate ---- */

#define WORKERS ((size_t)3)
#define HELD ((size_t)24)
#define EXCHANGE ((size_t)32)
#define POOL ((size_t)6)

static atomic_word exchange[EXCHANGE];
static atomic_word work_is_over;
static atomic_word pool_tries; /* how often an arena was to come or go */

/* The first words of a block say how large it is and what else is in it. */
struct parcel {
  size_t size;
  size_t seal;
  unsigned char rest[];
};

#define PARCEL_MARGIN ((size_t)64) /* filled at both ends */

static size_t parcel_margin(const struct parcel *parcel) {
  const size_t rest = parcel->size - sizeof *parcel;
  return rest < PARCEL_MARGIN ? rest : PARCEL_MARGIN;
}

static struct parcel *parcel_new(struct dice *dice) {
  const size_t size =
      sizeof(struct parcel) + dice_roll(dice, (size_t)16 << dice_roll(dice, 14));
  struct parcel *parcel = mi_malloc(size);
  if (parcel == NULL) return NULL;
  parcel->size = size;
  parcel->seal = (uintptr_t)parcel ^ size;
  const size_t margin = parcel_margin(parcel);
  memset(parcel->rest, (int)(size & 0xff), margin);
  memset((char *)parcel + size - margin, (int)(size & 0xff), margin);
  return parcel;
}

/* Free a parcel. Returns whether all of it was as it had been. */
static bool parcel_end(struct parcel *parcel) {
  if (parcel == NULL) return true;
  const size_t size = parcel->size, margin = parcel_margin(parcel);
  const unsigned char value = (unsigned char)size;
  const bool intact = parcel->seal == ((uintptr_t)parcel ^ size) &&
                      bytes_are(parcel->rest, margin, value) &&
                      bytes_are((char *)parcel + size - margin, margin, value);
  mi_free(parcel);
  return intact;
}

struct worker {
  size_t number;
  size_t taken, refused, damaged;
};

static struct parcel *exchange_put(size_t place, struct parcel *parcel) {
  return (struct parcel *)atomic_exchange_full(&exchange[place], (uintptr_t)parcel);
}

/* From time to time a thread has no block, and no page. */
static void worker_clear(struct worker *self, struct parcel **held) {
  for (size_t i = 0; i < HELD; i++) {
    if (!parcel_end(held[i])) self->damaged++;
    held[i] = NULL;
  }
  for (size_t i = 0; i < EXCHANGE; i++) {
    if (!parcel_end(exchange_put(i, NULL))) self->damaged++;
  }
  mi_collect(true);
}

/* And stays so for a while, so that an arena can be empty now and then. */
static void worker_rest(struct worker *self, struct parcel **held, struct dice *dice) {
  worker_clear(self, held);
  const size_t until = atomic_load_relaxed(&pool_tries) + dice_roll(dice, 400);
  while (atomic_load_relaxed(&pool_tries) < until &&
         atomic_load_acquire(&work_is_over) == 0) {
    sched_yield();
  }
}

static void *work(void *argument) {
  struct worker *self = argument;
  struct dice dice = dice_new(self->number);
  struct parcel *held[HELD] = {NULL};
  for (size_t round = 1; atomic_load_acquire(&work_is_over) == 0; round++) {
    const size_t slot = dice_roll(&dice, HELD);
    if (round % 512 == 0) {
      worker_rest(self, held, &dice);
    } else if (held[slot] == NULL) {
      held[slot] = parcel_new(&dice);
      *(held[slot] == NULL ? &self->refused : &self->taken) += 1;
    } else if (dice_roll(&dice, 2) == 0) {
      if (!parcel_end(held[slot])) self->damaged++;
      held[slot] = NULL;
    } else {
      held[slot] = exchange_put(dice_roll(&dice, EXCHANGE), held[slot]);
    }
  }
  worker_clear(self, held);
  return NULL;
}

/* Look at each arena in vain. */
static void *want_too_much(void *argument) {
  size_t *tries = argument;
  for (; atomic_load_acquire(&work_is_over) == 0; ++*tries) {
    void *p = mi_malloc(GiB);
    if (p != NULL) abort(); /* the arenas are small, and there is nothing else */
  }
  return NULL;
}

/* What is there to come and go: areas to hand over, and sizes to reserve. */
struct pool {
  struct area areas[POOL / 2];
  mi_arena_id_t ids[POOL]; /* the first half in the areas; 0: not there */
  size_t gone, gone_used;  /* how often an arena went, and one that had been in use */
};

static void pool_come(struct pool *pool, size_t i, struct dice *dice) {
  if (i < POOL / 2) {
    pool->ids[i] = hand_over(pool->areas[i], COMMITTED | FOR_ALL);
  } else {
    pool->ids[i] = reserve((1 + dice_roll(dice, 40)) * SLICE_SIZE, false);
  }
}

static void pool_go(struct pool *pool, size_t i) {
  const bool used = atomic_load_relaxed(&arena_of_id(pool->ids[i])->top) != 0;
  const int error = mirt_arena_destroy(pool->ids[i]);
  if (error == 0) {
    pool->ids[i] = 0;
    pool->gone++;
    if (used) pool->gone_used++;
  } else {
    assert_quick(error == EBUSY);
  }
}

/* Let arenas come and go until enough of them have gone that were in use. */
static void pool_run(struct pool *pool, size_t enough) {
  struct dice dice = dice_new(99);
  while (pool->gone_used < enough) {
    const size_t tries = atomic_fetch_add_full(&pool_tries, 1);
    const size_t i = dice_roll(&dice, POOL);
    if (pool->ids[i] == 0) {
      pool_come(pool, i, &dice);
    } else {
      pool_go(pool, i);
    }
    assert_quick(tries < 20000000); /* else arenas in use could never be given up */
  }
}

static void pool_end(struct pool *pool) {
  for (size_t i = 0; i < EXCHANGE; i++) ck_assert(parcel_end(exchange_put(i, NULL)));
  mi_collect(true);
  errors_clear();
  for (size_t i = 0; i < POOL; i++) {
    if (pool->ids[i] != 0) give_up(pool->ids[i]);
  }
  for (size_t i = 0; i < POOL / 2; i++) area_unmap(pool->areas[i]);
}

START_TEST(arenas_come_and_go) {
  destroy_idle_arenas();
  const struct option_change only = option_change(mi_option_disallow_os_alloc, 1);
  atomic_store_release(&work_is_over, 0);
  atomic_store_release(&pool_tries, 0);
  struct pool pool = {.gone = 0};
  for (size_t i = 0; i < POOL / 2; i++) pool.areas[i] = area_touchable((i + 1) * MiB);
  struct worker workers[WORKERS];
  pthread_t threads[WORKERS];
  for (size_t i = 0; i < WORKERS; i++) {
    workers[i] = (struct worker){.number = i};
    ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
  }
  pthread_t looker;
  size_t tries = 0;
  ck_assert_int_eq(pthread_create(&looker, NULL, want_too_much, &tries), 0);
  pool_run(&pool, (size_t)TEST_ROUNDS(600));
  atomic_store_release(&work_is_over, 1);
  ck_assert_int_eq(pthread_join(looker, NULL), 0);
  ck_assert_uint_gt(tries, 0);
  for (size_t i = 0; i < WORKERS; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_uint_eq(workers[i].damaged, 0);
    ck_assert_uint_gt(workers[i].taken, 0);
  }
  ck_assert_uint_eq(errors_total(), errors_of(ENOMEM) + errors_of(EBUSY));
  pool_end(&pool);
  option_restore(only);
}
END_TEST

/* So many arenas are there at a time that those who look at all of them nearly always are
 * in the middle of it when one goes. */
#define PLACES ((size_t)48)
#define PLACE_SIZE (2 * MiB)

struct place {
  struct area area; /* to hand over, or none: the arena is reserved */
  mi_arena_id_t id;
  mi_heap_t *heap;
};

static struct place places[PLACES];
static atomic_word place_starts[PLACES]; /* what the others ask about */

#define ASKERS ((size_t)2)
#define ASK_ENOUGH ((size_t)TEST_ROUNDS(4000000))

struct asker {
  size_t number;
  size_t odd, found;
  atomic_word asked;
};

/* A word that is often in an arena, or was. */
static void *any_word(struct dice *dice) {
  const uint64_t word = dice_word(dice);
  switch (word % 4) {
    case 0: return (void *)(uintptr_t)(dice_word(dice) >> dice_roll(dice, 64));
    case 1:
      return (void *)(atomic_load_relaxed(&place_starts[(word >> 8) % PLACES]) +
                      (word >> 16) % (2 * PLACE_SIZE));
    default:
      return (void *)(atomic_load_relaxed(&place_starts[(word >> 8) % PLACES]) +
                      (word >> 16) % (8 * SLICE_SIZE));
  }
}

/* The thread's own blocks are always blocks, and nothing else ever is one of them. */
static bool answers_are_right(mi_heap_t *heap, char *own, char *freed, void *word) {
  const bool is_own = (uintptr_t)word - (uintptr_t)own < mi_usable_size(own);
  return mi_is_in_heap_region(own) && mi_heap_of(own) == heap &&
         mi_heap_contains_block(heap, own) && mi_heap_check_owned(heap, own + 50) &&
         !mi_heap_contains_block(heap, freed) &&
         mi_heap_contains_block(heap, word) == is_own && !mi_check_owned(word);
}

static void *ask(void *argument) {
  struct asker *self = argument;
  struct dice dice = dice_new(self->number);
  mi_heap_t *heap = mi_heap_new();
  char *own = mi_heap_malloc(heap, 100), *freed = mi_heap_malloc(heap, 100);
  mi_free(freed);
  while (atomic_load_acquire(&work_is_over) == 0) {
    void *word = any_word(&dice);
    if (!answers_are_right(heap, own, freed, word)) self->odd++;
    self->found += mi_is_in_heap_region(word) + (mi_heap_of(word) != NULL);
    atomic_store_release(&self->asked, atomic_load_relaxed(&self->asked) + 1);
  }
  mi_heap_destroy(heap);
  return NULL;
}

static void place_end(struct place *place) {
  if (place->id == 0) return;
  mi_heap_destroy(place->heap);
  assert_quick(mirt_arena_destroy(place->id) == 0);
  place->id = 0;
}

/* An arena with blocks of three sizes in it. */
static void place_begin(size_t i) {
  struct place *place = &places[i];
  place->id = place->area.start != NULL ? hand_over(place->area, COMMITTED)
                                        : reserve(PLACE_SIZE, true);
  atomic_store_release(&place_starts[i], (uintptr_t)mi_arena_area(place->id, NULL));
  place->heap = heap_in(place->id);
  for (size_t size = 50; size <= 500000; size *= 100) {
    assert_quick(mi_arena_contains(place->id, mi_heap_malloc(place->heap, size)));
  }
}

static void places_begin(struct area memory) {
  for (size_t i = 0; i < PLACES; i++) {
    places[i] = (struct place){.id = 0};
    if (i % 2 == 0) {
      places[i].area = (struct area){memory.start + i / 2 * PLACE_SIZE, PLACE_SIZE};
    }
    place_begin(i);
  }
}

/* Let some arenas go, and others come only then: in between nothing is mapped where those
 * lay that mirt had reserved. */
static void places_renew(size_t first, size_t count) {
  for (size_t i = 0; i < count; i++) place_end(&places[(first + i) % PLACES]);
  for (size_t i = 0; i < count; i++) place_begin((first + i) % PLACES);
}

static size_t asked_by_all(const struct asker *askers) {
  size_t asked = 0;
  for (size_t i = 0; i < ASKERS; i++) asked += atomic_load_acquire(&askers[i].asked);
  return asked;
}

START_TEST(questions_while_arenas_come_and_go) {
  atomic_store_release(&work_is_over, 0);
  struct area memory = area_touchable(PLACES / 2 * PLACE_SIZE);
  struct asker askers[ASKERS];
  pthread_t threads[ASKERS];
  places_begin(memory);
  for (size_t i = 0; i < ASKERS; i++) {
    askers[i] = (struct asker){.number = i};
    ck_assert_int_eq(pthread_create(&threads[i], NULL, ask, &askers[i]), 0);
  }
  /* Who waits for those that ask is slower the more they ask: count what they ask. */
  size_t round = 0;
  while (asked_by_all(askers) < ASK_ENOUGH || round < 10) places_renew(16 * round++, 16);
  atomic_store_release(&work_is_over, 1);
  for (size_t i = 0; i < ASKERS; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_uint_eq(askers[i].odd, 0);
  }
  for (size_t i = 0; i < PLACES; i++) place_end(&places[i]);
  area_unmap(memory);
  assert_no_errors();
}
END_TEST

/* Ids that one thread gives up come to another at once. */
#define LANDLORDS 4
#define LANDLORD_ROUNDS TEST_ROUNDS(8000)

struct landlord {
  struct area area;
  size_t unknown, twice, elsewhere, busy; /* what must not be */
};

static void landlord_turn(struct landlord *self, bool managed) {
  mi_arena_id_t id = 0, other = 0;
  if (managed) {
    if (!try_hand_over(self->area, COMMITTED, &id)) self->busy++;
  } else if (mi_reserve_os_memory_ex(MiB, false, false, true, &id) != 0) {
    self->busy++;
  }
  size_t size = 0;
  char *start = mi_arena_area(id, &size);
  if (!mi_is_in_heap_region(start) || !mi_is_in_heap_region(start + size - 1)) {
    self->unknown++;
  }
  if (try_hand_over((struct area){start, size}, COMMITTED, &other)) self->twice++;
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  char *p = heap == NULL ? NULL : mi_heap_malloc(heap, 1000);
  if ((size_t)(p - start) >= size) self->elsewhere++;
  mi_heap_destroy(heap);
  if (mirt_arena_destroy(id) != 0) self->busy++;
}

static void *rent_out(void *argument) {
  struct landlord *self = argument;
  for (int round = 0; round < LANDLORD_ROUNDS; round++) {
    landlord_turn(self, round % 2 == 0);
  }
  return NULL;
}

START_TEST(arenas_of_several_threads_do_not_mix) {
  struct landlord landlords[LANDLORDS];
  for (size_t i = 0; i < LANDLORDS; i++)
    landlords[i] = (struct landlord){.area = area_touchable(MiB)};
  threads_run(LANDLORDS, rent_out, landlords, sizeof landlords[0]);
  for (size_t i = 0; i < LANDLORDS; i++) {
    const struct landlord *landlord = &landlords[i];
    ck_assert_uint_eq(landlord->unknown, 0);
    ck_assert_uint_eq(landlord->twice, 0);
    ck_assert_uint_eq(landlord->elsewhere, 0);
    ck_assert_uint_eq(landlord->busy, 0);
    area_unmap(landlord->area);
  }
  assert_errors(
      EINVAL,
      (size_t)(LANDLORDS * LANDLORD_ROUNDS)); /* the areas that were there already */
}
END_TEST

/* ---- who takes memory from where ---- */

#define LEFT_COUNT ((size_t)100)
#define LEFT_SIZE ((size_t)1000)

static void *left_blocks[LEFT_COUNT];

/* Leave live blocks in an arena when the thread ends; 0: from the default heap. */
static void *leave_blocks(void *argument) {
  const mi_arena_id_t id = *(mi_arena_id_t *)argument;
  mi_heap_t *heap = id == 0 ? mi_heap_get_default() : mi_heap_new_in_arena(id);
  for (size_t i = 0; i < LEFT_COUNT; i++) {
    left_blocks[i] = mi_heap_malloc(heap, LEFT_SIZE);
  }
  return NULL;
}

static void leave_blocks_in(mi_arena_id_t id) {
  const int64_t abandoned = stats_now().pages_abandoned.current;
  thread_run(leave_blocks, &id);
  ck_assert_int_gt(stats_now().pages_abandoned.current, abandoned);
  for (size_t i = 0; i < LEFT_COUNT; i++) {
    ck_assert(id == 0 || mi_arena_contains(id, left_blocks[i]));
  }
}

static void free_left_blocks(void) {
  for (size_t i = 0; i < LEFT_COUNT; i++) mi_free(left_blocks[i]);
}

/* Allocate many blocks of the size that was left elsewhere. Returns how many lie in the
 * arena. They are freed. */
static size_t blocks_in_arena(mi_heap_t *heap, mi_arena_id_t id) {
  size_t inside = 0;
  for (size_t i = 0; i < 1000; i++) {
    blocks[i].start = mi_heap_malloc(heap, LEFT_SIZE);
    ck_assert_ptr_nonnull(blocks[i].start);
    inside += mi_arena_contains(id, blocks[i].start);
  }
  blocks_free(1000);
  return inside;
}

START_TEST(pages_in_an_exclusive_arena_are_for_its_heaps) {
  const mi_arena_id_t id = reserve(8 * MiB, true), other = reserve(8 * MiB, true);
  leave_blocks_in(id);
  const int64_t adopted = stats_now().pages_adopted;
  ck_assert_uint_eq(blocks_in_arena(mi_heap_get_default(), id), 0);
  mi_heap_t *heap = mi_heap_new_ex(0, false, 0);
  ck_assert_uint_eq(blocks_in_arena(heap, id), 0);
  mi_heap_delete(heap);
  heap = mi_heap_new_in_arena(other);
  ck_assert_uint_eq(blocks_in_arena(heap, id), 0);
  mi_heap_delete(heap);
  ck_assert_int_eq(stats_now().pages_adopted, adopted);
  heap = mi_heap_new_in_arena(id);
  ck_assert_uint_eq(blocks_in_arena(heap, id), 1000);
  ck_assert_int_gt(stats_now().pages_adopted, adopted);
  free_left_blocks();
  mi_heap_delete(heap);
  give_up(id);
  give_up(other);
  assert_no_errors();
}
END_TEST

START_TEST(a_bound_heap_adopts_nothing_from_elsewhere) {
  struct shared_area shared = shared_begin(4 * MiB);
  leave_blocks_in(0);
  ck_assert(mi_arena_contains(shared.id, left_blocks[0]));
  const int64_t adopted = stats_now().pages_adopted;
  const mi_arena_id_t ids[] = {reserve(8 * MiB, true), reserve(8 * MiB, false)};
  for (int i = 0; i < 2; i++) {
    mi_heap_t *heap = mi_heap_new_in_arena(ids[i]);
    ck_assert_uint_eq(blocks_in_arena(heap, ids[i]), 1000);
    mi_heap_delete(heap);
    give_up(ids[i]);
  }
  ck_assert_int_eq(stats_now().pages_adopted, adopted);
  ck_assert_uint_eq(blocks_in_arena(mi_heap_get_default(), shared.id), 1000);
  ck_assert_int_gt(stats_now().pages_adopted, adopted); /* the default heap does */
  free_left_blocks();
  shared_end(shared);
}
END_TEST

START_TEST(arenas_for_all_come_before_the_system) {
  /* Twice the same: the first time makes the records of the default heap. */
  void *p = mi_malloc(LEFT_SIZE);
  mi_free(p);
  for (int round = 0; round < 2; round++) {
    destroy_idle_arenas();
    const struct area area = area_touchable(4 * MiB);
    const mi_arena_id_t id = hand_over(area, COMMITTED | ZERO | FOR_ALL);
    const int64_t mappings = stats_now().mmap_calls;
    const size_t count =
        room_in(area) / SLICE_SIZE * (SLICE_SIZE / mi_good_size(LEFT_SIZE));
    for (size_t i = 0; i < count; i++) {
      blocks[i].start = mi_malloc(LEFT_SIZE);
      ck_assert(mi_arena_contains(id, blocks[i].start));
    }
    if (round > 0) ck_assert_int_eq(stats_now().mmap_calls, mappings);
    p = mi_malloc(LEFT_SIZE); /* it is full */
    ck_assert_ptr_nonnull(p);
    ck_assert(!mi_arena_contains(id, p));
    mi_free(p);
    blocks_free(count);
    give_up(id);
    area_unmap(area);
  }
  assert_no_errors();
}
END_TEST

START_TEST(nothing_but_arenas_when_the_system_is_not_allowed) {
  struct shared_area shared = shared_begin(2 * MiB);
  const int64_t mappings = stats_now().mmap_calls;
  static const size_t sizes[] = {SLICE_SIZE, 128 * KiB, 300 * KiB};
  for (size_t i = 0; i < 3; i++) {
    size_t count = 0;
    for (;; count++) {
      errno = 0;
      blocks[count].start = mi_malloc(sizes[i]);
      if (blocks[count].start == NULL) break;
      ck_assert(mi_arena_contains(shared.id, blocks[count].start));
    }
    ck_assert_int_eq(errno, ENOMEM);
    ck_assert_uint_ge((count + 1) * align_up(sizes[i], SLICE_SIZE), room_in(shared.area));
    ck_assert_ptr_null(mi_malloc(GiB)); /* no mapping of its own either */
    ck_assert_ptr_null(mi_malloc_aligned(100, 2 * GiB));
    assert_errors(ENOMEM, 3);
    mi_free(blocks[--count].start);
    void *again = mi_malloc(sizes[i]);
    ck_assert_ptr_eq(again, blocks[count].start);
    blocks_free(count + 1);
    mi_collect(true);
  }
  ck_assert_int_eq(stats_now().mmap_calls, mappings);
  shared_end(shared);
}
END_TEST

START_TEST(only_automatic_arenas_when_others_are_not_allowed) {
  destroy_idle_arenas();
  const struct area area = area_touchable(4 * MiB);
  const mi_arena_id_t ids[] = {hand_over(area, COMMITTED | FOR_ALL),
                               reserve(4 * MiB, false)};
  const struct option_change automatic = option_change(mi_option_disallow_arena_alloc, 1);
  mi_heap_t *heap = mi_heap_new();
  for (int i = 0; i < 2; i++) {
    ck_assert_uint_eq(blocks_in_arena(mi_heap_get_default(), ids[i]), 0);
    ck_assert_uint_eq(blocks_in_arena(heap, ids[i]), 0);
    void *large = mi_malloc(MiB);
    ck_assert(!mi_arena_contains(ids[i], large));
    mi_free(large);
    mi_heap_t *bound = heap_in(ids[i]); /* that is another matter */
    ck_assert_uint_eq(blocks_in_arena(bound, ids[i]), 1000);
    mi_heap_destroy(bound);
  }
  mi_heap_destroy(heap);
  /* Allowed again, the first arena is used before the automatic one. */
  option_restore(automatic);
  mi_collect(true);
  ck_assert_uint_eq(blocks_in_arena(mi_heap_get_default(), ids[0]), 1000);
  for (int i = 0; i < 2; i++) give_up(ids[i]);
  area_unmap(area);
  assert_no_errors();
}
END_TEST

START_TEST(pages_of_others_are_not_adopted_when_not_allowed) {
  struct shared_area shared = shared_begin(4 * MiB);
  leave_blocks_in(0);
  option_restore(shared.only);
  const struct option_change automatic = option_change(mi_option_disallow_arena_alloc, 1);
  ck_assert_uint_eq(blocks_in_arena(mi_heap_get_default(), shared.id), 0);
  option_restore(automatic);
  free_left_blocks();
  shared_end(shared);
}
END_TEST

START_TEST(no_arena_is_left_when_neither_is_allowed) {
  struct shared_area shared = shared_begin(2 * MiB);
  const struct option_change automatic = option_change(mi_option_disallow_arena_alloc, 1);
  ck_assert_ptr_null(mi_malloc(100));
  assert_errors(ENOMEM, 1);
  mi_heap_t *heap = heap_in(shared.id);
  ck_assert(mi_arena_contains(shared.id, mi_heap_malloc(heap, 100)));
  mi_heap_destroy(heap);
  option_restore(automatic);
  shared_end(shared);
}
END_TEST

/* ---- main ---- */

static int role_committed_tenants(void) { return role_tenants(COMMITTED | ZERO); }
static int role_uncommitted_tenants(void) { return role_tenants(0); }

static const struct {
  const char *name;
  int (*run)(void);
} roles[] = {
    {"tenants", role_committed_tenants},
    {"tenants-not-committed", role_uncommitted_tenants},
    {"maps-after-all", role_maps_after_all},
    {"heaps-destroyed-at-exit", role_heaps_destroyed_at_exit},
    {"heaps-kept-at-exit", role_heaps_kept_at_exit},
    {"unmapped-before-exit", role_unmapped_before_exit},
};

int main(int argc, char **argv) {
  program = argv[0];
  for (size_t i = 0; argc == 2 && i < sizeof roles / sizeof roles[0]; i++) {
    if (strcmp(argv[1], roles[i].name) == 0) return roles[i].run();
  }
  Suite *suite = suite_create("managed");
  TCase *c = case_begin(suite, "kinds");
  tcase_add_loop_test(c, memory_of_every_kind, 0, KINDS);
  tcase_add_test(c, zero_memory_is_not_touched_to_zero_it);
  tcase_add_test(c, other_memory_is_zeroed);
  tcase_add_test(c, used_memory_is_zeroed_again);
  tcase_add_test(c, old_contents_are_no_records);
  c = case_begin(suite, "no mapping calls");
  tcase_add_loop_test(c, no_mapping_calls, 0, 2);
  tcase_add_test(c, a_mapping_call_would_be_seen);
  c = case_begin(suite, "pinned");
  tcase_add_loop_test(c, pinned_memory_stays, 0, 2);
  tcase_add_test(c, pinned_memory_is_not_protected);
  c = case_begin(suite, "nodes");
  tcase_add_test(c, the_node_is_remembered);
  tcase_add_test(c, the_nearest_node_first);
  c = case_begin(suite, "refused");
  tcase_add_test(c, an_area_with_a_small_block_is_refused);
  tcase_add_test(c, an_area_with_a_large_block_is_refused);
  tcase_add_test(c, an_area_in_a_cage_is_refused);
  tcase_add_loop_test(c, one_of_two_wins, 0, 2);
  tcase_add_test(c, refusals_are_told_in_one_line);
  tcase_add_test(c, arenas_that_stay_are_told_in_one_line);
  c = case_begin(suite, "the owner's again");
  tcase_add_test(c, an_area_comes_back_whole);
  tcase_add_test(c, handed_over_ten_thousand_times);
  tcase_add_test(c, process_ends_with_heaps_in_an_area);
  c = case_begin(suite, "given up");
  tcase_add_test(c, unknown_arenas_are_not_given_up);
  tcase_add_test(c, the_arena_of_a_cage_is_not_given_up);
  tcase_add_test(c, busy_with_a_heap);
  tcase_add_test(c, busy_with_a_block_of_the_default_heap);
  tcase_add_test(c, busy_with_a_block_of_an_ended_thread);
  tcase_add_test(c, busy_with_a_page_of_a_living_thread);
  tcase_add_test(c, busy_with_blocks_of_a_deleted_heap);
  tcase_add_test(c, ids_are_used_again);
  tcase_add_test(c, pointers_into_it_are_blocks_no_more);
  tcase_add_test(c, any_thread_may_give_up);
  c = case_begin(suite, "beside threads");
  tcase_add_test(c, arenas_come_and_go);
  tcase_add_test(c, questions_while_arenas_come_and_go);
  tcase_add_test(c, arenas_of_several_threads_do_not_mix);
  c = case_begin(suite, "who takes");
  tcase_add_test(c, pages_in_an_exclusive_arena_are_for_its_heaps);
  tcase_add_test(c, a_bound_heap_adopts_nothing_from_elsewhere);
  tcase_add_test(c, arenas_for_all_come_before_the_system);
  tcase_add_test(c, nothing_but_arenas_when_the_system_is_not_allowed);
  tcase_add_test(c, only_automatic_arenas_when_others_are_not_allowed);
  tcase_add_test(c, pages_of_others_are_not_adopted_when_not_allowed);
  tcase_add_test(c, no_arena_is_left_when_neither_is_allowed);
  return suite_run(suite);
}
