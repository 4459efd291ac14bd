/* test_os.c - the room of the operating system: what is reserved, committed, purged and
 * protected is so, seen by touching it in a child that may die of it. */
#include "test.h"

#include <sys/mman.h>

#include "base/bits.h"
#include "os/os.h"

#define SLICE (64 * KiB)

/* A value that no call sets. */
#define ERRNO_BEFORE 4321

static void *reserved(size_t size, size_t alignment, bool commit) {
  errno = ERRNO_BEFORE;
  void *p = os_reserve(size, alignment, commit);
  ck_assert_ptr_nonnull(p);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  return p;
}

/* An address range where nothing is mapped, for now. */
static void *free_range(size_t size, size_t alignment) {
  void *p = reserved(size, alignment, false);
  os_release(p, size);
  return p;
}

static bool is_mapped(void *p) {
  unsigned char resident;
  return mincore(p, os_page_size(), &resident) == 0;
}

/* ---- reserving ---- */

START_TEST(reserve_aligned) {
  static const size_t alignments[] = {1, SLICE, 2 * MiB, 64 * MiB, GiB};
  for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
    for (int commit = 0; commit < 2; commit++) {
      const size_t size = 3 * SLICE;
      char *p = reserved(size, alignments[i], commit != 0);
      ck_assert_uint_eq((uintptr_t)p % alignments[i], 0);
      ck_assert_uint_eq((uintptr_t)p % os_page_size(), 0);
      if (commit != 0) {
        ck_assert(bytes_are(p, size, 0));
        memset(p, 1, size);
      } else {
        assert_unreadable(p);
        assert_unreadable(p + size - 1);
      }
      os_release(p, size);
      ck_assert(!is_mapped(p));
      ck_assert(!is_mapped(p + size - os_page_size()));
    }
  }
}
END_TEST

/* Bytes of address space that the process has mapped. */
static size_t mapped_bytes(void) {
  size_t pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file != NULL) {
    ck_assert_int_eq(fscanf(file, "%zu", &pages), 1);
    fclose(file);
  }
  return pages * os_page_size();
}

START_TEST(reserve_leaves_no_slack) {
  /* What is mapped to find an aligned start is given back at once. */
  const size_t size = 4 * MiB;
  const size_t before = mapped_bytes();
  char *p = reserved(size, GiB, false);
  ck_assert(is_mapped(p));
  ck_assert(is_mapped(p + size - os_page_size()));
  ck_assert_uint_lt(mapped_bytes(), before + 2 * size);
  os_release(p, size);
}
END_TEST

START_TEST(reserve_too_much) {
  errno = ERRNO_BEFORE;
  ck_assert_ptr_null(os_reserve((size_t)1 << 62, SLICE, false));
  ck_assert_ptr_null(os_reserve((size_t)1 << 62, 1, false));
  ck_assert_ptr_null(os_reserve(SIZE_MAX - SLICE + 1, 2 * SLICE, false));
  ck_assert_int_eq(errno, ERRNO_BEFORE);
}
END_TEST

START_TEST(reserve_at_wanted_base) {
  const size_t size = 4 * SLICE;
  char *p = free_range(size, SLICE);
  errno = ERRNO_BEFORE;
  ck_assert_int_eq(os_reserve_at(p, size, false), 0);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  assert_unreadable(p);
  os_release(p, size);
  ck_assert_int_eq(os_reserve_at(p, size, true), 0);
  memset(p, 7, size);
  /* Taken: the whole, a part, and what only overlaps at an end. */
  ck_assert_int_eq(os_reserve_at(p, size, true), EEXIST);
  ck_assert_int_eq(os_reserve_at(p + SLICE, SLICE, false), EEXIST);
  ck_assert_int_eq(os_reserve_at(p + 3 * SLICE, 2 * SLICE, false), EEXIST);
  ck_assert_int_eq(os_reserve_at(p - SLICE, 2 * SLICE, false), EEXIST);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  ck_assert(bytes_are(p, size, 7));
  os_release(p, size);
}
END_TEST

#if !TEST_THREAD_SANITIZER /* which ends a process that asks for such a base */
START_TEST(reserve_at_impossible_base) {
  errno = ERRNO_BEFORE;
  ck_assert_int_eq(os_reserve_at((void *)((uintptr_t)1 << 62), SLICE, false), ENOMEM);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
}
END_TEST
#endif

START_TEST(release_part) {
  char *p = reserved(4 * SLICE, SLICE, true);
  memset(p, 3, 4 * SLICE);
  os_release(p + SLICE, 2 * SLICE);
  ck_assert(is_mapped(p));
  ck_assert(!is_mapped(p + SLICE));
  ck_assert(!is_mapped(p + 3 * SLICE - os_page_size()));
  ck_assert(bytes_are(p, SLICE, 3));
  ck_assert(bytes_are(p + 3 * SLICE, SLICE, 3));
  os_release(p + 2 * SLICE, 0); /* nothing */
  os_release(p, SLICE);
  os_release(p + 3 * SLICE, SLICE);
}
END_TEST

