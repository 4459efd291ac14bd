#include "arena/reader.h"

#include <sched.h>

#define LOOKS 100 /* at an open section, before it counts as not ending */

_Thread_local struct reader *current_reader;

static atomic_word all_readers; /* struct reader*: a list that only grows */

/* Of threads without a record. */
static atomic_word epoch;
static atomic_word sections_by_parity[2];
static atomic_word waiting; /* 1 while a thread waits for those: one at a time */

void reader_register(struct reader *reader) {
  uintptr_t head;
  do {
    head = atomic_load_acquire(&all_readers);
    reader->next = (struct reader *)head;
  } while (!atomic_compare_and_swap_full(&all_readers, head, (uintptr_t)reader));
}

struct reader *read_begin_by_parity(void) {
  const uintptr_t parity = atomic_load_acquire(&epoch) & 1;
  atomic_fetch_add_full(&sections_by_parity[parity], 1);
  atomic_barrier_after_full();
  return parity == 0 ? READER_EVEN : READER_ODD;
}

void read_end_by_parity(struct reader *reader) {
  atomic_fetch_sub_full(&sections_by_parity[reader == READER_ODD], 1);
}

/* Twice: a thread may have read the epoch long before it counts itself in. */
static void wait_by_parity(void) {
  while (!atomic_compare_and_swap_full(&waiting, 0, 1)) sched_yield();
  for (int i = 0; i < 2; i++) {
    const uintptr_t parity = atomic_fetch_add_full(&epoch, 1) & 1;
    while (atomic_load_after_full(&sections_by_parity[parity]) != 0) sched_yield();
  }
  atomic_store_release(&waiting, 0);
}

/* Wait for the end of the section that is open, for so many looks at most. */
static bool section_ends(struct reader *reader, size_t looks) {
  const uintptr_t seen = atomic_load_after_full(&reader->sections);
  if ((seen & 1) == 0 || reader == current_reader) return true;
  while (atomic_load_acquire(&reader->sections) == seen) {
    if (looks-- == 0) return false;
    sched_yield();
  }
  return true;
}

static bool sections_end(size_t looks) {
  /* What became unreachable did so by full operations before these loads. */
  atomic_barrier_after_full();
  struct reader *reader = (struct reader *)atomic_load_acquire(&all_readers);
  for (; reader != NULL; reader = reader->next) {
    if (!section_ends(reader, looks)) return false;
  }
  return true;
}

void readers_wait(void) {
  sections_end(SIZE_MAX);
  wait_by_parity();
}

bool readers_are_gone(void) {
  return sections_end(LOOKS) && atomic_load_after_full(&sections_by_parity[0]) == 0 &&
         atomic_load_after_full(&sections_by_parity[1]) == 0;
}

void readers_after_fork(void) {
  struct reader *reader = (struct reader *)atomic_load_acquire(&all_readers);
  for (; reader != NULL; reader = reader->next) {
    if (reader != current_reader) atomic_store_relaxed(&reader->sections, 0);
  }
  atomic_store_relaxed(&sections_by_parity[0], 0);
  atomic_store_relaxed(&sections_by_parity[1], 0);
  atomic_store_relaxed(&waiting, 0);
}
