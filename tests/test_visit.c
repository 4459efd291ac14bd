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

/* Blocks from half of this on get a mapping of their own. */
#define ARENA_RESERVE (64 * MiB)
#define HUGE_MIN (ARENA_RESERVE / 2 + 1)

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
#define OWNERS_MAX (ACTORS_MAX + 4)
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
  return owner->is_used &&
         (owner->actor == NULL || *current_of(owner->actor) == owner);
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
  require(!"room for a heap");
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
  struct owner_model *owner =
      owner_add((struct owner_model){.subprocess = main_owner->subprocess});
  if (owner == NULL) return NULL;
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
  char *p =
      heap->is_backing ? mi_malloc(size) : (char *)mi_heap_malloc(heap->heap, size);
  block_add(heap,
            (struct block_model){.p = p, .size = size, .exact = exact_size(size)});
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
    case 1: allocate_aligned(heap, size % KiB, (size_t)32 << dice_roll(dice, 6), 8); break;
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
  require(shown->block <= block->p && block->p + block->size <= shown->block + shown->size);
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
  for (size_t i = 0; i < OWNERS_MAX; i++) {
    struct owner_model *owner = &model.owners[i];
    if (!owner->is_used || owner->mutator == NULL) continue;
    if (owner->actor != NULL) owner_unbind_from(owner);
    mutator_end(owner);
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
