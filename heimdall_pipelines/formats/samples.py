"""Layout and encoding of the IQ samples in a file, and streaming them as complex64."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError


class RecordingFormatError(HeimdallError, ValueError):
    """A recording that cannot be read; says which file, where in it, and why.

    Attributes
    ----------
    path : str | os.PathLike[str]
        The file, or the name of the object that the bytes come from.
    reason : str
        What is wrong and, if possible, what to do.
    offset : int | None
        Byte in the file at which the problem was found.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str, offset: int | None = None) -> None:
        where = "" if offset is None else f"at byte {offset}: "
        super().__init__(f"{os.fspath(path)}: {where}{reason}")
        self.path = path
        self.reason = reason
        self.offset = offset


@dataclass(frozen=True)
class Encoding:
    """How one number of an interleaved I, Q pair is stored; its value is (stored - zero) / full_scale.

    Attributes
    ----------
    component : str
        numpy type of one stored number, byte order included; "<i3" and ">i3" are integers of 24 bits.
    zero, full_scale : float
        Both in steps of the stored number; 0 and 1 for floating point.
    """

    component: str
    zero: float = 0.0
    full_scale: float = 1.0

    @classmethod
    def of(cls, component: str) -> "Encoding":
        """Encode in a type's whole range: integers have its full scale, unsigned ones their zero in the middle.

        >>> Encoding.of("<u1")
        Encoding(component='<u1', zero=127.5, full_scale=127.5)
        """
        kind, half_range = component[-2], 2.0 ** (8 * int(component[-1]) - 1)
        if kind == "u":
            return cls(component, half_range - 0.5, half_range - 0.5)
        return cls(component, 0.0, half_range) if kind == "i" else cls(component)

    @property
    def is_integer(self) -> bool:
        """True if the stored numbers are integers: their scale to power is then unknown."""
        return self.component[-2] in "iu"

    @property
    def sample_bytes(self) -> int:
        """Bytes of one complex sample."""
        return 2 * int(self.component[-1])

    def decode(self, stored: NDArray[np.uint8]) -> NDArray[np.complex64]:
        """Turn stored bytes, a whole number of samples, into complex64; may share memory with `stored`."""
        if self.component[-2:] == "i3":
            return self._decode_24_bits(stored)
        with np.errstate(over="ignore", invalid="ignore"):  # blocks() reports values that do not fit complex64
            values = stored.view(self.component).astype(np.float32, copy=False)
        if self.is_integer:
            if self.zero:
                values -= np.float32(self.zero)
            values /= np.float32(self.full_scale)
        return values.view(np.complex64)

    def _decode_24_bits(self, stored: NDArray[np.uint8]) -> NDArray[np.complex64]:
        """Widen three bytes to the upper three of four."""
        triples = stored.reshape(-1, 3)
        wide = np.zeros((len(triples), 4), np.uint8)
        wide[:, 1:] = triples if self.component[0] == "<" else triples[:, ::-1]
        values = wide.view("<i4")[:, 0].astype(np.float32)
        values /= np.float32(256 * self.full_scale)
        return values.view(np.complex64)


CF32_LE = Encoding.of("<f4")
CI16_LE = Encoding.of("<i2")
# Numbers of samples by SigMF's names, which headerless files have too; both add the byte order.
COMPONENTS = {"cf64": "f8", "cf32": "f4", "ci32": "i4", "ci16": "i2", "cu16": "u2", "ci8": "i1", "cu8": "u1"}


def int16_of(parts: NDArray[np.floating]) -> NDArray[np.int16]:
    """Round real numbers of full scale 1 to integers of `CI16_LE`, clipped to their range."""
    return np.asarray(np.clip(np.rint(parts * np.float32(CI16_LE.full_scale)), -32_768, 32_767), np.int16)


