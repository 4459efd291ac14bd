/* syntax.c - the special forms.
 *
 * Invariant: a symbol names a special form as long as no local variable has its name. The
 * symbol's detail is the form's index in the table below, counted from 1.
 *
 * compile_expression has checked that a form is a list with a right number of parts.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "lisp.h"
#include <string.h>

static value_t second(value_t list) { return car(cdr(list)); }

static value_t after_second(value_t list) { return cdr(cdr(list)); }

static void check_parameters(lisp_t *lisp, value_t parameters, uint32_t line) {
  for (; value_is_pair(parameters); parameters = cdr(parameters)) {
    if (!value_is_symbol(car(parameters))) {
      syntax_error(lisp, line, "not a variable: %s", lisp_text(lisp, car(parameters)));
    }
  }
}

/* An expression that becomes the value of a variable: a function gets its name. */
static void compile_named(lisp_t *lisp, value_t name, value_t form, uint32_t line) {
  const syntax_t *syntax = value_is_pair(form) ? syntax_of(lisp, car(form)) : NULL;
  if (syntax != NULL && strcmp(syntax->name, "lambda") == 0 && value_is_pair(cdr(form))) {
    check_parameters(lisp, second(form), line);
    compile_lambda(lisp, name, second(form), after_second(form), form_line(form, line));
  } else {
    compile_expression(lisp, form, line, false);
  }
}

static void compile_quote(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  compile_constant(lisp, second(form), line);
  finish(lisp, line, tail);
}

static void compile_lambda_form(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  check_parameters(lisp, second(form), line);
  compile_lambda(lisp, car(form), second(form), after_second(form), line);
  finish(lisp, line, tail);
}

static void compile_define(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  const value_t name = syntax_defined_name(lisp, form, line);
  const bool global = lisp->compiler.scope == VALUE_NIL;
  if (!global && !scope_defines(lisp, name)) {
    syntax_error(lisp, line, "define: not at the top level of a body: %s",
                 symbol_text(name));
  }
  if (value_is_pair(second(form))) {
    check_parameters(lisp, cdr(second(form)), line);
    compile_lambda(lisp, name, cdr(second(form)), after_second(form), line);
  } else {
    compile_named(lisp, name, car(after_second(form)), line);
  }
  if (global) {
    emit(lisp, CODE_DEFINE_GLOBAL, 0, constant_index(lisp, name), line);
  } else {
    compile_assignment(lisp, name, line);
  }
  finish(lisp, line, tail);
}

static void compile_set(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  const value_t name = second(form);
  if (!value_is_symbol(name)) {
    syntax_error(lisp, line, "set!: not a variable: %s", lisp_text(lisp, name));
  }
  compile_expression(lisp, car(after_second(form)), line, false);
  compile_assignment(lisp, name, line);
  finish(lisp, line, tail);
}

static void compile_begin(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  compile_sequence(lisp, cdr(form), line, tail);
}

/* The parts of a branch: after the test comes branch_open, the code for a true test,
 * branch_else, the code for a false one, branch_close. Each returns what the next takes;
 * both pieces of code leave one value. */

static uint32_t branch_open(lisp_t *lisp, uint32_t line) {
  return emit(lisp, CODE_JUMP_IF_FALSE, 0, 0, line);
}

static uint32_t branch_else(lisp_t *lisp, uint32_t open, uint32_t line, bool tail) {
  const uint32_t end = tail ? 0 : emit(lisp, CODE_JUMP, 0, 0, line);
  lisp->compiler.height--;
  patch(lisp, open);
  return end;
}

static void branch_close(lisp_t *lisp, uint32_t end, bool tail) {
  if (!tail) patch(lisp, end);
}

static void compile_if(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  compile_expression(lisp, second(form), form_line(cdr(form), line), false);
  const uint32_t open = branch_open(lisp, line);
  const value_t branches = after_second(form);
  compile_expression(lisp, car(branches), form_line(branches, line), tail);
  const uint32_t end = branch_else(lisp, open, line, tail);
  compile_sequence(lisp, cdr(branches), line, tail);
  branch_close(lisp, end, tail);
}

