#!/bin/sh
# Checks the models of how threads share pages and arenas, with spin: every order of steps
# of a few threads. What is right must pass, and with one step wrong it must fail.
#
#   check.sh          two at a time: within 3 minutes on two processors, and 2 GB
#   check.sh long     larger ones, too: a few minutes more and 4 GiB
#
# CC is the compiler, LANES how many run at a time. Exit code 77: cannot be told here.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

CC=${CC:-cc}
models=$(cd "$(dirname "$0")" && pwd) || exit 1

# spin calls gcc's preprocessor, or what SPIN_CPP names.
SPIN_CPP=${SPIN_CPP:-cpp}
for tool in spin "$SPIN_CPP"; do
  if ! command -v "$tool" >/dev/null 2>&1; then
    echo "skipped: there is no $tool"
    exit 77
  fi
done
# CC may be a command with options: it is split into words on purpose.
# shellcheck disable=SC2086
if ! $CC --version >/dev/null 2>&1; then
  echo "skipped: there is no compiler $CC"
  exit 77
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/model.XXXXXX") || exit 1
lane_pids=
# shellcheck disable=SC2086
trap 'kill $lane_pids 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Every lane goes through all models, in a directory of its own, and runs those that are
# its turn.
lanes=${LANES:-2}
lane=0
turn=0
passed=0
failed=0
memory=900 # MiB, of one model

is_my_turn() {
  turn=$((turn + 1))
  [ $((turn % lanes)) -eq "$lane" ]
}

fail() {
  echo "FAIL  $1"
  failed=$((failed + 1))
}

# explore model options...: every state, or up to the first error. Leaves `out`.
explore() {
  rm -f ./*
  cp "$models/$1.pml" model.pml || return 1
  shift
  spin -P"$SPIN_CPP" -a "$@" model.pml >out 2>&1 || return 1
  # shellcheck disable=SC2086
  $CC $optimization -w -DSAFETY -DCOLLAPSE -DMEMLIM=$memory -o pan pan.c >>out 2>&1 || return 1
  ./pan -n -m200000 >>out 2>&1
  grep -q 'errors:' out
}

# The numbers of the run just made.
numbers() {
  awk '/states, stored/ { states = $1 }
       /total actual memory/ { memory = $1 }
       /elapsed time/ { time = $4 }
       END { printf "%d states, %.1f s, %d MiB", states, time, memory }' out
}

# The assertion that failed, and the comment that names it.
broken_rule() {
  line=$(spin -P"$SPIN_CPP" -t "$@" model.pml 2>/dev/null |
    sed -n 's/^spin: model.pml:\([0-9]*\), Error: assertion violated.*/\1/p' | head -n 1)
  sed -n 's/^pan:1: \(assertion violated.*\) (at depth.*/\1/p' out
  [ -n "$line" ] && sed -n "${line}s|.*/\\* \\(.*\\) \\*/.*|\\1|p" model.pml
}

# good model options...
good() {
  is_my_turn || return 0
  optimization=-O2
  title="$*"
  if ! explore "$@"; then
    fail "$title"
    tail -n 5 out
  elif grep -q -e 'errors: [1-9]' -e 'depth too small' -e 'MEMLIM' -e 'not completed' out; then
    fail "$title: $(numbers)"
    grep -e '^pan:1' -e 'too small' -e 'MEMLIM' out
  else
    echo "ok    $title: $(numbers)"
    passed=$((passed + 1))
  fi
}

# bad rule model options...: an assertion with this in its text or comment must fail. Most
# errors are found before a compiler would have optimized.
bad() {
  is_my_turn || return 0
  optimization=-O0
  rule=$1
  shift
  title="$*"
  model=$1
  if ! explore "$@"; then
    fail "$title"
    tail -n 5 out
    return
  fi
  shift
  found=$(broken_rule "$@")
  case $found in
    *"$rule"*)
      echo "ok    $model $* fails: $rule"
      passed=$((passed + 1)) ;;
    '') fail "$title finds nothing: $(numbers)" ;;
    *) fail "$title finds something else:" && echo "$found" ;;
  esac
}

# ---- pages ----

