"""JSON round trips of a document of a few megabytes."""

import json
import random

dice = random.Random(2)
document = [
    {
        "id": i,
        "name": "user %d" % dice.randrange(10**6),
        "score": dice.random(),
        "tags": ["tag%d" % dice.randrange(100) for _ in range(dice.randrange(8))],
        "address": {"street": "%d Main Street" % i, "zip": str(dice.randrange(10**5))},
        "active": i % 3 == 0,
    }
    for i in range(15000)
]
length = 0
for _ in range(6):
    text = json.dumps(document)
    length += len(text)
    document = json.loads(text)
print(length, sum(len(entry["tags"]) for entry in document))
