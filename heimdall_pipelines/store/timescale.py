"""The table of measurements as a TimescaleDB hypertable, and its policies.

Every key of the table holds `timestamp` on plain PostgreSQL too, so that the same statements work on both. Only
functions of TimescaleDB 2.13 and later are used.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.migrate import SCHEMA_LOCK


class HypertableError(HeimdallError):
    """TimescaleDB cannot do what the settings request."""


@dataclass(frozen=True)
class HypertablePolicy:
    """The requested settings of TimescaleDB.

    Attributes
    ----------
    chunk_days : int
        Days of recordings in one chunk; existing chunks stay unchanged.
    compress_after_days : int or None
        Age at which a chunk is compressed; None: no more chunks are compressed.
    """

    chunk_days: int
    compress_after_days: int | None


def apply_policy(database: Database, policy: HypertablePolicy) -> list[str]:
    """Make the table of measurements a hypertable if TimescaleDB is installed, and set, change or remove policies.

    A second call changes nothing. On plain PostgreSQL nothing is done.

    Parameters
    ----------
    database : Database
        Migrated; its role owns the table.
    policy : HypertablePolicy

    Returns
    -------
    list of str
        Changes and warnings, for people to read.

    Raises
    ------
    HypertableError
        Compression is requested but not available.
    DatabaseUnavailableError, DatabaseRefusedError
        PostgreSQL could not be reached, or the role does not own the table.
    """
    with database.transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
        if not _scalar(connection, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"):
            if policy.compress_after_days is not None:
                raise HypertableError(
                    f"{database!r} has no TimescaleDB: unset HEIMDALL_TIMESCALE_COMPRESS_AFTER_DAYS, or run "
                    "CREATE EXTENSION timescaledb in that database"
                )
            return []
        return [
            *_make_hypertable(connection, policy.chunk_days),
            *_set_compression(connection, database, policy.compress_after_days),
            *_retention_warnings(connection),
        ]


_OF_MEASUREMENTS = "hypertable_schema = 'heimdall' AND hypertable_name = 'measurements'"


def _make_hypertable(connection: Connection, chunk_days: int) -> list[str]:
    if not _scalar(connection, f"SELECT count(*) FROM timescaledb_information.hypertables WHERE {_OF_MEASUREMENTS}"):
        connection.execute(
            text(
                "SELECT create_hypertable('heimdall.measurements',"
                " by_range('timestamp', make_interval(days => :days)), migrate_data => true)"
            ),
            {"days": chunk_days},
        )
        return [f"measurements is a hypertable now, in chunks of {chunk_days} days"]
    interval = _scalar(
        connection, f"SELECT time_interval FROM timescaledb_information.dimensions WHERE {_OF_MEASUREMENTS}"
    )
    if interval == timedelta(days=chunk_days):
        return []
    connection.execute(
        text("SELECT set_chunk_time_interval('heimdall.measurements', make_interval(days => :days))"),
        {"days": chunk_days},
    )
    return [f"new chunks of measurements hold {chunk_days} days, those before {interval.days}"]


def _set_compression(connection: Connection, database: Database, after_days: int | None) -> list[str]:
    before = _scalar(
        connection,
        "SELECT (config ->> 'compress_after')::interval FROM timescaledb_information.jobs"
        f" WHERE proc_name = 'policy_compression' AND {_OF_MEASUREMENTS}",
    )
    if before == (None if after_days is None else timedelta(days=after_days)):
        return []
    if after_days is not None and _scalar(connection, "SELECT current_setting('timescaledb.license')") != "timescale":
        raise HypertableError(
            f"{database!r} has TimescaleDB without compression (timescaledb.license): "
            "unset HEIMDALL_TIMESCALE_COMPRESS_AFTER_DAYS, or install its community edition"
        )
    if before is not None:
        connection.execute(text("SELECT remove_compression_policy('heimdall.measurements')"))
    if after_days is None:
        return ["chunks of measurements are no longer compressed; compressed ones stay compressed"]
    is_enabled = f"SELECT compression_enabled FROM timescaledb_information.hypertables WHERE {_OF_MEASUREMENTS}"
    if not _scalar(connection, is_enabled):
        # By session: it is what rows are read, replaced and deleted by, and no other row is decompressed for that.
        connection.execute(
            text(
                "ALTER TABLE heimdall.measurements"
                " SET (timescaledb.compress, timescaledb.compress_segmentby = 'recording_session_id')"
            )
        )
    connection.execute(
        text("SELECT add_compression_policy('heimdall.measurements', make_interval(days => :days))"),
        {"days": after_days},
    )
    return [f"chunks of measurements are compressed after {after_days} days"]


def _retention_warnings(connection: Connection) -> list[str]:
    """Warn of a retention policy that was set by hand."""
    found = _scalar(
        connection,
        "SELECT count(*) FROM timescaledb_information.jobs"
        f" WHERE proc_name = 'policy_retention' AND {_OF_MEASUREMENTS}",
    )
    if not found:
        return []
    return [
        "Warning: measurements has a retention policy of TimescaleDB, which deletes stations of sessions that stay, so "
        "that their checks fail. Remove it with SELECT remove_retention_policy('heimdall.measurements'), and let "
        "HEIMDALL_SESSION_RETENTION_DAYS delete whole sessions"
    ]


def _scalar(connection: Connection, statement: str) -> Any:
    return connection.execute(text(statement)).scalar()
