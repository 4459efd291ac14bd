#include "heap/heap.h"

#include "arena/tag.h"
#include "base/bitmap.h"
#include "base/option.h"
#include "base/stats.h"
#include "heap/epoch.h"
#include "heap/page.h"

/* Abandoned pages that one search looks at before it gives up. */
#define ADOPT_LOOKS 64

#define EMPTY &cell_empty
#define EMPTY_8 EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY
#define EMPTY_64 EMPTY_8, EMPTY_8, EMPTY_8, EMPTY_8, EMPTY_8, EMPTY_8, EMPTY_8, EMPTY_8
_Static_assert(FAST_COUNT == 65, "the empty heap's table is written out below");

mi_heap_t heap_empty = {.fast = {EMPTY_64, EMPTY}};

mi_heap_t *heap_create(struct owner *owner, unsigned tag, bool allow_destroy,
                       struct arena *arena) {
  struct zone *zone = arena != NULL ? &arena->zone : &process_zone;
  mi_heap_t *heap = zone_take(zone, RECORD_HEAP, sizeof(mi_heap_t));
  if (heap == NULL) return NULL;
  for (size_t i = 0; i < FAST_COUNT; i++) heap->fast[i] = &cell_empty;
  heap->owner = owner;
  heap->tag = (uint16_t)tag;
  heap->block_offset = tag_block_offset(tag);
  heap->allow_destroy = allow_destroy;
  heap->arena = arena;
  atomic_store_relaxed(&heap->references, 1);
  heap->guarded.rate = mi_option_get_size(mi_option_guarded_sample_rate);
  const size_t seed = mi_option_get_size(mi_option_guarded_sample_seed);
  if (heap->guarded.rate != 0) heap->guarded.count = seed % heap->guarded.rate;
  heap->guarded.least = mi_option_get_size(mi_option_guarded_min);
  heap->guarded.most = mi_option_get_size(mi_option_guarded_max);
  owner_add_heap(owner, heap);
  stats_add(&stats.heaps, 1);
  return heap;
}

void heap_keep(mi_heap_t *heap) { atomic_fetch_add_full(&heap->references, 1); }

void heap_let_go(mi_heap_t *heap) {
  if (atomic_fetch_sub_full(&heap->references, 1) != 1) return;
  zone_give(heap_zone(heap), RECORD_HEAP, heap);
}

/* Take the heap out of its owner's list and let its record go. */
static void heap_delete_record(mi_heap_t *heap) {
  struct arena *arena = heap->arena;
  if (heap->previous != NULL) {
    heap->previous->next = heap->next;
  } else {
    heap->owner->heaps = heap->next;
  }
  if (heap->next != NULL) heap->next->previous = heap->previous;
  stats_subtract(&stats.heaps, 1);
  heap_let_go(heap);
  if (arena != NULL) arena_unpin(arena);
}

mi_heap_t *heap_backing(void) {
  if (!owner_begin()) return NULL;
  struct owner *owner = current.owner;
  if (owner->backing == NULL) owner->backing = heap_create(owner, 0, false, NULL);
  return owner->backing;
}

mi_heap_t *heap_ready(mi_heap_t *heap) {
  if (likely(heap != &heap_empty)) return heap;
  if (!owner_begin()) return NULL;
  if (current.heap == &heap_empty) {
    heap = heap_backing();
    if (heap == NULL) return NULL;
    current.heap = heap;
  }
  return current.heap;
}

/* The fast table's entries for the sizes that a class serves. */
static void heap_set_fast(mi_heap_t *heap, size_t class_index, struct cell *cell) {
  if (heap->guarded.rate != 0) return; /* every allocation takes the slow path */
  const size_t last = class_block_size(class_index) / BLOCK_MIN;
  const size_t first =
      class_index == 0 ? 0 : class_block_size(class_index - 1) / BLOCK_MIN + 1;
  for (size_t i = first; i <= last && i < FAST_COUNT; i++) heap->fast[i] = cell;
}

