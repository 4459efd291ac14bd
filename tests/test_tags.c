/* test_tags.c - tags: which number a block has, which heaps adopt which abandoned pages,
 * what becomes of blocks at the end of their heap, addresses that stay with a sealed tag,
 * and the numbers of heaps and tags against a model.
 *
 * What blocks lie where is written down outside of mirt, in a ledger of slices, before
 * and after each call; so a slice that two tags share is seen whatever mirt says of
 * itself.
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
  struct entry *entries = find_region(number, atomic_load_acquire(&ledger.region_count));
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
  int heap;         /* its number, from ledger_heap */
  bool keeps_apart; /* beside blocks of no other heap, of whatever domain */
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
      pthread_mutex_lock(stripe_of(j));
      const bool counts = is_true(&ledger.regions[i].entries[j], domain);
      pthread_mutex_unlock(stripe_of(j));
      if (!counts) continue;
      count++;
      if (f != NULL) f((char *)(base + (j << SLICE_BITS)));
    }
  }
  return count;
}

/* What domains hold by the ledger. With block sizes of powers of two, whose pages are one
 * slice or, of 128 KiB and more, one block, it knows the pages with a block too. */
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
    const mirt_stats_t holding_ = (stats), model_ = (model); \
    ck_assert_uint_eq(holding_.live_blocks, model_.live_blocks); \
    ck_assert_uint_eq(holding_.live_bytes, model_.live_bytes); \
    ck_assert_uint_eq(holding_.pages, model_.pages); \
    ck_assert_uint_eq(holding_.committed, model_.committed); \
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

/* Small, of pages with one, several and many slices, large, of a mapping of its own. */
static const size_t kinds[] = {1,         16,        1000,    5000,     7000,
                               8192,      20000,     65536,   65537,    100000,
                               128 * KIB, 200 * KIB, 2 * MIB, 40 * MIB, 0};
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
      if (size > 128 * KIB)
        require(mirt_tag_of(q) == -1 && mirt_tag_of(q + size - 1) == -1);
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

/* One block of another size. */
struct remnant {
  int tag;
  void *block;
};

static void *leave_remnant(void *argument) {
  struct remnant *remnant = argument;
  remnant->block = mi_heap_malloc(heap_new(remnant->tag, false, 0), 2 * LEGACY_SIZE);
  require(remnant->block != NULL);
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
  struct remnant remnant = {tags[1], NULL}; /* so that for this tag, too, heaps do look */
  thread_run(leave_remnant, &remnant);
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
  ck_assert_uint_eq(tag_stats(tags[1]).abandoned, 1);
  mi_free(remnant.block);
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

/* Destroy the heap with its blocks among those, delete it, or leave it to the thread. */
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
  int heap_of_held[TRAVEL_HELD] = {0};
  for (size_t i = 0; i < TRAVEL_HEAPS; i++) luggage[i] = luggage_new(&dice, subprocess);
  for (size_t i = 0; i < TRAVEL_OBJECTS; i++) {
    const struct luggage *from = &luggage[dice_roll(&dice, TRAVEL_HEAPS)];
    void *p = mi_heap_malloc(from->heap, size_roll(&dice, travel.odd_sizes));
    const size_t j = dice_roll(&dice, TRAVEL_HELD);
    struct block old = held[j];
    bool is_apart = false; /* may be destroyed: no other thread gets it */
    for (size_t k = 0; k < TRAVEL_HEAPS; k++) {
      is_apart |=
          luggage[k].party.keeps_apart && luggage[k].party.heap == heap_of_held[j];
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
  size_t shared_by_all = 0;
  for (size_t i = 0; i < TRAVEL_TAGS; i++) {
    int domains[TRAVEL_SUBPROCESSES];
    for (size_t j = 0; j < TRAVEL_SUBPROCESSES; j++) {
      domains[j] = travel_domain(i, j);
      /* What belongs together does share pages. */
      const size_t shared = atomic_load_acquire(&ledger.domains[domains[j]].shared);
      ck_assert(shared > 0 || TEST_HAS_SHADOW); /* there the threads are few */
      shared_by_all += shared;
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
  ck_assert_uint_gt(shared_by_all, 0);
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

/* ---- the end of heaps ---- */

enum { ESTATE_BLOCKS = 4000 };

struct estate {
  mi_heap_t *heap;
  struct party party;
  int tag;
  struct block blocks[ESTATE_BLOCKS];
};

/* Blocks of all sizes, of which many have been freed again, also by another thread. */
static void *free_every_third(void *argument) {
  struct estate *estate = argument;
  for (size_t i = 0; i < ESTATE_BLOCKS; i += 3) block_free(&estate->blocks[i]);
  return NULL;
}

static void estate_fill(struct estate *estate, int tag, bool allow_destroy,
                        mi_arena_id_t arena) {
  struct dice dice = dice_new((uint64_t)tag);
  *estate = (struct estate){.heap = heap_new(tag, allow_destroy, arena),
                            .party = {0, ledger_heap(), true},
                            .tag = tag};
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    void *p = mi_heap_malloc(estate->heap, size_roll(&dice, true));
    estate->blocks[i] = block_enter(&estate->party, tag, p);
    if (dice_roll(&dice, 4) == 0) block_free(&estate->blocks[dice_roll(&dice, i + 1)]);
  }
  thread_run(free_every_third, estate);
}

/* They are where and what they were, and anybody may free them. */
static void *estate_free(void *argument) {
  struct estate *estate = argument;
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) block_free(&estate->blocks[i]);
  return NULL;
}

static mi_arena_id_t arena_or_none(bool wanted) {
  mi_arena_id_t arena = 0;
  if (!wanted) return arena;
  ck_assert_int_eq(mi_reserve_os_memory_ex(256 * MIB, false, false, true, &arena), 0);
  return arena;
}

static void arena_end(mi_arena_id_t arena) {
  if (arena != 0) ck_assert_int_eq(mirt_arena_destroy(arena), 0);
}

static struct estate estate;

/* Loop test: in an arena of its own, or not. */
START_TEST(destroy_drops_everything) {
  const mi_arena_id_t arena = arena_or_none(_i == 1);
  const int tag = tag_fresh();
  mi_stats_t warm;
  for (int round = 0; round < 3; round++) {
    const struct census before = census_now();
    const mirt_stats_t old = tag_stats(tag);
    ledger_begin();
    estate_fill(&estate, tag, true, arena);
    ck_assert_uint_gt(tag_stats(tag).pages, 50);
    ck_assert_uint_eq(tag_stats(tag).abandoned, 0);
    mi_heap_destroy(estate.heap);
    const mirt_stats_t stats = tag_stats(tag); /* at once, without a collection */
    ck_assert_uint_eq(stats.pages + stats.committed + stats.abandoned, 0);
    ck_assert_uint_eq(stats.live_blocks + stats.live_bytes + stats.address_space, 0);
    ck_assert_uint_ge(stats.peak, old.peak);
    for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
      if (estate.blocks[i].p == NULL) continue;
      assert_quick(mirt_tag_of(estate.blocks[i].p) == -1);
      assert_quick(mi_heap_of(estate.blocks[i].p) == NULL);
    }
    assert_census(before);
    const mi_stats_t now = stats_now();
    if (round == 0) warm = now;
    /* Less when a purge of free slices has come due meanwhile. */
    ck_assert_int_le(now.committed.current, warm.committed.current);
    ck_assert_int_eq(now.reserved.current, warm.reserved.current);
  }
  arena_end(arena);
  assert_no_errors();
}
END_TEST

/* Whoever must not destroy, or deletes, leaves pages: of the blocks none is lost. Loop
 * test: destroy of a heap that must not be; delete of one that may, and of one that must
 * not be destroyed; in an arena, or not; freed by this thread, or another. */
START_TEST(blocks_outlive_their_heap) {
  const bool destroys = _i % 3 == 0, allow_destroy = _i % 3 == 1;
  const mi_arena_id_t arena = arena_or_none(_i / 3 % 2 == 1);
  const int tag = tag_fresh();
  const struct census before = census_now();
  ledger_begin();
  estate_fill(&estate, tag, allow_destroy, arena);
  if (destroys) {
    mi_heap_destroy(estate.heap);
  } else {
    mi_heap_delete(estate.heap);
  }
  ck_assert_int_eq(stats_now().heaps.current, before.heaps);
  const mirt_stats_t stats = tag_stats(tag);
  ck_assert_uint_eq(stats.live_blocks, atomic_load_acquire(&ledger.domains[0].blocks));
  ck_assert_uint_eq(stats.live_bytes, atomic_load_acquire(&ledger.domains[0].bytes));
  ck_assert_uint_eq(stats.abandoned, stats.pages);
  ck_assert_uint_gt(stats.pages, 50);
  for (size_t i = 0; i < ESTATE_BLOCKS; i++) {
    if (estate.blocks[i].p == NULL) continue;
    block_check(&estate.blocks[i]);
    assert_quick(mi_heap_of(estate.blocks[i].p) == NULL);
  }
  /* A heap that may be destroyed takes none of them along. */
  mi_heap_t *passer_by = heap_new(tag, true, arena);
  const struct party party = {0, ledger_heap(), true};
  struct dice dice = dice_new(77);
  for (size_t i = 0; i < 2000; i++) {
    void *p = mi_heap_malloc(passer_by, size_roll(&dice, true));
    struct block block = block_enter(&party, tag, p);
    ledger_remove(block.domain, block.p, block.size);
  }
  mi_heap_destroy(passer_by);
  ck_assert_uint_eq(tag_stats(tag).adopted, 0);
  ck_assert_uint_eq(tag_stats(tag).pages, stats.pages);
  /* One that may not be does, and leaves them as well. */
  mi_heap_t *heir = heap_new(tag, false, arena);
  for (size_t i = 0; i < 100; i++) mi_free(mi_heap_malloc(heir, 16 << i % 8));
  ck_assert_uint_gt(tag_stats(tag).adopted, 0);
  ck_assert_uint_eq(heap_stats(heir).adopted, tag_stats(tag).adopted);
  mi_heap_destroy(heir);
  ck_assert_uint_eq(tag_stats(tag).live_blocks, stats.live_blocks);
  if (_i / 6 == 0) {
    estate_free(&estate);
  } else {
    thread_run(estate_free, &estate);
  }
  ck_assert_uint_eq(tag_stats(tag).pages, 0);
  ck_assert_uint_eq(tag_stats(tag).abandoned, 0);
  assert_census(before);
  arena_end(arena);
  assert_no_errors();
}
END_TEST

static void *end_anothers_heap(void *argument) {
  mi_heap_delete(argument);
  mi_heap_destroy(argument);
  return NULL;
}

START_TEST(heaps_that_cannot_be_ended) {
  mi_heap_t *heap = heap_new(tag_fresh(), true, 0);
  char *p = mi_heap_malloc(heap, 100);
  memset(p, 1, 100);
  thread_run(end_anothers_heap, heap);
  assert_errors(EPERM, 2);
  mi_heap_destroy(mi_heap_get_backing());
  mi_heap_delete(mi_heap_get_backing());
  assert_errors(EINVAL, 2);
  mi_heap_destroy(NULL);
  mi_heap_delete(NULL);
  ck_assert(mi_heap_check_owned(heap, p));
  ck_assert(bytes_are(p, 100, 1));
  mi_heap_destroy(heap);
  assert_no_errors();
}
END_TEST

/* ---- sealed tags: what is refused ---- */

START_TEST(sealing) {
  static const int bad[] = {-1, INT_MIN, MIRT_TAG_MAX + 1, 65536, INT_MAX};
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    ck_assert(!mirt_tag_is_sealed(bad[i]));
    ck_assert_int_eq(mirt_tag_seal(bad[i]), EINVAL);
    assert_errors(EINVAL, 1);
    ck_assert(!mirt_tag_is_sealed(bad[i]));
  }
  const int tag = tag_fresh(), other = tag_fresh(), used = tag_fresh();
  ck_assert(!mirt_tag_is_sealed(tag));
  mi_heap_t *heap = heap_new(tag, true, 0); /* without a block */
  ck_assert_int_eq(mirt_tag_seal(tag), 0);
  ck_assert(mirt_tag_is_sealed(tag));
  ck_assert_int_eq(mirt_tag_seal(tag), 0);
  ck_assert(!mirt_tag_is_sealed(other));
  mi_free(mi_heap_malloc(heap, 1));
  ck_assert_int_eq(mirt_tag_seal(tag), 0); /* sealed: no matter that it is used */
  mi_heap_destroy(heap);
  ck_assert(mirt_tag_is_sealed(tag));
  ck_assert_uint_eq(tag_stats(tag).address_space, SLICE_BYTES);
  /* Used before, by small blocks or a large one, and none of them is left. */
  static const size_t sizes[] = {1, 128 * KIB, 5 * MIB, 2048 * MIB};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    const int next = i == 0 ? used : tag_fresh();
    heap = heap_new(next, true, 0);
    void *p = mi_heap_malloc(heap, sizes[i]);
    ck_assert_ptr_nonnull(p);
    for (int round = 0; round < 3; round++) {
      ck_assert_int_eq(mirt_tag_seal(next), EBUSY);
      assert_errors(EBUSY, 1);
      ck_assert(!mirt_tag_is_sealed(next));
      if (round == 0) mi_free(p);
      if (round == 1) mi_heap_destroy(heap);
    }
    ck_assert_uint_eq(tag_stats(next).address_space, 0);
  }
  mi_free(mi_malloc(1));
  mirt_tag_seal(0);
  assert_errors(EBUSY, 1);
}
END_TEST

