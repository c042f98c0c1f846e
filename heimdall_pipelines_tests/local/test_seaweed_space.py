"""The space of removed objects is on the disk again when the command says so."""

import io
import os
from pathlib import Path

import pytest
from minio import Minio
from minio.deleteobjects import DeleteObject

from heimdall_pipelines.local.ports import LOOPBACK
from heimdall_pipelines.local.processes import LocalServerError
from heimdall_pipelines.local.seaweed import EmbeddedS3
from heimdall_pipelines.local.seaweed_space import reclaim_space

pytestmark = pytest.mark.programs

ACCESS_KEY, SECRET_KEY, BUCKET = "an-access-key", "a-very-secret-key", "some-bucket"
SIZE, NUM_OBJECTS = 500_000, 80


@pytest.fixture
def server(folder: Path):
    server = EmbeddedS3(folder / "s3")
    yield server
    server.stop()


def on_disk(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_space_of_removed_objects_comes_back_and_the_others_stay(server):
    port = server.start(ACCESS_KEY, SECRET_KEY, [BUCKET])
    client = Minio(f"{LOOPBACK}:{port}", ACCESS_KEY, SECRET_KEY, secure=False, region="us-east-1")
    contents = {f"{number % 4}/{number}": os.urandom(SIZE) for number in range(NUM_OBJECTS)}
    for key, content in contents.items():
        client.put_object(BUCKET, key, io.BytesIO(content), SIZE)
    full = on_disk(server.data_folder)
    assert full > SIZE * NUM_OBJECTS

    removed = [key for key in contents if key.startswith(("0/", "1/", "2/"))]
    assert list(client.remove_objects(BUCKET, map(DeleteObject, removed))) == []
    freed = reclaim_space(server.master(), server.data_folder)

    assert freed == pytest.approx(SIZE * len(removed), rel=0.02)
    assert full - on_disk(server.data_folder) == pytest.approx(freed, rel=0.02)
    for key in contents.keys() - set(removed):
        with client.get_object(BUCKET, key) as response:
            assert response.read() == contents[key]


def test_a_server_that_has_ended_is_told(server):
    server.start(ACCESS_KEY, SECRET_KEY, [BUCKET])
    master = server.master()
    server.stop()
    assert server.master() is None
    with pytest.raises(LocalServerError, match="does not return the space of removed objects"):
        reclaim_space(master, server.data_folder)
