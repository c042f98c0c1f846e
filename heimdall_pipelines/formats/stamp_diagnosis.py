"""Why a receiver's time stamps are no clock: none, none that change, no fix, seconds that jump."""

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.gnss_clock import NO_FIX_AGE, WEEK_S, GnssStamps, time_in_week_ns
from heimdall_pipelines.formats.utc import NS_PER_S

NO_STAMPS = "it sends no time stamps"
FROZEN_STAMPS = "its time stamps never change: its owner has switched them off"
_WEEK_NS = WEEK_S * NS_PER_S
_WHOLE_SECOND_NS = 5_000_000  # a jump of the seconds alone leaves the nanoseconds; a gap of samples has any length
_OLDEST_AGE_S = 254
_LASTING_BLOCKS = 5


def stamp_problem(stamps: GnssStamps, nominal_rate_hz: float) -> str | None:
    """Say why no time can be taken from stamps.

    Parameters
    ----------
    stamps : GnssStamps
        One per block, none for a receiver that sends none.
    nominal_rate_hz : float
        Nominal sample rate of the receiver.

    Returns
    -------
    str or None
        The reason as a clause; None where the stamps have none of these faults, which does not make them right.

    Examples
    --------
    >>> import numpy as np
    >>> never = GnssStamps(np.arange(3) * 512, np.zeros(3, np.uint8), np.zeros(3, np.uint32), np.zeros(3, np.uint32))
    >>> stamp_problem(never, 12e3)
    'its time stamps never change: its owner has switched them off'
    """
    if stamps.samples.size == 0:
        return NO_STAMPS
    time_ns = time_in_week_ns(stamps)
    if time_ns.size > 1 and not np.any(np.diff(time_ns)):
        return FROZEN_STAMPS
    if np.all(stamps.age_s == NO_FIX_AGE):
        return "its GNSS has had no fix since it started"
    if np.all(stamps.age_s >= _OLDEST_AGE_S):
        return f"its latest GNSS fix was {_OLDEST_AGE_S} s ago or more"
    jump_s = _jump_s(stamps, time_ns, nominal_rate_hz)
    return None if jump_s is None else f"its GNSS seconds jump by {jump_s:+d} s in the recording"


def _jump_s(stamps: GnssStamps, time_ns: NDArray[np.int64], nominal_rate_hz: float) -> int | None:
    """First lasting jump by whole seconds; the week's end is none, and neither is a single wrong stamp."""
    has_fix = stamps.age_s != NO_FIX_AGE
    samples, time_ns = stamps.samples[has_fix], time_ns[has_fix]
    expected_ns = np.diff(samples) / nominal_rate_hz * 1e9
    excess_ns = (np.diff(time_ns) - expected_ns + _WEEK_NS / 2) % _WEEK_NS - _WEEK_NS / 2
    seconds = np.round(excess_ns / NS_PER_S)
    # The nominal rate is off by up to 1e-3 of the time between two stamps.
    is_whole = np.abs(excess_ns - seconds * NS_PER_S) < _WHOLE_SECOND_NS + 1e-3 * expected_ns
    jumped_s = np.cumsum(np.where(is_whole, seconds, 0.0))
    window = min(_LASTING_BLOCKS, jumped_s.size)
    if window == 0:
        return None
    lasting_s = np.median(np.lib.stride_tricks.sliding_window_view(jumped_s, window), axis=1)
    jumps = lasting_s[lasting_s != 0]
    return round(float(jumps[0])) if jumps.size else None
