/* info.c - version, statistics, process information. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "arena/tag.h"
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

/* Where a count is kept, and where it goes. */
static const struct {
  const char *name;
  struct stat_count *count;
  size_t offset; /* in mi_stats_t */
} counts[] = {
#define COUNT(name, field) \
  { #name, &stats.field, offsetof(mi_stats_t, name) }
    COUNT(reserved, reserved),
    COUNT(committed, committed),
    COUNT(arenas, arenas),
    COUNT(pages, pages),
    COUNT(page_bytes, page_bytes),
    COUNT(pages_abandoned, abandoned),
    COUNT(heaps, heaps),
    COUNT(threads, owners),
    COUNT(large_blocks, large_blocks),
};
static const struct {
  const char *name;
  atomic_word *word;
  size_t offset;
} totals[] = {
#define TOTAL(name, field) \
  { #name, &stats.field, offsetof(mi_stats_t, name) }
    TOTAL(pages_adopted, adopted),   TOTAL(purged, purged),
    TOTAL(mmap_calls, map_calls),    TOTAL(commit_calls, commit_calls),
    TOTAL(purge_calls, purge_calls),
};
#define COUNTS (sizeof counts / sizeof counts[0])
#define TOTALS (sizeof totals / sizeof totals[0])

static mi_stat_count_t read_count(const struct stat_count *count) {
  return (mi_stat_count_t){.total = (int64_t)atomic_load_relaxed(&count->total),
                           .peak = (int64_t)atomic_load_relaxed(&count->peak),
                           .current = (int64_t)atomic_load_relaxed(&count->current)};
}

static int64_t read_total(size_t i) {
  return (int64_t)atomic_load_relaxed(totals[i].word);
}

bool mi_stats_get(mi_stats_t *result) {
  if (result == NULL || result->size < offsetof(mi_stats_t, reserved)) {
    log_error(EINVAL, "mi_stats_get", "the struct has no room");
    return false;
  }
  mi_stats_t now = {.version = MI_STAT_VERSION};
  for (size_t i = 0; i < COUNTS; i++) {
    *(mi_stat_count_t *)(void *)((char *)&now + counts[i].offset) =
        read_count(counts[i].count);
  }
  for (size_t i = 0; i < TOTALS; i++) {
    *(int64_t *)(void *)((char *)&now + totals[i].offset) = read_total(i);
  }
  now.size = result->size < sizeof now ? result->size : sizeof now;
  memcpy(result, &now, now.size);
  return true;
}

void mi_stats_print_out(mi_output_fun *out, void *arg) {
  log_print(out, arg, "%-16s %16s %16s %16s\n", "statistics", "current", "peak", "total");
  for (size_t i = 0; i < COUNTS; i++) {
    const mi_stat_count_t count = read_count(counts[i].count);
    log_print(out, arg, "%-16s %16lld %16lld %16lld\n", counts[i].name,
              (long long)count.current, (long long)count.peak, (long long)count.total);
  }
  for (size_t i = 0; i < TOTALS; i++) {
    log_print(out, arg, "%-16s %50lld\n", totals[i].name, (long long)read_total(i));
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

static void append_tag(char *text, size_t size, size_t *used, const char *separator,
                       size_t tag) {
  const struct holding *holding = &tags[tag].holding;
  append(text, size, used,
         "%s\n    {\"tag\": %zu, \"pages\": %zu, \"committed\": %zu, \"peak\": %zu, "
         "\"abandoned\": %zu, \"adopted\": %zu, \"sealed\": %zu}",
         separator, tag, holding_pages(holding), holding_slices(holding) << SLICE_SHIFT,
         (size_t)atomic_load_relaxed(&holding->peak) << SLICE_SHIFT,
         (size_t)atomic_load_relaxed(&holding->abandoned),
         (size_t)atomic_load_relaxed(&holding->adopted),
         (size_t)atomic_load_relaxed(&tags[tag].sealed_slices) << SLICE_SHIFT);
}

static size_t format_json(char *text, size_t size) {
  size_t used = 0;
  append(text, size, &used, "{\n  \"version\": %d", MI_STAT_VERSION);
  for (size_t i = 0; i < COUNTS; i++) {
    const mi_stat_count_t count = read_count(counts[i].count);
    append(text, size, &used,
           ",\n  \"%s\": {\"current\": %lld, \"peak\": %lld, \"total\": %lld}",
           counts[i].name, (long long)count.current, (long long)count.peak,
           (long long)count.total);
  }
  for (size_t i = 0; i < TOTALS; i++) {
    append(text, size, &used, ",\n  \"%s\": %lld", totals[i].name,
           (long long)read_total(i));
  }
  append(text, size, &used, ",\n  \"tags\": [");
  const char *separator = "";
  for (size_t i = 0; i < TAG_COUNT; i++) {
    if (atomic_load_relaxed(&tags[i].holding.peak) == 0) continue; /* never used */
    append_tag(text, size, &used, separator, i);
    separator = ",";
  }
  append(text, size, &used, "]\n}\n");
  return used;
}

char *mi_stats_get_json(size_t buf_size, char *buf) {
  if (buf != NULL) {
    if (format_json(buf, buf_size) < buf_size) return buf;
    log_error(ERANGE, "mi_stats_get_json", "%zu bytes do not suffice", buf_size);
    return NULL;
  }
  /* Until it is written, and by this allocation, numbers may grow and tags be used. */
  for (size_t size = format_json(NULL, 0);; size *= 2) {
    char *text = mi_malloc(size);
    if (text == NULL || format_json(text, size) < size) return text;
    mi_free(text);
  }
}

void mi_stats_print(void *out) {
  (void)out;
  mi_stats_print_out(NULL, NULL);
}

void mi_thread_stats_print_out(mi_output_fun *out, void *arg) {
  mi_stats_print_out(out, arg);
}

void mi_stats_reset(void) {
  for (size_t i = 0; i < COUNTS; i++) {
    struct stat_count *count = counts[i].count;
    atomic_store_relaxed(&count->peak, atomic_load_relaxed(&count->current));
    atomic_store_relaxed(&count->total, 0);
  }
  for (size_t i = 0; i < TOTALS; i++) atomic_store_relaxed(totals[i].word, 0);
}

/* Counters are the process's from the start: there is nothing to merge. */
void mi_stats_merge(void) {}
