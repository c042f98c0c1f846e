"""Interrupts a run in a worker when it is cancelled or failed in the database."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._utils.interrupts import capture_interrupts

POLL_INTERVAL_S = 2.0
_OVER = {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE}
_logger = logging.getLogger(__name__)


@contextmanager
def cancellable(run_id: str) -> Iterator[None]:
    """Interrupt the main thread inside the block, as Ctrl-C would, once the run is cancelled or failed.

    The state is read from the database, not from the broker: this works while Redis is unavailable, and for a run that
    was marked as failed while its worker could not be reached. A SIGTERM also interrupts the run: a worker that must
    stop at once ends its runs this way.
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
    while not ended.wait(POLL_INTERVAL_S):
        try:
            with dg.DagsterInstance.get() as instance:
                run = instance.get_run_by_id(run_id)
        except Exception as error:  # an outage of PostgreSQL, as any error; the run itself has it too
            _logger.warning("cannot read whether run %s is cancelled: %s", run_id, error)
            continue
        if run is not None and run.status in _OVER:
            if not ended.is_set():
                os.kill(os.getpid(), signal.SIGINT)
            return
