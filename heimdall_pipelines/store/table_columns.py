"""Columns of the tables with their types and comments, as the migrations leave them, without a database.

They are in ``columns.json``, which a test compares with a migrated database and writes.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class TableColumn:
    """A column of a table of the schema heimdall; ``description`` has the unit."""

    name: str
    type: str
    is_nullable: bool
    description: str


@cache
def table_columns(table: str) -> tuple[TableColumn, ...]:
    """Columns of a table in their order.

    Raises
    ------
    KeyError
        The schema heimdall has no such table.

    Examples
    --------
    >>> table_columns("measurement_features")[1].description
    'Start of the segment'
    """
    text = resources.files("heimdall_pipelines.store").joinpath("columns.json").read_text(encoding="utf-8")
    return tuple(TableColumn(**column) for column in json.loads(text)[table])
