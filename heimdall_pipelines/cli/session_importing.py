"""`heimdall session import`: recording files as one session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

import typer

from heimdall_pipelines.cli.console import show_progress
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.cli.option_values import (
    frequency_hz,
    level_dbm,
    optional_frequency_hz,
    raw_format_name,
    start_unix_ns,
)
from heimdall_pipelines.formats.file_formats import RAW_FORMATS, names_of_formats

if TYPE_CHECKING:
    from heimdall_pipelines.sessions.importing import ImportFile, ImportOptions, ImportReport
    from heimdall_pipelines.store.stores import Stores

Value = TypeVar("Value")

_PER_FILE_OPTIONS = ("--sample-rate", "--frequency", "--start", "--raw-format", "--full-scale-dbm")
_PER_FILE = "for files that do not state it; FILE=value for one file, whatever it states"


def import_(
    files: Annotated[list[Path], typer.Argument(help=f"{names_of_formats()} files, one per station")],
    name: Annotated[list[str] | None, typer.Option(help="Name of the session; default: frequency and time")] = None,
    slug: Annotated[
        list[str] | None,
        typer.Option(help="Slug of the session; a number is appended if it is taken; default: start, frequency, name"),
    ] = None,
    station: Annotated[list[str] | None, typer.Option(help="FILE=rx_id: the station that recorded a file")] = None,
    position: Annotated[
        list[str] | None, typer.Option(help="FILE=latitude,longitude,altitude_m of an unknown station")
    ] = None,
    stations_file: Annotated[
        list[Path] | None, typer.Option(help="YAML file with positions of further receivers")
    ] = None,
    known_source: Annotated[list[str] | None, typer.Option(help="Name of the transmitter, such as DCF77")] = None,
    bandwidth: Annotated[list[str] | None, typer.Option(help="Width of the channel; default 12.5kHz")] = None,
    passband: Annotated[
        list[str] | None, typer.Option(help="Passband of the receivers' filters; default: found in the spectrum")
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(help="Decimate wider recordings to this width around the centre, such as 200kHz"),
    ] = None,
    sample_rate: Annotated[list[str] | None, typer.Option(help=f"Such as 48kHz, {_PER_FILE}")] = None,
    frequency: Annotated[list[str] | None, typer.Option(help=f"Centre, such as 145.5MHz, {_PER_FILE}")] = None,
    start: Annotated[
        list[str] | None, typer.Option(help=f"UTC of the first sample, 2026-01-31T12:00:00.123456789Z, {_PER_FILE}")
    ] = None,
    raw_format: Annotated[
        list[str] | None,
        typer.Option(help=f"How files without header store samples: {', '.join(RAW_FORMATS)}; or FILE=format"),
    ] = None,
    full_scale_dbm: Annotated[
        list[str] | None,
        typer.Option(help="Power of a sample of amplitude 1, dBm, or FILE=dBm; default: the station's calibration"),
    ] = None,
) -> None:
    """Import recordings of several stations as one completed session.

    The daemon (`heimdall dev`) then extracts its features; without a daemon: heimdall session extract.
    """
    from heimdall_pipelines.cli.session_tables import print_import
    from heimdall_pipelines.formats.sigmf_archive import expanded
    from heimdall_pipelines.sessions.importing import ImportFile, ImportOptions

    files = expanded(files)

    def read(option: str, texts: list[str] | None, parse: Callable[[str], Value]) -> _PerFile[Value]:
        return _per_file(option, texts or [], files, parse)

    rates = read("--sample-rate", sample_rate, lambda text: frequency_hz(text, "--sample-rate"))
    frequencies = read("--frequency", frequency, frequency_hz)
    starts = read("--start", start, start_unix_ns)
    raw_formats = read("--raw-format", raw_format, raw_format_name)
    levels = read("--full-scale-dbm", full_scale_dbm, lambda text: level_dbm(text, "--full-scale-dbm"))
    stations = _assigned("--station", station or [], files, str)
    positions = _assigned("--position", position or [], files, _position)
    options = ImportOptions(
        name=_once("--name", name),
        slug=_once("--slug", slug),
        known_source=_once("--known-source", known_source),
        bandwidth_hz=optional_frequency_hz(_once("--bandwidth", bandwidth), "--bandwidth"),
        passband_hz=optional_frequency_hz(_once("--passband", passband), "--passband"),
        channel_hz=optional_frequency_hz(_once("--channel", channel), "--channel"),
        sample_rate_hz=rates.for_all,
        frequency_hz=frequencies.for_all,
        start_time_unix_ns=starts.for_all,
        raw_format=raw_formats.for_all,
        full_scale_dbm=levels.for_all,
    )
    to_import = [
        ImportFile(
            path,
            rx_id=stations.get(path),
            position=positions.get(path),
            sample_rate_hz=rates.by_file.get(path),
            frequency_hz=frequencies.by_file.get(path),
            start_time_unix_ns=starts.by_file.get(path),
            raw_format=raw_formats.by_file.get(path),
            full_scale_dbm=levels.by_file.get(path),
        )
        for path in files
    ]
    with stores() as opened:
        report = import_files(opened, to_import, options, stations_file or [])
    print_import(report)


def import_files(
    opened: Stores, files: Sequence[ImportFile], options: ImportOptions, stations_files: Sequence[Path]
) -> ImportReport:
    """Import with the shipped network and the positions of further files."""
    from heimdall_pipelines.sessions.importing import import_session
    from heimdall_pipelines.stations.network import DEFAULT_FILE, load_network, sync_network

    network = load_network(DEFAULT_FILE, *stations_files)
    sync_network(opened.database, load_network())
    return import_session(opened, network, files, options, show_progress)


@dataclass(frozen=True)
class _PerFile(Generic[Value]):
    """Values of an option: those of single files, and the one for all others."""

    for_all: Value | None
    by_file: dict[Path, Value]


def _per_file(
    option: str, texts: Sequence[str], files: Sequence[Path], parse: Callable[[str], Value]
) -> _PerFile[Value]:
    """Read an option that takes ``value`` once and ``FILE=value`` once for each file."""
    of_files = [text for text in texts if "=" in text]
    for_all = _once(option, [text for text in texts if "=" not in text])
    return _PerFile(None if for_all is None else parse(for_all), _assigned(option, of_files, files, parse))


def _once(option: str, texts: Sequence[str] | None) -> str | None:
    """The value of an option that may be given once."""
    if texts and len(texts) > 1:
        per_file = "; give FILE=value for each file" if option in _PER_FILE_OPTIONS else ""
        raise typer.BadParameter(f"{option} is given {len(texts)} times: {', '.join(texts)}{per_file}")
    return texts[0] if texts else None


def _assigned(
    option: str, texts: Sequence[str], files: Sequence[Path], parse: Callable[[str], Value]
) -> dict[Path, Value]:
    """Read ``FILE=value`` options; each file at most once."""
    found: dict[Path, Value] = {}
    for text in texts:
        file, separator, value = text.rpartition("=")
        matching = [path for path in files if file in (str(path), path.name)]
        if not separator or not value or len(matching) != 1:
            raise typer.BadParameter(
                f"{option} {text}: FILE=… is expected; FILE is one of {', '.join(path.name for path in files)}"
            )
        if matching[0] in found:
            raise typer.BadParameter(f"{option} is given twice for {matching[0].name}")
        found[matching[0]] = parse(value)
    return found


def _position(text: str) -> tuple[float, float, float]:
    try:
        latitude, longitude, *altitude = (float(part) for part in text.split(","))
        (altitude_m,) = altitude or (0.0,)
    except ValueError:
        raise typer.BadParameter(f"--position …={text}: latitude,longitude,altitude_m is expected") from None
    return latitude, longitude, altitude_m
