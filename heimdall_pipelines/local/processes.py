"""Starts, identifies and ends the server of a data folder; never trusts a pid only.

Both servers run with their data folder as working directory, which identifies a process as the
server of that folder, independent of pid files.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.local.account import Account, popen_identity
from heimdall_pipelines.throttle import Throttle

POLL_S = 0.02
LOG_TAIL_LINES = 15
PROGRESS_INTERVAL_S = 5.0

_logger = logging.getLogger(__name__)


class LocalServerError(HeimdallError):
    """A server of the local stack could not be started, adopted or stopped; the message says why and what to do."""


def servers_of(name: str, folder: Path) -> list[psutil.Process]:
    """Find the live processes called ``name`` that work in ``folder``; zombies are not live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == name and is_alive(process) and _working_directory(process) == folder.resolve():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended, or belongs to another user
            continue
    return found


def _working_directory(process: psutil.Process) -> Path | None:
    try:
        return Path(process.cwd())
    except psutil.AccessDenied:
        if os.geteuid() != 0:
            raise
    # Root in a container may lack the right (CAP_SYS_PTRACE), but the process's own user has it.
    answer = subprocess.run(  # noqa: S603
        ["readlink", f"/proc/{process.pid}/cwd"],  # noqa: S607
        cwd="/",
        capture_output=True,
        check=False,
        user=process.uids().real,
        group=process.gids().real,
        extra_groups=[],
    )
    return Path(os.fsdecode(answer.stdout.removesuffix(b"\n"))) if answer.returncode == 0 else None


def is_alive(process: psutil.Process) -> bool:
    """Whether the process still runs: a zombie, or another process that reused its pid, does not count."""
    try:
        # A process whose main thread has ended looks like a zombie while its other threads still hold ports and locks.
        return process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def launch(
    command: Sequence[str | Path],
    working_directory: Path,
    environment: Mapping[str, str],
    log: Path,
    account: Account | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server in its own session, so that a terminal's Ctrl-C does not reach it.

    Parameters
    ----------
    command
        Program and arguments; no secrets, which ``ps`` would show.
    working_directory
        The server's data folder.
    environment
        The whole environment of the server, on top of a fixed PATH and locale.
    log
        File for its output, truncated; the previous file is kept as ``<log>.previous``.
    account
        User to run as, None for the current user.
    """
    if log.exists():
        log.replace(log.with_name(f"{log.name}.previous"))
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        return subprocess.Popen(  # noqa: S603
            command,
            cwd=working_directory,
            env={"PATH": os.defpath, "LC_ALL": "C", **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **popen_identity(account),
        )


def wait_until_ready(
    process: psutil.Process,
    probe: Callable[[], object],
    not_yet: tuple[type[Exception], ...],
    log: Path,
    interrupted: threading.Event,
) -> None:
    """Call ``probe`` until it succeeds, as long as the server lives; logs every few seconds why it is not ready.

    Parameters
    ----------
    process
        The server; if it has ended, waiting stops.
    probe
        Sends a request to the server.
    not_yet
        Exceptions of ``probe`` while the server is not ready; others pass through.
    log
        The server's log, whose last lines are in the error.
    interrupted
        Set by another thread to stop waiting.

    Raises
    ------
    LocalServerError
        The server ended while starting, or the wait was interrupted.
    """
    began = time.monotonic()
    throttle = Throttle(PROGRESS_INTERVAL_S)
    while True:
        try:
            probe()
            return
        except not_yet as error:
            reason = str(error).strip()
        if not is_alive(process):
            raise LocalServerError(f"{log.parent.name} (pid {process.pid}) ended while starting\n{log_tail(log)}")
        if throttle.is_due():
            waited_s = time.monotonic() - began
            _logger.warning("waiting for %s for %.0f s: %s", log.parent.name, waited_s, reason.partition("\n")[0])
        if interrupted.wait(POLL_S):
            raise LocalServerError(f"interrupted while waiting for the server (pid {process.pid})")


def log_tail(log: Path) -> str:
    """Return the last lines of a server's log under a heading that names the file."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if log.exists() else []
    return "\n".join([f"last lines of {log}:", *(f"    {line}" for line in lines)])


def end(process: psutil.Process, *steps: tuple[signal.Signals, float]) -> None:
    """Send each step's signal and wait its seconds, until the process is gone.

    Raises
    ------
    LocalServerError
        It survived every step.
    """
    for step, timeout_s in steps:
        try:
            process.send_signal(step)
        except psutil.NoSuchProcess:
            return
        if gone_within(timeout_s, lambda: not is_alive(process)):
            return
    raise LocalServerError(f"process {process.pid} does not end; kill it, then try again")


def gone_within(timeout_s: float, is_gone: Callable[[], bool]) -> bool:
    """Wait until ``is_gone``, at most ``timeout_s``; returns the last result, which is checked once after that time."""
    deadline = time.monotonic() + timeout_s
    while True:
        is_last_check = time.monotonic() > deadline
        if is_gone():
            return True
        if is_last_check:
            return False
        time.sleep(POLL_S)
