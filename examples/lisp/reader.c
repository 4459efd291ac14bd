/* reader.c - text to forms.
 *
 * Invariant: the only thing looked at and not yet consumed is one character, which is put
 * back to the file. So a reader on a terminal never asks for more than a form needs, and
 * a program may read the same file after it.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "reader.h"
#include <errno.h>
#include <stdarg.h>

static _Noreturn void bad_text(lisp_t *lisp, const reader_t *reader, const char *format,
                               ...) __attribute__((format(printf, 3, 4)));

static void bad_text(lisp_t *lisp, const reader_t *reader, const char *format, ...) {
  char text[200];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  lisp_error_at(lisp, reader->name, reader->line, "%s", text);
}

static int next(lisp_t *lisp, reader_t *reader) {
  errno = 0;
  const int c = getc_unlocked(reader->file);
  if (c == '\n') reader->line++;
  if (c == EOF && ferror(reader->file)) {
    bad_text(lisp, reader, "cannot read: %s", strerror(errno));
  }
  return c;
}

static void put_back(reader_t *reader, int c) {
  if (c == '\n') reader->line--;
  if (c != EOF) ungetc(c, reader->file);
}

static int peek(lisp_t *lisp, reader_t *reader) {
  const int c = next(lisp, reader);
  put_back(reader, c);
  return c;
}

void read_rest_of_line(reader_t *reader) {
  int c = getc(reader->file);
  while (c != '\n' && c != EOF) c = getc(reader->file);
  if (c == '\n') reader->line++;
}

static bool is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool is_delimiter(int c) {
  return c == EOF || is_space(c) || c == '(' || c == ')' || c == '"' || c == ';' ||
         c == '\'' || c == '`' || c == ',';
}

/* Skip a comment #| ... |#, which may have others inside; its #| has been read. */
static void skip_block_comment(lisp_t *lisp, reader_t *reader) {
  const uint32_t line = reader->line;
  for (size_t open = 1; open > 0;) {
    const int c = next(lisp, reader);
    if (c == EOF) {
      bad_text(lisp, reader, "unexpected end: the comment of line %u is open",
               (unsigned)line);
    }
    const int after = c == '|' || c == '#' ? peek(lisp, reader) : EOF;
    if (c == '|' && after == '#') open--;
    if (c == '#' && after == '|') open++;
    if ((c == '|' && after == '#') || (c == '#' && after == '|')) next(lisp, reader);
  }
}

/* The next character that is neither space nor comment. */
static int next_visible(lisp_t *lisp, reader_t *reader) {
  for (;;) {
    const int c = next(lisp, reader);
    if (c == ';') {
      read_rest_of_line(reader);
    } else if (c == '#' && peek(lisp, reader) == '|') {
      next(lisp, reader);
      skip_block_comment(lisp, reader);
    } else if (c == '#' && reader->line == 1 && peek(lisp, reader) == '!') {
      read_rest_of_line(reader);
    } else if (!is_space(c)) {
      return c;
    }
  }
}

/* Add a character to the token. */
static void token_put(lisp_t *lisp, size_t length, int c) {
  if (!lisp_reserve_buffer(lisp, length + 1)) lisp_error(lisp, "out of memory");
  lisp->buffer[length] = (char)c;
}

/* Read a token that begins with c. Its length is returned; a 0 follows it. */
static size_t read_token(lisp_t *lisp, reader_t *reader, int c) {
  size_t length = 0;
  do {
    if (c < ' ' || c == 127) bad_text(lisp, reader, "unexpected character of code %d", c);
    token_put(lisp, length++, c);
    c = next(lisp, reader);
  } while (!is_delimiter(c));
  put_back(reader, c);
  token_put(lisp, length, 0);
  return length;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static value_t read_atom(lisp_t *lisp, reader_t *reader, int c) {
  const size_t length = read_token(lisp, reader, c);
  const char *token = lisp->buffer;
  if (strcmp(token, ".") == 0) bad_text(lisp, reader, "misplaced dot");
  const bool sign = token[0] == '-' || token[0] == '+';
  if (!is_digit(token[sign])) return symbol_intern(lisp, token, length);

  int64_t number = 0;
  size_t i = sign;
  for (; is_digit(token[i]) && number <= FIXNUM_MAX; i++) {
    number = number * 10 + (token[i] - '0');
  }
  if (token[0] == '-') number = -number;
  if (number < FIXNUM_MIN || number > FIXNUM_MAX) {
    bad_text(lisp, reader, "the number %.40s does not fit in 31 bits", token);
  }
  if (i < length) bad_text(lisp, reader, "not a whole number: %.40s", token);
  return fixnum_value((int32_t)number);
}

static int read_escape(lisp_t *lisp, reader_t *reader) {
  const int c = next(lisp, reader);
  switch (c) {
    case 'n': return '\n';
    case 't': return '\t';
    case 'r': return '\r';
    case '"':
    case '\\': return c;
    case EOF: return EOF;
    default: bad_text(lisp, reader, "unknown escape in a string: \\%c", c);
  }
}

static value_t read_string(lisp_t *lisp, reader_t *reader) {
  const uint32_t line = reader->line;
  size_t length = 0;
  for (;;) {
    int c = next(lisp, reader);
    if (c == '"') break;
    if (c == '\\') c = read_escape(lisp, reader);
    if (c == EOF) {
      bad_text(lisp, reader, "unexpected end: the string of line %u is open",
               (unsigned)line);
    }
    token_put(lisp, length++, c);
  }
  token_put(lisp, length, 0);
  return string_new(lisp, lisp->buffer, length);
}

static value_t read_character(lisp_t *lisp, reader_t *reader) {
  static const struct {
    const char *name;
    unsigned char byte;
  } names[] = {
      {"space", ' '}, {"newline", '\n'}, {"tab", '\t'}, {"return", '\r'}, {"null", 0}};
  const int first = next(lisp, reader);
  if (first == EOF) bad_text(lisp, reader, "unexpected end: #\\");
  if (is_delimiter(first)) return character_value((unsigned char)first);
  const size_t length = read_token(lisp, reader, first);
  if (length == 1) return character_value((unsigned char)first);
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (strcmp(lisp->buffer, names[i].name) == 0) return character_value(names[i].byte);
  }
  bad_text(lisp, reader, "unknown character: #\\%.40s", lisp->buffer);
}

