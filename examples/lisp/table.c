/* table.c - hash tables: open addressing with linear probing.
 *
 * Invariant: at least a quarter of the slots is VALUE_EMPTY, so every search ends. A key
 * that is removed leaves VALUE_REMOVED behind, so that searches go on past it; those
 * places count as used until the table is copied to new slots.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "table.h"

#define SLOTS_MIN 8

static bool equal(lisp_t *lisp, value_t a, value_t b, uint32_t nesting) {
  if (nesting > LISP_NESTING_MAX) lisp_error(lisp, "nested too deeply to compare");
  while (a != b) {
    if (!value_is_object(a) || !value_is_object(b)) return false;
    const object_t *x = value_object(a);
    const object_t *y = value_object(b);
    if (x->type != y->type) return false;
    switch (x->type) {
      case TYPE_PAIR:
        if (!equal(lisp, car(a), car(b), nesting + 1)) return false;
        a = cdr(a);
        b = cdr(b);
        break;
      case TYPE_STRING:
        return x->count == y->count &&
               memcmp(value_string(a)->text, value_string(b)->text, x->count) == 0;
      case TYPE_VECTOR:
        if (x->count != y->count) return false;
        for (uint32_t i = 0; i < x->count; i++) {
          const value_t item = value_vector(a)->items[i];
          if (!equal(lisp, item, value_vector(b)->items[i], nesting + 1)) return false;
        }
        return true;
      default: return false;
    }
  }
  return true;
}

bool values_equal(lisp_t *lisp, value_t a, value_t b) { return equal(lisp, a, b, 0); }

static uint32_t mix(uint32_t hash) {
  hash = (hash ^ (hash >> 16)) * 0x45d9f3bu;
  return hash ^ (hash >> 16);
}

/* FNV-1a, mixed, since the low bits are used first. */
uint32_t hash_text(const char *text, size_t length) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 16777619u;
  return mix(hash);
}

/* Looks at the first few items of lists and vectors only, so it is quick and ends. */
static uint32_t hash_value(value_t value, unsigned effort) {
  if (!value_is_object(value)) return mix((uint32_t)value);
  const object_t *object = value_object(value);
  uint32_t hash = object->type;
  switch (object->type) {
    case TYPE_STRING: return hash_text(value_string(value)->text, object->count);
    case TYPE_SYMBOL: return object->count;
    case TYPE_PAIR:
      for (; effort > 0 && value_is_pair(value); effort--, value = cdr(value)) {
        hash = mix(hash * 31 + hash_value(car(value), effort / 2));
      }
      return hash;
    case TYPE_VECTOR:
      for (uint32_t i = 0; i < object->count && i < effort; i++) {
        hash = mix(hash * 31 + hash_value(value_vector(value)->items[i], effort / 2));
      }
      return hash;
    default: return mix((uint32_t)(value >> 1));
  }
}

static slots_t *value_slots(value_t value) { return value_object(value); }

static value_t slots_new(lisp_t *lisp, uint32_t count) {
  slots_t *slots = object_new(lisp, TYPE_SLOTS, count, 0);
  for (uint32_t i = 0; i < 2 * count; i++) slots->items[i] = VALUE_EMPTY;
  return object_value(slots);
}

value_t table_new(lisp_t *lisp) {
  value_t *slots = lisp_push(lisp, slots_new(lisp, SLOTS_MIN));
  table_t *table = object_new(lisp, TYPE_TABLE, 0, 0);
  table->slots = *slots;
  table->used = 0;
  lisp_pop(lisp);
  return object_value(table);
}

/* The slot of a key, or the empty slot that ends the search for it. */
static uint32_t find(lisp_t *lisp, slots_t *slots, value_t key, uint32_t hash) {
  const uint32_t mask = slots->object.count - 1;
  const uint32_t *hashes = slots_hashes(slots);
  uint32_t i = hash & mask;
  for (;; i = (i + 1) & mask) {
    const value_t found = slots->items[2 * i];
    if (found == VALUE_EMPTY) return i;
    if (found == VALUE_REMOVED || hashes[i] != hash) continue;
    if (values_equal(lisp, found, key)) return i;
  }
}

static void put(slots_t *slots, uint32_t i, value_t key, value_t value, uint32_t hash) {
  slots->items[2 * i] = key;
  slots->items[2 * i + 1] = value;
  slots_hashes(slots)[i] = hash;
}

/* Copy the table to new slots: twice as many, or as many if it held removed keys. */
static void renew_slots(lisp_t *lisp, table_t *table) {
  const uint32_t count = value_slots(table->slots)->object.count;
  const bool full = table->object.count >= count / 2;
  if (full && count > UINT32_MAX / 4) lisp_error(lisp, "the table is too large");
  const value_t renewed = slots_new(lisp, full ? 2 * count : count);
  slots_t *from = value_slots(table->slots);
  slots_t *to = value_slots(renewed);
  const uint32_t mask = to->object.count - 1;
  for (uint32_t i = 0; i < count; i++) {
    const value_t key = from->items[2 * i];
    if (key == VALUE_EMPTY || key == VALUE_REMOVED) continue;
    const uint32_t hash = slots_hashes(from)[i];
    uint32_t place = hash & mask;
    while (to->items[2 * place] != VALUE_EMPTY) place = (place + 1) & mask;
    put(to, place, key, from->items[2 * i + 1], hash);
  }
  table->slots = renewed;
  table->used = table->object.count;
}

value_t table_get(lisp_t *lisp, const table_t *table, value_t key, value_t missing) {
  slots_t *slots = value_slots(table->slots);
  const uint32_t i = find(lisp, slots, key, hash_value(key, 8));
  return slots->items[2 * i] == VALUE_EMPTY ? missing : slots->items[2 * i + 1];
}

void table_set(lisp_t *lisp, table_t *table, value_t key, value_t value) {
  const uint32_t hash = hash_value(key, 8);
  slots_t *slots = value_slots(table->slots);
  uint32_t i = find(lisp, slots, key, hash);
  if (slots->items[2 * i] == VALUE_EMPTY) {
    if (table->used + 1 > slots->object.count / 4 * 3) {
      renew_slots(lisp, table);
      slots = value_slots(table->slots);
      i = find(lisp, slots, key, hash);
    }
    table->used++;
    table->object.count++;
  }
  put(slots, i, key, value, hash);
}

void table_remove(lisp_t *lisp, table_t *table, value_t key) {
  slots_t *slots = value_slots(table->slots);
  const uint32_t i = find(lisp, slots, key, hash_value(key, 8));
  if (slots->items[2 * i] == VALUE_EMPTY) return;
  put(slots, i, VALUE_REMOVED, VALUE_NIL, 0);
  table->object.count--;
}

bool table_next(const table_t *table, uint32_t *at, value_t *key, value_t *value) {
  const slots_t *slots = value_slots(table->slots);
  for (; *at < slots->object.count; ++*at) {
    *key = slots->items[2 * *at];
    if (*key == VALUE_EMPTY || *key == VALUE_REMOVED) continue;
    *value = slots->items[2 * *at + 1];
    ++*at;
    return true;
  }
  return false;
}
