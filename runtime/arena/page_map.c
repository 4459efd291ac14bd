#include "arena/page_map.h"

#include "os/os.h"

#define STATIC_LEAVES 4

atomic_word page_map_root[PAGE_MAP_ROOT_ENTRIES];

static atomic_word static_leaves[STATIC_LEAVES][PAGE_MAP_LEAF_ENTRIES];
static atomic_word static_leaves_used;

static atomic_word *leaf_new(bool *is_static) {
  const size_t next = atomic_fetch_add_full(&static_leaves_used, 1);
  *is_static = next < STATIC_LEAVES;
  if (*is_static) return static_leaves[next];
  return os_reserve_guarded(PAGE_MAP_LEAF_ENTRIES * sizeof(atomic_word));
}

bool page_map_reserve(uintptr_t start, size_t slice_count) {
  const uintptr_t last = start + (slice_count << SLICE_SHIFT) - 1;
  if (last < start || last >> ADDRESS_BITS != 0) return false;
  for (size_t entry = start >> PAGE_MAP_LEAF_SHIFT; entry <= last >> PAGE_MAP_LEAF_SHIFT;
       entry++) {
    if (atomic_load_acquire(&page_map_root[entry]) != 0) continue;
    bool is_static;
    atomic_word *leaf = leaf_new(&is_static);
    if (leaf == NULL) return false;
    if (!atomic_compare_and_swap_full(&page_map_root[entry], 0, (uintptr_t)leaf) &&
        !is_static) {
      os_release_guarded((void *)leaf, PAGE_MAP_LEAF_ENTRIES * sizeof(atomic_word));
    }
  }
  return true;
}

void page_map_set(uintptr_t start, size_t slice_count, struct page *page) {
  for (size_t i = 0; i < slice_count; i++) {
    const uintptr_t slice = (start >> SLICE_SHIFT) + i;
    const size_t leaf_bits = PAGE_MAP_LEAF_SHIFT - SLICE_SHIFT;
    atomic_word *leaf =
        (atomic_word *)atomic_load_acquire(&page_map_root[slice >> leaf_bits]);
    atomic_word *entry = &leaf[slice & (PAGE_MAP_LEAF_ENTRIES - 1)];
    /* Not to touch memory that holds the value already: most often so for one slice. */
    if (atomic_load_relaxed(entry) != (uintptr_t)page) {
      atomic_store_release(entry, (uintptr_t)page);
    }
  }
}

bool page_map_is_empty(uintptr_t start, size_t slice_count) {
  const uintptr_t end = start + (slice_count << SLICE_SHIFT);
  while (start < end) {
    if (atomic_load_acquire(&page_map_root[start >> PAGE_MAP_LEAF_SHIFT]) == 0) {
      start = ((start >> PAGE_MAP_LEAF_SHIFT) + 1) << PAGE_MAP_LEAF_SHIFT;
    } else {
      if (page_map_find((void *)start) != NULL) return false;
      start += SLICE_SIZE;
    }
  }
  return true;
}
