/* test_many_arenas.c - arenas that are large, and many of them: one of 64 GiB, a thousand
 * at once and as many as there can be, one after the other by the thousand; blocks as
 * large as an arena and at every alignment; memory that goes back to the system; the map
 * of what lies where. */
#include "test.h"

#include <inttypes.h>
#include <sched.h>
#include <sys/mman.h>

#include <mirt/arena.h>

#include "arena/arena.h"
#include "base/bits.h"
#include "os/os.h"

/* ---- helpers ---- */

static mi_arena_id_t reserve(size_t size, bool exclusive) {
  mi_arena_id_t id = 0;
  const int error = mi_reserve_os_memory_ex(size, false, false, exclusive, &id);
  assert_quick(error == 0 && id > 0);
  return id;
}

/* Reserve an exclusive arena, or say why this machine cannot and return 0. */
static mi_arena_id_t reserve_if_possible(const char *test, size_t size) {
  mi_arena_id_t id = 0;
  mi_reserve_os_memory_ex(size, false, false, true, &id);
  errors_clear();
  if (id == 0) printf("%s skipped: no address space for %zu GiB\n", test, size / GiB);
  return id;
}

static void give_up(mi_arena_id_t id) {
  const int error = mirt_arena_destroy(id);
  ck_assert_msg(error == 0, "arena %d: error %d", id, error);
}

static mi_heap_t *heap_in(mi_arena_id_t id) {
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  assert_quick(heap != NULL);
  return heap;
}

/* Memory on a slice boundary to hand over, reserved as mirt reserves it. */
static char *map_slices(size_t size, int protection) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  char *p = mmap(NULL, size + SLICE_SIZE, protection, flags, -1, 0);
  ck_assert_ptr_ne(p, MAP_FAILED);
  return p;
}

static char *slices_of(char *mapping) {
  return (char *)align_up((uintptr_t)mapping, SLICE_SIZE);
}

static void unmap_slices(char *mapping, size_t size) {
  ck_assert_int_eq(munmap(mapping, size + SLICE_SIZE), 0);
}

static mi_arena_id_t hand_over(void *start, size_t size, bool committed, bool exclusive) {
  mi_arena_id_t id = 0;
  const bool done =
      mi_manage_os_memory_ex(start, size, committed, false, true, -1, exclusive, &id);
  assert_quick(done && id > 0);
  return id;
}

/* Bytes for blocks in memory handed over, size a multiple of a slice. */
static size_t room_in(size_t size) {
  return size - (arena_metadata_slices(size >> SLICE_SHIFT) << SLICE_SHIFT);
}

/* Leave only arenas that something lives in. */
static void destroy_idle_arenas(void) {
  mi_collect(true);
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    if (mi_arena_area(id, NULL) != NULL) mirt_arena_destroy(id);
  }
  errors_clear();
}

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

#define BLOCKS_MAX ((size_t)200000)
static char *blocks[BLOCKS_MAX];

static void free_blocks(size_t count) {
  for (size_t i = 0; i < count; i++) mi_free(blocks[i]);
}

/* A number from the first line of a file of /proc, or behind a key. */
static size_t proc_number(const char *path, const char *key, int field) {
  FILE *file = fopen(path, "r");
  ck_assert_ptr_nonnull(file);
  char line[512];
  unsigned long long numbers[2] = {0, 0};
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, key, strlen(key)) != 0) continue;
    sscanf(line + strlen(key), "%llu %llu", &numbers[0], &numbers[1]);
    break;
  }
  fclose(file);
  return (size_t)numbers[field];
}

static size_t resident_bytes(void) {
  return proc_number("/proc/self/statm", "", 1) * os_page_size();
}

static size_t address_bytes(void) {
  return proc_number("/proc/self/statm", "", 0) * os_page_size();
}

static size_t available_bytes(void) {
  return proc_number("/proc/meminfo", "MemAvailable:", 0) * KiB;
}

static size_t mapping_count(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  ck_assert_ptr_nonnull(maps);
  size_t lines = 0;
  for (int c; (c = getc(maps)) != EOF;) lines += c == '\n';
  fclose(maps);
  return lines;
}

/* ---- one large arena ---- */

/* Under a sanitizer, whose shadow grows with what is reserved, a sixteenth of it. */
#define SCALE (TEST_HAS_SHADOW ? (size_t)16 : (size_t)1)
#define LARGE_ARENA (64 * GiB / SCALE)
#define SMALL_PART (16 * GiB / SCALE) /* filled with small blocks */
#define SMALL_SIZE (128 * KiB)
#define TOUCH_EVERY ((size_t)64)

static const size_t large_parts[] = {1, 2, 5, 20,
                                     20}; /* in GiB; with the small ones, 64 */
#define LARGE_PARTS (sizeof large_parts / sizeof large_parts[0])

/* One block after the other up to 16 GiB, some of them touched. Returns how many. */
static size_t fill_small_part(mi_heap_t *heap, mi_arena_id_t id) {
  const size_t count = SMALL_PART / SMALL_SIZE;
  for (size_t i = 0; i < count; i++) {
    blocks[i] = mi_heap_malloc(heap, SMALL_SIZE);
    assert_quick(mi_arena_contains(id, blocks[i]));
    if (i % TOUCH_EVERY == 0) *(size_t *)(void *)blocks[i] = i;
  }
  return count;
}

static void check_block(mi_heap_t *heap, char *p, size_t size) {
  assert_quick(mi_usable_size(p) == size);
  assert_quick(mi_heap_contains_block(heap, p));
  assert_quick(mi_heap_contains_block(heap, p + size - 1));
  assert_quick(mi_heap_of(p + size / 2) == heap);
  assert_quick(mi_is_in_heap_region(p));
}

struct tally {
  size_t areas, blocks, bytes;
};

static bool tally_up(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                     size_t size, void *argument) {
  struct tally *tally = argument;
  (void)heap, (void)area;
  if (block == NULL) {
    tally->areas++;
  } else {
    tally->blocks++;
    tally->bytes += size;
  }
  return true;
}

static struct tally tally_of(mi_heap_t *heap) {
  struct tally tally = {0, 0, 0};
  ck_assert(mi_heap_visit_blocks(heap, true, tally_up, &tally));
  return tally;
}

/* Check the touched blocks, and free all, those at the end first. */
static void empty_large_arena(mi_heap_t *heap, size_t small, size_t count) {
  for (size_t i = count; i-- > small;) {
    mi_free(blocks[i]);
    assert_quick(!mi_heap_contains_block(heap, blocks[i]));
  }
  for (size_t i = 0; i < small; i++) {
    if (i % TOUCH_EVERY == 0) assert_quick(*(size_t *)(void *)blocks[i] == i);
    mi_free(blocks[i]);
  }
  ck_assert_uint_eq(tally_of(heap).blocks, 0);
}

START_TEST(sixty_four_gibibytes_are_one_arena) {
  const mi_arena_id_t id = reserve_if_possible("64 GiB", LARGE_ARENA);
  if (id == 0) return;
  size_t size = 0, count;
  char *start = mi_arena_area(id, &size);
  ck_assert_uint_eq(size, LARGE_ARENA);
  mi_heap_t *heap = heap_in(id);
  const size_t small = count = fill_small_part(heap, id);
  for (size_t i = 0; i < LARGE_PARTS; i++) {
    blocks[count] = mi_heap_malloc(heap, large_parts[i] * GiB / SCALE);
    ck_assert_ptr_nonnull(blocks[count++]);
  }
  assert_no_errors();
  ck_assert_ptr_null(mi_heap_malloc(heap, SLICE_SIZE)); /* there is nothing left */
  assert_errors(ENOMEM, 1);
  for (size_t i = 0; i < small; i++) check_block(heap, blocks[i], SMALL_SIZE);
  for (size_t i = 0; i < LARGE_PARTS; i++) {
    check_block(heap, blocks[small + i], large_parts[i] * GiB / SCALE);
  }
  const struct tally tally = tally_of(heap);
  ck_assert_uint_eq(tally.blocks, count);
  ck_assert_uint_eq(tally.bytes, LARGE_ARENA);
  ck_assert_ptr_eq(mi_heap_of(start + size - 1), heap);
  touch_write(start + size - 1);
  empty_large_arena(heap, small, count);
  mi_heap_destroy(heap);
  give_up(id);
  assert_no_errors();
}
END_TEST

START_TEST(small_blocks_at_the_end_of_a_large_arena) {
  const mi_arena_id_t id = reserve_if_possible("blocks at the end", LARGE_ARENA);
  if (id == 0) return;
  char *start = mi_arena_area(id, NULL);
  mi_heap_t *heap = heap_in(id);
  ck_assert_ptr_nonnull(mi_heap_malloc(heap, LARGE_ARENA - 4 * MiB));
  size_t count = 0;
  for (; count < 4 * MiB / 1024; count++) {
    blocks[count] = mi_heap_malloc(heap, 1000);
    assert_quick(blocks[count] != NULL);
    assert_quick(blocks[count] >= start + LARGE_ARENA - 4 * MiB);
    memset(blocks[count], (int)(count & 0xff), 1000);
  }
  ck_assert_ptr_null(mi_heap_malloc(heap, 1000));
  assert_errors(ENOMEM, 1);
  for (size_t i = 0; i < count; i++) {
    check_block(heap, blocks[i], 1024);
    assert_quick(bytes_are(blocks[i], 1000, (unsigned char)i));
    mi_free(blocks[i] + (i % 2 == 0 ? 0 : 1)); /* every other not a block's start */
  }
  assert_errors(EINVAL, count / 2);
  ck_assert_uint_eq(tally_of(heap).blocks, 1 + count / 2);
  mi_heap_destroy(heap);
  give_up(id);
}
END_TEST

