"""`heimdall station`: the receiver network."""

from typing import Annotated

import typer

from heimdall_pipelines.cli.console import output, table
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.stations.network import load_network, sync_network
from heimdall_pipelines.store.stations import Station, add_station, list_stations, set_station_active

app = typer.Typer(help="The receiver network.", no_args_is_help=True)

RxId = Annotated[str, typer.Argument(help="The station's slug, such as torino")]


@app.command("list")
def list_() -> None:
    """Show all stations."""
    with stores() as opened:
        sync_network(opened.database, load_network())
        stations = list_stations(opened.database)
    rows = table(
        "rx_id", "name", "latitude", "longitude", "altitude, m", "api_type", "frequencies, MHz", "active", "url"
    )
    for station in stations:
        ranges = ", ".join(f"{low / 1e6:g}-{high / 1e6:g}" for low, high in station.frequency_ranges_hz) or "any"
        rows.add_row(
            station.rx_id,
            station.name,
            f"{station.latitude:.4f}",
            f"{station.longitude:.4f}",
            f"{station.altitude_m:g}",
            station.api_type,
            ranges,
            "yes" if station.is_active else "no",
            station.url or "",
        )
    output.print(rows)


@app.command("add")
def add(
    rx_id: RxId,
    latitude: Annotated[float, typer.Option(help="WGS84, degrees north")],
    longitude: Annotated[float, typer.Option(help="WGS84, degrees east")],
    altitude_m: Annotated[float, typer.Option(help="Antenna height above sea level, m")] = 0.0,
    name: Annotated[str | None, typer.Option(help="Name for people; default: the slug")] = None,
    url: Annotated[str | None, typer.Option(help="http, https, ws or wss address")] = None,
    api_type: Annotated[str, typer.Option(help="kiwisdr, http_iq or none")] = "none",
    frequency_range: Annotated[
        list[str] | None, typer.Option(help="Range that it receives, LOW-HIGH in MHz; may be repeated")
    ] = None,
    full_scale_dbm: Annotated[
        float | None, typer.Option(help="Power of a full-scale sample; default: uncalibrated")
    ] = None,
) -> None:
    """Add a station."""
    station = Station(
        rx_id=rx_id,
        name=name or rx_id,
        latitude=latitude,
        longitude=longitude,
        altitude_m=altitude_m,
        url=url,
        api_type=api_type,
        frequency_ranges_hz=tuple(_range_hz(text) for text in frequency_range or ()),
        full_scale_dbm=full_scale_dbm,
    )
    with stores() as opened:
        add_station(opened.database, station)
    output.print(f"station {rx_id} added")


@app.command("disable")
def disable(rx_id: RxId) -> None:
    """Ask a station for no more recordings; its data stay."""
    _set_active(rx_id, False)


@app.command("enable")
def enable(rx_id: RxId) -> None:
    """Ask a station for recordings again."""
    _set_active(rx_id, True)


def _set_active(rx_id: str, is_active: bool) -> None:
    with stores() as opened:
        set_station_active(opened.database, rx_id, is_active)
    output.print(f"station {rx_id} is {'active' if is_active else 'inactive'}")


def _range_hz(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        return float(low) * 1e6, float(high) * 1e6
    except ValueError:
        raise typer.BadParameter(f"--frequency-range {text}: LOW-HIGH in MHz is expected, such as 144-146") from None
