#!/bin/bash
# Programs that know nothing of mirt, with libmirt-malloc.so preloaded: they must do what
# they do without it, to the byte.
#
# LIBMIRT_MALLOC is the library, top_srcdir and top_builddir are the roots of the sources
# and of the build, CC is the compiler. What is not installed is skipped.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u
export LC_ALL=C

absolute() {
  case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s/%s\n' "$(pwd)" "$1" ;;
  esac
}

source_root=$(absolute "${top_srcdir:-$(dirname "$0")/..}")
build_root=$(absolute "${top_builddir:-.}")
library=$(absolute "${LIBMIRT_MALLOC:-$build_root/.libs/libmirt-malloc.so}")
programs=$source_root/tests/override
CC=${CC:-cc}

if [ ! -r "$library" ]; then
  printf 'FAIL no library %s\n' "$library"
  exit 1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/test_override.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work" || exit 1

passed=0
failed=0
skipped=0

ok() {
  printf 'ok   %s\n' "$1"
  passed=$((passed + 1))
}

fail() {
  printf 'FAIL %s: %s\n' "$1" "$2"
  failed=$((failed + 1))
}

skip() {
  printf 'skip %s: %s\n' "$1" "$2"
  skipped=$((skipped + 1))
}

have() { command -v "$1" >/dev/null 2>&1; }

# Whoever does not end by himself is a failure, and not a test that never ends.
limited() {
  if have timeout; then timeout 300 "$@"; else "$@"; fi
}

# run name command...: leaves name.out, name.err and the exit code in $code.
run() {
  local name=$1
  shift
  limited "$@" <"${input:-/dev/null}" >"$name.out" 2>"$name.err"
  code=$?
}

preloaded() { run "$1" env LD_PRELOAD="$library" "${settings[@]}" "${@:2}"; }

settings=()
input=

# Both runs are done: compare them. Further arguments are pairs of files to compare.
compare() {
  local name=$1 expected=$2
  shift 2
  if [ "$code" -ne "$expected" ]; then
    fail "$name" "exit code $code, without the library $expected"
    head -n 5 preloaded.err | sed 's/^/     | /'
    return
  fi
  set -- plain.out preloaded.out plain.err preloaded.err "$@"
  while [ $# -gt 0 ]; do
    if ! cmp -s "$1" "$2"; then
      fail "$name" "$2 differs from $1"
      diff "$1" "$2" 2>&1 | head -n 5 | sed 's/^/     | /'
      return
    fi
    shift 2
  done
  ok "$name"
}

# same name command...: the same output, errors and exit code with the library as without.
# All commands here succeed, so one that does not by itself has told nothing.
same() {
  local name=$1
  shift
  if ! have "$1"; then
    skip "$name" "there is no $1"
    return
  fi
  run plain "$@"
  local expected=$code
  if [ "$expected" -ne 0 ]; then
    fail "$name" "exit code $expected without the library"
    head -n 5 plain.err | sed 's/^/     | /'
    return
  fi
  preloaded preloaded "$@"
  compare "$name" "$expected"
}

# ---- is the library used at all? ----

statistics() {
  settings=(MIMALLOC_SHOW_STATS=1)
  preloaded preloaded bash -c 'x=1'
  settings=()
  if [ "$code" -ne 0 ]; then
    fail statistics "exit code $code"
  elif ! grep -q '^pages ' preloaded.err || ! grep -q '^committed ' preloaded.err; then
    fail statistics 'no statistics on standard error'
  elif [ "$(awk '$1 == "pages" { print $4 }' preloaded.err)" -eq 0 ]; then
    fail statistics 'the program has not allocated from mirt'
  else
    ok statistics
  fi
}

# ---- interpreters and tools ----

# works name command...: is there such a program, and does it do something simple?
works() {
  local name=$1
  shift
  if ! have "$1"; then
    skip "$name" "there is no $1"
  elif ! "$@" >/dev/null 2>&1; then
    skip "$name" "$* does not work"
  else
    return 0
  fi
  return 1
}

interpreters() {
  if works python python3 -c 'import gc, hashlib, json, threading, zlib'; then
    same python python3 "$programs/program.py"
    settings=(MIMALLOC_PURGE_DELAY=0 MIMALLOC_ARENA_EAGER_COMMIT=0)
    same 'python, purging at once' python3 "$programs/program.py"
    settings=(MIMALLOC_GUARDED_SAMPLE_RATE=500)
    same 'python, guarded blocks' python3 "$programs/program.py"
    settings=()
  fi
  if works perl perl -e 1; then same perl perl "$programs/program.pl"; fi
  if works ruby ruby -e 1; then same ruby ruby "$programs/program.rb"; fi
  if works lua lua5.4 -v; then same lua lua5.4 "$programs/program.lua"; fi
  same bash bash "$programs/program.sh"
}

databases() {
  input=$programs/database.sql
  if ! have sqlite3; then
    skip sqlite3 'there is no sqlite3'
  else
    run plain sqlite3 plain.db
    local expected=$code
    preloaded preloaded sqlite3 preloaded.db
    compare sqlite3 "$expected" plain.db preloaded.db
  fi
  input=
}

text_tools() {
  awk 'BEGIN {
    for (i = 0; i < 200000; i++) {
      n = (n * 16807 + 7) % 2147483647
      print n, "word" n % 1000
    }
  }' >numbers
  same awk awk '
    { count[$2] += $1; line[NR] = $0 }
    END { for (i = NR; i > NR - 9; i--) print line[i], count["word" i % 1000] }' numbers
  same sort sort -k2,2 -k1,1n numbers
  same 'sort, in parallel with little memory' sort --parallel=2 -S 500K -n numbers
  same 'tools in a pipe' sh -c 'grep -E "9[0-9]*1 " numbers | sed "s/word/w/" | sort -u |
    gzip -c | gzip -dc | cksum'
}

