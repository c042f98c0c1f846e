"""Runs in a worker: they succeed, stay cancelled, outlive Redis and a warm shutdown, and are regenerated when lost."""

import contextlib
import signal
from collections.abc import Iterator

import dagster as dg
import psutil
import pytest
from sqlalchemy import text

from heimdall_pipelines.cluster.celery_launcher import MISSES_OF_A_DEAD_RUN
from heimdall_pipelines.cluster.lost_runs import lost_runs
from heimdall_pipelines.defs.synthetic import ALL_CORES
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.database import Database
from heimdall_pipelines_tests.cluster.runs import batch_run, wait_for_status, words
from heimdall_pipelines_tests.datasets.support import add, assert_agrees, assert_nothing_committed
from heimdall_pipelines_tests.dev_server import command_line
from heimdall_pipelines_tests.held_back import batches_held_back, success_held_back
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

pytestmark = [pytest.mark.programs, pytest.mark.slow]
STARTING, STARTED, SUCCESS, FAILURE, CANCELED = (
    dg.DagsterRunStatus[name] for name in ("STARTING", "STARTED", "SUCCESS", "FAILURE", "CANCELED")
)
ENDLESS = {"target_num_samples": 10_000, "batch_size": 10_000, "dataset_type": "iq_raw"}  # a batch of minutes
A_WHILE = 400  # samples: seconds


@pytest.fixture
def worker(cluster):
    """A worker takes runs; the one of the test before, where that has left it."""
    if not cluster.is_running("one"):
        start_worker(cluster)


def start_worker(cluster) -> None:
    cluster.add_worker("one")
    cluster.wait_until_up("one")


def restart_redis_empty(cluster) -> None:
    cluster.delete_data("redis")
    cluster.restart("redis")


def is_retried(run: dg.DagsterRun) -> bool:
    """Whether Dagster's daemon takes it for a run to be started again: it decides so as the run ends."""
    return run.tags.get("dagster/will_retry") == "true"


def monitored_times(cluster, run_id: str) -> int:
    return cluster.log("daemon").count(f"Checking run {run_id}")


def second_run(instance, run_id: str) -> dg.DagsterRun:
    """Wait for the run that Dagster's daemon starts in the place of one that failed."""

    def found() -> dg.DagsterRun | None:
        return next((run for run in instance.get_run_group(run_id)[1] if run.run_id != run_id), None)

    return wait_for(f"a second run after {run_id}", found)


def wait_until_in_redis(instance, run_id: str) -> None:
    """Wait until a run that no worker takes has its place in the queue: it is starting before it is sent there."""
    wait_for_status(instance, run_id, STARTING)
    wait_for("its place in Redis", lambda: any("forwarded to the broker" in line for line in words(instance, run_id)))


def look_for_lost_runs(instance, a_minute_later: str) -> None:
    """Have the sensor look twice, as the daemon does, at a run that was launched a minute before."""
    with instance.run_storage.connect() as connection:
        connection.execute(
            text("UPDATE runs SET update_timestamp = update_timestamp - interval '1 minute' WHERE run_id = :id"),
            {"id": a_minute_later},
        )
    cursor = None
    for _ in range(2):
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        cursor = lost_runs(context, settings=load_settings()).cursor


def maker_of_samples(cluster) -> psutil.Process | None:
    """A process that a run of the worker has started to make its samples."""
    return next((p for p in cluster.processes("one") if "heimdall_pipelines.datasets.workers" in command_line(p)), None)


def dagster_database(cluster) -> Database:
    settings = cluster.settings
    return Database(settings.model_copy(update={"pg_database": settings.pg_dagster_database}))


@contextlib.contextmanager
def told_to_stop(cluster) -> Iterator[None]:
    """Wait until the worker has received the signal of the block."""
    times_before = cluster.log("one").count("Warm shutdown")
    yield
    wait_for("the worker to stop", lambda: cluster.log("one").count("Warm shutdown") > times_before)


def test_a_batch_runs_in_a_worker_and_its_log_is_stored(worker, cluster, instance, cluster_stores):
    add(cluster_stores, "night", 1)
    run = wait_for_status(instance, batch_run(instance, "night__00000").run_id, SUCCESS)
    assert_agrees(cluster_stores, "night", [0])
    wait_for("the worker's last word", lambda: f"Task execute_job[{run.run_id}] succeeded" in cluster.log("one"))
    logs = instance.compute_log_manager
    (log_key,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED)
    key = logs.build_log_key_for_run(run.run_id, log_key.get_dagster_event().logs_captured_data.file_key)
    assert "RUN_START" not in (logs.get_log_data(key).stdout or b"").decode()
    assert b"STEP_START" in logs.get_log_data(key).stderr
    assert logs.display_path_for_type(key, dg._core.storage.compute_log_manager.ComputeIOType.STDERR).startswith(
        f"s3://{cluster.settings.s3_bucket_compute_logs}/"
    )


