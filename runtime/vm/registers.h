/* registers.h - what a caller may have in registers.
 *
 * Invariant: a value that a caller keeps in a register is either in that register still, or in
 * the frame of a function between, which has saved it to use the register itself. So the
 * registers and the frames together have everything.
 */
#ifndef MIRT_VM_REGISTERS_H
#define MIRT_VM_REGISTERS_H

#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"

#define REGISTERS_MAX ((size_t)64) /* at least what setjmp saves, in words */

_Static_assert(sizeof(jmp_buf) <= REGISTERS_MAX * sizeof(uintptr_t), "there is room");

/* Save the registers that a function keeps for its caller. Inline, so that they are those of the
 * function it stands in. (Not by setjmp where we know better: the C library scrambles some of what
 * that saves.) */
static inlined_always void registers_save(uintptr_t registers[REGISTERS_MAX]) {
#if defined(__x86_64__)
  memset(registers, 0, REGISTERS_MAX * sizeof registers[0]);
  __asm__ volatile("movq %%rbx, 0(%0)\n\tmovq %%rbp, 8(%0)\n\tmovq %%r12, 16(%0)\n\t"
                   "movq %%r13, 24(%0)\n\tmovq %%r14, 32(%0)\n\tmovq %%r15, 40(%0)"
                   :
                   : "r"(registers)
                   : "memory");
#elif defined(__aarch64__)
  memset(registers, 0, REGISTERS_MAX * sizeof registers[0]);
  __asm__ volatile("stp x19, x20, [%0]\n\tstp x21, x22, [%0, #16]\n\t"
                   "stp x23, x24, [%0, #32]\n\tstp x25, x26, [%0, #48]\n\t"
                   "stp x27, x28, [%0, #64]\n\tstr x29, [%0, #80]"
                   :
                   : "r"(registers)
                   : "memory");
#else
  jmp_buf saved;
  memset(registers, 0, REGISTERS_MAX * sizeof registers[0]);
  (void)setjmp(saved);
  memcpy(registers, &saved, sizeof saved);
#endif
}

#endif
