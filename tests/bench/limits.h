/* What the programs of `make bench-instructions`, `bench-latency`, `bench-scaling` and
   `bench-memory` share. limits.py runs them.

   Invariant: an allocator is always preloaded and never linked or opened, so that the
   same binary measures all, and its thread-local variables lie where a program that is
   linked with it has them. Functions are looked up by name and called through pointers:
   a call costs the same for each allocator, and no stub of the dynamic linker is
   counted. Each program prints the file that the function which it measures comes from,
   and limits.py checks that this is the library which it asked for. */

#ifndef MIRT_TESTS_LIMITS_H
#define MIRT_TESTS_LIMITS_H

#include "bench.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* Stores the address of a function in the pointer that function points to. NULL if there
   is no such function and it is not required. */
static inline void function_find(const char *name, bool required, void *function) {
  void *address = dlsym(RTLD_DEFAULT, name);
  if (address == NULL && required) bench_fail(dlerror());
  memcpy(function, &address, sizeof address);
}

static inline void print_provider(const char *name) {
  Dl_info info;
  void *address = dlsym(RTLD_DEFAULT, name);
  if (address == NULL || dladdr(address, &info) == 0 || info.dli_fname == NULL)
    bench_fail("cannot tell where the function comes from");
  printf("provider\t%s\n", info.dli_fname);
}

#endif
