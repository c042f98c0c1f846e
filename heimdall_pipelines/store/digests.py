"""Digests of rows, computed from the table of columns: the same for every server version and processor.

A digest is the SHA-256 of a row's content, then four bytes for each column, which name the columns that were edited.
A column that is NULL adds nothing to the content, and NULLs at the end of a row have no mark, so that a column added
later, NULL in the rows that exist, leaves their digests as they are.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from hashlib import sha256
from math import isfinite
from typing import Any
from zlib import crc32

from heimdall_pipelines.store.table_columns import TableColumn, table_columns

CONTENT_BYTES = 32
_MARK_BYTES = 4
_NULL_MARK = bytes(_MARK_BYTES)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ALWAYS_POSITIONAL_BELOW = 1e16  # repr() of larger floats has an exponent, which jsonb does not keep

DIGESTED_TABLES = {  # with the columns by which a row is found
    "websdr_stations": ("id",),
    "known_sources": ("id",),
    "recording_sessions": ("id",),
    "measurements": ("timestamp", "id"),
    "measurement_features": ("id",),
    "positions": ("id",),
    "synthetic_datasets": ("id",),
    "synthetic_batches": ("dataset_id", "batch_no"),
    "synthetic_iq_samples": ("dataset_id", "sample_idx"),
}
# Columns that are no data, in any table, and why. All others count, also those that a later migration adds.
NOT_COUNTED = {
    "digest": "the digest itself",
    "created_at": "time of writing: a regenerated row is the same row",
    "committed_at": "time of writing: a regenerated row is the same row",
    "recorder_seen_at": "heartbeat of a recorder",
    "health_status": "result of the last validation",
    "validation_issues": "result of the last validation",
    "last_validated_at": "result of the last validation",
    "storage_size_bytes": "result of the last validation",
    "digests_since": "since when digests vouch for the rows, not a part of them",
}

# Keys stay in their order, that of jsonb (see `as_stored`): sorting them would take a third of a digest's time.
_encode_json = json.JSONEncoder(separators=(",", ":")).encode


def _microseconds(value: int | datetime) -> str:
    return str(value if isinstance(value, int) else (value - _EPOCH) // _MICROSECOND)


_TEXTS: dict[str, Callable[[Any], str]] = {
    "uuid": str,
    "text": str,
    "smallint": str,
    "integer": str,
    "bigint": str,
    "boolean": lambda value: "t" if value else "f",
    "double precision": lambda value: repr(float(value) + 0.0),  # -0.0 counts as 0.0
    "timestamp with time zone": _microseconds,
    "jsonb": _encode_json,
    "bytea": lambda value: bytes(value).hex(),
}


@dataclass(frozen=True)
class Edit:
    """How a row differs from what was committed.

    Attributes
    ----------
    columns : tuple of str
        Edited columns; ``("digest",)`` where only the digest differs.
    has_digest : bool
        Whether the row has a digest: one that was inserted with SQL has none.
    """

    columns: tuple[str, ...]
    has_digest: bool = True

    def __str__(self) -> str:
        if not self.has_digest:
            return "has no digest: it was not written by heimdall"
        return f"{', '.join(self.columns)} {'is' if len(self.columns) == 1 else 'are'} not as committed"


def datetime_of(microseconds: int) -> datetime:
    """Time of microseconds since the epoch; one that Python cannot have is the nearest that it can."""
    try:
        return _EPOCH + _MICROSECOND * microseconds
    except OverflowError:
        return (datetime.max if microseconds > 0 else datetime.min).replace(tzinfo=UTC)


@cache
def counted_columns(table: str) -> tuple[TableColumn, ...]:
    """Columns that the digest of a table's rows covers, in their order."""
    return tuple(column for column in table_columns(table) if column.name not in NOT_COUNTED)


def row_digest(table: str, values: Mapping[str, Any]) -> bytes:
    """Digest of a row as it was read.

    Parameters
    ----------
    table : str
        One of `DIGESTED_TABLES`.
    values : mapping of str to object
        By column, as psycopg2 reads them; times also as microseconds since the epoch (int). A missing column is NULL.
        Further ones are ignored.

    Returns
    -------
    bytes
        The SHA-256 of the content, then a mark for each column.
    """
    parts = [table.encode()]
    marks = []
    last = 0
    for name, to_text in _layout(table):
        value = values.get(name)
        if value is None:
            marks.append(_NULL_MARK)
            continue
        written = to_text(value)
        part = f"{name}={len(written)}:{written};".encode("utf-8", "surrogatepass")
        marks.append(crc32(part).to_bytes(_MARK_BYTES, "big"))
        parts.append(part)
        last = len(marks)
    return sha256(b"".join(parts)).digest() + b"".join(marks[:last])


