#!/usr/bin/env python3
"""Compares the heaps of mirt with those of mimalloc: destroying, visiting, adopting.

The program loads the library that it is told to, so the same binary measures both.
README.md beside this file says what the settings are and how to read the table.
"""

import argparse
import os
import platform
import statistics
import sys

sys.dont_write_bytecode = True  # the source tree may not be ours to write to
import common

MIRT_FILE = "libmirt.so"
PEER = common.MIMALLOC

DEFAULT_ROUNDS = 5
QUICK_ROUNDS = 3


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
    common.print_failures(failures)


# The command line


def parse_arguments():
    parser = argparse.ArgumentParser(description="Compares heaps with mimalloc's.")
    parser.add_argument("--rounds", type=common.positive, metavar="N",
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
                             % common.PEERS[PEER])
    parser.add_argument("--program", metavar="PATH",
                        help="the benchmark program (default: in a build tree)")
    parser.add_argument("--build", action="append", metavar="DIR",
                        help="a build tree to search; may be repeated (default: the "
                             "current directory, then the source tree)")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else DEFAULT_ROUNDS
    options.build = options.build or common.default_build()
    return options


def print_head(libraries, options):
    print("mirt heaps: median of %d rounds, %d cores, load %.1f, Linux %s"
          % (options.rounds, os.cpu_count() or 1, os.getloadavg()[0], platform.release()))
    for name, library in libraries.items():
        print("  %-9s %s" % (name, os.path.realpath(library)))
    if len(libraries) == 1:
        print("  %-9s left out: %s is not installed" % (PEER, common.PEERS[PEER]))
    print(flush=True)


def main():
    options = parse_arguments()
    program = common.choose_file(
        options.program, "heaps", options.build, ("tests/bench",))
    libraries = {
        "mirt": common.choose_file(
            options.mirt, MIRT_FILE, options.build, common.LIBRARY_FOLDERS)
    }
    if options.peer:
        libraries["peer"] = common.choose_file(options.peer, None, (), ())
    else:
        peer = common.find_peers(program)[PEER]
        if peer is not None:
            libraries[PEER] = peer
    settings = common.choose_names(
        common.list_names(program), options.only, "setting")
    print_head(libraries, options)
    quick = ["--quick"] if options.quick else []
    results, failures = common.measure(
        dict.fromkeys(settings, libraries), options.rounds,
        lambda setting, name, library:
            common.run_figures([program, library, setting] + quick))
    print_table(results, failures)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
