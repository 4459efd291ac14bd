#include "green.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACK_SIZE CONTEXT_STACK_SIZE

typedef struct worker_s {
  pthread_t thread;
  context_t context;
  green_counts_t counts; /* of what has happened here */
} worker_t;

struct green_s {
  context_t context;
  char *stack;
  mirt_mutator_t *mutator;
  void (*function)(green_t *self, void *argument);
  void *argument;
  worker_t *worker;     /* that runs it, or did so last */
  channel_t *waits_for; /* when it has left its worker; NULL: for its turn only */
  bool waits_to_send;   /* there, and not to receive */
  bool has_ended;
  green_t *next; /* in the queue that it is in */
};

typedef struct queue_s {
  green_t *first, *last;
} queue_t;

struct channel_s {
  pthread_mutex_t mutex;
  void *messages[CHANNEL_CAPACITY]; /* a ring */
  size_t sent, received;
  queue_t waiting[2]; /* to receive; to send */
};

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  queue_t ready;       /* green threads that could run */
  size_t living;       /* green threads that have not ended */
  size_t worker_count; /* and how many of them */
  size_t idle;         /* have nothing to run */
} scheduler = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---- Queues ------------------------------------------------------------------------ */

static void queue_put(queue_t *queue, green_t *green) {
  green->next = NULL;
  if (queue->first == NULL) {
    queue->first = green;
  } else {
    queue->last->next = green;
  }
  queue->last = green;
}

static green_t *queue_take(queue_t *queue) {
  green_t *green = queue->first;
  if (green != NULL) queue->first = green->next;
  return green;
}

/* The green thread can run. From here on others may run it, and end it. */
static void make_ready(green_t *green, bool is_new) {
  pthread_mutex_lock(&scheduler.mutex);
  queue_put(&scheduler.ready, green);
  if (is_new) scheduler.living++;
  pthread_cond_signal(&scheduler.changed);
  pthread_mutex_unlock(&scheduler.mutex);
}

/* The next one to run; NULL when all have ended. */
static green_t *next_ready(void) {
  pthread_mutex_lock(&scheduler.mutex);
  while (scheduler.ready.first == NULL && scheduler.living > 0) {
    scheduler.idle++;
    check(scheduler.idle < scheduler.worker_count); /* else all wait for each other */
    pthread_cond_wait(&scheduler.changed, &scheduler.mutex);
    scheduler.idle--;
  }
  green_t *green = queue_take(&scheduler.ready);
  pthread_mutex_unlock(&scheduler.mutex);
  return green;
}

/* ---- Green threads ----------------------------------------------------------------- */

static void green_main(void *argument) {
  green_t *self = argument;
  self->function(self, self->argument);
  self->has_ended = true;
  context_switch(&self->context, &self->worker->context, true);
}

/* Records and stack are blocks of whoever calls. The lowest page of the stack is out of
 * bounds. */
void green_start(void (*function)(green_t *, void *), void *argument) {
  const size_t guard = (size_t)sysconf(_SC_PAGESIZE);
  green_t *green = mi_zalloc(sizeof *green);
  check(green != NULL);
  green->stack = mi_malloc_aligned(STACK_SIZE, guard);
  green->mutator = mirt_mutator_create();
  check(green->stack != NULL && green->mutator != NULL);
  check(mprotect(green->stack, guard, PROT_NONE) == 0);
  green->function = function;
  green->argument = argument;
  check(context_make(&green->context, green->stack + guard, STACK_SIZE - guard,
                     green_main, green));
  make_ready(green, true);
}

/* It has ended: its worker takes it apart. */
static void green_delete(green_t *green) {
  check(mirt_mutator_destroy(green->mutator) == 0);
  context_end(&green->context);
  check(mprotect(green->stack, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE) ==
        0);
  mi_free(green->stack);
  mi_free(green);
  pthread_mutex_lock(&scheduler.mutex);
  if (--scheduler.living == 0) pthread_cond_broadcast(&scheduler.changed);
  pthread_mutex_unlock(&scheduler.mutex);
}

