/* test_tags.c - tags: which number a block has, which heaps adopt which abandoned pages,
 * what becomes of blocks at the end of their heap, addresses that stay with a sealed tag,
 * and the numbers of heaps and tags against a model.
 *
 * What blocks lie where is written down outside of mirt, in a ledger of slices, before and
 * after each call; so a slice that two tags share is seen whatever mirt says of itself.
 */
#include "test.h"

#include <limits.h>
#include <sched.h>
#include <sys/mman.h>

#include <mirt.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define SLICE_BITS 16
#define SLICE_BYTES ((size_t)1 << SLICE_BITS)

/* ---- helpers ---- */

/* For threads and children, where Check does not hear of a failure: end the process. */
static _Noreturn void require_failed(int line, const char *text) {
  dprintf(STDERR_FILENO, "test_tags.c:%d: '%s' is false\n", line, text);
  abort();
}

#define require(x) \
  do { \
    if (!(x)) require_failed(__LINE__, #x); \
  } while (0)

/* A tag that no test has used: with CK_FORK=no all tests share their process. */
static int tag_fresh(void) {
  static int next = 1000;
  return next++;
}

static mi_heap_t *heap_new(int tag, bool allow_destroy, mi_arena_id_t arena) {
  mi_heap_t *heap = mi_heap_new_ex(tag, allow_destroy, arena);
  require(heap != NULL);
  return heap;
}

static mirt_stats_t tag_stats(int tag) {
  mirt_stats_t stats;
  require(mirt_stats_tag(tag, &stats));
  return stats;
}

static mirt_stats_t heap_stats(const mi_heap_t *heap) {
  mirt_stats_t stats;
  require(mirt_stats_heap(heap, &stats));
  return stats;
}

/* Owners, heaps and pages when the calling thread holds nothing that it does not need. */
struct census {
  int64_t owners, heaps, pages, page_bytes, abandoned, large;
};

static struct census census_now(void) {
  mi_collect(true);
  const mi_stats_t now = stats_now();
  return (struct census){now.threads.current,         now.heaps.current,
                         now.pages.current,           now.page_bytes.current,
                         now.pages_abandoned.current, now.large_blocks.current};
}

#define assert_census(before) \
  do { \
    const struct census now = census_now(); \
    ck_assert_int_eq(now.owners, (before).owners); \
    ck_assert_int_eq(now.heaps, (before).heaps); \
    ck_assert_int_eq(now.pages, (before).pages); \
    ck_assert_int_eq(now.page_bytes, (before).page_bytes); \
    ck_assert_int_eq(now.abandoned, (before).abandoned); \
    ck_assert_int_eq(now.large, (before).large); \
  } while (0)

static pthread_t thread_start(void *(*f)(void *), void *argument) {
  pthread_t thread;
  require(pthread_create(&thread, NULL, f, argument) == 0);
  return thread;
}

static void thread_wait(pthread_t thread) { require(pthread_join(thread, NULL) == 0); }

/* ---- the ledger ---- */

/* A slice, as the blocks in it say. A domain is a set of heaps that may share pages. */
struct entry {
  size_t live;   /* blocks, or parts of blocks, that are live */
  int domain;    /* of those, and of the last one when there is none; -1: none yet */
  int heap;      /* number of the heap that allocated there last */
  int sealed_by; /* sealed domain that has ever had it; -1: none */
};

/* 512 MiB of addresses each, made when first met. */
#define REGION_BITS 29
#define REGION_SLICES ((size_t)1 << (REGION_BITS - SLICE_BITS))
#define REGIONS 512
#define DOMAINS 32
#define STRIPES 64

static struct {
  pthread_mutex_t mutex; /* for new regions */
  pthread_mutex_t stripes[STRIPES];
  atomic_word region_count;
  struct {
    uintptr_t number;
    struct entry *entries;
  } regions[REGIONS];
  bool is_sealed[DOMAINS];
  struct totals {
    atomic_word blocks, bytes;
    atomic_word extra_slices; /* of large blocks, beyond the first of each */
    atomic_word shared;       /* blocks put beside live ones of another heap */
  } domains[DOMAINS];
  atomic_word reused; /* slices that have gone from one domain to another */
  atomic_word heaps;
} ledger;

static void ledger_begin(void) {
  for (size_t i = 0; i < atomic_load_acquire(&ledger.region_count); i++) {
    free(ledger.regions[i].entries);
  }
  memset(&ledger, 0, sizeof ledger);
  pthread_mutex_init(&ledger.mutex, NULL);
  for (size_t i = 0; i < STRIPES; i++) pthread_mutex_init(&ledger.stripes[i], NULL);
}

static struct entry *find_region(uintptr_t number, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (ledger.regions[i].number == number) return ledger.regions[i].entries;
  }
  return NULL;
}

