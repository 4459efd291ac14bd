/* test_visit.c - what visitors are shown, compared with a model kept outside of the
 * allocator: every live block once, with its size, area, tag and heap, and none that is
 * free, wherever the block lies and wherever it is free; and that to look changes nothing.
 */
#include "test.h"

#include <sys/mman.h>

#include <mirt.h>

#include "arena/page_map.h"
#include "heap/page.h"
#include "heap/size_class.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define MiB (1024 * KiB)

/* Blocks of more than half of this get a mapping of their own when no arena has room, and
 * those that are larger than any arena always. */
#define ARENA_RESERVE (64 * MiB)
#define HUGE_MIN (ARENA_RESERVE / 2 + 1)
#define HUGE_SIZE (4 * ARENA_RESERVE)

/* For threads and children, where Check does not hear of a failure: end the process. */
static _Noreturn void require_failed(int line, const char *text) {
  dprintf(STDERR_FILENO, "test_visit.c:%d: '%s' is false\n", line, text);
  abort();
}

#define require(x) \
  do { \
    if (!(x)) require_failed(__LINE__, #x); \
  } while (0)

/* ---- threads that do what they are told, and wait otherwise ---- */

typedef void task(void *argument);

struct actor {
  bool is_used, is_main;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  task *task; /* NULL: it waits */
  void *argument;
  bool ends;
};

static void *act(void *argument) {
  struct actor *actor = argument;
  pthread_mutex_lock(&actor->lock);
  while (!actor->ends) {
    if (actor->task == NULL) {
      pthread_cond_wait(&actor->changed, &actor->lock);
      continue;
    }
    actor->task(actor->argument);
    actor->task = NULL;
    pthread_cond_broadcast(&actor->changed);
  }
  pthread_mutex_unlock(&actor->lock);
  return NULL;
}

static void actor_begin(struct actor *actor) {
  *actor = (struct actor){.is_used = true};
  require(pthread_mutex_init(&actor->lock, NULL) == 0);
  require(pthread_cond_init(&actor->changed, NULL) == 0);
  require(pthread_create(&actor->thread, NULL, act, actor) == 0);
}

/* Have it done by a thread; returns when it is. */
static void actor_do(struct actor *actor, task *f, void *argument) {
  if (actor->is_main) {
    f(argument);
    return;
  }
  pthread_mutex_lock(&actor->lock);
  actor->task = f;
  actor->argument = argument;
  pthread_cond_broadcast(&actor->changed);
  while (actor->task != NULL) pthread_cond_wait(&actor->changed, &actor->lock);
  pthread_mutex_unlock(&actor->lock);
}

static void actor_end(struct actor *actor) {
  pthread_mutex_lock(&actor->lock);
  actor->ends = true;
  pthread_cond_broadcast(&actor->changed);
  pthread_mutex_unlock(&actor->lock);
  require(pthread_join(actor->thread, NULL) == 0);
  pthread_cond_destroy(&actor->changed);
  pthread_mutex_destroy(&actor->lock);
  actor->is_used = false;
}

/* ---- the model ---- */

#define ACTORS_MAX 4
#define MUTATORS_MAX 4
#define OWNERS_MAX (ACTORS_MAX + MUTATORS_MAX)
#define HEAPS_MAX 64
#define BLOCKS_MAX 20000
#define AREAS_MAX 8000
#define SUBPROCESSES_MAX 3

static const int tags[] = {0, 1, 63, MIRT_TAG_MAX};

/* A thread's own owner, or a mutator. */
struct owner_model {
  bool is_used;
  mirt_mutator_t *mutator;   /* NULL: a thread's own */
  struct actor *actor;       /* where it is bound; NULL: nowhere */
  struct owner_model *below; /* what is current there when it is unbound */
  mi_subproc_id_t subprocess;
};

struct heap_model {
  mi_heap_t *heap; /* NULL: not used */
  struct owner_model *owner;
  int tag;
  bool may_destroy, is_backing;
  mi_arena_id_t arena; /* an exclusive one, or 0 */
};

struct block_model {
  char *p;
  size_t size, usable;
  size_t exact;            /* the size of its block, or 0 where there is a choice */
  bool is_inside;          /* p need not be where the block starts */
  bool is_doomed;          /* to be freed next */
  struct heap_model *heap; /* the one it was allocated in; NULL when that has ended */
  int tag;
  mi_arena_id_t arena;
  mi_subproc_id_t subprocess;
  const mi_heap_t *now; /* the one that it must be shown with */
};

static struct model {
  struct actor actors[ACTORS_MAX]; /* the first is the main thread */
  struct owner_model owners[OWNERS_MAX];
  struct owner_model *current[ACTORS_MAX]; /* of each actor */
  struct heap_model heaps[HEAPS_MAX];
  mi_subproc_id_t subprocesses[SUBPROCESSES_MAX];
  size_t subprocess_count;
  struct block_model blocks[BLOCKS_MAX];
  size_t count;
  uint64_t hash; /* of all addresses ever handed out */
} model;

#define main_actor (&model.actors[0])
#define main_owner (&model.owners[0])

static struct owner_model **current_of(const struct actor *actor) {
  return &model.current[actor - model.actors];
}

static struct owner_model *owner_add(struct owner_model owner) {
  for (size_t i = 0; i < OWNERS_MAX; i++) {
    if (model.owners[i].is_used) continue;
    model.owners[i] = owner;
    model.owners[i].is_used = true;
    return &model.owners[i];
  }
  return NULL;
}

/* Its heaps can be used: it is current where it is bound, or can be bound. */
static bool owner_is_usable(const struct owner_model *owner) {
  return owner->is_used && (owner->actor == NULL || *current_of(owner->actor) == owner);
}

static void bind_task(void *argument) {
  struct owner_model *owner = argument;
  require(mirt_mutator_bind(owner->mutator) == 0);
}

static void unbind_task(void *argument) {
  struct owner_model *owner = argument;
  require(mirt_mutator_unbind(owner->mutator) == 0);
}

static void owner_bind_to(struct owner_model *owner, struct actor *actor) {
  require(owner->actor == NULL);
  actor_do(actor, bind_task, owner);
  owner->actor = actor;
  owner->below = *current_of(actor);
  *current_of(actor) = owner;
}

static void owner_unbind_from(struct owner_model *owner) {
  struct actor *actor = owner->actor;
  require(*current_of(actor) == owner);
  actor_do(actor, unbind_task, owner);
  *current_of(actor) = owner->below;
  owner->actor = NULL;
}

/* Have something done with the heaps of an owner, in its thread. */
static void owner_do(struct owner_model *owner, task *f, void *argument) {
  require(owner_is_usable(owner));
  const bool is_free = owner->actor == NULL;
  if (is_free) owner_bind_to(owner, main_actor);
  actor_do(owner->actor, f, argument);
  if (is_free) owner_unbind_from(owner);
}

/* ---- heaps ---- */

static void heap_task(void *argument) {
  struct heap_model *heap = argument;
  heap->heap = heap->is_backing
                   ? mi_heap_get_backing()
                   : mi_heap_new_ex(heap->tag, heap->may_destroy, heap->arena);
  require(heap->heap != NULL);
}

static struct heap_model *heap_add(struct heap_model wanted) {
  for (size_t i = 0; i < HEAPS_MAX; i++) {
    struct heap_model *heap = &model.heaps[i];
    if (heap->heap != NULL) continue;
    *heap = wanted;
    owner_do(heap->owner, heap_task, heap);
    return heap;
  }
  require_failed(__LINE__, "there is room for a heap");
  return NULL;
}

static struct heap_model *heap_new(struct owner_model *owner, int tag, bool may_destroy) {
  return heap_add(
      (struct heap_model){.owner = owner, .tag = tag, .may_destroy = may_destroy});
}

static struct heap_model *heap_backing_of(struct owner_model *owner) {
  for (size_t i = 0; i < HEAPS_MAX; i++) {
    struct heap_model *heap = &model.heaps[i];
    if (heap->heap != NULL && heap->owner == owner && heap->is_backing) return heap;
  }
  return heap_add((struct heap_model){.owner = owner, .is_backing = true});
}

static void blocks_forget(size_t i) { model.blocks[i] = model.blocks[--model.count]; }

/* The heap is gone, with its blocks or without. */
static void heap_forget(struct heap_model *heap, bool with_blocks) {
  for (size_t i = model.count; i-- > 0;) {
    if (model.blocks[i].heap != heap) continue;
    model.blocks[i].heap = NULL;
    if (with_blocks) blocks_forget(i);
  }
  heap->heap = NULL;
}

static void heap_delete_task(void *argument) { mi_heap_delete(argument); }
static void heap_destroy_task(void *argument) { mi_heap_destroy(argument); }

static void heap_delete(struct heap_model *heap) {
  owner_do(heap->owner, heap_delete_task, heap->heap);
  heap_forget(heap, false);
}

static void heap_destroy(struct heap_model *heap) {
  owner_do(heap->owner, heap_destroy_task, heap->heap);
  heap_forget(heap, heap->may_destroy);
}

/* ---- owners ---- */

/* An owner has ended, and its heaps were deleted. */
static void owner_forget(struct owner_model *owner) {
  for (size_t i = 0; i < HEAPS_MAX; i++) {
    struct heap_model *heap = &model.heaps[i];
    if (heap->heap != NULL && heap->owner == owner) heap_forget(heap, false);
  }
  owner->is_used = false;
}

static void join_task(void *argument) {
  const struct owner_model *owner = argument;
  if (owner->subprocess != NULL) mi_subproc_add_current_thread(owner->subprocess);
  mi_thread_init();
}

/* A thread with an owner, of a sub-process; NULL when there are as many as can be. */
static struct owner_model *thread_new(mi_subproc_id_t subprocess) {
  for (size_t i = 1; i < ACTORS_MAX; i++) {
    struct actor *actor = &model.actors[i];
    if (actor->is_used) continue;
    struct owner_model *owner =
        owner_add((struct owner_model){.actor = actor, .subprocess = subprocess});
    require(owner != NULL);
    actor_begin(actor);
    *current_of(actor) = owner;
    actor_do(actor, join_task, owner);
    return owner;
  }
  return NULL;
}

/* The thread ends, and unbinds what is bound to it. */
static void thread_end(struct actor *actor) {
  struct owner_model *owner = *current_of(actor);
  for (; owner->mutator != NULL; owner = owner->below) owner->actor = NULL;
  actor_end(actor);
  owner_forget(owner);
}

/* A mutator, bound nowhere; NULL when there are as many as can be. */
static struct owner_model *mutator_new(void) {
  size_t count = 0;
  for (size_t i = 0; i < OWNERS_MAX; i++) {
    count += model.owners[i].is_used && model.owners[i].mutator != NULL;
  }
  if (count == MUTATORS_MAX) return NULL;
  struct owner_model *owner =
      owner_add((struct owner_model){.subprocess = main_owner->subprocess});
  require(owner != NULL);
  owner->mutator = mirt_mutator_create();
  require(owner->mutator != NULL);
  return owner;
}

static void mutator_end(struct owner_model *owner) {
  require(mirt_mutator_destroy(owner->mutator) == 0);
  owner_forget(owner);
}

static mi_subproc_id_t subprocess_new(void) {
  require(model.subprocess_count < SUBPROCESSES_MAX);
  mi_subproc_id_t subprocess = mi_subproc_new();
  require(subprocess != NULL);
  model.subprocesses[model.subprocess_count++] = subprocess;
  return subprocess;
}

/* ---- blocks ---- */

static void hash_add(uint64_t *hash, uintptr_t word) {
  *hash = (*hash ^ word) * 0x9e3779b97f4a7c15u;
  *hash ^= *hash >> 29;
}

static void block_add(struct heap_model *heap, struct block_model block) {
  require(block.p != NULL && model.count < BLOCKS_MAX);
  block.usable = mi_usable_size(block.p);
  block.heap = heap;
  block.tag = heap->tag;
  block.arena = heap->arena;
  block.subprocess = heap->owner->subprocess;
  model.blocks[model.count++] = block;
  if (block.size < HUGE_MIN) hash_add(&model.hash, (uintptr_t)block.p);
}

/* How large a block without an alignment of its own is. */
static size_t exact_size(size_t size) {
  return size <= CLASS_SIZE_MAX ? class_block_size(class_of_size(size))
                                : slices_for(size) << SLICE_SHIFT;
}

/* By the thread that the heap's owner is bound to. */
static void allocate_plain(struct heap_model *heap, size_t size) {
  char *p = heap->is_backing ? mi_malloc(size) : (char *)mi_heap_malloc(heap->heap, size);
  block_add(heap, (struct block_model){.p = p, .size = size, .exact = exact_size(size)});
}

static void allocate_aligned(struct heap_model *heap, size_t size, size_t alignment,
                             size_t offset) {
  char *p = mi_heap_malloc_aligned_at(heap->heap, size, alignment, offset);
  block_add(heap, (struct block_model){.p = p, .size = size, .is_inside = offset != 0});
}

static size_t any_size(struct dice *dice) {
  const size_t kind = dice_roll(dice, 1000);
  if (kind == 0) return HUGE_MIN + dice_roll(dice, 4 * MiB);
  if (kind < 15) return CLASS_SIZE_MAX + 1 + dice_roll(dice, MiB);
  if (kind < 80) return dice_roll(dice, CLASS_SIZE_MAX + 1);
  return dice_roll(dice, (size_t)16 << dice_roll(dice, 8));
}

static void allocate_any(struct heap_model *heap, struct dice *dice) {
  const size_t size = any_size(dice);
  switch (dice_roll(dice, 16)) {
    case 0: allocate_aligned(heap, size, (size_t)16 << dice_roll(dice, 14), 0); break;
    case 1:
      allocate_aligned(heap, size % KiB, (size_t)32 << dice_roll(dice, 6), 8);
      break;
    case 2:
      block_add(heap, (struct block_model){.p = mi_heap_calloc(heap->heap, 1, size % KiB),
                                           .size = size % KiB,
                                           .exact = exact_size(size % KiB)});
      break;
    default: allocate_plain(heap, size);
  }
}

struct order {
  struct heap_model *heap;
  size_t count, size;
  size_t alignment, offset; /* alignment 0: plain */
  struct dice *dice;        /* blocks of any kind */
};

static void fill_task(void *argument) {
  const struct order *order = argument;
  for (size_t i = 0; i < order->count; i++) {
    if (order->dice != NULL) {
      allocate_any(order->heap, order->dice);
    } else if (order->alignment != 0) {
      allocate_aligned(order->heap, order->size, order->alignment, order->offset);
    } else {
      allocate_plain(order->heap, order->size);
    }
  }
}

static void fill(struct heap_model *heap, size_t count, size_t size) {
  struct order order = {.heap = heap, .count = count, .size = size};
  owner_do(heap->owner, fill_task, &order);
}

static void fill_aligned(struct heap_model *heap, size_t count, size_t size,
                         size_t alignment, size_t offset) {
  struct order order = {heap, count, size, alignment, offset, NULL};
  owner_do(heap->owner, fill_task, &order);
}

static void fill_any(struct heap_model *heap, size_t count, struct dice *dice) {
  struct order order = {.heap = heap, .count = count, .dice = dice};
  owner_do(heap->owner, fill_task, &order);
}

/* Have blocks freed next with a chance of one in so many: those of a heap, or with NULL
 * those whose heap has ended. */
static void doom(struct heap_model *heap, struct dice *dice, size_t chance) {
  for (size_t i = 0; i < model.count; i++) {
    struct block_model *block = &model.blocks[i];
    if (block->heap == heap && dice_roll(dice, chance) == 0) block->is_doomed = true;
  }
}

static void free_doomed_task(void *argument) {
  (void)argument;
  for (size_t i = model.count; i-- > 0;) {
    if (!model.blocks[i].is_doomed) continue;
    mi_free(model.blocks[i].p);
    blocks_forget(i);
  }
}

static void *free_doomed_in_thread(void *argument) {
  free_doomed_task(argument);
  return NULL;
}

static void free_by_owner(struct heap_model *heap, struct dice *dice, size_t chance) {
  doom(heap, dice, chance);
  owner_do(heap->owner, free_doomed_task, NULL);
}

/* In a thread that has no owner and ends. */
static void free_by_other(struct heap_model *heap, struct dice *dice, size_t chance) {
  doom(heap, dice, chance);
  thread_run(free_doomed_in_thread, NULL);
}

static void collect_task(void *argument) { mi_collect(*(bool *)argument); }

static void owner_collect_now(struct owner_model *owner, bool force) {
  owner_do(owner, collect_task, &force);
}

/* ---- what a visitor has been shown ---- */

struct shown_block {
  char *block;
  size_t size;
  const mi_heap_t *heap;
  int tag;
};

struct shown_area {
  mi_heap_area_t area;
  const mi_heap_t *heap;
};

struct view {
  struct shown_block called[BLOCKS_MAX];   /* by a call each */
  struct shown_block iterated[BLOCKS_MAX]; /* by the iterator of their area */
  struct shown_area areas[AREAS_MAX];
  size_t called_count, iterated_count, area_count;
};

static void view_clear(struct view *view) {
  view->called_count = view->iterated_count = view->area_count = 0;
}

/* What holds for every area. */
static void check_area(const mi_heap_area_t *area) {
  require((uintptr_t)area->blocks % SLICE_SIZE == 0);
  require(area->reserved != 0 && area->reserved % SLICE_SIZE == 0);
  require(area->full_block_size >= area->block_size && area->block_size != 0);
  require(area->committed % area->full_block_size == 0);
  require(area->committed <= area->reserved);
  require(area->reserved - area->committed < area->full_block_size);
  require(area->used <= area->committed / area->full_block_size);
  const size_t size = area->full_block_size;
  const size_t slices =
      size <= CLASS_SIZE_MAX ? page_slices_for(size) : size >> SLICE_SHIFT;
  require(area->reserved == slices << SLICE_SHIFT);
}

static void see_area(struct view *view, const mi_heap_t *heap,
                     const mi_heap_area_t *area) {
  check_area(area);
  require(view->area_count < AREAS_MAX);
  view->areas[view->area_count++] = (struct shown_area){*area, heap};
  char *end = area->blocks;
  size_t used = 0;
  mirt_area_iterator_t i = mirt_area_begin(area);
  for (char *p; (p = mirt_area_next(&i)) != NULL; used++) {
    require(p >= end); /* the addresses rise */
    end = p + area->full_block_size;
    require((size_t)(p - (char *)area->blocks) % area->full_block_size == 0);
    require(view->iterated_count < BLOCKS_MAX);
    view->iterated[view->iterated_count++] =
        (struct shown_block){p, area->block_size, heap, area->heap_tag};
  }
  require(end <= (char *)area->blocks + area->committed);
  require(used == area->used);
}

static bool see(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                size_t block_size, void *argument) {
  struct view *view = argument;
  require(block_size == area->block_size);
  if (block == NULL) {
    see_area(view, heap, area);
    return true;
  }
  require(view->area_count > 0); /* the area itself came first */
  const struct shown_area *last = &view->areas[view->area_count - 1];
  require(last->heap == heap && last->area.blocks == area->blocks);
  require(last->area.used == area->used && last->area.heap_tag == area->heap_tag);
  require(view->called_count < BLOCKS_MAX);
  view->called[view->called_count++] =
      (struct shown_block){block, block_size, heap, area->heap_tag};
  return true;
}

static bool same_block(const struct shown_block *a, const struct shown_block *b) {
  return a->block == b->block && a->size == b->size && a->heap == b->heap &&
         a->tag == b->tag;
}

static bool same_blocks(const struct shown_block *a, const struct shown_block *b,
                        size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (!same_block(&a[i], &b[i])) return false;
  }
  return true;
}

