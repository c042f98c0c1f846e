"""Collects the status: first which servers answer, then the data of those that do."""

import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from heimdall_pipelines.datasets.limits import NUM_KEPT_IQ
from heimdall_pipelines.model.dataset_parameters import stored_parameter
from heimdall_pipelines.sessions.limits import SILENT_FOR_S
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.status.bounded import Unavailable, collect_with_timeout
from heimdall_pipelines.status.dagster_ui import DagsterStatus, UiAnswerError, status_of_ui
from heimdall_pipelines.status.report import (
    BucketStatus,
    ChecksStatus,
    DatasetStatus,
    FailingCheck,
    SessionsStatus,
    Status,
    StorageStatus,
)
from heimdall_pipelines.status.servers import POSTGRES, REDIS, UI, schema_remark, servers_status, workers_status
from heimdall_pipelines.store.alerts import list_alerts
from heimdall_pipelines.store.datasets import Dataset, list_datasets
from heimdall_pipelines.store.reading import Reader, Reading
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

DagsterReader = Callable[[datetime], DagsterStatus]


def collect_status(settings: Settings, load_dagster: Callable[[], DagsterReader]) -> Status:
    """Read servers, runs, datasets, sessions, checks and storage; an outage affects only its part.

    Parameters
    ----------
    settings : Settings
        Of a deployment or of running embedded servers.
    load_dagster : callable
        Loads Dagster and returns a function that reads its instance, with ages relative to its argument; that may
        raise any error. Not called if the Dagster UI answers.

    Returns
    -------
    Status
        After at most `servers.ANSWER_TIMEOUT_S` + `READ_TIMEOUT_S`, even if servers hang, and the time to load Dagster.
    """
    now = datetime.now(UTC)
    servers = servers_status(settings)
    up = {server.name for server in servers if server.is_up}
    connections = threading.BoundedSemaphore(settings.pg_pool_size)

    def read(part: Callable[[Reading], Any]) -> Any:
        """Read with a connection of its own: a part that hangs does not delay the others."""
        with connections, Reader(settings) as database:
            return part(database)

    reads: dict[str, Callable[[], Any]] = {}
    if POSTGRES in up:
        ui_answers = any(server.name == UI and server.is_up and not server.detail for server in servers)
        runs = _dagster_reader(settings.ui_url if ui_answers else None, load_dagster)
        reads = {
            "runs": lambda: runs(now),
            "schema": lambda: read(schema_remark),
            "datasets": lambda: read(lambda database: datasets_status(database, now)),
            "sessions": lambda: read(sessions_status),
            "checks": lambda: read(lambda database: checks_status(database, now)),
            "storage": lambda: read(lambda database: storage_status(settings, database)),
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
        observed_at=now,
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
        max_concurrent_runs=settings.max_concurrent_runs,
        not_read=tuple(f"{name}: {reason}" for name, reason in sorted(reasons.items())),
        remarks=(seen["schema"],) if seen.get("schema") else (),
    )


def _dagster_reader(ui_url: str | None, load_dagster: Callable[[], DagsterReader]) -> DagsterReader:
    if ui_url is None:
        return load_dagster()  # not in a thread, where it would have a timeout

    def from_ui_or_instance(now: datetime) -> DagsterStatus:
        try:
            return status_of_ui(ui_url, now)
        except UiAnswerError:  # something else answers at this address
            return load_dagster()(now)

    return from_ui_or_instance


def datasets_status(database: Reading, now: datetime) -> tuple[DatasetStatus, ...]:
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


def sessions_status(database: Reading) -> SessionsStatus:
    """Count recording sessions, and name the abandoned ones."""
    counts = count_sessions(database)
    abandoned = tuple(session.slug for session in abandoned_sessions(database, SILENT_FOR_S))
    return SessionsStatus(counts.by_status, counts.by_health, counts.due_for_extraction, abandoned)


def checks_status(database: Reading, now: datetime) -> ChecksStatus:
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


def storage_status(settings: Settings, database: Reading) -> StorageStatus:
    """Sum up the objects that rows reference, and the bytes of the databases on disk; no bucket is listed.

    For a dataset with random receivers per sample, their mean number counts.
    """
    kept = samples_below(database, NUM_KEPT_IQ)
    num_objects = iq_bytes = 0
    for dataset in list_datasets(database):
        keeps_all = dataset.dataset_type == "iq_raw"
        num_iq = dataset.num_samples if keeps_all else kept.get(dataset.id, 0)
        num_files = round(num_iq * _receivers_of_sample(dataset))
        num_objects += 2 * num_files
        iq_bytes += num_files * _num_iq_samples(dataset) * _COMPLEX64_BYTES
    buckets = (
        BucketStatus(settings.s3_bucket_raw_iq, *recorded_iq(database)),
        BucketStatus(settings.s3_bucket_synthetic_iq, num_objects, iq_bytes),
    )
    return StorageStatus(buckets, database_bytes(database, [settings.pg_database, settings.pg_dagster_database]))


def _receivers_of_sample(dataset: Dataset) -> float:
    if stored_parameter(dataset.spec_json, "use_random_receivers"):
        fewest, most = (stored_parameter(dataset.spec_json, f"{name}_receivers_count") for name in ("min", "max"))
        return float(fewest + most) / 2
    return len(dataset.receivers)


def _num_iq_samples(dataset: Dataset) -> int:
    rate_hz, duration_ms = (
        int(stored_parameter(dataset.spec_json, name)) for name in ("sample_rate_hz", "duration_ms")
    )
    return round(rate_hz * duration_ms / 1e3)


def _disk_free_bytes(settings: Settings) -> int | None:
    """Free space of the embedded servers' disk; None unless their folder is on this machine."""
    return shutil.disk_usage(settings.home).free if (settings.home / "credentials.json").is_file() else None


def _age_s(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()
