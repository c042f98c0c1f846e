"""Servers that are away, slow, full or restarted during a check, a batch or a repair of a dataset."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from heimdall_pipelines.datasets import checks, generating
from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.datasets.generating import BatchProgress
from heimdall_pipelines.datasets.object_checks import ListingOrderError
from heimdall_pipelines.datasets.repair import plan_repair
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.local.ports import is_free
from heimdall_pipelines.local.postgres import SUPERUSER, EmbeddedPostgres, ensure_databases
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store import dataset_locks
from heimdall_pipelines.store.dataset_locks import LockLostError
from heimdall_pipelines.store.datasets import DatasetNotFoundError
from heimdall_pipelines.store.migrate import migrate
from heimdall_pipelines.store.objects import ObjectsFullError, ObjectsUnavailableError
from heimdall_pipelines.store.outages import DatabaseUnavailableError
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.datasets.support import make
from heimdall_pipelines_tests.integrity import (
    AS_BEFORE,
    NAME,
    Night,
    failed,
    in_words,
    night_of_module,
    repair_with,
)
from heimdall_pipelines_tests.run_guard import open_folder
from heimdall_pipelines_tests.s3_proxy import S3Proxy, port_of
from heimdall_pipelines_tests.tcp_link import LOOPBACK, TcpLink
from heimdall_pipelines_tests.waiting import wait_for

NO_VERDICT = "no check is passed or failed, no health is written"
PASSWORD = "of-this-test-alone"


@pytest.fixture(scope="module")
def _module(server_settings, _template):
    with night_of_module(server_settings) as made:
        yield made


@pytest.fixture
def settings(_module) -> Settings:
    return _module[0]


@pytest.fixture
def night(_module) -> Night:
    _module[1].make_sound()
    return _module[1]


@pytest.fixture(autouse=True)
def _in_small_steps(monkeypatch):
    """Progress is told at every step, so that there is a middle."""
    monkeypatch.setattr(checks, "PROGRESS_INTERVAL_S", -1.0)
    monkeypatch.setattr(generating, "PROGRESS_INTERVAL_S", 0.0)


@contextmanager
def s3_link(settings: Settings) -> Iterator[tuple[Stores, TcpLink]]:
    """Stores that reach S3 through a link."""
    with TcpLink(port_of(settings.s3_endpoint)) as link:
        through = settings.model_copy(update={"s3_endpoint": f"{LOOPBACK}:{link.port}"})
        with open_stores(through) as stores:
            yield stores, link


@contextmanager
def postgres_link(settings: Settings) -> Iterator[tuple[Stores, TcpLink]]:
    """Stores that reach PostgreSQL through a link."""
    with TcpLink(settings.pg_port) as link, open_stores(settings.model_copy(update={"pg_port": link.port})) as stores:
        yield stores, link


LINKS = {"S3": (s3_link, ObjectsUnavailableError), "PostgreSQL": (postgres_link, DatabaseUnavailableError)}


def once(happens: Callable[[], object], when: Callable[[object], bool] = lambda _: True) -> Callable[[object], None]:
    """Progress that lets something happen the first time that it tells of a moment."""
    happened = []

    def told(progress: object) -> None:
        if not happened and when(progress):
            happened.append(progress)
            happens()

    return told


def at_samples(line: object) -> bool:
    return "samples checked" in str(line)


def at_objects(line: object) -> bool:
    return "objects checked" in str(line)


def some_are_made(progress: object) -> bool:
    assert isinstance(progress, BatchProgress)
    return progress.num_made > 0


def damage(night: Night) -> None:
    """Two samples have to be regenerated, an object goes, a count is wrong."""
    night.delete(night.key(3))
    night.execute("DELETE FROM heimdall.measurement_features WHERE dataset_id = :id AND sample_idx = 11")
    night.execute("UPDATE heimdall.synthetic_datasets SET num_samples = 5 WHERE id = :id")
    night.put(f"synthetic/{night.dataset.id}/notes.txt", b"x")


def assert_no_verdict(night: Night, caught: pytest.ExceptionInfo[UnavailableError], server: str) -> None:
    assert server in str(caught.value)
    assert night.health() == ("unknown", None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "server", [pytest.param(name, marks=pytest.mark.fault(f"{name} is down before a check")) for name in LINKS]
)
def test_a_server_that_is_away_is_neither_a_passed_nor_a_failed_check(night, settings, fault, server):
    link_to, error = LINKS[server]
    with link_to(settings) as (stores, link):
        link.cut()
        for do in (validate_dataset, plan_repair, repair_with):
            with pytest.raises(error) as caught:
                do(stores) if do is repair_with else do(stores, NAME)
            assert_no_verdict(night, caught, server)
        link.repair()
        assert failed(night.validate(stores)) == {}
    night.assert_sound()
    fault.record(detected_by=[error.__name__], result=f"{NO_VERDICT}; when it is up again: {AS_BEFORE}")


@pytest.mark.parametrize(
    ("server", "moment"),
    [
        pytest.param(server, moment, marks=pytest.mark.fault(f"the connection to {server} breaks {name}"))
        for server, moment, name in [
            ("S3", at_samples, "in the middle of a check"),
            ("S3", at_objects, "while a check reads objects"),
            ("PostgreSQL", at_samples, "in the middle of a check"),
            ("PostgreSQL", at_objects, "while a check compares objects"),
        ]
    ],
)
def test_a_server_that_breaks_off_leaves_a_check_without_verdict(night, settings, fault, server, moment):
    link_to, error = LINKS[server]
    with link_to(settings) as (stores, link):
        with pytest.raises(error) as caught:
            validate_dataset(stores, NAME, checksums=True, progress=once(link.cut, moment))
        assert_no_verdict(night, caught, server)
    night.assert_sound()
    fault.record(detected_by=[error.__name__], result=f"{NO_VERDICT}; when it is up again: {AS_BEFORE}")


@pytest.mark.fault("the connection to S3 breaks in the middle of a listing")
def test_a_listing_that_breaks_off_is_no_list_of_what_is_there(night, settings, fault):
    with s3_link(settings) as (stores, link):
        told = once(lambda: link.cut_after(3000), at_samples)
        with pytest.raises(ObjectsUnavailableError) as caught:
            validate_dataset(stores, NAME, progress=told)
        assert_no_verdict(night, caught, "S3")
    night.assert_sound()
    fault.record(detected_by=[type(caught.value).__name__], result=f"{NO_VERDICT}; when it is up again: {AS_BEFORE}")


@pytest.mark.slow
@pytest.mark.fault("a listing is not in the order of its keys")
def test_a_listing_out_of_order_is_neither_a_passed_nor_a_failed_check(night, settings, fault):
    damage(night)
    before = night.snapshot()
    with S3Proxy(port_of(settings.s3_endpoint)) as proxy:
        through = settings.model_copy(update={"s3_endpoint": f"{LOOPBACK}:{proxy.port}"})
        with open_stores(through) as stores:
            proxy.lists_backwards = True
            for do in (validate_dataset, plan_repair, repair_with):
                with pytest.raises(ListingOrderError) as caught:
                    do(stores) if do is repair_with else do(stores, NAME)
                assert_no_verdict(night, caught, "S3")
            assert issubclass(ListingOrderError, UnavailableError)
            assert night.snapshot() == before
            proxy.lists_backwards = False
            done = night.repair(stores)
    night.assert_sound()
    fault.record(
        detected_by=[type(caught.value).__name__],
        result=f"{NO_VERDICT}, the repair changes nothing; once it is in order: {in_words(done)}: {AS_BEFORE}",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "moment"),
    [
        pytest.param(server, moment, marks=pytest.mark.fault(f"the connection to {server} breaks in a repair, {name}"))
        for server in LINKS
        for moment, name in [(lambda _: True, "before samples are made"), (some_are_made, "before rows are committed")]
    ],
)
def test_a_server_that_breaks_off_in_a_repair_leaves_it_to_be_done_again(night, settings, fault, server, moment):
    link_to, error = LINKS[server]
    damage(night)
    with link_to(settings) as (stores, link):
        with pytest.raises(error) as caught:
            repair_with(stores, making=once(link.cut, moment))
        assert_no_verdict(night, caught, server)
    no_worse = failed(night.validate())
    assert {"counts_agree", "objects_agree"} <= set(no_worse)
    assert [example for example in no_worse["objects_agree"] if "is missing" in example] in (
        [],
        [f"sample 3: {night.key(3)} is missing"],
    )
    night.repair()
    night.assert_sound()
    fault.record(detected_by=[error.__name__], result=f"the repair fails, nothing is lost; repeated: {AS_BEFORE}")


@pytest.mark.slow
@pytest.mark.fault("S3 is slow")
def test_a_slow_store_changes_no_result(night, settings, fault):
    damage(night)
    expected = failed(night.validate())
    night.forget_health()
    with s3_link(settings) as (stores, link):
        link.slow_down(0.005)
        assert failed(night.validate(stores)) == expected
        done = night.repair(stores)
        validation = night.validate(stores, checksums=True)
    assert validation.health_status == "healthy"
    night.assert_sound()
    fault.record(detected_by="the same checks as without the delay", result=f"{in_words(done)}: {AS_BEFORE}")


# A restart of PostgreSQL


class OwnPostgres:
    """A PostgreSQL that tests may kill; objects lie in the S3 store of all tests."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._server = EmbeddedPostgres(folder)
        port = self._server.start(PASSWORD)
        ensure_databases(port, PASSWORD, ["heimdall"])
        own = {"pg_host": LOOPBACK, "pg_port": port, "pg_user": SUPERUSER, "pg_database": "heimdall"}
        self.settings = settings.model_copy(update=own | {"pg_password": SecretStr(PASSWORD)})

    def restart(self) -> None:
        """Kill it, and start it again."""
        pid = self._server.running_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        gone = lambda: self._server.running_pid() is None and is_free(self.settings.pg_port)  # noqa: E731
        wait_for("PostgreSQL to end", gone)
        assert self._server.start(PASSWORD) == self.settings.pg_port

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture(scope="module")
def own_postgres(_module) -> Iterator[OwnPostgres]:
    folder = open_folder("integrity")
    own = OwnPostgres(folder / "postgres", _module[0])
    try:
        yield own
    finally:
        own.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def _own_module(own_postgres, _module):
    with open_stores(own_postgres.settings) as stores:
        migrate(stores.database)
        _module[1].clear()
        yield Night(stores)


