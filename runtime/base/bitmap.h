/* bitmap.h - bitmaps that several threads change at once.
 *
 * Invariant: a bit changes only by an atomic operation on its word, so that whoever turns
 * a bit over owns what it stands for. A run that crosses words is claimed word by word,
 * in order, and given back when a later word cannot be had: no thread ever waits.
 */
#ifndef MIRT_BASE_BITMAP_H
#define MIRT_BASE_BITMAP_H

#include "base/atomic.h"
#include "base/bits.h"

static inline size_t bitmap_words(size_t bits) { return divide_up(bits, WORD_BITS); }

static inline bool bitmap_get(const atomic_word *map, size_t bit) {
  return (atomic_load_acquire(&map[bit / WORD_BITS]) >> (bit % WORD_BITS)) & 1;
}

/* Set or clear the bits [start, start + count). Return how many of them changed. */
size_t bitmap_set_run(atomic_word *map, size_t start, size_t count);
size_t bitmap_clear_run(atomic_word *map, size_t start, size_t count);

/* Set the bits [start, start + count) if all are clear now. Returns false, with nothing
 * changed, when one was set. */
bool bitmap_claim_run(atomic_word *map, size_t start, size_t count);

/* Clear the bits [start, start + count) if all are set now. Returns false, with nothing
 * changed, when one was clear. */
bool bitmap_unclaim_run(atomic_word *map, size_t start, size_t count);

/* Are all of the bits [start, start + count) set? */
bool bitmap_is_set_run(const atomic_word *map, size_t start, size_t count);

/* The first bit in [start, limit) with this value, or limit. */
size_t bitmap_find(const atomic_word *map, size_t start, size_t limit, bool value);

#endif
