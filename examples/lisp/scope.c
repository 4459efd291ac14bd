/* scope.c - which variable a symbol means, while a form is compiled.
 *
 * Invariant: the scope is a list of ribs, innermost first; each rib that has names stands
 * for an environment that exists when the code runs. A rib is a pair of a fixnum and the
 * list of its names in the order of the environment's slots. The first so many names have
 * values from the start; the others are definitions, which could be used too early.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "lisp.h"

/* Where symbol is in a list, or -1. */
static int64_t position(value_t names, value_t symbol) {
  for (int64_t i = 0; names != VALUE_NIL; names = cdr(names), i++) {
    if (car(names) == symbol) return i;
  }
  return -1;
}

/* Add a name in front of the names so far, which are in reverse order. */
static void add_name(lisp_t *lisp, value_t *names, value_t name, uint32_t line) {
  if (!value_is_symbol(name)) {
    syntax_error(lisp, line, "not a variable: %s", lisp_text(lisp, name));
  }
  if (position(*names, name) >= 0) {
    syntax_error(lisp, line, "variable given twice: %s", symbol_text(name));
  }
  *names = pair_new(lisp, name, *names);
}

static void add_definitions(lisp_t *lisp, value_t *names, value_t body, uint32_t line) {
  if (lisp->compiler.nesting++ >= LISP_NESTING_MAX) {
    syntax_error(lisp, line, "expression nested too deeply");
  }
  for (; value_is_pair(body); body = cdr(body)) {
    const value_t form = car(body);
    if (syntax_is_begin(lisp, form)) {
      add_definitions(lisp, names, cdr(form), form_line(form, line));
    } else if (syntax_is_define(lisp, form)) {
      const value_t name = syntax_defined_name(lisp, form, form_line(form, line));
      if (position(*names, name) < 0) add_name(lisp, names, name, line);
    }
  }
  lisp->compiler.nesting--;
}

/* Reverse a list in place; add its length to count. */
static value_t reverse(value_t list, uint32_t *count) {
  value_t reversed = VALUE_NIL;
  while (list != VALUE_NIL) {
    pair_t *pair = value_pair(list);
    const value_t rest = pair->cdr;
    pair->cdr = reversed;
    reversed = list;
    list = rest;
    ++*count;
  }
  return reversed;
}

uint32_t scope_open(lisp_t *lisp, value_t names, uint32_t set, value_t body,
                    uint32_t line) {
  lisp_push(lisp, names);
  value_t *list = lisp_push(lisp, VALUE_NIL);
  for (; value_is_pair(names); names = cdr(names)) {
    const value_t item = car(names);
    add_name(lisp, list, value_is_pair(item) ? car(item) : item, line);
  }
  if (names != VALUE_NIL) add_name(lisp, list, names, line);
  add_definitions(lisp, list, body, line);

  uint32_t count = 0;
  *list = reverse(*list, &count);
  if (count > UINT16_MAX) syntax_error(lisp, line, "too many variables");
  *list = pair_new(lisp, fixnum_value((int32_t)set), *list);
  lisp->compiler.scope = pair_new(lisp, *list, lisp->compiler.scope);
  lisp_pop(lisp);
  lisp_pop(lisp);
  return count;
}

void scope_close(lisp_t *lisp) { lisp->compiler.scope = cdr(lisp->compiler.scope); }

variable_t scope_find(lisp_t *lisp, value_t symbol) {
  variable_t variable = {0};
  for (value_t ribs = lisp->compiler.scope; ribs != VALUE_NIL; ribs = cdr(ribs)) {
    const value_t rib = car(ribs);
    const int64_t index = position(cdr(rib), symbol);
    if (index >= 0) {
      variable.local = true;
      variable.checked = index >= value_fixnum(car(rib));
      variable.index = (uint32_t)index;
      break;
    }
    variable.depth += cdr(rib) != VALUE_NIL;
  }
  return variable;
}

bool scope_defines(lisp_t *lisp, value_t symbol) {
  return position(cdr(car(lisp->compiler.scope)), symbol) >= 0;
}
