"""Networks drawn at random: as many as asked for, where asked for, at heights of masts, and good for scenes."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.receivers import bounding_box, draw_receiver_sites
from heimdall_pipelines.rf.scene import SceneSpec, draw_scene, rejection_reason
from heimdall_pipelines.stations.network import load_network

NETWORK = tuple(
    ReceiverSite(station.rx_id, station.latitude, station.longitude, station.altitude_m)
    for station in load_network().stations
)


def drawn(rng, around=NETWORK, min_count=5, max_count=10, **changes):
    return draw_receiver_sites(around, min_count=min_count, max_count=max_count, rng=rng, **changes)


def columns(sites):
    return np.array([(site.latitude, site.longitude, site.altitude_m) for site in sites]).T


def many(num_networks=200, seed=0, **changes):
    rng = np.random.default_rng(seed)
    return [site for _ in range(num_networks) for site in drawn(rng, min_count=10, **changes)]


def test_counts_are_uniform_with_both_ends():
    rng = np.random.default_rng(0)
    counts = Counter(len(drawn(rng)) for _ in range(6000))
    assert sorted(counts) == [5, 6, 7, 8, 9, 10]
    # Multinomial, 1000 expected of each, standard deviation 29: five of them.
    assert all(abs(count - 1000) < 145 for count in counts.values())


def test_one_count_is_that_count():
    assert len(drawn(np.random.default_rng(0), min_count=1, max_count=1)) == 1
    assert len(drawn(np.random.default_rng(0), min_count=100, max_count=100)) == 100


def test_receivers_are_numbered_in_two_digits():
    sites = drawn(np.random.default_rng(0), min_count=100, max_count=100)
    assert [site.rx_id for site in sites[:11]] == [f"rx-{n:02d}" for n in range(11)]
    assert sites[99].rx_id == "rx-99"
    assert len({site.rx_id for site in sites}) == 100


def test_positions_fill_the_box_of_the_network_evenly():
    latitudes, longitudes, _ = columns(many())
    box = bounding_box(NETWORK)
    # Kolmogorov and Smirnov, 2000 places: a sound draw falls below 1e-4 once in 10,000 seeds, this one is fixed.
    assert stats.kstest(latitudes, "uniform", (box.south, box.north - box.south)).pvalue > 1e-4
    assert stats.kstest(longitudes, "uniform", (box.west, box.east - box.west)).pvalue > 1e-4
    # Independent of each other: five standard errors of a correlation of 2000 pairs.
    assert abs(np.corrcoef(latitudes, longitudes)[0, 1]) < 5 / np.sqrt(2000)


def test_antenna_heights_follow_the_requested_distribution():
    altitudes_m = columns(many(ground_altitude_m=120.0, hill_m=200.0))[2]
    assert altitudes_m.min() > 130
    # Mean 120 + 200 + 20; its standard error is 206 / sqrt(2000) = 4.6 m: five of them.
    assert altitudes_m.mean() == pytest.approx(340, abs=23)
    # Variance 200^2 + 20^2 / 12; that of an exponential's variance is 8 times its square: 2.8 / sqrt(2000) = 6 %.
    assert altitudes_m.var() == pytest.approx(40_033, rel=0.3)


def test_no_hills_leave_masts_evenly_between_10_and_30_m():
    altitudes_m = columns(many(ground_altitude_m=0.0, hill_m=0.0))[2]
    assert stats.kstest(altitudes_m, "uniform", (10, 20)).pvalue > 1e-4


def test_equal_generators_draw_equal_networks_and_others_others():
    assert drawn(np.random.default_rng(3)) == drawn(np.random.default_rng(3))
    assert drawn(np.random.default_rng(3)) != drawn(np.random.default_rng(4))


def test_a_network_uses_only_its_own_generator():
    np.random.seed(1)  # noqa: NPY002
    first = drawn(np.random.default_rng(0))
    np.random.seed(2)  # noqa: NPY002
    assert drawn(np.random.default_rng(0)) == first


def test_a_network_across_the_180th_meridian_is_drawn_there():
    around = (ReceiverSite("a", 0.0, 179.5, 100), ReceiverSite("b", 1.0, -179.5, 100))
    longitudes = columns(many(20, around=around))[1]
    assert np.all(np.abs(longitudes) >= 179.5)
    assert np.any(longitudes > 0)
    assert np.any(longitudes < 0)


def test_the_box_of_one_receiver_is_its_place():
    latitudes, longitudes, _ = columns(many(2, around=NETWORK[:1]))
    assert np.all(latitudes == NETWORK[0].latitude)
    assert longitudes == pytest.approx(NETWORK[0].longitude)


@example([(0.0, 0.1), (0.0, -0.1)], -180.0, 1e-14)  # its middle is -180 less what rounding took
@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-60, 60)), min_size=1, max_size=8),
    st.floats(-180, 180),
    st.floats(0, 5),
)
def test_the_box_holds_all_receivers_wherever_on_earth(places, middle, margin_deg):
    sites = [ReceiverSite("a", up, (middle + east + 180) % 360 - 180, 0.0) for up, east in places]
    box = bounding_box(sites, margin_deg)
    easts = [east for _, east in places]
    # Rounding of degrees up to 360: 6e-14; the longitudes are taken around the circle three times.
    assert box.east - box.west == pytest.approx(max(easts) - min(easts) + 2 * margin_deg, abs=1e-12)
    assert -90 <= box.south <= min(up for up, _ in places)
    assert max(up for up, _ in places) <= box.north <= 90
    for site in sites:
        assert -1e-12 <= (site.longitude - box.west + 1e-12) % 360 - 1e-12 <= box.east - box.west + 1e-12
    for across, up in ((0.0, 0.0), (0.5, 1.0), (1.0, 0.5)):
        latitude, longitude = box.position(across, up)
        assert -90 <= latitude <= 90
        assert -180 <= longitude < 180


@pytest.mark.long
def test_most_scenes_of_random_receivers_are_accepted_with_default_parameters():
    rng, spec = np.random.default_rng(0), SceneSpec()
    reasons = Counter(rejection_reason(spec, draw_scene(spec, drawn(rng), rng)) for _ in range(1500))
    # 98.0 % over 12,000 draws of three seeds; the standard deviation over 1500 is 0.36 %: five of them.
    assert reasons[None] / 1500 >= 0.962


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"min_count": 0}, "min_count must be between 1 and 100, not 0"),
        ({"min_count": 101, "max_count": 101}, "min_count must be between 1 and 100, not 101"),
        ({"min_count": -3}, "min_count must be between 1 and 100, not -3"),
        ({"min_count": 5, "max_count": 4}, "max_count must be between min_count (5) and 100, not 4"),
        ({"max_count": 101}, "max_count must be between min_count (5) and 100, not 101"),
        ({"hill_m": -1.0}, "hill_m must be 0 or more, not -1.0"),
        ({"hill_m": float("nan")}, "hill_m must be 0 or more, not nan"),
        ({"around": ()}, "around needs at least one receiver site"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        drawn(np.random.default_rng(0), **wrong)
