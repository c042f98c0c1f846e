"""How late an arrival time is likely to be by echoes, from what was measured of its link."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_NUMBER_OF_TERMS = 3  # of a density: share, mean excess, deviation when late


@dataclass(frozen=True)
class _Regression:
    """Share of late arrivals and their mean excess: log-odds and logarithm are linear in two logarithms.

    Attributes
    ----------
    log_odds, log_odds_per_std, log_odds_per_spread : float
        At a standard deviation of 1 us and a delay spread of 1 us; slopes over the natural logarithms of both, us.
    log_excess, log_excess_per_std, log_excess_per_spread : float
        The same for the mean excess, relative to ``echo_us``.
    """

    log_odds: float
    log_odds_per_std: float
    log_odds_per_spread: float
    log_excess: float
    log_excess_per_std: float
    log_excess_per_spread: float


# Maximum likelihood over samples of datasets, see docs/science.md: with the delay spread of the link; of a link that is
# too weak to measure one; and where delay spreads are not given at all.
_WITH_SPREAD: Final = _Regression(7.2, 0.68, 3.15, 0.0, 0.12, 0.65)
_TOO_WEAK: Final = _Regression(5.0, 0.58, 0.0, 0.36, 0.42, 0.0)
_NOT_GIVEN: Final = _Regression(3.08, 1.89, 0.0, 0.28, 0.37, 0.0)
_LEAST_STD_US, _LEAST_SPREAD_US = 1e-3, 0.02
_LIMITS_US = (0.1, 20.0)
_DIRECT_OVER_OWN = 0.3  # deviation of an arrival that is not late, over what the scatter says
_LATE_OVER_OWN = 0.6
_LATE_OVER_EXCESS = 0.34


def densities_of_errors(
    own_std_s: NDArray[np.float64],
    std_s: NDArray[np.float64],
    delay_spreads_us: NDArray[np.float64] | None,
    echo_us: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Parameters of the density of each arrival time's error.

    Parameters
    ----------
    own_std_s, std_s : ndarray of float64, shape (num,)
        Standard deviation as measured, and with what is not measured, s.
    delay_spreads_us : ndarray of float64, shape (num,), or None
        Delay spread as measured (feature multipath_delay_spread_us); NaN where the signal is too weak for it.
    echo_us : float
        Mean excess of a late arrival at a standard deviation and a delay spread of 1 us.

    Returns
    -------
    direct_std_s : ndarray of float64, shape (num,)
        Standard deviation of an arrival without echoes, s.
    late : ndarray of float64, shape (num, 3)
        Share of late arrivals, their mean excess, s, and standard deviation besides it, s.
    """
    own_us = np.maximum(own_std_s * 1e6, _LEAST_STD_US)
    log_std = np.log(own_us)
    if delay_spreads_us is None:
        is_known, log_spread = np.zeros(own_us.size, np.bool_), np.zeros(own_us.size)
    else:
        is_known = np.isfinite(delay_spreads_us)
        log_spread = np.log(np.maximum(np.where(is_known, delay_spreads_us, 1.0), _LEAST_SPREAD_US))
    unknown = _NOT_GIVEN if delay_spreads_us is None else _TOO_WEAK
    log_odds, log_excess = np.empty(own_us.size), np.empty(own_us.size)
    for chosen, by in ((is_known, _WITH_SPREAD), (~is_known, unknown)):
        std, spread = log_std[chosen], log_spread[chosen]
        log_odds[chosen] = by.log_odds + by.log_odds_per_std * std + by.log_odds_per_spread * spread
        log_excess[chosen] = by.log_excess + by.log_excess_per_std * std + by.log_excess_per_spread * spread
    excess_us = np.clip(echo_us * np.exp(log_excess), *_LIMITS_US)
    not_measured_us2 = (std_s**2 - own_std_s**2) * 1e12
    direct_us = np.sqrt((_DIRECT_OVER_OWN * own_us) ** 2 + not_measured_us2)
    late_us = np.sqrt((_LATE_OVER_OWN * own_us) ** 2 + not_measured_us2 + (_LATE_OVER_EXCESS * excess_us) ** 2)
    late = np.empty((own_us.size, _NUMBER_OF_TERMS))
    late[:, 0] = 1 / (1 + np.exp(-log_odds))
    late[:, 1], late[:, 2] = excess_us * 1e-6, late_us * 1e-6
    return direct_us * 1e-6, late
