/* default_heap.c - functions that do what their namesakes for a heap do, in the calling
 * thread's default heap. */
#include "heap/owner.h"

#define IN_DEFAULT_HEAP(type, name, parameters, ...) \
  type mi_##name parameters { return mi_heap_##name(current.heap, __VA_ARGS__); }

IN_DEFAULT_HEAP(void *, mallocn, (size_t count, size_t size), count, size)
IN_DEFAULT_HEAP(void *, calloc, (size_t count, size_t size), count, size)
IN_DEFAULT_HEAP(void *, realloc, (void *p, size_t size), p, size)
IN_DEFAULT_HEAP(void *, reallocn, (void *p, size_t count, size_t size), p, count, size)
IN_DEFAULT_HEAP(void *, reallocf, (void *p, size_t size), p, size)
IN_DEFAULT_HEAP(void *, rezalloc, (void *p, size_t size), p, size)
IN_DEFAULT_HEAP(void *, recalloc, (void *p, size_t count, size_t size), p, count, size)
IN_DEFAULT_HEAP(char *, strdup, (const char *s), s)
IN_DEFAULT_HEAP(char *, strndup, (const char *s, size_t n), s, n)
IN_DEFAULT_HEAP(char *, realpath, (const char *name, char *resolved), name, resolved)

/* a: alignment, o: offset; bytes */
IN_DEFAULT_HEAP(void *, malloc_aligned, (size_t size, size_t a), size, a)
IN_DEFAULT_HEAP(void *, malloc_aligned_at, (size_t size, size_t a, size_t o), size, a, o)
IN_DEFAULT_HEAP(void *, zalloc_aligned, (size_t size, size_t a), size, a)
IN_DEFAULT_HEAP(void *, zalloc_aligned_at, (size_t size, size_t a, size_t o), size, a, o)
IN_DEFAULT_HEAP(void *, calloc_aligned, (size_t n, size_t size, size_t a), n, size, a)
IN_DEFAULT_HEAP(void *, calloc_aligned_at, (size_t n, size_t size, size_t a, size_t o), n,
                size, a, o)
IN_DEFAULT_HEAP(void *, realloc_aligned, (void *p, size_t size, size_t a), p, size, a)
IN_DEFAULT_HEAP(void *, realloc_aligned_at, (void *p, size_t size, size_t a, size_t o), p,
                size, a, o)
IN_DEFAULT_HEAP(void *, rezalloc_aligned, (void *p, size_t size, size_t a), p, size, a)
IN_DEFAULT_HEAP(void *, rezalloc_aligned_at, (void *p, size_t size, size_t a, size_t o),
                p, size, a, o)
IN_DEFAULT_HEAP(void *, recalloc_aligned, (void *p, size_t n, size_t size, size_t a), p,
                n, size, a)
IN_DEFAULT_HEAP(void *, recalloc_aligned_at,
                (void *p, size_t n, size_t size, size_t a, size_t o), p, n, size, a, o)
