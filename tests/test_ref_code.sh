#!/bin/sh
# What decoding and encoding a reference costs where base, shift and mode are constants:
# compiles each with -O2, disassembles it, and counts the instructions before its return.
#
# CC is the compiler, top_srcdir the root of the sources, ATOMIC_OPS_CFLAGS where
# atomic_ops.h lies if the compiler does not find it itself. Exit code 77: cannot be told
# here.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

CC=${CC:-cc}
top_srcdir=${top_srcdir:-.}
OBJDUMP=${OBJDUMP:-objdump}

if ! command -v "$OBJDUMP" >/dev/null 2>&1; then
  echo "skipped: there is no $OBJDUMP"
  exit 77
fi
# CC may be a command with options: it is split into words on purpose.
machine=$($CC -dumpmachine 2>/dev/null)
case $machine in
  x86_64-*x32* | aarch64*_ilp32) echo "skipped: 32-bit pointers on $machine"; exit 77 ;;
  x86_64-* | aarch64-*) ;;
  *) echo "skipped: instructions of '$machine' are not counted"; exit 77 ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/test_ref_code.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# A function for each way, and how many instructions it may take: two, and one more where
# a base has to be loaded first because it fits into no instruction.
cat >"$work/ref.c" <<'END'
#include <mirt/ref.h>

#define WAY(name, base, shift, mode)                                              \
  void* decode_##name(mirt_ref_t ref) { return mirt_decode_at(base, shift, mode, ref); } \
  mirt_ref_t encode_##name(const void* p) { return mirt_encode_at(base, shift, mode, p); }

WAY(zero_shift_0, 0, 0, MIRT_CAGE_ZERO_BASED)
WAY(zero_shift_3, 0, 3, MIRT_CAGE_ZERO_BASED)
WAY(aligned_shift_0, (uintptr_t)1 << 44, 0, MIRT_CAGE_ALIGNED)
WAY(aligned_shift_3, (uintptr_t)1 << 44, 3, MIRT_CAGE_ALIGNED)
END

limits='
decode_zero_shift_0 2
encode_zero_shift_0 2
decode_zero_shift_3 2
encode_zero_shift_3 2
decode_aligned_shift_0 3
encode_aligned_shift_0 2
decode_aligned_shift_3 3
encode_aligned_shift_3 2
'

# shellcheck disable=SC2086
if ! $CC -std=c11 -O2 -fomit-frame-pointer -fno-stack-protector -I"$top_srcdir/include" \
    ${ATOMIC_OPS_CFLAGS-} -c "$work/ref.c" -o "$work/ref.o"; then
  echo "FAIL: $CC does not compile <mirt/ref.h>"
  exit 1
fi
if ! "$OBJDUMP" -d --no-show-raw-insn "$work/ref.o" >"$work/code" 2>"$work/err"; then
  cat "$work/err"
  echo "skipped: $OBJDUMP cannot disassemble for $machine"
  exit 77
fi

# The instructions of one function, up to its return; landing pads cost nothing.
instructions() {
  awk -v name="<$1>:" '
    $2 == name { inside = 1; next }
    !inside { next }
    NF == 0 { exit }
    {
      sub(/^[ \t]*[0-9a-f]+:[ \t]*/, "")
      if ($1 ~ /^(endbr64|bti|nop|nopw|nopl|hint|xchg)$/) next
      if ($1 ~ /^(ret|retq|rep|repz)$/) { returns = 1; exit }
      print
    }
    END { if (!returns) print "no return found" }
  ' "$work/code"
}

failed=0
checked=0
while read -r name limit; do
  [ -n "$name" ] || continue
  instructions "$name" >"$work/one"
  count=$(grep -c . "$work/one")
  checked=$((checked + 1))
  if grep -q 'no return found' "$work/one"; then
    echo "FAIL $name: not found in the disassembly"
    failed=$((failed + 1))
  elif [ "$count" -gt "$limit" ]; then
    echo "FAIL $name: $count instructions, at most $limit wanted"
    sed 's/^/     | /' "$work/one"
    failed=$((failed + 1))
  else
    echo "ok   $name: $count of at most $limit instructions"
  fi
done <<END
$limits
END

echo "$checked checked, $failed failed, $($CC --version | head -n 1)"
[ "$checked" -eq 8 ] && [ "$failed" -eq 0 ]
