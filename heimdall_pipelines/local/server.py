"""What both embedded servers have in common: a folder with data, log and ports, and a process that works there."""

import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import psutil

from heimdall_pipelines.local.processes import LocalServerError, end, wait_until_ready


class EmbeddedServer(ABC):
    """One server whose data is in ``folder/data``.

    Not safe against two starts at once; `heimdall_pipelines.local.stack.Stack` holds a lock around it.

    Parameters
    ----------
    folder
        Made at the first start. Holds data, log and ports.
    """

    ports_name: ClassVar[str]  # of the file that keeps the ports for the next start
    stop_steps: ClassVar[tuple[tuple[signal.Signals, float], ...]]  # as `processes.end` takes them

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._data = self._folder / "data"
        self._log = self._folder / "server.log"
        self._ports_file = self._folder / self.ports_name
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._folder)!r})"

    def stop(self) -> None:
        """Stop the server if it runs; what is committed is on disk, even when it must be killed."""
        running = self._running()
        if running is not None:
            end(running, *self.stop_steps)
        if self._process is not None:
            self._process.poll()  # reaps our own child, otherwise a zombie

    def running_pid(self) -> int | None:
        """Return the pid of this folder's server, None if it does not run."""
        running = self._running()
        return None if running is None else running.pid

    @abstractmethod
    def port(self) -> int | None:
        """Return the port of the running server, or the one that the next start tries; None before the first."""

    @abstractmethod
    def _running(self) -> psutil.Process | None:
        """Find the live server of this folder."""

    def _port_of(self, running: psutil.Process) -> int:
        port = self.port()
        if port is None:
            raise LocalServerError(f"{self._ports_file} is missing: end process {running.pid}, then try again")
        return port

    def _wait_until_ready(
        self,
        running: psutil.Process,
        probe: Callable[[], object],
        not_yet: tuple[type[Exception], ...],
        interrupted: threading.Event | None,
    ) -> None:
        wait_until_ready(running, probe, not_yet, self._log, interrupted or threading.Event())
