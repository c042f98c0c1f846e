"""KiwiSDR recordings, written and read."""

import struct

import numpy as np
import pytest

from heimdall_pipelines.formats.iq_recording import GivenValues
from heimdall_pipelines.formats.kiwi_chunks import BLOCK
from heimdall_pipelines.formats.kiwi_wav import kiwi_wav_name, write_kiwi_wav
from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording
from heimdall_pipelines.formats.utc import unix_ns_from_iso

from .support import START_NS, WAV_HEADER_BYTES, all_samples, edit_blocks, kiwi_file, noise, set_stamps, stamps_ns


@pytest.mark.parametrize("fix_interval_s", [1.0, 2.5])
@pytest.mark.parametrize(
    "start", ["2017-11-27T10:41:56.038122299Z", "2017-11-25T23:59:36.5Z", "2024-02-29T23:59:59.999999999Z"]
)
def test_a_written_recording_reads_back_with_its_samples_time_and_rate(tmp_path, start, fix_interval_s):
    start_ns = unix_ns_from_iso(start)
    recording = open_recording(kiwi_file(tmp_path, start_ns=start_ns, fix_interval_s=fix_interval_s))
    assert recording.format == "kiwi_wav"
    assert recording.frequency_hz == 77_500.0
    assert recording.receiver_name == "DF0KL"
    assert recording.position is None
    assert recording.quantisation_step == 1 / 32768
    assert recording.time_source == "gnss"
    assert recording.time_uncertainty_ns < 1.0
    assert abs(recording.start_time_unix_ns - start_ns) < 10
    assert recording.sample_rate_hz == pytest.approx(12_001.13, abs=1e-5)
    expected = noise(12 * 12_001)
    assert recording.num_samples == expected.size
    samples = all_samples(recording, 1000)
    # half a step of 1/32768 in each part, and a whole one at +1, which int16 does not reach
    np.testing.assert_allclose(samples.view(np.float32), expected.view(np.float32), atol=1 / 32768)