static struct entry *make_region(uintptr_t number) {
  pthread_mutex_lock(&ledger.mutex);
  const size_t count = atomic_load_acquire(&ledger.region_count);
  struct entry *entries = find_region(number, count);
  if (entries == NULL) {
    require(count < REGIONS);
    entries = malloc(REGION_SLICES * sizeof *entries);
    require(entries != NULL);
    for (size_t i = 0; i < REGION_SLICES; i++) entries[i] = (struct entry){0, -1, -1, -1};
    ledger.regions[count].number = number;
    ledger.regions[count].entries = entries;
    atomic_store_release(&ledger.region_count, count + 1);
  }
  pthread_mutex_unlock(&ledger.mutex);
  return entries;
}

static struct entry *entry_of(uintptr_t slice) {
  const uintptr_t number = slice >> (REGION_BITS - SLICE_BITS);
  struct entry *entries =
      find_region(number, atomic_load_acquire(&ledger.region_count));
  if (entries == NULL) entries = make_region(number);
  return &entries[slice % REGION_SLICES];
}

static pthread_mutex_t *stripe_of(uintptr_t slice) {
  return &ledger.stripes[slice % STRIPES];
}

static uintptr_t first_slice(const void *p) { return (uintptr_t)p >> SLICE_BITS; }

static uintptr_t last_slice(const void *p, size_t size) {
  return ((uintptr_t)p + size - 1) >> SLICE_BITS;
}

/* Who allocates. */
struct party {
  int domain;
  int heap;          /* its number, from ledger_heap */
  bool keeps_apart;  /* beside blocks of no other heap, of whatever domain */
};

static int ledger_heap(void) { return (int)atomic_fetch_add_full(&ledger.heaps, 1); }

static void ledger_enter(const struct party *party, struct entry *entry) {
  const bool is_sealed = ledger.is_sealed[party->domain];
  if (entry->live > 0) {
    require(entry->domain == party->domain);
    require(!party->keeps_apart || entry->heap == party->heap);
    if (entry->heap != party->heap) {
      atomic_fetch_add_full(&ledger.domains[party->domain].shared, 1);
    }
  } else if (entry->domain >= 0 && entry->domain != party->domain) {
    atomic_fetch_add_full(&ledger.reused, 1);
  }
  /* What a sealed tag has had, no other gets; nor has it been another's before, live. */
  require(entry->sealed_by < 0 || entry->sealed_by == party->domain);
  if (is_sealed) entry->sealed_by = party->domain;
  entry->live++;
  entry->domain = party->domain;
  entry->heap = party->heap;
}

/* A block has been allocated. */
static void ledger_add(const struct party *party, const void *p, size_t size) {
  const uintptr_t first = first_slice(p), last = last_slice(p, size);
  for (uintptr_t slice = first; slice <= last; slice++) {
    pthread_mutex_lock(stripe_of(slice));
    ledger_enter(party, entry_of(slice));
    pthread_mutex_unlock(stripe_of(slice));
  }
  struct totals *totals = &ledger.domains[party->domain];
  atomic_fetch_add_full(&totals->blocks, 1);
  atomic_fetch_add_full(&totals->bytes, size);
  atomic_fetch_add_full(&totals->extra_slices, last - first);
}

/* A block is going to be freed. */
static void ledger_remove(int domain, const void *p, size_t size) {
  const uintptr_t first = first_slice(p), last = last_slice(p, size);
  for (uintptr_t slice = first; slice <= last; slice++) {
    pthread_mutex_lock(stripe_of(slice));
    struct entry *entry = entry_of(slice);
    require(entry->live > 0 && entry->domain == domain);
    entry->live--;
    pthread_mutex_unlock(stripe_of(slice));
  }
  struct totals *totals = &ledger.domains[domain];
  atomic_fetch_sub_full(&totals->blocks, 1);
  atomic_fetch_sub_full(&totals->bytes, size);
  atomic_fetch_sub_full(&totals->extra_slices, last - first);
}

typedef bool entry_question(const struct entry *entry, int domain);

static bool has_live(const struct entry *entry, int domain) {
  return entry->live > 0 && entry->domain == domain;
}

static bool was_sealed_by(const struct entry *entry, int domain) {
  return entry->sealed_by == domain;
}

