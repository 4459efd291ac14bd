/* main.c - what programs in Koka do with memory: lists and trees that are built, mapped,
 * shared, and dropped, by two threads. Ends with 0 if every sum is right and no object is
 * left.
 *
 * usage: koka-calls | koka-inline [--small | COUNT]
 *   --small  see what happens where the arena is full
 *   COUNT    elements of the lists, 1000 to 10000000; 1000000 by default
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"

static int wrong;

static void expect(const char *what, int64_t is, int64_t should_be) {
  printf("%-32s %12lld\n", what, (long long)is);
  if (is == should_be) return;
  fprintf(stderr, "koka: %s: %lld, not %lld\n", what, (long long)is,
          (long long)should_be);
  wrong = 1;
}

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "koka: %s\n", what);
  exit(1);
}

static int32_t twice(int32_t element) { return 2 * element; }
static int32_t less_one(int32_t element) { return element - 1; }

/* The sum of 0 to count - 1. */
static int64_t sum_to(int64_t count) { return count * (count - 1) / 2; }

/* ---- one thread ---- */

static void use_lists(context_t *context, int32_t count) {
  box_t list = list_of(context, count);
  expect("sum of a list", list_sum(list), sum_to(count));
  const long allocated = context->allocated;
  list = list_map(context, list, twice); /* unique: in place */
  list = list_reverse(context, list);
  expect("objects allocated to map it", context->allocated - allocated, 0);
  box_t kept = box_dup(list);
  list = list_map(context, list, less_one); /* shared: copied */
  expect("objects allocated to map a copy", context->allocated - allocated, count);
  expect("sum of the copy", list_sum(list), 2 * sum_to(count) - count);
  expect("sum of the original", list_sum(kept), 2 * sum_to(count));
  box_drop(context, list);
  box_drop(context, kept);
}

/* Each key below count once, as if in random order. */
static int32_t nth_key(int32_t i, int32_t count) {
  return (int32_t)((int64_t)i * 7919 % count * 104729 % count);
}

static box_t build_tree(context_t *context, int32_t count) {
  box_t tree = EMPTY;
  for (int32_t i = 0; i < count && tree != failed; i++) {
    tree = tree_insert(context, tree, nth_key(i, count), i);
  }
  return tree;
}

static void use_trees(context_t *context, int32_t count) {
  box_t tree = build_tree(context, count);
  expect("size of a tree", (int64_t)tree_size(tree), count);
  box_t before = box_dup(tree);
  for (int32_t key = 0; key < count; key += 10) {
    tree = tree_insert(context, tree, key, -1);
  }
  int64_t changed = 0, same = 0;
  for (int32_t key = 0; key < count; key++) {
    changed += tree_find(tree, key, -2) == -1;
    same += tree_find(before, key, -2) >= 0;
  }
  expect("values changed in the new tree", changed, (count + 9) / 10);
  expect("values there in the old one", same, count);
  box_drop(context, tree);
  box_drop(context, before);
}

/* ---- two threads ---- */

/* Two threads read one tree, and hand lists to each other, which the other frees. */
struct party {
  box_t tree; /* a reference of its own */
  int32_t count;
  int64_t sum;
  long balance; /* objects allocated and not freed here */
};

#define ROUNDS 20
static box_t mailbox[2];
static pthread_barrier_t barrier;
static struct party parties[2];

static void *take_part(void *argument) {
  struct party *party = argument;
  const int me = (int)(party - parties);
  context_t context;
  if (!context_begin(&context)) fail("no memory for a context");
  for (int round = 0; round < ROUNDS; round++) {
    const int32_t count = party->count / ROUNDS;
    mailbox[me] = list_map(&context, list_of(&context, count), twice);
    if (mailbox[me] == failed) fail("no memory for a list");
    box_share(mailbox[me]);
    pthread_barrier_wait(&barrier);
    const box_t theirs = mailbox[1 - me];
    const box_t both[2] = {box_dup(theirs), theirs};
    party->sum += list_sum(theirs);
    for (int32_t key = 0; key < party->count; key += ROUNDS) {
      party->sum += tree_find(party->tree, key, 0) >= 0;
    }
    box_drop(&context, both[0]);
    box_drop(&context, both[1]);
    pthread_barrier_wait(&barrier);
  }
  /* A version of its own of what both have. */
  party->tree = tree_insert(&context, party->tree, 0, me);
  party->sum += tree_find(party->tree, 0, -1);
  box_drop(&context, party->tree);
  party->balance = context.allocated - context.freed;
  context_end(&context);
  return NULL;
}

static void use_threads(context_t *context, int32_t count) {
  box_t tree = build_tree(context, count);
  box_share(tree);
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_t thread[2];
  for (int i = 0; i < 2; i++)
    parties[i] = (struct party){.tree = box_dup(tree), .count = count};
  for (int i = 0; i < 2; i++) {
    if (pthread_create(&thread[i], NULL, take_part, &parties[i]) != 0) fail("no thread");
  }
  for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
  pthread_barrier_destroy(&barrier);
  const int32_t each = count / ROUNDS;
  const int64_t found = (count + ROUNDS - 1) / ROUNDS;
  for (int i = 0; i < 2; i++) {
    expect(i == 0 ? "sum of the first thread" : "sum of the second thread",
           parties[i].sum, ROUNDS * (2 * sum_to(each) + found) + i);
    context->allocated += parties[i].balance;
  }
  expect("size of the shared tree", (int64_t)tree_size(tree), count);
  box_drop(context, tree);
}

/* ---- a full arena ---- */

static void run_short(context_t *context) {
  box_t kept = EMPTY;
  long objects = 0;
  for (;; objects++) {
    const box_t longer = list_cons(context, 1, box_dup(kept));
    if (longer == failed) break;
    box_drop(context, kept);
    kept = longer;
  }
  printf("%-32s %12ld\n", "objects in a full arena", objects);
  expect("sum of what there is", list_sum(kept), objects);
  const box_t tree = tree_insert(context, EMPTY, 1, 1);
  expect("a tree, too", tree == failed, 1);
  kept = list_map(context, kept, twice); /* in place, where nothing is free */
  expect("sum after a map in place", list_sum(kept), 2 * objects);
  box_t copy = list_map(context, box_dup(kept), twice);
  expect("a copy has no room", copy == failed, 1);
  expect("and harms nothing", list_sum(kept), 2 * objects);
  box_drop(context, kept);
}

int main(int argc, char **argv) {
  const bool is_small = argc == 2 && strcmp(argv[1], "--small") == 0;
  char *end = "";
  const long count = argc == 2 && !is_small ? strtol(argv[1], &end, 10) : 1000000;
  if (argc > 2 || *end != '\0' || count < 1000 || count > 10000000) {
    fprintf(stderr, "usage: %s [--small | COUNT]\n", argv[0]);
    return 2;
  }
  if (!koka_begin(is_small ? (size_t)8 << 20 : ARENA_SIZE)) {
    fail("no addresses for the arena (ulimit -v?)");
  }
  context_t context;
  if (!context_begin(&context)) fail("no memory for a context");
  if (is_small) {
    run_short(&context);
  } else {
    use_lists(&context, (int32_t)count);
    use_trees(&context, (int32_t)count / 10);
    use_threads(&context, (int32_t)count / 10);
  }
  expect("objects that are left", context.allocated - context.freed, 0);
  expect("blocks that are left", (int64_t)context_live(&context), 0);
  context_end(&context);
  if (!koka_end()) fail("something still uses the arena");
  return wrong;
}
