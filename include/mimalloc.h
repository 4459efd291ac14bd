/* mimalloc.h - the general interface of mirt: blocks, heaps, arenas, options, statistics.
 *
 * The functions, types and macros are those of mimalloc 2.x, so that a program written
 * for that allocator compiles against mirt unchanged; what stands behind them is our own.
 *
 * What holds for every function here, unless its comment says otherwise:
 *
 * - Sizes, offsets and alignments are in bytes, times in milliseconds, strings end in a
 *   zero. A slice is 64 KiB, the unit in which arenas hand out memory.
 * - Any thread may call it, at any time, without locks of its own. Functions that take a
 *   heap belong to the thread that made the heap; freeing belongs to everybody.
 * - A request for 0 bytes gives a block of its own, different from all others.
 * - A block is aligned to the largest power of two that divides the size of its page's
 *   blocks, up to a slice, and to 16 at least. mi_good_size tells that size in advance.
 * - An allocation that cannot be had returns NULL and sets errno to ENOMEM, and so does
 *   one whose count * size does not fit in a size_t. The registered error function (see
 *   mi_register_error) is called with ENOMEM, too.
 * - An alignment may be any power of two. Anything else returns NULL and sets errno to
 *   EINVAL.
 * - Freeing or resizing a block that is free already is reported through the error
 *   function with EFAULT; a pointer that mirt never handed out, with EINVAL. Both also
 *   set errno, and change nothing else. A free that succeeds leaves errno as it was.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIMALLOC_H
#define MIMALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The version of the interface: the major number, then two digits of minor number. */
#define MI_MALLOC_VERSION 240

/* The alignment that a program wants of every block. Define it before including this
 * header to tell code that reads the macro; the library gives 16 whatever it says. */
#ifndef MI_MAX_ALIGN_SIZE
#define MI_MAX_ALIGN_SIZE 16
#endif

/* The largest request that the functions ending in _small accept, in words and bytes. */
#define MI_SMALL_WSIZE_MAX (128)
#define MI_SMALL_SIZE_MAX (MI_SMALL_WSIZE_MAX * sizeof(void*))

/* ---- Attributes -----------------------------------------------------------------------
 *
 *   mi_decl_export       the function is visible outside of the shared library
 *   mi_decl_nodiscard    warn when the result is not used
 *   mi_decl_restrict     nothing; kept for programs that use the name
 *   mi_cdecl             calling convention of callbacks; nothing on the systems we know
 *   mi_attr_noexcept     never throws, in C++
 *   mi_attr_malloc       the result overlaps no other object
 *   mi_attr_alloc_size   the parameter that is the size of the result
 *   mi_attr_alloc_size2  the two parameters whose product is the size of the result
 *   mi_attr_alloc_align  the parameter that is the alignment of the result
 */
#if defined(__cplusplus)
#define mi_attr_noexcept noexcept
#else
#define mi_attr_noexcept
#endif

#if defined(__cplusplus) && __cplusplus >= 201703L
#define mi_decl_nodiscard [[nodiscard]]
#elif defined(__GNUC__)
#define mi_decl_nodiscard __attribute__((warn_unused_result))
#else
#define mi_decl_nodiscard
#endif

#if defined(__GNUC__)
#define mi_decl_export __attribute__((visibility("default")))
#define mi_attr_malloc __attribute__((malloc))
#define mi_attr_alloc_size(size) __attribute__((alloc_size(size)))
#define mi_attr_alloc_size2(count, size) __attribute__((alloc_size(count, size)))
#define mi_attr_alloc_align(alignment) __attribute__((alloc_align(alignment)))
#else
#define mi_decl_export
#define mi_attr_malloc
#define mi_attr_alloc_size(size)
#define mi_attr_alloc_size2(count, size)
#define mi_attr_alloc_align(alignment)
#endif

#define mi_decl_restrict
#define mi_cdecl

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Blocks ---------------------------------------------------------------------------
 *
 * These allocate from the calling thread's default heap (mi_heap_set_default). Any thread
 * may call them and may free what another one allocated. The plain names follow ISO C.
 */

/* Allocate size bytes, contents unspecified. Returns the block, or NULL with ENOMEM. */
mi_decl_nodiscard mi_decl_export void* mi_malloc(size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);

/* Allocate count elements of size bytes each, all zero. Returns the block, or NULL with
 * ENOMEM, also when the product overflows. */
mi_decl_nodiscard mi_decl_export void* mi_calloc(size_t count, size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(1, 2);

/* Resize a block, moving it if need be.
 *   p        the block, or NULL for a new one
 *   newsize  its new size in bytes; 0 is a size like any other and does not free
 * The contents are kept up to the smaller of the two sizes; what is added is unspecified.
 * An alignment that was asked for earlier is not kept: see mi_realloc_aligned. Returns
 * the block, maybe at another address, or NULL with ENOMEM; p is untouched and still
 * valid then. A p that is not a live block gives NULL and is reported as EFAULT or
 * EINVAL. */
mi_decl_nodiscard mi_decl_export void* mi_realloc(void* p, size_t newsize)
    mi_attr_noexcept mi_attr_alloc_size(2);

/* Resize a block without moving it: p is returned if newsize bytes fit where it lies.
 * Returns NULL, with p untouched and errno unchanged, if they do not, or if p is NULL.
 * After Microsoft's _expand; mi__expand is the same with errno. */
mi_decl_export void* mi_expand(void* p, size_t newsize)
    mi_attr_noexcept mi_attr_alloc_size(2);

/* Free a block, from any thread, whichever heap it came from. NULL does nothing. A block
 * that is free already is reported as EFAULT, once, maybe only when its page is looked at
 * next if different threads freed it. A pointer that mirt did not hand out is reported as
 * EINVAL. Neither changes any memory. */
mi_decl_export void mi_free(void* p) mi_attr_noexcept;

/* Copy a string into a new block. Returns the copy, or NULL if s is NULL, or NULL with
 * ENOMEM. After POSIX. */
mi_decl_nodiscard mi_decl_export char* mi_strdup(const char* s)
    mi_attr_noexcept mi_attr_malloc;

/* Copy at most n bytes of a string into a new block and end it with a zero. Returns the
 * copy, or NULL if s is NULL, or NULL with ENOMEM. After POSIX. */
mi_decl_nodiscard mi_decl_export char* mi_strndup(const char* s, size_t n)
    mi_attr_noexcept mi_attr_malloc;

/* Resolve a file name to an absolute path without links, "." or "..".
 *   fname          the name to resolve
 *   resolved_name  where to write it, PATH_MAX bytes; NULL for a new block
 * Returns resolved_name or the new block, or NULL with the errno of POSIX realpath. */
mi_decl_nodiscard mi_decl_export char* mi_realpath(const char* fname, char* resolved_name)
    mi_attr_noexcept;

/* ---- More ways to allocate ------------------------------------------------------------
 *
 * Like the section above; any thread may call them.
 */

/* Allocate at most MI_SMALL_SIZE_MAX bytes, sparing the test for larger sizes. size is a
 * promise: a larger one is an error that nobody reports. Returns NULL with ENOMEM.
 *   mi_malloc_small  unspecified contents
 *   mi_zalloc_small  all zero */
mi_decl_nodiscard mi_decl_export void* mi_malloc_small(size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);
mi_decl_nodiscard mi_decl_export void* mi_zalloc_small(size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);

/* Allocate size bytes, all zero. Returns the block, or NULL with ENOMEM. */
mi_decl_nodiscard mi_decl_export void* mi_zalloc(size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);

/* Allocate count elements of size bytes each with unspecified contents. Returns the
 * block, or NULL with ENOMEM, also when the product overflows. */
mi_decl_nodiscard mi_decl_export void* mi_mallocn(size_t count, size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(1, 2);

/* mi_realloc to count elements of size bytes each. An overflow of the product returns
 * NULL with ENOMEM and leaves p alone. */
mi_decl_nodiscard mi_decl_export void* mi_reallocn(void* p, size_t count, size_t size)
    mi_attr_noexcept mi_attr_alloc_size2(2, 3);

/* mi_realloc that frees p when it fails, so that `p = mi_reallocf(p, n)` never leaks.
 * Returns the block, or NULL with ENOMEM. After the BSDs. */
mi_decl_nodiscard mi_decl_export void* mi_reallocf(void* p, size_t newsize)
    mi_attr_noexcept mi_attr_alloc_size(2);

/* How many bytes from p on a program may use: what was asked for, or a little more.
 * Returns 0 for NULL and for a pointer that is not a block of mirt. */
mi_decl_nodiscard mi_decl_export size_t mi_usable_size(const void* p) mi_attr_noexcept;

/* The size of the block that mi_malloc(size) would give: a buffer that grows may as well
 * grow to it. Returns size itself if no block can be that large. No errors. */
mi_decl_nodiscard mi_decl_export size_t mi_good_size(size_t size) mi_attr_noexcept;

/* Allocate, and tell the usable size in the same call.
 *   block_size  receives the usable size in bytes, 0 on failure; may be NULL
 * Otherwise like the function without the u, errors included:
 *   mi_umalloc          mi_malloc
 *   mi_ucalloc          mi_calloc
 *   mi_umalloc_small    mi_malloc_small
 *   mi_uzalloc_small    mi_zalloc_small
 *   mi_umalloc_aligned  mi_malloc_aligned
 *   mi_uzalloc_aligned  mi_zalloc_aligned
 * The block may be used up to the size told, so the compiler is not told the one asked
 * for. Zeroing covers the whole usable size. */
mi_decl_nodiscard mi_decl_export void* mi_umalloc(size_t size, size_t* block_size)
    mi_attr_noexcept mi_attr_malloc;
mi_decl_nodiscard mi_decl_export void* mi_ucalloc(size_t count, size_t size,
                                                  size_t* block_size)
    mi_attr_noexcept mi_attr_malloc;
mi_decl_nodiscard mi_decl_export void* mi_umalloc_small(size_t size, size_t* block_size)
    mi_attr_noexcept mi_attr_malloc;
mi_decl_nodiscard mi_decl_export void* mi_uzalloc_small(size_t size, size_t* block_size)
    mi_attr_noexcept mi_attr_malloc;
mi_decl_nodiscard mi_decl_export void* mi_umalloc_aligned(size_t size, size_t alignment,
                                                          size_t* block_size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_align(2);
mi_decl_nodiscard mi_decl_export void* mi_uzalloc_aligned(size_t size, size_t alignment,
                                                          size_t* block_size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_align(2);

/* mi_realloc that tells the usable size of the block before and after.
 *   block_size_pre   receives the usable size of p, 0 if p is NULL; may be NULL
 *   block_size_post  receives that of the result, 0 on failure; may be NULL
 * Returns what mi_realloc returns, with the same errors. */
mi_decl_nodiscard mi_decl_export void* mi_urealloc(void* p, size_t newsize,
                                                   size_t* block_size_pre,
                                                   size_t* block_size_post)
    mi_attr_noexcept;

/* mi_free that tells how large the block was.
 *   block_size  receives its usable size, 0 if nothing was freed; may be NULL */
mi_decl_export void mi_ufree(void* p, size_t* block_size) mi_attr_noexcept;

/* mi_free for a caller who knows something about the block. What is passed is a promise
 * and has to be true; it can make the free quicker and is not needed to find the block.
 *   mi_free_small         at most MI_SMALL_SIZE_MAX bytes were asked for
 *   mi_free_size          size bytes were asked for
 *   mi_free_size_aligned  size bytes at this alignment were asked for
 *   mi_free_aligned       this alignment was asked for
 * Any thread may call them. NULL and errors are as for mi_free. The sized ones serve the
 * sized operator delete of C++14 and the free_sized of C23. */
mi_decl_export void mi_free_small(void* p) mi_attr_noexcept;
mi_decl_export void mi_free_size(void* p, size_t size) mi_attr_noexcept;
mi_decl_export void mi_free_size_aligned(void* p, size_t size, size_t alignment)
    mi_attr_noexcept;
mi_decl_export void mi_free_aligned(void* p, size_t alignment) mi_attr_noexcept;

/* ---- Aligned blocks -------------------------------------------------------------------
 *
 * The size comes before the alignment here, the other way round than in POSIX.
 *   alignment  any power of two; else NULL with EINVAL
 *   offset     in bytes: p + offset is aligned, instead of p itself. Such a p may lie
 *              inside of a larger block; every function takes it like any other
 * Failing memory and overflow return NULL with ENOMEM. Any thread may call them.
 */

/* Allocate size bytes at an alignment.
 *   mi_malloc_aligned     unspecified contents
 *   mi_malloc_aligned_at  unspecified contents, aligned at an offset
 *   mi_zalloc_aligned     all zero
 *   mi_zalloc_aligned_at  all zero, aligned at an offset */
mi_decl_nodiscard mi_decl_export void* mi_malloc_aligned(size_t size, size_t alignment)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1) mi_attr_alloc_align(2);
mi_decl_nodiscard mi_decl_export void* mi_malloc_aligned_at(size_t size, size_t alignment,
                                                            size_t offset)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);
mi_decl_nodiscard mi_decl_export void* mi_zalloc_aligned(size_t size, size_t alignment)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1) mi_attr_alloc_align(2);
mi_decl_nodiscard mi_decl_export void* mi_zalloc_aligned_at(size_t size, size_t alignment,
                                                            size_t offset)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);

