/* test_huge_pages.c - arenas in huge pages of 1 GiB and in large ones of 2 MiB, as the
 * system really has them.
 *
 * It sets some aside, for which it has to be root, and in the end puts back what was set
 * before: the suite runs in a child, so that its parent can do so whatever happens. Where
 * there are none to be had, a line says why a test was skipped. What can be seen without
 * them is in test_faults.c.
 */
#include "test.h"

#include <fcntl.h>
#include <mirt/arena.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "arena/arena.h"
#include "base/bits.h"
#include "os/os.h"

#define HUGE_PAGE GiB
#define LARGE_PAGE (2 * MiB)

/* ---- what the system says ---- */

/* The number in a file of one line, or a line that starts with a name; 0 without one. */
static size_t file_number(const char *path, const char *name) {
  FILE *file = fopen(path, "r");
  if (file == NULL) return 0;
  size_t number = 0;
  char line[256];
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, name, strlen(name)) != 0) continue;
    number = strtoul(line + strlen(name), NULL, 10);
    break;
  }
  fclose(file);
  return number;
}

/* Bytes of this process that lie in pages set aside. */
static size_t huge_bytes(void) {
  return file_number("/proc/self/status", "HugetlbPages:") * KiB;
}

/* What /proc/self/smaps says of a range. */
struct map {
  size_t mapped;      /* bytes of the range that are mapped */
  size_t page_size;   /* the smallest in it */
  size_t transparent; /* bytes in transparent huge pages, of mappings that touch it */
};

static void map_add(struct map *map, const char *line) {
  size_t kibibytes;
  if (sscanf(line, "KernelPageSize: %zu kB", &kibibytes) == 1) {
    if (map->page_size == 0 || kibibytes * KiB < map->page_size) {
      map->page_size = kibibytes * KiB;
    }
  } else if (sscanf(line, "AnonHugePages: %zu kB", &kibibytes) == 1) {
    map->transparent += kibibytes * KiB;
  }
}

static struct map map_of(const void *p, size_t size) {
  const uintptr_t start = (uintptr_t)p, end = start + size;
  struct map map = {0, 0, 0};
  FILE *file = fopen("/proc/self/smaps", "r");
  if (file == NULL) return map;
  bool inside = false;
  char line[1024];
  while (fgets(line, sizeof line, file) != NULL) {
    uintptr_t from, to;
    if (sscanf(line, "%zx-%zx ", &from, &to) == 2) {
      from = from > start ? from : start;
      to = to < end ? to : end;
      inside = from < to;
      if (inside) map.mapped += to - from;
    } else if (inside) {
      map_add(&map, line);
    }
  }
  fclose(file);
  return map;
}

/* ---- pages set aside ---- */

struct pool {
  const char *folder;
  size_t page_size;
  size_t before; /* set aside when the program began */
};

static struct pool huge_pool = {"/sys/kernel/mm/hugepages/hugepages-1048576kB", GiB, 0};
static struct pool large_pool = {"/sys/kernel/mm/hugepages/hugepages-2048kB", 2 * MiB, 0};

static const char *pool_path(const struct pool *pool, const char *name) {
  static char path[128];
  snprintf(path, sizeof path, "%s/%s", pool->folder, name);
  return path;
}

static size_t pool_free(const struct pool *pool) {
  return file_number(pool_path(pool, "free_hugepages"), "");
}

static bool pool_set(const struct pool *pool, size_t pages) {
  FILE *file = fopen(pool_path(pool, "nr_hugepages"), "w");
  if (file == NULL) return false;
  const bool printed = fprintf(file, "%zu", pages) > 0;
  return fclose(file) == 0 && printed;
}

/* Return whether a test can go on, else print why not. */
static bool skip_unless(bool condition, const char *why) {
  if (!condition) {
    printf("skipped: %s\n", why);
    fflush(stdout);
  }
  return condition;
}

/* Other programs may take a page for a moment. Wait a while until so many are free. */
static bool pool_settles(const struct pool *pool, size_t pages) {
  for (int i = 0; i < 20000; i++) {
    if (pool_free(pool) == pages) return true;
    sched_yield();
  }
  return false;
}

