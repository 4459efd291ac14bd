/* visit.h - every live block of a page, a heap, a tag, or the pages nobody owns.
 *
 * Invariant: to visit changes nothing. What a visitor is shown of a page has been read from
 * the planes before its first call for that page, so it may free the block it is given.
 */
#ifndef MIRT_HEAP_VISIT_H
#define MIRT_HEAP_VISIT_H

#include <mimalloc.h>

struct visit {
  bool blocks; /* each live block, and not only areas */
  mi_block_visit_fun *visitor;
  void *argument;
};

/* Visit the pages of a heap, by its owner or while that is stopped. Returns false when the
 * visitor did, as do the others. */
bool heap_visit(const mi_heap_t *heap, const struct visit *visit);

/* Visit the pages without an owner that have this tag, or any for -1. */
bool abandoned_visit(void *subprocess, int tag, const struct visit *visit);

/* Visit all pages of a tag, or any for -1, of whatever owner. */
bool tag_visit(int tag, const struct visit *visit);

#endif
