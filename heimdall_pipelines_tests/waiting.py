"""Waiting for what tests start: never a fixed time, and a bound only for what never comes."""

import time
from collections.abc import Callable
from typing import TypeVar

# Only what hangs meets it: beside other work a machine may take a hundred times as long as one that is idle.
TIMEOUT_S = 1800.0
POLL_S = 0.1

Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found | None], timeout_s: float = TIMEOUT_S) -> Found:
    """Look again and again until something is found; it is an error where it never is."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        time.sleep(POLL_S)
    return found
