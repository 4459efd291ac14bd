#!/bin/sh
# What `make install` leaves is enough to build with: it is installed below a temporary
# folder, and programs are built there with nothing but pkg-config: the one of README.md, a virtual
# machine with references and a collection, C++, and one that is linked statically. Each installed program
# answers --help and --version, refuses what it does not know, and has a page of the manual
# that is free of warnings and fits 80 columns. `make uninstall` leaves no file.
#
# top_srcdir and top_builddir are the roots of the sources and the build, CC and CXX the
# compilers, SANITIZER what the build was made with.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

if [ "${SANITIZER:-no}" != no ]; then
  echo 'skip: what is installed is built without a sanitizer'
  exit 77
fi
if ! command -v pkg-config >/dev/null 2>&1; then
  echo 'skip: there is no pkg-config'
  exit 77
fi

sources=$(cd "${top_srcdir:-.}" && pwd)
build=$(cd "${top_builddir:-.}" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/test_install.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root

passed=0
failed=0

ok() {
  echo "ok   $1"
  passed=$((passed + 1))
}

fail() {
  echo "FAIL $1"
  sed 's/^/     | /' "$work/out" | tail -n 30
  failed=$((failed + 1))
}

# check NAME COMMAND...
check() {
  name=$1
  shift
  if "$@" >"$work/out" 2>&1; then ok "$name"; else fail "$name"; fi
}

# The variables of the make that runs this are not for the one that installs.
unset MAKEFLAGS MFLAGS MAKELEVEL
check 'make install' make -C "$build" --no-print-directory install DESTDIR="$root"
prefix=$(sed -n 's/^prefix=//p' "$build/mirt.pc")
libdir=$root$prefix/lib
PKG_CONFIG_PATH=$libdir/pkgconfig
PKG_CONFIG_SYSROOT_DIR=$root
LD_LIBRARY_PATH=$libdir
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR LD_LIBRARY_PATH

# ---- building with it ----

# The blocks of C of a page that have this line: page, line.
program_of() {
  awk -v wanted="$2" '
    /^```c[ \t]*$/ { inside = 1; text = ""; next }
    /^```[ \t]*$/ { if (inside && index(text, wanted)) printf "%s", text; inside = 0; next }
    inside { text = text $0 "\n" }
  ' "$sources/$1"
}

# shellcheck disable=SC2046 # lists of options
build_and_run() {
  (cd "$work" && $1 -o program "$2" $(pkg-config --cflags --libs mirt) && ./program)
}

program_of README.md 'mirt_cage_create(&' >"$work/ten.c"
check 'the ten lines of README.md' build_and_run "${CC:-cc}" ten.c

cat >"$work/vm.c" <<'EOF'
#include <mirt.h>
#include <stdio.h>

typedef struct { mirt_ref_t first, rest; } pair_t;
static mirt_ref_t root;
static void mark_roots(mirt_marker_t* marker, void* arg) { (void)arg; mirt_mark_ref(marker, root); }

int main(void) {
  mirt_runtime_t* runtime;
  const mirt_cage_options_t cage = {.shift = 3};
  if (mirt_runtime_create(&(mirt_runtime_options_t){.cage = &cage}, &runtime) != 0) return 1;
  const uint64_t map = 3;
  mirt_type_t* pairs = mirt_type_new(runtime, &(mirt_type_options_t){
      .name = "pair", .size = sizeof(pair_t), .slot_size = 4, .map = &map, .map_slots = 2});
  mirt_mutator_t* mutator = mirt_mutator_create_in(runtime);
  if (pairs == NULL || mutator == NULL || mirt_mutator_bind(mutator) != 0) return 2;
  for (int i = 0; i < 100000; i++) {
    pair_t* pair = mirt_new(mutator, pairs);
    if (pair == NULL) return 3;
    *pair = (pair_t){.rest = i % 2 == 0 ? root : 0};
    if (i % 2 == 0) root = mirt_encode(mirt_runtime_cage(runtime), pair);
  }
  mirt_gc_stats_t stats;
  if (mirt_collect(runtime, mark_roots, NULL, NULL, &stats) != 0) return 4;
  printf("%zu live, %zu freed\n", stats.live_objects, stats.freed_objects);
  mirt_mutator_unbind(mutator);
  return stats.live_objects != 50000 || mirt_runtime_destroy(runtime) != 0;
}
EOF
check 'a virtual machine' build_and_run "${CC:-cc}" vm.c

cat >"$work/pmr.cpp" <<'EOF'
#include <mirt.hpp>
#include <string>
#include <vector>
int main() {
  mirt::heap heap(7);
  std::pmr::vector<std::pmr::string> words(heap.resource());
  for (int i = 0; i < 1000; i++) words.emplace_back("a word that is too long to be stored inside");
  return mirt_tag_of(words[999].data()) == 7 ? 0 : 1;
}
EOF
# shellcheck disable=SC2086 # CXX may have options
if echo 'int main() {}' | ${CXX:-c++} -std=c++17 -x c++ - -o "$work/empty" 2>/dev/null; then
  check 'a program in C++' build_and_run "${CXX:-c++} -std=c++17" pmr.cpp
fi

# shellcheck disable=SC2046
build_static() {
  (cd "$work" && ${CC:-cc} -static -o program ten.c $(pkg-config --cflags --static --libs mirt) &&
    ./program)
}
if [ -f "$libdir/libmirt.a" ]; then check 'linked statically' build_static; fi

# ---- programs ----

for program in "$root$prefix"/bin/*; do
  tool=${program##*/}
  for option in --help --version; do
    check "$tool $option" "$program" $option
    if [ ! -s "$work/out" ]; then fail "$tool $option: prints nothing"; fi
  done
  if "$program" --no-such-option </dev/null >"$work/none" 2>"$work/out"; then
    fail "$tool --no-such-option: is taken"
  elif [ "$("$program" --no-such-option </dev/null >/dev/null 2>&1; echo $?)" -eq 2 ] &&
    grep -q "$tool" "$work/out"; then
    ok "$tool refuses what it does not know"
  else
    fail "$tool --no-such-option: exit code, or no line with its name"
  fi
  if [ ! -f "$root$prefix/share/man/man1/$tool.1" ]; then
    echo "no page of the manual" >"$work/out"
    fail "$tool: manual"
  fi
done

# ---- pages of the manual ----

if ! command -v groff >/dev/null 2>&1; then
  echo 'skip: there is no groff to look at the pages with'
else
  for page in "$root$prefix"/share/man/man*/*; do
    name=${page##*/}
    groff -ww -mandoc -Tascii -P-c -rLL=78n "$page" >"$work/page" 2>"$work/out"
    if [ -s "$work/out" ]; then
      fail "$name: warnings"
    elif [ "$(sed 's/.\x08//g' "$work/page" |
      awk '{ if (length($0) > n) n = length($0) } END { print n + 0 }')" -gt 80 ]; then
      fail "$name: more than 80 columns"
    elif [ "$(wc -l <"$work/page")" -lt 20 ]; then
      fail "$name: almost nothing in it"
    else
      ok "$name"
    fi
  done
fi

# ---- and away ----

check 'make uninstall' make -C "$build" --no-print-directory uninstall DESTDIR="$root"
find "$root" ! -type d >"$work/out"
if [ -s "$work/out" ]; then fail 'make uninstall: files are left'; else ok 'no file is left'; fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
