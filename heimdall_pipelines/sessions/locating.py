"""Locates the transmitter of a recorded session from the time differences between its stations."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.model.position import StationDelay
from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S, distance_and_azimuth, distance_m
from heimdall_pipelines.rf.positioning import Area, PositionError, Receiver, locate
from heimdall_pipelines.rf.segment_tdoa import DELAY_MARGIN_US, differences_on_grid
from heimdall_pipelines.rf.segments import CHUNK_NS, Interval, NoSegmentError, plan_segments
from heimdall_pipelines.rf.station_delays import corrected
from heimdall_pipelines.rf.tdoa import TimeDifference, TimeGrid, signal_on_grid
from heimdall_pipelines.sessions.completed import require_completed
from heimdall_pipelines.sessions.segment_differences import EDGE_NS, segment_grid
from heimdall_pipelines.sessions.session_position import (
    SYSTEMATIC_US,
    Block,
    LocateOptions,
    Measured,
    NotLocatableError,
    PairDelay,
    SessionPosition,
)
from heimdall_pipelines.sessions.station_clocks import reason_against_clock
from heimdall_pipelines.store.iq_objects import IqObjectError, StationIq
from heimdall_pipelines.store.measurements import StationRecording, list_recordings
from heimdall_pipelines.store.objects import ObjectNotFoundError
from heimdall_pipelines.store.sessions import RecordingSession, SessionKey, get_session
from heimdall_pipelines.store.station_delays import delays_at
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Throttle

logger = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S = 5.0
_HUBER = 1.345  # deviations from which a block counts less
_STD_OF_ROBUST_MEAN = 1.026  # over that of the mean, of a normal distribution


def locate_session(
    stores: Stores, key: SessionKey, options: LocateOptions, progress: Callable[[str], None] = logger.info
) -> SessionPosition:
    """Measure the time differences of a completed session's stations, and locate its transmitter.

    Parameters
    ----------
    stores : Stores
    key : UUID or str
        Id or slug of the session.
    options : LocateOptions
    progress : callable, optional
        Called with a line to show, every few seconds.

    Raises
    ------
    NotLocatableError
        A station is unknown, or fewer than three stations have a usable clock and IQ.
    PositionError
        The time differences do not determine a position.
    NotCompletedError, SessionBeingDeletedError
        As of `require_completed`.
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    measured = measure_session(stores, key, options, progress)
    return position_of(measured, delays_of(stores, measured, options))


def measure_session(
    stores: Stores, key: SessionKey, options: LocateOptions, progress: Callable[[str], None] = logger.info
) -> Measured:
    """Measure the time differences of a completed session's stations.

    Parameters are those of `locate_session`.

    Raises
    ------
    NotLocatableError, NotCompletedError, SessionBeingDeletedError, UnavailableError
        As of `locate_session`.
    """
    session = get_session(stores.database, key)
    require_completed(session, "locate")
    recordings = list_recordings(stores.database, session.id)
    _check_names(session, recordings, options)
    stations, left_out = _usable(stores, recordings, options)
    if len(stations) < 3:
        reasons = "".join(f"\n  - {rx_id}: {reason}" for rx_id, reason in left_out.items())
        raise NotLocatableError(
            f"session {session.slug}: a position needs 3 stations with a clock that carries time differences, "
            f"{len(stations)} of {len(recordings)} have one{reasons}",
            left_out,
        )
    bandwidth_hz = min(
        options.bandwidth_hz or session.bandwidth_hz, *(0.8 * x.recording.sample_rate_hz for x in stations)
    )
    receivers = tuple(station.receiver for station in stations)
    blocks = _measure(session, stations, bandwidth_hz, options, progress)
    source = session.known_source
    pairs, differences = _over_blocks(
        receivers, [found for _, found in blocks], (source.latitude, source.longitude) if source else None
    )
    return Measured(
        session=session,
        recordings=tuple(recordings),
        receivers=receivers,
        blocks=tuple((segment_idx, tuple(found)) for segment_idx, found in blocks),
        pairs=pairs,
        differences=differences,
        left_out=left_out,
        area=options.area or Area.around(receivers),
    )


