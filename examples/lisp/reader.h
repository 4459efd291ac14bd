/* reader.h - text to forms.
 *
 * Invariant: each pair of a list remembers the line on which its item began, and the
 * first one that of its parenthesis. This is where the lines in messages come from.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_READER_H
#define LISP_READER_H

#include "lisp.h"
#include <stdio.h>

typedef struct reader_s {
  FILE *file;
  const char *name; /* for messages */
  uint32_t line;
  uint32_t nesting;
} reader_t;

/* Read the next form. Returns VALUE_EOF at the end of the file. */
value_t read_form(lisp_t *lisp, reader_t *reader);

/* Skip what is left of the line. */
void read_rest_of_line(reader_t *reader);

#endif /* LISP_READER_H */
