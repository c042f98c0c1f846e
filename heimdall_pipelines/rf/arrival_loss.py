"""What an arrival time's residual costs: kernels of `positioning`, compiled."""

import math

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.philox import compiled

_ANYTHING = 0.01  # share of arrival times that anything happened to
_SQRT_2, _SQRT_2_PI = 1.4142135623730951, 2.5066282746310002


@compiled
def loss_of(residual_m: float, std_m: float, bend: float, echo: NDArray[np.float64]) -> tuple[float, float, float]:
    """Loss of a residual, half its slope, and a curvature that keeps steps from overshooting.

    Without echoes the soft-L1 loss ``2 b^2 (sqrt(1 + (r / b)^2) - 1)`` of the normalised residual r. With them twice
    the negative logarithm of the density of a normal error or, in a share of the cases, of another normal error with an
    exponential excess, beside one in a hundred that anything happens to, relative to that of an error of 0 without
    echoes.

    Parameters
    ----------
    residual_m, std_m : float
        Residual of an arrival time and its deviation, in m of light's way.
    bend : float
        b, the normalised residual from which the soft-L1 loss grows linearly.
    echo : ndarray of float64, shape (3,)
        Share of the cases in which it is late, 0 for the soft-L1 loss; mean of that excess, m; deviation then, m.

    Returns
    -------
    tuple of float
        Loss, half its slope in 1/m, curvature in 1/m^2.
    """
    share, echo_m, late_std_m = echo[0], echo[1], echo[2]
    if not share > 0:
        normalised = residual_m / (bend * std_m)
        root = math.sqrt(1 + normalised * normalised)
        weight = 1 / (root * std_m * std_m)
        return 2 * bend * bend * (root - 1), weight * residual_m, weight
    x = residual_m / std_m
    normal = math.exp(-0.5 * x * x) / (std_m * _SQRT_2_PI)
    x = residual_m / late_std_m
    late_normal = math.exp(-0.5 * x * x) / (late_std_m * _SQRT_2_PI)
    late, late_slope, late_bend = _late_density(residual_m, late_std_m, echo_m, late_normal)
    wide_m = 10 * echo_m + 10 * std_m
    wide = 1 / (math.pi * wide_m * (1 + (residual_m / wide_m) ** 2))
    first, second, third = (1 - _ANYTHING) * (1 - share) * normal, (1 - _ANYTHING) * share * late, _ANYTHING * wide
    total = first + second + third
    wide_slope = 2 * residual_m / (wide_m * wide_m + residual_m * residual_m)
    slope = (first * residual_m / (std_m * std_m) + second * late_slope + third * wide_slope) / total
    curvature = first / (std_m * std_m) + second * late_bend + third * 2 / (wide_m**2 + residual_m**2)
    return -2 * math.log(total * std_m * _SQRT_2_PI), slope, curvature / total


@compiled
def _late_density(residual_m: float, std_m: float, echo_m: float, normal: float) -> tuple[float, float, float]:
    """Density of a normal error plus an exponential excess, and slope and curvature of its negative logarithm."""
    ratio = std_m / echo_m
    from_edge = (ratio - residual_m / std_m) / _SQRT_2
    if from_edge > 5:  # the asymptote: early by many deviations
        density = normal / (echo_m * (ratio - residual_m / std_m)) * std_m
        return density, residual_m / (std_m * std_m), 1 / (std_m * std_m)
    density = 0.5 / echo_m * math.exp(0.5 * ratio * ratio - residual_m / echo_m) * math.erfc(from_edge)
    if not density > 0:
        return 0.0, 1 / echo_m, 1 / (echo_m * echo_m)
    slope = (density - normal) / (echo_m * density)
    second = (-normal * residual_m / (std_m * std_m) + slope * density) / (echo_m * density)
    return density, slope, max(slope * slope - second, 1e-4 / (echo_m * echo_m))


@compiled
def best_instant_m(
    excess_m: NDArray[np.float64], std_m: NDArray[np.float64], bend: float, echoes: NDArray[np.float64]
) -> float:
    """Instant of transmission at which the loss is least.

    Parameters
    ----------
    excess_m, std_m : ndarray of float64, shape (num,)
        Arrival times less the lengths of the paths, and their deviations, in m of light's way.
    bend : float
        Soft-L1 loss: normalised residual from which it grows linearly.
    echoes : ndarray of float64, shape (num, 3)
        Of each arrival time, see `loss_of`.

    Returns
    -------
    float
        In m of light's way.
    """
    best, best_m = np.inf, 0.0
    middle_m = np.median(excess_m)
    has_echoes = echoes[:, 0].max() > 0
    for start in range(excess_m.size):
        at_m = excess_m[start] if has_echoes else middle_m
        for _ in range(50):
            slope, curvature = 0.0, 0.0
            for i in range(excess_m.size):
                _, one, bent = loss_of(excess_m[i] - at_m, std_m[i], bend, echoes[i])
                slope += one
                curvature += bent
            at_m += slope / curvature
            if abs(slope / curvature) < 1e-5:
                break
        loss = 0.0
        for i in range(excess_m.size):
            loss += loss_of(excess_m[i] - at_m, std_m[i], bend, echoes[i])[0]
        if loss < best:
            best, best_m = loss, at_m
        if not has_echoes:  # one minimum
            break
    return best_m
