"""Ground under points and between them: bilinear in the finest of several grids, never across a void.

Heights are continuous over the borders of tiles: where a cell's corners lie in different tiles, each corner is read
from its own one. A point whose cell has a void corner is taken from the next coarser grid.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.elevation_grid import VOID_INT16, ElevationGrid
from heimdall_pipelines.rf.geodesy import geodesic_points
from heimdall_pipelines.rf.philox import compiled
from heimdall_pipelines.rf.profiles import Profiles, starts_of

_SNAP = 1e-6  # of a cell: a point so close to a line of the grid lies on it
SAME_RESOLUTION = 1.01  # steps of grids that count as equally fine differ by less than this factor
_LAND, _WATER = 1, 2
_LEVEL_WITHIN_M = 100.0  # and within a cell: plains in whole metres are level for 30 m, lakes are for longer
M_PER_DEG = 111_195.0  # of latitude, on a sphere
_SEA_NEIGHBOURS = 0.5  # share of a cell's neighbours at exactly 0 m from which a cell at 0 m is sea

STEP_FROM_M, STEP_TO_M = 100.0, 500.0  # distance of a profile's points
_STEPS = 300
_FEWEST_STEPS = 4


class NoElevationError(HeimdallError):
    """No tile has the height of a place; the message names it."""


class NoLandError(HeimdallError):
    """An area has no land, or hardly any."""


class Terrain:
    """Several grids as one ground.

    Parameters
    ----------
    grids : sequence of ElevationGrid
        The finest has precedence where they overlap; of equally fine ones (within 1 %) the earlier.

    Examples
    --------
    A slope of 100 m per degree to the north:

    >>> heights_m = np.array([[300, 300, 300], [200, 200, 200]], np.int16)
    >>> ground = Terrain([ElevationGrid(heights_m, 46.0, 7.0, 1.0, 1.0)])
    >>> ground.heights_m([45.25, 46.0], [7.5, 9.0])
    array([225., 300.])
    """

    def __init__(self, grids: Sequence[ElevationGrid]) -> None:
        if not grids:
            raise ValueError("a terrain needs at least one grid")
        ordered = sorted(grids, key=lambda grid: grid.latitude_step_deg)
        classes: list[list[ElevationGrid]] = []
        for grid in ordered:
            if classes and grid.latitude_step_deg < SAME_RESOLUTION * classes[-1][0].latitude_step_deg:
                classes[-1].append(grid)
            else:
                classes.append([grid])
        given = {id(grid): place for place, grid in enumerate(grids)}
        self._classes = [sorted(members, key=lambda grid: given[id(grid)]) for members in classes]
        self.grids = tuple(grid for members in self._classes for grid in members)

    def heights_m(self, latitudes: ArrayLike, longitudes: ArrayLike) -> NDArray[np.float64]:
        """Height of the ground at points.

        Parameters
        ----------
        latitudes, longitudes : array_like of float, shape (num_points,)
            WGS84, degrees.

        Returns
        -------
        ndarray of float64, shape (num_points,)
            Metres above mean sea level.

        Raises
        ------
        NoElevationError
            No grid has a point's height; the message has its position.
        """
        latitudes, longitudes = _points(latitudes, longitudes)
        heights_m = self.known_heights_m(latitudes, longitudes)
        missing = np.flatnonzero(np.isnan(heights_m))
        if missing.size:
            raise NoElevationError(
                f"no terrain tile has the height at {_place(latitudes[missing[0]], longitudes[missing[0]])}"
                + (f" and {missing.size - 1} other points" if missing.size > 1 else "")
                + ": add a tile that covers it, see: heimdall terrain list"
            )
        return heights_m

    def known_heights_m(self, latitudes: ArrayLike, longitudes: ArrayLike) -> NDArray[np.float64]:
        """Height of the ground as of `heights_m`, NaN where no grid has it."""
        latitudes, longitudes = _points(latitudes, longitudes)
        heights_m = np.full(latitudes.size, np.nan)
        missing = latitudes.size
        for members in self._classes:
            at_edge = np.zeros(latitudes.size, np.int64)  # 1 + the grid beyond whose edge a point lies, within a cell
            for number, grid in enumerate(members):
                if missing:
                    missing -= _interpolate(*_arguments(grid), latitudes, longitudes, heights_m, at_edge, number + 1)
            if missing and at_edge.any():
                missing -= self._fill_edges(members, latitudes, longitudes, heights_m, at_edge)
        return heights_m

    def is_land(self, latitudes: ArrayLike, longitudes: ArrayLike) -> NDArray[np.bool_]:
        """Whether points lie on land by the shape of the ground; False where no grid has a height.

        Models have no mask of water, but they have flat water: the sea is exactly 0 m, and lakes have one level.
        Water is a value of 0 m if half of its neighbours have it too, and a value that all its neighbours have;
        neighbours are those within a cell or 100 m. Land below the sea level, and single values of 0 m in a polder, are
        land. In the 30-arc-second grid of the package,
        lakes from 3 cells of width on are found, and 0.04 % of the plain of the Po is taken for one.

        Parameters
        ----------
        latitudes, longitudes : array_like of float, shape (num_points,)
            WGS84, degrees.

        Returns
        -------
        ndarray of bool, shape (num_points,)
        """
        latitudes, longitudes = _points(latitudes, longitudes)
        found = np.zeros(latitudes.size, np.uint8)
        for grid in self.grids:
            reach = max(1, round(_LEVEL_WITHIN_M / (grid.latitude_step_deg * M_PER_DEG)))
            _classify(*_arguments(grid), latitudes, longitudes, found, reach)
        return np.asarray(found == _LAND)

    def profiles(
        self,
        latitude: float,
        longitude: float,
        azimuths_rad: ArrayLike,
        lengths_m: ArrayLike,
        num_steps: ArrayLike | None = None,
        *,
        gaps_allowed: bool = False,
    ) -> Profiles:
        """Heights along geodesics from one point.

        Parameters
        ----------
        latitude, longitude : float
            Where they begin, degrees.
        azimuths_rad, lengths_m : array_like of float, shape (num_links,)
            Of the geodesics at that point, as `rf.geodesy.distance_and_azimuth` gives them.
        num_steps : array_like of int, optional
            Equal steps of each; `profile_steps` of the length if None.
        gaps_allowed : bool
            Heights that no grid has are NaN.

        Returns
        -------
        Profiles

        Raises
        ------
        NoElevationError
            No grid has a point's height, and gaps are not allowed.
        """
        lengths = np.maximum(np.asarray(lengths_m, dtype=np.float64), 1.0)
        steps = profile_steps(lengths) if num_steps is None else np.asarray(num_steps, dtype=np.int64)
        starts = starts_of(steps + 1)
        distances_m, latitudes, longitudes = geodesic_points(latitude, longitude, azimuths_rad, lengths, starts)
        heights_m = (self.known_heights_m if gaps_allowed else self.heights_m)(latitudes, longitudes)
        return Profiles(starts, distances_m, heights_m)

    def _strict_heights_m(self, latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Heights of points within a grid's own points only."""
        heights_m, ignored = np.full(latitudes.size, np.nan), np.zeros(latitudes.size, np.int64)
        for grid in self.grids:
            _interpolate(*_arguments(grid), latitudes, longitudes, heights_m, ignored, 0)
        return heights_m

    def _fill_edges(
        self,
        members: list[ElevationGrid],
        latitudes: NDArray[np.float64],
        longitudes: NDArray[np.float64],
        heights_m: NDArray[np.float64],
        at_edge: NDArray[np.int64],
    ) -> int:
        """Interpolate in cells of which only some corners are in the grid; returns how many points got a height."""
        num_filled = 0
        for number, grid in enumerate(members):
            points = np.flatnonzero(np.isnan(heights_m) & (at_edge == number + 1))
            if not points.size:
                continue
            rows, columns = _cells(grid, latitudes[points], longitudes[points])
            total, known = np.zeros(points.size), np.ones(points.size, bool)
            for below in (0, 1):
                for right in (0, 1):
                    corner_rows, corner_columns = np.floor(rows) + below, np.floor(columns) + right
                    weights = (1 - np.abs(rows - corner_rows)) * (1 - np.abs(columns - corner_columns))
                    corners_m = self._strict_heights_m(
                        grid.north_deg - corner_rows * grid.latitude_step_deg,
                        grid.west_deg + corner_columns * grid.longitude_step_deg,
                    )
                    needed = weights > _SNAP
                    known &= ~needed | ~np.isnan(corners_m)
                    total += np.where(needed, weights * corners_m, 0.0)
            filled = points[known]
            heights_m[filled] = total[known]
            num_filled += filled.size
        return num_filled


