"""A status as Prometheus metrics: gauges in base units; parts that could not be read have no metrics."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from heimdall_pipelines.status.report import DatasetStatus, Runs, SessionsStatus, Status, StorageStatus

CACHE_S = 5.0
_HEALTHS = ("unknown", "healthy", "warning", "critical")


class StatusCollector(Collector):
    """Reads the status when it is scraped; scrapes within `CACHE_S` share one read."""

    def __init__(self, read: Callable[[], Status]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._read_at = -float("inf")
        self._metrics: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the status."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of a recent status."""
        with self._lock:
            if time.monotonic() - self._read_at >= CACHE_S:
                began = time.perf_counter()
                self._metrics = list(metrics_of(self._read()))
                duration_s = time.perf_counter() - began
                self._metrics.append(
                    _gauge("read_duration_seconds", "How long it took to read these numbers", duration_s)
                )
                self._read_at = time.monotonic()
            return self._metrics


def metrics_of(status: Status) -> Iterator[Metric]:
    """Every number of a status."""
    at_s = status.observed_at.timestamp()
    yield _by_label("up", "Whether a server answers", "server", {s.name: float(s.is_up) for s in status.servers})
    yield _by_label(
        "response_seconds",
        "Time to the server's answer",
        "server",
        {server.name: server.response_s for server in status.servers},
    )
    yield _gauge("observed_timestamp_seconds", "When these numbers were read", at_s)
    yield _gauge("unread_parts", "Parts that could not be read; their metrics are missing", len(status.not_read))
    yield _gauge("attention_reasons", "Problems that need attention; heimdall status lists them", len(status.attention))
    if status.daemons is not None:
        alive = {daemon.name: float(daemon.is_alive) for daemon in status.daemons}
        yield _by_label("daemon_up", "Whether a Dagster daemon sent a heartbeat recently", "daemon", alive)
        yield _by_label(
            "daemon_heartbeat_timestamp_seconds",
            "Last heartbeat of a Dagster daemon",
            "daemon",
            {d.name: None if d.heartbeat_age_s is None else at_s - d.heartbeat_age_s for d in status.daemons},
        )
    if status.workers is not None:
        yield _gauge("workers", "Workers that answer", len(status.workers.workers))
        runs_of = {worker.name: float(worker.num_runs) for worker in status.workers.workers}
        yield _by_label("worker_runs", "Runs that a worker executes", "worker", runs_of)
        waiting = {status.workers.queue: float(status.workers.num_waiting)}
        yield _by_label("queue_runs", "Runs that wait in Redis for a worker", "queue", waiting)
    if status.runs is not None:
        yield from _runs(status.runs, at_s)
    if status.datasets is not None:
        yield from _datasets(status.datasets, at_s)
    if status.sessions is not None:
        yield from _sessions(status.sessions)
    if status.checks is not None:
        failing = {severity: status.checks.by_severity.get(severity, 0) for severity in ("WARN", "ERROR")}
        yield _by_label("failing_checks", "Checks whose last evaluation failed", "severity", failing)
        if status.checks.oldest_age_s is not None:
            yield _gauge(
                "oldest_failing_check_timestamp_seconds",
                "First failure of the check that fails the longest",
                at_s - status.checks.oldest_age_s,
            )
    if status.storage is not None:
        yield from _storage(status.storage)
    if status.disk_free_bytes is not None:
        yield _gauge("disk_free_bytes", "Free on the disk of the embedded servers", status.disk_free_bytes)


def _runs(runs: Runs, at_s: float) -> Iterator[Metric]:
    yield _by_label("runs", "Dagster runs that are not over", "status", runs.unfinished)
    yield _by_label("runs_ended_last_day", "Dagster runs that ended in 24 h", "status", runs.ended_last_24_h)
    if runs.oldest_queued_age_s is not None:
        oldest_s = at_s - runs.oldest_queued_age_s
        yield _gauge("oldest_queued_run_timestamp_seconds", "When the run that waits longest was queued", oldest_s)


def _datasets(datasets: Sequence[DatasetStatus], at_s: float) -> Iterator[Metric]:
    made = {dataset.name: dataset.num_samples for dataset in datasets}
    yield _by_label("dataset_samples", "Samples of a synthetic dataset that are committed", "dataset", made)
    targets = {dataset.name: dataset.target_num_samples for dataset in datasets}
    yield _by_label("dataset_target_samples", "Samples that the dataset should have", "dataset", targets)
    validated = {d.name: None if d.validation_age_s is None else at_s - d.validation_age_s for d in datasets}
    yield _by_label("dataset_validation_timestamp_seconds", "Last validation of the dataset", "dataset", validated)
    family = GaugeMetricFamily(
        "heimdall_dataset_health", "1 for what the last validation of the dataset found", labels=["dataset", "health"]
    )
    for dataset in datasets:
        for health in _HEALTHS:
            family.add_metric([dataset.name, health], float(dataset.health == health))
    yield family


def _sessions(sessions: SessionsStatus) -> Iterator[Metric]:
    yield _by_label("sessions", "Recording sessions", "status", sessions.by_status)
    yield _by_label("completed_sessions", "Completed sessions by their last validation", "health", sessions.by_health)
    yield _gauge("sessions_due", "Completed sessions whose features are not extracted", sessions.due_for_extraction)
    yield _gauge("sessions_abandoned", "Recordings whose recorder has ended", len(sessions.abandoned))


def _storage(storage: StorageStatus) -> Iterator[Metric]:
    objects = {bucket.bucket: bucket.num_objects for bucket in storage.buckets}
    yield _by_label("bucket_objects", "Objects of a bucket that rows reference", "bucket", objects)
    iq_bytes = {bucket.bucket: bucket.iq_bytes for bucket in storage.buckets}
    yield _by_label("bucket_iq_bytes", "IQ of a bucket that rows reference", "bucket", iq_bytes)
    yield _by_label("database_bytes", "Bytes of a database on disk", "database", storage.database_bytes)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"heimdall_{name}", documentation, value=value)


def _by_label(name: str, documentation: str, label: str, values: Mapping[str, float | None]) -> Metric:
    family = GaugeMetricFamily(f"heimdall_{name}", documentation, labels=[label])
    for of, value in values.items():
        if value is not None:
            family.add_metric([of], value)
    return family
