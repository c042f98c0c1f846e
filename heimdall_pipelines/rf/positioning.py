"""Position of a transmitter from time differences of arrival, on the WGS84 ellipsoid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S, distance_and_azimuth
from heimdall_pipelines.rf.tdoa import TimeDifference

CONFIDENCE = 0.95
MIN_RECEIVERS = 3
_GRID = 48  # points a side of the first search
_MAX_STEPS = 40
_CONVERGED_M = 1e-3
_SAME_PLACE_M = 100.0
# Means of the soft-L1 weights w and of w r^2 for normal residuals r of variance 1.
_MEAN_WEIGHT = 0.790
_MEAN_WEIGHTED_SQUARE = 0.565
_STATED_DEGREES_OF_FREEDOM = 16  # that the stated standard deviations count for, beside the residuals
_PLAUSIBLE = 9.0  # second solutions: greatest excess of the sum of squared normalised residuals
_WGS84 = pyproj.Geod(ellps="WGS84")


class PositionError(HeimdallError):
    """No position can be computed from these time differences."""


@dataclass(frozen=True)
class Area:
    """Where the transmitter is searched, degrees; ``west > east`` crosses the antimeridian."""

    south: float
    west: float
    north: float
    east: float

    def __post_init__(self) -> None:
        if not (-90 <= self.south < self.north <= 90 and -180 <= self.west <= 180 and -180 <= self.east <= 180):
            raise PositionError(
                f"the area must be SOUTH,WEST,NORTH,EAST in degrees with SOUTH < NORTH, not "
                f"{self.south:g},{self.west:g},{self.north:g},{self.east:g}"
            )

    @property
    def width_deg(self) -> float:
        """Extent in longitude."""
        return (self.east - self.west) % 360 or 360.0

    @classmethod
    def around(cls, latitudes: ArrayLike, longitudes: ArrayLike) -> "Area":
        """The box of the receivers, enlarged on each side by its own extent, at least 100 km."""
        lats, lons = np.asarray(latitudes, float), np.asarray(longitudes, float)
        middle_lon = float(lons[0])
        offsets = (lons - middle_lon + 180) % 360 - 180
        km_per_deg = 111.2
        height = float(np.ptp(lats))
        width = float(np.ptp(offsets)) * math.cos(math.radians(float(lats.mean())))
        margin = max(height, width, 100 / km_per_deg)
        lon_margin = min(margin / max(math.cos(math.radians(float(lats.mean()))), 0.05), 170.0)
        west, east = middle_lon + float(offsets.min()) - lon_margin, middle_lon + float(offsets.max()) + lon_margin
        if east - west >= 360:
            west, east = -180.0, 180.0
        else:
            west, east = (west + 180) % 360 - 180, (east + 180) % 360 - 180
        return cls(max(float(lats.min()) - margin, -90.0), west, min(float(lats.max()) + margin, 90.0), east)


@dataclass(frozen=True)
class Receiver:
    """Position of a receiver, WGS84: degrees and m."""

    rx_id: str
    latitude: float
    longitude: float
    altitude_m: float = 0.0


@dataclass(frozen=True)
class Ellipse:
    """Confidence ellipse of 95 %; the azimuth of the semi-major axis counts clockwise from north."""

    semi_major_m: float
    semi_minor_m: float
    azimuth_deg: float


@dataclass(frozen=True)
class PositionFix:
    """Result of `locate`.

    Attributes
    ----------
    latitude, longitude : float
        Degrees.
    ellipse : Ellipse
        From the geometry, the stated standard deviations and the residuals found.
    residuals_us : dict of str to float
        Arrival time at each receiver less the one that the position predicts.
    rms_residual_us : float
    used : tuple of str
    left_out : dict of str to str
        Receivers that were not used, with the reason.
    second : tuple of (float, float) or None
        Another position that explains the time differences about as well.
    is_at_edge : bool
        The position lies at the edge of the area: the transmitter may be outside it.
    """

    latitude: float
    longitude: float
    ellipse: Ellipse
    residuals_us: dict[str, float]
    rms_residual_us: float
    used: tuple[str, ...]
    left_out: dict[str, str]
    second: tuple[float, float] | None
    is_at_edge: bool


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Arrival times of the receivers that are used, relative to an unknown instant."""

    receivers: list[Receiver]
    times_s: NDArray[np.float64]
    std_s: NDArray[np.float64]


