"""Sessions during recording: open, heartbeat, close as failed, find abandoned ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from heimdall_pipelines.store.known_sources import known_source_id
from heimdall_pipelines.store.session_slugs import NewSession, insert_with_slug
from heimdall_pipelines.store.sessions import SessionIdentity
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Row

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading

# An import has no deadline: importing the same files again continues it.
_IS_RECORDING = "recording_deadline_at IS NOT NULL"
_IS_OPEN = f"status IN ('pending', 'in_progress') AND {_IS_RECORDING} AND deletion_began_at IS NULL"


@dataclass(frozen=True)
class RecordedSession(NewSession):
    """A session before it is recorded."""

    deadline_in_s: float


@dataclass(frozen=True)
class AbandonedSession(SessionIdentity):
    """A session whose recorder died; ``error_message`` is the reason for closing it."""

    name: str
    error_message: str


def open_recording_session(database: Database, session: RecordedSession) -> SessionIdentity:
    """Add a pending session.

    Raises
    ------
    StationError
        The source is unknown.
    """
    with database.transaction() as connection:
        source_id = known_source_id(connection, session.known_source)

        def insert(slug: str) -> Row[Any] | None:
            return connection.execute(
                text(
                    "INSERT INTO heimdall.recording_sessions (slug, name, status, frequency_hz, bandwidth_hz,"
                    " known_source_id, recording_deadline_at, recorder_seen_at) VALUES (:slug, :name, 'pending',"
                    " :frequency_hz, :bandwidth_hz, :source_id,"
                    " clock_timestamp() + :deadline_in_s * INTERVAL '1 second', clock_timestamp())"
                    " ON CONFLICT (slug) DO NOTHING RETURNING id, slug"
                ),
                vars(session) | {"slug": slug, "source_id": source_id},
            ).first()

        added = insert_with_slug(connection, session.wanted_slug, insert)
    return SessionIdentity(added.id, added.slug)


def start_recording_session(database: Database, session_id: UUID) -> bool:
    """Set a pending session in progress; False if it was closed or is being deleted."""
    return _change_open(database, session_id, "status = 'in_progress', recorder_seen_at = clock_timestamp()")


def note_recorder_heartbeat(database: Database, session_id: UUID) -> bool:
    """Write a heartbeat; False if the session was closed or deleted, or is being deleted."""
    return _change_open(database, session_id, "recorder_seen_at = clock_timestamp()")


def fail_recording_session(database: Database, session_id: UUID, reason: str) -> bool:
    """Close a session as failed; False if it was completed, closed or deleted before. Its objects stay for now."""
    return _change_open(database, session_id, "status = 'failed', error_message = :reason", reason=reason)


def note_recording_removed(database: Database, session_id: UUID) -> None:
    """Note that all objects of a failed session are removed."""
    with database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE heimdall.recording_sessions SET recording_deadline_at = NULL"
                " WHERE id = :id AND status = 'failed'"
            ),
            {"id": session_id},
        )


def abandoned_sessions(database: Reading, silent_for_s: float) -> list[AbandonedSession]:
    """Sessions whose recorder died, and failed ones whose objects are still to be removed; oldest first.

    Parameters
    ----------
    database : Reading
    silent_for_s : float
        Time without a heartbeat after which a recorder counts as dead.
    """
    rows = database.read(
        "SELECT id, slug, name, status, error_message, recording_deadline_at < clock_timestamp() AS is_late,"
        " EXTRACT(EPOCH FROM clock_timestamp() - recorder_seen_at) AS silent_s"
        f" FROM heimdall.recording_sessions WHERE {_IS_RECORDING} AND deletion_began_at IS NULL"
        " AND status <> 'completed' AND (recording_deadline_at < clock_timestamp()"
        " OR recorder_seen_at < clock_timestamp() - %(silent_for_s)s * INTERVAL '1 second')"
        " ORDER BY created_at, id",
        {"silent_for_s": silent_for_s},
    )
    return [
        AbandonedSession(
            row.id,
            row.slug,
            row.name,
            row.error_message
            or f"abandoned: no heartbeat of its recorder for {row.silent_s:.0f} s"
            + (", and its deadline has passed" if row.is_late else ""),
        )
        for row in rows
    ]


def _change_open(database: Database, session_id: UUID, change: str, **values: object) -> bool:
    """Change a session that is pending or being recorded; False for any other."""
    with database.transaction() as connection:
        changed = connection.execute(
            text(f"UPDATE heimdall.recording_sessions SET {change} WHERE id = :id AND {_IS_OPEN} RETURNING 1"),
            {"id": session_id, **values},
        ).first()
    return changed is not None
