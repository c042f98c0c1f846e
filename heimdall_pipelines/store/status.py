"""Counts for `heimdall status`, in queries that stay fast on millions of rows: no feature or IQ rows are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from heimdall_pipelines.store.alerts import IS_OPEN_SQL
from heimdall_pipelines.store.iq_form import SAMPLE_BYTES, IqForm
from heimdall_pipelines.store.reading import Reading
from heimdall_pipelines.store.session_revisions import IS_COMPLETED_SQL


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


def server_version(database: Reading) -> str:
    """Version of PostgreSQL."""
    (row,) = database.read("SHOW server_version")
    return str(row.server_version).split(" ")[0]


def database_bytes(database: Reading, names: Sequence[str]) -> dict[str, int]:
    """Bytes on disk of those databases that exist and that this role may connect to."""
    rows = database.read(
        "SELECT datname, pg_database_size(oid) AS size FROM pg_database"
        " WHERE datname = ANY(%(names)s) AND has_database_privilege(oid, 'CONNECT') ORDER BY datname",
        {"names": list(names)},
    )
    return {row.datname: int(row.size) for row in rows}


def count_sessions(database: Reading) -> SessionCounts:
    """Count recording sessions, except those being deleted."""
    by_status: dict[str, int] = {}
    by_health: dict[str, int] = {}
    for row in database.read(
        "SELECT status, health_status, count(*) AS number FROM heimdall.recording_sessions"
        " WHERE deletion_began_at IS NULL GROUP BY status, health_status ORDER BY status, health_status"
    ):
        by_status[row.status] = by_status.get(row.status, 0) + row.number
        if row.status == "completed":
            by_health[row.health_status] = by_health.get(row.health_status, 0) + row.number
    # A subquery with LIMIT is looked up by index for each session; as NOT EXISTS, PostgreSQL may choose to read
    # all features, those of synthetic samples too.
    (due,) = database.read(
        f"SELECT count(*) AS number FROM heimdall.recording_sessions s WHERE {IS_COMPLETED_SQL}"
        " AND (SELECT 1 FROM heimdall.measurement_features f WHERE f.recording_session_id = s.id"
        " AND f.session_revision = s.revision LIMIT 1) IS NULL"
    )
    return SessionCounts(by_status, by_health, int(due.number))


def count_open_incidents(database: Reading) -> OpenIncidents:
    """Count checks that fail."""
    rows = database.read(
        "SELECT severity, count(*) AS number, min(raised_at) AS oldest FROM heimdall.alerts"
        f" WHERE {IS_OPEN_SQL} GROUP BY severity ORDER BY severity"
    )
    oldest = min((row.oldest for row in rows), default=None)
    return OpenIncidents({row.severity: row.number for row in rows}, oldest)


def recorded_iq(database: Reading) -> tuple[int, int]:
    """Number of recorded IQ objects with their SigMF objects, by measurements, and bytes of their samples."""
    (row,) = database.read(
        "SELECT coalesce(sum(CASE WHEN iq_data_format = 'npy'"
        " OR right(iq_data_location, length(%(suffix)s)) = %(suffix)s THEN 2 ELSE 1 END), 0) AS objects,"
        " coalesce(sum(samples_count), 0) * %(width)s AS bytes"
        " FROM heimdall.measurements WHERE iq_data_location IS NOT NULL",
        {"width": SAMPLE_BYTES, "suffix": IqForm.SIGMF.suffix},
    )
    return int(row.objects), int(row.bytes)


def samples_below(database: Reading, sample_idx: int) -> dict[UUID, int]:
    """Committed samples of each dataset below an index, by its batches."""
    rows = database.read(
        "SELECT dataset_id, sum(least(num_samples, %(below)s - first_sample_idx)) AS number"
        " FROM heimdall.synthetic_batches WHERE first_sample_idx < %(below)s GROUP BY dataset_id",
        {"below": sample_idx},
    )
    return {row.dataset_id: int(row.number) for row in rows}
