"""Makes a dataset's missing batches in this process, and tells Dagster of them, so that its UI agrees."""

import time
from contextlib import suppress

import dagster as dg
import typer

from heimdall_pipelines.cli.console import errors, output
from heimdall_pipelines.cli.dataset_progress import MakingProgress
from heimdall_pipelines.cli.tables import in_batches, print_request
from heimdall_pipelines.datasets.batches import InvalidNameError, missing_batches, parse_partition_key
from heimdall_pipelines.datasets.generating import make_batch
from heimdall_pipelines.datasets.requesting import RequestOutcome
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.defs.partitions import SYNTHETIC_BATCHES, SYNTHETIC_DATASETS
from heimdall_pipelines.defs.synthetic import add_partitions, batch_materializations, dataset_materialization
from heimdall_pipelines.store.datasets import BatchRange, get_dataset, list_batches
from heimdall_pipelines.store.stores import Stores

EXIT_INTERRUPTED = 130
_FEW_SAMPLES = 10  # are made before worker processes would be ready


def report_request(instance: dg.DagsterInstance, outcome: RequestOutcome) -> None:
    """Tell Dagster, and whoever asked, of a dataset that was created or expanded."""
    add_partitions(instance, outcome.dataset)
    if outcome.num_samples_added:
        instance.report_runless_asset_event(dataset_materialization(outcome.dataset, outcome.acceptance))
    print_request(outcome)


def make_missing(stores: Stores, instance: dg.DagsterInstance, name: str, num_workers: int) -> None:
    """Make the batches of a dataset that are missing, in their order, and say what was made.

    Ctrl-C says what is committed and how to go on, and ends the command.

    Raises
    ------
    BatchStoppedError
        A batch ran out of attempts; those after it were not begun.
    """
    dataset = get_dataset(stores.database, name)
    missing = _missing(stores, name)
    if not missing:
        output.print(f"all {dataset.target_num_samples} samples of {name} are there; nothing was to be made")
        return
    add_partitions(instance, dataset)
    began = time.monotonic()
    num_missing = dataset.target_num_samples - dataset.num_samples
    num_samples = num_batches = num_objects = 0
    try:
        with (
            Workers(num_workers if num_missing > _FEW_SAMPLES else 1) as workers,
            MakingProgress(name, num_missing) as progress,
        ):
            for span in missing:
                if span not in _missing(stores, name):
                    continue  # the daemon made it meanwhile
                report = make_batch(stores, name, span.batch_no, workers, progress.show)
                progress.committed(report)
                for event in batch_materializations(report):
                    instance.report_runless_asset_event(event)
                num_samples += report.num_made
                num_objects += report.num_objects
                num_batches += 1
    except KeyboardInterrupt:
        dataset = get_dataset(stores.database, name)
        errors.print(
            f"Stopped by hand: {dataset.num_samples} of {dataset.target_num_samples} samples are committed; "
            f"of the batch that was being made, nothing is.\nTo go on: heimdall dataset make {name}"
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    output.print(
        f"made: {num_samples} samples in {in_batches(num_batches)}, "
        f"{num_objects} IQ objects, in {time.monotonic() - began:.1f} s"
    )


def remove_partitions(instance: dg.DagsterInstance, name: str) -> None:
    """Take a deleted dataset and its batches out of Dagster's partitions."""
    for key in instance.get_dynamic_partitions(SYNTHETIC_BATCHES):
        with suppress(InvalidNameError):  # people can add any key in the UI
            if parse_partition_key(key)[0] == name:
                instance.delete_dynamic_partition(SYNTHETIC_BATCHES, key)
    instance.delete_dynamic_partition(SYNTHETIC_DATASETS, name)


def _missing(stores: Stores, name: str) -> list[BatchRange]:
    dataset = get_dataset(stores.database, name)
    return missing_batches(dataset, list_batches(stores.database, dataset.id))