/* Allocate count elements of size bytes each, all zero, at an alignment.
 *   mi_calloc_aligned     the start is aligned
 *   mi_calloc_aligned_at  the byte at offset is aligned */
mi_decl_nodiscard mi_decl_export void* mi_calloc_aligned(size_t count, size_t size,
                                                         size_t alignment)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(1, 2) mi_attr_alloc_align(3);
mi_decl_nodiscard mi_decl_export void* mi_calloc_aligned_at(size_t count, size_t size,
                                                            size_t alignment,
                                                            size_t offset)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(1, 2);

/* mi_realloc to an alignment, whatever alignment p had. On failure p stays valid.
 *   mi_realloc_aligned     the start is aligned
 *   mi_realloc_aligned_at  the byte at offset is aligned */
mi_decl_nodiscard mi_decl_export void* mi_realloc_aligned(void* p, size_t newsize,
                                                          size_t alignment)
    mi_attr_noexcept mi_attr_alloc_size(2) mi_attr_alloc_align(3);
mi_decl_nodiscard mi_decl_export void* mi_realloc_aligned_at(void* p, size_t newsize,
                                                             size_t alignment,
                                                             size_t offset)
    mi_attr_noexcept mi_attr_alloc_size(2);

/* ---- Resizing zeroed blocks -----------------------------------------------------------
 *
 * Like mi_realloc, and what is added is zero. p must have come from a function that
 * zeroes (mi_zalloc, mi_calloc, one of these) and not have been through a plain realloc
 * since: otherwise bytes past the size asked for last may not be zero. On failure p stays
 * valid. Errors are those of mi_realloc, and EINVAL for a bad alignment. Any thread may
 * call them. After Microsoft's _recalloc.
 *   mi_rezalloc             to newsize bytes
 *   mi_rezalloc_aligned     ... at an alignment
 *   mi_rezalloc_aligned_at  ... at an alignment of the byte at offset
 *   mi_recalloc             to newcount elements of size bytes each
 *   mi_recalloc_aligned     ... at an alignment
 *   mi_recalloc_aligned_at  ... at an alignment of the byte at offset
 */
mi_decl_nodiscard mi_decl_export void* mi_rezalloc(void* p, size_t newsize)
    mi_attr_noexcept mi_attr_alloc_size(2);
mi_decl_nodiscard mi_decl_export void* mi_rezalloc_aligned(void* p, size_t newsize,
                                                           size_t alignment)
    mi_attr_noexcept mi_attr_alloc_size(2) mi_attr_alloc_align(3);
mi_decl_nodiscard mi_decl_export void* mi_rezalloc_aligned_at(void* p, size_t newsize,
                                                              size_t alignment,
                                                              size_t offset)
    mi_attr_noexcept mi_attr_alloc_size(2);
mi_decl_nodiscard mi_decl_export void* mi_recalloc(void* p, size_t newcount, size_t size)
    mi_attr_noexcept mi_attr_alloc_size2(2, 3);
mi_decl_nodiscard mi_decl_export void* mi_recalloc_aligned(void* p, size_t newcount,
                                                           size_t size, size_t alignment)
    mi_attr_noexcept mi_attr_alloc_size2(2, 3) mi_attr_alloc_align(4);
mi_decl_nodiscard mi_decl_export void* mi_recalloc_aligned_at(void* p, size_t newcount,
                                                              size_t size,
                                                              size_t alignment,
                                                              size_t offset)
    mi_attr_noexcept mi_attr_alloc_size2(2, 3);

/* ---- Heaps ----------------------------------------------------------------------------
 *
 * A heap is a set of pages that can be walked, measured and thrown away together. It
 * belongs to the thread that made it: only that thread may allocate from it or pass it to
 * a function; its blocks may be used, and freed with mi_free, anywhere. Each thread has a
 * backing heap from the start. When a thread ends, the heaps it made are deleted, as by
 * mi_heap_delete, and their mi_heap_t pointers end with them.
 */
typedef struct mi_heap_s mi_heap_t;

/* An arena: a contiguous area of slices that heaps take their pages from. Ids count from
 * 1; 0 stands for no particular arena. */
typedef int mi_arena_id_t;

/* Make a heap with tag 0, no particular arena, and mi_heap_destroy allowed. Returns it,
 * or NULL with ENOMEM. The calling thread owns it. */
mi_decl_nodiscard mi_decl_export mi_heap_t* mi_heap_new(void);

/* Make a heap.
 *   heap_tag       0 to 32767: blocks of one tag never share a page with those of
 *                  another, and pages that a thread leaves behind go to heaps of their
 *                  tag only
 *   allow_destroy  may mi_heap_destroy throw the blocks away? If so, the heap never
 *                  adopts pages with blocks of ended threads
 *   arena_id       take memory from this arena only, whose exhaustion then means NULL
 *                  with ENOMEM; 0 for any arena that is not exclusive
 * Returns the heap, owned by the calling thread; NULL with EINVAL for a tag out of range
 * or an unknown arena, or NULL with ENOMEM. */
mi_decl_nodiscard mi_decl_export mi_heap_t* mi_heap_new_ex(int heap_tag,
                                                           bool allow_destroy,
                                                           mi_arena_id_t arena_id);

/* Make a heap with tag 0 that takes memory from one arena only: the heap of a runtime
 * whose references are distances into that arena, as in Koka. When the arena is
 * exhausted, allocation returns NULL with ENOMEM. Returns the heap, owned by the calling
 * thread; NULL with EINVAL for an unknown arena, or NULL with ENOMEM. */
mi_decl_nodiscard mi_decl_export mi_heap_t* mi_heap_new_in_arena(mi_arena_id_t arena_id);

/* Give up a heap and keep its blocks: pages with live blocks are abandoned, to be freed
 * or adopted by other heaps of the same tag. If it is the thread's default heap, the
 * backing heap becomes the default. Only the heap's thread may call it; afterwards the
 * heap must not be used. NULL is left alone; so is the backing heap, with EINVAL, and
 * another thread's heap, with EPERM. */
mi_decl_export void mi_heap_delete(mi_heap_t* heap);

/* Give up a heap and free all its blocks without looking at any. No pointer to them may
 * be used, or freed, afterwards. A heap made with allow_destroy false keeps its blocks,
 * as with mi_heap_delete. Only the heap's thread may call it. NULL is left alone; so is
 * the backing heap, with EINVAL, and another thread's heap, with EPERM. */
