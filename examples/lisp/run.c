/* run.c - the machine that runs compiled code.
 *
 * Invariant: the function that runs has its variables in registers.environment and its
 * unfinished values on top of the stack. Below those lies its return record of four
 * values: the caller's code, environment, next instruction (an index) and frame (an index
 * into the stack). The record whose code is VALUE_NIL ends the run. A call in tail
 * position makes no record, so a loop of tail calls needs no stack.
 *
 * The registers live in local variables while the machine runs. They are written back
 * before anything that may fail or make an object.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "builtin.h"
#include "lisp.h"

#define RECORD_SIZE 4

static inline environment_t *value_environment(value_t value) {
  return value_object(value);
}

static inline void save_registers(lisp_t *lisp, const registers_t *machine) {
  lisp->registers = *machine;
}

/* Make an environment whose first slots are the values on top of the stack, and drop
 * those. */
static inline value_t environment_new(lisp_t *lisp, registers_t *machine, value_t parent,
                                      uint32_t values, uint32_t slots) {
  save_registers(lisp, machine);
  environment_t *environment = object_new(lisp, TYPE_ENVIRONMENT, slots, 0);
  environment->parent = parent;
  machine->top -= values;
  for (uint32_t i = 0; i < values; i++) environment->slots[i] = machine->top[i];
  for (uint32_t i = values; i < slots; i++) environment->slots[i] = VALUE_UNBOUND;
  return object_value(environment);
}

static void push_record(lisp_t *lisp, registers_t *machine) {
  value_t *record = machine->top;
  record[0] = machine->code;
  record[1] = machine->environment;
  record[2] = fixnum_value(0);
  if (machine->code != VALUE_NIL) {
    const instruction_t *first = code_instructions(value_code(machine->code));
    record[2] = fixnum_value((int32_t)(machine->next - first));
  }
  record[3] = fixnum_value((int32_t)(machine->frame - lisp->stack));
  machine->frame = record;
  machine->top += RECORD_SIZE;
}

/* Back to the caller. Returns false at the end of the run. */
static inline bool pop_record(lisp_t *lisp, registers_t *machine) {
  const value_t *record = machine->frame;
  machine->top = machine->frame;
  machine->code = record[0];
  machine->environment = record[1];
  machine->frame = lisp->stack + value_fixnum(record[3]);
  if (machine->code == VALUE_NIL) return false;
  machine->next = code_instructions(value_code(machine->code)) + value_fixnum(record[2]);
  return true;
}

static _Noreturn void wrong_count(lisp_t *lisp, const char *name, uint32_t minimum,
                                  uint32_t maximum, uint32_t count) {
  if (minimum == maximum) {
    lisp_error(lisp, "%s: expected %u argument%s, got %u", name, (unsigned)minimum,
               minimum == 1 ? "" : "s", (unsigned)count);
  }
  const bool few = count < minimum;
  lisp_error(lisp, "%s: expected at %s %u argument%s, got %u", name,
             few ? "least" : "most", (unsigned)(few ? minimum : maximum),
             (few ? minimum : maximum) == 1 ? "" : "s", (unsigned)count);
}

/* The arguments from the stack's top beyond the required ones become one list. */
static uint32_t collect_rest(lisp_t *lisp, registers_t *machine, uint32_t required,
                             uint32_t count) {
  *machine->top++ = VALUE_NIL;
  save_registers(lisp, machine);
  value_t *list = machine->top - 1;
  for (uint32_t i = count; i > required; i--, list--) {
    list[-1] = pair_new(lisp, list[-1], list[0]);
  }
  machine->top = list + 1;
  return required + 1;
}

