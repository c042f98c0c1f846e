"""Dagster's daemon and runs, by its UI and from its instance: both say the same."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.types import DaemonHeartbeat

from heimdall_pipelines.cli.dagster_status import dagster_status
from heimdall_pipelines.status.dagster_ui import UiAnswerError, status_of_ui
from heimdall_pipelines_tests.held_port import held_port
from heimdall_pipelines_tests.waiting import wait_for

pytestmark = pytest.mark.programs


@contextmanager
def running_ui(folder):
    """A Dagster UI without a code location, on the instance of DAGSTER_HOME; gives its address."""
    port = held_port()
    command = ["dagster_webserver", "--empty-workspace", "-h", "127.0.0.1", "-p", str(port)]
    with (folder / "ui.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=os.environ
        )
        try:

            def answers():
                assert process.poll() is None, (folder / "ui.log").read_text()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info"):
                        return True
                except urllib.error.URLError:
                    return False

            wait_for("the UI", answers)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def test_the_ui_says_what_the_instance_says(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))

    @dg.op
    def fail():
        raise ValueError("no")

    @dg.job
    def night():
        fail()

    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("nowhere"), "nothing")
    origin = RemoteJobOrigin(repository, "night")
    with dg.DagsterInstance.get() as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SENSOR", "test", None))
        night.execute_in_process(instance=instance, raise_on_error=False, tags={"dagster/partition": "night__00003"})
        night.execute_in_process(instance=instance, raise_on_error=False, tags={"dagster/will_retry": "true"})
        for _ in range(2):
            create_run_for_test(instance, "night", status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin)
    now = datetime.now(UTC)
    by_instance = dagster_status(now)
    with running_ui(tmp_path) as address:
        assert status_of_ui(address, now) == by_instance
        with pytest.raises(UiAnswerError, match="graphql: HTTPError"):
            status_of_ui(f"{address}/elsewhere", now)
    assert by_instance.runs.unfinished["queued"] == 2
    assert by_instance.runs.ended_last_24_h["failure"] == 2
    assert [run.partition for run in by_instance.runs.failed] == ["night__00003"]
    assert {daemon.name: daemon.is_alive for daemon in by_instance.daemons}["SENSOR"]
    with pytest.raises(UiAnswerError, match="Connection refused"):
        status_of_ui(address, now)
