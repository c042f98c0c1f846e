"""Looks that go on side by side, none of which can keep the others waiting for long."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heimdall_pipelines.errors import HeimdallError


@dataclass(frozen=True)
class Unavailable:
    """Why a look gave nothing."""

    reason: str


def collect_within(seconds: float, looks: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Call each in a thread of its own, and give what they returned, or a `Unavailable`, by the same names.

    A look that hangs is left behind in its thread, which does not keep the process from ending.
    """
    found: dict[str, Any] = {name: Unavailable(f"no answer within {seconds:g} s") for name in looks}

    def call(name: str, look: Callable[[], Any]) -> None:
        try:
            answer = look()
        except HeimdallError as error:
            answer = Unavailable(str(error))
        except Exception as error:  # one part of the screen, whatever it met, must not cost the others
            lines = str(error).strip().splitlines()
            answer = Unavailable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
        found[name] = answer

    threads = [
        threading.Thread(target=call, args=look, daemon=True, name=f"look at {look[0]}") for look in looks.items()
    ]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)  # what comes later is not looked at any more
