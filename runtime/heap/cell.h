/* cell.h - an allocation point: blocks of one size for one heap.
 *
 * Invariant: a block of the cell is free exactly when its bit is set in its page's plane, or
 * in `word` if its group is the one taken. Each page of the cell is in one of three
 * conditions: it is `page`, which the cell allocates from; or its bit is set in its chunk's
 * `available`; or it rests until enough of it is free.
 *
 * A page without a free block rests: nothing in the cell links to it but its slot, so that
 * another thread can take it away when it is empty. The owner goes on to free into it as into
 * any other. Only when so many of its blocks are free that it is worth allocating from again
 * (`worth`) does it become available; it rests until the cell turns to it. So the groups that
 * a cell takes have several free blocks each, and an allocation rarely leaves the fast path,
 * for a share of the heap that is left free.
 *
 * To know when, each page counts its owner's frees down, in `until`. While it rests and is
 * not available they are those until it is worth allocating from; else, those until it is
 * empty.
 */
#ifndef MIRT_HEAP_CELL_H
#define MIRT_HEAP_CELL_H

#include <mimalloc.h>

#include "arena/descriptor.h"
#include "arena/zone.h"

/* A page is worth allocating from when a sixteenth of it is free, and an eighth if its blocks
 * are small: those come and go fastest. A group is when so many of its blocks are. */
#define WORTH_SHARE 16
#define WORTH_SHARE_SMALL 8
#define WORTH_SMALL ((size_t)128) /* bytes */
#define GROUP_WORTH 4

#define CHUNK_PAGES 58
#define CHUNK_IN_USE ((uintptr_t)1 << 63)

/* Pointers to some of a cell's pages. The owner sets a bit of `used` and whoever takes the
 * page away clears it; when the last bit goes, the chunk goes back to its zone. The owner
 * holds CHUNK_IN_USE for as long as the cell lives. */
struct page_chunk {
  struct free_record link;
  atomic_word used;
  uint64_t available; /* the owner's: pages worth allocating from */
  struct page_chunk *next;
  mi_heap_t *heap; /* which it keeps from being used anew */
  size_t number;   /* position in the cell's list */
  struct page *pages[CHUNK_PAGES];
};

_Static_assert(sizeof(struct page_chunk) == 512, "a chunk is eight lines");

struct cell {
  struct free_record link;
  uint64_t word;     /* free blocks of the taken group */
  uintptr_t group;   /* address of the group's first block */
  size_t block_size; /* bytes */
  struct page *page; /* the page the group is from, or NULL */
  mi_heap_t *heap;
  bool word_is_zero;    /* the blocks of `word` are known to be zero */
  bool is_in_place;     /* its memory is not the zone's */
  uint8_t fresh_batch;  /* fresh blocks taken at a time */
  bool is_short;        /* there was no fresh page: any free block is worth it */
  uint32_t block_count; /* of a page */
  uint32_t slice_count; /* of a page */
  uint32_t worth;       /* free blocks of a page worth allocating from */
  uint8_t block_offset; /* of a page's first block, in bytes: see runtime/arena/tag.h */

  struct page_chunk *chunks;    /* all */
  struct page_chunk *vacant;    /* a hint: no free slot in a chunk before it */
  struct page_chunk *available; /* a hint: no available page in a chunk before it */
  struct page_chunk *hand;      /* where the search for what others have freed stands */
  struct page_chunk *last;
};

/* A cell without blocks, whose word is always 0. */
extern struct cell cell_empty;

struct cell *cell_create(mi_heap_t *heap, size_t block_size, size_t block_offset);

/* Make a cell in place, in zeroed memory that outlives every thread's interest in it. */
void cell_initialize(struct cell *cell, mi_heap_t *heap, size_t block_size,
                     size_t block_offset);

/* Take the lowest block of the word; the word must not be 0. */
static inline void *cell_take(struct cell *cell) {
  const uint64_t word = cell->word;
  cell->word = word & (word - 1);
  return (void *)(cell->group + bits_lowest(word) * cell->block_size);
}

/* Take a block when the word is 0. Returns NULL when there is no memory. */
void *cell_refill(struct cell *cell, bool *is_zero);

/* Put the rest of the taken group back into its page. */
void cell_return_word(struct cell *cell);

/* Give a page a slot in the cell; returns false without memory. Take the slot of a page of
 * so many slices back. */
bool cell_add_page(struct cell *cell, struct page *page);
void cell_remove_page(struct cell *cell, struct page *page);
void chunk_clear_slot(struct page_chunk *chunk, uint32_t slot, size_t slices);

/* The page is worth allocating from: let the cell find it. */
void cell_set_available(struct cell *cell, struct page *page);

/* The owner frees a block of a page that has counted down: the last one before the page is
 * worth allocating from, or empty. */
void cell_free_at_turn(struct cell *cell, struct page *page, size_t index);

/* Open every page of a cell, and put every free block into its page's plane. The owner, or
 * somebody else while the world is stopped. */
void cell_settle(struct cell *cell);

/* Retire the empty pages of a cell after collecting what other threads freed; with force
 * the current one too. */
void cell_collect(struct cell *cell, bool force);

/* An owned page that is not the current one: give it back if all its blocks are free. */
void cell_retire_if_free(struct cell *cell, struct page *page);

/* Is there still a page in the slot? Inside a read section its descriptor can be read then. */
static inline bool chunk_has_slot(const struct page_chunk *chunk, uint32_t slot) {
  return ((atomic_load_acquire(&chunk->used) >> slot) & 1) != 0;
}

/* Call f for each page of the cell, with the page's place and whether it is open. f may
 * retire it. Where it is not open, other threads may take it away at any time: see
 * chunk_has_slot. */
typedef void cell_page_function(struct cell *cell, struct page *page,
                                struct page_chunk *chunk, uint32_t slot, bool is_open);
void cell_for_each_page(struct cell *cell, cell_page_function *f);

/* Return the records of a cell that has no pages left. */
void cell_delete(struct cell *cell);

#endif
