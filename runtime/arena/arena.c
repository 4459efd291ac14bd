#include "arena/arena.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "arena/page_map.h"
#include "arena/tag.h"
#include "base/bitmap.h"
#include "base/log.h"
#include "base/option.h"
#include "base/stats.h"
#include "os/os.h"

#define METADATA_ALIGNMENT ((size_t)64)
#define LARGE_PAGE_SIZE (2 * MiB)
#define BITMAPS 8
#define ZONE_BYTES (16 * KiB) /* at least, for the first heaps bound to the arena */

/* struct arena*, by id - 1; or ID_TAKEN, before an arena is known and while the last traces of
 * one are removed */
static atomic_word arena_table[ARENAS_MAX];
#define ID_TAKEN ((uintptr_t)1)
static atomic_word ids_end; /* no id beyond was ever taken */
static atomic_word arena_sets[ARENA_SETS][ARENAS_MAX / WORD_BITS]; /* by id - 1 */

struct tag tags[TAG_COUNT + 1];

/* ---- metadata ---- */

/* Where the parts of the metadata lie, as offsets from its start. */
struct layout {
  size_t bitmap_bytes; /* of one bitmap */
  size_t bitmaps, pages, planes, zone, size;
};

static struct layout layout_of(size_t slice_count) {
  struct layout l;
  l.bitmap_bytes = bitmap_words(slice_count) * sizeof(atomic_word);
  l.bitmaps = align_up(sizeof(struct arena), METADATA_ALIGNMENT);
  l.pages = align_up(l.bitmaps + BITMAPS * l.bitmap_bytes, PLANE_ALIGNMENT);
  l.planes = align_up(l.pages + slice_count * sizeof(struct page), PLANE_ALIGNMENT);
  l.zone =
      l.planes + divide_up(slice_count, PLANE_SLICES) * PLANE_COUNT * PLANE_ALIGNMENT;
  l.size = align_up(l.zone + ZONE_BYTES, SLICE_SIZE);
  return l;
}

size_t arena_metadata_slices(size_t slice_count) {
  return slices_for(layout_of(slice_count).size);
}

/* A slice for records: nobody else gets it while its arena lives, so it is not dirty. As if
 * it were free for a tag that nobody has. */
static void *slice_for_records(struct page *page, size_t *size) {
  if (page == NULL) return NULL;
  const size_t slice = page_slice_index(page);
  bitmap_clear_run(page->arena->dirty, slice, 1);
  atomic_store_relaxed(&page->kind, page_kind(TAG_RECORDS, 0, 0));
  bitmap_set_run(page->arena->sealed, slice, 1);
  *size = SLICE_SIZE;
  return arena_slice_address(page->arena, slice);
}

/* Of heaps bound to an arena over memory that may be all there is. */
static void *take_slice(struct zone *zone, size_t *size) {
  struct arena *arena = (struct arena *)((char *)zone - offsetof(struct arena, zone));
  bool is_zero;
  struct page *page = arena_claim_slices(arena, 1, SLICE_SIZE, TAG_RECORDS, &is_zero);
  return slice_for_records(page, size);
}

void *zone_take_for_process(struct zone *zone, size_t *size) {
  if (option_get(mi_option_disallow_os_alloc) == 0) {
    return zone_take_from_system(zone, size);
  }
  bool is_zero;
  struct page *page = arenas_claim_slices(1, SLICE_SIZE, TAG_RECORDS, false, &is_zero);
  return slice_for_records(page, size);
}

