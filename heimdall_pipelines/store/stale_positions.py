"""Extracted sessions that have no positions of their revision, or positions of other delays or features than now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from heimdall_pipelines.model.position import METHOD
from heimdall_pipelines.store.positions import read_position_rows
from heimdall_pipelines.store.session_digests import session_edits
from heimdall_pipelines.store.session_revisions import IS_COMPLETED_SQL, PAGE_SQL, SessionRevision, page_values
from heimdall_pipelines.store.sql import text
from heimdall_pipelines.store.station_delays import holding

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database

_STATIONS = (  # whose time differences were measured
    "ARRAY(SELECT DISTINCT named.rx_id FROM jsonb_array_elements(CASE WHEN jsonb_typeof(p.time_differences) = 'array'"
    " THEN p.time_differences ELSE '[]' END) pair,"
    " LATERAL (VALUES (pair ->> 'rx_a'), (pair ->> 'rx_b')) named (rx_id))"
)
_STALE = (
    "SELECT s.id, s.slug, s.revision, p.id AS position_id, p.created_at, p.method, p.station_delays_us AS used,"
    " present.delays, p.created_at < e.extracted_at AS is_before_features"
    " FROM heimdall.session_extractions e"
    " JOIN heimdall.recording_sessions s ON s.id = e.recording_session_id AND s.revision = e.session_revision"
    " LEFT JOIN heimdall.positions p ON p.recording_session_id = s.id AND p.segment_idx IS NULL"
    " AND p.session_revision = s.revision"
    f" LEFT JOIN LATERAL (SELECT {_STATIONS} AS rx_ids) measured ON true"
    " LEFT JOIN LATERAL (SELECT coalesce(jsonb_object_agg(d.rx_id, d.delay_us), '{}') AS delays"
    " FROM heimdall.station_delays d"
    f" WHERE {holding('measured.rx_ids', 's.start_time')}) present ON true"
    f" WHERE {IS_COMPLETED_SQL}"
    " AND (p.id IS NULL OR p.station_delays_us <> present.delays OR p.created_at < e.extracted_at"
    " OR (CAST(:older AS boolean) AND p.method <> :method))"
)


@dataclass(frozen=True)
class StalePosition(SessionRevision):
    """An extracted session that is to be located, for the first time or again.

    Its run key names the stored position and the delays that hold now: Dagster locates it once for each state.

    Attributes
    ----------
    state : str
        Digest of both.
    changes : tuple of str
        Why, in words.
    edited : tuple of str
        Rows that were edited by hand: to locate the session again would hide the edit.
    """

    state: str
    changes: tuple[str, ...]
    edited: tuple[str, ...]

    @property
    def run_key(self) -> str:
        """Key by which Dagster locates this state once."""
        return f"{super().run_key}:positions:{self.state}"


def stale_positions(
    database: Database, *, limit: int, after: SessionRevision | None = None, older_methods: bool = False
) -> list[StalePosition]:
    """Extracted sessions that are to be located, oldest completion first.

    Parameters
    ----------
    database : Database
    limit : int
        Greatest number of sessions.
    after : SessionRevision, optional
        Continue after this one, the last of the previous page.
    older_methods : bool
        Also sessions that an earlier version of the method located.
    """
    with database.transaction() as connection:
        rows = connection.execute(
            text(f"{_STALE} AND {PAGE_SQL}"),
            {"older": older_methods, "method": METHOD, **page_values(limit, after)},
        )
        return [_stale(connection, row) for row in rows.all()]


def is_position_stale(database: Database, session_id: UUID) -> bool:
    """Whether a session is to be located, also because an earlier version of the method did."""
    with database.transaction() as connection:
        return (
            connection.execute(
                text(f"{_STALE} AND s.id = :id"), {"older": True, "method": METHOD, "id": session_id}
            ).first()
            is not None
        )


def _stale(connection: Connection, row: Any) -> StalePosition:
    state = json.dumps([str(row.position_id), str(row.created_at), row.delays], sort_keys=True)
    return StalePosition(
        row.id,
        row.slug,
        row.revision,
        sha256(state.encode()).hexdigest()[:16],
        tuple(_changes(row)),
        (
            *session_edits(connection, row.id).problems(),
            *(f"{stored}: {stored.edit}" for stored in read_position_rows(connection, row.id) if stored.edit),
        ),
    )


def _changes(row: Any) -> list[str]:
    if row.position_id is None:
        return ["not located yet"]
    used = row.used if isinstance(row.used, dict) else {}
    found = delay_changes(used, row.delays)
    if row.is_before_features:
        found.append("its features were extracted again")
    if row.method != METHOD:
        found.append(f"method {row.method} -> {METHOD}")
    return found


def delay_changes(used_us: dict[str, float], present_us: dict[str, float]) -> list[str]:
    """Describe how the delays that hold now differ from those that were subtracted.

    >>> delay_changes({"torino": 12.0}, {"torino": 12.5, "genova": -12.5})
    ['genova: delay none -> -12.5 us', 'torino: delay 12 -> 12.5 us']
    """
    return [
        f"{rx_id}: delay {_shown(used_us.get(rx_id))} -> {_shown(present_us.get(rx_id))}"
        + (" us" if rx_id in present_us else "")
        for rx_id in sorted({*used_us, *present_us})
        if used_us.get(rx_id) != present_us.get(rx_id)
    ]


def _shown(delay_us: float | None) -> str:
    return "none" if delay_us is None else f"{delay_us:g}"
