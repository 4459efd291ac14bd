/* test_base.c - bitmaps, the stack of free records, options, messages. */
#include "test.h"

#include "base/bitmap.h"
#include "base/bits.h"
#include "base/log.h"
#include "base/option.h"
#include "base/record_stack.h"

#define THREADS 4

/* ---- bits ---- */

START_TEST(bits_of_words) {
  for (unsigned i = 0; i < 64; i++) {
    const uint64_t bit = (uint64_t)1 << i;
    ck_assert_uint_eq(bits_lowest(bit), i);
    ck_assert_uint_eq(bits_highest(bit), i);
    ck_assert_uint_eq(bits_lowest(WORD_ONES << i), i);
    ck_assert_uint_eq(bits_highest(WORD_ONES >> i), 63 - i);
    ck_assert_uint_eq(bits_below(i), bit - 1);
  }
  ck_assert_uint_eq(bits_below(64), WORD_ONES);
  ck_assert_uint_eq(bits_below(1000), WORD_ONES);
}
END_TEST

START_TEST(arithmetic) {
  ck_assert(!is_power_of_two(0));
  ck_assert(is_power_of_two(1));
  ck_assert(is_power_of_two((size_t)1 << 63));
  ck_assert(!is_power_of_two(SIZE_MAX));
  ck_assert_uint_eq(align_up(0, 16), 0);
  ck_assert_uint_eq(align_up(1, 16), 16);
  ck_assert_uint_eq(align_up(16, 16), 16);
  ck_assert_uint_eq(align_down(31, 16), 16);
  ck_assert_uint_eq(divide_up(64, 64), 1);
  ck_assert_uint_eq(divide_up(65, 64), 2);
  size_t product = 0;
  ck_assert(multiply_checked(SIZE_MAX, 1, &product));
  ck_assert_uint_eq(product, SIZE_MAX);
  ck_assert(!multiply_checked(SIZE_MAX, 2, &product));
  ck_assert(!multiply_checked((size_t)1 << 32, (size_t)1 << 32, &product));
}
END_TEST

/* ---- bitmap ---- */

#define MAP_BITS ((size_t)1000) /* not a multiple of the word, on purpose */
#define MAP_WORDS (bitmap_words(MAP_BITS))

/* The map agrees with one bool per bit, and the bits beyond its end are clear. */
static void assert_map_is(const atomic_word *map, const bool *model) {
  for (size_t i = 0; i < MAP_WORDS * WORD_BITS; i++) {
    assert_quick(bitmap_get(map, i) == (i < MAP_BITS && model[i]));
  }
}

START_TEST(bitmap_runs_across_words) {
  atomic_word map[16] = {0};
  ck_assert_uint_eq(bitmap_set_run(map, 60, 200), 200);
  ck_assert(!bitmap_get(map, 59));
  ck_assert(bitmap_get(map, 60));
  ck_assert(bitmap_get(map, 259));
  ck_assert(!bitmap_get(map, 260));
  ck_assert(bitmap_is_set_run(map, 60, 200));
  ck_assert(!bitmap_is_set_run(map, 59, 200));
  ck_assert(!bitmap_is_set_run(map, 61, 200));
  ck_assert_uint_eq(bitmap_set_run(map, 50, 30), 10);
  ck_assert_uint_eq(bitmap_clear_run(map, 0, 64), 14);
  ck_assert_uint_eq(bitmap_find(map, 0, 1024, true), 64);
  ck_assert_uint_eq(bitmap_find(map, 64, 1024, false), 260);
  ck_assert_uint_eq(bitmap_find(map, 64, 100, false), 100);
  ck_assert_uint_eq(bitmap_set_run(map, 5, 0), 0);
  ck_assert_uint_eq(bitmap_clear_run(map, 64, 0), 0);
  ck_assert_uint_eq(bitmap_clear_run(map, 0, 1024), 196);
  for (size_t i = 0; i < 16; i++) ck_assert_uint_eq(map[i], 0);
}
END_TEST

START_TEST(bitmap_finds) {
  atomic_word map[4] = {0};
  ck_assert_uint_eq(bitmap_find(map, 0, 256, true), 256);
  ck_assert_uint_eq(bitmap_find(map, 0, 256, false), 0);
  ck_assert_uint_eq(bitmap_find(map, 7, 7, false), 7);
  bitmap_set_run(map, 130, 1);
  ck_assert_uint_eq(bitmap_find(map, 0, 256, true), 130);
  ck_assert_uint_eq(bitmap_find(map, 130, 256, true), 130);
  ck_assert_uint_eq(bitmap_find(map, 131, 256, true), 256);
  ck_assert_uint_eq(bitmap_find(map, 0, 130, true), 130);
  ck_assert_uint_eq(bitmap_find(map, 0, 100, true), 100);
  ck_assert_uint_eq(bitmap_find(map, 130, 256, false), 131);
  bitmap_set_run(map, 0, 256);
  ck_assert_uint_eq(bitmap_find(map, 3, 256, false), 256);
  ck_assert_uint_eq(bitmap_find(map, 3, 200, false), 200);
}
END_TEST