@contextmanager
def open_file(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading; a missing, special or unreadable one is a RecordingFormatError."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)  # before open(), which would wait forever on a named pipe
        file = path.open("rb") if is_file else None
    except OSError as error:
        raise RecordingFormatError(path, f"cannot be opened: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise RecordingFormatError(path, f"cannot be opened: {error}") from error
    if file is None:
        raise RecordingFormatError(path, "is a directory or device, not a file")
    with file:
        try:
            yield file
        except OSError as error:
            raise RecordingFormatError(path, f"cannot be read: {error.strerror}") from error


def file_size(file: BinaryIO) -> int:
    """Return the length in bytes of an open regular file."""
    return os.fstat(file.fileno()).st_size


def pieces(num_samples: int, max_samples: int) -> Iterator[tuple[int, int]]:
    """Yield the first sample and the length of each piece of `max_samples`; the last one may be shorter.

    Raises
    ------
    ValueError
        `max_samples` is less than 1.
    """
    if max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, not {max_samples}")
    for first in range(0, num_samples, max_samples):
        yield first, min(max_samples, num_samples - first)


def check_finite(
    path: Path, block: NDArray[np.complex64], first: int, byte_of: Callable[[int, int], int] | None = None
) -> None:
    """Refuse a block that holds NaN or infinity.

    Parameters
    ----------
    path : Path
        Named in the error.
    block : NDArray[complex64], shape (samples,)
    first : int
        Number of its first sample.
    byte_of : callable, optional
        Gives the byte in the file at which a sample's part, 0 for I and 1 for Q, lies.
    """
    finite = np.isfinite(block.view(np.float32))
    if finite.all():
        return
    at, part = divmod(int(np.argmin(finite)), 2)
    raise RecordingFormatError(
        path,
        f"sample {first + at} is {block[at]}: samples must be finite complex64 numbers",
        None if byte_of is None else byte_of(first + at, part),
    )


class SampleSource(Protocol):
    """Samples of a recording, wherever they lie."""

    @property
    def encoding(self) -> Encoding:
        """How they are stored."""
        ...

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        ...

    def blocks(self, max_samples: int) -> Iterator[NDArray[np.complex64]]:
        """Yield all samples in arrays of `max_samples`, the last one shorter; see `IqRecording.blocks`."""
        ...


@dataclass(frozen=True, eq=False)
class SampleLayout:
    """The runs of consecutive samples in a file, in the order in which they were received.

    Attributes
    ----------
    path : Path
        The file that holds the samples.
    encoding : Encoding
        How they are stored.
    offsets : NDArray[int64], shape (runs,)
        Byte at which each run begins.
    starts : NDArray[int64], shape (runs + 1,)
        Number of samples before each run, and as last element the total.
    """

    path: Path
    encoding: Encoding
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def contiguous(cls, path: Path, encoding: Encoding, offset: int, num_samples: int) -> "SampleLayout":
        """Lay out a file whose samples follow each other from byte `offset`."""
        return cls(path, encoding, np.array([offset], np.int64), np.array([0, num_samples], np.int64))

    @property
    def num_samples(self) -> int:
        """Number of samples in all runs."""
        return int(self.starts[-1])

    def blocks(self, max_samples: int) -> Iterator[NDArray[np.complex64]]:
        """Yield all samples in arrays of `max_samples`, the last one shorter; see `IqRecording.blocks`."""
        with open_file(self.path) as file:
            for first, count in pieces(self.num_samples, max_samples):
                yield self._decoded(file, first, first + count)

    def piece(self, first: int, count: int) -> NDArray[np.complex64]:
        """Read samples from any place; `first` and `first + count` must lie within them."""
        with open_file(self.path) as file:
            return self._decoded(file, first, first + count)

    def _decoded(self, file: BufferedReader, first: int, stop: int) -> NDArray[np.complex64]:
        block = self.encoding.decode(self._read(file, first, stop))
        check_finite(self.path, block, first, self._byte_of)
        return block

    def _read(self, file: BufferedReader, first: int, stop: int) -> NDArray[np.uint8]:
        size = self.encoding.sample_bytes
        stored = np.empty((stop - first) * size, np.uint8)
        buffer = stored.data
        position = first
        run = self._run_of(first)
        while position < stop:
            run_stop = min(int(self.starts[run + 1]), stop)
            offset = int(self.offsets[run]) + (position - int(self.starts[run])) * size
            wanted = buffer[(position - first) * size : (run_stop - first) * size]
            file.seek(offset)
            got = file.readinto(wanted)
            if got != len(wanted):
                raise RecordingFormatError(
                    self.path, f"the file has become shorter: {len(wanted) - got} more bytes expected", offset + got
                )
            position = run_stop
            run += 1
        return stored

    def _run_of(self, sample: int) -> int:
        return int(np.searchsorted(self.starts, sample, side="right")) - 1

    def _byte_of(self, sample: int, part: int) -> int:
        run = self._run_of(sample)
        in_run = 2 * (sample - int(self.starts[run])) + part
        return int(self.offsets[run]) + in_run * self.encoding.sample_bytes // 2
