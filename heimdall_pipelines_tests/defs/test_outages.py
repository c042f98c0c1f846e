"""Steps outlast outages; runs that fail because Dagster's own tables are out of reach are started once more."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.definitions.dependency import NodeHandle
from dagster_postgres.utils import retry_pg_connection_fn

from heimdall_pipelines.definitions import definitions
from heimdall_pipelines.defs import outages
from heimdall_pipelines.defs.outages import RETRY_TAG, retried_after_outage, started_again_after_outage
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.local.ports import LOOPBACK


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.longest_sleep_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.longest_sleep_s = max(self.longest_sleep_s, seconds)


@pytest.mark.parametrize(("away_s", "succeeds"), [(5, True), (90, True), (600, True), (3600, False)])
def test_a_step_outlasts_ten_minutes_of_an_outage_and_goes_on_within_one(monkeypatch, away_s, succeeds):
    clock = Clock()
    monkeypatch.setattr(outages, "time", clock)

    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        with retried_after_outage(context):
            if clock.now_s < away_s:
                raise UnavailableError("the server is away")

    @dg.job
    def job() -> None:
        step()

    assert job.execute_in_process(raise_on_error=False).success is succeeds
    assert clock.longest_sleep_s <= 60
    if succeeds:
        assert clock.now_s <= away_s + 60


@contextmanager
def engine() -> Iterator[sqlalchemy.Engine]:
    """Engine of an unavailable server: its port is reserved, but nothing listens on it."""
    with socket.socket() as silent:
        silent.bind((LOOPBACK, 0))
        yield sqlalchemy.create_engine(f"postgresql+psycopg2://stranger@{LOOPBACK}:{silent.getsockname()[1]}/dagster")


def cannot_connect() -> None:
    with engine() as away:
        away.connect()


def cannot_connect_as_dagster_does() -> None:
    with engine() as away:
        retry_pg_connection_fn(away.connect, retry_limit=0)


def fails_by_itself() -> None:
    raise ValueError("it would only fail again")


@pytest.mark.parametrize(
    ("fail", "is_tagged"), [(cannot_connect, True), (cannot_connect_as_dagster_does, True), (fails_by_itself, False)]
)
def test_a_step_that_lost_dagsters_tables_has_its_run_started_again(fail, is_tagged):
    @dg.op
    def step() -> None:
        fail()

    @dg.job(hooks={started_again_after_outage})
    def job() -> None:
        step()

    with dg.DagsterInstance.ephemeral() as instance:
        ended = job.execute_in_process(instance=instance, raise_on_error=False)
        assert instance.get_run_by_id(ended.run_id).tags.get(RETRY_TAG) == ("true" if is_tagged else None)


def test_every_step_is_among_them_in_whichever_job_but_the_recording():
    for job in definitions.get_repository_def().get_all_jobs():
        for node in job.nodes:
            hooks = job.get_all_hooks_for_handle(NodeHandle(node.name, None))
            assert (started_again_after_outage in hooks) == (node.name != "record"), (job.name, node.name)
