"""Completes a session, imported or recorded: its measurements and its row in one transaction."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.digest_rows import seal_rows
from heimdall_pipelines.store.measurements import StationRecording, replace_measurements
from heimdall_pipelines.store.session_digests import write_positions, write_session_root
from heimdall_pipelines.store.sessions import lock_session
from heimdall_pipelines.store.sql import time_sql
from heimdall_pipelines.store.stations import add_missing_stations


class SessionClosedError(HeimdallError):
    """The session was closed as failed and can no longer be completed."""


def complete_session(
    database: Database,
    session_id: UUID,
    recordings: Sequence[StationRecording],
    *,
    bandwidth_hz: float | None = None,
    error_message: str | None = None,
) -> int:
    """Write a session's measurements and complete it, with their digests, in one transaction.

    Stations that do not exist yet are added. A session that another process completed meanwhile
    stays unchanged.

    Parameters
    ----------
    database : Database
    session_id : UUID
    recordings : sequence of StationRecording
        At least one of them has samples.
    bandwidth_hz : float, optional
        Of the channel, if it is better known than when the session was opened.
    error_message : str, optional
        What went wrong although some stations did record.

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
        locked = lock_session(connection, session_id, str(session_id), "completed")
        if locked.status == "completed":
            return locked.revision
        if locked.status == "failed":
            raise SessionClosedError(f"session {locked.slug} was closed as failed while it was being completed")
        add_missing_stations(connection, [recording.station for recording in recordings])
        replace_measurements(connection, session_id, recordings)
        recorded = [recording for recording in recordings if recording.samples_count]
        start_ns = min(recording.start_time_unix_ns for recording in recorded)
        end_ns = max(_end_unix_ns(recording) for recording in recorded)
        revision = connection.execute(
            text(
                "UPDATE heimdall.recording_sessions SET status = 'completed', duration_s = :duration_s,"
                f" start_time = {time_sql('CAST(:start_ns AS bigint) / 1000')},"
                f" end_time = {time_sql('CAST(:end_ns AS bigint) / 1000')},"
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
        write_positions(connection, session_id)
        write_session_root(connection, session_id)
        seal_rows(connection, "recording_sessions", "id = :id", {"id": session_id})
        return int(revision)


def _end_unix_ns(recording: StationRecording) -> int:
    return recording.start_time_unix_ns + round(recording.samples_count / recording.sample_rate_hz * 1e9)
