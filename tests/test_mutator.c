/* test_mutator.c - owners that the program makes: binding them to threads and unbinding,
 * what is refused, heaps that move with them from thread to thread, threads that end with
 * one bound, what becomes of their blocks, and what of all that the child of a fork has.
 */
#include "test.h"

#include <sched.h>

#include <mirt.h>

#include "heap/owner.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- helpers ---- */

/* For threads and children, where Check does not hear of a failure: end the process. */
static _Noreturn void require_failed(int line, const char *text) {
  dprintf(STDERR_FILENO, "test_mutator.c:%d: '%s' is false\n", line, text);
  abort();
}

#define require(x) \
  do { \
    if (!(x)) require_failed(__LINE__, #x); \
  } while (0)

static mirt_mutator_t *mutator_new(void) {
  mirt_mutator_t *mutator = mirt_mutator_create();
  require(mutator != NULL);
  return mutator;
}

static void bind_mutator(mirt_mutator_t *mutator) {
  require(mirt_mutator_bind(mutator) == 0);
  require(mirt_mutator_current() == mutator);
}

static void unbind_mutator(mirt_mutator_t *mutator) {
  require(mirt_mutator_unbind(mutator) == 0);
  require(mirt_mutator_current() != mutator);
}

static void destroy_mutator(mirt_mutator_t *mutator) {
  require(mirt_mutator_destroy(mutator) == 0);
}

static mi_heap_t *heap_with_tag(int tag, bool allow_destroy) {
  mi_heap_t *heap = mi_heap_new_ex(tag, allow_destroy, 0);
  require(heap != NULL);
  return heap;
}

/* Of the tag, as the library counts it. */
static mirt_stats_t tag_stats(int tag) {
  mirt_stats_t stats;
  require(mirt_stats_tag(tag, &stats));
  return stats;
}

static size_t tag_pages(int tag) { return tag_stats(tag).pages; }

/* Owners, heaps and pages when the calling thread holds nothing that it does not need. */
struct census {
  int64_t owners, heaps, pages;
};

static struct census census_now(void) {
  mi_collect(true);
  const mi_stats_t now = stats_now();
  return (struct census){now.threads.current, now.heaps.current, now.pages.current};
}

#define assert_census(before) \
  do { \
    const struct census now = census_now(); \
    ck_assert_int_eq(now.owners, (before).owners); \
    ck_assert_int_eq(now.heaps, (before).heaps); \
    ck_assert_int_eq(now.pages, (before).pages); \
  } while (0)

static pthread_t thread_start(void *(*f)(void *), void *argument) {
  pthread_t thread;
  require(pthread_create(&thread, NULL, f, argument) == 0);
  return thread;
}

static void thread_wait(pthread_t thread) { require(pthread_join(thread, NULL) == 0); }

/* A thread with mutators bound that waits while the test does something. */
struct holder {
  pthread_t thread;
  pthread_barrier_t barrier;
  mirt_mutator_t *mutators[2]; /* one may be NULL */
};

static void *hold(void *argument) {
  struct holder *holder = argument;
  for (int i = 0; i < 2; i++) {
    if (holder->mutators[i] != NULL) bind_mutator(holder->mutators[i]);
  }
  pthread_barrier_wait(&holder->barrier);
  pthread_barrier_wait(&holder->barrier);
  for (int i = 2; i-- > 0;) {
    if (holder->mutators[i] != NULL) unbind_mutator(holder->mutators[i]);
  }
  return NULL;
}

/* Returns when they are bound. */
static void holder_begin(struct holder *holder, mirt_mutator_t *first,
                         mirt_mutator_t *second) {
  holder->mutators[0] = first;
  holder->mutators[1] = second;
  require(pthread_barrier_init(&holder->barrier, NULL, 2) == 0);
  holder->thread = thread_start(hold, holder);
  pthread_barrier_wait(&holder->barrier);
}

static void holder_end(struct holder *holder) {
  pthread_barrier_wait(&holder->barrier);
  thread_wait(holder->thread);
  pthread_barrier_destroy(&holder->barrier);
}

/* Can this program fork while it has several threads? */
static bool can_fork(void) {
  if (!TEST_THREAD_SANITIZER) return true;
  printf("skip: ThreadSanitizer ends the child of a process with threads\n");
  return false;
}

/* ---- blocks that know what they should hold ---- */

/* Its size in words, then its own address. */
static uintptr_t *parcel_new(mi_heap_t *heap, struct dice *dice) {
  const size_t words = dice_roll(dice, 500) == 0
                           ? 20000
                           : 2 + dice_roll(dice, (size_t)2 << dice_roll(dice, 8));
  const size_t size = words * sizeof(uintptr_t);
  uintptr_t *parcel = heap == NULL ? mi_malloc(size) : mi_heap_malloc(heap, size);
  require(parcel != NULL);
  parcel[0] = words;
  for (size_t i = 1; i < words; i++) parcel[i] = (uintptr_t)parcel;
  return parcel;
}

static void parcel_check(const uintptr_t *parcel) {
  for (size_t i = 1; i < parcel[0]; i++) require(parcel[i] == (uintptr_t)parcel);
}

/* Free a parcel, or nothing. */
static void parcel_end(uintptr_t *parcel) {
  if (parcel == NULL) return;
  parcel_check(parcel);
  memset(parcel, 0, 2 * sizeof(uintptr_t));
  mi_free(parcel);
}

/* A mutator that has a default heap and another, and blocks in both: of all kinds,
 * some live, some freed by itself and some by others. */
#define ESTATE_BLOCKS 3000

struct estate {
  mirt_mutator_t *mutator;
  mi_heap_t *heap;                 /* besides the default one */
  uintptr_t *mine[ESTATE_BLOCKS];  /* parcels of the default heap; NULL: freed */
  uintptr_t *other[ESTATE_BLOCKS]; /* of the other one */
  size_t mine_count, other_count;  /* that live */
};

/* Free a parcel with a chance of one in so many. Returns how many are left of it. */
static size_t free_some(uintptr_t **parcels, struct dice *dice, size_t chance) {
  size_t left = 0;
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    if (parcels[i] == NULL) continue;
    left++;
    if (dice_roll(dice, chance) != 0) continue;
    parcel_end(parcels[i]);
    parcels[i] = NULL;
    left--;
  }
  return left;
}

static void estate_free_some(struct estate *estate, struct dice *dice, size_t chance) {
  estate->mine_count = free_some(estate->mine, dice, chance);
  estate->other_count = free_some(estate->other, dice, chance);
}

/* Fill what is free; the mutator is bound. */
static void estate_fill(struct estate *estate, struct dice *dice) {
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    if (estate->mine[i] == NULL) estate->mine[i] = parcel_new(NULL, dice);
    if (estate->other[i] == NULL) estate->other[i] = parcel_new(estate->heap, dice);
  }
}

/* Make one, with a heap of a tag; its mutator is bound nowhere. */
static struct estate *estate_new(int tag, uint64_t number) {
  struct dice dice = dice_new(number);
  struct estate *estate = calloc(1, sizeof *estate);
  require(estate != NULL);
  estate->mutator = mutator_new();
  bind_mutator(estate->mutator);
  estate->heap = heap_with_tag(tag, false);
  estate_fill(estate, &dice);
  estate_free_some(estate, &dice, 2);
  estate_fill(estate, &dice);
  estate_free_some(estate, &dice, 3);
  unbind_mutator(estate->mutator);
  estate_free_some(estate, &dice, 4);
  return estate;
}

static void estate_check(const struct estate *estate) {
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    if (estate->mine[i] != NULL) parcel_check(estate->mine[i]);
    if (estate->other[i] != NULL) parcel_check(estate->other[i]);
  }
}

/* The mutator is bound here, with all that it had. */
static void estate_check_bound(const struct estate *estate) {
  require(mirt_mutator_current() == estate->mutator);
  mi_heap_t *mine = mi_heap_get_default();
  require(mine != estate->heap && mine == mi_heap_get_backing());
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    const uintptr_t *p = estate->mine[i], *q = estate->other[i];
    require(p == NULL || (mi_heap_check_owned(mine, p) && mi_check_owned(p)));
    require(q == NULL || (mi_heap_check_owned(estate->heap, q) && !mi_check_owned(q)));
    require(q == NULL ||
            (mi_heap_of(q) == estate->heap && !mi_heap_check_owned(mine, q)));
  }
  estate_check(estate);
}

/* Free what is left, by whoever calls; the mutator has been destroyed, or will be. */
static void estate_delete(struct estate *estate) {
  struct dice dice = dice_new(0);
  estate_free_some(estate, &dice, 1);
  free(estate);
}

/* ---- what a visitor has been shown ---- */

struct seen {
  const void *blocks[2 * ESTATE_BLOCKS];
  size_t count;
  size_t used; /* as the areas have it */
  const mi_heap_t *only_heap;
};

static bool see(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                size_t block_size, void *argument) {
  struct seen *seen = argument;
  require(seen->only_heap == NULL || heap == seen->only_heap);
  require(block_size == area->block_size);
  if (block == NULL) {
    seen->used += area->used;
  } else {
    require(seen->count < COUNT_OF(seen->blocks));
    seen->blocks[seen->count++] = block;
  }
  return true;
}

static bool see_one(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                    size_t block_size, void *argument) {
  see(heap, area, block, block_size, argument);
  return block == NULL;
}

