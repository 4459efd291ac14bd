/* mirt/runtime.h - the heap of a virtual machine: a cage or an arena, types, mutators, a
 * budget.
 *
 * Everything a virtual machine allocates lies in one exclusive arena: a cage, where objects
 * refer to each other by 32 bits, or a plain range of addresses. Several runtimes in one
 * process share nothing, but for the numbers of tags (mirt/tag.h): statistics by tag count those
 * of both, where mirt_type_stats does not. The child of a fork can go on with a runtime, whose
 * other mutators are lost there, unless it was forked during a collection. From an empty
 * file to a collected heap:
 *
 *   mirt_runtime_t* runtime;
 *   mirt_runtime_create(NULL, &runtime);
 *   mirt_type_t* pair = mirt_type_new(runtime, &(mirt_type_options_t){
 *       .name = "pair", .size = 16, .slot_size = 8, .is_array = true});
 *   mirt_mutator_t* mutator = mirt_mutator_create_in(runtime);
 *   mirt_mutator_bind(mutator);
 *   void** p = mirt_new_zeroed(mutator, pair);
 *   mirt_collect(runtime, mark_roots, vm, NULL, NULL);
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_RUNTIME_H
#define MIRT_RUNTIME_H

#include <mimalloc.h>
#include <mirt/cage.h>
#include <mirt/mutator.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mirt_runtime_s mirt_runtime_t;
typedef struct mirt_type_s mirt_type_t;

/* Called by the thread that allocates when the soft limit has been crossed, and not again
 * before the live bytes have been below it, at the end of a collection or when they are
 * counted; and always before an allocation fails because of the hard limit. It may collect,
 * raise a limit, or ask other threads to stop. What it does for the hard limit is tried again
 * as long as collections end meanwhile, this thread's or another's, up to 8 times.
 *   live  bytes in live objects, counted just now
 *   type  what is about to be allocated
 *   arg   as registered */
typedef void mirt_budget_fun(mirt_runtime_t* runtime, size_t live,
                             const mirt_type_t* type, void* arg);

/* What to create. Zero-initialise it: every field's zero is a good default. */
typedef struct mirt_runtime_options_s {
  /* Lay the heap in a cage like this; NULL for plain addresses. */
  const mirt_cage_options_t* cage;
  /* Without a cage: bytes of addresses to reserve, rounded up to slices; 0 for 64 GiB, or
   * less where the system has not so many. Memory is committed when it is first used. */
  size_t size;
  /* Types that it can have, up to MIRT_TYPES_MAX; 0 for 1024. Each costs 384 bytes of
   * addresses per mutator, and memory once it is used there. */
  unsigned type_limit;
  /* The budget: see mirt_budget_set. Without on_soft_limit the soft limit is only remembered. */
  size_t soft_limit, hard_limit;
  mirt_budget_fun* on_soft_limit;
  void* arg;
  /* For finding roots that were forgotten: call on_soft_limit before each allocation, which may
   * collect; and fill objects with MIRT_DEAD_BYTE when they are swept, by eager sweeps only. Both
   * make everything slow. */
  bool call_always, fill_dead;
} mirt_runtime_options_t;

#define MIRT_DEAD_BYTE 0xDB

#define MIRT_TYPES_MAX 16384

/* Create a runtime.
 *   options  what is wanted; NULL stands for all zeros
 *   runtime  receives it, or NULL on failure
 * Returns 0, or an error code, with one line through the registered error function:
 *   EINVAL  type_limit too large, hard_limit not 0 and below soft_limit, or runtime NULL
 *   ENOMEM  addresses or memory for its records cannot be had
 *   others  as mirt_cage_create
 * Any thread may call it. */
mi_decl_export int mirt_runtime_create(const mirt_runtime_options_t* options,
                                       mirt_runtime_t** runtime);

/* Destroy a runtime with its mutators, types, objects and addresses: one sweep over its
 * pages, no object is looked at, no finalizer runs.
 *   runtime  no other thread uses it; NULL does nothing
 * Returns 0, or EBUSY, with one line through the registered error function, when one of its
 * mutators is bound, a heap that the program made is bound to its arena, or it is being
 * collected, or a finalizer runs; then nothing has changed. Any thread may call it. */
