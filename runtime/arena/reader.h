/* reader.h - reading what may go away: arenas, and descriptors of pages of others.
 *
 * Invariant: an arena is unmapped, and descriptors are wiped, only when every read section
 * that was open after they had become unreachable has ended. A section is short: it waits
 * for nobody and calls nothing that the user wrote. Sections nest.
 *
 * A thread opens one where nothing of its own keeps alive what it reads: walking over the
 * arenas, looking at a FULL page that others may take away, finishing a free after the
 * block's bit was set. To open one costs a write to a line of the thread's own.
 * (Read-copy-update: McKenney, Slingwine 1998.)
 */
#ifndef MIRT_ARENA_READER_H
#define MIRT_ARENA_READER_H

#include "base/atomic.h"
#include "base/bits.h"

/* A thread that reads. Records are never unmapped; a new thread may inherit one. */
struct reader {
  atomic_word sections; /* odd while a section is open */
  struct reader *next;
};

/* What read_begin returns for a section inside another: to close it does nothing. */
#define READER_NESTED ((struct reader *)1)

/* The calling thread's; NULL for a thread without an owner, which counts itself in. */
extern _Thread_local struct reader *current_reader;
extern atomic_word readers_without_record;

/* Make a record known, once. */
void reader_register(struct reader *reader);

/* Wait until the sections that other threads have open now have ended. Not from inside a
 * section, nor holding anything that a section waits for. */
void readers_wait(void);

/* In the child of a fork: the other threads are gone. */
void readers_after_fork(void);

/* Open a section. Returns what closes it. */
static inline struct reader *read_begin(void) {
  struct reader *reader = current_reader;
  if (reader == NULL) {
    atomic_fetch_add_full(&readers_without_record, 1);
  } else if ((atomic_load_relaxed(&reader->sections) & 1) != 0) {
    return READER_NESTED;
  } else {
    atomic_fetch_add_full(&reader->sections, 1);
  }
  atomic_barrier_after_full();
  return reader;
}

/* Open a section that begins to read after the next full read-modify-write: that one is
 * barrier enough. */
static inline struct reader *read_begin_at_next_full(void) {
  struct reader *reader = current_reader;
  if (unlikely(reader == NULL)) {
    atomic_fetch_add_full(&readers_without_record, 1);
    return NULL;
  }
  const uintptr_t sections = atomic_load_relaxed(&reader->sections);
  if (unlikely((sections & 1) != 0)) return READER_NESTED;
  atomic_store_relaxed(&reader->sections, sections + 1);
  return reader;
}

static inline void read_end(struct reader *reader) {
  if (unlikely(reader == NULL)) {
    atomic_fetch_sub_full(&readers_without_record, 1);
  } else if (reader != READER_NESTED) {
    atomic_store_release(&reader->sections, atomic_load_relaxed(&reader->sections) + 1);
  }
}

#endif
