#include "vm/gc.h"

#include <errno.h>
#include <string.h>

#include "arena/page_map.h"
#include "base/log.h"
#include "heap/alloc.h"
#include "heap/large.h"
#include "os/os.h"
#include "vm/mark.h"
#include "vm/weak.h"

static int fails(int code, const char *function, const char *why) {
  log_error(code, function, "%s", why);
  return code;
}

/* Mostly addresses: what is never described takes no memory. */
static size_t collection_size(const mirt_runtime_t *runtime) {
  return align_up(sizeof(struct collection) +
                      runtime->arena->slice_count * sizeof(struct target),
                  os_page_size());
}

bool gc_is_running(const mirt_runtime_t *runtime) {
  return runtime->collection != NULL && runtime->collection->is_running;
}

bool gc_is_active(const mirt_runtime_t *runtime) {
  return gc_is_running(runtime) ||
         (runtime->collection != NULL &&
          atomic_load_acquire(&runtime->collection->is_finalizing) != 0);
}

void gc_release(mirt_runtime_t *runtime) {
  if (runtime->collection == NULL) return;
  collection_release_segments(runtime->collection);
  os_release(runtime->collection, runtime->collection->size);
}

/* ---- begin ---- */

/* A page that nobody owns: what was freed into it is free. */
static bool settle_abandoned(struct page *page, void *argument) {
  (void)argument;
  const uintptr_t state = atomic_load_acquire(&page->state);
  if (page_state_owner(state) != PAGE_ABANDONED || atomic_flag_get(&page->is_large) ||
      !page_turn_over(page, state, PAGE_VISITED)) {
    return true;
  }
  page_collect(page);
  page_abandon(page, PAGE_VISITED, NULL, 0);
  return true;
}

static void begin_markers(struct collection *collection, unsigned count) {
  const struct arena *arena = collection->runtime->arena;
  memset(collection->markers, 0, count * sizeof collection->markers[0]);
  collection->marker_count = count;
  collection->is_parallel = count > 1;
  for (unsigned i = 0; i < count; i++) {
    collection->markers[i].collection = collection;
    collection->markers[i].runtime = collection->runtime;
    collection->markers[i].base = arena->base;
    collection->markers[i].targets = collection->targets;
    collection->markers[i].until_share = 1;
  }
}

/* The object that a finalizer has in hand is a root: it may have put new ones into its slots.
 * What a trace function would find in it may have died with it. */
static void mark_finalizing(struct collection *collection) {
  const struct page *page = block_page(collection->finalizing);
  if (page == NULL || page_type(collection->runtime, page)->trace != NULL) return;
  mirt_mark(&collection->markers[0], collection->finalizing);
}

static int begin(const char *function, mirt_runtime_t *runtime,
                 const mirt_gc_options_t *options) {
  static const mirt_gc_options_t defaults;
  if (options == NULL) options = &defaults;
  if (runtime == NULL) return fails(EINVAL, function, "runtime is NULL");
  if (options->markers > MIRT_MARKERS_MAX) {
    return fails(EINVAL, function, "too many markers");
  }
  if (runtime->collection == NULL) {
    runtime->collection = os_reserve(collection_size(runtime), os_page_size(), true);
    if (runtime->collection == NULL) return fails(ENOMEM, function, "no memory");
    runtime->collection->runtime = runtime;
    runtime->collection->size = collection_size(runtime);
  }
  struct collection *collection = runtime->collection;
  if (collection->is_running) return fails(EBUSY, function, "a collection runs");
  collection->is_running = true;
  collection->is_lazy = options->is_lazy && !runtime->fills_dead;
  collection->on_marked = options->on_marked;
  collection->arg = options->arg;
  collection->kept_objects = collection->kept_bytes = 0;
  collection->began_at = os_clock_nanoseconds();
  begin_markers(collection, options->markers == 0 ? 1 : options->markers);
  runtime_for_each_cell(runtime, cell_settle);
  pages_for_each_in(runtime->arena, settle_abandoned, NULL);
  collection_describe_pages(collection);
  mark_finalizing(collection);
  return 0;
}

