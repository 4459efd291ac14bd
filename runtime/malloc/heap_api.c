/* heap_api.c - heaps as the program sees them: make, delete, destroy, ask, visit. */
#include <errno.h>

#include "arena/page_map.h"
#include "base/log.h"
#include "base/option.h"
#include "heap/alloc.h"
#include "heap/collect.h"
#include "heap/page.h"
#include "heap/visit.h"

/* ---- making and ending ---- */

mi_heap_t *mi_heap_new_ex(int heap_tag, bool allow_destroy, mi_arena_id_t arena_id) {
  if (heap_tag < 0 || heap_tag > HEAP_TAG_MAX) {
    log_error(EINVAL, "mi_heap_new_ex", "tag %d is not in 0 to %d", heap_tag,
              HEAP_TAG_MAX);
    return NULL;
  }
  struct arena *arena = arena_pin(arena_id);
  if (arena_id != 0 && arena == NULL) {
    log_error(EINVAL, "mi_heap_new_ex", "there is no arena %d", arena_id);
    return NULL;
  }
  mi_heap_t *heap = NULL;
  if (owner_begin()) {
    heap = heap_create(current.owner, (unsigned)heap_tag, allow_destroy, arena);
  }
  if (heap == NULL) {
    if (arena != NULL) arena_unpin(arena);
    log_error(ENOMEM, "mi_heap_new_ex", "no memory for the heap's record");
  }
  return heap;
}

mi_heap_t *mi_heap_new(void) { return mi_heap_new_ex(0, true, 0); }

mi_heap_t *mi_heap_new_in_arena(mi_arena_id_t arena_id) {
  return mi_heap_new_ex(0, false, arena_id);
}

/* May the calling thread end this heap? */
static bool heap_may_end(const char *function, const mi_heap_t *heap) {
  if (heap == NULL) return false;
  if (heap->owner != current.owner || heap->owner == NULL) {
    log_error(EPERM, function, "heap %p belongs to another thread", (const void *)heap);
    return false;
  }
  if (heap == heap->owner->backing) {
    log_error(EINVAL, function, "heap %p is its thread's backing heap",
              (const void *)heap);
    return false;
  }
  return true;
}

static void leave_default(const mi_heap_t *heap) {
  if (current.heap != heap) return;
  mi_heap_t *backing = current.owner->backing;
  current.heap = backing != NULL ? backing : &heap_empty;
}

void mi_heap_delete(mi_heap_t *heap) {
  if (!heap_may_end("mi_heap_delete", heap)) return;
  leave_default(heap);
  heap_abandon(heap);
}

void mi_heap_destroy(mi_heap_t *heap) {
  if (!heap_may_end("mi_heap_destroy", heap)) return;
  leave_default(heap);
  if (heap->allow_destroy) {
    heap_free_all(heap);
  } else {
    heap_abandon(heap);
  }
}

mi_heap_t *mi_heap_set_default(mi_heap_t *heap) {
  mi_heap_t *before = mi_heap_get_default();
  if (before == NULL) return NULL;
  if (heap == NULL || heap->owner != current.owner) {
    log_error(EINVAL, "mi_heap_set_default", "%p is no heap of this thread",
              (void *)heap);
    return NULL;
  }
  current.heap = heap;
  return before;
}

mi_heap_t *mi_heap_get_default(void) { return heap_ready(current.heap); }

mi_heap_t *mi_heap_get_backing(void) { return heap_backing(); }

/* ---- collecting ---- */

void mi_heap_collect(mi_heap_t *heap, bool force) {
  if (heap == NULL || heap == &heap_empty) return;
  owner_call_deferred_free(force);
  heap_collect(heap, force);
  if (force) arenas_purge(true, SIZE_MAX);
}

void mi_collect(bool force) {
  if (current.owner != NULL) {
    owner_call_deferred_free(force);
    owner_collect(current.owner, force);
  } else if (force) {
    arenas_purge(true, SIZE_MAX);
  }
}

void mi_collect_reduce(size_t target_thread_owned) {
  if (current.owner == NULL) return;
  size_t held = 0;
  for (const mi_heap_t *heap = current.owner->heaps; heap != NULL; heap = heap->next) {
    held += holding_slices(&heap->holding) << SLICE_SHIFT;
  }
  if (held > target_thread_owned) mi_collect(true);
}

/* ---- questions ---- */

