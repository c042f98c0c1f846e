"""Processes that are killed while they write a dataset, and several at once that write or check the same one."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from heimdall_pipelines.datasets import checks, generating
from heimdall_pipelines.datasets.generating import BatchProgress
from heimdall_pipelines.datasets.validation import DatasetValidation
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.dataset_locks import DatasetLockedError
from heimdall_pipelines.store.dataset_snapshot import activity
from heimdall_pipelines.store.datasets import DatasetDeletedError, DatasetNotFoundError
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.datasets.support import make, make_with_own_stores, query
from heimdall_pipelines_tests.integrity import (
    AS_BEFORE,
    BATCH_SIZE,
    NAME,
    OBJECTS_OF_BATCH,
    Held,
    Night,
    failed,
    held,
    in_words,
    night_of_module,
    numbers,
    repair_with,
)
from heimdall_pipelines_tests.locking_children import stopped
from heimdall_pipelines_tests.waiting import wait_for


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
    monkeypatch.setattr(generating, "PROGRESS_INTERVAL_S", 0.0)


def damage(night: Night) -> None:
    """Samples of two batches have to be regenerated, an object goes, a count is wrong."""
    night.delete(night.key(3))
    night.execute("DELETE FROM heimdall.measurement_features WHERE dataset_id = :id AND sample_idx = 11")
    night.execute("UPDATE heimdall.synthetic_datasets SET num_samples = 5 WHERE id = :id")
    night.put(f"synthetic/{night.dataset.id}/notes.txt", b"x")


def at_the_end(do: Callable[[], object]) -> Callable[[BatchProgress], None]:
    """Progress that does something when every object is stored, right before the commit."""

    def told(progress: BatchProgress) -> None:
        if progress.num_made == progress.num_samples:
            do()

    return told


def is_unlocked(night: Night) -> bool:
    return not activity(night.stores.database, night.dataset.id).is_locked


def seen(validation: DatasetValidation) -> str:
    found = failed(validation)
    return f"{', '.join(f'`{name}`' for name in found)}: {validation.health_status}" if found else "nothing to detect"


# Killed processes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "found"),
    [
        pytest.param(moment, found, marks=pytest.mark.fault(f"kill -9 of a batch {name}"))
        for moment, name, found in [
            ("before objects", "before its objects", set()),
            ("before the commit", "between its objects and its commit", {"objects_agree"}),
            ("after the commit", "after its commit", set()),
        ]
    ],
)
def test_a_killed_batch_is_complete_or_absent_and_is_retried(night, settings, fault, moment, found):
    night.unmake(1)
    missing = night.rows()
    with stopped("batch", moment, settings, NAME):
        assert not is_unlocked(night)
    wait_for("the lock to end with its process", lambda: is_unlocked(night))
    if moment == "after the commit":
        assert night.snapshot() == night.sound
    else:
        assert night.rows() == missing

    validation = night.validate()
    assert set(failed(validation)) == found
    if found:
        assert numbers(validation, "objects_agree")["objects_without_row"] == OBJECTS_OF_BATCH
    make(night.stores, NAME, 1)
    night.assert_sound()
    fault.record(
        detected_by=seen(validation),
        result="the batch is complete" if moment == "after the commit" else f"no row; regenerated: {AS_BEFORE}",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "found"),
    [
        pytest.param(moment, found, marks=pytest.mark.fault(f"kill -9 of a repair {name}"))
        for moment, name, found in [
            (
                "before objects",
                "before it makes samples",
                {"counts_agree", "samples_without_gap", "iq_of_every_sample", "objects_agree", "rows_as_committed"},
            ),
            (
                "before the commit",
                "between objects and commit",
                {"counts_agree", "samples_without_gap", "iq_of_every_sample", "objects_agree", "rows_as_committed"},
            ),
            (
                "after the commit",
                "after the commit of the first batch",
                {"counts_agree", "objects_agree", "rows_as_committed"},
            ),
            ("before the sweep", "before it removes objects without row", {"objects_agree"}),
        ]
    ],
)
def test_a_killed_repair_leaves_nothing_worse_and_is_done_again(night, settings, fault, moment, found):
    damage(night)
    before = night.snapshot()
    with stopped("repair", moment, settings, NAME), pytest.raises(DatasetLockedError):
        night.repair()
    wait_for("the lock to end with its process", lambda: is_unlocked(night))
    left = night.snapshot()
    assert before.objects.items() <= left.objects.items()
    assert set(before.rows["measurement_features"]) <= set(left.rows["measurement_features"])

    validation = night.validate()
    assert set(failed(validation)) == found
    done = night.repair()
    night.assert_sound()
    fault.record(detected_by=seen(validation), result=f"done again: {in_words(done)}: {AS_BEFORE}")


# Several at once


@pytest.mark.slow
@pytest.mark.fault("the same batch is made twice at once")
def test_the_same_batch_made_twice_at_once_is_there_once(night, settings, fault):
    night.unmake(1)

    def other(hold: Held) -> object:
        return make_with_own_stores(settings, NAME, 1, progress=at_the_end(hold))

    with held(other) as (_, result):
        report = make(night.stores, NAME, 1)
        assert report.num_made == BATCH_SIZE
        night.assert_sound()
    assert result().num_made == BATCH_SIZE
    night.assert_sound()
    fault.record(detected_by="nothing to detect", result=f"it is stored once: {AS_BEFORE}")


@pytest.mark.slow
@pytest.mark.fault("a check while a batch has stored objects and not committed its rows")
def test_a_check_during_a_batch_raises_no_false_alarm(night, settings, fault):
    night.unmake(1)

    def batch(hold: Held) -> object:
        return make_with_own_stores(settings, NAME, 1, progress=at_the_end(hold))

    with held(batch) as (_, result):
        validation = night.validate()
    result()
    assert failed(validation) == {}
    ahead = numbers(validation, "objects_agree")["objects_of_batches_in_progress"]
    assert ahead == OBJECTS_OF_BATCH
    night.assert_sound()
    fault.record(detected_by="nothing to detect", result=f"{ahead} objects of a batch in progress are not reported")


@pytest.mark.fault("a batch commits in the middle of a check")
def test_a_batch_that_commits_in_the_middle_of_a_check_raises_no_false_alarm(night, settings, fault, monkeypatch):
    monkeypatch.setattr(checks, "PROGRESS_INTERVAL_S", -1.0)
    night.unmake(1)
    made = []

    def progress(line: str) -> None:
        if "samples checked" in line and not made:
            made.append(make_with_own_stores(settings, NAME, 1))

    found = checks.check_dataset(night.stores, NAME, progress=progress)
    assert made
    assert [outcome.name for outcome in found.outcomes.values() if not outcome.passed] == []
    assert found.outcomes["objects_agree"].numbers["objects_of_batches_in_progress"] == OBJECTS_OF_BATCH
    night.assert_sound()
    fault.record(detected_by="nothing to detect", result="rows are read in one snapshot; nothing is reported")


@pytest.mark.slow
@pytest.mark.fault("a repair while a batch is being made")
def test_a_repair_during_a_batch_fails_without_changes(night, settings, fault):
    night.delete(night.key(0))
    night.unmake(1)

    def batch(hold: Held) -> object:
        return make_with_own_stores(settings, NAME, 1, progress=at_the_end(hold))

    with held(batch) as (_, result):
        before = night.snapshot()
        with pytest.raises(DatasetLockedError, match="dataset night is being written: a batch of it is") as caught:
            night.repair()
        assert night.snapshot() == before
    result()
    assert set(failed(night.validate())) == {"objects_agree"}
    night.repair()
    night.assert_sound()
    fault.record(
        detected_by=[type(caught.value).__name__],
        result=f"the repair is refused and changes nothing, the batch completes; then repaired: {AS_BEFORE}",
    )


@pytest.mark.slow
@pytest.mark.fault("two repairs at once")
def test_the_second_of_two_repairs_refuses(night, settings, fault):
    damage(night)

    def first(hold: Held) -> object:
        with open_stores(settings) as stores:
            return repair_with(stores, making=at_the_end(hold), min_orphan_age=timedelta(0))

    with held(first) as (_, result):
        before = night.snapshot()
        with pytest.raises(DatasetLockedError, match="or another repair is running") as caught:
            night.repair()
        assert night.snapshot() == before
    done = result()
    night.assert_sound()
    fault.record(
        detected_by=[type(caught.value).__name__],
        result=f"the second is refused and changes nothing; the first: {in_words(done)}: {AS_BEFORE}",
    )


@pytest.mark.slow
@pytest.mark.fault("a batch begins while a repair is running")
def test_a_batch_waits_for_a_repair_and_then_makes_its_samples(night, settings, fault):
    night.unmake(1)
    night.delete(night.key(0))

    def repairing(hold: Held) -> object:
        with open_stores(settings) as stores:
            return repair_with(stores, making=at_the_end(hold))

    with held(repairing) as (hold, result):

        def batch(begun: Held) -> object:
            return make_with_own_stores(settings, NAME, 1, waiting=begun.reached.set)

        with held(batch) as (_, made):
            assert set(failed(night.validate())) <= {"objects_agree"}
            assert f'"sample_idx": {BATCH_SIZE},' not in "".join(night.rows()["synthetic_iq_samples"])
            hold.let_go()
            assert result().to_regenerate == (0,)
            assert made().num_made == BATCH_SIZE
    night.assert_sound()
    fault.record(
        detected_by="nothing to detect", result=f"it waits for the repair, then makes its samples: {AS_BEFORE}"
    )


@pytest.mark.fault("the dataset's row is deleted in the middle of a batch")
def test_a_dataset_that_vanishes_fails_its_batch_and_leaves_no_object(night, fault):
    night.unmake(1)
    bystander = night.sound.rows["synthetic_datasets"]

    def vanish() -> None:
        night.execute("DELETE FROM heimdall.synthetic_datasets WHERE id = :id")

    with pytest.raises(DatasetNotFoundError, match="night was deleted while night__00001 was being made") as caught:
        make(night.stores, NAME, 1, progress=at_the_end(vanish))
    assert issubclass(DatasetDeletedError, DatasetNotFoundError)
    for table in ("synthetic_batches", "measurement_features", "synthetic_iq_samples"):
        assert query(night.stores, f"SELECT 1 FROM heimdall.{table} WHERE dataset_id = :id", id=night.dataset.id) == []
    assert [key for key in night.entries() if str(night.dataset.id) in key] == []
    (left,) = night.rows()["synthetic_datasets"]
    assert left in bystander
    fault.record(
        detected_by=[type(caught.value).__name__],
        result="the batch fails; no row and no object of the dataset remains",
    )
