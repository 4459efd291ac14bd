/* test_model.c - random operations against a model: what each live block should contain,
 * how large it is, which heap it lies in.
 *
 * Workers hold blocks in slots and do something random with a random slot, over and over.
 * They pass blocks to each other, end with blocks in their slots, and are followed by
 * other threads that go on with them. Heaps come and go. Every block carries a pattern
 * made from its number, which is verified whenever the block is touched. So is that
 * blocks which have to be zero are, that they lie in the heap they were taken from, and
 * that live blocks do not overlap. In the end everything is freed, and then mirt must not
 * hold a single page.
 *
 * MIRT_SEED in the environment is the seed of the random numbers, MIRT_OPERATIONS the
 * number of operations.
 */
#include "test.h"

#include "arena/slice.h"
#include "base/bits.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define OPERATIONS ((size_t)2000000)

#define WORKERS 4
#define ROUNDS 5    /* after each, all threads rest and all blocks are looked at */
#define LIVES 5     /* threads that follow each other as a worker, in a round */
#define SLOTS 1000  /* blocks that a worker holds at most */
#define EXCHANGE 40 /* blocks on their way from worker to worker */

#define HEAPS 6
#define BACKING HEAPS         /* the backing heap of the worker */
#define ELSEWHERE (HEAPS + 1) /* of another thread, or abandoned, or adopted: who knows */

struct block {
  unsigned char *p; /* NULL where there is none */
  size_t size;      /* bytes that carry the pattern */
  uint64_t number;
  unsigned heap;
  bool is_zeroed; /* came from the functions that zero: zero from size to its end */
};

struct model_heap {
  mi_heap_t *heap; /* NULL where there is none */
  int tag;
  bool
      destroyable; /* its blocks stay with the worker, so that destroying it is allowed */
  bool bound;      /* to the small arena, so that allocating may fail */
  size_t live;     /* blocks of it, where destroyable */
};

struct worker {
  unsigned number;
  struct dice dice;
  size_t operations; /* of one life */
  size_t done;
  struct model_heap heaps[HEAPS];
  unsigned default_heap;
  size_t favorite; /* size of many blocks, so that some cells have many pages */
  bool fills;      /* rather allocates now, or rather frees */
  struct block *slots[SLOTS];
  bool alone; /* no other worker runs, so overlap is looked for at once */
};

static struct worker workers[WORKERS];
static struct block blocks[WORKERS * SLOTS + EXCHANGE];
static atomic_word exchange[EXCHANGE];
static atomic_word next_number;
static mi_arena_id_t small_arena;
static mi_subproc_id_t other_subprocess;

/* ---- failing: Check's own way out is for the main thread only ---- */

static _Noreturn void give_up(const struct worker *worker, const struct block *block,
                              int line, const char *what) {
  fprintf(stderr, "test_model.c:%d: %s\n", line, what);
  fprintf(stderr, "  seed %llu", (unsigned long long)test_seed());
  if (worker != NULL) fprintf(stderr, ", worker %u", worker->number);
  if (worker != NULL) fprintf(stderr, ", operation %zu", worker->done);
  if (block != NULL) {
    fprintf(stderr, ", block %llu at %p, size %zu, usable %zu, heap %u%s",
            (unsigned long long)block->number, (void *)block->p, block->size,
            mi_usable_size(block->p), block->heap, block->is_zeroed ? ", zeroed" : "");
  }
  fprintf(stderr, "\n");
  abort();
}

