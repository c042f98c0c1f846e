"""A full disk of the embedded S3 server is called so, with what is free."""

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heimdall_pipelines.local.ports import LOOPBACK
from heimdall_pipelines.local.seaweed import EmbeddedS3
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.objects import ObjectLocation, ObjectsFullError, ObjectStore

pytestmark = pytest.mark.programs

ACCESS_KEY, SECRET_KEY = "an-access-key", "a-very-secret-key"


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of this size, which only root can make, and not in every container."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(store: ObjectStore) -> None:
    for number in range(100):
        content = os.urandom(8_000_000)
        location = ObjectLocation(store.raw_iq_bucket, str(number))
        store.put(location, io.BytesIO(content), len(content), "application/octet-stream")


@pytest.mark.slow
@pytest.mark.fault("the disk of the embedded S3 server is full")
def test_a_full_disk_is_told_with_what_is_free(folder, fault):
    with small_disk(folder / "disk", 600) as disk:
        server = EmbeddedS3(disk / "s3")
        try:
            port = server.start(ACCESS_KEY, SECRET_KEY, ["heimdall-raw-iq"])
            settings = Settings(
                pg_host="nowhere",
                pg_user="unused",
                pg_password="",
                s3_endpoint=f"{LOOPBACK}:{port}",
                s3_access_key=ACCESS_KEY,
                s3_secret_key=SECRET_KEY,
                s3_folder=server.data_folder,
            )
            store = ObjectStore(settings, attempts=1)
            with pytest.raises(
                ObjectsFullError,
                match=rf"has no room for heimdall-raw-iq/\d+ \(\d+ MB are free in {server.data_folder}",
            ) as full:
                fill(store)
            assert store.read(ObjectLocation(store.raw_iq_bucket, "0"), 0, 10)
        finally:
            server.stop()
    fault.record(
        detected_by=[type(full.value).__name__], result="the message says how much is free; what is stored is read"
    )
