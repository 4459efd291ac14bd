/* test_epoch.c - empty pages wait for readers: what is refused, that nobody else gets the
 * memory before they have passed, and everybody after; arenas that are full meanwhile, blocks
 * with a mapping of their own, the child of a fork, and readers without locks beside writers.
 */
#include "test.h"

#include <mirt.h>

/* Tags of this program. The tests may share one: pages of it come and go. */
enum { TAG_DELAYED = 310, TAG_OTHER, TAG_TABLE };

#define COUNT 2048 /* blocks of 64 bytes: 128 KiB, several pages */

static mi_heap_t *heap_of(int tag, mi_arena_id_t arena) {
  mi_heap_t *heap = mi_heap_new_ex(tag, true, arena);
  ck_assert_ptr_nonnull(heap);
  return heap;
}

/* A heap whose pages wait, with blocks that say what they are. */
static mi_heap_t *delayed_heap(mi_arena_id_t arena, unsigned char **blocks) {
  ck_assert_int_eq(mirt_tag_delay_reuse(TAG_DELAYED), 0);
  mi_heap_t *heap = heap_of(TAG_DELAYED, arena);
  for (size_t i = 0; i < COUNT; i++) {
    blocks[i] = mi_heap_malloc(heap, 64);
    assert_quick(blocks[i] != NULL);
    memset(blocks[i], 0xD1, 64);
  }
  return heap;
}

static bool all_stale(unsigned char *const *blocks) {
  for (size_t i = 0; i < COUNT; i++) {
    if (!bytes_are(blocks[i], 64, 0xD1)) return false;
  }
  return true;
}

static mi_arena_id_t small_arena(void) {
  mi_arena_id_t arena;
  ck_assert_int_eq(mi_reserve_os_memory_ex(4 << 20, true, false, true, &arena), 0);
  return arena;
}

/* Memory has been short at times, which was reported, and nothing else was. */
static void assert_short_at_most(void) {
  ck_assert_uint_eq(errors_total(), errors_of(ENOMEM));
  errors_clear();
}

/* Blocks of another tag until the arena is full; returns how many. */
static size_t fill(mi_heap_t *heap) {
  size_t count = 0;
  for (void *p; (p = mi_heap_malloc(heap, 4096)) != NULL; count++) memset(p, 0xEE, 4096);
  return count;
}

START_TEST(what_is_refused) {
  const int wrong[] = {-1, MIRT_TAG_MAX + 1, INT32_MIN, INT32_MAX};
  for (size_t i = 0; i < 4; i++) {
    ck_assert_int_eq(mirt_tag_delay_reuse(wrong[i]), EINVAL);
    ck_assert(!mirt_tag_delays_reuse(wrong[i]));
  }
  assert_errors(EINVAL, 4);
  ck_assert(!mirt_tag_delays_reuse(TAG_OTHER));
  ck_assert_int_eq(mirt_tag_delay_reuse(TAG_DELAYED), 0);
  ck_assert_int_eq(mirt_tag_delay_reuse(TAG_DELAYED), 0);
  ck_assert(mirt_tag_delays_reuse(TAG_DELAYED));
  ck_assert_int_eq(mirt_tag_delay_reuse(MIRT_TAG_MAX), 0);

  mirt_epoch_reader_t a, b;
  ck_assert_int_eq(mirt_epoch_attach(NULL), EINVAL);
  ck_assert_int_eq(mirt_epoch_detach(NULL), EINVAL);
  assert_errors(EINVAL, 2);
  ck_assert_int_eq(mirt_epoch_detach(&a), ENOENT);
  assert_errors(ENOENT, 1);
  ck_assert_int_eq(mirt_epoch_attach(&a), 0);
  ck_assert_int_eq(mirt_epoch_attach(&b), 0);
  ck_assert_int_eq(mirt_epoch_attach(&a), EBUSY);
  ck_assert_int_eq(mirt_epoch_attach(&b), EBUSY);
  assert_errors(EBUSY, 2);
  ck_assert_int_eq(mirt_epoch_detach(&a), 0);
  ck_assert_int_eq(mirt_epoch_detach(&a), ENOENT);
  assert_errors(ENOENT, 1);
  ck_assert_int_eq(mirt_epoch_detach(&b), 0);
  assert_no_errors();
}
END_TEST

