"""The sensor that fails runs which were lost on their way to a worker, on a real Redis with Celery's own messages."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest
from celery import Celery

from heimdall_pipelines.cluster import lost_runs as module
from heimdall_pipelines.cluster.heartbeat import heartbeat, heartbeats_in, is_alive
from heimdall_pipelines.cluster.lost_runs import LAUNCH_TIMEOUT, lost_runs
from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines.status.waiting_runs import QUEUE
from heimdall_pipelines_tests.dev_server import wait_for
from heimdall_pipelines_tests.redis_server import RedisServer

pytestmark = pytest.mark.programs

STARTING, FAILURE = dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.FAILURE


@dg.job
def job() -> None:
    """Do nothing."""


class Looks:
    """The sensor's ticks, each with the cursor that the one before it left."""

    def __init__(self, settings: LocalSettings, instance: dg.DagsterInstance) -> None:
        self._settings = settings
        self._instance = instance
        self._cursor: str | None = None

    def __call__(self) -> str:
        context = dg.build_sensor_context(instance=self._instance, cursor=self._cursor)
        said = lost_runs(context, settings=self._settings)
        self._cursor = said.cursor
        return said.skip_reason.skip_message

    def starting_run(self) -> str:
        return self._instance.create_run_for_job(job, status=STARTING).run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        return self._instance.get_run_by_id(run_id).status


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def celery_settings(redis) -> LocalSettings:
    return LocalSettings(run_launcher="celery", redis_url=redis.url)


@pytest.fixture
def look(celery_settings, monkeypatch) -> Iterator[Looks]:
    """Looks at runs as they are a minute after they left Dagster's queue."""
    monkeypatch.setattr(module, "LAUNCH_TIMEOUT", timedelta(minutes=-1))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Looks(celery_settings, instance)


def test_only_a_run_missing_in_two_ticks_is_lost(look, redis, celery_settings):
    lost, alive, *waiting = (look.starting_run() for _ in range(5))
    with Celery(broker=redis.url, set_as_current=False) as app:
        for run_id, priority in zip(waiting, (0, 5, 9), strict=True):  # Kombu keeps them in lists of their own
            app.send_task("execute_job", task_id=run_id, queue=QUEUE, priority=priority)
    with heartbeat(celery_settings, alive), heartbeats_in(celery_settings) as signs:
        wait_for("a sign", lambda: is_alive(signs, alive))
        assert look() == "no run is lost"
        assert look.status(lost) is STARTING
        assert look() == f"lost: {lost}"
        assert look() == "no run is lost"
    assert look.status(lost) is FAILURE
    assert {look.status(run_id) for run_id in (alive, *waiting)} == {STARTING}


def test_a_run_may_be_on_its_way_for_a_minute(look, monkeypatch):
    monkeypatch.setattr(module, "LAUNCH_TIMEOUT", LAUNCH_TIMEOUT)
    run_id = look.starting_run()
    assert [look() for _ in range(3)] == ["no run is lost"] * 3
    assert look.status(run_id) is STARTING


def test_while_redis_is_away_no_run_is_missed(look, redis):
    run_id = look.starting_run()
    assert look() == "no run is lost"
    redis.kill()
    assert "HEIMDALL_REDIS_URL" in look()
    redis.start()
    assert look() == "no run is lost"
    assert look.status(run_id) is STARTING
    assert look() == f"lost: {run_id}"


def test_runs_of_the_local_launcher_are_ignored():
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance)
        said = lost_runs(context, settings=LocalSettings(run_launcher="local"))
    assert "HEIMDALL_RUN_LAUNCHER is local" in said.skip_reason.skip_message
