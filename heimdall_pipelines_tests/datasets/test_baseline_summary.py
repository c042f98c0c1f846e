"""Errors of simple methods of location in a dataset's summary."""

import numpy as np
import pytest

from heimdall_pipelines.datasets import baseline_summary
from heimdall_pipelines.datasets.baseline_summary import ALL, BOUND, IN_SIGHT, METHODS, OTHERS
from heimdall_pipelines.datasets.report import dataset_report
from heimdall_pipelines.datasets.summary import summarise_dataset
from heimdall_pipelines.learning.baselines import NEAREST_NEIGHBOURS, ROBUST_TDOA
from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines.rf.positioning import ECHO_US, Receiver, locate
from heimdall_pipelines.rf.tdoa import TimeDifference
from heimdall_pipelines.store.dataset_samples import stream_samples
from heimdall_pipelines.store.features import mean_of
from heimdall_pipelines_tests.datasets.support import SEVEN, add, make
from heimdall_pipelines_tests.older_features import make_older, make_without_bounds

NUM_SAMPLES = 40
FULL = {"sample_rate_hz": 50_000, "duration_ms": 1000, "chunk_duration_ms": 200, "batch_size": NUM_SAMPLES}


@pytest.fixture
def settings(module_settings):
    return module_settings


@pytest.fixture
def made(stores, remembered):
    def make_night(stores):
        add(stores, "night", 3 * NUM_SAMPLES, sites=SEVEN, **FULL)
        make(stores, "night", 2)  # samples whose IQ is not stored

    remembered(stores, "night of baselines", make_night)
    return stores


def by_method(stores):
    found = summarise_dataset(stores.database, "night").baselines
    return found, {(row.method, row.samples): row for row in found.rows()}


def test_every_method_is_compared_with_and_without_line_of_sight(made):
    found, rows = by_method(made)
    assert list(rows) == [(method, samples) for method in METHODS for samples in (ALL, IN_SIGHT, OTHERS)]
    for method in METHODS:
        assert rows[method, ALL].num == NUM_SAMPLES == rows[method, IN_SIGHT].num + rows[method, OTHERS].num
        assert rows[method, ALL].median_m < rows[method, ALL].p90_m
    # No estimator does better than the bound, and levels say kilometres where time differences say metres.
    assert rows[BOUND, ALL].median_m < rows[ROBUST_TDOA, ALL].median_m < rows[NEAREST_NEIGHBOURS, ALL].median_m / 3
    assert rows[NEAREST_NEIGHBOURS, ALL].median_m > 2000
    assert np.all(found.distance_m[np.isfinite(found.distance_m)] < 500e3)


def test_robust_errors_are_those_of_the_estimator(made):
    found, _ = by_method(made)
    dataset_id = summarise_dataset(made.database, "night").dataset.id
    num_compared = 0
    for at, sample in enumerate(stream_samples(made.database, dataset_id)):
        ids = [receiver.rx_id for receiver in sample.receivers]
        receivers = [Receiver(x.rx_id, x.rx_lat, x.rx_lon, x.rx_alt_m) for x in sample.receivers]
        differences = [
            TimeDifference(ids.index(x.rx_a), ids.index(x.rx_b), x.tdoa_us, x.std_us, x.peak, None)
            for x in sample.time_differences
            if x.tdoa_us is not None
        ]
        spreads_us = {x.rx_id: mean_of(x, "multipath_delay_spread_us") for x in sample.receivers}
        fix = locate(receivers, differences, systematic_us=0.07, echo_us=ECHO_US, delay_spreads_us=spreads_us)
        error_m = distance_m(fix.latitude, fix.longitude, sample.truth.tx_latitude, sample.truth.tx_longitude)
        assert found.errors_m[ROBUST_TDOA][at] == pytest.approx(float(error_m), rel=1e-6, abs=1e-3)
        detecting = [link.line_of_sight for link in sample.truth.receivers if link.detected]
        assert found.in_sight[at] == all(detecting)
        num_compared += 1
        if num_compared == 5:
            break
    assert num_compared == 5


def test_a_choice_of_many_samples_is_always_the_same(made, monkeypatch):
    monkeypatch.setattr(baseline_summary, "MAX_SAMPLES", 25)
    found, again = by_method(made)[0], by_method(made)[0]
    assert (found.num_samples, found.num_of) == (25, NUM_SAMPLES)
    assert np.array_equal(found.errors_m[ROBUST_TDOA], again.errors_m[ROBUST_TDOA], equal_nan=True)
    assert found.note().startswith("25 of 40 samples, chosen at random with a fixed seed")


def test_samples_of_before_have_the_same_bound(made):
    before, _ = by_method(made)
    make_without_bounds(made)
    assert np.array_equal(by_method(made)[0].errors_m[BOUND], before.errors_m[BOUND], equal_nan=True)


def test_methods_that_cannot_be_used_say_how_many_they_located(made):
    make_older(made, version=2)  # without time differences
    _, rows = by_method(made)
    assert (rows[ROBUST_TDOA, ALL].num_located, rows[ROBUST_TDOA, ALL].median_m) == (0, None)
    assert rows[NEAREST_NEIGHBOURS, ALL].num_located == NUM_SAMPLES


def test_the_report_has_the_table(made):
    page = dataset_report(made, "night")
    for method in METHODS:
        assert method in page
    assert "all 40 samples" in page
    assert "Error of positions" in page


def test_a_dataset_without_samples_has_no_baselines(stores):
    add(stores, "night", 2)
    assert summarise_dataset(stores.database, "night").baselines is None
    assert "The dataset has no samples yet." in dataset_report(stores, "night")
