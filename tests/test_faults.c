/* test_faults.c - what happens when the system says no, and what a machine with NUMA
 * nodes and huge pages would see. The system calls go through tests/system.h.
 *
 * A random workload runs again and again, and each time another of its system calls
 * fails, or a number of them. Blocks keep what was written to them, failures that the
 * program can see are reported, and in the end everything can be given back: not a slice,
 * a page or a byte of address space is missing.
 */
#include "test.h"

#include <mirt/arena.h>
#include <sched.h>
#include <sys/mman.h>

#include "arena/arena.h"
#include "arena/page_map.h"
#include "arena/zone.h"
#include "base/bits.h"
#include "heap/cell.h"
#include "os/os.h"
#include "system.h"

#define HUGE_PAGE GiB
#define LARGE_PAGE (2 * MiB)

/* ---- failing: Check's own way out is for the test's thread and process only ---- */

static pthread_t test_thread;
static pid_t test_process;

static _Noreturn void give_up(int line, const char *what) {
  char text[512];
  int used = snprintf(text, sizeof text, "line %d: '%s' is false", line, what);
  for (int kind = 0; kind < SYSTEM_KINDS; kind++) {
    if (system_failures(kind) == 0 || (size_t)used >= sizeof text) continue;
    used += snprintf(text + used, sizeof text - (size_t)used,
                     "; of %zu calls of kind %d failed %zu", system_calls(kind), kind,
                     system_failures(kind));
  }
  if (getpid() == test_process && pthread_equal(pthread_self(), test_thread)) {
    ck_abort_msg("%s", text);
  }
  fprintf(stderr, "test_faults.c: %s, seed %llu\n", text,
          (unsigned long long)test_seed());
  abort();
}

#define require(x) \
  do { \
    if (!(x)) give_up(__LINE__, #x); \
  } while (0)

/* ---- what mirt holds ---- */

static size_t slices_used(const struct arena *arena) {
  size_t count = 0;
  for (size_t i = 0; i < divide_up(arena->slice_count, WORD_BITS); i++) {
    count += (size_t)__builtin_popcountll(atomic_load_acquire(&arena->used[i]));
  }
  return count;
}

/* Slices that hold records of the arena and its heaps, for as long as it lives. */
static size_t slices_of_records(const struct arena *arena) {
  size_t count = arena->first_slice;
  if (!arena->setup.metadata_inside) return count;
  const struct zone_extent *extent = (struct zone_extent *)arena->zone.extent;
  for (; extent->before != NULL; extent = extent->before) count++;
  return count;
}

/* Bytes mapped for the records of the process, which it keeps. */
static size_t bytes_of_records(void) {
  const size_t guards = 2 * os_page_size();
  size_t bytes = 0;
  const struct zone_extent *extent = (struct zone_extent *)process_zone.extent;
  for (; extent != NULL; extent = extent->before) {
    if (system_is_mapped(extent)) bytes += extent->size + guards;
  }
  for (size_t i = 0; i < PAGE_MAP_ROOT_ENTRIES; i++) {
    const void *leaf = (void *)atomic_load_acquire(&page_map_root[i]);
    if (leaf == NULL || !system_is_mapped(leaf)) continue;
    bytes += PAGE_MAP_LEAF_ENTRIES * sizeof(atomic_word) + guards;
  }
  return bytes;
}

static void require_arena_is_empty(mi_arena_id_t id) {
  const struct arena *arena = arena_of_id(id);
  require(slices_used(arena) == slices_of_records(arena));
}

/* Nothing is allocated but arenas: the statistics say what their bitmaps say. */
static void require_commits_add_up(void) {
  size_t slices = 0;
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    const struct arena *arena = arena_of_id(id);
    if (arena == NULL) continue;
    for (size_t i = 0; i < divide_up(arena->slice_count, WORD_BITS); i++) {
      slices += (size_t)__builtin_popcountll(atomic_load_acquire(&arena->committed[i]) &
                                             ~atomic_load_acquire(&arena->purged[i]));
    }
  }
  require(stats_now().committed.current == (int64_t)(slices * SLICE_SIZE));
}

/* Everything has been freed: mirt must hold nothing, and no arena that cannot be
 * destroyed. So each test begins without any. */
static void require_nothing_is_held(void) {
  static size_t left_over; /* what could not be released, since that failed */
  mi_collect(true);
  require_commits_add_up();
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    if (arena_of_id(id) == NULL) continue;
    require_arena_is_empty(id);
    require(mirt_arena_destroy(id) == 0);
  }
  const mi_stats_t stats = stats_now();
  require(stats.arenas.current == 0);
  require(stats.reserved.current == 0);
  require(stats.committed.current == 0);
  require(stats.pages.current == 0);
  require(stats.page_bytes.current == 0);
  require(stats.pages_abandoned.current == 0);
  require(stats.large_blocks.current == 0);
  const size_t more = system_mapped() - bytes_of_records();
  if (system_failures(SYSTEM_RELEASE) != 0) left_over = more;
  require(more == left_over);
  require(system_strays() == 0);
}

/* Options that tests change are set back after each. */
static const mi_option_t options[] = {
    mi_option_arena_reserve,  mi_option_purge_delay,     mi_option_arena_eager_commit,
    mi_option_retry_on_oom,   mi_option_use_numa_nodes,  mi_option_disallow_os_alloc,
    mi_option_large_os_pages, mi_option_guarded_precise, mi_option_max_errors,
    mi_option_purge_decommits};
#define OPTIONS (sizeof options / sizeof options[0])
static long options_before[OPTIONS];

static void set_up(void) {
  test_thread = pthread_self();
  test_process = getpid();
  for (size_t i = 0; i < OPTIONS; i++) options_before[i] = mi_option_get(options[i]);
  mi_option_set(mi_option_arena_reserve, (long)(64 * MiB / KiB));
  system_reset();
  system_set_aside(0, 0);
  system_set_populate_time(0);
}

static void tear_down(void) {
  for (size_t i = 0; i < OPTIONS; i++) mi_option_set(options[i], options_before[i]);
  require_nothing_is_held();
  system_reset();
}

/* ---- blocks ---- */

/* Where blocks come from. */
enum source {
  DEFAULT,   /* the default heap, which uses the shared arena, too */
  EXCLUSIVE, /* a heap in an exclusive arena, not committed */
  MANAGED,   /* a heap in memory handed over, not accessible at first; some are guarded */
  SHARED,    /* a heap bound to an arena that serves everybody */
  GUARDED,   /* an unbound heap, many blocks of which are guarded */
  SOURCES,
  NOBODY = SOURCES /* of a heap or a thread that is gone, or somebody else's */
};

struct block {
  unsigned char *p; /* NULL where there is none */
  size_t size;
  enum source source;
  unsigned char value; /* that fills it */
};

#define EDGE ((size_t)2048)

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* What is written of a large block: its ends, and here and there between. */
static size_t block_step(const struct block *block) {
  const size_t least = 61448; /* at least once in each slice of most */
  return block->size / 24 > least ? block->size / 24 : least;
}

static void block_fill(const struct block *block) {
  memset(block->p, block->value, smaller(block->size, EDGE));
  if (block->size <= EDGE) return;
  memset(block->p + block->size - EDGE, block->value, EDGE);
  const size_t step = block_step(block);
  for (size_t i = step; i < block->size; i += step) block->p[i] = block->value;
}

static bool block_is_intact(const struct block *block) {
  if (!bytes_are(block->p, smaller(block->size, EDGE), block->value)) return false;
  if (block->size <= EDGE) return true;
  if (!bytes_are(block->p + block->size - EDGE, EDGE, block->value)) return false;
  const size_t step = block_step(block);
  for (size_t i = step; i < block->size; i += step) {
    if (block->p[i] != block->value) return false;
  }
  return true;
}

static bool block_is_zero(const struct block *block) {
  struct block zero = *block;
  zero.value = 0;
  return block_is_intact(&zero);
}

static void block_free(struct block *block) {
  if (block->p == NULL) return;
  require(block_is_intact(block));
  errno = 4321;
  mi_free(block->p);
  require(errno == 4321);
  block->p = NULL;
}

/* ---- the workload ---- */

#define SLOTS 100
#define HUGE_PAGES 2 /* that the simulated system has set aside */

/* What one thread works with. */
struct work {
  struct dice dice;
  bool alone; /* no other thread runs at the same time */
  bool with_visitors;
  size_t refusals; /* allocations that failed */
  struct block blocks[SLOTS];
  mi_heap_t *heaps[SOURCES];
  bool destroyable[SOURCES];
  mi_arena_id_t *arenas; /* by source; 0: none yet */
  char *area;            /* what is handed over */
  unsigned char last_value;
};

#define AREA_SIZE (16 * MiB)

