/* test_process.c - what happens to a process and its threads around the allocator: forks
 * of a busy process, threads that end in every way and in any number, the library loaded
 * and unloaded, and the end of the process itself.
 *
 * What can happen only once in a process happens in another one: the program runs itself
 * with the name of a role as its argument. The shared libraries are looked for in the
 * .libs of $top_builddir; tests that need one which is not there say so and do nothing.
 */
#include "test.h"

#include <dlfcn.h>
#include <limits.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>

#include <mirt.h>

#include "arena/arena.h"
#include "base/bits.h"
#include "heap/owner.h"
#include "os/os.h"

extern char **environ;

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- helpers ---- */

/* Pages in use when the calling thread holds none that it does not need. */
static int64_t pages_settled(void) {
  mi_collect(true);
  return pages_now();
}

static void set_purge_delay(long milliseconds, long factor) {
  mi_option_set(mi_option_purge_delay, milliseconds);
  mi_option_set(mi_option_arena_purge_mult, factor);
}

static pthread_t thread_start(void *(*f)(void *), void *argument) {
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, f, argument), 0);
  return thread;
}

static void thread_wait(pthread_t thread) {
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* Threads arrive and are let go on together, however many there are. */
struct gate {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  size_t arrived;
  bool is_open;
};

#define GATE_CLOSED \
  { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false }

static void gate_arrive(struct gate *gate) {
  pthread_mutex_lock(&gate->mutex);
  gate->arrived++;
  pthread_cond_broadcast(&gate->changed);
  while (!gate->is_open) pthread_cond_wait(&gate->changed, &gate->mutex);
  pthread_mutex_unlock(&gate->mutex);
}

static void gate_await(struct gate *gate, size_t count) {
  pthread_mutex_lock(&gate->mutex);
  while (gate->arrived < count) pthread_cond_wait(&gate->changed, &gate->mutex);
  pthread_mutex_unlock(&gate->mutex);
}

static void gate_open(struct gate *gate) {
  pthread_mutex_lock(&gate->mutex);
  gate->is_open = true;
  pthread_cond_broadcast(&gate->changed);
  pthread_mutex_unlock(&gate->mutex);
}

/* A block that knows what it should hold: its size in words, then its own address. */
/* In a heap, or in the default one for NULL. */
static uintptr_t *parcel_new(mi_heap_t *heap, struct dice *dice) {
  const size_t words = dice_roll(dice, 300) == 0
                           ? 20000
                           : 2 + dice_roll(dice, (size_t)2 << dice_roll(dice, 9));
  const size_t size = words * sizeof(uintptr_t);
  uintptr_t *parcel = heap == NULL ? mi_malloc(size) : mi_heap_malloc(heap, size);
  if (parcel == NULL) abort();
  parcel[0] = words;
  for (size_t i = 1; i < words; i++) parcel[i] = (uintptr_t)parcel;
  return parcel;
}

static bool parcel_is_whole(const uintptr_t *parcel) {
  for (size_t i = 1; i < parcel[0]; i++) {
    if (parcel[i] != (uintptr_t)parcel) return false;
  }
  return true;
}

/* Free a parcel, or nothing. Returns false if it was damaged. */
static bool parcel_end(uintptr_t *parcel) {
  if (parcel == NULL) return true;
  const bool is_whole = parcel_is_whole(parcel);
  memset(parcel, 0, 2 * sizeof(uintptr_t));
  mi_free(parcel);
  return is_whole;
}

/* ---- a busy process ---- */

/* Threads that trade blocks, make heaps, threads and arenas, and purge, until stopped. */
#define SLOTS 128
#define BUSY_KINDS 4

struct busy {
  atomic_word stop;
  atomic_word slots[SLOTS]; /* parcels on their way from thread to thread */
  atomic_word rounds[BUSY_KINDS];
  atomic_word failures;
  pthread_t threads[BUSY_KINDS];
};

static struct busy busy;

static void busy_check(bool is_well) {
  if (!is_well) atomic_fetch_add_full(&busy.failures, 1);
}

/* Put a parcel where any thread may take it, and end the one that was there. */
static void busy_send(mi_heap_t *heap, struct dice *dice) {
  atomic_word *slot = &busy.slots[dice_roll(dice, SLOTS)];
  uintptr_t *parcel = parcel_new(heap, dice);
  busy_check(parcel_end((uintptr_t *)atomic_exchange_full(slot, (uintptr_t)parcel)));
}

static void busy_trade(struct dice *dice) {
  for (int i = 0; i < 100; i++) busy_send(mi_heap_get_default(), dice);
  mi_collect(dice_roll(dice, 8) == 0);
}

/* A heap that leaves its blocks behind. */
static void busy_make_heap(struct dice *dice) {
  mi_heap_t *heap = mi_heap_new_ex((int)dice_roll(dice, 3), false, 0);
  for (int i = 0; i < 30; i++) busy_send(heap, dice);
  mi_heap_delete(heap);
}

static void *send_some(void *argument) {
  struct dice dice = dice_new((uintptr_t)argument);
  for (int i = 0; i < 20; i++) busy_send(mi_heap_get_default(), &dice);
  return NULL;
}

static void busy_make_thread(struct dice *dice) {
  pthread_t thread;
  const uintptr_t number = 1000 + dice_roll(dice, 1000);
  if (pthread_create(&thread, NULL, send_some, (void *)number) != 0) return;
  pthread_join(thread, NULL);
}

/* Reserve an arena, use it and give it up. Returns whether all went well. */
static bool use_new_arena(void) {
  mi_arena_id_t id = 0;
  if (mi_reserve_os_memory_ex(32 * MiB, false, false, true, &id) != 0) {
    return false;
  }
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  for (size_t size = 16; heap != NULL && size < MiB; size *= 2) {
    void *p = mi_heap_malloc(heap, size);
    if (p == NULL || !mi_arena_contains(id, p)) return false;
    memset(p, 1, size);
    if (size > 1000) mi_free(p);
  }
  mi_heap_destroy(heap);
  return heap != NULL && mirt_arena_destroy(id) == 0;
}

static void busy_make_arena(struct dice *dice) {
  busy_check(use_new_arena());
  busy_send(mi_heap_get_default(), dice);
}

static void (*const busy_kinds[BUSY_KINDS])(struct dice *) = {
    busy_trade, busy_make_heap, busy_make_thread, busy_make_arena};

static void *be_busy(void *argument) {
  const size_t kind = (uintptr_t)argument;
  struct dice dice = dice_new(kind);
  while (atomic_load_acquire(&busy.stop) == 0) {
    busy_kinds[kind](&dice);
    atomic_fetch_add_full(&busy.rounds[kind], 1);
  }
  return NULL;
}

/* Returns when each thread has done something. */
static void busy_begin(void) {
  memset(&busy, 0, sizeof busy);
  set_purge_delay(1, 1);
  for (size_t i = 0; i < BUSY_KINDS; i++) {
    busy.threads[i] = thread_start(be_busy, (void *)i);
  }
  for (size_t i = 0; i < BUSY_KINDS; i++) {
    while (atomic_load_acquire(&busy.rounds[i]) == 0) sched_yield();
  }
}

/* Take what the slots hold. Returns false if something was damaged. */
static bool busy_empty_slots(void) {
  bool is_well = true;
  for (size_t i = 0; i < SLOTS; i++) {
    is_well &= parcel_end((uintptr_t *)atomic_exchange_full(&busy.slots[i], 0));
  }
  return is_well;
}

static void busy_end(void) {
  atomic_store_release(&busy.stop, 1);
  for (size_t i = 0; i < BUSY_KINDS; i++) thread_wait(busy.threads[i]);
  ck_assert(busy_empty_slots());
  ck_assert_uint_eq(atomic_load_acquire(&busy.failures), 0);
  set_purge_delay(10, 10);
}

/* ---- children ---- */

/* In a child nobody listens to Check: print what is wrong, and end. */
static _Noreturn void child_fail(int line, const char *text) {
  dprintf(STDERR_FILENO, "test_process.c:%d: in a child: '%s' is false\n", line, text);
  _exit(1);
}

#define child_require(x) \
  do { \
    if (!(x)) child_fail(__LINE__, #x); \
  } while (0)

/* Run f in a child, which ends with 0 when f returns and by SIGALRM when it does not.
 * Returns the wait status, or -1. Also for children. */
static int forked(void (*f)(void *), void *argument) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGALRM, SIG_DFL); /* Check's handler would end the whole group */
    alarm(60);
    f(argument);
    _exit(0);
  }
  int status = -1;
  while (child > 0 && waitpid(child, &status, 0) != child) {
    if (errno != EINTR) return -1;
  }
  return status;
}

/* Can this program fork while it has several threads? */
static bool can_fork(void) {
  if (!TEST_THREAD_SANITIZER) return true;
  printf("skip: ThreadSanitizer ends the child of a process with threads\n");
  return false;
}

#define INHERITED 300

/* What a child is born with. */
struct birth {
  uintptr_t *parcels[INHERITED]; /* of the thread that forks */
  int generation, last_generation;
};

static void birth_prepare(struct birth *birth, uint64_t number) {
  struct dice dice = dice_new(number);
  for (size_t i = 0; i < INHERITED; i++) {
    birth->parcels[i] = parcel_new(mi_heap_get_default(), &dice);
  }
}

static bool birth_end(struct birth *birth) {
  bool is_well = true;
  for (size_t i = 0; i < INHERITED; i++) is_well &= parcel_end(birth->parcels[i]);
  return is_well;
}

