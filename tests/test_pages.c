/* test_pages.c - pages that change hands: what stale pointers, visitors and heirs may see. */
#include "test.h"

#define BLOCK 64
#define SLICE ((size_t)65536)
#define PAGE_BLOCKS (SLICE / BLOCK)

static void *blocks[128 * 1024];

static mi_heap_t *heap_in_new_arena(void) {
  mi_arena_id_t id = 0;
  ck_assert_int_eq(mi_reserve_os_memory_ex((size_t)64 << 20, true, false, true, &id), 0);
  mi_heap_t *heap = mi_heap_new_in_arena(id);
  ck_assert_ptr_nonnull(heap);
  return heap;
}

static int compare_addresses(const void *a, const void *b) {
  const uintptr_t left = *(const uintptr_t *)a, right = *(const uintptr_t *)b;
  return left < right ? -1 : left > right;
}

/* A slice that was in the middle of a large block: a pointer from before it must not be
 * taken for a block of the page that lies in front of it now. */
START_TEST(stale_pointer_behind_a_new_page) {
  mi_heap_t *heap = heap_in_new_arena();
  void *front[4];
  for (int i = 0; i < 4; i++) front[i] = mi_heap_malloc(heap, SLICE);
  void *stale = mi_heap_malloc(heap, BLOCK);
  for (int i = 0; i < 4; i++) mi_free(front[i]);
  mi_free(stale);
  mi_heap_collect(heap, true);
  mi_free(mi_heap_malloc(heap, 16 * SLICE));
  size_t count = 0;
  for (; count < PAGE_BLOCKS + PAGE_BLOCKS / 2; count++) {
    blocks[count] = mi_heap_malloc(heap, BLOCK);
  }
  mi_free(stale);
  ck_assert_uint_eq(errors_total(), 1);
  for (; count < 2 * PAGE_BLOCKS; count++) blocks[count] = mi_heap_malloc(heap, BLOCK);
  qsort(blocks, count, sizeof blocks[0], compare_addresses);
  for (size_t i = 1; i < count; i++) ck_assert_ptr_ne(blocks[i - 1], blocks[i]);
  for (size_t i = 0; i < count; i++) mi_free(blocks[i]);
  mi_heap_delete(heap);
  errors_clear();
}
END_TEST

static void *leave_some(void *argument) {
  void **left = argument;
  for (int i = 0; i < 20; i++) left[i] = mi_malloc(3000);
  return NULL;
}

static bool free_visited(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                         size_t size, void *argument) {
  (void)heap, (void)area, (void)size;
  if (block != NULL) {
    ++*(size_t *)argument;
    mi_free(block);
  }
  return true;
}

/* A visitor may free what it is shown, also in pages that nobody owns. */
START_TEST(visitor_frees_abandoned_blocks) {
  mi_collect(true);
  const int64_t pages = pages_now();
  void *left[20];
  thread_run(leave_some, left);
  mi_heap_t *heap = mi_heap_new();
  for (int i = 0; i < 3000; i++) ck_assert_ptr_nonnull(mi_heap_malloc(heap, 3000));
  const long before = mi_option_get(mi_option_visit_abandoned);
  mi_option_set(mi_option_visit_abandoned, 1);
  size_t freed = 0;
  ck_assert(mi_abandoned_visit_blocks(mi_subproc_main(), -1, true, free_visited, &freed));
  mi_option_set(mi_option_visit_abandoned, before);
  ck_assert_uint_eq(freed, 20);
  mi_heap_destroy(heap);
  mi_collect(true);
  ck_assert_int_eq(pages_now(), pages);
  ck_assert_uint_eq(errors_total(), 0);
}
END_TEST

enum { LARGE_LEFT = 100, PAGES_LEFT = 100 };
static void *large_left[LARGE_LEFT];
static void *small_left[PAGES_LEFT];

/* Leaves large blocks in front, and behind them pages with one live block each. */
static void *leave_pages(void *argument) {
  for (int i = 0; i < LARGE_LEFT; i++) large_left[i] = mi_malloc(200 * 1024);
  const size_t count = PAGES_LEFT * PAGE_BLOCKS;
  for (size_t i = 0; i < count; i++) blocks[i] = mi_malloc(BLOCK);
  for (size_t i = 0; i < count; i++) {
    if (i % PAGE_BLOCKS == 0) {
      small_left[i / PAGE_BLOCKS] = blocks[i];
    } else {
      mi_free(blocks[i]);
    }
  }
  return argument;
}

/* Pages that fit nobody are not in the way of those that do. */
START_TEST(adoption_reaches_behind_large_pages) {
  thread_run(leave_pages, NULL);
  const mi_stats_t before = stats_now();
  const size_t count = PAGES_LEFT / 2 * PAGE_BLOCKS;
  for (size_t i = 0; i < count; i++) blocks[i] = mi_malloc(BLOCK);
  ck_assert_int_ge(stats_now().pages_adopted, before.pages_adopted + PAGES_LEFT / 4);
  for (size_t i = 0; i < count; i++) mi_free(blocks[i]);
  for (int i = 0; i < LARGE_LEFT; i++) mi_free(large_left[i]);
  for (int i = 0; i < PAGES_LEFT; i++) mi_free(small_left[i]);
  ck_assert_uint_eq(errors_total(), 0);
}
END_TEST

/* Pages that a visit has looked at rest as before: others can empty them. */
static void *free_all(void *argument) {
  (void)argument;
  for (size_t i = 0; i < 40 * PAGE_BLOCKS; i++) mi_free(blocks[i]);
  return NULL;
}

static bool look(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                 size_t size, void *argument) {
  (void)heap, (void)area, (void)size;
  if (block != NULL) ++*(size_t *)argument;
  return true;
}

START_TEST(visited_pages_can_be_emptied_by_others) {
  mi_collect(true);
  const int64_t pages = pages_now();
  mi_heap_t *heap = mi_heap_new();
  for (size_t i = 0; i < 40 * PAGE_BLOCKS; i++) blocks[i] = mi_heap_malloc(heap, BLOCK);
  size_t seen = 0;
  ck_assert(mi_heap_visit_blocks(heap, true, look, &seen));
  ck_assert_uint_eq(seen, 40 * PAGE_BLOCKS);
  thread_run(free_all, NULL);
  /* All but the one that the heap would allocate from next. */
  ck_assert_int_eq(pages_now(), pages + 1);
  mi_heap_destroy(heap);
  ck_assert_uint_eq(errors_total(), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("pages");
  TCase *c = case_begin(suite, "change hands");
  tcase_add_test(c, stale_pointer_behind_a_new_page);
  tcase_add_test(c, visitor_frees_abandoned_blocks);
  tcase_add_test(c, adoption_reaches_behind_large_pages);
  tcase_add_test(c, visited_pages_can_be_emptied_by_others);
  return suite_run(suite);
}
