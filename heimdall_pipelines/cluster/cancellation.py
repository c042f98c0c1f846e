"""Ends a run in a worker when the database says that it is over."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._utils.interrupts import capture_interrupts

LOOK_INTERVAL_S = 2.0
_OVER = {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE}
_logger = logging.getLogger(__name__)


@contextmanager
def cancellable(run_id: str) -> Iterator[None]:
    """Interrupt what this process's main thread does inside, as Ctrl-C would, once the run is cancelled or failed.

    The database is asked, not the broker: it works while Redis is away, and for a run that was given up for dead
    while its worker was only out of reach. A SIGTERM interrupts the run as well, which is how a worker that is made
    to stop at once ends its runs.
    """
    ended = threading.Event()
    watcher = threading.Thread(target=_interrupt_when_over, args=(run_id, ended), name="cancellation", daemon=True)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with capture_interrupts():
            watcher.start()
            try:
                yield
            finally:
                ended.set()
                watcher.join()
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # capture_interrupts leaves that of SIGINT: a worker ignores it


def _interrupt_when_over(run_id: str, ended: threading.Event) -> None:
    while not ended.wait(LOOK_INTERVAL_S):
        try:
            with dg.DagsterInstance.get() as instance:
                run = instance.get_run_by_id(run_id)
        except Exception as error:  # an outage of PostgreSQL, in whatever words; the run itself meets it too
            _logger.warning("cannot see whether run %s is cancelled: %s", run_id, error)
            continue
        if run is not None and run.status in _OVER:
            if not ended.is_set():
                os.kill(os.getpid(), signal.SIGINT)
            return