/* ---- blocks as large as an arena ---- */

/* The whole room of an arena is one block, and one byte more is too much. */
static void assert_room(mi_arena_id_t id, size_t room) {
  mi_heap_t *heap = heap_in(id);
  for (int round = 0; round < 3; round++) {
    char *p = mi_heap_malloc(heap, room);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq(mi_usable_size(p), room);
    ck_assert(mi_arena_contains(id, p) && mi_arena_contains(id, p + room - 1));
    touch_write(p);
    touch_write(p + room - 1);
    ck_assert_ptr_null(mi_heap_malloc(heap, 1));
    mi_free(p);
    mi_heap_collect(heap, round == 1);
    ck_assert_ptr_null(mi_heap_malloc(heap, room + 1));
    assert_errors(ENOMEM, 2);
  }
  mi_heap_destroy(heap);
}

START_TEST(a_block_as_large_as_a_reserved_arena) {
  static const size_t sizes[] = {3 * SLICE_SIZE, 5 * MiB, 64 * MiB + SLICE_SIZE, 3 * GiB};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    const mi_arena_id_t id = reserve(sizes[i], true);
    assert_room(id, sizes[i]);
    give_up(id);
  }
}
END_TEST

START_TEST(a_block_as_large_as_memory_handed_over) {
  static const size_t sizes[] = {4 * SLICE_SIZE, 5 * MiB, 64 * MiB + SLICE_SIZE, 3 * GiB};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    char *mapping = map_slices(sizes[i], PROT_NONE);
    const mi_arena_id_t id = hand_over(slices_of(mapping), sizes[i], false, true);
    assert_room(id, room_in(sizes[i]));
    give_up(id);
    unmap_slices(mapping, sizes[i]);
  }
}
END_TEST

/* ---- alignment ---- */

#define ALIGNED_ARENA (8 * GiB)
#define ALIGNMENT_MOST GiB
#define ZEROED_MOST (16 * MiB) /* to zero larger blocks anew would cost their memory */

/* Bytes at the ends and every MiB in between, so that large blocks cost little memory. */
static void mark(char *p, size_t size, char value) {
  for (size_t i = 0; i < size; i += MiB) p[i] = value;
  p[size - 1] = value;
}

static bool is_marked(const char *p, size_t size, char value) {
  for (size_t i = 0; i < size; i += MiB) {
    if (p[i] != value) return false;
  }
  return p[size - 1] == value;
}

static void assert_alignment(mi_heap_t *heap, mi_arena_id_t id, size_t alignment) {
  const size_t sizes[] = {1, alignment - 1, alignment, 3 * alignment / 2};
  for (int i = 0; i < 4; i++) {
    const bool zeroed = i % 2 == 1 && alignment <= ZEROED_MOST;
    char *p = zeroed ? mi_heap_zalloc_aligned(heap, sizes[i], alignment)
                     : mi_heap_malloc_aligned(heap, sizes[i], alignment);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % alignment, 0);
    ck_assert(mi_arena_contains(id, p) && mi_arena_contains(id, p + sizes[i] - 1));
    ck_assert_uint_ge(mi_usable_size(p), sizes[i]);
    ck_assert(!zeroed || bytes_are(p, sizes[i], 0));
    mark(p, sizes[i], (char)(i + 1));
    blocks[i] = p;
  }
  for (int i = 0; i < 4; i++) {
    ck_assert(is_marked(blocks[i], sizes[i], (char)(i + 1)));
    mi_free(blocks[i]);
  }
}

START_TEST(every_alignment) {
  const mi_arena_id_t id = reserve_if_possible("every_alignment", ALIGNED_ARENA);
  if (id == 0) return;
  mi_heap_t *heap = heap_in(id);
  for (int round = 0; round < 2; round++) {
    for (size_t alignment = 16; alignment <= ALIGNMENT_MOST; alignment *= 2) {
      assert_alignment(heap, id, alignment);
    }
    mi_heap_collect(heap, true);
  }
  ck_assert_uint_eq(tally_of(heap).blocks, 0);
  mi_heap_destroy(heap);
  give_up(id);
  assert_no_errors();
}
END_TEST

START_TEST(an_alignment_that_does_not_fit) {
  /* Exactly those fit that have a multiple in the arena, with room behind it. */
  const size_t size = 64 * MiB;
  const mi_arena_id_t id = reserve(size, true);
  const uintptr_t start = (uintptr_t)mi_arena_area(id, NULL);
  mi_heap_t *heap = heap_in(id);
  size_t refused = 0;
  for (size_t alignment = 16; alignment < (size_t)1 << 47; alignment *= 2) {
    for (size_t wanted = SLICE_SIZE; wanted <= size; wanted *= 4) {
      const bool fits = align_up(start, alignment) + wanted <= start + size;
      errno = 0;
      char *p = mi_heap_malloc_aligned(heap, wanted, alignment);
      ck_assert_msg((p != NULL) == fits, "%zu at %zu", wanted, alignment);
      ck_assert_int_eq(errno, fits ? 0 : ENOMEM);
      refused += !fits;
      mi_free(p);
      mi_heap_collect(heap, false);
    }
  }
  ck_assert_uint_gt(refused, 0);
  assert_errors(ENOMEM, refused);
  mi_heap_destroy(heap);
  give_up(id);
}
END_TEST

/* ---- a thousand arenas ---- */

#define THOUSAND ((size_t)1000)

static mi_arena_id_t ids[ARENAS_MAX];
static mi_heap_t *heaps[THOUSAND];

static int compare_ids(const void *a, const void *b) {
  return *(const mi_arena_id_t *)a - *(const mi_arena_id_t *)b;
}

static void assert_ids_distinct(size_t count) {
  static mi_arena_id_t sorted[ARENAS_MAX];
  memcpy(sorted, ids, count * sizeof ids[0]);
  qsort(sorted, count, sizeof sorted[0], compare_ids);
  for (size_t i = 0; i < count; i++) {
    assert_quick(sorted[i] >= 1 && sorted[i] <= ARENAS_MAX);
    assert_quick(i == 0 || sorted[i] != sorted[i - 1]);
  }
}

/* Is the arena in a set? */
static bool is_in_set(enum arena_set set, mi_arena_id_t id) {
  bool found = false;
  struct arena_walk walk = arena_walk_begin(set);
  for (struct arena *arena; (arena = arena_walk_next(&walk)) != NULL;) {
    if (arena->id == id) found = true;
  }
  arena_walk_end(&walk);
  return found;
}

/* How many of the arenas in ids are in a set. */
static size_t count_in_set(enum arena_set set, size_t count) {
  bool mine[ARENAS_MAX + 1] = {false};
  for (size_t i = 0; i < count; i++) mine[ids[i]] = true;
  size_t found = 0;
  struct arena_walk walk = arena_walk_begin(set);
  for (struct arena *arena; (arena = arena_walk_next(&walk)) != NULL;) {
    found += mine[arena->id];
  }
  arena_walk_end(&walk);
  return found;
}

/* Sizes of arenas, from one slice to 2 MiB. */
static size_t size_of_arena(size_t i) { return SLICE_SIZE << (i % 6); }

/* Each heap's block lies in the heap's arena and in no other of a few neighbours. */
static void assert_block_in_own_arena(size_t i) {
  size_t size = 0;
  char *start = mi_arena_area(ids[i], &size);
  assert_quick(size == size_of_arena(i));
  assert_quick(blocks[i] >= start && blocks[i] < start + size);
  assert_quick(*(size_t *)(void *)blocks[i] == i);
  for (size_t j = i > 5 ? i - 5 : 0; j < i; j++) {
    assert_quick(!mi_arena_contains(ids[j], blocks[i]));
  }
}

START_TEST(a_thousand_exclusive_arenas) {
  for (size_t i = 0; i < THOUSAND; i++) {
    ids[i] = reserve(size_of_arena(i), true);
    heaps[i] = mi_heap_new_ex((int)i, true, ids[i]);
    assert_quick(heaps[i] != NULL);
  }
  assert_ids_distinct(THOUSAND);
  for (size_t i = 0; i < THOUSAND; i++) {
    blocks[i] = mi_heap_malloc(heaps[i], sizeof(size_t) + i);
    *(size_t *)(void *)blocks[i] = i;
  }
  for (size_t i = 0; i < THOUSAND; i++) assert_block_in_own_arena(i);
  /* Others do not look at them, whatever goes on there. */
  ck_assert_uint_eq(count_in_set(ARENAS_OPEN, THOUSAND), 0);
  for (size_t size = 8; size < MiB; size *= 3) {
    char *p = mi_malloc(size);
    for (size_t i = 0; i < THOUSAND; i++) {
      assert_quick(!mi_arena_contains(ids[i], p));
    }
    mi_free(p);
  }
  for (size_t i = 0; i < THOUSAND; i++) mi_heap_delete(heaps[i]);
  ck_assert_uint_eq(count_in_set(ARENAS_OPEN, THOUSAND), 0);
  ck_assert_uint_eq(count_in_set(ARENAS_WITH_ABANDONED, THOUSAND), 0);
  free_blocks(THOUSAND);
  for (size_t i = 0; i < THOUSAND; i++) give_up(ids[i]);
  assert_no_errors();
}
END_TEST

