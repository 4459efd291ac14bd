/* builtin_system.c - input and output, the clock, errors, compiling.
 *
 * Invariant: a file that is open while an error may happen is lisp->file, which lisp_try
 * closes then.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "builtin.h"
#include "printer.h"
#include "reader.h"
#include <errno.h>

static void print(lisp_t *lisp, value_t value, bool quote) {
  const char *problem = print_to_file(value, quote, stdout);
  if (problem != NULL) lisp_error(lisp, "%s: %s", lisp->builtin->name, problem);
}

static value_t display(lisp_t *lisp, arguments_t arguments) {
  print(lisp, arguments.values[0], false);
  return VALUE_UNSPECIFIED;
}

static value_t write_(lisp_t *lisp, arguments_t arguments) {
  print(lisp, arguments.values[0], true);
  return VALUE_UNSPECIFIED;
}

static value_t newline(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  (void)arguments;
  putchar('\n');
  return VALUE_UNSPECIFIED;
}

/* (print item ...): the items as display does, a space between them, and a newline. */
static value_t print_line(lisp_t *lisp, arguments_t arguments) {
  for (uint32_t i = 0; i < arguments.count; i++) {
    if (i > 0) putchar(' ');
    print(lisp, arguments.values[i], false);
  }
  putchar('\n');
  return VALUE_UNSPECIFIED;
}

static FILE *open_file(lisp_t *lisp, const char *name) {
  FILE *file = fopen(name, "r");
  if (file == NULL) {
    lisp_error(lisp, "%s: cannot open %s: %s", lisp->builtin->name, name,
               strerror(errno));
  }
  return file;
}

/* Read what is left of a file to lisp->buffer. Returns 0 or an error code. */
static int read_all(lisp_t *lisp, FILE *file, size_t *length) {
  size_t got = 1;
  for (*length = 0; got > 0; *length += got) {
    if (!lisp_reserve_buffer(lisp, *length + 4096)) return ENOMEM;
    got = fread(lisp->buffer + *length, 1, lisp->buffer_capacity - *length, file);
  }
  return ferror(file) ? errno : 0;
}

/* (read-file name): the text of the file. */
static value_t read_file(lisp_t *lisp, arguments_t arguments) {
  const char *name = expect_string(lisp, arguments.values[0])->text;
  FILE *file = open_file(lisp, name);
  size_t length = 0;
  const int error = read_all(lisp, file, &length);
  fclose(file);
  if (error != 0) {
    lisp_error(lisp, "read-file: cannot read %s: %s", name, strerror(error));
  }
  return string_new(lisp, lisp->buffer, length);
}

/* (read-line): the next line of standard input, or the end-of-file object. */
static value_t read_line(lisp_t *lisp, arguments_t arguments) {
  (void)arguments;
  size_t length = 0;
  int c = getc_unlocked(stdin);
  if (c == EOF) return VALUE_EOF;
  for (; c != '\n' && c != EOF; c = getc_unlocked(stdin)) {
    if (!lisp_reserve_buffer(lisp, length + 1)) lisp_error(lisp, "out of memory");
    lisp->buffer[length++] = (char)c;
  }
  return length == 0 ? string_new(lisp, "", 0) : string_new(lisp, lisp->buffer, length);
}

static value_t is_eof(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  return boolean_value(arguments.values[0] == VALUE_EOF);
}

/* (read-forms name): a list of the forms in the file. */
static value_t read_forms(lisp_t *lisp, arguments_t arguments) {
  const char *name = expect_string(lisp, arguments.values[0])->text;
  lisp->file = open_file(lisp, name);
  reader_t reader = {.file = lisp->file, .name = name, .line = 1};
  value_t *list = lisp_push(lisp, VALUE_NIL);
  pair_t *last = NULL;
  for (;;) {
    const value_t form = read_form(lisp, &reader);
    if (form == VALUE_EOF) break;
    const value_t pair = pair_new(lisp, form, VALUE_NIL);
    *(last == NULL ? list : &last->cdr) = pair;
    last = value_pair(pair);
  }
  fclose(lisp->file);
  lisp->file = NULL;
  return *list;
}

/* (compile form [file]): a function without arguments that evaluates the form. file is
 * where the form was read; else it counts as part of the running program. */
static value_t compile(lisp_t *lisp, arguments_t arguments) {
  uint32_t line = 0;
  value_t file = lisp_place(lisp, &line);
  if (arguments.count > 1) {
    expect_string(lisp, arguments.values[1]);
    file = arguments.values[1];
  }
  lisp->source_line = line;
  return compile_form(lisp, arguments.values[0], file);
}

/* (error message item ...): the message as display does, the items as write does. */
static value_t error(lisp_t *lisp, arguments_t arguments) {
  char text[400];
  size_t used = 0;
  for (uint32_t i = 0; i < arguments.count && used + 20 < sizeof text; i++) {
    if (i > 0) text[used++] = ' ';
    const bool quote = i > 0 || !value_is_string(arguments.values[i]);
    print_to_text(arguments.values[i], quote, text + used, sizeof text - used);
    used += strlen(text + used);
  }
  lisp_error(lisp, "%s", text);
}

static value_t exit_(lisp_t *lisp, arguments_t arguments) {
  if (arguments.count == 0 || arguments.values[0] == VALUE_TRUE) lisp_exit(lisp, 0);
  if (arguments.values[0] == VALUE_FALSE) lisp_exit(lisp, 1);
  lisp_exit(lisp, (int)expect_index(lisp, arguments.values[0], 0, 255));
}

/* Milliseconds since the interpreter was started. */
static value_t time_ms(lisp_t *lisp, arguments_t arguments) {
  (void)arguments;
  const uint64_t elapsed = clock_microseconds() - lisp->start_time;
  return checked_fixnum(lisp, (int64_t)(elapsed / 1000));
}

static value_t command_line(lisp_t *lisp, arguments_t arguments) {
  (void)arguments;
  return lisp->arguments;
}

const builtin_definition_t builtin_system[] = {
    {"display", display, 1, 1, 0},
    {"write", write_, 1, 1, 0},
    {"newline", newline, 0, 0, 0},
    {"print", print_line, 0, BUILTIN_ANY, 0},
    {"read-file", read_file, 1, 1, 0},
    {"read-line", read_line, 0, 0, 0},
    {"eof-object?", is_eof, 1, 1, 0},
    {"read-forms", read_forms, 1, 1, 0},
    {"compile", compile, 1, 2, 0},
    {"apply", builtin_apply, 2, BUILTIN_ANY, 0},
    {"error", error, 1, BUILTIN_ANY, 0},
    {"exit", exit_, 0, 1, 0},
    {"time-ms", time_ms, 0, 0, 0},
    {"command-line", command_line, 0, 0, 0},
    {0},
};