mi_decl_export void mi_heap_destroy(mi_heap_t* heap);

/* Make a heap of the calling thread the one that mi_malloc and its kin allocate from in
 * this thread. Returns the one before; NULL, with nothing changed, if heap is NULL. */
mi_decl_export mi_heap_t* mi_heap_set_default(mi_heap_t* heap);

/* The calling thread's default heap. Never NULL while memory lasts. */
mi_decl_export mi_heap_t* mi_heap_get_default(void);

/* The calling thread's backing heap: the default one until another is set. It cannot be
 * deleted or destroyed. Never NULL while memory lasts. */
mi_decl_export mi_heap_t* mi_heap_get_backing(void);

/* Take in what other threads have freed in a heap, and give its empty pages back.
 *   force  also purge free slices at once rather than after their delay
 * Only the heap's thread may call it. No errors. */
mi_decl_export void mi_heap_collect(mi_heap_t* heap, bool force) mi_attr_noexcept;

/* ---- Blocks of a heap -----------------------------------------------------------------
 *
 * Each function is the one without _heap, allocating from the heap given. Only the heap's
 * thread may call it. Errors are the same; NULL with ENOMEM also when the heap's arena is
 * exhausted. There is no mi_heap_free: mi_free finds the heap itself, from any thread.
 */

/* Allocate.
 *   mi_heap_malloc        size bytes, unspecified contents
 *   mi_heap_zalloc        size bytes, all zero
 *   mi_heap_calloc        count elements of size bytes each, all zero
 *   mi_heap_mallocn       count elements of size bytes each, unspecified contents
 *   mi_heap_malloc_small  at most MI_SMALL_SIZE_MAX bytes, unspecified contents
 *   mi_heap_zalloc_small  at most MI_SMALL_SIZE_MAX bytes, all zero */
mi_decl_nodiscard mi_decl_export void* mi_heap_malloc(mi_heap_t* heap, size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);
mi_decl_nodiscard mi_decl_export void* mi_heap_zalloc(mi_heap_t* heap, size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);
mi_decl_nodiscard mi_decl_export void* mi_heap_calloc(mi_heap_t* heap, size_t count,
                                                      size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(2, 3);
mi_decl_nodiscard mi_decl_export void* mi_heap_mallocn(mi_heap_t* heap, size_t count,
                                                       size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(2, 3);
mi_decl_nodiscard mi_decl_export void* mi_heap_malloc_small(mi_heap_t* heap, size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);
mi_decl_nodiscard mi_decl_export void* mi_heap_zalloc_small(mi_heap_t* heap, size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);

/* Resize. p may be of any heap; if it has to move, it moves into heap.
 *   mi_heap_realloc   to newsize bytes
 *   mi_heap_reallocn  to count elements of size bytes each
 *   mi_heap_reallocf  to newsize bytes, freeing p on failure */
mi_decl_nodiscard mi_decl_export void* mi_heap_realloc(mi_heap_t* heap, void* p,
                                                       size_t newsize)
    mi_attr_noexcept mi_attr_alloc_size(3);
mi_decl_nodiscard mi_decl_export void* mi_heap_reallocn(mi_heap_t* heap, void* p,
                                                        size_t count, size_t size)
    mi_attr_noexcept mi_attr_alloc_size2(3, 4);
mi_decl_nodiscard mi_decl_export void* mi_heap_reallocf(mi_heap_t* heap, void* p,
                                                        size_t newsize)
    mi_attr_noexcept mi_attr_alloc_size(3);

/* Copy a string, or resolve a file name.
 *   mi_heap_strdup    the whole string
 *   mi_heap_strndup   at most n bytes of it, and a zero
 *   mi_heap_realpath  the absolute path of fname, into resolved_name or a new block */
mi_decl_nodiscard mi_decl_export char* mi_heap_strdup(mi_heap_t* heap, const char* s)
    mi_attr_noexcept mi_attr_malloc;
mi_decl_nodiscard mi_decl_export char* mi_heap_strndup(mi_heap_t* heap, const char* s,
                                                       size_t n)
    mi_attr_noexcept mi_attr_malloc;
mi_decl_nodiscard mi_decl_export char* mi_heap_realpath(mi_heap_t* heap,
                                                        const char* fname,
                                                        char* resolved_name)
    mi_attr_noexcept;

/* Allocate at an alignment, any power of two; else NULL with EINVAL.
 *   mi_heap_malloc_aligned     size bytes, unspecified contents
 *   mi_heap_malloc_aligned_at  ... aligned at an offset
 *   mi_heap_zalloc_aligned     size bytes, all zero
 *   mi_heap_zalloc_aligned_at  ... aligned at an offset
 *   mi_heap_calloc_aligned     count elements of size bytes each, all zero
 *   mi_heap_calloc_aligned_at  ... aligned at an offset */
mi_decl_nodiscard mi_decl_export void* mi_heap_malloc_aligned(mi_heap_t* heap,
                                                              size_t size,
                                                              size_t alignment)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2) mi_attr_alloc_align(3);
mi_decl_nodiscard mi_decl_export void* mi_heap_malloc_aligned_at(mi_heap_t* heap,
                                                                 size_t size,
                                                                 size_t alignment,
                                                                 size_t offset)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);
mi_decl_nodiscard mi_decl_export void* mi_heap_zalloc_aligned(mi_heap_t* heap,
                                                              size_t size,
                                                              size_t alignment)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2) mi_attr_alloc_align(3);
mi_decl_nodiscard mi_decl_export void* mi_heap_zalloc_aligned_at(mi_heap_t* heap,
                                                                 size_t size,
                                                                 size_t alignment,
                                                                 size_t offset)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);
mi_decl_nodiscard mi_decl_export void* mi_heap_calloc_aligned(mi_heap_t* heap,
                                                              size_t count, size_t size,
                                                              size_t alignment)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(2, 3) mi_attr_alloc_align(4);
mi_decl_nodiscard mi_decl_export void* mi_heap_calloc_aligned_at(
    mi_heap_t* heap, size_t count, size_t size, size_t alignment, size_t offset)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(2, 3);

/* Resize to an alignment. p may be of any heap; if it has to move, it moves into heap.
 *   mi_heap_realloc_aligned     the start is aligned
 *   mi_heap_realloc_aligned_at  the byte at offset is aligned */
mi_decl_nodiscard mi_decl_export void* mi_heap_realloc_aligned(mi_heap_t* heap, void* p,
                                                               size_t newsize,
                                                               size_t alignment)
    mi_attr_noexcept mi_attr_alloc_size(3) mi_attr_alloc_align(4);
mi_decl_nodiscard mi_decl_export void* mi_heap_realloc_aligned_at(
    mi_heap_t* heap, void* p, size_t newsize, size_t alignment, size_t offset)
    mi_attr_noexcept mi_attr_alloc_size(3);

/* Resize a zeroed block and zero what is added, under the conditions of mi_rezalloc.
 *   mi_heap_rezalloc             to newsize bytes
 *   mi_heap_rezalloc_aligned     ... at an alignment
 *   mi_heap_rezalloc_aligned_at  ... at an alignment of the byte at offset
 *   mi_heap_recalloc             to newcount elements of size bytes each
 *   mi_heap_recalloc_aligned     ... at an alignment
 *   mi_heap_recalloc_aligned_at  ... at an alignment of the byte at offset */
mi_decl_nodiscard mi_decl_export void* mi_heap_rezalloc(mi_heap_t* heap, void* p,
                                                        size_t newsize)
    mi_attr_noexcept mi_attr_alloc_size(3);
mi_decl_nodiscard mi_decl_export void* mi_heap_rezalloc_aligned(mi_heap_t* heap, void* p,
                                                                size_t newsize,
                                                                size_t alignment)
    mi_attr_noexcept mi_attr_alloc_size(3) mi_attr_alloc_align(4);
mi_decl_nodiscard mi_decl_export void* mi_heap_rezalloc_aligned_at(
    mi_heap_t* heap, void* p, size_t newsize, size_t alignment, size_t offset)
    mi_attr_noexcept mi_attr_alloc_size(3);
mi_decl_nodiscard mi_decl_export void* mi_heap_recalloc(mi_heap_t* heap, void* p,
                                                        size_t newcount, size_t size)
    mi_attr_noexcept mi_attr_alloc_size2(3, 4);
mi_decl_nodiscard mi_decl_export void* mi_heap_recalloc_aligned(
    mi_heap_t* heap, void* p, size_t newcount, size_t size, size_t alignment)
    mi_attr_noexcept mi_attr_alloc_size2(3, 4) mi_attr_alloc_align(5);
mi_decl_nodiscard mi_decl_export void* mi_heap_recalloc_aligned_at(
    mi_heap_t* heap, void* p, size_t newcount, size_t size, size_t alignment,
    size_t offset) mi_attr_noexcept mi_attr_alloc_size2(3, 4);

/* ---- Guarded blocks -------------------------------------------------------------------
 *
 * A guarded block is followed by a page that cannot be touched: an access past its end
 * faults where it happens. It costs memory pages, so only a sample of the allocations is
 * guarded. After Electric Fence (Perens), and GWP-ASan for the sampling. The options
 * mi_option_guarded_* set the same for all heaps made later. Only the heap's thread may
 * call these. No errors.
 */

/* Guard every rate-th allocation of a heap.
 *   rate  1 for each allocation, 0 for none
 *   seed  which of the first rate allocations to begin with */
mi_decl_export void mi_heap_guarded_set_sample_rate(mi_heap_t* heap, size_t rate,
                                                    size_t seed);

/* Guard only allocations of min to max bytes, both included. */
mi_decl_export void mi_heap_guarded_set_size_bound(mi_heap_t* heap, size_t min,
                                                   size_t max);

