"""Report of a session as one HTML file: waterfalls, map, features over time, tables."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from heimdall_pipelines.report_page import (
    Line,
    MapLayer,
    Section,
    chart,
    moving_map,
    page,
    paragraph,
    picture,
    table,
)
from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines.rf.positioning import PositionError
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.completed import require_completed
from heimdall_pipelines.sessions.locating import delays_of, measure_session, position_of
from heimdall_pipelines.sessions.position_files import ellipse_outline, hyperbolas
from heimdall_pipelines.sessions.session_position import LocateOptions, Measured, NotLocatableError, SessionPosition
from heimdall_pipelines.store.features import mean_of
from heimdall_pipelines.store.measurements import StationRecording, list_recordings
from heimdall_pipelines.store.session_features import StoredSessionRow, read_session_rows
from heimdall_pipelines.store.sessions import RecordingSession, SessionKey, get_session

if TYPE_CHECKING:
    from heimdall_pipelines.store.stores import Stores
    from heimdall_pipelines.throttle import Progress

logger = logging.getLogger(__name__)

_FEATURES = {
    "snr_db": ("Signal-to-noise ratio", "dB"),
    "rssi_dbm": ("Signal strength", "dBm"),
    "noise_floor_dbm": ("Noise floor", "dBm"),
    "frequency_offset_hz": ("Frequency offset", "Hz"),
    "bandwidth_hz": ("Bandwidth", "Hz"),
    "multipath_delay_spread_us": ("Delay spread", "us"),
}


def session_report(stores: Stores, key: SessionKey, progress: Progress = logger.info) -> str:
    """Make the report of a completed session.

    Parameters
    ----------
    stores : Stores
    key : UUID or str
        Id or slug of the session.
    progress : callable, optional
        Called with a line to show, every few seconds.

    Returns
    -------
    str
        One HTML file that loads nothing from elsewhere.

    Raises
    ------
    NotCompletedError, SessionBeingDeletedError
        As of `require_completed`.
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    session = get_session(stores.database, key)
    require_completed(session, "report")
    recordings = list_recordings(stores.database, session.id)
    with stores.database.snapshot() as connection:
        rows = list(read_session_rows(connection, session.id))
    measured, position, reason = _located(stores, session, progress)
    progress("drawing waterfalls")
    sections = [
        Section("Session", _facts(session)),
        Section("Position", _position(stores, position, reason)),
        Section("Waterfalls", _waterfalls(stores, session, recordings)),
        Section("Features over time", _features(rows, position)),
        Section("Stations", _stations(recordings, position)),
        Section("Time differences", _differences(measured)),
        Section("Checks", _checks(stores, session)),
    ]
    lead = (
        f"{session.name}: {session.frequency_hz / 1e6:.10g} MHz, {len(recordings)} stations, "
        f"made on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )
    return page(session.slug, lead, sections)


def _located(
    stores: Stores, session: RecordingSession, progress: Progress
) -> tuple[Measured | None, SessionPosition | None, str]:
    options = LocateOptions()
    try:
        measured = measure_session(stores, session.id, options, progress)
    except NotLocatableError as error:
        return None, None, str(error)
    try:
        return measured, position_of(measured, delays_of(stores, measured, options)), ""
    except PositionError as error:
        return measured, None, str(error)


def _facts(session: RecordingSession) -> str:
    source = session.known_source
    return table(
        ("", ""),
        (
            ("id", str(session.id)),
            ("name", session.name),
            ("centre frequency, Hz", f"{session.frequency_hz:.10g}"),
            ("channel, Hz", f"{session.bandwidth_hz:g}"),
            ("start, UTC", "" if session.start_time is None else f"{session.start_time:%Y-%m-%d %H:%M:%S.%f}"),
            ("duration, s", "" if session.duration_s is None else f"{session.duration_s:.3f}"),
            ("revision", str(session.revision)),
            (
                "known source",
                "none" if source is None else f"{source.name} ({source.latitude:.4f}, {source.longitude:.4f})",
            ),
            ("health", session.health_status),
            ("error", session.error_message or "none"),
        ),
    )


def _position(stores: Stores, position: SessionPosition | None, reason: str) -> str:
    if position is None:
        return paragraph(f"Not located: {reason}", "warn")
    from heimdall_pipelines.sessions.map_ground import terrain_of
    from heimdall_pipelines.sessions.position_picture import likelihood_overlay, map_area, relief_background

    fix, area = position.fix, map_area(position)
    terrain = terrain_of(stores, area)
    backgrounds = {}
    relief = None if terrain is None else relief_background(terrain, area)
    if relief is not None:
        backgrounds["shaded relief"] = relief
    backgrounds["likelihood"] = likelihood_overlay(position, area)
    away = ""
    if position.distance_to_source_km is not None and position.session.known_source is not None:
        away = f"; {position.distance_to_source_km:.2f} km from {position.session.known_source.name}"
    parts = [
        paragraph(
            f"{fix.latitude:.5f}, {fix.longitude:.5f}; ellipse of 95 %: {fix.ellipse.semi_major_m:.0f} x "
            f"{fix.ellipse.semi_minor_m:.0f} m, azimuth {fix.ellipse.azimuth_deg:.0f} degrees{away}"
        ),
        *(paragraph(note, "warn") for note in _limits(position)),
        moving_map(area, list(_layers(position)), backgrounds),
    ]
    if relief is None:
        parts.append(paragraph("No terrain covers this area; get it with: heimdall terrain download", "note"))
    return "".join(parts)


def _limits(position: SessionPosition) -> Iterator[str]:
    if len(position.fix.used) == 3:
        yield "Three stations: nothing is left to check the position by; a wrong clock is not noticed."
    if position.fix.second is not None:
        yield "A second position explains the time differences as well."
    if position.fix.is_at_edge:
        yield "The position lies at the edge of the area searched: the transmitter may be outside it."
    if position.delays:
        yield f"Delays of stations are subtracted, calibrated by {position.delays[0].session_slug}."


def _layers(position: SessionPosition) -> Iterator[MapLayer]:
    fix, source = position.fix, position.session.known_source
    yield MapLayer("hyperbolas", "#6b7280", lines=[line for _, _, _, line in hyperbolas(position)], width=0.8)
    seconds = [(x.fix.longitude, x.fix.latitude, "") for x in position.blocks if x.fix is not None]
    yield MapLayer("single seconds", "#1f5fa8", places=seconds[:: max(1, len(seconds) // 1000)])
    outline = ellipse_outline(fix.latitude, fix.longitude, fix.ellipse)
    yield MapLayer("ellipse of 95 %", "#c03028", lines=[outline], width=2.0)
    places = [(receiver.longitude, receiver.latitude, receiver.rx_id) for receiver in position.receivers]
    yield MapLayer("stations", "#111827", places=places, symbol="triangle")
    if source is not None:
        at = [(source.longitude, source.latitude, source.name)]
        yield MapLayer("known source", "#d97706", places=at, symbol="star")
    if fix.second is not None:
        at = [(fix.second[1], fix.second[0], "second position")]
        yield MapLayer("second position", "#9d174d", places=at, symbol="cross")
    yield MapLayer("position", "#c03028", places=[(fix.longitude, fix.latitude, "position")], symbol="cross")


def _waterfalls(stores: Stores, session: RecordingSession, recordings: Sequence[StationRecording]) -> str:
    from heimdall_pipelines.sessions.waterfalls import waterfall_png, waterfalls

    found = waterfalls(stores, recordings)
    png = waterfall_png(found, session.frequency_hz, session.slug)
    parts = [] if png is None else [picture("waterfalls of all stations", png)]
    parts += [
        paragraph(f"{x.recording.station.rx_id}: {x.reason}", "warn") for x in found if x.power_dbm_per_hz is None
    ]
    return "".join(parts)


def _features(rows: Sequence[StoredSessionRow], position: SessionPosition | None) -> str:
    if not rows:
        return paragraph("No features have been extracted yet.", "warn")
    times_s = [(row.timestamp - rows[0].timestamp).total_seconds() for row in rows]
    rx_ids = sorted({receiver.rx_id for row in rows for receiver in row.receivers})
    parts = []
    for feature, (title, unit) in _FEATURES.items():
        lines = [
            Line(
                rx_id,
                times_s,
                [
                    next((mean_of(x, feature) for x in row.receivers if x.rx_id == rx_id and x.signal_present), None)
                    for row in rows
                ],
            )
            for rx_id in rx_ids
        ]
        parts.append(chart(title, unit, lines))
    if position is not None:
        parts.append(_scatter(position))
    return "".join(parts)


def _scatter(position: SessionPosition) -> str:
    """Distance of each second's position from the session's."""
    fix = position.fix
    located = [(x.segment_idx, x.fix) for x in position.blocks]
    away_km = [
        math.nan if one is None else float(distance_m(one.latitude, one.longitude, fix.latitude, fix.longitude)) / 1e3
        for _, one in located
    ]
    line = Line("distance from the session's position", [float(number) for number, _ in located], away_km)
    return chart("Positions of single seconds", "km", [line])


def _stations(recordings: Sequence[StationRecording], position: SessionPosition | None) -> str:
    residuals_us = {} if position is None else position.fix.residuals_us
    delays_us = {} if position is None else position.delays_us
    left_out = {} if position is None else position.left_out
    return table(
        (
            *("station", "latitude", "longitude", "altitude, m", "clock", "sample rate, Hz", "samples", "SNR, dB"),
            *("residual, us", "delay subtracted, us", "note"),
        ),
        (
            (
                x.station.rx_id,
                x.station.latitude,
                x.station.longitude,
                x.station.altitude_m,
                str(x.clock),
                f"{x.sample_rate_hz:.4f}",
                x.samples_count,
                None if x.snr_db is None else round(x.snr_db, 1),
                residuals_us.get(x.station.rx_id),
                delays_us.get(x.station.rx_id),
                "; ".join(
                    text
                    for text in (x.error_message, x.note, left_out.get(x.station.rx_id) and "not used for the position")
                    if text
                ),
            )
            for x in recordings
        ),
    )


def _differences(measured: Measured | None) -> str:
    if measured is None:
        return paragraph("No time differences could be measured.", "note")
    return table(
        (
            *("stations", "difference, us", "std, us", "scatter of 1 s, us", "peak", "seconds"),
            *("known source, us", "note"),
        ),
        (
            (
                f"{x.rx_a} - {x.rx_b}",
                None if x.tdoa_us is None else round(x.tdoa_us, 3),
                None if x.std_us is None else round(x.std_us, 3),
                None if x.scatter_us is None else round(x.scatter_us, 3),
                round(x.peak, 3),
                x.num_blocks,
                None if x.expected_us is None else round(x.expected_us, 3),
                x.reason,
            )
            for x in measured.pairs
        ),
    )


def _checks(stores: Stores, session: RecordingSession) -> str:
    outcomes = check_session(stores, session.id).outcomes
    return table(
        ("check", "result", "first problem or note"),
        (
            (x.name, "passed" if x.passed else f"failed ({x.severity})", x.note if x.passed else x.examples[0])
            for x in outcomes
        ),
    )