def delays_of(stores: Stores, measured: Measured, options: LocateOptions) -> list[StationDelay]:
    """Delays of a calibration that hold at the session's time."""
    if not options.is_calibrated or measured.session.start_time is None:
        return []
    rx_ids = [receiver.rx_id for receiver in measured.receivers]
    return delays_at(stores.database, measured.session.start_time, rx_ids)


def position_of(measured: Measured, delays: Sequence[StationDelay] = ()) -> SessionPosition:
    """Locate the transmitter of a session from its time differences.

    Parameters
    ----------
    measured : Measured
    delays : sequence of StationDelay, optional
        Subtracted from the time differences.

    Raises
    ------
    PositionError
        The time differences do not determine a position.
    """
    receivers, area, source = measured.receivers, measured.area, measured.session.known_source
    delays_us = {delay.rx_id: delay.delay_us for delay in delays}
    differences = corrected(receivers, measured.differences, delays_us)
    fix = locate(receivers, differences, area=area, systematic_us=SYSTEMATIC_US)
    blocks = tuple(_block(receivers, number, found, delays_us, area) for number, found in measured.blocks)
    return SessionPosition(
        session=measured.session,
        receivers=receivers,
        pairs=measured.pairs,
        differences=differences,
        closure_us=closure_us(len(receivers), differences),
        fix=fix,
        block_scatter_m=_block_scatter_m(blocks),
        left_out=measured.left_out | fix.left_out,
        area=area,
        distance_to_source_km=None
        if source is None
        else float(distance_m(fix.latitude, fix.longitude, source.latitude, source.longitude)) / 1e3,
        blocks=blocks,
        delays=tuple(delays),
        uncalibrated=locate(receivers, measured.differences, area=area, systematic_us=SYSTEMATIC_US)
        if delays
        else None,
    )


@dataclass(frozen=True, eq=False)
class _Station:
    recording: StationRecording
    iq: StationIq
    receiver: Receiver

    @property
    def interval(self) -> Interval:
        return Interval(self.recording.start_time_unix_ns, self.recording.samples_count, self.recording.sample_rate_hz)

    def on_grid(self, segment_start_ns: int, grid: TimeGrid) -> NDArray[np.complex64] | None:
        """The station's channel at the grid's instants of a segment; None where it was not recorded."""
        rate_hz = self.recording.sample_rate_hz
        start_ns = segment_start_ns + grid.start_ns - self.recording.start_time_unix_ns
        first = round((start_ns - EDGE_NS) * 1e-9 * rate_hz)
        last = round((start_ns + grid.num_samples / grid.rate_hz * 1e9 + EDGE_NS) * 1e-9 * rate_hz)
        # The first segment begins with the first sample, the last may end with the last one: give or take one.
        first, last = max(first, min(first + 1, 0)), min(last, max(last - 1, self.recording.samples_count))
        if first < 0 or last > self.recording.samples_count:
            return None
        return signal_on_grid(self.iq.read(first, last - first), first / rate_hz * 1e9 - start_ns, rate_hz, grid)


def _check_names(session: RecordingSession, recordings: Sequence[StationRecording], options: LocateOptions) -> None:
    known = {recording.station.rx_id for recording in recordings}
    for rx_id in (*options.exclude, *options.trusted):
        if rx_id not in known:
            raise NotLocatableError(
                f"session {session.slug} has no station {rx_id}; its stations are {', '.join(sorted(known)) or 'none'}"
            )


def _usable(
    stores: Stores, recordings: Sequence[StationRecording], options: LocateOptions
) -> tuple[list[_Station], dict[str, str]]:
    """Stations with IQ and a clock that carries time differences, and why the others are left out."""
    stations, left_out = [], {}
    for recording in recordings:
        rx_id = recording.station.rx_id
        reason = _reason_against(recording, options)
        if reason is None:
            try:
                place = recording.station
                receiver = Receiver(rx_id, place.latitude, place.longitude, place.altitude_m)
                stations.append(_Station(recording, StationIq(stores.objects, recording), receiver))
            except (ObjectNotFoundError, IqObjectError) as error:
                reason = str(error)
        if reason is not None:
            left_out[rx_id] = reason
    return stations, left_out


