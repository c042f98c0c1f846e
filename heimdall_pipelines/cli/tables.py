"""Tables that several commands show."""

from uuid import UUID

from heimdall_pipelines.cli.console import output, table
from heimdall_pipelines.sessions.importing import ImportReport
from heimdall_pipelines.sessions.notes import station_notes
from heimdall_pipelines.store.features import stations_in_session
from heimdall_pipelines.store.stores import Stores


def print_import(report: ImportReport) -> None:
    """Say what was imported, or that it was there."""
    if not report.is_new:
        output.print(f"already imported: session {report.session_id} ({report.name}); nothing changed")
        return
    rows = table("station", "samples", "sample rate, Hz", "clock", "level")
    for recording in report.recordings:
        clock = recording.time_source
        if recording.time_uncertainty_ns is not None:
            clock += f", {recording.time_uncertainty_ns:.0f} ns rms"
        level = f"{recording.full_scale_dbm:g} dBm at full scale" if recording.is_calibrated else "uncalibrated"
        rows.add_row(
            recording.station.rx_id,
            f"{recording.samples_count}",
            f"{recording.sample_rate_hz:.4f}",
            clock,
            level,
        )
    output.print(rows)
    output.print(f"imported: session {report.session_id} ({report.name})")


def print_stations(stores: Stores, session_id: UUID) -> None:
    """Show what the rows of a session say of each station."""
    rows = table("station", "segments", "signal present", "SNR, dB", "level, dBm", "frequency offset, Hz")
    stations = stations_in_session(stores.database, session_id)
    for station in stations:
        rows.add_row(
            station.rx_id,
            str(station.num_segments),
            str(station.num_present),
            _number(station.snr_db, 1),
            _number(station.rssi_dbm, 1),
            _number(station.frequency_offset_hz, 3),
        )
    output.print(rows)
    for note in station_notes(stations):
        output.print(f"  - {note}", soft_wrap=True)


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
