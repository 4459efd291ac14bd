#include "heap/collect.h"

#include "arena/arena.h"
#include "heap/epoch.h"
#include "heap/heap.h"

void heap_collect(mi_heap_t *heap, bool force) {
  for (size_t i = 0; i < CELL_COUNT; i++) {
    if (heap->cells[i] != NULL) cell_collect(heap->cells[i], force);
  }
}

void owner_collect(struct owner *owner, bool force) {
  for (mi_heap_t *heap = owner->heaps; heap != NULL; heap = heap->next) {
    heap_collect(heap, force);
  }
  limbo_collect();
  arenas_purge(force, SIZE_MAX);
}
