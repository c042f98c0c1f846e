"""Rows of terrain_tiles, and the tiles themselves in the S3 store under their hash."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import TYPE_CHECKING

from heimdall_pipelines.model.terrain_tile import TerrainTile
from heimdall_pipelines.store.columns import columns_of, insert_sql
from heimdall_pipelines.store.objects import ObjectLocation, ObjectStore
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from collections.abc import Collection

    from heimdall_pipelines.store.reading import Reading
    from heimdall_pipelines.store.stores import Stores

_COLUMNS = columns_of(TerrainTile)
_GIVEN = [field.name for field in fields(TerrainTile) if field.name != "added_at"]
_CONTENT_TYPE = "application/octet-stream"


def list_tiles(database: Reading) -> list[TerrainTile]:
    """All tiles in the order in which they are used: the finest first, of equally fine ones the newest."""
    rows = database.read(
        f"SELECT {_COLUMNS} FROM heimdall.terrain_tiles"
        " ORDER BY round(latitude_step_deg::numeric, 7), added_at DESC, sha256"
    )
    return [TerrainTile(**row._asdict()) for row in rows]


def find_tile_of_file(database: Reading, file_sha256: str) -> TerrainTile | None:
    """The tile that was made from a file with this hash, None if there is none."""
    found = database.read(
        f"SELECT {_COLUMNS} FROM heimdall.terrain_tiles WHERE file_sha256 = %(sha256)s", {"sha256": file_sha256}
    )
    return TerrainTile(**found[0]._asdict()) if found else None


def add_tile(stores: Stores, tile: TerrainTile, content: bytes) -> bool:
    """Store a tile: the object first, then its row.

    Returns
    -------
    bool
        False if there was such a tile; its object is stored again, which repairs a damaged one.
    """
    stores.objects.put(
        tile_location(stores.objects, tile.sha256), io.BytesIO(content), len(content), content_type=_CONTENT_TYPE
    )
    with stores.database.transaction() as connection:
        added = connection.execute(
            text(f"{insert_sql('terrain_tiles', _GIVEN)} ON CONFLICT DO NOTHING RETURNING 1"), vars(tile)
        ).first()
    return added is not None


def remove_tile(stores: Stores, sha256: str) -> None:
    """Remove a tile: its row first, then its object."""
    with stores.database.transaction() as connection:
        connection.execute(text("DELETE FROM heimdall.terrain_tiles WHERE sha256 = :sha256"), {"sha256": sha256})
    location = tile_location(stores.objects, sha256)
    stores.objects.remove_keys(location.bucket, [location.key])


def datasets_using(database: Reading, sha256s: Collection[str]) -> dict[str, list[str]]:
    """Names of the datasets whose scenes stand on each of some tiles; tiles of none are left out."""
    rows = database.read(
        "SELECT tile, array_agg(name ORDER BY name) AS names FROM heimdall.synthetic_datasets,"
        " jsonb_array_elements_text(terrain_tiles) AS tile WHERE tile = ANY(%(sha256s)s) GROUP BY tile",
        {"sha256s": list(sha256s)},
    )
    return {row.tile: row.names for row in rows}


def tile_location(objects: ObjectStore, sha256: str) -> ObjectLocation:
    """Where a tile is stored."""
    return ObjectLocation(objects.synthetic_iq_bucket, f"terrain/{sha256}.tile")
