/* symbol.c - interning: one symbol for each name.
 *
 * Invariant: lisp->symbols is an open hash table, at most half full, whose empty places
 * are VALUE_NIL. It is memory of the interpreter, not an object; symbols stay for ever.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "lisp.h"
#include "table.h"

static bool has_name(value_t symbol, const char *text, size_t length) {
  const string_t *name = value_string(value_symbol(symbol)->name);
  return name->object.count == length && memcmp(name->text, text, length) == 0;
}

/* The place of the symbol with that name, or the empty place where it belongs. */
static value_t *find_place(const lisp_t *lisp, const char *text, size_t length,
                           uint32_t hash) {
  const size_t mask = lisp->symbol_capacity - 1;
  size_t i = hash & mask;
  while (lisp->symbols[i] != VALUE_NIL && !has_name(lisp->symbols[i], text, length)) {
    i = (i + 1) & mask;
  }
  return &lisp->symbols[i];
}

static void grow(lisp_t *lisp) {
  value_t *old = lisp->symbols;
  const size_t old_capacity = lisp->symbol_capacity;
  const size_t capacity = old_capacity == 0 ? 512 : old_capacity * 2;
  value_t *larger = mi_calloc(capacity, sizeof(value_t));
  if (larger == NULL) lisp_error(lisp, "out of memory");
  lisp->symbols = larger;
  lisp->symbol_capacity = capacity;
  for (size_t i = 0; i < old_capacity; i++) {
    if (old[i] == VALUE_NIL) continue;
    const string_t *name = value_string(value_symbol(old[i])->name);
    const uint32_t hash = value_symbol(old[i])->object.count;
    *find_place(lisp, name->text, name->object.count, hash) = old[i];
  }
  mi_free(old);
}

value_t symbol_intern(lisp_t *lisp, const char *text, size_t length) {
  if (2 * lisp->symbol_count >= lisp->symbol_capacity) grow(lisp);
  const uint32_t hash = hash_text(text, length);
  value_t *place = find_place(lisp, text, length, hash);
  if (*place == VALUE_NIL) {
    value_t *name = lisp_push(lisp, string_new(lisp, text, length));
    symbol_t *symbol = object_new(lisp, TYPE_SYMBOL, hash, 0);
    symbol->name = *name;
    symbol->global = VALUE_UNBOUND;
    lisp_pop(lisp);
    *place = object_value(symbol);
    lisp->symbol_count++;
  }
  return *place;
}

value_t symbol_named(lisp_t *lisp, const char *text) {
  return symbol_intern(lisp, text, strlen(text));
}
