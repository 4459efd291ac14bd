/* The patterns of several threads.

   Which thread frees what is fixed in advance, by number and by stage and never by who
   comes first, so that the checksum is the same in every run. */

#include "threads.h"

/* producer-consumer: batches of blocks travel through a ring. The producer fills a batch
   in the ring itself and the consumer empties it there, both without the lock; the lock
   only guards the two counts. */

enum { batch_blocks = 256, ring_batches = 16, channel_batches = 24000 };

struct channel {
  _Alignas(64) pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned filled, emptied; /* batches so far; filled - emptied are in the ring */
  void *batches[ring_batches][batch_blocks];
  struct tally producer, consumer;
  uint64_t seed;
};

static void channel_wait_for_room(struct channel *channel) {
  pthread_mutex_lock(&channel->lock);
  while (channel->filled - channel->emptied == ring_batches)
    pthread_cond_wait(&channel->changed, &channel->lock);
  pthread_mutex_unlock(&channel->lock);
}

static void channel_wait_for_batch(struct channel *channel) {
  pthread_mutex_lock(&channel->lock);
  while (channel->filled == channel->emptied)
    pthread_cond_wait(&channel->changed, &channel->lock);
  pthread_mutex_unlock(&channel->lock);
}

static void channel_count(struct channel *channel, unsigned *count) {
  pthread_mutex_lock(&channel->lock);
  ++*count;
  pthread_cond_signal(&channel->changed);
  pthread_mutex_unlock(&channel->lock);
}

static void *producer_run(void *argument) {
  struct channel *channel = argument;
  struct random random = random_seed(channel->seed);
  for (unsigned batch = 0; batch < channel_batches; batch++) {
    channel_wait_for_room(channel);
    void **blocks = channel->batches[batch % ring_batches];
    for (int i = 0; i < batch_blocks; i++)
      blocks[i] = block_new(&channel->producer, random_between(&random, 16, 256));
    channel_count(channel, &channel->filled);
  }
  return NULL;
}

static void *consumer_run(void *argument) {
  struct channel *channel = argument;
  for (unsigned batch = 0; batch < channel_batches; batch++) {
    channel_wait_for_batch(channel);
    void **blocks = channel->batches[batch % ring_batches];
    for (int i = 0; i < batch_blocks; i++)
      block_delete(&channel->consumer, blocks[i]);
    channel_count(channel, &channel->emptied);
  }
  return NULL;
}

void pattern_producer_consumer(struct run *run) {
  unsigned pairs = run->threads / 2;
  struct channel *channels = array_map(pairs, sizeof *channels);
  pthread_t *threads = array_map(2 * pairs, sizeof *threads);
  for (unsigned i = 0; i < pairs; i++) {
    pthread_mutex_init(&channels[i].lock, NULL);
    pthread_cond_init(&channels[i].changed, NULL);
    channels[i].seed = 100 + i;
    channels[i].producer = tally_start(i);
  }
  timer_start(run);
  for (unsigned i = 0; i < pairs; i++) {
    threads[2 * i] = thread_start(producer_run, &channels[i]);
    threads[2 * i + 1] = thread_start(consumer_run, &channels[i]);
  }
  for (unsigned i = 0; i < 2 * pairs; i++)
    pthread_join(threads[i], NULL);
  timer_stop(run);
  run->operations = (uint64_t)pairs * channel_batches * batch_blocks;
  for (unsigned i = 0; i < pairs; i++) {
    run_add_tally(run, &channels[i].producer);
    run_add_tally(run, &channels[i].consumer);
  }
}

/* larson: as many desks as threads, each a table of blocks with its own random numbers.
   After each stage the threads, all still alive, move on to the next desk, and after a
   few stages they end and new threads take over. */

enum {
  desk_blocks = 8000,
  stage_operations = 20000,
  stages_per_life = 4,
  larson_lives = 60
};

struct desk {
  struct tally tally;
  struct random random;
  void *blocks[desk_blocks];
};

struct larson {
  pthread_barrier_t stage_over;
  unsigned count; /* of desks, and of threads at a time */
  struct desk *desks;
};

struct larson_worker {
  struct larson *larson;
  unsigned first_desk;
};

