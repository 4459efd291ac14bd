/* mirt/gc.h - marking what is reachable and sweeping the rest.
 *
 * A collection marks by a bit per object, kept outside of the objects, and then sweeps by
 * words of 64: no dead object is touched, and no live one without slots. Objects never
 * move. (Mark bits beside the heap, lazy sweep by words: Boehm, Demers, Weiser; Go.)
 *
 * mirt stops no thread. From mirt_gc_begin to mirt_gc_end, or while mirt_collect runs, no
 * thread may allocate, free or write objects of the runtime: the world is stopped, by
 * mirt/safepoint.h or the virtual machine's own means. What needs that is marked below.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_GC_H
#define MIRT_GC_H

#include <mirt/ref.h>
#include <mirt/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One of the threads that mark; it has a stack of objects whose slots are yet to be looked
 * at. */
typedef struct mirt_marker_s mirt_marker_t;

/* Mark the roots: call mirt_mark and the like for every reference into the heap from outside
 * of it. */
typedef void mirt_roots_fun(mirt_marker_t* marker, void* arg);

#define MIRT_MARKERS_MAX 64

/* All is marked that is reachable: mirt_is_marked says for sure what dies. For tables of the
 * virtual machine's own that are weak: it drops from them what is not marked. What it marks
 * (by mirt_gc_marker, number 0) lives, with all it refers to. */
typedef void mirt_marked_fun(mirt_runtime_t* runtime, void* arg);

typedef struct mirt_gc_options_s {
  /* Threads that mark, the calling one included; 0 for one. mirt_collect makes the others, which
   * takes some 40 microseconds for each: worth it from some thousand objects on. */
  unsigned markers;
  /* Sweep a page when a mutator next needs a block from it, instead of all pages at once. */
  bool is_lazy;
  /* Called once between marking and sweeping, by the thread that ends the collection, and its
   * last argument; NULL for nothing. */
  mirt_marked_fun* on_marked;
  void* arg;
} mirt_gc_options_t;

/* What a collection found. Times are in nanoseconds. */
typedef struct mirt_gc_stats_s {
  size_t live_objects, live_bytes;   /* bytes by their blocks; without what waits for its
                                        finalizer */
  size_t freed_objects, freed_bytes; /* dead ones; with is_lazy also those yet to be swept */
  size_t finalized;                  /* objects whose finalizer was called */
  size_t weak_cleared;               /* weak references whose object died */
  uint64_t mark_time, sweep_time, pause_time; /* the last: all of it but finalizers */
} mirt_gc_stats_t;

/* Collect: mark from the roots, clear weak references, sweep, finalize. World stopped; only
 * finalizers, which are called last, may run while it goes on, if the program sees to that.
 * With more markers than one, threads are made for the time of the marking; if the system
 * refuses some, the others do their work.
 *   roots, arg  marks the roots, called once, in the calling thread
 *   options     NULL stands for all zeros
 *   stats       receives what was found; may be NULL
 * Returns 0, or an error code, with one line through the registered error function; then
 * nothing has changed:
 *   EINVAL  runtime or roots is NULL, or there are too many markers
 *   EBUSY   a collection runs
 *   ENOMEM  there is no memory for the markers' records */
mi_decl_export int mirt_collect(mirt_runtime_t* runtime, mirt_roots_fun* roots, void* arg,
                                const mirt_gc_options_t* options, mirt_gc_stats_t* stats);

/* ---- the steps of it, for runtimes with threads of their own ---- */

/* Begin: finish the sweep before, put all free blocks where the sweep finds them. World
 * stopped, until mirt_gc_end. Errors as mirt_collect. */
mi_decl_export int mirt_gc_begin(mirt_runtime_t* runtime, const mirt_gc_options_t* options);

/* The marker with a number from 0 to markers - 1, each for one thread at a time. */
mi_decl_nodiscard mi_decl_export mirt_marker_t* mirt_gc_marker(mirt_runtime_t* runtime,
                                                               unsigned number);

/* Trace until nothing is left to trace, with the other markers. For each, one
 * thread calls this after it has marked its roots; a marker may also stay unused. Returns when
 * none that has called it has anything left: a thread that calls it later goes on alone, so wait
 * for all of them before mirt_gc_end. Then more may be marked, and this be called again. */
mi_decl_export void mirt_gc_trace(mirt_marker_t* marker);

/* Trace all that is left, in this thread, with the values of ephemerons; from then on
 * mirt_is_marked is exact, until more is marked. What mirt_gc_end begins with; on_marked may call
 * it after it has marked something. Errors as mirt_gc_end. */
mi_decl_export int mirt_gc_complete(mirt_runtime_t* runtime);

/* End: mirt_gc_complete, call on_marked, clear weak references, sweep; the world may go on before
 * finalizers run: see mirt_gc_finalize. Returns 0, or EINVAL, with one line through the
 * registered error function, when no collection was begun. */
