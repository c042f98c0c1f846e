"""A deletion ends with nothing left, wherever it broke off before; what runs meanwhile leaves nothing either."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from heimdall_pipelines.datasets import deleting, generating
from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.datasets.repair import plan_repair, repair_dataset
from heimdall_pipelines.datasets.requesting import expand_dataset, request_dataset
from heimdall_pipelines.datasets.validation import keep_validation, validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.store.alerts import list_alerts, note_evaluations
from heimdall_pipelines.store.datasets import (
    DatasetDeletedError,
    DatasetNotFoundError,
    find_dataset,
    get_dataset,
    mark_dataset_deleted,
)
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.alerts.support import LOG, evaluation
from heimdall_pipelines_tests.datasets.support import (
    add,
    assert_agrees,
    execute,
    make,
    make_with_own_stores,
    object_sizes,
    query,
)
from heimdall_pipelines_tests.tcp_link import TcpLink
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

TABLES = ("synthetic_datasets", "synthetic_batches", "synthetic_iq_samples", "measurement_features")
# The steps of a deletion, by the names that they are called by; the objects are removed twice.
STEPS = ["mark_dataset_deleted", "remove_dataset_iq", "forget", "delete_dataset_rows", "close_alerts_of_deleted"]

# The only thing that differs from a real deletion: it stops before a step, where the test kills it.
STOPPING_DELETION = """
import sys, time
from pathlib import Path
from heimdall_pipelines.datasets import deleting
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores

step, reached = sys.argv[1], Path(sys.argv[2])

def stop_here(*arguments):
    reached.touch()
    time.sleep(3600)

if step != "forget":
    setattr(deleting, step, stop_here)
with open_stores(load_settings()) as stores:
    deleting.delete_dataset(stores, "night", stop_here if step == "forget" else lambda name: None)
"""


class BrokenOffError(Exception):
    """In the place of a step."""


def left(stores):
    """Rows by table, and objects."""
    rows = {table: query(stores, f"SELECT count(*) AS num FROM heimdall.{table}")[0]["num"] for table in TABLES}
    return rows | {"objects": len(list(stores.objects.entries(stores.objects.synthetic_iq_bucket, "")))}


NOTHING = dict.fromkeys(TABLES, 0) | {"objects": 0}


@pytest.fixture
def night(stores):
    dataset = add(stores, "night", 2)
    make(stores, "night")
    return dataset


def test_nothing_is_left_and_another_dataset_stays_as_it_is(stores, night):
    other = add(stores, "night-2", 1)
    make(stores, "night-2")
    before, forgotten = object_sizes(stores, other), []
    assert delete_dataset(stores, "night", forgotten.append).id == night.id
    assert forgotten == ["night"]
    assert find_dataset(stores.database, "night") is None
    assert_agrees(stores, "night-2", [0])
    assert len(list(stores.objects.entries(stores.objects.synthetic_iq_bucket, ""))) == len(before)
    delete_dataset(stores, "night-2")
    assert left(stores) == NOTHING
    with pytest.raises(DatasetNotFoundError, match="unknown dataset night; see: heimdall dataset list"):
        delete_dataset(stores, "night", forgotten.append)
    assert forgotten == ["night"]


def replaced(monkeypatch, step, act):
    """Put something in the place of a step; gives the deletion's ``forget``."""
    if step == "forget":
        return act
    monkeypatch.setattr(deleting, step, act)
    return lambda _: None


@pytest.mark.parametrize("step", STEPS[:4])
def test_a_deletion_that_breaks_off_before_a_step_is_finished_by_the_same_call(stores, night, step, monkeypatch):
    def break_off(*arguments):
        raise BrokenOffError

    with monkeypatch.context() as broken:
        forget = replaced(broken, step, break_off)
        with pytest.raises(BrokenOffError):
            delete_dataset(stores, "night", forget)
    is_marked = get_dataset(stores.database, "night").deletion_began_at is not None
    assert is_marked is (step != STEPS[0])
    forgotten = []
    delete_dataset(stores, "night", forgotten.append)
    assert forgotten == ["night"]
    assert left(stores) == NOTHING


@pytest.mark.parametrize("step", STEPS)
def test_servers_that_go_away_before_a_step_leave_nothing_that_is_not_finished_later(
    stores, settings, night, step, monkeypatch
):
    host, _, s3_port = settings.s3_endpoint.rpartition(":")
    with TcpLink(settings.pg_port) as postgres, TcpLink(int(s3_port)) as s3, monkeypatch.context() as cutting:
        act = getattr(deleting, step, lambda _: None)

        def cut_and_act(*arguments):
            postgres.cut()
            s3.cut()
            return act(*arguments)

        forget = replaced(cutting, step, cut_and_act)
        ways = {"pg_port": postgres.port, "s3_endpoint": f"{host}:{s3.port}"}
        with open_stores(settings.model_copy(update=ways)) as through, pytest.raises(UnavailableError):
            delete_dataset(through, "night", forget)
    if step != STEPS[-1]:
        delete_dataset(stores, "night")
    assert left(stores) == NOTHING


@pytest.mark.parametrize("step", ["remove_dataset_iq", "delete_dataset_rows"])
def test_a_killed_deletion_is_finished_by_the_next(environment, stores, night, step, tmp_path):
    reached = tmp_path / "reached"
    with subprocess.Popen([sys.executable, "-c", STOPPING_DELETION, step, str(reached)]) as process:
        try:
            wait_for(
                "a batch in the middle, or the end of its process",
                lambda: reached.exists() or process.poll() is not None,
            )
            assert process.poll() is None
        finally:
            process.kill()
    assert left(stores)["synthetic_datasets"] == 1
    delete_dataset(stores, "night")
    assert left(stores) == NOTHING


