#!/usr/bin/env python3
"""Runs a benchmark program with mirt and with other allocators and compares them.

The program is the same binary each time; the allocator is preloaded into it. README.md
beside this file says what the patterns are and how to read the tables.
"""

import argparse
import collections
import math
import os
import platform
import re
import statistics
import subprocess
import sys

MIRT_FILE = "libmirt-malloc.so"
LIBRARY_FOLDERS = ("", ".libs", "runtime/.libs", "runtime/malloc/.libs", "lib")
PEERS = {
    "mimalloc": "libmimalloc.so.2",
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}
GLIBC = "glibc"  # what the program has when nothing is preloaded

# One pattern of each kind: what is left out has a near relative here.
QUICK = (
    "pair",
    "many-sizes",
    "replace",
    "realloc",
    "large",
    "producer-consumer",
    "larson",
)
TIMEOUT_SECONDS = 120

DEFAULT_ROUNDS = 5
DEFAULT_PURGE_ROUNDS = 3


# The columns of the purge table. A setting has those that the program prints for it.
# What is counted is counted where a library's calls can be caught.
Column = collections.namedtuple("Column", "field heading unit places counted")


def call_columns(phase):
    return (
        Column(phase + "_nanoseconds", "ms", 1e6, 1, False),
        Column(phase + "_calls_nanoseconds", "in calls", 1e6, 1, True),
        Column(phase + "_madvise", "madvise", 1, 0, True),
        Column(phase + "_munmap", "munmap", 1, 0, True),
        Column(phase + "_mprotect", "mprotect", 1, 0, True),
    )


PURGE_GROUPS = (
    ("freeing", call_columns("free")),
    ("giving back", call_columns("give")),
    ("all sets", call_columns("sets") + (Column("sets_faults", "faults", 1, 0, False),)),
    ("resident MiB", tuple(
        Column(moment + "_kib", moment, 1024, 1, False)
        for moment in ("start", "full", "freed", "given")
    )),
)


class Failure(Exception):
    """A run of the program that must not count."""


class Result:
    """What one run of a program printed."""

    def __init__(self, text):
        fields = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        try:
            self.checksum = fields["checksum"]
            self.malloc = fields["malloc"]
            self.read(fields)
        except (KeyError, ValueError, ZeroDivisionError):
            raise Failure("prints no result")


class PatternResult(Result):
    def read(self, fields):
        operations = int(fields["operations"])
        self.time = int(fields["nanoseconds"]) / operations
        self.memory = int(fields["peak_kib"]) / 1024
        if self.time <= 0 or self.memory <= 0:
            raise Failure("prints a time or a memory size of 0")


class PurgeResult(Result):
    def read(self, fields):
        self.groups = [
            (title, [column for column in columns if column.field in fields])
            for title, columns in PURGE_GROUPS
        ]
        self.numbers = {
            column.field: int(fields[column.field]) / column.unit
            for _, columns in self.groups for column in columns
        }
        if not self.numbers:
            raise Failure("prints no result")


# Finding the program and the libraries


def find_file(name, directories, folders):
    for directory in directories:
        for folder in folders:
            path = os.path.join(directory, folder, name)
            if os.path.isfile(path):
                return os.path.abspath(path)
    return None


def machine_kind(path):
    """The bytes of an ELF header that say which machine a file is for."""
    with open(path, "rb") as file:
        header = file.read(20)
    return header[4:6] + header[18:20]


