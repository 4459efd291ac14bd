#include "system.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/atomic.h"
#include "base/bits.h"

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MAP_HUGE_MASK
#define MAP_HUGE_MASK 63
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define LARGE_PAGE_SHIFT 21
#define HUGE_PAGE_SHIFT 30

/* All that follows belongs to whoever holds the lock. A lock of our own, so that no
 * system call but those of os.c is made. */
static atomic_word locked;

static void lock(void) {
  while (!atomic_compare_and_swap_full(&locked, 0, 1)) sched_yield();
}

static void unlock(void) { atomic_store_release(&locked, 0); }

/* ---- calls ---- */

struct calls {
  size_t count;
  size_t fail_from, fail_end; /* the calls with these numbers fail, but for the last */
  int code;
  size_t failures;
  size_t watched;
};

static struct calls calls[SYSTEM_KINDS];
static uintptr_t watched_start, watched_end;

/* Count a call. Returns whether it fails; errno says why then. */
static bool call_fails(enum system_kind kind, const void *p, size_t size) {
  lock();
  struct calls *c = &calls[kind];
  c->count++;
  const uintptr_t start = (uintptr_t)p;
  if (start < watched_end && start + size > watched_start) c->watched++;
  const bool fails = c->count >= c->fail_from && c->count < c->fail_end;
  const int code = c->code;
  if (fails) c->failures++;
  unlock();
  if (fails) errno = code;
  return fails;
}

void system_fail(enum system_kind kind, size_t first, size_t count, int code) {
  lock();
  struct calls *c = &calls[kind];
  c->fail_from = c->count + first;
  c->fail_end = c->fail_from + count;
  c->code = code;
  unlock();
}

void system_watch(const void *start, size_t size) {
  lock();
  watched_start = (uintptr_t)start;
  watched_end = watched_start + size;
  for (int kind = 0; kind < SYSTEM_KINDS; kind++) calls[kind].watched = 0;
  unlock();
}

static size_t read_locked(const size_t *value) {
  lock();
  const size_t result = *value;
  unlock();
  return result;
}

size_t system_calls(enum system_kind kind) { return read_locked(&calls[kind].count); }

size_t system_failures(enum system_kind kind) {
  return read_locked(&calls[kind].failures);
}

size_t system_watched(enum system_kind kind) { return read_locked(&calls[kind].watched); }

/* ---- address space ---- */

#define RANGES_MAX 8192

/* What is mapped, in any order; no two overlap. */
struct range {
  uintptr_t start, end;
  int shift; /* of the pages set aside that it consists of, or 0 */
};

static struct range ranges[RANGES_MAX];
static size_t range_count;
static size_t strays;
static size_t free_pages[64]; /* by the shift that is their size */

static void range_push(uintptr_t start, uintptr_t end, int shift) {
  if (range_count == RANGES_MAX) {
    fprintf(stderr, "system.c: too many mappings\n");
    abort();
  }
  ranges[range_count++] = (struct range){start, end, shift};
}

static size_t bytes_mapped(uintptr_t start, uintptr_t end) {
  size_t bytes = 0;
  for (size_t i = 0; i < range_count; i++) {
    const uintptr_t from = ranges[i].start > start ? ranges[i].start : start;
    const uintptr_t to = ranges[i].end < end ? ranges[i].end : end;
    if (from < to) bytes += to - from;
  }
  return bytes;
}

static void ranges_remove(uintptr_t start, uintptr_t end) {
  if (bytes_mapped(start, end) != end - start) strays++;
  for (size_t i = 0; i < range_count;) {
    const struct range r = ranges[i];
    if (r.end <= start || r.start >= end) {
      i++;
      continue;
    }
    const uintptr_t from = r.start > start ? r.start : start;
    const uintptr_t to = r.end < end ? r.end : end;
    if (r.shift != 0) free_pages[r.shift] += (to - from) >> r.shift;
    ranges[i] = ranges[--range_count];
    if (r.start < from) range_push(r.start, from, r.shift);
    if (r.end > to) range_push(to, r.end, r.shift);
  }
}

size_t system_mapped(void) {
  lock();
  const size_t bytes = bytes_mapped(0, UINTPTR_MAX);
  unlock();
  return bytes;
}

bool system_is_mapped(const void *p) {
  lock();
  const bool is_mapped = bytes_mapped((uintptr_t)p, (uintptr_t)p + 1) != 0;
  unlock();
  return is_mapped;
}

size_t system_strays(void) { return read_locked(&strays); }

/* Take pages that are set aside for a mapping. Returns whether there were enough. */
static bool pages_take(int shift, size_t size) {
  lock();
  const size_t pages = size >> shift;
  const bool enough = pages << shift == size && pages <= free_pages[shift];
  if (enough) free_pages[shift] -= pages;
  unlock();
  return enough;
}

