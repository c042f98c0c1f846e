"""Rows of recording_sessions and measurements."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.stations import KnownSource, Station, add_missing_stations, known_source_id, station_ids


class SessionNotFoundError(HeimdallError):
    """No session has this id."""


class SessionBeingDeletedError(HeimdallError):
    """The session's deletion has begun: nothing else is done with it any more."""

    def __init__(self, session_id: UUID | str) -> None:
        super().__init__(f"session {session_id} is being deleted; finish it with: heimdall session delete {session_id}")


class SessionClosedError(HeimdallError):
    """The session was closed as failed: it is not completed any more."""


class ImportInProgressError(HeimdallError):
    """The same content is being imported by another process."""


@dataclass(frozen=True)
class RecordingSession:
    """One recording by several stations at the same time.

    Health, its time and the bytes are those of the last validation (``unknown`` and None before the first).
    """

    id: UUID
    name: str
    status: str
    frequency_hz: float
    bandwidth_hz: float
    start_time: datetime | None
    duration_s: float | None
    revision: int
    error_message: str | None
    known_source: KnownSource | None
    health_status: str
    last_validated_at: datetime | None
    storage_size_bytes: int | None
    deletion_began_at: datetime | None


@dataclass(frozen=True)
class SessionOverview:
    """A session as a list shows it."""

    id: UUID
    name: str
    status: str
    frequency_hz: float
    start_time: datetime | None
    duration_s: float | None
    revision: int
    num_stations: int
    num_segments: int
    num_failed_segments: int
    health_status: str
    last_validated_at: datetime | None
    deletion_began_at: datetime | None


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
    signal_strength_db: float | None = None
    frequency_offset_hz: float | None = None


@dataclass(frozen=True)
class SessionRevision:
    """A completed session in the state that features are extracted from."""

    session_id: UUID
    revision: int

    @property
    def run_key(self) -> str:
        """Key under which Dagster runs the extraction of this state once."""
        return f"{self.session_id}:{self.revision}"


def session_key(session_id: UUID | str) -> UUID:
    """Read a session's id as people type it.

    Raises
    ------
    SessionNotFoundError
        It is no UUID.
    """
    try:
        return UUID(str(session_id))
    except ValueError:
        raise SessionNotFoundError(f"not a session id (a UUID is expected): {session_id}") from None


def get_session(database: Database, session_id: UUID | str) -> RecordingSession:
    """One session.

    Raises
    ------
    SessionNotFoundError
        The id is no UUID, or no session has it.
    """
    with database.transaction() as connection:
        return read_session(connection, session_id)


def read_session(connection: Connection, session_id: UUID | str) -> RecordingSession:
    """One session, within a transaction or snapshot; raises as `get_session`."""
    row = connection.execute(
        text(
            "SELECT s.id, s.name, s.status, s.frequency_hz, s.bandwidth_hz, s.start_time, s.duration_s, s.revision,"
            " s.error_message, s.health_status, s.last_validated_at, s.storage_size_bytes, s.deletion_began_at,"
            " k.name AS source_name, k.frequency_hz AS source_frequency_hz,"
            " k.latitude, k.longitude, k.altitude_m, k.power_dbm"
            " FROM heimdall.recording_sessions s LEFT JOIN heimdall.known_sources k ON k.id = s.known_source_id"
            " WHERE s.id = :id"
        ),
        {"id": session_key(session_id)},
    ).first()
    if row is None:
        raise SessionNotFoundError(f"no session {session_id}; see: heimdall session list")
    source = None
    if row.source_name is not None:
        source = KnownSource(
            row.source_name, row.source_frequency_hz, row.latitude, row.longitude, row.altitude_m, row.power_dbm
        )
    return RecordingSession(
        id=row.id,
        name=row.name,
        status=row.status,
        frequency_hz=row.frequency_hz,
        bandwidth_hz=row.bandwidth_hz,
        start_time=row.start_time,
        duration_s=row.duration_s,
        revision=row.revision,
        error_message=row.error_message,
        known_source=source,
        health_status=row.health_status,
        last_validated_at=row.last_validated_at,
        storage_size_bytes=row.storage_size_bytes,
        deletion_began_at=row.deletion_began_at,
    )