mi_decl_export int mirt_gc_end(mirt_runtime_t* runtime, mirt_gc_stats_t* stats);

/* Call the finalizers of objects that collections have found dead, and free those objects. To be
 * called after mirt_gc_end, when the world goes on. While it calls one, that object and what its
 * slots refer to live, whatever is collected meanwhile. Returns how many: 0 while another thread
 * is at it, or this one, in a finalizer: what is found dead meanwhile is done then, too. */
mi_decl_export size_t mirt_gc_finalize(mirt_runtime_t* runtime);

/* After a lazy collection: sweep up to so many pages. World stopped. Returns how many were
 * left to sweep and have been. */
mi_decl_export size_t mirt_gc_sweep(mirt_runtime_t* runtime, size_t pages);

/* ---- marking, between begin and end ---- */

/* Mark an object, and what it refers to sooner or later.
 *   object  an object of the runtime that lives, or an address in one. What is no address in the
 *           runtime's pages, NULL too, is not marked; a free block's is, and counts as live
 * Returns true when it was not marked before. Costs no access to the object. */
mi_decl_export bool mirt_mark(mirt_marker_t* marker, const void* object);

/* The same for a ref of the runtime's cage; 0 is not marked. */
mi_decl_export bool mirt_mark_ref(mirt_marker_t* marker, mirt_ref_t ref);

/* Is an object marked? Exact after mirt_gc_complete, and in on_marked. */
mi_decl_nodiscard mi_decl_export bool mirt_is_marked(const mirt_runtime_t* runtime,
                                                     const void* object);

/* Mark what words in a range of memory may point to: an aligned word that is an address of
 * a live object, or points into it, keeps that object. (Boehm and Weiser, 1988.)
 *   begin, end  readable memory
 * Returns how many were marked. */
mi_decl_export size_t mirt_mark_conservative(mirt_marker_t* marker, const void* begin,
                                             const void* end);

/* Mark what the calling thread's registers and stack may point to. For the stacks of other
 * threads see mirt_safepoint_mark_stacks.
 *   bottom  where the stack began: __builtin_frame_address(0) of a function that calls, not
 *           inlined, the outermost one that has objects
 * Returns how many were marked. */
mi_decl_export size_t mirt_mark_stack(mirt_marker_t* marker, const void* bottom);

/* ---- what is at an address ---- */

typedef struct mirt_found_s {
  void* object; /* its start */
  size_t size;  /* bytes of its block */
  const mirt_type_t* type;
} mirt_found_t;

/* Find the live object at an address, or that the address points into.
 *   word   any 64-bit value; none makes it fault
 *   found  receives the object
 * Returns false when there is none in this runtime. Exact when nobody allocates or frees;
 * an object that died counts until it is swept. Any thread may call it. */
mi_decl_nodiscard mi_decl_export bool mirt_find(const mirt_runtime_t* runtime, uint64_t word,
                                                mirt_found_t* found);

/* ---- weak references ---- */

typedef struct mirt_weak_s mirt_weak_t;

/* Make a weak reference: it does not keep its object alive, and reads as NULL once the
 * object has died. With a value it is an ephemeron: the value is kept alive as long as the
 * object is, and no longer, even if it refers to the object. (Hayes, 1997.)
 *   object  an object of the runtime
 *   value   another, or NULL
 * It lives until mirt_weak_delete or the runtime's end. A collection looks at all there are, as
 * often as it has to: twice, for a chain of ephemerons, where one's value is the next one's
 * object, that was made from one of its ends; oftener for one that was made in another order.
 * Returns NULL, with ENOMEM, or EINVAL for what is no object of the runtime, through the
 * registered error function. Any thread may call it while no collection runs. */
mi_decl_nodiscard mi_decl_export mirt_weak_t* mirt_weak_new(mirt_runtime_t* runtime,
                                                            void* object, void* value);

/* The same with an owner, a table for instance: the reference dies with either, and keeps its
 * value only while both live. So a table whose values refer to it, or to each other's keys, dies
 * when nothing else refers to it, as a WeakMap does.
 *   owner  an object of the runtime, or NULL for none */
mi_decl_nodiscard mi_decl_export mirt_weak_t* mirt_weak_new_in(mirt_runtime_t* runtime,
                                                               void* owner, void* object,
                                                               void* value);

/* The object, or its value; NULL once the object, or the owner, has died. Any thread may call
 * them while no collection runs. */
mi_decl_nodiscard mi_decl_export void* mirt_weak_get(const mirt_weak_t* weak);
mi_decl_nodiscard mi_decl_export void* mirt_weak_value(const mirt_weak_t* weak);

/* Set the value of an ephemeron. One thread at a time, while no collection runs. */
mi_decl_export void mirt_weak_set_value(mirt_weak_t* weak, void* value);

/* Delete a weak reference; NULL does nothing. Any thread may call it while no collection
 * runs. */
mi_decl_export void mirt_weak_delete(mirt_runtime_t* runtime, mirt_weak_t* weak);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_GC_H */