def test_the_limits_of_the_environment_hold_from_the_first_run_on(instance):
    limits = {pool.name: (pool.limit, pool.from_default) for pool in instance.event_log_storage.get_pool_limits()}
    assert limits == {ALL_CORES: (2, False), "extraction": (6, False)}
    assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 6


def test_the_ui_shows_no_secret_of_the_instance(worker, cluster, instance):
    shown = instance.info_str() + str(instance.info_dict()) + str(instance.get_ref())
    settings = cluster.settings
    for secret in (settings.pg_password, settings.s3_secret_key):
        assert secret.get_secret_value() not in shown
    assert settings.s3_access_key not in shown
    assert cluster.variables["HEIMDALL_REDIS_PASSWORD"] not in shown
    assert cluster.variables["HEIMDALL_REDIS_PASSWORD"] not in cluster.log("one") + cluster.log("daemon")
    assert not any(
        cluster.variables["HEIMDALL_REDIS_PASSWORD"] in " ".join(command_line(process))
        for process in cluster.processes("one")
    )


@pytest.mark.fault("a run in a worker and a run waiting in Redis are cancelled")
def test_cancelled_runs_stay_cancelled_and_are_not_retried(worker, cluster, instance, cluster_stores, fault):
    dataset = add(cluster_stores, "endless", **ENDLESS | {"target_num_samples": 20_000})
    both = [batch_run(instance, f"endless__0000{number}").run_id for number in (0, 1)]

    def by_status() -> dict[dg.DagsterRunStatus, str] | None:
        found = {instance.get_run_by_id(run_id).status: run_id for run_id in both}
        return found if found.keys() == {STARTED, STARTING} else None

    found = wait_for("one run that executes and one that waits: the worker has one slot", by_status)
    running, waiting = found[STARTED], found[STARTING]
    assert instance.run_coordinator.cancel_run(waiting)
    assert instance.get_run_by_id(waiting).status is CANCELED
    assert instance.run_coordinator.cancel_run(running)
    wait_for_status(instance, running, CANCELED)

    add(cluster_stores, "after", 1)  # the same process takes it, after what waits in Redis
    wait_for_status(instance, batch_run(instance, "after__00000").run_id, SUCCESS)
    for run_id in (running, waiting):
        run = instance.get_run_by_id(run_id)
        assert run.status is CANCELED
        assert not is_retried(run)
        assert len(instance.get_run_group(run_id)[1]) == 1
    assert instance.get_run_record_by_id(waiting).start_time is None
    assert_nothing_committed(cluster_stores, dataset)
    fault.record(
        detected_by="the run's process, which polls the database every 2 s; the launcher for the waiting run",
        result="CANCELED, nothing committed, no second run; the worker continues with the next run",
    )


@pytest.mark.fault("Redis is killed while a worker executes a run, and comes back empty")
def test_a_run_outlives_redis_and_later_ones_wait_for_it(worker, cluster, instance, cluster_stores, fault):
    add(cluster_stores, "long", **ENDLESS)
    run_id = batch_run(instance, "long__00000").run_id
    wait_for_status(instance, run_id, STARTED)
    cluster.kill("redis")
    seen = monitored_times(cluster, run_id)
    add(cluster_stores, "patient", 1)
    waiting = batch_run(instance, "patient__00000").run_id
    wait_for("monitoring of the run", lambda: monitored_times(cluster, run_id) > seen + MISSES_OF_A_DEAD_RUN)
    # Of this run or of one before it in the queue.
    wait_for("a try to launch", lambda: "(HEIMDALL_REDIS_URL) does not accept the run" in cluster.log("daemon"))
    assert instance.get_run_by_id(run_id).status is STARTED

    assert instance.run_coordinator.cancel_run(run_id)  # works without Redis
    wait_for_status(instance, run_id, CANCELED)
    restart_redis_empty(cluster)
    wait_for_status(instance, waiting, SUCCESS)
    assert len(instance.get_run_group(waiting)[1]) == 1
    fault.record(
        detected_by="the launcher and the worker, which retry",
        result="the run continues and can be cancelled; runs launched meanwhile return to Dagster's queue",
    )


@pytest.mark.fault("the process that executes a run is killed, its worker is not")
def test_a_run_whose_process_died_fails_and_is_retried(worker, cluster, instance, cluster_stores, fault):
    with batches_held_back(cluster_stores.database):  # it is at work until it is killed
        add(cluster_stores, "orphaned", A_WHILE, batch_size=A_WHILE)
        first = batch_run(instance, "orphaned__00000").run_id
        child = wait_for("a process that makes samples", lambda: maker_of_samples(cluster)).parent()
        its_own = child.children(recursive=True)
        child.kill()
        _, alive = psutil.wait_procs(its_own, timeout=TIMEOUT_S)  # they end what they are at first
        assert not alive

    wait_for_status(instance, first, FAILURE)
    assert any("No worker has this run any more" in line for line in words(instance, first))
    wait_for_status(instance, second_run(instance, first).run_id, SUCCESS)
    assert_agrees(cluster_stores, "orphaned", range(A_WHILE))
    fault.record(
        detected_by="run monitoring: in two polls no worker has the run, and it has no heartbeat",
        result="the processes that make samples end, FAILURE, one retry, complete",
    )


