/* epoch.h - empty pages that wait for readers.
 *
 * Invariant: a page in limbo is no page any more, but its slices, or its mapping, are still
 * its own. The epoch goes up when a page gets there, which then waits for the new epoch: a
 * reader that announces that one, or a later one, or begins to read in it, cannot know the page.
 */
#ifndef MIRT_HEAP_EPOCH_H
#define MIRT_HEAP_EPOCH_H

#include "arena/tag.h"

static inline bool tag_delays_reuse(unsigned tag) {
  return atomic_load_relaxed(&tags[tag].delays_reuse) != 0;
}

/* Put a page there that has just ceased to be one. */
void limbo_add(struct page *page);

/* Let go of what all readers have passed; returns whether that was anything. Waits for
 * nobody. */
bool limbo_collect(void);

/* Let go of all pages of an arena that is going to end: nobody reads them any more. */
void limbo_flush(const struct arena *arena);

/* In the child of a fork, after the arenas have taken back slices without a page. */
void limbo_after_fork(void);

#endif
