/* free.c - a block goes back, from whichever thread.
 *
 * The owner of the page sets a bit and counts down, and that is all. Another owner's page, or
 * an abandoned one: the xfree plane. A large block: claim the page.
 */
#include <errno.h>

#include <mirt/foreign.h>

#include "arena/page_map.h"
#include "base/log.h"
#include "heap/alloc.h"
#include "heap/large.h"
#include "heap/page.h"
#include "os/os.h"

cold_function static void report_double_free(const void *p) {
  log_corruption(EFAULT, "mi_free", "double free of %p", p);
}

cold_function static void report_invalid(const void *p) {
  log_corruption(EINVAL, "mi_free", "%p is not the address of a block", p);
}

/* Is p, which lies in the page, where a block starts or may stand for one? */
static bool block_is_valid(const struct page *page, const void *p, size_t index) {
  return index < page->block_count &&
         (page_is_block_start(page, p) || atomic_flag_get(&page->has_interior));
}

/* Another owner's page, or an abandoned one. */
static void free_remote(struct page *page, size_t index, const void *p) {
  const uintptr_t bit = (uintptr_t)1 << (index % WORD_BITS);
  atomic_word *xfree = page_xfree(page);
  /* The bit of a live block is clear in what we can see of the owner's plane, since it was
   * so when the block was handed out. */
  if ((atomic_load_relaxed(&page->free[index / WORD_BITS]) & bit) != 0) {
    report_double_free(p);
    return;
  }
  struct reader *section = read_begin_at_next_full();
  const uintptr_t before = atomic_fetch_or_full(&xfree[index / WORD_BITS], bit);
  if ((before & bit) != 0) {
    read_end(section);
    report_double_free(p);
    return;
  }
  /* From here on the page may be claimed by someone else and used for something new:
   * nothing we do below harms another page. */
  if (atomic_load_after_full(&page->has_xfree) == 0 &&
      atomic_compare_and_swap_full(&page->has_xfree, 0, 1) &&
      page_state_owner(atomic_load_after_full(&page->state)) == PAGE_ABANDONED) {
    page_offer(page);
  }
  /* The page is not empty if the group is not; a look at that is all that most frees need. */
  const uintptr_t group = atomic_load_after_full(&page->free[index / WORD_BITS]) |
                          atomic_load_after_full(&xfree[index / WORD_BITS]);
  const bool is_claimed = group == WORD_ONES && page_claim_if_empty(page);
  read_end(section);
  if (is_claimed) page_release(page);
}

/* Has another thread freed the block already? The plane is looked at only where the flag
 * says that there is something in it. */
static inline bool is_freed_by_others(const struct page *page, size_t index) {
  if (likely(atomic_load_relaxed(&page->has_xfree) == 0)) return false;
  const uintptr_t word = atomic_load_relaxed(&page_xfree(page)[index / WORD_BITS]);
  return ((word >> (index % WORD_BITS)) & 1) != 0;
}

/* The page is not ours, or p is no block. */
__attribute__((noinline)) static void free_elsewhere(struct page *page, void *p,
                                                     uintptr_t state) {
  const uint32_t owner = page_state_owner(state);
  if (owner == PAGE_NONE || owner == PAGE_CLAIMED) {
    report_invalid(p);
    return;
  }
  const size_t index = page_block_index(page, p);
  if (!block_is_valid(page, p, index)) {
    report_invalid(p);
  } else if (atomic_flag_get(&page->is_large)) {
    if (!large_free(page)) report_double_free(p);
  } else {
    free_remote(page, index, p);
  }
}

/* A page of ours, but p is not where a block starts. */
__attribute__((noinline)) static void free_interior(struct page *page, void *p) {
  const size_t index = page_block_index(page, p);
  if (!block_is_valid(page, p, index)) {
    report_invalid(p);
  } else {
    block_free(page_block(page, index));
  }
}

/* The bit was set already: a double free, or the tail of the page. */
cold_function static void free_twice(struct page *page, void *p) {
  if (page_block_index(page, p) >= page->block_count) {
    report_invalid(p);
  } else {
    report_double_free(p);
  }
}

cold_function static void free_unknown(void *p) {
  if (p != NULL) report_invalid(p);
}

/* The page has counted down. */
__attribute__((noinline)) static void free_at_turn(struct page *page, size_t index,
                                                   void *p) {
  if (!atomic_flag_get(&page->is_large)) {
    cell_free_at_turn(page_cell(page), page, index);
  } else if (!large_free(page)) {
    report_double_free(p);
  }
}

/* The bits of free blocks in a word of a page of ours: those in the plane, and those that the
 * cell took from it. Whether the group is the taken one is a coin toss in many programs, so
 * that is arithmetic and not a branch. */
static inline uintptr_t known_free(const struct page *page, const atomic_word *word,
                                   uintptr_t in_plane) {
  const uintptr_t taken = (uintptr_t)0 - (uintptr_t)(word == page->taken);
  return in_plane | (page_cell(page)->word & taken);
}

