#include "heap/page.h"

#include <errno.h>

#include "arena/page_map.h"
#include "arena/tag.h"
#include "base/bitmap.h"
#include "base/log.h"
#include "base/stats.h"
#include "heap/epoch.h"
#include "os/os.h"

/* Slices purged by a thread that releases a page, beyond a quarter as many as that has: 256 KiB,
 * some 30 microseconds. */
#define PURGE_SLICES 4

/* ---- making a page ---- */

void page_initialize(struct page *page, struct cell *cell, size_t block_size,
                     size_t block_count, size_t slice_count, bool is_zero) {
  const size_t bytes = slice_count << SLICE_SHIFT;
  const bool has_tail = block_count * block_size < bytes;
  /* One bit beyond the last block stands for the tail: always set, so that a pointer into
   * it never looks like a live block. */
  const size_t group_count = bitmap_words(block_count + (has_tail ? 1 : 0));
  page->start = page->arena->base + (page_slice_index(page) << SLICE_SHIFT) +
                cell->block_offset;
  /* In a block of 4 GiB and more the rounding would show: it is alone in its page, and with
   * 1 every address in it has index 0. */
  page->reciprocal = block_size > UINT32_MAX
                         ? 1
                         : (uint64_t)((((uint128)1 << 64) + block_size - 1) / block_size);
  page->taken = NULL;
  page->until = 0;
  page->block_size = block_size;
  atomic_store_relaxed(&page->cell, (uintptr_t)cell);
  atomic_store_relaxed(&page->group_count, group_count);
  atomic_store_relaxed(&page->has_xfree, 0);
  atomic_store_relaxed(&page->kind, page_kind(cell->heap->tag, block_size, cell->block_offset));
  atomic_number_set(&page->slice_count, (uint32_t)slice_count);
  page->block_count = (uint32_t)block_count;
  page->fresh_block = 0;
  atomic_store_relaxed(&page->subprocess, (uintptr_t)cell->heap->owner->subprocess);
  page->is_zero = is_zero;
  atomic_flag_set(&page->has_interior, false);
  page->is_guarded = false;
  page->needs_sweep = SWEEP_NOT_DUE;
  atomic_flag_set(&page->is_large, false);
  for (size_t i = 0; i < group_count; i++)
    atomic_store_relaxed(&page->free[i], WORD_ONES);
  if (!page->arena->planes_zero) {
    atomic_word *xfree = page_xfree(page), *mark = page_mark(page);
    for (size_t i = 0; i < group_count; i++) atomic_store_relaxed(&xfree[i], 0);
    for (size_t i = 0; i < group_count; i++) atomic_store_relaxed(&mark[i], 0);
  }
}

void page_publish(struct page *page, uint32_t owner, uintptr_t resting) {
  page_map_set(page->start, page->slice_count, page);
  stats_add(&stats.pages, 1);
  stats_add(&stats.page_bytes, (size_t)page->slice_count << SLICE_SHIFT);
  holding_add(page_holding(page), page->slice_count);
  const uintptr_t state = atomic_load_relaxed(&page->state);
  atomic_store_release(&page->state, page_state_next(state, owner) | resting);
}

/* ---- taking blocks out ---- */

/* Move blocks of a group from the plane to the cell. */
static void take_blocks(struct page *page, struct cell *cell, size_t group,
                        uint64_t blocks, bool is_zero) {
  atomic_word *word = &page->free[group];
  atomic_store_relaxed(word, atomic_load_relaxed(word) & ~blocks);
  page->until += (uint32_t)bits_count(blocks);
  /* The child of a fork may see it half done, and puts cell->word back where `taken` says. */
  page->taken = word;
  atomic_barrier_compiler();
  cell->word = blocks;
  cell->word_is_zero = is_zero;
  cell->group = page->start + group * WORD_BITS * page->block_size;
}

/* The first group from `group` on, before limit, with a free block, or with several. */
static size_t find_group(const struct page *page, size_t group, size_t limit,
                         bool several) {
  for (; group < limit; group++) {
    uint64_t free = atomic_load_relaxed(&page->free[group]);
    if (several) {
      for (int i = 1; i < GROUP_WORTH; i++) free &= free - 1;
    }
    if (free != 0) break;
  }
  return group;
}

