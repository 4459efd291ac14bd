/* test_arena.c - arenas: reserving and handing over memory, who may take from where, what
 * happens when it is used up or given back; the page map; the zones of records. */
#include "test.h"

#include <sys/mman.h>

#include "arena/arena.h"
#include "arena/page_map.h"
#include "arena/zone.h"
#include "base/bits.h"
#include "heap/size_class.h"
#include "os/os.h"

#define BLOCKS_MAX 40000

/* ---- helpers ---- */

/* Memory as a runtime would have it before handing it over; with a slice on both sides
 * that cannot be touched, so that what mirt does stays inside. */
struct area {
  char *start;
  size_t size;
};

static struct area area_map(size_t size, size_t offset, int protection) {
  const size_t guard = SLICE_SIZE;
  const size_t whole = size + 4 * SLICE_SIZE;
  char *p =
      mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ck_assert_ptr_ne(p, MAP_FAILED);
  char *start = (char *)align_up((uintptr_t)p + guard, SLICE_SIZE) + offset;
  char *low = (char *)align_down((uintptr_t)start, os_page_size());
  char *high = (char *)align_up((uintptr_t)start + size, os_page_size());
  ck_assert_int_eq(mprotect(low, (size_t)(high - low), protection), 0);
  return (struct area){start, size};
}

static struct area area_touchable(size_t size) {
  return area_map(size, 0, PROT_READ | PROT_WRITE);
}

/* The area belongs to the arena: it is the area's whole slices. */
static void assert_area_of(mi_arena_id_t id, struct area area) {
  size_t size = 0;
  char *start = mi_arena_area(id, &size);
  ck_assert_ptr_eq(start, (char *)align_up((uintptr_t)area.start, SLICE_SIZE));
  ck_assert_ptr_eq(start + size,
                   (char *)align_down((uintptr_t)area.start + area.size, SLICE_SIZE));
}

static mi_arena_id_t arena_reserved(size_t size, bool commit, bool exclusive) {
  mi_arena_id_t id = 0;
  ck_assert_int_eq(mi_reserve_os_memory_ex(size, commit, false, exclusive, &id), 0);
  ck_assert_int_gt(id, 0);
  return id;
}

static mi_arena_id_t arena_managed(struct area area, bool committed, bool pinned,
                                   bool zero) {
  mi_arena_id_t id = 0;
  ck_assert(mi_manage_os_memory_ex(area.start, area.size, committed, pinned, zero, -1,
                                   true, &id));
  ck_assert_int_gt(id, 0);
  assert_area_of(id, area);
  return id;
}

static mi_heap_t *heap_in(mi_arena_id_t id) {
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  ck_assert_ptr_nonnull(heap);
  return heap;
}

/* Allocate until NULL, into an array. Returns how many. Checks that each block lies in
 * the arena, holds what is written to it, and that the end of memory is reported. */
static size_t exhaust(mi_heap_t *heap, mi_arena_id_t id, size_t size, void **blocks) {
  size_t count = 0;
  errors_clear();
  errno = 0;
  for (;; count++) {
    assert_quick(count < BLOCKS_MAX);
    char *p = mi_heap_malloc(heap, size);
    if (p == NULL) break;
    assert_quick(mi_arena_contains(id, p) && mi_arena_contains(id, p + size - 1));
    *(size_t *)(void *)p = count;
    p[size - 1] = (char)count;
    blocks[count] = p;
  }
  ck_assert_int_eq(errno, ENOMEM);
  assert_errors(ENOMEM, 1);
  for (size_t i = 0; i < count; i++) {
    const char *p = blocks[i];
    assert_quick(p[size - 1] == (char)i);
    assert_quick(size <= sizeof(size_t) || *(const size_t *)blocks[i] == i);
  }
  return count;
}

static void free_all(void **blocks, size_t count) {
  for (size_t i = 0; i < count; i++) mi_free(blocks[i]);
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

/* Pages in use when the calling thread holds none that it does not need. */
static int64_t pages_settled(void) {
  mi_collect(true);
  return pages_now();
}

static void *blocks[BLOCKS_MAX];

/* ---- reserving ---- */

START_TEST(reserve_good) {
  static const size_t sizes[] = {1, SLICE_SIZE, 3 * SLICE_SIZE + 1, 2 * MiB, 100 * MiB};
  ck_assert_uint_eq(mi_arena_min_alignment(), SLICE_SIZE);
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    for (int commit = 0; commit < 2; commit++) {
      const mi_arena_id_t id = arena_reserved(sizes[i], commit != 0, true);
      size_t size = 0;
      char *start = mi_arena_area(id, &size);
      ck_assert_ptr_nonnull(start);
      ck_assert_ptr_eq(mi_arena_area(id, NULL), start);
      ck_assert_uint_eq((uintptr_t)start % mi_arena_min_alignment(), 0);
      ck_assert_uint_eq(size, align_up(sizes[i], SLICE_SIZE));
      ck_assert(mi_arena_contains(id, start));
      ck_assert(mi_arena_contains(id, start + size - 1));
      ck_assert(!mi_arena_contains(id, start + size));
      ck_assert(!mi_arena_contains(id, start - 1));
      ck_assert(!mi_arena_contains(id, NULL));
      ck_assert(mi_is_in_heap_region(start));
      mi_heap_t *heap = heap_in(id);
      char *p = mi_heap_malloc(heap, 100);
      ck_assert(mi_arena_contains(id, p));
      memset(p, 1, 100);
      mi_heap_destroy(heap);
    }
  }
  ck_assert_int_eq(mi_reserve_os_memory(8 * MiB, false, false), 0);
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MiB, true, true, false, NULL), 0);
  assert_no_errors();
}
END_TEST

