"""The chunks of a KiwiSDR WAV file: positions, contents, and layout byte for byte.

Layout, as kiwirecorder writes it: RIFF, ``fmt `` (PCM, two channels, 16 bit), then for each block a ``kiwi`` chunk
(age of the latest fix u8, dummy u8, GPS second of week u32, nanosecond u32) and a ``data`` chunk (512 pairs of int16),
all little-endian. A recording of a receiver without GNSS has no ``kiwi`` chunks and one ``data`` chunk.
"""

import struct
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from heimdall_pipelines.formats.samples import CI16_LE, RecordingFormatError, file_size

BLOCK_SAMPLES = 512
STALE_BLOCKS = 2  # the first ones of a stream hold samples and stamps of the stream before
RIFF_HEADER_BYTES = 12
_MAX_CHUNKS = 1 << 23  # two days of blocks
MAX_FOREIGN_CHUNKS = 100  # a WAV has a few; thousands are zeros or noise misread as chunks
STAMP = np.dtype([("age_s", "u1"), ("dummy", "u1"), ("second", "<u4"), ("nanosecond", "<u4")])
BLOCK = np.dtype(
    [
        ("kiwi", "S4"),
        ("kiwi_bytes", "<u4"),
        ("stamp", STAMP),
        ("data", "S4"),
        ("data_bytes", "<u4"),
        ("iq", "<i2", (2 * BLOCK_SAMPLES,)),
    ]
)


@dataclass
class KiwiChunks:
    """Result of a scan of the file.

    Attributes
    ----------
    nominal_rate_hz : int
        From the ``fmt`` chunk.
    data_offsets, data_bytes : array of int64
        Where the samples of each block begin and how many bytes they have.
    stamps : bytearray
        The `STAMP` before each block; empty if the file has no ``kiwi`` chunks.
    notes : list of str
        What was cut.
    """

    nominal_rate_hz: int = 0
    data_offsets: "array[int]" = field(default_factory=lambda: array("q"))
    data_bytes: "array[int]" = field(default_factory=lambda: array("q"))
    stamps: bytearray = field(default_factory=bytearray)
    notes: list[str] = field(default_factory=list)


def scan_chunks(file: BinaryIO, path: Path) -> KiwiChunks:
    """Scan the chunks: reads their headers, the format and the stamps, not the samples.

    Raises
    ------
    RecordingFormatError
        If the file is not an IQ recording of this layout, or has no whole block; names the byte.

    Notes
    -----
    A recording that was cut keeps its whole blocks; `KiwiChunks.notes` says what was cut.
    """
    size = file_size(file)
    riff = file.read(RIFF_HEADER_BYTES)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        raise RecordingFormatError(path, "is not a WAV file: it does not begin with RIFF and WAVE", 0)
    chunks = KiwiChunks()
    stamp = b""
    foreign_chunks = 0
    position = RIFF_HEADER_BYTES
    for _ in range(_MAX_CHUNKS):
        if position >= size:
            break
        file.seek(position)
        head = file.read(8)
        begin, length = position + 8, int.from_bytes(head[4:], "little")
        if len(head) < 8 or begin + length > size:
            if not chunks.stamps or (not b"kiwidata".startswith(head[:4]) and head[:4] != b"data"):
                raise RecordingFormatError(path, f"is truncated within the chunk {head[:4]!r}", position)
            chunks.notes.append(
                f"was cut within block {len(chunks.data_offsets) + 1}: the {len(chunks.data_offsets)} whole blocks "
                f"before it are kept, its {size - begin if head[:4] == b'data' else 0} bytes of samples are left out"
            )
            break
        if head[:4] == b"fmt ":
            chunks.nominal_rate_hz = _pcm_rate(file.read(min(length, 16)), path, begin)
        elif head[:4] == b"kiwi":
            if stamp or length < STAMP.itemsize:
                raise RecordingFormatError(path, "a kiwi chunk is too short or has no data chunk after it", position)
            stamp = file.read(STAMP.itemsize)
        elif head[:4] == b"data":
            _add_block(chunks, stamp, begin, length, path)
            stamp = b""
        else:
            foreign_chunks += 1
            if foreign_chunks > MAX_FOREIGN_CHUNKS:
                raise RecordingFormatError(path, "has too many chunks that are not part of a recording", position)
        position = begin + length + length % 2
    else:
        raise RecordingFormatError(path, f"has more than {_MAX_CHUNKS} chunks: cut the recording", position)
    if not chunks.data_offsets:
        raise RecordingFormatError(path, "has no data chunk: it holds no samples", size)
    return chunks


def _add_block(chunks: KiwiChunks, stamp: bytes, begin: int, length: int, path: Path) -> None:
    if chunks.nominal_rate_hz == 0:
        raise RecordingFormatError(path, "has a data chunk before its fmt chunk", begin)
    if length == 0 or length % CI16_LE.sample_bytes:
        raise RecordingFormatError(path, f"a data chunk of {length} bytes is not a whole number of samples", begin)
    if chunks.data_offsets and bool(stamp) != bool(chunks.stamps):
        raise RecordingFormatError(path, "a data chunk has no kiwi chunk before it, although others have", begin)
    if not stamp and chunks.data_offsets:
        raise RecordingFormatError(path, "has several data chunks without time stamps", begin)
    chunks.data_offsets.append(begin)
    chunks.data_bytes.append(length)
    chunks.stamps += stamp


def _pcm_rate(fmt: bytes, path: Path, offset: int) -> int:
    if len(fmt) < 16:
        raise RecordingFormatError(path, "the fmt chunk is too short", offset)
    coding, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", fmt)
    if (coding, channels, bits) != (1, 2, 16):
        raise RecordingFormatError(
            path,
            f"is not an IQ recording: format {coding}, {channels} channels of {bits} bits instead of PCM, 2 of 16",
            offset,
        )
    if rate_hz == 0:
        raise RecordingFormatError(path, "the header gives a sample rate of 0", offset)
    return int(rate_hz)
