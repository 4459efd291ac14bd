#include <mirt/tag.h>

#include <errno.h>

#include "arena/tag.h"
#include "base/log.h"
#include "heap/alloc.h"
#include "heap/page.h"

static bool is_tag(int tag) { return tag >= 0 && tag <= MIRT_TAG_MAX; }

reads_what_may_change int mirt_tag_of(const void *p) {
  struct reader *section = read_begin();
  const struct page *page = block_page(p);
  const bool is_inside = page != NULL && page_block_index(page, p) < page->block_count;
  const int tag = is_inside ? (int)page_kind_tag(atomic_load_relaxed(&page->kind)) : -1;
  read_end(section);
  return tag;
}

int mirt_tag_seal(int tag) {
  if (!is_tag(tag)) {
    log_error(EINVAL, "mirt_tag_seal", "tag %d is not in 0 to %d", tag, MIRT_TAG_MAX);
    return EINVAL;
  }
  if (tag_seal((unsigned)tag)) return 0;
  log_error(EBUSY, "mirt_tag_seal", "there have been blocks of tag %d", tag);
  return EBUSY;
}

int mirt_tag_shift_blocks(int tag, size_t offset) {
  if (!is_tag(tag) || offset > BLOCK_OFFSET_MAX || offset % BLOCK_OFFSET_UNIT != 0) {
    log_error(EINVAL, "mirt_tag_shift_blocks", "tag %d, offset %zu", tag, offset);
    return EINVAL;
  }
  if (atomic_load_acquire(&tags[tag].use) != TAG_UNUSED &&
      tag_block_offset((unsigned)tag) != offset) {
    log_error(EBUSY, "mirt_tag_shift_blocks", "there have been blocks of tag %d", tag);
    return EBUSY;
  }
  atomic_store_relaxed(&tags[tag].block_offset, offset);
  return 0;
}

bool mirt_tag_is_sealed(int tag) { return is_tag(tag) && tag_is_sealed((unsigned)tag); }