START_TEST(bitmap_claim_rolls_back) {
  /* One bit set anywhere in the run: the claim fails and leaves the map as it was. */
  for (size_t taken = 40; taken < 240; taken++) {
    atomic_word map[4] = {0};
    bitmap_set_run(map, taken, 1);
    ck_assert(!bitmap_claim_run(map, 40, 200));
    ck_assert_uint_eq(bitmap_clear_run(map, 0, 256), 1);
  }
  atomic_word map[4] = {0};
  bitmap_set_run(map, 39, 1);
  bitmap_set_run(map, 240, 1);
  ck_assert(bitmap_claim_run(map, 40, 200));
  ck_assert(bitmap_is_set_run(map, 39, 202));
  ck_assert(!bitmap_claim_run(map, 100, 1));
}
END_TEST

START_TEST(bitmap_against_model) {
  atomic_word map[16] = {0};
  bool model[MAP_BITS] = {false};
  struct dice dice = dice_new(1);
  for (int round = 0; round < 4000; round++) {
    const size_t start = dice_roll(&dice, MAP_BITS);
    const size_t room = MAP_BITS - start;
    const size_t count = dice_roll(&dice, room < 150 ? room + 1 : 150);
    size_t set = 0;
    for (size_t i = start; i < start + count; i++) set += model[i];
    size_t expected = start;
    switch (dice_roll(&dice, 5)) {
      case 0:
        ck_assert_uint_eq(bitmap_set_run(map, start, count), count - set);
        for (size_t i = start; i < start + count; i++) model[i] = true;
        break;
      case 1:
        ck_assert_uint_eq(bitmap_clear_run(map, start, count), set);
        for (size_t i = start; i < start + count; i++) model[i] = false;
        break;
      case 2:
        ck_assert_int_eq(bitmap_claim_run(map, start, count), set == 0);
        for (size_t i = start; set == 0 && i < start + count; i++) model[i] = true;
        break;
      case 3:
        ck_assert_int_eq(bitmap_is_set_run(map, start, count), set == count);
        while (expected < start + count && model[expected]) expected++;
        ck_assert_uint_eq(bitmap_find(map, start, start + count, false), expected);
        break;
      default:
        while (expected < MAP_BITS && model[expected] == model[start]) expected++;
        ck_assert_uint_eq(bitmap_find(map, start, MAP_BITS, !model[start]), expected);
        break;
    }
    if (round % 100 == 0) assert_map_is(map, model);
  }
  assert_map_is(map, model);
}
END_TEST

/* Threads claim runs and give them back; each bit says which thread has it. */
struct claimer {
  atomic_word *map;
  atomic_word *holders; /* one per bit: number of the thread, or 0 */
  size_t number;
  size_t claims, given_twice;
};

static void claimer_mark(struct claimer *self, size_t start, size_t count, size_t from,
                         size_t to) {
  for (size_t i = start; i < start + count; i++) {
    if (!atomic_compare_and_swap_full(&self->holders[i], from, to)) self->given_twice++;
  }
}

static void *claim_and_give_back(void *argument) {
  struct claimer *self = argument;
  struct dice dice = dice_new(self->number);
  struct {
    size_t start, count;
  } held[8] = {{0, 0}};
  for (int round = 0; round < TEST_ROUNDS(40000); round++) {
    const size_t slot = dice_roll(&dice, 8);
    if (held[slot].count != 0) {
      claimer_mark(self, held[slot].start, held[slot].count, self->number, 0);
      const size_t cleared =
          bitmap_clear_run(self->map, held[slot].start, held[slot].count);
      if (cleared != held[slot].count) self->given_twice++;
      held[slot].count = 0;
      continue;
    }
    const size_t count = 1 + dice_roll(&dice, 140);
    const size_t start = dice_roll(&dice, MAP_BITS - count + 1);
    if (!bitmap_claim_run(self->map, start, count)) continue;
    claimer_mark(self, start, count, 0, self->number);
    held[slot].start = start;
    held[slot].count = count;
    self->claims++;
  }
  for (size_t i = 0; i < 8; i++) {
    claimer_mark(self, held[i].start, held[i].count, self->number, 0);
    bitmap_clear_run(self->map, held[i].start, held[i].count);
  }
  return NULL;
}