static bool use_default_heap(uint64_t number) {
  struct dice dice = dice_new(number);
  uintptr_t *parcels[50] = {NULL};
  bool is_well = true;
  for (int i = 0; i < 500; i++) {
    uintptr_t **parcel = &parcels[dice_roll(&dice, COUNT_OF(parcels))];
    is_well &= parcel_end(*parcel);
    *parcel = parcel_new(NULL, &dice);
  }
  for (size_t i = 0; i < COUNT_OF(parcels); i++) is_well &= parcel_end(parcels[i]);
  char *zeroed = mi_zalloc(100000);
  is_well &= zeroed != NULL && bytes_are(zeroed, 100000, 0);
  mi_free(zeroed);
  return is_well;
}

/* One heap that goes with its blocks, and one that leaves a few. */
static bool use_heaps(void) {
  mi_heap_t *heaps[] = {mi_heap_new(), mi_heap_new_ex(5, false, 0)};
  void *kept[10];
  for (size_t i = 0; i < 1000; i++) {
    void *p = mi_heap_zalloc(heaps[i % 2], 16 * (1 + i % 50));
    if (p == NULL || mi_heap_of(p) != heaps[i % 2]) return false;
    if (i % 2 == 1 && i / 2 < COUNT_OF(kept)) kept[i / 2] = p;
  }
  mi_heap_collect(heaps[0], true);
  mi_heap_destroy(heaps[0]);
  mi_heap_delete(heaps[1]);
  for (size_t i = 0; i < COUNT_OF(kept); i++) mi_free(kept[i]);
  return true;
}

static void *use_default_heap_in_thread(void *argument) {
  return use_default_heap((uintptr_t)argument) ? NULL : argument;
}

/* Have threads that work at the same time. */
static bool use_threads(void) {
  pthread_t threads[2];
  void *result;
  bool is_well = true;
  for (uintptr_t i = 0; i < 2; i++) {
    void *argument = (void *)(i + 10);
    if (pthread_create(&threads[i], NULL, use_default_heap_in_thread, argument) != 0) {
      return false;
    }
  }
  for (size_t i = 0; i < 2; i++) {
    is_well &= pthread_join(threads[i], &result) == 0 && result == NULL;
  }
  return is_well;
}

/* What a child can do: everything that its parent can. */
static void live(void *argument) {
  struct birth *birth = argument;
  child_require(birth_end(birth));
  child_require(busy_empty_slots());
  child_require(use_default_heap((uint64_t)birth->generation));
  child_require(use_heaps());
  /* The lock that AddressSanitizer has for its threads may be held at a fork. */
  if (!TEST_ADDRESS_SANITIZER) child_require(use_threads());
  child_require(use_new_arena());
  mi_collect(true);
  child_require(errors_total() == 0);
  if (birth->generation == birth->last_generation) return;
  birth->generation++;
  birth_prepare(birth, (uint64_t)birth->generation);
  child_require(forked(live, birth) == 0);
  child_require(birth_end(birth));
  child_require(use_default_heap(1));
}

START_TEST(forks_of_a_busy_process) {
  static struct birth birth;
  if (!can_fork()) return;
  busy_begin();
  birth_prepare(&birth, 100);
  for (int i = 0; i < TEST_ROUNDS(200); i++) {
    birth.last_generation = i % 8 == 0 ? 1 : 0;
    ck_assert_int_eq(forked(live, &birth), 0);
  }
  ck_assert(birth_end(&birth));
  ck_assert(use_default_heap(1));
  busy_end();
  assert_no_errors();
}
END_TEST

/* Forks, but has never allocated: its child has no owner at first. */
static void *fork_without_owner(void *argument) {
  static const struct birth nothing;
  struct birth *birth = argument;
  for (int i = 0; i < TEST_ROUNDS(40); i++) {
    *birth = nothing;
    if (forked(live, birth) != 0 || current.owner != NULL) return argument;
  }
  return NULL;
}

START_TEST(forks_from_a_thread_without_blocks) {
  static struct birth birth;
  if (!can_fork()) return;
  busy_begin();
  void *result;
  ck_assert_int_eq(pthread_join(thread_start(fork_without_owner, &birth), &result), 0);
  ck_assert_ptr_null(result);
  busy_end();
  assert_no_errors();
}
END_TEST

/* Each generation has the threads' debris of all before it. */
START_TEST(generations_of_forks) {
  static struct birth birth;
  if (!can_fork()) return;
  busy_begin();
  for (int i = 0; i < TEST_ROUNDS(5); i++) {
    birth.generation = 0;
    birth.last_generation = 10;
    birth_prepare(&birth, (uint64_t)i);
    ck_assert_int_eq(forked(live, &birth), 0);
    ck_assert(birth_end(&birth));
  }
  busy_end();
  assert_no_errors();
}
END_TEST

/* Children that never return from exec, or from vfork, run none of our code. */
static int spawned(void) {
  char *arguments[] = {(char *)"true", NULL};
  pid_t child;
  int status = -1;
  if (posix_spawnp(&child, "true", NULL, NULL, arguments, environ) != 0) return -1;
  while (waitpid(child, &status, 0) != child && errno == EINTR) continue;
  return status;
}

static int vforked(void) {
  const pid_t child = vfork();
  if (child == 0) _exit(0);
  int status = -1;
  while (child > 0 && waitpid(child, &status, 0) != child && errno == EINTR) continue;
  return status;
}

START_TEST(spawning_changes_nothing) {
  static struct birth birth;
  birth_prepare(&birth, 200);
  const mi_stats_t before = stats_now();
  for (int i = 0; i < TEST_ROUNDS(20); i++) {
    ck_assert_int_eq(spawned(), 0);
    ck_assert_int_eq(vforked(), 0);
  }
  const mi_stats_t after = stats_now();
  ck_assert_mem_eq(&before, &after, sizeof before);
  busy_begin();
  for (int i = 0; i < TEST_ROUNDS(60); i++) {
    ck_assert_int_eq(spawned(), 0);
    ck_assert_int_eq(vforked(), 0);
  }
  busy_end();
  ck_assert(birth_end(&birth));
  assert_no_errors();
}
END_TEST

/* ---- what a child has of its parent's other threads ---- */

#define ESTATE_TAG 70
#define ESTATE_SIZE 112
#define ESTATE_BLOCKS 1500

/* A thread that waits with blocks of its own while another one forks. */
struct estate {
  struct gate gate;
  mi_arena_id_t arena;
  void *blocks[ESTATE_BLOCKS];
  void *large;
};

static void *keep_estate(void *argument) {
  struct estate *estate = argument;
  mi_heap_t *heap = mi_heap_new_ex(ESTATE_TAG, false, estate->arena);
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    estate->blocks[i] = mi_heap_malloc(heap, ESTATE_SIZE);
    if (estate->blocks[i] != NULL) memset(estate->blocks[i], (int)i, ESTATE_SIZE);
  }
  estate->large = mi_heap_zalloc(heap, 500000);
  gate_arrive(&estate->gate);
  return NULL;
}

static pthread_t estate_begin(struct estate *estate) {
  *estate = (struct estate){.gate = GATE_CLOSED};
  const pthread_t thread = thread_start(keep_estate, estate);
  gate_await(&estate->gate, 1);
  return thread;
}

static void estate_end(struct estate *estate, pthread_t thread) {
  gate_open(&estate->gate);
  thread_wait(thread);
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    assert_quick(bytes_are(estate->blocks[i], ESTATE_SIZE, (unsigned char)i));
    mi_free(estate->blocks[i]);
  }
  mi_free(estate->large);
}

/* The blocks are there, and can be freed. */
static void inherit_estate(void *argument) {
  const struct estate *estate = argument;
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    child_require(bytes_are(estate->blocks[i], ESTATE_SIZE, (unsigned char)i));
    child_require(mi_usable_size(estate->blocks[i]) == ESTATE_SIZE);
    mi_free(estate->blocks[i]);
  }
  child_require(bytes_are(estate->large, 500000, 0));
  const int64_t pages = pages_now();
  mi_free(estate->large);
  child_require(pages_now() == pages - 1);
  child_require(use_default_heap(1));
  child_require(errors_total() == 0);
}

START_TEST(child_frees_what_other_threads_had) {
  static struct estate estate;
  if (!can_fork()) return;
  const int64_t pages = pages_settled();
  const pthread_t thread = estate_begin(&estate);
  for (int i = 0; i < 5; i++) ck_assert_int_eq(forked(inherit_estate, &estate), 0);
  estate_end(&estate, thread);
  ck_assert_int_eq(pages_settled(), pages);
  assert_no_errors();
}
END_TEST

/* In a child the threads are gone: their pages belong to nobody. */
static void adopt_estate(void *argument) {
  const struct estate *estate = argument;
  const mi_stats_t before = stats_now();
  child_require(before.threads.current == 1);
  child_require(mi_heap_of(estate->blocks[0]) == NULL);
  child_require(before.pages_abandoned.current > 0);
  mi_heap_t *heap = mi_heap_new_ex(ESTATE_TAG, false, 0);
  void *p = mi_heap_malloc(heap, ESTATE_SIZE);
  child_require(p != NULL && stats_now().pages_adopted > before.pages_adopted);
}

START_TEST(child_adopts_what_other_threads_had) {
  static struct estate estate;
  if (!can_fork()) return;
  const pthread_t thread = estate_begin(&estate);
  ck_assert_int_eq(forked(adopt_estate, &estate), 0);
  estate_end(&estate, thread);
}
END_TEST

/* And what is freed of them goes back. */
static void empty_estate(void *argument) {
  const struct estate *estate = argument;
  const int64_t before = stats_now().pages.current;
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) mi_free(estate->blocks[i]);
  mi_free(estate->large);
  const int64_t freed = before - pages_settled();
  child_require(freed >= (int64_t)(1 + ESTATE_BLOCKS * ESTATE_SIZE / SLICE_SIZE));
}