mi_decl_export int mirt_runtime_destroy(mirt_runtime_t* runtime);

/* The cage of a runtime, for mirt_encode and mirt_decode, or NULL; the id of its arena. A heap
 * of the program may be bound to that (mi_heap_new_ex), but not with the tag of one of the
 * runtime's types: the collector takes what is under those for objects.
 * Any thread may call them. No errors. */
mi_decl_nodiscard mi_decl_export const mirt_cage_t* mirt_runtime_cage(
    const mirt_runtime_t* runtime) mi_attr_noexcept;
mi_decl_nodiscard mi_decl_export mi_arena_id_t mirt_runtime_arena(
    const mirt_runtime_t* runtime) mi_attr_noexcept;

/* Make a mutator that can allocate objects of a runtime, bound to no thread. To allocate, a
 * thread binds one (mirt/mutator.h); a thread of the system or a green thread has one of its
 * own. mi_malloc takes memory from outside of the runtime, also then. Destroyed by
 * mirt_mutator_destroy, or with the runtime; its objects are the runtime's.
 * Returns NULL, with one line through the registered error function: EINVAL when runtime is
 * NULL, or ENOMEM without memory. Any thread may call it, as mirt_mutator_destroy, but not
 * while a collection of the runtime runs. */
mi_decl_nodiscard mi_decl_export mirt_mutator_t* mirt_mutator_create_in(
    mirt_runtime_t* runtime);

/* The runtime of a mutator, or NULL. Any thread may call it. No errors. */
mi_decl_nodiscard mi_decl_export mirt_runtime_t* mirt_mutator_runtime(
    const mirt_mutator_t* mutator) mi_attr_noexcept;

/* ---- the budget ---- */

/* Set the budget.
 *   soft  bytes in live objects after which on_soft_limit is called; 0: never
 *   hard  bytes in live objects past which allocation returns NULL, with ENOMEM; 0: none.
 *         It is looked at when a mutator takes up to 64 free blocks of a type at a time
 * Objects that died count until the next collection, and so do free blocks that a mutator has
 * taken. What has been counted is not counted again before 1/32 of the soft limit has been
 * allocated, so the callback may come so much late. Returns 0, or EINVAL, with one line
 * through the registered error function, when runtime is NULL or hard is not 0 and less
 * than soft. Any thread may call it. */
mi_decl_export int mirt_budget_set(mirt_runtime_t* runtime, size_t soft, size_t hard);

/* Set the soft limit to the bytes that live now, times percent / 100, but not below least
 * nor above the hard limit, and never to 0: collect again when the heap has grown by so
 * much. To be called after a collection. Returns the new soft limit, or 0, with EINVAL
 * through the registered error function, when runtime is NULL. Any thread may call it. */
mi_decl_export size_t mirt_budget_grow(mirt_runtime_t* runtime, unsigned percent,
                                       size_t least);

/* Count memory outside of the runtime to its live bytes, as far as the budget is concerned: a
 * file's buffer, say, that an object's finalizer gives back. The limits are looked at when an
 * object is allocated next.
 *   bytes  more, or less where it is negative
 * Returns all that is charged now. Through the registered error function, and without
 * effect: EINVAL when runtime is NULL, less has been charged than is taken back, or more
 * would be than PTRDIFF_MAX. Any thread may call it. */
mi_decl_export size_t mirt_budget_charge(mirt_runtime_t* runtime, ptrdiff_t bytes);

/* What is in a runtime, in bytes. */
typedef struct mirt_runtime_stats_s {
  size_t live_bytes;  /* in objects that were allocated and not freed, by their blocks */
  size_t pages_bytes; /* in pages that hold them */
  size_t charged_bytes; /* by mirt_budget_charge; in neither of the others */
  size_t soft_limit, hard_limit;
  size_t types, mutators, weak_references;
} mirt_runtime_stats_t;

/* Count what is in a runtime; exact while nobody allocates or frees. Takes about 250 ns per
 * page of 64 KiB. Returns false, with EINVAL, when an argument is NULL. Any thread may call it. */
mi_decl_export bool mirt_runtime_stats(const mirt_runtime_t* runtime,
                                       mirt_runtime_stats_t* stats);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_RUNTIME_H */
