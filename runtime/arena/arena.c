#include "arena/arena.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "arena/page_map.h"
#include "base/bitmap.h"
#include "base/log.h"
#include "base/option.h"
#include "base/stats.h"
#include "os/os.h"

#define METADATA_ALIGNMENT ((size_t)64)
#define PLANE_ALIGNMENT (PLANE_STRIDE_WORDS * sizeof(atomic_word))
#define LARGE_PAGE_SIZE (2 * MiB)
#define COMMIT_RUN_SLICES 16 /* commit 1 MiB at a time where it is all ours to commit */

static atomic_word arena_table[ARENAS_MAX]; /* struct arena*, by id - 1 */
static atomic_word arena_table_limit;

/* ---- metadata ---- */

/* Where the parts of the metadata lie, as offsets from its start. */
struct layout {
  size_t bitmap_bytes; /* of one bitmap */
  size_t bitmaps, pages, planes, zone, size;
};

/* Room for records: in a small arena, whose pages may all be of different cells, for a cell
 * and a chunk per slice; in a large one, for what a heap of every size class needs and a
 * chunk's share per slice. */
static size_t zone_bytes(size_t slice_count) {
  const size_t few = slice_count < 512 ? slice_count : 512;
  return 16 * KiB + few * KiB + slice_count * 32;
}

static struct layout layout_of(size_t slice_count) {
  struct layout l;
  l.bitmap_bytes = bitmap_words(slice_count) * sizeof(atomic_word);
  l.bitmaps = align_up(sizeof(struct arena), METADATA_ALIGNMENT);
  l.pages = align_up(l.bitmaps + 5 * l.bitmap_bytes, METADATA_ALIGNMENT);
  l.zone = l.pages + slice_count * sizeof(struct page);
  l.planes = align_up(l.zone + zone_bytes(slice_count), PLANE_ALIGNMENT);
  l.size =
      l.planes + divide_up(slice_count, PLANE_SLICES) * PLANE_COUNT * PLANE_ALIGNMENT;
  return l;
}

/* Planes of slice i: eight slices share a group of three operating-system pages. */
static atomic_word *arena_free_plane(const struct arena *arena, size_t slice) {
  const size_t words = slice / PLANE_SLICES * PLANE_COUNT * PLANE_STRIDE_WORDS +
                       slice % PLANE_SLICES * PLANE_SLICE_WORDS;
  return (atomic_word *)(void *)arena->planes + words;
}

static struct arena *metadata_place(const struct arena_setup *setup, char *metadata,
                                    const struct layout *l) {
  if (setup->metadata_inside && !setup->zero) memset(metadata, 0, l->zone);
  struct arena *arena = (struct arena *)(void *)metadata;
  arena->base = (uintptr_t)setup->base;
  arena->slice_count = setup->slice_count;
  arena->pages = (struct page *)(void *)(metadata + l->pages);
  arena->planes = metadata + l->planes;
  arena->used = (atomic_word *)(void *)(metadata + l->bitmaps);
  arena->committed = arena->used + l->bitmap_bytes / sizeof(atomic_word);
  arena->dirty = arena->committed + l->bitmap_bytes / sizeof(atomic_word);
  arena->purge = arena->dirty + l->bitmap_bytes / sizeof(atomic_word);
  arena->abandoned = arena->purge + l->bitmap_bytes / sizeof(atomic_word);
  arena->numa_node = setup->numa_node;
  arena->exclusive = setup->exclusive;
  arena->automatic = setup->automatic;
  arena->pinned = setup->pinned;
  arena->zero = setup->zero;
  arena->planes_zero = setup->zero || !setup->metadata_inside;
  arena->purge_zeroes = setup->ours;
  arena->reserved_by_us = setup->reservation != NULL;
  arena->reservation = setup->reservation;
  arena->reservation_size = setup->reservation_size;
  arena->metadata = metadata;
  arena->metadata_size = setup->metadata_inside ? 0 : l->size;
  zone_initialize(&arena->zone, metadata + l->zone, l->planes - l->zone);
  return arena;
}

