/* compile.h - from forms to code.
 *
 * Invariant: one form at top level is compiled at a time. What the compiler collects
 * meanwhile lies in buffers of its own, which are used again for the next form; the code
 * object is made from them at the end, in one piece.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_COMPILE_H
#define LISP_COMPILE_H

#include "code.h"

typedef struct compiler_s {
  value_t file;  /* a string, or VALUE_NIL for the prelude */
  value_t scope; /* a list of ribs, innermost first; see scope.c */

  instruction_t *instructions;
  uint32_t instruction_count, instruction_capacity;
  function_t *functions;
  uint32_t function_count, function_capacity;
  value_t *constants;
  uint32_t constant_count, constant_capacity;

  uint32_t height;  /* values that the function being compiled has on the stack here */
  uint32_t highest; /* and at most */
  uint32_t nesting;
} compiler_t;

/* Compile a form to a function without arguments that evaluates it at top level. file is
 * a string or VALUE_NIL. The two values must be reachable for the caller's part. */
value_t compile_form(lisp_t *lisp, value_t form, value_t file);

/* Free the compiler's buffers. */
void compiler_free(compiler_t *compiler);

/* What follows is for the special forms (syntax.c). Each function that compiles an
 * expression emits code that leaves one value on the stack; with tail set, code that also
 * returns it, as the last thing that the function does. */

void compile_expression(lisp_t *lisp, value_t form, uint32_t line, bool tail);
void compile_sequence(lisp_t *lisp, value_t forms, uint32_t line, bool tail);
void compile_constant(lisp_t *lisp, value_t constant, uint32_t line);
void compile_call(lisp_t *lisp, uint32_t count, uint32_t line, bool tail);
/* A list of expressions, each one leaving its value. Returns how many. */
uint32_t compile_each(lisp_t *lisp, value_t forms, uint32_t line);

/* A function. name is a symbol; parameters are as in scope_open, improper for rest
 * parameters. */
void compile_lambda(lisp_t *lisp, value_t name, value_t parameters, value_t body,
                    uint32_t line);

/* Reading a variable, and storing the top of the stack in one. */
void compile_variable(lisp_t *lisp, value_t symbol, uint32_t line);
void compile_assignment(lisp_t *lisp, value_t symbol, uint32_t line);

/* Emit an instruction; returns its index. */
uint32_t emit(lisp_t *lisp, operation_t operation, uint32_t depth, uint32_t operand,
              uint32_t line);
/* Make the jump at index lead to the next instruction to be emitted. */
void patch(lisp_t *lisp, uint32_t index);
/* Emit a jump to the instruction at index. */
void emit_jump_back(lisp_t *lisp, uint32_t index, uint32_t line);
/* End an expression whose value is on the stack: return it if this is the tail. */
void finish(lisp_t *lisp, uint32_t line, bool tail);

uint32_t constant_index(lisp_t *lisp, value_t constant);

_Noreturn void syntax_error(lisp_t *lisp, uint32_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The line of a form: its own if it has one, else that of what is around it. */
static inline uint32_t form_line(value_t form, uint32_t line) {
  return value_is_pair(form) && pair_line(form) != 0 ? pair_line(form) : line;
}

/* scope.c: which variable a symbol means. */

typedef struct variable_s {
  bool local;
  bool checked;   /* may be read before it has a value */
  uint32_t depth; /* environments from the innermost one outwards */
  uint32_t index;
} variable_t;

/* Open a rib: names is a list of symbols, perhaps an improper one or just a symbol, or of
 * bindings (name value); the first `set` of them have values from the start. Definitions
 * in body (a list of forms; VALUE_NIL for none) are added. Returns the number of
 * variables; 0 means that there will be no environment. */
uint32_t scope_open(lisp_t *lisp, value_t names, uint32_t set, value_t body,
                    uint32_t line);
void scope_close(lisp_t *lisp);
variable_t scope_find(lisp_t *lisp, value_t symbol);
/* Is symbol defined by the innermost rib? */
bool scope_defines(lisp_t *lisp, value_t symbol);

/* syntax.c: the special forms. */

typedef void syntax_function_t(lisp_t *lisp, value_t form, uint32_t line, bool tail);

typedef struct syntax_s {
  const char *name;
  syntax_function_t *compile;
  int parts_min; /* how many parts after the name */
  int parts_max; /* -1: any number */
} syntax_t;

/* The one special form that has a file of its own, quasiquote.c. */
syntax_function_t compile_quasiquote;

/* Mark the symbols that name special forms. */
void syntax_start(lisp_t *lisp);
/* The special form that the head of a form names here, or NULL. */
const syntax_t *syntax_of(lisp_t *lisp, value_t head);
/* Is this form a definition (define ...) or a (begin ...)? */
bool syntax_is_define(lisp_t *lisp, value_t form);
bool syntax_is_begin(lisp_t *lisp, value_t form);
/* The symbol that a (define ...) form defines. Checks the form. */
value_t syntax_defined_name(lisp_t *lisp, value_t form, uint32_t line);

#endif /* LISP_COMPILE_H */