/* Are there no free pages, so that ordinary memory is all there is? */
static bool pool_is_empty(const struct pool *pool) {
  pool_set(pool, pool->before);
  return skip_unless(pool_settles(pool, 0), "pages are set aside for others");
}

/* Set pages aside, so that exactly so many are free. */
static bool pool_begin(const struct pool *pool, size_t pages) {
  const size_t needed = pages * pool->page_size + GiB;
  if (!skip_unless(pool_set(pool, pool->before), "pages cannot be set aside here")) {
    return false;
  }
  if (!pool_is_empty(pool)) return false;
  if (pages == 0) return true;
  if (!skip_unless(file_number("/proc/meminfo", "MemAvailable:") * KiB >= needed,
                   "there is too little memory")) {
    return false;
  }
  pool_set(pool, pool->before + pages);
  return skip_unless(pool_settles(pool, pages), "the system has no such pages now");
}

/* ---- arenas ---- */

static void set_up(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* to hold no pages when the suite was killed */
  ck_assert_uint_eq(huge_bytes(), 0);
}

/* Destroy all arenas: sometimes all tests run in one process. */
static void tear_down(void) {
  mi_collect(true);
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    if (arena_of_id(id) != NULL) mirt_arena_destroy(id);
  }
}

static size_t area_size(mi_arena_id_t id) {
  size_t size = 0;
  mi_arena_area(id, &size);
  return size;
}

/* How often to try for pages that others may take for a moment. */
#define ATTEMPTS 20

/* Reserve huge pages of which only some are there. When that gives fewer, others may have
 * been quicker: try again, as long as that might be why. */
static int reserve_huge(size_t pages, size_t there, int node, mi_arena_id_t *id) {
  for (int attempt = 0;; attempt++) {
    errors_clear();
    const int error = mi_reserve_huge_os_pages_at_ex(pages, node, 0, true, id);
    if (area_size(*id) == there * HUGE_PAGE || attempt == ATTEMPTS) return error;
    if (*id != 0) ck_assert_int_eq(mirt_arena_destroy(*id), 0);
    pool_settles(&huge_pool, there);
  }
}

/* All of the arena lies in pages of this size. */
static void assert_page_size(mi_arena_id_t id, size_t page_size) {
  size_t size = 0;
  const void *start = mi_arena_area(id, &size);
  const struct map map = map_of(start, size);
  ck_assert_uint_eq(map.mapped, size);
  ck_assert_uint_eq(map.page_size, page_size);
}

static size_t smaller_of(size_t a, size_t b) { return a < b ? a : b; }

/* Blocks of the arena hold what is written to them, up to one that is all of it. Returns
 * with all of them free. */
static void use_arena(mi_arena_id_t id) {
  const size_t whole = area_size(id), errors = errors_total();
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  ck_assert_ptr_nonnull(heap);
  for (size_t size = 16; size < whole; size *= 8) {
    unsigned char *p = mi_heap_malloc(heap, size);
    ck_assert(mi_arena_contains(id, p));
    memset(p, 0x5a, smaller_of(size, 4 * MiB));
    ck_assert(bytes_are(p, smaller_of(size, 4 * MiB), 0x5a));
    mi_free(p);
  }
  mi_heap_collect(heap, true);
  unsigned char *p = mi_heap_malloc(heap, whole);
  ck_assert_ptr_nonnull(p);
  for (size_t i = 0; i < whole; i += LARGE_PAGE) p[i] = (unsigned char)(i / LARGE_PAGE);
  for (size_t i = 0; i < whole; i += LARGE_PAGE) {
    assert_quick(p[i] == (unsigned char)(i / LARGE_PAGE));
  }
  mi_heap_destroy(heap);
  mi_collect(true);
  ck_assert_uint_eq(errors_total(), errors); /* nor was it tried to give memory back */
}

/* ---- pages of 1 GiB ---- */

START_TEST(huge_pages_are_used) {
  if (!pool_begin(&huge_pool, 2)) return;
  mi_arena_id_t id = 0;
  for (int round = 0; round < 2; round++) {
    ck_assert_int_eq(reserve_huge(2, 2, -1, &id), 0);
    assert_no_errors();
    ck_assert_uint_eq((uintptr_t)mi_arena_area(id, NULL) % HUGE_PAGE, 0);
    assert_page_size(id, HUGE_PAGE);
    ck_assert_uint_eq(huge_bytes(), 2 * HUGE_PAGE); /* filled in before it is touched */
    use_arena(id);
    ck_assert_uint_eq(huge_bytes(), 2 * HUGE_PAGE); /* and never given back */
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
    ck_assert_uint_eq(huge_bytes(), 0);
  }
  skip_unless(pool_settles(&huge_pool, 2), "others hold huge pages: those free differ");
}
END_TEST