/* Arenas for everybody, cut out of one mapping, and no other memory. */
#define SHARED_SIZE (512 * KiB)

struct shared {
  char *mapping;
  struct option_change only;
};

static struct shared shared_begin(void) {
  destroy_idle_arenas();
  struct shared shared = {map_slices(THOUSAND * SHARED_SIZE, PROT_READ | PROT_WRITE),
                          option_change(mi_option_disallow_os_alloc, 1)};
  char *start = slices_of(shared.mapping);
  for (size_t i = 0; i < THOUSAND; i++) {
    ids[i] = hand_over(start + i * SHARED_SIZE, SHARED_SIZE, true, false);
  }
  assert_ids_distinct(THOUSAND);
  return shared;
}

static void shared_end(struct shared shared) {
  mi_collect(true);
  for (size_t i = 0; i < THOUSAND; i++) give_up(ids[i]);
  unmap_slices(shared.mapping, THOUSAND * SHARED_SIZE);
  option_restore(shared.only);
}

/* Which of the arenas p lies in. */
static size_t shared_of(struct shared shared, const char *p) {
  const size_t i = (size_t)(p - slices_of(shared.mapping)) / SHARED_SIZE;
  assert_quick(i < THOUSAND && mi_arena_contains(ids[i], p));
  return i;
}

/* Allocate blocks of a slice until there is no slice. Returns how many. */
static size_t shared_fill(struct shared shared, size_t *counts) {
  size_t count = 0;
  for (; (blocks[count] = mi_malloc(SLICE_SIZE)) != NULL; count++) {
    counts[shared_of(shared, blocks[count])]++;
    *(size_t *)(void *)blocks[count] = count;
  }
  assert_errors(ENOMEM, 1);
  return count;
}

START_TEST(a_thousand_arenas_fill_one_after_the_other) {
  struct shared shared = shared_begin();
  static size_t counts[THOUSAND];
  memset(counts, 0, sizeof counts);
  const size_t count = shared_fill(shared, counts);
  for (size_t i = 0; i < THOUSAND; i++) {
    assert_quick(counts[i] == room_in(SHARED_SIZE) / SLICE_SIZE);
  }
  /* Nobody looks at them again, full as they are. */
  ck_assert_uint_eq(count_in_set(ARENAS_OPEN, THOUSAND), 0);
  /* Room is found again wherever it comes up. */
  struct dice dice = dice_new(1);
  for (int round = 0; round < 1000; round++) {
    const size_t i = dice_roll(&dice, count);
    const mi_arena_id_t id = ids[shared_of(shared, blocks[i])];
    mi_free(blocks[i]);
    mi_collect(false); /* or the block is kept for this thread's next allocation */
    assert_quick(is_in_set(ARENAS_OPEN, id));
    char *p = mi_malloc(SLICE_SIZE);
    assert_quick(p == blocks[i]);
    *(size_t *)(void *)p = i;
  }
  for (size_t i = 0; i < count; i++) assert_quick(*(size_t *)(void *)blocks[i] == i);
  free_blocks(count);
  shared_end(shared);
}
END_TEST

START_TEST(full_arenas_are_not_looked_at) {
  /* One allocation that finds them full, and the next ones do without. */
  struct shared shared = shared_begin();
  static size_t counts[THOUSAND];
  const size_t count = shared_fill(shared, counts);
  ck_assert_uint_eq(count_in_set(ARENAS_OPEN, THOUSAND), 0);
  mi_free(blocks[count - 1]);
  mi_free(blocks[0]);
  mi_collect(true);
  ck_assert_uint_eq(count_in_set(ARENAS_OPEN, THOUSAND), 2);
  ck_assert_ptr_eq(mi_malloc(SLICE_SIZE), blocks[0]); /* the lowest id first */
  ck_assert_ptr_eq(mi_malloc(SLICE_SIZE), blocks[count - 1]);
  ck_assert_ptr_null(mi_malloc(SLICE_SIZE));
  assert_errors(ENOMEM, 1);
  ck_assert_uint_eq(count_in_set(ARENAS_OPEN, THOUSAND), 0);
  free_blocks(count);
  mi_collect(true);
  ck_assert_uint_eq(count_in_set(ARENAS_OPEN, THOUSAND), THOUSAND);
  shared_end(shared);
}
END_TEST

/* ---- sets of arenas ---- */

struct leaving {
  mi_arena_id_t *ids;
  size_t count;
};

/* Leave a live block in each of some arenas when the thread ends. */
static void *leave_blocks(void *argument) {
  const struct leaving *leaving = argument;
  for (size_t i = 0; i < leaving->count; i++) {
    mi_heap_t *heap = mi_heap_new_in_arena(leaving->ids[i]);
    blocks[i] = mi_heap_malloc(heap, 200);
  }
  return NULL;
}

/* Look for a page of a size that nobody left: what cannot be adopted any more is taken note of. */
static void look_for_pages(void) {
  mi_heap_t *heap = mi_heap_new_ex(0, false, 0);
  mi_free(mi_heap_malloc(heap, 3000));
  mi_heap_delete(heap);
}

START_TEST(arenas_with_abandoned_pages_are_known) {
  enum { COUNT = 40, FREED = 25 };
  for (size_t i = 0; i < COUNT; i++) ids[i] = reserve(MiB, i % 4 == 0);
  const size_t exclusive = COUNT / 4;
  struct leaving leaving = {ids, COUNT};
  thread_run(leave_blocks, &leaving);
  for (size_t i = 0; i < COUNT; i++) {
    ck_assert(is_in_set(ARENAS_WITH_ABANDONED, ids[i]) == (i % 4 != 0));
  }
  look_for_pages(); /* which changes nothing */
  ck_assert_uint_eq(count_in_set(ARENAS_WITH_ABANDONED, COUNT), COUNT - exclusive);
  free_blocks(FREED);
  look_for_pages();
  for (size_t i = 0; i < COUNT; i++) {
    ck_assert(is_in_set(ARENAS_WITH_ABANDONED, ids[i]) == (i % 4 != 0 && i >= FREED));
  }
  for (size_t i = FREED; i < COUNT; i++) mi_free(blocks[i]);
  for (size_t i = 0; i < COUNT; i++) give_up(ids[i]);
  ck_assert_int_eq(stats_now().pages_abandoned.current, 0);
  assert_no_errors();
}
END_TEST

START_TEST(adopted_pages_leave_the_set) {
  enum { COUNT = 10 };
  for (size_t i = 0; i < COUNT; i++) ids[i] = reserve(MiB, false);
  struct leaving leaving = {ids, COUNT};
  thread_run(leave_blocks, &leaving);
  ck_assert_uint_eq(count_in_set(ARENAS_WITH_ABANDONED, COUNT), COUNT);
  /* A heap of the same kind takes over one page after the other. */
  const int64_t adopted = stats_now().pages_adopted;
  size_t taken = 0;
  static void *taken_blocks[BLOCKS_MAX];
  while (stats_now().pages_adopted < adopted + COUNT) {
    assert_quick(taken < BLOCKS_MAX);
    taken_blocks[taken++] = mi_malloc(200);
  }
  look_for_pages();
  ck_assert_int_eq(stats_now().pages_abandoned.current, 0);
  for (size_t i = 0; i < taken; i++) mi_free(taken_blocks[i]);
  free_blocks(COUNT);
  mi_collect(true);
  for (size_t i = 0; i < COUNT; i++) give_up(ids[i]);
  /* Their ids come back clean. */
  for (size_t i = 0; i < COUNT; i++) {
    const mi_arena_id_t id = reserve(MiB, false);
    ck_assert_int_eq(id, ids[i]);
    ck_assert(!is_in_set(ARENAS_WITH_ABANDONED, id));
    ck_assert(!is_in_set(ARENAS_TO_PURGE, id));
    ck_assert(is_in_set(ARENAS_OPEN, id));
  }
  for (size_t i = 0; i < COUNT; i++) give_up(ids[i]);
  assert_no_errors();
}
END_TEST

START_TEST(arenas_to_purge_are_known) {
  enum { COUNT = 100 };
  const struct option_change never_due = option_change(mi_option_purge_delay, 1000000);
  mi_collect(true);
  for (size_t i = 0; i < COUNT; i++) {
    ids[i] = reserve(MiB, i % 2 == 0);
    heaps[i] = heap_in(ids[i]);
  }
  ck_assert_uint_eq(count_in_set(ARENAS_TO_PURGE, COUNT), 0);
  for (size_t i = 0; i < COUNT; i++) {
    char *p = mi_heap_malloc(heaps[i], 200000);
    mi_free(p);
  }
  ck_assert_uint_eq(count_in_set(ARENAS_TO_PURGE, COUNT), COUNT);
  mi_collect(false); /* nothing is due */
  ck_assert_uint_eq(count_in_set(ARENAS_TO_PURGE, COUNT), COUNT);
  mi_collect(true);
  ck_assert_uint_eq(count_in_set(ARENAS_TO_PURGE, COUNT), 0);
  for (size_t i = 0; i < COUNT; i++) {
    mi_heap_destroy(heaps[i]);
    give_up(ids[i]);
  }
  option_restore(never_due);
  assert_no_errors();
}
END_TEST

