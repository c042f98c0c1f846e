"""`heimdall session calibrate`: delays of stations from a session of a known source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.arguments import Bandwidth, FromSecond, Session, Trust, UntilSecond
from heimdall_pipelines.cli.console import output, show_progress, table, time_text
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.cli.option_values import utc_time, width_hz

if TYPE_CHECKING:
    from heimdall_pipelines.sessions.calibrating import Calibration


def calibrate(
    session: Session,
    exclude: Annotated[list[str] | None, typer.Option(help="Station not to calibrate; may be repeated")] = None,
    trust: Trust = None,
    bandwidth: Bandwidth = None,
    from_: FromSecond = None,
    until: UntilSecond = None,
    valid_from: Annotated[
        str | None, typer.Option(help="UTC from which sessions use the delays; default: the session's start")
    ] = None,
    valid_to: Annotated[str | None, typer.Option(help="UTC until which sessions use them; default: no end")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the delays, and keep nothing")] = False,
) -> None:
    """Solve each station's delay from a session of a transmitter of known position, and keep it.

    `heimdall session locate` subtracts the delays that hold at a session's time. Nothing is overwritten; see
    `heimdall station delays`.
    """
    from heimdall_pipelines.sessions.calibrating import CalibrationOptions, calibrate_session

    options = CalibrationOptions(
        exclude=exclude or (),
        trusted=trust or (),
        bandwidth_hz=width_hz(bandwidth, "--bandwidth"),
        from_s=from_,
        until_s=until,
        valid_from=utc_time(valid_from, "--valid-from"),
        valid_to=utc_time(valid_to, "--valid-to"),
        is_kept=not dry_run,
    )
    with stores() as opened:
        found = calibrate_session(opened, session, options, show_progress)
    _print(found, is_kept=not dry_run)


def _print(found: Calibration, *, is_kept: bool) -> None:
    rows = table("station", "delay, us", "uncertainty, us")
    for delay in found.delays:
        rows.add_row(delay.rx_id, f"{delay.delay_us:+.2f}", f"{delay.uncertainty_us:.2f}")
    output.print(rows)
    output.print(f"relative to the mean of these stations, from {found.source.name}")
    for note in found.notes:
        output.print(f"  - {note}")
    for rx_id, reason in found.left_out.items():
        output.print(f"  - {rx_id} is left out: {reason}")
    for earlier, _, apart_us, std_us in found.contradicted:
        output.print(
            f"  - {earlier.rx_id}: delay {earlier.id} kept from {earlier.session_slug} ({earlier.delay_us:+.2f} us) "
            f"is contradicted by {apart_us:+.2f} us, uncertain by {std_us:.2f} us; if it is wrong: "
            f"heimdall station delays --withdraw {earlier.id}"
        )
    if not is_kept:
        output.print("nothing was kept (--dry-run)")
        return
    first = found.delays[0]
    end = "without end" if first.valid_to is None else f"until {time_text(first.valid_to)} UTC"
    output.print(f"kept for sessions from {time_text(first.valid_from)} UTC on, {end}; see: heimdall station delays")
