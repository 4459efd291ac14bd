/* The benchmark of heaps: runs one setting with one library and prints its figures.

   The library is loaded by name and its functions are looked up, so that the same binary
   measures mirt and mimalloc. Of mirt's headers it uses types, and the inline functions
   that go through the live blocks of an area. The program's own memory comes from
   elsewhere: the libraries' malloc is not the process's. */

#include "bench.h"

#include <mirt/visit.h>

#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* ---- the library ---- */

static struct {
  void *(*malloc)(size_t size);
  void (*free)(void *block);
  mi_heap_t *(*heap_new)(void);
  void *(*heap_malloc)(mi_heap_t *heap, size_t size);
  void (*heap_destroy)(mi_heap_t *heap);
  bool (*heap_visit_blocks)(const mi_heap_t *heap, bool blocks,
                            mi_block_visit_fun *visitor, void *argument);

  /* These may be missing. */
  mi_subproc_id_t (*subproc_main)(void);
  bool (*abandoned_visit_blocks)(mi_subproc_id_t subproc, int tag, bool blocks,
                                 mi_block_visit_fun *visitor, void *argument);
  bool (*visit_owner_heaps)(mirt_mutator_t *mutator, bool blocks,
                            mi_block_visit_fun *visitor, void *argument);
  bool (*visit_tag)(int tag, bool blocks, mi_block_visit_fun *visitor, void *argument);
} library;

static void find_function(void *handle, const char *name, bool required, void *function) {
  void *address = dlsym(handle, name);
  if (address == NULL && required) bench_fail(dlerror());
  memcpy(function, &address, sizeof address);
}

static void library_load(const char *path) {
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) bench_fail(dlerror());
  find_function(handle, "mi_malloc", true, &library.malloc);
  find_function(handle, "mi_free", true, &library.free);
  find_function(handle, "mi_heap_new", true, &library.heap_new);
  find_function(handle, "mi_heap_malloc", true, &library.heap_malloc);
  find_function(handle, "mi_heap_destroy", true, &library.heap_destroy);
  find_function(handle, "mi_heap_visit_blocks", true, &library.heap_visit_blocks);
  find_function(handle, "mi_subproc_main", false, &library.subproc_main);
  find_function(handle, "mi_abandoned_visit_blocks", false,
                &library.abandoned_visit_blocks);
  find_function(handle, "mirt_visit_owner_heaps", false, &library.visit_owner_heaps);
  find_function(handle, "mirt_visit_tag", false, &library.visit_tag);
}

/* ---- figures ---- */

static void print_time(const char *figure, uint64_t nanoseconds) {
  print_figure(figure, "ms", (double)nanoseconds / 1e6);
}

/* Reads more than a cache holds, so that what is timed next begins with caches in which
   nothing of it is left, whatever went before. */
static void sweep_caches(void) {
  enum { words = (64 << 20) / sizeof(uint64_t), words_per_line = 8 };
  static uint64_t *memory;
  if (memory == NULL) {
    memory = array_map(words, sizeof *memory);
    memset(memory, 1, words * sizeof *memory);
  }
  uint64_t sum = 0;
  for (size_t i = 0; i < words; i += words_per_line) sum += memory[i];
  if (sum == 0) bench_fail("memory has changed");
}

