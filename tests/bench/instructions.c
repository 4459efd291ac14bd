/* The benchmark of instructions: repeats one pattern of calls a number of times, for
   valgrind's callgrind to count. Nothing is timed.

   limits.py runs a pattern with COUNT and with twice as much; the difference divided by
   COUNT is what one repetition takes, and start and end of the process drop out. It does
   the same with functions that only return (--none), which leaves the loop; what the
   loop does besides calling is so the same for all and may take its time. The functions
   that only return have two instructions if they give a result (NULL), else one; they are
   the function's and not the loop's, so the program prints how many they are.

   A pattern allocates and frees by functions that are named on the command line. */

#include "limits.h"

#include <pthread.h>

/* ---- the calls ---- */

enum allocate_form { BY_SIZE, BY_COUNT_AND_SIZE, BY_HEAP_AND_SIZE };
enum free_form { BY_BLOCK, BY_BLOCK_AND_SIZE };

static struct {
  size_t size;
  void *heap;
  enum allocate_form allocate_form;
  enum free_form free_form;
  union {
    void *(*by_size)(size_t size);
    void *(*by_count_and_size)(size_t count, size_t size);
    void *(*by_heap_and_size)(void *heap, size_t size);
  } allocate;
  union {
    void (*by_block)(void *block);
    void (*by_block_and_size)(void *block, size_t size);
  } free;
  void *(*realloc)(void *block, size_t size);
} calls;

static void *none_by_size(size_t size) { return (void)size, NULL; }
static void *none_by_pair(size_t count, size_t size) {
  return (void)count, (void)size, NULL;
}
static void *none_by_heap(void *heap, size_t size) {
  return (void)heap, (void)size, NULL;
}
static void none_free(void *block) { (void)block; }
static void none_free_size(void *block, size_t size) { (void)block, (void)size; }

static const struct {
  const char *name;
  enum allocate_form form;
} allocate_functions[] = {
    {"malloc", BY_SIZE},
    {"calloc", BY_COUNT_AND_SIZE},
    {"mi_malloc", BY_SIZE},
    {"mi_malloc_small", BY_SIZE},
    {"mi_heap_malloc_small", BY_HEAP_AND_SIZE},
    {"_Znwm", BY_SIZE}, /* operator new */
};

static const struct {
  const char *name;
  enum free_form form;
} free_functions[] = {
    {"free", BY_BLOCK},
    {"mi_free", BY_BLOCK},
    {"mi_free_size", BY_BLOCK_AND_SIZE},
    {"_ZdlPvm", BY_BLOCK_AND_SIZE}, /* operator delete with a size */
};

static void find_allocate(const char *name) {
  for (size_t i = 0; i < sizeof allocate_functions / sizeof *allocate_functions; i++) {
    if (strcmp(name, allocate_functions[i].name) != 0) continue;
    calls.allocate_form = allocate_functions[i].form;
    function_find(name, true, &calls.allocate);
    return;
  }
  bench_fail("unknown function to allocate");
}

static void find_free(const char *name) {
  for (size_t i = 0; i < sizeof free_functions / sizeof *free_functions; i++) {
    if (strcmp(name, free_functions[i].name) != 0) continue;
    calls.free_form = free_functions[i].form;
    function_find(name, true, &calls.free);
    return;
  }
  bench_fail("unknown function to free");
}

#ifdef __CET__
enum { landing_pad = __CET__ & 1 }; /* an instruction that functions may begin with */
#else
enum { landing_pad = 0 };
#endif

static void call_nothing(void) {
  switch (calls.allocate_form) {
    case BY_SIZE: calls.allocate.by_size = none_by_size; break;
    case BY_COUNT_AND_SIZE: calls.allocate.by_count_and_size = none_by_pair; break;
    case BY_HEAP_AND_SIZE: calls.allocate.by_heap_and_size = none_by_heap; break;
  }
  switch (calls.free_form) {
    case BY_BLOCK: calls.free.by_block = none_free; break;
    case BY_BLOCK_AND_SIZE: calls.free.by_block_and_size = none_free_size; break;
  }
  calls.realloc = none_by_heap;
}

static void *block_allocate(void) {
  switch (calls.allocate_form) {
    case BY_SIZE: return calls.allocate.by_size(calls.size);
    case BY_COUNT_AND_SIZE: return calls.allocate.by_count_and_size(1, calls.size);
    case BY_HEAP_AND_SIZE: return calls.allocate.by_heap_and_size(calls.heap, calls.size);
  }
  return NULL;
}

