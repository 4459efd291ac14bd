/* mirt/tag.h - tags: which blocks may replace each other in memory.
 *
 * A tag is a number from 0 to 32767 that a heap gets when it is made (mi_heap_new_ex; 0
 * otherwise). A page belongs to one tag for its life: a block may replace a freed one of the
 * same tag only, until the whole page has gone back to its arena. For a sealed tag it ends
 * not there either: the addresses stay with the tag.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_TAG_H
#define MIRT_TAG_H

#include <mimalloc.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MIRT_TAG_MAX 32767

/* The tag of the block at p, or of the block that p points into.
 *   p  any word
 * Returns the tag, or -1 when p is in no page. Whether the block itself is live is not
 * looked at. Any thread may call it. No errors. */
mi_decl_nodiscard mi_decl_export int mirt_tag_of(const void* p) mi_attr_noexcept;

/* Seal a tag: an address that a block of this tag has had is never used for another tag, or
 * for anything else, as long as its arena lives. So a dangling pointer to an object of a
 * sealed tag can only ever see objects of that tag. The memory behind free addresses does go
 * back to the system. (Isolated heaps by type: WebKit's libpas; type-stable memory:
 * Greenwald, Cheriton 1996.)
 *
 * It holds for addresses of arenas. Who destroys an arena, or its cage, or takes back memory
 * that was handed over, takes back the addresses too.
 *   tag  0 to MIRT_TAG_MAX; no heap has allocated with it yet
 * Returns 0, also when it is sealed already, or an error code, with one line through the
 * registered error function; then nothing has changed:
 *   EINVAL  tag is not in that range
 *   EBUSY   a heap has allocated with it, or tried to
 * Any thread may call it. It cannot be undone. */
mi_decl_export int mirt_tag_seal(int tag);

/* Have blocks of this tag begin a little later than at multiples of their size: those of 64 to
 * 1024 bytes (mi_good_size), by this offset.
 *
 * It is for objects that have a link in front and are walked along these links, such as
 * the lists of CPython's collector or Lua's list of all objects. If a block of 64 bytes begins
 * at a multiple of 64, as it does without an offset, each step of the walk waits for a line
 * of memory to come. With an offset of 48 the first 16 bytes of a block lie in the line that
 * holds the end of the block before: the link is there already, and the
 * next lines are fetched while this object is looked at. A full collection of CPython takes a
 * quarter of the time. (Slabs with colors: Bonwick 1994.)
 *
 *   tag     0 to MIRT_TAG_MAX; no heap has been made with it yet, or heaps made before go on as they
 *           were
 *   offset  0, 16, 32 or 48 bytes
 * mi_heap_malloc_aligned and the like go on giving what they are asked for, for up to 1024
 * bytes in blocks of more than that. Types of a mirt_runtime are not meant.
 * Returns 0, or an error code, with one line through the registered error function; then
 * nothing has changed:
 *   EINVAL  tag or offset is not one of those
 *   EBUSY   a heap has allocated with the tag, or it is sealed, and the offset is another
 * Any thread may call it. */
mi_decl_export int mirt_tag_shift_blocks(int tag, size_t offset);

/* Is the tag sealed? Returns false for what is no tag. Any thread may call it. No errors. */
mi_decl_nodiscard mi_decl_export bool mirt_tag_is_sealed(int tag) mi_attr_noexcept;

#ifdef __cplusplus
}
#endif

#endif /* MIRT_TAG_H */
