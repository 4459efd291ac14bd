/* The benchmark of collected graphs. One source, built three times: with references of 32
   bits (WITH_REFS), with pointers of 64 bits, both of mirt, and with the collector of
   Boehm, Demers and Weiser (WITH_BDWGC), which is told its roots by the stack. It runs one
   setting and prints its figures. */

#include "bench.h"

#ifdef WITH_BDWGC
#define GC_THREADS /* for GC_set_markers_count */
#include <gc.h>
#else
#include <mirt.h>
#endif

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The largest memory the process ever held, as the kernel counts it. */
static double peak_mib(void) {
  char line[256];
  unsigned long kib = 0;
  FILE *status = fopen("/proc/self/status", "r");
  if (status == NULL) bench_fail("/proc/self/status cannot be read");
  while (fgets(line, sizeof line, status) != NULL) {
    if (sscanf(line, "VmHWM: %lu", &kib) == 1) break;
  }
  fclose(status);
  return (double)kib / 1024;
}

/* ---- nodes ---- */

/* The fields of a node that are not links: numbers of 32 bits, or words, which are as wide
   as a link: what an object of a dynamically typed language has. */
#ifdef WITH_REFS
typedef mirt_ref_t link_t;
typedef uint32_t word_t;
#else
typedef struct node *link_t;
typedef uintptr_t word_t;
#endif

enum { left, right };

struct node {
  link_t links[2];
};

struct node_of_numbers {
  struct node node;
  int i, j;
};

struct node_of_words {
  struct node node;
  word_t i, j;
};

#ifdef WITH_BDWGC

static size_t node_size;

static inline struct node *node_at(link_t link) { return link; }
static inline link_t link_to(struct node *node) { return node; }

static inline struct node *node_new(void) {
  struct node *node = GC_MALLOC(node_size);
  if (node == NULL) bench_fail("GC_MALLOC: no memory");
  return node;
}

/* The stack holds them. */
static inline void root_push(struct node *node) { (void)node; }
static inline void root_pop(size_t count) { (void)count; }

static void *numbers_new(size_t size) { return GC_MALLOC_ATOMIC(size); }

static void heap_begin(size_t size) {
  GC_set_markers_count(1);
  GC_INIT();
  node_size = size;
}

static void heap_end(void) { print_figure("collections", "", (double)GC_get_gc_no()); }

#else

static mirt_runtime_t *runtime;
static mirt_mutator_t *mutator;
static mirt_type_t *node_type, *numbers_type;
static const mirt_cage_t *cage;

/* No null is looked at. */
#ifdef WITH_REFS
static inline struct node *node_at(link_t link) { return mirt_decode(cage, link); }
static inline link_t link_to(struct node *node) {
  return mirt_encode_nullable(cage, node);
}
#else
static inline struct node *node_at(link_t link) { return link; }
static inline link_t link_to(struct node *node) { return node; }
#endif

/* ---- roots, as a virtual machine's stack ---- */

static struct node *roots[1 << 16];
static size_t root_count;
static void *numbers; /* of GCBench */

static inline void root_push(struct node *node) { roots[root_count++] = node; }
static inline void root_pop(size_t count) { root_count -= count; }

static void mark_roots(mirt_marker_t *marker, void *argument) {
  (void)argument;
  for (size_t i = 0; i < root_count; i++) mirt_mark(marker, roots[i]);
  mirt_mark(marker, numbers);
}

static size_t collections;
static uint64_t collecting, marking;

/* How much a heap grows before it is collected: to two and a half times what lives, and
   to no less than 6 MiB. */
enum { growth_percent = 250, least_growth = 6 << 20 };

static void collect(mirt_runtime_t *collected, size_t live, const mirt_type_t *type,
                    void *argument) {
  (void)live;
  (void)type;
  (void)argument;
  mirt_gc_stats_t stats;
  if (mirt_collect(collected, mark_roots, NULL, NULL, &stats) != 0) {
    bench_fail("mirt_collect");
  }
  mirt_budget_grow(collected, growth_percent, least_growth);
  collections++;
  collecting += stats.pause_time;
  marking += stats.mark_time;
}

static inline struct node *node_new(void) {
  struct node *node = mirt_new(mutator, node_type);
  if (node == NULL) bench_fail("mirt_new: no memory");
  *node = (struct node){{0, 0}};
  return node;
}

static void *numbers_new(size_t size) {
  return numbers = mirt_new_sized(mutator, numbers_type, size);
}

