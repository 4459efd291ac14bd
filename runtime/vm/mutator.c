#include <mirt/mutator.h>

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "os/os.h"
#include "vm/runtime.h"

static int fails(int code, const char *function, const mirt_mutator_t *mutator,
                 const char *why) {
  log_error(code, function, "mutator %p %s", (const void *)mutator, why);
  return code;
}

/* ---- records ---- */

/* Of no runtime: without cells. */
static mirt_mutator_t *record_take(mirt_runtime_t *runtime) {
  if (runtime == NULL) {
    return zone_take(&process_zone, RECORD_MUTATOR, sizeof(mirt_mutator_t));
  }
  pthread_mutex_lock(&runtime->lock);
  mirt_mutator_t *mutator = runtime->free_mutators;
  if (mutator != NULL) runtime->free_mutators = mutator->next;
  pthread_mutex_unlock(&runtime->lock);
  return mutator != NULL ? mutator : os_reserve_guarded(runtime->mutator_size);
}

static void record_give(mirt_mutator_t *mutator) {
  mirt_runtime_t *runtime = mutator->runtime;
  if (runtime == NULL) {
    zone_give(&process_zone, RECORD_MUTATOR, mutator);
    return;
  }
  pthread_mutex_lock(&runtime->lock);
  mutator->next = runtime->free_mutators;
  runtime->free_mutators = mutator;
  pthread_mutex_unlock(&runtime->lock);
}

static void runtime_add(mirt_runtime_t *runtime, mirt_mutator_t *mutator) {
  pthread_mutex_lock(&runtime->lock);
  mutator->next = runtime->mutators;
  runtime->mutators = mutator;
  runtime->mutator_count++;
  pthread_mutex_unlock(&runtime->lock);
}

static void runtime_remove(mirt_runtime_t *runtime, mirt_mutator_t *mutator) {
  pthread_mutex_lock(&runtime->lock);
  mirt_mutator_t **link = &runtime->mutators;
  while (*link != mutator) link = &(*link)->next;
  *link = mutator->next;
  runtime->mutator_count--;
  pthread_mutex_unlock(&runtime->lock);
}

static mirt_mutator_t *mutator_create(const char *function, mirt_runtime_t *runtime) {
  mirt_mutator_t *mutator = record_take(runtime);
  if (mutator != NULL) {
    mutator->runtime = runtime;
    mutator->owner = owner_create(mutator);
    if (mutator->owner == NULL) {
      record_give(mutator);
      mutator = NULL;
    }
  }
  if (mutator == NULL) {
    log_error(ENOMEM, function, "no memory for the record");
  } else if (runtime != NULL) {
    runtime_add(runtime, mutator);
  }
  return mutator;
}

mirt_mutator_t *mirt_mutator_create(void) {
  return mutator_create("mirt_mutator_create", NULL);
}

mirt_mutator_t *mirt_mutator_create_in(mirt_runtime_t *runtime) {
  if (runtime != NULL) return mutator_create("mirt_mutator_create_in", runtime);
  log_error(EINVAL, "mirt_mutator_create_in", "runtime is NULL");
  return NULL;
}

mirt_runtime_t *mirt_mutator_runtime(const mirt_mutator_t *mutator) {
  return mutator == NULL ? NULL : mutator->runtime;
}

/* ---- binding ---- */

int mirt_mutator_bind(mirt_mutator_t *mutator) {
  if (mutator == NULL) return fails(EINVAL, "mirt_mutator_bind", mutator, "is none");
  if (owner_bind(mutator->owner)) return 0;
  return fails(EBUSY, "mirt_mutator_bind", mutator, "is bound already");
}

int mirt_mutator_unbind(mirt_mutator_t *mutator) {
  if (mutator == NULL) return fails(EINVAL, "mirt_mutator_unbind", mutator, "is none");
  if (current.owner != mutator->owner) {
    return fails(EPERM, "mirt_mutator_unbind", mutator, "was not bound last here");
  }
  owner_unbind();
  return 0;
}

mirt_mutator_t *mirt_mutator_current(void) {
  return current.owner == NULL ? NULL : current.owner->mutator;
}

int mirt_mutator_destroy(mirt_mutator_t *mutator) {
  if (mutator == NULL) return fails(EINVAL, "mirt_mutator_destroy", mutator, "is none");
  mirt_runtime_t *runtime = mutator->runtime;
  if (!owner_claim(mutator->owner)) {
    return fails(EBUSY, "mirt_mutator_destroy", mutator, "is bound");
  }
  /* First: the child of a fork finds no mutator whose owner has ended. */
  if (runtime != NULL) runtime_remove(runtime, mutator);
  owner_destroy(mutator->owner);
  if (runtime != NULL) {
    const size_t count = atomic_load_acquire(&runtime->type_count);
    for (size_t i = 0; i < count; i++) {
      struct cell *cell = mutator_cell(mutator, &runtime->types[i].public);
      if (cell->heap != NULL) memset(cell, 0, sizeof *cell);
    }
  }
  record_give(mutator);
  return 0;
}
