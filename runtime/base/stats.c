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