static char *area_map(size_t size, int protect) {
  char *p = mmap(NULL, size + SLICE_SIZE, protect,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require(p != MAP_FAILED);
  return (char *)align_up((uintptr_t)p, SLICE_SIZE);
}

/* Memory for a source is about to be asked for. Returns what expect_refusal needs. */
static size_t refusals_before(void) {
  errno = 0;
  return errors_of(ENOMEM);
}

/* It was refused: the program must have been told in both ways. */
static void expect_refusal(struct work *work, size_t before) {
  require(errno == ENOMEM);
  require(errors_of(ENOMEM) > before);
  work->refusals++;
}

static bool source_has_arena(enum source source) {
  return source == EXCLUSIVE || source == MANAGED || source == SHARED;
}

static void arena_open(struct work *work, enum source source) {
  const size_t before = refusals_before();
  mi_arena_id_t id = 77;
  int error = ENOMEM;
  if (source != MANAGED) {
    error = mi_reserve_os_memory_ex(AREA_SIZE, false, false, source == EXCLUSIVE, &id);
  } else if (mi_manage_os_memory_ex(work->area, AREA_SIZE, false, false, true, -1, true,
                                    &id)) {
    error = 0;
  }
  require((error == 0) == (id != 0));
  work->arenas[source] = id;
  if (error == 0) return;
  require(error == ENOMEM);
  expect_refusal(work, before);
}

/* Make the heap of a source, and before it its arena, if they are not there. */
static void source_open(struct work *work, enum source source) {
  if (source == DEFAULT || work->heaps[source] != NULL) return;
  if (source_has_arena(source) && work->arenas[source] == 0) arena_open(work, source);
  if (source_has_arena(source) && work->arenas[source] == 0) return;
  const size_t before = refusals_before();
  work->destroyable[source] = dice_roll(&work->dice, 2) != 0;
  mi_heap_t *heap =
      mi_heap_new_ex((int)source, work->destroyable[source], work->arenas[source]);
  work->heaps[source] = heap;
  if (heap == NULL) {
    expect_refusal(work, before);
  } else if (source == GUARDED || source == MANAGED) {
    mi_heap_guarded_set_sample_rate(heap, source == GUARDED ? 2 : 7, 1);
  }
}

/* Give up a heap, sometimes together with its blocks. */
static void source_close(struct work *work, enum source source) {
  mi_heap_t *heap = work->heaps[source];
  if (heap == NULL) return;
  const bool destroy = work->destroyable[source] && dice_roll(&work->dice, 2) != 0;
  for (size_t i = 0; i < SLOTS; i++) {
    struct block *block = &work->blocks[i];
    if (block->p == NULL || block->source != source) continue;
    block->source = NOBODY;
    if (!destroy) continue;
    require(block_is_intact(block));
    block->p = NULL;
  }
  if (destroy) {
    mi_heap_destroy(heap);
  } else {
    mi_heap_delete(heap);
  }
  work->heaps[source] = NULL;
}

static size_t size_any(struct dice *dice, enum source source) {
  const bool bound = source_has_arena(source);
  switch (dice_roll(dice, 24)) {
    case 0: return bound ? dice_roll(dice, 2 * MiB) : 33 * MiB + dice_roll(dice, 9 * MiB);
    case 1:
    case 2: return 128 * KiB + dice_roll(dice, MiB);
    case 3:
    case 4: return dice_roll(dice, 128 * KiB);
    case 5:
    case 6:
    case 7:
    case 8: return dice_roll(dice, 16 * KiB);
    default: return dice_roll(dice, KiB);
  }
}

/* Allocate in one of several ways. Sets *zero when the block has to be zero. */
static void *take(struct dice *dice, mi_heap_t *heap, size_t size, bool *zero) {
  const size_t alignment = (size_t)16 << dice_roll(dice, 14);
  const size_t way = dice_roll(dice, 8);
  *zero = way >= 4 && way < 7;
  switch (way) {
    case 4: return heap == NULL ? mi_zalloc(size) : mi_heap_zalloc(heap, size);
    case 5: return heap == NULL ? mi_calloc(size, 1) : mi_heap_calloc(heap, 1, size);
    case 6:
      return heap == NULL ? mi_zalloc_aligned_at(size, alignment, 24)
                          : mi_heap_zalloc_aligned_at(heap, size, alignment, 24);
    case 7:
      return heap == NULL ? mi_malloc_aligned(size, alignment)
                          : mi_heap_malloc_aligned(heap, size, alignment);
    default: return heap == NULL ? mi_malloc(size) : mi_heap_malloc(heap, size);
  }
}

static void block_take(struct work *work, struct block *block, enum source source,
                       mi_heap_t *heap) {
  const size_t before = refusals_before();
  bool zero;
  block->size = size_any(&work->dice, source);
  block->p = take(&work->dice, heap, block->size, &zero);
  if (block->p == NULL) {
    expect_refusal(work, before);
    return;
  }
  block->source = source;
  require(!zero || block_is_zero(block));
  block->value = work->last_value = work->last_value % 250 + 1;
  block_fill(block);
}

static void block_resize(struct work *work, struct block *block) {
  enum source source = dice_roll(&work->dice, SOURCES);
  if (work->heaps[source] == NULL) source = DEFAULT;
  struct block resized = *block;
  resized.size = size_any(&work->dice, source);
  require(block_is_intact(block));
  const size_t before = refusals_before();
  resized.p = source == DEFAULT
                  ? mi_realloc(block->p, resized.size)
                  : mi_heap_realloc(work->heaps[source], block->p, resized.size);
  if (resized.p == NULL) {
    expect_refusal(work, before);
    return;
  }
  const size_t kept = smaller(smaller(block->size, resized.size), EDGE);
  require(bytes_are(resized.p, kept, block->value));
  if (resized.p != block->p) resized.source = source;
  block_fill(&resized);
  *block = resized;
}

static void slot_step(struct work *work) {
  struct block *block = &work->blocks[dice_roll(&work->dice, SLOTS)];
  if (block->p != NULL && dice_roll(&work->dice, 4) == 0) {
    block_resize(work, block);
  } else if (block->p != NULL) {
    block_free(block);
  } else {
    enum source source = dice_roll(&work->dice, SOURCES);
    source_open(work, source);
    if (work->heaps[source] == NULL) source = DEFAULT;
    block_take(work, block, source, work->heaps[source]);
  }
}

/* Use an arena that was just made, and destroy it. */
static void arena_use(struct work *work, mi_arena_id_t id, size_t largest) {
  size_t before = refusals_before();
  mi_heap_t *heap = mi_heap_new_ex(9, true, id);
  if (heap == NULL) expect_refusal(work, before);
  for (int i = 0; heap != NULL && i < 4; i++) {
    before = refusals_before();
    struct block block = {NULL, dice_roll(&work->dice, largest), NOBODY, 1};
    block.p = mi_heap_malloc(heap, block.size);
    if (block.p == NULL) {
      expect_refusal(work, before);
      continue;
    }
    require(mi_arena_contains(id, block.p));
    block_fill(&block);
    if (i % 2 != 0) block_free(&block);
  }
  if (heap != NULL) mi_heap_destroy(heap);
  if (work->alone) require_arena_is_empty(id); /* others may hold slices to purge them */
  require(mirt_arena_destroy(id) == 0);
}

static void arena_step(struct work *work) {
  const size_t size = MiB + dice_roll(&work->dice, 3 * MiB);
  const bool commit = dice_roll(&work->dice, 2) != 0;
  const bool allow_large = dice_roll(&work->dice, 2) != 0;
  /* What serves everybody is not empty when others run. */
  const bool exclusive = !work->alone || dice_roll(&work->dice, 2) != 0;
  const size_t before = refusals_before();
  mi_arena_id_t id = 77;
  const int error = mi_reserve_os_memory_ex(size, commit, allow_large, exclusive, &id);
  if (error == 0) {
    arena_use(work, id, MiB / 2);
  } else {
    require(error == ENOMEM && id == 0);
    expect_refusal(work, before);
  }
}

static void huge_step(struct work *work) {
  const size_t pages = 1 + dice_roll(&work->dice, HUGE_PAGES + 1);
  const int node = (int)dice_roll(&work->dice, SYSTEM_NODES + 1) - 1;
  const size_t before = refusals_before();
  mi_arena_id_t id = 77;
  const int error = mi_reserve_huge_os_pages_at_ex(pages, node, 0, true, &id);
  if (error != 0) {
    require(error == ENOMEM);
    expect_refusal(work, before);
  }
  require(error != 0 || id != 0);
  if (id == 0) return;
  size_t size = 0;
  mi_arena_area(id, &size);
  require(error != 0 ? size < pages * HUGE_PAGE : size == pages * HUGE_PAGE);
  arena_use(work, id, 4 * MiB);
}

/* A thread that comes for a short time, frees what it did not allocate, and leaves blocks
 * of its own. */
static void *visitor(void *argument) {
  struct work *work = argument;
  mi_heap_t *heap = NULL;
  if (work->arenas[EXCLUSIVE] != 0) {
    const size_t before = refusals_before();
    heap = mi_heap_new_in_arena(work->arenas[EXCLUSIVE]);
    if (heap == NULL) expect_refusal(work, before);
  }
  for (int i = 0; i < 30; i++) {
    struct block *block = &work->blocks[dice_roll(&work->dice, SLOTS)];
    if (block->p != NULL) {
      block_free(block);
    } else {
      const bool in_heap = heap != NULL && i % 3 == 0;
      block_take(work, block, in_heap ? EXCLUSIVE : DEFAULT, in_heap ? heap : NULL);
      block->source = NOBODY;
    }
  }
  return NULL;
}

static void run_visitor(struct work *work) {
  pthread_t thread;
  require(pthread_create(&thread, NULL, visitor, work) == 0);
  require(pthread_join(thread, NULL) == 0);
}

static void work_step(struct work *work) {
  switch (dice_roll(&work->dice, 100)) {
    case 0: mi_collect(true); break;
    case 1: mi_collect(false); break;
    case 2:
    case 3: source_close(work, dice_roll(&work->dice, SOURCES)); break;
    case 4: arena_step(work); break;
    case 5: huge_step(work); break;
    case 6:
    case 7: system_clock_advance(60); break;
    case 8:
      if (work->with_visitors) run_visitor(work);
      break;
    default: slot_step(work);
  }
}

static void work_end(struct work *work) {
  for (size_t i = 0; i < SLOTS; i++) block_free(&work->blocks[i]);
  for (int source = 0; source < SOURCES; source++) source_close(work, source);
}

/* ---- after the faults ---- */

/* A block of this size can be had. */
static void require_block(mi_heap_t *heap, size_t size) {
  struct block block = {NULL, size, NOBODY, 7};
  block.p = heap == NULL ? mi_malloc(size) : mi_heap_malloc(heap, size);
  require(block.p != NULL);
  block_fill(&block);
  block_free(&block);
}

static size_t longest_free_run(const struct arena *arena) {
  size_t longest = 0, run = 0;
  for (size_t i = 0; i < arena->slice_count; i++) {
    const bool used = (arena->used[i / WORD_BITS] >> i % WORD_BITS & 1) != 0;
    run = used ? 0 : run + 1;
    if (run > longest) longest = run;
  }
  return longest;
}

/* Where everything was freed, blocks of all sizes can be had again, up to one that takes
 * all the slices that lie together. */
static void require_source_works(struct work *work, enum source source) {
  static const size_t sizes[] = {1, 100, 5000, 40000, 100000, 300000};
  source_open(work, source);
  mi_heap_t *heap = work->heaps[source];
  require(source == DEFAULT || heap != NULL);
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    require_block(heap, sizes[i]);
  }
  mi_collect(true);
  if (!source_has_arena(source)) {
    require_block(heap, 30 * MiB);
    require_block(heap, 70 * MiB);
    return;
  }
  const struct arena *arena = arena_of_id(work->arenas[source]);
  require_arena_is_empty(work->arenas[source]);
  const size_t run = longest_free_run(arena);
  require(run >= arena->slice_count * (source == MANAGED ? 1 : 8) / 8);
  require_block(heap, run * SLICE_SIZE);
}

