"""Files of heights that terrain is made from: a table suffix -> reader, and what they have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.elevation_grid import VOID_INT16, ElevationGrid

MAX_VALUES = 500_000_000  # 2 GB in memory
_VOIDS = (-32768, -9999, 32767)  # in use without being declared
_LOWEST_M, _HIGHEST_M = -11_500.0, 9_000.0  # below the deepest sea floor and above the highest mountain


class TerrainFileError(HeimdallError):
    """A file of heights cannot be read; the message has its path, the reason and what to do."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["TerrainFileError"], tuple[Path | str, str]]:
        """Pickle with both arguments."""
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class TerrainFormat:
    """A row of the table of formats."""

    suffixes: tuple[str, ...]
    description: str
    read: Callable[[Path], ElevationGrid]


def read_terrain_file(path: Path) -> ElevationGrid:
    """Read a file of heights by its suffix.

    Parameters
    ----------
    path : Path

    Returns
    -------
    ElevationGrid
        Heights at points, whatever the file's convention and projection; voids as such.

    Raises
    ------
    TerrainFileError
        The file is missing, of no known format, cut short or without a position.
    """
    suffix = path.suffix.lower()
    found = next((row for row in TERRAIN_FORMATS if suffix in row.suffixes), None)
    if found is None:
        known = ", ".join(suffix for row in TERRAIN_FORMATS for suffix in row.suffixes)
        raise TerrainFileError(path, f"is not a file of heights, whose names end in {known}")
    try:
        return found.read(path)
    except OSError as error:
        raise TerrainFileError(path, f"cannot be read: {error.strerror or error}") from error


def grid_of_values(
    path: Path,
    values: NDArray[Any],
    nodata: float | None,
    *,
    north_deg: float,
    west_deg: float,
    latitude_step_deg: float,
    longitude_step_deg: float,
) -> ElevationGrid:
    """Make a grid of values as a file holds them.

    Parameters
    ----------
    path : Path
        Named in errors.
    values : ndarray, shape (num_rows, num_columns)
        North to south; of any byte order and type of numbers.
    nodata : float or None
        What the file declares to be void. -32768, -9999, 32767, NaN and heights that do not exist on Earth are void in
        any case.
    north_deg, west_deg, latitude_step_deg, longitude_step_deg : float
        Of the points, see `ElevationGrid`; the longitude is normalised.

    Raises
    ------
    TerrainFileError
        There are no heights, or the position is impossible.
    """
    is_void = np.isin(values, _VOIDS) | ~((values >= _LOWEST_M) & (values <= _HIGHEST_M))  # NaN compares false
    if nodata is not None:
        is_void |= values == nodata
    if is_void.all():
        raise TerrainFileError(path, "has no heights, all values are void")
    if np.issubdtype(values.dtype, np.integer):
        heights = values.astype(np.int16)  # what does not fit is void
        heights[is_void] = VOID_INT16
    else:
        heights = np.where(is_void, np.nan, values).astype(np.float32)
    try:
        return ElevationGrid(
            heights, north_deg, (west_deg + 180) % 360 % 360 - 180, latitude_step_deg, longitude_step_deg
        )
    except ValueError as error:
        raise TerrainFileError(path, f"has an impossible position: {error}") from error


def _read_hgt(path: Path) -> ElevationGrid:
    from heimdall_pipelines.formats.hgt import read_hgt

    return read_hgt(path)


def _read_geotiff(path: Path) -> ElevationGrid:
    from heimdall_pipelines.formats.geotiff import read_geotiff

    return read_geotiff(path)


TERRAIN_FORMATS = (
    TerrainFormat((".hgt",), "SRTM, named by its south-west corner, such as N45E007.hgt", _read_hgt),
    TerrainFormat((".tif", ".tiff"), "GeoTIFF of any projection, such as Copernicus GLO-30", _read_geotiff),
)