/* ---- Arenas ---------------------------------------------------------------------------
 *
 * Memory is handed out from arenas. mirt reserves them as it needs them; a program may
 * reserve one in advance, or hand over memory of its own. Any thread may call these.
 * doc/arenas.md explains them; mirt/arena.h gives an arena up again and draws a map.
 *   exclusive  only heaps that name the arena (mi_heap_new_ex) take memory from it; any
 *              other arena serves everybody, and does so before the system is asked
 *   arena_id   receives the id of the new arena, 0 when there is none; may be NULL
 *   numa_node  the node that the memory is, or should be, on, from 0; -1 for no
 *              preference. Threads on that node take memory from it first
 */

/* The alignment of the memory that arenas manage: a slice, 64 KiB. No errors. */
mi_decl_nodiscard mi_decl_export size_t mi_arena_min_alignment(void) mi_attr_noexcept;

/* The size in bytes of the smallest area that can become an arena. No errors. */
mi_decl_nodiscard mi_decl_export size_t mi_arena_min_size(void) mi_attr_noexcept;

/* Reserve memory from the operating system as an arena.
 *   size         in bytes; rounded up to slices
 *   commit       commit all of it now, rather than as it comes into use
 *   allow_large  2 MiB pages may be used. If the system has enough of them set aside, the
 *                arena, rounded up to 2 MiB, lies in them: it is committed, whatever
 *                commit says, and keeps its memory until it is destroyed. Otherwise the
 *                system is asked for transparent huge pages
 * Returns 0, EINVAL for a size that is 0 or beyond the address space, or ENOMEM when the
 * system refuses. Errors are reported.
 *   mi_reserve_os_memory     an arena for everybody
 *   mi_reserve_os_memory_ex  exclusive on request, telling its id */
mi_decl_export int mi_reserve_os_memory(size_t size, bool commit, bool allow_large)
    mi_attr_noexcept;
mi_decl_export int mi_reserve_os_memory_ex(size_t size, bool commit, bool allow_large,
                                           bool exclusive, mi_arena_id_t* arena_id)
    mi_attr_noexcept;

/* Hand over memory to be used as an arena: anything that is mapped, such as anonymous
 * memory, a static buffer, shared memory, a file. It stays the caller's and is never
 * unmapped by mirt; it has to stay mapped until the process ends or mirt_arena_destroy
 * has forgotten the arena. The records of the arena and of the heaps in it lie inside the
 * area, at its start, so that those heaps make no mapping of any kind.
 *   start         of the area; what precedes the first slice boundary is not used
 *   size          of the area in bytes; a last part of a slice is not used
 *   is_committed  it can be read and written as it is; if not, mirt makes it so in parts,
 *                 as they come into use
 *   is_large      it lies in large pages, or must not be purged for another reason: mirt
 *                 gives no memory of it back and changes no protection in it, whatever the
 *                 options say. Implies is_committed
 *   is_zero       its bytes are all zero, so that memory never handed out before need not
 *                 be zeroed
 * Returns true; or false, with nothing changed, reported as EINVAL when the area is NULL,
 * ends beyond the address space, is smaller than mi_arena_min_size(), or overlaps an arena
 * or a block; as ENOMEM when its first slices cannot be committed or there are as many
 * arenas as there can be, 4096.
 *   mi_manage_os_memory     an arena for everybody
 *   mi_manage_os_memory_ex  exclusive on request, telling its id */
mi_decl_export bool mi_manage_os_memory(void* start, size_t size, bool is_committed,
                                        bool is_large, bool is_zero, int numa_node)
    mi_attr_noexcept;
mi_decl_export bool mi_manage_os_memory_ex(void* start, size_t size, bool is_committed,
                                           bool is_large, bool is_zero, int numa_node,
                                           bool exclusive, mi_arena_id_t* arena_id)
    mi_attr_noexcept;

/* Reserve huge pages of 1 GiB, which the system must have set aside, as an arena per node.
 * The pages are bound to their node and filled in one after the other, which takes the
 * system a few tenths of a second each; they are committed and never purged.
 *   pages          how many; with 0 nothing is done
 *   numa_nodes     spread them evenly over so many nodes; 0 for as many as there are
 *   timeout_msecs  limit in milliseconds on the whole call; 0 for none. Looked at after
 *                  each page: the call stops when the limit is reached, or when the
 *                  pages so far have taken so long that all of them would take more than
 *                  1.5 times the limit
 * Returns 0 when all pages were reserved; EINVAL for more pages than the address space
 * holds, ENOMEM when the system ran out of huge pages, ETIMEDOUT when the limit stopped
 * the call. Pages got before ENOMEM or ETIMEDOUT are kept as an arena and used: arena_id is
 * 0 only if there are none, and the error's line says how many there are. If the system
 * does not bind a page to its node, that is reported with its error code, and the page is
 * used where it is.
 *   mi_reserve_huge_os_pages_interleave  spread over nodes
 *   mi_reserve_huge_os_pages_at          on one node
 *   mi_reserve_huge_os_pages_at_ex       the same, exclusive if wanted, telling its id */
mi_decl_export int mi_reserve_huge_os_pages_interleave(size_t pages, size_t numa_nodes,
                                                       size_t timeout_msecs)
    mi_attr_noexcept;
mi_decl_export int mi_reserve_huge_os_pages_at(size_t pages, int numa_node,
                                               size_t timeout_msecs) mi_attr_noexcept;
mi_decl_export int mi_reserve_huge_os_pages_at_ex(size_t pages, int numa_node,
                                                  size_t timeout_msecs, bool exclusive,
                                                  mi_arena_id_t* arena_id)
    mi_attr_noexcept;

/* Deprecated form of mi_reserve_huge_os_pages_interleave over all nodes.
 *   max_secs        limit in seconds; 0 for none
 *   pages_reserved  receives how many pages were reserved; may be NULL
 * Returns the same. */
mi_decl_export int mi_reserve_huge_os_pages(size_t pages, double max_secs,
                                            size_t* pages_reserved) mi_attr_noexcept;

/* Where an arena lies.
 *   size  receives the size of its area in bytes, 0 for an unknown id; may be NULL
 * Returns the start of the area, or NULL for an unknown id. Every block of a heap bound
 * to the arena lies inside of the area. */
mi_decl_export void* mi_arena_area(mi_arena_id_t arena_id, size_t* size);

/* Does p, which may be any word, lie in the area of an arena? Returns false for an
 * unknown id. No errors. */
mi_decl_nodiscard mi_decl_export bool mi_arena_contains(mi_arena_id_t arena_id,
                                                        const void* p) mi_attr_noexcept;

/* Print a map of all arenas through the output function, for a person to read: a
 * character per slice, lines that repeat left out, a legend. No errors.
 *   mi_debug_show_arenas  the older name
 *   mi_arenas_print       the newer name */
mi_decl_export void mi_debug_show_arenas(void) mi_attr_noexcept;
mi_decl_export void mi_arenas_print(void) mi_attr_noexcept;

/* ---- Sub-processes --------------------------------------------------------------------
 *
 * A sub-process is a set of threads that keep to themselves: what a thread leaves behind
 * when it ends is adopted only by threads of its own sub-process. For several
 * interpreters in one process. Threads start in the main sub-process.
 */
typedef void* mi_subproc_id_t;

/* The main sub-process. NULL names it too. Any thread may call it. No errors. */
mi_decl_export mi_subproc_id_t mi_subproc_main(void);

/* Make a sub-process without threads. Any thread may call it. Returns its id, or NULL
 * with ENOMEM. */
mi_decl_export mi_subproc_id_t mi_subproc_new(void);

/* End a sub-process; all its threads must have ended. Pages that they left behind are
 * adopted by nobody, and go back to their arenas as their last blocks are freed. Any thread
 * may call it. No errors. */
mi_decl_export void mi_subproc_delete(mi_subproc_id_t subproc);

/* Put the calling thread into a sub-process. To be called by a new thread before it
 * allocates: pages that it has already stay with the sub-process it was in. No errors. */
mi_decl_export void mi_subproc_add_current_thread(mi_subproc_id_t subproc);

/* ---- Looking into heaps ---------------------------------------------------------------
 *
 * Pointers to look up may be any word: nothing is read through them. Answers about memory
 * that other threads work on may be out of date when they arrive.
 */

/* Does p point into a live block of a heap? Any thread may ask; only the heap's can rely on
 * the answer. No errors. In mimalloc the first asks fast and the others safely; here all
 * are both.
 *   mi_heap_contains_block  the heap given
 *   mi_heap_check_owned     the heap given
 *   mi_check_owned          the calling thread's default heap */
mi_decl_export bool mi_heap_contains_block(mi_heap_t* heap, const void* p);
mi_decl_export bool mi_heap_check_owned(mi_heap_t* heap, const void* p);
mi_decl_export bool mi_check_owned(const void* p);

/* The heap that p's page belongs to. Returns NULL if p lies in no page, or in one whose
 * heap is gone. No errors. Any thread may ask; only the heap's own may use the heap. */
mi_decl_nodiscard mi_decl_export mi_heap_t* mi_heap_of(const void* p);

/* Is p in memory that mirt manages, of whatever heap or thread? Any thread may call it.
 * No errors. */
mi_decl_nodiscard mi_decl_export bool mi_is_in_heap_region(const void* p)
    mi_attr_noexcept;

/* Do malloc and free of the C library lead to mirt in this process? Returns true in the
 * override library, else false. Any thread may call it. No errors. */
mi_decl_nodiscard mi_decl_export bool mi_is_redirected(void) mi_attr_noexcept;

