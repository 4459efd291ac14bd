#!/usr/bin/env python3
"""Compares mirt-lua with lua5.4, over its own allocator and over those that are preloaded:
time and peak memory of five scripts, and how long a state with many objects takes to go.

The runs alternate; what is printed are medians. README.md in the folder above says how to
read the tables.
"""

import argparse
import os
import platform
import shutil
import statistics
import sys

sys.dont_write_bytecode = True  # the source tree may not be ours to write to
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "tests", "bench"))
import common

SCRIPTS = {  # and their arguments; about a second each
    "trees": ["16"],
    "strings": ["500"],
    "tables": ["100000", "700000"],
    "closures": ["3000"],
    "nbody": ["400000"],
}
QUICK = {
    "trees": ["13"],
    "strings": ["60"],
    "tables": ["30000", "100000"],
    "closures": ["300"],
    "nbody": ["40000"],
}
MIRT = "mirt-lua"
PLAIN = "lua5.4"
PRELOADED = (common.MIMALLOC, "jemalloc")
DROP_WAYS = {
    "plain": "lua_close, malloc",
    "close": "lua_close, mirt",
    "drop": "mirt_lua_drop",
}


# Scripts


def run_script(script, arguments, command, library):
    """Seconds of processor time, and MiB of peak memory, of the interpreter alone."""
    finished = common.run_command(
        command + [os.path.join(HERE, "measure.lua"), os.path.join(HERE, script + ".lua")]
        + arguments, common.program_environment(library))
    seconds, peak = finished.complaint.split()
    return finished.output, float(seconds), int(peak) / 1024


def check_outputs(results):
    """All contestants have printed the same."""
    for script, by_name in results.items():
        outputs = {run[0] for runs in by_name.values() for run in runs}
        if len(outputs) > 1:
            raise common.Failure("%s: outputs differ" % script)


def medians(results, column):
    return {script: {name: statistics.median(run[column] for run in runs)
                     for name, runs in by_name.items()}
            for script, by_name in results.items()}


def print_medians(title, values, names, number):
    """A row per script, and the geometric means of the ratios to mirt-lua's."""
    peers = [name for name in names if name != MIRT]
    rows = []
    for script, by_name in values.items():
        best = min(by_name[name] for name in peers)
        rows.append([script] + [number % by_name[name] for name in names]
                    + ["%.3f" % (by_name[MIRT] / best)])
    means = {name: common.geometric_mean(
        [by_name[MIRT] / by_name[name] for by_name in values.values()])
        for name in names}
    best_of_each = common.geometric_mean(
        [by_name[MIRT] / min(by_name[name] for name in peers)
         for by_name in values.values()])
    rows.append(["mirt-lua / it"] + ["%.3f" % means[name] for name in names]
                + ["%.3f" % best_of_each])
    print("\n".join(common.table([title] + names + ["mirt / best"], rows)))
    print(flush=True)


# The command line


def parse_arguments():
    parser = argparse.ArgumentParser(description="Compares mirt-lua with lua5.4.")
    parser.add_argument("--rounds", type=common.positive, default=7, metavar="N",
                        help="runs of each script with each contestant (default 7)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--only", action="append", metavar="SCRIPT",
                        help="only this script, or drop; may be repeated")
    parser.add_argument("--objects", type=common.positive, default=5000000, metavar="N",
                        help="objects of the state that goes (default 5000000)")
    parser.add_argument("--program", required=True, metavar="PATH", help="mirt-lua")
    parser.add_argument("--drop", required=True, metavar="PATH",
                        help="the program that lets states go")
    parser.add_argument("--mirt-too", action="append", default=[], metavar="PATH",
                        help="another mirt-lua to measure; may be repeated")
    return parser.parse_args()


def find_contestants(options):
    """By name, the command and the library that is preloaded."""
    plain = shutil.which(PLAIN)
    if plain is None:
        common.stop("no %s to compare with" % PLAIN)
    contestants = {PLAIN: ([plain], None)}
    for name, library in common.find_peers(plain).items():
        if name in PRELOADED and library is not None:
            contestants[name] = ([plain], library)
    contestants[MIRT] = ([os.path.abspath(options.program)], None)
    for path in options.mirt_too:
        contestants[path] = ([os.path.abspath(path)], None)
    return contestants


def main():
    options = parse_arguments()
    contestants = find_contestants(options)
    scripts = QUICK if options.quick else SCRIPTS
    chosen = common.choose_names(list(scripts) + ["drop"], options.only, "script")
    print("Lua: medians of %d rounds, %d cores, load %.1f, Linux %s"
          % (options.rounds, os.cpu_count() or 1, os.getloadavg()[0], platform.release()))
    for name, (command, library) in contestants.items():
        print("  %-9s %s%s" % (name, command[0], " with " + library if library else ""))
    print(flush=True)

    plan = {script: contestants for script in scripts if script in chosen}
    results, failures = common.measure(
        plan, options.rounds,
        lambda script, name, contestant: run_script(script, scripts[script], *contestant))
    results = {script: results[script] for script in results if script not in failures}
    if results:
        check_outputs(results)
        names = list(contestants)
        print_medians("seconds", medians(results, 1), names, "%.3f")
        print_medians("peak MiB", medians(results, 2), names, "%.1f")

    if "drop" in chosen:
        objects = str(options.objects // (10 if options.quick else 1))
        runs, more = common.measure(
            {"drop": {way: way for way in DROP_WAYS}}, options.rounds,
            lambda _, name, way: float(
                common.run_command([options.drop, way, objects]).output))
        failures.update(more)
        if not more:
            times = {way: statistics.median(values)
                     for way, values in runs["drop"].items()}
            rows = [[DROP_WAYS[way], "%.2f" % times[way],
                     "%.0f" % (times[way] / times["drop"])] for way in DROP_WAYS]
            print("\n".join(common.table(
                ["a state with %s objects goes by" % objects, "ms", "times"], rows)))
    common.print_failures(failures)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except common.Failure as failure:
        common.stop(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)
