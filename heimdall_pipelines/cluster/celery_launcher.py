"""Runs as Celery tasks: launched, cancelled, and found dead when their worker is."""

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

CANCEL_ANSWER_WITHIN_S = 2.0  # somebody waits for it
MISSES_OF_A_DEAD_RUN = 2
_BROKER_ERRORS = (OperationalError, redis.RedisError, OSError)


class WorkersRunLauncher(CeleryRunLauncher):
    """Dagster-celery's launcher, with runs that stay cancelled and dead workers that are noticed.

    A run's task has the id of the run, so that workers can be asked for it whatever became of its tags.
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
        """Hand a run to the workers; where Redis does not answer, it goes back to Dagster's queue."""
        try:
            super().launch_run(context)
        except _BROKER_ERRORS as error:
            # The one error after which the queue tries again, instead of failing the run.
            raise DagsterUserCodeUnreachableError(
                f"Redis (HEIMDALL_REDIS_URL) does not take the run: {error}"
            ) from error

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: celery.Signature, routing_key: str) -> None:
        super()._launch_celery_task_run(run, task_signature.set(task_id=run.run_id), routing_key)

    def terminate(self, run_id: str) -> bool:
        """Cancel a run, wherever it is.

        Its process looks into the database and ends itself; no signal is sent, which could hit the next run of that
        process. A run that still waits in Redis is cancelled at once: the worker that gets it lets it fall.
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
            answers = self.celery.control.inspect(timeout=CANCEL_ANSWER_WITHIN_S).query_task(run_id) or {}
        except _BROKER_ERRORS:
            return False  # run monitoring ends it after cancel_timeout_seconds
        return not any(answers.values())

    @property
    def supports_resume_run(self) -> bool:
        """Runs are not taken up in the middle: they are regenerated whole."""
        return False

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Tell whether a worker has a started run; lost is what no worker had in two looks, one after the other."""
        return self._health.check(run.run_id)

    def get_run_worker_debug_info(
        self,
        run: dg.DagsterRun,
        include_container_logs: bool | None = True,  # noqa: ARG002
    ) -> str | None:
        """Say what is known of the run beside its events, for the message that it failed with."""
        return f"Celery task {run.run_id}; see the log of the worker that had it"


class WorkerHealth:
    """Asks all workers together which runs they execute, and the runs for a heartbeat; remembers who was missed.

    Run monitoring asks for each run; the answer of the workers, for which one has to wait, serves all that ask soon
    after. While Redis does not answer, and until every run has had the time to leave a sign in it again, nobody is
    missed.

    Parameters
    ----------
    app
        The app of the workers.
    signs
        Where runs leave their signs.
    answer_timeout_s
        How long the workers are given to answer, and how long their answer serves.
    """

    def __init__(self, app: celery.Celery, signs: redis.Redis, answer_timeout_s: float) -> None:
        self._app = app
        self._signs = signs
        self._answer_timeout_s = answer_timeout_s
        self._lock = threading.Lock()
        self._active: Collection[str] = ()
        self._looked_at = -float("inf")
        self._complete_from = time.monotonic() + heartbeat.LASTS_S
        self._missed: dict[str, tuple[int, float]] = {}

    def check(self, run_id: str) -> CheckRunHealthResult:
        """Whether a run that was started is still executed."""
        with self._lock:
            if self._may_be_alive(run_id):
                self._missed.pop(run_id, None)
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            num_misses, missed_at = self._missed.get(run_id, (0, -float("inf")))
            if missed_at != self._looked_at:
                num_misses += 1
                self._missed[run_id] = (num_misses, self._looked_at)
            if num_misses < MISSES_OF_A_DEAD_RUN:
                return CheckRunHealthResult(WorkerStatus.RUNNING, "no worker has it; asked once more before it is lost")
            del self._missed[run_id]
            return CheckRunHealthResult(WorkerStatus.FAILED, "No worker has this run any more: its worker died.")

    def _may_be_alive(self, run_id: str) -> bool:
        self._look()
        if run_id in self._active or self._looked_at < self._complete_from:
            return True
        try:
            return heartbeat.is_alive(self._signs, run_id)
        except _BROKER_ERRORS:
            self._raise_redis_unavailable()
            return True

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < self._answer_timeout_s:
            return
        try:
            answers = self._app.control.inspect(timeout=self._answer_timeout_s).active()
        except _BROKER_ERRORS:
            self._raise_redis_unavailable()
            answers = None
        self._looked_at = time.monotonic()
        self._active = {task["id"] for tasks in (answers or {}).values() for task in tasks}

    def _raise_redis_unavailable(self) -> None:
        self._complete_from = time.monotonic() + heartbeat.LASTS_S
