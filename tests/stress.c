/* stress.c - the protocols between threads, all at once.
 *
 *   stress [seconds [threads [seed]]]
 *
 * Threads start and end all the time, more of them than there are processors. They allocate
 * from heaps of all kinds, pass blocks to each other, free what others have allocated, and
 * leave behind what still lives; they make, delete and destroy heaps, bind mutators that
 * another thread had before, make and destroy arenas, collect, purge, and visit. For each
 * block there is a struct object outside of mirt that says what is in it. These abort the
 * process, with a line that says why:
 *
 *   - a block that is handed out twice, or overlaps another, or whose contents change
 *   - a wrong tag, heap, arena, alignment or usable size; zeroed memory that is not zero
 *   - an address of a sealed tag that another tag gets
 *   - an error reported by mirt that should not come
 *   - an arena that nobody uses and that cannot be destroyed
 *
 * Now and then all threads are stopped. Then what mirt says that is alive has to be exactly
 * what is, with numbers that agree. When the time is over all is freed, and nothing may be
 * left: no page, no heap but one, and each arena can be destroyed.
 *
 * At last it prints how often each protocol was exercised. The program runs on until each
 * was, and fails if one was not after twenty times the seconds and a minute.
 *
 * Each block that lives begins with a word that is a function of its address, and each free
 * one with another. They are exchanged without memory order, and all else in a block is read
 * and written plainly: so ThreadSanitizer sees whether mirt hands a block over in order.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <mirt.h>

#include "base/atomic.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define SLICE (64 * KIB)

#define WORKERS_MAX 256
#define OBJECTS_MAX ((size_t)1 << 16)
#define HELD_MAX 256 /* objects in the hands of a worker */
#define SET_HEAPS 5  /* the default heap of an owner, and others */
#define BOXES 1024   /* mailboxes without a lock */
#define BAG_MAX 8192 /* objects in the mailbox with a lock */
#define MUTATORS 12
#define AREAS 10     /* arenas that come and go */
#define STALE_MAX 32 /* addresses of blocks that are gone, remembered by a worker */
#define RECORDS_MAX ((size_t)1 << 14)

#define TAGS 8
#define FIRST_SEALED_TAG 6

#define BYTES_MAX (192 * MIB) /* in live blocks, about */
#define SHARED_SIZE (64 * MIB)
#define EXCLUSIVE_SIZE (16 * MIB)
#define AREA_SIZE (4 * MIB)
#define RESERVE_SIZE (16 * MIB) /* of an arena that mirt makes when it needs one */

/* ---- what was exercised ---- */

enum count {
  OPERATIONS,
  THREADS_ENDED,
  BLOCKS,
  ZEROED_BLOCKS,
  ALIGNED_BLOCKS,
  OFFSET_BLOCKS,
  LARGE_BLOCKS,
  MAPPED_BLOCKS,
  SEALED_BLOCKS,
  FREED_BY_OTHERS,
  FREED_AT_THREAD_END,
  FREED_IN_CALLBACK,
  REALLOCS_IN_PLACE,
  REALLOCS_MOVED,
  HEAPS_MADE,
  HEAPS_DELETED,
  HEAPS_DESTROYED,
  HEAPS_LEFT,
  THREADS_BEGUN_AGAIN,
  MUTATORS_MOVED,
  MUTATORS_DESTROYED,
  MUTATORS_VISITED,
  MUTATORS_LEFT_BOUND,
  ARENAS_MADE,
  ARENAS_BUSY,
  ARENAS_DESTROYED,
  CAGES_DESTROYED,
  EXHAUSTED,
  FORCED_COLLECTS,
  HEAPS_VISITED,
  ABANDONED_VISITED,
  WORLDS_STOPPED,
  WORLDS_WITH_ABANDONED,
  MAPS_WRITTEN,
  COUNTS
};

static const char *const count_names[COUNTS] = {
    [OPERATIONS] = "operations",
    [THREADS_ENDED] = "threads ended",
    [BLOCKS] = "blocks",
    [ZEROED_BLOCKS] = "  zeroed",
    [ALIGNED_BLOCKS] = "  aligned",
    [OFFSET_BLOCKS] = "  aligned at an offset",
    [LARGE_BLOCKS] = "  larger than a page",
    [MAPPED_BLOCKS] = "  in no arena",
    [SEALED_BLOCKS] = "  of sealed tags",
    [FREED_BY_OTHERS] = "blocks freed by another thread",
    [FREED_AT_THREAD_END] = "blocks freed by destructors",
    [FREED_IN_CALLBACK] = "blocks freed by the callback",
    [REALLOCS_IN_PLACE] = "blocks resized in place",
    [REALLOCS_MOVED] = "blocks resized and moved",
    [HEAPS_MADE] = "heaps made",
    [HEAPS_DELETED] = "heaps deleted with live blocks",
    [HEAPS_DESTROYED] = "heaps destroyed with live blocks",
    [HEAPS_LEFT] = "heaps that ended with their thread",
    [THREADS_BEGUN_AGAIN] = "threads that began again",
    [MUTATORS_MOVED] = "mutators moved to another thread",
    [MUTATORS_DESTROYED] = "mutators destroyed",
    [MUTATORS_VISITED] = "mutators visited by others",
    [MUTATORS_LEFT_BOUND] = "mutators unbound by thread end",
    [ARENAS_MADE] = "arenas made",
    [ARENAS_BUSY] = "arenas that were busy",
    [ARENAS_DESTROYED] = "arenas destroyed",
    [CAGES_DESTROYED] = "cages destroyed",
    [EXHAUSTED] = "allocations in a full arena",
    [FORCED_COLLECTS] = "forced collects",
    [HEAPS_VISITED] = "heaps visited",
    [ABANDONED_VISITED] = "abandoned areas visited",
    [WORLDS_STOPPED] = "times that all were stopped",
    [WORLDS_WITH_ABANDONED] = "  with abandoned pages",
    [MAPS_WRITTEN] = "maps written",
};

/* Not a function of base/atomic.h: without memory order, or ThreadSanitizer would take these
 * numbers for what brings the accesses of threads in order. */
static void add_unordered(atomic_word *p, size_t number) { AO_fetch_and_add(p, number); }

static atomic_word counts[COUNTS];

static void count_more(enum count what, size_t number) {
  add_unordered(&counts[what], number);
}

static void count(enum count what) { count_more(what, 1); }

static size_t counted(enum count what) { return atomic_load_relaxed(&counts[what]); }

/* ---- failure ---- */

static uint64_t seed = 1;

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format,
                                                                 ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fprintf(stderr, "stress: %s (seed %llu)\n", text, (unsigned long long)seed);
  abort();
}

/* The error that what the thread does now may give. */
static _Thread_local int tolerated;

static void on_error(int code, void *argument) {
  (void)argument;
  if (code != tolerated) fail("mirt reports error %d, %s", code, strerror(code));
}

static void on_output(const char *text, void *argument) {
  (void)argument;
  if (tolerated == 0) fprintf(stderr, "%s", text);
}

static void on_alarm(int number) {
  static const char text[] = "stress: no end is in sight\n";
  (void)number;
  if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(3);
  abort();
}

/* ---- random numbers ---- */

static uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

struct dice {
  uint64_t state;
};

static uint64_t dice_word(struct dice *dice) {
  return mix(dice->state += 0x9e3779b97f4a7c15u);
}

/* A number from 0 to limit - 1. */
static size_t roll(struct dice *dice, size_t limit) {
  return (size_t)(dice_word(dice) % limit);
}

static bool one_in(struct dice *dice, size_t n) { return roll(dice, n) == 0; }

/* ---- records ---- */

/* An arena that comes and goes. */
struct area {
  pthread_mutex_t lock; /* for all but `live` */
  enum { NO_AREA, RESERVED, OPEN_TO_ALL, MANAGED, IN_CAGE } kind;
  mi_arena_id_t id;
  void *memory; /* MANAGED */
  bool memory_is_zero;
  mirt_cage_t *cage;
  size_t heaps;     /* bound to it */
  bool is_ending;   /* no more heaps are bound to it, so that it can be destroyed */
  atomic_word live; /* blocks of such heaps */
};

/* A heap of mirt, and which blocks it should have. Lives until the heap has ended and the
 * last of its blocks is free. */