/* Count the slices of which this is true; call f, unless NULL, for each. */
static size_t ledger_count(entry_question *is_true, int domain, void (*f)(char *slice)) {
  size_t count = 0;
  for (size_t i = 0; i < atomic_load_acquire(&ledger.region_count); i++) {
    const uintptr_t base = ledger.regions[i].number << REGION_BITS;
    for (size_t j = 0; j < REGION_SLICES; j++) {
      if (!is_true(&ledger.regions[i].entries[j], domain)) continue;
      count++;
      if (f != NULL) f((char *)(base + (j << SLICE_BITS)));
    }
  }
  return count;
}

/* What domains hold by the ledger. With block sizes of powers of two, whose pages are one
 * slice or, of 128 KiB and more, one block, it knows the pages too: those with a block. */
static mirt_stats_t ledger_stats(const int *domains, size_t count) {
  mirt_stats_t sum = {.pages = 0};
  for (size_t i = 0; i < count; i++) {
    const struct totals *totals = &ledger.domains[domains[i]];
    const size_t slices = ledger_count(has_live, domains[i], NULL);
    sum.live_blocks += atomic_load_acquire(&totals->blocks);
    sum.live_bytes += atomic_load_acquire(&totals->bytes);
    sum.pages += slices - atomic_load_acquire(&totals->extra_slices);
    sum.committed += slices << SLICE_BITS;
  }
  return sum;
}

#define assert_same_holding(stats, model) \
  do { \
    const mirt_stats_t is = (stats), should_be = (model); \
    ck_assert_uint_eq(is.live_blocks, should_be.live_blocks); \
    ck_assert_uint_eq(is.live_bytes, should_be.live_bytes); \
    ck_assert_uint_eq(is.pages, should_be.pages); \
    ck_assert_uint_eq(is.committed, should_be.committed); \
  } while (0)

/* ---- blocks that know what they should hold ---- */

/* A block in the ledger. */
struct block {
  char *p; /* NULL: none */
  size_t size;
  int domain, tag;
};

static void block_write(const struct block *block) {
  const uintptr_t mark = (uintptr_t)block->p ^ (uintptr_t)block->domain;
  memcpy(block->p, &mark, sizeof mark);
  memcpy(block->p + block->size - sizeof mark, &mark, sizeof mark);
}

static void block_check(const struct block *block) {
  const uintptr_t mark = (uintptr_t)block->p ^ (uintptr_t)block->domain;
  require(memcmp(block->p, &mark, sizeof mark) == 0);
  require(memcmp(block->p + block->size - sizeof mark, &mark, sizeof mark) == 0);
  require(mirt_tag_of(block->p) == block->tag);
  require(mirt_tag_of(block->p + block->size - 1) == block->tag);
}

/* Write down a block that has just been allocated. */
static struct block block_enter(const struct party *party, int tag, void *p) {
  require(p != NULL);
  const struct block block = {p, mi_usable_size(p), party->domain, tag};
  ledger_add(party, p, block.size);
  require(mirt_tag_of(p) == tag);
  block_write(&block);
  return block;
}

static void block_free(struct block *block) {
  if (block->p == NULL) return;
  block_check(block);
  ledger_remove(block->domain, block->p, block->size);
  mi_free(block->p);
  block->p = NULL;
}

/* A size of mostly a few words, now and then a large block. With only powers of two, the
 * ledger knows the pages. */
static size_t size_roll(struct dice *dice, bool odd_sizes) {
  const size_t kind = dice_roll(dice, 1000);
  const unsigned most = kind < 970 ? 10 : kind < 995 ? 16 : 20;
  const unsigned least = kind < 970 ? 4 : kind < 995 ? 11 : 17;
  const size_t size = (size_t)1 << (least + dice_roll(dice, most - least + 1));
  return odd_sizes ? size / 2 + dice_roll(dice, size) : size;
}

/* Blocks on their way from thread to thread. */
#define EXCHANGE_SLOTS 16384

static struct {
  pthread_mutex_t mutexes[STRIPES];
  struct block slots[EXCHANGE_SLOTS];
} exchange;

static void exchange_begin(void) {
  memset(&exchange, 0, sizeof exchange);
  for (size_t i = 0; i < STRIPES; i++) pthread_mutex_init(&exchange.mutexes[i], NULL);
}

/* Put a block, or nothing, in a slot, and get what was there. */
static struct block exchange_swap(size_t slot, struct block block) {
  pthread_mutex_lock(&exchange.mutexes[slot % STRIPES]);
  const struct block before = exchange.slots[slot];
  exchange.slots[slot] = block;
  pthread_mutex_unlock(&exchange.mutexes[slot % STRIPES]);
  return before;
}

static void exchange_empty(void) {
  for (size_t i = 0; i < EXCHANGE_SLOTS; i++) {
    struct block block = exchange_swap(i, (struct block){NULL, 0, 0, 0});
    block_free(&block);
  }
}