/* The page may go, and its heap too, while we look: then look again. */
reads_what_may_change mi_heap_t *mi_heap_of(const void *p) {
  struct reader *section = read_begin();
  mi_heap_t *heap;
  const struct page *page;
  uintptr_t state;
  do {
    heap = NULL;
    page = block_page(p);
    if (page == NULL) break;
    state = atomic_load_acquire(&page->state);
    if (page_state_owner(state) < PAGE_FIRST_OWNER) break;
    heap = page_cell(page)->heap;
    atomic_barrier_loads();
  } while (atomic_load_acquire(&page->state) != state);
  read_end(section);
  return heap;
}

bool mi_heap_contains_block(mi_heap_t *heap, const void *p) {
  if (heap == NULL || heap == &heap_empty || mi_heap_of(p) != heap) return false;
  struct reader *section = read_begin();
  const bool contains = block_start(p) != NULL;
  read_end(section);
  return contains;
}

bool mi_heap_check_owned(mi_heap_t *heap, const void *p) {
  return mi_heap_contains_block(heap, p);
}

bool mi_check_owned(const void *p) { return mi_heap_check_owned(current.heap, p); }

bool mi_is_in_heap_region(const void *p) {
  return page_map_find(p) != NULL || arenas_contain(p);
}

bool mi_unsafe_heap_page_is_under_utilized(mi_heap_t *heap, void *p, size_t percent) {
  const struct page *page = block_page(p);
  if (page == NULL || mi_heap_of(p) != heap || atomic_flag_get(&page->is_large))
    return false;
  if (page == page_cell(page)->page) return false; /* it will fill */
  size_t live = page->block_count;
  for (size_t i = 0; i < atomic_load_relaxed(&page->group_count); i++) {
    const uint64_t free = atomic_load_relaxed(&page->free[i]) & page_group_mask(page, i);
    live -= bits_count(free);
  }
  return live * 100 < percent * page->block_count;
}

/* ---- visiting ---- */

bool mi_heap_visit_blocks(const mi_heap_t *heap, bool visit_all_blocks,
                          mi_block_visit_fun *visitor, void *arg) {
  if (heap == NULL || heap == &heap_empty || visitor == NULL) return false;
  const struct visit visit = {visit_all_blocks, visitor, arg};
  return heap_visit(heap, &visit);
}

bool mi_abandoned_visit_blocks(mi_subproc_id_t subproc_id, int heap_tag,
                               bool visit_blocks, mi_block_visit_fun *visitor,
                               void *arg) {
  if (option_get(mi_option_visit_abandoned) == 0) {
    log_error(EPERM, "mi_abandoned_visit_blocks", "option visit_abandoned is off");
    return false;
  }
  if (visitor == NULL) return false;
  const struct visit visit = {visit_blocks, visitor, arg};
  return abandoned_visit(subproc_id, heap_tag, &visit);
}

/* ---- guarded blocks ---- */

/* With sampling on, every allocation must take the slow path. */
static void heap_close_fast_paths(mi_heap_t *heap) {
  for (size_t i = 0; i < FAST_COUNT; i++) heap->fast[i] = &cell_empty;
}

void mi_heap_guarded_set_sample_rate(mi_heap_t *heap, size_t rate, size_t seed) {
  heap = heap == NULL ? NULL : heap_ready(heap);
  if (heap == NULL) return;
  heap->guarded.rate = rate;
  heap->guarded.count = rate == 0 ? 0 : seed % rate;
  if (rate != 0) {
    heap_close_fast_paths(heap);
  } else {
    heap_open_fast_paths(heap);
  }
}

void mi_heap_guarded_set_size_bound(mi_heap_t *heap, size_t min, size_t max) {
  heap = heap == NULL ? NULL : heap_ready(heap);
  if (heap == NULL) return;
  heap->guarded.least = min;
  heap->guarded.most = max;
}

/* ---- sub-processes ---- */

struct subprocess {
  struct free_record link;
};

mi_subproc_id_t mi_subproc_main(void) { return NULL; }

mi_subproc_id_t mi_subproc_new(void) {
  void *id = zone_take(&process_zone, RECORD_SUBPROCESS, sizeof(struct subprocess));
  if (id == NULL) log_error(ENOMEM, "mi_subproc_new", "no memory for the record");
  return id;
}

/* The record is kept: abandoned pages may still name it. */
void mi_subproc_delete(mi_subproc_id_t subproc_id) { (void)subproc_id; }

void mi_subproc_add_current_thread(mi_subproc_id_t subproc_id) {
  if (owner_begin()) current.owner->subprocess = subproc_id;
}
