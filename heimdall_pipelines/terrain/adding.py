"""Add tiles from files, list them with what they are used for, and remove them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.terrain_file import TerrainFileError, read_terrain_file
from heimdall_pipelines.formats.terrain_tile import tile_bytes
from heimdall_pipelines.model.terrain_tile import TerrainTile
from heimdall_pipelines.rf.elevation_grid import VOID_INT16, ElevationGrid
from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.rf.terrain import SAME_RESOLUTION, Terrain
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.store.terrain_tiles import (
    add_tile,
    datasets_using,
    find_tile_of_file,
    list_tiles,
    remove_tile,
)
from heimdall_pipelines.terrain.cache import TerrainMissingError
from heimdall_pipelines.terrain.ground import ground_of
from heimdall_pipelines.terrain.shipped import shipped_sha256

SEA_SOURCE = "sea, given as such"
_SEA_FLOOR_BELOW_M = -450.0  # the shore of the Dead Sea, the lowest land, lies at -431 m
_PROBES = 60  # on each side of an overlap
_SAME_M = 1.0
_FEWEST_SHA256 = 6


class TerrainTileError(HeimdallError):
    """A tile that is unknown, ambiguous, in use or impossible."""


@dataclass(frozen=True)
class AddedTile:
    """A tile after it was added.

    Attributes
    ----------
    tile : TerrainTile
    is_new : bool
        False if it was there already.
    notes : tuple of str
        What to know about it: voids, overlaps with other heights, a sea floor that was set to 0.
    """

    tile: TerrainTile
    is_new: bool
    notes: tuple[str, ...] = ()


def add_terrain_file(
    stores: Stores, path: Path, *, source: str | None = None, licence: str | None = None, sea_floor: bool = False
) -> AddedTile:
    """Add a tile from a file of heights; the same file again changes nothing but repairs a damaged or lost object.

    Parameters
    ----------
    stores : Stores
    path : Path
        See `formats.terrain_file.TERRAIN_FORMATS`.
    source, licence : str, optional
        Where the heights come from and what may be done with them; by default those of SRTM for `.hgt`, else the file's
        name and "not stated".
    sea_floor : bool
        The file has the sea floor as negative heights: set all negative heights to 0.

    Raises
    ------
    TerrainFileError
        The file cannot be read, or has a sea floor although `sea_floor` is false.
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    try:
        with path.open("rb") as file:
            file_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TerrainFileError(path, f"cannot be read: {error.strerror or error}") from error
    if sea_floor:
        file_sha256 = hashlib.sha256(f"{file_sha256} without sea floor".encode()).hexdigest()
    existing = find_tile_of_file(stores.database, file_sha256)
    if existing is not None:
        source, licence = existing.source, existing.licence
    grid, notes = _without_sea_floor(path, read_terrain_file(path), sea_floor)
    is_srtm = path.suffix.lower() == ".hgt"
    return add_grid(
        stores,
        grid,
        source=source or ("SRTM, NASA" if is_srtm else path.name),
        licence=licence or ("public domain" if is_srtm else "not stated"),
        file_name=path.name,
        file_sha256=file_sha256,
        notes=notes,
    )


def add_sea(stores: Stores, area: BoundingBox, source: str = SEA_SOURCE, licence: str = "none needed") -> AddedTile:
    """Add a tile that says that an area is sea, 0 m: models leave out such tiles.

    Parameters
    ----------
    stores : Stores
    area : BoundingBox
    source, licence : str, optional
    """
    grid = ElevationGrid(
        np.zeros((2, 2), np.int16),
        area.north,
        (area.west + 180) % 360 % 360 - 180,
        area.north - area.south,
        area.east - area.west,
    )
    name = f"sea {area.south:g},{area.west:g},{area.north:g},{area.east:g}"
    file_sha256 = hashlib.sha256(name.encode()).hexdigest()
    existing = find_tile_of_file(stores.database, file_sha256)
    if existing is not None:
        return AddedTile(existing, False)
    return add_grid(stores, grid, source=source, licence=licence, file_name=name, file_sha256=file_sha256)


def add_grid(
    stores: Stores,
    grid: ElevationGrid,
    *,
    source: str,
    licence: str,
    file_name: str,
    file_sha256: str,
    notes: Sequence[str] = (),
) -> AddedTile:
    """Store a grid as a tile, and compare it with the tiles that it overlaps."""
    content = tile_bytes(grid, source=source, licence=licence)
    heights = grid.heights_m
    tile = TerrainTile(
        sha256=hashlib.sha256(content).hexdigest(),
        north_deg=grid.north_deg,
        west_deg=grid.west_deg,
        latitude_step_deg=grid.latitude_step_deg,
        longitude_step_deg=grid.longitude_step_deg,
        num_rows=heights.shape[0],
        num_columns=heights.shape[1],
        source=source,
        licence=licence,
        file_name=file_name,
        file_sha256=file_sha256,
        size_bytes=len(content),
        added_at=datetime.now(UTC),
    )
    others = [other for other in list_tiles(stores.database) if other.sha256 != tile.sha256]
    is_new = add_tile(stores, tile, content)
    return AddedTile(tile, is_new, (*notes, *_overlaps(stores, grid, tile, others)) if is_new else ())