/* A run of memory that is cut into blocks of one size: what a visitor is shown. */
typedef struct mi_heap_area_s {
  void* blocks;           /* the first block */
  size_t reserved;        /* bytes of address space from there */
  size_t committed;       /* bytes of those that hold, or can hold, blocks now */
  size_t used;            /* number of live blocks */
  size_t block_size;      /* bytes of a block that a program may use */
  size_t full_block_size; /* bytes from one block to the next */
  int heap_tag;           /* tag of the heap that the area belongs, or belonged, to */
  void* reserved1;        /* a bit per block, 1 = live: for mirt_area_begin of mirt/visit.h */
} mi_heap_area_t;

/* A visitor, called once for each area, with block NULL, and then once for each live
 * block of the area, if blocks were asked for.
 *   heap        the heap visited, or NULL for pages of ended threads
 *   area        valid during the call only
 *   block       the live block, or NULL
 *   block_size  bytes of a block that a program may use
 *   arg         what the caller of the visiting function passed
 * Returns true to go on, false to stop. It must not allocate from the heap visited, or
 * free blocks of it. */
typedef bool(mi_cdecl mi_block_visit_fun)(const mi_heap_t* heap,
                                          const mi_heap_area_t* area, void* block,
                                          size_t block_size, void* arg);

/* Visit the areas of a heap, and its live blocks.
 *   visit_all_blocks  blocks too, not only areas
 *   visitor, arg      the function to call and its last argument
 * Returns true when all was visited, false when the visitor stopped it, or heap or
 * visitor is NULL. Only the heap's thread may call it. */
mi_decl_export bool mi_heap_visit_blocks(const mi_heap_t* heap, bool visit_all_blocks,
                                         mi_block_visit_fun* visitor, void* arg);

/* Visit the areas that ended threads and deleted heaps have left, and their live blocks.
 *   subproc       the sub-process that the threads belonged to
 *   heap_tag      only areas of this tag; -1 for all
 *   visit_blocks  blocks too, not only areas
 *   visitor, arg  the function to call and its last argument
 * Other threads may free such blocks, or adopt such areas, at the same time; the caller
 * rules that out if it must. An area that another such visit looks at just then is left
 * out. Returns true when all was visited; false when the visitor stopped it or is NULL, and
 * always while mi_option_visit_abandoned is 0, with EPERM through the registered error
 * function. Any thread may call it. */
mi_decl_export bool mi_abandoned_visit_blocks(mi_subproc_id_t subproc, int heap_tag,
                                              bool visit_blocks,
                                              mi_block_visit_fun* visitor, void* arg);

/* Would memory be gained by moving a block elsewhere? A hint for programs that copy their
 * objects together.
 *   heap     a heap of the calling thread
 *   p        a live block; not checked
 *   percent  0 to 100
 * Returns true if p lies in a page of the heap of whose blocks fewer than percent in 100
 * are live, and that the heap is not allocating from. Only the heap's thread may call it.
 * No errors. */
mi_decl_nodiscard mi_decl_export bool mi_unsafe_heap_page_is_under_utilized(
    mi_heap_t* heap, void* p, size_t percent) mi_attr_noexcept;

/* ---- Process and threads --------------------------------------------------------------
 *
 * Nothing here has to be called: the first allocation of a process or thread prepares
 * what it needs, and the end of a thread cleans up. Any thread may call these.
 */

/* Prepare the process: read the options, reserve what they ask for. Later calls do
 * nothing. No errors: what cannot be had is reported and done without. */
mi_decl_export void mi_process_init(void) mi_attr_noexcept;

/* Prepare the calling thread: its records. Later calls do nothing. No errors. */
mi_decl_export void mi_thread_init(void) mi_attr_noexcept;

/* Clean up after the calling thread, as its end would: delete its heaps and leave pages
 * with live blocks to others. If it allocates again, it starts anew. No errors. */
mi_decl_export void mi_thread_done(void) mi_attr_noexcept;

/* Say that the calling thread only does pieces of work for others, as those of a pool do:
 * it never adopts the pages of ended threads. Holds until the thread ends. No errors. */
mi_decl_export void mi_thread_set_in_threadpool(void) mi_attr_noexcept;

/* Give back what the calling thread's heaps can spare: take in what other threads have
 * freed, return empty pages. No errors.
 *   force  also purge all free slices at once */
mi_decl_export void mi_collect(bool force) mi_attr_noexcept;

/* Give back memory until the calling thread holds about so many bytes, or nothing more
 * can be given back. No errors.
 *   target_thread_owned  in bytes; 0 for as little as possible */
mi_decl_export void mi_collect_reduce(size_t target_thread_owned) mi_attr_noexcept;

/* The version of the interface that the library was built with: its MI_MALLOC_VERSION. */
mi_decl_export int mi_version(void) mi_attr_noexcept;

/* What the process has used. Each parameter may be NULL.
 *   elapsed_msecs   receives the milliseconds since the process was prepared
 *   user_msecs      ... of processor time in the program
 *   system_msecs    ... of processor time in the operating system
 *   current_rss     receives the bytes resident in memory, if the system tells them
 *   peak_rss        ... at their highest
 *   current_commit  receives the bytes committed by mirt
 *   peak_commit     ... at their highest
 *   page_faults     receives the page faults that needed input or output
 * No errors: what the system does not tell is 0. */
mi_decl_export void mi_process_info(size_t* elapsed_msecs, size_t* user_msecs,
                                    size_t* system_msecs, size_t* current_rss,
                                    size_t* peak_rss, size_t* current_commit,
                                    size_t* peak_commit, size_t* page_faults)
    mi_attr_noexcept;

/* ---- Callbacks ------------------------------------------------------------------------
 *
 * One function of each kind is registered at a time; a new one takes the place of the
 * old, and NULL restores the behaviour at the start. Any thread may register one; it is
 * called by whichever thread has something to report, maybe by several at once. Register
 * before other threads run: one of them may otherwise see the new function with the old
 * argument. Registering cannot fail.
 */

/* Called now and then when an allocation takes a slow path, for programs that put off
 * frees: a reference-counting runtime frees some of its waiting blocks here.
 *   force      mi_collect(true) is under way: free all of them
 *   heartbeat  counts the calls in this thread
 *   arg        what was registered
 * It may allocate and free; it is not called again while it runs in the same thread. */
typedef void(mi_cdecl mi_deferred_free_fun)(bool force, unsigned long long heartbeat,
                                            void* arg);

/* Register the function that does deferred frees. At the start there is none. */
mi_decl_export void mi_register_deferred_free(mi_deferred_free_fun* deferred_free,
                                              void* arg) mi_attr_noexcept;

/* Called with text to print, whole lines or parts of one. It must not allocate.
 *   msg  the text, valid during the call only
 *   arg  what was registered */
typedef void(mi_cdecl mi_output_fun)(const char* msg, void* arg);

/* Register where messages and statistics go. At the start they go to standard error,
 * error messages only with mi_option_show_errors; a registered function gets them
 * without. */
mi_decl_export void mi_register_output(mi_output_fun* out, void* arg) mi_attr_noexcept;

/* Called on an error, by the thread that made it.
 *   err  EFAULT  a block was freed twice, or freed and then resized. Found at once, except
 *                that another thread's second free of a block which its owner has freed
 *                and is about to hand out again can be found late, or not at all
 *        EINVAL  a pointer that is not a block, or another argument that makes no sense
 *        ENOMEM  memory could not be had, or a size overflowed
 *   arg  what was registered
 * It must not allocate, nor wait for a thread that may be in a call of mirt. It may end the
 * process; if it returns, the call that failed returns its error. ENOMEM is reported, too,
 * when the system refuses to take memory back: the call that came upon it has not failed. */
typedef void(mi_cdecl mi_error_fun)(int err, void* arg);

/* Register the function to call on errors. At the start there is none. It is called for
 * every error, whether or not a message is printed. */
mi_decl_export void mi_register_error(mi_error_fun* fun, void* arg);

/* ---- Statistics -----------------------------------------------------------------------
 *
 * Counts of slow-path events, so they cost allocation nothing. Any thread may call these;
 * the numbers are those of the moment, and may be off by what threads do meanwhile.
 */

/* A quantity that goes up and down: all that was ever added, the most there was at one
 * time, and what there is now. */
typedef struct mi_stat_count_s {
  int64_t total;
  int64_t peak;
  int64_t current;
} mi_stat_count_t;

/* The version of the layout below. A new version only adds fields at the end. */
#define MI_STAT_VERSION 1

typedef struct mi_stats_s {
  size_t size;    /* bytes of this struct: set before the call */
  size_t version; /* MI_STAT_VERSION of the library */

  mi_stat_count_t reserved;        /* bytes of address space */
  mi_stat_count_t committed;       /* bytes committed */
  mi_stat_count_t arenas;          /* arenas */
  mi_stat_count_t pages;           /* pages cut into blocks */
  mi_stat_count_t page_bytes;      /* bytes in the slices of pages */
  mi_stat_count_t pages_abandoned; /* pages that have no heap */
  mi_stat_count_t heaps;           /* heaps, backing heaps included */
  mi_stat_count_t threads;         /* that have allocated, and mutators */
  mi_stat_count_t large_blocks;    /* blocks with slices or a mapping of their own */

  int64_t pages_adopted; /* abandoned pages that a heap took over */
  int64_t purged;        /* bytes given back to the system and kept reserved */
  int64_t mmap_calls;    /* calls that reserved address space */
  int64_t commit_calls;  /* calls that committed memory */
  int64_t purge_calls;   /* calls that purged memory */
} mi_stats_t;

/* Declare a variable for mi_stats_get, ready to be passed to it. */
#define mi_stats_t_decl(name)     \
  mi_stats_t name;                \
  name.size = sizeof(mi_stats_t); \
  name.version = MI_STAT_VERSION

/* Fill in the statistics of the process, all threads together.
 *   stats  size says how many bytes there are to fill. On return it says how many were
 *          filled, less if the library is older than the program, and version says which
 *          layout they have
 * Returns true; false with EINVAL in errno, nothing written, if stats is NULL or its size
 * has no room for the first two fields. */
