"""Errors of the baselines on an export, or on a release, with which they are kept."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from heimdall_pipelines.learning.baselines import BaselineReport, evaluate_baselines
from heimdall_pipelines.learning.folder import ExportFolder
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.names import parse_release_name
from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines.store.releases import set_baselines
from heimdall_pipelines.store.stores import Stores


def score_folder(
    folder: Path, *, seed: int, max_train: int, max_tdoa: int, progress: Callable[[str], None]
) -> BaselineReport:
    """Errors of the baselines on an export, which does not change; parameters as of `evaluate_baselines`."""
    return evaluate_baselines(
        ExportFolder.open(folder), seed=seed, max_train=max_train, max_tdoa=max_tdoa, progress=progress
    )


def score_release(
    stores: Stores, name: str, *, seed: int, max_train: int, max_tdoa: int, progress: Callable[[str], None]
) -> BaselineReport:
    """Errors of the baselines on a dataset; with those of a release its later exports show them.

    Parameters
    ----------
    stores : Stores
    name : str
        ``NAME`` or ``NAME@VERSION``.
    seed, max_train, max_tdoa, progress
        As of `evaluate_baselines`.

    Raises
    ------
    DatasetNotFoundError, ReleaseNotFoundError, NotReadyError, MissingLearnerError
    """
    wanted = parse_release_name(name)
    with tempfile.TemporaryDirectory(prefix="heimdall-baseline-") as parent:
        folder = Path(parent) / "export"
        export_dataset(stores, name, folder, progress=progress)
        report = score_folder(folder, seed=seed, max_train=max_train, max_tdoa=max_tdoa, progress=progress)
    if wanted.version is not None:
        dataset = get_dataset(stores.database, wanted.name)
        set_baselines(stores.database, dataset.id, wanted.version, report.to_json())
    return report
