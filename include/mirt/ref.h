/* mirt/ref.h - 32-bit compressed references into a cage: encode, decode, atomics.
 *
 * Invariant: a reference is (address - base) >> shift; 0 is null, and no block ever has
 * it. Decoding is total: any 32-bit value gives an address in the cage's reservation.
 *
 * Two forms. The ones that take a cage read base and shift from it. The ones ending in
 * _at take base, shift and mode as arguments: with constants they fold to one or two
 * instructions (a shift; a shift and an or; a shift and an add).
 *
 * All functions here are inline and may be called by any thread.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_REF_H
#define MIRT_REF_H

#include <mirt/cage.h>
#include <atomic_ops.h>
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A compressed reference. 0 is null. */
typedef uint32_t mirt_ref_t;

/* Is p inside the cage's reservation, aligned to the unit of its references, and not in
 * the null slice's first byte? Returns false for NULL. */
static inline bool mirt_ref_encodable(const mirt_cage_t* cage, const void* p) {
  const uintptr_t address = (uintptr_t)p;
  const uintptr_t unit = ((uintptr_t)1 << cage->shift) - 1;
  return address - (uintptr_t)cage->reservation < cage->reserved &&
         (address & unit) == 0 && address != cage->base;
}

/* Encode the address of a block of the cage. p must be encodable (a debug build, with
 * MIRT_DEBUG defined, asserts it): anything else gives a reference to something else, though
 * never to anything outside the cage. Cost: a subtraction and a shift. */
static inline mirt_ref_t mirt_encode(const mirt_cage_t* cage, const void* p) {
#ifdef MIRT_DEBUG
  assert(mirt_ref_encodable(cage, p));
#endif
  return (mirt_ref_t)(((uintptr_t)p - cage->base) >> cage->shift);
}

/* Decode a reference to an address; works for every mode of cage. Null decodes to the
 * start of the slice that is never mapped. Cost: load base, shift and sign (one line of
 * memory), xor, subtract, shift, add. */
static inline void* mirt_decode(const mirt_cage_t* cage, mirt_ref_t ref) {
  const uint64_t distance = (ref ^ cage->sign) - cage->sign;
  return (void*)(cage->base + (uintptr_t)(distance << cage->shift));
}

/* Encode, with NULL giving 0. */
static inline mirt_ref_t mirt_encode_nullable(const mirt_cage_t* cage, const void* p) {
  return p == NULL ? 0 : mirt_encode(cage, p);
}

/* Decode, with 0 giving NULL. */
static inline void* mirt_decode_nullable(const mirt_cage_t* cage, mirt_ref_t ref) {
  return ref == 0 ? NULL : mirt_decode(cage, ref);
}

/* Encode with a check in every build: stores the reference and returns true, or stores 0
 * and returns false when p is not encodable. NULL encodes to 0 and returns true. */
static inline bool mirt_ref_checked(const mirt_cage_t* cage, const void* p,
                                    mirt_ref_t* ref) {
  const bool encodable = mirt_ref_encodable(cage, p);
  *ref = encodable ? (mirt_ref_t)(((uintptr_t)p - cage->base) >> cage->shift) : 0;
  return encodable || p == NULL;
}

/* Decode with base, shift and mode known when the program is compiled. */
static inline void* mirt_decode_at(uintptr_t base, unsigned shift, mirt_cage_mode_t mode,
                                   mirt_ref_t ref) {
  const uintptr_t distance = (uintptr_t)ref << shift;
  switch (mode) {
    case MIRT_CAGE_ZERO_BASED: return (void*)distance;
    case MIRT_CAGE_ALIGNED: return (void*)(base | distance);
    case MIRT_CAGE_ANY_BASE: return (void*)(base + distance);
    default: return (void*)(base + ((uintptr_t)(intptr_t)(int32_t)ref << shift));
  }
}

/* Encode with base, shift and mode known when the program is compiled. p must be a block
 * of the cage. */
static inline mirt_ref_t mirt_encode_at(uintptr_t base, unsigned shift,
                                        mirt_cage_mode_t mode, const void* p) {
  /* An aligned base has no bit below 2^(32+shift), so the truncation drops it. */
  const uintptr_t distance = mode == MIRT_CAGE_ZERO_BASED || mode == MIRT_CAGE_ALIGNED
                                 ? (uintptr_t)p
                                 : (uintptr_t)p - base;
  return (mirt_ref_t)(distance >> shift);
}

/* Atomic access to a reference that several threads share. */

/* Load with acquire order. */
static inline mirt_ref_t mirt_ref_load(const volatile mirt_ref_t* slot) {
  return AO_int_load_acquire((const volatile unsigned*)slot);
}

/* Store with release order. */
static inline void mirt_ref_store(volatile mirt_ref_t* slot, mirt_ref_t ref) {
  AO_int_store_release((volatile unsigned*)slot, ref);
}

/* Store desired if the slot holds expected; full barrier. Returns true when it stored. */
static inline bool mirt_ref_compare_and_swap(volatile mirt_ref_t* slot,
                                             mirt_ref_t expected, mirt_ref_t desired) {
  return AO_int_compare_and_swap_full((volatile unsigned*)slot, expected, desired) != 0;
}

#ifdef __cplusplus
}
#endif

#endif /* MIRT_REF_H */
