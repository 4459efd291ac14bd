#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/option.h"

#define LINE_BYTES 512

/* Function and argument are two words: a reader that sees a new function with an old
 * argument is possible only while one registers, which the interface asks to do before
 * other threads run. */
static atomic_word output_function, output_argument;
static atomic_word error_function, error_argument;
static atomic_word error_count, warning_count;

void mi_register_output(mi_output_fun *out, void *arg) {
  atomic_store_release(&output_argument, (uintptr_t)arg);
  atomic_store_release(&output_function, (uintptr_t)out);
}

void mi_register_error(mi_error_fun *fun, void *arg) {
  atomic_store_release(&error_argument, (uintptr_t)arg);
  atomic_store_release(&error_function, (uintptr_t)fun);
}

static void write_standard_error(const char *text) {
  size_t left = strlen(text);
  while (left > 0) {
    const ssize_t written = write(STDERR_FILENO, text, left);
    if (written <= 0) {
      if (written < 0 && errno == EINTR) continue;
      return;
    }
    text += written;
    left -= (size_t)written;
  }
}

static void print_text(mi_output_fun *out, void *arg, const char *text) {
  if (out == NULL) {
    out = (mi_output_fun *)atomic_load_acquire(&output_function);
    arg = (void *)atomic_load_acquire(&output_argument);
  }
  if (out != NULL) {
    out(text, arg);
  } else {
    write_standard_error(text);
  }
}

void log_print(mi_output_fun *out, void *arg, const char *format, ...) {
  char text[LINE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  print_text(out, arg, text);
}

static void print_line(const char *kind, const char *function, const char *format,
                       va_list arguments) {
  char text[LINE_BYTES];
  int used = snprintf(text, sizeof text, "mirt: %s: %s: ", kind, function);
  if (used < 0) return;
  const size_t room = sizeof text - (size_t)used - 1;
  const int more = vsnprintf(text + used, room, format, arguments);
  if (more > 0) used += (size_t)more < room ? more : (int)room - 1;
  text[used] = '\n';
  text[used + 1] = 0;
  print_text(NULL, NULL, text);
}

/* Was printing asked for, and is the limit on lines of this kind not reached yet? */
static bool may_print(mi_option_t asked, mi_option_t limit, atomic_word *count) {
  if (atomic_load_acquire(&output_function) == 0 && option_get(asked) == 0) return false;
  const long most = option_get(limit);
  return most < 0 || (long)atomic_fetch_add_full(count, 1) < most;
}

static void report(int code, const char *function, const char *format,
                   va_list arguments) {
  if (may_print(mi_option_show_errors, mi_option_max_errors, &error_count)) {
    print_line("error", function, format, arguments);
  }
  mi_error_fun *fun = (mi_error_fun *)atomic_load_acquire(&error_function);
  if (fun != NULL) fun(code, (void *)atomic_load_acquire(&error_argument));
  errno = code;
}

void log_error(int code, const char *function, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report(code, function, format, arguments);
  va_end(arguments);
}

void log_failure(int code, const char *function, const char *format, ...) {
  const int saved_errno = errno;
  va_list arguments;
  va_start(arguments, format);
  report(code, function, format, arguments);
  va_end(arguments);
  errno = saved_errno;
}

void log_corruption(int code, const char *function, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report(code, function, format, arguments);
  va_end(arguments);
  if (option_get(mi_option_corruption_is_fatal) != 0) abort();
}

void log_warning(const char *function, const char *format, ...) {
  if (option_get(mi_option_verbose) == 0) return;
  if (!may_print(mi_option_verbose, mi_option_max_warnings, &warning_count)) return;
  va_list arguments;
  va_start(arguments, format);
  print_line("warning", function, format, arguments);
  va_end(arguments);
}