static void compile_when(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  compile_expression(lisp, second(form), line, false);
  const uint32_t open = branch_open(lisp, line);
  compile_sequence(lisp, after_second(form), line, tail);
  const uint32_t end = branch_else(lisp, open, line, tail);
  compile_sequence(lisp, VALUE_NIL, line, tail);
  branch_close(lisp, end, tail);
}

static void compile_unless(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  compile_expression(lisp, second(form), line, false);
  const uint32_t open = branch_open(lisp, line);
  compile_sequence(lisp, VALUE_NIL, line, tail);
  const uint32_t end = branch_else(lisp, open, line, tail);
  compile_sequence(lisp, after_second(form), line, tail);
  branch_close(lisp, end, tail);
}

/* Jumps to one place that is not known yet are linked through their operands. */

static uint32_t jump_chained(lisp_t *lisp, operation_t operation, uint32_t chain,
                             uint32_t line) {
  return emit(lisp, operation, 0, chain, line) + 1;
}

static void patch_chain(lisp_t *lisp, uint32_t chain) {
  while (chain != 0) {
    const uint32_t index = chain - 1;
    chain = lisp->compiler.instructions[index].operand;
    patch(lisp, index);
  }
}

static void compile_junction(lisp_t *lisp, value_t parts, operation_t operation,
                             value_t empty, uint32_t line, bool tail) {
  uint32_t chain = 0;
  if (parts == VALUE_NIL) compile_constant(lisp, empty, line);
  for (; parts != VALUE_NIL; parts = cdr(parts)) {
    const bool last = cdr(parts) == VALUE_NIL;
    compile_expression(lisp, car(parts), form_line(parts, line), tail && last);
    if (!last) chain = jump_chained(lisp, operation, chain, line);
  }
  patch_chain(lisp, chain);
  finish(lisp, line, tail);
}

static void compile_and(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  compile_junction(lisp, cdr(form), CODE_AND, VALUE_TRUE, line, tail);
}

static void compile_or(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  compile_junction(lisp, cdr(form), CODE_OR, VALUE_FALSE, line, tail);
}

static void check_clause(lisp_t *lisp, const char *form, value_t clause, uint32_t line) {
  value_t rest = clause;
  while (value_is_pair(rest)) rest = cdr(rest);
  if (clause == VALUE_NIL || rest != VALUE_NIL) {
    syntax_error(lisp, line, "%s: bad clause: %s", form, lisp_text(lisp, clause));
  }
}

/* The end of a clause of cond or case that has left its value: on to the chain's end, and
 * the height back to what it was before that value. */
static uint32_t clause_end(lisp_t *lisp, uint32_t chain, uint32_t line, bool tail) {
  if (!tail) chain = jump_chained(lisp, CODE_JUMP, chain, line);
  lisp->compiler.height--;
  return chain;
}

/* A clause without a body, or with => and a function: both need the value of the test. */
static uint32_t compile_clause_value(lisp_t *lisp, value_t clause, uint32_t chain,
                                     uint32_t line, bool tail) {
  emit(lisp, CODE_DUPLICATE, 0, 0, line);
  const uint32_t open = branch_open(lisp, line);
  if (cdr(clause) != VALUE_NIL) {
    check_clause(lisp, "cond", after_second(clause), line);
    compile_expression(lisp, car(after_second(clause)), line, false);
    emit(lisp, CODE_SWAP, 0, 0, line);
    compile_call(lisp, 1, line, tail);
  } else {
    finish(lisp, line, tail);
  }
  chain = clause_end(lisp, chain, line, tail);
  patch(lisp, open);
  lisp->compiler.height++;
  emit(lisp, CODE_POP, 0, 0, line);
  return chain;
}

