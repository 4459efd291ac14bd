/* The patterns of memory itself: what fragmentation leaves, alignment, zeroed memory and
   growth of large blocks. */

#include "bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The resident set now, read without stdio, which would allocate. */
static unsigned long resident_kibibytes(void) {
  char text[128];
  unsigned long total, resident;
  int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
  if (length <= 0) bench_fail("/proc/self/statm: cannot be read");
  close(file);
  text[length] = 0;
  if (sscanf(text, "%lu %lu", &total, &resident) != 2)
    bench_fail("/proc/self/statm: has no resident size");
  return resident * (unsigned long)sysconf(_SC_PAGESIZE) / 1024;
}

/* fragmentation: a program with phases, a compiler with its passes or a server whose
   messages get longer with each version: every phase needs blocks of a larger size than
   the last, and a tenth of them outlives it. The tenth is chosen at random, so that of
   the small sizes nearly every page keeps a block. What an allocator can neither reuse
   for the next size nor give back adds up over the ten rounds, to 400 MiB at worst; what
   the kept blocks need is 40 MiB. `final_kib` says what is resident when all but these
   are freed; the tables of pointers are 17 MiB of it. */

enum { fragment_bytes = 40 << 20, fragment_rounds = 10, fragment_smallest = 24 };

static void blocks_shuffle(struct random *random, void **blocks, size_t count) {
  for (size_t i = count - 1; i > 0; i--) {
    size_t j = random_below(random, (uint32_t)i + 1);
    void *swapped = blocks[i];
    blocks[i] = blocks[j];
    blocks[j] = swapped;
  }
}

void pattern_fragmentation(struct run *run) {
  struct tally tally = {0};
  struct random random = random_seed(30);
  size_t most = fragment_bytes / fragment_smallest, kept_count = 0;
  void **blocks = array_map(most, sizeof *blocks);
  void **kept = array_map(most, sizeof *kept);
  timer_start(run);
  for (int round = 0; round < fragment_rounds; round++) {
    size_t size = (size_t)fragment_smallest << round, count = fragment_bytes / size;
    for (size_t i = 0; i < count; i++) blocks[i] = block_new(&tally, size);
    blocks_shuffle(&random, blocks, count);
    size_t keep = count / 10;
    memcpy(kept + kept_count, blocks, keep * sizeof *blocks);
    kept_count += keep;
    blocks_delete(&tally, blocks + keep, count - keep);
    run->operations += count;
  }
  timer_stop(run);
  run->note = "final_kib";
  run->note_value = resident_kibibytes();
  blocks_delete(&tally, kept, kept_count);
  run_add_tally(run, &tally);
}

/* aligned: buffers for vector instructions, cache lines, pages and direct input and
   output, amid a program's plain blocks. Small alignments and sizes are as frequent as
   large ones by their logarithm; one block in four is plain, and the others are made by
   either function. About 8 KiB each and 4096 at most: 32 MiB.

   Blocks that are not aligned as they should be are counted, on the line `misaligned`,
   and do not end the run: mimalloc 2.0 has some, and its time is of interest
   nevertheless. */

static void *aligned_new(struct tally *tally, struct random *random,
                         unsigned long *misaligned) {
  enum { smallest = 16, largest = 64 << 10, least = 16, most = 4096 };
  size_t size = random_log_between(random, smallest, largest);
  /* 16 times a power of two, each of the nine equally often. */
  size_t alignment = (size_t)least
                     << random_below(random, __builtin_ctz(most / least) + 1);
  void *block = NULL;
  switch (random_below(random, 8)) {
    case 0:
    case 1: return block_new(tally, size);
    case 2:
    case 3:
    case 4:
      /* C wants the size to be a multiple of the alignment. */
      size = (size + alignment - 1) & ~(alignment - 1);
      block = aligned_alloc(alignment, size);
      break;
    default:
      if (posix_memalign(&block, alignment, size) != 0) block = NULL;
  }
  if (block == NULL) bench_fail("aligned_alloc, posix_memalign: out of memory");
  if ((uintptr_t)block % alignment != 0) ++*misaligned;
  block_stamp(tally, block, size);
  return block;
}

void pattern_aligned(struct run *run) {
  enum { operations = 4000000, window = 4096 };
  struct tally tally = {0};
  struct random random = random_seed(31);
  void **blocks = array_map(window, sizeof *blocks);
  timer_start(run);
  for (int i = 0; i < operations; i++) {
    void **slot = &blocks[random_below(&random, window)];
    if (*slot != NULL) block_delete(&tally, *slot);
    *slot = aligned_new(&tally, &random, &run->note_value);
  }
  timer_stop(run);
  run->note = "misaligned";
  run->operations = operations;
  blocks_delete(&tally, blocks, window);
  run_add_tally(run, &tally);
}

