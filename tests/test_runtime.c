/* test_runtime.c - runtimes, their types, allocating and freeing objects, the mutators
 * that do it, and the budget. What is expected is written down by models: which blocks
 * are live, of which size, how often a limit was crossed, which objects of a type there
 * are. Collections are tested by test_gc.c.
 */
#include "test.h"

#include <mirt.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define KiB ((size_t)1024)
#define MiB (KiB * KiB)
#define SLICE (64 * KiB)

/* ---- helpers ---- */

/* For threads and children, where Check does not hear of a failure: end the process. */
static _Noreturn void require_failed(int line, const char *text) {
  dprintf(STDERR_FILENO, "test_runtime.c:%d: '%s' is false\n", line, text);
  abort();
}

#define require(x) \
  do { \
    if (!(x)) require_failed(__LINE__, #x); \
  } while (0)

static mirt_runtime_t *runtime_with(const mirt_runtime_options_t *options) {
  mirt_runtime_t *runtime = NULL;
  require(mirt_runtime_create(options, &runtime) == 0);
  require(runtime != NULL);
  return runtime;
}

/* Without a cage; small, so that many fit and none takes long. */
static mirt_runtime_t *runtime_plain(void) {
  return runtime_with(&(mirt_runtime_options_t){.size = 256 * MiB});
}

static mirt_type_t *type_with(mirt_runtime_t *runtime,
                              const mirt_type_options_t *options) {
  mirt_type_t *type = mirt_type_new(runtime, options);
  require(type != NULL);
  return type;
}

static mirt_type_t *type_of_size(mirt_runtime_t *runtime, size_t size) {
  return type_with(runtime, &(mirt_type_options_t){.name = "fixed", .size = size});
}

static mirt_type_t *type_variable(mirt_runtime_t *runtime) {
  return type_with(runtime,
                   &(mirt_type_options_t){.name = "varied", .is_variable = true});
}

static void bind_mutator(mirt_mutator_t *mutator) {
  require(mirt_mutator_bind(mutator) == 0);
}

static void unbind_mutator(mirt_mutator_t *mutator) {
  require(mirt_mutator_unbind(mutator) == 0);
}

static mirt_mutator_t *mutator_bound(mirt_runtime_t *runtime) {
  mirt_mutator_t *mutator = mirt_mutator_create_in(runtime);
  require(mutator != NULL);
  bind_mutator(mutator);
  return mutator;
}

/* The calling thread's bound mutator may be NULL. */
static void runtime_end(mirt_runtime_t *runtime, mirt_mutator_t *mutator) {
  if (mutator != NULL) unbind_mutator(mutator);
  require(mirt_runtime_destroy(runtime) == 0);
}

static mirt_runtime_stats_t stats_of(const mirt_runtime_t *runtime) {
  mirt_runtime_stats_t stats;
  require(mirt_runtime_stats(runtime, &stats));
  return stats;
}

static size_t live_bytes(const mirt_runtime_t *runtime) {
  return stats_of(runtime).live_bytes;
}

/* Is there a live object that begins at p, of this size and type? */
static bool finds(const mirt_runtime_t *runtime, const void *p, size_t size,
                  const mirt_type_t *type) {
  mirt_found_t found;
  return mirt_find(runtime, (uintptr_t)p, &found) && found.object == p &&
         found.size == size && found.type == type;
}

static bool finds_nothing(const mirt_runtime_t *runtime, const void *p) {
  return !mirt_find(runtime, (uintptr_t)p, NULL);
}

static void mark_nothing(mirt_marker_t *marker, void *argument) {
  (void)marker, (void)argument;
}

static void collect_all(mirt_runtime_t *runtime) {
  require(mirt_collect(runtime, mark_nothing, NULL, NULL, NULL) == 0);
}

static size_t round_up(size_t size, size_t unit) {
  return (size + unit - 1) / unit * unit;
}

/* Mappings of this process, or 0 where nobody says. */
static size_t count_mappings(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  if (maps == NULL) return 0;
  size_t count = 0;
  for (int c; (c = getc(maps)) != EOF;) count += c == '\n';
  fclose(maps);
  return count;
}

/* ---- create and destroy ---- */

static const struct {
  const char *name;
  bool has_cage;
  mirt_cage_options_t cage;
} layouts[] = {
    {"plain", false, {0}},
    {"cage", true, {0}},
    {"small cage", true, {.size = 64 * MiB}},
    {"shift 1", true, {.size = 64 * MiB, .shift = 1}},
    {"shift 3", true, {.size = 64 * MiB, .shift = 3}},
    {"shift 4", true, {.size = 64 * MiB, .shift = 4}},
    {"signed", true, {.size = 64 * MiB, .shift = 3, .signed_refs = true}},
};

static mirt_runtime_t *runtime_of_layout(int number) {
  return runtime_with(&(mirt_runtime_options_t){
      .cage = layouts[number].has_cage ? &layouts[number].cage : NULL,
      .size = 256 * MiB});
}

START_TEST(test_create) {
  mirt_runtime_t *runtime = runtime_of_layout(_i);
  const mirt_cage_t *cage = mirt_runtime_cage(runtime);
  ck_assert_int_eq(cage != NULL, layouts[_i].has_cage);
  const mi_arena_id_t arena = mirt_runtime_arena(runtime);
  ck_assert_int_gt(arena, 0);
  if (cage != NULL) ck_assert_int_eq(cage->arena, arena);
  size_t size = 0;
  const char *area = mi_arena_area(arena, &size);
  ck_assert_ptr_nonnull(area);
  ck_assert_uint_ge(size, cage == NULL ? 256 * MiB : 60 * MiB);

  mirt_mutator_t *mutator = mutator_bound(runtime);
  ck_assert_ptr_eq(mirt_mutator_runtime(mutator), runtime);
  mirt_type_t *type = type_of_size(runtime, 48);
  for (int i = 0; i < 5000; i++) {
    char *object = mirt_new_zeroed(mutator, type);
    assert_quick(object != NULL && object >= area && object + 48 <= area + size);
    assert_quick(bytes_are(object, 48, 0));
    memset(object, 0xa5, 48);
    assert_quick(finds(runtime, object, 48, type));
    if (cage != NULL) {
      assert_quick(mirt_ref_encodable(cage, object));
      assert_quick(mirt_decode(cage, mirt_encode(cage, object)) == object);
    }
  }
  const mirt_runtime_stats_t stats = stats_of(runtime);
  ck_assert_uint_eq(stats.live_bytes, 5000 * 48);
  ck_assert_uint_eq(stats.types, 1);
  ck_assert_uint_eq(stats.mutators, 1);
  ck_assert_uint_eq(stats.soft_limit, 0);
  ck_assert_uint_eq(stats.hard_limit, 0);
  runtime_end(runtime, mutator);
  ck_assert_ptr_null(mi_arena_area(arena, &size));
  assert_no_errors();
}
END_TEST

START_TEST(test_create_defaults) {
  mirt_runtime_t *runtime = runtime_with(NULL);
  ck_assert_ptr_null(mirt_runtime_cage(runtime));
  size_t size = 0;
  ck_assert_ptr_nonnull(mi_arena_area(mirt_runtime_arena(runtime), &size));
  ck_assert_uint_ge(size, 64 * MiB);
  ck_assert_uint_eq(stats_of(runtime).pages_bytes, 0);
  runtime_end(runtime, NULL);
  ck_assert_int_eq(mirt_runtime_destroy(NULL), 0);
  ck_assert_ptr_null(mirt_runtime_cage(NULL));
  ck_assert_ptr_null(mirt_mutator_runtime(NULL));
  mirt_mutator_t *of_none = mirt_mutator_create();
  ck_assert_ptr_null(mirt_mutator_runtime(of_none));
  ck_assert_int_eq(mirt_mutator_destroy(of_none), 0);
  assert_no_errors();
}
END_TEST

#define assert_create_fails(code, ...) \
  do { \
    runtime = (mirt_runtime_t *)&runtime; \
    const mirt_runtime_options_t wrong = {__VA_ARGS__}; \
    ck_assert_int_eq(mirt_runtime_create(&wrong, &runtime), code); \
    ck_assert_ptr_null(runtime); \
    ck_assert_uint_ge(errors_of(code), 1); \
    errors_clear(); \
  } while (0)

START_TEST(test_create_errors) {
  const mi_stats_t before = stats_now();
  mirt_runtime_t *runtime;
  ck_assert_int_eq(mirt_runtime_create(NULL, NULL), EINVAL);
  assert_errors(EINVAL, 1);
  assert_create_fails(EINVAL, .type_limit = MIRT_TYPES_MAX + 1);
  assert_create_fails(EINVAL, .soft_limit = 2, .hard_limit = 1);
  assert_create_fails(ENOMEM, .size = SIZE_MAX);
  assert_create_fails(ENOMEM, .size = (size_t)1 << 60);
  assert_create_fails(EINVAL, .cage = &(mirt_cage_options_t){.shift = 5});
  assert_create_fails(EINVAL, .cage = &(mirt_cage_options_t){.base = (void *)1});
  assert_create_fails(EINVAL, .cage = &(mirt_cage_options_t){.size = (size_t)1 << 40});
  mirt_cage_t *cage;
  ck_assert_int_eq(mirt_cage_create(&(mirt_cage_options_t){.size = 8 * MiB}, &cage), 0);
  if (cage->mode != MIRT_CAGE_ZERO_BASED) {
    const mirt_cage_options_t taken = {.base = cage->reservation, .size = 8 * MiB};
    assert_create_fails(EEXIST, .cage = &taken);
  }
  ck_assert_int_eq(mirt_cage_destroy(cage), 0);
  const mi_stats_t after = stats_now();
  ck_assert_int_eq(after.reserved.current, before.reserved.current);
  ck_assert_ptr_null(mirt_mutator_create_in(NULL));
  assert_errors(EINVAL, 1);
  ck_assert(!mirt_runtime_stats(NULL, &(mirt_runtime_stats_t){0}));
  assert_errors(EINVAL, 1);
}
END_TEST

static void *allocate_bound(void *argument) {
  bind_mutator(argument);
  return NULL; /* a thread that ends unbinds what is bound to it */
}

struct holder {
  pthread_barrier_t barrier;
  mirt_mutator_t *mutator;
};

static void *hold(void *argument) {
  struct holder *holder = argument;
  bind_mutator(holder->mutator);
  pthread_barrier_wait(&holder->barrier);
  pthread_barrier_wait(&holder->barrier);
  unbind_mutator(holder->mutator);
  return NULL;
}

START_TEST(test_destroy_is_busy) {
  mirt_runtime_t *runtime = runtime_of_layout(_i);
  mirt_type_t *type = type_of_size(runtime, 40);
  mirt_mutator_t *others[3];
  mirt_mutator_t *mutator = mutator_bound(runtime);
  for (int i = 0; i < 3; i++) others[i] = mirt_mutator_create_in(runtime);
  char *object = mirt_new(mutator, type);
  memset(object, 7, 40);

  ck_assert_int_eq(mirt_runtime_destroy(runtime), EBUSY); /* bound here */
  assert_errors(EBUSY, 1);
  ck_assert_ptr_eq(mirt_mutator_current(), mutator);
  ck_assert_ptr_nonnull(mirt_new(mutator, type));
  unbind_mutator(mutator);

  struct holder holder = {.mutator = mutator};
  pthread_t thread;
  ck_assert_int_eq(pthread_barrier_init(&holder.barrier, NULL, 2), 0);
  ck_assert_int_eq(pthread_create(&thread, NULL, hold, &holder), 0);
  pthread_barrier_wait(&holder.barrier);
  ck_assert_int_eq(mirt_runtime_destroy(runtime), EBUSY); /* bound elsewhere */
  assert_errors(EBUSY, 1);
  pthread_barrier_wait(&holder.barrier);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  pthread_barrier_destroy(&holder.barrier);
  thread_run(allocate_bound, mutator);

  mi_heap_t *heap = mi_heap_new_in_arena(mirt_runtime_arena(runtime));
  ck_assert_ptr_nonnull(heap);
  char *block = mi_heap_malloc(heap, 100);
  ck_assert_int_eq(mirt_runtime_destroy(runtime), EBUSY); /* a heap of the program */
  assert_errors(EBUSY, 1);
  memset(block, 1, 100);
  mi_heap_destroy(heap);

  /* Nothing has changed: all can still be used. */
  for (int i = 0; i < 3; i++) {
    bind_mutator(others[i]);
    ck_assert_ptr_nonnull(mirt_new(others[i], type));
    unbind_mutator(others[i]);
  }
  bind_mutator(mutator);
  ck_assert(bytes_are(object, 40, 7));
  ck_assert_uint_eq(live_bytes(runtime), 5 * 40);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* ---- many runtimes ---- */

#define MANY 40

START_TEST(test_runtimes_share_nothing) {
  static mirt_runtime_t *runtimes[MANY];
  static mirt_mutator_t *mutators[MANY];
  static mirt_type_t *types[MANY];
  static unsigned char *objects[MANY][50];
  for (int i = 0; i < MANY; i++) {
    runtimes[i] = runtime_of_layout(i % (int)COUNT_OF(layouts));
    types[i] = type_of_size(runtimes[i], 64);
    mutators[i] = mirt_mutator_create_in(runtimes[i]);
  }
  for (int k = 0; k < 50; k++) {
    for (int i = 0; i < MANY; i++) {
      bind_mutator(mutators[i]);
      objects[i][k] = mirt_new(mutators[i], types[i]);
      assert_quick(objects[i][k] != NULL);
      memset(objects[i][k], i, 64);
      unbind_mutator(mutators[i]);
    }
  }
  for (int i = 0; i < MANY; i++) {
    ck_assert_int_eq(types[i]->tag, types[0]->tag); /* a tag each, but its own pages */
    for (int other = 0; other < MANY; other++) {
      for (int k = 0; k < 50; k++) {
        assert_quick(i == other ? finds(runtimes[i], objects[i][k], 64, types[i])
                                : finds_nothing(runtimes[other], objects[i][k]));
      }
    }
  }
  /* Each third ends, of each next third all objects die. */
  for (int i = 0; i < MANY; i += 3)
    ck_assert_int_eq(mirt_runtime_destroy(runtimes[i]), 0);
  for (int i = 1; i < MANY; i += 3) collect_all(runtimes[i]);
  for (int i = 1; i < MANY; i += 3) ck_assert_uint_eq(live_bytes(runtimes[i]), 0);
  for (int i = 2; i < MANY; i += 3) {
    ck_assert_uint_eq(live_bytes(runtimes[i]), 50 * 64);
    for (int k = 0; k < 50; k++) {
      assert_quick(bytes_are(objects[i][k], 64, (unsigned char)i));
    }
  }
  for (int i = 0; i < MANY; i++) {
    if (i % 3 != 0) ck_assert_int_eq(mirt_runtime_destroy(runtimes[i]), 0);
  }
  assert_no_errors();
}
END_TEST

/* A runtime from its making to its end, with something of everything. */
static void live_and_die(struct dice *dice) {
  mirt_runtime_t *runtime = runtime_of_layout((int)dice_roll(dice, COUNT_OF(layouts)));
  static const uint64_t map[20] = {1, 2, 3};
  mirt_type_t *types[] = {
      type_of_size(runtime, 1 + dice_roll(dice, 500)),
      type_of_size(runtime, 200 * KiB),
      type_variable(runtime),
      /* a map too large for the type's record */
      type_with(runtime,
                &(mirt_type_options_t){
                    .size = 10000, .slot_size = 8, .map = map, .map_slots = 1250}),
  };
  mirt_mutator_t *mutators[3];
  void *object = NULL;
  for (int i = 0; i < 3; i++) {
    mutators[i] = mutator_bound(runtime);
    for (int k = 0; k < 20; k++) {
      mirt_type_t *type = types[dice_roll(dice, COUNT_OF(types))];
      object = type->block_size != 0 ? mirt_new(mutators[i], type)
                                     : mirt_new_sized(mutators[i], type, 50);
      require(object != NULL);
    }
    require(mirt_weak_new(runtime, object, NULL) != NULL);
    unbind_mutator(mutators[i]);
  }
  if (dice_roll(dice, 2) == 0) {
    const mirt_gc_options_t lazy = {.is_lazy = dice_roll(dice, 2) == 0};
    require(mirt_collect(runtime, mark_nothing, NULL, &lazy, NULL) == 0);
  }
  if (dice_roll(dice, 2) == 0) require(mirt_mutator_destroy(mutators[1]) == 0);
  require(mirt_runtime_destroy(runtime) == 0);
}

START_TEST(test_thousands_leave_nothing) {
  struct dice dice = dice_new(1);
  for (int i = 0; i < 50; i++) live_and_die(&dice);
  mi_collect(true);
  const size_t mappings = count_mappings();
  const mi_stats_t before = stats_now();
  for (int i = 0; i < TEST_ROUNDS(2000); i++) live_and_die(&dice);
  mi_collect(true);
  const mi_stats_t after = stats_now();
  ck_assert_int_eq(after.reserved.current, before.reserved.current);
  ck_assert_int_eq(after.committed.current, before.committed.current);
  ck_assert_int_eq(after.pages.current, before.pages.current);
  ck_assert_int_eq(after.heaps.current, before.heaps.current);
  ck_assert_int_eq(after.threads.current, before.threads.current);
  if (!TEST_HAS_SHADOW && mappings != 0) {
    ck_assert_uint_le(count_mappings(), mappings + 2);
  }
  assert_no_errors();
}
END_TEST

/* ---- types ---- */

#define assert_type_fails(code, ...) \
  do { \
    const mirt_type_options_t wrong = {__VA_ARGS__}; \
    ck_assert_ptr_null(mirt_type_new(runtime, &wrong)); \
    assert_errors(code, 1); \
  } while (0)

static void trace_nothing(mirt_marker_t *marker, void *object, size_t size, void *arg) {
  (void)marker, (void)object, (void)size, (void)arg;
}

START_TEST(test_type_errors) {
  mirt_runtime_t *runtime = runtime_plain();
  static const uint64_t map[2] = {3, 0};
  const mirt_type_options_t right = {.size = 16};
  ck_assert_ptr_null(mirt_type_new(NULL, &right));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_type_new(runtime, NULL));
  assert_errors(EINVAL, 1);
  assert_type_fails(EINVAL, .name = "no size");
  assert_type_fails(EINVAL, .size = SIZE_MAX);
  assert_type_fails(EINVAL, .size = SIZE_MAX, .is_variable = true);
  assert_type_fails(EINVAL, .size = 16, .alignment = 3);
  assert_type_fails(EINVAL, .size = 16, .alignment = 24);
  assert_type_fails(EINVAL, .size = 16, .alignment = 2 * SLICE);
  for (unsigned size = 1; size < 20; size++) {
    if (size == 8) continue; /* 4: there is no cage */
    assert_type_fails(EINVAL, .size = 64, .slot_size = size, .map = map, .map_slots = 2);
  }
  assert_type_fails(EINVAL, .size = 16, .map = map, .map_slots = 2); /* no slot_size */
  assert_type_fails(EINVAL, .size = 16, .is_array = true);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .map_slots = 2); /* no map */
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .map = map, .map_slots = 3);
  assert_type_fails(EINVAL, .size = 23, .slot_size = 8, .map = map, .map_slots = 3);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .map = map,
                    .map_slots = SIZE_MAX);
  assert_type_fails(EINVAL, .size = 16, .is_variable = true, .slot_size = 8, .map = map,
                    .map_slots = 3);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .is_array = true,
                    .array_offset = 24);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .is_array = true,
                    .array_offset = 4);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .is_array = true,
                    .array_offset = SIZE_MAX - 7);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .map = map, .map_slots = 1,
                    .trace = trace_nothing);
  assert_type_fails(EINVAL, .size = 16, .tag = -1);
  assert_type_fails(EINVAL, .size = 16, .tag = MIRT_TAG_MAX + 1);
  type_with(runtime, &(mirt_type_options_t){.size = 16, .tag = 300});
  assert_type_fails(EINVAL, .size = 16, .tag = 300);

  /* Those at the edge are right. */
  type_with(runtime, &(mirt_type_options_t){.size = 16, .alignment = SLICE});
  type_with(runtime,
            &(mirt_type_options_t){
                .size = 16, .slot_size = 8, .is_array = true, .array_offset = 16});
  type_with(runtime, &(mirt_type_options_t){
                         .size = 17, .slot_size = 8, .map = map, .map_slots = 2});
  type_with(runtime, &(mirt_type_options_t){.size = 1, .tag = MIRT_TAG_MAX});
  type_with(runtime, &(mirt_type_options_t){.is_variable = true});
  ck_assert_uint_eq(stats_of(runtime).types, 6); /* none of those that failed */
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