pages() {
  one_owner='-DNO_SECOND -DALLOCATIONS=3'
  one_freer='-DFREERS=1 -DALLOCATIONS=3 -DABANDONS=2'
  small='-DALLOCATIONS=2 -DPAGES=1 -DEARLY_RESTS=0'
  wiped='-DWIPER -DFREERS=1 -DALLOCATIONS=2 -DABANDONS=2 -DEARLY_RESTS=0'
  wiped_once='-DWIPER -DFREERS=1 -DALLOCATIONS=2 -DPAGES=1'
  paired='-DPAIRED -DBLOCKS=3 -DALLOCATIONS=3 -DPAGES=1'
  visited='-DVISITOR -DNO_SECOND -DFREERS=1 -DALLOCATIONS=2'
  looked='-DLOOKER -DNO_SECOND -DFREERS=1 -DALLOCATIONS=2'

  # Options are split into words on purpose.
  # shellcheck disable=SC2086
  {
    good page $small
    good page $wiped
    good page -DNO_SECOND -DALLOCATIONS=2
    good page -DFREERS=1 -DALLOCATIONS=2 -DABANDONS=2 -DEARLY_RESTS=0
    good page -DFREERS=1 -DALLOCATIONS=2 -DPAGES=1
    good page $paired -DFREERS=1
    good page $visited
    good page $looked

    bad 'released empty'           page $one_owner -DPAGES=1 -DNO_COUNT
    bad 'stays behind'             page $one_owner -DNO_REST_LOOK
    bad 'stays behind'             page $one_owner -DREST_LOOKS_FIRST
    bad 'stays behind'             page $one_owner -DWEAK_REST
    bad 'stays behind'             page $one_owner -DNO_OWN_CLAIM
    bad 'stays behind'             page $paired -DNO_SECOND -DNO_OWN_CLAIM
    bad 'stays behind'             page $one_owner -DNO_OWN_LOOK
    bad 'stays behind'             page $paired -DNO_SECOND -DNO_OWN_LOOK
    bad 'stays behind'             page $one_owner -DWEAK_OWN
    bad 'slices are used or free'  page $one_owner -DWAKE_BLINDLY
    bad 'stays behind'             page $one_owner -DFREE_LOOKS_FIRST
    bad 'stays behind'             page $one_owner -DWEAK_RAISE
    bad 'stays behind'             page $one_owner -DWEAK_ABANDON
    bad 'flag is up over a bit'    page $one_owner -DWEAK_BIT
    bad 'flag is up over a bit'    page $one_owner -DLATE_LOWER
    bad 'flag is up over a bit'    page $one_owner -DWEAK_LOWER
    bad 'all zeros'                page $one_owner -DNO_CLEAR
    bad 'has a slot'               page $one_owner -DBLIND_CLAIM
    bad 'free blocks are found'    page $one_owner -DNO_OFFER
    bad 'free blocks are found'    page $one_owner -DOFFER_LOOKS_FIRST
    bad 'free blocks are found'    page $one_freer -DEARLY_BIT_CLEAR
    bad 'free blocks are found'    page $one_freer -DNO_SECOND_OFFER
    bad 'true'                     page $wiped -DNO_ADOPT_SECTION
    bad 'released empty'           page $wiped -DNO_SECOND -DNO_FREE_SECTION
    bad 'wiped descriptor'         page $wiped_once -DBY_DESCRIPTOR
    bad 'set aside'                page $visited -DNO_SETTING_ASIDE
    bad 'one page was seen'        page $looked -DNO_LOOK_AGAIN
  }
}

# ---- arenas ----

