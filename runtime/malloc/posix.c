/* posix.c - the allocation functions of POSIX, C11, BSD and glibc. */
#include <errno.h>

#include "base/log.h"
#include "heap/alloc.h"
#include "malloc/checked.h"
#include "os/os.h"

/* The standard wants the result in the return value and errno untouched. */
int mi_posix_memalign(void **p, size_t alignment, size_t size) {
  if (p == NULL || alignment % sizeof(void *) != 0 || !is_power_of_two(alignment)) {
    return EINVAL;
  }
  const int saved_errno = errno;
  void *block = heap_allocate_aligned(current.heap, size, alignment, false);
  errno = saved_errno;
  if (block == NULL) return ENOMEM;
  *p = block;
  return 0;
}

void *mi_memalign(size_t alignment, size_t size) {
  if (!alignment_is_valid("mi_memalign", alignment)) return NULL;
  return heap_allocate_aligned(current.heap, size, alignment, false);
}

void *mi_aligned_alloc(size_t alignment, size_t size) {
  if (!alignment_is_valid("mi_aligned_alloc", alignment)) return NULL;
  return heap_allocate_aligned(current.heap, size, alignment, false);
}

void *mi_valloc(size_t size) { return mi_memalign(os_page_size(), size); }

void *mi_pvalloc(size_t size) {
  const size_t page = os_page_size();
  if (size > PTRDIFF_MAX) return mi_malloc(size); /* reports it */
  return mi_memalign(page, align_up(size == 0 ? 1 : size, page));
}

void *mi_reallocarray(void *p, size_t count, size_t size) {
  return mi_reallocn(p, count, size);
}

/* NetBSD: p is the address of the pointer to change; the result is an error code. */
int mi_reallocarr(void *p, size_t count, size_t size) {
  if (p == NULL) {
    errno = EINVAL;
    return EINVAL;
  }
  void **pointer = p;
  void *block = mi_reallocarray(*pointer, count, size);
  if (block == NULL) return errno;
  *pointer = block;
  return 0;
}