static struct arena *metadata_place(const struct arena_setup *setup, char *metadata,
                                    const struct layout *l) {
  if (setup->metadata_inside && !setup->zero) memset(metadata, 0, l->planes);
  struct arena *arena = (struct arena *)(void *)metadata;
  arena->base = (uintptr_t)setup->base;
  arena->slice_count = setup->slice_count;
  arena->pages = (struct page *)(void *)(metadata + l->pages);
  arena->planes = metadata + l->planes;
  arena->used = (atomic_word *)(void *)(metadata + l->bitmaps);
  atomic_word **const others[BITMAPS - 1] = {&arena->sealed, &arena->committed,
                                             &arena->dirty,  &arena->purge,
                                             &arena->aged,   &arena->purged,
                                             &arena->abandoned};
  for (size_t i = 0; i < BITMAPS - 1; i++) {
    *others[i] = arena->used + (i + 1) * (l->bitmap_bytes / sizeof(atomic_word));
  }
  atomic_store_relaxed(&arena->users, 1); /* pinned by its maker */
  arena->first_slice = setup->metadata_inside ? slices_for(l->size) : 0;
  arena->setup = *setup;
  arena->planes_zero = setup->zero || !setup->metadata_inside;
  arena->metadata = metadata;
  zone_initialize(&arena->zone, metadata + l->zone, l->size - l->zone,
                  setup->metadata_inside ? take_slice : zone_take_from_system);
  return arena;
}

static char *metadata_reserve(const struct arena_setup *setup, const struct layout *l) {
  if (!setup->metadata_inside) return os_reserve_guarded(l->size);
  if (!setup->committed && !os_commit(setup->base, l->size)) return NULL;
  return setup->base;
}

static void arena_mark_slices(struct arena *arena, const struct arena_setup *setup) {
  if (setup->committed) bitmap_set_run(arena->committed, 0, arena->slice_count);
  bitmap_set_run(arena->used, 0, arena->first_slice);
  bitmap_set_run(arena->committed, 0, arena->first_slice);
  if (setup->null_slice < arena->slice_count) {
    bitmap_set_run(arena->used, setup->null_slice, 1);
  }
}

/* Take an id, or 0 when there is none. Those of destroyed arenas are used again. */
static mi_arena_id_t id_take(void) {
  for (size_t i = 0; i < ARENAS_MAX; i++) {
    if (atomic_load_relaxed(&arena_table[i]) == 0 &&
        atomic_compare_and_swap_full(&arena_table[i], 0, ID_TAKEN)) {
      atomic_max_full(&ids_end, i + 1);
      return (mi_arena_id_t)(i + 1);
    }
  }
  return 0;
}

static void id_give(mi_arena_id_t id) { atomic_store_release(&arena_table[id - 1], 0); }

/* Slices with memory behind them: committed, and not purged. */
static size_t committed_slices(const struct arena *arena) {
  size_t count = 0;
  for (size_t i = 0; i < bitmap_words(arena->slice_count); i++) {
    count += bits_count(atomic_load_relaxed(&arena->committed[i]) &
                        ~atomic_load_relaxed(&arena->purged[i]));
  }
  return count;
}

struct arena *arena_create(const struct arena_setup *setup) {
  const mi_arena_id_t id = id_take();
  if (id == 0) return NULL;
  const struct layout l = layout_of(setup->slice_count);
  char *metadata = NULL;
  if (page_map_reserve((uintptr_t)setup->base, setup->slice_count)) {
    metadata = metadata_reserve(setup, &l);
  }
  if (metadata == NULL) {
    id_give(id);
    return NULL;
  }
  struct arena *arena = metadata_place(setup, metadata, &l);
  arena_mark_slices(arena, setup);
  arena->id = id;
  atomic_store_release(&arena_table[id - 1], (uintptr_t)arena);
  arena_set_add(ARENAS_ALL, arena);
  if (!setup->exclusive) arena_set_add(ARENAS_OPEN, arena);
  stats_add(&stats.arenas, 1);
  stats_add(&stats.reserved, setup->slice_count << SLICE_SHIFT);
  stats_add(&stats.committed, committed_slices(arena) << SLICE_SHIFT);
  return arena;
}

/* Slices kept for a sealed tag go with the arena. */
static void forget_sealed(const struct arena *arena, size_t slice) {
  struct tag *tag = &tags[page_kind_tag(atomic_load_relaxed(&arena->pages[slice].kind))];
  atomic_fetch_sub_full(&tag->sealed_slices, 1);
  if (bitmap_get(arena->sealed, slice)) atomic_fetch_sub_full(&tag->free_slices, 1);
}

