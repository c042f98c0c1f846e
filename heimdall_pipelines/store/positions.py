"""Rows of positions: of a whole session and of its segments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from heimdall_pipelines.model.json_numbers import is_number
from heimdall_pipelines.model.position import MeasuredDifference, StoredPosition
from heimdall_pipelines.store.columns import listed, typed
from heimdall_pipelines.store.digest_rows import digested_columns, seal_rows
from heimdall_pipelines.store.digests import Edit, edit_of
from heimdall_pipelines.store.session_results import replacing_rows
from heimdall_pipelines.store.session_revisions import IS_COMPLETED_SQL
from heimdall_pipelines.store.sql import text
from heimdall_pipelines.store.table_columns import table_columns

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading
    from heimdall_pipelines.store.session_revisions import SessionRevision

_COLUMNS = {
    column.name: column.type for column in table_columns("positions") if column.name not in ("created_at", "digest")
}
_ROWS_AT_ONCE = 500
_PLAIN = [field.name for field in fields(StoredPosition) if field.name not in ("stations_used", "time_differences")]


@dataclass(frozen=True)
class PositionRow:
    """A row as stored, for checks.

    Attributes
    ----------
    position : StoredPosition or None
        None where its JSON is malformed.
    segment_idx, session_revision : int
        ``segment_idx`` is None for the whole session.
    edit : Edit or None
        None where the row is as it was committed.
    """

    position: StoredPosition | None
    segment_idx: int | None
    session_revision: int
    edit: Edit | None

    def __str__(self) -> str:
        return "position" if self.segment_idx is None else f"position of segment {self.segment_idx}"


@dataclass(frozen=True)
class LocatedEmission:
    """Time differences of a session as a whole, as measured, and the delays that were subtracted to locate it.

    ``source`` is the position of its known source, None without one.
    """

    slug: str
    start_time: datetime
    differences: tuple[MeasuredDifference, ...]
    delays_us: dict[str, float]
    source: tuple[float, float] | None


def replace_positions(database: Database, target: SessionRevision, positions: Sequence[StoredPosition]) -> None:
    """Replace all positions of a session, with their digests, in one transaction; raises as `replacing_rows`."""
    with replacing_rows(
        database, target, "positions", doing="located", change="its transmitter was located again"
    ) as connection:
        for first in range(0, len(positions), _ROWS_AT_ONCE):
            _insert(connection, target, positions[first : first + _ROWS_AT_ONCE])
        seal_rows(connection, "positions", "recording_session_id = :id", {"id": target.session_id})


def read_position_rows(connection: Connection, session_id: UUID) -> Iterator[PositionRow]:
    """The rows of a session: first the whole session's, then by segment; streamed."""
    rows = connection.execute(
        text(
            f"SELECT {digested_columns('positions')}, digest FROM heimdall.positions"
            " WHERE recording_session_id = :id ORDER BY segment_idx NULLS FIRST"
        ),
        {"id": session_id},
        execution_options={"yield_per": 100},
    )
    for row in rows:
        values = dict(row._mapping)
        yield PositionRow(
            _position(values),
            values["segment_idx"],
            values["session_revision"],
            edit_of("positions", values, values["digest"]),
        )


def located_emissions(database: Reading, *, limit: int, but: UUID | None = None) -> list[LocatedEmission]:
    """Sessions with time differences, newest first.

    Parameters
    ----------
    database : Reading
    limit : int
    but : UUID, optional
        A session to leave out.
    """
    rows = database.read(
        "SELECT s.slug, s.start_time, p.time_differences, p.station_delays_us,"
        " k.latitude AS source_latitude, k.longitude AS source_longitude FROM heimdall.positions p"
        " JOIN heimdall.recording_sessions s ON s.id = p.recording_session_id"
        " AND s.revision = p.session_revision LEFT JOIN heimdall.known_sources k ON k.id = s.known_source_id"
        f" WHERE p.segment_idx IS NULL AND {IS_COMPLETED_SQL}"
        " AND jsonb_array_length(p.time_differences) > 0 AND s.start_time IS NOT NULL"
        " AND s.id IS DISTINCT FROM %(but)s ORDER BY s.start_time DESC, s.id LIMIT %(limit)s",
        {"limit": limit, "but": but},
    )
    return [
        LocatedEmission(
            row.slug,
            row.start_time,
            differences,
            row.station_delays_us,
            None if row.source_latitude is None else (row.source_latitude, row.source_longitude),
        )
        for row in rows
        if (differences := _differences(row.time_differences)) is not None and _has_numbers(row.station_delays_us)
    ]


def _insert(connection: Connection, target: SessionRevision, positions: Sequence[StoredPosition]) -> None:
    rows = [
        position.to_json()
        | {
            # A repeated run makes the same rows, ids included.
            "id": str(uuid5(NAMESPACE_URL, f"heimdall:position:{target.run_key}:{position.segment_idx}")),
            "recording_session_id": str(target.session_id),
            "session_revision": target.revision,
        }
        for position in positions
    ]
    connection.execute(
        text(
            f"INSERT INTO heimdall.positions ({listed(_COLUMNS)}) SELECT {listed(_COLUMNS, 'r')}"
            f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r ({typed(_COLUMNS)})"
        ),
        {"rows": json.dumps(rows, allow_nan=False)},
    )


def _position(values: Mapping[str, Any]) -> StoredPosition | None:
    differences = _differences(values["time_differences"])
    used, residuals = values["stations_used"], values["residuals_us"]
    is_sound = (
        differences is not None
        and isinstance(used, list)
        and all(isinstance(rx_id, str) for rx_id in used)
        and _has_numbers(residuals)
        and _has_numbers(values["station_delays_us"])
        and isinstance(values["stations_left_out"], dict)
    )
    if not is_sound or differences is None:
        return None
    return StoredPosition(
        stations_used=tuple(used), time_differences=differences, **{name: values[name] for name in _PLAIN}
    )


def _has_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_number, value.values()))


def _differences(elements: Any) -> tuple[MeasuredDifference, ...] | None:
    try:
        return tuple(MeasuredDifference.from_json(element) for element in elements)
    except (ArithmeticError, KeyError, TypeError, ValueError):
        return None
