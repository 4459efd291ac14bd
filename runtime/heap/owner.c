#include "heap/owner.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "arena/arena.h"
#include "base/log.h"
#include "base/option.h"
#include "base/stats.h"
#include "heap/epoch.h"
#include "heap/heap.h"
#include "heap/page.h"
#include "os/os.h"

_Thread_local struct current current = {&heap_empty, NULL, PAGE_NO_OWNER};

static struct record_stack free_owners;
static atomic_word all_owners; /* struct owner*: a list that only grows */
static atomic_word next_owner_number = PAGE_FIRST_OWNER;
static atomic_word process_begun;
atomic_word process_started_at;
static pthread_key_t thread_end_key;
static atomic_word thread_end_key_made;
static _Thread_local bool thread_end_is_set;
static _Thread_local bool thread_end_is_due; /* it has been round once */
static _Thread_local bool thread_is_ending; /* the system has called us for that */
_Thread_local bool thread_is_in_pool;
static _Thread_local bool calling_deferred_free; /* not again from inside it */
static _Thread_local unsigned long long heartbeat;

/* Two words, set before other threads run. */
static atomic_word deferred_free_function, deferred_free_argument;

/* ---- owners ---- */

static struct owner *owner_make(void) {
  struct owner *owner = zone_take(&process_zone, RECORD_OWNER, sizeof(struct owner));
  if (owner == NULL) return NULL;
  owner->number = (uint32_t)atomic_fetch_add_full(&next_owner_number, 2);
  reader_register(&owner->reader);
  uintptr_t head;
  do {
    head = atomic_load_acquire(&all_owners);
    owner->next_known = (struct owner *)head;
  } while (!atomic_compare_and_swap_full(&all_owners, head, (uintptr_t)owner));
  return owner;
}

/* An owner without heaps, marked as bound. */
static struct owner *owner_take(mirt_mutator_t *mutator) {
  struct owner *owner = record_stack_pop(&free_owners);
  if (owner == NULL) owner = owner_make();
  if (owner == NULL) return NULL;
  owner->heaps = NULL;
  owner->backing = NULL;
  owner->default_heap = &heap_empty;
  owner->below = NULL;
  owner->subprocess = NULL;
  owner->mutator = mutator;
  owner->is_lost = false;
  owner->is_in_use = true;
  atomic_store_relaxed(&owner->bound, 1);
  stats_add(&stats.owners, 1);
  return owner;
}

/* Nobody uses it any more. */
void owner_destroy(struct owner *owner) {
  while (owner->heaps != NULL) heap_abandon(owner->heaps);
  stats_subtract(&stats.owners, 1);
  owner->is_in_use = false;
  record_stack_push(&free_owners, owner);
}

void owner_add_heap(struct owner *owner, mi_heap_t *heap) {
  heap->next = owner->heaps;
  heap->previous = NULL;
  if (owner->heaps != NULL) owner->heaps->previous = heap;
  owner->heaps = heap;
}

static void make_current(struct owner *owner) {
  if (owner == NULL) {
    current = (struct current){&heap_empty, NULL, PAGE_NO_OWNER};
    current_reader = NULL;
  } else {
    current = (struct current){owner->default_heap, owner, owner->number};
    current_reader = &owner->reader;
  }
}

/* Have the system call us when the calling thread ends. That may allocate, and finds an
 * owner then. */
static void watch_thread_end(void) {
  if (thread_end_is_set || atomic_load_acquire(&thread_end_key_made) == 0) return;
  thread_end_is_set = true;
  pthread_setspecific(thread_end_key, &thread_end_key);
}

/* ---- threads ---- */

bool owner_begin(void) {
  if (current.owner != NULL) return true;
  process_begin();
  struct owner *owner = owner_take(NULL);
  if (owner == NULL) return false;
  make_current(owner);
  watch_thread_end();
  return true;
}

void owner_end(void) {
  while (current.owner != NULL && current.owner->mutator != NULL) owner_unbind();
  struct owner *owner = current.owner;
  if (owner == NULL) return;
  make_current(NULL);
  owner_destroy(owner);
}

