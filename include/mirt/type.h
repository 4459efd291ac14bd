/* mirt/type.h - types of objects: their sizes, their references, what happens at their end.
 *
 * An object has no header: which type it is of, its page says. A type has a tag of its own
 * in the runtime, so that a dead object's memory is only ever reused by the same type, until
 * its whole page is free; for a sealed type the addresses stay with it even then.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_TYPE_H
#define MIRT_TYPE_H

#include <mirt/gc.h>
#include <mirt/runtime.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Mark what an object refers to: call mirt_mark or mirt_mark_ref for each reference.
 *   object  a live object of the type; its reference fields must have been set
 *   size    bytes of its block
 * Several threads may be in it at once, for different objects. It may not allocate. */
typedef void mirt_trace_fun(mirt_marker_t* marker, void* object, size_t size, void* arg);

/* An object has died. Called by the thread that collects, after the sweep, in no order, with the
 * world as that thread has left it: stopped, in mirt_collect; it waits for no other thread then.
 * It may allocate, if its thread has a mutator bound, and collect. Slots of the object that
 * referred to objects that died with it are null by then, if the type describes its slots; a trace
 * function's are not, and may not be followed. So what a finalizer needs, a file's name for
 * instance, it keeps in the object itself or outside; who wants to see what died as it was, as
 * guardians do, marks it in on_marked (mirt/gc.h) instead.
 * Returns false to let the object go. true keeps it, as an object that lives: the function
 * is called again when it dies again. */
typedef bool mirt_finalize_fun(void* object, size_t size, void* arg);

/* What to register. Zero-initialise it. An object's references are described by slots, of
 * one size; or a trace function finds them; or there are none. */
typedef struct mirt_type_options_s {
  /* For reports. Copied, up to 31 bytes. */
  const char* name;
  /* Bytes of an object; of a variable type, the least an object has. */
  size_t size;
  /* Objects differ in size: mirt_new_sized. */
  bool is_variable;
  /* A power of two; 0 for 8, or what refs of the cage can name if that is more. */
  size_t alignment;
  /* The tag of its pages, 1 to MIRT_TAG_MAX, of no other type of the runtime; 0: any above 16384
   * that is not sealed. Tags are the process's: other runtimes may use the same. */
  int tag;
  /* Addresses of this type are never used for anything else (mirt/tag.h). */
  bool is_sealed;
  /* Bytes of a slot: 8 for pointers, 4 for refs of the runtime's cage, 0 for no slots. Null
   * slots are skipped. A slot may have other bits in it that make it point into the object
   * instead of to its start. */
  unsigned slot_size;
  /* Slots whose bits under this mask have this value are no references, but small integers and
   * the like; 0 for none. For integers with bit 0 set: mask 1, value 1. */
  uint64_t immediate_mask, immediate_value;
  /* Which slots at the start of an object refer to objects: bit i % 64 of map[i / 64] for
   * slot i, of map_slots slots; copied. */
  const uint64_t* map;
  size_t map_slots;
  /* All slots from array_offset bytes on, to the end of the object, refer to objects. */
  bool is_array;
  size_t array_offset;
  /* Instead of slots. */
  mirt_trace_fun* trace;
  /* What to call when an object has died; NULL for nothing. */
  mirt_finalize_fun* finalize;
  /* The last argument of both. */
  void* arg;
} mirt_type_options_t;

/* A type. Its fields are public so that allocation is inline and a JIT can copy them into
 * code; read them, never write them. */
struct mirt_type_s {
  uint32_t cell;      /* byte offset of its cell in every mutator of the runtime */
  size_t size;        /* as registered */
  size_t block_size;  /* bytes from object to object; 0 where objects differ in size */
  int tag;
  char name[32];
  mirt_runtime_t* runtime;
};

/* Register a type.
 *   runtime  where; the type ends with it
 *   options  what
 * Returns NULL, with one line through the registered error function:
 *   EINVAL  an argument is NULL; size is 0 and objects do not differ; alignment is no power
 *           of two, or above 64 KiB; slot_size is not 0, 4 or 8, or 4 without a cage; immediate_value
 *           has bits that immediate_mask has not, or that a slot has not; map or array
 *           reach past the size, or the array's slots are not aligned; both slots and a
 *           trace function; tag out of range, or of another type
 *   EBUSY   is_sealed, and the tag has been in use unsealed
 *   ENOSPC  the runtime's type_limit is reached
 *   ENOMEM  there is no memory for the map
 * Any thread may call it, also while others allocate. */
mi_decl_nodiscard mi_decl_export mirt_type_t* mirt_type_new(
    mirt_runtime_t* runtime, const mirt_type_options_t* options);

/* What there is of a type. */
typedef struct mirt_type_stats_s {
  size_t objects, bytes; /* that live, or died and have not been swept; bytes by their blocks */
  size_t pages_bytes;    /* in pages that hold them */
} mirt_type_stats_t;

/* Count the objects of a type; exact while nobody allocates or frees. Returns false, with EINVAL,
 * when an argument is NULL. Any thread may call it. */
mi_decl_export bool mirt_type_stats(const mirt_type_t* type, mirt_type_stats_t* stats);

/* Shown an object and the bytes of its block; returns whether to go on. */
typedef bool mirt_object_fun(void* object, size_t size, void* arg);

/* Show all objects of a type that live, or died and have not been swept, in the order of their
 * addresses. The world is stopped; the function may delete the object it is shown.
 * Returns whether it was never told to stop; false with EINVAL when type or visitor is NULL. */
mi_decl_export bool mirt_type_visit(const mirt_type_t* type, mirt_object_fun* visitor,
                                    void* arg);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_TYPE_H */