static bool same_area(const struct shown_area *a, const struct shown_area *b) {
  return a->heap == b->heap && a->area.blocks == b->area.blocks &&
         a->area.reserved == b->area.reserved && a->area.committed == b->area.committed &&
         a->area.used == b->area.used && a->area.block_size == b->area.block_size &&
         a->area.full_block_size == b->area.full_block_size &&
         a->area.heap_tag == b->area.heap_tag;
}

/* ---- what to ask ---- */

struct question {
  enum { OF_HEAP, OF_OWNER, OF_CURRENT_OWNER, OF_TAG, OF_ABANDONED } kind;
  struct heap_model *heap;
  struct owner_model *owner;
  int tag;
  mi_subproc_id_t subprocess;
};

struct asking {
  const struct question *question;
  bool visit_blocks;
  mi_block_visit_fun *visitor;
  void *argument;
  bool answer;
};

static void ask_task(void *argument) {
  struct asking *asking = argument;
  const struct question *question = asking->question;
  const bool blocks = asking->visit_blocks;
  mi_block_visit_fun *const f = asking->visitor;
  void *const a = asking->argument;
  switch (question->kind) {
    case OF_HEAP:
      asking->answer = mi_heap_visit_blocks(question->heap->heap, blocks, f, a);
      break;
    case OF_OWNER:
      asking->answer = mirt_visit_owner_heaps(question->owner->mutator, blocks, f, a);
      break;
    case OF_CURRENT_OWNER:
      asking->answer = mirt_visit_owner_heaps(NULL, blocks, f, a);
      break;
    case OF_TAG: asking->answer = mirt_visit_tag(question->tag, blocks, f, a); break;
    case OF_ABANDONED:
      asking->answer =
          mi_abandoned_visit_blocks(question->subprocess, question->tag, blocks, f, a);
      break;
  }
}

