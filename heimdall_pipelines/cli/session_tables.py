"""What several commands print of sessions."""

from uuid import UUID

from heimdall_pipelines.cli.console import number_text, output, table
from heimdall_pipelines.sessions.importing import ImportReport
from heimdall_pipelines.sessions.notes import station_notes
from heimdall_pipelines.store.session_features import stations_in_session
from heimdall_pipelines.store.stores import Stores


def print_import(report: ImportReport) -> None:
    """Print what was imported, or that it already exists."""
    if not report.is_new:
        already = f"already imported: session {report.slug} ({report.name}); nothing changed"
        output.print(already)
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
    output.print(f"imported: session {report.slug} ({report.name})")


def print_stations(stores: Stores, session_id: UUID) -> None:
    """Print each station's features from the rows of a session."""
    rows = table(
        "station",
        "segments",
        "signal present",
        "SNR, dB",
        "C/N0, dB-Hz",
        "signal strength, dBm",
        "frequency offset, Hz",
    )
    stations = stations_in_session(stores.database, session_id)
    for station in stations:
        rows.add_row(
            station.rx_id,
            str(station.num_segments),
            str(station.num_present),
            number_text(station.snr_db, 1),
            number_text(station.cn0_dbhz, 1),
            number_text(station.signal_strength_dbm, 1),
            number_text(station.frequency_offset_hz, 3),
        )
    output.print(rows)
    for note in station_notes(stations):
        output.print(f"  - {note}")
