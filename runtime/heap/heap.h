/* heap.h - an array of cells, one per size class, that share a tag and an arena.
 *
 * Invariant: cells are made when first needed; until then the fast table points to the
 * empty cell, which always takes the slow path. A heap bound to an arena takes memory and
 * records from there and nowhere else.
 */
#ifndef MIRT_HEAP_HEAP_H
#define MIRT_HEAP_HEAP_H

#include <mimalloc.h>

#include "arena/arena.h"
#include "base/stats.h"
#include "heap/cell.h"
#include "heap/owner.h"
#include "heap/size_class.h"

#define FAST_SIZE_MAX ((size_t)MI_SMALL_SIZE_MAX)
#define FAST_COUNT (FAST_SIZE_MAX / BLOCK_MIN + 1)
#define HEAP_TAG_MAX 32767

struct mi_heap_s {
  struct free_record link;
  struct cell *fast[FAST_COUNT];  /* by (size + 15) / 16 */
  struct cell *cells[CELL_COUNT]; /* by size class; the last: larger blocks */
  struct owner *owner;
  mi_heap_t *next, *previous; /* in the owner's list */
  struct arena *arena;        /* the one it is bound to, or NULL */
  uint16_t tag;
  uint8_t block_offset; /* of its tag: see runtime/arena/tag.h */
  bool allow_destroy;
  struct { /* sampling of guarded blocks; rate 0: none */
    size_t rate, count, least, most;
  } guarded;
  atomic_word references; /* the heap itself, and chunks of its cells */
  struct holding holding;
};

/* The heap of threads that have not allocated yet. */
extern mi_heap_t heap_empty;

/* Make a heap for an owner; it takes over the caller's pin of the arena, if there is one.
 * Returns NULL without memory. */
mi_heap_t *heap_create(struct owner *owner, unsigned tag, bool allow_destroy,
                       struct arena *arena);

/* Keep the record of a heap; let it go: the last one gives it back to its zone. */
void heap_keep(mi_heap_t *heap);
void heap_let_go(mi_heap_t *heap);

/* Abandon the live pages of a heap, give back the rest, and the heap's records. */
void heap_abandon(mi_heap_t *heap);

/* Give back all pages of a heap, live or not, and the heap's records. */
void heap_free_all(mi_heap_t *heap);

/* The calling thread's backing heap, made if needed: a thread that uses other heaps only
 * never has one. NULL without memory. */
mi_heap_t *heap_backing(void);

/* The heap itself, or the calling thread's when it is the empty one. NULL without
 * memory. */
mi_heap_t *heap_ready(mi_heap_t *heap);

/* The cell for a size class, made if needed; NULL without memory. */
struct cell *heap_cell(mi_heap_t *heap, size_t class_index);

/* Point the fast table at the heap's cells. */
void heap_open_fast_paths(mi_heap_t *heap);

/* A page for a cell: an abandoned one, or fresh slices. The cell owns it then. */
struct page *heap_adopt_page(struct cell *cell);
struct page *heap_fresh_page(struct cell *cell);

/* Where the records of a heap come from. */
static inline struct zone *heap_zone(const mi_heap_t *heap) {
  return heap->arena != NULL ? &heap->arena->zone : &process_zone;
}

#endif
