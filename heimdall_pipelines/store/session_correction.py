"""Corrects the metadata of a completed session: a new revision, in one transaction."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.measurements import StationRecording, replace_measurements
from heimdall_pipelines.store.session_completion import COMPLETION_SQL, completion_values
from heimdall_pipelines.store.session_digests import sealing_session
from heimdall_pipelines.store.sessions import SessionChangedError, lock_session


def replace_metadata(
    database: Database,
    session_id: UUID,
    recordings: Sequence[StationRecording],
    *,
    of_revision: int,
    frequency_hz: float,
    bandwidth_hz: float,
    content_sha256: str,
) -> int:
    """Replace the measurements of a completed session, its frequency and its channel; counts its revision up.

    Its features are those of the revision before until they are extracted again.

    Parameters
    ----------
    database : Database
    session_id : UUID
    recordings : sequence of StationRecording
        All of its stations.
    of_revision : int
        The revision that was corrected.
    frequency_hz, bandwidth_hz : float
    content_sha256 : str
        Digest by which an import finds the session; live recordings have none and get none.

    Returns
    -------
    int
        The new revision.

    Raises
    ------
    SessionNotFoundError, SessionBeingDeletedError, SessionChangedError
        It was deleted or corrected meanwhile, or another session holds the same content.
    """
    with database.transaction() as connection:
        locked = lock_session(connection, session_id, str(session_id), "corrected")
        if locked.status != "completed" or locked.revision != of_revision:
            raise SessionChangedError(f"session {locked.slug} was changed while it was being corrected: try again")
        other = connection.execute(
            text(
                "SELECT slug FROM heimdall.recording_sessions"
                " WHERE content_sha256 = CAST(:content AS text) AND id <> :id"
            ),
            {"content": content_sha256, "id": session_id},
        ).first()
        if other is not None:
            raise SessionChangedError(f"session {other.slug} holds the same recordings with these times already")
        with sealing_session(connection, session_id, reason="its metadata were corrected"):
            replace_measurements(connection, session_id, recordings)
            # The trigger counts the revision when a session becomes completed.
            connection.execute(
                text("UPDATE heimdall.recording_sessions SET status = 'in_progress' WHERE id = :id"), {"id": session_id}
            )
            revision = connection.execute(
                text(
                    f"UPDATE heimdall.recording_sessions SET {COMPLETION_SQL},"
                    " frequency_hz = :frequency_hz, bandwidth_hz = :bandwidth_hz,"
                    " content_sha256 = CASE WHEN content_sha256 IS NOT NULL THEN CAST(:content AS text) END"
                    " WHERE id = :id RETURNING revision"
                ),
                completion_values(recordings)
                | {
                    "id": session_id,
                    "frequency_hz": frequency_hz,
                    "bandwidth_hz": bandwidth_hz,
                    "content": content_sha256,
                },
            ).scalar_one()
        return int(revision)
