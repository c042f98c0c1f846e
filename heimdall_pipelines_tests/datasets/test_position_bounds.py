"""The bound of a sample's position in its truth; datasets of before have none, and stay sound."""

from dataclasses import replace

import pytest

from heimdall_pipelines.datasets.feature_repair import repair_features
from heimdall_pipelines.datasets.position_bounds import with_bound
from heimdall_pipelines.datasets.repair import plan_repair, repair_dataset
from heimdall_pipelines.datasets.samples import make_sample
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.model.truth import MalformedTruthError, SampleTruth
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.releasing import release_dataset
from heimdall_pipelines.releases.verifying import verify_export
from heimdall_pipelines.rf.positioning import Receiver
from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines_tests.datasets.support import (
    SMALL,
    drawn,
    execute,
    expand,
    feature_rows,
    have_made,
    make,
    query,
    recipe,
)
from heimdall_pipelines_tests.older_features import make_older, make_without_bounds
from heimdall_pipelines_tests.straight_bound import assert_is_bound

NAME = "night"
NUM_SAMPLES = 7  # in batches of 3, 3 and 1


@pytest.fixture
def settings(module_settings):
    return module_settings


@pytest.fixture
def stored(stores, remembered):
    have_made(stores, remembered, NAME, NUM_SAMPLES, batch_size=3)
    return stores


@pytest.fixture
def older(stored):
    """The same dataset as versions made it that did not compute the bound."""
    make_without_bounds(stored)
    return stored


def made_sample(sample_idx=0, **parameters):
    of = recipe(**SMALL | parameters)
    sample = drawn(of, sample_idx)
    return of, sample, make_sample(of, sample)


def all_rows(stores):
    iq = query(stores, "SELECT to_jsonb(s)::text AS columns FROM heimdall.synthetic_iq_samples s ORDER BY sample_idx")
    return feature_rows(stores, get_dataset(stores.database, NAME)), [row["columns"] for row in iq]


def num_with_bounds(stores):
    (row,) = query(
        stores, "SELECT count(*) FILTER (WHERE truth ? 'position_bound') AS num FROM heimdall.measurement_features"
    )
    return row["num"]


def problems(stores, **options):
    validation = validate_dataset(stores, NAME, **options)
    return [x.examples for x in validation.outcomes if not x.passed]


def repair(stores, **options):
    with Workers(1) as workers:
        return repair_dataset(stores, NAME, workers, **options)


def test_the_bound_is_that_of_the_receivers_that_detect():
    num_compared = 0
    for sample_idx in range(4):
        of, sample, made = made_sample(sample_idx)
        links = [(site, link) for site, link in zip(sample.sites, made.truth.receivers, strict=True) if link.detected]
        receivers = [Receiver(site.rx_id, site.latitude, site.longitude) for site, _ in links]
        bound = made.truth.position_bound
        found = bound.semi_major_m, bound.semi_minor_m, bound.azimuth_deg
        place_deg = made.truth.tx_latitude, made.truth.tx_longitude
        assert_is_bound(found, place_deg, receivers, [link.snr_db for _, link in links], of.spec)
        assert bound.reason is None
        num_compared += 1
    assert num_compared == 4


def test_fewer_than_three_receivers_have_a_reason_instead():
    of, sample, made = made_sample()
    two = tuple(replace(link, detected=number < 2) for number, link in enumerate(made.truth.receivers))
    places = [(site.latitude, site.longitude) for site in sample.sites]
    bound = with_bound(replace(made.truth, receivers=two), places, of.spec).position_bound
    assert (bound.semi_major_m, bound.semi_minor_m, bound.azimuth_deg) == (None, None, None)
    assert bound.reason == "2 receivers detect, a position needs 3"


def test_receivers_in_one_place_determine_no_position():
    of, sample, made = made_sample()
    heard = tuple(replace(link, detected=True) for link in made.truth.receivers)
    places = [(45.0, 8.0)] * len(sample.sites)
    bound = with_bound(replace(made.truth, receivers=heard), places, of.spec).position_bound
    assert bound.reason == "the receivers that detect do not determine a position"


