/* gc.h - the memory of collections. */
#ifndef MIRT_VM_GC_H
#define MIRT_VM_GC_H

#include <mirt/runtime.h>

/* Give it back: the runtime ends. */
/* Is a collection between its begin and its end? */
bool gc_is_running(const mirt_runtime_t *runtime);

/* Does one run, or a finalizer? */
bool gc_is_active(const mirt_runtime_t *runtime);

void gc_release(mirt_runtime_t *runtime);

#endif