/* ---- committing ---- */

START_TEST(commit_parts) {
  char *p = reserved(4 * SLICE, SLICE, false);
  errno = ERRNO_BEFORE;
  ck_assert(os_commit(p + SLICE, SLICE));
  assert_unreadable(p + SLICE - 1);
  assert_unreadable(p + 2 * SLICE);
  ck_assert(bytes_are(p + SLICE, SLICE, 0));
  memset(p + SLICE, 5, SLICE);
  ck_assert(os_commit(p, 4 * SLICE));
  ck_assert(bytes_are(p + SLICE, SLICE, 5)); /* what was committed keeps its contents */
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  os_release(p, 4 * SLICE);
}
END_TEST

START_TEST(commit_what_is_not_mapped) {
  void *p = free_range(2 * SLICE, SLICE);
  errno = ERRNO_BEFORE;
  ck_assert(!os_commit(p, SLICE));
  ck_assert(!os_protect(p, SLICE, false));
  ck_assert(!os_purge(p, SLICE, true));
  ck_assert_int_eq(errno, ERRNO_BEFORE);
}
END_TEST

START_TEST(protect_keeps_contents) {
  char *p = reserved(3 * SLICE, SLICE, true);
  memset(p, 9, 3 * SLICE);
  ck_assert(os_protect(p + SLICE, SLICE, false));
  assert_unreadable(p + SLICE);
  assert_unwritable(p + 2 * SLICE - 1);
  assert_touchable(p + SLICE - 1);
  assert_touchable(p + 2 * SLICE);
  ck_assert(os_protect(p + SLICE, SLICE, true));
  ck_assert(bytes_are(p, 3 * SLICE, 9));
  os_release(p, 3 * SLICE);
}
END_TEST

/* ---- purging ---- */

static size_t resident_pages(void *p, size_t size) {
  const size_t count = size / os_page_size();
  unsigned char *pages = malloc(count);
  ck_assert_ptr_nonnull(pages);
  ck_assert_int_eq(mincore(p, size, pages), 0);
  size_t resident = 0;
  for (size_t i = 0; i < count; i++) resident += pages[i] & 1;
  free(pages);
  return resident;
}

START_TEST(purge_gives_zeros) {
  char *p = reserved(4 * SLICE, SLICE, true);
  memset(p, 9, 4 * SLICE);
  ck_assert_uint_eq(resident_pages(p + SLICE, 2 * SLICE), 2 * SLICE / os_page_size());
  errno = ERRNO_BEFORE;
  ck_assert(os_purge(p + SLICE, 2 * SLICE, true));
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  ck_assert_uint_eq(resident_pages(p + SLICE, 2 * SLICE), 0);
  ck_assert(bytes_are(p, SLICE, 9));
  ck_assert(bytes_are(p + SLICE, 2 * SLICE, 0));
  ck_assert(bytes_are(p + 3 * SLICE, SLICE, 9));
  memset(p + SLICE, 4, 2 * SLICE);
  ck_assert(bytes_are(p + SLICE, 2 * SLICE, 4));
  os_release(p, 4 * SLICE);
}
END_TEST

START_TEST(purge_without_discard) {
  /* The system may take a page or leave it, whole each time. What is written afterwards
   * stays. */
  char *p = reserved(2 * SLICE, SLICE, true);
  memset(p, 9, 2 * SLICE);
  ck_assert(os_purge(p, 2 * SLICE, false));
  for (size_t i = 0; i < 2 * SLICE; i += os_page_size()) {
    ck_assert(bytes_are(p + i, os_page_size(), 9) || bytes_are(p + i, os_page_size(), 0));
  }
  memset(p, 4, 2 * SLICE);
  ck_assert(bytes_are(p, 2 * SLICE, 4));
  os_release(p, 2 * SLICE);
}
END_TEST

/* ---- guards, huge pages ---- */

START_TEST(guarded_on_both_sides) {
  const size_t size = 3 * os_page_size();
  errno = ERRNO_BEFORE;
  char *p = os_reserve_guarded(size);
  ck_assert_ptr_nonnull(p);
  ck_assert(bytes_are(p, size, 0));
  memset(p, 1, size);
  assert_unreadable(p - 1);
  assert_unwritable(p - os_page_size());
  assert_unreadable(p + size);
  assert_unwritable(p + size + os_page_size() - 1);
  os_release_guarded(p, size);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  ck_assert(!is_mapped(p - os_page_size()));
  ck_assert(!is_mapped(p));
  ck_assert(!is_mapped(p + size));
}
END_TEST

