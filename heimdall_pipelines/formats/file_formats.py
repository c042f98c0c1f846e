"""The table of recording file formats: suffixes, reader, and the values in a file of each format.

The dispatch by suffix, the command line's help, the demonstration and the table in docs/recordings.md are made from it.
Importing this module loads no reader: each is imported when a file of its format is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording

RAW_FORMATS = (
    *("cf32", "cf64", "ci8", "cu8", "ci16", "cu16", "ci32"),
    *("cf32_be", "cf64_be", "ci16_be", "cu16_be", "ci32_be"),
)
RAW_FORMAT_ALIASES = {"cs8": "ci8", "cs16": "ci16", "cs32": "ci32", "fc32": "cf32", "fc64": "cf64", "complex64": "cf32"}
SUFFIX_RAW_FORMATS = {
    ".cf32": "cf32",
    ".cfile": "cf32",
    ".complex": "cf32",
    ".fc32": "cf32",
    ".cf64": "cf64",
    ".cu8": "cu8",
    ".cs8": "ci8",
    ".ci8": "ci8",
    ".cs16": "ci16",
    ".ci16": "ci16",
    ".cs32": "ci32",
    ".ci32": "ci32",
}
_RAW_SUFFIXES = (*SUFFIX_RAW_FORMATS, ".bin", ".raw", ".iq", ".dat", ".data")


@dataclass(frozen=True)
class FileFormat:
    """A format of recording files.

    Attributes
    ----------
    name : str
        Short, for the command line's help.
    suffixes : tuple of str
        Lower case, with their dot.
    description : str
        What is read, in Markdown.
    states : str
        The values that a file contains.
    options : str
        Options that must be given on the command line.
    reader : callable
        ``reader(path, given, raw_format)`` opens a file.
    is_headerless : bool
        The file holds only samples: ``raw_format`` says how they are stored.
    """

    name: str
    suffixes: tuple[str, ...]
    description: str
    states: str
    options: str
    reader: Callable[[Path, GivenValues, str | None], IqRecording]
    is_headerless: bool = False


def _open_wav(path: Path, given: GivenValues, raw_format: str | None) -> IqRecording:  # noqa: ARG001
    from heimdall_pipelines.formats.wav_files import open_wav

    return open_wav(path, given)


def _open_sigmf(path: Path, given: GivenValues, raw_format: str | None) -> IqRecording:  # noqa: ARG001
    from heimdall_pipelines.formats.samples import RecordingFormatError
    from heimdall_pipelines.formats.sigmf_archive import COLLECTION_SUFFIX, recordings_of_collection
    from heimdall_pipelines.formats.sigmf_files import open_sigmf

    if path.suffix.lower() == COLLECTION_SUFFIX:
        recordings = recordings_of_collection(path)
        if len(recordings) > 1:
            raise RecordingFormatError(path, f"holds {len(recordings)} recordings: name its .sigmf-meta files")
        path = recordings[0]
    return open_sigmf(path, given)


def _open_npy(path: Path, given: GivenValues, raw_format: str | None) -> IqRecording:  # noqa: ARG001
    from heimdall_pipelines.formats.npy import open_npy

    return open_npy(path, given)


def _open_sdriq(path: Path, given: GivenValues, raw_format: str | None) -> IqRecording:  # noqa: ARG001
    from heimdall_pipelines.formats.sdriq import open_sdriq

    return open_sdriq(path, given)


def _open_mat(path: Path, given: GivenValues, raw_format: str | None) -> IqRecording:  # noqa: ARG001
    from heimdall_pipelines.formats.matlab import open_mat

    return open_mat(path, given)


def _open_digital_rf(path: Path, given: GivenValues, raw_format: str | None) -> IqRecording:  # noqa: ARG001
    from heimdall_pipelines.formats.digital_rf_files import open_digital_rf

    return open_digital_rf(path, given)


def _open_raw(path: Path, given: GivenValues, raw_format: str | None) -> IqRecording:
    from heimdall_pipelines.formats.raw_files import open_raw

    return open_raw(path, given, raw_format)


FILE_FORMATS = (
    FileFormat(
        name="WAV",
        suffixes=(".wav", ".rf64", ".bw64"),
        description="WAV of two channels, I and Q: KiwiSDR (kiwirecorder with GNSS time stamps, and its web page), "
        "HDSDR, SDR#, SDR++, SDRuno, SDR Console, Airspy, UberSDR; PCM of 8, 16, 24, 32 bits, float; RIFF, RF64, BW64",
        states="sample rate; KiwiSDR: everything except the position; others: frequency and time in the `auxi` "
        "chunk or the name",
        options="`--station`, where the name does not have it; `--frequency --start`, where neither chunk nor name "
        "have them",
        reader=_open_wav,
    ),
    FileFormat(
        name="SigMF",
        suffixes=(".sigmf-meta", ".sigmf-data", ".sigmf", ".sigmf-collection"),
        description="SigMF (`.sigmf-meta` with its data file or a `.npy`, archive `.sigmf`, `.sigmf-collection`): "
        "SDRangel, GNU Radio, rtl_433, sigmf-python, IQEngine",
        states="sample rate, frequency, time, often the position; `core:sha512` is verified, annotations and all other "
        "metadata are kept",
        options="`--station`",
        reader=_open_sigmf,
    ),
    FileFormat(
        name=".npy",
        suffixes=(".npy",),
        description="`.npy` of NumPy: complex64 or complex128, shape (n,), (1, n) or (n, 1); integers or floats as "
        "I, Q pairs of shape (n, 2) or (2, n), in C or Fortran order",
        states="samples",
        options="`--station --sample-rate --frequency --start`",
        reader=_open_npy,
    ),
    FileFormat(
        name="SDRangel",
        suffixes=(".sdriq",),
        description="`.sdriq` of SDRangel, 16 or 24 bits",
        states="sample rate, frequency, time",
        options="`--station`",
        reader=_open_sdriq,
    ),
    FileFormat(
        name="MATLAB",
        suffixes=(".mat",),
        description="MATLAB `.mat` with one vector of complex numbers or of I, Q pairs; version 7.3 needs h5py",
        states="samples; rate and frequency in scalars such as `fs`, `SampleRate`, `fc`, `CenterFrequency`",
        options="`--station --start`, and what it does not have of `--sample-rate --frequency`",
        reader=_open_mat,
    ),
    FileFormat(
        name="Digital RF",
        suffixes=(),
        description="Digital RF: the folder of a channel, or one with a single channel; needs digital_rf "
        "(`pip install 'heimdall-pipelines[formats]'`)",
        states="sample rate, time, often the frequency",
        options="`--station`",
        reader=_open_digital_rf,
    ),
    FileFormat(
        name="raw",
        suffixes=_RAW_SUFFIXES,
        description=f"without header: `{'`, `'.join(_RAW_SUFFIXES)}`",
        states="samples; the first "
        f"{len(SUFFIX_RAW_FORMATS)} suffixes imply the format, others need `--raw-format` {', '.join(RAW_FORMATS)}; "
        "names of gqrx, SatDump and rtl_433: rate, frequency, time",
        options="`--station --sample-rate --frequency --start`",
        reader=_open_raw,
        is_headerless=True,
    ),
)


def format_of(path: Path) -> FileFormat | None:
    """Return the format of a file by its suffix, that of a folder by what it holds; None for no format.

    >>> format_of(Path("a/20171127T104156Z_77500_HB9RYZ_iq.WAV")).name
    'WAV'
    """
    suffix = path.suffix.lower()
    if not suffix or path.is_dir():
        from heimdall_pipelines.formats.digital_rf_files import is_digital_rf

        if is_digital_rf(path):
            return next(one for one in FILE_FORMATS if one.reader is _open_digital_rf)
    return next((one for one in FILE_FORMATS if suffix in one.suffixes), None)


def headerless_format() -> FileFormat:
    """Return the format of files that hold only samples."""
    return next(one for one in FILE_FORMATS if one.is_headerless)


def self_describing_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files that need no raw format."""
    return tuple(suffix for one in FILE_FORMATS if not one.is_headerless for suffix in one.suffixes)


def names_of_formats() -> str:
    """List the formats for a help text: all names, the last after "or"."""
    *others, last = (one.name for one in FILE_FORMATS)
    return f"{', '.join(others)} or {last}"


def suffixes_text() -> str:
    """List the formats with their suffixes for an error message."""
    return "; ".join(f"{', '.join(one.suffixes)} ({one.name})" for one in FILE_FORMATS if one.suffixes)
