"""Status of a deployment, and the problems in it that need attention."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from heimdall_pipelines.model.checks import Severity

MAX_HEARTBEAT_AGE_S = 90.0  # sent every 30 s; Dagster itself treats a daemon as healthy for half an hour
MAX_QUEUED_AGE_S = 60.0
MAX_BLOCKING_NAMED = 4
LOW_DISK_BYTES = 2 * 10**9  # the IQ of the first 100 samples of a dataset takes 1.1 GB

ExitCode = Literal[0, 1, 2]


@dataclass(frozen=True)
class Server:
    """Whether a server answers; ``detail`` is its version, or why it does not answer."""

    name: str
    address: str
    is_up: bool
    response_s: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Daemon:
    """A part of the Dagster daemon; the age is None if it never sent a heartbeat."""

    name: str
    heartbeat_age_s: float | None
    error: str | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the last heartbeat is fresh."""
        return self.heartbeat_age_s is not None and self.heartbeat_age_s <= MAX_HEARTBEAT_AGE_S


@dataclass(frozen=True)
class Worker:
    """A worker that answers, and the number of runs it executes."""

    name: str
    num_runs: int


@dataclass(frozen=True)
class Workers:
    """Workers on other machines, and the number of runs that wait in Redis."""

    workers: tuple[Worker, ...]
    queue: str
    num_waiting: int


@dataclass(frozen=True)
class RecentFailedRun:
    """A run that failed recently and is not retried."""

    run_id: str
    job: str
    partition: str | None
    age_s: float


@dataclass(frozen=True)
class RunInProgress:
    """A run that takes a place of the queue.

    ``process`` is that of its command, for runs that a command of `heimdall` executes; ``process_has_ended`` is None
    if there is none or it is of another machine.
    """

    run_id: str
    job: str
    partition: str | None
    age_s: float
    process: str | None = None
    process_has_ended: bool | None = None

    def __str__(self) -> str:
        what = f"{self.job} {self.partition}" if self.partition else self.job
        if self.process is None:
            return f"{what} (run {self.run_id})"
        return f"{what} (run {self.run_id} of {self.process}{', which has ended' if self.process_has_ended else ''})"


@dataclass(frozen=True)
class Runs:
    """Dagster's runs: those that are not over by status, and those that ended in the last 24 hours."""

    unfinished: Mapping[str, int]
    ended_last_24_h: Mapping[str, int]
    oldest_queued_age_s: float | None = None
    failed: tuple[RecentFailedRun, ...] = ()
    in_progress: tuple[RunInProgress, ...] = ()


@dataclass(frozen=True)
class DatasetStatus:
    """Progress of a dataset, and the result of its last validation."""

    name: str
    dataset_type: str
    num_samples: int
    target_num_samples: int
    health: str
    validation_age_s: float | None
    is_being_deleted: bool


@dataclass(frozen=True)
class SessionsStatus:
    """Recording sessions: numbers by status and health, and of those due for extraction."""

    by_status: Mapping[str, int]
    by_health: Mapping[str, int]
    due_for_extraction: int
    abandoned: tuple[str, ...]


@dataclass(frozen=True)
class FailingCheck:
    """An open incident."""

    severity: Severity
    asset: str
    check: str
    partition: str | None
    age_s: float

    def __str__(self) -> str:
        return f"{self.asset}: {self.check}" + (f", {self.partition}" if self.partition else "")


@dataclass(frozen=True)
class ChecksStatus:
    """Open incidents: their number, and the newest."""

    by_severity: Mapping[str, int]
    oldest_age_s: float | None
    newest: tuple[FailingCheck, ...]


@dataclass(frozen=True)
class BucketStatus:
    """IQ objects that rows reference, bytes without headers; each has a SigMF object beside it."""

    bucket: str
    num_objects: int
    iq_bytes: int


@dataclass(frozen=True)
class StorageStatus:
    """Used space: IQ in the buckets, and the databases on disk."""

    buckets: tuple[BucketStatus, ...]
    database_bytes: Mapping[str, int]