START_TEST(huge_pages_are_zero) {
  if (!pool_begin(&huge_pool, 1)) return;
  for (int round = 0; round < 2; round++) { /* the second time it was written to before */
    mi_arena_id_t id = 0;
    ck_assert_int_eq(reserve_huge(1, 1, -1, &id), 0);
    mi_heap_t *heap = mi_heap_new_ex(0, true, id);
    unsigned char *p = mi_heap_zalloc(heap, 8 * MiB);
    ck_assert(bytes_are(p, 8 * MiB, 0));
    memset(p, 1, 8 * MiB);
    mi_free(p);
    p = mi_heap_zalloc(heap, 8 * MiB);
    ck_assert(bytes_are(p, 8 * MiB, 0));
    mi_heap_destroy(heap);
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
  }
}
END_TEST

START_TEST(huge_pages_on_a_node) {
  if (!pool_begin(&huge_pool, 1)) return;
  mi_arena_id_t id = 0;
  ck_assert_int_eq(reserve_huge(1, 1, 0, &id), 0);
  /* Containers forbid the system call that binds; then that is reported. */
  if (skip_unless(errors_of(EPERM) == 0, "mbind is not permitted")) assert_no_errors();
  assert_page_size(id, HUGE_PAGE);
  use_arena(id);
}
END_TEST

START_TEST(huge_pages_on_a_node_that_is_not_there) {
  if (!pool_begin(&huge_pool, 1)) return;
  mi_arena_id_t id = 0;
  ck_assert_int_eq(reserve_huge(1, 1, 1000, &id), 0);
  ck_assert_uint_eq(errors_total(), 1); /* it was not bound: the system says why */
  assert_page_size(id, HUGE_PAGE);
  use_arena(id);
}
END_TEST

START_TEST(huge_pages_over_nodes) {
  if (!pool_begin(&huge_pool, 1)) return;
  ck_assert_int_eq(mi_reserve_huge_os_pages_interleave(0, 0, 0), 0);
  size_t done = 0;
  for (int attempt = 0; attempt < ATTEMPTS && done == 0; attempt++) {
    pool_settles(&huge_pool, 1);
    mi_reserve_huge_os_pages(1, 100, &done);
  }
  ck_assert_uint_eq(done, 1);
  ck_assert_uint_eq(huge_bytes(), HUGE_PAGE);
  void *p = mi_malloc(1000); /* the arena serves everybody */
  ck_assert_uint_eq(map_of(p, 1000).page_size, HUGE_PAGE);
  mi_free(p);
}
END_TEST

START_TEST(huge_pages_are_not_there) {
  if (!pool_begin(&huge_pool, 0)) return;
  const size_t mapped = file_number("/proc/self/statm", "");
  mi_arena_id_t id = 77;
  ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(1, -1, 0, true, &id), ENOMEM);
  ck_assert_int_eq(id, 0);
  assert_errors(ENOMEM, 1);
  ck_assert_int_eq(mi_reserve_huge_os_pages_at(2, -1, 1000), ENOMEM);
  assert_errors(ENOMEM, 1);
  size_t done = 77;
  ck_assert_int_eq(mi_reserve_huge_os_pages(2, 1, &done), ENOMEM);
  ck_assert_uint_eq(done, 0);
  assert_errors(ENOMEM, 1);
  /* Not even address space is gone. */
  ck_assert_uint_lt(file_number("/proc/self/statm", ""), mapped + MiB / os_page_size());
}
END_TEST

START_TEST(huge_pages_run_out) {
  if (!pool_begin(&huge_pool, 2)) return;
  mi_arena_id_t id = 0;
  ck_assert_int_eq(reserve_huge(3, 2, -1, &id), ENOMEM);
  assert_errors(ENOMEM, 1);
  ck_assert_uint_eq(area_size(id), 2 * HUGE_PAGE);
  assert_page_size(id, HUGE_PAGE);
  use_arena(id);
  ck_assert_int_eq(mirt_arena_destroy(id), 0);
  ck_assert_uint_eq(huge_bytes(), 0);
}
END_TEST

