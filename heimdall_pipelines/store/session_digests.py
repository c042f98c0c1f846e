"""Roots of sessions: over their measurements and their feature rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.store.digest_rows import Resealing, content_sql, resealing, root_sql
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

_OF_SESSION = "id = :session_id"
_ORDER = 'r.kind, r.number, r.place COLLATE "C"'
_ROOT = (
    f"SELECT {root_sql('r.content', _ORDER)} FROM ("
    f"SELECT {content_sql('m.digest')} AS content, 0 AS kind, m.start_time_unix_ns AS number,"
    " m.websdr_station_id::text AS place FROM heimdall.measurements m WHERE m.recording_session_id = :session_id"
    f" UNION ALL SELECT {content_sql('f.digest')}, 1, f.segment_idx, ''"
    " FROM heimdall.measurement_features f WHERE f.recording_session_id = :session_id) AS r"
)


@contextmanager
def sealing_session(connection: Connection, session_id: UUID) -> Iterator[Resealing]:
    """Change a session's row, or rows of it, inside the block; at its end it has its root and digest.

    A session that was never completed has neither.
    """
    values = {"session_id": session_id}
    with resealing(connection, "recording_sessions", _OF_SESSION, values) as result:
        yield result
        write_session_root(connection, session_id)


def write_session_root(connection: Connection, session_id: UUID) -> None:
    """Write the root over a session's measurements, by time and station, and its feature rows, by segment."""
    connection.execute(
        text(f"UPDATE heimdall.recording_sessions SET root = ({_ROOT}) WHERE {_OF_SESSION}"),
        {"session_id": session_id},
    )


def session_root_now(connection: Connection, session_id: UUID) -> bytes:
    """The root of a session as the digests of its rows give it now."""
    return bytes(connection.execute(text(_ROOT), {"session_id": session_id}).scalar_one())


def write_positions(connection: Connection, session_id: UUID) -> None:
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
