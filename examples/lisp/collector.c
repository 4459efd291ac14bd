/* collector.c - the roots, and collecting.
 *
 * Invariant: objects do not move, so a collection changes nothing for code that can reach
 * its objects. To find code that cannot, collect for every object made, and write over
 * what dies: the next look at a dead object then sees no object at all.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "collector.h"
#include "lisp.h"

#define DEAD_BYTE 0xdb /* four of them are a fixnum, and no type */

static void mark_values(mirt_marker_t *marker, const value_t *values, size_t count) {
  for (size_t i = 0; i < count; i++) value_mark(marker, values[i]);
}

static void mark_roots(mirt_marker_t *marker, const lisp_t *lisp) {
  const compiler_t *compiler = &lisp->compiler;
  mark_values(marker, lisp->stack, (size_t)(lisp->registers.top - lisp->stack));
  value_mark(marker, lisp->registers.code);
  value_mark(marker, lisp->registers.environment);
  mark_values(marker, lisp->symbols, lisp->symbol_capacity);
  value_mark(marker, compiler->file);
  value_mark(marker, compiler->scope);
  mark_values(marker, compiler->constants, compiler->constant_count);
  value_mark(marker, lisp->arguments);
}

/* The mutator has blocks of malloc, too: those are not the runtime's. */
static bool overwrite_dead(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                           size_t block_size, void *argument) {
  mirt_found_t found;
  (void)heap;
  (void)area;
  if (block != NULL && !mirt_is_marked(argument, block) &&
      mirt_find(argument, (uintptr_t)block, &found)) {
    memset(block, DEAD_BYTE, block_size);
  }
  return true;
}

static void print_stats(const collector_t *collector, const mirt_gc_stats_t *stats) {
  fprintf(stderr,
          "gc %zu: live %zu objects, %zu KiB; freed %zu objects, %zu KiB; pause %.2f "
          "ms: mark %.2f, sweep %.2f\n",
          collector->count, stats->live_objects, stats->live_bytes / 1024,
          stats->freed_objects, stats->freed_bytes / 1024,
          (double)stats->pause_time / 1e6, (double)stats->mark_time / 1e6,
          (double)stats->sweep_time / 1e6);
}

void collector_run(lisp_t *lisp) {
  collector_t *collector = &lisp->collector;
  mirt_runtime_t *runtime = lisp->memory.runtime;
  if (mirt_gc_begin(runtime, NULL) != 0) return;
  mirt_marker_t *marker = mirt_gc_marker(runtime, 0);
  mark_roots(marker, lisp);
  mirt_gc_trace(marker);
  if (collector->every != 0) {
    mirt_visit_owner_heaps(lisp->memory.mutator, true, overwrite_dead, runtime);
  }
  mirt_gc_stats_t stats;
  mirt_gc_end(runtime, &stats);
  memory_grow(&lisp->memory);

  const size_t bytes = stats.live_bytes + stats.freed_bytes;
  if (bytes > collector->peak_bytes) collector->peak_bytes = bytes;
  collector->freed_bytes += stats.freed_bytes;
  if (stats.pause_time > collector->longest_nanoseconds) {
    collector->longest_nanoseconds = stats.pause_time;
  }
  collector->pause_nanoseconds += stats.pause_time;
  collector->count++;
  if (collector->print) print_stats(collector, &stats);
}

void collector_on_full(mirt_runtime_t *runtime, size_t live, const mirt_type_t *type,
                       void *argument) {
  (void)runtime;
  (void)live;
  (void)type;
  collector_run(argument);
}
