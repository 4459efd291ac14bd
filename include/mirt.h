/* mirt.h - the runtime-facing layer of mirt.
 *
 * mimalloc.h is the allocator's general interface: blocks, heaps, arenas. This header and
 * the ones it includes add what a language runtime needs on top of it: cages with 32-bit
 * compressed references, tags that isolate, owners that move between threads, visits, and
 * numbers by heap and tag. Include this one file; it brings mimalloc.h with it.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_H
#define MIRT_H

#include <mimalloc.h>
#include <mirt/arena.h>
#include <mirt/cage.h>
#include <mirt/mutator.h>
#include <mirt/ref.h>
#include <mirt/stats.h>
#include <mirt/tag.h>
#include <mirt/visit.h>

#endif /* MIRT_H */
