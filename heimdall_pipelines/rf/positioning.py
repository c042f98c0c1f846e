"""Position of a transmitter from time differences of arrival, on the WGS84 ellipsoid."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
import scipy.stats
from numpy.typing import NDArray

from heimdall_pipelines.rf import position_search
from heimdall_pipelines.rf.arrival_loss import best_instant_m
from heimdall_pipelines.rf.arrivals import MIN_RECEIVERS, Arrivals, PositionError, Receiver, arrival_times
from heimdall_pipelines.rf.echo_model import densities_of_errors
from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S
from heimdall_pipelines.rf.position_posterior import middle_and_covariance
from heimdall_pipelines.rf.tdoa import TimeDifference

__all__ = [
    "MIN_RECEIVERS", "Area", "Arrivals", "Ellipse", "PositionError", "PositionFix", "Receiver", "arrival_times",
    "excess_delays", "least_squares", "locate", "log_likelihood",
]  # fmt: skip

CONFIDENCE = 0.95
ECHO_US = 2.75  # see `locate`; of the links of synthetic datasets, with terrain and without
_BEND = 1.0  # normalised residual from which the loss grows linearly
_NO_BEND = 1e6
_NEAR_DEG = 1e-6  # 0.1 m
_SAME_PLACE_M = 100.0
# Means of the soft-L1 weights w and of w r^2 for normal residuals r of variance 1.
_MEAN_WEIGHT = 0.790
_MEAN_WEIGHTED_SQUARE = 0.565
_STATED_DEGREES_OF_FREEDOM = 16  # that the stated standard deviations count for, beside the residuals
_ECHO_DEGREES_OF_FREEDOM = 6  # a few receivers without echoes decide, and which they are is not certain
_PLAUSIBLE = 9.0  # second solutions: greatest excess of the sum of squared normalised residuals
_WGS84 = pyproj.Geod(ellps="WGS84")


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

    def row(self) -> NDArray[np.float64]:
        """South, north, middle longitude and half the width, as the kernels take it."""
        half = self.width_deg / 2
        return np.array([self.south, self.north, self.west + half, half])

    @classmethod
    def around(cls, receivers: Sequence[Receiver]) -> "Area":
        """The box of the receivers, enlarged on each side by its own extent, at least 100 km."""
        lats = np.array([x.latitude for x in receivers], float)
        lons = np.array([x.longitude for x in receivers], float)
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
        Another position that explains the time differences about as well; with echoes, outside the ellipse.
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


def locate(
    receivers: Sequence[Receiver],
    differences: Sequence[TimeDifference],
    *,
    area: Area | None = None,
    tx_altitude_m: float = 0.0,
    systematic_us: float = 0.5,
    echo_us: float = 0.0,
    delay_spreads_us: Mapping[str, float | None] | None = None,
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
        Standard deviation of what the differences' own does not contain, such as clocks, at each receiver.
    echo_us : float, optional
        Mean delay by echoes at a receiver whose own standard deviation and delay spread are 1 us, if it has any; it
        grows with both. `ECHO_US` where many links have no line of sight; 0 for errors that are late as often as early.
    delay_spreads_us : mapping of str to float, optional
        By rx_id, as measured: the feature multipath_delay_spread_us, which is unknown where the signal is too weak.
        With ``echo_us`` they say which receivers are late, and by how much; without any value as if not given.

    Returns
    -------
    PositionFix

    Raises
    ------
    PositionError
        Fewer than three receivers with time differences, or a geometry that does not determine a position.

    Notes
    -----
    The time differences become one arrival time per receiver (`arrival_times`). The position and the unknown instant of
    transmission minimise the soft-L1 loss ``sum 2 (sqrt(1 + r^2) - 1)`` of the normalised residuals r, by
    Levenberg-Marquardt steps from the local minima of a grid.

    With ``echo_us`` they maximise the likelihood instead that each arrival time either has a normal error, or is late
    by an exponentially distributed delay besides, or, one in a hundred, anything (`echo_model`). Echoes make the delay
    vary as they fade, and the amplitude vary over the channel, so that receivers of a greater standard deviation or
    delay spread have them more often and longer. Of up to twelve receivers every three give a start, since they may be
    the only ones without an echo. Of several minima a narrow one may be the lowest and yet hold little of the density:
    the position is the one whose expected distance is least, and the ellipse has the density's covariance
    (`position_posterior`).

    Paths are straight lines up to 250 km, geodesics with the difference of the altitudes from 350 km on, where nothing
    is in line of sight. The covariance is ``s^2 c^2 (H^T W H)^-1`` with H = [u_i, 1] and W the weights (Torrieri,
    "Statistical theory of passive location systems", IEEE Trans. AES-20, 1984); s^2 is the variance of the normalised
    residuals, in which the stated standard deviations count as 16 residuals of variance 1, and the ellipse takes the F
    distribution for as many degrees of freedom.
    """
    arrivals, left_out = arrival_times(receivers, differences, systematic_us * 1e-6)
    area = area or Area.around(arrivals.receivers)
    loss = _Loss.of(arrivals, _BEND, echo_us, delay_spreads_us)
    found = loss.search(arrivals, area, tx_altitude_m)
    solutions = [
        (float(row[0]), float(row[1]), float((row[2] + 180) % 360 - 180)) for row in found if np.isfinite(row[0])
    ]
    cost, lat, lon = solutions[0]
    is_at_edge, apart_m = _is_at_edge(area, lat, lon), _SAME_PLACE_M
    residuals_s, design = _excess_delays(arrivals, lat, lon, tx_altitude_m, loss)
    ellipse = loss.ellipse(arrivals, design, residuals_s)
    if loss.echoes.any():
        lat, lon, covariance_m2 = loss.middle(arrivals, found, area, tx_altitude_m)
        residuals_s, _ = _excess_delays(arrivals, lat, lon, tx_altitude_m, loss)
        ellipse = _axes(covariance_m2, _quantile(_ECHO_DEGREES_OF_FREEDOM))
        apart_m = max(apart_m, ellipse.semi_major_m)  # minima in the ellipse are part of the position's density
    others = [
        (other_lat, other_lon)
        for other_cost, other_lat, other_lon in solutions
        if other_cost - cost < _PLAUSIBLE
        and not _is_at_edge(area, other_lat, other_lon)
        and _WGS84.inv(lon, lat, other_lon, other_lat)[2] > apart_m
    ]
    return PositionFix(
        latitude=lat,
        longitude=lon,
        ellipse=ellipse,
        residuals_us={
            receiver.rx_id: round(float(residual) * 1e6, 3)
            for receiver, residual in zip(arrivals.receivers, residuals_s, strict=True)
        },
        rms_residual_us=round(float(np.sqrt(np.mean(residuals_s**2))) * 1e6, 3),
        used=tuple(receiver.rx_id for receiver in arrivals.receivers),
        left_out=left_out,
        second=others[0] if others else None,
        is_at_edge=is_at_edge,
    )


