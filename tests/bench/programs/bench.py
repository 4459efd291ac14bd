"""What a script in Python does with memory: lists, dictionaries, strings and objects that
come and go, some of which live on. Prints sums over what it made."""

import json
import re


class Node:
    __slots__ = ("key", "left", "right", "values")

    def __init__(self, key):
        self.key = key
        self.left = self.right = None
        self.values = [key, str(key)]


def insert(root, key):
    while True:
        if key == root.key:
            root.values.append(float(key))
            return
        side = "left" if key < root.key else "right"
        child = getattr(root, side)
        if child is None:
            setattr(root, side, Node(key))
            return
        root = child


def count(root):
    if root is None:
        return 0
    return len(root.values) + count(root.left) + count(root.right)


def tree():
    root = Node(1 << 19)
    key = 1
    for _ in range(45000):
        key = (key * 1103515245 + 12345) & 0xFFFFF
        insert(root, key >> 2)
    return root


def words():
    lines = ["word%d of line %d, %x" % (i * 7919 % 4001, i, i * i) for i in range(60000)]
    index = {}
    for number, line in enumerate(lines):
        for word in re.findall(r"\w+", line):
            index.setdefault(word, []).append((number, len(word)))
    return index


def records():
    total = 0
    for turn in range(8):
        text = json.dumps([
            {"number": i, "name": "record %d" % i, "parts": list(range(i % 23)),
             "share": i / 7}
            for i in range(4000)])
        total += len(text) + sum(len(record["parts"]) for record in json.loads(text))
    return total


def numbers():
    product = 1
    for i in range(1, 2500):
        product *= i
    text = "%x" % product
    return sum(int(text[i:i + 40], 16) for i in range(0, len(text), 40)) & 0xFFFFFFFF


kept = tree()
index = words()
print(count(kept), len(index), sum(map(len, index.values())))
print(records(), numbers())
print(sum(len(row) for row in [[(i, j) for j in range(i % 60)] for i in range(12000)]))
