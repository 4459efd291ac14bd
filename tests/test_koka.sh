#!/bin/sh
# The programs of bindings/koka: with calls and with inline allocation they print the same, what
# is expected, and end with nothing left; also in a small arena that is full. Without addresses
# enough they say so.
#
# top_builddir is the root of the build, SANITIZER what it was made with (no, address,
# undefined or thread).
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

folder=${top_builddir:-.}/bindings/koka

for program in koka-calls koka-inline; do
  if [ ! -x "$folder/$program" ]; then
    echo "FAIL: no program $folder/$program"
    exit 1
  fi
done

work=$(mktemp -d "${TMPDIR:-/tmp}/test_koka.XXXXXX") || exit 1
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

# run program argument...
run() {
  program=$1
  shift
  # shellcheck disable=SC2086
  $limit "$folder/$program" "$@" >"$work/out" 2>"$work/err"
  code=$?
}

# expect_output program argument...: it succeeds, and what it prints is in $work/wanted.
expect_output() {
  run "$@"
  if [ "$code" -ne 0 ] || [ -s "$work/err" ]; then
    fail "$*" "exit code $code, or something on standard error"
  elif ! sed 's/  *\([-0-9]*\)$/: \1/' "$work/out" | diff "$work/wanted" - >"$work/err"; then
    fail "$*" 'not what is expected'
  else
    ok "$*"
  fi
}

# 20000 elements: sums of 0 to 19999, and of 2000 keys.
cat >"$work/wanted" <<'END'
sum of a list: 199990000
objects allocated to map it: 0
objects allocated to map a copy: 20000
sum of the copy: 399960000
sum of the original: 399980000
size of a tree: 2000
values changed in the new tree: 200
values there in the old one: 2000
sum of the first thread: 200000
sum of the second thread: 200001
size of the shared tree: 2000
objects that are left: 0
blocks that are left: 0
END
expect_output koka-calls 20000
expect_output koka-inline 20000

# How much fits is not said: less than the arena's 8 MiB, 16 bytes each.
for program in koka-calls koka-inline; do
  run $program --small
  count=$(sed -n 's/^objects in a full arena *//p' "$work/out")
  if [ "$code" -ne 0 ] || [ -s "$work/err" ]; then
    fail "$program --small" "exit code $code, or something on standard error"
  elif [ "${count:-0}" -lt 262144 ] || [ "$count" -gt 524288 ]; then
    fail "$program --small" "$count objects"
  elif [ "$(grep -c ' are left  *0$' "$work/out")" -ne 2 ]; then
    fail "$program --small" 'something is left'
  else
    ok "$program --small: $count objects, then none, and nothing is left"
  fi
done

# The arena is not to be had. A sanitizer wants more addresses than that for itself.
# shellcheck disable=SC3045 # which shells can limit that is seen here
if [ "${SANITIZER:-no}" = no ] && (ulimit -v 8388608) 2>/dev/null; then
  for program in koka-calls koka-inline; do
    (ulimit -v 8388608 && exec "$folder/$program" 20000) >"$work/out" 2>"$work/err"
    code=$?
    if [ "$code" -ne 1 ] || ! grep -q '^koka: no addresses for the arena' "$work/err"; then
      fail "$program with 8 GiB of addresses" "exit code $code, or not the message"
    else
      ok "$program with 8 GiB of addresses says that they are too few"
    fi
  done
fi

# Both builds print the same, few elements or many.
for count in 1000 200000; do
  if run koka-calls $count && [ "$code" -eq 0 ] && cp "$work/out" "$work/wanted" &&
    run koka-inline $count && [ "$code" -eq 0 ] && cmp -s "$work/out" "$work/wanted"; then
    ok "both print the same, $count elements"
  else
    fail "both print the same, $count elements" "exit code $code, or they differ"
  fi
done

# refuse program argument...
refuse() {
  run "$@"
  if [ "$code" -ne 2 ] || [ -s "$work/out" ] || ! grep -q '^usage: ' "$work/err"; then
    fail "$*" "exit code $code instead of 2, or not the message"
  else
    ok "$* is refused"
  fi
}

for program in koka-calls koka-inline; do
  for argument in none 0 -5 999 10000001 '' '1000 x' --smaller; do
    refuse "$program" "$argument"
  done
  refuse "$program" 20000 20000
done

echo "$((passed + failed)) checked, $failed failed"
[ "$failed" -eq 0 ]
