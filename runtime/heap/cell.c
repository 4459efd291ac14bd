#include "heap/cell.h"

#include <errno.h>

#include "arena/page_map.h"
#include "base/log.h"
#include "base/stats.h"
#include "heap/page.h"

/* How many FULL pages a cell looks at, when it has no free block, before it takes a new
 * page: enough that pages freed into by other threads are found, few enough that the
 * cost stays small beside that of a new page. */
#define FULL_PAGES_PER_LOOK 32

/* Fresh memory is taken up in pieces of this size. */
#define FRESH_BYTES (4 * KiB)

struct cell cell_empty;

struct cell *cell_create(mi_heap_t *heap, size_t block_size) {
  struct cell *cell = zone_take(heap_zone(heap), RECORD_CELL, sizeof(struct cell));
  if (cell == NULL) return NULL;
  cell_initialize(cell, heap, block_size);
  cell->is_in_place = false;
  return cell;
}

void cell_initialize(struct cell *cell, mi_heap_t *heap, size_t block_size) {
  cell->is_in_place = true;
  cell->heap = heap;
  cell->block_size = block_size;
  if (block_size != 0) { /* the cell of large blocks has no size of its own */
    cell->slice_count = (uint32_t)page_slices_for(block_size);
    cell->block_count =
        (uint32_t)(((size_t)cell->slice_count << SLICE_SHIFT) / block_size);
    cell->fresh_batch = (uint8_t)clamp(FRESH_BYTES / block_size, 1, WORD_BITS);
    cell->stash_limit = (uint8_t)clamp(STASH_BYTES / block_size, 1, STASH_MAX);
    cell->resting_limit =
        (uint8_t)clamp(RESTING_SLICES / cell->slice_count, 1, RESTING_MAX);
  }
}

/* ---- slots ---- */

static struct page_chunk *chunk_create(struct cell *cell) {
  struct zone *zone = heap_zone(cell->heap);
  struct page_chunk *chunk = zone_take(zone, RECORD_CHUNK, sizeof(struct page_chunk));
  if (chunk == NULL) return NULL;
  chunk->heap = cell->heap;
  heap_keep(cell->heap);
  atomic_store_relaxed(&chunk->used, CHUNK_IN_USE);
  if (cell->last == NULL) {
    cell->chunks = cell->available = chunk;
  } else {
    chunk->number = cell->last->number + 1;
    cell->last->next = chunk;
  }
  cell->last = chunk;
  return chunk;
}

static uint64_t chunk_vacancies(const struct page_chunk *chunk) {
  return ~atomic_load_acquire(&chunk->used) & bits_below(CHUNK_PAGES);
}

static struct page_chunk *find_vacancy(struct page_chunk *chunk) {
  while (chunk != NULL && chunk_vacancies(chunk) == 0) chunk = chunk->next;
  return chunk;
}

bool cell_add_page(struct cell *cell, struct page *page) {
  struct page_chunk *chunk = find_vacancy(cell->vacant);
  /* Other threads clear slots without moving the hint: look at all before adding one. */
  if (chunk == NULL) chunk = find_vacancy(cell->chunks);
  if (chunk == NULL) chunk = chunk_create(cell);
  if (chunk == NULL) return false;
  cell->vacant = chunk;
  const unsigned slot = bits_lowest(chunk_vacancies(chunk));
  chunk->pages[slot] = page;
  page->chunk = chunk;
  page->slot = slot;
  atomic_store_relaxed(&page->cell, (uintptr_t)cell);
  holding_add(&cell->heap->holding, page->slice_count);
  atomic_fetch_or_full(&chunk->used, (uintptr_t)1 << slot);
  return true;
}

/* Nobody needs the chunk any more when its last bit goes. */
static void chunk_clear_bit(struct page_chunk *chunk, uintptr_t bit) {
  if (atomic_fetch_and_full(&chunk->used, ~bit) != bit) return;
  mi_heap_t *heap = chunk->heap;
  zone_give(heap_zone(heap), RECORD_CHUNK, chunk);
  heap_let_go(heap);
}

void chunk_clear_slot(struct page_chunk *chunk, uint32_t slot, size_t slices) {
  holding_subtract(&chunk->heap->holding, slices);
  chunk_clear_bit(chunk, (uintptr_t)1 << slot);
}

void cell_remove_page(struct cell *cell, struct page *page) {
  struct page_chunk *chunk = page->chunk;
  chunk->available &= ~((uint64_t)1 << page->slot);
  if (cell->vacant == NULL || chunk->number < cell->vacant->number) cell->vacant = chunk;
  chunk_clear_slot(chunk, page->slot, page->slice_count);
}

