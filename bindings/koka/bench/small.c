/* The benchmark of small blocks: allocating and freeing them as a runtime that counts
 * references does. Prints its figures, for one of
 *
 *   small inline   small_malloc of bindings/koka/small.h, and mi_free
 *   small mirt     mi_heap_malloc_small and mi_free of the mirt it is linked with
 *   small PATH     the same of a library that is loaded, mimalloc for instance
 *
 * Blocks have sizes that the compiler knows, as those of constructors: 16 bytes for a
 * list's cell, 24 for a tree's node.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "../../../tests/bench/bench.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../small.h"

SMALL_DEFINE;

#define ARENA_SIZE ((size_t)16 << 30)

/* ---- the sides ---- */

static mirt_mutator_t *mutator;

static void inline_begin(void) {
  const mirt_cage_options_t cage = {.shift = 2, .signed_refs = true};
  mirt_runtime_t *runtime;
  if (mirt_runtime_create(&(mirt_runtime_options_t){.cage = &cage}, &runtime) != 0) {
    bench_fail("no runtime");
  }
  mutator = mirt_mutator_create_in(runtime);
  if (mutator == NULL || !small_begin(runtime) || mirt_mutator_bind(mutator) != 0) {
    bench_fail("no mutator, or no types");
  }
}

static struct {
  void *(*heap_malloc_small)(mi_heap_t *heap, size_t size);
  void *(*heap_zalloc)(mi_heap_t *heap, size_t size);
  void (*free)(void *block);
  int (*reserve)(size_t size, bool commit, bool allow_large, bool exclusive,
                 mi_arena_id_t *arena);
  mi_heap_t *(*heap_new_in_arena)(mi_arena_id_t arena);
  mi_heap_t *heap;
} library;

static void find_function(void *handle, const char *name, void *function) {
  void *address = dlsym(handle, name);
  if (address == NULL) bench_fail(dlerror());
  memcpy(function, &address, sizeof address);
}

/* Called through pointers either way: that costs a call what a shared library's table
 * does. */
static void library_begin(const char *path) {
  void *handle =
      path == NULL ? RTLD_DEFAULT : dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (path != NULL && handle == NULL) bench_fail(dlerror());
  find_function(handle, "mi_heap_malloc_small", &library.heap_malloc_small);
  find_function(handle, "mi_heap_zalloc", &library.heap_zalloc);
  find_function(handle, "mi_free", &library.free);
  find_function(handle, "mi_reserve_os_memory_ex", &library.reserve);
  find_function(handle, "mi_heap_new_in_arena", &library.heap_new_in_arena);
  mi_arena_id_t arena;
  if (library.reserve(ARENA_SIZE, false, true, true, &arena) != 0) {
    bench_fail("no addresses for the arena");
  }
  library.heap = library.heap_new_in_arena(arena);
  if (library.heap == NULL) bench_fail("no memory for the heap");
}

/* ---- the loops ---- */

enum { in_caches = 10000, chunk = 1000, table = 1 << 19 };

static uint64_t sum; /* of what the blocks hold, so that each is written and read */

/* Memory that the process has. */
static size_t resident_bytes(void) {
  unsigned long pages;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%*u %lu", &pages) != 1) bench_fail("no statm");
  fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static inline void *fill(void *block, uint64_t i) {
  if (block == NULL) bench_fail("no memory");
  *(uint64_t *)block = i;
  return block;
}

/* Both sides run the same code. Figures are for a block: allocated, and freed where that
 * is timed too. */
#define DEFINE_LOOPS(side, allocate16, allocate24, zallocate24, release) \
  static void side##_run(size_t most) { \
    static void *blocks[in_caches]; \
    uint64_t only = 0, zeroed = 0; \
    for (size_t i = 0; i <= most; i += in_caches) { \
      uint64_t start = clock_nanoseconds(); \
      for (size_t k = 0; k < in_caches; k++) blocks[k] = fill(allocate16, k); \
      if (i != 0) only += clock_nanoseconds() - start; \
      for (size_t k = 0; k < in_caches; k++) release(blocks[k]); \
      start = clock_nanoseconds(); \
      for (size_t k = 0; k < in_caches; k++) blocks[k] = fill(zallocate24, k); \
      if (i != 0) zeroed += clock_nanoseconds() - start; \
      for (size_t k = 0; k < in_caches; k++) { \
        if (((uint64_t *)blocks[k])[2] != 0) bench_fail("a block is not zero"); \
        ((uint64_t *)blocks[k])[2] = ~(uint64_t)0; \
        release(blocks[k]); \
      } \
    } \
    print_each("allocate 16 bytes", only, most); \
    print_each("allocate 24 bytes of zeros", zeroed, most); \
    uint64_t start = clock_nanoseconds(); \
    for (size_t i = 0; i < most; i++) { \
      void *block = fill(allocate16, i); \
      sum += *(volatile uint64_t *)block; \
      release(block); \
    } \
    print_each("allocate and free one", clock_nanoseconds() - start, most); \
    start = clock_nanoseconds(); \
    for (size_t i = 0; i < most; i += chunk) { \
      for (size_t k = 0; k < chunk; k += 2) { \
        blocks[k] = fill(allocate16, i + k); \
        blocks[k + 1] = fill(allocate24, i + k + 1); \
      } \
      for (size_t k = 0; k < chunk; k++) { \
        sum += *(uint64_t *)blocks[k]; \
        release(blocks[k]); \
      } \
    } \
    print_each("allocate 1000, free 1000", clock_nanoseconds() - start, most); \
    void **many = array_map(table, sizeof *many); \
    struct random random = random_seed(1); \
    memset(many, 0, table * sizeof *many); \
    const size_t before = resident_bytes(); \
    for (size_t i = 0; i < table; i++) many[i] = fill(allocate24, i); \
    print_figure("memory for 24 bytes", "bytes", \
                 (double)(resident_bytes() - before) / (double)table); \
    start = clock_nanoseconds(); \
    for (size_t i = 0; i < most / 4; i++) { \
      const size_t k = random_below(&random, table); \
      release(many[k]); \
      many[k] = fill(allocate24, i); \
    } \
    print_each("replace one of 500000", clock_nanoseconds() - start, most / 4); \
    for (size_t i = 0; i < table; i++) release(many[i]); \
    if (sum != (uint64_t)most * (most - 1)) bench_fail("a block has changed"); \
  }

static void print_each(const char *figure, uint64_t nanoseconds, uint64_t operations) {
  print_figure(figure, "ns", (double)nanoseconds / (double)operations);
}

DEFINE_LOOPS(inline, small_malloc(mutator, 16), small_malloc(mutator, 24),
             small_zalloc(mutator, 24), mi_free)
DEFINE_LOOPS(library, library.heap_malloc_small(library.heap, 16),
             library.heap_malloc_small(library.heap, 24),
             library.heap_zalloc(library.heap, 24), library.free)

int main(int argc, char **argv) {
  const bool quick = argc == 3 && strcmp(argv[2], "--quick") == 0;
  if (argc < 2 || (argc > 2 && !quick)) {
    bench_fail("usage: small inline | mirt | PATH [--quick]");
  }
  const size_t most = quick ? 2000000 : 20000000;
  if (strcmp(argv[1], "inline") == 0) {
    inline_begin();
    inline_run(most);
  } else {
    library_begin(strcmp(argv[1], "mirt") == 0 ? NULL : argv[1]);
    library_run(most);
  }
  return 0;
}
