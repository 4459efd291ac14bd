/* data.h - lists and search trees, as a functional program has them.
 *
 * Invariant: a function takes over the references it is given, unless it says that it
 * borrows them, and gives one to what it returns. What it takes apart and is unique, it
 * builds its result from: a program without mutation that changes memory in place.
 *
 * Where memory is short, a function returns `failed`, having dropped what it was given.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef KOKA_DATA_H
#define KOKA_DATA_H

#include "object.h"

#define EMPTY box_int(0)   /* the list, or tree, without an element */
#define failed box_int(-1) /* never a list or a tree */

enum { CONS = 1, NODE };

typedef int32_t map_function(int32_t element);

/* A list with this element in front of another. */
box_t list_cons(context_t *context, int32_t element, box_t rest);

/* 0, 1, ... count - 1. */
box_t list_of(context_t *context, int32_t count);

/* Each element replaced by what the function makes of it; reversed; one after the
 * other. */
box_t list_map(context_t *context, box_t list, map_function *function);
box_t list_reverse(context_t *context, box_t list);

/* The sum of all elements. Borrows. */
int64_t list_sum(box_t list);

/* The tree with this key and value, in place of another value of the key. */
box_t tree_insert(context_t *context, box_t tree, int32_t key, int32_t value);

/* The value of a key, or the other one. Borrows. */
int32_t tree_find(box_t tree, int32_t key, int32_t otherwise);

/* The sum of all values; how many there are. Borrow. */
int64_t tree_sum(box_t tree);
size_t tree_size(box_t tree);

#endif /* KOKA_DATA_H */
