/* page.h - a run of slices cut into blocks of one size.
 *
 * Invariant: while a page has an owner and is open, only the owner changes its free plane
 * and its state. While it rests or is abandoned nobody allocates from it, no bit of its free
 * plane is cleared, and only the owner of a resting one sets any; so any thread that finds it
 * empty may claim it by compare-and-swap of the state.
 */
#ifndef MIRT_HEAP_PAGE_H
#define MIRT_HEAP_PAGE_H

#include "arena/arena.h"
#include "heap/cell.h"
#include "heap/heap.h"
#include "heap/large.h"

/* Describe blocks in freshly claimed slices. All blocks are free; the state is not set. */
void page_initialize(struct page *page, struct cell *cell, size_t block_size,
                     size_t block_count, size_t slice_count, bool is_zero);

/* From now on the page exists, and this is its owner; with PAGE_RESTING it rests. */
void page_publish(struct page *page, uint32_t owner, uintptr_t resting);

/* Take the free blocks of a group out of the page into the cell: those handed out before
 * first, then of the fresh ones. Returns false when there is none. */
bool page_take_group(struct page *page, struct cell *cell);

/* What the marks say of a page's blocks. */
struct page_swept {
  size_t live, dead; /* marked; neither marked nor free */
  bool is_free;      /* none is marked */
};

/* Blocks without a mark become free, and there are no marks any more. The owner only, page
 * not resting, and no group of it taken; a page that others may look at meanwhile, the child of a
 * fork too, is SWEEP_DUE. Or only count them: then nothing changes. */
struct page_swept page_sweep(struct page *page);
struct page_swept page_count_marks(const struct page *page);

/* Sweep the page, if it has to be, and move what other threads freed to the free plane.
 * Returns whether there was anything. The owner only, page not resting. */
bool page_collect(struct page *page);

/* Is every block in one of the free planes? */
bool page_is_empty(const struct page *page);

/* Is every block in the owner's plane? */
bool page_is_free(const struct page *page);

/* Is no block in the owner's plane? The answer of somebody else is only nearly so. How many are? */
bool page_is_exhausted(const struct page *page);
uint32_t page_free_count(const struct page *page);

/* Set a bit in live, which has room for PLANE_SLICE_WORDS words, for each block that is live;
 * returns how many are. The owner asks, or somebody while the owner is stopped; else what one
 * learns is only nearly so. Changes nothing. */
size_t page_live_blocks(const struct page *page, uint64_t *live);

/* Give an empty page, owned by the caller or claimed, back to its arena, and what is due
 * from there to the system. Who gives back many looks at that himself, once. */
void page_release(struct page *page);
void page_give_back(struct page *page);

/* What was a page is free memory from now on. */
void page_let_go(struct page *page);

/* In the child of a fork: a thread that is gone had claimed the page, which is given back; or
 * freed a block of it, without having raised the flag yet. */
void page_give_back_lost(struct page *page);
void page_recover_flag(struct page *page);

/* Let heaps find an abandoned page that may have a free block, or no longer. A stale offer
 * may outlive even the page's descriptor, which is why the slice is named. */
void page_offer(struct page *page);
void page_withdraw(struct arena *arena, size_t slice);

/* Claim the page if it is resting or abandoned, and empty; returns whether it was: the caller
 * releases it then, outside of the read section that this takes. Any thread. */
bool page_claim_if_empty(struct page *page);

/* The owner puts a block back into its plane; and claims the resting page, and gives it back,
 * if that was the last one. */
void page_free_block_resting(struct page *page, size_t index);

/* Turn a page in this state over: to PAGE_CLAIMED, to take it away whatever is in it, or an
 * abandoned one to PAGE_VISITED, to set it aside: blocks in it can be freed all the time by
 * other threads. Returns false when the state has changed. The page leaves its chunk or the
 * abandoned bitmap. */
bool page_turn_over(struct page *page, uintptr_t state, uint32_t to);

/* A page that the caller has set aside, and given a cell, belongs to this owner now. */
void page_adopt(struct page *page, uint32_t owner);

/* Leave a page without an owner, if it still belongs to this one. chunk and
 * slot are its place in its cell, chunk NULL when it has none. */
void page_abandon(struct page *page, uint32_t owner, struct page_chunk *chunk,
                  uint32_t slot);

/* Call f for each page there is, in arenas and of blocks with a mapping of their own, until
 * it returns false; returns whether it never did. f may call anything; a page that others
 * take away meanwhile is left out, or f finds its state changed. */
bool pages_for_each(page_function *f, void *argument);

/* The same for the pages of one arena, or for those from a slice of it on. */
bool pages_for_each_in(struct arena *arena, page_function *f, void *argument);
bool pages_for_each_from(struct arena *arena, size_t slice, page_function *f,
                         void *argument);

/* The index of the block that p points into. */
static inlined_always size_t page_block_index(const struct page *page, const void *p) {
  const uint128 product = (uint128)((uintptr_t)p - page->start) * page->reciprocal;
  return (size_t)(product >> 64);
}

static inlined_always void *page_block(const struct page *page, size_t index) {
  return (void *)(page->start + index * page->block_size);
}

/* The bits of a group of a page with so many blocks that stand for blocks; the others are
 * always set in the plane. */
static inline uint64_t group_mask(size_t block_count, size_t group) {
  const size_t first = group * WORD_BITS;
  return first < block_count ? bits_below(block_count - first) : 0;
}

static inline uint64_t page_group_mask(const struct page *page, size_t group) {
  return group_mask(page->block_count, group);
}

/* Does p point to the start of a block? Exact multiples of the block size leave less than
 * the reciprocal in the lower half of the product (Lemire, Kaser, Kurz 2019). */
static inline bool page_is_block_start(const struct page *page, const void *p) {
  const uint128 product = (uint128)((uintptr_t)p - page->start) * page->reciprocal;
  return (uint64_t)product < page->reciprocal;
}

/* Put a block back into the owner's plane. */
static inline void page_free_block(struct page *page, size_t index) {
  atomic_word *word = &page->free[index / WORD_BITS];
  atomic_store_relaxed(word,
                       atomic_load_relaxed(word) | (uintptr_t)1 << (index % WORD_BITS));
}

#endif
