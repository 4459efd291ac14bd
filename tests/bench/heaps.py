#!/usr/bin/env python3
"""Compares the heaps of mirt with those of mimalloc: destroying, visiting, adopting.

The program loads the library that it is told to, so the same binary measures both.
README.md beside this file says what the settings are and how to read the table.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True  # the source tree may not be ours to write to
import run

MIRT_FILE = "libmirt.so"
PEER = "mimalloc"

DEFAULT_ROUNDS = 5
QUICK_ROUNDS = 3


# Running


def run_command(command, quick):
    """The figures of one run: by name, the unit and the value."""
    try:
        process = subprocess.run(
            command + (["--quick"] if quick else []),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=run.TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise run.Failure("does not end within %d seconds" % run.TIMEOUT_SECONDS)
    if process.returncode != 0:
        complaint = " ".join(process.stderr.split())
        raise run.Failure("ends with status %d (%s)" % (process.returncode, complaint))
    figures = {}
    for line in process.stdout.splitlines():
        name, unit, value = line.split("\t")
        figures[name] = unit, float(value)
    return figures


def measure(program, settings, libraries, options):
    """Runs everything; gives the runs by setting and library, and the failures."""
    results = {setting: {name: [] for name in libraries} for setting in settings}
    failures = {}
    names = list(libraries)
    for number in range(options.rounds):
        first = number % len(names)
        for setting in settings:
            for name in names[first:] + names[:first]:
                if setting in failures:
                    break
                run.progress("round %d of %d: %s, %s"
                             % (number + 1, options.rounds, setting, name))
                try:
                    command = [program, libraries[name], setting]
                    figures = run_command(command, options.quick)
                    results[setting][name].append(figures)
                except run.Failure as failure:
                    failures[setting] = "%s: %s" % (name, failure)
    run.progress("")
    return results, failures


# The table


def number_text(value):
    if value == 0:
        return "0"
    places = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return "%.*f" % (places, value)


def line(label, unit, columns):
    return ("%-44s%-6s" % (label, unit) + "".join(map("{:>10}".format, columns))).rstrip()


def figure_columns(name, by_name):
    """Median and spread for each library, and the ratio; dashes for what is missing."""
    columns = []
    medians = []
    for runs in by_name.values():
        values = [figures[name][1] for figures in runs if name in figures]
        if not values:
            columns += ["-", ""]
            continue
        median = statistics.median(values)
        medians.append(median)
        spread = 100 * (max(values) - min(values)) / median if median else 0
        columns += [number_text(median), "%.0f%%" % spread]
    ratio = len(medians) == 2 and medians[1] != 0
    return columns + ["%.2f" % (medians[0] / medians[1]) if ratio else "-"]


def print_table(results, failures):
    names = list(next(iter(results.values())))
    columns = [text for name in names for text in (name, "spread")]
    heading = line("", "", columns + ["mirt/peer"])
    print(heading)
    for setting, by_name in results.items():
        print(setting + " " + "-" * (len(heading) - len(setting) - 1))
        if setting in failures:
            print("  failed")
            continue
        units = {}
        for runs in by_name.values():
            units.update((name, unit) for name, (unit, _) in runs[0].items())
        for name, unit in units.items():
            print(line("  " + name, unit, figure_columns(name, by_name)))
    print("\nLess is better, but where the unit is M/s: millions of blocks a second.")
    run.print_failures(failures)


# The command line


def parse_arguments():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description="Compares heaps with mimalloc's.")
    parser.add_argument("--rounds", type=run.positive, metavar="N",
                        help="runs of each setting with each library (default %d, with "
                             "--quick %d)" % (DEFAULT_ROUNDS, QUICK_ROUNDS))
    parser.add_argument("--quick", action="store_true",
                        help="a fifth of the blocks, or fewer")
    parser.add_argument("--only", action="append", metavar="SETTING",
                        help="only this setting; may be repeated")
    parser.add_argument("--mirt", metavar="PATH",
                        help="the library to compare (default: %s in a build tree)"
                             % MIRT_FILE)
    parser.add_argument("--peer", metavar="PATH",
                        help="the library to compare it with (default: the system's %s)"
                             % run.PEERS[PEER])
    parser.add_argument("--program", metavar="PATH",
                        help="the benchmark program (default: in a build tree)")
    parser.add_argument("--build", action="append", metavar="DIR",
                        help="a build tree to search; may be repeated (default: the "
                             "current directory, then the source tree)")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else DEFAULT_ROUNDS
    options.build = options.build or [os.getcwd(), os.path.dirname(os.path.dirname(here))]
    return options


def stop(message):
    sys.exit("heaps.py: " + message)


def choose_file(given, name, options, folders):
    path = given or run.find_file(name, options.build, folders)
    if path is None:
        stop("no %s below %s" % (name, ", ".join(options.build)))
    if not os.path.isfile(path):
        stop("%s: no such file" % path)
    return os.path.abspath(path)


def choose_settings(options, program):
    settings = subprocess.run(
        [program, "--list"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    for name in options.only or []:
        if name not in settings:
            stop("no setting %s; there are: %s" % (name, ", ".join(settings)))
    return [name for name in settings if not options.only or name in options.only]


def print_head(libraries, options):
    print("mirt heaps: median of %d rounds, %d cores, load %.1f, Linux %s"
          % (options.rounds, os.cpu_count() or 1, os.getloadavg()[0], platform.release()))
    for name, library in libraries.items():
        print("  %-9s %s" % (name, os.path.realpath(library)))
    if len(libraries) == 1:
        print("  %-9s left out: %s is not installed" % (PEER, run.PEERS[PEER]))
    print(flush=True)


def main():
    options = parse_arguments()
    program = choose_file(options.program, "heaps", options, ("tests/bench",))
    libraries = {
        "mirt": choose_file(options.mirt, MIRT_FILE, options, run.LIBRARY_FOLDERS)
    }
    if options.peer:
        libraries["peer"] = choose_file(options.peer, None, options, ())
    else:
        peer = run.find_peers(program)[PEER]
        if peer is not None:
            libraries[PEER] = peer
    settings = choose_settings(options, program)
    print_head(libraries, options)
    results, failures = measure(program, settings, libraries, options)
    print_table(results, failures)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
