"""What Python does with memory: objects of many sizes, JSON, a database, threads."""
import collections
import gc
import hashlib
import json
import re
import threading
import zlib

records = [{"number": i, "name": "record %d" % i, "parts": list(range(i % 17)),
            "share": i / 7} for i in range(20000)]
text = json.dumps(records)
print("json", len(text), json.loads(text) == records)

try:
    import sqlite3
except ImportError:
    print("no sqlite3")
else:
    db = sqlite3.connect(":memory:")
    db.execute("create table words (word text, length integer)")
    db.executemany("insert into words values (?, ?)",
                   (("word%d" % (i * 7919 % 5000), i % 31) for i in range(30000)))
    db.execute("create index by_word on words (word)")
    for row in db.execute("select length, count(*), max(word) from words "
                          "group by length order by length"):
        print(row)
    db.close()

results = {}


def work(number):
    """Allocate much, and leave something for another thread to free."""
    table = collections.defaultdict(list)
    for i in range(20000):
        table["%d-%d" % (number, i % 500)].append(bytes(i % 300))
    blob = zlib.compress("".join(sorted(table)).encode() * 20)
    results[number] = (sum(len(b) for row in table.values() for b in row), blob)


for turn in range(3):
    threads = [threading.Thread(target=work, args=(turn * 4 + n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
for number in sorted(results):
    size, blob = results.pop(number)
    print("thread", number, size, hashlib.sha256(zlib.decompress(blob)).hexdigest()[:16])


class Node:
    """One of two that know each other: only the collector gets rid of them."""

    def __init__(self):
        self.other = None


for i in range(20000):
    a, b = Node(), Node()
    a.other, b.other = b, a
gc.collect()
print("words", len(re.findall(r"\brecord (\d+)", text)))
print("long", sum(int(d, 16) for d in hex(3 ** 20000)[2:]))
big = bytearray(50 * 1024 * 1024)
big[-1] = 7
print("big", len(big), big[-1])
