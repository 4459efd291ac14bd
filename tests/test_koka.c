/* bindings/koka: boxes, counts, reuse in place, sharing between threads, a full arena,
 * and, with KOKA_INLINE, small blocks without a call. Whatever is built is dropped, and
 * no block is left.
 */
#include "test.h"

#include <mirt.h>

#include "../bindings/koka/data.h"

static context_t context;

/* Blocks that live in all heaps of the program's objects. */
static size_t blocks_left(void) {
#if KOKA_INLINE
  return context_live(&context);
#else
  mirt_stats_t stats;
  ck_assert(mirt_stats_tag(0, &stats));
  return stats.live_blocks;
#endif
}

static size_t blocks_before;

static void begin_with(size_t size) {
  ck_assert(koka_begin(size));
  ck_assert(context_begin(&context));
  blocks_before = blocks_left();
}

static void begin(void) { begin_with(ARENA_SIZE); }
static void begin_small(void) { begin_with((size_t)4 << 20); }

/* Nothing is left, by the program's count and by mirt's. */
static void end(void) {
  ck_assert_int_eq(context.allocated, context.freed);
  ck_assert_uint_eq(blocks_left(), blocks_before);
  context_end(&context);
  ck_assert(koka_end());
}

static int32_t add_one(int32_t element) { return element + 1; }

static object_t *new_object(uint16_t fields) {
  object_t *object = object_new(&context, CONS, fields);
  ck_assert_ptr_nonnull(object);
  for (int i = 0; i < fields; i++) object->field[i] = EMPTY;
  return object;
}

/* ---- boxes ---- */

START_TEST(boxes_of_integers) {
  const int32_t values[] = {0, 1, -1, 12345, -12345, (1 << 30) - 1, -(1 << 30)};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    ck_assert(!is_object(box_int(values[i])));
    ck_assert_int_eq(unbox_int(box_int(values[i])), values[i]);
  }
}
END_TEST

START_TEST(boxes_of_objects) {
  for (uint16_t fields = 0; fields <= FIELDS_MAX; fields++) {
    object_t *object = new_object(fields);
    const box_t box = box_object(object);
    ck_assert(is_object(box));
    ck_assert_ptr_eq(unbox_object(box), object);
    ck_assert_uint_eq((uintptr_t)object % 8, 0);
    const intptr_t distance = (intptr_t)object - (intptr_t)arena_middle;
    ck_assert_int_ge(distance, -(intptr_t)(ARENA_SIZE / 2));
    ck_assert_int_lt(distance, (intptr_t)(ARENA_SIZE / 2));
    ck_assert_uint_ge(mi_usable_size(object), sizeof *object + fields * sizeof(box_t));
    box_drop(&context, box);
  }
  /* The ends of what a box can name. */
  ck_assert_uint_eq((uintptr_t)unbox_object(0x80000000u), arena_middle - ARENA_SIZE / 2);
  ck_assert_uint_eq((uintptr_t)unbox_object(0x7FFFFFFEu),
                    arena_middle + ARENA_SIZE / 2 - 8);
}
END_TEST

/* ---- counts ---- */

START_TEST(counts) {
  object_t *object = new_object(1);
  const box_t box = box_object(object);
  ck_assert(is_unique(object));
  box_dup(box);
  box_dup(box);
  ck_assert_int_eq(object_count(object), 2);
  box_drop(&context, box);
  ck_assert_int_eq(object_count(object), 1);
  box_share(box); /* two references: -1 is one */
  ck_assert_int_eq(object_count(object), -2);
  box_share(box);
  ck_assert_int_eq(object_count(object), -2);
  box_dup(box);
  ck_assert_int_eq(object_count(object), -3);
  box_drop(&context, box);
  box_drop(&context, box);
  ck_assert_int_eq(object_count(object), -1);
  ck_assert_int_eq(context.freed, 0);
  box_drop(&context, box);
  ck_assert_int_eq(context.freed, 1);
}
END_TEST

