#!/bin/sh
# The map of arenas: what mirt_arena_map writes for examples/arena-map/isolates is what
# mirt/arena.h says, and mirt-arena-map draws it, and other maps, and says what is wrong
# with input that is none.
#
# top_srcdir and top_builddir are the roots of the sources and of the build. Exit code 77:
# there is no python3.
# Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
set -u

isolates=${top_builddir:-.}/examples/arena-map/isolates
tool=${top_srcdir:-.}/examples/arena-map/mirt-arena-map

if ! python3 -c '' >/dev/null 2>&1; then
  echo "skipped: there is no python3"
  exit 77
fi
for file in "$isolates" "$tool"; do
  if [ ! -f "$file" ]; then
    echo "FAIL: there is no $file"
    exit 1
  fi
done

work=$(mktemp -d "${TMPDIR:-/tmp}/test_arena_map.XXXXXX") || exit 1
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
  head -n 5 "$work/err" | sed 's/^/     | /'
  failed=$((failed + 1))
}

# Run the tool with arguments; standard input is $input.
input=/dev/null
draw() {
  python3 "$tool" "$@" <"$input" >"$work/out" 2>"$work/err"
  code=$?
}

# expect_drawn case: the last run succeeded and said nothing.
expect_drawn() {
  if [ "$code" -ne 0 ]; then
    fail "$1" "exit code $code"
  elif [ -s "$work/err" ]; then
    fail "$1" "something on standard error"
  else
    ok "$1"
  fi
}

# expect_error case code pattern: the last run printed nothing and ended with that exit
# code and a message, of one line if the code is 1.
expect_error() {
  if [ "$code" -ne "$2" ]; then
    fail "$1" "exit code $code instead of $2"
  elif [ -s "$work/out" ]; then
    fail "$1" "something on standard output"
  elif [ "$2" -eq 1 ] && [ "$(wc -l <"$work/err")" -ne 1 ]; then
    fail "$1" "$(wc -l <"$work/err") lines on standard error"
  elif ! grep -q -e "$3" "$work/err"; then
    fail "$1" "not the message: $3"
  else
    ok "$1"
  fi
}

# check case argument...: the Python program on standard input finds nothing wrong. It
# can use what checks.py defines.
check() {
  name=$1
  shift
  cat >"$work/check.py"
  if python3 -B "$work/check.py" "$@" >"$work/err" 2>&1; then
    ok "$name"
  else
    fail "$name" "$(tail -n 1 "$work/err")"
  fi
}

cat >"$work/checks.py" <<'END'
import json
import re
import sys
import xml.etree.ElementTree as ElementTree

CELL_WIDTH = 13
PAGES = ("page", "full", "abandoned")
FREE = ("waiting", "purged", "committed", "free")


def expect(condition, message):
    if not condition:
        sys.exit(message)


def expect_equal(what, got, wanted):
    expect(got == wanted, f"{what}: {got!r} instead of {wanted!r}")


def read_map(name):
    with open(name) as file:
        return json.load(file)


def run(start, count, state, **page):
    return dict(slice=start, count=count, state=state, **page)


# A small map, for changes.
arena = {
    "id": 7, "base": "0x10000000000", "size": 8 * 65536, "slices": 8,
    "exclusive": True, "pinned": True, "numa_node": 1, "used": 4, "committed": 6,
    "runs": [
        run(0, 1, "reserved"),
        run(1, 3, "full", tag=0, block_size=131072),
        run(4, 4, "free"),
    ],
}
map = {"slice_size": 65536, "arenas": [arena]}


class Picture:
    """What a picture has: texts by their class, and the elements of runs."""

    def __init__(self, name):
        svg = "{http://www.w3.org/2000/svg}"
        self.root = ElementTree.parse(name).getroot()
        self.texts = {}
        for text in self.root.iter(svg + "text"):
            self.texts.setdefault(text.get("class"), []).append(text.text)
        paths = self.root.iter(svg + "path")
        self.runs = [path for path in paths if path.find(svg + "title") is not None]
        self.titles = [run.find(svg + "title").text for run in self.runs]
        self.style = "".join(style.text for style in self.root.iter(svg + "style"))

    def cells(self):
        """How many cells the runs cover."""
        paths = "".join(run.get("d") for run in self.runs)
        spans = re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", paths)
        return sum(int((float(end) - float(x) + 3) / CELL_WIDTH) for x, end in spans)
END

# ---- What the library writes -----------------------------------------------------------

map=$work/isolates.json
if "$isolates" >"$map" 2>"$work/err" && [ ! -s "$work/err" ]; then
  ok "isolates runs"
else
  fail "isolates runs" "it does not, or says something on standard error"
fi

