"""A deployment with two workers on servers of its own, in which something is broken in the middle of a dataset."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import text

from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.model.batches import parse_partition_key
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.datasets import find_dataset, get_dataset
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.datasets.support import SMALL, assert_agrees
from heimdall_pipelines_tests.deployment.servers import Servers, empty_servers, own_servers
from heimdall_pipelines_tests.deployment.services import FAST, Deployment
from heimdall_pipelines_tests.fault_table import Fault
from heimdall_pipelines_tests.held_back import batches_held_back
from heimdall_pipelines_tests.integrity import failed
from heimdall_pipelines_tests.test_synthetic_whole_way import ask_for_dataset

MAKE, SUMMARISE = "make_synthetic_batches", "summarise_synthetic_dataset"
BATCHES, BATCH_SIZE = 10, 2
SAMPLES = BATCHES * BATCH_SIZE
NIGHT = SMALL | {"target_num_samples": SAMPLES, "batch_size": BATCH_SIZE, "seed": 0, "dataset_type": "iq_raw"}
COMMITTED_BEFORE = 3  # batches
RESTARTED_AFTER_S = 1.0
FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}
VARIABLES = {"HEIMDALL_WORKER_SLOTS": "1", "HEIMDALL_MAX_CONCURRENT_RUNS": "2", "HEIMDALL_WORKERS": "1"}
# A launched run starts after seconds, or when a killed worker is back, which may take minutes on a busy machine.
TIMEOUTS = {"run_monitoring": FAST["run_monitoring"] | {"start_timeout_seconds": 600, "cancel_timeout_seconds": 5}}
MONITORING = "run monitoring: no worker has the run"
COMPLETE = "complete without intervention, all checks pass, every sample once"


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
        """Ask for runs and for events: each fails once on connections that the webserver kept from before.

        The webserver itself may have ended meanwhile, and be about to start again.
        """
        query = """query ($id: ID!) {
            runsOrError(limit: 1) { ... on Runs { results { id } } }
            logsForRun(runId: $id) { ... on EventConnection { cursor } }
        }"""
        try:
            self.deployment.graphql(query, id=self.all_runs()[0].run_id)
        except OSError:
            return False
        return True

    def wait_until(self, look: Callable[[], object], what: str) -> None:
        """Wait beside a restart policy: a service that ended is started again."""

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
            self._signal(worker, psutil.Process.suspend)
            if received and self._is_at_work(received[-1]):
                return received[-1]
            self._signal(worker, psutil.Process.resume)
            return None

        run_id = self.deployment.wait_until(caught, f"{worker} to be in the middle of a run")
        try:
            yield run_id
        finally:
            self._signal(worker, psutil.Process.resume)

    def _signal(self, worker: str, signal: Callable[[psutil.Process], None]) -> None:
        for process in self.deployment.processes(worker):
            with suppress(psutil.NoSuchProcess):  # those that make samples come and go
                signal(process)

    def _is_at_work(self, run_id: str) -> bool:
        """Whether a run has begun to make a batch and has yet to commit it."""
        for run in self.runs(MAKE):
            if run.run_id == run_id:
                name, batch_no = parse_partition_key(run.partition)
                dataset = get_dataset(self.stores.database, name)
                committed = {batch.batch_no for batch in list_batches(self.stores.database, dataset.id)}
                return run.status == "STARTED" and batch_no not in committed
        return False

    def has_ended(self, run_id: str) -> bool:
        return any(run.run_id == run_id and run.status in FINISHED for run in self.all_runs())

    def said(self, run_id: str, words: str) -> bool:
        """Whether an event of a run has these words."""
        with self.dagster.transaction() as connection:
            found = text("SELECT EXISTS (SELECT FROM event_logs WHERE run_id = :id AND strpos(event, :words) > 0)")
            return bool(connection.execute(found, {"id": run_id, "words": words}).scalar())

    def pool(self, worker: str) -> list[psutil.Process]:
        """The processes of a worker that execute runs."""
        process = self.deployment.services[worker].process
        assert process is not None
        return psutil.Process(process.pid).children()


@contextmanager
def night_in(folder: Path, of_worker_2: Mapping[str, str] | None = None) -> Iterator[Night]:
    """Start everything once, for the tests of a module; the second worker may have variables of its own."""
    with own_servers() as servers, empty_servers(servers.start()) as settings:
        deployment = Deployment(settings, folder, num_workers=2, variables=VARIABLES, dagster_config=FAST | TIMEOUTS)
        deployment.services["worker-2"].environment |= of_worker_2 or {}
        dagster = Database(settings.model_copy(update={"pg_database": settings.pg_dagster_database}))
        with deployment, open_stores(settings) as stores, dagster:
            yield Night(deployment, servers, stores, dagster)


@dataclass(frozen=True)
class Damage:
    """What is done, how many runs may fail of it, and what the table says.

    Where runs are held back, none can end between the first batches and the end of what is done.
    """

    name: str
    do: Callable[[Night], None]
    num_failed: range
    title: str
    detected_by: str
    result: str
    are_runs_held_back: bool = False


def kill_service(night: Night, name: str) -> None:
    """End every process of a service at once; it is started again soon."""
    night.deployment.kill(name)
    time.sleep(RESTARTED_AFTER_S)
    night.deployment.restart(name)


def assert_complete_without_a_hand(night: Night, damage: Damage, fault: Fault) -> None:
    """Ask for a dataset, do the damage in its middle, and see the dataset get complete."""
    name = damage.name
    last = {f"{name}__{batch_no:05d}": "SUCCESS" for batch_no in range(BATCHES)}
    database = night.stores.database
    with batches_held_back(database, after=COMMITTED_BEFORE) if damage.are_runs_held_back else nullcontext():
        ask_for_dataset(night.deployment.address, name, NIGHT)
        night.wait_until(lambda: night.num_committed(name) >= COMMITTED_BEFORE * BATCH_SIZE, f"a few batches of {name}")
        damage.do(night)
    night.wait_until(lambda: night.num_committed(name) == SAMPLES, f"{name} to be complete")
    # One that fails is regenerated some seconds later, also where it had committed its batch.
    night.wait_until(
        lambda: {run.partition: run.status for run in night.batch_runs(name)} == last,
        f"the last run of each batch of {name} to succeed",
    )
    assert_agrees(night.stores, name, range(SAMPLES))
    assert failed(validate_dataset(night.stores, name, checksums=True)) == {}
    assert [run.status for run in night.batch_runs(name)].count("FAILURE") in damage.num_failed
    fault.record(detected_by=damage.detected_by, result=f"{damage.result}; {COMPLETE}")


def assert_all_has_ended_well(night: Night, damages: Sequence[Damage]) -> None:
    """Every run has ended, every dataset that was made is summed up, and the command line finds all of them healthy."""
    complete = {damage.name for damage in damages if night.num_committed(damage.name) == SAMPLES}
    assert complete, "no dataset was made"

    def summed_up() -> set[str]:
        return {run.partition for run in night.runs(SUMMARISE) if run.status == "SUCCESS"}

    night.wait_until(lambda: summed_up() == complete, "every dataset to be summed up")
    night.wait_until(lambda: all(run.status in FINISHED for run in night.all_runs()), "every run to end")
    night.deployment.run("heimdall", "dataset", "validate", "--all", "--checksums")