START_TEST(reserve_bad) {
  static const size_t sizes[] = {
      0, SIZE_MAX, SIZE_MAX - SLICE_SIZE, (size_t)1 << 63, PTRDIFF_MAX, (size_t)1 << 62};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    mi_arena_id_t id = 77;
    const int error = mi_reserve_os_memory_ex(sizes[i], false, false, true, &id);
    ck_assert_msg(error == EINVAL || error == ENOMEM, "size %zu: %d", sizes[i], error);
    ck_assert_int_eq(id, 0);
    assert_errors(error, 1);
    ck_assert_int_eq(mi_reserve_os_memory(sizes[i], true, false), error);
    assert_errors(error, 1);
  }
}
END_TEST

START_TEST(reserve_huge_pages) {
  /* Whether the system has any or not: what is promised can be touched. */
  mi_arena_id_t id = 77;
  const int error = mi_reserve_huge_os_pages_at_ex(1, 0, 100, true, &id);
  if (error == 0) {
    touch_write(mi_arena_area(id, NULL)); /* not in a child: it would need a page more */
  } else {
    ck_assert(error == ENOMEM || error == ETIMEDOUT);
    ck_assert_int_eq(id, 0);
    assert_errors(error, 1);
  }
  ck_assert_int_ne(mi_reserve_huge_os_pages_at((size_t)1 << 40, 0, 100), 0);
  ck_assert_int_ne(mi_reserve_huge_os_pages_interleave((size_t)1 << 40, 0, 100), 0);
  size_t pages = 77;
  ck_assert_int_ne(mi_reserve_huge_os_pages((size_t)1 << 40, 0.1, &pages), 0);
  ck_assert_uint_eq(pages, 0);
}
END_TEST

START_TEST(ids_that_do_not_exist) {
  static const mi_arena_id_t ids[] = {0,         -1,         INT32_MIN,
                                      INT32_MAX, ARENAS_MAX, ARENAS_MAX + 1};
  for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
    size_t size = 77;
    ck_assert_ptr_null(mi_arena_area(ids[i], &size));
    ck_assert_uint_eq(size, 0);
    ck_assert_ptr_null(mi_arena_area(ids[i], NULL));
    ck_assert(!mi_arena_contains(ids[i], blocks));
    ck_assert(!mi_arena_contains(ids[i], NULL));
    assert_no_errors();
    if (ids[i] == 0) continue;
    ck_assert_ptr_null(mi_heap_new_ex(0, true, ids[i]));
    assert_errors(EINVAL, 1);
    ck_assert_ptr_null(mi_heap_new_in_arena(ids[i]));
    assert_errors(EINVAL, 1);
  }
}
END_TEST

static void append_text(const char *text, void *argument) {
  char *all = argument;
  const size_t used = strlen(all);
  snprintf(all + used, 65536 - used, "%s", text);
}

START_TEST(arenas_are_shown) {
  static char text[65536];
  text[0] = 0;
  const mi_arena_id_t id = arena_reserved(MiB, false, true);
  char base[32];
  snprintf(base, sizeof base, "%p", mi_arena_area(id, NULL));
  mi_register_output(append_text, text);
  mi_arenas_print();
  ck_assert_msg(strstr(text, base) != NULL, "printed %s", text);
  text[0] = 0;
  mi_debug_show_arenas();
  ck_assert_msg(strstr(text, base) != NULL, "printed %s", text);
}
END_TEST

/* ---- handing memory over ---- */

START_TEST(manage_aligned) {
  const mi_arena_id_t id = arena_managed(area_touchable(2 * MiB), true, false, true);
  mi_heap_t *heap = heap_in(id);
  ck_assert(mi_arena_contains(id, heap)); /* records lie inside */
  ck_assert(mi_arena_contains(id, mi_heap_malloc(heap, 1)));
  mi_heap_destroy(heap);
  assert_no_errors();
}
END_TEST

START_TEST(manage_unaligned) {
  /* Any start and size: only whole slices are used, nothing beside them is touched. */
  static const size_t offsets[] = {1, 16, 4096, SLICE_SIZE - 1, SLICE_SIZE / 2};
  for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
    struct area area = area_map(MiB + 5 * i, offsets[i], PROT_READ | PROT_WRITE);
    char *first = (char *)align_up((uintptr_t)area.start, SLICE_SIZE);
    char *last = (char *)align_down((uintptr_t)area.start + area.size, SLICE_SIZE);
    const size_t before = (size_t)(first - area.start);
    const size_t after = (size_t)(area.start + area.size - last);
    memset(area.start, 0xee, area.size);
    const mi_arena_id_t id = arena_managed(area, true, false, false);
    mi_heap_t *heap = heap_in(id);
    exhaust(heap, id, 1000, blocks);
    mi_heap_destroy(heap);
    mi_collect(true);
    ck_assert(bytes_are(area.start, before, 0xee));
    ck_assert(bytes_are(last, after, 0xee));
  }
}
END_TEST

START_TEST(manage_smallest) {
  /* The smallest size is enough wherever the area begins, and gives at least a block. */
  const size_t size = mi_arena_min_size();
  ck_assert_uint_ge(size, SLICE_SIZE);
  for (size_t offset = 0; offset < SLICE_SIZE; offset += SLICE_SIZE / 4) {
    struct area area = area_map(size, offset + (offset != 0), PROT_READ | PROT_WRITE);
    const mi_arena_id_t id = arena_managed(area, true, false, true);
    mi_heap_t *heap = heap_in(id);
    ck_assert_uint_gt(exhaust(heap, id, 16, blocks), 0);
    mi_heap_destroy(heap);
  }
}
END_TEST

