/* report.h - what the objects take, what collecting and destroying them took.
 *
 * Invariant: a report is taken while the runtime is there and printed after it is gone.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_REPORT_H
#define LISP_REPORT_H

#include "lisp.h"
#include <stdio.h>

typedef struct report_s {
  bool has_cage;
  mirt_cage_t cage; /* a copy of its record */
  size_t limit;
  memory_usage_t types[TYPE_COUNT];
  memory_usage_t total;
  size_t made_bytes;     /* of all objects, those that were freed too */
  collector_t collector; /* a copy */
  uint64_t run_microseconds;
  uint64_t destroy_microseconds;
} report_t;

/* Begin a report: where the objects lie, what collecting took so far. */
void report_take(report_t *report, const lisp_t *lisp);

/* Collect, and ask the types what the objects take that live. */
void report_take_usage(report_t *report, lisp_t *lisp);

/* As an aligned table. */
void report_print(const report_t *report, const char *program, FILE *file);

/* As lines key=value. Returns 0 or an error code. */
int report_write(const report_t *report, const char *program, const char *file_name);

#endif /* LISP_REPORT_H */
