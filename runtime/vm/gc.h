/* gc.h - the memory of collections. */
#ifndef MIRT_VM_GC_H
#define MIRT_VM_GC_H

#include <mirt/runtime.h>

/* Give it back: the runtime ends. */
/* Does a collection run, or a finalizer? */
bool gc_is_active(const mirt_runtime_t *runtime);

void gc_release(mirt_runtime_t *runtime);

#endif
