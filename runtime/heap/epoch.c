#include "heap/epoch.h"

#include <mirt/epoch.h>

#include <errno.h>
#include <sched.h>

#include "base/log.h"
#include "heap/large.h"
#include "heap/page.h"

static atomic_word epoch = 1;
static atomic_word
    limbo; /* a stack of struct page*; pushed one by one, popped as a whole */
static atomic_word waiting_size; /* bytes in it */

/* Whoever has it alone may touch these. A thread may be stopped meanwhile, so what a collector
 * calls only tries. */
static atomic_word is_locked;
static atomic_word readers; /* mirt_epoch_reader_t*; the child of a fork finds it whole */
static uintptr_t oldest_goal; /* least of those left in limbo; 0 when none was */

static bool try_lock(void) { return atomic_compare_and_swap_full(&is_locked, 0, 1); }

static void lock(void) {
  while (!try_lock()) sched_yield();
}

static void unlock(void) { atomic_store_release(&is_locked, 0); }

/* ---- pages ---- */

/* The epoch that every reader has seen. One that begins to read later than we look at it sees
 * the epoch that we began with, or a later one. */
static uintptr_t epoch_passed(void) {
  uintptr_t passed = atomic_load_acquire(&epoch);
  atomic_barrier_full();
  const mirt_epoch_reader_t *reader = (void *)atomic_load_relaxed(&readers);
  for (; reader != NULL; reader = reader->next) {
    const uintptr_t seen = atomic_load_acquire((const atomic_word *)&reader->seen);
    if (seen != 0 && seen < passed) passed = seen;
  }
  return passed;
}

static void push(struct page *page) {
  uintptr_t first;
  do {
    first = atomic_load_relaxed(&limbo);
    page->next_in_limbo = (struct page *)first;
  } while (!atomic_compare_and_swap_full(&limbo, first, (uintptr_t)page));
}

void limbo_add(struct page *page) {
  page->goal = atomic_fetch_add_full(&epoch, 1) + 1;
  atomic_fetch_add_full(&waiting_size, (size_t)page->slice_count << SLICE_SHIFT);
  push(page);
  limbo_collect();
}

/* Let go of what readers have passed, and of all that is in this arena; the rest stays. */
static bool sift(uintptr_t passed, const struct arena *arena) {
  bool any = false;
  oldest_goal = 0;
  struct page *page = (struct page *)atomic_exchange_full(&limbo, 0);
  while (page != NULL) {
    struct page *next = page->next_in_limbo;
    if (page->goal <= passed || page->arena == arena) {
      atomic_fetch_sub_full(&waiting_size, (size_t)page->slice_count << SLICE_SHIFT);
      page_let_go(page);
      any = true;
    } else {
      if (oldest_goal == 0 || page->goal < oldest_goal) oldest_goal = page->goal;
      push(page);
    }
    page = next;
  }
  return any;
}

bool limbo_collect(void) {
  if (likely(atomic_load_relaxed(&limbo) == 0) || !try_lock()) return false;
  const uintptr_t passed = epoch_passed();
  const bool any = passed >= oldest_goal && sift(passed, NULL);
  unlock();
  return any;
}

void limbo_flush(const struct arena *arena) {
  if (atomic_load_relaxed(&limbo) == 0) return;
  lock();
  sift(0, arena);
  unlock();
}

void limbo_after_fork(void) {
  unlock();
  /* Slices went back already; what lay in a mapping of its own has not. */
  struct page *page = (struct page *)atomic_exchange_full(&limbo, 0);
  while (page != NULL) {
    struct page *next = page->next_in_limbo;
    if (page_has_own_mapping(page)) page_let_go(page);
    page = next;
  }
  atomic_store_relaxed(&waiting_size, 0);
  oldest_goal = 0;
}

/* ---- the interface ---- */

static bool is_tag(int tag) { return tag >= 0 && (size_t)tag < TAG_COUNT; }

int mirt_tag_delay_reuse(int tag) {
  if (!is_tag(tag)) {
    log_error(EINVAL, "mirt_tag_delay_reuse", "tag %d is not in 0 to %zu", tag,
              TAG_COUNT - 1);
    return EINVAL;
  }
  atomic_store_release(&tags[tag].delays_reuse, 1);
  return 0;
}

bool mirt_tag_delays_reuse(int tag) {
  return is_tag(tag) && tag_delays_reuse((unsigned)tag);
}

/* What points to the reader in the list, or the list's end. */
static atomic_word *link_of(const mirt_epoch_reader_t *reader) {
  atomic_word *link = &readers;
  for (uintptr_t here;
       (here = atomic_load_relaxed(link)) != 0 && here != (uintptr_t)reader;)
    link = (atomic_word *)&((mirt_epoch_reader_t *)here)->next;
  return link;
}

static int fails(int code, const char *function, const void *reader, const char *why) {
  log_error(code, function, "reader %p %s", reader, why);
  return code;
}

int mirt_epoch_attach(mirt_epoch_reader_t *reader) {
  if (reader == NULL) return fails(EINVAL, "mirt_epoch_attach", reader, "is none");
  lock();
  const bool is_new = atomic_load_relaxed(link_of(reader)) == 0;
  if (is_new) {
    reader->next = (mirt_epoch_reader_t *)atomic_load_relaxed(&readers);
    reader->seen = 0;
    atomic_store_release(&readers, (uintptr_t)reader);
  }
  unlock();
  if (!is_new) return fails(EBUSY, "mirt_epoch_attach", reader, "is attached already");
  mirt_epoch_resume(reader);
  return 0;
}

int mirt_epoch_detach(mirt_epoch_reader_t *reader) {
  if (reader == NULL) return fails(EINVAL, "mirt_epoch_detach", reader, "is none");
  lock();
  atomic_word *link = link_of(reader);
  const bool is_attached = atomic_load_relaxed(link) != 0;
  if (is_attached) atomic_store_release(link, (uintptr_t)reader->next);
  unlock();
  if (!is_attached) return fails(ENOENT, "mirt_epoch_detach", reader, "is not attached");
  return 0;
}

static atomic_word *seen_by(mirt_epoch_reader_t *reader) {
  return (atomic_word *)&reader->seen;
}

void mirt_epoch_announce(mirt_epoch_reader_t *reader) {
  if (atomic_load_relaxed(seen_by(reader)) == 0) return;
  /* Release: what it read before has been read when the page goes. */
  atomic_store_release(seen_by(reader), atomic_load_acquire(&epoch));
}

void mirt_epoch_pause(mirt_epoch_reader_t *reader) {
  atomic_store_release(seen_by(reader), 0);
}

void mirt_epoch_resume(mirt_epoch_reader_t *reader) {
  atomic_store_relaxed(seen_by(reader), atomic_load_acquire(&epoch));
  /* Either whoever looks at the readers sees it, or we see what he has taken out. */
  atomic_barrier_full();
}

size_t mirt_epoch_collect(void) {
  limbo_collect();
  return atomic_load_relaxed(&waiting_size);
}