START_TEST(test_type_of_cage) {
  mirt_runtime_t *runtime = runtime_of_layout(2);
  static const uint64_t map[1] = {3};
  assert_type_fails(EINVAL, .size = 4, .slot_size = 4, .map = map, .map_slots = 2);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 4, .is_array = true,
                    .array_offset = 2);
  type_with(runtime, &(mirt_type_options_t){
                         .size = 8, .slot_size = 4, .map = map, .map_slots = 2});
  type_with(runtime,
            &(mirt_type_options_t){
                .size = 16, .slot_size = 4, .is_array = true, .array_offset = 4});
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

START_TEST(test_type_record) {
  mirt_runtime_t *runtime = runtime_plain();
  char name[100];
  memset(name, 'x', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  const mirt_type_t *type = type_with(
      runtime, &(mirt_type_options_t){.name = name, .size = 17, .alignment = 32});
  memset(name, 'y', 10); /* it was copied */
  ck_assert_uint_eq(strlen(type->name), 31);
  ck_assert_int_eq(type->name[0], 'x');
  ck_assert_uint_eq(type->size, 17);
  ck_assert_uint_eq(type->block_size, 32);
  ck_assert_ptr_eq(type->runtime, runtime);
  ck_assert_int_ge(type->tag, 1);
  const mirt_type_t *nameless = type_of_size(runtime, 8);
  ck_assert_int_ne(nameless->tag, type->tag);
  ck_assert_uint_ne(nameless->cell, type->cell);
  const mirt_type_t *varied = type_variable(runtime);
  ck_assert_uint_eq(varied->block_size, 0);
  const mirt_type_t *tagged =
      type_with(runtime, &(mirt_type_options_t){.size = 8, .tag = 4711});
  ck_assert_int_eq(tagged->tag, 4711);
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

START_TEST(test_type_limit) {
  mirt_runtime_t *runtime =
      runtime_with(&(mirt_runtime_options_t){.size = 64 * MiB, .type_limit = 3});
  for (int i = 0; i < 3; i++) type_of_size(runtime, 16);
  assert_type_fails(ENOSPC, .size = 16);
  mirt_runtime_t *other = runtime_plain();
  for (int i = 0; i < 1024; i++) type_of_size(other, 16); /* the default */
  ck_assert_ptr_null(mirt_type_new(other, &(mirt_type_options_t){.size = 16}));
  assert_errors(ENOSPC, 1);
  runtime_end(other, NULL);
  ck_assert_uint_eq(stats_of(runtime).types, 3);
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

/* All types that there may be, and an object of each: the tags and cells are
 * different. */
START_TEST(test_most_types) {
  const size_t count = TEST_ROUNDS(MIRT_TYPES_MAX);
  mirt_runtime_t *runtime = runtime_with(
      &(mirt_runtime_options_t){.size = 2048 * MiB, .type_limit = MIRT_TYPES_MAX});
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t **types = calloc(count, sizeof *types);
  size_t **objects = calloc(count, sizeof *objects);
  for (size_t i = 0; i < count; i++) {
    types[i] = type_of_size(runtime, 16);
    if (i % 4 != 0) continue;
    objects[i] = mirt_new(mutator, types[i]);
    require(objects[i] != NULL);
    *objects[i] = i;
  }
  for (size_t i = 0; i < count; i += 4) {
    require(*objects[i] == i);
    require(finds(runtime, objects[i], 16, types[i]));
    require(mirt_tag_of(objects[i]) == types[i]->tag);
  }
  ck_assert_uint_eq(live_bytes(runtime), (count + 3) / 4 * 16);
  free(types);
  free(objects);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* A dead object's memory is not another type's while the page lives. */
START_TEST(test_types_have_own_pages) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  mirt_type_t *types[8];
  for (size_t i = 0; i < 8; i++) types[i] = type_of_size(runtime, 32);
  for (int k = 0; k < 20000; k++) {
    char *object = mirt_new(mutator, types[k % 8]);
    assert_quick(mirt_tag_of(object) == types[k % 8]->tag);
    memset(object, k % 8, 32);
    if (k % 3 == 0) mirt_delete(object);
  }
  /* In one page there is one type. */
  size_t size = 0;
  char *area = mi_arena_area(mirt_runtime_arena(runtime), &size);
  for (char *p = area; p < area + 40 * SLICE; p += SLICE) {
    const mirt_type_t *type = NULL;
    for (char *q = p; q < p + SLICE; q += 16) {
      mirt_found_t found;
      if (!mirt_find(runtime, (uintptr_t)q, &found)) continue;
      assert_quick(type == NULL || type == found.type);
      type = found.type;
    }
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

START_TEST(test_sealed_types) {
  mirt_runtime_t *runtime = runtime_with(&(mirt_runtime_options_t){.size = 16 * MiB});
  mirt_mutator_t *mutator = mutator_bound(runtime);
  mirt_type_t *sealed = type_with(
      runtime, &(mirt_type_options_t){.name = "sealed", .size = 64, .is_sealed = true});
  ck_assert(mirt_tag_is_sealed(sealed->tag));
  mirt_type_t *second =
      type_with(runtime, &(mirt_type_options_t){.size = 64, .is_sealed = true});
  ck_assert_int_ne(sealed->tag, second->tag);
  mirt_type_t *open = type_of_size(runtime, 64);
  ck_assert(!mirt_tag_is_sealed(open->tag));

  /* The addresses of the sealed type stay its own when all of its objects are gone. */
  static char *objects[40000];
  for (size_t i = 0; i < COUNT_OF(objects); i++) objects[i] = mirt_new(mutator, sealed);
  ck_assert_ptr_nonnull(objects[COUNT_OF(objects) - 1]);
  const size_t pages = stats_of(runtime).pages_bytes;
  collect_all(runtime);
  ck_assert_uint_lt(stats_of(runtime).pages_bytes, pages);
  size_t others = 0;
  for (void *p; (p = mirt_new(mutator, open)) != NULL; others++) {
    assert_quick(mirt_tag_of(p) == open->tag);
  }
  ck_assert_uint_ge(errors_of(ENOMEM), 1); /* the arena is full, but for what is sealed */
  errors_clear();
  ck_assert_uint_le(others * 64, 16 * MiB - pages);
  for (size_t i = 0; i < COUNT_OF(objects); i++) {
    mirt_found_t found;
    if (mirt_find(runtime, (uintptr_t)objects[i], &found)) {
      assert_quick(found.type == sealed);
    }
  }
  for (size_t i = 0; i < COUNT_OF(objects); i++) {
    assert_quick((objects[i] = mirt_new(mutator, sealed)) != NULL);
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

START_TEST(test_tag_is_in_use) {
  mi_heap_t *heap = mi_heap_new_ex(777, true, 0);
  ck_assert_ptr_nonnull(mi_heap_malloc(heap, 10));
  mirt_runtime_t *runtime = runtime_plain();
  assert_type_fails(EBUSY, .size = 16, .tag = 777, .is_sealed = true);
  type_with(runtime, &(mirt_type_options_t){.size = 16, .tag = 777});
  runtime_end(runtime, NULL);
  mi_heap_destroy(heap);
  assert_no_errors();
}
END_TEST

/* ---- sizes and alignments ---- */

static const size_t sizes[] = {
    1,    8,    15,    16,    17,    24,    32,     40,     48,     56,     72,
    88,   100,  104,   120,   136,   200,   248,    264,    1000,   1032,   2056,
    4104, 8200, 10000, 16392, 33000, 65544, 100000, 131072, 131080, 200000, 1000000};

/* Objects of a size lie exactly as far from each other as the size says, and waste
 * nothing else than the tail of a page. */
static void check_exact(mirt_runtime_t *runtime, mirt_mutator_t *mutator, size_t size,
                        size_t alignment, size_t unit) {
  const mirt_type_t *type =
      type_with(runtime, &(mirt_type_options_t){.size = size, .alignment = alignment});
  if (unit < 8) unit = 8;
  if (unit < alignment) unit = alignment;
  const size_t block = round_up(size < 16 ? 16 : size, unit);
  require(type->block_size == block);
  const mirt_runtime_stats_t before = stats_of(runtime);
  const size_t count = block > 128 * KiB ? 8
                       : block > 20000   ? 80
                       : block > 1000    ? 200
                                         : 9000;
  char **objects = malloc(count * sizeof *objects);
  for (size_t i = 0; i < count; i++) {
    objects[i] = mirt_new(mutator, type);
    require(objects[i] != NULL && (uintptr_t)objects[i] % unit == 0);
    memset(objects[i], (int)(i % 251), size);
  }
  size_t adjacent = 0, largest = block;
  for (size_t i = 0; i < count; i++) {
    require(bytes_are(objects[i], size, i % 251));
    mirt_found_t found;
    require(mirt_find(runtime, (uintptr_t)objects[i] + size - 1, &found));
    require(found.object == objects[i] && found.type == type);
    if (found.size > largest) largest = found.size;
    if (i > 0 && objects[i] == objects[i - 1] + block) adjacent++;
  }
  const mirt_runtime_stats_t now = stats_of(runtime);
  if (block <= 128 * KiB) {
    require(largest == block);
    require(now.live_bytes - before.live_bytes == count * block);
    const size_t page = now.pages_bytes - before.pages_bytes;
    require(page >= count * block);
    /* Of all but the last page, at most 3% are wasted. */
    if (alignment <= 64) require(page <= count * block * 104 / 100 + 33 * SLICE);
    if (block <= 4096) require(adjacent >= count - 1 - page / SLICE);
  } else {
    require(largest <= round_up(block, SLICE));
    require(now.live_bytes - before.live_bytes == count * largest);
  }
  for (size_t i = 0; i < count; i++) mirt_delete(objects[i]);
  require(live_bytes(runtime) == before.live_bytes);
  free(objects);
}

START_TEST(test_exact_sizes) {
  mirt_runtime_t *runtime = runtime_of_layout(_i);
  mirt_mutator_t *mutator = mutator_bound(runtime);
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    check_exact(runtime, mutator, sizes[i], 0, (size_t)1 << layouts[_i].cage.shift);
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

START_TEST(test_alignment) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  for (size_t alignment = 1; alignment <= SLICE; alignment *= 2) {
    check_exact(runtime, mutator, 24, alignment, 8);
    check_exact(runtime, mutator, 1 + alignment, alignment, 8);
    check_exact(runtime, mutator, 140000, alignment, 8);
    const mirt_type_t *type = type_with(
        runtime, &(mirt_type_options_t){.is_variable = true, .alignment = alignment});
    for (size_t size = 1; size < 400000; size = size * 3 + 1) {
      char *object = mirt_new_sized(mutator, type, size);
      ck_assert_ptr_nonnull(object);
      ck_assert_uint_eq((uintptr_t)object % (alignment < 8 ? 8 : alignment), 0);
      memset(object, 1, size);
      mirt_found_t found;
      ck_assert(mirt_find(runtime, (uintptr_t)object + size - 1, &found));
      ck_assert_ptr_eq(found.object, object);
      ck_assert_uint_ge(found.size, size);
    }
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* Two types whose blocks are in one size class for mi_malloc are exact, and what one
 * mutator leaves behind of one is not adopted for the other size. */
START_TEST(test_pages_are_adopted_by_size) {
  mirt_runtime_t *runtime = runtime_plain();
  const mirt_type_t *type = type_of_size(runtime, 1032);
  ck_assert_uint_eq(type->block_size, 1032);
  static char *objects[2000];
  for (int round = 0; round < 4; round++) {
    mirt_mutator_t *mutator = mutator_bound(runtime);
    for (size_t i = (size_t)round; i < COUNT_OF(objects); i += 4) {
      objects[i] = mirt_new(mutator, type);
      assert_quick(objects[i] != NULL);
      memset(objects[i], (int)i % 255, 1032);
    }
    unbind_mutator(mutator);
    ck_assert_int_eq(mirt_mutator_destroy(mutator), 0);
  }
  for (size_t i = 0; i < COUNT_OF(objects); i++) {
    assert_quick(bytes_are(objects[i], 1032, (unsigned char)(i % 255)));
    assert_quick(finds(runtime, objects[i], 1032, type));
  }
  const size_t most = COUNT_OF(objects) * 1032;
  ck_assert_uint_eq(live_bytes(runtime), most);
  /* Each mutator goes on in the page that the last one left: that is what makes it
   * fit. */
  ck_assert_uint_le(stats_of(runtime).pages_bytes, most * 104 / 100 + 2 * SLICE);
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

/* ---- allocating ---- */

/* Objects of a type, filled with something and freed: what comes next is dirty. */
static void make_dirty(mirt_mutator_t *mutator, const mirt_type_t *type, size_t size) {
  void *objects[100];
  for (size_t i = 0; i < COUNT_OF(objects); i++) {
    objects[i] = mirt_new_sized(mutator, type, size);
    require(objects[i] != NULL);
    mirt_found_t found;
    require(mirt_find(type->runtime, (uintptr_t)objects[i], &found));
    memset(objects[i], 0xff, found.size);
  }
  for (size_t i = 0; i < COUNT_OF(objects); i++) mirt_delete(objects[i]);
}

START_TEST(test_zeroed) {
  mirt_runtime_t *runtime = runtime_of_layout(_i);
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *varied = type_variable(runtime);
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    const mirt_type_t *type = type_of_size(runtime, sizes[i]);
    make_dirty(mutator, type, sizes[i]);
    for (int k = 0; k < 120; k++) {
      assert_quick(bytes_are(mirt_new_zeroed(mutator, type), sizes[i], 0));
      assert_quick(
          bytes_are(mirt_new_sized_zeroed(mutator, type, sizes[i] / 2), sizes[i] / 2, 0));
      if (sizes[i] > 20000) break;
    }
    make_dirty(mutator, varied, sizes[i]);
    for (int k = 0; k < 120; k++) {
      assert_quick(
          bytes_are(mirt_new_sized_zeroed(mutator, varied, sizes[i]), sizes[i], 0));
      if (sizes[i] > 20000) break;
    }
    collect_all(runtime);
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* What lies in a block behind an object with an array of slots is zero, so that a
 * collection finds no slot there. */
START_TEST(test_slack_is_zero) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *array = type_with(
      runtime,
      &(mirt_type_options_t){.is_variable = true, .slot_size = 8, .is_array = true});
  for (size_t size = 8; size < 300000; size = size * 5 / 4 / 8 * 8 + 8) {
    make_dirty(mutator, array, size);
    for (int zeroed = 0; zeroed < 2; zeroed++) {
      for (int k = 0; k < 60; k++) {
        char *object = zeroed ? mirt_new_sized_zeroed(mutator, array, size)
                              : mirt_new_sized(mutator, array, size);
        mirt_found_t found;
        assert_quick(mirt_find(runtime, (uintptr_t)object, &found));
        assert_quick(bytes_are(object + size, found.size - size, 0));
        if (zeroed) assert_quick(bytes_are(object, size, 0));
        memset(object, 0xff, found.size);
        if (size > 20000) mirt_delete(object);
        if (size > 20000) break;
      }
    }
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

START_TEST(test_sized) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *fixed = type_of_size(runtime, 100);
  const mirt_type_t *varied =
      type_with(runtime, &(mirt_type_options_t){.size = 32, .is_variable = true});
  for (size_t size = 0; size <= 100; size++) {
    ck_assert(finds(runtime, mirt_new_sized(mutator, fixed, size), 104, fixed));
  }
  ck_assert_uint_eq(live_bytes(runtime), 101 * 104);
  ck_assert_ptr_null(mirt_new_sized(mutator, fixed, 101));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_new_sized_zeroed(mutator, fixed, SIZE_MAX));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_new_sized(mutator, varied, 31));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_new_sized(mutator, varied, SIZE_MAX));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_new_sized_zeroed(mutator, varied, (size_t)PTRDIFF_MAX + 1));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_new(mutator, varied));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_new_zeroed(mutator, varied));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_new_sized(mutator, varied, 512 * MiB)); /* above the arena */
  ck_assert_uint_ge(errors_of(ENOMEM), 1);
  errors_clear();
  size_t expected = 101 * 104;
  for (size_t size = 32; size < 500000; size = size * 2 + 8) {
    void *object = mirt_new_sized(mutator, varied, size);
    ck_assert(finds(runtime, object, mi_good_size(size), varied));
    expected += mi_good_size(size);
  }
  ck_assert_uint_eq(live_bytes(runtime), expected);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

START_TEST(test_delete) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_size(runtime, 24);
  mirt_delete(NULL);
  char *objects[100];
  for (int i = 0; i < 100; i++) objects[i] = mirt_new(mutator, type);
  for (int i = 0; i < 100; i += 2) mirt_delete(objects[i]);
  for (int i = 0; i < 100; i++) {
    ck_assert_int_eq(finds(runtime, objects[i], 24, type), i % 2 == 1);
  }
  assert_no_errors();
  mirt_delete(objects[0]);
  assert_errors(EFAULT, 1);
  mirt_delete(objects[1] + 8);
  assert_errors(EINVAL, 1);
  ck_assert_uint_eq(live_bytes(runtime), 50 * 24);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* ---- the wrong mutator ---- */

struct attempt {
  mirt_mutator_t *mutator;
  const mirt_type_t *fixed, *varied;
  bool worked;
};

static void *attempt(void *argument) {
  struct attempt *a = argument;
  a->worked = mirt_new(a->mutator, a->fixed) != NULL ||
              mirt_new_sized(a->mutator, a->varied, 20) != NULL;
  return NULL;
}

START_TEST(test_wrong_mutator) {
  mirt_runtime_t *runtime = runtime_plain(), *other = runtime_plain();
  const mirt_type_t *fixed = type_of_size(runtime, 24), *varied = type_variable(runtime);
  mirt_mutator_t *mutator = mirt_mutator_create_in(runtime);
  mirt_mutator_t *stranger = mirt_mutator_create_in(other);
  struct attempt a = {mutator, fixed, varied, true};
  attempt(&a); /* bound nowhere */
  ck_assert(!a.worked);
  assert_errors(EPERM, 2);
  bind_mutator(mutator);
  a.worked = true;
  thread_run(attempt, &a); /* bound to another thread */
  ck_assert(!a.worked);
  assert_errors(EPERM, 2);
  bind_mutator(stranger); /* over it */
  attempt(&a);
  ck_assert(!a.worked);
  assert_errors(EPERM, 2);
  a.mutator = stranger; /* of another runtime */
  attempt(&a);
  ck_assert(!a.worked);
  assert_errors(EINVAL, 2);
  unbind_mutator(stranger);
  ck_assert_uint_eq(live_bytes(runtime), 0);
  ck_assert_uint_eq(live_bytes(other), 0);
  ck_assert_ptr_nonnull(mirt_new(mutator, fixed));
  runtime_end(other, NULL);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* mi_malloc takes memory from outside of the runtime, also while a mutator is bound. */
START_TEST(test_malloc_is_elsewhere) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  void *object = mirt_new(mutator, type_of_size(runtime, 24));
  void *block = mi_malloc(24);
  ck_assert(mi_arena_contains(mirt_runtime_arena(runtime), object));
  ck_assert(!mi_arena_contains(mirt_runtime_arena(runtime), block));
  ck_assert(finds_nothing(runtime, block));
  ck_assert_uint_eq(live_bytes(runtime), 24);
  mi_free(block);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* ---- mutators that move ---- */

#define GREEN_THREADS 12
#define GREEN_OBJECTS 300

/* A green thread: its mutator, and the objects that it has. */
struct green {
  mirt_mutator_t *mutator;
  struct dice dice;
  uintptr_t *objects[GREEN_OBJECTS];
  size_t sizes[GREEN_OBJECTS]; /* in words */
  pthread_mutex_t lock;        /* who holds it runs the green thread */
};

struct green_world {
  mirt_runtime_t *runtime;
  const mirt_type_t *fixed, *varied;
  struct green greens[GREEN_THREADS];
  atomic_word passed; /* an object on its way from one to another, or 0 */
};

static struct green_world green_world;

static uintptr_t *green_new(struct green *green, size_t i) {
  const bool is_fixed = dice_roll(&green->dice, 2) == 0;
  const size_t words =
      is_fixed ? 5
               : 2 + dice_roll(&green->dice, (size_t)2 << dice_roll(&green->dice, 12));
  uintptr_t *object = is_fixed
                          ? mirt_new(green->mutator, green_world.fixed)
                          : mirt_new_sized(green->mutator, green_world.varied, words * 8);
  require(object != NULL);
  for (size_t k = 0; k < words; k++) object[k] = (uintptr_t)object + k;
  green->sizes[i] = words;
  return object;
}

static void green_check(const uintptr_t *object, size_t words) {
  for (size_t k = 0; k < words; k++) require(object[k] == (uintptr_t)object + k);
}

static void green_step(struct green *green) {
  for (int step = 0; step < 200; step++) {
    const size_t i = dice_roll(&green->dice, GREEN_OBJECTS);
    if (green->objects[i] != NULL) {
      green_check(green->objects[i], green->sizes[i]);
      if (dice_roll(&green->dice, 4) == 0) {
        /* Another green thread frees it, on whichever thread. */
        uintptr_t *passed = (uintptr_t *)atomic_exchange_full(
            &green_world.passed, (uintptr_t)green->objects[i]);
        mirt_delete(passed);
      } else {
        mirt_delete(green->objects[i]);
      }
      green->objects[i] = NULL;
    } else {
      green->objects[i] = green_new(green, i);
    }
  }
}

static void *run_greens(void *argument) {
  struct dice dice = dice_new(100 + (uintptr_t)argument);
  for (int round = 0; round < TEST_ROUNDS(1200);) {
    struct green *green = &green_world.greens[dice_roll(&dice, GREEN_THREADS)];
    if (pthread_mutex_trylock(&green->lock) != 0) continue;
    round++;
    bind_mutator(green->mutator);
    green_step(green);
    unbind_mutator(green->mutator);
    pthread_mutex_unlock(&green->lock);
  }
  return NULL;
}

START_TEST(test_green_threads) {
  struct green_world *w = &green_world;
  memset(w, 0, sizeof *w);
  w->runtime = runtime_of_layout(_i);
  w->fixed = type_of_size(w->runtime, 40);
  w->varied = type_variable(w->runtime);
  for (size_t i = 0; i < GREEN_THREADS; i++) {
    w->greens[i].mutator = mirt_mutator_create_in(w->runtime);
    w->greens[i].dice = dice_new(200 + i);
    pthread_mutex_init(&w->greens[i].lock, NULL);
  }
  pthread_t threads[4];
  for (uintptr_t i = 0; i < 4; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, run_greens, (void *)i), 0);
  }
  for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  mirt_delete((void *)atomic_load_acquire(&w->passed));
  size_t expected = 0;
  for (size_t g = 0; g < GREEN_THREADS; g++) {
    for (size_t i = 0; i < GREEN_OBJECTS; i++) {
      const uintptr_t *object = w->greens[g].objects[i];
      if (object == NULL) continue;
      green_check(object, w->greens[g].sizes[i]);
      mirt_found_t found;
      require(mirt_find(w->runtime, (uintptr_t)object, &found) && found.object == object);
      require(found.size >= 8 * w->greens[g].sizes[i]);
      expected += found.size;
    }
    pthread_mutex_destroy(&w->greens[g].lock);
  }
  ck_assert_uint_eq(live_bytes(w->runtime), expected);
  ck_assert_uint_eq(stats_of(w->runtime).mutators, GREEN_THREADS);
  runtime_end(w->runtime, NULL);
  assert_no_errors();
}
END_TEST

/* A mutator ends; what lives of it stays, its pages are used by others. */
START_TEST(test_mutator_ends) {
  mirt_runtime_t *runtime = runtime_of_layout(_i);
  const mirt_type_t *type = type_of_size(runtime, 40);
  const mirt_type_t *varied = type_variable(runtime);
  enum { COUNT = 20000 };
  static char *objects[COUNT], *large[4];
  mirt_mutator_t *first = mutator_bound(runtime);
  for (size_t i = 0; i < COUNT; i++) {
    objects[i] = mirt_new(first, type);
    assert_quick(objects[i] != NULL);
    memset(objects[i], (int)(i % 253), 40);
  }
  for (size_t i = 0; i < 4; i++) {
    large[i] = mirt_new_sized(first, varied, 300000);
    memset(large[i], (int)i, 300000);
  }
  for (size_t i = 0; i < COUNT; i += 2) mirt_delete(objects[i]);
  unbind_mutator(first);
  const size_t pages = stats_of(runtime).pages_bytes;
  ck_assert_int_eq(mirt_mutator_destroy(first), 0);
  ck_assert_uint_eq(stats_of(runtime).mutators, 0);
  ck_assert_uint_eq(stats_of(runtime).pages_bytes, pages);

  mirt_mutator_t *second = mutator_bound(runtime);
  for (size_t i = 0; i < COUNT; i += 2) {
    objects[i] = mirt_new(second, type);
    assert_quick(objects[i] != NULL);
    memset(objects[i], (int)(i % 253), 40);
  }
  for (size_t i = 0; i < COUNT; i++) {
    assert_quick(bytes_are(objects[i], 40, i % 253));
    assert_quick(finds(runtime, objects[i], 40, type));
  }
  for (size_t i = 0; i < 4; i++) {
    ck_assert(bytes_are(large[i], 300000, (unsigned char)i));
    ck_assert(finds(runtime, large[i], mi_good_size(300000), varied));
  }
  /* All fitted into the holes. */
  ck_assert_uint_le(stats_of(runtime).pages_bytes, pages + 2 * SLICE);
  ck_assert_uint_eq(live_bytes(runtime), COUNT * 40 + 4 * mi_good_size(300000));
  for (size_t i = 0; i < 4; i++) mirt_delete(large[i]);
  for (size_t i = 0; i < COUNT; i++) mirt_delete(objects[i]);
  ck_assert_uint_eq(live_bytes(runtime), 0);
  runtime_end(runtime, second);
  assert_no_errors();
}
END_TEST

/* A mutator's record is used again: its cells are as new, for types registered before and
 * after. */
START_TEST(test_mutator_is_used_again) {
  mirt_runtime_t *runtime = runtime_plain();
  static const mirt_type_t *types[200];
  size_t expected = 0;
  for (size_t i = 0; i < COUNT_OF(types); i++) {
    types[i] = type_of_size(runtime, 16 + 8 * (i % 10));
    mirt_mutator_t *mutator = mutator_bound(runtime);
    for (size_t k = 0; k <= i; k += 1 + i / 10) {
      char *object = mirt_new(mutator, types[k]);
      assert_quick(object != NULL && mirt_tag_of(object) == types[k]->tag);
      expected += types[k]->block_size;
    }
    ck_assert_int_eq(mirt_mutator_destroy(mutator), EBUSY);
    assert_errors(EBUSY, 1);
    unbind_mutator(mutator);
    ck_assert_int_eq(mirt_mutator_destroy(mutator), 0);
  }
  ck_assert_uint_eq(live_bytes(runtime), expected);
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

/* ---- types while others allocate ---- */

struct maker {
  mirt_runtime_t *runtime;
  size_t number;
};

static void *make_types(void *argument) {
  struct maker *maker = argument;
  mirt_mutator_t *mutator = mutator_bound(maker->runtime);
  const mirt_type_t *types[50];
  for (size_t i = 0; i < COUNT_OF(types); i++) {
    types[i] = type_of_size(maker->runtime, 16 + 8 * i);
    for (size_t k = 0; k <= i; k++) {
      size_t *object = mirt_new(mutator, types[k]);
      require(object != NULL && mirt_tag_of(object) == types[k]->tag);
      object[0] = object[1] = maker->number;
      require(finds(maker->runtime, object, types[k]->block_size, types[k]));
    }
    if (i % 10 == 0) {
      unbind_mutator(mutator);
      if (i % 20 == 0) require(mirt_mutator_destroy(mutator) == 0);
      if (i % 20 == 0) mutator = mirt_mutator_create_in(maker->runtime);
      bind_mutator(mutator);
    }
  }
  unbind_mutator(mutator);
  return NULL;
}

START_TEST(test_types_while_others_allocate) {
  mirt_runtime_t *runtime = runtime_plain();
  struct maker makers[4];
  for (size_t i = 0; i < 4; i++) makers[i] = (struct maker){runtime, i};
  threads_run(4, make_types, makers, sizeof makers[0]);
  size_t expected = 0;
  for (size_t i = 0; i < 50; i++) expected += (50 - i) * (16 + 8 * i);
  ck_assert_uint_eq(live_bytes(runtime), 4 * expected);
  ck_assert_uint_eq(stats_of(runtime).types, 200);
  ck_assert_uint_eq(stats_of(runtime).mutators, 4);
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

/* ---- statistics against a model ---- */

#define MODEL_OBJECTS 3000

struct model_object {
  unsigned char *p;
  size_t size, block;
  const mirt_type_t *type;
};

static void *delete_elsewhere(void *argument) {
  mirt_delete(argument);
  return NULL;
}

START_TEST(test_stats_model) {
  struct dice dice = dice_new(300 + (uint64_t)_i);
  mirt_runtime_t *runtime = runtime_of_layout(_i);
  const size_t unit = (size_t)1 << layouts[_i].cage.shift;
  static struct model_object objects[MODEL_OBJECTS];
  memset(objects, 0, sizeof objects);
  mirt_type_t *types[12];
  size_t type_count = 0;
  mirt_mutator_t *mutators[4] = {mutator_bound(runtime)};
  size_t bound = 0, expected = 0;
  for (int step = 0; step < TEST_ROUNDS(40000); step++) {
    if (type_count < COUNT_OF(types) && step % 100 == 0) {
      types[type_count] =
          type_count % 4 == 3
              ? type_variable(runtime)
              : type_of_size(runtime,
                             1 + dice_roll(&dice, (size_t)8 << dice_roll(&dice, 12)));
      type_count++;
    }
    if (dice_roll(&dice, 100) == 0) { /* go on with another, or end this one */
      unbind_mutator(mutators[bound]);
      if (dice_roll(&dice, 4) == 0) {
        ck_assert_int_eq(mirt_mutator_destroy(mutators[bound]), 0);
        mutators[bound] = NULL;
      }
      bound = dice_roll(&dice, 4);
      if (mutators[bound] == NULL) mutators[bound] = mirt_mutator_create_in(runtime);
      bind_mutator(mutators[bound]);
    }
    struct model_object *o = &objects[dice_roll(&dice, MODEL_OBJECTS)];
    if (o->p != NULL) {
      assert_quick(o->p[0] == (unsigned char)o->size);
      assert_quick(o->p[o->size - 1] == (unsigned char)o->size);
      if (dice_roll(&dice, 500) == 0) {
        thread_run(delete_elsewhere, o->p);
      } else {
        mirt_delete(o->p);
      }
      expected -= o->block;
      o->p = NULL;
    } else {
      o->type = types[dice_roll(&dice, type_count)];
      o->size = o->type->block_size != 0
                    ? o->type->size
                    : 1 + dice_roll(&dice, (size_t)8 << dice_roll(&dice, 12));
      o->p = o->type->block_size != 0 ? mirt_new(mutators[bound], o->type)
                                      : mirt_new_sized(mutators[bound], o->type, o->size);
      assert_quick(o->p != NULL);
      o->p[0] = o->p[o->size - 1] = (unsigned char)o->size;
      const size_t least = o->size < 16 ? 16 : o->size;
      const size_t fixed = round_up(least, unit < 8 ? 8 : unit);
      o->block =
          o->type->block_size != 0 && fixed <= 128 * KiB ? fixed : mi_good_size(o->size);
      expected += o->block;
    }
    if (step % 500 == 0) {
      const mirt_runtime_stats_t stats = stats_of(runtime);
      ck_assert_uint_eq(stats.live_bytes, expected);
      ck_assert_uint_ge(stats.pages_bytes, expected);
      ck_assert_uint_eq(stats.types, type_count);
      size_t count = 0;
      for (int i = 0; i < 4; i++) count += mutators[i] != NULL;
      ck_assert_uint_eq(stats.mutators, count);
    }
  }
  for (size_t i = 0; i < MODEL_OBJECTS; i++) {
    const struct model_object *o = &objects[i];
    if (o->p != NULL) assert_quick(finds(runtime, o->p, o->block, o->type));
    mirt_delete(objects[i].p);
  }
  ck_assert_uint_eq(live_bytes(runtime), 0);
  runtime_end(runtime, mutators[bound]);
  assert_no_errors();
}
END_TEST

/* ---- the budget ---- */

/* What the callback expects and has seen. */
struct budget {
  mirt_runtime_t *runtime;
  const mirt_type_t *type; /* of what is being allocated */
  size_t live;             /* bytes */
  size_t charged;          /* bytes that are not in objects */
  size_t calls;
  bool collects, is_lazy, allocates, discharges;
  mirt_mutator_t *mutator;
};

static void on_soft_limit(mirt_runtime_t *runtime, size_t live, const mirt_type_t *type,
                          void *argument) {
  struct budget *budget = argument;
  budget->calls++;
  require(runtime == budget->runtime);
  require(type == budget->type);
  require(live == budget->live + budget->charged);
  require(live == live_bytes(runtime) + budget->charged);
  if (budget->discharges) {
    budget->charged = mirt_budget_charge(runtime, -(ptrdiff_t)budget->charged);
  }
  if (budget->collects) {
    const mirt_gc_options_t options = {.is_lazy = budget->is_lazy};
    require(mirt_collect(runtime, mark_nothing, NULL, &options, NULL) == 0);
    require(live_bytes(runtime) == 0);
    budget->live = 0;
  }
  if (budget->allocates) {
    const mirt_type_t *small = type_of_size(runtime, 16);
    for (int i = 0; i < 1000; i++) require(mirt_new(budget->mutator, small) != NULL);
    for (int i = 0; i < 10; i++) require(mirt_new(budget->mutator, type) != NULL);
    budget->live += 1000 * 16 + 10 * type->block_size;
  }
}

static void budget_begin(struct budget *budget, size_t soft, size_t hard) {
  *budget = (struct budget){0};
  budget->runtime = runtime_with(&(mirt_runtime_options_t){.size = 256 * MiB,
                                                           .soft_limit = soft,
                                                           .hard_limit = hard,
                                                           .on_soft_limit = on_soft_limit,
                                                           .arg = budget});
  budget->mutator = mutator_bound(budget->runtime);
}

/* Allocate an object, or do not, and count it. */
static void *budget_new(struct budget *budget, const mirt_type_t *type, size_t size) {
  budget->type = type;
  void *object = type->block_size != 0 ? mirt_new(budget->mutator, type)
                                       : mirt_new_sized(budget->mutator, type, size);
  if (object == NULL) return NULL;
  if (type->block_size != 0) size = type->size;
  budget->live += type->block_size != 0 && type->block_size <= 128 * KiB
                      ? type->block_size
                      : mi_good_size(size);
  return object;
}

/* Bytes by which a limit may be passed before somebody looks. */
static size_t taken_at_once(size_t block) {
  return block > 128 * KiB ? round_up(block, SLICE) : 64 * block;
}

#define LIMIT (TEST_HAS_SHADOW ? 1 * MiB : 4 * MiB)

static const size_t budget_sizes[] = {16, 24, 32, 1000, 10000, 200000};

START_TEST(test_soft_limit) {
  struct budget b;
  const size_t size = budget_sizes[_i], soft = LIMIT;
  budget_begin(&b, soft, 0);
  const mirt_type_t *type = type_of_size(b.runtime, size);
  const size_t block = round_up(size, 8), slack = taken_at_once(block);
  while (b.live + slack <= soft) require(budget_new(&b, type, size) != NULL);
  ck_assert_uint_eq(b.calls, 0); /* not before */
  while (b.calls == 0) {
    require(budget_new(&b, type, size) != NULL);
    ck_assert_uint_le(b.live, soft + slack); /* but soon */
  }
  for (size_t i = 0; b.live < 4 * soft; i++) require(budget_new(&b, type, size) != NULL);
  ck_assert_uint_eq(b.calls, 1); /* nothing has been below it since */

  /* After a collection that frees nothing it is the same crossing. */
  ck_assert_int_eq(mirt_gc_begin(b.runtime, NULL), 0);
  size_t area_size;
  const char *area = mi_arena_area(mirt_runtime_arena(b.runtime), &area_size);
  for (size_t at = 0; at < 8 * soft;) {
    mirt_found_t found;
    const bool is_there = mirt_find(b.runtime, (uintptr_t)area + at, &found);
    if (is_there) mirt_mark(mirt_gc_marker(b.runtime, 0), found.object);
    at += is_there ? found.size : 8;
  }
  ck_assert_int_eq(mirt_gc_end(b.runtime, NULL), 0);
  const size_t kept = live_bytes(b.runtime);
  ck_assert_uint_gt(kept, soft);
  b.live = kept;
  for (size_t i = 0; b.live < 5 * soft; i++) require(budget_new(&b, type, size) != NULL);
  ck_assert_uint_eq(b.calls, 1);

  /* After one that frees all it is another. */
  for (size_t round = 2; round < 6; round++) {
    collect_all(b.runtime);
    b.live = 0;
    while (b.live < 2 * soft) require(budget_new(&b, type, size) != NULL);
    ck_assert_uint_eq(b.calls, round);
  }
  runtime_end(b.runtime, b.mutator);
  assert_no_errors();
}
END_TEST

START_TEST(test_soft_limit_collects) {
  struct budget b;
  const size_t soft = LIMIT / 4;
  budget_begin(&b, soft, 0);
  b.collects = _i != 2;
  b.is_lazy = _i == 3;
  b.allocates = _i == 1 || _i == 2;
  mirt_type_t *types[] = {type_of_size(b.runtime, 32), type_of_size(b.runtime, 200000),
                          type_variable(b.runtime)};
  struct dice dice = dice_new(400);
  size_t bytes = 0;
  for (int i = 0; i < TEST_ROUNDS(200000); i++) {
    const mirt_type_t *type = types[i % 50 == 0 ? dice_roll(&dice, 3) : 0];
    if (b.allocates && type->block_size != 32) type = types[0];
    const size_t before = b.live, calls = b.calls;
    void *object = budget_new(&b, type, 5000);
    require(object != NULL);
    if (b.calls == calls) bytes += b.live - before;
    if (b.collects) require(b.live <= soft + 64 * KiB + 200000);
    require(finds(
        b.runtime, object,
        type->block_size == 32 ? 32 : mi_good_size(type->block_size == 0 ? 5000 : 200000),
        type));
  }
  ck_assert_uint_eq(live_bytes(b.runtime), b.live);
  ck_assert_uint_ge(b.calls, b.collects ? bytes / (soft + 64 * KiB) : 1);
  if (!b.collects) ck_assert_uint_eq(b.calls, bytes > soft + 64 * KiB ? 1 : b.calls);
  runtime_end(b.runtime, b.mutator);
  assert_no_errors();
}
END_TEST

/* What was deleted does not count, though nobody has collected. */
START_TEST(test_soft_limit_and_delete) {
  struct budget b;
  budget_begin(&b, 1 * MiB, 0);
  const mirt_type_t *type = type_of_size(b.runtime, 64);
  for (int i = 0; i < TEST_ROUNDS(200000); i++) {
    void *object = budget_new(&b, type, 64);
    require(object != NULL);
    if (i % 10 != 0) continue;
    mirt_delete(object);
    b.live -= 64;
    if (b.live > 512 * KiB) {
      collect_all(b.runtime);
      b.live = 0;
    }
  }
  ck_assert_uint_eq(b.calls, 0);
  runtime_end(b.runtime, b.mutator);
  assert_no_errors();
}
END_TEST

/* Crossed, below it again by what was deleted, counted because of the hard limit, and
 * crossed again: the function is called again. */
START_TEST(test_soft_limit_is_counted) {
  struct budget b;
  budget_begin(&b, 1 * MiB, 2 * MiB);
  const mirt_type_t *type = type_of_size(b.runtime, 64);
  static void *objects[2 * MiB / 64 + 64];
  for (size_t round = 1; round <= 3; round++) {
    size_t count = 0;
    while ((objects[count] = budget_new(&b, type, 64)) != NULL) count++;
    ck_assert_uint_ge(errors_of(ENOMEM), 1);
    errors_clear();
    ck_assert_uint_eq(b.calls, 2 * round); /* and before it failed */
    while (count > 0) mirt_delete(objects[--count]);
    b.live = 0;
  }
  runtime_end(b.runtime, b.mutator);
  assert_no_errors();
}
END_TEST

START_TEST(test_hard_limit) {
  struct budget b;
  const size_t size = budget_sizes[_i], hard = LIMIT;
  budget_begin(&b, 0, hard);
  mirt_type_t *type = type_of_size(b.runtime, size);
  mirt_type_t *varied = type_variable(b.runtime);
  const size_t block = round_up(size, 8), slack = taken_at_once(block);
  static void *objects[4 * MiB / 16 + 100];
  for (int round = 0; round < 3; round++) {
    size_t count = 0;
    while ((objects[count] = budget_new(&b, type, size)) != NULL) {
      memset(objects[count++], round, size);
      require(b.live <= hard + slack);
    }
    require(b.live + block + slack > hard);
    assert_errors(ENOMEM, 1);
    ck_assert_uint_eq(live_bytes(b.runtime), b.live);
    b.type = varied;
    const size_t calls = b.calls;
    ck_assert_ptr_null(mirt_new_sized(b.mutator, varied, 128 * KiB + slack));
    ck_assert_uint_eq(b.calls, calls + 1);
    assert_errors(ENOMEM, 1);
    /* Some room, by deleting; then all of it, by collecting. */
    if (round == 0) {
      for (size_t i = 0; i < count; i++) mirt_delete(objects[i]);
    } else {
      collect_all(b.runtime);
    }
    b.live = 0;
    ck_assert_uint_eq(live_bytes(b.runtime), 0);
  }
  ck_assert_ptr_null(mirt_new_sized(b.mutator, varied, hard + 1));
  assert_errors(ENOMEM, 1);
  ck_assert_int_eq(mirt_budget_set(b.runtime, 0, 0), 0); /* none any more */
  ck_assert_ptr_nonnull(mirt_new_sized(b.mutator, varied, hard + 1));
  runtime_end(b.runtime, b.mutator);
  assert_no_errors();
}
END_TEST

START_TEST(test_budget_set_and_grow) {
  struct budget b;
  budget_begin(&b, 0, 0);
  ck_assert_int_eq(mirt_budget_set(NULL, 0, 0), EINVAL);
  assert_errors(EINVAL, 1);
  ck_assert_int_eq(mirt_budget_set(b.runtime, 2, 1), EINVAL);
  assert_errors(EINVAL, 1);
  ck_assert_uint_eq(mirt_budget_grow(NULL, 200, 0), 0);
  assert_errors(EINVAL, 1);
  ck_assert_uint_eq(stats_of(b.runtime).soft_limit, 0);
  ck_assert_int_eq(mirt_budget_set(b.runtime, 5, 7), 0);
  ck_assert_uint_eq(stats_of(b.runtime).soft_limit, 5);
  ck_assert_uint_eq(stats_of(b.runtime).hard_limit, 7);
  ck_assert_int_eq(mirt_budget_set(b.runtime, 7, 7), 0);
  ck_assert_int_eq(mirt_budget_set(b.runtime, 0, 0), 0);

  const mirt_type_t *type = type_of_size(b.runtime, 104);
  for (int i = 0; i < 10007; i++) require(budget_new(&b, type, 104) != NULL);
  static const unsigned percents[] = {0, 50, 100, 133, 150, 200, 1000};
  for (size_t i = 0; i < COUNT_OF(percents); i++) {
    const size_t grown = b.live * percents[i] / 100;
    const size_t soft = mirt_budget_grow(b.runtime, percents[i], 1000);
    ck_assert_uint_eq(soft, grown < 1000 ? 1000 : grown);
    ck_assert_uint_eq(stats_of(b.runtime).soft_limit, soft);
  }
  ck_assert_uint_eq(mirt_budget_grow(b.runtime, 100, 64 * MiB), 64 * MiB);
  ck_assert_int_eq(mirt_budget_set(b.runtime, 0, 3 * MiB), 0);
  ck_assert_uint_eq(mirt_budget_grow(b.runtime, 1000, 0), 3 * MiB);
  ck_assert_uint_eq(stats_of(b.runtime).hard_limit, 3 * MiB);

  /* It is called when the heap has grown by so much. */
  ck_assert_int_eq(mirt_budget_set(b.runtime, 0, 0), 0);
  const size_t soft = mirt_budget_grow(b.runtime, 150, 0);
  while (b.live + 104 * 64 < soft) require(budget_new(&b, type, 104) != NULL);
  ck_assert_uint_eq(b.calls, 0);
  while (b.live < soft + 104 * 64) require(budget_new(&b, type, 104) != NULL);
  ck_assert_uint_eq(b.calls, 1);
  runtime_end(b.runtime, b.mutator);
  assert_no_errors();
}
END_TEST

/* Several threads come to the limit: one of them calls. */
static atomic_word soft_calls;

static void count_soft_limit(mirt_runtime_t *runtime, size_t live,
                             const mirt_type_t *type, void *argument) {
  (void)runtime, (void)live, (void)type, (void)argument;
  atomic_fetch_add_full(&soft_calls, 1);
}

struct spender {
  mirt_runtime_t *runtime;
  const mirt_type_t *type;
};

static void *spend(void *argument) {
  const struct spender *spender = argument;
  mirt_mutator_t *mutator = mutator_bound(spender->runtime);
  for (size_t i = 0; i < LIMIT / 2 / 48; i++) {
    require(mirt_new(mutator, spender->type) != NULL);
  }
  unbind_mutator(mutator);
  return NULL;
}

START_TEST(test_soft_limit_of_threads) {
  atomic_store_release(&soft_calls, 0);
  mirt_runtime_t *runtime = runtime_with(&(mirt_runtime_options_t){
      .size = 256 * MiB, .soft_limit = LIMIT / 4, .on_soft_limit = count_soft_limit});
  struct spender spenders[4];
  const mirt_type_t *type = type_of_size(runtime, 48);
  for (size_t round = 1; round < 4; round++) {
    for (size_t i = 0; i < 4; i++) spenders[i] = (struct spender){runtime, type};
    threads_run(4, spend, spenders, sizeof spenders[0]);
    ck_assert_uint_eq(atomic_load_acquire(&soft_calls), round);
    collect_all(runtime);
  }
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

/* ---- what is charged ---- */

START_TEST(test_charge) {
  mirt_runtime_t *runtime = runtime_plain();
  ck_assert_uint_eq(mirt_budget_charge(NULL, 1), 0);
  assert_errors(EINVAL, 1);
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_size(runtime, 48);
  for (int i = 0; i < 100; i++) require(mirt_new(mutator, type) != NULL);
  const mirt_runtime_stats_t before = stats_of(runtime);
  ck_assert_uint_eq(before.charged_bytes, 0);
  ck_assert_uint_eq(mirt_budget_charge(runtime, 0), 0);
  ck_assert_uint_eq(mirt_budget_charge(runtime, 1000), 1000);
  ck_assert_uint_eq(mirt_budget_charge(runtime, -400), 600);
  ck_assert_uint_eq(mirt_budget_charge(runtime, 0), 600);
  const mirt_runtime_stats_t stats = stats_of(runtime);
  ck_assert_uint_eq(stats.charged_bytes, 600);
  ck_assert_uint_eq(stats.live_bytes, before.live_bytes);
  ck_assert_uint_eq(stats.pages_bytes, before.pages_bytes);

  /* Not less than nothing, nor more than there can be. */
  static const ptrdiff_t wrong[] = {-601, PTRDIFF_MIN, PTRDIFF_MAX, PTRDIFF_MAX - 599};
  for (size_t i = 0; i < COUNT_OF(wrong); i++) {
    ck_assert_uint_eq(mirt_budget_charge(runtime, wrong[i]), 600);
    assert_errors(EINVAL, 1);
    ck_assert_uint_eq(stats_of(runtime).charged_bytes, 600);
  }
  ck_assert_uint_eq(mirt_budget_charge(runtime, PTRDIFF_MAX - 600), PTRDIFF_MAX);
  collect_all(runtime); /* does not change it */
  ck_assert_uint_eq(stats_of(runtime).charged_bytes, PTRDIFF_MAX);
  ck_assert_uint_eq(mirt_budget_charge(runtime, -PTRDIFF_MAX), 0);
  ck_assert_ptr_nonnull(mirt_new(mutator, type));
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

struct charger {
  mirt_runtime_t *runtime;
  size_t number;
};

static void *charge(void *argument) {
  const struct charger *charger = argument;
  struct dice dice = dice_new(800 + charger->number);
  for (int i = 0; i < TEST_ROUNDS(20000); i++) {
    const ptrdiff_t bytes = (ptrdiff_t)dice_roll(&dice, 1 * MiB);
    require(mirt_budget_charge(charger->runtime, bytes) >= (size_t)bytes);
    (void)mirt_budget_charge(charger->runtime, -bytes);
  }
  (void)mirt_budget_charge(charger->runtime, (ptrdiff_t)charger->number + 1);
  return NULL;
}

START_TEST(test_charge_of_threads) {
  mirt_runtime_t *runtime = runtime_plain();
  struct charger chargers[4];
  for (size_t i = 0; i < 4; i++) chargers[i] = (struct charger){runtime, i};
  threads_run(4, charge, chargers, sizeof chargers[0]);
  ck_assert_uint_eq(stats_of(runtime).charged_bytes, 1 + 2 + 3 + 4);
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

/* A limit that is crossed by a charge is noticed by what is allocated next. */
START_TEST(test_charge_and_limits) {
  struct budget b;
  budget_begin(&b, 1 * MiB, 2 * MiB);
  const mirt_type_t *type = type_of_size(b.runtime, 48);
  require(budget_new(&b, type, 48) != NULL);
  ck_assert_uint_eq(b.calls, 0);
  b.charged = mirt_budget_charge(b.runtime, MiB + 512 * KiB);
  for (int i = 0; i <= 64; i++) require(budget_new(&b, type, 48) != NULL);
  ck_assert_uint_eq(b.calls, 1);
  for (int i = 0; i <= 1000; i++) require(budget_new(&b, type, 48) != NULL);
  ck_assert_uint_eq(b.calls, 1);
  ck_assert_uint_eq(mirt_budget_grow(b.runtime, 110, 0),
                    (b.live + b.charged) * 110 / 100);
  ck_assert_int_eq(mirt_budget_set(b.runtime, 1 * MiB, 2 * MiB), 0);

  /* Below it, and above it again. */
  b.charged = mirt_budget_charge(b.runtime, -(ptrdiff_t)MiB);
  ck_assert_uint_eq(b.charged, 512 * KiB);
  collect_all(b.runtime);
  b.live = 0;
  for (int i = 0; i <= 64; i++) require(budget_new(&b, type, 48) != NULL);
  ck_assert_uint_eq(b.calls, 1);
  b.charged = mirt_budget_charge(b.runtime, MiB);
  for (int i = 0; i <= 64; i++) require(budget_new(&b, type, 48) != NULL);
  ck_assert_uint_eq(b.calls, 2);

  /* The hard one: called before it fails, and not any more when it is given back. */
  b.charged = mirt_budget_charge(b.runtime, MiB);
  const mirt_type_t *other = type_of_size(b.runtime, 1000);
  ck_assert_ptr_null(budget_new(&b, other, 1000));
  assert_errors(ENOMEM, 1);
  ck_assert_uint_eq(b.calls, 3);
  b.charged = mirt_budget_charge(b.runtime, -(ptrdiff_t)MiB);
  ck_assert_ptr_nonnull(budget_new(&b, other, 1000));

  /* By the callback. */
  b.charged = mirt_budget_charge(b.runtime, MiB);
  b.discharges = true;
  b.collects = true;
  while (b.calls == 3) require(budget_new(&b, other, 1000) != NULL);
  ck_assert_uint_eq(b.charged, 0);
  runtime_end(b.runtime, b.mutator);
  assert_no_errors();
}
END_TEST

/* Deleted and allocated anew just below the limit, over and over: never counted wrong. */
START_TEST(test_soft_limit_just_below) {
  struct budget b;
  const size_t soft = 1 * MiB, size = budget_sizes[_i];
  budget_begin(&b, soft, 0);
  const mirt_type_t *type = type_of_size(b.runtime, size);
  const size_t slack = taken_at_once(round_up(size, 8));
  static void *objects[1 * MiB / 16];
  size_t count = 0;
  while (b.live + 2 * slack <= soft) {
    objects[count] = budget_new(&b, type, size);
    require(objects[count++] != NULL);
  }
  struct dice dice = dice_new(900 + (uint64_t)_i);
  for (int i = 0; count > 0 && i < TEST_ROUNDS(300000); i++) {
    void **object = &objects[dice_roll(&dice, count)];
    const size_t before = b.live;
    mirt_delete(*object);
    *object = budget_new(&b, type, size);
    require(*object != NULL);
    b.live = before;
  }
  ck_assert_uint_eq(b.calls, 0);
  ck_assert_uint_eq(live_bytes(b.runtime), b.live);
  while (b.calls == 0) {
    require(budget_new(&b, type, size) != NULL);
    ck_assert_uint_le(b.live, soft + soft / 32 + 2 * slack);
  }
  for (size_t i = 0; i < 1000 && b.live < 4 * soft; i++) {
    require(budget_new(&b, type, size) != NULL);
  }
  ck_assert_uint_eq(b.calls, 1);
  runtime_end(b.runtime, b.mutator);
  assert_no_errors();
}
END_TEST

/* What the callback of the hard limit does. */
struct last_resort {
  mirt_type_t *type;
  size_t calls;
  int what; /* 0: collect, in vain; 1: raise the limit, when called the third time */
};

static void mark_all_objects(mirt_marker_t *marker, void *argument) {
  void **roots = argument;
  for (size_t i = 0; roots[i] != NULL; i++) mirt_mark(marker, roots[i]);
}

static void *last_objects[MiB / 48 + 2000];

static void on_last_resort(mirt_runtime_t *runtime, size_t live, const mirt_type_t *type,
                           void *argument) {
  struct last_resort *resort = argument;
  require(type == resort->type && live == live_bytes(runtime));
  resort->calls++;
  if (resort->what == 1 && resort->calls == 3) {
    require(mirt_budget_set(runtime, 0, 2 * MiB) == 0);
  }
  require(mirt_collect(runtime, mark_all_objects, last_objects, NULL, NULL) == 0);
}

/* Tried again while collections end, though they free nothing, but not for ever. */
START_TEST(test_hard_limit_is_tried_again) {
  struct last_resort resort = {.what = _i};
  mirt_runtime_t *runtime =
      runtime_with(&(mirt_runtime_options_t){.size = 256 * MiB,
                                             .hard_limit = 1 * MiB,
                                             .on_soft_limit = on_last_resort,
                                             .arg = &resort});
  resort.type = type_of_size(runtime, 48);
  mirt_mutator_t *mutator = mutator_bound(runtime);
  memset(last_objects, 0, sizeof last_objects);
  size_t count = 0;
  while (count < MiB / 48 + 1000) {
    void *object = mirt_new(mutator, resort.type);
    if (object == NULL) break;
    last_objects[count++] = object;
  }
  if (_i == 0) {
    ck_assert_uint_le(count, MiB / 48 + 64); /* what is taken at once */
    ck_assert_uint_ge(resort.calls, 2);
    ck_assert_uint_le(resort.calls, 9);
    assert_errors(ENOMEM, 1);
    ck_assert_uint_eq(live_bytes(runtime), count * 48);
  } else {
    ck_assert_uint_eq(count, MiB / 48 + 1000);
    ck_assert_uint_eq(resort.calls, 3);
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* Threads that make only garbage never fail: what the others have taken meanwhile is
 * collected, by whoever stops the world. */
struct wasters {
  mirt_safepoint_t *safepoint;
  mirt_runtime_t *runtime;
  mirt_type_t *type;
  atomic_word collections, failures;
};

static void waste_limit(mirt_runtime_t *runtime, size_t live, const mirt_type_t *type,
                        void *argument) {
  struct wasters *wasters = argument;
  require(type == wasters->type && live > 0);
  if (!mirt_safepoint_request(wasters->safepoint)) return; /* another has collected */
  require(mirt_collect(runtime, mark_nothing, NULL, NULL, NULL) == 0);
  atomic_fetch_add_full(&wasters->collections, 1);
  mirt_safepoint_resume(wasters->safepoint);
}

static void *waste(void *argument) {
  struct wasters *wasters = *(struct wasters **)argument;
  mirt_safepoint_attach(wasters->safepoint);
  mirt_mutator_t *mutator = mutator_bound(wasters->runtime);
  for (int i = 0; i < TEST_ROUNDS(400000); i++) {
    mirt_safepoint_poll(wasters->safepoint);
    char *object = mirt_new(mutator, wasters->type);
    if (object == NULL) {
      atomic_fetch_add_full(&wasters->failures, 1);
    } else {
      object[0] = object[wasters->type->size - 1] = 1;
    }
  }
  unbind_mutator(mutator);
  mirt_safepoint_detach(wasters->safepoint);
  return NULL;
}

START_TEST(test_wasters_never_fail) {
  static struct wasters wasters;
  memset(&wasters, 0, sizeof wasters);
  wasters.safepoint = mirt_safepoint_create();
  wasters.runtime = runtime_with(&(mirt_runtime_options_t){.size = 256 * MiB,
                                                           .soft_limit = 1 * MiB,
                                                           .hard_limit = 1 * MiB,
                                                           .on_soft_limit = waste_limit,
                                                           .arg = &wasters});
  wasters.type = type_of_size(wasters.runtime, _i == 0 ? 48 : 400);
  struct wasters *all[2] = {&wasters, &wasters};
  threads_run(2, waste, all, sizeof all[0]);
  ck_assert_uint_eq(atomic_load_acquire(&wasters.failures), 0);
  ck_assert_uint_ge(atomic_load_acquire(&wasters.collections), 2);
  ck_assert_int_eq(mirt_safepoint_destroy(wasters.safepoint), 0);
  runtime_end(wasters.runtime, NULL);
  assert_no_errors();
}
END_TEST

/* ---- finding forgotten roots ---- */

static const size_t hunted_sizes[] = {16, 104, 1000, 5000, 20000, 200000};

#define HUNTED (COUNT_OF(hunted_sizes))
#define HUNT_KEPT 200

struct hunt {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator;
  mirt_type_t *fixed[HUNTED], *varied;
  struct dice dice;
  const mirt_type_t *next; /* what is being allocated */
  size_t calls, finalized;
  bool collects;
  unsigned char *kept[HUNT_KEPT + 1]; /* ends with NULL */
  size_t kept_sizes[HUNT_KEPT];
  size_t kept_count;
  unsigned char *forgotten; /* what was allocated last and is no root, or NULL */
  size_t forgotten_size;
};

static struct hunt hunt;

static void hunt_roots(mirt_marker_t *marker, void *argument) {
  (void)argument;
  for (size_t i = 0; i < hunt.kept_count; i++) mirt_mark(marker, hunt.kept[i]);
}

static void hunt_collect(void) {
  const mirt_gc_options_t options = {.is_lazy = dice_roll(&hunt.dice, 2) == 0,
                                     .markers = (unsigned)dice_roll(&hunt.dice, 2)};
  mirt_gc_stats_t stats;
  require(mirt_collect(hunt.runtime, hunt_roots, NULL, &options, &stats) == 0);
  require(stats.live_objects == hunt.kept_count);
  require(stats.freed_objects == (hunt.forgotten != NULL));
  if (hunt.forgotten != NULL) {
    require(bytes_are(hunt.forgotten, hunt.forgotten_size, MIRT_DEAD_BYTE));
    require(finds_nothing(hunt.runtime, hunt.forgotten));
    hunt.forgotten = NULL;
  }
  for (size_t i = 0; i < hunt.kept_count; i++) {
    require(bytes_are(hunt.kept[i], hunt.kept_sizes[i], (unsigned char)(i + 1)));
  }
}

static void on_hunt(mirt_runtime_t *runtime, size_t live, const mirt_type_t *type,
                    void *argument) {
  require(argument == &hunt && runtime == hunt.runtime && type == hunt.next);
  require(live == live_bytes(runtime));
  hunt.calls++;
  if (hunt.collects) hunt_collect();
}

static void hunt_begin(bool fills) {
  memset(&hunt, 0, sizeof hunt);
  hunt.dice = dice_new(1000 + fills);
  hunt.runtime = runtime_with(&(mirt_runtime_options_t){.size = 256 * MiB,
                                                        .on_soft_limit = on_hunt,
                                                        .arg = &hunt,
                                                        .call_always = true,
                                                        .fill_dead = fills});
  for (size_t i = 0; i < HUNTED; i++) {
    hunt.fixed[i] = type_of_size(hunt.runtime, hunted_sizes[i]);
  }
  hunt.varied = type_variable(hunt.runtime);
  hunt.mutator = mutator_bound(hunt.runtime);
}

static unsigned char *hunt_new(size_t which, unsigned way) {
  const size_t size = hunted_sizes[which];
  hunt.next = way < 3 ? hunt.fixed[which] : hunt.varied;
  switch (way) {
    case 0: return mirt_new(hunt.mutator, hunt.next);
    case 1: return mirt_new_zeroed(hunt.mutator, hunt.next);
    case 2: return mirt_new_sized(hunt.mutator, hunt.next, size);
    case 3: return mirt_new_sized(hunt.mutator, hunt.next, size);
    default: return mirt_new_sized_zeroed(hunt.mutator, hunt.next, size);
  }
}

#define HUNT_WAYS 5

/* The callback is called before each allocation, once. */
START_TEST(test_call_always) {
  hunt_begin(false);
  for (int i = 1; i <= TEST_ROUNDS(4000); i++) {
    void *object = hunt_new(dice_roll(&hunt.dice, HUNTED - (i % 20 != 0)),
                            (unsigned)dice_roll(&hunt.dice, HUNT_WAYS));
    require(object != NULL);
    ck_assert_uint_eq(hunt.calls, (size_t)i);
    if (dice_roll(&hunt.dice, 4) == 0) mirt_delete(object);
    if (i % 300 == 0) { /* another mutator */
      unbind_mutator(hunt.mutator);
      if (i % 600 == 0) require(mirt_mutator_destroy(hunt.mutator) == 0);
      hunt.mutator = mutator_bound(hunt.runtime);
    }
    if (i % 500 == 0) collect_all(hunt.runtime);
  }
  runtime_end(hunt.runtime, hunt.mutator);
  assert_no_errors();
}
END_TEST

/* What is no root reads as dead when the next object has been allocated. */
START_TEST(test_fill_dead) {
  /* The memory of large ones does not go back to the system, where it would read as 0. */
  const long delay = mi_option_get(mi_option_purge_delay);
  mi_option_set(mi_option_purge_delay, -1);
  hunt_begin(true);
  hunt.collects = true;
  /* One of each lives in its page. */
  for (size_t which = 0; which < HUNTED; which++) {
    for (unsigned way = 0; way < HUNT_WAYS; way++) {
      const size_t at = hunt.kept_count;
      hunt.kept[at] = hunt_new(which, way);
      hunt.kept_sizes[at] = hunted_sizes[which];
      memset(hunt.kept[at], (int)at + 1, hunted_sizes[which]);
      hunt.kept_count++;
    }
  }
  size_t calls = hunt.calls;
  for (int i = 0; i < TEST_ROUNDS(600); i++) {
    const size_t which = dice_roll(&hunt.dice, HUNTED - (i % 40 != 0));
    const unsigned way = (unsigned)dice_roll(&hunt.dice, HUNT_WAYS);
    unsigned char *object = hunt_new(which, way);
    require(object != NULL);
    if (way == 1 || way == 4) require(bytes_are(object, hunted_sizes[which], 0));
    ck_assert_uint_eq(hunt.calls, ++calls);
    if (hunt.kept_count < HUNT_KEPT && i % 16 == 0) {
      const size_t at = hunt.kept_count++;
      hunt.kept[at] = object;
      hunt.kept_sizes[at] = hunted_sizes[which];
      memset(object, (int)at + 1, hunted_sizes[which]);
    } else {
      memset(object, 0, hunted_sizes[which]);
      hunt.forgotten = object;
      hunt.forgotten_size = hunted_sizes[which];
    }
  }
  hunt_collect();
  runtime_end(hunt.runtime, hunt.mutator);
  mi_option_set(mi_option_purge_delay, delay);
  assert_no_errors();
}
END_TEST

/* A finalizer sees its object as it was, and may keep it so. */
static bool finalize_hunted(void *object, size_t size, void *argument) {
  (void)argument;
  require(size >= 100 && bytes_are(object, 100, 0x5a));
  hunt.finalized++;
  return hunt.finalized % 2 == 1;
}

START_TEST(test_fill_dead_and_finalizers) {
  hunt_begin(true);
  const mirt_type_t *type = type_with(
      hunt.runtime, &(mirt_type_options_t){.size = 100, .finalize = finalize_hunted});
  hunt.next = type;
  unsigned char *objects[100];
  for (size_t i = 0; i < COUNT_OF(objects); i++) {
    objects[i] = mirt_new(hunt.mutator, type);
    memset(objects[i], 0x5a, 100);
  }
  ck_assert_uint_eq(hunt.calls, COUNT_OF(objects));
  size_t left = COUNT_OF(objects);
  for (size_t expected = 0; left > 0;) {
    const mirt_gc_options_t options = {.is_lazy = left % 2 == 0};
    const size_t called = left;
    expected += called;
    require(mirt_collect(hunt.runtime, mark_nothing, NULL, &options, NULL) == 0);
    ck_assert_uint_eq(hunt.finalized, expected);
    left = 0;
    for (size_t i = 0; i < COUNT_OF(objects); i++) {
      if (finds_nothing(hunt.runtime, objects[i])) continue;
      require(bytes_are(objects[i], 100, 0x5a));
      left++;
    }
    ck_assert_uint_eq(left, (expected + 1) / 2 - (expected - called + 1) / 2);
  }
  runtime_end(hunt.runtime, hunt.mutator);
  assert_no_errors();
}
END_TEST

/* ---- statistics and visits by type, against a model ---- */

#define SHOWN 1500
#define SHOWN_TYPES 3

struct shown {
  char *p;
  size_t block;
  int type;
};

struct show {
  mirt_runtime_t *runtime;
  mirt_type_t *types[SHOWN_TYPES]; /* fixed, large, variable */
  struct shown objects[SHOWN];
  struct dice dice;
  int type; /* that is visited */
  size_t seen, stop_after;
  const char *last;
  size_t seen_bytes;
  bool deletes;
};

static struct show show;

static struct shown *shown_at(const void *p) {
  for (size_t i = 0; i < SHOWN; i++) {
    if (show.objects[i].p == p) return &show.objects[i];
  }
  return NULL;
}

static bool show_object(void *object, size_t size, void *argument) {
  require(argument == &show);
  struct shown *shown = shown_at(object);
  require(shown != NULL && shown->type == show.type && shown->block == size);
  require((const char *)object > show.last); /* in order, so none twice */
  show.last = object;
  show.seen++;
  show.seen_bytes += size;
  if (show.deletes && dice_roll(&show.dice, 2) == 0) {
    mirt_delete(object);
    shown->p = NULL;
  }
  return show.seen != show.stop_after;
}

static void show_counts(size_t *objects, size_t *bytes) {
  for (int i = 0; i < SHOWN_TYPES; i++) objects[i] = bytes[i] = 0;
  for (size_t i = 0; i < SHOWN; i++) {
    if (show.objects[i].p == NULL) continue;
    objects[show.objects[i].type]++;
    bytes[show.objects[i].type] += show.objects[i].block;
  }
}

static void show_check_stats(void) {
  size_t objects[SHOWN_TYPES], bytes[SHOWN_TYPES], live = 0, pages = 0;
  show_counts(objects, bytes);
  for (int i = 0; i < SHOWN_TYPES; i++) {
    mirt_type_stats_t stats;
    ck_assert(mirt_type_stats(show.types[i], &stats));
    ck_assert_uint_eq(stats.objects, objects[i]);
    ck_assert_uint_eq(stats.bytes, bytes[i]);
    ck_assert_uint_ge(stats.pages_bytes, bytes[i]);
    live += stats.bytes;
    pages += stats.pages_bytes;
  }
  const mirt_runtime_stats_t stats = stats_of(show.runtime);
  ck_assert_uint_eq(stats.live_bytes, live);
  ck_assert_uint_eq(stats.pages_bytes, pages);
}

/* Returns how many were shown. */
static size_t show_visit(int type, size_t stop_after, bool deletes) {
  size_t objects[SHOWN_TYPES], bytes[SHOWN_TYPES];
  show_counts(objects, bytes);
  show.type = type;
  show.stop_after = stop_after;
  show.deletes = deletes;
  show.seen = show.seen_bytes = 0;
  show.last = NULL;
  const bool is_through = mirt_type_visit(show.types[type], show_object, &show);
  const bool is_stopped = stop_after != 0 && stop_after <= objects[type];
  ck_assert_int_eq(is_through, !is_stopped);
  ck_assert_uint_eq(show.seen, is_stopped ? stop_after : objects[type]);
  if (!is_stopped) ck_assert_uint_eq(show.seen_bytes, bytes[type]);
  return show.seen;
}

static void show_step(mirt_mutator_t *mutator) {
  struct shown *shown = &show.objects[dice_roll(&show.dice, SHOWN)];
  if (shown->p != NULL) {
    mirt_delete(shown->p);
    shown->p = NULL;
    return;
  }
  shown->type = dice_roll(&show.dice, 20) == 0 ? 1 : 2 * (int)dice_roll(&show.dice, 2);
  const mirt_type_t *type = show.types[shown->type];
  shown->p = shown->type < 2
                 ? mirt_new(mutator, type)
                 : mirt_new_sized(
                       mutator, type,
                       1 + dice_roll(&show.dice, (size_t)8 << dice_roll(&show.dice, 15)));
  mirt_found_t found;
  require(mirt_find(show.runtime, (uintptr_t)shown->p, &found));
  require(found.object == shown->p && found.type == type);
  shown->block = found.size;
}

START_TEST(test_type_stats_and_visit) {
  memset(&show, 0, sizeof show);
  show.dice = dice_new(1200 + (uint64_t)_i);
  show.runtime = runtime_of_layout(_i == 0 ? 0 : 4);
  show.types[0] = type_of_size(show.runtime, 48);
  show.types[1] = type_of_size(show.runtime, 150000);
  show.types[2] = type_variable(show.runtime);
  const mirt_type_t *empty = type_of_size(show.runtime, 48); /* like another */
  mirt_mutator_t *mutators[2] = {mutator_bound(show.runtime)};
  unbind_mutator(mutators[0]);
  mutators[1] = mutator_bound(show.runtime);
  unbind_mutator(mutators[1]);
  mirt_type_stats_t stats;
  for (int round = 0; round < TEST_ROUNDS(60); round++) {
    mirt_mutator_t *mutator = mutators[round % 2];
    bind_mutator(mutator);
    for (int i = 0; i < 400; i++) show_step(mutator);
    show_check_stats();
    for (int type = 0; type < SHOWN_TYPES; type++) {
      const size_t count = show_visit(type, 0, false);
      if (count == 0) continue;
      show_visit(type, 1 + dice_roll(&show.dice, count), false);
      show_visit(type, count, false); /* by the last one */
      show_visit(type, count + 1, false);
    }
    if (round % 4 == 0) show_visit(round / 4 % SHOWN_TYPES, 0, true);
    if (round % 4 == 1) {
      show_visit(round / 4 % SHOWN_TYPES, 1 + dice_roll(&show.dice, 50), true);
    }
    show_check_stats();
    unbind_mutator(mutator);
    ck_assert(mirt_type_stats(empty, &stats));
    ck_assert_uint_eq(stats.objects + stats.bytes + stats.pages_bytes, 0);
    ck_assert(mirt_type_visit(empty, show_object, NULL)); /* not called */
  }
  ck_assert(!mirt_type_stats(NULL, &stats));
  assert_errors(EINVAL, 1);
  ck_assert(!mirt_type_stats(empty, NULL));
  assert_errors(EINVAL, 1);
  ck_assert(!mirt_type_visit(NULL, show_object, NULL));
  assert_errors(EINVAL, 1);
  ck_assert(!mirt_type_visit(empty, NULL, NULL));
  assert_errors(EINVAL, 1);

  /* What died counts until it is swept. */
  size_t objects[SHOWN_TYPES], bytes[SHOWN_TYPES];
  show_counts(objects, bytes);
  require(mirt_collect(show.runtime, mark_nothing, NULL,
                       &(mirt_gc_options_t){.is_lazy = true}, NULL) == 0);
  for (int type = 0; type < SHOWN_TYPES; type++) {
    ck_assert(mirt_type_stats(show.types[type], &stats));
    ck_assert_uint_le(stats.objects, objects[type]);
    ck_assert_uint_le(stats.bytes, bytes[type]);
  }
  while (mirt_gc_sweep(show.runtime, 100) != 0) continue;
  memset(show.objects, 0, sizeof show.objects);
  show_check_stats();
  for (int type = 0; type < SHOWN_TYPES; type++) {
    ck_assert_uint_eq(show_visit(type, 0, false), 0);
  }
  runtime_end(show.runtime, NULL);
  assert_no_errors();
}
END_TEST

/* ---- immediate values ---- */

START_TEST(test_immediate_errors) {
  mirt_runtime_t *runtime = runtime_of_layout(2);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .is_array = true,
                    .immediate_mask = 1, .immediate_value = 2);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .is_array = true,
                    .immediate_mask = 6, .immediate_value = 7);
  assert_type_fails(EINVAL, .size = 16, .slot_size = 8, .is_array = true,
                    .immediate_value = 1); /* no mask */
  assert_type_fails(EINVAL, .size = 16, .slot_size = 4, .is_array = true,
                    .immediate_mask = UINT64_MAX, .immediate_value = (uint64_t)1 << 32);
  type_with(runtime, &(mirt_type_options_t){.size = 16,
                                            .slot_size = 4,
                                            .is_array = true,
                                            .immediate_mask = 0x80000001,
                                            .immediate_value = 0x80000000});
  type_with(runtime, &(mirt_type_options_t){.size = 16,
                                            .slot_size = 8,
                                            .is_array = true,
                                            .immediate_mask = UINT64_MAX,
                                            .immediate_value = UINT64_MAX});
  type_with(runtime, &(mirt_type_options_t){.size = 16,
                                            .slot_size = 8,
                                            .is_array = true,
                                            .immediate_mask = 3}); /* zeros */
  ck_assert_uint_eq(stats_of(runtime).types, 3);
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

/* ---- what may not be done ---- */

struct forbidden {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator;
  mirt_type_t *fixed, *varied;
  size_t tried;
};

static void allocate_in_collection(struct forbidden *f) {
  for (int i = 0; i < 3; i++) {
    require(mirt_new(f->mutator, f->fixed) == NULL);
    require(mirt_new_zeroed(f->mutator, f->fixed) == NULL);
    require(mirt_new_sized(f->mutator, f->fixed, 10) == NULL);
    require(mirt_new_sized(f->mutator, f->varied, 500) == NULL);
    require(mirt_new_sized_zeroed(f->mutator, f->varied, 200000) == NULL);
    f->tried += 5;
  }
}

static void roots_that_allocate(mirt_marker_t *marker, void *argument) {
  (void)marker;
  allocate_in_collection(argument);
}

static void marked_that_allocates(mirt_runtime_t *runtime, void *argument) {
  (void)runtime;
  allocate_in_collection(argument);
}

START_TEST(test_no_allocation_in_collection) {
  struct forbidden f = {.runtime = runtime_plain()};
  f.fixed = type_of_size(f.runtime, 48);
  f.varied = type_variable(f.runtime);
  f.mutator = mutator_bound(f.runtime);
  for (int round = 0; round < 4; round++) {
    for (int i = 0; i < 100; i++) { /* so that the cell has free blocks */
      require(mirt_new(f.mutator, f.fixed) != NULL);
      require(mirt_new_sized(f.mutator, f.varied, 500) != NULL);
    }
    f.tried = 0;
    const mirt_gc_options_t options = {
        .on_marked = marked_that_allocates, .arg = &f, .is_lazy = round % 2 == 0};
    ck_assert_int_eq(mirt_collect(f.runtime, roots_that_allocate, &f, &options, NULL), 0);
    assert_errors(EBUSY, f.tried);
    if (round % 2 == 1) ck_assert_uint_eq(live_bytes(f.runtime), 0);
  }
  ck_assert_ptr_nonnull(mirt_new(f.mutator, f.fixed));
  runtime_end(f.runtime, f.mutator);
  assert_no_errors();
}
END_TEST

static void destroy_here(struct forbidden *f) {
  f->tried++;
  require(mirt_runtime_destroy(f->runtime) == EBUSY);
}

static void roots_that_destroy(mirt_marker_t *marker, void *argument) {
  (void)marker;
  destroy_here(argument);
}

static void marked_that_destroys(mirt_runtime_t *runtime, void *argument) {
  (void)runtime;
  destroy_here(argument);
}

static bool finalize_by_destroying(void *object, size_t size, void *argument) {
  (void)object, (void)size;
  destroy_here(argument);
  return false;
}

/* No mutator is bound, so it is only the collection that is in the way. */
START_TEST(test_destroy_in_collection) {
  struct forbidden f = {.runtime = runtime_plain()};
  f.fixed = type_with(
      f.runtime,
      &(mirt_type_options_t){.size = 48, .finalize = finalize_by_destroying, .arg = &f});
  f.mutator = mutator_bound(f.runtime);
  for (int i = 0; i < 3; i++) require(mirt_new(f.mutator, f.fixed) != NULL);
  unbind_mutator(f.mutator);
  const mirt_gc_options_t options = {.on_marked = marked_that_destroys, .arg = &f};
  ck_assert_int_eq(mirt_collect(f.runtime, roots_that_destroy, &f, &options, NULL), 0);
  ck_assert_uint_eq(f.tried, 5);
  assert_errors(EBUSY, 5);

  /* Also in the steps, and in finalizers that run later. */
  bind_mutator(f.mutator);
  for (int i = 0; i < 3; i++) require(mirt_new(f.mutator, f.fixed) != NULL);
  unbind_mutator(f.mutator);
  ck_assert_int_eq(mirt_gc_begin(f.runtime, NULL), 0);
  destroy_here(&f);
  mirt_gc_trace(mirt_gc_marker(f.runtime, 0));
  destroy_here(&f);
  ck_assert_int_eq(mirt_gc_complete(f.runtime), 0);
  destroy_here(&f);
  ck_assert_int_eq(mirt_gc_end(f.runtime, NULL), 0);
  assert_errors(EBUSY, 3);
  ck_assert_uint_eq(mirt_gc_finalize(f.runtime), 3);
  assert_errors(EBUSY, 3);
  ck_assert_uint_eq(live_bytes(f.runtime), 0);
  ck_assert_int_eq(mirt_runtime_destroy(f.runtime), 0);
  assert_no_errors();
}
END_TEST

START_TEST(test_arena_of_runtime) {
  mirt_runtime_t *runtime = runtime_of_layout(_i);
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_size(runtime, 48);
  for (int round = 0; round < 2; round++) {
    ck_assert_int_eq(mirt_arena_destroy(mirt_runtime_arena(runtime)), EINVAL);
    assert_errors(EINVAL, 1);
    ck_assert(finds(runtime, mirt_new(mutator, type), 48, type));
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* The cell of a type may be where the other runtime has that of its own type, with or
 * without free blocks, or where it has none. */
START_TEST(test_mutator_of_another_runtime) {
  mirt_runtime_t *runtime = runtime_plain(), *other = runtime_plain();
  mirt_type_t *types[8];
  for (size_t i = 0; i < COUNT_OF(types); i++) types[i] = type_of_size(runtime, 24);
  const mirt_type_t *varied = type_variable(runtime);
  const mirt_type_t *of_other = type_of_size(other, 24);
  mirt_mutator_t *mutator = mutator_bound(other);
  for (size_t i = 0; i < COUNT_OF(types); i++) {
    ck_assert_ptr_null(mirt_new(mutator, types[i]));
    assert_errors(EINVAL, 1);
    ck_assert_ptr_null(mirt_new_zeroed(mutator, types[i]));
    assert_errors(EINVAL, 1);
    ck_assert_ptr_null(mirt_new_sized(mutator, types[i], 24));
    assert_errors(EINVAL, 1);
  }
  ck_assert_ptr_null(mirt_new_sized(mutator, varied, 24));
  assert_errors(EINVAL, 1);
  ck_assert_uint_eq(live_bytes(runtime), 0);
  ck_assert_uint_eq(live_bytes(other), 0);
  ck_assert_ptr_nonnull(mirt_new(mutator, of_other));
  ck_assert_ptr_null(mirt_new_sized(mutator, varied, 24));
  assert_errors(EINVAL, 1);
  ck_assert_uint_eq(live_bytes(other), 24);
  runtime_end(other, mutator);
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

static void keep_text(const char *text, void *argument) {
  char *kept = argument;
  strncat(kept, text, 500 - strlen(kept));
}

/* The line names the function, the type and the values. */
START_TEST(test_messages) {
  char text[512] = "";
  const long most = mi_option_get(mi_option_max_errors);
  mi_option_set(mi_option_max_errors, -1);
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *fixed =
      type_with(runtime, &(mirt_type_options_t){.name = "a pair", .size = 17});
  const mirt_type_t *varied = type_with(
      runtime, &(mirt_type_options_t){.name = "a text", .size = 32, .is_variable = true});
  const struct {
    const mirt_type_t *type;
    size_t size;
    const char *name, *asked, *limit;
  } cases[] = {
      {fixed, 12345, "a pair", "12345", "17"},
      {varied, 31, "a text", "31", "32"},
      {varied, 0, "a text", "0 ", "32"},
  };
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    for (int zeroed = 0; zeroed < 2; zeroed++) {
      text[0] = 0;
      mi_option_enable(mi_option_show_errors);
      mi_register_output(keep_text, text);
      ck_assert_ptr_null(
          zeroed ? mirt_new_sized_zeroed(mutator, cases[i].type, cases[i].size)
                 : mirt_new_sized(mutator, cases[i].type, cases[i].size));
      mi_register_output(output_discard, NULL);
      mi_option_disable(mi_option_show_errors);
      assert_errors(EINVAL, 1);
      ck_assert_msg(strstr(text, "mirt_new_sized") != NULL &&
                        strstr(text, cases[i].name) != NULL &&
                        strstr(text, cases[i].asked) != NULL &&
                        strstr(text, cases[i].limit) != NULL &&
                        strchr(text, '\n') == text + strlen(text) - 1,
                    "%s", text);
    }
  }
  mi_option_set(mi_option_max_errors, most);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* ---- main ---- */

#define LAYOUTS ((int)COUNT_OF(layouts))

int main(void) {
  Suite *suite = suite_create("runtime");
  TCase *runtimes = case_begin(suite, "runtimes");
  tcase_add_loop_test(runtimes, test_create, 0, LAYOUTS);
  tcase_add_test(runtimes, test_create_defaults);
  tcase_add_test(runtimes, test_create_errors);
  tcase_add_loop_test(runtimes, test_destroy_is_busy, 0, 2);
  tcase_add_test(runtimes, test_runtimes_share_nothing);
  tcase_add_test(runtimes, test_thousands_leave_nothing);
  TCase *types = case_begin(suite, "types");
  tcase_add_test(types, test_type_errors);
  tcase_add_test(types, test_type_of_cage);
  tcase_add_test(types, test_type_record);
  tcase_add_test(types, test_type_limit);
  tcase_add_test(types, test_most_types);
  tcase_add_test(types, test_types_have_own_pages);
  tcase_add_test(types, test_sealed_types);
  tcase_add_test(types, test_tag_is_in_use);
  tcase_add_test(types, test_types_while_others_allocate);
  TCase *objects = case_begin(suite, "objects");
  tcase_add_loop_test(objects, test_exact_sizes, 0, LAYOUTS);
  tcase_add_test(objects, test_alignment);
  tcase_add_test(objects, test_pages_are_adopted_by_size);
  tcase_add_loop_test(objects, test_zeroed, 0, 2);
  tcase_add_test(objects, test_slack_is_zero);
  tcase_add_test(objects, test_sized);
  tcase_add_test(objects, test_delete);
  tcase_add_test(objects, test_malloc_is_elsewhere);
  tcase_add_loop_test(objects, test_stats_model, 0, LAYOUTS);
  TCase *mutators = case_begin(suite, "mutators");
  tcase_add_test(mutators, test_wrong_mutator);
  tcase_add_loop_test(mutators, test_green_threads, 0, 2);
  tcase_add_loop_test(mutators, test_mutator_ends, 0, 2);
  tcase_add_test(mutators, test_mutator_is_used_again);
  TCase *budget = case_begin(suite, "budget");
  tcase_add_loop_test(budget, test_soft_limit, 0, (int)COUNT_OF(budget_sizes));
  tcase_add_loop_test(budget, test_soft_limit_collects, 0, 4);
  tcase_add_test(budget, test_soft_limit_and_delete);
  tcase_add_test(budget, test_soft_limit_is_counted);
  tcase_add_loop_test(budget, test_hard_limit, 0, (int)COUNT_OF(budget_sizes));
  tcase_add_test(budget, test_budget_set_and_grow);
  tcase_add_test(budget, test_soft_limit_of_threads);
  tcase_add_loop_test(budget, test_soft_limit_just_below, 0, (int)COUNT_OF(budget_sizes));
  tcase_add_loop_test(budget, test_hard_limit_is_tried_again, 0, 2);
  tcase_add_loop_test(budget, test_wasters_never_fail, 0, 2);
  tcase_add_test(budget, test_charge);
  tcase_add_test(budget, test_charge_of_threads);
  tcase_add_test(budget, test_charge_and_limits);
  TCase *roots = case_begin(suite, "forgotten roots");
  tcase_add_test(roots, test_call_always);
  tcase_add_test(roots, test_fill_dead);
  tcase_add_test(roots, test_fill_dead_and_finalizers);
  TCase *by_type = case_begin(suite, "by type");
  tcase_add_loop_test(by_type, test_type_stats_and_visit, 0, 2);
  TCase *errors = case_begin(suite, "errors");
  tcase_add_test(errors, test_immediate_errors);
  tcase_add_test(errors, test_no_allocation_in_collection);
  tcase_add_test(errors, test_destroy_in_collection);
  tcase_add_loop_test(errors, test_arena_of_runtime, 0, 2);
  tcase_add_test(errors, test_mutator_of_another_runtime);
  tcase_add_test(errors, test_messages);
  return suite_run(suite);
}
