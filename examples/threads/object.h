/* object.h - the objects that the threads share, and the threads that make them.
 *
 * A document is a list of numbered texts. It is never changed: who edits one makes new
 * nodes on the way from the root to the text, and shares everything else with the version
 * before. (Path copying: Driscoll, Sarnak, Sleator, Tarjan 1989.) So only one object is
 * ever written after others can see it: the table, which has the newest version of each
 * document.
 *
 * Invariant: an object that another thread can reach has its final contents, and `sum` is
 * their sum.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef OBJECT_H
#define OBJECT_H

#include <mirt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define DOCUMENTS 16
#define BRANCHES 8 /* slots of a node */
#define LEVELS 3
#define ENTRIES 512 /* BRANCHES to the power of LEVELS */
#define HISTORY 8   /* versions of a document that are kept, at most */
#define TEXT_MAX 160

typedef enum kind_e {
  TABLE,   /* slots: the newest version of each document */
  VERSION, /* slots: its tree, the version before; either may be NULL */
  NODE,    /* slots: nodes of the level below, or texts */
  TEXT,    /* bytes */
  KINDS
} kind_t;

/* What follows it are slots, or the bytes of a text. */
typedef struct object_s {
  uint64_t sum;
  uint32_t count;  /* slots or bytes */
  uint32_t seen;   /* the number of the last check that came here */
  uint32_t number; /* of a version: from 1; of a node: its level, 1 above the texts */
  uint32_t kind;
} object_t;

/* The heap of the program. Slots are refs if it has a cage, and pointers if not. */
typedef struct heap_s {
  mirt_runtime_t *runtime;
  const mirt_cage_t *cage;
  const mirt_type_t *types[KINDS];
} heap_t;

extern heap_t heap;

/* Make the heap and its types. With a budget: on_soft_limit is called when so much lives. */
void heap_begin(bool has_refs, size_t soft_limit, size_t hard_limit,
                mirt_budget_fun *on_soft_limit);

/* ---- threads ---- */

#define ROOTS_MAX 32

/* A thread: its mutator, and the objects that it still needs. Whatever is in `roots` when
 * the thread allocates, polls or waits stays alive. Nothing else does, but what the table
 * leads to. */
typedef struct worker_s {
  mirt_mutator_t *mutator;
  object_t *roots[ROOTS_MAX];
  size_t root_count;
  pthread_t thread;
  uint64_t random;
  size_t operations, retries, waits;
} worker_t;

/* Other threads are running: end without waiting for them. */
#define check(x) \
  do { \
    if (!(x)) { \
      fprintf(stderr, "%s:%d: '%s' is false\n", __FILE__, __LINE__, #x); \
      fflush(stderr); \
      _Exit(EXIT_FAILURE); \
    } \
  } while (0)

/* Have an object stay alive until root_count is set back. */
static inline object_t *root_push(worker_t *worker, object_t *object) {
  check(worker->root_count < ROOTS_MAX);
  return worker->roots[worker->root_count++] = object;
}

/* ---- objects ---- */

/* Make an object with so many slots, all NULL, or bytes; it becomes a root. A collection
 * may come first: what is to survive it must be a root. */
object_t *object_new(worker_t *worker, kind_t kind, size_t count);

/* What the contents of an object sum up to, those of what it refers to included. */
uint64_t object_sum(const object_t *object);

static inline char *text_bytes(const object_t *text) { return (char *)(text + 1); }

static inline object_t *slot_get(const object_t *object, size_t i) {
  const void *slots = object + 1;
  if (heap.cage != NULL) {
    return mirt_decode_nullable(heap.cage, ((const mirt_ref_t *)slots)[i]);
  }
  return ((object_t *const *)slots)[i];
}

static inline void slot_set(object_t *object, size_t i, const object_t *value) {
  void *slots = object + 1;
  if (heap.cage != NULL) {
    ((mirt_ref_t *)slots)[i] = mirt_encode_nullable(heap.cage, value);
  } else {
    ((const object_t **)slots)[i] = value;
  }
}

/* The same for an object that all threads write: the table. What is stored is seen by
 * whoever loads it with all its contents. */
static inline object_t *slot_load(const object_t *object, size_t i) {
  const void *slots = object + 1;
  if (heap.cage != NULL) {
    return mirt_decode_nullable(heap.cage, mirt_ref_load((const mirt_ref_t *)slots + i));
  }
  return (object_t *)AO_load_acquire((const AO_t *)slots + i);
}

static inline bool slot_compare_and_swap(object_t *object, size_t i,
                                         const object_t *expected,
                                         const object_t *desired) {
  void *slots = object + 1;
  if (heap.cage != NULL) {
    return mirt_ref_compare_and_swap((mirt_ref_t *)slots + i,
                                     mirt_encode_nullable(heap.cage, expected),
                                     mirt_encode_nullable(heap.cage, desired));
  }
  return AO_compare_and_swap_full((AO_t *)slots + i, (AO_t)expected, (AO_t)desired) != 0;
}

#endif
