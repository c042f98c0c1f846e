"""Classes of the clocks that stamp recordings, from the best to none, and what they can carry."""

import re
from dataclasses import dataclass
from enum import StrEnum

from heimdall_pipelines.errors import HeimdallError

MAX_CLOCK_UNCERTAINTY_US = 20.0  # of a clock that carries time differences
_UNITS_US = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
_STATED = re.compile(r"(gnss|ntp|file):(\d+(?:\.\d+)?)(ns|us|ms|s)")


class ClockError(HeimdallError, ValueError):
    """A clock that is stated in another form than CLASS:UNCERTAINTY."""


class ClockClass(StrEnum):
    """What keeps the time of a recording."""

    GNSS = "gnss"  # time stamps of a satellite receiver
    NTP = "ntp"  # a machine that keeps its time over the network
    ARRIVAL = "arrival"  # when the samples came here: later than they were received by an unknown delay
    FILE = "file"  # what a file or a person says, which nothing vouches for
    NONE = "none"  # nothing was recorded


_CLASS_OF_SOURCE = {
    "gnss": ClockClass.GNSS,
    "ntp": ClockClass.NTP,
    "arrival": ClockClass.ARRIVAL,
    "file": ClockClass.FILE,
    "given": ClockClass.FILE,
}


@dataclass(frozen=True)
class Clock:
    """Clock of a measurement.

    Attributes
    ----------
    kind : ClockClass
    uncertainty_us : float or None
        Standard deviation; None where nothing says it.
    """

    kind: ClockClass
    uncertainty_us: float | None

    @property
    def carries_time_differences(self) -> bool:
        """Whether it is right to `MAX_CLOCK_UNCERTAINTY_US`; that of arrival never is, whatever its jitter."""
        return (
            self.kind in (ClockClass.GNSS, ClockClass.NTP, ClockClass.FILE)
            and self.uncertainty_us is not None
            and self.uncertainty_us <= MAX_CLOCK_UNCERTAINTY_US
        )

    def __str__(self) -> str:
        if self.uncertainty_us is None:
            return str(self.kind)
        return f"{self.kind}, {self.uncertainty_us:g} us"


def clock_of(time_source: str, time_uncertainty_ns: float | None, *, is_recorded: bool) -> Clock:
    """Clock of a measurement, from its columns.

    A GNSS clock of which no residual was stored is taken as exact: older imports did not store it.
    """
    if not is_recorded:
        return Clock(ClockClass.NONE, None)
    kind = _CLASS_OF_SOURCE[time_source]
    uncertainty_us = None if time_uncertainty_ns is None else time_uncertainty_ns / 1e3
    return Clock(kind, 0.0 if kind is ClockClass.GNSS and uncertainty_us is None else uncertainty_us)


def stated_clock(text: str) -> Clock:
    """Read what a person states of a clock, such as ``ntp:2ms``.

    >>> stated_clock("ntp:2ms")
    Clock(kind=<ClockClass.NTP: 'ntp'>, uncertainty_us=2000.0)

    Raises
    ------
    ClockError
        It has another form.
    """
    found = _STATED.fullmatch(text)
    if found is None or float(found[2]) == 0:
        raise ClockError(f"clock {text}: CLASS:UNCERTAINTY is expected, such as gnss:200ns, ntp:2ms or file:5us")
    return Clock(ClockClass(found[1]), float(found[2]) * _UNITS_US[found[3]])
