#include "vm/mark.h"

#include <sched.h>
#include <string.h>

#include "arena/page_map.h"
#include "heap/alloc.h"
#include "os/os.h"
#include "vm/registers.h"

#define MAPPING_BYTES ((size_t)256 * KiB) /* of segments, from the system */
#define ARRAY_SLOTS 512                   /* gone through before the rest is put back */
#define RING 16                           /* objects on their way into the caches */
#define SHARE_EVERY 64                    /* objects */
#define SHARE_LEAST 32                    /* entries that are worth a segment */

/* ---- segments ---- */

static void lock(atomic_word *word) {
  while (!atomic_compare_and_swap_full(word, 0, 1)) sched_yield();
}

static void unlock(atomic_word *word) { atomic_store_release(word, 0); }

/* The first segment of a mapping is its link; the others are linked as they are needed, so
 * that a small collection touches little. */
static void use_mapping(struct collection *collection, char *mapping) {
  collection->segment_mappings = mapping;
  collection->fresh = mapping + SEGMENT_BYTES;
  collection->fresh_end = mapping + MAPPING_BYTES;
}

static bool map_segments(struct collection *collection) {
  char *mapping = os_reserve(MAPPING_BYTES, SEGMENT_BYTES, true);
  if (mapping == NULL) return false;
  *(void **)(void *)mapping = collection->segment_mappings;
  use_mapping(collection, mapping);
  return true;
}

static struct segment *find_segment(struct collection *collection) {
  struct segment *segment = collection->free_segments;
  if (segment != NULL) {
    collection->free_segments = segment->next;
    return segment;
  }
  if (collection->fresh == collection->fresh_end && !map_segments(collection)) {
    return NULL;
  }
  segment = (struct segment *)(void *)collection->fresh;
  collection->fresh += SEGMENT_BYTES;
  return segment;
}

struct segment *segment_take(struct collection *collection) {
  lock(&collection->segment_lock);
  struct segment *segment = find_segment(collection);
  unlock(&collection->segment_lock);
  if (segment != NULL) segment->count = 0;
  return segment;
}

void segment_give(struct collection *collection, struct segment *segment) {
  lock(&collection->segment_lock);
  segment->next = collection->free_segments;
  collection->free_segments = segment;
  unlock(&collection->segment_lock);
}

void collection_reset_segments(struct collection *collection) {
  char *mapping = collection->segment_mappings;
  if (mapping == NULL) return;
  for (char *next; (next = *(void **)(void *)mapping) != NULL; mapping = next) {
    os_release(mapping, MAPPING_BYTES);
  }
  use_mapping(collection, mapping);
  collection->free_segments = NULL;
}

void collection_release_segments(struct collection *collection) {
  collection_reset_segments(collection);
  if (collection->segment_mappings == NULL) return;
  os_release(collection->segment_mappings, MAPPING_BYTES);
}

/* ---- stacks ---- */

/* Let others have a segment. */
static void offer(mirt_marker_t *marker, struct segment *segment) {
  lock(&marker->lock);
  segment->next = marker->others;
  marker->others = segment;
  atomic_store_relaxed(&marker->other_count,
                       atomic_load_relaxed(&marker->other_count) + 1);
  unlock(&marker->lock);
}

/* Take one of a marker's segments, its own or another's. */
static struct segment *take_from(mirt_marker_t *marker) {
  if (atomic_load_relaxed(&marker->other_count) == 0) return NULL;
  lock(&marker->lock);
  struct segment *segment = marker->others;
  if (segment != NULL) {
    marker->others = segment->next;
    atomic_store_relaxed(&marker->other_count,
                         atomic_load_relaxed(&marker->other_count) - 1);
  }
  unlock(&marker->lock);
  return segment;
}

/* Work on a segment from now on. */
static void set_top(mirt_marker_t *marker, struct segment *segment) {
  marker->top = segment;
  marker->next = segment->entries + segment->count;
  marker->end = segment->entries + SEGMENT_ENTRIES;
}

static bool is_empty(const mirt_marker_t *marker) {
  return marker->top == NULL || marker->next == marker->top->entries;
}

cold_function static bool make_room(mirt_marker_t *marker) {
  struct segment *segment = segment_take(marker->collection);
  if (segment == NULL) return false;
  if (marker->top != NULL) {
    marker->top->count = (size_t)(marker->next - marker->top->entries);
    offer(marker, marker->top);
  }
  set_top(marker, segment);
  return true;
}

