"""Makes a dataset's missing batches in this process, and tells Dagster of them, so that its UI agrees."""

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Self

import dagster as dg
import typer

from heimdall_pipelines.cli.console import errors, output
from heimdall_pipelines.cli.dataset_progress import MakingProgress
from heimdall_pipelines.cli.tables import in_batches, print_request
from heimdall_pipelines.datasets.generating import BatchReport, make_batch
from heimdall_pipelines.datasets.requesting import RequestOutcome
from heimdall_pipelines.datasets.validation import DatasetValidation
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.defs.check_reporting import report_checks
from heimdall_pipelines.defs.partitions import SYNTHETIC_BATCHES, SYNTHETIC_DATASETS
from heimdall_pipelines.defs.synthetic import add_partitions, batch_materializations, dataset_materialization
from heimdall_pipelines.defs.synthetic_checks import evaluations, evaluations_of_batch
from heimdall_pipelines.model.batches import BatchRange, InvalidNameError, parse_partition_key
from heimdall_pipelines.store.batches import find_batch, list_batches
from heimdall_pipelines.store.datasets import Dataset, get_dataset, get_living_dataset
from heimdall_pipelines.store.stores import Stores

EXIT_INTERRUPTED = 130
_EVALUATIONS_PER_RUN = 200
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
    DatasetNotFoundError
        There is no such dataset, or it is being deleted.
    """
    dataset = get_living_dataset(stores.database, name)
    missing = dataset.grid.missing(list_batches(stores.database, dataset.id))
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
            _BatchChecks(stores, instance, name) as checks,
            # One batch is checked and reported while the workers make the next.
            ThreadPoolExecutor(1, thread_name_prefix="checks") as beside,
        ):
            checked: Future[None] | None = None
            for span in missing:
                if _is_committed(stores, dataset, span):
                    continue  # the daemon made it meanwhile
                report = make_batch(stores, name, span.batch_no, workers, progress.show, progress.wait)
                progress.committed(report)
                if checked is not None:
                    checked.result()
                checked = beside.submit(checks.report_and_look, report)
                num_samples += report.num_made
                num_objects += report.num_objects
                num_batches += 1
            if checked is not None:
                checked.result()
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


class _BatchChecks:
    """Looks at batches that were made, as their runs do, and tells Dagster of some at a time."""

    def __init__(self, stores: Stores, instance: dg.DagsterInstance, name: str) -> None:
        self._stores = stores
        self._instance = instance
        self._name = name
        self._untold: list[dg.AssetCheckEvaluation] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._tell()

    def report_and_look(self, report: BatchReport) -> None:
        """Tell Dagster that a batch was made, look at it, and say what disagrees."""
        for event in batch_materializations(report):
            self._instance.report_runless_asset_event(event)
        span = report.span
        evaluations = list(evaluations_of_batch(self._stores, self._name, span.batch_no))
        for evaluation in evaluations:
            if not evaluation.passed:
                what = f"{span.partition_key}, {evaluation.check_name}: {evaluation.description}"
                errors.print(f"{evaluation.severity.value} {what}", style="yellow", markup=False)
        self._untold += evaluations
        if len(self._untold) >= _EVALUATIONS_PER_RUN:
            self._tell()

    def _tell(self) -> None:
        report_checks(self._instance, self._untold)
        self._untold = []


def report_evaluations(
    stores: Stores, instance: dg.DagsterInstance, validation: DatasetValidation, also_batches: Iterable[int] = ()
) -> None:
    """Tell Dagster what a validation found of a dataset, and of its batches that have a problem or had one."""
    add_partitions(instance, validation.dataset)
    report_checks(instance, list(evaluations(instance, stores, validation, also_batches)))


def remove_partitions(instance: dg.DagsterInstance, name: str) -> bool:
    """Take a deleted dataset and its batches out of Dagster's partitions; gives whether there were any."""
    to_delete = []
    for key in instance.get_dynamic_partitions(SYNTHETIC_BATCHES):
        with suppress(InvalidNameError):  # people can add any key in the UI
            if parse_partition_key(key)[0] == name:
                to_delete.append(key)
    for key in to_delete:
        instance.delete_dynamic_partition(SYNTHETIC_BATCHES, key)
    is_known = name in instance.get_dynamic_partitions(SYNTHETIC_DATASETS)
    instance.delete_dynamic_partition(SYNTHETIC_DATASETS, name)
    return is_known or bool(to_delete)


def _is_committed(stores: Stores, dataset: Dataset, span: BatchRange) -> bool:
    # Asked before each batch: listing all of them each time would cost the square of their number.
    batch = find_batch(stores.database, dataset.id, span.batch_no)
    return batch is not None and batch.num_samples >= span.num_samples
