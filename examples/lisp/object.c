/* object.c - the table of types, and making objects.
 *
 * Invariant: this is the only file that allocates objects. The spare room of the value
 * stack (lisp.h) is enough for what is kept there meanwhile.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "lisp.h"
#include <string.h>

/* clang-format off */
const object_layout_t object_types[TYPE_COUNT] = {
    /*                    name      values, bytes    and those of an item */
    [TYPE_PAIR] =        {"pair",        2, 0,                0, 0},
    [TYPE_STRING] =      {"string",      0, 1,                0, 1},
    [TYPE_SYMBOL] =      {"symbol",      2, 0,                0, 0},
    [TYPE_VECTOR] =      {"vector",      0, 0,                1, 0},
    [TYPE_TABLE] =       {"table",       1, sizeof(uint32_t), 0, 0},
    [TYPE_SLOTS] =       {"slots",       0, 0,                2, sizeof(uint32_t)},
    [TYPE_BUILTIN] =     {"builtin",     1, 0,                0, 0},
    [TYPE_CLOSURE] =     {"closure",     2, 0,                0, 0},
    [TYPE_ENVIRONMENT] = {"environment", 1, 0,                1, 0},
    [TYPE_CODE] =        {"code",        1, 0,                1, 0},
};
/* clang-format on */

/* A message for full memory. It must not need memory for objects itself. */
static _Noreturn void out_of_memory(lisp_t *lisp) {
  const size_t kibibytes = (lisp->memory.limit + 1023) / 1024;
  if (lisp->memory.limit == 0) lisp_error(lisp, "out of memory");
  lisp_error(lisp, "out of memory: the heap of %zuK is full", kibibytes);
}

static inline void *allocate(lisp_t *lisp, object_type_t type, uint32_t count,
                             size_t extra_bytes) {
  if (lisp->collector.every != 0 && ++lisp->collector.made == lisp->collector.every) {
    lisp->collector.made = 0;
    collector_run(lisp);
  }
  const size_t size = object_size(&object_types[type], count) + extra_bytes;
  object_t *object = memory_new(&lisp->memory, type, count, size);
  if (object == NULL) {
    collector_run(lisp);
    object = memory_new(&lisp->memory, type, count, size);
    if (object == NULL) out_of_memory(lisp);
  }
  *object = (object_t){.type = (uint16_t)type, .count = count};
  return object;
}

void *object_new(lisp_t *lisp, object_type_t type, uint32_t count, size_t extra_bytes) {
  return allocate(lisp, type, count, extra_bytes);
}

value_t pair_new(lisp_t *lisp, value_t first, value_t rest) {
  value_t *top = lisp->registers.top;
  top[0] = first;
  top[1] = rest;
  lisp->registers.top = top + 2;
  pair_t *pair = allocate(lisp, TYPE_PAIR, 0, 0);
  lisp->registers.top = top;
  pair->car = first;
  pair->cdr = rest;
  return object_value(pair);
}

string_t *string_new_blank(lisp_t *lisp, size_t length) {
  if (length > FIXNUM_MAX) lisp_error(lisp, "string of %zu bytes is too long", length);
  string_t *string = object_new(lisp, TYPE_STRING, (uint32_t)length, 0);
  string->text[length] = 0;
  return string;
}

value_t string_new(lisp_t *lisp, const char *text, size_t length) {
  string_t *string = string_new_blank(lisp, length);
  memcpy(string->text, text, length);
  return object_value(string);
}

value_t vector_new(lisp_t *lisp, size_t length, value_t fill) {
  *lisp->registers.top++ = fill;
  vector_t *vector = object_new(lisp, TYPE_VECTOR, (uint32_t)length, 0);
  lisp->registers.top--;
  for (size_t i = 0; i < length; i++) vector->items[i] = fill;
  return object_value(vector);
}
