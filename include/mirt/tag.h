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

/* Is the tag sealed? Returns false for what is no tag. Any thread may call it. No errors. */
mi_decl_nodiscard mi_decl_export bool mirt_tag_is_sealed(int tag) mi_attr_noexcept;

#ifdef __cplusplus
}
#endif

#endif /* MIRT_TAG_H */
