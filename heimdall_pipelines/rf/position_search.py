"""Kernels of `positioning`, compiled: path lengths, and the minima of the loss of arrival times."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.arrival_loss import loss_of
from heimdall_pipelines.rf.philox import compiled

# Up to here waves go along the straight line; beyond the second distance they follow the ground.
LINE_M, GROUND_M = 250e3, 350e3
GRID = 48  # points a side of the first search
MAX_STARTS = 6
A_M, ES = 6_378_137.0, 0.0066943799901413165  # WGS84
_MAX_STEPS = 60
_CONVERGED_M = 1e-4
_MOST_FOR_TRIPLES = 12  # receivers, of which every three are tried
M_PER_DEG = 111e3  # about, of latitude: for the size of cells


class ArrivalProblem(NamedTuple):
    """What the kernels search a position for: arrival times at receivers, and the loss of their residuals.

    Attributes
    ----------
    receivers : ndarray of float64, shape (num, 8)
        Of `receiver_rows`.
    times_m, std_m : ndarray of float64, shape (num,)
        Arrival times and their deviations, in m of light's way. Receivers of infinite deviation do not count.
    alt_m : float
        Altitude of the transmitter.
    area : ndarray of float64, shape (4,)
        South, north, middle longitude and half the width, in degrees: the place stays inside.
    bend : float
        Soft-L1 loss: normalised residual from which it grows linearly.
    echoes : ndarray of float64, shape (num, 3)
        Of each arrival time, see `arrival_loss.loss_of`.
    """

    receivers: NDArray[np.float64]
    times_m: NDArray[np.float64]
    std_m: NDArray[np.float64]
    alt_m: float
    area: NDArray[np.float64]
    bend: float
    echoes: NDArray[np.float64]


@compiled
def earth_centred_m(lat_deg: float, lon_deg: float, alt_m: float) -> tuple[float, float, float]:
    """Earth-centred, Earth-fixed coordinates on WGS84.

    Parameters
    ----------
    lat_deg, lon_deg, alt_m : float
        Geodetic; altitude above the ellipsoid.

    Returns
    -------
    tuple of float
        x, y, z in m.
    """
    lat, lon = math.radians(lat_deg), math.radians(lon_deg)
    sine = math.sin(lat)
    normal_m = A_M / math.sqrt(1 - ES * sine * sine)
    from_axis_m = (normal_m + alt_m) * math.cos(lat)
    return from_axis_m * math.cos(lon), from_axis_m * math.sin(lon), (normal_m * (1 - ES) + alt_m) * sine


@compiled
def receiver_rows(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows as the kernels take receivers.

    Parameters
    ----------
    places : ndarray of float64, shape (num, 3)
        Latitude and longitude in degrees, altitude in m.

    Returns
    -------
    ndarray of float64, shape (num, 8)
        Earth-centred coordinates at the antenna, those below it on the ellipsoid, the altitude and the latitude.
    """
    rows = np.empty((places.shape[0], 8))
    for i in range(places.shape[0]):
        rows[i, 0], rows[i, 1], rows[i, 2] = earth_centred_m(places[i, 0], places[i, 1], places[i, 2])
        rows[i, 3], rows[i, 4], rows[i, 5] = earth_centred_m(places[i, 0], places[i, 1], 0.0)
        rows[i, 6], rows[i, 7] = places[i, 2], places[i, 0]
    return rows