static void compile_cond(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  uint32_t chain = 0;
  bool otherwise = false;
  for (value_t rest = cdr(form); rest != VALUE_NIL && !otherwise; rest = cdr(rest)) {
    const value_t clause = car(rest);
    const uint32_t at = form_line(clause, line);
    check_clause(lisp, "cond", clause, at);
    otherwise = symbol_is(car(clause), "else");
    if (otherwise) {
      compile_sequence(lisp, cdr(clause), at, tail);
      break;
    }
    compile_expression(lisp, car(clause), at, false);
    if (cdr(clause) == VALUE_NIL || symbol_is(second(clause), "=>")) {
      chain = compile_clause_value(lisp, clause, chain, at, tail);
      continue;
    }
    const uint32_t open = branch_open(lisp, at);
    compile_sequence(lisp, cdr(clause), at, tail);
    chain = clause_end(lisp, chain, at, tail);
    patch(lisp, open);
  }
  if (!otherwise) compile_sequence(lisp, VALUE_NIL, line, tail);
  patch_chain(lisp, chain);
}

static void compile_case(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  uint32_t chain = 0;
  bool otherwise = false;
  compile_expression(lisp, second(form), line, false);
  for (value_t rest = after_second(form); rest != VALUE_NIL; rest = cdr(rest)) {
    const value_t clause = car(rest);
    const uint32_t at = form_line(clause, line);
    check_clause(lisp, "case", clause, at);
    otherwise = symbol_is(car(clause), "else");
    if (otherwise) {
      emit(lisp, CODE_POP, 0, 0, at);
      compile_sequence(lisp, cdr(clause), at, tail);
      break;
    }
    if (car(clause) != VALUE_NIL) check_clause(lisp, "case", car(clause), at);
    emit(lisp, CODE_DUPLICATE, 0, 0, at);
    emit(lisp, CODE_MEMBER, 0, constant_index(lisp, car(clause)), at);
    const uint32_t open = branch_open(lisp, at);
    emit(lisp, CODE_POP, 0, 0, at);
    compile_sequence(lisp, cdr(clause), at, tail);
    chain = clause_end(lisp, chain, at, tail);
    lisp->compiler.height++;
    patch(lisp, open);
  }
  if (!otherwise) {
    emit(lisp, CODE_POP, 0, 0, line);
    compile_sequence(lisp, VALUE_NIL, line, tail);
  }
  patch_chain(lisp, chain);
}

/* Enter the environment of a let: the values of its variables are on the stack, and
 * scope_open has just returned slots. */
static void let_enter(lisp_t *lisp, uint32_t values, uint32_t slots, uint32_t line) {
  if (slots > 0) emit(lisp, CODE_ENTER, values, slots, line);
}

static void let_leave(lisp_t *lisp, uint32_t slots, uint32_t line, bool tail) {
  if (slots > 0 && !tail) emit(lisp, CODE_LEAVE, 0, 1, line);
  scope_close(lisp);
}

/* Check a list of bindings (name value); parts_max is 3 for do. Returns how many. */
static uint32_t check_bindings(lisp_t *lisp, value_t form, value_t bindings,
                               int parts_max, uint32_t line) {
  uint32_t count = 0;
  value_t rest = bindings;
  for (; value_is_pair(rest); rest = cdr(rest), count++) {
    int parts = 0;
    value_t part = car(rest);
    for (; value_is_pair(part) && parts <= parts_max; part = cdr(part)) parts++;
    if (part != VALUE_NIL || parts < 2 || parts > parts_max) break;
    if (!value_is_symbol(car(car(rest)))) break;
  }
  if (rest != VALUE_NIL || count > UINT16_MAX) {
    syntax_error(lisp, form_line(rest, line), "%s: bad bindings: %s",
                 symbol_text(car(form)), lisp_text(lisp, bindings));
  }
  return count;
}

static void compile_values(lisp_t *lisp, value_t bindings, uint32_t line) {
  for (; bindings != VALUE_NIL; bindings = cdr(bindings)) {
    const value_t binding = car(bindings);
    compile_named(lisp, car(binding), second(binding), form_line(binding, line));
  }
}

