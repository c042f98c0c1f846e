"""Handing runs over to Redis, beside connections that broke."""

import contextlib
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster_celery.config import TASK_EXECUTE_JOB_NAME
from dagster_celery.tasks import create_execute_job_task

from heimdall_pipelines.cluster.celery_launcher import WorkersRunLauncher
from heimdall_pipelines.cluster.heartbeat import heartbeats_in
from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines.status.waiting_runs import waiting_runs
from heimdall_pipelines_tests.redis_server import RedisServer

pytestmark = pytest.mark.programs


@dg.job
def job() -> None:
    """Do nothing."""


@pytest.fixture
def settings() -> Iterator[LocalSettings]:
    with RedisServer() as redis:
        yield LocalSettings(run_launcher="celery", redis_url=redis.url)


@pytest.fixture
def launcher(settings) -> Iterator[WorkersRunLauncher]:
    """A launcher whose pool holds connections as another thread leaves them that was sending when Redis died."""
    with dg.DagsterInstance.ephemeral() as instance:
        made = WorkersRunLauncher(settings, answer_timeout_s=0.1)
        made.register_instance(instance)
        with contextlib.suppress(AttributeError), made.celery.producer_pool.acquire(block=True) as producer:
            producer.channel.connection = None  # where nothing is kept, closing it raises, and that is the end of it
        yield made


def test_a_run_is_handed_over_all_the_same(launcher, settings):
    run = launcher._instance.create_run_for_job(job)
    task = create_execute_job_task(launcher.celery).si(execute_job_args_packed={})
    launcher._launch_celery_task_run(run, task, TASK_EXECUTE_JOB_NAME)
    with heartbeats_in(settings) as client:
        assert waiting_runs(client) == {run.run_id}


def test_workers_are_asked_for_a_run_all_the_same(launcher):
    run = launcher._instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_a_run_is_cancelled_all_the_same(launcher):
    run_id = launcher._instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING).run_id
    assert launcher.terminate(run_id)
    assert launcher._instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.CANCELED
