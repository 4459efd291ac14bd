#include "heap/cell.h"

#include <errno.h>

#include "arena/page_map.h"
#include "base/log.h"
#include "base/stats.h"
#include "heap/page.h"

/* How many resting pages a cell looks at, when it has no free block, before it takes a new
 * page: enough that pages freed into by other threads are found, few enough that the cost
 * stays small beside that of a new page. */
#define RESTING_PAGES_PER_LOOK 32

/* Fresh memory is taken up in pieces of this size. */
#define FRESH_BYTES (16 * KiB)

struct cell cell_empty;

struct cell *cell_create(mi_heap_t *heap, size_t block_size, size_t block_offset) {
  struct cell *cell = zone_take(heap_zone(heap), RECORD_CELL, sizeof(struct cell));
  if (cell == NULL) return NULL;
  cell_initialize(cell, heap, block_size, block_offset);
  cell->is_in_place = false;
  return cell;
}

void cell_initialize(struct cell *cell, mi_heap_t *heap, size_t block_size,
                     size_t block_offset) {
  cell->is_in_place = true;
  cell->heap = heap;
  cell->block_size = block_size;
  if (block_size != 0) { /* the cell of large blocks has no size of its own */
    cell->slice_count = (uint32_t)page_slices_for(block_size);
    const size_t bytes = ((size_t)cell->slice_count << SLICE_SHIFT) - block_offset;
    cell->block_offset = (uint8_t)block_offset;
    cell->block_count = (uint32_t)(bytes / block_size);
    const uint32_t share = block_size <= WORTH_SMALL ? WORTH_SHARE_SMALL : WORTH_SHARE;
    cell->fresh_batch = (uint8_t)clamp(FRESH_BYTES / block_size, 1, WORD_BITS);
    cell->worth = (uint32_t)clamp(cell->block_count / share, 1, cell->block_count);
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
  chunk->available &= ~((uint64_t)1 << slot); /* of one that others have taken away */
  page->chunk = chunk;
  page->slot = (uint8_t)slot;
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

static bool page_is_available(const struct page *page) {
  return ((page->chunk->available >> page->slot) & 1) != 0;
}

/* Open a resting page to its owner alone. Returns false when another thread has taken it
 * away. */
static bool page_wake(const struct cell *cell, struct page *page) {
  const uintptr_t state = atomic_load_acquire(&page->state);
  const uint32_t owner = cell->heap->owner->number;
  if (page_state_owner(state) != owner) return false;
  return (state & PAGE_RESTING) == 0 ||
         atomic_compare_and_swap_full(&page->state, state, page_state_with(state, owner));
}

/* The same, and count down to where it is empty. It is not available then, nor the cell's
 * page. Inside a read section. */
static bool cell_wake(const struct cell *cell, struct page_chunk *chunk, uint32_t slot) {
  if (!chunk_has_slot(chunk, slot)) return false;
  struct page *page = chunk->pages[slot];
  if (!page_wake(cell, page)) return false;
  chunk->available &= ~((uint64_t)1 << slot);
  page->until = cell->block_count - page_free_count(page);
  return true;
}

/* The same from outside of one. */
static bool cell_open_page(const struct cell *cell, struct page_chunk *chunk,
                           uint32_t slot) {
  struct reader *section = read_begin();
  const bool is_open = cell_wake(cell, chunk, slot);
  read_end(section);
  return is_open;
}

/* The same if other threads have freed into the page. */
static bool cell_open_shared_page(const struct cell *cell, struct page_chunk *chunk,
                                  uint32_t slot) {
  struct reader *section = read_begin();
  const bool is_open = chunk_has_slot(chunk, slot) &&
                       atomic_load_relaxed(&chunk->pages[slot]->has_xfree) != 0 &&
                       cell_wake(cell, chunk, slot);
  read_end(section);
  return is_open;
}

/* First fit: the available page in the lowest slot. Old pages fill, young ones drain. */
static struct page *cell_next_available(struct cell *cell) {
  struct page_chunk *chunk = cell->available;
  struct page *page = NULL;
  struct reader *section = read_begin();
  while (chunk != NULL && page == NULL) {
    if (chunk->available == 0) {
      chunk = chunk->next;
      continue;
    }
    const unsigned slot = bits_lowest(chunk->available);
    if (cell_wake(cell, chunk, slot)) {
      page = chunk->pages[slot];
    } else {
      chunk->available &= chunk->available - 1;
    }
  }
  read_end(section);
  cell->available = chunk;
  return page;
}

void cell_return_word(struct cell *cell) {
  struct page *page = cell->page;
  if (page == NULL || page->taken == NULL) return;
  atomic_store_relaxed(page->taken, atomic_load_relaxed(page->taken) | cell->word);
  page->until -= (uint32_t)bits_count(cell->word);
  cell->word = 0;
  atomic_barrier_compiler();
  page->taken = NULL;
}

/* ---- resting ---- */

/* The owner's frees in a page that rests with so many free blocks until it is worth allocating
 * from; until the next if the cell is short. */
static uint32_t frees_until_worth(const struct cell *cell, uint32_t free) {
  return cell->is_short || free >= cell->worth ? 1 : cell->worth - free;
}

/* Nobody allocates from the page for now: whoever finds it empty may take it away. */
static void rest_page(struct page *page, uint32_t until) {
  page->taken = NULL;
  page->until = until;
  const uintptr_t state = atomic_load_relaxed(&page->state);
  const uintptr_t resting = page_state_next(state, page_state_owner(state));
  struct reader *section = read_begin_at_next_full();
  atomic_compare_and_swap_full(&page->state, state, resting | PAGE_RESTING);
  /* A thread that frees sets its bit, raises the flag, then looks at the state; we set the
   * state, then look at the flag. One of us sees the other. */
  const bool is_claimed =
      atomic_load_after_full(&page->has_xfree) != 0 && page_claim_if_empty(page);
  read_end(section);
  if (is_claimed) page_release(page);
}

/* What becomes of an open page that is not the cell's: it goes back if it is empty. Returns
 * whether it is available. */
static bool cell_put_aside(struct cell *cell, struct page *page) {
  const uint32_t free = cell->block_count - page->until;
  if (page->until == 0) {
    cell_retire_if_free(cell, page);
  } else if (free < (cell->is_short ? 1 : cell->worth)) {
    rest_page(page, frees_until_worth(cell, free));
  } else {
    /* In this order: a page that rests may be gone. */
    cell_set_available(cell, page);
    rest_page(page, page->until);
    return true;
  }
  return false;
}

void cell_free_at_turn(struct cell *cell, struct page *page, size_t index) {
  if ((atomic_load_relaxed(&page->state) & PAGE_RESTING) == 0) {
    page_free_block(page, index);
    cell_retire_if_free(cell, page);
    return;
  }
  if (!page_is_available(page)) {
    /* Before the bit: with that the page may be gone. */
    cell_set_available(cell, page);
    page->until = cell->block_count - page_free_count(page) - 1;
  }
  page_free_block_resting(page, index);
}

/* ---- refill ---- */

/* Take a group from the cell's page, or from other pages worth it. */
static bool cell_take_from_own(struct cell *cell) {
  for (;;) {
    if (cell->page == NULL) cell->page = cell_next_available(cell);
    struct page *page = cell->page;
    if (page == NULL) return false;
    /* Before a group is taken: what is allocated from it has no mark. */
    if (unlikely(page->needs_sweep)) page_sweep(page);
    if (page_take_group(page, cell)) return true;
    if (page_collect(page) && page_take_group(page, cell)) return true;
    cell->page = NULL;
    rest_page(page, frees_until_worth(cell, cell->block_count - page->until));
  }
}

/* Collect what other threads have freed into some of the resting pages, so that those worth it
 * are available. A hand goes round the cell's pages, a few at a time, so the cost of a look
 * is bounded whatever the heap. */
static bool cell_open_freed(struct cell *cell, size_t most) {
  bool any = false;
  size_t looked = 0;
  struct page_chunk *chunk = cell->hand != NULL ? cell->hand : cell->chunks;
  struct page_chunk *const first = chunk;
  while (chunk != NULL && looked < most) {
    uint64_t used = atomic_load_acquire(&chunk->used) & bits_below(CHUNK_PAGES);
    for (used &= ~chunk->available; used != 0; used &= used - 1, looked++) {
      const uint32_t slot = (uint32_t)bits_lowest(used);
      struct page *page = chunk->pages[slot];
      if (page != cell->page && cell_open_shared_page(cell, chunk, slot)) {
        page_collect(page);
        any |= cell_put_aside(cell, page);
      }
    }
    chunk = chunk->next != NULL ? chunk->next : cell->chunks;
    if (chunk == first || any) break;
  }
  cell->hand = chunk;
  return any;
}

static void open_page_in_need(struct cell *cell, struct page *page,
                              struct page_chunk *chunk, uint32_t slot, bool is_open) {
  if (is_open || !cell_open_page(cell, chunk, slot)) return;
  page_collect(page);
  cell_put_aside(cell, page);
}

/* There is no memory for another page: look for any free block, also in pages that nobody owns.
 * From then on a page is available with its first free block, and only what others free has
 * to be looked for. Returns whether there is reason to search again. */
static bool cell_look_in_need(struct cell *cell) {
  if (cell->is_short) return cell_open_freed(cell, SIZE_MAX);
  cell->is_short = true;
  cell_for_each_page(cell, open_page_in_need);
  return true;
}

/* Fill the word when the cell's page has no group worth taking. Returns false when there is no
 * memory. */
__attribute__((noinline)) static bool cell_find_group(struct cell *cell) {
  owner_call_deferred_free(false);
  while (cell->word == 0 && !cell_take_from_own(cell)) {
    if (cell_open_freed(cell, RESTING_PAGES_PER_LOOK)) continue;
    struct page *page = heap_adopt_page(cell);
    if (page == NULL) {
      page = heap_fresh_page(cell);
      if (page != NULL) cell->is_short = false;
    }
    if (page != NULL) {
      cell_set_available(cell, page);
    } else if (!cell_look_in_need(cell)) {
      return false;
    }
  }
  return true;
}

void *cell_refill(struct cell *cell, bool *is_zero) {
  *is_zero = false;
  struct page *page = cell->page;
  const bool has_group =
      page != NULL && !page->needs_sweep && page_take_group(page, cell);
  if (unlikely(!has_group) && !cell_find_group(cell)) return NULL;
  *is_zero = cell->word_is_zero;
  return cell_take(cell);
}

/* ---- retiring ---- */

void cell_retire_if_free(struct cell *cell, struct page *page) {
  if (page == cell->page || !page_is_free(page)) return;
  cell_remove_page(cell, page);
  page_release(page);
}

/* The current page is one among others from now on. */
static void cell_leave_page(struct cell *cell) {
  struct page *page = cell->page;
  if (page == NULL) return;
  cell_return_word(cell);
  cell->page = NULL;
  cell_set_available(cell, page);
}

static void settle_page(struct cell *cell, struct page *page, struct page_chunk *chunk,
                        uint32_t slot, bool is_open) {
  if (!is_open) {
    if (!cell_open_page(cell, chunk, slot)) return;
    cell_set_available(cell, page);
  }
  page_collect(page);
  cell_retire_if_free(cell, page);
}

void cell_settle(struct cell *cell) {
  if (cell->block_size == 0) return;
  cell_leave_page(cell);
  cell_for_each_page(cell, settle_page);
}

static void collect_page(struct cell *cell, struct page *page, struct page_chunk *chunk,
                         uint32_t slot, bool is_open) {
  if (page == cell->page) {
    page_collect(page);
    return;
  }
  /* What only the owner has freed into and rests, is where it should be. */
  if (is_open ? cell_open_page(cell, chunk, slot)
              : cell_open_shared_page(cell, chunk, slot)) {
    page_collect(page);
    cell_put_aside(cell, page);
  }
}

void cell_collect(struct cell *cell, bool force) {
  if (cell->block_size == 0) return; /* large blocks leave nothing to collect */
  if (force) cell_leave_page(cell);
  cell_for_each_page(cell, collect_page);
}
