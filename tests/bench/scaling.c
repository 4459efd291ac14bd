/* The benchmark of scaling: what one replacement (a free and a malloc) takes when there
   are more and more live objects, heaps, tags or arenas. Runs one setting and prints
   nanoseconds per replacement.

   Large numbers make caches miss, whoever allocates. So each setting is run in two
   ways: the next block in the order of allocation is replaced, where the processor
   prefetches and caches miss little, and all blocks have one size, since with several
   the order of addresses would be lost after a few times; or a random one of all, of
   several sizes. To either there is a control, which chooses likewise, reads the old
   block's first word and writes first and last bytes, as replacing does, but leaves the
   block where it is. What replacing takes beyond its control is the allocator, with the
   misses in its own records. */

#include "limits.h"

typedef struct mi_heap_s mi_heap_t;

static struct {
  void *(*malloc)(size_t size);
  void (*free)(void *block);
  mi_heap_t *(*heap_new)(void);
  mi_heap_t *(*heap_new_ex)(int tag, bool allow_destroy, int arena);
  mi_heap_t *(*heap_new_in_arena)(int arena);
  void *(*heap_malloc)(mi_heap_t *heap, size_t size);
  int (*reserve_os_memory_ex)(size_t size, bool commit, bool allow_large, bool exclusive,
                              int *arena);
} library;

/* Slots for blocks, so many in a row for each heap; without heaps all are malloc's. */
struct table {
  void **blocks;
  mi_heap_t **heaps;
  size_t count, per_heap;
  uint32_t low, high; /* sizes */
  struct random random;
  struct tally tally;
};

static void *slot_allocate(struct table *table, size_t slot) {
  const size_t size = random_between(&table->random, table->low, table->high);
  void *block = table->heaps != NULL
                    ? library.heap_malloc(table->heaps[slot / table->per_heap], size)
                    : library.malloc(size);
  if (block == NULL) bench_fail("out of memory");
  block_stamp(&table->tally, block, size);
  return block;
}

static void slot_replace(struct table *table, size_t slot) {
  block_check(&table->tally, table->blocks[slot]);
  library.free(table->blocks[slot]);
  table->blocks[slot] = slot_allocate(table, slot);
}

static void slot_touch(struct table *table, size_t slot) {
  const size_t size = stamp_size(block_check(&table->tally, table->blocks[slot]));
  /* Replacing draws a size too. */
  if (random_between(&table->random, table->low, table->high) == 0)
    bench_fail("impossible");
  block_stamp(&table->tally, table->blocks[slot], size);
  __asm__ volatile("" : : "r"(&table->blocks[slot]) : "memory");
}

/* Goes over slots at random or one after the other; gives nanoseconds for each. */
static inline double table_time(struct table *table, size_t operations, bool at_random,
                                void (*function)(struct table *table, size_t slot)) {
  size_t next = 0;
  const uint64_t start = clock_nanoseconds();
  for (size_t i = 0; i < operations; i++) {
    const size_t slot =
        at_random ? random_below(&table->random, (uint32_t)table->count) : next;
    function(table, slot);
    if (++next == table->count) next = 0;
  }
  return (double)(clock_nanoseconds() - start) / (double)operations;
}

/* Round-robin over heaps: the first slot of each, then the second of each, and so on. */
static inline double heaps_time(struct table *table, size_t operations,
                                void (*function)(struct table *table, size_t slot)) {
  const size_t step = table->per_heap;
  size_t next = 0, first = 0;
  const uint64_t start = clock_nanoseconds();
  for (size_t i = 0; i < operations; i++) {
    function(table, next);
    next += step;
    if (next >= table->count) next = first = (first + 1) % step;
  }
  return (double)(clock_nanoseconds() - start) / (double)operations;
}

static void table_fill(struct table *table, uint32_t low, uint32_t high) {
  table->low = low;
  table->high = high;
  for (size_t i = 0; i < table->count; i++) table->blocks[i] = slot_allocate(table, i);
}

static void table_empty(struct table *table) {
  for (size_t i = 0; i < table->count; i++) library.free(table->blocks[i]);
}