static int compare_times(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* What takes little time is done so often. */
enum { repeats = 3 };

static uint64_t median_time(uint64_t times[repeats]) {
  qsort(times, repeats, sizeof times[0], compare_times);
  return times[repeats / 2];
}

/* Blocks of one heap, or of none: their table is in order of allocation. */
struct set {
  void **blocks;
  size_t count;
  size_t size;
  struct random random;
  struct tally tally;
};

static struct set set_prepare(size_t count, size_t size) {
  void **blocks = array_map(count, sizeof *blocks);
  return (struct set){blocks, count, size, random_seed(count), {0}};
}

/* Writes to every system page of a block, so that the kernel's work is done before
   anything is timed. */
static void block_touch(struct tally *tally, char *block, size_t size) {
  enum { page_size = 4096 };
  for (size_t at = 0; at < size; at += page_size) block[at] = 1;
  block_stamp(tally, block, size);
}

static void set_allocate(struct set *set, mi_heap_t *heap) {
  for (size_t i = 0; i < set->count; i++) {
    void *block =
        heap != NULL ? library.heap_malloc(heap, set->size) : library.malloc(set->size);
    if (block == NULL) bench_fail("out of memory");
    block_touch(&set->tally, block, set->size);
    set->blocks[i] = block;
  }
}

static void set_check(struct set *set) {
  for (size_t i = 0; i < set->count; i++) block_check(&set->tally, set->blocks[i]);
  if (set->tally.written != set->tally.found)
    bench_fail("the blocks found are not the blocks allocated");
}

static void set_free(const struct set *set) {
  for (size_t i = 0; i < set->count; i++) library.free(set->blocks[i]);
}

static void set_shuffle(struct set *set) {
  for (size_t i = set->count; i > 1; i--) {
    const size_t j = random_below(&set->random, (uint32_t)i);
    void *block = set->blocks[i - 1];
    set->blocks[i - 1] = set->blocks[j];
    set->blocks[j] = block;
  }
}

/* Frees each block with a chance of one half; the others move together. */
static void set_free_half(struct set *set) {
  size_t kept = 0;
  for (size_t i = 0; i < set->count; i++) {
    if (random_below(&set->random, 2) == 0) {
      library.free(set->blocks[i]);
    } else {
      set->blocks[kept++] = set->blocks[i];
    }
  }
  set->count = kept;
}

/* ---- destroying a heap ---- */

enum way { BY_DESTROYING, IN_ORDER, AT_RANDOM };

static uint64_t time_to_free(struct set *set, enum way way) {
  mi_heap_t *heap = library.heap_new();
  if (heap == NULL) bench_fail("mi_heap_new: out of memory");
  set_allocate(set, heap);
  set_check(set);
  if (way == AT_RANDOM) set_shuffle(set);
  sweep_caches();
  const uint64_t start = clock_nanoseconds();
  if (way == BY_DESTROYING) {
    library.heap_destroy(heap);
  } else {
    set_free(set);
  }
  const uint64_t elapsed = clock_nanoseconds() - start;
  if (way != BY_DESTROYING) library.heap_destroy(heap);
  return elapsed;
}

static void run_destroy(size_t count, size_t size) {
  struct set set = set_prepare(count, size);
  /* The first heap finds fresh memory; those that are timed find what it left. */
  time_to_free(&set, BY_DESTROYING);
  uint64_t times[repeats];
  for (int i = 0; i < repeats; i++) times[i] = time_to_free(&set, BY_DESTROYING);
  const uint64_t destroy = median_time(times);
  const uint64_t in_order = time_to_free(&set, IN_ORDER);
  const uint64_t at_random = time_to_free(&set, AT_RANDOM);
  print_time("free one by one, in order", in_order);
  print_time("free one by one, at random", at_random);
  print_time("destroy", destroy);
  print_figure("destroy / free in order", "%", 100 * (double)destroy / (double)in_order);
  print_figure("destroy / free at random", "%",
               100 * (double)destroy / (double)at_random);
}

static void run_destroy_32(bool quick) { run_destroy(quick ? 2000000 : 10000000, 32); }
static void run_destroy_1k(bool quick) { run_destroy(quick ? 200000 : 1000000, 1 << 10); }
static void run_destroy_1m(bool quick) { run_destroy(quick ? 200 : 1000, 1 << 20); }

/* ---- visiting blocks ---- */

struct seen {
  size_t count;
  uintptr_t sum; /* of the addresses */
};

static bool see_block(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                      size_t size, void *argument) {
  struct seen *seen = argument;
  (void)heap, (void)area, (void)size;
  if (block == NULL) return true; /* the call for the area */
  seen->count++;
  seen->sum += (uintptr_t)block;
  return true;
}

static bool see_area(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                     size_t size, void *argument) {
  struct seen *seen = argument;
  struct seen here = {0, 0};
  (void)heap, (void)block, (void)size;
  mirt_area_iterator_t i = mirt_area_begin(area);
  for (void *p; (p = mirt_area_next(&i)) != NULL;) {
    here.count++;
    here.sum += (uintptr_t)p;
  }
  seen->count += here.count;
  seen->sum += here.sum;
  return true;
}

/* A way to visit: argument is a heap where one is needed. */
typedef bool visit_function(const void *argument, bool blocks, struct seen *seen);

static mi_block_visit_fun *visitor_for(bool blocks) {
  return blocks ? see_block : see_area;
}

static bool visit_heap(const void *heap, bool blocks, struct seen *seen) {
  return library.heap_visit_blocks(heap, blocks, visitor_for(blocks), seen);
}

static bool visit_owner(const void *none, bool blocks, struct seen *seen) {
  (void)none;
  return library.visit_owner_heaps(NULL, blocks, visitor_for(blocks), seen);
}

static bool visit_abandoned(const void *none, bool blocks, struct seen *seen) {
  (void)none;
  return library.abandoned_visit_blocks(library.subproc_main(), -1, blocks,
                                        visitor_for(blocks), seen);
}

static bool visit_tag(const void *none, bool blocks, struct seen *seen) {
  (void)none;
  return library.visit_tag(0, blocks, visitor_for(blocks), seen);
}

/* Visits all blocks of the set, a few times, and prints how many a second. */
static void time_visit(const char *figure, const struct set *set, visit_function *visit,
                       const void *argument, bool blocks) {
  uint64_t times[repeats];
  struct seen expected = {set->count, 0};
  for (size_t i = 0; i < set->count; i++) expected.sum += (uintptr_t)set->blocks[i];
  for (int i = 0; i < repeats; i++) {
    struct seen seen = {0, 0};
    sweep_caches();
    const uint64_t start = clock_nanoseconds();
    const bool all = visit(argument, blocks, &seen);
    times[i] = clock_nanoseconds() - start;
    if (!all) bench_fail("a visit was stopped");
    if (seen.count != expected.count || seen.sum != expected.sum)
      bench_fail("the blocks visited are not the blocks that are live");
  }
  print_figure(figure, "M/s", 1e3 * (double)set->count / (double)median_time(times));
}

enum { visited_block_size = 64 };

static struct set set_to_visit(bool quick) {
  return set_prepare(quick ? 2000000 : 10000000, visited_block_size);
}

static void run_visit(bool quick) {
  struct set set = set_to_visit(quick);
  mi_heap_t *heap = library.heap_new();
  if (heap == NULL) bench_fail("mi_heap_new: out of memory");
  const bool has_areas = library.visit_owner_heaps != NULL;
  set_allocate(&set, heap);
  time_visit("heap, all live, call per block", &set, visit_heap, heap, true);
  if (has_areas) {
    time_visit("heap, all live, areas", &set, visit_heap, heap, false);
    time_visit("owner, all live, areas", &set, visit_owner, NULL, false);
  }
  set_free_half(&set);
  time_visit("heap, half live, call per block", &set, visit_heap, heap, true);
  if (has_areas) {
    time_visit("heap, half live, areas", &set, visit_heap, heap, false);
    time_visit("owner, half live, areas", &set, visit_owner, NULL, false);
  }
}

static void *allocate_and_end(void *argument) {
  set_allocate(argument, NULL);
  return NULL;
}

static void run_thread(void *(*body)(void *), void *argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, argument) != 0)
    bench_fail("pthread_create: no thread");
  pthread_join(thread, NULL);
}

