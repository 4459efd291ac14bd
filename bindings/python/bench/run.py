#!/usr/bin/env python3
"""Time and peak memory of scripts that allocate, under CPython's own allocator, under mirt,
and with malloc from mimalloc. All that a contestant prints has to be the same."""

import argparse
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "tests", "bench"))
import common  # noqa: E402

SCRIPTS = ["objects", "roundtrip", "strings", "tuples", "threads"]
PYMALLOC, MIRT = "pymalloc", "mirt"


def contestants(plain, mirt):
    """By name, the program and what its environment has more."""
    found = {
        PYMALLOC: (plain, {"PYTHONMALLOC": "pymalloc"}),
        MIRT: (mirt, {"PYTHONMALLOC": ""}),
    }
    library = common.find_peers(plain)[common.MIMALLOC]
    if library is not None:
        found[common.MIMALLOC] = (plain, {"PYTHONMALLOC": "malloc", "LD_PRELOAD": library})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mirt", required=True, help="the program mirt-python")
    parser.add_argument("--python", required=True, help="the same interpreter without mirt")
    parser.add_argument("--rounds", type=common.positive, default=7)
    parser.add_argument("--only", action="append", help="a script; all of them by default")
    given = parser.parse_args()
    programs = contestants(os.path.abspath(given.python), os.path.abspath(given.mirt))
    scripts = common.choose_names(SCRIPTS, given.only, "script")
    outputs = {}

    def run_once(script, name, contestant):
        program, more = contestant
        environment = dict(os.environ, PYTHONHASHSEED="1", **more)
        environment.pop("PYTHONHOME", None)
        finished = common.run_command(
            [program, os.path.join(HERE, script + ".py")], environment)
        if outputs.setdefault(script, finished.output) != finished.output:
            raise common.Failure("prints something else")
        return finished

    plan = {script: programs for script in scripts}
    results, failures = common.measure(plan, given.rounds, run_once)
    peers = [name for name in programs if name != MIRT]
    rows, all_ratios = [], {}
    for script in scripts:
        if script in failures:
            continue
        cells = [script]
        for what, unit in (("seconds", "%.2f"), ("peak_mib", "%.1f")):
            of = {name: [getattr(run, what) for run in results[script][name]]
                  for name in programs}
            cells += [unit % statistics.median(of[name]) for name in programs]
            for peer in peers:
                ratio = statistics.median(common.round_ratios(of[MIRT], of[peer]))
                all_ratios.setdefault((what, peer), []).append(ratio)
                cells.append("%.2f" % ratio)
        rows.append(cells)
    heading = ["script"]
    for unit in "s", "MiB":
        heading += ["%s, %s" % (name, unit) for name in programs]
        heading += ["mirt / %s" % peer for peer in peers]
    print("\n".join(common.table(heading, rows)))
    for (what, peer), ratios in all_ratios.items():
        print("%s, geometric mean of mirt divided by %s: %.2f" % (
            {"seconds": "time", "peak_mib": "peak memory"}[what], peer,
            common.geometric_mean(ratios)))
    common.print_failures(failures)
    sys.exit(1 if failures else 0)


main()
