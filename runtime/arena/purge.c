/* purge.c - giving the memory of free slices back to the system.
 *
 * Slices that become free wait in `purge` until the arena's purge is due; then whichever
 * thread passes by claims them like any allocation would, purges runs of them, and gives
 * them back. So a purge never meets a slice that is in use, and needs no lock.
 *
 * A round takes only those that waited already when the round before ended: they have been
 * free for the whole delay. What a program frees and takes up again all the time stays.
 */
#include <errno.h>

#include "arena/arena.h"
#include "base/bitmap.h"
#include "base/log.h"
#include "base/option.h"
#include "base/stats.h"
#include "os/os.h"

#define WAIT_MAX ((uint64_t)1 << 40) /* milliseconds: for ever */

/* The earliest purge_at of all arenas, or earlier; 0 when nothing waits. */
static atomic_word purge_due;

/* Returns how many bytes the system refused to take. */
static size_t purge_slices(struct arena *arena, size_t start, size_t count) {
  char *p = arena_slice_address(arena, start);
  const size_t size = count << SLICE_SHIFT;
  const bool discard = option_get(mi_option_purge_decommits) != 0;
  if (!os_purge(p, size, discard)) return size;
  atomic_fetch_add_full(&stats.purged, size);
  if (discard && arena->setup.ours) bitmap_clear_run(arena->dirty, start, count);
  size_t changed = 0;
  for (size_t slice = start; slice < start + count; slice++) {
    if (bitmap_get(arena->committed, slice)) {
      changed += bitmap_set_run(arena->purged, slice, 1);
    }
  }
  stats_subtract(&stats.committed, changed << SLICE_SHIFT);
  return 0;
}

/* Not from inside a read section, since the user hears of it. */
static void report_refused(size_t bytes) {
  if (bytes != 0) log_failure(ENOMEM, "purge", "the system kept %zu bytes", bytes);
}

static void arena_set_purge_time(struct arena *arena) {
  const long delay = option_get(mi_option_purge_delay);
  const long times = option_get(mi_option_arena_purge_mult);
  /* The bits are set; a purger takes the time away and then looks at the bits. */
  if (delay < 0 || atomic_load_after_full(&arena->purge_at) != 0) return;
  uint64_t wait;
  if (__builtin_mul_overflow((uint64_t)delay, times > 0 ? (uint64_t)times : 1, &wait) ||
      wait > WAIT_MAX) {
    wait = WAIT_MAX;
  }
  /* In steps, so that arenas in their thousands come due together. */
  const uint64_t step = wait / 8 + 1;
  const uint64_t due = (os_clock_milliseconds() + wait + step - 1) / step * step;
  if (!atomic_compare_and_swap_full(&arena->purge_at, 0, due)) return;
  arena_set_add(ARENAS_TO_PURGE, arena);
  atomic_compare_and_swap_full(&purge_due, 0, due);
}

void arena_schedule_purge(struct arena *arena, size_t start, size_t count) {
  const long delay = option_get(mi_option_purge_delay);
  if (delay < 0) return;
  if (delay == 0) {
    report_refused(purge_slices(arena, start, count));
    return;
  }
  if (bitmap_find(arena->aged, start, start + count, true) < start + count) {
    bitmap_clear_run(arena->aged, start, count);
  }
  bitmap_set_run(arena->purge, start, count);
  arena_set_purge_time(arena);
}

/* What a purge has done, and may do still. */
struct purge {
  bool force;     /* also those that have not waited long */
  size_t most;    /* slices it may go on to purge */
  size_t refused; /* bytes that the system did not take */
};

/* Purge the slices of one word of the bitmap that are free and wait for it. */
static void purge_word(struct arena *arena, size_t word, struct purge *purge) {
  uint64_t waiting = atomic_load_relaxed(&arena->purge[word]);
  if (!purge->force) waiting &= atomic_load_relaxed(&arena->aged[word]);
  if (waiting == 0) return;
  if (bits_count(waiting) > purge->most) {
    waiting &= bits_below(bits_lowest(waiting) + purge->most);
  }
  const uint64_t open = waiting & ~atomic_fetch_or_full(&arena->used[word], waiting);
  const uint64_t kept = waiting & atomic_fetch_and_full(&arena->sealed[word], ~waiting);
  const uint64_t ours = open | kept;
  if (ours == 0) return;
  /* One that was taken and given back in between waits for the next purge. */
  uint64_t left = ours & atomic_fetch_and_full(&arena->purge[word], ~ours);
  while (left != 0) {
    const size_t offset = bits_lowest(left);
    const uint64_t rest = ~(left >> offset);
    const size_t count = rest == 0 ? WORD_BITS : bits_lowest(rest);
    purge->refused += purge_slices(arena, word * WORD_BITS + offset, count);
    purge->most -= count < purge->most ? count : purge->most;
    left &= ~(bits_below(count) << offset);
  }
  atomic_fetch_or_full(&arena->sealed[word], kept);
  if (open != 0) {
    atomic_fetch_and_full(&arena->used[word], ~open);
    arena_search_from(arena, word * WORD_BITS + bits_lowest(open));
  }
}