mi_decl_export bool mi_stats_get(mi_stats_t* stats) mi_attr_noexcept;

/* Write the statistics of the process as a JSON object, its keys named for the fields of
 * mi_stats_t; and under "tags" an array with what each tag that was ever used holds: its
 * pages, the bytes committed in them now and at most, how many of them are abandoned, how many
 * were adopted, and bytes of address space that it has sealed.
 *   buf_size  bytes at buf; not looked at if buf is NULL
 *   buf       where to write; NULL for a new block, to be freed with mi_free
 * Returns buf or the new block; NULL with ERANGE in errno if the text and its zero do not
 * fit, NULL with ENOMEM if there is no new block. */
mi_decl_export char* mi_stats_get_json(size_t buf_size, char* buf) mi_attr_noexcept;

/* Start counting anew: totals become 0, peaks what is there now. No errors. */
mi_decl_export void mi_stats_reset(void) mi_attr_noexcept;

/* Add the calling thread's counts to those of the process, where they outlive it; its end
 * does the same. The functions that tell statistics do it first. No errors. */
mi_decl_export void mi_stats_merge(void) mi_attr_noexcept;

/* Print statistics. No errors.
 *   mi_stats_print             of the process, through the registered output function;
 *                              out is ignored, pass NULL
 *   mi_stats_print_out         of the process, through out with arg; NULL for the
 *                              registered function
 *   mi_thread_stats_print_out  the same: statistics are kept for the process only */
mi_decl_export void mi_stats_print(void* out) mi_attr_noexcept;
mi_decl_export void mi_stats_print_out(mi_output_fun* out, void* arg) mi_attr_noexcept;
mi_decl_export void mi_thread_stats_print_out(mi_output_fun* out, void* arg)
    mi_attr_noexcept;

/* ---- Options --------------------------------------------------------------------------
 *
 * An option is a number. It has a default; the environment variable MIMALLOC_ and its
 * name in capitals, as in MIMALLOC_PURGE_DELAY=0, replaces that when the process starts;
 * the functions below replace it at any time. Switches are 0 or 1; the environment may
 * say yes and no, true and false, on and off, too. A size there may have K, M or G behind
 * it, for KiB, MiB, GiB; a plain number is in the unit of the option.
 *
 * The values of the names up to destroy_on_exit are those of mimalloc 2.0. An older name
 * that a newer one has replaced is the same option.
 */
typedef enum mi_option_e {
  /* Print a message for each error. Switch, default 0. */
  mi_option_show_errors,
  /* Print statistics when the process ends. Switch, default 0. */
  mi_option_show_stats,
  /* Print what mirt does: 0 nothing, more with each step up. Default 0. */
  mi_option_verbose,

  /* Accepted and ignored: has no meaning in this design, where a page is committed whole. */
  mi_option_eager_commit,
  /* Accepted and ignored: has no meaning in this design, which has no regions. */
  mi_option_deprecated_eager_region_commit,
  /* Accepted and ignored: has no meaning in this design; see purge_decommits. */
  mi_option_deprecated_reset_decommits,
  /* Use 2 MiB pages for arenas where the system has them; such an arena is committed
   * whole. Switch, default 0. */
  mi_option_large_os_pages,
  /* Reserve so many huge pages of 1 GiB at the start. Default 0. */
  mi_option_reserve_huge_os_pages,
  /* The NUMA node to reserve them on; -1 for all, evenly. Default -1. */
  mi_option_reserve_huge_os_pages_at,
  /* Reserve an arena of this size at the start. In KiB, default 0. */
  mi_option_reserve_os_memory,
  /* Accepted and ignored: has no meaning in this design, which has no segments. */
  mi_option_deprecated_segment_cache,
  /* Accepted and ignored: has no meaning in this design; pages keep their memory until
   * their slices are free. */
  mi_option_page_reset,
  /* Accepted and ignored: has no meaning in this design; see page_reset. */
  mi_option_abandoned_page_purge,
  /* Older name of abandoned_page_purge. */
  mi_option_abandoned_page_decommit = mi_option_abandoned_page_purge,
  /* Accepted and ignored: has no meaning in this design, which has no segments. */
  mi_option_deprecated_segment_reset,
  /* Accepted and ignored: has no meaning in this design; eager_commit holds from the
   * first page on. */
  mi_option_eager_commit_delay,
  /* How long free slices wait before their memory goes back to the system, to be
   * multiplied by arena_purge_mult: they go when a thread passes by after they have been
   * free for that long, and at most twice as long if threads do. 0 for not at all, -1 for
   * ever. In milliseconds, default 10. */
  mi_option_purge_delay,
  /* Older name of purge_delay. */
  mi_option_decommit_delay = mi_option_purge_delay,
  /* Act as if the machine had at most so many NUMA nodes; 0 for all it has. Default 0. */
  mi_option_use_numa_nodes,
  /* Never ask the system for memory: use only arenas that were reserved or handed over.
   * When static storage does not suffice for the records of threads and of heaps bound to
   * no arena, they take slices of an arena that serves everybody, and keep them. Switch,
   * default 0. */
  mi_option_disallow_os_alloc,
  /* Older name of disallow_os_alloc. */
  mi_option_limit_os_alloc = mi_option_disallow_os_alloc,
  /* Accepted and ignored: has no meaning in this design, which does not mark mappings. */
  mi_option_os_tag,
  /* Print at most this many errors; -1 for all. Default 32. */
  mi_option_max_errors,
  /* Print at most this many warnings; -1 for all. Default 32. */
  mi_option_max_warnings,
  /* Accepted and ignored: has no meaning in this design, which adopts single pages. */
  mi_option_max_segment_reclaim,
  /* Purged memory goes back at once, and reads as zero; at 0, the system takes it when it
   * needs it. Switch, default 1. */
  mi_option_purge_decommits,
  /* Older name of purge_decommits. */
  mi_option_allow_decommit = mi_option_purge_decommits,
  /* Accepted and ignored: has no meaning in this design; see purge_delay. */
  mi_option_segment_decommit_delay,
  /* Accepted and ignored: has no meaning in this design; see purge_delay. */
  mi_option_purge_extend_delay,
  /* Older name of purge_extend_delay. */
  mi_option_decommit_extend_delay = mi_option_purge_extend_delay,
  /* Give all memory back when the process ends, or the library is unloaded: only for a
   * program in which nothing uses its blocks after that. Switch, default 0. */
  mi_option_destroy_on_exit,

  /* Factor on purge_delay for the slices of arenas. Default 10. */
  mi_option_arena_purge_mult,
  /* Size of the arenas that mirt reserves when it needs one. In KiB, default 1 GiB. */
  mi_option_arena_reserve,
  /* Commit the arenas that mirt reserves at once: 0 no, 1 yes, 2 where the system counts
   * only memory that was touched. Default 2. */
  mi_option_arena_eager_commit,
  /* Serve heaps that are not bound to an arena only from arenas that mirt reserves by
   * itself, not from those that the program reserved or handed over. Switch, default 0. */
  mi_option_disallow_arena_alloc,
  /* Accepted and ignored: has no meaning in this design, where an abandoned page is adopted
   * when a heap needs one, and goes back to its arena when its last block is freed. */
  mi_option_abandoned_reclaim_on_free,
  /* Let mi_abandoned_visit_blocks visit. Switch, default 0. */
  mi_option_visit_abandoned,
  /* Guard only blocks of at least this size. In bytes, default 0. */
  mi_option_guarded_min,
  /* Guard only blocks of at most this size. In bytes, default 1 GiB. */
  mi_option_guarded_max,
  /* Let a guarded block end exactly at its guard page, even if that costs its start the
   * alignment. Switch, default 0. */
  mi_option_guarded_precise,
  /* Guard one in so many allocations; 0 for none. Default 0. */
  mi_option_guarded_sample_rate,
  /* How many allocations of a heap to let pass before the sample begins. Default 0. */
  mi_option_guarded_sample_seed,
  /* When there is no memory, give back what the thread holds but does not need, and try once
   * more: 0 no, otherwise yes. Default 400 (in mimalloc, milliseconds to go on trying). */
  mi_option_retry_on_oom,
  /* Abort after reporting a double free or a pointer that is not a block. Switch, default
   * 0. No option of mimalloc. */
  mi_option_corruption_is_fatal,

  /* The number of options; no option itself. */
  _mi_option_last
} mi_option_t;

/* Read an option. Any thread may call these. An option that does not exist reads as 0;
 * all but mi_option_is_enabled report it as EINVAL.
 *   mi_option_is_enabled  true if it is not 0
 *   mi_option_get         its value; a size in KiB where its comment says so
 *   mi_option_get_clamp   its value, or min or max if it lies outside of them
 *   mi_option_get_size    its value as a size, in bytes also where it is kept in KiB; a
 *                         negative value reads as 0 */
mi_decl_nodiscard mi_decl_export bool mi_option_is_enabled(mi_option_t option);
mi_decl_nodiscard mi_decl_export long mi_option_get(mi_option_t option);
mi_decl_nodiscard mi_decl_export long mi_option_get_clamp(mi_option_t option, long min,
                                                          long max);
mi_decl_nodiscard mi_decl_export size_t mi_option_get_size(mi_option_t option);

/* Set an option. Any thread may call these; what has happened already is not undone, so
 * options about the start of the process are for the environment. An option that does not
 * exist is reported as EINVAL, and nothing is set.
 *   mi_option_enable               to 1
 *   mi_option_disable              to 0
 *   mi_option_set_enabled          to 1 or 0
 *   mi_option_set                  to a value, in the unit of mi_option_get
 *   mi_option_set_enabled_default  to 1 or 0, unless it has been set already
 *   mi_option_set_default          to a value, unless it has been set already
 * Set already means by the environment, or by any of these. */