static inline void call_closure(lisp_t *lisp, registers_t *machine, value_t callee,
                                uint32_t count, bool tail) {
  const closure_t *closure = value_object(callee);
  code_t *code = value_code(closure->code);
  const function_t *function = code_functions(code) + closure->object.count;
  if (count != function->required && (count < function->required || !function->rest)) {
    wrong_count(lisp, symbol_text(code->constants[function->name]), function->required,
                function->rest ? UINT32_MAX : function->required, count);
  }
  if (machine->top + function->stack > lisp->stack_limit) {
    lisp_error(lisp, "recursion too deep");
  }
  if (function->rest) count = collect_rest(lisp, machine, function->required, count);

  value_t environment = closure->environment;
  if (function->slots > 0) {
    environment = environment_new(lisp, machine, environment, count, function->slots);
  }
  machine->top--;
  if (!tail) push_record(lisp, machine);
  machine->environment = environment;
  machine->code = closure->code;
  machine->next = code_instructions(code) + function->entry;
}

static inline void call_builtin(lisp_t *lisp, registers_t *machine, value_t callee,
                                uint32_t count) {
  const builtin_t *builtin = value_object(callee);
  const builtin_definition_t *definition = lisp->builtins[builtin->object.count];
  const uint32_t minimum = definition->arguments_min;
  const uint32_t maximum = definition->arguments_max;
  if (count < minimum || (count > maximum && maximum != BUILTIN_ANY)) {
    wrong_count(lisp, definition->name, minimum, maximum, count);
  }
  lisp->builtin = definition;
  value_t *values = machine->top - count;
  const value_t result = definition->function(lisp, (arguments_t){values, count});
  machine->top = values;
  values[-1] = result;
}

/* Is it (apply ...)? */
static bool is_apply(lisp_t *lisp, value_t callee) {
  const uint32_t index = ((builtin_t *)value_object(callee))->object.count;
  return lisp->builtins[index]->function == builtin_apply;
}

/* Turn (apply function argument ... list) into the call that it stands for. Returns the
 * number of arguments. */
static uint32_t spread(lisp_t *lisp, registers_t *machine, uint32_t count) {
  value_t *values = machine->top - count;
  lisp->builtin = lisp->builtins[((builtin_t *)value_object(values[-1]))->object.count];
  if (count < 2) wrong_count(lisp, "apply", 2, UINT32_MAX, count);
  value_t list = values[count - 1];
  const size_t length = expect_list(lisp, list);
  if (length > (size_t)(lisp->stack_limit - machine->top)) {
    lisp_error(lisp, "recursion too deep");
  }
  memmove(values - 1, values, (count - 1) * sizeof(value_t));
  machine->top -= 2;
  for (; list != VALUE_NIL; list = cdr(list)) *machine->top++ = car(list);
  return count - 2 + (uint32_t)length;
}

static inline void call(lisp_t *lisp, registers_t *machine, uint32_t count, bool tail) {
  save_registers(lisp, machine);
  for (;;) {
    const value_t callee = machine->top[-(ptrdiff_t)count - 1];
    if (value_has_type(callee, TYPE_CLOSURE)) {
      call_closure(lisp, machine, callee, count, tail);
      return;
    }
    if (!value_has_type(callee, TYPE_BUILTIN)) {
      lisp_error(lisp, "not a function: %s", lisp_text(lisp, callee));
    }
    if (!is_apply(lisp, callee)) {
      call_builtin(lisp, machine, callee, count);
      return;
    }
    count = spread(lisp, machine, count);
    save_registers(lisp, machine);
  }
}

/* The slot of a local variable. */
static inline value_t *local(const registers_t *machine, const instruction_t *at) {
  value_t environment = machine->environment;
  for (uint32_t depth = at->depth; depth > 0; depth--) {
    environment = value_environment(environment)->parent;
  }
  return &value_environment(environment)->slots[at->operand];
}

static inline value_t global(lisp_t *lisp, const registers_t *machine, value_t symbol) {
  const value_t value = value_symbol(symbol)->global;
  if (value == VALUE_UNBOUND) {
    save_registers(lisp, machine);
    lisp_error(lisp, "undefined name: %s", symbol_text(symbol));
  }
  return value;
}

static void check_bound(lisp_t *lisp, const registers_t *machine, value_t symbol) {
  if (machine->top[-1] != VALUE_UNBOUND) return;
  save_registers(lisp, machine);
  lisp_error(lisp, "%s is used before its definition", symbol_text(symbol));
}

