"""How quickly the command line answers: processor time of whole processes beside `python -c pass`, in turn."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from benchmarks.rounds import SMALL, compare
from benchmarks.stack import scratch_folder
from heimdall_pipelines.cli import app
from heimdall_pipelines.local.ports import free_port

ROUNDS = 2 if SMALL else 15
ROUNDS_OF_EVERY_HELP = 1 if SMALL else 5
UI_PORTS = range(24_300, 24_400)
END_TIMEOUT_S = 120.0
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


@contextmanager
def running_dev(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run `heimdall dev`; enters when its UI answers, and terminates it at the end."""
    command = [HEIMDALL, "dev", "--port", str(free_port(None, UI_PORTS))]
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as dev:
        try:
            assert dev.stdout is not None
            if not any("Dagster UI: " in line for line in dev.stdout):
                raise RuntimeError(f"heimdall dev ended with {dev.wait()} before its UI answered")
            yield
        finally:
            dev.terminate()
            dev.communicate(timeout=END_TIMEOUT_S)


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
    with scratch_folder() as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDALL_")}
        environment["HEIMDALL_HOME"] = str(folder / "home")
        with running_dev(folder, environment):
            for words in LISTS:
                compared = beside_pass(words, ROUNDS, environment)
                yield compared.row(f"heimdall {' '.join(words)}", f"{unit}, heimdall dev running")
