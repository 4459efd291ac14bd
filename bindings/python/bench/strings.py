"""Building strings: joins, formats, slices, replacements, words of a text."""

import random

dice = random.Random(3)
words = ["word%d" % dice.randrange(5000) for _ in range(60000)]
length = 0
for step in range(8):
    text = " ".join(words)
    upper = [word.upper() + str(step) for word in text.split(" ")]
    lines = ["%s=%r;" % (a, b) for a, b in zip(words, upper)]
    body = "\n".join(lines)
    length += len(body.replace("word", "w").encode().decode())
    grown = ""
    for line in lines[:20000]:
        grown += line
    length += len(grown)
    pieces = [body[i : i + 37] for i in range(0, len(body), 29)]
    length += len("".join(reversed(pieces)))
print(length, len({piece for piece in upper}))
