/* test_cage.c - cages in every mode: what references reach, what they never reach, who
 * may take the place, and what is left when a cage goes. */
#include "test.h"

#include <sched.h>
#include <sys/mman.h>

#include <mirt/cage.h>
#include <mirt/ref.h>

#include "arena/arena.h"
#include "base/bits.h"
#include "os/os.h"

#define BLOCKS_MAX 70000

static void *blocks[BLOCKS_MAX];

/* ---- helpers ---- */

static size_t reach_of(unsigned shift) { return (4 * GiB) << shift; }

static mirt_cage_t *cage_new(mirt_cage_options_t options) {
  mirt_cage_t *cage = NULL;
  ck_assert_int_eq(mirt_cage_create(&options, &cage), 0);
  ck_assert_ptr_nonnull(cage);
  ck_assert_uint_eq(cage->shift, options.shift);
  assert_no_errors();
  return cage;
}

static mi_heap_t *heap_in(const mirt_cage_t *cage) {
  mi_heap_t *heap = mi_heap_new_ex(0, true, cage->arena);
  ck_assert_ptr_nonnull(heap);
  return heap;
}

/* The start of a range that is free now and has the alignment. */
static char *free_range(size_t size, size_t alignment) {
  void *p = os_reserve(size, alignment, false);
  ck_assert_ptr_nonnull(p);
  os_release(p, size);
  return p;
}

/* Can the range be mapped, all of it? It is unmapped again. */
static bool is_free_range(void *start, size_t size) {
  if (os_reserve_at(start, size, false) != 0) return false;
  os_release(start, size);
  return true;
}

static bool in_reservation(const mirt_cage_t *cage, const void *p) {
  return (uintptr_t)p - (uintptr_t)cage->reservation < cage->reserved;
}

/* May a reference decode to this address? Zero-based, the lowest addresses are beyond
 * what a process can reserve, and as good: nothing is ever mapped there. */
static bool in_reach(const mirt_cage_t *cage, const void *p) {
  if (cage->mode == MIRT_CAGE_ZERO_BASED) return (uintptr_t)p < reach_of(cage->shift);
  return in_reservation(cage, p);
}

/* The fields fit together, as the headers say they do. */
static void assert_sound(const mirt_cage_t *cage) {
  const size_t reach = reach_of(cage->shift);
  const uintptr_t start = (uintptr_t)cage->reservation;
  ck_assert_uint_le(start + cage->reserved, (uintptr_t)1 << 48);
  ck_assert_uint_eq(cage->sign, cage->mode == MIRT_CAGE_SIGNED ? 0x80000000u : 0);
  switch (cage->mode) {
    case MIRT_CAGE_ZERO_BASED:
      ck_assert_uint_eq(cage->base, 0);
      ck_assert_uint_le(start, SLICE_SIZE);
      ck_assert_uint_eq(start + cage->reserved, reach);
      break;
    case MIRT_CAGE_ALIGNED:
      ck_assert_uint_eq(cage->base % reach, 0);
      ck_assert_uint_ne(cage->base, 0);
      ck_assert_uint_eq(start, cage->base);
      ck_assert_uint_eq(cage->reserved, reach);
      break;
    case MIRT_CAGE_ANY_BASE:
      ck_assert_uint_eq(cage->base % SLICE_SIZE, 0);
      ck_assert_uint_eq(start, cage->base);
      ck_assert_uint_eq(cage->reserved, reach);
      break;
    case MIRT_CAGE_SIGNED:
      ck_assert_uint_eq(start + reach / 2, cage->base);
      ck_assert_uint_eq(cage->reserved, reach);
      break;
  }
  size_t size = 0;
  char *area = mi_arena_area(cage->arena, &size);
  ck_assert_ptr_nonnull(area);
  ck_assert(in_reservation(cage, area) && in_reservation(cage, area + size - 1));
}

