#!/usr/bin/env python3
"""Measures single properties of allocators rather than programs: instructions of a call,
the slowest calls, what large numbers of things cost, and what memory metadata takes.

Each subcommand runs the program of its name, preloaded with mirt and with others, and
prints tables in Markdown. The C files say how the programs measure; README.md beside this
file says how to read the tables.
"""

import argparse
import collections
import concurrent.futures
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # the source tree may not be ours to write to
import common

MIRT_FILE = "libmirt.so"  # for what mi_* functions are measured with
TIMEOUT_SECONDS = 300


# Running


def run_program(command, library):
    """The lines that a program prints, split at tabs, and what it says on stderr."""
    finished = common.run_command(
        command, common.program_environment(library), timeout=TIMEOUT_SECONDS)
    output = finished.output.decode(errors="replace")
    lines = [line.split("\t") for line in output.splitlines()]
    provider = next((line[1] for line in lines if line[0] == "provider"), "nowhere")
    if library is not None and os.path.realpath(provider) != os.path.realpath(library):
        raise common.Failure("the functions come from %s" % provider)
    return lines, finished.complaint


def run_figures(command, library):
    """What a program prints with print_figure, by name."""
    lines, _ = run_program(command, library)
    return {line[0]: float(line[2]) for line in lines if len(line) == 3}


def measure(commands, allocators, rounds):
    """Runs each command with each allocator; by command's name and allocator, the figures
    of each round, or the failure.

    Allocators are the innermost loop, so that what is compared lies close together in
    time, and each round starts with another one.
    """
    results = {name: {a: [] for a in allocators} for name in commands}
    order = list(allocators)
    for number in range(rounds):
        first = number % len(order)
        for name, command in commands.items():
            for allocator in order[first:] + order[:first]:
                found = results[name]
                if isinstance(found[allocator], common.Failure):
                    continue
                common.progress("round %d of %d: %s, %s"
                             % (number + 1, rounds, name, allocator))
                try:
                    found[allocator].append(run_figures(command, allocators[allocator]))
                except common.Failure as failure:
                    found[allocator] = failure
    common.progress("")
    return results


def median(runs, figure):
    return statistics.median(figures[figure] for figures in runs)


# Tables


def print_table(heading, rows):
    print("\n".join(common.table(heading, rows)) + "\n", flush=True)


def number_text(value):
    return "%.*f" % (0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2, value)


class Complaints:
    """What failed, for the end of the output."""

    def __init__(self):
        self.texts = []

    def failed(self, name, allocator, result):
        if isinstance(result, common.Failure):
            self.texts.append("FAILED %s: with %s: %s" % (name, allocator, result))
            return True
        return False

    def end(self):
        for text in self.texts:
            print(text)
        return 1 if self.texts else 0


# Instructions


# A figure is what a pattern takes, without what another one takes. The functions in it
# that give a result, and those that give none, matter for the empty ones.
Count = collections.namedtuple("Count", "label pattern without size allocate free gives "
                               "takes")


def count(label, pattern, size=32, allocate="malloc", free="free", without=None, gives=0,
          takes=0):
    return Count(label, pattern, without, size, allocate, free, gives, takes)


MALLOC_COUNTS = (
    count("malloc(32)", "allocate", gives=1),
    count("free, in order", "in-order", without="allocate", takes=1),
    count("free, at random", "at-random", without="allocate", takes=1),
    count("malloc(32), free", "pair", gives=1, takes=1),
    count("malloc(32), free beside live blocks", "pair-beside", gives=1, takes=1),
    count("1000 malloc(32), 1000 free: each pair", "batch", gives=1, takes=1),
    count("calloc(1, 32)", "allocate", allocate="calloc", gives=1),
    count("1000 calloc(1, 32), 1000 free: each pair", "batch", allocate="calloc", gives=1,
          takes=1),
    count("realloc in place", "realloc", gives=1),
    count("malloc(1024)", "allocate", 1024, gives=1),
    count("malloc(1024), free", "pair", 1024, gives=1, takes=1),
    count("free from another thread", "foreign", without="allocate", takes=1),
    count("free after the thread has ended", "ended", without="ended-allocate", takes=1),
    count("new, delete with the size", "pair", allocate="_Znwm", free="_ZdlPvm", gives=1,
          takes=1),
)