void heap_open_fast_paths(mi_heap_t *heap) {
  for (size_t i = 0; i < CLASS_COUNT; i++) {
    if (heap->cells[i] != NULL) heap_set_fast(heap, i, heap->cells[i]);
  }
}

struct cell *heap_cell(mi_heap_t *heap, size_t class_index) {
  struct cell *cell = heap->cells[class_index];
  if (likely(cell != NULL)) return cell;
  const bool is_large = class_index == CLASS_LARGE;
  const size_t block_size = is_large ? 0 : class_block_size(class_index);
  const bool is_shifted =
      block_size >= BLOCK_SHIFTED_MIN && block_size <= BLOCK_SHIFTED_MAX;
  cell = cell_create(heap, block_size, is_shifted ? heap->block_offset : 0);
  if (cell == NULL) return NULL;
  heap->cells[class_index] = cell;
  if (!is_large) heap_set_fast(heap, class_index, cell);
  return cell;
}

/* ---- pages for cells ---- */

static struct page *claim_page(const struct cell *cell, bool *is_zero) {
  const mi_heap_t *heap = cell->heap;
  return heap->arena != NULL ? arena_claim_slices(heap->arena, cell->slice_count,
                                                  SLICE_SIZE, heap->tag, is_zero)
                             : arenas_claim_slices(cell->slice_count, SLICE_SIZE,
                                                   heap->tag, true, is_zero);
}

struct page *heap_fresh_page(struct cell *cell) {
  const mi_heap_t *heap = cell->heap;
  bool is_zero = false;
  struct page *page = claim_page(cell, &is_zero);
  if (page == NULL && limbo_collect()) page = claim_page(cell, &is_zero);
  if (page == NULL) return NULL;
  page_initialize(page, cell, cell->block_size, cell->block_count, cell->slice_count,
                  is_zero);
  if (!cell_add_page(cell, page)) {
    arena_release_slices(page, cell->slice_count);
    return NULL;
  }
  page_publish(page, heap->owner->number, 0);
  return page;
}

/* Are so many of its blocks free that the cell should have it? Nobody allocates from an
 * abandoned page, so there are never fewer later. */
static bool is_worth_adopting(const struct cell *cell, const struct page *page) {
  uint64_t live[PLANE_SLICE_WORDS];
  const size_t free = cell->block_count - page_live_blocks(page, live);
  return free >= (cell->is_short ? 1 : cell->worth);
}

/* Set an abandoned page aside for the cell if it fits. What is read of it under a state is
 * true if the state is still there when we swap it. */
static bool set_aside(const struct cell *cell, struct page *page) {
  const struct owner *owner = cell->heap->owner;
  const uintptr_t state = atomic_load_acquire(&page->state);
  return page_state_owner(state) == PAGE_ABANDONED && !atomic_flag_get(&page->is_large) &&
         atomic_load_relaxed(&page->kind) ==
             page_kind(cell->heap->tag, cell->block_size, cell->block_offset) &&
         atomic_load_relaxed(&page->subprocess) == (uintptr_t)owner->subprocess &&
         is_worth_adopting(cell, page) && page_turn_over(page, state, PAGE_VISITED);
}

static bool is_abandoned(const struct page *page) {
  return page_state_owner(atomic_load_after_full(&page->state)) == PAGE_ABANDONED;
}

static struct page *set_aside_in(struct cell *cell, struct arena *arena,
                                 size_t *looks) {
  if (atomic_load_relaxed(&arena->abandoned_count) == 0) return NULL;
  const size_t limit = arena->slice_count;
  size_t i = atomic_load_relaxed(&arena->adopt_hand);
  bool wrapped = false;
  while (*looks > 0) {
    i = bitmap_find(arena->abandoned, i, limit, true);
    if (i == limit) {
      if (wrapped) break;
      wrapped = true;
      i = 0;
      continue;
    }
    (*looks)--;
    /* The next search goes on behind this page, so that pages which fit nobody are not in
     * the way of others. */
    const size_t slice = i++;
    struct page *page = &arena->pages[slice];
    atomic_store_relaxed(&arena->adopt_hand, i);
    if (set_aside(cell, page)) return page;
    if (is_abandoned(page)) continue;
    page_withdraw(arena, slice);
    if (is_abandoned(page)) page_offer(page);
  }
  return NULL;
}