/* Some seal a tag while others take blocks of it: one of the two was first. */
static struct {
  pthread_barrier_t barrier;
  int tags[500];
  size_t rounds;
} race;

struct racer {
  bool seals;
  bool sealed[COUNT_OF(race.tags)];
};

static void *race_for_tags(void *argument) {
  struct racer *racer = argument;
  for (size_t i = 0; i < race.rounds; i++) {
    const int tag = race.tags[i];
    mi_heap_t *heap = heap_new(tag, true, 0);
    pthread_barrier_wait(&race.barrier);
    if (racer->seals) {
      const int result = mirt_tag_seal(tag);
      require(result == 0 || result == EBUSY);
      racer->sealed[i] = result == 0;
      require(mirt_tag_is_sealed(tag) == racer->sealed[i]);
    } else {
      void *p = mi_heap_malloc(heap, 100);
      require(p != NULL);
      racer->sealed[i] = mirt_tag_is_sealed(tag);
    }
    mi_heap_destroy(heap);
  }
  return NULL;
}

START_TEST(sealing_races_with_the_first_block) {
  static struct racer racers[4];
  race.rounds = TEST_ROUNDS(COUNT_OF(race.tags));
  for (size_t i = 0; i < race.rounds; i++) race.tags[i] = tag_fresh();
  for (size_t i = 0; i < COUNT_OF(racers); i++) racers[i].seals = i % 2 == 0;
  pthread_barrier_init(&race.barrier, NULL, COUNT_OF(racers));
  threads_run(COUNT_OF(racers), race_for_tags, racers, sizeof racers[0]);
  pthread_barrier_destroy(&race.barrier);
  size_t refusals = 0;
  for (size_t i = 0; i < race.rounds; i++) {
    const bool is_sealed = mirt_tag_is_sealed(race.tags[i]);
    for (size_t j = 0; j < COUNT_OF(racers); j++) {
      assert_quick(racers[j].sealed[i] == is_sealed);
    }
    const mirt_stats_t stats = tag_stats(race.tags[i]);
    assert_quick(stats.pages == 0);
    /* The two that allocated had a page each, maybe the same one after the other. */
    assert_quick(is_sealed ? stats.address_space == SLICE_BYTES ||
                                 stats.address_space == 2 * SLICE_BYTES
                           : stats.address_space == 0);
    if (!is_sealed) refusals += 2;
  }
  assert_errors(EBUSY, refusals);
}
END_TEST

