"""Dictionaries of tuples: built, updated, regrouped, dropped."""

import collections
import random

dice = random.Random(4)
rows = [(i, dice.randrange(2000), "k%d" % dice.randrange(3000), i * 0.25) for i in range(150000)]
result = 0
for step in range(3):
    by_key = collections.defaultdict(list)
    for row in rows:
        by_key[row[1], row[2]].append(row)
    sums = {key: (len(group), sum(row[3] for row in group)) for key, group in by_key.items()}
    rows = [(a + 1, b, c, d + sums[b, c][0]) for a, b, c, d in rows]
    index = {row[0]: row for row in rows}
    for i in range(0, len(rows), 3):
        index.pop(rows[i][0])
    result += len(sums) + len(index)
print(result, sum(row[3] for row in rows))
