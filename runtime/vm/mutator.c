#include <mirt/mutator.h>

#include <errno.h>

#include "base/log.h"
#include "heap/owner.h"

/* A mutator is an owner; the program knows it by a name of its own. */
static struct owner *owner_of(mirt_mutator_t *mutator) {
  return (struct owner *)(void *)mutator;
}

static mirt_mutator_t *mutator_of(struct owner *owner) {
  return (mirt_mutator_t *)(void *)owner;
}

static int fails(int code, const char *function, const mirt_mutator_t *mutator,
                 const char *why) {
  log_error(code, function, "mutator %p %s", (const void *)mutator, why);
  return code;
}

mirt_mutator_t *mirt_mutator_create(void) {
  struct owner *owner = owner_create();
  if (owner == NULL) log_error(ENOMEM, "mirt_mutator_create", "no memory for the record");
  return mutator_of(owner);
}

int mirt_mutator_bind(mirt_mutator_t *mutator) {
  if (mutator == NULL) return fails(EINVAL, "mirt_mutator_bind", mutator, "is none");
  if (owner_bind(owner_of(mutator))) return 0;
  return fails(EBUSY, "mirt_mutator_bind", mutator, "is bound already");
}

int mirt_mutator_unbind(mirt_mutator_t *mutator) {
  if (mutator == NULL) return fails(EINVAL, "mirt_mutator_unbind", mutator, "is none");
  if (current.owner != owner_of(mutator)) {
    return fails(EPERM, "mirt_mutator_unbind", mutator, "was not bound last here");
  }
  owner_unbind();
  return 0;
}

mirt_mutator_t *mirt_mutator_current(void) {
  struct owner *owner = current.owner;
  return owner != NULL && owner->is_mutator ? mutator_of(owner) : NULL;
}

int mirt_mutator_destroy(mirt_mutator_t *mutator) {
  if (mutator == NULL) return fails(EINVAL, "mirt_mutator_destroy", mutator, "is none");
  if (owner_destroy(owner_of(mutator))) return 0;
  return fails(EBUSY, "mirt_mutator_destroy", mutator, "is bound");
}
