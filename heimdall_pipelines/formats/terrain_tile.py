"""Terrain tiles as they are stored and mapped: a header of text, then the heights as they lie in memory.

A tile's bytes hold its position, source and licence too, so that its SHA-256 stands for all of them. Nothing is decoded
to use a tile, so that workers map the same file and load only the pages they read.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.terrain_file import TerrainFileError
from heimdall_pipelines.rf.elevation_grid import ElevationGrid

_MAGIC = b"heimdall terrain tile 1\n"
_ALIGNED_TO = 4096  # a page of memory
_DTYPES: dict[str, np.dtype[Any]] = {"<i2": np.dtype("<i2"), "<f4": np.dtype("<f4")}


@dataclass(frozen=True)
class TileHeader:
    """What a tile says of itself.

    Attributes
    ----------
    north_deg, west_deg, latitude_step_deg, longitude_step_deg : float
        See `ElevationGrid`.
    num_rows, num_columns : int
    dtype : str
        ``<i2`` or ``<f4``.
    source, licence : str
        Where the heights come from, and what may be done with them.
    """

    north_deg: float
    west_deg: float
    latitude_step_deg: float
    longitude_step_deg: float
    num_rows: int
    num_columns: int
    dtype: str
    source: str
    licence: str


def tile_bytes(grid: ElevationGrid, *, source: str, licence: str) -> bytes:
    """Bytes of a tile.

    Parameters
    ----------
    grid : ElevationGrid
    source, licence : str
    """
    heights = grid.heights_m
    header = TileHeader(
        grid.north_deg,
        grid.west_deg,
        grid.latitude_step_deg,
        grid.longitude_step_deg,
        heights.shape[0],
        heights.shape[1],
        "<i2" if heights.dtype == np.int16 else "<f4",
        source,
        licence,
    )
    text = _MAGIC + json.dumps(asdict(header), sort_keys=True).encode()
    padded = text.ljust(-(-(len(text) + 1) // _ALIGNED_TO) * _ALIGNED_TO - 1) + b"\n"
    return padded + np.ascontiguousarray(heights).astype(_DTYPES[header.dtype], copy=False).tobytes()


def map_tile(path: Path) -> ElevationGrid:
    """Map a tile into memory.

    Parameters
    ----------
    path : Path

    Returns
    -------
    ElevationGrid
        Its heights are those of the file.

    Raises
    ------
    TerrainFileError
        It is no tile, or cut short.
    OSError
        It cannot be read.
    """
    header, offset = _read_header(path)
    expected = offset + header.num_rows * header.num_columns * _DTYPES[header.dtype].itemsize
    if path.stat().st_size != expected:
        raise TerrainFileError(path, f"has {path.stat().st_size} bytes, the tile has {expected}: it is cut short")
    shape = header.num_rows, header.num_columns
    heights: NDArray[Any] = np.memmap(path, _DTYPES[header.dtype], mode="r", offset=offset, shape=shape)
    return ElevationGrid(
        heights, header.north_deg, header.west_deg, header.latitude_step_deg, header.longitude_step_deg
    )


def read_tile_header(path: Path) -> TileHeader:
    """Read what a tile says of itself; raises as `map_tile`, but does not check the file's length."""
    return _read_header(path)[0]


def _read_header(path: Path) -> tuple[TileHeader, int]:
    with path.open("rb") as file:
        text = file.read(_ALIGNED_TO)
        while text.startswith(_MAGIC) and not text.endswith(b"\n") and len(text) % _ALIGNED_TO == 0:
            more = file.read(_ALIGNED_TO)
            if not more:
                break
            text += more
    if not (text.startswith(_MAGIC) and text.endswith(b"\n")):
        raise TerrainFileError(path, "is not a terrain tile of this version")
    try:
        values: dict[str, Any] = json.loads(text[len(_MAGIC) :])
        header = TileHeader(**values)
    except (ValueError, TypeError) as error:
        raise TerrainFileError(path, f"is a damaged terrain tile: {error}") from error
    if header.dtype not in _DTYPES:
        raise TerrainFileError(path, f"is a terrain tile of type {header.dtype}, which this version cannot read")
    return header, len(text)