@pytest.mark.fault("the process that executes a run dies after its last step, before it reports success")
def test_a_run_that_died_after_its_last_step_is_retried(worker, cluster, instance, cluster_stores, fault):
    with dagster_database(cluster) as database, contextlib.ExitStack() as until_killed:
        with batches_held_back(cluster_stores.database):  # its success is the next one
            add(cluster_stores, "almost", A_WHILE, batch_size=A_WHILE)
            first = batch_run(instance, "almost__00000").run_id
            child = wait_for("a process that makes samples", lambda: maker_of_samples(cluster)).parent()
            success = until_killed.enter_context(success_held_back(database))
        wait_for("the end of its last step", success.is_waiting)
        child.kill()
        success.end_what_waits()
    wait_for_status(instance, first, FAILURE)
    wait_for_status(instance, second_run(instance, first).run_id, SUCCESS)
    assert_agrees(cluster_stores, "almost", range(A_WHILE))
    fault.record(
        detected_by="run monitoring: in two polls no worker has the run, and it has no heartbeat",
        result="FAILURE, one retry, which finds all samples committed and succeeds",
    )


@pytest.mark.fault("a worker gets SIGTERM in the middle of a run")
def test_a_worker_finishes_its_run_after_one_signal(worker, cluster, instance, cluster_stores, fault):
    with batches_held_back(cluster_stores.database):  # it ends when we say so
        add(cluster_stores, "evening", 10)
        run_id = batch_run(instance, "evening__00000").run_id
        wait_for_status(instance, run_id, STARTED)
        with told_to_stop(cluster):
            cluster.signal("one", signal.SIGTERM)
        seen = monitored_times(cluster, run_id)
        wait_for("monitoring of the run", lambda: monitored_times(cluster, run_id) >= seen + 2 * MISSES_OF_A_DEAD_RUN)
        assert instance.get_run_by_id(run_id).status is STARTED
    wait_for_status(instance, run_id, SUCCESS)
    assert cluster.wait_until_ended("one") == 0
    assert len(instance.get_run_group(run_id)[1]) == 1
    fault.record(detected_by="the worker", result="it accepts no other run and ends after this one, which succeeds")


@pytest.mark.fault("a worker gets Ctrl-C in the middle of a run, then SIGTERM")
def test_a_second_signal_ends_the_run_which_is_retried(worker, cluster, instance, cluster_stores, fault):
    dataset = add(cluster_stores, "hurried", **ENDLESS)
    run_id = batch_run(instance, "hurried__00000").run_id
    wait_for_status(instance, run_id, STARTED)
    with told_to_stop(cluster):
        cluster.press_ctrl_c("one")
    seen = monitored_times(cluster, run_id)
    wait_for("monitoring of the run", lambda: monitored_times(cluster, run_id) >= seen + MISSES_OF_A_DEAD_RUN)
    assert instance.get_run_by_id(run_id).status is STARTED
    cluster.signal("one", signal.SIGTERM)
    cluster.wait_until_ended("one")
    wait_for_status(instance, run_id, FAILURE)
    wait_for("the tag that it gets after that", lambda: is_retried(instance.get_run_by_id(run_id)))
    assert_nothing_committed(cluster_stores, dataset)
    second = second_run(instance, run_id).run_id
    wait_until_in_redis(instance, second)
    assert instance.run_coordinator.cancel_run(second)
    wait_for_status(instance, second, CANCELED)  # or else it keeps the worker of the next test busy
    fault.record(
        detected_by="the worker",
        result="the run fails at once, commits nothing and is retried elsewhere",
    )


@pytest.mark.fault("Redis loses the runs that wait for a worker")
def test_a_run_lost_by_redis_fails_and_is_retried(cluster, instance, cluster_stores, fault):
    if cluster.is_running("one"):
        cluster.kill("one")
    add(cluster_stores, "forgotten", 1)
    lost = batch_run(instance, "forgotten__00000").run_id
    wait_until_in_redis(instance, lost)
    look_for_lost_runs(instance, a_minute_later=lost)
    assert instance.get_run_by_id(lost).status is STARTING  # it waits
    cluster.kill("redis")
    restart_redis_empty(cluster)
    look_for_lost_runs(instance, a_minute_later=lost)
    assert instance.get_run_by_id(lost).status is FAILURE
    assert any("No worker got this run" in line for line in words(instance, lost))
    start_worker(cluster)
    wait_for_status(instance, second_run(instance, lost).run_id, SUCCESS)
    assert len(instance.get_run_group(lost)[1]) == 2
    fault.record(
        detected_by="the sensor `lost_runs`: in two ticks the runs are not in Redis and have no heartbeat",
        result="FAILURE, one retry, complete",
    )
