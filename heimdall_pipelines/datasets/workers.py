"""Processes that compute in parallel, fed through pipes.

Threads were measured first: under the interpreter's lock two of them are 1.0 to 1.6 times as fast as one, two processes
1.8 to 2.1 times. `multiprocessing` and what builds on it (concurrent.futures, loky) refuse to start processes in a
daemonic worker, such as Celery's, and import the parent's main module in each, which is all of Dagster in a run. A
plain child that runs this module does neither. It ends by itself when its parent's end of the pipe closes, also when
the parent is killed.
"""

import contextlib
import ctypes
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from heimdall_pipelines.datasets.limits import MAX_WORKERS
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.settings import load_local_settings

_ENDING_S = 30.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

Given = TypeVar("Given")
Made = TypeVar("Made")


class WorkerLostError(UnavailableError):
    """A worker process ended unexpectedly, mostly for lack of memory."""


def num_workers_wanted() -> int:
    """HEIMDALL_WORKERS or, if it is not set, one for each core that this process may use, at most 24."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return load_local_settings().workers or min(cores, MAX_WORKERS)


class Workers:
    """Up to 24 processes that apply functions; a single worker computes in this process.

    A context manager: at its end the processes are killed.

    Parameters
    ----------
    num_workers : int
        1 to `MAX_WORKERS`.
    """

    def __init__(self, num_workers: int) -> None:
        if not 1 <= num_workers <= MAX_WORKERS:
            raise ValueError(f"num_workers {num_workers}: 1 to {MAX_WORKERS} are allowed")
        self.num_workers = num_workers
        self._processes: dict[Connection, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the processes if they do not run; they need a second or two, during which the caller can go on."""
        while self.num_workers > 1 and len(self._processes) < self.num_workers:
            ours, theirs = Pipe()
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            # In its own session: only the parent receives Ctrl-C, and ends its children.
            process = subprocess.Popen(  # noqa: S603
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
            theirs.close()
            self._processes[ours] = process

    def stop(self) -> None:
        """End the processes at once."""
        for pipe, process in self._processes.items():
            process.kill()
            process.wait()
            pipe.close()
        self._processes.clear()

    def map(self, function: Callable[[Given], Made], tasks: Iterable[Given]) -> Generator[Made | None, None, None]:
        """Apply a function to tasks; results come as they are ready.

        Parameters
        ----------
        function : callable
            Defined in a module, like the types of tasks and results: they are pickled.
        tasks : iterable
            Taken when a worker is free.

        Yields
        ------
        result or None
            None about once a second while nothing is ready, so that the caller can report progress or stop.

        Raises
        ------
        WorkerLostError
            A process was killed. Errors of the function are raised unchanged. After an error the processes end.
        """
        if self.num_workers == 1:
            yield from map(function, tasks)
            return
        self.start()
        try:
            yield from self._map(function, iter(tasks))
        except BaseException:
            self.stop()  # the results are not needed any more
            raise

    def _map(self, function: Callable[[Given], Made], tasks: Iterator[Given]) -> Generator[Made | None, None, None]:
        idle = list(self._processes)
        busy: set[Connection] = set()
        while True:
            while idle and (task := next(tasks, _NO_MORE)) is not _NO_MORE:
                pipe = idle.pop()
                with _lost(self._processes[pipe]):
                    pipe.send((function, task))
                busy.add(pipe)
            if not busy:
                return
            readable = wait(list(busy), timeout=1.0)
            if not readable:
                yield None
            for pipe in [pipe for pipe in busy if pipe in readable]:
                with _lost(self._processes[pipe]):
                    result, error = pipe.recv()
                if error is not None:
                    raise error
                busy.remove(pipe)
                idle.append(pipe)
                yield result


_NO_MORE: Any = object()


@contextlib.contextmanager
def _lost(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        try:
            code = process.wait(timeout=_ENDING_S)  # its pipe is closed: it is about to end, and the exit code says why
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        raise WorkerLostError(
            f"worker process {process.pid} ended with exit code {code} during its work: if memory "
            "is short, use fewer workers (HEIMDALL_WORKERS); nothing was committed"
        ) from error


def _keep_freed_memory() -> None:
    """Reuse the memory of freed arrays of a few MB, if the C library is glibc.

    By default it returns that memory to the system and requests it again page by page: a tenth of a sample's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def _work(pipe: Connection) -> None:
    """Execute tasks until the parent ends."""
    _keep_freed_memory()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            given = pipe.recv_bytes()
            pipe.send_bytes(_answer(given))


def _answer(given: bytes) -> bytes:
    """Result and error of a task, pickled; a failure to pickle or unpickle is an error of the task, too."""
    try:
        function, task = pickle.loads(given)  # noqa: S301  (our parent's bytes)
        return pickle.dumps((function(task), None))
    except Exception as error:
        return pickle.dumps((None, _portable(error)))


def _portable(error: Exception) -> Exception:
    """Return an error that can be pickled, with its trace as a note."""
    trace = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  (our own bytes)
    except Exception:
        return RuntimeError(trace)
    error.add_note(trace)
    return error


if __name__ == "__main__":
    _work(Connection(int(sys.argv[1])))