/* Visit in the thread that may: the heap's or the owner's own, or this one. */
static bool ask(const struct question *question, bool visit_blocks,
                mi_block_visit_fun *visitor, void *argument) {
  struct asking asking = {question, visit_blocks, visitor, argument, false};
  if (question->kind == OF_HEAP) {
    owner_do(question->heap->owner, ask_task, &asking);
  } else if (question->kind == OF_CURRENT_OWNER) {
    owner_do(question->owner, ask_task, &asking);
  } else {
    ask_task(&asking);
  }
  return asking.answer;
}

static struct heap_model *heap_known(const mi_heap_t *heap) {
  for (size_t i = 0; i < HEAPS_MAX; i++) {
    if (model.heaps[i].heap == heap && heap != NULL) return &model.heaps[i];
  }
  return NULL;
}

/* What is asked for, if it is shown with this heap, tag and, where nobody owns it,
 * sub-process. */
static bool is_asked(const struct question *question, const mi_heap_t *heap, int tag,
                     mi_subproc_id_t subprocess) {
  const bool has_tag = question->tag < 0 || question->tag == tag;
  switch (question->kind) {
    case OF_HEAP: return heap == question->heap->heap;
    case OF_TAG: return has_tag;
    case OF_ABANDONED:
      return heap == NULL && has_tag && subprocess == question->subprocess;
    default: return heap != NULL && heap_known(heap)->owner == question->owner;
  }
}

/* ---- the comparison ---- */

static struct block_model *sorted[BLOCKS_MAX]; /* the model's by address */

static int compare_blocks(const void *a, const void *b) {
  const uintptr_t left = (uintptr_t)(*(struct block_model *const *)a)->p;
  const uintptr_t right = (uintptr_t)(*(struct block_model *const *)b)->p;
  return left < right ? -1 : left > right;
}

static int compare_shown(const void *a, const void *b) {
  const uintptr_t left = (uintptr_t)((const struct shown_block *)a)->block;
  const uintptr_t right = (uintptr_t)((const struct shown_block *)b)->block;
  return left < right ? -1 : left > right;
}

static int compare_areas(const void *a, const void *b) {
  const uintptr_t left = (uintptr_t)((const struct shown_area *)a)->area.blocks;
  const uintptr_t right = (uintptr_t)((const struct shown_area *)b)->area.blocks;
  return left < right ? -1 : left > right;
}

/* The heap that a block belongs to now: its own while that lives, and then whichever has
 * adopted it, if any may. */
static const mi_heap_t *heap_now(const struct block_model *block) {
  const mi_heap_t *heap = mi_heap_of(block->p);
  if (block->heap != NULL) {
    require(heap == block->heap->heap);
  } else if (heap != NULL) {
    const struct heap_model *adopter = heap_known(heap);
    require(adopter != NULL && adopter->tag == block->tag && !adopter->may_destroy);
    require(adopter->arena == block->arena);
    require(adopter->owner->subprocess == block->subprocess);
  }
  return heap;
}

static void model_sort(void) {
  for (size_t i = 0; i < model.count; i++) {
    sorted[i] = &model.blocks[i];
    sorted[i]->now = heap_now(sorted[i]);
  }
  qsort(sorted, model.count, sizeof *sorted, compare_blocks);
}

/* A block is shown as it should be. */
static void check_block(const struct block_model *block,
                        const struct shown_block *shown) {
  require(shown->heap == block->now && shown->tag == block->tag);
  if (!block->is_inside) require(shown->block == block->p);
  require(shown->block <= block->p &&
          block->p + block->size <= shown->block + shown->size);
  require((size_t)(block->p - shown->block) + block->usable == shown->size);
  if (block->exact != 0) require(shown->size == block->exact);
}

/* The view has what was asked for, and nothing else; sorts it. */
static void check_view(struct view *view, const struct question *question) {
  qsort(view->areas, view->area_count, sizeof *view->areas, compare_areas);
  size_t used = 0;
  for (size_t i = 0; i < view->area_count; i++) {
    const struct shown_area *area = &view->areas[i];
    used += area->area.used;
    require(area->heap == NULL || heap_known(area->heap) != NULL);
    require(area->heap == NULL || heap_known(area->heap)->tag == area->area.heap_tag);
    require(is_asked(question, area->heap, area->area.heap_tag, question->subprocess));
    require(area->heap != NULL || area->area.used > 0); /* else it had gone back */
    if (i == 0) continue;
    const mi_heap_area_t *before = &view->areas[i - 1].area;
    require((char *)before->blocks + before->reserved <= (char *)area->area.blocks);
  }
  require(used == view->iterated_count);
  qsort(view->iterated, used, sizeof *view->iterated, compare_shown);
  size_t next = 0;
  for (size_t i = 0; i < model.count; i++) {
    const struct block_model *block = sorted[i];
    if (!is_asked(question, block->now, block->tag, block->subprocess)) continue;
    require(next < used);
    check_block(block, &view->iterated[next++]);
  }
  require(next == used);
}

/* Visit blocks, then areas only, then blocks again: always the same, what it should be, and
 * nothing has changed. */
static void check_question(const struct question *question) {
  static struct view first, areas, again;
  const mi_stats_t before = stats_now();
  view_clear(&first), view_clear(&areas), view_clear(&again);
  require(ask(question, true, see, &first));
  require(ask(question, false, see, &areas));
  require(ask(question, true, see, &again));
  require(first.called_count == first.iterated_count);
  require(same_blocks(first.called, first.iterated, first.called_count));
  require(areas.called_count == 0 && areas.iterated_count == first.iterated_count);
  require(same_blocks(areas.iterated, first.iterated, first.iterated_count));
  require(again.called_count == first.called_count);
  require(same_blocks(again.called, first.called, first.called_count));
  require(areas.area_count == first.area_count && again.area_count == first.area_count);
  for (size_t i = 0; i < first.area_count; i++) {
    require(same_area(&areas.areas[i], &first.areas[i]));
    require(same_area(&again.areas[i], &first.areas[i]));
  }
  const mi_stats_t after = stats_now();
  require(memcmp(&before, &after, sizeof before) == 0);
  check_view(&first, question);
  if (question->kind != OF_TAG) return;
  /* Each page there is, also those without a live block. */
  size_t abandoned = 0;
  for (size_t i = 0; i < first.area_count; i++) abandoned += first.areas[i].heap == NULL;
  mirt_stats_t stats = {.pages = (size_t)after.pages.current,
                        .live_blocks = first.called_count,
                        .abandoned = (size_t)after.pages_abandoned.current};
  if (question->tag >= 0) require(mirt_stats_tag(question->tag, &stats));
  require(stats.pages == first.area_count && stats.abandoned == abandoned);
  require(stats.live_blocks == first.called_count);
}

/* Ask about everything there is; with dice, about all blocks, and some of the rest. */
static void check_world_by(struct dice *dice) {
  model_sort();
  for (int i = -1; i < (int)COUNT_OF(tags); i++) {
    if (i >= 0 && dice != NULL && dice_roll(dice, 4) != 0) continue;
    const struct question question = {.kind = OF_TAG, .tag = i < 0 ? -1 : tags[i]};
    check_question(&question);
  }
  for (size_t i = 0; i < HEAPS_MAX; i++) {
    struct heap_model *heap = &model.heaps[i];
    if (heap->heap == NULL || !owner_is_usable(heap->owner)) continue;
    if (dice != NULL && dice_roll(dice, 4) != 0) continue;
    const struct question question = {.kind = OF_HEAP, .heap = heap};
    check_question(&question);
  }
  for (size_t i = 0; i < OWNERS_MAX; i++) {
    struct owner_model *owner = &model.owners[i];
    if (!owner->is_used) continue;
    if (dice != NULL && dice_roll(dice, 4) != 0) continue;
    struct question question = {.kind = OF_OWNER, .owner = owner};
    if (owner->mutator != NULL) check_question(&question);
    question.kind = OF_CURRENT_OWNER;
    if (owner_is_usable(owner)) check_question(&question);
  }
  for (size_t i = 0; i < model.subprocess_count; i++) {
    for (int k = -1; k < (int)COUNT_OF(tags); k++) {
      if (dice != NULL && dice_roll(dice, 4) != 0) continue;
      const struct question question = {.kind = OF_ABANDONED,
                                        .tag = k < 0 ? -1 : tags[k],
                                        .subprocess = model.subprocesses[i]};
      check_question(&question);
    }
  }
}

static void check_world(void) { check_world_by(NULL); }

/* ---- before and after each test ---- */

static void stage_begin(void) {
  mi_option_set(mi_option_visit_abandoned, 1);
  memset(&model, 0, offsetof(struct model, blocks));
  model.count = 0;
  model.hash = 0;
  model.subprocess_count = 1; /* the main one */
  main_actor->is_used = main_actor->is_main = true;
  *main_owner = (struct owner_model){.is_used = true, .actor = main_actor};
  *current_of(main_actor) = main_owner;
  heap_backing_of(main_owner);
  check_world();
}

/* All is freed, everybody ends, and there is nothing left to be shown. */
static void stage_end(void) {
  for (size_t i = 0; i < model.count; i++) model.blocks[i].is_doomed = true;
  free_doomed_task(NULL);
  check_world();
  for (size_t i = 1; i < ACTORS_MAX; i++) {
    if (model.actors[i].is_used) thread_end(&model.actors[i]);
  }
  while (*current_of(main_actor) != main_owner) {
    owner_unbind_from(*current_of(main_actor));
  }
  for (size_t i = 0; i < OWNERS_MAX; i++) {
    struct owner_model *owner = &model.owners[i];
    if (owner->is_used && owner->mutator != NULL) mutator_end(owner);
  }
  for (size_t i = 0; i < HEAPS_MAX; i++) {
    if (model.heaps[i].heap != NULL && !model.heaps[i].is_backing) {
      heap_delete(&model.heaps[i]);
    }
  }
  mi_collect(true);
  require(pages_now() == 0);
  check_world();
  mi_option_set(mi_option_visit_abandoned, 0);
}