/* ---- faults one after the other ---- */

struct variant {
  bool with_visitors;
  long purge_delay, purge_decommits, eager_commit, retry_on_oom;
  size_t count; /* of calls that fail in a row */
};

static const struct variant variants[] = {{false, 10, 1, 2, 400, 1},
                                          {false, 10, 1, 2, 400, 25},
                                          {true, 0, 1, 0, 0, 1},
                                          {true, 0, 1, 0, 0, 25},
                                          {true, 10, 0, 0, 0, 6}};
#define VARIANTS (sizeof variants / sizeof variants[0])

/* One run of the workload. */
struct run {
  const struct variant *variant;
  enum system_kind kind;
  size_t first, count; /* calls that fail; a count of 0: none */
  /* what came of it */
  size_t calls[SYSTEM_KINDS];
  size_t failures, refusals;
};

#define STEPS 700

static void variant_set(const struct variant *variant) {
  mi_option_set(mi_option_purge_delay, variant->purge_delay);
  mi_option_set(mi_option_purge_decommits, variant->purge_decommits);
  mi_option_set(mi_option_arena_eager_commit, variant->eager_commit);
  mi_option_set(mi_option_retry_on_oom, variant->retry_on_oom);
}

static void run_workload(void *argument) {
  struct run *run = argument;
  static struct work work;
  static mi_arena_id_t arenas[SOURCES];
  memset(arenas, 0, sizeof arenas);
  work = (struct work){.dice = dice_new(1),
                       .alone = true,
                       .with_visitors = run->variant->with_visitors,
                       .arenas = arenas,
                       .area = area_map(AREA_SIZE, PROT_NONE)};
  variant_set(run->variant);
  system_reset();
  system_set_aside(HUGE_PAGES, 0);
  system_fail(run->kind, run->first, run->count, ENOMEM);
  for (int i = 0; i < STEPS; i++) work_step(&work);
  for (int kind = 0; kind < SYSTEM_KINDS; kind++) run->calls[kind] = system_calls(kind);
  run->failures = system_failures(run->kind);
  run->refusals = work.refusals;
  system_fail(run->kind, 1, 0, 0);
  for (int i = 0; i < STEPS / 10; i++)
    work_step(&work); /* it goes on as if nothing were */
  work_end(&work);
  mi_collect(true);
  require_commits_add_up();
  for (int source = 0; source < SOURCES; source++) require_source_works(&work, source);
  work_end(&work);
  if (run->kind != SYSTEM_RELEASE) require(system_free_huge_pages() == HUGE_PAGES);
  require_nothing_is_held();
  munmap(work.area, AREA_SIZE);
}

/* In a fresh process all that mirt prepares once is prepared, and may fail, in each run.
 * A sanitizer makes that too expensive. */
static void run_anywhere(struct run *run) {
  if (TEST_HAS_SHADOW) {
    run_workload(run);
    return;
  }
  static struct run *shared;
  if (shared == NULL) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
  }
  *shared = *run;
  const int status = child_run(run_workload, shared);
  ck_assert_msg(status == 0, "kind %d: calls %zu to %zu fail: status %#x", run->kind,
                run->first, run->first + run->count - 1, status);
  *run = *shared;
}

#define RUNS_MAX 22 /* of one kind and variant */

/* The number of the call that fails in a run: all of the first ones, then some. */
static size_t first_failure(size_t number, size_t runs, size_t calls) {
  const size_t dense = runs / 2;
  if (number < dense || calls <= runs) return number + 1;
  return dense + (number - dense + 1) * (calls - dense) / (runs - dense);
}

static void fail_each_in_turn(struct run *run) {
  run_anywhere(run);
  const size_t calls = run->calls[run->kind];
  ck_assert_uint_gt(calls, 0);
  const size_t most = TEST_ROUNDS(RUNS_MAX);
  const size_t runs = calls < most ? calls : most;
  run->count = run->variant->count;
  for (size_t i = 0; i < runs; i++) {
    run->first = first_failure(i, runs, calls);
    run_anywhere(run);
    /* The run is the same up to there, unless it found records prepared. */
    ck_assert(TEST_HAS_SHADOW || run->failures > 0);
  }
}

START_TEST(any_call_may_fail) {
  for (size_t v = 0; v < VARIANTS; v++) {
    struct run run = {.kind = (enum system_kind)_i, .variant = &variants[v]};
    fail_each_in_turn(&run);
  }
}
END_TEST

/* Of calls that give memory, so many in a row fail that allocations fail. */
START_TEST(refusals_are_seen) {
  static const enum system_kind kinds[] = {SYSTEM_RESERVE, SYSTEM_COMMIT};
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    struct run run = {
        .variant = &variants[2], .kind = kinds[i], .first = 5, .count = 10000};
    run_anywhere(&run);
    ck_assert_uint_gt(run.failures, 20);
    ck_assert_uint_gt(run.refusals, 20);
  }
}
END_TEST

/* ---- threads at the same time ---- */

#define WORKERS 3
#define EXCHANGE 16

static struct block exchange[EXCHANGE];
static pthread_mutex_t exchange_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_word workers_done;

/* Swap a block with one that somebody else put there. A heap that may be destroyed keeps
 * its blocks. */
static void exchange_step(struct work *work) {
  struct block *mine = &work->blocks[dice_roll(&work->dice, SLOTS)];
  if (mine->p != NULL && mine->source != NOBODY && mine->source != DEFAULT &&
      work->destroyable[mine->source]) {
    return;
  }
  struct block *other = &exchange[dice_roll(&work->dice, EXCHANGE)];
  pthread_mutex_lock(&exchange_lock);
  const struct block block = *other;
  *other = *mine;
  other->source = NOBODY;
  *mine = block;
  pthread_mutex_unlock(&exchange_lock);
}

static void *worker(void *argument) {
  struct work *work = argument;
  for (int i = 0; i < TEST_ROUNDS(8000); i++) {
    work_step(work);
    if (i % 8 == 0) exchange_step(work);
  }
  work_end(work);
  atomic_fetch_add_full(&workers_done, 1);
  return NULL;
}

/* Let a few calls fail, then a few more, as long as others work. */
static void *saboteur(void *argument) {
  struct dice *dice = argument;
  while (atomic_load_acquire(&workers_done) < WORKERS) {
    system_fail(dice_roll(dice, SYSTEM_KINDS), 1 + dice_roll(dice, 8),
                1 + dice_roll(dice, 30), ENOMEM);
    for (int i = 0; i < 20; i++) sched_yield();
  }
  return NULL;
}

