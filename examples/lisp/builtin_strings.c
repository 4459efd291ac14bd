/* builtin_strings.c - strings, characters and symbols.
 *
 * Invariant: a string's text does not change once it has been returned.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "builtin.h"
#include <ctype.h>
#include <stdio.h>

static value_t string_append(lisp_t *lisp, arguments_t arguments) {
  size_t length = 0;
  for (uint32_t i = 0; i < arguments.count; i++) {
    length += expect_string(lisp, arguments.values[i])->object.count;
  }
  string_t *result = string_new_blank(lisp, length);
  char *to = result->text;
  for (uint32_t i = 0; i < arguments.count; i++) {
    const string_t *part = value_string(arguments.values[i]);
    memcpy(to, part->text, part->object.count);
    to += part->object.count;
  }
  return object_value(result);
}

/* (string-join list [separator]) */
static value_t string_join(lisp_t *lisp, arguments_t arguments) {
  const bool given = arguments.count > 1;
  const string_t *separator = given ? expect_string(lisp, arguments.values[1]) : NULL;
  const char *between = given ? separator->text : " ";
  const size_t between_length = given ? separator->object.count : 1;
  size_t length = 0;
  expect_list(lisp, arguments.values[0]);
  for (value_t rest = arguments.values[0]; rest != VALUE_NIL; rest = cdr(rest)) {
    length += expect_string(lisp, car(rest))->object.count;
    length += cdr(rest) != VALUE_NIL ? between_length : 0;
  }
  string_t *result = string_new_blank(lisp, length);
  char *to = result->text;
  for (value_t rest = arguments.values[0]; rest != VALUE_NIL; rest = cdr(rest)) {
    const string_t *part = value_string(car(rest));
    memcpy(to, part->text, part->object.count);
    to += part->object.count;
    if (cdr(rest) == VALUE_NIL) break;
    memcpy(to, between, between_length);
    to += between_length;
  }
  return object_value(result);
}

static value_t substring(lisp_t *lisp, arguments_t arguments) {
  const string_t *string = expect_string(lisp, arguments.values[0]);
  const size_t length = string->object.count;
  const bool given = arguments.count > 2;
  const size_t start = expect_index(lisp, arguments.values[1], 0, length);
  const size_t end =
      given ? expect_index(lisp, arguments.values[2], start, length) : length;
  string_t *result = string_new_blank(lisp, end - start);
  memcpy(result->text, string->text + start, end - start);
  return object_value(result);
}

static value_t string_length(lisp_t *lisp, arguments_t arguments) {
  return fixnum_value((int32_t)expect_string(lisp, arguments.values[0])->object.count);
}

static value_t string_ref(lisp_t *lisp, arguments_t arguments) {
  const string_t *string = expect_string(lisp, arguments.values[0]);
  if (string->object.count == 0) lisp_error(lisp, "string-ref: the string is empty");
  const size_t i = expect_index(lisp, arguments.values[1], 0, string->object.count - 1);
  return character_value((unsigned char)string->text[i]);
}

