/* arena.h - a contiguous range of slices with its own metadata.
 *
 * Invariant: a slice belongs to whoever turned its bit in `used` from 0 to 1, until that
 * one turns it back. All bitmaps begin as zeros, so fresh metadata needs no set-up and
 * costs memory only where it is touched:
 *
 *   used        handed out, or never to be handed out (metadata, a cage's null slice)
 *   committed   may be touched
 *   dirty       handed out before: its contents are not known to be zero
 *   purge       free, and its memory waits to go back to the system
 *   abandoned   a page without an owner begins here
 *
 * Metadata lies in a guarded mapping of its own for arenas that mirt reserves, and inside
 * the area for memory that the user hands over.
 */
#ifndef MIRT_ARENA_ARENA_H
#define MIRT_ARENA_ARENA_H

#include <mimalloc.h>

#include "arena/descriptor.h"
#include "arena/zone.h"

#define ARENAS_MAX 4096

struct arena {
  mi_arena_id_t id; /* from 1; 0 for the arena of one large block */
  uintptr_t base;   /* address of slice 0 */
  size_t slice_count;
  struct page *pages; /* a descriptor per slice */
  char *planes;
  atomic_word *used;
  atomic_word *committed;
  atomic_word *dirty;
  atomic_word *purge;
  atomic_word *abandoned;
  atomic_word search_start;    /* a hint: no free slice below */
  atomic_word abandoned_count; /* bits set in abandoned, or about to be */
  atomic_word purge_at;        /* clock milliseconds when `purge` is due; 0: nothing is */
  atomic_word holding;         /* lower half: threads that hold slices for a moment, to
                                  purge them or to try for a longer run; upper half: how
                                  many have finished */
  atomic_word adopt_hand;      /* where the next search for an abandoned page begins */
  atomic_word heap_count;      /* heaps bound to it */
  int numa_node;               /* -1: none preferred */
  bool automatic;              /* reserved because memory was needed, not on request */
  bool exclusive;              /* only heaps bound to it allocate in it */
  bool pinned;                 /* never decommitted, reset or protected */
  bool zero;                   /* slices never handed out are zero */
  bool planes_zero;            /* planes never used are zero */
  bool purge_zeroes;           /* purged memory reads as zero */
  bool reserved_by_us;
  void *reservation; /* what to unmap, if reserved by us */
  size_t reservation_size;
  void *metadata;
  size_t metadata_size; /* 0: the metadata lies inside the area */
  struct zone zone;     /* for records of heaps bound to it */
};

/* How to make an arena over reserved memory. */
struct arena_setup {
  void *base; /* slice-aligned */
  size_t slice_count;
  void *reservation; /* released with the arena; NULL: the memory is the user's */
  size_t reservation_size;
  bool committed, pinned, zero, exclusive, automatic, metadata_inside;
  bool ours; /* private anonymous memory of our own: purging gives zeros */
  int numa_node;
  size_t null_slice; /* a slice never handed out, or SIZE_MAX */
};

/* Make an arena and publish it. Returns NULL, with errno ENOMEM, when there is no memory
 * for its metadata, or no free id. */
struct arena *arena_create(const struct arena_setup *setup);

/* Forget an arena that nothing uses, and release what we reserved. */
void arena_destroy(struct arena *arena);

/* Reserve an arena of our own. */
struct arena_request {
  size_t size; /* bytes, whole slices */
  bool commit, allow_large, exclusive, automatic;
};
struct arena *arena_reserve(const struct arena_request *request);

/* The arena with this id, or NULL. */
struct arena *arena_of_id(mi_arena_id_t id);

/* A walk over all arenas. An arena is destroyed only after the walks that may have seen it
 * have ended, so a walk ends soon and calls nothing that the user wrote:
 *
 *   struct arena_walk walk = arena_walk_begin();
 *   for (struct arena *arena; (arena = arena_walk_next(&walk)) != NULL;) ...
 *   arena_walk_end(&walk);
 */
struct arena_walk {
  size_t next;
  size_t limit;
  unsigned epoch;
};
struct arena_walk arena_walk_begin(void);
struct arena *arena_walk_next(struct arena_walk *walk);
void arena_walk_end(struct arena_walk *walk);

/* The arena whose area holds p, or NULL. */
struct arena *arena_of_address(const void *p);

/* Claim slice_count slices whose start is aligned to alignment bytes, committed. Sets
 * *is_zero to whether their contents are known to be zero. Returns the descriptor of the
 * first, or NULL when the arena has no such run or the system no memory. */
struct page *arena_claim_slices(struct arena *arena, size_t slice_count, size_t alignment,
                                bool *is_zero);

/* The same from any arena that serves everybody; with may_reserve, from a new one when
 * the others are full. */
struct page *arenas_claim_slices(size_t slice_count, size_t alignment, bool may_reserve,
                                 bool *is_zero);

/* In the child of a fork: what other threads had begun will not be finished. */
void arenas_after_fork(void);

/* Give slices back. */
void arena_release_slices(struct page *page, size_t slice_count);

/* A slice at start was given back: searches begin there at the latest. */
void arena_search_from(struct arena *arena, size_t start);

/* Purge what is due in all arenas; with force, all that waits. */
void arenas_purge(bool force);

/* Slices that are about to be given back: let them wait for purge, or purge them now. */
void arena_schedule_purge(struct arena *arena, size_t start, size_t count);

/* Bracket what takes slices and gives them back: whoever finds the arena full meanwhile looks
 * again. */
static inline void arena_hold_begin(struct arena *arena) {
  atomic_fetch_add_full(&arena->holding, 1);
}

static inline void arena_hold_end(struct arena *arena) {
  atomic_fetch_add_full(&arena->holding, ((uintptr_t)1 << 32) - 1);
}

/* Is it the page of a large block with a mapping of its own? */
static inline bool page_has_own_mapping(const struct page *page) {
  return page->arena->id == 0;
}

static inline size_t page_slice_index(const struct page *page) {
  return (size_t)(page - page->arena->pages);
}

static inline char *arena_slice_address(const struct arena *arena, size_t index) {
  return (char *)(arena->base + (index << SLICE_SHIFT));
}

#endif