/* All ways to encode and decode agree about a block. */
static void assert_round_trip(const mirt_cage_t *cage, void *p) {
  const mirt_ref_t ref = mirt_encode(cage, p);
  mirt_ref_t checked = 77;
  assert_quick(ref != 0);
  assert_quick(mirt_ref_encodable(cage, p));
  assert_quick(mirt_decode(cage, ref) == p);
  assert_quick(mirt_encode_nullable(cage, p) == ref);
  assert_quick(mirt_decode_nullable(cage, ref) == p);
  assert_quick(mirt_encode_at(cage->base, cage->shift, cage->mode, p) == ref);
  assert_quick(mirt_decode_at(cage->base, cage->shift, cage->mode, ref) == p);
  assert_quick(mirt_ref_checked(cage, p, &checked) && checked == ref);
}

/* Any 32 bits decode into the cage's reach, and encode to themselves again. */
static void assert_total(const mirt_cage_t *cage) {
  static const mirt_ref_t corners[] = {
      0, 1, 2, 0x7ffffffe, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff};
  struct dice dice = dice_new(cage->mode);
  for (size_t i = 0; i < 100000; i++) {
    mirt_ref_t ref = (mirt_ref_t)dice_word(&dice);
    if (i < sizeof corners / sizeof corners[0]) ref = corners[i];
    char *p = mirt_decode(cage, ref);
    assert_quick(in_reach(cage, p));
    assert_quick(in_reach(cage, p + ((size_t)1 << cage->shift) - 1));
    assert_quick(mirt_decode_at(cage->base, cage->shift, cage->mode, ref) == p);
    assert_quick(mirt_encode_at(cage->base, cage->shift, cage->mode, p) == ref);
    if (ref != 0) assert_quick(mirt_decode_nullable(cage, ref) == p);
  }
}

static void assert_null(const mirt_cage_t *cage) {
  ck_assert_ptr_eq(mirt_decode(cage, 0), (void *)cage->base);
  ck_assert_ptr_null(mirt_decode_nullable(cage, 0));
  ck_assert_uint_eq(mirt_encode_nullable(cage, NULL), 0);
  ck_assert(!mirt_ref_encodable(cage, NULL));
  /* The whole slice is out of reach, so that fields of a null object fault as well. */
  char *null = mirt_decode(cage, 0);
  assert_unreadable(null);
  assert_unwritable(null);
  assert_unreadable(null + 8);
  assert_unwritable(null + SLICE_SIZE / 2);
  assert_unreadable(null + SLICE_SIZE - 1);
}

static void assert_checks(const mirt_cage_t *cage, char *block) {
  int on_stack = 0;
  mirt_ref_t ref = 77;
  ck_assert(mirt_ref_checked(cage, NULL, &ref));
  ck_assert_uint_eq(ref, 0);
  char *const wrong[] = {
      (char *)&on_stack,
      (char *)&blocks,
      (char *)(uintptr_t)&mirt_cage_create,
      (char *)cage->reservation - 1,
      (char *)cage->reservation - 16,
      (char *)cage->reservation + cage->reserved,
      (char *)UINTPTR_MAX,
      (char *)((uintptr_t)1 << 63),
  };
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    ref = 77;
    ck_assert(!mirt_ref_checked(cage, wrong[i], &ref));
    ck_assert_uint_eq(ref, 0);
  }
  ref = 77;
  ck_assert(mirt_ref_checked(cage, (void *)cage->base, &ref) == (cage->base == 0));
  ck_assert_uint_eq(ref, 0); /* null is no object */
  for (size_t off = 1; off < (size_t)1 << cage->shift; off++) {
    ck_assert(!mirt_ref_checked(cage, block + off, &ref));
    ck_assert_uint_eq(ref, 0);
  }
}

