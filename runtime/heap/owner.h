/* owner.h - what owns pages: one owner per thread that allocates, and mutators, which the
 * program makes and binds to one thread after the other.
 *
 * Invariant: an owner's heaps, cells and the free planes of its pages are touched by one
 * thread at a time: the one to which it is bound, whose `current` names it or another owner
 * bound over it. Other threads know an owner only by its number, in the state of its pages.
 * A record, with its number, is reused only after all its pages have been abandoned.
 */
#ifndef MIRT_HEAP_OWNER_H
#define MIRT_HEAP_OWNER_H

#include <mimalloc.h>
#include <mirt/mutator.h>

#include "arena/reader.h"
#include "base/record_stack.h"

struct owner {
  struct free_record link;
  uint32_t number; /* even, from PAGE_FIRST_OWNER; the record's for ever */
  struct reader reader;
  mi_heap_t
      *backing;     /* the heap that mi_malloc uses unless told otherwise; may be NULL */
  mi_heap_t *heaps; /* all its heaps */
  void *subprocess; /* pages are adopted within one sub-process only */
  mirt_mutator_t *mutator; /* made by the program for that, or NULL */
  bool is_in_use;          /* not a free record */
  bool is_lost;            /* its thread did not come along when the process forked */
  atomic_word bound;       /* 1: to a thread, or free. Whoever turns it to 1 may use it */
  struct owner *below;     /* what is current again when this one is unbound */
  mi_heap_t *default_heap; /* while it is not current */
  struct owner *next_known; /* all owners: a list that only grows */
};

/* The calling thread's: an empty heap and a number that no page has until it first
 * allocates, so that the fast paths need no test for that. */
struct current {
  mi_heap_t *heap;
  struct owner *owner;
  uint32_t owner_number;
};

extern _Thread_local struct current current;

/* The calling thread only borrows work, and does not adopt. */
extern _Thread_local bool thread_is_in_pool;

/* Make an owner for the calling thread if it has none. Returns false without memory. */
bool owner_begin(void);

/* The calling thread ends: unbind what is bound to it, then abandon what lives of its own
 * and free the rest. */
void owner_end(void);

/* Put a heap into the owner's list. */
void owner_add_heap(struct owner *owner, mi_heap_t *heap);

/* Make an owner for a mutator, not bound. NULL without memory. */
struct owner *owner_create(mirt_mutator_t *mutator);

/* Make a mutator the calling thread's current owner. Returns false when it is bound. */
bool owner_bind(struct owner *owner);

/* The current owner is a mutator: the owner below it becomes current again. */
void owner_unbind(void);

/* Keep threads from binding a mutator. Returns false when it is bound. */
bool owner_claim(struct owner *owner);

/* End an owner, bound to no thread any more: its heaps are abandoned, its record is free. */
void owner_destroy(struct owner *owner);

/* An owner was made for an allocation, which has been done: it ends now if its thread is
 * ending, since nobody would end it later. */
void owner_end_if_ending(void);

/* Once per process, before the first owner; repeated calls do nothing. */
void process_begin(void);

/* Clock milliseconds when the process began. */
extern atomic_word process_started_at;

/* Call the registered deferred-free function, if there is one. */
void owner_call_deferred_free(bool force);

#endif
