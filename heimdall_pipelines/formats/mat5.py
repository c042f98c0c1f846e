"""MATLAB files of version 5, compressed (as ``-v7`` saves them) or not: their variables, read in pieces.

Format: "MAT-File Format", The MathWorks, chapter 1. Real parts come before imaginary parts, columns before rows; values
may be stored in a smaller type than that of their variable. A compressed variable is read by one decompression for its
real parts and one for its imaginary parts, so that little of it is in memory.
"""

import io
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.arrays import long_axes
from heimdall_pipelines.formats.samples import RecordingFormatError, file_size, open_file, pieces

HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_IS_COMPLEX = 0x0800
_MAX_NAME_BYTES = 4096
_MAX_AXES = 32
_PIECE_BYTES = 1 << 20
_INPUT_BYTES = 1 << 16


@dataclass(frozen=True)
class Element:
    """A variable's bytes in the file, without their tag; compressed or as they are."""

    offset: int
    num_bytes: int
    is_compressed: bool


@dataclass(frozen=True)
class Part:
    """Where real or imaginary parts lie within the element, and as what they are stored."""

    offset: int
    stored: "np.dtype[np.generic]"


@dataclass(frozen=True)
class Mat5Variable:
    """See `heimdall_pipelines.formats.mat_variables.MatVariable`."""

    name: str
    shape: tuple[int, ...]
    dtype: "np.dtype[np.generic] | None"
    element: Element
    parts: tuple[Part, ...] = ()

    @property
    def is_complex(self) -> bool:
        """Whether it has imaginary parts."""
        return len(self.parts) == 2

    def first(self, path: Path) -> float:
        """The first value, or its real part."""
        with _Bytes(path, self.element, self.parts[0].offset) as stream:
            return float(stream.numbers(self.parts[0].stored, 1)[0])

    def pairs(self, path: Path, max_samples: int) -> Iterator[NDArray[np.generic]]:
        """Yield the values as arrays of (samples, 2)."""
        assert self.dtype is not None
        first = self.parts[0]
        num_samples = prod(self.shape) if self.is_complex else prod(self.shape) // 2
        counts = [count for _, count in pieces(num_samples, max_samples)]
        if not self.is_complex and long_axes(self.shape)[0] == 2:  # columns of I and Q
            with _Bytes(path, self.element, first.offset) as both:
                for count in counts:
                    yield both.numbers(first.stored, 2 * count).reshape(count, 2).astype(self.dtype, copy=False)
            return
        second = (
            self.parts[1] if self.is_complex else Part(first.offset + num_samples * first.stored.itemsize, first.stored)
        )
        with _Bytes(path, self.element, first.offset) as i, _Bytes(path, self.element, second.offset) as q:
            for count in counts:
                pairs = np.empty((count, 2), self.dtype)
                pairs[:, 0] = i.numbers(first.stored, count)
                pairs[:, 1] = q.numbers(second.stored, count)
                yield pairs


def is_mat5(start: bytes) -> bool:
    """Whether a file that begins so has the header of version 5."""
    return start[126:128] in (b"IM", b"MI") and 1 in start[124:126]


def read_mat5(path: Path) -> list[Mat5Variable]:
    """Find the variables of a file; their values are not read.

    Raises
    ------
    RecordingFormatError
        The file is damaged.
    """
    variables = []
    with open_file(path) as file:
        size = file_size(file)
        order = "<" if file.read(HEADER_BYTES)[126:128] == b"IM" else ">"
        position = HEADER_BYTES
        while position < size:
            file.seek(position)
            kind, num_bytes = _two_numbers(file.read(8), order, path)
            element = Element(position + 8, num_bytes, kind == _COMPRESSED)
            position += 8 + num_bytes
            if position > size:
                raise RecordingFormatError(path, f"ends within a variable of {num_bytes} bytes", size)
            if kind in (_MATRIX, _COMPRESSED):
                with _Bytes(path, element, 0) as stream:
                    if kind == _COMPRESSED:
                        stream.tag(order)
                    variables.append(_variable(stream, element, order))
    return variables


