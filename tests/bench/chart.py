"""Draws bars as SVG: a group for each benchmark, a bar for each allocator, in two panels.

Everything stands on whole rows of a fixed height, so that no label can meet another."""

from html import escape

BAR = 8  # the height of a bar
GAP = 9  # between groups
TITLE = 34  # the height of a section's title
LABELS = 160  # the width of the benchmarks' names
PANEL = 400  # the width of a panel up to LIMIT
NUMBERS = 56  # beside a panel, for the values that do not fit
MARGIN = 24
HEAD = 96
LIMIT = 2.5  # longer bars are cut, and say what they are
STEP = 0.5

# Colours that the colour-blind can tell apart, the one to look for darkest.
COLOURS = ("#B22222", "#56B4E9", "#009E73", "#E6A817", "#A0A0A0", "#8A5FBF", "#4D4D4D")


def text(x, y, what, size=12, anchor="start", extra=""):
    return ('<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s"%s>%s</text>'
            % (x, y, size, anchor, extra, escape(what)))


def rectangle(x, y, width, height, colour, extra=""):
    return ('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"%s/>'
            % (x, y, width, height, colour, extra))


def vertical(x, top, bottom, colour):
    return ('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>'
            % (x, top, x, bottom, colour))


def draw_legend(names, y):
    parts = []
    x = MARGIN
    for name, colour in zip(names, COLOURS):
        parts.append(rectangle(x, y - 10, 12, 12, colour))
        parts.append(text(x + 17, y, name))
        x += 17 + 8 * len(name) + 24
    return parts


def draw_panel(left, title, top, bottom):
    parts = [text(left, HEAD - 24, title, 13, extra=' font-weight="bold"')]
    for i in range(int(LIMIT / STEP) + 1):
        x = left + PANEL * i * STEP / LIMIT
        parts.append(vertical(x, top, bottom, "#666" if i * STEP == 1 else "#DDD"))
        for y in (top - 5, bottom + 14):
            parts.append(text(x, y, "%g" % (i * STEP), 11, "middle"))
    return parts


def draw_bars(left, y, values, what):
    """Bars of one group in one panel; what is missing leaves its place empty."""
    parts = []
    for i, (name, value) in enumerate(values.items()):
        top = y + i * BAR
        label = "%s, %s: %.2f" % (what, name, value)
        width = PANEL * min(value, LIMIT) / LIMIT
        parts.append(
            rectangle(left, top, width, BAR - 1, COLOURS[i % len(COLOURS)])[:-2]
            + "><title>%s</title></rect>" % escape(label))
        if value > LIMIT:
            parts.append(text(left + PANEL + 5, top + BAR - 1,
                              "%.*f" % (1 if value < 100 else 0, value), 9))
    return parts


def draw(title, names, panels, sections):
    """An SVG document. panels are their titles; a section is a title and rows, and a row
    is a name and for each panel the values by allocator, of those in names."""
    group = BAR * len(names) + GAP
    height = HEAD + sum(TITLE + group * len(rows) for _, rows in sections) + 2 * MARGIN
    width = MARGIN + LABELS + len(panels) * (PANEL + NUMBERS) + MARGIN
    bottom = height - 2 * MARGIN + 4
    lefts = [MARGIN + LABELS + i * (PANEL + NUMBERS) for i in range(len(panels))]

    parts = [rectangle(0, 0, width, height, "white")]
    parts.append(text(MARGIN, 30, title, 16, extra=' font-weight="bold"'))
    parts += draw_legend(names, 52)
    for left, panel in zip(lefts, panels):
        parts += draw_panel(left, panel, HEAD, bottom)
    y = HEAD
    for section, rows in sections:
        parts.append(text(MARGIN, y + TITLE - 12, section, 13,
                          extra=' font-weight="bold"'))
        y += TITLE
        for name, by_panel in rows:
            middle = y + BAR * len(names) / 2 + 4
            parts.append(text(MARGIN + LABELS - 10, middle, name, 12, "end"))
            for left, panel, values in zip(lefts, panels, by_panel):
                parts += draw_bars(left, y, values, "%s, %s" % (name, panel))
            y += group
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
            'viewBox="0 0 %d %d" font-family="DejaVu Sans, Arial, sans-serif" '
            'fill="#222">\n%s\n</svg>\n'
            % (width, height, width, height, "\n".join(parts)))
