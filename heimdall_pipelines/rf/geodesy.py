"""Distances, delays and the geometry of location on the WGS84 ellipsoid."""

import numpy as np
import pyproj
from numpy.typing import ArrayLike, NDArray

from heimdall_pipelines.rf.philox import compiled

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0
_WGS84 = pyproj.Geod(ellps="WGS84")
_KNOT_DISTANCE_M = 20e3  # between which a geodesic's latitude and longitude are cubics: errs by less than 1 cm
_POLAR_DEG = 80.0  # beyond, every point is computed
_SINGULAR = 1e-9  # least over greatest singular value; below it a position cannot be determined


def distance_m(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> NDArray[np.float64]:
    """Length of the geodesic between points on the ellipsoid.

    Parameters
    ----------
    lat1, lon1, lat2, lon2 : array_like of float
        Latitudes and longitudes, degrees; broadcast against each other.

    Returns
    -------
    ndarray of float64
        Metres, of the common shape.

    References
    ----------
    Karney, "Algorithms for geodesics", J. Geodesy 87 (2013), as in PROJ.

    Examples
    --------
    Torino to Genova:

    >>> print(f"{distance_m(45.07, 7.69, 44.41, 8.93) / 1e3:.1f} km")
    122.6 km
    """
    distance, _ = distance_and_azimuth(lat1, lon1, lat2, lon2)
    return distance


def propagation_delay_s(
    lat1: ArrayLike, lon1: ArrayLike, alt1_m: ArrayLike, lat2: ArrayLike, lon2: ArrayLike, alt2_m: ArrayLike
) -> NDArray[np.float64]:
    """Propagation time of light in vacuum along the straight line between two points.

    The straight line through Earth-centred coordinates, not the geodesic: it includes the altitudes, and over the
    150 km of this network it is 4 m (12 ns) shorter. Air would add 3e-4 (0.15 us over 150 km).

    Parameters
    ----------
    lat1, lon1, alt1_m, lat2, lon2, alt2_m : array_like of float
        Latitudes and longitudes, degrees, and altitudes above the ellipsoid, m; broadcast against each other.

    Returns
    -------
    ndarray of float64
        Seconds, of the common shape.

    Examples
    --------
    >>> print(f"{propagation_delay_s(45.07, 7.69, 250.0, 44.41, 8.93, 100.0) * 1e6:.1f} us")
    408.9 us
    """
    line = _earth_centred_m(lat1, lon1, alt1_m) - _earth_centred_m(lat2, lon2, alt2_m)
    return np.asarray(np.linalg.norm(line, axis=-1) / SPEED_OF_LIGHT_M_PER_S)


def gdop(tx_lat: float, tx_lon: float, rx_lats: ArrayLike, rx_lons: ArrayLike) -> float:
    """Geometric dilution of precision of a location from time differences, in the horizontal plane.

    The standard deviation of the position relative to that of one range. With the unit vectors u_i from the transmitter
    to the receivers and H = [u_i, 1] (the 1 is for the unknown instant of transmission) it is
    ``sqrt(trace((H^T H)^-1 [:2, :2]))``. Receivers close together are harmless: they count as one measured twice.

    Parameters
    ----------
    tx_lat, tx_lon : float
        Transmitter, degrees.
    rx_lats, rx_lons : array_like of float, shape (num_receivers,)
        Receivers, degrees. A receiver at the transmitter's own place has no direction: its u is 0.

    Returns
    -------
    float
        Infinite for fewer than 3 receivers, or if their geometry does not determine a position.

    References
    ----------
    Torrieri, "Statistical theory of passive location systems", IEEE Trans. AES-20 (1984).

    Examples
    --------
    Receivers around the transmitter, and receivers in one line with it:

    >>> round(gdop(45.0, 8.0, [46.0, 44.5, 44.5], [8.0, 7.0, 9.0]), 2)
    1.16
    >>> gdop(45.0, 8.0, [46.0, 44.0, 43.0], [8.0, 8.0, 8.0])
    inf
    """
    distance, azimuth = distance_and_azimuth(tx_lat, tx_lon, rx_lats, rx_lons)
    if distance.size < 3:
        return float("inf")
    apart = distance > 0
    design = np.stack([np.sin(azimuth) * apart, np.cos(azimuth) * apart, np.ones_like(azimuth)], axis=-1)
    _, singular_values, axes = np.linalg.svd(design, full_matrices=False)
    if singular_values[-1] <= _SINGULAR * singular_values[0]:
        return float("inf")
    return float(np.linalg.norm(axes[:, :2] / singular_values[:, None]))


def distance_and_azimuth(
    lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Length of the geodesic and its azimuth at the first point.

    Parameters
    ----------
    lat1, lon1, lat2, lon2 : array_like of float
        WGS84, degrees; broadcast against each other.

    Returns
    -------
    distance_m, azimuth_rad : ndarray of float64
        Azimuth clockwise from north.

    Examples
    --------
    From Torino to Genova and to Milano:

    >>> distance, azimuth = distance_and_azimuth(45.07, 7.69, [44.41, 45.46], [8.93, 9.19])
    >>> np.round(distance / 1e3, 1), np.round(np.degrees(azimuth), 1)
    (array([122.6, 125.4]), array([126.3,  69.3]))
    """
    degrees = (np.asarray(values, dtype=np.float64) for values in (lon1, lat1, lon2, lat2))
    from_lon, from_lat, to_lon, to_lat = np.broadcast_arrays(*degrees)
    azimuth, _, distance = _WGS84.inv(from_lon, from_lat, to_lon, to_lat)
    return np.asarray(distance), np.radians(azimuth)


def geodesic_points(
    latitude: float, longitude: float, azimuths_rad: ArrayLike, lengths_m: ArrayLike, starts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Points at equal distances along several geodesics from one point.

    Exact every 20 km, with cubics in between, which err by less than 1 cm.

    Parameters
    ----------
    latitude, longitude : float
        Where they begin; WGS84, degrees.
    azimuths_rad, lengths_m : array_like of float, shape (num_links,)
        Of each geodesic, as of `distance_and_azimuth`.
    starts : ndarray of int64, shape (num_links + 1,)
        The points of geodesic k are ``starts[k]`` to ``starts[k + 1]``, both ends included, 2 or more.

    Returns
    -------
    distances_m, latitudes, longitudes : ndarray of float64, shape (starts[-1],)
        Longitudes are continuous along each geodesic, and can be beyond 180.

    Examples
    --------
    >>> distances, latitudes, longitudes = geodesic_points(45.0, 8.0, [0.0], [100e3], np.array([0, 3]))
    >>> np.round(distances), np.round(latitudes, 4), np.round(longitudes, 4)
    (array([     0.,  50000., 100000.]), array([45.    , 45.4499, 45.8998]), array([8., 8., 8.]))
    """
    azimuths, lengths = np.asarray(azimuths_rad, dtype=np.float64), np.asarray(lengths_m, dtype=np.float64)
    num_steps = starts[1:] - starts[:-1] - 1
    is_polar = abs(latitude) + np.degrees(lengths / _WGS84.b) > _POLAR_DEG
    segments = np.where(is_polar, num_steps, np.ceil(lengths / _KNOT_DISTANCE_M)).astype(np.int64)
    segments = np.maximum(segments, 3)
    knot_starts = np.concatenate([[0], np.cumsum(segments + 1)])
    link = np.repeat(np.arange(lengths.size), segments + 1)
    share = (np.arange(knot_starts[-1]) - knot_starts[link]) / segments[link]
    knot_longitudes, knot_latitudes, _ = _WGS84.fwd(
        np.full(link.size, longitude),
        np.full(link.size, latitude),
        np.degrees(azimuths)[link],
        share * lengths[link],
    )
    knot_longitudes = longitude + (np.asarray(knot_longitudes) - longitude + 180) % 360 - 180
    distances, latitudes, longitudes = np.empty((3, int(starts[-1])))
    _interpolate_positions(
        distances, latitudes, longitudes, starts, lengths, knot_starts, np.asarray(knot_latitudes), knot_longitudes
    )
    return distances, latitudes, longitudes


@compiled
def _interpolate_positions(
    distances: NDArray[np.float64],
    latitudes: NDArray[np.float64],
    longitudes: NDArray[np.float64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.float64],
    knot_starts: NDArray[np.int64],
    knot_latitudes: NDArray[np.float64],
    knot_longitudes: NDArray[np.float64],
) -> None:
    """Lagrange's cubic through the four knots around each point."""
    for link in range(lengths.size):
        num_steps = starts[link + 1] - starts[link] - 1
        segments = knot_starts[link + 1] - knot_starts[link] - 1
        for i in range(num_steps + 1):
            at = starts[link] + i
            distances[at] = lengths[link] * i / num_steps
            place = i * segments / num_steps
            first = min(max(int(np.floor(place)) - 1, 0), segments - 3)
            t = place - first
            w0 = -(t - 1.0) * (t - 2.0) * (t - 3.0) / 6.0
            w1 = t * (t - 2.0) * (t - 3.0) / 2.0
            w2 = -t * (t - 1.0) * (t - 3.0) / 2.0
            w3 = t * (t - 1.0) * (t - 2.0) / 6.0
            k = knot_starts[link] + first
            latitudes[at] = (
                w0 * knot_latitudes[k]
                + w1 * knot_latitudes[k + 1]
                + w2 * knot_latitudes[k + 2]
                + w3 * knot_latitudes[k + 3]
            )
            longitudes[at] = (
                w0 * knot_longitudes[k]
                + w1 * knot_longitudes[k + 1]
                + w2 * knot_longitudes[k + 2]
                + w3 * knot_longitudes[k + 3]
            )


def _earth_centred_m(lat: ArrayLike, lon: ArrayLike, alt_m: ArrayLike) -> NDArray[np.float64]:
    """Earth-centred, Earth-fixed coordinates, m; x, y and z along a last axis."""
    latitude, longitude = np.radians(lat), np.radians(lon)
    altitude = np.asarray(alt_m, dtype=np.float64)
    normal_radius = _WGS84.a / np.sqrt(1 - _WGS84.es * np.sin(latitude) ** 2)
    from_axis = (normal_radius + altitude) * np.cos(latitude)
    north = (normal_radius * (1 - _WGS84.es) + altitude) * np.sin(latitude)
    axes = np.broadcast_arrays(from_axis * np.cos(longitude), from_axis * np.sin(longitude), north)
    return np.stack(axes, axis=-1)
