"""`heimdall env` without servers, and what it has to know of Dagster's command lines."""

import click
import pytest
from dagster._cli import ENV_PREFIX as DAGSTER_PREFIX
from dagster._cli import cli as dagster_cli
from dagster_dg_cli.cli import ENV_PREFIX as DG_PREFIX
from dagster_dg_cli.cli import create_dg_cli
from typer.testing import CliRunner

from heimdall_pipelines.cli import app, env

ELSEWHERE = {"DEV", "RUN_MIGRATE-REPOSITORY"}  # they start or move an instance; they do not work on the running one


def commands_with(group: click.Group, option: str, *before: str) -> set[str]:
    """Commands that have the option, as their variables spell them."""
    found: set[str] = set()
    for name, command in group.commands.items():
        words = (*before, name.upper())
        if isinstance(command, click.Group):
            found |= commands_with(command, option, *words)
        elif any(parameter.name == option for parameter in command.params):
            found.add("_".join(words))
    return found


def test_every_command_that_takes_a_workspace_is_given_it():
    assert commands_with(dagster_cli, "workspace") - ELSEWHERE == set(env._WITH_WORKSPACE)


@pytest.mark.parametrize("variable", env._WITH_TARGET_PATH)
def test_dg_commands_that_are_given_the_project_take_it(variable):
    command: click.Command | None = create_dg_cli()
    for word in variable.lower().split("_"):
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)  # dg loads its commands only now
    assert any(parameter.name == "target_path" for parameter in command.params)


def test_variables_begin_as_both_command_lines_read_them(tmp_path):
    variables = env._project_options(tmp_path)
    assert all(name.startswith((f"{DAGSTER_PREFIX}_", f"{DG_PREFIX}_")) for name in variables)


@pytest.mark.parametrize("folder", ["nothing", "."])
def test_where_nothing_runs_nothing_is_printed(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("HEIMDALL_HOME", str(tmp_path / folder))
    refused = CliRunner().invoke(app, ["env"])
    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert "heimdall dev" in str(refused.exception)


def test_the_help_says_that_secrets_are_shown():
    assert "secrets" in CliRunner().invoke(app, ["env", "--help"]).output