@dataclass(frozen=True, eq=False)
class _Loss:
    """What the kernels' loss depends on besides residuals.

    Attributes
    ----------
    bend : float
    std_m : ndarray of float64, shape (num_receivers,)
        Deviations of arrival times without echoes, in m of light's way.
    echoes : ndarray of float64, shape (num_receivers, 3), see `arrival_loss.loss_of`
    """

    bend: float
    std_m: NDArray[np.float64]
    echoes: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        arrivals: Arrivals,
        bend: float,
        echo_us: float = 0.0,
        delay_spreads_us: Mapping[str, float | None] | None = None,
    ) -> "_Loss":
        """The loss of receivers whose own deviations and delay spreads say how likely they have echoes."""
        if not echo_us > 0:
            return cls(bend, arrivals.std_s * SPEED_OF_LIGHT_M_PER_S, np.zeros((arrivals.std_s.size, 3)))
        spreads = [(delay_spreads_us or {}).get(receiver.rx_id) for receiver in arrivals.receivers]
        spreads_us = np.array([math.nan if spread is None else spread for spread in spreads])
        given_us = spreads_us if np.isfinite(spreads_us).any() else None
        std_s, echoes = densities_of_errors(arrivals.own_std_s, arrivals.std_s, given_us, echo_us)
        echoes[:, 1:] *= SPEED_OF_LIGHT_M_PER_S
        return cls(bend, std_s * SPEED_OF_LIGHT_M_PER_S, echoes)

    def search(self, arrivals: Arrivals, area: Area, tx_altitude_m: float) -> NDArray[np.float64]:
        """Minima by ascending loss: rows of loss, latitude, longitude and instant."""
        found = position_search.search(self._problem(arrivals, area, tx_altitude_m))
        return np.asarray(found[np.argsort(found[:, 0])])

    def middle(
        self, arrivals: Arrivals, found: NDArray[np.float64], area: Area, tx_altitude_m: float
    ) -> tuple[float, float, NDArray[np.float64]]:
        """Place in the middle of the density, and the covariance around it, m^2."""
        lat, lon, covariance_m2 = middle_and_covariance(found, self._problem(arrivals, area, tx_altitude_m))
        return lat, (lon + 180) % 360 - 180, covariance_m2

    def _problem(self, arrivals: Arrivals, area: Area, tx_altitude_m: float) -> position_search.ArrivalProblem:
        rows, times_m = _rows(arrivals.receivers), arrivals.times_s * SPEED_OF_LIGHT_M_PER_S
        return position_search.ArrivalProblem(
            rows, times_m, self.std_m, float(tx_altitude_m), area.row(), self.bend, self.echoes
        )

    def ellipse(self, arrivals: Arrivals, design: NDArray[np.float64], residuals_s: NDArray[np.float64]) -> Ellipse:
        """Confidence ellipse from the weights and the residuals found, without echoes."""
        spare = len(residuals_s) - MIN_RECEIVERS
        known = _STATED_DEGREES_OF_FREEDOM
        weights = 1 / np.sqrt(1 + (residuals_s / arrivals.std_s) ** 2) / arrivals.std_s**2
        variance = (known + float(np.sum(weights * residuals_s**2)) / _MEAN_WEIGHTED_SQUARE) / (known + spare)
        return _axes(_covariance(design, weights / _MEAN_WEIGHT), math.sqrt(variance) * _quantile(known + spare))