/* Use a cage for all that it is for; then destroy it, and see that its place is free. */
static void exercise(mirt_cage_t *cage) {
  assert_sound(cage);
  assert_total(cage);
  assert_null(cage);
  mi_heap_t *heap = heap_in(cage);
  struct dice dice = dice_new(9);
  size_t count = 0;
  for (; count < 2000; count++) {
    const size_t size = 1 + dice_roll(&dice, (size_t)16 << dice_roll(&dice, 13));
    char *p = count % 10 == 0 ? mi_heap_malloc_aligned(heap, size, 256)
                              : mi_heap_malloc(heap, size);
    assert_quick(p != NULL);
    assert_quick(in_reservation(cage, p) && in_reservation(cage, p + size - 1));
    assert_quick((uintptr_t)p - cage->base >= SLICE_SIZE); /* not the null slice */
    assert_round_trip(cage, p);
    p[0] = p[size - 1] = 1;
    blocks[count] = p;
  }
  for (size_t i = 1; i < count; i++) {
    assert_quick(mirt_encode(cage, blocks[i]) != mirt_encode(cage, blocks[i - 1]));
  }
  assert_checks(cage, blocks[0]);
  for (size_t i = 0; i < count; i++) mi_free(blocks[i]);
  mi_heap_destroy(heap);
  assert_no_errors();
  void *const start = cage->reservation;
  const size_t size = cage->reserved;
  const mi_arena_id_t id = cage->arena;
  ck_assert(!is_free_range(start, size));
  ck_assert_int_eq(mirt_cage_destroy(cage), 0);
  assert_no_errors();
  ck_assert_ptr_null(mi_arena_area(id, NULL));
  ck_assert(is_free_range(start, size));
}

/* ---- modes ---- */

START_TEST(best_base) {
  exercise(cage_new((mirt_cage_options_t){.shift = (unsigned)_i}));
}
END_TEST

START_TEST(signed_references) {
  mirt_cage_t *cage =
      cage_new((mirt_cage_options_t){.shift = (unsigned)_i, .signed_refs = true});
  ck_assert_int_eq(cage->mode, MIRT_CAGE_SIGNED);
  exercise(cage);
}
END_TEST

START_TEST(wanted_aligned_base) {
  const unsigned shift = (unsigned)_i;
  char *base = free_range(reach_of(shift), reach_of(shift));
  mirt_cage_t *cage = cage_new((mirt_cage_options_t){.base = base, .shift = shift});
  ck_assert_int_eq(cage->mode, MIRT_CAGE_ALIGNED);
  ck_assert_uint_eq(cage->base, (uintptr_t)base);
  exercise(cage);
}
END_TEST

START_TEST(wanted_unaligned_base) {
  const unsigned shift = (unsigned)_i;
  char *base = free_range(reach_of(shift) + SLICE_SIZE, reach_of(shift)) + SLICE_SIZE;
  mirt_cage_t *cage = cage_new((mirt_cage_options_t){.base = base, .shift = shift});
  ck_assert_int_eq(cage->mode, MIRT_CAGE_ANY_BASE);
  ck_assert_uint_eq(cage->base, (uintptr_t)base);
  exercise(cage);
}
END_TEST

START_TEST(wanted_signed_base) {
  const unsigned shift = (unsigned)_i;
  char *base = free_range(reach_of(shift) + SLICE_SIZE, reach_of(shift)) + SLICE_SIZE;
  mirt_cage_t *cage =
      cage_new((mirt_cage_options_t){.base = base, .shift = shift, .signed_refs = true});
  ck_assert_int_eq(cage->mode, MIRT_CAGE_SIGNED);
  ck_assert_ptr_eq(cage->reservation, base);
  exercise(cage);
}
END_TEST

START_TEST(defaults) {
  mirt_cage_t *cage = NULL;
  ck_assert_int_eq(mirt_cage_create(NULL, &cage), 0);
  ck_assert_uint_eq(cage->shift, 0);
  exercise(cage);
}
END_TEST

START_TEST(committed_and_large) {
  for (int i = 0; i < 4; i++) {
    exercise(cage_new((mirt_cage_options_t){.size = 32 * MiB,
                                            .commit = true,
                                            .allow_large = i % 2 != 0,
                                            .signed_refs = i / 2 != 0}));
  }
}
END_TEST

START_TEST(several_at_once) {
  enum { CAGES = 6 };
  mirt_cage_t *cages[CAGES];
  for (int i = 0; i < CAGES; i++) {
    cages[i] = cage_new(
        (mirt_cage_options_t){.shift = (unsigned)i / 2, .signed_refs = i % 2 != 0});
    assert_sound(cages[i]);
    for (int j = 0; j < i; j++) {
      ck_assert(!in_reservation(cages[j], cages[i]->reservation));
      ck_assert(!in_reservation(cages[i], cages[j]->reservation));
      ck_assert_int_ne(cages[i]->arena, cages[j]->arena);
    }
  }
  for (int i = 0; i < CAGES; i++) exercise(cages[i]);
}
END_TEST

