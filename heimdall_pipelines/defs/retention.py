"""Deletes sessions that are older than HEIMDALL_SESSION_RETENTION_DAYS, with rows, objects and partition."""

import dagster as dg

from heimdall_pipelines.defs.outages import RUN_AGAIN_WHOLE, retried_after_outage, started_again_after_outage
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.session_deletion import expired_sessions
from heimdall_pipelines.store.stores import Stores


@dg.op
def expire(
    context: dg.OpExecutionContext, stores: dg.ResourceParam[Stores], settings: dg.ResourceParam[Settings]
) -> None:
    """Delete them one after the other; after an interruption the next run continues."""
    if settings.session_retention_days is None:
        context.log.info("HEIMDALL_SESSION_RETENTION_DAYS is not set: no session is deleted")
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


@dg.job(
    description="Deletes sessions that were completed longer ago than HEIMDALL_SESSION_RETENTION_DAYS: rows, objects "
    "and partition. Without that variable it deletes nothing.",
    hooks={started_again_after_outage},
    tags=RUN_AGAIN_WHOLE,
)
def expire_sessions() -> None:
    """Delete old sessions."""
    expire()


@dg.schedule(
    job=expire_sessions,
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Deletes sessions older than HEIMDALL_SESSION_RETENTION_DAYS, at 2:00 UTC; off without that variable.",
)
def daily_expiry(settings: dg.ResourceParam[Settings]) -> dg.RunRequest | dg.SkipReason:
    """Request a run if a retention is set."""
    if settings.session_retention_days is None:
        return dg.SkipReason("HEIMDALL_SESSION_RETENTION_DAYS is not set: no session is deleted")
    return dg.RunRequest()
