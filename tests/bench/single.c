/* The patterns of one thread. */

#include "bench.h"

#include <string.h>

void pattern_pair(struct run *run) {
  enum { operations = 40000000, size = 32 };
  struct tally tally = {0};
  timer_start(run);
  for (int i = 0; i < operations; i++)
    block_delete(&tally, block_new(&tally, size));
  timer_stop(run);
  run->operations = operations;
  run_add_tally(run, &tally);
}

/* alternate: a loop that makes something for a moment: a boxed number, an iterator, a
   node of a list that is unlinked at once. Nothing else is alive in the classes that it
   goes through, so each allocation waits for what the release before it in its class has
   written, and there is no other work to hide that. No stamp and no check: one word is
   written, which the compiler cannot leave out, as it knows nothing of free. */
void pattern_alternate(struct run *run) {
  enum { operations = 80000000 };
  static const size_t sizes[] = {16, 32, 64, 160};
  timer_start(run);
  for (uint64_t i = 0; i < operations; i++) {
    uint64_t *word = malloc(sizes[i % (sizeof sizes / sizeof sizes[0])]);
    *word = i;
    free(word);
  }
  timer_stop(run);
  run->operations = operations;
  run->total.written = run->total.found = operations;
}

void pattern_batch(struct run *run) {
  enum { batches = 20000, count = 1000 };
  static const size_t sizes[] = {16, 32, 48, 64, 128, 256};
  struct tally tally = {0};
  void **blocks = array_map(count, sizeof *blocks);
  timer_start(run);
  for (int batch = 0; batch < batches; batch++) {
    size_t size = sizes[(size_t)batch % (sizeof sizes / sizeof sizes[0])];
    for (int i = 0; i < count; i++)
      blocks[i] = block_new(&tally, size);
    for (int i = 0; i < count; i++)
      block_delete(&tally, blocks[i]);
  }
  timer_stop(run);
  run->operations = (uint64_t)batches * count;
  run_add_tally(run, &tally);
}

/* A random slot of the window is emptied if it is full and filled if it is empty, so that
   about half of the window is alive and holes of all sizes lie between. */
void pattern_mixed(struct run *run) {
  enum { steps = 16000000, window = 16384 };
  struct tally tally = {0};
  struct random random = random_seed(3);
  void **blocks = array_map(window, sizeof *blocks);
  timer_start(run);
  for (int step = 0; step < steps; step++) {
    void **slot = &blocks[random_below(&random, window)];
    if (*slot != NULL) {
      block_delete(&tally, *slot);
      *slot = NULL;
    } else {
      *slot = block_new(&tally, random_between(&random, 16, 1024));
    }
  }
  timer_stop(run);
  run->operations = steps / 2;
  blocks_delete(&tally, blocks, window);
  run_add_tally(run, &tally);
}

/* Four generations of blocks, each in a window sixteen times as large as the one before.
   Half of the new blocks go into the smallest window and soon make room for others; one
   in eight goes into the largest and stays for a long time. */
void pattern_many_sizes(struct run *run) {
  enum { operations = 6000000, generations = 4, slots = 0x11110 };
  static const uint32_t first_slot[] = {0x0, 0x10, 0x110, 0x1110};
  static const uint32_t slot_count[] = {0x10, 0x100, 0x1000, 0x10000};
  struct tally tally = {0};
  struct random random = random_seed(4);
  void **blocks = array_map(slots, sizeof *blocks);
  timer_start(run);
  for (int i = 0; i < operations; i++) {
    uint64_t bits = random_next(&random);
    /* The lowest set bit of three: half of the blocks get 0, a quarter gets 1. */
    unsigned generation = (unsigned)__builtin_ctzll((bits >> 40 & 7) | 8);
    size_t index = random_below(&random, slot_count[generation]);
    void **slot = &blocks[first_slot[generation] + index];
    size_t size = random_log_between(&random, 16, 4096);
    if (*slot != NULL) block_delete(&tally, *slot);
    bool zeroed = (bits >> 50 & 7) == 0;
    *slot = zeroed ? block_new_zeroed(&tally, size) : block_new(&tally, size);
  }
  timer_stop(run);
  run->operations = operations;
  blocks_delete(&tally, blocks, slots);
  run_add_tally(run, &tally);
}

void pattern_replace(struct run *run) {
  enum { operations = 4000000, count = 1000000 };
  struct tally tally = {0};
  struct random random = random_seed(5);
  void **blocks = array_map(count, sizeof *blocks);
  for (int i = 0; i < count; i++)
    blocks[i] = block_new(&tally, random_between(&random, 32, 64));
  timer_start(run);
  for (int i = 0; i < operations; i++) {
    void **slot = &blocks[random_below(&random, count)];
    block_delete(&tally, *slot);
    *slot = block_new(&tally, random_between(&random, 32, 64));
  }
  timer_stop(run);
  run->operations = operations;
  blocks_delete(&tally, blocks, count);
  run_add_tally(run, &tally);
}

static void order_shuffle(struct random *random, uint32_t *order, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    order[i] = i;
  for (uint32_t i = count - 1; i > 0; i--) {
    uint32_t j = (uint32_t)random_below(random, i + 1);
    uint32_t swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
}

/* One order serves for all rounds: the addresses that the slots hold were mixed up by the
   round before, so that the addresses freed come in a new order each time. */
void pattern_shuffle(struct run *run) {
  enum { rounds = 30, count = 200000 };
  struct tally tally = {0};
  struct random random = random_seed(6);
  void **blocks = array_map(count, sizeof *blocks);
  uint32_t *order = array_map(count, sizeof *order);
  order_shuffle(&random, order, count);
  timer_start(run);
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < count; i++)
      blocks[i] = block_new(&tally, 16 + 16 * (size_t)(i & 3));
    for (int i = 0; i < count; i++)
      block_delete(&tally, blocks[order[i]]);
  }
  timer_stop(run);
  run->operations = (uint64_t)rounds * count;
  run_add_tally(run, &tally);
}

