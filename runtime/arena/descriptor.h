/* descriptor.h - what is known about a page: its descriptor and its planes.
 *
 * Invariant: all that mirt knows of a page stands here and in the planes, nothing inside
 * its blocks. Descriptors are never unmapped while their arena lives, nor wiped while
 * somebody reads (arena/reader.h), and a descriptor always has the same planes. So a thread
 * that comes too late reads a stale value at worst, and finds out when its
 * compare-and-swap of the state fails.
 *
 * The state is one word: the lower half says who owns the page, the upper half counts. The
 * count goes up whenever the page enters a state in which other threads may claim it, so a
 * state that has come back is not mistaken for one that has stayed.
 */
#ifndef MIRT_ARENA_DESCRIPTOR_H
#define MIRT_ARENA_DESCRIPTOR_H

#include "arena/slice.h"
#include "base/atomic.h"
#include "base/bits.h"

struct arena;
struct cell;
struct page_chunk;

/* The lower half of page->state. Owner numbers are even and at least PAGE_FIRST_OWNER. */
#define PAGE_NONE 0u      /* no page begins at this slice */
#define PAGE_ABANDONED 2u /* it has live blocks and no owner */
#define PAGE_CLAIMED 4u   /* a thread found it empty and is taking it away */
#define PAGE_VISITED 6u   /* abandoned, and looked at: nobody claims it meanwhile */
#define PAGE_FIRST_OWNER 8u
#define PAGE_NO_OWNER 3u /* what a thread without an owner compares with: never a state */

#define PAGE_STATE_COUNT_ONE ((uintptr_t)1 << 32)

/* The page has an owner, who frees into it but allocates nothing from it. */
#define PAGE_RESTING ((uintptr_t)1 << 63)

/* Planes of eight slices lie together, an operating-system page (4 KiB) per plane: a plane
 * that is never used costs no memory, and from a free word to its xfree word is a
 * constant. */
#define PLANE_SLICES ((size_t)8)
#define PLANE_SLICE_WORDS (SLICE_BLOCKS_MAX / WORD_BITS)
#define PLANE_STRIDE_WORDS (PLANE_SLICES * PLANE_SLICE_WORDS)
#define PLANE_COUNT ((size_t)3) /* free, xfree, mark */
#define PLANE_ALIGNMENT (PLANE_STRIDE_WORDS * sizeof(atomic_word))

/* A sweep has two steps, each of which can be done again: the child of a fork may find it
 * half done. */
enum { SWEEP_NOT_DUE, SWEEP_DUE, SWEEP_CLEARS_MARKS };

struct page {
  /* What the fast paths read: one line. */
  atomic_word state;
  uintptr_t start;       /* address of block 0 */
  uint64_t reciprocal;   /* 2^64 / block_size, rounded up */
  atomic_word *free;     /* the owner's plane: 1 = free */
  atomic_word *taken;    /* the free word whose blocks are in the cell, or NULL */
  atomic_word cell;      /* struct cell*: the one it belongs to, while it has an owner */
  atomic_word has_xfree; /* 1 when the xfree plane may have a bit set */
  uint32_t until;        /* the owner's: frees until there is something to do; see heap/cell.h */
  uint32_t block_count;

  /* The rest: read in the slow paths only. */
  size_t block_size; /* bytes */
  struct arena *arena;
  atomic_word group_count; /* words of its planes in use */
  atomic_word kind;        /* what may be allocated from it: see page_kind */
  atomic_number slice_count;
  uint16_t fresh_block;      /* blocks from here on were never handed out */
  uint8_t slot;              /* its place in its chunk */
  bool is_zero;              /* blocks never handed out are known to be zero */
  union {
    struct page_chunk *chunk;
    struct page *next_in_limbo; /* of what is a page no more: see heap/epoch.h */
  };
  union {
    atomic_word subprocess; /* who may adopt it */
    uintptr_t goal;         /* in limbo: the epoch that all readers have to see */
  };
  atomic_flag_byte has_interior; /* a pointer into a block may stand for the block */
  atomic_flag_byte is_large;     /* one block, allocated and freed with the page */
  bool is_guarded;               /* its last system page is protected */
  uint8_t needs_sweep; /* SWEEP_DUE: blocks without a mark are dead, not yet free */
};

_Static_assert(sizeof(struct page) == 128, "two lines of memory per descriptor");

static inline uint32_t page_state_owner(uintptr_t state) { return (uint32_t)state; }

/* The state with another owner, and the same count. */
static inline uintptr_t page_state_with(uintptr_t state, uint32_t owner) {
  return (state & ~(PAGE_RESTING | UINT32_MAX)) | owner;
}

/* The state with another owner, and the count one up. */
static inline uintptr_t page_state_next(uintptr_t state, uint32_t owner) {
  return page_state_with(state + PAGE_STATE_COUNT_ONE, owner);
}

/* Whose state is an owner's has a cell. */
static inline struct cell *page_cell(const struct page *page) {
  return (struct cell *)atomic_load_relaxed(&page->cell);
}

/* The collector's plane: all zeros but between a collection's marking and the page's sweep. */
static inline atomic_word *page_mark(const struct page *page) {
  return page->free + 2 * PLANE_STRIDE_WORDS;
}

static inline atomic_word *page_xfree(const struct page *page) {
  return page->free + PLANE_STRIDE_WORDS;
}

/* Which blocks may replace each other: same tag, same size, and the first at the same offset
 * from the page's slices. Sizes are multiples of 8, offsets of 16 up to 48. */
static inline uintptr_t page_kind(unsigned tag, size_t block_size, size_t offset) {
  return ((uintptr_t)tag << 48) | block_size | offset / 16;
}

/* Only the first slice of a page has its kind; but of what is kept for a sealed tag, all
 * slices have one, also when they are free. */
static inline unsigned page_kind_tag(uintptr_t kind) { return (unsigned)(kind >> 48); }

static inline size_t page_kind_block_size(uintptr_t kind) {
  return kind & (((uintptr_t)1 << 48) - 8);
}

#endif