START_TEST(calls_fail_in_any_thread) {
  static struct work works[WORKERS];
  static mi_arena_id_t arenas[SOURCES];
  struct work opener = {.arenas = arenas, .area = area_map(AREA_SIZE, PROT_NONE)};
  for (int source = EXCLUSIVE; source <= SHARED; source++) arena_open(&opener, source);
  variant_set(&variants[_i]);
  system_set_aside(HUGE_PAGES, 0);
  memset(exchange, 0, sizeof exchange);
  atomic_store_relaxed(&workers_done, 0);
  for (size_t i = 0; i < WORKERS; i++) {
    works[i] = (struct work){.dice = dice_new(100 + i), .arenas = arenas};
  }
  struct dice dice = dice_new(99);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, saboteur, &dice), 0);
  threads_run(WORKERS, worker, works, sizeof works[0]);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  for (int kind = 0; kind < SYSTEM_KINDS; kind++) system_fail(kind, 1, 0, 0);
  for (size_t i = 0; i < EXCHANGE; i++) block_free(&exchange[i]);
  mi_collect(true);
  opener.alone = true;
  for (int source = 0; source < SOURCES; source++) require_source_works(&opener, source);
  work_end(&opener);
  require_nothing_is_held();
  munmap(opener.area, AREA_SIZE);
}
END_TEST

/* ---- one call that matters ---- */

START_TEST(reserving_without_memory) {
  mi_arena_id_t id;
  for (size_t k = 1; k <= 2; k++) { /* the area, its records */
    system_fail(SYSTEM_RESERVE, k, 1, ENOMEM);
    id = 77;
    ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MiB, k == 1, false, true, &id), ENOMEM);
    ck_assert_int_eq(id, 0);
    ck_assert_int_eq(errno, ENOMEM);
    assert_errors(ENOMEM, 1);
    require_nothing_is_held();
  }
  system_fail(SYSTEM_COMMIT, 1, 1, ENOMEM); /* that of its records */
  id = 77;
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MiB, false, false, true, &id), ENOMEM);
  ck_assert_int_eq(id, 0);
  assert_errors(ENOMEM, 1);
}
END_TEST

START_TEST(managing_without_memory) {
  char *area = area_map(4 * MiB, PROT_NONE);
  system_fail(SYSTEM_COMMIT, 1, 1, ENOMEM);
  mi_arena_id_t id = 77;
  ck_assert(!mi_manage_os_memory_ex(area, 4 * MiB, false, false, true, -1, true, &id));
  ck_assert_int_eq(id, 0);
  assert_errors(ENOMEM, 1);
  ck_assert(mi_manage_os_memory_ex(area, 4 * MiB, false, false, true, -1, true, &id));
  assert_no_errors();
  ck_assert_int_eq(mirt_arena_destroy(id), 0);
  munmap(area, 4 * MiB);
}
END_TEST

START_TEST(committing_without_memory) {
  static const size_t sizes[] = {100, 20000, MiB};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    mi_arena_id_t id;
    ck_assert_int_eq(mi_reserve_os_memory_ex(4 * MiB, false, false, true, &id), 0);
    mi_heap_t *heap = mi_heap_new_ex(0, true, id);
    system_fail(SYSTEM_COMMIT, 1, 100, ENOMEM);
    errno = 0;
    ck_assert_ptr_null(mi_heap_malloc(heap, sizes[i]));
    ck_assert_int_eq(errno, ENOMEM);
    assert_errors(ENOMEM, 1);
    system_fail(SYSTEM_COMMIT, 1, 0, 0);
    require_arena_is_empty(id);
    require_block(heap, sizes[i]);
    mi_heap_collect(heap, true);
    require_block(heap, 4 * MiB);
    mi_heap_destroy(heap);
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
  }
}
END_TEST

/* Where more than is needed cannot be committed, what is needed may still be had. */
START_TEST(committing_with_little_memory) {
  mi_arena_id_t id;
  ck_assert_int_eq(mi_reserve_os_memory_ex(4 * MiB, false, false, true, &id), 0);
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  system_fail(SYSTEM_COMMIT, 1, 1, ENOMEM);
  require_block(heap, 100);
  assert_no_errors();
  mi_heap_destroy(heap);
}
END_TEST

START_TEST(purging_that_fails) {
  for (long delay = 0; delay <= 10; delay += 10) {
    mi_option_set(mi_option_purge_delay, delay);
    mi_arena_id_t id;
    ck_assert_int_eq(mi_reserve_os_memory_ex(4 * MiB, true, false, true, &id), 0);
    mi_heap_t *heap = mi_heap_new_ex(0, true, id);
    const mi_stats_t before = stats_now();
    system_fail(SYSTEM_PURGE, 1, 1, EINVAL);
    unsigned char *p = mi_heap_malloc(heap, MiB);
    memset(p, 5, MiB);
    errno = 4321;
    mi_free(p);
    mi_collect(true);
    ck_assert_int_eq(errno, 4321);
    assert_errors(ENOMEM, 1);
    ck_assert(bytes_are(p, MiB, 5)); /* the system kept it */
    ck_assert_int_eq(stats_now().purged, before.purged);
    ck_assert_int_eq(stats_now().committed.current, before.committed.current);
    p = mi_heap_zalloc(heap, MiB);
    ck_assert(bytes_are(p, MiB, 0));
    mi_heap_destroy(heap);
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
  }
}
END_TEST

/* EAGAIN asks to try again, and that is all. */
START_TEST(purging_that_has_to_wait) {
  mi_arena_id_t id;
  ck_assert_int_eq(mi_reserve_os_memory_ex(4 * MiB, true, false, true, &id), 0);
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  unsigned char *p = mi_heap_malloc(heap, MiB);
  memset(p, 5, MiB);
  mi_free(p);
  system_fail(SYSTEM_PURGE, 1, 3, EAGAIN);
  mi_collect(true);
  ck_assert_uint_eq(system_failures(SYSTEM_PURGE), 3);
  assert_no_errors();
  ck_assert(bytes_are(p, MiB, 0));
  mi_heap_destroy(heap);
}
END_TEST

START_TEST(guarding_that_fails) {
  mi_arena_id_t id;
  ck_assert_int_eq(mi_reserve_os_memory_ex(4 * MiB, true, false, true, &id), 0);
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  mi_heap_guarded_set_sample_rate(heap, 1, 0);
  /* Without its guard a block is a block. */
  system_fail(SYSTEM_PROTECT, 1, 1, ENOMEM);
  struct block block = {mi_heap_malloc(heap, 1000), 1000, NOBODY, 9};
  ck_assert_ptr_nonnull(block.p);
  ck_assert_uint_eq(system_failures(SYSTEM_PROTECT), 1);
  block_fill(&block);
  block_free(&block);
  /* A guard that cannot be taken away is in nobody's way. */
  block.p = mi_heap_malloc(heap, 1000);
  block_fill(&block);
  system_fail(SYSTEM_COMMIT, 1, 1, ENOMEM);
  block_free(&block);
  ck_assert_uint_eq(system_failures(SYSTEM_COMMIT), 1);
  mi_heap_guarded_set_sample_rate(heap, 0, 0);
  mi_collect(true);
  unsigned char *p = mi_heap_zalloc(heap, 4 * MiB);
  ck_assert(bytes_are(p, 4 * MiB, 0));
  memset(p, 1, 4 * MiB);
  mi_heap_destroy(heap);
  assert_no_errors();
}
END_TEST

START_TEST(guard_that_stays) {
  mi_arena_id_t id;
  ck_assert_int_eq(mi_reserve_os_memory_ex(4 * MiB, true, false, true, &id), 0);
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  mi_heap_guarded_set_sample_rate(heap, 1, 0);
  void *p = mi_heap_malloc(heap, 1000);
  system_fail(SYSTEM_COMMIT, 1, 1, ENOMEM);
  mi_free(p);
  require_commits_add_up();
  mi_collect(true); /* its slice is purged */
  require_commits_add_up();
  mi_heap_destroy(heap);
}
END_TEST

/* A thread that has nothing yet, not even its own record. */
static void *allocate_in_thread(void *argument) {
  *(void **)argument = mi_malloc(100);
  return NULL;
}

/* Records of threads, all of which live at once: more than static storage holds. */
static void *allocate_and_nest(void *argument) {
  size_t *depth = argument;
  if (*depth == 0) return NULL;
  (*depth)--;
  mi_heap_t *heap = mi_heap_new();
  if (heap == NULL) return NULL;
  for (size_t size = 16; size <= 128 * KiB; size *= 2) {
    void *p = mi_heap_malloc(heap, size);
    if (p != NULL) mi_free(p);
  }
  pthread_t thread;
  require(pthread_create(&thread, NULL, allocate_and_nest, depth) == 0);
  require(pthread_join(thread, NULL) == 0);
  mi_heap_destroy(heap);
  return NULL;
}

START_TEST(threads_without_memory) {
  system_fail(SYSTEM_RESERVE, 1, 1000, ENOMEM);
  size_t depth = 40;
  thread_run(allocate_and_nest, &depth);
  ck_assert_uint_gt(system_failures(SYSTEM_RESERVE), 0);
  ck_assert_uint_gt(errors_of(ENOMEM), 0);
  ck_assert_uint_eq(errors_total(), errors_of(ENOMEM));
  void *p = NULL;
  errors_clear();
  thread_run(allocate_in_thread, &p);
  ck_assert(p != NULL || errors_of(ENOMEM) > 0);
  mi_free(p);
  system_fail(SYSTEM_RESERVE, 1, 0, 0);
  errors_clear();
  thread_run(allocate_in_thread, &p);
  ck_assert_ptr_nonnull(p);
  mi_free(p);
  depth = 40;
  thread_run(allocate_and_nest, &depth);
  assert_no_errors();
}
END_TEST

