"""kill -9 of one service after the other in the middle of a dataset: each dataset is complete in the end, by itself."""

import re
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import pytest
from sqlalchemy import text

from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.datasets import find_dataset, get_dataset
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.datasets.support import SMALL, assert_agrees, assert_nothing_stored
from heimdall_pipelines_tests.deployment.conftest import empty_servers
from heimdall_pipelines_tests.deployment.servers import Servers, own_servers
from heimdall_pipelines_tests.deployment.services import Deployment
from heimdall_pipelines_tests.integrity import failed
from heimdall_pipelines_tests.test_synthetic_whole_way import ask_for_dataset

MAKE, SUMMARISE = "make_synthetic_batches", "summarise_synthetic_dataset"
pytestmark = pytest.mark.timeout(600)  # everything starts once, on whatever machine
BATCHES, BATCH_SIZE = 20, 2
SAMPLES = BATCHES * BATCH_SIZE
NIGHT = SMALL | {"target_num_samples": SAMPLES, "batch_size": BATCH_SIZE, "seed": 0, "dataset_type": "iq_raw"}
ENDLESS = NIGHT | {"target_num_samples": 10_000, "batch_size": 10_000}  # minutes
COMMITTED_BEFORE = 3 * BATCH_SIZE  # samples
RESTARTED_AFTER_S = 1.0
FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}
VARIABLES = {"HEIMDALL_WORKER_SLOTS": "1", "HEIMDALL_MAX_CONCURRENT_RUNS": "2", "HEIMDALL_WORKERS": "1"}
# Dagster's own clock, wound up: nobody waits minutes in a test. Here a run that is launched starts within seconds.
FAST = {
    "run_launcher": {"config": {"worker_answer_timeout_seconds": 1}},
    "run_monitoring": {"poll_interval_seconds": 2, "start_timeout_seconds": 30, "cancel_timeout_seconds": 5},
    "run_coordinator": {"config": {"user_code_failure_retry_delay": 1}},
}
COMPLETE = "complete without a hand, all checks pass, every sample once"


@dataclass(frozen=True)
class Run:
    """A run, as Dagster's table has it."""

    run_id: str
    job: str
    status: str
    partition: str


@dataclass(frozen=True)
class Night:
    """A deployment and the servers that it uses."""

    deployment: Deployment
    servers: Servers
    stores: Stores
    dagster: Database

    def num_committed(self, name: str) -> int:
        dataset = find_dataset(self.stores.database, name)
        return dataset.num_samples if dataset is not None else 0

    def runs(self, job: str, partition: str = "") -> list[Run]:
        """Runs of a job for the partitions that begin so, oldest first."""
        return [run for run in self.all_runs() if run.job == job and run.partition.startswith(partition)]

    def all_runs(self) -> list[Run]:
        with self.dagster.transaction() as connection:
            rows = connection.execute(text("SELECT run_id, pipeline_name, status, partition FROM runs ORDER BY id"))
            return [Run(*row) for row in rows]

    def batch_runs(self, name: str) -> list[Run]:
        return self.runs(MAKE, f"{name}__")

    def is_ui_back(self) -> bool:
        """Ask for runs and for events: each fails once on connections that the webserver kept from before."""
        query = """query ($id: ID!) {
            runsOrError(limit: 1) { ... on Runs { results { id } } }
            logsForRun(runId: $id) { ... on EventConnection { cursor } }
        }"""
        try:
            self.deployment.graphql(query, id=self.all_runs()[0].run_id)
        except urllib.error.HTTPError:
            return False
        return True

    def wait_until(self, look: Callable[[], object], what: str) -> None:
        """Wait beside a restart policy: what ended, whoever ended it, is started again."""

        def holds() -> object:
            self.deployment.restart_ended()
            try:
                return look()
            except UnavailableError:
                return False

        self.deployment.wait_until(holds, what)

    @contextmanager
    def caught_in_a_run(self, worker: str) -> Iterator[str]:
        """Hold a worker's processes, as SIGSTOP does, in the middle of a run, and give the run's id."""

        def caught() -> str | None:
            received = re.findall(r"execute_job\[(\S+)\] received", self.deployment.log(worker))
            for process in self.deployment.processes(worker):
                process.suspend()
            if received and self._is_started(received[-1]):
                return received[-1]
            self._resume(worker)
            return None

        run_id = self.deployment.wait_until(caught, f"{worker} to be in the middle of a run")
        yield run_id
        self._resume(worker)

    def _is_started(self, run_id: str) -> bool:
        return any(run.run_id == run_id and run.status == "STARTED" for run in self.runs(MAKE))

    def _resume(self, worker: str) -> None:
        for process in self.deployment.processes(worker):
            process.resume()

    def pool(self, worker: str) -> list[psutil.Process]:
        """The processes of a worker that execute runs."""
        process = self.deployment.services[worker].process
        assert process is not None
        return psutil.Process(process.pid).children()


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Iterator[Night]:
    with own_servers() as servers, empty_servers(servers.start()) as settings:
        folder = tmp_path_factory.mktemp("killed")
        deployment = Deployment(settings, folder, num_workers=2, variables=VARIABLES, dagster_config=FAST)
        dagster = Database(settings.model_copy(update={"pg_database": settings.pg_dagster_database}))
        # The second makes samples in processes of their own, until it is killed and comes back as the first is.
        deployment.services["worker-2"].environment["HEIMDALL_WORKERS"] = "2"
        with deployment, open_stores(settings) as stores, dagster:
            yield Night(deployment, servers, stores, dagster)


