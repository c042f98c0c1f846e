"""Runs that fail because Dagster's own tables are out of reach are started once more; others are not."""

import dagster as dg
import pytest
import sqlalchemy
from dagster_postgres.utils import retry_pg_connection_fn

from heimdall_pipelines.defs.outages import RETRY_TAG, started_again_after_outage
from heimdall_pipelines.defs.recorded import extract_recorded_session
from heimdall_pipelines.defs.synthetic import make_synthetic_batches, summarise_synthetic_dataset
from heimdall_pipelines.local.ports import LOOPBACK, free_port


def engine() -> sqlalchemy.Engine:
    nobody = free_port(None, range(25_000, 32_000))
    return sqlalchemy.create_engine(f"postgresql+psycopg2://nobody@{LOOPBACK}:{nobody}/dagster")


def cannot_connect() -> None:
    engine().connect()


def cannot_connect_as_dagster_does() -> None:
    retry_pg_connection_fn(engine().connect, retry_limit=0)


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


def test_runs_that_a_sensor_requests_only_once_are_among_them():
    for job in (extract_recorded_session, make_synthetic_batches, summarise_synthetic_dataset):
        assert started_again_after_outage in job.hooks
