"""The deletion of a session in the database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from heimdall_pipelines.store.changes import changing
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.reading import Reading
from heimdall_pipelines.store.sessions import SessionIdentity


@dataclass(frozen=True)
class SessionToDelete:
    """A session as its deletion needs it.

    Attributes
    ----------
    slug, name : str
    content_sha256 : str or None
        Of its files if it was imported: the key of the import lock.
    num_stations, num_segments : int
        Rows of measurements and of measurement_features.
    locations : tuple of ObjectLocation
        Objects that its measurements name.
    """

    slug: str
    name: str
    content_sha256: str | None
    num_stations: int
    num_segments: int
    locations: tuple[ObjectLocation, ...]


def find_session_to_delete(database: Database, session_id: UUID) -> SessionToDelete | None:
    """Find the rows of a session; None if it has no row."""
    with database.transaction() as connection:
        row = connection.execute(
            text(
                "SELECT s.slug, s.name, s.content_sha256, (SELECT count(*) FROM heimdall.measurement_features f"
                " WHERE f.recording_session_id = s.id) AS num_segments"
                " FROM heimdall.recording_sessions s WHERE s.id = :id"
            ),
            {"id": session_id},
        ).first()
        if row is None:
            return None
        named = (
            connection.execute(
                text("SELECT iq_data_location FROM heimdall.measurements WHERE recording_session_id = :id"),
                {"id": session_id},
            )
            .scalars()
            .all()
        )
        return SessionToDelete(row.slug, row.name, row.content_sha256, len(named), row.num_segments, _locations(named))


def expired_sessions(database: Reading, retention_days: int) -> list[SessionIdentity]:
    """Sessions completed more than `retention_days` ago, oldest first; includes those whose deletion was interrupted.

    This is not the age of the recording: an old recording that was just imported stays.
    """
    rows = database.read(
        "SELECT id, slug FROM heimdall.recording_sessions WHERE status = 'completed'"
        " AND completed_at < now() - make_interval(days => %(days)s) ORDER BY completed_at, id",
        {"days": retention_days},
    )
    return [SessionIdentity(row.id, row.slug) for row in rows]


def begin_deletion(database: Database, session_id: UUID) -> None:
    """Mark a session: from now on it is not due, and cannot be extracted, validated, imported or completed."""
    of_session = {"id": session_id}
    with (
        database.transaction() as connection,
        changing(connection, "recording_sessions", "id = :id", of_session, reason="its deletion began"),
    ):
        connection.execute(
            text(
                "UPDATE heimdall.recording_sessions SET deletion_began_at = clock_timestamp()"
                " WHERE id = :id AND deletion_began_at IS NULL"
            ),
            of_session,
        )


def named_by_other_sessions(
    database: Reading, session_id: UUID, locations: Sequence[ObjectLocation], below: ObjectLocation
) -> set[ObjectLocation]:
    """Which of these objects, and of those below a prefix, other sessions name; sessions being deleted do not count."""
    rows = database.read(
        "SELECT DISTINCT m.iq_data_location FROM heimdall.measurements m"
        " JOIN heimdall.recording_sessions s ON s.id = m.recording_session_id"
        " WHERE s.id <> %(id)s AND s.deletion_began_at IS NULL"
        " AND (m.iq_data_location = ANY(%(named)s) OR starts_with(m.iq_data_location, %(below)s))",
        {"id": session_id, "named": [str(location) for location in locations], "below": str(below)},
    )
    return set(_locations(row.iq_data_location for row in rows))


def delete_session_rows(database: Database, session_id: UUID) -> None:
    """Delete a session with its measurements and features; waits for an extraction that is writing them."""
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM heimdall.recording_sessions WHERE id = :id"), {"id": session_id})


def _locations(texts: Iterable[str | None]) -> tuple[ObjectLocation, ...]:
    """Objects that measurements name; a malformed name has nothing to keep or to remove."""
    return tuple(filter(None, map(ObjectLocation.readable, texts)))
