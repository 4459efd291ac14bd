#!/bin/sh
# The example of bindings/cxx prints what it should; and the test of the binding also passes with
# libc++, whose maps and lists take references, where clang++ has it; the headers also compile
# without exceptions and run-time type information, and as C++20.
#
# top_srcdir and top_builddir are the roots of the sources and the build, CXX is the compiler,
# SANITIZER what the build was made with.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

sources=$(cd "${top_srcdir:-.}" && pwd)
build=$(cd "${top_builddir:-.}" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/test_cxx_example.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failed=0

fail() {
  echo "FAIL $1"
  sed 's/^/     | /' "$work/out" | head -n 20
  failed=1
}

"$build/bindings/cxx/example" >"$work/out" 2>&1
if [ "$(cat "$work/out")" = '12800, 1024, 2047 objects live, collected: yes' ]; then
  echo 'ok   the example'
else
  fail 'the example'
fi

flags="-Wall -Wextra -Wpedantic -Wshadow -Werror -I$sources/include -I$sources/bindings/cxx"

for options in '-std=c++17 -fno-exceptions -fno-rtti' '-std=c++20' '-std=c++17 -O2'; do
  # shellcheck disable=SC2086 # lists of options
  if ${CXX:-c++} $flags $options -fsyntax-only "$sources/bindings/cxx/example.cpp" \
    >"$work/out" 2>&1; then
    echo "ok   compiles with $options"
  else
    fail "compiles with $options"
  fi
done

echo 'int main() {}' >"$work/empty.cpp"
if [ "${SANITIZER:-no}" != no ] || [ ! -e "$build/.libs/libmirt.so" ]; then
  echo 'skip: libc++ is tried without a sanitizer, with the shared library'
elif ! clang++ -stdlib=libc++ "$work/empty.cpp" -o "$work/empty" >/dev/null 2>&1; then
  echo 'skip: there is no clang++ with libc++'
else
  # shellcheck disable=SC2086
  if clang++ -stdlib=libc++ -std=c++17 -O1 $flags "$sources/tests/test_cxx_binding.cpp" \
    -o "$work/test" -L"$build/.libs" -Wl,-rpath,"$build/.libs" -lmirt -lpthread >"$work/out" 2>&1 &&
    "$work/test" >"$work/out" 2>&1; then
    echo "ok   with libc++: $(tail -n 1 "$work/out")"
  else
    fail 'with libc++'
  fi
fi
exit $failed
