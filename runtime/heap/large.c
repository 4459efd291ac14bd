#include "heap/large.h"

#include "arena/page_map.h"
#include "arena/tag.h"
#include "base/bitmap.h"
#include "base/option.h"
#include "base/stats.h"
#include "heap/epoch.h"
#include "heap/page.h"
#include "os/os.h"

/* ---- mappings ---- */

/* An arena of one page, with room for its bitmaps of one bit. */
struct mapping {
  struct free_record link;
  struct mapping *next_known;
  struct arena arena;
  struct page page;
  atomic_word free;
  atomic_word abandoned;
};

/* Records wait here, not in their zone, which would clear them: a thread that comes too late
 * finds a descriptor whose state has moved on, never one half made. */
static struct record_stack free_mappings;

static atomic_word all_mappings; /* struct mapping*: a list that only grows */

static struct mapping *mapping_take(void) {
  struct mapping *mapping = record_stack_pop(&free_mappings);
  if (mapping != NULL) return mapping;
  mapping = zone_take(&process_zone, RECORD_MAPPING, sizeof *mapping);
  if (mapping == NULL) return NULL;
  mapping->arena.pages = &mapping->page;
  mapping->arena.abandoned = &mapping->abandoned;
  mapping->arena.metadata = mapping;
  mapping->arena.planes_zero = true;
  mapping->arena.setup.numa_node = -1;
  mapping->page.arena = &mapping->arena;
  mapping->page.free = &mapping->free;
  uintptr_t head;
  do {
    head = atomic_load_acquire(&all_mappings);
    mapping->next_known = (struct mapping *)head;
  } while (!atomic_compare_and_swap_full(&all_mappings, head, (uintptr_t)mapping));
  return mapping;
}

bool large_for_each_mapping(page_function *f, void *argument) {
  struct mapping *mapping = (struct mapping *)atomic_load_acquire(&all_mappings);
  for (; mapping != NULL; mapping = mapping->next_known) {
    const uintptr_t state = atomic_load_acquire(&mapping->page.state);
    if (page_state_owner(state) != PAGE_NONE && !f(&mapping->page, argument))
      return false;
  }
  return true;
}

static struct page *mapping_create(size_t slice_count, size_t alignment, bool *is_zero) {
  const size_t size = slice_count << SLICE_SHIFT;
  struct mapping *mapping = mapping_take();
  if (mapping == NULL) return NULL;
  void *p = os_reserve(size, alignment > SLICE_SIZE ? alignment : SLICE_SIZE, true);
  if (p == NULL || !page_map_reserve((uintptr_t)p, slice_count)) {
    if (p != NULL) os_release(p, size);
    record_stack_push(&free_mappings, mapping);
    return NULL;
  }
  struct arena *arena = &mapping->arena;
  arena->base = (uintptr_t)p;
  arena->slice_count = slice_count;
  stats_add(&stats.reserved, size);
  stats_add(&stats.committed, size);
  *is_zero = true;
  return &mapping->page;
}

void large_unmap(struct page *page) {
  struct arena *arena = page->arena;
  const size_t size = arena->slice_count << SLICE_SHIFT;
  stats_subtract(&stats.reserved, size);
  stats_subtract(&stats.committed, size);
  os_release((void *)arena->base, size);
  record_stack_push(&free_mappings, arena->metadata);
}

/* ---- blocks ---- */

static struct page *claim_run(const mi_heap_t *heap, size_t slice_count, size_t alignment,
                              bool *is_zero) {
  if (heap->arena != NULL) {
    return arena_claim_slices(heap->arena, slice_count, alignment, heap->tag, is_zero);
  }
  /* A run that takes half an arena would leave the rest of it in pieces. */
  const size_t most = mi_option_get_size(mi_option_arena_reserve) / 2;
  /* The addresses of a mapping of its own would be anybody's again. */
  const bool fits = (slice_count << SLICE_SHIFT <= most && alignment <= most) ||
                    tag_is_sealed(heap->tag);
  struct page *page =
      arenas_claim_slices(slice_count, alignment, heap->tag, fits, is_zero);
  if (page != NULL || fits || option_get(mi_option_disallow_os_alloc) != 0) return page;
  return mapping_create(slice_count, alignment, is_zero);
}

static struct page *large_page(mi_heap_t *heap, size_t size, size_t alignment,
                               bool *is_zero) {
  const size_t slice_count = slices_for(size == 0 ? 1 : size);
  struct cell *cell = heap_cell(heap, CLASS_LARGE);
  if (cell == NULL || slice_count > UINT32_MAX) return NULL;
  struct page *page = claim_run(heap, slice_count, alignment, is_zero);
  if (page == NULL && limbo_collect()) {
    page = claim_run(heap, slice_count, alignment, is_zero);
  }
  if (page == NULL) return NULL;
  page_initialize(page, cell, slice_count << SLICE_SHIFT, 1, slice_count, *is_zero);
  atomic_flag_set(&page->is_large, true);
  atomic_store_relaxed(&page->free[0], WORD_ONES - 1);
  page->until = 1;
  if (!cell_add_page(cell, page)) {
    if (page_has_own_mapping(page)) {
      large_unmap(page);
    } else {
      arena_release_slices(page, slice_count);
    }
    return NULL;
  }
  stats_add(&stats.large_blocks, 1);
  return page;
}

void *large_allocate(mi_heap_t *heap, size_t size, size_t alignment, bool *is_zero) {
  struct page *page = large_page(heap, size, alignment, is_zero);
  if (page == NULL) return NULL;
  void *block = (void *)page->start;
  page_publish(page, heap->owner->number, PAGE_RESTING);
  return block;
}

void *large_allocate_guarded(mi_heap_t *heap, size_t size, size_t alignment,
                             bool *is_zero) {
  const size_t guard = os_page_size();
  if (alignment > guard) return NULL;
  if (size == 0) size = 1; /* or the block would begin behind its end */
  const size_t padded = align_up(size, alignment) + alignment;
  struct page *page = large_page(heap, align_up(padded, guard) + guard, 1, is_zero);
  if (page == NULL) return NULL;
  const uintptr_t end = page->start + page->block_size - guard;
  const bool precise = option_get(mi_option_guarded_precise) != 0;
  const size_t unit = precise && alignment <= BLOCK_MIN ? 1 : alignment;
  void *block = (void *)align_down(end - size, unit);
  atomic_flag_set(&page->has_interior, true);
  page->is_guarded = !page->arena->setup.pinned && os_protect((void *)end, guard, false);
  page_publish(page, heap->owner->number, PAGE_RESTING);
  return block;
}

void large_remove_guard(struct page *page) {
  const size_t guard = os_page_size();
  if (os_protect((void *)(page->start + page->block_size - guard), guard, true)) return;
  /* Then whoever takes the slice next commits it. */
  const size_t last = page_slice_index(page) + page->slice_count - 1;
  stats_subtract(&stats.committed, SLICE_SIZE);
  bitmap_clear_run(page->arena->committed, last, 1);
}

bool large_free(struct page *page) {
  for (;;) {
    const uintptr_t state = atomic_load_acquire(&page->state);
    const uint32_t owner = page_state_owner(state);
    if (owner == PAGE_NONE || owner == PAGE_CLAIMED) return false;
    if (!atomic_flag_get(&page->is_large)) return false;
    if (page_turn_over(page, state, PAGE_CLAIMED)) {
      page_release(page);
      return true;
    }
  }
}