static inline void push(mirt_marker_t *marker, const void *object) {
  if (unlikely(marker->next == marker->end) && !make_room(marker)) {
    atomic_store_release(&marker->collection->is_overflown, 1);
    return;
  }
  *marker->next++ = (uintptr_t)object;
}

/* Returns false without memory: then it is gone through at once, and nothing is lost. */
static bool push_array(mirt_marker_t *marker, const void *object, size_t offset) {
  if (marker->end - marker->next < 2 && !make_room(marker)) return false;
  *marker->next++ = offset;
  *marker->next++ = (uintptr_t)object | 1;
  return true;
}

/* Have entries in the top segment, from the marker's others if need be. */
static inline bool has_entries(mirt_marker_t *marker) {
  if (likely(!is_empty(marker))) return true;
  struct segment *segment = take_from(marker);
  if (segment == NULL) return false;
  if (marker->top != NULL) segment_give(marker->collection, marker->top);
  set_top(marker, segment);
  return true;
}

/* Half of what the marker has is for others, who have nothing. The lower half: from there
 * most is reached. */
static void share(mirt_marker_t *marker) {
  struct segment *top = marker->top;
  const size_t count = top == NULL ? 0 : (size_t)(marker->next - top->entries);
  if (count < SHARE_LEAST || atomic_load_relaxed(&marker->other_count) != 0) return;
  struct segment *segment = segment_take(marker->collection);
  if (segment == NULL) return;
  size_t half = count / 2;
  if ((top->entries[half] & 1) != 0) half++; /* not between an array and its offset */
  memcpy(segment->entries, top->entries, half * sizeof top->entries[0]);
  memmove(top->entries, top->entries + half, (count - half) * sizeof top->entries[0]);
  segment->count = half;
  marker->next -= half;
  offer(marker, segment);
}

/* ---- the pages ---- */

static bool describe_page(struct page *page, void *argument) {
  struct collection *collection = argument;
  const struct type *type = page_type(collection->runtime, page);
  if (type == NULL) return true;
  const struct target target = {page->start, page->reciprocal, page_mark(page), type};
  struct target *targets = &collection->targets[page_slice_index(page)];
  for (size_t i = 0; i < page->slice_count; i++) targets[i] = target;
  return true;
}

void collection_describe_pages(struct collection *collection) {
  struct arena *arena = collection->runtime->arena;
  const size_t slices = atomic_load_relaxed(&arena->top);
  memset(collection->targets, 0, slices * sizeof(struct target));
  pages_for_each_in(arena, describe_page, collection);
  for (size_t i = 0; i < collection->marker_count; i++) {
    collection->markers[i].slice_count = slices;
  }
}

/* ---- marking ---- */

/* Returns whether the bit was not set before. */
static inline bool set_mark(const struct collection *collection, atomic_word *word,
                            uintptr_t bit) {
  const uintptr_t before = atomic_load_relaxed(word);
  if ((before & bit) != 0) return false;
  if (collection->is_parallel) return (atomic_fetch_or_full(word, bit) & bit) == 0;
  atomic_store_relaxed(word, before | bit);
  return true;
}

/* The page at an address, as far as marking is concerned, or NULL. */
static inline const struct target *find_target(const mirt_marker_t *marker,
                                               uintptr_t address) {
  const size_t slice = (address - marker->base) >> SLICE_SHIFT;
  if (unlikely(slice >= marker->slice_count)) return NULL;
  const struct target *target = &marker->targets[slice];
  return likely(target->mark != NULL) ? target : NULL;
}

/* Where the block begins that an address points into. */
cold_function static uintptr_t interior_to_start(uintptr_t address) {
  const struct page *page = block_page((const void *)address);
  return (uintptr_t)page_block(page, page_block_index(page, (const void *)address));
}

/* Mark the object that an address points into. */
static inline bool mark(mirt_marker_t *marker, uintptr_t address) {
  const struct target *target = find_target(marker, address);
  if (unlikely(target == NULL)) return false;
  const uint128 product = (uint128)(address - target->start) * target->reciprocal;
  const size_t index = (size_t)(product >> 64);
  const uintptr_t bit = (uintptr_t)1 << (index % WORD_BITS);
  if (!set_mark(marker->collection, &target->mark[index / WORD_BITS], bit)) return false;
  if (!target->type->has_references) return true;
  /* As page_is_block_start. */
  if (unlikely((uint64_t)product >= target->reciprocal)) {
    address = interior_to_start(address);
  }
  push(marker, (const void *)address);
  return true;
}

/* Mark the object that a word points into, if it does. The planes are exact: no cell has taken a
 * group. */