static void heap_begin(size_t size) {
  const mirt_cage_options_t in_cage = {0};
  const mirt_runtime_options_t options = {
      .cage = sizeof(link_t) == sizeof(mirt_ref_t) ? &in_cage : NULL,
      .soft_limit = least_growth,
      .on_soft_limit = collect,
  };
  if (mirt_runtime_create(&options, &runtime) != 0) bench_fail("mirt_runtime_create");
  cage = mirt_runtime_cage(runtime);
  const uint64_t map = 3; /* left and right */
  node_type = mirt_type_new(runtime, &(mirt_type_options_t){.name = "node",
                                                            .size = size,
                                                            .slot_size = sizeof(link_t),
                                                            .map = &map,
                                                            .map_slots = 2});
  numbers_type = mirt_type_new(
      runtime, &(mirt_type_options_t){.name = "numbers", .is_variable = true});
  mutator = mirt_mutator_create_in(runtime);
  if (node_type == NULL || numbers_type == NULL || mutator == NULL ||
      mirt_mutator_bind(mutator) != 0) {
    bench_fail("no types, or no mutator");
  }
}

static void heap_end(void) {
  print_figure("collections", "", (double)collections);
  print_figure("collecting", "ms", (double)collecting / 1e6);
  print_figure("of it marking", "ms", (double)marking / 1e6);
}

#endif

/* ---- GCBench ---- */

/* A benchmark of John Ellis and Pete Kovac, as changed by Hans Boehm: a tall tree that dies
   at once, a tree and an array that live to the end, and meanwhile many trees of several
   heights, made top down and bottom up. Written anew. */

enum { numbers_count = 500000, height_least = 4, height_step = 2 };

static struct node *tree_bottom_up(int height) {
  if (height == 0) return node_new();
  struct node *low = tree_bottom_up(height - 1);
  root_push(low);
  struct node *high = tree_bottom_up(height - 1);
  root_push(high);
  struct node *node = node_new();
  node->links[left] = link_to(low);
  node->links[right] = link_to(high);
  root_pop(2);
  return node;
}

/* The node is held by who calls. */
static void tree_top_down(struct node *node, int height) {
  if (height == 0) return;
  node->links[left] = link_to(node_new());
  node->links[right] = link_to(node_new());
  tree_top_down(node_at(node->links[left]), height - 1);
  tree_top_down(node_at(node->links[right]), height - 1);
}

static size_t tree_size(int height) { return ((size_t)2 << height) - 1; }

static size_t tree_count(const struct node *node) {
  if (node->links[left] == 0) return 1;
  return 1 + tree_count(node_at(node->links[left])) +
         tree_count(node_at(node->links[right]));
}

static void run_gcbench(size_t size, int stretch, int longest) {
  const uint64_t start = clock_nanoseconds();
  heap_begin(size);
  if (tree_count(tree_bottom_up(stretch)) != tree_size(stretch)) {
    bench_fail("nodes are lost");
  }
  struct node *lasting = node_new();
  root_push(lasting);
  tree_top_down(lasting, longest);
  double *array = numbers_new(numbers_count * sizeof *array);
  for (size_t i = 0; i < numbers_count / 2; i++) array[i] = 1.0 / (double)(i + 1);
  for (int height = height_least; height <= longest; height += height_step) {
    const size_t count = 2 * tree_size(stretch) / tree_size(height);
    for (size_t i = 0; i < count; i++) {
      struct node *node = node_new();
      root_push(node);
      tree_top_down(node, height);
      root_pop(1);
    }
    for (size_t i = 0; i < count; i++) tree_bottom_up(height);
  }
  const uint64_t time = clock_nanoseconds() - start;
  if (tree_count(lasting) != tree_size(longest) || array[1000] != 1.0 / 1001) {
    bench_fail("nodes are lost");
  }
  print_figure("time", "ms", (double)time / 1e6);
  print_figure("peak resident", "MiB", peak_mib());
  heap_end();
}

static void setting_gcbench(bool quick) {
  run_gcbench(sizeof(struct node_of_numbers), quick ? 16 : 18, quick ? 14 : 16);
}

static void setting_gcbench_large(bool quick) {
  run_gcbench(sizeof(struct node_of_numbers), quick ? 18 : 20, quick ? 16 : 18);
}

static void setting_gcbench_words(bool quick) {
  run_gcbench(sizeof(struct node_of_words), quick ? 18 : 20, quick ? 16 : 18);
}

/* ---- walk, and mark: a random graph ---- */

#ifndef WITH_BDWGC

/* Each node's left link leads to the next one of a random cycle through all, and its right
   link to any. */