struct record {
  mi_heap_t *heap; /* NULL once it has ended */
  int tag;
  bool may_destroy;
  bool is_guarded;
  mi_arena_id_t arena; /* 0: none */
  struct area *area;   /* or NULL */
  atomic_word live;    /* blocks, and one more while the heap has not ended */
  struct record *next; /* when free */
};

/* The heaps of an owner; the first is its default heap. */
struct heap_set {
  struct record *records[SET_HEAPS];
};

struct mutator {
  mirt_mutator_t *mutator;
  struct heap_set set;
  size_t last_worker;
};

/* A block. */
struct object {
  char *p;
  size_t size, usable, alignment;
  uint64_t stamp; /* what is in it */
  struct record *record;
  size_t maker; /* the worker that allocated it */
  bool is_live; /* read when all are stopped */
  unsigned shown;
  struct object *next; /* when free */
};

struct worker {
  size_t number; /* of all that ever were */
  struct dice dice;
  struct heap_set set; /* of the thread's own owner */
  struct mutator *bound;
  struct object *held[HELD_MAX];
  size_t held_count;
  struct object *spare;
  void *stale[STALE_MAX];
  bool is_ending; /* its destructor runs */
  pthread_t thread;
  struct worker *next; /* of those to be joined */
};

static _Thread_local struct worker *self;

static struct worker workers[WORKERS_MAX];
static struct worker main_worker;
static struct object objects[OBJECTS_MAX];
static struct record records[RECORDS_MAX];
static struct record nobody; /* of blocks whose heap is known to none */
static struct mutator mutators[MUTATORS];
static struct area areas[AREAS];
static mi_arena_id_t shared_arena, exclusive_arena;
static mi_subproc_id_t second_subprocess;
static atomic_word live_bytes;
static size_t thread_limit = 32;

/* ---- pools of records ---- */

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct object *free_objects;
static struct record *free_records;

static void pools_begin(void) {
  for (size_t i = 0; i < OBJECTS_MAX; i++) {
    objects[i].next = free_objects;
    free_objects = &objects[i];
  }
  for (size_t i = 0; i < RECORDS_MAX; i++) {
    records[i].next = free_records;
    free_records = &records[i];
  }
}

/* An object for a new block; NULL when there are enough blocks. */
static struct object *object_take(void) {
  if (self->spare == NULL) {
    pthread_mutex_lock(&pool_lock);
    for (int i = 0; i < 32 && free_objects != NULL; i++) {
      struct object *object = free_objects;
      free_objects = object->next;
      object->next = self->spare;
      self->spare = object;
    }
    pthread_mutex_unlock(&pool_lock);
  }
  struct object *object = self->spare;
  if (object != NULL) self->spare = object->next;
  return object;
}

static void object_give(struct object *object) {
  object->next = self->spare;
  self->spare = object;
}

static void spare_objects_give(struct worker *worker) {
  pthread_mutex_lock(&pool_lock);
  while (worker->spare != NULL) {
    struct object *object = worker->spare;
    worker->spare = object->next;
    object->next = free_objects;
    free_objects = object;
  }
  pthread_mutex_unlock(&pool_lock);
}

static struct record *record_take(void) {
  pthread_mutex_lock(&pool_lock);
  struct record *record = free_records;
  if (record != NULL) free_records = record->next;
  pthread_mutex_unlock(&pool_lock);
  if (record == NULL) return NULL;
  record->heap = NULL;
  record->may_destroy = record->is_guarded = false;
  record->tag = 0;
  record->arena = 0;
  record->area = NULL;
  atomic_store_relaxed(&record->live, 1);
  return record;
}

/* One block less, or the heap has ended. */
static void record_let_go(struct record *record) {
  if (record == &nobody) return;
  if (atomic_fetch_sub_full(&record->live, 1) != 1) return;
  pthread_mutex_lock(&pool_lock);
  record->next = free_records;
  free_records = record;
  pthread_mutex_unlock(&pool_lock);
}

/* ---- what is in a block ---- */

#define DEAD_WORD 0x0dead0dead0dead0u

/* No two addresses have the same, and none has the dead word's. */
static uint64_t live_word(const void *p) { return mix((uintptr_t)p ^ seed) | 1; }

/* Without memory order, too. */
static uint64_t exchange_word(void *p, uint64_t word) {
  AO_t before;
  do {
    before = AO_load((AO_t *)p);
  } while (!AO_compare_and_swap((AO_t *)p, before, word));
  return before;
}

/* The words of a block that are written: all of a small one, and of a large one those near
 * its ends and one per 4 KiB. The first is the live word. */
static size_t next_word(size_t i, size_t word_count) {
  if (word_count <= 512 || i < 32 || i + 8 >= word_count) return i + 1;
  const size_t next = (i | 511) + 1;
  return next < word_count - 8 ? next : word_count - 8;
}

static uint64_t word_at(const struct object *object, size_t i) {
  return mix(object->stamp + i);
}

static void fill(const struct object *object) {
  uint64_t *words = (uint64_t *)(void *)object->p;
  const size_t word_count = object->usable / sizeof *words;
  for (size_t i = 1; i < word_count; i = next_word(i, word_count)) {
    words[i] = word_at(object, i);
  }
}

static void check_words(const struct object *object, const char *p, size_t bytes,
                        const char *when) {
  const uint64_t *words = (const uint64_t *)(const void *)p;
  const size_t word_count = object->usable / sizeof *words;
  for (size_t i = 1; i < word_count; i = next_word(i, word_count)) {
    if ((i + 1) * sizeof *words > bytes) return;
    if (words[i] == word_at(object, i)) continue;
    fail("%s: block %p of %zu bytes has changed at byte %zu: %#llx instead of %#llx",
         when, (void *)object->p, object->usable, i * sizeof *words,
         (unsigned long long)words[i], (unsigned long long)word_at(object, i));
  }
}

/* ---- sealed tags ---- */

static char *shared_start;
static atomic_word sealed_slices[SHARED_SIZE / SLICE]; /* tag + 1 */

/* An address that has been of a sealed tag is of no other. */
static void check_sealed(const struct object *object) {
  const int tag = object->record->tag;
  if (tag >= FIRST_SEALED_TAG) count(SEALED_BLOCKS);
  if (object->p < shared_start || object->p >= shared_start + SHARED_SIZE) return;
  const size_t last = (size_t)(object->p + object->usable - 1 - shared_start) / SLICE;
  for (size_t i = (size_t)(object->p - shared_start) / SLICE; i <= last; i++) {
    const int known = (int)atomic_load_relaxed(&sealed_slices[i]);
    if (known != 0 && known != tag + 1) {
      fail("%p of sealed tag %d is in a block of tag %d", (void *)object->p, known - 1,
           tag);
    }
    if (tag < FIRST_SEALED_TAG) continue;
    atomic_store_relaxed(&sealed_slices[i], (uintptr_t)tag + 1);
  }
}

/* ---- blocks ---- */

static void check_object(const struct object *object, const char *when) {
  if (mirt_tag_of(object->p) != object->record->tag) {
    fail("%s: block %p has tag %d instead of %d", when, (void *)object->p,
         mirt_tag_of(object->p), object->record->tag);
  }
  if (mi_usable_size(object->p) != object->usable) {
    fail("%s: block %p has %zu usable bytes instead of %zu", when, (void *)object->p,
         mi_usable_size(object->p), object->usable);
  }
  check_words(object, object->p, object->usable, when);
}

static struct heap_set *current_set(void) {
  return self->bound != NULL ? &self->bound->set : &self->set;
}

/* Is it a heap that the current owner may use? */
static bool is_own(const struct record *record) {
  const struct heap_set *set = current_set();
  for (size_t i = 0; i < SET_HEAPS; i++) {
    if (set->records[i] == record) return true;
  }
  return false;
}

