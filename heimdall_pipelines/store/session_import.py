"""Sessions in the database during an import, until it is completed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.known_sources import known_source_id
from heimdall_pipelines.store.reading import Reading
from heimdall_pipelines.store.session_slugs import NewSession, insert_with_slug
from heimdall_pipelines.store.sessions import SessionBeingDeletedError, SessionIdentity


class ImportInProgressError(HeimdallError):
    """The same content is being imported by another process."""


@dataclass(frozen=True)
class ImportedSession(NewSession):
    """A session before its IQ is stored."""

    content_sha256: str


def begin_import(database: Database, imported: ImportedSession) -> tuple[SessionIdentity, bool]:
    """Open a session for an import, or find the one that the same content was imported into.

    Returns
    -------
    session, is_completed : SessionIdentity, bool
        ``is_completed`` is true if the same content is stored already. A session that a killed import
        left in progress is reused with its id and slug, so that its objects are overwritten.

    Raises
    ------
    StationError
        The source is not known.
    SessionBeingDeletedError
        The same content is in a session that is being deleted.
    """
    with database.transaction() as connection:
        source_id = known_source_id(connection, imported.known_source)

        def insert(slug: str) -> Row[Any] | None:
            # After a conflict, the next attempt finds the content, or tries the next number of the slug.
            return connection.execute(
                text(
                    "WITH known AS (SELECT id, slug, status, deletion_began_at FROM heimdall.recording_sessions"
                    " WHERE content_sha256 = :content_sha256), added AS (INSERT INTO heimdall.recording_sessions"
                    " (slug, name, status, frequency_hz, bandwidth_hz, known_source_id, content_sha256)"
                    " SELECT :slug, :name, 'in_progress', :frequency_hz, :bandwidth_hz, :source_id, :content_sha256"
                    " WHERE NOT EXISTS (SELECT FROM known) ON CONFLICT DO NOTHING"
                    " RETURNING id, slug, status, deletion_began_at)"
                    " SELECT * FROM known UNION ALL SELECT * FROM added"
                ),
                vars(imported) | {"slug": slug, "source_id": source_id},
            ).first()

        row = insert_with_slug(connection, imported.wanted_slug, insert)
        if row.deletion_began_at is not None:
            raise SessionBeingDeletedError(row.slug)
    return SessionIdentity(row.id, row.slug), row.status == "completed"


@contextmanager
def import_lock(database: Database, content_sha256: str) -> Iterator[None]:
    """Hold an exclusive lock on importing this content; it is released if the process dies.

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
            raise ImportInProgressError("another process is importing these files; wait until it ends")
        yield


def sessions_holding(database: Reading, sha256: Sequence[str], *, other_than_content: str) -> dict[str, str]:
    """Which of these objects (by digest) belong to a completed session of other content: {sha256: slug}."""
    rows = database.read(
        "SELECT m.sha256, s.slug FROM heimdall.measurements m"
        " JOIN heimdall.recording_sessions s ON s.id = m.recording_session_id AND s.status = 'completed'"
        " WHERE m.sha256 = ANY(%(sha256)s) AND s.content_sha256 IS DISTINCT FROM %(content)s",
        {"sha256": list(sha256), "content": other_than_content},
    )
    return {row.sha256: row.slug for row in rows}


def may_hold_npy(database: Reading, lengths: Sequence[int]) -> bool:
    """Whether recordings of these numbers of samples may be stored, also in part, as ``.npy`` of older versions."""
    (row,) = database.read(
        "SELECT EXISTS (SELECT FROM heimdall.measurements"
        " WHERE iq_data_format = 'npy' AND samples_count = ANY(%(lengths)s))"
        " OR EXISTS (SELECT FROM heimdall.recording_sessions"
        " WHERE status = 'in_progress' AND content_sha256 IS NOT NULL) AS may_hold",
        {"lengths": list(lengths)},
    )
    return bool(row.may_hold)


def has_content(database: Reading, content_sha256: str) -> bool:
    """Whether a session of this content exists, completed or not."""
    return bool(
        database.read(
            "SELECT 1 FROM heimdall.recording_sessions WHERE content_sha256 = %(content)s", {"content": content_sha256}
        )
    )


def discard_session(database: Database, session_id: UUID) -> None:
    """Delete a session that was never completed, with its rows, unless its deletion has begun."""
    with database.transaction() as connection:
        connection.execute(
            text(
                "DELETE FROM heimdall.recording_sessions"
                " WHERE id = :id AND status <> 'completed' AND deletion_began_at IS NULL"
            ),
            {"id": session_id},
        )
