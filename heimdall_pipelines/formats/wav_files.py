"""IQ recordings in WAV files of any recorder: PCM of 8 to 32 bits or floating point; RIFF, RF64 and BW64.

Chunks: ``fmt `` (coding, channels, rate, bits), ``data`` (I, Q pairs), ``ds64`` (lengths of RF64, EBU Tech 3306),
``auxi`` (centre frequency and times, of WinRad and its successors, or of SDR Console as XML). Recordings with ``kiwi``
chunks, the time stamps of a KiwiSDR, are read by `heimdall_pipelines.formats.kiwi_wav`.
"""

import re
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np

from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.kiwi_chunks import MAX_FOREIGN_CHUNKS, RIFF_HEADER_BYTES
from heimdall_pipelines.formats.kiwi_wav import open_kiwi_wav
from heimdall_pipelines.formats.recording_names import NOTHING_NAMED, NamedValues, values_in_name
from heimdall_pipelines.formats.samples import (
    CF32_LE,
    CI16_LE,
    Encoding,
    RecordingFormatError,
    SampleLayout,
    file_size,
    open_file,
)

_MAX_SMALL_CHUNK_BYTES = 1 << 16
_OPEN_ENDED = (0, 0xFFFFFFFF)  # lengths that a recorder writes before the length is known
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ENCODINGS: dict[tuple[int, int, int], tuple[str, Encoding]] = {  # coding, bits, bytes of a number
    (_PCM, 8, 1): ("cu8", Encoding.of("<u1")),
    (_PCM, 16, 2): ("ci16", CI16_LE),
    (_PCM, 24, 3): ("ci24", Encoding.of("<i3")),
    (_PCM, 24, 4): ("ci32", Encoding.of("<i4")),
    (_PCM, 32, 4): ("ci32", Encoding.of("<i4")),
    (_FLOAT, 32, 4): ("cf32", CF32_LE),
    (_FLOAT, 64, 8): ("cf64", Encoding.of("<f8")),
}
_CODINGS = {2: "ADPCM", 6: "A-law", 7: "u-law", 0x11: "IMA ADPCM", 0x31: "GSM", 0x50: "MPEG", 0x55: "MP3"}
_AUDIO_NAME = re.compile(r"(?:.*[_ ])?AF(?:[_ ].*)?|audio_.*", re.IGNORECASE)
_PROBE_SAMPLES = 1 << 14
_MAX_TIME_DIFFERENCE_NS = 2_000_000_000


@dataclass
class _Chunks:
    """What the chunks of a file say."""

    encoding_name: str = ""
    encoding: Encoding | None = None
    rate_hz: int = 0
    data_offset: int | None = None
    data_bytes: int = 0
    auxi: bytes = b""
    is_kiwi: bool = False
    notes: list[str] = field(default_factory=list)


def open_wav(path: Path, given: GivenValues) -> IqRecording:
    """Open an IQ recording in a WAV file.

    Parameters
    ----------
    path : Path
        Start and frequency are taken from the ``auxi`` chunk, else from the name, see `recording_names`.
    given : GivenValues
        Override or complete them.

    Raises
    ------
    RecordingFormatError
        If the file is no WAV, is audio (one channel, a compressed coding, or both channels the same), if it holds no
        samples, or a value is missing. A file that was cut is read as far as its samples are whole, with a note.
    """
    with open_file(path) as file:
        chunks = _scan(file, path)
    if chunks.is_kiwi:
        return open_kiwi_wav(path, given)
    if _AUDIO_NAME.fullmatch(path.stem):
        raise RecordingFormatError(path, "its name says that it is demodulated audio (AF), not IQ")
    if chunks.encoding is None or chunks.data_offset is None:
        raise RecordingFormatError(path, "has no data chunk: it holds no samples")
    num_samples, rest = divmod(chunks.data_bytes, chunks.encoding.sample_bytes)
    if rest:
        chunks.notes.append(f"ends within a sample: the last {rest} bytes are left out")
    layout = SampleLayout.contiguous(path, chunks.encoding, chunks.data_offset, num_samples)
    _refuse_audio(path, layout)
    named = values_in_name(path) or NOTHING_NAMED
    in_file, notes = _values_in_file(chunks, named)
    return IqRecording(
        path=path,
        format="wav",
        encoding=chunks.encoding_name,
        receiver_name=named.receiver_name,
        notes=tuple(chunks.notes + notes),
        layout=layout,
        **vars(resolve_values(path, given, in_file)),
    )


