"""`heimdall terrain`: the ground that scenes stand on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli import terrain_pictures
from heimdall_pipelines.cli.console import output, table
from heimdall_pipelines.cli.environment import stores

if TYPE_CHECKING:
    from heimdall_pipelines.rf.receivers import BoundingBox
    from heimdall_pipelines.store.stores import Stores
    from heimdall_pipelines.terrain.adding import AddedTile

app = typer.Typer(help="Terrain: heights of the ground that scenes stand on.", no_args_is_help=True)
app.command("profile")(terrain_pictures.profile)
app.command("coverage")(terrain_pictures.coverage)

_SHOWN_SHA256 = 12


@app.command("add")
def add(
    files: Annotated[list[Path] | None, typer.Argument(help="SRTM .hgt or GeoTIFF files of heights")] = None,
    source: Annotated[str | None, typer.Option(help="Where the heights come from; default: SRTM, or the name")] = None,
    licence: Annotated[str | None, typer.Option(help="What may be done with them")] = None,
    sea_floor: Annotated[
        bool, typer.Option("--sea-floor", help="The files have the sea floor: set negative heights to 0")
    ] = False,
    sea: Annotated[
        list[str] | None, typer.Option(help="S,W,N,E in degrees: an area without tile that is all sea; may be repeated")
    ] = None,
) -> None:
    """Add tiles from files; new datasets use the finest tiles, of equally fine ones the newest."""
    from heimdall_pipelines.terrain.adding import add_sea, add_terrain_file

    if not files and not sea:
        raise typer.BadParameter("files of heights or --sea S,W,N,E are expected")
    with stores() as opened:
        for path in files or ():
            _print_added(add_terrain_file(opened, path, source=source, licence=licence, sea_floor=sea_floor), path.name)
        for text in sea or ():
            _print_added(add_sea(opened, area_of(text)), f"sea {text}")


@app.command("list")
def list_() -> None:
    """Show all tiles in the order in which they are used, and the datasets that stand on them."""
    from heimdall_pipelines.store.terrain_tiles import datasets_using
    from heimdall_pipelines.terrain.choosing import known_tiles

    with stores() as opened:
        tiles = known_tiles(opened)
        users = datasets_using(opened.database, [tile.sha256 for tile in tiles])
    rows = table(
        "SHA-256", "file", "south", "west", "north", "east", "arc seconds", "MB", "datasets", "source, licence"
    )
    for tile in tiles:
        rows.add_row(
            tile.sha256[:_SHOWN_SHA256],
            tile.file_name,
            *(f"{degrees:.3f}" for degrees in (tile.south_deg, tile.west_deg, tile.north_deg, tile.east_deg)),
            f"{tile.resolution_arcsec:.3g}",
            f"{tile.size_bytes / 1e6:.1f}",
            str(len(users.get(tile.sha256, []))),
            f"{tile.source}; {tile.licence}",
        )
    output.print(rows)


@app.command("download")
def download(
    area: Annotated[str | None, typer.Option(help="S,W,N,E in degrees")] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of a dataset, whose area is meant")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask, whatever the size")] = False,
) -> None:
    """Download Copernicus GLO-30 (1 arc second) of an area; an interrupted download goes on where it was."""
    from heimdall_pipelines.cli.confirming import confirm_cost
    from heimdall_pipelines.terrain.downloading import MAX_TILES, MEAN_TILE_BYTES, download_terrain, tile_names

    if (area is None) == (dataset is None):
        raise typer.BadParameter("either --area S,W,N,E or --dataset NAME is expected")
    with stores() as opened:
        wanted = area_of(area) if area is not None else _area_of_dataset(opened, dataset or "")
        names = tile_names(wanted)
        if len(names) > MAX_TILES and not yes:
            confirm_cost(f"{len(names)} tiles, about {len(names) * MEAN_TILE_BYTES / 1e9:.0f} GB to download and store")
        for tile in download_terrain(opened, wanted, lambda line: output.print(line)):
            if tile.added is None:
                output.print(f"{tile.name}: was there already")
            elif tile.is_sea:
                output.print(f"{tile.name}: the server has no such tile, it is all sea")
            else:
                _print_added(tile.added, tile.name)
    output.print("new datasets in this area use them; existing ones keep the terrain that they were created with")


@app.command("remove")
def remove(
    tile: Annotated[str, typer.Argument(help="Beginning of the tile's SHA-256, see: heimdall terrain list")],
    force: Annotated[bool, typer.Option("--force", help="Also if datasets stand on it")] = False,
) -> None:
    """Remove a tile from the S3 store."""
    from heimdall_pipelines.terrain.adding import find_by_prefix, remove_terrain_tile

    with stores() as opened:
        found = find_by_prefix(opened, tile)
        names = remove_terrain_tile(opened, found, force=force)
    output.print(f"removed: terrain tile {found.sha256[:_SHOWN_SHA256]} ({found.file_name})")
    if names:
        output.print(f"without it these cannot be expanded, checked or regenerated: {', '.join(names)}")


def area_of(text: str) -> BoundingBox:
    """Read S,W,N,E in degrees; east may be beyond 180."""
    from heimdall_pipelines.rf.receivers import BoundingBox

    try:
        south, west, north, east = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text}: S,W,N,E in degrees is expected, such as 44,7,46,10") from None
    if not (-90 <= south < north <= 90 and -180 <= west < east <= west + 360):
        raise typer.BadParameter(f"{text}: south must be below north and west below east, within -90 to 90 degrees")
    return BoundingBox(south=south, north=north, west=west, east=east)


def _area_of_dataset(opened: Stores, name: str) -> BoundingBox:
    from heimdall_pipelines.rf.receivers import bounding_box
    from heimdall_pipelines.store.datasets import get_dataset

    dataset = get_dataset(opened.database, name)
    return bounding_box(dataset.receivers, dataset.spec.area_margin_deg)


def _print_added(added: AddedTile, name: str) -> None:
    tile = added.tile
    what = "added" if added.is_new else "was there already"
    output.print(
        f"{name}: {what}, {tile.num_rows} x {tile.num_columns} heights of {tile.resolution_arcsec:.3g} arc seconds, "
        f"{tile.south_deg:.3f} to {tile.north_deg:.3f} N, {tile.west_deg:.3f} to {tile.east_deg:.3f} E, "
        f"SHA-256 {tile.sha256[:_SHOWN_SHA256]}"
    )
    for note in added.notes:
        output.print(f"  - {note}")
