/* slices.c - handing out slices and taking them back. */
#include <sched.h>

#include "arena/arena.h"
#include "arena/page_map.h"
#include "arena/tag.h"
#include "base/bitmap.h"
#include "base/log.h"
#include "base/option.h"
#include "base/stats.h"
#include "os/os.h"

#define HELD_MILLISECONDS 1000
#define ARENAS_PER_SIZE 128  /* reserved of one size, before the size is doubled */
#define COMMIT_RUN_SLICES 16 /* commit 1 MiB at a time where it is all ours to commit */

/* Descriptors of so many slices fill an operating-system page, and their planes do. */
#define WIPE_SLICES ((size_t)32)
#define WIPE_PAGE_SIZE (WIPE_SLICES * sizeof(struct page))
_Static_assert(WIPE_PAGE_SIZE == PLANE_ALIGNMENT && WIPE_SLICES % PLANE_SLICES == 0, "");

/* Planes of slice i: eight slices share a group of three operating-system pages. */
static atomic_word *arena_free_plane(const struct arena *arena, size_t slice) {
  const size_t words = slice / PLANE_SLICES * PLANE_COUNT * PLANE_STRIDE_WORDS +
                       slice % PLANE_SLICES * PLANE_SLICE_WORDS;
  return (atomic_word *)(void *)arena->planes + words;
}

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
  if (!arena->setup.exclusive) arena_set_add(ARENAS_OPEN, arena);
}

