"""Dagster's storage says in two lines what its environment lacks; servers that are down: test_dagster_commands.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dagster._serdes import ConfigurableClassData

from heimdall_pipelines.cluster.instance_storage import InstanceStorageError
from heimdall_pipelines_tests import PROJECT_FOLDER

VARIABLES = {
    "HEIMDALL_PG_HOST": "127.0.0.1",
    "HEIMDALL_PG_PORT": "5432",
    "HEIMDALL_PG_USER": "heimdall",
    "HEIMDALL_PG_PASSWORD": "secret",
    "HEIMDALL_PG_DAGSTER_DATABASE": "dagster",
}


@pytest.fixture
def variables(monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def message_of(storage: ConfigurableClassData) -> str:
    with pytest.raises(InstanceStorageError) as raised:
        storage.rehydrate()
    return raised.value.message


@pytest.fixture
def storage() -> ConfigurableClassData:
    """The storage of the project's dagster.yaml."""
    chosen = yaml.safe_load((PROJECT_FOLDER / "dagster.yaml").read_text())["storage"]["custom"]
    return ConfigurableClassData(chosen["module"], chosen["class"], yaml.safe_dump(chosen["config"]))


@pytest.mark.parametrize("missing", VARIABLES)
def test_a_variable_that_is_not_set_is_named_with_what_sets_it(variables, storage, missing):
    variables.delenv(missing)
    message = message_of(storage)
    assert f" {missing} is not set" in message
    assert 'eval "$(heimdall env)"' in message
    assert not any(name in message for name in VARIABLES if name != missing)


def test_without_any_variable_all_are_named_in_two_lines(variables, storage):
    for name in VARIABLES:
        variables.delenv(name)
    message = message_of(storage)
    assert all(name in message for name in VARIABLES)
    assert len(message.splitlines()) == 2


def test_a_value_that_is_no_port_is_named_without_a_traceback(variables, storage):
    variables.setenv("HEIMDALL_PG_PORT", "many")
    message = message_of(storage)
    assert "HEIMDALL_PG_PORT" in message
    assert "Stack Trace" not in message


@pytest.mark.slow
def test_a_command_of_dagster_in_a_shell_without_the_environment_ends_in_two_lines(tmp_path: Path):
    """As after a fresh start of a shell in the project's folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
    variables = {"PATH": path, "HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path)}
    (tmp_path / "dagster.yaml").write_bytes((PROJECT_FOLDER / "dagster.yaml").read_bytes())
    refused = subprocess.run(
        ["dg", "list", "defs"], cwd=PROJECT_FOLDER, env=variables, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert len(refused.stderr.strip().splitlines()) == 2, refused.stderr
    assert "HEIMDALL_PG_HOST" in refused.stderr
