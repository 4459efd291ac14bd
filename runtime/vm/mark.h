/* mark.h - the threads that mark, and their stacks.
 *
 * Invariant: an object whose mark is set and whose slots are yet to be looked at is on
 * exactly one marker's stack. A stack is a list of segments from mappings of their own. The
 * first, which the marker works on, is its thread's; the others anybody may take who has
 * nothing left to do. When there is no memory for a segment, objects stay marked that are on
 * no stack, `is_overflown` says so, and all marked objects are traced again at the end.
 */
#ifndef MIRT_VM_MARK_H
#define MIRT_VM_MARK_H

#include "heap/page.h"
#include "vm/runtime.h"

#define SEGMENT_ENTRIES 1022
#define SEGMENT_BYTES ((size_t)8 * KiB)

/* An entry is the address of an object; with bit 0 set, of one whose array is being gone
 * through, and the entry below says from which byte on. */
struct segment {
  struct segment *next;
  size_t count;
  uintptr_t entries[SEGMENT_ENTRIES];
};

_Static_assert(sizeof(struct segment) == SEGMENT_BYTES, "segments fill their memory");

/* What marking needs of the page at a slice, each of them if it has several: half a line, where
 * the descriptor is two. Made when a collection begins, as pages stay as they are then. */
struct target {
  uintptr_t start;     /* address of block 0 */
  uint64_t reciprocal; /* as in the descriptor */
  atomic_word *mark;   /* NULL where there is no object of the runtime */
  const struct type *type;
};

struct mirt_marker_s {
  struct collection *collection;
  mirt_runtime_t *runtime;
  uintptr_t base; /* of the arena */
  size_t slice_count;
  const struct target *targets;
  uintptr_t *next, *end;  /* in the thread's own segment: the first free entry; its end */
  struct segment *top;    /* that segment, or NULL; its count is what `next` says */
  struct segment *others; /* full ones; lock protects them */
  atomic_word other_count;
  atomic_word lock;
  size_t until_share; /* objects to trace before it looks whether others are idle */
} __attribute__((aligned(128)));

struct collection {
  mirt_runtime_t *runtime;
  size_t size; /* bytes, with the targets */
  bool is_running;
  unsigned marker_count;
  bool is_parallel;
  bool is_lazy;
  atomic_word is_overflown;
  atomic_word busy; /* markers in mirt_gc_trace that have work */
  atomic_word idle; /* those that look for some */
  atomic_word segment_lock;
  struct segment *free_segments;
  void *segment_mappings;    /* a list */
  char *fresh, *fresh_end;   /* of the first in it: segments that were never used */
  struct segment *dead;      /* objects whose finalizers are to be called */
  void *finalizing;          /* whose finalizer runs now, and may collect */
  atomic_word is_finalizing; /* a thread calls them */
  size_t kept_objects,
      kept_bytes; /* both kinds, and those there was no memory to queue */
  mirt_marked_fun *on_marked;
  void *arg;
  uint64_t began_at; /* clock nanoseconds */
  size_t hand;       /* the slice from which on pages may have to be swept */
  mirt_marker_t markers[MIRT_MARKERS_MAX];
  struct target targets[]; /* one for each slice of the arena */
};

/* Describe the pages that there are. */
void collection_describe_pages(struct collection *collection);

/* Trace what one marker has, and nothing of others'. */
void marker_drain(mirt_marker_t *marker);

/* As mirt_gc_trace, of a thread that is counted as busy. */
void marker_trace(mirt_marker_t *marker);

/* Trace all that is left on any stack, in this thread. */
void collection_drain(struct collection *collection);

/* A segment, with no entries; NULL without memory. Give one back. */
struct segment *segment_take(struct collection *collection);
void segment_give(struct collection *collection, struct segment *segment);

/* No segment is in use any more: keep one mapping of them for the next collection, or none. */
void collection_reset_segments(struct collection *collection);
void collection_release_segments(struct collection *collection);

/* Is the block marked? */
static inline bool page_is_marked(const struct page *page, size_t index) {
  return ((atomic_load_relaxed(&page_mark(page)[index / WORD_BITS]) >>
           (index % WORD_BITS)) &
          1) != 0;
}

#endif
