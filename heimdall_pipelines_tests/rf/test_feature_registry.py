import math

import numpy as np
import pytest

from heimdall_pipelines.rf.feature_ranges import FEATURE_RANGES, NUM_STATISTICS, out_of_range
from heimdall_pipelines.rf.features import FEATURE_NAMES, extract_features


def statistics(value, **others):
    return {"mean": value, "std": 0.0, "min": value, "max": value} | others


def test_every_feature_has_a_range_and_no_other():
    assert set(FEATURE_RANGES) == set(FEATURE_NAMES)
    assert all(low < high for low, high in FEATURE_RANGES.values())


@pytest.mark.parametrize("amplitude", [0.0, 1e-6, 1.0, 1e3])
@pytest.mark.parametrize("kind", ["noise", "tone", "constant", "one value"])
def test_what_the_extractor_gives_is_in_range_whatever_it_is_given(kind, amplitude):
    rng = np.random.Generator(np.random.Philox(key=1))
    num = 5 * 10_000
    iq = {
        "noise": rng.standard_normal(num) + 1j * rng.standard_normal(num),
        "tone": np.exp(2j * np.pi * 0.1 * np.arange(num)),
        "constant": np.ones(num, complex),
        "one value": np.eye(1, num, 7)[0].astype(complex),
    }[kind]
    features = extract_features(
        (amplitude * iq).astype(np.complex64).reshape(5, -1),
        sample_rate_hz=200_000.0,
        channel_bandwidth_hz=12_500.0,
        full_scale_dbm=30.0,
    ).summary()
    assert set(features) == set(FEATURE_NAMES)
    assert {len(values) for values in features.values()} == {NUM_STATISTICS}
    assert list(out_of_range(features)) == []


@pytest.mark.parametrize("feature", FEATURE_RANGES)
def test_the_bounds_themselves_are_in_range_and_what_is_beyond_is_not(feature):
    low, high = FEATURE_RANGES[feature]
    for bound, beyond in ((low, low - 1), (high, high + 1)):
        if math.isfinite(bound):
            assert list(out_of_range({feature: statistics(bound)})) == []
            told = list(out_of_range({feature: statistics(beyond)}))
            assert [what.split(" = ")[0] for what in told] == [f"{feature}.{name}" for name in ("mean", "min", "max")]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("feature", FEATURE_RANGES)
def test_what_is_not_finite_is_never_in_range(feature, value):
    assert len(list(out_of_range({feature: statistics(value)}))) == 3
    assert len(list(out_of_range({feature: statistics(0.5, std=value)}))) == 1


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ({"snr_db": statistics(1e9, min=1.0, max=2.0)}, ["snr_db.mean = 1000000000.0 is outside -60..200"]),
        ({"snr_db": statistics(1.0, std=-1.0)}, ["snr_db.std = -1.0 is outside 0..inf"]),
        ({"snr_db": statistics(1.0, mean="12")}, ["snr_db.mean = '12' is no number"]),
        ({"snr_db": statistics(1.0, mean=[1])}, ["snr_db.mean = [1] is no number"]),
        ({"snr_db": statistics(1.0, mean=True)}, ["snr_db.mean = True is no number"]),
        ({"snr_db": statistics(None)}, []),
        ({"of another version": statistics(1e300)}, []),
        ({}, []),
    ],
)
def test_what_cannot_be_is_told_in_words(features, told):
    assert list(out_of_range(features)) == told
