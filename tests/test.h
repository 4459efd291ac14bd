/* test.h - what the test programs share: Check, errors that are counted and not printed,
 * random numbers that repeat, children that are expected to die, threads, page counts.
 *
 * A test program makes its cases with case_begin, adds tests with tcase_add_test, and
 * ends main with suite_run. Each test starts with all error counts at 0. The tests also
 * work with CK_FORK=no, one after the other in one process: a test compares counts with
 * those at its start, and sets back each option that it sets.
 */
#ifndef MIRT_TESTS_TEST_H
#define MIRT_TESTS_TEST_H

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mimalloc.h>

#include "base/atomic.h"

/* ---- sanitizers ---- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ADDRESS_SANITIZER 1
#endif
#if __has_feature(thread_sanitizer)
#define TEST_THREAD_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TEST_ADDRESS_SANITIZER 1
#endif
#if defined(__SANITIZE_THREAD__)
#define TEST_THREAD_SANITIZER 1
#endif
#ifndef TEST_ADDRESS_SANITIZER
#define TEST_ADDRESS_SANITIZER 0
#endif
#ifndef TEST_THREAD_SANITIZER
#define TEST_THREAD_SANITIZER 0
#endif

/* These sanitizers keep their own shadow in the low part of the address space. */
#define TEST_HAS_SHADOW (TEST_ADDRESS_SANITIZER || TEST_THREAD_SANITIZER)

/* How often to repeat what costs more under a sanitizer. */
#define TEST_ROUNDS(n) (TEST_HAS_SHADOW ? ((n) + 7) / 8 : (n))

/* ---- errors ---- */

#define ERROR_CODES 256

/* How often each code was reported since errors_clear. */
static atomic_word error_counts[ERROR_CODES];

static inline void error_record(int code, void *argument) {
  (void)argument;
  if (code >= 0 && code < ERROR_CODES) atomic_fetch_add_full(&error_counts[code], 1);
}

static inline void output_discard(const char *text, void *argument) {
  (void)text, (void)argument;
}

static inline void errors_clear(void) {
  for (int i = 0; i < ERROR_CODES; i++) atomic_store_relaxed(&error_counts[i], 0);
}

/* Count errors from here on, from 0, and print none. */
static inline void errors_begin(void) {
  errors_clear();
  mi_register_error(error_record, NULL);
  mi_register_output(output_discard, NULL);
}

static inline size_t errors_of(int code) {
  return atomic_load_acquire(&error_counts[code]);
}

static inline size_t errors_total(void) {
  size_t total = 0;
  for (int i = 0; i < ERROR_CODES; i++) total += errors_of(i);
  return total;
}

/* Exactly count errors were reported, all with this code; they are forgotten. */
#define assert_errors(code, count) \
  do { \
    ck_assert_uint_eq(errors_of(code), (count)); \
    ck_assert_uint_eq(errors_total(), (count)); \
    errors_clear(); \
  } while (0)

/* ck_assert tells Check of each success, with a system call. This one does not: for loops
 * of thousands. */
#define assert_quick(x) \
  do { \
    if (!(x)) ck_abort_msg("'%s' is false", #x); \
  } while (0)

#define assert_no_errors() ck_assert_uint_eq(errors_total(), 0)

/* ---- random numbers ---- */

/* The same numbers in each run, unless TEST_SEED in the environment says otherwise. */
static inline uint64_t test_seed(void) {
  const char *text = getenv("TEST_SEED");
  return text == NULL ? 20260101 : strtoull(text, NULL, 0);
}

struct dice {
  uint64_t state;
};

/* Dice of their own for each number, so that threads roll different ones. */
static inline struct dice dice_new(uint64_t number) {
  return (struct dice){test_seed() + number * 0x9e3779b97f4a7c15u};
}

/* Any 64 bits (splitmix64: Steele, Lea, Flood 2014). */
static inline uint64_t dice_word(struct dice *dice) {
  uint64_t z = dice->state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* A number from 0 to limit - 1. */
static inline size_t dice_roll(struct dice *dice, size_t limit) {
  return (size_t)(dice_word(dice) % limit);
}

/* ---- children that may die ---- */

/* Run f in a child process and return its wait status. The child exits with 0 when f
 * returns. The handlers of a sanitizer are removed, so that a fault kills the child. */
static inline int child_run(void (*f)(void *), void *argument) {
  fflush(NULL);
  const pid_t child = fork();
  /* What f asserts in a child of several threads should not be Check's: another thread may have
   * had its lock. */
  if (child == 0) {
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    f(argument);
    _exit(0);
  }
  ck_assert_int_gt(child, 0);
  int status = 0;
  while (waitpid(child, &status, 0) != child) ck_assert_int_eq(errno, EINTR);
  return status;
}

/* The signal that ended the child, or 0. */
static inline int child_signal(void (*f)(void *), void *argument) {
  const int status = child_run(f, argument);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static inline bool child_faults(void (*f)(void *), void *argument) {
  const int number = child_signal(f, argument);
  return number == SIGSEGV || number == SIGBUS;
}

/* p may be NULL on purpose. */
__attribute__((no_sanitize("undefined"))) static inline void touch_read(void *p) {
  (void)*(volatile char *)p;
}

__attribute__((no_sanitize("undefined"))) static inline void touch_write(void *p) {
  *(volatile char *)p = 1;
}

/* Does reading, or writing, the byte at p end the process? */
#define assert_unreadable(p) ck_assert(child_faults(touch_read, (void *)(p)))
#define assert_unwritable(p) ck_assert(child_faults(touch_write, (void *)(p)))
#define assert_touchable(p) ck_assert_int_eq(child_run(touch_write, (void *)(p)), 0)

/* ---- threads ---- */

/* Run f in a new thread and wait for its end. */
static inline void thread_run(void *(*f)(void *), void *argument) {
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, f, argument), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* Run f in count threads at once, at most 16, each with the element of an array that has
 * its number, and wait for all. */
static inline void threads_run(size_t count, void *(*f)(void *), void *array,
                               size_t element_size) {
  pthread_t threads[16];
  ck_assert_uint_le(count, 16);
  for (size_t i = 0; i < count; i++) {
    void *argument = (char *)array + i * element_size;
    ck_assert_int_eq(pthread_create(&threads[i], NULL, f, argument), 0);
  }
  for (size_t i = 0; i < count; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  }
}

/* ---- statistics ---- */

static inline mi_stats_t stats_now(void) {
  mi_stats_t_decl(now);
  if (!mi_stats_get(&now)) abort(); /* also where Check does not run */
  return now;
}

/* Pages that are owned or abandoned. */
static inline int64_t pages_now(void) { return stats_now().pages.current; }

/* ---- memory ---- */

/* Are these bytes all of this value? */
static inline bool bytes_are(const void *p, size_t size, unsigned char value) {
  const unsigned char *bytes = p;
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] != value) return false;
  }
  return true;
}

/* ---- cases and suites ---- */

static inline TCase *case_begin(Suite *suite, const char *name) {
  TCase *test_case = tcase_create(name);
  tcase_add_checked_fixture(test_case, errors_begin, NULL);
  tcase_set_timeout(test_case, 300); /* ends a test that hangs; no test is that slow */
  suite_add_tcase(suite, test_case);
  return test_case;
}

/* Run a suite and print its summary. Returns what main should return. */
static inline int suite_run(Suite *suite) {
  printf("seed %llu\n", (unsigned long long)test_seed());
  fflush(stdout);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  const int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
