"""Progress of long work, and a limit of how often it is reported."""

import time
from collections.abc import Callable

# Shows a line of progress.
Progress = Callable[[str], None]


class Throttle:
    """True at most once per interval; the first interval starts at construction."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._last_s = clock()

    def is_due(self) -> bool:
        """Whether the interval has passed since construction or since the last time that this was True."""
        now_s = self._clock()
        if now_s - self._last_s < self._interval_s:
            return False
        self._last_s = now_s
        return True
