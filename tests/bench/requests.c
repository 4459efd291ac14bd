/* The patterns of a server: requests that travel between threads, and threads that do
   not live long. */

#include "threads.h"

/* server: a front reads requests and hands them to workers, 16 at a time, through a ring
   for each worker. A request comes with the blocks of its headers, 16 to 128 bytes, and
   of its body, up to 16 KiB. The worker frees half of the headers and the body as it
   parses them, allocates a burst of small blocks, and for one request in eight a few
   large ones, frees all those, and leaves a response in the ring. The front frees that
   and the other half of the headers when the ring has come round. About half of the
   blocks that go through the ring are so freed by a thread that did not allocate them,
   in both directions.

   A batch of the ring belongs to the front until it is filled and to the worker until it
   is handled; the lock only guards the two counts. A front and the other cores' workers:
   one, if there are two cores, with about as much to do as the front. */

enum {
  header_count = 24,
  burst_smallest = 8, /* blocks; a power of two */
  burst_largest = 64,
  bulk_count = 3,
  bulk_every = 8,
  batch_requests = 16,
  ring_batches = 8,
  batches_in_all = 20000 /* for each worker */
};

struct request {
  void *headers[header_count];
  void *body;
  void *response;
};

struct server {
  _Alignas(64) pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned filled, handled; /* batches so far */
  struct request ring[ring_batches][batch_requests];
  _Alignas(64) struct tally tally; /* the worker's */
  struct random random;
};

/* Waits until the worker has handled so many batches. */
static void server_wait_handled(struct server *server, unsigned count) {
  pthread_mutex_lock(&server->lock);
  while (server->handled < count) pthread_cond_wait(&server->changed, &server->lock);
  pthread_mutex_unlock(&server->lock);
}

static void server_wait_filled(struct server *server, unsigned count) {
  pthread_mutex_lock(&server->lock);
  while (server->filled < count) pthread_cond_wait(&server->changed, &server->lock);
  pthread_mutex_unlock(&server->lock);
}

static void server_count(struct server *server, unsigned *count) {
  pthread_mutex_lock(&server->lock);
  ++*count;
  pthread_cond_signal(&server->changed);
  pthread_mutex_unlock(&server->lock);
}

static void request_read(struct tally *tally, struct random *random,
                         struct request *request) {
  for (int i = 0; i < header_count; i++)
    request->headers[i] = block_new(tally, random_between(random, 16, 128));
  request->body = block_new(tally, random_log_between(random, 64, 16 << 10));
}

static void request_end(struct tally *tally, struct request *request) {
  for (int i = 0; i < header_count; i += 2) block_delete(tally, request->headers[i]);
  block_delete(tally, request->response);
}

static void request_handle(struct tally *tally, struct random *random,
                           struct request *request) {
  void *burst[burst_largest], *bulk[bulk_count];
  size_t count = random_log_between(random, burst_smallest, burst_largest);
  bool large = random_below(random, bulk_every) == 0;
  if (large) {
    for (int i = 0; i < bulk_count; i++)
      bulk[i] = block_new(tally, random_log_between(random, 8 << 10, 256 << 10));
  }
  for (size_t i = 0; i < count; i++)
    burst[i] = block_new(tally, random_log_between(random, 16, 512));
  for (int i = 1; i < header_count; i += 2) block_delete(tally, request->headers[i]);
  block_delete(tally, request->body);
  request->response = block_new(tally, random_log_between(random, 128, 8 << 10));
  blocks_delete(tally, burst, count);
  if (large) blocks_delete(tally, bulk, bulk_count);
}

static void *server_run(void *argument) {
  struct server *server = argument;
  struct tally tally = server->tally;
  struct random random = server->random;
  for (unsigned batch = 0; batch < batches_in_all; batch++) {
    server_wait_filled(server, batch + 1);
    for (int i = 0; i < batch_requests; i++)
      request_handle(&tally, &random, &server->ring[batch % ring_batches][i]);
    server_count(server, &server->handled);
  }
  server->tally = tally;
  return NULL;
}

/* Ends the requests of a batch that lie in the ring, after waiting for them. */
static void batch_end(struct tally *tally, struct server *server, unsigned batch) {
  server_wait_handled(server, batch + 1);
  for (int i = 0; i < batch_requests; i++)
    request_end(tally, &server->ring[batch % ring_batches][i]);
}