def _scan(file: BinaryIO, path: Path) -> _Chunks:
    size = file_size(file)
    riff = file.read(RIFF_HEADER_BYTES)
    if riff[:4] not in (b"RIFF", b"RF64", b"BW64") or riff[8:] != b"WAVE":
        raise RecordingFormatError(path, "is not a WAV file: it does not begin with RIFF, RF64 or BW64, and WAVE", 0)
    chunks = _Chunks()
    long_bytes: int | None = None
    position = RIFF_HEADER_BYTES
    for _ in range(MAX_FOREIGN_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        name, length, begin = head[:4], int.from_bytes(head[4:], "little"), position + 8
        if name == b"ds64":
            lengths = file.read(16)
            long_bytes = int.from_bytes(lengths[8:16], "little") if len(lengths) == 16 else None
        elif name == b"fmt ":
            _read_format(chunks, file.read(min(length, 40)), path, begin)
        elif name == b"auxi":
            chunks.auxi = file.read(min(length, _MAX_SMALL_CHUNK_BYTES))
        elif name == b"kiwi":
            chunks.is_kiwi = True
            return chunks
        elif name == b"data":
            if chunks.encoding is None:
                raise RecordingFormatError(path, "has a data chunk before its fmt chunk", begin)
            if chunks.data_offset is not None:
                raise RecordingFormatError(path, "has several data chunks: one is expected", begin)
            declared = long_bytes if length == 0xFFFFFFFF and long_bytes is not None else length
            length = _data_bytes(chunks, file, begin, declared, size)
            chunks.data_offset, chunks.data_bytes = begin, length
        position = begin + length + length % 2
        if position >= size:
            break
    else:
        raise RecordingFormatError(path, "has too many chunks that are not part of a recording", position)
    return chunks


def _data_bytes(chunks: _Chunks, file: BinaryIO, begin: int, declared: int, size: int) -> int:
    """Bytes of the data chunk: as declared where that can be, else all that are there, with a note."""
    there = size - begin
    if declared in _OPEN_ENDED:
        if there:
            chunks.notes.append("its header gives no length (the recorder did not end it): read to the end of the file")
        return there
    if declared > there:
        chunks.notes.append(
            f"was cut: {there} of the {declared} bytes of samples that its header states are there, and are kept"
        )
        return there
    after = begin + declared + declared % 2
    if after < size:
        file.seek(after)
        head = file.read(8)
        is_chunk = len(head) < 8 or (head[:4].isascii() and head[:4].decode("ascii").isprintable())
        if not is_chunk:
            chunks.notes.append(
                f"its header states {declared} bytes of samples, but {there} follow: read to the end of the file"
            )
            return there
    return declared


def _read_format(chunks: _Chunks, fmt: bytes, path: Path, offset: int) -> None:
    if len(fmt) < 16:
        raise RecordingFormatError(path, "the fmt chunk is too short", offset)
    coding, channels, rate_hz, _, block_bytes, bits = struct.unpack("<HHIIHH", fmt[:16])
    if coding == _EXTENSIBLE and len(fmt) >= 26:
        coding = int.from_bytes(fmt[24:26], "little")
    if channels != 2:
        what = "one channel: audio or real samples" if channels == 1 else f"{channels} channels"
        raise RecordingFormatError(path, f"is not an IQ recording: it has {what}; two, I and Q, are needed", offset)
    found = _ENCODINGS.get((coding, bits, block_bytes // 2)) or _ENCODINGS.get((coding, bits, bits // 8))
    if found is None:
        name = _CODINGS.get(coding, f"format {coding}")
        raise RecordingFormatError(
            path,
            f"is not an IQ recording that can be read: {name} of {bits} bits; "
            "PCM of 8, 16, 24 or 32 bits and floating point of 32 or 64 are",
            offset,
        )
    if rate_hz == 0:
        raise RecordingFormatError(path, "the header gives a sample rate of 0", offset)
    chunks.encoding_name, chunks.encoding = found
    chunks.rate_hz = int(rate_hz)


def _refuse_audio(path: Path, layout: SampleLayout) -> None:
    """Refuse two channels that carry the same: mono audio written as stereo."""
    if layout.num_samples < _PROBE_SAMPLES // 16:
        return
    with open_file(path) as file:
        count = min(layout.num_samples, _PROBE_SAMPLES)
        file.seek(int(layout.offsets[0]) + (layout.num_samples - count) // 2 * layout.encoding.sample_bytes)
        stored = np.frombuffer(file.read(count * layout.encoding.sample_bytes), np.uint8)
    half = layout.encoding.sample_bytes // 2
    pairs = stored[: stored.size // (2 * half) * 2 * half].reshape(-1, 2, half)
    if np.array_equal(pairs[:, 0], pairs[:, 1]) and not np.all(pairs == pairs[0, 0]):
        raise RecordingFormatError(path, "is not an IQ recording: both channels are the same (audio written as stereo)")


def _values_in_file(chunks: _Chunks, named: NamedValues) -> tuple[GivenValues, list[str]]:
    """The auxi chunk's values before those of the name, which has no fractions of a second."""
    auxi_hz, auxi_ns = _auxi_values(chunks.auxi)
    notes = list(named.notes) if auxi_ns is None else []
    name_hz, name_ns = named.given_values.frequency_hz, named.given_values.start_time_unix_ns
    if auxi_ns is not None and name_ns is not None and abs(auxi_ns - name_ns) > _MAX_TIME_DIFFERENCE_NS:
        notes.append(
            f"its auxi chunk and its name have different times, {(auxi_ns - name_ns) / 1e9:+.3f} s: the chunk's is used"
        )
    if auxi_hz is not None and name_hz is not None and abs(auxi_hz - name_hz) > 1_000.0:
        notes.append(f"its auxi chunk has {auxi_hz:.12g} Hz, its name {name_hz:.12g} Hz: the chunk's is used")
    return (
        GivenValues(
            float(chunks.rate_hz),
            name_hz if auxi_hz is None else auxi_hz,
            name_ns if auxi_ns is None else auxi_ns,
        ),
        notes,
    )


def _auxi_values(auxi: bytes) -> tuple[float | None, int | None]:
    """Centre frequency and start time of an auxi chunk, None where it has none."""
    xml = _auxi_text(auxi)
    if xml is not None:
        frequency = re.search(r'RadioCenterFreq="([0-9]+(?:\.[0-9]*)?)"', xml)
        time = re.search(r'CurrentTimeUTC="([0-9]{2})-([0-9]{2})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2})"', xml)
        start_ns = None
        if time is not None:
            day, month, year, hour, minute, second = map(int, time.groups())
            start_ns = _unix_ns(year, month, day, hour, minute, second, 0)
        return (float(frequency[1]) if frequency else None), start_ns
    if len(auxi) < 36:
        return None, None
    year, month, _, day, hour, minute, second, millisecond = struct.unpack_from("<8H", auxi)
    (frequency_hz,) = struct.unpack_from("<I", auxi, 32)
    return float(frequency_hz) or None, _unix_ns(year, month, day, hour, minute, second, millisecond)


def _auxi_text(auxi: bytes) -> str | None:
    start = auxi[:64].replace(b"\0", b"").lstrip(b"\xff\xfe\xef\xbb\xbf")
    return auxi.replace(b"\0", b"").decode("utf-8", "replace") if start.startswith(b"<") else None


def _unix_ns(year: int, month: int, day: int, hour: int, minute: int, second: int, millisecond: int) -> int | None:
    """A SYSTEMTIME in ns of UTC; None for an unset one."""
    if not 1980 <= year < 2200:
        return None
    try:
        instant = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return (int(instant.timestamp()) * 1000 + min(millisecond, 999)) * 1_000_000