/* ---- which tag ---- */

START_TEST(tags_in_range_are_accepted) {
  const struct census before = census_now();
  for (int tag = 0; tag <= MIRT_TAG_MAX; tag++) {
    mi_heap_t *heap = mi_heap_new_ex(tag, tag % 2 == 0, 0);
    assert_quick(heap != NULL);
    mi_heap_destroy(heap);
  }
  ck_assert_int_eq(MIRT_TAG_MAX, 32767);
  assert_census(before);
  assert_no_errors();
}
END_TEST

START_TEST(tags_out_of_range_are_refused) {
  static const int bad[] = {-1, -32768, INT_MIN, 32768, 65535, 65536, 65541, INT_MAX};
  const struct census before = census_now();
  const mi_stats_t stats = stats_now();
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    errno = 0;
    ck_assert_ptr_null(mi_heap_new_ex(bad[i], i % 2 == 0, 0));
    ck_assert_int_eq(errno, EINVAL);
    assert_errors(EINVAL, 1);
  }
  /* Nor is an arena held that a refused heap named. */
  mi_arena_id_t arena;
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MIB, false, false, true, &arena), 0);
  ck_assert_ptr_null(mi_heap_new_ex(MIRT_TAG_MAX + 1, true, arena));
  assert_errors(EINVAL, 1);
  ck_assert_int_eq(mirt_arena_destroy(arena), 0);
  assert_census(before);
  ck_assert_int_eq(stats_now().heaps.total, stats.heaps.total);
  ck_assert_int_eq(stats_now().reserved.current, stats.reserved.current);
  assert_no_errors();
}
END_TEST

/* The first byte, the last, and some between, each slice among them. */
static void require_tag_throughout(const char *p, int tag) {
  const size_t size = mi_usable_size(p);
  require(size > 0);
  for (size_t i = 0; i < size; i += SLICE_BYTES) require(mirt_tag_of(p + i) == tag);
  for (size_t i = 1; i < size; i += i) require(mirt_tag_of(p + i) == tag);
  require(mirt_tag_of(p + size - 1) == tag);
}

/* Small, of pages with one, several and many slices, large, and of a mapping of its own. */
static const size_t kinds[] = {1,         16,        1000,      5000,      7000,
                               8192,      20000,     65536,     65537,     100000,
                               128 * KIB, 200 * KIB, 2 * MIB,   40 * MIB,  0};
#define KINDS COUNT_OF(kinds)

static size_t kind_size(size_t i) {
  if (kinds[i] != 0) return kinds[i];
  return mi_option_get_size(mi_option_arena_reserve) + SLICE_BYTES;
}

/* Two blocks of each kind and tag: the first stays, the other is freed. */
struct sample {
  const int *tags;
  size_t tag_count;
  bool deletes;
  char *blocks[8][KINDS];
};

static void *take_sample(void *argument) {
  struct sample *sample = argument;
  for (size_t t = 0; t < sample->tag_count; t++) {
    const int tag = sample->tags[t];
    mi_heap_t *heap = heap_new(tag, t % 2 == 0, 0);
    for (size_t i = 0; i < KINDS; i++) {
      const size_t size = kind_size(i);
      const int64_t reserved = stats_now().reserved.current;
      char *p = mi_heap_malloc(heap, size);
      require(p != NULL);
      require(kinds[i] != 0 || stats_now().reserved.current - reserved == (int64_t)size);
      require_tag_throughout(p, tag);
      char *q = mi_heap_malloc_aligned(heap, size, 4096);
      require(q != NULL);
      require_tag_throughout(q, tag);
      mi_free(q);
      /* A page that has gone is nobody's. */
      if (size > 128 * KIB) require(mirt_tag_of(q) == -1 && mirt_tag_of(q + size - 1) == -1);
      sample->blocks[t][i] = p;
    }
    char *inside = mi_heap_malloc_aligned_at(heap, 3000, 256, 8);
    require(inside != NULL);
    require_tag_throughout(inside, tag);
    mi_free(inside);
    if (sample->deletes) mi_heap_delete(heap);
  }
  for (size_t t = 0; t < sample->tag_count; t++) {
    for (size_t i = 0; i < KINDS; i++) {
      require_tag_throughout(sample->blocks[t][i], sample->tags[t]);
    }
  }
  return NULL;
}