/* No slice was free: look here no more, unless one is now. */
static void arena_leave_open(struct arena *arena) {
  if (arena->setup.exclusive) return;
  arena_set_remove(ARENAS_OPEN, arena);
  if (bitmap_find(arena->used, 0, arena->slice_count, false) < arena->slice_count) {
    arena_set_add(ARENAS_OPEN, arena);
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
  size_t done = 0;
  if (behind > 0) {
    arena_hold_begin(arena);
    if (bitmap_claim_run(arena->used, end, behind)) {
      if (os_commit(p, (count + behind) << SLICE_SHIFT)) done = count + behind;
      stats_add(&stats.committed, bitmap_set_run(arena->committed, start, done)
                                      << SLICE_SHIFT);
      bitmap_clear_run(arena->used, end, behind);
    }
    arena_search_from(arena, end);
    arena_hold_end(arena);
  }
  if (done != 0) return true;
  if (!os_commit(p, count << SLICE_SHIFT)) return false;
  stats_add(&stats.committed, bitmap_set_run(arena->committed, start, count)
                                  << SLICE_SHIFT);
  return true;
}

/* ---- sealed tags ---- */

static unsigned slice_tag(const struct arena *arena, size_t slice) {
  return page_kind_tag(atomic_load_relaxed(&arena->pages[slice].kind));
}

bool arena_slice_is_kept(const struct arena *arena, size_t slice) {
  const unsigned tag = slice_tag(arena, slice);
  /* In a slice where no page has begun yet there is no kind, which looks like tag 0. */
  if (tag == 0 && atomic_load_relaxed(&arena->pages[slice].kind) == 0) return false;
  return tag == TAG_RECORDS || tag_is_sealed(tag);
}

/* From now on a claimed run is the tag's. */
static void seal_run(struct arena *arena, size_t start, size_t count, unsigned tag) {
  for (size_t i = start; i < start + count; i++) {
    atomic_store_relaxed(&arena->pages[i].kind, page_kind(tag, BLOCK_MIN, 0));
  }
  atomic_fetch_add_full(&tags[tag].sealed_slices, count);
}

/* Slices that are claimed become free: for everybody, or for their tag. */
static void let_go(struct arena *arena, size_t start, size_t count) {
  if (arena_slice_is_kept(arena, start)) {
    atomic_fetch_add_full(&tags[slice_tag(arena, start)].free_slices, count);
    bitmap_set_run(arena->sealed, start, count);
  } else {
    bitmap_clear_run(arena->used, start, count);
    arena_search_from(arena, start);
  }
}

/* Claim a run of slices that are kept for the tag, between start and limit. Returns the first
 * or SIZE_MAX. */
static size_t claim_kept_run(struct arena *arena, size_t start, size_t limit,
                             size_t count, size_t alignment, unsigned tag) {
  for (;;) {
    start = bitmap_find(arena->sealed, start, limit, true);
    start = slice_align(arena, start, alignment);
    if (start > limit || count > limit - start) return SIZE_MAX;
    size_t length = 0;
    while (length < count && bitmap_get(arena->sealed, start + length) &&
           slice_tag(arena, start + length) == tag) {
      length++;
    }
    if (length < count) {
      start += length + 1;
    } else if (bitmap_unclaim_run(arena->sealed, start, count)) {
      return start;
    }
  }
}

static size_t claim_kept(struct arena *arena, size_t count, size_t alignment,
                         unsigned tag) {
  if (atomic_load_relaxed(&tags[tag].free_slices) < count) return SIZE_MAX;
  const size_t limit = atomic_load_acquire(&arena->top);
  const size_t hand = atomic_load_relaxed(&tags[tag].hand);
  size_t start = claim_kept_run(arena, hand, limit, count, alignment, tag);
  if (start == SIZE_MAX && hand != 0) {
    start = claim_kept_run(arena, 0, limit, count, alignment, tag);
  }
  if (start == SIZE_MAX) return SIZE_MAX;
  atomic_store_relaxed(&tags[tag].hand, start + count);
  atomic_fetch_sub_full(&tags[tag].free_slices, count);
  /* Who destroys the arena closes it, then looks at the bits that we have just turned. */
  if ((atomic_load_after_full(&arena->users) & ARENA_CLOSED) != 0) {
    let_go(arena, start, count);
    return SIZE_MAX;
  }
  return start;
}

/* ---- claiming ---- */

/* Make ready what has been claimed. */
static struct page *finish_claim(struct arena *arena, size_t start, size_t slice_count,
                                 bool *is_zero) {
  if (!commit_run(arena, start, slice_count)) {
    let_go(arena, start, slice_count);
    return NULL;
  }
  const size_t end = start + slice_count;
  if (bitmap_find(arena->purge, start, end, true) < end) {
    bitmap_clear_run(arena->purge, start, slice_count);
  }
  if (bitmap_find(arena->purged, start, end, true) < end) {
    const size_t purged = bitmap_clear_run(arena->purged, start, slice_count);
    stats_add(&stats.committed, purged << SLICE_SHIFT);
  }
  *is_zero = bitmap_set_run(arena->dirty, start, slice_count) == slice_count &&
             arena->setup.zero;
  atomic_max_full(&arena->top, start + slice_count);
  struct page *page = &arena->pages[start];
  if (page->arena == NULL) { /* else it was used before */
    page->free = arena_free_plane(arena, start);
    atomic_barrier_compiler(); /* the child of a fork may see it half done */
    page->arena = arena;
  }
  return page;
}

/* What is to be claimed. */
struct wanted {
  size_t count; /* slices */
  size_t alignment;
  unsigned tag;
  bool is_sealed;
};

static struct page *try_kept(struct arena *arena, const struct wanted *wanted,
                             bool *is_zero) {
  const size_t start = claim_kept(arena, wanted->count, wanted->alignment, wanted->tag);
  return start == SIZE_MAX ? NULL : finish_claim(arena, start, wanted->count, is_zero);
}

/* One try. Sets *held when what is missing may be slices that others hold for a moment. */
static struct page *try_claim(struct arena *arena, const struct wanted *wanted,
                              bool *is_zero, bool *held) {
  const uintptr_t before = atomic_load_acquire(&arena->holding);
  struct page *page = wanted->is_sealed ? try_kept(arena, wanted, is_zero) : NULL;
  if (page != NULL) return page;
  const size_t start = claim_run(arena, wanted->count, wanted->alignment);
  if (start == SIZE_MAX) {
    const uintptr_t after = atomic_load_acquire(&arena->holding);
    if (before != after || (uint32_t)after != 0) {
      *held = true;
    } else if (wanted->count == 1 && wanted->alignment <= SLICE_SIZE) {
      arena_leave_open(arena);
    }
    return NULL;
  }
  if (wanted->is_sealed) seal_run(arena, start, wanted->count, wanted->tag);
  return finish_claim(arena, start, wanted->count, is_zero);
}

bool arena_may_look_again(uint64_t *deadline) {
  const uint64_t now = os_clock_milliseconds();
  if (*deadline == 0) *deadline = now + HELD_MILLISECONDS;
  sched_yield();
  return now < *deadline;
}

struct page *arena_claim_slices(struct arena *arena, size_t slice_count, size_t alignment,
                                unsigned tag, bool *is_zero) {
  const struct wanted wanted = {slice_count, alignment, tag, tag_begin_use(tag)};
  uint64_t deadline = 0;
  for (;;) {
    bool held = false;
    struct page *page = try_claim(arena, &wanted, is_zero, &held);
    if (page != NULL || !held || !arena_may_look_again(&deadline)) return page;
  }
}

void arena_release_slices(struct page *page, size_t slice_count) {
  struct arena *arena = page->arena;
  const size_t start = page_slice_index(page);
  if (!arena->setup.pinned) arena_schedule_purge(arena, start, slice_count);
  /* Once the bits are turned, nothing of ours keeps the arena alive. */
  struct reader *section = read_begin_at_next_full();
  let_go(arena, start, slice_count);
  read_end(section);
}

/* In the child of a fork: threads that are gone held slices in which no page is. */
void arena_recover_slices(struct arena *arena) {
  const size_t limit = arena->slice_count;
  size_t i = bitmap_find(arena->used, arena->first_slice, limit, true);
  while (i < limit) {
    const struct page *page = &arena->pages[i];
    size_t count = 1;
    if (page_state_owner(atomic_load_relaxed(&page->state)) != PAGE_NONE) {
      count = page->slice_count;
    } else if (i != arena->setup.null_slice && !bitmap_get(arena->sealed, i)) {
      let_go(arena, i, 1);
    }
    i = bitmap_find(arena->used, i + count, limit, true);
  }
}

void arena_wipe_metadata(struct arena *arena) {
  if (arena->setup.metadata_inside || os_page_size() != WIPE_PAGE_SIZE) return;
  size_t limit = align_up(atomic_load_relaxed(&arena->top), WIPE_SLICES);
  if (limit > arena->slice_count) limit = align_down(arena->slice_count, WIPE_SLICES);
  arena_hold_begin(arena);
  for (size_t start = 0; start < limit;) {
    const size_t end = bitmap_find(arena->used, start, limit, true);
    const size_t count = align_down(end - start, WIPE_SLICES);
    if (count == 0 || !bitmap_claim_run(arena->used, start, count)) {
      start = align_up(end + 1, WIPE_SLICES);
      continue;
    }
    page_map_set(arena->base + (start << SLICE_SHIFT), count, NULL);
    const bool may_wipe = readers_are_gone();
    if (may_wipe) {
      os_purge(&arena->pages[start], count * sizeof(struct page), true);
      os_purge((void *)arena_free_plane(arena, start),
               count / PLANE_SLICES * PLANE_COUNT * PLANE_ALIGNMENT, true);
    }
    bitmap_clear_run(arena->used, start, count);
    arena_search_from(arena, start);
    if (!may_wipe) break;
    start += count;
  }
  arena_hold_end(arena);
}

/* ---- all arenas ---- */

bool arena_serves_unbound(const struct arena *arena) {
  return arena->setup.automatic || option_get(mi_option_disallow_arena_alloc) == 0;
}

size_t numa_node_count(void) {
  const size_t most = mi_option_get_size(mi_option_use_numa_nodes);
  const size_t count = os_numa_node_count();
  return most > 0 && most < count ? most : count;
}

static int this_node(void) { return os_numa_node() % (int)numa_node_count(); }

enum distance { NEAR, NEUTRAL, FAR, DISTANCES }; /* of an arena, in NUMA nodes */

static struct page *claim_at(enum distance distance, const struct wanted *wanted,
                             bool *is_zero, bool *held) {
  int node = -1;
  struct page *page = NULL;
  struct arena_walk walk = arena_walk_begin(ARENAS_OPEN);
  for (struct arena *arena; page == NULL && (arena = arena_walk_next(&walk)) != NULL;) {
    if (!arena_serves_unbound(arena)) continue;
    if (arena->setup.numa_node >= 0 && node < 0) node = this_node();
    const enum distance actual = arena->setup.numa_node < 0       ? NEUTRAL
                                 : arena->setup.numa_node == node ? NEAR
                                                                  : FAR;
    if (actual == distance) page = try_claim(arena, wanted, is_zero, held);
  }
  arena_walk_end(&walk);
  return page;
}

/* Slices kept for a tag: arenas that have no others free are not open. */
static struct page *claim_kept_anywhere(const struct wanted *wanted, bool *is_zero) {
  if (atomic_load_relaxed(&tags[wanted->tag].free_slices) < wanted->count) return NULL;
  struct page *page = NULL;
  struct arena_walk walk = arena_walk_begin(ARENAS_ALL);
  for (struct arena *arena; page == NULL && (arena = arena_walk_next(&walk)) != NULL;) {
    if (arena->setup.exclusive || !arena_serves_unbound(arena)) continue;
    page = try_kept(arena, wanted, is_zero);
  }
  arena_walk_end(&walk);
  return page;
}

/* From an arena that there is: the nearest first. */
static struct page *claim_from_known(const struct wanted *wanted, bool *is_zero) {
  uint64_t deadline = 0;
  for (;;) {
    bool held = false;
    struct page *page = wanted->is_sealed ? claim_kept_anywhere(wanted, is_zero) : NULL;
    for (int distance = NEAR; page == NULL && distance < DISTANCES; distance++) {
      page = claim_at(distance, wanted, is_zero, &held);
    }
    if (page != NULL || !held || !arena_may_look_again(&deadline)) return page;
  }
}

/* A thread reserves an arena that others may use too: they wait for it, a little. */
static atomic_word reserving;

/* Reserve another arena for everybody, large enough for a run of this size. */
static struct arena *arena_reserve_default(size_t size) {
  /* The more there are, the larger the next: there are ids for so many only. */
  const size_t doublings = atomic_load_relaxed(&stats.arenas.current) / ARENAS_PER_SIZE;
  const size_t least = align_up(mi_option_get_size(mi_option_arena_reserve), SLICE_SIZE);
  const size_t wanted = least << (doublings < 16 ? doublings : 16);
  const long eager = option_get(mi_option_arena_eager_commit);
  const bool large = option_get(mi_option_large_os_pages) != 0;
  const bool commit = eager == 1 || large || (eager == 2 && !os_commits_strictly());
  const struct arena_setup setup = {.committed = commit, .automatic = true};
  struct arena *arena = NULL;
  /* Where address space is short, a smaller arena serves too. */
  for (size_t next = wanted; arena == NULL && next > size && next >= 8 * SLICE_SIZE;
       next = align_up(next / 8, SLICE_SIZE)) {
    arena = arena_reserve(next, large, setup);
  }
  if (arena != NULL) return arena;
  log_warning("arena_reserve", "no %zu bytes of address space: trying %zu", wanted, size);
  return arena_reserve(size, large, setup);
}

struct page *arenas_claim_slices(size_t slice_count, size_t alignment, unsigned tag,
                                 bool may_reserve, bool *is_zero) {
  const struct wanted wanted = {slice_count, alignment, tag, tag_begin_use(tag)};
  struct page *page = claim_from_known(&wanted, is_zero);
  if (page != NULL) return page;
  if (!may_reserve || option_get(mi_option_disallow_os_alloc) != 0) return NULL;
  size_t size = slice_count << SLICE_SHIFT;
  if (alignment > SLICE_SIZE && __builtin_add_overflow(size, alignment, &size)) {
    return NULL;
  }
  uint64_t deadline = 0;
  while (!atomic_compare_and_swap_full(&reserving, 0, 1)) {
    const bool may_wait = arena_may_look_again(&deadline);
    page = claim_from_known(&wanted, is_zero);
    if (page != NULL) return page;
    if (!may_wait) break;
  }
  page = claim_from_known(&wanted, is_zero);
  struct arena *arena = page == NULL ? arena_reserve_default(size) : NULL;
  atomic_store_release(&reserving, 0);
  if (arena == NULL) return page;
  page = arena_claim_slices(arena, slice_count, alignment, tag, is_zero);
  arena_unpin(arena);
  return page;
}

void reserving_after_fork(void) { atomic_store_relaxed(&reserving, 0); }