/* ---- as many as there can be ---- */

struct text {
  char *bytes;
  size_t size, used, lines;
};

static void text_append(const char *piece, void *argument) {
  struct text *text = argument;
  const size_t length = strlen(piece);
  assert_quick(length < text->size - text->used);
  memcpy(text->bytes + text->used, piece, length + 1);
  text->used += length;
  for (; *piece != 0; piece++) text->lines += *piece == '\n';
}

static char text_bytes[4 * MiB];

static struct text text_new(void) {
  text_bytes[0] = 0;
  return (struct text){text_bytes, sizeof text_bytes, 0, 0};
}

/* Another arena is refused, with one message, whichever way it is wanted. Memory that was
 * to become one is left as it was. */
static void assert_no_more(char *start, size_t size) {
  struct text text = text_new();
  mi_register_output(text_append, &text);
  memset(start, 0xee, size);
  mi_arena_id_t id = 77;
  ck_assert_int_eq(mi_reserve_os_memory_ex(MiB, false, false, true, &id), ENOMEM);
  ck_assert_int_eq(id, 0);
  assert_errors(ENOMEM, 1);
  ck_assert_uint_eq(text.lines, 1);
  id = 77;
  ck_assert(!mi_manage_os_memory_ex(start, size, true, false, false, -1, true, &id));
  ck_assert_int_eq(id, 0);
  assert_errors(ENOMEM, 1);
  ck_assert_uint_eq(text.lines, 2);
  ck_assert(bytes_are(start, size, 0xee));
  mi_register_output(output_discard, NULL);
}

/* What needs an arena cannot be had, what has a mapping of its own can. */
static void assert_allocation_without_arena(void) {
  ck_assert_ptr_null(mi_malloc(100));
  assert_errors(ENOMEM, 1);
  const size_t size = mi_option_get_size(mi_option_arena_reserve);
  char *p = mi_malloc(size);
  ck_assert_ptr_nonnull(p);
  touch_write(p + size - 1);
  mi_free(p);
  assert_no_errors();
}

START_TEST(as_many_arenas_as_there_can_be) {
  destroy_idle_arenas();
  const struct option_change told = option_change(mi_option_max_errors, -1);
  const size_t size = mi_arena_min_size();
  char *mapping = map_slices(ARENAS_MAX * size, PROT_READ | PROT_WRITE);
  char *start = slices_of(mapping);
  const size_t count = ARENAS_MAX - (size_t)stats_now().arenas.current;
  for (size_t i = 0; i < count; i++) {
    ids[i] = i % 2 == 0 ? reserve(SLICE_SIZE, true)
                        : hand_over(start + i * size, size, true, true);
  }
  assert_ids_distinct(count);
  ck_assert_int_eq(stats_now().arenas.current, ARENAS_MAX);
  const mi_stats_t full = stats_now();
  assert_no_more(start, size);
  const mi_stats_t refused = stats_now();
  ck_assert_int_eq(refused.reserved.current, full.reserved.current);
  ck_assert_int_eq(refused.committed.current, full.committed.current);
  ck_assert_int_eq(refused.arenas.current, full.arenas.current);
  assert_allocation_without_arena();
  for (size_t i = 0; i < count; i += 100) { /* room for one, wherever it is */
    give_up(ids[i]);
    const mi_arena_id_t id = reserve(MiB, true);
    ck_assert_int_eq(id, ids[i]);
    mi_heap_t *heap = heap_in(id);
    ck_assert(mi_arena_contains(id, mi_heap_malloc(heap, 1000)));
    mi_heap_destroy(heap);
    assert_no_more(start, size);
  }
  for (size_t i = 0; i < count; i++) give_up(ids[i]);
  unmap_slices(mapping, ARENAS_MAX * size);
  option_restore(told);
  assert_no_errors();
}
END_TEST

/* ---- isolates: arenas by the thousand, one after the other ---- */

#define ISOLATES ((size_t)TEST_ROUNDS(5000))
#define ISOLATE_TAGS ((size_t)3)

/* What must be as it was when all isolates have gone. */
struct footprint {
  size_t mappings, address_bytes;
  mi_stats_t stats;
};

static struct footprint footprint_now(void) {
  mi_collect(true);
  return (struct footprint){mapping_count(), address_bytes(), stats_now()};
}

static void assert_same_footprint(const struct footprint *a, const struct footprint *b) {
  if (!TEST_HAS_SHADOW) { /* a sanitizer maps memory of its own now and then */
    ck_assert_uint_eq(a->mappings, b->mappings);
    ck_assert_uint_eq(a->address_bytes, b->address_bytes);
  }
  ck_assert_int_eq(a->stats.arenas.current, b->stats.arenas.current);
  ck_assert_int_eq(a->stats.reserved.current, b->stats.reserved.current);
  ck_assert_int_eq(a->stats.committed.current, b->stats.committed.current);
  ck_assert_int_eq(a->stats.pages.current, b->stats.pages.current);
  ck_assert_int_eq(a->stats.page_bytes.current, b->stats.page_bytes.current);
  ck_assert_int_eq(a->stats.heaps.current, b->stats.heaps.current);
  ck_assert_int_eq(a->stats.large_blocks.current, b->stats.large_blocks.current);
  ck_assert_int_eq(a->stats.pages_abandoned.current, b->stats.pages_abandoned.current);
}

/* Three heaps of different tags, and blocks of many sizes in each. */
static void isolate_live(mi_arena_id_t id, struct dice *dice) {
  mi_heap_t *isolate_heaps[ISOLATE_TAGS];
  for (size_t i = 0; i < ISOLATE_TAGS; i++) {
    isolate_heaps[i] = mi_heap_new_ex((int)i, true, id);
    assert_quick(isolate_heaps[i] != NULL);
  }
  for (size_t i = 0; i < 60; i++) {
    const size_t size = 1 + dice_roll(dice, (size_t)32 << (i % 12));
    char *p = mi_heap_malloc(isolate_heaps[i % ISOLATE_TAGS], size);
    assert_quick(p == NULL || mi_arena_contains(id, p));
    if (p != NULL) p[size - 1] = 1; /* else a small one is full */
  }
  for (size_t i = 0; i < ISOLATE_TAGS; i++) mi_heap_destroy(isolate_heaps[i]);
}

/* Every third isolate lives in memory that is handed over. Returns the highest id. */
static mi_arena_id_t isolates_run(size_t count, char *memory, uint64_t seed) {
  struct dice dice = dice_new(seed);
  mi_arena_id_t highest = 0;
  for (size_t i = 0; i < count; i++) {
    const size_t size = (1 + dice_roll(&dice, 16)) * MiB;
    mi_arena_id_t id = 0;
    if (i % 3 == 0) {
      assert_quick(
          mi_manage_os_memory_ex(memory, size, true, false, false, -1, true, &id));
    } else {
      id = reserve(size, true);
    }
    isolate_live(id, &dice);
    assert_quick(mirt_arena_destroy(id) == 0);
    if (id > highest) highest = id;
  }
  return highest;
}

START_TEST(isolates_leave_nothing_behind) {
  destroy_idle_arenas();
  const size_t size = 16 * MiB;
  char *mapping = map_slices(size, PROT_READ | PROT_WRITE);
  char *memory = slices_of(mapping);
  isolates_run(100, memory, 1); /* what the process needs once, it has now */
  const struct footprint before = footprint_now();
  const mi_arena_id_t highest = isolates_run(ISOLATES, memory, 2);
  errors_clear(); /* in small ones memory ends */
  const struct footprint after = footprint_now();
  assert_same_footprint(&before, &after);
  ck_assert_int_le(highest, before.stats.arenas.current + 1);
  unmap_slices(mapping, size);
}
END_TEST

/* ---- memory that goes back ---- */

#define PURGE_BYTES GiB
#define PURGE_BLOCKS ((size_t)2 << 20) /* at most */
#define PURGE_SCALES ((size_t)14)      /* from 64 bytes, doubling */

/* Block pointers in memory that is there from the start. */
struct load {
  void **blocks;
  size_t limit, count, bytes;
};

static struct load load_new(size_t limit) {
  struct load load = {malloc(limit * sizeof(void *)), limit, 0, 0};
  ck_assert_ptr_nonnull(load.blocks);
  memset(load.blocks, 1, limit * sizeof(void *));
  return load;
}

/* Allocate and touch blocks of 64 B to 1 MiB, as many bytes of each scale. */
static void load_up(struct load *load, size_t bytes, uint64_t seed) {
  struct dice dice = dice_new(seed);
  size_t of_scale[PURGE_SCALES] = {0};
  while (load->bytes < bytes) {
    size_t least = 0;
    for (size_t i = 1; i < PURGE_SCALES; i++) {
      if (of_scale[i] < of_scale[least]) least = i;
    }
    const size_t size = ((size_t)64 << least) + dice_roll(&dice, (size_t)64 << least);
    void *p = mi_malloc(size);
    assert_quick(p != NULL && load->count < load->limit);
    memset(p, 1, size);
    load->blocks[load->count++] = p;
    load->bytes += size;
    of_scale[least] += size;
  }
}