/* ---- sealed tags: where their blocks lie ---- */

enum place { ANYWHERE, EXCLUSIVE, MANAGED, MANAGED_UNCOMMITTED, CAGE, PLACES };
#define THE_ONLY_ONE PLACES /* an arena for everybody, and no others */

/* An arena, or all that serve everybody. */
struct yard {
  enum place place;
  mi_arena_id_t arena;
  void *memory; /* handed over */
  size_t size;
  mirt_cage_t *cage;
};

static struct yard yard_new(enum place place, size_t size) {
  struct yard yard = {.place = place, .size = size};
  if (place == EXCLUSIVE) {
    require(mi_reserve_os_memory_ex(size, false, false, true, &yard.arena) == 0);
  } else if (place == MANAGED || place == MANAGED_UNCOMMITTED) {
    const bool committed = place == MANAGED;
    yard.memory = mmap(NULL, size, committed ? PROT_READ | PROT_WRITE : PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(yard.memory != MAP_FAILED);
    require(mi_manage_os_memory_ex(yard.memory, size, committed, false, true, -1, true,
                                   &yard.arena));
  } else if (place == THE_ONLY_ONE) {
    require(mi_reserve_os_memory(size, false, false) == 0);
    mi_option_enable(mi_option_disallow_os_alloc);
  } else if (place == CAGE) {
    const mirt_cage_options_t options = {.size = size, .shift = 3};
    require(mirt_cage_create(&options, &yard.cage) == 0);
    yard.arena = yard.cage->arena;
  }
  return yard;
}

/* All heaps bound to it have ended. */
static void yard_end(struct yard *yard) {
  mi_option_disable(mi_option_disallow_os_alloc);
  if (yard->place == CAGE) {
    require(mirt_cage_destroy(yard->cage) == 0);
  } else if (yard->arena != 0) {
    require(mirt_arena_destroy(yard->arena) == 0);
  }
  if (yard->memory != NULL) require(munmap(yard->memory, yard->size) == 0);
}

/* Memory pages of this slice that take up memory. */
static size_t slice_resident(char *slice) {
  unsigned char resident[SLICE_BYTES / 4096];
  const size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
  if (mincore(slice, SLICE_BYTES, resident) != 0) return 0; /* not mapped */
  size_t count = 0;
  for (size_t i = 0; i < SLICE_BYTES / page_size; i++) count += resident[i] & 1;
  return count;
}

static size_t resident_total;

static void add_resident(char *slice) { resident_total += slice_resident(slice); }

/* Memory behind the addresses that a sealed domain has ever had. */
static size_t sealed_resident(int domain) {
  resident_total = 0;
  ledger_count(was_sealed_by, domain, add_resident);
  return resident_total;
}

enum { CHURN_TAGS = 6, CHURN_SEALED = 3, CHURN_THREADS = 4, CHURN_SLOTS = 400 };

static struct {
  int tags[CHURN_TAGS];
  struct yard yard;
  size_t generations, turns;
  bool odd_sizes;
} churn;

struct churner {
  struct dice dice;
  mi_heap_t *heaps[CHURN_TAGS];
  struct party parties[CHURN_TAGS];
  struct block blocks[CHURN_SLOTS];
};

static void churn_heap_new(struct churner *churner, size_t i) {
  const bool allow_destroy = dice_roll(&churner->dice, 2) == 0;
  churner->heaps[i] = heap_new(churn.tags[i], allow_destroy, churn.yard.arena);
  churner->parties[i] = (struct party){(int)i, ledger_heap(), allow_destroy};
}

/* Sometimes with an alignment, sometimes zeroed. */
static void *churn_take(struct churner *churner, mi_heap_t *heap, size_t size) {
  struct dice *dice = &churner->dice;
  if (dice_roll(dice, 20) == 0) {
    const size_t alignment = (size_t)1 << dice_roll(dice, 21);
    char *p = mi_heap_malloc_aligned(heap, size, alignment);
    require((uintptr_t)p % alignment == 0);
    return p;
  }
  if (dice_roll(dice, 4) != 0) return mi_heap_malloc(heap, size);
  char *p = mi_heap_zalloc(heap, size);
  require(p != NULL && bytes_are(p, size < 8192 ? size : 8192, 0));
  require(bytes_are(p + size - (size < 100 ? size : 100), size < 100 ? size : 100, 0));
  return p;
}

static void churn_allocate(struct churner *churner, struct block *block) {
  const size_t i = dice_roll(&churner->dice, CHURN_TAGS);
  block_free(block);
  void *p =
      churn_take(churner, churner->heaps[i], size_roll(&churner->dice, churn.odd_sizes));
  *block = block_enter(&churner->parties[i], churn.tags[i], p);
}

/* Resize, mostly in a heap of the same tag. What does not move keeps its tag. */
static void churn_resize(struct churner *churner, struct block *block) {
  struct dice *dice = &churner->dice;
  const size_t i =
      dice_roll(dice, 4) == 0 ? dice_roll(dice, CHURN_TAGS) : (size_t)block->domain;
  block_check(block);
  ledger_remove(block->domain, block->p, block->size);
  uintptr_t mark;
  memcpy(&mark, block->p, sizeof mark);
  char *p =
      mi_heap_realloc(churner->heaps[i], block->p, size_roll(dice, churn.odd_sizes));
  require(p != NULL && memcmp(p, &mark, sizeof mark) == 0);
  const size_t now = p == block->p ? (size_t)block->domain : i;
  struct party party = churner->parties[now];
  party.keeps_apart = false; /* it may be where another heap put it */
  *block = block_enter(&party, churn.tags[now], p);
}

/* All that remains of a heap's blocks go with it, or stay. */
static void churn_end_heap(struct churner *churner, size_t i) {
  const struct party *party = &churner->parties[i];
  for (size_t j = 0; j < CHURN_SLOTS; j++) {
    struct block *block = &churner->blocks[j];
    if (block->p == NULL || mi_heap_of(block->p) != churner->heaps[i]) continue;
    if (!party->keeps_apart) continue;
    block_check(block);
    ledger_remove(block->domain, block->p, block->size);
    block->p = NULL;
  }
  mi_heap_destroy(churner->heaps[i]);
}

/* Hand a block on, and free what came instead. Not one that its heap may destroy. */
static void churn_exchange(struct churner *churner, struct block *block) {
  const mi_heap_t *heap = mi_heap_of(block->p);
  for (size_t i = 0; i < CHURN_TAGS; i++) {
    if (churner->heaps[i] == heap && churner->parties[i].keeps_apart) return;
  }
  *block = exchange_swap(dice_roll(&churner->dice, CHURN_SLOTS), *block);
  block_free(block);
}

static void *churn_once(void *argument) {
  struct churner *churner = calloc(1, sizeof *churner);
  require(churner != NULL);
  churner->dice = dice_new(*(uint64_t *)argument);
  struct dice *dice = &churner->dice;
  for (size_t i = 0; i < CHURN_TAGS; i++) churn_heap_new(churner, i);
  for (size_t turn = 0; turn < churn.turns; turn++) {
    struct block *block = &churner->blocks[dice_roll(dice, CHURN_SLOTS)];
    const size_t what = dice_roll(dice, 1000);
    if (what < 550 || block->p == NULL) {
      churn_allocate(churner, block);
    } else if (what < 750) {
      block_free(block);
    } else if (what < 900) {
      churn_resize(churner, block);
    } else if (what < 990) {
      churn_exchange(churner, block);
    } else if (what < 994) {
      mi_collect(what == 990);
    } else {
      const size_t i = dice_roll(dice, CHURN_TAGS);
      churn_end_heap(churner, i);
      churn_heap_new(churner, i);
    }
  }
  for (size_t i = 0; i < CHURN_SLOTS; i++) {
    if (churner->blocks[i].p == NULL) continue;
    churn_exchange(churner, &churner->blocks[i]);
    block_free(&churner->blocks[i]);
  }
  free(churner);
  return NULL;
}

/* Threads that follow each other, and leave blocks for those to come. */
static void *churn_line(void *argument) {
  uint64_t number = *(uint64_t *)argument * 1000;
  for (size_t i = 0; i < churn.generations; i++, number++) {
    thread_wait(thread_start(churn_once, &number));
  }
  return NULL;
}

static void churn_begin(struct yard yard, size_t sealed, bool odd_sizes) {
  ledger_begin();
  exchange_begin();
  churn.yard = yard;
  churn.odd_sizes = odd_sizes;
  churn.generations = 3;
  churn.turns = TEST_ROUNDS(6000);
  for (size_t i = 0; i < CHURN_TAGS; i++) {
    churn.tags[i] = tag_fresh();
    ledger.is_sealed[i] = i < sealed;
    if (i < sealed) require(mirt_tag_seal(churn.tags[i]) == 0);
  }
}

static void churn_run(uint64_t number) {
  uint64_t numbers[CHURN_THREADS];
  for (size_t i = 0; i < CHURN_THREADS; i++) numbers[i] = number + i;
  threads_run(CHURN_THREADS, churn_line, numbers, sizeof numbers[0]);
}

/* A sealed tag that has nothing any more takes what it had, and no more. */
static void assert_used_again(size_t domain) {
  const int tag = churn.tags[domain];
  const size_t before = tag_stats(tag).address_space;
  const size_t count = before / SLICE_BYTES / 2;
  mi_heap_t *heap = heap_new(tag, true, churn.yard.arena);
  for (size_t i = 0; i < count; i++) {
    char *p = mi_heap_zalloc(heap, SLICE_BYTES);
    assert_quick(p != NULL);
    /* Of odd sizes a page may have ended in a slice that no block was in. */
    const int sealed_by = entry_of(first_slice(p))->sealed_by;
    assert_quick(sealed_by == (int)domain || (churn.odd_sizes && sealed_by == -1));
    assert_quick(bytes_are(p, SLICE_BYTES, 0));
    memset(p, 1, SLICE_BYTES);
  }
  ck_assert_uint_eq(tag_stats(tag).address_space, before);
  ck_assert_uint_eq(tag_stats(tag).committed, count * SLICE_BYTES);
  ck_assert_uint_gt(sealed_resident((int)domain), 0);
  mi_heap_destroy(heap);
  mi_collect(true);
  ck_assert_uint_eq(sealed_resident((int)domain), 0);
}

/* Loop test: in each place; with sizes of which the ledger knows the slices, or not. */
START_TEST(sealed_addresses_stay) {
  const enum place place = (enum place)(_i % PLACES);
  const struct census before = census_now();
  churn_begin(yard_new(place, 256 * MIB), CHURN_SEALED, _i / PLACES == 1);
  churn_run(1 + 10 * (uint64_t)_i);
  for (size_t i = 0; i < CHURN_TAGS; i++) {
    const mirt_stats_t stats = tag_stats(churn.tags[i]);
    const int domain = (int)i;
    const mirt_stats_t model = ledger_stats(&domain, 1);
    ck_assert_uint_eq(stats.live_blocks, model.live_blocks);
    ck_assert_uint_eq(stats.live_bytes, model.live_bytes);
    ck_assert_uint_gt(stats.live_blocks, 0);
    if (!churn.odd_sizes) assert_same_holding(stats, model);
    if (i < CHURN_SEALED) ck_assert_uint_gt(sealed_resident(domain), 0);
  }
  exchange_empty();
  mi_collect(true);
  for (size_t i = 0; i < CHURN_TAGS; i++) {
    const mirt_stats_t stats = tag_stats(churn.tags[i]);
    const size_t slices = ledger_count(was_sealed_by, (int)i, NULL);
    ck_assert_uint_eq(stats.live_blocks + stats.pages + stats.abandoned, 0);
    ck_assert_uint_eq(stats.committed, 0);
    ck_assert((slices > 0) == (i < CHURN_SEALED));
    if (churn.odd_sizes) {
      ck_assert_uint_ge(stats.address_space, slices * SLICE_BYTES);
    } else {
      ck_assert_uint_eq(stats.address_space, slices * SLICE_BYTES);
    }
    ck_assert_uint_ge(stats.peak, i < CHURN_SEALED ? SLICE_BYTES : 1);
    ck_assert_uint_eq(sealed_resident((int)i), 0);
    if (i < CHURN_SEALED) assert_used_again(i);
  }
  /* The others do get each other's addresses. */
  ck_assert_uint_gt(atomic_load_acquire(&ledger.reused), 0);
  assert_census(before);
  yard_end(&churn.yard);
  for (size_t i = 0; i < CHURN_TAGS; i++) {
    if (place != ANYWHERE) ck_assert_uint_eq(tag_stats(churn.tags[i]).address_space, 0);
  }
  assert_no_errors();
}
END_TEST

/* ---- sealed tags: an arena that is full ---- */

enum { YARD_SLICES_MAX = 256 };

/* Blocks of a slice each until there are no more. Returns how many. */
static size_t fill_yard(mi_heap_t *heap, char **blocks) {
  size_t count = 0;
  errno = 0;
  while (count < YARD_SLICES_MAX &&
         (blocks[count] = mi_heap_malloc(heap, SLICE_BYTES)) != NULL) {
    memset(blocks[count++], 1, SLICE_BYTES);
  }
  ck_assert_int_eq(errno, ENOMEM);
  assert_errors(ENOMEM, 1);
  return count;
}

static void free_shuffled(char **blocks, size_t count, struct dice *dice) {
  for (size_t i = count; i > 0; i--) {
    const size_t j = dice_roll(dice, i);
    mi_free(blocks[j]);
    blocks[j] = blocks[i - 1];
  }
}

static bool contains(char **blocks, size_t count, const char *p) {
  for (size_t i = 0; i < count; i++) {
    if (blocks[i] == p) return true;
  }
  return false;
}

/* Loop test: in each place that has an end; with a sealed tag, and with one that is not:
 * then the other tag gets all. */
START_TEST(free_addresses_in_a_full_arena) {
  static char *first[YARD_SLICES_MAX], *next[YARD_SLICES_MAX], *copy[YARD_SLICES_MAX];
  const enum place place = (enum place)(1 + _i % PLACES);
  const bool is_sealed = _i / PLACES == 0;
  /* With CK_FORK=no other tests have made arenas. */
  if (place == THE_ONLY_ONE && stats_now().arenas.current > 0) return;
  const int tag = tag_fresh(), other_tag = tag_fresh();
  struct dice dice = dice_new((uint64_t)_i);
  if (is_sealed) ck_assert_int_eq(mirt_tag_seal(tag), 0);
  const struct census before = census_now();
  struct yard yard = yard_new(place, 8 * MIB);
  mi_heap_t *heap = heap_new(tag, false, yard.arena);
  mi_heap_t *other = heap_new(other_tag, true, yard.arena);
  const size_t count = fill_yard(heap, first);
  ck_assert_uint_gt(count, 100);
  memcpy(copy, first, sizeof copy);
  ck_assert_uint_eq(tag_stats(tag).address_space, count * SLICE_BYTES);
  free_shuffled(first, count, &dice);
  mi_collect(true);
  for (size_t i = 0; i < count; i++) assert_quick(slice_resident(copy[i]) == 0);
  ck_assert_uint_eq(tag_stats(tag).pages, 0);
  ck_assert_uint_eq(tag_stats(tag).address_space, is_sealed ? count * SLICE_BYTES : 0);
  for (int round = 0; round < 2; round++) {
    const size_t others = fill_yard(other, next);
    if (is_sealed) {
      ck_assert_uint_eq(others, 0);
    } else {
      ck_assert_uint_ge(others, count - 4); /* records may have taken a slice */
      for (size_t i = 0; i < others; i++) assert_quick(contains(copy, count, next[i]));
    }
    free_shuffled(next, others, &dice);
    mi_collect(true);
    /* A large block may take what were many pages, and the other way round. */
    char *large = mi_heap_malloc_aligned(heap, 3 * MIB, MIB);
    ck_assert_ptr_nonnull(large);
    memset(large, 1, 3 * MIB);
    mi_free(large);
    const size_t again = fill_yard(heap, first);
    ck_assert_uint_ge(again, is_sealed ? count : count - 4);
    for (size_t i = 0; i < again; i++) assert_quick(contains(copy, count, first[i]));
    ck_assert_uint_eq(tag_stats(tag).address_space, again * SLICE_BYTES);
    free_shuffled(first, again, &dice);
    mi_collect(true);
    for (size_t i = 0; i < count; i++) assert_quick(slice_resident(copy[i]) == 0);
  }
  mi_heap_destroy(other);
  mi_heap_destroy(heap);
  yard_end(&yard);
  assert_census(before);
  if (place != THE_ONLY_ONE) { /* they went with the arena */
    ck_assert_uint_eq(tag_stats(tag).address_space, 0);
  }
  assert_no_errors();
}
END_TEST

/* An arena that cannot be given up yet goes on as before; a cage goes with its blocks. */
START_TEST(arenas_of_sealed_tags_end) {
  static char *blocks[YARD_SLICES_MAX], *others[YARD_SLICES_MAX];
  static const enum place places[] = {EXCLUSIVE, MANAGED, CAGE};
  for (size_t i = 0; i < COUNT_OF(places); i++) {
    const int tag = tag_fresh(), other_tag = tag_fresh();
    ck_assert_int_eq(mirt_tag_seal(tag), 0);
    const struct census before = census_now();
    struct yard yard = yard_new(places[i], 8 * MIB);
    mi_heap_t *heap = heap_new(tag, false, yard.arena);
    for (size_t j = 0; j < 20; j++) blocks[j] = mi_heap_malloc(heap, SLICE_BYTES);
    char *large = mi_heap_malloc(heap, 4 * SLICE_BYTES);
    ck_assert_ptr_nonnull(large);
    memset(large, 1, 4 * SLICE_BYTES);
    for (size_t j = 0; j < 20; j++) mi_free(blocks[j]);
    mi_heap_delete(heap);
    const size_t had = tag_stats(tag).address_space;
    ck_assert_uint_eq(had, 24 * SLICE_BYTES);
    if (places[i] != CAGE) {
      ck_assert_int_eq(mirt_arena_destroy(yard.arena), EBUSY);
      assert_errors(EBUSY, 1);
      ck_assert(bytes_are(large, 4 * SLICE_BYTES, 1));
      mi_heap_t *other = heap_new(other_tag, true, yard.arena);
      const size_t count = fill_yard(other, others);
      for (size_t j = 0; j < 20; j++) assert_quick(!contains(others, count, blocks[j]));
      heap = heap_new(tag, true, yard.arena);
      for (size_t j = 0; j < 20; j++) {
        assert_quick(contains(blocks, 20, mi_heap_malloc(heap, SLICE_BYTES)));
      }
      ck_assert_uint_eq(tag_stats(tag).address_space, had);
      mi_heap_destroy(heap);
      mi_heap_destroy(other);
      mi_free(large);
      mi_collect(true);
    }
    yard_end(&yard);
    const mirt_stats_t stats = tag_stats(tag);
    ck_assert_uint_eq(stats.pages + stats.abandoned + stats.live_blocks, 0);
    ck_assert_uint_eq(stats.address_space, 0);
    ck_assert_int_eq(mirt_tag_of(large), -1);
    ck_assert(mirt_tag_is_sealed(tag));
    assert_census(before);
  }
  assert_no_errors();
}
END_TEST

/* A block as large as an arena: of a sealed tag it has none of its own, and its addresses
 * stay too. */
START_TEST(huge_sealed_blocks) {
  const size_t size = mi_option_get_size(mi_option_arena_reserve) + 5 * SLICE_BYTES;
  const int tag = tag_fresh(), other = tag_fresh();
  ck_assert_int_eq(mirt_tag_seal(tag), 0);
  mi_heap_t *heap = heap_new(tag, false, 0), *others = heap_new(other, false, 0);
  char *first = NULL;
  for (int round = 0; round < 4; round++) {
    char *p = mi_heap_malloc(heap, size), *q = mi_heap_malloc(others, size);
    ck_assert(p != NULL && q != NULL);
    ck_assert_int_eq(mirt_tag_of(p + size - 1), tag);
    ck_assert_int_eq(mirt_tag_of(q + size - 1), other);
    ck_assert(first == NULL || first == p);
    first = p;
    p[0] = p[size - 1] = 1;
    const mirt_stats_t stats = tag_stats(tag);
    ck_assert_uint_eq(stats.live_bytes, size);
    ck_assert_uint_eq(stats.committed, size);
    ck_assert_uint_eq(stats.address_space, size);
    mi_free(p);
    mi_free(q);
    q = mi_heap_malloc(others, size);
    ck_assert(q != NULL && (q >= first + size || q + size <= first));
    mi_free(q);
    mi_collect(true);
    ck_assert_uint_eq(slice_resident(first), 0);
    ck_assert_uint_eq(slice_resident(first + size - SLICE_BYTES), 0);
    ck_assert_uint_eq(tag_stats(tag).address_space, size);
    ck_assert_uint_eq(tag_stats(tag).committed, 0);
    ck_assert_uint_eq(tag_stats(other).address_space, 0);
  }
  mi_heap_delete(heap);
  mi_heap_delete(others);
  assert_no_errors();
}
END_TEST

/* ---- sealed tags: the child of a fork ---- */

/* Threads that hold heaps and blocks while the process forks. */
static struct { pthread_barrier_t barrier; } held_back;

static void *hold_and_wait(void *argument) {
  struct dice dice = dice_new(*(uint64_t *)argument);
  mi_heap_t *heaps[CHURN_TAGS];
  for (size_t i = 0; i < CHURN_TAGS; i++) {
    heaps[i] = heap_new(churn.tags[i], false, churn.yard.arena);
    const struct party party = {(int)i, ledger_heap(), false};
    for (size_t j = 0; j < 200; j++) {
      void *p = mi_heap_malloc(heaps[i], size_roll(&dice, false));
      struct block block = block_enter(&party, churn.tags[i], p);
      if (dice_roll(&dice, 3) == 0) {
        block_free(&block);
      } else {
        block = exchange_swap(dice_roll(&dice, EXCHANGE_SLOTS), block);
        block_free(&block);
      }
    }
  }
  pthread_barrier_wait(&held_back.barrier);
  pthread_barrier_wait(&held_back.barrier);
  return NULL;
}

/* What it knows of addresses goes on to hold. */
static void churn_in_child(void *argument) {
  (void)argument;
  churn_run(500);
  exchange_empty();
  mi_collect(true);
  for (size_t i = 0; i < CHURN_TAGS; i++) {
    const mirt_stats_t stats = tag_stats(churn.tags[i]);
    require(stats.live_blocks + stats.pages + stats.abandoned == 0);
    require(stats.address_space ==
            ledger_count(was_sealed_by, (int)i, NULL) * SLICE_BYTES);
    require(sealed_resident((int)i) == 0);
  }
  require(atomic_load_acquire(&ledger.reused) > 0);
  require(errors_total() == 0);
}

START_TEST(sealed_addresses_stay_in_a_child) {
  if (TEST_THREAD_SANITIZER) return; /* ends the child of a process with threads */
  churn_begin(yard_new(_i == 0 ? ANYWHERE : EXCLUSIVE, 256 * MIB), CHURN_SEALED, false);
  churn.generations = 1;
  churn_run(600);
  pthread_t threads[2];
  uint64_t numbers[2] = {700, 701};
  pthread_barrier_init(&held_back.barrier, NULL, 3);
  for (size_t i = 0; i < 2; i++) threads[i] = thread_start(hold_and_wait, &numbers[i]);
  pthread_barrier_wait(&held_back.barrier);
  ck_assert_int_eq(child_run(churn_in_child, NULL), 0);
  pthread_barrier_wait(&held_back.barrier);
  for (size_t i = 0; i < 2; i++) thread_wait(threads[i]);
  pthread_barrier_destroy(&held_back.barrier);
  churn_in_child(NULL); /* the parent has noticed nothing */
  yard_end(&churn.yard);
  assert_no_errors();
}
END_TEST

/* The tag of mi_malloc can be sealed too, before anything is allocated. */
static void seal_zero(void *argument) {
  const enum place place = *(const enum place *)argument;
  require(mirt_tag_seal(0) == 0);
  churn_begin(yard_new(place, 256 * MIB), 2, false);
  churn.tags[0] = 0;
  churn.generations = 1;
  churn_run(800);
  exchange_empty();
  mi_collect(true);
  for (size_t i = 0; i < CHURN_TAGS; i++) {
    const mirt_stats_t stats = tag_stats(churn.tags[i]);
    require(stats.live_blocks + stats.pages + stats.abandoned == 0);
    require(stats.address_space ==
            ledger_count(was_sealed_by, (int)i, NULL) * SLICE_BYTES);
    require(sealed_resident((int)i) == 0);
  }
  require(atomic_load_acquire(&ledger.reused) > 0);
  yard_end(&churn.yard);
  for (size_t i = 0; i < CHURN_TAGS; i++) {
    require(place == ANYWHERE || tag_stats(churn.tags[i]).address_space == 0);
  }
  require(errors_total() == 0);
}

/* Loop test: in each place. With CK_FORK=no other tests have used the tag. */
START_TEST(sealed_default_tag) {
  enum place place = (enum place)_i;
  if (TEST_HAS_SHADOW || tag_stats(0).peak > 0) return;
  ck_assert_int_eq(child_run(seal_zero, &place), 0);
}
END_TEST

/* ---- numbers ---- */

START_TEST(questions_that_are_refused) {
  static const int bad[] = {-1, INT_MIN, MIRT_TAG_MAX + 1, 65536, INT_MAX};
  mirt_stats_t stats;
  memset(&stats, 77, sizeof stats);
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    errno = 0;
    ck_assert(!mirt_stats_tag(bad[i], &stats));
    ck_assert_int_eq(errno, EINVAL);
    assert_errors(EINVAL, 1);
  }
  ck_assert(!mirt_stats_tag(1, NULL));
  assert_errors(EINVAL, 1);
  ck_assert(!mirt_stats_heap(mi_heap_get_default(), NULL));
  assert_errors(EINVAL, 1);
  ck_assert(!mirt_stats_heap(NULL, &stats));
  assert_errors(EINVAL, 1);
  ck_assert(!mirt_stats_heap(NULL, NULL));
  assert_errors(EINVAL, 1);
  ck_assert(bytes_are(&stats, sizeof stats, 77));
  /* A tag or heap that has never had anything has nothing. */
  const int tag = tag_fresh();
  mi_heap_t *heap = heap_new(tag, true, 0);
  const mirt_stats_t none = {.pages = 0}, of_tag = tag_stats(tag),
                     of_heap = heap_stats(heap);
  ck_assert_mem_eq(&of_tag, &none, sizeof none);
  ck_assert_mem_eq(&of_heap, &none, sizeof none);
  mi_heap_destroy(heap);
  assert_no_errors();
}
END_TEST