/* A block that mirt has just handed out: it begins to live. */
static void object_begin(struct object *object, struct record *record, char *p,
                         size_t size, size_t alignment) {
  object->p = p;
  object->size = size;
  object->usable = mi_usable_size(p);
  object->alignment = alignment;
  object->stamp = dice_word(&self->dice);
  object->record = record;
  object->maker = self->number;
  object->is_live = true;
  if (object->usable < size || object->usable < 8) {
    fail("block %p of %zu bytes has %zu usable bytes", (void *)p, size, object->usable);
  }
  if (exchange_word(p, live_word(p)) == live_word(p)) {
    fail("block %p of %zu bytes is handed out twice", (void *)p, size);
  }
  if (mirt_tag_of(p) != record->tag) {
    fail("block %p has tag %d instead of %d", (void *)p, mirt_tag_of(p), record->tag);
  }
  if (record->arena != 0 && !mi_arena_contains(record->arena, p)) {
    fail("block %p is not in arena %d", (void *)p, record->arena);
  }
  if (is_own(record) && record->heap != NULL && mi_heap_of(p) != record->heap) {
    fail("block %p is of another heap", (void *)p);
  }
  check_sealed(object);
  fill(object);
  add_unordered(&live_bytes, object->usable);
  if (record != &nobody) {
    add_unordered(&record->live, 1);
  }
  if (record->area != NULL) {
    add_unordered(&record->area->live, 1);
  }
}

/* The block's memory is about to be mirt's again. */
static void object_kill(struct object *object, const char *when) {
  check_object(object, when);
  if (exchange_word(object->p, DEAD_WORD) != live_word(object->p)) {
    fail("%s: block %p does not begin as it should", when, (void *)object->p);
  }
  self->stale[roll(&self->dice, STALE_MAX)] = object->p;
}

/* It is. */
static void object_end(struct object *object) {
  object->is_live = false;
  add_unordered(&live_bytes, (size_t)0 - object->usable);
  if (object->record->area != NULL) {
    atomic_fetch_sub_full(&object->record->area->live, 1);
  }
  record_let_go(object->record);
  object_give(object);
}

static void object_free(struct object *object) {
  object_kill(object, "free");
  if (object->maker != self->number) count(FREED_BY_OTHERS);
  if (self->is_ending) count(FREED_AT_THREAD_END);
  size_t usable = object->usable;
  switch (roll(&self->dice, 6)) {
    case 0: mi_free_size(object->p, object->size); break;
    case 1: mi_free_aligned(object->p, object->alignment); break;
    case 2: mi_free_size_aligned(object->p, object->size, object->alignment); break;
    case 3: mi_ufree(object->p, &usable); break;
    default: mi_free(object->p);
  }
  if (usable != object->usable) fail("mi_ufree tells %zu bytes", usable);
  object_end(object);
}

/* ---- blocks that change hands ---- */

static atomic_word boxes[BOXES]; /* struct object* */
static pthread_mutex_t bag_lock = PTHREAD_MUTEX_INITIALIZER;
static struct object *bag[BAG_MAX];
static size_t bag_count;

static void hold(struct object *object) {
  if (object == NULL) return;
  if (self->held_count < HELD_MAX) {
    self->held[self->held_count++] = object;
  } else {
    object_free(object);
  }
}

static struct object *held_take(size_t i) {
  struct object *object = self->held[i];
  self->held[i] = self->held[--self->held_count];
  return object;
}

static struct object *held_take_any(void) {
  return self->held_count == 0 ? NULL : held_take(roll(&self->dice, self->held_count));
}

/* Put an object, or NULL, into a box, and take out what was there. */
static struct object *box_exchange(struct object *object) {
  atomic_word *box = &boxes[roll(&self->dice, BOXES)];
  return (struct object *)atomic_exchange_full(box, (uintptr_t)object);
}

static struct object *bag_take(void) {
  struct object *object = NULL;
  pthread_mutex_lock(&bag_lock);
  if (bag_count > 0) {
    const size_t i = roll(&self->dice, bag_count);
    object = bag[i];
    bag[i] = bag[--bag_count];
  }
  pthread_mutex_unlock(&bag_lock);
  return object;
}

/* Returns false when the bag is full. */
static bool bag_put(struct object *object) {
  pthread_mutex_lock(&bag_lock);
  const bool fits = bag_count < BAG_MAX;
  if (fits) bag[bag_count++] = object;
  pthread_mutex_unlock(&bag_lock);
  return fits;
}

/* Somebody else is to have it. */
static void pass_on(struct object *object) {
  if (one_in(&self->dice, 2)) {
    struct object *other = box_exchange(object);
    if (other != NULL) object_free(other);
  } else if (!bag_put(object)) {
    object_free(object);
  }
}

/* Called by mirt when an allocation is slow. */
static void on_deferred_free(bool force, unsigned long long heartbeat, void *argument) {
  (void)force, (void)argument;
  if (self == NULL || heartbeat % 32 != 0) return;
  struct object *object = box_exchange(NULL);
  if (object == NULL) return;
  object_free(object);
  count(FREED_IN_CALLBACK);
}

/* ---- allocation ---- */

static size_t random_size(const struct record *record) {
  struct dice *dice = &self->dice;
  const size_t kind = roll(dice, 1000);
  const size_t used = atomic_load_relaxed(&live_bytes);
  if (used > BYTES_MAX || kind < 700) {
    const size_t most = (size_t)16 << roll(dice, 6);
    return 8 + roll(dice, most);
  }
  if (kind < 920) return 8 + roll(dice, 8 * KIB);
  if (kind < 990) return 8 + roll(dice, 128 * KIB);
  if (record->arena != 0 || kind < 999 || !one_in(dice, 8)) {
    return 128 * KIB + roll(dice, (record->arena != 0 ? 256 : 900) * KIB);
  }
  return RESERVE_SIZE / 2 + roll(dice, 8 * MIB);
}

static void check_zero(const char *p, size_t size) {
  const size_t step = size > 64 * KIB ? 509 : 1;
  for (size_t i = 0; i < size; i += step) {
    if (p[i] != 0)
      fail("zeroed block %p of %zu bytes has %#x at %zu", (const void *)p, size,
           (unsigned char)p[i], i);
  }
}

/* An offset keeps the words of the block aligned. */
static char *allocate_aligned(mi_heap_t *heap, size_t size, size_t *alignment) {
  struct dice *dice = &self->dice;
  *alignment = (size_t)1 << roll(dice, size > MIB ? 17 : 14);
  const size_t offset = one_in(dice, 3) ? 8 * (1 + roll(dice, 8)) : 0;
  const bool zero = one_in(dice, 4);
  char *p = zero ? mi_heap_zalloc_aligned_at(heap, size, *alignment, offset)
                 : mi_heap_malloc_aligned_at(heap, size, *alignment, offset);
  if (p == NULL) return NULL;
  if (((uintptr_t)p + offset) % *alignment != 0) {
    fail("block %p of %zu bytes is not aligned to %zu at %zu", (void *)p, size,
         *alignment, offset);
  }
  if (zero) check_zero(p, size);
  count(offset != 0 ? OFFSET_BLOCKS : ALIGNED_BLOCKS);
  if (offset != 0) *alignment = 1;
  return p;
}

static char *allocate_from(struct record *record, size_t size, size_t *alignment) {
  mi_heap_t *heap = record->heap;
  struct dice *dice = &self->dice;
  *alignment = 1;
  const size_t way = roll(dice, 16);
  if (way < 2) return allocate_aligned(heap, size, alignment);
  char *p;
  if (way < 5) {
    p = way == 2   ? mi_heap_calloc(heap, 1, size)
        : way == 3 ? mi_heap_zalloc(heap, size)
                   : mi_heap_zalloc(heap, size + 1);
    if (p != NULL) check_zero(p, size);
    count(ZEROED_BLOCKS);
  } else if (way < 8 && record == current_set()->records[0]) {
    p = mi_malloc(size);
  } else {
    p = mi_heap_malloc(heap, size);
  }
  if (p != NULL && !record->is_guarded && (uintptr_t)p % 16 != 0) {
    fail("block %p is not aligned", (void *)p);
  }
  return p;
}

/* An object of a new block, or NULL when there are too many objects or the arena is full. */
static struct object *allocate(struct record *record, size_t size) {
  struct object *object = object_take();
  if (object == NULL) return NULL;
  tolerated = record->arena != 0 ? ENOMEM : 0;
  size_t alignment;
  char *p = allocate_from(record, size, &alignment);
  tolerated = 0;
  if (p == NULL) {
    if (record->arena == 0) fail("there is no memory for %zu bytes", size);
    count(EXHAUSTED);
    object_give(object);
    return NULL;
  }
  object_begin(object, record, p, size, alignment);
  count(BLOCKS);
  if (size > 128 * KIB) count(LARGE_BLOCKS);
  return object;
}

