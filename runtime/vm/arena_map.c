/* arena_map.c - what is in an arena, slice by slice: as text and as JSON.
 *
 * Both read atomic words only, the bitmaps, the page map and the states of pages, so they
 * may run beside threads that allocate. The arena is viewed, not read in a section, since
 * the output function may call anything.
 */
#include <mirt/arena.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arena/arena.h"
#include "arena/page_map.h"
#include "base/bitmap.h"
#include "base/log.h"
#include "heap/page.h"

#define SLICES_PER_LINE 64

enum slice_state {
  SLICE_FREE,
  SLICE_COMMITTED,
  SLICE_PURGED,
  SLICE_WAITING,
  SLICE_HELD,
  SLICE_RESERVED,
  SLICE_PAGE,
  SLICE_FULL,
  SLICE_ABANDONED
};

static const struct {
  char character;
  const char *name;
} states[] = {
    [SLICE_FREE] = {'.', "free"},           [SLICE_COMMITTED] = {'-', "committed"},
    [SLICE_PURGED] = {'p', "purged"},       [SLICE_WAITING] = {'w', "waiting"},
    [SLICE_HELD] = {'h', "held"},           [SLICE_RESERVED] = {'r', "reserved"},
    [SLICE_PAGE] = {'x', "page"},           [SLICE_FULL] = {'X', "full"},
    [SLICE_ABANDONED] = {'a', "abandoned"},
};

/* A slice, or the slices of a page. */
struct map_entry {
  enum slice_state state;
  const struct page *page; /* NULL: no page is there */
};

static struct map_entry look_at_slice(const struct arena *arena, size_t slice) {
  struct map_entry seen = {SLICE_FREE, NULL};
  if (!bitmap_get(arena->used, slice)) {
    if (bitmap_get(arena->purge, slice)) {
      seen.state = SLICE_WAITING;
    } else if (bitmap_get(arena->purged, slice)) {
      seen.state = SLICE_PURGED;
    } else if (bitmap_get(arena->committed, slice)) {
      seen.state = SLICE_COMMITTED;
    }
    return seen;
  }
  seen.state = bitmap_get(arena->dirty, slice) ? SLICE_HELD : SLICE_RESERVED;
  const struct page *page = page_map_find(arena_slice_address(arena, slice));
  if (page == NULL) return seen;
  const uintptr_t state = atomic_load_acquire(&page->state);
  const uint32_t owner = page_state_owner(state);
  if (owner == PAGE_NONE || owner == PAGE_CLAIMED) return seen;
  seen.page = page;
  if (owner == PAGE_ABANDONED || owner == PAGE_VISITED) {
    seen.state = SLICE_ABANDONED;
  } else {
    const bool is_full = (state & PAGE_RESTING) != 0 && page_is_exhausted(page);
    seen.state = is_full ? SLICE_FULL : SLICE_PAGE;
  }
  return seen;
}

/* Slices that are used, and slices that have memory behind them. */
static void count_slices(const struct arena *arena, size_t *used, size_t *committed) {
  *used = *committed = 0;
  for (size_t i = 0; i < bitmap_words(arena->slice_count); i++) {
    *used += bits_count(atomic_load_relaxed(&arena->used[i]));
    *committed += bits_count(atomic_load_relaxed(&arena->committed[i]) &
                             ~atomic_load_relaxed(&arena->purged[i]));
  }
}

/* ---- text ---- */

static void print_line(const struct arena *arena, size_t first, char *line) {
  size_t length = 0;
  for (; length < SLICES_PER_LINE && first + length < arena->slice_count; length++) {
    line[length] = states[look_at_slice(arena, first + length).state].character;
  }
  line[length] = 0;
}