/* calloc-fresh: tables, bitmaps and buffers that are made large and zeroed for what may
   come, of which little is used: a program that starts up. Nothing is freed before the
   end, so all memory is new to the process and zero already: an allocator that clears it
   nevertheless pays in time and, most of all, in resident memory. Only the ends of a
   block and one page in sixteen are touched. 400 MiB in all, as much as may become
   resident. */
void pattern_calloc_fresh(struct run *run) {
  enum { total = 400 << 20, smallest = 64, largest = 64 << 10, step = 16 * 4096 };
  struct tally tally = {0};
  struct random random = random_seed(32);
  void **blocks = array_map(total / smallest, sizeof *blocks);
  size_t count = 0;
  timer_start(run);
  for (size_t bytes = 0; bytes < total; count++) {
    size_t size = random_log_between(&random, smallest, largest);
    blocks[count] = block_new_zeroed(&tally, size);
    bytes += size;
  }
  timer_stop(run);
  run->operations = count;
  blocks_delete(&tally, blocks, count);
  run_add_tally(run, &tally);
}

/* calloc-used: a program that makes and drops zeroed records and buffers all the time,
   so that calloc gets blocks that were just freed and must clear them. A block is
   written to and looked at once in 256 bytes, for calloc to clear something and for us
   to see it. 16 bytes to 16 KiB, 512 of them alive: 1 MiB, which fits a cache, as what
   is measured is the clearing and not the memory. */

enum { zeroed_step = 256 };

static void *zeroed_new(struct tally *tally, size_t size) {
  unsigned char *block = block_new_zeroed(tally, size);
  for (size_t at = zeroed_step; at < size - 1; at += zeroed_step) {
    if (block[at] != 0) bench_fail("calloc: the block is not zero");
    block[at] = 0xA5;
  }
  return block;
}

void pattern_calloc_used(struct run *run) {
  enum { operations = 6000000, window = 512, smallest = 16, largest = 16 << 10 };
  struct tally tally = {0};
  struct random random = random_seed(33);
  void **blocks = array_map(window, sizeof *blocks);
  timer_start(run);
  for (int i = 0; i < operations; i++) {
    void **slot = &blocks[random_below(&random, window)];
    if (*slot != NULL) block_delete(&tally, *slot);
    *slot = zeroed_new(&tally, random_log_between(&random, smallest, largest));
  }
  timer_stop(run);
  run->operations = operations;
  blocks_delete(&tally, blocks, window);
  run_add_tally(run, &tally);
}

/* large-realloc: files that are read to their end, images and logs that are put
   together: a few buffers that begin with 64 KiB and grow by half, to 32 MiB, before
   they are dropped. They grow in turn, at different stages of their lives, so that one
   finds another behind it. A word in every sixteenth page is written, and checked when
   the buffer is dropped: whoever copies pays for every page, and whoever moves the pages
   does not. */

enum { grown_step = 16 * 4096 };

struct grown {
  unsigned char *bytes;
  size_t size; /* 0 when there is no buffer */
  uint64_t serial;
};

static uint64_t grown_word(const struct grown *buffer, size_t at) {
  return (buffer->serial << 32 | at) * UINT64_C(0x9E3779B97F4A7C15);
}

static void grown_grow(struct tally *tally, struct grown *buffer, size_t size) {
  buffer->bytes = realloc(buffer->bytes, size);
  if (buffer->bytes == NULL) bench_fail("realloc: out of memory");
  size_t next = (buffer->size + grown_step - 1) / grown_step * grown_step;
  for (size_t at = next; at + sizeof(uint64_t) <= size; at += grown_step) {
    uint64_t word = grown_word(buffer, at);
    memcpy(buffer->bytes + at, &word, sizeof word);
    tally->written += word;
  }
  buffer->size = size;
}

static void grown_delete(struct tally *tally, struct grown *buffer) {
  for (size_t at = 0; at + sizeof(uint64_t) <= buffer->size; at += grown_step) {
    uint64_t word;
    memcpy(&word, buffer->bytes + at, sizeof word);
    if (word != grown_word(buffer, at)) bench_fail("realloc: a word was not kept");
    tally->found += word;
  }
  free(buffer->bytes);
  buffer->bytes = NULL;
  buffer->size = 0;
}

void pattern_large_realloc(struct run *run) {
  enum { operations = 500, count = 6, smallest = 64 << 10, largest = 32 << 20 };
  struct tally tally = {0};
  struct random random = random_seed(34);
  struct grown *buffers = array_map(count, sizeof *buffers);
  timer_start(run);
  for (int i = 0; i < operations; i++) {
    struct grown *buffer = &buffers[random_below(&random, count)];
    size_t size = buffer->size + buffer->size / 2;
    if (size > largest) grown_delete(&tally, buffer);
    if (buffer->size == 0) {
      buffer->serial = (uint64_t)i;
      size = smallest;
    }
    grown_grow(&tally, buffer, size & ~(size_t)15);
  }
  timer_stop(run);
  run->operations = operations;
  for (int i = 0; i < count; i++) grown_delete(&tally, &buffers[i]);
  run_add_tally(run, &tally);
}