static void stage_end_checked(void) {
  stage_end();
  assert_no_errors();
}

static TCase *stage_case(Suite *suite, const char *name) {
  TCase *test_case = case_begin(suite, name);
  tcase_add_checked_fixture(test_case, stage_begin, stage_end_checked);
  return test_case;
}

/* ---- where a block is ---- */

/* Of a live block: what its page is. Of a free one: where it is free. */
enum place {
  IN_OPEN,
  IN_RESTING,
  IN_AVAILABLE, /* of a page that rests until its cell turns to it */
  IN_ABANDONED,
  IN_LARGE,
  IN_MAPPING,
  FREE_IN_PLANE,
  FREE_IN_RESTING, /* in the plane of a page that rests, available or not */
  FREE_IN_XFREE,
  FREE_IN_WORD,
  GONE,
  PLACES
};

static enum place place_of(const void *p) {
  const struct page *page = page_map_find(p);
  if (page == NULL) return GONE;
  const uintptr_t state = atomic_load_acquire(&page->state);
  const uint32_t owner = page_state_owner(state);
  if (owner == PAGE_NONE || owner == PAGE_CLAIMED) return GONE;
  if (atomic_flag_get(&page->is_large)) {
    return page->arena->id == 0 ? IN_MAPPING : IN_LARGE;
  }
  const size_t index = page_block_index(page, p);
  const uintptr_t bit = (uintptr_t)1 << (index % WORD_BITS);
  const atomic_word *word = &page->free[index / WORD_BITS];
  const bool rests = (state & PAGE_RESTING) != 0;
  if ((atomic_load_relaxed(word) & bit) != 0) {
    return rests ? FREE_IN_RESTING : FREE_IN_PLANE;
  }
  if ((atomic_load_relaxed(&page_xfree(page)[index / WORD_BITS]) & bit) != 0) {
    return FREE_IN_XFREE;
  }
  if (owner == PAGE_ABANDONED) return IN_ABANDONED;
  const struct cell *cell = page_cell(page);
  if (page->taken == word && (cell->word & bit) != 0) return FREE_IN_WORD;
  if (!rests) return IN_OPEN;
  return ((page->chunk->available >> page->slot) & 1) != 0 ? IN_AVAILABLE : IN_RESTING;
}

static size_t count_live(enum place place) {
  size_t count = 0;
  for (size_t i = 0; i < model.count; i++) count += place_of(model.blocks[i].p) == place;
  return count;
}

/* Blocks that have been freed: where are they? */
static void *freed[BLOCKS_MAX];
static size_t freed_count;

static void note_doomed(void) {
  freed_count = 0;
  for (size_t i = 0; i < model.count; i++) {
    if (model.blocks[i].is_doomed) freed[freed_count++] = model.blocks[i].p;
  }
}

static size_t count_freed(enum place place) {
  size_t count = 0;
  for (size_t i = 0; i < freed_count; i++) count += place_of(freed[i]) == place;
  return count;
}

/* ---- pages of all kinds ---- */

/* One block of each class, then several; some freed by the owner, some by another thread. */
START_TEST(all_size_classes) {
  struct dice dice = dice_new(1);
  struct heap_model *heap = heap_new(main_owner, 1, true);
  for (size_t i = 0; i < CLASS_COUNT; i++) fill(heap, 1, class_block_size(i));
  check_world();
  for (size_t i = 0; i < CLASS_COUNT; i++) {
    fill(heap, 1, i == 0 ? 0 : class_block_size(i - 1) + 1);
    fill(heap, i < CLASS_COUNT / 2 ? 100 : 6, class_block_size(i));
  }
  check_world();
  free_by_owner(heap, &dice, 2);
  check_world();
  free_by_other(heap, &dice, 2);
  check_world();
  owner_collect_now(main_owner, false);
  check_world();
  owner_collect_now(main_owner, true);
  check_world();
  free_by_owner(heap, &dice, 1);
  ck_assert_uint_eq(model.count, 0);
  check_world();
}
END_TEST

/* Loop test: each way for a block of an open or resting page to be free, for block
 * sizes of many blocks to a page, of few, and of one. */
static const size_t page_sizes[] = {16, 48, 512, 4096, 24576, 65536, 131072};

static struct block_model *live_in(const struct heap_model *heap, enum place place) {
  for (size_t i = 0; i < model.count; i++) {
    struct block_model *block = &model.blocks[i];
    if (block->heap == heap && place_of(block->p) == place) return block;
  }
  return NULL;
}

START_TEST(pages_of_a_cell) {
  struct dice dice = dice_new(2);
  const size_t size = page_sizes[_i];
  const size_t per_page = (page_slices_for(size) << SLICE_SHIFT) / size;
  const size_t pages = per_page > 1000 ? 4 : 12;
  struct heap_model *heap = heap_new(main_owner, 1, true);
  const size_t few = per_page > 1 ? per_page / 2 : 0;
  fill(heap, pages * per_page + few, size);
  ck_assert_uint_gt(count_live(IN_RESTING), 0);
  if (few > 0) ck_assert_uint_gt(count_live(IN_OPEN), 0);
  check_world();

  static const enum place places[] = {IN_OPEN, IN_RESTING, IN_AVAILABLE};
  for (size_t k = 0; k < COUNT_OF(places); k++) {
    for (int by_other = 0; by_other < 2; by_other++) {
      for (int i = 0; i < 3; i++) {
        struct block_model *block = live_in(heap, places[k]);
        if (block == NULL) continue;
        block->is_doomed = true;
        note_doomed();
        if (by_other) {
          thread_run(free_doomed_in_thread, NULL);
        } else {
          free_doomed_task(NULL);
        }
        ck_assert(place_of(freed[0]) >= FREE_IN_PLANE);
        check_world();
      }
    }
  }
  /* And many at once. */
  for (int round = 0; round < 4; round++) {
    free_by_owner(heap, &dice, 4);
    check_world();
    free_by_other(heap, &dice, 4);
    check_world();
    fill(heap, per_page, size);
    check_world();
  }
}
END_TEST

/* The places where a block can be free are all met, and none is shown as live. */
START_TEST(freed_blocks_are_not_shown) {
  enum { SIZE = 1024, PER_PAGE = 64, PAGES = 14 };
  struct dice dice = dice_new(3);
  struct heap_model *heap = heap_new(main_owner, 1, true);
  fill(heap, PAGES * PER_PAGE + PER_PAGE / 2, SIZE);
  ck_assert_uint_gt(count_live(IN_RESTING), 0);
  ck_assert_uint_gt(count_live(IN_OPEN), 0);

  /* By others: in pages of each kind, no bit of the owner's plane. */
  doom(heap, &dice, 5);
  note_doomed();
  thread_run(free_doomed_in_thread, NULL);
  ck_assert_uint_eq(count_freed(FREE_IN_XFREE), freed_count);
  check_world();

  /* By the owner: into a resting page until it is available, and one more. */
  struct block_model *block = live_in(heap, IN_RESTING);
  const struct page *page = page_map_find(block->p);
  const uint32_t worth = page_cell(page)->worth;
  ck_assert_uint_gt(worth, 1);
  for (uint32_t i = 0; i <= worth; i++) {
    for (block = model.blocks; page_map_find(block->p) != page; block++) continue;
    ck_assert_int_eq(place_of(block->p), i < worth ? IN_RESTING : IN_AVAILABLE);
    block->is_doomed = true;
    note_doomed();
    free_doomed_task(NULL);
    ck_assert_int_eq(place_of(freed[0]), FREE_IN_RESTING);
    check_world();
  }
  /* What another thread freed beside those. */
  free_by_other(heap, &dice, 3);
  check_world();
  /* Into an open page whose group is in hand: all free blocks of that group are in the
   * plane, and after the next allocation some are in the word. */
  free_by_owner(heap, &dice, 2);
  check_world();
  size_t in_word = 0;
  for (int i = 0; i < 200; i++) {
    doom(heap, &dice, 20);
    note_doomed();
    free_doomed_task(NULL);
    fill(heap, 1, SIZE);
    in_word += count_freed(FREE_IN_WORD);
    if (i % 10 == 0) check_world();
  }
  ck_assert_uint_gt(in_word, 0);
  check_world();
}
END_TEST

/* All blocks of a page are freed by another thread: the page goes, or stays and shows
 * none. */
START_TEST(emptied_by_others) {
  struct dice dice = dice_new(4);
  struct heap_model *heap = heap_new(main_owner, 1, true);
  for (size_t k = 0; k < COUNT_OF(page_sizes); k++) {
    fill(heap, 3, page_sizes[k]);
    free_by_other(heap, &dice, 1);
    ck_assert_uint_eq(model.count, 0);
    check_world();
  }
  for (size_t k = 0; k < COUNT_OF(page_sizes); k++) {
    fill(heap, ((size_t)14 << SLICE_SHIFT) / page_sizes[k] / (k < 2 ? 8 : 1),
         page_sizes[k]);
    free_by_other(heap, &dice, 1);
    check_world();
    fill(heap, 1, page_sizes[k]);
    check_world();
  }
}
END_TEST

START_TEST(large_and_huge_blocks) {
  struct dice dice = dice_new(5);
  struct heap_model *heap = heap_new(main_owner, 1, true);
  struct heap_model *kept = heap_new(main_owner, 63, false);
  for (int round = 0; round < 3; round++) {
    for (size_t slices = 1; slices < 20; slices++) {
      fill(heap, 1, CLASS_SIZE_MAX + (slices << SLICE_SHIFT));
      fill(kept, 1, CLASS_SIZE_MAX + (slices << SLICE_SHIFT) - 1);
    }
    fill(heap, 2, HUGE_SIZE);
    fill(kept, 2, HUGE_SIZE + 1);
    ck_assert_uint_ge(count_live(IN_MAPPING), 4);
    check_world();
    free_by_owner(heap, &dice, 2);
    check_world();
    free_by_other(heap, &dice, 2);
    free_by_other(kept, &dice, 2);
    check_world();
  }
  fill(kept, 2, HUGE_SIZE);
  heap_destroy(heap);
  check_world();
  heap_delete(kept);
  ck_assert_uint_ge(count_live(IN_MAPPING), 2);
  check_world();
  free_by_other(NULL, &dice, 1);
  check_world();
}
END_TEST

