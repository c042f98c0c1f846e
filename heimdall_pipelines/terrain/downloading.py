"""Download tiles of Copernicus GLO-30 from its public bucket; an interrupted download goes on where it was."""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.settings import load_local_settings
from heimdall_pipelines.store.objects import ObjectEntry, ObjectNotFoundError
from heimdall_pipelines.store.public_bucket import PublicBucket
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.store.terrain_tiles import list_tiles
from heimdall_pipelines.terrain.adding import AddedTile, add_sea, add_terrain_file
from heimdall_pipelines.terrain.cache import terrain_folder
from heimdall_pipelines.throttle import Throttle

SOURCE = "Copernicus DEM GLO-30"
SEA_SOURCE = "Copernicus DEM GLO-30: no tile, all sea"
LICENCE = (
    "Copernicus DEM licence: free for any use, with the notice (c) DLR e.V. 2010-2014 and (c) Airbus Defence and Space "
    "GmbH 2014-2018 provided under COPERNICUS by the European Union and ESA; all rights reserved"
)
MEAN_TILE_BYTES = 40e6
MAX_TILES = 64  # without being asked
_PART_BYTES = 8 * 2**20
_MD5 = re.compile(r"[0-9a-f]{32}")


class DownloadError(HeimdallError):
    """A download was refused, or what came is not what the server has."""


@dataclass(frozen=True)
class DownloadedTile:
    """A degree of latitude and longitude after its download."""

    name: str
    num_bytes: int
    added: AddedTile | None
    is_sea: bool = False


def tile_names(area: BoundingBox) -> list[tuple[str, int, int]]:
    """Tiles of GLO-30 that an area needs: names, and latitude and longitude of their south-west corners.

    >>> tile_names(BoundingBox(44.9, 45.1, 7.2, 7.9))[0]
    ('Copernicus_DSM_COG_10_N44_00_E007_00_DEM', 44, 7)
    """
    found = []
    for south in range(math.floor(area.south), min(math.ceil(area.north), 90)):
        for west in range(math.floor(area.west), math.ceil(area.east)):
            east = (west + 180) % 360 - 180
            latitude = f"{'N' if south >= 0 else 'S'}{abs(south):02d}_00"
            longitude = f"{'E' if east >= 0 else 'W'}{abs(east):03d}_00"
            found.append((f"Copernicus_DSM_COG_10_{latitude}_{longitude}_DEM", south, east))
    return found


def download_terrain(
    stores: Stores, area: BoundingBox, progress: Callable[[str], None] = lambda _: None
) -> Iterator[DownloadedTile]:
    """Download the tiles of an area and add them; those that are there already are not downloaded again.

    Parameters
    ----------
    stores : Stores
    area : BoundingBox
    progress : callable, optional
        Called with a line every few seconds.

    Yields
    ------
    DownloadedTile

    Raises
    ------
    DownloadError
        What came is not what the server has.
    ObjectsUnavailableError
        The server could not be reached; the same command goes on where it was.
    """
    settings = load_local_settings()
    bucket = PublicBucket(settings.terrain_endpoint, settings.terrain_bucket)
    known = {tile.file_name for tile in list_tiles(stores.database)}
    names = tile_names(area)
    throttle = Throttle(3.0)
    for number, (name, south, west) in enumerate(names):
        if f"{name}.tif" in known:
            yield DownloadedTile(name, 0, None)
            continue
        try:
            entry = bucket.entry(f"{name}/{name}.tif")
        except ObjectNotFoundError:
            added = add_sea(stores, BoundingBox(south, south + 1, west, west + 1), SEA_SOURCE, LICENCE)
            yield DownloadedTile(name, 0, added, is_sea=True)
            continue

        def told(num_bytes: int, number: int = number, entry: ObjectEntry = entry) -> None:
            if throttle.is_due():
                progress(f"tile {number + 1} of {len(names)}: {num_bytes / 1e6:.0f} of {entry.size_bytes / 1e6:.0f} MB")

        path = _fetched(bucket, entry, terrain_folder() / "downloads" / f"{name}.tif", told)
        added = add_terrain_file(stores, path, source=SOURCE, licence=LICENCE)
        path.unlink()
        yield DownloadedTile(name, entry.size_bytes, added)


def _fetched(bucket: PublicBucket, entry: ObjectEntry, path: Path, progress: Callable[[int], None]) -> Path:
    """Fetch an object to a file; a part that is there already, of the same object, is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{hashlib.sha256(entry.etag.encode()).hexdigest()[:16]}.part")
    with part.open("ab") as file:
        begin = file.tell()
        if begin > entry.size_bytes:
            file.truncate(0)
            begin = 0
        for offset in range(begin, entry.size_bytes, _PART_BYTES):
            wanted = min(_PART_BYTES, entry.size_bytes - offset)
            got = bucket.read(entry.key, offset, wanted)
            if len(got) != wanted:
                raise DownloadError(
                    f"{entry.key}: {len(got)} bytes came instead of {wanted}: run the same command again"
                )
            file.write(got)
            file.flush()
            progress(offset + wanted)
    # The ETag of an object that was put in one part is its MD5; of others only the length is known.
    if _MD5.fullmatch(entry.etag):
        with part.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != entry.etag:
            part.unlink()
            raise DownloadError(f"{entry.key} was damaged on its way, its checksum differs: run the same command again")
    part.replace(path)
    return path