START_TEST(bitmap_gives_no_bit_twice) {
  static atomic_word map[16], holders[MAP_BITS];
  struct claimer claimers[THREADS];
  for (size_t i = 0; i < THREADS; i++) {
    claimers[i] = (struct claimer){.map = map, .holders = holders, .number = i + 1};
  }
  threads_run(THREADS, claim_and_give_back, claimers, sizeof claimers[0]);
  size_t claims = 0;
  for (size_t i = 0; i < THREADS; i++) {
    claims += claimers[i].claims;
    ck_assert_uint_eq(claimers[i].given_twice, 0);
  }
  ck_assert_uint_gt(claims, 1000);
  for (size_t i = 0; i < MAP_WORDS; i++) ck_assert_uint_eq(map[i], 0);
}
END_TEST

/* ---- record stack ---- */

#define RECORDS 32

struct test_record {
  struct free_record link;
  atomic_word holder;
};

START_TEST(record_stack_is_a_stack) {
  struct record_stack stack = {0};
  struct test_record records[3];
  ck_assert_ptr_null(record_stack_pop(&stack));
  for (size_t i = 0; i < 3; i++) record_stack_push(&stack, &records[i]);
  ck_assert_ptr_eq(record_stack_pop(&stack), &records[2]);
  record_stack_push(&stack, &records[2]);
  for (size_t i = 3; i-- > 0;) ck_assert_ptr_eq(record_stack_pop(&stack), &records[i]);
  ck_assert_ptr_null(record_stack_pop(&stack));
}
END_TEST

START_TEST(record_stack_counts_past_its_counter) {
  /* The counter has 16 bits: going round must not reach the address. */
  struct record_stack stack = {0};
  struct test_record record;
  for (int i = 0; i < 70000; i++) {
    record_stack_push(&stack, &record);
    assert_quick(record_stack_pop(&stack) == &record);
    assert_quick(record_stack_pop(&stack) == NULL);
  }
}
END_TEST

struct taker {
  struct record_stack *stack;
  size_t number, taken, given_twice;
};

static void *take_and_put_back(void *argument) {
  struct taker *self = argument;
  struct dice dice = dice_new(self->number);
  struct test_record *held[RECORDS];
  size_t count = 0;
  for (int round = 0; round < TEST_ROUNDS(100000); round++) {
    if (count > 0 && dice_roll(&dice, 2) == 0) {
      struct test_record *record = held[--count];
      if (!atomic_compare_and_swap_full(&record->holder, self->number, 0)) {
        self->given_twice++;
      }
      record_stack_push(self->stack, record);
    } else if (count < RECORDS) {
      struct test_record *record = record_stack_pop(self->stack);
      if (record == NULL) continue;
      self->taken++;
      if (!atomic_compare_and_swap_full(&record->holder, 0, self->number)) {
        self->given_twice++;
      }
      held[count++] = record;
    }
  }
  while (count > 0) {
    atomic_store_release(&held[--count]->holder, 0);
    record_stack_push(self->stack, held[count]);
  }
  return NULL;
}

START_TEST(record_stack_shared) {
  static struct record_stack stack;
  static struct test_record records[RECORDS];
  for (size_t i = 0; i < RECORDS; i++) record_stack_push(&stack, &records[i]);
  struct taker takers[THREADS];
  for (size_t i = 0; i < THREADS; i++) {
    takers[i] = (struct taker){.stack = &stack, .number = i + 1};
  }
  threads_run(THREADS, take_and_put_back, takers, sizeof takers[0]);
  size_t taken = 0;
  for (size_t i = 0; i < THREADS; i++) {
    taken += takers[i].taken;
    ck_assert_uint_eq(takers[i].given_twice, 0);
  }
  ck_assert_uint_gt(taken, 1000);
  /* Each record is there, once. */
  for (size_t i = 0; i < RECORDS; i++) {
    struct test_record *record = record_stack_pop(&stack);
    ck_assert_ptr_nonnull(record);
    ck_assert_uint_eq(record->holder, 0);
    record->holder = 1;
  }
  ck_assert_ptr_null(record_stack_pop(&stack));
}
END_TEST

/* ---- this program again, with another environment ---- */

#define TEXT_BYTES 16384

static const char *program; /* argv[0] */

/* What the program printed, to standard output and standard error together. */
struct printed {
  char text[TEXT_BYTES];
  size_t length;
};

