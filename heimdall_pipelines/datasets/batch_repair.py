"""Repairs the affected samples of one batch: decides what is written, and reports what is not."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from heimdall_pipelines.datasets import generating
from heimdall_pipelines.datasets.generating import BatchProgress
from heimdall_pipelines.datasets.restoring import (
    AffectedSample,
    RegeneratedSample,
    RestoringTask,
    RowChoice,
    candidate,
    chosen_by_root,
    is_last_digit,
    regenerate_affected,
    witness,
)
from heimdall_pipelines.datasets.samples import Recipe
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.model.batches import END_OF_SAMPLES, BatchRange
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.store.dataset_snapshot import SampleRow, open_snapshot
from heimdall_pipelines.store.datasets import Dataset
from heimdall_pipelines.store.iq_form import IqForm
from heimdall_pipelines.store.releases import list_releases
from heimdall_pipelines.store.restoring import RowsToRestore, committed_batch, restore_rows
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Throttle

OTHER_PROCESSOR = "samples were regenerated on a processor that gives other last digits"
_SAMPLES_PER_TASK = 5
_MAX_WITNESSES = 2


@dataclass(frozen=True)
class BatchRepair:
    """What a repair did to the samples of a batch.

    Attributes
    ----------
    not_written : tuple of int
        Samples of which a row or an object was not written, since it would differ from the committed one.
    refused : tuple of int
        Those of them with such a row.
    problems : tuple of str
        What was not written, in words.
    """

    not_written: tuple[int, ...]
    refused: tuple[int, ...]
    problems: tuple[str, ...]


def repair_batch(
    stores: Stores,
    dataset: Dataset,
    recipe: Recipe,
    span: BatchRange,
    sample_idxs: Sequence[int],
    workers: Workers,
    making: Callable[[BatchProgress], None],
) -> BatchRepair:
    """Regenerate samples of a batch, and write the rows and objects of them that were committed and are damaged.

    Parameters
    ----------
    stores : Stores
    dataset : Dataset
        Its parameters are those that it was created with.
    recipe : Recipe
    span : BatchRange
        The whole batch.
    sample_idxs : sequence of int
        Affected samples, in order.
    workers : Workers
    making : callable
        Called about once a second, and when all objects are written, before the rows.

    Raises
    ------
    DatasetNotFoundError, UnavailableError
    """
    with open_snapshot(stores.database, dataset.name) as snapshot:
        form = snapshot.iq_form(span.first_sample_idx, span.end_sample_idx)
        has_bounds = snapshot.has_bounds(span.first_sample_idx, span.end_sample_idx)
        affected = [
            AffectedSample(idx, snapshot.sample(idx), snapshot.iq_of(idx), form, has_bounds) for idx in sample_idxs
        ]
    report = _Progress(making, span, len(affected))
    report(0)
    regenerated: list[RegeneratedSample] = []
    for made in _in_workers(workers, stores, recipe, affected):
        regenerated += made
        report(min(len(regenerated), len(affected) - 1))
    regenerated.sort(key=lambda sample: sample.sample_idx)
    decision = _decide(stores, dataset, recipe, span, regenerated)
    waiting = {
        sample.sample_idx: decided
        for sample in decision.accepted
        if sample.num_waiting and (decided := decision.form_of(sample)) is not None
    }
    late: list[RegeneratedSample] = []
    if waiting:
        again = [sample for sample in affected if sample.sample_idx in waiting]
        for made in _in_workers(workers, stores, recipe, again, waiting):
            late += made
    report(len(affected))
    features = _rows(decision, lambda sample: sample.features, 0)
    iq = _rows(decision, lambda sample: sample.iq, 1)
    if features.sample_idxs or iq.sample_idxs:
        restore_rows(stores.database, dataset, span, features, iq, new_root_because=decision.new_root_because)
    problems = {problem: sample.sample_idx for sample in (*regenerated, *late) for problem in sample.problems}
    problems |= {_difference(sample): sample.sample_idx for sample in decision.refused}
    return BatchRepair(
        not_written=tuple(sorted(set(problems.values()))),
        refused=tuple(sample.sample_idx for sample in decision.refused),
        problems=tuple(problems),
    )


@dataclass(frozen=True)
class _Decision:
    """Which samples are written, and in which of the forms in which they can have been committed."""

    accepted: tuple[RegeneratedSample, ...]
    numbers: dict[int, tuple[int, int]]
    refused: tuple[RegeneratedSample, ...] = ()
    new_root_because: str | None = None

    def form_of(self, sample: RegeneratedSample) -> IqForm | None:
        """Form of the objects that the chosen IQ row of a sample names."""
        chosen = candidate(sample.iq, self.numbers.get(sample.sample_idx, (0, 0))[1])
        return None if chosen is None else chosen.form


def _decide(
    stores: Stores, dataset: Dataset, recipe: Recipe, span: BatchRange, regenerated: Sequence[RegeneratedSample]
) -> _Decision:
    made = [sample for sample in regenerated if sample.features.candidates or sample.iq.candidates]
    unsure = [sample for sample in made if not sample.is_certain]
    if not unsure:
        return _Decision(tuple(made), {})
    committed = committed_batch(stores.database, dataset, span)
    if committed.root is not None:
        numbers = chosen_by_root(made, committed.digests, committed.root)
        if numbers is not None:
            return _Decision(tuple(made), numbers)
    # Without any digest there is nothing to compare with: the batch would be made like this.
    free = [sample for sample in unsure if committed.root is None and not _has_digest(sample)]
    doubtful = [sample for sample in unsure if sample not in free]
    if not doubtful:
        return _Decision(tuple(made), {})
    may_differ = all(map(is_last_digit, doubtful)) and not list_releases(stores.database, dataset.id)
    if may_differ and _is_other_processor(stores, dataset, recipe, regenerated):
        return _Decision(tuple(made), {}, new_root_because=OTHER_PROCESSOR)
    accepted = tuple(sample for sample in made if sample not in doubtful)
    return _Decision(accepted, {}, refused=tuple(doubtful))


def _is_other_processor(
    stores: Stores, dataset: Dataset, recipe: Recipe, regenerated: Sequence[RegeneratedSample]
) -> bool:
    """Whether intact samples of the dataset, regenerated here, differ in their last digits, and nowhere else."""
    without = {sample.sample_idx for sample in regenerated}
    with open_snapshot(stores.database, dataset.name) as snapshot:
        intact = list(islice(_intact(snapshot.samples(0, END_OF_SAMPLES), without), _MAX_WITNESSES))
    witnesses = [witness(recipe, row) for row in intact]
    return any(not one.is_same for one in witnesses) and all(one.is_close for one in witnesses)


def _intact(rows: Iterator[SampleRow], without: set[int]) -> Iterator[SampleRow]:
    for row in rows:
        if row.edit is None and row.feature_version == FEATURE_VERSION and row.sample_idx not in without:
            yield row


def _has_digest(sample: RegeneratedSample) -> bool:
    return bool(sample.features.unlike or sample.iq.unlike)


def _rows(decision: _Decision, choice: Callable[[RegeneratedSample], RowChoice], which: int) -> RowsToRestore:
    rows = {}
    for sample in decision.accepted:
        chosen = candidate(choice(sample), decision.numbers.get(sample.sample_idx, (0, 0))[which])
        if chosen is not None:
            rows[sample.sample_idx] = chosen.json
    return RowsToRestore(tuple(rows), tuple(rows.values()))


def _difference(sample: RegeneratedSample) -> str:
    parts = [
        f"{name} ({', '.join(choice.unlike)})" if choice.unlike else name
        for name, choice in (("feature row", sample.features), ("IQ row", sample.iq))
        if not choice.is_certain
    ]
    return (
        f"sample {sample.sample_idx}: {' and '.join(parts)} regenerated from the seed would not be what was committed; "
        "not written"
    )


def _in_workers(
    workers: Workers,
    stores: Stores,
    recipe: Recipe,
    affected: Sequence[AffectedSample],
    approved: Mapping[int, IqForm] | None = None,
) -> Iterator[list[RegeneratedSample]]:
    tasks = [
        RestoringTask(recipe, tuple(affected[start : start + _SAMPLES_PER_TASK]), stores.objects, approved or {})
        for start in range(0, len(affected), _SAMPLES_PER_TASK)
    ]
    with closing(workers.map(regenerate_affected, tasks)) as results:
        for result in results:
            yield result or []


class _Progress:
    """Reports about once a second, and at the end."""

    def __init__(self, making: Callable[[BatchProgress], None], span: BatchRange, num_samples: int) -> None:
        self._making = making
        self._span = span
        self._num_samples = num_samples
        self._began = time.monotonic()
        self._throttle = Throttle(generating.PROGRESS_INTERVAL_S)

    def __call__(self, num_made: int) -> None:
        if self._throttle.is_due() or num_made == self._num_samples:
            elapsed_s = time.monotonic() - self._began
            num = self._num_samples
            self._making(BatchProgress(self._span.partition_key, num, num, num_made, num, elapsed_s))
