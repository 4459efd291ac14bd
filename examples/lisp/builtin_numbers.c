/* builtin_numbers.c - arithmetic, comparison, and what kind of value something is.
 *
 * Invariant: a result that does not fit in 31 bits is an error, never wrapped around.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "builtin.h"
#include "table.h"

static value_t add(lisp_t *lisp, arguments_t arguments) {
  value_t sum = fixnum_value(0);
  for (uint32_t i = 0; i < arguments.count; i++) {
    const int64_t number = expect_fixnum(lisp, arguments.values[i]);
    sum = checked_fixnum(lisp, value_fixnum(sum) + number);
  }
  return sum;
}

static value_t subtract(lisp_t *lisp, arguments_t arguments) {
  const int64_t first = expect_fixnum(lisp, arguments.values[0]);
  if (arguments.count == 1) return checked_fixnum(lisp, -first);
  value_t rest = fixnum_value((int32_t)first);
  for (uint32_t i = 1; i < arguments.count; i++) {
    const int64_t number = expect_fixnum(lisp, arguments.values[i]);
    rest = checked_fixnum(lisp, value_fixnum(rest) - number);
  }
  return rest;
}

static value_t multiply(lisp_t *lisp, arguments_t arguments) {
  value_t product = fixnum_value(1);
  for (uint32_t i = 0; i < arguments.count; i++) {
    const int64_t number = expect_fixnum(lisp, arguments.values[i]);
    product = checked_fixnum(lisp, value_fixnum(product) * number);
  }
  return product;
}

static int64_t expect_divisor(lisp_t *lisp, value_t value) {
  const int64_t divisor = expect_fixnum(lisp, value);
  if (divisor == 0) lisp_error(lisp, "%s: division by zero", lisp->builtin->name);
  return divisor;
}

static value_t divide(lisp_t *lisp, arguments_t arguments) {
  int64_t quotient = expect_fixnum(lisp, arguments.values[0]);
  for (uint32_t i = 1; i < arguments.count; i++) {
    const int64_t divisor = expect_divisor(lisp, arguments.values[i]);
    if (quotient % divisor != 0) {
      lisp_error(lisp, "/: %lld / %lld is not a whole number; use quotient",
                 (long long)quotient, (long long)divisor);
    }
    quotient /= divisor;
  }
  return checked_fixnum(lisp, quotient);
}

static value_t quotient(lisp_t *lisp, arguments_t arguments) {
  const int64_t number = expect_fixnum(lisp, arguments.values[0]);
  return checked_fixnum(lisp, number / expect_divisor(lisp, arguments.values[1]));
}

static value_t remainder_(lisp_t *lisp, arguments_t arguments) {
  const int64_t number = expect_fixnum(lisp, arguments.values[0]);
  return checked_fixnum(lisp, number % expect_divisor(lisp, arguments.values[1]));
}

static value_t modulo(lisp_t *lisp, arguments_t arguments) {
  const int64_t number = expect_fixnum(lisp, arguments.values[0]);
  const int64_t divisor = expect_divisor(lisp, arguments.values[1]);
  const int64_t rest = number % divisor;
  return checked_fixnum(lisp,
                        rest != 0 && (rest < 0) != (divisor < 0) ? rest + divisor : rest);
}

static value_t absolute(lisp_t *lisp, arguments_t arguments) {
  const int64_t number = expect_fixnum(lisp, arguments.values[0]);
  return checked_fixnum(lisp, number < 0 ? -number : number);
}

static value_t minimum(lisp_t *lisp, arguments_t arguments) {
  int32_t least = expect_fixnum(lisp, arguments.values[0]);
  for (uint32_t i = 1; i < arguments.count; i++) {
    const int32_t number = expect_fixnum(lisp, arguments.values[i]);
    if (number < least) least = number;
  }
  return fixnum_value(least);
}

static value_t maximum(lisp_t *lisp, arguments_t arguments) {
  int32_t most = expect_fixnum(lisp, arguments.values[0]);
  for (uint32_t i = 1; i < arguments.count; i++) {
    const int32_t number = expect_fixnum(lisp, arguments.values[i]);
    if (number > most) most = number;
  }
  return fixnum_value(most);
}

/* How two neighbours compare: bits for less, equal, greater. */
enum { LESS = 1, EQUAL = 2, GREATER = 4 };

/* Do all neighbours compare in one of the accepted ways? */
static value_t compare(lisp_t *lisp, arguments_t arguments, int accepted) {
  bool all = true;
  int32_t left = expect_fixnum(lisp, arguments.values[0]);
  for (uint32_t i = 1; i < arguments.count; i++) {
    const int32_t right = expect_fixnum(lisp, arguments.values[i]);
    const int order = left < right ? LESS : left > right ? GREATER : EQUAL;
    all = all && (order & accepted) != 0;
    left = right;
  }
  return boolean_value(all);
}