def find_by_prefix(stores: Stores, prefix: str) -> TerrainTile:
    """The tile whose SHA-256 begins so.

    Raises
    ------
    TerrainTileError
        There is none, or more than one.
    """
    found = [tile for tile in list_tiles(stores.database) if tile.sha256.startswith(prefix.lower())]
    if len(prefix) < _FEWEST_SHA256 or len(found) != 1:
        if prefix and shipped_sha256().startswith(prefix.lower()):
            raise TerrainTileError(f"terrain tile {prefix} is part of the package and cannot be removed")
        what = "is ambiguous" if len(found) > 1 or len(prefix) < _FEWEST_SHA256 else "is unknown"
        raise TerrainTileError(
            f"terrain tile {prefix} {what}: give {_FEWEST_SHA256} or more digits of its SHA-256, see: "
            "heimdall terrain list"
        )
    return found[0]


def remove_terrain_tile(stores: Stores, tile: TerrainTile, *, force: bool = False) -> list[str]:
    """Remove a tile.

    Parameters
    ----------
    stores : Stores
    tile : TerrainTile
    force : bool
        Also if datasets stand on it; until the same file is added again they cannot be expanded, checked or
        regenerated.

    Returns
    -------
    list of str
        Datasets that stand on it.

    Raises
    ------
    TerrainTileError
        Datasets stand on it and `force` is false.
    """
    names = datasets_using(stores.database, [tile.sha256]).get(tile.sha256, [])
    if names and not force:
        raise TerrainTileError(
            f"terrain tile {tile.sha256[:12]} ({tile.file_name}) is part of {', '.join(names)}, which without it "
            "cannot be expanded, checked or regenerated; remove it all the same with --force"
        )
    remove_tile(stores, tile.sha256)
    return names


def _without_sea_floor(path: Path, grid: ElevationGrid, sea_floor: bool) -> tuple[ElevationGrid, list[str]]:
    heights = grid.heights_m
    known = heights[heights != VOID_INT16] if heights.dtype == np.int16 else heights[~np.isnan(heights)]
    lowest_m = float(known.min())
    notes = []
    if known.size < heights.size:
        notes.append(f"{1 - known.size / heights.size:.2%} of the values are void: a coarser tile fills them, if any")
    if not sea_floor:
        if lowest_m < _SEA_FLOOR_BELOW_M:
            raise TerrainFileError(
                path,
                f"has heights down to {lowest_m:.0f} m, which is sea floor: transmitters would stand there. With "
                "--sea-floor negative heights are set to 0",
            )
        return grid, notes
    floored = heights.copy()
    is_below = (floored < 0) & (floored != VOID_INT16)
    floored[is_below] = 0
    notes.append(f"{int(is_below.sum())} negative heights, down to {lowest_m:.0f} m, are set to 0, land among them too")
    return (
        ElevationGrid(floored, grid.north_deg, grid.west_deg, grid.latitude_step_deg, grid.longitude_step_deg),
        notes,
    )


def _overlaps(stores: Stores, grid: ElevationGrid, tile: TerrainTile, others: Sequence[TerrainTile]) -> list[str]:
    """Say where equally fine tiles have other heights at the same place."""
    notes = []
    for other in others:
        ratio = other.latitude_step_deg / tile.latitude_step_deg
        bounds = tile.south_deg, tile.west_deg, tile.north_deg, tile.east_deg
        if not (1 / SAME_RESOLUTION < ratio < SAME_RESOLUTION and other.overlaps(*bounds)):
            continue
        try:
            there = ground_of([other.sha256], stores.objects).terrain
        except TerrainMissingError as error:
            notes.append(str(error))
            continue
        assert there is not None
        latitudes, longitudes = np.meshgrid(
            np.linspace(tile.south_deg, tile.north_deg, _PROBES), np.linspace(tile.west_deg, tile.east_deg, _PROBES)
        )
        ours = Terrain([grid]).known_heights_m(latitudes.ravel(), longitudes.ravel())
        apart_m = np.abs(ours - there.known_heights_m(latitudes.ravel(), longitudes.ravel()))
        if np.any(apart_m > _SAME_M):
            notes.append(
                f"overlaps {other.file_name} ({other.sha256[:12]}), whose heights differ by up to "
                f"{np.nanmax(apart_m):.0f} m: of equally fine tiles the newest is used, this one"
            )
    return notes
