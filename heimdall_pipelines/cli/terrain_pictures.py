"""`heimdall terrain profile` and `heimdall terrain coverage`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.arguments import Folder
from heimdall_pipelines.cli.confirming import confirm_cost
from heimdall_pipelines.cli.console import output, table
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.cli.files import write_file
from heimdall_pipelines.cli.option_values import frequency_hz as parse_frequency
from heimdall_pipelines.errors import HeimdallError

if TYPE_CHECKING:
    from heimdall_pipelines.rf.receivers import BoundingBox
    from heimdall_pipelines.rf.terrain import Terrain
    from heimdall_pipelines.store.stores import Stores
    from heimdall_pipelines.terrain.link_profile import LinkEnd

_ROWS = 20

Frequency = Annotated[str, typer.Option(help="Carrier frequency, such as 145MHz")]


class NoTerrainError(HeimdallError):
    """No terrain covers what is to be drawn."""


def profile(
    tx: Annotated[str, typer.Argument(help="LATITUDE,LONGITUDE or a station's slug")],
    rx: Annotated[str, typer.Argument(help="LATITUDE,LONGITUDE or a station's slug")],
    frequency: Frequency = "145MHz",
    tx_mast: Annotated[
        float | None, typer.Option(help="Antenna above ground, m; default: the station's, else 2")
    ] = None,
    rx_mast: Annotated[
        float | None, typer.Option(help="Antenna above ground, m; default: the station's, else 10")
    ] = None,
    folder: Folder = Path(),
) -> None:
    """Show a link over the ground: heights, Earth's bulge, first Fresnel zone and loss, as a table and a PNG."""
    from heimdall_pipelines.rf.receiver_site import ReceiverSite
    from heimdall_pipelines.rf.receivers import bounding_box
    from heimdall_pipelines.terrain.link_profile import link_profile
    from heimdall_pipelines.terrain.pictures import png_of, profile_figure

    frequency_hz = parse_frequency(frequency)
    with stores() as opened:
        ends = [_end(opened, tx, tx_mast, 2.0), _end(opened, rx, rx_mast, 10.0)]
        sites = [ReceiverSite(end.name, end.latitude, end.longitude, 0.0) for end in ends]
        link = link_profile(_terrain(opened, bounding_box(sites, 0.01)), ends[0], ends[1], frequency_hz)
    rows = table("distance, km", "ground, m", "bulge, m", "ray, m", "clearance, m", "of the first Fresnel zone")
    shown = sorted({round(k * (link.distances_m.size - 1) / _ROWS) for k in range(_ROWS + 1)})
    for at in shown:
        fresnel_m = float(link.fresnel_m[at])
        rows.add_row(
            f"{link.distances_m[at] / 1e3:.2f}",
            f"{link.ground_m[at]:.0f}",
            f"{link.bulge_m[at]:.0f}",
            f"{link.ray_m[at]:.0f}",
            f"{link.clearance_m[at]:.0f}",
            f"{link.clearance_m[at] / fresnel_m:.1f}" if fresnel_m > 0 else "",
        )
    output.print(rows)
    output.print(
        f"{link.tx.name} to {link.rx.name}, {link.distances_m[-1] / 1e3:.1f} km at {frequency_hz / 1e6:g} MHz: loss "
        f"{link.loss_db:.1f} dB, free space {link.free_space_db:.1f} dB, diffraction {link.diffraction_db:.1f} dB, "
        f"{'line of sight' if link.is_line_of_sight else 'no line of sight'}"
    )
    write_file(folder / f"profile-{_slug(link.tx)}-{_slug(link.rx)}.png", png_of(profile_figure(link)))


