#include "vm/runtime.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "heap/epoch.h"
#include "heap/page.h"
#include "heap/visit.h"
#include "os/os.h"
#include "vm/gc.h"
#include "vm/weak.h"

#define SIZE_DEFAULT ((size_t)64 * GiB)
#define SIZE_LEAST ((size_t)64 * MiB) /* of what is tried when the default is too much */

static int fails(int code, const char *function, const char *why) {
  log_error(code, function, "%s", why);
  return code;
}

/* ---- all of them ---- */

/* For the child of a fork. The lock protects the list. */
static struct {
  pthread_mutex_t lock;
  mirt_runtime_t *first;
} known = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* In the child: who held a lock is gone, and may have left a record on no list. */
static void runtimes_after_fork(void) {
  pthread_mutex_init(&known.lock, NULL);
  for (mirt_runtime_t *r = known.first; r != NULL; r = r->next_known) {
    pthread_mutex_init(&r->lock, NULL);
  }
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, runtimes_after_fork); }

static void remember(mirt_runtime_t *runtime) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  pthread_mutex_lock(&known.lock);
  runtime->next_known = known.first;
  known.first = runtime;
  pthread_mutex_unlock(&known.lock);
}

static void forget(const mirt_runtime_t *runtime) {
  pthread_mutex_lock(&known.lock);
  mirt_runtime_t **link = &known.first;
  while (*link != runtime) link = &(*link)->next_known;
  *link = runtime->next_known;
  pthread_mutex_unlock(&known.lock);
}

/* ---- making ---- */

static int make_cage(mirt_runtime_t *runtime, const mirt_runtime_options_t *options) {
  const int error = mirt_cage_create(options->cage, &runtime->cage);
  if (error == 0) runtime->arena = arena_of_id(runtime->cage->arena);
  return error;
}

static int make_arena(mirt_runtime_t *runtime, const mirt_runtime_options_t *options) {
  const struct arena_setup setup = {.exclusive = true, .has_owner = true};
  size_t size = options->size == 0 ? SIZE_DEFAULT : align_up(options->size, SLICE_SIZE);
  do {
    runtime->arena = arena_reserve(size, false, setup);
    size /= 2;
  } while (runtime->arena == NULL && options->size == 0 && size >= SIZE_LEAST);
  if (runtime->arena == NULL) {
    return fails(ENOMEM, "mirt_runtime_create", "the addresses cannot be had");
  }
  arena_unpin(runtime->arena);
  return 0;
}

static size_t mapping_size(unsigned type_limit) {
  return align_up(sizeof(mirt_runtime_t) + type_limit * sizeof(struct type),
                  os_page_size());
}

int mirt_runtime_create(const mirt_runtime_options_t *options, mirt_runtime_t **result) {
  static const mirt_runtime_options_t defaults;
  if (result == NULL) return fails(EINVAL, "mirt_runtime_create", "no place for it");
  *result = NULL;
  if (options == NULL) options = &defaults;
  const unsigned type_limit =
      options->type_limit == 0 ? TYPES_DEFAULT : options->type_limit;
  if (type_limit > MIRT_TYPES_MAX) {
    return fails(EINVAL, "mirt_runtime_create", "type_limit is above MIRT_TYPES_MAX");
  }
  if (options->hard_limit != 0 && options->hard_limit < options->soft_limit) {
    return fails(EINVAL, "mirt_runtime_create", "the hard limit is below the soft one");
  }
  const size_t size = mapping_size(type_limit);
  mirt_runtime_t *runtime = os_reserve_guarded(size);
  if (runtime == NULL) {
    return fails(ENOMEM, "mirt_runtime_create", "no memory for the record");
  }
  runtime->mapping_size = size;
  runtime->types = (struct type *)(void *)(runtime + 1);
  runtime->type_limit = type_limit;
  runtime->mutator_size =
      align_up(MUTATOR_CELLS + type_limit * CELL_STRIDE, os_page_size());
  runtime->calls_always = options->call_always;
  runtime->fills_dead = options->fill_dead;
  runtime->on_soft_limit = options->on_soft_limit;
  runtime->budget_arg = options->arg;
  atomic_store_relaxed(&runtime->soft_limit, options->soft_limit);
  atomic_store_relaxed(&runtime->hard_limit, options->hard_limit);
  const int error =
      options->cage != NULL ? make_cage(runtime, options) : make_arena(runtime, options);
  if (error != 0) {
    os_release_guarded(runtime, size);
    return error;
  }
  pthread_mutex_init(&runtime->lock, NULL);
  remember(runtime);
  *result = runtime;
  return 0;
}