def list_sessions(database: Database, limit: int = 100) -> list[SessionOverview]:
    """Sessions with what was extracted from their current revision, newest first."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT s.id, s.name, s.status, s.frequency_hz, s.start_time, s.duration_s, s.revision,"
                " (SELECT count(*) FROM heimdall.measurements m WHERE m.recording_session_id = s.id) AS num_stations,"
                " count(f.id) AS num_segments,"
                " count(f.id) FILTER (WHERE f.extraction_failed) AS num_failed_segments,"
                " s.health_status, s.last_validated_at, s.deletion_began_at"
                " FROM heimdall.recording_sessions s LEFT JOIN heimdall.measurement_features f"
                " ON f.recording_session_id = s.id AND f.session_revision = s.revision"
                " GROUP BY s.id ORDER BY s.created_at DESC LIMIT :limit"
            ),
            {"limit": limit},
        )
        return [SessionOverview(**row._mapping) for row in rows]


def completed_session_ids(database: Database) -> list[UUID]:
    """Sessions that can be validated, oldest completion first: completed, and not being deleted."""
    with database.transaction() as connection:
        return list(
            connection.execute(
                text(
                    "SELECT id FROM heimdall.recording_sessions WHERE status = 'completed'"
                    " AND deletion_began_at IS NULL ORDER BY completed_at, id"
                )
            ).scalars()
        )


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


_IS_DUE = (
    "s.status = 'completed' AND s.deletion_began_at IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM heimdall.measurement_features f"
    " WHERE f.recording_session_id = s.id AND f.session_revision = s.revision)"
)


def due_for_extraction(
    database: Database, *, limit: int, after: SessionRevision | None = None
) -> list[SessionRevision]:
    """Completed sessions whose current revision has no features, oldest completion first.

    Parameters
    ----------
    database : Database
        Where to look.
    limit : int
        At most so many.
    after : SessionRevision, optional
        Go on behind this one (the last of the previous page).
    """
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                f"SELECT s.id, s.revision FROM heimdall.recording_sessions s WHERE {_IS_DUE}"
                " AND (CAST(:after AS uuid) IS NULL OR (s.completed_at, s.id) >"
                "      (SELECT p.completed_at, p.id FROM heimdall.recording_sessions p WHERE p.id = :after))"
                " ORDER BY s.completed_at, s.id LIMIT :limit"
            ),
            {"limit": limit, "after": after.session_id if after else None},
        )
        return [SessionRevision(row.id, row.revision) for row in rows]


def is_due_for_extraction(database: Database, session_id: UUID) -> bool:
    """Whether a session is completed and its current revision has no features."""
    with database.transaction() as connection:
        found = connection.execute(
            text(f"SELECT 1 FROM heimdall.recording_sessions s WHERE s.id = :id AND {_IS_DUE}"), {"id": session_id}
        ).first()
        return found is not None


@dataclass(frozen=True)
class ImportedSession:
    """What is known of a session before its IQ is stored."""

    name: str
    frequency_hz: float
    bandwidth_hz: float
    known_source: str | None
    content_sha256: str


def begin_import(database: Database, imported: ImportedSession) -> tuple[UUID, bool]:
    """Open a session for an import, or find the one that the same content was imported into.

    Returns
    -------
    session_id, is_completed : UUID, bool
        ``is_completed`` is true when the same content is stored already. A session that an earlier
        import left behind in progress is taken up again under its id, so that its objects are
        overwritten.

    Raises
    ------
    StationError
        The source is not known.
    SessionBeingDeletedError
        The same content is in a session that is being deleted.
    """
    with database.transaction() as connection:
        source_id = known_source_id(connection, imported.known_source)
        row = connection.execute(
            text(
                "INSERT INTO heimdall.recording_sessions"
                " (name, status, frequency_hz, bandwidth_hz, known_source_id, content_sha256)"
                " VALUES (:name, 'in_progress', :frequency_hz, :bandwidth_hz, :source_id, :content_sha256)"
                " ON CONFLICT (content_sha256) DO UPDATE SET content_sha256 = EXCLUDED.content_sha256"
                " RETURNING id, status, deletion_began_at"
            ),
            {
                "name": imported.name,
                "frequency_hz": imported.frequency_hz,
                "bandwidth_hz": imported.bandwidth_hz,
                "source_id": source_id,
                "content_sha256": imported.content_sha256,
            },
        ).one()
        if row.deletion_began_at is not None:
            raise SessionBeingDeletedError(row.id)
    return row.id, row.status == "completed"


@contextmanager
def import_lock(database: Database, content_sha256: str) -> Iterator[None]:
    """Let one process at a time import the same content; the lock ends with its process.

    Raises
    ------
    ImportInProgressError
        Another process holds it.
    """
    with database.transaction() as connection:
        is_free = connection.execute(
            text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": content_sha256}
        ).scalar()
        if not is_free:
            raise ImportInProgressError("these files are being imported by another process; wait for it to end")
        yield


def sessions_holding(database: Database, sha256: Sequence[str], *, other_than_content: str) -> dict[str, UUID]:
    """Which of these objects (by digest) belong to a completed session of other content: {sha256: session id}."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT m.sha256, m.recording_session_id AS id FROM heimdall.measurements m"
                " JOIN heimdall.recording_sessions s ON s.id = m.recording_session_id AND s.status = 'completed'"
                " WHERE m.sha256 = ANY(:sha256) AND s.content_sha256 IS DISTINCT FROM :content"
            ),
            {"sha256": list(sha256), "content": other_than_content},
        )
        return {row.sha256: row.id for row in rows}


