"""Bullington's edge of terrain profiles, compiled: what the delta-Bullington method takes from all their points.

Equation numbers are those of Recommendation ITU-R P.452-16.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.philox import compiled
from heimdall_pipelines.rf.profiles import Profiles

_UNOBSTRUCTED = -0.78  # knife-edge parameter up to which an edge causes no loss, (13)


@dataclass(frozen=True, eq=False)
class ProfileTerms:
    """Terms of each profile, arrays of shape (num_links,).

    Attributes
    ----------
    tx_effective_m, rx_effective_m : ndarray of float64
        Antenna heights above the smooth surface that is fitted to the profile, (38).
    actual_db, smooth_db : ndarray of float64
        Loss of the edge that represents the profile, and of that of the smooth surface, (14) to (22).
    horizon_tx, horizon_rx : ndarray of float64
        Slope of the ray to the horizon at each end over the effective Earth, (153) and (157).
    """

    tx_effective_m: NDArray[np.float64]
    rx_effective_m: NDArray[np.float64]
    actual_db: NDArray[np.float64]
    smooth_db: NDArray[np.float64]
    horizon_tx: NDArray[np.float64]
    horizon_rx: NDArray[np.float64]


def profile_terms(
    profiles: Profiles,
    tx_heights_m: NDArray[np.float64],
    rx_heights_m: NDArray[np.float64],
    wavelength_m: float,
    radius_m: float,
) -> ProfileTerms:
    """Reduce profiles to the terms of the delta-Bullington method.

    Parameters
    ----------
    profiles : Profiles
    tx_heights_m, rx_heights_m : ndarray of float64, shape (num_links,)
        Of the antennas above the ground at each end.
    wavelength_m : float
    radius_m : float
        Of the Earth over which rays are straight.

    Notes
    -----
    The smooth surface is the least-squares line through the heights, (161) to (164), lowered by obstacles above the
    straight line between the antennas, (165) and (166), and not above the ground at its ends, (167).
    """
    out = np.empty((6, profiles.num_links))
    _reduce(
        out,
        profiles.starts,
        profiles.distances_m,
        profiles.heights_m,
        tx_heights_m,
        rx_heights_m,
        wavelength_m,
        radius_m,
    )
    return ProfileTerms(*out)


@compiled
def _reduce(
    out: NDArray[np.float64],
    starts: NDArray[np.int64],
    distances: NDArray[np.float64],
    heights: NDArray[np.float64],
    tx_heights: NDArray[np.float64],
    rx_heights: NDArray[np.float64],
    wavelength: float,
    radius: float,
) -> None:
    for link in range(starts.size - 1):
        d = distances[starts[link] : starts[link + 1]]
        h = heights[starts[link] : starts[link + 1]]
        last = d.size - 1
        length = d[last]
        tx, rx = h[0] + tx_heights[link], h[last] + rx_heights[link]
        v1, v2 = 0.0, 0.0
        for i in range(1, last + 1):
            step = d[i] - d[i - 1]
            v1 += step * (h[i] + h[i - 1])  # (161)
            v2 += step * (h[i] * (2 * d[i] + d[i - 1]) + h[i - 1] * (d[i] + 2 * d[i - 1]))  # (162)
        smooth_tx = (2 * v1 * length - v2) / (length * length)  # (163)
        smooth_rx = (v2 - v1 * length) / (length * length)  # (164)
        highest, tx_slope, rx_slope, horizon_tx, horizon_rx = -np.inf, -np.inf, -np.inf, -np.inf, -np.inf
        for i in range(1, last):
            from_tx, from_rx = d[i], length - d[i]
            above = h[i] - (tx * from_rx + rx * from_tx) / length  # (165d)
            highest = max(highest, above)  # (165a)
            tx_slope, rx_slope = max(tx_slope, above / from_tx), max(rx_slope, above / from_rx)  # (165b, c)
            horizon_tx = max(horizon_tx, (h[i] - tx) / from_tx - from_tx / (2 * radius))
            horizon_rx = max(horizon_rx, (h[i] - rx) / from_rx - from_rx / (2 * radius))
        if highest > 0:
            smooth_tx -= highest * tx_slope / (tx_slope + rx_slope)  # (166)
            smooth_rx -= highest * rx_slope / (tx_slope + rx_slope)
        out[0, link] = tx - min(smooth_tx, h[0])  # (167), (38a)
        out[1, link] = rx - min(smooth_rx, h[last])  # (38b)
        out[2, link] = _edge_db(d, h, 1.0, tx, rx, wavelength, radius)
        out[3, link] = _edge_db(d, h, 0.0, out[0, link], out[1, link], wavelength, radius)
        out[4, link], out[5, link] = horizon_tx, horizon_rx


@compiled
def _edge_db(
    d: NDArray[np.float64],
    h: NDArray[np.float64],
    ground: float,
    tx: float,
    rx: float,
    wavelength: float,
    radius: float,
) -> float:
    """Loss of the single edge that represents a profile, (14) to (22); ``ground`` is 0 for the Earth's bulge alone."""
    length = d[d.size - 1]
    from_tx_slope, from_rx_slope = -np.inf, -np.inf
    for i in range(1, d.size - 1):
        obstacle = ground * h[i] + d[i] * (length - d[i]) / (2 * radius)
        from_tx_slope = max(from_tx_slope, (obstacle - tx) / d[i])  # (14)
        from_rx_slope = max(from_rx_slope, (obstacle - rx) / (length - d[i]))  # (18)
    if from_tx_slope < (rx - tx) / length:  # (15): line of sight
        nu = -np.inf
        for i in range(1, d.size - 1):
            from_rx = length - d[i]
            above = ground * h[i] + d[i] * from_rx / (2 * radius) - (tx * from_rx + rx * d[i]) / length
            nu = max(nu, above * math.sqrt(2 * length / wavelength / (d[i] * from_rx)))
    else:
        to_edge = (rx - tx + from_rx_slope * length) / (from_tx_slope + from_rx_slope)  # (19)
        beyond = length - to_edge
        edge = tx + from_tx_slope * to_edge - (tx * beyond + rx * to_edge) / length
        nu = edge * math.sqrt(2 * length / (wavelength * to_edge * beyond))  # (20)
    loss = 0.0
    if nu > _UNOBSTRUCTED:  # (13); 0 gives 6 dB
        loss = max(6.9 + 20 * math.log10(math.hypot(nu - 0.1, 1.0) + nu - 0.1), 0.0)
    corrected: float = loss + (1 - math.exp(-loss / 6)) * (10 + 0.02 * length / 1e3)  # (22)
    return corrected
