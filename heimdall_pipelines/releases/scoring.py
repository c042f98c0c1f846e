"""Errors of the baselines on an export, or on a release, with which they are kept."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from heimdall_pipelines.learning.baselines import BaselineReport, evaluate_baselines
from heimdall_pipelines.learning.columns import TABLES
from heimdall_pipelines.learning.description import MERKLE_FILE, ExportDescription
from heimdall_pipelines.learning.folder import ExportFolder
from heimdall_pipelines.releases.exporting import export_dataset, finish, rows_in
from heimdall_pipelines.releases.folder_writing import new_folder
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


def with_baselines(unscored: Path, folder: Path, baselines: Mapping[str, Any]) -> ExportDescription:
    """Write an export again, with the errors of the baselines in its card: what an export after `score_release` gives.

    Parameters
    ----------
    unscored : Path
        A complete export.
    folder : Path
        Must not exist, or be empty.
    baselines : mapping
        As `learning.baselines.BaselineReport.to_json` gives it.

    Raises
    ------
    NotAnExportError, ExportError
    """
    description = replace(ExportDescription.read(unscored), baselines=dict(baselines))
    groups = [bytes.fromhex(group) for group in json.loads((unscored / MERKLE_FILE).read_text())["groups"]]
    with new_folder(folder) as files:
        for source in sorted([*unscored.glob("*.parquet"), *unscored.glob("iq/*.tar")]):
            files.copy(source, str(source.relative_to(unscored)))
        finish(files, description, {table: rows_in(files.path, table) for table in TABLES}, groups)
    return description


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