mi_decl_export void mi_option_enable(mi_option_t option);
mi_decl_export void mi_option_disable(mi_option_t option);
mi_decl_export void mi_option_set_enabled(mi_option_t option, bool enable);
mi_decl_export void mi_option_set(mi_option_t option, long value);
mi_decl_export void mi_option_set_enabled_default(mi_option_t option, bool enable);
mi_decl_export void mi_option_set_default(mi_option_t option, long value);

/* Print all options with their values, and which of them are ignored, through the output
 * function. Any thread may call it. No errors. */
mi_decl_export void mi_options_print(void) mi_attr_noexcept;

/* ---- Names from elsewhere -------------------------------------------------------------
 *
 * The functions that C libraries offer beside the standard ones, for programs and
 * libraries that stand in for them. Any thread may call these.
 */

/* mi_free for a pointer that may be anything: what is not a block of mirt is left alone,
 * without an error. After SunOS for the name. */
mi_decl_export void mi_cfree(void* p) mi_attr_noexcept;

/* mi_expand that sets errno to ENOMEM when it returns NULL. After Microsoft. */
mi_decl_export void* mi__expand(void* p, size_t newsize) mi_attr_noexcept;

/* Other names of mi_usable_size and mi_good_size.
 *   mi_malloc_size         mi_usable_size, after macOS
 *   mi_malloc_usable_size  mi_usable_size, after glibc
 *   mi_malloc_good_size    mi_good_size, after macOS */
mi_decl_nodiscard mi_decl_export size_t mi_malloc_size(const void* p) mi_attr_noexcept;
mi_decl_nodiscard mi_decl_export size_t mi_malloc_usable_size(const void* p)
    mi_attr_noexcept;
mi_decl_nodiscard mi_decl_export size_t mi_malloc_good_size(size_t size) mi_attr_noexcept;

/* Allocate size bytes at an alignment, after POSIX.
 *   p          receives the block; left alone on failure
 *   alignment  a power of two that is a multiple of sizeof(void*)
 * Returns 0; EINVAL for a bad alignment or if p is NULL, ENOMEM if there is no memory.
 * errno is left alone. */
mi_decl_export int mi_posix_memalign(void** p, size_t alignment, size_t size)
    mi_attr_noexcept;

/* Allocate size bytes at an alignment. Each returns the block, or NULL with ENOMEM, or
 * NULL with EINVAL for an alignment that is not a power of two.
 *   mi_memalign       any power of two, after SunOS
 *   mi_aligned_alloc  any power of two, after C11; size need not be a multiple of it
 *   mi_valloc         a page of the operating system, after the BSDs
 *   mi_pvalloc        the same, and size is rounded up to whole pages, after glibc */
mi_decl_nodiscard mi_decl_export void* mi_memalign(size_t alignment, size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2) mi_attr_alloc_align(1);
mi_decl_nodiscard mi_decl_export void* mi_aligned_alloc(size_t alignment, size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2) mi_attr_alloc_align(1);
mi_decl_nodiscard mi_decl_export void* mi_valloc(size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);
mi_decl_nodiscard mi_decl_export void* mi_pvalloc(size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);

/* mi_reallocn, after OpenBSD. Returns the block, or NULL with ENOMEM, p untouched. */
mi_decl_nodiscard mi_decl_export void* mi_reallocarray(void* p, size_t count, size_t size)
    mi_attr_noexcept mi_attr_alloc_size2(2, 3);

/* mi_reallocn in place, after NetBSD.
 *   p            address of the variable that holds the block; receives the new address,
 *                and is left alone on failure
 *   count, size  number of elements, and bytes of each
 * Returns 0; EINVAL if p is NULL, ENOMEM if there is no memory or the product overflows.
 * errno is set to what is returned. */
mi_decl_nodiscard mi_decl_export int mi_reallocarr(void* p, size_t count, size_t size)
    mi_attr_noexcept;

/* Other names of functions for zeroed blocks, after Microsoft.
 *   mi_aligned_recalloc         mi_recalloc_aligned
 *   mi_aligned_offset_recalloc  mi_recalloc_aligned_at */
mi_decl_nodiscard mi_decl_export void* mi_aligned_recalloc(void* p, size_t newcount,
                                                           size_t size, size_t alignment)
    mi_attr_noexcept;
mi_decl_nodiscard mi_decl_export void* mi_aligned_offset_recalloc(void* p,
                                                                  size_t newcount,
                                                                  size_t size,
                                                                  size_t alignment,
                                                                  size_t offset)
    mi_attr_noexcept;

/* Copy a string into a new block, after Microsoft. Each returns the copy, or NULL if s is
 * NULL, or NULL with ENOMEM.
 *   mi_wcsdup  a string of 16-bit units that ends in a zero unit, wherever wchar_t may be
 *              larger
 *   mi_mbsdup  a string of bytes */
mi_decl_nodiscard mi_decl_export unsigned short* mi_wcsdup(const unsigned short* s)
    mi_attr_noexcept mi_attr_malloc;
mi_decl_nodiscard mi_decl_export unsigned char* mi_mbsdup(const unsigned char* s)
    mi_attr_noexcept mi_attr_malloc;

/* Copy the value of an environment variable into a new block, after Microsoft.
 *   buf   receives the copy, or NULL if there is no such variable, or on failure
 *   size  receives the size of the copy in bytes, with its zero, or 0; may be NULL
 *   name  of the variable
 * Returns 0, also if there is no such variable; EINVAL if buf or name is NULL, ENOMEM if
 * there is no memory. Another thread must not change the environment meanwhile. */
mi_decl_export int mi_dupenv_s(char** buf, size_t* size, const char* name)
    mi_attr_noexcept;

/* mi_dupenv_s for an environment of 16-bit units, which POSIX systems do not have. Stores
 * NULL and 0 and returns EINVAL. */
mi_decl_export int mi_wdupenv_s(unsigned short** buf, size_t* size,
                                const unsigned short* name) mi_attr_noexcept;

/* ---- Allocating for C++ ---------------------------------------------------------------
 *
 * What the operators new do. When memory is short, the installed new handler is called
 * and the allocation tried again, as long as there is a handler. Without one, a function
 * that may fail returns NULL with ENOMEM, and any other throws std::bad_alloc. In a process
 * without the C++ library there is nothing to throw, and it returns NULL too. A product of count and size
 * that overflows ends the same way, without asking the handler. Free the blocks with
 * mi_free. Any thread may call these; those with a heap, only the heap's.
 */

/* Never return NULL for want of memory, where the C++ library is there.
 *   mi_new               size bytes
 *   mi_new_aligned       size bytes at an alignment; NULL with EINVAL if it is not a
 *                        power of two
 *   mi_new_n             count elements of size bytes each
 *   mi_new_realloc       mi_realloc to newsize bytes
 *   mi_new_reallocn      mi_realloc to newcount elements of size bytes each
 *   mi_heap_alloc_new    size bytes of a heap
 *   mi_heap_alloc_new_n  count elements of size bytes each of a heap */
mi_decl_nodiscard mi_decl_export void* mi_new(size_t size)
    mi_attr_malloc mi_attr_alloc_size(1);
mi_decl_nodiscard mi_decl_export void* mi_new_aligned(size_t size, size_t alignment)
    mi_attr_malloc mi_attr_alloc_size(1) mi_attr_alloc_align(2);
mi_decl_nodiscard mi_decl_export void* mi_new_n(size_t count, size_t size)
    mi_attr_malloc mi_attr_alloc_size2(1, 2);
mi_decl_nodiscard mi_decl_export void* mi_new_realloc(void* p, size_t newsize)
    mi_attr_alloc_size(2);
mi_decl_nodiscard mi_decl_export void* mi_new_reallocn(void* p, size_t newcount,
                                                       size_t size)
    mi_attr_alloc_size2(2, 3);
mi_decl_nodiscard mi_decl_export void* mi_heap_alloc_new(mi_heap_t* heap, size_t size)
    mi_attr_malloc mi_attr_alloc_size(2);
mi_decl_nodiscard mi_decl_export void* mi_heap_alloc_new_n(mi_heap_t* heap, size_t count,
                                                           size_t size)
    mi_attr_malloc mi_attr_alloc_size2(2, 3);

/* Return NULL with ENOMEM in the end.
 *   mi_new_nothrow          size bytes
 *   mi_new_aligned_nothrow  size bytes at an alignment; NULL with EINVAL if it is not a
 *                           power of two */
mi_decl_nodiscard mi_decl_export void* mi_new_nothrow(size_t size)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);
mi_decl_nodiscard mi_decl_export void* mi_new_aligned_nothrow(size_t size,
                                                              size_t alignment)
    mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1) mi_attr_alloc_align(2);

#ifdef __cplusplus
}
#endif

/* ---- Typed allocation -----------------------------------------------------------------
 *
 * Allocate or resize for objects of a type, with a result of that type: `tp` is the type,
 * `n` the number of elements, `hp` a heap, `p` the block to resize. Each is the function
 * that it is named for, errors and threads included.
 */

/* From the default heap: one object, one zeroed object, n zeroed, n; resize to n, resize
 * to n zeroed. */
#define mi_malloc_tp(tp) ((tp*)mi_malloc(sizeof(tp)))
#define mi_zalloc_tp(tp) ((tp*)mi_zalloc(sizeof(tp)))
#define mi_calloc_tp(tp, n) ((tp*)mi_calloc(n, sizeof(tp)))
#define mi_mallocn_tp(tp, n) ((tp*)mi_mallocn(n, sizeof(tp)))
#define mi_reallocn_tp(p, tp, n) ((tp*)mi_reallocn(p, n, sizeof(tp)))
#define mi_recalloc_tp(p, tp, n) ((tp*)mi_recalloc(p, n, sizeof(tp)))

