"""Signals that end a command: as an interruption, or as an event that it waits for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP (a closed terminal) like Ctrl-C, so that runs are ended and servers are stopped.

    Ctrl-C works also if SIGINT was ignored, as after `&`. The other signals send SIGINT to this process: Dagster
    replaces its handler, and sets that of SIGTERM to it, when it executes something in this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.getsignal(kind) for kind in _KINDS}
    for kind, handler in before.items():
        if handler == signal.SIG_DFL or (handler == signal.SIG_IGN and kind != signal.SIGHUP):  # nohup ignores SIGHUP
            signal.signal(kind, signal.default_int_handler if kind == signal.SIGINT else _interrupt)
    try:
        yield
    finally:
        for kind, handler in before.items():
            if handler is not None:  # a handler not set by Python cannot be restored
                signal.signal(kind, handler)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def stop_on_signals() -> threading.Event:
    """Return an event that Ctrl-C, SIGTERM or a closed terminal sets, instead of their usual effect."""
    stopping = threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stopping.set()

    for kind in _KINDS:
        if kind != signal.SIGHUP or signal.getsignal(kind) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(kind, on_signal)
    return stopping
