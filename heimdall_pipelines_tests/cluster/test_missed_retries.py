"""Failures that Dagster's daemon has overlooked are reported once more."""

from datetime import timedelta

import dagster as dg
import pytest

from heimdall_pipelines.cluster import missed_retries
from heimdall_pipelines.cluster.missed_retries import report_missed_retries
from heimdall_pipelines.status.run_tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

FAILURE = dg.DagsterRunStatus.FAILURE
WITH_RETRIES = {"run_retries": {"enabled": True, "max_retries": 1}}


@dg.job
def job() -> None:
    """Do nothing."""


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral(settings=WITH_RETRIES) as made:
        yield made


@pytest.fixture
def _a_minute_later(monkeypatch):
    monkeypatch.setattr(missed_retries, "RETRY_TIMEOUT", timedelta(minutes=-1))


def failed_run(instance, **tags: str) -> str:
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING, tags=tags)
    instance.report_run_failed(run, "its process died")
    return run.run_id


def last_failure(instance) -> int:
    """Id of the last failure: the daemon reads those after the last one that it has seen."""
    found = instance.event_log_storage.get_logs_for_all_runs_by_log_id(
        dagster_event_type=dg.DagsterEventType.RUN_FAILURE
    )
    return max(found)


@pytest.mark.usefixtures("_a_minute_later")
def test_a_failure_without_its_retry_is_reported_again_and_only_once(instance):
    run_id = failed_run(instance)
    assert instance.get_run_by_id(run_id).tags[WILL_RETRY_TAG] == "true"
    seen = last_failure(instance)
    assert report_missed_retries(instance) == [run_id]
    assert last_failure(instance) > seen
    assert instance.get_run_by_id(run_id).status is FAILURE
    assert report_missed_retries(instance) == []


@pytest.mark.usefixtures("_a_minute_later")
def test_failures_that_are_retried_or_need_no_retry_are_not_reported_again(instance):
    failed_run(instance, **{AUTO_RETRY_RUN_ID_TAG: "of its second run"})
    failed_run(instance, **{"dagster/max_retries": "0"})
    assert report_missed_retries(instance) == []


def test_the_daemon_has_a_minute_to_retry(instance):
    failed_run(instance)
    assert report_missed_retries(instance) == []
