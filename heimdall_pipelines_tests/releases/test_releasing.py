"""Releases never change: what would change them is refused, and their splits are frozen."""

from dataclasses import replace

import pytest

from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.datasets.feature_repair import repair_features
from heimdall_pipelines.datasets.repair import repair_dataset
from heimdall_pipelines.datasets.requesting import shrink_dataset
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.releases.exporting import ReleaseChangedError, export_dataset
from heimdall_pipelines.releases.folder_writing import ExportError
from heimdall_pipelines.releases.licences import UnknownLicenceError
from heimdall_pipelines.releases.merkle import group_hashes, leaf_hash, root_hash, tree_hash
from heimdall_pipelines.releases.names import ReleaseName
from heimdall_pipelines.releases.refusals import NotReadyError
from heimdall_pipelines.releases.releasing import ReleaseError, release_dataset
from heimdall_pipelines.releases.verifying_stored import verify_release
from heimdall_pipelines.store.dataset_locks import shared_lock
from heimdall_pipelines.store.datasets import SamplesExistError, find_dataset, get_dataset
from heimdall_pipelines.store.releases import (
    ReleasedError,
    ReleaseExistsError,
    list_releases,
)
from heimdall_pipelines_tests.datasets.support import add, execute, expand, make
from heimdall_pipelines_tests.releases.support import NAME, healthy


def test_releases_are_numbered_and_a_version_is_taken_once(stores):
    dataset = healthy(stores)
    first = release_dataset(stores, NAME)
    assert (first.version, first.num_samples, first.licence) == (1, 12, "CC-BY-4.0")
    with pytest.raises(ReleaseExistsError, match="version 1 is released already"):
        release_dataset(stores, NAME, version=1)
    assert release_dataset(stores, NAME, licence="CC0-1.0").version == 2
    stored = list_releases(stores.database, dataset.id)
    assert [one.version for one in stored] == [1, 2]
    assert stored[0].root == stored[1].root == first.root
    assert replace(stored[0], released_at=first.released_at) == first


def test_the_same_parameters_give_the_same_root_in_another_dataset(stores):
    healthy(stores)
    healthy(stores, name="twin")
    assert release_dataset(stores, NAME).root == release_dataset(stores, "twin").root


