"""Digests of rows, roots over them, copies of parameters, and the table of changes.

Rows that are there get the digests of what they are now: from then on edits are found, earlier ones are not.
"""

import json
import logging

from alembic import op

from heimdall_pipelines.store.digest_filling import fill_digests
from heimdall_pipelines.throttle import Throttle

revision = "0010"
down_revision = "0009"

logger = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S = 5.0
_TABLES = (
    "websdr_stations",
    "known_sources",
    "recording_sessions",
    "measurements",
    "measurement_features",
    "synthetic_datasets",
    "synthetic_batches",
    "synthetic_iq_samples",
)


def upgrade() -> None:
    """Add the columns and tables, and give digests to what exists."""
    connection = op.get_bind()
    statements = [f"ALTER TABLE heimdall.{table} ADD COLUMN digest bytea" for table in _TABLES]
    statements += [
        # Without constraint, which a hypertable with compressed chunks does not take with a new column.
        "ALTER TABLE heimdall.measurements ADD COLUMN sidecar_sha256 text, ADD COLUMN etag text",
        "ALTER TABLE heimdall.recording_sessions ADD COLUMN root bytea, ADD COLUMN positions jsonb,"
        " ADD COLUMN digests_since timestamptz",
        "ALTER TABLE heimdall.synthetic_datasets ADD COLUMN parameters_digest bytea, ADD COLUMN root bytea,"
        " ADD COLUMN digests_since timestamptz",
        "ALTER TABLE heimdall.synthetic_batches ADD COLUMN parameters_digest bytea, ADD COLUMN root bytea",
        """
        CREATE TABLE heimdall.dataset_parameters (
            dataset_id uuid NOT NULL REFERENCES heimdall.synthetic_datasets (id) ON DELETE CASCADE,
            digest bytea NOT NULL,
            parameters jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (dataset_id, digest)
        )""",
        """
        CREATE TABLE heimdall.changes (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            who text NOT NULL,
            table_name text NOT NULL,
            row_key jsonb NOT NULL,
            before jsonb,
            after jsonb,
            reason text NOT NULL CHECK (reason <> '')
        )""",
        "CREATE INDEX changes_row ON heimdall.changes (table_name, changed_at)",
        *(f"COMMENT ON TABLE heimdall.{table} IS '{comment}'" for table, comment in _NEW_TABLES.items()),
        *(f"COMMENT ON COLUMN heimdall.{table}.digest IS '{_DIGEST}'" for table in _TABLES),
        *(f"COMMENT ON COLUMN heimdall.{column} IS '{comment}'" for column, comment in _COLUMNS.items()),
    ]
    for statement in statements:
        connection.exec_driver_sql(statement)
    throttle = Throttle(_PROGRESS_INTERVAL_S)

    def progress(table: str, num: int) -> None:
        if throttle.is_due():
            logger.info("digests of %s: %d rows", table, num)

    num = fill_digests(connection, progress)
    if num:
        connection.exec_driver_sql(
            "INSERT INTO heimdall.changes (who, table_name, row_key, before, after, reason)"
            " VALUES (current_user, 'every table', '{}', NULL, %(after)s, %(reason)s)",
            {
                "after": json.dumps({"rows": num}),
                "reason": "migration 0010: rows of before have the digests of what they were at this time",
            },
        )


_DIGEST = (
    "SHA-256 of the row as it was committed, then four bytes for each column, see store/digests.py;"
    " null: not written by heimdall"
)
_SINCE = (
    "Rows of before this time had no digests: they have those of what they were then; null: vouched for from the first"
)
_NEW_TABLES = {
    "dataset_parameters": "Copies of the frozen parameters of datasets, by their digest",
    "changes": "Changes of data that has digests: by whom, of what, why; by commands, or by hand and accepted",
}
_COLUMNS = {
    "measurements.sidecar_sha256": "Digest of the bytes of the SigMF sidecar; null: of before it was kept",
    "measurements.etag": "ETag of the object; null: of before it was kept",
    "recording_sessions.root": "SHA-256 over the digests of its measurements, then of its feature rows",
    "recording_sessions.positions": "Positions of its stations and source when it was completed: latitude, longitude,"
    " altitude in m; null: of before they were kept",
    "recording_sessions.digests_since": _SINCE,
    "synthetic_datasets.parameters_digest": "SHA-256 of its frozen parameters; their copy is in dataset_parameters",
    "synthetic_datasets.root": "SHA-256 over parameters_digest, then the roots of its batches",
    "synthetic_datasets.digests_since": _SINCE,
    "synthetic_batches.parameters_digest": "SHA-256 of the parameters that its samples were made from",
    "synthetic_batches.root": "SHA-256 over the digests of its feature rows and IQ rows, by sample",
    "dataset_parameters.digest": "SHA-256 of the parameters",
    "dataset_parameters.parameters": "The parameters by column of synthetic_datasets",
    "changes.changed_at": "When it was changed",
    "changes.who": "Person and command, or run of Dagster",
    "changes.table_name": "Table of the changed rows",
    "changes.row_key": "Key of the changed row, or of the dataset or session whose rows changed",
    "changes.before": "Changed columns before; null: added, or not known since it was edited by hand",
    "changes.after": "Changed columns after; null: removed",
    "changes.reason": "Why",
}
