"""Help that answers at once: what it loads, and that each command has one."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from heimdall_pipelines.cli import app

OWN = "heimdall_pipelines"
# Beside Python's own modules. shellingham is typer's, for the options about completion.
MAY_LOAD = {OWN, "typer", "click", "annotated_doc", "shellingham", "typing_extensions"}
# Of Python's own, those that take as long as all of typer.
TOO_SLOW = {"asyncio", "urllib.request", "multiprocessing", "email"}
LOADED = f"""
import sys
before = set(sys.modules)  # what the interpreter's start loads, such as the hooks of .pth files
from {OWN}.cli import main
sys.argv = ["heimdall", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    assert not ended.code
print("LOADED", *(set(sys.modules) - before))
"""


def commands(command, path=()):
    """Each command and group below this one, by its words."""
    yield path
    if isinstance(command, typer.core.TyperGroup):
        with typer.Context(command) as context:
            for name in command.list_commands(context):
                yield from commands(command.get_command(context, name), (*path, name))


EVERY_COMMAND = [" ".join(path) for path in commands(typer.main.get_command(app))]


def test_all_commands_are_walked():
    assert {"", "dev", "status", "dataset create", "session import", "station simulate"} <= set(EVERY_COMMAND)


@pytest.mark.parametrize("words", EVERY_COMMAND)
def test_every_command_has_help(words):
    ended = CliRunner().invoke(app, [*words.split(), "--help"], prog_name="heimdall")
    assert ended.exit_code == 0, ended.output
    assert ended.output.startswith(f"Usage: heimdall {words}".rstrip())


@pytest.mark.parametrize("words", ["", "dataset create", "session import", "station simulate", "status", "metrics"])
def test_help_loads_only_what_is_allowed(words):
    command = [sys.executable, "-c", LOADED, *words.split(), "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("Usage: heimdall")
    loaded = set(answer.stdout.splitlines()[-1].split()[1:])
    assert f"{OWN}.cli" in loaded  # the list is that of what was loaded
    tops = {name.partition(".")[0] for name in loaded}
    foreign = {name for name in tops - sys.stdlib_module_names if not name.startswith("_sysconfigdata")}
    assert foreign <= MAY_LOAD
    assert not loaded & TOO_SLOW


def test_the_list_shows_each_commands_own_first_line():
    group = typer.main.get_command(app)
    with typer.Context(group) as context:
        for name, place in group.places.items():
            assert group.get_command(context, name).get_short_help_str(limit=1000) == place.help, name


def test_an_unknown_command_is_compared_with_the_known_ones():
    ended = CliRunner().invoke(app, ["stat"])
    assert ended.exit_code == 2
    assert "No such command 'stat'. Did you mean 'status', 'station'?" in ended.output


def test_the_smallest_chunk_is_the_one_that_features_need():
    from heimdall_pipelines.model.dataset_parameters import MIN_CHUNK_MS
    from heimdall_pipelines.rf.features import MIN_CHUNK_S

    assert round(MIN_CHUNK_S * 1e3) == MIN_CHUNK_MS