START_TEST(child_gets_back_what_other_threads_had) {
  static struct estate estate;
  if (!can_fork()) return;
  const pthread_t thread = estate_begin(&estate);
  ck_assert_int_eq(forked(empty_estate, &estate), 0);
  estate_end(&estate, thread);
}
END_TEST

/* ---- what other threads were doing at a fork ---- */

static void *view_arena(void *argument) {
  struct estate *estate = argument;
  struct arena *arena = arena_view_begin(estate->arena);
  gate_arrive(&estate->gate);
  arena_view_end(arena);
  return NULL;
}

static void destroy_arena(void *argument) {
  alarm(5);
  child_require(mirt_arena_destroy(*(const mi_arena_id_t *)argument) == 0);
}

/* An arena of memory that the library reserves, or that is handed over. */
static mi_arena_id_t arena_make(bool is_managed) {
  const size_t size = 8 * MiB;
  mi_arena_id_t id = 0;
  if (!is_managed) {
    ck_assert_int_eq(mi_reserve_os_memory_ex(size, true, false, true, &id), 0);
    return id;
  }
  void *area =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(area, MAP_FAILED);
  ck_assert(mi_manage_os_memory_ex(area, size, true, false, true, -1, true, &id));
  return id;
}

/* Loop test: with each kind of arena. */
START_TEST(child_destroys_an_arena_that_was_viewed) {
  static struct estate estate;
  if (!can_fork()) return;
  estate = (struct estate){.gate = GATE_CLOSED, .arena = arena_make(_i != 0)};
  const pthread_t thread = thread_start(view_arena, &estate);
  gate_await(&estate.gate, 1);
  ck_assert_int_eq(forked(destroy_arena, &estate.arena), 0);
  gate_open(&estate.gate);
  thread_wait(thread);
  ck_assert_int_eq(mirt_arena_destroy(estate.arena), 0);
}
END_TEST

/* Takes all slices of an arena that are free, again and again, and gives them back. */
static void *collect_until_stopped(void *argument) {
  atomic_word *stop = argument;
  while (atomic_load_acquire(stop) == 0) mi_collect(true);
  return NULL;
}

/* Blocks of a slice each until the arena is full. */
static size_t arena_capacity(mi_arena_id_t id) {
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  size_t count = 0;
  while (mi_heap_malloc(heap, SLICE_SIZE) != NULL) count++;
  mi_heap_destroy(heap);
  return count;
}

struct full_arena {
  mi_arena_id_t id;
  size_t capacity;
};

static void fill_arena(void *argument) {
  const struct full_arena *full = argument;
  child_require(arena_capacity(full->id) == full->capacity);
}

START_TEST(child_can_fill_an_arena) {
  if (!can_fork()) return;
  struct full_arena full = {0};
  ck_assert_int_eq(mi_reserve_os_memory_ex(64 * MiB, true, false, true, &full.id), 0);
  full.capacity = arena_capacity(full.id);
  ck_assert_uint_gt(full.capacity, 0);
  atomic_word stop = 0;
  const pthread_t thread = thread_start(collect_until_stopped, (void *)&stop);
  ck_assert_uint_eq(arena_capacity(full.id), full.capacity); /* here it waits for them */
  int failed = 0;
  for (int i = 0; i < TEST_ROUNDS(200); i++) failed += forked(fill_arena, &full) != 0;
  atomic_store_release(&stop, 1);
  thread_wait(thread);
  ck_assert_int_eq(failed, 0);
  ck_assert_int_eq(mirt_arena_destroy(full.id), 0);
}
END_TEST

/* Many arenas that have memory to purge at the same time, so that a thread which purges
 * them is busy with that for a while. */
struct purged_arenas {
  mi_arena_id_t ids[100];
  atomic_word stop;
};

static void free_slice(mi_arena_id_t id) {
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  if (mi_heap_malloc(heap, SLICE_SIZE) == NULL) abort();
  mi_heap_destroy(heap);
}

static void *purge_until_stopped(void *argument) {
  struct purged_arenas *arenas = argument;
  while (atomic_load_acquire(&arenas->stop) == 0) {
    for (size_t i = 0; i < COUNT_OF(arenas->ids); i++) free_slice(arenas->ids[i]);
  }
  return NULL;
}

/* What the child frees goes back to the system when its time has come, and a thread passes by. */
static void purge_last(void *argument) {
  const struct purged_arenas *arenas = argument;
  const int64_t before = stats_now().purged;
  const uint64_t end = os_clock_milliseconds() + 2000;
  free_slice(arenas->ids[COUNT_OF(arenas->ids) - 1]);
  while (stats_now().purged == before) {
    free_slice(arenas->ids[COUNT_OF(arenas->ids) - 2]);
    child_require(os_clock_milliseconds() < end);
  }
}

static void purged_arenas_make(struct purged_arenas *arenas) {
  for (size_t i = 0; i < COUNT_OF(arenas->ids); i++) {
    mi_arena_id_t *id = &arenas->ids[i];
    ck_assert_int_eq(mi_reserve_os_memory_ex(MiB, true, false, true, id), 0);
  }
}

START_TEST(child_purges) {
  if (!can_fork()) return;
  set_purge_delay(1, 1);
  static struct purged_arenas arenas;
  purged_arenas_make(&arenas);
  const pthread_t thread = thread_start(purge_until_stopped, &arenas);
  int failed = 0;
  for (int i = 0; i < TEST_ROUNDS(200) && failed < 5; i++) {
    failed += forked(purge_last, &arenas) != 0;
  }
  atomic_store_release(&arenas.stop, 1);
  thread_wait(thread);
  set_purge_delay(10, 10);
  ck_assert_int_eq(failed, 0);
  for (size_t i = 0; i < COUNT_OF(arenas.ids); i++) {
    ck_assert_int_eq(mirt_arena_destroy(arenas.ids[i]), 0);
  }
}
END_TEST

/* ---- runtimes of other threads ---- */

/* A virtual machine of two threads, of which the one forks, and the other is lost in the
 * child with its mutator. Objects are of two words: a number, and its complement. */
#define VM_ROOTS 200000

struct vm {
  struct gate gate;
  mirt_runtime_t *runtime;
  mirt_type_t *type;
  mirt_mutator_t *own, *lost; /* the forking thread's, and the other's */
  size_t lost_objects;        /* that the other makes */
  bool is_lazy;               /* it has begun a lazy collection, and sweeps */
  atomic_word phase;          /* 1: the other has begun to sweep, 2: it shall end */
  size_t root_count;
  uintptr_t *roots[VM_ROOTS + 4000];
};

static struct vm vm;

static void vm_mark_roots(mirt_marker_t *marker, void *argument) {
  (void)argument;
  for (size_t i = 0; i < vm.root_count; i++) mirt_mark(marker, vm.roots[i]);
}

static uintptr_t *vm_new(mirt_mutator_t *mutator) {
  uintptr_t *p = mirt_new_zeroed(mutator, vm.type);
  if (p == NULL) abort();
  return p;
}

static void vm_new_root(mirt_mutator_t *mutator) {
  uintptr_t *p = vm_new(mutator);
  p[0] = vm.root_count;
  p[1] = ~p[0];
  vm.roots[vm.root_count++] = p;
}

static void vm_collect(bool is_lazy) {
  const mirt_gc_options_t options = {.is_lazy = is_lazy};
  if (mirt_collect(vm.runtime, vm_mark_roots, NULL, &options, NULL) != 0) abort();
}

/* Are all roots there, and are they as they were made? An object that is handed out twice
 * has another number. */
static bool vm_roots_are_whole(void) {
  for (size_t i = 0; i < vm.root_count; i++) {
    const uintptr_t *p = vm.roots[i];
    mirt_found_t found;
    if (p[0] != i || p[1] != ~i) return false;
    if (!mirt_find(vm.runtime, (uintptr_t)p, &found)) return false;
    if (found.object != p || found.type != vm.type) return false;
  }
  return true;
}

static void vm_begin(size_t size, size_t lost_objects, bool is_lazy) {
  memset(&vm, 0, sizeof vm);
  vm.gate = (struct gate)GATE_CLOSED;
  vm.lost_objects = lost_objects;
  vm.is_lazy = is_lazy;
  const mirt_runtime_options_t options = {.size = 256 * MiB};
  ck_assert_int_eq(mirt_runtime_create(&options, &vm.runtime), 0);
  vm.type = mirt_type_new(vm.runtime, &(mirt_type_options_t){.size = size});
  vm.own = mirt_mutator_create_in(vm.runtime);
  vm.lost = mirt_mutator_create_in(vm.runtime);
  ck_assert(vm.type != NULL && vm.own != NULL && vm.lost != NULL);
}

static void vm_end(void) {
  if (mirt_mutator_current() == vm.own) {
    ck_assert_int_eq(mirt_mutator_unbind(vm.own), 0);
  }
  ck_assert_int_eq(mirt_runtime_destroy(vm.runtime), 0);
}

