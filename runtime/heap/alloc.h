/* alloc.h - allocate from a heap, free to wherever a block came from.
 *
 * Invariant: the fast paths need no test for a thread that has not begun, a cell that is
 * not made, or a group that is used up: all three look like an empty word. What they cost
 * on x86-64, in instructions, for a block of up to 1 KiB:
 *
 *   heap_allocate   17: class from the size, cell, word, lowest bit, one multiply
 *   block_free      46: page map (2 loads), state against owner, one multiply for the
 *                   index, test and set of a bit, counting down
 *
 * A free never stores to the word that the next allocation reads, so in a chain of one after
 * the other neither waits for the other's address.
 */
#ifndef MIRT_HEAP_ALLOC_H
#define MIRT_HEAP_ALLOC_H

#include <string.h>

#include "heap/heap.h"

/* Allocate when the fast path finds nothing: any size, any power-of-two alignment. With
 * zero the block is zeroed. Returns NULL with errno ENOMEM when there is no memory. */
void *heap_allocate_slow(mi_heap_t *heap, size_t size, size_t alignment, bool zero);

/* The same for a small size whose cell has an empty word: the cell is known. */
void *heap_allocate_refill(mi_heap_t *heap, struct cell *cell, size_t size);

/* The same for a size that the fast table does not reach. */
void *heap_allocate_medium(mi_heap_t *heap, size_t size);

static inline void *heap_allocate(mi_heap_t *heap, size_t size) {
  if (unlikely(size > FAST_SIZE_MAX)) return heap_allocate_medium(heap, size);
  struct cell *cell = heap->fast[(size + BLOCK_MIN - 1) / BLOCK_MIN];
  if (unlikely(cell->word == 0)) return heap_allocate_refill(heap, cell, size);
  return cell_take(cell);
}

static inline void *heap_allocate_zeroed(mi_heap_t *heap, size_t size) {
  if (likely(size <= FAST_SIZE_MAX)) {
    struct cell *cell = heap->fast[(size + BLOCK_MIN - 1) / BLOCK_MIN];
    if (likely(cell->word != 0)) {
      const bool is_zero = cell->word_is_zero;
      void *block = cell_take(cell);
      return is_zero ? block : memset(block, 0, cell->block_size);
    }
  }
  return heap_allocate_slow(heap, size, BLOCK_MIN, true);
}

/* Allocate with an alignment that is a power of two. */
void *heap_allocate_aligned(mi_heap_t *heap, size_t size, size_t alignment, bool zero);

/* Allocate so that the address plus offset is aligned. */
void *heap_allocate_aligned_at(mi_heap_t *heap, size_t size, size_t alignment,
                               size_t offset, bool zero);

/* Free a block; NULL does nothing. */
void block_free(void *p);

/* Bytes usable at p: to the end of its block. 0 when p is in no block. */
size_t block_usable_size(const void *p);

/* The size of the block at p if it is a live one of the calling thread, not large; else 0:
 * then ask block_check. */
size_t block_own_size(const void *p);

/* Is p a live block, as far as this thread can see? Returns 0 and its usable bytes, or EFAULT
 * for a block that was freed, or EINVAL for what is no block. */
int block_check(const void *p, size_t *usable);

/* The page of p if there is one now, else NULL. Any value of p. */
struct page *block_page(const void *p);

/* The block that p points into, or NULL when p is in no live block of an owned or
 * abandoned page. */
void *block_start(const void *p);

#endif
