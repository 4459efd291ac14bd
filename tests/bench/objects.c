/* The benchmark of objects: allocating them, freeing them, sweeping them. Runs one setting
   with mirt, or with a library that is loaded by name and has the functions of mimalloc,
   and prints its figures.

   The objects of mirt are those of a type in a runtime; what it measures is what a virtual
   machine would do, its inline functions included. Of mimalloc it calls what a virtual
   machine would: mi_heap_malloc_small, with a heap of its own, and mi_free. */

#include "bench.h"

#include <mirt.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* ---- the two sides ---- */

static struct {
  void *(*heap_malloc_small)(mi_heap_t *heap, size_t size);
  void (*free)(void *block);
  mi_heap_t *heap;
} peer;

static void find_function(void *handle, const char *name, void *function) {
  void *address = dlsym(handle, name);
  if (address == NULL) bench_fail(dlerror());
  memcpy(function, &address, sizeof address);
}

static void peer_load(const char *path) {
  /* It calls its own functions, though this program has some of the same names. */
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  mi_heap_t *(*heap_new)(void);
  if (handle == NULL) bench_fail(dlerror());
  find_function(handle, "mi_heap_malloc_small", &peer.heap_malloc_small);
  find_function(handle, "mi_free", &peer.free);
  find_function(handle, "mi_heap_new", &heap_new);
  peer.heap = heap_new();
  if (peer.heap == NULL) bench_fail("mi_heap_new: no memory");
}

static struct {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator;
  mirt_type_t *type;
} own;

static void own_begin(size_t size) {
  if (mirt_runtime_create(NULL, &own.runtime) != 0) bench_fail("mirt_runtime_create");
  own.type = mirt_type_new(own.runtime, &(mirt_type_options_t){.size = size});
  own.mutator = mirt_mutator_create_in(own.runtime);
  if (own.type == NULL || own.mutator == NULL || mirt_mutator_bind(own.mutator) != 0) {
    bench_fail("no mutator, or no type");
  }
}

/* ---- figures ---- */

static void print_each(const char *figure, uint64_t nanoseconds, uint64_t operations) {
  print_figure(figure, "ns", (double)nanoseconds / (double)operations);
}

/* ---- new: objects of 32 bytes ---- */

enum { object_size = 32, chunk = 1000, in_caches = 10000 };

static uint64_t sum; /* of what the objects hold, so that each is written and read */

static inline void *object_fill(void *object, uint64_t i) {
  if (object == NULL) bench_fail("no memory");
  *(uint64_t *)object = i;
  return object;
}

/* The loops, for one way to allocate and one to free: both sides run the same code. */
#define DEFINE_LOOPS(side, allocate, release) \
  static uint64_t side##_only(void **objects, size_t count) { \
    const uint64_t start = clock_nanoseconds(); \
    for (size_t i = 0; i < count; i++) objects[i] = object_fill(allocate, i); \
    return clock_nanoseconds() - start; \
  } \
  static uint64_t side##_pairs(size_t count) { \
    const uint64_t start = clock_nanoseconds(); \
    for (size_t i = 0; i < count; i++) { \
      void *object = object_fill(allocate, i); \
      sum += *(uint64_t *)object; \
      release(object); \
    } \
    return clock_nanoseconds() - start; \
  } \
  static uint64_t side##_chunks(size_t count) { \
    void *objects[chunk]; \
    const uint64_t start = clock_nanoseconds(); \
    for (size_t i = 0; i < count; i += chunk) { \
      for (size_t k = 0; k < chunk; k++) objects[k] = object_fill(allocate, i + k); \
      for (size_t k = 0; k < chunk; k++) { \
        sum += *(uint64_t *)objects[k]; \
        release(objects[k]); \
      } \
    } \
    return clock_nanoseconds() - start; \
  }

DEFINE_LOOPS(own, mirt_new(own.mutator, own.type), mirt_delete)
DEFINE_LOOPS(peer, peer.heap_malloc_small(peer.heap, object_size), peer.free)

