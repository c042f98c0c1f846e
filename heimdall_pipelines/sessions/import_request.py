"""What is to be imported: files with the values given for each, and values for all of them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.file_formats import format_of
from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording
from heimdall_pipelines.formats.recording import open_recording
from heimdall_pipelines.formats.utc import iso_from_unix_ns
from heimdall_pipelines.rf.features import MIN_CHANNEL_BINS
from heimdall_pipelines.rf.segments import CHUNK_NS

MIN_BANDWIDTH_HZ = MIN_CHANNEL_BINS / (CHUNK_NS / 1e9)
_RATE_TOLERANCE = 1e-3  # a nominal rate beside the true one


class ImportRefusedError(HeimdallError):
    """The files cannot be imported as a session; the message says which file and what to do. Nothing was stored."""


@dataclass(frozen=True)
class ImportFile:
    """A recording file and the values given for it alone, which override those of the file; None: its own value."""

    path: Path
    rx_id: str | None = None
    position: tuple[float, float, float] | None = None
    sample_rate_hz: float | None = None
    frequency_hz: float | None = None
    start_time_unix_ns: int | None = None
    raw_format: str | None = None
    full_scale_dbm: float | None = None


@dataclass(frozen=True)
class ImportOptions:
    """Values given for all files; rate, frequency, start and raw format hold for files that do not state them.

    Recordings of more than twice `channel_hz` are decimated to it.
    """

    name: str | None = None
    slug: str | None = None
    known_source: str | None = None
    bandwidth_hz: float | None = None
    passband_hz: float | None = None
    channel_hz: float | None = None
    sample_rate_hz: float | None = None
    frequency_hz: float | None = None
    start_time_unix_ns: int | None = None
    raw_format: str | None = None
    full_scale_dbm: float | None = None


def open_files(files: Sequence[ImportFile], options: ImportOptions) -> tuple[list[IqRecording], list[str]]:
    """Open the files with the values given for each.

    Returns
    -------
    recordings, notes : list of IqRecording, list of str
        The notes say what was not as it should be in a file, and which value for all files a file did not need.

    Raises
    ------
    RecordingFormatError, ImportRefusedError
        A file cannot be read, or a value that was given holds for no file.
    """
    if not files:
        raise ImportRefusedError("no file to import was given")
    recordings = [_open(file, options) for file in files]
    notes = [f"{recording.path.name}: {note}" for recording in recordings for note in recording.notes]
    return recordings, notes + _unneeded_values(files, recordings, options)


def _open(file: ImportFile, options: ImportOptions) -> IqRecording:
    return open_recording(
        file.path,
        sample_rate_hz=file.sample_rate_hz,
        frequency_hz=file.frequency_hz,
        start_time_unix_ns=file.start_time_unix_ns,
        raw_format=file.raw_format or (options.raw_format if _may_need_raw_format(file.path) else None),
        otherwise=GivenValues(options.sample_rate_hz, options.frequency_hz, options.start_time_unix_ns),
    )


def _may_need_raw_format(path: Path) -> bool:
    file_format = format_of(path)
    return file_format is None or file_format.is_headerless


def _unneeded_values(
    files: Sequence[ImportFile], recordings: Sequence[IqRecording], options: ImportOptions
) -> list[str]:
    """Say which files state another value than the one given for all; refuse a value that holds for no file."""
    notes = []
    for option, given, unit, values in (
        ("--sample-rate", options.sample_rate_hz, " Hz", [recording.sample_rate_hz for recording in recordings]),
        ("--frequency", options.frequency_hz, " Hz", [recording.frequency_hz for recording in recordings]),
        ("--start", options.start_time_unix_ns, "", [_start(recording) for recording in recordings]),
    ):
        if given is None:
            continue
        others = {
            recording.path.name: value
            for recording, value in zip(recordings, values, strict=True)
            if value is not None and not _is_same(option, value, given)
        }
        listed = ", ".join(f"{name} has {_text(option, value)}{unit}" for name, value in others.items())
        override = f"to override it: {option} FILE={_text(option, given)}"
        if len(others) == len(files):
            raise ImportRefusedError(f"{option} {_text(option, given)} holds for no file: {listed} itself; {override}")
        if others:
            notes.append(f"{option} is not used where the file states it: {listed}; {override}")
    if options.raw_format is not None and not any(_may_need_raw_format(file.path) for file in files):
        raise ImportRefusedError(
            f"--raw-format {options.raw_format} holds for no file: each says itself how its samples are stored"
        )
    return notes


def _start(recording: IqRecording) -> int | None:
    """The start that the file states; None where a start that is given does no more than determine the GPS week."""
    return None if recording.time_source == "gnss" else recording.start_time_unix_ns


def _is_same(option: str, value: float, given: float) -> bool:
    if option == "--start":
        return abs(value - given) < 1_000_000_000 and (value == given or abs(value - given) < 1_000)
    if option == "--sample-rate":
        return abs(value - given) <= _RATE_TOLERANCE * given
    return abs(value - given) <= 1.0


def _text(option: str, value: float) -> str:
    return iso_from_unix_ns(int(value)) if option == "--start" else f"{value:.12g}"


def content_digest(parts: Iterable[tuple[str, int, str]]) -> str:
    """Digest by which an import finds its session: of rx_id, start in ns and SHA-256 of each station."""
    lines = sorted(f"{rx_id} {start_ns} {sha256}" for rx_id, start_ns, sha256 in parts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
