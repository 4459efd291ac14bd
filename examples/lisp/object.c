/* object.c - the table of types, and making objects.
 *
 * Invariant: this is the only file that allocates objects, and object_new the only
 * function.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "lisp.h"
#include <string.h>

/* Tag 0 is that of the heaps which every program has; ours begin at 1. */
/* clang-format off */
const object_layout_t object_types[TYPE_COUNT] = {
    /*                    name        tag  values  values and bytes of an item */
    [TYPE_PAIR] =        {"pair",        1, 2, 0, 0},
    [TYPE_STRING] =      {"string",      2, 0, 0, 1},
    [TYPE_SYMBOL] =      {"symbol",      3, 2, 0, 0},
    [TYPE_VECTOR] =      {"vector",      4, 0, 1, 0},
    [TYPE_TABLE] =       {"table",       5, 1, 0, 0},
    [TYPE_SLOTS] =       {"slots",       6, 0, 2, sizeof(uint32_t)},
    [TYPE_BUILTIN] =     {"builtin",     7, 1, 0, 0},
    [TYPE_CLOSURE] =     {"closure",     8, 2, 0, 0},
    [TYPE_ENVIRONMENT] = {"environment", 9, 1, 1, 0},
    [TYPE_CODE] =        {"code",       10, 1, 1, 0},
};
/* clang-format on */

/* A message for full memory. It must not need memory of the heaps itself. */
static _Noreturn void out_of_memory(lisp_t *lisp) {
  const char *place = lisp->memory.cage != NULL ? "cage" : "arena";
  const size_t kibibytes = (lisp->memory.limit + 1023) / 1024;
  if (lisp->memory.limit == 0) lisp_error(lisp, "out of memory");
  lisp_error(lisp, "out of memory: the %s of %zuK is full", place, kibibytes);
}

void *object_new(lisp_t *lisp, object_type_t type, uint32_t count, size_t extra_bytes) {
  const object_layout_t *layout = &object_types[type];
  const size_t values = layout->values + (size_t)layout->item_values * count;
  const size_t bytes = (size_t)layout->item_bytes * count + extra_bytes;
  object_t *object = mi_heap_malloc(lisp->memory.heaps[type],
                                    sizeof(object_t) + values * sizeof(value_t) + bytes);
  if (object == NULL) out_of_memory(lisp);
  *object = (object_t){.type = (uint16_t)type, .count = count};
  return object;
}

value_t pair_new(lisp_t *lisp, value_t first, value_t rest) {
  pair_t *pair = object_new(lisp, TYPE_PAIR, 0, 0);
  pair->car = first;
  pair->cdr = rest;
  return object_value(pair);
}

string_t *string_new_blank(lisp_t *lisp, size_t length) {
  if (length > FIXNUM_MAX) lisp_error(lisp, "string of %zu bytes is too long", length);
  string_t *string = object_new(lisp, TYPE_STRING, (uint32_t)length, 1);
  string->text[length] = 0;
  return string;
}

value_t string_new(lisp_t *lisp, const char *text, size_t length) {
  string_t *string = string_new_blank(lisp, length);
  memcpy(string->text, text, length);
  return object_value(string);
}

value_t vector_new(lisp_t *lisp, size_t length, value_t fill) {
  vector_t *vector = object_new(lisp, TYPE_VECTOR, (uint32_t)length, 0);
  for (size_t i = 0; i < length; i++) vector->items[i] = fill;
  return object_value(vector);
}