def _reason_against(recording: StationRecording, options: LocateOptions) -> str | None:
    if recording.station.rx_id in options.exclude:
        return "excluded"
    if recording.error_message is not None or recording.location is None:
        return recording.error_message or "nothing was recorded"
    rx_id = recording.station.rx_id
    return reason_against_clock(recording, is_trusted=rx_id in options.trusted, hint=f" (if it is: --trust {rx_id})")


def _measure(
    session: RecordingSession,
    stations: Sequence[_Station],
    bandwidth_hz: float,
    options: LocateOptions,
    progress: Callable[[str], None],
) -> list[tuple[int, list[TimeDifference]]]:
    """Number and time differences of each segment, a block of 1 s."""
    try:
        plan = plan_segments([station.interval for station in stations])
    except NoSegmentError as error:
        raise NotLocatableError(f"session {session.slug}: {error}") from None
    reach_s = _max_delays_s([station.receiver for station in stations])
    grid = segment_grid(
        plan.chunks_per_segment * CHUNK_NS, bandwidth_hz, [station.recording.sample_rate_hz for station in stations]
    )
    assert grid is not None  # of three stations and 200 ms there is one
    throttle = Throttle(_PROGRESS_INTERVAL_S)
    blocks = []
    first = math.ceil(options.from_s or 0.0)
    last = plan.num_segments if options.until_s is None else min(math.floor(options.until_s), plan.num_segments)
    if not 0 <= first < last:
        raise NotLocatableError(
            f"session {session.slug}: no whole second from {options.from_s or 0:g} to "
            f"{'the end' if options.until_s is None else f'{options.until_s:g} s'}; it has {plan.num_segments} of them"
        )
    for segment_idx in range(first, last):
        try:
            blocks.append((segment_idx, _measure_block(stations, plan.segment_start_ns(segment_idx), grid, reach_s)))
        except (ObjectNotFoundError, IqObjectError) as error:
            raise NotLocatableError(f"session {session.slug}: {error}") from None
        if throttle.is_due():
            progress(f"{segment_idx + 1 - first} of {last - first} blocks of 1 s measured")
    return blocks


def _measure_block(
    stations: Sequence[_Station], segment_start_ns: int, grid: TimeGrid, reach_s: NDArray[np.float64]
) -> list[TimeDifference]:
    """Time differences of a segment between the stations that recorded it."""
    signals = [station.on_grid(segment_start_ns, grid) for station in stations]
    present = [index for index, signal in enumerate(signals) if signal is not None]
    if len(present) < 2:
        return []
    levels_db = [-math.inf if (snr_db := stations[index].recording.snr_db) is None else snr_db for index in present]
    found = differences_on_grid(
        [signal for signal in signals if signal is not None],
        grid,
        max_delays_s=reach_s[np.ix_(present, present)],
        reference=levels_db.index(max(levels_db)),
    )
    if len(present) == len(stations):
        return found
    return [replace(x, a=present[x.a], b=present[x.b]) for x in found]


def _max_delays_s(receivers: Sequence[Receiver]) -> NDArray[np.float64]:
    """Largest time difference of each pair: the time between the two, and a margin."""
    lats, lons = np.array([x.latitude for x in receivers]), np.array([x.longitude for x in receivers])
    apart_m, _ = distance_and_azimuth(lats[:, None], lons[:, None], lats[None, :], lons[None, :])
    return np.asarray(apart_m / SPEED_OF_LIGHT_M_PER_S + DELAY_MARGIN_US * 1e-6)