static int compare_addresses(const void *a, const void *b) {
  const uintptr_t left = *(const uintptr_t *)a, right = *(const uintptr_t *)b;
  return left < right ? -1 : left > right;
}

/* It has seen these blocks, all of them, each once, and forgets them. */
static void require_seen(struct seen *seen, const struct estate *estate, bool mine,
                         bool other) {
  static const void *expected[2 * ESTATE_BLOCKS];
  size_t count = 0;
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    if (mine && estate->mine[i] != NULL) expected[count++] = estate->mine[i];
    if (other && estate->other[i] != NULL) expected[count++] = estate->other[i];
  }
  require(seen->count == count && seen->used == count);
  qsort(expected, count, sizeof *expected, compare_addresses);
  qsort(seen->blocks, count, sizeof *seen->blocks, compare_addresses);
  for (size_t i = 0; i < count; i++) require(seen->blocks[i] == expected[i]);
  *seen = (struct seen){.count = 0};
}

/* ---- create, bind, unbind, destroy ---- */

START_TEST(create_and_destroy) {
  const struct census before = census_now();
  mirt_mutator_t *mutator = mutator_new();
  const struct census with = census_now();
  ck_assert_int_eq(with.owners, before.owners + 1);
  ck_assert_int_eq(with.heaps, before.heaps);
  ck_assert_int_eq(with.pages, before.pages);
  ck_assert_ptr_null(mirt_mutator_current());
  destroy_mutator(mutator);
  assert_census(before);
  ck_assert_uint_lt(sizeof(struct owner), 200); /* as the header says */
  assert_no_errors();
}
END_TEST

