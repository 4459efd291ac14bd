/* compile.c - expressions, calls, functions, and the code object at the end.
 *
 * Invariant: compiler.height is what the stack will hold when the instruction that is
 * emitted next runs; compiler.highest follows it, and becomes the function's need of
 * stack, so the machine checks for room once per call.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "lisp.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* How far back a constant is looked for before it is added once more. */
#define CONSTANT_SEARCH 64

/* Code objects are made in sizes of a power of two: a page holds blocks of one size, so
 * few sizes need few pages. */
#define CODE_BYTES_MIN ((size_t)128)

/* Make room for one more item in a buffer. */
static void *buffer_grow(lisp_t *lisp, void *buffer, uint32_t count, uint32_t *capacity,
                         size_t item_bytes) {
  if (count < *capacity) return buffer;
  const uint32_t larger = *capacity == 0 ? 64 : *capacity * 2;
  void *grown = larger == 0 ? NULL : mi_reallocn(buffer, larger, item_bytes);
  if (grown == NULL) lisp_error(lisp, "out of memory");
  *capacity = larger;
  return grown;
}

/* What an instruction adds to the stack's height. */
static int32_t height_change(operation_t operation, uint32_t depth, uint32_t operand) {
  switch (operation) {
    case CODE_CONSTANT:
    case CODE_LOCAL:
    case CODE_GLOBAL:
    case CODE_DUPLICATE:
    case CODE_CLOSURE: return 1;
    case CODE_POP:
    case CODE_JUMP_IF_FALSE:
    case CODE_AND:
    case CODE_OR: return -1;
    case CODE_ENTER: return -(int32_t)depth;
    case CODE_CALL:
    case CODE_TAIL_CALL: return -(int32_t)operand;
    default: return 0;
  }
}

uint32_t emit(lisp_t *lisp, operation_t operation, uint32_t depth, uint32_t operand,
              uint32_t line) {
  compiler_t *compiler = &lisp->compiler;
  if (depth > UINT16_MAX) syntax_error(lisp, line, "too many variables");
  compiler->instructions =
      buffer_grow(lisp, compiler->instructions, compiler->instruction_count,
                  &compiler->instruction_capacity, sizeof(instruction_t));
  compiler->instructions[compiler->instruction_count] =
      (instruction_t){(uint16_t)operation, (uint16_t)depth, operand, line};
  compiler->height += (uint32_t)height_change(operation, depth, operand);
  if (compiler->height > compiler->highest) compiler->highest = compiler->height;
  return compiler->instruction_count++;
}

void patch(lisp_t *lisp, uint32_t index) {
  compiler_t *compiler = &lisp->compiler;
  compiler->instructions[index].operand = compiler->instruction_count - index;
}

void emit_jump_back(lisp_t *lisp, uint32_t index, uint32_t line) {
  emit(lisp, CODE_JUMP, 0, index - lisp->compiler.instruction_count, line);
}

void finish(lisp_t *lisp, uint32_t line, bool tail) {
  if (tail) emit(lisp, CODE_RETURN, 0, 0, line);
}

uint32_t constant_index(lisp_t *lisp, value_t constant) {
  compiler_t *compiler = &lisp->compiler;
  const uint32_t count = compiler->constant_count;
  for (uint32_t i = count; i > 0 && count - i < CONSTANT_SEARCH; i--) {
    if (compiler->constants[i - 1] == constant) return i - 1;
  }
  compiler->constants = buffer_grow(lisp, compiler->constants, count,
                                    &compiler->constant_capacity, sizeof(value_t));
  compiler->constants[count] = constant;
  return compiler->constant_count++;
}

void syntax_error(lisp_t *lisp, uint32_t line, const char *format, ...) {
  char text[200];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  const value_t file = lisp->compiler.file;
  lisp_error_at(lisp, file == VALUE_NIL ? "prelude" : value_string(file)->text, line,
                "%s", text);
}

