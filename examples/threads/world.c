#include "world.h"

#define GROWTH_PERCENT 200 /* collect again when twice as much lives */

world_t world;

/* Call f for each root. */
static void for_each_root(void (*f)(object_t *object, void *argument), void *argument) {
  if (world.table != NULL) f(world.table, argument);
  for (size_t i = 0; i <= WORKERS_MAX; i++) {
    const worker_t *worker = &world.workers[i];
    for (size_t j = 0; j < worker->root_count; j++) {
      if (worker->roots[j] != NULL) f(worker->roots[j], argument);
    }
  }
}

/* ---- collecting ---- */

static void mark_root(object_t *object, void *marker) { mirt_mark(marker, object); }

static void mark_roots(mirt_marker_t *marker, void *argument) {
  (void)argument;
  worker_t *forgotten = NULL;
  size_t root_count = 0;
  for (size_t i = 0; i <= WORKERS_MAX && world.forgets_roots; i++) {
    worker_t *worker = &world.workers[i];
    if (worker->mutator != NULL && worker->mutator == mirt_mutator_current()) {
      forgotten = worker;
      root_count = worker->root_count;
      worker->root_count = 0;
    }
  }
  for_each_root(mark_root, marker);
  if (forgotten != NULL) forgotten->root_count = root_count;
}

size_t world_collect(void) {
  mirt_gc_stats_t stats;
  check(mirt_collect(heap.runtime, mark_roots, NULL, &world.gc, &stats) == 0);
  world.collections++;
  world.freed_objects += stats.freed_objects;
  world.freed_bytes += stats.freed_bytes;
  if (stats.pause_time > world.longest_pause) world.longest_pause = stats.pause_time;
  const size_t reachable = world_check();
  /* Nothing that can be reached has died, and nothing lives that cannot. */
  check(reachable == stats.live_objects);
  world.checked_objects += reachable;
  return reachable;
}

void world_on_soft_limit(mirt_runtime_t *runtime, size_t live, const mirt_type_t *type,
                         void *argument) {
  (void)live, (void)type, (void)argument;
  if (!mirt_safepoint_request(world.safepoint)) return; /* another thread has collected */
  world_collect();
  mirt_budget_grow(runtime, GROWTH_PERCENT, SOFT_LEAST);
  mirt_safepoint_resume(world.safepoint);
}

/* ---- checking ---- */

typedef struct visit_s {
  uint32_t number; /* of the check */
  size_t count;
} visit_t;

static void visit(object_t *object, visit_t *all, uint32_t kind, uint32_t level);

/* The objects in the slots: of which kind they have to be, and on which level. */
static void visit_slots(object_t *object, visit_t *all) {
  for (size_t i = 0; i < object->count; i++) {
    object_t *other = slot_get(object, i);
    if (other == NULL) continue;
    if (object->kind == TABLE) {
      visit(other, all, VERSION, 0);
    } else if (object->kind == VERSION && i == 0) {
      visit(other, all, NODE, LEVELS);
    } else if (object->kind == VERSION) {
      check(other->number + 1 == object->number);
      visit(other, all, VERSION, 0);
    } else if (object->number > 1) {
      visit(other, all, NODE, object->number - 1);
    } else {
      visit(other, all, TEXT, 0);
    }
  }
}

/* No deeper than a document has versions, and its tree levels. */
static void visit(object_t *object, visit_t *all, uint32_t kind, uint32_t level) {
  mirt_found_t found;
  check(mirt_find(heap.runtime, (uintptr_t)object, &found));
  check(found.object == object && found.type == heap.types[kind]);
  check(object->kind == kind && (kind != NODE || object->number == level));
  if (object->seen == all->number) return;
  object->seen = all->number;
  all->count++;
  check(kind == TABLE || object->sum == object_sum(object));
  if (kind != TEXT) visit_slots(object, all);
}

static void visit_root(object_t *object, void *all) {
  check(mirt_find(heap.runtime, (uintptr_t)object, NULL) && object->kind < KINDS);
  visit(object, all, object->kind, object->number);
}

size_t world_check(void) {
  visit_t all = {.number = (uint32_t)world.collections};
  for_each_root(visit_root, &all);
  return all.count;
}