def _variable(stream: "_Bytes", element: Element, order: str) -> Mat5Variable:
    flags = int(np.frombuffer(stream.small_element(order, 8)[:4], f"{order}u4")[0])
    dimensions = np.frombuffer(stream.small_element(order, 4 * _MAX_AXES), f"{order}i4")
    shape = tuple(int(length) for length in dimensions)
    name = stream.small_element(order, _MAX_NAME_BYTES).decode("latin-1")
    kind = _CLASSES.get(flags & 0xFF)
    if kind is None or not shape or min(shape) < 1:
        return Mat5Variable(name, shape, None, element)
    parts = []
    for _ in range(2 if flags & _IS_COMPLEX else 1):
        stored_as, num_bytes, is_small = stream.tag(order)
        if stored_as not in _STORED or prod(shape) * int(_STORED[stored_as][1]) != num_bytes:
            raise RecordingFormatError(
                stream.path, f"{name[:60]}: {num_bytes} bytes of type {stored_as} are no {str(shape)[:60]} numbers"
            )
        parts.append(Part(stream.position, np.dtype(f"{order}{_STORED[stored_as]}")))
        stream.skip(4 if is_small else num_bytes + -num_bytes % 8)
    return Mat5Variable(name, shape, np.dtype(kind), element, tuple(parts))


def _two_numbers(content: bytes, order: str, path: Path) -> tuple[int, int]:
    if len(content) != 8:
        raise RecordingFormatError(path, "ends within the tag of a variable")
    first, second = np.frombuffer(content, f"{order}u4")
    return int(first), int(second)


class _Bytes:
    """The bytes of a variable from an offset on, decompressed."""

    def __init__(self, path: Path, element: Element, offset: int) -> None:
        self.path = path
        self.position = 0
        self._element = element
        self._open = ExitStack()
        self._file = self._open.enter_context(open_file(path))
        self._left = element.num_bytes
        self._inflate = zlib.decompressobj() if element.is_compressed else None
        self._file.seek(element.offset)
        try:
            self.skip(offset)
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> "_Bytes":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, num_bytes: int) -> bytes:
        """Read exactly so many bytes."""
        content = io.BytesIO()
        while content.tell() < num_bytes:
            piece = self._piece(min(num_bytes - content.tell(), _PIECE_BYTES))
            if not piece:
                raise RecordingFormatError(self.path, "ends within a variable", self._element.offset)
            content.write(piece)
        self.position += num_bytes
        return content.getvalue()

    def skip(self, num_bytes: int) -> None:
        """Go on by so many bytes."""
        if self._inflate is None:
            self._file.seek(num_bytes, io.SEEK_CUR)
            self._left -= num_bytes
            self.position += num_bytes
            return
        for begin in range(0, num_bytes, _PIECE_BYTES):
            self.read(min(_PIECE_BYTES, num_bytes - begin))

    def numbers(self, stored: "np.dtype[np.generic]", count: int) -> NDArray[np.generic]:
        """Read numbers."""
        return np.frombuffer(self.read(count * stored.itemsize), stored)

    def tag(self, order: str) -> tuple[int, int, bool]:
        """Read a tag: type and number of bytes, and whether these follow within the tag's eight bytes."""
        (first,) = np.frombuffer(self.read(4), f"{order}u4")
        if first >> 16:
            return int(first & 0xFFFF), int(first >> 16), True
        (num_bytes,) = np.frombuffer(self.read(4), f"{order}u4")
        return int(first), int(num_bytes), False

    def small_element(self, order: str, max_bytes: int) -> bytes:
        """Read an element of a limited size, with what fills it up."""
        _, num_bytes, is_small = self.tag(order)
        if num_bytes > (4 if is_small else max_bytes):
            raise RecordingFormatError(self.path, f"has a description of {num_bytes} bytes", self._element.offset)
        return self.read(4 if is_small else num_bytes + -num_bytes % 8)[:num_bytes]

    def _piece(self, max_bytes: int) -> bytes:
        if self._inflate is None:
            piece = self._file.read(max(0, min(max_bytes, self._left)))
            self._left -= len(piece)
            return piece
        while True:
            waiting = self._inflate.unconsumed_tail
            if not waiting:
                waiting = self._file.read(min(_INPUT_BYTES, self._left))
                self._left -= len(waiting)
            piece = self._inflate.decompress(waiting, max_bytes)
            if piece or not waiting:
                return piece
