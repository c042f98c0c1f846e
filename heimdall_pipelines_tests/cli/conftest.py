"""The command line in this process, on servers of a deployment (HEIMDALL_PG_HOST is set)."""

import shutil
import sys
from pathlib import Path

import dagster as dg
import pytest

from heimdall_pipelines import cli
from heimdall_pipelines.receivers.stream import WaitLimits

TIMEOUT_S = 1200.0
LIMITS = WaitLimits(connect_s=TIMEOUT_S, handshake_s=TIMEOUT_S, silence_s=TIMEOUT_S, lag_s=TIMEOUT_S)


@pytest.fixture
def patient_clients(monkeypatch):
    """Clients wait for a busy machine; stations must have timeouts that are as long."""
    monkeypatch.setattr(WaitLimits, "capped_at", lambda _timeout_s: LIMITS)


@pytest.fixture(scope="session")
def _empty_dagster_home(tmp_path_factory) -> Path:
    """A folder of Dagster without any run: it takes half a second to make its databases."""
    folder = tmp_path_factory.mktemp("empty-dagster-home")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert instance.get_runs(limit=1) == []
        assert instance.all_instigator_state() == []
    return folder


@pytest.fixture
def heimdall(environment, monkeypatch, capsys, tmp_path, _empty_dagster_home):
    """Run the command line in this process; gives exit code, standard output and standard error."""
    home = shutil.copytree(_empty_dagster_home, tmp_path / "dagster")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("HEIMDALL_HOME", str(tmp_path / "home"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["heimdall", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run
