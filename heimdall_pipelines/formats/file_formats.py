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

RAW_FORMATS = ("cf32", "ci16", "cu8")
DEFAULT_RAW_FORMAT = "cf32"


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
    reader: Callable[[Path, GivenValues, str], IqRecording]
    is_headerless: bool = False


def _open_kiwi_wav(path: Path, given: GivenValues, raw_format: str) -> IqRecording:  # noqa: ARG001
    from heimdall_pipelines.formats.kiwi_wav import open_kiwi_wav

    return open_kiwi_wav(path, given)


def _open_sigmf(path: Path, given: GivenValues, raw_format: str) -> IqRecording:  # noqa: ARG001
    from heimdall_pipelines.formats.sigmf_files import open_sigmf

    return open_sigmf(path, given)


def _open_npy(path: Path, given: GivenValues, raw_format: str) -> IqRecording:  # noqa: ARG001
    from heimdall_pipelines.formats.npy import open_npy

    return open_npy(path, given)


def _open_raw(path: Path, given: GivenValues, raw_format: str) -> IqRecording:
    from heimdall_pipelines.formats.raw_files import open_raw

    return open_raw(path, given, raw_format)


FILE_FORMATS = (
    FileFormat(
        name="KiwiSDR WAV",
        suffixes=(".wav",),
        description="KiwiSDR WAV, as kiwirecorder writes it (`{UTC}_{Hz}_{station}_iq.wav`)",
        states="everything except the position",
        options="",
        reader=_open_kiwi_wav,
    ),
    FileFormat(
        name="SigMF",
        suffixes=(".sigmf-meta", ".sigmf-data"),
        description="SigMF (`.sigmf-meta` with its data file or a `.npy`)",
        states="sample rate, frequency, time, often the position",
        options="`--station`",
        reader=_open_sigmf,
    ),
    FileFormat(
        name=".npy",
        suffixes=(".npy",),
        description="`.npy`, complex64 or complex128, one dimension",
        states="samples",
        options="`--station --sample-rate --frequency --start`",
        reader=_open_npy,
    ),
    FileFormat(
        name="raw",
        suffixes=(".bin", ".raw", ".iq", ".cf32"),
        description="`.bin`, `.raw`, `.iq`, `.cf32` without header",
        states=f"samples in the `--raw-format` {', '.join(RAW_FORMATS[:-1])} or {RAW_FORMATS[-1]}",
        options="`--station --sample-rate --frequency --start`",
        reader=_open_raw,
        is_headerless=True,
    ),
)


def format_of(path: Path) -> FileFormat | None:
    """Return the format of a file by its suffix, None for a suffix of no format.

    >>> format_of(Path("a/20171127T104156Z_77500_HB9RYZ_iq.WAV")).name
    'KiwiSDR WAV'
    """
    suffix = path.suffix.lower()
    return next((one for one in FILE_FORMATS if suffix in one.suffixes), None)


def headerless_format() -> FileFormat:
    """Return the format of files that hold only samples."""
    return next(one for one in FILE_FORMATS if one.is_headerless)


def self_describing_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files that need no raw format."""
    return tuple(suffix for one in FILE_FORMATS if not one.is_headerless for suffix in one.suffixes)


def names_of_formats() -> str:
    """List the formats for a help text.

    >>> names_of_formats()
    'KiwiSDR WAV, SigMF, .npy or raw'
    """
    *others, last = (one.name for one in FILE_FORMATS)
    return f"{', '.join(others)} or {last}"


def suffixes_text() -> str:
    """List the formats with their suffixes for an error message."""
    return "; ".join(f"{', '.join(one.suffixes)} ({one.name})" for one in FILE_FORMATS)