int mirt_gc_begin(mirt_runtime_t *runtime, const mirt_gc_options_t *options) {
  return begin("mirt_gc_begin", runtime, options);
}

mirt_marker_t *mirt_gc_marker(mirt_runtime_t *runtime, unsigned number) {
  struct collection *collection = runtime == NULL ? NULL : runtime->collection;
  if (collection == NULL || !collection->is_running ||
      number >= collection->marker_count) {
    fails(EINVAL, "mirt_gc_marker", "there is no such marker");
    return NULL;
  }
  return &collection->markers[number];
}

/* ---- finalizers ---- */

static void queue(struct collection *collection, void *object) {
  struct segment *top = collection->dead;
  if (top == NULL || top->count == SEGMENT_ENTRIES) {
    top = segment_take(collection);
    if (top == NULL) return; /* it lives until the next collection */
    top->next = collection->dead;
    collection->dead = top;
  }
  top->entries[top->count++] = (uintptr_t)object;
}

/* Keep blocks of a group that are not marked. */
static void keep(struct collection *collection, const struct page *page, size_t group,
                 uint64_t blocks) {
  atomic_word *mark = &page_mark(page)[group];
  atomic_store_relaxed(mark, atomic_load_relaxed(mark) | blocks);
  const size_t count = bits_count(blocks);
  collection->kept_objects += count;
  collection->kept_bytes += count * page->block_size;
}

/* The blocks of a group that are neither free nor marked. */
static uint64_t dead_blocks(const struct page *page, size_t group) {
  return ~(atomic_load_relaxed(&page->free[group]) |
           atomic_load_relaxed(&page_mark(page)[group])) &
         page_group_mask(page, group);
}

typedef void dead_function(struct collection *collection, void *object);

/* Call f for each object of a page that dies. */
static void for_each_dead(struct collection *collection, const struct page *page,
                          dead_function *f) {
  const size_t count = atomic_load_relaxed(&page->group_count);
  for (size_t i = 0; i < count; i++) {
    for (uint64_t left = dead_blocks(page, i); left != 0; left &= left - 1) {
      f(collection, page_block(page, i * WORD_BITS + bits_lowest(left)));
    }
  }
}

static bool has_finalizer(const struct collection *collection, const struct page *page) {
  const struct type *type = page_type(collection->runtime, page);
  return type != NULL && type->finalize != NULL;
}

static bool queue_page(struct page *page, void *collection) {
  if (has_finalizer(collection, page)) for_each_dead(collection, page, queue);
  return true;
}

/* Does the slot refer to an object that dies? */
static bool slot_is_dead(const mirt_runtime_t *runtime, const struct type *type,
                         const char *slot) {
  uint64_t word = 0;
  const void *object;
  if (type->slot_size == sizeof(mirt_ref_t)) {
    mirt_ref_t ref;
    memcpy(&ref, slot, sizeof ref);
    word = ref;
    object = mirt_decode(runtime->cage, ref);
  } else {
    memcpy(&word, slot, sizeof word);
    object = (const void *)(uintptr_t)word;
  }
  if ((word & type->immediate_mask) == type->immediate_value) return false;
  const struct page *page = page_map_find(object);
  return page != NULL && page->arena == runtime->arena &&
         page_type(runtime, page) != NULL && !mirt_is_marked(runtime, object);
}

static void forget_dead_slots(struct collection *collection, void *object) {
  const mirt_runtime_t *runtime = collection->runtime;
  const struct page *page = page_map_find(object);
  const struct type *type = page_type(runtime, page);
  if (type->slot_size == 0) return;
  const size_t size = type->is_variable ? page->block_size : type->public.size;
  for (size_t i = 0; (i + 1) * type->slot_size <= size; i++) {
    const bool is_mapped =
        i < type->map_slots && ((type->map[i / 64] >> (i % 64)) & 1) != 0;
    const bool is_element = type->is_array && i * type->slot_size >= type->array_offset;
    char *slot = (char *)object + i * type->slot_size;
    if ((is_mapped || is_element) && slot_is_dead(runtime, type, slot)) {
      memset(slot, 0, type->slot_size);
    }
  }
}

