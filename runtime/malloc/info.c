/* info.c - version, statistics, process information. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic.h"
#include "base/log.h"
#include "base/stats.h"
#include "heap/alloc.h"
#include "os/os.h"

int mi_version(void) { return MI_MALLOC_VERSION; }

/* Linked into the override library only. */
extern const bool override_is_linked __attribute__((weak));

bool mi_is_redirected(void) { return &override_is_linked != NULL; }

void mi_process_info(size_t *elapsed_msecs, size_t *user_msecs, size_t *system_msecs,
                     size_t *current_rss, size_t *peak_rss, size_t *current_commit,
                     size_t *peak_commit, size_t *page_faults) {
  process_begin();
  struct os_process_info info;
  os_process_info(&info);
  if (elapsed_msecs != NULL) {
    *elapsed_msecs = os_clock_milliseconds() - atomic_load_relaxed(&process_started_at);
  }
  if (user_msecs != NULL) *user_msecs = info.user_milliseconds;
  if (system_msecs != NULL) *system_msecs = info.system_milliseconds;
  if (current_rss != NULL) *current_rss = info.current_resident;
  if (peak_rss != NULL) *peak_rss = info.peak_resident;
  if (current_commit != NULL) {
    *current_commit = atomic_load_relaxed(&stats.committed.current);
  }
  if (peak_commit != NULL) *peak_commit = atomic_load_relaxed(&stats.committed.peak);
  if (page_faults != NULL) *page_faults = info.page_faults;
}

/* ---- statistics ---- */

static mi_stat_count_t read_count(const struct stat_count *count) {
  return (mi_stat_count_t){.total = (int64_t)atomic_load_relaxed(&count->total),
                           .peak = (int64_t)atomic_load_relaxed(&count->peak),
                           .current = (int64_t)atomic_load_relaxed(&count->current)};
}

static int64_t read_word(const atomic_word *word) {
  return (int64_t)atomic_load_relaxed(word);
}

static mi_stats_t read_stats(void) {
  return (mi_stats_t){
      .size = sizeof(mi_stats_t),
      .version = MI_STAT_VERSION,
      .reserved = read_count(&stats.reserved),
      .committed = read_count(&stats.committed),
      .arenas = read_count(&stats.arenas),
      .pages = read_count(&stats.pages),
      .page_bytes = read_count(&stats.page_bytes),
      .pages_abandoned = read_count(&stats.abandoned),
      .heaps = read_count(&stats.heaps),
      .threads = read_count(&stats.owners),
      .large_blocks = read_count(&stats.large_blocks),
      .pages_adopted = read_word(&stats.adopted),
      .purged = read_word(&stats.purged),
      .mmap_calls = read_word(&stats.map_calls),
      .commit_calls = read_word(&stats.commit_calls),
      .purge_calls = read_word(&stats.purge_calls),
  };
}

bool mi_stats_get(mi_stats_t *result) {
  if (result == NULL || result->size < offsetof(mi_stats_t, reserved)) {
    log_error(EINVAL, "mi_stats_get", "the struct has no room");
    return false;
  }
  const mi_stats_t now = read_stats();
  const size_t wanted = result->size < sizeof now ? result->size : sizeof now;
  memcpy(result, &now, wanted);
  result->size = wanted;
  return true;
}

/* The counts by name, for printing. */
struct named_count {
  const char *name;
  mi_stat_count_t count;
};
struct named_total {
  const char *name;
  int64_t total;
};
#define NAMED_COUNTS 9
#define NAMED_TOTALS 5

static void name_stats(struct named_count counts[NAMED_COUNTS],
                       struct named_total totals[NAMED_TOTALS]) {
  const mi_stats_t now = read_stats();
  const struct named_count c[NAMED_COUNTS] = {{"reserved", now.reserved},
                                              {"committed", now.committed},
                                              {"arenas", now.arenas},
                                              {"pages", now.pages},
                                              {"page_bytes", now.page_bytes},
                                              {"pages_abandoned", now.pages_abandoned},
                                              {"heaps", now.heaps},
                                              {"threads", now.threads},
                                              {"large_blocks", now.large_blocks}};
  const struct named_total t[NAMED_TOTALS] = {{"pages_adopted", now.pages_adopted},
                                              {"purged", now.purged},
                                              {"mmap_calls", now.mmap_calls},
                                              {"commit_calls", now.commit_calls},
                                              {"purge_calls", now.purge_calls}};
  memcpy(counts, c, sizeof c);
  memcpy(totals, t, sizeof t);
}

