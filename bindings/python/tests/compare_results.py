"""Compare two results of CPython's own tests (--junit-xml): each test case has to end in the
same way in both. Prints what differs, or the numbers; exits with 1 if anything does.

usage: compare_results.py PLAIN.xml MIRT.xml
"""

import collections
import sys
import xml.etree.ElementTree


def read(name):
    """{test case: "passed", "skipped", "failure" or "error"}"""
    results = {}
    for case in xml.etree.ElementTree.parse(name).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        results[case.get("name")] = min(kinds) if kinds else "passed"
    return results


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    plain, mirt = read(sys.argv[1]), read(sys.argv[2])
    differences = [
        f"{name}: {plain.get(name, 'not run')}, under mirt {mirt.get(name, 'not run')}"
        for name in sorted(plain.keys() | mirt.keys())
        if plain.get(name) != mirt.get(name)
    ]
    for line in differences:
        print(line)
    counts = collections.Counter(mirt.values())
    print(", ".join(f"{number} {kind}" for kind, number in sorted(counts.items())))
    if differences or not mirt:
        sys.exit(1)


main()
