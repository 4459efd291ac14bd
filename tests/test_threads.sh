#!/bin/sh
# The threads of examples/threads: they share a graph of objects, one of them stops the
# others to collect, and each collection leaves exactly what can be reached, as it was;
# with refs and pointers, few threads and many, several markers, and a lazy sweep. And the
# check finds what dies though it is needed.
#
# top_builddir is the root of the build, SANITIZER what it was made with (no, address,
# undefined or thread).
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

program=${top_builddir:-.}/examples/threads/threads

if [ ! -x "$program" ]; then
  echo "FAIL: no program $program"
  exit 1
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/test_threads.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

limit=
if command -v timeout >/dev/null 2>&1; then limit='timeout 300'; fi

passed=0
failed=0

ok() {
  echo "ok   $1"
  passed=$((passed + 1))
}

fail() {
  echo "FAIL $1: $2"
  head -n 20 "$work/out" "$work/err" | sed 's/^/     | /'
  failed=$((failed + 1))
}

# run argument...
run() {
  # shellcheck disable=SC2086
  $limit "$program" "$@" >"$work/out" 2>"$work/err"
  code=$?
}

# The number before these words in what the last run has printed.
number_of() {
  sed -n "s/^\(.* \)\{0,1\}\([0-9][0-9]*\) $1.*/\2/p" "$work/out" | head -n 1
}

# expect collections head argument...: with these arguments the program succeeds, begins with
# this, and has collected at least so often, with objects to free and to check.
expect() {
  least=$1
  head=$2
  shift 2
  run "$@"
  collections=$(number_of collections)
  freed=$(number_of 'objects freed')
  checked=$(number_of 'objects checked')
  if [ "$code" -ne 0 ]; then
    fail "threads $*" "exit code $code"
  elif [ -s "$work/err" ]; then
    fail "threads $*" 'something on standard error'
  elif ! head -n 1 "$work/out" | grep -q "^$head"; then
    fail "threads $*" "the first line does not begin with: $head"
  elif [ "${collections:-0}" -lt "$least" ]; then
    fail "threads $*" "fewer than $least collections"
  elif [ "${freed:-0}" -le 0 ] || [ "${checked:-0}" -le "$collections" ]; then
    fail "threads $*" 'too little was freed or checked'
  else
    ok "threads $*: $collections collections, $freed freed, $checked checked"
  fi
}

# expect_found argument...: the check finds that objects have died.
expect_found() {
  run "$@"
  if [ "$code" -ne 1 ] || ! grep -q "/world\.c:[0-9]*: .* is false\$" "$work/err"; then
    fail "threads $*" "exit code $code: the check has not found it"
  else
    ok "threads $*: the check finds it"
  fi
}

# expect_usage argument...: these are refused.
expect_usage() {
  run "$@"
  if [ "$code" -ne 2 ]; then
    fail "arguments $*" "exit code $code instead of 2"
  elif [ -s "$work/out" ] || ! grep -q '^usage: threads ' "$work/err"; then
    fail "arguments $*" 'not the message'
  else
    ok "arguments $* are refused"
  fi
}

n=20000
if [ "${SANITIZER:-no}" != no ]; then n=5000; fi

# Two collections are those at the end, which no thread's allocation has asked for.
expect 5 "4 threads, refs: $((4 * n)) operations" -n $n
expect 5 "4 threads, pointers: $((4 * n)) operations" -n $n -p
expect 5 "4 threads, refs: $((4 * n)) operations" -n $n -m 3
expect 5 "4 threads, refs: $((4 * n)) operations" -n $n -l
expect 5 "4 threads, pointers: $((4 * n)) operations" -n $n -l -p -m 2
expect 5 "1 threads, refs: $((4 * n)) operations" -n $((4 * n)) -t 1
expect 5 "64 threads, refs: $((64 * (n / 16))) operations" -n $((n / 16)) -t 64
expect 2 '4 threads, refs: [1-9][0-9]* operations' -s 1

expect_found -n $n -f
expect_found -n $n -f -p

expect_usage -t 0
expect_usage -t 65
expect_usage -n many
expect_usage -x
expect_usage more

echo "$((passed + failed)) checked, $failed failed"
[ "$failed" -eq 0 ]
