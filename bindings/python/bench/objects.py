"""Object churn: short-lived and long-lived objects of a few classes, with cycles."""

import random


class Node:
    __slots__ = ("left", "right", "value")

    def __init__(self, left, right, value):
        self.left, self.right, self.value = left, right, value


class Event:
    def __init__(self, name, when):
        self.name, self.when, self.seen = name, when, []


def tree(depth):
    if depth == 0:
        return Node(None, None, 1)
    return Node(tree(depth - 1), tree(depth - 1), depth)


def total(node):
    if node is None:
        return 0
    return node.value + total(node.left) + total(node.right)


dice = random.Random(1)
kept = [None] * 20000
checksum = 0
for step in range(300000):
    event = Event("event %d" % (step % 1000), step * 0.5)
    event.seen.append(event if step % 10 == 0 else step)
    kept[dice.randrange(len(kept))] = event
    checksum += len(event.name)
for _ in range(8):
    checksum += total(tree(14))
print(checksum, sum(event.when for event in kept if event))