void mi_stats_print_out(mi_output_fun *out, void *arg) {
  struct named_count counts[NAMED_COUNTS];
  struct named_total totals[NAMED_TOTALS];
  name_stats(counts, totals);
  log_print(out, arg, "%-16s %16s %16s %16s\n", "statistics", "current", "peak", "total");
  for (size_t i = 0; i < NAMED_COUNTS; i++) {
    const mi_stat_count_t *count = &counts[i].count;
    log_print(out, arg, "%-16s %16lld %16lld %16lld\n", counts[i].name,
              (long long)count->current, (long long)count->peak, (long long)count->total);
  }
  for (size_t i = 0; i < NAMED_TOTALS; i++) {
    log_print(out, arg, "%-16s %50lld\n", totals[i].name, (long long)totals[i].total);
  }
}

/* Append to text, which holds *used of size bytes; *used grows even when it does not fit,
 * so that the caller learns how much would. */
__attribute__((format(printf, 4, 5))) static void
append(char *text, size_t size, size_t *used, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const size_t room = *used < size ? size - *used : 0;
  const int length = vsnprintf(room > 0 ? text + *used : NULL, room, format, arguments);
  va_end(arguments);
  if (length > 0) *used += (size_t)length;
}

static size_t format_json(char *text, size_t size) {
  struct named_count counts[NAMED_COUNTS];
  struct named_total totals[NAMED_TOTALS];
  name_stats(counts, totals);
  size_t used = 0;
  append(text, size, &used, "{\n  \"version\": %d", MI_STAT_VERSION);
  for (size_t i = 0; i < NAMED_COUNTS; i++) {
    const mi_stat_count_t *count = &counts[i].count;
    append(text, size, &used,
           ",\n  \"%s\": {\"current\": %lld, \"peak\": %lld, \"total\": %lld}",
           counts[i].name, (long long)count->current, (long long)count->peak,
           (long long)count->total);
  }
  for (size_t i = 0; i < NAMED_TOTALS; i++) {
    append(text, size, &used, ",\n  \"%s\": %lld", totals[i].name,
           (long long)totals[i].total);
  }
  append(text, size, &used, "\n}\n");
  return used;
}

char *mi_stats_get_json(size_t buf_size, char *buf) {
  if (buf != NULL) {
    if (format_json(buf, buf_size) < buf_size) return buf;
    log_error(ERANGE, "mi_stats_get_json", "%zu bytes do not suffice", buf_size);
    return NULL;
  }
  /* Until it is written, and by this allocation, each number may grow to 20 digits. */
  const size_t size = format_json(NULL, 0) + 20 * (3 * NAMED_COUNTS + NAMED_TOTALS);
  char *text = mi_malloc(size);
  if (text != NULL) format_json(text, size);
  return text;
}

void mi_stats_print(void *out) {
  (void)out;
  mi_stats_print_out(NULL, NULL);
}

void mi_thread_stats_print_out(mi_output_fun *out, void *arg) {
  mi_stats_print_out(out, arg);
}

static void count_reset(struct stat_count *count) {
  const uintptr_t now = atomic_load_relaxed(&count->current);
  atomic_store_relaxed(&count->peak, now);
  atomic_store_relaxed(&count->total, 0);
}

void mi_stats_reset(void) {
  struct stat_count *const counts[] = {
      &stats.reserved,   &stats.committed, &stats.pages,
      &stats.page_bytes, &stats.abandoned, &stats.arenas,
      &stats.heaps,      &stats.owners,    &stats.large_blocks};
  for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) count_reset(counts[i]);
  atomic_store_relaxed(&stats.adopted, 0);
  atomic_store_relaxed(&stats.map_calls, 0);
  atomic_store_relaxed(&stats.commit_calls, 0);
  atomic_store_relaxed(&stats.purge_calls, 0);
  atomic_store_relaxed(&stats.purged, 0);
}

/* Counters are the process's from the start: there is nothing to merge. */
void mi_stats_merge(void) {}
