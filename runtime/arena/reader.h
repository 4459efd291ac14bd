/* reader.h - reading what may go away: arenas, and descriptors of pages of others.
 *
 * Invariant: an arena is unmapped, and descriptors are wiped, only when every read section
 * that was open after they had become unreachable has ended. A section is short, and calls
 * nothing that the user wrote, the error function neither. Sections nest.
 *
 * A thread opens one where nothing of its own keeps alive what it reads: walking over the
 * arenas, looking at a resting page that others may take away, finishing a free after the
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

/* What read_begin returns for a section inside another: to close it does nothing. And for a
 * section of a thread without a record, by parity. */
#define READER_NESTED ((struct reader *)1)
#define READER_EVEN ((struct reader *)2)
#define READER_ODD ((struct reader *)3)

/* The calling thread's; NULL for a thread without an owner. */
extern _Thread_local struct reader *current_reader;

/* Those count themselves in under the parity of an epoch, and out with what they got. */
struct reader *read_begin_by_parity(void);
void read_end_by_parity(struct reader *reader);

/* Make a record known, once. */
void reader_register(struct reader *reader);

/* Wait until the sections that other threads have open now have ended. Not from inside a
 * section, nor holding anything that a section waits for. */
void readers_wait(void);

/* Has no other thread a section open, now or after a few looks? A thread may
 * be stopped inside one, by a collector for example, so nothing that a collector calls
 * waits for it. */
bool readers_are_gone(void);

/* In the child of a fork: the other threads are gone. */
void readers_after_fork(void);

/* Open a section. Returns what closes it. */
static inline struct reader *read_begin(void) {
  struct reader *reader = current_reader;
  if (reader == NULL) return read_begin_by_parity();
  if ((atomic_load_relaxed(&reader->sections) & 1) != 0) {
    return READER_NESTED;
  }
  atomic_fetch_add_full(&reader->sections, 1);
  atomic_barrier_after_full();
  return reader;
}

/* Open a section that begins to read after the next full read-modify-write: that one is
 * barrier enough. */
static inline struct reader *read_begin_at_next_full(void) {
  struct reader *reader = current_reader;
  if (unlikely(reader == NULL)) return read_begin_by_parity();
  const uintptr_t sections = atomic_load_relaxed(&reader->sections);
  if (unlikely((sections & 1) != 0)) return READER_NESTED;
  atomic_store_relaxed(&reader->sections, sections + 1);
  return reader;
}

static inline void read_end(struct reader *reader) {
  if (unlikely(reader <= READER_ODD)) {
    if (reader != READER_NESTED) read_end_by_parity(reader);
  } else {
    atomic_store_release(&reader->sections, atomic_load_relaxed(&reader->sections) + 1);
  }
}

#endif