static void desk_work(struct desk *desk) {
  /* Copies, which can stay in registers: no block can be an alias of them. */
  struct tally tally = desk->tally;
  struct random random = desk->random;
  for (int i = 0; i < stage_operations; i++) {
    void **slot = &desk->blocks[random_below(&random, desk_blocks)];
    if (*slot != NULL) block_delete(&tally, *slot);
    *slot = block_new(&tally, random_between(&random, 16, 512));
  }
  desk->tally = tally;
  desk->random = random;
}

static void *larson_run(void *argument) {
  const struct larson_worker *worker = argument;
  struct larson *larson = worker->larson;
  for (unsigned stage = 0; stage < stages_per_life; stage++) {
    desk_work(&larson->desks[(worker->first_desk + stage) % larson->count]);
    pthread_barrier_wait(&larson->stage_over);
  }
  return NULL;
}

void pattern_larson(struct run *run) {
  unsigned count = run->threads;
  struct larson larson = {.count = count};
  larson.desks = array_map(count, sizeof *larson.desks);
  struct larson_worker *workers = array_map(count, sizeof *workers);
  pthread_t *threads = array_map(count, sizeof *threads);
  pthread_barrier_init(&larson.stage_over, NULL, count);
  for (unsigned i = 0; i < count; i++) {
    larson.desks[i].random = random_seed(200 + i);
    larson.desks[i].tally = tally_start(i);
    workers[i] = (struct larson_worker){&larson, i};
  }
  timer_start(run);
  for (int life = 0; life < larson_lives; life++) {
    for (unsigned i = 0; i < count; i++)
      threads[i] = thread_start(larson_run, &workers[i]);
    for (unsigned i = 0; i < count; i++)
      pthread_join(threads[i], NULL);
  }
  timer_stop(run);
  run->operations = (uint64_t)count * larson_lives * stages_per_life * stage_operations;
  for (unsigned i = 0; i < count; i++) {
    blocks_delete(&larson.desks[i].tally, larson.desks[i].blocks, desk_blocks);
    run_add_tally(run, &larson.desks[i].tally);
  }
}

/* threads: waves of short-lived threads. Each allocates its blocks, frees most of them,
   and leaves the rest to a thread of another number a few waves later. */

enum {
  waves = 1500,
  wave_blocks = 3000,
  left_every = 8, /* one block in so many is left */
  left_blocks = wave_blocks / left_every,
  left_waves = 4 /* for so many waves */
};

struct visitor {
  struct tally tally;
  struct random random;
  void **inheritance; /* left_blocks blocks of an earlier wave, replaced by our own */
};

static void *visitor_run(void *argument) {
  struct visitor *visitor = argument;
  void *blocks[wave_blocks];
  for (int i = 0; i < wave_blocks; i++)
    blocks[i] = block_new(&visitor->tally, random_between(&visitor->random, 16, 256));
  blocks_delete(&visitor->tally, visitor->inheritance, left_blocks);
  for (int i = 0; i < wave_blocks; i++) {
    if (i % left_every == 0)
      visitor->inheritance[i / left_every] = blocks[i];
    else
      block_delete(&visitor->tally, blocks[i]);
  }
  return NULL;
}

void pattern_threads(struct run *run) {
  unsigned count = run->threads;
  struct visitor *visitors = array_map(count, sizeof *visitors);
  pthread_t *threads = array_map(count, sizeof *threads);
  size_t left_count = (size_t)left_waves * count * left_blocks;
  void **left = array_map(left_count, sizeof *left);
  for (unsigned i = 0; i < count; i++) {
    visitors[i].random = random_seed(300 + i);
    visitors[i].tally = tally_start(i);
  }
  timer_start(run);
  for (unsigned wave = 0; wave < waves; wave++) {
    for (unsigned i = 0; i < count; i++) {
      /* Every time round the ring of waves, a share passes to the next thread. */
      size_t share = (i + wave / left_waves) % count;
      visitors[i].inheritance =
          left + (wave % left_waves * count + share) * (size_t)left_blocks;
      threads[i] = thread_start(visitor_run, &visitors[i]);
    }
    for (unsigned i = 0; i < count; i++)
      pthread_join(threads[i], NULL);
  }
  timer_stop(run);
  run->operations = (uint64_t)waves * count * wave_blocks;
  blocks_delete(&visitors[0].tally, left, left_count);
  for (unsigned i = 0; i < count; i++)
    run_add_tally(run, &visitors[i].tally);
}