@compiled
def fill_paths(
    path_m: NDArray[np.float64],
    design: NDArray[np.float64],
    receivers: NDArray[np.float64],
    lat_deg: float,
    lon_deg: float,
    alt_m: float,
) -> None:
    """Lengths of the paths from a place to the receivers, and by how much they grow per m to the east and the north.

    The straight line up to 250 km; from 350 km on the geodesic with the difference of the altitudes; a smooth passage
    between them, which differ there by 16 to 44 m.

    Parameters
    ----------
    path_m : ndarray of float64, shape (num,)
        Filled with the lengths.
    design : ndarray of float64, shape (num, 3)
        Filled with the growth per m to the east and the north, and 1 for the instant.
    receivers : ndarray of float64, shape (num, 8)
        Of `receiver_rows`.
    lat_deg, lon_deg, alt_m : float
        The place.
    """
    lat, lon = math.radians(lat_deg), math.radians(lon_deg)
    sin_lat, cos_lat, sin_lon, cos_lon = math.sin(lat), math.cos(lat), math.sin(lon), math.cos(lon)
    x, y, z = earth_centred_m(lat_deg, lon_deg, alt_m)
    for i in range(receivers.shape[0]):
        dx, dy, dz = receivers[i, 0] - x, receivers[i, 1] - y, receivers[i, 2] - z
        line_m = math.sqrt(dx * dx + dy * dy + dz * dz)
        east_m = -sin_lon * dx + cos_lon * dy
        north_m = -sin_lat * cos_lon * dx - sin_lat * sin_lon * dy + cos_lat * dz
        per_m = 1 / line_m if line_m > 0 else 0.0
        path_m[i] = line_m
        east, north = -east_m * per_m, -north_m * per_m
        if line_m > LINE_M:
            ground_m, ground_east, ground_north = _ground_path(receivers, i, lat_deg, lon_deg, alt_m)
            share = min((line_m - LINE_M) / (GROUND_M - LINE_M), 1.0)
            share = share * share * (3 - 2 * share)
            path_m[i] += share * (ground_m - line_m)
            east += share * (ground_east - east)
            north += share * (ground_north - north)
        design[i, 0], design[i, 1], design[i, 2] = east, north, 1.0


@compiled
def _ground_path(
    receivers: NDArray[np.float64], i: int, lat_deg: float, lon_deg: float, alt_m: float
) -> tuple[float, float, float]:
    """Length along the ground with the rise, and its growth per m: the arc over the chord of a sphere.

    Its radius is the ellipsoid's in the direction of the path, half way: errs by 0.1 m over 800 km, 3 m over 2000 km.
    """
    lat, lon = math.radians(lat_deg), math.radians(lon_deg)
    x, y, z = earth_centred_m(lat_deg, lon_deg, 0.0)
    dx, dy, dz = receivers[i, 3] - x, receivers[i, 4] - y, receivers[i, 5] - z
    chord_m = math.sqrt(dx * dx + dy * dy + dz * dz)
    sin_lat, cos_lat, sin_lon, cos_lon = math.sin(lat), math.cos(lat), math.sin(lon), math.cos(lon)
    east_m = -sin_lon * dx + cos_lon * dy
    north_m = -sin_lat * cos_lon * dx - sin_lat * sin_lon * dy + cos_lat * dz
    flat_m = math.sqrt(east_m * east_m + north_m * north_m)
    if not flat_m > 0:
        return math.hypot(chord_m, receivers[i, 6] - alt_m), 0.0, 0.0
    east, north = east_m / flat_m, north_m / flat_m
    half_way = 0.5 * (lat + math.radians(receivers[i, 7]))
    root = 1 - ES * math.sin(half_way) ** 2
    meridian_m, normal_m = A_M * (1 - ES) / root**1.5, A_M / math.sqrt(root)
    # By Clairaut's relation the direction half way has this part to the east.
    turned = max(min(east * cos_lat / max(math.cos(half_way), 1e-6), 1.0), -1.0)
    radius_m = 1 / ((1 - turned * turned) / meridian_m + turned * turned / normal_m)
    sine = min(chord_m / (2 * radius_m), 1.0)
    arc_m = 2 * radius_m * math.asin(sine)
    rise_m = receivers[i, 6] - alt_m
    length_m = math.hypot(arc_m, rise_m)
    flat = arc_m / length_m
    return length_m, -east * flat, -north * flat