def least_squares(arrivals: Arrivals, tx_altitude_m: float = 0.0) -> tuple[float, float, NDArray[np.float64]]:
    """Find the position at which the sum of the squared normalised residuals is least.

    Parameters
    ----------
    arrivals : Arrivals
    tx_altitude_m : float, optional
        Of the transmitter's antenna above the ellipsoid.

    Returns
    -------
    latitude, longitude : float
        Degrees, in `Area.around` the receivers.
    residuals_s : ndarray of float64, shape (num_receivers,)
    """
    area = Area.around(arrivals.receivers)
    loss = _Loss.of(arrivals, _NO_BEND)
    _, lat, lon, _ = loss.search(arrivals, area, tx_altitude_m)[0].tolist()
    residuals_s, _ = _excess_delays(arrivals, lat, lon, tx_altitude_m, loss)
    return lat, (lon + 180) % 360 - 180, residuals_s


def log_likelihood(
    receivers: Sequence[Receiver],
    differences: Sequence[TimeDifference],
    latitudes: NDArray[np.float64],
    longitudes: NDArray[np.float64],
    *,
    systematic_us: float = 0.5,
) -> NDArray[np.float64]:
    """Logarithm of the likelihood that the transmitter is at each of some points, for maps.

    Parameters
    ----------
    receivers, differences, systematic_us
        As in `locate`.
    latitudes, longitudes : ndarray of float64
        Points on the ellipsoid, degrees, of the same shape; their spacing blurs the likelihood, so that its maximum is
        seen.

    Returns
    -------
    ndarray of float64
        Of the shape of the points; relative to an unknown constant.
    """
    arrivals, _ = arrival_times(receivers, differences, systematic_us * 1e-6)
    losses = np.empty(latitudes.size)
    # A cell's own size, as delay, is the tolerance of a map.
    position_search.fill_grid_losses(
        losses,
        _rows(arrivals.receivers),
        arrivals.times_s * SPEED_OF_LIGHT_M_PER_S,
        arrivals.std_s * SPEED_OF_LIGHT_M_PER_S,
        np.ravel(latitudes).astype(np.float64),
        np.ravel(longitudes).astype(np.float64),
        0.0,
        float(np.ptp(latitudes)) * position_search.M_PER_DEG / latitudes.shape[0] / 2,
    )
    return -0.5 * losses.reshape(latitudes.shape)