START_TEST(names_of_modes) {
  ck_assert_str_eq(mirt_cage_mode_name(MIRT_CAGE_ZERO_BASED), "zero-based");
  ck_assert_str_eq(mirt_cage_mode_name(MIRT_CAGE_ALIGNED), "aligned");
  ck_assert_str_eq(mirt_cage_mode_name(MIRT_CAGE_ANY_BASE), "any base");
  ck_assert_str_eq(mirt_cage_mode_name(MIRT_CAGE_SIGNED), "signed");
  ck_assert_str_eq(mirt_cage_mode_name((mirt_cage_mode_t)99), "unknown");
}
END_TEST

/* ---- what cannot be had ---- */

START_TEST(taken_base) {
  /* One page anywhere in the range is enough, and is left alone. */
  const size_t reach = reach_of(0);
  for (int i = 0; i < 6; i++) {
    char *base = free_range(reach, SLICE_SIZE);
    const size_t where[] = {0, reach / 2, reach - os_page_size()};
    char *taken = base + where[i % 3];
    ck_assert_int_eq(os_reserve_at(taken, os_page_size(), true), 0);
    memset(taken, 0x5a, os_page_size());
    const mirt_cage_options_t options = {.base = base, .signed_refs = i / 3 != 0};
    mirt_cage_t *cage = (mirt_cage_t *)&reach;
    ck_assert_int_eq(mirt_cage_create(&options, &cage), EEXIST);
    ck_assert_ptr_null(cage);
    assert_errors(EEXIST, 1);
    ck_assert(bytes_are(taken, os_page_size(), 0x5a));
    os_release(taken, os_page_size());
    ck_assert(is_free_range(base, reach));
  }
}
END_TEST

START_TEST(bad_options) {
  char *base = free_range(reach_of(4), SLICE_SIZE);
  const mirt_cage_options_t bad[] = {
      {.shift = 5},
      {.shift = 32},
      {.shift = ~0u},
      {.size = reach_of(0) + 1},
      {.size = SIZE_MAX},
      {.size = reach_of(3) + 1, .shift = 3},
      {.size = reach_of(0) + 1, .signed_refs = true},
      {.base = base + 1},
      {.base = base + SLICE_SIZE / 2},
      {.base = base + 4096, .signed_refs = true},
      {.base = (void *)(UINTPTR_MAX - SLICE_SIZE + 1)},
      {.base = (void *)(((uintptr_t)1 << 47) - SLICE_SIZE)},
      {.base = (void *)((uintptr_t)1 << 62), .shift = 4},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    mirt_cage_t *cage = (mirt_cage_t *)&bad;
    ck_assert_msg(mirt_cage_create(&bad[i], &cage) == EINVAL, "case %zu", i);
    ck_assert_ptr_null(cage);
    assert_errors(EINVAL, 1);
  }
  ck_assert_int_eq(mirt_cage_create(NULL, NULL), EINVAL);
  assert_errors(EINVAL, 1);
}
END_TEST

/* ---- sizes ---- */

/* Allocate until NULL. Returns how many; all lie in the cage's size, none in its null
 * slice. */
static size_t exhaust(const mirt_cage_t *cage, mi_heap_t *heap, size_t size,
                      size_t block_size) {
  size_t count = 0;
  errors_clear();
  for (;; count++) {
    assert_quick(count < BLOCKS_MAX);
    errno = 0;
    char *p = mi_heap_malloc(heap, block_size);
    if (p == NULL) break;
    const uintptr_t distance = (uintptr_t)p - cage->base;
    if (cage->mode == MIRT_CAGE_SIGNED) {
      assert_quick(distance + size / 2 + SLICE_SIZE < size + 2 * SLICE_SIZE);
    } else {
      assert_quick(distance + block_size <= size);
    }
    assert_quick(distance >= SLICE_SIZE);
    assert_round_trip(cage, p);
    memset(p, 1, block_size);
    blocks[count] = p;
  }
  ck_assert_int_eq(errno, ENOMEM);
  assert_errors(ENOMEM, 1);
  return count;
}

