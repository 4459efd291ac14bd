"""Whole programs as benchmarks: how each is run, and what it needs that has to be made.

Each prints something that must be the same with every allocator; the hash of it is the
checksum. What they work on lies in the folder programs/, or is made by a script there."""

import collections
import hashlib
import os
import resource
import shutil
import subprocess
import sys

import common

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")

# stdin is a file, or None. settings are for the environment.
Program = collections.namedtuple("Program", "name command stdin settings")

# By program, the script that makes what it works on, and the file that this becomes.
SCRIPTS = {
    "gcc": ("make_c.py", "program.c"),
    "sqlite": ("make_sql.py", "database.sql"),
}

# What could make a program do something else than its script says.
FOREIGN_SETTINGS = ("PYTHON", "PERL", "LUA", "GCC_", "COMPILER_PATH", "CPATH")


class Result:
    """What one run took."""

    def __init__(self, finished):
        self.time = finished.seconds  # of the processor
        self.memory = finished.peak_mib
        self.checksum = hashlib.sha256(finished.output).hexdigest()[:16]


def find(made):
    """The programs that are installed, by name, and why the others are left out. The
    folder is the one that make_inputs will be given."""
    def input_file(name):
        return os.path.join(FOLDER, name)

    def made_file(name):
        return os.path.join(made, SCRIPTS[name][1])

    wanted = (
        Program("gcc", ["gcc", "-w", "-O1", "-S", "-o", "-", made_file("gcc")], None, {}),
        # Python has an allocator of its own for small blocks, which is not what is to be
        # measured. Its hashes, and so its sets and dictionaries, must not be random.
        Program("python", [sys.executable, "-S", "-B", input_file("bench.py")], None,
                {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}),
        Program("perl", ["perl", input_file("bench.pl")], None,
                {"PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"}),
        Program("sqlite", ["sqlite3", "-batch", "-init", os.devnull, ":memory:"],
                made_file("sqlite"), {}),
        Program("lua", ["lua5.4", input_file("bench.lua")], None, {}),
    )
    found, missing = {}, {}
    for program in wanted:
        path = shutil.which(program.command[0])
        if path is None:
            missing[program.name] = "%s is not installed" % program.command[0]
        else:
            found[program.name] = program._replace(command=[path] + program.command[1:])
    return found, missing


def make_inputs(made, names):
    os.makedirs(made, exist_ok=True)
    for name in names:
        if name in SCRIPTS:
            script, file = SCRIPTS[name]
            with open(os.path.join(made, file), "wb") as output:
                subprocess.run([sys.executable, "-B", os.path.join(FOLDER, script)],
                               stdout=output, check=True)


def run_program(program, library):
    environment = {
        name: value for name, value in common.program_environment(library).items()
        if not name.startswith(FOREIGN_SETTINGS)}
    environment.update(program.settings, LC_ALL="C")
    with open(program.stdin or os.devnull, "rb") as stdin:
        finished = common.run_command(program.command, environment, stdin)
    # The dynamic linker goes on without a library that it cannot preload.
    if "cannot be preloaded" in finished.complaint:
        raise common.Failure(finished.complaint)
    if not finished.output:
        raise common.Failure("prints nothing")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if finished.peak_mib <= own:
        raise common.Failure("takes less memory than the %.0f MiB of this script, which "
                             "hide it" % own)
    return Result(finished)