/* The free blocks of a group among those handed out before. */
static uint64_t used_and_free(const struct page *page, size_t group) {
  return atomic_load_relaxed(&page->free[group]) &
         bits_below(page->fresh_block - group * WORD_BITS);
}

/* Find a group that is worth taking for blocks handed out before: after the one taken last,
 * so that those before have time to collect more. Returns SIZE_MAX if there is none. */
static size_t find_used(const struct page *page, bool several) {
  const size_t fresh = page->fresh_block;
  if (fresh == page->until) return SIZE_MAX; /* a page that only fills */
  const size_t whole = fresh / WORD_BITS;    /* the group behind it has other bits too */
  const size_t after = page->taken == NULL ? 0 : (size_t)(page->taken - page->free) + 1;
  size_t group = find_group(page, after, whole, several);
  if (group < whole) return group;
  if (fresh % WORD_BITS != 0 && used_and_free(page, whole) != 0) return whole;
  const size_t limit = after < whole ? after : whole;
  group = find_group(page, 0, limit, several);
  return group < limit ? group : SIZE_MAX;
}

/* How many blocks never handed out to take: in a cell's first page a quarter of the batch, and
 * more when those are used up, since many cells never need more than a few. */
static size_t fresh_count(const struct page *page, const struct cell *cell) {
  const size_t batch = cell->fresh_batch, first = page->fresh_block;
  if (first >= batch || page->slot != 0 || page->chunk != cell->chunks) return batch;
  return first != 0 ? first : (batch + 3) / 4;
}

/* Take blocks never handed out: not too much memory at once, so that it is touched only when
 * the blocks that have come back do not suffice. */
static bool take_fresh(struct page *page, struct cell *cell) {
  const size_t first = page->fresh_block;
  const size_t offset = first % WORD_BITS;
  size_t count = fresh_count(page, cell);
  if (count > WORD_BITS - offset) count = WORD_BITS - offset;
  if (count > page->block_count - first) count = page->block_count - first;
  if (count == 0) return false;
  page->fresh_block = (uint16_t)(first + count);
  take_blocks(page, cell, first / WORD_BITS, bits_below(count) << offset, page->is_zero);
  return true;
}

bool page_take_group(struct page *page, struct cell *cell) {
  const size_t group = find_used(page, !cell->is_short);
  if (group == SIZE_MAX) return take_fresh(page, cell);
  take_blocks(page, cell, group, used_and_free(page, group), false);
  return true;
}

uint32_t page_free_count(const struct page *page) {
  const size_t count = atomic_load_relaxed(&page->group_count);
  size_t blocks = 0;
  for (size_t i = 0; i < count; i++) {
    blocks += bits_count(atomic_load_relaxed(&page->free[i]) & page_group_mask(page, i));
  }
  return (uint32_t)blocks;
}

struct page_swept page_count_marks(const struct page *page) {
  const atomic_word *mark = page_mark(page);
  const size_t count = atomic_load_relaxed(&page->group_count);
  struct page_swept swept = {.is_free = true};
  for (size_t i = 0; i < count; i++) {
    const uint64_t marked = atomic_load_relaxed(&mark[i]);
    swept.live += bits_count(marked);
    swept.dead += bits_count(~(atomic_load_relaxed(&page->free[i]) | marked));
    swept.is_free &= marked == 0;
  }
  return swept;
}

struct page_swept page_sweep(struct page *page) {
  atomic_word *mark = page_mark(page);
  const size_t count = atomic_load_relaxed(&page->group_count);
  struct page_swept swept = {0};
  if (page->needs_sweep != SWEEP_CLEARS_MARKS) {
    swept = page_count_marks(page);
    for (size_t i = 0; i < count; i++) {
      const uint64_t free = atomic_load_relaxed(&page->free[i]);
      atomic_store_relaxed(&page->free[i], free | ~atomic_load_relaxed(&mark[i]));
    }
    page->until = page->block_count - page_free_count(page);
    atomic_barrier_compiler();
    page->needs_sweep = SWEEP_CLEARS_MARKS;
    atomic_barrier_compiler();
  }
  for (size_t i = 0; i < count; i++) atomic_store_relaxed(&mark[i], 0);
  atomic_barrier_compiler();
  page->needs_sweep = SWEEP_NOT_DUE;
  return swept;
}

