#include <mirt/gc.h>

#include "arena/page_map.h"
#include "heap/alloc.h"
#include "heap/page.h"
#include "vm/runtime.h"

/* Is the block of a page's index live, by the page's planes? What a cell has taken is asked
 * for only where that matters: not between mirt_gc_begin and mirt_gc_end. */
reads_what_may_change static bool is_live(const struct page *page, size_t index) {
  uint64_t live[PLANE_SLICE_WORDS];
  const size_t group = index / WORD_BITS;
  const uint64_t bit = (uint64_t)1 << (index % WORD_BITS);
  if ((atomic_load_relaxed(&page->free[group]) & bit) != 0) return false;
  page_live_blocks(page, live);
  return (live[group] & bit) != 0;
}

reads_what_may_change bool mirt_find(const mirt_runtime_t *runtime, uint64_t word,
                                     mirt_found_t *found) {
  const void *p = (const void *)(uintptr_t)word;
  struct reader *section = read_begin();
  const struct page *page = block_page(p);
  bool is_there = page != NULL && page->arena == runtime->arena;
  const struct type *type = is_there ? page_type(runtime, page) : NULL;
  is_there = type != NULL;
  if (is_there) {
    const size_t index = page_block_index(page, p);
    is_there = index < page->block_count && is_live(page, index);
    if (is_there && found != NULL) {
      *found = (mirt_found_t){page_block(page, index), page->block_size, &type->public};
    }
  }
  read_end(section);
  return is_there;
}
