"""Lists of columns in SQL, made from the dataclass or the table that names them."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

_NONE: Mapping[str, str] = MappingProxyType({})


def columns_of(row_class: type[Any], *, renamed: Mapping[str, str] = _NONE) -> str:
    """Columns that fill the fields of a dataclass, for SELECT and RETURNING.

    Parameters
    ----------
    row_class : type
        A dataclass.
    renamed : mapping of str to str, optional
        SQL of the fields that are not called as their column.
    """
    return ", ".join(renamed.get(field.name, field.name) for field in fields(row_class))


def listed(names: Iterable[str], table: str = "") -> str:
    """Names of columns, of a table if one is given.

    >>> listed(["id", "name"], "r")
    'r.id, r.name'
    """
    return ", ".join(f"{table}.{name}" if table else name for name in names)


def insert_sql(table: str, names: Iterable[str]) -> str:
    """SQL that inserts a row, whose values are parameters of the columns' names.

    >>> insert_sql("known_sources", ["name", "latitude"])
    'INSERT INTO heimdall.known_sources (name, latitude) VALUES (:name, :latitude)'
    """
    columns = list(names)
    return f"INSERT INTO heimdall.{table} ({listed(columns)}) VALUES ({listed(f':{name}' for name in columns)})"


def typed(columns: Mapping[str, str]) -> str:
    """Columns with their types, as jsonb_to_recordset takes them.

    >>> typed({"id": "uuid", "n": "integer"})
    'id uuid, n integer'
    """
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())
