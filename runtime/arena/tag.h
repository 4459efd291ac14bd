/* tag.h - what is known about a tag.
 *
 * Invariant: a tag is unused until its first slice is claimed, and from then on used, or
 * sealed, for ever. Slices that were claimed for a sealed tag are never free for anybody
 * else: each arena keeps them in a bitmap of their own.
 *
 * There is a record for each tag in static storage. Only those touched cost memory.
 */
#ifndef MIRT_ARENA_TAG_H
#define MIRT_ARENA_TAG_H

#include "arena/descriptor.h"
#include "base/stats.h"

#define TAG_COUNT ((size_t)32768)

/* Of slices that hold records of mirt's own: as if there were a sealed tag for them. */
#define TAG_RECORDS ((unsigned)TAG_COUNT)

enum tag_use { TAG_UNUSED, TAG_USED, TAG_SEALED };

struct tag {
  atomic_word use;
  atomic_word sealed_slices; /* in use or not */
  atomic_word free_slices;   /* sealed, and not in use */
  atomic_word hand;          /* where in an arena the search for those begins */
  atomic_word block_offset;  /* bytes; see below */
  atomic_word delays_reuse;  /* 1: its empty pages wait for readers, see heap/epoch.h */
  struct holding holding;
};

extern struct tag tags[TAG_COUNT + 1];

static inline bool tag_is_sealed(unsigned tag) {
  return atomic_load_relaxed(&tags[tag].use) == TAG_SEALED;
}

/* Seal a tag that is unused or sealed already. Returns whether it is sealed now. */
static inline bool tag_seal(unsigned tag) {
  atomic_compare_and_swap_full(&tags[tag].use, TAG_UNUSED, TAG_SEALED);
  return tag_is_sealed(tag);
}

/* Blocks of these sizes may begin so many bytes, less than a line of the cache, behind where
 * they would. The least is more than any offset, so that no address before the first block
 * looks like the start of another. */
#define BLOCK_OFFSET_UNIT ((size_t)16)
#define BLOCK_OFFSET_MAX ((size_t)48)
#define BLOCK_SHIFTED_MIN ((size_t)64)
#define BLOCK_SHIFTED_MAX ((size_t)1024)

static inline uint8_t tag_block_offset(unsigned tag) {
  return (uint8_t)atomic_load_relaxed(&tags[tag].block_offset);
}

/* What the tag of a page holds. */
static inline struct holding *page_holding(const struct page *page) {
  return &tags[page_kind_tag(atomic_load_relaxed(&page->kind))].holding;
}

/* A page goes; an abandoned page goes, or gets an owner: count it off. */
static inline void page_count_off(const struct page *page) {
  stats_subtract(&stats.pages, 1);
  stats_subtract(&stats.page_bytes, (size_t)page->slice_count << SLICE_SHIFT);
  holding_subtract(page_holding(page), page->slice_count);
  if (atomic_flag_get(&page->is_large)) stats_subtract(&stats.large_blocks, 1);
}

static inline void page_count_off_abandoned(const struct page *page) {
  stats_subtract(&stats.abandoned, 1);
  atomic_fetch_sub_full(&page_holding(page)->abandoned, 1);
}

/* A slice is about to be claimed: the tag is used from now on. Returns whether it is
 * sealed. */
static inline bool tag_begin_use(unsigned tag) {
  if (atomic_load_relaxed(&tags[tag].use) == TAG_UNUSED) {
    atomic_compare_and_swap_full(&tags[tag].use, TAG_UNUSED, TAG_USED);
  }
  return tag_is_sealed(tag);
}

#endif
