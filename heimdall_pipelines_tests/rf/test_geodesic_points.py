"""Points along geodesics: as PROJ computes each, wherever on Earth."""

import numpy as np
import pyproj
import pytest

from heimdall_pipelines.rf.geodesy import distance_and_azimuth, distance_m, geodesic_points

WGS84 = pyproj.Geod(ellps="WGS84")
PATHS = {
    "across the network": ((45.07, 7.69), (44.41, 8.93)),
    "150 km to the north": ((45.0, 8.0), (46.35, 8.0)),
    "across the antimeridian": ((-0.8, 179.2), (0.9, -179.1)),
    "over the pole": ((89.2, 10.0), (89.3, -160.0)),
    "beyond 79 degrees": ((79.0, 15.0), (79.5, 25.0)),
    "300 m": ((45.0, 8.0), (45.002, 8.003)),
    "2000 km": ((60.0, -20.0), (50.0, 10.0)),
}


@pytest.mark.parametrize("path", PATHS)
def test_points_are_those_of_proj(path):
    (lat1, lon1), (lat2, lon2) = PATHS[path]
    length_m, azimuth = distance_and_azimuth(lat1, lon1, lat2, lon2)
    distances_m, latitudes, longitudes = geodesic_points(lat1, lon1, [azimuth], [length_m], np.array([0, 401]))
    assert distances_m == pytest.approx(np.linspace(0, float(length_m), 401))
    expected_lon, expected_lat, _ = WGS84.fwd(
        np.full(401, lon1), np.full(401, lat1), np.full(401, np.degrees(azimuth)), distances_m
    )
    # 2 cm: a thousandth of the finest cell.
    assert distance_m(latitudes, longitudes, expected_lat, expected_lon).max() < 0.02
    assert np.abs(np.diff(longitudes)).max() < 90 or abs(lat1) > 89  # continuous


def test_several_geodesics_are_those_of_each():
    lengths_m, azimuths = distance_and_azimuth(45.0, 8.0, [45.5, 44.0, 45.001], [8.5, 8.0, 8.0])
    starts = np.array([0, 5, 105, 110])
    together = geodesic_points(45.0, 8.0, azimuths, lengths_m, starts)
    for k in range(3):
        size = np.array([0, starts[k + 1] - starts[k]])
        alone = geodesic_points(45.0, 8.0, azimuths[k : k + 1], lengths_m[k : k + 1], size)
        for one, other in zip(alone, together, strict=True):
            assert np.array_equal(one, other[starts[k] : starts[k + 1]])
