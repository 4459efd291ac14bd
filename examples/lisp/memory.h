/* memory.h - where the objects live: one heap for each type.
 *
 * Invariant: objects of one type come from one heap, and all heaps share one arena. In
 * the build with 32-bit references that arena is a cage; in the other one it is no
 * particular arena, or one of limited size.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_MEMORY_H
#define LISP_MEMORY_H

#include "object.h"

typedef struct memory_s {
  mirt_cage_t *cage;   /* NULL in the build with 64-bit pointers */
  mi_arena_id_t arena; /* 0: no particular one */
  size_t limit;        /* bytes that the objects may take, 0 for no limit of ours */
  mi_heap_t *heaps[TYPE_COUNT];
} memory_t;

/* What the objects of one type take. */
typedef struct memory_usage_s {
  size_t objects;
  size_t bytes; /* of the objects' blocks */
  size_t pages;
  size_t page_bytes; /* of the pages that those blocks lie in */
} memory_usage_t;

/* Make the arena and the heaps. limit is 0 for as much as there is. Returns 0 or an
 * error code; after an error memory_stop must still be called. */
int memory_start(memory_t *memory, size_t limit);

/* Destroy the heaps with all objects in them, whatever still refers to what. */
void memory_destroy_heaps(memory_t *memory);

/* Destroy what memory_start made. */
void memory_stop(memory_t *memory);

/* Ask a type's heap what it holds. Looks at pages, not at objects. */
memory_usage_t memory_usage(const memory_t *memory, object_type_t type);

#endif /* LISP_MEMORY_H */