/* A mutator without an allocation has no heap, bound or not. */
START_TEST(binding_makes_no_heap) {
  const struct census before = census_now();
  mirt_mutator_t *mutator = mutator_new();
  bind_mutator(mutator);
  mi_free(NULL);
  ck_assert_int_eq(stats_now().heaps.current, before.heaps);
  unbind_mutator(mutator);
  ck_assert_int_eq(stats_now().heaps.current, before.heaps);
  bind_mutator(mutator);
  mi_free(mi_malloc(1));
  ck_assert_int_eq(stats_now().heaps.current, before.heaps + 1);
  unbind_mutator(mutator);
  destroy_mutator(mutator);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* An owner's default and backing heap, and a block from the one and the other. */
struct home {
  mi_heap_t *heap, *backing;
  void *block;
};

static struct home home_now(void) {
  const struct home home = {mi_heap_get_default(), mi_heap_get_backing(), mi_malloc(40)};
  require(home.heap != NULL && home.backing != NULL);
  require(mi_heap_of(home.block) == home.heap && mi_check_owned(home.block));
  return home;
}

/* The calling thread's current owner is the one that had this home. */
static void assert_home(struct home home) {
  ck_assert_ptr_eq(mi_heap_get_default(), home.heap);
  ck_assert_ptr_eq(mi_heap_get_backing(), home.backing);
  ck_assert(mi_check_owned(home.block));
  void *p = mi_malloc(3000);
  ck_assert_ptr_eq(mi_heap_of(p), home.heap);
  mi_free(p);
}

START_TEST(bindings_nest) {
  mirt_mutator_t *a = mutator_new(), *b = mutator_new();
  const struct home own = home_now();
  ck_assert_ptr_null(mirt_mutator_current());
  ck_assert_int_eq(mirt_mutator_bind(a), 0);
  ck_assert_ptr_eq(mirt_mutator_current(), a);
  const struct home of_a = home_now();
  ck_assert_int_eq(mirt_mutator_bind(b), 0);
  ck_assert_ptr_eq(mirt_mutator_current(), b);
  const struct home of_b = home_now();
  ck_assert_ptr_ne(own.heap, of_a.heap);
  ck_assert_ptr_ne(own.heap, of_b.heap);
  ck_assert_ptr_ne(of_a.heap, of_b.heap);
  assert_home(of_b);
  ck_assert_int_eq(mirt_mutator_unbind(b), 0);
  ck_assert_ptr_eq(mirt_mutator_current(), a);
  assert_home(of_a);
  ck_assert_int_eq(mirt_mutator_bind(b), 0);
  assert_home(of_b);
  ck_assert_int_eq(mirt_mutator_unbind(b), 0);
  assert_home(of_a);
  ck_assert_int_eq(mirt_mutator_unbind(a), 0);
  ck_assert_ptr_null(mirt_mutator_current());
  assert_home(own);
  /* In the other order, on this thread. */
  bind_mutator(b);
  bind_mutator(a);
  assert_home(of_a);
  unbind_mutator(a);
  assert_home(of_b);
  unbind_mutator(b);
  assert_home(own);
  destroy_mutator(a);
  destroy_mutator(b);
  mi_free(own.block);
  mi_free(of_a.block);
  mi_free(of_b.block);
  assert_no_errors();
}
END_TEST

/* Deeper than anybody needs. */
START_TEST(bindings_nest_deeply) {
  static mirt_mutator_t *mutators[500];
  const struct census before = census_now();
  void *blocks[COUNT_OF(mutators)];
  for (size_t i = 0; i < COUNT_OF(mutators); i++) {
    mutators[i] = mutator_new();
    bind_mutator(mutators[i]);
    blocks[i] = mi_malloc(10);
  }
  for (size_t i = COUNT_OF(mutators); i-- > 0;) {
    assert_quick(mi_check_owned(blocks[i]));
    mi_free(blocks[i]);
    unbind_mutator(mutators[i]);
    assert_quick(mirt_mutator_current() == (i == 0 ? NULL : mutators[i - 1]));
    destroy_mutator(mutators[i]);
  }
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* ---- what is refused ---- */

static struct report {
  char text[2000];
  size_t lines;
} report;

static void report_record(const char *text, void *argument) {
  (void)argument;
  strncat(report.text, text, sizeof report.text - strlen(report.text) - 1);
  for (const char *c = text; *c != 0; c++) report.lines += *c == '\n';
}

/* The next call is refused; what the calling thread and the process have is this. */
static struct refusal {
  mirt_mutator_t *current;
  mi_heap_t *heap;
  mi_stats_t stats;
} refusal;

static void refusal_begin(void) {
  report = (struct report){.lines = 0};
  mi_register_output(report_record, NULL);
  refusal.current = mirt_mutator_current();
  refusal.heap = mi_heap_get_default();
  refusal.stats = stats_now();
}

static void refusal_end(int code, const char *function) {
  ck_assert_uint_eq(report.lines, 1);
  char start[100];
  snprintf(start, sizeof start, "mirt: error: %s: ", function);
  ck_assert_msg(strncmp(report.text, start, strlen(start)) == 0, "%s", report.text);
  ck_assert_int_eq(report.text[strlen(report.text) - 1], '\n');
  assert_errors(code, 1);
  mi_register_output(output_discard, NULL);
  const mi_stats_t now = stats_now();
  ck_assert_mem_eq(&now, &refusal.stats, sizeof now);
  ck_assert_ptr_eq(mirt_mutator_current(), refusal.current);
  ck_assert_ptr_eq(mi_heap_get_default(), refusal.heap);
}

/* A call of a function with a mutator fails with a code, reports that in one line and
 * through the registered function, and changes nothing. */
#define assert_refused(function, mutator, code) \
  do { \
    refusal_begin(); \
    ck_assert_int_eq(function(mutator), (code)); \
    refusal_end((code), #function); \
  } while (0)

START_TEST(no_mutator_is_refused) {
  assert_refused(mirt_mutator_bind, NULL, EINVAL);
  assert_refused(mirt_mutator_unbind, NULL, EINVAL);
  assert_refused(mirt_mutator_destroy, NULL, EINVAL);
  mirt_mutator_t *mutator = mutator_new();
  bind_mutator(mutator); /* the same under a mutator */
  assert_refused(mirt_mutator_bind, NULL, EINVAL);
  assert_refused(mirt_mutator_unbind, NULL, EINVAL);
  assert_refused(mirt_mutator_destroy, NULL, EINVAL);
  unbind_mutator(mutator);
  destroy_mutator(mutator);
}
END_TEST

START_TEST(bound_here_is_refused) {
  mirt_mutator_t *a = mutator_new(), *b = mutator_new();
  bind_mutator(a);
  assert_refused(mirt_mutator_bind, a, EBUSY);
  assert_refused(mirt_mutator_destroy, a, EBUSY);
  bind_mutator(b);
  assert_refused(mirt_mutator_bind, a, EBUSY); /* also where it is not current */
  assert_refused(mirt_mutator_destroy, a, EBUSY);
  assert_refused(mirt_mutator_bind, b, EBUSY);
  assert_refused(mirt_mutator_destroy, b, EBUSY);
  unbind_mutator(b);
  unbind_mutator(a);
  destroy_mutator(a);
  destroy_mutator(b);
}
END_TEST

START_TEST(bound_elsewhere_is_refused) {
  struct holder holder;
  mirt_mutator_t *a = mutator_new(), *b = mutator_new(), *c = mutator_new();
  holder_begin(&holder, a, b);
  for (int i = 0; i < 2; i++) {
    assert_refused(mirt_mutator_bind, a, EBUSY);
    assert_refused(mirt_mutator_bind, b, EBUSY);
    assert_refused(mirt_mutator_destroy, a, EBUSY);
    assert_refused(mirt_mutator_destroy, b, EBUSY);
    assert_refused(mirt_mutator_unbind, a, EPERM);
    assert_refused(mirt_mutator_unbind, b, EPERM);
    if (i == 0) bind_mutator(c); /* the same under a mutator */
  }
  unbind_mutator(c);
  holder_end(&holder);
  bind_mutator(a);
  unbind_mutator(a);
  destroy_mutator(a);
  destroy_mutator(b);
  destroy_mutator(c);
  assert_no_errors();
}
END_TEST

START_TEST(unbind_out_of_order_is_refused) {
  mirt_mutator_t *a = mutator_new(), *b = mutator_new(), *never = mutator_new();
  assert_refused(mirt_mutator_unbind, a, EPERM);
  bind_mutator(a);
  bind_mutator(b);
  assert_refused(mirt_mutator_unbind, a, EPERM);
  assert_refused(mirt_mutator_unbind, never, EPERM);
  unbind_mutator(b);
  assert_refused(mirt_mutator_unbind, b, EPERM);
  assert_refused(mirt_mutator_unbind, never, EPERM);
  unbind_mutator(a);
  assert_refused(mirt_mutator_unbind, a, EPERM);
  destroy_mutator(a);
  destroy_mutator(b);
  destroy_mutator(never);
}
END_TEST

static void *refuse_without_owner(void *argument) {
  mirt_mutator_t *mutator = argument;
  require(mirt_mutator_unbind(mutator) == EPERM && mirt_mutator_unbind(NULL) == EINVAL);
  require(mirt_mutator_bind(NULL) == EINVAL && mirt_mutator_destroy(NULL) == EINVAL);
  require(mirt_mutator_current() == NULL && current.owner == NULL);
  return NULL;
}

START_TEST(refusals_in_a_thread_without_owner) {
  mirt_mutator_t *mutator = mutator_new();
  const mi_stats_t before = stats_now();
  thread_run(refuse_without_owner, mutator);
  ck_assert_uint_eq(errors_of(EPERM), 1);
  ck_assert_uint_eq(errors_of(EINVAL), 3);
  ck_assert_uint_eq(errors_total(), 4);
  const mi_stats_t after = stats_now();
  ck_assert_mem_eq(&before, &after, sizeof before);
  destroy_mutator(mutator);
}
END_TEST

/* ---- heaps of a mutator ---- */

START_TEST(heaps_belong_to_what_is_bound) {
  mirt_mutator_t *mutator = mutator_new();
  mi_heap_t *own = mi_heap_new();
  void *own_block = mi_heap_malloc(own, 100);
  bind_mutator(mutator);
  mi_heap_t *heap = mi_heap_new();
  void *p = mi_heap_malloc(heap, 100);
  ck_assert_ptr_eq(mi_heap_of(p), heap);
  ck_assert(mi_heap_check_owned(heap, p));
  ck_assert(mi_heap_contains_block(heap, p));
  ck_assert(!mi_check_owned(p)); /* the default heap is another */
  ck_assert(!mi_heap_check_owned(own, p));
  ck_assert(mi_heap_check_owned(own, own_block));

  /* The thread's own heap is not the mutator's. */
  mi_heap_delete(own);
  assert_errors(EPERM, 1);
  mi_heap_destroy(own);
  assert_errors(EPERM, 1);
  ck_assert_ptr_null(mi_heap_set_default(own));
  assert_errors(EINVAL, 1);
  mi_free(own_block); /* but blocks are everybody's */
  assert_no_errors();

  unbind_mutator(mutator);
  mi_heap_delete(heap);
  assert_errors(EPERM, 1);
  mi_heap_destroy(heap);
  assert_errors(EPERM, 1);
  ck_assert_ptr_null(mi_heap_set_default(heap));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_eq(mi_heap_of(p), heap);
  ck_assert(mi_heap_check_owned(heap, p));
  mi_free(p);
  mi_heap_destroy(own);
  destroy_mutator(mutator);
  assert_no_errors();
}
END_TEST

START_TEST(default_heap_stays_with_the_mutator) {
  mirt_mutator_t *a = mutator_new(), *b = mutator_new();
  mi_heap_t *own = mi_heap_new();
  mi_heap_t *before = mi_heap_set_default(own);
  bind_mutator(a);
  ck_assert_ptr_ne(mi_heap_get_default(), own);
  mi_heap_t *heap = mi_heap_new();
  ck_assert_ptr_eq(mi_heap_set_default(heap), mi_heap_get_backing());
  bind_mutator(b);
  ck_assert_ptr_ne(mi_heap_get_default(), heap);
  unbind_mutator(b);
  ck_assert_ptr_eq(mi_heap_get_default(), heap);
  unbind_mutator(a);
  ck_assert_ptr_eq(mi_heap_get_default(), own);
  bind_mutator(b);
  bind_mutator(a); /* under another one now */
  void *p = mi_malloc(70);
  ck_assert_ptr_eq(mi_heap_of(p), heap);
  mi_free(p);
  mi_heap_destroy(heap);
  ck_assert_ptr_eq(mi_heap_get_default(), mi_heap_get_backing());
  unbind_mutator(a);
  unbind_mutator(b);
  ck_assert_ptr_eq(mi_heap_get_default(), own);
  ck_assert_ptr_eq(mi_heap_set_default(before), own);
  mi_heap_destroy(own);
  destroy_mutator(a);
  destroy_mutator(b);
  assert_no_errors();
}
END_TEST

/* Go on with an estate: use, free and allocate in it. */
static void *estate_go_on(void *argument) {
  struct estate *estate = argument;
  struct dice dice = dice_new((uintptr_t)estate->mine_count);
  bind_mutator(estate->mutator);
  estate_check_bound(estate);
  estate_free_some(estate, &dice, 3);
  estate_fill(estate, &dice);
  estate_check_bound(estate);
  for (size_t i = 0; i < ESTATE_BLOCKS; i += 10) { /* grow, move, shrink */
    const size_t words = 2 + dice_roll(&dice, 300);
    uintptr_t *p = mi_heap_realloc(estate->heap, estate->other[i], words * 8);
    require(p != NULL && mi_heap_of(p) == estate->heap);
    p[0] = words;
    for (size_t j = 1; j < words; j++) p[j] = (uintptr_t)p;
    estate->other[i] = p;
  }
  estate_free_some(estate, &dice, 2);
  if (dice_roll(&dice, 2) == 0) mi_collect(dice_roll(&dice, 2) == 0);
  estate_check_bound(estate);
  unbind_mutator(estate->mutator);
  return NULL;
}

START_TEST(heaps_are_used_in_other_threads) {
  const struct census before = census_now();
  struct estate *estate = estate_new(31, 1);
  struct dice dice = dice_new(2);
  for (int i = 0; i < TEST_ROUNDS(24); i++) {
    thread_run(estate_go_on, estate);
    estate_free_some(estate, &dice, 5); /* here it is bound nowhere */
    if (i % 3 == 0) estate_go_on(estate);
  }
  destroy_mutator(estate->mutator);
  estate_delete(estate);
  assert_census(before);
  ck_assert_uint_eq(tag_pages(31), 0);
  assert_no_errors();
}
END_TEST

struct ending {
  mirt_mutator_t *mutator;
  mi_heap_t *heap;
  bool destroys;
};

static void *end_heap(void *argument) {
  const struct ending *ending = argument;
  bind_mutator(ending->mutator);
  if (ending->destroys) {
    mi_heap_destroy(ending->heap);
  } else {
    mi_heap_delete(ending->heap);
  }
  unbind_mutator(ending->mutator);
  return NULL;
}

/* Loop test: deleted, and destroyed. */
START_TEST(heaps_end_in_other_threads) {
  enum { TAG = 32, COUNT = 4000 };
  static uintptr_t *parcels[COUNT];
  const bool destroys = _i == 1;
  const struct census before = census_now();
  struct dice dice = dice_new(3);
  struct ending ending = {.mutator = mutator_new(), .destroys = destroys};
  bind_mutator(ending.mutator);
  ending.heap = heap_with_tag(TAG, destroys);
  mi_heap_set_default(ending.heap);
  for (size_t i = 0; i < COUNT; i++) parcels[i] = parcel_new(NULL, &dice);
  unbind_mutator(ending.mutator);
  const size_t pages = tag_pages(TAG);
  ck_assert_uint_gt(pages, 10);
  thread_run(end_heap, &ending);
  if (destroys) {
    ck_assert_uint_eq(tag_pages(TAG), 0);
    ck_assert_uint_eq(mi_usable_size(parcels[0]), 0);
  } else {
    const mirt_stats_t stats = tag_stats(TAG);
    ck_assert_uint_eq(stats.abandoned, stats.pages);
    ck_assert_uint_eq(stats.pages, pages);
    ck_assert_uint_eq(stats.live_blocks, COUNT);
    ck_assert_ptr_null(mi_heap_of(parcels[0]));
    for (size_t i = 0; i < COUNT; i++) parcel_end(parcels[i]);
    ck_assert_uint_eq(tag_pages(TAG), 0);
  }
  bind_mutator(ending.mutator); /* its default heap is gone: it has the backing one */
  ck_assert_ptr_eq(mi_heap_get_default(), mi_heap_get_backing());
  unbind_mutator(ending.mutator);
  destroy_mutator(ending.mutator);
  assert_census(before);
  assert_no_errors();
}
END_TEST

static void *delete_in_arena(void *argument) {
  struct ending *ending = argument;
  end_heap(ending);
  return NULL;
}

/* The heap of a mutator that is bound nowhere keeps its arena. */
START_TEST(heap_in_an_arena_moves) {
  mi_arena_id_t id = 0;
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 << 20, false, false, true, &id), 0);
  struct ending ending = {.mutator = mutator_new(), .destroys = true};
  bind_mutator(ending.mutator);
  ending.heap = mi_heap_new_ex(0, true, id);
  ck_assert_ptr_nonnull(ending.heap);
  ck_assert(mi_arena_contains(id, mi_heap_malloc(ending.heap, 100)));
  unbind_mutator(ending.mutator);
  ck_assert_int_eq(mirt_arena_destroy(id), EBUSY);
  assert_errors(EBUSY, 1);
  thread_run(delete_in_arena, &ending);
  ck_assert_int_eq(mirt_arena_destroy(id), 0);
  destroy_mutator(ending.mutator);
  assert_no_errors();
}
END_TEST

/* What a thread did while a mutator was bound there is seen by the next one: the
 * mutator is all that these threads have in common. */
struct counted {
  mirt_mutator_t *mutator;
  long count;    /* not atomic */
  long *in_heap; /* a block of it */
};

#define COUNTED_TURNS 2000

static void *count_while_bound(void *argument) {
  struct counted *counted = *(struct counted **)argument;
  for (int turns = 0; turns < COUNTED_TURNS;) {
    if (mirt_mutator_bind(counted->mutator) != 0) {
      sched_yield();
      continue;
    }
    counted->count++;
    long *p = mi_malloc(sizeof *p);
    *p = *counted->in_heap + 1;
    mi_free(counted->in_heap);
    counted->in_heap = p;
    turns++;
    unbind_mutator(counted->mutator);
  }
  return NULL;
}

START_TEST(bound_to_one_thread_at_a_time) {
  static struct counted counted;
  counted =
      (struct counted){.mutator = mutator_new(), .in_heap = mi_zalloc(sizeof(long))};
  struct counted *arguments[] = {&counted, &counted, &counted, &counted};
  threads_run(4, count_while_bound, arguments, sizeof *arguments);
  ck_assert_int_eq(counted.count, 4 * COUNTED_TURNS);
  ck_assert_int_eq(*counted.in_heap, 4 * COUNTED_TURNS);
  mi_free(counted.in_heap);
  destroy_mutator(counted.mutator);
  ck_assert_uint_eq(errors_total(), errors_of(EBUSY));
}
END_TEST

/* ---- threads that end ---- */

struct leaver {
  struct estate *estates[2]; /* one may be NULL */
  bool has_own_heap;
  bool calls_done; /* mi_thread_done, and goes on */
};

static void *leave_bound(void *argument) {
  const struct leaver *leaver = argument;
  void *own = leaver->has_own_heap ? mi_malloc(100) : NULL;
  for (int i = 0; i < 2; i++) {
    if (leaver->estates[i] == NULL) continue;
    bind_mutator(leaver->estates[i]->mutator);
    estate_check_bound(leaver->estates[i]);
    mi_heap_set_default(leaver->estates[i]->heap);
  }
  mi_free(own);
  if (!leaver->calls_done) return NULL;
  mi_thread_done();
  require(mirt_mutator_current() == NULL && current.owner == NULL);
  for (int i = 0; i < 2; i++) { /* here too they are free again */
    if (leaver->estates[i] == NULL) continue;
    bind_mutator(leaver->estates[i]->mutator);
    require(mi_heap_get_default() == leaver->estates[i]->heap);
    unbind_mutator(leaver->estates[i]->mutator);
  }
  mi_free(mi_malloc(10)); /* and it can start anew */
  return NULL;
}

/* Loop test: with one mutator bound or two; in a thread that has a heap of its own or
 * not; that ends, or says so. */
START_TEST(thread_end_unbinds) {
  const bool two = (_i & 1) != 0;
  const struct census before = census_now();
  const struct leaver leaver = {
      .estates = {estate_new(33, 4), two ? estate_new(33, 5) : NULL},
      .has_own_heap = (_i & 2) != 0,
      .calls_done = (_i & 4) != 0};
  const struct census with = census_now();
  thread_run(leave_bound, (void *)&leaver);
  assert_census(with);
  for (int i = 0; i < 2; i++) {
    struct estate *estate = leaver.estates[i];
    if (estate == NULL) continue;
    bind_mutator(estate->mutator);
    ck_assert_ptr_eq(mi_heap_get_default(), estate->heap); /* as it was set there */
    mi_heap_set_default(mi_heap_get_backing());
    estate_check_bound(estate);
    unbind_mutator(estate->mutator);
    thread_run(estate_go_on, estate);
    destroy_mutator(estate->mutator);
    estate_delete(estate);
  }
  assert_census(before);
  assert_no_errors();
}
END_TEST

static void *use_bound_only(void *argument) {
  mirt_mutator_t *mutator = argument;
  require(mirt_mutator_current() == NULL && current.owner == NULL);
  const mi_stats_t before = stats_now();
  bind_mutator(mutator);
  void *p = mi_malloc(50), *large = mi_malloc(500000);
  require(p != NULL && large != NULL && mi_check_owned(p));
  mi_free(p);
  mi_free(large);
  require(current_reader == &current.owner->reader);
  unbind_mutator(mutator);
  require(mirt_mutator_current() == NULL && current.owner == NULL);
  require(current_reader == NULL); /* another thread may use the mutator's now */
  const mi_stats_t after = stats_now();
  require(after.threads.current == before.threads.current);
  require(after.heaps.current == before.heaps.current + 1); /* the mutator's */
  return NULL;
}

START_TEST(thread_without_heap_binds) {
  const struct census before = census_now();
  mirt_mutator_t *mutator = mutator_new();
  thread_run(use_bound_only, mutator);
  destroy_mutator(mutator);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* Destructors of thread-local data that come after the library's own. */
static pthread_key_t late_key;

struct late {
  mirt_mutator_t *mutator;
  int turns;
  void *block;
};

static void bind_late(void *argument) {
  struct late *late = argument;
  bind_mutator(late->mutator);
  mi_free(late->block);
  late->block = mi_malloc(200);
  require(mi_check_owned(late->block));
  /* The first time it stays bound, and the library is called again after that. */
  if (late->turns++ > 0) unbind_mutator(late->mutator);
  if (late->turns < 3) require(pthread_setspecific(late_key, late) == 0);
}

static void *end_with_late_binding(void *argument) {
  require(pthread_setspecific(late_key, argument) == 0);
  mi_free(mi_malloc(1));
  return NULL;
}

START_TEST(destructors_bind) {
  const struct census before = census_now();
  struct late late = {.mutator = mutator_new()};
  ck_assert_int_eq(pthread_key_create(&late_key, bind_late), 0);
  thread_run(end_with_late_binding, &late);
  pthread_key_delete(late_key);
  ck_assert_int_eq(late.turns, 3);
  bind_mutator(late.mutator);
  ck_assert(mi_check_owned(late.block));
  unbind_mutator(late.mutator);
  mi_free(late.block);
  destroy_mutator(late.mutator);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* ---- blocks of a mutator that is bound nowhere ---- */

enum { IDLE_SIZE = 64, IDLE_BLOCKS = 20000, IDLE_LARGE = 5 };

struct idle {
  mirt_mutator_t *mutator;
  mi_heap_t *heap;
  void *blocks[IDLE_BLOCKS];
  void *large[IDLE_LARGE];
};

static void idle_fill(struct idle *idle, int tag) {
  idle->mutator = mutator_new();
  bind_mutator(idle->mutator);
  idle->heap = heap_with_tag(tag, false);
  for (size_t i = 0; i < IDLE_BLOCKS; i++) {
    idle->blocks[i] = mi_heap_zalloc(idle->heap, IDLE_SIZE);
    require(idle->blocks[i] != NULL);
  }
  for (size_t i = 0; i < IDLE_LARGE; i++) {
    idle->large[i] = mi_heap_zalloc(idle->heap, 400000);
    require(idle->large[i] != NULL);
  }
  unbind_mutator(idle->mutator);
}

static void *idle_free(void *argument) {
  struct idle *idle = argument;
  for (size_t i = 0; i < IDLE_BLOCKS; i++) mi_free(idle->blocks[i]);
  for (size_t i = 0; i < IDLE_LARGE; i++) mi_free(idle->large[i]);
  return NULL;
}

/* Loop test: freed by the thread in which they were made, or by another one; while the
 * mutator is bound nowhere, or in a thread that does nothing. Only the page that the
 * mutator would allocate from next waits for it. */
START_TEST(pages_come_back_at_once) {
  enum { TAG = 34 };
  static struct idle idle;
  const struct census before = census_now();
  struct holder holder;
  idle_fill(&idle, TAG);
  ck_assert_uint_ge(tag_pages(TAG), IDLE_LARGE + IDLE_BLOCKS * IDLE_SIZE / 65536);
  if ((_i & 2) != 0) holder_begin(&holder, idle.mutator, NULL);
  if ((_i & 1) == 0) {
    idle_free(&idle);
  } else {
    thread_run(idle_free, &idle);
  }
  const mirt_stats_t stats = tag_stats(TAG);
  ck_assert_uint_le(stats.pages, 1);
  ck_assert_uint_eq(stats.live_blocks, 0);
  ck_assert_int_le(stats_now().pages.current, before.pages + 1);
  if ((_i & 2) != 0) holder_end(&holder);
  destroy_mutator(idle.mutator);
  ck_assert_uint_eq(tag_pages(TAG), 0);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* What others have freed meanwhile is found by the mutator when it goes on. */
START_TEST(freed_blocks_are_used_again) {
  enum { TAG = 35 };
  static struct idle idle;
  idle_fill(&idle, TAG);
  const size_t pages = tag_pages(TAG);
  for (size_t i = 0; i < IDLE_BLOCKS; i += 2) mi_free(idle.blocks[i]);
  ck_assert_uint_eq(tag_pages(TAG), pages);
  bind_mutator(idle.mutator);
  for (size_t i = 0; i < IDLE_BLOCKS; i += 2) {
    idle.blocks[i] = mi_heap_malloc(idle.heap, IDLE_SIZE);
    assert_quick(idle.blocks[i] != NULL);
  }
  unbind_mutator(idle.mutator);
  ck_assert_uint_eq(tag_stats(TAG).live_blocks, IDLE_BLOCKS + IDLE_LARGE);
  ck_assert_uint_le(tag_pages(TAG), pages + pages / 8);
  idle_free(&idle);
  destroy_mutator(idle.mutator);
  ck_assert_uint_eq(tag_pages(TAG), 0);
  assert_no_errors();
}
END_TEST

/* ---- destroyed mutators ---- */

static void *destroy_elsewhere(void *argument) {
  destroy_mutator(argument);
  return NULL;
}

/* Adopt what there is of a tag: returns the mutator that has it, bound nowhere, and
 * the heap. */
static mirt_mutator_t *adopt(int tag, size_t size, size_t count, void **blocks) {
  mirt_mutator_t *mutator = mutator_new();
  bind_mutator(mutator);
  mi_heap_t *heap = heap_with_tag(tag, false);
  for (size_t i = 0; i < count; i++) {
    blocks[i] = mi_heap_malloc(heap, size);
    require(blocks[i] != NULL);
  }
  unbind_mutator(mutator);
  return mutator;
}

START_TEST(destroying_leaves_live_pages) {
  enum { TAG = 36, MORE = IDLE_BLOCKS / 4 };
  static struct idle idle;
  static void *more[MORE];
  const struct census before = census_now();
  idle_fill(&idle, TAG);
  for (size_t i = 0; i < IDLE_BLOCKS; i += 2) { /* half of each page */
    mi_free(idle.blocks[i]);
    idle.blocks[i] = NULL;
  }
  const size_t pages = tag_pages(TAG);
  thread_run(destroy_elsewhere, idle.mutator);
  mirt_stats_t stats = tag_stats(TAG);
  ck_assert_uint_eq(stats.pages, pages);
  ck_assert_uint_eq(stats.abandoned, pages);
  ck_assert_uint_eq(stats.live_blocks, IDLE_BLOCKS / 2 + IDLE_LARGE);
  for (size_t i = 1; i < IDLE_BLOCKS; i += 2) {
    assert_quick(bytes_are(idle.blocks[i], IDLE_SIZE, 0));
    assert_quick(mi_heap_of(idle.blocks[i]) == NULL);
    assert_quick(mi_usable_size(idle.blocks[i]) == IDLE_SIZE);
  }
  /* Others go on in those pages. */
  const size_t adopted = stats.adopted;
  mirt_mutator_t *mutator = adopt(TAG, IDLE_SIZE, MORE, more);
  stats = tag_stats(TAG);
  ck_assert_uint_eq(stats.pages, pages);
  ck_assert_uint_gt(stats.adopted, adopted);
  ck_assert_uint_lt(stats.abandoned, pages);
  idle_free(&idle);
  for (size_t i = 0; i < MORE; i++) mi_free(more[i]);
  ck_assert_uint_le(tag_pages(TAG), 1);
  destroy_mutator(mutator);
  ck_assert_uint_eq(tag_pages(TAG), 0);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* Heaps that could be destroyed are deleted too: what they hold stays valid. */
START_TEST(destroying_deletes_destroyable_heaps) {
  enum { TAG = 37 };
  const struct census before = census_now();
  struct dice dice = dice_new(6);
  uintptr_t *parcels[200];
  mirt_mutator_t *mutator = mutator_new();
  bind_mutator(mutator);
  mi_heap_t *heap = heap_with_tag(TAG, true);
  for (size_t i = 0; i < COUNT_OF(parcels); i++) parcels[i] = parcel_new(heap, &dice);
  unbind_mutator(mutator);
  thread_run(destroy_elsewhere, mutator);
  ck_assert_uint_eq(tag_stats(TAG).live_blocks, COUNT_OF(parcels));
  for (size_t i = 0; i < COUNT_OF(parcels); i++) parcel_end(parcels[i]);
  ck_assert_uint_eq(tag_pages(TAG), 0);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* A mutator is of the sub-process of the thread that makes it. */
struct family {
  mi_subproc_id_t id;
  mirt_mutator_t *mutators[2];
};

static void *make_family(void *argument) {
  struct family *family = argument;
  mi_subproc_add_current_thread(family->id);
  for (int i = 0; i < 2; i++) family->mutators[i] = mutator_new();
  return NULL;
}

START_TEST(sub_processes_keep_to_themselves) {
  enum { TAG = 38, SIZE = 48, COUNT = 3000 };
  static void *blocks[COUNT], *more[COUNT];
  struct family family = {.id = mi_subproc_new()};
  thread_run(make_family, &family);
  bind_mutator(family.mutators[0]); /* in a thread of another sub-process */
  mi_heap_t *heap = heap_with_tag(TAG, false);
  for (size_t i = 0; i < COUNT; i++) {
    blocks[i] = mi_heap_malloc(heap, SIZE);
    assert_quick(blocks[i] != NULL);
  }
  unbind_mutator(family.mutators[0]);
  for (size_t i = 0; i < COUNT; i += 2) mi_free(blocks[i]);
  destroy_mutator(family.mutators[0]);
  const mirt_stats_t stats = tag_stats(TAG);
  ck_assert_uint_gt(stats.abandoned, 0);

  mirt_mutator_t *stranger = adopt(TAG, SIZE, COUNT / 4, more);
  ck_assert_uint_eq(tag_stats(TAG).adopted, stats.adopted);
  ck_assert_uint_eq(tag_stats(TAG).abandoned, stats.abandoned);
  for (size_t i = 0; i < COUNT / 4; i++) mi_free(more[i]);
  destroy_mutator(stranger);

  bind_mutator(family.mutators[1]);
  heap = heap_with_tag(TAG, false);
  mi_free(mi_heap_malloc(heap, SIZE));
  ck_assert_uint_gt(tag_stats(TAG).adopted, stats.adopted);
  unbind_mutator(family.mutators[1]);
  for (size_t i = 1; i < COUNT; i += 2) mi_free(blocks[i]);
  destroy_mutator(family.mutators[1]);
  ck_assert_uint_eq(tag_pages(TAG), 0);
  mi_subproc_delete(family.id);
  assert_no_errors();
}
END_TEST

/* A thread of a pool adopts nothing, whatever is bound to it; and a mutator that has
 * been bound there adopts elsewhere. */
struct pool {
  mirt_mutator_t *mutators[2];
  int tag;
};

static void use_tag_bound(mirt_mutator_t *mutator, int tag) {
  bind_mutator(mutator);
  mi_heap_t *heap = heap_with_tag(tag, false);
  mi_free(mi_heap_malloc(heap, IDLE_SIZE));
  unbind_mutator(mutator);
}

static void *work_in_pool(void *argument) {
  const struct pool *pool = argument;
  bind_mutator(pool->mutators[0]);
  mi_thread_set_in_threadpool();
  unbind_mutator(pool->mutators[0]);
  for (int i = 0; i < 2; i++) use_tag_bound(pool->mutators[i], pool->tag);
  return NULL;
}

START_TEST(thread_of_a_pool_does_not_adopt) {
  enum { TAG = 44 };
  static struct idle idle;
  idle_fill(&idle, TAG);
  for (size_t i = 0; i < IDLE_BLOCKS; i += 2) {
    mi_free(idle.blocks[i]);
    idle.blocks[i] = NULL;
  }
  destroy_mutator(idle.mutator);
  struct pool pool = {.mutators = {mutator_new(), mutator_new()}, .tag = TAG};
  thread_run(work_in_pool, &pool);
  ck_assert_uint_eq(tag_stats(TAG).adopted, 0);
  for (int i = 0; i < 2; i++) {
    const size_t adopted = tag_stats(TAG).adopted;
    use_tag_bound(pool.mutators[i], TAG);
    ck_assert_uint_gt(tag_stats(TAG).adopted, adopted);
    destroy_mutator(pool.mutators[i]);
  }
  idle_free(&idle);
  assert_no_errors();
}
END_TEST

/* ---- visiting, counting ---- */

/* Loop test: the mutator is bound here, to a thread that waits, or nowhere. */
START_TEST(visits_are_exact) {
  enum { TAG = 39 };
  static struct seen seen;
  struct holder holder;
  struct estate *estate = estate_new(TAG, 7);
  mirt_mutator_t *mutator = estate->mutator;
  if (_i == 0) bind_mutator(mutator);
  if (_i == 1) holder_begin(&holder, mutator, NULL);

  seen = (struct seen){.only_heap = estate->heap};
  ck_assert(mi_heap_visit_blocks(estate->heap, true, see, &seen));
  require_seen(&seen, estate, false, true);
  ck_assert(mirt_visit_owner_heaps(mutator, true, see, &seen));
  require_seen(&seen, estate, true, true);
  ck_assert(mirt_visit_tag(TAG, true, see, &seen));
  require_seen(&seen, estate, false, true);
  if (_i == 0) { /* NULL is the current one */
    ck_assert(mirt_visit_owner_heaps(NULL, true, see, &seen));
    require_seen(&seen, estate, true, true);
    ck_assert(mi_heap_visit_blocks(mi_heap_get_default(), true, see, &seen));
    require_seen(&seen, estate, true, false);
  }

  /* Areas only; a visitor that stops; none. */
  ck_assert(mirt_visit_owner_heaps(mutator, false, see, &seen));
  ck_assert_uint_eq(seen.count, 0);
  ck_assert_uint_eq(seen.used, estate->mine_count + estate->other_count);
  ck_assert(!mirt_visit_owner_heaps(mutator, true, see_one, &seen));
  ck_assert_uint_eq(seen.count, 1);
  ck_assert(!mirt_visit_owner_heaps(mutator, true, NULL, NULL));

  /* And it was only looked at. */
  if (_i == 1) holder_end(&holder);
  if (_i != 0) bind_mutator(mutator);
  estate_check_bound(estate);
  unbind_mutator(mutator);
  estate_go_on(estate);
  destroy_mutator(mutator);
  estate_delete(estate);
  assert_no_errors();
}
END_TEST

START_TEST(visit_of_nothing) {
  static struct seen seen;
  mirt_mutator_t *mutator = mutator_new();
  ck_assert(mirt_visit_owner_heaps(mutator, true, see, &seen));
  bind_mutator(mutator);
  ck_assert(mirt_visit_owner_heaps(NULL, true, see, &seen));
  void *p = mi_malloc(10);
  mi_free(p);
  ck_assert(mirt_visit_owner_heaps(NULL, true, see, &seen));
  ck_assert_uint_eq(seen.count, 0);
  unbind_mutator(mutator);
  destroy_mutator(mutator);
  assert_no_errors();
}
END_TEST

/* How many bytes of a heap are live. */
static size_t usable(uintptr_t **parcels) {
  size_t sum = 0;
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    if (parcels[i] != NULL) sum += mi_usable_size(parcels[i]);
  }
  return sum;
}

START_TEST(stats_of_a_heap_of_an_unbound_mutator) {
  enum { TAG = 40 };
  struct estate *estate = estate_new(TAG, 8);
  for (int round = 0; round < 3; round++) {
    mirt_stats_t stats;
    ck_assert(mirt_stats_heap(estate->heap, &stats));
    ck_assert_uint_eq(stats.live_blocks, estate->other_count);
    ck_assert_uint_eq(stats.live_bytes, usable(estate->other));
    const mirt_stats_t of_tag = tag_stats(TAG);
    ck_assert_uint_eq(stats.pages, of_tag.pages);
    ck_assert_uint_eq(stats.committed, of_tag.committed);
    ck_assert_uint_eq(stats.live_blocks, of_tag.live_blocks);
    ck_assert_uint_eq(stats.live_bytes, of_tag.live_bytes);
    ck_assert_uint_eq(stats.abandoned, 0);
    thread_run(estate_go_on, estate);
  }
  destroy_mutator(estate->mutator);
  estate_delete(estate);
  assert_no_errors();
}
END_TEST

/* ---- many ---- */

/* Mutators that threads bind as it happens, and a place through which blocks go from
 * one to the other. */
#define TRAFFIC_MUTATORS 1000
#define TRAFFIC_SLOTS 2000
#define TRAFFIC_THREADS 4
#define TRAFFIC_TAG 41

struct node {
  struct node *next;
  size_t number;
};

struct vehicle {
  mirt_mutator_t *mutator;
  mi_heap_t *parcels;
  mi_heap_t *nodes; /* can be destroyed */
  struct node *first;
  size_t node_count;
};

static struct traffic {
  struct vehicle vehicles[TRAFFIC_MUTATORS];
  size_t count;
  atomic_word slots[TRAFFIC_SLOTS];
  atomic_word stop, turns, refused;
} traffic;

/* The chain that has grown while the mutator was bound here and there. */
static void vehicle_check(const struct vehicle *vehicle) {
  size_t left = vehicle->node_count;
  for (const struct node *node = vehicle->first; node != NULL; node = node->next) {
    require(left-- == node->number);
  }
  require(left == 0);
}

static void vehicle_extend(struct vehicle *vehicle, struct dice *dice) {
  if (vehicle->nodes == NULL) vehicle->nodes = mi_heap_new();
  for (size_t i = dice_roll(dice, 20); i > 0; i--) {
    struct node *node = mi_heap_malloc_tp(vehicle->nodes, struct node);
    require(node != NULL);
    *node = (struct node){vehicle->first, ++vehicle->node_count};
    vehicle->first = node;
  }
  vehicle_check(vehicle);
  if (dice_roll(dice, 30) != 0) return;
  mi_heap_destroy(vehicle->nodes);
  vehicle->nodes = NULL;
  vehicle->first = NULL;
  vehicle->node_count = 0;
}

static void traffic_send(mi_heap_t *heap, struct dice *dice) {
  atomic_word *slot = &traffic.slots[dice_roll(dice, TRAFFIC_SLOTS)];
  uintptr_t *parcel = parcel_new(heap, dice);
  parcel_end((uintptr_t *)atomic_exchange_full(slot, (uintptr_t)parcel));
}

/* One turn with a mutator, which is bound now. */
static void vehicle_use(struct vehicle *vehicle, struct dice *dice) {
  if (vehicle->parcels == NULL) vehicle->parcels = heap_with_tag(TRAFFIC_TAG, false);
  for (size_t i = dice_roll(dice, 20); i > 0; i--) traffic_send(vehicle->parcels, dice);
  for (size_t i = dice_roll(dice, 10); i > 0; i--) traffic_send(NULL, dice);
  vehicle_extend(vehicle, dice);
  switch (dice_roll(dice, 200)) {
    case 0: mi_collect(false); break;
    case 1: mi_heap_collect(vehicle->parcels, true); break;
    case 2:
      mi_heap_delete(vehicle->parcels);
      vehicle->parcels = NULL;
      break;
  }
}

static void traffic_turn(struct dice *dice) {
  struct vehicle *vehicle = &traffic.vehicles[dice_roll(dice, traffic.count)];
  const int code = mirt_mutator_bind(vehicle->mutator);
  if (code == 0) {
    vehicle_use(vehicle, dice);
    unbind_mutator(vehicle->mutator);
  } else {
    require(code == EBUSY);
    atomic_fetch_add_full(&traffic.refused, 1);
  }
}

static void traffic_begin(size_t count) {
  memset(&traffic, 0, sizeof traffic);
  traffic.count = count;
  for (size_t i = 0; i < count; i++) traffic.vehicles[i].mutator = mutator_new();
}

/* Free what is on its way. */
static void traffic_empty_slots(void) {
  for (size_t i = 0; i < TRAFFIC_SLOTS; i++) {
    parcel_end((uintptr_t *)atomic_exchange_full(&traffic.slots[i], 0));
  }
}

static void traffic_end(void) {
  for (size_t i = 0; i < traffic.count; i++) {
    vehicle_check(&traffic.vehicles[i]);
    bind_mutator(traffic.vehicles[i].mutator);
    mi_heap_destroy(traffic.vehicles[i].nodes);
    unbind_mutator(traffic.vehicles[i].mutator);
    if (i % 2 == 0) destroy_mutator(traffic.vehicles[i].mutator);
  }
  traffic_empty_slots();
  for (size_t i = 1; i < traffic.count; i += 2)
    destroy_mutator(traffic.vehicles[i].mutator);
}

static void *drive(void *argument) {
  struct dice dice = dice_new(*(uint64_t *)argument);
  for (int i = 0; i < TEST_ROUNDS(20000); i++) traffic_turn(&dice);
  return NULL;
}

START_TEST(thousand_mutators_over_four_threads) {
  uint64_t numbers[TRAFFIC_THREADS];
  for (size_t i = 0; i < TRAFFIC_THREADS; i++) numbers[i] = 10 + i;
  const struct census before = census_now();
  traffic_begin(TRAFFIC_MUTATORS);
  threads_run(TRAFFIC_THREADS, drive, numbers, sizeof *numbers);
  ck_assert_uint_eq(errors_of(EBUSY), atomic_load_acquire(&traffic.refused));
  ck_assert_uint_eq(errors_total(), errors_of(EBUSY));
  traffic_end();
  ck_assert_uint_eq(tag_pages(TRAFFIC_TAG), 0);
  assert_census(before);
}
END_TEST

/* The same few mutators, so that most bindings meet another one. */
START_TEST(few_mutators_over_four_threads) {
  uint64_t numbers[TRAFFIC_THREADS];
  for (size_t i = 0; i < TRAFFIC_THREADS; i++) numbers[i] = 20 + i;
  const struct census before = census_now();
  traffic_begin(5);
  threads_run(TRAFFIC_THREADS, drive, numbers, sizeof *numbers);
  ck_assert_uint_eq(errors_of(EBUSY), atomic_load_acquire(&traffic.refused));
  ck_assert_uint_eq(errors_total(), errors_of(EBUSY));
  traffic_end();
  ck_assert_uint_eq(tag_pages(TRAFFIC_TAG), 0);
  assert_census(before);
}
END_TEST

/* ---- one after the other ---- */

enum life { LIFE_BARE, LIFE_BOUND, LIFE_USED, LIFE_KINDS };

static void live_once(enum life life) {
  mirt_mutator_t *mutator = mutator_new();
  if (life != LIFE_BARE) {
    bind_mutator(mutator);
    if (life == LIFE_USED) {
      mi_heap_t *heap = mi_heap_new();
      void *p = mi_malloc(100), *q = mi_heap_malloc(heap, 100);
      require(p != NULL && q != NULL);
      mi_free(p);
      mi_heap_destroy(heap);
    }
    unbind_mutator(mutator);
  }
  destroy_mutator(mutator);
}

static void *live_often(void *argument) {
  const enum life *life = argument;
  for (int i = 0; i < TEST_ROUNDS(50000); i++) live_once(*life);
  return NULL;
}

/* Loop test: a hundred thousand, by two threads at a time, of each kind. No memory is
 * taken for them but once. */
START_TEST(lives_take_no_memory) {
  enum life lives[2] = {(enum life)_i, (enum life)_i};
  const struct census before = census_now();
  mirt_mutator_t *most[10]; /* more at a time than there will be */
  for (size_t i = 0; i < COUNT_OF(most); i++) {
    most[i] = mutator_new();
    bind_mutator(most[i]);
    mi_free(mi_malloc(100));
    mi_heap_destroy(mi_heap_new());
  }
  for (size_t i = COUNT_OF(most); i-- > 0;) {
    unbind_mutator(most[i]);
    destroy_mutator(most[i]);
  }
  const mi_stats_t warm = stats_now();
  threads_run(2, live_often, lives, sizeof *lives);
  const mi_stats_t after = stats_now();
  ck_assert_int_eq(after.mmap_calls, warm.mmap_calls);
  ck_assert_int_eq(after.reserved.current, warm.reserved.current);
  ck_assert_int_le(after.page_bytes.peak, warm.page_bytes.peak);
  ck_assert_int_le(after.threads.peak, warm.threads.peak);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* Without memory there is no mutator; what there is goes on working. */
static void exhaust_mutators(void *argument) {
  mirt_mutator_t **mutators = argument;
  const struct rlimit none = {1, 1};
  require(setrlimit(RLIMIT_AS, &none) == 0);
  size_t count = 0;
  errno = 0;
  while (count < 100000 && (mutators[count] = mirt_mutator_create()) != NULL) count++;
  require(count > 0 && count < 100000 && errno == ENOMEM);
  require(errors_of(ENOMEM) > 0 && errors_of(ENOMEM) == errors_total());
  for (size_t i = 0; i < count; i++) {
    bind_mutator(mutators[i]);
    unbind_mutator(mutators[i]);
    destroy_mutator(mutators[i]);
  }
  mutators[0] = mutator_new();
  bind_mutator(mutators[0]);
  while (mi_heap_new() != NULL) continue;
  require(errno == ENOMEM);
  unbind_mutator(mutators[0]);
  destroy_mutator(mutators[0]);
}

START_TEST(no_memory) {
  static mirt_mutator_t *mutators[100001];
  if (TEST_HAS_SHADOW) return; /* they need address space of their own */
  ck_assert_int_eq(child_run(exhaust_mutators, mutators), 0);
}
END_TEST

/* ---- the deferred-free callback ---- */

static struct deferred {
  mirt_mutator_t *mutator;
  bool stays_bound;
  int calls, depth, deepest;
  void *blocks[50];
  size_t count;
} deferred;

/* Allocates with another owner, and frees. */
static void free_deferred(bool force, unsigned long long heartbeat, void *argument) {
  (void)force, (void)heartbeat;
  require(argument == &deferred);
  deferred.calls++;
  if (++deferred.depth > deferred.deepest) deferred.deepest = deferred.depth;
  if (deferred.depth == 1 && deferred.mutator != NULL &&
      mirt_mutator_bind(deferred.mutator) == 0) {
    for (size_t i = 0; i < COUNT_OF(deferred.blocks); i++) {
      mi_free(deferred.blocks[i]);
      deferred.blocks[i] = mi_malloc(1000 + 100 * (size_t)deferred.calls % 20000);
      require(mi_check_owned(deferred.blocks[i]));
    }
    if (!deferred.stays_bound) unbind_mutator(deferred.mutator);
  }
  deferred.depth--;
}

static void deferred_begin(bool stays_bound) {
  deferred = (struct deferred){.mutator = mutator_new(), .stays_bound = stays_bound};
  mi_register_deferred_free(free_deferred, &deferred);
}

static void deferred_end(void) {
  mi_register_deferred_free(NULL, NULL);
  for (size_t i = 0; i < COUNT_OF(deferred.blocks); i++) mi_free(deferred.blocks[i]);
  destroy_mutator(deferred.mutator);
}

START_TEST(deferred_free_binds_and_unbinds) {
  static uintptr_t *parcels[5000];
  struct dice dice = dice_new(30);
  mi_heap_t *own = mi_heap_get_default();
  const struct census before = census_now();
  mi_heap_t *heap = mi_heap_new();
  deferred_begin(false);
  for (size_t i = 0; i < COUNT_OF(parcels); i++) {
    parcels[i] = parcel_new(i % 2 == 0 ? heap : NULL, &dice);
    assert_quick(mi_heap_of(parcels[i]) == (i % 2 == 0 ? heap : own));
    assert_quick(mirt_mutator_current() == NULL);
  }
  mi_collect(true);
  ck_assert_int_gt(deferred.calls, 10);
  ck_assert_int_eq(deferred.deepest, 1); /* not again while it runs in the same thread */
  deferred_end();
  for (size_t i = 0; i < COUNT_OF(parcels); i++) parcel_end(parcels[i]);
  mi_heap_destroy(heap);
  assert_census(before);
  assert_no_errors();
}
END_TEST

static unsigned long long heartbeats[100];

static void record_heartbeat(bool force, unsigned long long heartbeat, void *argument) {
  (void)force, (void)argument;
  require(deferred.calls < (int)COUNT_OF(heartbeats));
  heartbeats[deferred.calls++] = heartbeat;
}

/* The callback is told how many calls there were in the thread, whatever is bound. */

START_TEST(heartbeats_are_counted_by_thread) {
  mirt_mutator_t *a = mutator_new(), *b = mutator_new();
  deferred.calls = 0;
  mi_register_deferred_free(record_heartbeat, NULL);
  for (int round = 0; round < 10; round++) {
    mi_collect(false);
    bind_mutator(a);
    mi_collect(false);
    bind_mutator(b);
    mi_collect(true);
    mi_collect(false);
    unbind_mutator(b);
    unbind_mutator(a);
  }
  mi_register_deferred_free(NULL, NULL);
  ck_assert_int_ge(deferred.calls, 40);
  for (int i = 1; i < deferred.calls; i++) {
    ck_assert_uint_eq(heartbeats[i], heartbeats[i - 1] + 1);
  }
  destroy_mutator(a);
  destroy_mutator(b);
  assert_no_errors();
}
END_TEST

/* The call that was under way ends in the heap it was for; from there on the mutator is
 * current. */
START_TEST(deferred_free_leaves_a_mutator_bound) {
  static uintptr_t *parcels[2000];
  struct dice dice = dice_new(31);
  mi_heap_t *own = mi_heap_get_default();
  const struct census before = census_now();
  for (int round = 0; round < 20; round++) {
    deferred_begin(true);
    size_t count = 0;
    while (mirt_mutator_current() == NULL) {
      assert_quick(count < COUNT_OF(parcels));
      parcels[count++] = parcel_new(own, &dice);
      assert_quick(mi_heap_of(parcels[count - 1]) == own);
    }
    ck_assert_ptr_eq(mirt_mutator_current(), deferred.mutator);
    ck_assert_ptr_ne(mi_heap_get_default(), own);
    parcel_end(parcels[--count]); /* by an owner that is not its own */
    unbind_mutator(deferred.mutator);
    ck_assert_ptr_eq(mi_heap_get_default(), own);
    deferred_end();
    while (count > 0) parcel_end(parcels[--count]);
  }
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* ---- fork ---- */

/* What there is at a fork: the chain of the thread that forks, a mutator bound to another
 * thread, and one bound nowhere. */
struct birth {
  struct estate *chain[2], *elsewhere, *nowhere;
  bool has_own_heap;
};

enum { FORK_TAG = 42, ELSEWHERE_TAG = 43 };

static void use_estate_once(struct estate *estate) {
  struct dice dice = dice_new(40);
  estate_check_bound(estate);
  estate_free_some(estate, &dice, 2);
  estate_fill(estate, &dice);
  estate_check_bound(estate);
}

/* In the child, and in the parent after it. The bindings are those of the fork. */
static void use_chain(struct birth *birth) {
  require(mirt_mutator_current() == birth->chain[1]->mutator);
  use_estate_once(birth->chain[1]);
  unbind_mutator(birth->chain[1]->mutator);
  require(mirt_mutator_current() == birth->chain[0]->mutator);
  use_estate_once(birth->chain[0]);
  unbind_mutator(birth->chain[0]->mutator);
  require(mirt_mutator_current() == NULL);
  require((current.owner != NULL) == birth->has_own_heap);
  estate_go_on(birth->nowhere);
  bind_mutator(birth->chain[0]->mutator);
  bind_mutator(birth->chain[1]->mutator);
}

static void live_in_child(void *argument) {
  struct birth *birth = argument;
  use_chain(birth);
  require(errors_total() == 0);

  /* Its thread is not here: it stays bound, and its blocks can be freed. */
  mirt_mutator_t *lost = birth->elsewhere->mutator;
  require(mirt_mutator_bind(lost) == EBUSY && mirt_mutator_destroy(lost) == EBUSY);
  require(mirt_mutator_unbind(lost) == EPERM);
  require(errors_total() == 3);
  estate_check(birth->elsewhere);
  require(tag_stats(ELSEWHERE_TAG).abandoned == tag_pages(ELSEWHERE_TAG));
  require(tag_stats(ELSEWHERE_TAG).live_blocks == birth->elsewhere->other_count);
  estate_delete(birth->elsewhere);
  require(tag_pages(ELSEWHERE_TAG) == 0);

  /* The others can end, and new ones are made. */
  unbind_mutator(birth->chain[1]->mutator);
  unbind_mutator(birth->chain[0]->mutator);
  struct estate *fresh = estate_new(FORK_TAG, 41);
  struct estate *all[] = {birth->chain[0], birth->chain[1], birth->nowhere, fresh};
  for (size_t i = 0; i < COUNT_OF(all); i++) {
    estate_go_on(all[i]);
    destroy_mutator(all[i]->mutator);
    estate_delete(all[i]);
  }
  require(tag_pages(FORK_TAG) == 0);
  require(errors_total() == 3);
}

static void *fork_with_bindings(void *argument) {
  struct birth *birth = argument;
  if (birth->has_own_heap) mi_thread_init();
  bind_mutator(birth->chain[0]->mutator);
  bind_mutator(birth->chain[1]->mutator);
  for (int i = 0; i < 2; i++) {
    require(child_run(live_in_child, birth) == 0);
    use_chain(birth); /* the parent has noticed nothing */
  }
  unbind_mutator(birth->chain[1]->mutator);
  unbind_mutator(birth->chain[0]->mutator);
  return NULL;
}

/* Loop test: in a thread with or without an owner of its own. */
START_TEST(fork_with_mutators_bound) {
  if (!can_fork()) return;
  const struct census before = census_now();
  struct holder holder;
  struct birth birth = {.elsewhere = estate_new(ELSEWHERE_TAG, 44),
                        .nowhere = estate_new(FORK_TAG, 45),
                        .has_own_heap = _i == 0};
  for (size_t i = 0; i < 2; i++) birth.chain[i] = estate_new(FORK_TAG, 46 + i);
  holder_begin(&holder, birth.elsewhere->mutator, NULL);
  thread_run(fork_with_bindings, &birth);
  holder_end(&holder);
  struct estate *all[] = {birth.chain[0], birth.chain[1], birth.nowhere, birth.elsewhere};
  for (size_t i = 0; i < COUNT_OF(all); i++) {
    estate_go_on(all[i]);
    destroy_mutator(all[i]->mutator);
    estate_delete(all[i]);
  }
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* Mutators go from thread to thread, and come and go, while the process forks. */
static void *drive_until_stopped(void *argument) {
  struct dice dice = dice_new(*(uint64_t *)argument);
  while (atomic_load_acquire(&traffic.stop) == 0) {
    traffic_turn(&dice);
    live_once(LIFE_USED);
    atomic_fetch_add_full(&traffic.turns, 1);
  }
  return NULL;
}

/* A mutator is lost or whole. */
static void drive_in_child(void *argument) {
  struct dice dice = dice_new(*(uint64_t *)argument);
  errors_clear();
  size_t lost = 0;
  traffic_empty_slots();
  for (size_t i = 0; i < traffic.count; i++) {
    struct vehicle *vehicle = &traffic.vehicles[i];
    if (mirt_mutator_bind(vehicle->mutator) == EBUSY) {
      lost++;
      continue;
    }
    vehicle_check(vehicle);
    for (int round = 0; round < 20; round++) vehicle_use(vehicle, &dice);
    mi_heap_destroy(vehicle->nodes);
    unbind_mutator(vehicle->mutator);
    destroy_mutator(vehicle->mutator);
    live_once(LIFE_USED);
  }
  traffic_empty_slots();
  require(lost <= TRAFFIC_THREADS - 1);
  require(errors_total() == lost);
}

START_TEST(forks_while_mutators_move) {
  if (!can_fork()) return;
  pthread_t threads[TRAFFIC_THREADS - 1];
  uint64_t numbers[COUNT_OF(threads)];
  const struct census before = census_now();
  traffic_begin(10);
  for (size_t i = 0; i < COUNT_OF(threads); i++) {
    numbers[i] = 50 + i;
    threads[i] = thread_start(drive_until_stopped, &numbers[i]);
  }
  for (uint64_t i = 0; i < TEST_ROUNDS(80); i++) {
    const uintptr_t turns = atomic_load_acquire(&traffic.turns);
    while (atomic_load_acquire(&traffic.turns) == turns) sched_yield();
    ck_assert_int_eq(child_run(drive_in_child, &i), 0);
  }
  atomic_store_release(&traffic.stop, 1);
  for (size_t i = 0; i < COUNT_OF(threads); i++) thread_wait(threads[i]);
  traffic_end();
  assert_census(before);
  ck_assert_uint_eq(errors_total(), atomic_load_acquire(&traffic.refused));
}
END_TEST

/* ---- the end of the process ---- */

static bool looks_at_end;

/* In a child of the next test: after the library's own. */
__attribute__((destructor)) static void look_at_end(void) {
  if (!looks_at_end) return;
  const mi_stats_t now = stats_now();
  require(now.pages.current == 0 && now.heaps.current == 0);
  _exit(0);
}

static void end_process(void *argument) {
  const bool is_bound = *(bool *)argument;
  mi_option_set(mi_option_destroy_on_exit, 1);
  struct estate *estate = estate_new(0, 60);
  mi_heap_t *own = mi_heap_new();
  require(mi_heap_malloc(own, 100) != NULL && mi_malloc(100) != NULL);
  if (is_bound) bind_mutator(estate->mutator);
  looks_at_end = true;
  exit(1); /* look_at_end says with what */
}

/* Loop test: with a mutator that is bound, or not. On request all is given back. */
START_TEST(process_end_destroys) {
  if (!can_fork()) return;
  bool is_bound = _i == 0;
  ck_assert_int_eq(child_run(end_process, &is_bound), 0);
}
END_TEST

/* ---- main ---- */

int main(void) {
  mi_option_set(mi_option_max_errors, -1); /* each error is a line, however many */
  Suite *suite = suite_create("mutator");
  TCase *c = case_begin(suite, "binding");
  tcase_add_test(c, create_and_destroy);
  tcase_add_test(c, binding_makes_no_heap);
  tcase_add_test(c, bindings_nest);
  tcase_add_test(c, bindings_nest_deeply);
  c = case_begin(suite, "refusals");
  tcase_add_test(c, no_mutator_is_refused);
  tcase_add_test(c, bound_here_is_refused);
  tcase_add_test(c, bound_elsewhere_is_refused);
  tcase_add_test(c, unbind_out_of_order_is_refused);
  tcase_add_test(c, refusals_in_a_thread_without_owner);
  c = case_begin(suite, "heaps");
  tcase_add_test(c, heaps_belong_to_what_is_bound);
  tcase_add_test(c, default_heap_stays_with_the_mutator);
  tcase_add_test(c, heaps_are_used_in_other_threads);
  tcase_add_loop_test(c, heaps_end_in_other_threads, 0, 2);
  tcase_add_test(c, heap_in_an_arena_moves);
  tcase_add_test(c, bound_to_one_thread_at_a_time);
  c = case_begin(suite, "threads that end");
  tcase_add_loop_test(c, thread_end_unbinds, 0, 8);
  tcase_add_test(c, thread_without_heap_binds);
  tcase_add_test(c, destructors_bind);
  c = case_begin(suite, "bound nowhere");
  tcase_add_loop_test(c, pages_come_back_at_once, 0, 4);
  tcase_add_test(c, freed_blocks_are_used_again);
  c = case_begin(suite, "destroyed");
  tcase_add_test(c, destroying_leaves_live_pages);
  tcase_add_test(c, destroying_deletes_destroyable_heaps);
  tcase_add_test(c, sub_processes_keep_to_themselves);
  tcase_add_test(c, thread_of_a_pool_does_not_adopt);
  c = case_begin(suite, "visits and numbers");
  tcase_add_loop_test(c, visits_are_exact, 0, 3);
  tcase_add_test(c, visit_of_nothing);
  tcase_add_test(c, stats_of_a_heap_of_an_unbound_mutator);
  c = case_begin(suite, "many");
  tcase_add_test(c, thousand_mutators_over_four_threads);
  tcase_add_test(c, few_mutators_over_four_threads);
  tcase_add_loop_test(c, lives_take_no_memory, 0, LIFE_KINDS);
  tcase_add_test(c, no_memory);
  c = case_begin(suite, "deferred free");
  tcase_add_test(c, deferred_free_binds_and_unbinds);
  tcase_add_test(c, heartbeats_are_counted_by_thread);
  tcase_add_test(c, deferred_free_leaves_a_mutator_bound);
  c = case_begin(suite, "fork");
  tcase_add_loop_test(c, fork_with_mutators_bound, 0, 2);
  tcase_add_test(c, forks_while_mutators_move);
  c = case_begin(suite, "the end of the process");
  tcase_add_loop_test(c, process_end_destroys, 0, 2);
  return suite_run(suite);
}
