"""Random edits: any counted column of any row of a dataset and a session, any byte of any object or sidecar."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError

from heimdall_pipelines.store.digests import DIGESTED_TABLES, NOT_COUNTED
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.table_columns import TableColumn, table_columns
from heimdall_pipelines_tests.datasets.support import query
from heimdall_pipelines_tests.edits.place import Place

_OF_DATASET, _OF_SESSION = "dataset_id = :id", "recording_session_id = :session"
# Rows that belong to the dataset or the session, of every table that a check looks at.
ROWS = {
    "synthetic_datasets": ("id = :id",),
    "synthetic_batches": (_OF_DATASET,),
    "synthetic_iq_samples": (_OF_DATASET,),
    "dataset_parameters": (_OF_DATASET,),
    "measurement_features": (_OF_DATASET, _OF_SESSION),
    "measurements": (_OF_SESSION,),
    "positions": (_OF_SESSION,),
    "recording_sessions": ("id = :session",),
    "session_extractions": (_OF_SESSION,),
    "websdr_stations": (
        "id IN (SELECT m.websdr_station_id FROM heimdall.measurements m WHERE m.recording_session_id = :session)",
    ),
    "known_sources": ("id = (SELECT s.known_source_id FROM heimdall.recording_sessions s WHERE s.id = :session)",),
}
# Of a station and a source, what features depend on; the rest is how a receiver is reached.
ONLY = {
    "websdr_stations": {"rx_id", "latitude", "longitude", "altitude_m"},
    "known_sources": {"name", "latitude", "longitude", "altitude_m", "power_dbm"},
}
# Times of writing, and what the last validation saw; and the digests themselves, which count.
WITHOUT = (set(NOT_COUNTED) - {"digest"}) | {"extracted_at"}
assert set(DIGESTED_TABLES) <= set(ROWS)


@dataclass(frozen=True)
class RandomEdit:
    """What is done: a new value of a column of a row, or a byte of an object."""

    what: str
    of_dataset: bool
    is_done: bool


def columns(table: str) -> list[TableColumn]:
    only = ONLY.get(table)
    return [
        column
        for column in table_columns(table)
        if column.name not in WITHOUT and (only is None or column.name in only)
    ]


@st.composite
def row_edits(draw: st.DrawFn) -> tuple[str, str, TableColumn, int]:
    """Table, condition of its rows, column and number of the row."""
    table = draw(st.sampled_from(sorted(ROWS)))
    where = draw(st.sampled_from(ROWS[table]))
    return table, where, draw(st.sampled_from(columns(table))), draw(st.integers(0, 11))


def edit_row(place: Place, table: str, where: str, column: TableColumn, number: int, data: st.DataObject) -> RandomEdit:
    """Give a column of a row another value; one that PostgreSQL rejects is no edit."""
    names = {"id": place.dataset_id, "session": place.session_id}
    values = {name: value for name, value in names.items() if f":{name}" in where}
    rows = query(
        place.stores,
        f"SELECT ctid::text AS place, {column.name} AS value FROM heimdall.{table} WHERE {where} ORDER BY 1",
        **values,
    )
    row = rows[number % len(rows)]
    new = data.draw(another(column, row["value"]), label=f"{table}.{column.name}")
    written = json.dumps(new, allow_nan=False) if column.type == "jsonb" and new is not None else new
    what = f"{table}.{column.name}: {row['value']!r} -> {new!r}"
    of_dataset = where in (_OF_DATASET, "id = :id")
    try:
        with place.stores.database.transaction() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))  # no trigger, no foreign key
            changed = connection.execute(
                text(
                    f"UPDATE heimdall.{table} SET {column.name} = CAST(:new AS {column.type})"
                    f" WHERE ctid = CAST(:place AS tid)"
                    f" AND {column.name} IS DISTINCT FROM CAST(:new AS {column.type})"
                ),
                {"new": written, "place": row["place"]},
            ).rowcount
    except (IntegrityError, DataError):
        return RandomEdit(what, of_dataset, is_done=False)
    return RandomEdit(what, of_dataset, is_done=bool(changed))


def edit_byte(place: Place, location: ObjectLocation, position: float, mask: int) -> RandomEdit:
    """Change bits of one byte of an object."""

    def changed(content: bytes) -> bytes:
        at = min(int(position * len(content)), len(content) - 1)
        return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]

    place.change(location, changed)
    of_dataset = location.bucket == place.stores.objects.synthetic_iq_bucket
    return RandomEdit(f"{location}, byte at {position:.6f}, xor {mask}", of_dataset, is_done=True)


def another(column: TableColumn, value: Any) -> st.SearchStrategy[Any]:
    """Values of a column, mostly near the one that it has."""
    by_type: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "boolean": lambda: st.just(not value),
        "smallint": lambda: _integers(value, 2**15 - 1),
        "integer": lambda: _integers(value, 2**31 - 1),
        "bigint": lambda: _integers(value, 2**63 - 1),
        "double precision": lambda: _floats(value),
        "text": lambda: _texts(value),
        "uuid": st.uuids,
        "bytea": lambda: st.binary(min_size=1, max_size=40) | st.just(_flipped(value)),
        "timestamp with time zone": lambda: st.datetimes().map(lambda time: time.isoformat() + "Z"),
        "jsonb": lambda: _json(value),
    }
    found = by_type[column.type]()
    return found | st.none() if column.is_nullable else found


def _integers(value: int | None, most: int) -> st.SearchStrategy[int]:
    near = st.integers(-3, 3).filter(bool).map(lambda step: min((value or 0) + step, most))
    return near | st.integers(-most, most)


def _floats(value: float | None) -> st.SearchStrategy[float]:
    base = float(value or 0.0)
    nearest = st.sampled_from([math.nextafter(base, math.inf), math.nextafter(base, -math.inf)])
    return nearest | st.floats(-2, 2).map(lambda step: base + step) | st.floats(allow_infinity=False, allow_nan=False)


def _texts(value: str | None) -> st.SearchStrategy[str]:
    letters = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
    return letters.map(lambda more: (value or "") + more) | letters


def _flipped(value: bytes | memoryview | None) -> bytes:
    content = bytes(value or b"\0")
    return content[:-1] + bytes([content[-1] ^ 1])


def _json(value: Any) -> st.SearchStrategy[Any]:
    anything = st.recursive(
        st.none() | st.booleans() | st.integers(-1000, 1000) | st.text("abc", max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
        max_leaves=5,
    )
    paths = list(_paths(value, ()))
    if not paths:
        return anything
    within = st.builds(
        lambda path, new, is_removed: _edited(value, path, new, is_removed=is_removed),
        st.sampled_from(paths),
        anything | st.floats(-5, 5),
        st.booleans(),
    )
    return within | within | anything


def _paths(value: Any, path: tuple[Any, ...]) -> Any:
    """Where the values of a JSON document are."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


def _edited(value: Any, path: tuple[Any, ...], new: Any, *, is_removed: bool) -> Any:
    document = json.loads(json.dumps(value))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    old = inner[path[-1]]
    if is_removed:
        del inner[path[-1]]
    elif isinstance(old, int | float) and not isinstance(old, bool) and isinstance(new, int | float):
        inner[path[-1]] = old + new * 1e-3
    else:
        inner[path[-1]] = new
    return document
