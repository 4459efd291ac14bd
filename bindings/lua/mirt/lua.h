/* mirt/lua.h - Lua 5.4 states whose memory is mirt's.
 *
 * Invariant: a state has one heap for each kind of object, with a tag of its own, and all
 * its memory lies in those heaps, what this library notes about the state too. So an
 * object is only ever replaced by one of its kind, what a kind costs can be read off its
 * heap, and to throw the heaps away is to throw away the state, whatever is in it.
 *
 *   lua_State* L;
 *   if (mirt_lua_newstate(&(mirt_lua_options_t){.limit = 64 << 20}, &L) != 0) ...
 *   luaL_openlibs(L);
 *   luaL_dostring(L, "...");
 *   mirt_lua_close(L);
 *
 * Lua tells its allocation function the kind of an object that it is about to make, in
 * the place of the old size (The Lua reference manual, lua_Alloc); so the interpreter is
 * used as it is.
 *
 * A state belongs to an owner of heaps, as any heap does (mirt/mutator.h): to the thread
 * that made it, or the mutator that was bound there; or, with own_mutator, to one of its
 * own, and then any thread may run it, one at a time, between mirt_lua_enter and
 * mirt_lua_leave. That is the state's place, in what follows: the calling thread is the
 * one that made the state, with the same mutator bound, or none; or the state has a
 * mutator of its own, which is bound last in the calling thread, or bound nowhere. Only
 * allocating needs the place. What frees may happen anywhere, as long as no other thread
 * uses the state meanwhile, since Lua itself, and the count of bytes, are for one at a
 * time.
 *
 * The library does not name the Lua that it is linked with: the program links one, shared
 * or static. It calls lua_newstate, lua_getallocf, lua_close, lua_atpanic and
 * lua_setwarnf, and lua_tolstring when it panics.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_LUA_H
#define MIRT_LUA_H

#include <lua.h>
#include <mimalloc.h>
#include <mirt/stats.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The kinds of objects. Lua says of each block what it is for when it is made. */
typedef enum mirt_lua_kind_e {
  MIRT_LUA_BUFFERS, /* arrays and hash parts of tables, stacks, code, buffers: the rest */
  MIRT_LUA_STRINGS,
  MIRT_LUA_TABLES,    /* without their arrays and hash parts */
  MIRT_LUA_FUNCTIONS, /* closures, of Lua and of C */
  MIRT_LUA_USERDATA,
  MIRT_LUA_THREADS, /* coroutines and the state itself, without their stacks */
  MIRT_LUA_UPVALUES,
  MIRT_LUA_PROTOTYPES, /* of functions, without their code */
  MIRT_LUA_KINDS
} mirt_lua_kind_t;

/* The first tag of a state that was given none; the others follow, one per kind. */
#define MIRT_LUA_FIRST_TAG 0x4C00

/* What to create. Zero-initialise it: every field's zero is a good default. */
typedef struct mirt_lua_options_s {
  /* The tag of kind 0; kind k has first_tag + k. 0 for MIRT_LUA_FIRST_TAG. States with
   * the same tags may get each other's addresses, sooner or later; with tags
   * MIRT_LUA_KINDS apart they are told apart by mirt_stats_tag, mirt_tag_of and
   * mi_stats_get_json. */
  int first_tag;
  /* The arena that all memory comes from, and nothing else; 0 for none in particular. */
  mi_arena_id_t arena;
  /* Bytes that the state may hold; 0 for no limit. See mirt_lua_set_limit. */
  size_t limit;
  /* Seal the tags (mirt_tag_seal): a dangling pointer to a string sees only strings. */
  bool sealed;
  /* Give the state a mutator of its own: it can run on any thread, between
   * mirt_lua_enter and mirt_lua_leave. */
  bool own_mutator;
  /* For finding mistakes: an allocation by a thread that the state does not belong to
   * fails, so Lua raises "not enough memory" there, instead of harming the heap. It costs
   * a call per allocation. */
  bool check_thread;
} mirt_lua_options_t;

/* Make a state, without libraries, as luaL_newstate does: with the function that writes
 * warnings (off until warn("@on")) and the one that writes the message of an error
 * outside of any protected call before Lua aborts. Both write to standard error and can
 * be replaced, by lua_setwarnf and lua_atpanic.
 *   options  what is wanted; NULL stands for all zeros
 *   state    receives it, or NULL on failure
 * Returns 0, or an error code; then nothing is left behind, but tags that were sealed
 * stay so:
 *   EINVAL  state is NULL, first_tag is below 0 or above MIRT_TAG_MAX + 1 -
 *           MIRT_LUA_KINDS, or there is no such arena
 *   EBUSY   a tag to be sealed has been used unsealed
 *   ENOMEM  no memory; or the limit is below what an empty state needs, about 4 KiB
 * Any thread may call it. With own_mutator the state is not entered yet. */
