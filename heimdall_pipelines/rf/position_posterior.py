"""Middle and spread of the density of a position, by importance sampling around the minima of its loss."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.arrival_loss import loss_of
from heimdall_pipelines.rf.philox import compiled
from heimdall_pipelines.rf.position_search import A_M, ES, ArrivalProblem, fill_paths

_NUM_DRAWS: Final = 192  # around each minimum
_MOST_CENTRES: Final = 6
_FREEDOM: Final = 4.0  # of the Student t distributions that are drawn from: their tails exceed those of the likelihood
_MOST_ABOVE: Final = 16.0  # minima whose loss exceeds the best by more do not count
_SAME_M: Final = 1.0
_SIZES: Final = (1.3, 3.9)  # of the draws over what the curvature says, and of a quarter of them
_SHARES: Final = (0.75, 0.25)


def middle_and_covariance(
    found: NDArray[np.float64], problem: ArrivalProblem
) -> tuple[float, float, NDArray[np.float64]]:
    """Place whose expected distance to the transmitter is least, and the mean square distances from it.

    Parameters
    ----------
    found : ndarray of float64, shape (num_found, 4)
        Minima by ascending loss, see `position_search.search`.
    problem : ArrivalProblem
        That was searched, with echoes.

    Returns
    -------
    latitude, longitude : float
        Degrees.
    covariance_m2 : ndarray of float64, shape (2, 2)
        Of east and north.

    Notes
    -----
    The density is the likelihood: all places in the area are as likely before. Draws from Student t distributions
    around the minima, with the covariance of their curvature, and around the best with that of the errors' variances,
    are weighted with the likelihood over the density that they were drawn from (balance heuristic: Veach, Guibas,
    "Optimally combining sampling techniques for Monte Carlo rendering", SIGGRAPH 1995). The draws are fixed, so that
    the result is the same each time. The middle is the geometric median (Weiszfeld, Tohoku Math. J. 43, 1937).
    """
    drawn = _draw(found, problem, _STANDARD_DRAWS)
    east_m, north_m = _middle(drawn)
    offsets = drawn[:, :2] - (east_m, north_m)
    north_per_deg, east_per_deg = _metres_per_deg(float(found[0, 1]))
    return (
        float(found[0, 1]) + north_m / north_per_deg,
        float(found[0, 2]) + east_m / east_per_deg,
        np.asarray((offsets * drawn[:, 2:]).T @ offsets, np.float64),
    )


def _standard_draws() -> NDArray[np.float64]:
    """Draws from a Student t distribution in three dimensions, in pairs of opposite signs."""
    rng = np.random.Generator(np.random.Philox(key=1))
    half = rng.standard_normal((_NUM_DRAWS // 2, 3))
    half /= np.sqrt(rng.chisquare(_FREEDOM, (_NUM_DRAWS // 2, 1)) / _FREEDOM)
    return np.concatenate([half, -half])


_STANDARD_DRAWS: Final = _standard_draws()


@compiled
def _draw(found: NDArray[np.float64], problem: ArrivalProblem, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places drawn: east and north of the first minimum, m, and weights that add up to 1."""
    centres, factors = np.empty((_MOST_CENTRES, 3)), np.empty((_MOST_CENTRES, 3, 3))
    num_centres = _fill_centres(centres, factors, found, problem)
    drawn = np.zeros((max(num_centres, 1) * draws.shape[0], 3))
    highest = -np.inf
    for k in range(num_centres):
        for n in range(draws.shape[0]):
            size = _SIZES[1] if n % 4 == 0 else _SIZES[0]
            at = k * draws.shape[0] + n
            point = centres[k] + size * (factors[k] @ draws[n])
            drawn[at, 0], drawn[at, 1] = point[0], point[1]
            log_likelihood = _log_likelihood(point, found[0, 1], found[0, 2], problem)
            drawn[at, 2] = log_likelihood - math.log(_density(point, centres, factors, num_centres))
            highest = max(highest, drawn[at, 2])
    if not highest > -np.inf:
        drawn[:] = 0.0
        drawn[0, 2] = 1.0
        return drawn
    total = 0.0
    for at in range(drawn.shape[0]):
        drawn[at, 2] = math.exp(drawn[at, 2] - highest)
        total += drawn[at, 2]
    drawn[:, 2] /= total
    return drawn


