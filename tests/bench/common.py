"""What the benchmark scripts share: finding programs and libraries, running them by
turns, medians of ratios, and tables."""

import collections
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading

MIRT_FILE = "libmirt-malloc.so"
LIBRARY_FOLDERS = ("", ".libs", "runtime/.libs", "runtime/malloc/.libs", "lib")
MIMALLOC = "mimalloc"
PEERS = {
    MIMALLOC: "libmimalloc.so.2",
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}
GLIBC = "glibc"  # what the program has when nothing is preloaded

TIMEOUT_SECONDS = 120


class Failure(Exception):
    """A run of a program that must not count."""


# Finding programs and libraries


def default_build():
    here = os.path.dirname(os.path.abspath(__file__))
    return [os.getcwd(), os.path.dirname(os.path.dirname(here))]


def find_file(name, directories, folders):
    for directory in directories:
        for folder in folders:
            path = os.path.join(directory, folder, name)
            if os.path.isfile(path):
                return os.path.abspath(path)
    return None


def choose_file(given, name, directories, folders):
    """The file given, or the one of this name in a build tree; ends the script if there
    is none."""
    path = given or find_file(name, directories, folders)
    if path is None:
        stop("no %s below %s" % (name, ", ".join(directories)))
    if not os.path.isfile(path):
        stop("%s: no such file" % path)
    return os.path.abspath(path)


def machine_kind(path):
    """The bytes of an ELF header that say which machine a file is for."""
    with open(path, "rb") as file:
        header = file.read(20)
    return header[4:6] + header[18:20]


def cached_libraries():
    """Pairs of name and path from the dynamic linker's cache."""
    for command in ("ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"):
        try:
            output = subprocess.run(
                [command, "-p"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ).stdout
        except OSError:
            continue
        return re.findall(r"^\s*(\S+) \(.*\) => (\S.*)$", output, re.MULTILINE)
    return []


def find_peers(program):
    """Maps each peer to its library, or to None where it is not installed."""
    kind = machine_kind(program)
    found = dict.fromkeys(PEERS)
    for name, path in cached_libraries():
        for peer, wanted in PEERS.items():
            if name == wanted and found[peer] is None and os.path.isfile(path):
                # A system may also have the libraries of another machine.
                if machine_kind(path) == kind:
                    found[peer] = path
    return found


# Running


Finished = collections.namedtuple("Finished", "output complaint seconds peak_mib")


def program_environment(library):
    environment = dict(os.environ)
    environment.pop("LD_PRELOAD", None)
    if library is not None:
        environment["LD_PRELOAD"] = library
    return environment


def run_command(command, environment=None, stdin=subprocess.DEVNULL,
                timeout=TIMEOUT_SECONDS):
    """What a command printed and said on stderr, the processor time that it and its
    children took, and the peak resident memory of the largest of these processes. A
    process counts from its fork on, so the peak is never below that of this script."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaint:
        try:
            # A session of its own, so that its children can be ended with it.
            process = subprocess.Popen(
                command, env=environment, stdin=stdin, stdout=output, stderr=complaint,
                start_new_session=True)
        except OSError as error:
            raise Failure("cannot be run: %s" % error)
        late = threading.Event()

        def end():
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(timeout, end)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        complaint.seek(0)
        said = " ".join(complaint.read().decode(errors="replace").split())
        if late.is_set():
            raise Failure("does not end within %d seconds" % timeout)
        if process.returncode != 0:
            how = ("killed by signal %d" % -process.returncode if process.returncode < 0
                   else "exit status %d" % process.returncode)
            raise Failure("%s (%s)" % (how, said[-500:]) if said else how)
        return Finished(output.read(), said, usage.ru_utime + usage.ru_stime,
                        usage.ru_maxrss / 1024)


def run_figures(command):
    """What a program prints with print_figure: by name, the unit and the value."""
    figures = {}
    for line in run_command(command).output.decode().splitlines():
        name, unit, value = line.split("\t")
        figures[name] = unit, float(value)
    return figures


def list_names(program):
    """What a program with an option --list can run."""
    return run_command([program, "--list"], program_environment(None)).output.decode(
    ).split()


def choose_names(names, only, what):
    """The names that were asked for; ends the script if one does not exist."""
    for name in only or []:
        if name not in names:
            stop("no %s %s; there are: %s" % (what, name, ", ".join(names)))
    return [name for name in names if not only or name in only]


def measure(plan, rounds, run_once):
    """Runs everything. The plan has, by benchmark and contestant, what to give run_once
    after the names of the two. Gives the results by benchmark and contestant, one for
    each round, and the failures by benchmark; one that fails is not run again.

    Rounds are the outermost loop and contestants the innermost, so that the runs to be
    compared lie close together in time, and each round starts with another contestant.
    """
    results = {benchmark: {name: [] for name in plan[benchmark]} for benchmark in plan}
    failures = {}
    for number in range(rounds):
        for benchmark, by_name in plan.items():
            names = list(by_name)
            first = number % max(1, len(names))
            for name in names[first:] + names[:first]:
                if benchmark in failures:
                    break
                progress("round %d of %d: %s, %s" % (number + 1, rounds, benchmark, name))
                try:
                    result = run_once(benchmark, name, by_name[name])
                    results[benchmark][name].append(result)
                except Failure as failure:
                    failures[benchmark] = "with %s: %s" % (name, failure)
    progress("")
    return results, failures


def print_failures(failures):
    for benchmark, failure in failures.items():
        print("FAILED %s: %s" % (benchmark, failure))


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text)
        sys.stderr.flush()


# Numbers


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def round_ratios(first, second):
    """The ratio of each round: what ran side by side is compared."""
    return [a / b for a, b in zip(first, second) if b != 0]


def quartile_spread(values):
    """From the first to the third quartile, in percent of the median."""
    if len(values) < 2:
        return 0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return 100 * (high - low) / middle


def table(heading, rows):
    """Lines of a table in Markdown, with columns that are also straight as text."""
    lines = [heading] + rows
    widths = [max(len(row[i]) for row in lines) for i in range(len(heading))]

    def line(cells):
        first, *others = zip(cells, widths)
        return "| %s |" % " | ".join(
            [first[0].ljust(first[1])] + [text.rjust(width) for text, width in others])

    rule = "|".join("-" * (width + 1) + (":" if i else "-")
                    for i, width in enumerate(widths))
    return [line(heading), "|%s|" % rule] + [line(row) for row in rows]


# The command line


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def stop(message):
    sys.exit("%s: %s" % (os.path.basename(sys.argv[0]), message))
