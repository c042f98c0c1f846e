"""Deletes old Dagster runs with their events, but keeps those that the state of assets and the sensors depend on."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import dagster as dg

from heimdall_pipelines.defs.outages import RUN_AGAIN_WHOLE, started_again_after_outage
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS, SYNTHETIC_BATCHES, SYNTHETIC_DATASETS
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.status.run_tags import PARTITION_TAG, RUN_KEY_TAG

_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_PAGE = 200


@dg.op
def delete_old_runs(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Delete them one after the other; after an interruption the next run continues."""
    if settings.run_retention_days is None:
        context.log.info("HEIMDALL_RUN_RETENTION_DAYS is not set: runs and their events are kept")
        return
    before = datetime.now(UTC) - timedelta(days=settings.run_retention_days)
    num_deleted, num_kept = delete_runs_before(context.instance, before)
    context.log.info(f"{num_deleted} runs from before {before:%Y-%m-%d} were deleted, {num_kept} are still needed")


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


@dg.schedule(
    job=expire_runs,
    cron_schedule="30 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Deletes Dagster runs older than HEIMDALL_RUN_RETENTION_DAYS, at 2:30 UTC; off without that variable.",
)
def daily_run_expiry(settings: dg.ResourceParam[Settings]) -> dg.RunRequest | dg.SkipReason:
    """Request a run if a retention is set."""
    if settings.run_retention_days is None:
        return dg.SkipReason("HEIMDALL_RUN_RETENTION_DAYS is not set: runs and their events are kept")
    return dg.RunRequest()


def delete_runs_before(instance: dg.DagsterInstance, before: datetime) -> tuple[int, int]:
    """Delete finished runs that were created before a moment and that nothing depends on.

    A run is kept when it has the newest materialization of an asset or of a partition that exists: the UI and Dagster's
    partition states show that one. It is kept as well when a sensor requested it for a partition that exists: without
    the run and its key the sensor would request the same work again. Results of asset checks stay in any case.

    Parameters
    ----------
    instance : dg.DagsterInstance
    before : datetime
        With a time zone.

    Returns
    -------
    tuple of int
        Numbers of runs deleted, and of old runs kept.
    """
    partitions = {
        key
        for definition in (RECORDING_SESSIONS, SYNTHETIC_DATASETS, SYNTHETIC_BATCHES)
        for key in instance.get_dynamic_partitions(definition)
    }
    filters = dg.RunsFilter(statuses=_FINISHED, created_before=before)
    num_deleted = num_kept = 0
    last_kept: str | None = None  # the cursor must be a run that exists
    while page := instance.get_run_records(filters, limit=_PAGE, ascending=True, cursor=last_kept):
        for run in (record.dagster_run for record in page):
            if _is_requested(run, partitions) or _has_newest_materialization(instance, run.run_id, partitions):
                num_kept += 1
                last_kept = run.run_id
            else:
                instance.delete_run(run.run_id)
                num_deleted += 1
    return num_deleted, num_kept


def _is_requested(run: dg.DagsterRun, partitions: Collection[str]) -> bool:
    return RUN_KEY_TAG in run.tags and run.tags.get(PARTITION_TAG) in partitions


def _has_newest_materialization(instance: dg.DagsterInstance, run_id: str, partitions: Collection[str]) -> bool:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        event = entry.get_dagster_event()
        asset, partition = event.asset_key, event.partition
        if asset is None or (partition is not None and partition not in partitions):
            continue
        of_partition = None if partition is None else [partition]
        newest = instance.fetch_materializations(dg.AssetRecordsFilter(asset, asset_partitions=of_partition), limit=1)
        if newest.records and newest.records[0].run_id == run_id:
            return True
    return False
