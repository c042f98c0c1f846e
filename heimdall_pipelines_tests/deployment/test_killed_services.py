"""kill -9 of our own processes in the middle of a dataset: each dataset is complete in the end, by itself."""

import time
from collections.abc import Iterator
from functools import partial

import pytest

from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines_tests.datasets.support import assert_nothing_committed
from heimdall_pipelines_tests.deployment.night import (
    FINISHED,
    MONITORING,
    NIGHT,
    RESTARTED_AFTER_S,
    Damage,
    Night,
    assert_all_has_ended_well,
    assert_complete_without_a_hand,
    kill_service,
    night_in,
)
from heimdall_pipelines_tests.dev_server import command_line
from heimdall_pipelines_tests.test_synthetic_whole_way import ask_for_dataset

pytestmark = [pytest.mark.programs, pytest.mark.slow]
ENDLESS = NIGHT | {"target_num_samples": 10_000, "batch_size": 10_000}  # minutes


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Iterator[Night]:
    # The second makes samples in processes of their own, until it is killed and comes back as the first is.
    with night_in(tmp_path_factory.mktemp("killed"), of_worker_2={"HEIMDALL_WORKERS": "2"}) as made:
        yield made


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
    assert_nothing_committed(night.stores, get_dataset(night.stores.database, "cancelled"))
    fault.record(
        detected_by="run monitoring, after `cancel_timeout_seconds`",
        result="CANCELED, nothing committed, no second run",
    )


def kill_grandchild(night: Night) -> None:
    def killed_at_work() -> bool:
        with night.caught_in_a_run("worker-2") as run_id:
            children = [child for process in night.pool("worker-2") for child in process.children()]
            makers = [child for child in children if "heimdall_pipelines.datasets.workers" in command_line(child)]
            for maker in makers:  # one of them has the samples, or will be given them
                maker.kill()
        if not makers:
            return False

        def has_noticed() -> bool:
            return night.said(run_id, "ended with exit code -9")

        night.deployment.wait_until(lambda: has_noticed() or night.has_ended(run_id), "the run to notice, or to end")
        return has_noticed()

    night.deployment.wait_until(killed_at_work, "a process to be killed with samples to make")
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


DAMAGES = [
    Damage(
        "grandchild",
        kill_grandchild,
        range(1),
        "kill -9 of a process that makes samples, in the middle of 10 batches",
        "the run: `WorkerLostError`",
        "no run fails, the step is retried",
    ),
    Damage(
        "worker",
        kill_worker,
        range(1, 2),
        "kill -9 of a whole worker, in the middle of 10 batches",
        MONITORING,
        "1 run fails and is retried",
        are_runs_held_back=True,
    ),
    Damage(
        "child",
        kill_child,
        range(1, 2),
        "kill -9 of a worker's child, in the middle of 10 batches",
        MONITORING,
        "Celery replaces the child; 1 run fails and is retried",
        are_runs_held_back=True,
    ),
    Damage(
        "daemon",
        partial(kill_service, name="daemon"),
        range(3),
        "kill -9 of the daemon, in the middle of 10 batches",
        "nothing to detect",
        "running runs continue; queued runs start when it is up again",
    ),
    Damage(
        "code",
        partial(kill_service, name="code"),
        range(1),
        "kill -9 of the code server, in the middle of 10 batches",
        "the daemon, which retries",
        "no run fails",
    ),
]


@pytest.mark.parametrize(
    "damage", [pytest.param(one, id=one.name, marks=pytest.mark.fault(one.title)) for one in DAMAGES]
)
def test_a_dataset_gets_complete_without_a_hand(night, damage, fault):
    assert_complete_without_a_hand(night, damage, fault)


def test_at_last_every_run_has_ended_and_every_dataset_is_healthy(night):
    assert_all_has_ended_well(night, DAMAGES)
    assert len(night.batch_runs("cancelled")) <= 1