START_TEST(manage_too_small) {
  struct area area = area_touchable(16 * SLICE_SIZE);
  memset(area.start, 0xee, area.size);
  for (size_t size = 0; size < mi_arena_min_size(); size += SLICE_SIZE / 2) {
    mi_arena_id_t id = 77;
    ck_assert_msg(
        !mi_manage_os_memory_ex(area.start, size, true, false, false, -1, true, &id),
        "%zu bytes of at least %zu", size, mi_arena_min_size());
    ck_assert_int_eq(id, 0);
    assert_errors(EINVAL, 1);
  }
  ck_assert(bytes_are(area.start, area.size, 0xee));
}
END_TEST

START_TEST(manage_bad) {
  struct area area = area_touchable(2 * MiB);
  const struct {
    void *start;
    size_t size;
  } bad[] = {
      {NULL, MiB},
      {NULL, 0},
      {area.start, 0},
      {area.start, 1},
      {area.start, SLICE_SIZE},
      {area.start, SIZE_MAX},
      {area.start, SIZE_MAX - (uintptr_t)area.start},
      {area.start, SIZE_MAX - (uintptr_t)area.start + 1},
      {(void *)(UINTPTR_MAX - MiB), MiB},
      {(void *)(UINTPTR_MAX - MiB), 2 * MiB},
      {(void *)UINTPTR_MAX, 1},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    mi_arena_id_t id = 77;
    ck_assert_msg(!mi_manage_os_memory_ex(bad[i].start, bad[i].size, true, false, true,
                                          -1, false, &id),
                  "case %zu", i);
    ck_assert_int_eq(id, 0);
    assert_errors(EINVAL, 1);
    ck_assert(!mi_manage_os_memory(bad[i].start, bad[i].size, true, false, true, -1));
    assert_errors(EINVAL, 1);
  }
  ck_assert(bytes_are(area.start, area.size, 0)); /* nothing was written */
}
END_TEST

START_TEST(manage_overlapping) {
  struct area area = area_touchable(4 * MiB);
  const struct area middle = {area.start + MiB, 2 * MiB};
  const mi_arena_id_t id = arena_managed(middle, true, false, true);
  const struct area overlapping[] = {
      middle,
      {area.start, 4 * MiB},
      {area.start, MiB + SLICE_SIZE},
      {area.start + 3 * MiB - SLICE_SIZE, MiB},
      {area.start + MiB + 4 * SLICE_SIZE, MiB},
  };
  for (size_t i = 0; i < sizeof overlapping / sizeof overlapping[0]; i++) {
    ck_assert(!mi_manage_os_memory(overlapping[i].start, overlapping[i].size, true, false,
                                   false, -1));
    assert_errors(EINVAL, 1);
  }
  /* What only touches it is fine. */
  arena_managed((struct area){area.start, MiB}, true, false, true);
  arena_managed((struct area){area.start + 3 * MiB, MiB}, true, false, true);
  mi_heap_t *heap = heap_in(id);
  ck_assert(mi_arena_contains(id, mi_heap_malloc(heap, 1)));
  mi_heap_destroy(heap);
  /* And an arena that mirt reserved cannot be handed over again. */
  size_t size = 0;
  void *start = mi_arena_area(arena_reserved(MiB, true, true), &size);
  ck_assert(!mi_manage_os_memory(start, size, true, false, false, -1));
  assert_errors(EINVAL, 1);
}
END_TEST

/* Zeroed allocations are zero whatever the memory held before; so are the records. */
static void assert_zalloc_zeroes(mi_arena_id_t id) {
  static const size_t sizes[] = {16, 100, 1000, 20000, 200000};
  mi_heap_t *heap = heap_in(id);
  for (int round = 0; round < 3; round++) {
    size_t count = 0;
    for (int i = 0; i < 40; i++) {
      const size_t size = sizes[i % 5];
      char *p = mi_heap_zalloc(heap, size);
      if (p == NULL) break;
      ck_assert(bytes_are(p, mi_usable_size(p), 0));
      memset(p, 0xdd, mi_usable_size(p));
      blocks[count++] = p;
    }
    ck_assert_uint_gt(count, 5);
    free_all(blocks, count);
    mi_heap_collect(heap, round == 1);
  }
  mi_heap_destroy(heap);
}

START_TEST(manage_dirty_memory) {
  struct area area = area_touchable(4 * MiB);
  memset(area.start, 0xab, area.size);
  const mi_arena_id_t id = arena_managed(area, true, false, false);
  assert_zalloc_zeroes(id);
  /* All of it can be used: no record takes old bytes for its own. */
  mi_heap_t *heap = heap_in(id);
  const size_t count = exhaust(heap, id, 500, blocks);
  ck_assert_uint_gt(count, 3 * MiB / 512);
  free_all(blocks, count);
  mi_heap_collect(heap, true);
  ck_assert_uint_eq(exhaust(heap, id, 500, blocks), count);
  mi_heap_destroy(heap);
}
END_TEST

START_TEST(manage_zero_memory) {
  assert_zalloc_zeroes(arena_managed(area_touchable(4 * MiB), true, false, true));
}
END_TEST

START_TEST(manage_pinned_dirty_memory) {
  struct area area = area_touchable(4 * MiB);
  memset(area.start, 0xab, area.size);
  assert_zalloc_zeroes(arena_managed(area, true, true, false));
}
END_TEST

START_TEST(manage_not_committed) {
  /* Not even readable at first; mirt makes it so where it is needed. */
  for (int zero = 0; zero < 2; zero++) {
    struct area area = area_map(4 * MiB, 0, PROT_NONE);
    const mi_arena_id_t id = arena_managed(area, false, false, zero != 0);
    assert_zalloc_zeroes(id);
    mi_heap_t *heap = heap_in(id);
    ck_assert_uint_gt(exhaust(heap, id, 500, blocks), 3 * MiB / 512);
    mi_heap_destroy(heap);
  }
}
END_TEST