/* Leave no option set, whatever the environment of the tests is. */
static void environment_clear(void) {
  extern char **environ;
  static const char prefix[] = "MIMALLOC_";
  for (size_t i = 0; environ[i] != NULL;) {
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(environ[i], "="), environ[i]);
    if (strncmp(name, prefix, sizeof prefix - 1) == 0 && unsetenv(name) == 0) {
      i = 0; /* the list has moved */
    } else {
      i++;
    }
  }
}

/* Run the program as `program role argument`, with settings, "NAME=text" each and NULL
 * after the last, in its environment. It must exit with 0. */
static void run_again(const char *role, int argument, const char *const *settings,
                      struct printed *printed) {
  int ends[2];
  ck_assert_int_eq(pipe(ends), 0);
  fflush(NULL);
  const pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child == 0) {
    environment_clear();
    for (; *settings != NULL; settings++) {
      char name[128];
      snprintf(name, sizeof name, "MIMALLOC_%.*s", (int)strcspn(*settings, "="),
               *settings);
      setenv(name, *settings + strcspn(*settings, "=") + 1, 1);
    }
    char number[16];
    snprintf(number, sizeof number, "%d", argument);
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    const char *path = access("/proc/self/exe", X_OK) == 0 ? "/proc/self/exe" : program;
    execl(path, program, role, number, (char *)NULL);
    _exit(127);
  }
  close(ends[1]);
  printed->length = 0;
  for (;;) {
    const size_t room = sizeof printed->text - 1 - printed->length;
    const ssize_t got = read(ends[0], printed->text + printed->length, room);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    printed->length += (size_t)got;
  }
  close(ends[0]);
  printed->text[printed->length] = 0;
  int status = 0;
  while (waitpid(child, &status, 0) != child) ck_assert_int_eq(errno, EINTR);
  ck_assert_msg(status == 0, "%s %d: status %#x, printed %s", role, argument, status,
                printed->text);
}

/* The role "options": print the value and the size of each option. */
static int role_options(void) {
  for (int i = 0; i < _mi_option_last; i++) {
    printf("%d %ld %zu\n", i, mi_option_get((mi_option_t)i),
           mi_option_get_size((mi_option_t)i));
  }
  return EXIT_SUCCESS;
}

static void count_error(int code, void *argument) {
  if (code == EINVAL) ++*(int *)argument;
}

