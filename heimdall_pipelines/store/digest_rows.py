"""Reads the columns that digests cover, and writes digests in the transaction that changes rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heimdall_pipelines.store.digests import DIGESTED_TABLES, counted_columns, resealed, row_digest
from heimdall_pipelines.store.sql import text, time_sql
from heimdall_pipelines.store.table_columns import TableColumn

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ROWS_AT_ONCE = 500
_HEX = "decode('{}', 'hex')"
ZEROS_SQL = _HEX.format("00" * 32)

Progress = Callable[[str, int], None]  # called with a table and the number of its rows so far


def content_sql(column: str) -> str:
    """SQL of `digests.content`."""
    return f"coalesce(substr({column}, 1, 32), {ZEROS_SQL})"


def root_sql(contents: str, order: str) -> str:
    """SQL of `digests.root_of`, an aggregate over rows."""
    return f"sha256(coalesce(string_agg({contents}, ''::bytea ORDER BY {order}), ''::bytea))"


def digested_columns(table: str, *, only: frozenset[str] | None = None, json_as_text: bool = False) -> str:
    """SQL of the columns that a table's digests cover; times as microseconds, whatever year they are of.

    Parameters
    ----------
    table : str
    only : frozenset of str, optional
        Columns that exist, in a schema that a migration has not finished.
    json_as_text : bool, optional
        JSON as text, for another process to read.
    """

    def sql(column: TableColumn) -> str:
        name = column.name
        if column.type == "timestamp with time zone":
            return f"{microseconds_sql(name)} AS {name}"
        return f"CAST({name} AS text) AS {name}" if json_as_text and column.type == "jsonb" else name

    return ", ".join(sql(column) for column in counted_columns(table) if only is None or column.name in only)


def microseconds_sql(column: str) -> str:
    """SQL of a time as whole microseconds after the epoch; infinity is the greatest integer."""
    return (
        f"CASE WHEN isfinite({column}) THEN (extract(epoch FROM {column}) * 1000000)::bigint"
        f" WHEN {column} > 'epoch' THEN 9223372036854775807 WHEN {column} < 'epoch' THEN -9223372036854775807 END"
    )


@dataclass(frozen=True)
class ChangedRow:
    """A row before and after a change; None where it did not exist."""

    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    def columns(self, table: str) -> tuple[str, ...]:
        """Columns that changed."""
        before, after = self.before or {}, self.after or {}
        return tuple(
            column.name for column in counted_columns(table) if before.get(column.name) != after.get(column.name)
        )


@contextmanager
def resealing(connection: Connection, table: str, where: str, values: Mapping[str, Any]) -> Iterator[list[ChangedRow]]:
    """Change some rows inside the block; at its end they have the digests of what they are then.

    What was edited by hand before, in columns that the block does not change, stays an edit. The rows are in memory.

    Parameters
    ----------
    connection : Connection
        Inside a transaction.
    table : str
    where : str
        Condition that the rows fulfil before and after.
    values : mapping
        Parameters of the condition.

    Yields
    ------
    list of ChangedRow
        Filled at the end of the block.
    """
    # Not in compressed chunks of a hypertable; an extraction has a lock of its session.
    is_locked = table != "measurements"
    before = {_key(table, row): row for row in read_digested(connection, table, where, values, lock=is_locked)}
    changed: list[ChangedRow] = []
    yield changed
    after = {_key(table, row): row for row in read_digested(connection, table, where, values)}
    written = []
    for key, row in after.items():
        digest: bytes | None = row_digest(table, row)
        if key in before:
            assert digest is not None
            stored = before[key]["digest"]
            digest = resealed(table, None if stored is None else bytes(stored), row_digest(table, before[key]), digest)
        written.append((row, digest))
    write_digests(connection, table, [(row, digest) for row, digest in written if digest is not None])
    changed += [ChangedRow(before.get(key), row) for key, row in after.items() if before.get(key) != row]
    changed += [ChangedRow(row, None) for key, row in before.items() if key not in after]


def seal_rows(connection: Connection, table: str, where: str, values: Mapping[str, Any]) -> int:
    """Write the digests of rows as they are, edited or not; returns their number. Streamed."""
    return _write_streamed(connection, table, read_digested(connection, table, where, values), lambda *_: None)


def digest_missing(
    connection: Connection, table: str, where: str = "true", progress: Progress = lambda *_: None
) -> int:
    """Write the digests of rows that have none; streamed, and nothing for those that have one.

    Parameters
    ----------
    connection : Connection
    table : str
    where : str, optional
        Of these rows, those that get one.
    progress : callable, optional
        Called with the table and the number of rows so far.

    Returns
    -------
    int
        Rows that got a digest.
    """
    rows = read_digested(connection, table, f"digest IS NULL AND {where}", {}, only=existing_columns(connection, table))
    return _write_streamed(connection, table, rows, progress)


def _write_streamed(connection: Connection, table: str, rows: Iterator[Mapping[str, Any]], progress: Progress) -> int:
    num = 0
    some: list[tuple[Mapping[str, Any], bytes]] = []
    for row in rows:
        some.append((row, row_digest(table, row)))
        if len(some) == _ROWS_AT_ONCE:
            write_digests(connection, table, some)
            num += len(some)
            some = []
            progress(table, num)
    write_digests(connection, table, some)
    return num + len(some)


def read_digested(
    connection: Connection,
    table: str,
    where: str,
    values: Mapping[str, Any],
    *,
    lock: bool = False,
    only: frozenset[str] | None = None,
) -> Iterator[Mapping[str, Any]]:
    """Rows with the columns that digests cover, and their ``digest``; streamed, in any order."""
    statement = f"SELECT {digested_columns(table, only=only)}, digest FROM heimdall.{table} WHERE {where}" + (
        " FOR NO KEY UPDATE" if lock else ""
    )
    found = connection.execute(text(statement), dict(values), execution_options={"yield_per": 100})
    for row in found:
        yield dict(row._mapping)


def write_digests(connection: Connection, table: str, rows: Sequence[tuple[Mapping[str, Any], bytes]]) -> None:
    """Write digests of rows, which are found by their keys."""
    if not rows:
        return
    keys = DIGESTED_TABLES[table]
    types = {column.name: column.type for column in counted_columns(table)}
    listed = ", ".join(f"CAST(:{name} AS {_array_type(types[name])}[])" for name in keys)
    equal = " AND ".join(
        f"t.{name} = {time_sql('w.' + name) if _is_time(types[name]) else 'w.' + name}" for name in keys
    )
    connection.execute(
        text(
            f"UPDATE heimdall.{table} t SET digest = decode(w.digest, 'hex')"
            f" FROM unnest({listed}, CAST(:digest AS text[])) AS w ({', '.join(keys)}, digest) WHERE {equal}"
        ),
        {name: [_plain(row[name]) for row, _ in rows] for name in keys}
        | {"digest": [digest.hex() for _, digest in rows]},
    )


def existing_columns(connection: Connection, table: str) -> frozenset[str]:
    """Columns that a table has now; a migration does not have those of later ones."""
    found = connection.execute(
        text("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attnum > 0"),
        {"name": f"heimdall.{table}"},
    )
    return frozenset(found.scalars())


def _key(table: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in DIGESTED_TABLES[table])


def _is_time(kind: str) -> bool:
    return kind == "timestamp with time zone"


def _array_type(kind: str) -> str:
    return "bigint" if _is_time(kind) else kind


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else str(value)
