#!/bin/sh
# The program of bindings/koka, in both builds: it finds each sum and leaves no object behind,
# with lists short and long, and in an arena that is full; wrong arguments are refused.
#
# top_builddir is the root of the build.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

folder=${top_builddir:-.}/bindings/koka
work=$(mktemp -d "${TMPDIR:-/tmp}/test_koka.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

passed=0
failed=0

# expect NAME CODE PROGRAM ARGUMENT...
expect() {
  name=$1
  wanted=$2
  program=$3
  shift 3
  "$folder/$program" "$@" >"$work/out" 2>"$work/err"
  code=$?
  if [ "$code" -eq "$wanted" ]; then
    echo "ok   $name"
    passed=$((passed + 1))
  else
    echo "FAIL $name: exit code $code, not $wanted"
    sed 's/^/     | /' "$work/out" "$work/err" | head -n 30
    failed=$((failed + 1))
  fi
}

for program in koka-calls koka-inline; do
  for count in 1000 20000 200000; do
    expect "$program, $count elements" 0 $program $count
    cp "$work/out" "$work/$program.$count"
  done
  expect "$program, a full arena" 0 $program --small
  for wrong in 0 -5 999 10000001 many '' '1000 x' --smaller; do
    expect "$program refuses '$wrong'" 2 $program "$wrong"
  done
  expect "$program refuses two arguments" 2 $program 1000 1000
done

for count in 1000 20000 200000; do
  if cmp -s "$work/koka-calls.$count" "$work/koka-inline.$count"; then
    echo "ok   both print the same, $count elements"
    passed=$((passed + 1))
  else
    echo "FAIL both print the same, $count elements"
    failed=$((failed + 1))
  fi
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
