"""Datasets made before a feature was added: sound as they are, and brought to the present features from their seed."""

import pytest

from heimdall_pipelines.datasets.feature_repair import plan_feature_repair, repair_features
from heimdall_pipelines.datasets.samples import GeneratorVersionError
from heimdall_pipelines.datasets.summary import summarise_dataset
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.dataset_locks import DatasetLockedError, shared_lock
from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines_tests.datasets.support import (
    execute,
    expand,
    feature_rows,
    have_made,
    make,
    query,
)
from heimdall_pipelines_tests.older_features import make_older
from heimdall_pipelines_tests.sealing import reseal

NAME = "night"
NUM_SAMPLES = 7  # in batches of 3, 3 and 1


@pytest.fixture
def settings(module_settings):
    return module_settings


@pytest.fixture
def present(stores, remembered):
    """A dataset of the present features: its rows as they should be in the end."""
    have_made(stores, remembered, NAME, NUM_SAMPLES, batch_size=3)
    return feature_rows(stores, get_dataset(stores.database, NAME))


@pytest.fixture
def older(stores, present):
    """The same as the version before made it."""
    make_older(stores)
    return feature_rows(stores, get_dataset(stores.database, NAME))


def rows(stores):
    return feature_rows(stores, get_dataset(stores.database, NAME))


def entries(stores):
    bucket = stores.objects.synthetic_iq_bucket
    return {entry.key: (entry.etag, entry.modified_at) for entry in stores.objects.entries(bucket, "")}


def versions(stores):
    found = query(stores, "SELECT feature_version FROM heimdall.measurement_features ORDER BY sample_idx")
    return [row["feature_version"] for row in found]


def repair(stores, num_workers=1):
    lines = []
    with Workers(num_workers) as workers:
        return repair_features(stores, NAME, workers, lines.append)


def validated(stores, **options):
    validation = validate_dataset(stores, NAME, **options)
    return validation.health_status, [x.examples for x in validation.outcomes if not x.passed]


def test_a_dataset_of_an_older_version_is_healthy(stores, older):
    assert versions(stores) == [1] * NUM_SAMPLES
    for seed in range(3):  # of the samples that are regenerated
        assert validated(stores, checksums=True, seed=seed) == ("healthy", [])
    assert rows(stores) == older


def test_a_dataset_of_two_versions_is_healthy(stores, older):
    expand(stores, get_dataset(stores.database, NAME), 9)
    make(stores, NAME, 2)
    assert versions(stores) == [1] * NUM_SAMPLES + [FEATURE_VERSION] * 2
    assert validated(stores) == ("healthy", [])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("receiver_features = receiver_features #- '{0,snr_db}'", "aquila-di-giaveno lacks snr_db"),
        ("feature_version = 2", "aquila-di-giaveno lacks cn0_dbhz"),
        (
            f"feature_version = {FEATURE_VERSION + 1}",
            f"its features have version {FEATURE_VERSION + 1}, this heimdall-pipelines knows versions up to "
            f"{FEATURE_VERSION}: update it",
        ),
    ],
)
def test_rows_that_are_not_of_their_version_are_found(stores, older, change, says):
    execute(stores, f"UPDATE heimdall.measurement_features SET {change} WHERE sample_idx = 3")
    health, (examples, *_) = validated(stores)
    assert health != "healthy"
    assert examples[0] == f"sample 3: {says}"


def test_a_row_of_a_feature_before_its_version_is_found(stores, present):
    execute(stores, "UPDATE heimdall.measurement_features SET feature_version = 1 WHERE sample_idx = 3")
    _, (examples, *_) = validated(stores)
    assert examples[0] == "sample 3: aquila-di-giaveno has cn0_dbhz, which feature version 1 does not have"


def test_a_plan_counts_older_rows_and_changes_nothing(stores, older):
    before = rows(stores), entries(stores)
    plan = plan_feature_repair(stores, NAME)
    assert (plan.rows_of_version, plan.batches, plan.num_replaced) == ({1: NUM_SAMPLES}, (0, 1, 2), 0)
    assert (rows(stores), entries(stores)) == before


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_features_are_regenerated_and_nothing_else_changes(stores, present, older, num_workers):
    objects = entries(stores)
    done = repair(stores, num_workers)
    assert (done.num_replaced, done.num_kept, done.examples) == (NUM_SAMPLES, 0, ())
    assert rows(stores) == present != older
    assert entries(stores) == objects
    assert validated(stores, checksums=True) == ("healthy", [])
    assert plan_feature_repair(stores, NAME).is_empty


