#include <mirt/python.h>

#include <errno.h>
#include <pthread.h>

#define likely(x) __builtin_expect(!!(x), 1)

static const char *const names[MIRT_PYTHON_DOMAINS] = {"raw", "mem", "object"};

/* Written before CPython knows of us. */
static struct {
  bool is_installed;
  int first_tag;
  mi_arena_id_t arena;
  PyMemAllocatorEx
      before[MIRT_PYTHON_DOMAINS]; /* who knows the blocks that are not ours */
  pthread_key_t end_key;
} python;

/* The calling thread's; NULL until it allocates there. They end with the thread. */
static _Thread_local mi_heap_t *heaps[MIRT_PYTHON_DOMAINS];
static _Thread_local bool thread_is_ending;

/* ---- heaps of threads ---- */

static mi_heap_t *new_heap(uintptr_t domain) {
  return mi_heap_new_ex(python.first_tag + (int)domain, false, python.arena);
}

/* The system calls this before mirt ends the thread's heaps. */
static void end_thread(void *key) {
  (void)key;
  thread_is_ending = true;
  memset(heaps, 0, sizeof heaps);
}

static mi_heap_t *first_heap(uintptr_t domain) {
  mi_heap_t *heap = new_heap(domain);
  if (heap != NULL && pthread_setspecific(python.end_key, &python) != 0) {
    mi_heap_delete(heap);
    return NULL;
  }
  return heaps[domain] = heap;
}

/* A destructor of another key allocates in a thread that ends: what it gets may outlive
 * the thread, but a heap must not be left behind for each. */
static void *allocate_at_end(uintptr_t domain, void *p, size_t size, bool zero) {
  mi_heap_t *heap = new_heap(domain);
  if (heap == NULL) return NULL;
  void *block = zero ? mi_heap_zalloc(heap, size) : mi_heap_realloc(heap, p, size);
  mi_heap_delete(heap);
  return block;
}

/* ---- the domains ---- */

/* What CPython gives us back as the context is the number of the domain. */

__attribute__((noinline)) static void *malloc_first(uintptr_t domain, size_t size) {
  if (thread_is_ending) return allocate_at_end(domain, NULL, size, false);
  mi_heap_t *heap = first_heap(domain);
  return heap == NULL ? NULL : mi_heap_malloc(heap, size);
}

static void *domain_malloc(void *context, size_t size) {
  const uintptr_t domain = (uintptr_t)context;
  mi_heap_t *heap = heaps[domain];
  return likely(heap != NULL) ? mi_heap_malloc(heap, size) : malloc_first(domain, size);
}

static void *domain_calloc(void *context, size_t count, size_t size) {
  const uintptr_t domain = (uintptr_t)context;
  mi_heap_t *heap = heaps[domain];
  if (likely(heap != NULL)) return mi_heap_calloc(heap, count, size);
  if (thread_is_ending) { /* CPython has looked whether the product overflows */
    return allocate_at_end(domain, NULL, count * size, true);
  }
  heap = first_heap(domain);
  return heap == NULL ? NULL : mi_heap_calloc(heap, count, size);
}

static void *domain_realloc(void *context, void *p, size_t size) {
  const uintptr_t domain = (uintptr_t)context;
  if (p != NULL && !mi_is_in_heap_region(p)) {
    const PyMemAllocatorEx *before = &python.before[domain];
    return before->realloc(before->ctx, p, size);
  }
  mi_heap_t *heap = heaps[domain];
  if (likely(heap != NULL)) return mi_heap_realloc(heap, p, size);
  if (thread_is_ending) return allocate_at_end(domain, p, size, false);
  heap = first_heap(domain);
  return heap == NULL ? NULL : mi_heap_realloc(heap, p, size);
}

static void domain_free(void *context, void *p) {
  if (likely(mirt_try_free(p))) return;
  const PyMemAllocatorEx *before = &python.before[(uintptr_t)context];
  before->free(before->ctx, p);
}

/* ---- installing ---- */

static const PyMemAllocatorDomain python_domains[MIRT_PYTHON_DOMAINS] = {
    PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};

/* An object of CPython's collector has links of so many bytes in front. */
#define LINK_SIZE 16
#define LINE_SIZE 64 /* of the cache */

/* mirt reports what it refuses; this asks it to. */
static int try_options(const mirt_python_options_t *options, int first_tag) {
  for (int i = 0; i < MIRT_PYTHON_DOMAINS; i++) {
    /* Also one that is out of range is reported so, the highest first. */
    mi_heap_t *heap = mi_heap_new_ex(first_tag + 2 - i, false, options->arena);
    if (heap == NULL) return errno == ENOMEM ? ENOMEM : EINVAL;
    mi_heap_delete(heap);
  }
  /* If the tag has been used, collections take longer, and that is all. */
  (void)mirt_tag_shift_blocks(first_tag + MIRT_PYTHON_OBJECT, LINE_SIZE - LINK_SIZE);
  for (int i = 0; options->sealed && i < MIRT_PYTHON_DOMAINS; i++) {
    const int error = mirt_tag_seal(first_tag + i);
    if (error != 0) return error;
  }
  return 0;
}

int mirt_python_install(const mirt_python_options_t *options) {
  const mirt_python_options_t defaults = {0};
  if (options == NULL) options = &defaults;
  const int first_tag = options->first_tag == 0 ? 1 : options->first_tag;
  if (python.is_installed) return EBUSY;
  if (first_tag < 1 || first_tag > MIRT_TAG_MAX - 2) return EINVAL;
  const int error = try_options(options, first_tag);
  if (error != 0) return error;
  if (pthread_key_create(&python.end_key, end_thread) != 0) return ENOMEM;
  python.first_tag = first_tag;
  python.arena = options->arena;
  python.is_installed = true;
  for (uintptr_t i = 0; i < MIRT_PYTHON_DOMAINS; i++) {
    PyMem_GetAllocator(python_domains[i], &python.before[i]);
  }
  for (uintptr_t i = 0; i < MIRT_PYTHON_DOMAINS; i++) {
    PyMemAllocatorEx allocator = {(void *)i, domain_malloc, domain_calloc, domain_realloc,
                                  domain_free};
    PyMem_SetAllocator(python_domains[i], &allocator);
  }
  return 0;
}

bool mirt_python_is_installed(void) { return python.is_installed; }

const char *mirt_python_domain_name(int domain) { return names[domain]; }

int mirt_python_domain_tag(int domain) {
  return python.is_installed ? python.first_tag + domain : -1;
}
