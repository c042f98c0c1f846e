"""Locates a session and stores its positions, or why there is none."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from heimdall_pipelines.model.position import METHOD, MeasuredDifference, StationDelay, StoredPosition
from heimdall_pipelines.rf.positioning import PositionError, PositionFix, Receiver
from heimdall_pipelines.rf.tdoa import TimeDifference
from heimdall_pipelines.sessions.completed import require_completed
from heimdall_pipelines.sessions.locating import closure_us, delays_of, measure_session, position_of
from heimdall_pipelines.sessions.session_position import (
    LocateOptions,
    Measured,
    NotLocatableError,
    SessionPosition,
)
from heimdall_pipelines.store.positions import replace_positions
from heimdall_pipelines.store.session_revisions import SessionRevision
from heimdall_pipelines.store.sessions import RecordingSession, SessionKey, get_session
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredLocation:
    """What was stored of a session.

    Attributes
    ----------
    session : RecordingSession
    rows : tuple of StoredPosition
        The whole session's first, then those of its segments.
    position : SessionPosition or None
        None where the session could not be located: ``reason`` says why.
    measured : Measured or None
        None where not even time differences could be measured.
    """

    session: RecordingSession
    rows: tuple[StoredPosition, ...]
    position: SessionPosition | None
    measured: Measured | None
    reason: str | None


def locate_and_store(stores: Stores, key: SessionKey, progress: Progress = logger.info) -> StoredLocation:
    """Locate a completed session and replace its rows of positions, in one transaction.

    A session that cannot be located gets a row with the reason. An outage of a server raises an error and leaves the
    rows unchanged.

    Parameters
    ----------
    stores : Stores
    key : UUID or str
        Id or slug of a completed session.
    progress : callable, optional
        Called with a line to show, every few seconds.

    Raises
    ------
    NotCompletedError
        The session is not completed.
    SupersededError
        The session was completed again meanwhile.
    SessionBeingDeletedError
        Its deletion has begun.
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    session = get_session(stores.database, key)
    require_completed(session, "locate")
    location = _located(stores, session, progress)
    target = SessionRevision(session.id, session.slug, session.revision)
    replace_positions(stores.database, target, location.rows)
    return location


def _located(stores: Stores, session: RecordingSession, progress: Progress) -> StoredLocation:
    options = LocateOptions()
    try:
        measured = measure_session(stores, session.id, options, progress)
    except NotLocatableError as error:
        return StoredLocation(session, (_unlocated(str(error), error.left_out),), None, None, str(error))
    delays = delays_of(stores, measured, options)
    try:
        position = position_of(measured, delays)
    except PositionError as error:
        differences = _named(measured.receivers, measured.differences)
        row = replace(_unlocated(str(error), measured.left_out, differences), **_subtracted(delays))
        return StoredLocation(session, (row,), None, measured, str(error))
    return StoredLocation(session, tuple(_rows(position)), position, measured, None)


def _rows(position: SessionPosition) -> list[StoredPosition]:
    differences = [
        MeasuredDifference(
            pair.rx_a, pair.rx_b, _rounded(pair.tdoa_us), _rounded(pair.std_us), round(pair.peak, 4), pair.reason
        )
        for pair in position.pairs
    ]
    rows = [_row(None, position, position.fix, position.closure_us, position.left_out, differences)]
    for block in position.blocks:
        named = _named(position.receivers, block.differences)
        if block.fix is None:
            rows.append(_unlocated(block.reason or "not located", {}, named, block.segment_idx))
        else:
            closes_us = closure_us(len(position.receivers), block.differences)
            rows.append(_row(block.segment_idx, position, block.fix, closes_us, block.fix.left_out, named))
    return rows


def _row(
    segment_idx: int | None,
    position: SessionPosition,
    fix: PositionFix,
    closes_us: float | None,
    left_out: dict[str, str],
    differences: Sequence[MeasuredDifference],
) -> StoredPosition:
    second = fix.second or (None, None)
    return StoredPosition(
        segment_idx=segment_idx,
        method=METHOD,
        latitude=round(fix.latitude, 7),
        longitude=round(fix.longitude, 7),
        semi_major_m=round(fix.ellipse.semi_major_m, 2),
        semi_minor_m=round(fix.ellipse.semi_minor_m, 2),
        azimuth_deg=round(fix.ellipse.azimuth_deg, 2),
        second_latitude=second[0],
        second_longitude=second[1],
        is_at_edge=fix.is_at_edge,
        closure_us=_rounded(closes_us),
        residuals_us=fix.residuals_us,
        stations_used=fix.used,
        stations_left_out=left_out,
        time_differences=tuple(differences),
        reason=None,
        **_subtracted(position.delays),
    )


def _subtracted(delays: Sequence[StationDelay]) -> dict[str, Any]:
    """Columns of the delays that a calibration gave, as it stored them."""
    return {
        "station_delays_us": {delay.rx_id: delay.delay_us for delay in delays},
        "delays_from": delays[0].session_slug if delays else None,
    }


def _unlocated(
    reason: str,
    left_out: dict[str, str],
    differences: Sequence[MeasuredDifference] = (),
    segment_idx: int | None = None,
) -> StoredPosition:
    return StoredPosition(
        segment_idx=segment_idx,
        method=METHOD,
        latitude=None,
        longitude=None,
        semi_major_m=None,
        semi_minor_m=None,
        azimuth_deg=None,
        second_latitude=None,
        second_longitude=None,
        is_at_edge=None,
        closure_us=None,
        residuals_us={},
        stations_used=(),
        stations_left_out=left_out,
        time_differences=tuple(differences),
        station_delays_us={},
        delays_from=None,
        reason=reason,
    )


def _named(receivers: Sequence[Receiver], differences: Sequence[TimeDifference]) -> list[MeasuredDifference]:
    return [
        MeasuredDifference(
            receivers[x.a].rx_id,
            receivers[x.b].rx_id,
            _rounded(x.tdoa_us),
            _rounded(x.std_us),
            round(x.peak, 4),
            x.reason,
        )
        for x in differences
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
