"""A repair knows whom to trust: edited parameters change no good row and no good object, in either way out of it."""

from dataclasses import replace

import pytest

from heimdall_pipelines.datasets import restoring
from heimdall_pipelines.datasets.repair import plan_repair, repair_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.store.committed_parameters import ParametersEditedError
from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines_tests.datasets.support import SEED, make, query
from heimdall_pipelines_tests.integrity import NAME, NUM_SAMPLES, Night, failed, night_of_module

EDITS = {
    "the seed": ("seed = seed + 1", f"seed is {SEED + 1}, the dataset was created with {SEED}"),
    "a receiver's position": (
        "receivers = jsonb_set(receivers, '{0,latitude}', '44.5')",
        "receivers 0 latitude is 44.5, the dataset was created with 45.03",
    ),
    "a receiver less": ("receivers = receivers - 0", "number of receivers is 2, the dataset was created with 3"),
    "a parameter": (
        "spec = jsonb_set(spec, '{tx_power_dbm}', '20')",
        "spec tx_power_dbm is 20, the dataset was created with 37",
    ),
    "the batch size": (
        "spec = jsonb_set(spec, '{batch_size}', '4')",
        "spec batch_size is 4, the dataset was created with 5",
    ),
    "the generator version": ("generator_version = 99", "generator_version is 99"),
}
edits = pytest.mark.parametrize(("change", "difference"), EDITS.values(), ids=list(EDITS))


@pytest.fixture(scope="module")
def _module(server_settings, _template):
    with night_of_module(server_settings) as made:
        yield made


@pytest.fixture
def night(_module) -> Night:
    _module[1].make_sound()
    return _module[1]


def edit(night: Night, change: str) -> None:
    night.execute(f"UPDATE heimdall.synthetic_datasets SET {change} WHERE id = :id")


def repair(night: Night, **more):
    with Workers(1) as workers:
        return repair_dataset(night.stores, NAME, workers, **more)


def damage(night: Night) -> None:
    """Lose a feature row, an IQ row and an object of three samples."""
    night.execute("DELETE FROM heimdall.measurement_features WHERE dataset_id = :id AND sample_idx = 3")
    night.execute("DELETE FROM heimdall.synthetic_iq_samples WHERE dataset_id = :id AND sample_idx = 7")
    night.delete(night.key(11), night.key(11, 1, sidecar=True))


@edits
def test_edited_parameters_stop_a_repair_which_names_them_and_both_ways(night, change, difference):
    edit(night, change)
    edited = night.snapshot()
    with pytest.raises(ParametersEditedError) as caught:
        repair(night, checksums=True)
    said = str(caught.value)
    assert difference in said
    assert f"heimdall dataset repair {NAME} --restore-parameters --apply" in said
    assert f"heimdall dataset repair {NAME} --overwrite {NAME} --apply" in said
    assert night.snapshot() == edited


@edits
def test_a_plan_with_edited_parameters_plans_nothing_else(night, change, difference):
    edit(night, change)
    damage(night)
    edited = night.snapshot()
    plan = plan_repair(night.stores, NAME)
    assert (plan.is_possible, plan.is_empty) == (False, False)
    assert any(difference in line for line in plan.edited_parameters)
    assert "nothing is repaired" in plan.lines(is_done=False)[0]
    assert night.snapshot() == edited


@edits
def test_restored_parameters_and_everything_good_is_there_to_the_byte(night, change, difference):
    edit(night, change)
    done = repair(night, restore=True)
    assert done.is_empty
    night.assert_sound()


@edits
def test_what_is_lost_beside_edited_parameters_is_regenerated_from_the_restored_ones(night, change, difference):
    edit(night, change)
    damage(night)
    assert repair(night, restore=True).to_regenerate == (3, 7, 11)
    night.assert_sound()


@edits
def test_no_batch_is_made_from_edited_parameters(night, change, difference):
    edit(night, change)
    edited = night.snapshot()
    with pytest.raises(ParametersEditedError, match="nothing is generated from parameters that were edited"):
        make(night.stores, NAME, 0)
    assert night.snapshot() == edited


