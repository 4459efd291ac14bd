/* slice.h - the unit in which arenas hand out memory. */
#ifndef MIRT_ARENA_SLICE_H
#define MIRT_ARENA_SLICE_H

#include "base/bits.h"

#define SLICE_SHIFT 16
#define SLICE_SIZE ((size_t)1 << SLICE_SHIFT) /* 64 KiB */

/* The smallest block, and so the most blocks that a slice can hold. */
#define BLOCK_MIN ((size_t)16)
#define SLICE_BLOCKS_MAX (SLICE_SIZE / BLOCK_MIN)

/* Slices that hold size bytes; size must not be so large that rounding wraps. */
static inline size_t slices_for(size_t size) {
  return (size + SLICE_SIZE - 1) >> SLICE_SHIFT;
}

#endif
