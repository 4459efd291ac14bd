#!/bin/sh
# The Lisp of examples/lisp, in both builds: scripts whose output is known, and bad input,
# which must end in one clear line and exit code 1; all of it once more with a collection
# for each object made, or, where that would take minutes, for some.
#
# LISP32 and LISP64 are the programs, srcdir is the root of the sources.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

absolute() {
  case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s/%s\n' "$(pwd)" "$1" ;;
  esac
}

LISP32=$(absolute "${LISP32:-examples/lisp/lisp32}")
LISP64=$(absolute "${LISP64:-examples/lisp/lisp64}")
lisp=$(absolute "${srcdir:-.}")/examples/lisp
work=$(mktemp -d "${TMPDIR:-/tmp}/test_lisp.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

for program in "$LISP32" "$LISP64"; do
  if [ ! -x "$program" ]; then
    printf 'FAIL: no program %s\n' "$program"
    exit 1
  fi
done

passed=0
failed=0

ok() {
  printf 'ok   %s\n' "$1"
  passed=$((passed + 1))
}

fail() {
  printf 'FAIL %s: %s\n' "$1" "$2"
  sed 's/^/     | /' "$work/err" | head -n 5
  failed=$((failed + 1))
}

# Run a program, given as its variable's name, with arguments; standard input is $input.
run() {
  eval "program=\$$1"
  shift
  "$program" "$@" <"$input" >"$work/out" 2>"$work/err"
  code=$?
}

# expect_output case file: the last run printed that and succeeded.
expect_output() {
  if [ "$code" -ne 0 ]; then
    fail "$1" "exit code $code"
  elif [ -s "$work/err" ]; then
    fail "$1" 'something on standard error'
  elif ! cmp -s "$work/out" "$2"; then
    diff "$2" "$work/out" >"$work/err"
    fail "$1" 'different output'
  else
    ok "$1"
  fi
}

# expect_error case pattern: the last run ended with one line that has the pattern.
expect_error() {
  if [ "$code" -ne 1 ]; then
    fail "$1" "exit code $code"
  elif [ "$(wc -l <"$work/err")" -ne 1 ]; then
    fail "$1" "$(wc -l <"$work/err") lines on standard error"
  elif ! grep -q -e "$2" "$work/err"; then
    fail "$1" "not the message: $2"
  else
    ok "$1"
  fi
}

# expect case condition...: a test of what the last run left.
expect() {
  name=$1
  shift
  if "$@"; then ok "$name"; else fail "$name" "not true: $*"; fi
}

# The value of a key in a report.
value_of() {
  sed -n "s/^$1=//p" "$2"
}

# How often to collect in a script: those with many objects or a deep stack, seldom.
every() {
  case $1 in
    recursion*) echo 500009 ;;
    functions* | lists* | tables* | nested-*) echo 20011 ;;
    *) echo 1 ;;
  esac
}

# output_of case script argument...: run it, and compare.
output_of() {
  case=$1
  script=$2
  shift 2
  run "$@" "$script"
  expect_output "$case" "${script%.lisp}.out"
}

scripts() {
  for script in *.lisp; do
    input=/dev/null
    output_of "$1 ${script%.lisp}" "$script" "$1"
    output_of "$1 ${script%.lisp} collecting" "$script" "$1" \
      "--gc-every=$(every "$script")"
  done
}

error_of() {
  case=$1
  script=$2
  shift 2
  run "$@" "$script"
  if [ "$code" -ne 1 ]; then
    fail "$case" "exit code $code"
  elif ! cmp -s "$work/err" "${script%.lisp}.err"; then
    fail "$case" "expected: $(cat "${script%.lisp}.err")"
  else
    ok "$case"
  fi
}

bad_scripts() {
  for script in *.lisp; do
    input=/dev/null
    error_of "$1 bad/${script%.lisp}" "$script" "$1"
    error_of "$1 bad/${script%.lisp} collecting" "$script" "$1" \
      "--gc-every=$(every "$script")"
  done
}