mi_decl_export int mirt_lua_newstate(const mirt_lua_options_t* options,
                                     lua_State** state);

/* Close a state, as lua_close: variables to be closed and finalizers run, and then the
 * heaps go, with the mutator that is its own. Of a state that is entered the calling
 * thread has left then. lua_close does the same where the thread is in the state's place;
 * elsewhere it would leave the heaps behind, which this refuses.
 *   state  a state of mirt_lua_newstate, or a coroutine of it, not running a function
 *          now; NULL does nothing
 * Returns 0, or an error code; then nothing has changed:
 *   EINVAL  its allocation function is not of this library (see mirt_lua_is_state)
 *   EPERM   the calling thread is not in the state's place: it belongs to another
 *   EBUSY   its own mutator is bound to another thread, or not bound last here
 * To be called in the state's place. */
mi_decl_export int mirt_lua_close(lua_State* state);

/* Let a state be gone: its heaps are destroyed, at about 75 ns per page of 64 KiB, and no
 * object is looked at. No finalizer runs, and no variable is closed: files that the
 * program in it opened stay open, memory that a C library holds for a userdata is lost.
 * For states of pure Lua, and for processes about to end. Everything else as
 * mirt_lua_close. */
mi_decl_export int mirt_lua_drop(lua_State* state);

/* Enter a state that has a mutator of its own: until the calling thread leaves it, only
 * this thread may use the state, and what it allocates with mi_malloc is the mutator's
 * too. What the last thread did in the state is seen by this one. States nest, each at
 * most once. Costs about as much as an uncontended lock. State must be one of
 * mirt_lua_newstate, or a coroutine of it. Returns 0, or an error code; then nothing has
 * changed:
 *   EINVAL  it is no state of this library, or has no mutator of its own
 *   EBUSY   it is entered already, by whichever thread
 * Any thread may call it. A thread that ends leaves. */
mi_decl_export int mirt_lua_enter(lua_State* state);

/* Leave the state that was entered last, so that any thread may enter it.
 * Returns 0, or an error code; then nothing has changed:
 *   EINVAL  it is no state of this library, or has no mutator of its own
 *   EPERM   it is not what the calling thread has entered last
 * Only the thread that entered may call it, also while a function of the state runs: a
 * function that blocks may leave first and enter after, if it uses the state not in
 * between and no other thread does so. */
mi_decl_export int mirt_lua_leave(lua_State* state);

/* Set how many bytes a state may hold, by the sizes that Lua asks for. An allocation that
 * would take it above fails: Lua then collects, tries again, and raises "not enough
 * memory". A limit below what it holds already stops growth until it holds less; what
 * shrinks never fails.
 *   bytes  the limit; 0 for none
 * Returns 0, or EINVAL when it is no state of this library. May be called by the thread
 * that runs the state, from within a function too, or while none does. */
mi_decl_export int mirt_lua_set_limit(lua_State* state, size_t bytes);

/* What a state holds. */
typedef struct mirt_lua_stats_s {
  size_t used;  /* bytes by the sizes that Lua asked for: collectgarbage("count") */
  size_t limit; /* 0 for none */
  int first_tag;
  mirt_stats_t total; /* of all kinds; its peak is the sum of their peaks */
  mirt_stats_t kinds[MIRT_LUA_KINDS]; /* one block of the buffers is this library's */
} mirt_lua_stats_t;

/* Count what a state holds: garbage too, until Lua collects it. Takes about 250 ns per
 * page of 64 KiB.
 *   stats  receives the numbers
 * Returns 0, or EINVAL when stats is NULL, or EINVAL, EPERM or EBUSY as mirt_lua_close.
 * To be called in the state's place, from within a function too. */
mi_decl_export int mirt_lua_stats(lua_State* state, mirt_lua_stats_t* stats);

/* The name of a kind, for reports: "strings", "tables" and so on, at most 10 characters.
 * Returns "unknown" for another value. Any thread may call it. No errors. */
mi_decl_nodiscard mi_decl_export const char* mirt_lua_kind_name(mirt_lua_kind_t kind);

/* Is the allocation function of a state of this library? The functions above find what
 * they need by it, so they refuse a state where lua_setallocf has put another in its
 * place. That one may call the function that lua_getallocf gave before, with the pointer
 * that it gave, for all that it does not allocate itself, and is to be taken out again
 * before mirt_lua_close or mirt_lua_drop. Returns false for NULL. No errors. */
mi_decl_nodiscard mi_decl_export bool mirt_lua_is_state(lua_State* state);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_LUA_H */