/* Three heaps, of which two share a tag. Each is a domain: they never share a page, as
 * nobody abandons any. */
enum { MODEL_HEAPS = 3, MODEL_SLOTS = 700 };

struct model {
  int tags[MODEL_HEAPS];
  mi_heap_t *heaps[MODEL_HEAPS];
  struct party parties[MODEL_HEAPS];
  struct block blocks[MODEL_SLOTS];
  size_t peaks[MODEL_HEAPS]; /* most that was committed, as seen after each step */
  size_t peak_of_both;
};

static void model_observe(struct model *model) {
  size_t both = 0;
  for (size_t i = 0; i < MODEL_HEAPS; i++) {
    const mirt_stats_t stats = heap_stats(model->heaps[i]);
    const struct totals *totals = &ledger.domains[i];
    assert_quick(stats.live_blocks == atomic_load_acquire(&totals->blocks));
    assert_quick(stats.live_bytes == atomic_load_acquire(&totals->bytes));
    if (model->peaks[i] < stats.committed) model->peaks[i] = stats.committed;
    assert_quick(stats.peak == model->peaks[i]);
    assert_quick(stats.address_space == stats.committed);
    assert_quick(stats.abandoned == 0 && stats.adopted == 0);
    if (i < 2) both += stats.committed;
  }
  if (model->peak_of_both < both) model->peak_of_both = both;
}

