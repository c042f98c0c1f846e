"""Waits for events in tests: never for a fixed time, and the timeout is only for what never happens."""

import time
from collections.abc import Callable
from typing import TypeVar

# Only a hang reaches it: a busy machine may take a hundred times as long as an idle one.
TIMEOUT_S = 1800.0
POLL_S = 0.1

Found = TypeVar("Found")


def wait_for(what: str, find: Callable[[], Found | None], timeout_s: float = TIMEOUT_S) -> Found:
    """Call ``find`` until it returns something true, and return that; an error after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not (found := find()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        time.sleep(POLL_S)
    return found