/* The role "errors": make count errors; each must be reported. */
static int role_errors(int count) {
  int reported = 0;
  char no_block[64];
  mi_register_error(count_error, &reported);
  for (int i = 0; i < count; i++) mi_free(no_block + 16);
  return reported == count ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The role "quiet": make an error of each kind that a program can see, with nothing
 * registered. */
static int role_quiet(void) {
  char no_block[64];
  mi_free(no_block + 16);
  void *p = mi_malloc(PTRDIFF_MAX);
  const volatile size_t odd = 3; /* the compiler would see it */
  void *q = mi_malloc_aligned(8, odd);
  mi_heap_t *heap = mi_heap_new_ex(-1, true, 0);
  mi_option_set((mi_option_t)-1, 1);
  return p == NULL && q == NULL && heap == NULL ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int role_run(const char *role, int argument) {
  if (strcmp(role, "options") == 0) return role_options();
  if (strcmp(role, "errors") == 0) return role_errors(argument);
  if (strcmp(role, "quiet") == 0) return role_quiet();
  return EXIT_FAILURE;
}

/* Value and size of an option in what the role "options" printed; stray text before the
 * list fails the test. */
static void printed_option(const struct printed *printed, mi_option_t option, long *value,
                           size_t *size) {
  const char *line = printed->text;
  for (int i = 0;; i++) {
    int number = -1;
    ck_assert_int_eq(sscanf(line, "%d %ld %zu", &number, value, size), 3);
    ck_assert_int_eq(number, i);
    if (number == (int)option) return;
    line = strchr(line, '\n') + 1;
  }
}

/* ---- options ---- */

/* What mimalloc.h promises, in the units of mi_option_get. */
static const struct {
  mi_option_t option;
  long value;
} option_defaults[] = {
    {mi_option_show_errors, 0},
    {mi_option_show_stats, 0},
    {mi_option_verbose, 0},
    {mi_option_large_os_pages, 0},
    {mi_option_reserve_huge_os_pages, 0},
    {mi_option_reserve_huge_os_pages_at, -1},
    {mi_option_reserve_os_memory, 0},
    {mi_option_abandoned_page_purge, 0},
    {mi_option_purge_delay, 10},
    {mi_option_use_numa_nodes, 0},
    {mi_option_disallow_os_alloc, 0},
    {mi_option_max_errors, 32},
    {mi_option_max_warnings, 32},
    {mi_option_purge_decommits, 1},
    {mi_option_purge_extend_delay, 1},
    {mi_option_destroy_on_exit, 0},
    {mi_option_arena_purge_mult, 10},
    {mi_option_arena_reserve, 1024 * 1024},
    {mi_option_arena_eager_commit, 2},
    {mi_option_disallow_arena_alloc, 0},
    {mi_option_abandoned_reclaim_on_free, 0},
    {mi_option_visit_abandoned, 0},
    {mi_option_guarded_min, 0},
    {mi_option_guarded_max, 1024 * 1024 * 1024},
    {mi_option_guarded_precise, 0},
    {mi_option_guarded_sample_rate, 0},
    {mi_option_guarded_sample_seed, 0},
    {mi_option_retry_on_oom, 400},
    {mi_option_corruption_is_fatal, 0},
};

START_TEST(option_defaults_hold) {
  static struct printed printed;
  static const char *const none[] = {NULL};
  run_again("options", 0, none, &printed);
  for (size_t i = 0; i < sizeof option_defaults / sizeof option_defaults[0]; i++) {
    long value = -2;
    size_t size = 0;
    printed_option(&printed, option_defaults[i].option, &value, &size);
    ck_assert_msg(value == option_defaults[i].value, "option %d is %ld, not %ld",
                  (int)option_defaults[i].option, value, option_defaults[i].value);
  }
}
END_TEST

static const struct {
  const char *setting;
  mi_option_t option;
  long value;
  size_t size; /* mi_option_get_size */
} environment_values[] = {
    {"PURGE_DELAY=0", mi_option_purge_delay, 0, 0},
    {"PURGE_DELAY=25", mi_option_purge_delay, 25, 25},
    {"PURGE_DELAY=-1", mi_option_purge_delay, -1, 0},
    {"SHOW_ERRORS=1", mi_option_show_errors, 1, 1},
    {"SHOW_ERRORS=yes", mi_option_show_errors, 1, 1},
    {"SHOW_ERRORS=TRUE", mi_option_show_errors, 1, 1},
    {"SHOW_ERRORS=On", mi_option_show_errors, 1, 1},
    {"EAGER_COMMIT=0", mi_option_eager_commit, 0, 0},
    {"EAGER_COMMIT=no", mi_option_eager_commit, 0, 0},
    {"EAGER_COMMIT=False", mi_option_eager_commit, 0, 0},
    {"EAGER_COMMIT=OFF", mi_option_eager_commit, 0, 0},
    {"ARENA_RESERVE=4096", mi_option_arena_reserve, 4096, 4 * MiB},
    {"ARENA_RESERVE=512K", mi_option_arena_reserve, 512, 512 * KiB},
    {"ARENA_RESERVE=64M", mi_option_arena_reserve, 64 * 1024, 64 * MiB},
    {"ARENA_RESERVE=64m", mi_option_arena_reserve, 64 * 1024, 64 * MiB},
    {"ARENA_RESERVE=2G", mi_option_arena_reserve, 2 * 1024 * 1024, 2 * GiB},
    {"RESERVE_OS_MEMORY=16M", mi_option_reserve_os_memory, 16 * 1024, 16 * MiB},
    {"GUARDED_MIN=100", mi_option_guarded_min, 100, 100},
    {"GUARDED_MIN=3K", mi_option_guarded_min, 3072, 3 * KiB},
    {"GUARDED_MAX=5M", mi_option_guarded_max, 5 * 1024 * 1024, 5 * MiB},
    {"GUARDED_MAX=1g", mi_option_guarded_max, 1024 * 1024 * 1024, GiB},
    {"DECOMMIT_DELAY=7", mi_option_purge_delay, 7, 7},
    {"ALLOW_DECOMMIT=0", mi_option_purge_decommits, 0, 0},
    {"LIMIT_OS_ALLOC=1", mi_option_disallow_os_alloc, 1, 1},
    {"DECOMMIT_EXTEND_DELAY=9", mi_option_purge_extend_delay, 9, 9},
    {"ABANDONED_PAGE_DECOMMIT=1", mi_option_abandoned_page_purge, 1, 1},
    {"CORRUPTION_IS_FATAL=1", mi_option_corruption_is_fatal, 1, 1},
};
#define ENVIRONMENT_VALUES (sizeof environment_values / sizeof environment_values[0])

START_TEST(option_from_environment) {
  static struct printed printed;
  const char *const settings[] = {environment_values[_i].setting, NULL};
  run_again("options", 0, settings, &printed);
  long value = -2;
  size_t size = 0;
  printed_option(&printed, environment_values[_i].option, &value, &size);
  ck_assert_msg(value == environment_values[_i].value, "%s gives %ld", settings[0],
                value);
  ck_assert_msg(size == environment_values[_i].size, "%s gives %zu bytes", settings[0],
                size);
}
END_TEST

START_TEST(option_newer_name_wins) {
  static struct printed printed;
  static const char *const settings[] = {"PURGE_DELAY=3", "DECOMMIT_DELAY=7", NULL};
  run_again("options", 0, settings, &printed);
  long value = -2;
  size_t size = 0;
  printed_option(&printed, mi_option_purge_delay, &value, &size);
  ck_assert_int_eq(value, 3);
}
END_TEST

/* Texts that are no value: the default stays, and a line says so to who asked for it. */
static const char *const invalid_settings[] = {
    "PURGE_DELAY=soon",    "PURGE_DELAY=12x",  "PURGE_DELAY=5K",
    "PURGE_DELAY= ",       "PURGE_DELAY=1.5",  "PURGE_DELAY=99999999999999999999",
    "PURGE_DELAY=0x10 20", "PURGE_DELAY=--10",
};
#define INVALID_SETTINGS (sizeof invalid_settings / sizeof invalid_settings[0])

START_TEST(option_invalid_text) {
  static struct printed printed;
  const char *const settings[] = {invalid_settings[_i], "SHOW_ERRORS=1", NULL};
  run_again("errors", 0, settings, &printed);
  ck_assert_msg(strstr(printed.text, "MIMALLOC_PURGE_DELAY") != NULL, "printed '%s'",
                printed.text);
  ck_assert_ptr_eq(strchr(printed.text, '\n'), printed.text + printed.length - 1);
  const char *const quietly[] = {invalid_settings[_i], NULL};
  run_again("options", 0, quietly, &printed);
  long value = -2;
  size_t size = 0;
  printed_option(&printed, mi_option_purge_delay, &value, &size);
  ck_assert_int_eq(value, 10);
}
END_TEST

START_TEST(option_size_that_overflows) {
  static struct printed printed;
  static const char *const settings[] = {"GUARDED_MAX=9007199254740992G", NULL};
  run_again("options", 0, settings, &printed);
  long value = -2;
  size_t size = 0;
  printed_option(&printed, mi_option_guarded_max, &value, &size);
  ck_assert_int_eq(value, 1024 * 1024 * 1024);
}
END_TEST

START_TEST(option_set_and_get) {
  const long before = mi_option_get(mi_option_purge_delay);
  mi_option_set(mi_option_purge_delay, 1234);
  ck_assert_int_eq(mi_option_get(mi_option_purge_delay), 1234);
  ck_assert(mi_option_is_enabled(mi_option_purge_delay));
  ck_assert_int_eq(mi_option_get_clamp(mi_option_purge_delay, 0, 1000), 1000);
  ck_assert_int_eq(mi_option_get_clamp(mi_option_purge_delay, 2000, 3000), 2000);
  ck_assert_int_eq(mi_option_get_clamp(mi_option_purge_delay, 0, 2000), 1234);
  mi_option_disable(mi_option_purge_delay);
  ck_assert_int_eq(mi_option_get(mi_option_purge_delay), 0);
  ck_assert(!mi_option_is_enabled(mi_option_purge_delay));
  mi_option_enable(mi_option_purge_delay);
  ck_assert_int_eq(mi_option_get(mi_option_purge_delay), 1);
  mi_option_set_enabled(mi_option_purge_delay, false);
  ck_assert_int_eq(mi_option_get(mi_option_purge_delay), 0);
  mi_option_set(mi_option_purge_delay, -5);
  ck_assert_uint_eq(mi_option_get_size(mi_option_purge_delay), 0);
  /* An older name is the same option. */
  mi_option_set(mi_option_decommit_delay, 77);
  ck_assert_int_eq(mi_option_get(mi_option_purge_delay), 77);
  mi_option_set(mi_option_purge_delay, before);
  assert_no_errors();
}
END_TEST

START_TEST(option_set_default_once) {
  const long before = mi_option_get(mi_option_max_warnings);
  mi_option_set(mi_option_max_warnings, 5);
  mi_option_set_default(mi_option_max_warnings, 6);
  ck_assert_int_eq(mi_option_get(mi_option_max_warnings), 5);
  mi_option_set_enabled_default(mi_option_max_warnings, true);
  ck_assert_int_eq(mi_option_get(mi_option_max_warnings), 5);
  mi_option_set(mi_option_max_warnings, before);
}
END_TEST

/* The role of a child: an option that was never set takes its first default. */
static void set_default_of_fresh_option(void *argument) {
  (void)argument;
  mi_option_set_default(mi_option_segment_decommit_delay, 6);
  if (mi_option_get(mi_option_segment_decommit_delay) != 6) _exit(1);
  mi_option_set_default(mi_option_segment_decommit_delay, 7);
  if (mi_option_get(mi_option_segment_decommit_delay) != 6) _exit(2);
}

START_TEST(option_set_default_fresh) {
  ck_assert_int_eq(child_run(set_default_of_fresh_option, NULL), 0);
}
END_TEST

START_TEST(option_unknown) {
  static const int unknown[] = {-1, _mi_option_last, _mi_option_last + 1, INT32_MAX};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    const mi_option_t option = (mi_option_t)unknown[i];
    ck_assert(!mi_option_is_enabled(option));
    assert_no_errors();
    ck_assert_int_eq(mi_option_get(option), 0);
    assert_errors(EINVAL, 1);
    ck_assert_uint_eq(mi_option_get_size(option), 0);
    assert_errors(EINVAL, 1);
    mi_option_set(option, 1);
    assert_errors(EINVAL, 1);
    mi_option_set_default(option, 1);
    assert_errors(EINVAL, 1);
    mi_option_enable(option);
    assert_errors(EINVAL, 1);
  }
}
END_TEST

/* ---- messages ---- */

static void collect_text(const char *text, void *argument) {
  struct printed *printed = argument;
  const size_t length = strlen(text);
  ck_assert_uint_lt(printed->length + length, sizeof printed->text);
  memcpy(printed->text + printed->length, text, length + 1);
  printed->length += length;
}

START_TEST(options_are_printed) {
  static struct printed printed;
  printed.length = 0;
  mi_register_output(collect_text, &printed);
  mi_options_print();
  static const char *const live[] = {"purge_delay", "arena_reserve", "show_errors",
                                     "guarded_sample_rate", "corruption_is_fatal"};
  static const char *const ignored[] = {"segment_decommit_delay", "os_tag", "page_reset",
                                        "max_segment_reclaim", "eager_commit_delay"};
  for (size_t i = 0; i < sizeof live / sizeof live[0]; i++) {
    const char *at = strstr(printed.text, live[i]);
    ck_assert_msg(at != NULL, "%s is not printed", live[i]);
    const char *word = strstr(at, "ignored");
    ck_assert(word == NULL || word > strchr(at, '\n'));
  }
  for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
    const char *at = strstr(printed.text, ignored[i]);
    ck_assert_msg(at != NULL, "%s is not printed", ignored[i]);
    const char *word = strstr(at, "ignored");
    ck_assert(word != NULL && word < strchr(at, '\n'));
  }
}
END_TEST