START_TEST(aligned_blocks) {
  struct dice dice = dice_new(6);
  struct heap_model *heap = heap_new(main_owner, 1, false);
  for (size_t alignment = 16; alignment <= 4 * MiB; alignment *= 2) {
    for (size_t size = 1; size <= MiB; size = size * 7 + 1) {
      fill_aligned(heap, 2, size, alignment, 0);
      if (alignment <= 64 * KiB) fill_aligned(heap, 3, size, alignment, 8);
      if (alignment <= 4 * KiB) fill_aligned(heap, 3, size, alignment, alignment - 1);
    }
  }
  size_t inside = 0;
  for (size_t i = 0; i < model.count; i++) {
    const struct block_model *block = &model.blocks[i];
    inside += page_block(page_map_find(block->p),
                         page_block_index(page_map_find(block->p), block->p)) != block->p;
  }
  ck_assert_uint_gt(inside, 0);
  check_world();
  free_by_owner(heap, &dice, 3);
  check_world();
  free_by_other(heap, &dice, 3);
  check_world();
  heap_delete(heap);
  check_world();
}
END_TEST

/* A visitor may touch all bytes that it is told of. */
struct toucher {
  size_t touched, untouchable; /* blocks */
};

static bool touch_ends(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                       size_t block_size, void *argument) {
  struct toucher *toucher = argument;
  (void)heap, (void)area;
  if (block == NULL) return true;
  if (mi_usable_size(block) < block_size) {
    toucher->untouchable++;
    return true;
  }
  touch_write(block);
  touch_write((char *)block + block_size - 1);
  toucher->touched++;
  return true;
}

static void allocate_guarded_task(void *argument) {
  struct heap_model *heap = argument;
  mi_heap_guarded_set_sample_rate(heap->heap, 1, 0);
  mi_heap_guarded_set_size_bound(heap->heap, 0, 100 * KiB);
  for (size_t size = 1; size < 100 * KiB; size = size * 3 + 1) {
    block_add(heap, (struct block_model){.p = mi_heap_malloc(heap->heap, size),
                                         .size = size,
                                         .is_inside = true});
  }
}

START_TEST(guarded_blocks) {
  struct heap_model *heap = heap_new(main_owner, 1, false);
  struct toucher toucher = {0, 0};
  allocate_guarded_task(heap);
  ck_assert(mi_heap_visit_blocks(heap->heap, true, touch_ends, &toucher));
  ck_assert_uint_eq(toucher.untouchable, 0);
  ck_assert_uint_eq(toucher.touched, model.count);
  check_world();
  heap_delete(heap);
  check_world();
}
END_TEST

/* ---- heaps, tags ---- */

START_TEST(empty_heaps) {
  struct dice dice = dice_new(10);
  struct heap_model *unused = heap_new(main_owner, 1, true);
  struct heap_model *emptied = heap_new(main_owner, 1, true);
  check_world();
  fill_any(emptied, 500, &dice);
  free_by_owner(emptied, &dice, 1);
  check_world();
  for (int force = 0; force < 2; force++) {
    owner_collect_now(main_owner, force);
    check_world();
  }
  heap_delete(unused);
  check_world();
  fill_any(emptied, 500, &dice);
  heap_destroy(emptied);
  ck_assert_uint_eq(model.count, 0);
  check_world();
}
END_TEST

START_TEST(heaps_after_collecting) {
  struct dice dice = dice_new(11);
  struct heap_model *heap = heap_new(main_owner, 63, false);
  for (int round = 0; round < 6; round++) {
    fill_any(heap, 500, &dice);
    free_by_owner(heap, &dice, 3);
    free_by_other(heap, &dice, 3);
    check_world();
    owner_collect_now(main_owner, round % 2 == 0);
    check_world();
  }
}
END_TEST

/* A heap is deleted: its blocks are shown with no heap, and with the backing heap when
 * that has adopted them. */
START_TEST(deleted_heaps) {
  struct dice dice = dice_new(12);
  struct heap_model *backing = heap_backing_of(main_owner);
  for (int may_destroy = 0; may_destroy < 2; may_destroy++) {
    struct heap_model *heap = heap_new(main_owner, 0, may_destroy);
    fill(heap, 2000, 200);
    fill_any(heap, 300, &dice);
    free_by_owner(heap, &dice, 3);
    free_by_other(heap, &dice, 4);
    check_world();
    heap_delete(heap);
    check_world();
    const size_t adopted = (size_t)stats_now().pages_adopted;
    fill(backing, 4000, 200);
    ck_assert_uint_gt((size_t)stats_now().pages_adopted, adopted);
    check_world();
    free_by_owner(backing, &dice, 2);
    check_world();
    owner_collect_now(main_owner, true);
    check_world();
    free_by_other(NULL, &dice, 2);
    check_world();
  }
}
END_TEST

/* Several heaps with the same tag, and several tags; an arena of their own too. */
START_TEST(heaps_with_tags) {
  struct dice dice = dice_new(13);
  struct heap_model *heaps[2 * COUNT_OF(tags) + 1];
  mi_arena_id_t arena = 0;
  ck_assert_int_eq(mi_reserve_os_memory_ex(16 * MiB, false, false, true, &arena), 0);
  size_t count = 0;
  for (size_t i = 0; i < COUNT_OF(tags); i++) {
    heaps[count++] = heap_new(main_owner, tags[i], true);
    heaps[count++] = heap_new(main_owner, tags[i], false);
  }
  heaps[count++] =
      heap_add((struct heap_model){.owner = main_owner, .tag = 1, .arena = arena});
  for (size_t i = 0; i < count; i++) {
    if (heaps[i]->arena != 0) {
      fill(heaps[i], 1000, 100);
    } else {
      fill_any(heaps[i], 300, &dice);
    }
    free_by_owner(heaps[i], &dice, 3);
    free_by_other(heaps[i], &dice, 3);
  }
  check_world();
  for (size_t i = 0; i < count; i += 2) {
    heap_delete(heaps[i]);
    check_world();
  }
  for (size_t i = 1; i < count; i += 2) {
    fill_any(heaps[i], 300, &dice);
    check_world();
    heap_destroy(heaps[i]);
    check_world();
  }
  /* A tag that nobody has. */
  static struct view view;
  view_clear(&view);
  ck_assert(mirt_visit_tag(4711, true, see, &view));
  ck_assert(mirt_visit_tag(MIRT_TAG_MAX + 1, true, see, &view));
  ck_assert(mi_abandoned_visit_blocks(NULL, 4711, true, see, &view));
  ck_assert_uint_eq(view.area_count, 0);
}
END_TEST

/* ---- threads, mutators ---- */

/* A thread ends, and leaves pages of all kinds; others free some, adopt some, free all. */
START_TEST(ended_threads) {
  struct dice dice = dice_new(20);
  for (int round = 0; round < 2; round++) {
    struct owner_model *thread = thread_new(NULL);
    struct heap_model *heaps[] = {heap_backing_of(thread), heap_new(thread, 1, true),
                                  heap_new(thread, 63, false)};
    for (size_t i = 0; i < COUNT_OF(heaps); i++) {
      fill_any(heaps[i], 800, &dice);
      fill(heaps[i], 1000, 320);
      free_by_owner(heaps[i], &dice, 3);
      free_by_other(heaps[i], &dice, 4);
    }
    check_world();
    thread_end(thread->actor);
    ck_assert_uint_gt(count_live(IN_ABANDONED), 0);
    check_world();
    doom(NULL, &dice, 3); /* by this thread, which has an owner */
    note_doomed();
    free_doomed_task(NULL);
    ck_assert_uint_gt(count_freed(FREE_IN_XFREE), 0);
    check_world();
    free_by_other(NULL, &dice, 3);
    check_world();
    const size_t adopted = (size_t)stats_now().pages_adopted;
    struct heap_model *heirs[] = {heap_new(main_owner, 1, false),
                                  heap_new(main_owner, 63, true),
                                  heap_backing_of(main_owner)};
    for (size_t i = 0; i < COUNT_OF(heirs); i++) {
      fill(heirs[i], 2000, 320);
      fill_any(heirs[i], 400, &dice);
      check_world();
    }
    ck_assert_uint_gt((size_t)stats_now().pages_adopted, adopted);
    free_by_other(NULL, &dice, 1);
    check_world();
    heap_delete(heirs[0]);
    heap_destroy(heirs[1]);
    check_world();
    free_by_other(NULL, &dice, 2);
    check_world();
  }
}
END_TEST

/* What threads of a sub-process leave is shown for that one only. */
START_TEST(sub_processes) {
  struct dice dice = dice_new(21);
  mi_subproc_id_t ids[] = {NULL, subprocess_new(), subprocess_new()};
  for (size_t i = 0; i < COUNT_OF(ids); i++) {
    struct owner_model *thread = thread_new(ids[i]);
    fill_any(heap_backing_of(thread), 300, &dice);
    fill_any(heap_new(thread, 1, false), 300, &dice);
    check_world();
    thread_end(thread->actor);
    check_world();
  }
  free_by_other(NULL, &dice, 3);
  check_world();
  for (size_t i = 0; i < COUNT_OF(ids); i++) {
    struct owner_model *heir = thread_new(ids[i]);
    fill_any(heap_backing_of(heir), 300, &dice);
    fill_any(heap_new(heir, 1, false), 300, &dice);
    check_world();
    thread_end(heir->actor);
  }
  check_world();
  free_by_other(NULL, &dice, 1);
  check_world();
  for (size_t i = 1; i < COUNT_OF(ids); i++) mi_subproc_delete(ids[i]);
}
END_TEST

/* The world is stopped: threads wait in the midst of their work, and this one, or one
 * that has never allocated, looks at all that they have. */
