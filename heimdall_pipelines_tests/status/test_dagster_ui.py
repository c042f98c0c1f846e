"""Daemons and runs of Dagster are the same from its UI and from its instance."""

import time
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.types import DaemonHeartbeat

from heimdall_pipelines.cli.dagster_status import dagster_status
from heimdall_pipelines.status.command_process import this_process
from heimdall_pipelines.status.dagster_ui import UiAnswerError, status_of_ui
from heimdall_pipelines.status.run_tags import PROCESS_TAG
from heimdall_pipelines_tests.dagster_ui import running_ui

pytestmark = pytest.mark.programs


@pytest.mark.slow
def test_the_ui_gives_the_same_as_the_instance(tmp_path, monkeypatch):
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
        tags = {PROCESS_TAG: str(this_process()), "dagster/partition": "night__00004"}
        create_run_for_test(instance, "night", status=dg.DagsterRunStatus.STARTED, tags=tags)
    now = datetime.now(UTC)
    by_instance = dagster_status(now)
    with running_ui(tmp_path) as address:
        assert status_of_ui(address, now) == by_instance
        with pytest.raises(UiAnswerError, match="graphql: HTTPError"):
            status_of_ui(f"{address}/elsewhere", now)
    assert by_instance.runs.unfinished["queued"] == 2
    (in_progress,) = by_instance.runs.in_progress
    assert (in_progress.job, in_progress.partition) == ("night", "night__00004")
    assert in_progress.process_has_ended is False
    assert by_instance.runs.ended_last_24_h["failure"] == 2
    assert [run.partition for run in by_instance.runs.failed] == ["night__00003"]
    assert {daemon.name: daemon.is_alive for daemon in by_instance.daemons}["SENSOR"]
    with pytest.raises(UiAnswerError, match="Connection refused"):
        status_of_ui(address, now)