/* Collects, allocates, ends the runtime. */
static void vm_go_on(void *argument) {
  const int round = *(const int *)argument;
  if (mirt_mutator_current() != vm.own) child_require(mirt_mutator_bind(vm.own) == 0);
  /* The first ones adopt what the lost mutator has had, or are from cells of before. */
  for (int i = 0; i < round % 7; i++) vm_new_root(vm.own);
  vm_collect(round % 3 == 0);
  child_require(vm_roots_are_whole());
  for (int i = 0; i < 3000; i++) vm_new_root(vm.own);
  child_require(vm_roots_are_whole());
  for (int i = 0; i < 3000; i++) vm_new(vm.own); /* dies */
  vm_collect(round % 2 == 0);
  child_require(vm_roots_are_whole());
  vm_collect(false);
  mirt_type_stats_t stats;
  child_require(mirt_type_stats(vm.type, &stats));
  child_require(stats.objects == vm.root_count);
  vm.root_count = 0;
  vm_collect(false);
  child_require(mirt_type_stats(vm.type, &stats));
  child_require(stats.objects == 0);
  child_require(mirt_mutator_unbind(vm.own) == 0);
  child_require(mirt_runtime_destroy(vm.runtime) == 0);
  child_require(use_default_heap(1));
  child_require(errors_total() == 0);
}

/* Has a mutator bound, with free blocks in its cell, when the other thread forks. */
static void *vm_hold(void *argument) {
  (void)argument;
  if (mirt_mutator_bind(vm.lost) != 0) abort();
  for (size_t i = 0; i < vm.lost_objects; i++) {
    if (i % 3 == 0) {
      vm_new_root(vm.lost);
    } else {
      vm_new(vm.lost);
    }
  }
  if (vm.is_lazy) {
    vm_collect(true);
    for (size_t i = 0; i < vm.lost_objects / 4; i++) vm_new(vm.lost);
  }
  gate_arrive(&vm.gate);
  if (mirt_mutator_unbind(vm.lost) != 0) abort();
  return NULL;
}

/* Loop test: with few objects or many, swept or in part. */
START_TEST(child_goes_on_with_a_runtime) {
  if (!can_fork()) return;
  static const size_t sizes[] = {16, 64, 1000, 20000};
  static const size_t counts[] = {10, 5000, 3000, 20};
  for (int k = 0; k < 8; k++) {
    vm_begin(sizes[_i], counts[_i], k % 2 == 1);
    const pthread_t thread = thread_start(vm_hold, NULL);
    gate_await(&vm.gate, 1);
    if (k % 4 < 2) ck_assert_int_eq(mirt_mutator_bind(vm.own), 0);
    if (k % 4 == 0) vm_new_root(vm.own); /* it has a cell of its own, too */
    ck_assert_int_eq(forked(vm_go_on, &k), 0);
    gate_open(&vm.gate);
    thread_wait(thread);
    ck_assert(vm_roots_are_whole());
    vm_end();
  }
  assert_no_errors();
}
END_TEST

/* Sweeps one page after the other, since it allocates, while the other thread forks. */
static void *vm_sweep(void *argument) {
  (void)argument;
  if (mirt_mutator_bind(vm.lost) != 0) abort();
  for (size_t i = 0; i < vm.lost_objects; i++) {
    if (i % 16 != 0) {
      vm_new_root(vm.lost);
    } else {
      vm_new(vm.lost);
    }
  }
  vm_collect(true);
  atomic_store_release(&vm.phase, 1);
  for (size_t i = 0; i < vm.lost_objects; i++) vm_new(vm.lost);
  while (atomic_load_acquire(&vm.phase) < 2) sched_yield();
  if (mirt_mutator_unbind(vm.lost) != 0) abort();
  return NULL;
}

START_TEST(child_sweeps_what_another_thread_was_sweeping) {
  if (!can_fork()) return;
  int failed = 0;
  for (int i = 0; i < 40; i++) {
    vm_begin(16, VM_ROOTS / TEST_ROUNDS(8), false);
    const pthread_t thread = thread_start(vm_sweep, NULL);
    while (atomic_load_acquire(&vm.phase) == 0) sched_yield();
    for (int k = i % 8; k > 0; k--) sched_yield(); /* sooner or later */
    failed += forked(vm_go_on, &i) != 0;
    atomic_store_release(&vm.phase, 2);
    thread_wait(thread);
    ck_assert(vm_roots_are_whole());
    vm_end();
  }
  ck_assert_int_eq(failed, 0);
  assert_no_errors();
}
END_TEST

/* Takes the locks of a runtime and of a safepoint all the time. */
static mirt_safepoint_t *vm_safepoint;

static void *vm_make_references(void *argument) {
  (void)argument;
  mirt_safepoint_attach(vm_safepoint);
  atomic_store_release(&vm.phase, 1);
  while (atomic_load_acquire(&vm.phase) < 2) {
    mirt_weak_delete(vm.runtime, mirt_weak_new(vm.runtime, vm.roots[0], NULL));
    mirt_mutator_t *mutator = mirt_mutator_create_in(vm.runtime);
    if (mutator == NULL || mirt_mutator_destroy(mutator) != 0) abort();
  }
  mirt_safepoint_detach(vm_safepoint);
  return NULL;
}

static void vm_use_all(void *argument) {
  mirt_weak_t *weak = mirt_weak_new(vm.runtime, vm.roots[0], NULL);
  child_require(weak != NULL);
  mirt_mutator_t *mutator = mirt_mutator_create_in(vm.runtime);
  child_require(mutator != NULL);
  const mirt_type_options_t options = {.size = 32};
  mirt_type_t *type = mirt_type_new(vm.runtime, &options);
  child_require(type != NULL);
  child_require(mirt_mutator_unbind(vm.own) == 0);
  child_require(mirt_mutator_bind(mutator) == 0);
  child_require(mirt_new(mutator, type) != NULL);
  mirt_safepoint_t *safepoint = mirt_safepoint_create(); /* of its own */
  child_require(safepoint != NULL);
  mirt_safepoint_attach(safepoint);
  child_require(mirt_safepoint_request(safepoint));
  vm_collect(false);
  mirt_safepoint_resume(safepoint);
  mirt_safepoint_detach(safepoint);
  child_require(mirt_safepoint_destroy(safepoint) == 0);
  child_require(mirt_weak_get(weak) == vm.roots[0]);
  mirt_weak_delete(vm.runtime, weak);
  child_require(mirt_mutator_unbind(mutator) == 0);
  vm_go_on(argument);
}

START_TEST(child_finds_the_locks_of_a_runtime_free) {
  if (!can_fork()) return;
  vm_begin(64, 0, false);
  ck_assert_int_eq(mirt_mutator_bind(vm.own), 0);
  vm_new_root(vm.own);
  vm_safepoint = mirt_safepoint_create();
  const pthread_t thread = thread_start(vm_make_references, NULL);
  while (atomic_load_acquire(&vm.phase) == 0) sched_yield();
  int failed = 0;
  for (int i = 0; i < TEST_ROUNDS(80); i++) failed += forked(vm_use_all, &i) != 0;
  atomic_store_release(&vm.phase, 2);
  thread_wait(thread);
  ck_assert_int_eq(failed, 0);
  ck_assert(vm_roots_are_whole());
  ck_assert_int_eq(mirt_safepoint_destroy(vm_safepoint), 0);
  vm_end();
  assert_no_errors();
}
END_TEST

/* ---- threads that end ---- */

/* What threads may leave behind, or not. */
struct census {
  int64_t threads, heaps, pages, abandoned, large;
};

static struct census census_now(void) {
  mi_collect(true);
  const mi_stats_t now = stats_now();
  return (struct census){now.threads.current, now.heaps.current, now.pages.current,
                         now.pages_abandoned.current, now.large_blocks.current};
}

static void assert_same_census(struct census before) {
  const struct census now = census_now();
  ck_assert_int_eq(now.threads, before.threads);
  ck_assert_int_eq(now.heaps, before.heaps);
  ck_assert_int_eq(now.pages, before.pages);
  ck_assert_int_eq(now.abandoned, before.abandoned);
  ck_assert_int_eq(now.large, before.large);
}

/* One thread ends while others free what it had, in the order in which it gives it up. */
#define LAST_BLOCKS 1200
#define FREERS 3

struct last_moment {
  pthread_barrier_t barrier;
  size_t head_start; /* blocks that the others free first */
  atomic_word freed;
  void *blocks[LAST_BLOCKS];
};

struct moment_actor {
  struct last_moment *moment;
  size_t number; /* 0: the one that ends; the others free */
};

static void leave_everything(struct last_moment *moment) {
  mi_heap_t *heap = mi_heap_new_ex(3, false, 0);
  for (size_t i = 0; i < LAST_BLOCKS; i++) {
    /* Mostly pages of a few blocks, so that many are given up just as they empty. */
    const size_t size = i < 400 ? 16 + i : 100 * i;
    moment->blocks[i] = mi_heap_malloc(heap, size);
    assert_quick(moment->blocks[i] != NULL);
  }
  pthread_barrier_wait(&moment->barrier);
  while (atomic_load_acquire(&moment->freed) < moment->head_start) sched_yield();
}

static void free_share(struct last_moment *moment, size_t number) {
  if (number == 1) mi_thread_init();
  pthread_barrier_wait(&moment->barrier);
  for (size_t i = number - 1; i < LAST_BLOCKS; i += FREERS) {
    mi_free(moment->blocks[i]);
    atomic_fetch_add_full(&moment->freed, 1);
  }
  if (number == 2) mi_free(mi_malloc(16)); /* may adopt one of the pages */
}

static void *act(void *argument) {
  const struct moment_actor *self = argument;
  if (self->number == 0) {
    leave_everything(self->moment);
  } else {
    free_share(self->moment, self->number);
  }
  return NULL;
}