check "the map is what mirt/arena.h says" "$map" <<'END'
from checks import *

text = open(sys.argv[1]).read()
expect(text.endswith("\n") and text.count("\n") == 1, "the map is not one line")
record = json.loads(text)
slice_size = record["slice_size"]
expect_equal("slice size", slice_size, 65536)
ids = [arena["id"] for arena in record["arenas"]]
expect(len(set(ids)) == len(ids), f"an arena comes twice: {ids}")
for arena in record["arenas"]:
    name = f"arena {arena['id']}"
    expect_equal(f"{name}: size", arena["size"], arena["slices"] * slice_size)
    expect_equal(f"{name}: base in a slice", int(arena["base"], 16) % slice_size, 0)
    end, used, last_state = 0, 0, None
    for run in arena["runs"]:
        where = f"{name}, slice {run['slice']}, {run['state']}"
        expect_equal(f"{where}: start of the run", run["slice"], end)
        expect(run["count"] > 0, f"{where}: an empty run")
        end += run["count"]
        is_page = run["state"] in PAGES
        expect_equal(f"{where}: has a tag", "tag" in run, is_page)
        expect_equal(f"{where}: has a block size", "block_size" in run, is_page)
        if is_page:
            fits = 16 <= run["block_size"] <= run["count"] * slice_size
            expect(fits, f"{where}: blocks of {run['block_size']} bytes")
        else:
            expect(run["state"] != last_state, f"{where}: not one run with the last")
        used += 0 if run["state"] in FREE else run["count"]
        last_state = run["state"]
    expect_equal(f"{name}: slices in runs", end, arena["slices"])
    expect_equal(f"{name}: used", arena["used"], used)
    pages = sum(run["count"] for run in arena["runs"] if run["state"] in PAGES)
    likely = pages <= arena["committed"] <= arena["slices"]
    expect(likely, f"{name}: {arena['committed']} slices committed, {pages} in pages")
END

check "the map shows what isolates did" "$map" <<'END'
from checks import *

arenas = read_map(sys.argv[1])["arenas"]
own = [arena for arena in arenas if arena["exclusive"]]
expect_equal("isolates", len(own), 4)
expect(len(arenas) > len(own), "no arena for everybody")
for arena in own:
    tags = {run["tag"] for run in arena["runs"] if run["state"] in PAGES}
    expect_equal(f"arena {arena['id']}: tags", tags, {1, 2, 3, 4, 5})
busy, old, compiled, _ = ({run["state"] for run in arena["runs"]} for arena in own)
expect({"page", "full", "free"} <= busy, f"busy: {busy}")
expect(busy & {"waiting", "purged"}, f"busy: nothing was freed: {busy}")
expect("purged" in old, f"old: {old}")
expect("abandoned" in compiled and "committed" in compiled, f"compiled: {compiled}")
expect("free" not in compiled, f"compiled, which is committed: {compiled}")
runs = [run for arena in arenas for run in arena["runs"]]
abandoned = {run["tag"] for run in runs if run["state"] == "abandoned"}
expect_equal("abandoned tags", abandoned, {4})
END

# ---- The picture of it -----------------------------------------------------------------

draw "$map" --all -o "$work/all.svg"
expect_drawn "draws into a file"
check "all rows: a cell for every slice, an element for every run" \
  "$map" "$work/all.svg" <<'END'
from checks import *

arenas = read_map(sys.argv[1])["arenas"]
picture = Picture(sys.argv[2])
expect_equal("headings", picture.texts["size16"], [f"Arena {a['id']}" for a in arenas])
runs = [run for arena in arenas for run in arena["runs"]]
expect_equal("elements", len(picture.runs), len(runs))
expect_equal("cells", picture.cells(), sum(arena["slices"] for arena in arenas))
expect("note" not in picture.texts, "rows are left out")
for run, title in zip(runs, picture.titles):
    expect(run["state"] in title and f"{run['slice']:,}" in title, f"{run}: {title}")
    if "tag" in run:
        wanted = f"tag {run['tag']}\nblocks of {run['block_size']:,} bytes"
        expect(title.endswith(wanted), f"{run}: {title}")
END

draw "$map" --name 1=strings --name '4=a < b & "c"'
expect_drawn "draws to standard output"
cp "$work/out" "$work/map.svg"
check "headings, the legend, a note about rows left out" "$map" "$work/map.svg" <<'END'
from checks import *

