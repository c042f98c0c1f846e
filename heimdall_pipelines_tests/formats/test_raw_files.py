"""Headerless files."""

import os
import tracemalloc

import numpy as np
import pytest

from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording

from .support import GIVEN, all_samples, noise


@pytest.mark.parametrize("suffix", [".cf32", ".cfile", ".complex", ".fc32", ".CF32"])
def test_headerless_files_are_complex64_where_the_suffix_implies_it(tmp_path, suffix):
    iq = noise(1000)
    path = tmp_path / f"a{suffix}"
    iq.tofile(path)
    recording = open_recording(path, **GIVEN)
    assert (recording.format, recording.num_samples, recording.quantisation_step) == ("raw", 1000, None)
    np.testing.assert_array_equal(all_samples(recording), iq)


@pytest.mark.parametrize(
    ("raw_format", "dtype", "stored", "value"),
    [
        ("ci16", "<i2", [-32768, 32767, 0, 16384], [-1 + 32767 / 32768 * 1j, 0.5j]),
        ("cu8", "u1", [0, 255, 128, 127], [-1 + 1j, (0.5 - 0.5j) / 127.5]),
    ],
)
def test_integers_are_scaled_so_that_full_scale_is_one(tmp_path, raw_format, dtype, stored, value):
    path = tmp_path / "a.dat"
    np.array(stored, dtype).tofile(path)
    recording = open_recording(path, raw_format=raw_format, **GIVEN)
    assert recording.quantisation_step is not None
    np.testing.assert_array_equal(all_samples(recording), np.array(value, np.complex64))


@pytest.mark.parametrize("max_samples", [1, 7, 100, 1000])
def test_blocks_follow_each_other_without_gap_or_overlap(tmp_path, max_samples):
    iq = noise(100)
    path = tmp_path / "a.cf32"
    iq.tofile(path)
    blocks = list(open_recording(path, **GIVEN).blocks(max_samples))
    assert all(block.size == max_samples for block in blocks[:-1])
    assert all(block.dtype == np.complex64 for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), iq)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named_by_its_byte(tmp_path, bad):
    iq = noise(1000)
    iq.imag[777] = bad
    path = tmp_path / "a.cf32"
    iq.tofile(path)
    recording = open_recording(path, **GIVEN)
    with pytest.raises(RecordingFormatError, match=r"a\.cf32: at byte 6220: sample 777 is .* must be finite") as caught:
        all_samples(recording, 100)
    assert (caught.value.path, caught.value.offset) == (path, 777 * 8 + 4)


def test_a_file_that_shrinks_after_it_was_opened_is_noticed(tmp_path):
    path = tmp_path / "a.cf32"
    noise(1000).tofile(path)
    recording = open_recording(path, **GIVEN)
    os.truncate(path, 4001)
    with pytest.raises(RecordingFormatError, match="at byte 4001: the file has become shorter"):
        all_samples(recording, 100)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no samples"),
        (bytes(13), "at byte 8: ends within a sample"),
        (b"\x93NUMPY\x01\x00" + bytes(120), r"is a \.npy file"),
        (b"RIFF" + bytes(36), r"is a \.wav file"),
    ],
)
def test_what_cannot_be_headerless_samples_is_refused(tmp_path, content, reason):
    path = tmp_path / "a.cf32"
    path.write_bytes(content)
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(path, **GIVEN)


def test_blocks_of_no_samples_are_refused(tmp_path):
    path = tmp_path / "a.cf32"
    noise(10).tofile(path)
    with pytest.raises(ValueError, match="max_samples"):
        next(open_recording(path, **GIVEN).blocks(0))


@pytest.mark.long
def test_reading_300_mb_takes_no_more_than_a_few_blocks_of_memory(tmp_path):
    path = tmp_path / "large.cf32"
    path.touch()
    os.truncate(path, 300_000_000)
    tracemalloc.start()
    try:
        count = sum(block.size for block in open_recording(path, **GIVEN).blocks())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 37_500_000
    assert peak_bytes < 50_000_000
