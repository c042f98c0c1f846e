"""Distances, delays and dilution of precision against independent values."""

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_pipelines.rf.geodesy import distance_m, gdop, propagation_delay_s

latitudes = st.floats(-85, 85)
longitudes = st.floats(-180, 180)


def around(lat, lon, bearings_deg, ranges_m):
    """Latitudes and longitudes of points at bearings and ranges from a place."""
    bearings_deg = np.asarray(bearings_deg, dtype=float)
    ranges_m = np.broadcast_to(np.asarray(ranges_m, dtype=float), bearings_deg.shape)
    points = [pyproj.Geod(ellps="WGS84").fwd(lon, lat, b, r) for b, r in zip(bearings_deg, ranges_m, strict=True)]
    return [point[1] for point in points], [point[0] for point in points]


def test_the_distance_is_that_on_the_ellipsoid():
    # JFK to LHR, the example of GeographicLib's documentation (Karney): 5551759.400 m. A sphere gives 5540 km.
    assert distance_m(40.6, -73.8, 51.6, -0.5) == pytest.approx(5551759.400, abs=0.001)


def test_a_quarter_of_the_meridian_has_its_known_length():
    assert distance_m(0, 0, 90, 0) == pytest.approx(10_001_965.729, abs=0.001)  # WGS84


def test_distances_of_many_receivers_come_as_an_array():
    distances = distance_m(45.0, 7.7, np.array([[45.1], [45.2], [45.3]]), np.array([7.7, 7.8]))
    assert distances.shape == (3, 2)
    assert distances[1, 1] == distance_m(45.0, 7.7, 45.2, 7.8)


def test_the_delay_of_a_vertical_line_is_its_height_over_the_speed_of_light():
    assert propagation_delay_s(45, 7, 100, 45, 7, 1100) == pytest.approx(1000 / 299_792_458, rel=1e-9)


def test_the_line_through_space_is_shorter_than_the_geodesic_by_the_chords_defect():
    geodesic_m = distance_m(45.0, 7.0, 45.0, 8.9)
    line_m = propagation_delay_s(45.0, 7.0, 0, 45.0, 8.9, 0) * 299_792_458
    # d^3 / (24 R^2) with R = 6.388e6 m along 45 degrees latitude; 2 % for R.
    assert geodesic_m - line_m == pytest.approx(geodesic_m**3 / (24 * 6.388e6**2), rel=0.02)


@given(latitudes, longitudes, st.floats(-400, 9000), latitudes, longitudes, st.floats(-400, 9000))
def test_delays_agree_with_the_earth_centred_coordinates_of_proj(lat1, lon1, alt1_m, lat2, lon2, alt2_m):
    to_earth_centred = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    here = np.array(to_earth_centred.transform(lon1, lat1, alt1_m))
    there = np.array(to_earth_centred.transform(lon2, lat2, alt2_m))
    delay_s = propagation_delay_s(lat1, lon1, alt1_m, lat2, lon2, alt2_m)
    assert delay_s == pytest.approx(np.linalg.norm(here - there) / 299_792_458, abs=1e-15 + 1e-6 / 299_792_458)  # 1 um


def test_delays_of_many_receivers_come_as_an_array():
    delays = propagation_delay_s(
        45.0, 7.7, 250.0, np.array([45.1, 45.2]), np.array([7.8, 7.9]), np.array([300.0, 400.0])
    )
    assert delays.shape == (2,)
    assert delays[1] == propagation_delay_s(45.0, 7.7, 250.0, 45.2, 7.9, 400.0)


@pytest.mark.parametrize(
    ("bearings_deg", "expected"),
    # n receivers evenly around: H^T H = diag(n/2, n/2, n), GDOP = sqrt(4 / n).
    [([0, 90, 180, 270], 1.0), ([10, 130, 250], np.sqrt(4 / 3)), (np.arange(8) * 45, np.sqrt(0.5))],
)
def test_gdop_amid_evenly_spread_receivers_is_two_over_the_root_of_their_number(bearings_deg, expected):
    lats, lons = around(45.0, 8.0, bearings_deg, 50e3)
    assert gdop(45.0, 8.0, lats, lons) == pytest.approx(expected, rel=1e-9)


def test_gdop_depends_on_directions_alone():
    near = around(45.0, 8.0, [0, 100, 200, 300], 2e3)
    far = around(45.0, 8.0, [0, 100, 200, 300], [10e3, 150e3, 40e3, 3e3])
    assert gdop(45.0, 8.0, *near) == pytest.approx(gdop(45.0, 8.0, *far), rel=1e-9)


def test_two_stations_side_by_side_do_not_dominate_gdop():
    # They are 1.9 km apart, as two of the network are: 1 degree in direction. The second can only help.
    lats, lons = around(45.0, 8.0, [0, 120, 240], 100e3)
    twin_lats, twin_lons = around(45.0, 8.0, [0, 1.1, 120, 240], 100e3)
    assert 0.9 * gdop(45.0, 8.0, lats, lons) < gdop(45.0, 8.0, twin_lats, twin_lons) < gdop(45.0, 8.0, lats, lons)


def test_gdop_grows_outside_the_network():
    lats, lons = around(45.0, 8.0, [0, 72, 144, 216, 288], 40e3)
    inside = gdop(45.0, 8.0, lats, lons)
    (outside_lat,), (outside_lon,) = around(45.0, 8.0, [200], 120e3)
    assert inside == pytest.approx(np.sqrt(4 / 5), rel=1e-6)
    assert gdop(outside_lat, outside_lon, lats, lons) > 3 * inside


@pytest.mark.parametrize("bearings_deg", [[], [0], [0, 90]])
def test_fewer_than_three_receivers_locate_nothing(bearings_deg):
    lats, lons = around(45.0, 8.0, bearings_deg, 50e3)
    assert gdop(45.0, 8.0, lats, lons) == np.inf


@pytest.mark.parametrize("bearings_deg", [[30, 30, 30, 30], [90, 270, 90, 270]])
def test_receivers_in_one_line_with_the_transmitter_locate_nothing(bearings_deg):
    lats, lons = around(0.0, 8.0, bearings_deg, [10e3, 20e3, 30e3, 45e3])
    assert gdop(0.0, 8.0, lats, lons) == np.inf


def test_a_receiver_at_the_transmitter_does_no_harm():
    lats, lons = around(45.0, 8.0, [0, 120, 240], 50e3)
    assert gdop(45.0, 8.0, [*lats, 45.0], [*lons, 8.0]) == pytest.approx(np.sqrt(4 / 3), rel=1e-6)


@given(latitudes, longitudes, st.lists(st.floats(0, 360), min_size=3, max_size=9))
def test_another_receiver_never_raises_gdop(lat, lon, bearings_deg):
    lats, lons = around(lat, lon, bearings_deg, 30e3)
    fewer = gdop(lat, lon, lats[:-1], lons[:-1])
    assert gdop(lat, lon, lats, lons) <= fewer * (1 + 1e-6)