/* The same from a heap of the calling thread. */
#define mi_heap_malloc_tp(hp, tp) ((tp*)mi_heap_malloc(hp, sizeof(tp)))
#define mi_heap_zalloc_tp(hp, tp) ((tp*)mi_heap_zalloc(hp, sizeof(tp)))
#define mi_heap_calloc_tp(hp, tp, n) ((tp*)mi_heap_calloc(hp, n, sizeof(tp)))
#define mi_heap_mallocn_tp(hp, tp, n) ((tp*)mi_heap_mallocn(hp, n, sizeof(tp)))
#define mi_heap_reallocn_tp(hp, p, tp, n) ((tp*)mi_heap_reallocn(hp, p, n, sizeof(tp)))
#define mi_heap_recalloc_tp(hp, p, tp, n) ((tp*)mi_heap_recalloc(hp, p, n, sizeof(tp)))

/* ---- Allocators for C++ containers ----------------------------------------------------
 *
 * Three allocators for std::vector and the like, C++11 and later, which share one face:
 *
 *   mi_stl_allocator<T>               the calling thread's default heap
 *   mi_heap_stl_allocator<T>          one heap; deleted with the last copy of the
 *                                     allocator
 *   mi_heap_destroy_stl_allocator<T>  one heap, destroyed with the last copy of the
 *                                     allocator; elements are freed only with it
 *
 * The last two make a heap when made without arguments; made with a mi_heap_t*, they use
 * that heap and leave its end to the program. Copies, for other types too, share the heap
 * and are equal. All that happens to such a heap, its end included, has to happen in the
 * thread that made it; elements of the first two may be freed by any thread.
 *
 * Running out of memory calls the new handler and ends in std::bad_alloc, thrown from
 * here so that no exception passes through C code; built without exceptions, in
 * std::abort. Types with a larger alignment than 16 get it.
 */
#ifdef __cplusplus

#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace mi_cxx {

/* The alignment that every block has without being asked. */
constexpr std::size_t natural_alignment = 16;

/* End an allocation whose size in bytes is too large for a size_t. Does not return. */
[[noreturn]] inline void size_overflowed() {
#if defined(__cpp_exceptions)
  throw std::bad_array_new_length();
#else
  std::abort();
#endif
}

/* One turn of the loop that the C++ standard asks of operator new: returns if a handler
 * has run, which may have found memory. */
inline void memory_exhausted() {
  const std::new_handler handler = std::get_new_handler();
  if (handler != nullptr) {
    handler();
    return;
  }
#if defined(__cpp_exceptions)
  throw std::bad_alloc();
#else
  std::abort();
#endif
}

/* Repeat an attempt until it gives something else than a null pointer. */
template <class Attempt>
auto insist(Attempt attempt) -> decltype(attempt()) {
  for (;;) {
    const auto result = attempt();
    if (result != nullptr) return result;
    memory_exhausted();
  }
}

/* Source of memory: whatever heap is the calling thread's default. */
class default_heap {
 public:
  using is_always_equal = std::true_type;

  void* take(std::size_t size, std::size_t alignment) const {
    return insist([=]() {
      return alignment <= natural_alignment ? mi_malloc(size)
                                            : mi_malloc_aligned(size, alignment);
    });
  }
  void give_back(void* p) const noexcept { mi_free(p); }
  bool is_same(const default_heap&) const noexcept { return true; }
};

/* Source of memory: one heap, which its copies share. Without a move constructor, so that
 * an allocator that was moved from still has its heap, as the standard requires. */
template <bool DestroyWhole>
class shared_heap {
 public:
  using is_always_equal = std::false_type;

  shared_heap() : heap_(insist([]() { return mi_heap_new(); }), &end_heap) {}
  /* An alias of no owner: a plain pointer, counted by nobody. */
  explicit shared_heap(mi_heap_t* heap) noexcept
      : heap_(std::shared_ptr<mi_heap_t>(), heap) {}
  shared_heap(const shared_heap&) noexcept = default;
  shared_heap& operator=(const shared_heap&) noexcept = default;
  ~shared_heap() = default;

  void* take(std::size_t size, std::size_t alignment) const {
    mi_heap_t* const heap = heap_.get();
    return insist([=]() {
      return alignment <= natural_alignment
                 ? mi_heap_malloc(heap, size)
                 : mi_heap_malloc_aligned(heap, size, alignment);
    });
  }
  void give_back(void* p) const noexcept {
    if (!DestroyWhole) mi_free(p);
  }
  bool is_same(const shared_heap& other) const noexcept { return heap_ == other.heap_; }
  void collect(bool force) const noexcept { mi_heap_collect(heap_.get(), force); }

 private:
  static void end_heap(mi_heap_t* heap) {
    if (DestroyWhole) {
      mi_heap_destroy(heap);
    } else {
      mi_heap_delete(heap);
    }
  }

  std::shared_ptr<mi_heap_t> heap_;
};

/* The face that containers see, over a source of memory. Self is the allocator's
 * template, for rebind. The source is a base so that one without state takes no space. */
template <template <class> class Self, class T, class Source>
class allocator : protected Source {
 public:
  using value_type = T;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using pointer = T*;
  using const_pointer = const T*;
  using reference = T&;
  using const_reference = const T&;
  using is_always_equal = typename Source::is_always_equal;
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  template <class U>
  struct rebind {
    using other = Self<U>;
  };

  mi_decl_nodiscard T* allocate(size_type count, const void* = nullptr) {
    if (count > max_size()) size_overflowed();
    return static_cast<T*>(Source::take(count * sizeof(T), alignof(T)));
  }
  void deallocate(T* p, size_type) noexcept { Source::give_back(p); }

  template <class U, class... Args>
  void construct(U* p, Args&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
  }
  template <class U>
  void destroy(U* p) noexcept {
    p->~U();
  }

  size_type max_size() const noexcept { return PTRDIFF_MAX / sizeof(T); }
  pointer address(reference element) const noexcept { return std::addressof(element); }
  const_pointer address(const_reference element) const noexcept {
    return std::addressof(element);
  }
  Self<T> select_on_container_copy_construction() const {
    return static_cast<const Self<T>&>(*this);
  }

  /* Can each free what the other allocated? */
  template <class U>
  bool is_equal(const allocator<Self, U, Source>& other) const noexcept {
    return Source::is_same(other);
  }

 protected:
  allocator() = default;
  explicit allocator(const Source& source) : Source(source) {}
  template <class U>
  allocator(const allocator<Self, U, Source>& other) noexcept
      : Source(static_cast<const Source&>(other)) {}

 private:
  template <template <class> class OtherSelf, class U, class OtherSource>
  friend class allocator;
};

template <template <class> class Self, class T, class U, class Source>
bool operator==(const allocator<Self, T, Source>& a,
                const allocator<Self, U, Source>& b) noexcept {
  return a.is_equal(b);
}

template <template <class> class Self, class T, class U, class Source>
bool operator!=(const allocator<Self, T, Source>& a,
                const allocator<Self, U, Source>& b) noexcept {
  return !a.is_equal(b);
}

}  // namespace mi_cxx

/* Allocates from the calling thread's default heap; has no state. */
template <class T>
struct mi_stl_allocator
    : mi_cxx::allocator<mi_stl_allocator, T, mi_cxx::default_heap> {
  mi_stl_allocator() noexcept = default;
  mi_stl_allocator(const mi_stl_allocator&) noexcept = default;
  mi_stl_allocator& operator=(const mi_stl_allocator&) noexcept = default;
  template <class U>
  mi_stl_allocator(const mi_stl_allocator<U>& other) noexcept
      : mi_cxx::allocator<::mi_stl_allocator, T, mi_cxx::default_heap>(other) {}
};

/* Allocates from one heap, and frees into it. */
template <class T>
struct mi_heap_stl_allocator
    : mi_cxx::allocator<mi_heap_stl_allocator, T, mi_cxx::shared_heap<false>> {
 private:
  using face = mi_cxx::allocator<::mi_heap_stl_allocator, T, mi_cxx::shared_heap<false>>;

 public:
  /* Makes a heap, to be deleted with the last copy. Throws std::bad_alloc. */
  mi_heap_stl_allocator() = default;
  /* Uses a heap of the calling thread, which has to outlive all copies. */
  mi_heap_stl_allocator(mi_heap_t* heap) : face(mi_cxx::shared_heap<false>(heap)) {}
  mi_heap_stl_allocator(const mi_heap_stl_allocator&) noexcept = default;
  mi_heap_stl_allocator& operator=(const mi_heap_stl_allocator&) noexcept = default;
  template <class U>
  mi_heap_stl_allocator(const mi_heap_stl_allocator<U>& other) noexcept : face(other) {}
  using face::collect;
};

/* Allocates from one heap, and frees nothing until the heap is destroyed. */
template <class T>
struct mi_heap_destroy_stl_allocator
    : mi_cxx::allocator<mi_heap_destroy_stl_allocator, T, mi_cxx::shared_heap<true>> {
 private:
  using face =
      mi_cxx::allocator<::mi_heap_destroy_stl_allocator, T, mi_cxx::shared_heap<true>>;

 public:
  /* Makes a heap, to be destroyed with the last copy. Throws std::bad_alloc. */
  mi_heap_destroy_stl_allocator() = default;
  /* Uses a heap of the calling thread, which has to outlive all copies. */
  mi_heap_destroy_stl_allocator(mi_heap_t* heap)
      : face(mi_cxx::shared_heap<true>(heap)) {}
  mi_heap_destroy_stl_allocator(const mi_heap_destroy_stl_allocator&) noexcept = default;
  mi_heap_destroy_stl_allocator& operator=(
      const mi_heap_destroy_stl_allocator&) noexcept = default;
  template <class U>
  mi_heap_destroy_stl_allocator(const mi_heap_destroy_stl_allocator<U>& other) noexcept
      : face(other) {}
  using face::collect;
};

#endif /* __cplusplus */

#endif /* MIMALLOC_H */