@pytest.fixture
def own_night(_own_module) -> Night:
    _own_module.make_sound()
    return _own_module


@pytest.mark.slow
@pytest.mark.fault("PostgreSQL is restarted in the middle of a check")
def test_a_restart_of_postgres_in_a_check_leaves_no_verdict(own_night, own_postgres, fault):
    with pytest.raises(DatabaseUnavailableError) as caught:
        validate_dataset(own_night.stores, NAME, progress=once(own_postgres.restart, at_samples))
    assert_no_verdict(own_night, caught, "PostgreSQL")
    own_night.assert_sound()
    fault.record(detected_by=[type(caught.value).__name__], result=f"{NO_VERDICT}; done again: {AS_BEFORE}")


@pytest.mark.slow
@pytest.mark.fault("PostgreSQL is restarted in the middle of a batch")
def test_a_restart_of_postgres_in_a_batch_is_outlived(own_night, own_postgres, fault):
    own_night.unmake(1)
    make(own_night.stores, NAME, 1, progress=once(own_postgres.restart, some_are_made))
    own_night.assert_sound()
    fault.record(detected_by="nothing to detect", result=f"the batch is committed over a new connection: {AS_BEFORE}")


@pytest.mark.slow
@pytest.mark.fault("PostgreSQL is restarted in a batch that takes longer than half an hour")
def test_a_long_batch_that_lost_its_lock_commits_nothing(own_night, own_postgres, fault, monkeypatch):
    """A repair meanwhile would have removed its first objects, an hour old, as orphans."""
    own_night.unmake(1)
    before = own_night.rows()
    monkeypatch.setattr(dataset_locks, "SAFE_WITHOUT_LOCK_S", 0.0)
    with pytest.raises(LockLostError, match="run the batch again") as lost:
        make(own_night.stores, NAME, 1, progress=once(own_postgres.restart, some_are_made))
    assert own_night.rows() == before
    make(own_night.stores, NAME, 1)
    own_night.assert_sound()
    fault.record(detected_by=[lost.type.__name__], result=f"no row is committed; regenerated: {AS_BEFORE}")