def test_nothing_else_is_done_with_a_dataset_that_is_being_deleted(stores, night):
    add(stores, "other", 1)
    mark_dataset_deleted(stores.database, night)
    before = left(stores)

    def repair(name):
        with Workers(1) as workers:
            repair_dataset(stores, name, workers)

    for act in (
        lambda: make(stores, "night"),
        lambda: request_dataset(stores, "night", target_num_samples=5),
        lambda: request_dataset(stores, "night", target_num_samples=2),
        lambda: expand_dataset(stores, "night", 1),
        lambda: plan_repair(stores, "night"),
        lambda: repair("night"),
        lambda: validate_dataset(stores, "night"),
    ):
        with pytest.raises(DatasetDeletedError, match=r"is being deleted .* heimdall dataset delete night$"):
            act()
    assert left(stores) == before
    assert get_dataset(stores.database, "night").target_num_samples == 2
    delete_dataset(stores, "night")
    add(stores, "night", 1)  # the name is free
    make(stores, "night")
    assert_agrees(stores, "night", [0])


def test_a_validation_of_a_dataset_that_is_deleted_meanwhile_is_not_kept(stores, night):
    validation = validate_dataset(stores, "night")
    mark_dataset_deleted(stores.database, night)
    execute(stores, "UPDATE heimdall.synthetic_datasets SET last_validated_at = NULL")
    for _ in range(2):
        with pytest.raises(DatasetDeletedError, match="dataset night was deleted while it was being validated"):
            keep_validation(stores, validation)
        assert query(stores, "SELECT last_validated_at AS at FROM heimdall.synthetic_datasets") in ([{"at": None}], [])
        execute(stores, "DELETE FROM heimdall.synthetic_datasets")


@pytest.mark.parametrize("is_finished", [True, False], ids=["deleted", "being deleted"])
def test_a_batch_that_runs_meanwhile_fails_commits_nothing_and_its_objects_go(
    stores, settings, monkeypatch, is_finished
):
    night = add(stores, "night", 2)
    reached, go_on = threading.Event(), threading.Event()
    commit = generating.commit_batch

    def commit_when_told(*arguments, **more):
        reached.set()
        assert go_on.wait(TIMEOUT_S)
        return commit(*arguments, **more)

    monkeypatch.setattr(generating, "commit_batch", commit_when_told)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(make_with_own_stores, settings, "night")
        try:
            wait_for("the deletion in its middle, or its end", lambda: reached.is_set() or running.done())
            assert not running.done()
            assert len(object_sizes(stores, night)) == 12
            if is_finished:
                delete_dataset(stores, "night")
            else:
                mark_dataset_deleted(stores.database, night)
        finally:
            go_on.set()
        with pytest.raises(DatasetDeletedError, match="dataset night was deleted while night__00000 was being made"):
            running.result(TIMEOUT_S)
    assert left(stores) == NOTHING | {"synthetic_datasets": 0 if is_finished else 1}


def test_a_batch_that_stores_while_the_dataset_is_deleted_leaves_no_object(stores, settings, monkeypatch):
    night = add(stores, "night", 4)
    going, go_on = threading.Event(), threading.Event()
    put, stored = generating.put_iq, []

    def put_when_told(*arguments):
        if len(stored) == 6:
            going.set()
            assert go_on.wait(TIMEOUT_S)
        stored.append(arguments)
        return put(*arguments)

    monkeypatch.setattr(generating, "put_iq", put_when_told)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(make_with_own_stores, settings, "night")
        try:
            wait_for("the batch in its middle, or its end", lambda: going.is_set() or running.done())
            assert not running.done()
            delete_dataset(stores, "night")
        finally:
            go_on.set()
        with pytest.raises(DatasetNotFoundError):
            running.result(TIMEOUT_S)
    assert object_sizes(stores, night) == {}
    assert left(stores) == NOTHING


# Its alerts


def noted(stores, *subjects):
    """Failed checks: (asset, partition)."""
    note_evaluations(
        stores.database,
        LOG,
        [evaluation(no, asset=asset, partition=partition) for no, (asset, partition) in enumerate(subjects, 1)],
    )


def open_partitions(stores):
    return [overview.alert.partition for overview in reversed(list_alerts(stores.database, 100, only_open=True))]


def test_alerts_of_the_dataset_and_its_batches_are_closed_and_no_other(stores, night):
    add(stores, "night-2", 1)
    session = "night-watch"
    execute(
        stores,
        "INSERT INTO heimdall.recording_sessions (slug, name, frequency_hz, bandwidth_hz) VALUES (:slug, 's', 1, 1)",
        slug=session,
    )
    noted(
        stores,
        ("synthetic/dataset_summary", "night"),
        ("synthetic/measurement_features", "night__00000"),
        ("synthetic/raw_iq_objects", "night__1234567"),
        ("synthetic/dataset_summary", "night-2"),
        ("synthetic/raw_iq_objects", "night-2__00000"),
        ("recorded/measurement_features", session),
        ("somebody/elses", "night"),
        ("somebody/elses", None),
    )
    delete_dataset(stores, "night")
    assert open_partitions(stores) == ["night-2", "night-2__00000", session, "night", None]
    closed = [o.alert for o in list_alerts(stores.database, 100) if o.alert.closed_at is not None]
    assert [alert.recovered_at for alert in closed] == [None] * 3


def test_alerts_of_a_dataset_whose_deletion_broke_off_are_closed_when_it_is_finished(stores, night):
    noted(stores, ("synthetic/dataset_summary", "night"))
    mark_dataset_deleted(stores.database, night)
    assert open_partitions(stores) == ["night"]
    delete_dataset(stores, "night")
    assert open_partitions(stores) == []
