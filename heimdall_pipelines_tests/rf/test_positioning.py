"""Positions from time differences: right, with an ellipse that holds the truth, and clear about what is unknown."""

import numpy as np
import pytest

from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S, distance_and_azimuth, distance_m, propagation_delay_s
from heimdall_pipelines.rf.positioning import (
    ECHO_US,
    Area,
    PositionError,
    Receiver,
    arrival_times,
    locate,
    log_likelihood,
)
from heimdall_pipelines.rf.tdoa import TimeDifference
from heimdall_pipelines_tests.straight_bound import straight_bound

NETWORK = tuple(
    Receiver(str(index), lat, lon, 200.0)
    for index, (lat, lon) in enumerate(
        [(45.0, 7.3), (45.1, 7.7), (44.4, 8.9), (45.5, 9.1), (44.6, 8.5), (45.2, 8.1), (44.9, 9.2)]
    )
)


def differences(receivers, lat, lon, errors_us=None, std_us=0.3):
    """Time differences of all pairs of a transmitter at 0 m, by straight lines."""
    rx = [[getattr(x, name) for x in receivers] for name in ("latitude", "longitude", "altitude_m")]
    times_us = propagation_delay_s(lat, lon, 0.0, *rx) * 1e6
    return differences_of(times_us + (0 if errors_us is None else errors_us), std_us)


def differences_of(times_us, std_us=0.3):
    """Time differences of all pairs of receivers with these arrival times."""
    return [
        TimeDifference(a, b, float(times_us[b] - times_us[a]), std_us * 2**0.5, 0.9, None)
        for a in range(len(times_us))
        for b in range(a + 1, len(times_us))
    ]


@pytest.mark.parametrize(("lat", "lon"), [(45.0, 8.2), (44.2, 7.0), (45.9, 9.4)])
def test_exact_differences_give_the_position(lat, lon):
    found = locate(NETWORK, differences(NETWORK, lat, lon))
    assert float(distance_m(found.latitude, found.longitude, lat, lon)) < 0.1
    assert found.rms_residual_us < 1e-3
    assert found.used == tuple(x.rx_id for x in NETWORK)


@pytest.mark.parametrize("shift_deg", [171.6, -188.4])
def test_the_antimeridian_is_no_border(shift_deg):
    moved = [Receiver(x.rx_id, x.latitude, (x.longitude + shift_deg + 180) % 360 - 180) for x in NETWORK]
    lon = (8.2 + shift_deg + 180) % 360 - 180
    found = locate(moved, differences(moved, 45.0, lon))
    assert float(distance_m(found.latitude, found.longitude, 45.0, lon)) < 0.1


@pytest.mark.long
def test_the_ellipse_holds_the_truth_and_errors_are_near_the_bound():
    rng = np.random.default_rng(1)
    inside, ratios = 0, []
    for _ in range(200):
        lat, lon = 45 + rng.uniform(-0.5, 0.5), 8.2 + rng.uniform(-0.7, 0.7)
        found = locate(NETWORK, differences(NETWORK, lat, lon, rng.normal(0, 0.3, len(NETWORK))), systematic_us=0.0)
        error_m, azimuth = distance_and_azimuth(found.latitude, found.longitude, lat, lon)
        turned = float(azimuth) - np.radians(found.ellipse.azimuth_deg)
        along, across = float(error_m) * np.cos(turned), float(error_m) * np.sin(turned)
        inside += (along / found.ellipse.semi_major_m) ** 2 + (across / found.ellipse.semi_minor_m) ** 2 < 1
        major_m, minor_m, _ = straight_bound(lat, lon, NETWORK, np.full(len(NETWORK), 0.3e-6))
        # Both axes of the bound are 2.45 standard deviations.
        ratios.append(float(error_m) / (np.hypot(major_m, minor_m) / 2.4477))
    assert inside >= 184  # 95 % of 200, less two standard deviations
    assert np.sqrt(np.mean(np.square(ratios))) < 1.2


def test_one_wrong_clock_of_seven_is_outweighed():
    errors_us = np.zeros(len(NETWORK))
    errors_us[2] = 50.0
    found = locate(NETWORK, differences(NETWORK, 45.0, 8.2, errors_us), systematic_us=0.5)
    # Least squares would be off by kilometres; the soft-L1 loss lets it pull like a few standard deviations.
    assert float(distance_m(found.latitude, found.longitude, 45.0, 8.2)) < 500.0
    assert max(found.residuals_us, key=lambda rx_id: abs(found.residuals_us[rx_id])) == "2"