def excess_delays(arrivals: Arrivals, lat: float, lon: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Arrival times less those that a position predicts, and what they depend on.

    Parameters
    ----------
    arrivals : Arrivals
    lat, lon : float
        Of the transmitter, degrees; on the ellipsoid.

    Returns
    -------
    residuals_s : ndarray of float64, shape (num_receivers,)
        With the best instant of transmission.
    design : ndarray of float64, shape (num_receivers, 3)
        Per m: east, north, instant.
    """
    return _excess_delays(arrivals, lat, lon, 0.0, _Loss.of(arrivals, _BEND))


def _excess_delays(
    arrivals: Arrivals, lat: float, lon: float, tx_altitude_m: float, loss: _Loss
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    path_m, design = _paths(arrivals.receivers, lat, lon, tx_altitude_m)
    excess_m = arrivals.times_s * SPEED_OF_LIGHT_M_PER_S - path_m
    instant_m = best_instant_m(excess_m, loss.std_m, loss.bend, loss.echoes)
    return (excess_m - instant_m) / SPEED_OF_LIGHT_M_PER_S, design


def _paths(
    receivers: Sequence[Receiver], lat: float, lon: float, tx_altitude_m: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lengths of the paths to the receivers, m, and what they grow by per m to the east and the north, and 1."""
    path_m, design = np.empty(len(receivers)), np.empty((len(receivers), 3))
    position_search.fill_paths(path_m, design, _rows(receivers), float(lat), float(lon), float(tx_altitude_m))
    return path_m, design


def _rows(receivers: Sequence[Receiver]) -> NDArray[np.float64]:
    """Earth-centred coordinates at the antenna and on the ellipsoid, altitude and latitude of each receiver."""
    return np.asarray(
        position_search.receiver_rows(
            np.array([(x.latitude, x.longitude, x.altitude_m) for x in receivers], np.float64)
        )
    )


def _is_at_edge(area: Area, lat: float, lon: float) -> bool:
    beside = (lon - area.west - area.width_deg / 2 + 180) % 360 - 180
    is_beside = area.width_deg < 360 and abs(beside) >= area.width_deg / 2 - _NEAR_DEG
    return is_beside or lat <= area.south + _NEAR_DEG or lat >= area.north - _NEAR_DEG


@functools.lru_cache(maxsize=64)
def _quantile(degrees_of_freedom: int) -> float:
    """Semi-axis of the ellipse of 95 % over the standard deviation, known to so many degrees of freedom."""
    return math.sqrt(2 * float(scipy.stats.f.ppf(CONFIDENCE, 2, degrees_of_freedom)))


def _covariance(design: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of east and north, m^2, from weights in 1/s^2."""
    information = design.T @ (design * weights[:, None]) / SPEED_OF_LIGHT_M_PER_S**2
    if np.linalg.cond(information) > 1e14:
        raise PositionError("the receivers' geometry does not determine a position: are they in one line with it?")
    return np.asarray(np.linalg.inv(information)[:2, :2])


def _axes(covariance: NDArray[np.float64], scale: float) -> Ellipse:
    values, vectors = np.linalg.eigh(covariance)
    minor, major = scale * np.sqrt(np.maximum(values, 0))
    east, north = vectors[:, 1]
    return Ellipse(float(major), float(minor), math.degrees(math.atan2(east, north)) % 180)
