"""`heimdall session locate`: the position of a session's transmitter, as tables and files for maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.arguments import Bandwidth, FromSecond, Session, Trust, UntilSecond
from heimdall_pipelines.cli.console import number_text, output, show_progress, table, time_text
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.cli.option_values import width_hz

if TYPE_CHECKING:
    from heimdall_pipelines.rf.positioning import Area
    from heimdall_pipelines.rf.terrain import Terrain
    from heimdall_pipelines.sessions.session_position import SessionPosition


def locate(
    session: Session,
    exclude: Annotated[list[str] | None, typer.Option(help="Station not to use; may be repeated")] = None,
    trust: Trust = None,
    area: Annotated[
        str | None, typer.Option(help="Where to search: SOUTH,WEST,NORTH,EAST in degrees; default: around the stations")
    ] = None,
    bandwidth: Bandwidth = None,
    from_: FromSecond = None,
    until: UntilSecond = None,
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Show the position without the delays of calibrations, too")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for position.geojson, position.kml, position.png")
    ] = None,
) -> None:
    """Locate a session's transmitter from the time differences between its stations.

    Stations without a clock that carries time differences are left out, with the reason.
    """
    from heimdall_pipelines.sessions.locating import locate_session
    from heimdall_pipelines.sessions.session_position import LocateOptions

    options = LocateOptions(
        exclude=exclude or (),
        trusted=trust or (),
        area=_area(area) if area else None,
        bandwidth_hz=width_hz(bandwidth, "--bandwidth"),
        from_s=from_,
        until_s=until,
    )
    with stores() as opened:
        found = locate_session(opened, session, options, show_progress)
        terrain = None
        if out is not None:
            from heimdall_pipelines.sessions.map_ground import terrain_of
            from heimdall_pipelines.sessions.position_picture import map_area

            terrain = terrain_of(opened, map_area(found))
    print_position(found)
    if uncalibrated:
        _print_uncalibrated(found)
    if out is not None:
        _write(found, out, terrain)


def _area(text: str) -> Area:
    from heimdall_pipelines.rf.positioning import Area, PositionError

    try:
        south, west, north, east = (float(part) for part in text.split(","))
        return Area(south, west, north, east)
    except (ValueError, PositionError) as error:
        said = str(error) if isinstance(error, PositionError) else "SOUTH,WEST,NORTH,EAST in degrees is expected"
        raise typer.BadParameter(f"--area {text}: {said}") from None


def print_position(position: SessionPosition) -> None:
    """Print time differences, residuals, and the position with what it rests on."""
    pairs = table("stations", "difference, us", "std, us", "1 s scatter, us", "peak", "blocks", "known source, us")
    for pair in position.pairs:
        pairs.add_row(
            f"{pair.rx_a} - {pair.rx_b}",
            number_text(pair.tdoa_us, 2),
            number_text(pair.std_us, 2),
            number_text(pair.scatter_us, 2),
            number_text(pair.peak, 2),
            str(pair.num_blocks),
            number_text(pair.expected_us, 2),
        )
    output.print(pairs)
    for pair in position.pairs:
        if pair.reason is not None:
            output.print(f"  - {pair.rx_a} - {pair.rx_b}: {pair.reason}")
    _print_stations(position)
    for rx_id, reason in position.left_out.items():
        output.print(f"  - {rx_id} is left out: {reason}")
    fix = position.fix
    if position.closure_us is not None:
        output.print(f"closure: the differences around a triangle of stations add up to {position.closure_us:.2f} us")
    if position.block_scatter_m is not None:
        output.print(f"scatter: single blocks of 1 s differ by {position.block_scatter_m:.0f} m in the median")
    output.print(
        f"position: {fix.latitude:.5f}, {fix.longitude:.5f}; ellipse of 95 %: {fix.ellipse.semi_major_m:.0f} x "
        f"{fix.ellipse.semi_minor_m:.0f} m, azimuth {fix.ellipse.azimuth_deg:.0f} degrees"
    )
    if len(fix.used) == 3:
        output.print("three stations: nothing is left to check the position by")
    if fix.second is not None:
        output.print(
            f"a second position explains the differences as well: {fix.second[0]:.5f}, {fix.second[1]:.5f}; "
            "--area decides between them"
        )
    if fix.is_at_edge:
        output.print("the position lies at the edge of the area searched; give a larger one: --area")
    if position.distance_to_source_km is not None:
        source = position.session.known_source
        assert source is not None
        km = position.distance_to_source_km
        away = f"{km:.2f} km" if km >= 1 else f"{km * 1e3:.0f} m"
        output.print(f"known source {source.name}: {away} away")


def _print_stations(position: SessionPosition) -> None:
    delays = {delay.rx_id: delay for delay in position.delays}
    stations = table("station", "residual, us", *(("delay subtracted, us",) if delays else ()))
    for rx_id, residual_us in position.fix.residuals_us.items():
        delay = delays.get(rx_id)
        known = "none is known" if delay is None else f"{delay.delay_us:+.2f} +- {delay.uncertainty_us:.2f}"
        stations.add_row(rx_id, number_text(residual_us, 2), *((known,) if delays else ()))
    output.print(stations)
    if position.delays:
        of = position.delays[0]
        output.print(
            f"delays are subtracted from the differences: calibrated by {of.session_slug} on {of.known_source}, valid "
            f"from {time_text(of.valid_from)} UTC"
        )


def _print_uncalibrated(position: SessionPosition) -> None:
    """Print the position without the delays of calibrations."""
    from heimdall_pipelines.rf.geodesy import distance_m

    fix, source = position.uncalibrated, position.session.known_source
    if fix is None:
        output.print("uncalibrated: the same position, since no calibration holds for these stations")
        return
    away = ""
    if source is not None:
        km = float(distance_m(fix.latitude, fix.longitude, source.latitude, source.longitude)) / 1e3
        away = f"; known source {source.name}: {km:.2f} km away"
    output.print(
        f"uncalibrated: {fix.latitude:.5f}, {fix.longitude:.5f}; ellipse of 95 %: {fix.ellipse.semi_major_m:.0f} x "
        f"{fix.ellipse.semi_minor_m:.0f} m{away}"
    )


def _write(position: SessionPosition, folder: Path, terrain: Terrain | None) -> None:
    from heimdall_pipelines.sessions.position_files import geojson, kml
    from heimdall_pipelines.sessions.position_picture import position_png

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "position.geojson").write_text(geojson(position), encoding="utf-8")
    (folder / "position.kml").write_text(kml(position), encoding="utf-8")
    written = ["position.geojson", "position.kml"]
    png = position_png(position, terrain)
    if png is not None:
        (folder / "position.png").write_bytes(png)
        written.append("position.png")
    output.print(f"written to {folder}: {', '.join(written)}")
