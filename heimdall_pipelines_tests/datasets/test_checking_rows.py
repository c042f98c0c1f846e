"""Rows checked by several processes: the same findings as by one, and an error or an interruption leaves nothing."""

from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from heimdall_pipelines.datasets import checking_rows, row_checks
from heimdall_pipelines.datasets.checking_rows import check_rows
from heimdall_pipelines.datasets.findings import BATCH_FEATURE_CHECKS, BATCH_IQ_CHECKS, Findings
from heimdall_pipelines.datasets.stored_truth import redrawn
from heimdall_pipelines.datasets.workers import WorkerLostError, Workers
from heimdall_pipelines.store.dataset_snapshot import open_snapshot
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.datasets.support import add, execute, make

NUM_SAMPLES = 30
FAULTS = (
    "UPDATE heimdall.measurement_features SET tx_latitude = 1 WHERE sample_idx = 3",
    "UPDATE heimdall.measurement_features SET truth = jsonb_set(truth, '{tx_longitude}', '1') WHERE sample_idx = 8",
    "UPDATE heimdall.measurement_features SET receiver_features = '[{}]' WHERE sample_idx = 9",
    "UPDATE heimdall.measurement_features SET receiver_features ="
    " jsonb_set(receiver_features, '{0,snr_db,mean}', '1e9') WHERE sample_idx IN (11, 28)",
    "DELETE FROM heimdall.measurement_features WHERE sample_idx IN (13, 21, 22)",
    "DELETE FROM heimdall.synthetic_iq_samples WHERE sample_idx = 15",
    "UPDATE heimdall.synthetic_iq_samples SET iq_storage_paths = '{}' WHERE sample_idx = 20",
    "UPDATE heimdall.synthetic_iq_samples SET truth = '{}' WHERE sample_idx = 24",
)


@pytest.fixture
def settings(module_settings):
    return module_settings


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Workers]:
    with Workers(2) as workers:
        yield workers


@pytest.fixture
def night(stores) -> Stores:
    add(stores, "night", NUM_SAMPLES, batch_size=20)
    for batch_no in range(2):
        make(stores, "night", batch_no)
    return stores


def found_of(stores: Stores, workers: Workers, checked=lambda _: None) -> Findings:
    with open_snapshot(stores.database, "night") as snapshot:
        found = Findings.begin(snapshot.dataset, BATCH_FEATURE_CHECKS + BATCH_IQ_CHECKS)
        check_rows(snapshot, found, 0, 2**31 - 1, checked, stores.objects, workers)
    return found


def test_several_processes_find_what_one_finds(night, two_workers, monkeypatch):
    for statement in FAULTS:
        execute(night, statement)
    by_one = found_of(night, Workers(1))
    monkeypatch.setattr(checking_rows, "SAMPLES_AT_ONCE", 4)
    in_parts, by_two = found_of(night, Workers(1)), found_of(night, two_workers)
    assert by_two == in_parts
    sums = "estimates_agree_with_truth"
    assert by_one.outcomes | {sums: None} == by_two.outcomes | {sums: None}
    assert replace(by_one, outcomes={}) == replace(by_two, outcomes={})
    assert by_two.to_regenerate == {3, 8, 9, 11, 13, 15, 20, 21, 22, 24, 28}
    assert by_two.without_features == {13, 21, 22}
    assert by_two.num_features == NUM_SAMPLES - 3


def test_problems_are_listed_in_the_order_of_samples(night, two_workers, monkeypatch):
    monkeypatch.setattr(checking_rows, "SAMPLES_AT_ONCE", 1)
    execute(night, "UPDATE heimdall.measurement_features SET tx_latitude = 1")
    examples = found_of(night, two_workers).outcomes["truths_agree"].examples
    assert [int(example.split()[1].rstrip(":")) for example in examples] == list(range(20))


