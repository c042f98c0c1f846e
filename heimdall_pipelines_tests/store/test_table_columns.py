"""The columns that assets show are those of a migrated database; HEIMDALL_TEST_WRITE_DOCS=1 writes them."""

import json
import os
from pathlib import Path

from sqlalchemy import text

from heimdall_pipelines.store import table_columns

FILE = Path(table_columns.__file__).with_name("columns.json")
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
# Types by format_type: information_schema calls an array ARRAY, whatever is in it.
COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
           col_description(c.oid, a.attnum) AS comment
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'heimdall' AND c.relkind = 'r' AND c.relname <> 'schema_version'
      AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY c.relname, a.attnum"""


def columns_of(database):
    tables = {}
    with database.transaction() as connection:
        for table, name, kind, is_not_null, comment in connection.execute(text(COLUMNS)):
            tables.setdefault(table, []).append(
                {
                    "name": name,
                    "type": kind,
                    "is_nullable": not is_not_null,
                    "description": comment or WITHOUT_COMMENT[name],
                }
            )
    return tables


def as_json(tables):
    """One line for each column, so that changes are easy to read."""
    written = (
        f"{json.dumps(table)}: [\n" + ",\n".join(f"  {json.dumps(column)}" for column in columns) + "\n]"
        for table, columns in tables.items()
    )
    return "{\n" + ",\n".join(written) + "\n}\n"


def test_the_columns_of_every_table_are_those_of_the_database(stores):
    migrated = columns_of(stores.database)
    if os.environ.get("HEIMDALL_TEST_WRITE_DOCS") == "1":
        FILE.write_text(as_json(migrated))
    written = json.loads(FILE.read_text())
    assert written == migrated, "write it with: HEIMDALL_TEST_WRITE_DOCS=1 python -m pytest -k test_table_columns"