START_TEST(manage_sees_no_other_mapping) {
  /* Once handed over, all that heaps in the area need comes from the area. */
  const mi_arena_id_t id = arena_managed(area_touchable(4 * MiB), true, false, true);
  ck_assert_ptr_nonnull(mi_heap_get_default()); /* the thread's own records are made */
  const int64_t mappings = stats_now().mmap_calls;
  mi_heap_t *heaps[6];
  for (int i = 0; i < 6; i++) {
    heaps[i] = mi_heap_new_ex(i, true, id);
    ck_assert(mi_arena_contains(id, heaps[i]));
    for (size_t size = 16; size <= 10000; size *= 25) {
      ck_assert(mi_arena_contains(id, mi_heap_malloc(heaps[i], size)));
    }
  }
  exhaust(heaps[0], id, 400, blocks);
  ck_assert_int_eq(stats_now().mmap_calls, mappings);
  for (int i = 0; i < 6; i++) mi_heap_destroy(heaps[i]);
  ck_assert_int_eq(stats_now().mmap_calls, mappings);
}
END_TEST

/* ---- a process that may ask its system for nothing ---- */

static const char *program; /* argv[0] */

/* The program runs again in this role with MIMALLOC_DISALLOW_OS_ALLOC=1. Returns the
 * number of the first step that went wrong, or 0. */
static int role_one_region(void) {
  static char region[8 * MiB] __attribute__((aligned(65536)));
  errors_begin();
  if (mi_malloc(100) != NULL) return 1; /* there is nothing yet */
  if (errno != ENOMEM || errors_of(ENOMEM) != 1) return 2;
  if (!mi_manage_os_memory(region, sizeof region, true, true, true, -1)) return 3;
  size_t count = 0;
  for (;; count++) {
    char *p = mi_malloc(1000);
    if (p == NULL) break;
    if (p < region || p >= region + sizeof region) return 4;
    blocks[count] = p;
  }
  if (count < 7 * MiB / 1024) return 5;
  free_all(blocks, count);
  mi_heap_t *heap = mi_heap_new();
  if (heap == NULL || mi_heap_malloc(heap, MiB) == NULL) return 6;
  mi_heap_destroy(heap);
  if (errors_total() != errors_of(ENOMEM)) return 7;
  /* More records than static storage has room for: they take slices. */
  mi_heap_t *heaps[128];
  for (int i = 0; i < 128; i++) {
    heaps[i] = mi_heap_new();
    if (heaps[i] == NULL) return 9;
    for (size_t size = 16; size <= 512; size += 16) {
      if (i % 32 == 0 && mi_heap_malloc(heaps[i], size) == NULL) return 10;
    }
  }
  for (int i = 0; i < 128; i++) mi_heap_destroy(heaps[i]);
  mi_stats_t_decl(stats); /* Check is not running here: no assertions */
  if (!mi_stats_get(&stats) || stats.mmap_calls != 0) return 8;
  return 0;
}

static void run_in_one_region(void *argument) {
  (void)argument;
  setenv("MIMALLOC_DISALLOW_OS_ALLOC", "1", 1);
  const char *path = access("/proc/self/exe", X_OK) == 0 ? "/proc/self/exe" : program;
  execl(path, program, "one-region", (char *)NULL);
  _exit(127);
}