/* A limit that is over after the first page leaves that one. */
START_TEST(huge_pages_in_no_time) {
  if (!pool_begin(&huge_pool, 2)) return;
  mi_arena_id_t id = 0;
  int error = 0;
  for (int attempt = 0; attempt < ATTEMPTS && id == 0; attempt++) {
    errors_clear();
    error = mi_reserve_huge_os_pages_at_ex(2, -1, 1, true, &id);
    if (id == 0) pool_settles(&huge_pool, 2);
  }
  ck_assert_int_ne(id, 0);
  if (error == 0) return; /* a very quick machine */
  ck_assert_int_eq(error, ETIMEDOUT);
  assert_errors(ETIMEDOUT, 1);
  ck_assert_uint_eq(area_size(id), HUGE_PAGE);
  ck_assert_uint_eq(huge_bytes(), HUGE_PAGE);
  use_arena(id);
}
END_TEST

/* ---- pages of 2 MiB ---- */

/* Reserve memory that may lie in large pages, of which so many are there. Again, others
 * may have been quicker. */
static mi_arena_id_t reserve_large(size_t size, bool commit, size_t there,
                                   size_t page_size) {
  for (int attempt = 0;; attempt++) {
    mi_arena_id_t id = 0;
    ck_assert_int_eq(mi_reserve_os_memory_ex(size, commit, true, true, &id), 0);
    assert_no_errors();
    const void *start = mi_arena_area(id, NULL);
    if (map_of(start, area_size(id)).page_size == page_size || attempt == ATTEMPTS) {
      return id;
    }
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
    pool_settles(&large_pool, there);
  }
}

START_TEST(large_pages_are_used) {
  for (int commit = 0; commit < 2; commit++) {
    if (!pool_begin(&large_pool, 5)) return;
    const mi_arena_id_t id = reserve_large(9 * MiB, commit != 0, 5, LARGE_PAGE);
    ck_assert_uint_eq(area_size(id), 10 * MiB);
    assert_page_size(id, LARGE_PAGE);
    use_arena(id);
    ck_assert_uint_eq(huge_bytes(),
                      10 * MiB); /* all of it was touched, none given back */
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
    ck_assert_uint_eq(huge_bytes(), 0);
  }
  skip_unless(pool_settles(&large_pool, 5), "others hold large pages: those free differ");
}
END_TEST

START_TEST(large_pages_are_too_few) {
  if (!pool_begin(&large_pool, 4)) return;
  const mi_arena_id_t id = reserve_large(9 * MiB, true, 4, os_page_size());
  ck_assert_uint_eq(area_size(id), 9 * MiB);
  assert_page_size(id, os_page_size());
  use_arena(id);
  ck_assert_uint_eq(huge_bytes(), 0);
}
END_TEST

START_TEST(large_pages_are_not_asked_for) {
  if (!pool_begin(&large_pool, 4)) return;
  mi_arena_id_t id = 0;
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MiB, true, false, true, &id), 0);
  assert_page_size(id, os_page_size());
  use_arena(id);
  ck_assert_uint_eq(huge_bytes(), 0);
}
END_TEST

START_TEST(large_pages_for_automatic_arenas) {
  const long size = mi_option_get(mi_option_arena_reserve);
  if (!pool_begin(&large_pool, 8)) return;
  mi_option_set(mi_option_arena_reserve, (long)(16 * MiB / KiB));
  mi_option_set(mi_option_large_os_pages, 1);
  size_t page_size = 0;
  for (int attempt = 0; attempt < ATTEMPTS && page_size != LARGE_PAGE; attempt++) {
    void *p = mi_malloc(1000);
    page_size = map_of(p, 1000).page_size;
    mi_free(p);
    tear_down(); /* the next allocation reserves anew */
  }
  ck_assert_uint_eq(page_size, LARGE_PAGE);
  mi_option_set(mi_option_large_os_pages, 0);
  mi_option_set(mi_option_arena_reserve, size);
}
END_TEST

/* ---- transparent huge pages ---- */