START_TEST(sizes_are_limits) {
  static const size_t sizes[] = {MiB, 3 * MiB + 1, 16 * MiB};
  for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
    mirt_cage_t *cage = cage_new((mirt_cage_options_t){
        .size = sizes[i / 2], .shift = 3, .signed_refs = i % 2 != 0});
    const size_t size = align_up(sizes[i / 2], SLICE_SIZE);
    mi_heap_t *heap = heap_in(cage);
    const size_t count = exhaust(cage, heap, size, 1024);
    ck_assert_uint_eq(count, (size / SLICE_SIZE - 1) * 64); /* all but the null slice */
    for (size_t j = 0; j < count; j++) mi_free(blocks[j]);
    ck_assert_uint_eq(exhaust(cage, heap, size, 1024), count);
    mi_heap_destroy(heap);
    ck_assert_int_eq(mirt_cage_destroy(cage), 0);
  }
}
END_TEST

START_TEST(smallest_sizes) {
  for (int i = 0; i < 4; i++) {
    mirt_cage_t *cage = cage_new((mirt_cage_options_t){
        .size = i / 2 == 0 ? 1 : 2 * SLICE_SIZE, .signed_refs = i % 2 != 0});
    mi_heap_t *heap = heap_in(cage);
    ck_assert_uint_eq(exhaust(cage, heap, 2 * SLICE_SIZE, 1024), 64);
    assert_null(cage);
    mi_heap_destroy(heap);
    ck_assert_int_eq(mirt_cage_destroy(cage), 0);
  }
}
END_TEST

START_TEST(heaps_stay_inside) {
  mirt_cage_t *cage = cage_new((mirt_cage_options_t){.size = 8 * MiB});
  mi_heap_t *heap = heap_in(cage);
  struct dice dice = dice_new(10);
  void *held[200] = {NULL};
  size_t refused = 0;
  for (int round = 0; round < 20000; round++) {
    void **slot = &held[dice_roll(&dice, 200)];
    const size_t size = dice_roll(&dice, (size_t)16 << dice_roll(&dice, 16));
    switch (dice_roll(&dice, 5)) {
      case 0:
        mi_free(*slot);
        *slot = NULL;
        continue;
      case 1: {
        void *p = mi_heap_realloc(heap, *slot, size);
        if (p == NULL) refused++;
        if (p != NULL) *slot = p;
        break;
      }
      case 2:
        mi_free(*slot);
        *slot = mi_heap_malloc_aligned(heap, size, (size_t)16 << dice_roll(&dice, 14));
        break;
      case 3:
        mi_free(*slot);
        *slot = mi_heap_zalloc(heap, size);
        break;
      default:
        mi_free(*slot);
        *slot = mi_heap_malloc(heap, size);
        break;
    }
    if (*slot != NULL) {
      assert_quick(mi_arena_contains(cage->arena, *slot));
      assert_round_trip(cage, *slot);
    } else {
      refused++;
    }
  }
  ck_assert_uint_gt(refused, 0); /* the cage was full at times */
  ck_assert_uint_eq(errors_total(), errors_of(ENOMEM));
  errors_clear();
  /* And nobody else comes in. */
  for (int i = 0; i < 2000; i++) {
    void *p = mi_malloc(1 + dice_roll(&dice, 100000));
    assert_quick(!in_reservation(cage, p));
    mi_free(p);
  }
  mi_heap_destroy(heap);
  ck_assert_int_eq(mirt_cage_destroy(cage), 0);
}
END_TEST

/* ---- the end of a cage ---- */

