/* builtin_tables.c - vectors and hash tables.
 *
 * Invariant: no index reaches past the items of a vector, whatever a program says.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "builtin.h"
#include "table.h"

static value_t make_vector(lisp_t *lisp, arguments_t arguments) {
  const size_t length = expect_index(lisp, arguments.values[0], 0, FIXNUM_MAX);
  return vector_new(lisp, length,
                    arguments.count > 1 ? arguments.values[1] : VALUE_FALSE);
}

static value_t vector(lisp_t *lisp, arguments_t arguments) {
  const value_t result = vector_new(lisp, arguments.count, VALUE_NIL);
  value_t *items = value_vector(result)->items;
  for (uint32_t i = 0; i < arguments.count; i++) items[i] = arguments.values[i];
  return result;
}

static value_t vector_length(lisp_t *lisp, arguments_t arguments) {
  return fixnum_value((int32_t)expect_vector(lisp, arguments.values[0])->object.count);
}

static value_t *vector_item(lisp_t *lisp, arguments_t arguments) {
  vector_t *vector = expect_vector(lisp, arguments.values[0]);
  const int32_t index = expect_fixnum(lisp, arguments.values[1]);
  if (index < 0 || (uint32_t)index >= vector->object.count) {
    lisp_error(lisp, "%s: %d is out of range: the vector has %u item%s",
               lisp->builtin->name, (int)index, (unsigned)vector->object.count,
               vector->object.count == 1 ? "" : "s");
  }
  return &vector->items[index];
}

static value_t vector_ref(lisp_t *lisp, arguments_t arguments) {
  return *vector_item(lisp, arguments);
}

static value_t vector_set(lisp_t *lisp, arguments_t arguments) {
  *vector_item(lisp, arguments) = arguments.values[2];
  return VALUE_UNSPECIFIED;
}

static value_t vector_fill(lisp_t *lisp, arguments_t arguments) {
  vector_t *vector = expect_vector(lisp, arguments.values[0]);
  for (uint32_t i = 0; i < vector->object.count; i++) {
    vector->items[i] = arguments.values[1];
  }
  return VALUE_UNSPECIFIED;
}

static value_t vector_to_list(lisp_t *lisp, arguments_t arguments) {
  vector_t *vector = expect_vector(lisp, arguments.values[0]);
  value_t *list = lisp_push(lisp, VALUE_NIL);
  for (uint32_t i = vector->object.count; i > 0; i--) {
    *list = pair_new(lisp, vector->items[i - 1], *list);
  }
  return *list;
}

static value_t list_to_vector(lisp_t *lisp, arguments_t arguments) {
  const size_t length = expect_list(lisp, arguments.values[0]);
  const value_t result = vector_new(lisp, length, VALUE_NIL);
  value_t rest = arguments.values[0];
  for (size_t i = 0; i < length; i++, rest = cdr(rest)) {
    value_vector(result)->items[i] = car(rest);
  }
  return result;
}

static table_t *expect_table(lisp_t *lisp, value_t value) {
  if (!value_has_type(value, TYPE_TABLE)) wrong_type(lisp, "a hash table", value);
  return value_table(value);
}

static value_t make_hash(lisp_t *lisp, arguments_t arguments) {
  (void)arguments;
  return table_new(lisp);
}

/* (hash-ref table key [default]) */
static value_t hash_ref(lisp_t *lisp, arguments_t arguments) {
  const table_t *table = expect_table(lisp, arguments.values[0]);
  const value_t key = arguments.values[1];
  const value_t missing = arguments.count > 2 ? arguments.values[2] : VALUE_UNBOUND;
  const value_t value = table_get(lisp, table, key, missing);
  if (value == VALUE_UNBOUND) {
    lisp_error(lisp, "hash-ref: no such key: %s", lisp_text(lisp, key));
  }
  return value;
}

static value_t hash_set(lisp_t *lisp, arguments_t arguments) {
  table_t *table = expect_table(lisp, arguments.values[0]);
  table_set(lisp, table, arguments.values[1], arguments.values[2]);
  return VALUE_UNSPECIFIED;
}

static value_t hash_remove(lisp_t *lisp, arguments_t arguments) {
  table_remove(lisp, expect_table(lisp, arguments.values[0]), arguments.values[1]);
  return VALUE_UNSPECIFIED;
}

static value_t hash_has_key(lisp_t *lisp, arguments_t arguments) {
  const table_t *table = expect_table(lisp, arguments.values[0]);
  const value_t value = table_get(lisp, table, arguments.values[1], VALUE_UNBOUND);
  return boolean_value(value != VALUE_UNBOUND);
}

static value_t hash_count(lisp_t *lisp, arguments_t arguments) {
  return fixnum_value((int32_t)expect_table(lisp, arguments.values[0])->object.count);
}

static value_t hash_keys(lisp_t *lisp, arguments_t arguments) {
  const table_t *table = expect_table(lisp, arguments.values[0]);
  value_t *list = lisp_push(lisp, VALUE_NIL);
  value_t key = VALUE_NIL;
  value_t value = VALUE_NIL;
  for (uint32_t at = 0; table_next(table, &at, &key, &value);) {
    *list = pair_new(lisp, key, *list);
  }
  return *list;
}

static value_t hash_values(lisp_t *lisp, arguments_t arguments) {
  const table_t *table = expect_table(lisp, arguments.values[0]);
  value_t *list = lisp_push(lisp, VALUE_NIL);
  value_t key = VALUE_NIL;
  value_t value = VALUE_NIL;
  for (uint32_t at = 0; table_next(table, &at, &key, &value);) {
    *list = pair_new(lisp, value, *list);
  }
  return *list;
}

/* A list of pairs (key . value). */
static value_t hash_to_list(lisp_t *lisp, arguments_t arguments) {
  const table_t *table = expect_table(lisp, arguments.values[0]);
  value_t *list = lisp_push(lisp, VALUE_NIL);
  value_t key = VALUE_NIL;
  value_t value = VALUE_NIL;
  for (uint32_t at = 0; table_next(table, &at, &key, &value);) {
    *list = pair_new(lisp, pair_new(lisp, key, value), *list);
  }
  return *list;
}

const builtin_definition_t builtin_tables[] = {
    {"make-vector", make_vector, 1, 2, 0},     {"vector", vector, 0, BUILTIN_ANY, 0},
    {"vector-length", vector_length, 1, 1, 0}, {"vector-ref", vector_ref, 2, 2, 0},
    {"vector-set!", vector_set, 3, 3, 0},      {"vector-fill!", vector_fill, 2, 2, 0},
    {"vector->list", vector_to_list, 1, 1, 0}, {"list->vector", list_to_vector, 1, 1, 0},
    {"make-hash", make_hash, 0, 0, 0},         {"hash-ref", hash_ref, 2, 3, 0},
    {"hash-set!", hash_set, 3, 3, 0},          {"hash-remove!", hash_remove, 2, 2, 0},
    {"hash-has-key?", hash_has_key, 2, 2, 0},  {"hash-count", hash_count, 1, 1, 0},
    {"hash-keys", hash_keys, 1, 1, 0},         {"hash-values", hash_values, 1, 1, 0},
    {"hash->list", hash_to_list, 1, 1, 0},     {0},
};
