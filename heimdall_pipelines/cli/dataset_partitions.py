"""Removes what Dagster has of deleted datasets, and of batches that a shrunk dataset no longer has."""

from collections.abc import Sequence
from contextlib import suppress

import dagster as dg

from heimdall_pipelines.cluster.partitions import delete_partitions
from heimdall_pipelines.datasets.requesting import RequestOutcome
from heimdall_pipelines.defs.partitions import SYNTHETIC_BATCHES, SYNTHETIC_DATASETS
from heimdall_pipelines.defs.requested_runs import FINISHED
from heimdall_pipelines.defs.synthetic import dataset_materialization, make_synthetic_batches
from heimdall_pipelines.model.batches import BatchGrid, InvalidNameError, parse_partition_key
from heimdall_pipelines.status.run_tags import PARTITION_TAG

_KEYS_PER_QUERY = 1000


def remove_partitions(instance: dg.DagsterInstance, name: str) -> bool:
    """Remove the partitions of a deleted dataset and its batches; True if there were any."""
    to_delete = []
    for key in instance.get_dynamic_partitions(SYNTHETIC_BATCHES):
        with suppress(InvalidNameError):  # people can add any key in the UI
            if parse_partition_key(key)[0] == name:
                to_delete.append(key)
    delete_partitions(instance, SYNTHETIC_BATCHES, to_delete)
    is_known = name in instance.get_dynamic_partitions(SYNTHETIC_DATASETS)
    instance.delete_dynamic_partition(SYNTHETIC_DATASETS, name)
    return is_known or bool(to_delete)


def forget_batches(instance: dg.DagsterInstance, outcome: RequestOutcome) -> int:
    """Cancel the runs of batches that a shrunk dataset no longer has, and delete these runs and their partitions.

    Runs that ended are deleted, too: the sensor takes the keys of failed and cancelled runs as requested, so that a
    later expansion would not generate these batches.

    Returns
    -------
    int
        Partitions deleted.
    """
    dataset = outcome.dataset
    before = BatchGrid(dataset.name, dataset.grid.batch_size, outcome.num_samples_before).all()
    kept = {span.batch_no: span.end_sample_idx for span in dataset.grid.all()}
    changed = [span.partition_key for span in before if kept.get(span.batch_no) != span.end_sample_idx]
    _remove_runs(instance, changed)
    gone = [span.partition_key for span in before if span.batch_no not in kept]
    delete_partitions(instance, SYNTHETIC_BATCHES, gone)
    if outcome.num_samples_added:
        instance.report_runless_asset_event(dataset_materialization(dataset, None))
    return len(gone)


def _remove_runs(instance: dg.DagsterInstance, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        tags = {PARTITION_TAG: list(keys[start : start + _KEYS_PER_QUERY])}
        for run in instance.get_runs(dg.RunsFilter(job_name=make_synthetic_batches.name, tags=tags)):
            if run.status is dg.DagsterRunStatus.SUCCESS:
                continue  # it has made samples, of a smaller batch
            if run.status in FINISHED or _is_cancelled(instance, run):
                instance.delete_run(run.run_id)


def _is_cancelled(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Cancel a run; False while its process is still ending."""
    if run.status is dg.DagsterRunStatus.QUEUED:
        instance.report_run_canceled(run)
        return True
    instance.run_coordinator.cancel_run(run.run_id)
    found = instance.get_run_by_id(run.run_id)
    return found is None or found.status in FINISHED
