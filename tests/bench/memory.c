/* The benchmark of memory: what an allocator takes besides the blocks that it gives.
   Runs one setting and prints its figures.

   Resident memory is summed from the pages that are there (/proc/self/smaps_rollup). The
   kernel's counters (statm, and VmRSS and VmHWM of status) are updated in batches, which
   is good enough for a gigabyte but not for what a small program takes. The program reads
   the file without stdio and links blocks through their first words instead of having a
   table, so that nothing but the blocks comes and goes. */

#include "limits.h"

#include <fcntl.h>
#include <unistd.h>

static void *(*the_malloc)(size_t size);
static void (*the_free)(void *block);
static size_t (*the_usable_size)(void *block);

/* ---- memory of the process ---- */

/* A line `NAME: NUMBER kB` of a file of /proc, in bytes. */
static size_t proc_bytes(const char *path, const char *name) {
  static char text[8192];
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) bench_fail("/proc/self: cannot be read");
  size_t length = 0;
  for (ssize_t got; (got = read(file, text + length, sizeof text - 1 - length)) > 0;)
    length += (size_t)got;
  close(file);
  text[length] = 0;
  for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, name, strlen(name)) == 0)
      return strtoul(line + strlen(name), NULL, 10) << 10;
  }
  bench_fail("/proc/self: a line is missing");
}

static size_t resident_bytes(void) {
  return proc_bytes("/proc/self/smaps_rollup", "Rss:");
}

/* Not "Private_Dirty", which has pages of a library just built, as long as they are not on the
   disk. */
static size_t private_bytes(void) {
  return proc_bytes("/proc/self/smaps_rollup", "Anonymous:");
}

static size_t peak_bytes(void) { return proc_bytes("/proc/self/status", "VmHWM:"); }

static void print_kibibytes(const char *figure, size_t bytes) {
  print_figure(figure, "KiB", (double)bytes / 1024);
}

/* ---- settings ---- */

/* A program that hardly allocates: one block of 1 KiB. */
static void run_small(void) {
  char *block = the_malloc(1024);
  if (block == NULL) bench_fail("malloc: out of memory");
  memset(block, 1, 1024);
  const size_t resident = resident_bytes(), private = private_bytes();
  const size_t peak = peak_bytes();
  print_kibibytes("resident", resident);
  print_kibibytes("private", private);
  print_kibibytes("peak", peak);
}

/* Blocks of 1 GiB in all, as many bytes as can be used, each of which is written. */
static void run_full(size_t (*size_choose)(struct random *random)) {
  struct random random = random_seed(3);
  void **last = NULL;
  size_t usable = 0, asked = 0, count = 0;
  const size_t before = resident_bytes();
  while (usable < (size_t)1 << 30) {
    const size_t size = size_choose(&random);
    void **block = the_malloc(size);
    if (block == NULL) bench_fail("malloc: out of memory");
    const size_t here = the_usable_size(block);
    memset(block, 1, here);
    *block = last;
    last = block;
    usable += here;
    asked += size;
    count++;
  }
  const size_t taken = resident_bytes() - before;
  print_figure("blocks", "M", (double)count / 1e6);
  print_figure("resident", "MiB", (double)taken / (1 << 20));
  print_figure("beyond usable", "%", 100 * ((double)taken / (double)usable - 1));
  print_figure("beyond asked", "%", 100 * ((double)taken / (double)asked - 1));
  while (last != NULL) {
    void **next = *last;
    the_free(last);
    last = next;
  }
}

static size_t size_64(struct random *random) { return (void)random, 64; }
static size_t size_256(struct random *random) { return (void)random, 256; }
static size_t size_mixed(struct random *random) {
  return random_log_between(random, 16, 4096);
}

static void run_full_64(void) { run_full(size_64); }
static void run_full_256(void) { run_full(size_256); }
static void run_full_mixed(void) { run_full(size_mixed); }

/* For each size up to 64 KiB, what a block of it can be used for; sizes that follow each
   other with the same answer are printed together: the first, the last, the answer. */
static void run_classes(void) {
  enum { sizes = 64 << 10 };
  static uint32_t usable[sizes + 2];
  for (size_t size = 1; size <= sizes; size++) {
    void *block = the_malloc(size);
    if (block == NULL) bench_fail("malloc: out of memory");
    usable[size] = (uint32_t)the_usable_size(block);
    the_free(block);
    if (usable[size] < size) bench_fail("a block is smaller than was asked for");
  }
  for (size_t first = 1, size = 1; size <= sizes; size++) {
    if (usable[size + 1] == usable[size]) continue;
    printf("class\t%zu\t%zu\t%zu\n", first, size, (size_t)usable[size]);
    first = size + 1;
  }
}

/* Heaps with one block of 64 bytes each. */
static void run_heaps(void) {
  enum { heap_count = 1000 };
  void *(*heap_new)(void);
  void *(*heap_malloc)(void *heap, size_t size);
  function_find("mi_heap_new", true, &heap_new);
  function_find("mi_heap_malloc", true, &heap_malloc);
  memset(heap_malloc(heap_new(), 64), 1, 64); /* let first times be over */
  const size_t before = resident_bytes();
  for (int i = 0; i < heap_count; i++) {
    void *heap = heap_new();
    if (heap == NULL) bench_fail("mi_heap_new: out of memory");
    void *block = heap_malloc(heap, 64);
    if (block == NULL) bench_fail("mi_heap_malloc: out of memory");
    memset(block, 1, 64);
  }
  print_figure("a heap", "KiB", (double)(resident_bytes() - before) / heap_count / 1024);
}

static const struct {
  const char *name;
  const char *provider;
  void (*run)(void);
} settings[] = {
    {"small", "malloc", run_small},       {"full-64", "malloc", run_full_64},
    {"full-256", "malloc", run_full_256}, {"full-mixed", "malloc", run_full_mixed},
    {"classes", "malloc", run_classes},   {"heaps", "mi_heap_malloc", run_heaps},
};

int main(int argc, char **argv) {
  if (argc == 2) {
    function_find("malloc", true, &the_malloc);
    function_find("free", true, &the_free);
    function_find("malloc_usable_size", true, &the_usable_size);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
      if (strcmp(argv[1], settings[i].name) != 0) continue;
      settings[i].run();
      print_provider(settings[i].provider);
      return 0;
    }
  }
  fputs("usage: memory SETTING\n", stderr);
  return 2;
}