START_TEST(threads_end_while_others_free) {
  static struct last_moment moment;
  struct moment_actor actors[1 + FREERS];
  struct dice dice = dice_new(30);
  const struct census before = census_now();
  for (size_t i = 0; i < COUNT_OF(actors); i++) {
    actors[i] = (struct moment_actor){&moment, i};
  }
  ck_assert_int_eq(pthread_barrier_init(&moment.barrier, NULL, COUNT_OF(actors)), 0);
  for (int i = 0; i < TEST_ROUNDS(600); i++) {
    moment.head_start = dice_roll(&dice, LAST_BLOCKS / 2);
    atomic_store_relaxed(&moment.freed, 0);
    threads_run(COUNT_OF(actors), act, actors, sizeof actors[0]);
    assert_quick(stats_now().pages_abandoned.current == before.abandoned);
  }
  pthread_barrier_destroy(&moment.barrier);
  assert_same_census(before);
  assert_no_errors();
}
END_TEST

/* Each thread goes on in the pages of the one before it. */
#define HEIRLOOMS 40
#define HEIRLOOM_SIZE 240

struct inheritance {
  void *blocks[HEIRLOOMS];
  int tag;
  size_t number, damaged;
};

static void *inherit(void *argument) {
  struct inheritance *self = argument;
  mi_heap_t *heap = mi_heap_new_ex(self->tag, false, 0);
  for (size_t i = 0; i < HEIRLOOMS; i++) {
    void *p = self->blocks[i];
    const unsigned char mark = (unsigned char)(self->number + i);
    if (p != NULL && !bytes_are(p, HEIRLOOM_SIZE, mark)) self->damaged++;
    if ((self->number + i) % 2 == 0) { /* half of them live on to the thread after next */
      self->blocks[i] = mi_heap_malloc(heap, HEIRLOOM_SIZE);
      mi_free(p);
    }
    if (self->blocks[i] == NULL) self->blocks[i] = mi_heap_malloc(heap, HEIRLOOM_SIZE);
    memset(self->blocks[i], mark + 1, HEIRLOOM_SIZE);
  }
  self->number++;
  return NULL;
}

START_TEST(threads_inherit_pages) {
  const struct census before = census_now();
  const int64_t adopted = stats_now().pages_adopted;
  struct inheritance inheritance = {.tag = 90};
  const int rounds = TEST_ROUNDS(400);
  for (int i = 0; i < rounds; i++) thread_run(inherit, &inheritance);
  ck_assert_uint_eq(inheritance.damaged, 0);
  ck_assert_int_eq(stats_now().threads.current, before.threads);
  ck_assert_int_eq(stats_now().pages_abandoned.current, before.abandoned + 1);
  ck_assert_int_eq(stats_now().pages_adopted, adopted + rounds - 1);
  for (size_t i = 0; i < HEIRLOOMS; i++) mi_free(inheritance.blocks[i]);
  assert_same_census(before);
  assert_no_errors();
}
END_TEST

/* ---- destructors ---- */

/* One key from before the library's own, whose destructor the C library of GNU runs
 * before ours, and one from after it. */
static pthread_key_t early_key, late_key;

/* What a thread still does when it ends. */
struct last_wish {
  bool is_early;    /* under the early key */
  bool allocates;   /* else it only frees */
  bool makes_heap;  /* and leaves it */
  bool says_done;   /* calls mi_thread_done */
  int repetitions;  /* how often the destructor asks to be called again */
  void *blocks[20]; /* from the thread's life */
  size_t kept;      /* how many are left of them */
  size_t runs, runs_with_owner, failures;
};

static void wish_allocate(struct last_wish *wish) {
  if (!use_default_heap(wish->runs)) wish->failures++;
  if (wish->makes_heap) {
    mi_heap_t *heap = mi_heap_new();
    void *p = heap == NULL ? NULL : mi_heap_malloc(heap, 1000);
    if (p == NULL || mi_heap_of(p) != heap) wish->failures++;
    mi_free(p);
  }
}

static void fulfil_wish(void *value) {
  struct last_wish *wish = value;
  wish->runs++;
  if (current.owner != NULL) wish->runs_with_owner++;
  if (wish->allocates) wish_allocate(wish);
  if (wish->kept > 0) mi_free(wish->blocks[--wish->kept]);
  if (wish->says_done) mi_thread_done();
  if (wish->repetitions-- <= 0) return;
  pthread_setspecific(wish->is_early ? early_key : late_key, wish);
}

static void *live_with_wish(void *argument) {
  struct last_wish *wish = argument;
  pthread_setspecific(wish->is_early ? early_key : late_key, wish);
  wish->kept = COUNT_OF(wish->blocks);
  for (size_t i = 0; i < wish->kept; i++) {
    wish->blocks[i] = mi_malloc(i % 5 == 0 ? 70000 : 50 * i);
    if (wish->blocks[i] == NULL) wish->failures++;
  }
  return NULL;
}

/* Before the library is loaded, as far as a program can be. */
__attribute__((constructor(101))) static void make_early_key(void) {
  if (pthread_key_create(&early_key, fulfil_wish) != 0) abort();
}

static void check_wish(const struct last_wish *wish, int repetitions) {
  ck_assert_uint_eq(wish->failures, 0);
  ck_assert_uint_eq(wish->runs, (size_t)repetitions + 1);
  ck_assert_uint_eq(wish->kept, COUNT_OF(wish->blocks) - wish->runs);
#ifdef __GLIBC__
  /* Ours ends the owner in the second round: after the early one's second run, and before
   * the late one's. */
  const size_t with_owner = wish->is_early && wish->runs > 1 ? 2 : 1;
  if (!wish->is_early || !wish->allocates) {
    ck_assert_uint_eq(wish->runs_with_owner, wish->says_done ? 1 : with_owner);
  }
#endif
}

static void grant_wish(struct last_wish wish, struct census before) {
  const int repetitions = wish.repetitions;
  thread_run(live_with_wish, &wish);
  check_wish(&wish, repetitions);
  while (wish.kept > 0) mi_free(wish.blocks[--wish.kept]);
  assert_same_census(before);
}

/* Bits of a loop test's number. */
enum { WISH_EARLY = 1, WISH_ALLOCATE = 2, WISH_HEAP = 4, WISH_DONE = 8, WISHES = 16 };

static struct last_wish wish_of(int number) {
  return (struct last_wish){.is_early = (number & WISH_EARLY) != 0,
                            .allocates = (number & WISH_ALLOCATE) != 0,
                            .makes_heap = (number & WISH_HEAP) != 0,
                            .says_done = (number & WISH_DONE) != 0};
}

START_TEST(destructors_allocate_and_free) {
  ck_assert_int_eq(pthread_key_create(&late_key, fulfil_wish), 0);
  const struct census before = census_now();
  struct last_wish wish = wish_of(_i);
  /* One run of ours has to come after the last one of theirs. */
  for (int repetitions = 0; repetitions < PTHREAD_DESTRUCTOR_ITERATIONS - 1;
       repetitions++) {
    wish.repetitions = repetitions;
    for (int i = 0; i < TEST_ROUNDS(16); i++) grant_wish(wish, before);
  }
  pthread_key_delete(late_key);
  assert_no_errors();
}
END_TEST

/* Until the system calls no destructor any more: then nobody cleans up after the last. A
 * heap that is made there and left cannot be ended, as the program may still use it. */
START_TEST(destructors_until_the_last_iteration) {
  if ((_i & WISH_HEAP) != 0) return;
  if (TEST_THREAD_SANITIZER) {
    printf("skip: ThreadSanitizer has forgotten the thread by then\n");
    return;
  }
  ck_assert_int_eq(pthread_key_create(&late_key, fulfil_wish), 0);
  const struct census before = census_now();
  struct last_wish wish = wish_of(_i);
  wish.repetitions = PTHREAD_DESTRUCTOR_ITERATIONS - 1;
  for (int i = 0; i < TEST_ROUNDS(16); i++) grant_wish(wish, before);
  pthread_key_delete(late_key);
  assert_no_errors();
}
END_TEST

/* ---- many threads ---- */

#define BATCH 8
#define LEGACIES 30

enum way { PLAIN, LEAVING_HEAP, HANDING_ON, WAYS };

/* A short thread, or rather the row of all that come one after the other in its place. */
struct short_life {
  enum way way;
  void *blocks[LEGACIES]; /* handed to the next */
  size_t failures;
};

static void *live_shortly(void *argument) {
  struct short_life *life = argument;
  mi_heap_t *heap = life->way == LEAVING_HEAP ? mi_heap_new() : mi_heap_get_default();
  for (size_t i = 0; i < LEGACIES; i++) {
    const size_t size = i == 0 ? 150000 : 40 * i;
    void *p = mi_heap_malloc(heap, size);
    if (p == NULL) life->failures++;
    memset(p, 1, 40 * i);
    if (life->way == HANDING_ON) {
      void *before = life->blocks[i];
      if (before != NULL && !bytes_are(before, 40 * i, 1)) life->failures++;
      life->blocks[i] = p;
      p = before;
    }
    mi_free(p);
  }
  return NULL;
}

/* What the process has, as it should be after any number of threads. */
struct footprint {
  struct census census;
  int64_t arenas, reserved, committed;
  size_t records, resident;
};

/* Bytes that records of the process have taken, free ones included. */
static size_t record_bytes(void) {
  size_t bytes = 0;
  const struct zone_extent *extent =
      (const struct zone_extent *)atomic_load_acquire(&process_zone.extent);
  for (; extent != NULL; extent = extent->before) {
    bytes += atomic_load_acquire(&extent->used);
  }
  return bytes;
}

static struct footprint footprint_now(void) {
  struct footprint print = {.census = census_now(), .records = record_bytes()};
  const mi_stats_t now = stats_now();
  print.arenas = now.arenas.current;
  print.reserved = now.reserved.current;
  print.committed = now.committed.current;
  mi_process_info(NULL, NULL, NULL, &print.resident, NULL, NULL, NULL, NULL);
  return print;
}

