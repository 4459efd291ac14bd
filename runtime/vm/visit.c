#include <mirt/visit.h>

#include "heap/visit.h"
#include "vm/runtime.h"

#include "heap/heap.h"

bool mirt_visit_owner_heaps(mirt_mutator_t *mutator, bool visit_blocks,
                            mi_block_visit_fun *visitor, void *arg) {
  if (visitor == NULL) return false;
  const struct visit visit = {visit_blocks, visitor, arg};
  const struct owner *owner = mutator != NULL ? mutator->owner : current.owner;
  if (owner == NULL) return true;
  for (const mi_heap_t *heap = owner->heaps; heap != NULL; heap = heap->next) {
    if (!heap_visit(heap, &visit)) return false;
  }
  return true;
}

bool mirt_visit_tag(int tag, bool visit_blocks, mi_block_visit_fun *visitor, void *arg) {
  if (visitor == NULL) return false;
  const struct visit visit = {visit_blocks, visitor, arg};
  return tag_visit(tag, &visit);
}