/* Set the block's bit in a page of ours. */
static inline void free_own(struct page *page, size_t index, void *p) {
  atomic_word *word = &page->free[index / WORD_BITS];
  const uintptr_t before = atomic_load_relaxed(word);
  if (unlikely(bits_has(known_free(page, word, before), index))) {
    free_twice(page, p);
  } else if (unlikely(--page->until == 0)) {
    free_at_turn(page, index, p);
  } else {
    /* Release: if the page rests, whoever frees its last block gives it away, with what we
     * wrote into this one. */
    atomic_store_release(word, bits_with(before, index));
  }
}

/* The same when other threads have freed into the page, so that the count does not know when
 * it is empty. */
__attribute__((noinline)) static void free_own_shared(struct page *page, size_t index,
                                                      void *p) {
  const uintptr_t bit = (uintptr_t)1 << (index % WORD_BITS);
  if (is_freed_by_others(page, index)) {
    report_double_free(p);
  } else if ((atomic_load_relaxed(&page->state) & PAGE_RESTING) == 0 ||
             page->until == 1) {
    free_own(page, index, p);
  } else if ((atomic_load_relaxed(&page->free[index / WORD_BITS]) & bit) != 0) {
    free_twice(page, p);
  } else {
    page->until--;
    page_free_block_resting(page, index);
  }
}

/* Free a block of this page, if it is one. */
static inline void free_in(struct page *page, void *p) {
  const uintptr_t state = atomic_load_relaxed(&page->state);
  if (unlikely(page_state_owner(state) != current.owner_number)) {
    free_elsewhere(page, p, state);
    return;
  }
  const uint128 product = (uint128)((uintptr_t)p - page->start) * page->reciprocal;
  if (unlikely((uint64_t)product >= page->reciprocal)) {
    free_interior(page, p);
  } else if (unlikely(atomic_load_relaxed(&page->has_xfree) != 0)) {
    free_own_shared(page, (size_t)(product >> 64), p);
  } else {
    free_own(page, (size_t)(product >> 64), p);
  }
}

void block_free(void *p) {
  struct page *page = page_map_find(p);
  if (unlikely(page == NULL)) {
    free_unknown(p);
  } else {
    free_in(page, p);
  }
}

void mi_free(void *p) { block_free(p); }

bool mirt_try_free(void *p) {
  struct page *page = page_map_find(p);
  if (unlikely(page == NULL)) return p == NULL;
  free_in(page, p);
  return true;
}

/* ---- questions about a block ---- */

struct page *block_page(const void *p) {
  struct page *page = page_map_find(p);
  if (page == NULL) return NULL;
  const uint32_t owner = page_state_owner(atomic_load_acquire(&page->state));
  return owner == PAGE_NONE || owner == PAGE_CLAIMED ? NULL : page;
}

/* Is the block's bit in no plane and no word? */
static bool block_is_live(const struct page *page, size_t index) {
  const uintptr_t bit = (uintptr_t)1 << (index % WORD_BITS);
  const atomic_word *word = &page->free[index / WORD_BITS];
  if ((atomic_load_relaxed(word) & bit) != 0) return false;
  if (atomic_flag_get(&page->is_large)) return true;
  if (is_freed_by_others(page, index)) return false;
  const uint32_t owner = page_state_owner(atomic_load_acquire(&page->state));
  if (owner != current.owner_number) return true; /* its word we cannot see */
  return page->taken != word || (page_cell(page)->word & bit) == 0;
}

/* Bytes from p to the end of its block. */
static size_t bytes_to_end(const struct page *page, const void *p, size_t index) {
  const uintptr_t end = page->start + (index + 1) * page->block_size;
  return end - (page->is_guarded ? os_page_size() : 0) - (uintptr_t)p;
}

size_t block_usable_size(const void *p) {
  const struct page *page = block_page(p);
  if (page == NULL) return 0;
  const size_t index = page_block_index(page, p);
  return likely(block_is_valid(page, p, index)) ? bytes_to_end(page, p, index) : 0;
}

size_t block_own_size(const void *p) {
  const struct page *page = page_map_find(p);
  if (page == NULL) return 0;
  const uintptr_t state = atomic_load_relaxed(&page->state);
  if (page_state_owner(state) != current.owner_number) return 0;
  const uint128 product = (uint128)((uintptr_t)p - page->start) * page->reciprocal;
  const size_t index = (size_t)(product >> 64);
  if ((uint64_t)product >= page->reciprocal || index >= page->block_count ||
      atomic_load_relaxed(&page->has_xfree) != 0 || atomic_flag_get(&page->is_large)) {
    return 0;
  }
  const atomic_word *word = &page->free[index / WORD_BITS];
  const uintptr_t free = known_free(page, word, atomic_load_relaxed(word));
  return bits_has(free, index) ? 0 : page->block_size;
}

int block_check(const void *p, size_t *usable) {
  const struct page *page = block_page(p);
  if (unlikely(page == NULL)) return EINVAL;
  const size_t index = page_block_index(page, p);
  if (unlikely(!block_is_valid(page, p, index))) return EINVAL;
  if (unlikely(!block_is_live(page, index))) return EFAULT;
  *usable = bytes_to_end(page, p, index);
  return 0;
}

void *block_start(const void *p) {
  const struct page *page = block_page(p);
  if (page == NULL) return NULL;
  const size_t index = page_block_index(page, p);
  if (index >= page->block_count || !block_is_live(page, index)) return NULL;
  return page_block(page, index);
}