/* Find an abandoned page for the cell and set it aside, or return NULL. */
static struct page *find_abandoned(struct cell *cell, size_t *looks) {
  struct page *page = NULL;
  if (cell->heap->arena != NULL) {
    struct reader *section = read_begin();
    page = set_aside_in(cell, cell->heap->arena, looks);
    read_end(section);
    return page;
  }
  struct arena_walk walk = arena_walk_begin(ARENAS_WITH_ABANDONED);
  for (struct arena *arena; page == NULL && (arena = arena_walk_next(&walk)) != NULL;) {
    if (arena_serves_unbound(arena)) page = set_aside_in(cell, arena, looks);
    if (atomic_load_relaxed(&arena->abandoned_count) != 0) continue;
    arena_set_remove(ARENAS_WITH_ABANDONED, arena);
    if (atomic_load_acquire(&arena->abandoned_count) != 0) {
      arena_set_add(ARENAS_WITH_ABANDONED, arena);
    }
  }
  arena_walk_end(&walk);
  return page;
}

struct page *heap_adopt_page(struct cell *cell) {
  mi_heap_t *heap = cell->heap;
  if (heap->allow_destroy || thread_is_in_pool) return NULL;
  if (atomic_load_relaxed(&tags[heap->tag].holding.abandoned) == 0) return NULL;
  size_t looks = cell->is_short ? SIZE_MAX : ADOPT_LOOKS;
  struct page *page = find_abandoned(cell, &looks);
  if (page == NULL) return NULL;
  page_collect(page);
  if (!cell_add_page(cell, page)) {
    page_abandon(page, PAGE_VISITED, NULL, 0);
    return NULL;
  }
  page->until = cell->block_count - page_free_count(page);
  page_adopt(page, heap->owner->number);
  atomic_fetch_add_full(&heap->holding.adopted, 1);
  return page;
}

/* ---- the end of a heap ---- */

static void abandon_page(struct cell *cell, struct page *page, struct page_chunk *chunk,
                         uint32_t slot, bool is_open) {
  if (is_open) {
    page_collect(page);
    if (page_is_free(page)) {
      cell_remove_page(cell, page);
      page_release(page);
      return;
    }
  }
  page_abandon(page, cell->heap->owner->number, chunk, slot);
}

static void free_page(struct cell *cell, struct page *page, struct page_chunk *chunk,
                      uint32_t slot, bool is_open) {
  (void)is_open;
  struct reader *section = read_begin();
  bool is_claimed = false;
  if (chunk_has_slot(chunk, slot)) {
    const uintptr_t state = atomic_load_acquire(&page->state);
    is_claimed = page_state_owner(state) == cell->heap->owner->number &&
                 page_turn_over(page, state, PAGE_CLAIMED);
  }
  read_end(section);
  if (is_claimed) page_give_back(page);
}

static void heap_end(mi_heap_t *heap, cell_page_function *end_page) {
  for (size_t i = 0; i < CELL_COUNT; i++) {
    struct cell *cell = heap->cells[i];
    if (cell == NULL) continue;
    cell_for_each_page(cell, end_page);
    cell_delete(cell);
  }
  heap_delete_record(heap);
}

void heap_abandon(mi_heap_t *heap) {
  for (size_t i = 0; i < CELL_COUNT; i++) {
    struct cell *cell = heap->cells[i];
    if (cell == NULL) continue;
    cell_return_word(cell);
    cell->page = NULL;
  }
  heap_end(heap, abandon_page);
}

void heap_free_all(mi_heap_t *heap) {
  heap_end(heap, free_page);
  arenas_purge(false, SIZE_MAX);
}
