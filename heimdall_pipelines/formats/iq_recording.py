"""A recording with its metadata, common to all file formats, and the values that the command line adds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.samples import RecordingFormatError, SampleLayout

_MIN_SAMPLE_RATE_HZ, _MAX_SAMPLE_RATE_HZ = 1.0, 1e12
_MAX_FREQUENCY_HZ = 1e12  # as in the SigMF schema
_MAX_START_UNIX_NS = 7_258_118_400_000_000_000  # 2200-01-01


@dataclass(frozen=True, kw_only=True)
class IqRecording:
    """One receiver's samples in a file, described completely; the samples themselves stay in the file.

    Attributes
    ----------
    path : Path
        The file that was opened (of a SigMF recording the one that was named).
    format : str
        "kiwi_wav", "sigmf", "npy" or "raw".
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
        Hint at the receiver, from the KiwiSDR file name or SigMF ``core:hw``.
    position : tuple[float, float, float] | None
        Latitude and longitude in degrees, altitude in m, if the file has them (a missing altitude is 0).
    layout : SampleLayout
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
    layout: SampleLayout = field(repr=False, compare=False)

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
    """Values given on the command line; they override those of the file; None: the value of the file."""

    sample_rate_hz: float | None = None
    frequency_hz: float | None = None
    start_time_unix_ns: int | None = None


@dataclass(frozen=True)
class ResolvedValues:
    """The three values that every recording needs, and where the start comes from ("given" or "file")."""

    sample_rate_hz: float
    frequency_hz: float
    start_time_unix_ns: int
    time_source: str


def resolve_values(path: Path, given: GivenValues, in_file: GivenValues) -> ResolvedValues:
    """Combine given values with those of the file; given values override.

    Raises
    ------
    RecordingFormatError
        If a value is missing or invalid; names the command line options that supply it.
    """
    sample_rate_hz = in_file.sample_rate_hz if given.sample_rate_hz is None else given.sample_rate_hz
    frequency_hz = in_file.frequency_hz if given.frequency_hz is None else given.frequency_hz
    start_ns = in_file.start_time_unix_ns if given.start_time_unix_ns is None else given.start_time_unix_ns
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
        float(sample_rate_hz), float(frequency_hz), start_ns, "file" if given.start_time_unix_ns is None else "given"
    )
