#include <mirt/arena.h>

#include <errno.h>

#include "arena/arena.h"
#include "base/log.h"
#include "heap/collect.h"
#include "heap/epoch.h"
#include "heap/heap.h"

static int destroy_fails(int code, const char *why, mi_arena_id_t arena_id) {
  log_error(code, "mirt_arena_destroy", "arena %d: %s", arena_id, why);
  return code;
}

int mirt_arena_destroy(mi_arena_id_t arena_id) {
  struct arena *arena = arena_view_begin(arena_id);
  if (arena == NULL) return destroy_fails(EINVAL, "there is none", arena_id);
  const bool has_owner = arena->setup.has_owner;
  arena_view_end(arena);
  if (has_owner)
    return destroy_fails(EINVAL, "it ends with its cage or runtime", arena_id);
  int error = arena_destroy(arena_id, false);
  if (error == EBUSY) {
    /* It may be this thread that keeps pages there for its next allocations. */
    mi_heap_t *heap = current.owner != NULL ? current.owner->heaps : NULL;
    for (; heap != NULL; heap = heap->next) heap_collect(heap, true);
    limbo_collect();
    error = arena_destroy(arena_id, false);
  }
  if (error == EBUSY) return destroy_fails(EBUSY, "a heap or a page is in it", arena_id);
  if (error != 0) return destroy_fails(error, "there is none", arena_id);
  return 0;
}