/* Less than, equal to or greater than 0, as memcmp. */
static int compare(lisp_t *lisp, arguments_t arguments) {
  const string_t *a = expect_string(lisp, arguments.values[0]);
  const string_t *b = expect_string(lisp, arguments.values[1]);
  const uint32_t a_length = a->object.count;
  const uint32_t b_length = b->object.count;
  const int order = memcmp(a->text, b->text, a_length < b_length ? a_length : b_length);
  return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static value_t is_same_string(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(compare(lisp, arguments) == 0);
}

static value_t is_string_less(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(compare(lisp, arguments) < 0);
}

static value_t is_string_greater(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(compare(lisp, arguments) > 0);
}

static value_t convert(lisp_t *lisp, value_t value, int (*function)(int)) {
  const string_t *string = expect_string(lisp, value);
  string_t *result = string_new_blank(lisp, string->object.count);
  for (uint32_t i = 0; i < string->object.count; i++) {
    result->text[i] = (char)function((unsigned char)string->text[i]);
  }
  return object_value(result);
}

static value_t string_downcase(lisp_t *lisp, arguments_t arguments) {
  return convert(lisp, arguments.values[0], tolower);
}

static value_t string_upcase(lisp_t *lisp, arguments_t arguments) {
  return convert(lisp, arguments.values[0], toupper);
}

/* (string-contains string part): where part begins in string, or #f. */
static value_t string_contains(lisp_t *lisp, arguments_t arguments) {
  const string_t *string = expect_string(lisp, arguments.values[0]);
  const string_t *part = expect_string(lisp, arguments.values[1]);
  const size_t length = string->object.count;
  const size_t part_length = part->object.count;
  for (size_t i = 0; i + part_length <= length; i++) {
    if (memcmp(string->text + i, part->text, part_length) == 0) {
      return fixnum_value((int32_t)i);
    }
  }
  return VALUE_FALSE;
}

/* (string-split string [separators]): the pieces between characters of separators (by
 * default white space), without empty ones. */
static value_t string_split(lisp_t *lisp, arguments_t arguments) {
  const string_t *string = expect_string(lisp, arguments.values[0]);
  const bool given = arguments.count > 1;
  const string_t *set = given ? expect_string(lisp, arguments.values[1]) : NULL;
  bool separates[256] = {false};
  const char *separators = given ? set->text : " \t\n\v\f\r";
  const size_t count = given ? set->object.count : 6;
  for (size_t i = 0; i < count; i++) separates[(unsigned char)separators[i]] = true;

  value_t *list = lisp_push(lisp, VALUE_NIL);
  size_t end = string->object.count;
  while (end > 0) {
    size_t start = end;
    while (start > 0 && !separates[(unsigned char)string->text[start - 1]]) start--;
    if (start < end) {
      const value_t piece = string_new(lisp, string->text + start, end - start);
      *list = pair_new(lisp, piece, *list);
    }
    end = start > 0 ? start - 1 : 0;
  }
  return *list;
}

static value_t string_to_list(lisp_t *lisp, arguments_t arguments) {
  const string_t *string = expect_string(lisp, arguments.values[0]);
  value_t *list = lisp_push(lisp, VALUE_NIL);
  for (uint32_t i = string->object.count; i > 0; i--) {
    const value_t character = character_value((unsigned char)string->text[i - 1]);
    *list = pair_new(lisp, character, *list);
  }
  return *list;
}

static value_t list_to_string(lisp_t *lisp, arguments_t arguments) {
  const size_t length = expect_list(lisp, arguments.values[0]);
  string_t *result = string_new_blank(lisp, length);
  value_t rest = arguments.values[0];
  for (size_t i = 0; i < length; i++, rest = cdr(rest)) {
    result->text[i] = (char)expect_character(lisp, car(rest));
  }
  return object_value(result);
}

static value_t number_to_string(lisp_t *lisp, arguments_t arguments) {
  char text[16];
  const int number = expect_fixnum(lisp, arguments.values[0]);
  return string_new(lisp, text, (size_t)snprintf(text, sizeof text, "%d", number));
}

/* The number, or #f if the string is not one that fits. */
static value_t string_to_number(lisp_t *lisp, arguments_t arguments) {
  const string_t *string = expect_string(lisp, arguments.values[0]);
  const bool sign = string->text[0] == '-' || string->text[0] == '+';
  int64_t number = 0;
  if (string->object.count == sign) return VALUE_FALSE;
  for (uint32_t i = sign; i < string->object.count; i++) {
    if (!isdigit((unsigned char)string->text[i])) return VALUE_FALSE;
    number = number * 10 + (string->text[i] - '0');
    if (number > (int64_t)FIXNUM_MAX + 1) return VALUE_FALSE;
  }
  if (string->text[0] == '-') number = -number;
  return number > FIXNUM_MAX ? VALUE_FALSE : fixnum_value((int32_t)number);
}

static value_t symbol_to_string(lisp_t *lisp, arguments_t arguments) {
  return value_symbol(expect_symbol(lisp, arguments.values[0]))->name;
}

static value_t string_to_symbol(lisp_t *lisp, arguments_t arguments) {
  const string_t *string = expect_string(lisp, arguments.values[0]);
  return symbol_intern(lisp, string->text, string->object.count);
}

static value_t char_to_integer(lisp_t *lisp, arguments_t arguments) {
  return fixnum_value(expect_character(lisp, arguments.values[0]));
}

static value_t integer_to_char(lisp_t *lisp, arguments_t arguments) {
  const size_t byte = expect_index(lisp, arguments.values[0], 0, 255);
  return character_value((unsigned char)byte);
}

static value_t is_same_char(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(expect_character(lisp, arguments.values[0]) ==
                       expect_character(lisp, arguments.values[1]));
}

static value_t is_char_less(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(expect_character(lisp, arguments.values[0]) <
                       expect_character(lisp, arguments.values[1]));
}

static value_t is_alphabetic(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(isalpha(expect_character(lisp, arguments.values[0])) != 0);
}

static value_t is_numeric(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(isdigit(expect_character(lisp, arguments.values[0])) != 0);
}

static value_t is_whitespace(lisp_t *lisp, arguments_t arguments) {
  return boolean_value(isspace(expect_character(lisp, arguments.values[0])) != 0);
}

const builtin_definition_t builtin_strings[] = {
    {"string-append", string_append, 0, BUILTIN_ANY, 0},
    {"string-join", string_join, 1, 2, 0},
    {"substring", substring, 2, 3, 0},
    {"string-length", string_length, 1, 1, 0},
    {"string-ref", string_ref, 2, 2, 0},
    {"string=?", is_same_string, 2, 2, 0},
    {"string<?", is_string_less, 2, 2, 0},
    {"string>?", is_string_greater, 2, 2, 0},
    {"string-downcase", string_downcase, 1, 1, 0},
    {"string-upcase", string_upcase, 1, 1, 0},
    {"string-contains", string_contains, 2, 2, 0},
    {"string-split", string_split, 1, 2, 0},
    {"string->list", string_to_list, 1, 1, 0},
    {"list->string", list_to_string, 1, 1, 0},
    {"number->string", number_to_string, 1, 1, 0},
    {"string->number", string_to_number, 1, 1, 0},
    {"symbol->string", symbol_to_string, 1, 1, 0},
    {"string->symbol", string_to_symbol, 1, 1, 0},
    {"char->integer", char_to_integer, 1, 1, 0},
    {"integer->char", integer_to_char, 1, 1, 0},
    {"char=?", is_same_char, 2, 2, 0},
    {"char<?", is_char_less, 2, 2, 0},
    {"char-alphabetic?", is_alphabetic, 1, 1, 0},
    {"char-numeric?", is_numeric, 1, 1, 0},
    {"char-whitespace?", is_whitespace, 1, 1, 0},
    {0},
};