START_TEST(one_region_is_enough) {
  const int status = child_run(run_in_one_region, NULL);
  ck_assert_msg(WIFEXITED(status), "status %#x", status);
  ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* ---- who may take from an arena ---- */

START_TEST(exclusive_arena_is_not_used_by_others) {
  const mi_arena_id_t id = arena_reserved(64 * MiB, true, true);
  const mi_arena_id_t other = arena_reserved(16 * MiB, true, true);
  mi_heap_t *heap = heap_in(other);
  struct dice dice = dice_new(3);
  size_t total = 0, count = 0;
  while (total < 64 * MiB && count < BLOCKS_MAX) {
    const size_t size = (size_t)16 << dice_roll(&dice, 17);
    char *p = count % 8 == 0 ? mi_heap_malloc(heap, size % 4096) : mi_malloc(size);
    assert_quick(p != NULL);
    assert_quick(!mi_arena_contains(id, p));
    assert_quick(mi_arena_contains(other, p) == (count % 8 == 0));
    blocks[count++] = p;
    total += size;
  }
  free_all(blocks, count);
  mi_heap_destroy(heap);
  mi_collect(true);
  assert_no_errors();
}
END_TEST

START_TEST(bound_heap_stays_in_shared_arena) {
  /* Bound, though not exclusive: the arena's end is the heap's end all the same. */
  const mi_arena_id_t id = arena_reserved(2 * MiB, true, false);
  mi_heap_t *heap = heap_in(id);
  exhaust(heap, id, 1000, blocks);
  void *p = mi_malloc(1000);
  ck_assert_ptr_nonnull(p); /* others find memory elsewhere */
  ck_assert(!mi_arena_contains(id, p));
  mi_free(p);
  mi_heap_destroy(heap);
}
END_TEST

/* ---- used up ---- */

static const size_t exhausting_sizes[] = {128,    1000,   5000,   40000,
                                          100000, 300000, 2 * MiB};
#define EXHAUSTING_SIZES (sizeof exhausting_sizes / sizeof exhausting_sizes[0])

START_TEST(exhausted_arena_recovers) {
  const size_t size = exhausting_sizes[_i];
  const size_t arena_size = 4 * MiB;
  const mi_arena_id_t id = arena_reserved(arena_size, _i % 2 == 0, true);
  const int64_t pages = pages_settled();
  mi_heap_t *heap = heap_in(id);
  const size_t count = exhaust(heap, id, size, blocks);
  ck_assert_uint_ge(count, arena_size / mi_good_size(size) * 9 / 10);
  /* One more only after one less. */
  mi_free(blocks[count / 2]);
  ck_assert_ptr_eq(mi_heap_malloc(heap, size), blocks[count / 2]);
  ck_assert_ptr_null(mi_heap_malloc(heap, size));
  assert_errors(ENOMEM, 1);
  free_all(blocks, count);
  mi_heap_collect(heap, true);
  ck_assert_int_eq(pages_now(), pages);
  ck_assert_uint_eq(exhaust(heap, id, size, blocks), count);
  free_all(blocks, count);
  mi_heap_collect(heap, true);
  /* All of it for one block, and for another size. */
  void *whole = mi_heap_malloc(heap, arena_size);
  ck_assert_ptr_eq(whole, mi_arena_area(id, NULL));
  mi_free(whole);
  ck_assert_ptr_null(mi_heap_malloc(heap, arena_size + 1));
  assert_errors(ENOMEM, 1);
  ck_assert_uint_gt(exhaust(heap, id, 2000, blocks), arena_size / 2048 * 9 / 10);
  mi_heap_destroy(heap);
  ck_assert_int_eq(pages_now(), pages);
}
END_TEST

START_TEST(records_that_are_used_up) {
  /* A small area runs out of room for heaps: NULL, and they can be made again when some
   * are gone. Nothing is taken from elsewhere. */
  const mi_arena_id_t id = arena_managed(area_touchable(MiB), true, false, true);
  const int64_t mappings = stats_now().mmap_calls;
  static mi_heap_t *heaps[10000];
  for (int round = 0; round < 3; round++) {
    static size_t first_count;
    size_t count = 0;
    for (; count < 10000; count++) {
      heaps[count] = mi_heap_new_ex(0, true, id);
      if (heaps[count] == NULL) break;
      assert_quick(mi_arena_contains(id, heaps[count]));
    }
    ck_assert_uint_gt(count, 0);
    ck_assert_uint_lt(count, 10000);
    assert_errors(ENOMEM, 1);
    if (round == 0) first_count = count;
    ck_assert_uint_eq(count, first_count);
    for (size_t i = 0; i < count; i++) mi_heap_destroy(heaps[i]);
  }
  ck_assert_int_eq(stats_now().mmap_calls, mappings);
}
END_TEST

START_TEST(records_last_as_long_as_memory) {
  /* One heap that uses every size: the area has room for a page of each. */
  const mi_arena_id_t id = arena_managed(area_touchable(20 * MiB), true, false, true);
  mi_heap_t *heap = heap_in(id);
  for (size_t class_index = 0; class_index < CLASS_COUNT; class_index++) {
    const size_t size = class_block_size(class_index);
    ck_assert_msg(mi_heap_malloc(heap, size) != NULL, "no block of %zu bytes, class %zu",
                  size, class_index);
  }
  mi_heap_destroy(heap);
}
END_TEST

struct arena_user {
  mi_arena_id_t id;
  size_t number;
  size_t taken, outside, damaged;
};

static void *use_arena(void *argument) {
  struct arena_user *self = argument;
  struct dice dice = dice_new(self->number);
  mi_heap_t *heap = mi_heap_new_in_arena(self->id);
  if (heap == NULL) return NULL;
  size_t *held[64] = {NULL};
  for (int round = 0; round < TEST_ROUNDS(20000); round++) {
    const size_t slot = dice_roll(&dice, 64);
    if (round % 1000 == 999) mi_collect(true); /* purges beside the others' claims */
    if (held[slot] != NULL) {
      const size_t words = held[slot][0];
      if (held[slot][words - 1] != self->number) self->damaged++;
      mi_free(held[slot]);
      held[slot] = NULL;
    } else {
      const size_t words = 3 + dice_roll(&dice, (size_t)8 << dice_roll(&dice, 13));
      held[slot] = mi_heap_malloc(heap, words * sizeof(size_t));
      if (held[slot] == NULL) continue; /* the arena is small for so many */
      self->taken++;
      if (!mi_arena_contains(self->id, held[slot])) self->outside++;
      held[slot][0] = words;
      held[slot][words - 1] = self->number;
    }
  }
  for (size_t i = 0; i < 64; i++) mi_free(held[i]);
  mi_heap_delete(heap);
  return NULL;
}

START_TEST(threads_share_an_arena) {
  const mi_arena_id_t id = arena_reserved(512 * MiB, false, true);
  const int64_t pages = pages_settled();
  struct arena_user users[4];
  for (size_t i = 0; i < 4; i++) {
    users[i] = (struct arena_user){.id = id, .number = i + 1};
  }
  threads_run(4, use_arena, users, sizeof users[0]);
  for (size_t i = 0; i < 4; i++) {
    ck_assert_uint_gt(users[i].taken, 0);
    ck_assert_uint_eq(users[i].outside, 0);
    ck_assert_uint_eq(users[i].damaged, 0);
  }
  ck_assert_uint_eq(errors_total(), errors_of(ENOMEM));
  ck_assert_int_eq(pages_now(), pages);
  mi_heap_t *heap = heap_in(id);
  ck_assert_ptr_nonnull(mi_heap_malloc(heap, 512 * MiB)); /* not a slice is missing */
  mi_heap_destroy(heap);
}
END_TEST

/* ---- purge ---- */

/* Fill an arena with blocks and free them all. Returns its start. */
static char *fill_and_free(mi_arena_id_t id, mi_heap_t *heap) {
  static const size_t sizes[] = {64, 3000, 50000, 500000};
  size_t count = 0;
  for (size_t i = 0; count < BLOCKS_MAX; i++) {
    char *p = mi_heap_malloc(heap, sizes[i % 4]);
    if (p == NULL) break;
    memset(p, 1, sizes[i % 4]);
    blocks[count++] = p;
  }
  free_all(blocks, count);
  errors_clear();
  return mi_arena_area(id, NULL);
}

#define PURGE_SIZE (16 * MiB)

START_TEST(collect_purges) {
  const mi_arena_id_t id = arena_reserved(PURGE_SIZE, true, true);
  mi_heap_t *heap = heap_in(id);
  char *start = fill_and_free(id, heap);
  const int64_t purged = stats_now().purged;
  mi_collect(true);
  ck_assert_uint_eq(resident_pages(start, PURGE_SIZE), 0);
  ck_assert_int_gt(stats_now().purged, purged);
  /* It is usable as before. */
  start = fill_and_free(id, heap);
  mi_heap_collect(heap, true);
  ck_assert_uint_eq(resident_pages(start, PURGE_SIZE), 0);
  ck_assert(bytes_are(start, PURGE_SIZE, 0)); /* last: to read makes resident */
  mi_heap_destroy(heap);
}
END_TEST

/* A thread that is stopped while it reads, as a collector may stop it. */
struct stopped {
  bool has_owner;
  pthread_barrier_t in, out;
};

static void *stop_in_section(void *argument) {
  struct stopped *self = argument;
  if (self->has_owner) mi_free(mi_malloc(1));
  struct reader *section = read_begin();
  pthread_barrier_wait(&self->in);
  pthread_barrier_wait(&self->out);
  read_end(section);
  return NULL;
}

START_TEST(collect_does_not_wait_for_stopped_threads) {
  struct stopped stopped = {.has_owner = _i != 0};
  pthread_barrier_init(&stopped.in, NULL, 2);
  pthread_barrier_init(&stopped.out, NULL, 2);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, stop_in_section, &stopped), 0);
  pthread_barrier_wait(&stopped.in);
  const mi_arena_id_t id = arena_reserved(4 * MiB, false, true);
  mi_heap_t *heap = heap_in(id);
  char *p = mi_heap_malloc(heap, 3 * MiB); /* descriptors to wipe, if nobody reads */
  mi_free(p);
  const int64_t purged = stats_now().purged;
  mi_collect(true);
  ck_assert_int_ge(stats_now().purged, purged + 3 * (int64_t)MiB);
  ck_assert_ptr_nonnull(mi_heap_malloc(heap, 3 * MiB));
  mi_heap_destroy(heap);
  pthread_barrier_wait(&stopped.out);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  pthread_barrier_destroy(&stopped.in);
  pthread_barrier_destroy(&stopped.out);
}
END_TEST