static bool transparent_pages_are_enabled(void) {
  FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
  if (file == NULL) return false;
  char line[128] = "";
  const bool read = fgets(line, sizeof line, file) != NULL;
  fclose(file);
  return read && strstr(line, "[never]") == NULL;
}

/* Does the system have some for a mapping that asks for them? */
static bool transparent_pages_are_there(void) {
  const size_t size = 16 * MiB;
  char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(p, MAP_FAILED);
  madvise(p, size, MADV_HUGEPAGE);
  memset(p, 1, size);
  const bool any = map_of(p, size).transparent > 0;
  munmap(p, size);
  return any;
}

START_TEST(transparent_huge_pages) {
  if (!skip_unless(transparent_pages_are_enabled(),
                   "transparent huge pages are not enabled") ||
      !skip_unless(transparent_pages_are_there(), "there are no huge pages now")) {
    return;
  }
  if (!pool_is_empty(&large_pool)) return; /* or the arena would lie there */
  for (int commit = 0; commit < 2; commit++) {
    mi_arena_id_t id = 0;
    ck_assert_int_eq(mi_reserve_os_memory_ex(16 * MiB, commit != 0, true, true, &id), 0);
    ck_assert_uint_eq((uintptr_t)mi_arena_area(id, NULL) % LARGE_PAGE, 0);
    mi_heap_t *heap = mi_heap_new_ex(0, true, id);
    unsigned char *p = mi_heap_malloc(heap, 8 * MiB);
    memset(p, 1, 8 * MiB);
    ck_assert_uint_gt(map_of(p, 8 * MiB).transparent, 0);
    mi_free(p);
    mi_collect(true); /* they are purged like any memory */
    ck_assert_uint_eq(map_of(p, 8 * MiB).transparent, 0);
    mi_heap_destroy(heap);
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
  }
}
END_TEST

/* ---- at the start of a process ---- */

static const char *program; /* argv[0] */

#define ROLE_NO_PAGES 100 /* somebody else may have them */

/* The program runs again in this role, with options in the environment, and says whether
 * the arena that they ask for is there: of this size, in pages of this size, and used.
 * Returns the number of the first step that went wrong, or 0. */
static int role_started(const char *size_text, const char *page_size_text) {
  const size_t size = strtoul(size_text, NULL, 10);
  const size_t page_size = strtoul(page_size_text, NULL, 10);
  char *p = mi_malloc(1000);
  if (p == NULL) return 1;
  memset(p, 1, 1000); /* a page of 2 MiB is there from here on */
  if (page_size > os_page_size() && huge_bytes() == 0) return ROLE_NO_PAGES;
  size_t area = 0;
  const char *start = mi_arena_area(1, &area);
  if (area != size) return 2;
  if (arena_of_id(2) != NULL) return 3;
  if (!mi_arena_contains(1, p)) return 4;
  const struct map map = map_of(start, area);
  if (map.mapped != size) return 5;
  if (map.page_size != page_size) return 6;
  return 0;
}

/* Options, and what they make. */
struct start {
  const char *names[2], *values[2];
  const char *size, *page_size;
};

static void run_started(void *argument) {
  const struct start *start = argument;
  for (int i = 0; i < 2; i++) {
    if (start->names[i] != NULL) setenv(start->names[i], start->values[i], 1);
  }
  const char *path = access("/proc/self/exe", X_OK) == 0 ? "/proc/self/exe" : program;
  execl(path, program, "started", start->size, start->page_size, (char *)NULL);
  _exit(127);
}

static void assert_starts(const struct pool *pool, size_t pages,
                          const struct start *start) {
  int status = 0;
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    status = child_run(run_started, (void *)(uintptr_t)start);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != ROLE_NO_PAGES) break;
    pool_settles(pool, pages);
  }
  ck_assert_msg(WIFEXITED(status), "status %#x", status);
  ck_assert_int_eq(WEXITSTATUS(status), 0);
}

#define START_MEMORY {"MIMALLOC_RESERVE_OS_MEMORY", NULL}, {"64M", NULL}, "67108864"
#define START_LARGE \
  {"MIMALLOC_LARGE_OS_PAGES", "MIMALLOC_ARENA_RESERVE"}, {"1", "32M"}, "33554432"

