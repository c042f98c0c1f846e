"""Digital RF recordings (MIT Haystack): a folder of HDF5 files, read by the library digital_rf if installed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.arrays import encoding_of_dtype
from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.samples import Encoding, RecordingFormatError, check_finite, pieces

_MAX_FILE_SAMPLES = 1 << 24
PROPERTIES = "drf_properties.h5"


def is_digital_rf(path: Path) -> bool:
    """Whether a folder is a Digital RF recording, or one of its channels."""
    return path.is_dir() and any(True for _ in (*path.glob(PROPERTIES), *path.glob(f"*/{PROPERTIES}")))


@dataclass(frozen=True, eq=False)
class _Samples:
    """Samples of one channel, read block by block."""

    path: Path
    encoding: Encoding
    reader: Any
    channel: str
    first: int
    num_samples: int

    def blocks(self, max_samples: int) -> Iterator[NDArray[np.complex64]]:
        for start, count in pieces(self.num_samples, max_samples):
            stored = _read(self.path, self.reader, self.channel, self.first + start, count)
            block = self.encoding.decode(np.ascontiguousarray(stored).view(np.uint8).reshape(-1)).copy()
            check_finite(self.path, block, start)
            yield block


def open_digital_rf(path: Path, given: GivenValues) -> IqRecording:
    """Open a Digital RF recording: the folder of one channel, or one that holds a single channel.

    Raises
    ------
    RecordingFormatError
        If digital_rf is not installed, or the recording has several channels, real samples or gaps.
    """
    try:
        import digital_rf
    except ImportError:
        raise RecordingFormatError(
            path, "is a Digital RF recording: install digital_rf, with: pip install 'heimdall-pipelines[formats]'"
        ) from None
    top, channel = (path.parent, path.name) if (path / PROPERTIES).is_file() else (path, None)
    try:
        reader = digital_rf.DigitalRFReader(str(top.absolute()))
        channels = reader.get_channels()
        if channel is None:
            if len(channels) != 1:
                raise RecordingFormatError(path, f"has {len(channels)} channels: name one, {', '.join(channels)}")
            channel = channels[0]
        first, last = reader.get_bounds(channel)
        properties = reader.get_properties(channel)
        runs = reader.get_continuous_blocks(first, last, channel)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, RecordingFormatError):
            raise
        raise RecordingFormatError(path, f"cannot be read as Digital RF: {error}") from error
    if not properties["is_complex"] or properties["num_subchannels"] != 1:
        raise RecordingFormatError(
            path, f"channel {channel} has real samples or several subchannels: one of IQ is needed"
        )
    if len(runs) != 1:
        raise RecordingFormatError(path, f"channel {channel} has {len(runs) - 1} gaps: cut the recording there")
    numerator, denominator = int(properties["sample_rate_numerator"]), int(properties["sample_rate_denominator"])
    probe = _read(path, reader, channel, first, 1)
    parts = probe.dtype[0] if probe.dtype.names else probe.dtype
    encoding = encoding_of_dtype(parts)
    if encoding is None:
        raise RecordingFormatError(path, f"channel {channel} holds {probe.dtype}, which is not supported")
    first, last = _without_fill(path, reader, channel, (first, last), properties)
    in_file = GivenValues(
        numerator / denominator,
        _centre_frequency_hz(digital_rf, top / channel, last),
        first * denominator * 1_000_000_000 // numerator,
    )
    return IqRecording(
        path=path,
        format="digital_rf",
        encoding=str(probe.dtype),
        layout=_Samples(path, encoding, reader, channel, first, last - first + 1),
        **vars(resolve_values(path, given, in_file)),
    )


def _read(path: Path, reader: Any, channel: str, first: int, count: int) -> NDArray[Any]:
    try:
        runs = list(reader.read(first, first + count - 1, channel).values())
    except OSError as error:
        raise RecordingFormatError(path, f"sample {first} cannot be read: {error}") from error
    if sum(len(run) for run in runs) != count:
        raise RecordingFormatError(path, f"samples are missing after sample {first}: the recording has changed")
    return runs[0] if len(runs) == 1 else np.concatenate(runs)


def _without_fill(path: Path, reader: Any, channel: str, bounds: tuple[int, int], properties: Any) -> tuple[int, int]:
    """Bounds without the fill values (NaN, or the least integer) with which a continuous writer completes its files."""
    first, last = bounds
    rate_hz = properties["sample_rate_numerator"] / properties["sample_rate_denominator"]
    per_file = min(int(properties["file_cadence_millisecs"] * rate_hz / 1000) + 1, _MAX_FILE_SAMPLES, last - first + 1)
    head = np.flatnonzero(~_is_fill(_read(path, reader, channel, first, per_file)))
    tail = np.flatnonzero(~_is_fill(_read(path, reader, channel, last - per_file + 1, per_file)))
    if head.size == 0 or tail.size == 0:
        raise RecordingFormatError(path, f"channel {channel} has no samples in its first or last file")
    return first + int(head[0]), last - (per_file - 1 - int(tail[-1]))


def _is_fill(stored: NDArray[Any]) -> NDArray[np.bool_]:
    if stored.dtype.names:
        i, q = (stored[name].reshape(-1) for name in stored.dtype.names)
    elif np.iscomplexobj(stored):
        i, q = stored.reshape(-1).real, stored.reshape(-1).imag
    else:
        i, q = stored.reshape(-1, 2).T
    if i.dtype.kind in "iu":
        least = np.iinfo(i.dtype).min
        return np.asarray((i == least) & (q == least))
    return np.asarray(np.isnan(i) & np.isnan(q))


def _centre_frequency_hz(digital_rf: Any, channel: Path, last: int) -> float | None:
    """The centre frequency in the channel's metadata, where it has one."""
    try:
        metadata = digital_rf.DigitalMetadataReader(str((channel / "metadata").absolute()))
        begin, end = metadata.get_bounds()
        entries = metadata.read(max(begin, 0), min(end, last), "center_frequencies")
    except (OSError, ValueError, KeyError, RuntimeError):
        return None
    values = {float(np.ravel(value)[0]) for value in entries.values()}
    if len(values) > 1:
        raise RecordingFormatError(channel, "its metadata have several centre frequencies: cut the recording there")
    return values.pop() if values else None
