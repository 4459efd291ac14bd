/* The benchmark program: runs one pattern of allocation and prints what it took.

   It uses malloc, calloc, realloc and free and knows nothing of mirt, so that the same
   binary measures any allocator that is preloaded into it. */

#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
  const char *name;
  void (*run)(struct run *run);
} patterns[] = {
    {"pair", pattern_pair},
    {"alternate", pattern_alternate},
    {"batch", pattern_batch},
    {"mixed", pattern_mixed},
    {"many-sizes", pattern_many_sizes},
    {"replace", pattern_replace},
    {"shuffle", pattern_shuffle},
    {"realloc", pattern_realloc},
    {"large", pattern_large},
    {"large-realloc", pattern_large_realloc},
    {"interpreter", pattern_interpreter},
    {"tree", pattern_tree},
    {"algebra", pattern_algebra},
    {"strings", pattern_strings},
    {"vectors", pattern_vectors},
    {"cache", pattern_cache},
    {"fragmentation", pattern_fragmentation},
    {"aligned", pattern_aligned},
    {"calloc-fresh", pattern_calloc_fresh},
    {"calloc-used", pattern_calloc_used},
    {"producer-consumer", pattern_producer_consumer},
    {"larson", pattern_larson},
    {"threads", pattern_threads},
    {"server", pattern_server},
    {"thread-churn", pattern_thread_churn},
    {"sharing-active", pattern_sharing_active},
    {"sharing-passive", pattern_sharing_passive},
};

enum { pattern_count = sizeof patterns / sizeof patterns[0] };

void timer_start(struct run *run) { run->start = clock_nanoseconds(); }
void timer_stop(struct run *run) { run->elapsed = clock_nanoseconds() - run->start; }

static unsigned long peak_kibibytes(void) {
  char line[256];
  unsigned long peak = 0;
  FILE *status = fopen("/proc/self/status", "r");
  if (status == NULL) bench_fail("/proc/self/status: cannot be read");
  while (fgets(line, sizeof line, status) != NULL) {
    if (sscanf(line, "VmHWM: %lu kB", &peak) == 1) break;
  }
  fclose(status);
  return peak;
}

static unsigned online_cores(void) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return cores < 2 ? 2 : (unsigned)cores;
}

static int run_pattern(size_t index) {
  struct run run = {.threads = online_cores()};
  patterns[index].run(&run);
  unsigned long peak = peak_kibibytes();
  if (run.total.written != run.total.found)
    bench_fail("the blocks freed are not the blocks allocated");
  printf("pattern %s\n", patterns[index].name);
  printf("nanoseconds %" PRIu64 "\n", run.elapsed);
  printf("operations %" PRIu64 "\n", run.operations);
  printf("checksum %016" PRIx64 "\n", run.total.found);
  printf("peak_kib %lu\n", peak);
  if (run.note != NULL) printf("%s %lu\n", run.note, run.note_value);
  printf("malloc %s\n", malloc_provider());
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 2) {
    bool list = strcmp(argv[1], "--list") == 0;
    for (size_t i = 0; i < pattern_count; i++) {
      if (list)
        puts(patterns[i].name);
      else if (strcmp(argv[1], patterns[i].name) == 0)
        return run_pattern(i);
    }
    if (list) return 0;
  }
  fputs("usage: patterns PATTERN | --list\n", stderr);
  return 2;
}
