/* option.h - run-time options.
 *
 * Invariant: an option has its default until its environment variable is read, once, when
 * the process starts; after that only mi_option_set and its kin change it. Each value is
 * one atomic word: any thread may read or set any option at any time.
 */
#ifndef MIRT_BASE_OPTION_H
#define MIRT_BASE_OPTION_H

#include <mimalloc.h>

/* The value of an option; 0 for an option that does not exist. */
long option_get(mi_option_t option);

/* Read the environment: MIMALLOC_<NAME>. Called once, at process start. */
void option_read_environment(void);

#endif
