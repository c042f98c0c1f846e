"""Repairs a dataset: regenerates samples, corrects counts, removes orphans.

The feature rows determine which samples exist. Only rows and objects that belong to no sample are deleted. Nothing is
regenerated from edited parameters, and what is regenerated is written only if it is what was committed, see
`datasets.restoring`.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby

from heimdall_pipelines.datasets.batch_repair import repair_batch
from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.datasets.generating import ATTEMPTS_PER_SAMPLE, BatchProgress, make_samples
from heimdall_pipelines.datasets.object_checks import merge_rows_and_objects
from heimdall_pipelines.datasets.repair_plan import RepairPlan, edited_parameters_message
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
from heimdall_pipelines.store.accepting import accept_parameters
from heimdall_pipelines.store.batches import delete_iq_rows, recount
from heimdall_pipelines.store.committed_parameters import ParametersEditedError, restore_parameters
from heimdall_pipelines.store.dataset_locks import exclusive_lock
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, open_snapshot
from heimdall_pipelines.store.datasets import Dataset, get_living_dataset
from heimdall_pipelines.store.iq_form import NEW_FORM, sidecar_key
from heimdall_pipelines.store.iq_objects import sample_iq_key
from heimdall_pipelines.store.objects import ObjectEntry, ObjectStore
from heimdall_pipelines.store.releases import require_no_releases
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress

MIN_ORPHAN_AGE = timedelta(hours=1)


class NoSuchSampleError(HeimdallError):
    """A sample that should be regenerated does not exist."""


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
    if not found.parameters_are_as_created:
        return _plan(found, _Orphans(MIN_ORPHAN_AGE))
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
    restore: bool = False,
    overwrite: bool = False,
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
    restore : bool
        Restore edited parameters first, from the copy that the dataset and its batches carry by digest.
    overwrite : bool
        Take edited parameters as the new ones and regenerate every sample from them; without such an edit, write what
        is regenerated even if it is not what was committed. Replaces good rows and objects.
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
    ParametersEditedError
        The parameters are not those that the dataset was created with, and neither `restore` nor `overwrite` is given;
        nothing was changed.
    GeneratorVersionError
        Samples must be regenerated, but this version gives other ones; nothing was changed.
    NoSuchSampleError
        One of `also` is not committed.
    ReleasedError
        `overwrite` is given, and the dataset has releases; nothing was changed.
    DatasetNotFoundError, UnavailableError
    """
    dataset = get_living_dataset(stores.database, name)
    if overwrite:
        require_no_releases(
            stores.database,
            dataset.id,
            name,
            "repair with --overwrite could change the samples of",
            "create a new dataset with the parameters that you want",
        )
    with exclusive_lock(stores.database, dataset.id, name):
        if restore:
            restored = restore_parameters(stores.database, dataset, reason="a repair restored the parameters")
            _, name = restored.get("name", (name, name))
            dataset = get_living_dataset(stores.database, name)
        found = _check(stores, name, checksums, also, progress)
        if not found.parameters_are_as_created and not overwrite:
            raise ParametersEditedError(edited_parameters_message(name, _differences(found)))
        if not found.parameters_are_as_created:
            _take_parameters(stores, dataset, found)
            found = _check(stores, name, checksums, range(found.after_last), progress)
        before = _plan(found, _Orphans(min_orphan_age))
        if before.restores_digests:
            accept_parameters(stores.database, dataset, reason="a repair restored the digests of the parameters")
        if not before.is_possible:
            raise GeneratorVersionError(
                f"dataset {name}: {len(found.to_regenerate)} samples must be regenerated, but it was made by "
                f"generator version {dataset.generator_version}, and this is version {GENERATOR_VERSION}. "
                f"{what_of_other_version(dataset)}. Nothing was changed"
            )
        refused = _regenerate(stores, found, workers, making, overwrite=overwrite)
        if before.iq_rows_to_remove:
            delete_iq_rows(stores.database, dataset, before.iq_rows_to_remove)
        if not refused.rows:  # new counts and roots would vouch for the loss of a row
            spans = [dataset.grid.whole_batch(batch_no) for batch_no in sorted(found.miscounted)]
            recount(stores.database, dataset, spans)
        orphans = _Orphans(min_orphan_age)
        with open_snapshot(stores.database, name) as snapshot:
            keys = _orphans(stores.objects, snapshot, orphans, spared=refused.not_written)
            stores.objects.remove_keys(stores.objects.synthetic_iq_bucket, keys)
    return _done(_plan(found, orphans), refused)


