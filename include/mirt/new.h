/* mirt/new.h - allocating and freeing objects.
 *
 * The fast path is inline: at most ten instructions on x86-64. What it reads and writes is
 * published in doc/jit.md, for compilers that emit it themselves.
 *
 * An object is found by the collector as soon as it is allocated: its slots must be set, or
 * zero, when the next collection begins. What lies in a block behind the size that was
 * asked for is zero if the type has an array of slots.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_NEW_H
#define MIRT_NEW_H

#include <mirt/type.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where a mutator takes objects of a type from: the free blocks of a group of up to 64. */
typedef struct mirt_cell_s {
  void* link;
  uint64_t word;     /* bit i: the group's block i is free, and this mutator's */
  uintptr_t group;   /* address of block 0 of the group */
  size_t block_size; /* bytes */
} mirt_cell_t;

/* The number of the lowest bit of a word that is not 0. Where a processor does not know
 * tzcnt it takes this for bsf: the same for such a word. In assembly, since compilers add an
 * instruction that widens the result. */
static inline uint64_t mirt_lowest_bit(uint64_t word) {
#if defined(__x86_64__) && defined(__GNUC__)
  __asm__("rep bsfq %0, %0" : "+r"(word) : : "cc");
  return word;
#else
  return (uint64_t)__builtin_ctzll(word);
#endif
}

/* Have the compiler add the offset in each access, where that is free, and not once before
 * them, where it is an instruction. */
#if defined(__x86_64__) && defined(__GNUC__)
#define MIRT_KEEP_IN_PLACE(offset) __asm__("" : "+r"(offset))
#else
#define MIRT_KEEP_IN_PLACE(offset) ((void)0)
#endif

/* What mirt_new and the others call when the cell has no free block left, or objects differ
 * in size. */
mi_decl_export void* mirt_new_slow(mirt_mutator_t* mutator, const mirt_type_t* type);

/* Allocate an object of a fixed size.
 *   mutator  bound to the calling thread, of the type's runtime; not looked at, as long as the cell
 *            has a free block
 *   type     a type of fixed size
 * Returns the object, its contents undefined, aligned as the type says; or NULL, with ENOMEM
 * through the registered error function, when there is no memory or the budget's hard limit
 * is reached, EINVAL for a type whose objects differ in size or a mutator of another
 * runtime, EPERM when the mutator is not bound to this thread, EBUSY when a collection
 * runs. (Bump and bitmap allocation inline, by cells per type: WebKit's libpas; Go's
 * allocBits.) */
static inline void* mirt_new(mirt_mutator_t* mutator, const mirt_type_t* type) {
#define MIRT_CELL ((mirt_cell_t*)((char*)mutator + offset))
  uintptr_t offset = type->cell;
  const uint64_t word = MIRT_CELL->word;
  if (__builtin_expect(word == 0, 0)) return mirt_new_slow(mutator, type);
  MIRT_KEEP_IN_PLACE(offset);
  MIRT_CELL->word = word & (word - 1);
  uint64_t distance = mirt_lowest_bit(word);
  MIRT_KEEP_IN_PLACE(offset);
  distance *= MIRT_CELL->block_size;
  MIRT_KEEP_IN_PLACE(offset);
  return (void*)(MIRT_CELL->group + distance);
#undef MIRT_CELL
}

/* The same, and its bytes are zero. */
static inline void* mirt_new_zeroed(mirt_mutator_t* mutator, const mirt_type_t* type) {
  void* object = mirt_new(mutator, type);
  return object == NULL ? NULL : memset(object, 0, type->size);
}

/* Allocate an object of a variable type, or of a fixed one with its size or less.
 *   size  bytes, at least the type's for a variable type
 * Returns the object, its contents undefined but for what the head of this file says, or
 * NULL as mirt_new does; with EINVAL when the size does not fit the type. */
mi_decl_export void* mirt_new_sized(mirt_mutator_t* mutator, const mirt_type_t* type,
                                    size_t size);

/* The same, and its bytes are zero. */
mi_decl_export void* mirt_new_sized_zeroed(mirt_mutator_t* mutator,
                                           const mirt_type_t* type, size_t size);

/* Free an object that the virtual machine knows to be dead; nobody needs to. Its finalizer
 * is not called.
 *   object  a live object, without a weak reference (delete that before), and not one that waits
 *           for its finalizer; NULL does nothing
 * Corruption is reported as by mi_free. Fastest where its mutator is bound; any thread may
 * call it, but not during a collection. */
mi_decl_export void mirt_delete(void* object);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_NEW_H */
