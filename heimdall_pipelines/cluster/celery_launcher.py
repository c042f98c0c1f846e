"""Runs as Celery tasks: launch, cancellation, and detection of dead workers."""

import threading
import time
from collections.abc import Collection

import celery
import dagster as dg
import redis
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._serdes import ConfigurableClassData
from dagster_celery.launcher import CeleryRunLauncher
from kombu.exceptions import OperationalError

from heimdall_pipelines.cluster import heartbeat
from heimdall_pipelines.cluster.celery_settings import app_args
from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines.status.run_tags import PROCESS_TAG

CANCEL_ANSWER_TIMEOUT_S = 2.0  # a person waits for it
MISSES_OF_A_DEAD_RUN = 2
_BROKER_ERRORS = (OperationalError, redis.RedisError, OSError)


class WorkersRunLauncher(CeleryRunLauncher):
    """Dagster-celery's launcher; cancelled runs stay cancelled, and dead workers are detected.

    A run's task has the id of the run, so that workers can be queried for it without the run's tags.
    """

    def __init__(
        self, settings: LocalSettings, *, answer_timeout_s: float, inst_data: ConfigurableClassData | None = None
    ) -> None:
        arguments = app_args(settings)
        super().__init__(
            default_queue=arguments["task_default_queue"],
            broker=arguments["broker"],
            backend=arguments["backend"],
            config_source=arguments["config_source"],
            inst_data=inst_data,
        )
        self._health = WorkerHealth(self.celery, heartbeat.heartbeats_in(settings), answer_timeout_s)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Send a run to the workers; if Redis does not answer, it returns to Dagster's queue."""
        try:
            super().launch_run(context)
        except _BROKER_ERRORS as error:
            # The only error after which the queue retries instead of failing the run.
            raise DagsterUserCodeUnreachableError(
                f"Redis (HEIMDALL_REDIS_URL) does not accept the run: {error}"
            ) from error

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: celery.Signature, routing_key: str) -> None:
        super()._launch_celery_task_run(run, task_signature.set(task_id=run.run_id), routing_key)

    def terminate(self, run_id: str) -> bool:
        """Cancel a run in any state.

        Its process reads the state in the database and ends itself. No signal is sent, since it could reach the next
        run of that process. A run that still waits in Redis is cancelled at once; the worker that gets it discards it.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if run.status is not dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceling(run)
        if run.status is dg.DagsterRunStatus.STARTING and self._is_only_queued(run_id):
            self._instance.report_run_canceled(run)
        return True

    def _is_only_queued(self, run_id: str) -> bool:
        try:
            self.celery.control.revoke(run_id)
            answers = self.celery.control.inspect(timeout=CANCEL_ANSWER_TIMEOUT_S).query_task(run_id) or {}
        except _BROKER_ERRORS:
            return False  # run monitoring ends it after cancel_timeout_seconds
        return not any(answers.values())

    @property
    def supports_resume_run(self) -> bool:
        """Runs are not resumed: they are executed again from the start."""
        return False

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Check whether a worker has a started run; a run is lost when no worker has it in two checks in a row.

        A run of a command is in no worker: the sensor `lost_runs` checks its process.
        """
        if PROCESS_TAG in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return self._health.check(run.run_id)

    def get_run_worker_debug_info(
        self,
        run: dg.DagsterRun,
        include_container_logs: bool | None = True,  # noqa: ARG002
    ) -> str | None:
        """Return what is known of the run besides its events, for the failure message."""
        return f"Celery task {run.run_id}; see the log of the worker that had it"


class WorkerHealth:
    """Queries all workers for the runs they execute, and Redis for the runs' heartbeats; remembers missing runs.

    Run monitoring checks each run. One answer of the workers, which takes a while, serves all checks shortly after it.
    While Redis does not answer, and until every run has had time to send a heartbeat again, no run counts as missing.

    Parameters
    ----------
    app
        The app of the workers.
    heartbeats
        Where runs store their heartbeats.
    answer_timeout_s
        Timeout of the workers' answer, and how long the answer is valid.
    """

    def __init__(self, app: celery.Celery, heartbeats: redis.Redis, answer_timeout_s: float) -> None:
        self._app = app
        self._heartbeats = heartbeats
        self._answer_timeout_s = answer_timeout_s
        self._lock = threading.Lock()
        self._active: Collection[str] = ()
        self._queried_at = -float("inf")
        self._complete_from = time.monotonic() + heartbeat.LIFETIME_S
        self._missed: dict[str, tuple[int, float]] = {}

    def check(self, run_id: str) -> CheckRunHealthResult:
        """Whether a run that was started is still executed."""
        with self._lock:
            if self._may_be_alive(run_id):
                self._missed.pop(run_id, None)
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            num_misses, missed_at = self._missed.get(run_id, (0, -float("inf")))
            if missed_at != self._queried_at:
                num_misses += 1
                self._missed[run_id] = (num_misses, self._queried_at)
            if num_misses < MISSES_OF_A_DEAD_RUN:
                return CheckRunHealthResult(
                    WorkerStatus.RUNNING, "no worker has it; it is lost if the next check does not find it"
                )
            del self._missed[run_id]
            return CheckRunHealthResult(WorkerStatus.FAILED, "No worker has this run any more: its worker died.")

    def _may_be_alive(self, run_id: str) -> bool:
        self._query_workers()
        if run_id in self._active or self._queried_at < self._complete_from:
            return True
        try:
            return heartbeat.is_alive(self._heartbeats, run_id)
        except _BROKER_ERRORS:
            self._note_redis_unavailable()
            return True

    def _query_workers(self) -> None:
        if time.monotonic() - self._queried_at < self._answer_timeout_s:
            return
        try:
            answers = self._app.control.inspect(timeout=self._answer_timeout_s).active()
        except _BROKER_ERRORS:
            self._note_redis_unavailable()
            answers = None
        self._queried_at = time.monotonic()
        self._active = {task["id"] for tasks in (answers or {}).values() for task in tasks}

    def _note_redis_unavailable(self) -> None:
        self._complete_from = time.monotonic() + heartbeat.LIFETIME_S
