"""A recording with its metadata, common to all file formats, and the values that the command line adds."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.samples import RecordingFormatError, SampleSource, open_file

Value = TypeVar("Value")

_MIN_SAMPLE_RATE_HZ, _MAX_SAMPLE_RATE_HZ = 1.0, 1e12
_MAX_FREQUENCY_HZ = 1e12  # as in the SigMF schema
_MAX_START_UNIX_NS = 7_258_118_400_000_000_000  # 2200-01-01


@dataclass(frozen=True)
class SourceMetadata:
    """Everything that a SigMF file said, to be kept with the samples.

    Attributes
    ----------
    global_ : Mapping
        Its global object.
    captures, annotations : tuple of Mapping
        Its capture segments and annotations; their sample numbers begin at `first_sample` for the first sample that the
        recording gives.
    first_sample : int
        See above.
    """

    global_: Mapping[str, Any]
    captures: tuple[Mapping[str, Any], ...]
    annotations: tuple[Mapping[str, Any], ...]
    first_sample: int = 0


@dataclass(frozen=True)
class ExpectedDigest:
    """SHA-512 that a file states of its samples' bytes."""

    path: Path
    offset: int
    size: int
    sha512: str

    def verify(self) -> None:
        """Read the bytes and compare.

        Raises
        ------
        RecordingFormatError
            They are not those that were written.
        """
        digest = hashlib.sha512()
        with open_file(self.path) as file:
            file.seek(self.offset)
            left = self.size
            while left > 0:
                piece = file.read(min(left, 1 << 22))
                if not piece:
                    break
                digest.update(piece)
                left -= len(piece)
        if digest.hexdigest() != self.sha512.lower():
            raise RecordingFormatError(
                self.path,
                "is not the data that its metadata describe: core:sha512 differs; get the file again, or remove "
                "core:sha512 from the metadata if you changed the samples",
            )


@dataclass(frozen=True, kw_only=True)
class IqRecording:
    """One receiver's samples in a file, described completely; the samples themselves stay in the file.

    Attributes
    ----------
    path : Path
        The file that was opened (of a SigMF recording the one that was named).
    format : str
        "kiwi_wav", "wav", "sigmf", "npy", "raw", "sdriq", "mat" or "digital_rf".
    sample_rate_hz : float
        Complex samples per second; the true rate where GNSS time stamps give it.
    frequency_hz : float
        Centre frequency.
    start_time_unix_ns : int
        UTC of the first sample that `blocks` gives, in nanoseconds since 1970.
    num_samples : int
        Complex samples that `blocks` gives.
    time_source : str
        Where the start comes from: "gnss" (time stamps in the file), "file" (its header or name), "given".
    time_uncertainty_ns : float | None
        Root mean square residual of the fit to the GNSS time stamps; None for other time sources.
    receiver_name : str | None
        Station that recorded it, from the file name or a SigMF file of heimdall; a model of receiver is none.
    position : tuple[float, float, float] | None
        Latitude and longitude in degrees, altitude in m, if the file has them (a missing altitude is 0).
    encoding : str
        How the samples are stored, such as "ci16", for people to read.
    notes : tuple of str
        What was not as it should be in the file, and how it was read.
    source : SourceMetadata | None
        Everything that a SigMF file said.
    digest : ExpectedDigest | None
        Checksum that the file states; verified when it is imported.
    layout : SampleSource
        Where the samples lie.

    Raises
    ------
    RecordingFormatError
        On construction, if there are no samples.
    """

    path: Path
    format: str
    sample_rate_hz: float
    frequency_hz: float
    start_time_unix_ns: int
    num_samples: int = field(init=False)
    time_source: str
    time_uncertainty_ns: float | None = None
    receiver_name: str | None = None
    position: tuple[float, float, float] | None = None
    encoding: str
    notes: tuple[str, ...] = ()
    source: SourceMetadata | None = field(default=None, repr=False)
    digest: ExpectedDigest | None = field(default=None, repr=False)
    layout: SampleSource = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.layout.num_samples == 0:
            raise RecordingFormatError(self.path, "holds no samples")
        object.__setattr__(self, "num_samples", self.layout.num_samples)

    @property
    def quantisation_step(self) -> float | None:
        """Step of the integers that the samples were scaled from, full scale being 1; None for floating point."""
        encoding = self.layout.encoding
        return 1 / encoding.full_scale if encoding.is_integer else None

    def blocks(self, max_samples: int = 1 << 20) -> Iterator[NDArray[np.complex64]]:
        """Stream the samples in order; never more than one block of the file is in memory.

        Parameters
        ----------
        max_samples : int
            Length of each block in samples; the last one may be shorter.

        Yields
        ------
        NDArray[complex64], shape (n,)
            The caller may keep or change it. Integers are scaled so that integer full scale is 1.0.

        Raises
        ------
        RecordingFormatError
            At a NaN or infinite number, or if the file has become shorter: names the byte.
        ValueError
            If `max_samples` is less than 1.
        """
        return self.layout.blocks(max_samples)