static bool mark_word(mirt_marker_t *marker, uintptr_t word) {
  if (find_target(marker, word) == NULL) return false;
  const struct page *page = block_page((const void *)word);
  const size_t index = page_block_index(page, (const void *)word);
  if (index >= page->block_count) return false;
  const uintptr_t free = atomic_load_relaxed(&page->free[index / WORD_BITS]);
  if (((free >> (index % WORD_BITS)) & 1) != 0) return false;
  return mark(marker, (uintptr_t)page_block(page, index));
}

bool mirt_mark(mirt_marker_t *marker, const void *object) {
  return mark(marker, (uintptr_t)object);
}

bool mirt_mark_ref(mirt_marker_t *marker, mirt_ref_t ref) {
  return ref != 0 && mark(marker, (uintptr_t)mirt_decode(marker->runtime->cage, ref));
}

bool mirt_is_marked(const mirt_runtime_t *runtime, const void *object) {
  const struct page *page = page_map_find(object);
  return page != NULL && page->arena == runtime->arena &&
         page_is_marked(page, page_block_index(page, object));
}

/* ---- words that may be addresses ---- */

/* Not instrumented: it reads what nobody has written, and what lies between variables. */
__attribute__((no_sanitize("address", "thread", "undefined"))) size_t
mirt_mark_conservative(mirt_marker_t *marker, const void *begin, const void *end) {
  const uintptr_t *word =
      (const uintptr_t *)align_up((uintptr_t)begin, sizeof(uintptr_t));
  size_t count = 0;
  for (; word + 1 <= (const uintptr_t *)end; word++) count += mark_word(marker, *word);
  return count;
}

__attribute__((noinline)) size_t mirt_mark_stack(mirt_marker_t *marker,
                                                 const void *bottom) {
  uintptr_t registers[REGISTERS_MAX];
  registers_save(registers);
  const void *top = __builtin_frame_address(0);
  const size_t count =
      mirt_mark_conservative(marker, registers, registers + REGISTERS_MAX);
  if ((uintptr_t)bottom < (uintptr_t)top)
    return count; /* it grows upwards, or there is none */
  return count + mirt_mark_conservative(marker, top, bottom);
}

/* ---- tracing ---- */

/* Null is an immediate value, too, if the type names no others. */
static inline void mark_slot(mirt_marker_t *marker, const struct type *type,
                             const char *slot, size_t slot_size) {
  if (slot_size == sizeof(mirt_ref_t)) {
    mirt_ref_t ref;
    memcpy(&ref, slot, sizeof ref);
    if ((ref & type->immediate_mask) == type->immediate_value) return;
    mark(marker, (uintptr_t)mirt_decode(marker->runtime->cage, ref));
  } else {
    uint64_t word;
    memcpy(&word, slot, sizeof word);
    if ((word & type->immediate_mask) == type->immediate_value) return;
    mark(marker, word);
  }
}

/* The slots that the bits of a word name. */
static inline void trace_bits(mirt_marker_t *marker, const struct type *type,
                              const char *slots, uint64_t bits, size_t slot_size) {
  for (; bits != 0; bits &= bits - 1) {
    mark_slot(marker, type, slots + bits_lowest(bits) * slot_size, slot_size);
  }
}

/* From an offset on, and put back what is left when it is long. */
static void trace_array(mirt_marker_t *marker, const struct type *type,
                        const char *object, size_t offset) {
  const size_t slot_size = type->slot_size;
  const size_t size =
      type->is_variable ? block_page(object)->block_size : type->public.size;
  const size_t most = ARRAY_SLOTS * slot_size;
  size_t end = size - size % slot_size;
  if (end > offset && end - offset > most && push_array(marker, object, offset + most)) {
    end = offset + most;
  }
  for (; offset < end; offset += slot_size) {
    mark_slot(marker, type, object + offset, slot_size);
  }
}

/* Long maps, arrays, and what has a function. */
__attribute__((noinline)) static void
trace_any(mirt_marker_t *marker, const struct type *type, const char *object) {
  const size_t slot_size = type->slot_size;
  if (slot_size == 0) {
    type->trace(marker, (void *)object, block_page(object)->block_size, type->arg);
    return;
  }
  for (size_t i = 0; i * WORD_BITS < type->map_slots; i++) {
    trace_bits(marker, type, object + i * WORD_BITS * slot_size, type->map[i], slot_size);
  }
  if (type->is_array) trace_array(marker, type, object, type->array_offset);
}

static inline const struct type *object_type(const mirt_marker_t *marker,
                                             const char *object) {
  return marker->targets[((uintptr_t)object - marker->base) >> SLICE_SHIFT].type;
}