START_TEST(log_reaches_who_registered) {
  static struct printed printed;
  printed.length = 0;
  int count = 0;
  const long before = mi_option_get(mi_option_max_errors);
  mi_option_set(mi_option_max_errors, -1);
  mi_register_output(collect_text, &printed);
  mi_register_error(count_error, &count);
  errno = 0;
  log_error(EINVAL, "some_function", "%d apples", 12);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(count, 1);
  ck_assert_ptr_nonnull(strstr(printed.text, "some_function"));
  ck_assert_ptr_nonnull(strstr(printed.text, "12 apples\n"));
  /* The error function gets what is not printed, too. */
  mi_option_set(mi_option_max_errors, 0);
  printed.length = 0;
  log_error(EINVAL, "some_function", "not printed");
  ck_assert_uint_eq(printed.length, 0);
  ck_assert_int_eq(count, 2);
  /* Not registered any more. */
  mi_register_error(NULL, NULL);
  log_error(EINVAL, "some_function", "not counted");
  ck_assert_int_eq(count, 2);
  mi_option_set(mi_option_max_errors, before);
}
END_TEST

START_TEST(log_cuts_long_lines) {
  static struct printed printed;
  printed.length = 0;
  char text[3000];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = 0;
  const long before = mi_option_get(mi_option_max_errors);
  mi_option_set(mi_option_max_errors, -1);
  mi_register_output(collect_text, &printed);
  for (size_t cut = 0; cut < sizeof text; cut += 100) {
    printed.length = 0;
    log_error(EINVAL, "some_function", "%s", text + cut);
    ck_assert_uint_lt(printed.length, 512);
    ck_assert_ptr_eq(strchr(printed.text, '\n'), printed.text + printed.length - 1);
    printed.length = 0;
    log_print(NULL, NULL, "%s", text + cut);
    ck_assert_uint_lt(printed.length, 512);
    ck_assert_uint_gt(printed.length, 10);
  }
  mi_option_set(mi_option_max_errors, before);
}
END_TEST

