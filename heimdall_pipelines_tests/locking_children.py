"""Processes that make a batch or repair a dataset, stop at a given moment, and are killed there."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal

from heimdall_pipelines.datasets import batch_repair, generating, repair
from heimdall_pipelines.datasets.generating import BatchProgress
from heimdall_pipelines.datasets.repair import MIN_ORPHAN_AGE, repair_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.datasets.support import make
from heimdall_pipelines_tests.waiting import TIMEOUT_S

Moment = Literal["before objects", "before the commit", "after the commit", "before the sweep"]

# It has all modules imported before the first child is asked for: a child starts in a tenth of a second, not in two.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


@contextmanager
def stopped(what: Literal["batch", "repair"], moment: Moment, settings: Settings, name: str) -> Iterator[BaseProcess]:
    """A process that has come to a moment of its work and waits there; killed at the end, as with kill -9."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(what, moment, settings, name, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.poll(TIMEOUT_S), f"the {what} never came to this: {moment}"
        assert ours.recv() == moment
        yield process
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        ours.close()


def _work(what: str, moment: Moment, settings: Settings, name: str, tell: Connection) -> None:
    def stop() -> None:
        tell.send(moment)
        time.sleep(3600)

    def told(progress: BatchProgress) -> None:
        if moment == ("before objects" if progress.num_made == 0 else "before the commit"):
            stop()

    generating.PROGRESS_INTERVAL_S = 0.0
    if moment == "after the commit":
        _stop_after(generating, "commit_batch", stop)
        _stop_after(batch_repair, "restore_rows", stop)
    if moment == "before the sweep":
        _stop_after(repair, "recount", stop)
    with open_stores(settings) as stores:
        if what == "batch":
            make(stores, name, 1, progress=told)
        else:
            with Workers(1) as workers:
                repair_dataset(stores, name, workers, min_orphan_age=0 * MIN_ORPHAN_AGE, making=told)


def _stop_after(module: object, function: str, stop: Callable[[], None]) -> None:
    work = getattr(module, function)

    def work_and_stop(*args: object, **more: object) -> None:
        work(*args, **more)
        stop()

    setattr(module, function, work_and_stop)