bool page_collect(struct page *page) {
  const bool any_dead = unlikely(page->needs_sweep) && page_sweep(page).dead != 0;
  if (atomic_load_acquire(&page->has_xfree) == 0) return any_dead;
  /* Lower the flag before reading the words: a thread that sees it up has set its bit
   * before we read, and one that sees it down raises it again. */
  atomic_compare_and_swap_full(&page->has_xfree, 1, 0);
  atomic_word *xfree = page_xfree(page);
  const size_t count = atomic_load_relaxed(&page->group_count);
  uint64_t any = any_dead;
  for (size_t i = 0; i < count; i++) {
    if (atomic_load_after_full(&xfree[i]) == 0) continue;
    const uint64_t freed = atomic_exchange_full(&xfree[i], 0);
    const uint64_t before = atomic_load_relaxed(&page->free[i]);
    uint64_t known = before;
    if (page->taken == &page->free[i]) known |= page_cell(page)->word;
    if ((freed & known) != 0) {
      const size_t index = i * WORD_BITS + bits_lowest(freed & known);
      log_corruption(EFAULT, "mi_free", "double free of %p", page_block(page, index));
    }
    atomic_store_relaxed(&page->free[i], before | (freed & ~known));
    page->until -= (uint32_t)bits_count(freed & ~known);
    any |= freed;
  }
  return any != 0;
}

/* ---- emptiness ---- */

bool page_is_empty(const struct page *page) {
  const atomic_word *xfree = page_xfree(page);
  const size_t count = atomic_load_relaxed(&page->group_count);
  for (size_t i = 0; i < count; i++) {
    const uint64_t free = atomic_load_acquire(&page->free[i]);
    if ((free | atomic_load_after_full(&xfree[i])) != WORD_ONES) return false;
  }
  return true;
}

bool page_is_free(const struct page *page) {
  const size_t count = atomic_load_relaxed(&page->group_count);
  for (size_t i = 0; i < count; i++) {
    if (atomic_load_relaxed(&page->free[i]) != WORD_ONES) return false;
  }
  return true;
}

reads_what_may_change bool page_is_exhausted(const struct page *page) {
  const size_t count = atomic_load_relaxed(&page->group_count);
  const size_t block_count = page->block_count;
  for (size_t i = 0; i < count; i++) {
    const uint64_t free = atomic_load_relaxed(&page->free[i]);
    if ((free & group_mask(block_count, i)) != 0) return false;
  }
  return true;
}

reads_what_may_change size_t page_live_blocks(const struct page *page, uint64_t *live) {
  const uint32_t owner = page_state_owner(atomic_load_acquire(&page->state));
  const bool is_large = atomic_flag_get(&page->is_large);
  const bool has_xfree = !is_large && atomic_load_acquire(&page->has_xfree) != 0;
  const size_t group_count = atomic_load_relaxed(&page->group_count);
  const size_t block_count = page->block_count;
  for (size_t i = 0; i < group_count; i++) {
    live[i] = ~atomic_load_relaxed(&page->free[i]) & group_mask(block_count, i);
    if (has_xfree) live[i] &= ~atomic_load_relaxed(&page_xfree(page)[i]);
    if (page->needs_sweep == SWEEP_DUE)
      live[i] &= atomic_load_relaxed(&page_mark(page)[i]);
  }
  const struct cell *cell = page_cell(page);
  if (owner >= PAGE_FIRST_OWNER && !is_large && cell != NULL) {
    const atomic_word *taken = page->taken;
    if (taken != NULL) live[taken - page->free] &= ~cell->word;
  }
  size_t count = 0;
  for (size_t i = 0; i < group_count; i++) count += bits_count(live[i]);
  return count;
}

/* ---- giving a page back ---- */

