/* small.h - small blocks without a call, for a runtime whose objects count references.
 *
 * Invariant: each multiple of 8 bytes from 16 to SMALL_MAX has a type of its own in one
 * runtime of mirt, and a type's blocks are of just that size. So from a size follow the
 * cell that a mutator takes such blocks from, and the distance from one block to the
 * next; where the size is a constant, the compiler knows both. What is read and written
 * is what doc/jit.md publishes.
 *
 * The blocks are blocks as any other: mi_free, by any thread, mi_usable_size,
 * mi_heap_realloc and mi_heap_of take them. They lie in the cage of the runtime, and so
 * do those of a heap that mi_heap_new_in_arena makes in its arena (mirt_runtime_arena),
 * for what is larger.
 *
 * The header stands alone: copy it, and have SMALL_DEFINE in one file of the program.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef KOKA_SMALL_H
#define KOKA_SMALL_H

#include <mirt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SMALL_MAX ((size_t)256) /* bytes */
#define SMALL_SIZES (SMALL_MAX / 8 + 1)

/* By the size in words of 8 bytes: where in each mutator the cell is, and what to call
 * when it is empty. Written once, by small_begin. */
extern struct small_sizes {
  uint32_t cell[SMALL_SIZES];
  mirt_type_t *type[SMALL_SIZES];
} small_sizes;

#define SMALL_DEFINE struct small_sizes small_sizes

/* Make the types.
 *   runtime  the one that all mutators given to the functions below are of; its
 *            type_limit admits 31 types more
 * Returns false when a type cannot be had, reported as by mirt_type_new. Once, before
 * other threads use what is here; again for another runtime when the last one has been
 * destroyed. */
static inline bool small_begin(mirt_runtime_t *runtime) {
  for (size_t words = 2; words < SMALL_SIZES; words++) {
    const mirt_type_options_t options = {.name = "small", .size = words * 8};
    mirt_type_t *type = mirt_type_new(runtime, &options);
    if (type == NULL) return false;
    small_sizes.type[words] = type;
    small_sizes.cell[words] = type->cell;
  }
  for (size_t words = 0; words < 2; words++) { /* no block is smaller */
    small_sizes.type[words] = small_sizes.type[2];
    small_sizes.cell[words] = small_sizes.cell[2];
  }
  return true;
}

/* Allocate a small block.
 *   mutator  bound to the calling thread, of the runtime of small_begin
 *   size     bytes, 0 to SMALL_MAX
 * Returns the block, its contents undefined, aligned to 8 bytes, or NULL, reported as by
 * mirt_new: ENOMEM without memory, or when the budget's hard limit is reached. With a
 * constant size that is eleven instructions on x86-64, of which three load (the cell's
 * offset, its word, its group) and one stores; all but the first access one line of the
 * cache. */
static inline void *small_malloc(mirt_mutator_t *mutator, size_t size) {
  const size_t words = size <= 16 ? 2 : (size + 7) / 8;
  mirt_cell_t *cell = (mirt_cell_t *)((char *)mutator + small_sizes.cell[words]);
  const uint64_t word = cell->word;
  if (__builtin_expect(word == 0, 0)) {
    return mirt_new_slow(mutator, small_sizes.type[words]);
  }
  cell->word = word & (word - 1);
  return (void *)(cell->group + mirt_lowest_bit(word) * (words * 8));
}

/* The same, and its first size bytes are zero. */
static inline void *small_zalloc(mirt_mutator_t *mutator, size_t size) {
  void *block = small_malloc(mutator, size);
  return block == NULL ? NULL : memset(block, 0, size);
}

#endif /* KOKA_SMALL_H */
