#include <mirt/new.h>

#include <errno.h>

#include "arena/tag.h"
#include "base/log.h"
#include "base/option.h"
#include "heap/alloc.h"
#include "heap/collect.h"
#include "heap/page.h"
#include "vm/gc.h"
#include "vm/runtime.h"

_Static_assert(offsetof(mirt_cell_t, word) == offsetof(struct cell, word) &&
                   offsetof(mirt_cell_t, group) == offsetof(struct cell, group) &&
                   offsetof(mirt_cell_t, block_size) == offsetof(struct cell, block_size),
               "what is published of a cell");

static void *fails(int code, const mirt_type_t *type, const char *why) {
  log_error(code, "mirt_new", "type \"%s\": %s", type->name, why);
  return NULL;
}

static void *size_fails(const mirt_type_t *type, size_t size, const char *bound) {
  log_error(EINVAL, "mirt_new_sized", "type \"%s\": %zu bytes, but %s %zu", type->name,
            size, bound, type->size);
  return NULL;
}

/* A mutator's heap for a type: its cell is one of that heap. */
static bool cell_begin(mirt_mutator_t *mutator, const mirt_type_t *type,
                       struct cell *cell) {
  struct arena *arena = arena_pin(mutator->runtime->arena->id);
  if (arena == NULL) return false;
  mi_heap_t *heap = heap_create(mutator->owner, (unsigned)type->tag, false, arena);
  if (heap == NULL) {
    arena_unpin(arena);
    return false;
  }
  heap->guarded.rate = 0;
  if (type->block_size != 0 && type->block_size <= CLASS_SIZE_MAX) {
    cell_initialize(cell, heap, type->block_size, 0);
    heap->cells[class_of_size(type->block_size)] = cell;
  } else {
    cell->heap = heap; /* each object from one of the heap's own cells */
  }
  return true;
}

/* The cell of a type in a mutator that may be used, by this thread; NULL if not. */
static struct cell *cell_ready(mirt_mutator_t *mutator, const mirt_type_t *type) {
  if (unlikely(mutator->owner != current.owner)) {
    fails(EPERM, type, "the mutator is not bound to this thread");
    return NULL;
  }
  if (unlikely(mutator->runtime != type->runtime)) {
    fails(EINVAL, type, "the mutator is of another runtime");
    return NULL;
  }
  if (unlikely(gc_is_running(type->runtime))) {
    fails(EBUSY, type, "a collection runs");
    return NULL;
  }
  struct cell *cell = mutator_cell(mutator, type);
  if (likely(cell->heap != NULL)) return cell;
  if (!cell_begin(mutator, type, cell)) {
    fails(ENOMEM, type, "no memory for the heap's record");
    return NULL;
  }
  return cell;
}

/* An object from a cell of its own size, whose word is 0. */
static void *refill(struct cell *cell, const mirt_type_t *type) {
  mirt_runtime_t *runtime = type->runtime;
  if (!budget_admits(runtime, type, cell->block_size)) {
    return fails(ENOMEM, type, "the hard limit is reached");
  }
  if (cell->word == 0) { /* else the callback has allocated */
    bool is_zero;
    void *object = cell_refill(cell, &is_zero);
    if (object == NULL && option_get(mi_option_retry_on_oom) != 0) {
      owner_collect(cell->heap->owner, true); /* there may be empty pages of other types */
      object = cell_refill(cell, &is_zero);
    }
    if (object == NULL) return fails(ENOMEM, type, "no memory");
    if (unlikely(runtime->calls_always)) cell_return_word(cell); /* be asked again */
    const size_t taken = bits_count(cell->word) + 1;
    budget_take(runtime, taken * cell->block_size);
    return object;
  }
  return cell_take(cell);
}

/* An object from one of the heap's cells. */
static void *allocate(struct cell *cell, const mirt_type_t *type, size_t size,
                      bool zero) {
  const size_t alignment = type_of(type)->alignment;
  const size_t block_size = align_up(mi_good_size(size), alignment);
  if (!budget_admits(type->runtime, type, block_size)) {
    return fails(ENOMEM, type, "the hard limit is reached");
  }
  void *object = heap_allocate_aligned(cell->heap, size, alignment, zero);
  if (object != NULL) budget_take(type->runtime, block_usable_size(object));
  return object;
}

__attribute__((noinline)) void *mirt_new_slow(mirt_mutator_t *mutator,
                                              const mirt_type_t *type) {
  if (type->block_size == 0) return fails(EINVAL, type, "its objects differ in size");
  struct cell *cell = cell_ready(mutator, type);
  if (cell == NULL) return NULL;
  return cell->block_size != 0 ? refill(cell, type)
                               : allocate(cell, type, type->block_size, false);
}

/* The same of an object whose size is its own. */
static void clear_slack(const mirt_type_t *type, char *object, size_t size) {
  if (!type_of(type)->is_array) return;
  const size_t usable = block_usable_size(object);
  if (usable > size) memset(object + size, 0, usable - size);
}

static void *new_sized(mirt_mutator_t *mutator, const mirt_type_t *type, size_t size,
                       bool zero) {
  if (type->block_size != 0) {
    if (size > type->size) return size_fails(type, size, "at most");
    char *object = mirt_new(mutator, type);
    if (object == NULL) return NULL;
    /* What a collection would take for slots, behind what the program fills in. */
    const size_t from = zero                            ? 0
                        : type_of(type)->slot_size != 0 ? size
                                                        : type->block_size;
    memset(object + from, 0, type->block_size - from);
    return object;
  }
  if (size < type->size || size > PTRDIFF_MAX) {
    return size_fails(type, size, "at least");
  }
  struct cell *cell = cell_ready(mutator, type);
  if (cell == NULL) return NULL;
  char *object = allocate(cell, type, size, zero);
  if (object != NULL && !zero) clear_slack(type, object, size);
  return object;
}

void *mirt_new_sized(mirt_mutator_t *mutator, const mirt_type_t *type, size_t size) {
  return new_sized(mutator, type, size, false);
}

void *mirt_new_sized_zeroed(mirt_mutator_t *mutator, const mirt_type_t *type,
                            size_t size) {
  return new_sized(mutator, type, size, true);
}

void mirt_delete(void *object) { block_free(object); }
