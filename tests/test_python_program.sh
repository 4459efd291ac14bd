#!/bin/sh
# mirt-python is python3: what it prints and how it exits, for scripts, commands, modules,
# standard input and wrong usage, is compared with the interpreter itself; so are the results of
# CPython's own tests. Then the module `mirt`.
#
# top_builddir is the root of the build, top_srcdir that of the sources, SANITIZER what it was
# made with. PYTHON_TESTS names the tests of CPython to run; "all" stands for a long list.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

builddir=${top_builddir:-.}
srcdir=${top_srcdir:-.}
mirt=$builddir/bindings/python/mirt-python

if [ ! -x "$mirt" ]; then
  echo "FAIL: no program $mirt"
  exit 1
fi

# CPython leaves memory behind at its end, in its own allocators too.
ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export ASAN_OPTIONS
PYTHONHASHSEED=1
export PYTHONHASHSEED
unset PYTHONMALLOC PYTHONDEVMODE PYTHONPATH PYTHONHOME PYTHONSTARTUP 2>/dev/null

version=$("$mirt" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1
plain=
for candidate in "/usr/bin/python$version" "python$version"; do
  if command -v "$candidate" >/dev/null 2>&1 &&
    [ "$("$candidate" -c 'import sys; print(sys.version)')" = \
      "$("$mirt" -c 'import sys; print(sys.version)')" ]; then
    plain=$candidate
    break
  fi
done

work=$(mktemp -d "${TMPDIR:-/tmp}/test_python.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

passed=0
failed=0

ok() {
  echo "ok   $1"
  passed=$((passed + 1))
}

fail() {
  echo "FAIL $1: $2"
  for file in "$work"/out* "$work"/err*; do
    head -n 20 "$file" | sed "s|^|     ${file##*/} |"
  done
  failed=$((failed + 1))
}

# run NAME PROGRAM ARGUMENT...: standard input from $work/in
run() {
  to=$1
  program=$2
  shift 2
  (cd "$work" && "$program" "$@" <in >"out.$to" 2>"err.$to")
  code=$?
  # Programs call themselves by their name.
  for stream in out err; do
    sed -e "s|$program|PYTHON|g" -e 's|mirt-python|PYTHON|g' \
      -e "s|python$version|PYTHON|g" "$work/$stream.$to" >"$work/$stream.$to.same"
  done
}

# same CODE ARGUMENT...: both interpreters print the same and exit with CODE
same() {
  expected=$1
  shift
  name="python3 $*"
  name=$(printf '%.60s' "$name" | tr '\n' ' ')
  run mirt "$mirt" "$@"
  if [ "$code" -ne "$expected" ]; then
    fail "$name" "exit code $code, not $expected"
  elif [ -z "$plain" ]; then
    ok "$name"
  else
    run plain "$plain" "$@"
    if [ "$code" -ne "$expected" ]; then
      fail "$name" "exit code of python3 is $code, not $expected"
    elif ! cmp -s "$work/out.mirt.same" "$work/out.plain.same"; then
      fail "$name" "standard output differs"
    elif ! cmp -s "$work/err.mirt.same" "$work/err.plain.same"; then
      fail "$name" "standard error differs"
    else
      ok "$name"
    fi
  fi
}

# check NAME COMMAND...
check() {
  name=$1
  shift
  if (cd "$work" && "$@") >"$work/out" 2>"$work/err"; then
    ok "$name"
  else
    fail "$name" "exit code $?"
  fi
}

case $mirt in /*) ;; *) mirt=$PWD/$mirt ;; esac
case $builddir in /*) ;; *) builddir=$PWD/$builddir ;; esac
case $srcdir in /*) ;; *) srcdir=$PWD/$srcdir ;; esac
[ -n "$plain" ] || echo "skip: no python$version to compare with"

# ---- the same program ----

: >"$work/in"
cat >"$work/script.py" <<'EOF'
import os, sys
print(__name__, sys.argv, sys.flags.optimize, __debug__)
print(sorted(set("hello world")), hash("a"), {**{1: 2}, "x": [3.5, None]})
sys.stderr.write("to standard error\n")
if len(sys.argv) > 1: sys.exit(int(sys.argv[1]))
EOF
same 0 script.py
same 9 script.py 9 -x --help
same 0 -O script.py
same 0 -c 'import sys; print(sys.argv, sys.flags)' a -b
same 3 -c 'raise SystemExit(3)'
same 1 -c 'raise SystemExit("what it says")'
same 1 -c 'def f(n): return 1 / n
f(0)'
same 1 -c 'this is no python'
same 0 -c 'import gc, weakref
class A: pass
a = A(); a.self = a; r = weakref.ref(a, lambda _: print("gone")); del a; gc.collect()'
same 0 -E -s -c 'import sys; print(sys.flags, sys.path[0])'
same 0 -I -c 'import sys; print(sys.flags)'
same 1 -W error -c 'import warnings; warnings.warn("a warning")'
same 0 -X utf8 -c 'import sys; print(sys._xoptions, ascii("\u00e4"))'
same 0 -V
same 0 --version
same 0 --help
same 0 -m this
same 1 -m there_is_no_such_module
same 2 there_is_no_such_file.py
same 2 -Z
same 2 --no-such-option
same 2 -c
same 0 -X faulthandler -c 'import threading
ts = [threading.Thread(target=lambda: sorted(range(10000), key=str)) for _ in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]; print(threading.active_count())'
same 0 -c 'import os, sys
sys.stdout.flush()
if os.fork() == 0: print("child", len([str(i) for i in range(10000)])); sys.exit(0)
print("parent", os.wait()[1])'
same 1 -c 'x = []
while True: x.append(" " * (1 << 60))'
same 0 -c 'import decimal, sqlite3, zlib, hashlib, re, struct, ctypes
d = sqlite3.connect(":memory:"); d.execute("create table t (x)")
d.executemany("insert into t values (?)", [(i,) for i in range(1000)])
print(d.execute("select sum(x) from t").fetchone(), decimal.Decimal(2).sqrt())
print(hashlib.md5(zlib.compress(b"x" * 100000)).hexdigest(), ctypes.sizeof(ctypes.c_long))'

echo 'print("from standard input")' >"$work/in"
same 0
same 0 -
printf '%s\n' 'x = 40' 'x + 2' '1 / 0' 'import sys; sys.exit(5)' >"$work/in"
same 5 -q -i
: >"$work/in"

# ---- what it has more ----

check 'sys.executable' "$mirt" -c 'import subprocess, sys
assert sys.executable.endswith("mirt-python"), sys.executable
subprocess.run([sys.executable, "-c", "import mirt; assert mirt.installed"], check=True)'
check 'a virtual environment' sh -c \
  "'$mirt' -m venv --without-pip v && v/bin/python -c 'import mirt; assert mirt.installed'"
check 'the module mirt' "$mirt" "$srcdir/bindings/python/tests/test_mirt.py"
check 'the module mirt, with checks' "$mirt" -X dev -c 'import mirt
assert mirt.installed and mirt.stats()["object"]["live_blocks"] > 1000'
check 'PYTHONMALLOC=debug' env PYTHONMALLOC=debug "$mirt" -c 'import mirt, json
assert mirt.installed; json.dumps(list(range(10000)))'
check 'PYTHONMALLOC=pymalloc' env PYTHONMALLOC=pymalloc "$mirt" -c 'import mirt
assert not mirt.installed and mirt.tags()["raw"] == -1
assert mirt.stats()["object"]["live_blocks"] == 0 and mirt.snapshot() == {}'
check '-E without PYTHONMALLOC' env PYTHONMALLOC=malloc "$mirt" -bE -c 'import mirt
assert mirt.installed'
check '-W and -X take an argument' env PYTHONMALLOC=malloc "$mirt" -W ignore::E -X E -c \
  'import mirt; assert not mirt.installed'
check '--check-hash-based-pycs takes one' env PYTHONMALLOC=malloc "$mirt" \
  --check-hash-based-pycs default -E -c 'import mirt; assert mirt.installed'

name='-X mirt-report'
run mirt "$mirt" -X mirt-report -c 'print(1)'
if [ "$code" -eq 0 ] && [ "$(wc -l <"$work/err.mirt")" -eq 4 ] &&
  grep -q '^object  *[0-9]* ' "$work/err.mirt"; then
  ok "$name"
else
  fail "$name" 'no table'
fi

# ---- the examples of the README ----

pages=$srcdir/bindings/python
sed -n '/^```python$/,/^```$/{/^```/d;p;}' "$pages/README.md" >"$work/example.py"
check 'the example in Python' "$mirt" example.py
if [ "$(head -n 1 "$work/out" | cut -d ' ' -f 1)" != object ]; then
  fail 'the example in Python' 'does not begin with what was allocated'
fi

sed -n '/^```c$/,/^```$/{/^```/d;p;}' "$pages/README.md" >"$work/embed.c"
compile_embed() {
  # shellcheck disable=SC2046
  ${CC:-cc} -Wall -Wextra -Wno-missing-field-initializers -Werror -o embed embed.c \
    -I"$pages" -I"$srcdir/include" $(pkg-config --cflags python3-embed) \
    -L"$builddir/.libs" -Wl,-rpath,"$builddir/.libs" -lmirt-python -lmirt \
    $(pkg-config --libs python3-embed)
}
if [ "${SANITIZER:-no}" != no ] || [ ! -e "$builddir/.libs/libmirt-python.so" ] ||
  ! pkg-config --exists python3-embed 2>/dev/null; then
  echo 'skip: no shared library without a sanitizer, or no pkg-config, for the example in C'
else
  check 'the example in C, compiled' compile_embed
  check 'the example in C' ./embed
  grep -q "'raw': 100" "$work/out" || fail 'the example in C' 'prints something else'
fi

# ---- CPython's own tests ----

names=${PYTHON_TESTS:-test_dict test_list test_set test_gc test_weakref test_thread test_json
  test_memoryview test_array test_bytes}
[ "$names" != all ] || names='test_dict test_list test_set test_unicode test_bytes test_gc
  test_weakref test_threading test_thread test_asyncio test_json test_pickle test_re test_sqlite3
  test_memoryview test_array test_decimal test_subprocess test_multiprocessing_fork test_capi
  test_tuple test_float test_long test_deque test_collections test_struct test_generators
  test_coroutines test_descr test_class test_buffer test_io test_bigmem test_zlib test_ctypes
  test_context test_queue test_concurrent_futures test_fork1 test_ast test_compile test_faulthandler
  test_embed test_tracemalloc'
names_there=
for name in $names; do
  if "$mirt" -c "import importlib.util, sys
sys.exit(importlib.util.find_spec('test.$name') is None)" 2>/dev/null; then
    names_there="$names_there $name"
  else
    echo "skip: $name is not among the tests that the system has of python$version"
  fi
done

if [ "${SANITIZER:-no}" != no ]; then
  echo "skip: CPython's own tests, which take minutes under a sanitizer"
elif [ -z "$plain" ] || [ -z "$names_there" ]; then
  echo "skip: CPython's own tests need python$version and its package of tests"
else
  # shellcheck disable=SC2086 # a list of names
  for which in plain mirt; do
    program=$plain
    [ $which = plain ] || program=$mirt
    (cd "$work" && "$program" -m test -j2 --junit-xml="$work/$which.xml" $names_there) \
      >"$work/out.$which" 2>&1
  done
  if "$mirt" "$srcdir/bindings/python/tests/compare_results.py" "$work/plain.xml" \
    "$work/mirt.xml" >"$work/out.compare" 2>&1; then
    ok "CPython's own tests:$names_there: $(tail -n 1 "$work/out.compare")"
  else
    fail "CPython's own tests" 'the results differ'
    cat "$work/out.compare"
  fi
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
