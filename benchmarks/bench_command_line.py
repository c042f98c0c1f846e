"""How quickly the command line answers: processor time of whole processes beside `python -c pass`, in turn."""

import os
import sys
from pathlib import Path

import typer

from benchmarks.rounds import SMALL, compare
from benchmarks.stack import scratch_folder
from heimdall_pipelines.cli import app
from heimdall_pipelines.local.stack import Stack

ROUNDS = 2 if SMALL else 15
ROUNDS_OF_EVERY_HELP = 1 if SMALL else 5
LISTS = (("status",), ("dataset", "list"), ("session", "list"))
HEIMDALL = str(Path(sys.executable).with_name("heimdall"))


def processor_s(command, environment=None):
    """A function for `compare`: user and system time of one process with those that it waits for."""
    environment = os.environ if environment is None else environment
    silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]

    def seconds():
        _, _, usage = os.wait4(os.posix_spawn(command[0], command, environment, file_actions=silent), 0)
        return usage.ru_utime + usage.ru_stime

    seconds()  # files are in the page cache from now on
    return seconds


def words_of_commands(command, path=()):
    """Each command and group below this one, by its words."""
    yield path
    if isinstance(command, typer.core.TyperGroup):
        with typer.Context(command) as context:
            for name in command.list_commands(context):
                yield from words_of_commands(command.get_command(context, name), (*path, name))


def beside_pass(words, rounds, environment=None):
    """Compare `heimdall` and these words with the interpreter alone."""
    alone = processor_s([sys.executable, "-c", "pass"])
    return compare(processor_s([HEIMDALL, *words], environment), alone, rounds)


def run():
    """Measure: rows of what, how much, in which unit."""
    unit = "times python -c pass"
    yield beside_pass(("--help",), ROUNDS).row("heimdall --help", unit)
    every = {
        words: beside_pass((*words, "--help"), ROUNDS_OF_EVERY_HELP)
        for words in words_of_commands(typer.main.get_command(app))
    }
    slowest = max(every, key=lambda words: every[words].ratio)
    yield every[slowest].row(f"slowest of {len(every)} --help", f"{unit}: {' '.join(slowest)}")
    with scratch_folder() as folder, Stack(folder / "home").use():
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDALL_")}
        environment["HEIMDALL_HOME"] = str(folder / "home")
        processor_s([HEIMDALL, "dataset", "list"], environment)  # migrates
        for words in LISTS:
            yield beside_pass(words, ROUNDS, environment).row(f"heimdall {' '.join(words)}", f"{unit}, servers running")