START_TEST(purge_at_once_without_delay) {
  const long before = mi_option_get(mi_option_purge_delay);
  mi_option_set(mi_option_purge_delay, 0);
  const mi_arena_id_t id = arena_reserved(PURGE_SIZE, true, true);
  mi_heap_t *heap = heap_in(id);
  char *p = mi_heap_malloc(heap, MiB);
  memset(p, 1, MiB);
  mi_free(p);
  ck_assert_uint_eq(resident_pages(p, MiB), 0);
  mi_heap_destroy(heap);
  mi_option_set(mi_option_purge_delay, before);
}
END_TEST

START_TEST(purge_never) {
  const long before = mi_option_get(mi_option_purge_delay);
  mi_option_set(mi_option_purge_delay, -1);
  const mi_arena_id_t id = arena_reserved(PURGE_SIZE, true, true);
  mi_heap_t *heap = heap_in(id);
  char *p = mi_heap_malloc(heap, MiB);
  memset(p, 1, MiB);
  mi_free(p);
  mi_collect(true);
  ck_assert_uint_eq(resident_pages(p, MiB), MiB / os_page_size());
  ck_assert(bytes_are(p, MiB, 1));
  mi_heap_destroy(heap);
  mi_option_set(mi_option_purge_delay, before);
}
END_TEST

START_TEST(pinned_memory_is_not_purged) {
  struct area area = area_touchable(PURGE_SIZE);
  const mi_arena_id_t id = arena_managed(area, true, true, true);
  mi_heap_t *heap = heap_in(id);
  char *p = mi_heap_malloc(heap, MiB);
  memset(p, 1, MiB);
  mi_free(p);
  mi_collect(true);
  ck_assert(bytes_are(p, MiB, 1));
  mi_heap_destroy(heap);
}
END_TEST

START_TEST(live_blocks_survive_purge) {
  const mi_arena_id_t id = arena_reserved(PURGE_SIZE, false, true);
  mi_heap_t *heap = heap_in(id);
  struct dice dice = dice_new(4);
  size_t count = 0;
  for (; count < 2000; count++) {
    const size_t size = 16 + dice_roll(&dice, 6000);
    blocks[count] = mi_heap_malloc(heap, size);
    ck_assert_ptr_nonnull(blocks[count]);
    memset(blocks[count], (int)(count & 0xff), mi_usable_size(blocks[count]));
  }
  for (int round = 0; round < 10; round++) {
    for (size_t i = 0; i < count; i++) {
      if (dice_roll(&dice, 3) != 0) continue;
      mi_free(blocks[i]);
      blocks[i] = mi_heap_malloc(heap, 16 + dice_roll(&dice, 6000));
      ck_assert_ptr_nonnull(blocks[i]);
      memset(blocks[i], (int)(i & 0xff), mi_usable_size(blocks[i]));
    }
    mi_collect(true);
    for (size_t i = 0; i < count; i++) {
      assert_quick(bytes_are(blocks[i], mi_usable_size(blocks[i]), (unsigned char)i));
    }
  }
  mi_heap_destroy(heap);
  assert_no_errors();
}
END_TEST

/* ---- alignment ---- */

