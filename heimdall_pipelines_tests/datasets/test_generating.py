"""Batches: the same bytes with any workers, consistent rows and objects, no partial batch after a failure."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from heimdall_pipelines.datasets import generating
from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.datasets.generating import (
    ATTEMPTS_PER_SAMPLE,
    BatchProgress,
    BatchStoppedError,
    make_batch,
    rejection_table,
)
from heimdall_pipelines.datasets.requesting import probe_acceptance
from heimdall_pipelines.datasets.samples import GeneratorVersionError, Recipe
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.local.processes import is_alive
from heimdall_pipelines.model.batches import InvalidNameError
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.datasets import DatasetNotFoundError, get_dataset
from heimdall_pipelines.store.objects import ObjectsRefusedError, ObjectStore
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.conftest import environment_of
from heimdall_pipelines_tests.datasets.support import (
    SEVEN,
    add,
    assert_agrees,
    assert_nothing_stored,
    execute,
    expand,
    feature_rows,
    iq_sha256,
    make,
    make_with_own_stores,
    object_sizes,
    query,
)
from heimdall_pipelines_tests.sealing import reseal
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

BOTH_TYPES = pytest.mark.parametrize("dataset_type", ["feature_based", "iq_raw"])
# 2 to 3 % of the scenes drawn for the seven stations are accepted: 20 attempts per sample are not enough.
SCARCE = {"min_snr_db": 34, "min_receivers": 7}


@pytest.fixture
def settings(module_settings):
    return module_settings


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Workers]:
    """They are used by one test after the other, each with stores of its own."""
    with Workers(2) as workers:
        yield workers


def at_the_end(once: Callable[[], object]) -> Callable[[BatchProgress], None]:
    """Progress that does something when every sample is made and stored, right before the commit."""

    def told(progress: BatchProgress) -> None:
        if progress.num_made == progress.num_samples:
            once()

    return told


@pytest.mark.slow
def test_workers_batch_size_and_order_do_not_change_a_byte(stores, two_workers):
    alone = add(stores, "alone", 21, batch_size=100)
    make(stores, "alone")
    together = add(stores, "together", 21, batch_size=100)
    make_batch(stores, "together", 0, two_workers)
    sevens = add(stores, "sevens", 21, batch_size=7)
    for batch_no in (2, 0, 1):
        make_batch(stores, "sevens", batch_no, two_workers)

    rows, objects = feature_rows(stores, alone), iq_sha256(stores, alone)
    assert (len(rows), len(objects)) == (21, 21 * 3)
    assert feature_rows(stores, together) == feature_rows(stores, sevens) == rows
    assert iq_sha256(stores, together) == iq_sha256(stores, sevens) == objects


@pytest.mark.slow
@BOTH_TYPES
def test_an_expanded_dataset_has_the_samples_of_one_asked_for_at_once(stores, dataset_type):
    grown = add(stores, "grown", 5, batch_size=10, dataset_type=dataset_type)
    make(stores, "grown")
    assert_agrees(stores, "grown", range(5))
    first_rows, first_objects = feature_rows(stores, grown), iq_sha256(stores, grown)

    expand(stores, grown, 15)
    assert make(stores, "grown", 0).num_made == 5
    assert_agrees(stores, "grown", range(10))
    make(stores, "grown", 1)
    assert_agrees(stores, "grown", range(15))

    expand(stores, grown, 35)
    for batch_no, num_samples in ((1, 20), (2, 30), (3, 35)):
        make(stores, "grown", batch_no)
        assert_agrees(stores, "grown", range(num_samples))
    assert {idx: feature_rows(stores, grown)[idx] for idx in range(5)} == first_rows
    assert {key: found for key, found in iq_sha256(stores, grown).items() if int(key.split("/")[0]) < 5} == (
        first_objects
    )

    at_once = add(stores, "at-once", 35, batch_size=35, dataset_type=dataset_type)
    make(stores, "at-once")
    assert feature_rows(stores, at_once) == feature_rows(stores, grown)
    assert iq_sha256(stores, at_once) == iq_sha256(stores, grown)


@pytest.mark.slow
def test_5_then_15_then_1015_samples_keep_the_iq_of_a_hundred(stores, two_workers):
    """Samples of 20 ms; the default batch size, so that the last expansion fills a batch and begins another."""
    dataset = add(stores, "large", 5, sample_rate_hz=20_000, duration_ms=20, num_chunks=1)
    make_batch(stores, "large", 0, two_workers)
    first_rows, first_objects = feature_rows(stores, dataset), iq_sha256(stores, dataset)
    expand(stores, dataset, 15)
    assert make_batch(stores, "large", 0, two_workers).num_made == 10
    assert_agrees(stores, "large", range(15))

    expand(stores, dataset, 1015)
    told: list[BatchProgress] = []
    report = make_batch(stores, "large", 0, two_workers, told.append)
    assert (report.num_made, report.num_objects) == (985, 85 * 3)
    assert_agrees(stores, "large", range(1000))
    make_batch(stores, "large", 1, two_workers)
    assert_agrees(stores, "large", range(1015))

    rows = feature_rows(stores, dataset)
    assert {idx: rows[idx] for idx in range(5)} == first_rows
    assert iq_sha256(stores, dataset).items() >= first_objects.items()
    folders = {}
    for key in object_sizes(stores, dataset):
        folder, name = key.split("/")
        folders.setdefault(int(folder), []).append(name.split(".")[-1])
    assert sorted(folders) == list(range(100))
    assert {tuple(sorted(kinds)) for kinds in folders.values()} == {("sigmf-data",) * 3 + ("sigmf-meta",) * 3}
    made = [progress.num_made for progress in told]
    assert made == sorted(made)
    assert made[-1] == 985


def test_batches_out_of_order_are_counted_after_each(stores):
    add(stores, "night", 25, batch_size=10)
    make(stores, "night", 2)
    assert_agrees(stores, "night", range(20, 25))
    make(stores, "night", 0)
    assert_agrees(stores, "night", [*range(10), *range(20, 25)])
    make(stores, "night", 1)
    assert_agrees(stores, "night", range(25))


def test_batches_at_the_same_time_are_all_there(settings, stores):
    add(stores, "night", 28, batch_size=7, dataset_type="iq_raw")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda batch_no: make_with_own_stores(settings, "night", batch_no), range(4)))
    assert_agrees(stores, "night", range(28))


def test_the_same_batch_several_times_at_once_is_there_once(settings, stores):
    add(stores, "night", 10)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: make_with_own_stores(settings, "night"), range(3)))
    assert_agrees(stores, "night", range(10))


def test_the_same_batch_made_while_it_is_being_made_is_there_once(settings, stores):
    dataset = add(stores, "night", 10)
    inner = []
    make(stores, "night", progress=at_the_end(lambda: inner.append(make_with_own_stores(settings, "night"))))
    assert inner[0].num_made == 10
    assert_agrees(stores, "night", range(10))
    assert len(feature_rows(stores, dataset)) == 10


def test_a_regenerated_batch_has_identical_bytes(stores):
    dataset = add(stores, "night", 6)
    first = make(stores, "night")
    rows, objects = feature_rows(stores, dataset), iq_sha256(stores, dataset)
    again = make(stores, "night")
    assert again.num_made == first.num_made == 6
    assert again.batch == first.batch
    assert (feature_rows(stores, dataset), iq_sha256(stores, dataset)) == (rows, objects)
    assert_agrees(stores, "night", range(6))


def test_ids_of_rows_are_the_same_again(stores):
    dataset = add(stores, "night", 3)
    ids = "SELECT sample_idx, id FROM heimdall.measurement_features WHERE dataset_id = :id ORDER BY sample_idx"
    make(stores, "night")
    first = query(stores, ids, id=dataset.id)
    make(stores, "night")
    assert query(stores, ids, id=dataset.id) == first
    assert len({row["id"] for row in first}) == 3


def test_a_run_for_a_smaller_target_may_end_after_one_for_a_larger(settings, stores):
    dataset = add(stores, "night", 5)

    def expand_and_make() -> None:
        expand(stores, dataset, 15)
        make_with_own_stores(settings, "night")
        assert_agrees(stores, "night", range(15))

    report = make(stores, "night", progress=at_the_end(expand_and_make))
    assert report.num_made == 5
    assert report.batch.num_samples == 15
    assert_agrees(stores, "night", range(15))


def test_a_run_for_a_smaller_target_leaves_the_rest_missing(stores):
    dataset = add(stores, "night", 5)
    make(stores, "night", progress=at_the_end(lambda: expand(stores, dataset, 15)))
    assert_agrees(stores, "night", range(5))
    make(stores, "night")
    assert_agrees(stores, "night", range(15))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM heimdall.measurement_features WHERE dataset_id = :id AND sample_idx IN (3, 4)",
        "DELETE FROM heimdall.synthetic_iq_samples WHERE dataset_id = :id AND sample_idx = 2",
        "DELETE FROM heimdall.synthetic_batches WHERE dataset_id = :id",
        "DELETE FROM heimdall.measurement_features WHERE dataset_id = :id",
        "UPDATE heimdall.synthetic_datasets SET num_samples = 99 WHERE id = :id",
    ],
    ids=["features", "iq", "batches", "all-features", "count"],
)
def test_what_somebody_deleted_by_hand_is_healed_by_the_batch(stores, statement):
    dataset = add(stores, "night", 6)
    make(stores, "night")
    rows = feature_rows(stores, dataset)
    execute(stores, statement, id=dataset.id)
    make(stores, "night")
    assert_agrees(stores, "night", range(6))
    assert feature_rows(stores, dataset) == rows


def test_only_what_is_missing_is_made(stores):
    dataset = add(stores, "night", 6)
    make(stores, "night")
    execute(
        stores,
        "DELETE FROM heimdall.measurement_features WHERE dataset_id = :id AND sample_idx IN (3, 4)",
        id=dataset.id,
    )
    assert make(stores, "night").num_made == 2


def test_a_lost_object_is_there_again_after_the_batch(stores):
    dataset = add(stores, "night", 4)
    make(stores, "night")
    objects = iq_sha256(stores, dataset)
    stores.objects.remove(stores.objects.synthetic_iq_bucket, f"synthetic/{dataset.id}/2/")
    make(stores, "night")
    assert iq_sha256(stores, dataset) == objects
    assert_agrees(stores, "night", range(4))


NO_COMMIT = "SELECT 1 FROM heimdall.synthetic_datasets FOR UPDATE"
MAKE_A_BATCH = """
import sys
from heimdall_pipelines.datasets.generating import make_batch
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores
with open_stores(load_settings()) as stores, Workers(int(sys.argv[2])) as workers:
    make_batch(stores, sys.argv[1], 0, workers)