/* Which way all the pages become empty: block by block, or the heap at once. */
START_TEST(nobody_gets_the_memory_before) {
  static unsigned char *blocks[COUNT];
  const bool by_destroy = _i != 0;
  const mi_arena_id_t arena = small_arena();
  mirt_epoch_reader_t reader;
  ck_assert_int_eq(mirt_epoch_attach(&reader), 0);
  mi_heap_t *heap = delayed_heap(arena, blocks);
  mi_heap_t *other = heap_of(TAG_OTHER, arena);
  ck_assert_uint_eq(mirt_epoch_collect(), 0);
  if (!by_destroy) {
    for (size_t i = 0; i < COUNT; i++) mi_free(blocks[i]);
  }
  mi_heap_destroy(heap);
  const size_t waiting = mirt_epoch_collect();
  ck_assert_uint_ge(waiting, COUNT * 64);
  ck_assert_int_eq(mirt_tag_of(blocks[0]), -1);

  /* All that others can get is not that memory. */
  const size_t before = fill(other);
  mi_collect(true);
  ck_assert(all_stale(blocks));
  ck_assert_uint_eq(mirt_epoch_collect(), waiting);

  mirt_epoch_announce(&reader);
  const size_t after = fill(other);
  ck_assert_uint_eq(mirt_epoch_collect(), 0);
  ck_assert_uint_ge(after * 4096, COUNT * 64);
  ck_assert_uint_gt(before, 0);
  ck_assert(!all_stale(blocks));

  ck_assert_int_eq(mirt_epoch_detach(&reader), 0);
  mi_heap_destroy(other);
  ck_assert_int_eq(mirt_arena_destroy(arena), 0);
  assert_short_at_most();
}
END_TEST

/* The last one that has not announced is who everybody waits for; who pauses, or is gone, is
 * not waited for. */
START_TEST(the_slowest_reader_counts) {
  static unsigned char *blocks[COUNT];
  mirt_epoch_reader_t readers[4];
  for (size_t i = 0; i < 4; i++) ck_assert_int_eq(mirt_epoch_attach(&readers[i]), 0);
  mirt_epoch_pause(&readers[3]);
  mirt_epoch_announce(&readers[3]); /* goes on pausing */
  mi_heap_destroy(delayed_heap(0, blocks));
  const size_t waiting = mirt_epoch_collect();
  ck_assert_uint_gt(waiting, 0);
  mirt_epoch_announce(&readers[0]);
  ck_assert_uint_eq(mirt_epoch_collect(), waiting);
  ck_assert_int_eq(mirt_epoch_detach(&readers[1]), 0);
  ck_assert_uint_eq(mirt_epoch_collect(), waiting);
  ck_assert(all_stale(blocks));
  mirt_epoch_pause(&readers[2]);
  ck_assert_uint_eq(mirt_epoch_collect(), 0);

  /* Who resumes later than a page became empty does not know it. */
  mirt_epoch_pause(&readers[0]);
  ck_assert_int_eq(mirt_epoch_attach(&readers[1]), 0);
  mi_heap_destroy(delayed_heap(0, blocks));
  mirt_epoch_resume(&readers[2]);
  ck_assert_uint_gt(mirt_epoch_collect(), 0);
  mirt_epoch_announce(&readers[1]);
  ck_assert_uint_eq(mirt_epoch_collect(), 0);
  for (size_t i = 0; i < 4; i++) ck_assert_int_eq(mirt_epoch_detach(&readers[i]), 0);
  assert_no_errors();
}
END_TEST

START_TEST(nobody_reads_nobody_waits) {
  static unsigned char *blocks[COUNT];
  const int64_t pages = pages_now();
  mi_heap_destroy(delayed_heap(0, blocks));
  ck_assert_uint_eq(mirt_epoch_collect(), 0);
  ck_assert_int_eq(pages_now(), pages);
}
END_TEST

/* Only pages wait: blocks of the same tag and size take the place of others at once. */
START_TEST(blocks_do_not_wait) {
  ck_assert_int_eq(mirt_tag_delay_reuse(TAG_DELAYED), 0);
  mirt_epoch_reader_t reader;
  ck_assert_int_eq(mirt_epoch_attach(&reader), 0);
  mi_heap_t *heap = heap_of(TAG_DELAYED, 0);
  for (size_t i = 0; i < 1000000; i++) mi_free(mi_heap_malloc(heap, 64));
  ck_assert_uint_eq(mirt_epoch_collect(), 0);
  mirt_stats_t stats;
  ck_assert(mirt_stats_heap(heap, &stats));
  ck_assert_uint_eq(stats.pages, 1);
  mi_heap_destroy(heap);
  ck_assert_int_eq(mirt_epoch_detach(&reader), 0);
  ck_assert_uint_eq(mirt_epoch_collect(), 0);
}
END_TEST

