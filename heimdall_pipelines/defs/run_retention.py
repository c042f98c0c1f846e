"""Deletes old Dagster runs with their events, but keeps those that the state of assets and the sensors depend on."""

from collections.abc import Collection
from datetime import datetime

import dagster as dg

from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS, SYNTHETIC_BATCHES, SYNTHETIC_DATASETS
from heimdall_pipelines.defs.requested_runs import FINISHED
from heimdall_pipelines.status.run_tags import PARTITION_TAG, RUN_KEY_TAG

_PAGE = 200


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
    filters = dg.RunsFilter(statuses=FINISHED, created_before=before)
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
