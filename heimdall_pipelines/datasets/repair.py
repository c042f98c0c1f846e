"""Repairs a dataset: regenerates samples, corrects counts, removes orphans.

The feature rows determine which samples exist. Only rows and objects that belong to no sample are deleted.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from heimdall_pipelines.datasets.checks import Progress, check_dataset
from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.datasets.generating import ATTEMPTS_PER_SAMPLE, BatchProgress, make_samples
from heimdall_pipelines.datasets.object_checks import merge_rows_and_objects
from heimdall_pipelines.datasets.samples import (
    GeneratorVersionError,
    Recipe,
    draw_sample,
    keeps_iq,
    what_of_other_version,
)
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.checks import MAX_EXAMPLES
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.batches import delete_iq_rows, recount
from heimdall_pipelines.store.dataset_locks import exclusive_lock
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, open_snapshot
from heimdall_pipelines.store.datasets import Dataset, get_living_dataset
from heimdall_pipelines.store.iq_objects import sample_iq_key, sidecar_key
from heimdall_pipelines.store.objects import ObjectEntry, ObjectStore
from heimdall_pipelines.store.stores import Stores

MIN_ORPHAN_AGE = timedelta(hours=1)
_MOST_NAMED = 10


class NoSuchSampleError(HeimdallError):
    """A sample that should be regenerated does not exist."""


@dataclass(frozen=True)
class RepairPlan:
    """What a repair would do, or did.

    Attributes
    ----------
    dataset : Dataset
        As it was before.
    to_regenerate : tuple of int
        Samples with a missing or wrong row or object.
    iq_rows_to_remove : tuple of int
        Samples without features that are not regenerated: their IQ row is removed.
    batches_to_count : tuple of int
        Batches whose count differs from their feature rows.
    num_samples : int
        Feature rows after the repair: the new num_samples.
    target_num_samples : int
        The new target: raised if a sample beyond it exists.
    num_orphans, orphan_bytes : int
        Objects that no row names, to be removed.
    num_young_orphans : int
        Orphans younger than an hour: they stay, because a batch may be about to commit their rows.
    examples : tuple of str
        Some of the problems, in words.
    """

    dataset: Dataset
    to_regenerate: tuple[int, ...]
    iq_rows_to_remove: tuple[int, ...]
    batches_to_count: tuple[int, ...]
    num_samples: int
    target_num_samples: int
    num_orphans: int
    orphan_bytes: int
    num_young_orphans: int
    examples: tuple[str, ...]

    @property
    def changes_num_samples(self) -> bool:
        """Whether num_samples differs from the feature rows."""
        return self.num_samples != self.dataset.num_samples

    @property
    def raises_target(self) -> bool:
        """Whether a sample beyond the target exists."""
        return self.target_num_samples > self.dataset.target_num_samples

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (
            self.to_regenerate
            or self.iq_rows_to_remove
            or self.batches_to_count
            or self.num_orphans
            or self.changes_num_samples
            or self.raises_target
        )

    @property
    def is_possible(self) -> bool:
        """Whether this version of the generator can regenerate the samples."""
        return not self.to_regenerate or self.dataset.generator_version == GENERATOR_VERSION

    @property
    def batches_touched(self) -> tuple[int, ...]:
        """Batches that change."""
        batch_no = self.dataset.grid.batch_no
        samples = (*self.to_regenerate, *self.iq_rows_to_remove)
        return tuple(sorted({*map(batch_no, samples), *self.batches_to_count}))

    def numbers(self) -> dict[str, int]:
        """Number of changes of each kind."""
        return {
            "samples_made_again": len(self.to_regenerate),
            "iq_rows_removed": len(self.iq_rows_to_remove),
            "batches_counted": len(self.batches_to_count),
            "objects_without_row_removed": self.num_orphans,
            "objects_without_row_left_alone": self.num_young_orphans,
        }

    def lines(self, *, is_done: bool) -> list[str]:
        """Describe what a repair would do, or did."""
        if self.is_empty:
            return [f"nothing to repair in {self.dataset.name}", *self._young()]
        lines = [f"{self.dataset.name}: {'repaired' if is_done else 'a repair would'}"]
        made, removed, counted = ("regenerated", "removed", "counted") if is_done else ("regenerate", "remove", "count")
        if self.to_regenerate:
            lines.append(f"  {made}: {_named(self.to_regenerate, 'sample', 'samples')}, rows and objects")
        if self.iq_rows_to_remove:
            lines.append(
                f"  {removed}: IQ rows of {_named(self.iq_rows_to_remove, 'sample', 'samples')} that should have none"
            )
        if self.batches_to_count:
            lines.append(f"  {counted}: {_named(self.batches_to_count, 'batch', 'batches')}")
        if self.changes_num_samples:
            lines.append(f"  {counted}: num_samples {self.dataset.num_samples} -> {self.num_samples}")
        if self.raises_target:
            lines.append(f"  target_num_samples {self.dataset.target_num_samples} -> {self.target_num_samples}")
        if self.num_orphans:
            lines.append(f"  {removed}: {self.num_orphans} objects without row, {self.orphan_bytes / 1e6:.1f} MB")
        return [*lines, *self._young()]

    def _young(self) -> list[str]:
        if not self.num_young_orphans:
            return []
        return [
            f"  not removed: {self.num_young_orphans} objects without row that are younger than an hour: a batch may "
            "be about to commit their rows. To remove them, repeat the repair later"
        ]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        values = {name: value for name, value in vars(self).items() if name != "dataset"}
        return {"dataset": self.dataset.name, "nothing_to_do": self.is_empty} | values


def plan_repair(
    stores: Stores,
    name: str,
    *,
    checksums: bool = False,
    also: Collection[int] = (),
    progress: Progress = lambda _: None,
) -> RepairPlan:
    """Check a dataset now and list what a repair would do; changes nothing.

    Parameters and errors are those of `repair_dataset`.
    """
    get_living_dataset(stores.database, name)
    found = _check(stores, name, checksums, also, progress)
    orphans = _Orphans(MIN_ORPHAN_AGE)
    with open_snapshot(stores.database, name) as snapshot:
        deque(_orphans(stores.objects, snapshot, orphans, found), maxlen=0)
    return _plan(found, orphans)


def repair_dataset(
    stores: Stores,
    name: str,
    workers: Workers,
    *,
    checksums: bool = False,
    also: Collection[int] = (),
    min_orphan_age: timedelta = MIN_ORPHAN_AGE,
    progress: Progress = lambda _: None,
    making: Callable[[BatchProgress], None] = lambda _: None,
) -> RepairPlan:
    """Check a dataset now and repair what the check finds; an earlier plan or report is not used.

    It can be interrupted after any step and repeated; the dataset is never worse than before.

    Parameters
    ----------
    stores : Stores
    name : str
    workers : Workers
        To regenerate samples.
    checksums : bool
        Read every object, to find changes that a listing does not show.
    also : collection of int, optional
        Samples to regenerate in any case: a check that chooses at random may not choose them again.
    min_orphan_age : timedelta, optional
        Objects without rows that are younger stay.
    progress, making : callable, optional
        Called every few seconds, and for each batch with samples to regenerate.

    Returns
    -------
    RepairPlan
        What was done.

    Raises
    ------
    DatasetLockedError
        A batch of the dataset is being made, or another repair is running; nothing was changed.
    GeneratorVersionError
        Samples must be regenerated, but this version gives other ones; nothing was changed.
    NoSuchSampleError
        One of `also` is not committed.
    DatasetNotFoundError, UnavailableError
    """
    dataset = get_living_dataset(stores.database, name)
    with exclusive_lock(stores.database, dataset.id, name):
        found = _check(stores, name, checksums, also, progress)
        before = _plan(found, _Orphans(min_orphan_age))
        if not before.is_possible:
            raise GeneratorVersionError(
                f"dataset {name}: {len(found.to_regenerate)} samples must be regenerated, but it was made by "
                f"generator version {dataset.generator_version}, and this is version {GENERATOR_VERSION}. "
                f"{what_of_other_version(dataset)}. Nothing was changed"
            )
        _regenerate(stores, found, workers, making)
        if before.iq_rows_to_remove:
            delete_iq_rows(stores.database, dataset, before.iq_rows_to_remove)
        recount(stores.database, dataset, [dataset.grid.whole_batch(batch_no) for batch_no in sorted(found.miscounted)])
        orphans = _Orphans(min_orphan_age)
        with open_snapshot(stores.database, name) as snapshot:
            stores.objects.remove_keys(stores.objects.synthetic_iq_bucket, _orphans(stores.objects, snapshot, orphans))
    return _plan(found, orphans)


def _check(stores: Stores, name: str, checksums: bool, also: Collection[int], progress: Progress) -> Findings:
    found = check_dataset(stores, name, checksums=checksums, progress=progress)
    unknown = sorted(idx for idx in also if not 0 <= idx < found.after_last)
    if unknown:
        raise NoSuchSampleError(
            f"dataset {name} has no sample {', '.join(map(str, unknown))}: it has 0 to {found.after_last - 1}"
        )
    found.to_regenerate.update(also)
    return found


def _plan(found: Findings, orphans: "_Orphans") -> RepairPlan:
    examples = [example for outcome in found.outcomes.values() for example in outcome.examples]
    return RepairPlan(
        dataset=found.dataset,
        to_regenerate=tuple(sorted(found.to_regenerate)),
        iq_rows_to_remove=tuple(sorted(found.orphan_iq_rows - found.to_regenerate)),
        batches_to_count=tuple(sorted(found.miscounted)),
        num_samples=found.num_features + len(found.without_features),
        target_num_samples=max(found.dataset.target_num_samples, found.after_last),
        num_orphans=orphans.num,
        orphan_bytes=orphans.num_bytes,
        num_young_orphans=orphans.num_young,
        examples=tuple(examples[:MAX_EXAMPLES]),
    )


def _regenerate(stores: Stores, found: Findings, workers: Workers, making: Callable[[BatchProgress], None]) -> None:
    """Regenerate samples by batch: objects first, then the rows of the batch in one transaction."""
    grid = found.dataset.grid
    for batch_no, sample_idxs in groupby(sorted(found.to_regenerate), key=grid.batch_no):
        make_samples(stores, found.dataset, grid.whole_batch(batch_no), list(sample_idxs), workers, making)


class _Orphans:
    """Counts orphans and decides which are old enough to be removed."""

    def __init__(self, min_age: timedelta) -> None:
        self._modified_before = datetime.now(UTC) - min_age
        self.num = 0
        self.num_bytes = 0
        self.num_young = 0

    def is_removed(self, entry: ObjectEntry) -> bool:
        """Count an orphan; true if it is old enough to be removed."""
        if entry.modified_at > self._modified_before:
            self.num_young += 1
            return False
        self.num += 1
        self.num_bytes += entry.size_bytes
        return True


def _orphans(
    objects: ObjectStore, snapshot: DatasetSnapshot, orphans: _Orphans, to_repair: Findings | None = None
) -> Iterator[str]:
    """Keys that no row names, or will name after the repair; streamed: memory does not grow with their number."""
    to_regenerate, orphan_rows = (
        (to_repair.to_regenerate, to_repair.orphan_iq_rows) if to_repair is not None else ((), ())
    )
    made: tuple[int | None, Collection[str]] = (None, ())
    for merged in merge_rows_and_objects(objects, snapshot):
        paths: Collection[str] = merged.row.paths.values() if merged.row is not None else ()
        if merged.sample_idx is not None and merged.sample_idx in to_regenerate:
            if made[0] != merged.sample_idx:
                made = merged.sample_idx, _paths_when_regenerated(objects, snapshot.dataset, merged.sample_idx)
            paths = made[1]
        elif merged.sample_idx in orphan_rows:
            paths = ()
        named = {key for path in paths for key in (path, sidecar_key(path))}
        yield from (key for key, entry in merged.entries.items() if key not in named and orphans.is_removed(entry))


def _named(numbers: Sequence[int], one: str, many: str) -> str:
    """Name some of them.

    >>> _named((4, 7), "sample", "samples")
    '2 samples (4, 7)'
    """
    named = ", ".join(map(str, numbers[:_MOST_NAMED])) + (", ..." if len(numbers) > _MOST_NAMED else "")
    return f"{len(numbers)} {one if len(numbers) == 1 else many} ({named})"


def _paths_when_regenerated(objects: ObjectStore, dataset: Dataset, sample_idx: int) -> list[str]:
    """Keys that the IQ row of a sample will name."""
    if dataset.generator_version != GENERATOR_VERSION:
        return []  # not regenerated
    recipe = Recipe.of(dataset, objects)
    if not keeps_iq(recipe.spec, sample_idx):
        return []
    sites = draw_sample(recipe, sample_idx, ATTEMPTS_PER_SAMPLE * recipe.spec.batch_size).sites
    return [sample_iq_key(dataset.id, sample_idx, site.rx_id) for site in sites]
