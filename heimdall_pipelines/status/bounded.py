"""Parallel reads with a common timeout, so that one cannot delay the others."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heimdall_pipelines.errors import HeimdallError


@dataclass(frozen=True)
class Unavailable:
    """Why a read returned nothing."""

    reason: str


def collect_with_timeout(timeout_s: float, reads: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Call each in its own thread, and return the results, or `Unavailable`, by the same names.

    A read that hangs stays in its thread, which does not keep the process from ending.
    """
    found: dict[str, Any] = {name: Unavailable(f"no answer within {timeout_s:g} s") for name in reads}

    def call(name: str, read: Callable[[], Any]) -> None:
        try:
            answer = read()
        except HeimdallError as error:
            answer = Unavailable(str(error))
        except Exception as error:  # an error in one part must not hide the others
            lines = str(error).strip().splitlines()
            answer = Unavailable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
        found[name] = answer

    threads = [
        threading.Thread(target=call, args=entry, daemon=True, name=f"read {entry[0]}") for entry in reads.items()
    ]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)  # later results are ignored
