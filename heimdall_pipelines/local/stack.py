"""The local stack: PostgreSQL and S3 of one folder, shared by every process that works in it."""

import fcntl
import json
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from heimdall_pipelines.local.places import make_folder
from heimdall_pipelines.local.ports import LOOPBACK
from heimdall_pipelines.local.postgres import SUPERUSER, EmbeddedPostgres, ensure_databases
from heimdall_pipelines.local.processes import LocalServerError
from heimdall_pipelines.local.seaweed import EmbeddedS3

DATABASE = "heimdall"
DAGSTER_DATABASE = "dagster"
BUCKETS = ("heimdall-raw-iq", "heimdall-synthetic-iq")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerStatus:
    """Whether a server runs, its process, and its port (of the next start if it does not run)."""

    running: bool
    pid: int | None
    port: int | None


@dataclass(frozen=True)
class StackStatus:
    """State of both servers of the stack."""

    postgres: ServerStatus
    s3: ServerStatus


@dataclass(frozen=True)
class Credentials:
    """Created at random at the first start; never in ``repr``."""

    pg_password: str = field(repr=False)
    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)


class Stack:
    """The servers whose data is in ``home``, usually ``.heimdall``.

    Use them inside `use`: any number of processes may share a folder, and the last one stops the
    servers.

    Parameters
    ----------
    home
        Created at the first start. Holds data, logs, credentials (mode 0600) and locks.
    pg_bindir
        Folder of PostgreSQL's programs (HEIMDALL_PG_BINDIR), None for those of the wheel.
    """

    def __init__(self, home: Path, pg_bindir: Path | None = None) -> None:
        self._home = home.absolute()
        self._postgres = EmbeddedPostgres(self._home / "postgres", pg_bindir)
        self._s3 = EmbeddedS3(self._home / "s3")

    def __repr__(self) -> str:
        return f"Stack({str(self._home)!r})"

    @contextmanager
    def use(self, *, needs_s3: bool = True) -> Iterator[dict[str, str]]:
        """Start the servers, or share running ones, and give the environment to reach them.

        The servers stop when their last user leaves. A killed user no longer counts; the servers then
        keep running, and the next user shares them.

        Parameters
        ----------
        needs_s3
            False: an S3 server that already runs is used without waiting for it to answer.
        """
        self.make_home()
        with _open_lock(self._home / "users.lock") as users:
            try:
                with self._exclusively():
                    fcntl.flock(users, fcntl.LOCK_SH)  # never waits: exclusive is held only inside stack.lock
                    environment = self._start(needs_s3=needs_s3)
                yield environment
            finally:
                with self._exclusively():
                    if _is_sole_holder(users):
                        self._stop()

    def start(self) -> dict[str, str]:
        """Start the servers, or adopt running ones, and return the environment to reach them.

        They keep running after this process, until `stop` or until the last user of `use` leaves.
        """
        self.make_home()
        with self._exclusively():
            return self._start(needs_s3=True)

    def stop(self) -> None:
        """Stop the servers, even if they are in use."""
        if self._home.exists():
            with self._exclusively():
                self._stop()

    @property
    def objects_folder(self) -> Path:
        """Folder of the S3 server's files."""
        return self._s3.data_folder

    def reclaim_space(self) -> int | None:
        """Return the space of removed objects to the disk; returns its bytes, None if the S3 server does not run.

        Raises
        ------
        LocalServerError
            The server refuses.
        """
        from heimdall_pipelines.local.seaweed_space import reclaim_space  # loads gRPC

        master = self._s3.master()
        return None if master is None else reclaim_space(master, self._s3.data_folder)

    def status(self) -> StackStatus:
        """Return which servers run; starts nothing."""
        pg_pid, s3_pid = self._postgres.running_pid(), self._s3.running_pid()
        return StackStatus(
            postgres=ServerStatus(pg_pid is not None, pg_pid, self._postgres.port()),
            s3=ServerStatus(s3_pid is not None, s3_pid, self._s3.port()),
        )

    def environment(self) -> dict[str, str] | None:
        """Return the environment to reach the servers, None if none runs; starts and stops nothing."""
        status = self.status()
        if not (status.postgres.running or status.s3.running):
            return None
        credentials = _load_or_make_credentials(self._home / "credentials.json")
        return self._environment(credentials, status.postgres.port or 0, status.s3.port or 0)

    def make_home(self) -> None:
        """Make the folder; raises LocalServerError if it cannot be written or belongs to another user."""
        # As root, PostgreSQL's unprivileged user must be able to enter its own folder below.
        try:
            make_folder(self._home, 0o711 if os.geteuid() == 0 else 0o700)
            with tempfile.TemporaryFile(dir=self._home):
                pass
        except OSError as error:
            raise LocalServerError(
                f"{self._home} is not a folder that can be written ({error.strerror}): "
                "set HEIMDALL_HOME to one that can"
            ) from error
        owner = self._home.stat().st_uid
        if owner != os.geteuid():
            raise LocalServerError(
                f"{self._home} belongs to the user with uid {owner}: work here as that user, or move it away"
            )

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Keep other processes from starting or stopping the servers meanwhile."""
        with _open_lock(self._home / "stack.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _start(self, *, needs_s3: bool) -> dict[str, str]:
        credentials = _load_or_make_credentials(self._home / "credentials.json")
        interrupted = threading.Event()
        s3_port = self._s3.port()
        if not needs_s3 and s3_port is not None and self._s3.running_pid() is not None:
            return self._environment(credentials, self._start_postgres(credentials, interrupted), s3_port)
        with ThreadPoolExecutor(max_workers=2) as both:
            postgres = both.submit(self._start_postgres, credentials, interrupted)
            s3 = both.submit(self._s3.start, credentials.s3_access_key, credentials.s3_secret_key, BUCKETS, interrupted)
            try:
                for started in as_completed((postgres, s3)):
                    started.result()
            except BaseException:  # Ctrl-C, or one of them failed: do not wait for the other
                interrupted.set()
                raise
        pg_port, s3_port = postgres.result(), s3.result()
        _logger.info("PostgreSQL on port %d and S3 on port %d, data in %s", pg_port, s3_port, self._home)
        return self._environment(credentials, pg_port, s3_port)

    def _start_postgres(self, credentials: Credentials, interrupted: threading.Event) -> int:
        port = self._postgres.start(credentials.pg_password, interrupted)
        ensure_databases(port, credentials.pg_password, [DATABASE, DAGSTER_DATABASE])
        return port

    def _stop(self) -> None:
        with ThreadPoolExecutor(max_workers=2) as both:
            stops = [both.submit(self._postgres.stop), both.submit(self._s3.stop)]
        for stop in stops:
            stop.result()

    def _environment(self, credentials: Credentials, pg_port: int, s3_port: int) -> dict[str, str]:
        return {
            "HEIMDALL_PG_HOST": LOOPBACK,
            "HEIMDALL_PG_PORT": str(pg_port),
            "HEIMDALL_PG_USER": SUPERUSER,
            "HEIMDALL_PG_PASSWORD": credentials.pg_password,
            "HEIMDALL_PG_DATABASE": DATABASE,
            "HEIMDALL_PG_DAGSTER_DATABASE": DAGSTER_DATABASE,
            "HEIMDALL_S3_ENDPOINT": f"{LOOPBACK}:{s3_port}",
            "HEIMDALL_S3_ACCESS_KEY": credentials.s3_access_key,
            "HEIMDALL_S3_SECRET_KEY": credentials.s3_secret_key,
            "HEIMDALL_S3_FOLDER": str(self._s3.data_folder),
        }


@contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    """Open a lock file, which child processes do not inherit; closing it releases every lock on it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)


def _is_sole_holder(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _load_or_make_credentials(path: Path) -> Credentials:
    if not path.exists():
        made = {name: secrets.token_hex(20) for name in ("pg_password", "s3_access_key", "s3_secret_key")}
        draft = path.with_name(f"{path.name}.draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(made, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    try:
        return Credentials(**json.loads(path.read_text()))
    except (TypeError, ValueError):
        raise LocalServerError(
            f"{path} is damaged: restore it, or move {path.parent} away to start with an empty stack"
        ) from None
