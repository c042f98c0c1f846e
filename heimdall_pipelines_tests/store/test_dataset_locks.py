"""Claims on a dataset: batches share it, a repair has it alone, and a claim ends with its process."""

import multiprocessing
import os
import signal
import time
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from uuid import UUID, uuid4

import pytest

from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store import dataset_locks
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.dataset_locks import DatasetLockedError, exclusive_lock, is_locked, shared_lock
from heimdall_pipelines.store.dataset_snapshot import activity
from heimdall_pipelines.store.outages import DatabaseUnavailableError
from heimdall_pipelines_tests.tcp_link import TcpLink
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

_CONTEXT = multiprocessing.get_context("forkserver")


class _GivenUpError(Exception):
    pass


def give_up() -> None:
    raise _GivenUpError


@pytest.fixture
def database(settings):
    with Database(settings) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch):
    monkeypatch.setattr(dataset_locks, "_POLL_S", 0.01)


def is_written(database: Database, dataset_id: UUID) -> bool:
    with database.transaction() as connection:
        return is_locked(connection, dataset_id)


@contextmanager
def claimed(database: Database, dataset_id: UUID, how: str):
    """Claim it as a batch, which gives up instead of waiting, or alone."""
    claim = (
        shared_lock(database, dataset_id, give_up) if how == "batch" else exclusive_lock(database, dataset_id, "night")
    )
    with claim:
        yield


@pytest.mark.parametrize(
    ("first", "second", "works"),
    [
        ("batch", "batch", True),
        ("batch", "repair", False),
        ("repair", "batch", False),
        ("repair", "repair", False),
    ],
)
def test_batches_share_a_dataset_and_a_repair_has_it_alone(database, first, second, works):
    dataset_id = uuid4()
    with claimed(database, dataset_id, first):
        if works:
            with claimed(database, dataset_id, second):
                assert is_written(database, dataset_id)
        else:
            with pytest.raises((DatasetLockedError, _GivenUpError)), claimed(database, dataset_id, second):
                pytest.fail("both have it")
        assert is_written(database, dataset_id)
        with claimed(database, uuid4(), second):
            pass  # another dataset is not affected
    assert not is_written(database, dataset_id)
    with claimed(database, dataset_id, second):
        pass


def test_the_error_names_the_dataset_and_says_that_nothing_changed(database):
    dataset_id = uuid4()
    with (
        shared_lock(database, dataset_id),
        pytest.raises(DatasetLockedError) as caught,
        exclusive_lock(database, dataset_id, "night"),
    ):
        pass
    assert str(caught.value).startswith("dataset night is being written")
    assert "Nothing was changed" in str(caught.value)


def test_a_batch_waits_until_a_repair_has_ended(database):
    dataset_id = uuid4()
    waited = []
    with ExitStack() as repair:
        repair.enter_context(exclusive_lock(database, dataset_id, "night"))

        def waiting() -> None:
            waited.append(True)
            if len(waited) == 3:
                repair.close()

        with shared_lock(database, dataset_id, waiting):
            assert len(waited) == 3


@pytest.mark.parametrize("how", ["batch", "repair"])
def test_an_error_ends_a_claim(database, how):
    dataset_id = uuid4()
    with pytest.raises(_GivenUpError), claimed(database, dataset_id, how):
        give_up()
    assert not is_written(database, dataset_id)


# Keys of advisory locks are 64 bits, signed, and pg_locks shows them in two halves: every sign of both comes up.
@pytest.mark.parametrize("how", ["batch", "repair"])
def test_exactly_the_datasets_being_written_are_locked(database, how):
    ids = [UUID(int=number) for number in range(40)]
    for dataset_id in ids[::2]:
        with claimed(database, dataset_id, how):
            assert {other for other in ids if is_written(database, other)} == {dataset_id}
            assert activity(database, dataset_id).is_locked
    assert not any(is_written(database, dataset_id) for dataset_id in ids)


def test_several_datasets_are_written_at_once(settings):
    with Database(settings.model_copy(update={"pg_pool_size": 10})) as database, ExitStack() as claims:
        ids = [uuid4() for _ in range(8)]
        for dataset_id in ids[:4]:
            claims.enter_context(shared_lock(database, dataset_id))
        assert [is_written(database, dataset_id) for dataset_id in ids] == [True] * 4 + [False] * 4


def test_a_claim_of_another_database_is_not_seen(database, server_settings):
    dataset_id = uuid4()
    with Database(server_settings) as other, exclusive_lock(other, dataset_id, "night"):
        assert is_written(other, dataset_id)
        assert not is_written(database, dataset_id)
        with exclusive_lock(database, dataset_id, "night"):
            pass


def hold_a_lock(settings: Settings, dataset_id: UUID, how: str, tell: Connection) -> None:
    with Database(settings) as database, claimed(database, dataset_id, how):
        tell.send("claimed")
        time.sleep(3600)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["batch", "repair"])
def test_a_claim_ends_with_its_process_when_that_is_killed(settings, database, how):
    dataset_id = uuid4()
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=hold_a_lock, args=(settings, dataset_id, how, theirs))
    process.start()
    assert process.pid is not None
    try:
        assert ours.poll(TIMEOUT_S)
        assert is_written(database, dataset_id)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    wait_for("the lock to be released", lambda: not is_written(database, dataset_id))
    with exclusive_lock(database, dataset_id, "night"):
        pass


def test_a_connection_lost_after_the_work_fails_nothing_and_one_lost_before_does(settings):
    dataset_id = uuid4()
    with TcpLink(settings.pg_port) as link, Database(settings.model_copy(update={"pg_port": link.port})) as database:
        with shared_lock(database, dataset_id):
            link.cut()
        with pytest.raises(DatabaseUnavailableError), shared_lock(database, dataset_id):
            pass
