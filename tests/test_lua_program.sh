#!/bin/sh
# mirt-lua is lua5.4 as far as a program can see: the same scripts print the same bytes, end with
# the same exit code, and say the same on standard error but for the program's name. And what
# it has of its own: --heap-report, --memory-limit, --drop, what it refuses. And the example
# of bindings/lua/README.md.
#
# top_srcdir and top_builddir are the roots of the source and the build, CC is the compiler,
# SANITIZER what the build was made with (no, address, undefined or thread).
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

sources=$(cd "${top_srcdir:-.}" && pwd)/bindings/lua
build=$(cd "${top_builddir:-.}" && pwd)
program=$build/bindings/lua/mirt-lua

if [ ! -x "$program" ]; then
  echo "FAIL: no program $program"
  exit 1
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/test_lua_program.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Nothing of the user's environment, and what is not freed at os.exit is not lost.
unset LUA_INIT LUA_INIT_5_4 LUA_PATH LUA_PATH_5_4 LUA_CPATH LUA_CPATH_5_4
ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export ASAN_OPTIONS

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
  head -n 20 "$work/out" "$work/err" | sed 's/^/     | /'
  failed=$((failed + 1))
}

# run argument...: mirt-lua with the input in $work/in.
: >"$work/in"
run() {
  # shellcheck disable=SC2086
  $limit "$program" "$@" <"$work/in" >"$work/out" 2>"$work/err"
  code=$?
}

# ---- beside lua5.4 ----

cd "$sources/tests" || exit 1
peer=$(command -v lua5.4)

# same what argument...: both give the same.
same() {
  what=$1
  shift
  [ -n "$peer" ] || return
  # shellcheck disable=SC2086
  $limit "$peer" "$@" <"$work/in" >"$work/out-peer" 2>"$work/err-peer"
  code_peer=$?
  run "$@"
  sed "s|^$program: |NAME: |" "$work/err" >"$work/err-named"
  sed "s|^$peer: |NAME: |" "$work/err-peer" >"$work/err-peer-named"
  if [ "$code" -ne "$code_peer" ]; then
    fail "$what" "exit code $code instead of $code_peer"
  elif ! cmp -s "$work/out" "$work/out-peer"; then
    fail "$what" "another output than lua5.4's"
    diff "$work/out-peer" "$work/out" | head -n 10
  elif ! cmp -s "$work/err-named" "$work/err-peer-named"; then
    fail "$what" "another complaint than lua5.4's"
    diff "$work/err-peer-named" "$work/err-named" | head -n 10
  else
    ok "$what"
  fi
}

# Two releases of Lua may say the same in other words.
if [ -n "$peer" ]; then
  release=$("$peer" -v 2>&1 | sed 's/  .*//')
  run -v
  if [ "$(sed 's/  .*//' "$work/out")" != "$release" ]; then
    echo "skip: lua5.4 is $release"
    peer=
  fi
else
  echo 'skip: no lua5.4 to compare with'
fi

for script in *.lua; do
  case $script in
  exit.lua | fail.lua) ;;
  *) same "$script" "$script" one two ;;
  esac
done
for number in 0 1 3 255 256 true; do
  same "exit with $number" exit.lua $number
  same "exit with $number, closing" exit.lua $number close
