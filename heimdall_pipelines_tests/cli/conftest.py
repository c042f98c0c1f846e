"""The command line in this process, on servers of a deployment (HEIMDALL_PG_HOST is set)."""

import sys

import pytest

from heimdall_pipelines import cli
from heimdall_pipelines.receivers.stream import WaitLimits

TIMEOUT_S = 1200.0
LIMITS = WaitLimits(connect_s=TIMEOUT_S, handshake_s=TIMEOUT_S, silence_s=TIMEOUT_S, lag_s=TIMEOUT_S)


@pytest.fixture
def patient_clients(monkeypatch):
    """Clients wait for a busy machine; stations must have timeouts that are as long."""
    monkeypatch.setattr(WaitLimits, "capped_at", lambda _timeout_s: LIMITS)


@pytest.fixture
def heimdall(environment, monkeypatch, capsys, tmp_path):
    """Run the command line in this process; gives exit code, standard output and standard error."""
    home = tmp_path / "dagster"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("HEIMDALL_HOME", str(tmp_path / "home"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["heimdall", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run