static bool forget_page(struct page *page, void *collection) {
  if (has_finalizer(collection, page)) for_each_dead(collection, page, forget_dead_slots);
  return true;
}

static bool keep_page(struct page *page, void *argument) {
  struct collection *collection = argument;
  if (!has_finalizer(collection, page)) return true;
  const size_t count = atomic_load_relaxed(&page->group_count);
  for (size_t i = 0; i < count; i++) {
    const uint64_t dead = dead_blocks(page, i);
    if (dead != 0) keep(collection, page, i, dead);
  }
  return true;
}

/* Objects whose finalizer is to be called: out of the sweep's reach, and with nothing in them
 * that is not. */
static void begin_finalizing(struct collection *collection) {
  mirt_runtime_t *runtime = collection->runtime;
  if (runtime->finalizable_types == 0) return;
  pages_for_each_in(runtime->arena, queue_page, collection);
  pages_for_each_in(runtime->arena, forget_page, collection);
  pages_for_each_in(runtime->arena, keep_page, collection);
}

static void keep_object(struct collection *collection, void *object) {
  const struct page *page = block_page(object);
  if (page == NULL) return; /* the program has freed what it could not reach */
  const size_t index = page_block_index(page, object);
  if (page_is_marked(page, index)) return;
  forget_dead_slots(collection, object);
  keep(collection, page, index / WORD_BITS, (uint64_t)1 << (index % WORD_BITS));
}

/* What an earlier collection found dead, and nobody has finalized yet. */
static void keep_queued(struct collection *collection) {
  if (collection->finalizing != NULL) keep_object(collection, collection->finalizing);
  for (const struct segment *s = collection->dead; s != NULL; s = s->next) {
    for (size_t i = 0; i < s->count; i++) {
      keep_object(collection, (void *)s->entries[i]);
    }
  }
}

/* Take one from the queue. */
static void *unqueue(struct collection *collection) {
  struct segment *top = collection->dead;
  void *object = (void *)top->entries[--top->count];
  if (top->count == 0) {
    collection->dead = top->next;
    segment_give(collection, top);
  }
  return object;
}

static void finalize(struct collection *collection, void *object) {
  const struct page *page = block_page(object);
  if (page == NULL) return;
  const struct type *type = page_type(collection->runtime, page);
  collection->finalizing = object;
  const size_t weak_made = collection->runtime->weak_made;
  const bool stays = type->finalize(object, page->block_size, type->arg);
  collection->finalizing = NULL;
  if (stays) return;
  /* There were none to it before, and nobody else can make one. */
  if (collection->runtime->weak_made != weak_made) {
    weak_forget(collection->runtime, object);
  }
  block_free(object);
}

size_t mirt_gc_finalize(mirt_runtime_t *runtime) {
  if (runtime == NULL || runtime->collection == NULL) return 0;
  struct collection *collection = runtime->collection;
  /* Who is at it already, another thread or this one further out, finds these, too. */
  if (!atomic_compare_and_swap_full(&collection->is_finalizing, 0, 1)) return 0;
  size_t count = 0;
  for (; collection->dead != NULL; count++) finalize(collection, unqueue(collection));
  if (!collection->is_running) collection_reset_segments(collection);
  atomic_store_release(&collection->is_finalizing, 0);
  return count;
}

/* ---- the sweep ---- */

#define PREFETCH_PAGES 3  /* ahead */
#define PREFETCH_WORDS 16 /* of a plane: all of it where blocks have 64 bytes or more */
#define WORDS_PER_LINE 8

struct sweep {
  struct collection *collection;
  size_t live_objects, live_bytes, dead_objects, dead_bytes;
};