/* One block in an arena, with a guard behind it or not, and one with a mapping of its own. */
START_TEST(large_blocks_wait) {
  ck_assert_int_eq(mirt_tag_delay_reuse(TAG_DELAYED), 0);
  const size_t sizes[] = {3 << 20, 1100u << 20, 1000};
  for (size_t i = 0; i < 3; i++) {
    mirt_epoch_reader_t reader;
    ck_assert_int_eq(mirt_epoch_attach(&reader), 0);
    mi_heap_t *heap = heap_of(TAG_DELAYED, 0);
    if (i == 2) {
      mi_heap_guarded_set_size_bound(heap, 1, 4096);
      mi_heap_guarded_set_sample_rate(heap, 1, 1);
    }
    unsigned char *p = mi_heap_malloc(heap, sizes[i]);
    ck_assert_ptr_nonnull(p);
    memset(p, 0x55, 1000);
    mi_free(p);
    ck_assert_uint_ge(mirt_epoch_collect(), sizes[i]);
    ck_assert(bytes_are(p, 1000, 0x55));
    mirt_epoch_announce(&reader);
    ck_assert_uint_eq(mirt_epoch_collect(), 0);
    if (i == 1) assert_unreadable(p);
    mi_free(p); /* a double free, noticed as one of no block */
    ck_assert_uint_eq(errors_total(), 1);
    errors_clear();
    mi_heap_destroy(heap);
    ck_assert_int_eq(mirt_epoch_detach(&reader), 0);
  }
}
END_TEST

/* What waits goes with its arena, whoever reads. */
START_TEST(arenas_end_with_what_waits) {
  ck_assert_int_eq(mirt_tag_delay_reuse(TAG_DELAYED), 0);
  mirt_epoch_reader_t reader;
  ck_assert_int_eq(mirt_epoch_attach(&reader), 0);
  mirt_cage_t *cage;
  ck_assert_int_eq(mirt_cage_create(&(mirt_cage_options_t){.shift = 3}, &cage), 0);
  mi_heap_t *heap = heap_of(TAG_DELAYED, cage->arena);
  for (size_t i = 0; i < COUNT; i++) assert_quick(mi_heap_malloc(heap, 64) != NULL);
  mi_heap_destroy(heap);
  ck_assert_uint_gt(mirt_epoch_collect(), 0);
  ck_assert_int_eq(mirt_cage_destroy(cage), 0);
  ck_assert_uint_eq(mirt_epoch_collect(), 0);

  /* An arena that is given up politely has to wait. */
  static unsigned char *blocks[COUNT];
  const mi_arena_id_t arena = small_arena();
  mi_heap_destroy(delayed_heap(arena, blocks));
  assert_no_errors();
  ck_assert_int_eq(mirt_arena_destroy(arena), EBUSY);
  assert_errors(EBUSY, 1);
  ck_assert(all_stale(blocks));
  mirt_epoch_announce(&reader);
  ck_assert_int_eq(mirt_arena_destroy(arena), 0);
  ck_assert_int_eq(mirt_epoch_detach(&reader), 0);
  assert_no_errors();
}
END_TEST

/* ---- the child of a fork ---- */

struct family {
  mirt_epoch_reader_t *reader;
  mi_heap_t *other;
};

static void be_the_child(void *argument) {
  const struct family *family = argument;
  if (mirt_epoch_collect() != 0) _exit(1);
  if (fill(family->other) < COUNT * 64 / 4096) _exit(2);
  if (mirt_epoch_detach(family->reader) != 0) _exit(3);
}

START_TEST(the_child_of_a_fork_has_its_memory_back) {
  static unsigned char *blocks[COUNT];
  const mi_arena_id_t arena = small_arena();
  mirt_epoch_reader_t reader;
  ck_assert_int_eq(mirt_epoch_attach(&reader), 0);
  mi_heap_t *heap = delayed_heap(arena, blocks);
  mi_heap_t *other = heap_of(TAG_OTHER, arena);
  fill(other);
  mi_heap_destroy(heap);
  const size_t waiting = mirt_epoch_collect();
  ck_assert_uint_gt(waiting, 0);
  struct family family = {&reader, other};
  ck_assert_int_eq(child_run(be_the_child, &family), 0);
  ck_assert_uint_eq(mirt_epoch_collect(), waiting);
  ck_assert(all_stale(blocks));
  ck_assert_int_eq(mirt_epoch_detach(&reader), 0);
  mi_heap_destroy(other);
  ck_assert_int_eq(mirt_arena_destroy(arena), 0);
  assert_short_at_most();
}
END_TEST

/* ---- threads ---- */

/* Two writers replace tables and free the old ones, in an arena so small that its slices go
 * round; others of theirs in it are filled with something else. Readers follow
 * what they find: it may be stale, but it is always a table. */
#define TABLE_MARK ((uintptr_t)0x7AB1E7AB1E)
#define SLOTS 64
#define WRITERS 2
#define READERS 3

