"""Splits keep test data out of training, and are the same everywhere."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_pipelines.learning.leaks import find_leaks, receivers_on_both_sides
from heimdall_pipelines.learning.splits import (
    RANDOM,
    RECEIVERS,
    REGION,
    SplitDefinition,
    SplitError,
    key_split,
    labels_of,
    random_split,
    receiver_sides,
    receivers_split,
    region_split,
)
from heimdall_pipelines.rf.geodesy import distance_m


def places(num=2000, seed=1):
    rng = np.random.default_rng(seed)
    return rng.uniform(44.3, 45.8, num), rng.uniform(7.2, 9.3, num)


def test_labels_are_the_same_on_every_machine():
    lats, lons = places(500)
    codes = [random_split(RANDOM, np.arange(500)), region_split(REGION, lats, lons)]
    digest = hashlib.sha256(b"".join(code.tobytes() for code in codes)).hexdigest()
    assert digest == "57d7927586746a5ad77f240198ae07957634538174d74a126c3d530b73cf0bcd"


def test_shares_are_kept():
    codes = random_split(RANDOM, np.arange(100_000))
    # Of a binomial distribution: four standard deviations of 0.8 are 0.005.
    assert np.bincount(codes) / 1e5 == pytest.approx([0.8, 0.1, 0.1], abs=0.005)


def test_more_samples_do_not_change_the_parts_of_others():
    assert np.array_equal(random_split(RANDOM, np.arange(50)), random_split(RANDOM, np.arange(5000))[:50])


def test_another_seed_gives_another_split():
    codes = [random_split(replace(RANDOM, seed=seed), np.arange(1000)) for seed in (0, 1)]
    assert 0.2 < np.mean(codes[0] != codes[1]) < 0.5


@pytest.mark.long
@given(st.integers(0, 2**63), st.floats(500, 10_000), st.floats(0, 5000))
def test_no_train_sample_is_within_the_margin_of_a_test_sample(seed, block_m, margin_m):
    lats, lons = places(300)
    definition = SplitDefinition("region", (0.6, 0.2, 0.2), seed, block_m, margin_m)
    labels = labels_of(region_split(definition, lats, lons))
    for held_out, others in (("test", ("train", "validation")), ("validation", ("train",))):
        for other in others:
            one, two = np.flatnonzero(labels == held_out), np.flatnonzero(labels == other)
            if len(one) and len(two):
                between = distance_m(lats[one][:, None], lons[one][:, None], lats[two], lons[two])
                assert between.min() >= margin_m
    assert find_leaks(definition, labels, np.arange(300), lats, lons).passed


def test_a_region_split_has_all_parts_in_about_their_shares():
    lats, lons = places(20_000)
    labels = labels_of(region_split(REGION, lats, lons))
    shares = {name: np.mean(labels == name) for name in ("train", "validation", "test", "none")}
    # About 60 blocks of 20 km: the share of 10 % is 6 of them, plus or minus 2.3.
    assert 0.5 < shares["train"] < 0.85
    assert shares["validation"] > 0.02
    assert shares["test"] > 0.02
    assert 0 < shares["none"] < 0.3


def test_leaks_of_a_random_split_are_measured():
    lats, lons = places(2000)
    found = find_leaks(RANDOM, labels_of(random_split(RANDOM, np.arange(2000))), np.arange(2000), lats, lons)
    assert found.passed  # it promises nothing
    # 1600 training samples over 167 km x 165 km: 1 - exp(-1600 pi / 27500) = 17 % have one within 1 km.
    assert found.share_near == pytest.approx(0.17, abs=0.1)
    assert found.sizes["train"] + found.sizes["validation"] + found.sizes["test"] == 2000


def test_a_leak_is_found_and_named():
    lats, lons = np.array([45.0, 45.001, 46.0]), np.array([8.0, 8.0, 8.0])
    found = find_leaks(REGION, np.array(["train", "test", "test"]), [10, 11, 12], lats, lons)
    assert not found.passed
    assert (found.too_close, found.num_too_close) == (((10, 11),), 1)
    assert found.nearest_m == pytest.approx(111.1, abs=0.2)  # a thousandth of a degree of latitude


@pytest.mark.long
def test_receivers_are_used_on_one_side_only():
    lats, lons = places(3000)
    sides = labels_of(receiver_sides(RECEIVERS, lats, lons))
    assert {"train", "test", "none"} == set(sides)
    assert receivers_on_both_sides(RECEIVERS, np.full(3000, "rx"), lats, lons, sides) == ()
    train, test = np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
    between = distance_m(lats[train][:, None], lons[train][:, None], lats[test], lons[test])
    assert between.min() > 0.98 * RECEIVERS.margin_m


def test_a_receiver_on_both_sides_is_named():
    parts = np.array(["train", "test", "test"])
    found = receivers_on_both_sides(RECEIVERS, ["a", "b", "c"], [45.0, 45.0, 46.0], [8.0, 8.0, 8.0], parts)
    assert found == ("b at 45.00000, 8.00000",)


def test_samples_without_three_receivers_of_their_side_belong_to_no_part():
    num_usable = np.array([[3, 0, 3], [2, 9, 2]])
    codes = receivers_split(RECEIVERS, [5, 5], num_usable)
    assert codes[0] in (0, 2)
    assert codes[1] == 3


def test_whole_groups_are_split():
    keys = np.repeat(np.arange(50), 20)
    codes = key_split(SplitDefinition("day"), keys)
    assert all(len(set(codes[keys == key])) == 1 for key in range(50))
    assert set(codes) == {0, 1, 2}


@pytest.mark.parametrize(
    "changes",
    [{"kind": "x"}, {"shares": (0.5, 0.5, 0.5)}, {"shares": (1.5, -0.5, 0.0)}, {"margin_m": -1.0}, {"block_m": 0.0}],
)
def test_an_impossible_definition_is_refused(changes):
    with pytest.raises(SplitError):
        replace(REGION, **changes)