arenas() {
  frees='-DFREERS=2 -DDESTROYERS=1'
  walks='-DWALKERS=2 -DDESTROYERS=1'
  parity='-DWALKERS=1 -DDESTROYERS=1 -DPARITY -DWAITER'
  views='-DVIEWERS=1 -DDESTROYERS=1'
  fills='-DFREERS=1 -DWALKERS=2'
  holds='-DWALKERS=1 -DPURGERS=1'

  # shellcheck disable=SC2086
  {
    good arena -DFREERS=2 -DDESTROYERS=2
    good arena $frees -DWALKERS=1
    good arena $walks
    good arena $fills
    good arena $parity
    good arena -DWALKERS=2 -DPURGERS=1
    good arena -DFREERS=1 -DWALKERS=1 -DPURGERS=1 -DDESTROYERS=1
    good arena -DFREERS=1 -DWALKERS=1 -DVIEWERS=1 -DDESTROYERS=1

    bad 'mapped'              arena $frees -DNO_WAIT
    bad 'mapped'              arena $walks -DNO_WAIT
    bad 'mapped'              arena $walks -DWAIT_FIRST
    bad 'mapped'              arena $frees -DNO_FREE_SECTION
    bad 'mapped'              arena $frees -DLATE_FREE_SECTION
    bad 'mapped'              arena $walks -DNO_RELEASE_SECTION
    bad 'mapped'              arena $views -DNO_VIEW_SECTION
    bad 'mapped'              arena $views -DNO_VIEWS
    bad 'mapped'              arena $walks -DWEAK_SECTION
    bad 'mapped'              arena $walks -DWEAK_WAIT
    bad 'mapped'              arena $parity -DWEAK_PARITY
    bad 'mapped'              arena $parity -DONE_PARITY
    bad 'id can be used'      arena $walks -DSETS_FIRST
    bad 'free slice is found' arena $fills -DNO_SECOND_LOOK
    bad 'free slice is found' arena $fills -DLOOKS_FIRST
    bad 'free slice is found' arena $fills -DWEAK_LEAVE
    bad 'free slice is found' arena $fills -DWEAK_GIVE
    bad 'no slice was free'   arena $holds -DNO_HOLD
    bad 'no slice was free'   arena $holds -DNO_HOLD_COUNT
  }
}

# ---- purge ----

purges() {
  good purge -DRELEASERS=2 -DPASSERS=1
  good purge -DRELEASERS=1 -DPASSERS=2
  good purge -DRELEASERS=1 -DPASSERS=1 -DTAKERS=1

  for error in WEAK_TIME TIME_FIRST NO_SECOND_LOOK NO_WAITING NO_NEXT SET_LAST; do
    bad 'it is found' purge -D$error
  done
}

# ---- what takes longer ----

longer() {
  good page -DNO_SECOND -DALLOCATIONS=3
  good page -DPAIRED -DNO_SECOND -DBLOCKS=3 -DALLOCATIONS=3 -DPAGES=1
  good page -DNO_SECOND -DBLOCKS=3 -DALLOCATIONS=3 -DPAGES=1
  good page -DALLOCATIONS=2 -DPAGES=1 -DVISITOR -DNO_SECOND
  good page -DALLOCATIONS=2 -DPAGES=1 -DVISITOR -DFREERS=1
  good page -DFREERS=1 -DALLOCATIONS=3
  good page -DALLOCATIONS=2 -DPAGES=1
  good page -DALLOCATIONS=3 -DPAGES=1 -DEARLY_RESTS=0
  good page -DFREERS=1 -DALLOCATIONS=3 -DABANDONS=2
  good page -DLOOKER -DFREERS=1 -DALLOCATIONS=2
  good page -DLOOKER -DWIPER -DFREERS=1 -DALLOCATIONS=2 -DABANDONS=2 -DEARLY_RESTS=0
  good page -DWIPER -DFREERS=1 -DALLOCATIONS=2 -DABANDONS=2
  good arena -DFREERS=2 -DWALKERS=1 -DVIEWERS=1 -DDESTROYERS=1
  good arena -DWALKERS=2 -DDESTROYERS=1 -DPARITY -DWAITER
  good arena -DWALKERS=2 -DPURGERS=1 -DDESTROYERS=1
}

# run lane part...: what this lane has to do, and its counts into a file. In a subshell.
run() {
  lane=$1
  shift
  mkdir "$work/$lane" && cd "$work/$lane" || exit 1
  for part in "$@"; do "$part"; done
  echo "$passed $failed" >"$work/$lane.counts"
}

# A lane that stops leaves its counts empty.
begin() { : >"$work/$1.counts"; }

number=0
while [ "$number" -lt "$lanes" ]; do
  begin "$number"
  run "$number" pages arenas purges &
  lane_pids="$lane_pids $!"
  number=$((number + 1))
done
wait
lane_pids=

if [ "${1-}" = long ]; then
  memory=4096
  lanes=1
  rm -rf "$work/0"
  mv "$work/0.counts" "$work/short.counts"
  begin 0
  (run 0 longer)
fi

for counts in "$work"/*.counts; do
  if ! read -r more_passed more_failed <"$counts"; then
    fail 'a lane has stopped'
    continue
  fi
  passed=$((passed + more_passed))
  failed=$((failed + more_failed))
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