static void model_compare(struct model *model) {
  static const int both[] = {0, 1}, third[] = {2};
  for (int i = 0; i < MODEL_HEAPS; i++) {
    const mirt_stats_t stats = heap_stats(model->heaps[i]);
    const mirt_stats_t should_be = ledger_stats(&i, 1);
    /* Empty pages may be kept for the next allocation, until they are asked for. */
    ck_assert_uint_ge(stats.pages, should_be.pages);
    ck_assert_uint_ge(stats.committed, should_be.committed);
    mi_heap_collect(model->heaps[i], true);
    assert_same_holding(heap_stats(model->heaps[i]), should_be);
  }
  assert_same_holding(tag_stats(model->tags[0]), ledger_stats(both, 2));
  assert_same_holding(tag_stats(model->tags[2]), ledger_stats(third, 1));
  ck_assert_uint_eq(tag_stats(model->tags[0]).peak, model->peak_of_both);
  ck_assert_uint_eq(tag_stats(model->tags[2]).peak, model->peaks[2]);
}

static void *free_in_other_thread(void *argument) {
  block_free(argument);
  return NULL;
}

START_TEST(numbers_follow_a_model) {
  static struct model model;
  struct dice dice = dice_new(90);
  const struct census before = census_now();
  ledger_begin();
  memset(&model, 0, sizeof model);
  for (size_t i = 0; i < MODEL_HEAPS; i++) {
    model.tags[i] = i == 1 ? model.tags[0] : tag_fresh();
    model.heaps[i] = heap_new(model.tags[i], true, 0);
    model.parties[i] = (struct party){(int)i, ledger_heap(), true};
  }
  const size_t steps = TEST_ROUNDS(8000);
  for (size_t step = 0; step < steps; step++) {
    /* It grows and shrinks. */
    struct block *block = &model.blocks[dice_roll(&dice, MODEL_SLOTS)];
    if (dice_roll(&dice, 100) == 0) {
      thread_run(free_in_other_thread, block);
    } else {
      block_free(block);
    }
    if (dice_roll(&dice, 4) < (step / 1000 % 2 == 0 ? 3 : 1)) {
      const size_t i = dice_roll(&dice, MODEL_HEAPS);
      void *p = mi_heap_malloc(model.heaps[i], size_roll(&dice, false));
      *block = block_enter(&model.parties[i], model.tags[i], p);
    }
    model_observe(&model);
    if (step % 500 == 499) model_compare(&model);
  }
  /* A heap's last numbers end with it, the tag's peak stays. */
  for (size_t i = 0; i < MODEL_HEAPS; i++) mi_heap_destroy(model.heaps[i]);
  ck_assert_uint_eq(tag_stats(model.tags[0]).peak, model.peak_of_both);
  ck_assert_uint_eq(tag_stats(model.tags[0]).pages, 0);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* Threads that each know what they hold, and stand still together. */
enum { QUIET_THREADS = 4, QUIET_ROUNDS = 6, QUIET_BLOCKS = 500 };

static struct {
  int tags[2];
  pthread_barrier_t barrier;
} quiet;

struct quiet_thread {
  uint64_t number;
};

/* Each thread is a domain for each of two tags. */
static void *hold_still(void *argument) {
  const struct quiet_thread *self = argument;
  struct dice dice = dice_new(self->number);
  mi_heap_t *heaps[2];
  struct party parties[2];
  struct block blocks[QUIET_BLOCKS] = {{NULL, 0, 0, 0}};
  for (size_t i = 0; i < 2; i++) {
    heaps[i] = heap_new(quiet.tags[i], false, 0);
    parties[i] = (struct party){(int)(2 * self->number + i), ledger_heap(), true};
  }
  for (int round = 0; round < QUIET_ROUNDS; round++) {
    for (size_t j = 0; j < 4 * QUIET_BLOCKS; j++) {
      struct block *block = &blocks[dice_roll(&dice, QUIET_BLOCKS)];
      const size_t i = dice_roll(&dice, 2);
      block_free(block);
      if (dice_roll(&dice, 3) == 0) continue;
      void *p = mi_heap_malloc(heaps[i], size_roll(&dice, false));
      *block = block_enter(&parties[i], quiet.tags[i], p);
    }
    for (size_t i = 0; i < 2; i++) {
      const mirt_stats_t model = ledger_stats(&parties[i].domain, 1);
      mi_heap_collect(heaps[i], true);
      const mirt_stats_t stats = heap_stats(heaps[i]);
      require(stats.live_blocks == model.live_blocks);
      require(stats.live_bytes == model.live_bytes);
      require(stats.pages == model.pages && stats.committed == model.committed);
    }
    pthread_barrier_wait(&quiet.barrier);
    pthread_barrier_wait(&quiet.barrier); /* meanwhile the numbers are looked at */
  }
  for (size_t j = 0; j < QUIET_BLOCKS; j++) {
    if (blocks[j].p == NULL) continue;
    struct block old = exchange_swap(dice_roll(&dice, EXCHANGE_SLOTS), blocks[j]);
    block_free(&old);
  }
  return NULL;
}

START_TEST(numbers_of_tags_over_threads) {
  struct quiet_thread threads[QUIET_THREADS];
  pthread_t handles[QUIET_THREADS];
  int domains[2][QUIET_THREADS];
  const struct census before = census_now();
  ledger_begin();
  exchange_begin();
  for (size_t i = 0; i < 2; i++) quiet.tags[i] = tag_fresh();
  pthread_barrier_init(&quiet.barrier, NULL, QUIET_THREADS + 1);
  for (int i = 0; i < QUIET_THREADS; i++) {
    threads[i].number = (uint64_t)i;
    domains[0][i] = 2 * i;
    domains[1][i] = 2 * i + 1;
    handles[i] = thread_start(hold_still, &threads[i]);
  }
  for (int round = 0; round < QUIET_ROUNDS; round++) {
    pthread_barrier_wait(&quiet.barrier);
    for (size_t i = 0; i < 2; i++) {
      const mirt_stats_t stats = tag_stats(quiet.tags[i]);
      assert_same_holding(stats, ledger_stats(domains[i], QUIET_THREADS));
      ck_assert_uint_eq(stats.abandoned, 0);
      ck_assert_uint_eq(stats.adopted, 0);
    }
    pthread_barrier_wait(&quiet.barrier);
  }
  for (size_t i = 0; i < QUIET_THREADS; i++) thread_wait(handles[i]);
  for (size_t i = 0; i < 2; i++) {
    const mirt_stats_t stats = tag_stats(quiet.tags[i]);
    assert_same_holding(stats, ledger_stats(domains[i], QUIET_THREADS));
    ck_assert_uint_eq(stats.abandoned, stats.pages);
  }
  exchange_empty();
  pthread_barrier_destroy(&quiet.barrier);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* ---- numbers as text ---- */

/* The numbers of a tag in the text; false when it is not there. */
static bool json_find(const char *text, int tag, mirt_stats_t *stats, size_t *sealed) {
  char start[50];
  snprintf(start, sizeof start, "{\"tag\": %d,", tag);
  const char *found = strstr(text, start);
  if (found == NULL) return false;
  ck_assert_ptr_null(strstr(found + 1, start));
  const int fields = sscanf(found + strlen(start),
                            " \"pages\": %zu, \"committed\": %zu, \"peak\": %zu, "
                            "\"abandoned\": %zu, \"adopted\": %zu, \"sealed\": %zu}",
                            &stats->pages, &stats->committed, &stats->peak,
                            &stats->abandoned, &stats->adopted, sealed);
  ck_assert_int_eq(fields, 6);
  return true;
}

static void assert_in_json(const char *text, int tag) {
  mirt_stats_t stats = {.pages = 0};
  const mirt_stats_t should_be = tag_stats(tag);
  size_t sealed;
  ck_assert(json_find(text, tag, &stats, &sealed));
  ck_assert_uint_eq(stats.pages, should_be.pages);
  ck_assert_uint_eq(stats.committed, should_be.committed);
  ck_assert_uint_eq(stats.peak, should_be.peak);
  ck_assert_uint_eq(stats.abandoned, should_be.abandoned);
  ck_assert_uint_eq(stats.adopted, should_be.adopted);
  ck_assert_uint_eq(sealed, mirt_tag_is_sealed(tag) ? should_be.address_space : 0);
}

START_TEST(json_lists_tags) {
  static char text[8 * 1024 * 1024]; /* for a line per tag */
  static struct legacy legacy;
  const int plain = tag_fresh(), sealed = tag_fresh(), unused = tag_fresh();
  ck_assert_int_eq(mirt_tag_seal(sealed), 0);
  ck_assert_int_eq(mirt_tag_seal(unused), 0);
  legacy = (struct legacy){.tag = plain};
  thread_run(leave_legacy, &legacy);
  mi_heap_t *heaps[] = {heap_new(plain, false, 0), heap_new(sealed, true, 0),
                        heap_new(MIRT_TAG_MAX, true, 0)};
  for (size_t i = 0; i < COUNT_OF(heaps); i++) {
    for (size_t j = 0; j < 1000; j++) {
      void *p = mi_heap_malloc(heaps[i], LEGACY_SIZE << j / 500);
      if (i == 1 || j % 2 == 0) mi_free(p);
    }
    mi_free(mi_heap_malloc(heaps[i], MIB));
  }
  ck_assert_ptr_eq(mi_stats_get_json(sizeof text, text), text);
  assert_in_json(text, plain);
  assert_in_json(text, sealed);
  assert_in_json(text, MIRT_TAG_MAX);
  mirt_stats_t stats;
  size_t size;
  ck_assert(!json_find(text, unused, &stats, &size));
  ck_assert(json_find(text, plain, &stats, &size));
  ck_assert_uint_gt(stats.adopted, 0);
  ck_assert_uint_gt(stats.abandoned, 0);
  ck_assert(json_find(text, sealed, &stats, &size) && size >= MIB);
  /* Without room nothing is written over; without a buffer there is a new one. */
  ck_assert_ptr_null(mi_stats_get_json(strlen(text) / 2, text));
  assert_errors(ERANGE, 1);
  char *copy = mi_stats_get_json(0, NULL);
  ck_assert_ptr_nonnull(copy);
  assert_in_json(copy, plain);
  mi_free(copy);
  mi_heap_delete(heaps[0]);
  mi_heap_destroy(heaps[1]);
  mi_heap_destroy(heaps[2]);
  ck_assert_ptr_eq(mi_stats_get_json(sizeof text, text), text);
  assert_in_json(text, plain);
  assert_in_json(text, sealed); /* with nothing in it, but peak and addresses */
  for (size_t i = 0; i < LEGACY_LIVE; i++) mi_free(legacy.blocks[i]);
  assert_no_errors();
}
END_TEST

/* ---- main ---- */

/* ---- shifted blocks ---- */

START_TEST(shifts_that_are_refused) {
  const int tag = tag_fresh();
  const size_t wrong[] = {1, 8, 24, 64, 80, SIZE_MAX};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    ck_assert_int_eq(mirt_tag_shift_blocks(tag, wrong[i]), EINVAL);
  }
  ck_assert_int_eq(mirt_tag_shift_blocks(-1, 16), EINVAL);
  ck_assert_int_eq(mirt_tag_shift_blocks(MIRT_TAG_MAX + 1, 16), EINVAL);
  assert_errors(EINVAL, sizeof wrong / sizeof wrong[0] + 2);
  for (size_t offset = 0; offset <= 48; offset += 16) {
    ck_assert_int_eq(mirt_tag_shift_blocks(tag, offset), 0);
  }
  mi_heap_t *heap = heap_new(tag, true, 0);
  ck_assert_uint_eq((uintptr_t)mi_heap_malloc(heap, 64) % 64, 48);
  ck_assert_int_eq(mirt_tag_shift_blocks(tag, 48), 0);
  assert_no_errors();
  ck_assert_int_eq(mirt_tag_shift_blocks(tag, 16), EBUSY);
  assert_errors(EBUSY, 1);
  mi_heap_destroy(heap);
}
END_TEST

/* How far behind a multiple of 64 the block of this size has to begin. */
static bool is_shifted_right(const void *p, size_t offset) {
  const size_t size = mi_usable_size(p);
  const bool is_shifted = size >= 64 && size <= 1024;
  return size % 64 != 0 || (uintptr_t)p % 64 == (is_shifted ? offset : 0);
}

/* All that can be done with a block can be done with one that is shifted. */
START_TEST(shifted_blocks) {
  const size_t offset = 16 * (size_t)_i;
  const int tag = tag_fresh();
  ck_assert_int_eq(mirt_tag_shift_blocks(tag, offset), 0);
  mi_heap_t *heap = heap_new(tag, true, 0);
  static void *all[4 * 2000];
  size_t count = 0;
  for (size_t size = 1; size <= 2000; size++) {
    for (size_t i = 0; i < 4; i++) {
      char *p = i % 2 == 0 ? mi_heap_malloc(heap, size) : mi_heap_zalloc(heap, size);
      assert_quick(p != NULL && is_shifted_right(p, offset));
      assert_quick((uintptr_t)p % 16 == 0 && mi_usable_size(p) >= size);
      assert_quick(i % 2 == 0 || bytes_are(p, size, 0));
      assert_quick(mirt_tag_of(p + size - 1) == tag && mi_heap_of(p) == heap);
      memset(p, 0xAB, mi_usable_size(p));
      all[count++] = p;
    }
  }
  const mirt_stats_t full = heap_stats(heap);
  ck_assert_uint_eq(full.live_blocks, count);
  /* Before the first block of a page there is none. */
  for (size_t i = 0; offset != 0 && i < count; i += 40) {
    if (mi_usable_size(all[i]) < 64 || mi_usable_size(all[i]) > 1024) continue;
    char *page = (char *)((uintptr_t)all[i] & ~(uintptr_t)65535);
    for (size_t k = 0; k < offset; k++) assert_quick(mirt_tag_of(page + k) == -1);
  }
  for (size_t i = 0; i < count; i += 3) {
    all[i] = mi_heap_realloc(heap, all[i], 3 * i / 4 + 1);
    assert_quick(all[i] != NULL && is_shifted_right(all[i], offset));
  }
  assert_no_errors();
  for (size_t i = 0; i < count; i++) mi_free(all[i]);
  mi_free(all[0]); /* a double free, or what is no block any more */
  ck_assert_uint_eq(errors_total(), 1);
  errors_clear();
  mi_heap_destroy(heap);
  assert_no_errors();
}
END_TEST

/* What is asked to be aligned is. */
START_TEST(shifted_and_aligned) {
  const int tag = tag_fresh();
  ck_assert_int_eq(mirt_tag_shift_blocks(tag, 48), 0);
  mi_heap_t *heap = heap_new(tag, true, 0);
  for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
    for (size_t size = 1; size < 5000; size += 1 + size / 3) {
      char *p = mi_heap_malloc_aligned(heap, size, alignment);
      char *q = mi_heap_zalloc_aligned_at(heap, size, alignment, 8);
      char *r = mi_heap_realloc_aligned(heap, NULL, size, alignment);
      assert_quick(p != NULL && (uintptr_t)p % alignment == 0);
      assert_quick(q != NULL && ((uintptr_t)q + 8) % alignment == 0 && bytes_are(q, size, 0));
      r = mi_heap_realloc_aligned(heap, r, 2 * size, alignment);
      assert_quick(r != NULL && (uintptr_t)r % alignment == 0);
      memset(p, 1, size);
      memset(q, 2, size);
      memset(r, 3, 2 * size);
      mi_free(p);
      mi_free(q);
      mi_free(r);
    }
  }
  ck_assert_uint_eq(heap_stats(heap).live_blocks, 0);
  mi_heap_destroy(heap);
  assert_no_errors();
}
END_TEST