/* In another order than that of allocation. */
static void load_free(struct load *load, size_t step) {
  for (size_t first = 0; first < step; first++) {
    for (size_t i = first; i < load->count; i += step) mi_free(load->blocks[i]);
  }
  load->count = load->bytes = 0;
}

static bool can_measure(const char *test) {
  if (TEST_HAS_SHADOW) {
    printf("%s skipped: the sanitizer keeps memory of its own\n", test);
    return false;
  }
  if (available_bytes() < 3 * PURGE_BYTES) {
    printf("%s skipped: the machine has too little memory free\n", test);
    return false;
  }
  return true;
}

/* What may stay: the records of heaps and the page map. Where the metadata of free slices
 * cannot be wiped, because the system's pages are larger, that stays too. */
static size_t may_stay(void) {
  return os_page_size() == 4 * KiB ? 4 * MiB : PURGE_BYTES / 50;
}

static void assert_gone_back(const char *test, size_t start, size_t full, size_t after) {
  printf("%s: resident at the start %zu KiB, full %zu KiB, after %zu KiB\n", test,
         start / KiB, full / KiB, after / KiB);
  ck_assert_uint_gt(full, start + PURGE_BYTES * 9 / 10);
  ck_assert_uint_le(after, start + may_stay());
}

START_TEST(memory_goes_back) {
  if (!can_measure("memory_goes_back")) return;
  destroy_idle_arenas();
  struct load load = load_new(PURGE_BLOCKS);
  const size_t start = resident_bytes();
  load_up(&load, PURGE_BYTES, 1);
  const size_t full = resident_bytes();
  load_free(&load, 7);
  mi_collect(true);
  assert_gone_back("memory_goes_back", start, full, resident_bytes());
  free(load.blocks);
}
END_TEST

#define LOADERS ((size_t)4)

struct loader {
  struct load load;
  size_t number;
  pthread_barrier_t *all_full;
};

/* Load a share, free half of it, and end. */
static void *load_share(void *argument) {
  struct loader *self = argument;
  load_up(&self->load, PURGE_BYTES / LOADERS, self->number);
  pthread_barrier_wait(self->all_full);
  pthread_barrier_wait(self->all_full);
  for (size_t i = 0; i < self->load.count; i += 2) mi_free(self->load.blocks[i]);
  return NULL;
}

/* The other half is freed by a thread that did not allocate it. */
static void free_rest(struct loader *loaders) {
  for (size_t i = 0; i < LOADERS; i++) {
    const struct load *load = &loaders[i].load;
    for (size_t j = 1; j < load->count; j += 2) mi_free(load->blocks[j]);
  }
}

START_TEST(memory_of_threads_goes_back) {
  if (!can_measure("memory_of_threads_goes_back")) return;
  destroy_idle_arenas();
  pthread_barrier_t all_full;
  ck_assert_int_eq(pthread_barrier_init(&all_full, NULL, LOADERS + 1), 0);
  struct loader loaders[LOADERS];
  pthread_t threads[LOADERS];
  for (size_t i = 0; i < LOADERS; i++) {
    loaders[i] = (struct loader){load_new(PURGE_BLOCKS / LOADERS), i, &all_full};
  }
  const size_t start = resident_bytes();
  for (size_t i = 0; i < LOADERS; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, load_share, &loaders[i]), 0);
  }
  pthread_barrier_wait(&all_full);
  const size_t full = resident_bytes();
  pthread_barrier_wait(&all_full);
  for (size_t i = 0; i < LOADERS; i++) pthread_join(threads[i], NULL);
  free_rest(loaders);
  ck_assert_int_eq(stats_now().pages_abandoned.current, 0);
  mi_collect(true);
  assert_gone_back("memory_of_threads_goes_back", start, full, resident_bytes());
  for (size_t i = 0; i < LOADERS; i++) free(loaders[i].load.blocks);
  pthread_barrier_destroy(&all_full);
}
END_TEST

/* A thread allocates, then sleeps as long as it has to. */
struct producer {
  struct load load;
  size_t size; /* bytes of each block; 0 for a mix */
  pthread_barrier_t *barrier;
};

static void *produce_and_sleep(void *argument) {
  struct producer *self = argument;
  struct load *load = &self->load;
  if (self->size == 0) load_up(load, PURGE_BYTES, 5);
  while (load->bytes < PURGE_BYTES) {
    void *p = load->blocks[load->count++] = mi_malloc(self->size);
    assert_quick(p != NULL);
    memset(p, 1, self->size);
    load->bytes += self->size;
  }
  pthread_barrier_wait(self->barrier);
  pthread_barrier_wait(self->barrier);
  return NULL;
}

/* Loop test: with blocks of one size, and with a mix. What stays, apart from records, is the
 * page of each size that the producer would allocate from next. */
START_TEST(memory_of_a_sleeping_thread_goes_back) {
  static const size_t sizes[] = {1024, 64, 30000, 0};
  if (!can_measure("memory_of_a_sleeping_thread_goes_back")) return;
  destroy_idle_arenas();
  pthread_barrier_t barrier;
  ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, 2), 0);
  const size_t size = sizes[_i];
  const size_t limit = size == 0 ? PURGE_BLOCKS : PURGE_BYTES / size + 1;
  struct producer producer = {load_new(limit), size, &barrier};
  pthread_t thread;
  const size_t start = resident_bytes();
  ck_assert_int_eq(pthread_create(&thread, NULL, produce_and_sleep, &producer), 0);
  pthread_barrier_wait(&barrier);
  const size_t full = resident_bytes();
  load_free(&producer.load, 7);
  mi_collect(true);
  const size_t after = resident_bytes();
  const size_t records = 640 * KiB; /* and the page map, the thread's stack */
  const size_t pages = size == 0 ? 8 * MiB : 0;
  const size_t most = start + (start * 3 / 100 > records ? start * 3 / 100 : records);
  printf("blocks of %zu bytes, 0 for a mix: resident at the start %zu KiB, full %zu KiB, "
         "after %zu KiB\n",
         size, start / KiB, full / KiB, after / KiB);
  ck_assert_uint_gt(full, start + PURGE_BYTES * 9 / 10);
  if (os_page_size() == 4 * KiB) ck_assert_uint_le(after, most + pages);
  pthread_barrier_wait(&barrier);
  pthread_join(thread, NULL);
  pthread_barrier_destroy(&barrier);
  free(producer.load.blocks);
}
END_TEST

START_TEST(memory_goes_back_as_it_is_freed) {
  /* Without a delay, and nobody collects: what stays is what the cells keep for the next
   * allocations. */
  if (!can_measure("memory_goes_back_as_it_is_freed")) return;
  destroy_idle_arenas();
  const struct option_change at_once = option_change(mi_option_purge_delay, 0);
  struct load load = load_new(PURGE_BLOCKS);
  const size_t start = resident_bytes();
  load_up(&load, PURGE_BYTES / 4, 3);
  const size_t full = resident_bytes();
  load_free(&load, 3);
  const size_t after = resident_bytes();
  ck_assert_uint_gt(full, start + PURGE_BYTES / 5);
  ck_assert_msg(after < start + (full - start) / 4, "%zu KiB, %zu KiB, %zu KiB",
                start / KiB, full / KiB, after / KiB);
  mi_collect(true);
  option_restore(at_once);
  free(load.blocks);
}
END_TEST

START_TEST(memory_goes_back_when_a_thread_passes_by) {
  /* Slices that came due go back with the next page that somebody gives back; not those that
   * he takes and gives back himself all the time. */
  const struct option_change delay = option_change(mi_option_purge_delay, 1);
  const struct option_change times = option_change(mi_option_arena_purge_mult, 1);
  const mi_arena_id_t id = reserve(64 * MiB, true);
  mi_heap_t *heap = heap_in(id);
  char *p = mi_heap_malloc(heap, 32 * MiB);
  memset(p, 1, 32 * MiB);
  mi_free(p);
  /* However long it takes for a millisecond to pass. */
  const int64_t purged = stats_now().purged;
  while (stats_now().purged < purged + (int64_t)(32 * MiB - 4 * SLICE_SIZE)) {
    mi_free(mi_heap_malloc_aligned(heap, 200000, 64 * KiB));
  }
  mi_heap_destroy(heap);
  give_up(id);
  option_restore(times);
  option_restore(delay);
}
END_TEST

/* ---- the map as text ---- */

#define MAP_SLICES ((size_t)4096) /* at most, in the maps that are looked at */

/* What the text says of one arena. */
struct picture {
  char header[512];
  char slices[MAP_SLICES + 1];
  size_t count;
};

static const char *next_line(const char *line) {
  const char *end = strchr(line, '\n');
  ck_assert_ptr_nonnull(end);
  return end + 1;
}

/* Up to a slice the lines are like the last one. */
static void picture_repeat(struct picture *picture, size_t limit) {
  ck_assert(limit <= MAP_SLICES && (picture->count >= 64 || picture->count == limit));
  for (; picture->count < limit; picture->count++) {
    picture->slices[picture->count] = picture->slices[picture->count - 64];
  }
}