/* Blocks that outlived their heaps may still lie in the arena: count their pages off. */
static void forget_pages(const struct arena *arena) {
  const size_t limit = atomic_load_relaxed(&arena->top);
  for (size_t i = bitmap_find(arena->used, 0, limit, true); i < limit;
       i = bitmap_find(arena->used, i + 1, limit, true)) {
    const struct page *page = &arena->pages[i];
    if (arena_slice_is_kept(arena, i)) forget_sealed(arena, i);
    const uint32_t owner = page_state_owner(atomic_load_acquire(&page->state));
    if (owner == PAGE_NONE) continue; /* not the first slice of a page */
    page_count_off(page);
    if (owner == PAGE_ABANDONED) page_count_off_abandoned(page);
  }
}

/* The first slice from start on that is kept for somebody, or the slice count. */
static size_t kept_slice(const struct arena *arena, size_t start) {
  const size_t limit = atomic_load_relaxed(&arena->top);
  size_t i = bitmap_find(arena->used, start, limit, true);
  while (i < limit && !arena_slice_is_kept(arena, i)) {
    i = bitmap_find(arena->used, i + 1, limit, true);
  }
  return i < limit ? i : arena->slice_count;
}

/* Claim all slices but those that are kept, which must be free, or none. Once an arena is
 * closed nobody claims a kept slice for longer than a moment. */
static bool claim_all_at_once(struct arena *arena) {
  size_t start = arena->first_slice, end;
  for (; start < arena->slice_count; start = end + 1) {
    end = kept_slice(arena, start);
    if (end < arena->slice_count && !bitmap_get(arena->sealed, end)) break;
    if (!bitmap_claim_run(arena->used, start, end - start)) break;
  }
  if (start >= arena->slice_count) return true;
  for (size_t i = arena->first_slice; i < start; i = end + 1) {
    end = kept_slice(arena, i);
    bitmap_clear_run(arena->used, i, end - i);
  }
  return false;
}

/* Claim every slice, so that nobody can have one. */
static bool claim_all(struct arena *arena) {
  uint64_t deadline = 0;
  for (;;) {
    const uintptr_t before = atomic_load_acquire(&arena->holding);
    arena_hold_begin(arena);
    const bool all = claim_all_at_once(arena);
    if (!all) arena_search_from(arena, arena->first_slice);
    arena_hold_end(arena);
    if (all) return true;
    const uintptr_t after = atomic_load_acquire(&arena->holding);
    const bool others_held = (uint32_t)before != 0 || after != before + HOLD_ENDED;
    if (!others_held || !arena_may_look_again(&deadline)) return false;
  }
}

static void release_extents(struct zone *zone) {
  struct zone_extent *extent = (struct zone_extent *)zone->extent;
  while (extent->before != NULL) {
    struct zone_extent *before = extent->before;
    os_release_guarded(extent, extent->size);
    extent = before;
  }
}

static void arena_forget(struct arena *arena) {
  const mi_arena_id_t id = arena->id;
  while (atomic_load_after_full(&arena->users) != ARENA_CLOSED) sched_yield();
  page_map_set(arena->base, atomic_load_relaxed(&arena->top), NULL);
  atomic_compare_and_swap_full(&arena_table[id - 1], (uintptr_t)arena, ID_TAKEN);
  readers_wait();
  stats_subtract(&stats.arenas, 1);
  stats_subtract(&stats.reserved, arena_size(arena));
  stats_subtract(&stats.committed, committed_slices(arena) << SLICE_SHIFT);
  for (int set = 0; set < ARENA_SETS; set++) arena_set_remove(set, arena);
  id_give(id);
  const struct arena_setup setup = arena->setup;
  if (!setup.metadata_inside) {
    release_extents(&arena->zone);
    os_release_guarded(arena->metadata, layout_of(setup.slice_count).size);
  }
  if (setup.reservation != NULL) os_release(setup.reservation, setup.reservation_size);
}