/* Loop test: heaps that are deleted, or end with their thread. */
START_TEST(tag_of_every_kind_of_block) {
  const int tags[] = {0, 1, 255, 256, 4095, 32766, 32767, tag_fresh()};
  const struct census before = census_now();
  struct sample sample = {.tags = tags, .tag_count = COUNT_OF(tags), .deletes = _i == 0};
  if (TEST_HAS_SHADOW) sample.tag_count = 3; /* the large ones cost there */
  thread_run(take_sample, &sample);
  for (size_t t = 0; t < sample.tag_count; t++) {
    for (size_t i = 0; i < KINDS; i++) {
      char *p = sample.blocks[t][i];
      require_tag_throughout(p, tags[t]);
      mi_free(p);
      if (kind_size(i) > 128 * KIB) ck_assert_int_eq(mirt_tag_of(p), -1);
    }
  }
  assert_census(before);
  assert_no_errors();
}
END_TEST

START_TEST(tag_of_what_is_no_block) {
  static int constant;
  int local = 0;
  void *foreign = malloc(100);
  mi_arena_id_t arena;
  ck_assert_int_eq(mi_reserve_os_memory_ex(32 * MIB, true, false, true, &arena), 0);
  char *area = mi_arena_area(arena, NULL);
  const void *words[] = {NULL,
                         &local,
                         &constant,
                         (void *)(uintptr_t)tag_of_what_is_no_block,
                         foreign,
                         area,
                         area + 31 * MIB,
                         (void *)1,
                         (void *)UINTPTR_MAX,
                         (void *)(UINTPTR_MAX - 7),
                         (void *)((uintptr_t)1 << 47),
                         (void *)((uintptr_t)1 << 63)};
  for (size_t i = 0; i < COUNT_OF(words); i++) {
    ck_assert_int_eq(mirt_tag_of(words[i]), -1);
  }
  struct dice dice = dice_new(1);
  for (size_t i = 0; i < 200000; i++) {
    const uintptr_t word = dice_word(&dice) >> (i % 64);
    const void *p = (const void *)word;
    assert_quick(mirt_tag_of(p) == -1 || mi_is_in_heap_region(p));
    /* A block with some bits turned is hardly another. */
    assert_quick(mirt_tag_of((const void *)(word | (uintptr_t)1 << 60)) == -1);
  }
  /* One page in it, and nothing besides. */
  const int tag = tag_fresh();
  mi_heap_t *heap = heap_new(tag, true, arena);
  char *p = mi_heap_malloc(heap, 200 * KIB);
  for (char *q = area; q < area + 32 * MIB; q += 4096) {
    const bool inside = q >= p && q < p + mi_usable_size(p);
    assert_quick(mirt_tag_of(q) == (inside ? tag : -1));
  }
  mi_heap_destroy(heap);
  ck_assert_int_eq(mirt_tag_of(p), -1);
  ck_assert_int_eq(mirt_arena_destroy(arena), 0);
  ck_assert_int_eq(mirt_tag_of(p), -1);
  free(foreign);
  assert_no_errors();
}
END_TEST

/* ---- who adopts ---- */

#define LEGACY_SIZE 512
#define LEGACY_PAGES 8
#define LEGACY_LIVE (LEGACY_PAGES * SLICE_BYTES / LEGACY_SIZE / 2)

/* What a thread leaves: pages of which every second block is free. */
struct legacy {
  int tag;
  mi_subproc_id_t subprocess;
  mi_arena_id_t arena;
  bool allow_destroy, deletes;
  char *blocks[LEGACY_LIVE];
};

static void *leave_legacy(void *argument) {
  struct legacy *legacy = argument;
  if (legacy->subprocess != NULL) mi_subproc_add_current_thread(legacy->subprocess);
  mi_heap_t *heap = heap_new(legacy->tag, legacy->allow_destroy, legacy->arena);
  static char *freed[LEGACY_LIVE];
  for (size_t i = 0; i < LEGACY_LIVE; i++) {
    legacy->blocks[i] = mi_heap_malloc(heap, LEGACY_SIZE);
    freed[i] = mi_heap_malloc(heap, LEGACY_SIZE);
    require(legacy->blocks[i] != NULL && freed[i] != NULL);
    memset(legacy->blocks[i], (int)i, LEGACY_SIZE);
  }
  for (size_t i = 0; i < LEGACY_LIVE; i++) mi_free(freed[i]);
  if (legacy->deletes) mi_heap_delete(heap);
  return NULL;
}

/* Another thread, which may adopt that or not. */
struct candidate {
  int tag;
  mi_subproc_id_t subprocess;
  mi_arena_id_t arena;
  bool allow_destroy;
  bool only_automatic; /* option disallow_arena_alloc */
  const struct legacy *legacy;
  mi_arena_id_t exclusive[2];
};