static void picture_add(struct picture *picture, const char *line) {
  unsigned long first = 0;
  char slices[80] = "";
  ck_assert_int_eq(sscanf(line, "%lu |%64[^|]|", &first, slices), 2);
  picture_repeat(picture, first);
  ck_assert_uint_eq(picture->count, first);
  ck_assert_uint_le(first + strlen(slices), MAP_SLICES);
  strcpy(picture->slices + first, slices);
  picture->count += strlen(slices);
}

/* The lines that stand for an arena in the printed text. */
static void picture_read(struct picture *picture, const char *text, mi_arena_id_t id) {
  char name[32];
  snprintf(name, sizeof name, "\narena %d: ", id);
  const char *line = strstr(text, name);
  ck_assert_msg(line != NULL, "no arena %d in %s", id, text);
  line++;
  *picture = (struct picture){.count = 0};
  snprintf(picture->header, sizeof picture->header, "%.*s", (int)strcspn(line, "\n"),
           line);
  for (line = next_line(line); *line == ' '; line = next_line(line)) {
    if (strcspn(line, "*") >= strcspn(line, "\n")) picture_add(picture, line);
  }
  size_t size = 0;
  mi_arena_area(id, &size);
  picture_repeat(picture, size >> SLICE_SHIFT);
}

static struct picture picture;

static void print_picture(mi_arena_id_t id) {
  struct text text = text_new();
  mi_register_output(text_append, &text);
  mi_debug_show_arenas();
  mi_register_output(output_discard, NULL);
  picture_read(&picture, text.bytes, id);
}

/* All slices of a block, or what was one, look like this. */
static void assert_looks(mi_arena_id_t id, const void *p, size_t slices, char expected) {
  const size_t first =
      (size_t)((const char *)p - (char *)mi_arena_area(id, NULL)) >> SLICE_SHIFT;
  for (size_t i = 0; i < slices; i++) {
    ck_assert_msg(picture.slices[first + i] == expected, "slice %zu is %c, not %c: %s",
                  first + i, picture.slices[first + i], expected, picture.slices);
  }
}

static void assert_header_has(const char *part) {
  ck_assert_msg(strstr(picture.header, part) != NULL, "no %s in %s", part,
                picture.header);
}

START_TEST(the_map_has_a_legend) {
  struct text text = text_new();
  mi_register_output(text_append, &text);
  mi_debug_show_arenas();
  static const char *const words[] = {"page",  "full",   "abandoned", "reserved",
                                      "purge", "purged", "committed", "free",
                                      "held",  "repeat", "64 KiB"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    ck_assert_msg(strstr(text.bytes, words[i]) != NULL, "no %s", words[i]);
  }
}
END_TEST

static void assert_header_tells(mi_arena_id_t id, bool exclusive, bool pinned, int node) {
  char part[64];
  print_picture(id);
  size_t size = 0;
  void *start = mi_arena_area(id, &size);
  snprintf(part, sizeof part, "base %p,", start);
  assert_header_has(part);
  snprintf(part, sizeof part, "size %zu KiB,", size / KiB);
  assert_header_has(part);
  snprintf(part, sizeof part, "node %d", node);
  assert_header_has(part);
  ck_assert((strstr(picture.header, ", exclusive") != NULL) == exclusive);
  ck_assert((strstr(picture.header, ", pinned") != NULL) == pinned);
  size_t used = 0, committed = 0;
  for (size_t i = 0; i < picture.count; i++) {
    used += strchr("xXarh", picture.slices[i]) != NULL;
    committed += strchr(".p", picture.slices[i]) == NULL;
  }
  snprintf(part, sizeof part, "%zu slices, %zu used, %zu committed", size >> SLICE_SHIFT,
           used, committed);
  assert_header_has(part);
  ck_assert_uint_eq(picture.count, size >> SLICE_SHIFT);
}

START_TEST(the_map_tells_about_each_arena) {
  const size_t size = 5 * MiB;
  char *mapping = map_slices(size, PROT_READ | PROT_WRITE);
  for (int how = 0; how < 8; how++) {
    mi_arena_id_t id = 0;
    const bool exclusive = (how & 1) != 0, pinned = (how & 2) != 0;
    const int node = (how & 4) != 0 ? 3 : -1;
    ck_assert(mi_manage_os_memory_ex(slices_of(mapping), size, true, pinned, false, node,
                                     exclusive, &id));
    assert_header_tells(id, exclusive, pinned, node);
    mi_heap_t *heap = heap_in(id);
    for (size_t i = 1; i < 300000; i *= 5) mi_free(mi_heap_malloc(heap, i));
    ck_assert_ptr_nonnull(mi_heap_malloc(heap, 1000));
    assert_header_tells(id, exclusive, pinned, node);
    mi_heap_destroy(heap);
    give_up(id);
  }
  unmap_slices(mapping, size);
}
END_TEST

static char *left_block;

static void *leave_one_block(void *id) {
  mi_heap_t *heap = mi_heap_new_ex(7, false, *(mi_arena_id_t *)id);
  left_block = mi_heap_malloc(heap, 700);
  return NULL;
}

/* A page without a free block that does not rest any more: the oldest of many. */
static char *make_full_page(mi_heap_t *heap) {
  char *first = mi_heap_malloc(heap, 4096);
  for (size_t i = 1; i < 32 * SLICE_SIZE / 4096; i++) {
    assert_quick(mi_heap_malloc(heap, 4096) != NULL);
  }
  return first;
}

/* An arena in which something is in each state but "reserved", and where. */
struct states {
  mi_arena_id_t id;
  mi_heap_t *heap;
  struct option_change never_due;
  char *start, *large, *page, *full, *waiting, *purged, *held_slices;
  struct page *held;
};

static struct states states_begin(void) {
  struct states s = {.never_due = option_change(mi_option_purge_delay, 1000000)};
  s.id = reserve(256 * MiB, true);
  s.heap = mi_heap_new_ex(5, true, s.id);
  s.start = mi_arena_area(s.id, NULL);
  s.purged = mi_heap_malloc(s.heap, 3 * SLICE_SIZE);
  s.large = mi_heap_malloc(s.heap, 7 * SLICE_SIZE);
  s.waiting = mi_heap_malloc(s.heap, 5 * SLICE_SIZE);
  s.page = mi_heap_malloc(s.heap, 100);
  s.full = make_full_page(s.heap);
  thread_run(leave_one_block, &s.id);
  /* As a thread holds them that is about to make a page. */
  bool is_zero;
  s.held = arena_claim_slices(arena_of_id(s.id), 2, 2 * MiB, 0, &is_zero);
  s.held_slices = arena_slice_address(s.held->arena, page_slice_index(s.held));
  mi_free(s.purged);
  mi_collect(true);
  mi_free(s.waiting);
  return s;
}

static void states_end(const struct states *s) {
  arena_release_slices(s->held, 2);
  mi_free(left_block);
  mi_heap_destroy(s->heap);
  give_up(s->id);
  option_restore(s->never_due);
  assert_no_errors();
}

START_TEST(the_map_shows_each_state) {
  const struct states s = states_begin();
  print_picture(s.id);
  assert_looks(s.id, s.large, 7, 'X');
  assert_looks(s.id, s.page, 1, 'x');
  assert_looks(s.id, s.full, 1, 'X');
  assert_looks(s.id, left_block, 1, 'a');
  assert_looks(s.id, s.waiting, 5, 'w');
  assert_looks(s.id, s.purged, 3, 'p');
  assert_looks(s.id, s.held_slices, 2, 'h');
  assert_looks(s.id, s.held_slices + 2 * SLICE_SIZE, 14, '-'); /* to the end of the MiB */
  assert_looks(s.id, s.held_slices + MiB, 1000, '.');
  ck_assert_ptr_null(strchr(picture.slices, 'r'));
  states_end(&s);
}
END_TEST

START_TEST(the_map_shows_what_is_reserved) {
  const size_t size = 128 * MiB, records = arena_metadata_slices(size >> SLICE_SHIFT);
  char *mapping = map_slices(size, PROT_READ | PROT_WRITE), *start = slices_of(mapping);
  const mi_arena_id_t id = hand_over(start, size, true, true);
  print_picture(id);
  assert_looks(id, start, records, 'r');
  assert_looks(id, start + (records << SLICE_SHIFT), (size >> SLICE_SHIFT) - records,
               '-');
  mi_heap_t *heap = heap_in(id);
  assert_quick(mi_heap_malloc(heap, 10 * SLICE_SIZE) != NULL);
  print_picture(id);
  assert_looks(id, start, records, 'r');
  assert_looks(id, start + (records << SLICE_SHIFT), 10, 'X');
  mi_heap_destroy(heap);
  give_up(id);
  unmap_slices(mapping, size);
}
END_TEST

/* How many lines are printed for an arena, its header included. */
static size_t lines_of(mi_arena_id_t id) {
  struct text text = text_new();
  mi_register_output(text_append, &text);
  mi_debug_show_arenas();
  mi_register_output(output_discard, NULL);
  char name[32];
  snprintf(name, sizeof name, "\narena %d: ", id);
  const char *line = strstr(text.bytes, name);
  ck_assert_ptr_nonnull(line);
  size_t lines = 1;
  for (line = next_line(line + 1); *line == ' '; line = next_line(line)) lines++;
  return lines;
}