/* Count a user of the arena in, unless it is closed. */
static struct arena *arena_enter(mi_arena_id_t id, uintptr_t user) {
  if (arena_of_id(id) == NULL) return NULL;
  struct reader *section = read_begin();
  struct arena *arena = arena_of_id(id);
  uintptr_t users;
  do {
    users = arena == NULL ? ARENA_CLOSED : atomic_load_relaxed(&arena->users);
  } while ((users & ARENA_CLOSED) == 0 &&
           !atomic_compare_and_swap_full(&arena->users, users, users + user));
  read_end(section);
  return (users & ARENA_CLOSED) != 0 ? NULL : arena;
}

struct arena *arena_pin(mi_arena_id_t id) {
  return arena_enter(id, 1);
}

void arena_unpin(struct arena *arena) { atomic_fetch_sub_full(&arena->users, 1); }

struct arena *arena_view_begin(mi_arena_id_t id) {
  return arena_enter(id, ARENA_VIEW);
}

void arena_view_end(struct arena *arena) {
  uintptr_t users;
  do {
    users = atomic_load_relaxed(&arena->users);
    /* The child of a fork forgets all views, this thread's too. */
    if ((users & ~ARENA_CLOSED) < ARENA_VIEW) return;
  } while (!atomic_compare_and_swap_full(&arena->users, users, users - ARENA_VIEW));
}

/* Let nobody else in. Returns false when it is pinned or closed. */
static bool arena_close(struct arena *arena) {
  uintptr_t users;
  do {
    users = atomic_load_relaxed(&arena->users);
    if ((users & (ARENA_CLOSED | (ARENA_VIEW - 1))) != 0) return false;
  } while (!atomic_compare_and_swap_full(&arena->users, users, users | ARENA_CLOSED));
  return true;
}

int arena_destroy(mi_arena_id_t id, bool with_blocks) {
  struct reader *section = read_begin();
  struct arena *arena = arena_of_id(id);
  const bool closed = arena != NULL && arena_close(arena);
  read_end(section);
  if (!closed) return arena == NULL ? EINVAL : EBUSY;
  if (!with_blocks && !claim_all(arena)) {
    atomic_fetch_and_full(&arena->users, ~ARENA_CLOSED);
    return EBUSY;
  }
  forget_pages(arena);
  arena_forget(arena);
  return 0;
}

struct arena *arena_reserve(size_t size, bool allow_large, struct arena_setup setup) {
  void *base = NULL;
  if (allow_large) base = os_reserve_large(align_up(size, LARGE_PAGE_SIZE));
  if (base != NULL) {
    size = align_up(size, LARGE_PAGE_SIZE);
    setup.committed = setup.pinned = true;
  } else {
    const size_t alignment = size < LARGE_PAGE_SIZE ? SLICE_SIZE : LARGE_PAGE_SIZE;
    base = os_reserve(size, alignment, setup.committed);
    if (base == NULL) return NULL;
    if (allow_large) os_prefer_huge_pages(base, size);
  }
  setup.base = setup.reservation = base;
  setup.reservation_size = size;
  setup.slice_count = size >> SLICE_SHIFT;
  setup.zero = setup.ours = true;
  setup.numa_node = -1;
  setup.null_slice = SIZE_MAX;
  struct arena *arena = arena_create(&setup);
  if (arena == NULL) os_release(base, size);
  return arena;
}

/* ---- lookup ---- */

struct arena *arena_of_id(mi_arena_id_t id) {
  if (id < 1 || id > ARENAS_MAX) return NULL;
  const uintptr_t word = atomic_load_acquire(&arena_table[id - 1]);
  return word == ID_TAKEN ? NULL : (struct arena *)word;
}

void arena_set_add(enum arena_set set, const struct arena *arena) {
  atomic_word *map = arena_sets[set];
  const size_t index = (size_t)arena->id - 1;
  atomic_barrier_after_full();
  if (!bitmap_get(map, index)) bitmap_set_run(map, index, 1);
}

void arena_set_remove(enum arena_set set, const struct arena *arena) {
  bitmap_clear_run(arena_sets[set], (size_t)arena->id - 1, 1);
  atomic_barrier_after_full();
}