arenas = read_map(sys.argv[1])["arenas"]
picture = Picture(sys.argv[2])
runs = [run for arena in arenas for run in arena["runs"]]
tags = sorted({run["tag"] for run in runs if "tag" in run})
names = {1: "tag 1 (strings)", 4: 'tag 4 (a < b & "c")'}
legend = [*PAGES, "reserved", "held", *FREE]
legend += [names.get(tag, f"tag {tag}") for tag in tags]
expect_equal("legend", picture.texts["name"], legend)
strings = sum(run["count"] for run in runs if run.get("tag") == 1)
counts = [text.split()[0] for text in picture.texts["quiet"]]
expect(str(strings) in counts, f"no {strings} slices with strings in {counts}")
text = " ".join(picture.texts["quiet"])
for arena in arenas:
    used, committed = f"used {arena['used']:,} ", f"committed {arena['committed']:,} "
    for fact in (arena["base"], used, committed):
        expect(fact in text, f"no {fact} in the headings")
expect("exclusive" in text and "for everybody" in text, "not told what is exclusive")
expect("left out" in picture.texts["note"][0], "not told that rows are left out")
END

input=$map
draw --name 1=strings --name '4=a < b & "c"' -
expect_drawn "draws standard input"
if cmp -s "$work/out" "$work/map.svg"; then
  ok "standard input gives the same picture"
else
  fail "standard input gives the same picture" "it differs"
fi
input=/dev/null

