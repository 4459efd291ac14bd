#include <errno.h>
#include <string.h>

#include <mirt/tag.h>

#include "base/log.h"
#include "heap/page.h"
#include "os/os.h"
#include "vm/runtime.h"

static bool wrong(const mirt_type_options_t *options, const char *why, size_t value) {
  log_error(EINVAL, "mirt_type_new", "type \"%s\": %s: %zu",
            options->name == NULL ? "" : options->name, why, value);
  return false;
}

/* ---- checking ---- */

static bool slots_are_right(const mirt_runtime_t *runtime, const mirt_type_options_t *o) {
  const size_t unit = o->slot_size;
  if (unit == 0) {
    if (o->map_slots != 0) return wrong(o, "a map without slot_size", o->map_slots);
    if (o->is_array) return wrong(o, "an array without slot_size", o->array_offset);
    return true;
  }
  if (unit != 4 && unit != 8) return wrong(o, "slot_size is not 4 or 8", unit);
  if ((o->immediate_value & ~o->immediate_mask) != 0 ||
      (unit == 4 && o->immediate_mask > UINT32_MAX)) {
    return wrong(o, "immediate_mask does not fit", o->immediate_mask);
  }
  if (unit == 4 && runtime->cage == NULL) return wrong(o, "refs without a cage", unit);
  if (o->trace != NULL) return wrong(o, "both slots and a trace function", unit);
  if (o->map_slots != 0 && o->map == NULL) return wrong(o, "no map", o->map_slots);
  if (o->map_slots > o->size / unit) {
    return wrong(o, "the map reaches past the size", o->map_slots);
  }
  if (!o->is_array) return true;
  if (o->array_offset % unit != 0) {
    return wrong(o, "the array's slots are not aligned", o->array_offset);
  }
  if (o->array_offset > o->size) {
    return wrong(o, "the array begins past the size", o->array_offset);
  }
  return true;
}

static bool options_are_right(const mirt_runtime_t *runtime,
                              const mirt_type_options_t *o) {
  if (o->size == 0 && !o->is_variable) return wrong(o, "size is", 0);
  if (o->size > PTRDIFF_MAX) return wrong(o, "size is too large", o->size);
  if ((o->alignment & (o->alignment - 1)) != 0) {
    return wrong(o, "alignment is no power of two", o->alignment);
  }
  if (o->alignment > SLICE_SIZE) return wrong(o, "alignment", o->alignment);
  if (o->tag < 0 || o->tag > MIRT_TAG_MAX) {
    return wrong(o, "tag is out of range", (size_t)o->tag);
  }
  if (type_of_tag(runtime, (unsigned)o->tag) != NULL) {
    return wrong(o, "tag is another type's", (size_t)o->tag);
  }
  return slots_are_right(runtime, o);
}

/* ---- tags ---- */

/* A tag that no type of the runtime has: for a sealed type the highest that can be sealed, else
 * the lowest that is not, of the upper half, so as not to meet tags that the program chooses.
 * Returns 0 when there is none. */
static int find_tag(const mirt_runtime_t *runtime, bool is_sealed) {
  for (int i = 1; i <= MIRT_TAG_MAX; i++) {
    const int tag =
        is_sealed ? MIRT_TAG_MAX + 1 - i : (i + MIRT_TAG_MAX / 2) % MIRT_TAG_MAX + 1;
    if (type_of_tag(runtime, (unsigned)tag) != NULL) continue;
    if (is_sealed ? tag_seal((unsigned)tag) : !tag_is_sealed((unsigned)tag)) return tag;
  }
  return 0;
}

static int choose_tag(const mirt_runtime_t *runtime, const mirt_type_options_t *options) {
  if (options->tag == 0) return find_tag(runtime, options->is_sealed);
  if (!options->is_sealed || tag_seal((unsigned)options->tag)) return options->tag;
  return 0;
}

/* ---- making ---- */