@pytest.mark.fault("kill -9 of a worker whose run has just been cancelled")
def test_a_cancelled_run_stays_cancelled(night, fault):
    ask_for_dataset(night.deployment.address, "cancelled", ENDLESS)
    night.wait_until(lambda: "STARTED" in {run.status for run in night.batch_runs("cancelled")}, "a run to start")
    (run,) = night.batch_runs("cancelled")
    (worker,) = (name for name in ("worker-1", "worker-2") if run.run_id in night.deployment.log(name))
    with night.caught_in_a_run(worker):  # so that it cannot end the run itself
        answer = night.deployment.graphql(
            "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }", id=run.run_id
        )
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
        night.deployment.kill(worker)
    night.deployment.restart(worker)
    night.wait_until(lambda: night.batch_runs("cancelled")[0].status in FINISHED, "the run to end")
    assert [run.status for run in night.batch_runs("cancelled")] == ["CANCELED"]
    assert_nothing_stored(night.stores, get_dataset(night.stores.database, "cancelled"))
    fault.record(
        found_by="run monitoring, after `cancel_timeout_seconds`",
        came_of_it="CANCELED, nothing committed, no second run",
    )


def kill_grandchild(night: Night) -> None:
    def killed() -> bool:
        with night.caught_in_a_run("worker-2"):
            makers = [maker for process in night.pool("worker-2") for maker in process.children()]
            for maker in makers[:1]:
                maker.kill()
            return bool(makers)

    night.deployment.wait_until(killed, "worker-2 to make samples")
    night.deployment.services["worker-2"].environment["HEIMDALL_WORKERS"] = "1"


def kill_worker(night: Night) -> None:
    with night.caught_in_a_run("worker-2"):
        night.deployment.kill("worker-2")
    time.sleep(RESTARTED_AFTER_S)
    night.deployment.restart("worker-2")


def kill_child(night: Night) -> None:
    with night.caught_in_a_run("worker-2"):
        (child,) = night.pool("worker-2")
        child.kill()


def kill_service(name: str) -> Callable[[Night], None]:
    def kill(night: Night) -> None:
        night.deployment.kill(name)
        time.sleep(RESTARTED_AFTER_S)
        night.deployment.restart(name)

    return kill


def kill_postgres(night: Night) -> None:
    kill_server("postgres")(night)
    night.deployment.wait_until(night.is_ui_back, "the webserver to answer")


def kill_server(name: str) -> Callable[[Night], None]:
    def kill(night: Night) -> None:
        night.servers.kill(name)
        time.sleep(RESTARTED_AFTER_S)
        night.servers.start()

    return kill


