"""What many tests begin with is made once in a process and put back for each: every row and object, to the byte.

To import and extract a session again, or to generate a dataset again, takes several times as long.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.stores import Stores

T = TypeVar("T")
_EMPTY_COPY_BYTES = 21  # header and end of PostgreSQL's binary format
# But the number of the schema, which belongs to the database and not to its contents.
_TABLES = (
    "SELECT format('heimdall.%I', relname) AS name FROM pg_class"
    " WHERE relnamespace = 'heimdall'::regnamespace AND relkind = 'r' AND relname <> 'schema_version' ORDER BY relname"
)
_SEQUENCES = "SELECT format('heimdall.%I', sequencename), last_value FROM pg_sequences WHERE schemaname = 'heimdall'"


@dataclass(frozen=True)
class _Object:
    content: bytes
    content_type: str
    etag: str


class Contents:
    """All rows, and all objects of some buckets (by default of both), as they were when this was made."""

    def __init__(self, stores: Stores, buckets: tuple[str, ...] = ()) -> None:
        self._buckets = buckets or (stores.objects.raw_iq_bucket, stores.objects.synthetic_iq_bucket)
        with stores.database.transaction() as connection:
            cursor = connection.connection.cursor()
            self._tables = {name: _rows(cursor, name) for (name,) in _all(cursor, _TABLES)}
            self._sequences = dict(_all(cursor, _SEQUENCES))
        self._objects = {location: _read(stores, location) for location in self._etags(stores)}

    def put_back(self, stores: Stores) -> None:
        """Leave exactly these in the stores, whatever they hold now; the schema must be the same."""
        with stores.database.transaction() as connection:
            cursor = connection.connection.cursor()
            cursor.execute("SET LOCAL session_replication_role = replica")  # no trigger writes, no order of tables
            cursor.execute("; ".join(f"DELETE FROM {name}" for name in self._tables))
            for name, rows in self._tables.items():
                if len(rows) > _EMPTY_COPY_BYTES:
                    cursor.copy_expert(f"COPY {name} FROM STDIN (FORMAT binary)", io.BytesIO(rows))
            for name, value in self._sequences.items():
                cursor.execute("SELECT setval(%s, coalesce(%s, 1), %s IS NOT NULL)", (name, value, value))
        there = self._etags(stores)
        for location in there.keys() - self._objects.keys():
            stores.objects.remove_keys(location.bucket, [location.key])
        for location, kept in self._objects.items():
            if there.get(location) != kept.etag:
                stores.objects.put(location, io.BytesIO(kept.content), len(kept.content), kept.content_type)

    def _etags(self, stores: Stores) -> dict[ObjectLocation, str]:
        return {
            ObjectLocation(bucket, entry.key): entry.etag
            for bucket in self._buckets
            for entry in stores.objects.entries(bucket, "")
        }


class Remembered:
    """What makers left in empty stores, by a name for each."""

    def __init__(self) -> None:
        self._made: dict[object, tuple[Contents, Any]] = {}

    def __call__(self, stores: Stores, name: object, make: Callable[[Stores], T]) -> T:
        """Leave in the stores what ``make`` leaves in empty ones, and give what it returned when it was called."""
        if name in self._made:
            contents, returned = self._made[name]
            contents.put_back(stores)
            return returned
        returned = make(stores)
        self._made[name] = Contents(stores), returned
        return returned


def _all(cursor: Any, statement: str) -> list[tuple[Any, ...]]:
    cursor.execute(statement)
    return cursor.fetchall()


def _rows(cursor: Any, table: str) -> bytes:
    copy = io.BytesIO()
    cursor.copy_expert(f"COPY {table} TO STDOUT (FORMAT binary)", copy)
    return copy.getvalue()


def _read(stores: Stores, location: ObjectLocation) -> _Object:
    with stores.objects._client.get_object(location.bucket, location.key) as answer:
        headers = answer.headers
        return _Object(answer.read(), headers["Content-Type"], headers["ETag"].strip('"'))