static void live_in_batches(struct short_life *lives, int threads) {
  for (int i = 0; i < threads; i += BATCH) {
    threads_run(BATCH, live_shortly, lives, sizeof lives[0]);
  }
  for (size_t i = 0; i < BATCH; i++) ck_assert_uint_eq(lives[i].failures, 0);
}

/* Blocks on their way are in pages: in one, or each in a page of its own if all their
 * threads allocated at the same time. */
static int64_t pages_on_their_way(enum way way) {
  return way == HANDING_ON ? LEGACIES * BATCH : 0;
}

static void assert_no_growth(const struct footprint *half, const struct footprint *full,
                             int64_t pages) {
  ck_assert_int_eq(full->census.threads, half->census.threads);
  ck_assert_int_eq(full->census.heaps, half->census.heaps);
  ck_assert_int_le(full->census.pages, half->census.pages + pages);
  ck_assert_int_le(full->census.abandoned, half->census.abandoned + pages);
  ck_assert_int_eq(full->arenas, half->arenas);
  ck_assert_int_eq(full->reserved, half->reserved);
  ck_assert_int_le(full->committed, half->committed + pages * (int64_t)(2 * SLICE_SIZE));
  ck_assert_uint_le(full->records, half->records + 128 * KiB);
  if (!TEST_HAS_SHADOW) ck_assert_uint_le(full->resident, half->resident + 4 * MiB);
}

START_TEST(ten_thousand_threads) {
  const struct census before = census_now();
  static struct short_life lives[BATCH];
  const int threads = TEST_ROUNDS(5000);
  for (size_t i = 0; i < BATCH; i++) lives[i] = (struct short_life){.way = (enum way)_i};
  live_in_batches(lives, threads);
  const struct footprint half = footprint_now();
  live_in_batches(lives, threads);
  const struct footprint full = footprint_now();
  assert_no_growth(&half, &full, pages_on_their_way((enum way)_i));
  for (size_t i = 0; i < BATCH; i++) {
    for (size_t j = 0; j < LEGACIES; j++) mi_free(lives[i].blocks[j]);
  }
  assert_same_census(before);
  assert_no_errors();
}
END_TEST

/* Threads that live at the same time. */
#define CROWD 2000
#define CROWD_BLOCKS 6

struct crowd_member {
  struct gate *gate;
  uintptr_t *parcels[CROWD_BLOCKS];
  size_t damaged;
};

static void *join_crowd(void *argument) {
  struct crowd_member *self = argument;
  struct dice dice = dice_new((uintptr_t)self);
  for (size_t i = 0; i < CROWD_BLOCKS; i++) {
    self->parcels[i] = parcel_new(mi_heap_get_default(), &dice);
  }
  gate_arrive(self->gate);
  for (size_t i = 0; i < CROWD_BLOCKS; i += 2) {
    if (!parcel_end(self->parcels[i])) self->damaged++;
  }
  return NULL;
}

/* As many as the system allows, if that is fewer. Returns how many there are. */
static size_t gather_crowd(struct crowd_member *members, pthread_t *threads,
                           size_t count) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  const size_t stack = TEST_HAS_SHADOW ? MiB : 128 * KiB;
  if (stack > (size_t)PTHREAD_STACK_MIN) pthread_attr_setstacksize(&attributes, stack);
  size_t i = 0;
  while (i < count &&
         pthread_create(&threads[i], &attributes, join_crowd, &members[i]) == 0) {
    i++;
  }
  pthread_attr_destroy(&attributes);
  if (i < count) printf("there are only %zu threads at once, not %zu\n", i, count);
  return i;
}

START_TEST(two_thousand_threads_at_once) {
  static struct crowd_member members[CROWD];
  static pthread_t threads[CROWD];
  struct gate gate = GATE_CLOSED;
  const struct census before = census_now();
  for (size_t i = 0; i < CROWD; i++) members[i] = (struct crowd_member){.gate = &gate};
  const size_t count = gather_crowd(members, threads, TEST_ROUNDS(CROWD));
  ck_assert_uint_ge(count, 16);
  gate_await(&gate, count);
  ck_assert_int_eq(stats_now().threads.current, before.threads + (int64_t)count);
  ck_assert_int_eq(stats_now().heaps.current, before.heaps + (int64_t)count);
  gate_open(&gate);
  for (size_t i = 0; i < count; i++) thread_wait(threads[i]);
  for (size_t i = 0; i < count; i++) {
    assert_quick(members[i].damaged == 0);
    for (size_t j = 1; j < CROWD_BLOCKS; j += 2) {
      assert_quick(parcel_end(members[i].parcels[j]));
    }
  }
  assert_same_census(before);
  assert_no_errors();
}
END_TEST

/* A pool's threads work for others: what is left lying about is not theirs. */
struct pool_thread {
  bool in_pool;
  int64_t adopted; /* pages, while it worked */
};

static void *work_in_pool(void *argument) {
  struct pool_thread *self = argument;
  if (self->in_pool) mi_thread_set_in_threadpool();
  const int64_t before = stats_now().pages_adopted;
  void *blocks[400];
  mi_heap_t *heap = mi_heap_new_ex(91, false, 0);
  for (int job = 0; job < 20; job++) {
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
      blocks[i] = mi_heap_malloc(heap, HEIRLOOM_SIZE);
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++) mi_free(blocks[i]);
  }
  self->adopted = stats_now().pages_adopted - before;
  return NULL;
}

START_TEST(pool_threads_do_not_adopt) {
  const struct census before = census_now();
  struct inheritance left = {.tag = 91};
  thread_run(inherit, &left);
  struct pool_thread pooled = {.in_pool = true}, plain = {.in_pool = false};
  for (int i = 0; i < 20; i++) {
    thread_run(work_in_pool, &pooled);
    ck_assert_int_eq(pooled.adopted, 0);
  }
  /* The next thread uses the records of the last one, and is in no pool. */
  thread_run(work_in_pool, &plain);
  ck_assert_int_eq(plain.adopted, 1);
  for (size_t i = 0; i < HEIRLOOMS; i++) mi_free(left.blocks[i]);
  assert_same_census(before);
  assert_no_errors();
}
END_TEST

/* ---- the shared library, loaded and unloaded ---- */

struct library {
  void *handle;
  void *(*malloc)(size_t size);
  void (*free)(void *p);
  bool (*stats_get)(mi_stats_t *stats);
  bool (*is_in_heap_region)(const void *p);
};

/* The path of a shared library, or NULL when there is none, which is said. */
static const char *library_path(const char *name) {
  static char path[PATH_MAX];
  const char *root = getenv("top_builddir");
  snprintf(path, sizeof path, "%s/.libs/%s", root == NULL ? "." : root, name);
  if (access(path, R_OK) == 0) return path;
  printf("skip: there is no %s\n", path);
  return NULL;
}

static bool library_open(struct library *library, const char *path, int flags) {
  library->handle = dlopen(path, flags | RTLD_LOCAL);
  if (library->handle == NULL) return false;
  *(void **)&library->malloc = dlsym(library->handle, "mi_malloc");
  *(void **)&library->free = dlsym(library->handle, "mi_free");
  *(void **)&library->stats_get = dlsym(library->handle, "mi_stats_get");
  *(void **)&library->is_in_heap_region = dlsym(library->handle, "mi_is_in_heap_region");
  return library->malloc != NULL && library->free != NULL && library->stats_get != NULL &&
         library->is_in_heap_region != NULL;
}

static int64_t library_threads(const struct library *library) {
  mi_stats_t_decl(now);
  return library->stats_get(&now) ? now.threads.current : -1;
}

/* It is a copy of its own: its blocks are not blocks of the one that is linked in. */
static bool library_use(const struct library *library, size_t number) {
  unsigned char *blocks[200];
  bool is_well = true;
  for (size_t i = 0; i < COUNT_OF(blocks); i++) {
    const size_t size = i % 100 == 99 ? 200000 : 8 + 16 * i;
    blocks[i] = library->malloc(size);
    if (blocks[i] == NULL) return false;
    is_well &= library->is_in_heap_region(blocks[i]) && !mi_is_in_heap_region(blocks[i]);
    memset(blocks[i], (int)(number + i), 8 + 16 * i);
  }
  for (size_t i = 0; i < COUNT_OF(blocks); i++) {
    is_well &= bytes_are(blocks[i], 8 + 16 * i, (unsigned char)(number + i));
    library->free(blocks[i]);
  }
  return is_well;
}

struct loader {
  const char *path;
  size_t number, failures;
  void *block; /* kept from one round to the next, over the unloading */
  pthread_barrier_t *all_begun;
};

static void *load_and_unload(void *argument) {
  struct loader *self = argument;
  /* The system's C library may give a thread that begins while another loads a library no
   * initial values for that library's thread-local variables. */
  pthread_barrier_wait(self->all_begun);
  for (int i = 0; i < TEST_ROUNDS(50); i++) {
    struct library library;
    if (!library_open(&library, self->path, i % 2 == 0 ? RTLD_NOW : RTLD_LAZY)) {
      self->failures++;
      return NULL;
    }
    library.free(self->block);
    if (!library_use(&library, self->number)) self->failures++;
    self->block = library.malloc(1000);
    if (!library.is_in_heap_region(self->block)) self->failures++;
    if (dlclose(library.handle) != 0) self->failures++;
  }
  return NULL;
}