static struct record *random_record(void) {
  const struct heap_set *set = current_set();
  struct record *record = set->records[roll(&self->dice, SET_HEAPS)];
  return record != NULL ? record : set->records[0];
}

/* Few know which arena a block is in: look at one in many. */
static bool is_in_an_arena(const void *p) {
  for (mi_arena_id_t id = 1; id <= 256; id++) {
    if (mi_arena_contains(id, p)) return true;
  }
  return false;
}

static void allocate_one(void) {
  struct record *record = random_record();
  struct object *object = allocate(record, random_size(record));
  if (object == NULL) return;
  if (object->size > RESERVE_SIZE / 2 && !is_in_an_arena(object->p)) {
    if (record->tag >= FIRST_SEALED_TAG) fail("a block of a sealed tag is in no arena");
    count(MAPPED_BLOCKS);
  }
  hold(object);
}

/* Blocks of one size, enough to fill pages, for others. */
static void allocate_many(void) {
  struct record *record = random_record();
  const size_t size = 8 + roll(&self->dice, one_in(&self->dice, 4) ? 4 * KIB : 200);
  const size_t many = 16 + roll(&self->dice, 256);
  const bool pass = !one_in(&self->dice, 4);
  for (size_t i = 0; i < many; i++) {
    struct object *object = allocate(record, size);
    if (object == NULL) return;
    if (pass) {
      pass_on(object);
    } else {
      hold(object);
    }
  }
}

static void resize(struct object *object) {
  struct record *record = random_record();
  const size_t size = one_in(&self->dice, 2)
                          ? object->size / 2 + 8 + roll(&self->dice, object->size)
                          : random_size(record);
  struct object *moved = object_take();
  if (moved == NULL) {
    object_free(object);
    return;
  }
  /* In case it moves: the old block is free then. If it stays it comes to life again. */
  object_kill(object, "realloc");
  tolerated = record->arena != 0 ? ENOMEM : 0;
  char *p = mi_heap_realloc(record->heap, object->p, size);
  tolerated = 0;
  if (p == NULL) {
    if (record->arena == 0) fail("there is no memory for %zu bytes", size);
    count(EXHAUSTED);
    exchange_word(object->p, live_word(object->p));
    object_give(moved);
    hold(object);
    return;
  }
  check_words(object, p, size, "after realloc");
  const bool stays = p == object->p;
  object_begin(moved, stays ? object->record : record, p, size, 1);
  object_end(object);
  count(stays ? REALLOCS_IN_PLACE : REALLOCS_MOVED);
  hold(moved);
}

/* ---- arenas that come and go ---- */

static atomic_word visits_begun, visits_ended; /* of abandoned pages */

