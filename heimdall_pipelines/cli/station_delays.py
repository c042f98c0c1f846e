"""`heimdall station delays` and `station clocks`: what is known of the stations' clocks."""

from __future__ import annotations

from typing import Annotated

import typer

from heimdall_pipelines.cli.console import output, table, time_text
from heimdall_pipelines.cli.environment import stores


def delays(
    withdraw: Annotated[
        int | None, typer.Option(help="Number of a delay: it and the others of its calibration are used no more")
    ] = None,
) -> None:
    """Show the delays of stations that calibrations gave, or withdraw those of one calibration.

    Delays are never changed or deleted: a newer calibration is added with `heimdall session calibrate`.
    """
    from heimdall_pipelines.store.station_delays import list_delays, withdraw_delays

    with stores() as opened:
        if withdraw is not None:
            gone = withdraw_delays(opened.database, withdraw)
            names = ", ".join(f"{delay.rx_id} ({delay.id})" for delay in gone)
            output.print(f"withdrawn: {names}, of the calibration by {gone[0].session_slug}")
            return
        found = list_delays(opened.database)
    if not found:
        output.print("no station was calibrated; see: heimdall session calibrate --help")
        return
    rows = table(
        "number", "station", "delay, us", "uncertainty, us", "valid from, UTC", "to", "session", "source", "state"
    )
    for delay in found:
        rows.add_row(
            str(delay.id),
            delay.rx_id,
            f"{delay.delay_us:+.2f}",
            f"{delay.uncertainty_us:.2f}",
            time_text(delay.valid_from),
            time_text(delay.valid_to),
            delay.session_slug,
            delay.known_source,
            "" if delay.withdrawn_at is None else f"withdrawn {delay.withdrawn_at:%Y-%m-%d}",
        )
    output.print(rows)


def clocks(
    sessions: Annotated[int, typer.Option(help="Number of sessions to use, the latest", min=1, max=1000)] = 200,
) -> None:
    """Name stations whose delay differs from the others', from the time differences of many sessions.

    The transmitters' positions need not be known. Sessions must have been located by the daemon or by `heimdall session
    extract`, and received by four stations, or by three if their source is known. Exit code 1: a station differs.
    """
    from heimdall_pipelines.sessions.clock_estimates import MIN_EMISSIONS, differing, station_clocks

    with stores() as opened:
        estimates = station_clocks(opened, limit=sessions)
    if not estimates:
        output.print("no session has time differences that say anything of the clocks")
        return
    different = differing(estimates)
    rows = table("station", "delay, us", "std, us", "sessions", "result")
    for rx_id, estimate in estimates.items():
        if rx_id in different:
            result = "differs"
        elif estimate.num_emissions < MIN_EMISSIONS:
            result = f"too few sessions: {MIN_EMISSIONS} are needed"
        else:
            result = "agrees"
        rows.add_row(rx_id, f"{estimate.delay_us:+.2f}", f"{estimate.std_us:.2f}", str(estimate.num_emissions), result)
    output.print(rows)
    output.print("relative to the mean of all stations, beyond what calibrations gave")
    if different:
        raise typer.Exit(1)
