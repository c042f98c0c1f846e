"""The process of a command, as a tag of its runs, and whether it still exists."""

import functools
import hashlib
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_STATE, _START_TIME = 0, 19  # fields of /proc/PID/stat after the program's name
_ENDED = (b"Z", b"X")


@dataclass(frozen=True)
class CommandProcess:
    """A process, identified beyond its end: another process with the same pid has another start.

    Attributes
    ----------
    machine : str
        Host name, with a digest of its boot and its namespace of pids: containers of one machine differ.
    pid : int
    started : str
        Time of its start in the units of the system.
    """

    machine: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.machine}/{self.pid}/{self.started}"

    @property
    def text(self) -> str:
        """Pid and host name, for messages."""
        return f"process {self.pid} on {self.machine.rpartition('~')[0]}"

    def has_ended(self) -> bool | None:
        """Whether it has ended; None if this machine cannot know, so that only its heartbeat tells.

        It is of another machine, or the system hides the processes of other users.
        """
        if self.machine != this_machine():
            return None
        started = _started(self.pid)
        return None if started is None and _is_hidden(self.pid) else started != self.started


def parse_process(tag: str | None) -> CommandProcess | None:
    """Read a tag; None for runs that do not execute in a command.

    >>> parse_process("night~3fa9c2d1/4711/93847211").pid
    4711
    """
    machine, pid, started = (*(tag or "").split("/"), "", "")[:3]
    if not (machine and pid.isascii() and pid.isdigit() and started):
        return None
    return CommandProcess(machine, int(pid), started)


def this_process() -> CommandProcess:
    """The present process."""
    return CommandProcess(this_machine(), os.getpid(), _started(os.getpid()) or "unknown")


@functools.cache
def this_machine() -> str:
    """The present machine since its start, or the present container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str((_PROC / "self/ns/pid").readlink()))
    return f"{parts[0].replace('/', '-')}~{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:8]}"


def _started(pid: int) -> str | None:
    """Start of a process; None if there is none, or it is a zombie."""
    if not _PROC.is_dir():
        return _started_by_psutil(pid)
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE] in _ENDED else fields[_START_TIME].decode("ascii")


def _is_hidden(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return not (_PROC / str(pid)).exists()
    return False  # a zombie


def _started_by_psutil(pid: int) -> str | None:
    """The same on macOS, where psutil comes with the embedded stack."""
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None