def cached_libraries():
    """Pairs of name and path from the dynamic linker's cache."""
    for command in ("ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"):
        try:
            output = subprocess.run(
                [command, "-p"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ).stdout
        except OSError:
            continue
        return re.findall(r"^\s*(\S+) \(.*\) => (\S.*)$", output, re.MULTILINE)
    return []


def find_peers(program):
    """Maps each peer to its library, or to None where it is not installed."""
    kind = machine_kind(program)
    found = dict.fromkeys(PEERS)
    for name, path in cached_libraries():
        for peer, wanted in PEERS.items():
            if name == wanted and found[peer] is None and os.path.isfile(path):
                # A system may also have the libraries of another machine.
                if machine_kind(path) == kind:
                    found[peer] = path
    return found


# Running


def program_environment(library):
    environment = dict(os.environ)
    environment.pop("LD_PRELOAD", None)
    if library is not None:
        environment["LD_PRELOAD"] = library
    return environment


def run_once(program, pattern, library, result_class):
    try:
        process = subprocess.run(
            [program, pattern],
            env=program_environment(library),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Failure("does not end within %d seconds" % TIMEOUT_SECONDS)
    complaint = " ".join(process.stderr.split())
    complaint = " (%s)" % complaint if complaint else ""
    if process.returncode < 0:
        raise Failure("killed by signal %d%s" % (-process.returncode, complaint))
    if process.returncode > 0:
        raise Failure("exit status %d%s" % (process.returncode, complaint))
    result = result_class(process.stdout)
    # The dynamic linker goes on without a library that it cannot preload, and a library
    # without a malloc is no help either: both would measure the C library instead.
    provider = os.path.realpath(result.malloc)
    if library is not None and provider != os.path.realpath(library):
        raise Failure("malloc comes from %s%s" % (result.malloc, complaint))
    return result


def measure(program, patterns, allocators, rounds, result_class):
    """Runs everything; gives the results by pattern and allocator, and the failures.

    Rounds are the outermost loop and allocators the innermost, so that the runs to be
    compared lie close together in time, and each round starts with another allocator.
    """
    results = {pattern: {name: [] for name in allocators} for pattern in patterns}
    failures = {}
    checksums = {}
    names = list(allocators)
    for number in range(rounds):
        first = number % len(names)
        for pattern in patterns:
            for name in names[first:] + names[:first]:
                if pattern in failures:
                    break
                progress("round %d of %d: %s, %s" % (number + 1, rounds, pattern, name))
                try:
                    result = run_once(program, pattern, allocators[name], result_class)
                    expected = checksums.setdefault(pattern, (result.checksum, name))
                    if result.checksum != expected[0]:
                        raise Failure("checksum %s, but %s with %s"
                                      % (result.checksum, expected[0], expected[1]))
                    results[pattern][name].append(result)
                except Failure as failure:
                    failures[pattern] = "%s: %s" % (name, failure)
    progress("")
    return results, failures


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text)
        sys.stderr.flush()


# The table


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


class Row:
    """The numbers of one pattern."""

    def __init__(self, by_name, peers):
        times = {name: [run.time for run in runs] for name, runs in by_name.items()}
        time = {name: statistics.median(values) for name, values in times.items()}
        memory = {
            name: statistics.median(run.memory for run in runs)
            for name, runs in by_name.items()
        }
        self.time = time["mirt"]
        self.spread = 100 * (max(times["mirt"]) - min(times["mirt"])) / self.time
        self.memory = memory["mirt"]
        self.time_ratios = [time["mirt"] / time[peer] for peer in peers]
        self.memory_ratios = [memory["mirt"] / memory[peer] for peer in peers]


def format_line(label, time, spread, time_ratios, memory, memory_ratios):
    """A line of the table, of texts."""
    peer = "{:>10}".format
    return "{:<18}{:>10}{:>9}  {}  {:>9}  {}".format(
        label, time, spread,
        "".join(map(peer, time_ratios)), memory, "".join(map(peer, memory_ratios)),
    ).rstrip()


def print_table(rows, failures, peers):
    ratio = "{:.2f}".format
    def above_peers(text):
        return [text] + [""] * (len(peers) - 1)

    print(format_line(
        "", "mirt", "mirt", above_peers("mirt/peer"), "mirt", above_peers("mirt/peer")
    ))
    print(format_line(
        "", "", "time", above_peers("time"), "peak RSS", above_peers("peak RSS")
    ))
    heading = format_line("pattern", "ns/op", "spread", peers, "MiB", peers)
    print(heading)
    print("-" * len(heading))
    for pattern, row in rows.items():
        if row is None:
            print("%-18s    failed" % pattern)
            continue
        print(format_line(
            pattern,
            "%.1f" % row.time, "%.0f%%" % row.spread, map(ratio, row.time_ratios),
            "%.1f" % row.memory, map(ratio, row.memory_ratios),
        ))
    good = [row for row in rows.values() if row is not None]
    if good:
        print("-" * len(heading))
        times = zip(*(row.time_ratios for row in good))
        memories = zip(*(row.memory_ratios for row in good))
        print(format_line(
            "geometric mean", "", "", (ratio(geometric_mean(column)) for column in times),
            "", (ratio(geometric_mean(column)) for column in memories),
        ))
    print("\nBelow 1.00 mirt is faster, or smaller.")
    print_failures(failures)


def print_failures(failures):
    for pattern, failure in failures.items():
        print("FAILED %s: with %s" % (pattern, failure))


# The purge table


def print_purge_setting(setting, by_name):
    """The numbers of one setting, an allocator in a line."""
    def line(label, texts):
        return "%-10s%s" % (label, "".join(texts))

    def cells(text):
        return [
            "  " + "".join(text(column).rjust(width(column)) for column in columns)
            for _, columns in groups
        ]

    def width(column):
        return max(8, len(column.heading) + 2)

    groups = [group for group in next(iter(by_name.values()))[0].groups if group[1]]
    print(line("", (
        "  " + title.rjust(sum(map(width, columns))) for title, columns in groups
    )))
    heading = line(setting, cells(lambda column: column.heading))
    print(heading)
    print("-" * len(heading))
    for name, runs in by_name.items():
        def median(column):
            if column.counted and name == GLIBC:
                return "-"
            value = statistics.median(run.numbers[column.field] for run in runs)
            return "%.*f" % (column.places, value)
        print(line(name, cells(median)))
    print()


def print_purge_table(results, failures):
    for setting, by_name in results.items():
        if setting not in failures:
            print_purge_setting(setting, by_name)
    print("Less is better everywhere. System calls that %s makes are not seen." % GLIBC)
    print_failures(failures)


# The command line


def print_setting(allocators, missing, rounds):
    print("mirt benchmarks: median of %d rounds, %d cores, load %.1f, Linux %s"
          % (rounds, os.cpu_count() or 1, os.getloadavg()[0], platform.release()))
    for name, library in allocators.items():
        if library is not None:
            print("  %-9s %s" % (name, os.path.realpath(library)))
    for name in missing:
        print("  %-9s left out: %s is not installed" % (name, PEERS[name]))
    print(flush=True)


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def parse_arguments():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description="Compares mirt with other allocators.")
    parser.add_argument("--rounds", type=positive, metavar="N",
                        help="runs of each pattern with each allocator (default %d, "
                             "with --purge %d)" % (DEFAULT_ROUNDS, DEFAULT_PURGE_ROUNDS))
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true",
                      help="only one pattern of each kind")
    kind.add_argument("--purge", action="store_true",
                      help="how memory is given back, rather than the patterns")
    parser.add_argument("--only", action="append", metavar="PATTERN",
                        help="only this pattern, or setting of --purge; may be "
                             "repeated")
    parser.add_argument("--mirt", metavar="PATH",
                        default=os.environ.get("MIRT_MALLOC_SO"),
                        help="the library to compare (default: $MIRT_MALLOC_SO, "
                             "else %s in a build tree)" % MIRT_FILE)
    parser.add_argument("--program", metavar="PATH",
                        help="the benchmark program (default: in a build tree)")
    parser.add_argument("--build", action="append", metavar="DIR",
                        help="a build tree to search; may be repeated (default: the "
                             "current directory, then the source tree)")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = DEFAULT_PURGE_ROUNDS if options.purge else DEFAULT_ROUNDS
    options.build = options.build or [os.getcwd(), os.path.dirname(os.path.dirname(here))]
    return options