static void print_arena(const struct arena *arena) {
  size_t used, committed;
  count_slices(arena, &used, &committed);
  log_print(NULL, NULL,
            "arena %d: base %p, size %zu KiB, node %d%s%s, %zu slices, %zu used, "
            "%zu committed\n",
            arena->id, (void *)arena->base, arena->slice_count << (SLICE_SHIFT - 10),
            arena->setup.numa_node, arena->setup.exclusive ? ", exclusive" : "",
            arena->setup.pinned ? ", pinned" : "", arena->slice_count, used, committed);
  char lines[2][SLICES_PER_LINE + 1] = {"", ""};
  bool repeats = false;
  for (size_t i = 0; i < arena->slice_count; i += SLICES_PER_LINE) {
    const size_t number = i / SLICES_PER_LINE;
    char *line = lines[number % 2];
    print_line(arena, i, line);
    if (strcmp(line, lines[1 - number % 2]) != 0) {
      log_print(NULL, NULL, "%10zu |%s|\n", i, line);
      repeats = false;
    } else if (!repeats) {
      log_print(NULL, NULL, "%10s\n", "*");
      repeats = true;
    }
  }
}

void mi_debug_show_arenas(void) {
  log_print(NULL, NULL,
            "arenas, one character per slice of 64 KiB, * for lines that repeat:\n"
            "  x open page  X full page or large block  a abandoned page\n"
            "  r reserved for records  h held for a moment\n"
            "  w free, waits for purge  p free, purged  - free, committed  . free\n");
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    struct arena *arena = arena_view_begin(id);
    if (arena == NULL) continue;
    print_arena(arena);
    arena_view_end(arena);
  }
}

void mi_arenas_print(void) { mi_debug_show_arenas(); }

/* ---- JSON ---- */

static const char *json_bool(bool value) { return value ? "true" : "false"; }

static void write_runs(const struct arena *arena, mi_output_fun *out, void *arg) {
  const char *separator = "";
  struct map_entry next = look_at_slice(arena, 0);
  for (size_t first = 0, end; first < arena->slice_count; first = end) {
    const struct map_entry run = next;
    for (end = first + 1; end < arena->slice_count; end++) {
      next = look_at_slice(arena, end);
      if (next.page != run.page) break;
      if (run.page == NULL && next.state != run.state) break;
    }
    log_print(out, arg, "%s{\"slice\": %zu, \"count\": %zu, \"state\": \"%s\"", separator,
              first, end - first, states[run.state].name);
    if (run.page != NULL) {
      const uintptr_t kind = atomic_load_relaxed(&run.page->kind);
      log_print(out, arg, ", \"tag\": %u, \"block_size\": %zu", page_kind_tag(kind),
                page_kind_block_size(kind));
    }
    log_print(out, arg, "}");
    separator = ", ";
  }
}

static void write_arena(const struct arena *arena, mi_output_fun *out, void *arg) {
  size_t used, committed;
  count_slices(arena, &used, &committed);
  log_print(out, arg,
            "{\"id\": %d, \"base\": \"0x%" PRIxPTR "\", \"size\": %zu, \"slices\": %zu, "
            "\"exclusive\": %s, \"pinned\": %s, \"numa_node\": %d, \"used\": %zu, "
            "\"committed\": %zu, \"runs\": [",
            arena->id, arena->base, arena_size(arena), arena->slice_count,
            json_bool(arena->setup.exclusive), json_bool(arena->setup.pinned),
            arena->setup.numa_node, used, committed);
  write_runs(arena, out, arg);
  log_print(out, arg, "]}");
}

int mirt_arena_map(mi_arena_id_t arena_id, mi_output_fun *out, void *arg) {
  struct arena *arena = arena_id == 0 ? NULL : arena_view_begin(arena_id);
  if (arena_id != 0 && arena == NULL) {
    log_error(EINVAL, "mirt_arena_map", "there is no arena %d", arena_id);
    return EINVAL;
  }
  log_print(out, arg, "{\"slice_size\": %zu, \"arenas\": [", SLICE_SIZE);
  const char *separator = "";
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    if (arena_id == 0) arena = arena_view_begin(id);
    if (arena == NULL || arena->id != id) continue;
    log_print(out, arg, "%s", separator);
    write_arena(arena, out, arg);
    arena_view_end(arena);
    arena = NULL;
    separator = ", ";
  }
  log_print(out, arg, "]}\n");
  return 0;
}
