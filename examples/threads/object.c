#include "object.h"

heap_t heap;

/* ---- the heap ---- */

/* All objects of a kind but texts have the same number of slots, so that they get blocks of
 * exactly their size. */
static size_t slots_of(kind_t kind) {
  static const size_t slots[KINDS] = {DOCUMENTS, 2, BRANCHES, 0};
  return slots[kind];
}

static const mirt_type_t *type_begin(kind_t kind, const char *name) {
  const unsigned slot_size = heap.cage != NULL ? sizeof(mirt_ref_t) : sizeof(void *);
  mirt_type_options_t options = {.name = name, .size = sizeof(object_t)};
  if (kind == TEXT) {
    options.is_variable = true;
  } else {
    options.size += slots_of(kind) * slot_size;
    options.slot_size = slot_size;
    options.is_array = true;
    options.array_offset = sizeof(object_t);
  }
  const mirt_type_t *type = mirt_type_new(heap.runtime, &options);
  check(type != NULL);
  return type;
}

void heap_begin(bool has_refs, size_t soft_limit, size_t hard_limit,
                mirt_budget_fun *on_soft_limit) {
  const mirt_cage_options_t any_cage = {0};
  const mirt_runtime_options_t options = {.cage = has_refs ? &any_cage : NULL,
                                          .soft_limit = soft_limit,
                                          .hard_limit = hard_limit,
                                          .on_soft_limit = on_soft_limit};
  check(mirt_runtime_create(&options, &heap.runtime) == 0);
  heap.cage = mirt_runtime_cage(heap.runtime);
  heap.types[TABLE] = type_begin(TABLE, "table");
  heap.types[VERSION] = type_begin(VERSION, "version");
  heap.types[NODE] = type_begin(NODE, "node");
  heap.types[TEXT] = type_begin(TEXT, "text");
}

/* ---- objects ---- */

object_t *object_new(worker_t *worker, kind_t kind, size_t count) {
  const mirt_type_t *type = heap.types[kind];
  check(kind == TEXT || count == slots_of(kind));
  object_t *object = kind == TEXT ? mirt_new_sized_zeroed(worker->mutator, type,
                                                          sizeof(object_t) + count)
                                  : mirt_new_zeroed(worker->mutator, type);
  check(object != NULL);
  object->kind = kind;
  object->count = (uint32_t)count;
  return root_push(worker, object);
}

/* (Fowler, Noll, Vo 1991, with words for bytes.) */
static uint64_t add(uint64_t sum, uint64_t word) {
  sum = (sum ^ word) * 0x100000001b3u;
  return sum ^ (sum >> 29);
}

uint64_t object_sum(const object_t *object) {
  uint64_t sum = add(add(object->kind + 1, object->count), object->number);
  for (size_t i = 0; i < object->count; i++) {
    if (object->kind == TEXT) {
      sum = add(sum, (unsigned char)text_bytes(object)[i]);
    } else {
      const object_t *other = slot_get(object, i);
      sum = add(sum, other == NULL ? 0 : other->sum);
    }
  }
  return sum;
}