static void *check_in_thread(void *argument) {
  (void)argument;
  static struct view view;
  const mi_stats_t before = stats_now();
  struct question question = {.kind = OF_TAG, .tag = -1};
  view_clear(&view);
  require(ask(&question, true, see, &view));
  check_view(&view, &question);
  for (size_t i = 0; i < OWNERS_MAX; i++) {
    if (!model.owners[i].is_used || model.owners[i].mutator == NULL) continue;
    question = (struct question){.kind = OF_OWNER, .owner = &model.owners[i]};
    view_clear(&view);
    require(ask(&question, true, see, &view));
    check_view(&view, &question);
  }
  /* It has nothing itself. */
  view_clear(&view);
  require(mirt_visit_owner_heaps(NULL, true, see, &view) && view.area_count == 0);
  const mi_stats_t after = stats_now();
  require(memcmp(&before, &after, sizeof before) == 0);
  question = (struct question){.kind = OF_ABANDONED, .tag = -1};
  view_clear(&view);
  require(ask(&question, true, see, &view));
  check_view(&view, &question);
  return NULL;
}

START_TEST(stopped_world) {
  struct dice dice = dice_new(22);
  struct owner_model *threads[ACTORS_MAX - 1];
  struct heap_model *heaps[3 * COUNT_OF(threads)];
  size_t count = 0;
  for (size_t i = 0; i < COUNT_OF(threads); i++) {
    threads[i] = thread_new(NULL);
    heaps[count++] = heap_backing_of(threads[i]);
    heaps[count++] = heap_new(threads[i], 1, i == 0);
    heaps[count++] = heap_new(threads[i], 63, i == 1);
  }
  struct heap_model *own = heap_new(main_owner, 1, false);
  fill_any(own, 200, &dice);
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < count; i++) {
      fill_any(heaps[i], 200, &dice);
      free_by_owner(heaps[i], &dice, 3);
      doom(heaps[(i + 3) % count], &dice, 10); /* by a thread that has an owner */
      owner_do(heaps[i]->owner, free_doomed_task, NULL);
      fill_any(heaps[i], 20, &dice);
    }
    check_world();
    thread_run(check_in_thread, NULL);
    if (round == 1) thread_end(threads[0]->actor), count -= 3;
    if (round == 1) memmove(heaps, heaps + 3, count * sizeof *heaps);
  }
}
END_TEST

/* Mutators that are bound nowhere, to this thread, to a thread that waits, over another;
 * that move, and end. */
START_TEST(mutators) {
  struct dice dice = dice_new(23);
  struct owner_model *thread = thread_new(NULL);
  struct owner_model *a = mutator_new(), *b = mutator_new();
  struct heap_model *heaps[] = {heap_backing_of(a), heap_new(a, 1, true),
                                heap_backing_of(b), heap_new(b, 63, false),
                                heap_new(thread, 1, false)};
  for (size_t i = 0; i < COUNT_OF(heaps); i++) {
    fill_any(heaps[i], 300, &dice);
    free_by_owner(heaps[i], &dice, 3);
    free_by_other(heaps[i], &dice, 3);
  }
  check_world();
  owner_bind_to(a, main_actor);
  check_world();
  fill_any(heaps[1], 100, &dice);
  owner_bind_to(b, main_actor);
  check_world();
  free_by_owner(heaps[3], &dice, 2);
  owner_unbind_from(b);
  owner_bind_to(b, thread->actor);
  fill_any(heaps[2], 100, &dice);
  check_world();
  thread_run(check_in_thread, NULL);
  owner_unbind_from(a);
  owner_bind_to(a, thread->actor);
  free_by_owner(heaps[0], &dice, 3);
  check_world();
  heap_destroy(heaps[1]);
  thread_end(thread->actor); /* unbinds both */
  check_world();
  mutator_end(b);
  check_world();
  fill_any(heaps[0], 300, &dice); /* adopts */
  check_world();
  mutator_end(a);
  check_world();
  free_by_other(NULL, &dice, 2);
  check_world();
}
END_TEST

/* In the child of a fork the other threads' blocks are nobody's. */
static void check_in_child(void *argument) {
  struct dice dice = dice_new(25);
  for (size_t i = 1; i < ACTORS_MAX; i++) {
    struct actor *actor = &model.actors[i];
    if (!actor->is_used) continue;
    for (struct owner_model *o = *current_of(actor); o != NULL; o = o->below) {
      owner_forget(o);
    }
    actor->is_used = false;
  }
  check_world();
  free_by_owner(argument, &dice, 2);
  doom(NULL, &dice, 2);
  free_doomed_task(NULL);
  check_world();
  stage_end();
}

START_TEST(child_of_a_fork) {
  struct dice dice = dice_new(24);
  if (TEST_THREAD_SANITIZER) return; /* it ends the child of a process with threads */
  struct owner_model *thread = thread_new(NULL);
  struct owner_model *bound = mutator_new(), *nowhere = mutator_new();
  struct heap_model *heaps[] = {heap_backing_of(thread), heap_new(thread, 1, false),
                                heap_backing_of(bound), heap_backing_of(nowhere),
                                heap_new(main_owner, 1, false)};
  for (size_t i = 0; i < COUNT_OF(heaps); i++) {
    fill_any(heaps[i], 300, &dice);
    fill(heaps[i], 1000, 1024);
    free_by_owner(heaps[i], &dice, 3);
    free_by_other(heaps[i], &dice, 3);
    fill(heaps[i], 10, 512);
    fill(heaps[i], 500, 1280); /* resting pages, to free into */
    size_t chosen = 0;
    for (size_t k = 0; k < model.count && chosen < 5; k++) {
      struct block_model *block = &model.blocks[k];
      if (block->heap != heaps[i] || block->exact != 1280) continue;
      if (place_of(block->p) != IN_RESTING) continue;
      block->is_doomed = true;
      chosen++;
    }
    ck_assert_uint_eq(chosen, 5);
    note_doomed();
    owner_do(heaps[i]->owner, free_doomed_task, NULL);
    ck_assert_uint_eq(count_freed(FREE_IN_RESTING), 5);
  }
  owner_bind_to(bound, thread->actor);
  check_world();
  ck_assert_int_eq(child_run(check_in_child, heaps[4]), 0);
  check_world();
}
END_TEST

/* ---- visitors that stop; what is refused ---- */

/* Answers true so many times, and then false. */
struct stopper {
  size_t calls, stop;
  struct shown_block *shown; /* by each call; block NULL: an area */
};

static struct shown_block calls[2][BLOCKS_MAX];

static bool see_until(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                      size_t block_size, void *argument) {
  struct stopper *stopper = argument;
  require(stopper->calls <= stopper->stop && stopper->calls < BLOCKS_MAX);
  stopper->shown[stopper->calls] =
      (struct shown_block){block, block_size, heap, area->heap_tag};
  return stopper->calls++ < stopper->stop;
}

/* Stop at each call there is. */
static void check_stops(const struct question *question) {
  for (int blocks = 0; blocks < 2; blocks++) {
    struct stopper all = {.stop = SIZE_MAX, .shown = calls[0]};
    require(ask(question, blocks, see_until, &all));
    require(all.calls > 0);
    for (size_t stop = 0; stop < all.calls; stop++) {
      struct stopper some = {.stop = stop, .shown = calls[1]};
      require(!ask(question, blocks, see_until, &some));
      require(some.calls == stop + 1);
      require(same_blocks(calls[0], calls[1], some.calls));
    }
    struct stopper none = {.stop = all.calls, .shown = calls[1]};
    require(ask(question, blocks, see_until, &none));
    require(none.calls == all.calls);
  }
}

/* A few pages of each kind, with a heap, a mutator, and nobody. */
struct scene {
  struct owner_model *mutator;
  struct heap_model *heap, *of_mutator;
};

static struct scene scene_new(void) {
  struct dice dice = dice_new(30);
  struct scene scene;
  scene.mutator = mutator_new();
  scene.heap = heap_new(main_owner, 1, false);
  scene.of_mutator = heap_new(scene.mutator, 63, true);
  struct heap_model *dying[] = {heap_new(main_owner, 63, true),
                                heap_new(scene.mutator, 0, false)};
  struct heap_model *all[] = {scene.heap, scene.of_mutator,
                              heap_backing_of(scene.mutator), dying[0], dying[1]};
  for (size_t i = 0; i < COUNT_OF(all); i++) {
    fill(all[i], 12, 16 * KiB);
    fill(all[i], 5, 100);
    fill(all[i], 1, CLASS_SIZE_MAX + 1);
    fill(all[i], 1, HUGE_SIZE);
    free_by_owner(all[i], &dice, 3);
    free_by_other(all[i], &dice, 4);
  }
  for (size_t i = 0; i < COUNT_OF(dying); i++) heap_delete(dying[i]);
  return scene;
}

START_TEST(visitors_stop) {
  const struct scene scene = scene_new();
  check_world();
  const struct question questions[] = {
      {.kind = OF_HEAP, .heap = scene.heap},
      {.kind = OF_HEAP, .heap = scene.of_mutator},
      {.kind = OF_OWNER, .owner = scene.mutator},
      {.kind = OF_CURRENT_OWNER, .owner = scene.mutator},
      {.kind = OF_CURRENT_OWNER, .owner = main_owner},
      {.kind = OF_TAG, .tag = -1},
      {.kind = OF_TAG, .tag = 63},
      {.kind = OF_ABANDONED, .tag = -1},
      {.kind = OF_ABANDONED, .tag = 63},
  };
  const mi_stats_t before = stats_now();
  for (size_t i = 0; i < COUNT_OF(questions); i++) check_stops(&questions[i]);
  const mi_stats_t after = stats_now();
  ck_assert_mem_eq(&before, &after, sizeof before);
  check_world();
}
END_TEST

static bool never_called(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                         size_t block_size, void *argument) {
  (void)heap, (void)area, (void)block, (void)block_size, (void)argument;
  require_failed(__LINE__, "the visitor is not called");
  return true;
}

START_TEST(refusals) {
  const struct scene scene = scene_new();
  mi_heap_t *heap = scene.heap->heap;
  mirt_mutator_t *mutator = scene.mutator->mutator;
  for (int blocks = 0; blocks < 2; blocks++) {
    ck_assert(!mi_heap_visit_blocks(NULL, blocks, never_called, NULL));
    ck_assert(!mi_heap_visit_blocks(NULL, blocks, NULL, NULL));
    ck_assert(!mi_heap_visit_blocks(heap, blocks, NULL, NULL));
    ck_assert(!mirt_visit_owner_heaps(mutator, blocks, NULL, NULL));
    ck_assert(!mirt_visit_owner_heaps(NULL, blocks, NULL, NULL));
    ck_assert(!mirt_visit_tag(-1, blocks, NULL, NULL));
    ck_assert(!mirt_visit_tag(1, blocks, NULL, NULL));
    ck_assert(!mi_abandoned_visit_blocks(NULL, -1, blocks, NULL, NULL));
    assert_no_errors();
    mi_option_set(mi_option_visit_abandoned, 0);
    ck_assert(!mi_abandoned_visit_blocks(NULL, -1, blocks, never_called, NULL));
    assert_errors(EPERM, 1);
    ck_assert(!mi_abandoned_visit_blocks(NULL, 63, blocks, NULL, NULL));
    assert_errors(EPERM, 1);
    mi_option_set(mi_option_visit_abandoned, 1);
  }
  check_world();
}
END_TEST