static void release_all(bool is_own, void **objects, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (*(uint64_t *)objects[i] != i) bench_fail("an object has changed");
    if (is_own) {
      mirt_delete(objects[i]);
    } else {
      peer.free(objects[i]);
    }
  }
}

static void setting_new(bool is_own, bool quick) {
  const size_t most = quick ? 8000000 : 40000000;
  static void *objects[in_caches];
  uint64_t only = 0;
  if (is_own) own_begin(object_size);
  for (size_t i = 0; i <= most; i += in_caches) {
    const uint64_t time =
        is_own ? own_only(objects, in_caches) : peer_only(objects, in_caches);
    if (i != 0) only += time; /* the first takes memory from the system */
    release_all(is_own, objects, in_caches);
  }
  print_each("allocate only", only, most);
  print_each("allocate and free one", is_own ? own_pairs(most) : peer_pairs(most), most);
  print_each("allocate 1000, free 1000", is_own ? own_chunks(most) : peer_chunks(most),
             most);
  if (sum != (uint64_t)most * (most - 1)) bench_fail("an object has changed");
}

/* ---- sweep: objects of 64 bytes, half of which are dead ---- */

enum { swept_size = 64 };

struct graph {
  void **objects;
  size_t count;
};

/* Is an object dead? Which half is random. */
static bool is_dead(struct random *random) { return random_below(random, 2) == 0; }

static void mark_living(mirt_marker_t *marker, void *argument) {
  const struct graph *graph = argument;
  struct random random = random_seed(graph->count);
  for (size_t i = 0; i < graph->count; i++) {
    if (!is_dead(&random)) mirt_mark(marker, graph->objects[i]);
  }
}

static uint64_t free_dead(const struct graph *graph) {
  /* Who is dead is known before, as if marks said so. */
  void **dead = array_map(graph->count, sizeof *dead);
  struct random random = random_seed(graph->count);
  size_t count = 0;
  for (size_t i = 0; i < graph->count; i++) {
    if (is_dead(&random)) dead[count++] = graph->objects[i];
  }
  const uint64_t start = clock_nanoseconds();
  for (size_t i = 0; i < count; i++) peer.free(dead[i]);
  return clock_nanoseconds() - start;
}

static void setting_sweep(bool is_own, bool quick) {
  struct graph graph = {.count = quick ? 2000000 : 10000000};
  graph.objects = array_map(graph.count, sizeof *graph.objects);
  if (is_own) own_begin(swept_size);
  for (size_t i = 0; i < graph.count; i++) {
    graph.objects[i] = object_fill(is_own ? mirt_new(own.mutator, own.type)
                                          : peer.heap_malloc_small(peer.heap, swept_size),
                                   i);
  }
  if (!is_own) {
    print_figure("the dead half", "ms", (double)free_dead(&graph) / 1e6);
    return;
  }
  mirt_gc_stats_t stats;
  if (mirt_collect(own.runtime, mark_living, &graph, NULL, &stats) != 0) {
    bench_fail("mirt_collect");
  }
  struct random random = random_seed(graph.count);
  for (size_t i = 0; i < graph.count; i++) {
    if (!is_dead(&random) && *(uint64_t *)graph.objects[i] != i) {
      bench_fail("an object has changed");
    }
  }
  if (stats.live_objects + stats.freed_objects != graph.count) {
    bench_fail("objects are lost");
  }
  print_figure("the dead half", "ms", (double)stats.sweep_time / 1e6);
}

/* ---- main ---- */

int main(int argc, char **argv) {
  const bool quick = argc == 4 && strcmp(argv[3], "--quick") == 0;
  if (argc != 3 && !quick) {
    fputs("usage: objects mirt|LIBRARY new|sweep [--quick]\n", stderr);
    return 2;
  }
  const bool is_own = strcmp(argv[1], "mirt") == 0;
  if (!is_own) peer_load(argv[1]);
  if (strcmp(argv[2], "new") == 0) {
    setting_new(is_own, quick);
  } else if (strcmp(argv[2], "sweep") == 0) {
    setting_sweep(is_own, quick);
  } else {
    bench_fail("no such setting");
  }
  return 0;
}