static void run_visit_abandoned(bool quick) {
  if (library.abandoned_visit_blocks == NULL && library.visit_tag == NULL) return;
  struct set set = set_to_visit(quick);
  run_thread(allocate_and_end, &set);
  for (int half = 0; half < 2; half++) {
    if (half) set_free_half(&set);
    if (library.abandoned_visit_blocks != NULL) {
      time_visit(half ? "abandoned, half live, call per block"
                      : "abandoned, all live, call per block",
                 &set, visit_abandoned, NULL, true);
    }
    if (library.visit_tag == NULL) continue;
    time_visit(half ? "abandoned, half live, areas" : "abandoned, all live, areas", &set,
               visit_abandoned, NULL, false);
    time_visit(half ? "tag, half live, areas" : "tag, all live, areas", &set, visit_tag,
               NULL, false);
  }
}

/* ---- threads that come and go ---- */

enum { thread_blocks = 1000, thread_kept = 100 };

struct wave {
  void **kept; /* by all threads so far */
  size_t kept_count;
  struct random random;
  struct tally tally;
};

static void *allocate_and_keep_some(void *argument) {
  struct wave *wave = argument;
  void *blocks[thread_blocks];
  for (size_t i = 0; i < thread_blocks; i++) {
    const size_t size = random_between(&wave->random, 16, 256);
    blocks[i] = library.malloc(size);
    if (blocks[i] == NULL) bench_fail("mi_malloc: out of memory");
    block_stamp(&wave->tally, blocks[i], size);
  }
  for (size_t left = thread_blocks; left > thread_kept; left--) {
    const size_t i = random_below(&wave->random, (uint32_t)left);
    block_check(&wave->tally, blocks[i]);
    library.free(blocks[i]);
    blocks[i] = blocks[left - 1];
  }
  memcpy(wave->kept + wave->kept_count, blocks, thread_kept * sizeof *blocks);
  wave->kept_count += thread_kept;
  return NULL;
}

static void *end_at_once(void *argument) { return argument; }

/* The size of the process in KiB, as the kernel calls it in /proc/self/status. */
static uint64_t process_kibibytes(const char *which) {
  char line[256];
  unsigned long size = 0;
  const size_t length = strlen(which);
  FILE *status = fopen("/proc/self/status", "r");
  if (status == NULL) bench_fail("/proc/self/status: cannot be read");
  while (fgets(line, sizeof line, status) != NULL) {
    if (strncmp(line, which, length) == 0) sscanf(line + length, ": %lu kB", &size);
  }
  fclose(status);
  return size;
}

