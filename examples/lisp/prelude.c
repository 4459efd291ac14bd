/* prelude.c - the part of the library that is written in Lisp: functions that call
 * functions, so that C never has to call back into the machine.
 *
 * Invariant: a definition uses only what stands above it. It then means those functions
 * for ever (compile_variable), whatever a program calls by their names. The names that
 * begin with % are for the prelude itself.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "lisp.h"
#include "reader.h"

static const char *const definitions[] = {
    /* The end of a walk over a list, which must be (). */
    "(define (%end name rest)"
    "  (if (null? rest) rest (error (string-append name \": expected a list, got\") "
    "rest)))",

    "(define (%map1 function list)"
    "  (let loop ((rest list) (done '()))"
    "    (if (pair? rest)"
    "        (loop (cdr rest) (cons (function (car rest)) done))"
    "        (begin (%end \"map\" rest) (reverse! done)))))",

    "(define (%all-pairs? lists)"
    "  (let loop ((rest lists))"
    "    (or (null? rest) (and (pair? (car rest)) (loop (cdr rest))))))",

    "(define (map function list . more)"
    "  (if (null? more)"
    "      (%map1 function list)"
    "      (let loop ((lists (cons list more)) (done '()))"
    "        (if (%all-pairs? lists)"
    "            (loop (%map1 cdr lists)"
    "                  (cons (apply function (%map1 car lists)) done))"
    "            (reverse! done)))))",

    "(define (for-each function list . more)"
    "  (if (null? more)"
    "      (let loop ((rest list))"
    "        (cond ((pair? rest) (function (car rest)) (loop (cdr rest)))"
    "              (else (%end \"for-each\" rest) (if #f #f))))"
    "      (let loop ((lists (cons list more)))"
    "        (when (%all-pairs? lists)"
    "          (apply function (%map1 car lists))"
    "          (loop (%map1 cdr lists))))))",

    "(define (filter keep? list)"
    "  (let loop ((rest list) (done '()))"
    "    (cond ((pair? rest)"
    "           (loop (cdr rest) (if (keep? (car rest)) (cons (car rest) done) done)))"
    "          (else (%end \"filter\" rest) (reverse! done)))))",

    "(define (fold-left function start list)"
    "  (let loop ((result start) (rest list))"
    "    (cond ((pair? rest) (loop (function result (car rest)) (cdr rest)))"
    "          (else (%end \"fold-left\" rest) result))))",

    "(define (fold-right function start list)"
    "  (let loop ((result start) (rest (reverse list)))"
    "    (if (null? rest) result (loop (function (car rest) result) (cdr rest)))))",

    "(define (reduce function start list)"
    "  (if (null? list) start (fold-left function (car list) (cdr list))))",

    "(define (%merge a b less?)"
    "  (let loop ((a a) (b b) (done '()))"
    "    (cond ((null? a) (append-reverse! done b))"
    "          ((null? b) (append-reverse! done a))"
    "          ((less? (car b) (car a)) (loop a (cdr b) (cons (car b) done)))"
    "          (else (loop (cdr a) b (cons (car a) done))))))",

    /* The first count items, sorted. */
    "(define (sort list less?)"
    "  (let sort-first ((list list) (count (length list)))"
    "    (cond ((= count 0) '())"
    "          ((= count 1) (cons (car list) '()))"
    "          (else"
    "           (let ((half (quotient count 2)))"
    "             (%merge (sort-first list half)"
    "                     (sort-first (list-tail list half) (- count half))"
    "                     less?))))))",

    "(define (vector-map function vector)"
    "  (list->vector (map function (vector->list vector))))",

    "(define (vector-for-each function vector)"
    "  (for-each function (vector->list vector)))",

    "(define (hash-update! table key function default)"
    "  (hash-set! table key (function (hash-ref table key default))))",

    "(define (hash-for-each function table)"
    "  (for-each (lambda (entry) (function (car entry) (cdr entry))) (hash->list "
    "table)))",

    "(define (eval form . environment) ((compile form)))",

    "(define (load file)"
    "  (for-each (lambda (form) ((compile form file))) (read-forms file)))",
};

void prelude_load(lisp_t *lisp) {
  for (size_t i = 0; i < sizeof definitions / sizeof definitions[0]; i++) {
    lisp->file = fmemopen((void *)(uintptr_t)definitions[i], strlen(definitions[i]), "r");
    if (lisp->file == NULL) lisp_error(lisp, "out of memory");
    reader_t reader = {.file = lisp->file, .line = 1};
    value_t *form = lisp_push(lisp, read_form(lisp, &reader));
    fclose(lisp->file);
    lisp->file = NULL;
    lisp_call(lisp, compile_form(lisp, *form, VALUE_NIL));
    lisp_pop(lisp);
  }
}