static void *leave_shifted(void *argument) {
  mi_heap_t *heap = heap_new(*(int *)argument, false, 0);
  for (size_t i = 0; i < 2000; i++) {
    void *p = mi_heap_malloc(heap, 128);
    if (i % 2 == 0) mi_free(p);
  }
  return NULL;
}

/* A page is adopted by a heap whose blocks begin where its do, not by one that was made
 * before the tag was shifted, nor for a type's objects. */
START_TEST(shifted_pages_are_adopted_by_their_like) {
  int tag = tag_fresh();
  mi_heap_t *before = heap_new(tag, false, 0);
  ck_assert_int_eq(mirt_tag_shift_blocks(tag, 32), 0);
  thread_run(leave_shifted, &tag);
  mi_heap_t *heap = heap_new(tag, false, 0);
  for (size_t i = 0; i < 500; i++) {
    assert_quick((uintptr_t)mi_heap_malloc(before, 128) % 128 == 0);
    assert_quick((uintptr_t)mi_heap_malloc(heap, 128) % 128 == 32);
  }
  ck_assert_uint_gt(heap_stats(heap).adopted, 0);
  ck_assert_uint_eq(heap_stats(before).adopted, 0);
  mi_heap_delete(before);
  mi_heap_delete(heap);
  assert_no_errors();
}
END_TEST

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
  c = case_begin(suite, "the end of heaps");
  tcase_add_loop_test(c, destroy_drops_everything, 0, 2);
  tcase_add_loop_test(c, blocks_outlive_their_heap, 0, 12);
  tcase_add_test(c, heaps_that_cannot_be_ended);
  c = case_begin(suite, "sealed tags");
  tcase_add_test(c, sealing);
  tcase_add_test(c, sealing_races_with_the_first_block);
  tcase_add_loop_test(c, sealed_addresses_stay, 0, 2 * PLACES);
  tcase_add_loop_test(c, free_addresses_in_a_full_arena, 0, 2 * PLACES);
  tcase_add_test(c, arenas_of_sealed_tags_end);
  tcase_add_test(c, huge_sealed_blocks);
  tcase_add_loop_test(c, sealed_addresses_stay_in_a_child, 0, 2);
  tcase_add_loop_test(c, sealed_default_tag, 0, PLACES);
  c = case_begin(suite, "shifted blocks");
  tcase_add_test(c, shifts_that_are_refused);
  tcase_add_loop_test(c, shifted_blocks, 0, 4);
  tcase_add_test(c, shifted_and_aligned);
  tcase_add_test(c, shifted_pages_are_adopted_by_their_like);
  c = case_begin(suite, "numbers");
  tcase_add_test(c, questions_that_are_refused);
  tcase_add_test(c, numbers_follow_a_model);
  tcase_add_test(c, numbers_of_tags_over_threads);
  tcase_add_test(c, json_lists_tags);
  return suite_run(suite);
}
