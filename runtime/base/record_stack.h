/* record_stack.h - a lock-free stack of free records.
 *
 * Invariant: records on a stack are never unmapped, so that reading the link of a record
 * that another thread has just taken is harmless; a counter in the upper bits of the head
 * makes the compare-and-swap fail in that case. (Treiber, 1986, with a counted pointer.)
 */
#ifndef MIRT_BASE_RECORD_STACK_H
#define MIRT_BASE_RECORD_STACK_H

#include "base/atomic.h"

#define RECORD_ADDRESS_BITS 48
#define RECORD_ADDRESS_MASK (((uintptr_t)1 << RECORD_ADDRESS_BITS) - 1)

/* Upper 16 bits: how often the head has changed; lower 48: address of the first record. */
struct record_stack {
  atomic_word head;
};

/* The first word of a record: its own only while it is free. */
struct free_record {
  atomic_word next;
};

static inline void record_stack_push(struct record_stack *stack, void *record) {
  struct free_record *free_record = record;
  uintptr_t head;
  uintptr_t desired;
  do {
    head = atomic_load_relaxed(&stack->head);
    atomic_store_relaxed(&free_record->next, head & RECORD_ADDRESS_MASK);
    desired =
        ((head & ~RECORD_ADDRESS_MASK) + RECORD_ADDRESS_MASK + 1) | (uintptr_t)record;
  } while (!atomic_compare_and_swap_full(&stack->head, head, desired));
}

/* Returns NULL when the stack is empty. */
static inline void *record_stack_pop(struct record_stack *stack) {
  for (;;) {
    const uintptr_t head = atomic_load_acquire(&stack->head);
    struct free_record *record = (struct free_record *)(head & RECORD_ADDRESS_MASK);
    if (record == NULL) return NULL;
    const uintptr_t next = atomic_load_relaxed(&record->next) & RECORD_ADDRESS_MASK;
    const uintptr_t desired =
        ((head & ~RECORD_ADDRESS_MASK) + RECORD_ADDRESS_MASK + 1) | next;
    if (atomic_compare_and_swap_full(&stack->head, head, desired)) return record;
  }
}

#endif