START_TEST(share_goes_everywhere) {
  /* Two parents of one child, which is shared already, and of one that is not. */
  object_t *shared = new_object(0), *child = new_object(1), *parent[2];
  box_share(box_object(shared));
  child->field[0] = box_object(shared);
  object_t *top = new_object(3);
  for (int i = 0; i < 2; i++) {
    parent[i] = new_object(4);
    parent[i]->field[0] = box_int(i);
    parent[i]->field[1] = i == 0 ? box_object(child) : box_dup(box_object(child));
    parent[i]->field[2] = box_dup(box_object(shared));
    top->field[i] = box_object(parent[i]);
  }
  top->field[2] = box_int(7);
  box_share(box_object(top));
  ck_assert_int_eq(object_count(top), -1);
  ck_assert_int_eq(object_count(child), -2);
  ck_assert_int_eq(object_count(shared), -3);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(object_count(parent[i]), -1);
    ck_assert_uint_eq(parent[i]->tag, CONS);
    ck_assert_uint_eq(parent[i]->field[0], box_int(i));
    ck_assert_uint_eq(parent[i]->field[1], box_object(child));
    ck_assert_uint_eq(parent[i]->field[2], box_object(shared));
    ck_assert_uint_eq(top->field[i], box_object(parent[i]));
  }
  ck_assert_uint_eq(top->field[2], box_int(7));
  box_drop(&context, box_object(top));
}
END_TEST

/* A chain, by its first field or by its last one, shared or not. */
static void drop_chain(uint16_t fields, int link, bool shared) {
  const int length = TEST_ROUNDS(400000);
  box_t chain = EMPTY;
  for (int i = 0; i < length; i++) {
    object_t *object = object_new(&context, CONS, fields);
    assert_quick(object != NULL);
    for (int k = 0; k < fields; k++) object->field[k] = box_int(i);
    object->field[link] = chain;
    chain = box_object(object);
  }
  if (shared) box_share(chain);
  box_drop(&context, chain);
}

static void *drop_chains(void *argument) {
  const context_t outer = context;
  bool *good = argument;
  if (!context_begin(&context)) return NULL;
  drop_chain(1, 0, false);
  drop_chain(4, 0, true);
  drop_chain(4, 3, false);
  drop_chain(2, 1, true);
  *good = context.allocated == context.freed;
  context_end(&context);
  context = outer;
  return NULL;
}

/* A function that calls itself for each object would need a hundred times this stack. */
START_TEST(no_recursion) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ck_assert_int_eq(pthread_attr_setstacksize(&attributes, 256 << 10), 0);
  pthread_t thread;
  bool good = false;
  ck_assert_int_eq(pthread_create(&thread, &attributes, drop_chains, &good), 0);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
  ck_assert(good);
}
END_TEST

/* ---- reuse ---- */

START_TEST(unique_lists_are_mapped_in_place) {
  enum { count = 1000 };
  box_t list = list_of(&context, count);
  const object_t *first = unbox_object(list);
  list = list_map(&context, list, add_one);
  ck_assert_ptr_eq(unbox_object(list), first);
  list = list_reverse(&context, list);
  ck_assert_int_eq(context.allocated, count);
  ck_assert_int_eq(context.reused, 2 * count);
  ck_assert_int_eq(list_sum(list), count * (count + 1) / 2);
  ck_assert_int_eq(unbox_int(unbox_object(list)->field[0]), count);

  box_t copy = list_map(&context, box_dup(list), add_one);
  ck_assert_int_eq(context.allocated, 2 * count);
  ck_assert_int_eq(list_sum(list), count * (count + 1) / 2);
  ck_assert_int_eq(list_sum(copy), count * (count + 3) / 2);
  box_drop(&context, list);
  copy = list_map(&context, copy, add_one);
  ck_assert_int_eq(context.allocated, 2 * count);
  box_drop(&context, copy);
}
END_TEST

START_TEST(a_list_is_copied_from_where_it_is_shared) {
  box_t rest = list_of(&context, 10); /* 0 to 9 */
  box_t list = list_cons(&context, 50, list_cons(&context, 40, box_dup(rest)));
  const long allocated = context.allocated;
  list = list_map(&context, list, add_one);
  ck_assert_int_eq(context.allocated - allocated, 10);
  ck_assert_int_eq(list_sum(list), 51 + 41 + 55);
  ck_assert_int_eq(list_sum(rest), 45);
  box_drop(&context, rest);
  box_drop(&context, list);
}
END_TEST

