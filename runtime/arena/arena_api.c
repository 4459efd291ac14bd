/* arena_api.c - the arena functions of mimalloc.h, as far as they need no heap. */
#include <errno.h>
#include <string.h>

#include "arena/arena.h"
#include "base/bitmap.h"
#include "base/log.h"
#include "base/option.h"
#include "os/os.h"

#define HUGE_PAGE_SIZE GiB

size_t mi_arena_min_alignment(void) { return SLICE_SIZE; }

size_t mi_arena_min_size(void) { return 4 * SLICE_SIZE; }

void *mi_arena_area(mi_arena_id_t arena_id, size_t *size) {
  const struct arena *arena = arena_of_id(arena_id);
  if (size != NULL) *size = arena == NULL ? 0 : arena->slice_count << SLICE_SHIFT;
  return arena == NULL ? NULL : (void *)arena->base;
}

bool mi_arena_contains(mi_arena_id_t arena_id, const void *p) {
  const struct arena *arena = arena_of_id(arena_id);
  return arena != NULL && (uintptr_t)p - arena->base < arena->slice_count << SLICE_SHIFT;
}

/* ---- reserving ---- */

int mi_reserve_os_memory_ex(size_t size, bool commit, bool allow_large, bool exclusive,
                            mi_arena_id_t *arena_id) {
  if (arena_id != NULL) *arena_id = 0;
  if (size == 0 || size > PTRDIFF_MAX - SLICE_SIZE) {
    log_error(EINVAL, "mi_reserve_os_memory_ex", "size %zu is out of range", size);
    return EINVAL;
  }
  const struct arena_request request = {align_up(size, SLICE_SIZE), commit, allow_large,
                                        exclusive, false};
  const struct arena *arena = arena_reserve(&request);
  if (arena == NULL) {
    log_error(ENOMEM, "mi_reserve_os_memory_ex", "cannot reserve %zu bytes", size);
    return ENOMEM;
  }
  if (arena_id != NULL) *arena_id = arena->id;
  return 0;
}

int mi_reserve_os_memory(size_t size, bool commit, bool allow_large) {
  return mi_reserve_os_memory_ex(size, commit, allow_large, false, NULL);
}

int mi_reserve_huge_os_pages_at_ex(size_t pages, int numa_node, size_t timeout_msecs,
                                   bool exclusive, mi_arena_id_t *arena_id) {
  (void)timeout_msecs; /* one system call: there is nothing to stop half-way */
  if (arena_id != NULL) *arena_id = 0;
  if (pages == 0) return 0;
  if (pages > PTRDIFF_MAX / HUGE_PAGE_SIZE) {
    log_error(EINVAL, "mi_reserve_huge_os_pages_at_ex", "%zu pages is out of range",
              pages);
    return EINVAL;
  }
  const size_t size = pages * HUGE_PAGE_SIZE;
  void *base = os_reserve_huge(size, numa_node);
  struct arena *arena = NULL;
  if (base != NULL) {
    const struct arena_setup setup = {.base = base,
                                      .slice_count = size >> SLICE_SHIFT,
                                      .reservation = base,
                                      .reservation_size = size,
                                      .committed = true,
                                      .pinned = true,
                                      .zero = true,
                                      .ours = true,
                                      .exclusive = exclusive,
                                      .numa_node = numa_node,
                                      .null_slice = SIZE_MAX};
    arena = arena_create(&setup);
    if (arena == NULL) os_release(base, size);
  }
  if (arena == NULL) {
    log_error(ENOMEM, "mi_reserve_huge_os_pages_at_ex",
              "the system has no %zu huge pages of 1 GiB", pages);
    return ENOMEM;
  }
  if (arena_id != NULL) *arena_id = arena->id;
  return 0;
}

int mi_reserve_huge_os_pages_at(size_t pages, int numa_node, size_t timeout_msecs) {
  return mi_reserve_huge_os_pages_at_ex(pages, numa_node, timeout_msecs, false, NULL);
}

int mi_reserve_huge_os_pages_interleave(size_t pages, size_t numa_nodes,
                                        size_t timeout_msecs) {
  if (pages == 0) return 0;
  const size_t nodes = numa_nodes != 0 ? numa_nodes : os_numa_node_count();
  for (size_t node = 0; node < nodes; node++) {
    const size_t share = pages / nodes + (node < pages % nodes ? 1 : 0);
    const int error =
        mi_reserve_huge_os_pages_at(share, (int)node, timeout_msecs / nodes);
    if (error != 0) return error;
  }
  return 0;
}

int mi_reserve_huge_os_pages(size_t pages, double max_secs, size_t *pages_reserved) {
  const size_t milliseconds = max_secs > 0 ? (size_t)(max_secs * 1000) : 0;
  const int error = mi_reserve_huge_os_pages_interleave(pages, 0, milliseconds);
  if (pages_reserved != NULL) *pages_reserved = error == 0 ? pages : 0;
  return error;
}

