#include "arena/zone.h"

#include <string.h>

#include "base/bits.h"
#include "os/os.h"

#define RECORD_ALIGNMENT ((size_t)64)
#define STATIC_BYTES (256 * KiB)
#define EXTENT_BYTES (256 * KiB)

static char static_memory[STATIC_BYTES] __attribute__((aligned(64)));
static struct zone_extent static_extent = {.memory = static_memory, .size = STATIC_BYTES};

void *zone_take_from_system(struct zone *zone, size_t *size) {
  (void)zone;
  *size = EXTENT_BYTES;
  return os_reserve_guarded(EXTENT_BYTES);
}

struct zone process_zone = {.extent = (AO_t)&static_extent,
                            .source = zone_take_for_process};

static struct zone_extent *extent_initialize(void *memory, size_t size) {
  struct zone_extent *extent = memory;
  extent->memory = memory;
  extent->size = size;
  extent->before = NULL;
  atomic_store_release(&extent->used, RECORD_ALIGNMENT);
  return extent;
}

void zone_initialize(struct zone *zone, void *memory, size_t size, zone_source *source) {
  memset(zone, 0, sizeof *zone);
  zone->source = source;
  atomic_store_release(&zone->extent, (uintptr_t)extent_initialize(memory, size));
}

/* Cut bytes off an extent, or return NULL when it has not enough left. */
static void *extent_cut(struct zone_extent *extent, size_t size) {
  for (;;) {
    const size_t used = atomic_load_acquire(&extent->used);
    if (size > extent->size - used) return NULL;
    if (atomic_compare_and_swap_full(&extent->used, used, used + size)) {
      return extent->memory + used;
    }
  }
}

/* Cut from a new extent from now on. What is left of the one before is lost. */
static bool zone_grow(struct zone *zone) {
  size_t size;
  void *memory = zone->source(zone, &size);
  if (memory == NULL) return false;
  struct zone_extent *extent = extent_initialize(memory, size);
  uintptr_t before;
  do {
    before = atomic_load_acquire(&zone->extent);
    extent->before = (struct zone_extent *)before;
  } while (!atomic_compare_and_swap_full(&zone->extent, before, (uintptr_t)extent));
  return true;
}

static void *zone_cut(struct zone *zone, size_t size) {
  void *record;
  do {
    struct zone_extent *extent = (struct zone_extent *)atomic_load_acquire(&zone->extent);
    record = extent_cut(extent, size);
  } while (record == NULL && zone_grow(zone));
  return record;
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