@dataclass(frozen=True)
class GivenValues:
    """Values given on the command line for a file; they override those of the file; None: the value of the file.

    Attributes
    ----------
    sample_rate_hz, frequency_hz, start_time_unix_ns : optional
        See `IqRecording`.
    otherwise : GivenValues, optional
        Values for what the file does not state itself.
    """

    sample_rate_hz: float | None = None
    frequency_hz: float | None = None
    start_time_unix_ns: int | None = None
    otherwise: "GivenValues | None" = None


@dataclass(frozen=True)
class ResolvedValues:
    """The three values that every recording needs, and where the start comes from ("given" or "file")."""

    sample_rate_hz: float
    frequency_hz: float
    start_time_unix_ns: int
    time_source: str


def resolve_values(path: Path, given: GivenValues, in_file: GivenValues) -> ResolvedValues:
    """Combine values: those given for the file, else its own, else those given for all files.

    Raises
    ------
    RecordingFormatError
        If a value is missing or invalid; names the command line options that supply it.
    """
    fill = given.otherwise or GivenValues()
    sample_rate_hz = _first(given.sample_rate_hz, in_file.sample_rate_hz, fill.sample_rate_hz)
    frequency_hz = _first(given.frequency_hz, in_file.frequency_hz, fill.frequency_hz)
    start_ns = _first(given.start_time_unix_ns, in_file.start_time_unix_ns, fill.start_time_unix_ns)
    is_start_of_file = given.start_time_unix_ns is None and in_file.start_time_unix_ns is not None
    if sample_rate_hz is None or frequency_hz is None or start_ns is None:
        missing = [
            (what, option)
            for what, option, value in (
                ("sample rate", "--sample-rate", sample_rate_hz),
                ("centre frequency", "--frequency", frequency_hz),
                ("start time", "--start", start_ns),
            )
            if value is None
        ]
        raise RecordingFormatError(
            path,
            f"has no {', '.join(what for what, _ in missing)}: give {', '.join(o for _, o in missing)}",
        )
    if not _MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= _MAX_SAMPLE_RATE_HZ:  # NaN is refused, too
        raise RecordingFormatError(path, f"cannot have a sample rate of {sample_rate_hz} Hz: give --sample-rate")
    if not abs(frequency_hz) <= _MAX_FREQUENCY_HZ:
        raise RecordingFormatError(path, f"cannot have a centre frequency of {frequency_hz} Hz: give --frequency")
    if not 0 <= start_ns < _MAX_START_UNIX_NS:
        raise RecordingFormatError(path, "cannot have been made before 1970 or after 2199: give --start")
    return ResolvedValues(
        float(sample_rate_hz), float(frequency_hz), int(start_ns), "file" if is_start_of_file else "given"
    )


def _first(*values: Value | None) -> Value | None:
    return next((value for value in values if value is not None), None)