#define require(condition, worker, block) \
  do { \
    if (!(condition)) give_up(worker, block, __LINE__, #condition); \
  } while (0)

static bool chance(struct worker *worker, size_t one_in) {
  return dice_roll(&worker->dice, one_in) == 0;
}

/* ---- patterns ---- */

/* A block carries its pattern in its first bytes, in its last ones, and here and there
 * between, so that a large one does not take all the time. */
#define HEAD 1024
#define TAIL 64
#define STEP 20488 /* not always at the same place in a page of the system */

static uint64_t pattern_word(uint64_t number, size_t position) {
  return (number + position / 8 + 1) * 0x9e3779b97f4a7c15u;
}

static void write_range(const struct block *block, size_t from, size_t to) {
  for (size_t i = from; i < to; i += 8) {
    const uint64_t word = pattern_word(block->number, i);
    memcpy(block->p + i, &word, to - i < 8 ? to - i : 8);
  }
}

static bool range_is_intact(const struct block *block, size_t from, size_t to) {
  for (size_t i = from; i < to; i += 8) {
    const uint64_t word = pattern_word(block->number, i);
    if (memcmp(block->p + i, &word, to - i < 8 ? to - i : 8) != 0) return false;
  }
  return true;
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static size_t tail_start(size_t size) { return align_down(size - TAIL, 8); }

static void pattern_write(const struct block *block) {
  const size_t size = block->size;
  write_range(block, 0, smaller(size, HEAD));
  for (size_t i = STEP; i + 8 <= size; i += STEP) write_range(block, i, i + 8);
  if (size > HEAD) write_range(block, tail_start(size), size);
}

/* Is the pattern there, in the first bytes up to limit? */
static bool pattern_is_intact(const struct block *block, size_t limit) {
  const size_t size = block->size;
  if (!range_is_intact(block, 0, smaller(limit, smaller(size, HEAD)))) return false;
  for (size_t i = STEP; i + 8 <= smaller(size, limit); i += STEP) {
    if (!range_is_intact(block, i, i + 8)) return false;
  }
  return size <= HEAD || limit < size || range_is_intact(block, tail_start(size), size);
}

static bool is_zero(const unsigned char *p, size_t size) {
  return size == 0 || (p[0] == 0 && memcmp(p, p + 1, size - 1) == 0);
}

/* Seldom look at all of a large block: it means to touch all its memory. */
static bool looks_zero(struct worker *worker, const unsigned char *p, size_t size) {
  if (size <= 4 * STEP || chance(worker, 8)) return is_zero(p, size);
  return is_zero(p, STEP) && is_zero(p + size - STEP, STEP);
}

/* ---- the shadow: which 16 bytes belong to a block, while one worker runs alone ---- */

#define SHADOW_SLICES ((size_t)1 << 16)
#define SHADOW_WORDS (SLICE_SIZE / 16 / 64)

static struct shadow_slice {
  uintptr_t number; /* 0: not used yet */
  uint64_t taken[SHADOW_WORDS];
} * shadow;

static struct shadow_slice *shadow_find(uintptr_t slice) {
  size_t i = (size_t)(slice * 0x9e3779b97f4a7c15u >> 48) % SHADOW_SLICES;
  for (size_t looked = 0; looked < SHADOW_SLICES; looked++, i++) {
    struct shadow_slice *found = &shadow[i % SHADOW_SLICES];
    if (found->number == 0) found->number = slice;
    if (found->number == slice) return found;
  }
  return NULL;
}

/* Mark the units that a block touches as taken, or as free. Returns false if one of
 * them was that already. Blocks start and end at multiples of 16, save for those with
 * an offset, which lie inside of such. */
static bool shadow_mark(const unsigned char *p, bool take) {
  uintptr_t unit = (uintptr_t)p / 16;
  const uintptr_t end = ((uintptr_t)p + mi_usable_size(p) + 15) / 16;
  while (unit < end) {
    struct shadow_slice *slice = shadow_find(unit / (SHADOW_WORDS * 64));
    if (slice == NULL) return false;
    uint64_t *word = &slice->taken[unit / 64 % SHADOW_WORDS];
    const unsigned first = unit % 64;
    const uintptr_t count = end - unit < 64 - first ? end - unit : 64 - first;
    const uint64_t bits = bits_below(count) << first;
    if ((take ? *word & bits : ~*word & bits) != 0) return false;
    *word ^= bits;
    unit += count;
  }
  return true;
}

/* ---- blocks of the model ---- */

static struct model_heap *private_heap(struct worker *worker, const struct block *block) {
  if (block->heap >= HEAPS) return NULL;
  struct model_heap *heap = &worker->heaps[block->heap];
  return heap->destroyable ? heap : NULL;
}

/* A block has come to be at p. */
static void block_begin(struct worker *worker, struct block *block, void *p, size_t size,
                        unsigned heap) {
  block->p = p;
  block->size = size;
  block->heap = heap;
  require(mi_usable_size(p) >= size, worker, block);
  require(!worker->alone || shadow_mark(p, true), worker, block);
  struct model_heap *own = private_heap(worker, block);
  if (own != NULL) own->live++;
}

/* It is about to be no more. */
static void block_end(struct worker *worker, struct block *block) {
  require(!worker->alone || shadow_mark(block->p, false), worker, block);
  struct model_heap *own = private_heap(worker, block);
  if (own != NULL) own->live--;
}

static void block_fill(struct worker *worker, struct block *block) {
  block->number = atomic_fetch_add_full(&next_number, 1);
  /* All that is usable may be used, but not so that nothing is known of what is past
   * it. */
  if (!block->is_zeroed && chance(worker, 4)) block->size = mi_usable_size(block->p);
  pattern_write(block);
}

static void block_verify(const struct worker *worker, const struct block *block) {
  require(pattern_is_intact(block, block->size), worker, block);
}

/* Does mirt think that the block is where it was taken from? */
static void verify_heap(struct worker *worker, const struct block *block) {
  if (block->heap == ELSEWHERE) return;
  mi_heap_t *heap =
      block->heap == BACKING ? mi_heap_get_backing() : worker->heaps[block->heap].heap;
  require(mi_heap_of(block->p) == heap, worker, block);
  require(mi_heap_contains_block(heap, block->p), worker, block);
  require(block->heap == BACKING || !worker->heaps[block->heap].bound ||
              mi_arena_contains(small_arena, block->p),
          worker, block);
}

/* ---- allocating ---- */

struct request {
  size_t size, alignment, offset; /* alignment 0: none asked for */
  bool zero;
  unsigned heap; /* of the worker; BACKING stands for whatever is the default one */
};

/* The favorite one; or every power of two up to 1 MiB as likely as the others, and
 * those up to 4 KiB twice as much, since more can go wrong there; seldom 8 MiB. */
static size_t random_size(struct worker *worker) {
  if (chance(worker, 2)) return worker->favorite;
  if (chance(worker, 1000)) return 8 * MiB;
  const size_t bits = dice_roll(&worker->dice, chance(worker, 2) ? 21 : 13);
  if (bits == 0) return 0;
  const size_t low = (size_t)1 << (bits - 1);
  return low + dice_roll(&worker->dice, low);
}

static struct request random_request(struct worker *worker) {
  struct request request = {.size = random_size(worker), .heap = BACKING};
  request.zero = chance(worker, 4);
  if (chance(worker, 4)) {
    request.alignment = (size_t)1
                        << dice_roll(&worker->dice, chance(worker, 50) ? 22 : 14);
    if (chance(worker, 3)) request.offset = dice_roll(&worker->dice, request.size + 1);
  }
  const unsigned heap = (unsigned)dice_roll(&worker->dice, 2 * HEAPS);
  if (heap < HEAPS && worker->heaps[heap].heap != NULL) request.heap = heap;
  return request;
}

/* The heap that a request is served from: which of the worker's, and mirt's. */
static unsigned heap_of_request(const struct worker *worker, const struct request *r) {
  return r->heap == BACKING ? worker->default_heap : r->heap;
}

static void *allocate_from_default(struct worker *worker, const struct request *r) {
  if (r->offset != 0) {
    return r->zero ? mi_zalloc_aligned_at(r->size, r->alignment, r->offset)
                   : mi_malloc_aligned_at(r->size, r->alignment, r->offset);
  }
  if (r->alignment != 0) {
    return r->zero ? mi_zalloc_aligned(r->size, r->alignment)
                   : mi_malloc_aligned(r->size, r->alignment);
  }
  if (r->size <= MI_SMALL_SIZE_MAX && chance(worker, 4)) {
    return r->zero ? mi_zalloc_small(r->size) : mi_malloc_small(r->size);
  }
  if (r->size % 8 == 0 && chance(worker, 2)) {
    return r->zero ? mi_calloc(r->size / 8, 8) : mi_mallocn(r->size / 8, 8);
  }
  return r->zero ? mi_zalloc(r->size) : mi_malloc(r->size);
}

static void *allocate_from_heap(mi_heap_t *heap, const struct request *r) {
  if (r->offset != 0) {
    return r->zero ? mi_heap_zalloc_aligned_at(heap, r->size, r->alignment, r->offset)
                   : mi_heap_malloc_aligned_at(heap, r->size, r->alignment, r->offset);
  }
  if (r->alignment != 0) {
    return r->zero ? mi_heap_zalloc_aligned(heap, r->size, r->alignment)
                   : mi_heap_malloc_aligned(heap, r->size, r->alignment);
  }
  return r->zero ? mi_heap_zalloc(heap, r->size) : mi_heap_malloc(heap, r->size);
}

/* Only a heap that is bound to the small arena may fail. */
static void require_excuse(const struct worker *worker, const struct request *request) {
  const unsigned heap = heap_of_request(worker, request);
  const struct block wanted = {NULL, request->size, 0, heap, request->zero};
  require(heap < HEAPS && worker->heaps[heap].bound, worker, &wanted);
}

static void verify_alignment(const struct worker *worker, const struct block *block,
                             const struct request *r) {
  const size_t alignment = r->alignment != 0 ? r->alignment : 16;
  require((((uintptr_t)block->p + r->offset) & (alignment - 1)) == 0, worker, block);
}

static void do_allocate(struct worker *worker, struct block *block) {
  const struct request request = random_request(worker);
  void *p = request.heap == BACKING
                ? allocate_from_default(worker, &request)
                : allocate_from_heap(worker->heaps[request.heap].heap, &request);
  if (p == NULL) {
    require_excuse(worker, &request);
    return;
  }
  block_begin(worker, block, p, request.size, heap_of_request(worker, &request));
  verify_alignment(worker, block, &request);
  if (chance(worker, 8)) verify_heap(worker, block);
  require(!request.zero || looks_zero(worker, p, mi_usable_size(p)), worker, block);
  block->is_zeroed = request.zero;
  block_fill(worker, block);
}

/* ---- freeing ---- */

static void do_free(struct worker *worker, struct block *block) {
  block_verify(worker, block);
  if (chance(worker, 16)) verify_heap(worker, block);
  block_end(worker, block);
  if (chance(worker, 4)) {
    mi_free_size(block->p, block->size);
  } else {
    mi_free(block->p);
  }
  block->p = NULL;
}

/* ---- resizing ---- */

static void *resize_in_default(struct worker *worker, void *p, const struct request *r) {
  if (r->offset != 0) {
    return r->zero ? mi_rezalloc_aligned_at(p, r->size, r->alignment, r->offset)
                   : mi_realloc_aligned_at(p, r->size, r->alignment, r->offset);
  }
  if (r->alignment != 0) {
    return r->zero ? mi_rezalloc_aligned(p, r->size, r->alignment)
                   : mi_realloc_aligned(p, r->size, r->alignment);
  }
  if (r->size % 8 == 0 && chance(worker, 2)) {
    return r->zero ? mi_recalloc(p, r->size / 8, 8) : mi_reallocn(p, r->size / 8, 8);
  }
  return r->zero ? mi_rezalloc(p, r->size) : mi_realloc(p, r->size);
}

static void *resize_in_heap(mi_heap_t *heap, void *p, const struct request *r) {
  if (r->offset != 0) {
    return r->zero
               ? mi_heap_rezalloc_aligned_at(heap, p, r->size, r->alignment, r->offset)
               : mi_heap_realloc_aligned_at(heap, p, r->size, r->alignment, r->offset);
  }
  if (r->alignment != 0) {
    return r->zero ? mi_heap_rezalloc_aligned(heap, p, r->size, r->alignment)
                   : mi_heap_realloc_aligned(heap, p, r->size, r->alignment);
  }
  return r->zero ? mi_heap_rezalloc(heap, p, r->size) : mi_heap_realloc(heap, p, r->size);
}

static void do_resize(struct worker *worker, struct block *block) {
  struct request request = random_request(worker);
  /* Mostly by a little, so that the block may stay where it is. */
  if (!chance(worker, 3)) {
    request.size = block->size / 2 + dice_roll(&worker->dice, block->size + 50);
  }
  if (request.offset > request.size) request.offset = 0;
  request.zero = block->is_zeroed;
  const struct block before = *block;
  block_verify(worker, block);
  block_end(worker, block);
  unsigned char *p =
      request.heap == BACKING
          ? resize_in_default(worker, before.p, &request)
          : resize_in_heap(worker->heaps[request.heap].heap, before.p, &request);
  if (p == NULL) { /* and nothing has changed */
    require_excuse(worker, &request);
    block_begin(worker, block, before.p, before.size, before.heap);
    block_verify(worker, block);
    return;
  }
  /* What stays where it is stays in its heap. */
  const unsigned heap = p == before.p ? before.heap : heap_of_request(worker, &request);
  const size_t kept = smaller(before.size, request.size);
  const struct block moved = {p, before.size, before.number, heap, before.is_zeroed};
  require(pattern_is_intact(&moved, kept), worker, &moved);
  block_begin(worker, block, p, request.size, heap);
  verify_alignment(worker, block, &request);
  if (chance(worker, 8)) verify_heap(worker, block);
  require(!request.zero || looks_zero(worker, p + kept, request.size - kept), worker,
          block);
  block_fill(worker, block);
}

/* ---- passing on ---- */

static void do_exchange(struct worker *worker, struct block **slot) {
  struct block *mine = *slot;
  if (mine->p != NULL && private_heap(worker, mine) != NULL) return;
  mine->heap = ELSEWHERE;
  atomic_word *place = &exchange[dice_roll(&worker->dice, EXCHANGE)];
  *slot = (struct block *)atomic_exchange_full(place, (uintptr_t)mine);
  if ((*slot)->p != NULL) block_verify(worker, *slot);
}

/* ---- heaps ---- */

static void heap_begin(struct worker *worker, struct model_heap *heap) {
  heap->destroyable = chance(worker, 2);
  heap->bound = chance(worker, 4);
  heap->live = 0;
  heap->tag = (int)dice_roll(&worker->dice, 3);
  heap->heap =
      mi_heap_new_ex(heap->tag, heap->destroyable, heap->bound ? small_arena : 0);
  require(heap->heap != NULL, worker, NULL);
  if (chance(worker, 8)) mi_heap_guarded_set_sample_rate(heap->heap, 100, 1);
}

/* What the model knows of the blocks of a heap when the heap goes. */
static void forget_heap(struct worker *worker, unsigned index, bool blocks_too) {
  for (size_t i = 0; i < SLOTS; i++) {
    struct block *block = worker->slots[i];
    if (block->p == NULL || block->heap != index) continue;
    block_verify(worker, block);
    if (blocks_too) {
      block_end(worker, block);
      block->p = NULL;
    } else {
      block->heap = ELSEWHERE;
    }
  }
}

static void heap_end(struct worker *worker, unsigned index) {
  struct model_heap *heap = &worker->heaps[index];
  const bool destroy = chance(worker, 2);
  forget_heap(worker, index, destroy && heap->destroyable);
  if (destroy) {
    mi_heap_destroy(heap->heap);
  } else {
    mi_heap_delete(heap->heap);
  }
  if (worker->default_heap == index) worker->default_heap = BACKING;
  heap->heap = NULL;
}

struct visit {
  int tag;
  size_t blocks;
  size_t strange; /* areas with blocks of another tag, or another number of them */
  size_t left;    /* blocks of the last area that are still to come */
};

static bool visit_block(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                        size_t block_size, void *argument) {
  struct visit *visit = argument;
  (void)heap, (void)block_size;
  if (block == NULL) {
    visit->strange += area->heap_tag != visit->tag || visit->left != 0;
    visit->left = area->used;
  } else {
    visit->blocks++;
    visit->left--;
  }
  return true;
}

/* Visit a heap: as many blocks as the model knows, or more where other workers hold
 * some. */
static void heap_visit(struct worker *worker, unsigned index) {
  const struct model_heap *heap = &worker->heaps[index];
  struct visit visit = {.tag = heap->tag};
  size_t known = 0;
  require(mi_heap_visit_blocks(heap->heap, true, visit_block, &visit), worker, NULL);
  require(visit.strange == 0 && visit.left == 0, worker, NULL);
  for (size_t i = 0; i < SLOTS; i++) {
    const struct block *block = worker->slots[i];
    known += block->p != NULL && block->heap == index;
  }
  require(visit.blocks >= known, worker, NULL);
  require(!heap->destroyable || (visit.blocks == known && known == heap->live), worker,
          NULL);
}

static void set_default_heap(struct worker *worker, unsigned index) {
  mi_heap_t *before = worker->default_heap == BACKING
                          ? mi_heap_get_backing()
                          : worker->heaps[worker->default_heap].heap;
  mi_heap_t *heap = index == BACKING ? mi_heap_get_backing() : worker->heaps[index].heap;
  require(mi_heap_set_default(heap) == before, worker, NULL);
  require(mi_heap_get_default() == heap, worker, NULL);
  worker->default_heap = index;
}

static bool check_abandoned(const mi_heap_t *heap, const mi_heap_area_t *area,
                            void *block, size_t block_size, void *argument) {
  (void)block, (void)block_size;
  const int tag = *(const int *)argument;
  require(heap == NULL && (tag < 0 || area->heap_tag == tag), NULL, NULL);
  return true;
}

/* Visit what ended threads have left, while others free in it, adopt it and add to it.
 * Then the numbers of blocks are nothing to rely on. */
static void visit_abandoned(struct worker *worker) {
  int tag = (int)dice_roll(&worker->dice, 4) - 1;
  const mi_subproc_id_t subprocess = chance(worker, 2) ? NULL : other_subprocess;
  require(mi_abandoned_visit_blocks(subprocess, tag, chance(worker, 2), check_abandoned,
                                    &tag),
          worker, NULL);
}

/* The thread's heaps go with it. */
static void forget_heaps(struct worker *worker) {
  for (unsigned i = 0; i < HEAPS; i++) worker->heaps[i].heap = NULL;
  worker->default_heap = BACKING;
  for (size_t i = 0; i < SLOTS; i++) worker->slots[i]->heap = ELSEWHERE;
}

static void do_with_heaps(struct worker *worker) {
  const unsigned index = (unsigned)dice_roll(&worker->dice, HEAPS);
  struct model_heap *heap = &worker->heaps[index];
  switch (dice_roll(&worker->dice, 8)) {
    case 0: set_default_heap(worker, BACKING); break;
    case 1:
      if (heap->heap != NULL) set_default_heap(worker, index);
      break;
    case 2:
    case 3:
      if (heap->heap != NULL) heap_visit(worker, index);
      break;
    case 4:
      if (heap->heap != NULL) mi_heap_collect(heap->heap, chance(worker, 4));
      break;
    case 5:
      if (chance(worker, 10)) mi_collect(chance(worker, 2));
      if (chance(worker, 3)) visit_abandoned(worker);
      break;
    default:
      if (heap->heap != NULL) {
        heap_end(worker, index);
      } else {
        heap_begin(worker, heap);
      }
  }
}

/* ---- workers ---- */

static void do_something(struct worker *worker) {
  struct block **slot = &worker->slots[dice_roll(&worker->dice, SLOTS)];
  if (chance(worker, 500)) do_with_heaps(worker);
  if (chance(worker, 3000)) worker->fills = !worker->fills;
  if (!worker->alone && chance(worker, 8)) {
    do_exchange(worker, slot);
  } else if ((*slot)->p == NULL) {
    if (worker->fills || chance(worker, 4)) do_allocate(worker, *slot);
  } else if (chance(worker, 4)) {
    do_resize(worker, *slot);
  } else if (!worker->fills || chance(worker, 4)) {
    do_free(worker, *slot);
  }
}

/* One thread of a worker. */
static void *worker_live(void *argument) {
  struct worker *worker = argument;
  if (worker->number == WORKERS - 1) mi_subproc_add_current_thread(other_subprocess);
  if (chance(worker, 6)) mi_thread_set_in_threadpool();
  worker->favorite = (size_t)200 << dice_roll(&worker->dice, 10);
  for (size_t i = 0; i < worker->operations; i++, worker->done++) {
    do_something(worker);
    if (chance(worker, 20000)) {
      mi_thread_done();
      forget_heaps(worker);
    }
  }
  if (chance(worker, 2)) {
    for (unsigned i = 0; i < HEAPS; i++) {
      if (worker->heaps[i].heap != NULL) heap_end(worker, i);
    }
  }
  forget_heaps(worker);
  return NULL;
}

/* The threads that follow each other as one worker. */
static void *worker_run(void *argument) {
  for (size_t i = 0; i < LIVES; i++) thread_run(worker_live, argument);
  return NULL;
}

static size_t operations_wanted(void) {
  const char *text = getenv("MIRT_OPERATIONS");
  const size_t least = WORKERS * ROUNDS * LIVES;
  const size_t wanted = text == NULL ? OPERATIONS / (TEST_HAS_SHADOW ? 6 : 1)
                                     : (size_t)strtoull(text, NULL, 0);
  return wanted < least ? least : wanted;
}

static void model_begin(size_t operations_of_a_life, bool alone) {
  for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i].p = NULL;
  for (size_t i = 0; i < EXCHANGE; i++) {
    atomic_store_relaxed(&exchange[i], (uintptr_t)&blocks[WORKERS * SLOTS + i]);
  }
  for (unsigned i = 0; i < WORKERS; i++) {
    struct worker *worker = &workers[i];
    *worker = (struct worker){.number = i,
                              .dice = dice_new(i + 1),
                              .operations = operations_of_a_life,
                              .default_heap = BACKING,
                              .alone = alone};
    for (size_t j = 0; j < SLOTS; j++) worker->slots[j] = &blocks[i * SLOTS + j];
  }
}

/* ---- looking at all that is there ---- */

static int compare_addresses(const void *a, const void *b) {
  const unsigned char *p = (*(struct block *const *)a)->p;
  const unsigned char *q = (*(struct block *const *)b)->p;
  return (p > q) - (p < q);
}

/* No worker runs: verify all blocks, and that no two overlap. */
static void verify_all(void) {
  static struct block *live[COUNT_OF(blocks)];
  size_t count = 0;
  for (size_t i = 0; i < COUNT_OF(blocks); i++) {
    if (blocks[i].p == NULL) continue;
    block_verify(NULL, &blocks[i]);
    live[count++] = &blocks[i];
  }
  qsort(live, count, sizeof live[0], compare_addresses);
  for (size_t i = 0; i + 1 < count; i++) {
    require(live[i]->p + mi_usable_size(live[i]->p) <= live[i + 1]->p, NULL, live[i]);
  }
}

static void *free_quarter(void *argument) {
  struct worker *worker = argument;
  for (size_t i = worker->number; i < COUNT_OF(blocks); i += 2 * WORKERS) {
    if (blocks[i].p == NULL) continue;
    mi_free(blocks[i].p);
    blocks[i].p = NULL;
  }
  return NULL;
}

/* Free half of what is left in threads that own none of it, and the rest here. Then no
 * page is left, abandoned or not. */
static void free_all_and_settle(const mi_stats_t *before) {
  threads_run(WORKERS, free_quarter, workers, sizeof workers[0]);
  for (size_t i = 0; i < COUNT_OF(blocks); i++) {
    mi_free(blocks[i].p);
    blocks[i].p = NULL;
  }
  mi_collect(true);
  const mi_stats_t now = stats_now();
  ck_assert_int_eq(now.pages.current, before->pages.current);
  ck_assert_int_eq(now.page_bytes.current, before->page_bytes.current);
  ck_assert_int_eq(now.pages_abandoned.current, 0);
  ck_assert_int_eq(now.large_blocks.current, before->large_blocks.current);
  ck_assert_int_eq(now.heaps.current, before->heaps.current);
  ck_assert_int_eq(now.threads.current, before->threads.current);
  /* Nothing was wrong but that the small arena was full at times. */
  ck_assert_uint_eq(errors_total(), errors_of(ENOMEM));
}

/* Each round has another one: at once, never, in a moment. */
static void set_purge_delay(size_t round) {
  static const long delays[] = {10, 0, -1, 1};
  mi_option_set(mi_option_purge_delay, delays[round % COUNT_OF(delays)]);
}

/* ---- tests ---- */

START_TEST(threads_and_heaps) {
  const size_t lives = WORKERS * ROUNDS * LIVES;
  mi_option_enable(mi_option_visit_abandoned);
  model_begin(operations_wanted() * 3 / 4 / lives, false);
  mi_collect(true);
  const mi_stats_t before = stats_now();
  for (size_t round = 0; round < ROUNDS; round++) {
    set_purge_delay(round);
    threads_run(WORKERS, worker_run, workers, sizeof workers[0]);
    verify_all();
  }
  set_purge_delay(0);
  mi_option_disable(mi_option_visit_abandoned);
  free_all_and_settle(&before);
}
END_TEST

START_TEST(one_thread) {
  mi_option_enable(mi_option_visit_abandoned);
  model_begin(operations_wanted() / 4 / ROUNDS, true);
  shadow = calloc(SHADOW_SLICES, sizeof *shadow);
  ck_assert_ptr_nonnull(shadow);
  mi_collect(true);
  const mi_stats_t before = stats_now();
  for (size_t round = 0; round < ROUNDS; round++) {
    set_purge_delay(round);
    thread_run(worker_live, &workers[0]);
    verify_all();
  }
  set_purge_delay(0);
  mi_option_disable(mi_option_visit_abandoned);
  free_all_and_settle(&before);
  free(shadow);
}
END_TEST

int main(void) {
  /* What is printed as the seed is the one that counts. */
  const char *seed = getenv("MIRT_SEED");
  if (seed != NULL) setenv("TEST_SEED", seed, 1);
  printf("%zu operations\n", operations_wanted());
  small_arena = 0;
  if (mi_reserve_os_memory_ex(64 * MiB, false, false, true, &small_arena) != 0) {
    fprintf(stderr, "no memory for an arena\n");
    return EXIT_FAILURE;
  }
  other_subprocess = mi_subproc_new();
  Suite *suite = suite_create("model");
  TCase *c = case_begin(suite, "model");
  tcase_add_test(c, one_thread);
  tcase_add_test(c, threads_and_heaps);
  return suite_run(suite);
}