/* (let name ((variable value) ...) body ...): a function that knows its own name. */
static void compile_named_let(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  const value_t name = second(form);
  const value_t rest = after_second(form);
  if (!value_is_pair(rest)) syntax_error(lisp, line, "let: no bindings");
  const uint32_t count = check_bindings(lisp, form, car(rest), 2, line);
  const uint32_t slots = scope_open(lisp, name, 1, VALUE_NIL, line);
  let_enter(lisp, 0, slots, line);
  compile_lambda(lisp, name, car(rest), cdr(rest), line);
  emit(lisp, CODE_DUPLICATE, 0, 0, line);
  compile_assignment(lisp, name, line);
  emit(lisp, CODE_POP, 0, 0, line);
  let_leave(lisp, slots, line, false);
  compile_values(lisp, car(rest), line);
  compile_call(lisp, count, line, tail);
}

static void compile_let(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  const value_t bindings = second(form);
  const value_t body = after_second(form);
  if (value_is_symbol(bindings)) {
    compile_named_let(lisp, form, line, tail);
    return;
  }
  const uint32_t count = check_bindings(lisp, form, bindings, 2, line);
  compile_values(lisp, bindings, line);
  const uint32_t slots = scope_open(lisp, bindings, count, body, line);
  let_enter(lisp, count, slots, line);
  compile_sequence(lisp, body, line, tail);
  let_leave(lisp, slots, line, tail);
}

static void compile_let_star(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  const value_t body = after_second(form);
  const uint32_t count = check_bindings(lisp, form, second(form), 2, line);
  for (value_t rest = second(form); rest != VALUE_NIL; rest = cdr(rest)) {
    const value_t binding = car(rest);
    compile_named(lisp, car(binding), second(binding), form_line(binding, line));
    scope_open(lisp, car(binding), 1, VALUE_NIL, line);
    let_enter(lisp, 1, 1, line);
  }
  const uint32_t slots = scope_open(lisp, VALUE_NIL, 0, body, line);
  let_enter(lisp, 0, slots, line);
  compile_sequence(lisp, body, line, tail);
  const uint32_t environments = count + (slots > 0);
  if (environments > 0 && !tail) emit(lisp, CODE_LEAVE, 0, environments, line);
  for (uint32_t i = 0; i <= count; i++) scope_close(lisp);
}

static void compile_letrec(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  const value_t bindings = second(form);
  const value_t body = after_second(form);
  check_bindings(lisp, form, bindings, 2, line);
  const uint32_t slots = scope_open(lisp, bindings, 0, body, line);
  let_enter(lisp, 0, slots, line);
  for (value_t rest = bindings; rest != VALUE_NIL; rest = cdr(rest)) {
    const value_t binding = car(rest);
    compile_named(lisp, car(binding), second(binding), form_line(binding, line));
    compile_assignment(lisp, car(binding), line);
    emit(lisp, CODE_POP, 0, 0, line);
  }
  compile_sequence(lisp, body, line, tail);
  let_leave(lisp, slots, line, tail);
}

/* (do ((variable value step) ...) (test result ...) body ...): each round has an
 * environment of its own, made from the values on the stack. */
static void compile_do(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  const value_t bindings = second(form);
  const value_t end = car(after_second(form));
  const value_t body = cdr(after_second(form));
  check_clause(lisp, "do", end, line);
  const uint32_t count = check_bindings(lisp, form, bindings, 3, line);
  compile_values(lisp, bindings, line);
  const uint32_t round = lisp->compiler.instruction_count;
  const uint32_t slots = scope_open(lisp, bindings, count, VALUE_NIL, line);
  let_enter(lisp, count, slots, line);

  compile_expression(lisp, car(end), form_line(end, line), false);
  const uint32_t open = branch_open(lisp, line);
  compile_sequence(lisp, cdr(end), line, tail);
  if (slots > 0 && !tail) emit(lisp, CODE_LEAVE, 0, 1, line);
  const uint32_t done = branch_else(lisp, open, line, tail);
  if (body != VALUE_NIL) {
    compile_sequence(lisp, body, line, false);
    emit(lisp, CODE_POP, 0, 0, line);
  }
  for (value_t rest = bindings; rest != VALUE_NIL; rest = cdr(rest)) {
    const value_t step = after_second(car(rest));
    const value_t next = step == VALUE_NIL ? car(car(rest)) : car(step);
    compile_expression(lisp, next, form_line(car(rest), line), false);
  }
  let_leave(lisp, slots, line, false);
  emit_jump_back(lisp, round, line);
  lisp->compiler.height += 1 - count;
  branch_close(lisp, done, tail);
}

