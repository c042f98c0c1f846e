"""A session's health as a validation stores it, and the size of its rows."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.row_sizes import row_bytes
from heimdall_pipelines.store.sessions import (
    RecordingSession,
    SessionBeingDeletedError,
    SessionChangedError,
    SessionNotFoundError,
)


def session_row_bytes(connection: Connection, session_id: UUID) -> int:
    """Bytes that the rows of a session take: its own, those of its measurements, features and positions."""
    parts = dict.fromkeys(("measurements", "measurement_features", "positions"), "recording_session_id")
    return row_bytes(connection, parts | {"recording_sessions": "id"}, session_id)


def record_health(
    database: Database,
    session: RecordingSession,
    *,
    health_status: str,
    issues: Sequence[dict[str, Any]],
    storage_size_bytes: int,
) -> datetime:
    """Store the result of a validation with the session.

    Returns
    -------
    datetime
        Time of the validation, by the database's clock.

    Raises
    ------
    SessionNotFoundError, SessionBeingDeletedError
        The session was deleted meanwhile, or its deletion has begun. Nothing was stored.
    SessionChangedError
        The checked revision is no longer the current one. Nothing was stored.
    """
    with database.transaction() as connection:
        validated_at = connection.execute(
            text(
                "UPDATE heimdall.recording_sessions SET health_status = :health_status, validation_issues = :issues,"
                " last_validated_at = clock_timestamp(), storage_size_bytes = :storage_size_bytes"
                " WHERE id = :id AND status = :status AND revision = :revision"
                # One that was set by hand does not keep a session from being checked.
                " AND (deletion_began_at IS NULL OR deletion_began_at = :deletion_began_at)"
                " RETURNING last_validated_at"
            ),
            {
                "id": session.id,
                "revision": session.revision,
                "status": session.status,
                "deletion_began_at": session.deletion_began_at,
                "health_status": health_status,
                "issues": json.dumps(list(issues), allow_nan=False),
                "storage_size_bytes": storage_size_bytes,
            },
        ).scalar()
        if validated_at is not None:
            assert isinstance(validated_at, datetime)
            return validated_at
        now = connection.execute(
            text("SELECT status, revision, deletion_began_at FROM heimdall.recording_sessions WHERE id = :id"),
            {"id": session.id},
        ).first()
    if now is None:
        raise SessionNotFoundError(f"session {session.slug} was deleted while it was being validated")
    if now.deletion_began_at is not None:
        raise SessionBeingDeletedError(session.slug)
    raise SessionChangedError(
        f"session {session.slug} changed while revision {session.revision} was being validated "
        f"(now {now.status}, revision {now.revision}); validate it again"
    )
