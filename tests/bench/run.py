#!/usr/bin/env python3
"""Runs benchmark programs with mirt and with other allocators and compares them.

The programs are the same each time; the allocator is preloaded into them. README.md
beside this file says what they are and how to read the tables.
"""

import argparse
import collections
import os
import platform
import statistics
import sys

sys.dont_write_bytecode = True  # the source tree may not be ours to write to
import common
import report
import whole_programs

# One benchmark of each kind: what is left out has a near relative here.
QUICK = (
    "pair",
    "many-sizes",
    "replace",
    "realloc",
    "large",
    "interpreter",
    "producer-consumer",
    "larson",
    "sqlite",
    "lua",
)

DEFAULT_ROUNDS = 5
QUICK_ROUNDS = 3
PURGE_ROUNDS = 3


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


class Result:
    """What one run of a program printed."""

    def __init__(self, text):
        fields = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        try:
            self.checksum = fields["checksum"]
            self.malloc = fields["malloc"]
            self.read(fields)
        except (KeyError, ValueError, ZeroDivisionError):
            raise common.Failure("prints no result")


class PatternResult(Result):
    def read(self, fields):
        operations = int(fields["operations"])
        self.time = int(fields["nanoseconds"]) / operations
        self.memory = int(fields["peak_kib"]) / 1024
        if "final_kib" in fields:
            self.final = int(fields["final_kib"]) / 1024
        if self.time <= 0 or self.memory <= 0:
            raise common.Failure("prints a time or a memory size of 0")


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
            raise common.Failure("prints no result")


# Running


def run_pattern(program, pattern, library, result_class):
    finished = common.run_command(
        [program, pattern], common.program_environment(library))
    result = result_class(finished.output.decode(errors="replace"))
    # The dynamic linker goes on without a library that it cannot preload, and a library
    # without a malloc is no help either: both would measure the C library instead.
    provider = os.path.realpath(result.malloc)
    if library is not None and provider != os.path.realpath(library):
        raise common.Failure("malloc comes from %s (%s)"
                             % (result.malloc, finished.complaint))
    return result


def measure(benchmarks, allocators, rounds):
    """Runs everything; a benchmark is a function that takes a library. Fails those whose
    checksums differ."""
    checksums = {}

    def run_once(benchmark, name, library):
        result = benchmarks[benchmark](library)
        expected, first = checksums.setdefault(benchmark, (result.checksum, name))
        if result.checksum != expected:
            raise common.Failure("checksum %s, but %s with %s"
                                 % (result.checksum, expected, first))
        return result

    return common.measure(dict.fromkeys(benchmarks, allocators), rounds, run_once)


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
            if column.counted and name == common.GLIBC:
                return "-"
            value = statistics.median(run.numbers[column.field] for run in runs)
            return "%.*f" % (column.places, value)
        print(line(name, cells(median)))
    print()


def print_purge_table(results, failures):
    for setting, by_name in results.items():
        if setting not in failures:
            print_purge_setting(setting, by_name)
    print("Less is better everywhere. System calls that %s makes are not seen."
          % common.GLIBC)
    common.print_failures(failures)


# The command line


def parse_arguments():
    parser = argparse.ArgumentParser(description="Compares mirt with other allocators.")
    parser.add_argument("--rounds", type=common.positive, metavar="N",
                        help="runs of each benchmark with each allocator (default %d, "
                             "with --quick %d, with --purge %d)"
                             % (DEFAULT_ROUNDS, QUICK_ROUNDS, PURGE_ROUNDS))
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true",
                      help="only one benchmark of each kind")
    kind.add_argument("--purge", action="store_true",
                      help="how memory is given back, rather than the benchmarks")
    parser.add_argument("--only", action="append", metavar="NAME",
                        help="only this pattern, program, or setting of --purge; may be "
                             "repeated")
    parser.add_argument("--skip", action="append", metavar="PEER", default=[],
                        help="leave this peer out; may be repeated")
    parser.add_argument("--peer", action="append", metavar="NAME=PATH", default=[],
                        help="a further library to compare with; may be repeated")
    parser.add_argument("--output", metavar="DIR",
                        help="where the report goes (default: bench in the build tree)")
    parser.add_argument("--mirt", metavar="PATH",
                        default=os.environ.get("MIRT_MALLOC_SO"),
                        help="the library to compare (default: $MIRT_MALLOC_SO, "
                             "else %s in a build tree)" % common.MIRT_FILE)
    parser.add_argument("--program", metavar="PATH",
                        help="the benchmark program (default: in a build tree)")
    parser.add_argument("--build", action="append", metavar="DIR",
                        help="a build tree to search; may be repeated (default: the "
                             "current directory, then the source tree)")
    options = parser.parse_args()
    options.build = options.build or common.default_build()
    options.output = options.output or os.path.join(options.build[0], "bench")
    if options.rounds is None:
        options.rounds = (PURGE_ROUNDS if options.purge else
                          QUICK_ROUNDS if options.quick else DEFAULT_ROUNDS)
    return options