def stop(message):
    sys.exit("run.py: " + message)


def choose_library(options):
    library = options.mirt or find_file(MIRT_FILE, options.build, LIBRARY_FOLDERS)
    if library is None:
        places = ", ".join(options.build)
        stop("no %s below %s; name it with --mirt" % (MIRT_FILE, places))
    if not os.path.isfile(library):
        stop("%s: no such file" % library)
    return os.path.abspath(library)


def choose_program(options):
    name = "purge" if options.purge else "patterns"
    program = options.program or find_file(name, options.build, ("tests/bench",))
    if program is None:
        stop("no program tests/bench/%s below %s" % (name, ", ".join(options.build)))
    if not os.path.isfile(program):
        stop("%s: no such file" % program)
    return os.path.abspath(program)


def choose_patterns(options, program):
    patterns = subprocess.run(
        [program, "--list"],
        env=program_environment(None),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    for name in options.only or []:
        if name not in patterns:
            stop("no pattern %s; there are: %s" % (name, ", ".join(patterns)))
    if options.only:
        return [name for name in patterns if name in options.only]
    if options.quick:
        return [name for name in patterns if name in QUICK]
    return patterns


def main():
    options = parse_arguments()
    program = choose_program(options)
    peers = find_peers(program)
    allocators = {"mirt": choose_library(options)}
    allocators.update((name, path) for name, path in peers.items() if path is not None)
    allocators[GLIBC] = None
    missing = [name for name, path in peers.items() if path is None]
    patterns = choose_patterns(options, program)

    print_setting(allocators, missing, options.rounds)
    result_class = PurgeResult if options.purge else PatternResult
    results, failures = measure(
        program, patterns, allocators, options.rounds, result_class
    )
    if options.purge:
        print_purge_table(results, failures)
        return 1 if failures else 0
    names = [name for name in allocators if name != "mirt"]
    rows = {
        pattern: None if pattern in failures else Row(results[pattern], names)
        for pattern in patterns
    }
    print_table(rows, failures, names)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
