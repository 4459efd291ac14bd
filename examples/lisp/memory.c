/* memory.c - the cage or arena, the heaps in it, and what they hold.
 *
 * Invariant: every heap is made with allow_destroy, so that the end of the interpreter
 * is one mi_heap_destroy for each type and no walk over objects.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "memory.h"
#include <errno.h>

#if LISP_REFS

uintptr_t value_base;

static int arena_start(memory_t *memory) {
  const mirt_cage_options_t options = {.size = memory->limit, .shift = VALUE_SHIFT};
  const int error = mirt_cage_create(&options, &memory->cage);
  if (error == 0) {
    memory->arena = memory->cage->arena;
    value_base = memory->cage->base;
  }
  return error;
}

#else

static int arena_start(memory_t *memory) {
  if (memory->limit == 0) return 0;
  return mi_reserve_os_memory_ex(memory->limit, false, false, true, &memory->arena);
}

#endif

int memory_start(memory_t *memory, size_t limit) {
  *memory = (memory_t){.limit = limit};
  const int error = arena_start(memory);
  if (error != 0) return error;
  for (int type = 0; type < TYPE_COUNT; type++) {
    memory->heaps[type] = mi_heap_new_ex(object_types[type].tag, true, memory->arena);
    if (memory->heaps[type] == NULL) return ENOMEM;
  }
  return 0;
}

void memory_destroy_heaps(memory_t *memory) {
  for (int type = 0; type < TYPE_COUNT; type++) {
    if (memory->heaps[type] != NULL) mi_heap_destroy(memory->heaps[type]);
    memory->heaps[type] = NULL;
  }
}

void memory_stop(memory_t *memory) {
  memory_destroy_heaps(memory);
  mirt_cage_destroy(memory->cage);
  memory->cage = NULL;
}

static bool add_area(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                     size_t block_size, void *argument) {
  memory_usage_t *usage = argument;
  (void)heap;
  (void)block_size;
  if (block != NULL) return true;
  usage->objects += area->used;
  usage->bytes += area->used * area->block_size;
  usage->pages += 1;
  usage->page_bytes += area->reserved;
  return true;
}

memory_usage_t memory_usage(const memory_t *memory, object_type_t type) {
  memory_usage_t usage = {0};
  mi_heap_visit_blocks(memory->heaps[type], false, add_area, &usage);
  return usage;
}