static void area_make(struct area *area) {
  static const bool is_exclusive[] = {[RESERVED] = true, [OPEN_TO_ALL] = false};
  area->kind = RESERVED + (int)roll(&self->dice, 4);
  int error = 0;
  if (area->kind == MANAGED) {
    if (area->memory == NULL) {
      area->memory = mmap(NULL, AREA_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (area->memory == MAP_FAILED) fail("there is no memory to hand over");
      area->memory_is_zero = true;
    }
    if (!mi_manage_os_memory_ex(area->memory, AREA_SIZE, true, false,
                                area->memory_is_zero, -1, true, &area->id)) {
      fail("memory cannot be handed over");
    }
    area->memory_is_zero = false;
  } else if (area->kind == IN_CAGE) {
    const mirt_cage_options_t options = {.size = AREA_SIZE};
    error = mirt_cage_create(&options, &area->cage);
    if (error == 0) area->id = area->cage->arena;
  } else {
    error = mi_reserve_os_memory_ex(AREA_SIZE, false, false, is_exclusive[area->kind],
                                    &area->id);
  }
  if (error != 0) fail("an arena cannot be made: %s", strerror(error));
  area->is_ending = false;
  count(ARENAS_MADE);
}

static uint64_t milliseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/* No heap is bound to it. Has it been destroyed? must: nobody has reason to be in it. */
static bool area_destroy(struct area *area, bool must) {
  const size_t visits = atomic_load_acquire(&visits_ended);
  const size_t live = atomic_load_acquire(&area->live);
  if (area->kind == IN_CAGE && live > 0) return false;
  tolerated = EBUSY;
  const int error = area->kind == IN_CAGE ? mirt_cage_destroy(area->cage)
                                          : mirt_arena_destroy(area->id);
  tolerated = 0;
  if (error == EBUSY) {
    /* A visitor sets a page aside for as long as it looks. */
    const bool visited = atomic_load_after_full(&visits_begun) != visits;
    if (must || (area->kind != OPEN_TO_ALL && live == 0 && !visited)) {
      fail("arena %d of kind %d is busy, with %zu blocks", area->id, area->kind, live);
    }
    count(ARENAS_BUSY);
    return false;
  }
  if (error != 0) fail("arena %d cannot be destroyed: %s", area->id, strerror(error));
  /* Who has just freed the last block may not have counted it yet. */
  const uint64_t end = milliseconds() + 10000;
  for (size_t left; (left = atomic_load_acquire(&area->live)) > 0; sched_yield()) {
    if (milliseconds() < end) continue;
    fail("arena %d is destroyed with %zu live blocks", area->id, left);
  }
  count(area->kind == IN_CAGE ? CAGES_DESTROYED : ARENAS_DESTROYED);
  /* All of the memory is ours again, and nobody writes there but us. */
  if (area->kind == MANAGED) memset(area->memory, 0x5a, AREA_SIZE);
  area->kind = NO_AREA;
  area->id = 0;
  return true;
}

static void make_or_destroy_area(void) {
  struct area *area = &areas[roll(&self->dice, AREAS)];
  pthread_mutex_lock(&area->lock);
  if (area->kind == NO_AREA) {
    area_make(area);
  } else {
    area->is_ending = true;
    if (area->heaps == 0) area_destroy(area, false);
  }
  pthread_mutex_unlock(&area->lock);
}

/* ---- heaps ---- */

static mi_heap_t *heap_make(struct record *record) {
  tolerated = record->arena != 0 ? ENOMEM : 0;
  mi_heap_t *heap = mi_heap_new_ex(record->tag, record->may_destroy, record->arena);
  tolerated = 0;
  if (heap == NULL && record->arena == 0) fail("there is no memory for a heap");
  return heap;
}

static mi_heap_t *heap_make_in_area(struct record *record, struct area *area) {
  mi_heap_t *heap = NULL;
  pthread_mutex_lock(&area->lock);
  if (area->kind != NO_AREA && !area->is_ending) {
    record->arena = area->id;
    record->area = area;
    heap = heap_make(record);
    if (heap != NULL) area->heaps++;
  }
  pthread_mutex_unlock(&area->lock);
  return heap;
}

static void heap_begin(void) {
  struct dice *dice = &self->dice;
  struct heap_set *set = current_set();
  const size_t i = 1 + roll(dice, SET_HEAPS - 1);
  if (set->records[i] != NULL) return;
  struct record *record = record_take();
  if (record == NULL) return;
  record->tag = (int)roll(dice, TAGS);
  record->may_destroy = one_in(dice, 2);
  const size_t where = roll(dice, 5);
  if (where == 0 && record->tag < FIRST_SEALED_TAG) {
    record->heap = heap_make_in_area(record, &areas[roll(dice, AREAS)]);
  } else {
    if (where == 1) record->arena = exclusive_arena;
    record->heap = heap_make(record);
  }
  if (record->heap == NULL) {
    record_let_go(record);
    return;
  }
  if (one_in(dice, 16)) {
    record->is_guarded = true;
    mi_heap_guarded_set_sample_rate(record->heap, 64, roll(dice, 64));
    mi_heap_guarded_set_size_bound(record->heap, 0, 64 * KIB);
  }
  set->records[i] = record;
  count(HEAPS_MADE);
}

/* The heap of mirt has ended. */
static void record_end(struct record *record) {
  record->heap = NULL;
  if (record->area != NULL) {
    pthread_mutex_lock(&record->area->lock);
    record->area->heaps--;
    pthread_mutex_unlock(&record->area->lock);
  }
  record_let_go(record);
}

static void set_end(struct heap_set *set) {
  for (size_t i = 0; i < SET_HEAPS; i++) {
    if (set->records[i] != NULL) record_end(set->records[i]);
    set->records[i] = NULL;
  }
}

static size_t held_of(const struct record *record) {
  size_t own = 0;
  for (size_t i = 0; i < self->held_count; i++) own += self->held[i]->record == record;
  return own;
}

/* Only who has all blocks of a heap may destroy it. */
static void heap_destroy(struct record *record) {
  for (size_t i = 0; i < self->held_count; i++) {
    if (self->held[i]->record == record) object_kill(self->held[i], "destroy");
  }
  mi_heap_destroy(record->heap);
  for (size_t i = self->held_count; i-- > 0;) {
    if (self->held[i]->record == record) object_end(held_take(i));
  }
}

static void heap_end(struct heap_set *set, size_t i) {
  struct record *record = set->records[i];
  if (record == NULL) return;
  set->records[i] = NULL;
  const size_t live = atomic_load_acquire(&record->live) - 1;
  if (record->may_destroy && live == held_of(record)) {
    heap_destroy(record);
    if (live > 0) count(HEAPS_DESTROYED);
  } else {
    if (record->may_destroy || one_in(&self->dice, 2)) {
      mi_heap_delete(record->heap);
    } else {
      mi_heap_destroy(record->heap);
    }
    if (live > 0) count(HEAPS_DELETED);
  }
  record_end(record);
}

/* The default heap of the current owner. */
static void set_begin(struct heap_set *set) {
  struct record *record = record_take();
  if (record == NULL) fail("there are no records left");
  record->heap = mi_heap_get_default();
  set->records[0] = record;
}

/* As if the thread had ended, and another had begun. */
static void begin_again(void) {
  if (self->bound != NULL) return;
  mi_thread_done();
  set_end(&self->set);
  if (one_in(&self->dice, 4)) mi_subproc_add_current_thread(second_subprocess);
  set_begin(&self->set);
  count(THREADS_BEGUN_AGAIN);
}

/* Others allocate from the heap that is the default one for a while. */
static void change_default(void) {
  struct record *record = random_record();
  mi_heap_t *before = mi_heap_set_default(record->heap);
  struct object *object = object_take();
  if (object != NULL) {
    tolerated = record->arena != 0 ? ENOMEM : 0;
    const size_t size = 8 + roll(&self->dice, 500);
    char *p = mi_malloc(size);
    tolerated = 0;
    if (p != NULL) {
      object_begin(object, record, p, size, 1);
      hold(object);
    } else {
      object_give(object);
    }
  }
  if (mi_heap_set_default(before) != record->heap) fail("the default heap is another");
}

/* ---- mutators ---- */

static atomic_word free_mutators[MUTATORS]; /* struct mutator* */

static void mutator_give(struct mutator *mutator) {
  for (;;) {
    const size_t i = roll(&self->dice, MUTATORS);
    if (atomic_compare_and_swap_full(&free_mutators[i], 0, (uintptr_t)mutator)) return;
  }
}

static void mutator_make(struct mutator *mutator) {
  mutator->mutator = mirt_mutator_create();
  if (mutator->mutator == NULL) fail("there is no memory for a mutator");
  mutator->last_worker = 0;
}

static void mutator_destroy(struct mutator *mutator) {
  if (mirt_mutator_destroy(mutator->mutator) != 0) fail("a mutator is not destroyed");
  set_end(&mutator->set);
  count(MUTATORS_DESTROYED);
}

static void mutator_bind(struct mutator *mutator) {
  if (mirt_mutator_bind(mutator->mutator) != 0) fail("a mutator cannot be bound");
  if (mirt_mutator_current() != mutator->mutator) fail("another mutator is current");
  self->bound = mutator;
  if (mutator->set.records[0] == NULL) set_begin(&mutator->set);
  if (mutator->last_worker != 0 && mutator->last_worker != self->number) {
    count(MUTATORS_MOVED);
  }
  mutator->last_worker = self->number;
}

static void mutator_unbind(void) {
  struct mutator *mutator = self->bound;
  self->bound = NULL;
  if (mirt_mutator_unbind(mutator->mutator) != 0) fail("a mutator cannot be unbound");
  mutator_give(mutator);
}

static bool count_live(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                       size_t block_size, void *argument) {
  (void)heap, (void)block, (void)block_size;
  *(size_t *)argument += area->used;
  return true;
}

/* Nobody else has it now: its pages are full of others' blocks at most. */
static void mutator_visit(struct mutator *mutator) {
  size_t live = 0;
  if (!mirt_visit_owner_heaps(mutator->mutator, false, count_live, &live)) {
    fail("the visit of a mutator was stopped");
  }
  count(MUTATORS_VISITED);
}

static void use_mutator(void) {
  if (self->bound != NULL) {
    mutator_unbind();
    return;
  }
  const size_t i = roll(&self->dice, MUTATORS);
  struct mutator *mutator = (struct mutator *)atomic_exchange_full(&free_mutators[i], 0);
  if (mutator == NULL) return;
  switch (roll(&self->dice, 8)) {
    case 0:
      mutator_destroy(mutator);
      mutator_make(mutator);
      mutator_give(mutator);
      break;
    case 1:
      mutator_visit(mutator);
      mutator_give(mutator);
      break;
    default: mutator_bind(mutator);
  }
}

/* ---- visits while others run ---- */

/* What holds for each area, wherever it is. */
static void check_area(const mi_heap_area_t *area) {
  size_t live = 0;
  char *last = NULL;
  mirt_area_iterator_t iterator = mirt_area_begin(area);
  for (char *p; (p = mirt_area_next(&iterator)) != NULL; last = p) {
    live++;
    if (p <= last || p < (char *)area->blocks ||
        p + area->block_size > (char *)area->blocks + area->committed ||
        (size_t)(p - (char *)area->blocks) % area->full_block_size != 0) {
      fail("%p is no block of the area at %p", (void *)p, area->blocks);
    }
  }
  if (live != area->used || area->committed > area->reserved ||
      area->block_size > area->full_block_size || area->heap_tag < 0 ||
      area->heap_tag >= TAGS) {
    fail("the area at %p is wrong: %zu of %zu blocks, %zu of %zu bytes, tag %d",
         area->blocks, area->used, live, area->committed, area->reserved, area->heap_tag);
  }
}

struct heap_visit {
  const mi_heap_t *heap;
  int tag;
  struct object *sorted[HELD_MAX];
  size_t count, found;
};

static int compare_objects(const void *a, const void *b) {
  const struct object *const *left = a, *const *right = b;
  return (*left)->p < (*right)->p ? -1 : (*left)->p > (*right)->p;
}

/* The object in a block, or NULL. */
static struct object *find_object(struct object **sorted, size_t many, const char *block,
                                  size_t size) {
  size_t low = 0, high = many;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (sorted[middle]->p < block) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < many && sorted[low]->p < block + size ? sorted[low] : NULL;
}

static bool see_own_block(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                          size_t block_size, void *argument) {
  struct heap_visit *visit = argument;
  if (heap != visit->heap || area->heap_tag != visit->tag ||
      block_size != area->block_size) {
    fail("a visitor is told wrong things");
  }
  if (block == NULL) {
    check_area(area);
  } else if (find_object(visit->sorted, visit->count, block, block_size) != NULL) {
    visit->found++;
  }
  return true;
}

/* All blocks of an own heap that are in our hands are shown once. Others may be shown: those
 * that others have, and those that came with adopted pages. */
static void visit_own_heap(void) {
  const struct record *record = random_record();
  struct heap_visit visit = {.heap = record->heap, .tag = record->tag};
  for (size_t i = 0; i < self->held_count; i++) {
    if (self->held[i]->record == record) visit.sorted[visit.count++] = self->held[i];
  }
  qsort(visit.sorted, visit.count, sizeof *visit.sorted, compare_objects);
  if (!mi_heap_visit_blocks(record->heap, true, see_own_block, &visit)) {
    fail("the visit of a heap was stopped");
  }
  if (visit.found != visit.count) {
    fail("%zu blocks of a heap were shown instead of %zu", visit.found, visit.count);
  }
  mirt_stats_t stats;
  if (!mirt_stats_heap(record->heap, &stats) || stats.live_blocks < visit.count) {
    fail("a heap has %zu live blocks, less than %zu", stats.live_blocks, visit.count);
  }
  count(HEAPS_VISITED);
}

struct abandoned_visit {
  int tag; /* or -1 */
  size_t areas;
};

static bool see_abandoned(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                          size_t block_size, void *argument) {
  struct abandoned_visit *visit = argument;
  if (heap != NULL || (visit->tag >= 0 && area->heap_tag != visit->tag) ||
      block_size != area->block_size) {
    fail("a visitor of abandoned areas is told wrong things");
  }
  if (block == NULL) {
    check_area(area);
    visit->areas++;
  }
  return true;
}

static void visit_abandoned(void) {
  struct dice *dice = &self->dice;
  struct abandoned_visit visit = {.tag = (int)roll(dice, TAGS + 1) - 1};
  mi_subproc_id_t subprocess = one_in(dice, 3) ? second_subprocess : NULL;
  atomic_fetch_add_full(&visits_begun, 1);
  if (!mi_abandoned_visit_blocks(subprocess, visit.tag, one_in(dice, 2), see_abandoned,
                                 &visit)) {
    fail("the visit of abandoned areas was stopped");
  }
  atomic_fetch_add_full(&visits_ended, 1);
  count_more(ABANDONED_VISITED, visit.areas);
}

/* ---- questions and collections ---- */

static void discard(const char *text, void *argument) { (void)text, (void)argument; }

static void draw_map(void) {
  const struct area *area = &areas[roll(&self->dice, AREAS)];
  (void)area;
  if (mirt_arena_map(one_in(&self->dice, 4) ? 0 : shared_arena, discard, NULL) != 0) {
    fail("there is no map");
  }
  count(MAPS_WRITTEN);
}

static void ask(void) {
  struct dice *dice = &self->dice;
  const void *p = self->stale[roll(dice, STALE_MAX)];
  const int tag = mirt_tag_of(p);
  if (tag < -1 || tag >= TAGS) fail("%p has tag %d", p, tag);
  const struct record *record = random_record();
  if (mi_heap_contains_block(record->heap, p) && tag != -1 &&
      mi_heap_of(p) == record->heap && tag != record->tag) {
    fail("%p is of a heap and not of its tag", p);
  }
  mirt_stats_t stats;
  if (one_in(dice, 16) && !mirt_stats_tag((int)roll(dice, TAGS), &stats)) {
    fail("there are no numbers");
  }
  if (one_in(dice, 64)) {
    char *text = mi_stats_get_json(0, NULL);
    if (text == NULL) fail("there is no text");
    mi_free(text);
  }
}

static void collect(void) {
  switch (roll(&self->dice, 4)) {
    case 0: mi_heap_collect(random_record()->heap, one_in(&self->dice, 8)); break;
    case 1: mi_collect_reduce(roll(&self->dice, 8) * MIB); break;
    case 2:
      mi_collect(true);
      count(FORCED_COLLECTS);
      break;
    default: mi_collect(false);
  }
}

/* ---- a worker ---- */

static void step(void) {
  struct dice *dice = &self->dice;
  const size_t way = roll(dice, 1000);
  struct object *object;
  if (way < 350) {
    allocate_one();
  } else if (way < 560) {
    if ((object = held_take_any()) != NULL) object_free(object);
  } else if (way < 660) {
    if ((object = held_take_any()) != NULL) hold(box_exchange(object));
  } else if (way < 720) {
    if ((object = held_take_any()) != NULL) pass_on(object);
  } else if (way < 770) {
    if ((object = one_in(dice, 2) ? box_exchange(NULL) : bag_take()) == NULL) return;
    if (one_in(dice, 3)) {
      hold(object);
    } else {
      object_free(object);
    }
  } else if (way < 850) {
    if (self->held_count == 0) return;
    check_object(self->held[roll(dice, self->held_count)], "check");
  } else if (way < 890) {
    if ((object = held_take_any()) != NULL) resize(object);
  } else if (way < 920) {
    allocate_many();
  } else if (way < 935) {
    heap_begin();
  } else if (way < 945) {
    heap_end(current_set(), 1 + roll(dice, SET_HEAPS - 1));
  } else if (way < 960) {
    use_mutator();
  } else if (way < 966) {
    make_or_destroy_area();
  } else if (way < 972) {
    visit_own_heap();
  } else if (way < 974) {
    visit_abandoned();
  } else if (way < 980) {
    collect();
  } else if (way < 982) {
    change_default();
  } else if (way < 983) {
    begin_again();
  } else if (way < 984) {
    if (one_in(dice, 8)) draw_map();
  } else {
    ask();
  }
}

/* Threads that run, wait while all are stopped, or have ended and are to be joined. */
static pthread_mutex_t world_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t world_changed = PTHREAD_COND_INITIALIZER; /* for the main thread */
static pthread_cond_t world_goes_on = PTHREAD_COND_INITIALIZER;
static atomic_word is_stopping, is_over;
static size_t running_count, parked_count;
static struct worker *ended_workers;

static void park(void) {
  pthread_mutex_lock(&world_lock);
  parked_count++;
  pthread_cond_signal(&world_changed);
  while (atomic_load_acquire(&is_stopping) != 0)
    pthread_cond_wait(&world_goes_on, &world_lock);
  parked_count--;
  pthread_mutex_unlock(&world_lock);
}

static pthread_key_t end_key;

/* Runs as the thread ends, before or after what mirt does then. */
static void at_thread_end(void *argument) {
  self = argument;
  self->is_ending = true;
  self->set.records[0] = self->set.records[0] != NULL ? self->set.records[0] : &nobody;
  for (int i = 0; i < 8; i++) {
    struct object *object = object_take();
    if (object != NULL) {
      const size_t size = 8 + roll(&self->dice, 300);
      char *p = mi_malloc(size);
      if (p == NULL) fail("there is no memory for a thread that ends");
      object_begin(object, &nobody, p, size, 1);
      pass_on(object);
    }
    object = box_exchange(NULL);
    if (object != NULL) object_free(object);
  }
}

static void *work(void *argument) {
  self = argument;
  struct dice *dice = &self->dice;
  pthread_setspecific(end_key, self);
  if (one_in(dice, 4)) mi_subproc_add_current_thread(second_subprocess);
  if (one_in(dice, 8)) mi_thread_set_in_threadpool();
  set_begin(&self->set);
  const size_t steps = (size_t)16 << roll(dice, 10);
  size_t done = 0;
  while (done < steps && atomic_load_relaxed(&is_over) == 0) {
    if (atomic_load_relaxed(&is_stopping) != 0) park();
    step();
    done++;
  }
  count_more(OPERATIONS, done);
  if (self->bound != NULL && one_in(dice, 2)) mutator_unbind();
  /* What others get now lives on in pages without an owner. */
  while (self->held_count > 0) {
    struct object *object = held_take_any();
    if (one_in(dice, 3)) {
      pass_on(object);
    } else {
      object_free(object);
    }
  }
  pthread_mutex_lock(&world_lock);
  self->next = ended_workers;
  ended_workers = self;
  pthread_cond_signal(&world_changed);
  pthread_mutex_unlock(&world_lock);
  return NULL;
}

/* ---- all threads ---- */

static size_t worker_number;

static void worker_begin(struct worker *worker) {
  memset(worker, 0, sizeof *worker);
  worker->number = ++worker_number;
  worker->dice.state = mix(seed + worker->number);
  running_count++;
  if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
    fail("a thread cannot be made");
  }
}