/* A buffer that grows. A word's content follows from the buffer's serial number and the
   word's index. Of the words before the last, those at multiples of the stride are
   written: a string writes all of them, a vector one in a page. */
struct buffer {
  uint64_t *words;
  uint32_t length; /* in words; 0 when there is no buffer */
  uint32_t limit;
  uint32_t stride;
  uint32_t serial;
};

static uint64_t buffer_word(const struct buffer *buffer, uint32_t index) {
  return ((uint64_t)buffer->serial << 32 | index) * UINT64_C(0x9E3779B97F4A7C15);
}

static void buffer_write(struct tally *tally, struct buffer *buffer, uint32_t index) {
  uint64_t word = buffer_word(buffer, index);
  buffer->words[index] = word;
  tally->written += word;
}

static void buffer_check(struct tally *tally, const struct buffer *buffer,
                         uint32_t index) {
  uint64_t word = buffer->words[index];
  if (word != buffer_word(buffer, index)) bench_fail("realloc: a word was not kept");
  tally->found += word;
}

static void buffer_grow(struct tally *tally, struct buffer *buffer, uint32_t length) {
  uint32_t stride = buffer->stride;
  uint32_t next = (buffer->length + stride - 1) / stride * stride;
  buffer->words = realloc(buffer->words, length * sizeof(uint64_t));
  if (buffer->words == NULL) bench_fail("realloc: out of memory");
  if (buffer->length != 0) buffer_check(tally, buffer, buffer->length - 1);
  for (uint32_t i = next; i < length; i += stride)
    buffer_write(tally, buffer, i);
  buffer_write(tally, buffer, length - 1);
  buffer->length = length;
}

static void buffer_delete(struct tally *tally, struct buffer *buffer) {
  if (buffer->length == 0) return;
  for (uint32_t i = 0; i < buffer->length; i += buffer->stride)
    buffer_check(tally, buffer, i);
  buffer_check(tally, buffer, buffer->length - 1);
  free(buffer->words);
  buffer->words = NULL;
  buffer->length = 0;
}

/* One buffer in eight is a vector that doubles; the others are strings that get a few
   bytes longer each time. Many grow at once, so that none can count on free room behind
   it. */
void pattern_realloc(struct run *run) {
  enum { operations = 3500000, count = 512, page_words = 512 };
  struct tally tally = {0};
  struct random random = random_seed(7);
  struct buffer *buffers = array_map(count, sizeof *buffers);
  timer_start(run);
  for (int i = 0; i < operations; i++) {
    uint32_t index = (uint32_t)random_below(&random, count);
    struct buffer *buffer = &buffers[index];
    bool vector = index % 8 == 0;
    if (buffer->length >= buffer->limit) {
      buffer_delete(&tally, buffer);
      buffer->serial = (uint32_t)i;
      buffer->stride = vector ? page_words : 1;
      buffer->limit = (uint32_t)(vector ? random_log_between(&random, 512, 65536)
                                        : random_between(&random, 16, 256));
    }
    uint32_t more = (uint32_t)random_between(&random, 1, 5);
    if (vector) more = buffer->length == 0 ? 8 : buffer->length;
    buffer_grow(&tally, buffer, buffer->length + more);
  }
  timer_stop(run);
  run->operations = operations;
  for (int i = 0; i < count; i++)
    buffer_delete(&tally, &buffers[i]);
  run_add_tally(run, &tally);
}

/* One page in sixteen of a large block is touched: enough that fresh memory is paid for,
   too little that the touching itself drowns the allocator. */
enum { large_step = 16 * 4096 };

static void *large_new(struct tally *tally, size_t size) {
  unsigned char *block = block_new(tally, size);
  uint64_t stamp = *(uint64_t *)block;
  for (size_t at = large_step; at + sizeof stamp < size; at += large_step)
    *(uint64_t *)(block + at) = stamp + at;
  return block;
}

static void large_delete(struct tally *tally, unsigned char *block) {
  uint64_t stamp = block_check(tally, block);
  size_t size = stamp_size(stamp);
  for (size_t at = large_step; at + sizeof stamp < size; at += large_step) {
    if (*(uint64_t *)(block + at) != stamp + at)
      bench_fail("a page of a large block has changed");
  }
  free(block);
}

void pattern_large(struct run *run) {
  enum { operations = 100000, window = 32, smallest = 64 << 10, largest = 8 << 20 };
  struct tally tally = {0};
  struct random random = random_seed(8);
  void **blocks = array_map(window, sizeof *blocks);
  timer_start(run);
  for (int i = 0; i < operations; i++) {
    void **slot = &blocks[random_below(&random, window)];
    if (*slot != NULL) large_delete(&tally, *slot);
    *slot = large_new(&tally, random_log_between(&random, smallest, largest));
  }
  timer_stop(run);
  run->operations = operations;
  for (int i = 0; i < window; i++) {
    if (blocks[i] != NULL) large_delete(&tally, blocks[i]);
  }
  run_add_tally(run, &tally);
}