def locate(
    receivers: Sequence[Receiver],
    differences: Sequence[TimeDifference],
    *,
    area: Area | None = None,
    tx_altitude_m: float = 0.0,
    systematic_us: float = 0.5,
) -> PositionFix:
    """Locate a transmitter by robust least squares from a bounded grid.

    Parameters
    ----------
    receivers : sequence of Receiver
        The indices ``a`` and ``b`` of the differences refer to them.
    differences : sequence of TimeDifference
        Those without a value are skipped.
    area : Area, optional
        `Area.around` the receivers if None.
    tx_altitude_m : float, optional
        Of the transmitter's antenna above the ellipsoid.
    systematic_us : float, optional
        Standard deviation of what the differences' own does not contain, such as echoes, at each receiver.

    Returns
    -------
    PositionFix

    Raises
    ------
    PositionError
        Fewer than three receivers with time differences, or a geometry that does not determine a position.

    Notes
    -----
    The time differences become one arrival time per receiver (weighted least squares). The position and the unknown
    instant of transmission minimise the soft-L1 loss ``sum 2 (sqrt(1 + r^2) - 1)`` of the normalised residuals r, by
    iteratively reweighted Gauss-Newton steps from the local minima of a grid. Paths are geodesics with the difference
    of the altitudes. The covariance is ``s^2 c^2 (H^T W H)^-1`` with H = [u_i, 1] and W the weights (Torrieri,
    "Statistical theory of passive location systems", IEEE Trans. AES-20, 1984); s^2 is the variance of the normalised
    residuals, in which the stated standard deviations count as 16 residuals of variance 1, and the ellipse takes the F
    distribution for as many degrees of freedom.
    """
    arrivals, left_out = arrival_times(receivers, differences, systematic_us * 1e-6)
    area = area or Area.around([x.latitude for x in arrivals.receivers], [x.longitude for x in arrivals.receivers])
    starts = _grid_minima(arrivals, area, tx_altitude_m)
    solutions = sorted((_refine(arrivals, area, lat, lon, tx_altitude_m) for lat, lon in starts), key=lambda x: x[0])
    cost, lat, lon, is_at_edge = solutions[0]
    second = next(
        (
            (other_lat, other_lon)
            for other_cost, other_lat, other_lon, other_at_edge in solutions[1:]
            if other_cost - cost < _PLAUSIBLE
            and not other_at_edge
            and _WGS84.inv(lon, lat, other_lon, other_lat)[2] > _SAME_PLACE_M
        ),
        None,
    )
    residuals_s, design = excess_delays(arrivals, lat, lon, tx_altitude_m)
    weights = _weights(residuals_s / arrivals.std_s) / arrivals.std_s**2
    return PositionFix(
        latitude=lat,
        longitude=lon,
        ellipse=_ellipse(design, weights, residuals_s),
        residuals_us={
            receiver.rx_id: round(float(residual) * 1e6, 3)
            for receiver, residual in zip(arrivals.receivers, residuals_s, strict=True)
        },
        rms_residual_us=round(float(np.sqrt(np.mean(residuals_s**2))) * 1e6, 3),
        used=tuple(receiver.rx_id for receiver in arrivals.receivers),
        left_out=left_out,
        second=second,
        is_at_edge=is_at_edge,
    )


def log_likelihood(
    receivers: Sequence[Receiver],
    differences: Sequence[TimeDifference],
    latitudes: NDArray[np.float64],
    longitudes: NDArray[np.float64],
    *,
    tx_altitude_m: float = 0.0,
    systematic_us: float = 0.5,
) -> NDArray[np.float64]:
    """Logarithm of the likelihood that the transmitter is at each of some points, for maps.

    Parameters
    ----------
    receivers, differences, tx_altitude_m, systematic_us
        As in `locate`.
    latitudes, longitudes : ndarray of float64
        Points, degrees, of the same shape; their spacing blurs the likelihood, so that its maximum is seen.

    Returns
    -------
    ndarray of float64
        Of the shape of the points; relative to an unknown constant.
    """
    arrivals, _ = arrival_times(receivers, differences, systematic_us * 1e-6)
    return -0.5 * _grid_cost(arrivals, latitudes, longitudes, tx_altitude_m, latitudes.shape[0])