def new_row_digest(table: str, values: Mapping[str, Any]) -> bytes:
    """Digest of a row that is about to be written, as it will be read.

    Parameters and result are those of `row_digest`.
    """
    json_columns = {column.name for column in counted_columns(table) if column.type == "jsonb"}
    return row_digest(
        table, {name: as_stored(value) if name in json_columns else value for name, value in values.items()}
    )


def as_stored(value: Any) -> Any:
    """What jsonb gives back for a value: numbers are decimal, without the sign of a zero and without exponent.

    Keys are in the order in which jsonb keeps them: by their length in bytes, then by their bytes.

    >>> as_stored({"bb": (-0.0, 1e16), "c": 1, "a": 2})
    {'a': 2, 'c': 1, 'bb': [0.0, 10000000000000000]}
    """
    if isinstance(value, float):
        if value == 0:
            return 0.0
        is_kept = abs(value) < _ALWAYS_POSITIONAL_BELOW or not isfinite(value)  # JSON refuses those later
        return value if is_kept else int(Decimal(repr(float(value))))
    if isinstance(value, Mapping):
        return {name: as_stored(value[name]) for name in sorted(value, key=_in_jsonb)}
    if isinstance(value, list | tuple):
        return [as_stored(item) for item in value]
    return value


@lru_cache(maxsize=4096)
def _in_jsonb(name: str) -> tuple[int, bytes]:
    encoded = name.encode("utf-8", "surrogatepass")
    return len(encoded), encoded


def content(digest: bytes | None) -> bytes:
    """The part of a digest that roots are made of: the SHA-256 of the row's content, zeros where there is none."""
    return bytes(CONTENT_BYTES) if digest is None else digest[:CONTENT_BYTES]


EMPTY_ROOT = sha256(b"").digest()


def root_of(digests: Iterable[bytes | None]) -> bytes:
    """SHA-256 over the contents of several digests, in their order; SQL of the store computes the same."""
    root = sha256()
    for digest in digests:
        root.update(content(digest))
    return root.digest()


def edit_of(table: str, values: Mapping[str, Any], digest: bytes | memoryview | None) -> Edit | None:
    """How a row differs from its digest.

    Parameters
    ----------
    table, values
        As of `row_digest`.
    digest : bytes-like or None
        As stored with the row.

    Returns
    -------
    Edit or None
        None where the row is as it was committed.
    """
    if digest is None:
        return Edit((), has_digest=False)
    stored = bytes(digest)
    found = row_digest(table, values)
    if stored == found:
        return None
    edited = differing_columns(table, found, stored)
    return Edit(edited or ("digest",))


def differing_columns(table: str, one: bytes, other: bytes) -> tuple[str, ...]:
    """Columns in which two rows of a table differ, by their digests."""
    names = [column.name for column in counted_columns(table)]
    marks = zip(names, _marks(one, len(names)), _marks(other, len(names)), strict=True)
    return tuple(name for name, ours, theirs in marks if ours != theirs)


def resealed(table: str, stored: bytes | None, before: bytes, after: bytes) -> bytes | None:
    """Digest of a row that a command has changed; what was edited by hand before stays an edit.

    Parameters
    ----------
    table : str
    stored : bytes or None
        The row's digest before the change.
    before, after : bytes
        What `row_digest` gives before and after the change.

    Returns
    -------
    bytes or None
        None where the row had no digest. Where a column that the command has not changed was edited: the former
        SHA-256, which matches nothing, with the marks of the changed columns.
    """
    if stored is None:
        return None
    if stored == before:
        return after
    num = len(counted_columns(table))
    marks = [
        new if was == committed or was != new else committed
        for committed, was, new in zip(_marks(stored, num), _marks(before, num), _marks(after, num), strict=True)
    ]
    if marks == _marks(after, num) and _marks(stored, num) != _marks(before, num):
        return after
    return stored[:CONTENT_BYTES] + b"".join(marks)


def digest_of(columns: Iterable[str], table: str, values: Mapping[str, Any]) -> bytes:
    """SHA-256 of some columns of a row, 32 bytes; parameters as of `row_digest`."""
    wanted = frozenset(columns)
    return content(row_digest(table, {name: value for name, value in values.items() if name in wanted}))


def _marks(digest: bytes, num: int) -> list[bytes]:
    marks = digest[CONTENT_BYTES:].ljust(num * _MARK_BYTES, b"\0")
    return [marks[start : start + _MARK_BYTES] for start in range(0, num * _MARK_BYTES, _MARK_BYTES)]


@cache
def _layout(table: str) -> tuple[tuple[str, Callable[[Any], str]], ...]:
    return tuple((column.name, _TEXTS[column.type]) for column in counted_columns(table))
