"""`heimdall station`: the receiver network."""

from typing import Annotated

import typer

from heimdall_pipelines.cli import station_delays, station_simulating
from heimdall_pipelines.cli.console import number_text, output, table
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.model.receiver_kind import ReceiverKind, kinds_text

app = typer.Typer(help="The receiver network.", no_args_is_help=True)
app.command("simulate")(station_simulating.simulate)
app.command("delays")(station_delays.delays)
app.command("clocks")(station_delays.clocks)

RxId = Annotated[str, typer.Argument(help="The station's slug, such as torino")]


@app.command("list")
def list_() -> None:
    """Show all stations."""
    from heimdall_pipelines.receivers.addresses import shown_url
    from heimdall_pipelines.stations.ground import look_at_ground
    from heimdall_pipelines.stations.network import load_network, sync_network
    from heimdall_pipelines.store.stations import list_stations

    with stores() as opened:
        sync_network(opened.database, load_network())
        stations = list_stations(opened.database)
        look = look_at_ground(opened, stations)
    rows = table(
        *("rx_id", "name", "latitude", "longitude", "altitude, m", "ground, m", "antenna, m"),
        *("api_type", "frequencies, MHz", "active", "url"),
    )
    for station in stations:
        ranges = ", ".join(f"{low / 1e6:g}-{high / 1e6:g}" for low, high in station.frequency_ranges_hz) or "any"
        rows.add_row(
            station.rx_id,
            station.name,
            f"{station.latitude:.4f}",
            f"{station.longitude:.4f}",
            f"{station.altitude_m:g}",
            number_text(look.ground_m.get(station.rx_id), 0),
            f"{station.antenna_height_m:g}",
            station.api_type,
            ranges,
            "yes" if station.is_active else "no",
            shown_url(station.url or ""),
        )
    output.print(rows)
    for misfit in look.misfits:
        output.print(f"  - {misfit}")


@app.command("add")
def add(
    rx_id: RxId,
    latitude: Annotated[float, typer.Option(help="WGS84, degrees north")],
    longitude: Annotated[float, typer.Option(help="WGS84, degrees east")],
    altitude_m: Annotated[float, typer.Option(help="Antenna height above sea level, m")] = 0.0,
    antenna_height_m: Annotated[float, typer.Option(help="Antenna height above the ground, m")] = 10.0,
    name: Annotated[str | None, typer.Option(help="Display name; default: the slug")] = None,
    url: Annotated[str | None, typer.Option(help="http, https, ws or wss address")] = None,
    api_type: Annotated[str, typer.Option(help=kinds_text(tuple(ReceiverKind)))] = "none",
    frequency_range: Annotated[
        list[str] | None, typer.Option(help="Received range, LOW-HIGH in MHz; may be repeated")
    ] = None,
    full_scale_dbm: Annotated[
        float | None, typer.Option(help="Power of a full-scale sample, dBm; default: uncalibrated")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Timeout of the station in recordings, s")] = 30.0,
    retries: Annotated[int, typer.Option(help="Number of retries after a failed attempt")] = 3,
) -> None:
    """Add a station."""
    from heimdall_pipelines.store.stations import Station, add_station

    station = Station(
        rx_id=rx_id,
        name=name or rx_id,
        latitude=latitude,
        longitude=longitude,
        altitude_m=altitude_m,
        antenna_height_m=antenna_height_m,
        url=url,
        api_type=api_type,
        frequency_ranges_hz=tuple(_range_hz(text) for text in frequency_range or ()),
        full_scale_dbm=full_scale_dbm,
        timeout_seconds=timeout,
        retry_count=retries,
    )
    station.check_as_new()
    with stores() as opened:
        add_station(opened.database, station)
    output.print(f"station {rx_id} added")


@app.command("check")
def check(
    rx_ids: Annotated[list[str] | None, typer.Argument(help="Slugs of stations, such as torino")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every active station that has a client")] = False,
) -> None:
    """Check whether stations are up, and store the results in the table station_checks. Exit code 1: one is down."""
    from heimdall_pipelines.stations.checking import check_stations

    if bool(rx_ids) == all_:
        raise typer.BadParameter("either slugs of stations or --all is expected")
    with stores() as opened:
        checks = check_stations(opened, None if all_ else rx_ids)
    if not checks:
        output.print(f"no station was checked: no active station has a client (api_type {kinds_text()})")
        return
    rows = table("rx_id", "up", "protocol", "latency, ms", "GNSS fix, s ago", "users", "software", "remarks")
    for answer in checks:
        users = "" if answer.num_users is None else str(answer.num_users)
        rows.add_row(
            answer.rx_id,
            "yes" if answer.is_up else "no",
            answer.api_type,
            number_text(answer.latency_ms, 1),
            number_text(answer.gnss_fix_age_s, 0),
            f"{users} of {answer.max_users}" if users and answer.max_users is not None else users,
            answer.software or "",
            answer.reason or "",
        )
    output.print(rows)
    if not all(answer.is_up for answer in checks):
        raise typer.Exit(1)


@app.command("disable")
def disable(rx_id: RxId) -> None:
    """Exclude a station from recordings and checks; its data are kept."""
    _set_active(rx_id, False)


@app.command("enable")
def enable(rx_id: RxId) -> None:
    """Include a station in recordings and checks again."""
    _set_active(rx_id, True)


def _set_active(rx_id: str, is_active: bool) -> None:
    from heimdall_pipelines.store.stations import set_station_active

    with stores() as opened:
        set_station_active(opened.database, rx_id, is_active)
    output.print(f"station {rx_id} is {'active' if is_active else 'inactive'}")


def _range_hz(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        return float(low) * 1e6, float(high) * 1e6
    except ValueError:
        raise typer.BadParameter(f"--frequency-range {text}: LOW-HIGH in MHz is expected, such as 144-146") from None