def position_bound(
    tx_latitude: float, tx_longitude: float, receivers: Sequence[Receiver], std_us: ArrayLike
) -> Ellipse:
    """Cramer-Rao bound of the position as an ellipse of 95 %.

    Parameters
    ----------
    tx_latitude, tx_longitude : float
        Degrees.
    receivers : sequence of Receiver
    std_us : array_like of float, shape (num_receivers,)
        Standard deviation of each arrival time.

    Raises
    ------
    PositionError
        Fewer than three receivers, or a geometry that does not determine a position.
    """
    if len(receivers) < MIN_RECEIVERS:
        raise PositionError(f"a position needs {MIN_RECEIVERS} receivers, not {len(receivers)}")
    _, azimuth = distance_and_azimuth(
        tx_latitude, tx_longitude, [x.latitude for x in receivers], [x.longitude for x in receivers]
    )
    design = np.stack([-np.sin(azimuth), -np.cos(azimuth), np.ones_like(azimuth)], axis=-1)
    weights = 1 / (np.asarray(std_us, float) * 1e-6) ** 2
    return _axes(_covariance(design, weights), math.sqrt(scipy.stats.chi2.ppf(CONFIDENCE, 2)))


def arrival_times(
    receivers: Sequence[Receiver], differences: Sequence[TimeDifference], systematic_s: float
) -> tuple[Arrivals, dict[str, str]]:
    """Arrival times of the largest group of receivers that time differences connect.

    Parameters
    ----------
    receivers, differences
        As of `locate`.
    systematic_s : float
        Standard deviation that is added to each receiver's.

    Returns
    -------
    arrivals : Arrivals
    left_out : dict of str to str
        The other receivers, with the reason.

    Raises
    ------
    PositionError
        Fewer than three receivers.
    """
    known = [difference for difference in differences if difference.tdoa_us is not None]
    groups: dict[int, set[int]] = {index: {index} for index in range(len(receivers))}
    for difference in known:
        merged = groups[difference.a] | groups[difference.b]
        for index in merged:
            groups[index] = merged
    largest: set[int] = max(groups.values(), key=len, default=set())
    used = sorted(largest)
    left_out = {}
    for index, receiver in enumerate(receivers):
        if index not in used:
            reasons = {x.reason for x in differences if index in (x.a, x.b) and x.reason is not None}
            left_out[receiver.rx_id] = "; ".join(sorted(reasons)) or "no time difference with the others"
    if len(used) < MIN_RECEIVERS:
        said = "".join(f"; {rx_id}: {reason}" for rx_id, reason in left_out.items())
        raise PositionError(
            f"a position needs time differences of at least {MIN_RECEIVERS} receivers; {len(used) if known else 0} "
            f"have one{said}"
        )
    column = {index: position for position, index in enumerate(used)}
    inside = [x for x in known if x.a in column and x.b in column]
    design = np.zeros((len(inside) + 1, len(used)))
    target = np.zeros(len(inside) + 1)
    design[-1, :] = 1.0  # their sum is free
    own_s = np.zeros(len(used))
    for row, difference in enumerate(inside):
        assert difference.tdoa_us is not None
        std_s = max(difference.std_us or 0.0, 1e-3) * 1e-6
        design[row, column[difference.a]], design[row, column[difference.b]] = -1 / std_s, 1 / std_s
        target[row] = difference.tdoa_us * 1e-6 / std_s
        for index in (difference.a, difference.b):
            own = own_s[column[index]]
            half = std_s / math.sqrt(2)  # of one of two receivers that are alike
            own_s[column[index]] = min(own, half) if own else half
    times_s = np.asarray(np.linalg.lstsq(design, target, rcond=None)[0], np.float64)
    return Arrivals([receivers[index] for index in used], times_s, np.hypot(own_s, systematic_s)), left_out