/* A round is over: what waits has waited for a round. Returns whether anything does. A slice that
 * is taken and given back meanwhile may count as older than it is, by less than a round. */
static bool age(struct arena *arena) {
  uintptr_t any = 0;
  const size_t words = bitmap_words(atomic_load_relaxed(&arena->top));
  for (size_t word = 0; word < words; word++) {
    const uintptr_t waiting = atomic_load_relaxed(&arena->purge[word]);
    if (atomic_load_relaxed(&arena->aged[word]) != waiting) {
      atomic_store_relaxed(&arena->aged[word], waiting);
    }
    any |= waiting;
  }
  return any != 0;
}

static void purge_arena(struct arena *arena, struct purge *purge) {
  const bool force = purge->force;
  const uintptr_t due = atomic_load_relaxed(&arena->purge_at);
  if (!force && (due == 0 || os_clock_milliseconds() < due)) return;
  /* From here on newly freed slices set a new time. */
  if (due != 0 && !atomic_compare_and_swap_full(&arena->purge_at, due, 0) && !force)
    return;
  arena_set_remove(ARENAS_TO_PURGE, arena);
  if (atomic_load_acquire(&arena->purge_at) != 0) arena_set_add(ARENAS_TO_PURGE, arena);
  arena_hold_begin(arena);
  const size_t words = bitmap_words(atomic_load_relaxed(&arena->top));
  size_t word = force ? 0 : atomic_load_relaxed(&arena->purge_hand);
  for (; word < words && purge->most > 0; word++) purge_word(arena, word, purge);
  arena_hold_end(arena);
  const bool is_done = purge->most > 0;
  atomic_store_relaxed(&arena->purge_hand, is_done ? 0 : word - 1);
  if (!is_done) {
    /* The rest is due, for whoever passes by next. */
    if (atomic_compare_and_swap_full(&arena->purge_at, 0, 1)) {
      arena_set_add(ARENAS_TO_PURGE, arena);
    }
  } else if (age(arena)) {
    arena_set_purge_time(arena);
  }
}

/* In the child of a fork: somebody may have been purging. Look at all arenas at once. */
void purge_after_fork(void) {
  struct arena_walk walk = arena_walk_begin(ARENAS_TO_PURGE);
  for (struct arena *arena; (arena = arena_walk_next(&walk)) != NULL;) {
    atomic_store_relaxed(&arena->purge_at, 1);
  }
  arena_walk_end(&walk);
  atomic_store_relaxed(&purge_due, 1);
}

static void wipe_all(void) {
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    struct arena *arena = arena_view_begin(id);
    if (arena == NULL) continue;
    arena_wipe_metadata(arena);
    arena_view_end(arena);
  }
}

void arenas_purge(bool force, size_t most) {
  const uintptr_t due = atomic_load_relaxed(&purge_due);
  if (!force && (due == 0 || os_clock_milliseconds() < due)) return;
  if (due != 0 && !atomic_compare_and_swap_full(&purge_due, due, 0) && !force) return;
  uintptr_t next = 0;
  struct purge purge = {.force = force, .most = most};
  struct arena_walk walk = arena_walk_begin(ARENAS_TO_PURGE);
  for (struct arena *arena; purge.most > 0 && (arena = arena_walk_next(&walk)) != NULL;) {
    purge_arena(arena, &purge);
    const uintptr_t later = atomic_load_relaxed(&arena->purge_at);
    if (later != 0 && (next == 0 || later < next)) next = later;
  }
  arena_walk_end(&walk);
  if (purge.most == 0) next = 1; /* there may be more, and it is due */
  report_refused(purge.refused);
  if (next != 0) atomic_compare_and_swap_full(&purge_due, 0, next);
  if (force) wipe_all();
}
