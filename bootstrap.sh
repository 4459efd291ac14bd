#!/bin/sh
# From a fresh checkout to a running demo, or to a full check, in one command.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -eu

packages_demo='gcc g++ make autoconf automake libtool pkg-config libatomic-ops-dev check'
packages_check="$packages_demo clang python3 perl sqlite3 git bash python3-dev"
packages_check="$packages_check liblua5.4-dev lua5.4 libc++-dev libc++abi-dev groff-base"

usage() {
  cat <<EOF
usage: ./bootstrap.sh demo | check

  demo    build mirt in build/ and run the demo
  check   build with gcc (build/), with AddressSanitizer (build-asan/), with
          ThreadSanitizer (build-tsan/) and with clang (build-clang/), run the tests of
          each and print the totals

Both install the Debian packages that are missing and can be run again at any time: what
is already installed, generated, configured or built is left as it is.
EOF
}

say() {
  printf '== %s\n' "$*"
}

die() {
  printf 'bootstrap.sh: %s\n' "$*" >&2
  exit 1
}

# ---- Packages ------------------------------------------------------------------------

have_header() {
  printf '#include <%s>\n' "$1" | "${CC:-cc}" -E - >/dev/null 2>&1 ||
    [ -f "/usr/include/$1" ] || [ -f "/usr/local/include/$1" ]
}

have_package() {
  if command -v dpkg >/dev/null 2>&1; then
    dpkg -s "$1" 2>/dev/null | grep -q '^Status: .* ok installed$'
    return
  fi
  case $1 in
    libatomic-ops-dev) have_header atomic_ops.h ;;
    check) have_header check.h ;;
    libtool) command -v libtoolize >/dev/null 2>&1 ;;
    python3-dev) pkg-config --exists python3-embed ;;
    liblua5.4-dev) pkg-config --exists lua5.4 ;;
    libc++-dev | libc++abi-dev)
      echo 'int main() {}' | clang++ -stdlib=libc++ -x c++ - -o /dev/null >/dev/null 2>&1 ;;
    groff-base) command -v groff >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

# Print those of the named packages that are missing.
missing_packages() {
  missing=
  for package in "$@"; do
    have_package "$package" || missing="$missing $package"
  done
  printf '%s' "${missing# }"
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  else
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

# need_packages NAME...: install what is missing, or stop.
need_packages() {
  wanted=$(missing_packages "$@")
  [ -n "$wanted" ] || return 0
  command -v apt-get >/dev/null 2>&1 ||
    die "missing packages (Debian names): $wanted
There is no apt-get to install them with. Install them and run this again."
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null 2>&1 ||
    die "missing packages: $wanted
Installing them needs root or sudo. Install them and run this again."
  say "installing $wanted"
  as_root apt-get update || say "apt-get update failed; trying with the lists at hand"
  # shellcheck disable=SC2086 # a list of package names
  as_root apt-get install -y --no-install-recommends $wanted ||
    die "could not install: $wanted"
  wanted=$(missing_packages "$@")
  [ -z "$wanted" ] || die "still missing after the installation: $wanted"
}

# ---- Building ------------------------------------------------------------------------

jobs=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

generate() {
  if [ -f configure ] && [ -f Makefile.in ] && [ -f config.h.in ] &&
    [ -f build-aux/ltmain.sh ] &&
    [ -z "$(find configure.ac m4/mirt.m4 -newer configure)" ]; then
    return 0
  fi
  say "generating configure"
  autoreconf -fi
}

# configure_tree DIR [ARGUMENT...]: without arguments, any configuration of DIR will do.
configure_tree() {
  tree=$1
  shift
  if [ -f "$tree/config.status" ] && [ -f "$tree/Makefile" ]; then
    [ $# -gt 0 ] || return 0
    [ "$*" != "$(cat "$tree/configured-with" 2>/dev/null)" ] || return 0
  fi
  say "configuring $tree/ $*"
  mkdir -p "$tree"
  rm -f "$tree/configured-with"
  (cd "$tree" && ../configure --quiet "$@") || return
  # Objects of another configuration would pass for up to date.
  make --no-print-directory -C "$tree" clean >/dev/null || return
  printf '%s\n' "$*" >"$tree/configured-with"
}

# ---- Testing -------------------------------------------------------------------------

passed=0
failed=0

# Add up what the tests of a tree have left: a Check program counts by its cases, any
# other test as one.
count_tests() {
  tree_passed=0
  tree_failed=0
  for trs in "$1"/tests/*.trs; do
    [ -f "$trs" ] || continue
    cases=0
    broken=0
    summaries=$(sed -n \
      's/.*[0-9]%: Checks: \([0-9]*\), Failures: \([0-9]*\), Errors: \([0-9]*\).*/\1 \2 \3/p' \
      "${trs%.trs}.log" 2>/dev/null) || summaries=
    while read -r checks failures errors; do
      [ -n "$checks" ] || continue
      cases=$((cases + checks))
      broken=$((broken + failures + errors))
    done <<EOF
$summaries
EOF
    case $(sed -n 's/^:global-test-result: *//p' "$trs") in
      PASS | XFAIL) [ -n "$summaries" ] || cases=1 ;;
      SKIP) ;;
      *)
        # A failure that no case accounts for, such as a crash of the whole program.
        if [ "$broken" -eq 0 ]; then
          cases=$((cases + 1))
          broken=1
        fi
        ;;
    esac
    tree_passed=$((tree_passed + cases - broken))
    tree_failed=$((tree_failed + broken))
  done
}

