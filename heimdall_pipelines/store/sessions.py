"""Rows of recording_sessions, as they are read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.session_revisions import IS_COMPLETED_SQL
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.known_sources import KnownSource
    from heimdall_pipelines.store.reading import Reading

SessionKey = UUID | str  # a session's id, or its slug


class SessionNotFoundError(HeimdallError):
    """No session has this slug or id."""


class SessionBeingDeletedError(HeimdallError):
    """The session's deletion has begun: it can only be finished."""

    def __init__(self, key: SessionKey) -> None:
        super().__init__(f"session {key} is being deleted; finish it with: heimdall session delete {key}")


class SessionChangedError(HeimdallError):
    """The session was completed again, corrected or reopened while it was being validated or corrected."""


@dataclass(frozen=True)
class SessionIdentity:
    """Identifiers of a session: the id in rows and objects, the slug for people."""

    id: UUID
    slug: str


@dataclass(frozen=True)
class RecordingSession(SessionIdentity):
    """One recording by several stations at the same time.

    Health, its time and the size are those of the last validation (``unknown`` and None before the first).
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
class LockedSession:
    """A session whose row is locked, and whose deletion has not begun."""

    slug: str
    status: str
    revision: int


@dataclass(frozen=True)
class SessionOverview(SessionIdentity):
    """A session in a list."""

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


_SESSION_COLUMNS = ", ".join(f"s.{field.name}" for field in fields(RecordingSession) if field.name != "known_source")
_OVERVIEW_COLUMNS = ", ".join(
    f"s.{field.name}" for field in fields(SessionOverview) if not field.name.startswith("num_")
)


def get_session(database: Database, key: SessionKey) -> RecordingSession:
    """One session, by its slug or id.

    Raises
    ------
    SessionNotFoundError
        No session has this slug or id.
    """
    with database.transaction() as connection:
        return read_session(connection, key)


def read_session(connection: Connection, key: SessionKey) -> RecordingSession:
    """One session, within a transaction or snapshot; raises as `get_session`."""
    from heimdall_pipelines.store.known_sources import SOURCE_COLUMNS, KnownSource
    from heimdall_pipelines.store.session_slugs import as_uuid

    source_columns = ", ".join(f"k.{column} AS source_{column}" for column in SOURCE_COLUMNS)
    row = connection.execute(
        text(
            f"SELECT {_SESSION_COLUMNS}, {source_columns} FROM heimdall.recording_sessions s"
            " LEFT JOIN heimdall.known_sources k ON k.id = s.known_source_id"
            " WHERE s.id = :id OR s.slug = :slug"
        ),
        {"id": as_uuid(key), "slug": str(key)},
    ).first()
    if row is None:
        raise SessionNotFoundError(f"no session {key}; see: heimdall session list")
    values = dict(row._mapping)
    source = {column: values.pop(f"source_{column}") for column in SOURCE_COLUMNS}
    return RecordingSession(known_source=None if source["name"] is None else KnownSource(**source), **values)


def lock_session(connection: Connection, session_id: UUID, name: str, doing: str) -> LockedSession:
    """Lock a session's row until the transaction ends: what it is now stays so.

    Parameters
    ----------
    connection : Connection
    session_id : UUID
    name : str
        What the error calls the session if its row is gone.
    doing : str
        What its deletion would interrupt, for the error: "extracted".

    Raises
    ------
    SessionNotFoundError, SessionBeingDeletedError
        It was deleted meanwhile, or its deletion has begun.
    """
    row = connection.execute(
        text(
            "SELECT slug, status, revision, deletion_began_at FROM heimdall.recording_sessions WHERE id = :id"
            " FOR UPDATE"
        ),
        {"id": session_id},
    ).first()
    if row is None:
        raise SessionNotFoundError(f"session {name} was deleted while it was being {doing}")
    if row.deletion_began_at is not None:
        raise SessionBeingDeletedError(row.slug)
    return LockedSession(row.slug, row.status, row.revision)


def list_sessions(database: Reading, limit: int = 100) -> list[SessionOverview]:
    """Sessions with counts of the segments of their current revision, newest first."""
    rows = database.read(
        f"SELECT {_OVERVIEW_COLUMNS},"
        " (SELECT count(*) FROM heimdall.measurements m WHERE m.recording_session_id = s.id) AS num_stations,"
        " count(f.id) AS num_segments,"
        " count(f.id) FILTER (WHERE f.extraction_failed) AS num_failed_segments"
        " FROM heimdall.recording_sessions s LEFT JOIN heimdall.measurement_features f"
        " ON f.recording_session_id = s.id AND f.session_revision = s.revision"
        " GROUP BY s.id ORDER BY s.created_at DESC LIMIT %(limit)s",
        {"limit": limit},
    )
    return [SessionOverview(**row._asdict()) for row in rows]


def completed_sessions(database: Database) -> list[SessionIdentity]:
    """Sessions that can be validated (completed and not being deleted), oldest completion first.

    One that is neither only since its row was edited by hand counts, too.
    """
    from heimdall_pipelines.store.session_digests import is_edited

    with database.transaction() as connection:
        rows = connection.execute(
            text(
                f"SELECT s.id, s.slug, {IS_COMPLETED_SQL} AS is_complete"
                " FROM heimdall.recording_sessions s WHERE status = 'completed' OR digest IS NOT NULL"
                " ORDER BY completed_at, id"
            )
        ).all()
        return [
            SessionIdentity(row.id, row.slug)
            for row in rows
            if row.is_complete or is_edited(connection, row.id, ("status", "deletion_began_at"))
        ]