/* Leave the worker: to wait for a channel, or, for NULL, to let others run. */
static void green_leave(green_t *self, channel_t *channel, bool to_send) {
  self->waits_for = channel;
  self->waits_to_send = to_send;
  context_switch(&self->context, &self->worker->context, false);
}

void green_yield(green_t *self) { green_leave(self, NULL, false); }

/* ---- Channels ---------------------------------------------------------------------- */

channel_t *channel_new(void) {
  channel_t *channel = mi_zalloc(sizeof *channel);
  check(channel != NULL && pthread_mutex_init(&channel->mutex, NULL) == 0);
  return channel;
}

void channel_delete(channel_t *channel) {
  pthread_mutex_destroy(&channel->mutex);
  mi_free(channel);
}

static bool can_pass(const channel_t *channel, bool to_send) {
  const size_t count = channel->sent - channel->received;
  return to_send ? count < CHANNEL_CAPACITY : count > 0;
}

/* Put a message in, or take one out, if that can be done now, and let one of those go
 * on that wait for it. Once the channel is unlocked, who received may delete it. */
static bool try_pass(channel_t *channel, bool to_send, void **message) {
  green_t *other = NULL;
  pthread_mutex_lock(&channel->mutex);
  const bool passes = can_pass(channel, to_send);
  if (passes) {
    if (to_send) {
      channel->messages[channel->sent++ % CHANNEL_CAPACITY] = *message;
    } else {
      *message = channel->messages[channel->received++ % CHANNEL_CAPACITY];
    }
    other = queue_take(&channel->waiting[!to_send]);
  }
  pthread_mutex_unlock(&channel->mutex);
  if (other != NULL) make_ready(other, false);
  return passes;
}

/* A green thread could not pass, and has left its worker. That may have changed
 * meanwhile. */
static void channel_wait(channel_t *channel, green_t *green) {
  pthread_mutex_lock(&channel->mutex);
  const bool passes = can_pass(channel, green->waits_to_send);
  if (!passes) queue_put(&channel->waiting[green->waits_to_send], green);
  pthread_mutex_unlock(&channel->mutex);
  if (passes) make_ready(green, false);
}

void channel_send(green_t *self, channel_t *channel, void *message) {
  while (!try_pass(channel, true, &message)) green_leave(self, channel, true);
}

void *channel_receive(green_t *self, channel_t *channel) {
  void *message;
  while (!try_pass(channel, false, &message)) green_leave(self, channel, false);
  self->worker->counts.messages++;
  return message;
}

/* ---- Workers ----------------------------------------------------------------------- */

/* Let a green thread run until it leaves. Only here, when nothing of it runs any more,
 * others are told of it. */
static void run(worker_t *worker, green_t *green) {
  if (green->worker != worker && green->worker != NULL) worker->counts.moves++;
  green->worker = worker;
  check(mirt_mutator_bind(green->mutator) == 0);
  context_switch(&worker->context, &green->context, false);
  check(mirt_mutator_unbind(green->mutator) == 0);
  if (green->has_ended) {
    green_delete(green);
  } else if (green->waits_for != NULL) {
    channel_wait(green->waits_for, green);
  } else {
    make_ready(green, false);
  }
}

static void *worker_main(void *argument) {
  worker_t *worker = argument;
  context_make_for_thread(&worker->context);
  for (green_t *green; (green = next_ready()) != NULL;) run(worker, green);
  return NULL;
}

green_counts_t green_run(size_t worker_count) {
  static worker_t workers[WORKERS_MAX];
  check(worker_count > 0 && worker_count <= WORKERS_MAX);
  scheduler.worker_count = worker_count;
  for (size_t i = 0; i < worker_count; i++) {
    workers[i].counts = (green_counts_t){0, 0};
    check(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) == 0);
  }
  green_counts_t sum = {0, 0};
  for (size_t i = 0; i < worker_count; i++) {
    check(pthread_join(workers[i].thread, NULL) == 0);
    sum.moves += workers[i].counts.moves;
    sum.messages += workers[i].counts.messages;
  }
  return sum;
}