def _over_blocks(
    receivers: Sequence[Receiver], blocks: Sequence[Sequence[TimeDifference]], source: tuple[float, float] | None
) -> tuple[tuple[PairDelay, ...], tuple[TimeDifference, ...]]:
    """Each pair's mean over the blocks, in which those far off count less, with its standard error."""
    pairs, differences = [], []
    by_pair: dict[tuple[int, int], list[TimeDifference]] = {}
    for block in blocks:
        for difference in block:
            by_pair.setdefault((difference.a, difference.b), []).append(difference)
    for a, first in enumerate(receivers):
        for b in range(a + 1, len(receivers)):
            second = receivers[b]
            of_pair = by_pair.get((a, b), [])
            known = [x for x in of_pair if x.tdoa_us is not None]
            peak = float(np.median([x.peak for x in of_pair])) if of_pair else 0.0
            expected_us = None
            if source is not None:
                paths_m = distance_m(*source, [first.latitude, second.latitude], [first.longitude, second.longitude])
                expected_us = float(paths_m[1] - paths_m[0]) / SPEED_OF_LIGHT_M_PER_S * 1e6
            if not known or 2 * len(known) < len(of_pair):
                reasons = sorted({x.reason for x in of_pair if x.reason is not None}) or ["no common block"]
                reason = f"in {len(of_pair) - len(known)} of {len(of_pair)} blocks: {'; '.join(reasons[:2])}"
                pairs.append(
                    PairDelay(first.rx_id, second.rx_id, None, None, None, peak, len(known), expected_us, reason)
                )
                differences.append(TimeDifference(a, b, None, None, peak, None, reason))
                continue
            values_us = np.array([x.tdoa_us for x in known], dtype=np.float64)
            tdoa_us, scatter_us = _robust_mean(values_us)
            own_us = float(np.median([x.std_us for x in known if x.std_us is not None]))
            std_us = _STD_OF_ROBUST_MEAN * max(scatter_us, own_us) / math.sqrt(len(known))
            pairs.append(
                PairDelay(
                    first.rx_id, second.rx_id, tdoa_us, std_us, float(values_us.std()), peak, len(known), expected_us
                )
            )
            differences.append(TimeDifference(a, b, tdoa_us, std_us, peak, None))
    return tuple(pairs), tuple(differences)


def _robust_mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Huber's mean, and the deviation that the middle half has: medians of the pairs of a triangle close less well."""
    mean = float(np.median(values))
    scatter = 1.4826 * float(np.median(np.abs(values - mean)))
    for _ in range(20):
        far = np.abs(values - mean)
        weights = np.where(far > _HUBER * scatter, _HUBER * scatter / np.maximum(far, 1e-12), 1.0)
        if not weights.sum() > 0:
            break
        mean = float(np.sum(weights * values) / weights.sum())
    return mean, scatter


def closure_us(num_receivers: int, differences: Sequence[TimeDifference]) -> float | None:
    """Greatest sum of time differences around a triangle, us; None without one."""
    delay = {(x.a, x.b): x.tdoa_us for x in differences if x.tdoa_us is not None}
    sums = [
        abs(delay[a, b] + delay[b, c] - delay[a, c])
        for a in range(num_receivers)
        for b in range(a + 1, num_receivers)
        for c in range(b + 1, num_receivers)
        if (a, b) in delay and (b, c) in delay and (a, c) in delay
    ]
    return max(sums) if sums else None


def _block(
    receivers: Sequence[Receiver],
    segment_idx: int,
    differences: tuple[TimeDifference, ...],
    delays_us: dict[str, float],
    area: Area,
) -> Block:
    try:
        fix = locate(receivers, corrected(receivers, differences, delays_us), area=area, systematic_us=SYSTEMATIC_US)
    except PositionError as error:
        return Block(segment_idx, differences, None, str(error))
    return Block(segment_idx, differences, fix, None)


def _block_scatter_m(blocks: Sequence[Block]) -> float | None:
    """Median distance of the blocks' positions from their median position."""
    places = [(block.fix.latitude, block.fix.longitude) for block in blocks if block.fix is not None]
    if len(places) < 3:
        return None
    lats, lons = np.array(places).T
    relative = (lons - lons[0] + 180) % 360 - 180
    distances_m = distance_m(lats, relative, float(np.median(lats)), float(np.median(relative)))
    return float(np.median(distances_m))
