"""IQ in WAV files of many recorders."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording
from heimdall_pipelines.formats.utc import unix_ns_from_iso

from .support import GIVEN, all_samples, noise

RATE_HZ = 96_000
TIMES = {"frequency_hz": 14.2e6, "start_time_unix_ns": unix_ns_from_iso("2020-01-01T12:00:00Z")}
GUID_TAIL = bytes.fromhex("00001000800000aa00389b71")


def stored(iq, coding, bits):
    values = iq.view(np.float32).astype(np.float64)
    if coding == 3:
        return values.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return np.rint(values * 127.5 + 127.5).astype("u1").tobytes()
    whole = np.rint(values * (2 ** (bits - 1) - 1))
    if bits == 24:
        return whole.astype("<i4").view("u1").reshape(-1, 4)[:, :3].tobytes()
    return whole.astype(f"<i{bits // 8}").tobytes()


def wav(
    data,
    *,
    coding=1,
    bits=16,
    channels=2,
    rate=RATE_HZ,
    chunks=(),
    riff=b"RIFF",
    is_extensible=False,
    data_bytes=None,
    riff_bytes=None,
    ds64=None,
    after=b"",
    container=None,
):
    """The bytes of a WAV file."""
    block = channels * (container or bits) // 8
    fmt = struct.pack("<HHIIHH", 0xFFFE if is_extensible else coding, channels, rate, rate * block, block, bits)
    if is_extensible:
        fmt += struct.pack("<HHII", 22, bits, 3, coding) + GUID_TAIL
    body = b"" if ds64 is None else b"ds64" + struct.pack("<IQQQI", 28, 0, ds64, 0, 0)
    body += b"fmt " + struct.pack("<I", len(fmt)) + fmt
    for name, content in chunks:
        body += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    body += b"data" + struct.pack("<I", len(data) if data_bytes is None else data_bytes) + data + after
    return riff + struct.pack("<I", 4 + len(body) if riff_bytes is None else riff_bytes) + b"WAVE" + body


@pytest.mark.parametrize("is_extensible", [False, True])
@pytest.mark.parametrize(("coding", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
def test_every_encoding_gives_its_samples(tmp_path, coding, bits, is_extensible):
    iq = noise(10_000)
    (tmp_path / "a.wav").write_bytes(
        wav(stored(iq, coding, bits), coding=coding, bits=bits, is_extensible=is_extensible)
    )
    recording = open_recording(tmp_path / "a.wav", **TIMES)
    assert (recording.num_samples, recording.sample_rate_hz, recording.notes) == (10_000, RATE_HZ, ())
    tolerance = 0 if coding == 3 else 2.0 ** (1 - bits) + 1e-7
    found = all_samples(recording, 777).view(np.float32)
    np.testing.assert_allclose(found, iq.view(np.float32), rtol=2.0 ** (1 - bits) + 1e-6, atol=tolerance)
    assert (recording.quantisation_step is None) == (coding == 3)


@pytest.mark.parametrize("riff", [b"RF64", b"BW64"])
@pytest.mark.parametrize("data_bytes", [0xFFFFFFFF, 40_000])
def test_files_with_64_bit_lengths_are_read(tmp_path, riff, data_bytes):
    iq = noise(10_000)
    content = wav(
        stored(iq, 1, 16), riff=riff, riff_bytes=0xFFFFFFFF, data_bytes=data_bytes, ds64=40_000, after=b"LIST\2\0\0\0ab"
    )
    (tmp_path / "a.wav").write_bytes(content)
    recording = open_recording(tmp_path / "a.wav", **TIMES)
    assert (recording.num_samples, recording.notes) == (10_000, ())


@pytest.mark.parametrize(
    ("lengths", "cut", "kept", "note"),
    [
        ({"data_bytes": 0, "riff_bytes": 0}, 0, 10_000, "no length"),
        ({"data_bytes": 0xFFFFFFFF, "riff_bytes": 0xFFFFFFFF}, 0, 10_000, "no length"),
        ({}, 4_001, 8_999, "was cut: 35999 of the 40000 bytes"),
        ({"data_bytes": 20_000}, 0, 10_000, "states 20000 bytes of samples, but 40000 follow"),
        ({"data_bytes": 60_000}, 0, 10_000, "was cut"),
        ({"riff_bytes": 17}, 0, 10_000, None),
    ],
)
def test_lengths_that_do_not_match_keep_what_is_whole_with_a_note(tmp_path, lengths, cut, kept, note):
    iq = noise(10_000)
    content = wav(stored(iq, 1, 16), **lengths)
    (tmp_path / "a.wav").write_bytes(content[: len(content) - cut])
    recording = open_recording(tmp_path / "a.wav", **TIMES)
    assert recording.num_samples == kept
    assert (note is None and not recording.notes) or note in " ".join(recording.notes)
    np.testing.assert_allclose(all_samples(recording), iq[:kept], atol=1e-4)


def auxi(frequency_hz=14_200_000, year=2020):
    times = struct.pack("<8H", year, 1, 3, 1, 12, 0, 0, 250) + struct.pack("<8H", year, 1, 3, 1, 12, 0, 1, 750)
    return (times + struct.pack("<9I", frequency_hz, *([0] * 8))).ljust(164, b"\0")


XML = '<?xml version="1.0"?><SDR-XML-Root><Definition CurrentTimeUTC="01-01-2020 12:00:00" RadioCenterFreq="14200000"/>'


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (auxi(), "2020-01-01T12:00:00.25Z"),
        (XML.encode(), "2020-01-01T12:00:00Z"),
        (XML.encode("utf-16"), "2020-01-01T12:00:00Z"),
    ],
)
def test_the_auxi_chunk_gives_frequency_and_start(tmp_path, content, start):
    path = tmp_path / "HDSDR_20200101_120000Z_14200kHz_RF.wav"
    path.write_bytes(wav(stored(noise(5_000), 1, 16), chunks=[(b"auxi", content)]))
    for named in (path, path.rename(tmp_path / "renamed.wav")):
        recording = open_recording(named if named.exists() else tmp_path / "renamed.wav")
        assert (recording.frequency_hz, recording.time_source) == (14.2e6, "file")
        assert recording.start_time_unix_ns == unix_ns_from_iso(start)
        assert recording.notes == ()


def test_an_auxi_chunk_that_contradicts_the_name_is_noted(tmp_path):
    path = tmp_path / "HDSDR_20200102_120000Z_7100kHz_RF.wav"
    path.write_bytes(wav(stored(noise(5_000), 1, 16), chunks=[(b"auxi", auxi())]))
    recording = open_recording(path)
    assert recording.frequency_hz == 14.2e6
    assert len(recording.notes) == 2


def test_a_second_data_chunk_is_refused_instead_of_losing_the_first(tmp_path):
    path = tmp_path / "HDSDR_20200101_120000Z_14200kHz_RF.wav"
    samples = stored(noise(5_000), 1, 16)
    path.write_bytes(wav(samples, after=b"data" + struct.pack("<I", len(samples)) + samples))
    with pytest.raises(RecordingFormatError, match="at byte 20052: has several data chunks"):
        open_recording(path)


@pytest.mark.parametrize(
    "content",
    [b"", bytes(164), auxi(0, 0), b"<xml", b"\xff\xfe<\0", b"x" * 35, b'<Definition RadioCenterFreq="14.2.1"/>'],
)
def test_an_auxi_chunk_that_says_nothing_leaves_the_name(tmp_path, content):
    path = tmp_path / "SDRSharp_20200101_120000Z_145500000Hz_IQ.wav"
    path.write_bytes(wav(stored(noise(5_000), 1, 16), chunks=[(b"auxi", content)]))
    recording = open_recording(path)
    assert recording.frequency_hz == 145.5e6
    assert recording.start_time_unix_ns == TIMES["start_time_unix_ns"]


def mono_as_stereo():
    return np.repeat(np.rint(noise(10_000).real * 30_000).astype("<i2"), 2).tobytes()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.wav", wav(mono_as_stereo(), channels=1), "it has one channel: audio or real samples"),
        ("a.wav", wav(bytes(600), channels=6), "6 channels"),
        ("a.wav", wav(mono_as_stereo()), "both channels are the same"),
        ("a.wav", wav(bytes(600), coding=0x55), "MP3"),
        ("a.wav", wav(bytes(600), bits=12), "PCM of 8, 16, 24 or 32 bits"),
        ("HDSDR_20200101_120000Z_14200kHz_AF.wav", wav(stored(noise(100), 1, 16)), "demodulated audio"),
        ("a.wav", wav(b""), "holds no samples"),
        ("a.wav", wav(bytes(4), rate=0), "sample rate of 0"),
        ("a.wav", b"RIFF\0\0\0\0WAVE", "no data chunk"),
    ],
)
def test_what_is_no_iq_is_refused_with_the_reason(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(tmp_path / name, **TIMES)


def test_24_bits_in_four_bytes_are_read(tmp_path):
    iq = noise(1_000)
    content = wav(stored(iq, 1, 32), bits=24, container=32)
    (tmp_path / "a.wav").write_bytes(content)
    np.testing.assert_allclose(all_samples(open_recording(tmp_path / "a.wav", **TIMES)), iq, atol=1e-6)


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_no_header_crashes_and_none_is_read_wrongly_without_a_note(tmp_path, data):
    pairs = np.arange(1, 513, dtype="<i2")
    content = bytearray(
        wav(
            pairs.tobytes(),
            chunks=data.draw(
                st.lists(st.tuples(st.sampled_from([b"auxi", b"LIST"]), st.binary(max_size=80)), max_size=2)
            ),
            data_bytes=data.draw(st.sampled_from([None, 0, 4, 1_023, 1_028, 0xFFFFFFFF, 0xFFFFFFF0])),
            riff_bytes=data.draw(st.sampled_from([None, 0, 0xFFFFFFFF])),
            riff=data.draw(st.sampled_from([b"RIFF", b"RF64", b"RIFX"])),
            ds64=data.draw(st.sampled_from([None, 0, 1_024, 2**63])),
        )
    )
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, min(len(content), 200) - 1))
        content[at] = data.draw(st.integers(0, 255))
    is_damaged = bytes(content[-1_024:]) != pairs.tobytes()
    del content[data.draw(st.integers(len(content) - 1_100, len(content))) :]
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    try:
        recording = open_recording(path, **GIVEN)
        samples = all_samples(recording)
    except RecordingFormatError:
        return
    if recording.encoding == "ci16" and not is_damaged and not recording.notes and samples.size:
        found = np.rint(samples.view(np.float32) * 32768).astype("<i2")
        at = bytes(content).find(found.tobytes())
        assert at >= 0  # nothing but what the file holds, in its order