static void compile_while(lisp_t *lisp, value_t form, uint32_t line, bool tail) {
  const uint32_t round = lisp->compiler.instruction_count;
  compile_expression(lisp, second(form), line, false);
  const uint32_t open = branch_open(lisp, line);
  compile_sequence(lisp, after_second(form), line, false);
  emit(lisp, CODE_POP, 0, 0, line);
  emit_jump_back(lisp, round, line);
  patch(lisp, open);
  compile_sequence(lisp, VALUE_NIL, line, tail);
}

static const syntax_t forms[] = {
    {"and", compile_and, 0, -1},       {"begin", compile_begin, 0, -1},
    {"case", compile_case, 1, -1},     {"cond", compile_cond, 0, -1},
    {"define", compile_define, 2, -1}, {"do", compile_do, 2, -1},
    {"if", compile_if, 2, 3},          {"lambda", compile_lambda_form, 2, -1},
    {"let", compile_let, 2, -1},       {"let*", compile_let_star, 2, -1},
    {"letrec", compile_letrec, 2, -1}, {"letrec*", compile_letrec, 2, -1},
    {"or", compile_or, 0, -1},         {"quasiquote", compile_quasiquote, 1, 1},
    {"quote", compile_quote, 1, 1},    {"set!", compile_set, 2, 2},
    {"unless", compile_unless, 1, -1}, {"when", compile_when, 1, -1},
    {"while", compile_while, 1, -1},
};

#define FORM_COUNT (sizeof forms / sizeof forms[0])

void syntax_start(lisp_t *lisp) {
  for (size_t i = 0; i < FORM_COUNT; i++) {
    value_symbol(symbol_named(lisp, forms[i].name))->object.detail = (uint16_t)(i + 1);
  }
}

const syntax_t *syntax_of(lisp_t *lisp, value_t head) {
  if (!value_is_symbol(head)) return NULL;
  const uint16_t detail = value_symbol(head)->object.detail;
  if (detail == 0 || scope_find(lisp, head).local) return NULL;
  return &forms[detail - 1];
}

static bool is_form(lisp_t *lisp, value_t form, syntax_function_t *function) {
  const syntax_t *syntax = value_is_pair(form) ? syntax_of(lisp, car(form)) : NULL;
  return syntax != NULL && syntax->compile == function;
}

bool syntax_is_define(lisp_t *lisp, value_t form) {
  return is_form(lisp, form, compile_define);
}

bool syntax_is_begin(lisp_t *lisp, value_t form) {
  return is_form(lisp, form, compile_begin);
}

value_t syntax_defined_name(lisp_t *lisp, value_t form, uint32_t line) {
  value_t name = value_is_pair(cdr(form)) ? second(form) : VALUE_NIL;
  const bool is_function = value_is_pair(name);
  if (is_function) name = car(name);
  if (!value_is_symbol(name)) {
    syntax_error(lisp, line, "define: not a variable: %s", lisp_text(lisp, name));
  }
  if (!is_function && after_second(form) != VALUE_NIL &&
      cdr(after_second(form)) != VALUE_NIL) {
    syntax_error(lisp, line, "define: more than one value for %s", symbol_text(name));
  }
  if (value_symbol(name)->object.detail != 0) {
    syntax_error(lisp, line, "define: %s is a special form", symbol_text(name));
  }
  return name;
}
