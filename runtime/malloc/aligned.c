/* aligned.c - aligned allocation. A block whose size is a multiple of the alignment has it
 * already, so nothing is over-allocated; only the _at functions, with an offset that is not
 * a multiple of the alignment, give a pointer into a block. */
#include "heap/alloc.h"
#include "malloc/checked.h"

void *mi_heap_malloc_aligned(mi_heap_t *heap, size_t size, size_t alignment) {
  if (!alignment_is_valid("mi_malloc_aligned", alignment)) return NULL;
  return heap_allocate_aligned(heap, size, alignment, false);
}

void *mi_heap_malloc_aligned_at(mi_heap_t *heap, size_t size, size_t alignment,
                                size_t offset) {
  if (!alignment_is_valid("mi_malloc_aligned_at", alignment)) return NULL;
  return heap_allocate_aligned_at(heap, size, alignment, offset, false);
}

void *mi_heap_zalloc_aligned(mi_heap_t *heap, size_t size, size_t alignment) {
  if (!alignment_is_valid("mi_zalloc_aligned", alignment)) return NULL;
  return heap_allocate_aligned(heap, size, alignment, true);
}

void *mi_heap_zalloc_aligned_at(mi_heap_t *heap, size_t size, size_t alignment,
                                size_t offset) {
  if (!alignment_is_valid("mi_zalloc_aligned_at", alignment)) return NULL;
  return heap_allocate_aligned_at(heap, size, alignment, offset, true);
}

void *mi_heap_calloc_aligned(mi_heap_t *heap, size_t count, size_t size,
                             size_t alignment) {
  size_t total;
  if (!count_times_size("mi_calloc_aligned", count, size, &total)) return NULL;
  return mi_heap_zalloc_aligned(heap, total, alignment);
}

void *mi_heap_calloc_aligned_at(mi_heap_t *heap, size_t count, size_t size,
                                size_t alignment, size_t offset) {
  size_t total;
  if (!count_times_size("mi_calloc_aligned_at", count, size, &total)) return NULL;
  return mi_heap_zalloc_aligned_at(heap, total, alignment, offset);
}