/* ---- no records ---- */

#define ALWAYS ((size_t)1 << 40)

/* Take all that is left of a zone, its free records too, and let it not grow. */
static void zone_use_up(struct zone *zone) {
  system_fail(SYSTEM_RESERVE, 1, ALWAYS, ENOMEM);
  for (int kind = 0; kind < RECORD_KINDS; kind++) {
    while (record_stack_pop(&zone->free[kind]) != NULL) continue;
  }
  while (zone_take(zone, RECORD_CAGE, 64) != NULL) continue;
}

static void zone_may_grow(void) { system_fail(SYSTEM_RESERVE, 1, 0, 0); }

/* How far the records of the process reach, in the part where new ones are cut. */
static size_t zone_used(void) {
  return ((struct zone_extent *)process_zone.extent)->used;
}

/* The next large block of the heap needs a record. */
static void *chunk_blocks[CHUNK_PAGES];

static mi_heap_t *heap_with_full_chunk(mi_arena_id_t id) {
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  ck_assert_ptr_nonnull(heap);
  for (size_t i = 0; i < CHUNK_PAGES; i++) {
    chunk_blocks[i] = mi_heap_malloc(heap, 3 * SLICE_SIZE);
    ck_assert_ptr_nonnull(chunk_blocks[i]);
  }
  return heap;
}

START_TEST(large_block_without_record) {
  static const size_t sizes[] = {200000, MiB, 70 * MiB}; /* the last: its own mapping */
  mi_option_set(mi_option_retry_on_oom, 0);
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    mi_heap_t *heap = heap_with_full_chunk(0);
    require_block(NULL, 70 * MiB); /* what else that takes is there from now on */
    zone_use_up(&process_zone);
    if (sizes[i] > 64 * MiB) system_fail(SYSTEM_RESERVE, 2, ALWAYS, ENOMEM);
    errors_clear();
    ck_assert_ptr_null(mi_heap_malloc(heap, sizes[i]));
    assert_errors(ENOMEM, 1);
    const int64_t pages = stats_now().pages.current;
    ck_assert_int_eq(pages, CHUNK_PAGES);
    for (size_t j = 0; j < CHUNK_PAGES; j++) mi_free(chunk_blocks[j]);
    require_block(heap, 200000); /* there is room in the chunk again */
    zone_may_grow();
    mi_heap_destroy(heap);
    require_nothing_is_held();
  }
}
END_TEST

START_TEST(heap_without_record) {
  zone_use_up(&process_zone);
  ck_assert_ptr_null(mi_heap_new());
  assert_errors(ENOMEM, 1);
  zone_may_grow();
  mi_heap_t *heap = mi_heap_new();
  ck_assert_ptr_nonnull(heap);
  mi_heap_destroy(heap);
}
END_TEST

/* A heap that could not be made does not keep its arena. */
START_TEST(bound_heap_without_record) {
  mi_arena_id_t id;
  ck_assert_int_eq(mi_reserve_os_memory_ex(4 * MiB, true, false, true, &id), 0);
  zone_use_up(&arena_of_id(id)->zone);
  ck_assert_ptr_null(mi_heap_new_ex(0, true, id));
  assert_errors(ENOMEM, 1);
  ck_assert_ptr_null(mi_heap_new_in_arena(id));
  assert_errors(ENOMEM, 1);
  zone_may_grow();
  ck_assert_int_eq(mirt_arena_destroy(id), 0);
}
END_TEST

/* A heap without a record for its blocks of one size has no such block, and others. */
START_TEST(cell_without_record) {
  mi_heap_t *heap = mi_heap_new();
  require_block(heap, 100);
  zone_use_up(&process_zone);
  ck_assert_ptr_null(mi_heap_malloc(heap, 1000));
  assert_errors(ENOMEM, 1);
  ck_assert_ptr_null(mi_heap_malloc(heap, MiB));
  assert_errors(ENOMEM, 1);
  require_block(heap, 100);
  zone_may_grow();
  require_block(heap, 1000);
  require_block(heap, MiB);
  mi_heap_destroy(heap);
}
END_TEST

START_TEST(mapping_without_record) {
  zone_use_up(&process_zone);
  size_t count = 0; /* records of earlier blocks serve again */
  void *held[1000];
  for (; count < 1000; count++) {
    zone_may_grow();
    system_fail(SYSTEM_RESERVE, 2, ALWAYS, ENOMEM);
    held[count] = mi_malloc(70 * MiB);
    if (held[count] == NULL) break;
  }
  ck_assert_uint_lt(count, 1000);
  assert_errors(ENOMEM, 1);
  zone_may_grow();
  require_block(NULL, 70 * MiB);
  for (size_t i = 0; i < count; i++) mi_free(held[i]);
}
END_TEST

/* A block that spans many parts of the page map, each of which may be the one for which
 * there is no memory. */
START_TEST(mapping_without_page_map) {
  mi_option_set(mi_option_retry_on_oom, 0);
  for (size_t k = 1;; k++) {
    ck_assert_uint_lt(k, 1000);
    system_reset();
    system_fail(SYSTEM_RESERVE, k, 1, ENOMEM);
    void *p = mi_malloc(16 * GiB);
    ck_assert_int_eq(p == NULL, system_failures(SYSTEM_RESERVE) != 0);
    if (p == NULL) assert_errors(ENOMEM, 1);
    mi_free(p);
    require_nothing_is_held();
    if (p != NULL) break;
  }
}
END_TEST

/* To fail again and again takes nothing. */
START_TEST(failures_take_no_records) {
  require_block(NULL, 70 * MiB);
  require_block(NULL, 1000);
  require_block(NULL, MiB);
  require_nothing_is_held();
  const size_t used = zone_used();
  system_fail(SYSTEM_RESERVE, 1, ALWAYS, ENOMEM);
  for (int i = 0; i < 100; i++) {
    ck_assert_ptr_null(mi_malloc(70 * MiB));
    ck_assert_ptr_null(mi_malloc(1000));
    ck_assert_ptr_null(mi_malloc(MiB));
    ck_assert_ptr_null(mi_heap_new_in_arena(1));
  }
  ck_assert_uint_eq(zone_used(), used);
}
END_TEST

/* ---- NUMA nodes ---- */

#define NODE_AREA (4 * MiB)
#define NEUTRAL SYSTEM_NODES /* the index of the arena that names no node */
#define TAKEN_MAX 40000

static mi_arena_id_t node_arenas[SYSTEM_NODES + 1];
static char *node_areas[SYSTEM_NODES];

/* A thread on a node that takes blocks until there are no more, or enough. */
struct taker {
  unsigned node;
  size_t size, most, count;
};

static void *taken[TAKEN_MAX];

static void *take_blocks(void *argument) {
  struct taker *taker = argument;
  system_run_on(taker->node);
  for (taker->count = 0; taker->count < taker->most; taker->count++) {
    taken[taker->count] = mi_malloc(taker->size);
    if (taken[taker->count] == NULL) break;
  }
  return NULL;
}

static size_t take_on(unsigned node, size_t size, size_t most) {
  struct taker taker = {node, size, most, 0};
  thread_run(take_blocks, &taker);
  return taker.count;
}

static void give_back(size_t count) {
  for (size_t i = 0; i < count; i++) mi_free(taken[i]);
  mi_collect(true);
}

/* Records that are missing when nothing may be had from the system would come from these
 * arenas, for ever: prepare them. */
static void records_prepare(size_t size) {
  give_back(take_on(0, size, SYSTEM_NODES * NODE_AREA * 3 / 2 / size));
  require_nothing_is_held();
}

/* An arena on each node, and one on none, for everybody; nothing else may be had. They
 * are made in an order that is not the one wanted. */
static void nodes_begin(size_t size) {
  records_prepare(size);
  const size_t order[] = {2, NEUTRAL, 0, 3, 1};
  for (size_t i = 0; i <= SYSTEM_NODES; i++) {
    const size_t node = order[i];
    if (node == NEUTRAL) {
      ck_assert_int_eq(
          mi_reserve_os_memory_ex(NODE_AREA, true, false, false, &node_arenas[node]), 0);
      continue;
    }
    node_areas[node] = area_map(NODE_AREA, PROT_READ | PROT_WRITE);
    ck_assert(mi_manage_os_memory_ex(node_areas[node], NODE_AREA, true, false, true,
                                     (int)node, false, &node_arenas[node]));
  }
  mi_option_set(mi_option_disallow_os_alloc, 1);
}

static void nodes_end(void) {
  for (size_t i = 0; i <= SYSTEM_NODES; i++) {
    ck_assert_int_eq(mirt_arena_destroy(node_arenas[i]), 0);
    if (i != NEUTRAL) munmap(node_areas[i], NODE_AREA);
  }
}

/* The index of the arena that a block lies in. */
static size_t node_of(const void *p) {
  for (size_t i = 0; i <= SYSTEM_NODES; i++) {
    if (mi_arena_contains(node_arenas[i], p)) return i;
  }
  ck_abort_msg("%p lies in no arena of a node", p);
}

static const size_t node_sizes[] = {1000, 100000, 300000};
#define NODE_SIZES (sizeof node_sizes / sizeof node_sizes[0])

