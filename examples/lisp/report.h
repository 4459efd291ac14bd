/* report.h - what the objects take, and what destroying them took.
 *
 * Invariant: a report is taken while the heaps are there and printed after they are gone.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_REPORT_H
#define LISP_REPORT_H

#include "memory.h"
#include <stdio.h>

typedef struct report_s {
  bool has_cage;
  mirt_cage_t cage; /* a copy of its record */
  size_t limit;
  memory_usage_t types[TYPE_COUNT];
  memory_usage_t total;
  uint64_t run_microseconds;
  uint64_t destroy_microseconds;
} report_t;

/* Ask the heaps what they hold. */
void report_take(report_t *report, const memory_t *memory);

/* As an aligned table. */
void report_print(const report_t *report, const char *program, FILE *file);

/* As lines key=value. Returns 0 or an error code. */
int report_write(const report_t *report, const char *program, const char *file_name);

#endif /* LISP_REPORT_H */
