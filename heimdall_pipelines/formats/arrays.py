"""Samples that lie in a file in another order than I, Q, I, Q."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.samples import Encoding, RecordingFormatError, open_file, pieces


@dataclass(frozen=True, eq=False)
class PlanarLayout:
    """All I values, then all Q values, from byte `offset`."""

    path: Path
    encoding: Encoding
    offset: int
    num_samples: int

    def blocks(self, max_samples: int) -> Iterator[NDArray[np.complex64]]:
        """Yield all samples in arrays of `max_samples`; see `IqRecording.blocks`."""
        size = self.encoding.sample_bytes // 2
        with open_file(self.path) as file:
            for first, count in pieces(self.num_samples, max_samples):
                pairs = np.empty((count, 2, size), np.uint8)
                for part in range(2):
                    at = self.offset + (part * self.num_samples + first) * size
                    file.seek(at)
                    stored = file.read(count * size)
                    if len(stored) != count * size:
                        raise RecordingFormatError(self.path, "the file has become shorter", at + len(stored))
                    pairs[:, part] = np.frombuffer(stored, np.uint8).reshape(count, size)
                block = self.encoding.decode(pairs.reshape(-1))
                check_finite(self.path, block, first)
                yield block


def check_finite(path: Path, block: NDArray[np.complex64], first: int) -> None:
    """Refuse a block that holds NaN or infinity; `first` is its first sample's number."""
    finite = np.isfinite(block)
    if not finite.all():
        at = int(np.argmin(finite))
        raise RecordingFormatError(
            path, f"sample {first + at} is {block[at]}: samples must be finite complex64 numbers"
        )


def encoding_of_dtype(dtype: np.dtype[np.generic]) -> Encoding | None:
    """Return how the parts of complex numbers, or the columns of pairs, are stored; None for other types.

    Integers have the full scale of their type; unsigned ones have their zero in the middle.
    """
    order = "<" if dtype.newbyteorder("<") == dtype else ">"
    if dtype.kind == "c" and dtype.itemsize in (8, 16):
        return Encoding(f"{order}f{dtype.itemsize // 2}")
    if dtype.kind == "f" and dtype.itemsize in (4, 8):
        return Encoding(f"{order}f{dtype.itemsize}")
    if dtype.kind == "i" and dtype.itemsize in (1, 2, 4):
        return Encoding(f"{order}i{dtype.itemsize}", 0.0, 2.0 ** (8 * dtype.itemsize - 1))
    if dtype.kind == "u" and dtype.itemsize in (1, 2):
        middle = 2.0 ** (8 * dtype.itemsize - 1) - 0.5
        return Encoding(f"{order}u{dtype.itemsize}", middle, middle)
    return None
