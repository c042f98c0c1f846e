"""`heimdall session record`: a session from live receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.console import errors, number_text, output, show_progress, table
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.cli.exits import EXIT_INTERRUPTED
from heimdall_pipelines.cli.option_values import frequency_hz as parsed_frequency_hz
from heimdall_pipelines.cli.option_values import optional_frequency_hz
from heimdall_pipelines.model.receiver_kind import kinds_text
from heimdall_pipelines.sessions.limits import MAX_DURATION_S, MAX_STATIONS

if TYPE_CHECKING:
    from heimdall_pipelines.sessions.recording import RecordReport
    from heimdall_pipelines.store.measurements import StationRecording

_EMPTY = ("",) * 6  # cells of a station without a recording


def record(
    frequency: Annotated[str, typer.Option(help="Centre: 77.5kHz, 145.5MHz, 77500")],
    duration: Annotated[float, typer.Option(help=f"Duration, s; at most {MAX_DURATION_S:g}")] = 10.0,
    stations: Annotated[str | None, typer.Option(help="Slugs of the stations, separated by commas")] = None,
    all_active: Annotated[
        bool, typer.Option("--all-active", help=f"Every active station that has a client (api_type {kinds_text()})")
    ] = False,
    known_source: Annotated[str | None, typer.Option(help="Name of the transmitter, such as DCF77")] = None,
    bandwidth: Annotated[str | None, typer.Option(help="Width of the channel; default 12.5kHz")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the session; default: frequency and time")] = None,
    slug: Annotated[
        str | None,
        typer.Option(help="Slug of the session; a number is appended if it is taken; default: start, frequency, name"),
    ] = None,
    manual_gain_db: Annotated[
        float | None,
        typer.Option(help="Fixed gain of KiwiSDRs, 0 to 120; default: automatic, with uncalibrated levels"),
    ] = None,
    max_stations: Annotated[int, typer.Option(help="Maximum number of stations")] = MAX_STATIONS,
) -> None:
    """Record the same frequency at several stations in parallel, as one session.

    Exit code 0: completed, but some stations may have failed; 1: no station could be recorded.
    """
    from heimdall_pipelines.sessions.record_request import RecordRequest
    from heimdall_pipelines.sessions.recording import record_session
    from heimdall_pipelines.stations.network import load_network, sync_network

    if (stations is None) != all_active:
        raise typer.BadParameter("either --stations a,b,c or --all-active is expected")
    request = RecordRequest(
        frequency_hz=parsed_frequency_hz(frequency),
        duration_s=duration,
        rx_ids=None if stations is None else tuple(filter(None, (rx_id.strip() for rx_id in stations.split(",")))),
        known_source=known_source,
        bandwidth_hz=optional_frequency_hz(bandwidth, "--bandwidth"),
        name=name,
        slug=slug,
        manual_gain_db=manual_gain_db,
        max_stations=max_stations,
    )
    with stores() as opened:
        sync_network(opened.database, load_network())
        try:
            report = record_session(opened, request, show_progress)
        except KeyboardInterrupt:
            errors.print("Interrupted: the session is closed as failed; its objects are removed.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    print_recording(report)
    if report.status != "completed":
        raise typer.Exit(1)
    output.print(
        "The daemon (heimdall dev) extracts its features; "
        f"to extract them in this process: heimdall session extract {report.slug}"
    )


def print_recording(report: RecordReport) -> None:
    """Print the result of each station, and of the session."""
    rows = table(
        "station", "samples", "sample rate, Hz", "clock", "SNR, dB", "C/N0, dB-Hz", "signal strength, dBm", "remarks"
    )
    for recording in report.recordings:
        rows.add_row(recording.station.rx_id, *_cells(recording))
    for rx_id, reason in report.skipped:
        rows.add_row(rx_id, *_EMPTY, f"skipped: {reason}")
    output.print(rows)
    if report.status == "completed":
        output.print(f"recorded: session {report.slug} ({report.name})")
    else:
        output.print(f"failed: session {report.slug} ({report.name}): {report.error_message}")


def _cells(recording: StationRecording) -> tuple[str, ...]:
    if recording.error_message is not None:
        return *_EMPTY, f"failed: {recording.error_message}"
    clock = recording.time_source
    if recording.time_uncertainty_ns is not None:
        clock += f", {_duration(recording.time_uncertainty_ns)}"
    return (
        str(recording.samples_count),
        f"{recording.sample_rate_hz:.4f}",
        clock,
        number_text(recording.snr_db, 1),
        number_text(recording.cn0_dbhz, 1),
        number_text(recording.signal_strength_dbm, 1),
        recording.note or "",
    )


def _duration(nanoseconds: float) -> str:
    return f"{nanoseconds:.0f} ns" if nanoseconds < 1e5 else f"{nanoseconds / 1e6:.1f} ms"
