/* options.c - reading the command line: what lua5.4 has, and a few long options.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "options.h"

#include <stdint.h>
#include <string.h>

const char usage_text[] =
    "usage: mirt-lua [options] [script [args]]\n"
    "  -e stat              execute string 'stat'\n"
    "  -i                   enter interactive mode after executing 'script'\n"
    "  -l mod               require library 'mod' into global 'mod'\n"
    "  -l g=mod             require library 'mod' into global 'g'\n"
    "  -v                   show version information of Lua\n"
    "  -E                   ignore environment variables\n"
    "  -W                   turn warnings on\n"
    "  --                   stop handling options\n"
    "  -                    stop handling options and execute stdin\n"
    "  --heap-report        at exit, write to stderr what each kind of object takes\n"
    "  --memory-limit=SIZE  raise 'not enough memory' above SIZE bytes, or K, M, G\n"
    "  --drop               at the end destroy the heaps, and run no finalizer\n"
    "  --help, --version    show this, or the version, and do nothing else\n";

/* A number of bytes, with K, M or G for 2^10, 2^20, 2^30. Returns 0 for what is none. */
static size_t size_of_text(const char *text) {
  size_t size = 0;
  const char *c = text;
  for (; *c >= '0' && *c <= '9'; c++) {
    if (__builtin_mul_overflow(size, (size_t)10, &size) ||
        __builtin_add_overflow(size, (size_t)(*c - '0'), &size)) {
      return 0;
    }
  }
  if (*c == '\0') return size;
  const char *units = "KMG";
  const char *unit = strchr(units, *c);
  if (unit == NULL || c[1] != '\0') return 0;
  const size_t factor = (size_t)1 << (10 * (unit - units + 1));
  return __builtin_mul_overflow(size, factor, &size) ? 0 : size;
}

#define LIMIT_OPTION "--memory-limit="

/* Read an option with two dashes. Returns what is wrong with it, or NULL. */
static const char *read_long(struct options *options, const char *argument) {
  const size_t length = strlen(LIMIT_OPTION);
  if (strcmp(argument, "--heap-report") == 0) {
    options->reports = true;
  } else if (strcmp(argument, "--drop") == 0) {
    options->drops = true;
  } else if (strcmp(argument, "--help") == 0) {
    options->wants_help = true;
  } else if (strcmp(argument, "--version") == 0) {
    options->wants_version = true;
  } else if (strncmp(argument, LIMIT_OPTION, length) == 0) {
    options->limit = size_of_text(argument + length);
    if (options->limit == 0) return "'%s' is not a size";
  } else {
    return "unrecognized option '%s'";
  }
  return NULL;
}

/* Read an option of one letter that stands alone. */
static const char *read_letter(struct options *options, const char *argument) {
  if (argument[2] != '\0') return "unrecognized option '%s'";
  switch (argument[1]) {
    case 'E': options->ignores_environment = true; return NULL;
    case 'W': return NULL;
    case 'i': options->is_interactive = options->shows_version = true; return NULL;
    case 'v': options->shows_version = true; return NULL;
    default: return "unrecognized option '%s'";
  }
}

const char *options_read(struct options *options, int count, char **arguments,
                         const char **culprit) {
  *options = (struct options){.arguments = arguments, .count = count};
  int i = 1;
  for (; i < count && arguments[i][0] == '-' && arguments[i][1] != '\0'; i++) {
    const char *argument = *culprit = arguments[i];
    const char *wrong = NULL;
    if (argument[1] == '-') {
      if (argument[2] == '\0') {
        i++;
        break;
      }
      wrong = read_long(options, argument);
    } else if (argument[1] != 'e' && argument[1] != 'l') {
      wrong = read_letter(options, argument);
    } else {
      if (argument[1] == 'e') options->has_statement = true;
      const bool is_apart = argument[2] == '\0';
      const bool is_there = !is_apart || (i + 1 < count && arguments[i + 1][0] != '-');
      if (!is_there) wrong = "'%s' needs argument";
      if (is_apart) i++;
    }
    if (wrong != NULL) return wrong;
  }
  options->script = i;
  return NULL;
}

char options_next(const struct options *options, int *position, const char **value) {
  for (int i = *position + 1; i < options->script; i++) {
    const char *argument = options->arguments[i];
    if (argument[0] != '-' || strchr("elW", argument[1]) == NULL) continue;
    if (argument[1] == 'W') {
      *value = NULL;
    } else {
      *value = argument[2] != '\0' ? argument + 2 : options->arguments[++i];
    }
    *position = i;
    return argument[1];
  }
  return 0;
}
