"""Files of tiles on this machine: each is fetched from the S3 store when it is first needed, and its hash checked."""

import hashlib
import tempfile
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.settings import load_local_settings
from heimdall_pipelines.store.objects import ObjectNotFoundError, ObjectStore
from heimdall_pipelines.store.terrain_tiles import tile_location
from heimdall_pipelines.terrain.shipped import SHIPPED_TILE, shipped_sha256

_PART_BYTES = 16 * 2**20


class TerrainMissingError(UnavailableError):
    """A tile that is needed is neither on this machine nor in the S3 store; nothing was compared or made without it."""


class TerrainFolderError(HeimdallError):
    """The folder of cached tiles cannot be written."""


def terrain_folder() -> Path:
    """Folder of this machine's tiles: that of the settings, or the first of the usual ones that can be written."""
    settings = load_local_settings()
    wanted = settings.terrain_folder or settings.home / "terrain"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        probe = wanted / f".{uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        if settings.terrain_folder is not None:
            raise TerrainFolderError(
                f"{wanted} cannot be written: {error.strerror or error}; see HEIMDALL_TERRAIN_FOLDER"
            ) from error
        wanted = Path(tempfile.gettempdir()) / "heimdall-terrain"
        wanted.mkdir(parents=True, exist_ok=True)
    return wanted.resolve()


def cached_tile(sha256: str, objects: ObjectStore | None) -> Path:
    """File of a tile on this machine.

    Parameters
    ----------
    sha256 : str
    objects : ObjectStore or None
        Where a tile that this machine does not have is fetched from.

    Raises
    ------
    TerrainMissingError
        There is no such tile, or the stored one is damaged; the message has the command that adds it.
    ObjectsUnavailableError
        The S3 store could not be reached.
    """
    if sha256 == shipped_sha256():
        return SHIPPED_TILE
    path = terrain_folder() / f"{sha256}.tile"
    if path.is_file() and is_whole(path, sha256):
        return path
    if objects is None:
        raise _missing(sha256, "is not on this machine")
    _fetch(objects, sha256, path)
    return path


def is_whole(path: Path, sha256: str) -> bool:
    """Whether a file has a hash; read once, and again if it was changed."""
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns) == sha256


@lru_cache(maxsize=1024)
def _digest(path: Path, _size: int, _modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(objects: ObjectStore, sha256: str, path: Path) -> None:
    location = tile_location(objects, sha256)
    draft = path.with_name(f".{sha256}.{uuid4().hex}")
    digest = hashlib.sha256()
    try:
        size = objects.size_bytes(location)
        with draft.open("wb") as file:
            for offset in range(0, size, _PART_BYTES):
                part = objects.read(location, offset, _PART_BYTES)
                digest.update(part)
                file.write(part)
        if digest.hexdigest() != sha256:
            raise _missing(sha256, f"is damaged in the S3 store ({location}): its bytes have another hash")
        draft.replace(path)
    except ObjectNotFoundError as error:
        raise _missing(sha256, f"is not in the S3 store ({location})") from error
    finally:
        draft.unlink(missing_ok=True)


def _missing(sha256: str, why: str) -> TerrainMissingError:
    return TerrainMissingError(
        f"terrain tile {sha256} {why}: add the same file again with heimdall terrain add FILE, or fetch it with "
        "heimdall terrain download --dataset NAME"
    )