START_TEST(library_is_loaded_by_several_threads) {
  const char *path = library_path("libmirt.so");
  if (path == NULL) return;
  struct loader loaders[4];
  pthread_barrier_t all_begun;
  pthread_barrier_init(&all_begun, NULL, COUNT_OF(loaders));
  for (size_t i = 0; i < COUNT_OF(loaders); i++) {
    loaders[i] = (struct loader){.path = path, .number = i, .all_begun = &all_begun};
  }
  threads_run(COUNT_OF(loaders), load_and_unload, loaders, sizeof loaders[0]);
  pthread_barrier_destroy(&all_begun);
  struct library library;
  ck_assert(library_open(&library, path, RTLD_NOW));
  for (size_t i = 0; i < COUNT_OF(loaders); i++) {
    ck_assert_uint_eq(loaders[i].failures, 0);
    library.free(loaders[i].block);
  }
  /* Their owners have ended with them, though the library was closed by then. */
  ck_assert_int_le(library_threads(&library), 1);
  ck_assert_int_eq(dlclose(library.handle), 0);
  assert_no_errors();
}
END_TEST

/* Threads that have used the library, and end after it has been closed. */
struct survivor {
  const char *path;
  struct gate *gate;
  bool is_well;
};

static void *survive_library(void *argument) {
  struct survivor *self = argument;
  struct library library;
  if (!library_open(&library, self->path, RTLD_NOW)) return NULL;
  void *before = library.malloc(3000);
  bool is_well = before != NULL && dlclose(library.handle) == 0;
  gate_arrive(self->gate);
  library.free(before);
  is_well &= library_use(&library, 1);
  self->is_well = is_well;
  return NULL; /* with an owner in the library */
}

static int64_t threads_of_library(const char *path) {
  struct library library;
  ck_assert(library_open(&library, path, RTLD_NOW));
  ck_assert(library_use(&library, 2));
  const int64_t threads = library_threads(&library);
  ck_assert_int_eq(dlclose(library.handle), 0);
  return threads;
}

START_TEST(threads_outlive_the_library) {
  const char *path = library_path("libmirt.so");
  if (path == NULL) return;
  const int64_t threads = threads_of_library(path);
  struct gate gate = GATE_CLOSED;
  struct survivor survivors[8];
  pthread_t ids[COUNT_OF(survivors)];
  for (size_t i = 0; i < COUNT_OF(survivors); i++) {
    survivors[i] = (struct survivor){path, &gate, false};
    ids[i] = thread_start(survive_library, &survivors[i]);
  }
  gate_await(&gate, COUNT_OF(survivors)); /* all have closed it */
  gate_open(&gate);
  for (size_t i = 0; i < COUNT_OF(survivors); i++) {
    thread_wait(ids[i]);
    ck_assert(survivors[i].is_well);
  }
  ck_assert_int_eq(threads_of_library(path), threads);
  assert_no_errors();
}
END_TEST

static void use_closed_library(void *argument) {
  child_require(library_use(argument, 3));
  child_require(library_use(argument, 4));
}

START_TEST(library_is_used_in_a_child_after_closing) {
  const char *path = library_path("libmirt.so");
  if (path == NULL) return;
  struct library library;
  ck_assert(library_open(&library, path, RTLD_NOW));
  ck_assert_int_eq(dlclose(library.handle), 0);
  for (int i = 0; i < 5; i++) ck_assert_int_eq(forked(use_closed_library, &library), 0);
  assert_no_errors();
}
END_TEST

/* ---- roles: what this program does as another process ---- */

/* The functions that a role allocates with: mi_malloc linked in, or malloc, which the
 * preloaded library stands in for. */
static struct {
  void *(*allocate)(size_t size);
  void (*release)(void *p);
  bool (*stats_get)(mi_stats_t *stats);
} role;

static void role_begin(const char *memory) {
  role.allocate = mi_malloc;
  role.release = mi_free;
  role.stats_get = mi_stats_get;
  if (strcmp(memory, "malloc") != 0) return;
  role.allocate = malloc;
  role.release = free;
  *(void **)&role.stats_get = dlsym(RTLD_DEFAULT, "mi_stats_get");
  child_require(role.stats_get != NULL);
}

static mi_stats_t role_stats(void) {
  mi_stats_t_decl(now);
  child_require(role.stats_get(&now));
  return now;
}

static void role_churn(uint64_t number, int rounds) {
  unsigned char *blocks[100] = {NULL};
  struct dice dice = dice_new(number);
  for (int i = 0; i < rounds; i++) {
    unsigned char **block = &blocks[dice_roll(&dice, COUNT_OF(blocks))];
    if (*block != NULL) child_require((*block)[0] == (unsigned char)(block - blocks));
    role.release(*block);
    *block = role.allocate(1 + dice_roll(&dice, i % 50 == 0 ? 300000 : 3000));
    child_require(*block != NULL);
    (*block)[0] = (unsigned char)(block - blocks);
  }
  for (size_t i = 0; i < COUNT_OF(blocks); i++) role.release(blocks[i]);
}

/* The main thread ends, and the others go on with what it had. */
#define ROLE_THREADS 4

static struct gate role_gate = GATE_CLOSED;
static void *role_blocks[400];

static void open_role_gate(void *gate) { gate_open(gate); }

static void *outlive_main(void *argument) {
  const size_t number = (uintptr_t)argument;
  role_churn(number, 1000);
  gate_arrive(&role_gate);
  for (size_t i = number; i < COUNT_OF(role_blocks); i += ROLE_THREADS) {
    child_require(bytes_are(role_blocks[i], i + 1, (unsigned char)i));
    role.release(role_blocks[i]);
  }
  role_churn(number, 3000);
  return NULL;
}

static void tell_threads(void) {
  const int threads = (int)role_stats().threads.current;
  dprintf(STDOUT_FILENO, "%d threads\n", threads);
  role_churn(1, 500);
}

static void play_main_ends(void) {
  pthread_key_t key;
  child_require(pthread_key_create(&key, open_role_gate) == 0);
  child_require(pthread_setspecific(key, &role_gate) == 0);
  child_require(atexit(tell_threads) == 0);
  for (size_t i = 0; i < COUNT_OF(role_blocks); i++) {
    role_blocks[i] = role.allocate(i + 1);
    child_require(role_blocks[i] != NULL);
    memset(role_blocks[i], (int)i, i + 1);
  }
  for (uintptr_t i = 0; i < ROLE_THREADS; i++) {
    pthread_t thread;
    child_require(pthread_create(&thread, NULL, outlive_main, (void *)i) == 0);
    child_require(pthread_detach(thread) == 0);
  }
  gate_await(&role_gate, ROLE_THREADS);
  pthread_exit(NULL);
}

/* Another thread ends the process, while all the others allocate. */
static void *churn_for_ever(void *argument) {
  role_churn((uintptr_t)argument, 1000);
  pthread_mutex_lock(&role_gate.mutex);
  role_gate.arrived++;
  pthread_cond_broadcast(&role_gate.changed);
  pthread_mutex_unlock(&role_gate.mutex);
  for (;;) role_churn((uintptr_t)argument, 1000);
  return NULL;
}

static void *end_process(void *argument) {
  (void)argument;
  role_churn(0, 1000);
  gate_await(&role_gate, ROLE_THREADS);
  exit(7);
}

static void play_exit_elsewhere(void) {
  pthread_t thread;
  child_require(atexit(tell_threads) == 0);
  for (uintptr_t i = 0; i < ROLE_THREADS; i++) {
    child_require(pthread_create(&thread, NULL, churn_for_ever, (void *)i) == 0);
  }
  child_require(pthread_create(&thread, NULL, end_process, NULL) == 0);
  pthread_join(thread, NULL);
}

/* What lives to the end: blocks of the default heap and of another one. */
static bool role_tells_end;

static void say_goodbye(void) {
  role_churn(2, 1000);
  for (size_t i = 0; i < COUNT_OF(role_blocks); i += 2) role.release(role_blocks[i]);
  mi_heap_t *heap = mi_heap_new();
  child_require(heap != NULL && mi_heap_malloc(heap, 100) != NULL);
  dprintf(STDOUT_FILENO, "goodbye\n");
}

/* Runs after all that was registered with atexit. */
__attribute__((destructor)) static void tell_end(void) {
  if (!role_tells_end) return;
  const int pages = (int)role_stats().pages.current;
  role_churn(3, 1000);
  dprintf(STDOUT_FILENO, "%d pages at the end\n", pages);
}

static void play_live_to_the_end(void) {
  child_require(atexit(say_goodbye) == 0);
  role_tells_end = true;
  for (size_t i = 0; i < COUNT_OF(role_blocks); i++) {
    role_blocks[i] = role.allocate(500 * i);
    child_require(role_blocks[i] != NULL);
  }
  exit(5);
}

/* Threads that are the first to allocate, all at once, and leave what they have. */
static void *start_together(void *argument) {
  pthread_barrier_wait(argument);
  child_require(role.allocate(1000) != NULL);
  return NULL;
}

