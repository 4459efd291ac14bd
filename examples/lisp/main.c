/* main.c - the command line, the script runner and the prompt.
 *
 * Invariant: whatever ends the program, its objects are gone by then: every way out goes
 * through finish_program. The exit code is 0, 1 after any error, or what (exit) says.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "lisp.h"
#include "printer.h"
#include "reader.h"
#include "report.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

#if LISP_REFS
#define PROGRAM "lisp32"
#else
#define PROGRAM "lisp64"
#endif

/* What the references of lisp32 reach; both programs take the same options. */
#define LIMIT_MAX ((size_t)32 << 30)

typedef struct options_s {
  size_t limit;
  bool gc_stats;
  uint32_t gc_every;
  bool report;
  const char *report_file;
  char **arguments; /* the script and what follows; ends with NULL */
} options_t;

static const char usage[] =
    "Usage: " PROGRAM " [options] [script [argument...]]\n"
    "Run a Lisp script, or read forms from standard input and print their values.\n"
    "\n"
    "  --heap-limit=N[K|M|G]  let live objects take N bytes and no more\n"
    "  --gc-stats             print a line on standard error about each collection\n"
    "  --gc-every=N           to test: collect for every Nth object made\n"
    "  --report               print on standard error, at exit, what the objects take\n"
    "  --report=FILE          write the same to FILE, as lines key=value\n"
    "  --help                 print this\n"
    "  --version              print the version\n";

static _Noreturn void bad_usage(const char *message, const char *what) {
  fprintf(stderr, PROGRAM ": %s%s (see --help)\n", message, what);
  exit(EXIT_FAILURE);
}

static size_t parse_size(const char *text) {
  static const char units[] = "KMG";
  char *end = NULL;
  errno = 0;
  const unsigned long long number = strtoull(text, &end, 10);
  const bool is_number = text[0] >= '0' && text[0] <= '9' && errno == 0;
  const char *unit = *end == 0 ? NULL : strchr(units, *end);
  if (!is_number || number == 0 || (*end != 0 && (unit == NULL || end[1] != 0))) {
    bad_usage("not a size: ", text);
  }
  const unsigned shift = unit == NULL ? 0 : (unsigned)(unit - units + 1) * 10;
  if (number > LIMIT_MAX >> shift) bad_usage("the size is too large: ", text);
  return (size_t)number << shift;
}

static uint32_t parse_count(const char *text) {
  char *end = NULL;
  errno = 0;
  const unsigned long number = strtoul(text, &end, 10);
  const bool is_number = text[0] >= '0' && text[0] <= '9' && errno == 0 && *end == 0;
  if (!is_number || number == 0 || number > UINT32_MAX) {
    bad_usage("not a number of objects: ", text);
  }
  return (uint32_t)number;
}

static options_t parse_options(int count, char **words) {
  static const struct option long_options[] = {
      {"heap-limit", required_argument, NULL, 'l'},
      {"gc-stats", no_argument, NULL, 's'},
      {"gc-every", required_argument, NULL, 'e'},
      {"report", optional_argument, NULL, 'r'},
      {"help", no_argument, NULL, 'h'},
      {"version", no_argument, NULL, 'v'},
      {0},
  };
  options_t options = {0};
  opterr = 0;
  /* The + ends the options at the script's name: what follows is for the script. */
  for (int c; (c = getopt_long(count, words, "+", long_options, NULL)) != -1;) {
    switch (c) {
      case 'l': options.limit = parse_size(optarg); break;
      case 's': options.gc_stats = true; break;
      case 'e': options.gc_every = parse_count(optarg); break;
      case 'r':
        if (optarg == NULL)
          options.report = true;
        else
          options.report_file = optarg;
        break;
      case 'h': fputs(usage, stdout); exit(EXIT_SUCCESS);
      case 'v': puts(PROGRAM " " LISP_VERSION); exit(EXIT_SUCCESS);
      default: bad_usage("bad option: ", words[optind - 1]);
    }
  }
  options.arguments = words + optind;
  return options;
}

static void set_arguments(lisp_t *lisp, void *argument) {
  char **words = argument;
  size_t count = 0;
  while (words[count] != NULL) count++;
  value_t *list = lisp_push(lisp, VALUE_NIL);
  for (; count > 0; count--) {
    const char *word = words[count - 1];
    *list = pair_new(lisp, string_new(lisp, word, strlen(word)), *list);
  }
  lisp->arguments = lisp_pop(lisp);
}

/* The file's name, that of a symbol: with full memory the prompt can find it again. */
static value_t file_name(lisp_t *lisp, const reader_t *reader) {
  return value_symbol(symbol_named(lisp, reader->name))->name;
}

