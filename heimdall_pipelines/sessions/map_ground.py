"""The ground under maps of sessions: terrain of the tiles that the stores have, or that the package ships."""

from heimdall_pipelines.report_page import MapArea
from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.rf.terrain import Terrain
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.terrain.cache import TerrainMissingError
from heimdall_pipelines.terrain.choosing import choose_ground


def terrain_of(stores: Stores, area: MapArea) -> Terrain | None:
    """Terrain of an area, or of a part of it; None where there is none: a map does without it."""
    box = BoundingBox(south=area.south, north=area.north, west=area.west, east=area.east)
    try:
        return choose_ground(stores, box, partly=True).ground.terrain
    except TerrainMissingError:
        return None