/* The system calls the destructors of a thread in rounds, and ours is the first of the first: the
 * others free and allocate, in heaps of this thread too. So we wait for the second. A
 * destructor that runs still later may allocate again: the owner made for that ends with
 * the allocation, as the system does not come back to us without end. Only who makes a heap
 * there keeps its owner, until we are called again, if we are. */
static void thread_end(void *key) {
  if (!thread_end_is_due && pthread_setspecific(thread_end_key, key) == 0) {
    thread_end_is_due = true;
    return;
  }
  thread_end_is_set = false;
  thread_is_ending = true;
  owner_end();
}

void owner_end_if_ending(void) {
  if (thread_is_ending) owner_end();
}

/* ---- mutators ---- */

struct owner *owner_create(mirt_mutator_t *mutator) {
  process_begin();
  struct owner *owner = owner_take(mutator);
  if (owner == NULL) return NULL;
  if (current.owner != NULL) owner->subprocess = current.owner->subprocess;
  atomic_store_release(&owner->bound, 0);
  return owner;
}

bool owner_bind(struct owner *owner) {
  if (!atomic_compare_and_swap_full(&owner->bound, 0, 1)) return false;
  if (current.owner != NULL) current.owner->default_heap = current.heap;
  owner->below = current.owner;
  make_current(owner);
  watch_thread_end();
  return true;
}

void owner_unbind(void) {
  struct owner *owner = current.owner;
  owner->default_heap = current.heap;
  make_current(owner->below);
  atomic_store_release(&owner->bound, 0);
}

bool owner_claim(struct owner *owner) {
  return atomic_compare_and_swap_full(&owner->bound, 0, 1);
}

/* ---- fork ---- */

/* Whoever freed into an abandoned page may not have looked whether it is empty, or offered
 * it. */
static void recover_abandoned(struct page *page) {
  if (page_claim_if_empty(page)) {
    page_release(page);
  } else if (atomic_load_relaxed(&page->has_xfree) != 0) {
    page_offer(page);
  }
}

/* The page of an owner whose thread is gone, or that such a thread had set aside: leave it
 * without an owner, with the free blocks that its cell had taken. What such a thread had
 * claimed goes back to its arena. */
static bool abandon_lost(struct page *page, void *argument) {
  (void)argument;
  const uint32_t owner = page_state_owner(atomic_load_relaxed(&page->state));
  const bool is_large = atomic_flag_get(&page->is_large);
  if (owner == PAGE_CLAIMED) {
    page_give_back_lost(page);
    return true;
  }
  if (!is_large) page_recover_flag(page);
  if (owner == PAGE_VISITED) page_abandon(page, owner, NULL, 0);
  if (owner == PAGE_ABANDONED && !is_large) recover_abandoned(page);
  if (owner < PAGE_FIRST_OWNER) return true;
  struct cell *cell = page_cell(page);
  if (!cell->heap->owner->is_lost) return true;
  if (!is_large) {
    if (cell->page == page) cell_return_word(cell);
    page->taken = NULL;
  }
  page_abandon(page, owner, NULL, 0);
  return true;
}

/* Forget heaps in arenas that are left to the parent, and write to none of them. */
static void forget_shared_heaps(struct owner *owner) {
  mi_heap_t *heaps = owner->heaps;
  owner->heaps = NULL;
  for (mi_heap_t *heap = heaps, *next; heap != NULL; heap = next) {
    next = heap->next;
    const bool is_known = heap->arena == NULL || arena_of_id(heap->arena->id) != NULL;
    if (!is_known && owner->default_heap == heap) owner->default_heap = &heap_empty;
    if (!is_known && current.heap == heap) current.heap = &heap_empty;
    if (is_known) owner_add_heap(owner, heap);
  }
}

/* In the child, which has only this thread. Records of what the other threads had are lost:
 * a list of them may have been changing. */
static void owners_after_fork(void) {
  struct owner *owner = (struct owner *)atomic_load_acquire(&all_owners);
  for (; owner != NULL; owner = owner->next_known) {
    owner->is_lost = owner->is_in_use && atomic_load_relaxed(&owner->bound) != 0;
  }
  for (owner = current.owner; owner != NULL; owner = owner->below) owner->is_lost = false;
  owner = (struct owner *)atomic_load_acquire(&all_owners);
  for (; owner != NULL; owner = owner->next_known) {
    if (owner->is_lost) {
      stats_subtract(&stats.owners, 1);
    } else {
      forget_shared_heaps(owner);
    }
  }
  pages_for_each(abandon_lost, NULL);
}

