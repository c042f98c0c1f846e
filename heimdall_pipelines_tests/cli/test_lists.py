"""`status`, `dataset list` and `session list`: what they load, and how they handle the schema of another version."""

import os
import subprocess
import sys

import pytest

from heimdall_pipelines_tests.cli.test_help import LOADED
from heimdall_pipelines_tests.dagster_ui import running_ui
from heimdall_pipelines_tests.datasets.support import add, execute

# Each takes longer to load than the command may take.
TOO_SLOW = {"alembic", "dagster", "minio", "numpy", "pydantic_settings", "pyproj", "scipy", "sqlalchemy"}
LISTS = (("dataset", "list"), ("session", "list"))


def loaded_by(*words):
    """Output of a command that ends with 0, and the modules that it loads."""
    command = [sys.executable, "-c", LOADED, *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    printed, _, modules = answer.stdout.rpartition("LOADED")
    return printed, {name.partition(".")[0] for name in modules.split()}


@pytest.mark.programs
@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_lists_load_no_heavy_module(stores, environment, words):
    add(stores, "night", 4, batch_size=2)
    printed, modules = loaded_by(*words)
    assert "psycopg2" in modules  # the list is that of what was loaded
    assert not modules & TOO_SLOW
    if words == ("dataset", "list"):
        assert "night" in printed
        assert "2 of 2" in printed


@pytest.mark.slow
@pytest.mark.programs
def test_status_loads_no_heavy_module_while_the_ui_runs(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with running_ui(tmp_path) as address:
        command = [sys.executable, "-c", LOADED.replace("assert not ended.code", "assert ended.code == 1"), "status"]
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"HEIMDALL_UI_URL": address}
        )
    printed, _, modules = answer.stdout.rpartition("LOADED")
    assert "no heartbeat of the Dagster daemon" in printed
    assert "0 queued, 0 starting, 0 started, 0 canceling" in printed
    assert "Not read" not in printed
    assert not {name.partition(".")[0] for name in modules.split()} & TOO_SLOW


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_a_newer_schema_is_refused_with_what_to_do(heimdall, stores, words):
    execute(stores, "UPDATE heimdall.schema_version SET version_num = '9999'")
    code, _, error = heimdall(*words)
    assert code == 1
    assert "has schema revision 9999, newer than the " in error
    assert "update heimdall-pipelines" in error


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_a_list_creates_a_missing_schema(heimdall, stores, words):
    execute(stores, "DROP SCHEMA heimdall CASCADE")
    assert heimdall(*words)[0] == 0
