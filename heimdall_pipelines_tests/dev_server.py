"""A real `heimdall dev` for tests: started as its own process, asked over HTTP, ended by process ids."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from heimdall_pipelines.local.ports import free_port
from heimdall_pipelines.local.processes import servers_of
from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.settings import ENV_PREFIX
from heimdall_pipelines_tests.run_guard import open_folder
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

HEIMDALL = [sys.executable, "-c", "from heimdall_pipelines.cli import main; main()"]
FIRST_PORTS = range(24_400, 24_500)  # outside the system's range: no other process gets them before the start
_READY = re.compile(r"Dagster UI: (http://127\.0\.0\.1:\d+)")


class DevFolder:
    """A folder that `heimdall dev` works in, and the processes of that folder."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.output_file = folder / "dev.log"
        self._dev: subprocess.Popen[bytes] | None = None
        self._printed_before = 0

    def start_dev(self, *, first_port: int) -> str:
        """Start `heimdall dev` and give the address that it prints once the UI answers."""
        self.launch_dev(first_port=first_port)
        return self.wait_until_ready()

    def launch_dev(self, *, first_port: int) -> None:
        """Start `heimdall dev` and go on."""
        self._printed_before = len(self.output())
        with self.output_file.open("ab") as output:
            self._dev = subprocess.Popen(
                [*HEIMDALL, "dev", "--port", str(first_port)],
                cwd=self.home.parent,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> str:
        """Wait for the line with the address of the UI, and give it."""

        def printed_address() -> str | None:
            printed = self.output()[self._printed_before :]
            assert self.pid() is not None, f"heimdall dev ended:\n{printed}"
            ready = _READY.search(printed)
            return ready and ready.group(1)

        return wait_for("the address of the UI", printed_address)

    def output(self) -> str:
        """What `heimdall dev` and all that it started have printed so far."""
        return self.output_file.read_text(errors="replace") if self.output_file.exists() else ""

    def pid(self) -> int | None:
        """Process id of the running `heimdall dev`."""
        return self._dev.pid if self._dev is not None and self._dev.poll() is None else None

    def signal(self, kind: signal.Signals) -> int:
        """Send `heimdall dev` a signal and give its exit code."""
        self._dev.send_signal(kind)
        return self._dev.wait(TIMEOUT_S)

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run another `heimdall` command in the folder."""
        return subprocess.run(
            [*HEIMDALL, *map(str, arguments)],
            cwd=self.home.parent,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )

    def import_session(self, files: list[Path]) -> str:
        """Import recordings by the command line and give the session's slug."""
        imported = self.run("session", "import", *files)
        assert imported.returncode == 0, imported.stderr
        return re.search(r"imported: session (\S+)", imported.stdout).group(1)

    def dagster_processes(self) -> list[psutil.Process]:
        """Live processes that work on this folder's Dagster instance."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = process.environ().get("DAGSTER_HOME") == str(self.home / "dagster")
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def processes(self) -> list[psutil.Process]:
        """Every live process of this folder: `heimdall dev`, Dagster, PostgreSQL, S3."""
        dev = [psutil.Process(pid)] if (pid := self.pid()) is not None else []
        servers = servers_of("postgres", self.home / "postgres" / "data") + servers_of(
            "weed", self.home / "s3" / "data"
        )
        return dev + self.dagster_processes() + servers

    def end_everything(self) -> None:
        """End what is left, each by its id."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._dev is not None:
            self._dev.wait(TIMEOUT_S)
        wait_for("the last process to end", lambda: not self.processes())

    def environment(self) -> dict[str, str]:
        """HEIMDALL_* of the running servers."""
        with Stack(self.home).use() as environment:
            return dict(environment)

    @contextlib.contextmanager
    def database(self, name: str = "heimdall") -> Iterator[psycopg2.extensions.cursor]:
        """A connection of the test's own to one of the databases."""
        environment = self.environment()
        connection = psycopg2.connect(
            host=environment["HEIMDALL_PG_HOST"],
            port=environment["HEIMDALL_PG_PORT"],
            user=environment["HEIMDALL_PG_USER"],
            password=environment["HEIMDALL_PG_PASSWORD"],
            dbname=name,
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query of the project's tables gives."""
        with self.database() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    def _environment(self) -> dict[str, str]:
        outside = {name: value for name, value in os.environ.items() if not name.startswith((ENV_PREFIX, "DAGSTER_"))}
        return outside | {"HEIMDALL_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def dev_folder() -> Iterator[DevFolder]:
    """A folder of its own; at the end nothing of it is left, neither processes nor files."""
    folder = open_folder("dev")
    dev = DevFolder(folder)
    try:
        yield dev
    finally:
        dev.end_everything()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class RunningDev:
    """A `heimdall dev` that avoids a port, and a session that was imported while it started."""

    dev: DevFolder
    taken_port: int
    address: str
    session: str


@contextlib.contextmanager
def started_with_a_session(recordings: list[Path]) -> Iterator[RunningDev]:
    taken_port = free_port(None, FIRST_PORTS)
    with dev_folder() as dev, socket.create_server(("127.0.0.1", taken_port)):
        dev.launch_dev(first_port=taken_port)
        wait_for("the servers, and Dagster to start", dev.dagster_processes)
        session = dev.import_session(recordings)
        yield RunningDev(dev, taken_port, dev.wait_until_ready(), session)


def ask_graphql(address: str, query: str, **variables: Any) -> dict[str, Any]:
    """Ask what the UI asks."""
    request = urllib.request.Request(
        f"{address}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        data: dict[str, Any] = json.load(answer)
    assert "errors" not in data, data["errors"]
    return data["data"]


def runs(address: str) -> list[dict[str, Any]]:
    """All runs of the instance, newest first: {runId, status, jobName, endTime, tags}.

    But for those of schedules: whatever a test does, the stations are checked when it meets a full hour.
    """
    found = ask_graphql(
        address, "{ runsOrError { ... on Runs { results { runId status jobName endTime tags { key value } } } } }"
    )["runsOrError"]["results"]
    tagged = [run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]
    return [run for run in tagged if "dagster/schedule_name" not in run["tags"]]


def command_line(process: psutil.Process) -> list[str]:
    """Words of a process's command line; none of one that has ended since it was found."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