def coverage(
    station: Annotated[str, typer.Argument(help="A station's slug or LATITUDE,LONGITUDE")],
    frequency: Frequency = "145MHz",
    power: Annotated[float, typer.Option(help="Power into the antenna, dBm")] = 37.0,
    mast: Annotated[float | None, typer.Option(help="Antenna above ground, m; default: the station's, else 10")] = None,
    radius_km: Annotated[float, typer.Option(min=0.1, max=1000, help="Half the side of the square area, km")] = 50.0,
    cell_m: Annotated[float, typer.Option(min=10, max=10_000, help="Side of a cell, m")] = 500.0,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask, whatever it costs")] = False,
    folder: Folder = Path(),
) -> None:
    """Compute the level of a station over an area, or of the area's transmitters at it, as PNG and GeoTIFF."""
    from heimdall_pipelines.formats.geotiff import write_geotiff
    from heimdall_pipelines.rf.receiver_site import ReceiverSite
    from heimdall_pipelines.rf.receivers import bounding_box
    from heimdall_pipelines.terrain.coverage import MAX_CELLS, CoverageRequest, compute_coverage
    from heimdall_pipelines.terrain.pictures import coverage_figure, png_of

    frequency_hz = parse_frequency(frequency)
    with stores() as opened:
        end = _end(opened, station, mast, 10.0)
        request = CoverageRequest(end.latitude, end.longitude, frequency_hz, power, end.mast_m, radius_km * 1e3, cell_m)
        if request.num_cells > MAX_CELLS and not yes:
            confirm_cost(f"{request.num_cells} cells, about {max(request.estimated_s / 60, 1):.0f} minutes")
        site = ReceiverSite(end.name, end.latitude, end.longitude, 0.0)
        terrain = _terrain(opened, bounding_box([site], radius_km / 70.0), partly=True)
    covered = compute_coverage(terrain, request, lambda line: output.print(line))
    name = f"coverage-{_slug(end)}"
    write_file(folder / f"{name}.png", png_of(coverage_figure(covered, terrain, end.name)))
    step = (
        float(covered.latitudes[0] - covered.latitudes[1]),
        float(covered.longitudes[1] - covered.longitudes[0]),
    )
    path = folder / f"{name}.tif"
    write_geotiff(
        path, covered.level_dbm, north=float(covered.latitudes[0]), west=float(covered.longitudes[0]), step=step
    )
    output.print(f"written: {path}")
    for level_dbm in (-110, -100, -90):
        output.print(f"{level_dbm} dBm or more: {covered.share_above(level_dbm):.0%} of the area")
    output.print(f"line of sight: {covered.is_line_of_sight.mean():.0%} of the area")


def _end(opened: Stores, text: str, mast_m: float | None, default_mast_m: float) -> LinkEnd:
    """Read a place: a station, or latitude and longitude."""
    from heimdall_pipelines.stations.network import load_network, sync_network
    from heimdall_pipelines.store.stations import list_stations
    from heimdall_pipelines.terrain.link_profile import LinkEnd

    if "," in text:
        try:
            latitude, longitude = (float(part) for part in text.split(","))
        except ValueError:
            raise typer.BadParameter(f"{text}: LATITUDE,LONGITUDE in degrees is expected") from None
        if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
            raise typer.BadParameter(f"{text}: latitude is -90 to 90, longitude -180 to 180 degrees")
        found = LinkEnd(f"{latitude:g}, {longitude:g}", latitude, longitude, mast_m or default_mast_m)
    else:
        sync_network(opened.database, load_network())
        stations = {station.rx_id: station for station in list_stations(opened.database)}
        if text not in stations:
            raise typer.BadParameter(f"{text}: no such station, see: heimdall station list")
        station = stations[text]
        height_m = station.antenna_height_m if mast_m is None else mast_m
        found = LinkEnd(station.rx_id, station.latitude, station.longitude, height_m)
    if mast_m is not None and not mast_m > 0:
        raise typer.BadParameter(f"a mast of {mast_m} m: it must be above 0")
    return found


def _terrain(opened: Stores, area: BoundingBox, *, partly: bool = False) -> Terrain:
    from heimdall_pipelines.terrain.choosing import choose_ground

    chosen = choose_ground(opened, area, partly=partly)
    if chosen.ground.terrain is None:
        raise NoTerrainError(chosen.note)
    output.print(chosen.note)
    return chosen.ground.terrain


def _slug(end: LinkEnd) -> str:
    return end.name.replace(", ", "_").replace(".", "p")
