/* value.h - one word that is any Lisp value.
 *
 * Invariant: a value is one of three things, told apart by its bits alone:
 *   bit 0 set                   a fixnum, a whole number of 31 bits
 *   below VALUE_OBJECT_FIRST    a constant or a character
 *   else                        the reference of an object
 * Fixnums have 31 bits in both builds, so that both run the same language.
 *
 * This header is the whole difference between the two builds (with memory.c, which makes
 * the runtime). With LISP_REFS a value has 32 bits and an object is a reference into a cage
 * of shift 3. Our types are aligned to 16 bytes, twice the unit of the references, so a
 * reference is always even and bit 0 is ours; and no object lies in the cage's null slice,
 * so the references that name its first 8 KiB are free for the constants. Without
 * LISP_REFS a value is a machine word and an object is a pointer, which has the same two
 * properties.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_VALUE_H
#define LISP_VALUE_H

#include <mirt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if LISP_REFS

typedef mirt_ref_t value_t;
typedef int32_t signed_value_t;

/* References count units of 8 bytes: 32 GiB of cage, and a factor that the address
 * arithmetic of common processors includes. */
#define VALUE_SHIFT 3

#define VALUE_ALIGNMENT 16

/* Where the cage begins: a copy of its base field, so that a decode is one load, one
 * shift and one addition. This is right for each kind of cage that memory.c may get: a
 * zero-based cage is one at base 0, an aligned cage one at a particular base. */
extern uintptr_t value_base;

/* The object that a value refers to. Cost: load the base, shift, add. */
static inline void *value_object(value_t value) {
  return mirt_decode_at(value_base, VALUE_SHIFT, MIRT_CAGE_ANY_BASE, value);
}

/* The value that refers to an object. */
static inline value_t object_value(const void *object) {
  return mirt_encode_at(value_base, VALUE_SHIFT, MIRT_CAGE_ANY_BASE, object);
}

#else

typedef uintptr_t value_t;
typedef intptr_t signed_value_t;

#define VALUE_ALIGNMENT 8

static inline void *value_object(value_t value) { return (void *)value; }

static inline value_t object_value(const void *object) { return (value_t)object; }

#endif

/* The constants. Even numbers, below every object. */
#define VALUE_NIL ((value_t)0) /* the empty list */
#define VALUE_FALSE ((value_t)2)
#define VALUE_TRUE ((value_t)4)
#define VALUE_UNSPECIFIED ((value_t)6) /* what set! and display return */
#define VALUE_EOF ((value_t)8)         /* what read-line returns at the end */
#define VALUE_UNBOUND ((value_t)10)    /* in a variable: not defined yet */
#define VALUE_EMPTY ((value_t)12)      /* in a table: a slot never used */
#define VALUE_REMOVED ((value_t)14)    /* in a table: a slot whose key was removed */
#define VALUE_CHARACTER_FIRST ((value_t)512)
#define VALUE_OBJECT_FIRST ((value_t)1024)

#define FIXNUM_MAX ((1 << 30) - 1)
#define FIXNUM_MIN (-(1 << 30))

static inline bool value_is_fixnum(value_t value) { return (value & 1) != 0; }

static inline bool value_is_object(value_t value) {
  return (value & 1) == 0 && value >= VALUE_OBJECT_FIRST;
}

static inline int32_t value_fixnum(value_t value) {
  return (int32_t)((signed_value_t)value >> 1);
}

/* number must lie between FIXNUM_MIN and FIXNUM_MAX. */
static inline value_t fixnum_value(int32_t number) {
  return ((value_t)(signed_value_t)number << 1) | 1;
}

static inline bool value_is_character(value_t value) {
  return (value & 1) == 0 && value >= VALUE_CHARACTER_FIRST && value < VALUE_OBJECT_FIRST;
}

/* A character is a byte; text in UTF-8 passes through unchanged. */
static inline unsigned char value_character(value_t value) {
  return (unsigned char)((value - VALUE_CHARACTER_FIRST) >> 1);
}

static inline value_t character_value(unsigned char byte) {
  return VALUE_CHARACTER_FIRST + ((value_t)byte << 1);
}

static inline value_t boolean_value(bool truth) {
  return truth ? VALUE_TRUE : VALUE_FALSE;
}

/* Mark the object that a value refers to, if it is one. */
static inline void value_mark(mirt_marker_t *marker, value_t value) {
  if (!value_is_object(value)) return;
#if LISP_REFS
  mirt_mark_ref(marker, value);
#else
  mirt_mark(marker, value_object(value));
#endif
}

/* Everything but #f counts as true. */
static inline bool value_is_true(value_t value) { return value != VALUE_FALSE; }

#endif /* LISP_VALUE_H */
