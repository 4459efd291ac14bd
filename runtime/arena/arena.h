/* arena.h - a contiguous range of slices with its own metadata.
 *
 * Invariant: a slice belongs to whoever turned its bit in `used` from 0 to 1, until that
 * one turns it back. All bitmaps begin as zeros, so fresh metadata needs no set-up and
 * costs memory only where it is touched:
 *
 *   used        handed out, or never to be handed out (metadata, a cage's null slice), or
 *               kept for a sealed tag
 *   sealed      kept for a sealed tag, and free: it belongs to whoever turns this bit to 0
 *   committed   may be touched
 *   dirty       handed out before: its contents are not known to be zero
 *   purge       free, and its memory waits to go back to the system
 *   purged      free, and its memory has gone back
 *   abandoned   a page without an owner begins here that may have a free block
 *
 * Metadata lies in a guarded mapping of its own for arenas that mirt reserves, and inside
 * the area, at its start, for memory that the user hands over.
 *
 * An arena lives while somebody pins it, or a slice of it is used, or a read section that
 * may have seen it is open.
 */
#ifndef MIRT_ARENA_ARENA_H
#define MIRT_ARENA_ARENA_H

#include <mimalloc.h>

#include "arena/descriptor.h"
#include "arena/reader.h"
#include "arena/zone.h"

#define ARENAS_MAX 4096

/* In arena->users, above the count of those who pin it. */
#define ARENA_VIEW ((uintptr_t)1 << 32)
#define ARENA_CLOSED ((uintptr_t)1 << 63)

/* How an arena is made, over reserved memory. */
struct arena_setup {
  void *base; /* slice-aligned */
  size_t slice_count;
  void *reservation; /* released with the arena; NULL: the memory is the user's */
  size_t reservation_size;
  int numa_node;        /* -1: none preferred */
  size_t null_slice;    /* a slice never handed out, or SIZE_MAX */
  bool committed;       /* may be touched from the start */
  bool automatic;       /* reserved because memory was needed, not on request */
  bool exclusive;       /* only heaps bound to it allocate in it */
  bool pinned;          /* never decommitted, reset or protected */
  bool zero;            /* slices never handed out are zero */
  bool ours;            /* private anonymous memory of our own: purging gives zeros */
  bool metadata_inside; /* in the first slices, and not in a mapping */
  bool has_owner;       /* ends with its cage or its runtime only */
};

struct arena {
  mi_arena_id_t id; /* from 1; 0 for the arena of one large block */
  uintptr_t base;   /* address of slice 0 */
  size_t slice_count;
  struct page *pages; /* a descriptor per slice */
  char *planes;
  atomic_word *used;
  atomic_word *sealed;
  atomic_word *committed;
  atomic_word *dirty;
  atomic_word *purge;
  atomic_word *aged; /* those of them that waited already when the last round ended */
  atomic_word *purged;
  atomic_word *abandoned;
  atomic_word search_start;    /* a hint: no free slice below */
  atomic_word abandoned_count; /* bits set in abandoned, or about to be */
  atomic_word purge_at;        /* clock milliseconds when `purge` is due; 0: nothing is */
  atomic_word purge_hand;      /* the word of `purge` where a purge that is due goes on */
  atomic_word holding;         /* lower half: threads that hold slices for a moment, to
                                  purge them or to try for a longer run; upper half: how
                                  many have finished */
  atomic_word adopt_hand;      /* where the next search for an abandoned page begins */
  atomic_word users;           /* lower half: heaps bound to it and others who pin it;
                                  upper half: views, and whether it is being destroyed */
  atomic_word top;             /* slices from here on were never handed out */
  size_t first_slice;          /* those before hold metadata */
  struct arena_setup setup;    /* as it was made */
  bool planes_zero;            /* planes never used are zero */
  void *metadata;
  struct zone zone; /* for records of heaps bound to it */
};

/* Slices that metadata inside an area of so many slices takes. */
size_t arena_metadata_slices(size_t slice_count);

/* Make an arena and publish it, pinned. Returns NULL when there is no memory for its metadata, or
 * no free id. */
struct arena *arena_create(const struct arena_setup *setup);

/* The same over memory of the user's. Returns 0, EINVAL when it overlaps an arena or a
 * block, or ENOMEM. */
int arena_create_over(const struct arena_setup *setup, struct arena **arena);

/* Forget an arena, and release what we reserved; with_blocks whatever is in it, and nobody
 * may use it any more, else only when no slice is used. Returns 0, EINVAL for an unknown
 * id, or EBUSY, with nothing changed, when it is pinned or a slice is used. */
int arena_destroy(mi_arena_id_t id, bool with_blocks);

/* Keep an arena from being destroyed: to do so fails meanwhile. Returns NULL for an unknown id. */
struct arena *arena_pin(mi_arena_id_t id);
void arena_unpin(struct arena *arena);

/* The same for a while, so that who destroys it waits instead of failing. */
struct arena *arena_view_begin(mi_arena_id_t id);
void arena_view_end(struct arena *arena);

