"""Releases the first samples of a dataset: computes their root, and freezes their splits."""

from collections.abc import Iterator
from datetime import UTC, datetime

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.learning.splits import SplitDefinition
from heimdall_pipelines.model.dataset_parameters import stored_parameter
from heimdall_pipelines.releases.export_tables import gather_places
from heimdall_pipelines.releases.leaves import parameters_hash
from heimdall_pipelines.releases.licences import DEFAULT_LICENCE, licence_of
from heimdall_pipelines.releases.merkle import group_hashes, root_hash
from heimdall_pipelines.releases.refusals import require_ready
from heimdall_pipelines.releases.splitting import Places, definitions_of, describe_splits, split_codes
from heimdall_pipelines.releases.stored_rows import stored_groups
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, open_snapshot
from heimdall_pipelines.store.datasets import Dataset, get_dataset
from heimdall_pipelines.store.releases import (
    Release,
    add_release,
    feature_versions,
    list_releases,
    rows_root_now,
)
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.terrain.ground import ground_of
from heimdall_pipelines.throttle import Progress, Throttle

PROGRESS_INTERVAL_S = 2.0


class ReleaseError(HeimdallError):
    """The dataset cannot be released as it is."""


def release_dataset(
    stores: Stores,
    name: str,
    *,
    version: int | None = None,
    licence: str = DEFAULT_LICENCE,
    split_seed: int = 0,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> Release:
    """Release the committed samples of a dataset, which must begin with 0 and have no gap.

    Parameters
    ----------
    stores : Stores
    name : str
    version : int, optional
        The next one if None.
    licence : str, optional
        Identifier of `licences.LICENCES`, or a text file.
    split_seed : int, optional
        Of the splits.
    force : bool, optional
        Release also a dataset that is not healthy; the release says so.
    progress : callable, optional
        Called with a line every few seconds.

    Raises
    ------
    DatasetNotFoundError
    ReleaseExistsError
        The version is taken.
    NotReadyError
        The dataset is not healthy, or is being written.
    ReleaseError
        There are no samples, samples are missing, or their features have several versions.
    MalformedRowsError
        Rows were edited, so that no table can hold them.
    """
    dataset = get_dataset(stores.database, name)
    known = {release.version for release in list_releases(stores.database, dataset.id)}
    chosen = version if version is not None else max(known, default=0) + 1
    kept_licence = licence_of(licence)
    forced_because = require_ready(stores, dataset, "released", force=force)
    definitions = splits_of_dataset(dataset, split_seed)
    terrain = ground_of(dataset.terrain_tiles, stores.objects).terrain if dataset.terrain_tiles else None
    with open_snapshot(stores.database, name) as snapshot:
        if not snapshot.parameters.are_as_created and not force:
            raise ReleaseError(
                f"dataset {name} was not released: its parameters were edited; see: heimdall dataset validate {name}"
            )
        num_samples = sum(batch.num_samples for batch in snapshot.batches)
        feature_version = only_feature_version(snapshot, num_samples)
        places = Places()
        groups = group_hashes(_leaves(snapshot, num_samples, definitions, places, progress))
        rows_root = rows_root_now(snapshot.connection, dataset.id, num_samples)
        parameters = parameters_hash(parameters_of(snapshot.dataset))
    codes = split_codes(definitions, places, terrain)
    release = Release(
        dataset_id=dataset.id,
        version=chosen,
        num_samples=num_samples,
        root=root_hash(parameters, groups),
        group_hashes=b"".join(groups),
        rows_root=rows_root,
        generator_version=dataset.generator_version,
        feature_version=feature_version,
        licence=kept_licence,
        splits={kind: one.to_json() for kind, one in describe_splits(definitions, places, codes).items()},
        baselines=None,
        forced_because=forced_because,
        released_at=datetime.now(UTC),
    )
    add_release(stores.database, release)
    return release


def splits_of_dataset(dataset: Dataset, seed: int) -> tuple[SplitDefinition, ...]:
    """Splits that a dataset has."""
    return definitions_of(
        has_random_receivers=bool(stored_parameter(dataset.spec_json, "use_random_receivers")),
        has_terrain=bool(dataset.terrain_tiles),
        seed=seed,
    )


def parameters_of(dataset: Dataset) -> dict[str, object]:
    """What determines the samples, by the names of columns; as the export's description has it."""
    return {
        "dataset_type": dataset.dataset_type,
        "spec": dataset.spec_json,
        "receivers": [dict(vars(site)) for site in dataset.receivers],
        "seed": dataset.seed,
        "generator_version": dataset.generator_version,
        "terrain_tiles": list(dataset.terrain_tiles),
    }


def only_feature_version(snapshot: DatasetSnapshot, num_samples: int) -> int:
    """The feature version of the first samples, of which none may be missing.

    Raises
    ------
    ReleaseError
        There are none, some are missing, or there are several versions.
    """
    name = snapshot.dataset.name
    versions = feature_versions(snapshot.connection, snapshot.dataset.id, num_samples)
    found = sum(versions.values())
    if not num_samples:
        raise ReleaseError(f"dataset {name} has no samples yet; to generate them: heimdall dataset make {name}")
    if found != num_samples:
        raise ReleaseError(
            f"dataset {name} has {num_samples} committed samples, but {found} of the first {num_samples} rows: batches "
            f"before the last one are missing; to generate them: heimdall dataset make {name}"
        )
    if len(versions) > 1:
        listed = ", ".join(f"{num} of version {version}" for version, num in sorted(versions.items()))
        raise ReleaseError(
            f"dataset {name} has features of several versions: {listed}. To have one: "
            f"heimdall dataset repair {name} --features --apply"
        )
    return next(iter(versions))


def _leaves(
    snapshot: DatasetSnapshot,
    num_samples: int,
    definitions: tuple[SplitDefinition, ...],
    places: Places,
    progress: Progress,
) -> Iterator[bytes]:
    """Leaves of the samples; their positions are gathered on the way."""
    throttle = Throttle(PROGRESS_INTERVAL_S)
    needs_receivers = any(one.kind == "receivers" for one in definitions)
    for stored in stored_groups(snapshot, num_samples):
        gather_places(places, stored.tables, needs_receivers=needs_receivers)
        yield from stored.group.leaves()
        if throttle.is_due():
            progress(f"releasing {snapshot.dataset.name}: {stored.first_idx / num_samples:.0%}")
