/* What the patterns of several threads share. */

#ifndef MIRT_TESTS_BENCH_THREADS_H
#define MIRT_TESTS_BENCH_THREADS_H

#include "bench.h"

#include <pthread.h>

static inline pthread_t thread_start(void *(*body)(void *), void *argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, argument) != 0)
    bench_fail("pthread_create: no more threads");
  return thread;
}

/* The tally of the thread with a number. Each has serial numbers of its own to give out,
   or a block that one thread lost could be made up for by one of another. */
static inline struct tally tally_start(unsigned number) {
  return (struct tally){.serial = number << 25};
}

#endif
