"""Columns of the tables with their types and comments, as the migrations leave them, without a database.

They are in ``columns.json``, which a test compares with a migrated database and writes.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

# Of columns that have no comment in the database, the same in every table.
WITHOUT_COMMENT = {
    "id": "Primary key",
    "name": "Name for people",
    "created_at": "When the row was added",
    "timestamp": "Start of the IQ",
    "recording_session_id": "Session, by its id in recording_sessions",
    "websdr_station_id": "Station, by its id in websdr_stations",
    "dataset_id": "Dataset, by its id in synthetic_datasets",
    "sample_idx": "Sample of the dataset, 0 to n - 1",
    "segment_idx": "Segment of the session, 0 to n - 1, one second each",
    "batch_no": "Batch of the dataset, from 0",
}


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