START_TEST(lines_that_repeat_are_left_out) {
  const mi_arena_id_t id = reserve_if_possible("the map of 64 GiB", LARGE_ARENA);
  if (id == 0) return;
  ck_assert_uint_eq(lines_of(id), 3); /* the header, a line, and a sign for the rest */
  mi_heap_t *heap = heap_in(id);
  char *p = mi_heap_malloc(heap, LARGE_ARENA / 2);
  ck_assert_uint_eq(lines_of(id), 5);
  char *q = mi_heap_malloc(heap, LARGE_ARENA / 4 + SLICE_SIZE);
  ck_assert_uint_eq(lines_of(id), 6);
  mi_free(p);
  mi_collect(true);
  ck_assert_uint_le(lines_of(id), 8);
  mi_free(q);
  mi_heap_destroy(heap);
  give_up(id);
}
END_TEST

/* ---- the map as JSON ---- */

/* Read over a value of RFC 8259, and spaces before it. Returns what follows, or NULL. */
static const char *json_value(const char *at);

static const char *json_token(const char *at, const char *token) {
  if (at == NULL) return NULL;
  at += strspn(at, " \t\r\n");
  const size_t length = strlen(token);
  return strncmp(at, token, length) == 0 ? at + length : NULL;
}

static const char *json_string(const char *at) {
  at = json_token(at, "\"");
  if (at == NULL) return NULL;
  for (; *at != '"'; at++) {
    /* None of ours needs an escape. */
    if ((unsigned char)*at < ' ' || *at == '\\') return NULL;
  }
  return at + 1;
}

static const char *json_number(const char *at) {
  at += strspn(at, " \t\r\n");
  if (*at == '-') at++;
  const size_t digits = strspn(at, "0123456789");
  return digits == 0 || (*at == '0' && digits > 1) ? NULL : at + digits;
}

static const char *json_member(const char *at) {
  return json_value(json_token(json_string(at), ":"));
}

/* Elements with commas between them up to the end. */
static const char *json_list(const char *at, const char *end,
                             const char *(*element)(const char *)) {
  const char *after = json_token(at, end);
  if (after != NULL) return after;
  for (;;) {
    at = element(at);
    after = json_token(at, end);
    if (after != NULL || at == NULL) return after;
    at = json_token(at, ",");
    if (at == NULL) return NULL;
  }
}

static const char *json_value(const char *at) {
  if (at == NULL) return NULL;
  const char *inside = json_token(at, "{");
  if (inside != NULL) return json_list(inside, "}", json_member);
  inside = json_token(at, "[");
  if (inside != NULL) return json_list(inside, "]", json_value);
  if (json_token(at, "\"") != NULL) return json_string(at);
  if (json_token(at, "true") != NULL) return json_token(at, "true");
  if (json_token(at, "false") != NULL) return json_token(at, "false");
  return json_number(at);
}

START_TEST(the_checker_of_json_sees_mistakes) {
  static const char *const good[] = {"{}", "[]",
                                     "{\"a\": [1, -2, {\"b\": \"c\"}], \"d\": true}"};
  static const char *const bad[] = {
      "{",   "[1,]", "{\"a\"}",     "{\"a\": }", "01",  "[1 2]", "{1: 2}", "\"a",
      "{,}", "nan",  "{\"a\": 1,}", "[",         "tru", "",      "-"};
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    const char *end = json_value(good[i]);
    ck_assert(end != NULL && *end == 0);
  }
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    const char *end = json_value(bad[i]);
    ck_assert_msg(end == NULL || *end != 0, "%s", bad[i]);
  }
}
END_TEST

/* A run of the map. */
struct run {
  size_t slice, count;
  char state[16];
  bool is_page;
  unsigned long tag;
  size_t block_size;
};

static struct run runs[MAP_SLICES];
static size_t run_count;

/* The number behind a key, in the text before limit; found says whether it is there. */
static long long number_of(const char *text, const char *limit, const char *key,
                           bool *found) {
  char quoted[32];
  snprintf(quoted, sizeof quoted, "\"%s\": ", key);
  const char *at = strstr(text, quoted);
  *found = at != NULL && at < limit;
  return *found ? strtoll(at + strlen(quoted), NULL, 10) : 0;
}

static size_t must_have(const char *text, const char *limit, const char *key) {
  bool found;
  const long long number = number_of(text, limit, key, &found);
  ck_assert_msg(found && number >= 0, "no %s in %s", key, text);
  return (size_t)number;
}

static struct run read_run(const char *at, const char *end) {
  struct run run = {.slice = must_have(at, end, "slice")};
  run.count = must_have(at, end, "count");
  const char *state = strstr(at, "\"state\": \"");
  ck_assert(state != NULL && state < end);
  ck_assert_int_eq(sscanf(state, "\"state\": \"%15[a-z]\"", run.state), 1);
  bool has_tag, has_size;
  run.tag = (unsigned long)number_of(at, end, "tag", &has_tag);
  run.block_size = (size_t)number_of(at, end, "block_size", &has_size);
  ck_assert(has_tag == has_size);
  run.is_page = has_tag;
  return run;
}

/* The runs of the only arena in a map. */
static void read_runs(const char *text) {
  run_count = 0;
  const char *at = strstr(text, "\"runs\": [");
  ck_assert_ptr_nonnull(at);
  while ((at = strchr(at, '{')) != NULL) {
    const char *end = strchr(at, '}');
    ck_assert(end != NULL && run_count < MAP_SLICES);
    runs[run_count++] = read_run(at, end);
    at = end;
  }
}

static bool run_is(const struct run *run, const char *states) {
  const char *at = strstr(states, run->state);
  return at != NULL;
}

#define PAGE_STATES "page full abandoned"
#define FREE_STATES "waiting purged committed free"
#define MEMORY_STATES "page full abandoned reserved held waiting committed"

/* Slices in one of these states. */
static size_t slices_in(const char *states) {
  size_t count = 0;
  for (size_t i = 0; i < run_count; i++) {
    if (run_is(&runs[i], states)) count += runs[i].count;
  }
  return count;
}

/* The runs follow each other without a gap; those without a page are as long as they
 * can be. */
static void assert_runs_cover(size_t slices, bool is_quiet) {
  size_t next = 0;
  for (size_t i = 0; i < run_count; i++) {
    ck_assert_uint_eq(runs[i].slice, next);
    ck_assert_uint_gt(runs[i].count, 0);
    ck_assert(run_is(&runs[i], PAGE_STATES) == runs[i].is_page);
    ck_assert(runs[i].is_page || run_is(&runs[i], FREE_STATES " reserved held"));
    if (is_quiet && i > 0 && !runs[i].is_page) {
      ck_assert_str_ne(runs[i].state, runs[i - 1].state);
    }
    if (is_quiet && runs[i].is_page) {
      ck_assert_uint_le(runs[i].block_size, runs[i].count << SLICE_SHIFT);
    }
    next += runs[i].count;
  }
  ck_assert_uint_eq(next, slices);
}

/* Write the map of an arena, or of all with 0, and check that it is JSON in one line. */
static struct text map_text(mi_arena_id_t id) {
  struct text text = text_new();
  ck_assert_int_eq(mirt_arena_map(id, text_append, &text), 0);
  const char *end = json_value(text.bytes);
  ck_assert_msg(end != NULL && strcmp(end, "\n") == 0, "no JSON: %s", text.bytes);
  ck_assert_uint_eq(text.lines, 1);
  return text;
}

static void assert_map_of(mi_arena_id_t id, bool is_quiet) {
  const struct text text = map_text(id);
  const char *end = strstr(text.bytes, "\"runs\"");
  ck_assert_ptr_nonnull(end);
  size_t size = 0;
  char base[40];
  snprintf(base, sizeof base, "\"base\": \"0x%" PRIxPTR "\"",
           (uintptr_t)mi_arena_area(id, &size));
  ck_assert_ptr_nonnull(strstr(text.bytes, base));
  ck_assert_uint_eq(must_have(text.bytes, end, "slice_size"), SLICE_SIZE);
  ck_assert_uint_eq(must_have(text.bytes, end, "id"), (size_t)id);
  ck_assert_uint_eq(must_have(text.bytes, end, "size"), size);
  ck_assert_uint_eq(must_have(text.bytes, end, "slices"), size >> SLICE_SHIFT);
  read_runs(text.bytes);
  assert_runs_cover(size >> SLICE_SHIFT, is_quiet);
  if (!is_quiet) return;
  const size_t used = must_have(text.bytes, end, "used");
  ck_assert_uint_eq(used, slices_in(PAGE_STATES " reserved held"));
  ck_assert_uint_eq(used + slices_in(FREE_STATES), size >> SLICE_SHIFT);
  ck_assert_uint_eq(must_have(text.bytes, end, "committed"), slices_in(MEMORY_STATES));
}

/* The run that begins where p lies. */
static const struct run *run_at(mi_arena_id_t id, const void *p) {
  const size_t slice =
      (size_t)((const char *)p - (char *)mi_arena_area(id, NULL)) >> SLICE_SHIFT;
  for (size_t i = 0; i < run_count; i++) {
    if (slice - runs[i].slice < runs[i].count) return &runs[i];
  }
  return NULL;
}

static void assert_run(mi_arena_id_t id, const void *p, size_t count, const char *state,
                       unsigned long tag, size_t block_size) {
  const struct run *run = run_at(id, p);
  ck_assert_ptr_nonnull(run);
  ck_assert_str_eq(run->state, state);
  ck_assert(count == 0 || run->count == count);
  ck_assert_uint_eq(run->tag, tag);
  ck_assert_uint_eq(run->block_size, block_size);
}