static void add_swept(struct sweep *sweep, const struct page *page,
                      struct page_swept swept) {
  sweep->live_objects += swept.live;
  sweep->live_bytes += swept.live * page->block_size;
  sweep->dead_objects += swept.dead;
  sweep->dead_bytes += swept.dead * page->block_size;
}

static void sweep_large(struct page *page) {
  if (page_is_marked(page, 0)) {
    atomic_store_relaxed(&page_mark(page)[0], 0);
  } else {
    large_free(page);
  }
}

static void sweep_abandoned(struct page *page, uintptr_t state, struct sweep *sweep) {
  if (!page_turn_over(page, state, PAGE_VISITED)) return;
  add_swept(sweep, page, page_sweep(page));
  page_abandon(page, PAGE_VISITED, NULL, 0);
}

static void sweep_owned(struct page *page, struct sweep *sweep) {
  page->needs_sweep = SWEEP_DUE;
  const bool is_lazy = sweep->collection->is_lazy;
  const struct page_swept swept = is_lazy ? page_count_marks(page) : page_sweep(page);
  add_swept(sweep, page, swept);
  if (!swept.is_free) return;
  /* Nothing is put off here: it is for all to use. */
  if (is_lazy) page_sweep(page);
  cell_retire_if_free(page_cell(page), page);
}

static void fill_dead(struct collection *collection, void *object) {
  (void)collection;
  memset(object, MIRT_DEAD_BYTE, page_map_find(object)->block_size);
}

/* What is needed of a page that comes soon is in the caches by then. Inline, or the compiler
 * finds that it does nothing. */
static inlined_always void prefetch_page(const struct arena *arena,
                                         const struct page *page) {
  const size_t slice = page_slice_index(page) + PREFETCH_PAGES;
  if (slice + PREFETCH_PAGES >= arena->slice_count) return;
  const struct page *next = &arena->pages[slice];
  __builtin_prefetch(&next[PREFETCH_PAGES]);
  if (next->free == NULL) return;
  for (size_t i = 0; i < PREFETCH_WORDS; i += WORDS_PER_LINE) {
    __builtin_prefetch((const void *)&next->free[i], 1);
    __builtin_prefetch((const void *)&page_mark(next)[i], 1);
  }
}

/* All pages are open: mirt_gc_begin has settled the cells, and the world is stopped. */
static bool sweep_page(struct page *page, void *argument) {
  struct sweep *sweep = argument;
  prefetch_page(page->arena, page);
  if (page_type(sweep->collection->runtime, page) == NULL) return true;
  const uintptr_t state = atomic_load_acquire(&page->state);
  const uint32_t owner = page_state_owner(state);
  if (unlikely(sweep->collection->runtime->fills_dead)) {
    for_each_dead(sweep->collection, page, fill_dead);
  }
  if (atomic_flag_get(&page->is_large)) {
    add_swept(sweep, page, page_count_marks(page));
    sweep_large(page);
  } else if (owner == PAGE_ABANDONED) {
    sweep_abandoned(page, state, sweep);
  } else if (owner >= PAGE_FIRST_OWNER) {
    sweep_owned(page, sweep);
  }
  return true;
}

struct lazy_sweep {
  struct collection *collection;
  size_t left; /* pages */
};

static bool sweep_lazily(struct page *page, void *argument) {
  struct lazy_sweep *sweep = argument;
  if (page->needs_sweep == SWEEP_NOT_DUE) return true;
  sweep->collection->hand = page_slice_index(page) + 1;
  /* Abandoned ones are swept at once, but for those of threads that a fork left behind. */
  if (page_state_owner(atomic_load_acquire(&page->state)) < PAGE_FIRST_OWNER) {
    settle_abandoned(page, NULL);
  } else {
    page_sweep(page);
    cell_retire_if_free(page_cell(page), page);
  }
  return --sweep->left > 0;
}