static bool may_adopt(const struct candidate *self, const void *p) {
  const struct legacy *legacy = self->legacy;
  if (self->tag != legacy->tag || self->subprocess != legacy->subprocess) return false;
  if (self->allow_destroy) return false;
  if (self->arena != 0) return mi_arena_contains(self->arena, p);
  if (self->only_automatic && legacy->arena != 0) return false;
  return !mi_arena_contains(self->exclusive[0], p) &&
         !mi_arena_contains(self->exclusive[1], p);
}

static bool in_legacy(const struct legacy *legacy, const void *p) {
  for (size_t i = 0; i < LEGACY_LIVE; i++) {
    if (first_slice(p) == first_slice(legacy->blocks[i])) return true;
  }
  return false;
}

static void *try_to_adopt(void *argument) {
  const struct candidate *self = argument;
  const struct legacy *legacy = self->legacy;
  if (self->subprocess != NULL) mi_subproc_add_current_thread(self->subprocess);
  mi_option_set_enabled(mi_option_disallow_arena_alloc, self->only_automatic);
  mi_heap_t *heap = heap_new(self->tag, self->allow_destroy, self->arena);
  const size_t before = tag_stats(self->tag).adopted;
  size_t expected = 0, actual = 0;
  uintptr_t last = 0;
  size_t pages = 0;
  static char *mine[LEGACY_LIVE];
  for (size_t i = 0; i < LEGACY_LIVE; i++) {
    mine[i] = mi_heap_malloc(heap, LEGACY_SIZE);
    require(mine[i] != NULL);
    actual += in_legacy(legacy, mine[i]);
    if (!may_adopt(self, legacy->blocks[i])) continue;
    expected++; /* there is a free block beside each */
    pages += first_slice(legacy->blocks[i]) != last;
    last = first_slice(legacy->blocks[i]);
  }
  require(actual == expected);
  require(tag_stats(self->tag).adopted - before == pages);
  require(heap_stats(heap).adopted == pages);
  require((pages > 0) == may_adopt(self, legacy->blocks[0]));
  for (size_t i = 0; i < LEGACY_LIVE; i++) {
    require(bytes_are(legacy->blocks[i], LEGACY_SIZE, (unsigned char)i));
    require(mirt_tag_of(legacy->blocks[i]) == legacy->tag);
    const bool adopted = may_adopt(self, legacy->blocks[i]);
    require(mi_heap_of(legacy->blocks[i]) == (adopted ? heap : NULL));
  }
  for (size_t i = 0; i < LEGACY_LIVE; i++) mi_free(mine[i]);
  mi_option_disable(mi_option_disallow_arena_alloc);
  return NULL;
}

/* Loop test over what is left behind: each sort of heap that may come then tries. */
START_TEST(adopted_only_by_its_own_kind) {
  const int tags[] = {tag_fresh(), tag_fresh()};
  mi_subproc_id_t subprocess = mi_subproc_new();
  ck_assert_ptr_nonnull(subprocess);
  mi_arena_id_t arenas[4] = {0};
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MIB, false, false, true, &arenas[1]), 0);
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MIB, false, false, true, &arenas[2]), 0);
  void *p = mi_malloc(1); /* so that there is an arena of mirt's own before */
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 * MIB, false, false, false, &arenas[3]), 0);
  static struct legacy legacy;
  legacy = (struct legacy){.tag = tags[0],
                           .subprocess = _i % 2 == 0 ? NULL : subprocess,
                           .allow_destroy = _i / 2 % 2 != 0,
                           .deletes = _i / 4 % 2 != 0,
                           .arena = arenas[_i / 8 == 2 ? 3 : _i / 8]};
  thread_run(leave_legacy, &legacy);
  size_t adopted = 0;
  for (int i = 0; i < 2 * 2 * 2 * 5; i++) {
    struct candidate candidate = {.tag = tags[i % 2],
                                  .subprocess = i / 2 % 2 == 0 ? NULL : subprocess,
                                  .allow_destroy = i / 4 % 2 != 0,
                                  .arena = arenas[i / 8 % 4],
                                  .only_automatic = i / 8 == 4,
                                  .legacy = &legacy,
                                  .exclusive = {arenas[1], arenas[2]}};
    thread_run(try_to_adopt, &candidate);
    const mirt_stats_t now = tag_stats(legacy.tag);
    ck_assert_uint_eq(now.pages, LEGACY_PAGES);
    ck_assert_uint_eq(now.abandoned, LEGACY_PAGES);
    ck_assert_uint_eq(now.live_blocks, LEGACY_LIVE);
    ck_assert_uint_eq(now.live_bytes, LEGACY_LIVE * LEGACY_SIZE);
    adopted = now.adopted;
  }
  ck_assert_uint_gt(adopted, 0);
  ck_assert_uint_eq(tag_stats(tags[1]).adopted, 0);
  /* A sub-process that is gone leaves its pages to nobody. */
  mi_subproc_delete(subprocess);
  for (size_t i = 0; i < LEGACY_LIVE; i++) mi_free(legacy.blocks[i]);
  mi_free(p);
  ck_assert_uint_eq(tag_stats(legacy.tag).pages, 0);
  ck_assert_uint_eq(tag_stats(legacy.tag).abandoned, 0);
  mi_collect(true);
  for (int i = 1; i < 4; i++) ck_assert_int_eq(mirt_arena_destroy(arenas[i]), 0);
  assert_no_errors();
}
END_TEST

