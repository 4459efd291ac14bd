/* budget.c - how much a runtime may hold.
 *
 * `used` goes up by the blocks that mutators take, a group at a time, and does not go down
 * when one is freed; so when it reaches a limit the live bytes are counted, by the bits of
 * the pages, and that is `used` from then on.
 */
#include <errno.h>

#include "base/log.h"
#include "vm/runtime.h"

/* What has been counted is not counted again before so much of the soft limit has been taken:
 * a heap that stays about as large as the limit would be counted all the time. */
#define COUNTS_PER_LIMIT 32

#define ATTEMPTS_MAX 8 /* to collect before the hard limit is the end */

static bool is_over(const mirt_runtime_t *runtime, const atomic_word *limit,
                    size_t bytes) {
  const size_t most = atomic_load_relaxed(limit);
  return most != 0 && atomic_load_relaxed(&runtime->used) + bytes > most;
}

/* So many bytes live, and the callback is due again if that is below the soft limit. */
static void remember(mirt_runtime_t *runtime, size_t live) {
  atomic_store_relaxed(&runtime->counted, live);
  if (!is_over(runtime, &runtime->soft_limit, 0)) {
    atomic_store_release(&runtime->is_over_soft, 0);
  }
}

/* Count, so that `used` is right again. Returns it. */
static size_t recount(mirt_runtime_t *runtime) {
  const uintptr_t before = atomic_load_relaxed(&runtime->used);
  size_t taken;
  const size_t live =
      runtime_live_bytes(runtime, &taken) + atomic_load_relaxed(&runtime->charged);
  /* What others have taken meanwhile may have been counted, too: `used` is never too low. */
  uintptr_t now;
  do {
    now = atomic_load_relaxed(&runtime->used);
  } while (
      !atomic_compare_and_swap_full(&runtime->used, now, live + taken + (now - before)));
  remember(runtime, live);
  return live;
}

/* Has so much been taken since the last count that it is worth another? */
static bool is_count_due(const mirt_runtime_t *runtime) {
  const size_t step = atomic_load_relaxed(&runtime->soft_limit) / COUNTS_PER_LIMIT;
  return atomic_load_relaxed(&runtime->used) >=
         atomic_load_relaxed(&runtime->counted) + step;
}

static void call_back(mirt_runtime_t *runtime, const mirt_type_t *type, size_t live) {
  if (runtime->on_soft_limit == NULL) return;
  runtime->on_soft_limit(runtime, live, type, runtime->budget_arg);
}

static void check_soft(mirt_runtime_t *runtime, const mirt_type_t *type, size_t bytes) {
  if (!is_count_due(runtime)) return;
  const size_t live = recount(runtime);
  if (!is_over(runtime, &runtime->soft_limit, bytes)) return;
  if (!atomic_compare_and_swap_full(&runtime->is_over_soft, 0, 1)) return;
  call_back(runtime, type, live);
}

/* The callback has its chance here, too: another thread may have been told of the soft limit,
 * and not have collected yet. What a collection has freed other threads may take at once, so
 * it may need several. */
cold_function static bool check_hard(mirt_runtime_t *runtime, const mirt_type_t *type,
                                     size_t bytes) {
  for (int attempts = 0;; attempts++) {
    const size_t live = recount(runtime);
    if (!is_over(runtime, &runtime->hard_limit, bytes)) return true;
    if (attempts == ATTEMPTS_MAX) return false;
    const uintptr_t collections = atomic_load_acquire(&runtime->collections);
    call_back(runtime, type, live);
    if (atomic_load_acquire(&runtime->collections) == collections) {
      return !is_over(runtime, &runtime->hard_limit, bytes); /* it may have raised it */
    }
  }
}

bool budget_admits(mirt_runtime_t *runtime, const mirt_type_t *type, size_t bytes) {
  if (unlikely(runtime->calls_always)) call_back(runtime, type, recount(runtime));
  if (is_over(runtime, &runtime->soft_limit, bytes)) check_soft(runtime, type, bytes);
  return !is_over(runtime, &runtime->hard_limit, bytes) ||
         check_hard(runtime, type, bytes);
}

void budget_settle(mirt_runtime_t *runtime, size_t live) {
  live += atomic_load_relaxed(&runtime->charged);
  atomic_store_relaxed(&runtime->used, live);
  remember(runtime, live);
  atomic_fetch_add_full(&runtime->collections, 1);
}

/* `charged` goes up first and down last, so that a count in between makes `used` too high. */
size_t mirt_budget_charge(mirt_runtime_t *runtime, ptrdiff_t bytes) {
  if (runtime == NULL) {
    log_error(EINVAL, "mirt_budget_charge", "runtime is NULL");
    return 0;
  }
  if (bytes < 0) atomic_fetch_add_full(&runtime->used, (uintptr_t)bytes);
  uintptr_t before;
  do {
    before = atomic_load_relaxed(&runtime->charged);
    if (before + (uintptr_t)bytes > PTRDIFF_MAX) {
      if (bytes < 0) atomic_fetch_sub_full(&runtime->used, (uintptr_t)bytes);
      log_error(EINVAL, "mirt_budget_charge", "%td bytes, but %zu are charged", bytes,
                (size_t)before);
      return before;
    }
  } while (!atomic_compare_and_swap_full(&runtime->charged, before,
                                         before + (uintptr_t)bytes));
  if (bytes > 0) atomic_fetch_add_full(&runtime->used, (uintptr_t)bytes);
  return before + (uintptr_t)bytes;
}

int mirt_budget_set(mirt_runtime_t *runtime, size_t soft, size_t hard) {
  if (runtime == NULL || (hard != 0 && hard < soft)) {
    log_error(EINVAL, "mirt_budget_set", "runtime %p, soft %zu, hard %zu",
              (void *)runtime, soft, hard);
    return EINVAL;
  }
  atomic_store_relaxed(&runtime->soft_limit, soft);
  atomic_store_relaxed(&runtime->hard_limit, hard);
  atomic_store_release(&runtime->is_over_soft, 0);
  return 0;
}

size_t mirt_budget_grow(mirt_runtime_t *runtime, unsigned percent, size_t least) {
  if (runtime == NULL) {
    log_error(EINVAL, "mirt_budget_grow", "runtime is NULL");
    return 0;
  }
  const size_t live = recount(runtime);
  const size_t hard = atomic_load_relaxed(&runtime->hard_limit);
  size_t soft = live / 100 * percent + live % 100 * percent / 100;
  if (soft < least) soft = least;
  if (soft == 0) soft = 1; /* 0 would be: never */
  if (hard != 0 && soft > hard) soft = hard;
  atomic_store_relaxed(&runtime->soft_limit, soft);
  atomic_store_release(&runtime->is_over_soft, 0);
  return soft;
}
