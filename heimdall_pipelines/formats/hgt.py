"""SRTM tiles: big-endian int16 of one degree, 3601 or 1201 points on each side, neighbours sharing their edges."""

import math
import re
from pathlib import Path

import numpy as np

from heimdall_pipelines.formats.terrain_file import TerrainFileError, grid_of_values
from heimdall_pipelines.rf.elevation_grid import ElevationGrid

_NAME = re.compile(r"(?P<north>[NS])(?P<latitude>\d{2})(?P<east>[EW])(?P<longitude>\d{3})", re.IGNORECASE)
_SIDES = (3601, 1201)  # 1 and 3 arc seconds


def read_hgt(path: Path) -> ElevationGrid:
    """Read an SRTM tile.

    Parameters
    ----------
    path : Path
        Its name begins with the tile's south-west corner, such as N45E007.

    Raises
    ------
    TerrainFileError
        The name has no corner, or the file has neither size of a tile.
    OSError
        It cannot be read.

    References
    ----------
    NASA, SRTM topography documentation, version 2.1, section 2.1.3.
    """
    match = _NAME.match(path.name)
    if match is None:
        raise TerrainFileError(path, "has no position: an .hgt file is named by its south-west corner, as N45E007.hgt")
    south = int(match["latitude"]) * (1 if match["north"].upper() == "N" else -1)
    west = int(match["longitude"]) * (1 if match["east"].upper() == "E" else -1)
    content = path.read_bytes()
    side = math.isqrt(len(content) // 2)
    if side not in _SIDES or len(content) != 2 * side * side:
        sizes = " or ".join(str(2 * side * side) for side in _SIDES)
        raise TerrainFileError(path, f"has {len(content)} bytes; a whole tile has {sizes}: get it again")
    step_deg = 1 / (side - 1)
    return grid_of_values(
        path,
        np.frombuffer(content, ">i2").reshape(side, side),
        None,
        north_deg=south + 1.0,
        west_deg=float(west),
        latitude_step_deg=step_deg,
        longitude_step_deg=step_deg,
    )
