/* object.h - what the objects of the heaps look like.
 *
 * Invariant: an object is a header of 8 bytes, then its values side by side, then bytes
 * that are no values. How many values there are follows from the type and the header's
 * count alone (object_types), so whoever has a reference to an object can find every
 * reference in it: the collector does (memory.c).
 *
 * Each type is one of mirt's, too, with pages of its own: an object never lies in a page
 * that holds an object of another type.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_OBJECT_H
#define LISP_OBJECT_H

#include "value.h"
#include <string.h>

typedef enum object_type_e {
  TYPE_PAIR,
  TYPE_STRING,
  TYPE_SYMBOL,
  TYPE_VECTOR,
  TYPE_TABLE,
  TYPE_SLOTS,
  TYPE_BUILTIN,
  TYPE_CLOSURE,
  TYPE_ENVIRONMENT,
  TYPE_CODE,
  TYPE_COUNT
} object_type_t;

/* How a type is laid out: values + count * item_values values, then bytes + count *
 * item_bytes bytes, where count is the header's. */
typedef struct object_layout_s {
  const char *name;
  unsigned values;
  unsigned bytes;
  unsigned item_values;
  unsigned item_bytes;
} object_layout_t;

extern const object_layout_t object_types[TYPE_COUNT];

/* The header. Types without items use count for a number of their own. */
typedef struct object_s {
  uint16_t type;
  uint16_t detail;
  uint32_t count;
} object_t;

/* count: the line it was read from, 0 for a pair made by cons. */
typedef struct pair_s {
  object_t object;
  value_t car;
  value_t cdr;
} pair_t;

/* count: the length. One byte more than the text, which is 0. */
typedef struct string_s {
  object_t object;
  char text[];
} string_t;

/* count: the hash of the name. detail: the special form it names, or 0 (syntax.c). */
typedef struct symbol_s {
  object_t object;
  value_t name;   /* a string */
  value_t global; /* the value of the global variable, or VALUE_UNBOUND */
} symbol_t;

/* count: the length. */
typedef struct vector_s {
  object_t object;
  value_t items[];
} vector_t;

/* A hash table; see table.c. count: how many keys it holds. */
typedef struct table_s {
  object_t object;
  value_t slots;
  uint32_t used; /* slots that are not VALUE_EMPTY */
} table_t;

/* count: the number of slots, a power of two. Keys and values take turns; after them
 * comes one 32-bit hash for each slot. */
typedef struct slots_s {
  object_t object;
  value_t items[];
} slots_t;

/* A function written in C. count: its index in lisp->builtins. It is an index and no
 * pointer: nothing that is written into the cage can become an address to jump to. */
typedef struct builtin_s {
  object_t object;
  value_t name; /* a symbol */
} builtin_t;

/* A function written in Lisp. count: which function of the code. */
typedef struct closure_s {
  object_t object;
  value_t code;
  value_t environment;
} closure_t;

/* The variables of one call, or of one let. count: how many. */
typedef struct environment_s {
  object_t object;
  value_t parent; /* the environment around it, or VALUE_NIL */
  value_t slots[];
} environment_t;

/* What one form at top level was compiled to; see code.h. count: the number of
 * constants. detail: the number of functions. */
typedef struct code_s {
  object_t object;
  value_t file; /* a string, or VALUE_NIL for the prelude */
  value_t constants[];
} code_t;

/* Bytes of an object with that count in its header. */
static inline size_t object_size(const object_layout_t *layout, uint32_t count) {
  const size_t values = layout->values + (size_t)layout->item_values * count;
  const size_t bytes = layout->bytes + (size_t)layout->item_bytes * count;
  return sizeof(object_t) + values * sizeof(value_t) + bytes;
}

static inline bool value_has_type(value_t value, object_type_t type) {
  return value_is_object(value) && ((object_t *)value_object(value))->type == type;
}

static inline bool value_is_pair(value_t value) {
  return value_has_type(value, TYPE_PAIR);
}

static inline bool value_is_symbol(value_t value) {
  return value_has_type(value, TYPE_SYMBOL);
}

static inline bool value_is_string(value_t value) {
  return value_has_type(value, TYPE_STRING);
}

/* The following ones do not check the type; their names say what value must be. */

static inline pair_t *value_pair(value_t value) { return value_object(value); }

static inline value_t car(value_t pair) { return value_pair(pair)->car; }

static inline value_t cdr(value_t pair) { return value_pair(pair)->cdr; }

static inline uint32_t pair_line(value_t pair) { return value_pair(pair)->object.count; }

static inline string_t *value_string(value_t value) { return value_object(value); }

static inline symbol_t *value_symbol(value_t value) { return value_object(value); }

static inline const char *symbol_text(value_t symbol) {
  return value_string(value_symbol(symbol)->name)->text;
}

/* Is it the symbol of that name? */
static inline bool symbol_is(value_t value, const char *name) {
  return value_is_symbol(value) && strcmp(symbol_text(value), name) == 0;
}

static inline vector_t *value_vector(value_t value) { return value_object(value); }

static inline uint32_t *slots_hashes(slots_t *slots) {
  return (uint32_t *)(slots->items + 2 * (size_t)slots->object.count);
}

typedef struct lisp_s lisp_t;

/* Make an object of the type, with count in its header, room for its values and items,
 * and extra_bytes after them (0 but for code). Only the header is set: the caller fills in
 * every value before it makes another object. Everything else that is still needed must
 * be reachable (lisp.h): the call may collect. Never returns NULL: full memory is a Lisp
 * error. */
void *object_new(lisp_t *lisp, object_type_t type, uint32_t count, size_t extra_bytes);

/* The constructors. Values given to them need not be reachable from anywhere else. */

value_t pair_new(lisp_t *lisp, value_t first, value_t rest);
value_t string_new(lisp_t *lisp, const char *text, size_t length);
/* A string whose text the caller writes. */
string_t *string_new_blank(lisp_t *lisp, size_t length);
value_t vector_new(lisp_t *lisp, size_t length, value_t fill);

#endif /* LISP_OBJECT_H */