/* ---- managing ---- */

static bool manage_fails(const char *why, const void *start, size_t size) {
  log_error(EINVAL, "mi_manage_os_memory_ex", "%s: start %p, size %zu", why, start, size);
  return false;
}

/* Does the area share an address with a known arena? */
static bool overlaps_arena(uintptr_t base, size_t size) {
  bool overlaps = false;
  struct arena_walk walk = arena_walk_begin();
  for (struct arena *arena; !overlaps && (arena = arena_walk_next(&walk)) != NULL;) {
    overlaps = base < arena->base + (arena->slice_count << SLICE_SHIFT) &&
               arena->base < base + size;
  }
  arena_walk_end(&walk);
  return overlaps;
}

bool mi_manage_os_memory_ex(void *start, size_t size, bool is_committed, bool is_large,
                            bool is_zero, int numa_node, bool exclusive,
                            mi_arena_id_t *arena_id) {
  if (arena_id != NULL) *arena_id = 0;
  const uintptr_t first = (uintptr_t)start;
  uintptr_t end;
  if (start == NULL) return manage_fails("no area", start, size);
  if (__builtin_add_overflow(first, size, &end) || end > UINTPTR_MAX - SLICE_SIZE) {
    return manage_fails("the area wraps round", start, size);
  }
  const uintptr_t base = align_up(first, SLICE_SIZE);
  end = align_down(end, SLICE_SIZE);
  if (size < mi_arena_min_size()) {
    return manage_fails("the area is too small", start, size);
  }
  if (overlaps_arena(base, end - base)) {
    return manage_fails("the area overlaps an arena", start, size);
  }
  const struct arena_setup setup = {.base = (void *)base,
                                    .slice_count = (end - base) >> SLICE_SHIFT,
                                    .committed = is_committed || is_large,
                                    .pinned = is_large,
                                    .zero = is_zero,
                                    .metadata_inside = true,
                                    .exclusive = exclusive,
                                    .numa_node = numa_node,
                                    .null_slice = SIZE_MAX};
  const struct arena *arena = arena_create(&setup);
  if (arena == NULL) return manage_fails("no room for the arena's records", start, size);
  if (arena_id != NULL) *arena_id = arena->id;
  return true;
}

bool mi_manage_os_memory(void *start, size_t size, bool is_committed, bool is_large,
                         bool is_zero, int numa_node) {
  return mi_manage_os_memory_ex(start, size, is_committed, is_large, is_zero, numa_node,
                                false, NULL);
}

/* ---- showing ---- */

#define SLICES_PER_LINE 64

static char slice_character(const struct arena *arena, size_t slice) {
  if (bitmap_get(arena->used, slice)) {
    return bitmap_get(arena->abandoned, slice) ? 'a' : 'x';
  }
  if (bitmap_get(arena->purge, slice)) return 'p';
  return bitmap_get(arena->committed, slice) ? '.' : ' ';
}

static size_t bits_set(const atomic_word *map, size_t bits) {
  size_t count = 0;
  for (size_t i = 0; i < bitmap_words(bits); i++) {
    count += (size_t)__builtin_popcountll(atomic_load_relaxed(&map[i]));
  }
  return count;
}

static void arena_print(const struct arena *arena) {
  log_print(NULL, NULL, "arena %d: base %p, %zu slices, %zu used, %zu committed%s%s\n",
            arena->id, (void *)arena->base, arena->slice_count,
            bits_set(arena->used, arena->slice_count),
            bits_set(arena->committed, arena->slice_count),
            arena->exclusive ? ", exclusive" : "", arena->pinned ? ", pinned" : "");
  for (size_t i = 0; i < arena->slice_count; i += SLICES_PER_LINE) {
    char line[SLICES_PER_LINE + 1];
    size_t length = 0;
    bool any = false;
    for (; length < SLICES_PER_LINE && i + length < arena->slice_count; length++) {
      line[length] = slice_character(arena, i + length);
      any = any || line[length] == 'x' || line[length] == 'a' || line[length] == 'p';
    }
    line[length] = 0;
    if (any) log_print(NULL, NULL, "  %8zu  |%s|\n", i, line);
  }
}

void mi_debug_show_arenas(void) {
  log_print(NULL, NULL,
            "x used, a abandoned, p waits for purge, . free and committed, blank not "
            "committed; lines without a used slice are left out\n");
  /* By id, not by a walk: the output function may call anything. */
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    const struct arena *arena = arena_of_id(id);
    if (arena != NULL) arena_print(arena);
  }
}

void mi_arenas_print(void) { mi_debug_show_arenas(); }