START_TEST(alignment_in_a_large_arena) {
  const size_t arena_size = 5 * GiB;
  const mi_arena_id_t id = arena_reserved(arena_size, false, true);
  const int64_t pages = pages_settled();
  mi_heap_t *heap = heap_in(id);
  size_t count = 0;
  for (size_t alignment = 1; alignment <= GiB; alignment *= 2) {
    for (size_t size = 0; size <= MiB; size = size * 37 + 1) {
      char *p = mi_heap_malloc_aligned(heap, size, alignment);
      ck_assert_ptr_nonnull(p);
      ck_assert_uint_eq((uintptr_t)p % alignment, 0);
      ck_assert(mi_arena_contains(id, p) &&
                mi_arena_contains(id, p + (size > 0 ? size - 1 : 0)));
      ck_assert_uint_ge(mi_usable_size(p), size);
      ck_assert_uint_gt(mi_usable_size(p), 0); /* also where nothing was asked for */
      memset(p, 0xcc, size);
      blocks[count++] = p;
    }
    free_all(blocks, count);
    count = 0;
  }
  mi_heap_collect(heap, true);
  ck_assert_int_eq(pages_now(), pages);
  /* As many of the largest as there are places for, and not one more. */
  size_t size = 0;
  const uintptr_t start = (uintptr_t)mi_arena_area(id, &size);
  const size_t places = (align_up(start + size, GiB) - align_up(start, GiB)) / GiB;
  for (size_t i = 0; i < places; i++) {
    blocks[i] = mi_heap_malloc_aligned(heap, SLICE_SIZE, GiB);
    ck_assert_ptr_nonnull(blocks[i]);
    for (size_t j = 0; j < i; j++) ck_assert_ptr_ne(blocks[i], blocks[j]);
  }
  assert_no_errors();
  ck_assert_ptr_null(mi_heap_malloc_aligned(heap, SLICE_SIZE, GiB));
  assert_errors(ENOMEM, 1);
  mi_heap_destroy(heap);
}
END_TEST

START_TEST(alignment_of_the_default_heap) {
  for (size_t alignment = 16; alignment <= 4 * GiB; alignment *= 2) {
    char *p = mi_malloc_aligned(100, alignment);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % alignment, 0);
    memset(p, 1, 100);
    mi_free(p);
    p = mi_malloc_aligned(0, alignment);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % alignment, 0);
    mi_free(p);
  }
  assert_no_errors();
}
END_TEST

START_TEST(alignment_beyond_the_arena) {
  const mi_arena_id_t id = arena_reserved(4 * MiB, true, true);
  mi_heap_t *heap = heap_in(id);
  for (size_t alignment = (size_t)1 << 47; alignment != 0; alignment *= 2) {
    ck_assert_ptr_null(mi_heap_malloc_aligned(heap, 1, alignment));
    assert_errors(ENOMEM, 1);
  }
  mi_heap_destroy(heap);
}
END_TEST

/* ---- page map ---- */

static void assert_unknown(const void *p) {
  ck_assert_ptr_null(page_map_find(p));
  ck_assert(!mi_is_in_heap_region(p));
  ck_assert_uint_eq(mi_usable_size(p), 0);
  ck_assert_ptr_null(mi_heap_of(p));
  ck_assert(!mi_check_owned(p));
}

START_TEST(page_map_of_any_word) {
  int on_stack = 0;
  static int in_data;
  const uintptr_t words[] = {
      0,
      1,
      SLICE_SIZE,
      UINTPTR_MAX,
      UINTPTR_MAX - SLICE_SIZE,
      (uintptr_t)1 << 46,
      (uintptr_t)1 << 47,
      ((uintptr_t)1 << 47) - 1,
      (uintptr_t)1 << 48,
      ((uintptr_t)1 << 48) - 1,
      (uintptr_t)1 << 63,
      0x800000000000u,
      0xffff800000000000u,
      (uintptr_t)&on_stack,
      (uintptr_t)&in_data,
      (uintptr_t)&assert_unknown,
      (uintptr_t)stdout,
  };
  void *p = mi_malloc(100);
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    assert_unknown((void *)words[i]);
    assert_no_errors();
  }
  for (int shift = 0; shift < 64; shift++) { /* near our own memory, one bit off */
    const uintptr_t near_p = (uintptr_t)p ^ ((uintptr_t)1 << shift);
    struct page *page = page_map_find((void *)near_p);
    ck_assert(page == NULL || mi_is_in_heap_region((void *)near_p));
    if (shift >= 47) assert_unknown((void *)near_p);
  }
  struct dice dice = dice_new(5);
  for (int i = 0; i < 100000; i++) {
    const uintptr_t word = dice_word(&dice) >> dice_roll(&dice, 64);
    struct page *page = page_map_find((void *)word);
    assert_quick(page == NULL || mi_is_in_heap_region((void *)word));
  }
  mi_free(p);
}
END_TEST

START_TEST(page_map_follows_pages) {
  const mi_arena_id_t id = arena_reserved(4 * MiB, true, true);
  char *start = mi_arena_area(id, NULL);
  mi_heap_t *heap = heap_in(id);
  ck_assert_ptr_null(mi_heap_of(start));
  char *p = mi_heap_malloc(heap, 10 * SLICE_SIZE);
  for (size_t i = 0; i < 10 * SLICE_SIZE; i += 1000) {
    ck_assert_ptr_eq(mi_heap_of(p + i), heap);
    ck_assert_ptr_eq(page_map_find(p + i), page_map_find(p));
  }
  ck_assert_ptr_ne(mi_heap_of(p + 10 * SLICE_SIZE), heap);
  mi_free(p);
  ck_assert_ptr_null(mi_heap_of(p));
  ck_assert_ptr_null(mi_heap_of(p + 5 * SLICE_SIZE));
  ck_assert_uint_eq(mi_usable_size(p), 0);
  mi_heap_destroy(heap);
}
END_TEST

START_TEST(page_map_out_of_range) {
  ck_assert(!page_map_reserve((uintptr_t)1 << ADDRESS_BITS, 1));
  ck_assert(!page_map_reserve(((uintptr_t)1 << ADDRESS_BITS) - SLICE_SIZE, 2));
  ck_assert(!page_map_reserve(UINTPTR_MAX - SLICE_SIZE + 1, 2));
}
END_TEST

/* ---- zones ---- */