void compile_constant(lisp_t *lisp, value_t constant, uint32_t line) {
  emit(lisp, CODE_CONSTANT, 0, constant_index(lisp, constant), line);
}

void compile_variable(lisp_t *lisp, value_t symbol, uint32_t line) {
  const variable_t variable = scope_find(lisp, symbol);
  const value_t global = value_symbol(symbol)->global;
  if (variable.local) {
    emit(lisp, CODE_LOCAL, variable.depth, variable.index, line);
    if (variable.checked) emit(lisp, CODE_CHECK, 0, constant_index(lisp, symbol), line);
  } else if (value_symbol(symbol)->object.detail != 0) {
    syntax_error(lisp, line, "%s: a special form is not a value", symbol_text(symbol));
  } else if (lisp->compiler.file == VALUE_NIL && global != VALUE_UNBOUND) {
    /* The library keeps working when a program defines its names anew. */
    compile_constant(lisp, global, line);
  } else {
    emit(lisp, CODE_GLOBAL, 0, constant_index(lisp, symbol), line);
  }
}

void compile_assignment(lisp_t *lisp, value_t symbol, uint32_t line) {
  const variable_t variable = scope_find(lisp, symbol);
  if (variable.local) {
    emit(lisp, CODE_SET_LOCAL, variable.depth, variable.index, line);
  } else {
    emit(lisp, CODE_SET_GLOBAL, 0, constant_index(lisp, symbol), line);
  }
}

/* Check that a form is a list, with a number of parts after its head. */
static void check_form(lisp_t *lisp, value_t form, const syntax_t *syntax,
                       uint32_t line) {
  int parts = -1;
  value_t rest = form;
  for (; value_is_pair(rest); rest = cdr(rest)) parts += parts < INT32_MAX;
  if (rest != VALUE_NIL) {
    syntax_error(lisp, line, "not a list: %s", lisp_text(lisp, form));
  }
  if (syntax == NULL) return;
  if (parts < syntax->parts_min ||
      (syntax->parts_max >= 0 && parts > syntax->parts_max)) {
    syntax_error(lisp, line, "%s: bad syntax: %s", syntax->name, lisp_text(lisp, form));
  }
}

uint32_t compile_each(lisp_t *lisp, value_t forms, uint32_t line) {
  uint32_t count = 0;
  for (; forms != VALUE_NIL; forms = cdr(forms), count++) {
    compile_expression(lisp, car(forms), form_line(forms, line), false);
  }
  return count;
}

void compile_call(lisp_t *lisp, uint32_t count, uint32_t line, bool tail) {
  emit(lisp, tail ? CODE_TAIL_CALL : CODE_CALL, 0, count, line);
}

void compile_expression(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  if (lisp->compiler.nesting >= LISP_NESTING_MAX) {
    syntax_error(lisp, line, "expression nested too deeply");
  }
  lisp->compiler.nesting++;
  if (value_is_pair(form)) {
    line = form_line(form, line);
    const syntax_t *syntax = syntax_of(lisp, car(form));
    check_form(lisp, form, syntax, line);
    if (syntax != NULL) {
      syntax->compile(lisp, form, line, tail);
    } else {
      compile_call(lisp, compile_each(lisp, form, line) - 1, line, tail);
    }
  } else {
    if (value_is_symbol(form)) {
      compile_variable(lisp, form, line);
    } else if (form == VALUE_NIL) {
      syntax_error(lisp, line, "() is not an expression; write '()");
    } else {
      compile_constant(lisp, form, line);
    }
    finish(lisp, line, tail);
  }
  lisp->compiler.nesting--;
}

void compile_sequence(lisp_t *lisp, value_t forms, uint32_t line, bool tail) {
  if (forms == VALUE_NIL) {
    compile_constant(lisp, VALUE_UNSPECIFIED, line);
    finish(lisp, line, tail);
  }
  for (; forms != VALUE_NIL; forms = cdr(forms)) {
    const bool last = cdr(forms) == VALUE_NIL;
    compile_expression(lisp, car(forms), form_line(forms, line), tail && last);
    if (!last) emit(lisp, CODE_POP, 0, 0, line);
  }
}

