/* builtin.c - the list of builtins, and how they check their arguments.
 *
 * Invariant: lisp->builtins only grows, so the index in a builtin object stays right.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "builtin.h"

static const builtin_definition_t *const builtin_files[] = {
    builtin_numbers, builtin_lists, builtin_strings, builtin_tables, builtin_system,
};

#define FILE_COUNT (sizeof builtin_files / sizeof builtin_files[0])

static value_t builtin_new(lisp_t *lisp, uint32_t index) {
  value_t *name = lisp_push(lisp, symbol_named(lisp, lisp->builtins[index]->name));
  builtin_t *builtin = object_new(lisp, TYPE_BUILTIN, index, 0);
  builtin->name = *name;
  lisp_pop(lisp);
  return object_value(builtin);
}

void builtin_start(lisp_t *lisp) {
  for (size_t file = 0; file < FILE_COUNT; file++) {
    const builtin_definition_t *definition = builtin_files[file];
    for (; definition->name != NULL; definition++) {
      if (lisp->builtin_count == LISP_BUILTINS_MAX) lisp_error(lisp, "too many builtins");
      lisp->builtins[lisp->builtin_count] = definition;
      const value_t builtin = builtin_new(lisp, lisp->builtin_count++);
      value_symbol(((builtin_t *)value_object(builtin))->name)->global = builtin;
    }
  }
}

value_t builtin_named(lisp_t *lisp, const char *name) {
  uint32_t index = 0;
  while (strcmp(lisp->builtins[index]->name, name) != 0) index++;
  return builtin_new(lisp, index);
}

void wrong_type(lisp_t *lisp, const char *expected, value_t value) {
  lisp_error(lisp, "%s: expected %s, got %s", lisp->builtin->name, expected,
             lisp_text(lisp, value));
}

int32_t expect_fixnum(lisp_t *lisp, value_t value) {
  if (!value_is_fixnum(value)) wrong_type(lisp, "a number", value);
  return value_fixnum(value);
}

size_t expect_index(lisp_t *lisp, value_t value, size_t minimum, size_t maximum) {
  const int32_t index = expect_fixnum(lisp, value);
  if (index < 0 || (size_t)index < minimum || (size_t)index > maximum) {
    lisp_error(lisp, "%s: %d is out of range", lisp->builtin->name, (int)index);
  }
  return (size_t)index;
}

pair_t *expect_pair(lisp_t *lisp, value_t value) {
  if (!value_is_pair(value)) wrong_type(lisp, "a pair", value);
  return value_pair(value);
}

string_t *expect_string(lisp_t *lisp, value_t value) {
  if (!value_is_string(value)) wrong_type(lisp, "a string", value);
  return value_string(value);
}

value_t expect_symbol(lisp_t *lisp, value_t value) {
  if (!value_is_symbol(value)) wrong_type(lisp, "a symbol", value);
  return value;
}

vector_t *expect_vector(lisp_t *lisp, value_t value) {
  if (!value_has_type(value, TYPE_VECTOR)) wrong_type(lisp, "a vector", value);
  return value_vector(value);
}

unsigned char expect_character(lisp_t *lisp, value_t value) {
  if (!value_is_character(value)) wrong_type(lisp, "a character", value);
  return value_character(value);
}

/* Also ends for a list that is a circle: one of two walkers then meets the other. */
size_t expect_list(lisp_t *lisp, value_t value) {
  size_t length = 0;
  value_t slow = value;
  value_t fast = value;
  for (; value_is_pair(fast); length++) {
    fast = cdr(fast);
    if (length % 2 == 1) slow = cdr(slow);
    if (fast == slow && value_is_pair(fast)) {
      lisp_error(lisp, "%s: the list is circular", lisp->builtin->name);
    }
  }
  if (fast != VALUE_NIL) wrong_type(lisp, "a list", value);
  return length;
}

value_t checked_fixnum(lisp_t *lisp, int64_t number) {
  if (number < FIXNUM_MIN || number > FIXNUM_MAX) {
    lisp_error(lisp, "%s: the result %lld does not fit in 31 bits", lisp->builtin->name,
               (long long)number);
  }
  return fixnum_value((int32_t)number);
}
