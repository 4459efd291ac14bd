/* memory.c - the runtime, its types, and what they hold.
 *
 * Invariant: the types of mirt follow from object_types alone. A slot of an object may hold a
 * number or a constant, which the maps of mirt do not know; so one trace function, which
 * does, serves all types that have values.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "memory.h"
#include <errno.h>

#if LISP_REFS

uintptr_t value_base;

static const mirt_cage_options_t cage_options = {.shift = VALUE_SHIFT};
#define CAGE_OPTIONS (&cage_options)

static void runtime_is_made(const memory_t *memory) {
  value_base = mirt_runtime_cage(memory->runtime)->base;
}

#else

#define CAGE_OPTIONS NULL

static void runtime_is_made(const memory_t *memory) { (void)memory; }

#endif

/* Mark the values of an object. */
static void trace(mirt_marker_t *marker, void *object, size_t size, void *argument) {
  const object_t *header = object;
  const object_layout_t *layout = argument;
  const value_t *values = (const value_t *)(header + 1);
  const size_t count = layout->values + (size_t)layout->item_values * header->count;
  (void)size;
  for (size_t i = 0; i < count; i++) value_mark(marker, values[i]);
}

/* The type of objects with a layout: of a fixed size, or one that differs. */
static mirt_type_t *make_type(const memory_t *memory, const object_layout_t *layout,
                              size_t size, bool is_variable) {
  const bool has_values = layout->values + layout->item_values > 0;
  const mirt_type_options_t options = {.name = layout->name,
                                       .size = size,
                                       .is_variable = is_variable,
                                       .alignment = VALUE_ALIGNMENT,
                                       .trace = has_values ? trace : NULL,
                                       .arg = (void *)(uintptr_t)layout};
  return mirt_type_new(memory->runtime, &options);
}

static bool make_types(memory_t *memory) {
  for (int type = 0; type < TYPE_COUNT; type++) {
    const object_layout_t *layout = &object_types[type];
    const bool is_variable =
        layout->item_values + layout->item_bytes > 0 || type == TYPE_CODE;
    memory->types[type] = make_type(memory, layout, object_size(layout, 0), is_variable);
    if (memory->types[type] == NULL) return false;
  }
  for (uint32_t i = 1; i <= MEMORY_SMALL_ENVIRONMENT; i++) {
    const object_layout_t *layout = &object_types[TYPE_ENVIRONMENT];
    memory->environments[i] = make_type(memory, layout, object_size(layout, i), false);
    if (memory->environments[i] == NULL) return false;
  }
  memory->environments[0] = memory->types[TYPE_ENVIRONMENT];
  return true;
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

int memory_start(memory_t *memory, size_t limit, mirt_budget_fun *on_full,
                 void *argument) {
  *memory = (memory_t){.limit = limit, .soft_limit = MEMORY_SOFT_LEAST};
  if (limit != 0) memory->soft_limit = least(limit, MEMORY_SOFT_LEAST);
  const mirt_runtime_options_t options = {.cage = CAGE_OPTIONS,
                                          .soft_limit = memory->soft_limit,
                                          .hard_limit = limit,
                                          .on_soft_limit = on_full,
                                          .arg = argument};
  const int error = mirt_runtime_create(&options, &memory->runtime);
  if (error != 0) return error;
  runtime_is_made(memory);
  if (!make_types(memory)) return ENOMEM;
  mirt_mutator_t *mutator = mirt_mutator_create_in(memory->runtime);
  if (mutator == NULL) return ENOMEM;
  memory->mutator = mutator;
  return mirt_mutator_bind(mutator);
}

void memory_stop(memory_t *memory) {
  if (memory->mutator != NULL) mirt_mutator_unbind(memory->mutator);
  mirt_runtime_destroy(memory->runtime);
  *memory = (memory_t){0};
}

void memory_use_reserve(memory_t *memory, bool is_allowed) {
  if (memory->limit == 0) return;
  const size_t hard = memory->limit + (is_allowed ? MEMORY_RESERVE : 0);
  mirt_budget_set(memory->runtime, least(memory->soft_limit, hard), hard);
}

void memory_grow(memory_t *memory) {
  memory->soft_limit =
      mirt_budget_grow(memory->runtime, MEMORY_GROWTH_PERCENT, MEMORY_SOFT_LEAST);
}

static void add_usage(memory_usage_t *usage, const mirt_type_t *type) {
  mirt_stats_t stats;
  if (!mirt_stats_tag(type->tag, &stats)) return;
  usage->objects += stats.live_blocks;
  usage->bytes += stats.live_bytes;
  usage->pages += stats.pages;
  usage->page_bytes += stats.committed;
}

memory_usage_t memory_usage(const memory_t *memory, object_type_t type) {
  memory_usage_t usage = {0};
  add_usage(&usage, memory->types[type]);
  if (type == TYPE_ENVIRONMENT) {
    for (uint32_t i = 1; i <= MEMORY_SMALL_ENVIRONMENT; i++) {
      add_usage(&usage, memory->environments[i]);
    }
  }
  return usage;
}