MI_COUNTS = tuple(
    figure
    for allocate in ("mi_malloc_small", "mi_heap_malloc_small")
    for figure in (
        count("%s(32)" % allocate, "allocate", allocate=allocate, free="mi_free",
              gives=1),
        count("%s(32), mi_free" % allocate, "pair", allocate=allocate, free="mi_free",
              gives=1, takes=1),
        count("%s(32), mi_free beside live blocks" % allocate, "pair-beside",
              allocate=allocate, free="mi_free", gives=1, takes=1),
    )
) + tuple(
    figure
    for free in ("mi_free", "mi_free_size")
    for figure in (
        count("%s, in order" % free, "in-order", without="allocate",
              allocate="mi_malloc_small", free=free, takes=1),
        count("%s from another thread" % free, "foreign", without="allocate",
              allocate="mi_malloc_small", free=free, takes=1),
    )
)

QUICK_PATTERNS = ("allocate", "in-order", "pair", "pair-beside", "batch",
                  "realloc")
REPETITIONS = 200000
QUICK_REPETITIONS = 50000


class Counter:
    """Counts instructions with callgrind; each pattern once."""

    def __init__(self, program, options):
        self.program = program
        self.repetitions = QUICK_REPETITIONS if options.quick else REPETITIONS
        self.found = {}
        self.empty = None

    def count_run(self, library, arguments):
        lines, complaint = run_program(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
             self.program] + arguments, library)
        collected = re.search(r"Collected : (\d+)", complaint)
        if collected is None:
            raise common.Failure("valgrind counts nothing: %s" % complaint[-200:])
        self.empty = next(
            [int(text) for text in line[1:]] for line in lines if line[0] == "empty")
        return int(collected.group(1))

    def count_pattern(self, key):
        """Instructions of one repetition, or the failure."""
        library, pattern, size, allocate, free, none = key
        tail = [str(size), allocate, free] + (["--none"] if none else [])
        try:
            once, twice = (
                self.count_run(library, [pattern, str(n * self.repetitions)] + tail)
                for n in (1, 2))
        except common.Failure as failure:
            return failure
        return (twice - once) / self.repetitions

    @staticmethod
    def keys(figure, library, none):
        patterns = [figure.pattern] + ([figure.without] if figure.without else [])
        return [(library, pattern, figure.size, figure.allocate, figure.free, none)
                for pattern in patterns]

    def prepare(self, keys, jobs):
        """Counts what is not known yet. Counts do not depend on what else runs."""
        keys = [key for key in dict.fromkeys(keys) if key not in self.found]
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for number, found in enumerate(pool.map(self.count_pattern, keys)):
                self.found[keys[number]] = found
                common.progress("%d of %d counts" % (number + 1, len(keys)))
        common.progress("")

    def value(self, figure, library, none):
        values = [self.found[key] for key in self.keys(figure, library, none)]
        for value in values:
            if isinstance(value, common.Failure):
                raise value
        return values[0] - sum(values[1:])


def print_counts(counter, figures, allocators, jobs, complaints):
    # The loop calls functions of the program itself, so any library will do that has the
    # functions which are looked up.
    base = allocators.get("mirt")
    counter.prepare([key for figure in figures for none, libraries in
                     ((False, allocators.values()), (True, [base]))
                     for library in libraries
                     for key in counter.keys(figure, library, none)], jobs)
    rows = []
    for figure in figures:
        cells = []
        try:
            own = figure.gives * counter.empty[0] + figure.takes * counter.empty[1]
            loop = counter.value(figure, base, True) - own
        except common.Failure as failure:
            complaints.failed(figure.label, "nothing", failure)
            continue
        for name, library in allocators.items():
            try:
                cells.append("%.1f" % (counter.value(figure, library, False) - loop))
            except common.Failure as failure:
                complaints.failed(figure.label, name, failure)
                cells.append("-")
        rows.append([figure.label] + cells + ["%.1f" % loop])
    print_table(["instructions"] + list(allocators) + ["loop"], rows)