/* The thread is gone: so are its heaps, and what was bound to it is free. */
static void worker_end(struct worker *worker) {
  if (pthread_join(worker->thread, NULL) != 0) fail("a thread cannot be joined");
  for (size_t i = 1; i < SET_HEAPS; i++) {
    if (worker->set.records[i] != NULL) count(HEAPS_LEFT);
  }
  set_end(&worker->set);
  spare_objects_give(worker);
  if (worker->bound != NULL) {
    mutator_give(worker->bound);
    count(MUTATORS_LEFT_BOUND);
  }
  count(THREADS_ENDED);
}

/* Join those that have ended; the world is locked. Returns a list of them. */
static struct worker *join_ended(void) {
  struct worker *all = NULL;
  while (ended_workers != NULL) {
    struct worker *worker = ended_workers;
    ended_workers = worker->next;
    pthread_mutex_unlock(&world_lock);
    worker_end(worker);
    pthread_mutex_lock(&world_lock);
    running_count--;
    worker->next = all;
    all = worker;
  }
  return all;
}

static struct timespec time_after(double seconds) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  const long nanoseconds = time.tv_nsec + (long)((seconds - (long)seconds) * 1e9);
  time.tv_sec += (time_t)seconds + nanoseconds / 1000000000;
  time.tv_nsec = nanoseconds % 1000000000;
  return time;
}