def test_a_good_row_is_never_replaced_by_a_repair(night):
    night.delete(night.key(3))
    written = {row["sample_idx"]: row["created_at"] for row in rows_with_times(night)}
    repair(night, also=range(NUM_SAMPLES))
    assert {row["sample_idx"]: row["created_at"] for row in rows_with_times(night)} == written
    night.assert_sound()


def test_a_good_object_is_never_replaced_by_a_repair(night):
    before = {entry.key: entry.modified_at for entry in night.stores.objects.entries(night.bucket, "")}
    night.delete(night.key(3))
    repair(night, also=range(NUM_SAMPLES))
    after = {entry.key: entry.modified_at for entry in night.stores.objects.entries(night.bucket, "")}
    assert {key for key in before if after[key] != before[key]} == {night.key(3)}


@pytest.mark.slow
def test_what_the_seed_gives_otherwise_is_not_written_but_reported(night, monkeypatch):
    """As if the code gave other samples, without a new version."""
    damage(night)
    lost = night.snapshot()
    make_sample = restoring.make_sample

    def other_sample(recipe, drawn, keep=None):
        made = make_sample(recipe, drawn, (lambda site, iq: keep(site, iq * 2)) if keep else None)
        return replace(made, extraction_metadata=replace(made.extraction_metadata, attempts=77))

    monkeypatch.setattr(restoring, "make_sample", other_sample)
    done = repair(night)
    assert (done.to_regenerate, done.not_written) == ((), (3, 7, 11))
    assert any(
        "sample 3: feature row regenerated from the seed would not be what was committed" in line
        for line in done.refusals
    )
    assert any(f"{night.key(11)} was not written" in line for line in done.refusals)
    now = night.snapshot()
    assert now.rows == lost.rows
    assert now.objects.keys() - lost.objects.keys() == {night.key(11, 1, sidecar=True)}  # which is what it was
    assert {"counts_agree", "samples_without_gap"} <= set(failed(night.validate()))
    monkeypatch.undo()
    assert repair(night).not_written == ()
    night.assert_sound()


def test_another_processors_last_digits_are_written_where_intact_samples_differ_alike(night, monkeypatch):
    night.execute("DELETE FROM heimdall.measurement_features WHERE dataset_id = :id AND sample_idx = 3")
    make_sample = restoring.make_sample

    def in_other_digits(recipe, drawn, keep=None):
        made = make_sample(recipe, drawn, keep)
        first, *others = made.receivers
        level = first.features["rssi_dbm"] | {"mean": first.features["rssi_dbm"]["mean"] * (1 + 2e-6)}
        first = replace(first, features=first.features | {"rssi_dbm": level})
        return replace(made, receivers=(first, *others))

    monkeypatch.setattr(restoring, "make_sample", in_other_digits)
    done = repair(night)
    assert (done.to_regenerate, done.not_written) == ((3,), ())
    assert failed(night.validate()) == {}
    (change,) = query(
        night.stores, "SELECT reason FROM heimdall.changes WHERE reason LIKE '%processor%' ORDER BY id DESC LIMIT 1"
    )
    assert "last digits" in change["reason"]


def test_new_parameters_are_taken_only_with_the_explicit_option_and_every_sample_is_replaced(night):
    edit(night, "seed = seed + 1")
    done = repair(night, overwrite=True)
    assert done.to_regenerate == tuple(range(NUM_SAMPLES))
    assert failed(night.validate(checksums=True)) == {}
    assert get_dataset(night.stores.database, NAME).seed == SEED + 1
    assert night.snapshot().objects.keys() == night.sound.objects.keys()
    assert night.snapshot() != night.sound


def test_a_batch_size_cannot_be_taken(night):
    edit(night, "spec = jsonb_set(spec, '{batch_size}', '4')")
    with pytest.raises(ParametersEditedError, match="batch_size cannot change"):
        repair(night, overwrite=True)


def rows_with_times(night: Night):
    return query(
        night.stores,
        "SELECT sample_idx, created_at FROM heimdall.measurement_features WHERE dataset_id = :id",
        id=night.dataset.id,
    )
