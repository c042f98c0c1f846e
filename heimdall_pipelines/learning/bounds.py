"""Cramer-Rao bounds of positions from arrival times, for many samples at once."""

from __future__ import annotations

import math

import numpy as np
import pyproj
from numpy.typing import NDArray

from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S

CONFIDENCE = 0.95
MIN_RECEIVERS = 3  # of a position in the plane
_MIN_RECIPROCAL_CONDITION = 1e-12
_SCALE = math.sqrt(-2 * math.log1p(-CONFIDENCE))  # root of the quantile of chi-square with two degrees of freedom
_WGS84 = pyproj.Geod(ellps="WGS84")


def arrival_std_s(
    snr_db: NDArray[np.float64], *, sample_rate_hz: float, bandwidth_hz: float, duration_s: float, clock_std_s: float
) -> NDArray[np.float64]:
    """Least standard deviation of an arrival time, with that of the receiver's clock.

    Parameters
    ----------
    snr_db : ndarray of float64
        Signal to noise over the sampled band; NaN where nothing was received.
    sample_rate_hz, bandwidth_hz, duration_s : float
        The signal is taken to fill the channel of this bandwidth evenly, so that real signals do no better.
    clock_std_s : float

    Returns
    -------
    ndarray of float64
        ``sqrt(1 / (8 pi^2 b^2 C/N0 T) + clock^2)`` with ``b^2 = B^2 / 12`` (Kay, Fundamentals of Statistical Signal
        Processing: Estimation Theory, 1993, section 3.11).
    """
    carrier_to_noise_hz = 10 ** (snr_db / 10) * sample_rate_hz
    mean_square_hz2 = bandwidth_hz**2 / 12
    return np.sqrt(1 / (8 * np.pi**2 * mean_square_hz2 * carrier_to_noise_hz * duration_s) + clock_std_s**2)


def position_bounds(
    tx_lats_deg: NDArray[np.float64],
    tx_lons_deg: NDArray[np.float64],
    sample_of_link: NDArray[np.int64],
    rx_lats_deg: NDArray[np.float64],
    rx_lons_deg: NDArray[np.float64],
    std_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Ellipse of 95 % of the bound of each sample's position.

    Parameters
    ----------
    tx_lats_deg, tx_lons_deg : ndarray of float64, shape (num_samples,)
    sample_of_link : ndarray of int, shape (num_links,)
        Position of each link's sample in the first arrays.
    rx_lats_deg, rx_lons_deg, std_s : ndarray of float64, shape (num_links,)
        Links whose standard deviation is not finite do not count.

    Returns
    -------
    ndarray of float64, shape (num_samples, 3)
        Semi-major and semi-minor axis in m, azimuth of the former in degrees from 0 to 180; NaN where fewer than three
        receivers count, or their geometry determines no position.
    """
    num_samples = len(tx_lats_deg)
    used = np.isfinite(std_s)
    at, std = sample_of_link[used], std_s[used]
    azimuth_deg, _, _ = _WGS84.inv(tx_lons_deg[at], tx_lats_deg[at], rx_lons_deg[used], rx_lats_deg[used])
    azimuth = np.radians(np.asarray(azimuth_deg, float))
    # Columns: path length per m to the east and the north, and the unknown instant times the speed of light.
    design = np.stack([-np.sin(azimuth), -np.cos(azimuth), np.ones_like(azimuth)], axis=-1)
    weights = 1 / (std * SPEED_OF_LIGHT_M_PER_S) ** 2
    information = np.zeros((num_samples, 3, 3))
    np.add.at(information, at, weights[:, None, None] * design[:, :, None] * design[:, None, :])
    ellipses = np.full((num_samples, 3), np.nan)
    enough = np.bincount(at, minlength=num_samples) >= MIN_RECEIVERS
    scale = np.maximum(np.trace(information, axis1=1, axis2=2), np.finfo(float).tiny)
    values = np.linalg.eigvalsh(information / scale[:, None, None])
    solvable = enough & (values[:, 0] > _MIN_RECIPROCAL_CONDITION)
    covariance = np.linalg.inv(information[solvable])[:, :2, :2]
    variances, axes = np.linalg.eigh(covariance)
    ellipses[solvable, 0] = _SCALE * np.sqrt(variances[:, 1])
    ellipses[solvable, 1] = _SCALE * np.sqrt(np.maximum(variances[:, 0], 0))
    ellipses[solvable, 2] = np.degrees(np.arctan2(axes[:, 0, 1], axes[:, 1, 1])) % 180
    return ellipses