repositories() {
  if ! have git; then
    skip git 'there is no git'
    return
  fi
  export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_OPTIONAL_LOCKS=0 GIT_PAGER=cat
  export GIT_AUTHOR_NAME=mirt GIT_AUTHOR_EMAIL=mirt@example.org
  export GIT_COMMITTER_NAME=mirt GIT_COMMITTER_EMAIL=mirt@example.org
  if ! git init -q repository >git.out 2>&1; then
    skip git 'git init does not work'
    return
  fi
  local i
  for i in 1 2 3 4 5 6 7 8; do
    mkdir -p "repository/dir$((i % 3))"
    head -n $((i * 1000)) numbers >"repository/dir$((i % 3))/file$i"
    git -C repository add . >>git.out 2>&1
    export GIT_AUTHOR_DATE="2026-01-0${i}T00:00:00Z"
    export GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
    git -C repository commit -q -m "Add file $i" >>git.out 2>&1
  done
  same 'git log' git -C repository log -p --stat
  same 'git fsck' git -C repository fsck --full --strict --no-progress
  same 'git grep' git -c grep.threads=4 -C repository grep -n word17
  same 'git archive' git -C repository archive HEAD
  same 'git blame' git -C repository blame dir2/file8
  # Making packs takes threads; which deltas they find is their own business.
  cp -r repository packed
  preloaded preloaded git -C packed -c pack.threads=2 repack -q -a -d -f
  if [ "$code" -eq 0 ] && git -C packed fsck --full >packed.err 2>&1; then
    ok 'git repack'
  else
    fail 'git repack' "exit code $code, or not intact"
  fi
  # The project's own history, up to a commit that stays the same meanwhile. Sources that
  # were unpacked below some other checkout have none.
  local head
  if [ -e "$source_root/.git" ] &&
    head=$(git -C "$source_root" rev-parse HEAD 2>/dev/null); then
    same 'git log of the project' git -C "$source_root" log -n 30 -p --stat "$head"
    same 'git grep of the project' git -C "$source_root" grep -n malloc "$head"
  else
    skip 'git of the project' 'the sources are no checkout'
  fi
}

# ---- compilers ----

# same_object name compiler arguments...: the same object code. The compiler may be a
# command with options, so it is split into words on purpose.
same_object() {
  local name=$1 compiler=$2
  shift 2
  if ! have "${compiler%% *}"; then
    skip "$name" "there is no ${compiler%% *}"
    return
  fi
  run plain $compiler "$@" -c -o plain.o
  local expected=$code
  if [ "$expected" -ne 0 ]; then
    skip "$name" "does not compile without the library: $(head -n 1 plain.err)"
    return
  fi
  preloaded preloaded $compiler "$@" -c -o preloaded.o
  compare "$name" "$expected" plain.o preloaded.o
}

compilers() {
  same_object 'C compiler' "$CC" -std=gnu11 -D_GNU_SOURCE -O2 -g ${ATOMIC_OPS_CFLAGS:-} \
    -I"$source_root/include" -I"$source_root/runtime" "$source_root/runtime/heap/cell.c"
  same_object 'C++ compiler' "${CXX:-g++}" -std=c++17 -O1 "$programs/thread_local.cpp"
}

# ---- programs of our own ----

own_programs() {
  if ! $CC -std=gnu11 -D_GNU_SOURCE -O1 -g -Wno-deprecated-declarations \
    -I"$source_root/include" -o processes "$programs/processes.c" -ldl -lpthread \
    2>compiler.err || ! $CC -O1 -g -shared -fPIC -o plugin.so "$programs/plugin.c" \
    2>>compiler.err; then
    fail processes "does not compile: $(head -n 1 compiler.err)"
  else
    same 'processes, threads, libraries' ./processes ./plugin.so
  fi
  if ! have "${CXX:-g++}"; then
    skip 'thread_local in C++' "there is no ${CXX:-g++}"
  elif ! ${CXX:-g++} -std=c++17 -O1 -g -o thread_local "$programs/thread_local.cpp" \
    -lpthread 2>compiler.err; then
    skip 'thread_local in C++' "does not compile: $(head -n 1 compiler.err)"
  else
    same 'thread_local in C++' ./thread_local
  fi
}

statistics
text_tools
interpreters
databases
repositories
compilers
own_programs
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
