/* realloc.c - change the size of a block. It stays where it is while it fits and at least
 * half of it is used. A block that cannot grow stays valid, and the result is NULL. */
#include <errno.h>

#include "base/log.h"
#include "heap/alloc.h"
#include "malloc/checked.h"

/* What has grown a little will grow again: an eighth more saves about half of the copies, and
 * is less than most allocators round up by. */
#define ROOM_TO_GROW_MAX (64 * KiB)

/* What a block is to become. */
struct resize {
  const char *function;
  size_t size;
  size_t alignment; /* a power of two */
  size_t offset;    /* that lies on the alignment */
  bool zero;        /* new bytes are zeroed */
};

/* The size to allocate for a block of so many bytes that does not fit any more. */
static inline size_t size_with_room(size_t usable, size_t size) {
  const bool creeps = size > usable && size - usable < usable / 4;
  return creeps && size < ROOM_TO_GROW_MAX ? size + size / 8 : size;
}

static inline bool fits_in_place(size_t usable, size_t size) {
  return size <= usable && size >= usable / 2 && size != 0;
}

static void *resize_block(mi_heap_t *heap, void *p, const struct resize *want) {
  size_t usable = 0;
  if (p != NULL) {
    const int error = block_check(p, &usable);
    if (unlikely(error != 0)) {
      log_corruption(error, want->function, "%p is %s", p,
                     error == EFAULT ? "free" : "not the address of a block");
      return NULL;
    }
    const bool aligned = (((uintptr_t)p + want->offset) & (want->alignment - 1)) == 0;
    if (aligned && fits_in_place(usable, want->size)) {
      /* What lies behind the new size is zero when it is grown into later. */
      if (want->zero) memset((char *)p + want->size, 0, usable - want->size);
      return p;
    }
  }
  void *block = heap_allocate_aligned_at(heap, size_with_room(usable, want->size),
                                         want->alignment, want->offset, false);
  if (block == NULL) return NULL;
  const size_t kept = usable < want->size ? usable : want->size;
  if (want->zero) {
    /* The contract is that the old block was zeroed to its end. */
    memset((char *)block + kept, 0, block_usable_size(block) - kept);
  }
  if (p != NULL) {
    memcpy(block, p, kept);
    block_free(p);
  }
  return block;
}

void *mi_heap_realloc_aligned_at(mi_heap_t *heap, void *p, size_t newsize,
                                 size_t alignment, size_t offset) {
  if (!alignment_is_valid("mi_realloc_aligned_at", alignment)) return NULL;
  const struct resize want = {"mi_realloc_aligned_at", newsize, alignment, offset, false};
  return resize_block(heap, p, &want);
}

void *mi_heap_rezalloc_aligned_at(mi_heap_t *heap, void *p, size_t newsize,
                                  size_t alignment, size_t offset) {
  if (!alignment_is_valid("mi_rezalloc_aligned_at", alignment)) return NULL;
  const struct resize want = {"mi_rezalloc_aligned_at", newsize, alignment, offset, true};
  return resize_block(heap, p, &want);
}

void *mi_heap_recalloc_aligned_at(mi_heap_t *heap, void *p, size_t newcount, size_t size,
                                  size_t alignment, size_t offset) {
  size_t total;
  if (!count_times_size("mi_recalloc_aligned_at", newcount, size, &total)) return NULL;
  return mi_heap_rezalloc_aligned_at(heap, p, total, alignment, offset);
}

void *mi_heap_realloc_aligned(mi_heap_t *heap, void *p, size_t newsize,
                              size_t alignment) {
  return mi_heap_realloc_aligned_at(heap, p, newsize, alignment, 0);
}

void *mi_heap_rezalloc_aligned(mi_heap_t *heap, void *p, size_t newsize,
                               size_t alignment) {
  return mi_heap_rezalloc_aligned_at(heap, p, newsize, alignment, 0);
}

void *mi_heap_recalloc_aligned(mi_heap_t *heap, void *p, size_t newcount, size_t size,
                               size_t alignment) {
  return mi_heap_recalloc_aligned_at(heap, p, newcount, size, alignment, 0);
}

void *mi_heap_realloc(mi_heap_t *heap, void *p, size_t newsize) {
  if (p == NULL) return heap_allocate(heap, newsize);
  const size_t usable = block_own_size(p);
  if (likely(usable != 0)) {
    if (fits_in_place(usable, newsize)) return p;
    void *block = heap_allocate(heap, size_with_room(usable, newsize));
    if (block == NULL) return NULL;
    memcpy(block, p, usable < newsize ? usable : newsize);
    block_free(p);
    return block;
  }
  const struct resize want = {"mi_realloc", newsize, BLOCK_MIN, 0, false};
  return resize_block(heap, p, &want);
}

void *mi_heap_rezalloc(mi_heap_t *heap, void *p, size_t newsize) {
  const struct resize want = {"mi_rezalloc", newsize, BLOCK_MIN, 0, true};
  return resize_block(heap, p, &want);
}

void *mi_heap_reallocn(mi_heap_t *heap, void *p, size_t count, size_t size) {
  size_t total;
  if (!count_times_size("mi_reallocn", count, size, &total)) return NULL;
  return mi_heap_realloc(heap, p, total);
}

void *mi_heap_recalloc(mi_heap_t *heap, void *p, size_t newcount, size_t size) {
  size_t total;
  if (!count_times_size("mi_recalloc", newcount, size, &total)) return NULL;
  return mi_heap_rezalloc(heap, p, total);
}

void *mi_heap_reallocf(mi_heap_t *heap, void *p, size_t newsize) {
  void *block = mi_heap_realloc(heap, p, newsize);
  if (block == NULL && p != NULL) mi_free(p);
  return block;
}

void *mi_aligned_recalloc(void *p, size_t newcount, size_t size, size_t alignment) {
  return mi_recalloc_aligned(p, newcount, size, alignment);
}

void *mi_aligned_offset_recalloc(void *p, size_t newcount, size_t size, size_t alignment,
                                 size_t offset) {
  return mi_recalloc_aligned_at(p, newcount, size, alignment, offset);
}

void *mi_urealloc(void *p, size_t newsize, size_t *pre, size_t *post) {
  const size_t before = p == NULL ? 0 : block_usable_size(p);
  void *block = mi_realloc(p, newsize);
  if (pre != NULL) *pre = before;
  if (post != NULL) *post = block == NULL ? 0 : block_usable_size(block);
  return block;
}

void *mi_expand(void *p, size_t newsize) {
  return p != NULL && newsize <= block_usable_size(p) ? p : NULL;
}

void *mi__expand(void *p, size_t newsize) {
  void *block = mi_expand(p, newsize);
  if (block == NULL) errno = ENOMEM;
  return block;
}
