"""Whatever a test run starts ends with it, also where pytest is interrupted or killed.

Processes of a run inherit the variable `RUN_FOLDER`, and the folders of its servers lie in the folder that it names.
Beside pytest's main process runs another one, the guard, at the other end of a pipe. When the pipe closes, the guard
ends what is left and removes the folder.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil

RUN_FOLDER = "FOLDER_OF_THE_TEST_RUN"  # not HEIMDALL_…: tests start processes without those variables
_POLL_S = 0.02


class RunGuard:
    """Ends what the run that works in a folder has started, as soon as `end` is called or this process has ended."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder)],
            env=os.environ | {RUN_FOLDER: ""},  # that of a run whose test starts this one would end the guard too
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def end(self) -> list[str]:
        """End what is left, and give the command lines of it."""
        left, _ = self._process.communicate()
        return left.decode(errors="replace").splitlines()


def marker() -> dict[str, str]:
    """The variable by which a process of this run is known, for those that are started with few variables."""
    return {RUN_FOLDER: os.environ[RUN_FOLDER]}


def open_folder(name: str) -> Path:
    """A new folder of the run; pytest's own are closed to the unprivileged user that PostgreSQL runs as under root."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=os.environ[RUN_FOLDER])).resolve()
    folder.chmod(0o755 if os.geteuid() == 0 else 0o700)
    return folder


def end_on_signals() -> None:
    """End as after Ctrl-C on SIGTERM too, and also where the process that started this one ignores SIGINT.

    A shell's `&`, nohup and some CI runners do. Processes started from here would ignore it as well, and Dagster's code
    server, which gives SIGTERM the handler of SIGINT, would never stop.
    """

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Live processes of the run that works in a folder."""
    return [*_marked(folder), *_working_in(folder)]


def _marked(folder: Path) -> Iterator[psutil.Process]:
    for process in _others():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(RUN_FOLDER) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _working_in(folder: Path) -> Iterator[psutil.Process]:
    for process in _others():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _others() -> Iterator[psutil.Process]:
    return (process for process in psutil.process_iter() if process.pid != os.getpid())


def _end_everything(folder: Path) -> list[str]:
    left = []

    def kill(processes: list[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                left.append(" ".join(process.cmdline()))
                process.kill()
        psutil.wait_procs(processes, timeout=_POLL_S)

    while marked := list(_marked(folder)):  # again: one may have started another meanwhile
        kill(marked)
    homes = [file.parent for file in folder.rglob("credentials.json")]
    if homes:
        from heimdall_pipelines.local.stack import Stack

        for home in homes:
            with contextlib.suppress(Exception):  # what does not stop is killed below
                Stack(home).stop()
    while working := list(_working_in(folder)):
        kill(working)
    shutil.rmtree(folder, ignore_errors=True)
    return left


if __name__ == "__main__":
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, signal.SIG_IGN)
    sys.stdin.buffer.read()
    print(*_end_everything(Path(sys.argv[1])), sep="\n", end="")
