#!/bin/sh
# The programs in README.md and doc/: takes every C block with a main function out of the
# pages, compiles it against the library with all warnings as errors, and runs it. Blocks
# whose first line is a comment that begins with the same file's name are one program, in
# their order on the page.
#
# CC is the compiler, SANITIZER what the library was built with (no, address, undefined or
# thread), top_srcdir the root of the sources, top_builddir that of the build,
# ATOMIC_OPS_CFLAGS where atomic_ops.h lies if the compiler does not find it itself.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

CC=${CC:-cc}
SANITIZER=${SANITIZER:-no}
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-.}
libtool=$top_builddir/libtool
library=$top_builddir/libmirt.la

for file in "$libtool" "$library"; do
  if [ ! -f "$file" ]; then
    echo "FAIL: no file $file"
    exit 1
  fi
done

work=$(mktemp -d "${TMPDIR:-/tmp}/test_doc.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# How many programs a page has at least.
expected_of() {
  case $1 in
    README.md) echo 1 ;;
    doc/arenas.md) echo 5 ;;
    doc/collecting.md) echo 3 ;;
    doc/embedding.md) echo 5 ;;
    doc/heaps.md) echo 3 ;;
    doc/jit.md) echo 1 ;;
    *) echo 0 ;;
  esac
}

# Write the programs of a page to $work/NAME.c, NAME being the file's name, or the line of the
# block's first line; compilers are told the lines, too. Prints the names.
extract() {
  awk -v page="$1" -v work="$work" '
    !inside && /^```c[ \t]*$/ { inside = 1; first = NR + 1; text = ""; has_main = 0; next }
    inside && /^```[ \t]*$/ {
      inside = 0
      name = has_main ? first : ""
      if (match(text, /^\/\* [a-z_]+\.c[: ]/)) name = substr(text, 4, RLENGTH - 6)
      if (name != "") {
        file = work "/" name ".c"
        printf "#line %d \"%s\"\n%s", first, page, text >>file
        close(file)
        if (!(name in known)) print name
        known[name] = 1
      }
      next
    }
    inside {
      text = text $0 "\n"
      if ($0 ~ /^int main\(/) has_main = 1
    }
    END { if (inside) exit 1 }
  ' "$top_srcdir/$1"
}

warnings='-Wall -Wextra -Wpedantic -Werror'
sanitize=
if [ "$SANITIZER" != no ]; then
  sanitize="-fsanitize=$SANITIZER -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
fi
# Fences that ThreadSanitizer does not model are no defect of the program. Only gcc warns of
# them, and only gcc knows the option.
if [ "$SANITIZER" = thread ]; then
  echo 'int main(void) { return 0; }' >"$work/option.c"
  # shellcheck disable=SC2086
  if $CC $warnings -Wno-tsan -c "$work/option.c" -o "$work/option.o" 2>/dev/null; then
    warnings="$warnings -Wno-tsan"
  fi
fi

# CC may be a command with options: it is split into words on purpose, as are the flags.
# shellcheck disable=SC2086
compile() {
  $CC -std=gnu11 -O2 $warnings $sanitize -I"$top_srcdir/include" ${ATOMIC_OPS_CFLAGS-} \
    -c "$1.c" -o "$1.o" &&
    "$libtool" --silent --tag=CC --mode=link $CC $sanitize -no-install "$1.o" "$library" \
      -o "$1"
}

limit=
if command -v timeout >/dev/null 2>&1; then limit='timeout 120'; fi

failed=0
checked=0

fail() {
  echo "FAIL $1: $2"
  sed 's/^/     | /' "$work/out" | head -n 40
  failed=$((failed + 1))
}

check_program() {
  program=$work/$2
  if ! compile "$program" </dev/null >"$work/out" 2>&1; then
    fail "$1:$2" "$CC does not compile it"
    return
  fi
  # shellcheck disable=SC2086
  $limit "$program" </dev/null >"$work/out" 2>&1
  code=$?
  if [ "$code" -ne 0 ]; then
    fail "$1:$2" "exit code $code"
  else
    echo "ok   $1:$2: $(head -n 1 "$work/out")"
  fi
}

check_page() {
  if ! extract "$1" >"$work/names"; then
    : >"$work/out"
    fail "$1" 'it cannot be read, or a block has no end'
  fi
  found=0
  while read -r name; do
    check_program "$1" "$name"
    found=$((found + 1))
  done <"$work/names"
  checked=$((checked + found))
  expected=$(expected_of "$1")
  if [ "$found" -lt "$expected" ]; then
    : >"$work/out"
    fail "$1" "$found programs found, $expected expected"
  fi
}

pages='README.md'
for page in "$top_srcdir"/doc/*.md; do
  pages="$pages doc/${page##*/}"
done
for page in $pages; do
  check_page "$page"
  rm -f "$work"/*.c "$work"/*.o
done

echo "$checked programs, $failed failures, sanitizer: $SANITIZER, $($CC --version | head -n 1)"
[ "$failed" -eq 0 ]
