"""Loss between two antennas: free space, diffraction over terrain or a smooth Earth, and scatter in the troposphere.

Median over time, vertical polarisation over land, without buildings and trees near the antennas; 30 MHz to 3 GHz. The
diffraction model is the delta-Bullington method of Recommendation ITU-R P.526-15 section 4.5. It is identical
to section 4.2 of P.452-16, whose equation numbers are cited here.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heimdall_pipelines.rf.bullington import profile_terms
from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S
from heimdall_pipelines.rf.profiles import Profiles

SEA_LEVEL_REFRACTIVITY = 325.0  # N0, N-units; median of mid latitudes, P.452-16 figure 13
REFRACTIVITY_GRADIENT_PER_KM = 45.0  # Delta-N, N-units; median of mid latitudes, P.452-16 figure 12
EFFECTIVE_EARTH_RADIUS_M = 6_371e3 * 157 / (157 - REFRACTIVITY_GRADIENT_PER_KM)  # P.452-16 (5), (6a): k = 1.40

_LAND_PERMITTIVITY = 22.0  # P.452-16 section 4.2.2.1
_LAND_CONDUCTIVITY_S_PER_M = 0.003
_NEAREST_M = 1.0


@dataclass(frozen=True)
class PathLoss:
    """Loss between isotropic antennas and its components; arrays of one shape, () for a single path.

    Attributes
    ----------
    loss_db : ndarray of float64
        Of the whole path.
    free_space_db : ndarray of float64
        Free-space loss.
    diffraction_db : ndarray of float64
        Diffraction loss over terrain and the Earth's bulge, in addition to free space.
    troposcatter_db : ndarray of float64
        Loss of the alternative path by tropospheric scatter.
    is_line_of_sight : ndarray of bool
        Whether the straight ray over the effective Earth is unobstructed; obstacles in its first Fresnel zone may still
        cause some dB of loss.
    """

    loss_db: NDArray[np.float64]
    free_space_db: NDArray[np.float64]
    diffraction_db: NDArray[np.float64]
    troposcatter_db: NDArray[np.float64]
    is_line_of_sight: NDArray[np.bool_]


def free_space_loss_db(frequency_hz: ArrayLike, distance_m: ArrayLike) -> NDArray[np.float64]:
    """Loss between isotropic antennas in free space.

    Parameters
    ----------
    frequency_hz : array_like of float
    distance_m : array_like of float
        Distances below 1 m count as 1 m, where the far field of a VHF antenna starts.

    Returns
    -------
    ndarray of float64
        ``20 log10(4 pi d f / c)``, dB, of the common shape.

    References
    ----------
    ITU-R P.525-4, equation (3).

    Examples
    --------
    >>> free_space_loss_db(145e6, [1e3, 10e3, 100e3]).round(1)
    array([ 75.7,  95.7, 115.7])
    """
    distance = np.maximum(np.asarray(distance_m, dtype=np.float64), _NEAREST_M)
    frequency = np.asarray(frequency_hz, dtype=np.float64)
    return np.asarray(20 * np.log10(4 * math.pi / SPEED_OF_LIGHT_M_PER_S * distance * frequency))


def spherical_earth_diffraction_loss_db(
    frequency_hz: ArrayLike,
    distance_m: ArrayLike,
    tx_height_m: ArrayLike,
    rx_height_m: ArrayLike,
    *,
    effective_earth_radius_m: float = EFFECTIVE_EARTH_RADIUS_M,
) -> NDArray[np.float64]:
    """Loss over a smooth Earth in addition to free space.

    The first term of the residue series beyond the horizon; within it, linear in the ray's least clearance, from the
    first term's loss where the ray grazes the Earth (reached by a smaller Earth radius) to 0 where 0.552 of the first
    Fresnel zone is clear.

    Parameters
    ----------
    frequency_hz, distance_m : array_like of float
    tx_height_m, rx_height_m : array_like of float
        Of the antennas above the smooth Earth, positive.
    effective_earth_radius_m : float
        Earth radius over which rays are straight.

    Returns
    -------
    ndarray of float64
        dB, 0 or more, of the common shape.

    References
    ----------
    ITU-R P.526-15 section 3.2; P.452-16 section 4.2.2, equations (23) to (28).

    Examples
    --------
    >>> spherical_earth_diffraction_loss_db(145e6, [10e3, 50e3, 100e3], tx_height_m=10, rx_height_m=30).round(1)
    array([14.4, 37.2, 57.8])
    """
    f_hz, d, h_tx, h_rx = np.broadcast_arrays(
        *(np.asarray(values, dtype=np.float64) for values in (frequency_hz, distance_m, tx_height_m, rx_height_m))
    )
    d = np.maximum(d, _NEAREST_M)
    radius = effective_earth_radius_m
    is_beyond = d >= _horizon_m(h_tx, radius) + _horizon_m(h_rx, radius)  # (23)

    difference = (h_tx - h_rx) / (h_tx + h_rx)  # (25d)
    m = d**2 / (4 * radius * (h_tx + h_rx))  # (25e)
    angle = np.arccos(np.clip(1.5 * difference * np.sqrt(3 * m / (m + 1) ** 3), -1, 1))
    b = 2 * np.sqrt((m + 1) / (3 * m)) * np.cos((math.pi + angle) / 3)  # (25c)
    d_tx = d / 2 * (1 + b)  # (25a)
    d_rx = d - d_tx  # (25b)
    bulge_tx, bulge_rx = d_tx**2 / (2 * radius), d_rx**2 / (2 * radius)
    clearance = ((h_tx - bulge_tx) * d_rx + (h_rx - bulge_rx) * d_tx) / d  # (24)
    required = 0.552 * np.sqrt(np.maximum(d_tx * d_rx, 0) / d * SPEED_OF_LIGHT_M_PER_S / f_hz)  # (26)

    grazing_radius = (d / (np.sqrt(h_tx) + np.sqrt(h_rx))) ** 2 / 2  # (27)
    first_term = _first_term_db(f_hz, d, h_tx, h_rx, np.where(is_beyond, radius, grazing_radius))
    is_clear = clearance >= required
    share = np.where(is_beyond, 1.0, 1 - clearance / np.where(is_clear, 1.0, required))  # (28)
    return np.where(is_clear & ~is_beyond, 0.0, np.maximum(first_term, 0) * share)


def troposcatter_loss_db(
    frequency_hz: ArrayLike,
    distance_m: ArrayLike,
    scatter_angle_rad: ArrayLike,
    *,
    sea_level_refractivity: float = SEA_LEVEL_REFRACTIVITY,
) -> NDArray[np.float64]:
    """Median loss of the path by tropospheric scatter, between low-gain antennas.

    Parameters
    ----------
    frequency_hz, distance_m : array_like of float
    scatter_angle_rad : array_like of float
        Angle between the rays from both ends to their horizons, over the effective Earth; 0 or more.
    sea_level_refractivity : float
        N0, N-units.

    Returns
    -------
    ndarray of float64
        dB, of the common shape. The total loss, including free space.

    References
    ----------
    ITU-R P.452-16 section 4.3, equations (45), (45a) and (45b) for 50 % of the time, gases neglected.

    Examples
    --------
    >>> float(troposcatter_loss_db(145e6, 200e3, scatter_angle_rad=0.01).round(1))
    168.8
    """
    f_ghz = np.asarray(frequency_hz, dtype=np.float64) / 1e9
    d_km = np.maximum(np.asarray(distance_m, dtype=np.float64), _NEAREST_M) / 1e3
    angle_mrad = np.asarray(scatter_angle_rad, dtype=np.float64) * 1e3
    frequency_db = 25 * np.log10(f_ghz) - 2.5 * np.log10(f_ghz / 2) ** 2  # (45a)
    coupling_db = 0.051  # (45b) for gains of 0 dBi
    air_db = 0.15 * sea_level_refractivity
    return np.asarray(190 + frequency_db + 20 * np.log10(d_km) + 0.573 * angle_mrad - air_db + coupling_db)


def path_loss_db(
    frequency_hz: float,
    distances_m: ArrayLike,
    heights_m: ArrayLike,
    tx_height_m: float,
    rx_height_m: float,
    *,
    effective_earth_radius_m: float = EFFECTIVE_EARTH_RADIUS_M,
) -> PathLoss:
    """Loss between isotropic antennas over a terrain profile.

    Free space and diffraction, combined with troposcatter; the smaller loss dominates:
    ``-5 log10(10^(-0.2 L1) + 10^(-0.2 L2))``. Agrees within 0.2 dB with complete P.1812 and P.452 without ducts and
    clutter. Diffraction is by the delta-Bullington method: the loss of the profile's Bullington edge, plus the excess
    of the smooth-Earth loss over that of its own Bullington edge, ``Ld = Lbulla + max(Ldsph - Lbulls, 0)``.

    Parameters
    ----------
    frequency_hz : float
    distances_m : array_like of float, shape (num_points,)
        From the transmitter along the ground, increasing from 0 to the receiver; 3 points or more, usually every 250 m.
    heights_m : array_like of float, shape (num_points,)
        Of the ground above sea level.
    tx_height_m, rx_height_m : float
        Of the antennas above the ground at each end, positive.
    effective_earth_radius_m : float
        Earth radius over which rays are straight.

    Returns
    -------
    PathLoss
        Of shape ().

    Raises
    ------
    ValueError
        The profile is invalid, or an antenna height is not positive.

    References
    ----------
    ITU-R P.452-16 section 4.6, equation (64); P.1812-6 section 4.7 is the same. Diffraction: P.526-15 section 4.5;
    P.452-16 section 4.2.3, equations (38) to (40).

    Examples
    --------
    A hill of 300 m on a plain, 8 km from the transmitter:

    >>> distances_m = np.linspace(0, 20e3, 81)
    >>> hill_m = 300 * np.exp(-(((distances_m - 8e3) / 1e3) ** 2))
    >>> path = path_loss_db(145e6, distances_m, hill_m, tx_height_m=10, rx_height_m=30)
    >>> round(float(path.loss_db), 1), round(float(path.diffraction_db), 1), bool(path.is_line_of_sight)
    (137.0, 35.3, False)
    """
    path = path_losses_db(
        frequency_hz,
        Profiles.single(distances_m, heights_m),
        tx_height_m,
        rx_height_m,
        effective_earth_radius_m=effective_earth_radius_m,
    )
    return PathLoss(**{name: values[0] for name, values in vars(path).items()})


def path_losses_db(
    frequency_hz: float,
    profiles: Profiles,
    tx_heights_m: ArrayLike,
    rx_heights_m: ArrayLike,
    *,
    effective_earth_radius_m: float = EFFECTIVE_EARTH_RADIUS_M,
) -> PathLoss:
    """Loss between isotropic antennas over several terrain profiles at once, as `path_loss_db` of each.

    Parameters
    ----------
    frequency_hz : float
    profiles : Profiles
        Of the links.
    tx_heights_m, rx_heights_m : array_like of float, shape (num_links,) or ()
        Of the antennas above the ground at each end, positive.
    effective_earth_radius_m : float
        Earth radius over which rays are straight.

    Returns
    -------
    PathLoss
        Of shape (num_links,).

    Raises
    ------
    ValueError
        An antenna height is not positive.
    """
    radius_m = effective_earth_radius_m
    shape = profiles.num_links
    tx_heights, rx_heights = (
        np.ascontiguousarray(np.broadcast_to(np.asarray(heights, dtype=np.float64), shape))
        for heights in (tx_heights_m, rx_heights_m)
    )
    if not (np.all(tx_heights > 0) and np.all(rx_heights > 0)):
        raise ValueError(f"antennas must stand above the ground, not at {tx_heights.min()} m and {rx_heights.min()} m")
    terms = profile_terms(profiles, tx_heights, rx_heights, SPEED_OF_LIGHT_M_PER_S / frequency_hz, radius_m)
    lengths_m = profiles.lengths_m
    spherical_db = spherical_earth_diffraction_loss_db(
        frequency_hz, lengths_m, terms.tx_effective_m, terms.rx_effective_m, effective_earth_radius_m=radius_m
    )
    diffraction_db = terms.actual_db + np.maximum(spherical_db - terms.smooth_db, 0.0)  # (40)

    # Elevations over the effective Earth, (152) to (158): of the horizon, or of the other end if it is visible.
    rise_m = profiles.rx_ground_m + rx_heights - profiles.tx_ground_m - tx_heights
    drop = lengths_m / (2 * radius_m)
    far_tx, far_rx = rise_m / lengths_m - drop, -rise_m / lengths_m - drop
    is_line_of_sight = terms.horizon_tx < far_tx
    elevation_tx = np.arctan(np.maximum(terms.horizon_tx, far_tx))
    elevation_rx = np.arctan(np.maximum(terms.horizon_rx, far_rx))
    scatter_angle_rad = lengths_m / radius_m + elevation_tx + elevation_rx  # (159)
    return _combined(
        free_space_loss_db(frequency_hz, np.hypot(lengths_m, rise_m)),
        diffraction_db,
        troposcatter_loss_db(frequency_hz, lengths_m, np.maximum(scatter_angle_rad, 0.0)),
        is_line_of_sight,
    )


def smooth_earth_path_loss_db(
    frequency_hz: ArrayLike,
    distance_m: ArrayLike,
    tx_height_m: ArrayLike,
    rx_height_m: ArrayLike,
    *,
    effective_earth_radius_m: float = EFFECTIVE_EARTH_RADIUS_M,
) -> PathLoss:
    """Loss between isotropic antennas over a smooth Earth, for unknown terrain.

    As `path_loss_db`, for many paths at once: the diffraction is that of P.526-15 section 3.2, to which
    delta-Bullington reduces over flat ground.

    Parameters
    ----------
    frequency_hz, distance_m, tx_height_m, rx_height_m, effective_earth_radius_m
        As for `spherical_earth_diffraction_loss_db`.

    Returns
    -------
    PathLoss
        Of the common shape.

    Raises
    ------
    ValueError
        An antenna height is not positive.

    Examples
    --------
    >>> path = smooth_earth_path_loss_db(145e6, [10e3, 50e3, 100e3], tx_height_m=10, rx_height_m=30)
    >>> path.loss_db.round(1), path.is_line_of_sight
    (array([110. , 146.6, 161.2]), array([ True, False, False]))
    """
    h_tx, h_rx = np.asarray(tx_height_m, dtype=np.float64), np.asarray(rx_height_m, dtype=np.float64)
    if not (np.all(h_tx > 0) and np.all(h_rx > 0)):
        raise ValueError(f"antennas must stand above the Earth, not at {h_tx.min()} m and {h_rx.min()} m")
    distance = np.asarray(distance_m, dtype=np.float64)
    diffraction_db = spherical_earth_diffraction_loss_db(
        frequency_hz, distance, h_tx, h_rx, effective_earth_radius_m=effective_earth_radius_m
    )
    beyond_horizons_m = (
        distance - _horizon_m(h_tx, effective_earth_radius_m) - _horizon_m(h_rx, effective_earth_radius_m)
    )
    scatter_angle_rad = np.maximum(beyond_horizons_m, 0) / effective_earth_radius_m
    return _combined(
        free_space_loss_db(frequency_hz, np.hypot(distance, h_tx - h_rx)),
        diffraction_db,
        troposcatter_loss_db(frequency_hz, distance, scatter_angle_rad),
        beyond_horizons_m < 0,
    )


def _combined(
    free_space_db: NDArray[np.float64],
    diffraction_db: NDArray[np.float64],
    troposcatter_db: NDArray[np.float64],
    is_line_of_sight: NDArray[np.bool_],
) -> PathLoss:
    """Two parallel paths, P.452-16 (64), without underflow of the powers of ten."""
    along_ground_db = free_space_db + diffraction_db
    least_db = np.minimum(along_ground_db, troposcatter_db)
    apart_db = np.abs(along_ground_db - troposcatter_db)
    loss_db = least_db - 5 * np.log10(1 + 10 ** (-0.2 * apart_db))
    shaped = np.broadcast_arrays(loss_db, free_space_db, diffraction_db, troposcatter_db, is_line_of_sight)
    return PathLoss(*shaped)


def _first_term_db(
    frequency_hz: NDArray[np.float64],
    distance_m: NDArray[np.float64],
    tx_height_m: NDArray[np.float64],
    rx_height_m: NDArray[np.float64],
    radius_m: NDArray[np.float64],
) -> NDArray[np.float64]:
    """First term of the residue series over land, vertical polarisation, P.452-16 (29) to (37)."""
    f_ghz, d_km, radius_km = frequency_hz / 1e9, distance_m / 1e3, radius_m / 1e3
    losses = 18 * _LAND_CONDUCTIVITY_S_PER_M / f_ghz
    horizontal = (
        0.036 * np.cbrt(1 / (radius_km * f_ghz)) * ((_LAND_PERMITTIVITY - 1) ** 2 + losses**2) ** -0.25
    )  # (30a)
    k = horizontal * np.sqrt(_LAND_PERMITTIVITY**2 + losses**2)  # (30b)
    beta = (1 + 1.6 * k**2 + 0.67 * k**4) / (1 + 4.5 * k**2 + 1.53 * k**4)  # (31)

    x = 21.88 * beta * np.cbrt(f_ghz / radius_km**2) * d_km  # (32)
    distance_db = np.where(x >= 1.6, 11 + 10 * np.log10(x) - 17.6 * x, -20 * np.log10(x) - 5.6488 * x**1.425)  # (34)
    per_metre = 0.9575 * beta * np.cbrt(f_ghz**2 / radius_km)  # (33)
    least_db = 2 + 20 * np.log10(k)
    tx_db = np.maximum(_height_gain_db(beta * per_metre * tx_height_m), least_db)  # (36), (37)
    rx_db = np.maximum(_height_gain_db(beta * per_metre * rx_height_m), least_db)
    return np.asarray(-distance_db - tx_db - rx_db)


def _height_gain_db(b: NDArray[np.float64]) -> NDArray[np.float64]:
    """P.452-16 (35)."""
    over = np.maximum(b, 2) - 1.1
    return np.where(b > 2, 17.6 * np.sqrt(over) - 5 * np.log10(over) - 8, 20 * np.log10(b + 0.1 * b**3))


def _horizon_m(height_m: NDArray[np.float64], radius_m: float) -> NDArray[np.float64]:
    """Distance of the horizon of an antenna over the smooth Earth, P.452-16 (23)."""
    return np.asarray(np.sqrt(2 * radius_m * height_m))
