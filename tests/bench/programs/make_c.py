#!/usr/bin/env python3
"""Prints a large C file for a compiler to work on: the same one each time."""

FUNCTIONS = 1000
FIELDS = 12

state = 1


def below(limit):
    """A number from 0 to limit - 1. Python's own generator may change one day."""
    global state
    state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
    return (state >> 33) % limit


def expression(depth):
    if depth == 0:
        return ("a", "b", "x", "y", "t[x & 7]", "self->f%d" % below(FIELDS),
                str(below(1000)))[below(7)]
    operator = ("+", "-", "*", "&", "^", "|", "<", "==")[below(8)]
    return "(%s %s %s)" % (expression(depth - 1), operator, expression(depth - 1))


def statement(number):
    kind = below(6)
    if kind == 0:
        return "  if (%s) x += %s; else y ^= %s;" % (
            expression(2), expression(1), expression(1))
    if kind == 1:
        return "  for (unsigned i = 0; i < (%s & 15); i++) t[i & 7] += %s ^ i;" % (
            expression(1), expression(1))
    if kind == 2:
        cases = "".join(" case %d: x = %s; break;" % (i, expression(1))
                        for i in range(2 + below(5)))
        return "  switch (x & 7) {%s default: y--; }" % cases
    if kind == 3 and number > 0:
        return "  x += function%d(self, %s, %s);" % (
            below(number), expression(1), expression(1))
    if kind == 4:
        return "  self->f%d = %s;" % (below(FIELDS), expression(2))
    return "  %s = %s;" % (("x", "y")[below(2)], expression(3))


def main():
    print("struct state {")
    for i in range(FIELDS):
        print("  unsigned f%d;" % i)
    print("};")
    for number in range(FUNCTIONS):
        print("unsigned function%d(struct state *self, unsigned a, unsigned b) {"
              % number)
        print("  unsigned t[8] = {a, b}, x = a, y = b;")
        for _ in range(1 + below(3)):
            print(statement(number))
        print("  return x + y + t[%d];\n}" % below(8))


main()
