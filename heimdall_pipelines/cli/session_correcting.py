"""`heimdall session correct` and `session export`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from heimdall_pipelines.cli.arguments import Session
from heimdall_pipelines.cli.console import output, show_progress
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.cli.option_values import frequency_hz, level_dbm, optional_frequency_hz, start_unix_ns

Value = TypeVar("Value")
_OF_A_STATION = "STATION=value, or a value for all stations"


def correct(
    session: Session,
    frequency: Annotated[str | None, typer.Option(help="Centre, such as 145.5MHz")] = None,
    bandwidth: Annotated[str | None, typer.Option(help="Width of the channel, such as 12.5kHz")] = None,
    start: Annotated[list[str] | None, typer.Option(help=f"UTC of the first sample; {_OF_A_STATION}")] = None,
    sample_rate: Annotated[list[str] | None, typer.Option(help=f"Such as 48kHz; {_OF_A_STATION}")] = None,
    full_scale_dbm: Annotated[
        list[str] | None, typer.Option(help=f"Power of a sample of amplitude 1, dBm; {_OF_A_STATION}")
    ] = None,
    passband: Annotated[list[str] | None, typer.Option(help=f"Passband of the filter; {_OF_A_STATION}")] = None,
    clock: Annotated[
        list[str] | None,
        typer.Option(help=f"Class and uncertainty of the clock: gnss:200ns, ntp:2ms or file:5us; {_OF_A_STATION}"),
    ] = None,
) -> None:
    """Correct what was said of a session when it was imported: metadata only, its samples stay.

    The session gets a new revision, whose features the daemon (`heimdall dev`) extracts again.
    """
    from heimdall_pipelines.model.clock import stated_clock
    from heimdall_pipelines.sessions.correcting import Correction, correct_session
    from heimdall_pipelines.store.measurements import list_recordings
    from heimdall_pipelines.store.sessions import get_session

    with stores() as opened:
        found = get_session(opened.database, session)
        rx_ids = [recording.station.rx_id for recording in list_recordings(opened.database, found.id)]
        correction = Correction(
            frequency_hz=optional_frequency_hz(frequency, "--frequency"),
            bandwidth_hz=optional_frequency_hz(bandwidth, "--bandwidth"),
            start_time_unix_ns=_by_station("--start", start, rx_ids, start_unix_ns),
            sample_rate_hz=_by_station(
                "--sample-rate", sample_rate, rx_ids, lambda text: frequency_hz(text, "--sample-rate")
            ),
            full_scale_dbm=_by_station(
                "--full-scale-dbm", full_scale_dbm, rx_ids, lambda text: level_dbm(text, "--full-scale-dbm")
            ),
            passband_hz=_by_station("--passband", passband, rx_ids, lambda text: frequency_hz(text, "--passband")),
            clock=_by_station("--clock", clock, rx_ids, stated_clock),
        )
        report = correct_session(opened, session, correction)
    if not report.changes:
        output.print(f"session {report.slug} has these values already; nothing changed")
        return
    for change in report.changes:
        output.print(change)
    output.print(
        f"corrected: session {report.slug}, revision {report.revision}; the daemon (heimdall dev) extracts its "
        f"features again; to extract them in this process: heimdall session extract {report.slug}"
    )


def export(
    sessions: Annotated[list[str], typer.Argument(help="Slugs or ids, see: heimdall session list", metavar="SESSION")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder; nothing in it is overwritten")] = Path(),
    archive: Annotated[
        bool, typer.Option("--archive", help="One .sigmf archive per station instead of pairs of files")
    ] = False,
    format_: Annotated[
        str,
        typer.Option("--format", help="sigmf: recordings; parquet: features, as datasets are exported, of any number"),
    ] = "sigmf",
    licence: Annotated[
        str | None, typer.Option(help="Of an export as parquet: identifier such as CC-BY-4.0, or a text file")
    ] = None,
) -> None:
    """Write a session's recordings as SigMF, with everything that the imported files said.

    Each station is a pair of RX_ID.sigmf-data and RX_ID.sigmf-meta; a .sigmf-collection lists them. With --format
    parquet the features of one or more sessions are written, with card, Croissant metadata and checksums.
    """
    from heimdall_pipelines.sessions.exporting import export_session

    if format_ not in ("sigmf", "parquet"):
        raise typer.BadParameter(f"--format {format_}: sigmf or parquet is expected")
    if format_ == "parquet":
        if archive:
            raise typer.BadParameter("--archive cannot be combined with --format parquet")
        _export_features(sessions, out, licence)
        return
    if len(sessions) != 1 or licence is not None:
        raise typer.BadParameter("several sessions, and --licence, need --format parquet")
    with stores() as opened:
        report = export_session(opened, sessions[0], out, as_archive=archive, progress=show_progress)
    for path in report.files:
        output.print(str(path))
    for rx_id in report.without_samples:
        output.print(f"{rx_id}: nothing was recorded")


def _export_features(sessions: Sequence[str], out: Path, licence: str | None) -> None:
    from heimdall_pipelines.releases import require_pyarrow

    require_pyarrow()
    from heimdall_pipelines.releases.session_exports import export_sessions

    with stores() as opened:
        report = export_sessions(opened, sessions, out, licence=licence, progress=show_progress)
    output.print(
        f"exported: {len(report.description.sessions)} sessions, {report.description.num_samples} segments to {out}, "
        f"{report.size_bytes / 1e6:.1f} MB"
    )


def _by_station(
    option: str, texts: Sequence[str] | None, rx_ids: Sequence[str], parse: Callable[[str], Value]
) -> dict[str, Value]:
    """Read ``STATION=value``, or one value for all stations; each station once."""
    found: dict[str, Value] = {}
    for text in texts or []:
        rx_id, separator, value = text.rpartition("=")
        for named in [rx_id] if separator else rx_ids:
            if named in found:
                raise typer.BadParameter(f"{option} is given twice for {named}")
            found[named] = parse(value)
    return found