MONITORING = "run monitoring: no worker has the run any more"


@dataclass(frozen=True)
class Victim:
    """What is killed, how many runs may fail of it, and what the table says."""

    name: str
    kill: Callable[[Night], None]
    num_failed: range
    title: str
    found_by: str
    came_of_it: str


VICTIMS = [
    Victim(
        "grandchild",
        kill_grandchild,
        range(1),
        "kill -9 of a process that makes samples, in the middle of 20 batches",
        "the run: `WorkerLostError`",
        "no run fails, the step is tried again",
    ),
    Victim(
        "worker",
        kill_worker,
        range(1, 2),
        "kill -9 of a whole worker, in the middle of 20 batches",
        MONITORING,
        "1 run fails and is made again",
    ),
    Victim(
        "child",
        kill_child,
        range(1, 2),
        "kill -9 of a worker's child, in the middle of 20 batches",
        MONITORING,
        "Celery replaces the child; 1 run fails and is made again",
    ),
    Victim(
        "daemon",
        kill_service("daemon"),
        range(3),
        "kill -9 of the daemon, in the middle of 20 batches",
        "nothing to find",
        "runs go on; once it is back, those in the queue",
    ),
    Victim(
        "code",
        kill_service("code"),
        range(1),
        "kill -9 of the code server, in the middle of 20 batches",
        "the daemon, which tries again",
        "no run fails",
    ),
    Victim(
        "redis",
        kill_service("redis"),
        range(3),
        "kill -9 of Redis, in the middle of 20 batches",
        "the launcher and the workers, which try again",
        "runs go on; those that were being launched go back to the queue",
    ),
    Victim(
        "postgres",
        kill_postgres,
        range(5),
        "kill -9 of PostgreSQL, in the middle of 20 batches",
        "all services, which try again or end and are started again",
        "a run that could not write its events fails and is made again",
    ),
    Victim(
        "s3",
        kill_server("s3"),
        range(1),
        "kill -9 of the S3 server, in the middle of 20 batches",
        "the runs: `ObjectsUnavailableError`",
        "no run fails, the steps are tried again",
    ),
]


@pytest.mark.parametrize(
    "victim", [pytest.param(one, id=one.name, marks=pytest.mark.fault(one.title)) for one in VICTIMS]
)
def test_a_dataset_gets_complete_without_a_hand(night, victim, fault):
    ask_for_dataset(night.deployment.address, victim.name, NIGHT)
    night.wait_until(lambda: night.num_committed(victim.name) >= COMMITTED_BEFORE, f"a few batches of {victim.name}")
    victim.kill(night)
    night.wait_until(lambda: night.num_committed(victim.name) == SAMPLES, f"{victim.name} to be complete")
    night.wait_until(lambda: all(run.status in FINISHED for run in night.batch_runs(victim.name)), "its runs to end")
    made = night.batch_runs(victim.name)

    assert_agrees(night.stores, victim.name, range(SAMPLES))
    assert failed(validate_dataset(night.stores, victim.name, checksums=True)) == {}
    last = {run.partition: run.status for run in made}
    assert last == {f"{victim.name}__{batch_no:05d}": "SUCCESS" for batch_no in range(BATCHES)}
    assert [run.status for run in made].count("FAILURE") in victim.num_failed
    fault.record(found_by=victim.found_by, came_of_it=f"{victim.came_of_it}; {COMPLETE}")


def test_at_last_every_run_has_ended_and_every_dataset_is_healthy(night):
    complete = {victim.name for victim in VICTIMS if night.num_committed(victim.name) == SAMPLES}
    assert complete, "no dataset was made"

    def summed_up() -> set[str]:
        return {run.partition for run in night.runs(SUMMARISE) if run.status == "SUCCESS"}

    night.wait_until(lambda: summed_up() == complete, "every dataset to be summed up")
    night.wait_until(lambda: all(run.status in FINISHED for run in night.all_runs()), "every run to end")
    assert len(night.batch_runs("cancelled")) <= 1
    night.deployment.run("heimdall", "dataset", "validate", "--all", "--checksums")
