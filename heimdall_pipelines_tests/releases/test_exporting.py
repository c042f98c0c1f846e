"""Exports of datasets: the same to the byte, complete or absent, and their rows are those of the database."""

from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.releasing import release_dataset
from heimdall_pipelines_tests.releases.support import NAME, content, healthy


def test_a_release_is_exported_twice_to_the_same_bytes(stores, tmp_path):
    healthy(stores)
    release_dataset(stores, NAME)
    export_dataset(stores, f"{NAME}@1", tmp_path / "one", iq="3")
    export_dataset(stores, f"{NAME}@1", tmp_path / "two", iq="3")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert sorted(content(tmp_path / "one")) == [
        "LICENSE", "README.md", "SHA256SUMS", "croissant.json", "iq.parquet", "iq/iq-00000.tar", "links.parquet",
        "merkle.json", "release.json", "samples.parquet", "time_differences.parquet",
    ]  # fmt: skip


def test_the_root_of_an_export_is_that_of_the_release(stores, tmp_path):
    healthy(stores)
    release = release_dataset(stores, NAME)
    assert export_dataset(stores, NAME, tmp_path / "as-it-stands").description.root == release.root.hex()
