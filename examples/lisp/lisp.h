/* lisp.h - the state of the interpreter, and errors.
 *
 * Invariant: whenever an object is made, every other one that is still needed can be
 * reached from the roots, since that is when the collector may run (collector.c):
 *   the value stack, from stack to registers.top
 *   registers.code and registers.environment
 *   the symbols, whose global variables refer to everything that has a name
 *   the compiler's scope, constants and file, and lisp->arguments
 * C code that makes two objects keeps the first one on the value stack, or in one of the
 * arguments it was called with (they lie there, too), while it makes the second.
 *
 * The value stack also holds the calls of Lisp functions that wait for a result, so deep
 * recursion of a Lisp program fills this stack, which is checked, and never the stack of
 * C. Where C does recur, on nested data, LISP_NESTING_MAX is the limit.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_LISP_H
#define LISP_LISP_H

#include "code.h"
#include "collector.h"
#include "compile.h"
#include "memory.h"
#include <setjmp.h>
#include <stdio.h>

/* How deep lists may be nested in each other to be read, compiled, printed, compared. */
#define LISP_NESTING_MAX 2000

/* Values on the value stack, and how many more fit for C code that does not check. */
#define LISP_STACK_SIZE ((size_t)4 << 20)
#define LISP_STACK_SPARE ((size_t)64)

#define LISP_BUILTINS_MAX 256

/* The machine; see run.c. */
typedef struct registers_s {
  const instruction_t *next; /* the instruction to run next */
  value_t *top;              /* the first free place of the value stack */
  value_t *frame;            /* where the running function's return record lies */
  value_t code;              /* the running code, VALUE_NIL for none */
  value_t environment;
} registers_t;

struct builtin_definition_s;

struct lisp_s {
  memory_t memory;
  collector_t collector;

  registers_t registers;
  value_t *stack;
  value_t *stack_limit;

  value_t *symbols; /* an open hash table of interned symbols */
  size_t symbol_capacity;
  size_t symbol_count;

  const struct builtin_definition_s *builtins[LISP_BUILTINS_MAX];
  uint32_t builtin_count;
  const struct builtin_definition_s *builtin; /* the one that runs */

  compiler_t compiler;
  char *buffer; /* for text that is being read */
  size_t buffer_capacity;
  FILE *file; /* closed if an error ends the reading of it */

  value_t arguments; /* what (command-line) returns */
  uint32_t random;
  uint64_t start_time;

  jmp_buf *recover;        /* where errors go */
  const char *source_file; /* what was read last, for errors outside of Lisp code */
  uint32_t source_line;
  bool exiting; /* (exit) was called */
  int exit_code;
  char text[2][80]; /* for lisp_text */
  unsigned text_next;
  char message[600]; /* of the last error: one line, without a newline */
};

/* Start the interpreter, with limit bytes for live objects (0: no limit). Returns true,
 * or false with lisp->message set. In both cases lisp_stop must follow. */
bool lisp_start(lisp_t *lisp, size_t limit);
void lisp_stop(lisp_t *lisp);

/* Run body(lisp, argument). Returns true when it returned; false when it ended with an
 * error, whose message is lisp->message, or with lisp->exiting. */
bool lisp_try(lisp_t *lisp, void (*body)(lisp_t *lisp, void *argument), void *argument);

/* End the running lisp_try with an error. The message gets in front of it the place in
 * the source, as "file:line: ", as far as it is known. */
_Noreturn void lisp_error(lisp_t *lisp, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same, for an error in the source at a place that the caller knows. */
_Noreturn void lisp_error_at(lisp_t *lisp, const char *file, uint32_t line,
                             const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* End the running lisp_try because the program asked for it. */
_Noreturn void lisp_exit(lisp_t *lisp, int code);

/* Where in the source the program is: the innermost call outside the library. Returns its
 * file, a string, or VALUE_NIL if no program runs. */
value_t lisp_place(const lisp_t *lisp, uint32_t *line);

/* A value as it is written, cut to a short text, for messages. The texts of the last two
 * calls stay valid. */
const char *lisp_text(lisp_t *lisp, value_t value);

/* Keep a value on the value stack. Returns its place there. */
value_t *lisp_push(lisp_t *lisp, value_t value);

/* Drop the last value kept, and return it. */
value_t lisp_pop(lisp_t *lisp);

/* Make lisp->buffer hold size bytes. Returns false if there is no memory for it. */
bool lisp_reserve_buffer(lisp_t *lisp, size_t size);

/* Call a Lisp function without arguments and return its result (run.c). Not from code
 * that Lisp itself has called: there is one machine. */
value_t lisp_call(lisp_t *lisp, value_t function);

/* The symbol of that name (symbol.c). */
value_t symbol_intern(lisp_t *lisp, const char *text, size_t length);
value_t symbol_named(lisp_t *lisp, const char *text);

/* Run the part of the library that is written in Lisp (prelude.c). */
void prelude_load(lisp_t *lisp);

/* Microseconds of a clock that does not jump. */
uint64_t clock_microseconds(void);

#endif /* LISP_LISP_H */
