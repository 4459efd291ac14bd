/* log.h - messages and errors.
 *
 * Invariant: nothing is printed unasked. A message goes to the output function that the
 * user registered; without one it goes to standard error, and only when an option asks
 * for messages of its kind. An error always reaches the registered error function, with
 * its code, whether or not its line is printed.
 *
 * No function here allocates, so they may be called from inside the allocator.
 */
#ifndef MIRT_BASE_LOG_H
#define MIRT_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include <mimalloc.h>

/* Print a formatted text, cut at 512 bytes, through out, or the registered output
 * function, or to standard error. */
void log_print(mi_output_fun *out, void *arg, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Report bad input or a failure the caller can see: sets errno to code, prints one line
 * that starts with the function's name, calls the registered error function. */
void log_error(int code, const char *function, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* Report a failure of the system that the caller need not see: the same, but errno stays. */
void log_failure(int code, const char *function, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* Report a program that corrupts memory (double free, invalid pointer): as log_error, then
 * abort when the option corruption_is_fatal is on. */
void log_corruption(int code, const char *function, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* A warning: printed when the option verbose is on, never an error. */
void log_warning(const char *function, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

#endif
