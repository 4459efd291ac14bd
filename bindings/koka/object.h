/* object.h - objects with reference counts and 32-bit boxes, in the shape of Koka's
 * runtime.
 *
 * Invariant: a box is a small integer (odd) or names an object (even): the signed
 * distance of the object to the middle of an arena of 16 GiB, divided by 4, which a
 * 32-bit word holds. An object is freed by whoever drops the last reference, with all
 * that only it referred to. What more than one thread can reach has a negative count,
 * changed by atomic operations; all else has the number of further references, so 0 is
 * unique, and unique objects are used again in place. (Reference counting with reuse:
 * Reinking, Xie, de Moura, Leijen 2021.)
 *
 * The same sources are built twice. With KOKA_INLINE an allocation is a few instructions
 * in the place of a call (small.h), in a runtime whose cage is that arena. Without, only
 * functions of mimalloc.h are used, so that the program runs on mimalloc as well.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef KOKA_OBJECT_H
#define KOKA_OBJECT_H

#include <atomic_ops.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if KOKA_INLINE
#include "small.h"
#else
#include <mimalloc.h>
#endif

#define ARENA_SIZE ((size_t)16 << 30)
#define FIELDS_MAX 30
#define TAG_MAX 255

typedef uint32_t box_t;

typedef struct object_s {
  unsigned count; /* int: see above; AO_int operations want it unsigned */
  uint16_t tag;   /* of the constructor, up to TAG_MAX; box_share uses the upper half */
  uint16_t fields;
  box_t field[];
} object_t;

/* What a thread allocates with. One per thread; objects go from one to another. */
typedef struct context_s {
#if KOKA_INLINE
  mirt_mutator_t *mutator;
#else
  mi_heap_t *heap;
#endif
  long allocated, freed, reused; /* objects */
} context_t;

/* The middle of the arena, the same for the whole process. */
extern uintptr_t arena_middle;

/* Once, at the start: reserve the arena. size is ARENA_SIZE, or less to see how it is to
 * run short. Returns false when the addresses cannot be had. */
bool koka_begin(size_t size);

/* Give everything back. Returns false when a context is still there. */
bool koka_end(void);

/* Begin and end a thread's context. Blocks that live stay valid. Returns false without
 * memory. */
bool context_begin(context_t *context);
void context_end(context_t *context);

/* Blocks that live: in the context's heap, or, with KOKA_INLINE, in all. */
size_t context_live(const context_t *context);

/* ---- boxes ---- */

static inline box_t box_int(int32_t value) { return (uint32_t)value << 1 | 1; }
static inline int32_t unbox_int(box_t box) { return (int32_t)box >> 1; }
static inline bool is_object(box_t box) { return (box & 1) == 0; }

static inline box_t box_object(const object_t *object) {
  return (uint32_t)(((intptr_t)object - (intptr_t)arena_middle) >> 2);
}

static inline object_t *unbox_object(box_t box) {
  return (object_t *)(arena_middle + (uintptr_t)((intptr_t)(int32_t)box * 4));
}

/* ---- allocating ---- */

#if KOKA_INLINE
static inline void *allocate(context_t *context, size_t size) {
  return small_malloc(context->mutator, size);
}
#else
static inline void *allocate(context_t *context, size_t size) {
  return mi_heap_malloc_small(context->heap, size);
}
#endif
static inline void release(object_t *object) { mi_free(object); }

/* A new, unique object, its fields not set; NULL without memory. fields up to
 * FIELDS_MAX. */
static inline object_t *object_new(context_t *context, uint16_t tag, uint16_t fields) {
  object_t *object = allocate(context, sizeof(object_t) + fields * sizeof(box_t));
  if (object == NULL) return NULL;
  object->count = 0;
  object->tag = tag;
  object->fields = fields;
  context->allocated++;
  return object;
}

/* ---- counting ---- */

static inline int object_count(const object_t *object) {
  return (int)AO_int_load(&object->count);
}

static inline bool is_unique(const object_t *object) { return object_count(object) == 0; }

/* One more reference. */
static inline box_t box_dup(box_t box) {
  if (!is_object(box)) return box;
  object_t *object = unbox_object(box);
  const int count = object_count(object);
  if (count >= 0) {
    object->count = (unsigned)(count + 1);
  } else {
    AO_int_fetch_and_sub1(&object->count);
  }
  return box;
}

/* One reference less; the last one frees. */
void box_drop(context_t *context, box_t box);

/* The object has been taken apart, and its fields are now somebody else's. If it is
 * unique, returns it to be used again for a new object of as many fields; else NULL, with
 * a reference to each field for the new owner. */
object_t *take_apart(context_t *context, object_t *object);

/* Before another thread sees it: what the box leads to is counted by atomic operations
 * from now on. It is this thread's alone until then. */
void box_share(box_t box);

#endif /* KOKA_OBJECT_H */
