"""Time from a KiwiSDR's GNSS stamps: GPS week, leap seconds, and the straight-line fit of time over sample number."""

from array import array
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.utc import NS_PER_S

GPS_EPOCH_UNIX_S = 315_964_800  # 1980-01-06T00:00:00Z
WEEK_S = 604_800
NO_FIX_AGE = 255  # the receiver has had no fix since it started

# IERS Bulletin C; KiwiSDRs exist since 2016.
_GPS_MINUS_UTC_S = tuple(
    (int(datetime(year, month, 1, tzinfo=UTC).timestamp()), seconds)
    for year, month, seconds in ((2017, 1, 18), (2015, 7, 17), (2012, 7, 16), (2009, 1, 15))
)
_MIN_FIXES = 3
_MIN_SPAN_NS = 2_000_000_000
_ORDINARY_RESIDUAL_NS = 500.0  # fixes scatter by 10 to 80 ns: nothing below this is an outlier
_MAX_RATE_DEVIATION = 1e-3
_GAP_WINDOW = 5
_MAX_EXTRAPOLATED_AGE_S = 30
_EXTRAPOLATED_UNCERTAINTY_NS = 200.0
_MAX_CONTRADICTION_NS = 2_000.0
_MAX_OUTLIER_SHARE = 0.1
_ALL_STAMPS = 4096  # 2 to 3 minutes of a KiwiSDR: more than `fit_extrapolated_stamps` ever needs


@dataclass(frozen=True)
class GnssStamps:
    """The time stamps of a recording's blocks, as the receiver wrote them.

    Attributes
    ----------
    samples : NDArray[int64], shape (blocks,)
        Number of the sample that each stamp belongs to, ascending.
    age_s : NDArray[uint8]
        Age of the latest fix in whole seconds, 254 at most; 255 before the first fix.
    second, nanosecond : NDArray[uint32]
        GPS time, counted from the start of the GPS week.
    """

    samples: NDArray[np.int64]
    age_s: NDArray[np.uint8]
    second: NDArray[np.uint32]
    nanosecond: NDArray[np.uint32]


class StampGatherer:
    """Collects the stamps of a stream; of a long stream, only those that determine its clock.

    The first 4096 are kept, then three of each new fix: the one before the age falls, the one where it falls, and
    the fresh one. `fit_gnss_clock` finds the same fixes in them as in all stamps, and so gives the same line.
    """

    def __init__(self) -> None:
        self._sample, self._age_s = array("q"), array("B")
        self._second, self._nanosecond = array("I"), array("I")
        self._before: tuple[int, int, int, int] | None = None  # the latest stamp, if it is not kept
        self._last_age_s = 0
        self._fresh_is_next = False

    def add(self, sample: int, age_s: int, second: int, nanosecond: int) -> None:
        """Add the stamp of the next block, in the units of `GnssStamps`."""
        stamp = sample, age_s, second, nanosecond
        age_falls, self._last_age_s = age_s < self._last_age_s, age_s
        if age_falls and self._before is not None:
            self._keep(self._before)
        is_kept = age_falls or self._fresh_is_next or len(self._sample) < _ALL_STAMPS
        self._fresh_is_next = age_falls
        self._before = None if is_kept else stamp
        if is_kept:
            self._keep(stamp)

    def stamps(self) -> GnssStamps:
        """The kept stamps."""
        return GnssStamps(
            np.array(self._sample, np.int64),
            np.array(self._age_s, np.uint8),
            np.array(self._second, np.uint32),
            np.array(self._nanosecond, np.uint32),
        )

    def _keep(self, stamp: tuple[int, int, int, int]) -> None:
        for kept, value in zip((self._sample, self._age_s, self._second, self._nanosecond), stamp, strict=True):
            kept.append(value)


@dataclass(frozen=True)
class ClockFit:
    """Time of sample 0 and true sample rate, with the root mean square of the fixes' residuals."""

    start_time_unix_ns: int
    sample_rate_hz: float
    residual_rms_ns: float
    num_fixes: int


class ClockError(ValueError):
    """Stamps that contradict a steady sample clock; `block` is the first block that does, if one stands out."""

    def __init__(self, reason: str, block: int | None = None) -> None:
        super().__init__(reason)
        self.block = block


def gps_minus_utc_s(unix_s: int) -> int:
    """Return the leap seconds between GPS time and UTC.

    Raises
    ------
    ValueError
        The time is before 2009, where the table begins.
    """
    for since, seconds in _GPS_MINUS_UTC_S:
        if unix_s >= since:
            return seconds
    raise ValueError("leap seconds are known from 2009 on")