START_TEST(destroy_needs_heaps_to_be_gone) {
  mirt_cage_t *cage = cage_new((mirt_cage_options_t){.size = 8 * MiB});
  const int64_t pages = pages_now();
  mi_heap_t *first = heap_in(cage), *second = mi_heap_new_in_arena(cage->arena);
  char *p = mi_heap_malloc(first, 100), *q = mi_heap_malloc(second, 100);
  memset(p, 1, 100);
  ck_assert_int_eq(mirt_cage_destroy(cage), EBUSY);
  assert_errors(EBUSY, 1);
  mi_heap_destroy(first);
  ck_assert_int_eq(mirt_cage_destroy(cage), EBUSY);
  assert_errors(EBUSY, 1);
  memset(q, 1, 100); /* nothing has changed */
  ck_assert_ptr_nonnull(mi_heap_malloc(second, 100));
  mi_heap_delete(second); /* leaves its blocks, which go with the cage */
  memset(q, 2, 100);
  const int64_t abandoned = stats_now().pages_abandoned.current;
  ck_assert_int_eq(mirt_cage_destroy(cage), 0);
  ck_assert_int_eq(pages_now(), pages);
  ck_assert_int_lt(stats_now().pages_abandoned.current, abandoned);
  ck_assert_int_eq(mirt_cage_destroy(NULL), 0);
  assert_no_errors();
  /* Freed too late, the block is no block, and nothing happens. */
  mi_free(q);
  assert_errors(EINVAL, 1);
}
END_TEST

/* Bytes of address space that the process has mapped. */
static size_t mapped_bytes(void) {
  size_t pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file != NULL) {
    ck_assert_int_eq(fscanf(file, "%zu", &pages), 1);
    fclose(file);
  }
  return pages * os_page_size();
}

START_TEST(nothing_is_left_of_a_cage) {
  /* At one base, so that the page map needs the same leaves each time. */
  char *base = free_range(reach_of(0), reach_of(0));
  mi_collect(true);
  const mi_stats_t before = stats_now();
  size_t mapped = 0;
  for (int i = 0; i < 40; i++) {
    mirt_cage_t *cage = cage_new((mirt_cage_options_t){.base = base});
    mi_heap_t *heap = heap_in(cage);
    for (int j = 0; j < 100; j++) ck_assert_ptr_nonnull(mi_heap_malloc(heap, 10000));
    (i % 2 == 0 ? mi_heap_destroy : mi_heap_delete)(heap);
    ck_assert_int_eq(mirt_cage_destroy(cage), 0);
    if (i < 2) mapped = mapped_bytes();
  }
  if (!TEST_HAS_SHADOW) ck_assert_uint_eq(mapped_bytes(), mapped);
  const mi_stats_t after = stats_now();
  ck_assert_int_eq(after.arenas.current, before.arenas.current);
  ck_assert_int_eq(after.heaps.current, before.heaps.current);
  ck_assert_int_eq(after.reserved.current, before.reserved.current);
  ck_assert_int_eq(after.committed.current, before.committed.current);
  ck_assert_int_eq(after.pages.current, before.pages.current);
  ck_assert_int_eq(after.page_bytes.current, before.page_bytes.current);
  ck_assert_int_eq(after.pages_abandoned.current, before.pages_abandoned.current);
}
END_TEST

/* Threads that have nothing to do with the cages, and look at all arenas all the time. */
struct bystander {
  atomic_word *stop;
  size_t wrong;
};

static void *stand_by(void *argument) {
  struct bystander *self = argument;
  int on_stack = 0;
  while (atomic_load_acquire(self->stop) == 0) {
    void *p = mi_malloc(300000);
    if (p == NULL || !mi_is_in_heap_region(p)) self->wrong++;
    if (mi_is_in_heap_region(&on_stack)) self->wrong++;
    mi_free(p);
    mi_collect(true);
  }
  return NULL;
}

/* Makes cages and destroys them. */
static void *come_and_go(void *argument) {
  struct bystander *self = argument;
  for (int i = 0; i < TEST_ROUNDS(1600); i++) {
    mirt_cage_t *cage = NULL;
    const mirt_cage_options_t options = {.size = 4 * MiB, .signed_refs = true};
    if (mirt_cage_create(&options, &cage) != 0) {
      self->wrong++;
      continue;
    }
    mi_heap_t *heap = mi_heap_new_in_arena(cage->arena);
    mi_free(mi_heap_malloc(heap, 1000));
    mi_heap_delete(heap);
    if (mirt_cage_destroy(cage) != 0) self->wrong++;
  }
  return NULL;
}

