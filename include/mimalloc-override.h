/* mimalloc-override.h - lead a source file's calls of malloc and its kin to mirt.
 *
 * For programs that cannot use the override library. The names become macros, so include
 * this after all other headers, in every file that allocates or frees: a block from mirt
 * must not be freed by the C library, nor the other way round. Mind functions of other
 * libraries that allocate for their caller (getline, asprintf): their blocks are not
 * mirt's, and mi_free reports them as EINVAL. In C++, the operators new and delete are
 * the business of mimalloc-new-delete.h.
 *
 * The macros take the arguments of the functions that they are named for; what these do,
 * which errors they have and which threads may call them is said in mimalloc.h. Names
 * that begin with an underscore are Microsoft's.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIMALLOC_OVERRIDE_H
#define MIMALLOC_OVERRIDE_H

/* The headers that declare these names come first: later, the macros would change what
 * they declare. The headers of C++ also undefine macros of such names. */
#ifdef __cplusplus
#include <cstdlib>
#include <cstring>
#else
#include <stdlib.h>
#include <string.h>
#endif
#if defined(__has_include)
#if __has_include(<malloc.h>) && !defined(__APPLE__) && !defined(__FreeBSD__)
#include <malloc.h>
#endif
#endif
#include <mimalloc.h>

/* Some C libraries have macros of these names. */
#undef strdup
#undef strndup

/* ISO C. */
#define malloc(n) mi_malloc(n)
#define calloc(n, c) mi_calloc(n, c)
#define realloc(p, n) mi_realloc(p, n)
#define free(p) mi_free(p)
#define aligned_alloc(a, n) mi_aligned_alloc(a, n)

/* POSIX. */
#define strdup(s) mi_strdup(s)
#define strndup(s, n) mi_strndup(s, n)
#define realpath(f, n) mi_realpath(f, n)
#define posix_memalign(p, a, n) mi_posix_memalign(p, a, n)
#define _posix_memalign(p, a, n) mi_posix_memalign(p, a, n)

/* The BSDs, macOS, glibc. */
#define reallocf(p, n) mi_reallocf(p, n)
#define reallocarray(p, s, n) mi_reallocarray(p, s, n)
#define reallocarr(p, s, n) mi_reallocarr(p, s, n)
#define malloc_size(p) mi_usable_size(p)
#define malloc_usable_size(p) mi_usable_size(p)
#define cfree(p) mi_free(p)
#define memalign(a, n) mi_memalign(a, n)
#define valloc(n) mi_valloc(n)
#define pvalloc(n) mi_pvalloc(n)

/* Microsoft: sizes and strings. */
#define _expand(p, n) mi_expand(p, n)
#define _msize(p) mi_usable_size(p)
#define _recalloc(p, n, c) mi_recalloc(p, n, c)
#define _strdup(s) mi_strdup(s)
#define _strndup(s, n) mi_strndup(s, n)
#define _mbsdup(s) mi_mbsdup(s)
#define _dupenv_s(b, n, v) mi_dupenv_s(b, n, v)

/* Microsoft: wide strings, which mirt takes to have 16-bit units; so only where wchar_t
 * has 16 bits. */
#if defined(__SIZEOF_WCHAR_T__) && __SIZEOF_WCHAR_T__ == 2
#define _wcsdup(s) ((wchar_t*)mi_wcsdup((const unsigned short*)(s)))
#define _wdupenv_s(b, n, v) \
  mi_wdupenv_s((unsigned short**)(b), n, (const unsigned short*)(v))
#endif

/* Microsoft: aligned blocks. */
#define _aligned_malloc(n, a) mi_malloc_aligned(n, a)
#define _aligned_realloc(p, n, a) mi_realloc_aligned(p, n, a)
#define _aligned_recalloc(p, s, n, a) mi_aligned_recalloc(p, s, n, a)
#define _aligned_msize(p, a, o) mi_usable_size(p)
#define _aligned_free(p) mi_free(p)
#define _aligned_offset_malloc(n, a, o) mi_malloc_aligned_at(n, a, o)
#define _aligned_offset_realloc(p, n, a, o) mi_realloc_aligned_at(p, n, a, o)
#define _aligned_offset_recalloc(p, s, n, a, o) mi_recalloc_aligned_at(p, s, n, a, o)

#endif /* MIMALLOC_OVERRIDE_H */
