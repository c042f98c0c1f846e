"""What the versions of MATLAB files have in common: variables that are looked at, and read in pieces."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.arrays import encoding_of_dtype, long_axes
from heimdall_pipelines.formats.samples import Encoding, check_finite

MIN_SAMPLES = 64  # shorter vectors are parameters


class MatVariable(Protocol):
    """A variable of a file; nothing of its values is in memory."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """As its values are indexed."""
        ...

    @property
    def dtype(self) -> "np.dtype[np.generic] | None":
        """Type of its numbers or, if it is complex, of their parts; None for anything else than numbers."""
        ...

    @property
    def is_complex(self) -> bool:
        """Whether it has imaginary parts."""
        ...

    def pairs(self, path: Path, max_samples: int) -> Iterator[NDArray[np.generic]]:
        """Yield the values as arrays of (samples, 2); the variable is a vector of `num_samples_of`."""
        ...

    def first(self, path: Path) -> float:
        """The first value, or its real part."""
        ...


def num_samples_of(variable: MatVariable) -> int | None:
    """Length of a vector of complex samples (n,) or of I, Q pairs (n, 2) or (2, n); None for anything else."""
    if variable.dtype is None or encoding_of_dtype(variable.dtype) is None:
        return None
    long = long_axes(variable.shape)
    if variable.is_complex:
        return long[0] if len(long) == 1 and long[0] >= MIN_SAMPLES else None
    if len(long) != 2 or 2 not in long or prod(long) < 2 * MIN_SAMPLES:
        return None
    return prod(long) // 2


@dataclass(frozen=True, eq=False)
class MatSamples:
    """The samples of a variable, read in pieces."""

    path: Path
    variable: MatVariable
    encoding: Encoding
    num_samples: int

    def blocks(self, max_samples: int) -> Iterator[NDArray[np.complex64]]:
        """Yield all samples in arrays of `max_samples`; see `IqRecording.blocks`."""
        first = 0
        for pairs in self.variable.pairs(self.path, max_samples):
            stored = np.ascontiguousarray(pairs, self.encoding.component).view(np.uint8).reshape(-1)
            block = self.encoding.decode(stored)
            check_finite(self.path, block, first)
            yield block
            first += block.size