/* Is the page in this slot open? */
static bool slot_is_open(const struct cell *cell, const struct page_chunk *chunk,
                         uint32_t slot) {
  struct reader *section = read_begin();
  bool is_open = chunk_has_slot(chunk, slot);
  if (is_open) {
    const uintptr_t state = atomic_load_acquire(&chunk->pages[slot]->state);
    is_open = page_state_owner(state) == cell->heap->owner->number &&
              (state & PAGE_RESTING) == 0;
  }
  read_end(section);
  return is_open;
}

void cell_for_each_page(struct cell *cell, cell_page_function *f) {
  for (struct page_chunk *chunk = cell->chunks; chunk != NULL; chunk = chunk->next) {
    uint64_t used = atomic_load_acquire(&chunk->used) & bits_below(CHUNK_PAGES);
    for (; used != 0; used &= used - 1) {
      const uint32_t slot = bits_lowest(used);
      f(cell, chunk->pages[slot], chunk, slot, slot_is_open(cell, chunk, slot));
    }
  }
}

void cell_delete(struct cell *cell) {
  for (struct page_chunk *chunk = cell->chunks; chunk != NULL;) {
    struct page_chunk *next = chunk->next;
    chunk_clear_bit(chunk, CHUNK_IN_USE);
    chunk = next;
  }
  if (!cell->is_in_place) zone_give(heap_zone(cell->heap), RECORD_CELL, cell);
}

/* ---- available pages ---- */

void cell_set_available(struct cell *cell, struct page *page) {
  struct page_chunk *chunk = page->chunk;
  chunk->available |= (uint64_t)1 << page->slot;
  if (cell->available == NULL || chunk->number < cell->available->number) {
    cell->available = chunk;
  }
}

/* First fit: the available page in the lowest slot. Old pages fill, young ones drain. */
static struct page *cell_next_available(struct cell *cell) {
  struct page_chunk *chunk = cell->available;
  while (chunk != NULL && chunk->available == 0) chunk = chunk->next;
  cell->available = chunk;
  if (chunk == NULL) return NULL;
  const unsigned slot = bits_lowest(chunk->available);
  chunk->available &= chunk->available - 1;
  return chunk->pages[slot];
}

void cell_return_word(struct cell *cell) {
  struct page *page = cell->page;
  if (page == NULL || page->taken == NULL) return;
  atomic_store_relaxed(page->taken, atomic_load_relaxed(page->taken) | cell->word);
  cell->word = 0;
  atomic_barrier_compiler();
  page->taken = NULL;
}

/* ---- the stash ---- */

cold_function static void report_stashed_twice(const void *block) {
  log_corruption(EFAULT, "mi_free", "double free of %p", block);
}

/* Is the block on the stash free as it should be? If another thread has freed it too, forget
 * that; and if that made the page look empty, the page is gone, and the block with it. */
static bool stashed_block_is_valid(const struct cell *cell, const void *block) {
  const struct page *page = page_map_find(block);
  const uint32_t owner =
      page == NULL ? PAGE_NONE : page_state_owner(atomic_load_acquire(&page->state));
  if (unlikely(owner != (cell->heap->owner->number | PAGE_FULL) ||
               page_cell(page) != cell)) {
    report_stashed_twice(block);
    return false;
  }
  if (unlikely(atomic_load_relaxed(&page->has_xfree) != 0)) {
    const size_t index = page_block_index(page, block);
    const uintptr_t bit = (uintptr_t)1 << (index % WORD_BITS);
    atomic_word *word = &page_xfree(page)[index / WORD_BITS];
    if ((atomic_fetch_and_full(word, ~bit) & bit) != 0) report_stashed_twice(block);
  }
  return true;
}

void *cell_take_stashed(struct cell *cell) {
  while (cell->stash_count > 0) {
    void *block = cell->stash[--cell->stash_count];
    if (likely(stashed_block_is_valid(cell, block))) return block;
  }
  return NULL;
}

void cell_return_stashed(struct cell *cell, struct page *page) {
  unsigned kept = 0;
  for (unsigned i = 0; i < cell->stash_count; i++) {
    void *block = cell->stash[i];
    if (page_map_find(block) == page) {
      page_free_block(page, page_block_index(page, block));
    } else {
      cell->stash[kept++] = block;
    }
  }
  cell->stash_count = (uint8_t)kept;
}

bool cell_reopen_page(struct cell *cell, struct page *page) {
  const uint32_t owner = cell->heap->owner->number;
  const uintptr_t state = atomic_load_acquire(&page->state);
  if (page_state_owner(state) != (owner | PAGE_FULL)) return false;
  if (!atomic_compare_and_swap_full(&page->state, state, page_state_with(state, owner))) {
    return false;
  }
  cell_return_stashed(cell, page);
  cell_set_available(cell, page);
  return true;
}