static void front_run(struct tally *tally, struct server *servers, unsigned workers) {
  struct random random = random_seed(400);
  for (unsigned batch = 0; batch < batches_in_all + ring_batches; batch++) {
    for (unsigned i = 0; i < workers; i++) {
      if (batch >= ring_batches) batch_end(tally, &servers[i], batch - ring_batches);
      if (batch >= batches_in_all) continue;
      for (int j = 0; j < batch_requests; j++)
        request_read(tally, &random, &servers[i].ring[batch % ring_batches][j]);
      server_count(&servers[i], &servers[i].filled);
    }
  }
}

void pattern_server(struct run *run) {
  unsigned workers = run->threads - 1;
  struct server *servers = array_map(workers, sizeof *servers);
  pthread_t *threads = array_map(workers, sizeof *threads);
  struct tally front = tally_start(workers);
  uint64_t blocks = 0;
  for (unsigned i = 0; i < workers; i++) {
    pthread_mutex_init(&servers[i].lock, NULL);
    pthread_cond_init(&servers[i].changed, NULL);
    servers[i].tally = tally_start(i);
    servers[i].random = random_seed(401 + i);
  }
  timer_start(run);
  for (unsigned i = 0; i < workers; i++)
    threads[i] = thread_start(server_run, &servers[i]);
  front_run(&front, servers, workers);
  for (unsigned i = 0; i < workers; i++) pthread_join(threads[i], NULL);
  timer_stop(run);
  for (unsigned i = 0; i < workers; i++) {
    blocks += servers[i].tally.serial - tally_start(i).serial;
    run_add_tally(run, &servers[i].tally);
  }
  run->operations = blocks + front.serial - tally_start(workers).serial;
  run_add_tally(run, &front);
}

/* thread-churn: a program that starts a thread for every task, as many at a time as
   there are cores. A task allocates 300 blocks, mostly small, one in 64 of them 4 to 16
   KiB; it frees the results of an earlier task, and then its own blocks but for a fifth,
   its results. They are freed by the fourth task after it in the same place, when their
   thread has ended. With so little work, a thread's life is mostly beginning and end. */

enum { churn_threads = 6000, churn_blocks = 300, churn_left = churn_blocks / 5 };

struct task {
  struct tally tally;
  uint64_t seed;
  void **left; /* results of an earlier task, replaced by ours */
};

static void *task_run(void *argument) {
  struct task *task = argument;
  struct random random = random_seed(task->seed);
  void *blocks[churn_blocks];
  for (int i = 0; i < churn_blocks; i++) {
    bool large = random_below(&random, 64) == 0;
    size_t size = large ? random_between(&random, 4 << 10, 16 << 10)
                        : random_log_between(&random, 16, 512);
    blocks[i] = block_new(&task->tally, size);
  }
  blocks_delete(&task->tally, task->left, churn_left);
  for (int i = 0; i < churn_blocks; i++) {
    if (i % 5 == 0)
      task->left[i / 5] = blocks[i];
    else
      block_delete(&task->tally, blocks[i]);
  }
  return NULL;
}

/* A place runs one thread after the other, and has four lots of results of its own: a lot
   is used again by a thread that starts after the one which left it was joined. */
void pattern_thread_churn(struct run *run) {
  enum { lots = 4 };
  unsigned places = run->threads;
  struct task *tasks = array_map(places, sizeof *tasks);
  pthread_t *threads = array_map(places, sizeof *threads);
  size_t left_count = (size_t)lots * places * churn_left;
  void **left = array_map(left_count, sizeof *left);
  for (unsigned i = 0; i < places; i++) tasks[i].tally = tally_start(i);
  timer_start(run);
  for (unsigned i = 0; i < churn_threads; i++) {
    unsigned place = i % places;
    if (i >= places) pthread_join(threads[place], NULL);
    tasks[place].seed = 500 + i;
    tasks[place].left = left + i % (lots * places) * (size_t)churn_left;
    threads[place] = thread_start(task_run, &tasks[place]);
  }
  for (unsigned i = 0; i < places; i++) pthread_join(threads[i], NULL);
  timer_stop(run);
  run->operations = (uint64_t)churn_threads * churn_blocks;
  blocks_delete(&tasks[0].tally, left, left_count);
  for (unsigned i = 0; i < places; i++) run_add_tally(run, &tasks[i].tally);
}