/* ---- the end ---- */

/* Let threads bind the mutators before `end` again, but for those whose thread is in the parent
 * of a fork: they have not been taken. */
static void release_mutators(mirt_runtime_t *runtime, const mirt_mutator_t *end) {
  for (mirt_mutator_t *m = runtime->mutators; m != end; m = m->next) {
    if (!m->owner->is_lost) atomic_store_release(&m->owner->bound, 0);
  }
}

/* Take the mutators, so that no thread binds one; or none, if one is bound. */
static bool take_mutators(mirt_runtime_t *runtime) {
  for (mirt_mutator_t *mutator = runtime->mutators; mutator != NULL;
       mutator = mutator->next) {
    if (mutator->owner->is_lost || owner_claim(mutator->owner)) continue;
    release_mutators(runtime, mutator);
    return false;
  }
  return true;
}

/* In the child of a fork, one whose thread is in the parent: nobody has its pages, and its
 * heaps are not to be touched. */
static void forget_lost_mutator(mirt_runtime_t *runtime, mirt_mutator_t *mutator) {
  for (mi_heap_t *heap = mutator->owner->heaps; heap != NULL; heap = heap->next) {
    if (heap->arena == runtime->arena) arena_unpin(runtime->arena);
  }
  mutator->owner->heaps = NULL;
  runtime->mutators = mutator->next;
  mutator->next = runtime->free_mutators;
  runtime->free_mutators = mutator;
}

static void destroy_mutators(mirt_runtime_t *runtime) {
  while (runtime->mutators != NULL) {
    mirt_mutator_t *mutator = runtime->mutators;
    if (mutator->owner->is_lost) {
      forget_lost_mutator(runtime, mutator);
      continue;
    }
    atomic_store_release(&mutator->owner->bound, 0);
    mirt_mutator_destroy(mutator);
  }
}

static void unmap_mutators(mirt_runtime_t *runtime) {
  while (runtime->free_mutators != NULL) {
    mirt_mutator_t *mutator = runtime->free_mutators;
    runtime->free_mutators = mutator->next;
    os_release_guarded(mutator, runtime->mutator_size);
  }
}

/* Heaps bound to the arena that are not those of its mutators. */
static bool has_foreign_heaps(mirt_runtime_t *runtime) {
  size_t own = 0;
  for (mirt_mutator_t *mutator = runtime->mutators; mutator != NULL;
       mutator = mutator->next) {
    for (const mi_heap_t *heap = mutator->owner->heaps; heap != NULL; heap = heap->next) {
      if (heap->arena == runtime->arena) own++;
    }
  }
  return (atomic_load_acquire(&runtime->arena->users) & (ARENA_VIEW - 1)) != own;
}

int mirt_runtime_destroy(mirt_runtime_t *runtime) {
  if (runtime == NULL) return 0;
  if (gc_is_active(runtime)) {
    return fails(EBUSY, "mirt_runtime_destroy", "it is being collected");
  }
  if (!take_mutators(runtime)) {
    return fails(EBUSY, "mirt_runtime_destroy", "a mutator is bound");
  }
  if (has_foreign_heaps(runtime)) {
    release_mutators(runtime, NULL);
    return fails(EBUSY, "mirt_runtime_destroy", "a heap is bound to its arena");
  }
  destroy_mutators(runtime);
  limbo_flush(runtime->arena);
  const int error = runtime->cage != NULL ? mirt_cage_destroy(runtime->cage)
                                          : arena_destroy(runtime->arena->id, true);
  if (error != 0) return error;
  forget(runtime);
  /* Nobody reads a cell of a mutator any more: who destroys an arena waits for readers. */
  unmap_mutators(runtime);
  weak_release(runtime);
  gc_release(runtime);
  const size_t count = atomic_load_relaxed(&runtime->type_count);
  for (size_t i = 0; i < count; i++) type_release_map(&runtime->types[i]);
  pthread_mutex_destroy(&runtime->lock);
  os_release_guarded(runtime, runtime->mapping_size);
  return 0;
}

/* ---- questions ---- */

const mirt_cage_t *mirt_runtime_cage(const mirt_runtime_t *runtime) {
  return runtime == NULL ? NULL : runtime->cage;
}

mi_arena_id_t mirt_runtime_arena(const mirt_runtime_t *runtime) {
  return runtime == NULL ? 0 : runtime->arena->id;
}