def profile_steps(lengths_m: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of equal steps of profiles: about every 100 m up to 30 km, 300 steps up to 150 km, then every 500 m.

    Parameters
    ----------
    lengths_m : ndarray of float64, shape (num_links,)

    Examples
    --------
    >>> profile_steps(np.array([50.0, 5e3, 60e3, 200e3]))
    array([  4,  50, 300, 400])
    """
    step_m = np.clip(lengths_m / _STEPS, STEP_FROM_M, STEP_TO_M)
    return np.asarray(np.maximum(np.ceil(lengths_m / step_m - 1e-9), _FEWEST_STEPS), dtype=np.int64)


def _points(latitudes: ArrayLike, longitudes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (
        np.ascontiguousarray(np.atleast_1d(np.asarray(latitudes, dtype=np.float64))),
        np.ascontiguousarray(np.atleast_1d(np.asarray(longitudes, dtype=np.float64))),
    )


def _place(latitude: float, longitude: float) -> str:
    return f"latitude {latitude:.4f}, longitude {(longitude + 180) % 360 - 180:.4f}"


def _arguments(
    grid: ElevationGrid,
) -> tuple[NDArray[Any], float, float, float, float]:
    return grid.heights_m, grid.north_deg, grid.west_deg, grid.latitude_step_deg, grid.longitude_step_deg


def _cells(
    grid: ElevationGrid, latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column of points, as `_interpolate` computes them."""
    rows = (grid.north_deg - latitudes) / grid.latitude_step_deg
    east = longitudes - grid.west_deg
    east = east - 360.0 * np.floor((east + grid.longitude_step_deg) / 360.0)
    columns = east / grid.longitude_step_deg
    snapped = [np.where(np.abs(x - np.rint(x)) < _SNAP, np.rint(x), x) for x in (rows, columns)]
    return snapped[0], snapped[1]


@compiled
def _snapped(x: float) -> float:
    nearest = np.rint(x)
    return nearest if abs(x - nearest) < _SNAP else x


@compiled
def _interpolate(
    heights: NDArray[Any],
    north: float,
    west: float,
    latitude_step: float,
    longitude_step: float,
    latitudes: NDArray[np.float64],
    longitudes: NDArray[np.float64],
    out: NDArray[np.float64],
    at_edge: NDArray[np.int64],
    number: int,
) -> int:
    """Fill heights that are NaN from one grid, and note points within a cell beyond its edge under a number, if any."""
    rows, columns = heights.shape
    margin = longitude_step if number else _SNAP * longitude_step
    num_filled = 0
    for n in range(latitudes.size):
        if not np.isnan(out[n]):
            continue
        y = _snapped((north - latitudes[n]) / latitude_step)
        if not -1.0 < y < rows:
            continue
        east = longitudes[n] - west
        east -= 360.0 * np.floor((east + margin) / 360.0)  # from the margin west of the grid on
        x = _snapped(east / longitude_step)
        if not -1.0 < x < columns:
            continue
        if y < 0 or y > rows - 1 or x < 0 or x > columns - 1:
            if at_edge[n] == 0:
                at_edge[n] = number
            continue
        row, column = int(np.floor(y)), int(np.floor(x))
        down, right = y - row, x - column
        total = 0.0
        is_void = False
        for i in range(2):
            from_row = down if i else 1.0 - down
            if from_row == 0:
                continue
            for j in range(2):
                weight = from_row * (right if j else 1.0 - right)
                if weight == 0:
                    continue
                height = heights[row + i, column + j]
                if height != height or height == VOID_INT16:
                    is_void = True
                else:
                    total += weight * height
        if not is_void:
            out[n] = total
            num_filled += 1
    return num_filled


@compiled
def _classify(
    heights: NDArray[Any],
    north: float,
    west: float,
    latitude_step: float,
    longitude_step: float,
    latitudes: NDArray[np.float64],
    longitudes: NDArray[np.float64],
    found: NDArray[np.uint8],
    reach: int,
) -> None:
    """Classify the points that no finer grid has: land or water, by the nearest value and its neighbours in reach."""
    rows, columns = heights.shape
    for n in range(latitudes.size):
        if found[n]:
            continue
        y = (north - latitudes[n]) / latitude_step
        east = longitudes[n] - west
        east -= 360.0 * np.floor((east + longitude_step) / 360.0)
        row, column = int(np.rint(y)), int(np.rint(east / longitude_step))
        if row < 0 or row >= rows or column < 0 or column >= columns:
            continue
        height = heights[row, column]
        if height != height or height == VOID_INT16:
            continue
        num_neighbours, num_same = 0, 0
        for i in range(max(row - reach, 0), min(row + reach + 1, rows)):
            for j in range(max(column - reach, 0), min(column + reach + 1, columns)):
                neighbour = heights[i, j]
                if (i == row and j == column) or neighbour != neighbour or neighbour == VOID_INT16:
                    continue
                num_neighbours += 1
                if neighbour == height:
                    num_same += 1
        is_sea = height == 0 and num_same >= _SEA_NEIGHBOURS * num_neighbours
        found[n] = _WATER if is_sea or num_same == num_neighbours else _LAND
