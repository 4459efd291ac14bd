#include <mirt/cage.h>

#include <errno.h>

#include "arena/arena.h"
#include "arena/page_map.h"
#include "base/log.h"
#include "heap/epoch.h"
#include "os/os.h"

#define SHIFT_MAX 4

struct cage_record {
  struct free_record link;
  mirt_cage_t cage;
};

/* What a cage is made of, while it is made. */
struct plan {
  size_t limit; /* bytes that references reach */
  size_t size;  /* bytes wanted for the arena */
  char *start;  /* of the reservation */
  size_t reserved;
  mirt_cage_mode_t mode;
};

const char *mirt_cage_mode_name(mirt_cage_mode_t mode) {
  switch (mode) {
    case MIRT_CAGE_ZERO_BASED: return "zero-based";
    case MIRT_CAGE_ALIGNED: return "aligned";
    case MIRT_CAGE_ANY_BASE: return "any base";
    case MIRT_CAGE_SIGNED: return "signed";
  }
  return "unknown";
}

static int cage_fails(int code, const char *why, uint64_t value) {
  log_error(code, "mirt_cage_create", "%s: %#llx", why, (unsigned long long)value);
  return code;
}

static int check_options(const mirt_cage_options_t *options, struct plan *plan) {
  if (options->shift > SHIFT_MAX) {
    return cage_fails(EINVAL, "shift is above 4", options->shift);
  }
  plan->limit = (4 * GiB) << options->shift;
  if (options->size > plan->limit) {
    return cage_fails(EINVAL, "size is above 4 GiB << shift", options->size);
  }
  plan->size = options->size == 0 ? plan->limit : align_up(options->size, SLICE_SIZE);
  const uintptr_t base = (uintptr_t)options->base;
  if (base % SLICE_SIZE != 0) {
    return cage_fails(EINVAL, "base is not aligned to a slice", base);
  }
  if (base > ((uintptr_t)1 << ADDRESS_BITS) - plan->limit) {
    return cage_fails(EINVAL, "base is too high", base);
  }
  return 0;
}

static void plan_reservation(struct plan *plan, void *start, size_t size,
                             mirt_cage_mode_t mode) {
  plan->start = start;
  plan->reserved = size;
  plan->mode = mode;
}

/* All addresses that references reach, from the lowest that the system lets us map. */
static bool reserve_zero_based(struct plan *plan) {
  for (size_t low = os_page_size(); low <= SLICE_SIZE; low *= 2) {
    if (os_reserve_at((void *)low, plan->limit - low, false) == 0) {
      plan_reservation(plan, (void *)low, plan->limit - low, MIRT_CAGE_ZERO_BASED);
      return true;
    }
  }
  return false;
}

static bool reserve_anywhere(struct plan *plan, size_t alignment, mirt_cage_mode_t mode) {
  void *start = os_reserve(plan->limit, alignment, false);
  if (start == NULL) return false;
  plan_reservation(plan, start, plan->limit, mode);
  return true;
}

static int reserve(const mirt_cage_options_t *options, struct plan *plan) {
  if (options->base != NULL) {
    const int error = os_reserve_at(options->base, plan->limit, false);
    if (error != 0) {
      return cage_fails(error,
                        error == EEXIST ? "the wanted base is taken"
                                        : "the wanted base cannot be reserved",
                        (uintptr_t)options->base);
    }
    const bool is_aligned = (uintptr_t)options->base % plan->limit == 0;
    plan_reservation(plan, options->base, plan->limit,
                     options->signed_refs ? MIRT_CAGE_SIGNED
                     : is_aligned         ? MIRT_CAGE_ALIGNED
                                          : MIRT_CAGE_ANY_BASE);
    return 0;
  }
  const bool reserved =
      options->signed_refs ? reserve_anywhere(plan, SLICE_SIZE, MIRT_CAGE_SIGNED)
                           : reserve_zero_based(plan) ||
                                 reserve_anywhere(plan, plan->limit, MIRT_CAGE_ALIGNED) ||
                                 reserve_anywhere(plan, SLICE_SIZE, MIRT_CAGE_ANY_BASE);
  if (!reserved) return cage_fails(ENOMEM, "no address range of this size", plan->limit);
  return 0;
}