/* ---- hundreds of threads, a million objects ---- */

enum {
  TRAVEL_TAGS = 5,
  TRAVEL_SUBPROCESSES = 3,
  TRAVEL_LINES = 8, /* threads at once */
  TRAVEL_THREADS = 320,
  TRAVEL_OBJECTS = 3500, /* per thread */
  TRAVEL_HEAPS = 4,
  TRAVEL_HELD = 500
};

static struct {
  int tags[TRAVEL_TAGS];
  mi_subproc_id_t subprocesses[TRAVEL_SUBPROCESSES];
  bool odd_sizes;
  size_t threads_per_line;
  atomic_word objects;
} travel;

static int travel_domain(size_t tag_index, size_t subprocess) {
  return (int)(tag_index * TRAVEL_SUBPROCESSES + subprocess);
}

struct luggage {
  mi_heap_t *heap;
  struct party party;
  int tag;
};

static struct luggage luggage_new(struct dice *dice, size_t subprocess) {
  const size_t tag_index = dice_roll(dice, TRAVEL_TAGS);
  const bool allow_destroy = dice_roll(dice, 4) == 0;
  return (struct luggage){
      .heap = heap_new(travel.tags[tag_index], allow_destroy, 0),
      .party = {travel_domain(tag_index, subprocess), ledger_heap(), allow_destroy},
      .tag = travel.tags[tag_index]};
}

/* Destroy the heap with its blocks among those, delete it, or leave it to the thread's end. */
static void luggage_end(struct luggage *luggage, struct dice *dice, struct block *held,
                        const int *heap_of_held) {
  if (luggage->party.keeps_apart && dice_roll(dice, 2) == 0) {
    for (size_t i = 0; i < TRAVEL_HELD; i++) {
      if (held[i].p == NULL || heap_of_held[i] != luggage->party.heap) continue;
      block_check(&held[i]);
      ledger_remove(held[i].domain, held[i].p, held[i].size);
      held[i].p = NULL;
    }
    mi_heap_destroy(luggage->heap);
  } else if (dice_roll(dice, 2) == 0) {
    mi_heap_delete(luggage->heap);
  }
}

static void *travel_once(void *argument) {
  struct dice dice = dice_new(*(uint64_t *)argument);
  const size_t subprocess = dice_roll(&dice, TRAVEL_SUBPROCESSES);
  if (subprocess > 0) mi_subproc_add_current_thread(travel.subprocesses[subprocess]);
  struct luggage luggage[TRAVEL_HEAPS];
  struct block held[TRAVEL_HELD] = {{NULL, 0, 0, 0}};
  int heap_of_held[TRAVEL_HELD];
  for (size_t i = 0; i < TRAVEL_HEAPS; i++) luggage[i] = luggage_new(&dice, subprocess);
  for (size_t i = 0; i < TRAVEL_OBJECTS; i++) {
    const struct luggage *from = &luggage[dice_roll(&dice, TRAVEL_HEAPS)];
    void *p = mi_heap_malloc(from->heap, size_roll(&dice, travel.odd_sizes));
    const size_t j = dice_roll(&dice, TRAVEL_HELD);
    struct block old = held[j];
    bool is_apart = false; /* may be destroyed: no other thread gets it */
    for (size_t k = 0; k < TRAVEL_HEAPS; k++) {
      is_apart |= luggage[k].party.keeps_apart && luggage[k].party.heap == heap_of_held[j];
    }
    if (old.p != NULL && !is_apart && dice_roll(&dice, 4) == 0) {
      old = exchange_swap(dice_roll(&dice, EXCHANGE_SLOTS), old);
    }
    block_free(&old);
    held[j] = block_enter(&from->party, from->tag, p);
    heap_of_held[j] = from->party.heap;
    if (dice_roll(&dice, 2000) != 0) continue;
    mi_collect(dice_roll(&dice, 2) == 0);
    require(tag_stats(from->tag).pages > 0);
  }
  atomic_fetch_add_full(&travel.objects, TRAVEL_OBJECTS);
  for (size_t i = 0; i < TRAVEL_HEAPS; i++) {
    luggage_end(&luggage[i], &dice, held, heap_of_held);
  }
  for (size_t i = 0; i < TRAVEL_HELD; i++) { /* left behind */
    if (held[i].p == NULL) continue;
    struct block old = exchange_swap(dice_roll(&dice, EXCHANGE_SLOTS), held[i]);
    block_free(&old);
  }
  return NULL;
}