/* Warnings are for who asked for them, and no errors. */
START_TEST(log_warnings) {
  static struct printed printed;
  printed.length = 0;
  const long before = mi_option_get(mi_option_verbose);
  const long most = mi_option_get(mi_option_max_warnings);
  mi_option_set(mi_option_max_warnings, -1);
  mi_register_output(collect_text, &printed);
  mi_option_set(mi_option_verbose, 0);
  log_warning("some_function", "unasked");
  ck_assert_uint_eq(printed.length, 0);
  mi_option_set(mi_option_verbose, 1);
  log_warning("some_function", "asked for");
  ck_assert_ptr_nonnull(strstr(printed.text, "asked for\n"));
  assert_no_errors();
  mi_option_set(mi_option_verbose, before);
  mi_option_set(mi_option_max_warnings, most);
}
END_TEST

START_TEST(nothing_is_printed_unasked) {
  static struct printed printed;
  static const char *const none[] = {NULL};
  run_again("quiet", 0, none, &printed);
  ck_assert_msg(printed.length == 0, "printed '%s'", printed.text);
  static const char *const verbose[] = {"VERBOSE=1", NULL};
  run_again("errors", 5, verbose, &printed);
  ck_assert_msg(strstr(printed.text, "mi_free") == NULL, "printed '%s'", printed.text);
}
END_TEST

