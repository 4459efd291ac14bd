#!/usr/bin/env python3
"""Compares three ways for a runtime that counts references to allocate: inline from mirt, by
calls of mirt, and by calls of mimalloc. Loops over small blocks, and the program of this binding.

The runs alternate; what is printed are medians. README.md in the folder above has the tables.
"""

import argparse
import os
import platform
import statistics
import sys

sys.dont_write_bytecode = True  # the source tree may not be ours to write to
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "tests", "bench"))
import common

INLINE, CALLS = "inline", "calls"
ROUNDS, ROUNDS_QUICK = 7, 3


def run_small(command):
    return {name: value for name, (_, value) in common.run_figures(command).items()}


def run_program(command, library):
    """Time and peak memory of the program, whose last line says that no block is left."""
    finished = common.run_command(command, common.program_environment(library))
    if not finished.output.endswith(b" 0\n"):
        raise common.Failure("something is left: %r" % finished.output[-80:])
    return {"the program, seconds": finished.seconds,
            "the program, peak MiB": finished.peak_mib}


def make_plan(options, peer):
    folder = options.programs
    small = os.path.join(folder, "bench", "small")
    quick = ["--quick"] if options.quick else []
    count = ["100000" if options.quick else "1000000"]
    calls = os.path.join(folder, "koka-calls")
    plan = {
        "small": {INLINE: [small, INLINE] + quick, CALLS: [small, "mirt"] + quick},
        "program": {
            INLINE: ([os.path.join(folder, "koka-inline")] + count, None),
            CALLS: ([calls] + count, None),
        },
    }
    if peer is not None:
        plan["small"][common.MIMALLOC] = [small, peer] + quick
        plan["program"][common.MIMALLOC] = [calls] + count, peer
    return plan


def print_table(results):
    for by_name in results.values():
        names = list(by_name)
        if not all(by_name.values()):
            continue
        print("%-32s" % "" + "".join("%16s" % name for name in names)
              + "".join("%16s" % ("inline/" + name) for name in names[1:]))
        for figure in by_name[INLINE][0]:
            medians = [statistics.median(run[figure] for run in by_name[name])
                       for name in names]
            ratios = [statistics.median(own[figure] / other[figure] for own, other
                                        in zip(by_name[INLINE], by_name[name]))
                      for name in names[1:]]
            print("%-32s" % figure + "".join("%16.2f" % value for value in medians)
                  + "".join("%16.2f" % value for value in ratios))
        print()
    print("Medians, nanoseconds for a block where nothing else is said. A ratio is the median"
          "\nof those of the rounds; below 1 is good for inline.")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Compares inline allocation with calls of mirt and of mimalloc.")
    parser.add_argument("--rounds", type=common.positive, metavar="N",
                        help="runs of each (default %d, with --quick %d)"
                             % (ROUNDS, ROUNDS_QUICK))
    parser.add_argument("--quick", action="store_true", help="fewer blocks")
    parser.add_argument("--peer", metavar="PATH",
                        help="the library to compare with (default: the system's %s)"
                             % common.PEERS[common.MIMALLOC])
    parser.add_argument("--programs", metavar="DIR", default="bindings/koka",
                        help="where the programs are (default bindings/koka)")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = ROUNDS_QUICK if options.quick else ROUNDS
    return options


def main():
    options = parse_arguments()
    peers = common.find_peers(os.path.realpath(sys.executable))
    peer = options.peer or peers[common.MIMALLOC]
    if peer is None:
        print("%s is left out: it is not installed" % common.MIMALLOC)
    print("median of %d rounds, %d cores, load %.1f, Linux %s\n"
          % (options.rounds, os.cpu_count() or 1, os.getloadavg()[0], platform.release()),
          flush=True)
    results, failures = common.measure(
        make_plan(options, peer), options.rounds,
        lambda setting, name, command:
            run_small(command) if setting == "small" else run_program(*command))
    print_table(results)
    common.print_failures(failures)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
