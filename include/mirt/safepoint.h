/* mirt/safepoint.h - stopping the threads of a virtual machine, for one that has no means of
 * its own.
 *
 * Each thread that runs code of the virtual machine is attached. It polls at places where it
 * has no half-made object, and every reference it needs can be found by the collector:
 *
 *   mirt_safepoint_attach(safepoint);
 *   while (...) {
 *     mirt_safepoint_poll(safepoint);  // a load and a branch
 *     ...
 *     mirt_safepoint_leave(safepoint);  // a call that blocks: it counts as stopped
 *     read(...);
 *     mirt_safepoint_enter(safepoint);
 *   }
 *   mirt_safepoint_detach(safepoint);
 *
 * and who wants to collect, an attached thread, does so with the world stopped:
 *
 *   if (mirt_safepoint_request(safepoint)) {
 *     mirt_collect(...);
 *     mirt_safepoint_resume(safepoint);
 *   }
 *
 * Finalizers run in mirt_collect, with the world still stopped: they may allocate, but wait for
 * no other thread. Who wants them to run beside the others calls mirt_gc_begin, mirt_gc_trace and
 * mirt_gc_end, resumes, and then calls mirt_gc_finalize.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_SAFEPOINT_H
#define MIRT_SAFEPOINT_H

#include <atomic_ops.h>
#include <mirt/gc.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mirt_safepoint_s mirt_safepoint_t;

/* The first field of a safepoint: not 0 when threads shall stop. A JIT may load it itself,
 * with any memory order. */
typedef struct mirt_safepoint_flag_s {
  volatile AO_t is_requested;
} mirt_safepoint_flag_t;

/* Make a safepoint, to which no thread is attached. Returns NULL, with ENOMEM through the
 * registered error function, without memory. Any thread may call it. */
mi_decl_nodiscard mi_decl_export mirt_safepoint_t* mirt_safepoint_create(void);

/* Destroy one; NULL does nothing. Returns 0, or EBUSY, with one line through the registered
 * error function, when a thread is attached. Any thread may call it. */
mi_decl_export int mirt_safepoint_destroy(mirt_safepoint_t* safepoint);

/* Attach the calling thread; it waits while the world is stopped. Detach it: not between leaving
 * and entering. The child of a fork has to make its own safepoint. */
mi_decl_export void mirt_safepoint_attach(mirt_safepoint_t* safepoint);
mi_decl_export void mirt_safepoint_detach(mirt_safepoint_t* safepoint);

/* Attach the calling thread with its stack, for mirt_safepoint_mark_stacks.
 *   bottom  where the stack began: __builtin_frame_address(0) of a function that calls, not
 *           inlined, those that have objects
 * Returns 0, or ENOMEM, with one line through the registered error function: then it is not
 * attached. */
mi_decl_export int mirt_safepoint_attach_stack(mirt_safepoint_t* safepoint,
                                               const void* bottom);

/* Mark what the stacks and registers of the threads may point to that are attached with
 * their stacks, the calling one included: of the others, as they were when they stopped.
 *   marker  one of a collection; the calling thread has stopped the world
 * Returns how many were marked. */
mi_decl_export size_t mirt_safepoint_mark_stacks(mirt_safepoint_t* safepoint,
                                                 mirt_marker_t* marker);

/* Stop here until the world goes on: what mirt_safepoint_poll calls. An attached thread. */
mi_decl_export void mirt_safepoint_stop(mirt_safepoint_t* safepoint);

/* Stop if that is requested. An attached thread; a load and a branch if not. */
static inline void mirt_safepoint_poll(mirt_safepoint_t* safepoint) {
  const mirt_safepoint_flag_t* flag = (const mirt_safepoint_flag_t*)safepoint;
  if (__builtin_expect(AO_load(&flag->is_requested) != 0, 0)) {
    mirt_safepoint_stop(safepoint);
  }
}

/* Around what may block: between the two the thread counts as stopped, and may not touch
 * objects. Entering waits while the world is stopped. An attached thread; a function that leaves
 * does not return before it has entered again, if the thread is attached with its stack. */
mi_decl_export void mirt_safepoint_leave(mirt_safepoint_t* safepoint);
mi_decl_export void mirt_safepoint_enter(mirt_safepoint_t* safepoint);

/* Stop the world: have all other attached threads stop, and wait until they have. Requests of
 * one thread nest: the world goes on when it has resumed as often.
 * Returns true when this thread has stopped it, and must resume it; or false when another
 * thread was first: this one was stopped meanwhile, as by polling, and the world goes on. An
 * attached thread. */
mi_decl_nodiscard mi_decl_export bool mirt_safepoint_request(mirt_safepoint_t* safepoint);

/* Let the world go on. The thread that stopped it. */
mi_decl_export void mirt_safepoint_resume(mirt_safepoint_t* safepoint);

/* Threads that are attached. Any thread may call it. */
mi_decl_nodiscard mi_decl_export size_t
mirt_safepoint_threads(mirt_safepoint_t* safepoint);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_SAFEPOINT_H */