static size_t count_lines(const struct printed *printed) {
  size_t lines = 0;
  for (size_t i = 0; i < printed->length; i++) lines += printed->text[i] == '\n';
  return lines;
}

static const struct {
  const char *most;
  int errors;
  size_t lines;
} error_limits[] = {
    {"MAX_ERRORS=32", 5, 5},   {"MAX_ERRORS=32", 100, 32}, {"MAX_ERRORS=3", 10, 3},
    {"MAX_ERRORS=-1", 50, 50}, {"MAX_ERRORS=0", 10, 0},
};
#define ERROR_LIMITS (sizeof error_limits / sizeof error_limits[0])

START_TEST(log_stops_at_max_errors) {
  static struct printed printed;
  const char *const settings[] = {"SHOW_ERRORS=1", error_limits[_i].most, NULL};
  run_again("errors", error_limits[_i].errors, settings, &printed);
  ck_assert_uint_eq(count_lines(&printed), error_limits[_i].lines);
}
END_TEST

int main(int argc, char **argv) {
  program = argv[0];
  if (argc == 3) return role_run(argv[1], atoi(argv[2]));
  Suite *suite = suite_create("base");
  TCase *c = case_begin(suite, "bits");
  tcase_add_test(c, bits_of_words);
  tcase_add_test(c, arithmetic);
  c = case_begin(suite, "bitmap");
  tcase_add_test(c, bitmap_runs_across_words);
  tcase_add_test(c, bitmap_finds);
  tcase_add_test(c, bitmap_claim_rolls_back);
  tcase_add_test(c, bitmap_against_model);
  tcase_add_test(c, bitmap_gives_no_bit_twice);
  c = case_begin(suite, "record stack");
  tcase_add_test(c, record_stack_is_a_stack);
  tcase_add_test(c, record_stack_counts_past_its_counter);
  tcase_add_test(c, record_stack_shared);
  c = case_begin(suite, "options");
  tcase_add_test(c, option_defaults_hold);
  tcase_add_loop_test(c, option_from_environment, 0, (int)ENVIRONMENT_VALUES);
  tcase_add_test(c, option_newer_name_wins);
  tcase_add_loop_test(c, option_invalid_text, 0, (int)INVALID_SETTINGS);
  tcase_add_test(c, option_size_that_overflows);
  tcase_add_test(c, option_set_and_get);
  tcase_add_test(c, option_set_default_once);
  tcase_add_test(c, option_set_default_fresh);
  tcase_add_test(c, option_unknown);
  c = case_begin(suite, "messages");
  tcase_add_test(c, options_are_printed);
  tcase_add_test(c, log_reaches_who_registered);
  tcase_add_test(c, log_cuts_long_lines);
  tcase_add_test(c, log_warnings);
  tcase_add_test(c, nothing_is_printed_unasked);
  tcase_add_loop_test(c, log_stops_at_max_errors, 0, (int)ERROR_LIMITS);
  return suite_run(suite);
}
