/* The patterns of false sharing: two threads write, each to its own blocks; if blocks of
   both lie in one cache line, the line travels between the cores with every write. */

#include "threads.h"

/* Blocks of 16 bytes, so that a line has room for blocks of both threads. Each holds two
   at a time and adds to them many times, so that all but a little of the time is
   writing, and it is several times as long when a line is shared. Two and not more, as
   the processor would write to one line while it waits for another. */
enum {
  sharing_threads = 2,
  sharing_blocks = 2,
  sharing_size = 16,
  sharing_rounds = 100000,
  sharing_writes = 5000 /* for each block and round */
};

struct writer {
  _Alignas(64) struct tally tally;
  pthread_barrier_t *start;
  void *given[sharing_blocks]; /* by the main thread; the writer frees them first */
};

static void *writer_run(void *argument) {
  struct writer *writer = argument;
  struct tally tally = writer->tally;
  volatile uint64_t *blocks[sharing_blocks];
  blocks_delete(&tally, writer->given, sharing_blocks);
  pthread_barrier_wait(writer->start);
  for (int round = 0; round < sharing_rounds; round++) {
    for (int i = 0; i < sharing_blocks; i++) {
      blocks[i] = block_new(&tally, sharing_size);
      blocks[i][1] = 0;
    }
    for (int write = 0; write < sharing_writes; write++) {
      for (int i = 0; i < sharing_blocks; i++) blocks[i][1] = blocks[i][1] + 1;
    }
    for (int i = 0; i < sharing_blocks; i++) {
      if (blocks[i][1] != sharing_writes) bench_fail("a write to a block was lost");
      uint64_t stamp = blocks[i][0];
      if (stamp_size(stamp) != sharing_size) bench_fail("a stamp has changed");
      tally.found += stamp;
      free((void *)blocks[i]);
    }
  }
  writer->tally = tally;
  return NULL;
}

/* The main thread's blocks, if there are any, are dealt out in turn, so that those of
   both writers are neighbours. */
static void sharing_run(struct run *run, bool given) {
  struct writer *writers = array_map(sharing_threads, sizeof *writers);
  struct tally tally = tally_start(sharing_threads);
  pthread_t threads[sharing_threads];
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, sharing_threads);
  for (int i = 0; given && i < sharing_blocks; i++) {
    for (int j = 0; j < sharing_threads; j++)
      writers[j].given[i] = block_new(&tally, sharing_size);
  }
  timer_start(run);
  for (unsigned i = 0; i < sharing_threads; i++) {
    writers[i].tally = tally_start(i);
    writers[i].start = &start;
    threads[i] = thread_start(writer_run, &writers[i]);
  }
  for (int i = 0; i < sharing_threads; i++) pthread_join(threads[i], NULL);
  timer_stop(run);
  run->operations = (uint64_t)sharing_threads * sharing_rounds * sharing_blocks;
  run_add_tally(run, &tally);
  for (int i = 0; i < sharing_threads; i++) run_add_tally(run, &writers[i].tally);
}

/* sharing-active: the allocator itself deals out a line to two threads that allocate at
   the same time (the benchmark cache-thrash of Hoard's authors). */
void pattern_sharing_active(struct run *run) { sharing_run(run, false); }

/* sharing-passive: the program has handed neighbouring blocks to two threads, and each
   frees its own. An allocator that gives them out again to the thread that freed them
   keeps the line shared ever after (cache-scratch). */
void pattern_sharing_passive(struct run *run) { sharing_run(run, true); }
