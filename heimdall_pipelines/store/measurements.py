"""Rows of measurements: each station's IQ of a session."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.sql import time_sql
from heimdall_pipelines.store.stations import Station, station_ids


@dataclass(frozen=True)
class StationRecording:
    """One station's IQ of a session.

    ``full_scale_dbm`` is the power of ``abs(x) = 1``; where ``is_calibrated`` is false it is a guess
    and levels are relative to full scale. ``quantisation_step`` (of full scale) is None for samples
    that never were integers, ``passband_hz`` is None where the receiver passes the whole sampled band.
    ``note`` says what limits it. Where nothing was recorded, ``error_message`` says why, there is no
    location, and ``samples_count`` and ``sample_rate_hz`` are 0.
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

    @property
    def cn0_dbhz(self) -> float | None:
        """Carrier-to-noise density that the SNR, which is over the whole sampled band, comes to."""
        return None if self.snr_db is None else self.snr_db + 10 * math.log10(self.sample_rate_hz)


def list_recordings(database: Database, session_id: UUID) -> list[StationRecording]:
    """The stations' IQ of a session, by rx_id."""
    with database.transaction() as connection:
        return read_recordings(connection, session_id)


def read_recordings(connection: Connection, session_id: UUID) -> list[StationRecording]:
    """The stations' IQ of a session, by rx_id, within a transaction or snapshot."""
    rows = connection.execute(
        text(
            "SELECT m.*, w.rx_id, w.name, w.latitude, w.longitude, w.altitude_m, w.url, w.api_type, w.is_active"
            " FROM heimdall.measurements m JOIN heimdall.websdr_stations w ON w.id = m.websdr_station_id"
            " WHERE m.recording_session_id = :id ORDER BY w.rx_id, m.timestamp"
        ),
        {"id": session_id},
    )
    return [_recording(row) for row in rows]


def replace_measurements(connection: Connection, session_id: UUID, recordings: Sequence[StationRecording]) -> None:
    """Write what the stations recorded in place of what was there; the stations have rows already."""
    ids = station_ids(connection, [recording.station.rx_id for recording in recordings])
    connection.execute(text("DELETE FROM heimdall.measurements WHERE recording_session_id = :id"), {"id": session_id})
    for recording in recordings:
        connection.execute(
            text(
                "INSERT INTO heimdall.measurements (timestamp, recording_session_id, websdr_station_id,"
                " start_time_unix_ns, time_source, time_uncertainty_ns, sample_rate_hz, samples_count,"
                " iq_data_location, iq_data_format, sha256, full_scale_dbm, is_calibrated, quantisation_step,"
                " passband_hz, error_message, note, snr_db, signal_strength_dbm, frequency_offset_hz)"
                f" VALUES ({time_sql('CAST(:start_ns AS bigint) / 1000')}, :session_id, :station_id, :start_ns,"
                " :time_source, :time_uncertainty_ns, :sample_rate_hz, :samples_count,"
                " :location, :iq_data_format, :sha256, :full_scale_dbm, :is_calibrated, :quantisation_step,"
                " :passband_hz, :error_message, :note, :snr_db, :signal_strength_dbm, :frequency_offset_hz)"
            ),
            {
                "start_ns": recording.start_time_unix_ns,
                "session_id": session_id,
                "station_id": ids[recording.station.rx_id],
                "time_source": recording.time_source,
                "time_uncertainty_ns": recording.time_uncertainty_ns,
                "sample_rate_hz": recording.sample_rate_hz or None,
                "samples_count": recording.samples_count,
                "location": str(recording.location) if recording.location else None,
                "iq_data_format": recording.iq_data_format,
                "sha256": recording.sha256,
                "full_scale_dbm": recording.full_scale_dbm,
                "is_calibrated": recording.is_calibrated,
                "quantisation_step": recording.quantisation_step,
                "passband_hz": recording.passband_hz,
                "error_message": recording.error_message,
                "note": recording.note,
                "snr_db": recording.snr_db,
                "signal_strength_dbm": recording.signal_strength_dbm,
                "frequency_offset_hz": recording.frequency_offset_hz,
            },
        )


def _recording(row: Row[Any]) -> StationRecording:
    return StationRecording(
        station=Station(
            rx_id=row.rx_id,
            name=row.name,
            latitude=row.latitude,
            longitude=row.longitude,
            altitude_m=row.altitude_m,
            url=row.url,
            api_type=row.api_type,
            is_active=row.is_active,
        ),
        start_time_unix_ns=row.start_time_unix_ns,
        sample_rate_hz=row.sample_rate_hz or 0.0,
        samples_count=row.samples_count,
        location=ObjectLocation.parse(row.iq_data_location) if row.iq_data_location else None,
        iq_data_format=row.iq_data_format,
        sha256=row.sha256,
        full_scale_dbm=row.full_scale_dbm,
        is_calibrated=row.is_calibrated,
        quantisation_step=row.quantisation_step,
        passband_hz=row.passband_hz,
        time_source=row.time_source,
        time_uncertainty_ns=row.time_uncertainty_ns,
        error_message=row.error_message,
        note=row.note,
        snr_db=row.snr_db,
        signal_strength_dbm=row.signal_strength_dbm,
        frequency_offset_hz=row.frequency_offset_hz,
    )
