#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/stats.h"

#ifdef MIRT_TEST_SYSTEM
#include MIRT_TEST_SYSTEM /* system calls that a test can make fail */
#endif

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifdef MAP_HUGETLB
/* Without MAP_NORESERVE: a page that is not set aside is an error now, not a fault later. */
#define PAGES_OF(shift) (MAP_HUGETLB | ((shift) << MAP_HUGE_SHIFT))
#endif
#define LARGE_PAGE_SHIFT 21 /* 2 MiB */
#define HUGE_PAGE_SHIFT 30  /* 1 GiB */

size_t os_page_size(void) {
  static atomic_word known;
  size_t size = atomic_load_relaxed(&known);
  if (size == 0) {
    size = (size_t)sysconf(_SC_PAGESIZE);
    atomic_store_relaxed(&known, size);
  }
  return size;
}

static int protection(bool commit) { return commit ? PROT_READ | PROT_WRITE : PROT_NONE; }

/* mmap of private memory with errno kept; NULL on failure. */
static void *map(void *base, size_t size, int protect, int flags, int *error) {
  const int saved_errno = errno;
  atomic_fetch_add_full(&stats.map_calls, 1);
  void *p = mmap(base, size, protect, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (error != NULL) *error = p == MAP_FAILED ? errno : 0;
  errno = saved_errno;
  return p == MAP_FAILED ? NULL : p;
}

void os_release(void *p, size_t size) {
  if (size == 0) return;
  const int saved_errno = errno;
  atomic_fetch_add_full(&stats.map_calls, 1);
  munmap(p, size);
  errno = saved_errno;
}

void *os_reserve(size_t size, size_t alignment, bool commit) {
  const size_t page = os_page_size();
  if (alignment <= page) return map(NULL, size, protection(commit), MAP_NORESERVE, NULL);
  size_t with_slack;
  if (__builtin_add_overflow(size, alignment, &with_slack)) return NULL;
  char *p = map(NULL, with_slack, protection(commit), MAP_NORESERVE, NULL);
  if (p == NULL) return NULL;
  char *start = (char *)align_up((uintptr_t)p, alignment);
  os_release(p, (size_t)(start - p));
  os_release(start + size, (size_t)(p + with_slack - (start + size)));
  return start;
}

int os_reserve_at(void *base, size_t size, bool commit) {
  int flags = MAP_NORESERVE;
#ifdef MAP_FIXED_NOREPLACE
  flags |= MAP_FIXED_NOREPLACE;
#endif
  int error;
  void *p = map(base, size, protection(commit), flags, &error);
  if (p == NULL) return error == EEXIST ? EEXIST : ENOMEM;
  if (p != base) { /* a system that took the address as a hint only */
    os_release(p, size);
    return EEXIST;
  }
  return 0;
}

void *os_reserve_large(size_t size) {
#ifdef MAP_HUGETLB
  return map(NULL, size, protection(true), PAGES_OF(LARGE_PAGE_SHIFT), NULL);
#else
  (void)size;
  return NULL;
#endif
}

#if defined(MAP_HUGETLB) && defined(SYS_mbind)
/* Prefer a node for memory that is touched later. Returns 0 or an error code. */
static int bind_to_node(void *p, size_t size, int numa_node) {
  enum { PREFERRED = 1, MOST_NODES = 1024 };
  if (numa_node < 0) return 0;
  if (numa_node >= MOST_NODES) return EINVAL;
  unsigned long mask[MOST_NODES / WORD_BITS] = {0};
  mask[(size_t)numa_node / WORD_BITS] = 1ul << ((size_t)numa_node % WORD_BITS);
  const unsigned long bits = MOST_NODES;
  return syscall(SYS_mbind, p, size, PREFERRED, mask, bits, 0u) == 0 ? 0 : errno;
}

/* Have the memory now: a page that cannot be had is an error, and not a signal later. */
static bool populate(void *p, size_t size) {
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
  int result;
  do {
    result = madvise(p, size, MADV_POPULATE_WRITE);
  } while (result != 0 && (errno == EAGAIN || errno == EINTR));
  return result == 0 || errno == EINVAL; /* a kernel that does not know it fills later */
}
#endif

int os_map_huge_page(void *p, int numa_node, int *bind_error) {
  *bind_error = 0;
#if defined(MAP_HUGETLB) && defined(SYS_mbind)
  const int saved_errno = errno;
  const size_t size = (size_t)1 << HUGE_PAGE_SHIFT;
  bool done =
      map(p, size, protection(true), MAP_FIXED | PAGES_OF(HUGE_PAGE_SHIFT), NULL) != NULL;
  if (done) {
    *bind_error = bind_to_node(p, size, numa_node);
    done = populate(p, size);
  }
  if (!done) map(p, size, protection(false), MAP_FIXED | MAP_NORESERVE, NULL);
  errno = saved_errno;
  return done ? 0 : ENOMEM;
#else
  (void)p, (void)numa_node;
  return ENOMEM;
#endif
}

void *os_reserve_guarded(size_t size) {
  const size_t guard = os_page_size();
  char *p = map(NULL, size + 2 * guard, PROT_NONE, MAP_NORESERVE, NULL);
  if (p == NULL) return NULL;
  if (!os_commit(p + guard, size)) {
    os_release(p, size + 2 * guard);
    return NULL;
  }
  return p + guard;
}

void os_release_guarded(void *p, size_t size) {
  const size_t guard = os_page_size();
  os_release((char *)p - guard, size + 2 * guard);
}

bool os_protect(void *p, size_t size, bool accessible) {
  const int saved_errno = errno;
  const bool done = mprotect(p, size, protection(accessible)) == 0;
  errno = saved_errno;
  return done;
}

bool os_commit(void *p, size_t size) {
  atomic_fetch_add_full(&stats.commit_calls, 1);
  return os_protect(p, size, true);
}

static bool advise(void *p, size_t size, int advice) {
  const int saved_errno = errno;
  int result;
  do {
    result = madvise(p, size, advice);
  } while (result != 0 && errno == EAGAIN);
  errno = saved_errno;
  return result == 0;
}

bool os_purge(void *p, size_t size, bool discard) {
  atomic_fetch_add_full(&stats.purge_calls, 1);
#ifdef MADV_FREE
  if (!discard && advise(p, size, MADV_FREE)) return true;
#endif
  return advise(p, size, MADV_DONTNEED);
}

void os_prefer_huge_pages(void *p, size_t size) {
#ifdef MADV_HUGEPAGE
  advise(p, size, MADV_HUGEPAGE);
#else
  (void)p, (void)size;
#endif
}

size_t os_numa_node_count(void) {
#ifdef __linux__
  static atomic_word known;
  size_t count = atomic_load_relaxed(&known);
  if (count == 0) {
    const int saved_errno = errno;
    char name[64];
    for (count = 0; count < 1024; count++) {
      snprintf(name, sizeof name, "/sys/devices/system/node/node%zu", count);
      if (access(name, F_OK) != 0) break;
    }
    if (count == 0) count = 1;
    atomic_store_relaxed(&known, count);
    errno = saved_errno;
  }
  return count;
#else
  return 1;
#endif
}

int os_numa_node(void) {
#ifdef SYS_getcpu
  unsigned processor = 0, node = 0;
  if (os_numa_node_count() > 1 && syscall(SYS_getcpu, &processor, &node, NULL) == 0) {
    return (int)node;
  }
#endif
  return 0;
}

uint64_t os_clock_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t os_clock_milliseconds(void) { return os_clock_nanoseconds() / 1000000; }

bool os_commits_strictly(void) {
  bool strict = false;
#ifdef __linux__
  const int saved_errno = errno;
  const int file = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    char text = 0;
    strict = read(file, &text, 1) == 1 && text == '2';
    close(file);
  }
  errno = saved_errno;
#endif
  return strict;
}