static struct node **graph_new(size_t count) {
  struct node **nodes = array_map(count, sizeof(struct node *));
  struct random random = random_seed(count);
  for (size_t i = 0; i < count; i++) nodes[i] = node_new();
  for (size_t i = count - 1; i > 0; i--) { /* shuffled (Fisher and Yates) */
    const size_t k = random_below(&random, (uint32_t)i + 1);
    struct node *node = nodes[i];
    nodes[i] = nodes[k];
    nodes[k] = node;
  }
  for (size_t i = 0; i < count; i++) {
    struct node_of_words *node = (struct node_of_words *)nodes[i];
    node->node.links[left] = link_to(nodes[i + 1 < count ? i + 1 : 0]);
    node->node.links[right] = link_to(nodes[random_below(&random, (uint32_t)count)]);
    node->i = (word_t)i;
  }
  return nodes;
}

/* Once around the cycle, for so many nodes. */
static void walk(size_t count) {
  enum { rounds = 3 };
  heap_begin(sizeof(struct node_of_words));
  mirt_budget_set(runtime, 0, 0);
  const struct node *first = graph_new(count)[0], *node = first;
  uint64_t sum = 0, best = UINT64_MAX;
  for (int round = 0; round < rounds; round++) {
    const uint64_t start = clock_nanoseconds();
    do {
      sum += ((const struct node_of_words *)node)->i;
      node = node_at(node->links[left]);
    } while (node != first);
    const uint64_t time = clock_nanoseconds() - start;
    if (time < best) best = time;
  }
  if (sum != (uint64_t)rounds * count * (count - 1) / 2) bench_fail("nodes are lost");
  print_figure("a node", "ns", (double)best / (double)count);
  mirt_runtime_stats_t stats;
  if (!mirt_runtime_stats(runtime, &stats)) bench_fail("mirt_runtime_stats");
  print_figure("heap", "MiB", (double)stats.pages_bytes / (1 << 20));
}

/* Nodes of 16 bytes that fill the last-level cache, as the kernel tells its size. */
static size_t cache_nodes(void) {
  size_t kib = 32 << 10;
  FILE *size = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
  if (size != NULL) {
    if (fscanf(size, "%zuK", &kib) != 1) kib = 32 << 10;
    fclose(size);
  }
  return (kib << 10) / 16;
}

/* One and a half times the last-level cache with refs, and twice that with pointers. */
static void setting_walk(bool quick) { walk(cache_nodes() * 3 / (quick ? 4 : 2)); }

/* Where even what refs name is many times as large. */
static void setting_walk_large(bool quick) { walk(quick ? 4000000 : 16000000); }

static void mark_with(unsigned markers, bool quick) {
  const size_t count = quick ? 2000000 : 10000000;
  heap_begin(sizeof(struct node_of_words));
  mirt_budget_set(runtime, 0, 0);
  struct node **nodes = graph_new(count);
  root_push(nodes[0]);
  uint64_t best = UINT64_MAX;
  for (int i = 0; i < 3; i++) {
    const mirt_gc_options_t options = {.markers = markers};
    mirt_gc_stats_t stats;
    if (mirt_collect(runtime, mark_roots, NULL, &options, &stats) != 0) {
      bench_fail("mirt_collect");
    }
    if (stats.live_objects != count) bench_fail("nodes are lost");
    if (stats.mark_time < best) best = stats.mark_time;
  }
  print_figure("mark", "ms", (double)best / 1e6);
}

static void setting_mark_1(bool quick) { mark_with(1, quick); }
static void setting_mark_2(bool quick) { mark_with(2, quick); }

#endif

/* ---- main ---- */

static const struct {
  const char *name;
  void (*run)(bool quick);
} settings[] = {
    {"gcbench", setting_gcbench},
    {"gcbench-large", setting_gcbench_large},
    {"gcbench-words", setting_gcbench_words},
#ifndef WITH_BDWGC
    {"walk", setting_walk},
    {"walk-large", setting_walk_large},
    {"mark-1", setting_mark_1},
    {"mark-2", setting_mark_2},
#endif
};

int main(int argc, char **argv) {
  const bool quick = argc == 3 && strcmp(argv[2], "--quick") == 0;
  for (size_t i = 0; i < sizeof settings / sizeof settings[0] && argc >= 2; i++) {
    if (strcmp(argv[1], settings[i].name) != 0) continue;
    settings[i].run(quick);
    return 0;
  }
  fputs("usage: graph SETTING [--quick]\n", stderr);
  return 2;
}
