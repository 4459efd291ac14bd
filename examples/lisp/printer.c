/* printer.c - values to text.
 *
 * Invariant: once printer.problem is set, nothing more is printed and every function
 * returns soon.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "printer.h"
#include "lisp.h"

typedef struct printer_s {
  FILE *file; /* NULL: to text */
  char *text;
  size_t size;
  size_t used;
  bool quote;
  uint32_t nesting;
  const char *problem;
} printer_t;

static void put(printer_t *printer, const char *text, size_t length) {
  if (printer->problem != NULL) return;
  if (printer->file != NULL) {
    fwrite(text, 1, length, printer->file);
    return;
  }
  const size_t room = printer->size - 1 - printer->used;
  if (length > room) {
    length = room;
    printer->problem = "cut";
  }
  memcpy(printer->text + printer->used, text, length);
  printer->used += length;
}

static void put_text(printer_t *printer, const char *text) {
  put(printer, text, strlen(text));
}

static void print_number(printer_t *printer, int32_t number) {
  char text[16];
  put(printer, text, (size_t)snprintf(text, sizeof text, "%d", (int)number));
}

static void print_character(printer_t *printer, unsigned char byte) {
  const char character = (char)byte;
  if (!printer->quote) {
    put(printer, &character, 1);
    return;
  }
  put_text(printer, "#\\");
  switch (byte) {
    case ' ': put_text(printer, "space"); break;
    case '\n': put_text(printer, "newline"); break;
    case '\t': put_text(printer, "tab"); break;
    case '\r': put_text(printer, "return"); break;
    case 0: put_text(printer, "null"); break;
    default: put(printer, &character, 1);
  }
}

static void print_string(printer_t *printer, const string_t *string) {
  if (!printer->quote) {
    put(printer, string->text, string->object.count);
    return;
  }
  put_text(printer, "\"");
  for (uint32_t i = 0; i < string->object.count && printer->problem == NULL; i++) {
    const char c = string->text[i];
    switch (c) {
      case '"': put_text(printer, "\\\""); break;
      case '\\': put_text(printer, "\\\\"); break;
      case '\n': put_text(printer, "\\n"); break;
      case '\t': put_text(printer, "\\t"); break;
      case '\r': put_text(printer, "\\r"); break;
      default: put(printer, &c, 1);
    }
  }
  put_text(printer, "\"");
}

static void print_constant(printer_t *printer, value_t value) {
  switch (value) {
    case VALUE_NIL: put_text(printer, "()"); break;
    case VALUE_FALSE: put_text(printer, "#f"); break;
    case VALUE_TRUE: put_text(printer, "#t"); break;
    case VALUE_EOF: put_text(printer, "#<end of file>"); break;
    default: put_text(printer, "#<unspecified>");
  }
}

static void print(printer_t *printer, value_t value);

/* (quote x) and its like are printed as 'x. */
static bool print_quotation(printer_t *printer, value_t list) {
  static const char *const forms[][2] = {
      {"quote", "'"},
      {"quasiquote", "`"},
      {"unquote", ","},
      {"unquote-splicing", ",@"},
  };
  if (!value_is_pair(cdr(list)) || cdr(cdr(list)) != VALUE_NIL) return false;
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
    if (symbol_is(car(list), forms[i][0])) {
      put_text(printer, forms[i][1]);
      print(printer, car(cdr(list)));
      return true;
    }
  }
  return false;
}

static void print_list(printer_t *printer, value_t list) {
  if (print_quotation(printer, list)) return;
  value_t slow = list;
  put_text(printer, "(");
  for (uint32_t i = 0; printer->problem == NULL; i++) {
    print(printer, car(list));
    list = cdr(list);
    if (!value_is_pair(list)) break;
    if (i % 2 == 1) slow = cdr(slow);
    if (list == slow) printer->problem = "cannot print a circular list";
    put_text(printer, " ");
  }
  if (printer->problem == NULL && list != VALUE_NIL) {
    put_text(printer, " . ");
    print(printer, list);
  }
  put_text(printer, ")");
}

static void print_vector(printer_t *printer, const vector_t *vector) {
  put_text(printer, "#(");
  for (uint32_t i = 0; i < vector->object.count && printer->problem == NULL; i++) {
    if (i > 0) put_text(printer, " ");
    print(printer, vector->items[i]);
  }
  put_text(printer, ")");
}

static void print_function(printer_t *printer, const closure_t *closure) {
  code_t *code = value_code(closure->code);
  const function_t *function = code_functions(code) + closure->object.count;
  put_text(printer, "#<function ");
  put_text(printer, symbol_text(code->constants[function->name]));
  put_text(printer, ">");
}

static void print_object(printer_t *printer, value_t value) {
  switch (((object_t *)value_object(value))->type) {
    case TYPE_PAIR: print_list(printer, value); break;
    case TYPE_STRING: print_string(printer, value_string(value)); break;
    case TYPE_SYMBOL: put_text(printer, symbol_text(value)); break;
    case TYPE_VECTOR: print_vector(printer, value_vector(value)); break;
    case TYPE_TABLE:
      put_text(printer, "#<table of ");
      print_number(printer, (int32_t)((object_t *)value_object(value))->count);
      put_text(printer, ">");
      break;
    case TYPE_BUILTIN:
      put_text(printer, "#<function ");
      put_text(printer, symbol_text(((builtin_t *)value_object(value))->name));
      put_text(printer, ">");
      break;
    default: print_function(printer, value_object(value));
  }
}

static void print(printer_t *printer, value_t value) {
  if (printer->problem != NULL) return;
  if (printer->nesting >= LISP_NESTING_MAX) {
    printer->problem = "nested too deeply to print";
    return;
  }
  printer->nesting++;
  if (value_is_fixnum(value)) {
    print_number(printer, value_fixnum(value));
  } else if (value_is_object(value)) {
    print_object(printer, value);
  } else if (value_is_character(value)) {
    print_character(printer, value_character(value));
  } else {
    print_constant(printer, value);
  }
  printer->nesting--;
}

const char *print_to_file(value_t value, bool quote, FILE *file) {
  printer_t printer = {.file = file, .quote = quote};
  print(&printer, value);
  return printer.problem;
}

void print_to_text(value_t value, bool quote, char *text, size_t size) {
  printer_t printer = {.text = text, .size = size, .quote = quote};
  print(&printer, value);
  if (printer.problem != NULL) {
    const size_t end = printer.used + 4 <= size ? printer.used : size - 4;
    memcpy(text + end, "...", 4);
  } else {
    text[printer.used] = 0;
  }
}