def _grid_minima(arrivals: Arrivals, area: Area, tx_altitude_m: float) -> list[tuple[float, float]]:
    """Local minima of the loss on a grid over the area, best first."""
    lats = np.linspace(area.south, area.north, _GRID)
    lons = area.west + np.linspace(0, area.width_deg, _GRID)
    lat_grid, lon_grid = np.meshgrid(lats, lons, indexing="ij")
    cost = _grid_cost(arrivals, lat_grid, lon_grid, tx_altitude_m)
    padded = np.pad(cost, 1, constant_values=np.inf)
    neighbours = np.min(
        [
            padded[1 + dy : 1 + dy + _GRID, 1 + dx : 1 + dx + _GRID]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dy, dx) != (0, 0)
        ],
        axis=0,
    )
    rows, columns = np.nonzero(cost <= neighbours)
    order = np.argsort(cost[rows, columns])[:6]
    return [(float(lats[rows[i]]), float(lons[columns[i]])) for i in order]


def _grid_cost(
    arrivals: Arrivals,
    lat_grid: NDArray[np.float64],
    lon_grid: NDArray[np.float64],
    tx_altitude_m: float,
    num_rows: int = _GRID,
) -> NDArray[np.float64]:
    """Soft-L1 loss at points of a map; great circles are exact enough there."""
    lat, lon = np.radians(lat_grid)[..., None], np.radians(lon_grid)[..., None]
    rx_lat = np.radians([x.latitude for x in arrivals.receivers])
    rx_lon = np.radians([x.longitude for x in arrivals.receivers])
    haversine = np.sin((rx_lat - lat) / 2) ** 2 + np.cos(lat) * np.cos(rx_lat) * np.sin((rx_lon - lon) / 2) ** 2
    distance_m = 2 * 6_371_008.8 * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))
    rise_m = np.array([x.altitude_m for x in arrivals.receivers]) - tx_altitude_m
    excess_s = arrivals.times_s - np.hypot(distance_m, rise_m) / SPEED_OF_LIGHT_M_PER_S
    # A cell's own size, as delay, is the tolerance of this search.
    std_s = np.hypot(arrivals.std_s, float(np.ptp(lat_grid)) * 111e3 / num_rows / 2 / SPEED_OF_LIGHT_M_PER_S)
    weights = 1 / std_s**2
    excess_s = excess_s - (np.sum(excess_s * weights, axis=-1) / weights.sum())[..., None]
    return np.asarray(np.sum(2 * (np.sqrt(1 + (excess_s / std_s) ** 2) - 1), axis=-1))


