"""What `make bench` found, as text in Markdown and as a chart.

A ratio is that of two runs of the same round, and its median over the rounds is what the
tables have: what slows the machine for a while slows both."""

import datetime
import os
import platform
import re
import shlex
import statistics
import subprocess

import chart
import common

MIRT = "mirt"

# What is measured: an attribute of the results, and what it is called.
FIGURES = (("time", "Time"), ("memory", "Peak memory"))


class Section:
    """Benchmarks of one kind, with their results by benchmark and allocator."""

    def __init__(self, title, unit, places, results, failures):
        self.title = title
        self.unit = unit
        self.places = places
        self.results = results
        self.failures = {name: failures[name] for name in results if name in failures}

    def good(self):
        return {name: runs for name, runs in self.results.items()
                if name not in self.failures}


def values(runs, figure):
    return [getattr(run, figure) for run in runs]


def ratios(by_name, first, second, figure):
    return common.round_ratios(
        values(by_name[first], figure), values(by_name[second], figure))


def median_ratio(by_name, first, second, figure):
    return statistics.median(ratios(by_name, first, second, figure))


def mean_ratio(section, first, second, figure):
    return common.geometric_mean(
        median_ratio(by_name, first, second, figure)
        for by_name in section.good().values())


# Where it was measured


def first_line(command):
    """The first line that a command prints, or None if it cannot be run."""
    environment = dict(os.environ, GIT_OPTIONAL_LOCKS="0", LC_ALL="C")
    try:
        lines = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True, env=environment).stdout.splitlines()
    except OSError:
        return None
    return lines[0].strip() if lines else None


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            found = re.search(r"^model name\s*: (.*)", file.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.machine()


def memory_gib():
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)


def package_version(path):
    """The version of the package that a file belongs to; else the name of the file."""
    real = os.path.realpath(path)
    # The package may know the file by its place before /lib was merged into /usr/lib.
    for name in (real, real[4:]):
        owner = name.startswith(("/usr/", "/lib")) and first_line(
            ["dpkg-query", "-S", name])
        if owner:
            package = owner.rsplit(": ", 1)[0].split(",")[0]
            return first_line(["dpkg-query", "-W", "-f", "${Version}\n", package])
    return os.path.basename(real)


def peer_text(name, library):
    if library is None:
        return "%s %s" % (name, platform.libc_ver()[1])
    return "%s %s" % (name, package_version(library))


def commit():
    here = os.path.dirname(os.path.abspath(__file__))
    git = ["git", "-C", here]
    name = first_line(git + ["rev-parse", "--short", "HEAD"])
    if name is None:
        return "not from a git tree"
    changed = first_line(git + ["diff", "--name-only", "HEAD", "--", ":/"])
    return "commit %s%s" % (name, ", with changes" if changed else "")


def setting_lines(allocators, rounds, load):
    compiler = shlex.split(os.environ.get("CC", "cc"))
    peers = [peer_text(name, library) for name, library in allocators.items()
             if name != MIRT]
    return [
        "%s, %d cores, %.0f GiB; Linux %s; %s;" % (
            processor(), os.cpu_count() or 1, memory_gib(), platform.release(),
            first_line(compiler + ["--version"]) or "unknown compiler"),
        "mirt: %s; peers: %s;" % (commit(), ", ".join(peers) or "none"),
        "medians of %d rounds; load %.1f before and %.1f after; %s." % (
            rounds, load, os.getloadavg()[0], datetime.date.today().isoformat())]


# The tables


def ratio_cell(numbers):
    return "%.2f (%.0f%%)" % (statistics.median(numbers), common.quartile_spread(numbers))


def ratio_table(section, peers, figure):
    rows = []
    for name, by_name in section.results.items():
        cells = ["failed"] * len(peers)
        if name not in section.failures:
            cells = [ratio_cell(ratios(by_name, MIRT, peer, figure)) for peer in peers]
        rows.append([name] + cells)
    if section.good():
        rows.append(["geometric mean"] + [
            "%.2f     " % mean_ratio(section, MIRT, peer, figure) for peer in peers])
    return common.table(["mirt divided by"] + peers, rows)


def absolute_table(section, names, figure, benchmarks):
    unit = section.unit if figure == "time" else "MiB"
    places = section.places if figure == "time" else 1
    rows = []
    for name, by_name in benchmarks.items():
        cells = ["failed"] * len(names)
        if name not in section.failures:
            medians = (statistics.median(values(by_name[allocator], figure))
                       for allocator in names)
            cells = ["%.*f" % (places, median) for median in medians]
        rows.append([name] + cells)
    return common.table([unit] + names, rows)


def mean_table(sections, peers):
    rows = [
        ["%s: %s" % (section.title.lower(), title.lower())]
        + ["%.2f" % mean_ratio(section, MIRT, peer, figure) for peer in peers]
        for section in sections if section.good() for figure, title in FIGURES]
    return common.table(["geometric mean of mirt divided by"] + peers, rows)


def section_lines(section, names, peers):
    lines = ["## " + section.title, ""]
    for figure, title in FIGURES:
        if peers:
            lines += ["%s, mirt divided by each peer:" % title, ""]
            lines += ratio_table(section, peers, figure) + [""]
        lines += ["%s, medians:" % title, ""]
        lines += absolute_table(section, names, figure, section.results) + [""]
    # Some benchmarks also say what was resident when most had been freed.
    final = {name: by_name for name, by_name in section.good().items()
             if all(hasattr(run, "final") for runs in by_name.values() for run in runs)}
    if final:
        lines += ["Resident memory at the end, medians:", ""]
        lines += absolute_table(section, names, "final", final) + [""]
    return lines


def make_text(sections, allocators, rounds, missing, load):
    """The report. missing has, by what was left out, the reason."""
    names = list(allocators)
    peers = [name for name in names if name != MIRT]
    failures = {name: text for section in sections
                for name, text in section.failures.items()}
    lines = ["# mirt beside other allocators", ""]
    lines += setting_lines(allocators, rounds, load) + [""]
    lines += ["- %s is left out: %s" % (name, reason) for name, reason in missing.items()]
    lines += [""] if missing else []
    if failures:
        lines += ["Failed, and left out of the means:", ""]
        lines += ["- FAILED %s: %s" % (name, text) for name, text in failures.items()]
        lines += [""]
    if peers and any(section.good() for section in sections):
        lines += ["Below 1.00 mirt is faster, or smaller. A ratio is the median of those",
                  "of the rounds; in brackets, the distance of its quartiles in percent.",
                  ""]
        lines += mean_table(sections, peers) + [""]
    for section in sections:
        lines += section_lines(section, names, peers)
    return "\n".join(lines)


# The chart


def make_chart(sections, allocators):
    names = list(allocators)
    base = common.MIMALLOC if common.MIMALLOC in names else names[-1]
    drawn = []
    for section in sections:
        if not section.good():
            continue
        rows = [(name, [{other: median_ratio(by_name, other, base, figure)
                         for other in names} for figure, _ in FIGURES])
                for name, by_name in section.good().items()]
        rows.append(("geometric mean", [
            {other: mean_ratio(section, other, base, figure) for other in names}
            for figure, _ in FIGURES]))
        drawn.append((section.title, rows))
    panels = ["%s, %s = 1, less is better" % (title, base) for _, title in FIGURES]
    return chart.draw("mirt beside other allocators", names, panels, drawn)


def write(folder, text, drawing):
    os.makedirs(folder, exist_ok=True)
    for name, content in (("report.md", text), ("report.svg", drawing)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(content)
