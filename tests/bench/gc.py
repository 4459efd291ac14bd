#!/usr/bin/env python3
"""Compares objects of a runtime, and their collection, with what else there is.

README.md beside this file says what the settings are and how to read the tables.
"""

import argparse
import os
import platform
import statistics
import sys

sys.dont_write_bytecode = True  # the source tree may not be ours to write to
import common
import heaps

DEFAULT_ROUNDS = 5
QUICK_ROUNDS = 3

BDWGC = "bdwgc"

# By setting, who is compared: the first with each of the others.
SETTINGS = {
    "new": ("mirt", common.MIMALLOC),
    "sweep": ("mirt", common.MIMALLOC),
    "gcbench": ("refs", "pointers", BDWGC),
    "gcbench-large": ("refs", "pointers", BDWGC),
    "gcbench-words": ("refs", "pointers", BDWGC),
    "walk": ("refs", "pointers"),
    "walk-large": ("refs", "pointers"),
    "mark": ("2 markers", "1 marker"),
}


def commands(programs, mimalloc):
    """By setting and contestant, the command; without those that are not there."""
    objects = os.path.join(programs, "objects")
    graph = {
        kind: os.path.join(programs, "graph-" + kind)
        for kind in ("refs", "pointers", BDWGC)
    }
    result = {}
    for setting, names in SETTINGS.items():
        by_name = {}
        for name in names:
            if setting == "mark":
                by_name[name] = [graph["refs"], "mark-" + name[0]]
            elif name == "mirt":
                by_name[name] = [objects, "mirt", setting]
            elif name == common.MIMALLOC:
                by_name[name] = [objects, mimalloc, setting] if mimalloc else None
            else:
                by_name[name] = [graph[name], setting]
        result[setting] = {
            name: command
            for name, command in by_name.items()
            if command is not None and os.path.isfile(command[0])
        }
    return result


# The table


def ratio_text(figure, first, other):
    """The median of the ratios of the rounds."""
    pairs = [(a[figure][1], b[figure][1]) for a, b in zip(first, other)
             if figure in a and figure in b]
    ratios = [a / b for a, b in pairs if b != 0]
    return "%.2f" % statistics.median(ratios) if ratios else "-"


def print_setting(setting, by_name, failure):
    names = list(by_name)
    heading = ["%s" % name for name in names]
    heading += ["%s/%s" % (names[0], name) for name in names[1:]]
    print("%-38s" % setting + "".join("%20s" % text for text in heading))
    if failure is not None:
        print("  failed")
        return
    for figure, (unit, _) in by_name[names[0]][0].items():
        columns = []
        for runs in by_name.values():
            values = [figures[figure][1] for figures in runs if figure in figures]
            columns.append(
                heaps.number_text(statistics.median(values)) if values else "-")
        for name in names[1:]:
            columns.append(ratio_text(figure, by_name[names[0]], by_name[name]))
        print(("  %-30s%-6s" % (figure, unit)
               + "".join("%20s" % text for text in columns)).rstrip())


def print_table(results, failures):
    for setting, by_name in results.items():
        print_setting(setting, by_name, failures.get(setting))
        print()
    print("Medians. A ratio is the median of those of the rounds; below 1 is good for\n"
          "what stands before the stroke.")
    common.print_failures(failures)


# The command line


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Compares objects and their collection with mimalloc and bdwgc.")
    parser.add_argument("--rounds", type=common.positive, metavar="N",
                        help="runs of each setting (default %d, with --quick %d)"
                             % (DEFAULT_ROUNDS, QUICK_ROUNDS))
    parser.add_argument("--quick", action="store_true", help="smaller heaps")
    parser.add_argument("--only", action="append", metavar="SETTING",
                        choices=list(SETTINGS), help="only this setting; may be repeated")
    parser.add_argument("--peer", metavar="PATH",
                        help="the library to compare allocation with (default: the "
                             "system's %s)" % common.PEERS[common.MIMALLOC])
    parser.add_argument("--programs", metavar="DIR", default="tests/bench",
                        help="where the benchmark programs are (default tests/bench)")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else DEFAULT_ROUNDS
    return options


def main():
    options = parse_arguments()
    program = os.path.join(options.programs, "objects")
    if not os.path.isfile(program):
        sys.exit("gc.py: %s: no such file" % program)
    peers = common.find_peers(os.path.realpath(sys.executable))
    peer = options.peer or peers[common.MIMALLOC]
    plan = {
        setting: by_name
        for setting, by_name in commands(options.programs, peer).items()
        if not options.only or setting in options.only
    }
    print("mirt objects: median of %d rounds, %d cores, load %.1f, Linux %s"
          % (options.rounds, os.cpu_count() or 1, os.getloadavg()[0], platform.release()))
    if peer is None:
        print("  %s is left out: it is not installed" % common.MIMALLOC)
    if not os.path.isfile(os.path.join(options.programs, "graph-" + BDWGC)):
        print("  %s is left out: it was not found when this was configured" % BDWGC)
    print(flush=True)
    quick = ["--quick"] if options.quick else []
    results, failures = common.measure(
        plan, options.rounds,
        lambda setting, name, command: common.run_figures(command + quick))
    print_table(results, failures)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
