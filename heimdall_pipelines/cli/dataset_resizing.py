"""Shrinks datasets in Dagster too, and asks before a dataset becomes much larger."""

from collections.abc import Sequence

import dagster as dg

from heimdall_pipelines.cli.confirming import confirm_growth
from heimdall_pipelines.cluster.partitions import delete_partitions
from heimdall_pipelines.datasets.requesting import RequestOutcome, growth_cost
from heimdall_pipelines.defs.partitions import SYNTHETIC_BATCHES
from heimdall_pipelines.defs.synthetic import dataset_materialization, make_synthetic_batches
from heimdall_pipelines.model.batches import BatchGrid
from heimdall_pipelines.status.run_tags import PARTITION_TAG
from heimdall_pipelines.store.datasets import Dataset

LARGE_GROWTH = 10  # times the present size: above it a person is asked
_KEYS_PER_QUERY = 1000
_FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


def ask_if_large(dataset: Dataset, target_num_samples: int, *, yes: bool) -> None:
    """Ask before a dataset grows to more than ten times its present size, unless the answer was given by ``--yes``.

    Raises
    ------
    NotConfirmedError
        There is no terminal to ask at.
    typer.Abort
        The answer is no.
    """
    before = dataset.target_num_samples
    if yes or target_num_samples <= LARGE_GROWTH * before:
        return
    times = f"{target_num_samples / before:.0f} times"
    what = f"dataset {dataset.name}, from {before} to {target_num_samples} samples, {times} its size"
    confirm_growth(what, growth_cost(dataset, target_num_samples))


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
            if run.status in _FINISHED or _is_cancelled(instance, run):
                instance.delete_run(run.run_id)


def _is_cancelled(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Cancel a run; False while its process is still ending."""
    if run.status is dg.DagsterRunStatus.QUEUED:
        instance.report_run_canceled(run)
        return True
    instance.run_coordinator.cancel_run(run.run_id)
    found = instance.get_run_by_id(run.run_id)
    return found is None or found.status in _FINISHED
