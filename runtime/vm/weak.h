/* weak.h - weak references and ephemerons of a runtime.
 *
 * Invariant: a record is in use exactly when its `object` is not itself, and what it refers
 * to is alive, or has been since the last collection. Only threads with the runtime's lock make
 * and delete records, and the collection, while the world is stopped, clears them.
 */
#ifndef MIRT_VM_WEAK_H
#define MIRT_VM_WEAK_H

#include "vm/mark.h"

/* Mark the values of ephemerons whose object is marked, in the order in which they were made, or
 * in the reverse one. Returns whether there was any that was not marked before. */
bool weak_mark_values(mirt_marker_t *marker, bool oldest_first);

/* Clear the references to objects without a mark. Returns how many. */
size_t weak_clear(mirt_runtime_t *runtime);

/* Clear the references to one object, and those that it owns. */
void weak_forget(mirt_runtime_t *runtime, const void *object);

/* Give the records' memory back: the runtime ends. */
void weak_release(mirt_runtime_t *runtime);

#endif
