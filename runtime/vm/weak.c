#include "vm/weak.h"

#include <errno.h>

#include "base/log.h"
#include "os/os.h"
#include "vm/mark.h"

#define BLOCK_BYTES ((size_t)64 * KiB)

struct mirt_weak_s {
  void *object; /* NULL when it has died; the record itself when that is free */
  void *value;
  void *owner; /* or NULL */
  mirt_weak_t *next_free;
};

#define BLOCK_RECORDS ((BLOCK_BYTES - 2 * sizeof(void *)) / sizeof(mirt_weak_t))

struct weak_block {
  struct weak_block *older, *newer;
  mirt_weak_t records[BLOCK_RECORDS];
};

static bool is_free(const mirt_weak_t *weak) { return weak->object == weak; }

/* ---- records ---- */

static void add_free(mirt_runtime_t *runtime, mirt_weak_t *weak) {
  weak->object = weak;
  weak->value = NULL;
  weak->next_free = runtime->free_weak;
  runtime->free_weak = weak;
}

static bool add_block(mirt_runtime_t *runtime) {
  struct weak_block *block = os_reserve(BLOCK_BYTES, BLOCK_BYTES, true);
  if (block == NULL) return false;
  block->older = runtime->newest_weak;
  block->newer = NULL;
  if (block->older != NULL) block->older->newer = block;
  if (block->older == NULL) runtime->oldest_weak = block;
  runtime->newest_weak = block;
  for (size_t i = BLOCK_RECORDS; i-- > 0;) add_free(runtime, &block->records[i]);
  return true;
}

static bool is_object(const mirt_runtime_t *runtime, const void *p, const char *what) {
  if (mirt_find(runtime, (uintptr_t)p, NULL)) return true;
  log_error(EINVAL, "mirt_weak_new", "%s %p is no object of the runtime", what, p);
  return false;
}

mirt_weak_t *mirt_weak_new_in(mirt_runtime_t *runtime, void *owner, void *object,
                              void *value) {
  if (runtime == NULL || object == NULL) {
    log_error(EINVAL, "mirt_weak_new", "runtime %p, object %p", (void *)runtime, object);
    return NULL;
  }
  if (!is_object(runtime, object, "object") ||
      (value != NULL && !is_object(runtime, value, "value")) ||
      (owner != NULL && !is_object(runtime, owner, "owner"))) {
    return NULL;
  }
  pthread_mutex_lock(&runtime->lock);
  mirt_weak_t *weak = NULL;
  if (runtime->free_weak != NULL || add_block(runtime)) {
    weak = runtime->free_weak;
    runtime->free_weak = weak->next_free;
    runtime->weak_count++;
    runtime->weak_made++;
    weak->object = object;
    weak->value = value;
    weak->owner = owner;
  }
  pthread_mutex_unlock(&runtime->lock);
  if (weak == NULL) log_error(ENOMEM, "mirt_weak_new", "no memory for the record");
  return weak;
}

mirt_weak_t *mirt_weak_new(mirt_runtime_t *runtime, void *object, void *value) {
  return mirt_weak_new_in(runtime, NULL, object, value);
}

void mirt_weak_delete(mirt_runtime_t *runtime, mirt_weak_t *weak) {
  if (weak == NULL) return;
  if (runtime == NULL || is_free(weak)) {
    log_error(EINVAL, "mirt_weak_delete", "runtime %p, weak reference %p",
              (void *)runtime, (void *)weak);
    return;
  }
  pthread_mutex_lock(&runtime->lock);
  add_free(runtime, weak);
  runtime->weak_count--;
  pthread_mutex_unlock(&runtime->lock);
}

void *mirt_weak_get(const mirt_weak_t *weak) { return weak->object; }

void *mirt_weak_value(const mirt_weak_t *weak) { return weak->value; }

void mirt_weak_set_value(mirt_weak_t *weak, void *value) {
  if (weak->object != NULL) weak->value = value;
}

void weak_release(mirt_runtime_t *runtime) {
  while (runtime->newest_weak != NULL) {
    struct weak_block *block = runtime->newest_weak;
    runtime->newest_weak = block->older;
    os_release(block, BLOCK_BYTES);
  }
}

/* ---- collecting ---- */

/* Live the object and, if there is one, the owner, as far as marks say? */
static bool is_held(const mirt_runtime_t *runtime, const mirt_weak_t *weak) {
  return mirt_is_marked(runtime, weak->object) &&
         (weak->owner == NULL || mirt_is_marked(runtime, weak->owner));
}

/* With all that it refers to, so that the next one looked at may depend on it. */
static bool mark_value(mirt_marker_t *marker, const mirt_weak_t *weak) {
  const mirt_runtime_t *runtime = marker->runtime;
  if (weak->value == NULL || mirt_is_marked(runtime, weak->value)) return false;
  if (!is_held(runtime, weak)) return false;
  mirt_mark(marker, weak->value);
  marker_drain(marker);
  return true;
}

bool weak_mark_values(mirt_marker_t *marker, bool oldest_first) {
  const mirt_runtime_t *runtime = marker->runtime;
  bool any = false;
  const struct weak_block *block =
      oldest_first ? runtime->oldest_weak : runtime->newest_weak;
  while (block != NULL) {
    for (size_t i = 0; i < BLOCK_RECORDS; i++) {
      const size_t record = oldest_first ? i : BLOCK_RECORDS - 1 - i;
      any |= mark_value(marker, &block->records[record]);
    }
    block = oldest_first ? block->newer : block->older;
  }
  return any;
}

/* Returns whether it was cleared. An object that waits for its finalizer keeps no value alive. */
static bool clear(const mirt_runtime_t *runtime, mirt_weak_t *weak) {
  if (is_held(runtime, weak)) {
    if (weak->value != NULL && !mirt_is_marked(runtime, weak->value)) weak->value = NULL;
    return false;
  }
  weak->object = weak->value = weak->owner = NULL;
  return true;
}

size_t weak_clear(mirt_runtime_t *runtime) {
  size_t cleared = 0;
  for (struct weak_block *block = runtime->newest_weak; block != NULL;
       block = block->older) {
    for (size_t i = 0; i < BLOCK_RECORDS; i++) {
      mirt_weak_t *weak = &block->records[i];
      if (!is_free(weak) && weak->object != NULL) cleared += clear(runtime, weak);
    }
  }
  return cleared;
}

void weak_forget(mirt_runtime_t *runtime, const void *object) {
  pthread_mutex_lock(&runtime->lock);
  for (struct weak_block *block = runtime->newest_weak; block != NULL;
       block = block->older) {
    for (size_t i = 0; i < BLOCK_RECORDS; i++) {
      mirt_weak_t *weak = &block->records[i];
      if (is_free(weak)) continue;
      if (weak->value == object) weak->value = NULL;
      if (weak->object != object && weak->owner != object) continue;
      weak->object = weak->value = weak->owner = NULL;
    }
  }
  pthread_mutex_unlock(&runtime->lock);
}
