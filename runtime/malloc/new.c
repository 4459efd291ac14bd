/* new.c - C++ semantics: on exhaustion call the new-handler until it helps, then throw.
 *
 * The library is C and does not bring the C++ runtime into a process. Where that runtime is
 * there, its functions are found as weak symbols, and exceptions pass through these frames
 * (they are compiled with unwind tables). Where it is not, the result is NULL.
 */
#include "heap/alloc.h"
#include "malloc/checked.h"

typedef void new_handler(void);

/* std::get_new_handler() and std::__throw_bad_alloc() */
extern new_handler *_ZSt15get_new_handlerv(void) __attribute__((weak));
extern void _ZSt17__throw_bad_allocv(void) __attribute__((weak));

/* Call the new-handler. Returns false when there is none. */
static bool call_new_handler(void) {
  if (_ZSt15get_new_handlerv == NULL) return false;
  new_handler *handler = _ZSt15get_new_handlerv();
  if (handler == NULL) return false;
  handler();
  return true;
}

static void *throw_bad_alloc(void) {
  if (_ZSt17__throw_bad_allocv != NULL) _ZSt17__throw_bad_allocv();
  return NULL;
}

cold_function static void *retry_new(mi_heap_t *heap, size_t size, size_t alignment) {
  while (call_new_handler()) {
    void *block = heap_allocate_aligned(heap, size, alignment, false);
    if (block != NULL) return block;
  }
  return NULL;
}

/* Inline: where the alignment is a constant nothing is left of the test. */
static inline void *allocate(mi_heap_t *heap, size_t size, size_t alignment) {
  return alignment <= BLOCK_MIN ? heap_allocate(heap, size)
                                : heap_allocate_aligned(heap, size, alignment, false);
}

static inline void *allocate_new(mi_heap_t *heap, size_t size, size_t alignment) {
  void *block = allocate(heap, size, alignment);
  if (likely(block != NULL)) return block;
  block = retry_new(heap, size, alignment);
  return block != NULL ? block : throw_bad_alloc();
}

static inline void *allocate_new_nothrow(size_t size, size_t alignment) {
  void *block = allocate(current.heap, size, alignment);
  return likely(block != NULL) ? block : retry_new(current.heap, size, alignment);
}

void *mi_new(size_t size) { return allocate_new(current.heap, size, BLOCK_MIN); }

void *mi_new_aligned(size_t size, size_t alignment) {
  if (!alignment_is_valid("mi_new_aligned", alignment)) return NULL;
  return allocate_new(current.heap, size, alignment);
}

void *mi_new_nothrow(size_t size) { return allocate_new_nothrow(size, BLOCK_MIN); }

void *mi_new_aligned_nothrow(size_t size, size_t alignment) {
  if (!alignment_is_valid("mi_new_aligned_nothrow", alignment)) return NULL;
  return allocate_new_nothrow(size, alignment);
}

void *mi_heap_alloc_new(mi_heap_t *heap, size_t size) {
  return allocate_new(heap, size, BLOCK_MIN);
}

void *mi_heap_alloc_new_n(mi_heap_t *heap, size_t count, size_t size) {
  size_t total;
  if (!count_times_size("mi_new_n", count, size, &total)) return throw_bad_alloc();
  return allocate_new(heap, total, BLOCK_MIN);
}

void *mi_new_n(size_t count, size_t size) {
  return mi_heap_alloc_new_n(current.heap, count, size);
}

void *mi_new_realloc(void *p, size_t newsize) {
  void *block = mi_realloc(p, newsize);
  while (block == NULL && call_new_handler()) block = mi_realloc(p, newsize);
  return block != NULL ? block : throw_bad_alloc();
}

void *mi_new_reallocn(void *p, size_t newcount, size_t size) {
  size_t total;
  if (!count_times_size("mi_new_reallocn", newcount, size, &total)) {
    return throw_bad_alloc();
  }
  return mi_new_realloc(p, total);
}