/* ---- visitors that free, allocate, visit ---- */

static struct block_model *block_known(const void *shown, size_t size) {
  for (size_t i = 0; i < model.count; i++) {
    struct block_model *block = &model.blocks[i];
    if ((char *)shown <= block->p && block->p < (char *)shown + size) return block;
  }
  require_failed(__LINE__, "the block is live");
  return NULL;
}

static void free_shown(void *block, size_t size) {
  struct block_model *known = block_known(block, size);
  mi_free(known->p);
  blocks_forget((size_t)(known - model.blocks));
}

struct freer {
  struct dice dice;
  size_t chance; /* one in so many is freed */
  bool by_area;  /* all that are freed of an area while it is shown */
  size_t shown;
};

static bool free_what_is_shown(const mi_heap_t *heap, const mi_heap_area_t *area,
                               void *block, size_t block_size, void *argument) {
  struct freer *freer = argument;
  (void)heap;
  if (block == NULL && freer->by_area) {
    mirt_area_iterator_t i = mirt_area_begin(area);
    for (char *p; (p = mirt_area_next(&i)) != NULL; freer->shown++) {
      if (dice_roll(&freer->dice, freer->chance) == 0) free_shown(p, block_size);
    }
  }
  if (block == NULL || freer->by_area) return true;
  freer->shown++;
  if (dice_roll(&freer->dice, freer->chance) == 0) free_shown(block, block_size);
  return true;
}

/* How many blocks are to be shown. */
static size_t count_asked(const struct question *question) {
  size_t count = 0;
  model_sort();
  for (size_t i = 0; i < model.count; i++) {
    const struct block_model *block = sorted[i];
    count += is_asked(question, block->now, block->tag, block->subprocess);
  }
  return count;
}

static void free_while_asking(const struct question *question, size_t chance,
                              bool by_area) {
  struct freer freer = {dice_new(40), chance, by_area, 0};
  const size_t expected = count_asked(question);
  require(ask(question, !by_area, free_what_is_shown, &freer));
  require(freer.shown == expected);
  check_world();
}

/* Blocks that have no heap may be freed as they are shown, or their heap's that is
 * not visited. Loop test: by their own calls, or by that of their area. */
START_TEST(visitors_free_what_is_left) {
  struct dice dice = dice_new(41);
  const int64_t pages = pages_now();
  for (int round = 0; round < 3; round++) {
    struct heap_model *heaps[] = {heap_new(main_owner, 1, false),
                                  heap_new(main_owner, 63, true)};
    for (size_t i = 0; i < COUNT_OF(heaps); i++) {
      fill_any(heaps[i], 400, &dice);
      fill(heaps[i], 100, 8 * KiB);
      fill(heaps[i], 1, HUGE_SIZE);
      free_by_other(heaps[i], &dice, 3);
      heap_delete(heaps[i]);
    }
    check_world();
    const struct question tagged = {.kind = OF_ABANDONED, .tag = 63};
    free_while_asking(&tagged, 2, _i == 1);
    const struct question all = {.kind = OF_ABANDONED, .tag = -1};
    free_while_asking(&all, 3, _i == 1);
    free_while_asking(&tagged, 1, _i == 1);
    free_while_asking(&all, 1, _i == 1);
    ck_assert_uint_eq(model.count, 0);
    ck_assert_int_eq(pages_now(), pages); /* the pages went with their last blocks */
  }
}
END_TEST

/* A page is read before the first call for it, so that its blocks may be freed even by the
 * heap's own thread (heap/visit.h). Loop test: as above. */
START_TEST(visitors_free_in_their_heap) {
  struct dice dice = dice_new(42);
  struct heap_model *heap = heap_new(main_owner, 1, true);
  for (int round = 0; round < 3; round++) {
    fill_any(heap, 400, &dice);
    fill(heap, 400, 2 * KiB);
    free_by_owner(heap, &dice, 5);
    free_by_other(heap, &dice, 5);
    const struct question question = {.kind = OF_HEAP, .heap = heap};
    for (size_t chance = 3; chance > 0; chance--) {
      free_while_asking(&question, chance, _i == 1);
    }
    ck_assert_uint_eq(model.count, 0);
  }
}
END_TEST

/* Copies each block into another heap, and frees some there. */
struct copier {
  struct heap_model *into;
  struct dice dice;
  size_t shown;
};

static bool copy_what_is_shown(const mi_heap_t *heap, const mi_heap_area_t *area,
                               void *block, size_t block_size, void *argument) {
  struct copier *copier = argument;
  (void)heap, (void)area;
  if (block == NULL) return true;
  require(block_known(block, block_size)->heap != copier->into);
  copier->shown++;
  allocate_plain(copier->into, block_size);
  if (dice_roll(&copier->dice, 2) == 0) {
    struct block_model *last = &model.blocks[model.count - 1];
    mi_free(last->p);
    blocks_forget(model.count - 1);
  }
  return true;
}

/* Another heap may be allocated from: of the same owner, or where the mutator whose heaps
 * are visited runs nowhere; or of a tag that nobody adopts by it. */
START_TEST(visitors_allocate_elsewhere) {
  const struct scene scene = scene_new();
  struct heap_model *into = heap_new(main_owner, MIRT_TAG_MAX, true);
  struct heap_model *same_tag = heap_new(main_owner, 1, true); /* does not adopt */
  const struct {
    struct question question;
    struct heap_model *into;
  } visits[] = {
      {{.kind = OF_HEAP, .heap = scene.heap}, into},
      {{.kind = OF_HEAP, .heap = scene.heap}, same_tag},
      {{.kind = OF_OWNER, .owner = scene.mutator}, into},
      {{.kind = OF_ABANDONED, .tag = -1}, into},
      {{.kind = OF_ABANDONED, .tag = 63}, into},
  };
  for (size_t i = 0; i < COUNT_OF(visits); i++) {
    struct copier copier = {.into = visits[i].into, .dice = dice_new(43 + i)};
    const size_t expected = count_asked(&visits[i].question);
    require(ask(&visits[i].question, true, copy_what_is_shown, &copier));
    ck_assert_uint_eq(copier.shown, expected);
    ck_assert_uint_gt(expected, 0);
    check_world();
  }
}
END_TEST

/* A visitor that visits all the same itself, for each area. */
struct nesting {
  const struct question *question;
  size_t areas, blocks;
};

static bool count_shown(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                        size_t block_size, void *argument) {
  (void)heap, (void)area, (void)block, (void)block_size;
  *(size_t *)argument += block != NULL;
  return true;
}

static bool visit_again(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                        size_t block_size, void *argument) {
  struct nesting *nesting = argument;
  (void)heap, (void)area, (void)block_size;
  if (block != NULL) return true;
  nesting->areas++;
  struct asking asking = {nesting->question, true, count_shown, &nesting->blocks, false};
  ask_task(&asking);
  return asking.answer;
}

START_TEST(visits_nest) {
  const struct scene scene = scene_new();
  const struct question questions[] = {
      {.kind = OF_HEAP, .heap = scene.heap},
      {.kind = OF_OWNER, .owner = scene.mutator},
      {.kind = OF_CURRENT_OWNER, .owner = main_owner},
      {.kind = OF_TAG, .tag = -1},
  };
  for (size_t i = 0; i < COUNT_OF(questions); i++) {
    struct nesting nesting = {.question = &questions[i]};
    const size_t expected = count_asked(&questions[i]);
    require(ask(&questions[i], true, visit_again, &nesting));
    ck_assert_uint_gt(nesting.areas, 0);
    ck_assert_uint_eq(nesting.blocks, nesting.areas * expected);
  }
  /* All there is, while abandoned pages are set aside. */
  const struct question everything = {.kind = OF_TAG, .tag = -1};
  const struct question abandoned = {.kind = OF_ABANDONED, .tag = -1};
  struct nesting nesting = {.question = &everything};
  require(ask(&abandoned, true, visit_again, &nesting));
  ck_assert_uint_gt(nesting.areas, 0);
  ck_assert_uint_eq(nesting.blocks, nesting.areas * model.count);
  check_world();
}
END_TEST

/* ---- others free meanwhile ---- */

#define FREERS 2

/* Threads that free their share of the doomed blocks while this one visits. */
struct share {
  void *blocks[BLOCKS_MAX / FREERS];
  size_t count;
  pthread_barrier_t *barrier;
};

static void *free_share(void *argument) {
  struct share *share = argument;
  pthread_barrier_wait(share->barrier);
  for (size_t i = 0; i < share->count; i++) mi_free(share->blocks[i]);
  return NULL;
}

/* Each block that stays is shown once, and each that goes at most once. */
static void check_racing_view(const struct view *view, const struct question *question) {
  static struct shown_block shown[BLOCKS_MAX];
  const size_t count = view->called_count;
  memcpy(shown, view->called, count * sizeof *shown);
  qsort(shown, count, sizeof *shown, compare_shown);
  size_t next = 0;
  for (size_t i = 0; i < model.count; i++) {
    const struct block_model *block = sorted[i];
    if (!is_asked(question, block->now, block->tag, block->subprocess)) continue;
    if (next < count && shown[next].block == block->p) {
      check_block(block, &shown[next++]);
    } else {
      require(block->is_doomed);
    }
  }
  require(next == count);
}