def test_rows_of_the_current_version_are_unchanged(stores, present, older):
    make_older(stores)
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET feature_version = :v, overall_confidence = 0.123"
        " WHERE sample_idx = 6",
        v=FEATURE_VERSION,
    )
    assert repair(stores).num_replaced == NUM_SAMPLES - 1
    assert '"overall_confidence": 0.123' in rows(stores)[6]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        # Twice what the comparison allows.
        (
            "receiver_features = jsonb_set(receiver_features, '{0,rssi_dbm,mean}',"
            " to_jsonb((receiver_features #>> '{0,rssi_dbm,mean}')::float8 * 1.0002))",
            "features of aquila-di-giaveno are not those of its IQ",
        ),
        (
            "receiver_features = receiver_features #- '{0,snr_db}'",
            "features of aquila-di-giaveno are not those of its IQ",
        ),
        ("receiver_features = receiver_features - 2", "it has 2 receivers, the seed gives 3"),
        ("truth = jsonb_set(truth, '{tx_kind}', '\"other\"')", "its truth is not what the seed gives"),
        ("truth = '[]'", "truth of the feature row is malformed"),
        (
            "extraction_metadata = jsonb_set(extraction_metadata, '{attempts}', '0'), truth = NULL",
            "its truth is not what the seed gives",
        ),
    ],
)
def test_a_row_that_the_seed_does_not_confirm_is_reported_and_kept(stores, older, change, says):
    execute(stores, f"UPDATE heimdall.measurement_features SET {change} WHERE sample_idx = 6")
    reseal(stores)  # as if it had been committed so
    kept = rows(stores)[6]
    done = repair(stores)
    assert (done.num_replaced, done.num_kept, done.examples) == (NUM_SAMPLES - 1, 1, (f"sample 6: {says}",))
    assert rows(stores)[6] == kept
    assert versions(stores) == [FEATURE_VERSION] * 6 + [1]


def test_a_row_that_was_edited_by_hand_is_reported_and_kept(stores, older):
    execute(
        stores, "UPDATE heimdall.measurement_features SET timestamp = timestamp + INTERVAL '1 s' WHERE sample_idx = 6"
    )
    done = repair(stores)
    assert (done.num_kept, done.examples) == (1, ("sample 6: timestamp is not as committed",))


def test_what_another_processor_rounds_differently_is_confirmed(stores, present, older):
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = jsonb_set(receiver_features,"
        " '{0,rssi_dbm,mean}', to_jsonb((receiver_features #>> '{0,rssi_dbm,mean}')::float8 * 1.00005))",
    )
    reseal(stores)
    assert repair(stores).num_kept == 0
    assert rows(stores) == present


def test_a_dataset_of_another_generator_version_is_refused(stores, older):
    execute(stores, "UPDATE heimdall.synthetic_datasets SET generator_version = :v", v=GENERATOR_VERSION + 1)
    for attempt in (lambda: plan_feature_repair(stores, NAME), lambda: repair(stores)):
        with pytest.raises(GeneratorVersionError, match=f"was made by generator version {GENERATOR_VERSION + 1}"):
            attempt()
    assert rows(stores) == older


def test_it_refuses_while_a_batch_is_being_made(stores, older):
    dataset = get_dataset(stores.database, NAME)
    with shared_lock(stores.database, dataset.id), pytest.raises(DatasetLockedError, match="is being written"):
        repair(stores)
    assert rows(stores) == older


def test_a_repair_that_broke_off_goes_on(stores, present, older, monkeypatch):
    from heimdall_pipelines.datasets import feature_repair

    replace_features = feature_repair.replace_features

    def replace_once(database, dataset, batch_rows):
        monkeypatch.setattr(feature_repair, "replace_features", broken)
        return replace_features(database, dataset, batch_rows)

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(feature_repair, "replace_features", replace_once)
    with pytest.raises(KeyboardInterrupt):
        repair(stores)
    assert versions(stores) == [FEATURE_VERSION] * 3 + [1] * 4
    assert validated(stores) == ("healthy", [])
    monkeypatch.undo()
    assert repair(stores).num_replaced == 4
    assert rows(stores) == present


def test_a_summary_of_older_rows_leaves_the_new_feature_out(stores, older):
    assert "cn0_dbhz" not in [error.feature for error in summarise_dataset(stores.database, NAME).errors]
    repair(stores)
    (error,) = [x for x in summarise_dataset(stores.database, NAME).errors if x.feature == "cn0_dbhz"]
    (snr,) = [x for x in summarise_dataset(stores.database, NAME).errors if x.feature == "snr_db"]
    # Both are S over N0 times a constant: the same errors, but for six digits of each.
    assert (error.num, error.unit) == (snr.num, "dB")
    assert error.bias == pytest.approx(snr.bias, abs=1e-4)
    assert error.worst == pytest.approx(snr.worst, abs=2e-4)