def _differences(found: Findings) -> tuple[str, ...]:
    return tuple(found.outcomes["parameters_as_created"].examples)


def _take_parameters(stores: Stores, dataset: Dataset, found: Findings) -> None:
    fixed: list[str] = [column for column in ("name", "id") if column in found.edited_parameters]
    now, committed = found.edited_parameters.get("spec", ({}, {}))
    if now.get("batch_size") != committed.get("batch_size"):
        fixed.append("batch_size")
    if fixed:
        raise ParametersEditedError(
            f"dataset {dataset.name}: {', '.join(fixed)} cannot change, since batches and partitions depend on it; "
            f"restore it: heimdall dataset repair {dataset.name} --restore-parameters --apply"
        )
    accept_parameters(stores.database, dataset, reason="a repair took the edited parameters as the new ones")


@dataclass(frozen=True)
class _Refused:
    """What was regenerated but not written."""

    not_written: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()


def _done(plan: RepairPlan, refused: _Refused) -> RepairPlan:
    written = tuple(idx for idx in plan.to_regenerate if idx not in refused.not_written)
    return replace(plan, to_regenerate=written, not_written=refused.not_written, refusals=refused.problems)


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
        edited_parameters=() if found.parameters_are_as_created else _differences(found),
        restores_digests=found.parameters_are_as_created and bool(_differences(found)),
    )


def _regenerate(
    stores: Stores, found: Findings, workers: Workers, making: Callable[[BatchProgress], None], *, overwrite: bool
) -> _Refused:
    """Regenerate samples by batch: objects first, then the rows of the batch in one transaction."""
    dataset, grid = found.dataset, found.dataset.grid
    not_written: list[int] = []
    rows: list[int] = []
    problems: list[str] = []
    for batch_no, sample_idxs in groupby(sorted(found.to_regenerate), key=grid.batch_no):
        span = grid.whole_batch(batch_no)
        if overwrite:
            make_samples(stores, dataset, span, list(sample_idxs), workers, making)
            continue
        done = repair_batch(stores, dataset, Recipe.of(dataset), span, list(sample_idxs), workers, making)
        not_written += done.not_written
        rows += done.refused
        problems += done.problems
    return _Refused(tuple(not_written), tuple(rows), tuple(problems))


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
    objects: ObjectStore,
    snapshot: DatasetSnapshot,
    orphans: _Orphans,
    to_repair: Findings | None = None,
    spared: Collection[int] = (),
) -> Iterator[str]:
    """Keys that no row names, or will name after the repair; streamed: memory does not grow with their number.

    Objects of `spared` samples stay: their rows could not be restored.
    """
    to_regenerate, orphan_rows = (
        (to_repair.to_regenerate, to_repair.orphan_iq_rows) if to_repair is not None else ((), ())
    )
    made: tuple[int | None, Collection[str]] = (None, ())
    for merged in merge_rows_and_objects(objects, snapshot):
        if merged.sample_idx in spared:
            continue
        paths: Collection[str] = merged.row.paths.values() if merged.row is not None else ()
        if merged.sample_idx is not None and merged.sample_idx in to_regenerate:
            if made[0] != merged.sample_idx:
                made = merged.sample_idx, _paths_when_regenerated(objects, snapshot.dataset, merged.sample_idx)
            paths = made[1]
        elif merged.sample_idx in orphan_rows:
            paths = ()
        named = {key for path in paths for key in (path, sidecar_key(path))}
        yield from (key for key, entry in merged.entries.items() if key not in named and orphans.is_removed(entry))


def _paths_when_regenerated(objects: ObjectStore, dataset: Dataset, sample_idx: int) -> list[str]:
    """Keys that the IQ row of a sample can name when it is repaired, in each form of objects."""
    if dataset.generator_version != GENERATOR_VERSION:
        return []  # not regenerated
    recipe = Recipe.of(dataset, objects)
    if not keeps_iq(recipe.spec, sample_idx):
        return []
    sites = draw_sample(recipe, sample_idx, ATTEMPTS_PER_SAMPLE * recipe.spec.batch_size).sites
    return [
        sample_iq_key(dataset.id, sample_idx, site.rx_id, form) for form in NEW_FORM.then_others() for site in sites
    ]