@compiled
def fill_grid_losses(
    losses: NDArray[np.float64],
    receivers: NDArray[np.float64],
    times_m: NDArray[np.float64],
    std_m: NDArray[np.float64],
    lats_deg: NDArray[np.float64],
    lons_deg: NDArray[np.float64],
    alt_m: float,
    cell_m: float,
) -> None:
    """Soft-L1 losses at the points of a map; a cell's own size is added to the deviations.

    Parameters
    ----------
    losses : ndarray of float64, shape (num_points,)
        Filled.
    receivers : ndarray of float64, shape (num, 8)
        Of `receiver_rows`.
    times_m, std_m : ndarray of float64, shape (num,)
        Arrival times and their deviations, in m of light's way.
    lats_deg, lons_deg : ndarray of float64, shape (num_points,)
    alt_m, cell_m : float
        Altitude of the points; half the distance between them.
    """
    num = times_m.size
    path_m, design, wide_m = np.empty(num), np.empty((num, 3)), np.empty(num)
    total = 0.0
    for i in range(num):
        wide_m[i] = math.hypot(std_m[i], cell_m)
        total += 1 / (wide_m[i] * wide_m[i])
    for k in range(losses.size):
        fill_paths(path_m, design, receivers, lats_deg[k], lons_deg[k], alt_m)
        mean_m = 0.0
        for i in range(num):
            mean_m += (times_m[i] - path_m[i]) / (wide_m[i] * wide_m[i])
        mean_m /= total
        loss = 0.0
        for i in range(num):
            normalised = (times_m[i] - path_m[i] - mean_m) / wide_m[i]
            loss += 2 * (math.sqrt(1 + normalised * normalised) - 1)
        losses[k] = loss


@compiled
def _loss_at(path_m: NDArray[np.float64], instant_m: float, problem: ArrivalProblem) -> float:
    times_m, std_m = problem.times_m, problem.std_m
    loss = 0.0
    for i in range(times_m.size):
        if std_m[i] < np.inf:
            loss += loss_of(times_m[i] - path_m[i] - instant_m, std_m[i], problem.bend, problem.echoes[i])[0]
    return loss


@compiled
def _soft_l1(problem: ArrivalProblem, std_m: NDArray[np.float64], bend: float) -> ArrivalProblem:
    """The problem with other deviations and without echoes."""
    return ArrivalProblem(
        problem.receivers, problem.times_m, std_m, problem.alt_m, problem.area, bend, np.zeros((std_m.size, 3))
    )


@compiled
def _refine(place: NDArray[np.float64], problem: ArrivalProblem, max_steps: int) -> float:
    """Move latitude, longitude and instant by Levenberg-Marquardt steps to the nearest minimum; returns its loss."""
    receivers, times_m, std_m, alt_m = problem.receivers, problem.times_m, problem.std_m, problem.alt_m
    num = times_m.size
    path_m, design = np.empty(num), np.empty((num, 3))
    fill_paths(path_m, design, receivers, place[0], place[1], alt_m)
    loss = _loss_at(path_m, place[2], problem)
    damping = 1e-6
    for _ in range(max_steps):
        normal, right = np.zeros((3, 3)), np.zeros(3)
        for i in range(num):
            if std_m[i] < np.inf:
                residual_m = times_m[i] - path_m[i] - place[2]
                _, slope, curvature = loss_of(residual_m, std_m[i], problem.bend, problem.echoes[i])
                for j in range(3):
                    right[j] += slope * design[i, j]
                    for k in range(3):
                        normal[j, k] += curvature * design[i, j] * design[i, k]
        is_better = False
        length_m = 0.0
        for _attempt in range(12):
            step = _solved(normal, right, damping)
            length_m = math.hypot(step[0], step[1])
            shorter = min(1.0, 200e3 / length_m) if length_m > 0 else 1.0
            lat, lon = _moved(place[0], place[1], step[0] * shorter, step[1] * shorter, problem.area)
            fill_paths(path_m, design, receivers, lat, lon, alt_m)
            instant_m = place[2] + step[2] * shorter
            to_loss = _loss_at(path_m, instant_m, problem)
            if to_loss < loss:
                place[0], place[1], place[2] = lat, lon, instant_m
                is_better = True
                damping = max(damping * 0.1, 1e-12)
                break
            damping = max(damping * 10, 1e-9)
            if length_m < _CONVERGED_M:
                break
        if not is_better:
            fill_paths(path_m, design, receivers, place[0], place[1], alt_m)
            break
        gain = loss - to_loss
        loss = to_loss
        if length_m < _CONVERGED_M or (gain < 1e-12 * (1 + loss) and length_m < 1.0):
            break
    return loss


