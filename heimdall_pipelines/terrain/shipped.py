"""The grid that the package ships: the default network's area at 30 arc seconds, so that nothing is downloaded."""

import hashlib
from functools import cache
from pathlib import Path

from heimdall_pipelines.formats.terrain_tile import map_tile
from heimdall_pipelines.rf.terrain import Terrain

SHIPPED_TILE = Path(__file__).with_name("globe-30s-43-47N-5.5-11E.tile")


@cache
def shipped_sha256() -> str:
    """SHA-256 of the shipped tile, under which datasets name it."""
    return hashlib.sha256(SHIPPED_TILE.read_bytes()).hexdigest()


@cache
def shipped_terrain() -> Terrain:
    """The shipped grid alone as a ground.

    Examples
    --------
    Milano, and Monte Rosa, whose summit of 4634 m a grid of a kilometre does not have:

    >>> shipped_terrain().heights_m([45.46, 45.937], [9.19, 7.867]).round(-1)
    array([ 120., 4320.])
    """
    return Terrain([map_tile(SHIPPED_TILE)])
