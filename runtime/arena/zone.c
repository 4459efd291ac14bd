#include "arena/zone.h"

#include <string.h>

#include "base/bits.h"
#include "os/os.h"

#define RECORD_ALIGNMENT ((size_t)64)
#define STATIC_BYTES (64 * KiB)
#define EXTENT_BYTES (256 * KiB)

static union {
  struct zone_extent extent;
  char bytes[STATIC_BYTES];
} static_memory __attribute__((aligned(64))) = {
    .extent = {.used = RECORD_ALIGNMENT, .size = STATIC_BYTES}};

static void *take_from_system(struct zone *zone, size_t *size) {
  (void)zone;
  *size = EXTENT_BYTES;
  return os_reserve_guarded(EXTENT_BYTES);
}

static void give_to_system(struct zone *zone, void *memory, size_t size) {
  (void)zone;
  os_release_guarded(memory, size);
}

const struct zone_source zone_from_system = {take_from_system, give_to_system};

struct zone process_zone = {.extent = (AO_t)&static_memory, .source = &zone_from_system};

static struct zone_extent *extent_initialize(void *memory, size_t size,
                                             uintptr_t before) {
  struct zone_extent *extent = memory;
  extent->size = size;
  extent->before = (struct zone_extent *)before;
  atomic_store_release(&extent->used, RECORD_ALIGNMENT);
  return extent;
}

void zone_initialize(struct zone *zone, void *memory, size_t size,
                     const struct zone_source *source) {
  memset(zone, 0, sizeof *zone);
  zone->source = source;
  atomic_store_release(&zone->extent, (uintptr_t)extent_initialize(memory, size, 0));
}

/* Cut bytes off an extent, or return NULL when it has not enough left. */
static void *extent_cut(struct zone_extent *extent, size_t size) {
  for (;;) {
    const size_t used = atomic_load_acquire(&extent->used);
    if (size > extent->size - used) return NULL;
    if (atomic_compare_and_swap_full(&extent->used, used, used + size)) {
      return (char *)extent + used;
    }
  }
}

static void *zone_cut(struct zone *zone, size_t size) {
  for (;;) {
    const uintptr_t seen = atomic_load_acquire(&zone->extent);
    void *record = extent_cut((struct zone_extent *)seen, size);
    if (record != NULL) return record;
    size_t more;
    void *memory = zone->source->take(zone, &more);
    if (memory == NULL) return NULL;
    const uintptr_t fresh = (uintptr_t)extent_initialize(memory, more, seen);
    if (!atomic_compare_and_swap_full(&zone->extent, seen, fresh)) {
      zone->source->give(zone, memory, more); /* another thread grew it first */
    }
  }
}

void *zone_take(struct zone *zone, enum record_kind kind, size_t size) {
  void *record = record_stack_pop(&zone->free[kind]);
  size = align_up(size, RECORD_ALIGNMENT);
  if (record == NULL) record = zone_cut(zone, size);
  if (record != NULL) {
    /* Not the link: a thread that lost a race for this record may still read it. */
    memset((char *)record + sizeof(struct free_record), 0,
           size - sizeof(struct free_record));
  }
  return record;
}

void zone_give(struct zone *zone, enum record_kind kind, void *record) {
  record_stack_push(&zone->free[kind], record);
}
