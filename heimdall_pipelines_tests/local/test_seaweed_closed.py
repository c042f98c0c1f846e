"""No port of the embedded S3 server lets anybody in who has neither its credentials nor its certificate."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from minio import Minio

from heimdall_pipelines.local.account import can_reach, popen_identity, unprivileged_account
from heimdall_pipelines.local.ports import LOOPBACK
from heimdall_pipelines.local.seaweed import GRPC_OFFSET, EmbeddedS3
from heimdall_pipelines_tests.dev_server import wait_for
from heimdall_pipelines_tests.local.intruder import HTTP_ROUTES, channels, grpc_code, secure_channel

pytestmark = pytest.mark.programs

ACCESS_KEY, SECRET_KEY, BUCKET = "an-access-key", "a-very-secret-key", "some-bucket"
CONTENT = b"IQ that other users may not read" * 1000
# Answers without credentials that docs/operations.md names: no names, no objects.
OPEN = {("volume", "GET /status"), ("volume", "GET /healthz"), ("s3", "GET /status"), ("s3", "GET /healthz")}
REFUSALS = {400, 401, 403, 404, 405}


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedS3]:
    server = EmbeddedS3(folder / "s3")
    yield server
    server.stop()


def store_objects(port: int) -> Minio:
    client = Minio(f"{LOOPBACK}:{port}", ACCESS_KEY, SECRET_KEY, secure=False, region="us-east-1")
    for number in range(3):
        client.put_object(BUCKET, f"many/{number}", io.BytesIO(CONTENT), len(CONTENT))
    return client


def assert_objects_are_kept(client: Minio) -> None:
    assert [entry.object_name for entry in client.list_objects(BUCKET, recursive=True)] == [
        f"many/{number}" for number in range(3)
    ]
    for number in range(3):
        with client.get_object(BUCKET, f"many/{number}") as response:
            assert response.read() == CONTENT


def listening(server: EmbeddedS3) -> set[int]:
    process = psutil.Process(server.running_pid())
    return {c.laddr.port for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN}


def sockets(server: EmbeddedS3) -> list[str]:
    process = psutil.Process(server.running_pid())
    paths = {Path(process.cwd()) / c.laddr for c in process.net_connections(kind="unix") if c.laddr}
    return sorted(str(path) for path in paths if path.is_socket())


def what_an_intruder_gets(server: EmbeddedS3) -> list[dict]:
    """Run the intruder as another user where this one may, else as this one, who has no credentials in the program."""
    account = unprivileged_account()
    if account is not None and not can_reach(account, Path(sys.executable)):
        account = None
    asked = {
        "ports": sorted(listening(server)),
        "sockets": sockets(server),
        "authority": server.master().certificates.authority.read_text(),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "heimdall_pipelines_tests.local.intruder"],
        input=json.dumps(asked),
        cwd=Path(__file__).parents[2],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GRPC_VERBOSITY": "NONE"},
        capture_output=True,
        text=True,
        check=False,
        **popen_identity(account),
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.slow
def test_no_port_or_socket_serves_a_process_without_credentials_or_certificate(server):
    client = store_objects(server.start(ACCESS_KEY, SECRET_KEY, [BUCKET]))
    ports = server._remembered_ports()
    expected = {*ports.values(), *(port + GRPC_OFFSET for port in ports.values())}
    wait_for("all of its parts to listen", lambda: expected <= listening(server))
    services = {port: service for service, port in ports.items()}

    answers = what_an_intruder_gets(server)

    by_http = [answer for answer in answers if answer["by"] in {"http", "https"}]
    by_grpc = [answer for answer in answers if answer["by"] not in {"http", "https"}]
    assert len(by_http) == 2 * len(HTTP_ROUTES) * len(expected)
    assert {answer["port"] for answer in by_grpc} >= {f"{LOOPBACK}:{port}" for port in expected}
    served = {
        (services.get(answer["port"], answer["port"]), answer["asked"])
        for answer in by_http
        if isinstance(answer["got"], int) and answer["got"] not in REFUSALS
    }
    assert served == OPEN
    assert [answer for answer in by_grpc if answer["got"] != "UNAVAILABLE"] == []
    assert_objects_are_kept(client)


def test_its_own_certificate_opens_what_the_intruder_tried(server):
    """Otherwise the test above would pass with a misspelt method."""
    server.start(ACCESS_KEY, SECRET_KEY, [BUCKET])
    files = server.master().certificates
    own = {"private_key": files.key.read_bytes(), "certificate_chain": files.certificate.read_bytes()}
    authority = files.authority.read_bytes()
    for target in (server.master().address, *(f"unix:{path}" for path in sockets(server) if "master" in path)):
        with secure_channel(target, authority, **own) as channel:
            assert grpc_code(channel, "/master_pb.Seaweed/CollectionList", b"\x08\x01") == "OK"
        for channel in channels(target, authority).values():
            with channel:
                assert grpc_code(channel, "/master_pb.Seaweed/CollectionList", b"\x08\x01") == "UNAVAILABLE"


@pytest.mark.slow
def test_certificates_are_readable_by_their_owner_alone_and_new_at_each_start(server, folder):
    server.start(ACCESS_KEY, SECRET_KEY, [BUCKET])
    files = server.master().certificates
    before = files.key.read_bytes()
    assert {path.stat().st_mode & 0o777 for path in files.key.parent.iterdir()} == {0o600}
    assert files.key.parent.stat().st_mode & 0o777 == 0o700
    assert sum(b"PRIVATE KEY" in path.read_bytes() for path in folder.rglob("*") if path.is_file()) == 1
    server.stop()
    server.start(ACCESS_KEY, SECRET_KEY, [BUCKET])
    assert files.key.read_bytes() != before
