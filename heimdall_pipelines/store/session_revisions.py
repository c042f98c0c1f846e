"""Revisions of completed sessions, and which of them are due for extraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from heimdall_pipelines.store.database import Database

# Of sessions s.
IS_COMPLETED_SQL = "s.status = 'completed' AND s.deletion_began_at IS NULL"
_IS_DUE = (
    f"{IS_COMPLETED_SQL} AND NOT EXISTS (SELECT FROM heimdall.measurement_features f"
    " WHERE f.recording_session_id = s.id AND f.session_revision = s.revision)"
)
# Of sessions s, by completion: ends a WHERE and the query.
PAGE_SQL = (
    "(CAST(:after AS uuid) IS NULL OR (s.completed_at, s.id) >"
    " (SELECT q.completed_at, q.id FROM heimdall.recording_sessions q WHERE q.id = :after))"
    " ORDER BY s.completed_at, s.id LIMIT :limit"
)


@dataclass(frozen=True)
class SessionRevision:
    """One revision of a completed session, from which features are extracted."""

    session_id: UUID
    slug: str
    revision: int

    @property
    def run_key(self) -> str:
        """Key by which Dagster runs the extraction of this revision once; with the id, as before slugs existed."""
        return f"{self.session_id}:{self.revision}"


def page_values(limit: int, after: SessionRevision | None) -> dict[str, int | UUID | None]:
    """Values for `PAGE_SQL`: at most `limit` sessions, after this one."""
    return {"limit": limit, "after": after.session_id if after else None}


def due_for_extraction(
    database: Database, *, limit: int, after: SessionRevision | None = None
) -> list[SessionRevision]:
    """Completed sessions whose current revision has no features, oldest completion first.

    Parameters
    ----------
    database : Database
    limit : int
        Greatest number of sessions.
    after : SessionRevision, optional
        Continue after this one, the last of the previous page.
    """
    with database.transaction() as connection:
        rows = connection.execute(
            text(f"SELECT s.id, s.slug, s.revision FROM heimdall.recording_sessions s WHERE {_IS_DUE} AND {PAGE_SQL}"),
            page_values(limit, after),
        )
        return [SessionRevision(row.id, row.slug, row.revision) for row in rows]


def is_due_for_extraction(database: Database, session_id: UUID) -> bool:
    """Whether a session is completed and its current revision has no features."""
    with database.transaction() as connection:
        found = connection.execute(
            text(f"SELECT 1 FROM heimdall.recording_sessions s WHERE s.id = :id AND {_IS_DUE}"), {"id": session_id}
        ).first()
        return found is not None
