"""MATLAB files of version 7.3, which are HDF5: their variables, read in slices."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.samples import RecordingFormatError, pieces

MAX_CHUNK_BYTES = 64 << 20  # HDF5 reads and decompresses whole chunks


@dataclass(frozen=True)
class Hdf5Variable:
    """See `heimdall_pipelines.formats.mat_variables.MatVariable`; `shape` is MATLAB's in reverse."""

    name: str
    shape: tuple[int, ...]
    dtype: "np.dtype[np.generic] | None"
    is_complex: bool
    chunk_bytes: int

    def first(self, path: Path) -> float:
        """The first value, or its real part."""
        import h5py

        with h5py.File(path, "r") as file:
            value = file[self.name][(0,) * len(self.shape)]
        return float(value["real"] if self.is_complex else value)

    def pairs(self, path: Path, max_samples: int) -> Iterator[NDArray[np.generic]]:
        """Yield the values as arrays of (samples, 2)."""
        import h5py

        if self.chunk_bytes > MAX_CHUNK_BYTES:
            raise RecordingFormatError(
                path, f"{self.name[:60]} is stored in chunks of {self.chunk_bytes} bytes: save it in smaller ones"
            )
        along = max(range(len(self.shape)), key=self.shape.__getitem__)
        num_samples = self.shape[along]
        with h5py.File(path, "r") as file:
            values = file[self.name]
            for start, count in pieces(num_samples, max_samples):
                where = [slice(start, start + count) if axis == along else slice(None) for axis in range(values.ndim)]
                part = np.moveaxis(values[tuple(where)], along, 0).reshape(count, -1)
                if self.is_complex:
                    part = np.concatenate((part["real"], part["imag"]), axis=1)
                yield part


def read_mat_hdf5(path: Path) -> list[Hdf5Variable]:
    """Find the variables of a file; their values are not read.

    Raises
    ------
    RecordingFormatError
        h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise RecordingFormatError(
            path,
            "is a .mat file of version 7.3 (HDF5): install h5py, with: pip install 'heimdall-pipelines[formats]'; or "
            "save it with -v7",
        ) from None
    with h5py.File(path, "r") as file:
        return [_variable(name, item) for name, item in file.items() if isinstance(item, h5py.Dataset) and item.size]


def _variable(name: str, item: "h5py.Dataset") -> Hdf5Variable:  # type: ignore[name-defined]  # noqa: F821
    is_complex = item.dtype.names == ("real", "imag")
    number = item.dtype["real"] if is_complex else item.dtype
    chunk_bytes = prod(item.chunks) * item.dtype.itemsize if item.chunks else 0
    return Hdf5Variable(name, item.shape, number if number.kind in "iuf" else None, is_complex, chunk_bytes)
