"""Dagster's webserver, daemon and code server on this machine: `dg dev` as a child process, and its log."""

import contextlib
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from heimdall_pipelines.cli.console import show_progress
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.settings import ENV_PREFIX
from heimdall_pipelines.throttle import Throttle

STOP_TIMEOUT_S = 30.0
TERMINATE_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 30.0
POLL_INTERVAL_S = 0.3
_GUARD_TIMEOUT_S = 60.0
PROGRESS_INTERVAL_S = 5.0
LOG_TAIL_LINES = 30
# Set to the folder in the environment of all processes that `heimdall dev` started, and of no others.
MARKER = f"{ENV_PREFIX}STARTED_BY_DEV_IN"

_GUARDED_DEV = "heimdall_pipelines.cluster.guarded_dev"  # `dg` with the UI behind a guard
_FOREIGN_HOST = "not-this-machine.invalid"

# Timeout of the code server (default 60 s). It answers after starting a run's process: minutes on a busy machine.
_GRPC_TIMEOUT = "DAGSTER_GRPC_TIMEOUT_SECONDS"


class DevFailedError(HeimdallError):
    """Dagster did not start, or ended unexpectedly."""


class DagsterDev:
    """A running `dg dev`; its output goes to a file, which survives this process, and from there to the terminal.

    Parameters
    ----------
    process
        `dg dev` itself.
    home
        HEIMDALL_HOME, absolute, which identifies its descendants.
    log
        File with its output and that of its children.
    address
        Address of its webserver.
    """

    def __init__(self, process: subprocess.Popen[bytes], home: Path, log: Path, address: str) -> None:
        self._process = process
        self._home = home
        self._log = log
        self._address = address
        self._shown = 0

    def wait_until_ready(self, stopping: threading.Event) -> bool:
        """Wait until Dagster answers or ends; prints every few seconds what it waits for.

        Returns
        -------
        bool
            False if ``stopping`` was set first.

        Raises
        ------
        DevFailedError
            Dagster ended, or its UI does not refuse requests of other sites.
        """
        began, throttle = time.monotonic(), Throttle(PROGRESS_INTERVAL_S)
        while not stopping.is_set():
            self._show_log()
            if self._process.poll() is not None:
                raise self._ended("did not start")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self._address}/server_info", timeout=2):  # noqa: S310
                self._check_guard()
                return True
            if throttle.is_due():
                waited_s = time.monotonic() - began
                show_progress(f"waiting for Dagster for {waited_s:.0f} s: {self._stage()} (Ctrl-C stops everything)")
            stopping.wait(POLL_INTERVAL_S)
        return False

    def _check_guard(self) -> None:
        """Refuse a UI that answers pages of other sites: another version of Dagster may start it in another way."""
        request = urllib.request.Request(f"{self._address}/server_info", headers={"Host": _FOREIGN_HOST})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_GUARD_TIMEOUT_S):  # noqa: S310
                pass
        except urllib.error.HTTPError:
            return
        raise DevFailedError(
            "the Dagster UI does not refuse foreign hosts: this version of Dagster is not supported (pyproject.toml)"
        )

    def wait_until_stopped(self, stopping: threading.Event) -> None:
        """Show the log until ``stopping`` is set; raises DevFailedError if Dagster ends first."""
        while not stopping.wait(POLL_INTERVAL_S):
            self._show_log()
            if self._process.poll() is not None:
                raise self._ended("ended unexpectedly")

    def end(self) -> None:
        """End Dagster and everything it started: first SIGTERM, then SIGKILL."""
        if self._process.poll() is None:
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        end_remaining_processes(self._home)
        self._show_log()

    def _stage(self) -> str:
        import psutil  # with the embedded stack

        words = ""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    words += " ".join(child.cmdline())
        if "guarded_webserver" in words:
            return f"its webserver is starting at {self._address}"
        if "code-server" in words:
            return "its code server is loading the definitions"
        return f"dg dev (process {self._process.pid}) is starting"

    def _show_log(self) -> None:
        with self._log.open("rb") as log:
            log.seek(self._shown)
            printed = log.read()
        self._shown += len(printed)
        sys.stderr.write(printed.decode(errors="replace"))
        sys.stderr.flush()

    def _ended(self, what: str) -> DevFailedError:
        self._show_log()
        lines = self._log.read_text(errors="replace").splitlines()
        # Dagster's message names the process: "dagster-daemon process shut down unexpectedly with …".
        which = next((line.partition("Exception: ")[2] for line in lines if " shut down unexpectedly" in line), "")
        tail = "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])
        reason = f": {which}" if which else ""
        return DevFailedError(
            f"Dagster {what} (dg dev, exit code {self._process.returncode}){reason}\nlast lines of {self._log}:\n{tail}"
        )


@contextlib.contextmanager
def running_dagster(home: Path, folder: Path, address: str) -> Iterator[DagsterDev]:
    """Start Dagster; at the end, end it and everything that it started.

    Parameters
    ----------
    home
        HEIMDALL_HOME, absolute.
    folder
        DAGSTER_HOME, with the configuration files.
    address
        http://host:port of its webserver.
    """
    host, _, port = address.removeprefix("http://").partition(":")
    workspace = str(folder / "workspace.yaml")
    command = [sys.executable, "-m", _GUARDED_DEV, "dev", "-w", workspace, "-h", host, "-p", port]
    log = folder / "dev.log"
    if log.exists():
        log.replace(log.with_name("dev.log.previous"))
    # In a separate session, so that Ctrl-C reaches only this process, which controls the order of stopping. Its working
    # directory is DAGSTER_HOME, because it warns of a dagster.yaml in another folder.
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=folder,
            env={_GRPC_TIMEOUT: "600"} | os.environ | {MARKER: str(home), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,  # other users must not read the output of runs
        )
    dagster = DagsterDev(process, home, log, address)
    try:
        yield dagster
    finally:
        dagster.end()


def end_remaining_processes(home: Path) -> int:
    """End remaining processes of a `heimdall dev` of this folder: two daemons would do everything twice."""
    import psutil  # with the embedded stack

    from heimdall_pipelines.local.processes import gone_within, is_alive

    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARKER) == str(home) and process.pid != os.getpid():
                process.terminate()
                left.append(process)
    _, alive = psutil.wait_procs(left, timeout=TERMINATE_TIMEOUT_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    gone_within(KILL_TIMEOUT_S, lambda: not any(map(is_alive, alive)))  # a zombie counts as ended
    return len(left)
