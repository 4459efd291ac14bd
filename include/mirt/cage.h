/* mirt/cage.h - a cage: an exclusive arena at a fixed base, for compressed references.
 *
 * Invariant: a cage reserves the whole range that a 32-bit reference can name, 4 GiB <<
 * shift bytes, for as long as it lives, however little of it the arena uses. So any
 * 32-bit value decodes to an address inside the reservation: a corrupted reference reads
 * an object of the cage, or faults, and never reaches anything else of the process. The
 * slice that reference 0 names is never mapped: 0 is null, and following it faults.
 *
 * The same idea is known as compressed oops (HotSpot), pointer compression (V8), and
 * 32-bit boxes (Koka).
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_CAGE_H
#define MIRT_CAGE_H

#include <mimalloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a reference becomes an address. The modes are ordered by what a decode costs. */
typedef enum mirt_cage_mode_e {
  /* The reservation is [0, 4 GiB << shift): address = ref << shift. */
  MIRT_CAGE_ZERO_BASED,
  /* The base is aligned to 4 GiB << shift: address = base | (ref << shift). */
  MIRT_CAGE_ALIGNED,
  /* Any slice-aligned base: address = base + (ref << shift). */
  MIRT_CAGE_ANY_BASE,
  /* References are signed distances from the middle of the reservation:
   * address = middle + ((int32_t)ref << shift). */
  MIRT_CAGE_SIGNED
} mirt_cage_mode_t;

/* What to create. Zero-initialise it: every field's zero is a good default. */
typedef struct mirt_cage_options_s {
  /* Wanted start of the reservation, a multiple of mi_arena_min_alignment(); NULL for the
   * best one that can be had: zero-based, else aligned, else anywhere. */
  void* base;
  /* Bytes that the cage's heaps can use, at most 4 GiB << shift; 0 for all of it. Rounded
   * up to whole slices. One slice of it is the null slice. */
  size_t size;
  /* References count in units of 1 << shift bytes: 0 to 4. Blocks of heaps are aligned
   * to 16 bytes at least, and objects of a runtime's types to 1 << shift, so 4 reaches 64 GiB. */
  unsigned shift;
  /* Signed references counted from the middle of the reservation. */
  bool signed_refs;
  /* Commit all memory at once instead of when slices are first used. */
  bool commit;
  /* Allow 2 MiB pages. */
  bool allow_large;
} mirt_cage_options_t;

/* A cage. The fields are public so that encode and decode are inline (mirt/ref.h) and a
 * JIT can copy them into code; read them, never write them. */
typedef struct mirt_cage_s {
  uintptr_t base;         /* address that reference 0 decodes to */
  uint64_t sign;          /* 0, or 0x80000000 where references are signed */
  unsigned shift;         /* 0 to 4 */
  mirt_cage_mode_t mode;
  mi_arena_id_t arena;    /* the exclusive arena: for mi_heap_new_ex */
  void* reservation;      /* start of the reserved range (ZERO_BASED: the lowest address
                             the system lets a process map) */
  size_t reserved;        /* its size in bytes */
} mirt_cage_t;

/* Create a cage.
 *   options  what is wanted; NULL stands for all zeros
 *   cage     receives the new cage, or NULL on failure
 * Returns 0, or an error code, with one line through the registered error function:
 *   EINVAL  shift above 4, size above 4 GiB << shift, base not aligned to a slice or the
 *           range past the end of the address space, cage NULL
 *   EEXIST  something is mapped in the wanted range already; a cage never lies silently
 *           somewhere else
 *   ENOMEM  the address range or memory for the cage's records cannot be had
 * The mode that came out is (*cage)->mode.
 * Any thread may call it. */
mi_decl_export int mirt_cage_create(const mirt_cage_options_t* options,
                                    mirt_cage_t** cage);

/* Destroy a cage: its blocks, its arena, and the reservation, which goes back to the
 * system whole. Heaps bound to its arena must have been deleted or destroyed before.
 *   cage  a cage of mirt_cage_create; NULL does nothing
 * Returns 0, or EBUSY when a heap is still bound to the arena: nothing has changed then.
 * Any thread may call it, while no other thread uses the cage. */
mi_decl_export int mirt_cage_destroy(mirt_cage_t* cage);

/* The name of a mode, for reports: "zero-based", "aligned", "any base", "signed".
 * Returns "unknown" for another value. Any thread may call it. */
mi_decl_export const char* mirt_cage_mode_name(mirt_cage_mode_t mode);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_CAGE_H */