START_TEST(nearest_memory_first) {
  const size_t size = node_sizes[_i];
  nodes_begin(size);
  for (unsigned node = 0; node < SYSTEM_NODES; node++) {
    const size_t count = take_on(node, size, TAKEN_MAX);
    assert_errors(ENOMEM, 1);
    size_t counts[SYSTEM_NODES + 1] = {0};
    int distance = 0; /* 0 near, 1 neutral, 2 far */
    for (size_t i = 0; i < count; i++) {
      const size_t where = node_of(taken[i]);
      const int d = where == node ? 0 : where == NEUTRAL ? 1 : 2;
      assert_quick(d >= distance);
      distance = d;
      counts[where]++;
    }
    for (size_t i = 0; i <= SYSTEM_NODES; i++) { /* all were used up */
      ck_assert_uint_ge(counts[i], NODE_AREA * 8 / 10 / mi_good_size(size));
    }
    give_back(count);
  }
  nodes_end();
}
END_TEST

START_TEST(nodes_seen_are_limited) {
  nodes_begin(1000);
  for (long nodes = 0; nodes <= SYSTEM_NODES + 4; nodes++) {
    mi_option_set(mi_option_use_numa_nodes, nodes);
    for (unsigned node = 0; node < SYSTEM_NODES; node++) {
      const size_t expected = nodes == 0 ? node : node % (size_t)nodes;
      ck_assert_uint_eq(take_on(node, 1000, 1), 1);
      ck_assert_uint_eq(node_of(taken[0]), expected);
      give_back(1);
    }
  }
  nodes_end();
}
END_TEST

/* A thread that moves to another node asks for memory there from then on. */
START_TEST(threads_move) {
  nodes_begin(300000);
  for (unsigned i = 0; i < 4 * SYSTEM_NODES; i++) {
    const unsigned node = i * 3 % SYSTEM_NODES;
    system_run_on(node);
    void *p = mi_malloc(300000);
    ck_assert_uint_eq(node_of(p), node);
    mi_free(p);
  }
  system_run_on(0);
  nodes_end();
}
END_TEST

/* ---- huge pages on nodes ---- */

/* Each arena there is; they are exactly so many. */
static size_t arenas_find(mi_arena_id_t *ids, size_t most) {
  size_t count = 0;
  for (mi_arena_id_t id = 1; id <= ARENAS_MAX; id++) {
    if (arena_of_id(id) == NULL) continue;
    ck_assert_uint_lt(count, most);
    ids[count++] = id;
  }
  return count;
}

/* The pages of an arena were all bound, each whole, and to this node. */
static void assert_bound(mi_arena_id_t id, int node) {
  size_t size = 0;
  char *start = mi_arena_area(id, &size);
  size_t bytes = 0;
  for (size_t i = 0; i < system_binding_count(); i++) {
    const struct system_binding binding = system_binding(i);
    if (!mi_arena_contains(id, binding.start)) continue;
    ck_assert_uint_eq(binding.nodes, 1ul << node);
    ck_assert_ptr_eq(binding.start, start + bytes); /* in order, nothing twice */
    ck_assert(binding.start + binding.size <= start + size);
    bytes += binding.size;
  }
  ck_assert_uint_eq(bytes, size);
}

START_TEST(huge_pages_of_a_node) {
  for (int node = 0; node < SYSTEM_NODES; node++) {
    system_reset();
    system_set_aside(3, 0);
    mi_arena_id_t id = 0;
    ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(3, node, 0, true, &id), 0);
    ck_assert_uint_eq(system_free_huge_pages(), 0);
    ck_assert_uint_eq((uintptr_t)mi_arena_area(id, NULL) % HUGE_PAGE, 0);
    assert_bound(id, node);
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
    ck_assert_uint_eq(system_free_huge_pages(), 3);
  }
  system_reset();
  ck_assert_int_eq(mi_reserve_huge_os_pages_at(2, -1, 0), 0);
  ck_assert_uint_eq(system_binding_count(), 0); /* no node, nothing to bind */
  assert_no_errors();
}
END_TEST

static const struct {
  size_t pages, nodes, shares[SYSTEM_NODES + 1];
} divisions[] = {
    {4, 4, {1, 1, 1, 1}}, {10, 4, {3, 3, 2, 2}}, {7, 3, {3, 2, 2}},
    {2, 4, {1, 1}},       {5, 1, {5}},           {1, 0, {1}},
    {6, 0, {2, 2, 1, 1}}, {8, 0, {2, 2, 2, 2}},  {1, SIZE_MAX, {1}},
};
#define DIVISIONS (sizeof divisions / sizeof divisions[0])

START_TEST(huge_pages_over_nodes) {
  system_set_aside(divisions[_i].pages, 0);
  ck_assert_int_eq(
      mi_reserve_huge_os_pages_interleave(divisions[_i].pages, divisions[_i].nodes, 0),
      0);
  mi_arena_id_t ids[SYSTEM_NODES];
  const size_t count = arenas_find(ids, SYSTEM_NODES);
  size_t pages = 0;
  for (size_t node = 0; node < count; node++) {
    size_t size = 0;
    mi_arena_area(ids[node], &size);
    ck_assert_uint_eq(size, divisions[_i].shares[node] * HUGE_PAGE);
    assert_bound(ids[node], (int)node);
    pages += size / HUGE_PAGE;
    /* Threads there use it. */
    ck_assert_uint_eq(take_on((unsigned)node, 1000, 1), 1);
    ck_assert(mi_arena_contains(ids[node], taken[0]));
    give_back(1);
  }
  ck_assert_uint_eq(pages, divisions[_i].pages);
  assert_no_errors();
}
END_TEST

START_TEST(huge_pages_over_nodes_seen) {
  system_set_aside(4, 0);
  mi_option_set(mi_option_use_numa_nodes, 2);
  ck_assert_int_eq(mi_reserve_huge_os_pages_interleave(4, 0, 0), 0);
  mi_arena_id_t ids[SYSTEM_NODES];
  ck_assert_uint_eq(arenas_find(ids, SYSTEM_NODES), 2);
  assert_bound(ids[0], 0);
  assert_bound(ids[1], 1);
}
END_TEST

START_TEST(pages_that_are_not_bound) {
  static const int codes[] = {EPERM, EINVAL, EIO, ENOSYS};
  for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
    for (size_t failing = 1; failing <= 3; failing += 2) { /* one page, or all */
      system_reset();
      system_set_aside(3, 0);
      system_fail(SYSTEM_BIND, 4 - failing, failing, codes[i]);
      mi_arena_id_t id = 0;
      ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(3, 1, 0, true, &id), 0);
      ck_assert_uint_eq(system_failures(SYSTEM_BIND), failing);
      ck_assert_uint_ge(errors_of(codes[i]), 1);
      ck_assert_uint_eq(errors_total(), errors_of(codes[i]));
      errors_clear();
      size_t size = 0;
      mi_arena_area(id, &size);
      ck_assert_uint_eq(size, 3 * HUGE_PAGE);
      mi_heap_t *heap = mi_heap_new_ex(0, true, id);
      require_block(heap, 3 * HUGE_PAGE);
      mi_heap_destroy(heap);
      ck_assert_int_eq(mirt_arena_destroy(id), 0);
    }
  }
}
END_TEST

/* A node whose pages were bound is a node, whatever became of another's. */
START_TEST(nodes_are_bound_each) {
  system_set_aside(2, 0);
  system_fail(SYSTEM_BIND, 1, 1, EIO);
  ck_assert_int_eq(mi_reserve_huge_os_pages_interleave(2, 2, 0), 0);
  ck_assert_uint_ge(errors_of(EIO), 1);
  mi_arena_id_t ids[2];
  ck_assert_uint_eq(arenas_find(ids, 2), 2);
  assert_bound(ids[1], 1);
  ck_assert_uint_eq(take_on(1, 1000, 1), 1);
  ck_assert(mi_arena_contains(ids[1], taken[0]));
  give_back(1);
}
END_TEST

START_TEST(nodes_that_cannot_be) {
  system_set_aside(1, 0);
  mi_arena_id_t id = 0;
  ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(1, 100000, 0, true, &id), 0);
  assert_errors(EINVAL, 1); /* of the binding */
  ck_assert_int_ne(id, 0);
}
END_TEST

/* ---- huge pages, or too few ---- */

static char line[512]; /* what was printed last */

static void line_keep(const char *text, void *argument) {
  (void)argument;
  snprintf(line, sizeof line, "%s", text);
}

static void lines_begin(void) {
  line[0] = 0;
  mi_option_set(mi_option_max_errors, -1);
  mi_register_output(line_keep, NULL);
}

/* The whole of an arena of so many huge pages can be used. */
static void assert_usable(mi_arena_id_t id, size_t pages) {
  size_t size = 0;
  ck_assert_ptr_nonnull(mi_arena_area(id, &size));
  ck_assert_uint_eq(size, pages * HUGE_PAGE);
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  ck_assert_ptr_nonnull(heap);
  require_block(heap, 100);
  mi_heap_collect(heap, true);
  require_block(heap, pages * HUGE_PAGE);
  mi_heap_destroy(heap);
}