START_TEST(others_do_not_notice_cages_go) {
  atomic_word stop = 0;
  struct bystander bystanders[2] = {{&stop, 0}, {&stop, 0}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, stand_by, &bystanders[i]), 0);
  }
  struct bystander makers[2] = {{NULL, 0}, {NULL, 0}};
  threads_run(2, come_and_go, makers, sizeof makers[0]);
  atomic_store_release(&stop, 1);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_uint_eq(bystanders[i].wrong, 0);
    ck_assert_uint_eq(makers[i].wrong, 0);
  }
  assert_no_errors();
}
END_TEST

struct destroyer {
  mirt_cage_t *cage;
  int error;
  atomic_word done;
};

static void *destroy_cage(void *argument) {
  struct destroyer *self = argument;
  self->error = mirt_cage_destroy(self->cage);
  atomic_store_release(&self->done, 1);
  return NULL;
}

START_TEST(walk_keeps_every_arena) {
  /* Whoever looks at all arenas may look at each until it has finished, however many are
   * destroyed by whom meanwhile: their threads wait. */
  enum { CAGES = 4, YIELDS = 2000 };
  struct destroyer destroyers[CAGES];
  const struct arena *arenas[CAGES];
  for (int i = 0; i < CAGES; i++) {
    mirt_cage_t *cage = cage_new((mirt_cage_options_t){.size = MiB});
    destroyers[i] = (struct destroyer){cage, -1, 0};
    arenas[i] = arena_of_id(cage->arena);
  }
  pthread_t threads[CAGES];
  struct arena_walk walk = arena_walk_begin(ARENAS_ALL);
  for (int i = 0; i < CAGES; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, destroy_cage, &destroyers[i]), 0);
    for (int j = 0; j < YIELDS; j++) sched_yield(); /* let it begin, and go wrong */
  }
  size_t gone = 0;
  for (int i = 0; i < CAGES; i++) gone += atomic_load_acquire(&destroyers[i].done) != 0;
  if (gone == 0) {
    for (int i = 0; i < CAGES; i++) ck_assert_uint_gt(arenas[i]->slice_count, 0);
  }
  arena_walk_end(&walk);
  for (int i = 0; i < CAGES; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_int_eq(destroyers[i].error, 0);
  }
  ck_assert_uint_eq(gone, 0);
  assert_no_errors();
}
END_TEST

#if !TEST_HAS_SHADOW /* whose run-times cannot fork among threads */
static void use_and_destroy(void *argument) {
  mirt_cage_t *cage = argument;
  alarm(60); /* ends a child that waits for threads which it does not have */
  mi_heap_t *heap = mi_heap_new_in_arena(cage->arena);
  if (heap == NULL || mi_heap_malloc(heap, 1000) == NULL) _exit(1);
  mi_heap_delete(heap);
  if (mirt_cage_destroy(cage) != 0) _exit(2);
  void *p = mi_malloc(300000);
  if (p == NULL) _exit(3);
  mi_free(p);
  mi_collect(true);
}

START_TEST(cage_goes_in_a_forked_child) {
  atomic_word stop = 0;
  struct bystander bystanders[2] = {{&stop, 0}, {&stop, 0}};
  pthread_t threads[2];
  mirt_cage_t *cage = cage_new((mirt_cage_options_t){.size = 4 * MiB});
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, stand_by, &bystanders[i]), 0);
  }
  for (int i = 0; i < 50; i++) ck_assert_int_eq(child_run(use_and_destroy, cage), 0);
  atomic_store_release(&stop, 1);
  for (int i = 0; i < 2; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  ck_assert_int_eq(mirt_cage_destroy(cage), 0);
  assert_no_errors();
}
END_TEST
#endif

/* ---- references shared by threads ---- */

struct counter {
  volatile mirt_ref_t *slot;
  size_t increments;
};

