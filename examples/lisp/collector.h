/* collector.h - when to collect, and what a collection found.
 *
 * Invariant: whoever makes an object may thereby start a collection, and only they. All
 * that is still needed then can be reached from the roots (lisp.h).
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_COLLECTOR_H
#define LISP_COLLECTOR_H

#include "object.h"

typedef struct collector_s {
  bool print;     /* a line about each collection */
  uint32_t every; /* collect for every so many-th object; 0: when the budget says so */
  uint32_t made;  /* objects since the last time */
  size_t count;   /* of collections so far */
  uint64_t pause_nanoseconds, longest_nanoseconds;
  size_t freed_bytes; /* by all of them */
  size_t peak_bytes;  /* the most that there was in objects when one began */
} collector_t;

/* Collect what cannot be reached from the roots. */
void collector_run(lisp_t *lisp);

/* Collect because the budget's soft limit has been crossed. The argument is the lisp_t. */
mirt_budget_fun collector_on_full;

#endif /* LISP_COLLECTOR_H */
