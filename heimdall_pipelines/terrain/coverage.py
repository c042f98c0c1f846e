"""Level of a transmitter over an area, or of an area's transmitters at a station: the loss is the same both ways."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.geodesy import distance_and_azimuth
from heimdall_pipelines.rf.profiles import Profiles
from heimdall_pipelines.rf.propagation import path_losses_db
from heimdall_pipelines.rf.terrain import M_PER_DEG, Terrain
from heimdall_pipelines.throttle import Throttle

MOBILE_HEIGHT_M = 2.0
MAX_CELLS = 250_000  # without being asked
_S_PER_CELL = 1e-4  # for estimates: cells at 40 km, on one core
_THREADS = 2
_PROGRESS_S = 2.0


@dataclass(frozen=True)
class CoverageRequest:
    """What to compute.

    Attributes
    ----------
    latitude, longitude : float
        Of the station, degrees.
    frequency_hz, power_dbm : float
        Power into an isotropic antenna.
    mast_m : float
        Height of the station's antenna above its ground.
    radius_m : float
        Half the side of the square area.
    cell_m : float
    """

    latitude: float
    longitude: float
    frequency_hz: float
    power_dbm: float
    mast_m: float
    radius_m: float = 50e3
    cell_m: float = 500.0

    @property
    def num_cells(self) -> int:
        """Cells of the area."""
        return (2 * round(self.radius_m / self.cell_m) + 1) ** 2

    @property
    def estimated_s(self) -> float:
        """About how long it takes."""
        return self.num_cells * _S_PER_CELL * max(1.0, self.radius_m / 50e3)


@dataclass(frozen=True, eq=False)
class Coverage:
    """Level over an area.

    Attributes
    ----------
    request : CoverageRequest
    latitudes : ndarray of float64, shape (num_rows,)
        North to south, equal steps.
    longitudes : ndarray of float64, shape (num_columns,)
    level_dbm : ndarray of float32, shape (num_rows, num_columns)
        At an isotropic antenna 2 m above ground; NaN where the path leaves the terrain.
    is_line_of_sight : ndarray of bool, shape (num_rows, num_columns)
    """

    request: CoverageRequest
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]
    level_dbm: NDArray[np.float32]
    is_line_of_sight: NDArray[np.bool_]

    def share_above(self, level_dbm: float) -> float:
        """Share of the cells with a level that have this or more; NaN if none has one."""
        known = self.level_dbm[~np.isnan(self.level_dbm)]
        return float(np.mean(known >= level_dbm)) if known.size else math.nan


def compute_coverage(
    terrain: Terrain, request: CoverageRequest, progress: Callable[[str], None] = lambda _: None
) -> Coverage:
    """Compute the level over an area, row by row in two threads.

    Parameters
    ----------
    terrain : Terrain
        Needs to have the station's place.
    request : CoverageRequest
    progress : callable, optional
        Called with a line every few seconds.

    Raises
    ------
    NoElevationError
        The terrain does not have the station's place.
    """
    terrain.heights_m(request.latitude, request.longitude)
    half = round(request.radius_m / request.cell_m)
    steps = np.arange(-half, half + 1)
    latitude_step = request.cell_m / M_PER_DEG
    longitude_step = latitude_step / max(math.cos(math.radians(request.latitude)), 0.01)
    latitudes = np.asarray(np.clip(request.latitude - steps * latitude_step, -90.0, 90.0), dtype=np.float64)
    longitudes = np.asarray(request.longitude + steps * longitude_step, dtype=np.float64)

    def row(latitude: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return _row(terrain, request, float(latitude), longitudes)

    levels = np.empty((latitudes.size, longitudes.size), np.float32)
    in_sight = np.empty(levels.shape, bool)
    throttle = Throttle(_PROGRESS_S)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="coverage") as threads:
        for number, (levels[number], in_sight[number]) in enumerate(threads.map(row, latitudes)):
            if throttle.is_due():
                progress(f"{(number + 1) * longitudes.size} of {levels.size} cells")
    return Coverage(request, latitudes, longitudes, levels, in_sight)


def _row(
    terrain: Terrain, request: CoverageRequest, latitude: float, longitudes: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    lengths_m, azimuths = distance_and_azimuth(
        request.latitude, request.longitude, latitude, (longitudes + 180) % 360 - 180
    )
    found = terrain.profiles(request.latitude, request.longitude, azimuths, lengths_m, gaps_allowed=True)
    is_missing = np.isnan(found.heights_m)
    has_gap = np.add.reduceat(is_missing, found.starts[:-1], dtype=np.int64) > 0
    profiles = Profiles(found.starts, found.distances_m, np.where(is_missing, 0.0, found.heights_m))
    path = path_losses_db(request.frequency_hz, profiles, request.mast_m, MOBILE_HEIGHT_M)
    level_dbm = np.where(has_gap, np.nan, request.power_dbm - path.loss_db)
    return level_dbm.astype(np.float32), path.is_line_of_sight & ~has_gap
