"""The table of features: what holds for each entry, and what checks make of it."""

import math

import numpy as np
import pytest

from heimdall_pipelines.rf.feature_registry import (
    FEATURE_NAMES,
    FEATURE_VERSION,
    FEATURES,
    STATISTICS,
    TIME_DIFFERENCES_SINCE,
    names_of_version,
    out_of_range,
    wrong_feature_set,
)
from heimdall_pipelines.rf.features import extract_features
from heimdall_pipelines_tests.rf.signals import generator, received, voice_fm

SAMPLE_RATE_HZ = 200e3
UNIT_OF_SUFFIX = {
    "_dbm": "dBm",
    "_db": "dB",
    "_hz": "Hz",
    "_khz": "kHz",
    "_us": "us",
    "_dbm_per_hz": "dBm/Hz",
    "_dbhz": "dB-Hz",
}
of_each_feature = pytest.mark.parametrize("feature", FEATURES, ids=FEATURE_NAMES)


def statistics(value, **others):
    return {"mean": value, "std": 0.0, "min": value, "max": value} | others


def test_names_are_unique_and_versions_ascend_to_the_present():
    versions = [feature.since for feature in FEATURES]
    assert len(set(FEATURE_NAMES)) == len(FEATURES)
    assert versions == sorted(versions)
    assert set(versions) | {TIME_DIFFERENCES_SINCE} == set(range(1, FEATURE_VERSION + 1))


@of_each_feature
def test_a_name_ends_with_its_unit(feature):
    suffixes = [suffix for suffix in UNIT_OF_SUFFIX if feature.name.endswith(suffix)]
    if suffixes:
        assert feature.unit == UNIT_OF_SUFFIX[max(suffixes, key=len)]
    else:
        assert feature.unit in ("", "sqrt(W)")


@of_each_feature
def test_an_entry_has_a_range_and_one_line_of_definition(feature):
    assert feature.range[0] < feature.range[1]
    assert feature.definition
    assert not set("|\n") & set(feature.definition)  # it becomes a cell of a table


@of_each_feature
def test_every_feature_is_measured_of_a_strong_signal_with_an_echo(feature):
    sent = voice_fm(generator(1), 200_000, SAMPLE_RATE_HZ)
    echo = np.roll(sent, 8)  # 40 us: what the delay spread and the coherence bandwidth need
    iq = received(generator(2), (sent + 0.5j * echo) / np.sqrt(1.25), rssi_dbm=-80, snr_db=40)
    measured = extract_features(iq, sample_rate_hz=SAMPLE_RATE_HZ).chunks[feature.name]
    assert np.isfinite(measured).all()


def test_a_later_version_has_the_features_of_the_earlier_ones():
    assert names_of_version(2) - names_of_version(1) == {"cn0_dbhz"}
    assert names_of_version(FEATURE_VERSION) == set(FEATURE_NAMES)


@pytest.mark.parametrize(
    ("removed", "added", "version", "says"),
    [
        ([], [], 2, []),
        (["cn0_dbhz"], [], 1, []),
        (["cn0_dbhz"], [], 2, ["lacks cn0_dbhz"]),
        (["snr_db", "cn0_dbhz", "rssi_dbm"], [], 1, ["lacks rssi_dbm, snr_db"]),
        ([], [], 1, ["has cn0_dbhz, which feature version 1 does not have"]),
        ([], ["toy"], 2, ["has toy, which feature version 2 does not have"]),
    ],
)
def test_features_are_compared_with_their_versions_set(removed, added, version, says):
    names = names_of_version(2).difference(removed).union(added)
    assert list(wrong_feature_set(names, version)) == says


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
    assert {len(values) for values in features.values()} == {len(STATISTICS)}
    assert list(out_of_range(features)) == []


@of_each_feature
def test_the_bounds_themselves_are_in_range_and_what_is_beyond_is_not(feature):
    low, high = feature.range
    for bound, beyond in ((low, low - 1), (high, high + 1)):
        if math.isfinite(bound):
            assert list(out_of_range({feature.name: statistics(bound)})) == []
            found = list(out_of_range({feature.name: statistics(beyond)}))
            assert [what.split(" = ")[0] for what in found] == [
                f"{feature.name}.{name}" for name in ("mean", "min", "max")
            ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@of_each_feature
def test_what_is_not_finite_is_never_in_range(feature, value):
    assert len(list(out_of_range({feature.name: statistics(value)}))) == 3
    assert len(list(out_of_range({feature.name: statistics(0.5, std=value)}))) == 1


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ({"snr_db": statistics(1e9, min=1.0, max=2.0)}, ["snr_db.mean = 1000000000.0 is outside -100..200"]),
        ({"snr_db": statistics(1.0, std=-1.0)}, ["snr_db.std = -1.0 is outside 0..inf"]),
        ({"snr_db": statistics(1.0, mean="12")}, ["snr_db.mean = '12' is no number"]),
        ({"snr_db": statistics(1.0, mean=[1])}, ["snr_db.mean = [1] is no number"]),
        ({"snr_db": statistics(1.0, mean=True)}, ["snr_db.mean = True is no number"]),
        ({"snr_db": statistics(None)}, []),
        ({"of another version": statistics(1e300)}, []),
        ({}, []),
    ],
)
def test_impossible_features_are_described(features, told):
    assert list(out_of_range(features)) == told
