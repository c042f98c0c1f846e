"""The messages and sound frames of a KiwiSDR's live stream in IQ mode: read and written, byte for byte.

A frame is one websocket message. Text: ``MSG`` and space-separated ``key=value``. Sound: ``SND``, flags u8, sequence
u32 little-endian, S-meter u16 big-endian (0.1 v - 127 dBm), age of the latest GNSS fix u8, dummy u8, GPS second of the
week u32 and nanosecond u32 little-endian, then pairs of int16, big-endian unless a flag says otherwise. Programs that
imitate a KiwiSDR without GNSS send frames that lack the four values of the time stamp.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.gnss_clock import NO_FIX_AGE
from heimdall_pipelines.formats.samples import Encoding

MESSAGE_TAG, SOUND_TAG = b"MSG", b"SND"
FLAG_ADC_OVERFLOW, FLAG_IQ, FLAG_COMPRESSED, FLAG_LITTLE_ENDIAN = 0x02, 0x08, 0x10, 0x80
MAX_FRAME_SAMPLES = 4_096  # KiwiSDRs send 512
MAX_MESSAGE_BYTES = 1 << 20  # a configuration takes some 100 kB
SEQUENCE_MODULUS = 1 << 32
_HEADER = struct.Struct("<3sBI")
_S_METER = struct.Struct(">H")
_STAMP = struct.Struct("<BBII")
_UNSTAMPED_SAMPLES_AT = _HEADER.size + _S_METER.size
_SAMPLES_AT = _UNSTAMPED_SAMPLES_AT + _STAMP.size
_SAMPLE_BYTES = 4


class KiwiStreamError(HeimdallError, ValueError):
    """An invalid frame for a KiwiSDR in IQ mode; the message says what is wrong."""


@dataclass(frozen=True, eq=False)
class SoundFrame:
    """One frame of IQ.

    Attributes
    ----------
    sequence : int
        Counts up by 1, modulo 2^32.
    s_meter_dbm : float
        Level on the receiver's own scale.
    adc_overflow : bool
        The converter was overdriven.
    has_stamp : bool
        Whether the frame has a time stamp; without one the next three are 255, 0 and 0.
    fix_age_s, gps_second, gps_nanosecond : int
        Age of the latest GNSS fix, 255 without any, and the first sample's time since the GPS week's start, as sent.
    iq : NDArray[complex64], shape (samples,)
        Full scale is 1.
    """

    sequence: int
    s_meter_dbm: float
    adc_overflow: bool
    has_stamp: bool
    fix_age_s: int
    gps_second: int
    gps_nanosecond: int
    iq: NDArray[np.complex64]


def parse_message(frame: bytes) -> dict[str, str | None]:
    """Read a text message.

    Parameters
    ----------
    frame : bytes
        Beginning with ``MSG``.

    Returns
    -------
    dict of str to str or None
        Value of each key, as sent (percent-encoded where the receiver does so); None for a key without ``=``. The last
        value of a repeated key counts.

    Raises
    ------
    KiwiStreamError
        It does not begin with ``MSG``, is longer than `MAX_MESSAGE_BYTES`, is not UTF-8, or a key is empty.
    """
    if frame[:3] != MESSAGE_TAG or frame[3:4] not in (b" ", b""):
        raise KiwiStreamError(f"a message begins with {frame[:8]!r} instead of MSG")
    if len(frame) > MAX_MESSAGE_BYTES:
        raise KiwiStreamError(f"a message has {len(frame)} bytes, more than {MAX_MESSAGE_BYTES}")
    try:
        text = frame[4:].decode()
    except UnicodeDecodeError as error:
        raise KiwiStreamError(f"a message is not UTF-8 at byte {error.start + 4}") from None
    values: dict[str, str | None] = {}
    for pair in text.split():
        key, equals, value = pair.partition("=")
        if not key:
            raise KiwiStreamError(f"a message has a value without a key: {pair[:40]!r}")
        values[key] = value if equals else None
    return values


def write_message(values: Mapping[str, str | None]) -> bytes:
    """Write a text message, the inverse of `parse_message` for keys and values without white space."""
    pairs = (key if value is None else f"{key}={value}" for key, value in values.items())
    return MESSAGE_TAG + b" " + " ".join(pairs).encode()


def parse_sound(frame: bytes) -> SoundFrame:
    """Read a sound frame of IQ.

    Parameters
    ----------
    frame : bytes
        Beginning with ``SND``.

    Raises
    ------
    KiwiStreamError
        It does not begin with ``SND``, is compressed, is not IQ, has no or too many samples, or ends within a sample.
    """
    if frame[:3] != SOUND_TAG:
        raise KiwiStreamError(f"a sound frame begins with {frame[:3]!r} instead of SND")
    if len(frame) < _HEADER.size:
        raise KiwiStreamError(f"a sound frame has {len(frame)} bytes, its header has {_SAMPLES_AT}")
    _, flags, sequence = _HEADER.unpack_from(frame)
    if flags & FLAG_COMPRESSED:
        raise KiwiStreamError(f"sound frame {sequence} is compressed, though compression=0 was requested")
    if not flags & FLAG_IQ:
        raise KiwiStreamError(f"sound frame {sequence} is not IQ (flags {flags:#04x}): another mode is on")
    # A stamp has 10 bytes and a sample 4: the length tells whether there is one.
    has_stamp = (len(frame) - _UNSTAMPED_SAMPLES_AT) % _SAMPLE_BYTES != 0
    samples_at = _SAMPLES_AT if has_stamp else _UNSTAMPED_SAMPLES_AT
    num_samples, rest_bytes = divmod(len(frame) - samples_at, _SAMPLE_BYTES)
    if num_samples < 1 or rest_bytes:
        raise KiwiStreamError(
            f"sound frame {sequence} has {len(frame)} bytes: {_SAMPLES_AT} of header and a multiple of "
            f"{_SAMPLE_BYTES}, at least one, are expected"
        )
    if num_samples > MAX_FRAME_SAMPLES:
        raise KiwiStreamError(f"sound frame {sequence} has {num_samples} samples, more than {MAX_FRAME_SAMPLES}")
    (s_meter,) = _S_METER.unpack_from(frame, _HEADER.size)
    fix_age_s, gps_second, gps_nanosecond = NO_FIX_AGE, 0, 0
    if has_stamp:
        fix_age_s, _, gps_second, gps_nanosecond = _STAMP.unpack_from(frame, _UNSTAMPED_SAMPLES_AT)
    encoding = Encoding.of(_component(bool(flags & FLAG_LITTLE_ENDIAN)))
    return SoundFrame(
        sequence=sequence,
        s_meter_dbm=0.1 * s_meter - 127.0,
        adc_overflow=bool(flags & FLAG_ADC_OVERFLOW),
        has_stamp=has_stamp,
        fix_age_s=fix_age_s,
        gps_second=gps_second,
        gps_nanosecond=gps_nanosecond,
        iq=encoding.decode(np.frombuffer(frame, np.uint8, offset=samples_at)),
    )


def write_sound(
    stored: NDArray[np.int16],
    *,
    sequence: int,
    s_meter_dbm: float = -127.0,
    fix_age_s: int = NO_FIX_AGE,
    gps_second: int = 0,
    gps_nanosecond: int = 0,
    adc_overflow: bool = False,
    little_endian: bool = False,
    has_stamp: bool = True,
) -> bytes:
    """Write a sound frame of IQ, as a KiwiSDR sends it.

    Parameters
    ----------
    stored : NDArray[int16], shape (2 * samples,)
        I and Q interleaved, in steps of 1/32768.
    sequence, s_meter_dbm, fix_age_s, gps_second, gps_nanosecond, adc_overflow
        See `SoundFrame`; the level is clipped to the range of the frame, -127 to 6426 dBm in steps of 0.1.
    little_endian : bool
        Whether to send the samples little-endian, with the flag set.
    has_stamp : bool
        Whether to write a time stamp.
    """
    flags = FLAG_IQ | FLAG_ADC_OVERFLOW * adc_overflow | FLAG_LITTLE_ENDIAN * little_endian
    stamp = _STAMP.pack(fix_age_s, 0, gps_second, gps_nanosecond) if has_stamp else b""
    return _header(flags, sequence, s_meter_dbm) + stamp + stored.astype(_component(little_endian)).tobytes()


def write_audio(
    data: bytes | NDArray[np.int16],
    *,
    sequence: int,
    s_meter_dbm: float = -127.0,
    little_endian: bool = False,
) -> bytes:
    """Write a sound frame with one channel of audio, as a KiwiSDR sends it; such frames have no time stamp.

    Parameters
    ----------
    data : bytes or NDArray[int16]
        Compressed bytes, or samples.
    sequence, s_meter_dbm, little_endian
        See `write_sound`.
    """
    flags = FLAG_COMPRESSED * isinstance(data, bytes) | FLAG_LITTLE_ENDIAN * little_endian
    stored = data if isinstance(data, bytes) else data.astype(_component(little_endian)).tobytes()
    return _header(flags, sequence, s_meter_dbm) + stored


def _header(flags: int, sequence: int, s_meter_dbm: float) -> bytes:
    level = min(max(round((s_meter_dbm + 127.0) * 10), 0), 0xFFFF)
    return _HEADER.pack(SOUND_TAG, flags, sequence % SEQUENCE_MODULUS) + _S_METER.pack(level)


def _component(little_endian: bool) -> str:
    return "<i2" if little_endian else ">i2"