START_TEST(huge_pages_are_there) {
  system_set_aside(2, 0);
  mi_arena_id_t id = 0;
  ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(2, 0, 0, true, &id), 0);
  assert_usable(id, 2);
  assert_no_errors();
  /* Without being asked for, nothing is done. */
  ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(0, 0, 0, true, &id), 0);
  ck_assert_int_eq(id, 0);
  ck_assert_int_eq(mi_reserve_huge_os_pages_interleave(0, 0, 0), 0);
  ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(SIZE_MAX / HUGE_PAGE, 0, 0, true, &id),
                   EINVAL);
  assert_errors(EINVAL, 1);
}
END_TEST

/* They are committed and never given back, nor protected. */
START_TEST(huge_pages_are_pinned) {
  for (long delay = 0; delay <= 10; delay += 10) {
    mi_option_set(mi_option_purge_delay, delay);
    system_set_aside(1, 0);
    mi_arena_id_t id = 0;
    ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(1, 0, 0, true, &id), 0);
    system_watch(mi_arena_area(id, NULL), HUGE_PAGE);
    mi_heap_t *heap = mi_heap_new_ex(0, true, id);
    mi_heap_guarded_set_sample_rate(heap, 3, 0);
    for (size_t size = 10; size < 100 * MiB; size *= 10) {
      require_block(heap, size);
      mi_collect(true);
    }
    mi_heap_destroy(heap);
    mi_collect(true);
    static const enum system_kind kinds[] = {SYSTEM_COMMIT, SYSTEM_PROTECT, SYSTEM_PURGE,
                                             SYSTEM_ADVISE, SYSTEM_RELEASE};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
      ck_assert_uint_eq(system_watched(kinds[i]), 0);
    }
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
    ck_assert_uint_gt(system_watched(SYSTEM_RELEASE), 0);
  }
}
END_TEST

START_TEST(huge_pages_are_not_there) {
  lines_begin();
  mi_arena_id_t id = 77;
  ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(2, 0, 0, true, &id), ENOMEM);
  ck_assert_int_eq(id, 0);
  ck_assert_int_eq(errno, ENOMEM);
  ck_assert_msg(strstr(line, "0 of 2") != NULL, "%s", line);
  assert_errors(ENOMEM, 1);
  ck_assert_int_eq(mi_reserve_huge_os_pages_interleave(5, 0, 0), ENOMEM);
  ck_assert_msg(strstr(line, "0 of 5") != NULL, "%s", line);
  assert_errors(ENOMEM, 1);
  size_t pages = 77;
  ck_assert_int_eq(mi_reserve_huge_os_pages(3, 0, &pages), ENOMEM);
  ck_assert_uint_eq(pages, 0);
  assert_errors(ENOMEM, 1);
}
END_TEST

START_TEST(huge_pages_run_out) {
  lines_begin();
  for (size_t there = 1; there <= 3; there++) {
    system_set_aside(there, 0);
    mi_arena_id_t id = 0;
    ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(4, 0, 0, true, &id), ENOMEM);
    assert_errors(ENOMEM, 1);
    char counts[32];
    snprintf(counts, sizeof counts, "%zu of 4", there);
    ck_assert_msg(strstr(line, counts) != NULL, "%s", line);
    ck_assert_int_ne(id, 0);
    ck_assert_uint_eq(system_free_huge_pages(), 0);
    assert_usable(id, there);
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
    ck_assert_uint_eq(system_free_huge_pages(), there);
    ck_assert_uint_eq(system_strays(), 0);
  }
}
END_TEST

/* Over nodes: those before the one that ran out have theirs. */
START_TEST(huge_pages_run_out_over_nodes) {
  lines_begin();
  system_set_aside(3, 0);
  ck_assert_int_eq(mi_reserve_huge_os_pages_interleave(8, 4, 0), ENOMEM);
  assert_errors(ENOMEM, 1);
  ck_assert_msg(strstr(line, "3 of 8") != NULL, "%s", line);
  mi_arena_id_t ids[SYSTEM_NODES];
  ck_assert_uint_eq(arenas_find(ids, SYSTEM_NODES), 2);
  assert_usable(ids[0], 2);
  assert_usable(ids[1], 1);
  require_nothing_is_held();
  size_t pages = 77;
  ck_assert_int_eq(mi_reserve_huge_os_pages(8, 0, &pages), ENOMEM);
  ck_assert_uint_eq(pages, 3);
}
END_TEST

/* Another thread may map something wherever nothing is mapped. What was released once
 * must not be released again. */
START_TEST(nothing_is_released_twice) {
  for (int populated = 0; populated < 2; populated++) {
    system_set_aside(1 + 2 * (size_t)populated, 0);
    if (populated != 0) system_fail(SYSTEM_POPULATE, 2, 1, ENOMEM);
    ck_assert_int_eq(mi_reserve_huge_os_pages_at(3, 0, 0), ENOMEM);
    ck_assert_uint_eq(system_strays(), 0);
    require_nothing_is_held();
    errors_clear();
  }
}
END_TEST

START_TEST(pages_that_are_not_filled) {
  static const int codes[] = {ENOMEM, EFAULT, EHWPOISON};
  for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
    for (size_t k = 1; k <= 3; k++) {
      system_set_aside(3, 0);
      system_fail(SYSTEM_POPULATE, k, 1, codes[i]);
      mi_arena_id_t id = 77;
      ck_assert_int_eq(mi_reserve_huge_os_pages_at_ex(3, 0, 0, true, &id), ENOMEM);
      assert_errors(ENOMEM, 1);
      ck_assert_int_eq(id != 0, k > 1);
      ck_assert_uint_eq(system_free_huge_pages(), 4 - k); /* the failing one too */
      if (id != 0) assert_usable(id, k - 1);
      require_nothing_is_held();
      ck_assert_uint_eq(system_free_huge_pages(), 3);
    }
  }
  /* What asks to try again is tried again. */
  system_fail(SYSTEM_POPULATE, 1, 5, EAGAIN);
  ck_assert_int_eq(mi_reserve_huge_os_pages_at(3, 0, 0), 0);
  require_nothing_is_held();
  /* A system that does not know how fills in later. */
  system_fail(SYSTEM_POPULATE, 1, 3, EINVAL);
  ck_assert_int_eq(mi_reserve_huge_os_pages_at(3, 0, 0), 0);
  assert_no_errors();
}
END_TEST

/* Every call on the way may fail, and none costs a page or an address. */
START_TEST(huge_pages_and_faults) {
  static const enum system_kind kinds[] = {SYSTEM_RESERVE, SYSTEM_COMMIT, SYSTEM_POPULATE,
                                           SYSTEM_BIND};
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    for (size_t k = 1;; k++) {
      system_reset();
      system_set_aside(5, 0);
      system_fail(kinds[i], k, 1, ENOMEM);
      const int error = mi_reserve_huge_os_pages_interleave(5, 2, 0);
      const bool failed = system_failures(kinds[i]) != 0;
      ck_assert_int_eq(error, failed && kinds[i] != SYSTEM_BIND ? ENOMEM : 0);
      ck_assert_int_eq(errors_of(ENOMEM) > 0, failed);
      errors_clear();
      require_nothing_is_held();
      ck_assert_uint_eq(system_free_huge_pages(), 5);
      if (!failed) break;
    }
  }
}
END_TEST

/* ---- huge pages, or too little time ---- */

/* Filling in takes 100 ms a page. */
static const struct {
  size_t pages, timeout, done;
} times[] = {
    {10, 0, 10},    /* no limit */
    {10, 500, 1},   /* all would take 1000, more than 1.5 times 500 */
    {10, 666, 1},   /* more than 999 */
    {10, 667, 7},   /* not more than 1000 */
    {10, 700, 7},   /* until the time is over */
    {10, 999, 10},  /* the last page may be late */
    {10, 1000, 10}, /* just in time */
    {10, 5000, 10},
    {1, 1, 1},
    {2, 1, 1},
    {2, 199, 2},
    {3, 200, 2},
    {10, 99, 1},
    {10, SIZE_MAX, 10},
    {10, SIZE_MAX / 3 + 1, 10}, /* and a half times that is more than a size_t holds */
};
#define TIMES (sizeof times / sizeof times[0])

START_TEST(huge_pages_in_time) {
  lines_begin();
  system_set_aside(10, 0);
  system_set_populate_time(100);
  const size_t pages = times[_i].pages, done = times[_i].done;
  mi_arena_id_t id = 77;
  const int error =
      mi_reserve_huge_os_pages_at_ex(pages, 0, times[_i].timeout, true, &id);
  ck_assert_int_eq(error, done < pages ? ETIMEDOUT : 0);
  assert_errors(ETIMEDOUT, done < pages ? 1 : 0);
  ck_assert_uint_eq(system_free_huge_pages(), 10 - done);
  assert_usable(id, done);
  if (done == pages) return;
  char counts[32];
  snprintf(counts, sizeof counts, "%zu of %zu", done, pages);
  ck_assert_msg(strstr(line, counts) != NULL, "%s", line);
}
END_TEST

