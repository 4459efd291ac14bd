/* page_map.h - from any address to the descriptor of the page it lies in.
 *
 * Invariant: looking up any 64-bit value is safe, mapped or not. A slice of an arena that
 * has ever been part of a page maps to a descriptor that is still mapped; whether a page
 * is there now, its state says. All other addresses map to NULL.
 *
 * Two levels: a static root, one entry per 512 MiB, and leaves of one entry per slice.
 * Leaves are made when first needed and never unmapped. The first few lie in static
 * storage.
 */
#ifndef MIRT_ARENA_PAGE_MAP_H
#define MIRT_ARENA_PAGE_MAP_H

#include "arena/slice.h"
#include "base/atomic.h"
#include "base/bits.h"

struct page;

#if defined(__x86_64__)
#define ADDRESS_BITS 47
#else
#define ADDRESS_BITS 48
#endif
#define PAGE_MAP_LEAF_SHIFT 29
#define PAGE_MAP_LEAF_ENTRIES ((size_t)1 << (PAGE_MAP_LEAF_SHIFT - SLICE_SHIFT))
#define PAGE_MAP_ROOT_ENTRIES ((size_t)1 << (ADDRESS_BITS - PAGE_MAP_LEAF_SHIFT))

extern atomic_word page_map_root[PAGE_MAP_ROOT_ENTRIES];

/* Cost: a bound check and two dependent loads. */
static inline struct page *page_map_find(const void *p) {
  const uintptr_t address = (uintptr_t)p;
  const size_t entry = address >> PAGE_MAP_LEAF_SHIFT;
  if (unlikely(entry >= PAGE_MAP_ROOT_ENTRIES)) return NULL;
  atomic_word *leaf = (atomic_word *)atomic_load_acquire(&page_map_root[entry]);
  if (unlikely(leaf == NULL)) return NULL;
  return (struct page *)atomic_load_acquire(
      &leaf[(address >> SLICE_SHIFT) & (PAGE_MAP_LEAF_ENTRIES - 1)]);
}

/* Make the leaves for an address range, so that page_map_set cannot fail in it. Returns
 * false when there is no memory for them or the range is outside the address space. */
bool page_map_reserve(uintptr_t start, size_t slice_count);

/* Is no page in the range? Any range below ADDRESS_BITS. */
bool page_map_is_empty(uintptr_t start, size_t slice_count);

/* Map slice_count slices from start to page, or to nothing when page is NULL. The range
 * must have been reserved. */
void page_map_set(uintptr_t start, size_t slice_count, struct page *page);

#endif