/* Read the next form and run it. Returns VALUE_EOF at the end. */
static value_t run_next(lisp_t *lisp, reader_t *reader) {
  const value_t file = file_name(lisp, reader);
  const value_t *form = lisp_push(lisp, read_form(lisp, reader));
  value_t result = VALUE_EOF;
  if (*form != VALUE_EOF) {
    const value_t function = compile_form(lisp, *form, file);
    memory_use_reserve(&lisp->memory, false);
    result = lisp_call(lisp, function);
    if (result == VALUE_EOF) result = VALUE_UNSPECIFIED;
  }
  lisp_pop(lisp);
  return result;
}

static void run_script(lisp_t *lisp, void *argument) {
  while (run_next(lisp, argument) != VALUE_EOF) continue;
}

/* Run one form from standard input and print its value. */
static void run_prompt(lisp_t *lisp, void *argument) {
  memory_use_reserve(&lisp->memory, true);
  const value_t result = run_next(lisp, argument);
  if (result == VALUE_EOF) {
    lisp->exiting = true;
  } else if (result != VALUE_UNSPECIFIED) {
    const char *problem = print_to_file(result, true, stdout);
    putchar('\n');
    if (problem != NULL) lisp_error(lisp, "%s", problem);
  }
}

static void print_error(lisp_t *lisp) {
  fflush(stdout);
  fprintf(stderr, "%s\n", lisp->message);
  lisp->exit_code = EXIT_FAILURE;
}

static void prompt_loop(lisp_t *lisp) {
  const bool terminal = isatty(STDIN_FILENO) == 1;
  reader_t reader = {.file = stdin, .name = "stdin", .line = 1};
  while (!lisp->exiting) {
    if (terminal) fputs("> ", stdout);
    fflush(stdout);
    reader.nesting = 0;
    if (lisp_try(lisp, run_prompt, &reader) || lisp->exiting) continue;
    print_error(lisp);
    if (ferror(stdin)) break;
    /* After an error inside of a form, its rest would be read as other forms. */
    if (reader.nesting > 0) read_rest_of_line(&reader);
  }
  if (terminal) putchar('\n');
}

static void run_file(lisp_t *lisp, const char *name) {
  FILE *file = fopen(name, "r");
  if (file == NULL) {
    snprintf(lisp->message, sizeof lisp->message, "%.400s: cannot open: %s", name,
             strerror(errno));
    print_error(lisp);
    return;
  }
  reader_t reader = {.file = file, .name = name, .line = 1};
  if (!lisp_try(lisp, run_script, &reader) && !lisp->exiting) print_error(lisp);
  fclose(file);
}

static void program_body(lisp_t *lisp, const options_t *options) {
  if (options->arguments[0] == NULL) {
    prompt_loop(lisp);
  } else {
    run_file(lisp, options->arguments[0]);
  }
}

/* A report is of what lives. What is on the value stack is no longer needed by then. */
static void collect_at_end(lisp_t *lisp, void *argument) {
  report_t *report = argument;
  report_take(report, lisp); /* the program's collections, without this one */
  report_take_usage(report, lisp);
}

/* Destroy the objects, and report. Returns the exit code. */
static int finish_program(lisp_t *lisp, const options_t *options, uint64_t start) {
  const uint64_t end = clock_microseconds();
  report_t report = {0};
  lisp->collector.print = false;
  if (options->report || options->report_file != NULL) {
    lisp_try(lisp, collect_at_end, &report);
  }
  report.run_microseconds = end - start;

  const uint64_t destroy_start = clock_microseconds();
  memory_stop(&lisp->memory);
  report.destroy_microseconds = clock_microseconds() - destroy_start;

  if (fflush(stdout) != 0 || ferror(stdout)) {
    fprintf(stderr, PROGRAM ": cannot write to standard output\n");
    lisp->exit_code = EXIT_FAILURE;
  }
  if (options->report) report_print(&report, PROGRAM, stderr);
  if (options->report_file != NULL) {
    const int error = report_write(&report, PROGRAM, options->report_file);
    if (error != 0) {
      fprintf(stderr, PROGRAM ": cannot write %s: %s\n", options->report_file,
              strerror(error));
      lisp->exit_code = EXIT_FAILURE;
    }
  }
  return lisp->exit_code;
}

int main(int count, char **words) {
  const options_t options = parse_options(count, words);
  lisp_t lisp;
  int code = EXIT_FAILURE;
  if (lisp_start(&lisp, options.limit) &&
      lisp_try(&lisp, set_arguments, options.arguments)) {
    lisp.collector.print = options.gc_stats;
    lisp.collector.every = options.gc_every;
    const uint64_t start = clock_microseconds();
    program_body(&lisp, &options);
    code = finish_program(&lisp, &options, start);
  } else {
    fprintf(stderr, PROGRAM ": %s\n", lisp.message);
  }
  lisp_stop(&lisp);
  return code;
}