static void play_start_together(void) {
  pthread_t threads[8];
  pthread_barrier_t barrier;
  child_require(pthread_barrier_init(&barrier, NULL, COUNT_OF(threads)) == 0);
  for (size_t i = 0; i < COUNT_OF(threads); i++) {
    child_require(pthread_create(&threads[i], NULL, start_together, &barrier) == 0);
  }
  for (size_t i = 0; i < COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
  dprintf(STDOUT_FILENO, "%d arenas\n", (int)role_stats().arenas.current);
  role_tells_end = true;
  exit(0);
}

static const struct {
  const char *name;
  void (*play)(void);
} roles[] = {{"main-ends", play_main_ends},
             {"exit-elsewhere", play_exit_elsewhere},
             {"live-to-the-end", play_live_to_the_end},
             {"start-together", play_start_together}};

static int role_main(const char *name, const char *memory) {
  alarm(100);
  role_begin(memory);
  for (size_t i = 0; i < COUNT_OF(roles); i++) {
    if (strcmp(name, roles[i].name) == 0) roles[i].play();
  }
  return EXIT_FAILURE; /* no role returns */
}

/* ---- the end of the process ---- */

static char *program_name;

/* A process that has played a role. */
struct played {
  int status;
  char text[8192]; /* its output and its errors */
};

/* This environment without options of the library, and with two settings. */
static void make_environment(char **variables, size_t count,
                             const char *const settings[2]) {
  size_t used = 0;
  for (size_t i = 0; i < 2; i++) {
    if (settings[i] != NULL) variables[used++] = (char *)settings[i];
  }
  for (char **next = environ; *next != NULL && used < count - 1; next++) {
    if (strncmp(*next, "MIMALLOC_", 9) != 0 && strncmp(*next, "LD_PRELOAD=", 11) != 0) {
      variables[used++] = *next;
    }
  }
  variables[used] = NULL;
}

static pid_t start_role(const char *name, const char *memory,
                        const char *const settings[2], const int ends[2]) {
  static char *variables[2000];
  char *arguments[] = {program_name, (char *)name, (char *)memory, NULL};
  make_environment(variables, COUNT_OF(variables), settings);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  pid_t child = -1;
  ck_assert_int_eq(
      posix_spawnp(&child, program_name, &actions, NULL, arguments, variables), 0);
  posix_spawn_file_actions_destroy(&actions);
  return child;
}

static void read_all(int file, char *text, size_t size) {
  size_t used = 0;
  for (;;) {
    const ssize_t got = read(file, text + used, size - 1 - used);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    used += (size_t)got;
  }
  text[used] = 0;
}

static struct played play(const char *name, const char *memory,
                          const char *const settings[2]) {
  static struct played played;
  int ends[2];
  ck_assert_int_eq(pipe(ends), 0);
  const pid_t child = start_role(name, memory, settings, ends);
  close(ends[1]);
  read_all(ends[0], played.text, sizeof played.text);
  close(ends[0]);
  while (waitpid(child, &played.status, 0) != child) ck_assert_int_eq(errno, EINTR);
  return played;
}

static void assert_exit_code(const struct played *played, int code) {
  if (WIFEXITED(played->status) && WEXITSTATUS(played->status) == code) return;
  ck_abort_msg("status %#x, not exit code %d: %s", (unsigned)played->status, code,
               played->text);
}

static void assert_says(const struct played *played, const char *text) {
  if (strstr(played->text, text) == NULL) {
    ck_abort_msg("there is no '%s' in '%s'", text, played->text);
  }
}

/* By which functions, and how, the roles allocate. */
static bool settings_of(bool is_preloaded, const char *settings[2], const char **memory) {
  static char preload[PATH_MAX + 20];
  settings[0] = settings[1] = NULL;
  *memory = is_preloaded ? "malloc" : "mi_malloc";
  if (!is_preloaded) return true;
  if (TEST_HAS_SHADOW) {
    printf("skip: a sanitizer's malloc has to come first\n");
    return false;
  }
  const char *path = library_path("libmirt-malloc.so");
  if (path == NULL) return false;
  snprintf(preload, sizeof preload, "LD_PRELOAD=%s", path);
  settings[0] = preload;
  return true;
}

/* Loop tests: with the library linked in, and preloaded. */
START_TEST(main_thread_ends_first) {
  const char *settings[2], *memory;
  if (TEST_THREAD_SANITIZER) {
    printf("skip: a thread of ThreadSanitizer's own would never let the process end\n");
    return;
  }
  if (!settings_of(_i != 0, settings, &memory)) return;
  for (int i = 0; i < TEST_ROUNDS(10); i++) {
    const struct played played = play("main-ends", memory, settings);
    assert_exit_code(&played, 0);
    assert_says(&played, "0 threads\n");
  }
}
END_TEST

START_TEST(another_thread_exits) {
  const char *settings[2], *memory;
  if (!settings_of(_i != 0, settings, &memory)) return;
  for (int i = 0; i < TEST_ROUNDS(20); i++) {
    settings[1] = i % 2 == 0 ? NULL : "MIMALLOC_DESTROY_ON_EXIT=1";
    const struct played played = play("exit-elsewhere", memory, settings);
    assert_exit_code(&played, 7);
    assert_says(&played, "6 threads\n");
  }
}
END_TEST

START_TEST(handlers_allocate_and_free) {
  const char *settings[2], *memory;
  if (!settings_of(_i != 0, settings, &memory)) return;
  const struct played played = play("live-to-the-end", memory, settings);
  assert_exit_code(&played, 5);
  assert_says(&played, "goodbye\n");
  assert_says(&played, " pages at the end\n");
  ck_assert_ptr_null(strstr(played.text, "committed")); /* no statistics unless asked */
  ck_assert_ptr_null(strstr(played.text, "\n0 pages"));
}
END_TEST

START_TEST(statistics_are_shown_at_exit) {
  const char *settings[2], *memory;
  if (!settings_of(_i != 0, settings, &memory)) return;
  settings[1] = "MIMALLOC_SHOW_STATS=1";
  const struct played played = play("live-to-the-end", memory, settings);
  assert_exit_code(&played, 5);
  assert_says(&played, "\nthreads ");
  assert_says(&played, "\ncommitted ");
  assert_says(&played, "\npurge_calls ");
  /* When the program's own handlers have run. Once, or once for each copy of the library
   * in the process. */
  const char *title = strstr(played.text, "statistics ");
  ck_assert_ptr_nonnull(title);
  const char *second = strstr(title + 1, "statistics ");
  ck_assert_int_eq(second != NULL, _i != 0);
  ck_assert(strstr(played.text, "goodbye\n") < title);
}
END_TEST

START_TEST(everything_is_destroyed_at_exit) {
  const char *settings[2], *memory;
  if (!settings_of(false, settings, &memory)) return;
  settings[1] = "MIMALLOC_DESTROY_ON_EXIT=1";
  const struct played played = play("live-to-the-end", memory, settings);
  assert_exit_code(&played, 5);
  assert_says(&played, "goodbye\n0 pages at the end\n");
}
END_TEST

/* Also what threads have left that ended before. */
START_TEST(everything_of_ended_threads_is_destroyed_at_exit) {
  const char *settings[2], *memory;
  if (!settings_of(false, settings, &memory)) return;
  settings[1] = "MIMALLOC_DESTROY_ON_EXIT=1";
  const struct played played = play("start-together", memory, settings);
  assert_exit_code(&played, 0);
  assert_says(&played, "\n0 pages at the end\n");
}
END_TEST

/* The first threads need an arena, and not one each. */
START_TEST(threads_that_start_together_share_an_arena) {
  const char *settings[2], *memory;
  if (!settings_of(false, settings, &memory)) return;
  for (int i = 0; i < TEST_ROUNDS(30); i++) {
    const struct played played = play("start-together", memory, settings);
    assert_exit_code(&played, 0);
    assert_says(&played, "1 arenas\n");
  }
}
END_TEST

static void add_fork_tests(TCase *c) {
  tcase_add_test(c, forks_of_a_busy_process);
  tcase_add_test(c, forks_from_a_thread_without_blocks);
  tcase_add_test(c, generations_of_forks);
  tcase_add_test(c, spawning_changes_nothing);
  tcase_add_test(c, child_frees_what_other_threads_had);
  tcase_add_test(c, child_adopts_what_other_threads_had);
  tcase_add_test(c, child_gets_back_what_other_threads_had);
  tcase_add_loop_test(c, child_destroys_an_arena_that_was_viewed, 0, 2);
  tcase_add_test(c, child_can_fill_an_arena);
  tcase_add_test(c, child_purges);
  tcase_add_loop_test(c, child_goes_on_with_a_runtime, 0, 4);
  tcase_add_test(c, child_sweeps_what_another_thread_was_sweeping);
  tcase_add_test(c, child_finds_the_locks_of_a_runtime_free);
}

static void add_thread_tests(TCase *c) {
  tcase_add_test(c, threads_end_while_others_free);
  tcase_add_test(c, threads_inherit_pages);
  tcase_add_loop_test(c, destructors_allocate_and_free, 0, WISHES);
  tcase_add_loop_test(c, destructors_until_the_last_iteration, 0, WISHES);
  tcase_add_loop_test(c, ten_thousand_threads, 0, WAYS);
  tcase_add_test(c, two_thousand_threads_at_once);
  tcase_add_test(c, pool_threads_do_not_adopt);
}

static void add_library_tests(TCase *c) {
  tcase_add_test(c, library_is_loaded_by_several_threads);
  tcase_add_test(c, threads_outlive_the_library);
  tcase_add_test(c, library_is_used_in_a_child_after_closing);
}

static void add_exit_tests(TCase *c) {
  tcase_add_loop_test(c, main_thread_ends_first, 0, 2);
  tcase_add_loop_test(c, another_thread_exits, 0, 2);
  tcase_add_loop_test(c, handlers_allocate_and_free, 0, 2);
  tcase_add_loop_test(c, statistics_are_shown_at_exit, 0, 2);
  tcase_add_test(c, everything_is_destroyed_at_exit);
  tcase_add_test(c, everything_of_ended_threads_is_destroyed_at_exit);
  tcase_add_test(c, threads_that_start_together_share_an_arena);
}

int main(int argc, char **argv) {
  program_name = argv[0];
  if (argc > 2) return role_main(argv[1], argv[2]);
  Suite *suite = suite_create("process");
  add_fork_tests(case_begin(suite, "fork"));
  add_thread_tests(case_begin(suite, "thread"));
  add_library_tests(case_begin(suite, "library"));
  add_exit_tests(case_begin(suite, "exit"));
  return suite_run(suite);
}
