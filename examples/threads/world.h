/* world.h - stopping all threads, collecting, and looking at what is left.
 *
 * The thread whose allocation crosses the soft limit stops the world, collects, checks
 * every object that can be reached, and lets the world go on. Whether it may: see
 * mirt/safepoint.h. All threads that use objects are attached to the safepoint.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef WORLD_H
#define WORLD_H

#include "object.h"

#define WORKERS_MAX 64
#define SOFT_LEAST ((size_t)2 << 20) /* bytes: collect when so much lives, or more */
#define HARD_LIMIT ((size_t)256 << 20)

typedef struct world_s {
  mirt_safepoint_t *safepoint;
  mirt_gc_options_t gc;
  bool forgets_roots; /* of the thread that collects: the check must find that */
  object_t *table;
  worker_t workers[WORKERS_MAX + 1]; /* the last one is the main thread */
  /* Of the collections. */
  size_t collections, freed_objects, freed_bytes, checked_objects;
  uint64_t longest_pause;
} world_t;

extern world_t world;

/* What to call when the soft limit is crossed. */
void world_on_soft_limit(mirt_runtime_t *runtime, size_t live, const mirt_type_t *type,
                         void *argument);

/* Collect and check; the world is stopped. Returns how many objects live. */
size_t world_collect(void);

/* Check every object that the roots lead to; the world is stopped, and a collection has
 * ended. Returns how many there are. */
size_t world_check(void);

#endif
