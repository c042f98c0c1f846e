"""Checks a dataset's rows and objects against each other and against what its seed gives; never repairs."""

import secrets
from collections.abc import Callable

from heimdall_pipelines.datasets.checking_rows import check_rows
from heimdall_pipelines.datasets.committed_checks import check_committed, check_committed_batch, check_parameters
from heimdall_pipelines.datasets.findings import BATCH_FEATURE_CHECKS, BATCH_IQ_CHECKS, DATASET_CHECKS, Findings
from heimdall_pipelines.datasets.object_checks import check_objects, check_objects_of_batch
from heimdall_pipelines.datasets.regeneration_checks import check_regenerated
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.model.batches import END_OF_SAMPLES
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, open_snapshot
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress, Throttle

PROGRESS_INTERVAL_S = 3.0


def check_dataset(
    stores: Stores,
    name: str,
    *,
    checksums: bool = False,
    seed: int | None = None,
    progress: Progress = lambda _: None,
    workers: Workers | None = None,
) -> Findings:
    """Run every check of a dataset.

    Batches may be made at the same time: all rows are read from one snapshot, and objects that a batch in progress has
    stored before its rows are not a problem.

    Parameters
    ----------
    stores : Stores
        Read only.
    name : str
    checksums : bool
        Read every object and compare its SHA-256, and regenerate one in a hundred samples instead of one.
    seed : int, optional
        For the choice of these samples; random if None.
    progress : callable, optional
        Called with a line every few seconds.
    workers : Workers, optional
        That check rows; without them as many are started as so many samples are worth.

    Raises
    ------
    DatasetNotFoundError
        There is no such dataset.
    InvalidSpecError
        This version cannot read its parameters.
    UnavailableError
        PostgreSQL or the S3 store could not be reached, or a terrain tile is gone: this is not a failed check.
    """
    with open_snapshot(stores.database, name) as snapshot:
        _ = snapshot.dataset.spec  # raises before the first check if this version cannot read it
        found = Findings.begin(snapshot.dataset, tuple(DATASET_CHECKS))
        lines = ProgressLines(progress, name)
        check_parameters(snapshot, found)
        progress_of_rows = lines.of(f"of {snapshot.dataset.num_samples} samples checked")
        check_rows(snapshot, found, 0, END_OF_SAMPLES, progress_of_rows, stores.objects, workers)
        check_committed(snapshot, found)
        _check_counts(snapshot, found)
        _check_summary(snapshot, found)
        check_objects(stores, snapshot, found, lines.of("objects checked"), checksums=checksums)
        chosen_by = secrets.randbits(64) if seed is None else seed
        check_regenerated(stores, snapshot, found, lines.of("samples regenerated"), deep=checksums, seed=chosen_by)
        found.row_bytes = snapshot.row_bytes()
    return found


def check_batch(stores: Stores, name: str, batch_no: int, progress: Progress = lambda _: None) -> Findings:
    """Run the checks of one batch: those of its feature rows and of its IQ.

    Parameters and errors are those of `check_dataset`.
    """
    with open_snapshot(stores.database, name) as snapshot:
        _ = snapshot.dataset.spec
        found = Findings.begin(snapshot.dataset, BATCH_FEATURE_CHECKS + BATCH_IQ_CHECKS)
        span = snapshot.dataset.grid.whole_batch(batch_no)
        first, end = span.first_sample_idx, span.end_sample_idx
        lines = ProgressLines(progress, f"{name}, batch {batch_no}")
        check_rows(snapshot, found, first, end, lines.of("samples checked"), stores.objects)
        check_committed_batch(snapshot, found, batch_no)
        check_objects_of_batch(stores, snapshot, found, first, end, lines.of("objects checked"))
        if batch_no not in {batch.batch_no for batch in snapshot.batches}:
            found.outcomes["samples_without_gap"].problem(f"batch {batch_no} is not committed")
    return found


def _check_counts(snapshot: DatasetSnapshot, found: Findings) -> None:
    """Compare the counts of dataset and batches with the rows."""
    dataset, outcome = snapshot.dataset, found.outcomes["counts_agree"]
    missing = dataset.grid.missing(snapshot.batches)
    in_batches = sum(batch.num_samples for batch in snapshot.batches)
    outcome.numbers |= {
        "num_samples": dataset.num_samples,
        "feature_rows": found.num_features,
        "in_batches": in_batches,
        "iq_rows": found.num_iq_rows,
        "iq_rows_expected": found.num_iq_expected,
        "target": dataset.target_num_samples,
        "batches_missing": len(missing),
    }
    if dataset.num_samples != found.num_features:
        outcome.problem(f"num_samples is {dataset.num_samples}, {found.num_features} feature rows exist")
    if in_batches != found.num_features:
        outcome.problem(f"batches count {in_batches} samples, {found.num_features} feature rows exist")
    if found.num_without_batch:
        outcome.problem(f"feature rows beyond the target, of no batch: {found.num_without_batch}")
    if found.num_iq_rows != found.num_iq_expected:
        outcome.problem(f"{found.num_iq_rows} IQ rows exist, {found.num_iq_expected} are expected")
    if not missing and found.num_features < dataset.target_num_samples:
        outcome.problem(f"no batch is missing, {found.num_features} of {dataset.target_num_samples} samples exist")
    if found.after_last > dataset.target_num_samples:
        outcome.problem(f"sample {found.after_last - 1} exists, the target is {dataset.target_num_samples} samples")


def _check_summary(snapshot: DatasetSnapshot, found: Findings) -> None:
    """Compare what the last summary was computed from; while batches are missing, the next one is due at the end."""
    outcome, summary = found.outcomes["summary_is_current"], snapshot.summarised_content()
    if summary is None:
        return
    outcome.numbers |= {"samples_summarised": summary.num_samples}
    if not summary.is_current and not snapshot.dataset.grid.missing(snapshot.batches):
        outcome.problem(
            f"the summary of {summary.summarised_at:%Y-%m-%d %H:%M:%S} UTC was computed from {summary.num_samples} "
            f"samples that have changed since; the dataset has {snapshot.dataset.num_samples} now"
        )


class ProgressLines:
    """Reports a line of progress every few seconds."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._what = what
        self._throttle = Throttle(PROGRESS_INTERVAL_S)

    def of(self, counted: str) -> Callable[[int], None]:
        """Return the function that is called with each count."""

        def report(number: int) -> None:
            if self._throttle.is_due():
                self._progress(f"{self._what}: {number} {counted}")

        return report
