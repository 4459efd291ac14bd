/* override.c - malloc and its kin, and C++ new and delete, for the preload library.
 *
 * Each function is one call to its mi_ twin, which the linker turns into a jump. The C++
 * operators appear under their mangled names, so that the library needs no C++ compiler.
 */
#include <errno.h>
#include <stddef.h>

#include "base/bits.h"
#include "heap/alloc.h"

#define exported __attribute__((visibility("default")))

/* Tells info.c which library it is in. */
const bool override_is_linked = true;

exported void *malloc(size_t size);
exported void *calloc(size_t count, size_t size);
exported void *realloc(void *p, size_t size);
exported void *reallocarray(void *p, size_t count, size_t size);
exported void free(void *p);
exported void cfree(void *p);
exported int posix_memalign(void **p, size_t alignment, size_t size);
exported void *aligned_alloc(size_t alignment, size_t size);
exported void *memalign(size_t alignment, size_t size);
exported void *valloc(size_t size);
exported void *pvalloc(size_t size);
exported size_t malloc_usable_size(void *p);

void *malloc(size_t size) { return heap_allocate(current.heap, size); }

void *calloc(size_t count, size_t size) { return mi_calloc(count, size); }

void *realloc(void *p, size_t size) { return mi_realloc(p, size); }

void *reallocarray(void *p, size_t count, size_t size) {
  return mi_reallocarray(p, count, size);
}

void free(void *p) { block_free(p); }

void cfree(void *p) { block_free(p); }

int posix_memalign(void **p, size_t alignment, size_t size) {
  return mi_posix_memalign(p, alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  return mi_aligned_alloc(alignment, size);
}

void *memalign(size_t alignment, size_t size) { return mi_memalign(alignment, size); }

void *valloc(size_t size) { return mi_valloc(size); }

void *pvalloc(size_t size) { return mi_pvalloc(size); }

size_t malloc_usable_size(void *p) { return mi_usable_size(p); }

/* ---- C++ ---- */

#define OPERATOR_NEW(name) \
  exported void *name(size_t size); \
  void *name(size_t size) { return mi_new(size); }
#define OPERATOR_NEW_NOTHROW(name) \
  exported void *name(size_t size, const void *nothrow); \
  void *name(size_t size, const void *nothrow) { \
    (void)nothrow; \
    return mi_new_nothrow(size); \
  }
#define OPERATOR_NEW_ALIGNED(name) \
  exported void *name(size_t size, size_t alignment); \
  void *name(size_t size, size_t alignment) { return mi_new_aligned(size, alignment); }
#define OPERATOR_NEW_ALIGNED_NOTHROW(name) \
  exported void *name(size_t size, size_t alignment, const void *nothrow); \
  void *name(size_t size, size_t alignment, const void *nothrow) { \
    (void)nothrow; \
    return mi_new_aligned_nothrow(size, alignment); \
  }

OPERATOR_NEW(_Znwm)
OPERATOR_NEW(_Znam)
OPERATOR_NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
OPERATOR_NEW_NOTHROW(_ZnamRKSt9nothrow_t)
OPERATOR_NEW_ALIGNED(_ZnwmSt11align_val_t)
OPERATOR_NEW_ALIGNED(_ZnamSt11align_val_t)
OPERATOR_NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
OPERATOR_NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)

/* All forms of delete free; what they know beside the address is not needed. */
#define OPERATOR_DELETE(name) \
  exported void name(void *p); \
  void name(void *p) { block_free(p); }
#define OPERATOR_DELETE_1(name) \
  exported void name(void *p, size_t first); \
  void name(void *p, size_t first) { \
    (void)first; \
    block_free(p); \
  }
#define OPERATOR_DELETE_2(name) \
  exported void name(void *p, size_t first, size_t second); \
  void name(void *p, size_t first, size_t second) { \
    (void)first, (void)second; \
    block_free(p); \
  }

OPERATOR_DELETE(_ZdlPv)
OPERATOR_DELETE(_ZdaPv)
OPERATOR_DELETE_1(_ZdlPvm)
OPERATOR_DELETE_1(_ZdaPvm)
OPERATOR_DELETE_1(_ZdlPvRKSt9nothrow_t)
OPERATOR_DELETE_1(_ZdaPvRKSt9nothrow_t)
OPERATOR_DELETE_1(_ZdlPvSt11align_val_t)
OPERATOR_DELETE_1(_ZdaPvSt11align_val_t)
OPERATOR_DELETE_2(_ZdlPvmSt11align_val_t)
OPERATOR_DELETE_2(_ZdaPvmSt11align_val_t)
OPERATOR_DELETE_2(_ZdlPvSt11align_val_tRKSt9nothrow_t)
OPERATOR_DELETE_2(_ZdaPvSt11align_val_tRKSt9nothrow_t)