static value_t closure_new(lisp_t *lisp, const registers_t *machine, uint32_t index) {
  save_registers(lisp, machine);
  closure_t *closure = object_new(lisp, TYPE_CLOSURE, index, 0);
  closure->code = machine->code;
  closure->environment = machine->environment;
  return object_value(closure);
}

static bool list_has(value_t list, value_t item) {
  while (list != VALUE_NIL && car(list) != item) list = cdr(list);
  return list != VALUE_NIL;
}

/* Run from the machine's registers to the end. Returns the result. */
static value_t run(lisp_t *lisp, registers_t machine) {
  for (;;) {
    const instruction_t *at = machine.next++;
    code_t *code = value_code(machine.code);
    value_t *top = machine.top;
    switch ((operation_t)at->operation) {
      case CODE_CONSTANT: *machine.top++ = code->constants[at->operand]; break;
      case CODE_LOCAL: *machine.top++ = *local(&machine, at); break;
      case CODE_CHECK: check_bound(lisp, &machine, code->constants[at->operand]); break;
      case CODE_GLOBAL:
        *machine.top++ = global(lisp, &machine, code->constants[at->operand]);
        break;
      case CODE_SET_LOCAL:
        *local(&machine, at) = top[-1];
        top[-1] = VALUE_UNSPECIFIED;
        break;
      case CODE_SET_GLOBAL:
        global(lisp, &machine, code->constants[at->operand]);
        /* fall through */
      case CODE_DEFINE_GLOBAL:
        value_symbol(code->constants[at->operand])->global = top[-1];
        top[-1] = VALUE_UNSPECIFIED;
        break;
      case CODE_POP: machine.top--; break;
      case CODE_DUPLICATE: *machine.top++ = top[-1]; break;
      case CODE_SWAP: {
        const value_t under = top[-2];
        top[-2] = top[-1];
        top[-1] = under;
        break;
      }
      case CODE_MEMBER:
        top[-1] = boolean_value(list_has(code->constants[at->operand], top[-1]));
        break;
      case CODE_JUMP: machine.next = at + (int32_t)at->operand; break;
      case CODE_JUMP_IF_FALSE:
        machine.top--;
        if (!value_is_true(top[-1])) machine.next = at + (int32_t)at->operand;
        break;
      case CODE_AND:
      case CODE_OR:
        if (value_is_true(top[-1]) == (at->operation == CODE_OR)) {
          machine.next = at + (int32_t)at->operand;
        } else {
          machine.top--;
        }
        break;
      case CODE_CLOSURE:
        *machine.top++ = closure_new(lisp, &machine, at->operand);
        machine.next = code_instructions(code) + code_functions(code)[at->operand].end;
        break;
      case CODE_ENTER:
        machine.environment =
            environment_new(lisp, &machine, machine.environment, at->depth, at->operand);
        break;
      case CODE_LEAVE:
        for (uint32_t i = at->operand; i > 0; i--) {
          machine.environment = value_environment(machine.environment)->parent;
        }
        break;
      case CODE_CALL: call(lisp, &machine, at->operand, false); break;
      case CODE_TAIL_CALL: {
        const value_t *frame = machine.frame;
        call(lisp, &machine, at->operand, true);
        /* A builtin has left its result; a Lisp function has yet to run. */
        if (machine.top == frame + RECORD_SIZE) break;
      }
        /* fall through */
      case CODE_RETURN: {
        const value_t result = machine.top[-1];
        if (!pop_record(lisp, &machine)) {
          save_registers(lisp, &machine);
          return result;
        }
        *machine.top++ = result;
        break;
      }
    }
  }
}

value_t lisp_call(lisp_t *lisp, value_t function) {
  registers_t machine = lisp->registers;
  *machine.top++ = function;
  call(lisp, &machine, 0, false);
  return run(lisp, machine);
}

value_t builtin_apply(lisp_t *lisp, arguments_t arguments) {
  (void)lisp;
  return arguments.values[0]; /* never called: see spread */
}