/* Reserve memory for an arena of our own, of so many bytes in whole slices, and make it,
 * pinned: committed, automatic or exclusive as the setup says. NULL without memory. */
struct arena *arena_reserve(size_t size, bool allow_large, struct arena_setup setup);

/* The arena with this id, or NULL. The caller knows that it is not destroyed meanwhile. */
struct arena *arena_of_id(mi_arena_id_t id);

/* Sets of arenas, so that to look for a few among thousands costs no more than those few. */
enum arena_set {
  ARENAS_ALL,
  ARENAS_OPEN,           /* serve everybody and may have a free slice */
  ARENAS_WITH_ABANDONED, /* serve everybody and may have an abandoned page */
  ARENAS_TO_PURGE,       /* may have slices that wait for purge */
  ARENA_SETS
};

/* Put an arena into a set. To take it out and look again whether it belongs there is safe
 * against others who put it in: both are full operations. */
void arena_set_add(enum arena_set set, const struct arena *arena);
void arena_set_remove(enum arena_set set, const struct arena *arena);

/* A walk over the arenas of a set is a read section:
 *
 *   struct arena_walk walk = arena_walk_begin(ARENAS_ALL);
 *   for (struct arena *arena; (arena = arena_walk_next(&walk)) != NULL;) ...
 *   arena_walk_end(&walk);
 */
struct arena_walk {
  enum arena_set set;
  size_t next;
  struct reader *section;
};
struct arena_walk arena_walk_begin(enum arena_set set);
struct arena *arena_walk_next(struct arena_walk *walk);
void arena_walk_end(struct arena_walk *walk);

/* May heaps that are not bound to it use an arena, now? One of ARENAS_OPEN or
 * ARENAS_WITH_ABANDONED, that is. */
bool arena_serves_unbound(const struct arena *arena);

/* Does p lie in an arena? */
bool arenas_contain(const void *p);

/* Claim slice_count slices for a tag whose start is aligned to alignment bytes, committed.
 * Sets *is_zero to whether their contents are known to be zero. Returns the descriptor of
 * the first, or NULL when the arena has no such run or the system no memory. */
struct page *arena_claim_slices(struct arena *arena, size_t slice_count, size_t alignment,
                                unsigned tag, bool *is_zero);

/* The same from any arena that serves everybody; with may_reserve, from a new one when
 * the others are full. */
struct page *arenas_claim_slices(size_t slice_count, size_t alignment, unsigned tag,
                                 bool may_reserve, bool *is_zero);

/* Is the slice kept for a sealed tag, or for records, in use or not? Nobody may be claiming
 * it. */
bool arena_slice_is_kept(const struct arena *arena, size_t slice);

/* NUMA nodes, as the options let us see them. */
size_t numa_node_count(void);

/* In the child of a fork: what other threads had begun will not be finished. Arenas in memory
 * shared with the parent are not known any more. */
void arenas_after_fork(void);
void arena_recover_slices(struct arena *arena);
void purge_after_fork(void);
void reserving_after_fork(void);

/* Give slices back. */
void arena_release_slices(struct page *page, size_t slice_count);

/* A slice at start was given back: searches begin there at the latest. */
void arena_search_from(struct arena *arena, size_t start);

/* Purge what is due in all arenas, or with force what waits: so many slices at most, since
 * the system needs its time for each. The rest stays due. */
void arenas_purge(bool force, size_t most);

/* Slices that are about to be given back: let them wait for purge, or purge them now. */
void arena_schedule_purge(struct arena *arena, size_t start, size_t count);

/* Wipe the metadata of free slices, where enough of them lie together. The arena is viewed. */
void arena_wipe_metadata(struct arena *arena);

/* Bracket what takes slices and gives them back: whoever finds the arena full meanwhile
 * looks again. */
#define HOLD_ENDED ((uintptr_t)1 << 32)

/* Others hold slices: wait a little before another look, outside of a read section, which
 * they may wait for. One of them may have been stopped: false when a second has passed since
 * the first call, which finds *deadline 0. */
bool arena_may_look_again(uint64_t *deadline);

static inline void arena_hold_begin(struct arena *arena) {
  atomic_fetch_add_full(&arena->holding, 1);
}

static inline void arena_hold_end(struct arena *arena) {
  atomic_fetch_add_full(&arena->holding, HOLD_ENDED - 1);
}

/* Is it the page of a large block with a mapping of its own? */
static inline bool page_has_own_mapping(const struct page *page) {
  return page->arena->id == 0;
}

/* Bytes. */
static inline size_t arena_size(const struct arena *arena) {
  return arena->slice_count << SLICE_SHIFT;
}

static inline size_t page_slice_index(const struct page *page) {
  return (size_t)(page - page->arena->pages);
}

static inline char *arena_slice_address(const struct arena *arena, size_t index) {
  return (char *)(arena->base + (index << SLICE_SHIFT));
}

#endif
