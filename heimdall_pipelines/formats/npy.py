""".npy files: their header, read from untrusted streams and written before samples, and recordings in them."""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from heimdall_pipelines.formats.arrays import PlanarLayout, encoding_of_dtype, long_axes
from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.recording_names import NOTHING_NAMED, values_in_name
from heimdall_pipelines.formats.samples import (
    Encoding,
    RecordingFormatError,
    SampleLayout,
    file_size,
    open_file,
)

NPY_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 10_000  # numpy's own limit on what it evaluates


@dataclass(frozen=True)
class NpyHeader:
    """The header of an array of samples, which follow at byte `header_bytes`: I, Q, I, Q, or, planar, I first.

    The type is that of complex numbers, or of the numbers of I, Q pairs.
    """

    dtype: np.dtype[Any]
    num_samples: int
    header_bytes: int
    is_planar: bool = False

    @property
    def encoding(self) -> Encoding:
        """How the samples are stored."""
        encoding = encoding_of_dtype(self.dtype)
        assert encoding is not None
        return encoding


def read_npy_header(stream: BinaryIO, name: str | os.PathLike[str] = ".npy stream") -> NpyHeader:
    """Read the header of a .npy file; leaves the stream at the first sample.

    Parameters
    ----------
    stream : BinaryIO
        Positioned at the start of the file, or a BytesIO over its first bytes (10 kB always hold the header).
    name : str | os.PathLike[str]
        Name of the stream in errors.

    Raises
    ------
    RecordingFormatError
        If it is not a .npy header, or the array is not a vector of complex numbers or of I, Q pairs.

    Notes
    -----
    Format: numpy.lib.format, versions 1.0 and 2.0 (3.0 exists for field names only, and samples have no fields).
    Nothing is ever unpickled, and at most `_MAX_HEADER_BYTES` are read.
    """
    start = stream.read(8)
    if not start.startswith(NPY_MAGIC) or len(start) < 8:
        raise RecordingFormatError(name, "is not a .npy file: it does not begin with \\x93NUMPY and a version", 0)
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0)):
        raise RecordingFormatError(name, f"is of .npy version {version[0]}.{version[1]}, not 1.0 or 2.0", 6)
    length_bytes = stream.read(2 if version == (1, 0) else 4)
    header_length = int.from_bytes(length_bytes, "little")
    if header_length > _MAX_HEADER_BYTES:
        raise RecordingFormatError(name, f"claims a header of {header_length} bytes", 8)
    text = stream.read(header_length)
    header_bytes = 8 + len(length_bytes) + header_length
    if len(text) < header_length or len(length_bytes) < 2:
        raise RecordingFormatError(name, "ends within the .npy header", 8 + len(length_bytes) + len(text))
    parse = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    try:
        shape, is_fortran, dtype = parse(io.BytesIO(length_bytes + text), max_header_size=_MAX_HEADER_BYTES)
    except Exception as error:  # numpy evaluates a literal and builds a type: damaged text can raise any exception
        raise RecordingFormatError(name, f"the .npy header is malformed: {str(error)[:200]}", 8) from error
    if dtype.hasobject:
        raise RecordingFormatError(name, "holds pickled Python objects, which are never loaded", 8)
    if not shape or any(not 0 <= length < 2**63 for length in shape):
        raise RecordingFormatError(name, f"has the shape {str(shape)[:60]}, not one-dimensional", 8)
    is_complex, is_pair_type = dtype.kind == "c", _is_pair_type(dtype)
    number = dtype[0] if is_pair_type else dtype
    if encoding_of_dtype(number) is None or (dtype.names is not None and not is_pair_type):
        raise RecordingFormatError(name, f"holds {str(dtype)[:60]}, not complex64, complex128 or I, Q pairs", 8)
    if (is_complex or is_pair_type) and len(long_axes(shape)) <= 1:
        return NpyHeader(number, math.prod(shape), header_bytes)
    if not is_complex and not is_pair_type and len(shape) == 2 and 2 in shape:
        num_samples = shape[0] if shape[1] == 2 else shape[1]
        return NpyHeader(number, int(num_samples), header_bytes, is_planar=(shape[1] == 2) == is_fortran)
    if not is_complex and not is_pair_type:
        raise RecordingFormatError(
            name,
            f"holds {str(dtype)[:60]}, not complex64, complex128 or I, Q pairs (of shape (n, 2) or (2, n)); its "
            f"shape is {str(shape)[:60]}",
            8,
        )
    raise RecordingFormatError(name, f"has the shape {str(shape)[:60]}, not one-dimensional", 8)


def _is_pair_type(dtype: np.dtype[Any]) -> bool:
    """Whether a type has two fields of one type, I and Q."""
    return (
        dtype.names is not None
        and len(dtype.names) == 2
        and dtype[0] == dtype[1]
        and dtype.itemsize == 2 * dtype[0].itemsize
        and dtype[0].kind in "iuf"
    )


def npy_header_bytes(num_samples: int) -> bytes:
    """Return the header that np.save writes before a one-dimensional complex64 array; its length is a multiple of 64.

    Parameters
    ----------
    num_samples : int
        Length of the array whose 8 * `num_samples` bytes follow.

    Raises
    ------
    ValueError
        If `num_samples` is negative.
    """
    if num_samples < 0:
        raise ValueError(f"num_samples must not be negative, is {num_samples}")
    header = io.BytesIO()
    npy_format.write_array_header_1_0(header, {"descr": "<c8", "fortran_order": False, "shape": (num_samples,)})
    return header.getvalue()


def open_npy(path: Path, given: GivenValues) -> IqRecording:
    """Open a .npy file, which holds only samples: rate, frequency and start must be given.

    Raises
    ------
    RecordingFormatError
        If it is not such an array of exactly the file's length, or a value is missing.
    """
    with open_file(path) as file:
        header = read_npy_header(file, path)
        size = file_size(file)
    expected = header.header_bytes + header.num_samples * header.encoding.sample_bytes
    if size != expected:
        what = "is truncated" if size < expected else "has bytes after its array"
        raise RecordingFormatError(
            path,
            f"{what}: {_readable(header.num_samples)} samples end at byte {_readable(expected)}, the file at {size}",
            min(size, expected),
        )
    named = values_in_name(path) or NOTHING_NAMED
    lay_out = PlanarLayout if header.is_planar else SampleLayout.contiguous
    return IqRecording(
        path=path,
        format="npy",
        encoding=str(header.dtype),
        layout=lay_out(path, header.encoding, header.header_bytes, header.num_samples),
        receiver_name=named.receiver_name,
        notes=named.notes,
        **vars(resolve_values(path, given, named.given_values)),
    )


def _readable(number: int) -> str:
    """Shorten a number, which in a damaged header may be absurdly long."""
    return str(number) if number < 10**18 else f"10^{math.log10(number):.0f}"
