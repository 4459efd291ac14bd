/* builtin.h - the functions that are written in C.
 *
 * Invariant: a builtin gets its arguments where they lie on the value stack, in a number
 * that its definition allows. It may overwrite them: they are its places for values that
 * must be kept while it makes other objects. It calls no Lisp function; those that do
 * (map, sort, ...) are written in Lisp, in prelude.c.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_BUILTIN_H
#define LISP_BUILTIN_H

#include "lisp.h"

typedef struct arguments_s {
  value_t *values;
  uint32_t count;
} arguments_t;

typedef value_t builtin_function_t(lisp_t *lisp, arguments_t arguments);

typedef struct builtin_definition_s {
  const char *name;
  builtin_function_t *function;
  uint16_t arguments_min;
  uint16_t arguments_max;
  uint16_t type; /* for the tests of one type: an object_type_t */
} builtin_definition_t;

/* The maximum of a function that takes any number. */
#define BUILTIN_ANY UINT16_MAX

/* Each list ends with an entry without a name. */
extern const builtin_definition_t builtin_numbers[];
extern const builtin_definition_t builtin_lists[];
extern const builtin_definition_t builtin_strings[];
extern const builtin_definition_t builtin_tables[];
extern const builtin_definition_t builtin_system[];

/* Define the global variables of all builtins. */
void builtin_start(lisp_t *lisp);

/* The builtin of that name, whatever the global variable of that name is now. */
value_t builtin_named(lisp_t *lisp, const char *name);

/* (apply function argument ... list): the machine does it itself (run.c). */
builtin_function_t builtin_apply;

/* What follows checks an argument of the running builtin. The answer to a value that is
 * not right is an error that names the builtin. */

_Noreturn void wrong_type(lisp_t *lisp, const char *expected, value_t value);

int32_t expect_fixnum(lisp_t *lisp, value_t value);
/* A fixnum from minimum to maximum, both included. */
size_t expect_index(lisp_t *lisp, value_t value, size_t minimum, size_t maximum);
pair_t *expect_pair(lisp_t *lisp, value_t value);
string_t *expect_string(lisp_t *lisp, value_t value);
value_t expect_symbol(lisp_t *lisp, value_t value);
vector_t *expect_vector(lisp_t *lisp, value_t value);
unsigned char expect_character(lisp_t *lisp, value_t value);
/* A proper list. Returns its length. */
size_t expect_list(lisp_t *lisp, value_t value);

/* A whole number as a fixnum, or an error if it does not fit. */
value_t checked_fixnum(lisp_t *lisp, int64_t number);

#endif /* LISP_BUILTIN_H */