# Files too large to keep: lists and quotes nested a million deep.
nested_input() {
  awk 'BEGIN { for (i = 0; i < 1000000; i++) printf "(" }' >"$work/nested.lisp"
  tr '(' "'" <"$work/nested.lisp" >"$work/quotes.lisp"
  awk 'BEGIN { for (i = 0; i < 900; i++) printf "(+ 1 (let ((x 1)) "; printf "(print 1)"
    for (i = 0; i < 900; i++) printf "))" }' >"$work/deep.lisp"
  for case in nested quotes; do
    run "$1" "$work/$case.lisp"
    expect_error "$1 $case" "$case.lisp:1: lists nested too deeply"
  done
  run "$1" "$work/deep.lisp"
  expect_error "$1 deep" 'deep.lisp:1: +: expected a number, got #<unspecified>'
}

# Each fills the heap with objects of another kind that it can still reach.
full_memory() {
  cat >"$work/pairs.lisp" <<'END'
(let loop ((list '())) (loop (cons 1 list)))
END
  cat >"$work/strings.lisp" <<'END'
(let loop ((string "x")) (loop (string-append string string)))
END
  cat >"$work/symbols.lisp" <<'END'
(let loop ((i 0)) (string->symbol (number->string i)) (loop (+ i 1)))
END
  cat >"$work/closures.lisp" <<'END'
(let loop ((f #f)) (loop (lambda () f)))
END
  cat >"$work/code.lisp" <<'END'
(let loop ((all '())) (loop (cons (eval '(lambda (x) x)) all)))
END
  cat >"$work/vectors.lisp" <<'END'
(make-vector 1000000 0)
END
  cat >"$work/table.lisp" <<'END'
(define table (make-hash))
(do ((i 0 (+ i 1))) (#f) (hash-set! table i i))
END
  cat >"$work/calls.lisp" <<'END'
(define (count n) (+ 1 (count n)))
(count 0)
END
  for case in pairs strings symbols closures code vectors table calls; do
    run "$1" --heap-limit=1M "$work/$case.lisp"
    expect_error "$1 full of $case" \
      "$case.lisp:[12]: out of memory: the heap of 1024K is full"
  done
  run "$1" --heap-limit=4K "$work/pairs.lisp"
  expect_error "$1 with too little memory" '^lisp[36][24]: out of memory'
}

# What nobody can reach takes no memory: each makes many times the limit.
garbage() {
  cat >"$work/garbage.lisp" <<'END'
(define (repeat n f) (let loop ((i 0)) (when (< i n) (f i) (loop (+ i 1)))))
(repeat 300 (lambda (i) (iota 2000)))
(repeat 100 (lambda (i) (make-vector 20000 i)))
(repeat 100 (lambda (i) (apply string-append (map number->string (iota 1000)))))
(repeat 1000 (lambda (i) (eval (list 'lambda '(x) (list 'quote (list i))))))
(repeat 100 (lambda (i) (let ((table (make-hash)))
  (repeat 300 (lambda (j) (hash-set! table (list j) i))) (hash->list table))))
(define kept '())
(repeat 100 (lambda (i) (set! kept (list (iota 1000) (make-vector 1000 i)))))
(define last #f)
(repeat 100000 (lambda (i) (set! last (lambda () i))))
(print (last))
(print (length (car kept)) (vector-ref (cadr kept) 999))
END
  printf '99999\n1000 99\n' >"$work/expected"
  run "$1" --heap-limit=1M "--report=$work/report" "$work/garbage.lisp"
  expect_output "$1 garbage in 1M" "$work/expected"
  expect "$1 garbage, what is left" [ "$(value_of total_bytes "$work/report")" -lt 262144 ]
  expect "$1 garbage, peak" [ "$(value_of peak_bytes "$work/report")" -le 1064960 ]
  expect "$1 garbage, collections" [ "$(value_of collections "$work/report")" -ge 20 ]
  run "$1" --heap-limit=64M "$lisp/demo/trees.lisp" 8
  cp "$work/out" "$work/expected"
  run "$1" --heap-limit=64M --gc-every=29 "$lisp/demo/trees.lisp" 8
  expect_output "$1 trees, collecting often" "$work/expected"
}

# Full memory is an error of one form; the next one has it again.
full_prompt() {
  cat >"$work/input" <<'END'
(define (deep n) (+ (length (iota 100)) (deep (cons (iota 100) n))))
(list 1 (vector 2 (+ 3 (string-append (deep '()) "x"))))
(length (iota 10000))
(define kept (let loop ((list '())) (loop (cons 1 list))))
(eval '(let loop ((list '())) (loop (cons 1 list))))
(length (let loop ((i 0) (list '())) (if (= i 1000) list (loop (+ i 1) (iota 1000)))))
kept
(define all '())
(while #t (set! all (cons 1 all)))
(set! all (list all all (iota 100) (iota 1000)))
(while #t (set! all (make-vector 1 all)))
'here
(begin (set! all '()) 'gone)
(length (iota 10000))
END
  cat >"$work/messages" <<'END'
stdin:1: out of memory: the heap of 1024K is full
stdin:4: out of memory: the heap of 1024K is full
stdin:5: out of memory: the heap of 1024K is full
stdin:7: undefined name: kept
stdin:9: out of memory: the heap of 1024K is full
stdin:10: out of memory: the heap of 1024K is full
stdin:11: out of memory: the heap of 1024K is full
END
  printf '10000\n1000\nhere\ngone\n10000\n' >"$work/expected"
  input=$work/input
  for option in --heap-limit=1M "--heap-limit=1M --gc-every=5003"; do
    # shellcheck disable=SC2086
    run "$1" $option
    expect "$1 prompt $option, exit code" [ "$code" -eq 1 ]
    expect "$1 prompt $option, output" cmp -s "$work/out" "$work/expected"
    expect "$1 prompt $option, errors" cmp -s "$work/err" "$work/messages"
  done
  input=/dev/null
}

# A line for each collection.
gc_stats() {
  run "$1" --gc-stats "--report=$work/report" "$lisp/demo/trees.lisp" 15
  count=$(value_of collections "$work/report")
  expect "$1 --gc-stats, collections" [ "$count" -ge 1 ]
  expect "$1 --gc-stats, lines" [ "$(wc -l <"$work/err")" -eq "$count" ]
  time='[0-9]*\.[0-9][0-9]'
  amount='[0-9]* objects, [0-9]* KiB'
  pattern="^gc [0-9]*: live $amount; freed $amount"
  pattern="$pattern; pause $time ms: mark $time, sweep $time\$"
  expect "$1 --gc-stats, form" [ "$(grep -c "$pattern" "$work/err")" -eq "$count" ]
  sum=$(sed -n 's/^gc .*; freed \([0-9]*\) objects.*/\1/p' "$work/err" |
    awk '{ sum += $1 } END { print sum + 0 }')
  expect "$1 --gc-stats, freed" [ "$sum" -gt 100000 ]
}

# An error does not end reading from standard input; it ends in exit code 1.
standard_input() {
  cat >"$work/input" <<'END'
(+ 1 2)
(car 5) (define x 4)
) (print "skipped")
(print "a" '#% ) (print "skipped")
(list x "a" #\b
      'c)
(read-line)
(vector-map undefined #(1))
(display "shown")
"a string
END
  input=$work/input
  run "$1"
  printf '3\n(4 "a" #\\b c)\n""\nshown' >"$work/expected"
  cat >"$work/messages" <<'END'
stdin:2: car: expected a pair, got 5
stdin:3: unexpected )
stdin:4: unknown syntax: #%
stdin:7: undefined name: undefined
stdin:10: unexpected end: the string of line 9 is open
END
  input=/dev/null
  expect "$1 standard input, exit code" [ "$code" -eq 1 ]
  expect "$1 standard input, output" cmp -s "$work/out" "$work/expected"
  expect "$1 standard input, errors" cmp -s "$work/err" "$work/messages"
}

command_line() {
  run "$1" "$work/no-such-script.lisp"
  expect_error "$1 missing script" 'no-such-script.lisp: cannot open: No such file'
  run "$1" "$work"
  expect_error "$1 directory" 'cannot read: Is a directory'
  run "$1" --unknown
  expect_error "$1 unknown option" 'bad option: --unknown'
  for size in 0 x 5X -1 '' 1T 33G 99999999999999999999999; do
    run "$1" "--heap-limit=$size" "$work/pairs.lisp"
    expect_error "$1 --heap-limit=$size" 'size'
  done
  for count in 0 x 5K -1 '' 4294967296 99999999999999999999999; do
    run "$1" "--gc-every=$count" "$work/pairs.lisp"
    expect_error "$1 --gc-every=$count" 'not a number of objects'
  done
  run "$1" --help
  for option in heap-limit gc-stats gc-every report; do
    expect "$1 --help, $option" grep -q -e "--$option" "$work/out"
  done
  run "$1" --version
  expect "$1 --version" grep -q '^lisp[36][24] ' "$work/out"
  printf '(write (command-line))' >"$work/arguments.lisp"
  run "$1" "$work/arguments.lisp" --report 'two words'
  printf '("%s" "--report" "two words")' "$work/arguments.lisp" >"$work/expected"
  expect_output "$1 arguments of a script" "$work/expected"
  run "$1" --gc-every=1 "$work/arguments.lisp" --report 'two words'
  expect_output "$1 arguments of a script, collecting" "$work/expected"
  printf '(exit 7)' >"$work/exit.lisp"
  run "$1" "$work/exit.lisp"
  expect "$1 exit code" [ "$code" -eq 7 ]
  if [ -w /dev/full ]; then
    printf '(print "lost")' >"$work/lost.lisp"
    "$program" "$work/lost.lisp" >/dev/full 2>"$work/err"
    code=$?
    expect_error "$1 full disk" 'cannot write to standard output'
  fi
}

# Both builds print the same.
demo_program() {
  run LISP64 "--report=$work/$1.64" "$lisp/demo/$1.lisp" "$2"
  cp "$work/out" "$work/expected"
  run LISP32 "--report=$work/$1.32" "$lisp/demo/$1.lisp" "$2"
  expect_output "demo $1" "$work/expected"
}

demo_programs() {
  printf 'one two two; Three three THREE\n' >"$work/text"
  demo_program wordcount "$work/text"
  demo_program queens 6
  demo_program deriv 2
  demo_program trees 8
  printf '6 words, 3 different ones\n  three 3\n  two 2\n  one 1\n' >"$work/expected"
  run LISP32 "$lisp/demo/wordcount.lisp" "$work/text"
  expect_output 'demo wordcount, output' "$work/expected"
}

# At the end the same objects live in both builds; those of 32 bits take less.
reports() {
  for key in pair_objects string_objects closure_objects environment_objects; do
    expect "report $key" \
      [ "$(value_of "$key" "$work/trees.32")" = "$(value_of "$key" "$work/trees.64")" ]
  done
  bytes32=$(value_of pair_bytes "$work/trees.32")
  expect 'report pair_bytes' [ "$bytes32" -lt "$(value_of pair_bytes "$work/trees.64")" ]
  expect 'report pair size' \
    [ "$bytes32" -eq $((16 * $(value_of pair_objects "$work/trees.32"))) ]
  bytes64=$(value_of pair_bytes "$work/trees.64")
  expect 'report pair size, 64 bits' \
    [ "$bytes64" -eq $((24 * $(value_of pair_objects "$work/trees.64"))) ]
  total=0
  for type in pair string symbol vector table slots builtin closure environment code; do
    total=$((total + $(value_of "${type}_bytes" "$work/trees.32")))
  done
  # What is made depends on nothing but the program; all of it, in each way of collecting.
  run LISP32 --gc-every=5003 "--report=$work/report" "$lisp/demo/trees.lisp" 8
  expect 'report made_bytes' [ "$(value_of made_bytes "$work/report")" -eq \
    "$(value_of made_bytes "$work/trees.32")" ]
  expect 'report total' [ "$total" -eq "$(value_of total_bytes "$work/trees.32")" ]
  expect 'report cage' [ "$(value_of cage_shift "$work/trees.32")" -eq 3 ]
  expect 'report time' [ -n "$(value_of destroy_us "$work/trees.32")" ]
  run LISP32 --report "$lisp/tests/bad/error.lisp"
  expect 'report after an error' grep -q '^  total  *[0-9]' "$work/err"
  run LISP64 "--report=$work/no/such/place" "$work/exit.lisp"
  expect_error 'report that cannot be written' 'cannot write .*: No such file'
}

demo_script() {
  LISP32=$LISP32 LISP64=$LISP64 srcdir=$srcdir_absolute \
    sh "$lisp/demo.sh" "$work/no-such-text" >"$work/out" 2>"$work/err"
  code=$?
  expect_error 'demo without its text' 'no-such-text'
}

srcdir_absolute=$(absolute "${srcdir:-.}")
input=/dev/null
for build in LISP32 LISP64; do
  cd "$lisp/tests" || exit 1
  scripts "$build"
  cd "$lisp/tests/bad" || exit 1
  bad_scripts "$build"
  cd "$work" || exit 1
  nested_input "$build"
  full_memory "$build"
  garbage "$build"
  full_prompt "$build"
  gc_stats "$build"
  standard_input "$build"
  command_line "$build"
done
demo_programs
reports
demo_script

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
