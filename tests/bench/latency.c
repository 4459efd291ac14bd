/* The benchmark of latency: how long single calls of malloc and free take, worst ones
   first of all. Runs one setting once and prints the distribution of both.

   Each call is timed by itself with the processor's counter, where there is one that a
   program can read, and otherwise by the clock. What a timing itself takes, the median of
   many with nothing in between, is subtracted. A block is written to outside of the timed
   part, so a page fault counts only where the allocator itself touches new memory first.

   The worst of a million calls is often an interrupt or another process, and not the
   allocator: limits.py repeats the run and reports the median of the worst calls, and
   the least of them, which the allocator cannot be blamed for less than. */

#include "limits.h"

/* ---- the counter ---- */

#if defined(__x86_64__)
#include <x86intrin.h>
/* The fences keep the processor from starting the call early or reading the counter
   before the call is done. */
static inline uint64_t ticks_read(void) {
  _mm_lfence();
  const uint64_t ticks = __rdtsc();
  _mm_lfence();
  return ticks;
}
#elif defined(__aarch64__)
static inline uint64_t ticks_read(void) {
  uint64_t ticks;
  __asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tisb" : "=r"(ticks) : : "memory");
  return ticks;
}
#else
static inline uint64_t ticks_read(void) { return clock_nanoseconds(); }
#endif

/* ---- distributions ---- */

/* Counts of times in ticks: each value has its own below 4096; above, each doubling is
   cut into 64. */
enum {
  exact_bits = 12,
  exact_count = 1 << exact_bits,
  cut_bits = 6,
  cuts = 1 << cut_bits
};

struct distribution {
  uint32_t counts[exact_count + (64 - exact_bits) * cuts];
  uint64_t total, max;
};

static size_t slot_of(uint64_t ticks) {
  if (ticks < exact_count) return ticks;
  const unsigned top = 63 - (unsigned)__builtin_clzll(ticks);
  return exact_count + (size_t)(top - exact_bits) * cuts +
         ((ticks >> (top - cut_bits)) & (cuts - 1));
}

/* The smallest value of a slot. */
static uint64_t slot_value(size_t slot) {
  if (slot < exact_count) return slot;
  const size_t above = slot - exact_count;
  return (uint64_t)(cuts + above % cuts) << (above / cuts + exact_bits - cut_bits);
}

static void distribution_add(struct distribution *d, uint64_t ticks) {
  d->counts[slot_of(ticks)]++;
  d->total++;
  if (ticks > d->max) d->max = ticks;
}

/* The value that the given share of all does not exceed. */
static uint64_t distribution_quantile(const struct distribution *d, double share) {
  const uint64_t wanted = (uint64_t)(share * (double)d->total);
  uint64_t seen = 0;
  for (size_t slot = 0; slot < sizeof d->counts / sizeof *d->counts; slot++) {
    seen += d->counts[slot];
    if (seen > wanted) return slot_value(slot);
  }
  return d->max;
}

static struct distribution of_nothing, of_malloc, of_free;

/* ---- timed calls ---- */

static void *(*the_malloc)(size_t size);
static void (*the_free)(void *block);

static void nothing_time(void) {
  for (int i = 0; i < 100000; i++) {
    const uint64_t start = ticks_read();
    distribution_add(&of_nothing, ticks_read() - start);
  }
}

static void *malloc_time(struct tally *tally, size_t size) {
  enum { page_size = 4096 };
  const uint64_t start = ticks_read();
  char *block = the_malloc(size);
  distribution_add(&of_malloc, ticks_read() - start);
  if (block == NULL) bench_fail("malloc: out of memory");
  for (size_t at = 0; at < size; at += page_size) block[at] = 1;
  block_stamp(tally, block, size);
  return block;
}

static void free_time(struct tally *tally, void *block) {
  block_check(tally, block);
  const uint64_t start = ticks_read();
  the_free(block);
  distribution_add(&of_free, ticks_read() - start);
}

/* ---- settings ---- */

static size_t small_size(struct random *random) {
  return random_log_between(random, 16, 1024);
}

/* One size in 256 is from 1 KiB to 1 MiB. */
static size_t any_size(struct random *random) {
  if (random_below(random, 256) != 0) return small_size(random);
  return random_log_between(random, 1 << 10, 1 << 20);
}

/* A heap that grows to a million blocks, all of which are then freed at random. */
static void run_grow(size_t count) {
  void **blocks = array_map(count, sizeof *blocks);
  memset(blocks, 0, count * sizeof *blocks);
  struct random random = random_seed(1);
  struct tally tally = {0};
  for (size_t i = 0; i < count; i++) blocks[i] = malloc_time(&tally, small_size(&random));
  for (size_t i = count; i > 0; i--) {
    const size_t j = random_below(&random, (uint32_t)i);
    free_time(&tally, blocks[j]);
    blocks[j] = blocks[i - 1];
  }
  if (tally.written != tally.found) bench_fail("the blocks have changed");
}

/* Random ones of 100,000 blocks are replaced; what comes before that is not counted. */
static void replace(size_t count, size_t (*size_choose)(struct random *random)) {
  enum { live = 100000 };
  void **blocks = array_map(live, sizeof *blocks);
  struct random random = random_seed(2);
  struct tally tally = {0};
  for (size_t i = 0; i < live; i++) blocks[i] = malloc_time(&tally, size_choose(&random));
  for (size_t i = 0; i < count + 2 * live; i++) {
    if (i == 2 * live) {
      memset(&of_malloc, 0, sizeof of_malloc);
      memset(&of_free, 0, sizeof of_free);
    }
    const size_t j = random_below(&random, live);
    free_time(&tally, blocks[j]);
    blocks[j] = malloc_time(&tally, size_choose(&random));
  }
}

static void run_steady(size_t count) { replace(count, small_size); }
static void run_large(size_t count) { replace(count, any_size); }

static const struct {
  const char *name;
  void (*run)(size_t count);
} settings[] = {{"grow", run_grow}, {"steady", run_steady}, {"large", run_large}};

static double nanoseconds_per_tick;

static double nanoseconds(uint64_t ticks) {
  const uint64_t nothing = distribution_quantile(&of_nothing, 0.5);
  return ticks > nothing ? (double)(ticks - nothing) * nanoseconds_per_tick : 0;
}

static void print_distribution(const char *call, const struct distribution *d) {
  static const struct {
    const char *name;
    double share;
  } quantiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}};
  char figure[32];
  for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
    snprintf(figure, sizeof figure, "%s %s", call, quantiles[i].name);
    print_figure(figure, "ns", nanoseconds(distribution_quantile(d, quantiles[i].share)));
  }
  snprintf(figure, sizeof figure, "%s max", call);
  print_figure(figure, "ns", nanoseconds(d->max));
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fputs("usage: latency SETTING COUNT\n", stderr);
    return 2;
  }
  print_provider("malloc");
  function_find("malloc", true, &the_malloc);
  function_find("free", true, &the_free);
  const uint64_t start = clock_nanoseconds(), start_ticks = ticks_read();
  nothing_time();
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    if (strcmp(argv[1], settings[i].name) != 0) continue;
    settings[i].run(strtoul(argv[2], NULL, 10));
    nanoseconds_per_tick =
        (double)(clock_nanoseconds() - start) / (double)(ticks_read() - start_ticks);
    print_distribution("malloc", &of_malloc);
    print_distribution("free", &of_free);
    print_figure("a timing", "ns",
                 nanoseconds_per_tick * (double)distribution_quantile(&of_nothing, 0.5));
    return 0;
  }
  bench_fail("unknown setting");
}
