#!/bin/sh
# The green threads of examples/green-threads: the sieve finds the primes with as many
# messages as it takes, whatever the numbers of green threads and workers; green threads
# move from worker to worker; nothing of them is left.
#
# top_builddir is the root of the build, SANITIZER what it was made with (no, address,
# undefined or thread).
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

program=${top_builddir:-.}/examples/green-threads/green-threads

if [ ! -x "$program" ]; then
  echo "FAIL: no program $program"
  exit 1
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/test_green_threads.XXXXXX") || exit 1
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

# Of how many moves the last run has told.
moves() {
  sed -n 's/.* messages; \([0-9]*\) moves .*/\1/p' "$work/out" |
    awk '{ sum += $1 } END { print sum + 0 }'
}

# expect_sieve green workers rounds result: a run with these numbers succeeds, and each
# round finds that.
expect_sieve() {
  case="$1 green threads, $2 workers, $3 rounds"
  run "$1" "$2" "$3"
  if [ "$code" -ne 0 ]; then
    fail "$case" "exit code $code"
  elif [ "$(grep -c "^$4; [0-9]* moves to another worker\$" "$work/out")" -ne "$3" ]; then
    fail "$case" "not in each round: $4"
  elif [ "$(tail -n 1 "$work/out")" != 'left: 0 mutators, 0 heaps, 0 pages' ]; then
    fail "$case" 'something is left'
  else
    ok "$case"
  fi
}

# expect_usage argument...: these are refused.
expect_usage() {
  run "$@"
  if [ "$code" -ne 2 ]; then
    fail "arguments $*" "exit code $code instead of 2"
  elif [ -s "$work/out" ] || ! grep -q '^usage: green-threads ' "$work/err"; then
    fail "arguments $*" 'not the message'
  else
    ok "arguments $* are refused"
  fi
}

expect_sieve 2 1 1 'prime 1 is 2; 2 messages'
expect_sieve 3 64 1 'prime 2 is 3; 5 messages'
expect_sieve 26 2 20 'prime 25 is 97; 457 messages'
expect_sieve 200 1 1 'prime 199 is 1217; 22084 messages'
if [ "$(moves)" -eq 0 ]; then
  ok 'one worker: nobody moves'
else
  fail 'one worker: nobody moves' "$(moves) moves"
fi

if [ "${SANITIZER:-no}" = no ]; then
  expect_sieve 1000 4 3 'prime 999 is 7907; 517351 messages'
else
  expect_sieve 300 4 2 'prime 299 is 1979; 48634 messages'
fi
if [ "$(moves)" -gt 0 ]; then
  ok "green threads move: $(moves) times"
else
  fail 'green threads move' 'none did'
fi

expect_usage 1
expect_usage 1000 0
expect_usage 1000 65
expect_usage 1000 4 0
expect_usage many

echo "$((passed + failed)) checked, $failed failed"
[ "$failed" -eq 0 ]