def choose_allocators(options, program):
    """By name the library of each allocator, None for the C library's; and by name the
    reason why a peer is left out."""
    mirt = common.choose_file(
        options.mirt, common.MIRT_FILE, options.build, common.LIBRARY_FOLDERS)
    allocators, missing = {report.MIRT: mirt}, {}
    for name, path in common.find_peers(program).items():
        if path is None:
            missing[name] = "%s is not installed" % common.PEERS[name]
        else:
            allocators[name] = path
    for given in options.peer:
        name, _, path = given.partition("=")
        if not name or name in (report.MIRT, common.GLIBC) or not os.path.isfile(path):
            common.stop("--peer %s: not NAME=PATH of a library" % given)
        allocators[name] = os.path.abspath(path)
        missing.pop(name, None)
    allocators[common.GLIBC] = None
    for name in options.skip:
        if name == report.MIRT or name not in (*allocators, *missing):
            common.stop("no peer %s" % name)
        allocators.pop(name, None)
        missing[name] = "not asked for"
    return allocators, missing


def print_setting(allocators, missing, rounds):
    print("mirt benchmarks: median of %d rounds, %d cores, load %.1f, Linux %s"
          % (rounds, os.cpu_count() or 1, os.getloadavg()[0], platform.release()))
    for name, library in allocators.items():
        if library is not None:
            print("  %-9s %s" % (name, os.path.realpath(library)))
    for name, reason in missing.items():
        print("  %-9s left out: %s" % (name, reason))
    print(flush=True)


def pattern_benchmarks(program, names, result_class):
    return {
        name: lambda library, name=name: run_pattern(program, name, library, result_class)
        for name in names}


def main_purge(options, program, allocators, missing):
    names = common.choose_names(common.list_names(program), options.only, "setting")
    print_setting(allocators, missing, options.rounds)
    results, failures = measure(
        pattern_benchmarks(program, names, PurgeResult), allocators, options.rounds)
    print_purge_table(results, failures)
    return 1 if failures else 0


def main_benchmarks(options, program, allocators, missing):
    patterns = common.list_names(program)
    made = os.path.join(options.output, "programs")
    programs, absent = whole_programs.find(made)
    asked = options.only or (QUICK if options.quick else None)
    known = patterns + list(programs) + list(absent)
    chosen = common.choose_names(known, asked, "benchmark")
    missing.update((name, why) for name, why in absent.items() if name in chosen)
    print_setting(allocators, missing, options.rounds)

    patterns = pattern_benchmarks(
        program, [name for name in patterns if name in chosen], PatternResult)
    programs = {
        name: lambda library, it=it: whole_programs.run_program(it, library)
        for name, it in programs.items() if name in chosen}
    whole_programs.make_inputs(made, programs)
    load = os.getloadavg()[0]
    results, failures = measure({**patterns, **programs}, allocators, options.rounds)
    sections = [
        report.Section(title, unit, places, {name: results[name] for name in names},
                       failures)
        for title, unit, places, names in (
            ("Patterns", "ns/operation", 1, patterns),
            ("Programs", "seconds", 2, programs))
        if names]
    text = report.make_text(sections, allocators, options.rounds, missing, load)
    report.write(options.output, text, report.make_chart(sections, allocators))
    print(text)
    print("This is also in %s, with a chart beside it."
          % os.path.join(options.output, "report.md"))
    return 1 if failures else 0


def main():
    options = parse_arguments()
    program = common.choose_file(
        options.program, "purge" if options.purge else "patterns", options.build,
        ("tests/bench",))
    allocators, missing = choose_allocators(options, program)
    run = main_purge if options.purge else main_benchmarks
    return run(options, program, allocators, missing)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