def main_instructions(program, options):
    if shutil.which("valgrind") is None:
        sys.exit("limits.py: valgrind is not installed")
    complaints = Complaints()
    if options.listing:
        return print_listing(program, options)
    counter = Counter(program, options)
    wanted = [
        [figure for figure in figures
         if not options.quick or figure.pattern in QUICK_PATTERNS]
        for figures in (MALLOC_COUNTS, MI_COUNTS)]
    print_counts(counter, wanted[0], options.allocators, options.jobs, complaints)
    print_counts(counter, wanted[1], options.mi_allocators, options.jobs, complaints)
    return complaints.end()


def print_listing(program, options):
    """The instructions that each repetition of malloc and free executes."""
    repetitions = 10000
    for allocate, free, allocators in (
            ("malloc", "free", options.allocators),
            ("mi_heap_malloc_small", "mi_free", options.mi_allocators)):
        library = allocators[options.listing] if options.listing in allocators else None
        if options.listing not in allocators:
            continue
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "callgrind.out")
            run_program(
                ["valgrind", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no",
                 "--compress-strings=no", "--callgrind-out-file=" + out, program, "pair",
                 str(repetitions), "32", allocate, free], library)
            with open(out) as file:
                executed = executed_addresses(file, repetitions)
        for path, addresses in executed.items():
            if os.path.realpath(path) == os.path.realpath(program):
                continue
            print("%s: %s and %s, %d instructions\n"
                  % (path, allocate, free, len(addresses)))
            print_code(path, addresses)
    return 0


def executed_addresses(lines, repetitions):
    """By file, the addresses of what is executed in every repetition."""
    counts = collections.defaultdict(collections.Counter)
    path, called = None, False
    for line in lines:
        if line.startswith("ob="):
            path = line[3:].strip()
        elif line.startswith("calls="):
            called = True  # the next line has the costs of the function called
        elif re.match(r"0x[0-9a-f]+ ", line):
            if not called:
                fields = line.split()
                counts[path][int(fields[0], 16)] += int(fields[-1])
            called = False
    executed = {
        path: {at for at, number in by_address.items() if number >= 0.9 * repetitions}
        for path, by_address in counts.items()}
    return {path: addresses for path, addresses in executed.items() if addresses}


def print_code(path, addresses):
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", path], stdout=subprocess.PIPE, text=True,
        check=True).stdout
    name, printed = None, None
    for line in text.splitlines():
        start = re.match(r"[0-9a-f]+ <(.*)>:$", line)
        if start:
            name = start.group(1)
        place = re.match(r"\s+([0-9a-f]+):\t", line)
        if place and int(place.group(1), 16) in addresses:
            if name != printed:
                print("%s:" % name)
                printed = name
            print(line.rstrip())
    print()


# Latency


LATENCY_SETTINGS = {
    "grow": "a million blocks of 16 B to 1 KiB, then freed at random",
    "steady": "a million random replacements among 100,000 blocks of 16 B to 1 KiB",
    "large": "the same, with one block in 256 of 1 KiB to 1 MiB",
}
QUANTILES = ("p50", "p99", "p99.9", "p99.99")


def main_latency(program, options):
    complaints = Complaints()
    calls = str(200000 if options.quick else 1000000)
    commands = {name: [program, name, calls] for name in LATENCY_SETTINGS}
    rounds = options.rounds or (3 if options.quick else 9)
    results = measure(commands, options.allocators, rounds)
    for setting, by_name in results.items():
        print("%s: %s; medians of %d rounds\n"
              % (setting, LATENCY_SETTINGS[setting], rounds))
        for call in ("malloc", "free"):
            rows = []
            for name, runs in by_name.items():
                if complaints.failed(setting, name, runs):
                    continue
                worst = [figures[call + " max"] for figures in runs]
                values = [median(runs, "%s %s" % (call, quantile))
                          for quantile in QUANTILES]
                values += [statistics.median(worst), min(worst)]
                rows.append([name] + ["%.0f" % value for value in values])
            print_table([call + ", ns"] + list(QUANTILES) + ["max", "least max"], rows)
    return complaints.end()


# Scaling


