/* green.h - green threads, and channels between them.
 *
 * A language with light threads (goroutines, processes of Erlang, fibers) runs many of
 * them on a few threads of the system, which are called workers here. A green thread that
 * waits leaves its worker to another one, and may go on later on any worker. Heaps belong
 * to threads; so those of a green thread would have to move with it. Each green thread
 * therefore has a mutator (mirt/mutator.h), an owner of heaps that is bound to one thread
 * after the other:
 *
 *   a worker takes a green thread from the queue, binds its mutator and switches to it;
 *   when it yields or waits, the worker switches back and unbinds the mutator.
 *
 * A green thread itself knows nothing of that. It calls mi_malloc, makes heaps, destroys
 * them, and finds them as it left them, wherever it goes on.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef GREEN_H
#define GREEN_H

#include <mirt.h>
#include <stdio.h>
#include <stdlib.h>

#include "context.h"

#define WORKERS_MAX 64
#define CHANNEL_CAPACITY 8

typedef struct green_s green_t;
typedef struct channel_s channel_t;

typedef struct green_counts_s {
  size_t moves;    /* of green threads to another worker than before */
  size_t messages; /* received */
} green_counts_t;

/* Make a green thread, which will run a function. Anybody may call it, green or not. */
void green_start(void (*function)(green_t *self, void *argument), void *argument);

/* Let others run. */
void green_yield(green_t *self);

/* Run what has been started, and what that starts, to its end, by so many workers. */
green_counts_t green_run(size_t worker_count);

/* Messages are pointers; who receives a block frees it. Sending waits while the
 * channel is full, receiving while it is empty. */
channel_t *channel_new(void);
void channel_delete(channel_t *channel);
void channel_send(green_t *self, channel_t *channel, void *message);
void *channel_receive(green_t *self, channel_t *channel);

/* Other threads are running: end without waiting for them. */
#define check(x) \
  do { \
    if (!(x)) { \
      fprintf(stderr, "%s:%d: '%s' is false\n", __FILE__, __LINE__, #x); \
      fflush(stderr); \
      _Exit(EXIT_FAILURE); \
    } \
  } while (0)

#endif
