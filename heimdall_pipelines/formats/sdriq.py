"""SDRangel's .sdriq files: a header of 32 bytes, then I, Q as integers of 16 bits, or of 24 bits in 32.

Header (sdrbase/dsp/filerecord.h of SDRangel), little-endian: sample rate u32, centre frequency u64, start u64 (ms since
1970; s in files of versions before 4.8), bits of a sample u32, filler u32, CRC-32 of the 28 bytes before it.
"""

import struct
import zlib
from pathlib import Path

from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.samples import (
    CI16_LE,
    Encoding,
    RecordingFormatError,
    SampleLayout,
    file_size,
    open_file,
)

_HEADER = struct.Struct("<IQQIII")
_ENCODINGS = {16: ("ci16", CI16_LE), 24: ("ci24 in ci32", Encoding("<i4", 0.0, 2.0**23))}
_FIRST_MILLISECONDS = 100_000_000_000  # 1973 in ms, the year 5138 in s


def open_sdriq(path: Path, given: GivenValues) -> IqRecording:
    """Open a .sdriq file, which states rate, frequency and start.

    Raises
    ------
    RecordingFormatError
        If its header is damaged or of an unknown form.
    """
    with open_file(path) as file:
        header = file.read(_HEADER.size)
        size = file_size(file)
    if len(header) < _HEADER.size:
        raise RecordingFormatError(path, "ends within the header of 32 bytes", len(header))
    rate_hz, frequency_hz, start, bits, _, crc = _HEADER.unpack(header)
    if zlib.crc32(header[:28]) != crc:
        raise RecordingFormatError(path, "is damaged, or no .sdriq file: the checksum of its header is wrong", 28)
    if bits not in _ENCODINGS:
        raise RecordingFormatError(path, f"has samples of {bits} bits, not 16 or 24", 20)
    name, encoding = _ENCODINGS[bits]
    num_samples, rest = divmod(size - _HEADER.size, encoding.sample_bytes)
    start_ns = start * (1_000_000 if start >= _FIRST_MILLISECONDS else 1_000_000_000)
    values = resolve_values(path, given, GivenValues(float(rate_hz), float(frequency_hz), start_ns or None))
    return IqRecording(
        path=path,
        format="sdriq",
        encoding=name,
        notes=(f"ends within a sample: the last {rest} bytes are left out",) if rest else (),
        layout=SampleLayout.contiguous(path, encoding, _HEADER.size, num_samples),
        **vars(values),
    )
