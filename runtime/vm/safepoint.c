#include <mirt/safepoint.h>

#include <errno.h>
#include <pthread.h>

#include "arena/zone.h"
#include "base/log.h"
#include "vm/registers.h"

/* Words around the address of a frame: where the function has saved the registers that it uses,
 * below the address on x86-64, above it on arm64. */
#define FRAME_BELOW 16
#define FRAME_WORDS 48

/* The stack of an attached thread, as it was when the thread stopped. */
struct thread_stack {
  struct free_record link;
  struct thread_stack *next;
  pthread_t thread;
  const void *bottom, *top;
  uintptr_t registers[REGISTERS_MAX];
  uintptr_t
      frame[FRAME_WORDS]; /* that of the function that stopped it, which may be gone */
};

/* The lock protects the counts; the flag is set while it is held, too. A record is used again
 * with its lock and conditions as they are. */
struct mirt_safepoint_s {
  mirt_safepoint_flag_t flag;
  struct free_record link;
  pthread_mutex_t lock;
  pthread_cond_t has_stopped; /* a thread */
  pthread_cond_t goes_on;     /* the world */
  size_t attached, stopped;
  struct thread_stack *stacks; /* of those attached with one */
  pthread_t stopper;           /* the thread that has stopped the world, so many times */
  size_t depth;
};

static struct record_stack free_safepoints;

static mirt_safepoint_t *of_link(void *link) {
  return (mirt_safepoint_t *)(void *)((char *)link - offsetof(mirt_safepoint_t, link));
}

mirt_safepoint_t *mirt_safepoint_create(void) {
  void *link = record_stack_pop(&free_safepoints);
  if (link != NULL) {
    mirt_safepoint_t *again = of_link(link);
    again->stopped = again->depth = 0;
    AO_store(&again->flag.is_requested, 0);
    return again;
  }
  mirt_safepoint_t *safepoint =
      zone_take(&process_zone, RECORD_SAFEPOINT, sizeof *safepoint);
  if (safepoint == NULL) {
    log_error(ENOMEM, "mirt_safepoint_create", "no memory for the record");
    return NULL;
  }
  AO_store(&safepoint->flag.is_requested, 0);
  pthread_mutex_init(&safepoint->lock, NULL);
  pthread_cond_init(&safepoint->has_stopped, NULL);
  pthread_cond_init(&safepoint->goes_on, NULL);
  return safepoint;
}

int mirt_safepoint_destroy(mirt_safepoint_t *safepoint) {
  if (safepoint == NULL) return 0;
  pthread_mutex_lock(&safepoint->lock);
  const size_t attached = safepoint->attached;
  pthread_mutex_unlock(&safepoint->lock);
  if (attached != 0) {
    log_error(EBUSY, "mirt_safepoint_destroy", "%zu threads are attached", attached);
    return EBUSY;
  }
  record_stack_push(&free_safepoints, &safepoint->link);
  return 0;
}

static bool is_requested(const mirt_safepoint_t *safepoint) {
  return AO_load(&safepoint->flag.is_requested) != 0;
}

/* With the lock. Has this thread stopped the world? Then it goes on, in finalizers, say. */
static bool is_stopper(const mirt_safepoint_t *safepoint) {
  return is_requested(safepoint) && pthread_equal(safepoint->stopper, pthread_self());
}

/* With the lock. */
static void wait_until_it_goes_on(mirt_safepoint_t *safepoint) {
  while (is_requested(safepoint) && !is_stopper(safepoint)) {
    pthread_cond_wait(&safepoint->goes_on, &safepoint->lock);
  }
}

/* With the lock. */
static void count_stopped(mirt_safepoint_t *safepoint) {
  safepoint->stopped++;
  pthread_cond_broadcast(&safepoint->has_stopped);
}

/* ---- stacks ---- */

/* With the lock: where the list has this thread's. */
static struct thread_stack **find_own_stack(mirt_safepoint_t *safepoint) {
  struct thread_stack **link = &safepoint->stacks;
  while (*link != NULL && !pthread_equal((*link)->thread, pthread_self())) {
    link = &(*link)->next;
  }
  return link;
}

/* Not instrumented: it reads beyond what the frame is known to have. */
__attribute__((noinline, no_sanitize("address", "thread", "undefined"))) static void
copy_frame(struct thread_stack *stack, const volatile uintptr_t *frame) {
  for (int i = 0; i < FRAME_WORDS; i++) stack->frame[i] = frame[i - FRAME_BELOW];
}