second=$(python3 -c '
import json, sys
print(json.load(open(sys.argv[1]))["arenas"][1]["id"])' "$map")
draw "$map" --arena "$second" --columns 16
expect_drawn "--arena, --columns"
check "one arena, 16 slices in a row" "$map" "$work/out" <<'END'
from checks import *

arena = read_map(sys.argv[1])["arenas"][1]
picture = Picture(sys.argv[2])
expect_equal("headings", picture.texts["size16"], [f"Arena {arena['id']}"])
rows = [int(text.replace(",", "")) for text in picture.texts["slice"]]
expect(all(row % 16 == 0 for row in rows), f"rows begin at {rows}")
expect(any(row % 64 != 0 for row in rows), f"rows begin at {rows}")
END

# ---- Maps made by hand -----------------------------------------------------------------

# make_map file: a map of one arena, changed by the Python code on standard input.
make_map() {
  {
    echo 'from checks import *'
    cat
    echo 'json.dump(map, open(sys.argv[1], "w"))'
  } >"$work/make.py"
  python3 -B "$work/make.py" "$1"
}

make_map "$work/large.json" <<'END'
arena["slices"] = 1 << 20
arena["size"] = 64 << 30
arena["runs"] = [
    run(0, 1, "reserved"),
    run(1, 999, "purged"),
    run(1000, 2, "page", tag=0, block_size=16),
    run(1002, 500000, "free"),
    run(501002, 100000, "full", tag=3, block_size=6553600000),
    *[run(601002 + i, 1, "page", tag=2, block_size=64) for i in range(1000)],
    run(602002, (1 << 20) - 602002, "free"),
]
END
draw "$work/large.json"
expect_drawn "an arena of 64 GiB"
check "the picture of 64 GiB is small" "$work/out" <<'END'
from checks import *

picture = Picture(sys.argv[1])
size = len(open(sys.argv[1]).read())
expect(size < 100000, f"{size} bytes")
expect(float(picture.root.get("height")) < 1000, "it is too high")
expect("64 GiB in 1,048,576 slices" in " ".join(picture.texts["quiet"]), "no size")
notes = picture.texts["note"]
expect_equal("notes", len(notes), 5)
rows = sum(int(re.search(r"([\d,]+) more row", n)[1].replace(",", "")) for n in notes)
expect_equal("rows", rows + len(picture.texts["slice"]), (1 << 20) // 64)
END
draw "$work/large.json" --all --columns 256
expect_drawn "an arena of 64 GiB with all rows"
check "no row of 64 GiB is left out then" "$work/out" <<'END'
from checks import *

picture = Picture(sys.argv[1])
expect_equal("rows", len(picture.texts["slice"]), (1 << 20) // 256)
expect_equal("cells", picture.cells(), 1 << 20)
END

make_map "$work/tags.json" <<'END'
tags = [*range(40), 32767]
arena["runs"] = [run(i, 1, "full", tag=tag, block_size=16) for i, tag in enumerate(tags)]
arena["slices"] = len(tags)
END
draw "$work/tags.json"
cp "$work/out" "$work/tags.svg"
draw "$work/large.json"
check "every tag has a colour, the same in every map" "$work/tags.svg" "$work/out" <<'END'
from checks import *

colours, others = (
    dict(re.findall(r"\.full\.tag(\d+)\{fill:(#\w{6})\}", Picture(name).style))
    for name in sys.argv[1:]
)
expect_equal("tags", len(colours), 41)
expect_equal("different colours", len(set(colours.values())), 41)
expect_equal("tags of the other map", set(others), {"0", "2", "3"})
for tag, colour in others.items():
    expect_equal(f"the colour of {tag}", colour, colours[tag])
END

make_map "$work/none.json" <<'END'
map["arenas"] = []
END
draw "$work/none.json"
expect_drawn "a map of no arenas"
make_map "$work/one.json" </dev/null
draw "$work/one.json"
check "exclusive, pinned, on a NUMA node" "$work/out" <<'END'
from checks import *

facts = Picture(sys.argv[1]).texts["quiet"][-1]
expect("exclusive" in facts and "pinned" in facts and "NUMA node 1" in facts, facts)
END

# ---- What is refused -------------------------------------------------------------------

# refuse case message: the map with the change on standard input is refused.
refuse() {
  make_map "$work/bad.json"
  draw "$work/bad.json"
  expect_error "$1" 1 "^mirt-arena-map: .*bad.json: $2"
}

refuse "runs with a hole" "arena 7: a run begins at slice 4 instead of 3" <<'END'
arena["runs"][1]["count"] = 2
END
refuse "runs that overlap" "arena 7: a run begins at slice 4 instead of 6" <<'END'
arena["runs"][1]["count"] = 5
END
refuse "runs that end early" "arena 7: the runs cover 4 slices of 8" <<'END'
del arena["runs"][2]
END
refuse "runs beyond the end" "arena 7: the runs cover 9 slices of 8" <<'END'
arena["runs"][2]["count"] = 5
END
refuse "an empty run" 'arena 7: "count" is missing' <<'END'
arena["runs"][2]["count"] = 0
END
refuse "an unknown state" 'arena 7: slice 0 is in an unknown state, "odd' <<'END'
arena["runs"][0]["state"] = "odd\nstate"
END
refuse "a page without a tag" 'arena 7: "tag" is missing' <<'END'
del arena["runs"][1]["tag"]
END
refuse "a block size that is text" 'arena 7: "block_size" is missing' <<'END'
arena["runs"][1]["block_size"] = "16"
END
refuse "runs that are no list" 'arena 7: "runs" is missing' <<'END'
arena["runs"] = {"slice": 0}
END
refuse "a run that is a number" 'arena 7: "slice" is missing' <<'END'
arena["runs"][0] = 5
END
refuse "a base that is no address" 'arena 7: "base" is not an address' <<'END'
arena["base"] = "heap"
END
refuse "a size with a fraction" 'arena 7: "size" is missing' <<'END'
arena["size"] = 1.5
END
refuse "a size beyond all memory" 'arena 7: "size" is missing' <<'END'
arena["size"] = 1 << 64
END
refuse "exclusive as a number" 'arena 7: "exclusive" is missing' <<'END'
arena["exclusive"] = 1
END
refuse "an arena without an id" '"id" is missing' <<'END'
del arena["id"]
END
refuse "arenas that are null" '"arenas" is missing' <<'END'
map["arenas"] = None
END
refuse "a map that is a list" '"arenas" is missing' <<'END'
map = [map]
END
refuse "a map without a slice size" '"slice_size" is missing' <<'END'
del map["slice_size"]
END

for text in '' 'no map' '{"slice_size": 65536,' '"\0377"'; do
  printf '%b' "$text" >"$work/text"
  draw "$work/text"
  expect_error "not JSON: $text" 1 '^mirt-arena-map: .*text: not JSON: '
done
python3 -c 'print("[" * 100000)' >"$work/text"
draw "$work/text"
expect_error "JSON nested too deeply" 1 'text: not JSON: '
draw
expect_error "empty standard input" 1 '^mirt-arena-map: standard input: not JSON'
draw "$work/no-such-file"
expect_error "a missing file" 1 'no-such-file: No such file'
draw "$work"
expect_error "a directory" 1 'Is a directory'
draw "$map" --arena 999
expect_error "an arena that is not there" 1 'isolates.json: there is no arena 999'
draw "$map" -o "$work/no-such-folder/map.svg"
expect_error "a picture that cannot be written" 1 'no-such-folder/map.svg: No such file'
if [ -c /dev/full ]; then
  draw "$map" -o /dev/full
  expect_error "a full disk" 1 '/dev/full: No space left'
fi

for arguments in --unknown 'one two' '--columns 0' '--columns x' '--columns 5000' \
  '--arena x' '--name strings' '--name =strings' '--name 1=' '-o'; do
  # shellcheck disable=SC2086
  draw $arguments
  expect_error "wrong usage: $arguments" 2 '^usage: mirt-arena-map '
done
draw --help
if [ "$code" -eq 0 ] && grep -q -e --columns "$work/out"; then
  ok "--help"
else
  fail "--help" "exit code $code"
fi

echo "$((passed + failed)) checked, $failed failed"
[ "$failed" -eq 0 ]
