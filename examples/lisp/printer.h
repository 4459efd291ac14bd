/* printer.h - values to text.
 *
 * Invariant: printing makes no objects and raises no errors; it reports them, so that it
 * can be used in an error message.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_PRINTER_H
#define LISP_PRINTER_H

#include "object.h"
#include <stdio.h>

/* Print a value to a file: with quote as `write` does, readable again; without it as
 * `display` does. Returns NULL, or why it stopped before the end. */
const char *print_to_file(value_t value, bool quote, FILE *file);

/* The same into a text of at most size bytes with its final 0; "..." at the end if it had
 * to be cut. */
void print_to_text(value_t value, bool quote, char *text, size_t size);

#endif /* LISP_PRINTER_H */
