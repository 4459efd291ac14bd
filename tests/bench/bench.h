/* What the benchmark programs share, and the patterns of one of them.

   Every block that a pattern allocates carries a stamp in its first word: its size, a
   serial number and a check byte made from both. Its last byte repeats a byte of the
   serial number. A block is checked when it is freed, and the stamps written and the
   stamps found again are summed separately: a run is good only if both sums agree at its
   end, so that a block lost, handed out twice or overwritten does not go unnoticed.

   What a pattern needs for itself (its table of pointers, say) comes from array_map and
   never from malloc, so that the allocator sees the pattern's blocks and nothing else. */

#ifndef MIRT_TESTS_BENCH_H
#define MIRT_TESTS_BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* dladdr, RTLD_NEXT, program_invocation_short_name */
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Says what is wrong on stderr and ends the program with status 1. */
_Noreturn void bench_fail(const char *what);

/* Zeroed memory from the operating system, for the life of the process. */
void *array_map(size_t count, size_t element_size);

uint64_t clock_nanoseconds(void);

/* Prints a line: what it is, its unit, how much. */
void print_figure(const char *figure, const char *unit, double value);

/* The file that malloc comes from. A library that could not be preloaded, or that defines
   no malloc, would otherwise leave us measuring the C library under another name. */
const char *malloc_provider(void);

/* Random numbers: xorshift with a final multiply. The state must not be 0. */

struct random {
  uint64_t state;
};

static inline struct random random_seed(uint64_t seed) {
  return (struct random){(seed + 1) * UINT64_C(0x9E3779B97F4A7C15) | 1};
}

static inline uint64_t random_next(struct random *random) {
  uint64_t x = random->state;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  random->state = x;
  return x * UINT64_C(0x2545F4914F6CDD1D);
}

/* A number from 0 to limit - 1, by a multiply rather than a division. */
static inline size_t random_below(struct random *random, uint32_t limit) {
  return (size_t)((random_next(random) >> 32) * limit >> 32);
}

/* A number from low to high, both included. */
static inline size_t random_between(struct random *random, uint32_t low, uint32_t high) {
  return low + random_below(random, high - low + 1);
}

/* A number from low to high whose logarithm is about evenly spread: each doubling is as
   likely as the next. Both bounds are powers of two. */
static inline size_t random_log_between(struct random *random, uint32_t low,
                                        uint32_t high) {
  uint32_t doublings = (uint32_t)(__builtin_ctz(high) - __builtin_ctz(low));
  uint32_t base = low << random_below(random, doublings);
  return random_between(random, base, 2 * base);
}

/* A tally belongs to one thread at a time; the cache line is its own, since threads would
   otherwise slow each other down in the benchmark and not in the allocator. */
struct tally {
  _Alignas(64) uint64_t written; /* sum of the stamps put into blocks */
  uint64_t found;                /* sum of the stamps read back */
  uint32_t serial;
};

/* One run of a pattern: filled in by the pattern, printed by main. */
struct run {
  unsigned threads;        /* how many may run at once; at least 2 */
  uint64_t start, elapsed; /* nanoseconds */
  uint64_t operations;     /* done in the timed part */
  /* A further line of the output, where there is one, for whoever runs it by hand. */
  const char *note;
  unsigned long note_value;
  struct tally total;
};

void timer_start(struct run *run);
void timer_stop(struct run *run);

static inline void run_add_tally(struct run *run, const struct tally *tally) {
  run->total.written += tally->written;
  run->total.found += tally->found;
}

/* Stamps: size in bits 0..23, check in 24..31, serial in 32..63. Sizes are at least 16,
   so that the last byte lies outside the stamp. */

static inline uint64_t stamp_make(uint32_t serial, size_t size) {
  uint64_t body = (uint64_t)serial << 32 | size;
  uint64_t check = body * UINT64_C(0x9E3779B97F4A7C15) >> 56;
  return body | check << 24;
}

static inline uint32_t stamp_serial(uint64_t stamp) { return (uint32_t)(stamp >> 32); }
static inline size_t stamp_size(uint64_t stamp) { return stamp & 0xFFFFFF; }

static inline void block_stamp(struct tally *tally, void *block, size_t size) {
  uint32_t serial = tally->serial++;
  uint64_t stamp = stamp_make(serial, size);
  *(uint64_t *)block = stamp;
  ((unsigned char *)block)[size - 1] = (unsigned char)serial;
  tally->written += stamp;
}

/* Checks a block and gives its stamp. */
static inline uint64_t block_check(struct tally *tally, const void *block) {
  uint64_t stamp = *(const uint64_t *)block;
  uint32_t serial = stamp_serial(stamp);
  size_t size = stamp_size(stamp);
  if (stamp != stamp_make(serial, size)) bench_fail("a block's first word has changed");
  if (((const unsigned char *)block)[size - 1] != (unsigned char)serial)
    bench_fail("a block's last byte has changed");
  tally->found += stamp;
  return stamp;
}

static inline void *block_new(struct tally *tally, size_t size) {
  void *block = malloc(size);
  if (block == NULL) bench_fail("malloc: out of memory");
  block_stamp(tally, block, size);
  return block;
}

static inline void *block_new_zeroed(struct tally *tally, size_t size) {
  unsigned char *block = calloc(1, size);
  if (block == NULL) bench_fail("calloc: out of memory");
  if (*(uint64_t *)block != 0 || block[size - 1] != 0)
    bench_fail("calloc: the block is not zero");
  block_stamp(tally, block, size);
  return block;
}

static inline void block_delete(struct tally *tally, void *block) {
  block_check(tally, block);
  free(block);
}

/* Frees whatever a table of blocks still holds. */
static inline void blocks_delete(struct tally *tally, void **blocks, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (blocks[i] != NULL) {
      block_delete(tally, blocks[i]);
      blocks[i] = NULL;
    }
  }
}

/* The patterns. README.md says what each is for. */

void pattern_pair(struct run *run);
void pattern_alternate(struct run *run);
void pattern_batch(struct run *run);
void pattern_mixed(struct run *run);
void pattern_many_sizes(struct run *run);
void pattern_replace(struct run *run);
void pattern_shuffle(struct run *run);
void pattern_realloc(struct run *run);
void pattern_large(struct run *run);

void pattern_interpreter(struct run *run);
void pattern_tree(struct run *run);
void pattern_algebra(struct run *run);
void pattern_strings(struct run *run);
void pattern_vectors(struct run *run);
void pattern_cache(struct run *run);
void pattern_fragmentation(struct run *run);
void pattern_aligned(struct run *run);
void pattern_calloc_fresh(struct run *run);
void pattern_calloc_used(struct run *run);
void pattern_large_realloc(struct run *run);

void pattern_producer_consumer(struct run *run);
void pattern_larson(struct run *run);
void pattern_threads(struct run *run);
void pattern_server(struct run *run);
void pattern_thread_churn(struct run *run);
void pattern_sharing_active(struct run *run);
void pattern_sharing_passive(struct run *run);

#endif
