"""Counts for `heimdall status`, in queries that stay fast on millions of rows: no feature or IQ rows are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from heimdall_pipelines.store.database import Database

_BYTES_PER_SAMPLE = 8  # complex64


@dataclass(frozen=True)
class SessionCounts:
    """Numbers of sessions by status, of completed ones by health, and of those due for extraction."""

    by_status: Mapping[str, int]
    by_health: Mapping[str, int]
    due_for_extraction: int


@dataclass(frozen=True)
class OpenIncidents:
    """Number of open incidents by severity, and when the oldest was raised."""

    by_severity: Mapping[str, int]
    oldest_raised_at: datetime | None


def server_version(database: Database) -> str:
    """Version of PostgreSQL."""
    with database.transaction() as connection:
        return str(connection.execute(text("SHOW server_version")).scalar_one()).split(" ")[0]


def database_bytes(database: Database, names: Sequence[str]) -> dict[str, int]:
    """Bytes on disk of those databases that exist and that this role may connect to."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT datname, pg_database_size(oid) AS size FROM pg_database"
                " WHERE datname = ANY(:names) AND has_database_privilege(oid, 'CONNECT') ORDER BY datname"
            ),
            {"names": list(names)},
        )
        return {row.datname: int(row.size) for row in rows}


def count_sessions(database: Database) -> SessionCounts:
    """Count recording sessions, except those being deleted."""
    with database.transaction() as connection:
        by_status: dict[str, int] = {}
        by_health: dict[str, int] = {}
        for row in connection.execute(
            text(
                "SELECT status, health_status, count(*) AS number FROM heimdall.recording_sessions"
                " WHERE deletion_began_at IS NULL GROUP BY status, health_status ORDER BY status, health_status"
            )
        ):
            by_status[row.status] = by_status.get(row.status, 0) + row.number
            if row.status == "completed":
                by_health[row.health_status] = by_health.get(row.health_status, 0) + row.number
        # A subquery with LIMIT is looked up by index for each session; as NOT EXISTS, PostgreSQL may choose to read
        # all features, those of synthetic samples too.
        due = connection.execute(
            text(
                "SELECT count(*) FROM heimdall.recording_sessions s"
                " WHERE s.status = 'completed' AND s.deletion_began_at IS NULL"
                " AND (SELECT 1 FROM heimdall.measurement_features f WHERE f.recording_session_id = s.id"
                " AND f.session_revision = s.revision LIMIT 1) IS NULL"
            )
        ).scalar_one()
    return SessionCounts(by_status, by_health, int(due))


def count_open_incidents(database: Database) -> OpenIncidents:
    """Count checks that fail."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT severity, count(*) AS number, min(raised_at) AS oldest FROM heimdall.alerts"
                " WHERE kind = 'failed_check' AND recovered_at IS NULL AND closed_at IS NULL"
                " GROUP BY severity ORDER BY severity"
            )
        ).all()
    oldest = min((row.oldest for row in rows), default=None)
    return OpenIncidents({row.severity: row.number for row in rows}, oldest)


def recorded_iq(database: Database) -> tuple[int, int]:
    """Number of recorded IQ objects with their SigMF objects, by measurements, and bytes of their samples."""
    with database.transaction() as connection:
        row = connection.execute(
            text(
                "SELECT coalesce(sum(CASE iq_data_format WHEN 'npy' THEN 2 ELSE 1 END), 0) AS objects,"
                " coalesce(sum(samples_count), 0) * :width AS bytes"
                " FROM heimdall.measurements WHERE iq_data_location IS NOT NULL"
            ),
            {"width": _BYTES_PER_SAMPLE},
        ).one()
    return int(row.objects), int(row.bytes)


def samples_below(database: Database, sample_idx: int) -> dict[UUID, int]:
    """Committed samples of each dataset below an index, by its batches."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT dataset_id, sum(least(num_samples, :below - first_sample_idx)) AS number"
                " FROM heimdall.synthetic_batches WHERE first_sample_idx < :below GROUP BY dataset_id"
            ),
            {"below": sample_idx},
        )
        return {row.dataset_id: int(row.number) for row in rows}
