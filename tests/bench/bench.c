/* What the benchmark programs share and bench.h does not define itself. */

#include "bench.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

void bench_fail(const char *what) {
  /* The heap may be broken, so nothing that allocates and no exit handlers. */
  fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
  _Exit(1);
}

void *array_map(size_t count, size_t element_size) {
  void *array = mmap(NULL, count * element_size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (array == MAP_FAILED) bench_fail("mmap: out of memory");
  return array;
}

uint64_t clock_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void print_figure(const char *figure, const char *unit, double value) {
  printf("%s\t%s\t%.9g\n", figure, unit, value);
}

const char *malloc_provider(void) {
  Dl_info info;
  void *address = dlsym(RTLD_NEXT, "malloc");
  if (address == NULL || dladdr(address, &info) == 0 || info.dli_fname == NULL)
    return "unknown";
  return info.dli_fname;
}
