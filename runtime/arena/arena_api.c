/* arena_api.c - the arena functions of mimalloc.h, as far as they need no heap. */
#include <errno.h>

#include "arena/arena.h"
#include "arena/page_map.h"
#include "base/log.h"
#include "os/os.h"

#define HUGE_PAGE_SIZE GiB

size_t mi_arena_min_alignment(void) { return SLICE_SIZE; }

size_t mi_arena_min_size(void) { return 4 * SLICE_SIZE; }

void *mi_arena_area(mi_arena_id_t arena_id, size_t *size) {
  const struct arena *arena = arena_of_id(arena_id);
  if (size != NULL) *size = arena == NULL ? 0 : arena_size(arena);
  return arena == NULL ? NULL : (void *)arena->base;
}

bool mi_arena_contains(mi_arena_id_t arena_id, const void *p) {
  const struct arena *arena = arena_of_id(arena_id);
  return arena != NULL && (uintptr_t)p - arena->base < arena_size(arena);
}

/* ---- reserving ---- */

/* Tell the caller the id of a new arena, and let go of it. */
static void hand_out(struct arena *arena, mi_arena_id_t *arena_id) {
  if (arena_id != NULL) *arena_id = arena->id;
  arena_unpin(arena);
}

int mi_reserve_os_memory_ex(size_t size, bool commit, bool allow_large, bool exclusive,
                            mi_arena_id_t *arena_id) {
  if (arena_id != NULL) *arena_id = 0;
  if (size == 0 || size > PTRDIFF_MAX - HUGE_PAGE_SIZE) {
    log_error(EINVAL, "mi_reserve_os_memory_ex", "size %zu is out of range", size);
    return EINVAL;
  }
  const struct arena_setup setup = {.committed = commit, .exclusive = exclusive};
  struct arena *arena = arena_reserve(align_up(size, SLICE_SIZE), allow_large, setup);
  if (arena == NULL) {
    log_error(ENOMEM, "mi_reserve_os_memory_ex", "cannot reserve %zu bytes", size);
    return ENOMEM;
  }
  hand_out(arena, arena_id);
  return 0;
}

int mi_reserve_os_memory(size_t size, bool commit, bool allow_large) {
  return mi_reserve_os_memory_ex(size, commit, allow_large, false, NULL);
}

/* ---- huge pages ---- */

/* Huge pages that one call wants, on one node after the other. */
struct huge_request {
  const char *function;
  size_t wanted, done; /* pages */
  uint64_t began;      /* clock milliseconds */
  size_t timeout;      /* milliseconds; 0: none */
  int bind_error;
};

/* Is the time over, or will it be by far? */
static bool huge_timed_out(const struct huge_request *request) {
  if (request->timeout == 0 || request->done == 0) return false;
  const uint64_t elapsed = os_clock_milliseconds() - request->began;
  const uint64_t estimate = elapsed * request->wanted / request->done;
  return elapsed >= request->timeout || estimate - estimate / 3 > request->timeout;
}

/* Put huge pages over reserved addresses from base on. Returns how many, and -1 for the
 * node if not all of them are on it. */
static size_t huge_map(struct huge_request *request, char *base, size_t pages, int *node,
                       int *error) {
  const int wanted_node = *node;
  for (size_t i = 0; i < pages; i++) {
    int bind_error;
    *error = huge_timed_out(request)
                 ? ETIMEDOUT
                 : os_map_huge_page(base + i * HUGE_PAGE_SIZE, wanted_node, &bind_error);
    if (*error != 0) return i;
    if (bind_error != 0) {
      request->bind_error = bind_error;
      *node = -1;
    }
    request->done++;
  }
  return pages;
}

/* Reserve the pages of one node as an arena. Returns 0 or why there are fewer. */
static int huge_reserve(struct huge_request *request, size_t pages, int node,
                        bool exclusive, mi_arena_id_t *arena_id) {
  const size_t size = pages * HUGE_PAGE_SIZE;
  char *base = os_reserve(size, HUGE_PAGE_SIZE, false);
  if (base == NULL) return ENOMEM;
  int error = 0;
  const size_t got = huge_map(request, base, pages, &node, &error) * HUGE_PAGE_SIZE;
  os_release(base + got, size - got);
  if (got == 0) return error;
  const struct arena_setup setup = {.base = base,
                                    .slice_count = got >> SLICE_SHIFT,
                                    .reservation = base,
                                    .reservation_size = got,
                                    .committed = true,
                                    .pinned = true,
                                    .zero = true,
                                    .ours = true,
                                    .exclusive = exclusive,
                                    .numa_node = node,
                                    .null_slice = SIZE_MAX};
  struct arena *arena = arena_create(&setup);
  if (arena == NULL) {
    os_release(base, got);
    request->done -= got / HUGE_PAGE_SIZE;
    return ENOMEM;
  }
  hand_out(arena, arena_id);
  return error;
}

static struct huge_request huge_begin(const char *function, size_t pages,
                                      size_t timeout_msecs) {
  return (struct huge_request){function,      pages, 0, os_clock_milliseconds(),
                               timeout_msecs, 0};
}