static value_t is_same_number(lisp_t *lisp, arguments_t arguments) {
  return compare(lisp, arguments, EQUAL);
}

static value_t is_less(lisp_t *lisp, arguments_t arguments) {
  return compare(lisp, arguments, LESS);
}

static value_t is_greater(lisp_t *lisp, arguments_t arguments) {
  return compare(lisp, arguments, GREATER);
}

static value_t is_not_greater(lisp_t *lisp, arguments_t arguments) {
  return compare(lisp, arguments, LESS | EQUAL);
}

static value_t is_not_less(lisp_t *lisp, arguments_t arguments) {
  return compare(lisp, arguments, GREATER | EQUAL);
}

static value_t is_zero(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(expect_fixnum(lisp, arguments.values[0]) == 0);
}

static value_t is_positive(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(expect_fixnum(lisp, arguments.values[0]) > 0);
}

static value_t is_negative(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(expect_fixnum(lisp, arguments.values[0]) < 0);
}

static value_t is_even(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(expect_fixnum(lisp, arguments.values[0]) % 2 == 0);
}

static value_t is_odd(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(expect_fixnum(lisp, arguments.values[0]) % 2 != 0);
}

/* A number below the argument. The sequence is the same in every run. */
static value_t random_below(lisp_t *lisp, arguments_t arguments) {
  const size_t limit = expect_index(lisp, arguments.values[0], 1, FIXNUM_MAX);
  lisp->random ^= lisp->random << 13;
  lisp->random ^= lisp->random >> 17;
  lisp->random ^= lisp->random << 5;
  return fixnum_value((int32_t)(lisp->random % limit));
}

/* The tests of one type: which one is in the builtin's definition. */
static value_t has_type(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(
      value_has_type(arguments.values[0], (object_type_t)lisp->builtin->type));
}

static value_t is_number(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  return boolean_value(value_is_fixnum(arguments.values[0]));
}

static value_t is_character(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  return boolean_value(value_is_character(arguments.values[0]));
}

static value_t is_boolean(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  const value_t value = arguments.values[0];
  return boolean_value(value == VALUE_TRUE || value == VALUE_FALSE);
}

static value_t is_procedure(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  const value_t value = arguments.values[0];
  return boolean_value(value_has_type(value, TYPE_CLOSURE) ||
                       value_has_type(value, TYPE_BUILTIN));
}

static value_t logical_not(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  return boolean_value(!value_is_true(arguments.values[0]));
}

static value_t is_same(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  return boolean_value(arguments.values[0] == arguments.values[1]);
}

static value_t is_equal(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(values_equal(lisp, arguments.values[0], arguments.values[1]));
}

const builtin_definition_t builtin_numbers[] = {
    {"+", add, 0, BUILTIN_ANY, 0},
    {"-", subtract, 1, BUILTIN_ANY, 0},
    {"*", multiply, 0, BUILTIN_ANY, 0},
    {"/", divide, 2, BUILTIN_ANY, 0},
    {"quotient", quotient, 2, 2, 0},
    {"remainder", remainder_, 2, 2, 0},
    {"modulo", modulo, 2, 2, 0},
    {"abs", absolute, 1, 1, 0},
    {"min", minimum, 1, BUILTIN_ANY, 0},
    {"max", maximum, 1, BUILTIN_ANY, 0},
    {"=", is_same_number, 1, BUILTIN_ANY, 0},
    {"<", is_less, 1, BUILTIN_ANY, 0},
    {">", is_greater, 1, BUILTIN_ANY, 0},
    {"<=", is_not_greater, 1, BUILTIN_ANY, 0},
    {">=", is_not_less, 1, BUILTIN_ANY, 0},
    {"zero?", is_zero, 1, 1, 0},
    {"positive?", is_positive, 1, 1, 0},
    {"negative?", is_negative, 1, 1, 0},
    {"even?", is_even, 1, 1, 0},
    {"odd?", is_odd, 1, 1, 0},
    {"random", random_below, 1, 1, 0},
    {"number?", is_number, 1, 1, 0},
    {"integer?", is_number, 1, 1, 0},
    {"pair?", has_type, 1, 1, TYPE_PAIR},
    {"string?", has_type, 1, 1, TYPE_STRING},
    {"symbol?", has_type, 1, 1, TYPE_SYMBOL},
    {"vector?", has_type, 1, 1, TYPE_VECTOR},
    {"hash?", has_type, 1, 1, TYPE_TABLE},
    {"char?", is_character, 1, 1, 0},
    {"boolean?", is_boolean, 1, 1, 0},
    {"procedure?", is_procedure, 1, 1, 0},
    {"not", logical_not, 1, 1, 0},
    {"eq?", is_same, 2, 2, 0},
    {"eqv?", is_same, 2, 2, 0},
    {"equal?", is_equal, 2, 2, 0},
    {0},
};