def test_an_expansion_does_not_change_a_release(stores, tmp_path):
    dataset = healthy(stores, 8, batch_size=5)
    make(stores, NAME, 1)
    validate_dataset(stores, NAME, seed=1)
    release = release_dataset(stores, NAME)
    export_dataset(stores, f"{NAME}@1", tmp_path / "before")
    expand(stores, dataset, 12)
    for batch_no in (1, 2):
        make(stores, NAME, batch_no)
    validate_dataset(stores, NAME, seed=1)
    export_dataset(stores, f"{NAME}@1", tmp_path / "after")
    for name in ("samples.parquet", "links.parquet", "SHA256SUMS"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()
    assert verify_release(stores, ReleaseName(NAME, 1)).passed
    assert release_dataset(stores, NAME).num_samples == 12
    assert release.num_samples == 8


def test_a_dataset_with_releases_is_only_deleted_with_them(stores):
    dataset = healthy(stores)
    release_dataset(stores, NAME)
    with pytest.raises(ReleasedError, match=r"night@1, which never change.*--with-releases"):
        delete_dataset(stores, NAME)
    assert get_dataset(stores.database, NAME).deletion_began_at is None
    delete_dataset(stores, NAME, with_releases=True)
    assert find_dataset(stores.database, NAME) is None
    assert list_releases(stores.database, dataset.id) == []


def test_released_samples_are_not_shrunk_away(stores):
    healthy(stores)
    release_dataset(stores, NAME)
    with pytest.raises(SamplesExistError):
        shrink_dataset(stores, NAME, 11)


def test_repairs_that_would_change_a_release_are_refused(stores):
    healthy(stores)
    release_dataset(stores, NAME)
    with Workers(1) as workers:
        with pytest.raises(ReleasedError, match="repair with --overwrite could change the samples of night@1"):
            repair_dataset(stores, NAME, workers, overwrite=True)
        execute(stores, "UPDATE heimdall.measurement_features SET feature_version = 1 WHERE sample_idx = 2")
        with pytest.raises(ReleasedError, match="newer features would change the samples of night@1"):
            repair_features(stores, NAME, workers)


@pytest.mark.slow
def test_a_repair_of_damage_gives_back_what_was_released(stores, tmp_path):
    healthy(stores)
    release_dataset(stores, NAME)
    execute(stores, "DELETE FROM heimdall.measurement_features WHERE sample_idx = 2")
    with pytest.raises(ReleaseError, match="11 of the first 12 rows"):
        export_dataset(stores, f"{NAME}@1", tmp_path / "damaged")
    with Workers(1) as workers:
        repair_dataset(stores, NAME, workers)
    validate_dataset(stores, NAME, seed=1)
    export_dataset(stores, f"{NAME}@1", tmp_path / "repaired")
    assert verify_release(stores, ReleaseName(NAME, 1), share=1.0).passed


def test_rows_that_commands_changed_are_not_exported_as_the_release(stores, tmp_path):
    healthy(stores)
    release_dataset(stores, NAME)
    execute(stores, "UPDATE heimdall.measurement_features SET digest = sha256('x') WHERE sample_idx = 2")
    with pytest.raises(ReleaseChangedError, match="heimdall dataset verify night@1"):
        export_dataset(stores, f"{NAME}@1", tmp_path / "changed")
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_that_was_not_found_healthy_needs_force(stores, tmp_path):
    add(stores, NAME, 5)
    make(stores, NAME)
    with pytest.raises(NotReadyError, match="not released: it was never validated"):
        release_dataset(stores, NAME)
    execute(stores, "UPDATE heimdall.synthetic_datasets SET health_status = 'critical'")
    with pytest.raises(NotReadyError, match="not exported: its health is critical"):
        export_dataset(stores, NAME, tmp_path / "export")
    report = export_dataset(stores, NAME, tmp_path / "export", force=True)
    assert report.description.forced_because == "its health is critical"
    assert "Exported with --force: its health is critical" in (tmp_path / "export" / "README.md").read_text()


def test_a_dataset_that_is_being_written_is_not_released(stores):
    dataset = healthy(stores)
    with (
        shared_lock(stores.database, dataset.id),
        pytest.raises(NotReadyError, match="it is being written: a batch or a repair is running"),
    ):
        release_dataset(stores, NAME)


def test_a_dataset_without_samples_or_with_gaps_is_not_released(stores):
    dataset = add(stores, NAME, 10, batch_size=5)
    with pytest.raises(ReleaseError, match="has no samples yet"):
        release_dataset(stores, NAME, force=True)
    make(stores, NAME, 1)
    with pytest.raises(ReleaseError, match="batches before the last one are missing"):
        release_dataset(stores, NAME, force=True)
    assert list_releases(stores.database, dataset.id) == []


def test_features_of_several_versions_are_not_released(stores):
    healthy(stores)
    execute(stores, "UPDATE heimdall.measurement_features SET feature_version = 1 WHERE sample_idx = 2")
    with pytest.raises(ReleaseError, match=r"1 of version 1, 11 of version \d+.*repair night --features"):
        release_dataset(stores, NAME)


def test_an_unknown_licence_is_refused_and_a_text_is_kept(stores, tmp_path):
    healthy(stores)
    with pytest.raises(UnknownLicenceError, match=r"licence GPL: one of CC-BY-4\.0"):
        release_dataset(stores, NAME, licence="GPL")
    text = tmp_path / "terms.txt"
    text.write_text("For tests only.\n")
    release_dataset(stores, NAME, licence=str(text))
    export_dataset(stores, f"{NAME}@1", tmp_path / "export")
    assert (tmp_path / "export" / "LICENSE").read_text() == "For tests only.\n"
    with pytest.raises(ExportError, match="released under another licence"):
        export_dataset(stores, f"{NAME}@1", tmp_path / "other", licence="MIT")


def test_the_tree_depends_on_every_leaf_and_on_their_order():
    leaves = [leaf_hash(number.to_bytes(32, "big")) for number in range(600)]
    roots = {root_hash(bytes(32), group_hashes(leaves))}
    for at in (0, 255, 256, 599):
        changed = leaves.copy()
        changed[at] = bytes(32)
        roots.add(root_hash(bytes(32), group_hashes(changed)))
    roots |= {root_hash(bytes(32), group_hashes(leaves[:-1])), root_hash(bytes(32), group_hashes(leaves[::-1]))}
    roots.add(root_hash(b"\1" * 32, group_hashes(leaves)))
    assert len(roots) == 8


def test_groups_are_nodes_of_the_whole_tree():
    leaves = [leaf_hash(bytes([number % 7]) * 32) for number in range(700)]
    assert tree_hash(group_hashes(leaves)) == tree_hash(leaves)
