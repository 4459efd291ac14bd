/* quasiquote.c - the special form `: a template with holes.
 *
 * Invariant: a template becomes calls of cons, append, list and list->vector as they were
 * when the interpreter started, whatever a program calls by these names.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "builtin.h"
#include "lisp.h"

static void quasiquote(lisp_t *lisp, value_t form, uint32_t level, uint32_t line);

static void compile_builtin(lisp_t *lisp, const char *name, uint32_t line) {
  compile_constant(lisp, builtin_named(lisp, name), line);
}

/* (unquote form), (quasiquote form): is it one of these, with exactly one part? */
static bool is_quotation(value_t form, const char *name) {
  return value_is_pair(form) && symbol_is(car(form), name) && value_is_pair(cdr(form)) &&
         cdr(cdr(form)) == VALUE_NIL;
}

/* A list: (cons item (cons item ... end)), or append where an item is spliced in. */
static void quasiquote_list(lisp_t *lisp, value_t form, uint32_t level, uint32_t line) {
  uint32_t items = 0;
  for (; value_is_pair(form); form = cdr(form), items++) {
    if (items > 0 &&
        (is_quotation(form, "unquote") || is_quotation(form, "quasiquote"))) {
      break;
    }
    if (level == 1 && is_quotation(car(form), "unquote-splicing")) {
      compile_builtin(lisp, "append", line);
      compile_expression(lisp, car(cdr(car(form))), form_line(form, line), false);
    } else {
      compile_builtin(lisp, "cons", line);
      quasiquote(lisp, car(form), level, form_line(form, line));
    }
  }
  if (value_is_pair(form)) {
    quasiquote(lisp, form, level, line);
  } else {
    compile_constant(lisp, form, line);
  }
  for (; items > 0; items--) compile_call(lisp, 2, line, false);
}

static void quasiquote_vector(lisp_t *lisp, value_t form, uint32_t level, uint32_t line) {
  value_t *list = lisp_push(lisp, VALUE_NIL);
  for (uint32_t i = value_vector(form)->object.count; i > 0; i--) {
    *list = pair_new(lisp, value_vector(form)->items[i - 1], *list);
  }
  compile_builtin(lisp, "list->vector", line);
  quasiquote_list(lisp, *list, level, line);
  compile_call(lisp, 1, line, false);
  lisp_pop(lisp);
}

static void quasiquote(lisp_t *lisp, value_t form, uint32_t level, uint32_t line) {
  if (lisp->compiler.nesting++ >= LISP_NESTING_MAX) {
    syntax_error(lisp, line, "expression nested too deeply");
  }
  const bool unquote = is_quotation(form, "unquote");
  if (unquote && level == 1) {
    compile_expression(lisp, car(cdr(form)), form_line(form, line), false);
  } else if (unquote || is_quotation(form, "quasiquote")) {
    compile_builtin(lisp, "list", line);
    compile_constant(lisp, car(form), line);
    quasiquote(lisp, car(cdr(form)), unquote ? level - 1 : level + 1, line);
    compile_call(lisp, 2, line, false);
  } else if (value_is_pair(form)) {
    quasiquote_list(lisp, form, level, line);
  } else if (value_has_type(form, TYPE_VECTOR)) {
    quasiquote_vector(lisp, form, level, line);
  } else {
    compile_constant(lisp, form, line);
  }
  lisp->compiler.nesting--;
}

void compile_quasiquote(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  quasiquote(lisp, car(cdr(form)), 1, line);
  finish(lisp, line, tail);
}