/* One thread after the other. */
static void *travel_line(void *argument) {
  uint64_t number = *(uint64_t *)argument * 1000;
  for (size_t i = 0; i < travel.threads_per_line; i++) {
    thread_wait(thread_start(travel_once, &number));
    number++;
  }
  return NULL;
}

/* Loop test: sizes of which the ledger knows the pages, and others. */
START_TEST(tags_and_subprocesses_keep_apart) {
  const struct census before = census_now();
  ledger_begin();
  exchange_begin();
  for (size_t i = 0; i < TRAVEL_TAGS; i++) travel.tags[i] = tag_fresh();
  for (size_t i = 1; i < TRAVEL_SUBPROCESSES; i++) {
    travel.subprocesses[i] = mi_subproc_new();
    ck_assert_ptr_nonnull(travel.subprocesses[i]);
  }
  travel.odd_sizes = _i == 1;
  travel.threads_per_line = TEST_ROUNDS(TRAVEL_THREADS / TRAVEL_LINES);
  atomic_store_relaxed(&travel.objects, 0);
  uint64_t numbers[TRAVEL_LINES];
  for (size_t i = 0; i < TRAVEL_LINES; i++) numbers[i] = 1 + i + 10 * (uint64_t)_i;
  threads_run(TRAVEL_LINES, travel_line, numbers, sizeof numbers[0]);
  if (!TEST_HAS_SHADOW) {
    ck_assert_uint_gt(atomic_load_acquire(&travel.objects), 1000000);
  }
  for (size_t i = 0; i < TRAVEL_TAGS; i++) {
    int domains[TRAVEL_SUBPROCESSES];
    for (size_t j = 0; j < TRAVEL_SUBPROCESSES; j++) {
      domains[j] = travel_domain(i, j);
      /* What belongs together does share pages. */
      ck_assert_uint_gt(atomic_load_acquire(&ledger.domains[domains[j]].shared), 0);
    }
    const mirt_stats_t stats = tag_stats(travel.tags[i]);
    const mirt_stats_t model = ledger_stats(domains, TRAVEL_SUBPROCESSES);
    if (travel.odd_sizes) {
      ck_assert_uint_eq(stats.live_blocks, model.live_blocks);
      ck_assert_uint_eq(stats.live_bytes, model.live_bytes);
      ck_assert_uint_ge(stats.committed, model.committed);
    } else {
      assert_same_holding(stats, model);
    }
    ck_assert_uint_gt(stats.live_blocks, 0);
    ck_assert_uint_eq(stats.abandoned, stats.pages); /* all threads have ended */
    ck_assert_uint_gt(stats.adopted, 0);
    ck_assert_uint_ge(stats.peak, stats.committed);
    ck_assert_uint_eq(stats.address_space, stats.committed);
  }
  /* Slices do go from one to another, when all that was in them is free. */
  ck_assert_uint_gt(atomic_load_acquire(&ledger.reused), 0);
  exchange_empty();
  for (size_t i = 0; i < TRAVEL_TAGS; i++) {
    const mirt_stats_t stats = tag_stats(travel.tags[i]);
    ck_assert_uint_eq(stats.live_blocks + stats.live_bytes + stats.pages, 0);
    ck_assert_uint_eq(stats.committed + stats.abandoned + stats.address_space, 0);
  }
  for (size_t i = 1; i < TRAVEL_SUBPROCESSES; i++) {
    mi_subproc_delete(travel.subprocesses[i]);
  }
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* ---- main ---- */

int main(void) {
  mi_option_set(mi_option_max_errors, -1); /* each error is a line, however many */
  Suite *suite = suite_create("tags");
  TCase *c = case_begin(suite, "which tag");
  tcase_add_test(c, tags_in_range_are_accepted);
  tcase_add_test(c, tags_out_of_range_are_refused);
  tcase_add_loop_test(c, tag_of_every_kind_of_block, 0, 2);
  tcase_add_test(c, tag_of_what_is_no_block);
  c = case_begin(suite, "who adopts");
  tcase_add_loop_test(c, adopted_only_by_its_own_kind, 0, 24);
  c = case_begin(suite, "many threads");
  tcase_add_loop_test(c, tags_and_subprocesses_keep_apart, 0, 2);
  return suite_run(suite);
}