static char *metadata_reserve(const struct arena_setup *setup, const struct layout *l) {
  if (!setup->metadata_inside) return os_reserve_guarded(l->size);
  const size_t bytes = slices_for(l->size) << SLICE_SHIFT;
  if (bytes >> SLICE_SHIFT >= setup->slice_count) return NULL; /* nothing would be left */
  if (!setup->committed && !os_commit(setup->base, bytes)) return NULL;
  return setup->base;
}

static void arena_mark_slices(struct arena *arena, const struct arena_setup *setup,
                              const struct layout *l) {
  if (setup->committed) bitmap_set_run(arena->committed, 0, arena->slice_count);
  if (setup->metadata_inside) {
    const size_t slices = slices_for(l->size);
    bitmap_set_run(arena->used, 0, slices);
    bitmap_set_run(arena->committed, 0, slices);
    bitmap_set_run(arena->dirty, 0, slices);
  }
  if (setup->null_slice < arena->slice_count) {
    bitmap_set_run(arena->used, setup->null_slice, 1);
  }
}

/* Give the arena an id. Ids of destroyed arenas are used again. */
static bool arena_publish(struct arena *arena) {
  for (size_t i = 0; i < ARENAS_MAX; i++) {
    if (atomic_load_relaxed(&arena_table[i]) != 0) continue;
    arena->id = (mi_arena_id_t)(i + 1);
    if (atomic_compare_and_swap_full(&arena_table[i], 0, (uintptr_t)arena)) {
      atomic_max_full(&arena_table_limit, i + 1);
      return true;
    }
  }
  return false;
}

static void metadata_release(const struct arena_setup *setup, void *metadata,
                             const struct layout *l) {
  if (!setup->metadata_inside) os_release_guarded(metadata, l->size);
}

