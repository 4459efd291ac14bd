#!/bin/sh
# The installation: `make install` into a folder of its own; outside of the tree, programs that
# know nothing but pkg-config, in C and C++, shared and static; every installed header by itself;
# what every installed program answers to --help, --version and an unknown option; every
# installed manual page; and `make uninstall`, after which no file is left.
#
# top_srcdir and top_builddir are the roots of the sources and of the build, CC and CXX the
# compilers, MAKE what to call make with. What is missing here (C++, man, static libraries) is
# skipped, with a line that says so. Exit code 77: there is no pkg-config.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

CC=${CC:-cc}
CXX=${CXX:-c++}
MAKE=${MAKE:-make}
top_srcdir=$(cd "${top_srcdir:-.}" && pwd) || exit 1
top_builddir=$(cd "${top_builddir:-.}" && pwd) || exit 1

if ! command -v pkg-config >/dev/null 2>&1; then
  echo "skipped: there is no pkg-config"
  exit 77
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/test_install.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

limit=
if command -v timeout >/dev/null 2>&1; then limit='timeout 120'; fi

passed=0
failed=0

ok() {
  echo "ok   $1"
  passed=$((passed + 1))
}

fail() {
  echo "FAIL $1: $2"
  head -n 40 "$work/out" | sed 's/^/     | /'
  failed=$((failed + 1))
}

skip() { echo "skip $1: $2"; }

# ---- make install ----------------------------------------------------------------------

# make target: in the build tree, as somebody would call it who is not inside of a make.
run_make() {
  (
    cd "$top_builddir" || exit 1
    unset MAKEFLAGS MFLAGS MAKELEVEL GNUMAKEFLAGS
    # shellcheck disable=SC2086
    $MAKE "$1" DESTDIR="$work/root"
  ) </dev/null >"$work/out" 2>&1
}

if ! run_make install; then
  tail -n 20 "$work/out" >"$work/end" && mv "$work/end" "$work/out"
  fail "make install" "it fails"
  exit 1
fi
ok "make install"

place=$(find "$work/root" -name mirt.pc)
if [ ! -f "$place" ]; then
  fail "make install" "not one file mirt.pc"
  exit 1
fi

# Nothing but this tells where mirt lies.
pc_folder=$(dirname "$place")
PKG_CONFIG_PATH=$pc_folder
PKG_CONFIG_SYSROOT_DIR=$work/root
LD_LIBRARY_PATH=$(dirname "$pc_folder")
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR LD_LIBRARY_PATH
programs=$(find "$work/root" -path '*/bin/*' ! -type d | sort)
pages=$(find "$work/root" -path '*/man/man*' ! -type d | sort)
PATH=$(dirname "$(echo "$programs" | head -n 1)"):$PATH
COLUMNS=80
MANWIDTH=80
LC_ALL=C.UTF-8
export PATH COLUMNS MANWIDTH LC_ALL
unset LANGUAGE MANOPT

mkdir "$work/outside"
cd "$work/outside" || exit 1

# ---- programs that use it --------------------------------------------------------------

warnings='-Wall -Wextra -Wpedantic -Werror'