done
for what in string number nothing table object; do same "fail with $what" fail.lua $what; done
same 'no such script' none.lua
same 'one statement' -e 'print(arg[0] ~= nil, arg[-1], #arg)'
same 'statements and a script' -e 'x = 1' -ey=2 -e 'print(x, y)' strings.lua
same 'a statement that fails' -e 'error("here")' strings.lua
same 'a statement that is none' -e 'x ='
same 'modules' -l string -lt=table -e 'print(string == _G.string, t == table)'
same 'no such module' -l no.such.module
same 'warnings' -W -e 'warn("a", "b") warn("@off") warn("c")'
same 'no warnings' -e 'warn("a") warn("@on") warn("b")'
same 'the version' -v
same 'the version and a statement' -v -e 'print(1)'
same 'arguments' -- exit.lua 7
same 'arguments that look like options' fail.lua -e -x --
same 'the table arg, broken' -e 'arg = nil' exit.lua
same 'the table arg, changed' -e 'arg[1] = "9"' exit.lua 5
same 'the mode of the collector' -e 'print(collectgarbage("incremental"))'
echo 'print("from the input", ...) error("at its end")' >"$work/in"
same 'the input'
same 'the input by name' - one two
same 'the input is not read' -e 'print(1)'
: >"$work/in"
LUA_INIT='print("initial")' && export LUA_INIT
same 'LUA_INIT' -e 'print(1)'
same 'LUA_INIT ignored' -E -e 'print(1)'
LUA_INIT=@goto.lua
same 'LUA_INIT with a file' -e 'print(1)'
LUA_INIT='error("initial")'
same 'LUA_INIT that fails' -e 'print(1)'
LUA_INIT_5_4='print("of the version")' && export LUA_INIT_5_4
same 'LUA_INIT_5_4' -e 'print(1)'
unset LUA_INIT LUA_INIT_5_4
LUA_PATH=$work/?.lua && export LUA_PATH
echo 'return {name = ...}' >"$work/module.lua"
same 'LUA_PATH' -l module -e 'print(module.name)'
same 'LUA_PATH ignored' -E -e 'print(package.path)'
unset LUA_PATH

# ---- its own ----

