/* mirt/python.h - CPython on mirt.
 *
 * Invariant: a block belongs to the domain that it was allocated in, and lies in a heap with that
 * domain's tag, whichever thread allocated it; resizing keeps it there. What another allocator
 * handed out before goes back to that one.
 *
 * CPython allocates in three domains: "raw", which needs no GIL, "mem" for buffers, and "object".
 * Each thread that allocates gets a heap of its own for each; a block is freed by whoever has it. So
 * a thread that binds a mutator (mirt/mutator.h) does so before it first allocates in CPython, or
 * runs no Python while it is bound: the heaps belong to the owner that was current then.
 *
 *   mirt_python_install(NULL);
 *   PyImport_AppendInittab("mirt", mirt_python_module);   // if scripts should see it
 *   Py_Initialize();
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_PYTHON_H
#define MIRT_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <mirt.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mirt_python_options_s {
  int first_tag;       /* of the domain "raw"; "mem" and "object" have the next two; 0: 1 */
  mi_arena_id_t arena; /* take all memory from this arena; 0: from any that is not exclusive */
  bool sealed;         /* addresses of a domain never go to another (mirt_tag_seal) */
} mirt_python_options_t;

/* Have CPython allocate from mirt in all its domains, from now on.
 *   options  NULL for the defaults
 * Call it before Py_Initialize; after Py_PreInitialize if that is called, which may choose
 * allocators too (PYTHONMALLOC). Later is allowed, while no other thread runs Python: what
 * has been allocated before is resized and freed by the allocator before.
 * Returns 0, or an error code; then CPython's allocators are as they were:
 *   EINVAL  a tag is not in 1 to MIRT_TAG_MAX, or there is no such arena
 *   EBUSY   it has been done already, or a tag to be sealed has been used
 *   ENOMEM  no memory
 * One thread may call it, once. It cannot be undone. */
int mirt_python_install(const mirt_python_options_t* options);

/* Is that done? Any thread may call it. No errors. */
bool mirt_python_is_installed(void);

/* The domains in the order of their tags. */
enum { MIRT_PYTHON_RAW, MIRT_PYTHON_MEM, MIRT_PYTHON_OBJECT, MIRT_PYTHON_DOMAINS };

/* "raw", "mem" or "object"; and the domain's tag, -1 before mirt_python_install. */
const char* mirt_python_domain_name(int domain);
int mirt_python_domain_tag(int domain);

/* Makes the built-in module `mirt`, for PyImport_AppendInittab: what Python code may ask about
 * its memory. help(mirt) lists its functions. It also works when CPython is on another
 * allocator; then the numbers are 0. */
PyObject* mirt_python_module(void);

#ifdef __cplusplus
}
#endif

#endif /* MIRT_PYTHON_H */
