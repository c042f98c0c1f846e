"""Verifies a release against the database: its rows against the root, and samples regenerated from the seed."""

from collections.abc import Callable
from itertools import islice
from typing import Any

from heimdall_pipelines.datasets.samples import GeneratorVersionError, Recipe
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.model.truth import MalformedTruthError
from heimdall_pipelines.releases.leaves import leaf_of_row, parameters_hash
from heimdall_pipelines.releases.merkle import GROUP_SIZE, HASH_BYTES, root_hash, tree_hash
from heimdall_pipelines.releases.names import ReleaseName
from heimdall_pipelines.releases.releasing import parameters_of
from heimdall_pipelines.releases.verifying import RegenerationTask, Verification, chosen_samples, regenerate_rows
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, open_snapshot
from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines.store.releases import Release, get_release, rows_for_leaves
from heimdall_pipelines.store.stores import Stores


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
    tasks = [RegenerationTask(recipe, (row,), {row["sample_idx"]: row["iq_sha256"] or {}}) for row in rows]
    with Workers(num_workers if len(tasks) > 1 else 1) as workers:
        regenerate_rows(tasks, workers, found)
    return found


def _verify_rows(
    snapshot: DatasetSnapshot, release: Release, found: Verification, chosen: frozenset[int]
) -> list[dict[str, Any]]:
    """Compare the rows with the hashes of their groups; returns those of the chosen samples."""
    groups = [release.group_hashes[at : at + HASH_BYTES] for at in range(0, len(release.group_hashes), HASH_BYTES)]
    rows = rows_for_leaves(snapshot.connection, snapshot.dataset.id, 0, release.num_samples)
    kept, computed = [], []
    for number, group in enumerate(groups):
        first = number * GROUP_SIZE
        some = list(islice(rows, min(GROUP_SIZE, release.num_samples - first)))
        indices = [row["sample_idx"] for row in some]
        if indices != list(range(first, first + min(GROUP_SIZE, release.num_samples - first))):
            found.add(f"samples from {first} on: rows are missing")
            return []
        kept += [row for row in some if row["sample_idx"] in chosen]
        try:
            computed.append(tree_hash([leaf_of_row(row) for row in some]))
        except (MalformedTruthError, TypeError, ValueError, AttributeError) as error:
            found.add(f"samples {first} to {indices[-1]}: a row is malformed: {error}")
            computed.append(b"")
        if computed[-1] != group:
            found.add(f"samples {first} to {indices[-1]}: the rows are not those of the root")
            for what in _edits(snapshot, first, indices[-1] + 1):
                found.add(what)
    found.num_samples = release.num_samples
    root = root_hash(parameters_hash(parameters_of(snapshot.dataset)), computed)
    found.root = root.hex()
    if root != release.root:
        what = "the dataset's parameters" if computed == groups else "the rows"
        found.add(f"the root is {release.root.hex()}, {what} give {root.hex()}")
    return kept


def _edits(snapshot: DatasetSnapshot, first: int, end: int) -> list[str]:
    """Samples that were edited by hand; a repair that was applied leaves no such edit."""
    found = []
    for sample in snapshot.samples(first, end):
        if sample.edit is not None:
            found.append(f"sample {sample.sample_idx}: {sample.edit}")
    return found
