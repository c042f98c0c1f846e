"""Rows of recording_sessions, as they are read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading
    from heimdall_pipelines.store.stations import KnownSource

SessionKey = UUID | str  # a session's id, or its slug


class SessionNotFoundError(HeimdallError):
    """No session has this slug or id."""


class SessionBeingDeletedError(HeimdallError):
    """The session's deletion has begun: nothing else is done with it any more."""

    def __init__(self, key: SessionKey) -> None:
        super().__init__(f"session {key} is being deleted; finish it with: heimdall session delete {key}")


@dataclass(frozen=True)
class SessionIdentity:
    """How a session is called: by its id in rows and objects, by its slug wherever a person sees it."""

    id: UUID
    slug: str


@dataclass(frozen=True)
class RecordingSession(SessionIdentity):
    """One recording by several stations at the same time.

    Health, its time and the bytes are those of the last validation (``unknown`` and None before the first).
    """

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
class SessionOverview(SessionIdentity):
    """A session as a list shows it."""

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


def get_session(database: Database, key: SessionKey) -> RecordingSession:
    """One session, by its slug or id.

    Raises
    ------
    SessionNotFoundError
        No session has it.
    """
    with database.transaction() as connection:
        return read_session(connection, key)


def read_session(connection: Connection, key: SessionKey) -> RecordingSession:
    """One session, within a transaction or snapshot; raises as `get_session`."""
    from heimdall_pipelines.store.session_slugs import as_uuid
    from heimdall_pipelines.store.stations import KnownSource

    row = connection.execute(
        text(
            "SELECT s.id, s.slug, s.name, s.status, s.frequency_hz, s.bandwidth_hz, s.start_time, s.duration_s,"
            " s.revision, s.error_message, s.health_status, s.last_validated_at, s.storage_size_bytes,"
            " s.deletion_began_at, k.name AS source_name, k.frequency_hz AS source_frequency_hz,"
            " k.latitude, k.longitude, k.altitude_m, k.power_dbm"
            " FROM heimdall.recording_sessions s LEFT JOIN heimdall.known_sources k ON k.id = s.known_source_id"
            " WHERE s.id = :id OR s.slug = :slug"
        ),
        {"id": as_uuid(key), "slug": str(key)},
    ).first()
    if row is None:
        raise SessionNotFoundError(f"no session {key}; see: heimdall session list")
    source = None
    if row.source_name is not None:
        source = KnownSource(
            row.source_name, row.source_frequency_hz, row.latitude, row.longitude, row.altitude_m, row.power_dbm
        )
    return RecordingSession(
        id=row.id,
        slug=row.slug,
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


def list_sessions(database: Reading, limit: int = 100) -> list[SessionOverview]:
    """Sessions with what was extracted from their current revision, newest first."""
    rows = database.read(
        "SELECT s.id, s.slug, s.name, s.status, s.frequency_hz, s.start_time, s.duration_s, s.revision,"
        " (SELECT count(*) FROM heimdall.measurements m WHERE m.recording_session_id = s.id) AS num_stations,"
        " count(f.id) AS num_segments,"
        " count(f.id) FILTER (WHERE f.extraction_failed) AS num_failed_segments,"
        " s.health_status, s.last_validated_at, s.deletion_began_at"
        " FROM heimdall.recording_sessions s LEFT JOIN heimdall.measurement_features f"
        " ON f.recording_session_id = s.id AND f.session_revision = s.revision"
        " GROUP BY s.id ORDER BY s.created_at DESC LIMIT %(limit)s",
        {"limit": limit},
    )
    return [SessionOverview(**row._asdict()) for row in rows]


def completed_sessions(database: Database) -> list[SessionIdentity]:
    """Sessions that can be validated, oldest completion first: completed, and not being deleted."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT id, slug FROM heimdall.recording_sessions WHERE status = 'completed'"
                " AND deletion_began_at IS NULL ORDER BY completed_at, id"
            )
        )
        return [SessionIdentity(row.id, row.slug) for row in rows]
