"""What a store on this machine has taken is on the disk before the rows that name it are committed."""

import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from heimdall_pipelines.datasets import generating
from heimdall_pipelines.sessions import importing
from heimdall_pipelines.store.object_files import sync_files
from heimdall_pipelines.store.objects import ObjectLocation, ObjectStore, ObjectsUnavailableError
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.datasets.support import add, make
from heimdall_pipelines_tests.own_s3 import OwnS3, own_s3
from heimdall_pipelines_tests.sessions.support import import_files


@pytest.fixture
def synced(monkeypatch) -> list[str]:
    """Files and folders, in the order in which this process syncs them."""
    found: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        found.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_every_file_is_synced_before_the_folder_that_names_it(tmp_path, synced):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("1.dat", "a/2.log", "a/b/3.idx"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link").symlink_to("/etc/hostname")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s3.sock"))
        assert sync_files(tmp_path) == 3
    names = [os.path.relpath(path, tmp_path) for path in synced]
    assert sorted(names) == sorted([".", "1.dat", "a", "a/2.log", "a/b", "a/b/3.idx"])
    for file in ("1.dat", "a/2.log", "a/b/3.idx"):
        assert names.index(file) < names.index(str(Path(file).parent))


def test_a_file_that_vanishes_meanwhile_is_skipped_and_a_missing_folder_is_no_success(tmp_path, monkeypatch):
    (tmp_path / "1.dat").write_bytes(b"x")
    opened, real = [], os.open

    def vanishing(path, *more, **options):
        opened.append(path)
        Path(path).unlink(missing_ok=True) if Path(path).is_file() else None
        return real(path, *more, **options)

    monkeypatch.setattr(os, "open", vanishing)
    assert sync_files(tmp_path) == 0
    assert tmp_path / "1.dat" in opened


@pytest.mark.parametrize(
    ("wanted", "bucket", "is_synced"),
    [
        ("none", "raw_iq_bucket", False),
        ("sessions", "raw_iq_bucket", True),
        ("sessions", "synthetic_iq_bucket", False),
        ("all", "raw_iq_bucket", True),
        ("all", "synthetic_iq_bucket", True),
    ],
)
def test_the_setting_says_whose_objects_are_synced(server_settings, tmp_path, synced, wanted, bucket, is_synced):
    (tmp_path / "1.dat").write_bytes(b"x")
    store = ObjectStore(server_settings.model_copy(update={"s3_folder": tmp_path, "s3_sync": wanted}))
    store.sync_before_commit(getattr(store, bucket))
    assert (str(tmp_path / "1.dat") in synced) == is_synced


def test_without_a_folder_nothing_is_synced(server_settings, synced):
    store = ObjectStore(server_settings.model_copy(update={"s3_folder": None, "s3_sync": "all"}))
    store.sync_before_commit(store.raw_iq_bucket)
    assert synced == []


def test_a_disk_that_fails_is_an_outage(server_settings, tmp_path, monkeypatch):
    def failing(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    store = ObjectStore(server_settings.model_copy(update={"s3_folder": tmp_path, "s3_sync": "all"}))
    with pytest.raises(ObjectsUnavailableError, match=r"HEIMDALL_S3_FOLDER\) could not be written to disk: Input"):
        store.sync_before_commit(store.raw_iq_bucket)


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Iterator[OwnS3]:
    with own_s3(tmp_path_factory.mktemp("synced")) as started:
        yield started


@pytest.mark.programs
@pytest.mark.parametrize("what", ["session", "batch"])
def test_the_bytes_of_objects_are_synced_when_the_rows_are_committed(
    own, settings, example_recordings, synced, monkeypatch, what
):
    """By the server's own files: the volume with the bytes, its index, and the journal of the keys."""
    at_commit: list[set[str]] = []

    def noting(commit):
        def noted(*arguments, **options):
            at_commit.append(set(synced))
            return commit(*arguments, **options)

        return noted

    monkeypatch.setattr(importing, "complete_session", noting(importing.complete_session))
    monkeypatch.setattr(generating, "commit_batch", noting(generating.commit_batch))
    with open_stores(own.settings(settings, s3_sync="all")) as stores:
        stores.objects.create_buckets()
        if what == "session":
            import_files(stores, example_recordings)
            bucket = stores.objects.raw_iq_bucket
        else:
            add(stores, "night", 2)
            make(stores, "night")
            bucket = stores.objects.synthetic_iq_bucket
        (synced_first,) = at_commit
        for entry in stores.objects.entries(bucket, ""):
            content = stores.objects.read(ObjectLocation(bucket, entry.key), 0, entry.size_bytes)
            if entry.key.endswith(".npy"):  # the server compresses JSON
                volume, _ = own.file_of(content[:100_000])
                assert {str(volume), str(volume.with_suffix(".idx"))} <= synced_first
        journals = [path for path in own.data.glob("filerldb2/*/*.log") if path.stat().st_size]
        assert journals
        assert {str(path) for path in journals} <= synced_first
        assert {str(own.data), *(str(path.parent) for path in journals)} <= synced_first


@pytest.mark.slow
def test_the_embedded_stack_says_where_its_files_are(server_settings):
    store = ObjectStore(server_settings)
    store.create_buckets()
    store.put(ObjectLocation(store.raw_iq_bucket, "seen.npy"), io.BytesIO(b"seen on this disk" * 100), 1700, "a/b")
    assert any(b"seen on this disk" in path.read_bytes() for path in server_settings.s3_folder.glob("*.dat"))
    store.remove(store.raw_iq_bucket, "")
