/* runtime.h - the inside of a runtime, its types and its mutators.
 *
 * Invariant: all objects of a runtime lie in its one arena, in pages whose tag is their
 * type's. A mutator has a cell per type, at the same offset in every mutator, all zeros
 * until it first allocates an object of that type. Mutators and types are never unmapped
 * while their runtime lives.
 */
#ifndef MIRT_VM_RUNTIME_H
#define MIRT_VM_RUNTIME_H

#include <pthread.h>

#include <mirt/gc.h>
#include <mirt/new.h>
#include <mirt/runtime.h>
#include <mirt/type.h>

#include "arena/arena.h"
#include "arena/tag.h"
#include "heap/cell.h"
#include "heap/owner.h"

#define TYPES_DEFAULT 1024u
#define CELL_STRIDE ((size_t)128)
#define MUTATOR_CELLS ((size_t)64) /* offset of the first cell */

_Static_assert(sizeof(struct cell) <= CELL_STRIDE, "cells lie side by side");

struct mirt_mutator_s {
  struct free_record link;
  struct owner *owner;
  mirt_runtime_t *runtime; /* or NULL: it has no cells then */
  mirt_mutator_t *next;    /* in the runtime's list of those in use, or of free ones */
};

/* A type, and how to trace its objects. */
struct type {
  mirt_type_t public;
  uint8_t slot_size;
  bool has_references;    /* slots, or a trace function */
  bool has_more_than_map; /* a function, an array, or a map of several words */
  bool is_variable;
  bool is_array;
  size_t alignment;
  size_t array_offset;
  size_t map_slots;
  const uint64_t *map; /* small_map, or a mapping of map_bytes */
  uint64_t small_map;
  size_t map_bytes;
  uint64_t immediate_mask, immediate_value;
  mirt_trace_fun *trace;
  mirt_finalize_fun *finalize;
  void *arg;
};

struct collection;
struct weak_block;

struct mirt_runtime_s {
  mirt_runtime_t *next_known; /* in the list of all runtimes */
  size_t mapping_size;
  mirt_cage_t *cage;   /* made with the runtime, or NULL */
  struct arena *arena; /* pinned by the heaps of mutators only */
  pthread_mutex_t
      lock; /* protects mutators, free_mutators, types' making, weak records */
  mirt_mutator_t *mutators, *free_mutators;
  size_t mutator_count, mutator_size;
  unsigned type_limit;
  atomic_word type_count;
  size_t finalizable_types;
  struct type *types;                /* type_limit of them */
  atomic_word by_tag[TAG_COUNT + 1]; /* struct type* */

  /* The budget: `used` is at least the bytes that live, but for a race. */
  atomic_word used, soft_limit, hard_limit;
  atomic_word is_over_soft;      /* the callback has been called for this crossing */
  atomic_word counted;           /* `used` when it was last counted */
  atomic_word charged;           /* part of it: what the program has charged */
  atomic_word collections;       /* that have ended */
  bool calls_always, fills_dead; /* as the options say */
  mirt_budget_fun *on_soft_limit;
  void *budget_arg;

  struct collection *collection; /* made for the first one */
  struct weak_block *newest_weak, *oldest_weak;
  mirt_weak_t *free_weak;
  size_t weak_count;
  size_t weak_made; /* ever */
};

static inline struct type *type_of(const mirt_type_t *type) {
  return (struct type *)(void *)type;
}

static inline struct cell *mutator_cell(mirt_mutator_t *mutator,
                                        const mirt_type_t *type) {
  return (struct cell *)(void *)((char *)mutator + type->cell);
}

static inline struct type *type_of_tag(const mirt_runtime_t *runtime, unsigned tag) {
  return (struct type *)atomic_load_acquire(&runtime->by_tag[tag]);
}

/* The type of the objects in a page, or NULL if it is not one of the runtime's. */
static inline struct type *page_type(const mirt_runtime_t *runtime,
                                     const struct page *page) {
  return type_of_tag(runtime, page_kind_tag(atomic_load_relaxed(&page->kind)));
}

/* Give the memory of a type's map back, if it has any of its own. */
void type_release_map(struct type *type);

/* Call f for each cell of each heap of the runtime's mutators. The world is stopped. */
void runtime_for_each_cell(mirt_runtime_t *runtime, void (*f)(struct cell *cell));

/* Bytes in live objects, counted, and in free blocks that cells have taken: those will be
 * allocated without anybody counting. */
size_t runtime_live_bytes(const mirt_runtime_t *runtime, size_t *taken);

/* May a mutator take so many bytes for a type? Calls the registered function when the soft
 * limit is crossed. */
bool budget_admits(mirt_runtime_t *runtime, const mirt_type_t *type, size_t bytes);

/* It has taken them. */
static inline void budget_take(mirt_runtime_t *runtime, size_t bytes) {
  atomic_fetch_add_full(&runtime->used, bytes);
}

/* So many live, as a collection has found. */
void budget_settle(mirt_runtime_t *runtime, size_t live);

#endif
