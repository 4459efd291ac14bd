#include "heap/alloc.h"

#include <errno.h>

#include "arena/tag.h"
#include "base/log.h"
#include "base/option.h"
#include "heap/collect.h"
#include "heap/large.h"
#include "heap/page.h"

/* The smallest class whose blocks hold size bytes and are aligned, or CLASS_LARGE. */
static size_t class_of_aligned(size_t size, size_t alignment) {
  if (size > CLASS_SIZE_MAX || alignment > SLICE_SIZE) return CLASS_LARGE;
  size_t class_index = class_of_size(size < alignment ? alignment : size);
  while (class_index < CLASS_COUNT &&
         (class_block_size(class_index) & (alignment - 1)) != 0) {
    class_index++;
  }
  return class_index;
}

/* Is this allocation one of the sampled ones that get a guard page? */
static bool guarded_sample(mi_heap_t *heap, size_t size) {
  if (likely(heap->guarded.rate == 0)) return false;
  if (size < heap->guarded.least || size > heap->guarded.most) return false;
  if (heap->guarded.count-- > 0) return false;
  heap->guarded.count = heap->guarded.rate - 1;
  return true;
}

/* One try. Sets *is_zero when the block is known to be zero. */
static void *try_allocate(mi_heap_t *heap, size_t size, size_t alignment, bool *is_zero) {
  if (guarded_sample(heap, size)) {
    void *block = large_allocate_guarded(heap, size, alignment, is_zero);
    if (block != NULL) return block;
  }
  const size_t class_index = class_of_aligned(size, alignment);
  if (class_index == CLASS_LARGE) {
    owner_call_deferred_free(false);
    return large_allocate(heap, size, alignment, is_zero);
  }
  struct cell *cell = heap_cell(heap, class_index);
  if (cell == NULL) return NULL;
  if (cell->word != 0) {
    *is_zero = cell->word_is_zero;
    return cell_take(cell);
  }
  return cell_refill(cell, is_zero);
}

cold_function static void *out_of_memory(size_t size) {
  log_error(ENOMEM, "mi_malloc", "no memory for %zu bytes", size);
  return NULL;
}

__attribute__((noinline)) void *heap_allocate_slow(mi_heap_t *heap, size_t size,
                                                   size_t alignment, bool zero) {
  if (unlikely(size > PTRDIFF_MAX || alignment > PTRDIFF_MAX / 2)) {
    return out_of_memory(size);
  }
  const bool is_first = current.owner == NULL;
  heap = heap_ready(heap);
  if (unlikely(heap == NULL)) return out_of_memory(size);
  bool is_zero = false;
  void *block = try_allocate(heap, size, alignment, &is_zero);
  if (unlikely(block == NULL)) {
    if (option_get(mi_option_retry_on_oom) != 0) {
      owner_collect(heap->owner, true);
      block = try_allocate(heap, size, alignment, &is_zero);
    }
    if (block == NULL) return out_of_memory(size);
  }
  if (zero && !is_zero) memset(block, 0, block_usable_size(block));
  if (unlikely(is_first)) owner_end_if_ending();
  return block;
}

__attribute__((noinline)) void *heap_allocate_refill(mi_heap_t *heap, struct cell *cell,
                                                     size_t size) {
  if (likely(cell != &cell_empty)) {
    bool is_zero;
    void *block = cell_refill(cell, &is_zero);
    if (likely(block != NULL)) return block;
  }
  return heap_allocate_slow(heap, size, BLOCK_MIN, false);
}

__attribute__((noinline)) void *heap_allocate_medium(mi_heap_t *heap, size_t size) {
  if (likely(size <= CLASS_SIZE_MAX && heap->guarded.rate == 0)) {
    struct cell *cell = heap->cells[class_of_size(size)];
    if (likely(cell != NULL)) {
      return likely(cell->word != 0) ? cell_take(cell)
                                     : heap_allocate_refill(heap, cell, size);
    }
  }
  return heap_allocate_slow(heap, size, BLOCK_MIN, false);
}

void *heap_allocate_aligned(mi_heap_t *heap, size_t size, size_t alignment, bool zero) {
  if (alignment <= BLOCK_MIN) {
    return zero ? heap_allocate_zeroed(heap, size) : heap_allocate(heap, size);
  }
  /* Where blocks are shifted, none of these has an alignment by its size. */
  if (unlikely(heap->block_offset != 0) && size <= BLOCK_SHIFTED_MAX) {
    size = BLOCK_SHIFTED_MAX + 1;
  }
  const size_t class_index = class_of_aligned(size, alignment);
  if (likely(class_index < CLASS_LARGE && heap->guarded.rate == 0 && !zero)) {
    struct cell *cell = heap->cells[class_index];
    if (likely(cell != NULL && cell->word != 0)) return cell_take(cell);
  }
  return heap_allocate_slow(heap, size, alignment, zero);
}

void *heap_allocate_aligned_at(mi_heap_t *heap, size_t size, size_t alignment,
                               size_t offset, bool zero) {
  if ((offset & (alignment - 1)) == 0) {
    return heap_allocate_aligned(heap, size, alignment, zero);
  }
  size_t padded;
  if (__builtin_add_overflow(size, alignment - 1, &padded)) return out_of_memory(size);
  char *block = zero ? heap_allocate_zeroed(heap, padded) : heap_allocate(heap, padded);
  if (block == NULL) return NULL;
  char *p = block + (-((uintptr_t)block + offset) & (alignment - 1));
  if (p != block) atomic_flag_set(&block_page(block)->has_interior, true);
  return p;
}
