/* malloc.c - allocate: plain, zeroed, counted, small; from the default heap or another. */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "heap/alloc.h"
#include "malloc/checked.h"

void *mi_heap_malloc(mi_heap_t *heap, size_t size) { return heap_allocate(heap, size); }

void *mi_heap_zalloc(mi_heap_t *heap, size_t size) {
  return heap_allocate_zeroed(heap, size);
}

void *mi_heap_mallocn(mi_heap_t *heap, size_t count, size_t size) {
  size_t total;
  return count_times_size("mi_mallocn", count, size, &total) ? heap_allocate(heap, total)
                                                             : NULL;
}

void *mi_heap_calloc(mi_heap_t *heap, size_t count, size_t size) {
  size_t total;
  return count_times_size("mi_calloc", count, size, &total)
             ? heap_allocate_zeroed(heap, total)
             : NULL;
}

void *mi_heap_malloc_small(mi_heap_t *heap, size_t size) {
  return heap_allocate(heap, size);
}

void *mi_heap_zalloc_small(mi_heap_t *heap, size_t size) {
  return heap_allocate_zeroed(heap, size);
}

void *mi_malloc(size_t size) { return heap_allocate(current.heap, size); }

void *mi_zalloc(size_t size) { return heap_allocate_zeroed(current.heap, size); }

void *mi_malloc_small(size_t size) { return heap_allocate(current.heap, size); }

void *mi_zalloc_small(size_t size) { return heap_allocate_zeroed(current.heap, size); }

/* ---- with the size of the block ---- */

static void *with_size(void *p, size_t *block_size) {
  if (block_size != NULL) *block_size = p == NULL ? 0 : block_usable_size(p);
  return p;
}

void *mi_umalloc(size_t size, size_t *block_size) {
  return with_size(mi_malloc(size), block_size);
}

void *mi_ucalloc(size_t count, size_t size, size_t *block_size) {
  return with_size(mi_calloc(count, size), block_size);
}

void *mi_umalloc_small(size_t size, size_t *block_size) {
  return with_size(mi_malloc_small(size), block_size);
}

void *mi_uzalloc_small(size_t size, size_t *block_size) {
  return with_size(mi_zalloc_small(size), block_size);
}

void *mi_umalloc_aligned(size_t size, size_t alignment, size_t *block_size) {
  return with_size(mi_malloc_aligned(size, alignment), block_size);
}

void *mi_uzalloc_aligned(size_t size, size_t alignment, size_t *block_size) {
  return with_size(mi_zalloc_aligned(size, alignment), block_size);
}

/* ---- free, with what the caller knows ---- */

void mi_ufree(void *p, size_t *block_size) {
  size_t usable = 0;
  if (block_size != NULL) *block_size = block_check(p, &usable) == 0 ? usable : 0;
  mi_free(p);
}

void mi_free_small(void *p) { mi_free(p); }

void mi_free_size(void *p, size_t size) {
  (void)size;
  mi_free(p);
}

void mi_free_size_aligned(void *p, size_t size, size_t alignment) {
  (void)size, (void)alignment;
  mi_free(p);
}

void mi_free_aligned(void *p, size_t alignment) {
  (void)alignment;
  mi_free(p);
}

void mi_cfree(void *p) {
  size_t usable;
  if (block_check(p, &usable) != EINVAL) mi_free(p);
}

/* ---- sizes ---- */

size_t mi_usable_size(const void *p) { return block_usable_size(p); }

size_t mi_malloc_size(const void *p) { return block_usable_size(p); }

size_t mi_malloc_usable_size(const void *p) { return block_usable_size(p); }

size_t mi_good_size(size_t size) {
  if (size <= CLASS_SIZE_MAX) return class_block_size(class_of_size(size));
  return size > PTRDIFF_MAX ? size : align_up(size, SLICE_SIZE);
}

size_t mi_malloc_good_size(size_t size) { return mi_good_size(size); }