def excess_delays(
    arrivals: Arrivals, lat: float, lon: float, tx_altitude_m: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Arrival times less those that a position predicts, and what they depend on.

    Parameters
    ----------
    arrivals : Arrivals
    lat, lon, tx_altitude_m : float
        Of the transmitter: degrees and m.

    Returns
    -------
    residuals_s : ndarray of float64, shape (num_receivers,)
        With the best instant of transmission.
    design : ndarray of float64, shape (num_receivers, 3)
        Per m: east, north, instant.
    """
    distance, azimuth = distance_and_azimuth(
        lat, lon, [x.latitude for x in arrivals.receivers], [x.longitude for x in arrivals.receivers]
    )
    rise_m = np.array([x.altitude_m for x in arrivals.receivers]) - tx_altitude_m
    path_m = np.hypot(distance, rise_m)
    excess_s = arrivals.times_s - path_m / SPEED_OF_LIGHT_M_PER_S
    flat = np.where(path_m > 0, distance / np.where(path_m > 0, path_m, 1), 0)
    design = np.stack([-np.sin(azimuth) * flat, -np.cos(azimuth) * flat, np.ones_like(azimuth)], axis=-1)
    instant_s = float(np.median(excess_s))
    for _ in range(20):
        weights = _weights((excess_s - instant_s) / arrivals.std_s) / arrivals.std_s**2
        step = float(np.sum(weights * (excess_s - instant_s)) / weights.sum())
        instant_s += step
        if abs(step) < 1e-13:
            break
    return excess_s - instant_s, design


def _weights(normalised: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the soft-L1 loss."""
    return np.asarray(1 / np.sqrt(1 + normalised**2))


def _refine(
    arrivals: Arrivals, area: Area, lat: float, lon: float, tx_altitude_m: float
) -> tuple[float, float, float, bool]:
    """Gauss-Newton steps with halving from a start: loss, latitude, longitude, whether at the area's edge."""

    def loss(residuals_s: NDArray[np.float64]) -> float:
        return float(np.sum(2 * (np.sqrt(1 + (residuals_s / arrivals.std_s) ** 2) - 1)))

    residuals_s, design = excess_delays(arrivals, lat, lon, tx_altitude_m)
    best = loss(residuals_s)
    for _ in range(_MAX_STEPS):
        weights = _weights(residuals_s / arrivals.std_s) / arrivals.std_s**2
        root = np.sqrt(weights)
        step, *_ = np.linalg.lstsq(design * root[:, None], residuals_s * SPEED_OF_LIGHT_M_PER_S * root, rcond=1e-9)
        length_m = float(np.hypot(step[0], step[1]))
        if not length_m > _CONVERGED_M:
            break
        azimuth_deg = math.degrees(math.atan2(step[0], step[1]))
        for _halving in range(12):
            to_lon, to_lat, _back = _WGS84.fwd(lon, lat, azimuth_deg, length_m)
            to_lat, to_lon = _clipped(area, to_lat, to_lon)
            to_residuals_s, to_design = excess_delays(arrivals, to_lat, to_lon, tx_altitude_m)
            if loss(to_residuals_s) < best:
                break
            length_m /= 2
        else:
            break
        lat, lon, residuals_s, design = to_lat, to_lon, to_residuals_s, to_design
        best = loss(residuals_s)
    return best, lat, (lon + 180) % 360 - 180, _is_at_edge(area, lat, lon)


def _clipped(area: Area, lat: float, lon: float) -> tuple[float, float]:
    half = area.width_deg / 2
    east_of_middle = _east_of_middle(area, lon)
    return min(max(lat, area.south), area.north), area.west + half + min(max(east_of_middle, -half), half)


def _is_at_edge(area: Area, lat: float, lon: float) -> bool:
    near = 1e-6  # degrees, 0.1 m
    is_beside = area.width_deg < 360 and abs(_east_of_middle(area, lon)) >= area.width_deg / 2 - near
    return is_beside or lat <= area.south + near or lat >= area.north - near


def _east_of_middle(area: Area, lon: float) -> float:
    return (lon - area.west - area.width_deg / 2 + 180) % 360 - 180


def _covariance(design: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of east and north, m^2, from weights in 1/s^2."""
    information = design.T @ (design * weights[:, None]) / SPEED_OF_LIGHT_M_PER_S**2
    if np.linalg.cond(information) > 1e14:
        raise PositionError("the receivers' geometry does not determine a position: are they in one line with it?")
    return np.asarray(np.linalg.inv(information)[:2, :2])


def _ellipse(design: NDArray[np.float64], weights: NDArray[np.float64], residuals_s: NDArray[np.float64]) -> Ellipse:
    covariance = _covariance(design, weights / _MEAN_WEIGHT)
    spare = len(residuals_s) - MIN_RECEIVERS
    known = _STATED_DEGREES_OF_FREEDOM
    variance = (known + float(np.sum(weights * residuals_s**2)) / _MEAN_WEIGHTED_SQUARE) / (known + spare)
    return _axes(covariance, math.sqrt(variance * 2 * scipy.stats.f.ppf(CONFIDENCE, 2, known + spare)))


def _axes(covariance: NDArray[np.float64], scale: float) -> Ellipse:
    values, vectors = np.linalg.eigh(covariance)
    minor, major = scale * np.sqrt(np.maximum(values, 0))
    east, north = vectors[:, 1]
    return Ellipse(float(major), float(minor), math.degrees(math.atan2(east, north)) % 180)