SCALING_COUNTS = {
    "objects": (10000, 100000, 1000000, 10000000),
    "heaps": (1, 100, 10000),
    "tags": (1, 16, 256),
    "arenas": (1, 10, 100, 1000),
}
SCALING_WAYS = {"in turn": "one after the other", "at random": "at random"}


def main_scaling(program, options):
    complaints = Complaints()
    operations = str(500000 if options.quick else 2000000)
    rounds = options.rounds or (1 if options.quick else 3)
    for setting, counts in SCALING_COUNTS.items():
        if options.quick:
            counts = counts[:-1]
        allocators = options.allocators if setting == "objects" else options.mi_allocators
        if setting == "tags":
            allocators = {"mirt": allocators["mirt"]}
        results = measure({n: [program, setting, str(n), operations] for n in counts},
                          allocators, rounds)
        for way, title in SCALING_WAYS.items():
            rows = []
            for n, by_name in results.items():
                cells = []
                for name, runs in by_name.items():
                    if isinstance(runs, common.Failure):
                        # mimalloc has a limited number of arenas.
                        expected = (setting, name) == ("arenas", common.MIMALLOC)
                        if way == "in turn" and not expected:
                            complaints.failed("%s %d" % (setting, n), name, runs)
                        cells.append("-")
                        continue
                    time = median(runs, way)
                    rest = time - median(runs, way + ", control")
                    cells.append("%s (%s)" % (number_text(time), number_text(rest)))
                rows.append(["{:,}".format(n)] + cells)
            print("Replacing a block, %s: ns, and in brackets beyond the control\n"
                  % title)
            print_table([setting] + list(allocators), rows)
    return complaints.end()


# Memory


FULL_SETTINGS = {
    "full-64": "64 B",
    "full-256": "256 B",
    "full-mixed": "16 B to 4 KiB",
}


def main_memory(program, options):
    complaints = Complaints()
    print_small(program, options, complaints)
    print_full(program, options, complaints)
    print_classes(program, options, complaints)
    results = measure({"heaps": [program, "heaps"]}, options.mi_allocators, 1)
    rows = [[name, number_text(median(runs, "a heap"))]
            for name, runs in results["heaps"].items()
            if not complaints.failed("heaps", name, runs)]
    print_table(["1000 heaps with a block each", "KiB for each"], rows)
    return complaints.end()


def print_small(program, options, complaints):
    rounds = options.rounds or (3 if options.quick else 9)
    by_name = measure({"small": [program, "small"]}, options.allocators, rounds)["small"]
    figures = ("resident", "private", "peak")
    rows = []
    for name, runs in by_name.items():
        if complaints.failed("small", name, runs):
            continue
        values = [median(runs, figure) for figure in figures]
        beyond = "-"
        if not isinstance(by_name[common.GLIBC], common.Failure):
            beyond = "%+.0f" % (values[1] - median(by_name[common.GLIBC], figures[1]))
        rows.append([name] + ["%.0f" % value for value in values] + [beyond])
    print_table(["1 KiB allocated: KiB"] + list(figures) + ["private beyond glibc"], rows)


def print_full(program, options, complaints):
    settings = ("full-mixed",) if options.quick else tuple(FULL_SETTINGS)
    results = measure({name: [program, name] for name in settings}, options.allocators, 1)
    rows = []
    for name in options.allocators:
        cells = []
        for setting in settings:
            runs = results[setting][name]
            if complaints.failed(setting, name, runs):
                cells.append("-")
                continue
            cells.append("%.2f (%.2f)" % (median(runs, "beyond usable"),
                                          median(runs, "beyond asked")))
        rows.append([name] + cells)
    print("Resident memory of 1 GiB in blocks: percent beyond what the blocks can be\n"
          "used for, and in brackets beyond what was asked for\n")
    print_table(["blocks of"] + [FULL_SETTINGS[setting] for setting in settings], rows)


def waste(ranges, low, high):
    """Worst and average share of a block that was not asked for, over sizes low to high,
    in percent; and how many classes there are."""
    worst = total = 0
    classes = set()
    for first, last, usable in ranges:
        first, last = max(first, low), min(last, high)
        if first > last:
            continue
        classes.add(usable)
        worst = max(worst, (usable - first) / usable)
        total += sum(usable - size for size in range(first, last + 1)) / usable
    return 100 * worst, 100 * total / (high - low + 1), len(classes)


