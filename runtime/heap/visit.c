#include "heap/visit.h"

#include "heap/page.h"
#include "os/os.h"

/* What is known of an area before the visitor is called. */
struct snapshot {
  mi_heap_area_t area;
  uint64_t live[PLANE_SLICE_WORDS];
};

reads_what_may_change static size_t take_snapshot(struct snapshot *snapshot,
                                                  const struct page *page) {
  const size_t used = page_live_blocks(page, snapshot->live);
  snapshot->area = (mi_heap_area_t){
      .blocks = (void *)page->start,
      .reserved = (size_t)page->slice_count << SLICE_SHIFT,
      .committed = page->block_count * page->block_size,
      .used = used,
      .block_size = page->block_size - (page->is_guarded ? os_page_size() : 0),
      .full_block_size = page->block_size,
      .heap_tag = (int)page_kind_tag(atomic_load_relaxed(&page->kind)),
      .reserved1 = snapshot->live,
  };
  return atomic_load_relaxed(&page->group_count);
}

static bool show(const struct visit *visit, const mi_heap_t *heap,
                 struct snapshot *snapshot, size_t group_count) {
  const mi_heap_area_t *area = &snapshot->area;
  const size_t size = area->block_size, step = area->full_block_size;
  if (!visit->visitor(heap, area, NULL, size, visit->argument)) return false;
  if (!visit->blocks) return true;
  for (size_t i = 0; i < group_count; i++) {
    char *group = (char *)area->blocks + i * WORD_BITS * step;
    for (uint64_t left = snapshot->live[i]; left != 0; left &= left - 1) {
      void *block = group + bits_lowest(left) * step;
      if (!visit->visitor(heap, area, block, size, visit->argument)) return false;
    }
  }
  return true;
}

/* Look at a page that others may take away, if it is in this state. Returns whether it still
 * was when all about it was known. */
reads_what_may_change static bool look(const struct page *page, uintptr_t state,
                                       struct snapshot *snapshot, size_t *group_count) {
  *group_count = take_snapshot(snapshot, page);
  atomic_barrier_loads();
  return atomic_load_acquire(&page->state) == state;
}

/* ---- a heap ---- */

static bool visit_slot(const struct visit *visit, const struct cell *cell,
                       const struct page_chunk *chunk, unsigned slot) {
  const uint32_t owner = cell->heap->owner->number;
  struct snapshot snapshot;
  size_t group_count;
  struct reader *section = read_begin();
  bool is_there = chunk_has_slot(chunk, slot);
  if (is_there) {
    const struct page *page = chunk->pages[slot];
    const uintptr_t state = atomic_load_acquire(&page->state);
    is_there = page_state_owner(state) == owner && page_cell(page) == cell &&
               look(page, state, &snapshot, &group_count);
  }
  read_end(section);
  return !is_there || show(visit, cell->heap, &snapshot, group_count);
}

static bool visit_cell(const struct visit *visit, const struct cell *cell) {
  for (struct page_chunk *chunk = cell->chunks; chunk != NULL; chunk = chunk->next) {
    uint64_t used = atomic_load_acquire(&chunk->used) & bits_below(CHUNK_PAGES);
    for (; used != 0; used &= used - 1) {
      if (!visit_slot(visit, cell, chunk, bits_lowest(used))) return false;
    }
  }
  return true;
}

bool heap_visit(const mi_heap_t *heap, const struct visit *visit) {
  for (size_t i = 0; i < CELL_COUNT; i++) {
    const struct cell *cell = heap->cells[i];
    if (cell != NULL && !visit_cell(visit, cell)) return false;
  }
  return true;
}

/* ---- pages wherever they are ---- */

struct search {
  const struct visit *visit;
  int tag; /* -1: any */
  void *subprocess;
};

static bool has_tag(const struct page *page, int tag) {
  return tag < 0 || page_kind_tag(atomic_load_relaxed(&page->kind)) == (unsigned)tag;
}

/* A page of several blocks is set aside meanwhile, so that nobody takes it away, and all
 * frees go to its xfree plane; the page of a large block cannot be, since to free the block
 * is to take the page. */
static bool visit_abandoned(struct page *page, void *argument) {
  const struct search *search = argument;
  struct snapshot snapshot;
  size_t group_count;
  struct reader *section = read_begin();
  const uintptr_t state = atomic_load_acquire(&page->state);
  const bool is_large = atomic_flag_get(&page->is_large);
  bool is_there = page_state_owner(state) == PAGE_ABANDONED &&
                  has_tag(page, search->tag) &&
                  atomic_load_relaxed(&page->subprocess) == (uintptr_t)search->subprocess;
  if (is_there) {
    is_there = is_large ? look(page, state, &snapshot, &group_count)
                        : page_turn_over(page, state, PAGE_VISITED);
  }
  read_end(section);
  if (!is_there) return true;
  if (!is_large) group_count = take_snapshot(&snapshot, page);
  const bool go_on = show(search->visit, NULL, &snapshot, group_count);
  if (!is_large) page_abandon(page, PAGE_VISITED, NULL, 0);
  return go_on;
}

bool abandoned_visit(void *subprocess, int tag, const struct visit *visit) {
  struct search search = {visit, tag, subprocess};
  return pages_for_each(visit_abandoned, &search);
}

reads_what_may_change static bool visit_with_tag(struct page *page, void *argument) {
  const struct search *search = argument;
  const uintptr_t state = atomic_load_acquire(&page->state);
  if (page_state_owner(state) == PAGE_CLAIMED || !has_tag(page, search->tag)) return true;
  struct snapshot snapshot;
  size_t group_count;
  if (!look(page, state, &snapshot, &group_count)) return true;
  const bool has_owner = page_state_owner(state) >= PAGE_FIRST_OWNER;
  const mi_heap_t *heap = has_owner ? page_cell(page)->heap : NULL;
  return show(search->visit, heap, &snapshot, group_count);
}

bool tag_visit(int tag, const struct visit *visit) {
  struct search search = {visit, tag, NULL};
  return pages_for_each(visit_with_tag, &search);
}
