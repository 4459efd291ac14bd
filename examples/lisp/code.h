/* code.h - compiled code: what compile.c makes and run.c runs.
 *
 * Invariant: a code object is what one form at top level was compiled to: constants, the
 * functions in that form (the form itself is function 0), instructions. It is complete
 * when it is made and never changes.
 *
 * The machine has a stack of values and two registers: the code that runs, and the
 * environment with its variables. An instruction takes its operands from the top of the
 * stack and leaves its result there.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef LISP_CODE_H
#define LISP_CODE_H

#include "object.h"

typedef enum operation_e {
  CODE_CONSTANT,      /* push constant [operand] */
  CODE_LOCAL,         /* push variable [operand] of the environment [depth] out */
  CODE_CHECK,         /* fail if the top is unbound; its name is constant [operand] */
  CODE_GLOBAL,        /* push the global variable of symbol constant [operand] */
  CODE_SET_LOCAL,     /* store the top there, replace it by the unspecified value */
  CODE_SET_GLOBAL,    /* the same; fail if the variable is not defined */
  CODE_DEFINE_GLOBAL, /* the same, define the variable */
  CODE_POP,           /* drop the top */
  CODE_DUPLICATE,     /* push the top again */
  CODE_SWAP,          /* exchange the top and the value under it */
  CODE_MEMBER,        /* replace the top: is it in the list constant [operand]? */
  CODE_JUMP,          /* go on [operand] instructions from here */
  CODE_JUMP_IF_FALSE, /* drop the top, and jump if it was #f */
  CODE_AND,           /* if the top is #f jump and keep it, else drop it */
  CODE_OR,            /* if the top is #f drop it, else jump and keep it */
  CODE_CLOSURE,       /* push function [operand] closed over the environment, skip it */
  CODE_ENTER,         /* move [depth] values to a new environment of [operand] slots */
  CODE_LEAVE,         /* back to the environment [operand] out */
  CODE_CALL,          /* call the function under [operand] arguments */
  CODE_TAIL_CALL,     /* the same, as the last thing of this function */
  CODE_RETURN         /* return the top to the caller */
} operation_t;

typedef struct instruction_s {
  uint16_t operation;
  uint16_t depth;
  uint32_t operand;
  uint32_t line; /* for messages */
} instruction_t;

typedef struct function_s {
  uint32_t entry;    /* its first instruction */
  uint32_t end;      /* the instruction after its last one */
  uint32_t slots;    /* variables: parameters and inner definitions; 0: no environment */
  uint32_t stack;    /* how many values it has on the stack at most */
  uint32_t required; /* parameters without the last one of (a b . rest) */
  uint32_t rest;     /* 1 if there is such a last one */
  uint32_t name;     /* a symbol among the constants */
} function_t;

static inline code_t *value_code(value_t value) { return value_object(value); }

static inline function_t *code_functions(code_t *code) {
  return (function_t *)(code->constants + code->object.count);
}

static inline instruction_t *code_instructions(code_t *code) {
  return (instruction_t *)(code_functions(code) + code->object.detail);
}

#endif /* LISP_CODE_H */
