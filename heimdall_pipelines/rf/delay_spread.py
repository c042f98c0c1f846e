"""Delay spreads of links, by environment, distance and line of sight."""

import math

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.environment import Environment

_DELAY_SPREAD_AT_1_KM_S: dict[Environment, float] = {"city": 0.4e-6, "residential": 0.3e-6, "rural": 0.1e-6}
# In line of sight: median and standard deviation of the decimal logarithm. UMa and RMa of 3GPP TR 38.901 table 7.5-6,
# suburban macrocells (C1) of WINNER II D1.1.2 table 4-5.
_SIGHT_DELAY_SPREAD_S: dict[Environment, tuple[float, float]] = {
    "city": (93e-9, 0.66),
    "residential": (59e-9, 0.49),
    "rural": (32e-9, 0.55),
}
_DELAY_SPREAD_SIGMA_DB = 4.0
_DELAY_SPREAD_SHADOWING_CORRELATION = 0.75
_MAX_DELAY_SPREAD_S = 12e-6  # 95 % of links without line of sight in mountains at VHF have 2 to 12 us


def draw_delay_spreads_s(
    environment: Environment,
    distances_m: NDArray[np.float64],
    shadowing: NDArray[np.float64],
    is_line_of_sight: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw the rms delay spreads of links: Greenstein's model, and that of macrocells in line of sight.

    Parameters
    ----------
    environment : {"city", "residential", "rural"}
    distances_m : ndarray of float64, shape (num_links,)
    shadowing : ndarray of float64, shape (num_links,)
        The links' loss in standard deviations; spreads are greater in the shadow.
    is_line_of_sight : ndarray of bool, shape (num_links,)
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (num_links,)
        Seconds, at most 12 us; see `heimdall_pipelines.rf.scene.draw_scene`.

    References
    ----------
    Greenstein, Erceg, Yeh, Clark, "A new path-gain/delay-spread propagation model for digital cellular channels",
    IEEE Trans. Vehicular Technology 46 (1997), eq. 10.
    3GPP TR 38.901 table 7.5-6; WINNER II D1.1.2 table 4-5.
    """
    correlation = _DELAY_SPREAD_SHADOWING_CORRELATION
    own = math.sqrt(1 - correlation**2) * rng.standard_normal(distances_m.size)
    y = correlation * shadowing + own
    in_shadow_s = _DELAY_SPREAD_AT_1_KM_S[environment] * np.sqrt(distances_m / 1e3)
    in_shadow_s *= 10 ** (_DELAY_SPREAD_SIGMA_DB / 10 * y)
    median_s, sigma = _SIGHT_DELAY_SPREAD_S[environment]
    spreads_s = np.where(is_line_of_sight, median_s * 10 ** (sigma * y), in_shadow_s)
    return np.asarray(np.minimum(spreads_s, _MAX_DELAY_SPREAD_S))
