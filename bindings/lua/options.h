/* options.h - the command line of mirt-lua.
 *
 * Invariant: what options_read leaves alone is for Lua: -e, -l and -W are kept where they
 * are, since their order matters, and options_next gives one after the other.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_LUA_OPTIONS_H
#define MIRT_LUA_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct options {
  char **arguments; /* all, with the program's name */
  int count;
  int script; /* the number of the script among them; count if there is none */
  bool is_interactive, shows_version, ignores_environment, has_statement;
  bool reports, drops;            /* --heap-report, --drop */
  bool wants_help, wants_version; /* --help, --version: do nothing else */
  size_t limit;                   /* --memory-limit in bytes; 0 for none */
};

/* Read the command line. Returns NULL, or what is wrong with it: a format with one %s,
 * for the argument that goes to *culprit. */
const char *options_read(struct options *options, int count, char **arguments,
                         const char **culprit);

/* The next of the options -e, -l and -W after argument number *position, 0 at first, as a
 * letter; with what belongs to it in *value. Returns 0 after the last. */
char options_next(const struct options *options, int *position, const char **value);

/* How to call the program. */
extern const char usage_text[];

#endif