static void *increment(void *argument) {
  const struct counter *self = argument;
  for (size_t i = 0; i < self->increments;) {
    const mirt_ref_t seen = mirt_ref_load(self->slot);
    if (mirt_ref_compare_and_swap(self->slot, seen, seen + 1)) i++;
  }
  return NULL;
}

START_TEST(compare_and_swap_loses_nothing) {
  volatile mirt_ref_t slots[3] = {0x11111111, 0xfffffff0, 0x22222222};
  struct counter counters[2] = {{&slots[1], 100000}, {&slots[1], 100000}};
  threads_run(2, increment, counters, sizeof counters[0]);
  ck_assert_uint_eq(slots[1], (mirt_ref_t)(0xfffffff0u + 200000u));
  ck_assert_uint_eq(slots[0], 0x11111111); /* the neighbours are untouched */
  ck_assert_uint_eq(slots[2], 0x22222222);
  ck_assert(!mirt_ref_compare_and_swap(&slots[0], 1, 2));
  ck_assert_uint_eq(slots[0], 0x11111111);
}
END_TEST

/* One thread publishes objects, the other one reads them. */
struct channel {
  const mirt_cage_t *cage;
  mi_heap_t *heap;
  volatile mirt_ref_t *slot;
  size_t count, wrong;
};

static void *receive(void *argument) {
  struct channel *self = argument;
  for (size_t i = 0; i < self->count; i++) {
    mirt_ref_t ref;
    while ((ref = mirt_ref_load(self->slot)) == 0) sched_yield();
    const size_t *object = mirt_decode(self->cage, ref);
    if (object[0] != i || object[1] != ~i) self->wrong++;
    mirt_ref_store(self->slot, 0);
  }
  return NULL;
}

START_TEST(stores_publish) {
  mirt_cage_t *cage = cage_new((mirt_cage_options_t){.size = 16 * MiB, .shift = 4});
  mi_heap_t *heap = heap_in(cage);
  volatile mirt_ref_t slot = 0;
  struct channel channel = {.cage = cage, .slot = &slot, .count = 5000};
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, receive, &channel), 0);
  for (size_t i = 0; i < channel.count; i++) {
    size_t *object = mi_heap_malloc(heap, 2 * sizeof(size_t));
    object[0] = i;
    object[1] = ~i;
    while (mirt_ref_load(&slot) != 0) sched_yield();
    mirt_ref_store(&slot, mirt_encode(cage, object));
  }
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_uint_eq(channel.wrong, 0);
  mi_heap_destroy(heap);
  ck_assert_int_eq(mirt_cage_destroy(cage), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("cage");
  TCase *c = case_begin(suite, "modes");
  tcase_add_loop_test(c, best_base, 0, 5);
  tcase_add_loop_test(c, signed_references, 0, 5);
  tcase_add_loop_test(c, wanted_aligned_base, 0, 5);
  tcase_add_loop_test(c, wanted_unaligned_base, 0, 5);
  tcase_add_loop_test(c, wanted_signed_base, 0, 5);
  tcase_add_test(c, defaults);
  tcase_add_test(c, committed_and_large);
  tcase_add_test(c, several_at_once);
  tcase_add_test(c, names_of_modes);
  c = case_begin(suite, "refused");
  tcase_add_test(c, taken_base);
  tcase_add_test(c, bad_options);
  c = case_begin(suite, "sizes");
  tcase_add_test(c, sizes_are_limits);
  tcase_add_test(c, smallest_sizes);
  tcase_add_test(c, heaps_stay_inside);
  c = case_begin(suite, "destroy");
  tcase_add_test(c, destroy_needs_heaps_to_be_gone);
  tcase_add_test(c, nothing_is_left_of_a_cage);
  tcase_add_test(c, others_do_not_notice_cages_go);
  tcase_add_test(c, walk_keeps_every_arena);
#if !TEST_HAS_SHADOW
  tcase_add_test(c, cage_goes_in_a_forked_child);
#endif
  c = case_begin(suite, "references");
  tcase_add_test(c, compare_and_swap_loses_nothing);
  tcase_add_test(c, stores_publish);
  return suite_run(suite);
}
