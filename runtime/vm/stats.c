#include <mirt/stats.h>

#include <errno.h>
#include <mirt/tag.h>

#include "arena/tag.h"
#include "base/log.h"
#include "heap/heap.h"
#include "heap/visit.h"

static void fill_in(mirt_stats_t *stats, const struct holding *holding) {
  *stats = (mirt_stats_t){
      .pages = holding_pages(holding),
      .committed = holding_slices(holding) << SLICE_SHIFT,
      .peak = atomic_load_relaxed(&holding->peak) << SLICE_SHIFT,
      .abandoned = atomic_load_relaxed(&holding->abandoned),
      .adopted = atomic_load_relaxed(&holding->adopted),
  };
  stats->address_space = stats->committed;
}

static bool add_live(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                     size_t block_size, void *argument) {
  (void)heap, (void)block, (void)block_size;
  mirt_stats_t *stats = argument;
  stats->live_blocks += area->used;
  stats->live_bytes += area->used * area->block_size;
  return true;
}

bool mirt_stats_heap(const mi_heap_t *heap, mirt_stats_t *stats) {
  if (heap == NULL || stats == NULL) {
    log_error(EINVAL, "mirt_stats_heap", "heap %p, stats %p", (const void *)heap,
              (void *)stats);
    return false;
  }
  fill_in(stats, &heap->holding);
  const struct visit visit = {false, add_live, stats};
  return heap_visit(heap, &visit);
}

bool mirt_stats_tag(int tag, mirt_stats_t *stats) {
  if (tag < 0 || tag > MIRT_TAG_MAX || stats == NULL) {
    log_error(EINVAL, "mirt_stats_tag", "tag %d, stats %p", tag, (void *)stats);
    return false;
  }
  fill_in(stats, &tags[tag].holding);
  const size_t sealed = atomic_load_relaxed(&tags[tag].sealed_slices) << SLICE_SHIFT;
  if (sealed > stats->address_space) stats->address_space = sealed;
  const struct visit visit = {false, add_live, stats};
  return tag_visit(tag, &visit);
}