/* Copy the map. Returns false without memory. */
static bool copy_map(struct type *type, const mirt_type_options_t *options) {
  const size_t bytes = (options->map_slots + 63) / 64 * sizeof(uint64_t);
  type->map_slots = options->map_slots;
  type->map = &type->small_map;
  if (bytes <= sizeof type->small_map) {
    if (bytes != 0) type->small_map = options->map[0];
  } else {
    type->map_bytes = align_up(bytes, os_page_size());
    uint64_t *map = os_reserve(type->map_bytes, os_page_size(), true);
    if (map == NULL) return false;
    memcpy(map, options->map, bytes);
    type->map = map;
  }
  /* No bits behind the last slot. */
  uint64_t *last =
      (uint64_t *)type->map + (bytes == 0 ? 0 : bytes / sizeof(uint64_t) - 1);
  if (type->map_slots % 64 != 0) *last &= bits_below(type->map_slots % 64);
  return true;
}

void type_release_map(struct type *type) {
  if (type->map_bytes != 0) os_release((void *)type->map, type->map_bytes);
}

static size_t least_alignment(const mirt_runtime_t *runtime) {
  const size_t unit = runtime->cage == NULL ? 1 : (size_t)1 << runtime->cage->shift;
  return unit < 8 ? 8 : unit;
}

static struct type *make(mirt_runtime_t *runtime, const mirt_type_options_t *options) {
  const size_t index = atomic_load_relaxed(&runtime->type_count);
  if (index == runtime->type_limit) {
    log_error(ENOSPC, "mirt_type_new", "the runtime has %zu types", index);
    return NULL;
  }
  struct type *type = &runtime->types[index];
  memset(type, 0, sizeof *type);
  if (!copy_map(type, options)) {
    log_error(ENOMEM, "mirt_type_new", "no memory for a map of %zu slots",
              options->map_slots);
    return NULL;
  }
  const int tag = choose_tag(runtime, options);
  if (tag == 0) {
    type_release_map(type);
    if (options->tag == 0) {
      log_error(ENOSPC, "mirt_type_new", "there is no tag left");
    } else {
      log_error(EBUSY, "mirt_type_new", "the tag has been in use unsealed: %d",
                options->tag);
    }
    return NULL;
  }
  type->slot_size = (uint8_t)options->slot_size;
  type->has_references = options->slot_size != 0 || options->trace != NULL;
  type->is_variable = options->is_variable;
  type->is_array = options->is_array;
  type->array_offset = options->array_offset;
  type->has_more_than_map =
      options->trace != NULL || options->is_array || options->map_slots > 64;
  type->immediate_mask =
      options->immediate_mask == 0 ? UINT64_MAX : options->immediate_mask;
  type->immediate_value = options->immediate_value;
  if (options->slot_size == sizeof(mirt_ref_t)) type->immediate_mask &= UINT32_MAX;
  type->trace = options->trace;
  type->finalize = options->finalize;
  type->arg = options->arg;
  type->alignment = least_alignment(runtime);
  if (options->alignment > type->alignment) type->alignment = options->alignment;
  mirt_type_t *public = &type->public;
  public->cell = (uint32_t)(MUTATOR_CELLS + index * CELL_STRIDE);
  public->size = options->size;
  if (!options->is_variable) {
    const size_t least = options->size < BLOCK_MIN ? BLOCK_MIN : options->size;
    public->block_size = align_up(least, type->alignment);
  }
  public->tag = tag;
  public->runtime = runtime;
  if (options->name != NULL) {
    strncpy(public->name, options->name, sizeof public->name - 1);
  }
  if (options->finalize != NULL) runtime->finalizable_types++;
  atomic_store_release(&runtime->by_tag[tag], (uintptr_t)type);
  atomic_store_release(&runtime->type_count, index + 1);
  return type;
}

mirt_type_t *mirt_type_new(mirt_runtime_t *runtime, const mirt_type_options_t *options) {
  if (runtime == NULL || options == NULL) {
    log_error(EINVAL, "mirt_type_new", "runtime %p, options %p", (void *)runtime,
              (const void *)options);
    return NULL;
  }
  pthread_mutex_lock(&runtime->lock);
  struct type *type = NULL;
  if (options_are_right(runtime, options)) type = make(runtime, options);
  pthread_mutex_unlock(&runtime->lock);
  return type == NULL ? NULL : &type->public;
}
