/* lisp.c - starting and stopping the interpreter, errors, the value stack.
 *
 * Invariant: an error unwinds to lisp_try in one jump, and nobody in between holds
 * anything that must be freed: objects are the collector's, buffers lisp_t's.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "lisp.h"
#include "builtin.h"
#include "printer.h"
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

uint64_t clock_microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void load_library(lisp_t *lisp, void *argument) {
  (void)argument;
  syntax_start(lisp);
  builtin_start(lisp);
  prelude_load(lisp);
}

bool lisp_start(lisp_t *lisp, size_t limit) {
  *lisp = (lisp_t){.start_time = clock_microseconds(), .random = 1};
  const int error = memory_start(&lisp->memory, limit, collector_on_full, lisp);
  if (error != 0) {
    snprintf(lisp->message, sizeof lisp->message, "cannot reserve memory for objects: %s",
             strerror(error));
    return false;
  }
  lisp->stack = mi_mallocn(LISP_STACK_SIZE, sizeof(value_t));
  if (lisp->stack == NULL) {
    snprintf(lisp->message, sizeof lisp->message, "out of memory");
    return false;
  }
  lisp->stack_limit = lisp->stack + LISP_STACK_SIZE - LISP_STACK_SPARE;
  return lisp_try(lisp, load_library, NULL);
}

void lisp_stop(lisp_t *lisp) {
  memory_stop(&lisp->memory);
  compiler_free(&lisp->compiler);
  mi_free(lisp->buffer);
  mi_free(lisp->symbols);
  mi_free(lisp->stack);
}

bool lisp_try(lisp_t *lisp, void (*body)(lisp_t *lisp, void *argument), void *argument) {
  jmp_buf here;
  lisp->recover = &here;
  lisp->source_file = NULL;
  lisp->registers = (registers_t){.top = lisp->stack,
                                  .frame = lisp->stack,
                                  .code = VALUE_NIL,
                                  .environment = VALUE_NIL};
  if (setjmp(here) != 0) {
    if (lisp->file != NULL) fclose(lisp->file);
    lisp->file = NULL;
    return false;
  }
  body(lisp, argument);
  return true;
}

void lisp_exit(lisp_t *lisp, int code) {
  lisp->exiting = true;
  lisp->exit_code = code;
  longjmp(*lisp->recover, 1);
}

/* Leave with a message "file:line: text", without the place if file is NULL. */
static _Noreturn void fail(lisp_t *lisp, const char *file, uint32_t line,
                           const char *format, va_list arguments) {
  char text[sizeof lisp->message];
  vsnprintf(text, sizeof text, format, arguments);
  const size_t size = sizeof lisp->message;
  int used = 0;
  if (file != NULL) {
    used = snprintf(lisp->message, size, "%.250s:%u: ", file, (unsigned)line);
  }
  snprintf(lisp->message + used, size - (size_t)used, "%s", text);
  for (char *c = lisp->message; *c != 0; c++) {
    if ((unsigned char)*c < ' ') *c = ' ';
  }
  longjmp(*lisp->recover, 1);
}

value_t lisp_place(const lisp_t *lisp, uint32_t *line) {
  value_t code = lisp->registers.code;
  const instruction_t *next = lisp->registers.next;
  const value_t *frame = lisp->registers.frame;
  while (code != VALUE_NIL && value_code(code)->file == VALUE_NIL) {
    code = frame[0];
    if (code == VALUE_NIL) break;
    next = code_instructions(value_code(code)) + value_fixnum(frame[2]);
    frame = lisp->stack + value_fixnum(frame[3]);
  }
  if (code == VALUE_NIL) return VALUE_NIL;
  *line = next[-1].line;
  return value_code(code)->file;
}

void lisp_error(lisp_t *lisp, const char *format, ...) {
  uint32_t line = lisp->source_line;
  const value_t file = lisp_place(lisp, &line);
  const char *name = file == VALUE_NIL ? lisp->source_file : value_string(file)->text;
  va_list arguments;
  va_start(arguments, format);
  fail(lisp, name, line, format, arguments);
}

void lisp_error_at(lisp_t *lisp, const char *file, uint32_t line, const char *format,
                   ...) {
  va_list arguments;
  va_start(arguments, format);
  fail(lisp, file, line, format, arguments);
}

const char *lisp_text(lisp_t *lisp, value_t value) {
  char *text = lisp->text[lisp->text_next++ % 2];
  print_to_text(value, true, text, sizeof lisp->text[0]);
  return text;
}

bool lisp_reserve_buffer(lisp_t *lisp, size_t size) {
  if (size <= lisp->buffer_capacity) return true;
  const size_t capacity = size < 256 ? 256 : size * 2;
  char *larger = mi_realloc(lisp->buffer, capacity);
  if (larger == NULL) return false;
  lisp->buffer = larger;
  lisp->buffer_capacity = capacity;
  return true;
}

value_t *lisp_push(lisp_t *lisp, value_t value) {
  if (lisp->registers.top >= lisp->stack_limit) lisp_error(lisp, "recursion too deep");
  *lisp->registers.top = value;
  return lisp->registers.top++;
}

value_t lisp_pop(lisp_t *lisp) { return *--lisp->registers.top; }