static void block_free(void *block) {
  switch (calls.free_form) {
    case BY_BLOCK: calls.free.by_block(block); break;
    case BY_BLOCK_AND_SIZE: calls.free.by_block_and_size(block, calls.size); break;
  }
}

/* ---- the patterns ---- */

static void **blocks;

static void allocate_all(size_t count) {
  for (size_t i = 0; i < count; i++) blocks[i] = block_allocate();
}

static void free_all(size_t count) {
  for (size_t i = 0; i < count; i++) block_free(blocks[i]);
}

static void shuffle_all(size_t count) {
  struct random random = random_seed(1);
  for (size_t i = count; i > 1; i--) {
    const size_t j = random_below(&random, (uint32_t)i);
    void *block = blocks[i - 1];
    blocks[i - 1] = blocks[j];
    blocks[j] = block;
  }
}

static void run_allocate(size_t count) { allocate_all(count); }

static void run_in_order(size_t count) {
  allocate_all(count);
  free_all(count);
}

static void run_at_random(size_t count) {
  allocate_all(count);
  shuffle_all(count);
  free_all(count);
}

static void run_pair(size_t count) {
  for (size_t i = 0; i < count; i++) {
    blocks[0] = block_allocate();
    block_free(blocks[0]);
  }
}

/* Here the page never becomes empty. */
static void run_pair_beside(size_t count) {
  allocate_all(100);
  run_pair(count);
}

static void run_batch(size_t count) {
  const size_t batch = 1000;
  for (size_t done = 0; done < count; done += batch) {
    allocate_all(batch);
    free_all(batch);
  }
}

/* Grows a block byte by byte within what the smallest block for it has anyway; every
   eighth time it starts again. */
static void run_realloc(size_t count) {
  void *block = block_allocate();
  for (size_t i = 0; i < count; i++) block = calls.realloc(block, calls.size - 7 + i % 8);
}

static void thread_run(void *(*start)(void *), size_t count) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, start, &count) != 0)
    bench_fail("pthread_create: failed");
  pthread_join(thread, NULL);
}

static void *allocating_thread(void *count) {
  allocate_all(*(size_t *)count);
  return NULL;
}

static void *freeing_thread(void *count) {
  free_all(*(size_t *)count);
  return NULL;
}

/* The thread that allocated is alive, but does nothing meanwhile. */
static void run_foreign(size_t count) {
  allocate_all(count);
  thread_run(freeing_thread, count);
}

/* The thread that allocated has ended. */
static void run_ended_allocate(size_t count) { thread_run(allocating_thread, count); }

static void run_ended(size_t count) {
  thread_run(allocating_thread, count);
  free_all(count);
}

static const struct {
  const char *name;
  void (*run)(size_t count);
} patterns[] = {
    {"allocate", run_allocate},
    {"in-order", run_in_order},
    {"at-random", run_at_random},
    {"pair", run_pair},
    {"pair-beside", run_pair_beside},
    {"batch", run_batch},
    {"realloc", run_realloc},
    {"foreign", run_foreign},
    {"ended-allocate", run_ended_allocate},
    {"ended", run_ended},
};

int main(int argc, char **argv) {
  const bool none = argc == 7 && strcmp(argv[6], "--none") == 0;
  if (argc != 6 && !none) {
    fputs("usage: instructions PATTERN COUNT SIZE ALLOCATE FREE [--none]\n", stderr);
    return 2;
  }
  const size_t count = strtoul(argv[2], NULL, 10);
  calls.size = strtoul(argv[3], NULL, 10);
  /* Where the allocator has no operators, those of the C++ library call its malloc. */
  if (strcmp(argv[4], "_Znwm") == 0) dlopen("libstdc++.so.6", RTLD_NOW | RTLD_GLOBAL);
  print_provider(argv[4]);
  find_allocate(argv[4]);
  find_free(argv[5]);
  function_find("realloc", true, &calls.realloc);
  if (calls.allocate_form == BY_HEAP_AND_SIZE) {
    void *(*heap_new)(void);
    function_find("mi_heap_new", true, &heap_new);
    calls.heap = heap_new();
  }
  if (none) call_nothing();
  printf("empty\t%d\t%d\n", 2 + landing_pad, 1 + landing_pad);
  blocks = array_map(count, sizeof *blocks);
  for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
    if (strcmp(argv[1], patterns[i].name) != 0) continue;
    patterns[i].run(count);
    return 0;
  }
  bench_fail("unknown pattern");
}