/* The xfree plane of a slice without a page is all zeros. */
static void page_clear_xfree(struct page *page) {
  atomic_word *xfree = page_xfree(page);
  const size_t count = atomic_load_relaxed(&page->group_count);
  for (size_t i = 0; i < count; i++) {
    if (atomic_load_relaxed(&xfree[i]) != 0) atomic_store_relaxed(&xfree[i], 0);
  }
}

void page_give_back(struct page *page) {
  const size_t slice_count = page->slice_count;
  if (atomic_load_acquire(&page->has_xfree) != 0) page_clear_xfree(page);
  if (page->needs_sweep) page_sweep(page); /* to clear the marks */
  page_count_off(page);
  /* Only the first slice goes on mapping to the descriptor: a stale pointer into another
   * must not find the page that begins here next. */
  page_map_set(page->start + SLICE_SIZE, slice_count - 1, NULL);
  const uintptr_t state = atomic_load_relaxed(&page->state);
  if (page_has_own_mapping(page)) {
    page_map_set(page->start, 1, NULL);
  } else if (page->is_guarded) {
    large_remove_guard(page);
  }
  atomic_store_release(&page->state, page_state_next(state, PAGE_NONE));
  if (tag_delays_reuse(page_kind_tag(atomic_load_relaxed(&page->kind)))) {
    limbo_add(page);
  } else {
    page_let_go(page);
  }
}

void page_let_go(struct page *page) {
  if (page_has_own_mapping(page)) {
    large_unmap(page);
  } else {
    arena_release_slices(page, page->slice_count);
  }
}

void page_recover_flag(struct page *page) {
  if (atomic_load_relaxed(&page->has_xfree) != 0) return;
  const atomic_word *xfree = page_xfree(page);
  const size_t count = atomic_load_relaxed(&page->group_count);
  for (size_t i = 0; i < count; i++) {
    if (atomic_load_relaxed(&xfree[i]) == 0) continue;
    atomic_store_relaxed(&page->has_xfree, 1);
    return;
  }
}

void page_give_back_lost(struct page *page) {
  if (chunk_has_slot(page->chunk, page->slot) && page->chunk->pages[page->slot] == page) {
    chunk_clear_slot(page->chunk, page->slot, page->slice_count);
  }
  page_withdraw(page->arena, page_slice_index(page));
  if (!atomic_flag_get(&page->is_large)) page_clear_xfree(page);
  page_give_back(page);
}

void page_release(struct page *page) {
  const size_t most = page->slice_count / 4 + PURGE_SLICES;
  page_give_back(page);
  arenas_purge(false, most);
}

/* ---- abandoned pages ---- */

void page_offer(struct page *page) {
  struct arena *arena = page->arena;
  atomic_fetch_add_full(&arena->abandoned_count, 1);
  if (bitmap_set_run(arena->abandoned, page_slice_index(page), 1) == 0) {
    atomic_fetch_sub_full(&arena->abandoned_count, 1);
  }
  if (!arena->setup.exclusive && arena->id != 0) {
    arena_set_add(ARENAS_WITH_ABANDONED, arena);
  }
}

void page_withdraw(struct arena *arena, size_t slice) {
  if (bitmap_clear_run(arena->abandoned, slice, 1) != 0) {
    atomic_fetch_sub_full(&arena->abandoned_count, 1);
  }
}

bool page_turn_over(struct page *page, uintptr_t state, uint32_t to) {
  const uint32_t owner = page_state_owner(state);
  if (owner == PAGE_NONE || owner == PAGE_CLAIMED) return false;
  const uintptr_t desired = page_state_next(state, to);
  if (!atomic_compare_and_swap_full(&page->state, state, desired)) return false;
  if (owner == PAGE_ABANDONED) {
    page_withdraw(page->arena, page_slice_index(page));
    page_count_off_abandoned(page);
  } else {
    chunk_clear_slot(page->chunk, page->slot, page->slice_count);
  }
  return true;
}

void page_adopt(struct page *page, uint32_t owner) {
  atomic_fetch_add_full(&stats.adopted, 1);
  atomic_fetch_add_full(&page_holding(page)->adopted, 1);
  const uintptr_t state = atomic_load_relaxed(&page->state);
  atomic_store_release(&page->state, page_state_next(state, owner));
}