size_t mirt_gc_sweep(mirt_runtime_t *runtime, size_t pages) {
  if (runtime == NULL || runtime->collection == NULL || pages == 0) return 0;
  struct lazy_sweep sweep = {runtime->collection, pages};
  pages_for_each_from(runtime->arena, runtime->collection->hand, sweep_lazily, &sweep);
  return pages - sweep.left;
}

/* ---- end ---- */

/* Finalizers may be queued for long in others of their segments. */
static void end_markers(struct collection *collection) {
  for (unsigned i = 0; i < collection->marker_count; i++) {
    struct segment *top = collection->markers[i].top;
    if (top != NULL) segment_give(collection, top);
  }
}

int mirt_gc_complete(mirt_runtime_t *runtime) {
  struct collection *collection = runtime == NULL ? NULL : runtime->collection;
  if (collection == NULL || !collection->is_running) {
    return fails(EINVAL, "mirt_gc_complete", "no collection runs");
  }
  /* In both directions in turn: of chains of ephemerons, most were made from one end. */
  bool oldest_first = false;
  do {
    collection_drain(collection);
    oldest_first = !oldest_first;
  } while (weak_mark_values(&collection->markers[0], oldest_first));
  return 0;
}

int mirt_gc_end(mirt_runtime_t *runtime, mirt_gc_stats_t *result) {
  struct collection *collection = runtime == NULL ? NULL : runtime->collection;
  if (collection == NULL || !collection->is_running) {
    return fails(EINVAL, "mirt_gc_end", "no collection runs");
  }
  mirt_gc_stats_t stats = {0};
  mirt_gc_complete(runtime);
  if (collection->on_marked != NULL) {
    collection->on_marked(runtime, collection->arg);
    mirt_gc_complete(runtime); /* it may have marked */
  }
  keep_queued(collection);
  stats.weak_cleared = weak_clear(runtime);
  begin_finalizing(collection);
  const uint64_t marked_at = os_clock_nanoseconds();
  struct sweep sweep = {.collection = collection};
  pages_for_each_in(runtime->arena, sweep_page, &sweep);
  stats.live_objects = sweep.live_objects - collection->kept_objects;
  stats.live_bytes = sweep.live_bytes - collection->kept_bytes;
  stats.freed_objects = sweep.dead_objects;
  stats.freed_bytes = sweep.dead_bytes;
  collection->hand = 0;
  budget_settle(runtime, sweep.live_bytes);
  end_markers(collection);
  if (collection->dead == NULL) collection_reset_segments(collection);
  const uint64_t ended_at = os_clock_nanoseconds();
  stats.mark_time = marked_at - collection->began_at;
  stats.sweep_time = ended_at - marked_at;
  stats.pause_time = ended_at - collection->began_at;
  collection->is_running = false;
  if (result != NULL) *result = stats;
  return 0;
}

/* ---- all of it ---- */

static void *trace_in_thread(void *marker) {
  mirt_gc_trace(marker);
  return NULL;
}

int mirt_collect(mirt_runtime_t *runtime, mirt_roots_fun *roots, void *arg,
                 const mirt_gc_options_t *options, mirt_gc_stats_t *stats) {
  if (roots == NULL) return fails(EINVAL, "mirt_collect", "roots is NULL");
  const int error = begin("mirt_collect", runtime, options);
  if (error != 0) return error;
  struct collection *collection = runtime->collection;
  roots(&collection->markers[0], arg);
  atomic_fetch_add_full(&collection->busy, 1); /* or others would find nobody busy */
  pthread_t threads[MIRT_MARKERS_MAX];
  unsigned begun = 1;
  while (begun < collection->marker_count &&
         pthread_create(&threads[begun], NULL, trace_in_thread,
                        &collection->markers[begun]) == 0) {
    begun++;
  }
  marker_trace(&collection->markers[0]);
  for (unsigned i = 1; i < begun; i++) pthread_join(threads[i], NULL);
  mirt_gc_end(runtime, stats);
  const size_t finalized = mirt_gc_finalize(runtime);
  if (stats != NULL) stats->finalized = finalized;
  return 0;
}
