/* mirt/visit.h - every live block of an owner, or of a tag.
 *
 * These go on where mi_heap_visit_blocks and mi_abandoned_visit_blocks of mimalloc.h end, and
 * take the same visitor. They change nothing, so that a thread may look at what belongs to
 * others, while those are stopped: the world has to be, since nobody may allocate.
 *
 * The fast way is to ask for areas only (visit_blocks false) and to go through the live
 * blocks of each in the visitor, without a call per block:
 *
 *   static bool count_area(const mi_heap_t* heap, const mi_heap_area_t* area, void* block,
 *                          size_t block_size, void* arg) {
 *     mirt_area_iterator_t i = mirt_area_begin(area);
 *     for (char* p; (p = mirt_area_next(&i)) != NULL;) ...
 *     return true;
 *   }
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_VISIT_H
#define MIRT_VISIT_H

#include <mimalloc.h>
#include <mirt/mutator.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Visit all heaps of an owner: pages that are open or full, large blocks too.
 *   mutator       the owner, which runs nowhere now or is stopped; NULL for the calling
 *                 thread's current one
 *   visit_blocks  a call for each live block too, not only for each area
 *   visitor, arg  the function to call and its last argument
 * Returns true when all was visited; false when the visitor stopped it, or is NULL. Nobody
 * may allocate with the owner meanwhile, or free blocks of it: a block freed by another
 * thread meanwhile may be shown or not. Any thread may call it. */
mi_decl_export bool mirt_visit_owner_heaps(mirt_mutator_t* mutator, bool visit_blocks,
                                           mi_block_visit_fun* visitor, void* arg);

/* Visit all live blocks of a tag: in every heap of every thread and mutator, and in what
 * those have left behind that ended.
 *   tag           the tag, or -1 for all
 *   visit_blocks  a call for each live block too, not only for each area
 *   visitor, arg  the function to call and its last argument; its heap is NULL for areas
 *                 that nobody owns
 * Returns true when all was visited; false when the visitor stopped it, or is NULL. Nobody
 * may allocate or free meanwhile, the visitor neither: all threads are stopped, or know. Any
 * thread may call it. */
mi_decl_export bool mirt_visit_tag(int tag, bool visit_blocks, mi_block_visit_fun* visitor,
                                   void* arg);

/* Goes through the live blocks of an area in the order of their addresses. */
typedef struct mirt_area_iterator_s {
  const uint64_t* live; /* a bit per block: 1 = live */
  char* group;          /* the first of the 64 blocks that `left` stands for */
  uint64_t left;        /* those of them yet to come */
  size_t groups;        /* that follow */
  size_t step;          /* bytes from block to block */
} mirt_area_iterator_t;

/* Begin with an area that a visitor has been given, of this library; valid until the visitor
 * returns. */
static inline mirt_area_iterator_t mirt_area_begin(const mi_heap_area_t* area) {
  const size_t count = area->committed / area->full_block_size;
  mirt_area_iterator_t i;
  i.live = (const uint64_t*)area->reserved1;
  i.group = (char*)area->blocks;
  i.left = i.live[0];
  i.groups = (count + 63) / 64 - 1;
  i.step = area->full_block_size;
  return i;
}

/* The next live block, or NULL after the last. */
static inline void* mirt_area_next(mirt_area_iterator_t* i) {
  while (i->left == 0) {
    if (i->groups == 0) return NULL;
    i->groups--;
    i->group += 64 * i->step;
    i->left = *++i->live;
  }
  const int lowest = __builtin_ctzll(i->left);
  i->left &= i->left - 1;
  return i->group + (size_t)lowest * i->step;
}

#ifdef __cplusplus
}
#endif

#endif /* MIRT_VISIT_H */