static void run_threads(bool quick) {
  const size_t count = quick ? 500 : 1000;
  struct wave wave = {
      array_map(count * thread_kept, sizeof(void *)), 0, random_seed(7), {0}};
  memset(wave.kept, 0xFF, count * thread_kept * sizeof(void *));

  run_thread(end_at_once, NULL);
  const uint64_t bare_start = clock_nanoseconds();
  for (size_t i = 0; i < count; i++) run_thread(end_at_once, NULL);
  const uint64_t bare = clock_nanoseconds() - bare_start;

  const uint64_t resident = process_kibibytes("VmRSS");
  const uint64_t start = clock_nanoseconds();
  for (size_t i = 0; i < count; i++) run_thread(allocate_and_keep_some, &wave);
  const uint64_t elapsed = clock_nanoseconds() - start;
  const uint64_t peak = process_kibibytes("VmHWM");

  uint64_t kept_bytes = 0;
  for (size_t i = 0; i < wave.kept_count; i++) {
    kept_bytes += stamp_size(block_check(&wave.tally, wave.kept[i]));
    library.free(wave.kept[i]);
  }
  if (wave.tally.written != wave.tally.found)
    bench_fail("the blocks found are not the blocks allocated");
  print_figure("a thread", "us", (double)elapsed / (double)count / 1e3);
  print_figure("a thread that does nothing", "us", (double)bare / (double)count / 1e3);
  print_figure("peak memory", "MiB", (double)(peak - resident) / 1024);
  print_figure("peak memory / live blocks", "ratio",
               (double)(peak - resident) * 1024 / (double)kept_bytes);
}

/* ---- short-lived heaps ---- */

static double microseconds_per_heap(size_t heaps, size_t sizes) {
  enum { blocks = 100 };
  struct tally tally = {0};
  const uint64_t start = clock_nanoseconds();
  for (size_t i = 0; i < heaps; i++) {
    mi_heap_t *heap = library.heap_new();
    if (heap == NULL) bench_fail("mi_heap_new: out of memory");
    for (size_t j = 0; j < blocks; j++) {
      const size_t size = 32 + j % sizes * 16;
      void *block = library.heap_malloc(heap, size);
      if (block == NULL) bench_fail("mi_heap_malloc: out of memory");
      block_stamp(&tally, block, size);
    }
    library.heap_destroy(heap);
  }
  return (double)(clock_nanoseconds() - start) / (double)heaps / 1e3;
}

static void run_short_heaps(bool quick) {
  const size_t heaps = 10000;
  (void)quick;                          /* it takes no time */
  microseconds_per_heap(heaps / 10, 7); /* let first times be over */
  print_figure("a heap, blocks of one size", "us", microseconds_per_heap(heaps, 1));
  print_figure("a heap, blocks of seven sizes", "us", microseconds_per_heap(heaps, 7));
}

/* ---- settings ---- */

static const struct setting {
  const char *name;
  void (*run)(bool quick);
  bool keeps_memory; /* gives nothing back to the system while it runs */
} settings[] = {
    {"destroy-32", run_destroy_32, true},           {"destroy-1k", run_destroy_1k, true},
    {"destroy-1m", run_destroy_1m, true},           {"visit", run_visit, true},
    {"visit-abandoned", run_visit_abandoned, true}, {"threads", run_threads, false},
    {"short-heaps", run_short_heaps, false},
};

enum { setting_count = sizeof settings / sizeof settings[0] };

/* What a library reads from the environment when it is loaded. */
static void set_options(const struct setting *setting) {
  setenv("MIMALLOC_VISIT_ABANDONED", "1", 1);
  if (!setting->keeps_memory) return;
  /* Free memory waits as it always does, but longer than we run. */
  setenv("MIMALLOC_PURGE_DELAY", "3600000", 1);
  setenv("MIMALLOC_DECOMMIT_DELAY", "3600000", 1); /* the older name */
}

int main(int argc, char **argv) {
  const bool quick = argc == 4 && strcmp(argv[3], "--quick") == 0;
  if (argc == 3 || quick) {
    for (size_t i = 0; i < setting_count; i++) {
      if (strcmp(argv[2], settings[i].name) != 0) continue;
      set_options(&settings[i]);
      library_load(argv[1]);
      settings[i].run(quick);
      return 0;
    }
  }
  if (argc == 2 && strcmp(argv[1], "--list") == 0) {
    for (size_t i = 0; i < setting_count; i++) puts(settings[i].name);
    return 0;
  }
  fputs("usage: heaps LIBRARY SETTING [--quick] | --list\n", stderr);
  return 2;
}