void runtime_for_each_cell(mirt_runtime_t *runtime, void (*f)(struct cell *cell)) {
  for (mirt_mutator_t *mutator = runtime->mutators; mutator != NULL;
       mutator = mutator->next) {
    /* Its thread did not come along in a fork: its pages are abandoned, and its cells know
     * nothing of who has them now. */
    if (mutator->owner->is_lost) continue;
    for (mi_heap_t *heap = mutator->owner->heaps; heap != NULL; heap = heap->next) {
      if (heap->arena != runtime->arena) continue;
      for (size_t i = 0; i < CELL_COUNT; i++) {
        if (heap->cells[i] != NULL) f(heap->cells[i]);
      }
    }
  }
}

struct tally {
  const mirt_runtime_t *runtime;
  const mirt_type_t *type; /* of which, or NULL for all */
  size_t objects, live, pages;
  size_t taken; /* free, but in the word of a cell */
};

reads_what_may_change static bool tally_page(struct page *page, void *argument) {
  struct tally *tally = argument;
  const struct type *type = page_type(tally->runtime, page);
  if (type == NULL || (tally->type != NULL && tally->type != &type->public)) return true;
  uint64_t live[PLANE_SLICE_WORDS];
  const size_t objects = page_live_blocks(page, live);
  tally->objects += objects;
  tally->live += objects * page->block_size;
  const uint32_t owner = page_state_owner(atomic_load_acquire(&page->state));
  if (owner >= PAGE_FIRST_OWNER && page->taken != NULL) {
    tally->taken += bits_count(page_cell(page)->word) * page->block_size;
  }
  tally->pages += (size_t)page->slice_count << SLICE_SHIFT;
  return true;
}

size_t runtime_live_bytes(const mirt_runtime_t *runtime, size_t *taken) {
  struct tally tally = {.runtime = runtime};
  pages_for_each_in(runtime->arena, tally_page, &tally);
  *taken = tally.taken;
  return tally.live;
}

bool mirt_runtime_stats(const mirt_runtime_t *runtime, mirt_runtime_stats_t *stats) {
  if (runtime == NULL || stats == NULL) {
    fails(EINVAL, "mirt_runtime_stats", "an argument is NULL");
    return false;
  }
  struct tally tally = {.runtime = runtime};
  pages_for_each_in(runtime->arena, tally_page, &tally);
  pthread_mutex_t *lock = (pthread_mutex_t *)&runtime->lock;
  pthread_mutex_lock(lock);
  const size_t mutators = runtime->mutator_count, weak = runtime->weak_count;
  pthread_mutex_unlock(lock);
  *stats = (mirt_runtime_stats_t){
      .live_bytes = tally.live,
      .pages_bytes = tally.pages,
      .charged_bytes = atomic_load_relaxed(&runtime->charged),
      .soft_limit = atomic_load_relaxed(&runtime->soft_limit),
      .hard_limit = atomic_load_relaxed(&runtime->hard_limit),
      .types = atomic_load_relaxed(&runtime->type_count),
      .mutators = mutators,
      .weak_references = weak,
  };
  return true;
}

bool mirt_type_stats(const mirt_type_t *type, mirt_type_stats_t *stats) {
  if (type == NULL || stats == NULL) {
    fails(EINVAL, "mirt_type_stats", "an argument is NULL");
    return false;
  }
  struct tally tally = {.runtime = type->runtime, .type = type};
  pages_for_each_in(type->runtime->arena, tally_page, &tally);
  *stats = (mirt_type_stats_t){tally.objects, tally.live, tally.pages};
  return true;
}

struct type_visit {
  const mirt_type_t *type;
  mirt_object_fun *visitor;
  void *arg;
};

static bool visit_page(struct page *page, void *argument) {
  const struct type_visit *visit = argument;
  const struct type *type = page_type(visit->type->runtime, page);
  if (type == NULL || &type->public != visit->type) return true;
  uint64_t live[PLANE_SLICE_WORDS];
  page_live_blocks(page, live);
  const size_t groups = atomic_load_relaxed(&page->group_count);
  const size_t block_size = page->block_size;
  const uintptr_t start = page->start;
  for (size_t i = 0; i < groups; i++) {
    for (; live[i] != 0; live[i] &= live[i] - 1) {
      const size_t index = i * WORD_BITS + bits_lowest(live[i]);
      void *object = (void *)(start + index * block_size);
      if (!visit->visitor(object, block_size, visit->arg)) return false;
    }
  }
  return true;
}

bool mirt_type_visit(const mirt_type_t *type, mirt_object_fun *visitor, void *arg) {
  if (type == NULL || visitor == NULL) {
    fails(EINVAL, "mirt_type_visit", "an argument is NULL");
    return false;
  }
  struct type_visit visit = {type, visitor, arg};
  return pages_for_each_in(type->runtime->arena, visit_page, &visit);
}
