/* mirt/mutator.h - owners of heaps that move between threads.
 *
 * Heaps belong to an owner, and only one thread at a time may use an owner's heaps. Each
 * thread has an owner of its own, which ends with it. A mutator is an owner that the program
 * makes: a scheduler gives one to each of its green threads, and binds it to whichever
 * thread of the system runs that green thread next; a server gives one to each session.
 *
 * While a mutator is bound to a thread it is that thread's current owner: mi_malloc and
 * the like allocate from the mutator's own default heap, and heaps made belong to it.
 * Heaps of other owners, those of the thread itself too, are not to be allocated from
 * meanwhile; blocks can be freed, as always, by whoever has them.
 *
 * To hand a heap to another thread: make it while a mutator is bound, unbind, and bind the
 * mutator there. To destroy a heap from another thread: the same.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_MUTATOR_H
#define MIRT_MUTATOR_H

#include <mimalloc.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mirt_mutator_s mirt_mutator_t;

/* Make a mutator, bound to no thread, without heaps; its pages are of the sub-process of the
 * calling thread's current owner. It takes less than 200 bytes; its default heap is made
 * when it first allocates. Returns NULL, with ENOMEM, without memory. Any thread may call
 * it. */
mi_decl_nodiscard mi_decl_export mirt_mutator_t* mirt_mutator_create(void);

/* Make a mutator the current owner of the calling thread. The owner so far, the thread's own
 * or another mutator, becomes current again when this one is unbound: bindings nest. What
 * a thread did while the mutator was bound there is seen by the one it is bound to next.
 * Costs about as much as an uncontended lock.
 *   mutator  one that is bound nowhere
 * Returns 0, or an error code, with one line through the registered error function; then
 * nothing has changed:
 *   EBUSY   it is bound already, to whichever thread
 *   EINVAL  mutator is NULL
 * Any thread may call it. A thread that ends unbinds what is bound to it. */
mi_decl_export int mirt_mutator_bind(mirt_mutator_t* mutator);

/* Undo the last mirt_mutator_bind of the calling thread. The mutator may be bound anywhere
 * then; its default heap (mi_heap_set_default) stays with it.
 *   mutator  the one bound last
 * Returns 0, or an error code, with one line through the registered error function; then
 * nothing has changed:
 *   EPERM   the mutator is not the current owner of the calling thread
 *   EINVAL  mutator is NULL
 * Only the thread that it is bound to may call it. */
mi_decl_export int mirt_mutator_unbind(mirt_mutator_t* mutator);

/* The mutator that is the current owner of the calling thread, or NULL when that is the
 * thread's own. No errors. */
mi_decl_nodiscard mi_decl_export mirt_mutator_t* mirt_mutator_current(void);

/* End a mutator, as the end of a thread ends the thread's owner: all its heaps are
 * deleted, blocks that live stay valid, and pages that hold such are adopted by others with
 * the same tag. Destroy heaps before, in a thread that it is bound to, to give back
 * everything at once.
 *   mutator  one that is bound nowhere; nobody uses it any more
 * Returns 0, or an error code, with one line through the registered error function; then
 * nothing has changed:
 *   EBUSY   it is bound to a thread
 *   EINVAL  mutator is NULL
 * Any thread may call it. */
mi_decl_export int mirt_mutator_destroy(mirt_mutator_t* mutator);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_MUTATOR_H */