/* Add an item to the end of a list. Returns the list's new last pair. */
static pair_t *append_item(lisp_t *lisp, value_t *list, pair_t *last, value_t item,
                           uint32_t line) {
  const value_t value = pair_new(lisp, item, VALUE_NIL);
  pair_t *pair = value_pair(value);
  pair->object.count = line;
  if (last == NULL) {
    *list = value;
  } else {
    last->cdr = value;
  }
  return pair;
}

static value_t read_from(lisp_t *lisp, reader_t *reader, int c);

/* Read a list whose parenthesis has been read. */
static value_t read_list(lisp_t *lisp, reader_t *reader) {
  const uint32_t first_line = reader->line;
  value_t *list = lisp_push(lisp, VALUE_NIL);
  pair_t *last = NULL;
  for (;;) {
    const int c = next_visible(lisp, reader);
    if (c == ')') break;
    if (c == EOF) {
      bad_text(lisp, reader, "unexpected end: the list of line %u is open",
               (unsigned)first_line);
    }
    const uint32_t line = last == NULL ? first_line : reader->line;
    if (c == '.' && last != NULL && is_delimiter(peek(lisp, reader))) {
      last->cdr = read_form(lisp, reader);
      if (next_visible(lisp, reader) != ')') bad_text(lisp, reader, "misplaced dot");
      break;
    }
    last = append_item(lisp, list, last, read_from(lisp, reader, c), line);
  }
  return lisp_pop(lisp);
}

static value_t read_vector(lisp_t *lisp, reader_t *reader) {
  value_t *list = lisp_push(lisp, read_list(lisp, reader));
  size_t length = 0;
  value_t rest = *list;
  for (; value_is_pair(rest); rest = cdr(rest)) length++;
  if (rest != VALUE_NIL) bad_text(lisp, reader, "misplaced dot");
  const value_t vector = vector_new(lisp, length, VALUE_NIL);
  rest = *list;
  for (size_t i = 0; i < length; i++, rest = cdr(rest)) {
    value_vector(vector)->items[i] = car(rest);
  }
  lisp_pop(lisp);
  return vector;
}

/* Read what follows a #. */
static value_t read_hash(lisp_t *lisp, reader_t *reader) {
  const int c = next(lisp, reader);
  if (c == '(') return read_vector(lisp, reader);
  if (c == '\\') return read_character(lisp, reader);
  if (is_delimiter(c)) bad_text(lisp, reader, "unexpected #");
  read_token(lisp, reader, c);
  const char *token = lisp->buffer;
  if (strcmp(token, "t") == 0 || strcmp(token, "true") == 0) return VALUE_TRUE;
  if (strcmp(token, "f") == 0 || strcmp(token, "false") == 0) return VALUE_FALSE;
  bad_text(lisp, reader, "unknown syntax: #%.40s", token);
}

/* Read the form after a quote, giving (name form). */
static value_t read_quotation(lisp_t *lisp, reader_t *reader, const char *name) {
  const uint32_t line = reader->line;
  value_t *form = lisp_push(lisp, read_form(lisp, reader));
  if (*form == VALUE_EOF) bad_text(lisp, reader, "unexpected end after a quote");
  *form = pair_new(lisp, *form, VALUE_NIL);
  *form = pair_new(lisp, symbol_named(lisp, name), *form);
  value_pair(*form)->object.count = line;
  return lisp_pop(lisp);
}

static value_t read_unquote(lisp_t *lisp, reader_t *reader) {
  if (peek(lisp, reader) != '@') return read_quotation(lisp, reader, "unquote");
  next(lisp, reader);
  return read_quotation(lisp, reader, "unquote-splicing");
}

/* Read a form that begins with c. */
static value_t read_from(lisp_t *lisp, reader_t *reader, int c) {
  lisp->source_file = reader->name;
  lisp->source_line = reader->line;
  if (reader->nesting >= LISP_NESTING_MAX) {
    bad_text(lisp, reader, "lists nested too deeply");
  }
  reader->nesting++;
  value_t form = VALUE_EOF;
  switch (c) {
    case EOF: break;
    case '(': form = read_list(lisp, reader); break;
    case ')': bad_text(lisp, reader, "unexpected )");
    case '\'': form = read_quotation(lisp, reader, "quote"); break;
    case '`': form = read_quotation(lisp, reader, "quasiquote"); break;
    case ',': form = read_unquote(lisp, reader); break;
    case '"': form = read_string(lisp, reader); break;
    case '#': form = read_hash(lisp, reader); break;
    default: form = read_atom(lisp, reader, c);
  }
  reader->nesting--;
  return form;
}

value_t read_form(lisp_t *lisp, reader_t *reader) {
  return read_from(lisp, reader, next_visible(lisp, reader));
}
