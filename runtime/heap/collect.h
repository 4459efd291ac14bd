/* collect.h - giving back what an owner holds but does not need.
 *
 * Invariant: collecting changes where free blocks are remembered, never which blocks are
 * live. Only the owner's thread calls it.
 */
#ifndef MIRT_HEAP_COLLECT_H
#define MIRT_HEAP_COLLECT_H

#include <mimalloc.h>

struct owner;

/* Retire the empty pages of a heap; with force the pages being allocated from as well. */
void heap_collect(mi_heap_t *heap, bool force);

/* The same for all heaps of an owner; with force, free slices go back to the system too. */
void owner_collect(struct owner *owner, bool force);

#endif
