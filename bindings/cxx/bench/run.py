#!/usr/bin/env python3
"""Containers of integers with references of 32 bits as pointers, beside the same with plain
pointers in a heap of mirt, and with std::allocator over the C library's malloc. All compiled by
clang++ with libc++, whose nodes store what the allocator calls a pointer."""

import argparse
import collections
import os
import statistics
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "bench"))
import common  # noqa: E402

CONTAINERS = ["map", "list", "table"]
ALLOCATORS = ["std", "heap", "refs"]
Figures = collections.namedtuple("Figures", "node build find walk drop peak sum")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, help="the build tree")
    parser.add_argument("--count", type=common.positive, default=5000000)
    parser.add_argument("--rounds", type=common.positive, default=5)
    given = parser.parse_args()
    libraries = os.path.join(os.path.abspath(given.build), ".libs")
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "containers")
        try:
            common.run_command([
                "clang++", "-stdlib=libc++", "-std=c++17", "-O2", "-DNDEBUG",
                "-I" + os.path.join(ROOT, "include"), "-I" + os.path.join(ROOT, "bindings/cxx"),
                os.path.join(HERE, "containers.cpp"), "-o", program,
                "-L" + libraries, "-Wl,-rpath," + libraries, "-lmirt"])
        except common.Failure as failure:
            common.stop("clang++ with libc++ does not compile it: %s" % failure)

        def run_once(container, allocator, _):
            words = common.run_command(
                [program, container, allocator, str(given.count)]).output.split()
            return Figures(*map(float, words))

        plan = {name: dict.fromkeys(ALLOCATORS) for name in CONTAINERS}
        results, failures = common.measure(plan, given.rounds, run_once)
    common.print_failures(failures)
    if failures:
        sys.exit(1)
    rows = []
    for container in CONTAINERS:
        if len({run.sum for runs in results[container].values() for run in runs}) != 1:
            common.stop("%s: the sums differ" % container)
        for allocator in ALLOCATORS:
            runs = results[container][allocator]
            figures = [statistics.median(values) for values in zip(*runs)]
            middle = Figures(*figures)
            rows.append(["%s, %s" % (container, allocator), "%d" % middle.node] + [
                "%.0f" % value for value in middle[1:4]] + ["%.1f" % middle.drop] + [
                "%.0f" % middle.peak])
    heading = ["", "bytes of a node", "build, ms", "find, ms", "walk, ms", "drop, ms", "peak MiB"]
    print("\n".join(common.table(heading, rows)))


main()
