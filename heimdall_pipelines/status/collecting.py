"""Collects the status: first which servers answer, then the data of those that do."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from heimdall_pipelines.datasets.samples import NUM_KEPT_IQ
from heimdall_pipelines.sessions.abandoned import SILENT_FOR_S
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.status.bounded import Unavailable, collect_with_timeout
from heimdall_pipelines.status.report import (
    BucketStatus,
    ChecksStatus,
    Daemon,
    DatasetStatus,
    FailingCheck,
    Runs,
    SessionsStatus,
    Status,
    StorageStatus,
)
from heimdall_pipelines.status.servers import POSTGRES, REDIS, schema_remark, servers_status, workers_status
from heimdall_pipelines.store.alerts import list_alerts
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.datasets import Dataset, list_datasets
from heimdall_pipelines.store.recordings import abandoned_sessions
from heimdall_pipelines.store.status import (
    count_open_incidents,
    count_sessions,
    database_bytes,
    recorded_iq,
    samples_below,
)

READ_TIMEOUT_S = 10.0
MAX_CHECKS_NAMED = 10
_COMPLEX64_BYTES = 8


@dataclass(frozen=True)
class DagsterStatus:
    """Daemons and runs, read from Dagster's instance."""

    daemons: tuple[Daemon, ...]
    runs: Runs


def collect_status(settings: Settings, dagster_status: Callable[[datetime], DagsterStatus]) -> Status:
    """Read servers, runs, datasets, sessions, checks and storage; an outage affects only its part.

    Parameters
    ----------
    settings : Settings
        Of a deployment or of running embedded servers.
    dagster_status : callable
        Reads Dagster's instance, with ages relative to its argument; may raise any error.

    Returns
    -------
    Status
        After at most `servers.ANSWER_TIMEOUT_S` + `READ_TIMEOUT_S`, even if servers hang.
    """
    with Database(settings) as database:
        now = datetime.now(UTC)
        servers = servers_status(settings, database)
        up = {server.name for server in servers if server.is_up}
        reads: dict[str, Callable[[], Any]] = {}
        if POSTGRES in up:
            reads = {
                "runs": lambda: dagster_status(now),
                "schema": lambda: schema_remark(database),
                "datasets": lambda: datasets_status(database, now),
                "sessions": lambda: sessions_status(database),
                "checks": lambda: checks_status(database, now),
                "storage": lambda: storage_status(settings, database),
            }
        redis_url = settings.redis_url
        if settings.run_launcher == "celery" and redis_url is not None and REDIS in up:
            reads["workers"] = lambda: workers_status(redis_url.get_secret_value())
        found = collect_with_timeout(READ_TIMEOUT_S, reads)
    wanted = {"runs", "datasets", "sessions", "checks", "storage"}
    if settings.run_launcher == "celery":
        wanted.add("workers")
    seen = {name: answer for name, answer in found.items() if not isinstance(answer, Unavailable)}
    reasons = {name: answer.reason for name, answer in found.items() if isinstance(answer, Unavailable)}
    for name in sorted(wanted - found.keys()):
        reasons[name] = f"{REDIS if name == 'workers' else POSTGRES} does not answer"
    dagster = seen.get("runs")
    return Status(
        looked_at=now,
        launcher=settings.run_launcher,
        servers=servers,
        daemons=None if dagster is None else dagster.daemons,
        runs=None if dagster is None else dagster.runs,
        workers=seen.get("workers"),
        datasets=seen.get("datasets"),
        sessions=seen.get("sessions"),
        checks=seen.get("checks"),
        storage=seen.get("storage"),
        disk_free_bytes=_disk_free_bytes(settings),
        not_read=tuple(f"{name}: {reason}" for name, reason in sorted(reasons.items())),
        remarks=(seen["schema"],) if seen.get("schema") else (),
    )


def datasets_status(database: Database, now: datetime) -> tuple[DatasetStatus, ...]:
    """Progress of each dataset, oldest first, from the counts stored with it."""
    return tuple(
        DatasetStatus(
            dataset.name,
            dataset.dataset_type,
            dataset.num_samples,
            dataset.target_num_samples,
            dataset.health_status,
            _age_s(dataset.last_validated_at, now),
            dataset.deletion_began_at is not None,
        )
        for dataset in list_datasets(database)
    )


def sessions_status(database: Database) -> SessionsStatus:
    """Count recording sessions, and name the abandoned ones."""
    counts = count_sessions(database)
    abandoned = tuple(session.slug for session in abandoned_sessions(database, SILENT_FOR_S))
    return SessionsStatus(counts.by_status, counts.by_health, counts.due_for_extraction, abandoned)


def checks_status(database: Database, now: datetime) -> ChecksStatus:
    """Count the open incidents, and name the newest."""
    counts = count_open_incidents(database)
    newest = tuple(
        FailingCheck(
            overview.alert.severity,
            overview.alert.asset or "",
            overview.alert.check_name or "",
            overview.alert.partition,
            (now - overview.alert.raised_at).total_seconds(),
        )
        for overview in list_alerts(database, MAX_CHECKS_NAMED, only_open=True)
    )
    return ChecksStatus(counts.by_severity, _age_s(counts.oldest_raised_at, now), newest)


def storage_status(settings: Settings, database: Database) -> StorageStatus:
    """Sum up the objects that rows reference, and the bytes of the databases on disk; no bucket is listed.

    For a dataset with random receivers per sample, their mean number counts.
    """
    kept = samples_below(database, NUM_KEPT_IQ)
    num_objects = iq_bytes = 0
    for dataset in list_datasets(database):
        spec = dataset.spec
        num_iq = dataset.num_samples if spec.dataset_type == "iq_raw" else kept.get(dataset.id, 0)
        num_files = round(num_iq * _receivers_of_sample(dataset))
        num_objects += 2 * num_files
        iq_bytes += num_files * spec.num_iq_samples * _COMPLEX64_BYTES
    buckets = (
        BucketStatus(settings.s3_bucket_raw_iq, *recorded_iq(database)),
        BucketStatus(settings.s3_bucket_synthetic_iq, num_objects, iq_bytes),
    )
    return StorageStatus(buckets, database_bytes(database, [settings.pg_database, settings.pg_dagster_database]))


def _receivers_of_sample(dataset: Dataset) -> float:
    spec = dataset.spec
    if spec.use_random_receivers:
        return (spec.min_receivers_count + spec.max_receivers_count) / 2
    return len(dataset.receivers)


def _disk_free_bytes(settings: Settings) -> int | None:
    """Free space of the embedded servers' disk; None unless their folder is on this machine."""
    return shutil.disk_usage(settings.home).free if (settings.home / "credentials.json").is_file() else None


def _age_s(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()