START_TEST(guarded_too_much) {
  errno = ERRNO_BEFORE;
  ck_assert_ptr_null(os_reserve_guarded((size_t)1 << 62));
  ck_assert_int_eq(errno, ERRNO_BEFORE);
}
END_TEST

START_TEST(preferring_huge_pages_changes_no_contents) {
  char *p = reserved(4 * MiB, 2 * MiB, true);
  memset(p, 6, MiB);
  errno = ERRNO_BEFORE;
  os_prefer_huge_pages(p, 4 * MiB);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  ck_assert(bytes_are(p, MiB, 6));
  ck_assert(bytes_are(p + MiB, 3 * MiB, 0));
  os_release(p, 4 * MiB);
}
END_TEST

START_TEST(huge_pages_or_nothing) {
  errno = ERRNO_BEFORE;
  char *p = reserved(GiB, GiB, false);
  int bind_error = ERRNO_BEFORE;
  const int error = os_map_huge_page(p, -1, &bind_error);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  ck_assert_int_eq(bind_error, 0);
  if (error == 0) { /* few systems have one set aside; what we get must be there */
    touch_write(p); /* not in a child: it would need pages more */
    touch_write(p + GiB - 1);
    os_release(p, GiB);
  } else {
    ck_assert_int_eq(error, ENOMEM);
  }
}
END_TEST

START_TEST(large_pages_or_nothing) {
  errno = ERRNO_BEFORE;
  char *p = os_reserve_large(4 * MiB);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  if (p != NULL) {
    ck_assert_uint_eq((uintptr_t)p % (2 * MiB), 0);
    touch_write(p);
    touch_write(p + 4 * MiB - 1);
    os_release(p, 4 * MiB);
  }
  ck_assert_ptr_null(os_reserve_large((size_t)1 << 62));
}
END_TEST

/* ---- what the system knows ---- */

START_TEST(facts) {
  errno = ERRNO_BEFORE;
  ck_assert(is_power_of_two(os_page_size()));
  ck_assert_uint_eq(SLICE % os_page_size(), 0);
  ck_assert_uint_eq(os_page_size(), (size_t)sysconf(_SC_PAGESIZE));
  ck_assert_uint_ge(os_numa_node_count(), 1);
  ck_assert_int_ge(os_numa_node(), 0);
  uint64_t before = os_clock_milliseconds();
  for (int i = 0; i < 1000; i++) {
    const uint64_t now = os_clock_milliseconds();
    ck_assert_uint_ge(now, before);
    before = now;
  }
  ck_assert_int_eq(errno, ERRNO_BEFORE);
}
END_TEST

START_TEST(overcommit_as_the_system_says) {
  bool strict = false;
  FILE *file = fopen("/proc/sys/vm/overcommit_memory", "r");
  if (file != NULL) {
    strict = fgetc(file) == '2';
    fclose(file);
  }
  errno = ERRNO_BEFORE;
  ck_assert_int_eq(os_commits_strictly(), strict);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
}
END_TEST

START_TEST(resident_memory_is_seen) {
  struct os_process_info before, after;
  errno = ERRNO_BEFORE;
  os_process_info(&before);
  ck_assert_int_eq(errno, ERRNO_BEFORE);
  ck_assert_uint_gt(before.current_resident, 0);
  const size_t size = 32 * MiB;
  char *p = reserved(size, SLICE, true);
  memset(p, 1, size);
  os_process_info(&after);
  ck_assert_uint_gt(after.current_resident, before.current_resident + size / 2);
  ck_assert_uint_gt(after.peak_resident, size / 2);
  os_release(p, size);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("os");
  TCase *c = case_begin(suite, "reserve");
  tcase_add_test(c, reserve_aligned);
  tcase_add_test(c, reserve_leaves_no_slack);
  tcase_add_test(c, reserve_too_much);
  tcase_add_test(c, reserve_at_wanted_base);
#if !TEST_THREAD_SANITIZER
  tcase_add_test(c, reserve_at_impossible_base);
#endif
  tcase_add_test(c, release_part);
  c = case_begin(suite, "commit");
  tcase_add_test(c, commit_parts);
  tcase_add_test(c, commit_what_is_not_mapped);
  tcase_add_test(c, protect_keeps_contents);
  c = case_begin(suite, "purge");
  tcase_add_test(c, purge_gives_zeros);
  tcase_add_test(c, purge_without_discard);
  c = case_begin(suite, "guards");
  tcase_add_test(c, guarded_on_both_sides);
  tcase_add_test(c, guarded_too_much);
  tcase_add_test(c, preferring_huge_pages_changes_no_contents);
  tcase_add_test(c, huge_pages_or_nothing);
  tcase_add_test(c, large_pages_or_nothing);
  c = case_begin(suite, "facts");
  tcase_add_test(c, facts);
  tcase_add_test(c, overcommit_as_the_system_says);
  tcase_add_test(c, resident_memory_is_seen);
  return suite_run(suite);
}
