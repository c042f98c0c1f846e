"""The ground under stations, and whether their altitudes fit it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heimdall_pipelines.store.stations import Station
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.terrain.altitudes import AltitudeMisfit, altitude_misfits
from heimdall_pipelines.terrain.choosing import known_tiles
from heimdall_pipelines.terrain.ground import ground_of

_AROUND_DEG = 0.01


@dataclass(frozen=True)
class GroundOfStations:
    """What terrain says of stations.

    Attributes
    ----------
    ground_m : dict of str to float
        Height of the ground at each station's coordinates; stations without terrain are left out.
    misfits : list of AltitudeMisfit
    """

    ground_m: dict[str, float]
    misfits: list[AltitudeMisfit]


def look_at_ground(stores: Stores, stations: Sequence[Station]) -> GroundOfStations:
    """Look at the ground under stations, in the finest tiles there.

    Raises
    ------
    TerrainMissingError, ObjectsUnavailableError
        A tile is missing, or cannot be read from the object store.
    """
    boxes = [
        (at.latitude - _AROUND_DEG, at.longitude - _AROUND_DEG, at.latitude + _AROUND_DEG, at.longitude + _AROUND_DEG)
        for at in stations
    ]
    tiles = [tile.sha256 for tile in known_tiles(stores) if any(tile.overlaps(*box) for box in boxes)]
    terrain = ground_of(tiles, stores.objects).terrain
    if terrain is None:
        return GroundOfStations({}, [])
    heights_m = terrain.known_heights_m([at.latitude for at in stations], [at.longitude for at in stations]).tolist()
    ground_m = {
        at.rx_id: height_m for at, height_m in zip(stations, heights_m, strict=True) if not math.isnan(height_m)
    }
    return GroundOfStations(ground_m, altitude_misfits(stations, terrain))
