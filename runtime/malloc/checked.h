/* checked.h - the checks of arguments that the malloc families share. Each reports what is
 * wrong and says whether to go on. */
#ifndef MIRT_MALLOC_CHECKED_H
#define MIRT_MALLOC_CHECKED_H

#include <errno.h>

#include "base/bits.h"
#include "base/log.h"

/* Multiply, or report ENOMEM. */
static inline bool count_times_size(const char *function, size_t count, size_t size,
                                    size_t *total) {
  if (likely(multiply_checked(count, size, total))) return true;
  log_error(ENOMEM, function, "%zu times %zu bytes is too much", count, size);
  return false;
}

/* A power of two, or report EINVAL. */
static inline bool alignment_is_valid(const char *function, size_t alignment) {
  if (likely(is_power_of_two(alignment))) return true;
  log_error(EINVAL, function, "alignment %zu is not a power of two", alignment);
  return false;
}

#endif