def test_two_positions_of_three_stations_are_both_given():
    three = NETWORK[:1] + NETWORK[3:5]
    seconds = 0
    for lat, lon in ((45.35, 6.3), (45.8, 9.9), (44.2, 8.3), (45.0, 6.6)):
        found = locate(three, differences(three, lat, lon), systematic_us=0.1)
        places = [(found.latitude, found.longitude)] + ([found.second] if found.second else [])
        assert min(float(distance_m(*place, lat, lon)) for place in places) < 1.0
        seconds += found.second is not None
        for place in places:  # both explain the differences
            for given, other in zip(differences(three, *place), differences(three, lat, lon), strict=True):
                assert given.tdoa_us == pytest.approx(other.tdoa_us, abs=1.0)
    assert seconds >= 1


def test_two_stations_are_too_few():
    with pytest.raises(PositionError, match="at least 3 receivers; 2 have one"):
        locate(NETWORK[:2], differences(NETWORK[:2], 45.0, 8.2))


def test_a_station_without_differences_is_left_out_with_the_reason():
    found_differences = [
        TimeDifference(x.a, x.b, None, None, 0.1, None, "no clear peak in the correlation") if 6 in (x.a, x.b) else x
        for x in differences(NETWORK, 45.0, 8.2)
    ]
    found = locate(NETWORK, found_differences)
    assert found.left_out == {"6": "no clear peak in the correlation"}
    assert float(distance_m(found.latitude, found.longitude, 45.0, 8.2)) < 0.1


def test_stations_in_one_place_determine_nothing():
    together = [Receiver(str(index), 45.0, 8.0) for index in range(4)]
    with pytest.raises(PositionError, match="geometry does not determine"):
        locate(together, differences(together, 45.3, 8.4))


@pytest.mark.parametrize("corners", [(46, 7, 45, 8), (-91, 0, 0, 1), (0, -181, 1, 0)])
def test_an_impossible_area_is_refused(corners):
    with pytest.raises(PositionError, match="SOUTH,WEST,NORTH,EAST"):
        Area(*corners)


FAR = tuple(
    Receiver(str(index), lat, lon, 100.0)
    for index, (lat, lon) in enumerate([(53.5, 10.0), (47.0, 2.4), (45.4, 12.3), (50.1, 19.9), (55.6, 12.6)])
)


@pytest.mark.parametrize(("lat", "lon"), [(50.0, 9.0), (49.2, 8.0)])
def test_far_stations_are_reached_along_the_ground(lat, lon):
    # 370 to 840 km; straight lines are up to 600 m shorter.
    along_m = distance_m(lat, lon, [x.latitude for x in FAR], [x.longitude for x in FAR])
    found = locate(FAR, differences_of(np.hypot(along_m, 100.0) / SPEED_OF_LIGHT_M_PER_S * 1e6))
    assert float(distance_m(found.latitude, found.longitude, lat, lon)) < 1.0
    assert found.rms_residual_us < 0.01


def test_a_hill_of_a_receiver_is_no_error():
    high = [Receiver(x.rx_id, x.latitude, x.longitude, 400.0 * index) for index, x in enumerate(NETWORK)]
    rx = [[getattr(x, name) for x in high] for name in ("latitude", "longitude", "altitude_m")]
    times_us = propagation_delay_s(44.9, 8.3, 650.0, *rx) * 1e6
    found = locate(high, differences_of(times_us), tx_altitude_m=650.0)
    assert float(distance_m(found.latitude, found.longitude, 44.9, 8.3)) < 0.1


def test_the_own_deviations_of_receivers_follow_from_those_of_pairs():
    own_us = np.array([0.01, 0.02, 0.3, 5.0, 0.05])
    pairs = [
        TimeDifference(a, b, 0.0, float(np.hypot(own_us[a], own_us[b])), 0.9, None)
        for a in range(5)
        for b in range(a + 1, 5)
    ]
    found, _ = arrival_times(NETWORK[:5], pairs, 0.0)
    assert found.own_std_s * 1e6 == pytest.approx(own_us, rel=0.02)
    with_clocks, _ = arrival_times(NETWORK[:5], pairs, 1e-6)
    assert with_clocks.std_s * 1e6 == pytest.approx(np.hypot(own_us, 1.0), rel=0.02)
    assert with_clocks.own_std_s == pytest.approx(found.own_std_s)


def test_a_receiver_of_noise_does_not_move_the_position():
    errors_us = np.array([0, 0, 0, 0, 0, 0, 8.0])
    std_us = np.array([0.02] * 6 + [10.0])
    rx = [[getattr(x, name) for x in NETWORK] for name in ("latitude", "longitude", "altitude_m")]
    times_us = propagation_delay_s(45.0, 8.2, 0.0, *rx) * 1e6 + errors_us
    pairs = [
        TimeDifference(x.a, x.b, x.tdoa_us, float(np.hypot(std_us[x.a], std_us[x.b])), 0.9, None)
        for x in differences_of(times_us)
    ]
    found = locate(NETWORK, pairs, systematic_us=0.0)
    assert float(distance_m(found.latitude, found.longitude, 45.0, 8.2)) < 1.0


