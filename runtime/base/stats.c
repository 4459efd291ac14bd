#include "base/stats.h"

struct stats stats;

void stats_add(struct stat_count *count, size_t amount) {
  const uintptr_t now = atomic_fetch_add_full(&count->current, amount) + amount;
  atomic_max_full(&count->peak, now);
  atomic_fetch_add_full(&count->total, amount);
}

void stats_subtract(struct stat_count *count, size_t amount) {
  atomic_fetch_sub_full(&count->current, amount);
}

void stats_take_back(struct stat_count *count, size_t amount) {
  atomic_fetch_add_full(&count->current, amount);
}

#define HOLDING_PAGE ((uintptr_t)1 << 32)

void holding_add(struct holding *holding, size_t slices) {
  const uintptr_t added = HOLDING_PAGE + slices;
  const uintptr_t now = atomic_fetch_add_full(&holding->now, added) + added;
  atomic_max_full(&holding->peak, (uint32_t)now);
}

void holding_subtract(struct holding *holding, size_t slices) {
  atomic_fetch_sub_full(&holding->now, HOLDING_PAGE + slices);
}
