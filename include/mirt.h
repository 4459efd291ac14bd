/* mirt.h - the runtime-facing layer of mirt.
 *
 * mimalloc.h is the allocator's general interface: blocks, heaps, arenas. This header and
 * the ones it includes add what a language runtime needs on top of it:
 *
 *   mirt/runtime.h    the heap of a virtual machine, its budget
 *   mirt/type.h       types of objects: sizes, references, finalizers
 *   mirt/new.h        allocating objects, inline
 *   mirt/gc.h         marking, sweeping, weak references, what is at an address
 *   mirt/safepoint.h  stopping threads for a collection
 *   mirt/cage.h       32-bit compressed references, with mirt/ref.h
 *   mirt/mutator.h    owners of heaps that move between threads
 *   mirt/tag.h        which blocks may replace each other
 *   mirt/epoch.h      pages that wait for readers before they are reused
 *   mirt/foreign.h    beside another allocator
 *   mirt/visit.h      every live block; mirt/stats.h numbers; mirt/arena.h arenas
 *
 * Include this one file; it brings mimalloc.h with it.
 *
 * Where a text says "one line through the registered error function", the function of
 * mi_register_error is called with the code, and the line, which names the function and the
 * values, goes to that of mi_register_output, or to standard error with
 * mi_option_show_errors. Nothing is printed by itself.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_H
#define MIRT_H

#include <mimalloc.h>
#include <mirt/arena.h>
#include <mirt/cage.h>
#include <mirt/epoch.h>
#include <mirt/foreign.h>
#include <mirt/gc.h>
#include <mirt/mutator.h>
#include <mirt/new.h>
#include <mirt/ref.h>
#include <mirt/runtime.h>
#include <mirt/safepoint.h>
#include <mirt/stats.h>
#include <mirt/tag.h>
#include <mirt/type.h>
#include <mirt/visit.h>

#endif /* MIRT_H */
