/* memory.h - where the objects live: a runtime of mirt, with a type for each kind of them.
 *
 * Invariant: every object of a program is made by the one mutator, and is of the mirt type
 * that its header's type says. In the build with 32-bit references the runtime lies in a
 * cage; in the other one, at plain addresses.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_MEMORY_H
#define LISP_MEMORY_H

#include "object.h"

/* How much may be allocated before the first collection, and at least before each other. */
#define MEMORY_SOFT_LEAST ((size_t)4 << 20)

/* Collect again when there is twice as much as lived after the last time. */
#define MEMORY_GROWTH_PERCENT 200

/* What the prompt may take beyond the limit to read and compile a form: a program whose
 * global variables keep the heap full can still be told to let go. */
#define MEMORY_RESERVE ((size_t)64 << 10)

/* Environments of up to so many variables have a mirt type for each size, so that calls
 * make them on the fast path. */
#define MEMORY_SMALL_ENVIRONMENT 4

typedef struct memory_s {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator; /* bound to the thread that runs the interpreter */
  mirt_type_t *types[TYPE_COUNT];
  mirt_type_t
      *environments[MEMORY_SMALL_ENVIRONMENT + 1]; /* by their variables, from 1 */
  size_t limit;      /* bytes that live objects may take, 0 for no limit */
  size_t soft_limit; /* when to collect */
} memory_t;

/* What the objects of one type take. */
typedef struct memory_usage_s {
  size_t objects;
  size_t bytes; /* of the objects' blocks */
  size_t pages;
  size_t page_bytes; /* of the pages that those blocks lie in */
} memory_usage_t;

/* Make the runtime. limit is 0 for as much as there is; on_full(..., argument) is called
 * when it is time to collect. Returns 0 or an error code; after an error memory_stop must
 * still be called. */
int memory_start(memory_t *memory, size_t limit, mirt_budget_fun *on_full,
                 void *argument);

/* Destroy the runtime with all objects, whatever still refers to what. */
void memory_stop(memory_t *memory);

/* Allow the reserve, or not. */
void memory_use_reserve(memory_t *memory, bool is_allowed);

/* After a collection: decide when the next one is due. */
void memory_grow(memory_t *memory);

/* Memory for an object, as object_new describes it; size bytes if its type has no fixed
 * size. Returns NULL when the limit is reached, or there is no memory. */
static inline void *memory_new(const memory_t *memory, object_type_t type, uint32_t count,
                               size_t size) {
  const mirt_type_t *layout = memory->types[type];
  if (type == TYPE_ENVIRONMENT && count <= MEMORY_SMALL_ENVIRONMENT) {
    layout = memory->environments[count];
  }
  if (layout->block_size != 0) return mirt_new(memory->mutator, layout);
  return mirt_new_sized(memory->mutator, layout, size);
}

/* Ask what the objects of a type take. Looks at pages, not at objects. */
memory_usage_t memory_usage(const memory_t *memory, object_type_t type);

#endif /* LISP_MEMORY_H */