/* Versions of a tree, some of which share most of it: each is as its array says. */
START_TEST(versions_of_trees) {
  enum { versions = 8, keys = 64 };
  box_t tree[versions];
  int32_t model[versions][keys];
  for (int v = 0; v < versions; v++) tree[v] = EMPTY;
  for (int v = 0; v < versions; v++) {
    for (int k = 0; k < keys; k++) model[v][k] = -1;
  }
  struct dice dice = dice_new(1);
  for (int i = 0; i < TEST_ROUNDS(40000); i++) {
    const size_t v = dice_roll(&dice, versions);
    if (dice_roll(&dice, 40) == 0) { /* a version takes the place of another */
      const size_t other = dice_roll(&dice, versions);
      box_dup(tree[v]);
      box_drop(&context, tree[other]);
      tree[other] = tree[v];
      memcpy(model[other], model[v], sizeof model[v]);
      if (dice_roll(&dice, 4) == 0) box_share(tree[v]);
    } else if (dice_roll(&dice, 100) == 0) {
      box_drop(&context, tree[v]);
      tree[v] = EMPTY;
      for (int k = 0; k < keys; k++) model[v][k] = -1;
    } else {
      const size_t key = dice_roll(&dice, keys);
      model[v][key] = (int32_t)dice_roll(&dice, 1000000);
      tree[v] = tree_insert(&context, tree[v], (int32_t)key, model[v][key]);
      assert_quick(tree[v] != failed);
    }
  }
  for (int v = 0; v < versions; v++) {
    size_t size = 0;
    int64_t sum = 0;
    for (int k = 0; k < keys; k++) {
      assert_quick(tree_find(tree[v], k, -1) == model[v][k]);
      size += model[v][k] != -1;
      sum += model[v][k] != -1 ? model[v][k] : 0;
    }
    ck_assert_uint_eq(tree_size(tree[v]), size);
    ck_assert_int_eq(tree_sum(tree[v]), sum);
    box_drop(&context, tree[v]);
  }
  ck_assert_int_gt(context.reused, 0);
}
END_TEST

/* ---- two threads ---- */

enum { exchanges = 50, elements = 200, tree_keys = 500 };

static pthread_barrier_t barrier;
static box_t handed[2];
struct party {
  int number;
  box_t tree;
  long balance;
  bool good;
};

static void *take_part(void *argument) {
  struct party *party = argument;
  context_t own;
  party->good = context_begin(&own);
  for (int i = 0; i < exchanges; i++) {
    /* Half of the lists are unique: only the thread that has one looks at it. */
    box_t list = party->good ? list_of(&own, elements) : EMPTY;
    if (i % 2 == 0) box_share(list);
    handed[party->number] = list;
    pthread_barrier_wait(&barrier);
    list = handed[1 - party->number];
    pthread_barrier_wait(&barrier);
    if (!party->good) continue;
    list =
        list_map(&own, list, add_one); /* in place if unique, also in another's block */
    party->good &= list_sum(list) == elements * (elements + 1) / 2;
    party->good &= tree_find(party->tree, i, -1) == i;
    box_t version = tree_insert(&own, box_dup(party->tree), i, -2);
    party->good &= tree_find(version, i, -1) == -2 && tree_find(party->tree, i, -1) == i;
    box_drop(&own, version);
    box_drop(&own, list);
  }
  if (!party->good) return NULL;
  box_drop(&own, party->tree);
  party->balance = own.allocated - own.freed;
  context_end(&own);
  return NULL;
}

START_TEST(two_threads) {
  box_t tree = EMPTY;
  struct dice dice = dice_new(2);
  for (int i = 0; i < 20 * tree_keys; i++) {
    const int32_t key = (int32_t)dice_roll(&dice, tree_keys);
    tree = tree_insert(&context, tree, key, key);
  }
  for (int32_t key = 0; key < tree_keys; key++) {
    tree = tree_insert(&context, tree, key, key);
  }
  box_share(tree);
  struct party parties[2] = {{0, box_dup(tree), 0, false}, {1, tree, 0, false}};
  ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, 2), 0);
  threads_run(2, take_part, parties, sizeof parties[0]);
  pthread_barrier_destroy(&barrier);
  for (int i = 0; i < 2; i++) {
    ck_assert(parties[i].good);
    context.allocated += parties[i].balance;
  }
}
END_TEST

/* ---- a full arena ---- */