@pytest.mark.parametrize("num_samples", [1, 511, 512, 513, 5000])
def test_every_sample_written_is_read_whatever_their_number(tmp_path, num_samples):
    iq = np.rint(noise(num_samples).view(np.float32) * 32767).view(np.complex64) / np.float32(32768)
    path = tmp_path / kiwi_wav_name(START_NS, 77_500.0, "X_1")
    write_kiwi_wav(path, iq, nominal_sample_rate_hz=12_001, true_sample_rate_hz=12_001.1, start_time_unix_ns=START_NS)
    recording = open_recording(path)
    assert recording.receiver_name == "X_1"
    for max_samples in (1, 100, 512, 1 << 20):
        np.testing.assert_array_equal(all_samples(recording, max(max_samples, num_samples // 50)), iq)


@pytest.mark.parametrize("cut_bytes", [1, 1000, 2047, 2048, 2050, 2074])
@pytest.mark.parametrize("riff_bytes", [None, 0, 0xFFFFFFFF])
def test_a_recording_that_was_cut_keeps_its_whole_blocks(tmp_path, cut_bytes, riff_bytes):
    path = kiwi_file(tmp_path)
    edit_blocks(path, lambda blocks: None)  # the last block is a whole one
    whole = open_recording(path)
    samples = all_samples(whole)
    content = path.read_bytes()
    size = content[4:8] if riff_bytes is None else riff_bytes.to_bytes(4, "little")
    path.write_bytes((content[:4] + size + content[8:])[: len(content) - cut_bytes])
    cut = open_recording(path)
    assert cut.num_samples == whole.num_samples - 512
    assert cut.time_source == "gnss"
    assert abs(cut.start_time_unix_ns - whole.start_time_unix_ns) < 10
    np.testing.assert_array_equal(all_samples(cut), samples[:-512])
    assert bool(cut.notes) == (cut_bytes != BLOCK.itemsize)  # cut between two blocks: nothing shows it
    assert all("was cut within block" in note for note in cut.notes)


def test_a_rate_that_is_given_for_the_file_ends_its_claim_to_gnss_time(tmp_path):
    recording = open_recording(kiwi_file(tmp_path), sample_rate_hz=12_001.0)
    assert (recording.time_source, recording.time_uncertainty_ns) == ("given", None)
    filled = open_recording(kiwi_file(tmp_path), otherwise=GivenValues(sample_rate_hz=12_001.0))
    assert filled.time_source == "gnss"
    assert filled.sample_rate_hz == pytest.approx(12_001.13, abs=1e-5)


def test_full_scale_is_clipped_to_int16(tmp_path):
    path = tmp_path / kiwi_wav_name(START_NS, 1.0, "X")
    iq = np.array([1 + 1j, -1 - 1j], np.complex64)
    write_kiwi_wav(path, iq, nominal_sample_rate_hz=12_001, true_sample_rate_hz=12_001.1, start_time_unix_ns=START_NS)
    top = 32767 / 32768
    np.testing.assert_array_equal(all_samples(open_recording(path)), np.array([top + top * 1j, -1 - 1j], np.complex64))


def test_the_layout_is_that_of_kiwirecorder(tmp_path):
    content = kiwi_file(tmp_path).read_bytes()
    assert struct.unpack("<4sI4s4sIHHIIHH", content[:WAV_HEADER_BYTES]) == (
        *(b"RIFF", len(content) - 8, b"WAVE"),
        *(b"fmt ", 16, 1, 2, 12_001, 48_004, 4, 16),
    )
    assert content[36:44] == b"kiwi\x0a\0\0\0"
    assert content[54:62] == b"data\0\x08\0\0"
    assert content[36 + BLOCK.itemsize :][:4] == b"kiwi"


@pytest.mark.parametrize(
    "change",
    [
        {"iq": np.array([1.5], np.complex64)},
        {"iq": np.array([np.nan], np.complex64)},
        {"iq": np.zeros(0, np.complex64)},
        {"iq": np.zeros((2, 2), np.complex64)},
        {"fix_interval_s": 0.5},
        {"fix_interval_s": float("nan")},
        {"true_sample_rate_hz": 0.0},
        {"true_sample_rate_hz": float("inf")},
        {"nominal_sample_rate_hz": 0},
        {"start_time_unix_ns": 0},
    ],
)
def test_what_a_recording_cannot_hold_is_not_written(tmp_path, change):
    values = {
        "iq": noise(100),
        "nominal_sample_rate_hz": 12_001,
        "true_sample_rate_hz": 12_001.1,
        "start_time_unix_ns": START_NS,
    }
    with pytest.raises(ValueError, match=r"must be|known from"):
        write_kiwi_wav(tmp_path / "a.wav", **(values | change))
    assert not (tmp_path / "a.wav").exists()


def test_a_renamed_recording_needs_frequency_and_start(tmp_path):
    path = kiwi_file(tmp_path).rename(tmp_path / "renamed.wav")
    with pytest.raises(RecordingFormatError, match="give --frequency, --start"):
        open_recording(path)
    any_time_that_week = START_NS + 3 * 86_400 * 10**9
    recording = open_recording(path, frequency_hz=77_500.0, start_time_unix_ns=any_time_that_week)
    assert recording.receiver_name is None
    assert recording.time_source == "gnss"
    assert abs(recording.start_time_unix_ns - START_NS) < 10


def test_a_given_rate_stands_in_for_the_fitted_one_if_the_stamps_agree(tmp_path):
    path = kiwi_file(tmp_path)
    assert open_recording(path, sample_rate_hz=12_001.0).sample_rate_hz == 12_001.0
    with pytest.raises(RecordingFormatError, match="which is not 20250"):
        open_recording(path, sample_rate_hz=20_250.0)


def test_without_fixes_the_name_and_the_header_count(tmp_path):
    path = kiwi_file(tmp_path)
    edit_blocks(path, lambda blocks: blocks["stamp"]["age_s"].fill(255))
    recording = open_recording(path)
    assert (recording.time_source, recording.time_uncertainty_ns) == ("file", None)
    assert recording.sample_rate_hz == 12_001.0
    named_ns = unix_ns_from_iso("2017-11-27T10:41:56Z")
    assert recording.start_time_unix_ns == named_ns + round(1024e9 / 12_001)  # the first two blocks are dropped
    given = open_recording(path, start_time_unix_ns=START_NS)
    assert (given.time_source, given.start_time_unix_ns) == ("given", START_NS + round(1024e9 / 12_001))


def test_a_recording_too_short_for_three_fixes_is_timed_by_the_stamps_between_them(tmp_path):
    recording = open_recording(kiwi_file(tmp_path, seconds=4.0, fix_interval_s=5.0))
    assert (recording.time_source, recording.time_uncertainty_ns) == ("gnss", 200.0)
    assert abs(recording.start_time_unix_ns - START_NS) < 1_000  # written stamps are exact to the nanosecond
    assert recording.sample_rate_hz == pytest.approx(12_001.13, abs=1e-3)


def test_a_recording_without_stamps_keeps_all_its_samples(tmp_path):
    stored = np.arange(2000, dtype="<i2")
    path = tmp_path / "20171127T104156Z_77500_iq.wav"
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 12_000, 48_000, 4, 16)
    extra = b"LIST\x03\0\0\0abc\0"  # odd chunks are padded to even
    data = struct.pack("<4sI", b"data", stored.nbytes) + stored.tobytes()
    body = b"WAVE" + fmt + extra + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    recording = open_recording(path)
    assert recording.receiver_name is None
    assert recording.time_source == "file"
    assert recording.start_time_unix_ns == unix_ns_from_iso("2017-11-27T10:41:56Z")
    np.testing.assert_array_equal(all_samples(recording).view(np.float32), stored.astype(np.float32) / 32768)


def test_a_recording_that_lost_blocks_is_refused_at_the_byte(tmp_path):
    path = kiwi_file(tmp_path)
    edit_blocks(path, lambda blocks: np.delete(blocks, [100, 101, 102]))
    with pytest.raises(RecordingFormatError, match="are missing before this block") as caught:
        open_recording(path)
    assert caught.value.offset == WAV_HEADER_BYTES + 100 * BLOCK.itemsize + 26


def test_an_early_stamp_left_over_from_another_stream_does_no_harm(tmp_path):
    path = kiwi_file(tmp_path)

    def spoil(blocks):
        times_ns = stamps_ns(blocks)
        times_ns[:2] -= 500 * 10**9
        set_stamps(blocks, times_ns)

    edit_blocks(path, spoil)
    assert abs(open_recording(path).start_time_unix_ns - START_NS) < 10


WHOLE_CHUNK = WAV_HEADER_BYTES + 40 * BLOCK.itemsize


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda b: b[:0], "is not a WAV file"),
        (lambda b: b[:20], "fmt chunk is too short"),
        (lambda b: b"RIFX" + b[4:], "is not a WAV file"),
        (lambda b: b[:WAV_HEADER_BYTES], "has no data chunk"),
        (lambda b: b[: WAV_HEADER_BYTES + 12], "is truncated within the chunk b'kiwi'"),
        (lambda b: b[:4] + bytes(4) + b[8:WAV_HEADER_BYTES], "has no data chunk"),
        (lambda b: b[:4] + bytes(4) + b[8 : WAV_HEADER_BYTES + 2 * BLOCK.itemsize], "2 blocks, but the first"),
        (lambda b: b[:20] + b"\x03" + b[21:], "format 3|floating point|can be read"),
        (lambda b: b[:22] + b"\x01" + b[23:], "it has one channel"),
        (lambda b: b[:24] + bytes(4) + b[28:], "sample rate of 0"),
        (lambda b: b[:12] + b"junk" + b[16:], "before its fmt chunk"),
        (lambda b: b[:36] + b"junk" + b[40:], "no kiwi chunk before it|several data chunks"),
        (lambda b: b[:58] + b"\xff\xff\xff\xff" + b[62:], "is truncated within the chunk b'data'"),
        (lambda b: b[:40] + b"\x05" + b[41:], "kiwi chunk is too short"),
        (lambda b: b[:54] + b"junk" + b[58:], "has no data chunk after it"),
    ],
)
def test_a_damaged_recording_is_refused_with_its_reason(tmp_path, damage, reason):
    path = kiwi_file(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(path)


def test_a_file_name_with_an_impossible_date_is_refused(tmp_path):
    path = kiwi_file(tmp_path).rename(tmp_path / "20171327T104156Z_77500_DF0KL_iq.wav")
    with pytest.raises(RecordingFormatError, match="has no valid date"):
        open_recording(path)


def test_a_date_before_the_leap_second_table_asks_for_another(tmp_path):
    path = kiwi_file(tmp_path).rename(tmp_path / "20051127T104156Z_77500_DF0KL_iq.wav")
    with pytest.raises(RecordingFormatError, match="2009 on: correct the date with --start"):
        open_recording(path)
