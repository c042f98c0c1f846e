"""Limits how often progress is reported."""

import time
from collections.abc import Callable


class Throttle:
    """True at most once per interval; the first call starts the interval.

    Parameters
    ----------
    interval_s : float
        0 or less: every call is due.
    clock : callable, optional
        Gives seconds that never go back.

    Examples
    --------
    >>> seconds = iter([0.0, 0.5, 1.0, 1.5])
    >>> throttle = Throttle(1.0, clock=lambda: next(seconds))
    >>> [throttle.is_due() for _ in range(4)]
    [False, False, True, False]
    """

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._began: float | None = None

    def is_due(self) -> bool:
        """Whether the interval is over; if so, the next one starts."""
        now = self._clock()
        if self._began is None:
            self._began = now
        if now - self._began < self._interval_s:
            return False
        self._began = now
        return True