bool page_claim_if_empty(struct page *page) {
  for (;;) {
    const uintptr_t state = atomic_load_after_full(&page->state);
    const uint32_t owner = page_state_owner(state);
    const bool claimable = owner == PAGE_ABANDONED || (state & PAGE_RESTING) != 0;
    if (!claimable || !page_is_empty(page)) return false;
    if (page_turn_over(page, state, PAGE_CLAIMED)) {
      /* Whoever set the last bits may not have raised the flag yet. */
      page_clear_xfree(page);
      return true;
    }
  }
}

void page_free_block_resting(struct page *page, size_t index) {
  const uintptr_t bit = (uintptr_t)1 << (index % WORD_BITS);
  /* Another thread may find the page empty as soon as the bit is there. */
  struct reader *section = read_begin_at_next_full();
  atomic_fetch_or_full(&page->free[index / WORD_BITS], bit);
  const bool is_claimed = page_claim_if_empty(page);
  read_end(section);
  if (is_claimed) page_release(page);
}

/* Returns whether the page was empty, and is claimed now. */
static bool abandon(struct page *page, uint32_t owner, struct page_chunk *chunk,
                    uint32_t slot) {
  struct holding *holding;
  uintptr_t state;
  size_t slice_count;
  bool is_large, is_offered;
  do {
    state = atomic_load_acquire(&page->state);
    if (page_state_owner(state) != owner) return false; /* and emptied */
    is_large = atomic_flag_get(&page->is_large);
    is_offered = !is_large && (page->needs_sweep || !page_is_exhausted(page));
    slice_count = atomic_number_get(&page->slice_count);
    holding = page_holding(page);
  } while (!atomic_compare_and_swap_full(&page->state, state,
                                         page_state_next(state, PAGE_ABANDONED)));
  if (owner == PAGE_VISITED) {
    stats_take_back(&stats.abandoned, 1);
  } else {
    stats_add(&stats.abandoned, 1);
  }
  atomic_fetch_add_full(&holding->abandoned, 1);
  if (chunk != NULL) chunk_clear_slot(chunk, slot, slice_count);
  /* A page without a free block is of no use to anybody: whoever frees the first one offers
   * it, who raises the flag and then looks at the state; we set the state, then look at the
   * flag. If the page has been claimed meanwhile, the offer is stale: who follows it finds
   * another state, and withdraws it. */
  is_offered = is_offered || (!is_large && atomic_load_after_full(&page->has_xfree) != 0);
  if (is_offered) page_offer(page);
  return !is_large && page_claim_if_empty(page);
}

void page_abandon(struct page *page, uint32_t owner, struct page_chunk *chunk,
                  uint32_t slot) {
  struct reader *section = read_begin();
  bool is_claimed = false;
  if (chunk == NULL || chunk_has_slot(chunk, slot)) {
    is_claimed = abandon(page, owner, chunk, slot);
  }
  read_end(section);
  if (is_claimed) page_release(page);
}

/* ---- every page ---- */

bool pages_for_each_from(struct arena *arena, size_t slice, page_function *f,
                         void *argument) {
  for (size_t i = slice;; i++) {
    const size_t limit = atomic_load_acquire(&arena->top);
    i = bitmap_find(arena->used, i, limit, true);
    if (i >= limit) return true;
    struct page *page = &arena->pages[i];
    if (page_state_owner(atomic_load_acquire(&page->state)) == PAGE_NONE) continue;
    if (!f(page, argument)) return false;
  }
}

bool pages_for_each_in(struct arena *arena, page_function *f, void *argument) {
  return pages_for_each_from(arena, 0, f, argument);
}

bool pages_for_each(page_function *f, void *argument) {
  bool go_on = true;
  /* By id, not by a walk: f may call anything. */
  for (mi_arena_id_t id = 1; go_on && id <= ARENAS_MAX; id++) {
    struct arena *arena = arena_view_begin(id);
    if (arena == NULL) continue;
    go_on = pages_for_each_in(arena, f, argument);
    arena_view_end(arena);
  }
  return go_on && large_for_each_mapping(f, argument);
}
