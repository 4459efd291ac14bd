/* table.h - equality, hashing, and hash tables.
 *
 * Invariant: values that are equal have the same hash. Numbers, characters, strings,
 * symbols, and lists and vectors of them are equal by content; any other object only to
 * itself. A key must not be changed while it is in a table.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_TABLE_H
#define LISP_TABLE_H

#include "lisp.h"

bool values_equal(lisp_t *lisp, value_t a, value_t b);

uint32_t hash_text(const char *text, size_t length);

value_t table_new(lisp_t *lisp);

/* The value of a key, or missing. */
value_t table_get(lisp_t *lisp, const table_t *table, value_t key, value_t missing);

/* Set the value of a key. The arguments must be reachable for the caller's part. */
void table_set(lisp_t *lisp, table_t *table, value_t key, value_t value);

void table_remove(lisp_t *lisp, table_t *table, value_t key);

/* Step through a table: *at starts at 0. Returns false at the end, else true and the next
 * key and value. The table must not be changed meanwhile. */
bool table_next(const table_t *table, uint32_t *at, value_t *key, value_t *value);

static inline table_t *value_table(value_t value) { return value_object(value); }

#endif /* LISP_TABLE_H */
