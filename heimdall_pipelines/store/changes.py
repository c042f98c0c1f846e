"""The table of changes: who changed data that digests vouch for, what it was before, and why."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any
from uuid import UUID

from heimdall_pipelines.store.columns import columns_of
from heimdall_pipelines.store.digest_rows import ChangedRow, resealing
from heimdall_pipelines.store.digests import DIGESTED_TABLES
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.reading import Reading

_author: ContextVar[str | None] = ContextVar("heimdall_author", default=None)
_LONGEST_VALUE = 2000  # characters of a value as JSON; of a longer one only its length is kept


@dataclass(frozen=True)
class Change:
    """A row of the table changes.

    Attributes
    ----------
    id : int
    changed_at : datetime
    who : str
        Person and command, or run of Dagster.
    table_name : str
    row_key : dict
        Of the row, or of several: its dataset or session.
    before, after : dict or None
        Changed columns. None: the row did not exist, or no longer does; or, of an edit made by hand, is not known.
    reason : str
    """

    id: int
    changed_at: datetime
    who: str
    table_name: str
    row_key: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str


_COLUMNS = columns_of(Change)


@contextmanager
def acting(what: str) -> Iterator[None]:
    """Name the command or run that makes the changes inside the block."""
    token = _author.set(what)
    try:
        yield
    finally:
        _author.reset(token)


def note_change(
    connection: Connection,
    table: str,
    row_key: Mapping[str, Any],
    *,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    reason: str,
) -> None:
    """Add a change, in the transaction that makes it.

    Parameters
    ----------
    connection : Connection
    table : str
    row_key : mapping
        What identifies the changed row or rows.
    before, after : mapping or None
        As of `Change`; digests as hexadecimal text.
    reason : str
    """
    connection.execute(
        text(
            "INSERT INTO heimdall.changes (who, table_name, row_key, before, after, reason)"
            " VALUES (:who, :table, CAST(:key AS jsonb), CAST(:before AS jsonb), CAST(:after AS jsonb), :reason)"
        ),
        {
            "who": _who(),
            "table": table,
            "key": _json(row_key),
            "before": None if before is None else _json(before),
            "after": None if after is None else _json(after),
            "reason": reason,
        },
    )


@contextmanager
def changing(
    connection: Connection, table: str, where: str, values: Mapping[str, Any], *, reason: str | None
) -> Iterator[None]:
    """Change some rows inside the block: their digests follow, see `resealing`; noted if there is a reason."""
    with resealing(connection, table, where, values) as changed:
        yield
    if reason is not None:
        for row in changed:
            _note_row(connection, table, row, reason)


def _note_row(connection: Connection, table: str, row: ChangedRow, reason: str) -> None:
    """Note the columns of a row that changed; nothing where none did."""
    columns = [name for name in row.columns(table) if name not in DIGESTED_TABLES[table]]
    if not columns:
        return
    known = row.after or row.before or {}
    note_change(
        connection,
        table,
        {name: known[name] for name in DIGESTED_TABLES[table]},
        before=None if row.before is None else {name: row.before[name] for name in columns},
        after=None if row.after is None else {name: row.after[name] for name in columns},
        reason=reason,
    )


def list_changes(database: Reading, limit: int = 100) -> Sequence[Change]:
    """The last changes, newest first."""
    rows = database.read(f"SELECT {_COLUMNS} FROM heimdall.changes ORDER BY id DESC LIMIT %(limit)s", {"limit": limit})
    return [Change(**row._asdict()) for row in rows]


def _who() -> str:
    try:
        person = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        person = "unknown user"
    what = _author.get()
    return f"{person}: {what}" if what else person


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps({name: _short(value) for name, value in values.items()}, default=_plain)


def _short(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):  # edited by hand; JSON has no such numbers
        return str(value)
    if not isinstance(value, dict | list):
        return value
    written = json.dumps(value, default=_plain)
    return value if len(written) <= _LONGEST_VALUE else f"{len(written)} characters of JSON"


def _plain(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    assert isinstance(value, UUID | datetime)
    return str(value)
