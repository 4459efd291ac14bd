/* system.h - the system calls of os.c, as a test wants them to be.
 *
 * os.c, compiled with MIRT_TEST_SYSTEM naming this header, calls the functions at the end
 * instead of the system. Those count each call and make it, unless it is to fail: then it
 * does not happen. They keep a list of what is mapped, and know pages set aside, NUMA
 * nodes and a clock that are not there: memory of a simulated huge page is ordinary
 * memory, and the clock stands still but for what a test says. Any thread may call any
 * function.
 */
#ifndef MIRT_TESTS_SYSTEM_H
#define MIRT_TESTS_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

enum system_kind {
  SYSTEM_RESERVE,  /* mmap */
  SYSTEM_RELEASE,  /* munmap */
  SYSTEM_COMMIT,   /* mprotect to read and write */
  SYSTEM_PROTECT,  /* mprotect to nothing */
  SYSTEM_PURGE,    /* madvise to give memory back */
  SYSTEM_ADVISE,   /* madvise for something else */
  SYSTEM_POPULATE, /* madvise to fill in pages; always simulated */
  SYSTEM_BIND,     /* mbind; always simulated */
  SYSTEM_KINDS
};

/* ---- calls ---- */

/* Count from 0 again, and let no call fail. */
void system_reset(void);

/* Let calls of a kind fail with this errno: from the first-th that comes now on, which is
 * 1 for the next one, so many. A count of 0 lets none fail. */
void system_fail(enum system_kind kind, size_t first, size_t count, int code);

/* Calls of a kind since system_reset, and those of them that were made to fail. */
size_t system_calls(enum system_kind kind);
size_t system_failures(enum system_kind kind);

/* Count calls that touch a range, from 0. */
void system_watch(const void *start, size_t size);
size_t system_watched(enum system_kind kind);

/* ---- address space ---- */

/* Bytes that mmap has given and munmap has not taken back. */
size_t system_mapped(void);
bool system_is_mapped(const void *p);

/* Calls so far that released, or mapped over, what was not mapped: it might have been
 * somebody else's. */
size_t system_strays(void);

/* ---- pages set aside ---- */

/* There are so many free pages of 1 GiB and of 2 MiB. Those mapped now stay. */
void system_set_aside(size_t huge_pages, size_t large_pages);

/* Those that are free now. */
size_t system_free_huge_pages(void);
size_t system_free_large_pages(void);

/* ---- NUMA nodes ---- */

/* As many as the simulated machine has. A constant: os.c asks once. */
#define SYSTEM_NODES 4

/* From now on the calling thread runs on this node. */
void system_run_on(unsigned node);

/* A range that was bound, and the nodes, a bit each. */
struct system_binding {
  char *start;
  size_t size;
  int mode;
  unsigned long nodes;
};

/* How many calls bound something since system_reset, of the first 256, and one of them,
 * from 0. */
size_t system_binding_count(void);
struct system_binding system_binding(size_t number);

/* ---- clock ---- */

void system_clock_advance(size_t milliseconds);

/* The clock goes on by so much whenever a page is filled in. */
void system_set_populate_time(size_t milliseconds);

/* ---- what os.c calls ---- */

void *system_mmap(void *base, size_t size, int protect, int flags, int file,
                  off_t offset);
int system_munmap(void *p, size_t size);
int system_mprotect(void *p, size_t size, int protect);
int system_madvise(void *p, size_t size, int advice);
long system_syscall(long number, ...);
int system_access(const char *name, int mode);
int system_clock_gettime(clockid_t clock, struct timespec *now);

#ifdef MIRT_TEST_SYSTEM
#define mmap system_mmap
#define munmap system_munmap
#define mprotect system_mprotect
#define madvise system_madvise
#define syscall system_syscall
#define access system_access
#define clock_gettime system_clock_gettime
#endif

#endif
