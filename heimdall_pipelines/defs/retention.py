"""Daily jobs that delete old sessions and old Dagster runs, each when the setting of its age in days is set."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from heimdall_pipelines.defs.outages import RUN_AGAIN_WHOLE, retried_after_outage, started_again_after_outage
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.run_retention import delete_runs_before
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.settings import ENV_PREFIX, Settings
from heimdall_pipelines.store.session_deletion import expired_sessions
from heimdall_pipelines.store.stores import Stores


@dg.op
def expire(
    context: dg.OpExecutionContext, stores: dg.ResourceParam[Stores], settings: dg.ResourceParam[Settings]
) -> None:
    """Delete old sessions one after the other; after an interruption the next run continues."""
    if settings.session_retention_days is None:
        context.log.info(_unset("session_retention_days"))
        return
    with retried_after_outage(context):
        for session in expired_sessions(stores.database, settings.session_retention_days):
            delete_session(
                stores,
                session.id,
                lambda key: context.instance.delete_dynamic_partition(RECORDING_SESSIONS, key),
                context.log.debug,
            )
            context.log.info(f"deleted: session {session.slug}")


@dg.op
def delete_old_runs(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Delete old runs one after the other; after an interruption the next run continues."""
    if settings.run_retention_days is None:
        context.log.info(_unset("run_retention_days"))
        return
    before = datetime.now(UTC) - timedelta(days=settings.run_retention_days)
    num_deleted, num_kept = delete_runs_before(context.instance, before)
    context.log.info(f"{num_deleted} runs from before {before:%Y-%m-%d} were deleted, {num_kept} are still needed")


@dg.job(
    description="Deletes sessions that were completed longer ago than HEIMDALL_SESSION_RETENTION_DAYS: rows, objects "
    "and partition. Without that variable it deletes nothing.",
    hooks={started_again_after_outage},
    tags=RUN_AGAIN_WHOLE,
)
def expire_sessions() -> None:
    """Delete old sessions."""
    expire()


@dg.job(
    description="Deletes Dagster runs older than HEIMDALL_RUN_RETENTION_DAYS with their events. Keeps runs that have "
    "the newest materialization of an asset or partition, and runs that a sensor requested for a partition that "
    "exists. Without that variable it deletes nothing.",
    hooks={started_again_after_outage},
    tags=RUN_AGAIN_WHOLE,
)
def expire_runs() -> None:
    """Delete old runs."""
    delete_old_runs()


def _daily(name: str, minute: int, job: dg.JobDefinition, setting: str, what: str) -> dg.ScheduleDefinition:
    """Build the schedule that starts a job after two o'clock where the setting of its age is set."""

    def request(settings: dg.ResourceParam[Settings]) -> dg.RunRequest | dg.SkipReason:
        return dg.SkipReason(_unset(setting)) if getattr(settings, setting) is None else dg.RunRequest()

    described = f"Deletes {what} older than {_variable(setting)}, at 2:{minute:02} UTC; off without that variable."
    decorate: Callable[..., dg.ScheduleDefinition] = dg.schedule(
        name=name,
        job=job,
        cron_schedule=f"{minute} 2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=described,
    )
    return decorate(request)


def _variable(setting: str) -> str:
    return f"{ENV_PREFIX}{setting.upper()}"


def _unset(setting: str) -> str:
    return f"{_variable(setting)} is not set: nothing is deleted"


daily_expiry = _daily("daily_expiry", 0, expire_sessions, "session_retention_days", "sessions")
daily_run_expiry = _daily("daily_run_expiry", 30, expire_runs, "run_retention_days", "Dagster runs")
