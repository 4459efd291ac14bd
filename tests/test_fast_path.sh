#!/bin/sh
# The fast path of mirt_new is at most 10 instructions on x86-64: they are counted in the
# object code of a function that does nothing else, from its start to before its return,
# which an inline function has not.
#
# CC is the compiler, top_srcdir the root of the sources, ATOMIC_OPS_CFLAGS where
# atomic_ops.h lies if the compiler does not find it itself. Exit code 77: cannot be told
# here.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

CC=${CC:-cc}
top_srcdir=${top_srcdir:-.}
OBJDUMP=${OBJDUMP:-objdump}

if [ "${SANITIZER:-no}" != no ]; then
  echo "skip: a sanitizer's instructions would be counted"
  exit 77
fi
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

case $($CC -dumpmachine 2>/dev/null) in
x86_64*) ;;
*)
  echo "skip: the compiler is not one for x86-64"
  exit 77
  ;;
esac
if ! command -v "$OBJDUMP" >/dev/null 2>&1; then
  echo "skip: there is no $OBJDUMP"
  exit 77
fi

cat >"$dir/fast.c" <<'END'
#include <mirt.h>
void *allocate(mirt_mutator_t *mutator, const mirt_type_t *type);
void *allocate(mirt_mutator_t *mutator, const mirt_type_t *type) {
  return mirt_new(mutator, type);
}
END

failed=0
# Position-dependent or not, and where each call could be checked by the processor.
for flags in "-O2" "-O2 -fPIC" "-O2 -fno-pie" "-O3" "-O2 -fcf-protection=full"; do
  if ! $CC -std=gnu11 $flags -DNDEBUG -I"$top_srcdir/include" ${ATOMIC_OPS_CFLAGS:-} -c "$dir/fast.c" \
    -o "$dir/fast.o"; then
    echo "$flags: does not compile"
    failed=1
    continue
  fi
  # A landing pad is no work, and there for every function.
  "$OBJDUMP" -d --no-show-raw-insn "$dir/fast.o" |
    awk '/<allocate>:/ { inside = 1; next }
         inside && /^ *[0-9a-f]+:/ { sub(/^ *[0-9a-f]+:[ \t]*/, ""); print }' |
    grep -v '^endbr64' >"$dir/code"
  # Nothing is printed where there is no return.
  count=$(awk '{ n++ } /^(rep[z]? )?ret/ { print n - 1; exit }' "$dir/code")
  : "${count:=0}"
  # One way out before the return, to the slow path; no call and no loop.
  jumps=$(sed "${count}q" "$dir/code" | grep -c '^j')
  calls=$(sed "${count}q" "$dir/code" | grep -c '^call')
  echo "$flags: $count instructions"
  if [ "$count" -lt 5 ] || [ "$count" -gt 10 ] || [ "$jumps" != 1 ] ||
    [ "$calls" != 0 ]; then
    echo "FAIL: expected 5 to 10, with one jump and no call:"
    cat "$dir/code"
    failed=1
  fi
done
exit $failed
