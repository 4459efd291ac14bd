#!/usr/bin/env python3
"""The program in the shape of Koka's runtime: with calls, on mimalloc and on mirt, and with
inline allocation on mirt. All three have to print the same."""

import argparse
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "tests", "bench"))
import common  # noqa: E402

CALLS, INLINE = "mirt, calls", "mirt, inline"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", required=True, help="the folder of koka-calls")
    parser.add_argument("--count", type=common.positive, default=5000000)
    parser.add_argument("--rounds", type=common.positive, default=9)
    given = parser.parse_args()
    programs = os.path.abspath(given.programs)
    calls = os.path.join(programs, "koka-calls")
    contestants = {
        CALLS: (calls, None),
        INLINE: (os.path.join(programs, "koka-inline"), None),
    }
    library = common.find_peers("/proc/self/exe")[common.MIMALLOC]
    if library is not None:
        # The program asks for functions of mimalloc.h only: what is preloaded has them.
        contestants[common.MIMALLOC] = (calls, library)
    outputs = set()

    def run_once(_, name, contestant):
        program, library = contestant
        finished = common.run_command(
            [program, str(given.count)], common.program_environment(library))
        outputs.add(finished.output)
        if len(outputs) > 1:
            raise common.Failure("prints something else")
        return finished

    results, failures = common.measure({"koka": contestants}, given.rounds, run_once)
    common.print_failures(failures)
    if failures:
        sys.exit(1)
    runs = results["koka"]
    first = next(iter(reversed(contestants)))
    rows = []
    for name in contestants:
        seconds = [run.seconds for run in runs[name]]
        ratio = statistics.median(
            common.round_ratios(seconds, [run.seconds for run in runs[first]]))
        rows.append([
            name,
            "%.2f" % statistics.median(seconds),
            "%.2f" % ratio,
            "%.1f" % statistics.median(run.peak_mib for run in runs[name]),
        ])
    print("\n".join(common.table(["", "s", "to " + first, "peak MiB"], rows)))


main()
