"""Exports a dataset, or a release of it, as a folder of files that tools for learning open."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from heimdall_pipelines.learning.columns import TABLES
from heimdall_pipelines.learning.description import MERKLE_FILE, RELEASE_FILE, ExportDescription
from heimdall_pipelines.learning.splits import SplitDefinition
from heimdall_pipelines.releases.arrow_rows import RowTables
from heimdall_pipelines.releases.card import card_text
from heimdall_pipelines.releases.croissant import croissant_text
from heimdall_pipelines.releases.export_tables import (
    merkle_text,
    table_file,
    write_rows,
    write_samples,
    write_table,
)
from heimdall_pipelines.releases.folder_writing import ExportError, NewFolder, new_folder
from heimdall_pipelines.releases.iq_choice import IqChoice, iq_items
from heimdall_pipelines.releases.iq_writing import ShardWriter, iq_table_batches
from heimdall_pipelines.releases.leaves import iq_digest, parameters_hash
from heimdall_pipelines.releases.licences import DEFAULT_LICENCE, licence_of, licence_text
from heimdall_pipelines.releases.merkle import GROUP_SIZE, GroupHasher, root_hash, separate_hashes, truth_root_hash
from heimdall_pipelines.releases.names import parse_release_name
from heimdall_pipelines.releases.reading import released_iq
from heimdall_pipelines.releases.refusals import require_ready
from heimdall_pipelines.releases.releasing import only_feature_version, parameters_of, splits_of_dataset
from heimdall_pipelines.releases.splitting import describe_splits, split_codes
from heimdall_pipelines.releases.stored_rows import StoredGroup, stored_groups
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, open_snapshot
from heimdall_pipelines.store.datasets import Dataset, get_dataset
from heimdall_pipelines.store.releases import (
    Release,
    get_release,
    rows_root_now,
)
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.store.terrain_tiles import list_tiles
from heimdall_pipelines.terrain.ground import ground_of
from heimdall_pipelines.throttle import Progress, Throttle

PROGRESS_INTERVAL_S = 2.0


class ReleaseChangedError(ExportError):
    """The samples in the database are not those that were released."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes
    ----------
    folder : Path
    description : ExportDescription
    rows : dict of str to int
        Of each table.
    shards : tuple of str
    size_bytes : int
    """

    folder: Path
    description: ExportDescription
    rows: dict[str, int]
    shards: tuple[str, ...]
    size_bytes: int


def export_dataset(
    stores: Stores,
    name: str,
    folder: Path,
    *,
    iq: str = "none",
    licence: str | None = None,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> ExportReport:
    """Write a dataset into a folder that appears when it is complete.

    Parameters
    ----------
    stores : Stores
    name : str
        ``NAME``: as it stands; ``NAME@VERSION``: a release.
    folder : Path
        Must not exist, or be empty.
    iq : str, optional
        none, stored, all or the number of samples whose IQ is written.
    licence : str, optional
        Of a dataset without release; a release has its own.
    force : bool, optional
        Export also a dataset that is not healthy; the card says so.
    progress : callable, optional
        Called with a line every few seconds.

    Raises
    ------
    DatasetNotFoundError, ReleaseNotFoundError, NotReadyError, ReleaseError
    ReleaseChangedError
        The rows are not those that were released.
    ExportError
        The folder is taken or cannot be written.
    """
    choice = IqChoice(iq)
    wanted = parse_release_name(name)
    dataset = get_dataset(stores.database, wanted.name)
    release = None
    if wanted.version is not None:
        release = get_release(stores.database, dataset.id, wanted.name, wanted.version)
        if licence is not None and licence_of(licence) != release.licence:
            raise ExportError(f"{name} was released under another licence, which an export does not change")
    forced_because = require_ready(stores, dataset, "exported", force=force)
    if release is not None and release.forced_because is not None:
        forced_because = release.forced_because
    with new_folder(folder) as files, open_snapshot(stores.database, wanted.name) as snapshot:
        num_samples = release.num_samples if release else sum(batch.num_samples for batch in snapshot.batches)
        feature_version = only_feature_version(snapshot, num_samples)
        if release is not None:
            _require_released_rows(snapshot, release, name)
        definitions = _definitions(snapshot.dataset, release)
        description = ExportDescription(
            name=wanted.name,
            kind="dataset",
            version=wanted.version,
            num_samples=num_samples,
            date=f"{release.released_at if release else dataset.created_at:%Y-%m-%d}",
            licence=release.licence if release else licence_of(licence or DEFAULT_LICENCE),
            feature_version=feature_version,
            iq=choice.text,
            has_time_differences=True,
            **parameters_of(snapshot.dataset),  # type: ignore[arg-type]
            tile_sources=_tile_sources(stores, dataset),
            baselines=release.baselines if release else None,
            forced_because=forced_because,
        )
        return _write(stores, files, folder, snapshot, release, description, definitions, choice, progress)


def _write(
    stores: Stores,
    files: NewFolder,
    folder: Path,
    snapshot: DatasetSnapshot,
    release: Release | None,
    description: ExportDescription,
    definitions: tuple[SplitDefinition, ...],
    choice: IqChoice,
    progress: Progress,
) -> ExportReport:
    dataset, num_samples = snapshot.dataset, description.num_samples
    report = throttled(progress, description.label, num_samples)
    leaves = _Leaves(with_features=release is None)
    written = write_rows(files, leaves.passing(stored_groups(snapshot, num_samples)), definitions, report)
    terrain = ground_of(dataset.terrain_tiles, stores.objects).terrain if dataset.terrain_tiles else None
    codes = split_codes(definitions, written.places, terrain)
    write_samples(files, codes)
    shards = ShardWriter(files)
    num_iq = write_table(files, "iq", iq_table_batches(iq_items(snapshot, stores.objects, choice, num_samples), shards))
    splits = describe_splits(definitions, written.places, codes)
    parameters = parameters_hash(description.parameters())
    truth_root = truth_root_hash(parameters, leaves.of_truth.hashes, iq_digest(released_iq(files.path)))
    if release is not None:
        groups = separate_hashes(release.group_hashes)
        for kind, split in splits.items():
            if split.labels_sha256 != release.splits[kind]["labels_sha256"]:
                raise ReleaseChangedError(
                    f"{description.label}: the split {kind} would not be the one that was released; export it with the "
                    "version of heimdall that released it"
                )
        root = release.root
    else:
        groups = leaves.of_rows.hashes
        root = root_hash(parameters, groups)
    description = replace(description, splits=splits, root=root.hex(), truth_root=truth_root.hex())
    counts = written.num_rows(num_iq)
    finish(files, description, counts, groups)
    return ExportReport(folder, description, counts, tuple(shards.names), files.total_bytes)


class _Leaves:
    """Hashes the leaves of samples while they are written."""

    def __init__(self, *, with_features: bool) -> None:
        self.of_rows, self.of_truth = GroupHasher(), GroupHasher()
        self._with_features = with_features

    def passing(self, groups: Iterable[StoredGroup]) -> Iterator[RowTables]:
        for one in groups:
            self.of_truth.add(one.group.truth_leaves())
            if self._with_features:
                self.of_rows.add(one.group.leaves())
            yield one.tables


def finish(files: NewFolder, description: ExportDescription, counts: dict[str, int], groups: list[bytes]) -> None:
    """Write what describes the tables: release.json, merkle.json, card, licence and Croissant."""
    files.write(RELEASE_FILE, description.to_text())
    if groups:
        files.write(MERKLE_FILE, merkle_text(groups, GROUP_SIZE))
    files.write("LICENSE", licence_text(description.licence))
    files.write("README.md", card_text(description, counts))
    sums = {table: files.sha256(table_file(table)) for table in TABLES}
    sizes = {table: files.size_bytes(table_file(table)) for table in TABLES}
    files.write("croissant.json", croissant_text(description, sums, sizes))


def throttled(progress: Progress, label: str, num_samples: int) -> Callable[[int], None]:
    """A function that reports progress every few seconds."""
    throttle = Throttle(PROGRESS_INTERVAL_S)

    def report(num: int) -> None:
        if throttle.is_due():
            progress(f"exporting {label}: {num} of {num_samples} samples")

    return report


def rows_in(folder: Path, table: str) -> int:
    """Rows of an exported table."""
    return int(pq.ParquetFile(folder / table_file(table)).metadata.num_rows)


def _definitions(dataset: Dataset, release: Release | None) -> tuple[SplitDefinition, ...]:
    if release is None:
        return splits_of_dataset(dataset, seed=0)
    known = {kind: SplitDefinition.from_json(one["definition"]) for kind, one in release.splits.items()}
    return tuple(known[kind] for kind in ("random", "region", "receivers", "terrain") if kind in known)


def _require_released_rows(snapshot: DatasetSnapshot, release: Release, label: str) -> None:
    if rows_root_now(snapshot.connection, snapshot.dataset.id, release.num_samples) != release.rows_root:
        raise ReleaseChangedError(
            f"{label} cannot be exported: its rows are not those that were released. To see which: "
            f"heimdall dataset verify {label}"
        )


def _tile_sources(stores: Stores, dataset: Dataset) -> dict[str, str]:
    found = {tile.sha256: f"{tile.source}; {tile.licence}" for tile in list_tiles(stores.database)}
    return {sha256: found.get(sha256, "shipped with heimdall") for sha256 in dataset.terrain_tiles}