@pytest.mark.slow
@pytest.mark.fault("PostgreSQL is restarted in the middle of a repair")
def test_a_restart_of_postgres_in_a_repair_is_outlived(own_night, own_postgres, fault):
    damage(own_night)
    done = own_night.repair(making=once(own_postgres.restart, some_are_made))
    own_night.assert_sound()
    fault.record(detected_by="nothing to detect", result=f"{in_words(done)} over new connections: {AS_BEFORE}")


# No room for objects


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=pytest.mark.fault(f"the S3 store is full (HTTP 507) during a {what}"))
        for what in ("batch", "repair")
    ],
)
def test_without_room_nothing_is_committed_and_with_room_again_all_is_made(night, settings, fault, what):
    if what == "batch":
        night.unmake(1)
    else:
        damage(night)
    before = night.rows()

    def attempt(stores: Stores) -> None:
        if what == "batch":
            make(stores, NAME, 1)
        else:
            night.repair(stores)

    with S3Proxy(port_of(settings.s3_endpoint)) as proxy:
        through = settings.model_copy(update={"s3_endpoint": f"{LOOPBACK}:{proxy.port}"})
        with open_stores(through) as stores:
            proxy.puts_until_full = 0 if what == "repair" else 2
            with pytest.raises(
                ObjectsFullError, match=r"has no room for \S+ \(XMinioStorageFull: .+\): free space"
            ) as full:
                attempt(stores)
            assert night.rows() == before
            proxy.puts_until_full = None
            attempt(stores)
    night.assert_sound()
    fault.record(detected_by=[type(full.value).__name__], result=f"no row is committed; with free space: {AS_BEFORE}")


@pytest.mark.slow
def test_worker_processes_report_a_full_disk_as_such(night, settings):
    night.unmake(1)
    with S3Proxy(port_of(settings.s3_endpoint)) as proxy, Workers(2) as workers:
        proxy.puts_until_full = 2
        through = settings.model_copy(update={"s3_endpoint": f"{LOOPBACK}:{proxy.port}"})
        with open_stores(through) as stores, pytest.raises(ObjectsFullError):
            generating.make_batch(stores, NAME, 1, workers)
    assert set(failed(night.validate())) <= {"objects_agree"}
    make(night.stores, NAME, 1)
    night.assert_sound()


def test_a_check_of_an_unknown_dataset_fails(night):
    for do in (check_dataset, validate_dataset, plan_repair):
        with pytest.raises(DatasetNotFoundError, match="unknown dataset day"):
            do(night.stores, "day")
