/* mirt/stats.h - what a heap, or a tag, holds.
 *
 * Pages are counted as they come and go, which is rare. Live blocks are not counted at all:
 * when somebody asks, the bits of the pages are. So allocating and freeing pays nothing.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_STATS_H
#define MIRT_STATS_H

#include <mimalloc.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mirt_stats_s {
  size_t live_blocks;   /* allocated and not freed */
  size_t live_bytes;    /* in those, by the sizes of their blocks (mi_good_size) */
  size_t pages;         /* that hold them, with or without a live block */
  size_t committed;     /* bytes in those pages */
  size_t peak;          /* most bytes that were committed at once */
  size_t abandoned;     /* those pages that have no owner now */
  size_t adopted;       /* pages taken over from owners that ended, since the start */
  size_t address_space; /* bytes of addresses that nothing else can get: those of the pages,
                           and of a sealed tag all that it has ever used */
} mirt_stats_t;

/* What a heap holds, or what all blocks of a tag do, of whatever heap and thread, those left
 * behind too.
 *   heap   a heap of the calling thread; or of a mutator that runs nowhere now
 *   tag    0 to MIRT_TAG_MAX
 *   stats  receives the numbers
 * Returns true; or false when heap or stats is NULL, or there is no such tag (EINVAL, through
 * the registered error function). The numbers are exact when nobody allocates or frees
 * blocks of the tag meanwhile, else each was true at some moment. It looks at the planes
 * of each page, so it takes about 250 ns per page. For a tag any thread may call it. */
mi_decl_export bool mirt_stats_heap(const mi_heap_t* heap, mirt_stats_t* stats);
mi_decl_export bool mirt_stats_tag(int tag, mirt_stats_t* stats);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_STATS_H */