static long fill(box_t *list) {
  long count = 0;
  *list = EMPTY;
  for (;; count++) {
    const box_t longer = list_cons(&context, 1, box_dup(*list));
    if (longer == failed) return count;
    box_drop(&context, *list);
    *list = longer;
  }
}

START_TEST(exhaustion) {
  box_t list, tree = EMPTY;
  for (int key = 0; key < 37; key++) tree = tree_insert(&context, tree, key, key);
  const long count = fill(&list);
  ck_assert_int_gt(count, 1000);
  ck_assert_int_lt(count, (4 << 20) / 16); /* not from elsewhere */
  ck_assert_uint_ge(errors_of(ENOMEM), 1);
  ck_assert_uint_eq(errors_total(), errors_of(ENOMEM));

  /* Nothing that is there has suffered, and it can be changed in place. */
  list = list_map(&context, list, add_one);
  ck_assert_int_eq(list_sum(list), 2 * count);
  ck_assert_int_eq(unbox_int(list_map(&context, box_dup(list), add_one)),
                   unbox_int(failed));
  ck_assert_int_eq(list_sum(list), 2 * count);
  ck_assert_int_eq(unbox_int(list_reverse(&context, box_dup(list))), unbox_int(failed));
  for (int key = 0; key < 37; key++) tree = tree_insert(&context, tree, key, -key);
  ck_assert_int_eq(tree_sum(tree), -36 * 37 / 2);

  /* There is room for so many nodes, and no more: copying the way down fails there, or
   * the leaf does, and what the copy took over is dropped. */
  static object_t *nodes[(4 << 20) / 16];
  size_t node_count = 0;
  for (object_t *node; (node = object_new(&context, NODE, 4)) != NULL;) {
    for (int i = 0; i < 4; i++) node->field[i] = EMPTY;
    nodes[node_count++] = node;
  }
  box_share(tree);
  const long before = context.allocated - context.freed;
  for (long room = 0; room < 5; room++) {
    ck_assert_uint_gt(node_count, 0);
    ck_assert_int_eq(unbox_int(tree_insert(&context, box_dup(tree), 100, 1)),
                     unbox_int(failed));
    ck_assert_int_eq(context.allocated - context.freed, before - room);
    ck_assert_int_eq(tree_sum(tree), -36 * 37 / 2);
    ck_assert_int_eq(tree_find(tree, 100, -1), -1);
    box_drop(&context, box_object(nodes[--node_count]));
  }
  while (node_count > 0) box_drop(&context, box_object(nodes[--node_count]));

  /* It is all there again. */
  box_drop(&context, list);
  ck_assert_int_ge(fill(&list), count * 9 / 10);
  box_drop(&context, list);
  box_drop(&context, tree);
  errors_clear();
}
END_TEST

START_TEST(too_large_an_arena) {
  ck_assert(!koka_begin((size_t)1 << 60));
  ck_assert_uint_ge(errors_total(), 1);
  errors_clear();
}
END_TEST

/* What Koka's runtime counts on: all of 16 GiB, and no more, are on both sides of the
 * middle, and blocks lie there whole. */
START_TEST(arena_of_16_gib) {
  mi_arena_id_t arena;
  ck_assert_int_eq(mi_reserve_os_memory_ex(ARENA_SIZE, false, true, true, &arena), 0);
  size_t size = 0;
  const char *base = mi_arena_area(arena, &size);
  ck_assert_ptr_nonnull(base);
  ck_assert_uint_eq(size, ARENA_SIZE);
  mi_heap_t *heap = mi_heap_new_in_arena(arena);
  ck_assert_ptr_nonnull(heap);
  for (size_t block_size = 8; block_size <= (size_t)64 << 20; block_size *= 2) {
    const char *block = mi_heap_zalloc(heap, block_size);
    ck_assert_ptr_nonnull(block);
    ck_assert(block >= base && block + block_size <= base + size);
    ck_assert_uint_eq((uintptr_t)block % 16, 0);
    mi_free((void *)block);
  }
  mi_heap_delete(heap);
  ck_assert_int_eq(mirt_arena_destroy(arena), 0);
  assert_no_errors();
}
END_TEST