void cell_flush_stash(struct cell *cell) {
  while (cell->stash_count > 0) {
    void *block = cell->stash[cell->stash_count - 1];
    struct page *page = page_map_find(block);
    if (page != NULL && cell_reopen_page(cell, page)) continue;
    /* A page with a stashed block does not look empty, but for a double free. */
    report_stashed_twice(block);
    cell->stash_count--;
  }
}

bool cell_stash_contains(const struct cell *cell, const void *block) {
  for (unsigned i = 0; i < cell->stash_count; i++) {
    if (cell->stash[i] == block) return true;
  }
  return false;
}

void cell_free_into_full(struct cell *cell, struct page *page, size_t index,
                         void *block) {
  if (cell_stash_contains(cell, block)) {
    log_corruption(EFAULT, "mi_free", "double free of %p", block);
    return;
  }
  if (cell->stash_count < cell->stash_limit) {
    cell->stash[cell->stash_count] = block;
    atomic_barrier_compiler(); /* the child of a fork may see it half done */
    cell->stash_count++;
    return;
  }
  if (!cell_reopen_page(cell, page)) return; /* only after a double free elsewhere */
  page_free_block(page, index);
  cell_retire_if_free(cell, page);
}

/* ---- refill ---- */

static void cell_forget_resting(struct cell *cell, unsigned position) {
  cell->resting_count--;
  for (unsigned i = position; i < cell->resting_count; i++) {
    cell->resting[i] = cell->resting[i + 1];
  }
}

/* Turn a resting page over: open to its owner alone, or FULL. Returns false when another
 * thread has taken it away. */
static bool page_stop_resting(const struct cell *cell, struct page *page, uint32_t flag) {
  const uintptr_t state = atomic_load_acquire(&page->state);
  const uint32_t owner = cell->heap->owner->number;
  if ((state & PAGE_RESTING) == 0 || page_state_owner(state) != owner) return false;
  return atomic_compare_and_swap_full(&page->state, state,
                                      page_state_with(state, owner | flag));
}

/* Wake the page at a position among the resting ones if it is still there, and, unless it
 * has to, if a block of it has been freed. Returns false when it goes on resting. */
static bool cell_wake(struct cell *cell, unsigned position, bool must) {
  const struct page_place place = cell->resting[position];
  struct reader *section = read_begin();
  bool is_there = chunk_has_slot(place.chunk, place.slot);
  struct page *page = place.chunk->pages[place.slot];
  if (is_there && !must && atomic_load_relaxed(&page->has_xfree) == 0 &&
      page_is_exhausted(page)) {
    read_end(section);
    return false;
  }
  is_there = is_there && page_stop_resting(cell, page, 0);
  read_end(section);
  cell_forget_resting(cell, position);
  if (is_there) cell_set_available(cell, page);
  return true;
}

bool cell_wake_pages(struct cell *cell, bool all) {
  bool any = false;
  for (unsigned i = 0; i < cell->resting_count;) {
    if (cell_wake(cell, i, all)) {
      any = true;
    } else {
      i++;
    }
  }
  return any;
}

/* Make room among the resting pages: the oldest is FULL from now on, unless blocks of it have
 * come back. */
static void cell_close_oldest(struct cell *cell) {
  if (cell_wake(cell, 0, false)) return;
  const struct page_place place = cell->resting[0];
  struct reader *section = read_begin();
  if (chunk_has_slot(place.chunk, place.slot)) {
    struct page *page = place.chunk->pages[place.slot];
    /* Who frees looks at the state after raising the flag. */
    if (page_stop_resting(cell, page, PAGE_FULL) &&
        atomic_load_after_full(&page->has_xfree) != 0) {
      cell_reopen_page(cell, page);
    }
  }
  read_end(section);
  cell_forget_resting(cell, 0);
}

/* The current page has no free block left: it rests, and if there are too many that do,
 * the one that has rested longest stops. */
static void cell_rest_page(struct cell *cell) {
  struct page *page = cell->page;
  cell->page = NULL;
  page->taken = NULL;
  if (cell->resting_count == cell->resting_limit) cell_close_oldest(cell);
  const unsigned position = cell->resting_count++;
  cell->resting[position] = (struct page_place){page->chunk, page->slot};
  const uintptr_t state = atomic_load_relaxed(&page->state);
  const uintptr_t resting = page_state_next(state, page_state_owner(state));
  struct reader *section = read_begin_at_next_full();
  atomic_compare_and_swap_full(&page->state, state, resting | PAGE_RESTING);
  /* A thread that frees sets its bit, raises the flag, then looks at the state; we set the
   * state, then look at the flag. One of us sees the other. */
  const bool has_xfree = atomic_load_after_full(&page->has_xfree) != 0;
  read_end(section);
  if (has_xfree) cell_wake(cell, position, true);
}