@dataclass(frozen=True)
class Status:
    """Status of everything. A part that could not be read is None, and ``not_read`` has the reason.

    ``disk_free_bytes`` is that of the embedded servers' disk, None without embedded servers; ``workers`` is
    also None if runs do not go to workers.
    """

    observed_at: datetime
    launcher: str
    servers: tuple[Server, ...]
    daemons: tuple[Daemon, ...] | None = None
    workers: Workers | None = None
    runs: Runs | None = None
    datasets: tuple[DatasetStatus, ...] | None = None
    sessions: SessionsStatus | None = None
    checks: ChecksStatus | None = None
    storage: StorageStatus | None = None
    disk_free_bytes: int | None = None
    max_concurrent_runs: int | None = None
    not_read: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def attention(self) -> tuple[str, ...]:
        """Problems that need attention, as text; empty without any."""
        return tuple(_attention(self))

    @property
    def exit_code(self) -> ExitCode:
        """0: no problems, 1: something needs attention, 2: something could not be read."""
        if self.not_read:
            return 2
        return 1 if self.attention else 0


def as_json(status: Status) -> dict[str, Any]:
    """Return the document that `heimdall status --json` prints; docs/operations.md describes it."""
    made = asdict(status)
    del made["remarks"]
    made["observed_at"] = status.observed_at.astimezone(UTC).isoformat()
    for daemon, as_read in zip(made["daemons"] or (), status.daemons or (), strict=True):
        daemon["is_alive"] = as_read.is_alive
    return made | {"attention": list(status.attention), "exit_code": status.exit_code}


def _attention(status: Status) -> list[str]:
    found = [f"{server.name} does not answer" for server in status.servers if not server.is_up]
    found += status.remarks
    if status.daemons is not None:
        dead = [daemon.name for daemon in status.daemons if not daemon.is_alive]
        if dead:
            found.append(
                f"no heartbeat of the Dagster daemon ({', '.join(dead)}): sensors, queue and schedules do not work"
            )
        found += [f"Dagster daemon {d.name}: {d.error}" for d in status.daemons if d.is_alive and d.error]
    if status.workers is not None and not status.workers.workers:
        found.append(f"no worker answers; {status.workers.num_waiting} runs wait in Redis: heimdall worker")
    if status.runs is not None:
        found += _blocked_queue(status.runs, status.max_concurrent_runs)
    if status.runs is not None and status.runs.failed:
        found.append(f"{_number(len(status.runs.failed), 'run')} failed in the last 24 h")
    for dataset in status.datasets or ():
        if dataset.health in ("warning", "critical"):
            found.append(f"dataset {dataset.name} is {dataset.health}: heimdall dataset repair {dataset.name}")
        if dataset.is_being_deleted:
            found.append(
                f"the deletion of dataset {dataset.name} is not finished: heimdall dataset delete {dataset.name}"
            )
    if status.sessions is not None:
        unhealthy = sum(status.sessions.by_health.get(health, 0) for health in ("warning", "critical"))
        if unhealthy:
            found.append(f"{_number(unhealthy, 'session')} not healthy: heimdall session list")
        if status.sessions.abandoned:
            found.append(f"{_number(len(status.sessions.abandoned), 'recording')} abandoned: the recorder ended")
    if status.checks is not None and status.checks.by_severity:
        found.append(
            f"{_number(sum(status.checks.by_severity.values()), 'check')} failing: heimdall alerts list --open"
        )
    if status.disk_free_bytes is not None and status.disk_free_bytes < LOW_DISK_BYTES:
        found.append(f"only {status.disk_free_bytes / 1e9:.1f} GB of the disk are free")
    return found


def _blocked_queue(runs: Runs, max_concurrent_runs: int | None) -> list[str]:
    """Name the runs that let no other run begin, and those whose command was killed."""
    dead = [run for run in runs.in_progress if run.process_has_ended]
    is_waiting = runs.oldest_queued_age_s is not None and runs.oldest_queued_age_s > MAX_QUEUED_AGE_S
    if is_waiting and max_concurrent_runs is not None and len(runs.in_progress) >= max_concurrent_runs:
        named = "; ".join(map(str, (dead or runs.in_progress)[:MAX_BLOCKING_NAMED]))
        return [
            f"the queue waits: {len(runs.in_progress)} of {max_concurrent_runs} runs are in progress "
            f"(HEIMDALL_MAX_CONCURRENT_RUNS): {named}"
        ]
    return [f"the command of a run has ended: {run}; the next command of this machine ends it" for run in dead]


def _number(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
