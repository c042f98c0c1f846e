"""Scores the reference dataset with all processes: each baseline on each split is a task of its own."""

from dataclasses import dataclass
from pathlib import Path

from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.learning.baselines import (
    BASELINES,
    BOUND,
    ROBUST_TDOA,
    TREES,
    TREES_TDOA,
    BaselineReport,
    BaselineRow,
    evaluate_baselines,
)
from heimdall_pipelines.learning.folder import ExportFolder

_SLOWEST_FIRST = (TREES_TDOA, ROBUST_TDOA, TREES)


@dataclass(frozen=True)
class ScoringTask:
    """A baseline on a split of an export; ``arguments`` are those of `evaluate_baselines`."""

    folder: Path
    split: str
    name: str
    arguments: dict[str, int]


def score_in_parallel(folder: Path, workers: Workers, arguments: dict[str, int]) -> BaselineReport:
    """The report of `evaluate_baselines`, computed by several processes."""
    splits, names = list(ExportFolder.open(folder).description.splits), [*BASELINES, BOUND]
    order = [*_SLOWEST_FIRST, *(name for name in names if name not in _SLOWEST_FIRST)]
    tasks = [ScoringTask(folder, split, name, arguments) for name in order for split in splits]
    found = {(row.split, row.baseline): row for result in workers.map(score, tasks) for row in result or ()}
    return BaselineReport(arguments["seed"], tuple(found[split, name] for split in splits for name in names))


def score(task: ScoringTask) -> tuple[BaselineRow, ...]:
    """Rows of a task; runs in a worker."""
    export = ExportFolder.open(task.folder)
    return evaluate_baselines(
        export,
        seed=task.arguments["seed"],
        max_train=task.arguments["max_train"],
        max_tdoa=task.arguments["max_tdoa"],
        splits=[task.split],
        names=[task.name],
    ).rows
