"""The ground that scenes stand on: tiles as files of this machine, which every process maps for itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from heimdall_pipelines.formats.terrain_tile import map_tile
from heimdall_pipelines.rf.terrain import Terrain
from heimdall_pipelines.store.objects import ObjectStore
from heimdall_pipelines.terrain.cache import TerrainMissingError, cached_tile


@dataclass(frozen=True)
class Ground:
    """Tiles of a ground; small to pickle.

    Attributes
    ----------
    files : tuple of Path
        The finest first, of equally fine ones that which wins. None: a smooth Earth.
    """

    files: tuple[Path, ...] = ()

    @property
    def terrain(self) -> Terrain | None:
        """The ground, mapped once in a process; None for a smooth Earth."""
        return _mapped(self.files) if self.files else None


SMOOTH_EARTH = Ground()


def ground_of(sha256s: Sequence[str], objects: ObjectStore | None) -> Ground:
    """Have tiles on this machine.

    Parameters
    ----------
    sha256s : sequence of str
        In the order in which they are used.
    objects : ObjectStore or None
        Where tiles that this machine does not have are fetched from.

    Raises
    ------
    TerrainMissingError
        A tile is missing or damaged.
    ObjectsUnavailableError
        The S3 store could not be reached.
    """
    return Ground(tuple(cached_tile(sha256, objects) for sha256 in sha256s))


def terrain_if_there(sha256s: Sequence[str], objects: ObjectStore | None) -> Terrain | None:
    """The terrain of tiles for a picture, which does without it if a tile is gone."""
    try:
        return ground_of(sha256s, objects).terrain
    except TerrainMissingError:
        return None


@lru_cache(maxsize=16)
def _mapped(files: tuple[Path, ...]) -> Terrain:
    return Terrain([map_tile(file) for file in files])
