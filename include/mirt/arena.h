/* mirt/arena.h - arenas beyond mimalloc.h: giving one up, and a map of what is in it.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_ARENA_H
#define MIRT_ARENA_H

#include <mimalloc.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Give up an arena. One that mirt reserved is unmapped; of memory that was handed over
 * (mi_manage_os_memory_ex) mirt forgets that it ever knew it: every byte is the caller's
 * again, and it may hand over the same memory anew. The id is free for the next arena.
 *   arena_id  an arena; the arena of a cage ends with its cage, mirt_cage_destroy
 * Returns 0, or an error code, with one line through the registered error function; then
 * nothing has changed:
 *   EINVAL  there is no such arena, or it is the arena of a cage
 *   EBUSY   a heap is bound to it, or a page of some heap lies in it. The calling thread's
 *           own pages are collected first, so for an exclusive arena that means a live
 *           block. In an arena that serves everybody a page that another thread keeps for
 *           its next allocation counts too, until that thread ends or calls
 *           mi_collect(true). So do records that took a slice of it under the option
 *           disallow_os_alloc, for ever
 * Any thread may call it, while others allocate and free; it waits until a map that is
 * being written of the arena is complete. Nobody else may use the id meanwhile. Not to be
 * called from an error, output or visitor function, or while threads are stopped that may
 * be inside of mirt: it would wait for them. */
mi_decl_export int mirt_arena_destroy(mi_arena_id_t arena_id);

/* Write a map of an arena as one line of JSON (RFC 8259), as `mirt-arena-map` draws it:
 *
 *   {"slice_size": 65536,
 *    "arenas": [
 *      {"id": 1, "base": "0x7f0000000000", "size": 1073741824, "slices": 16384,
 *       "exclusive": false, "pinned": false, "numa_node": -1,
 *       "used": 12, "committed": 40,
 *       "runs": [
 *         {"slice": 0, "count": 9, "state": "page", "tag": 0, "block_size": 64},
 *         {"slice": 9, "count": 3, "state": "purged"}, ...]}]}
 *
 * "used" and "committed" are in slices; "committed" counts those that may be touched and
 * have not been purged. Runs cover all slices in order. A run is either one page, with its
 * tag and the size of its blocks in bytes, or slices next to each other in the same state:
 *   "page"       a page with free blocks, or the one that its heap allocates from
 *   "full"       a page in which its heap found none any more, or that of one large block
 *   "abandoned"  a page with live blocks whose heap has gone
 *   "reserved"   never handed out: records, or the null slice of a cage
 *   "held"       taken for a moment, by a thread that makes a page or purges
 *   "waiting"    free; its memory waits to go back to the system
 *   "purged"     free; its memory has gone back to the system
 *   "committed"  free; it may be touched
 *   "free"       free and not committed
 * With threads at work a map shows each slice at some moment, not all at the same one.
 *   arena_id  an arena, or 0 for all
 *   out       called with one piece of the text after the other; it may call anything
 *             but mirt_arena_destroy for this arena. NULL: the registered output
 *             function, or standard error
 *   arg       handed to out
 * Returns 0, or EINVAL, reported, when there is no such arena: nothing is written then.
 * Any thread may call it. */
mi_decl_export int mirt_arena_map(mi_arena_id_t arena_id, mi_output_fun* out, void* arg);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_ARENA_H */
