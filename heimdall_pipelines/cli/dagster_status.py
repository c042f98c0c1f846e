"""Daemon heartbeats and runs from Dagster's instance, for `heimdall status` if no Dagster UI gives them."""

from datetime import datetime

import dagster as dg
import dagster_postgres  # noqa: F401  # loaded here, because opening the instance, which loads it, has a timeout
from dagster._daemon.types import DaemonHeartbeat

from heimdall_pipelines.cli.dagster_instance import open_instance
from heimdall_pipelines.status.dagster_ui import (
    ENDED,
    IN_PROGRESS,
    MAX_FAILED_NAMED,
    MAX_IN_PROGRESS_NAMED,
    RECENT,
    UNFINISHED,
    DagsterStatus,
    first_line,
    run_in_progress,
)
from heimdall_pipelines.status.report import Daemon, RecentFailedRun, Runs
from heimdall_pipelines.status.run_tags import PARTITION_TAG, WILL_RETRY_TAG


def dagster_status(now: datetime) -> DagsterStatus:
    """Read the instance of DAGSTER_HOME; ages refer to the given time.

    Raises
    ------
    NoInstanceError
        It cannot be opened. Errors of its database are not converted.
    """
    with open_instance() as instance:
        return DagsterStatus(_daemons(instance, now), _runs(instance, now))


def _daemons(instance: dg.DagsterInstance, now: datetime) -> tuple[Daemon, ...]:
    heartbeats = instance.get_daemon_heartbeats()
    return tuple(_daemon(name, heartbeats.get(name), now) for name in sorted(instance.get_required_daemon_types()))


def _daemon(name: str, heartbeat: DaemonHeartbeat | None, now: datetime) -> Daemon:
    if heartbeat is None:
        return Daemon(name, None)
    age_s = max(0.0, now.timestamp() - heartbeat.timestamp)
    return Daemon(name, age_s, first_line(tuple(error.message for error in heartbeat.errors or ())))


def _runs(instance: dg.DagsterInstance, now: datetime) -> Runs:
    queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
    oldest = instance.get_run_records(queued, limit=1, ascending=True)
    failed = instance.get_run_records(_ended("FAILURE", now), limit=MAX_FAILED_NAMED)
    return Runs(
        unfinished={
            name.lower(): instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus[name]]))
            for name in UNFINISHED
        },
        ended_last_24_h={name.lower(): instance.get_runs_count(_ended(name, now)) for name in ENDED},
        oldest_queued_age_s=now.timestamp() - oldest[0].create_timestamp.timestamp() if oldest else None,
        failed=tuple(
            RecentFailedRun(
                record.dagster_run.run_id,
                record.dagster_run.job_name,
                record.dagster_run.tags.get(PARTITION_TAG),
                now.timestamp() - (record.end_time or record.update_timestamp.timestamp()),
            )
            for record in failed
            if record.dagster_run.tags.get(WILL_RETRY_TAG) != "true"
        ),
        in_progress=tuple(
            run_in_progress(
                record.dagster_run.run_id,
                record.dagster_run.job_name,
                record.dagster_run.tags,
                now.timestamp() - record.create_timestamp.timestamp(),
            )
            for record in instance.get_run_records(
                dg.RunsFilter(statuses=[dg.DagsterRunStatus[name] for name in IN_PROGRESS]), limit=MAX_IN_PROGRESS_NAMED
            )
        ),
    )


def _ended(status: str, now: datetime) -> dg.RunsFilter:
    return dg.RunsFilter(statuses=[dg.DagsterRunStatus[status]], updated_after=now - RECENT)