/* Report what went wrong, and return it. */
static int huge_end(const struct huge_request *request, int error) {
  if (request->bind_error != 0) {
    log_failure(request->bind_error, request->function,
                "the system does not bind huge pages to their node");
  }
  if (error != 0) {
    log_error(error, request->function, "%s after %zu of %zu huge pages of 1 GiB",
              error == ETIMEDOUT ? "timed out" : "no more", request->done,
              request->wanted);
  }
  return error;
}

static int huge_too_many(const char *function, size_t pages) {
  log_error(EINVAL, function, "%zu pages is out of range", pages);
  return EINVAL;
}

int mi_reserve_huge_os_pages_at_ex(size_t pages, int numa_node, size_t timeout_msecs,
                                   bool exclusive, mi_arena_id_t *arena_id) {
  static const char function[] = "mi_reserve_huge_os_pages_at_ex";
  if (arena_id != NULL) *arena_id = 0;
  if (pages == 0) return 0;
  if (pages > PTRDIFF_MAX / HUGE_PAGE_SIZE) return huge_too_many(function, pages);
  struct huge_request request = huge_begin(function, pages, timeout_msecs);
  return huge_end(&request, huge_reserve(&request, pages, numa_node < 0 ? -1 : numa_node,
                                         exclusive, arena_id));
}

int mi_reserve_huge_os_pages_at(size_t pages, int numa_node, size_t timeout_msecs) {
  return mi_reserve_huge_os_pages_at_ex(pages, numa_node, timeout_msecs, false, NULL);
}

static int huge_interleave(size_t pages, size_t nodes, size_t timeout_msecs,
                           size_t *reserved) {
  static const char function[] = "mi_reserve_huge_os_pages_interleave";
  *reserved = 0;
  if (pages > PTRDIFF_MAX / HUGE_PAGE_SIZE) return huge_too_many(function, pages);
  if (nodes == 0) nodes = numa_node_count();
  struct huge_request request = huge_begin(function, pages, timeout_msecs);
  int error = 0;
  for (size_t node = 0; node < nodes && error == 0; node++) {
    const size_t share = pages / nodes + (node < pages % nodes ? 1 : 0);
    if (share == 0) break;
    error = huge_reserve(&request, share, (int)node, false, NULL);
  }
  *reserved = request.done;
  return huge_end(&request, error);
}

int mi_reserve_huge_os_pages_interleave(size_t pages, size_t numa_nodes,
                                        size_t timeout_msecs) {
  size_t reserved;
  return huge_interleave(pages, numa_nodes, timeout_msecs, &reserved);
}

int mi_reserve_huge_os_pages(size_t pages, double max_secs, size_t *pages_reserved) {
  size_t milliseconds = 0;
  if (max_secs > 0) {
    milliseconds = max_secs < 1e12 ? (size_t)(max_secs * 1000) : SIZE_MAX;
    if (milliseconds == 0) milliseconds = 1; /* a limit, if a short one */
  }
  size_t reserved;
  const int error = huge_interleave(pages, 0, milliseconds, &reserved);
  if (pages_reserved != NULL) *pages_reserved = reserved;
  return error;
}

/* ---- managing ---- */

static bool manage_fails(int code, const char *why, const void *start, size_t size) {
  log_error(code, "mi_manage_os_memory_ex", "%s: start %p, size %zu", why, start, size);
  return false;
}

/* The whole slices of the area, or why it cannot be an arena. */
static const char *manage_trim(const void *start, size_t size,
                               struct arena_setup *setup) {
  const uintptr_t first = (uintptr_t)start;
  uintptr_t end;
  if (start == NULL) return "no area";
  if (__builtin_add_overflow(first, size, &end) || end >> ADDRESS_BITS != 0) {
    return "the area ends beyond the address space";
  }
  const uintptr_t base = align_up(first, SLICE_SIZE);
  end = align_down(end, SLICE_SIZE);
  setup->base = (void *)base;
  setup->slice_count = end > base ? (end - base) >> SLICE_SHIFT : 0;
  const bool has_room = setup->slice_count > arena_metadata_slices(setup->slice_count);
  return size >= mi_arena_min_size() && has_room ? NULL : "the area is too small";
}

bool mi_manage_os_memory_ex(void *start, size_t size, bool is_committed, bool is_large,
                            bool is_zero, int numa_node, bool exclusive,
                            mi_arena_id_t *arena_id) {
  if (arena_id != NULL) *arena_id = 0;
  struct arena_setup setup = {.committed = is_committed || is_large,
                              .pinned = is_large,
                              .zero = is_zero,
                              .metadata_inside = true,
                              .exclusive = exclusive,
                              .numa_node = numa_node < 0 ? -1 : numa_node,
                              .null_slice = SIZE_MAX};
  const char *why = manage_trim(start, size, &setup);
  if (why != NULL) return manage_fails(EINVAL, why, start, size);
  struct arena *arena;
  const int error = arena_create_over(&setup, &arena);
  if (error != 0) {
    why = error == EINVAL ? "the area overlaps an arena or a block"
                          : "no memory for the arena's records";
    return manage_fails(error, why, start, size);
  }
  hand_out(arena, arena_id);
  return true;
}

bool mi_manage_os_memory(void *start, size_t size, bool is_committed, bool is_large,
                         bool is_zero, int numa_node) {
  return mi_manage_os_memory_ex(start, size, is_committed, is_large, is_zero, numa_node,
                                false, NULL);
}
