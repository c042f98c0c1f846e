"""Distances, delays and the geometry of location on the WGS84 ellipsoid."""

import numpy as np
import pyproj
from numpy.typing import ArrayLike, NDArray

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0
_WGS84 = pyproj.Geod(ellps="WGS84")
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


def _earth_centred_m(lat: ArrayLike, lon: ArrayLike, alt_m: ArrayLike) -> NDArray[np.float64]:
    """Earth-centred, Earth-fixed coordinates, m; x, y and z along a last axis."""
    latitude, longitude = np.radians(lat), np.radians(lon)
    altitude = np.asarray(alt_m, dtype=np.float64)
    normal_radius = _WGS84.a / np.sqrt(1 - _WGS84.es * np.sin(latitude) ** 2)
    from_axis = (normal_radius + altitude) * np.cos(latitude)
    north = (normal_radius * (1 - _WGS84.es) + altitude) * np.sin(latitude)
    axes = np.broadcast_arrays(from_axis * np.cos(longitude), from_axis * np.sin(longitude), north)
    return np.stack(axes, axis=-1)
