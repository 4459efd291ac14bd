#include "object.h"

uintptr_t arena_middle;

#if KOKA_INLINE
SMALL_DEFINE;

static mirt_runtime_t *runtime;

bool koka_begin(size_t size) {
  const mirt_cage_options_t cage = {.size = size, .shift = 2, .signed_refs = true};
  if (mirt_runtime_create(&(mirt_runtime_options_t){.cage = &cage}, &runtime) != 0) {
    return false;
  }
  arena_middle = mirt_runtime_cage(runtime)->base;
  return small_begin(runtime);
}

bool koka_end(void) { return mirt_runtime_destroy(runtime) == 0; }

bool context_begin(context_t *context) {
  *context = (context_t){.mutator = mirt_mutator_create_in(runtime)};
  return context->mutator != NULL && mirt_mutator_bind(context->mutator) == 0;
}

void context_end(context_t *context) {
  mirt_mutator_unbind(context->mutator);
  mirt_mutator_destroy(context->mutator);
}

size_t context_live(const context_t *context) {
  (void)context;
  size_t live = 0;
  for (size_t words = 2; words < SMALL_SIZES; words++) {
    mirt_type_stats_t stats;
    if (mirt_type_stats(small_sizes.type[words], &stats)) live += stats.objects;
  }
  return live;
}
#else
static mi_arena_id_t arena;

bool koka_begin(size_t size) {
  /* As Koka's runtime does: not committed, large pages allowed, exclusive. */
  if (mi_reserve_os_memory_ex(size, false, true, true, &arena) != 0) return false;
  size_t arena_size = 0;
  const uintptr_t base = (uintptr_t)mi_arena_area(arena, &arena_size);
  arena_middle = base + arena_size / 2;
  return base != 0 && arena_size <= ARENA_SIZE;
}

bool koka_end(void) { return true; } /* the arena stays, as Koka's does */

bool context_begin(context_t *context) {
  *context = (context_t){.heap = mi_heap_new_in_arena(arena)};
  return context->heap != NULL;
}

void context_end(context_t *context) { mi_heap_delete(context->heap); }

static bool count_area(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                       size_t block_size, void *argument) {
  (void)heap, (void)block, (void)block_size;
  *(size_t *)argument += area->used;
  return true;
}

size_t context_live(const context_t *context) {
  size_t live = 0;
  mi_heap_visit_blocks(context->heap, false, count_area, &live);
  return live;
}
#endif

/* ---- dropping ---- */

/* Take a reference away; returns whether it was the last. */
static bool is_last(object_t *object) {
  const int count = object_count(object);
  if (count == 0) return true;
  if (count > 0) {
    object->count = (unsigned)(count - 1);
    return false;
  }
  return (int)AO_int_fetch_and_add1_full(&object->count) == -1;
}

/* A dead object's count is the link of a list of those whose fields have to be dropped
 * yet: so a list of any length is dropped without recursion, and without memory. */
void box_drop(context_t *context, box_t box) {
  if (!is_object(box)) return;
  object_t *object = unbox_object(box);
  if (!is_last(object)) return;
  const box_t end = box_int(0);
  object->count = end;
  for (box_t dead = box; dead != end;) {
    object = unbox_object(dead);
    dead = object->count;
    for (size_t i = 0; i < object->fields; i++) {
      if (!is_object(object->field[i])) continue;
      object_t *part = unbox_object(object->field[i]);
      if (!is_last(part)) continue;
      part->count = dead;
      dead = object->field[i];
    }
    release(object);
    context->freed++;
  }
}

object_t *take_apart(context_t *context, object_t *object) {
  if (is_unique(object)) {
    context->reused++;
    return object;
  }
  for (size_t i = 0; i < object->fields; i++) box_dup(object->field[i]);
  box_drop(context, box_object(object));
  return NULL;
}

/* ---- sharing ---- */

/* Going down the fields, with the way back in the fields themselves, turned around: no
 * recursion here either. (Pointer reversal: Schorr, Waite 1967.) How far an object has
 * been looked at is in its tag's upper half meanwhile. */
void box_share(box_t box) {
  if (!is_object(box) || object_count(unbox_object(box)) < 0) return;
  const box_t none = box_int(0);
  box_t back = none, here = box;
  object_t *object = unbox_object(here);
  object->count = (unsigned)(-(int)object->count - 1);
  for (;;) {
    object = unbox_object(here);
    const unsigned next = object->tag >> 8;
    if (next < object->fields) {
      const box_t part = object->field[next];
      object->tag = (uint16_t)(object->tag + (1 << 8));
      if (!is_object(part) || object_count(unbox_object(part)) < 0) continue;
      unbox_object(part)->count = (unsigned)(-(int)unbox_object(part)->count - 1);
      object->field[next] = back;
      back = here;
      here = part;
      continue;
    }
    object->tag &= 0xFF;
    if (back == none) return;
    object_t *parent = unbox_object(back);
    const unsigned via = (parent->tag >> 8) - 1u;
    const box_t grandparent = parent->field[via];
    parent->field[via] = here;
    here = back;
    back = grandparent;
  }
}
