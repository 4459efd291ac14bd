/* sieve.c - the sieve of Eratosthenes, by a thousand green threads.
 *
 * A chain of green threads is joined by channels. The first sends the numbers from 2 on.
 * Each of the others is a filter: the first number it receives is a prime, and of the
 * rest it passes on what is no multiple of that prime. (Hoare, Communicating Sequential
 * Processes, 1978.)
 *
 * All of them allocate all the time. Each number travels in a block that its sender
 * allocates and its receiver frees, mostly while the sender runs elsewhere. And each
 * filter has a heap of its own for a tree of the numbers that it has passed on: it grows
 * over all the times that the filter goes on with another worker, is checked at the end,
 * and goes away with its heap.
 *
 *   green-threads [green threads [workers [rounds]]]
 *
 * It says how often green threads moved to another worker, and at the end whether all
 * that they had is gone. The exit code is 1 when anything is not as it should be.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "green.h"

#define NO_MORE 0 /* what comes after the last number */

static struct {
  size_t filter_count;
  size_t message_count; /* that all filters together receive */
  long *expected;       /* the first primes, so many */
  long *primes;         /* what the filters have found */
  size_t found;         /* each filter finds its prime before it starts the next */
} sieve;

/* ---- A tree ------------------------------------------------------------------------ */

/* It branches by the bits of the numbers, the lowest first (Knuth, volume 3, 6.3). */
typedef struct node_s {
  long number;
  struct node_s *children[2];
} node_t;

static void tree_insert(mi_heap_t *heap, node_t **tree, long number) {
  for (long bits = number; *tree != NULL; bits >>= 1) tree = &(*tree)->children[bits & 1];
  *tree = mi_heap_zalloc(heap, sizeof(node_t));
  check(*tree != NULL);
  (*tree)->number = number;
}

/* How many numbers are in the tree? None may be a multiple of the prime. */
static size_t tree_check(const node_t *tree, long prime) {
  if (tree == NULL) return 0;
  check(tree->number % prime != 0);
  return 1 + tree_check(tree->children[0], prime) + tree_check(tree->children[1], prime);
}

/* ---- Green threads ----------------------------------------------------------------- */

static void send_number(green_t *self, channel_t *channel, long number) {
  long *message = mi_malloc(sizeof *message); /* of the mutator's default heap */
  check(message != NULL);
  *message = number;
  channel_send(self, channel, message);
}

static long receive_number(green_t *self, channel_t *channel) {
  long *message = channel_receive(self, channel);
  const long number = *message;
  mi_free(message);
  return number;
}

static void filter(green_t *self, void *argument) {
  channel_t *input = argument;
  const long prime = receive_number(self, input);
  sieve.primes[sieve.found++] = prime;
  channel_t *output = NULL;
  if (sieve.found < sieve.filter_count) green_start(filter, output = channel_new());

  mi_heap_t *heap = mi_heap_new(); /* belongs to the mutator */
  check(heap != NULL);
  node_t *tree = NULL;
  size_t passed = 0;
  for (long number; (number = receive_number(self, input)) != NO_MORE;) {
    if (number % prime == 0) continue;
    tree_insert(heap, &tree, number);
    send_number(self, output, number);
    if (++passed % 16 == 0) green_yield(self);
  }
  if (output != NULL) send_number(self, output, NO_MORE);
  channel_delete(input);

  mirt_stats_t stats;
  check(mirt_stats_heap(heap, &stats) && stats.live_blocks == passed);
  check(tree_check(tree, prime) == passed);
  mi_heap_destroy(heap); /* with the tree */
}

/* Send all numbers up to the last prime that is wanted. */
static void generate(green_t *self, void *argument) {
  (void)argument;
  channel_t *output = channel_new();
  green_start(filter, output);
  const long last = sieve.expected[sieve.filter_count - 1];
  for (long number = 2; number <= last; number++) send_number(self, output, number);
  send_number(self, output, NO_MORE);
}

/* ---- The program ------------------------------------------------------------------- */

/* What a sieve with so many filters should find, by division. */
static void sieve_prepare(size_t filter_count) {
  sieve.filter_count = filter_count;
  sieve.expected = mi_calloc(filter_count, sizeof(long));
  sieve.primes = mi_calloc(filter_count, sizeof(long));
  check(sieve.expected != NULL && sieve.primes != NULL);
  size_t found = 0;
  sieve.message_count = filter_count; /* NO_MORE, for each */
  for (long number = 2; found < filter_count; number++) {
    size_t i = 0;
    while (i < found && number % sieve.expected[i] != 0) i++;
    if (i == found) sieve.expected[found++] = number;
    sieve.message_count += i + 1; /* this filter and those before it see the number */
  }
}

static void sieve_run(size_t worker_count) {
  memset(sieve.primes, 0, sieve.filter_count * sizeof(long));
  sieve.found = 0;
  green_start(generate, NULL);
  const green_counts_t counts = green_run(worker_count);
  check(sieve.found == sieve.filter_count && counts.messages == sieve.message_count);
  check(memcmp(sieve.primes, sieve.expected, sieve.filter_count * sizeof(long)) == 0);
  printf("prime %zu is %ld; %zu messages; %zu moves to another worker\n", sieve.found,
         sieve.primes[sieve.found - 1], counts.messages, counts.moves);
}

/* What there is when the calling thread holds nothing that it does not need. */
static mi_stats_t stats_settled(void) {
  mi_stats_t_decl(stats);
  mi_collect(true);
  check(mi_stats_get(&stats));
  return stats;
}

/* The argument in this place, from least to most; or otherwise, if there is none. */
static size_t argument_at(char **arguments, int place, size_t least, size_t most,
                          size_t otherwise) {
  for (int i = 0; i <= place; i++) {
    if (arguments[i] == NULL) return otherwise;
  }
  char *end;
  const unsigned long value = strtoul(arguments[place], &end, 10);
  if (end != arguments[place] && *end == 0 && value >= least && value <= most)
    return value;
  fprintf(stderr, "usage: green-threads [green threads [workers [rounds]]]\n");
  exit(2);
}

int main(int argc, char **argv) {
  (void)argc;
  const size_t green_count = argument_at(argv, 1, 2, 100000, 1000);
  const size_t worker_count = argument_at(argv, 2, 1, WORKERS_MAX, 4);
  const size_t round_count = argument_at(argv, 3, 1, 1000000, 1);
  sieve_prepare(green_count - 1); /* one generates */

  const mi_stats_t before = stats_settled();
  for (size_t i = 0; i < round_count; i++) sieve_run(worker_count);
  const mi_stats_t after = stats_settled();
  printf("left: %d mutators, %d heaps, %d pages\n",
         (int)(after.threads.current - before.threads.current),
         (int)(after.heaps.current - before.heaps.current),
         (int)(after.pages.current - before.pages.current));
  check(after.threads.current == before.threads.current);
  check(after.heaps.current == before.heaps.current);
  check(after.pages.current == before.pages.current);
  return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