# pages of the documentation: the C blocks with a main function, or those whose first line is a
# comment that names $2, in their order.
extract() {
  awk -v name="$2" '
    !inside && /^```c[ \t]*$/ { inside = 1; text = ""; has_main = 0; next }
    inside && /^```[ \t]*$/ {
      inside = 0
      if (name == "" ? has_main && !done++ : index(text, "/* " name ":") == 1) printf "%s", text
      next
    }
    inside {
      text = text $0 "\n"
      if ($0 ~ /^int main\(/) has_main = 1
    }
  ' "$top_srcdir/$1"
}

extract README.md '' >ten.c
extract doc/embedding.md 'vm.c' >./vm.c

cat >resources.cpp <<'END'
#include <cstdio>
#include <list>
#include <map>
#include <memory_resource>
#include <string>
#include <vector>

#include <mirt.h>
#include <mirt/pmr.hpp>

int main() {
  std::vector<int, mi_stl_allocator<int>> numbers(1000, 3);
  int sum = 0;
  for (int number : numbers) sum += number;
  mirt::own_heap_resource request(7);
  {
    std::pmr::map<std::pmr::string, int> count(&request);
    for (int i = 0; i < 1000; i++) count[std::pmr::string(100, 'a') + char('a' + i % 7)]++;
    sum += static_cast<int>(count.size());
    mirt_stats_t stats;
    if (!mirt_stats_tag(7, &stats) || stats.live_blocks < 14) return 1;
  }
  std::printf("%d\n", sum);
  return sum != 3007;
}
END

# build_and_run name flags command...: the program of that command, which lacks the flags of
# pkg-config for that.
build_and_run() {
  name=$1
  options=$2
  shift 2
  # shellcheck disable=SC2046,SC2086 # flags and commands are words
  if ! "$@" -o ./program $(pkg-config $options --cflags --libs mirt) >"$work/out" 2>&1; then
    fail "$name" "it cannot be built: $* $(pkg-config $options --cflags --libs mirt)"
    return
  fi
  # shellcheck disable=SC2086
  $limit ./program </dev/null >"$work/out" 2>&1
  code=$?
  if [ "$code" -ne 0 ]; then
    fail "$name" "exit code $code"
  else
    ok "$name: $(head -n 1 "$work/out")"
  fi
  rm -f ./program
}

# Does the compiler make programs at all, and static ones?
echo 'int main() { return 0; }' >empty.cpp
cp empty.cpp empty.c
# shellcheck disable=SC2086
can_build() { $1 "$2" $3 -o ./program >/dev/null 2>&1 && ./program; }

# CC and CXX may have options of their own.
# shellcheck disable=SC2086
{
  build_and_run "ten lines" '' $CC -std=gnu11 $warnings ten.c
  build_and_run "a machine with refs" '' $CC -std=gnu11 -O2 $warnings vm.c
  if ! can_build "$CXX" empty.cpp ''; then
    skip "programs in C++" "$CXX builds none"
  else
    build_and_run "memory resources" '' $CXX -std=c++17 $warnings resources.cpp
  fi
  if [ ! -f "$LD_LIBRARY_PATH/libmirt.a" ]; then
    skip "static programs" "there is no libmirt.a"
  elif ! can_build "$CC" empty.c -static; then
    skip "static programs" "$CC builds none"
  else
    build_and_run "ten lines, static" --static $CC -static ten.c
    # Names that mirt has inside are free for programs.
    cat >clash.c <<'EOF'
#include <mimalloc.h>
int current, stats, tags, epoch, limbo;
void process_begin(void) { current++; }
void heap_create(void) { stats++; }
void *block_free(void) { return mi_malloc((size_t)++tags); }
int main(void) {
  process_begin();
  heap_create();
  void *p = block_free();
  const int sum = current + stats + tags + epoch + limbo + (p != NULL);
  mi_free(p);
  return sum != 4;
}
EOF
    build_and_run "names of its own, static" --static $CC -static clash.c
    build_and_run "a machine with refs, static" --static $CC -static -O2 vm.c
    if can_build "$CXX" empty.cpp -static; then
      build_and_run "memory resources, static" --static $CXX -static -std=c++17 resources.cpp
    fi
  fi
}

# ---- headers ---------------------------------------------------------------------------

# With what all bindings that are here ask for: what is not mirt's lies where it always does.
names=
for file in "$pc_folder"/*.pc; do
  name=$(basename "$file" .pc)
  names="$names $name"
  # shellcheck disable=SC2086
  if pkg-config --print-errors --exists $name >"$work/out" 2>&1; then
    ok "pkg-config $name: $(pkg-config --modversion $name)"
  else
    fail "pkg-config $name" "it needs what is not there"
  fi
done
# shellcheck disable=SC2086
flags="$(pkg-config --cflags $names) $(PKG_CONFIG_SYSROOT_DIR='' pkg-config --cflags $names)"

headers=$(pkg-config --variable=includedir mirt)
case $headers in
  "$work/root"/*) ;;
  *) headers=$work/root$headers ;; # pkg-config differs in whether it says the folder here
esac
headers=$headers/mirt
compile_header() {
  language=$1
  shift
  if ! "$@" -fsyntax-only >"$work/out" 2>&1; then
    fail "<$header> in $language" "it does not stand alone"
    return
  fi
  alone=$((alone + 1))
}
alone=0
for file in $(cd "$headers" && find . -name '*.h*' | sort); do
  header=${file#./}
  printf '#include <%s>\ntypedef int not_empty;\n' "$header" >header.c
  cp header.c header.cpp
  # shellcheck disable=SC2086
  case $header in
    *.h) compile_header C $CC -std=c11 $warnings $flags header.c ;;
  esac
  if can_build "$CXX" empty.cpp ''; then
    # shellcheck disable=SC2086
    compile_header C++ $CXX -std=c++17 $warnings $flags header.cpp
  fi
done
if [ "$alone" -lt 16 ]; then
  fail "headers" "there are only $alone"
else
  ok "headers: $alone stand alone"
fi

# ---- installed programs ----------------------------------------------------------------

# answer program option code: the program ends with that code.
answer() {
  # shellcheck disable=SC2086
  $limit "$1" "$2" </dev/null >"$work/stdout" 2>"$work/stderr"
  code=$?
  cat "$work/stdout" "$work/stderr" >"$work/out"
  if [ "$code" -eq "$3" ]; then return 0; fi
  fail "$1 $2" "exit code $code instead of $3"
  return 1
}

version=$(pkg-config --modversion mirt)
for file in $programs; do
  program=$(basename "$file")
  if answer "$program" --help 0; then
    if ! grep -q "$program" "$work/stdout"; then
      fail "$program --help" "its name is not in it"
    elif grep -q '.\{81\}' "$work/stdout"; then
      fail "$program --help" "a line of more than 80 columns"
    else
      ok "$program --help"
    fi
  fi
  # One that takes the place of another program tells that one's version.
  if answer "$program" --version 0; then
    if [ "$(wc -l <"$work/stdout")" -ne 1 ]; then
      fail "$program --version" "not one line"
    elif grep -q "^$program" "$work/stdout" && ! grep -qF " $version" "$work/stdout"; then
      fail "$program --version" "not $version"
    else
      ok "$program --version: $(cat "$work/stdout")"
    fi
  fi
  if answer "$program" --no-such-option 2; then
    if [ -s "$work/stdout" ]; then
      fail "$program --no-such-option" "something on standard output"
    elif ! grep -q "^\\(usage: \\)\\{0,1\\}${program}[: ]" "$work/stderr"; then
      fail "$program --no-such-option" "no line on standard error that begins with its name"
    else
      ok "$program --no-such-option"
    fi
  fi
  if ! echo "$pages" | grep -q "/$program\\.1\$"; then
    : >"$work/out"
    fail "$program" "no manual page"
  fi
done

# ---- manual pages ----------------------------------------------------------------------

echo '.TH NAME 1' >name.1
if ! man -l --warnings -E UTF-8 -Tutf8 -Z name.1 >/dev/null 2>&1; then
  skip "manual pages" "there is no man that can check them"
  pages=
fi
for page in $pages; do
  name=$(basename "$page")
  # In ASCII a character is a byte: so a column is what wc and grep see, in any locale.
  if ! man -l --warnings -E UTF-8 -Tutf8 -Z "$page" 2>"$work/out" >"$work/stdout"; then
    fail "$name" "man cannot format it"
  elif [ -s "$work/out" ]; then
    fail "$name" "warnings"
  elif ! man -l -E ascii "$page" >"$work/stdout" 2>"$work/out" || [ ! -s "$work/stdout" ]; then
    fail "$name" "man shows nothing"
  elif grep '.\{81\}' "$work/stdout" >"$work/out"; then
    fail "$name" "lines of more than 80 columns"
  else
    ok "$name: $(wc -l <"$work/stdout") lines"
  fi
done

# ---- make uninstall --------------------------------------------------------------------

cd "$top_builddir" || exit 1
if ! run_make uninstall; then
  fail "make uninstall" "it fails"
elif find "$work/root" ! -type d >"$work/out" && [ -s "$work/out" ]; then
  fail "make uninstall" "it leaves files"
else
  ok "make uninstall"
fi

echo "$((passed + failed)) checked, $failed failed"
[ "$failed" -eq 0 ]