static void table_measure(struct table *table, size_t operations) {
  table_fill(table, 48, 48);
  if (table->heaps != NULL) {
    heaps_time(table, operations / 4, slot_replace);
    print_figure("in turn", "ns", heaps_time(table, operations, slot_replace));
    print_figure("in turn, control", "ns", heaps_time(table, operations, slot_touch));
  } else {
    table_time(table, operations / 4, false, slot_replace);
    print_figure("in turn", "ns", table_time(table, operations, false, slot_replace));
    print_figure("in turn, control", "ns",
                 table_time(table, operations, false, slot_touch));
  }
  table_empty(table);
  table_fill(table, 32, 64);
  table_time(table, operations / 4, true, slot_replace);
  print_figure("at random", "ns", table_time(table, operations, true, slot_replace));
  print_figure("at random, control", "ns",
               table_time(table, operations, true, slot_touch));
}

static void run_objects(size_t count, size_t operations) {
  function_find("malloc", true, &library.malloc);
  function_find("free", true, &library.free);
  struct table table = {.count = count, .random = random_seed(count)};
  table.blocks = array_map(count, sizeof *table.blocks);
  table_measure(&table, operations);
}

/* So few blocks that they take one page of each class that their sizes have. */
enum { blocks_per_heap = 64 };

static void heaps_measure(mi_heap_t **heaps, size_t count, size_t operations) {
  struct table table = {.heaps = heaps,
                        .count = count * blocks_per_heap,
                        .per_heap = blocks_per_heap,
                        .random = random_seed(count)};
  table.blocks = array_map(table.count, sizeof *table.blocks);
  table_measure(&table, operations);
}

enum kind { HEAPS, TAGS, ARENAS };

static void run_heaps_of(enum kind kind, size_t count, size_t operations) {
  function_find("mi_free", true, &library.free);
  function_find("mi_heap_malloc", true, &library.heap_malloc);
  function_find("mi_heap_new", true, &library.heap_new);
  function_find("mi_heap_new_ex", kind == TAGS, &library.heap_new_ex);
  function_find("mi_heap_new_in_arena", kind == ARENAS, &library.heap_new_in_arena);
  function_find("mi_reserve_os_memory_ex", kind == ARENAS, &library.reserve_os_memory_ex);
  mi_heap_t **heaps = array_map(count, sizeof *heaps);
  for (size_t i = 0; i < count; i++) {
    int arena = 0;
    switch (kind) {
      case HEAPS: heaps[i] = library.heap_new(); break;
      case TAGS: heaps[i] = library.heap_new_ex((int)i, true, 0); break;
      case ARENAS:
        /* As much as two of mimalloc's segments. */
        if (library.reserve_os_memory_ex(64 << 20, false, false, true, &arena) != 0)
          bench_fail("mi_reserve_os_memory_ex: failed");
        heaps[i] = library.heap_new_in_arena(arena);
    }
    if (heaps[i] == NULL) bench_fail("mi_heap_new: failed");
  }
  heaps_measure(heaps, count, operations);
}

static void run_heaps(size_t count, size_t operations) {
  run_heaps_of(HEAPS, count, operations);
}
static void run_tags(size_t count, size_t operations) {
  run_heaps_of(TAGS, count, operations);
}
static void run_arenas(size_t count, size_t operations) {
  run_heaps_of(ARENAS, count, operations);
}

static const struct {
  const char *name;
  const char *provider;
  void (*run)(size_t count, size_t operations);
} settings[] = {{"objects", "malloc", run_objects},
                {"heaps", "mi_heap_malloc", run_heaps},
                {"tags", "mi_heap_malloc", run_tags},
                {"arenas", "mi_heap_malloc", run_arenas}};

int main(int argc, char **argv) {
  if (argc != 4) {
    fputs("usage: scaling SETTING COUNT OPERATIONS\n", stderr);
    return 2;
  }
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    if (strcmp(argv[1], settings[i].name) != 0) continue;
    print_provider(settings[i].provider);
    settings[i].run(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
    return 0;
  }
  bench_fail("unknown setting");
}
