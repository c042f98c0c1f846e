"""The door to every recording file: `open_recording` finds the reader by the file's suffix and returns one shape."""

import os
from pathlib import Path

from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording
from heimdall_pipelines.formats.kiwi_wav import open_kiwi_wav
from heimdall_pipelines.formats.npy import open_npy
from heimdall_pipelines.formats.raw_files import open_raw
from heimdall_pipelines.formats.samples import RecordingFormatError
from heimdall_pipelines.formats.sigmf_files import open_sigmf

__all__ = ["IqRecording", "RecordingFormatError", "open_recording"]

_RAW_SUFFIXES = (".bin", ".raw", ".iq", ".cf32")
_DESCRIBED_SUFFIXES = (".wav", ".sigmf-meta", ".sigmf-data", ".npy")


def open_recording(
    path: str | os.PathLike[str],
    *,
    sample_rate_hz: float | None = None,
    frequency_hz: float | None = None,
    start_time_unix_ns: int | None = None,
    raw_format: str | None = None,
) -> IqRecording:
    """Read what a recording says about itself; its samples are read later, by `IqRecording.blocks`.

    Parameters
    ----------
    path : str | os.PathLike[str]
        KiwiSDR .wav; SigMF .sigmf-meta or .sigmf-data; .npy; headerless .bin, .raw, .iq or .cf32.
    sample_rate_hz, frequency_hz, start_time_unix_ns : optional
        Complete or override what the file says. For a KiwiSDR file with GNSS time stamps the start only tells the
        GPS week: the stamps then give the time.
    raw_format : str, optional
        "cf32", "ci16" or "cu8" for headerless files, by default "cf32"; with it any other suffix is read as
        headerless, too.

    Returns
    -------
    IqRecording
        Complete; the header has been checked against the file's length.

    Raises
    ------
    RecordingFormatError
        If the file is missing, unreadable, damaged or not understood, or if a value is missing that neither the file
        nor the arguments say: the message names the option that supplies it.
    ValueError
        If `raw_format` is unknown.
    """
    file = Path(path)
    given = GivenValues(sample_rate_hz, frequency_hz, start_time_unix_ns)
    suffix = file.suffix.lower()
    if raw_format is not None and suffix in _DESCRIBED_SUFFIXES:
        raise RecordingFormatError(file, f"a {suffix} file says how its samples are stored: give no raw format")
    if suffix == ".wav":
        return open_kiwi_wav(file, given)
    if suffix in (".sigmf-meta", ".sigmf-data"):
        return open_sigmf(file, given)
    if suffix == ".npy":
        return open_npy(file, given)
    if suffix in _RAW_SUFFIXES or raw_format is not None:
        return open_raw(file, given, raw_format or "cf32")
    raise RecordingFormatError(
        file,
        f"{suffix or 'no suffix'} is not understood; understood are .wav (KiwiSDR), .sigmf-meta and .sigmf-data, "
        f".npy, and headerless {', '.join(_RAW_SUFFIXES)}",
    )
