/* stats.h - what the allocator has done, counted where it is rare.
 *
 * Invariant: counters change only off the fast paths (an arena, a page, a system call), so
 * counting costs nothing that a program could feel. Live blocks are never counted: the
 * planes know them. Each counter is atomic; a reader sees each exactly, but not all of
 * them at one instant.
 */
#ifndef MIRT_BASE_STATS_H
#define MIRT_BASE_STATS_H

#include <mimalloc.h>

#include "base/atomic.h"

struct stat_count {
  atomic_word current;
  atomic_word peak;
  atomic_word total;
};

struct stats {
  struct stat_count reserved;   /* bytes of address space */
  struct stat_count committed;  /* bytes that may be touched */
  struct stat_count pages;      /* pages owned or abandoned */
  struct stat_count page_bytes; /* bytes in slices of pages */
  struct stat_count abandoned;  /* pages without an owner */
  struct stat_count arenas;
  struct stat_count heaps;
  struct stat_count owners;       /* threads that have allocated */
  struct stat_count large_blocks; /* pages of one block */
  atomic_word adopted;            /* pages taken over from ended threads */
  atomic_word map_calls;
  atomic_word commit_calls;
  atomic_word purge_calls;
  atomic_word purged; /* bytes */
};

extern struct stats stats;

/* What a heap or a tag holds: whole pages. */
struct holding {
  atomic_word now;       /* lower half: slices; upper half: pages */
  atomic_word peak;      /* slices */
  atomic_word abandoned; /* pages that have no owner now */
  atomic_word adopted;   /* pages taken over, since the start */
};

void holding_add(struct holding *holding, size_t slices);
void holding_subtract(struct holding *holding, size_t slices);

static inline size_t holding_slices(const struct holding *holding) {
  return (uint32_t)atomic_load_relaxed(&holding->now);
}

static inline size_t holding_pages(const struct holding *holding) {
  return atomic_load_relaxed(&holding->now) >> 32;
}

void stats_add(struct stat_count *count, size_t amount);
void stats_subtract(struct stat_count *count, size_t amount);

/* What was subtracted is there after all: it is not new. */
void stats_take_back(struct stat_count *count, size_t amount);

#endif