def complete_session(
    database: Database,
    session_id: UUID,
    recordings: Sequence[StationRecording],
    *,
    bandwidth_hz: float | None = None,
    error_message: str | None = None,
) -> int:
    """Write a session's measurements and complete it, in one transaction.

    Stations that do not exist yet are added as they stand in the recordings. A session that
    another process completed meanwhile stays as it is.

    Parameters
    ----------
    database : Database
    session_id : UUID
    recordings : sequence of StationRecording
        One of them at least has samples.
    bandwidth_hz : float, optional
        Of the channel, where it is known better than when the session was opened.
    error_message : str, optional
        What went wrong though some stations did record.

    Returns
    -------
    int
        The session's revision.

    Raises
    ------
    SessionNotFoundError, SessionBeingDeletedError
        It was deleted meanwhile, or its deletion has begun.
    SessionClosedError
        It was closed as failed meanwhile.
    """
    with database.transaction() as connection:
        row = connection.execute(
            text(
                "SELECT status, revision, deletion_began_at FROM heimdall.recording_sessions WHERE id = :id FOR UPDATE"
            ),
            {"id": session_id},
        ).first()
        if row is None:
            raise SessionNotFoundError(f"session {session_id} was deleted while it was being completed")
        if row.deletion_began_at is not None:
            raise SessionBeingDeletedError(session_id)
        if row.status == "completed":
            return int(row.revision)
        if row.status == "failed":
            raise SessionClosedError(f"session {session_id} was closed as failed while it was being completed")
        add_missing_stations(connection, [recording.station for recording in recordings])
        _replace_measurements(connection, session_id, recordings)
        recorded = [recording for recording in recordings if recording.samples_count]
        start_ns = min(recording.start_time_unix_ns for recording in recorded)
        end_ns = max(_end_unix_ns(recording) for recording in recorded)
        return int(
            connection.execute(
                text(
                    "UPDATE heimdall.recording_sessions SET status = 'completed', duration_s = :duration_s,"
                    f" start_time = {_TIME.format('start_ns')}, end_time = {_TIME.format('end_ns')},"
                    " bandwidth_hz = COALESCE(:bandwidth_hz, bandwidth_hz), error_message = :error_message,"
                    " recording_deadline_at = NULL WHERE id = :id RETURNING revision"
                ),
                {
                    "id": session_id,
                    "duration_s": (end_ns - start_ns) / 1e9,
                    "start_ns": start_ns,
                    "end_ns": end_ns,
                    "bandwidth_hz": bandwidth_hz,
                    "error_message": error_message,
                },
            ).scalar_one()
        )


def discard_session(database: Database, session_id: UUID) -> None:
    """Delete a session that was never completed, with its rows; one whose deletion has begun is left to that."""
    with database.transaction() as connection:
        connection.execute(
            text(
                "DELETE FROM heimdall.recording_sessions"
                " WHERE id = :id AND status <> 'completed' AND deletion_began_at IS NULL"
            ),
            {"id": session_id},
        )


# to_timestamp takes a float, which holds no microseconds of today; an interval of integers does.
_TIME = "TIMESTAMPTZ 'epoch' + (CAST(:{0} AS bigint) / 1000) * INTERVAL '1 microsecond'"


def _replace_measurements(connection: Connection, session_id: UUID, recordings: Sequence[StationRecording]) -> None:
    ids = station_ids(connection, [recording.station.rx_id for recording in recordings])
    connection.execute(text("DELETE FROM heimdall.measurements WHERE recording_session_id = :id"), {"id": session_id})
    for recording in recordings:
        connection.execute(
            text(
                "INSERT INTO heimdall.measurements (timestamp, recording_session_id, websdr_station_id,"
                " start_time_unix_ns, time_source, time_uncertainty_ns, sample_rate_hz, samples_count,"
                " iq_data_location, iq_data_format, sha256, full_scale_dbm, is_calibrated, quantisation_step,"
                " passband_hz, error_message, note, snr_db, signal_strength_db, frequency_offset_hz)"
                f" VALUES ({_TIME.format('start_ns')}, :session_id, :station_id, :start_ns, :time_source,"
                " :time_uncertainty_ns, :sample_rate_hz, :samples_count, :location, :iq_data_format, :sha256,"
                " :full_scale_dbm, :is_calibrated, :quantisation_step, :passband_hz, :error_message,"
                " :note, :snr_db, :signal_strength_db, :frequency_offset_hz)"
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
                "signal_strength_db": recording.signal_strength_db,
                "frequency_offset_hz": recording.frequency_offset_hz,
            },
        )


def _end_unix_ns(recording: StationRecording) -> int:
    return recording.start_time_unix_ns + round(recording.samples_count / recording.sample_rate_hz * 1e9)


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
        signal_strength_db=row.signal_strength_db,
        frequency_offset_hz=row.frequency_offset_hz,
    )