static bool is_past(const struct timespec *time) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec != time->tv_sec ? now.tv_sec > time->tv_sec
                                    : now.tv_nsec > time->tv_nsec;
}

/* ---- while all are stopped ---- */

struct tag_sum {
  size_t blocks, bytes, pages, reserved, abandoned;
};

struct world {
  struct object **sorted;
  size_t count; /* live objects */
  unsigned round;
  size_t in_area;  /* blocks shown of the area */
  size_t expected; /* of those to be shown */
  size_t blocks, abandoned_blocks;
  uint64_t hash; /* of what is shown, in order */
  struct tag_sum tags[TAGS];
};

static struct object *all_sorted[OBJECTS_MAX];

static void hash_add(uint64_t *hash, const void *p) {
  *hash = mix(*hash ^ (uintptr_t)p) + 1;
}

static void world_see_area(struct world *world, const mi_heap_t *heap,
                           const mi_heap_area_t *area) {
  check_area(area);
  if (world->in_area != world->expected) fail("an area is shown before another's end");
  world->in_area = 0;
  world->expected = area->used;
  struct tag_sum *sum = &world->tags[area->heap_tag];
  sum->blocks += area->used;
  sum->bytes += area->used * area->block_size;
  sum->pages++;
  sum->reserved += area->reserved;
  if (heap != NULL) return;
  sum->abandoned++;
  world->abandoned_blocks += area->used;
}

static bool world_see(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                      size_t block_size, void *argument) {
  struct world *world = argument;
  if (block == NULL) {
    world_see_area(world, heap, area);
    return true;
  }
  world->in_area++;
  world->blocks++;
  hash_add(&world->hash, block);
  struct object *object = find_object(world->sorted, world->count, block, block_size);
  if (object == NULL) {
    fail("block %p of %zu bytes, tag %d, is shown, and is not live", block, block_size,
         area->heap_tag);
  }
  if (object->shown == world->round) fail("block %p is shown twice", block);
  object->shown = world->round;
  const struct record *record = object->record;
  if (record->tag != area->heap_tag ||
      object->p + object->usable > (char *)block + block_size) {
    fail("block %p is shown with tag %d and %zu bytes", block, area->heap_tag,
         block_size);
  }
  if (record->heap != NULL && heap != record->heap)
    fail("block %p is of another heap", block);
  return true;
}

static bool hash_area(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                      size_t block_size, void *argument) {
  (void)heap, (void)block, (void)block_size;
  mirt_area_iterator_t iterator = mirt_area_begin(area);
  for (void *p; (p = mirt_area_next(&iterator)) != NULL;) hash_add(argument, p);
  return true;
}

static mi_stats_t stats_now(void) {
  mi_stats_t_decl(stats);
  if (!mi_stats_get(&stats)) fail("there are no statistics");
  return stats;
}

static void check_numbers(const struct world *world) {
  struct tag_sum all = {0};
  for (int tag = 0; tag < TAGS; tag++) {
    const struct tag_sum *sum = &world->tags[tag];
    all.pages += sum->pages;
    all.reserved += sum->reserved;
    all.abandoned += sum->abandoned;
    mirt_stats_t stats;
    if (!mirt_stats_tag(tag, &stats)) fail("there are no numbers of tag %d", tag);
    if (stats.live_blocks != sum->blocks || stats.live_bytes != sum->bytes ||
        stats.pages != sum->pages || stats.committed != sum->reserved ||
        stats.abandoned != sum->abandoned || stats.peak < stats.committed ||
        stats.address_space < stats.committed) {
      fail("tag %d: %zu blocks instead of %zu, %zu bytes (%zu), %zu pages (%zu), %zu "
           "committed (%zu), %zu abandoned (%zu)",
           tag, stats.live_blocks, sum->blocks, stats.live_bytes, sum->bytes, stats.pages,
           sum->pages, stats.committed, sum->reserved, stats.abandoned, sum->abandoned);
    }
  }
  const mi_stats_t stats = stats_now();
  if ((size_t)stats.pages.current != all.pages ||
      (size_t)stats.page_bytes.current != all.reserved ||
      (size_t)stats.pages_abandoned.current != all.abandoned) {
    fail("%zu pages instead of %zu, %zu bytes (%zu), %zu abandoned (%zu)",
         (size_t)stats.pages.current, all.pages, (size_t)stats.page_bytes.current,
         all.reserved, (size_t)stats.pages_abandoned.current, all.abandoned);
  }
  if (all.abandoned > 0) count(WORLDS_WITH_ABANDONED);
}

static void check_abandoned(const struct world *world) {
  size_t live = 0;
  if (!mi_abandoned_visit_blocks(NULL, -1, false, count_live, &live) ||
      !mi_abandoned_visit_blocks(second_subprocess, -1, false, count_live, &live)) {
    fail("the visit of abandoned areas was stopped");
  }
  if (live != world->abandoned_blocks) {
    fail("%zu abandoned blocks instead of %zu", live, world->abandoned_blocks);
  }
}

/* Nobody allocates or frees: all that lives is shown, and nothing else. */
static void check_world(void) {
  static unsigned round;
  struct world world = {.sorted = all_sorted, .round = ++round};
  for (size_t i = 0; i < OBJECTS_MAX; i++) {
    struct object *object = &objects[i];
    if (!object->is_live) continue;
    all_sorted[world.count++] = object;
    if (one_in(&self->dice, 8)) check_object(object, "all are stopped");
  }
  qsort(all_sorted, world.count, sizeof *all_sorted, compare_objects);
  if (!mirt_visit_tag(-1, true, world_see, &world)) fail("the visit was stopped");
  if (world.in_area != world.expected || world.blocks != world.count) {
    fail("%zu blocks are shown instead of %zu", world.blocks, world.count);
  }
  uint64_t hash = 0;
  for (int again = 0; again < 2; again++, hash = 0) {
    if (!mirt_visit_tag(-1, false, hash_area, &hash)) fail("the visit was stopped");
    if (hash != world.hash) fail("a visit of areas shows other blocks");
  }
  check_numbers(&world);
  check_abandoned(&world);
  count(WORLDS_STOPPED);
}

/* Stop all threads, look, and let them go on. Returns the workers that have ended. The world is
 * locked. */
static struct worker *stop_world(void) {
  struct worker *all = NULL;
  atomic_store_release(&is_stopping, 1);
  for (;;) {
    struct worker *joined = join_ended();
    while (joined != NULL) {
      struct worker *next = joined->next;
      joined->next = all;
      all = joined;
      joined = next;
    }
    if (ended_workers != NULL) continue;
    if (parked_count == running_count) break;
    pthread_cond_wait(&world_changed, &world_lock);
  }
  check_world();
  atomic_store_release(&is_stopping, 0);
  pthread_cond_broadcast(&world_goes_on);
  return all;
}

/* ---- begin and end ---- */

/* The protocols that nobody can count but mirt. */
static const char *missing(void) {
  for (size_t i = 0; i < COUNTS; i++) {
    if (counted(i) == 0) return count_names[i];
  }
  const mi_stats_t stats = stats_now();
  if (stats.pages_abandoned.total == 0) return "pages abandoned";
  if (stats.pages_adopted == 0) return "pages adopted";
  if (stats.purged == 0) return "bytes purged";
  return NULL;
}