# The shadow memory of ThreadSanitizer does not get along with a kernel that spreads
# mappings widely: print the command prefix that keeps it from doing so.
narrow_mappings() {
  bits=$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)
  if [ "$bits" -gt 28 ] && setarch "$(uname -m)" -R true 2>/dev/null; then
    echo "setarch $(uname -m) -R"
  fi
}

# check_tree DIR TESTS ARGUMENT...: configure, build and test DIR; TESTS is a list for
# make's variable of that name, or empty for all.
check_tree() {
  dir=$1
  tests=$2
  shift 2
  tree_passed=0
  tree_failed=0
  good=false
  runner=
  case "$*" in
    *--enable-sanitizer=thread*) runner=$(narrow_mappings) ;;
  esac
  if configure_tree "$dir" "$@"; then
    say "building $dir/"
    if make --no-print-directory -C "$dir" -j"$jobs"; then
      say "testing $dir/"
      rm -f "$dir"/tests/*.trs "$dir"/tests/*.log
      # shellcheck disable=SC2086 # a command prefix, or nothing
      $runner make --no-print-directory -C "$dir" -j"$jobs" -k check VERBOSE=1 \
        ${tests:+"TESTS=$tests"} && good=true
      count_tests "$dir"
    fi
  fi
  # Something went wrong before or around the tests.
  if ! $good && [ "$tree_failed" -eq 0 ]; then
    tree_failed=1
  fi
  say "$dir/: $tree_passed passed, $tree_failed failed"
  passed=$((passed + tree_passed))
  failed=$((failed + tree_failed))
}

# ---- Commands ------------------------------------------------------------------------

demo() {
  # shellcheck disable=SC2086 # a list of package names
  need_packages $packages_demo
  generate
  configure_tree build || die "configure failed; see build/config.log"
  make --no-print-directory -C build -j"$jobs" || die "the build failed"
  exec make --no-print-directory -C build demo
}

# each_tree COMMAND: call it with the arguments of check_tree for each of the four.
each_tree() {
  "$1" build '' CC=gcc CXX=g++ --enable-werror
  # A minute less: C++ with a sanitizer, optimised and with all symbols, takes that long to compile.
  "$1" build-asan '' CC=gcc CXX=g++ 'CXXFLAGS=-O1 -g1' --enable-sanitizer=address \
    --enable-debug
  "$1" build-tsan '' CC=gcc CXX=g++ 'CXXFLAGS=-O1 -g1' --enable-sanitizer=thread
  # The scripts have run with gcc; they do not depend on the compiler.
  # shellcheck disable=SC2016 # expanded by make
  "$1" build-clang '$(check_PROGRAMS)' CC=clang CXX=clang++ --enable-werror
}

# What is configured alone keeps one core busy. If it fails, check_tree says so.
configure_ahead() {
  tree=$1
  shift 2
  configure_tree "$tree" "$@" &
}

check() {
  # shellcheck disable=SC2086 # a list of package names
  need_packages $packages_check
  # CPython's own tests go with its version; without apt, a test that has none is skipped.
  python=$(pkg-config --modversion python3-embed)
  ! command -v apt-get >/dev/null 2>&1 || need_packages "libpython$python-testsuite"
  generate
  each_tree configure_ahead
  wait
  each_tree check_tree
  printf '%s passed, %s failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ]
}

cd "$(dirname "$0")"
case $#:${1-} in
  1:demo) demo ;;
  1:check) check ;;
  *)
    usage >&2
    exit 2
    ;;
esac
