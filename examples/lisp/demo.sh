#!/bin/sh
# Run the demo programs with 32-bit references and with 64-bit pointers, and compare what
# their objects take, how long they ran, and how long destroying the heaps took.
#
# usage: demo.sh [text]
# LISP32 and LISP64 are the programs, srcdir is the root of the sources; the text whose
# words are counted is the argument, or DEMO_TEXT, or the GPL of a Debian system.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -eu

lisp32=${LISP32:-./examples/lisp/lisp32}
lisp64=${LISP64:-./examples/lisp/lisp64}
demo=${srcdir:-.}/examples/lisp/demo
text=${1:-${DEMO_TEXT:-/usr/share/common-licenses/GPL-3}}
runs='1 2 3'

die() {
  printf 'demo.sh: %s\n' "$*" >&2
  exit 1
}

[ -x "$lisp32" ] || die "no program $lisp32 (set LISP32)"
[ -x "$lisp64" ] || die "no program $lisp64 (set LISP64)"
[ -d "$demo" ] || die "no folder $demo (set srcdir to the root of the sources)"
[ -r "$text" ] && [ -f "$text" ] ||
  die "cannot read the text $text; give another one as argument or in DEMO_TEXT"

work=$(mktemp -d "${TMPDIR:-/tmp}/lisp-demo.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

value_of() {
  sed -n "s/^$1=//p" "$2"
}

# run_best program bits name argument...: several runs; keep the quickest one's report.
run_best() {
  program=$1
  best=$work/$3.$2
  script=$demo/$3.lisp
  shift 3
  for run in $runs; do
    "$program" --report="$work/report" "$script" "$@" >"$best.out" ||
      die "$program $script failed"
    if [ "$run" -eq 1 ] ||
      [ "$(value_of run_us "$work/report")" -lt "$(value_of run_us "$best")" ]; then
      cp "$work/report" "$best"
    fi
  done
}

demo_program() {
  printf '== %s\n' "$*"
  run_best "$lisp32" 32 "$@"
  run_best "$lisp64" 64 "$@"
  cat "$work/$1.32.out"
  cmp -s "$work/$1.32.out" "$work/$1.64.out" ||
    die "$1: the two programs print different things"
}

comparison() {
  printf '%-10s %33s   %24s   %20s\n' '' 'bytes of objects' 'run, ms' 'destroying, us'
  printf '%-10s %12s %12s %7s   %8s %8s %6s   %9s %10s\n' program \
    '32-bit' '64-bit' 'ratio' '32-bit' '64-bit' 'ratio' '32-bit' '64-bit'
  for name in "$@"; do
    for key in total_bytes run_us destroy_us; do
      printf '%s ' "$(value_of $key "$work/$name.32")" "$(value_of $key "$work/$name.64")"
    done | awk -v name="$name" '{
      printf "%-10s %12d %12d %7.2f   ", name, $1, $2, $1 / $2
      printf "%8.1f %8.1f %6.2f   %9d %10d\n", $3 / 1000, $4 / 1000, $3 / $4, $5, $6 }'
  done
}

demo_program wordcount "$text"
demo_program queens 9
demo_program deriv 8
demo_program trees 17

printf '\n== What the objects of trees take in the cage\n'
"$lisp32" --report "$demo/trees.lisp" 17 2>&1 >/dev/null

printf '\n== 32-bit references against 64-bit pointers, the best of three runs\n'
comparison wordcount queens deriv trees