static void *no_more(struct zone *zone, size_t *size) {
  (void)zone, (void)size;
  return NULL;
}

START_TEST(zone_gives_and_takes) {
  static char memory[64 * 100] __attribute__((aligned(64)));
  memset(memory, 0xab, sizeof memory);
  struct zone zone;
  zone_initialize(&zone, memory, sizeof memory, no_more);
  static char *records[100];
  size_t count = 0;
  for (;; count++) {
    records[count] = zone_take(&zone, RECORD_HEAP, 200);
    if (records[count] == NULL) break;
    ck_assert(records[count] >= memory);
    ck_assert(records[count] + 200 <= memory + sizeof memory);
    ck_assert_uint_eq((uintptr_t)records[count] % 64, 0);
    const size_t link = sizeof(struct free_record);
    ck_assert(bytes_are(records[count] + link, 200 - link, 0));
    memset(records[count] + link, 0xcd, 200 - link);
  }
  ck_assert_uint_gt(count, sizeof memory / 256 - 2);
  /* What is given back comes again, zeroed, as a record of the same kind only. */
  zone_give(&zone, RECORD_HEAP, records[3]);
  ck_assert_ptr_null(zone_take(&zone, RECORD_CELL, 200));
  ck_assert_ptr_eq(zone_take(&zone, RECORD_HEAP, 200), records[3]);
  const size_t link = sizeof(struct free_record);
  ck_assert(bytes_are(records[3] + link, 200 - link, 0));
  ck_assert_ptr_null(zone_take(&zone, RECORD_HEAP, 200));
}
END_TEST

struct zone_user {
  size_t number, damaged;
};

struct zone_record {
  struct free_record link;
  atomic_word holder;
};

static void *use_zone(void *argument) {
  struct zone_user *self = argument;
  struct dice dice = dice_new(self->number);
  struct zone_record *held[50] = {NULL};
  for (int round = 0; round < TEST_ROUNDS(20000); round++) {
    struct zone_record **slot = &held[dice_roll(&dice, 50)];
    if (*slot != NULL) {
      if (atomic_load_relaxed(&(*slot)->holder) != self->number) self->damaged++;
      zone_give(&process_zone, RECORD_SUBPROCESS, *slot);
      *slot = NULL;
    } else {
      *slot = zone_take(&process_zone, RECORD_SUBPROCESS, 5000);
      if (*slot == NULL || atomic_load_relaxed(&(*slot)->holder) != 0) {
        self->damaged++;
      } else {
        atomic_store_relaxed(&(*slot)->holder, self->number);
      }
    }
  }
  for (int i = 0; i < 50; i++) {
    if (held[i] != NULL) zone_give(&process_zone, RECORD_SUBPROCESS, held[i]);
  }
  return NULL;
}

START_TEST(zone_grows_and_is_shared) {
  struct zone_user users[4];
  for (size_t i = 0; i < 4; i++) users[i] = (struct zone_user){i + 1, 0};
  threads_run(4, use_zone, users, sizeof users[0]);
  for (size_t i = 0; i < 4; i++) ck_assert_uint_eq(users[i].damaged, 0);
}
END_TEST

int main(int argc, char **argv) {
  program = argv[0];
  if (argc == 2 && strcmp(argv[1], "one-region") == 0) return role_one_region();
  Suite *suite = suite_create("arena");
  TCase *c = case_begin(suite, "reserve");
  tcase_add_test(c, reserve_good);
  tcase_add_test(c, reserve_bad);
  tcase_add_test(c, reserve_huge_pages);
  tcase_add_test(c, ids_that_do_not_exist);
  tcase_add_test(c, arenas_are_shown);
  c = case_begin(suite, "manage");
  tcase_add_test(c, manage_aligned);
  tcase_add_test(c, manage_unaligned);
  tcase_add_test(c, manage_smallest);
  tcase_add_test(c, manage_too_small);
  tcase_add_test(c, manage_bad);
  tcase_add_test(c, manage_overlapping);
  tcase_add_test(c, manage_dirty_memory);
  tcase_add_test(c, manage_zero_memory);
  tcase_add_test(c, manage_pinned_dirty_memory);
  tcase_add_test(c, manage_not_committed);
  tcase_add_test(c, manage_sees_no_other_mapping);
  tcase_add_test(c, one_region_is_enough);
  c = case_begin(suite, "who takes");
  tcase_add_test(c, exclusive_arena_is_not_used_by_others);
  tcase_add_test(c, bound_heap_stays_in_shared_arena);
  c = case_begin(suite, "used up");
  tcase_add_loop_test(c, exhausted_arena_recovers, 0, (int)EXHAUSTING_SIZES);
  tcase_add_test(c, records_that_are_used_up);
  tcase_add_test(c, records_last_as_long_as_memory);
  tcase_add_test(c, threads_share_an_arena);
  c = case_begin(suite, "purge");
  tcase_add_test(c, collect_purges);
  tcase_add_loop_test(c, collect_does_not_wait_for_stopped_threads, 0, 2);
  tcase_add_test(c, purge_at_once_without_delay);
  tcase_add_test(c, purge_never);
  tcase_add_test(c, pinned_memory_is_not_purged);
  tcase_add_test(c, live_blocks_survive_purge);
  c = case_begin(suite, "alignment");
  tcase_add_test(c, alignment_in_a_large_arena);
  tcase_add_test(c, alignment_of_the_default_heap);
  tcase_add_test(c, alignment_beyond_the_arena);
  c = case_begin(suite, "page map");
  tcase_add_test(c, page_map_of_any_word);
  tcase_add_test(c, page_map_follows_pages);
  tcase_add_test(c, page_map_out_of_range);
  c = case_begin(suite, "zone");
  tcase_add_test(c, zone_gives_and_takes);
  tcase_add_test(c, zone_grows_and_is_shared);
  return suite_run(suite);
}
