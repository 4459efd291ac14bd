#include "arena/reader.h"

#include <sched.h>

_Thread_local struct reader *current_reader;
atomic_word readers_without_record;

static atomic_word all_readers; /* struct reader*: a list that only grows */

void reader_register(struct reader *reader) {
  uintptr_t head;
  do {
    head = atomic_load_acquire(&all_readers);
    reader->next = (struct reader *)head;
  } while (!atomic_compare_and_swap_full(&all_readers, head, (uintptr_t)reader));
}

static struct reader *first_reader(void) {
  return (struct reader *)atomic_load_acquire(&all_readers);
}

void readers_wait(void) {
  /* What became unreachable did so by full operations before this load. */
  atomic_barrier_after_full();
  for (struct reader *reader = first_reader(); reader != NULL; reader = reader->next) {
    if (reader == current_reader) continue;
    const uintptr_t seen = atomic_load_after_full(&reader->sections);
    if ((seen & 1) == 0) continue;
    while (atomic_load_acquire(&reader->sections) == seen) sched_yield();
  }
  while (atomic_load_after_full(&readers_without_record) != 0) sched_yield();
}

void readers_after_fork(void) {
  for (struct reader *reader = first_reader(); reader != NULL; reader = reader->next) {
    if (reader != current_reader) atomic_store_relaxed(&reader->sections, 0);
  }
  atomic_store_relaxed(&readers_without_record, 0);
}
