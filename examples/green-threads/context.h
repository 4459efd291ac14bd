/* context.h - where a green thread stands: a machine context with a stack of its own.
 *
 * To leave one context and go on in another is swapcontext (ucontext.h). The sanitizers
 * follow the stack, so they are told of each switch; without them nothing of that is
 * left.
 *
 * After a switch the same function may go on in another OS thread. A compiler may keep
 * the address of a thread-local variable, errno too, from before it: so a function that
 * switches uses none.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef CONTEXT_H
#define CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CONTEXT_ADDRESS 1
#endif
#if __has_feature(thread_sanitizer)
#define CONTEXT_THREAD 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CONTEXT_ADDRESS 1
#endif
#if defined(__SANITIZE_THREAD__)
#define CONTEXT_THREAD 1
#endif

/* Code with checks needs more. */
#if defined(CONTEXT_ADDRESS) || defined(CONTEXT_THREAD)
#define CONTEXT_STACK_SIZE ((size_t)256 << 10)
#else
#define CONTEXT_STACK_SIZE ((size_t)64 << 10)
#endif

#if defined(CONTEXT_ADDRESS)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(CONTEXT_THREAD)
#include <sanitizer/tsan_interface.h>
#endif

typedef struct context_s {
  ucontext_t machine;
  void (*function)(void *); /* what runs in it; not to return */
  void *argument;
#if defined(CONTEXT_ADDRESS)
  struct context_s *previous; /* the one that switched to it */
  const void *stack;
  size_t stack_size;
  void *fake_stack;
#endif
#if defined(CONTEXT_THREAD)
  void *fiber;
#endif
} context_t;

/* Leave one context, which will go on here, and go on in another. */
static inline void context_switch(context_t *from, context_t *to, bool is_last) {
  (void)is_last; /* nobody will switch back */
#if defined(CONTEXT_ADDRESS)
  to->previous = from;
  __sanitizer_start_switch_fiber(is_last ? NULL : &from->fake_stack, to->stack,
                                 to->stack_size);
#endif
#if defined(CONTEXT_THREAD)
  __tsan_switch_to_fiber(to->fiber, 0);
#endif
  swapcontext(&from->machine, &to->machine);
#if defined(CONTEXT_ADDRESS)
  __sanitizer_finish_switch_fiber(from->fake_stack, &from->previous->stack,
                                  &from->previous->stack_size);
#endif
}

/* makecontext passes only int: the address comes in two halves. */
static void context_start(unsigned high, unsigned low) {
  context_t *context = (context_t *)(((uintptr_t)high << 32) | low);
#if defined(CONTEXT_ADDRESS)
  __sanitizer_finish_switch_fiber(NULL, &context->previous->stack,
                                  &context->previous->stack_size);
#endif
  context->function(context->argument);
}

/* Make a context that will run a function when it is first switched to. Returns
 * whether that was possible. */
static inline bool context_make(context_t *context, void *stack, size_t size,
                                void (*function)(void *), void *argument) {
  if (getcontext(&context->machine) != 0) return false;
  context->machine.uc_stack.ss_sp = stack;
  context->machine.uc_stack.ss_size = size;
  context->machine.uc_link = NULL;
  context->function = function;
  context->argument = argument;
#if defined(CONTEXT_ADDRESS)
  context->stack = stack;
  context->stack_size = size;
#endif
#if defined(CONTEXT_THREAD)
  context->fiber = __tsan_create_fiber(0);
#endif
  const uint64_t address = (uintptr_t)context;
  makecontext(&context->machine, (void (*)(void))context_start, 2,
              (unsigned)(address >> 32), (unsigned)address);
  return true;
}

/* The context of the calling OS thread, to come back to; it gets its content with the
 * first switch. */
static inline void context_make_for_thread(context_t *context) {
  (void)context;
#if defined(CONTEXT_THREAD)
  context->fiber = __tsan_get_current_fiber();
#endif
}

/* A context that will not be switched to any more. */
static inline void context_end(context_t *context) {
  (void)context;
#if defined(CONTEXT_THREAD)
  __tsan_destroy_fiber(context->fiber);
#endif
}

#endif