/* Reserve the next function of the code object. */
static uint32_t function_add(lisp_t *lisp) {
  compiler_t *compiler = &lisp->compiler;
  if (compiler->function_count == UINT16_MAX) {
    lisp_error(lisp, "too many functions in one form");
  }
  compiler->functions = buffer_grow(lisp, compiler->functions, compiler->function_count,
                                    &compiler->function_capacity, sizeof(function_t));
  return compiler->function_count++;
}

void compile_lambda(lisp_t *lisp, value_t name, value_t parameters, value_t body,
                    uint32_t line) {
  compiler_t *compiler = &lisp->compiler;
  function_t function = {.name = constant_index(lisp, name)};
  for (value_t rest = parameters; rest != VALUE_NIL; rest = cdr(rest)) {
    if (!value_is_pair(rest)) {
      function.rest = 1;
      break;
    }
    function.required++;
  }
  const uint32_t index = function_add(lisp);
  emit(lisp, CODE_CLOSURE, 0, index, line);

  const uint32_t height = compiler->height;
  const uint32_t highest = compiler->highest;
  compiler->height = compiler->highest = 0;
  function.entry = compiler->instruction_count;
  function.slots =
      scope_open(lisp, parameters, function.required + function.rest, body, line);
  compile_sequence(lisp, body, line, true);
  scope_close(lisp);
  function.end = compiler->instruction_count;
  function.stack = compiler->highest;
  compiler->functions[index] = function;
  compiler->height = height;
  compiler->highest = highest;
}

/* Make the code object out of what the buffers hold. */
static value_t make_code(lisp_t *lisp) {
  compiler_t *compiler = &lisp->compiler;
  const size_t functions = compiler->function_count * sizeof(function_t);
  const size_t instructions = compiler->instruction_count * sizeof(instruction_t);
  const size_t values = (1 + (size_t)compiler->constant_count) * sizeof(value_t);
  const size_t bytes = sizeof(object_t) + values + functions + instructions;
  size_t rounded = CODE_BYTES_MIN;
  while (rounded < bytes) rounded *= 2;

  code_t *code = object_new(lisp, TYPE_CODE, compiler->constant_count,
                            rounded - sizeof(object_t) - values);
  code->object.detail = (uint16_t)compiler->function_count;
  code->file = compiler->file;
  if (compiler->constant_count > 0) {
    memcpy(code->constants, compiler->constants, values - sizeof(value_t));
  }
  memcpy(code_functions(code), compiler->functions, functions);
  memcpy(code_instructions(code), compiler->instructions, instructions);
  return object_value(code);
}

value_t compile_form(lisp_t *lisp, value_t form, value_t file) {
  compiler_t *compiler = &lisp->compiler;
  compiler->file = file;
  compiler->scope = VALUE_NIL;
  compiler->instruction_count = compiler->function_count = compiler->constant_count = 0;
  compiler->height = compiler->highest = compiler->nesting = 0;

  const uint32_t index = function_add(lisp);
  const uint32_t line = form_line(form, lisp->source_line);
  function_t function = {.name = constant_index(lisp, symbol_named(lisp, "top level"))};
  /* No tail call here: an error in the function called is one in this line. */
  compile_expression(lisp, form, line, false);
  finish(lisp, line, true);
  function.end = compiler->instruction_count;
  function.stack = compiler->highest;
  compiler->functions[index] = function;

  value_t *code = lisp_push(lisp, make_code(lisp));
  closure_t *closure = object_new(lisp, TYPE_CLOSURE, index, 0);
  closure->code = *code;
  closure->environment = VALUE_NIL;
  lisp_pop(lisp);
  compiler->constant_count = 0;
  return object_value(closure);
}

void compiler_free(compiler_t *compiler) {
  mi_free(compiler->instructions);
  mi_free(compiler->functions);
  mi_free(compiler->constants);
}
