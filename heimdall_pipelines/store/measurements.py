"""Rows of measurements: each station's IQ of a session."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from heimdall_pipelines.model.clock import Clock, clock_of
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.digest_rows import seal_rows
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.sql import time_sql
from heimdall_pipelines.store.stations import Station, station_ids


@dataclass(frozen=True)
class StationRecording:
    """One station's IQ of a session.

    ``full_scale_dbm`` is the power of ``abs(x) = 1``; if ``is_calibrated`` is false it is a guess
    and levels are relative to full scale. ``quantisation_step`` (of full scale) is None for samples
    that were not quantised, ``passband_hz`` is None if the receiver passes the whole sampled band.
    ``note`` describes its limits. ``etag`` is that of the object, ``sidecar_sha256`` the digest of its
    sidecar; a row of an older version has None for both. If nothing was recorded, ``error_message`` says
    why, there is no location, and ``samples_count`` and ``sample_rate_hz`` are 0.
    """

    station: Station
    start_time_unix_ns: int
    sample_rate_hz: float
    samples_count: int
    location: ObjectLocation | None
    iq_data_format: str | None
    sha256: str | None
    full_scale_dbm: float
    is_calibrated: bool
    time_source: str
    time_uncertainty_ns: float | None
    quantisation_step: float | None = None
    passband_hz: float | None = None
    error_message: str | None = None
    note: str | None = None
    snr_db: float | None = None
    signal_strength_dbm: float | None = None
    frequency_offset_hz: float | None = None
    sidecar_sha256: str | None = None
    etag: str | None = None

    @property
    def clock(self) -> Clock:
        """Class and uncertainty of its clock."""
        return clock_of(self.time_source, self.time_uncertainty_ns, is_recorded=self.samples_count > 0)

    @property
    def cn0_dbhz(self) -> float | None:
        """Carrier-to-noise density, computed from the SNR over the whole sampled band."""
        return None if self.snr_db is None else self.snr_db + 10 * math.log10(self.sample_rate_hz)


_COLUMNS = (
    *(field.name for field in fields(StationRecording) if field.name not in ("station", "location")),
    "iq_data_location",
)
_STATION_COLUMNS = ("rx_id", "name", "latitude", "longitude", "altitude_m", "url", "api_type", "is_active")


def list_recordings(database: Database, session_id: UUID) -> list[StationRecording]:
    """The stations' IQ of a session, by rx_id."""
    with database.transaction() as connection:
        return read_recordings(connection, session_id)


def read_recordings(connection: Connection, session_id: UUID) -> list[StationRecording]:
    """The stations' IQ of a session, by rx_id, within a transaction or snapshot."""
    columns = ", ".join((*(f"m.{column}" for column in _COLUMNS), *(f"w.{column}" for column in _STATION_COLUMNS)))
    rows = connection.execute(
        text(
            f"SELECT {columns} FROM heimdall.measurements m"
            " JOIN heimdall.websdr_stations w ON w.id = m.websdr_station_id"
            " WHERE m.recording_session_id = :id ORDER BY w.rx_id, m.timestamp"
        ),
        {"id": session_id},
    )
    return [_recording(row) for row in rows]


def replace_measurements(connection: Connection, session_id: UUID, recordings: Sequence[StationRecording]) -> None:
    """Replace a session's measurements, with their digests; the stations must have rows already."""
    ids = station_ids(connection, [recording.station.rx_id for recording in recordings])
    connection.execute(text("DELETE FROM heimdall.measurements WHERE recording_session_id = :id"), {"id": session_id})
    for recording in recordings:
        connection.execute(
            text(
                "INSERT INTO heimdall.measurements (timestamp, recording_session_id, websdr_station_id,"
                f" {', '.join(_COLUMNS)}) VALUES ({time_sql('CAST(:start_time_unix_ns AS bigint) / 1000')},"
                f" :session_id, :station_id, {', '.join(f':{column}' for column in _COLUMNS)})"
            ),
            vars(recording)
            | {
                "session_id": session_id,
                "station_id": ids[recording.station.rx_id],
                "iq_data_location": str(recording.location) if recording.location else None,
                "sample_rate_hz": recording.sample_rate_hz or None,
            },
        )
    seal_rows(connection, "measurements", "recording_session_id = :id", {"id": session_id})


def _recording(row: Row[Any]) -> StationRecording:
    values = dict(row._mapping)
    return StationRecording(
        station=Station(**{column: values.pop(column) for column in _STATION_COLUMNS}),
        location=ObjectLocation.readable(values.pop("iq_data_location")),
        sample_rate_hz=values.pop("sample_rate_hz") or 0.0,
        **values,
    )