# expect what code output error argument...: what it ends with, and patterns of the first line
# that it prints, and of any that it says; empty: nothing at all.
expect() {
  what=$1 wanted=$2 output=$3 error=$4
  shift 4
  run "$@"
  if [ "$code" -ne "$wanted" ]; then
    fail "$what" "exit code $code instead of $wanted"
  elif [ -z "$output" ] && [ -s "$work/out" ]; then
    fail "$what" 'something on standard output'
  elif ! head -n 1 "$work/out" | grep -q -e "$output" && [ -n "$output" ]; then
    fail "$what" "the output does not begin with: $output"
  elif [ -z "$error" ] && [ -s "$work/err" ]; then
    fail "$what" 'something on standard error'
  elif [ -n "$error" ] && ! grep -q -e "$error" "$work/err"; then
    fail "$what" "not said: $error"
  elif [ "$(cat "$work/out" "$work/err" | sed "s|$program|mirt-lua|" | awk '{ if (length($0) > n) n = length($0) }
                                              END { print n + 0 }')" -gt 80 ]; then
    fail "$what" 'more than 80 columns'
  else
    ok "$what"
  fi
}

# talk line...: what is typed.
talk() { printf '%s\n' "$@" >"$work/in"; }

expect 'help' 0 '^usage: mirt-lua' '' --help
expect 'version' 0 '^mirt-lua [0-9.]*, with Lua 5\.4' '' --version
for wrong in -x -vv -Ex -ix -Wx --drop=1 --memory-limit --memory-limit= --memory-limit=0 \
  --memory-limit=-1 --memory-limit=1T --memory-limit=1KB --memory-limit=99999999999G -e -l; do
  expect "$wrong is refused" 2 '' '^mirt-lua: ' "$wrong"
done
expect 'an option in the place of a value' 2 '' "'-e' needs argument" -e -v

expect 'a limit' 0 '^false	not enough memory$' '' --memory-limit=2M \
  -e 'local t = {} print(pcall(function() for i = 1, 1e8 do t[i] = {} end end))'
expect 'a limit that collecting obeys' 0 '^done$' '' --memory-limit=1024K \
  -e 'for i = 1, 1e5 do local t = {("x"):rep(100)} end print("done")'
expect 'a limit that is met' 1 '' 'not enough memory' --memory-limit=1M \
  -e 'local s = "x" while true do s = s .. s end'
expect 'a limit below the libraries' 1 '' 'not enough memory' --memory-limit=12K -e 'x = 1'
expect 'a limit below the state' 1 '' 'cannot create state: not enough' --memory-limit=1 -e 'x = 1'

gc='setmetatable({}, {__gc = function() print("finalized") end})'
expect 'closing runs finalizers' 0 '^finalized$' '' -e "$gc"
expect 'dropping runs none' 0 '' '' --drop -e "$gc"
expect 'dropping keeps the exit code' 1 '' 'here' --drop -e 'error("here")'

expect 'a report' 0 '^1$' '^total .* 100\.0%$' --heap-report -e 'print(1)'
for kind in buffers strings tables functions userdata threads upvalues prototypes; do
  grep -q "^$kind  *[0-9]" "$work/err" || fail 'a report' "without $kind"
done
expect 'a report and a limit' 0 '' 'of at most 64.00 MiB' --heap-report --memory-limit=64M -e 'x=1'
expect 'a report after an error' 1 '' '^tables  *[0-9]' --heap-report -e 'error("here")'
expect 'a report and os.exit' 3 '' '^tables  *[0-9]' --heap-report -e 'os.exit(3)'
expect 'a report, os.exit that closes' 4 '' '^tables  *[0-9]' --heap-report -e 'os.exit(4, true)'
expect 'a report and --drop' 0 '' '^tables  *[0-9]' --heap-report --drop -e 'x=1'
run --heap-report -e 't = {} for i = 1, 10000 do t[i] = {} end'
tables=$(sed -n 's/^tables  *\([0-9]*\) .*/\1/p' "$work/err")
if [ "${tables:-0}" -ge 10000 ] && [ "$tables" -lt 10100 ]; then
  ok "a report counts $tables tables"
else
  fail 'a report counts tables' "${tables:-none} of 10000"
fi
[ "$(grep -c '^total' "$work/err")" -eq 1 ] || fail 'a report' 'not once'

talk 'x = 20' '=x + 1' 'x + 2' 'for i = 1, 2 do' 'print(i)' 'end' 'error("typed")' 'x x' '"a".."b"' \
  '1, nil, 3' 'x = ' '7' 'x'
run -i
if [ "$code" -eq 0 ] && tr -d '\n' <"$work/out" | sed 's/>>* //g' |
  grep -q 'PUC-Rio21221*2*ab1	nil	37*$' &&
  grep -q '^stdin:1: typed$' "$work/err" && grep -q '^stdin:1: syntax error near' "$work/err"; then
  ok 'a conversation'
else
  fail 'a conversation' 'not what was expected'
fi
talk 'x = 1 +'
expect 'an unfinished conversation' 0 'PUC-Rio$' "near <eof>" -i
talk 'print("hi")' 'local p = print' 'x = 5'
run -i -e '_PROMPT = "ready " _PROMPT2 = "more "'
grep -q '^ready hi$' "$work/out" || fail 'a prompt' 'not that of _PROMPT'
talk '1'
expect 'a print that fails' 0 'PUC-Rio$' "error calling 'print' (.*no)" -i -e 'print = function() error("no") end'
: >"$work/in"

# ---- the example ----

sed -n '/^```c$/,/^```$/{/^```/d;p;}' "$sources/README.md" >"$work/embed.c"
sanitize=
if [ "${SANITIZER:-no}" != no ]; then sanitize=-fsanitize=$SANITIZER; fi
lua=$(pkg-config --exists lua5.4 2>/dev/null && echo lua5.4 || echo lua)
build_example() {
  # shellcheck disable=SC2046,SC2086
  ${CC:-cc} $sanitize -Wall -Wextra -Werror -o "$work/embed" "$work/embed.c" \
    -I"$sources" -I"$sources/../../include" $(pkg-config --cflags $lua) \
    -L"$build/.libs" -Wl,-rpath,"$build/.libs" -lmirt-lua -lmirt $(pkg-config --libs $lua) \
    >"$work/out" 2>"$work/err"
}

if [ ! -e "$build/.libs/libmirt-lua.so" ] || ! pkg-config --exists $lua 2>/dev/null; then
  echo 'skip: no shared library, or no pkg-config, to build the example with'
elif ! build_example; then
  fail 'the example' 'does not compile'
else
  # shellcheck disable=SC2086
  $limit "$work/embed" >"$work/out" 2>"$work/err"
  code=$?
  if [ $code -eq 0 ] && grep -q '^5000 tables, ' "$work/out"; then
    ok 'the example'
  else
    fail 'the example' "exit code $code, or another output"
  fi
fi

echo "$((passed + failed)) checked, $failed failed"
[ "$failed" -eq 0 ]