struct arena *arena_create(const struct arena_setup *setup) {
  const struct layout l = layout_of(setup->slice_count);
  char *metadata = NULL;
  if (page_map_reserve((uintptr_t)setup->base, setup->slice_count)) {
    metadata = metadata_reserve(setup, &l);
  }
  if (metadata == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  struct arena *arena = metadata_place(setup, metadata, &l);
  arena_mark_slices(arena, setup, &l);
  if (!arena_publish(arena)) {
    metadata_release(setup, metadata, &l);
    errno = ENOMEM;
    return NULL;
  }
  stats_add(&stats.arenas, 1);
  stats_add(&stats.reserved, setup->slice_count << SLICE_SHIFT);
  if (setup->committed) stats_add(&stats.committed, setup->slice_count << SLICE_SHIFT);
  return arena;
}

/* Blocks that outlived their heaps may still lie in the arena: count their pages off. */
static void forget_pages(const struct arena *arena) {
  const size_t limit = arena->slice_count;
  for (size_t i = bitmap_find(arena->used, 0, limit, true); i < limit;
       i = bitmap_find(arena->used, i + 1, limit, true)) {
    const struct page *page = &arena->pages[i];
    const uint32_t owner = page_state_owner(atomic_load_acquire(&page->state));
    if (owner == PAGE_NONE) continue; /* not the first slice of a page */
    stats_subtract(&stats.pages, 1);
    stats_subtract(&stats.page_bytes, (size_t)page->slice_count << SLICE_SHIFT);
    if (owner == PAGE_ABANDONED) stats_subtract(&stats.abandoned, 1);
    if (atomic_flag_get(&page->is_large)) stats_subtract(&stats.large_blocks, 1);
  }
}

static void wait_for_walks(void);

void arena_destroy(struct arena *arena) {
  atomic_compare_and_swap_full(&arena_table[arena->id - 1], (uintptr_t)arena, 0);
  wait_for_walks();
  forget_pages(arena);
  page_map_set(arena->base, arena->slice_count, NULL);
  stats_subtract(&stats.arenas, 1);
  stats_subtract(&stats.reserved, arena->slice_count << SLICE_SHIFT);
  size_t committed = 0;
  for (size_t i = 0; i < bitmap_words(arena->slice_count); i++) {
    committed += (size_t)__builtin_popcountll(atomic_load_relaxed(&arena->committed[i]));
  }
  stats_subtract(&stats.committed, committed << SLICE_SHIFT);
  if (arena->reserved_by_us) os_release(arena->reservation, arena->reservation_size);
  if (arena->metadata_size != 0) {
    os_release_guarded(arena->metadata, arena->metadata_size);
  }
}

struct arena *arena_reserve(const struct arena_request *request) {
  const size_t size = request->size;
  size_t alignment = LARGE_PAGE_SIZE;
  if (size < LARGE_PAGE_SIZE) alignment = SLICE_SIZE;
  void *base = os_reserve(size, alignment, request->commit);
  if (base == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  if (request->allow_large) os_prefer_huge_pages(base, size);
  const struct arena_setup setup = {
      .base = base,
      .slice_count = size >> SLICE_SHIFT,
      .reservation = base,
      .reservation_size = size,
      .committed = request->commit,
      .zero = true,
      .ours = true,
      .exclusive = request->exclusive,
      .automatic = request->automatic,
      .numa_node = -1,
      .null_slice = SIZE_MAX,
  };
  struct arena *arena = arena_create(&setup);
  if (arena == NULL) os_release(base, size);
  return arena;
}

/* ---- lookup ---- */

struct arena *arena_of_id(mi_arena_id_t id) {
  if (id < 1 || id > ARENAS_MAX) return NULL;
  return (struct arena *)atomic_load_acquire(&arena_table[id - 1]);
}

/* Walks count themselves in under the parity of the epoch. Whoever destroys an arena takes
 * it out of the table, moves the epoch on, and waits for the walks of the old parity. */
static atomic_word walk_epoch;
static atomic_word walks_in_epoch[2];
static atomic_word waiting_for_walks; /* 1 while a thread waits in wait_for_walks */

struct arena_walk arena_walk_begin(void) {
  for (;;) {
    const unsigned epoch = atomic_load_acquire(&walk_epoch) & 1;
    atomic_fetch_add_full(&walks_in_epoch[epoch], 1);
    if ((atomic_load_after_full(&walk_epoch) & 1) == epoch) {
      return (struct arena_walk){0, atomic_load_acquire(&arena_table_limit), epoch};
    }
    atomic_fetch_sub_full(&walks_in_epoch[epoch], 1);
  }
}

struct arena *arena_walk_next(struct arena_walk *walk) {
  while (walk->next < walk->limit) {
    struct arena *arena = (struct arena *)atomic_load_acquire(&arena_table[walk->next++]);
    if (arena != NULL) return arena;
  }
  return NULL;
}

void arena_walk_end(struct arena_walk *walk) {
  atomic_fetch_sub_full(&walks_in_epoch[walk->epoch], 1);
}

/* One at a time: were the epoch moved on twice, a walk that began before both would be waited
 * for by the first only. */
static void wait_for_walks(void) {
  while (!atomic_compare_and_swap_full(&waiting_for_walks, 0, 1)) sched_yield();
  const unsigned before = atomic_fetch_add_full(&walk_epoch, 1) & 1;
  while (atomic_load_after_full(&walks_in_epoch[before]) != 0) sched_yield();
  atomic_store_release(&waiting_for_walks, 0);
}

struct arena *arena_of_address(const void *p) {
  struct arena_walk walk = arena_walk_begin();
  struct arena *arena;
  while ((arena = arena_walk_next(&walk)) != NULL) {
    if ((uintptr_t)p - arena->base < arena->slice_count << SLICE_SHIFT) break;
  }
  arena_walk_end(&walk);
  return arena;
}

/* ---- slices ---- */

/* The first slice at or after start at which an aligned run can begin. */
static size_t slice_align(const struct arena *arena, size_t start, size_t alignment) {
  if (alignment <= SLICE_SIZE) return start;
  const uintptr_t address = arena->base + (start << SLICE_SHIFT);
  return (align_up(address, alignment) - arena->base) >> SLICE_SHIFT;
}

void arena_search_from(struct arena *arena, size_t start) {
  uintptr_t hint = atomic_load_relaxed(&arena->search_start);
  while (start < hint &&
         !atomic_compare_and_swap_full(&arena->search_start, hint, start)) {
    hint = atomic_load_relaxed(&arena->search_start);
  }
}

/* Claim a run that looked free. One that crosses words may be given up half-way. */
static bool claim_exactly(struct arena *arena, size_t start, size_t count) {
  if (start / WORD_BITS == (start + count - 1) / WORD_BITS) {
    return bitmap_claim_run(arena->used, start, count);
  }
  arena_hold_begin(arena);
  const bool claimed = bitmap_claim_run(arena->used, start, count);
  if (!claimed) arena_search_from(arena, start);
  arena_hold_end(arena);
  return claimed;
}

/* Find and claim a run in [start, limit). Returns its first slice or SIZE_MAX. */
static size_t claim_run_from(struct arena *arena, size_t start, size_t count,
                             size_t alignment) {
  const size_t limit = arena->slice_count;
  for (;;) {
    start = bitmap_find(arena->used, start, limit, false);
    start = slice_align(arena, start, alignment);
    if (start > limit || count > limit - start) return SIZE_MAX;
    const size_t taken = bitmap_find(arena->used, start, start + count, true);
    if (taken < start + count) {
      start = taken + 1;
    } else if (claim_exactly(arena, start, count)) {
      return start;
    }
  }
}

static size_t claim_run(struct arena *arena, size_t count, size_t alignment) {
  if (count > arena->slice_count) return SIZE_MAX;
  const uintptr_t hint = atomic_load_relaxed(&arena->search_start);
  size_t found = claim_run_from(arena, hint, count, alignment);
  if (found == SIZE_MAX && hint != 0) found = claim_run_from(arena, 0, count, alignment);
  if (count == 1 && alignment <= SLICE_SIZE) {
    /* All below the find is used; if something was given back meanwhile, the hint has
     * changed and the swap fails. */
    const size_t next = found == SIZE_MAX ? arena->slice_count : found + 1;
    atomic_compare_and_swap_full(&arena->search_start, hint, next);
  }
  return found;
}

/* The free and uncommitted slices behind a run, to the end of its 1 MiB. */
static size_t slices_to_commit_behind(const struct arena *arena, size_t end) {
  size_t limit = align_up(end, COMMIT_RUN_SLICES);
  if (limit > arena->slice_count) limit = arena->slice_count;
  size_t count = 0;
  while (end + count < limit && !bitmap_get(arena->used, end + count) &&
         !bitmap_get(arena->committed, end + count)) {
    count++;
  }
  return count;
}

/* Commit a claimed run. Where commits happen on demand, commit what lies behind it too, so
 * that small pages do not cost a system call each; that is claimed meanwhile. */
static bool commit_run(struct arena *arena, size_t start, size_t count) {
  if (bitmap_is_set_run(arena->committed, start, count)) return true;
  char *p = arena_slice_address(arena, start);
  const size_t end = start + count;
  const size_t behind = slices_to_commit_behind(arena, end);
  size_t committed = 0;
  if (behind > 0) {
    arena_hold_begin(arena);
    if (bitmap_claim_run(arena->used, end, behind)) {
      if (os_commit(p, (count + behind) << SLICE_SHIFT)) committed = count + behind;
      bitmap_set_run(arena->committed, start, committed);
      bitmap_clear_run(arena->used, end, behind);
    }
    arena_search_from(arena, end);
    arena_hold_end(arena);
  }
  if (committed == 0) {
    if (!os_commit(p, count << SLICE_SHIFT)) return false;
    committed = count;
    bitmap_set_run(arena->committed, start, count);
  }
  stats_add(&stats.committed, committed << SLICE_SHIFT);
  return true;
}

struct page *arena_claim_slices(struct arena *arena, size_t slice_count, size_t alignment,
                                bool *is_zero) {
  size_t start;
  uintptr_t before, after;
  for (;;) {
    before = atomic_load_acquire(&arena->holding);
    start = claim_run(arena, slice_count, alignment);
    if (start != SIZE_MAX) break;
    after = atomic_load_acquire(&arena->holding);
    if (before == after && (uint32_t)after == 0) return NULL;
    sched_yield(); /* some slices were only held for a moment: look again */
  }
  if (!commit_run(arena, start, slice_count)) {
    bitmap_clear_run(arena->used, start, slice_count);
    arena_search_from(arena, start);
    return NULL;
  }
  if (atomic_load_relaxed(&arena->purge_at) != 0) {
    bitmap_clear_run(arena->purge, start, slice_count);
  }
  *is_zero =
      bitmap_set_run(arena->dirty, start, slice_count) == slice_count && arena->zero;
  struct page *page = &arena->pages[start];
  if (page->arena == NULL) { /* once: these never change */
    page->arena = arena;
    page->free = arena_free_plane(arena, start);
  }
  return page;
}

void arena_release_slices(struct page *page, size_t slice_count) {
  struct arena *arena = page->arena;
  const size_t start = page_slice_index(page);
  if (!arena->pinned) arena_schedule_purge(arena, start, slice_count);
  bitmap_clear_run(arena->used, start, slice_count);
  arena_search_from(arena, start);
}

/* ---- all arenas ---- */

/* From arenas of this thread's NUMA node or of none, or with far from the others. */
static struct page *claim_from_known(size_t slice_count, size_t alignment, bool *is_zero,
                                     bool far, bool *others) {
  const bool automatic_only = option_get(mi_option_disallow_arena_alloc) != 0;
  const long nodes = option_get(mi_option_use_numa_nodes);
  const int node = nodes > 0 ? os_numa_node() % (int)nodes : os_numa_node();
  struct page *page = NULL;
  struct arena_walk walk = arena_walk_begin();
  for (struct arena *arena; page == NULL && (arena = arena_walk_next(&walk)) != NULL;) {
    if (arena->exclusive || (automatic_only && !arena->automatic)) continue;
    const bool is_far = arena->numa_node >= 0 && arena->numa_node != node;
    if (is_far != far) {
      *others = true;
    } else {
      page = arena_claim_slices(arena, slice_count, alignment, is_zero);
    }
  }
  arena_walk_end(&walk);
  return page;
}

/* Reserve another arena for everybody, large enough for a run of this size. */
static struct arena *arena_reserve_default(size_t size) {
  const size_t wanted = align_up(mi_option_get_size(mi_option_arena_reserve), SLICE_SIZE);
  const long eager = option_get(mi_option_arena_eager_commit);
  const bool large = option_get(mi_option_large_os_pages) != 0;
  const bool commit = eager == 1 || large || (eager == 2 && !os_commits_strictly());
  struct arena_request request = {wanted, commit, large, false, true};
  struct arena *arena = NULL;
  /* Where address space is short, a smaller arena serves too. */
  while (arena == NULL && request.size > size && request.size >= 8 * SLICE_SIZE) {
    arena = arena_reserve(&request);
    request.size = align_up(request.size / 8, SLICE_SIZE);
  }
  if (arena != NULL) return arena;
  log_warning("arena_reserve", "no %zu bytes of address space: trying %zu", wanted, size);
  request.size = size;
  return arena_reserve(&request);
}

struct page *arenas_claim_slices(size_t slice_count, size_t alignment, bool may_reserve,
                                 bool *is_zero) {
  bool others = false;
  struct page *page = claim_from_known(slice_count, alignment, is_zero, false, &others);
  if (page == NULL && others) {
    page = claim_from_known(slice_count, alignment, is_zero, true, &others);
  }
  if (page != NULL) return page;
  if (!may_reserve || option_get(mi_option_disallow_os_alloc) != 0) return NULL;
  size_t size = slice_count << SLICE_SHIFT;
  if (alignment > SLICE_SIZE && __builtin_add_overflow(size, alignment, &size)) {
    return NULL;
  }
  struct arena *arena = arena_reserve_default(size);
  if (arena == NULL) return NULL;
  return arena_claim_slices(arena, slice_count, alignment, is_zero);
}

void arenas_after_fork(void) {
  atomic_store_relaxed(&walks_in_epoch[0], 0);
  atomic_store_relaxed(&walks_in_epoch[1], 0);
  atomic_store_relaxed(&waiting_for_walks, 0);
  struct arena_walk walk = arena_walk_begin();
  for (struct arena *arena; (arena = arena_walk_next(&walk)) != NULL;) {
    atomic_store_relaxed(&arena->holding, 0);
  }
  arena_walk_end(&walk);
}
