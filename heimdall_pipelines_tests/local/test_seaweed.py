import io
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import urllib3
from minio import Minio
from minio.error import S3Error

from heimdall_pipelines.local import seaweed
from heimdall_pipelines.local.ports import LOOPBACK
from heimdall_pipelines.local.processes import LocalServerError, is_alive
from heimdall_pipelines.local.seaweed import GRPC_OFFSET, PROBE_BUCKET, EmbeddedS3
from heimdall_pipelines_tests.dev_server import wait_for

pytestmark = pytest.mark.programs

ACCESS_KEY, SECRET_KEY = "an-access-key", "a-very-secret-key"
BUCKET = "some-bucket"


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedS3]:
    server = EmbeddedS3(folder / "s3")
    yield server
    server.stop()


def start(server: EmbeddedS3) -> int:
    return server.start(ACCESS_KEY, SECRET_KEY, [BUCKET])


def client(port: int, access_key: str | None = ACCESS_KEY, secret_key: str | None = SECRET_KEY) -> Minio:
    return Minio(f"{LOOPBACK}:{port}", access_key, secret_key, secure=False, region="us-east-1")


def keep_objects(port: int) -> None:
    for number in range(50):
        content = f"object {number}".encode()
        client(port).put_object(BUCKET, f"many/{number}", io.BytesIO(content), len(content))


def assert_objects_are_kept(port: int) -> None:
    for number in range(50):
        with client(port).get_object(BUCKET, f"many/{number}") as response:
            assert response.read() == f"object {number}".encode()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while is_alive(psutil.Process(pid)):
        time.sleep(0.02)


@pytest.mark.slow
def test_the_first_start_makes_the_buckets_and_a_restart_keeps_objects_and_port(server):
    port = start(server)
    assert [bucket.name for bucket in client(port).list_buckets()] == sorted([PROBE_BUCKET, BUCKET])
    keep_objects(port)
    server.stop()
    assert server.running_pid() is None

    assert start(server) == port
    assert_objects_are_kept(port)


@pytest.mark.slow
def test_a_killed_server_starts_again_with_its_objects_also_on_another_port(server):
    port = start(server)
    keep_objects(port)
    killed = server.running_pid()
    kill(killed)
    assert server.running_pid() is None  # a zombie, for it is the child of this process

    with socket.create_server((LOOPBACK, port)):
        other_port = start(server)
        assert other_port != port
        assert_objects_are_kept(other_port)
        server.stop()
    assert not seaweed._socket("s3", port).exists()


def test_a_running_server_is_adopted(server, folder):
    port = start(server)
    other = EmbeddedS3(folder / "s3")
    assert start(other) == port
    assert other.running_pid() == server.running_pid()


def test_a_start_goes_on_when_an_answer_comes_too_late(server, monkeypatch):
    make_bucket, late = Minio.make_bucket, []

    def answered_too_late_once(client: Minio, bucket: str) -> None:
        make_bucket(client, bucket)
        if not late:
            late.append(bucket)
            raise urllib3.exceptions.TimeoutError("no answer")

    monkeypatch.setattr(Minio, "make_bucket", answered_too_late_once)
    port = start(server)
    assert late != []
    assert [bucket.name for bucket in client(port).list_buckets()] == sorted([PROBE_BUCKET, BUCKET])


@pytest.mark.slow
def test_two_servers_that_start_at_once_choose_different_ports(server, folder, monkeypatch):
    # Few ports, for these two servers only: each takes 5 of 14, so that they often choose the same.
    monkeypatch.setattr(seaweed, "PORTS", range(22_720, 22_734))
    other = EmbeddedS3(folder / "other")
    try:
        with ThreadPoolExecutor(2) as both:
            assert len(set(both.map(start, (server, other)))) == 2
    finally:
        other.stop()


@pytest.mark.slow
def test_requests_without_the_credentials_are_refused(server, folder):
    port = start(server)
    keep_objects(port)

    for access_key, secret_key, code in [
        (ACCESS_KEY, "a-guessed-secret", "SignatureDoesNotMatch"),
        ("a-guessed-key", SECRET_KEY, "InvalidAccessKeyId"),
        (None, None, "AccessDenied"),
    ]:
        with pytest.raises(S3Error) as refused:
            client(port, access_key, secret_key).stat_object(BUCKET, "many/1")
        assert refused.value.code in {code, "AccessDenied"}  # a HEAD request's answer has no body


@pytest.mark.slow
def test_a_port_whose_socket_another_user_left_in_tmp_is_avoided(server):
    port = start(server)
    server.stop()
    left = seaweed._socket("s3", port)
    left.mkdir()  # like the file of another user, which cannot be unlinked
    try:
        assert start(server) != port
    finally:
        left.rmdir()


@pytest.mark.slow
def test_it_listens_on_loopback_alone(server):
    start(server)
    process, ports = psutil.Process(server.running_pid()), server._remembered_ports().values()

    def listening() -> set[tuple[str, int]]:
        return {tuple(c.laddr) for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN}

    expected = {*ports, *(port + GRPC_OFFSET for port in ports)}
    wait_for("all of its parts to listen", lambda: expected <= {port for _, port in listening()})
    assert {ip for ip, _ in listening()} == {LOOPBACK}


def test_no_command_line_or_file_has_secrets(server, folder):
    start(server)
    command_line = " ".join(psutil.Process(server.running_pid()).cmdline())
    assert SECRET_KEY not in command_line
    assert ACCESS_KEY not in command_line
    pid = server.running_pid()
    server.stop()

    assert list(Path("/tmp").glob(f"weed.*.{pid}")) == []
    assert [s for s, port in server._remembered_ports().items() if seaweed._socket(s, port).exists()] == []
    assert [path for path in folder.rglob("*") if path.is_file() and SECRET_KEY.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_a_multipart_object_is_complete_and_uses_no_extra_disk(server, folder):
    port = start(server)
    size = 64 * 2**20
    content = os.urandom(2**20) * 64
    client(port).put_object(BUCKET, "large", io.BytesIO(content), size, part_size=16 * 2**20)
    with client(port).get_object(BUCKET, "large") as response:
        assert response.read() == content
    server.stop()  # files come and go while it runs

    on_disk = sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
    assert on_disk < size + 8 * 2**20


def test_a_server_that_ends_at_once_tells_the_last_lines_of_its_log(server, folder, monkeypatch):
    broken = folder / "weed"
    broken.write_text("#!/bin/sh\necho the disk is on fire\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(seaweed, "_weed", lambda: str(broken))
    with pytest.raises(LocalServerError, match="the disk is on fire"):
        start(server)


def test_a_missing_binary_is_reported(server, folder, monkeypatch):
    monkeypatch.setattr("sys.executable", str(folder / "python"))
    with pytest.raises(LocalServerError, match="make install"):
        start(server)
