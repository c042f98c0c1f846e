"""Samples that lie in a file in another order than I, Q, I, Q."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.samples import (
    COMPONENTS,
    Encoding,
    RecordingFormatError,
    check_finite,
    open_file,
    pieces,
)


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


def long_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """Lengths of the axes that are longer than 1."""
    return tuple(length for length in shape if length != 1)


def encoding_of_dtype(dtype: np.dtype[np.generic]) -> Encoding | None:
    """Return how the parts of complex numbers, or the columns of pairs, are stored; None for other types."""
    order = "<" if dtype.newbyteorder("<") == dtype else ">"
    component = f"f{dtype.itemsize // 2}" if dtype.kind == "c" else f"{dtype.kind}{dtype.itemsize}"
    return Encoding.of(order + component) if component in COMPONENTS.values() else None
