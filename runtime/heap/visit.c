#include "heap/visit.h"

#include "base/bitmap.h"
#include "heap/page.h"

struct visit {
  mi_heap_t *heap;
  bool blocks;
  mi_block_visit_fun *visitor;
  void *argument;
};

static bool visit_area(const struct visit *visit, mi_heap_area_t *area,
                       const uint64_t *live, size_t group_count) {
  if (!visit->visitor(visit->heap, area, NULL, area->block_size, visit->argument)) {
    return false;
  }
  if (!visit->blocks) return true;
  for (size_t i = 0; i < group_count; i++) {
    char *group = (char *)area->blocks + i * WORD_BITS * area->block_size;
    for (uint64_t left = live[i]; left != 0; left &= left - 1) {
      void *block = group + bits_lowest(left) * area->block_size;
      if (!visit->visitor(visit->heap, area, block, area->block_size, visit->argument)) {
        return false;
      }
    }
  }
  return true;
}

/* Visit a page whose planes nobody else changes now. The caller's read section is closed
 * while the visitor runs: what it is told of the page has been read before. */
static bool visit_page(const struct visit *visit, const struct page *page) {
  uint64_t live[PLANE_SLICE_WORDS];
  const size_t group_count = atomic_load_relaxed(&page->group_count);
  mi_heap_area_t area = {
      .blocks = (void *)page->start,
      .reserved = (size_t)page->slice_count << SLICE_SHIFT,
      .committed = page->block_count * page->block_size,
      .block_size = page->block_size,
      .full_block_size = page->block_size,
      .heap_tag = (int)page_kind_tag(atomic_load_relaxed(&page->kind)),
  };
  for (size_t i = 0; i < group_count; i++) {
    live[i] = ~atomic_load_relaxed(&page->free[i]) & page_group_mask(page, i);
    area.used += (size_t)__builtin_popcountll(live[i]);
  }
  read_end(current_reader);
  const bool go_on = visit_area(visit, &area, live, group_count);
  read_begin();
  return go_on;
}

static bool visit_owned_page(struct cell *cell, struct page *page,
                             struct page_chunk *chunk, uint32_t slot, void *argument) {
  const struct visit *visit = argument;
  const uint32_t owner = cell->heap->owner->number;
  const uint32_t now = page_state_owner(atomic_load_acquire(&page->state));
  if ((now & ~PAGE_FULL) != owner) return true; /* another thread is taking it away */
  if (page->cell != cell) return true;          /* it has, and the page is used anew */
  if (atomic_flag_get(&page->is_large)) return visit_page(visit, page);
  /* Open it, so that nobody takes it away while we look. */
  const bool was_full = (now & PAGE_FULL) != 0;
  if (was_full && !cell_reopen_page(cell, page)) return true;
  page_collect(page);
  const bool go_on = visit_page(visit, page);
  if (was_full) cell_close_again(cell, page, chunk, slot);
  return go_on;
}

bool heap_visit(mi_heap_t *heap, bool blocks, mi_block_visit_fun *visitor,
                void *argument) {
  struct visit visit = {heap, blocks, visitor, argument};
  for (size_t i = 0; i < CELL_COUNT; i++) {
    struct cell *cell = heap->cells[i];
    if (cell == NULL) continue;
    cell_flush_stash(cell);
    cell_return_word(cell);
    if (!cell_for_each_page(cell, visit_owned_page, &visit)) return false;
  }
  return true;
}

/* Visit a page if nobody owns it. A page of several blocks is set aside meanwhile, so that
 * nobody takes it away, and all frees go to its xfree plane; the page of a large block cannot be, since to free the block is to
 * take the page. */
static bool visit_abandoned_page(const struct visit *visit, struct page *page,
                                 void *subprocess, int tag) {
  const uintptr_t state = atomic_load_acquire(&page->state);
  const uintptr_t kind = atomic_load_relaxed(&page->kind);
  if (page_state_owner(state) != PAGE_ABANDONED ||
      atomic_load_relaxed(&page->subprocess) != (uintptr_t)subprocess ||
      (tag >= 0 && page_kind_tag(kind) != (unsigned)tag)) {
    return true;
  }
  if (atomic_flag_get(&page->is_large)) return visit_page(visit, page);
  if (!page_turn_over(page, state, PAGE_VISITED)) return true;
  page_collect(page);
  const bool go_on = visit_page(visit, page);
  page_abandon(page, PAGE_VISITED, NULL, 0);
  return go_on;
}

static bool visit_abandoned_in(const struct visit *visit, struct arena *arena,
                               void *subprocess, int tag) {
  const size_t limit = arena->slice_count;
  bool go_on = true;
  for (size_t i = bitmap_find(arena->abandoned, 0, limit, true); go_on && i < limit;
       i = bitmap_find(arena->abandoned, i + 1, limit, true)) {
    struct reader *section = read_begin();
    go_on = visit_abandoned_page(visit, &arena->pages[i], subprocess, tag);
    read_end(section);
  }
  return go_on;
}

bool abandoned_visit(void *subprocess, int tag, bool blocks, mi_block_visit_fun *visitor,
                     void *argument) {
  if (!owner_begin()) return false;
  const struct visit visit = {NULL, blocks, visitor, argument};
  /* By id, not by a walk: the visitor may call anything. */
  bool go_on = true;
  for (mi_arena_id_t id = 1; go_on && id <= ARENAS_MAX; id++) {
    struct arena *arena = arena_view_begin(id);
    if (arena == NULL) continue;
    go_on = visit_abandoned_in(&visit, arena, subprocess, tag);
    arena_view_end(arena);
  }
  return go_on;
}
