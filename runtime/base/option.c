#include "base/option.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/log.h"

/* How the text of an environment variable, and a plain number in it, is understood. */
enum unit { PLAIN, BYTES, KIBIBYTES };

struct option {
  const char *name;
  long initial;
  enum unit unit;
  bool ignored;       /* accepted for compatibility, without meaning in this design */
  atomic_word value;  /* what is set now, as a long */
  atomic_word is_set; /* 1 once the environment or the program has set it */
};

#define OPTION(option_name, default_value, value_unit) \
  [mi_option_##option_name] = {#option_name, default_value, value_unit, false, 0, 0}
#define IGNORED(option_name, default_value) \
  [mi_option_##option_name] = {#option_name, default_value, PLAIN, true, 0, 0}

static struct option options[_mi_option_last] = {
    OPTION(show_errors, 0, PLAIN),
    OPTION(show_stats, 0, PLAIN),
    OPTION(verbose, 0, PLAIN),
    IGNORED(eager_commit, 1),
    IGNORED(deprecated_eager_region_commit, 0),
    IGNORED(deprecated_reset_decommits, 0),
    OPTION(large_os_pages, 0, PLAIN),
    OPTION(reserve_huge_os_pages, 0, PLAIN),
    OPTION(reserve_huge_os_pages_at, -1, PLAIN),
    OPTION(reserve_os_memory, 0, KIBIBYTES),
    IGNORED(deprecated_segment_cache, 0),
    IGNORED(page_reset, 0),
    IGNORED(abandoned_page_purge, 0),
    IGNORED(deprecated_segment_reset, 0),
    IGNORED(eager_commit_delay, 0),
    OPTION(purge_delay, 10, PLAIN),
    OPTION(use_numa_nodes, 0, PLAIN),
    OPTION(disallow_os_alloc, 0, PLAIN),
    IGNORED(os_tag, 0),
    OPTION(max_errors, 32, PLAIN),
    OPTION(max_warnings, 32, PLAIN),
    IGNORED(max_segment_reclaim, 0),
    OPTION(purge_decommits, 1, PLAIN),
    IGNORED(segment_decommit_delay, 0),
    IGNORED(purge_extend_delay, 1),
    OPTION(destroy_on_exit, 0, PLAIN),
    OPTION(arena_purge_mult, 10, PLAIN),
    OPTION(arena_reserve, (long)(GiB / KiB), KIBIBYTES),
    OPTION(arena_eager_commit, 2, PLAIN),
    OPTION(disallow_arena_alloc, 0, PLAIN),
    IGNORED(abandoned_reclaim_on_free, 0),
    OPTION(visit_abandoned, 0, PLAIN),
    OPTION(guarded_min, 0, BYTES),
    OPTION(guarded_max, (long)GiB, BYTES),
    OPTION(guarded_precise, 0, PLAIN),
    OPTION(guarded_sample_rate, 0, PLAIN),
    OPTION(guarded_sample_seed, 0, PLAIN),
    OPTION(retry_on_oom, 400, PLAIN),
    OPTION(corruption_is_fatal, 0, PLAIN),
};

/* Names from before version 2.1 that the environment may still use. */
static const struct {
  const char *name;
  mi_option_t option;
} former_names[] = {
    {"limit_os_alloc", mi_option_disallow_os_alloc},
    {"decommit_delay", mi_option_purge_delay},
    {"reset_delay", mi_option_purge_delay},
    {"allow_decommit", mi_option_purge_decommits},
    {"decommit_extend_delay", mi_option_purge_extend_delay},
    {"abandoned_page_decommit", mi_option_abandoned_page_purge},
    {"large_pages", mi_option_large_os_pages},
};

static struct option *option_find(mi_option_t option) {
  return (size_t)option < (size_t)_mi_option_last ? &options[option] : NULL;
}

static long option_value(const struct option *option) {
  return atomic_load_acquire(&option->is_set) != 0
             ? (long)atomic_load_relaxed(&option->value)
             : option->initial;
}

long option_get(mi_option_t option) {
  const struct option *found = option_find(option);
  return found == NULL ? 0 : option_value(found);
}

static void option_store(struct option *option, long value) {
  atomic_store_relaxed(&option->value, (uintptr_t)value);
  atomic_store_release(&option->is_set, 1);
}

static bool text_is(const char *text, const char *upper_case) {
  for (; *text != 0; text++, upper_case++) {
    if (toupper((unsigned char)*text) != *upper_case) return false;
  }
  return *upper_case == 0;
}

/* Read a number with an optional K, M, G or T (and iB or B after it). Returns false when
 * the text is no number or does not fit. A number without suffix is in the option's own
 * unit; the result always is. */
static bool parse_number(const char *text, enum unit unit, long *value) {
  char *end;
  errno = 0;
  long n = strtol(text, &end, 10);
  if (end == text || errno != 0) return false;
  long factor = 0;
  switch (toupper((unsigned char)*end)) {
    case 'K': factor = (long)KiB; break;
    case 'M': factor = (long)MiB; break;
    case 'G': factor = (long)GiB; break;
    case 'T': factor = (long)(1024 * GiB); break;
  }
  if (factor != 0) {
    if (unit == PLAIN) return false;
    end++;
    if (toupper((unsigned char)end[0]) == 'I' && toupper((unsigned char)end[1]) == 'B') {
      end += 2;
    } else if (toupper((unsigned char)end[0]) == 'B') {
      end++;
    }
    if (unit == KIBIBYTES) factor /= (long)KiB;
    if (__builtin_mul_overflow(n, factor, &n)) return false;
  }
  *value = n;
  return *end == 0;
}

static bool parse_value(const char *text, enum unit unit, long *value) {
  if (*text == 0 || text_is(text, "1") || text_is(text, "TRUE") || text_is(text, "YES") ||
      text_is(text, "ON")) {
    *value = 1;
    return true;
  }
  if (text_is(text, "0") || text_is(text, "FALSE") || text_is(text, "NO") ||
      text_is(text, "OFF")) {
    *value = 0;
    return true;
  }
  return parse_number(text, unit, value);
}

static void read_variable(const char *name, struct option *option) {
  char variable[64] = "MIMALLOC_";
  size_t length = strlen(variable);
  for (; *name != 0 && length + 1 < sizeof variable; name++) {
    variable[length++] = (char)toupper((unsigned char)*name);
  }
  variable[length] = 0;
  const char *text = getenv(variable);
  if (text == NULL) return;
  long value;
  if (parse_value(text, option->unit, &value)) {
    option_store(option, value);
  } else {
    log_error(EINVAL, "environment", "%s has no valid value: '%.64s'", variable, text);
  }
}

void option_read_environment(void) {
  const int saved_errno = errno;
  for (size_t i = 0; i < sizeof former_names / sizeof former_names[0]; i++) {
    read_variable(former_names[i].name, &options[former_names[i].option]);
  }
  for (size_t i = 0; i < (size_t)_mi_option_last; i++) {
    read_variable(options[i].name, &options[i]);
  }
  errno = saved_errno;
}

bool mi_option_is_enabled(mi_option_t option) { return option_get(option) != 0; }

long mi_option_get(mi_option_t option) {
  if (option_find(option) == NULL) {
    log_error(EINVAL, __func__, "there is no option %d", (int)option);
  }
  return option_get(option);
}

long mi_option_get_clamp(mi_option_t option, long min, long max) {
  const long value = mi_option_get(option);
  return value < min ? min : value > max ? max : value;
}

size_t mi_option_get_size(mi_option_t option) {
  const long value = mi_option_get(option);
  if (value <= 0) return 0;
  size_t size;
  const size_t unit = options[option].unit == KIBIBYTES ? KiB : 1;
  return multiply_checked((size_t)value, unit, &size) ? size : SIZE_MAX;
}

void mi_option_set(mi_option_t option, long value) {
  struct option *found = option_find(option);
  if (found == NULL) {
    log_error(EINVAL, __func__, "there is no option %d", (int)option);
    return;
  }
  option_store(found, value);
}

void mi_option_set_default(mi_option_t option, long value) {
  struct option *found = option_find(option);
  if (found == NULL) {
    log_error(EINVAL, __func__, "there is no option %d", (int)option);
  } else if (atomic_load_acquire(&found->is_set) == 0) {
    option_store(found, value);
  }
}

void mi_option_set_enabled(mi_option_t option, bool enable) {
  mi_option_set(option, enable ? 1 : 0);
}

void mi_option_set_enabled_default(mi_option_t option, bool enable) {
  mi_option_set_default(option, enable ? 1 : 0);
}

void mi_option_enable(mi_option_t option) { mi_option_set(option, 1); }

void mi_option_disable(mi_option_t option) { mi_option_set(option, 0); }

void mi_options_print(void) {
  for (size_t i = 0; i < (size_t)_mi_option_last; i++) {
    const struct option *option = &options[i];
    if (option->ignored) {
      log_print(NULL, NULL, "option %s: accepted and ignored\n", option->name);
    } else {
      log_print(NULL, NULL, "option %s: %ld%s%s\n", option->name, option_value(option),
                option->unit == KIBIBYTES ? " KiB" : "",
                atomic_load_acquire(&option->is_set) != 0 ? "" : " (default)");
    }
  }
}