struct arena_walk arena_walk_begin(enum arena_set set) {
  return (struct arena_walk){set, 0, read_begin()};
}

struct arena *arena_walk_next(struct arena_walk *walk) {
  const size_t end = atomic_load_acquire(&ids_end);
  struct arena *arena = NULL;
  while (arena == NULL) {
    const size_t index = bitmap_find(arena_sets[walk->set], walk->next, end, true);
    if (index >= end) return NULL;
    walk->next = index + 1;
    arena = arena_of_id((mi_arena_id_t)walk->next);
  }
  return arena;
}

void arena_walk_end(struct arena_walk *walk) { read_end(walk->section); }

static bool ranges_overlap(uintptr_t a, size_t a_size, uintptr_t b, size_t b_size) {
  return a < b + b_size && b < a + a_size;
}

bool arenas_contain(const void *p) {
  bool contain = false;
  struct arena_walk walk = arena_walk_begin(ARENAS_ALL);
  for (struct arena *arena; !contain && (arena = arena_walk_next(&walk)) != NULL;) {
    contain = ranges_overlap((uintptr_t)p, 1, arena->base, arena_size(arena));
  }
  arena_walk_end(&walk);
  return contain;
}

/* A reservation may be larger than its arena. */
static bool overlaps_arena(uintptr_t base, size_t size) {
  bool overlaps = false;
  struct arena_walk walk = arena_walk_begin(ARENAS_ALL);
  for (struct arena *arena; !overlaps && (arena = arena_walk_next(&walk)) != NULL;) {
    overlaps = ranges_overlap(base, size, arena->base, arena_size(arena)) ||
               ranges_overlap(base, size, (uintptr_t)arena->setup.reservation,
                              arena->setup.reservation_size);
  }
  arena_walk_end(&walk);
  return overlaps;
}

/* Held from when an area is found to overlap nothing until its arena is known. */
static atomic_word creating_over;

int arena_create_over(const struct arena_setup *setup, struct arena **arena) {
  const uintptr_t base = (uintptr_t)setup->base;
  int error = EINVAL;
  while (!atomic_compare_and_swap_full(&creating_over, 0, 1)) sched_yield();
  /* Blocks with a mapping of their own are in no arena with an id, but in the map. */
  if (page_map_is_empty(base, setup->slice_count) &&
      !overlaps_arena(base, setup->slice_count << SLICE_SHIFT)) {
    *arena = arena_create(setup);
    error = *arena == NULL ? ENOMEM : 0;
  }
  atomic_store_release(&creating_over, 0);
  return error;
}

/* In the child of a fork, an arena in memory that is the parent's too: nothing there may be
 * changed. Its id stays taken. */
static void leave_to_parent(const struct arena *arena) {
  page_map_set(arena->base, atomic_load_relaxed(&arena->top), NULL);
  for (int set = 0; set < ARENA_SETS; set++) arena_set_remove(set, arena);
  atomic_store_release(&arena_table[arena->id - 1], ID_TAKEN);
}

void arenas_after_fork(void) {
  readers_after_fork();
  atomic_store_relaxed(&creating_over, 0);
  struct arena_walk walk = arena_walk_begin(ARENAS_ALL);
  for (struct arena *arena; (arena = arena_walk_next(&walk)) != NULL;) {
    if (arena->setup.metadata_inside && os_is_shared(arena)) {
      leave_to_parent(arena);
      continue;
    }
    atomic_fetch_and_full(&arena->users, ARENA_VIEW - 1);
    atomic_store_relaxed(&arena->holding, 0);
    arena_recover_slices(arena);
    for (int set = 0; set < ARENA_SETS; set++) {
      const bool serves_all = set == ARENAS_OPEN || set == ARENAS_WITH_ABANDONED;
      if (!serves_all || !arena->setup.exclusive) arena_set_add(set, arena);
    }
  }
  arena_walk_end(&walk);
  purge_after_fork();
  reserving_after_fork();
}