static inline void trace_object(mirt_marker_t *marker, const char *object) {
  const struct type *type = object_type(marker, object);
  if (type->has_more_than_map) {
    trace_any(marker, type, object);
  } else if (type->slot_size == sizeof(mirt_ref_t)) {
    trace_bits(marker, type, object, type->small_map, sizeof(mirt_ref_t));
  } else {
    trace_bits(marker, type, object, type->small_map, sizeof(void *));
  }
}

static void trace_rest_of_array(mirt_marker_t *marker, uintptr_t entry) {
  const char *object = (const char *)(entry & ~(uintptr_t)1);
  const size_t offset = *--marker->next;
  trace_array(marker, object_type(marker, object), object, offset);
}

/* Objects go from the stack through a short ring, so that each is in the caches by the time
 * it is traced. (Cher, Hosking, Vijaykumar 2004.) */
void marker_drain(mirt_marker_t *marker) {
  const char *ring[RING];
  size_t first = 0, count = 0;
  for (;;) {
    while (count < RING && has_entries(marker)) {
      const uintptr_t entry = *--marker->next;
      if (unlikely((entry & 1) != 0)) {
        trace_rest_of_array(marker, entry);
        continue;
      }
      __builtin_prefetch((const void *)entry);
      ring[(first + count++) % RING] = (const char *)entry;
    }
    if (count == 0) return;
    trace_object(marker, ring[first]);
    first = (first + 1) % RING;
    count--;
    if (marker->collection->is_parallel && --marker->until_share == 0) {
      marker->until_share = SHARE_EVERY;
      if (atomic_load_relaxed(&marker->collection->idle) != 0) share(marker);
    }
  }
}

/* ---- several markers ---- */

static bool steal(mirt_marker_t *thief) {
  struct collection *collection = thief->collection;
  const size_t count = collection->marker_count;
  const size_t own = (size_t)(thief - collection->markers);
  for (size_t i = 1; i < count; i++) {
    struct segment *segment = take_from(&collection->markers[(own + i) % count]);
    if (segment == NULL) continue;
    if (thief->top != NULL) segment_give(collection, thief->top);
    set_top(thief, segment);
    return true;
  }
  return false;
}

static bool anybody_offers(const struct collection *collection) {
  for (size_t i = 0; i < collection->marker_count; i++) {
    if (atomic_load_relaxed(&collection->markers[i].other_count) != 0) return true;
  }
  return false;
}

/* Wait until there is something to take, busy then, or nobody is busy. */
static bool wait_for_work(struct collection *collection) {
  for (;;) {
    if (anybody_offers(collection)) {
      atomic_fetch_add_full(&collection->busy, 1);
      return true;
    }
    if (atomic_load_acquire(&collection->busy) == 0) {
      /* Who was busy last may have offered something before. */
      if (!anybody_offers(collection)) return false;
      continue;
    }
    sched_yield();
  }
}

void mirt_gc_trace(mirt_marker_t *marker) {
  atomic_fetch_add_full(&marker->collection->busy, 1);
  marker_trace(marker);
}

void marker_trace(mirt_marker_t *marker) {
  struct collection *collection = marker->collection;
  for (;;) {
    marker_drain(marker);
    if (collection->is_parallel && steal(marker)) continue;
    atomic_fetch_add_full(&collection->idle, 1);
    atomic_fetch_sub_full(&collection->busy, 1);
    const bool go_on = collection->is_parallel && wait_for_work(collection);
    atomic_fetch_sub_full(&collection->idle, 1);
    if (!go_on) return;
  }
}

/* ---- when the stacks had no memory ---- */

static bool retrace_page(struct page *page, void *argument) {
  mirt_marker_t *marker = argument;
  const struct type *type = page_type(marker->runtime, page);
  if (type == NULL || !type->has_references) return true;
  const size_t count = atomic_load_relaxed(&page->group_count);
  for (size_t i = 0; i < count; i++) {
    uint64_t left = atomic_load_relaxed(&page_mark(page)[i]);
    for (; left != 0; left &= left - 1) {
      trace_object(marker, page_block(page, i * WORD_BITS + bits_lowest(left)));
      marker_drain(marker);
    }
  }
  return true;
}

void collection_drain(struct collection *collection) {
  mirt_marker_t *marker = &collection->markers[0];
  do {
    for (size_t i = 0; i < collection->marker_count; i++) {
      marker_drain(&collection->markers[i]);
    }
    if (atomic_exchange_full(&collection->is_overflown, 0) == 0) return;
    pages_for_each_in(collection->runtime->arena, retrace_page, marker);
  } while (true);
}