def test_a_truth_reads_back_with_and_without_its_bound():
    _, _, made = made_sample()
    assert SampleTruth.from_json(made.truth.to_json()) == made.truth
    before = made.truth.without_bound().to_json()
    assert "position_bound" not in before
    assert SampleTruth.from_json(before).position_bound is None


@pytest.mark.parametrize("bound", [3, {"semi_major_m": "far", "semi_minor_m": 1.0, "azimuth_deg": 2.0}])
def test_a_malformed_bound_is_an_error(bound):
    _, _, made = made_sample()
    with pytest.raises(MalformedTruthError, match="malformed"):
        SampleTruth.from_json(made.truth.to_json() | {"position_bound": bound})


def test_every_sample_of_a_dataset_has_its_bound(stored):
    assert num_with_bounds(stored) == NUM_SAMPLES
    assert problems(stored, checksums=True) == []
    execute(
        stored,
        "UPDATE heimdall.measurement_features SET truth = jsonb_set(truth, '{position_bound,semi_major_m}', '1.0')"
        " WHERE sample_idx = 4",
    )
    assert any("sample 4" in example and "truth" in example for examples in problems(stored) for example in examples)


def test_a_dataset_of_before_is_healthy_and_nothing_is_to_repair(older):
    assert num_with_bounds(older) == 0
    before = all_rows(older)
    for seed in range(2):  # of the samples that are regenerated
        assert problems(older, checksums=True, seed=seed) == []
    assert plan_repair(older, NAME).is_empty
    assert all_rows(older) == before


def test_rows_of_before_are_repaired_as_they_were(older):
    before = all_rows(older)
    execute(older, "DELETE FROM heimdall.measurement_features WHERE sample_idx IN (0, 1)")
    execute(older, "DELETE FROM heimdall.synthetic_iq_samples WHERE sample_idx IN (1, 3)")
    execute(older, "UPDATE heimdall.measurement_features SET truth = truth - 'audio' WHERE sample_idx = 4")
    done = repair(older)
    assert done.lines(is_done=True)[0].endswith("repaired"), done.lines(is_done=True)
    assert all_rows(older) == before
    assert problems(older, checksums=True) == []


def test_older_features_without_bounds_are_repaired_as_they_were(older):
    make_older(older)
    before = all_rows(older)
    execute(older, "DELETE FROM heimdall.measurement_features WHERE sample_idx = 5")
    repair(older)
    assert all_rows(older) == before
    with Workers(1) as workers:
        assert repair_features(older, NAME, workers).num_replaced == NUM_SAMPLES
    assert num_with_bounds(older) == 0  # a repair of features leaves the truth
    assert problems(older, checksums=True) == []


def test_a_batch_of_both_kinds_is_healthy_and_repaired(older):
    expand(older, get_dataset(older.database, NAME), 9)
    make(older, NAME, 2)
    assert num_with_bounds(older) == 2
    before = all_rows(older)
    assert problems(older, checksums=True) == []
    execute(older, "DELETE FROM heimdall.measurement_features WHERE sample_idx = 8")
    repair(older)
    execute(older, "DELETE FROM heimdall.measurement_features WHERE sample_idx = 6")
    repair(older)
    assert all_rows(older) == before


def test_a_release_of_before_has_the_same_root_and_export(stored, tmp_path):
    validate_dataset(stored, NAME)
    root = bytes.fromhex(export_dataset(stored, NAME, tmp_path / "new").description.root)
    make_without_bounds(stored)
    validate_dataset(stored, NAME)
    assert release_dataset(stored, NAME).root == root
    export_dataset(stored, f"{NAME}@1", tmp_path / "old")
    found = verify_export(tmp_path / "old", share=1.0, expected_root=root.hex())
    assert (found.problems, found.num_regenerated) == ([], NUM_SAMPLES)
    for table in ("samples", "links"):
        assert (tmp_path / "old" / f"{table}.parquet").read_bytes() == (
            tmp_path / "new" / f"{table}.parquet"
        ).read_bytes()
