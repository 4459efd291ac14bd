/* zone.h - memory for mirt's own records: owners, heaps, cells, chunks of page pointers.
 *
 * Invariant: a record given back is reused only for the same kind of record and is never
 * unmapped while its zone lives, so a thread that holds a stale pointer to one reads a
 * record of that kind, and nothing else. No locks: free records lie on lock-free stacks.
 *
 * Each arena has a zone in its metadata, for the heaps that are bound to it. Everything
 * else is in the process's own zone, which begins in static storage. Zones grow, by
 * mappings with guard pages around them, or by slices of an arena over memory of the
 * user's.
 */
#ifndef MIRT_ARENA_ZONE_H
#define MIRT_ARENA_ZONE_H

#include "base/record_stack.h"

enum record_kind {
  RECORD_OWNER,
  RECORD_MUTATOR,
  RECORD_HEAP,
  RECORD_CELL,
  RECORD_CHUNK,
  RECORD_MAPPING,
  RECORD_SUBPROCESS,
  RECORD_CAGE,
  RECORD_SAFEPOINT,
  RECORD_STACK,
  RECORD_KINDS
};

/* A run of memory from which records are cut. It describes itself, in its first bytes, but for
 * the static one, which is all zeros so that it takes no room in the library's file. */
struct zone_extent {
  char *memory;
  atomic_word used; /* bytes cut so far, this header included */
  size_t size;      /* bytes in all */
  struct zone_extent *before;
};

struct zone;

/* Get a zone more memory, for ever. Returns NULL when there is none. */
typedef void *zone_source(struct zone *zone, size_t *size);
zone_source zone_take_from_system;

/* For records that belong to no arena: where an option forbids to ask the system, from an
 * arena that serves everybody. */
zone_source zone_take_for_process;

struct zone {
  struct record_stack free[RECORD_KINDS];
  atomic_word extent; /* the struct zone_extent we cut from now */
  zone_source *source;
};

extern struct zone process_zone;

/* Prepare a zone over memory. */
void zone_initialize(struct zone *zone, void *memory, size_t size, zone_source *source);

/* Take a record of size bytes; size is the same for every record of a kind. Its first
 * member is a struct free_record that belongs to the zone; all else is zero. Returns NULL
 * when its source has no memory. */
void *zone_take(struct zone *zone, enum record_kind kind, size_t size);

/* Give a record back. */
void zone_give(struct zone *zone, enum record_kind kind, void *record);

#endif
