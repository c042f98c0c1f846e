"""Calibrates stations by a session of a transmitter whose position is known: the delay of each, kept for later."""

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.position import StationDelay
from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines.rf.positioning import Receiver
from heimdall_pipelines.rf.station_delays import DelayEstimate, Emission, estimate_delays
from heimdall_pipelines.sessions.locating import measure_session
from heimdall_pipelines.sessions.position_checks import contradictions
from heimdall_pipelines.sessions.session_position import SYSTEMATIC_US, LocateOptions, Measured
from heimdall_pipelines.store.known_sources import KnownSource
from heimdall_pipelines.store.sessions import RecordingSession, SessionKey, get_session
from heimdall_pipelines.store.station_delays import add_delays, delays_at
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress

logger = logging.getLogger(__name__)

_COMMON_DELAY = "a delay that all its stations share is not seen"
_HORIZON_KM_PER_SQRT_M = 4.12  # of an antenna, with 4/3 of the earth's radius (ITU-R P.310)
_LEAST_HEIGHT_M = 10.0


class NotCalibratableError(HeimdallError):
    """The session cannot calibrate its stations."""


@dataclass(frozen=True)
class CalibrationOptions:
    """What the caller chose.

    Attributes
    ----------
    exclude, trusted, bandwidth_hz, from_s, until_s
        As of `LocateOptions`.
    valid_from, valid_to : datetime, optional
        Sessions that begin in between use the delays: from the session's start on, without end, if None.
    is_kept : bool
        Whether the delays are stored.
    """

    exclude: Collection[str] = ()
    trusted: Collection[str] = ()
    bandwidth_hz: float | None = None
    from_s: float | None = None
    until_s: float | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    is_kept: bool = True


@dataclass(frozen=True)
class Calibration:
    """Result of a calibration.

    Attributes
    ----------
    session : RecordingSession
    source : KnownSource
    delays : tuple of StationDelay
        Relative to their mean.
    notes : tuple of str
        What the calibration cannot see.
    contradicted : tuple of (StationDelay, DelayEstimate, float, float)
        Delays of earlier calibrations that hold at the session's time and that this one contradicts, with the
        difference and its standard deviation, us.
    left_out : dict of str to str
        Stations that were not calibrated, with the reason.
    """

    session: RecordingSession
    source: KnownSource
    delays: tuple[StationDelay, ...]
    notes: tuple[str, ...]
    contradicted: tuple[tuple[StationDelay, DelayEstimate, float, float], ...]
    left_out: dict[str, str]


def calibrate_session(
    stores: Stores, key: SessionKey, options: CalibrationOptions, progress: Progress = logger.info
) -> Calibration:
    """Solve the delay of each station of a session of a known source, and keep it.

    Earlier delays stay; of several that hold at a time `session locate` uses those of the calibration that has most of
    its stations, then the newest.

    Parameters
    ----------
    stores : Stores
    key : UUID or str
        Id or slug of the session.
    options : CalibrationOptions
    progress : callable, optional
        Called with a line to show, every few seconds.

    Raises
    ------
    NotCalibratableError
        The session has no known source, or the period of validity is empty.
    NotLocatableError
        As of `locate_session`.
    PositionError
        Fewer than three stations have time differences.
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    session = get_session(stores.database, key)
    source = session.known_source
    if source is None:
        raise NotCalibratableError(
            f"session {session.slug} has no known source: only a transmitter of known position calibrates stations"
        )
    valid_from = options.valid_from or session.start_time
    if valid_from is None or (options.valid_to is not None and options.valid_to <= valid_from):
        raise NotCalibratableError(f"no time lies from {valid_from} to {options.valid_to}: the delays would never hold")
    measured = measure_session(
        stores,
        session.id,
        LocateOptions(
            exclude=options.exclude,
            trusted=options.trusted,
            bandwidth_hz=options.bandwidth_hz,
            from_s=options.from_s,
            until_s=options.until_s,
        ),
        progress,
    )
    emission = Emission(measured.receivers, measured.differences, (source.latitude, source.longitude))
    estimates = {
        rx_id: estimate
        for rx_id, estimate in estimate_delays([emission], systematic_us=SYSTEMATIC_US).items()
        if estimate.num_emissions
    }
    over_horizon = [
        note
        for receiver in measured.receivers
        if receiver.rx_id in estimates and (note := _over_horizon(receiver, source)) is not None
    ]
    notes = (_COMMON_DELAY, *over_horizon)
    delays = tuple(
        StationDelay(
            rx_id=rx_id,
            delay_us=round(estimate.delay_us, 4),
            uncertainty_us=round(estimate.std_us, 4),
            valid_from=valid_from,
            valid_to=options.valid_to,
            session_slug=session.slug,
            known_source=source.name,
            note="; ".join(note for note in notes if note == _COMMON_DELAY or note.startswith(f"{rx_id}:")),
        )
        for rx_id, estimate in estimates.items()
    )
    kept = delays_at(stores.database, session.start_time or valid_from, list(estimates))
    if options.is_kept:
        add_delays(stores.database, session.id, delays)
    return Calibration(
        session, source, delays, notes, tuple(contradictions(kept, estimates)), _left_out(measured, estimates)
    )


def _left_out(measured: Measured, estimates: dict[str, DelayEstimate]) -> dict[str, str]:
    silent = {
        receiver.rx_id: "no time difference with the others"
        for receiver in measured.receivers
        if receiver.rx_id not in estimates
    }
    return measured.left_out | silent


def _over_horizon(receiver: Receiver, source: KnownSource) -> str | None:
    """Say that a source is over a station's radio horizon: what the path adds is then taken for its delay."""
    heights_m = (receiver.altitude_m, source.altitude_m)
    horizon_km = sum(_HORIZON_KM_PER_SQRT_M * math.sqrt(max(height_m, _LEAST_HEIGHT_M)) for height_m in heights_m)
    away_km = float(distance_m(receiver.latitude, receiver.longitude, source.latitude, source.longitude)) / 1e3
    if away_km <= horizon_km:
        return None
    return (
        f"{receiver.rx_id}: the source is {away_km:.0f} km away, over the radio horizon ({horizon_km:.0f} km): what "
        "diffraction, ground wave or sky wave adds counts as delay of the station"
    )