"""


@contextmanager
def batch_process(settings, name: str, num_workers: int) -> Iterator[subprocess.Popen]:
    """Another process that makes a batch, and is killed; its workers notice, and end."""
    environment = os.environ | environment_of(settings)
    command = [sys.executable, "-c", MAKE_A_BATCH, name, str(num_workers)]
    with subprocess.Popen(command, env=environment) as process:
        workers = []
        try:
            yield process
            workers = psutil.Process(process.pid).children()
        finally:
            process.send_signal(signal.SIGKILL)
    wait_for("the workers to end", lambda: not any(is_alive(worker) for worker in workers))


@contextmanager
def held_at_the_commit(stores: Stores, statement: str) -> Iterator[Callable[[], bool]]:
    """Lock what a commit needs; gives whether somebody waits for it."""
    with stores.database.transaction() as connection:
        connection.execute(text(statement))
        yield lambda: query(
            stores,
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )


def no_transaction_is_open(stores: Stores) -> bool:
    return not query(
        stores,
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND application_name = 'heimdall' AND xact_start IS NOT NULL",
    )


@pytest.mark.slow
def test_a_batch_killed_during_uploads_leaves_no_row(settings, stores):
    dataset = add(stores, "night", 30)
    # However late it is killed, it has not committed.
    with held_at_the_commit(stores, NO_COMMIT), batch_process(settings, "night", 2) as process:
        wait_for("the first object", lambda: object_sizes(stores, dataset))
        assert process.poll() is None
    wait_for("the killed process's connections to close", lambda: no_transaction_is_open(stores))
    assert feature_rows(stores, dataset) == {}
    assert get_dataset(stores.database, "night").num_samples == 0
    assert list_batches(stores.database, dataset.id) == []
    make(stores, "night")
    assert_agrees(stores, "night", range(30))


@pytest.mark.slow
@pytest.mark.parametrize(
    "lock",
    [
        NO_COMMIT,  # nothing of the commit is done
        "LOCK TABLE heimdall.synthetic_batches IN EXCLUSIVE MODE",  # features and IQ rows are inserted
    ],
    ids=["before", "within"],
)
def test_killed_in_the_commit_a_batch_leaves_the_rows_that_were_there(settings, stores, lock):
    dataset = add(stores, "night", 5)
    make(stores, "night")
    before = feature_rows(stores, dataset)
    expand(stores, dataset, 12)
    with held_at_the_commit(stores, lock) as is_waited_for, batch_process(settings, "night", 1):
        wait_for("the batch to wait for its commit", is_waited_for)
        assert len(object_sizes(stores, dataset)) == 12 * 3 * 2
    wait_for("the killed transaction to be rolled back", lambda: no_transaction_is_open(stores))
    assert feature_rows(stores, dataset) == before
    assert get_dataset(stores.database, "night").num_samples == 5
    assert [batch.num_samples for batch in list_batches(stores.database, dataset.id)] == [5]
    make(stores, "night")
    assert_agrees(stores, "night", range(12))


def test_an_interrupted_batch_commits_nothing(stores):
    dataset = add(stores, "night", 5)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(stores, "night", progress=at_the_end(interrupt))
    assert feature_rows(stores, dataset) == {}
    assert list_batches(stores.database, dataset.id) == []
    make(stores, "night")
    assert_agrees(stores, "night", range(5))


def scarce_dataset(stores: Stores, name: str, num_samples: int, **more):
    dataset = add(stores, name, num_samples, sites=SEVEN, **SCARCE, **more)
    assert 0.005 < probe_acceptance(Recipe.of(dataset)).ratio < 0.05
    return dataset


def test_a_batch_without_enough_acceptable_scenes_stops_with_its_reasons_and_stores_nothing(stores):
    dataset = scarce_dataset(stores, "scarce", 5)
    with pytest.raises(BatchStoppedError) as caught:
        make(stores, "scarce")
    message = str(caught.value)
    assert "scarce__00000 stopped (max_attempts)" in message
    assert "of 5 samples found a scene in 100 attempts, 20 per sample; nothing was committed" in message
    assert re.search(r"too_few_receivers +\d+ +\d+\.\d%", message)
    assert "create another one with weaker limits (min_snr_db, min_receivers, max_gdop)" in message

    assert_nothing_stored(stores, dataset)
    (batch,) = list_batches(stores.database, dataset.id)
    assert (batch.stopped_reason, batch.num_samples) == ("max_attempts", 0)
    assert batch.attempts == 5 * ATTEMPTS_PER_SAMPLE
    assert 95 < sum(batch.rejections.values()) <= 100


def test_a_batch_that_stops_again_says_so_of_its_last_try(stores):
    dataset = scarce_dataset(stores, "scarce", 5)
    for target, attempts in ((5, 100), (8, 160)):
        expand(stores, dataset, target)
        with pytest.raises(BatchStoppedError):
            make(stores, "scarce")
        (batch,) = list_batches(stores.database, dataset.id)
        assert batch.attempts == attempts
    assert_nothing_stored(stores, dataset)


@pytest.mark.slow
def test_a_batch_stops_alike_however_many_workers_draw(stores, two_workers):
    dataset = scarce_dataset(stores, "scarce", 60)
    stops = []
    for workers in (Workers(1), two_workers):
        with pytest.raises(BatchStoppedError) as caught:
            make_batch(stores, "scarce", 0, workers)
        (batch,) = list_batches(stores.database, dataset.id)
        stops.append((batch, str(caught.value)))
    assert stops[0] == stops[1]
    assert stops[0][0].attempts == 60 * ATTEMPTS_PER_SAMPLE
    assert_nothing_stored(stores, dataset)


def test_an_expansion_that_stops_keeps_what_was_there(stores):
    dataset = add(stores, "scarce", 3, sites=SEVEN)
    make(stores, "scarce")
    rows, objects = feature_rows(stores, dataset), object_sizes(stores, dataset)
    # As if the first three had been lucky.
    statement = "UPDATE heimdall.synthetic_datasets SET spec = spec || CAST(:scarce AS jsonb) WHERE id = :id"
    execute(stores, statement, scarce=json.dumps(SCARCE), id=dataset.id)
    reseal(stores)
    expand(stores, dataset, 8)
    with pytest.raises(BatchStoppedError, match="of 5 samples found a scene in 100 attempts"):
        make(stores, "scarce")
    assert (feature_rows(stores, dataset), object_sizes(stores, dataset)) == (rows, objects)
    assert get_dataset(stores.database, "scarce").num_samples == 3
    (batch,) = list_batches(stores.database, dataset.id)
    assert (batch.num_samples, batch.stopped_reason) == (3, "max_attempts")


def test_the_table_of_reasons_has_the_most_frequent_first():
    lines = rejection_table(200, {"gdop_too_high": 3, "too_few_receivers": 150}).splitlines()
    assert [line.split() for line in lines] == [
        ["reason", "attempts", "share"],
        ["too_few_receivers", "150", "75.0%"],
        ["gdop_too_high", "3", "1.5%"],
    ]


def test_a_batch_reports_what_it_made(stores):
    dataset = add(stores, "night", 8, sites=SEVEN, min_receivers=6)
    report = make(stores, "night")
    assert report.span == dataset.grid.batch(0)
    assert (report.num_made, report.num_objects) == (8, 8 * 7)
    assert report.attempts == 8 + sum(report.rejections.values()) == report.batch.attempts
    assert report.rejections == report.batch.rejections != {}
    assert report.batch == list_batches(stores.database, dataset.id)[0]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_progress_goes_from_scenes_to_samples_and_ends_with_all(stores, two_workers, monkeypatch, num_workers):
    monkeypatch.setattr(generating, "PROGRESS_INTERVAL_S", 0.0)
    add(stores, "night", 25)
    told: list[BatchProgress] = []
    make_batch(stores, "night", 0, two_workers if num_workers == 2 else Workers(1), told.append)
    steps = [(progress.num_drawn, progress.num_made) for progress in told]
    assert steps == sorted(steps)
    assert steps[:25] == [(idx + 1, 0) for idx in range(25)]
    assert steps[-1] == (25, 25)
    last = told[-1]
    assert 0 < last.acceptance <= 1
    assert last.samples_per_s > 0
    assert re.fullmatch(r"night__00000: 25 of 25 samples, \d+ samples/s, \d+% of scenes accepted, 0 s left", str(last))
    assert re.fullmatch(r"night__00000: 3 of 25 scenes drawn, \d+% of \d+ attempts accepted", str(told[2]))


def test_progress_before_anything_is_made_can_be_read():
    assert str(BatchProgress("night__00000", 10, 10, 0, 12, 0.0)) == (
        "night__00000: 0 of 10 samples, 0 samples/s, 83% of scenes accepted"
    )
    assert BatchProgress("night__00000", 10, 0, 0, 0, 0.0).acceptance == 1


def test_a_dataset_deleted_while_a_batch_is_made_fails_it_and_nothing_is_left(stores, monkeypatch):
    """Deleted after the first ten samples: the objects of the others are stored after the deletion."""
    monkeypatch.setattr(generating, "PROGRESS_INTERVAL_S", 0.0)
    dataset = add(stores, "night", 25)

    def delete_in_the_middle(progress: BatchProgress) -> None:
        if progress.num_made == 10:
            delete_dataset(stores, "night")
            assert_nothing_stored(stores, dataset)

    with pytest.raises(DatasetNotFoundError, match="dataset night was deleted while night__00000 was being made"):
        make(stores, "night", progress=delete_in_the_middle)
    assert_nothing_stored(stores, dataset)
    assert list_batches(stores.database, dataset.id) == []


def test_a_dataset_of_another_generator_version_is_not_made(stores):
    dataset = add(stores, "old", 5, generator_version=99)
    with pytest.raises(GeneratorVersionError, match="generator version 99"):
        make(stores, "old")
    assert_nothing_stored(stores, dataset)


def test_what_is_not_there_cannot_be_made(stores):
    add(stores, "night", 5)
    with pytest.raises(DatasetNotFoundError, match="unknown dataset day"):
        make(stores, "day")
    with pytest.raises(InvalidNameError, match="no batch 1"):
        make(stores, "night", 1)


@contextmanager
def refusing(settings, stores: Stores) -> Iterator[Stores]:
    """Stores of which that of objects takes nothing."""
    objects = ObjectStore(settings.model_copy(update={"s3_secret_key": SecretStr("not the right one")}))
    yield Stores(stores.database, objects)
    objects.close()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_store_of_objects_that_refuses_fails_the_batch_as_what_it_is(settings, stores, two_workers, num_workers):
    dataset = add(stores, "night", 25)
    workers = two_workers if num_workers == 2 else Workers(1)
    with (
        refusing(settings, stores) as stores_that_refuse,
        pytest.raises(
            ObjectsRefusedError, match=rf"credentials for {settings.s3_bucket_synthetic_iq}/synthetic/{dataset.id}/"
        ),
    ):
        make_batch(stores_that_refuse, "night", 0, workers)
    assert_nothing_stored(stores, dataset)
    assert list_batches(stores.database, dataset.id) == []


def test_an_upload_that_fails_spares_those_after_it_though_the_first_still_hangs(settings, stores, monkeypatch):
    """In an outage each would wait for its own time-outs."""
    add(stores, "night", 10, sites=SEVEN)
    tried, is_over = [], threading.Event()
    with refusing(settings, stores) as stores_that_refuse:
        put = stores_that_refuse.objects.put

        def put_and_note(location, *rest):
            tried.append(location)
            if len(tried) == 1:
                assert is_over.wait(TIMEOUT_S)
            return put(location, *rest)

        monkeypatch.setattr(stores_that_refuse.objects, "put", put_and_note)
        try:
            with pytest.raises(ObjectsRefusedError):
                make(stores_that_refuse, "night")
        finally:
            is_over.set()
    assert 2 <= len(tried) < 10 * 7 / 2