START_TEST(double_free) {
  object_t *object = new_object(2), *other = new_object(2);
  mi_free(object);
  mi_free(object);
  assert_errors(EFAULT, 1);
  object_t *again = new_object(2), *last = new_object(2);
  ck_assert_ptr_ne(again, last);
  ck_assert_ptr_ne(again, other);
  ck_assert_ptr_ne(last, other);
  box_drop(&context, box_object(again));
  box_drop(&context, box_object(last));
  box_drop(&context, box_object(other));
  context.freed++; /* by mi_free */
}
END_TEST

/* ---- small blocks ---- */

#if KOKA_INLINE
START_TEST(small_blocks) {
  for (size_t size = 0; size <= SMALL_MAX; size++) {
    char *block = small_malloc(context.mutator, size);
    ck_assert_ptr_nonnull(block);
    ck_assert_uint_eq((uintptr_t)block % 8, 0);
    ck_assert_uint_eq(mi_usable_size(block), size <= 16 ? 16 : (size + 7) / 8 * 8);
    memset(block, 0xA5, mi_usable_size(block));
    mi_free(block);
    block = small_zalloc(context.mutator, size);
    ck_assert(bytes_are(block, size, 0));
    mi_free(block);
  }
  assert_no_errors();
}
END_TEST

/* The blocks of one size do not overlap, nor do those of the next one. */
START_TEST(small_blocks_are_apart) {
  enum { count = 5000 };
  static char *blocks[count];
  for (size_t size = 16; size <= SMALL_MAX; size += 24) {
    for (int i = 0; i < count; i++) {
      const size_t of = size + (size_t)(i % 2) * 8;
      if (of > SMALL_MAX) break;
      blocks[i] = small_malloc(context.mutator, of);
      assert_quick(blocks[i] != NULL);
      memset(blocks[i], i % 251, of);
    }
    for (int i = 0; i < count && blocks[i] != NULL; i++) {
      const size_t of = size + (size_t)(i % 2) * 8;
      assert_quick(bytes_are(blocks[i], of, (unsigned char)(i % 251)));
      mi_free(blocks[i]);
      blocks[i] = NULL;
    }
  }
  assert_no_errors();
}
END_TEST

/* What is larger comes from a heap in the same arena, and small blocks grow into it. */
START_TEST(small_blocks_beside_a_heap) {
  char *block = small_malloc(context.mutator, 40);
  mi_heap_t *heap =
      mi_heap_new_in_arena(mirt_runtime_arena(small_sizes.type[2]->runtime));
  ck_assert_ptr_nonnull(heap);
  memset(block, 7, 40);
  ck_assert(!mi_heap_contains_block(heap, block));
  ck_assert_ptr_nonnull(mi_heap_of(block));
  ck_assert_ptr_ne(mi_heap_of(block), heap);
  block = mi_heap_realloc(heap, block, 4000);
  ck_assert_ptr_nonnull(block);
  ck_assert(bytes_are(block, 40, 7));
  ck_assert(mi_heap_contains_block(heap, block));
  ck_assert_ptr_eq(unbox_object(box_object((object_t *)block)), block);
  mi_free(block);
  mi_heap_delete(heap);
  assert_no_errors();
}
END_TEST
#endif

static Suite *koka_suite(void) {
  Suite *suite = suite_create(KOKA_INLINE ? "koka-inline" : "koka-calls");
  TCase *test = case_begin(suite, "objects");
  tcase_add_checked_fixture(test, begin, end);
  tcase_add_test(test, boxes_of_integers);
  tcase_add_test(test, boxes_of_objects);
  tcase_add_test(test, counts);
  tcase_add_test(test, share_goes_everywhere);
  tcase_add_test(test, no_recursion);
  tcase_add_test(test, unique_lists_are_mapped_in_place);
  tcase_add_test(test, a_list_is_copied_from_where_it_is_shared);
  tcase_add_test(test, versions_of_trees);
  tcase_add_test(test, two_threads);
  tcase_add_test(test, double_free);
#if KOKA_INLINE
  tcase_add_test(test, small_blocks);
  tcase_add_test(test, small_blocks_are_apart);
  tcase_add_test(test, small_blocks_beside_a_heap);
#endif
  test = case_begin(suite, "full");
  tcase_add_checked_fixture(test, begin_small, end);
  tcase_add_test(test, exhaustion);
  test = case_begin(suite, "none");
  tcase_add_test(test, too_large_an_arena);
  tcase_add_test(test, arena_of_16_gib);
  return suite;
}

int main(void) { return suite_run(koka_suite()); }