/* The address that reference 0 decodes to. */
static uintptr_t plan_base(const struct plan *plan) {
  switch (plan->mode) {
    case MIRT_CAGE_ZERO_BASED: return 0;
    case MIRT_CAGE_SIGNED: return (uintptr_t)plan->start + plan->limit / 2;
    default: return (uintptr_t)plan->start;
  }
}

/* Where the arena lies: in signed mode around the middle, else from reference 0 on. */
static struct arena_setup plan_arena(const struct plan *plan) {
  const uintptr_t null_address = plan_base(plan);
  const size_t slice_count = plan->size >> SLICE_SHIFT;
  struct arena_setup setup = {.base = (void *)null_address,
                              .slice_count = slice_count,
                              .reservation = plan->start,
                              .reservation_size = plan->reserved,
                              .zero = true,
                              .ours = true,
                              .exclusive = true,
                              .has_owner = true,
                              .numa_node = -1,
                              .null_slice = 0};
  if (plan->mode == MIRT_CAGE_ZERO_BASED) {
    /* The null slice lies below: what the system does not let us map, nobody can. */
    setup.base = (void *)SLICE_SIZE;
    setup.slice_count = slice_count - 1;
    setup.null_slice = SIZE_MAX;
  } else if (plan->mode == MIRT_CAGE_SIGNED) {
    setup.null_slice = slice_count / 2;
    setup.base = (void *)(null_address - (setup.null_slice << SLICE_SHIFT));
  }
  return setup;
}

/* Commit all but the null slice. */
static bool commit_all(const struct arena_setup *setup) {
  char *base = setup->base;
  const size_t size = setup->slice_count << SLICE_SHIFT;
  if (setup->null_slice == SIZE_MAX) return os_commit(base, size);
  const size_t null_start = setup->null_slice << SLICE_SHIFT;
  const size_t null_end = null_start + SLICE_SIZE;
  return (null_start == 0 || os_commit(base, null_start)) &&
         (null_end == size || os_commit(base + null_end, size - null_end));
}

int mirt_cage_create(const mirt_cage_options_t *options, mirt_cage_t **cage) {
  static const mirt_cage_options_t defaults;
  if (cage == NULL) return cage_fails(EINVAL, "no place for the result", 0);
  *cage = NULL;
  if (options == NULL) options = &defaults;
  struct plan plan = {0};
  int error = check_options(options, &plan);
  if (error == 0 && plan.size < 2 * SLICE_SIZE) plan.size = 2 * SLICE_SIZE;
  if (error == 0) error = reserve(options, &plan);
  if (error != 0) return error;

  struct arena_setup setup = plan_arena(&plan);
  setup.committed = options->commit;
  struct cage_record *record =
      zone_take(&process_zone, RECORD_CAGE, sizeof(struct cage_record));
  struct arena *arena = NULL;
  if (record != NULL && (!options->commit || commit_all(&setup))) {
    arena = arena_create(&setup);
  }
  if (arena == NULL) {
    if (record != NULL) zone_give(&process_zone, RECORD_CAGE, record);
    os_release(plan.start, plan.reserved);
    return cage_fails(ENOMEM, "no memory for the cage's arena", plan.size);
  }
  if (options->allow_large) {
    os_prefer_huge_pages(setup.base, setup.slice_count << SLICE_SHIFT);
  }
  record->cage =
      (mirt_cage_t){.base = plan_base(&plan),
                    .sign = plan.mode == MIRT_CAGE_SIGNED ? (uint64_t)1 << 31 : 0,
                    .shift = options->shift,
                    .mode = plan.mode,
                    .arena = arena->id,
                    .reservation = plan.start,
                    .reserved = plan.reserved};
  arena_unpin(arena);
  *cage = &record->cage;
  return 0;
}

int mirt_cage_destroy(mirt_cage_t *cage) {
  if (cage == NULL) return 0;
  struct arena *arena = arena_of_id(cage->arena);
  if (arena == NULL || arena->setup.reservation != cage->reservation) {
    log_error(EINVAL, "mirt_cage_destroy", "%p is no cage", (void *)cage);
    return EINVAL;
  }
  limbo_flush(arena);
  const int error = arena_destroy(cage->arena, true);
  if (error != 0) {
    log_error(error, "mirt_cage_destroy", "a heap is bound to arena %d", cage->arena);
    return error;
  }
  char *record = (char *)cage - offsetof(struct cage_record, cage);
  zone_give(&process_zone, RECORD_CAGE, record);
  return 0;
}
