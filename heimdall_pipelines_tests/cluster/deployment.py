"""A deployment for tests: the daemon and workers as processes of their own, on real PostgreSQL, S3 and Redis."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import yaml

from heimdall_pipelines.cli.environment import PROJECT_FOLDER
from heimdall_pipelines.settings import ENV_PREFIX, Settings
from heimdall_pipelines_tests.conftest import environment_of, execute_on_server
from heimdall_pipelines_tests.dev_server import HEIMDALL, TIMEOUT_S, wait_for
from heimdall_pipelines_tests.redis_server import RedisServer
from heimdall_pipelines_tests.shared_stack import PROCESS

# Short intervals of Dagster, so that tests do not wait for minutes.
FAST = {
    "run_launcher": {"config": {"worker_answer_timeout_seconds": 1}},
    "run_monitoring": {"poll_interval_seconds": 2},
    "run_coordinator": {"config": {"user_code_failure_retry_delay": 1}},
}
READY = "ready."
FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


def changed(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with some values replaced, level by level."""
    return config | {
        key: changed(config[key], value) if isinstance(value, Mapping) else value for key, value in changes.items()
    }


class Deployment:
    """Processes that share PostgreSQL, S3 and Redis; each is ended at the end in any case."""

    def __init__(
        self, folder: Path, settings: Settings, redis: RedisServer, changes: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.redis = redis
        self.settings = settings.model_copy(
            update={
                "pg_dagster_database": f"{settings.pg_database}_dagster",
                "s3_bucket_compute_logs": f"test-logs-{PROCESS}",
            }
        )
        self.environment = environment_of(self.settings) | {
            "HEIMDALL_RUN_LAUNCHER": "celery",
            "HEIMDALL_REDIS_URL": redis.url,
            "HEIMDALL_MAX_CONCURRENT_RUNS": "6",  # so that no summary in Redis keeps what a test waits for in the queue
            "HEIMDALL_MAX_GENERATION_RUNS": "2",
            "HEIMDALL_WORKERS": "2",
            **(changes or {}),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def home(self, name: str) -> Path:
        """A machine's DAGSTER_HOME, with the project's dagster.yaml but for the intervals."""
        home = self.folder / name
        if not home.exists():
            home.mkdir()
            config = yaml.safe_load((PROJECT_FOLDER / "dagster.yaml").read_text())
            (home / "dagster.yaml").write_text(yaml.safe_dump(changed(config, FAST)))
        return home

    def start(self, name: str, *command: str, prefix: Sequence[str] = (), **environment: str) -> None:
        """Start a process as of a machine of its own; what it prints is kept."""
        assert not self.is_running(name), f"{name} runs already"
        outside = {name: value for name, value in os.environ.items() if not name.startswith((ENV_PREFIX, "DAGSTER_"))}
        own = {"DAGSTER_HOME": str(self.home(name)), "PYTHONUNBUFFERED": "1"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*prefix, *command],
                cwd=PROJECT_FOLDER,
                env=outside | self.environment | own | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_running(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def start_daemon(self) -> None:
        workspace = str(PROJECT_FOLDER / "workspace.yaml")
        self.start("daemon", sys.executable, "-m", "dagster._daemon", "run", "-w", workspace)

    def launch_worker(self, name: str, *, slots: int = 1, prefix: Sequence[str] = (), **environment: str) -> None:
        """Start `heimdall worker` and go on."""
        command = (*HEIMDALL, "worker", "--slots", str(slots), "--name", name)
        self.start(name, *command, prefix=prefix, **environment)

    def start_worker(self, name: str, *, slots: int = 1) -> None:
        """Start `heimdall worker` and wait until it takes runs."""
        times_before = self.log(name).count(READY)
        self.launch_worker(name, slots=slots)
        self.wait_for_worker(name, times_before)

    def wait_for_worker(self, name: str, times_before: int = 0) -> None:
        """Wait until a worker takes runs."""

        def is_ready() -> bool:
            assert self._processes[name].poll() is None, self.log(name)
            return self.log(name).count(READY) > times_before

        wait_for(f"worker {name}", is_ready)

    def log(self, name: str) -> str:
        """What a process has printed so far."""
        file = self.folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def family(self, name: str) -> list[psutil.Process]:
        """A process and all that it started."""
        first = psutil.Process(self._processes[name].pid)
        return [first, *first.children(recursive=True)]

    def signal(self, name: str, kind: signal.Signals) -> None:
        self._processes[name].send_signal(kind)

    def press_ctrl_c(self, name: str) -> None:
        """Do what a terminal does: the whole group of processes gets the signal."""
        os.killpg(self._processes[name].pid, signal.SIGINT)

    def wait(self, name: str) -> int:
        """Wait until a process has ended and give its exit code."""
        return self._processes[name].wait(TIMEOUT_S)

    def kill(self, name: str) -> None:
        """End a process and all that it started at once, as a power cut does."""
        if self.is_running(name):
            for one in self.family(name):  # the first one first: it would start others in the place of its children
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        self._processes.pop(name).wait()

    def end_everything(self) -> None:
        for name in list(self._processes):
            self.kill(name)


@contextlib.contextmanager
def deployment(folder: Path, settings: Settings, **environment: str) -> Iterator[Deployment]:
    """Redis and a daemon, and an instance's variables in this process's environment; workers are the test's matter."""
    with RedisServer() as redis:
        made = Deployment(folder, settings, redis, environment)
        database = made.settings.pg_dagster_database
        execute_on_server(settings, f"CREATE DATABASE {database}")
        variables = made.environment | {"DAGSTER_HOME": str(made.home("test"))}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            migrated = subprocess.run([*HEIMDALL, "db", "migrate"], cwd=PROJECT_FOLDER, capture_output=True, text=True)
            assert migrated.returncode == 0, migrated.stderr
            made.start_daemon()
            yield made
        finally:
            made.end_everything()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            execute_on_server(settings, f"DROP DATABASE {database} WITH (FORCE)")


def batch_run(instance: dg.DagsterInstance, partition: str) -> dg.DagsterRun:
    """Wait for the first run that makes a batch."""
    tags = {"dagster/partition": partition}

    def found() -> dg.DagsterRun | None:
        return next(
            iter(instance.get_runs(dg.RunsFilter(job_name="make_synthetic_batches", tags=tags), ascending=True)), None
        )

    return wait_for(f"a run of {partition}", found)


def wait_for_status(instance: dg.DagsterInstance, run_id: str, *statuses: dg.DagsterRunStatus) -> dg.DagsterRun:
    """Wait until a run has one of these statuses; it is an error where it ended with another."""

    def found() -> dg.DagsterRun | None:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        if run.status in statuses:
            return run
        assert run.status not in FINISHED, f"{run.status}: {words(instance, run_id)}"
        return None

    return wait_for(f"{run_id} to be {statuses}", found)


def words(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What a run's events say."""
    return [entry.message or entry.get_dagster_event().message or "" for entry in instance.all_logs(run_id)]
