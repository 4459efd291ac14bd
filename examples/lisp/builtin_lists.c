/* builtin_lists.c - pairs and lists.
 *
 * Invariant: a function that builds a list keeps what it has in one of its argument
 * places, so it is reachable whenever another pair is made.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "builtin.h"
#include "table.h"

static value_t cons(lisp_t *lisp, arguments_t arguments) {
  return pair_new(lisp, arguments.values[0], arguments.values[1]);
}

static value_t get_car(lisp_t *lisp, arguments_t arguments) {
  return expect_pair(lisp, arguments.values[0])->car;
}

static value_t get_cdr(lisp_t *lisp, arguments_t arguments) {
  return expect_pair(lisp, arguments.values[0])->cdr;
}

/* cadr and its like: the letters of the name between c and r, from right to left. */
static value_t get_path(lisp_t *lisp, arguments_t arguments) {
  const char *name = lisp->builtin->name;
  value_t value = arguments.values[0];
  for (size_t i = strlen(name) - 2; i > 0; i--) {
    if (!value_is_pair(value)) wrong_type(lisp, "a longer list", arguments.values[0]);
    value = name[i] == 'a' ? car(value) : cdr(value);
  }
  return value;
}

static value_t set_car(lisp_t *lisp, arguments_t arguments) {
  expect_pair(lisp, arguments.values[0])->car = arguments.values[1];
  return VALUE_UNSPECIFIED;
}

static value_t set_cdr(lisp_t *lisp, arguments_t arguments) {
  expect_pair(lisp, arguments.values[0])->cdr = arguments.values[1];
  return VALUE_UNSPECIFIED;
}

static value_t is_null(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  return boolean_value(arguments.values[0] == VALUE_NIL);
}

static value_t is_list(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  value_t slow = arguments.values[0];
  value_t fast = slow;
  while (value_is_pair(fast) && value_is_pair(cdr(fast))) {
    slow = cdr(slow);
    fast = cdr(cdr(fast));
    if (slow == fast) return VALUE_FALSE;
  }
  return boolean_value(fast == VALUE_NIL ||
                       (value_is_pair(fast) && cdr(fast) == VALUE_NIL));
}

static value_t list(lisp_t *lisp, arguments_t arguments) {
  value_t result = VALUE_NIL;
  for (uint32_t i = arguments.count; i > 0; i--) {
    result = pair_new(lisp, arguments.values[i - 1], result);
    arguments.values[i - 1] = result;
  }
  return result;
}

/* (cons* item ... list) */
static value_t cons_star(lisp_t *lisp, arguments_t arguments) {
  value_t result = arguments.values[arguments.count - 1];
  for (uint32_t i = arguments.count - 1; i > 0; i--) {
    result = pair_new(lisp, arguments.values[i - 1], result);
    arguments.values[i - 1] = result;
  }
  return result;
}

static value_t length(lisp_t *lisp, arguments_t arguments) {
  return checked_fixnum(lisp, (int64_t)expect_list(lisp, arguments.values[0]));
}

/* Copy *place, a list, with rest as its end; *place becomes the copy. */
static void append_copy(lisp_t *lisp, value_t *place, value_t *rest) {
  value_t *end = place;
  pair_t *last = NULL;
  for (value_t from = *place; from != VALUE_NIL; from = cdr(from)) {
    const value_t pair = pair_new(lisp, car(from), cdr(from));
    *end = pair;
    last = value_pair(pair);
    end = &last->cdr;
  }
  *end = *rest;
}

static value_t append(lisp_t *lisp, arguments_t arguments) {
  if (arguments.count == 0) return VALUE_NIL;
  for (uint32_t i = arguments.count - 1; i > 0; i--) {
    expect_list(lisp, arguments.values[i - 1]);
    append_copy(lisp, &arguments.values[i - 1], &arguments.values[i]);
  }
  return arguments.values[0];
}

static value_t reverse(lisp_t *lisp, arguments_t arguments) {
  expect_list(lisp, arguments.values[0]);
  value_t result = VALUE_NIL;
  value_t *place = lisp_push(lisp, VALUE_NIL);
  for (value_t rest = arguments.values[0]; rest != VALUE_NIL; rest = cdr(rest)) {
    *place = result = pair_new(lisp, car(rest), result);
  }
  return result;
}

/* Reverse a list in place in front of another one. */
static value_t reverse_onto(lisp_t *lisp, value_t list, value_t result) {
  expect_list(lisp, list);
  while (list != VALUE_NIL) {
    pair_t *pair = value_pair(list);
    const value_t rest = pair->cdr;
    pair->cdr = result;
    result = list;
    list = rest;
  }
  return result;
}

static value_t reverse_in_place(lisp_t *lisp, arguments_t arguments) {
  return reverse_onto(lisp, arguments.values[0], VALUE_NIL);
}

