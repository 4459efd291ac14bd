#!/bin/sh
# The script that compares allocators (tests/bench/run.py), with tiny programs instead of
# the benchmarks: what fails or computes something else is named, and the status is 1; the
# ratios are right; the report and the chart get written.
#
# LIBMIRT_MALLOC is the library, top_srcdir and top_builddir are the roots of the sources
# and of the build.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u
export LC_ALL=C

top_srcdir=${top_srcdir:-$(dirname "$0")/..}
library=${LIBMIRT_MALLOC:-${top_builddir:-.}/.libs/libmirt-malloc.so}
bench=$top_srcdir/tests/bench

# 77 is how a test says that it was skipped.
python=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null)
if [ -z "$python" ]; then
  echo 'skip: python3 is not installed'
  exit 77
fi
if [ ! -r "$library" ]; then
  echo "FAIL: no library $library"
  exit 1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/test_bench.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$work/bin" "$work/empty"
cp "$library" "$work/other.so"
echo 'not a library' >"$work/text.so"

# A program with the patterns of the tests. Times are such that the ratios are known.
cat >"$work/patterns" <<'PROGRAM'
#!/bin/sh
if [ "$1" = --list ]; then
  echo steady wrong failing
  exit
fi
checksum=1234 time=400
case ${LD_PRELOAD-} in
  */other.so) time=200 ;;
  ?*) time=100 ;;
esac
case $1,$time in
  wrong,200) checksum=4321 ;;
  failing,400) echo 'something is amiss' >&2; exit 3 ;;
esac
echo "pattern $1
nanoseconds $time
operations 1
checksum $checksum
peak_kib $((time * 1024))
malloc ${LD_PRELOAD-none}"
PROGRAM

# Whole programs take more memory than the script that runs them.
program() {
  {
    echo '#!/bin/sh'
    echo "$2"
    echo "exec '$python' -S -c 'print(len(b\"x\" * (48 << 20)))'"
  } >"$work/bin/$1"
}
program lua5.4 ''
# The case is for the program.
# shellcheck disable=SC2016
program perl 'case ${LD_PRELOAD-} in */other.so) echo other ;; esac'
# shellcheck disable=SC2016
program sqlite3 'case ${LD_PRELOAD-} in */other.so) exit 5 ;; esac'
chmod +x "$work/patterns" "$work"/bin/*

failed=0

fail() {
  echo "FAIL $1: $2"
  sed 's/^/     | /' "$work/out"
  failed=$((failed + 1))
}

# compare path status options...: leaves the output in $work/out and the files in
# $work/report.
compare() {
  path=$1
  expected=$2
  shift 2
  name=$*
  rm -rf "$work/report"
  PATH=$path "$python" "$bench/run.py" --program "$work/patterns" --mirt "$library" \
    --output "$work/report" --rounds 2 "$@" >"$work/out" 2>&1
  code=$?
  if [ "$code" -ne "$expected" ]; then fail "$name" "status $code, not $expected"; fi
}

says() {
  if ! grep -E -- "$1" "$work/report/report.md" >"$work/found" 2>/dev/null; then
    fail "$name" "the report does not say: $1"
  fi
}

# The chart is XML, and has so many bars: one for each row, allocator and panel.
draws() {
  "$python" - "$work/report/report.svg" "$1" >"$work/out" 2>&1 <<'SCRIPT' ||
import sys
import xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
space = "{http://www.w3.org/2000/svg}"
assert root.tag == space + "svg", root.tag
bars = root.findall(".//%srect[%stitle]" % (space, space))
assert len(bars) == int(sys.argv[2]), len(bars)
SCRIPT
    fail "$name" 'the chart is not as it should be'
}

with_programs=$work/bin:$PATH
other=other=$work/other.so

compare "$with_programs" 0 --peer "$other" --only steady --only lua
says '^\| steady .* 0\.50 \(0%\) \| +0\.25 \(0%\) \|$'
says '^\| steady +\| 100\.0 \| 200\.0 \| 400\.0 \|$'
says '^\| patterns: time +\| +0\.50 \| +0\.25 \|$'
says '^\| programs: time +\|'
says '^\| lua '
draws 24

compare "$with_programs" 1 --peer "$other" --only steady --only wrong --only failing \
  --only perl --only sqlite
says '^- FAILED wrong: with other: checksum 4321, but 1234 with mirt$'
says '^- FAILED failing: with glibc: exit status 3 \(something is amiss\)$'
says '^- FAILED perl: with other: checksum'
says '^- FAILED sqlite: with other: exit status 5$'
says '^\| wrong +\| +failed \|'
says '^\| patterns: time +\| +0\.50 \| +0\.25 \|$'
draws 12

# Nothing is left that could be compared.
compare "$with_programs" 1 --peer "$other" --only wrong
says '^- FAILED wrong: '
draws 0

compare "$with_programs" 1 --peer "other=$work/text.so" --only lua
says '^- FAILED lua: with other: .*cannot be preloaded'

compare "$with_programs" 0 --peer "$other" --skip other --only steady
says '^- other is left out: not asked for$'
says '^\| steady +\| 0\.25 \(0%\) \|$'

compare "$work/empty" 0 --only steady --only lua
says '^- lua is left out: lua5\.4 is not installed$'
says '^\| steady '

compare "$with_programs" 1 --only unknown

# What the programs work on is the same each time.
for script in make_c.py make_sql.py; do
  name=$script
  for number in 1 2; do
    PYTHONHASHSEED=$number "$python" -B "$bench/programs/$script" >"$work/made$number" ||
      fail "$script" 'it fails'
  done
  cmp "$work/made1" "$work/made2" >"$work/out" 2>&1 || fail "$script" 'it varies'
done

echo "test_bench: $failed failures"
[ "$failed" -eq 0 ]