struct table {
  atomic_word mark;
  atomic_word words[255];
};

static atomic_word slots[SLOTS]; /* struct table* */
static atomic_word writers_left;
static atomic_word wrong_words;
static mi_arena_id_t table_arena;

static void *write_tables(void *argument) {
  struct dice dice = dice_new((uint64_t)(uintptr_t)argument);
  mi_heap_t *tables = mi_heap_new_ex(TAG_TABLE, false, table_arena);
  mi_heap_t *strings = mi_heap_new_ex(TAG_OTHER, false, table_arena);
  atomic_word *kept[64] = {0};
  for (size_t round = 0; round < (size_t)TEST_ROUNDS(4000); round++) {
    /* A burst, so that whole pages become empty. */
    const bool grows = dice_roll(&dice, 2) != 0;
    for (size_t i = 0; i < SLOTS; i++) {
      struct table *table = grows ? mi_heap_malloc(tables, sizeof *table) : NULL;
      if (table != NULL) atomic_store_relaxed(&table->mark, TABLE_MARK);
      struct table *old =
          (struct table *)atomic_exchange_full(&slots[i], (uintptr_t)table);
      mi_free(old);
    }
    for (size_t i = 0; i < 64; i++) {
      mi_free((void *)kept[i]);
      kept[i] = grows ? NULL : mi_heap_malloc(strings, 2048);
      for (size_t k = 0; kept[i] != NULL && k < 256; k++) {
        atomic_store_relaxed(&kept[i][k], round);
      }
    }
  }
  for (size_t i = 0; i < 64; i++) mi_free((void *)kept[i]);
  mi_heap_delete(tables);
  mi_heap_delete(strings);
  atomic_fetch_sub_full(&writers_left, 1);
  return NULL;
}

static void *read_tables(void *argument) {
  struct dice dice = dice_new(100 + (uint64_t)(uintptr_t)argument);
  mirt_epoch_reader_t reader;
  mirt_epoch_attach(&reader);
  while (atomic_load_acquire(&writers_left) != 0) {
    struct table *found[8];
    for (size_t i = 0; i < 8; i++) {
      found[i] = (struct table *)atomic_load_acquire(&slots[dice_roll(&dice, SLOTS)]);
    }
    for (size_t round = 0; round < 20; round++) {
      for (size_t i = 0; i < 8; i++) {
        if (found[i] != NULL && atomic_load_relaxed(&found[i]->mark) != TABLE_MARK) {
          atomic_fetch_add_full(&wrong_words, 1);
        }
      }
    }
    if (dice_roll(&dice, 4) == 0) {
      mirt_epoch_pause(&reader);
      mirt_epoch_resume(&reader);
    } else {
      mirt_epoch_announce(&reader);
    }
  }
  mirt_epoch_detach(&reader);
  return NULL;
}

static void *read_or_write(void *argument) {
  const uintptr_t number = *(uintptr_t *)argument;
  return (number < WRITERS ? write_tables : read_tables)((void *)number);
}

START_TEST(readers_find_tables_only) {
  ck_assert_int_eq(mirt_tag_delay_reuse(TAG_TABLE), 0);
  table_arena = small_arena();
  atomic_store_relaxed(&writers_left, WRITERS);
  uintptr_t numbers[WRITERS + READERS];
  for (uintptr_t i = 0; i < WRITERS + READERS; i++) numbers[i] = i;
  threads_run(WRITERS + READERS, read_or_write, numbers, sizeof numbers[0]);
  ck_assert_uint_eq(atomic_load_relaxed(&wrong_words), 0);
  for (size_t i = 0; i < SLOTS; i++) {
    mi_free((void *)atomic_exchange_full(&slots[i], 0));
  }
  mi_collect(true);
  ck_assert_uint_eq(mirt_epoch_collect(), 0);
  ck_assert_int_eq(mirt_arena_destroy(table_arena), 0);
  assert_short_at_most();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("epoch");
  TCase *pages = case_begin(suite, "pages");
  tcase_add_test(pages, what_is_refused);
  tcase_add_loop_test(pages, nobody_gets_the_memory_before, 0, 2);
  tcase_add_test(pages, the_slowest_reader_counts);
  tcase_add_test(pages, nobody_reads_nobody_waits);
  tcase_add_test(pages, blocks_do_not_wait);
  tcase_add_test(pages, large_blocks_wait);
  tcase_add_test(pages, arenas_end_with_what_waits);
  tcase_add_test(pages, the_child_of_a_fork_has_its_memory_back);
  TCase *threads = case_begin(suite, "threads");
  tcase_add_test(threads, readers_find_tables_only);
  return suite_run(suite);
}
