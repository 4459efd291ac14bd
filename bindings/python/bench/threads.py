"""Threads hand batches of objects to each other through queues."""

import queue
import threading

BATCHES = 1500
stages = [queue.Queue(8) for _ in range(3)]
results = []


def produce():
    for number in range(BATCHES):
        stages[0].put([(number, i, str(i)) for i in range(600)])
    stages[0].put(None)


def transform(source, sink):
    while (batch := source.get()) is not None:
        sink.put([{"number": n, "text": text * 3, "index": i} for n, i, text in map(unpack, batch)])
    sink.put(None)


def unpack(item):
    return item if isinstance(item, tuple) else (item["number"], item["index"], item["text"][:9])


def consume():
    total = 0
    while (batch := stages[2].get()) is not None:
        total += sum(len(item["text"]) for item in batch)
    results.append(total)


threads = [
    threading.Thread(target=produce),
    threading.Thread(target=transform, args=(stages[0], stages[1])),
    threading.Thread(target=transform, args=(stages[1], stages[2])),
    threading.Thread(target=consume),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(results)
