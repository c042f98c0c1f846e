"""Checks the rows of a dataset in one pass: a merge join of feature rows and IQ rows, checked by several processes."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.datasets.row_checks import RowChecks, RowSequence, RowSums
from heimdall_pipelines.datasets.samples import Recipe
from heimdall_pipelines.datasets.workers import Workers, num_workers_wanted
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, UnreadRow, read_iq, read_sample
from heimdall_pipelines.store.datasets import Dataset
from heimdall_pipelines.store.objects import ObjectStore

SAMPLES_AT_ONCE = 100
SAMPLES_FOR_A_WORKER = 1000  # checked by this process in the seconds that a worker needs to start, and to pay


@dataclass(frozen=True)
class _Sample:
    """Rows of one index; has_batch is False where no run can have written the feature row."""

    row: UnreadRow | None
    iq: UnreadRow | None
    has_batch: bool = True


@dataclass(frozen=True)
class _Task:
    """Successive samples to check; `number` counts the tasks."""

    number: int
    dataset: Dataset
    recipe: Recipe | None
    checks: tuple[str, ...]
    samples: tuple[_Sample, ...]


@dataclass(frozen=True)
class _Checked:
    """What a task found; ``present`` are the samples that have a feature row and a batch."""

    number: int
    present: tuple[int, ...]
    found: Findings
    sums: RowSums


def check_rows(
    snapshot: DatasetSnapshot,
    found: Findings,
    first: int,
    end: int,
    checked: Callable[[int], None],
    objects: ObjectStore | None = None,
    workers: Workers | None = None,
) -> None:
    """Check the rows with ``first <= sample_idx < end``; both are bounds of batches.

    Parameters
    ----------
    snapshot : DatasetSnapshot
    found : Findings
        Added to; the same with any number of workers.
    first, end : int
    checked : callable
        Called every few samples with the number of samples so far.
    objects : ObjectStore, optional
        Where terrain tiles that this machine does not have are fetched from.
    workers : Workers, optional
        That check; without them as many are started as so many samples are worth.

    Raises
    ------
    TerrainMissingError
        A terrain tile of the dataset is gone, so that its scenes cannot be drawn again; no check failed.
    WorkerLostError
        A worker was killed.
    """
    dataset = snapshot.dataset
    recipe = Recipe.of(dataset, objects) if dataset.generator_version == GENERATOR_VERSION else None
    totals, sequence = RowChecks(dataset, found, recipe), RowSequence(snapshot, found, first, end)
    names = tuple(found.outcomes)
    tasks = (
        _Task(number, dataset, recipe, names, samples)
        for number, samples in enumerate(_some(_joined(snapshot, sequence, first, end)))
    )
    with nullcontext(workers) if workers is not None else Workers(_num_workers(snapshot, first, end)) as processes:
        for part in _in_order(processes.map(_check, tasks), lambda: checked(found.num_features)):
            for sample_idx in part.present:
                sequence.present(sample_idx)
            totals.merge(part.found, part.sums)
            checked(found.num_features)
    sequence.end()
    totals.end()


def _num_workers(snapshot: DatasetSnapshot, first: int, end: int) -> int:
    num = sum(batch.num_samples for batch in snapshot.batches if first <= batch.first_sample_idx < end)
    return max(1, min(num // SAMPLES_FOR_A_WORKER, num_workers_wanted()))


def _joined(snapshot: DatasetSnapshot, sequence: RowSequence, first: int, end: int) -> Iterator[_Sample]:
    """Feature row and IQ row of each index that has one of them, in order."""
    iq_rows = snapshot.unread_iq(first, end)
    iq = next(iq_rows, None)
    for row in snapshot.unread_samples(first, end):
        while iq is not None and iq.sample_idx < row.sample_idx:
            yield _Sample(None, iq)
            iq = next(iq_rows, None)
        own = iq if iq is not None and iq.sample_idx == row.sample_idx else None
        yield _Sample(row, own, has_batch=not sequence.has_no_batch(row.sample_idx))
        if own is not None:
            iq = next(iq_rows, None)
    while iq is not None:
        yield _Sample(None, iq)
        iq = next(iq_rows, None)


def _some(samples: Iterator[_Sample]) -> Iterator[tuple[_Sample, ...]]:
    while some := tuple(islice(samples, SAMPLES_AT_ONCE)):
        yield some


def _check(task: _Task) -> _Checked:
    """Check the samples of a task; runs in a worker."""
    found = Findings.begin(task.dataset, task.checks)
    checks = RowChecks(task.dataset, found, task.recipe)
    present = []
    for sample in task.samples:
        stored = None if sample.iq is None else read_iq(sample.iq)
        if sample.row is None:
            assert stored is not None
            checks.orphan_iq_row(stored)
        elif sample.has_batch:
            present.append(sample.row.sample_idx)
            checks.sample(read_sample(sample.row), stored)
        else:
            checks.without_batch(read_sample(sample.row))
    return _Checked(task.number, tuple(present), found, checks.sums)


def _in_order(results: Iterator[_Checked | None], progress: Callable[[], None]) -> Iterator[_Checked]:
    """Results in the order of their tasks; `progress` is called while the workers are busy."""
    waiting: dict[int, _Checked] = {}
    number = 0
    for result in results:
        if result is None:
            progress()
            continue
        waiting[result.number] = result
        while number in waiting:
            yield waiting.pop(number)
            number += 1