@compiled
def _solved(normal: NDArray[np.float64], right: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    """Solution of the damped normal equations, by Cholesky's decomposition."""
    trace = (normal[0, 0] + normal[1, 1] + normal[2, 2]) / 3
    factor = np.zeros((3, 3))
    for j in range(3):
        for k in range(j + 1):
            total = normal[j, k]
            if j == k:
                total += damping * (normal[j, j] + 1e-3 * trace) + 1e-15 * trace
            for m in range(k):
                total -= factor[j, m] * factor[k, m]
            if j == k:
                factor[j, j] = math.sqrt(max(total, 1e-15 * trace))
            else:
                factor[j, k] = total / factor[k, k] if factor[k, k] > 0 else 0.0
    out = np.zeros(3)
    if not trace > 0:
        return out
    for j in range(3):
        total = right[j]
        for k in range(j):
            total -= factor[j, k] * out[k]
        out[j] = total / factor[j, j]
    for j in range(2, -1, -1):
        total = out[j]
        for k in range(j + 1, 3):
            total -= factor[k, j] * out[k]
        out[j] = total / factor[j, j]
    return out


@compiled
def _moved(
    lat_deg: float, lon_deg: float, east_m: float, north_m: float, area: NDArray[np.float64]
) -> tuple[float, float]:
    """A place so many m away, within the area."""
    sine = math.sin(math.radians(lat_deg))
    root = 1 - ES * sine * sine
    lat = lat_deg + math.degrees(north_m * root**1.5 / (A_M * (1 - ES)))
    cosine = max(math.cos(math.radians(lat_deg)), 1e-9)
    lon = lon_deg + min(max(math.degrees(east_m * math.sqrt(root) / (A_M * cosine)), -180.0), 180.0)
    lat = min(max(lat, area[0]), area[1])
    beside = (lon - area[2] + 180) % 360 - 180
    if area[3] < 180:
        beside = min(max(beside, -area[3]), area[3])
    return lat, area[2] + beside


@compiled
def grid_minima(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows and columns of the local minima of a grid, the lowest first.

    Parameters
    ----------
    losses : ndarray of float64, shape (num_rows, num_columns)

    Returns
    -------
    ndarray of int64, shape (MAX_STARTS, 2)
        -1 where there are fewer.
    """
    rows, columns = losses.shape
    found = np.full((MAX_STARTS, 2), -1)
    heights = np.full(MAX_STARTS, np.inf)
    for j in range(rows):
        for k in range(columns):
            value = losses[j, k]
            is_least = value < heights[MAX_STARTS - 1]
            for near_j in range(max(0, j - 1), min(rows, j + 2)):
                for near_k in range(max(0, k - 1), min(columns, k + 2)):
                    is_least = is_least and value <= losses[near_j, near_k]
            if is_least:
                at = MAX_STARTS - 1
                while at > 0 and heights[at - 1] > value:
                    heights[at], found[at, 0], found[at, 1] = heights[at - 1], found[at - 1, 0], found[at - 1, 1]
                    at -= 1
                heights[at], found[at, 0], found[at, 1] = value, j, k
    return found


@compiled
def search(problem: ArrivalProblem) -> NDArray[np.float64]:
    """Find the minima of the loss: from the best points of a grid, with echoes also from every three receivers.

    Parameters
    ----------
    problem : ArrivalProblem
        All deviations are finite.

    Returns
    -------
    ndarray of float64, shape (2 * MAX_STARTS, 4)
        Loss, latitude, longitude and instant; rows of no use have an infinite loss.
    """
    receivers, times_m, std_m, alt_m = problem.receivers, problem.times_m, problem.std_m, problem.alt_m
    area = problem.area
    num = times_m.size
    cell_m = (area[1] - area[0]) * M_PER_DEG / GRID / 2
    lats, lons = np.empty((GRID, GRID)), np.empty((GRID, GRID))
    for j in range(GRID):
        for k in range(GRID):
            lats[j, k] = area[0] + (area[1] - area[0]) * j / (GRID - 1)
            lons[j, k] = area[2] + area[3] * (2 * k / (GRID - 1) - 1)
    losses = np.empty(GRID * GRID)
    fill_grid_losses(losses, receivers, times_m, std_m, lats.reshape(-1), lons.reshape(-1), alt_m, cell_m)
    minima = grid_minima(losses.reshape(GRID, GRID))
    found = np.full((2 * MAX_STARTS, 4), np.inf)
    path_m, design, wide_m, place = np.empty(num), np.empty((num, 3)), np.empty(num), np.empty(3)
    widened = _soft_l1(problem, wide_m, 1.0)
    for start in range(MAX_STARTS):
        if minima[start, 0] < 0:
            break
        place[0], place[1] = lats[minima[start, 0], minima[start, 1]], lons[minima[start, 0], minima[start, 1]]
        fill_paths(path_m, design, receivers, place[0], place[1], alt_m)
        excess_m = times_m - path_m
        # From a wide loss to the narrow one: the start is known to a cell only.
        extra_m = cell_m
        place[2] = np.median(excess_m)
        while extra_m > 0.2 * std_m.min():
            for i in range(num):
                wide_m[i] = math.hypot(std_m[i], extra_m)
            _refine(place, widened, 6)
            extra_m *= 0.1
        found[start, 0] = _refine(place, problem, _MAX_STEPS)
        found[start, 1:] = place
    if problem.echoes[:, 0].max() > 0 and num <= _MOST_FOR_TRIPLES:
        _search_triples(found, problem)
    return found


@compiled
def _search_triples(found: NDArray[np.float64], problem: ArrivalProblem) -> None:
    """Starts from the places of every three receivers, which may be the only ones without an echo."""
    std_m = problem.std_m
    num = std_m.size
    path_m, design, chosen_m = np.empty(num), np.empty((num, 3)), np.empty(num)
    of_three = _soft_l1(problem, chosen_m, 1e6)
    place = np.empty(3)
    best = np.argmin(found[:MAX_STARTS, 0])
    for i in range(num):
        for j in range(i + 1, num):
            for k in range(j + 1, num):
                chosen_m[:] = np.inf
                chosen_m[i], chosen_m[j], chosen_m[k] = std_m[i], std_m[j], std_m[k]
                place[:] = found[best, 1:]
                _refine(place, of_three, 6)
                fill_paths(path_m, design, problem.receivers, place[0], place[1], problem.alt_m)
                loss = _loss_at(path_m, place[2], problem)
                worst = np.argmax(found[MAX_STARTS:, 0]) + MAX_STARTS
                if loss < found[worst, 0]:
                    found[worst, 0] = loss
                    found[worst, 1:] = place
    for at in range(MAX_STARTS, 2 * MAX_STARTS):
        if found[at, 0] < np.inf:
            place[:] = found[at, 1:]
            found[at, 0] = _refine(place, problem, _MAX_STEPS)
            found[at, 1:] = place
