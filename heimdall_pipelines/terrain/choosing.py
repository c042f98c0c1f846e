"""Choose the tiles for an area: the finest that are known, the shipped grid where there is nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.terrain_tile import read_tile_header
from heimdall_pipelines.model.terrain_tile import TerrainTile
from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.store.terrain_tiles import list_tiles
from heimdall_pipelines.terrain.ground import Ground, ground_of
from heimdall_pipelines.terrain.shipped import SHIPPED_TILE, shipped_sha256

_PROBES = 120  # on each side of an area
_LEAST_PAD_DEG = 0.01


class TerrainGapError(HeimdallError):
    """Terrain covers a part of an area only."""


@dataclass(frozen=True)
class ChosenGround:
    """Tiles for an area.

    Attributes
    ----------
    tiles : tuple of TerrainTile
        The finest first; none for a smooth Earth.
    ground : Ground
    note : str
        What was chosen, in words.
    """

    tiles: tuple[TerrainTile, ...]
    ground: Ground
    note: str


def shipped_tile() -> TerrainTile:
    """The grid of the package as a tile."""
    header = read_tile_header(SHIPPED_TILE)
    return TerrainTile(
        sha256=shipped_sha256(),
        **{
            name: getattr(header, name)
            for name in ("north_deg", "west_deg", "latitude_step_deg", "longitude_step_deg", "num_rows", "num_columns")
        },
        source=header.source,
        licence=header.licence,
        file_name=SHIPPED_TILE.name,
        file_sha256=shipped_sha256(),
        size_bytes=SHIPPED_TILE.stat().st_size,
        added_at=datetime(1970, 1, 1, tzinfo=UTC),  # older than any other
    )


def known_tiles(stores: Stores) -> list[TerrainTile]:
    """All tiles in the order in which they are used, with that of the package."""
    tiles = [*list_tiles(stores.database), shipped_tile()]
    return sorted(tiles, key=lambda tile: round(tile.latitude_step_deg, 7))


def choose_ground(stores: Stores, area: BoundingBox, *, partly: bool = False) -> ChosenGround:
    """Choose the ground for links within an area.

    Parameters
    ----------
    stores : Stores
    area : BoundingBox
        Of transmitters and receivers. Geodesics between them leave it a little towards the pole.
    partly : bool
        Whether tiles may cover a part of it only.

    Returns
    -------
    ChosenGround
        Without tiles, a smooth Earth, if no tile covers any of the area.

    Raises
    ------
    TerrainGapError
        Tiles cover a part of the area only, which is not allowed; the message has a place, and what to do.
    TerrainMissingError, ObjectsUnavailableError
        A tile cannot be had.
    """
    padded = _padded(area)
    bounds = padded.south, padded.west, padded.north, padded.east
    tiles = [tile for tile in known_tiles(stores) if tile.overlaps(*bounds)]
    download = f"heimdall terrain download --area {_area_text(padded)}"
    smooth = ChosenGround(
        (),
        Ground(),
        f"no terrain covers the area ({_area_text(area)}): scenes are over a smooth Earth. For real ground: {download}",
    )
    if not tiles:
        return smooth
    ground = ground_of([tile.sha256 for tile in tiles], stores.objects)
    assert ground.terrain is not None
    latitudes, longitudes = np.meshgrid(
        np.linspace(padded.south, padded.north, _PROBES), np.linspace(padded.west, padded.east, _PROBES), indexing="ij"
    )
    is_missing = np.isnan(ground.terrain.known_heights_m(latitudes.ravel(), longitudes.ravel()))
    if is_missing.all():
        return smooth
    if is_missing.any() and not partly:
        first = int(np.argmax(is_missing))
        raise TerrainGapError(
            f"terrain covers {1 - is_missing.mean():.0%} of the area ({_area_text(padded)}); for example there is none "
            f"at latitude {latitudes.ravel()[first]:.3f}, longitude {longitudes.ravel()[first]:.3f}. Get the rest: "
            f"{download}; say that it is sea: heimdall terrain add --sea S,W,N,E; or do without: --terrain none"
        )
    return ChosenGround(tuple(tiles), ground, _note(tiles))


def _padded(area: BoundingBox) -> BoundingBox:
    """Enlarge an area by what geodesics between its points leave it."""
    latitude = max(abs(area.south), abs(area.north))
    length = math.radians(area.east - area.west) * math.cos(math.radians(min(latitude, 89.0)))
    bulge_deg = math.degrees(length**2 / 8 * math.tan(math.radians(min(latitude, 80.0))))
    pad_deg = _LEAST_PAD_DEG + bulge_deg
    return BoundingBox(
        south=max(area.south - pad_deg, -90.0),
        north=min(area.north + pad_deg, 90.0),
        west=area.west - _LEAST_PAD_DEG,
        east=area.east + _LEAST_PAD_DEG,
    )


def _area_text(area: BoundingBox) -> str:
    return ",".join(f"{degrees:.2f}" for degrees in (area.south, area.west, area.north, area.east))


def _note(tiles: Sequence[TerrainTile]) -> str:
    by_kind: dict[tuple[float, str], int] = {}
    for tile in tiles:
        kind = (round(tile.resolution_arcsec, 2), tile.source)
        by_kind[kind] = by_kind.get(kind, 0) + 1
    return "terrain: " + "; ".join(
        f"{number} tile{'s' if number > 1 else ''} of {resolution:g} arc seconds, {source}"
        for (resolution, source), number in sorted(by_kind.items())
    )
