/* large.h - blocks too large for a size class: a run of slices is one page of one block.
 *
 * Invariant: a large page is always resting or abandoned, and its one block is live for as
 * long as the page exists: to free the block is to claim the page. A block larger than
 * the default arenas gets a mapping of its own, described by an arena of one page whose
 * id is 0 and whose record is never unmapped, only used again.
 */
#ifndef MIRT_HEAP_LARGE_H
#define MIRT_HEAP_LARGE_H

#include <mimalloc.h>

struct page;
typedef bool page_function(struct page *page, void *argument);

/* Allocate a block of whole slices, aligned to alignment bytes. Returns NULL without
 * memory. */
void *large_allocate(mi_heap_t *heap, size_t size, size_t alignment, bool *is_zero);

/* Allocate a block that ends at a protected page of the system. */
void *large_allocate_guarded(mi_heap_t *heap, size_t size, size_t alignment,
                             bool *is_zero);

/* Make the whole block of a page accessible again, before its slices are given back. */
void large_remove_guard(struct page *page);

/* Free the block. Returns false when it was free already. Any thread. */
bool large_free(struct page *page);

/* Call f for each page with a mapping of its own, as pages_for_each does. */
bool large_for_each_mapping(page_function *f, void *argument);

/* Unmap a page that has a mapping of its own. */
void large_unmap(struct page *page);

#endif
