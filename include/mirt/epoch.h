/* mirt/epoch.h - memory that is not reused until its readers have passed.
 *
 * A runtime without a global lock reads its dictionaries and lists without locks: while
 * one thread replaces a table and frees the old one, another may be about to look into it.
 * What it reads there may be stale, which it finds out and tries again; but it has to be
 * memory, and of the kind that it expects.
 *
 * A tag can be told to delay the reuse of its pages. Within a page a freed block is reused at once,
 * for a block of the same tag and size, as always. But a page that has become empty goes to
 * nobody else, nor back to the system, until every attached reader has announced that it holds
 * no pointer any more that it got before. (Quiescent-state-based reclamation: McKenney, Slingwine
 * 1998; by the page: the free-threaded CPython.)
 *
 * The program attaches a reader for each of its threads that reads so, or for each thread
 * state, whichever thread of the system runs it; a reader announces between two operations,
 * where a thread polls its safepoint for example, and pauses while it blocks:
 *
 *   mirt_tag_delay_reuse(TAG_TABLE);           // once, at the start
 *   mirt_epoch_reader_t reader;                // in the thread's state
 *   mirt_epoch_attach(&reader);
 *   for (;;) {
 *     run_some_bytecode();                     // reads tables without a lock
 *     mirt_epoch_announce(&reader);
 *   }
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_EPOCH_H
#define MIRT_EPOCH_H

#include <mimalloc.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One that reads without locks: memory of the program's own, which mirt links into a list. No
 * field is for the program. */
typedef struct mirt_epoch_reader_s {
  struct mirt_epoch_reader_s* next;
  size_t seen; /* the epoch announced last; 0 while it pauses */
} mirt_epoch_reader_t;

/* From now on pages of this tag that become empty wait for the readers.
 *   tag  0 to 32767; pages that are empty already are not meant. A tag can be
 *        sealed too (mirt_tag_seal)
 * Returns 0, also the second time, or EINVAL with one line through the registered error
 * function. Any thread may call it. It cannot be undone. */
mi_decl_export int mirt_tag_delay_reuse(int tag);

/* Does the tag delay reuse? Returns false for what is no tag. Any thread may call it. No errors. */
mi_decl_nodiscard mi_decl_export bool mirt_tag_delays_reuse(int tag) mi_attr_noexcept;

/* Count a reader in: from now on pages wait for it. It may read what it gets after this call.
 *   reader  memory that stays where it is until mirt_epoch_detach; its contents do not matter
 * Returns 0, or an error code, with one line through the registered error function:
 *   EBUSY   it is attached already
 *   EINVAL  reader is NULL
 * Any thread may call it, but not while the world is stopped: it may wait for another
 * thread that attaches or detaches. */
mi_decl_export int mirt_epoch_attach(mirt_epoch_reader_t* reader);

/* Count a reader out, for good: it reads nothing any more.
 *   reader  one that is attached. In the child of a fork those of threads that are gone are
 *           still attached, and have to be detached
 * Returns 0, or an error code, with one line through the registered error function:
 *   ENOENT  it is not attached
 *   EINVAL  reader is NULL
 * Any thread may call it, but not while the world is stopped. */
mi_decl_export int mirt_epoch_detach(mirt_epoch_reader_t* reader);

/* Announce that the reader holds no pointer any more that it got before this call. It takes
 * a load and a store. Without effect on a reader that pauses.
 *   reader  an attached one
 * No errors. Whoever runs the reader may call it. */
mi_decl_export void mirt_epoch_announce(mirt_epoch_reader_t* reader) mi_attr_noexcept;

/* Nobody waits for the reader until it resumes: it reads nothing meanwhile. Announces, too.
 *   reader  an attached one; to pause twice is to pause
 * No errors. Whoever runs the reader may call it. */
mi_decl_export void mirt_epoch_pause(mirt_epoch_reader_t* reader) mi_attr_noexcept;
mi_decl_export void mirt_epoch_resume(mirt_epoch_reader_t* reader) mi_attr_noexcept;

/* Give back the pages that every reader has passed. That happens by itself whenever another
 * page becomes empty, in mi_collect, and when memory is short; a program without any of these
 * may call it from time to time.
 * Returns the bytes of pages that still wait. Any thread may call it, also while the world is
 * stopped. No errors. */
mi_decl_export size_t mirt_epoch_collect(void) mi_attr_noexcept;

#ifdef __cplusplus
}
#endif

#endif /* MIRT_EPOCH_H */
