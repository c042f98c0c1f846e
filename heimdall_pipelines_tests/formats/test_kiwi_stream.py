"""Frames of a KiwiSDR's live stream: byte for byte as documented, and nothing else accepted."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from heimdall_pipelines.formats.kiwi_stream import (
    KiwiStreamError,
    parse_message,
    parse_sound,
    write_message,
    write_sound,
)

# flags, sequence 258 little-endian, S-meter 400 big-endian: -87 dBm, age 3, dummy, second and nanosecond little-endian
HEADER = b"SND" + b"%c" + b"\x02\x01\x00\x00" + b"\x01\x90" + b"\x03\x00" + b"\x0a\x00\x00\x00" + b"\x00\xca\x9a\x3b"
STORED = arrays.arrays(np.int16, st.integers(1, 600).map(lambda n: 2 * n))


def test_samples_are_big_endian_unless_a_flag_says_otherwise():
    big = parse_sound(HEADER % 0x08 + b"\x40\x00\x80\x00" + b"\x00\x01\xff\xff")
    np.testing.assert_array_equal(big.iq, np.array([0.5 - 1j, (1 - 1j) / 32768], np.complex64))
    little = parse_sound(HEADER % 0x88 + b"\x00\x40\x00\x80" + b"\x01\x00\xff\xff")
    np.testing.assert_array_equal(little.iq, big.iq)
    assert big.iq.dtype == np.complex64


def test_the_header_of_a_sound_frame_is_read_as_documented():
    frame = parse_sound(HEADER % 0x0A + bytes(4))
    assert (frame.sequence, frame.adc_overflow) == (258, True)
    assert frame.s_meter_dbm == pytest.approx(-87.0)
    assert (frame.fix_age_s, frame.gps_second, frame.gps_nanosecond) == (3, 10, 1_000_000_000)
    assert not parse_sound(HEADER % 0x08 + bytes(4)).adc_overflow


@settings(deadline=None)
@given(
    stored=STORED,
    sequence=st.integers(0, 2**32 - 1),
    age=st.integers(0, 255),
    second=st.integers(0, 2**32 - 1),
    nanosecond=st.integers(0, 2**32 - 1),
    overflow=st.booleans(),
    little_endian=st.booleans(),
)
def test_what_is_written_is_read(stored, sequence, age, second, nanosecond, overflow, little_endian):
    frame = parse_sound(
        write_sound(
            stored,
            sequence=sequence,
            s_meter_dbm=-73.0,
            fix_age_s=age,
            gps_second=second,
            gps_nanosecond=nanosecond,
            adc_overflow=overflow,
            little_endian=little_endian,
        )
    )
    np.testing.assert_array_equal(frame.iq.view(np.float32) * 32768, stored)
    assert (frame.sequence, frame.fix_age_s, frame.gps_second) == (sequence, age, second)
    assert (frame.gps_nanosecond, frame.adc_overflow) == (nanosecond, overflow)
    assert frame.s_meter_dbm == pytest.approx(-73.0)


@settings(deadline=None)
@given(tag=st.sampled_from([b"SND", b"MSG", b""]), rest=st.binary(max_size=200))
def test_any_bytes_give_a_frame_or_an_error_with_the_reason(tag, rest):
    for parse in (parse_sound, parse_message):
        with suppress(KiwiStreamError):
            assert parse(tag + rest) is not None


@settings(deadline=None)
@given(st.binary(max_size=100).map(lambda rest: (HEADER % 0x08 + rest)[: 3 + len(rest)]))
def test_a_frame_cut_anywhere_within_a_sample_or_the_header_is_refused(cut):
    if len(cut) > 20 and (len(cut) - 20) % 4 == 0:
        assert parse_sound(cut).iq.size == (len(cut) - 20) // 4
    elif len(cut) > 10 and (len(cut) - 10) % 4 == 0:  # as long as one without a time stamp
        assert not parse_sound(cut).has_stamp
    else:
        with pytest.raises(KiwiStreamError):
            parse_sound(cut)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "begins with b'' instead of SND"),
        (b"W/F" + bytes(50), "begins with b'W/F' instead of SND"),
        (b"SND\x08", "has 4 bytes, its header has 20"),
        (HEADER % 0x08, "sound frame 258 has 20 bytes"),
        (HEADER % 0x08 + bytes(5), "sound frame 258 has 25 bytes"),
        (HEADER % 0x18 + bytes(4), "sound frame 258 is compressed"),
        (HEADER % 0x00 + bytes(4), r"sound frame 258 is not IQ \(flags 0x00\)"),
        (HEADER % 0x08 + bytes(4 * 4097), "has 4097 samples, more than 4096"),
    ],
)
def test_a_malformed_sound_frame_says_what_is_wrong(frame, reason):
    with pytest.raises(KiwiStreamError, match=reason):
        parse_sound(frame)


def test_a_message_has_keys_with_and_without_values():
    said = parse_message(b"MSG client_public_ip=1.2.3.4 down rx_chans=8  cfg=%7B%22a=b%22%7D empty=\n")
    assert said == {
        "client_public_ip": "1.2.3.4",
        "down": None,
        "rx_chans": "8",
        "cfg": "%7B%22a=b%22%7D",
        "empty": "",
    }
    assert parse_message(b"MSG") == {}


KEYS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)
VALUES = st.none() | st.text(st.characters(codec="ascii", categories=["L", "N", "P"]))


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES))
def test_a_message_written_is_read(values):
    assert parse_message(write_message(values)) == values


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"MSGbadp=0", "begins with b'MSGbadp=' instead of MSG"),
        (b"SND", "begins with b'SND' instead of MSG"),
        (b"MSG a=\xff", "not UTF-8 at byte 6"),
        (b"MSG a=1 =2", "a value without a key: '=2'"),
        (b"MSG a=" + b"x" * (1 << 20), "has 1048582 bytes, more than 1048576"),
    ],
)
def test_a_malformed_message_says_what_is_wrong(frame, reason):
    with pytest.raises(KiwiStreamError, match=reason):
        parse_message(frame)


def test_a_frame_without_a_time_stamp_has_the_same_samples():
    stored = np.arange(1024, dtype=np.int16)
    frame = write_sound(stored, sequence=7, s_meter_dbm=-80.0, has_stamp=False)
    assert len(frame) == 3 + 7 + 2048  # as programs send it that imitate a KiwiSDR without GNSS
    plain, stamped = parse_sound(frame), parse_sound(write_sound(stored, sequence=7, s_meter_dbm=-80.0))
    assert (plain.has_stamp, stamped.has_stamp) == (False, True)
    assert (plain.fix_age_s, plain.gps_second, plain.gps_nanosecond) == (255, 0, 0)
    assert plain.s_meter_dbm == pytest.approx(-80.0)
    np.testing.assert_array_equal(plain.iq, stamped.iq)