def test_means_over_all_samples_are_taken_over_all_parts(night, two_workers, monkeypatch):
    monkeypatch.setattr(checking_rows, "SAMPLES_AT_ONCE", 7)
    by_two = found_of(night, two_workers).outcomes["estimates_agree_with_truth"]
    monkeypatch.setattr(checking_rows, "SAMPLES_AT_ONCE", 1000)
    by_one = found_of(night, Workers(1)).outcomes["estimates_agree_with_truth"]
    assert by_two.numbers == by_one.numbers
    assert by_two.numbers["links_compared"] > 0


def test_progress_counts_the_samples_that_were_checked(night, two_workers, monkeypatch):
    monkeypatch.setattr(checking_rows, "SAMPLES_AT_ONCE", 7)
    told: list[int] = []
    found_of(night, two_workers, told.append)
    assert told == sorted(told)
    assert told[-1] == NUM_SAMPLES


def worker_processes() -> set[psutil.Process]:
    """Those below this process; others, such as servers of the tests, may start meanwhile."""
    return {process for process in psutil.Process().children(recursive=True) if is_worker(process)}


def is_worker(process: psutil.Process) -> bool:
    try:
        return "heimdall_pipelines.datasets.workers" in process.cmdline()
    except psutil.Error:  # it has ended
        return False


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_check_leaves_no_process(night, monkeypatch, error):
    monkeypatch.setattr(checking_rows, "SAMPLES_AT_ONCE", 2)
    before = worker_processes()
    started: set[psutil.Process] = set()

    def interrupt(_: int) -> None:
        started.update(worker_processes() - before)
        raise error

    with Workers(2) as workers, pytest.raises(error):
        found_of(night, workers, interrupt)
    assert started
    _, alive = psutil.wait_procs(started | (worker_processes() - before), timeout=60)
    assert alive == []


@pytest.mark.fault("a process that checks rows is killed")
def test_a_killed_worker_ends_the_check_with_what_to_do(night, monkeypatch, fault):
    monkeypatch.setattr(checking_rows, "SAMPLES_AT_ONCE", 1)
    before = set(psutil.Process().children())

    def kill(_: int) -> None:
        for process in set(psutil.Process().children()) - before:
            process.kill()

    with Workers(2) as workers, pytest.raises(WorkerLostError, match="use fewer workers"):
        found_of(night, workers, kill)
    fault.record(detected_by="the command, which fails: worker process ended", result="nothing was changed")


@pytest.mark.parametrize("attempts", [1000, 10**20])
def test_all_attempts_are_drawn_of_some_samples_only(night, monkeypatch, attempts):
    drawn: list[int] = []
    monkeypatch.setattr(row_checks, "redrawn", lambda recipe, row: drawn.append(row.sample_idx) or redrawn(recipe, row))
    assert found_of(night, Workers(1)).outcomes["truths_agree"].passed
    assert drawn == [0, 10, 20]
    drawn.clear()
    change = "jsonb_set(extraction_metadata, '{attempts}', CAST(:attempts AS jsonb))"
    execute(
        night,
        f"UPDATE heimdall.measurement_features SET extraction_metadata = {change} WHERE sample_idx = 7",
        attempts=str(attempts),
    )
    assert found_of(night, Workers(1)).outcomes["truths_agree"].passed
    assert drawn == [0, 7, 10, 20]


def test_few_samples_are_checked_without_workers(night, monkeypatch):
    monkeypatch.setattr(checking_rows, "num_workers_wanted", lambda: 2)
    asked: list[int] = []
    monkeypatch.setattr(checking_rows, "Workers", lambda num: asked.append(num) or Workers(1))
    with open_snapshot(night.database, "night") as snapshot:
        for least in (1000, 10, 31):
            monkeypatch.setattr(checking_rows, "SAMPLES_FOR_A_WORKER", least)
            found = Findings.begin(snapshot.dataset, BATCH_FEATURE_CHECKS + BATCH_IQ_CHECKS)
            check_rows(snapshot, found, 0, 2**31 - 1, lambda _: None, night.objects)
    assert asked == [1, 2, 1]
