"""Completes a session, imported or recorded: its measurements and its row in one transaction."""

import json
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.digest_rows import seal_rows
from heimdall_pipelines.store.measurements import StationRecording, replace_measurements
from heimdall_pipelines.store.session_digests import write_session_root
from heimdall_pipelines.store.sessions import lock_session
from heimdall_pipelines.store.sql import time_sql
from heimdall_pipelines.store.stations import add_missing_stations

COMPLETION_SQL = (  # columns of recording_sessions that a completion sets
    "status = 'completed', duration_s = :duration_s,"
    f" start_time = {time_sql('CAST(:start_ns AS bigint) / 1000')},"
    f" end_time = {time_sql('CAST(:end_ns AS bigint) / 1000')}"
)


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
        revision = connection.execute(
            text(
                f"UPDATE heimdall.recording_sessions SET {COMPLETION_SQL},"
                " bandwidth_hz = COALESCE(:bandwidth_hz, bandwidth_hz), error_message = :error_message,"
                " recording_deadline_at = NULL WHERE id = :id RETURNING revision"
            ),
            completion_values(recordings)
            | {
                "id": session_id,
                "bandwidth_hz": bandwidth_hz,
                "error_message": error_message,
            },
        ).scalar_one()
        _write_positions(connection, session_id)
        write_session_root(connection, session_id)
        seal_rows(connection, "recording_sessions", "id = :id", {"id": session_id})
        return int(revision)


def completion_values(recordings: Sequence[StationRecording]) -> dict[str, float]:
    """Values for `COMPLETION_SQL`: from the first sample of any station to the end of the last one."""
    recorded = [recording for recording in recordings if recording.samples_count]
    start_ns = min(recording.start_time_unix_ns for recording in recorded)
    end_ns = max(
        recording.start_time_unix_ns + round(recording.samples_count / recording.sample_rate_hz * 1e9)
        for recording in recorded
    )
    return {"start_ns": start_ns, "end_ns": end_ns, "duration_s": (end_ns - start_ns) / 1e9}


def _write_positions(connection: Connection, session_id: UUID) -> None:
    """Write the positions of a session's stations and source as they are now."""
    stations = connection.execute(
        text(
            "SELECT w.rx_id, w.latitude, w.longitude, w.altitude_m FROM heimdall.websdr_stations w"
            " WHERE w.id IN (SELECT websdr_station_id FROM heimdall.measurements WHERE recording_session_id = :id)"
            " ORDER BY w.rx_id"
        ),
        {"id": session_id},
    ).all()
    source = connection.execute(
        text(
            "SELECT k.name, k.latitude, k.longitude, k.altitude_m FROM heimdall.known_sources k"
            " JOIN heimdall.recording_sessions s ON s.known_source_id = k.id WHERE s.id = :id"
        ),
        {"id": session_id},
    ).first()
    positions = {
        "stations": {row.rx_id: [row.latitude, row.longitude, row.altitude_m] for row in stations},
        "source": None if source is None else [source.latitude, source.longitude, source.altitude_m],
    }
    connection.execute(
        text("UPDATE heimdall.recording_sessions SET positions = CAST(:positions AS jsonb) WHERE id = :id"),
        {"id": session_id, "positions": json.dumps(positions)},
    )