/* The limit is on the whole call, not on each node. */
START_TEST(huge_pages_over_nodes_in_time) {
  system_set_aside(10, 0);
  system_set_populate_time(100);
  ck_assert_int_eq(mi_reserve_huge_os_pages_interleave(10, 4, 700), ETIMEDOUT);
  assert_errors(ETIMEDOUT, 1);
  mi_arena_id_t ids[SYSTEM_NODES];
  ck_assert_uint_eq(arenas_find(ids, SYSTEM_NODES), 3); /* 3, 3 and 1 of 2 pages */
  assert_usable(ids[0], 3);
  assert_usable(ids[1], 3);
  assert_usable(ids[2], 1);
  require_nothing_is_held();
  ck_assert_int_eq(mi_reserve_huge_os_pages_interleave(10, 4, 500), ETIMEDOUT);
  ck_assert_uint_eq(arenas_find(ids, SYSTEM_NODES), 1);
  assert_usable(ids[0], 1);
  require_nothing_is_held();
  ck_assert_int_eq(mi_reserve_huge_os_pages_interleave(10, 4, 1000), 0);
}
END_TEST

START_TEST(deprecated_form_in_time) {
  static const struct {
    double seconds;
    size_t done;
  } cases[] = {{0, 10}, {-1, 10}, {0.5, 1}, {0.7, 7}, {1, 10}, {100, 10}, {1e300, 10}};
  system_set_populate_time(100);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    system_set_aside(10, 0);
    size_t done = 77;
    const int error = mi_reserve_huge_os_pages(10, cases[i].seconds, &done);
    ck_assert_int_eq(error, cases[i].done < 10 ? ETIMEDOUT : 0);
    ck_assert_uint_eq(done, cases[i].done);
    require_nothing_is_held();
  }
  /* NULL for who does not ask. */
  ck_assert_int_eq(mi_reserve_huge_os_pages(10, 0.7, NULL), ETIMEDOUT);
}
END_TEST

/* A limit of less than a millisecond is a limit. */
START_TEST(deprecated_form_in_no_time) {
  system_set_populate_time(100);
  system_set_aside(10, 0);
  size_t done = 77;
  ck_assert_int_eq(mi_reserve_huge_os_pages(10, 0.0001, &done), ETIMEDOUT);
  ck_assert_uint_eq(done, 1);
}
END_TEST

/* ---- large pages ---- */

/* Use an arena, and give all of it back. */
static void fill_and_free(mi_arena_id_t id, size_t size) {
  mi_heap_t *heap = mi_heap_new_ex(0, true, id);
  ck_assert_ptr_nonnull(heap);
  for (size_t block = 10; block < size; block *= 10) require_block(heap, block);
  mi_collect(true);
  require_block(heap, size);
  mi_heap_destroy(heap);
  mi_collect(true);
}

START_TEST(large_pages_are_there) {
  for (int commit = 0; commit < 2; commit++) {
    system_set_aside(0, 5);
    mi_arena_id_t id = 0;
    ck_assert_int_eq(mi_reserve_os_memory_ex(9 * MiB + 1, commit != 0, true, true, &id),
                     0);
    size_t size = 0;
    char *start = mi_arena_area(id, &size);
    ck_assert_uint_eq(size, 10 * MiB); /* rounded up to whole pages */
    ck_assert_uint_eq(system_free_large_pages(), 0);
    system_watch(start, size);
    fill_and_free(id, size);
    ck_assert_uint_eq(system_watched(SYSTEM_COMMIT), 0);
    ck_assert_uint_eq(system_watched(SYSTEM_PURGE), 0);
    ck_assert_uint_eq(system_watched(SYSTEM_PROTECT), 0);
    ck_assert_int_eq(mirt_arena_destroy(id), 0);
    ck_assert_uint_eq(system_free_large_pages(), 5);
  }
  assert_no_errors();
}
END_TEST

START_TEST(large_pages_are_not_there) {
  for (int commit = 0; commit < 2; commit++) {
    for (size_t there = 0; there <= 4; there += 4) {
      system_reset();
      system_set_aside(0, there);
      mi_arena_id_t id = 0;
      ck_assert_int_eq(mi_reserve_os_memory_ex(9 * MiB, commit != 0, true, true, &id), 0);
      ck_assert_uint_eq(system_calls(SYSTEM_ADVISE), 1); /* transparent ones instead */
      ck_assert_uint_eq(system_free_large_pages(), there);
      size_t size = 0;
      char *start = mi_arena_area(id, &size);
      ck_assert_uint_eq(size, 9 * MiB);
      ck_assert_uint_eq((uintptr_t)start % LARGE_PAGE, 0);
      system_watch(start, size);
      fill_and_free(id, size);
      ck_assert_int_eq(system_watched(SYSTEM_COMMIT) == 0, commit != 0);
      ck_assert_uint_gt(system_watched(SYSTEM_PURGE), 0); /* ordinary memory */
      ck_assert_int_eq(mirt_arena_destroy(id), 0);
    }
  }
  assert_no_errors();
}
END_TEST

START_TEST(large_pages_are_not_wanted) {
  system_set_aside(0, 5);
  mi_arena_id_t id = 0;
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MiB, true, false, true, &id), 0);
  ck_assert_uint_eq(system_free_large_pages(), 5);
  ck_assert_uint_eq(system_calls(SYSTEM_ADVISE), 0);
}
END_TEST

/* No transparent ones either: the arena is an arena. */
START_TEST(large_pages_cannot_be) {
  system_fail(SYSTEM_ADVISE, 1, 1, EINVAL);
  mi_arena_id_t id = 0;
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MiB, true, true, true, &id), 0);
  ck_assert_uint_eq(system_failures(SYSTEM_ADVISE), 1);
  fill_and_free(id, 8 * MiB);
  assert_no_errors();
}
END_TEST

START_TEST(large_pages_for_automatic_arenas) {
  mi_option_set(mi_option_large_os_pages, 1);
  for (size_t there = 31; there <= 32; there++) { /* of the 32 in 64 MiB */
    system_reset();
    system_set_aside(0, there);
    require_block(NULL, 1000);
    ck_assert_uint_eq(system_free_large_pages(), there == 32 ? 0 : there);
    ck_assert_int_eq(system_calls(SYSTEM_ADVISE) != 0, there < 32);
    require_nothing_is_held();
    ck_assert_uint_eq(system_free_large_pages(), there);
  }
}
END_TEST

/* ---- the suite ---- */

static TCase *faults_begin(Suite *suite, const char *name) {
  TCase *test_case = case_begin(suite, name);
  tcase_add_checked_fixture(test_case, set_up, tear_down);
  return test_case;
}

int main(void) {
  if (os_commits_strictly()) {
    printf(
        "skipped: the system does not overcommit, and so maps no huge simulated page\n");
    return 77;
  }
  Suite *suite = suite_create("faults");
  TCase *c = faults_begin(suite, "any call");
  tcase_add_loop_test(c, any_call_may_fail, 0, SYSTEM_KINDS);
  tcase_add_test(c, refusals_are_seen);
  tcase_add_loop_test(c, calls_fail_in_any_thread, 0, (int)VARIANTS);
  c = faults_begin(suite, "one call");
  tcase_add_test(c, reserving_without_memory);
  tcase_add_test(c, managing_without_memory);
  tcase_add_test(c, committing_without_memory);
  tcase_add_test(c, committing_with_little_memory);
  tcase_add_test(c, purging_that_fails);
  tcase_add_test(c, purging_that_has_to_wait);
  tcase_add_test(c, guarding_that_fails);
  tcase_add_test(c, guard_that_stays);
  tcase_add_test(c, threads_without_memory);
  c = faults_begin(suite, "no records");
  tcase_add_test(c, large_block_without_record);
  tcase_add_test(c, heap_without_record);
  tcase_add_test(c, bound_heap_without_record);
  tcase_add_test(c, cell_without_record);
  tcase_add_test(c, mapping_without_record);
  tcase_add_test(c, mapping_without_page_map);
  tcase_add_test(c, failures_take_no_records);
  c = faults_begin(suite, "nodes");
  tcase_add_loop_test(c, nearest_memory_first, 0, (int)NODE_SIZES);
  tcase_add_test(c, nodes_seen_are_limited);
  tcase_add_test(c, threads_move);
  tcase_add_test(c, huge_pages_of_a_node);
  tcase_add_loop_test(c, huge_pages_over_nodes, 0, (int)DIVISIONS);
  tcase_add_test(c, huge_pages_over_nodes_seen);
  tcase_add_test(c, pages_that_are_not_bound);
  tcase_add_test(c, nodes_are_bound_each);
  tcase_add_test(c, nodes_that_cannot_be);
  c = faults_begin(suite, "huge pages");
  tcase_add_test(c, huge_pages_are_there);
  tcase_add_test(c, huge_pages_are_pinned);
  tcase_add_test(c, huge_pages_are_not_there);
  tcase_add_test(c, huge_pages_run_out);
  tcase_add_test(c, huge_pages_run_out_over_nodes);
  tcase_add_test(c, nothing_is_released_twice);
  tcase_add_test(c, pages_that_are_not_filled);
  tcase_add_test(c, huge_pages_and_faults);
  tcase_add_loop_test(c, huge_pages_in_time, 0, (int)TIMES);
  tcase_add_test(c, huge_pages_over_nodes_in_time);
  tcase_add_test(c, deprecated_form_in_time);
  tcase_add_test(c, deprecated_form_in_no_time);
  c = faults_begin(suite, "large pages");
  tcase_add_test(c, large_pages_are_there);
  tcase_add_test(c, large_pages_are_not_there);
  tcase_add_test(c, large_pages_are_not_wanted);
  tcase_add_test(c, large_pages_cannot_be);
  tcase_add_test(c, large_pages_for_automatic_arenas);
  return suite_run(suite);
}