@compiled
def _fill_centres(
    centres: NDArray[np.float64], factors: NDArray[np.float64], found: NDArray[np.float64], problem: ArrivalProblem
) -> int:
    """Middles (east, north, instant) and lower factors of the distributions to draw from; returns how many."""
    receivers, times_m, std_m, alt_m, _, _, echoes = problem
    num = times_m.size
    path_m, design = np.empty(num), np.empty((num, 3))
    lat_0, lon_0 = found[0, 1], found[0, 2]
    north_per_deg, east_per_deg = _metres_per_deg(lat_0)
    num_centres = 0
    for k in range(found.shape[0]):
        if num_centres == _MOST_CENTRES - 1 or not found[k, 0] - found[0, 0] < _MOST_ABOVE:
            break
        east_m = ((found[k, 2] - lon_0 + 180) % 360 - 180) * east_per_deg
        north_m = (found[k, 1] - lat_0) * north_per_deg
        is_new = True
        for j in range(num_centres):
            is_new = is_new and math.hypot(east_m - centres[j, 0], north_m - centres[j, 1]) > _SAME_M
        if not is_new:
            continue
        fill_paths(path_m, design, receivers, found[k, 1], found[k, 2], alt_m)
        normal = np.zeros((3, 3))
        for i in range(num):
            _, _, curvature = loss_of(times_m[i] - path_m[i] - found[k, 3], std_m[i], 1.0, echoes[i])
            for a in range(3):
                for c in range(3):
                    normal[a, c] += max(curvature, 0.0) * design[i, a] * design[i, c]
        factor, is_regular = _inverse_factor(normal)
        if is_regular:
            centres[num_centres, 0], centres[num_centres, 1], centres[num_centres, 2] = east_m, north_m, found[k, 3]
            factors[num_centres] = factor
            num_centres += 1
    # A wide one, by what the errors' variances are whether late or not: a minimum may be narrow and hold little.
    if 0 < num_centres < _MOST_CENTRES:
        fill_paths(path_m, design, receivers, lat_0, lon_0, alt_m)
        normal = np.zeros((3, 3))
        mean_m, total_w = 0.0, 0.0
        for i in range(num):
            share, echo_m, late_m = echoes[i, 0], echoes[i, 1], echoes[i, 2]
            variance = (1 - share) * std_m[i] ** 2 + share * (late_m**2 + (2 - share) * echo_m**2)
            mean_m += (times_m[i] - path_m[i] - share * echo_m) / variance
            total_w += 1 / variance
            for a in range(3):
                for c in range(3):
                    normal[a, c] += design[i, a] * design[i, c] / variance
        factor, is_regular = _inverse_factor(normal)
        if is_regular:
            centres[num_centres] = centres[0]
            centres[num_centres, 2] = mean_m / total_w
            factors[num_centres] = factor
            num_centres += 1
    return num_centres


@compiled
def _log_likelihood(point: NDArray[np.float64], lat_0: float, lon_0: float, problem: ArrivalProblem) -> float:
    """Of east, north and instant, m, relative to a place in degrees; minus infinity outside the area."""
    receivers, times_m, std_m, alt_m, area, _, echoes = problem
    path_m, design = np.empty(times_m.size), np.empty((times_m.size, 3))
    north_per_deg, east_per_deg = _metres_per_deg(lat_0)
    lat, lon = lat_0 + point[1] / north_per_deg, lon_0 + point[0] / east_per_deg
    if not (area[0] <= lat <= area[1] and (area[3] >= 180 or abs((lon - area[2] + 180) % 360 - 180) <= area[3])):
        return -np.inf
    fill_paths(path_m, design, receivers, lat, lon, alt_m)
    loss = 0.0
    for i in range(times_m.size):
        loss += loss_of(times_m[i] - path_m[i] - point[2], std_m[i], 1.0, echoes[i])[0]
    return -0.5 * loss


@compiled
def _density(
    point: NDArray[np.float64], centres: NDArray[np.float64], factors: NDArray[np.float64], num_centres: int
) -> float:
    """Sum of the densities that are drawn from, up to a factor."""
    density = 0.0
    for j in range(num_centres):
        scaled = _solved_lower(factors[j], point - centres[j])
        square = scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2
        root = abs(factors[j, 0, 0] * factors[j, 1, 1] * factors[j, 2, 2])
        for which in range(2):
            size = _SIZES[which]
            tail = 1 + square / (size * size * _FREEDOM)
            density += _SHARES[which] / (root * size**3) * tail ** (-0.5 * (_FREEDOM + 3))
    return density


@compiled
def _metres_per_deg(lat_deg: float) -> tuple[float, float]:
    """Metres of a degree to the north and to the east, on WGS84."""
    sine = math.sin(math.radians(lat_deg))
    root = 1 - ES * sine * sine
    north_m = math.radians(1.0) * A_M * (1 - ES) / root**1.5
    return north_m, math.radians(1.0) * A_M * max(math.cos(math.radians(lat_deg)), 1e-9) / math.sqrt(root)


@compiled
def _inverse_factor(normal: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Lower factor of the inverse of a matrix, and whether it has one."""
    scale = max(normal[0, 0], normal[1, 1], normal[2, 2])
    if not scale > 0 or not np.isfinite(scale):
        return normal, False
    inverse = np.linalg.inv(normal / scale + 1e-9 * np.eye(3)) / scale
    lower = np.zeros((3, 3))
    for j in range(3):
        for k in range(j + 1):
            total = 0.5 * (inverse[j, k] + inverse[k, j])
            for m in range(k):
                total -= lower[j, m] * lower[k, m]
            if j == k:
                if not total > 0:
                    return lower, False
                lower[j, j] = math.sqrt(total)
            else:
                lower[j, k] = total / lower[k, k]
    return lower, True


@compiled
def _solved_lower(lower: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solution of a lower triangular system of three."""
    out = np.empty(3)
    for j in range(3):
        total = right[j]
        for k in range(j):
            total -= lower[j, k] * out[k]
        out[j] = total / lower[j, j]
    return out


@compiled
def _middle(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """Geometric median of weighted places: east and north, m."""
    east_m, north_m = float(np.sum(drawn[:, 0] * drawn[:, 2])), float(np.sum(drawn[:, 1] * drawn[:, 2]))
    for _ in range(40):
        east, north, total = 0.0, 0.0, 0.0
        for at in range(drawn.shape[0]):
            weight = drawn[at, 2] / math.sqrt((drawn[at, 0] - east_m) ** 2 + (drawn[at, 1] - north_m) ** 2 + 0.01)
            east += weight * drawn[at, 0]
            north += weight * drawn[at, 1]
            total += weight
        step_m = math.hypot(east / total - east_m, north / total - north_m)
        east_m, north_m = east / total, north / total
        if step_m < 0.01:
            break
    return east_m, north_m