/* With the lock, in a function that the thread has called to stop. */
static inlined_always void note_stack(mirt_safepoint_t *safepoint) {
  struct thread_stack *stack = *find_own_stack(safepoint);
  if (stack == NULL) return;
  registers_save(stack->registers);
  stack->top = __builtin_frame_address(0);
  copy_frame(stack, stack->top);
}

size_t mirt_safepoint_mark_stacks(mirt_safepoint_t *safepoint, mirt_marker_t *marker) {
  size_t count = 0;
  const struct thread_stack *own = *find_own_stack(safepoint);
  for (const struct thread_stack *s = safepoint->stacks; s != NULL; s = s->next) {
    if (s == own) continue;
    count += mirt_mark_conservative(marker, s->registers, s->registers + REGISTERS_MAX);
    count += mirt_mark_conservative(marker, s->frame, s->frame + FRAME_WORDS);
    count += mirt_mark_conservative(marker, s->top, s->bottom);
  }
  return own == NULL ? count : count + mirt_mark_stack(marker, own->bottom);
}

int mirt_safepoint_attach_stack(mirt_safepoint_t *safepoint, const void *bottom) {
  struct thread_stack *stack = zone_take(&process_zone, RECORD_STACK, sizeof *stack);
  if (stack == NULL) {
    log_error(ENOMEM, "mirt_safepoint_attach_stack", "no memory for the record");
    return ENOMEM;
  }
  stack->thread = pthread_self();
  stack->bottom = bottom;
  mirt_safepoint_attach(safepoint);
  pthread_mutex_lock(&safepoint->lock);
  stack->next = safepoint->stacks;
  safepoint->stacks = stack;
  pthread_mutex_unlock(&safepoint->lock);
  return 0;
}

/* ---- threads ---- */

void mirt_safepoint_attach(mirt_safepoint_t *safepoint) {
  pthread_mutex_lock(&safepoint->lock);
  wait_until_it_goes_on(safepoint);
  safepoint->attached++;
  pthread_mutex_unlock(&safepoint->lock);
}

void mirt_safepoint_detach(mirt_safepoint_t *safepoint) {
  pthread_mutex_lock(&safepoint->lock);
  safepoint->attached--;
  struct thread_stack **link = find_own_stack(safepoint), *stack = *link;
  if (stack != NULL) *link = stack->next;
  pthread_cond_broadcast(&safepoint->has_stopped);
  pthread_mutex_unlock(&safepoint->lock);
  if (stack != NULL) zone_give(&process_zone, RECORD_STACK, stack);
}

void mirt_safepoint_stop(mirt_safepoint_t *safepoint) {
  mirt_safepoint_leave(safepoint);
  mirt_safepoint_enter(safepoint);
}

__attribute__((noinline)) void mirt_safepoint_leave(mirt_safepoint_t *safepoint) {
  pthread_mutex_lock(&safepoint->lock);
  note_stack(safepoint);
  count_stopped(safepoint);
  pthread_mutex_unlock(&safepoint->lock);
}

void mirt_safepoint_enter(mirt_safepoint_t *safepoint) {
  pthread_mutex_lock(&safepoint->lock);
  wait_until_it_goes_on(safepoint);
  safepoint->stopped--;
  pthread_mutex_unlock(&safepoint->lock);
}

bool mirt_safepoint_request(mirt_safepoint_t *safepoint) {
  pthread_mutex_lock(&safepoint->lock);
  if (is_stopper(safepoint)) {
    safepoint->depth++;
    pthread_mutex_unlock(&safepoint->lock);
    return true;
  }
  if (is_requested(safepoint)) {
    note_stack(safepoint);
    count_stopped(safepoint);
    wait_until_it_goes_on(safepoint);
    safepoint->stopped--;
    pthread_mutex_unlock(&safepoint->lock);
    return false;
  }
  safepoint->stopper = pthread_self();
  safepoint->depth = 1;
  AO_store(&safepoint->flag.is_requested, 1);
  while (safepoint->stopped + 1 < safepoint->attached) {
    pthread_cond_wait(&safepoint->has_stopped, &safepoint->lock);
  }
  pthread_mutex_unlock(&safepoint->lock);
  return true;
}

void mirt_safepoint_resume(mirt_safepoint_t *safepoint) {
  pthread_mutex_lock(&safepoint->lock);
  if (--safepoint->depth == 0) {
    AO_store(&safepoint->flag.is_requested, 0);
    pthread_cond_broadcast(&safepoint->goes_on);
  }
  pthread_mutex_unlock(&safepoint->lock);
}

size_t mirt_safepoint_threads(mirt_safepoint_t *safepoint) {
  pthread_mutex_lock(&safepoint->lock);
  const size_t attached = safepoint->attached;
  pthread_mutex_unlock(&safepoint->lock);
  return attached;
}
