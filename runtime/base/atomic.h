/* atomic.h - every atomic operation of mirt, thin over libatomic_ops.
 *
 * Invariant: nothing outside this file names an AO_ function, and every name here says
 * its memory order. "full" is a read-modify-write with acquire and release order. A load that
 * must not come before it, of another variable, is written atomic_load_after_full.
 */
#ifndef MIRT_BASE_ATOMIC_H
#define MIRT_BASE_ATOMIC_H

#include <atomic_ops.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef volatile AO_t atomic_word;

static inline uintptr_t atomic_load_relaxed(const atomic_word *p) { return AO_load(p); }

static inline uintptr_t atomic_load_acquire(const atomic_word *p) {
  return AO_load_acquire(p);
}

/* A load that is ordered after the full read-modify-write before it in program order. A
 * locked instruction is enough on x86; other machines need the barrier. */
static inline uintptr_t atomic_load_after_full(const atomic_word *p) {
#if defined(__x86_64__)
  return AO_load_acquire(p);
#else
  return AO_load_full(p);
#endif
}

/* The same for all loads that follow. */
static inline void atomic_barrier_after_full(void) {
#if !defined(__x86_64__)
  AO_nop_full();
#endif
}

/* All before it comes before all after it. */
static inline void atomic_barrier_full(void) { AO_nop_full(); }

/* All loads before it come before all loads after it. */
static inline void atomic_barrier_loads(void) { AO_nop_read(); }

/* Stores of this thread, in this order in its own eyes: the compiler keeps it. */
static inline void atomic_barrier_compiler(void) { AO_compiler_barrier(); }

static inline void atomic_store_relaxed(atomic_word *p, uintptr_t value) {
  AO_store(p, value);
}

static inline void atomic_store_release(atomic_word *p, uintptr_t value) {
  AO_store_release(p, value);
}

static inline bool atomic_compare_and_swap_full(atomic_word *p, uintptr_t expected,
                                                uintptr_t desired) {
  return AO_compare_and_swap_full(p, expected, desired) != 0;
}

static inline uintptr_t atomic_fetch_add_full(atomic_word *p, uintptr_t value) {
  return AO_fetch_and_add_full(p, value);
}

static inline uintptr_t atomic_fetch_sub_full(atomic_word *p, uintptr_t value) {
  return AO_fetch_and_add_full(p, (uintptr_t)0 - value);
}

/* A number of 32 bits that one thread writes, and others may read at the same time,
 * relaxed. */
typedef volatile unsigned atomic_number;

static inline uint32_t atomic_number_get(const atomic_number *number) {
  return AO_int_load(number);
}

static inline void atomic_number_set(atomic_number *number, uint32_t value) {
  AO_int_store(number, value);
}

/* A flag of one byte, set by one thread and read by others, relaxed. */
typedef volatile unsigned char atomic_flag_byte;

static inline bool atomic_flag_get(const atomic_flag_byte *flag) {
  return AO_char_load(flag) != 0;
}

static inline void atomic_flag_set(atomic_flag_byte *flag, bool value) {
  AO_char_store(flag, value);
}

/* libatomic_ops has no or, and, exchange that return the old value: compare-and-swap
 * loops. Each returns the value before. */
static inline uintptr_t atomic_fetch_or_full(atomic_word *p, uintptr_t bits) {
  uintptr_t old = AO_load(p);
  for (;;) {
    const uintptr_t seen = AO_fetch_compare_and_swap_full(p, old, old | bits);
    if (seen == old) return old;
    old = seen;
  }
}

static inline uintptr_t atomic_fetch_and_full(atomic_word *p, uintptr_t bits) {
  uintptr_t old = AO_load(p);
  for (;;) {
    const uintptr_t seen = AO_fetch_compare_and_swap_full(p, old, old & bits);
    if (seen == old) return old;
    old = seen;
  }
}

static inline uintptr_t atomic_exchange_full(atomic_word *p, uintptr_t value) {
  uintptr_t old = AO_load(p);
  for (;;) {
    const uintptr_t seen = AO_fetch_compare_and_swap_full(p, old, value);
    if (seen == old) return old;
    old = seen;
  }
}

/* Raise *p to value if that is larger. */
static inline void atomic_max_full(atomic_word *p, uintptr_t value) {
  uintptr_t old = AO_load(p);
  while ((intptr_t)old < (intptr_t)value) {
    const uintptr_t seen = AO_fetch_compare_and_swap_full(p, old, value);
    if (seen == old) return;
    old = seen;
  }
}

#endif