static value_t append_reverse(lisp_t *lisp, arguments_t arguments) {
  return reverse_onto(lisp, arguments.values[0], arguments.values[1]);
}

static value_t list_tail(lisp_t *lisp, arguments_t arguments) {
  value_t rest = arguments.values[0];
  for (size_t i = expect_index(lisp, arguments.values[1], 0, FIXNUM_MAX); i > 0; i--) {
    if (!value_is_pair(rest)) wrong_type(lisp, "a longer list", arguments.values[0]);
    rest = cdr(rest);
  }
  return rest;
}

static value_t list_ref(lisp_t *lisp, arguments_t arguments) {
  const value_t rest = list_tail(lisp, arguments);
  if (!value_is_pair(rest)) wrong_type(lisp, "a longer list", arguments.values[0]);
  return car(rest);
}

/* The first pair of a list whose item equals, or is, the key; #f if there is none. */
static value_t find_item(lisp_t *lisp, arguments_t arguments, bool same) {
  const value_t key = arguments.values[0];
  expect_list(lisp, arguments.values[1]);
  for (value_t rest = arguments.values[1]; rest != VALUE_NIL; rest = cdr(rest)) {
    if (same ? car(rest) == key : values_equal(lisp, car(rest), key)) return rest;
  }
  return VALUE_FALSE;
}

static value_t memq(lisp_t *lisp, arguments_t arguments) {
  return find_item(lisp, arguments, true);
}

static value_t member(lisp_t *lisp, arguments_t arguments) {
  return find_item(lisp, arguments, false);
}

/* The first pair in a list of pairs whose car equals, or is, the key; else #f. */
static value_t find_pair(lisp_t *lisp, arguments_t arguments, bool same) {
  const value_t key = arguments.values[0];
  expect_list(lisp, arguments.values[1]);
  for (value_t rest = arguments.values[1]; rest != VALUE_NIL; rest = cdr(rest)) {
    const value_t found = expect_pair(lisp, car(rest))->car;
    if (same ? found == key : values_equal(lisp, found, key)) return car(rest);
  }
  return VALUE_FALSE;
}

static value_t assq(lisp_t *lisp, arguments_t arguments) {
  return find_pair(lisp, arguments, true);
}

static value_t assoc(lisp_t *lisp, arguments_t arguments) {
  return find_pair(lisp, arguments, false);
}

/* (iota count [start [step]]) */
static value_t iota(lisp_t *lisp, arguments_t arguments) {
  const size_t count = expect_index(lisp, arguments.values[0], 0, FIXNUM_MAX);
  const int64_t start =
      arguments.count > 1 ? expect_fixnum(lisp, arguments.values[1]) : 0;
  const int64_t step = arguments.count > 2 ? expect_fixnum(lisp, arguments.values[2]) : 1;
  value_t result = VALUE_NIL;
  for (size_t i = count; i > 0; i--) {
    const value_t number = checked_fixnum(lisp, start + step * (int64_t)(i - 1));
    arguments.values[0] = result = pair_new(lisp, number, result);
  }
  return result;
}

const builtin_definition_t builtin_lists[] = {
    {"cons", cons, 2, 2, 0},
    {"car", get_car, 1, 1, 0},
    {"cdr", get_cdr, 1, 1, 0},
    {"caar", get_path, 1, 1, 0},
    {"cadr", get_path, 1, 1, 0},
    {"cdar", get_path, 1, 1, 0},
    {"cddr", get_path, 1, 1, 0},
    {"caddr", get_path, 1, 1, 0},
    {"cdddr", get_path, 1, 1, 0},
    {"cadddr", get_path, 1, 1, 0},
    {"set-car!", set_car, 2, 2, 0},
    {"set-cdr!", set_cdr, 2, 2, 0},
    {"null?", is_null, 1, 1, 0},
    {"list?", is_list, 1, 1, 0},
    {"list", list, 0, BUILTIN_ANY, 0},
    {"cons*", cons_star, 1, BUILTIN_ANY, 0},
    {"length", length, 1, 1, 0},
    {"append", append, 0, BUILTIN_ANY, 0},
    {"reverse", reverse, 1, 1, 0},
    {"reverse!", reverse_in_place, 1, 1, 0},
    {"append-reverse!", append_reverse, 2, 2, 0},
    {"list-tail", list_tail, 2, 2, 0},
    {"list-ref", list_ref, 2, 2, 0},
    {"memq", memq, 2, 2, 0},
    {"memv", memq, 2, 2, 0},
    {"member", member, 2, 2, 0},
    {"assq", assq, 2, 2, 0},
    {"assv", assq, 2, 2, 0},
    {"assoc", assoc, 2, 2, 0},
    {"iota", iota, 1, 3, 0},
    {0},
};