START_TEST(start_with_memory) {
  static const struct start small = {START_MEMORY, "4096"};
  static const struct start large = {START_MEMORY, "2097152"};
  if (os_page_size() == 4096 && pool_is_empty(&large_pool)) {
    assert_starts(&large_pool, 0, &small);
  }
  if (pool_begin(&large_pool, 32)) assert_starts(&large_pool, 32, &large);
}
END_TEST

START_TEST(start_with_large_pages) {
  static const struct start large = {START_LARGE, "2097152"};
  if (!pool_begin(&large_pool, 16)) return;
  /* The arena is made by the first allocation. */
  assert_starts(&large_pool, 16, &large);
}
END_TEST

START_TEST(start_with_huge_pages) {
  static const struct start anywhere = {
      {"MIMALLOC_RESERVE_HUGE_OS_PAGES", NULL}, {"1", NULL}, "1073741824", "1073741824"};
  static const struct start somewhere = {
      {"MIMALLOC_RESERVE_HUGE_OS_PAGES", "MIMALLOC_RESERVE_HUGE_OS_PAGES_AT"},
      {"1", "0"},
      "1073741824",
      "1073741824"};
  if (!pool_begin(&huge_pool, 1)) return;
  assert_starts(&huge_pool, 1, &anywhere);
  assert_starts(&huge_pool, 1, &somewhere);
}
END_TEST

/* ---- the suite ---- */

static TCase *pages_begin(Suite *suite, const char *name) {
  TCase *test_case = case_begin(suite, name);
  tcase_add_checked_fixture(test_case, set_up, tear_down);
  return test_case;
}

static int run_suite(void) {
  Suite *suite = suite_create("huge pages");
  TCase *c = pages_begin(suite, "1 GiB");
  tcase_add_test(c, huge_pages_are_used);
  tcase_add_test(c, huge_pages_are_zero);
  tcase_add_test(c, huge_pages_on_a_node);
  tcase_add_test(c, huge_pages_on_a_node_that_is_not_there);
  tcase_add_test(c, huge_pages_over_nodes);
  tcase_add_test(c, huge_pages_are_not_there);
  tcase_add_test(c, huge_pages_run_out);
  tcase_add_test(c, huge_pages_in_no_time);
  c = pages_begin(suite, "2 MiB");
  tcase_add_test(c, large_pages_are_used);
  tcase_add_test(c, large_pages_are_too_few);
  tcase_add_test(c, large_pages_are_not_asked_for);
  tcase_add_test(c, large_pages_for_automatic_arenas);
  c = pages_begin(suite, "transparent");
  tcase_add_test(c, transparent_huge_pages);
  c = pages_begin(suite, "start");
  tcase_add_test(c, start_with_memory);
  tcase_add_test(c, start_with_large_pages);
  tcase_add_test(c, start_with_huge_pages);
  return suite_run(suite);
}

static pid_t suite_process;

static void pass_on(int number) { kill(suite_process, number); }

/* Wait for the suite's end, whatever that is, and put back what was set aside before. */
static int wait_and_restore(void) {
  static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  const struct sigaction action = {.sa_handler = pass_on};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    sigaction(numbers[i], &action, NULL);
  }
  int status = 0;
  while (waitpid(suite_process, &status, 0) < 0 && errno == EINTR) continue;
  pool_set(&huge_pool, huge_pool.before);
  pool_set(&large_pool, large_pool.before);
  return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

/* One program at a time sets pages aside: it must know what was set before. The lock ends
 * with the process. */
static void lock_pools(void) {
  const int folder = open("/sys/kernel/mm/hugepages", O_RDONLY | O_CLOEXEC);
  if (folder < 0) return;
  while (flock(folder, LOCK_EX) != 0 && errno == EINTR) continue;
}

int main(int argc, char **argv) {
  program = argv[0];
  if (argc == 4 && strcmp(argv[1], "started") == 0) return role_started(argv[2], argv[3]);
  lock_pools();
  huge_pool.before = file_number(pool_path(&huge_pool, "nr_hugepages"), "");
  large_pool.before = file_number(pool_path(&large_pool, "nr_hugepages"), "");
  suite_process = fork();
  if (suite_process < 0) return EXIT_FAILURE;
  return suite_process == 0 ? run_suite() : wait_and_restore();
}
