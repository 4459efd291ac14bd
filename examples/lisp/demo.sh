#!/bin/sh
# Run the demo programs with 32-bit references and with 64-bit pointers, and compare what
# the objects take that they make, how long they ran, and how long the collector stopped
# them. All that trees makes would not fit into the budget.
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
budget=64M

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
    "$program" --heap-limit=$budget --report="$work/report" "$script" "$@" >"$best.out" ||
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
  printf '%-10s %29s   %22s   %15s   %15s\n' '' 'bytes of objects made' 'run, ms' \
    'collecting, ms' 'collections'
  printf '%-10s %11s %11s %5s   %8s %8s %4s   %7s %7s   %7s %7s\n' program \
    '32-bit' '64-bit' 'ratio' '32-bit' '64-bit' '' '32-bit' '64-bit' '32-bit' '64-bit'
  for name in "$@"; do
    for key in made_bytes run_us gc_us collections; do
      printf '%s ' "$(value_of $key "$work/$name.32")" "$(value_of $key "$work/$name.64")"
    done | awk -v name="$name" '{
      printf "%-10s %11d %11d %5.2f   ", name, $1, $2, $1 / $2
      printf "%8.1f %8.1f %4.2f   ", $3 / 1000, $4 / 1000, $3 / $4
      printf "%7.1f %7.1f   %7d %7d\n", $5 / 1000, $6 / 1000, $7, $8 }'
  done
}

demo_program wordcount "$text"
demo_program queens 9
demo_program deriv 8
demo_program trees 18

printf '\n== The collections of trees, and what lives in the cage at the end\n'
"$lisp32" --heap-limit=$budget --gc-stats --report "$demo/trees.lisp" 18 2>&1 >/dev/null

printf '\n== 32-bit references against 64-bit pointers, the best of three runs\n'
comparison wordcount queens deriv trees
