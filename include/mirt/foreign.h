/* mirt/foreign.h - mirt beside another allocator.
 *
 * A runtime that is put on mirt while it runs has blocks of the allocator before, which come
 * back one by one, through the same function as those of mirt.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_FOREIGN_H
#define MIRT_FOREIGN_H

#include <mimalloc.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Free a block if it is one of this library's. It costs what mi_free costs.
 *   p  any pointer; NULL counts as ours
 * Returns false, and has done nothing, if p lies in no memory of this library's: then another
 * allocator knows what it is. Else true, and all is as with mi_free: an address that is in
 * such memory, but is not that of a live block, is reported. Any thread may call it. */
mi_decl_nodiscard mi_decl_export bool mirt_try_free(void* p) mi_attr_noexcept;

#ifdef __cplusplus
}
#endif

#endif /* MIRT_FOREIGN_H */
