"""Path loss against P.1812 and P.452 run as oracles, against closed forms, and in its limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_pipelines.rf.propagation import (
    free_space_loss_db,
    path_loss_db,
    smooth_earth_path_loss_db,
    spherical_earth_diffraction_loss_db,
    troposcatter_loss_db,
)

STRAIGHT_RAYS_M = 1e15  # an effective Earth radius without bulge


def profile(length_km, height_of_km, step_km=0.25):
    distance_km = np.arange(0, length_km + step_km / 2, step_km)
    return distance_km * 1e3, height_of_km(distance_km) + np.zeros_like(distance_km)


def ridge_of(height_m, length_km=80, at_km=50, width_km=6):
    return profile(length_km, lambda d: 150 + height_m * np.exp(-(((d - at_km) / width_km) ** 2)))


# name: profile, masts in m, dB at 145 MHz by P.1812-8 and P.452-16, dB at 430 MHz by both
PATHS = {
    "plain": (profile(80, lambda d: 150 + 40 * np.sin(d / 9)), (10, 20), (159.9, 160.0), (172.7, 173.0)),
    "ridge": (ridge_of(750), (10, 20), (153.5, 153.6), (167.7, 168.0)),
    "hilltop": (ridge_of(900, 40, 40, 3), (2, 10), (113.6, 113.7), (117.4, 117.6)),
    "flat": (profile(150, lambda d: 120), (10, 10), (168.6, 168.6), (182.5, 182.8)),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(("frequency_hz", "column"), [(145e6, 2), (430e6, 3)])
def test_the_four_paths_lose_what_p1812_and_p452_say(name, frequency_hz, column):
    (distances_m, heights_m), masts_m, oracles_db = PATHS[name][0], PATHS[name][1], PATHS[name][column]
    loss_db = path_loss_db(frequency_hz, distances_m, heights_m, *masts_m).loss_db
    # The oracles agree within 0.3 dB; gases, ducts and rounding, which they have and this has not, are worth 0.3.
    assert loss_db == pytest.approx(oracles_db[0], abs=0.6)
    assert loss_db == pytest.approx(oracles_db[1], abs=0.6)


def test_only_the_hilltop_among_the_four_paths_is_in_line_of_sight():
    seen = {
        name: bool(path_loss_db(145e6, *terrain, *masts).is_line_of_sight)
        for name, (terrain, masts, *_) in PATHS.items()
    }
    assert seen == {"plain": False, "ridge": False, "hilltop": True, "flat": False}


def test_free_space_loss_matches_its_closed_form():
    assert free_space_loss_db(1e6, 1e3) == pytest.approx(32.45, abs=0.005)  # P.525 (4), printed as 32.4
    assert np.diff(free_space_loss_db([145e6, 1.45e9, 14.5e9], 5e3)) == pytest.approx([20, 20])


def test_a_receiver_at_the_transmitters_own_place_has_a_finite_loss():
    assert np.isfinite(smooth_earth_path_loss_db(145e6, [0.0, 1e-9], 10, 10).loss_db).all()


@pytest.mark.parametrize("frequency_hz", [145e6, 430e6])
def test_a_short_path_between_high_masts_is_free_space(frequency_hz):
    distances_m, heights_m = profile(2, lambda d: 100, step_km=0.05)
    path = path_loss_db(frequency_hz, distances_m, heights_m, 60, 60)
    smooth = smooth_earth_path_loss_db(frequency_hz, 2e3, 60, 60)
    # 60 m clear 0.55 of the first Fresnel zone, 18 m: not a hundredth of a dB is lost to the ground.
    assert path.loss_db == pytest.approx(free_space_loss_db(frequency_hz, 2e3), abs=0.01)
    assert smooth.loss_db == pytest.approx(free_space_loss_db(frequency_hz, 2e3), abs=0.01)
    assert path.is_line_of_sight
    assert smooth.is_line_of_sight


def test_a_clear_path_loses_nothing_to_an_edge_far_below_it():
    distances_m, heights_m = profile(20, lambda d: 400.0 * (np.abs(d - 10) < 0.1))
    # 600 m above the edge, Fresnel radius 100 m. With the knife edge's sign inverted this cost 9 dB and more.
    assert path_loss_db(145e6, distances_m, heights_m, 1000, 1000).diffraction_db == 0


def test_an_edge_that_grazes_the_ray_costs_6_db_and_bullingtons_correction():
    distances_m, heights_m = profile(20, lambda d: 400.0 * (np.abs(d - 10) < 0.1))
    path = path_loss_db(145e6, distances_m, heights_m, 400, 400, effective_earth_radius_m=STRAIGHT_RAYS_M)
    edge_db = 6.9 + 20 * np.log10(np.sqrt(0.1**2 + 1) - 0.1)  # J(0) = 6.03 dB
    assert path.diffraction_db == pytest.approx(edge_db + (1 - np.exp(-edge_db / 6)) * (10 + 0.02 * 20), abs=1e-6)


def test_the_earths_bulge_hides():
    distances_m, heights_m = profile(60, lambda d: 100)
    # 60 km bulge by 50 m in the middle over k = 1.4; masts of 30 m see each other only on a flat Earth.
    over_flat_earth = path_loss_db(145e6, distances_m, heights_m, 30, 30, effective_earth_radius_m=STRAIGHT_RAYS_M)
    over_earth = path_loss_db(145e6, distances_m, heights_m, 30, 30)
    assert over_flat_earth.is_line_of_sight
    assert not over_earth.is_line_of_sight
    assert over_earth.diffraction_db > over_flat_earth.diffraction_db + 5


def test_the_loss_grows_with_the_ridge():
    losses_db = [path_loss_db(145e6, *ridge_of(height_m), 10, 20).diffraction_db for height_m in range(400, 2001, 100)]
    assert np.all(np.diff(losses_db) > 0)


def test_the_loss_falls_with_higher_masts():
    losses_db = smooth_earth_path_loss_db(145e6, 80e3, np.array([2, 5, 10, 30, 100, 300, 1000]), 20).loss_db
    assert np.all(np.diff(losses_db) < 0)


@given(
    st.lists(st.floats(0, 2000), min_size=3, max_size=60),
    st.floats(1, 300),
    st.floats(1, 300),
    st.sampled_from([145e6, 430e6]),
    st.floats(5e3, 200e3),
)
def test_the_loss_is_the_same_in_both_directions(heights_m, one_m, other_m, frequency_hz, length_m):
    distances_m = np.linspace(0, length_m, len(heights_m))
    there = path_loss_db(frequency_hz, distances_m, heights_m, one_m, other_m)
    back = path_loss_db(frequency_hz, distances_m, heights_m[::-1], other_m, one_m)
    assert np.isfinite(there.loss_db)
    assert there.diffraction_db >= 0
    assert there.loss_db == pytest.approx(back.loss_db, abs=1e-4)  # rounding only; P.452 itself is symmetric


@pytest.mark.parametrize("masts_m", [(10, 10), (30, 200), (2, 580)])
def test_the_smooth_earth_agrees_with_a_flat_profile(masts_m):
    for length_km in (5, 20, 50, 100, 150):
        terrain = path_loss_db(145e6, *profile(length_km, lambda d: 120), *masts_m)
        smooth = smooth_earth_path_loss_db(145e6, length_km * 1e3, *masts_m)
        # Delta-Bullington of flat ground comes down to the first term. The horizon may lie between two points of the
        # profile, which costs 1e-4 dB of scatter.
        assert terrain.loss_db == pytest.approx(smooth.loss_db, abs=1e-3)
        assert terrain.is_line_of_sight == smooth.is_line_of_sight


def test_diffraction_over_a_smooth_earth_has_no_step_at_the_horizon():
    horizon_m = 2 * np.sqrt(2 * 6371e3 * 157 / 112 * 50)
    around_db = spherical_earth_diffraction_loss_db(145e6, horizon_m * np.array([1 - 1e-9, 1 + 1e-9]), 50, 50)
    assert around_db[0] == pytest.approx(around_db[1], abs=1e-5)
    assert around_db[0] > 10


def test_far_beyond_the_horizon_scatter_takes_over():
    path = smooth_earth_path_loss_db(145e6, 300e3, 10, 10)
    # Diffraction alone is tens of dB more: the combination is then the scatter itself.
    assert path.loss_db == pytest.approx(path.troposcatter_db, abs=1e-3)
    assert path.free_space_db + path.diffraction_db > path.troposcatter_db + 40


def test_each_milliradian_of_scatter_angle_costs_its_share():
    # P.452-16 (45): 0.573 dB per mrad.
    assert np.diff(troposcatter_loss_db(145e6, 100e3, [0.0, 1e-3, 2e-3])) == pytest.approx([0.573, 0.573])


def test_many_receivers_come_as_one_array():
    path = smooth_earth_path_loss_db(145e6, np.array([10e3, 50e3, 100e3]), 30, np.array([10, 580, 130]))
    one_by_one = [
        float(smooth_earth_path_loss_db(145e6, d, 30, h).loss_db) for d, h in ((10e3, 10), (50e3, 580), (100e3, 130))
    ]
    assert path.loss_db == pytest.approx(one_by_one, rel=1e-12)
    assert path.free_space_db.shape == path.is_line_of_sight.shape == (3,)


@pytest.mark.parametrize(
    ("distances_m", "heights_m", "masts_m", "problem"),
    [
        ([0, 1000], [1, 1], (10, 10), "3 or more"),
        ([0, 500, 1000], [1, 1], (10, 10), "as many heights"),
        ([0, 500, 500], [1, 1, 1], (10, 10), "increase from 0"),
        ([100, 500, 900], [1, 1, 1], (10, 10), "increase from 0"),
        ([0, 500, 1000], [1, np.nan, 1], (10, 10), "finite"),
        ([0, 500, 1000], [1, 1, 1], (0, 10), "above the ground"),
    ],
)
def test_an_invalid_profile_is_refused(distances_m, heights_m, masts_m, problem):
    with pytest.raises(ValueError, match=problem):
        path_loss_db(145e6, distances_m, heights_m, *masts_m)


def test_an_antenna_in_the_earth_is_refused():
    with pytest.raises(ValueError, match="above the Earth"):
        smooth_earth_path_loss_db(145e6, [1e3, 2e3], 10, [10, 0])