def gps_ns_of(unix_ns: int) -> int:
    """Return the GPS time of an instant, ns since the GPS epoch; raises ValueError before 2009."""
    return unix_ns + (gps_minus_utc_s(unix_ns // NS_PER_S) - GPS_EPOCH_UNIX_S) * NS_PER_S


def time_in_week_ns(stamps: GnssStamps) -> NDArray[np.int64]:
    """Return the time of each stamp, ns since the start of the GPS week."""
    return np.asarray(stamps.second.astype(np.int64) * NS_PER_S + stamps.nanosecond.astype(np.int64), np.int64)


def fit_gnss_clock(stamps: GnssStamps, *, near_unix_ns: int, nominal_rate_hz: float) -> ClockFit | None:
    """Fit time against sample number over the fresh GNSS fixes.

    Parameters
    ----------
    stamps : GnssStamps
        One per block.
    near_unix_ns : int
        Any time less than half a week from the recording, in ns of UTC: determines the GPS week.
    nominal_rate_hz : float
        Nominal sample rate of the receiver.

    Returns
    -------
    ClockFit | None
        None without at least 3 fresh fixes over at least 2 s.

    Raises
    ------
    ClockError
        If samples are missing between two blocks, or if the stamps give a rate that is not the nominal one.
    ValueError
        If the time is before 2009.

    Notes
    -----
    A KiwiSDR stamps each block by extrapolating at a constant rate from its latest fix. In the block where the age
    falls the stamp is still the old extrapolation (the firmware, rx_sound.cpp, sends the stamp of one turn before with
    the age of this turn), so the fresh stamp is that of the next block. Outliers are found by a median line
    (Theil's incomplete method), since among five or six fixes one outlier shifts a least-squares line.
    """
    time_ns, valid = _time_since_near_ns(stamps, near_unix_ns), _valid(stamps)
    fresh = _fresh(stamps, valid)
    if fresh.size < _MIN_FIXES or time_ns[fresh[-1]] - time_ns[fresh[0]] < _MIN_SPAN_NS:
        return None
    _check_gaps(stamps.samples, time_ns, np.flatnonzero(valid))

    line = _line_without_outliers(stamps.samples[fresh], time_ns[fresh], nominal_rate_hz)
    if line is None:
        return None
    return line.clock(near_unix_ns, num_fixes=line.residual_ns.size)


def fit_extrapolated_stamps(stamps: GnssStamps, *, near_unix_ns: int, nominal_rate_hz: float) -> ClockFit | None:
    """Fit time against sample number over all stamps, for a recording too short for `fit_gnss_clock`.

    KiwiSDRs have a fix about every 5 s: 10 s hold one or two. The stamps between them are extrapolated by the receiver
    at the rate that it has measured over minutes. Over any 10 s of three real recordings the line through them was
    within 171 ns and 0.0003 Hz of that through the fixes of 29 s.

    Parameters
    ----------
    stamps, near_unix_ns, nominal_rate_hz
        See `fit_gnss_clock`.

    Returns
    -------
    ClockFit | None
        ``residual_rms_ns`` is at least 200, since the common error of the stamps of one fix does not show in their
        scatter. None without a second of stamps whose fix is at most 30 s old, or where the stamps of one fix
        and of the next differ by more than 2 us: so few fixes do not show which one is wrong.

    Raises
    ------
    ClockError
        If samples are missing between two blocks, or if the stamps give a rate that is not the nominal one.
    ValueError
        If the time is before 2009.
    """
    time_ns, valid = _time_since_near_ns(stamps, near_unix_ns), _valid(stamps)
    blocks = np.flatnonzero(valid & (stamps.age_s <= _MAX_EXTRAPOLATED_AGE_S))
    if blocks.size < 2 * _GAP_WINDOW or np.ptp(time_ns[blocks]) < NS_PER_S:
        return None
    _check_gaps(stamps.samples, time_ns, blocks)
    line = _line_without_outliers(stamps.samples[blocks], time_ns[blocks], nominal_rate_hz)
    if line is None or np.max(np.abs(line.residual_ns)) > _MAX_CONTRADICTION_NS:
        return None
    if line.residual_ns.size < (1 - _MAX_OUTLIER_SHARE) * blocks.size:
        return None
    clock = line.clock(near_unix_ns, num_fixes=int(_fresh(stamps, valid).size))
    return replace(clock, residual_rms_ns=max(clock.residual_rms_ns, _EXTRAPOLATED_UNCERTAINTY_NS))


@dataclass(frozen=True)
class _Line:
    """Time over sample number, counted as of `_time_since_near_ns`."""

    at_sample_0_ns: int
    period_ns: float
    residual_ns: NDArray[np.float64]

    def clock(self, near_unix_ns: int, *, num_fixes: int) -> ClockFit:
        return ClockFit(
            start_time_unix_ns=near_unix_ns // NS_PER_S * NS_PER_S + self.at_sample_0_ns,
            sample_rate_hz=1e9 / self.period_ns,
            residual_rms_ns=float(np.sqrt(np.mean(self.residual_ns**2))),
            num_fixes=num_fixes,
        )


def _time_since_near_ns(stamps: GnssStamps, near_unix_ns: int) -> NDArray[np.int64]:
    """Each stamp's distance from the whole second of the time that determines the week."""
    near_second_of_week = gps_ns_of(near_unix_ns) // NS_PER_S % WEEK_S
    since_near_s = (stamps.second.astype(np.int64) - near_second_of_week + WEEK_S // 2) % WEEK_S - WEEK_S // 2
    return np.asarray(since_near_s * NS_PER_S + stamps.nanosecond.astype(np.int64), np.int64)


def _valid(stamps: GnssStamps) -> NDArray[np.bool_]:
    valid = (stamps.age_s != NO_FIX_AGE) & (stamps.second < WEEK_S) & (stamps.nanosecond < NS_PER_S)
    return np.asarray(valid, np.bool_)


def _fresh(stamps: GnssStamps, valid: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Blocks whose stamp is the first that follows a new fix."""
    fresh = np.flatnonzero(np.diff(stamps.age_s.astype(np.int64)) < 0) + 2
    fresh = fresh[fresh < stamps.age_s.size]
    return np.asarray(fresh[valid[fresh]], np.intp)


def _line_without_outliers(
    samples: NDArray[np.int64], time_ns: NDArray[np.int64], nominal_rate_hz: float
) -> _Line | None:
    x = (samples - samples[0]).astype(np.float64)
    y_ns = (time_ns - time_ns[0]).astype(np.float64)  # below 2^53: exact
    residual_ns = _residual_of_median_line(x, y_ns)
    deviation_ns = np.abs(residual_ns - np.median(residual_ns))
    keep = deviation_ns <= max(5.0 * float(np.median(deviation_ns)), _ORDINARY_RESIDUAL_NS)
    if np.count_nonzero(keep) < _MIN_FIXES:
        return None
    x, y_ns = x[keep], y_ns[keep]
    centred = x - x.mean()
    period_ns = float(centred @ (y_ns - y_ns.mean()) / (centred @ centred))
    if not abs(period_ns * nominal_rate_hz / 1e9 - 1.0) < _MAX_RATE_DEVIATION:
        raise ClockError(
            f"the GNSS time stamps are {period_ns:.1f} ns per sample apart, which is not {nominal_rate_hz} Hz"
        )
    at_origin_ns = float(y_ns.mean() - period_ns * x.mean())
    return _Line(
        at_sample_0_ns=int(time_ns[0]) + round(at_origin_ns - period_ns * float(samples[0])),
        period_ns=period_ns,
        residual_ns=y_ns - (at_origin_ns + period_ns * x),
    )


def _residual_of_median_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    half = x.size // 2
    slope = np.median((y[half:] - y[:-half]) / (x[half:] - x[:-half]))
    return np.asarray(y - slope * x, np.float64)


def _check_gaps(samples: NDArray[np.int64], time_ns: NDArray[np.int64], blocks: NDArray[np.int64]) -> None:
    """Find samples lost between blocks: a lasting step of the stamps by half a block or more (loss is by block).

    A running median removes single outliers, which are not lasting.
    """
    if blocks.size < _GAP_WINDOW + 1:
        return
    block_samples = np.diff(samples[blocks])
    period_ns = np.median(np.diff(time_ns[blocks]) / block_samples)
    late_ns = time_ns[blocks] - samples[blocks] * period_ns
    lasting_ns = np.median(np.lib.stride_tricks.sliding_window_view(late_ns, _GAP_WINDOW), axis=1)
    half_block_ns = 0.5 * period_ns * np.median(block_samples)
    steps = np.flatnonzero(np.abs(np.diff(lasting_ns)) > half_block_ns)
    if steps.size:
        block = int(blocks[steps[0] + _GAP_WINDOW // 2 + 1])
        lost_s = float(lasting_ns[steps[0] + 1] - lasting_ns[steps[0]]) / 1e9
        raise ClockError(f"{lost_s:.3f} s of samples are missing before this block: cut the recording here", block)