static void run(double seconds) {
  const struct timespec end = time_after(seconds);
  const struct timespec limit = time_after(20 * seconds + 60);
  const double period = seconds < 4 ? seconds / 16 : 0.25;
  struct timespec next_stop = time_after(period);
  for (size_t i = 0; i < thread_limit; i++) worker_begin(&workers[i]);
  pthread_mutex_lock(&world_lock);
  for (;;) {
    struct worker *free_workers = join_ended();
    if (is_past(&end) && (missing() == NULL || is_past(&limit))) {
      while (free_workers != NULL) free_workers = free_workers->next;
      break;
    }
    if (is_past(&next_stop)) {
      struct worker *more = stop_world();
      while (more != NULL) {
        struct worker *next = more->next;
        more->next = free_workers;
        free_workers = more;
        more = next;
      }
      next_stop = time_after(period);
    }
    while (free_workers != NULL) {
      struct worker *worker = free_workers;
      free_workers = worker->next;
      worker_begin(worker);
    }
    if (ended_workers == NULL) {
      pthread_cond_timedwait(&world_changed, &world_lock, &next_stop);
    }
  }
  atomic_store_release(&is_over, 1);
  while (running_count > 0) {
    join_ended();
    if (running_count > 0 && ended_workers == NULL) {
      pthread_cond_wait(&world_changed, &world_lock);
    }
  }
  pthread_mutex_unlock(&world_lock);
}

static void begin(void) {
  mi_option_set(mi_option_visit_abandoned, 1);
  mi_option_set(mi_option_purge_delay, 1);
  mi_option_set(mi_option_arena_purge_mult, 1);
  mi_option_set(mi_option_arena_reserve, (long)(RESERVE_SIZE / KIB));
  mi_register_error(on_error, NULL);
  mi_register_output(on_output, NULL);
  mi_register_deferred_free(on_deferred_free, NULL);
  self = &main_worker;
  self->dice.state = mix(seed);
  pools_begin();
  if (mi_reserve_os_memory_ex(SHARED_SIZE, false, false, false, &shared_arena) != 0 ||
      mi_reserve_os_memory_ex(EXCLUSIVE_SIZE, false, false, true, &exclusive_arena) !=
          0) {
    fail("there are no arenas");
  }
  shared_start = mi_arena_area(shared_arena, NULL);
  for (int tag = FIRST_SEALED_TAG; tag < TAGS; tag++) {
    if (mirt_tag_seal(tag) != 0) fail("tag %d cannot be sealed", tag);
  }
  second_subprocess = mi_subproc_new();
  set_begin(&self->set);
  for (size_t i = 0; i < AREAS; i++) pthread_mutex_init(&areas[i].lock, NULL);
  for (size_t i = 0; i < MUTATORS; i++) {
    mutator_make(&mutators[i]);
    mutator_give(&mutators[i]);
  }
  if (pthread_key_create(&end_key, at_thread_end) != 0) fail("there is no key");
}

/* Give back all that there is. */
static void end(void) {
  check_world();
  for (size_t i = 0; i < MUTATORS; i++) mutator_destroy(&mutators[i]);
  check_world();
  for (size_t i = 0; i < OBJECTS_MAX; i++) {
    if (objects[i].is_live) object_free(&objects[i]);
  }
  check_world();
  for (size_t i = 0; i < AREAS; i++) {
    if (areas[i].kind != NO_AREA) area_destroy(&areas[i], true);
  }
  mi_collect(true);
}

/* Only the main thread is left, and it has a heap without pages. */
static void check_nothing_left(void) {
  const mi_stats_t stats = stats_now();
  if (stats.pages.current != 0 || stats.page_bytes.current != 0 ||
      stats.pages_abandoned.current != 0 || stats.large_blocks.current != 0 ||
      stats.heaps.current != 1 || stats.threads.current != 1) {
    fail("left: %lld pages, %lld bytes in them, %lld abandoned, %lld large blocks, "
         "%lld heaps, %lld threads",
         (long long)stats.pages.current, (long long)stats.page_bytes.current,
         (long long)stats.pages_abandoned.current, (long long)stats.large_blocks.current,
         (long long)stats.heaps.current, (long long)stats.threads.current);
  }
  size_t sealed_count = 0;
  for (size_t i = 0; i < SHARED_SIZE / SLICE; i++) sealed_count += sealed_slices[i] != 0;
  size_t sealed = 0;
  for (int tag = 0; tag < TAGS; tag++) {
    mirt_stats_t tag_stats;
    if (!mirt_stats_tag(tag, &tag_stats)) fail("there are no numbers of tag %d", tag);
    if (tag_stats.live_blocks != 0 || tag_stats.live_bytes != 0 || tag_stats.pages != 0 ||
        tag_stats.committed != 0 || tag_stats.abandoned != 0 ||
        (tag < FIRST_SEALED_TAG && tag_stats.address_space != 0)) {
      fail("tag %d is left with %zu blocks, %zu pages, %zu bytes of addresses", tag,
           tag_stats.live_blocks, tag_stats.pages, tag_stats.address_space);
    }
    sealed += tag_stats.address_space;
  }
  if (sealed < sealed_count * SLICE) {
    fail("%zu bytes are sealed, less than %zu", sealed, sealed_count * SLICE);
  }
  const size_t bytes = atomic_load_relaxed(&live_bytes);
  if (bytes != 0) fail("%zu bytes live", bytes);
}

/* Each arena is empty, whoever made it. */
static void destroy_arenas(void) {
  for (mi_arena_id_t id = 1; id <= 4096; id++) {
    if (mi_arena_area(id, NULL) == NULL) continue;
    if (mirt_arena_destroy(id) != 0) fail("arena %d cannot be destroyed", id);
  }
  if (stats_now().arenas.current != 0) fail("there are still arenas");
  for (int tag = 0; tag < TAGS; tag++) {
    mirt_stats_t stats;
    if (!mirt_stats_tag(tag, &stats) || stats.address_space != 0) {
      fail("tag %d has %zu bytes of addresses without an arena", tag,
           stats.address_space);
    }
  }
  char *p = mi_malloc(100);
  if (p == NULL) fail("there is no memory any more");
  mi_free(p);
}

static void print_totals(void) {
  const mi_stats_t stats = stats_now();
  for (size_t i = 0; i < COUNTS; i++) printf("%-40s %12zu\n", count_names[i], counted(i));
  const struct {
    const char *name;
    int64_t value;
  } more[] = {
      {"pages", stats.pages.total},
      {"  at most at once", stats.pages.peak},
      {"  abandoned", stats.pages_abandoned.total},
      {"  adopted", stats.pages_adopted},
      {"MiB purged", stats.purged / (int64_t)MIB},
      {"MiB committed at most", stats.committed.peak / (int64_t)MIB},
  };
  for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
    printf("%-40s %12lld\n", more[i].name, (long long)more[i].value);
  }
}

static int usage(void) {
  fprintf(stderr, "usage: stress [seconds [threads (1 to %d) [seed]]]\n", WORKERS_MAX);
  return 2;
}

static bool parse(const char *text, unsigned long long least, unsigned long long most,
                  unsigned long long *number) {
  char *rest;
  errno = 0;
  *number = strtoull(text, &rest, 0);
  return errno == 0 && rest != text && *rest == 0 && *text != '-' && *number >= least &&
         *number <= most;
}

int main(int argc, char **argv) {
  unsigned long long seconds = 3, threads = thread_limit, number = seed;
  if (argc > 4 || (argc > 1 && !parse(argv[1], 1, 100000, &seconds)) ||
      (argc > 2 && !parse(argv[2], 1, WORKERS_MAX, &threads)) ||
      (argc > 3 && !parse(argv[3], 0, ULLONG_MAX, &number))) {
    return usage();
  }
  thread_limit = (size_t)threads;
  seed = number;
  printf("%llu seconds, %zu threads, seed %llu\n", seconds, thread_limit,
         (unsigned long long)seed);
  fflush(stdout);
  signal(SIGALRM, on_alarm);
  alarm((unsigned)(21 * seconds + 300));
  begin();
  run((double)seconds);
  const char *lacking = missing();
  end();
  check_nothing_left();
  print_totals();
  fflush(stdout);
  destroy_arenas();
  if (lacking != NULL) fail("not exercised: %s", lacking);
  return 0;
}
