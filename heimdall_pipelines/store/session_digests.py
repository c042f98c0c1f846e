"""Roots of sessions: over their measurements, their feature rows and their positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.store.changes import changing
from heimdall_pipelines.store.digest_rows import content_sql, read_digested, root_sql
from heimdall_pipelines.store.digests import Edit, edit_of
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

_OF_SESSION = "id = :session_id"
# What features depend on; other columns of a station and a source may be edited without a change of any session.
_PLACES = frozenset({"rx_id", "name", "latitude", "longitude", "altitude_m", "power_dbm"})
_ORDER = 'r.kind, r.number, r.place COLLATE "C"'
_ROWS = (
    f"SELECT {content_sql('m.digest')} AS content, 0 AS kind, m.start_time_unix_ns AS number,"
    " m.websdr_station_id::text AS place FROM heimdall.measurements m WHERE m.recording_session_id = :session_id"
    f" UNION ALL SELECT {content_sql('f.digest')}, 1, f.segment_idx, ''"
    " FROM heimdall.measurement_features f WHERE f.recording_session_id = :session_id"
)
_POSITIONS = (
    f" UNION ALL SELECT {content_sql('p.digest')}, 2, coalesce(p.segment_idx, -1), ''"
    " FROM heimdall.positions p WHERE p.recording_session_id = :session_id"
)


@contextmanager
def sealing_session(connection: Connection, session_id: UUID, *, reason: str | None = None) -> Iterator[None]:
    """Change a session's row, or rows of it, inside the block; at its end it has its root and digest.

    The change is noted if there is a reason. A session that was never completed has neither root nor digest.
    """
    values = {"session_id": session_id}
    with changing(connection, "recording_sessions", _OF_SESSION, values, reason=reason):
        yield
        write_session_root(connection, session_id)


def write_session_root(connection: Connection, session_id: UUID) -> None:
    """Write the root over a session's measurements, by time and station, feature rows and positions, by segment."""
    connection.execute(
        text(f"UPDATE heimdall.recording_sessions SET root = ({_root_sql(connection)}) WHERE {_OF_SESSION}"),
        {"session_id": session_id},
    )


def session_root_now(connection: Connection, session_id: UUID) -> bytes:
    """The root of a session as the digests of its rows give it now."""
    return bytes(connection.execute(text(_root_sql(connection)), {"session_id": session_id}).scalar_one())


def _root_sql(connection: Connection) -> str:
    """SQL of a session's root; a migration of before positions existed has none, and the same root."""
    has_positions = connection.execute(text("SELECT to_regclass('heimdall.positions') IS NOT NULL")).scalar_one()
    return f"SELECT {root_sql('r.content', _ORDER)} FROM ({_ROWS}{_POSITIONS if has_positions else ''}) AS r"


@dataclass(frozen=True)
class SessionEdits:
    """How a session's rows, but those of its features, differ from what was committed.

    Attributes
    ----------
    session : Edit or None
        Of the session's own row.
    measurements : dict of str to Edit
        By rx_id.
    places : tuple of str
        Stations and source whose row was edited, in words.
    root_agrees : bool
        Whether the root is that of the rows that are there.
    num_measurements : int
    digests_since : datetime or None
        Since when digests vouch for the rows that existed then; None: from the first row on.
    """

    session: Edit | None
    measurements: dict[str, Edit]
    places: tuple[str, ...]
    root_agrees: bool
    num_measurements: int
    digests_since: datetime | None

    def problems(self) -> Iterator[str]:
        """What is not as committed, in words."""
        if self.session is not None:
            yield f"session: {self.session}"
        for rx_id, edit in self.measurements.items():
            yield f"measurement of {rx_id}: {edit}"
        yield from self.places
        if not self.root_agrees:
            yield "session: its root is not that of its rows: a measurement or segment was added, removed or replaced"


def session_edits(connection: Connection, session_id: UUID) -> SessionEdits:
    """Compare a session's row, measurements, stations and source with their digests."""
    values = {"session_id": session_id}
    (session,) = read_digested(connection, "recording_sessions", _OF_SESSION, values)
    rx_ids = {
        row.id: row.rx_id
        for row in connection.execute(
            text(
                "SELECT id, rx_id FROM heimdall.websdr_stations WHERE id IN (SELECT websdr_station_id"
                " FROM heimdall.measurements WHERE recording_session_id = :session_id)"
            ),
            values,
        )
    }
    num = 0
    measurements = {}
    for row in read_digested(connection, "measurements", "recording_session_id = :session_id", values):
        num += 1
        edit = edit_of("measurements", row, row["digest"])
        if edit is not None:
            station = row["websdr_station_id"]  # may have been edited to one that does not exist
            measurements[rx_ids.get(station, f"station {station}")] = edit
    root = session["root"]
    since = connection.execute(
        text(f"SELECT digests_since FROM heimdall.recording_sessions WHERE {_OF_SESSION}"), values
    ).scalar_one()
    return SessionEdits(
        session=edit_of("recording_sessions", session, session["digest"]),
        measurements=measurements,
        places=(
            *_places(connection, "websdr_stations", "rx_id", list(rx_ids)),
            *_places(connection, "known_sources", "name", [session["known_source_id"]]),
        ),
        root_agrees=root is not None and bytes(root) == session_root_now(connection, session_id),
        num_measurements=num,
        digests_since=since,
    )


def is_edited(connection: Connection, session_id: UUID, columns: Iterable[str]) -> bool:
    """Whether any of these columns of a session's row was edited by hand."""
    (session,) = read_digested(connection, "recording_sessions", _OF_SESSION, {"session_id": session_id})
    edit = edit_of("recording_sessions", session, session["digest"])
    return edit is not None and not frozenset(columns).isdisjoint(edit.columns)


def _places(connection: Connection, table: str, name: str, ids: list[UUID | None]) -> Iterator[str]:
    for row in read_digested(connection, table, "id = ANY(CAST(:ids AS uuid[]))", {"ids": [str(x) for x in ids if x]}):
        edit = edit_of(table, row, row["digest"])
        if edit is None:
            continue
        columns = tuple(column for column in edit.columns if column in _PLACES)
        if columns or not edit.has_digest:
            yield f"{'station' if name == 'rx_id' else 'source'} {row[name]}: {Edit(columns, edit.has_digest)}"