void *system_mmap(void *base, size_t size, int protect, int flags, int file,
                  off_t offset) {
  if (call_fails(SYSTEM_RESERVE, base, size)) return MAP_FAILED;
  int shift = 0;
  if ((flags & MAP_HUGETLB) != 0) {
    shift = (flags >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
    if (!pages_take(shift, size)) {
      errno = ENOMEM;
      return MAP_FAILED;
    }
    flags &= ~MAP_HUGETLB & ((1 << MAP_HUGE_SHIFT) - 1);
    flags |= MAP_NORESERVE;
  }
  if ((flags & MAP_FIXED) != 0) { /* as if what was there had been released before */
    lock();
    ranges_remove((uintptr_t)base, (uintptr_t)base + size);
    unlock();
  }
  void *p = mmap(base, size, protect, flags, file, offset);
  if (p == MAP_FAILED) return p;
  lock();
  range_push((uintptr_t)p, (uintptr_t)p + align_up(size, 4096), shift);
  unlock();
  return p;
}

int system_munmap(void *p, size_t size) {
  if (call_fails(SYSTEM_RELEASE, p, size)) return -1;
  lock(); /* first: when it is done, another thread may get the same addresses */
  ranges_remove((uintptr_t)p, (uintptr_t)p + size);
  unlock();
  return munmap(p, size);
}

int system_mprotect(void *p, size_t size, int protect) {
  const enum system_kind kind = protect == PROT_NONE ? SYSTEM_PROTECT : SYSTEM_COMMIT;
  return call_fails(kind, p, size) ? -1 : mprotect(p, size, protect);
}

/* ---- pages set aside ---- */

void system_set_aside(size_t huge_pages, size_t large_pages) {
  lock();
  free_pages[HUGE_PAGE_SHIFT] = huge_pages;
  free_pages[LARGE_PAGE_SHIFT] = large_pages;
  unlock();
}

size_t system_free_huge_pages(void) { return read_locked(&free_pages[HUGE_PAGE_SHIFT]); }

size_t system_free_large_pages(void) {
  return read_locked(&free_pages[LARGE_PAGE_SHIFT]);
}

/* ---- clock ---- */

static atomic_word clock_milliseconds = 1000000;
static atomic_word populate_milliseconds;

void system_clock_advance(size_t milliseconds) {
  atomic_fetch_add_full(&clock_milliseconds, milliseconds);
}

void system_set_populate_time(size_t milliseconds) {
  atomic_store_relaxed(&populate_milliseconds, milliseconds);
}

int system_clock_gettime(clockid_t clock, struct timespec *now) {
  (void)clock;
  const uintptr_t milliseconds = atomic_load_relaxed(&clock_milliseconds);
  now->tv_sec = (time_t)(milliseconds / 1000);
  now->tv_nsec = (long)(milliseconds % 1000) * 1000000;
  return 0;
}

/* ---- advice ---- */

static enum system_kind kind_of_advice(int advice) {
  switch (advice) {
    case MADV_DONTNEED: return SYSTEM_PURGE;
#ifdef MADV_FREE
    case MADV_FREE: return SYSTEM_PURGE;
#endif
    case MADV_POPULATE_WRITE: return SYSTEM_POPULATE;
    default: return SYSTEM_ADVISE;
  }
}

int system_madvise(void *p, size_t size, int advice) {
  const enum system_kind kind = kind_of_advice(advice);
  if (call_fails(kind, p, size)) return -1;
  if (kind != SYSTEM_POPULATE) return madvise(p, size, advice);
  system_clock_advance(atomic_load_relaxed(&populate_milliseconds));
  return 0;
}

/* ---- NUMA nodes ---- */

#define BINDINGS_MAX 256

static _Thread_local unsigned this_node;
static struct system_binding bindings[BINDINGS_MAX];
static size_t binding_count;

void system_run_on(unsigned node) { this_node = node; }

int system_access(const char *name, int mode) {
  (void)mode;
  unsigned node;
  if (sscanf(name, "/sys/devices/system/node/node%u", &node) == 1 &&
      node < SYSTEM_NODES) {
    return 0;
  }
  errno = ENOENT;
  return -1;
}

static long bind_range(struct system_binding binding) {
  if (call_fails(SYSTEM_BIND, binding.start, binding.size)) return -1;
  lock();
  if (binding_count < BINDINGS_MAX) bindings[binding_count++] = binding;
  unlock();
  return 0;
}

long system_syscall(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  long result = -1;
  if (number == SYS_getcpu) {
    *va_arg(arguments, unsigned *) = 0;
    *va_arg(arguments, unsigned *) = this_node;
    result = 0;
  } else if (number == SYS_mbind) {
    struct system_binding binding;
    binding.start = va_arg(arguments, void *);
    binding.size = va_arg(arguments, size_t);
    binding.mode = va_arg(arguments, int);
    binding.nodes = *va_arg(arguments, unsigned long *);
    result = bind_range(binding);
  } else {
    errno = ENOSYS;
  }
  va_end(arguments);
  return result;
}

size_t system_binding_count(void) { return read_locked(&binding_count); }

struct system_binding system_binding(size_t number) {
  lock();
  const struct system_binding binding =
      number < binding_count ? bindings[number] : (struct system_binding){0};
  unlock();
  return binding;
}

/* ---- all of it ---- */

void system_reset(void) {
  lock();
  memset(calls, 0, sizeof calls);
  binding_count = 0;
  unlock();
}
