/* size_class.h - the block sizes that heaps have cells for.
 *
 * Invariant: classes rise in steps of 16 bytes to 128, then eight to a doubling up to 128
 * KiB, so rounding up wastes at most an eighth. A size whose block is a multiple of some
 * power of two up to a slice is aligned to it, because pages start on a slice.
 *
 * All of it is arithmetic: there is no table to keep in step.
 */
#ifndef MIRT_HEAP_SIZE_CLASS_H
#define MIRT_HEAP_SIZE_CLASS_H

#include "arena/slice.h"

#define CLASS_SIZE_MAX (128 * KiB)
#define CLASS_LINEAR ((size_t)8) /* classes of 16, 32 .. 128 */
#define CLASS_LINEAR_MAX_BITS 7  /* 128 = 1 << 7 */
#define CLASS_COUNT ((size_t)88)

/* The last cell of a heap holds the blocks that are too large for a class. */
#define CLASS_LARGE CLASS_COUNT
#define CELL_COUNT (CLASS_COUNT + 1)

/* The smallest class that holds size bytes, size at most CLASS_SIZE_MAX. */
static inline size_t class_of_size(size_t size) {
  if (size <= 128) return size == 0 ? 0 : (size - 1) / BLOCK_MIN;
  const size_t last = size - 1;
  const unsigned exponent = bits_highest(last);
  return CLASS_LINEAR + (exponent - CLASS_LINEAR_MAX_BITS) * 8 +
         ((last >> (exponent - 3)) & 7);
}

/* The block size of a class, in bytes. */
static inline size_t class_block_size(size_t class_index) {
  if (class_index < CLASS_LINEAR) return (class_index + 1) * BLOCK_MIN;
  const size_t exponent = (class_index - CLASS_LINEAR) / 8 + CLASS_LINEAR_MAX_BITS;
  const size_t eighths = (class_index - CLASS_LINEAR) % 8 + 9;
  return eighths << (exponent - 3);
}

/* Slices for a page of blocks of this size: the fewest that waste at most 3% (1/32) in a
 * tail too short for a block. */
static inline size_t page_slices_for(size_t block_size) {
  size_t slices = slices_for(block_size);
  while ((slices << SLICE_SHIFT) % block_size > (slices << SLICE_SHIFT) / 33) slices++;
  return slices;
}

#endif