def print_classes(program, options, complaints):
    by_name = {}
    for name, library in options.allocators.items():
        try:
            lines, _ = run_program([program, "classes"], library)
            by_name[name] = [tuple(map(int, line[1:])) for line in lines
                             if line[0] == "class"]
        except common.Failure as failure:
            complaints.failed("classes", name, failure)
    if options.classes:
        print_table(
            ["%s: usable" % options.classes, "from", "worst %", "average %"],
            [[str(usable), str(first)] +
             ["%.1f" % value
              for value in waste([(first, last, usable)], first, last)[:2]]
             for first, last, usable in by_name.get(options.classes, [])])
    rows = []
    bounds = [(1, 16)] + [((16 << i) + 1, 32 << i) for i in range(12)]
    for low, high in bounds + [(1, 64 << 10)]:
        cells = ["%.1f, %.1f, %d" % waste(ranges, low, high)
                 for ranges in by_name.values()]
        rows.append(["%d to %d" % (low, high)] + cells)
    print("Usable but not asked for, in percent of a block: worst, average over all\n"
          "sizes; number of classes\n")
    print_table(["asked for"] + list(by_name), rows)


# The command line


PROGRAMS = {
    "instructions": main_instructions,
    "latency": main_latency,
    "scaling": main_scaling,
    "memory": main_memory,
}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Measures single properties of mirt and of other allocators.")
    parser.add_argument("what", choices=list(PROGRAMS))
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--rounds", type=common.positive, metavar="N",
                        help="runs of each setting, where times are measured")
    parser.add_argument("--only", action="append", metavar="ALLOCATOR",
                        help="only this allocator; may be repeated")
    parser.add_argument("--jobs", type=common.positive, metavar="N",
                        default=os.cpu_count() or 1,
                        help="instructions: so many counts at a time (default: one for "
                             "each processor)")
    parser.add_argument("--listing", metavar="ALLOCATOR",
                        help="instructions: print the machine code that a malloc and a "
                             "free execute instead")
    parser.add_argument("--classes", metavar="ALLOCATOR",
                        help="memory: print each size class of this allocator too")
    parser.add_argument("--program", metavar="PATH",
                        help="the benchmark program (default: in a build tree)")
    parser.add_argument("--build", action="append", metavar="DIR",
                        help="a build tree to search; may be repeated (default: the "
                             "current directory, then the source tree)")
    options = parser.parse_args()
    options.build = options.build or common.default_build()
    return options


def find(name, options, folders):
    path = common.find_file(name, options.build, folders)
    if path is None:
        sys.exit("limits.py: no %s below %s" % (name, ", ".join(options.build)))
    return path


def choose_allocators(program, options):
    """By name the library to preload: for malloc, and for mi_* functions."""
    peers = {name: path for name, path in common.find_peers(program).items() if path}
    options.allocators = {
        "mirt": find(common.MIRT_FILE, options, common.LIBRARY_FOLDERS), **peers,
        common.GLIBC: None}
    options.mi_allocators = {"mirt": find(MIRT_FILE, options, common.LIBRARY_FOLDERS)}
    if common.MIMALLOC in peers:
        options.mi_allocators[common.MIMALLOC] = peers[common.MIMALLOC]
    for name in options.only or []:
        if name not in options.allocators:
            sys.exit("limits.py: no allocator %s" % name)
    if options.only:  # and those that others are compared with
        kept = set(options.only) | {"mirt", common.GLIBC}
        options.allocators = {
            name: path for name, path in options.allocators.items() if name in kept}
        options.mi_allocators = {
            name: path for name, path in options.mi_allocators.items() if name in kept}


def main():
    options = parse_arguments()
    program = options.program or find(options.what, options, ("tests/bench",))
    program = os.path.abspath(program)
    choose_allocators(program, options)
    print("mirt %s: %d cores, load %.1f, Linux %s\n"
          % (options.what, os.cpu_count() or 1, os.getloadavg()[0], platform.release()),
          flush=True)
    return PROGRAMS[options.what](program, options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