static void after_fork(void) {
  arenas_after_fork();
  owners_after_fork();
  limbo_after_fork();
}

/* ---- the process ---- */

/* What ended threads have left. */
static bool free_abandoned(struct page *page, void *argument) {
  (void)argument;
  const uintptr_t state = atomic_load_acquire(&page->state);
  if (page_state_owner(state) == PAGE_ABANDONED &&
      page_turn_over(page, state, PAGE_CLAIMED)) {
    page_release(page);
  }
  return true;
}

/* Whatever this thread owns, nobody's mutators, and nobody's pages. */
static void destroy_everything(void) {
  while (current.owner != NULL && current.owner->mutator != NULL) owner_unbind();
  struct owner *own = current.owner;
  make_current(NULL);
  struct owner *owner = (struct owner *)atomic_load_acquire(&all_owners);
  for (; owner != NULL; owner = owner->next_known) {
    if (owner != own && !atomic_compare_and_swap_full(&owner->bound, 0, 1)) continue;
    while (owner->heaps != NULL) heap_free_all(owner->heaps);
  }
  pages_for_each(free_abandoned, NULL);
}

static void process_end(void) {
  if (option_get(mi_option_show_stats) != 0) mi_stats_print(NULL);
  if (option_get(mi_option_destroy_on_exit) != 0) destroy_everything();
}

static void process_reserve(void) {
  const long huge_pages = option_get(mi_option_reserve_huge_os_pages);
  if (huge_pages > 0) {
    const long node = option_get(mi_option_reserve_huge_os_pages_at);
    const size_t milliseconds = (size_t)huge_pages * 500;
    if (node >= 0) {
      mi_reserve_huge_os_pages_at((size_t)huge_pages, (int)node, milliseconds);
    } else {
      mi_reserve_huge_os_pages_interleave((size_t)huge_pages, 0, milliseconds);
    }
  }
  const size_t bytes = mi_option_get_size(mi_option_reserve_os_memory);
  if (bytes > 0) mi_reserve_os_memory(bytes, true, true);
}

void process_begin(void) {
  enum { NOT_BEGUN, BEGINNING, BEGUN };
  if (atomic_load_acquire(&process_begun) == BEGUN) return;
  if (!atomic_compare_and_swap_full(&process_begun, NOT_BEGUN, BEGINNING)) {
    /* Another thread is at it: its key must be there before we have an owner. */
    while (atomic_load_acquire(&process_begun) != BEGUN) sched_yield();
    return;
  }
  atomic_store_relaxed(&process_started_at, os_clock_milliseconds());
  option_read_environment();
  if (pthread_key_create(&thread_end_key, thread_end) == 0) {
    atomic_store_release(&thread_end_key_made, 1);
  }
  atomic_store_release(&process_begun, BEGUN);
  process_reserve();
}

/* When the library is loaded. An allocation may have come before; registering may
 * allocate, so that is left to here. */
__attribute__((constructor)) static void process_loaded(void) {
  const int saved_errno = errno;
  process_begin();
  owner_begin();
  pthread_atfork(NULL, NULL, after_fork);
  atexit(process_end);
  errno = saved_errno;
}

void mi_process_init(void) { process_begin(); }

void mi_thread_init(void) { owner_begin(); }

void mi_thread_done(void) { owner_end(); }

void mi_thread_set_in_threadpool(void) { thread_is_in_pool = true; }

/* ---- deferred free ---- */

void mi_register_deferred_free(mi_deferred_free_fun *fun, void *arg) {
  atomic_store_release(&deferred_free_argument, (uintptr_t)arg);
  atomic_store_release(&deferred_free_function, (uintptr_t)fun);
}

void owner_call_deferred_free(bool force) {
  mi_deferred_free_fun *fun =
      (mi_deferred_free_fun *)atomic_load_acquire(&deferred_free_function);
  if (fun == NULL || current.owner == NULL || calling_deferred_free) return;
  calling_deferred_free = true;
  heartbeat++;
  fun(force, heartbeat, (void *)atomic_load_acquire(&deferred_free_argument));
  calling_deferred_free = false;
}