static void visit_while_others_free(const struct question *question,
                                    struct heap_model *heap, struct dice *dice) {
  static struct share shares[FREERS];
  static struct view view;
  pthread_t threads[FREERS];
  pthread_barrier_t barrier;
  require(pthread_barrier_init(&barrier, NULL, FREERS + 1) == 0);
  doom(heap, dice, 2);
  for (size_t i = 0; i < FREERS; i++) shares[i] = (struct share){.barrier = &barrier};
  for (size_t i = 0; i < model.count; i++) {
    struct share *share = &shares[i % FREERS];
    if (model.blocks[i].is_doomed) share->blocks[share->count++] = model.blocks[i].p;
  }
  model_sort();
  for (size_t i = 0; i < FREERS; i++) {
    require(pthread_create(&threads[i], NULL, free_share, &shares[i]) == 0);
  }
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < 3; i++) {
    view_clear(&view);
    require(ask(question, true, see, &view));
    require(same_blocks(view.called, view.iterated, view.called_count));
    check_racing_view(&view, question);
  }
  for (size_t i = 0; i < FREERS; i++) require(pthread_join(threads[i], NULL) == 0);
  pthread_barrier_destroy(&barrier);
  for (size_t i = model.count; i-- > 0;) {
    if (model.blocks[i].is_doomed) blocks_forget(i);
  }
}

static void visit_racing(bool is_deleted) {
  struct dice dice = dice_new(50 + is_deleted);
  for (size_t round = 0; round < TEST_ROUNDS(40); round++) {
    struct heap_model *heap = heap_new(main_owner, 1, true);
    fill(heap, 1500, (size_t)16 << dice_roll(&dice, 9));
    fill(heap, 200, 20000);
    fill(heap, 5, CLASS_SIZE_MAX + 1);
    struct question question = {.kind = OF_HEAP, .heap = heap};
    if (is_deleted) {
      heap_delete(heap);
      heap = NULL;
      question = (struct question){.kind = OF_ABANDONED, .tag = 1};
    }
    for (int i = 0; i < 2; i++) visit_while_others_free(&question, heap, &dice);
    check_world_by(&dice);
    if (is_deleted) {
      free_by_other(NULL, &dice, 1);
    } else {
      heap_destroy(heap);
    }
  }
}

START_TEST(others_free_in_the_heap) { visit_racing(false); }
END_TEST

START_TEST(others_free_what_is_left) { visit_racing(true); }
END_TEST

/* ---- anything at random ---- */

#define LIVE_BLOCKS 2500
#define LIVE_HEAPS 12

static struct actor *any_actor(struct dice *dice) {
  struct actor *actor;
  do {
    actor = &model.actors[dice_roll(dice, ACTORS_MAX)];
  } while (!actor->is_used);
  return actor;
}

static struct owner_model *any_owner(struct dice *dice) {
  struct owner_model *owner;
  do {
    owner = &model.owners[dice_roll(dice, OWNERS_MAX)];
  } while (!owner_is_usable(owner));
  return owner;
}

static size_t heaps_alive(void) {
  size_t count = 0;
  for (size_t i = 0; i < HEAPS_MAX; i++) count += model.heaps[i].heap != NULL;
  return count;
}

static struct heap_model *any_heap(struct dice *dice) {
  struct heap_model *heap;
  do {
    heap = &model.heaps[dice_roll(dice, HEAPS_MAX)];
    if (dice_roll(dice, 8) == 0) heap = heap_backing_of(any_owner(dice));
  } while (heap->heap == NULL || !owner_is_usable(heap->owner));
  return heap;
}

struct reallocation {
  struct heap_model *heap;
  struct block_model *block;
  size_t size;
};

static void reallocate_task(void *argument) {
  const struct reallocation *wanted = argument;
  struct block_model *block = wanted->block;
  char *p = mi_heap_realloc(wanted->heap->heap, block->p, wanted->size);
  if (p == block->p) {
    block->size = wanted->size;
    return;
  }
  blocks_forget((size_t)(block - model.blocks));
  block_add(wanted->heap, (struct block_model){.p = p, .size = wanted->size});
}

static void do_blocks(struct dice *dice) {
  const size_t count = 1 + dice_roll(dice, 60);
  const size_t kind = dice_roll(dice, 20);
  if (kind == 0 && model.count > 0) {
    struct reallocation wanted = {any_heap(dice),
                                  &model.blocks[dice_roll(dice, model.count)],
                                  dice_roll(dice, 4 * KiB)};
    /* Its bytes are copied, and were never written: only small ones. */
    if (wanted.block->usable <= 64 * KiB) {
      owner_do(wanted.heap->owner, reallocate_task, &wanted);
    }
  } else if (dice_roll(dice, 2 * LIVE_BLOCKS) > model.count) {
    struct heap_model *heap = any_heap(dice);
    if (dice_roll(dice, 2) == 0) {
      fill_any(heap, count, dice);
    } else {
      fill(heap, count, (size_t)256 << dice_roll(dice, 5)); /* so that pages fill */
    }
  } else {
    for (size_t i = 0; i < count && model.count > 0; i++) {
      model.blocks[dice_roll(dice, model.count)].is_doomed = true;
    }
    actor_do(any_actor(dice), free_doomed_task, NULL);
  }
}

static void do_owners(struct dice *dice) {
  struct actor *actor = any_actor(dice);
  struct owner_model *owner = any_owner(dice);
  switch (dice_roll(dice, 8)) {
    case 0:
      thread_new(model.subprocesses[dice_roll(dice, model.subprocess_count)]);
      break;
    case 1:
      if (!actor->is_main) thread_end(actor);
      break;
    case 2: mutator_new(); break;
    case 3:
      if (owner->mutator != NULL && owner->actor == NULL) mutator_end(owner);
      break;
    case 4:
    case 5:
      if (owner->mutator != NULL && owner->actor == NULL) owner_bind_to(owner, actor);
      break;
    default:
      if (owner->mutator != NULL && owner->actor != NULL) owner_unbind_from(owner);
  }
}

static void do_heaps(struct dice *dice) {
  struct heap_model *heap = any_heap(dice);
  switch (dice_roll(dice, 8)) {
    case 0:
    case 1:
    case 2:
      if (heaps_alive() >= LIVE_HEAPS) break;
      heap_new(any_owner(dice), tags[dice_roll(dice, COUNT_OF(tags))],
               dice_roll(dice, 2) == 0);
      break;
    case 3:
      if (!heap->is_backing) heap_delete(heap);
      break;
    case 4:
      if (!heap->is_backing && dice_roll(dice, 4) == 0) heap_destroy(heap);
      break;
    default: owner_collect_now(any_owner(dice), dice_roll(dice, 2) == 0);
  }
}

/* The same each time, looked at after each round or not. */
static void play(uint64_t number, size_t rounds, bool is_watched) {
  struct dice dice = dice_new(number), dice_of_watcher = dice_new(number + 1);
  subprocess_new();
  for (size_t round = 0; round < rounds; round++) {
    const size_t turns = dice_roll(&dice, 20);
    for (size_t i = 0; i < turns; i++) {
      const size_t kind = dice_roll(&dice, 40);
      if (kind == 0) {
        do_owners(&dice);
      } else if (kind < 3) {
        do_heaps(&dice);
      } else {
        do_blocks(&dice);
      }
    }
    if (is_watched) check_world_by(&dice_of_watcher);
  }
}

START_TEST(random_model) {
  play(60 + (uint64_t)_i, TEST_ROUNDS(400), true);
  check_world();
}
END_TEST

/* What a child did: the same whether it was looked at or not. */
struct outcome {
  uint64_t hash;
  size_t count;
  mi_stats_t stats;
};

struct episode {
  struct outcome *outcome; /* shared with the child */
  uint64_t number;
  bool is_watched;
};

static void play_in_child(void *argument) {
  struct episode *episode = argument;
  play(episode->number, TEST_ROUNDS(100), episode->is_watched);
  *episode->outcome = (struct outcome){model.hash, model.count, stats_now()};
}

START_TEST(visits_change_nothing) {
  struct outcome *outcomes = mmap(NULL, 2 * sizeof *outcomes, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(outcomes, MAP_FAILED);
  for (int i = 0; i < 2; i++) {
    struct episode episode = {&outcomes[i], 70 + (uint64_t)_i, i == 1};
    ck_assert_int_eq(child_run(play_in_child, &episode), 0);
  }
  ck_assert_uint_eq(outcomes[0].hash, outcomes[1].hash);
  ck_assert_uint_eq(outcomes[0].count, outcomes[1].count);
  ck_assert_int_eq(outcomes[0].stats.pages.current, outcomes[1].stats.pages.current);
  ck_assert_int_eq(outcomes[0].stats.pages.total, outcomes[1].stats.pages.total);
  ck_assert_int_eq(outcomes[0].stats.pages_adopted, outcomes[1].stats.pages_adopted);
  ck_assert_int_eq(outcomes[0].stats.pages_abandoned.total,
                   outcomes[1].stats.pages_abandoned.total);
  munmap(outcomes, 2 * sizeof *outcomes);
}
END_TEST

/* ---- main ---- */

int main(void) {
  mi_option_set(mi_option_max_errors, -1); /* each error is a line, however many */
  mi_option_set(mi_option_arena_reserve, ARENA_RESERVE / KiB);
  Suite *suite = suite_create("visit");
  TCase *c = stage_case(suite, "pages");
  tcase_add_test(c, all_size_classes);
  tcase_add_loop_test(c, pages_of_a_cell, 0, COUNT_OF(page_sizes));
  tcase_add_test(c, freed_blocks_are_not_shown);
  tcase_add_test(c, emptied_by_others);
  tcase_add_test(c, large_and_huge_blocks);
  tcase_add_test(c, aligned_blocks);
  c = stage_case(suite, "heaps");
  tcase_add_test(c, empty_heaps);
  tcase_add_test(c, heaps_after_collecting);
  tcase_add_test(c, deleted_heaps);
  tcase_add_test(c, heaps_with_tags);
  c = stage_case(suite, "threads");
  tcase_add_test(c, ended_threads);
  tcase_add_test(c, sub_processes);
  tcase_add_test(c, stopped_world);
  tcase_add_test(c, mutators);
  tcase_add_test(c, child_of_a_fork);
  c = stage_case(suite, "visitors");
  tcase_add_test(c, visitors_stop);
  tcase_add_test(c, refusals);
  tcase_add_loop_test(c, visitors_free_what_is_left, 0, 2);
  tcase_add_loop_test(c, visitors_free_in_their_heap, 0, 2);
  tcase_add_test(c, visitors_allocate_elsewhere);
  tcase_add_test(c, visits_nest);
  tcase_add_test(c, others_free_in_the_heap);
  tcase_add_test(c, others_free_what_is_left);
  c = stage_case(suite, "random");
  tcase_add_loop_test(c, random_model, 0, 2);
  tcase_add_loop_test(c, visits_change_nothing, 0, 2);
  c = stage_case(suite, "guarded");
  tcase_add_test(c, guarded_blocks);
  return suite_run(suite);
}
