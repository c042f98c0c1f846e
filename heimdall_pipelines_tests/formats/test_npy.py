"""The header of .npy files."""

import io

import numpy as np
import pytest

from heimdall_pipelines.formats.npy import npy_header_bytes, read_npy_header
from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording

from .support import GIVEN, START_NS, all_samples, noise


def saved(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["<c8", ">c8", "<c16", ">c16"])
def test_complex_arrays_of_either_width_and_byte_order_are_read(tmp_path, dtype):
    iq = noise(1000)
    path = tmp_path / "a.npy"
    np.save(path, iq.astype(dtype))
    recording = open_recording(path, **GIVEN)
    assert recording.format == "npy"
    assert recording.num_samples == 1000
    assert recording.time_source == "given"
    assert recording.start_time_unix_ns == START_NS
    assert recording.quantisation_step is None
    np.testing.assert_array_equal(all_samples(recording, 300), iq)


def test_version_2_headers_are_read():
    stream = io.BytesIO()
    header = {"descr": "<c8", "fortran_order": False, "shape": (3,)}
    np.lib.format.write_array_header_2_0(stream, header)
    assert read_npy_header(io.BytesIO(stream.getvalue())).num_samples == 3


def test_a_header_is_read_from_the_first_bytes_of_an_object():
    start = saved(noise(100_000))[:300]
    stream = io.BytesIO(start)
    header = read_npy_header(stream)
    assert (header.dtype, header.num_samples, header.header_bytes) == (np.dtype("<c8"), 100_000, 128)
    assert stream.tell() == 128


@pytest.mark.parametrize("num_samples", [0, 1, 200_000, 10**12, 2**62])
def test_a_header_written_ahead_is_what_np_save_writes(num_samples):
    header = npy_header_bytes(num_samples)
    assert len(header) % 64 == 0
    assert read_npy_header(io.BytesIO(header)).num_samples == num_samples
    if num_samples < 10**6:
        array = np.zeros(num_samples, np.complex64)
        assert header + array.tobytes() == saved(array)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a .npy file"),
        (b"RIFF0000WAVE", "is not a .npy file"),
        (saved(np.zeros(4, np.float32)), "float32, not complex64"),
        (saved(np.zeros(4, [("i", "<i2"), ("q", "<f2")])), "not complex64"),
        (saved(np.zeros((2, 2), np.complex64)), r"shape \(2, 2\)"),
        (saved(np.asfortranarray(np.zeros((2, 2), np.complex64))), "shape"),
        (saved(np.complex64(1)), "shape"),
        (saved(np.array([{}], dtype=object), allow_pickle=True), "pickled"),
        (saved(np.zeros(0, np.complex64)), "holds no samples"),
        (saved(noise(10))[:-1], "is truncated"),
        (saved(noise(10))[:100], "ends within the .npy header"),
        (saved(noise(10))[:9], "ends within the .npy header"),
        (saved(noise(10)) + b"x", "bytes after its array"),
        (b"\x93NUMPY\x03\x00" + bytes(100), "version 3.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100), "claims a header of 4294967295 bytes"),
        (b"\x93NUMPY\x01\x00\x40\x00" + b"(" * 64, "is malformed"),
        (npy_header_bytes(10**17), "is truncated"),
    ],
)
def test_what_is_no_row_of_complex_samples_is_refused(tmp_path, content, reason):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(path, **GIVEN)


def test_an_array_that_names_no_rate_asks_for_the_options_that_do(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, noise(10))
    with pytest.raises(RecordingFormatError, match="give --sample-rate, --frequency, --start"):
        open_recording(path)
    with pytest.raises(RecordingFormatError, match="start time: give --start"):
        open_recording(path, sample_rate_hz=1e6, frequency_hz=0.0)


def test_a_negative_length_has_no_header():
    with pytest.raises(ValueError, match="negative"):
        npy_header_bytes(-1)


def test_complex128_beyond_the_range_of_complex64_is_refused(tmp_path):
    iq = noise(1000).astype(np.complex128)
    iq[700] = 1e300j
    path = tmp_path / "a.npy"
    np.save(path, iq)
    with pytest.raises(RecordingFormatError, match="finite") as caught:
        all_samples(open_recording(path, **GIVEN))
    assert caught.value.offset == 128 + 700 * 16 + 8
