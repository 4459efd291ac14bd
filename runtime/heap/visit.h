/* visit.h - every live block of a page, a heap, or the pages nobody owns.
 *
 * Invariant: what is visited is read from the planes before the first call for a page, so
 * a visitor may free the block it is given.
 */
#ifndef MIRT_HEAP_VISIT_H
#define MIRT_HEAP_VISIT_H

#include <mimalloc.h>

/* Visit the areas of a heap of the calling thread, and with blocks the live blocks of
 * each. Returns false when the visitor did. */
bool heap_visit(mi_heap_t *heap, bool blocks, mi_block_visit_fun *visitor,
                void *argument);

/* Visit the pages without an owner that have this tag, or any for -1. */
bool abandoned_visit(void *subprocess, int tag, bool blocks, mi_block_visit_fun *visitor,
                     void *argument);

#endif
