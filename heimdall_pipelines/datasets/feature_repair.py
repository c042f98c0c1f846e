"""Upgrades feature rows of older versions to the present set of features, from the dataset's seed.

IQ rows, objects, truth and counts do not change. A row is replaced only if its own features match those that the seed
gives.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from heimdall_pipelines.datasets.checks import ProgressLines
from heimdall_pipelines.datasets.regeneration_checks import differences
from heimdall_pipelines.datasets.samples import Recipe, make_sample
from heimdall_pipelines.datasets.stored_truth import stored_sample
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.model.checks import MAX_EXAMPLES
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.store.batches import replace_features
from heimdall_pipelines.store.dataset_locks import exclusive_lock
from heimdall_pipelines.store.dataset_snapshot import SampleRow, open_snapshot
from heimdall_pipelines.store.datasets import Dataset, get_living_dataset
from heimdall_pipelines.store.releases import require_no_releases
from heimdall_pipelines.store.sample_rows import features_json
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress

_ROWS_PER_TASK = 5  # about a tenth of a second of work, so that workers end at about the same time


@dataclass(frozen=True)
class FeatureRepair:
    """What an upgrade of features would do, or did.

    Attributes
    ----------
    dataset : Dataset
    rows_of_version : dict of int to int
        Rows of each older version, before.
    batches : tuple of int
        Their batches.
    num_replaced : int
        Rows that were replaced; 0 in a plan.
    num_kept : int
        Rows that were not replaced, because they differ from what the seed gives; 0 in a plan.
    examples : tuple of str
        How some of these differ.
    """

    dataset: Dataset
    rows_of_version: dict[int, int]
    batches: tuple[int, ...]
    num_replaced: int = 0
    num_kept: int = 0
    examples: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether every row has the present version."""
        return not self.rows_of_version

    def lines(self, *, is_done: bool) -> list[str]:
        """Describe what a repair would do, or did."""
        name = self.dataset.name
        if self.is_empty:
            return [f"all features of {name} are of version {FEATURE_VERSION}"]
        rows = ", ".join(f"{num} rows of version {version}" for version, num in sorted(self.rows_of_version.items()))
        if not is_done:
            return [
                f"{name}: {rows} would be brought to version {FEATURE_VERSION}, each after a comparison of the "
                "features that it has with those regenerated from the seed; IQ objects stay as they are"
            ]
        lines = [f"{name}: {rows}; {self.num_replaced} brought to version {FEATURE_VERSION}"]
        if self.num_kept:
            lines.append(f"  left as they are, since they differ from what the seed gives: {self.num_kept}")
            lines += [f"  - {example}" for example in self.examples]
            lines.append(f"  first repair these: heimdall dataset repair {name} --sample IDX --apply")
        return lines

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return vars(self) | {"dataset": self.dataset.name, "feature_version": FEATURE_VERSION}


@dataclass(frozen=True)
class _Task:
    recipe: Recipe
    rows: tuple[SampleRow, ...]


@dataclass(frozen=True)
class _Regenerated:
    """A row for `replace_features`, or why there is none."""

    sample_idx: int
    features: str | None
    difference: str | None


def plan_feature_repair(stores: Stores, name: str) -> FeatureRepair:
    """Count the rows of older versions; changes nothing.

    Raises
    ------
    DatasetNotFoundError, GeneratorVersionError, UnavailableError
    """
    dataset = get_living_dataset(stores.database, name)
    Recipe.of(dataset, stores.objects)  # raises if this version cannot regenerate it
    rows_of_version: Counter[int] = Counter()
    batches = set()
    with open_snapshot(stores.database, name) as snapshot:
        for sample_idx, version in snapshot.older_features(FEATURE_VERSION):
            rows_of_version[version] += 1
            batches.add(dataset.grid.batch_no(sample_idx))
    return FeatureRepair(dataset, dict(rows_of_version), tuple(sorted(batches)))


def repair_features(stores: Stores, name: str, workers: Workers, progress: Progress = lambda _: None) -> FeatureRepair:
    """Regenerate the rows of older versions from the seed; each batch is one transaction.

    It can be stopped and repeated: rows that were replaced have the present version.

    Parameters
    ----------
    stores : Stores
    name : str
    workers : Workers
    progress : callable, optional
        Called with a line every few seconds.

    Returns
    -------
    FeatureRepair
        What was done.

    Raises
    ------
    DatasetLockedError
        A batch of the dataset is being made, or a repair is running; nothing was changed.
    GeneratorVersionError
        The seed gives other samples in this version; nothing was changed.
    ReleasedError
        Rows have an older version, and the dataset has releases; nothing was changed.
    DatasetNotFoundError, UnavailableError
    """
    dataset = get_living_dataset(stores.database, name)
    recipe = Recipe.of(dataset, stores.objects)
    num_replaced = num_kept = 0
    examples: list[str] = []
    with exclusive_lock(stores.database, dataset.id, name):
        plan = plan_feature_repair(stores, name)
        if not plan.is_empty:
            require_no_releases(
                stores.database,
                dataset.id,
                name,
                "newer features would change the samples of",
                "create a new dataset with the same parameters and seed",
            )
        show = ProgressLines(progress, name).of(f"of {sum(plan.rows_of_version.values())} rows regenerated")
        for batch_no in plan.batches:
            rows: list[str] = []
            for row in _regenerated(stores, recipe, name, batch_no, workers):
                if row.features is not None:
                    rows.append(row.features)
                    show(num_replaced + len(rows))
                    continue
                num_kept += 1
                if len(examples) < MAX_EXAMPLES:
                    examples.append(f"sample {row.sample_idx}: {row.difference}")
            num_replaced += replace_features(stores.database, dataset, rows)
    return FeatureRepair(
        dataset, plan.rows_of_version, plan.batches, num_replaced, num_kept, tuple(examples[:MAX_EXAMPLES])
    )


def _regenerated(stores: Stores, recipe: Recipe, name: str, batch_no: int, workers: Workers) -> Iterator[_Regenerated]:
    size = recipe.spec.batch_size
    with open_snapshot(stores.database, name) as snapshot:
        samples = snapshot.samples(batch_no * size, (batch_no + 1) * size)
        older = [row for row in samples if row.feature_version < FEATURE_VERSION]
    tasks = [
        _Task(recipe, tuple(older[start : start + _ROWS_PER_TASK])) for start in range(0, len(older), _ROWS_PER_TASK)
    ]
    with closing(workers.map(_regenerate, tasks)) as results:
        for result in results:
            yield from result or ()


def _regenerate(task: _Task) -> Sequence[_Regenerated]:
    """Regenerate some rows; runs in the workers."""
    return [_regenerate_row(task.recipe, row) for row in task.rows]


def _regenerate_row(recipe: Recipe, row: SampleRow) -> _Regenerated:
    if row.unreadable is not None:
        return _Regenerated(row.sample_idx, None, f"{row.unreadable} of the feature row is malformed")
    if row.edit is not None:
        return _Regenerated(row.sample_idx, None, str(row.edit))
    drawn = stored_sample(recipe, row)
    if drawn.scene is None:
        return _Regenerated(row.sample_idx, None, "the seed gives no acceptable scene in the sample's attempts")
    made = make_sample(recipe, drawn)
    difference = next(differences(row, made), None)
    return _Regenerated(row.sample_idx, None if difference else features_json(made), difference)