/* Take a group from the cell's page, or from other open pages of the cell. */
static bool cell_take_from_own(struct cell *cell) {
  for (;;) {
    if (cell->page == NULL) cell->page = cell_next_available(cell);
    if (cell->page == NULL) {
      if (!cell_wake_pages(cell, false)) return false;
      continue;
    }
    /* Before a group is taken: what is allocated from it has no mark. */
    if (unlikely(cell->page->needs_sweep)) page_sweep(cell->page);
    if (page_take_group(cell->page, cell)) return true;
    if (page_collect(cell->page) && page_take_group(cell->page, cell)) return true;
    cell_rest_page(cell);
  }
}

/* Open some of the FULL pages that other threads have freed into. A hand goes round the
 * cell's pages, a few at a time, so the cost of a look is bounded whatever the heap. */
static bool cell_open_freed(struct cell *cell, size_t most) {
  bool opened = false;
  size_t looked = 0;
  struct page_chunk *chunk = cell->hand != NULL ? cell->hand : cell->chunks;
  struct page_chunk *const first = chunk;
  struct reader *section = read_begin();
  while (chunk != NULL && looked < most) {
    uint64_t used = atomic_load_acquire(&chunk->used) & bits_below(CHUNK_PAGES);
    for (used &= ~chunk->available; used != 0; used &= used - 1, looked++) {
      struct page *page = chunk->pages[bits_lowest(used)];
      if (atomic_load_relaxed(&page->has_xfree) == 0) continue;
      if (cell_reopen_page(cell, page)) opened = true;
    }
    chunk = chunk->next != NULL ? chunk->next : cell->chunks;
    if (chunk == first || opened) break;
  }
  read_end(section);
  cell->hand = chunk;
  return opened;
}

void *cell_refill(struct cell *cell, bool *is_zero) {
  *is_zero = false;
  void *block = cell_take_stashed(cell);
  if (block != NULL) return block;
  owner_call_deferred_free(false);
  if (cell->word != 0) return cell_take(cell); /* the callback allocated */
  while (cell->word == 0 && !cell_take_from_own(cell)) {
    if (cell_open_freed(cell, FULL_PAGES_PER_LOOK)) continue;
    struct page *page = heap_adopt_page(cell);
    if (page == NULL) page = heap_fresh_page(cell);
    if (page == NULL) return NULL;
    cell_set_available(cell, page);
  }
  *is_zero = cell->word_is_zero;
  return cell_take(cell);
}

/* ---- retiring ---- */

void cell_retire_if_free(struct cell *cell, struct page *page) {
  if (page == cell->page || !page_is_free(page)) return;
  cell_remove_page(cell, page);
  page_release(page);
}

static void collect_page(struct cell *cell, struct page *page, struct page_chunk *chunk,
                         uint32_t slot, bool is_open) {
  (void)chunk, (void)slot;
  if (!is_open) return; /* nobody has freed into it */
  page_collect(page);
  cell_retire_if_free(cell, page);
}

/* The current page is one of the available ones from now on. */
static void cell_leave_page(struct cell *cell) {
  struct page *page = cell->page;
  if (page == NULL) return;
  cell_return_word(cell);
  cell->page = NULL;
  cell_set_available(cell, page);
}

static void settle_page(struct cell *cell, struct page *page, struct page_chunk *chunk,
                        uint32_t slot, bool is_open) {
  struct reader *section = read_begin();
  if (!is_open && chunk_has_slot(chunk, slot)) is_open = cell_reopen_page(cell, page);
  read_end(section);
  if (is_open) page_collect(page);
}

void cell_settle(struct cell *cell) {
  if (cell->block_size == 0) return;
  cell_flush_stash(cell);
  cell_wake_pages(cell, true);
  cell_leave_page(cell);
  cell_for_each_page(cell, settle_page);
}

void cell_collect(struct cell *cell, bool force) {
  if (cell->block_size == 0) return; /* large blocks leave nothing to collect */
  cell_flush_stash(cell);
  cell_wake_pages(cell, true);
  if (force) cell_leave_page(cell);
  while (cell_open_freed(cell, SIZE_MAX)) continue;
  cell_for_each_page(cell, collect_page);
}
