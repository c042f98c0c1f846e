"""`open_recording` opens a recording file of any format in `heimdall_pipelines.formats.file_formats`."""

import os
from pathlib import Path

from heimdall_pipelines.formats.file_formats import (
    RAW_FORMAT_ALIASES,
    RAW_FORMATS,
    format_of,
    headerless_format,
    suffixes_text,
)
from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording
from heimdall_pipelines.formats.samples import RecordingFormatError

__all__ = ["IqRecording", "RecordingFormatError", "open_recording"]


def open_recording(
    path: str | os.PathLike[str],
    *,
    sample_rate_hz: float | None = None,
    frequency_hz: float | None = None,
    start_time_unix_ns: int | None = None,
    raw_format: str | None = None,
    otherwise: GivenValues | None = None,
) -> IqRecording:
    """Open a recording and read its metadata; its samples are read later, by `IqRecording.blocks`.

    Parameters
    ----------
    path : str | os.PathLike[str]
        Its suffix chooses the reader.
    sample_rate_hz, frequency_hz, start_time_unix_ns : optional
        Override the values of the file. For a KiwiSDR file with GNSS time stamps the start only determines
        the GPS week: the stamps then give the time.
    raw_format : str, optional
        One of `RAW_FORMATS` for headerless files, by default the one that the suffix implies; with it an unknown suffix
        is read as headerless, too.
    otherwise : GivenValues, optional
        Values for what the file does not state itself.

    Returns
    -------
    IqRecording
        With all metadata; the header has been checked against the file's length.

    Raises
    ------
    RecordingFormatError
        If the file is missing, unreadable, damaged or of unknown format, or if a value is missing in both the file
        and the arguments: the message names the option that supplies it.
    ValueError
        If `raw_format` is unknown.
    """
    file = Path(path)
    file_format = format_of(file)
    if raw_format is not None:
        raw_format = RAW_FORMAT_ALIASES.get(raw_format, raw_format)
        if raw_format not in RAW_FORMATS:
            raise ValueError(f"raw format {raw_format!r} is not one of {', '.join(RAW_FORMATS)}")
        if file_format is not None and not file_format.is_headerless:
            suffix = file.suffix.lower()
            raise RecordingFormatError(file, f"a {suffix} file says how its samples are stored: give no raw format")
        file_format = headerless_format()
    if file_format is None:
        found = file.suffix or "a name without suffix"
        raise RecordingFormatError(
            file,
            f"{found} is not a known format; known are {suffixes_text()}; "
            "for samples without header give --raw-format, see heimdall session inspect",
        )
    given = GivenValues(sample_rate_hz, frequency_hz, start_time_unix_ns, otherwise)
    return file_format.reader(file, given, raw_format)
