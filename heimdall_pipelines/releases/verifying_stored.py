"""Verifies a release against the database: its rows against the root, and samples regenerated from the seed."""

from collections.abc import Callable
from typing import Any

from heimdall_pipelines.datasets.samples import GeneratorVersionError, Recipe
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.releases.arrow_rows import MalformedRowsError
from heimdall_pipelines.releases.leaves import iq_digest, parameters_hash
from heimdall_pipelines.releases.merkle import GROUP_SIZE, group_hashes, root_hash, separate_hashes, truth_root_hash
from heimdall_pipelines.releases.names import ReleaseName
from heimdall_pipelines.releases.reading import SAMPLES_AT_ONCE, iq_sums
from heimdall_pipelines.releases.releasing import parameters_of
from heimdall_pipelines.releases.stored_rows import stored_groups
from heimdall_pipelines.releases.verifying import RegenerationTask, Verification, chosen_samples, regenerate_rows
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, open_snapshot
from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines.store.releases import Release, get_release
from heimdall_pipelines.store.stores import Stores

ChosenRow = tuple[dict[str, Any], dict[str, str]]  # columns of measurement_features, SHA-256 of stored IQ by rx_id


def verify_release(
    stores: Stores,
    wanted: ReleaseName,
    *,
    share: float = 0.01,
    seed: int | None = None,
    num_workers: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Compare the rows of a release with its root, and a random share of its samples with what the seed gives.

    Parameters
    ----------
    stores : Stores
    wanted : ReleaseName
        With a version.
    share, seed, num_workers, progress
        As of `verifying.verify_export`.

    Raises
    ------
    DatasetNotFoundError, ReleaseNotFoundError, ShareError
    """
    assert wanted.version is not None
    dataset = get_dataset(stores.database, wanted.name)
    release = get_release(stores.database, dataset.id, wanted.name, wanted.version)
    found = Verification(f"{wanted.name}@{wanted.version}")
    chosen = chosen_samples(release.num_samples, share, seed)
    with open_snapshot(stores.database, wanted.name) as snapshot:
        progress(f"verifying rows of {found.label}")
        rows = _verify_rows(snapshot, release, found, chosen)
        if not chosen:
            return found
        try:
            recipe = Recipe.of(snapshot.dataset, stores.objects)
        except GeneratorVersionError as error:
            found.notes.append(f"no sample was regenerated: {error}")
            return found
    progress(f"regenerating {len(chosen)} samples")
    tasks = [RegenerationTask(recipe, (row,), {row["sample_idx"]: sums}) for row, sums in rows]
    with Workers(num_workers if len(tasks) > 1 else 1) as workers:
        regenerate_rows(tasks, workers, found)
    return found


def _verify_rows(
    snapshot: DatasetSnapshot, release: Release, found: Verification, chosen: frozenset[int]
) -> list[ChosenRow]:
    """Compare the rows with the hashes of their groups; returns those of the chosen samples."""
    groups = separate_hashes(release.group_hashes)
    kept: list[ChosenRow] = []
    leaves: list[bytes] = []
    truths: list[bytes] = []
    iq = []
    try:
        for stored in stored_groups(snapshot, release.num_samples):
            group, first = stored.group, stored.first_idx
            indices = range(first, first + len(group.samples))
            if first != len(leaves) or group.samples["sample_idx"].to_pylist() != list(indices):
                found.add(f"samples from {len(leaves)} on: rows are missing")
                return []
            leaves += group.leaves()
            truths += group.truth_leaves()
            iq.append(group.iq)
            sums = iq_sums(group.iq)
            kept += [(row, sums.get(row["sample_idx"], {})) for row in group.chosen(chosen.intersection(indices))]
    except MalformedRowsError as error:
        found.add(str(error))
        first = len(leaves)
        for what in _edits(snapshot, first, min(first + SAMPLES_AT_ONCE, release.num_samples)):
            found.add(what)
        return []
    computed = group_hashes(leaves)
    for number, (one, other) in enumerate(zip(groups, computed, strict=False)):
        if one != other:
            first, end = number * GROUP_SIZE, min((number + 1) * GROUP_SIZE, release.num_samples)
            found.add(f"samples {first} to {end - 1}: the rows are not those of the root")
            for what in _edits(snapshot, first, end):
                found.add(what)
    found.num_samples = len(leaves)
    if len(leaves) != release.num_samples:
        found.add(f"samples from {len(leaves)} on: rows are missing")
        return []
    parameters = parameters_hash(parameters_of(snapshot.dataset))
    root = root_hash(parameters, computed)
    found.root, found.truth_root = root.hex(), truth_root_hash(parameters, truths, iq_digest(iq)).hex()
    if root != release.root:
        what = "the dataset's parameters" if computed == groups else "the rows"
        found.add(f"the root is {release.root.hex()}, {what} give {root.hex()}")
    return kept


def _edits(snapshot: DatasetSnapshot, first: int, end: int) -> list[str]:
    """Samples that were edited by hand; a repair that was applied leaves no such edit."""
    return [
        f"sample {sample.sample_idx}: {sample.edit}"
        for sample in snapshot.samples(first, end)
        if sample.edit is not None
    ]