def test_echoes_that_delay_three_of_seven_are_told_from_errors_either_way():
    rng = np.random.default_rng(5)
    symmetrical_m, late_m = [], []
    for _ in range(60):
        lat, lon = 45 + rng.uniform(-0.4, 0.4), 8.2 + rng.uniform(-0.6, 0.6)
        hidden = np.isin(np.arange(7), rng.permutation(7)[:3])
        own_us = np.where(hidden, 0.5, 0.05)
        errors_us = own_us * rng.standard_normal(7) + hidden * rng.exponential(3.0, 7)
        rx = [[getattr(x, name) for x in NETWORK] for name in ("latitude", "longitude", "altitude_m")]
        times_us = propagation_delay_s(lat, lon, 0.0, *rx) * 1e6 + errors_us
        pairs = [
            TimeDifference(x.a, x.b, x.tdoa_us, float(np.hypot(own_us[x.a], own_us[x.b])), 0.9, None)
            for x in differences_of(times_us)
        ]
        for echo_us, errors_m in ((0.0, symmetrical_m), (ECHO_US, late_m)):
            found = locate(NETWORK, pairs, systematic_us=0.1, echo_us=echo_us)
            errors_m.append(float(distance_m(found.latitude, found.longitude, lat, lon)))
    # Four receivers of 0.11 us (33 m) remain, with a dilution of 1 to 2.
    assert np.median(late_m) < 100.0
    assert np.median(late_m) < 0.7 * np.median(symmetrical_m)


def test_the_map_of_the_likelihood_is_highest_at_the_position():
    found = locate(NETWORK, differences(NETWORK, 45.0, 8.2))
    lats, lons = np.meshgrid(np.linspace(44.5, 45.5, 51), np.linspace(7.7, 8.7, 51), indexing="ij")
    heights = log_likelihood(NETWORK, differences(NETWORK, 45.0, 8.2), lats, lons)
    best = np.unravel_index(np.argmax(heights), heights.shape)
    assert float(distance_m(lats[best], lons[best], found.latitude, found.longitude)) < 2500.0  # a cell


def test_a_pair_of_two_equal_peaks_does_not_connect_two_groups():
    errors_us = np.where(np.arange(7) < 4, 0.0, 400.0)
    rx = [[getattr(x, name) for x in NETWORK] for name in ("latitude", "longitude", "altitude_m")]
    times_us = propagation_delay_s(45.0, 8.2, 0.0, *rx) * 1e6 + errors_us  # a period of the modulation too late
    unclear = "the second peak of the correlation is 1.00 of the first: either may be the right one"
    pairs = []
    for x in differences_of(times_us):
        if (x.a < 4) == (x.b < 4):
            pairs.append(x)
        elif (x.a, x.b) == (3, 6):
            pairs.append(TimeDifference(x.a, x.b, x.tdoa_us, 10.0, 0.15, 0.93))
        else:
            pairs.append(TimeDifference(x.a, x.b, None, None, 0.9, 0.996, unclear))
    found = locate(NETWORK, pairs)
    assert found.used == ("0", "1", "2", "3")
    assert found.left_out["4"].endswith(unclear)
    assert "second peak" in found.left_out["6"]
    assert float(distance_m(found.latitude, found.longitude, 45.0, 8.2)) < 0.1
    clear = [TimeDifference(x.a, x.b, x.tdoa_us, 0.4, 0.9, 0.93) for x in differences_of(times_us - errors_us)]
    assert len(locate(NETWORK, clear).used) == 7


def test_measured_delay_spreads_say_which_receivers_are_late():
    # Scatter says nothing here: nothing moves, so that the echoes do not fade.
    rng = np.random.default_rng(8)
    without_m, with_m = [], []
    for _ in range(60):
        lat, lon = 45 + rng.uniform(-0.4, 0.4), 8.2 + rng.uniform(-0.6, 0.6)
        hidden = np.isin(np.arange(7), rng.permutation(7)[:3])
        rx = [[getattr(x, name) for x in NETWORK] for name in ("latitude", "longitude", "altitude_m")]
        errors_us = 0.05 * rng.standard_normal(7) + hidden * rng.exponential(3.0, 7)
        pairs = differences_of(propagation_delay_s(lat, lon, 0.0, *rx) * 1e6 + errors_us, std_us=0.05)
        spreads_us = {x.rx_id: 0.5 if late else 0.03 for x, late in zip(NETWORK, hidden, strict=True)}
        for given, errors_m in ((None, without_m), (spreads_us, with_m)):
            found = locate(NETWORK, pairs, systematic_us=0.07, echo_us=ECHO_US, delay_spreads_us=given)
            errors_m.append(float(distance_m(found.latitude, found.longitude, lat, lon)))
    # Four receivers of 0.09 us (26 m) remain, with a dilution of 1 to 3; of the worst geometries three times more.
    assert np.percentile(with_m, 90) < 250.0
    assert np.percentile(with_m, 90) < 0.7 * np.percentile(without_m, 90)