START_TEST(json_shows_each_state) {
  const struct states s = states_begin();
  assert_map_of(s.id, true);
  assert_run(s.id, s.large, 7, "full", 5, 7 * SLICE_SIZE);
  assert_run(s.id, s.page, 1, "page", 5, mi_good_size(100));
  assert_run(s.id, s.full, 1, "full", 5, 4096);
  assert_run(s.id, left_block, 0, "abandoned", 7, mi_good_size(700));
  assert_run(s.id, s.waiting, 5, "waiting", 0, 0);
  assert_run(s.id, s.purged, 3, "purged", 0, 0);
  assert_run(s.id, s.held_slices, 2, "held", 0, 0);
  assert_run(s.id, s.held_slices + 2 * SLICE_SIZE, 14, "committed", 0, 0);
  assert_run(s.id, s.start + 256 * MiB - 1, 0, "free", 0, 0);
  states_end(&s);
}
END_TEST

START_TEST(json_of_memory_handed_over) {
  const size_t size = 16 * MiB, records = arena_metadata_slices(size >> SLICE_SHIFT);
  char *mapping = map_slices(size, PROT_READ | PROT_WRITE), *start = slices_of(mapping);
  const mi_arena_id_t id = hand_over(start, size, true, true);
  assert_map_of(id, true);
  assert_run(id, start, records, "reserved", 0, 0);
  assert_run(id, start + size - 1, 256 - records, "committed", 0, 0);
  mi_heap_t *heap = heap_in(id);
  struct dice dice = dice_new(1);
  for (int round = 0; round < 50; round++) {
    for (int i = 0; i < 20; i++) {
      void *p = mi_heap_malloc(heap, dice_roll(&dice, 100000));
      if (dice_roll(&dice, 3) != 0) mi_free(p);
    }
    mi_heap_collect(heap, round % 8 == 7);
    assert_map_of(id, true);
  }
  errors_clear(); /* it may be full by now */
  mi_heap_destroy(heap);
  give_up(id);
  unmap_slices(mapping, size);
}
END_TEST

START_TEST(json_of_all_arenas) {
  enum { COUNT = 50 };
  for (size_t i = 0; i < COUNT; i++) ids[i] = reserve(size_of_arena(i), i % 2 == 0);
  for (size_t i = 0; i < COUNT; i += 7) give_up(ids[i]);
  const struct text text = map_text(0);
  size_t arenas = 0, last = 0;
  for (const char *at = text.bytes; (at = strstr(at, "\"id\": ")) != NULL; arenas++) {
    at += strlen("\"id\": ");
    const size_t id = strtoul(at, NULL, 10);
    ck_assert_uint_gt(id, last);
    ck_assert_ptr_nonnull(mi_arena_area((mi_arena_id_t)id, NULL));
    last = id;
  }
  ck_assert_int_eq((int64_t)arenas, stats_now().arenas.current);
  for (size_t i = 0; i < COUNT; i++) {
    if (i % 7 != 0) give_up(ids[i]);
  }
}
END_TEST

START_TEST(json_of_no_arena) {
  struct text text = text_new();
  const mi_arena_id_t gone = reserve(MiB, true);
  give_up(gone);
  const mi_arena_id_t unknown[] = {gone, -1, INT32_MIN, INT32_MAX, ARENAS_MAX + 1};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    ck_assert_int_eq(mirt_arena_map(unknown[i], text_append, &text), EINVAL);
    assert_errors(EINVAL, 1);
    ck_assert_uint_eq(text.used, 0);
  }
}
END_TEST

START_TEST(json_through_the_registered_function) {
  const mi_arena_id_t id = reserve(MiB, true);
  const struct text wanted = map_text(id);
  int unused;
  char *copy = strdup(wanted.bytes);
  ck_assert_ptr_nonnull(copy);
  struct text text = text_new();
  mi_register_output(text_append, &text);
  ck_assert_int_eq(mirt_arena_map(id, NULL, &unused), 0);
  ck_assert_str_eq(text.bytes, copy);
  free(copy);
  mi_register_output(output_discard, NULL);
  give_up(id);
}
END_TEST

static mi_heap_t *busy_heap;

/* An output function may allocate, here where the map is of. */
static void append_and_allocate(const char *piece, void *argument) {
  text_append(piece, argument);
  char *p = mi_heap_malloc(busy_heap, 100 * strlen(piece));
  if (p != NULL) *p = 1;
  mi_free(p);
}

START_TEST(the_output_function_may_allocate) {
  const mi_arena_id_t id = reserve(64 * MiB, true);
  busy_heap = heap_in(id);
  for (size_t size = 1; size < 100000; size *= 4) {
    assert_quick(mi_heap_malloc(busy_heap, size) != NULL);
  }
  struct text text = text_new();
  ck_assert_int_eq(mirt_arena_map(id, append_and_allocate, &text), 0);
  ck_assert_ptr_nonnull(json_value(text.bytes));
  text = text_new();
  mi_register_output(append_and_allocate, &text);
  mi_debug_show_arenas();
  mi_register_output(output_discard, NULL);
  ck_assert_uint_gt(text.lines, 4);
  mi_heap_destroy(busy_heap);
  give_up(id);
  assert_no_errors();
}
END_TEST

static atomic_word maps_are_done;

/* Allocate and free in an arena while maps of it are drawn. */
static void *change_the_map(void *argument) {
  mi_heap_t *heap = mi_heap_new_in_arena(*(mi_arena_id_t *)argument);
  struct dice dice = dice_new((uintptr_t)heap);
  void *held[32] = {NULL};
  while (atomic_load_acquire(&maps_are_done) == 0) {
    const size_t slot = dice_roll(&dice, 32);
    mi_free(held[slot]);
    held[slot] =
        mi_heap_malloc(heap, dice_roll(&dice, (size_t)16 << dice_roll(&dice, 14)));
    if (slot == 0) mi_heap_collect(heap, true);
  }
  for (size_t i = 0; i < 32; i++) mi_free(held[i]);
  mi_heap_delete(heap);
  return NULL;
}

START_TEST(maps_while_threads_allocate) {
  mi_arena_id_t id = reserve(64 * MiB, true);
  atomic_store_release(&maps_are_done, 0);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, change_the_map, &id), 0);
  }
  for (int i = 0; i < TEST_ROUNDS(400); i++) {
    assert_map_of(id, false);
    print_picture(id);
    ck_assert_uint_eq(picture.count, 64 * MiB / SLICE_SIZE);
  }
  atomic_store_release(&maps_are_done, 1);
  for (int i = 0; i < 2; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  assert_map_of(id, true);
  give_up(id);
  assert_no_errors();
}
END_TEST

/* ---- main ---- */

int main(void) {
  Suite *suite = suite_create("many arenas");
  TCase *c = case_begin(suite, "large");
  tcase_add_test(c, sixty_four_gibibytes_are_one_arena);
  tcase_add_test(c, small_blocks_at_the_end_of_a_large_arena);
  tcase_add_test(c, a_block_as_large_as_a_reserved_arena);
  tcase_add_test(c, a_block_as_large_as_memory_handed_over);
  c = case_begin(suite, "alignment");
  tcase_add_test(c, every_alignment);
  tcase_add_test(c, an_alignment_that_does_not_fit);
  c = case_begin(suite, "thousands");
  tcase_add_test(c, a_thousand_exclusive_arenas);
  tcase_add_test(c, a_thousand_arenas_fill_one_after_the_other);
  tcase_add_test(c, full_arenas_are_not_looked_at);
  tcase_add_test(c, as_many_arenas_as_there_can_be);
  tcase_add_test(c, isolates_leave_nothing_behind);
  c = case_begin(suite, "sets");
  tcase_add_test(c, arenas_with_abandoned_pages_are_known);
  tcase_add_test(c, adopted_pages_leave_the_set);
  tcase_add_test(c, arenas_to_purge_are_known);
  c = case_begin(suite, "purge");
  tcase_add_test(c, memory_goes_back);
  tcase_add_loop_test(c, memory_of_a_sleeping_thread_goes_back, 0, 4);
  tcase_add_test(c, memory_of_threads_goes_back);
  tcase_add_test(c, memory_goes_back_as_it_is_freed);
  tcase_add_test(c, memory_goes_back_when_a_thread_passes_by);
  c = case_begin(suite, "map as text");
  tcase_add_test(c, the_map_has_a_legend);
  tcase_add_test(c, the_map_tells_about_each_arena);
  tcase_add_test(c, the_map_shows_each_state);
  tcase_add_test(c, the_map_shows_what_is_reserved);
  tcase_add_test(c, lines_that_repeat_are_left_out);
  c = case_begin(suite, "map as JSON");
  tcase_add_test(c, the_checker_of_json_sees_mistakes);
  tcase_add_test(c, json_shows_each_state);
  tcase_add_test(c, json_of_memory_handed_over);
  tcase_add_test(c, json_of_all_arenas);
  tcase_add_test(c, json_of_no_arena);
  tcase_add_test(c, json_through_the_registered_function);
  tcase_add_test(c, the_output_function_may_allocate);
  tcase_add_test(c, maps_while_threads_allocate);
  return suite_run(suite);
}
