"""NumPy arrays of all shapes, SDRangel, MATLAB and Digital RF files."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording
from heimdall_pipelines.formats.utc import unix_ns_from_iso

from .support import GIVEN, all_samples, noise

IQ = noise(5_000)
INTEGERS = np.rint(IQ.view(np.float32) * 30_000).astype("<i2")
START_NS = unix_ns_from_iso("2024-05-01T12:00:00.25Z")


def pairs():
    return INTEGERS.reshape(-1, 2)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (IQ, IQ),
        (IQ[np.newaxis], IQ),
        (IQ[:, np.newaxis], IQ),
        (IQ[np.newaxis, :, np.newaxis].astype(">c16"), IQ),
        (pairs(), None),
        (pairs().T, None),
        (pairs().astype(">i2"), None),
        (pairs().astype("f8") / 32768, None),
        (INTEGERS.view([("re", "<i2"), ("im", "<i2")]), None),
    ],
)
def test_every_shape_of_npy_gives_its_samples(tmp_path, array, expected, order):
    np.save(tmp_path / "a.npy", np.array(array, order=order, copy=True))
    recording = open_recording(tmp_path / "a.npy", **GIVEN)
    expected = INTEGERS.astype(np.float32).view(np.complex64) / 32768 if expected is None else expected
    for max_samples in (777, 1 << 20):
        np.testing.assert_array_equal(all_samples(recording, max_samples), expected)


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 500), np.complex64), INTEGERS, np.zeros((5, 5), "i2"), np.zeros((2, 5, 2), "f4"), np.array("a")],
)
def test_arrays_that_are_no_samples_of_one_receiver_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(RecordingFormatError, match=r"not one-dimensional|not complex64"):
        open_recording(tmp_path / "a.npy", **GIVEN)


def sdriq(bits, start):
    header = struct.pack("<IQQII", 48_000, 145_500_000, start, bits, 0)
    samples = INTEGERS if bits == 16 else INTEGERS.astype("<i4") * 256
    return header + struct.pack("<I", zlib.crc32(header)) + samples.tobytes()


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("start", [START_NS // 10**6, START_NS // 10**9])
def test_sdriq_files_state_everything(tmp_path, bits, start):
    (tmp_path / "a.sdriq").write_bytes(sdriq(bits, start))
    recording = open_recording(tmp_path / "a.sdriq")
    assert (recording.sample_rate_hz, recording.frequency_hz, recording.time_source) == (48_000.0, 145.5e6, "file")
    fraction_ns = 0 if start < 10**11 else 250_000_000
    assert recording.start_time_unix_ns == START_NS // 10**9 * 10**9 + fraction_ns
    expected = INTEGERS.astype(np.float32).view(np.complex64) / 32768
    np.testing.assert_allclose(all_samples(recording), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (sdriq(16, 1)[:20], "ends within the header"),
        (b"\1" + sdriq(16, 1)[1:], "checksum of its header is wrong"),
        (sdriq(12, 1), "samples of 12 bits"),
        (sdriq(16, 1)[:32], "holds no samples"),
    ],
)
def test_a_damaged_sdriq_file_is_refused(tmp_path, content, reason):
    (tmp_path / "a.sdriq").write_bytes(content)
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(tmp_path / "a.sdriq", start_time_unix_ns=START_NS)


@pytest.mark.parametrize(
    "vector", [IQ, IQ[:, np.newaxis], IQ.astype(np.complex128), pairs(), pairs().T.astype(np.float64) / 32768]
)
@pytest.mark.parametrize(
    "saved", [{}, {"do_compression": True}, {"format": "4"}, {"oned_as": "column"}], ids=["-v6", "-v7", "-v4", "column"]
)
def test_mat_files_give_samples_rate_and_frequency(tmp_path, vector, saved):
    if saved.get("format") == "4" and vector.dtype == np.complex64:
        vector = vector.astype(np.complex128)
    savemat(tmp_path / "a.mat", {"x": vector, "Fs": 48_000.0, "fc": 145.5e6, "taps": np.ones(5), "s": "text"}, **saved)
    recording = open_recording(tmp_path / "a.mat", start_time_unix_ns=START_NS)
    assert (recording.sample_rate_hz, recording.frequency_hz) == (48_000.0, 145.5e6)
    is_complex = np.iscomplexobj(vector)
    expected = IQ if is_complex else INTEGERS.astype(np.float32).view(np.complex64) / 32768
    np.testing.assert_allclose(all_samples(recording, 777), expected, atol=1e-7)


@pytest.mark.parametrize("order", ["<", ">"])
def test_values_of_a_mat_file_may_be_stored_smaller_than_their_type(tmp_path, order):
    """MATLAB stores doubles that are small integers in a byte each; scipy never does, so this is by hand."""

    def element(kind, content):
        return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)

    real, imaginary = np.arange(-100, 100, dtype="i1"), np.arange(200, dtype="u1")
    variable = element(6, struct.pack(f"{order}II", 6 | 0x0800, 0)) + element(5, struct.pack(f"{order}ii", 1, 200))
    variable += struct.pack(f"{order}I", 2 << 16 | 1) + b"iq\0\0"  # a name so short lies in its tag
    variable += element(1, real.tobytes()) + element(2, imaginary.tobytes())
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    for name, content in (("plain.mat", variable), ("packed.mat", None)):
        packed = zlib.compress(element(14, variable))
        whole = element(14, content) if content else struct.pack(f"{order}II", 15, len(packed)) + packed
        (tmp_path / name).write_bytes(header + whole)
        read = all_samples(open_recording(tmp_path / name, **GIVEN), 33)
        np.testing.assert_array_equal(read, real.astype("f4") + 1j * imaginary.astype("f4"))


@pytest.mark.parametrize("cut", [100, 130, 200, 700, 3000, -9])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_mat_file_cut_anywhere_is_refused(tmp_path, cut, compressed):
    savemat(tmp_path / "a.mat", {"x": IQ}, do_compression=compressed)
    (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:cut])
    with pytest.raises(RecordingFormatError):
        all_samples(open_recording(tmp_path / "a.mat", **GIVEN))


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True])
def test_a_long_mat_file_takes_little_memory(tmp_path, compressed):
    long = np.tile(IQ.astype(np.complex128), 2_000_000 // IQ.size)  # 32 MB
    savemat(tmp_path / "a.mat", {"x": long}, do_compression=compressed)
    tracemalloc.start()
    try:
        num_samples = sum(block.size for block in open_recording(tmp_path / "a.mat", **GIVEN).blocks(1 << 16))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert num_samples == long.size
    assert peak_bytes < 12e6


@pytest.mark.parametrize("shape", ["complex", "pairs", "columns"])
@pytest.mark.parametrize("storage", [{}, {"chunks": True, "compression": "gzip"}], ids=["contiguous", "compressed"])
def test_mat_files_of_version_7_3_are_read(tmp_path, shape, storage):
    h5py = pytest.importorskip("h5py")
    values = {
        "complex": IQ.astype(np.complex128).view([("real", "f8"), ("imag", "f8")])[np.newaxis],
        "pairs": pairs(),
        "columns": pairs().T,
    }[shape]
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file.create_dataset("x", data=values, **storage)
        file["fs"] = np.array([[48_000.0]])
    recording = open_recording(tmp_path / "a.mat", start_time_unix_ns=START_NS, frequency_hz=145.5e6)
    assert recording.sample_rate_hz == 48_000.0
    expected = IQ if shape == "complex" else INTEGERS.astype(np.float32).view(np.complex64) / 32768
    for max_samples in (777, 1 << 20):
        np.testing.assert_array_equal(all_samples(recording, max_samples), expected)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"a": IQ, "b": IQ}, "holds 2: a, b"),
        ({"a": np.ones(1000)}, "holds 0: none among a"),
        (None, "cannot be read as a .mat file"),
    ],
)
def test_a_mat_file_without_one_vector_is_refused(tmp_path, variables, reason):
    if variables is None:
        (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0" + bytes(500))
    else:
        savemat(tmp_path / "a.mat", variables)
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(tmp_path / "a.mat", **GIVEN)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_digital_rf_gives_samples_rate_time_and_frequency(tmp_path, dtype):
    digital_rf = pytest.importorskip("digital_rf")
    (tmp_path / "rec" / "ch0" / "metadata").mkdir(parents=True)
    start = int(START_NS * 48_000 // 10**9)
    values = INTEGERS if dtype == "i2" else INTEGERS.astype("f4") / 32768
    writer = digital_rf.DigitalRFWriter(
        str(tmp_path / "rec" / "ch0"), np.dtype(dtype), 3600, 1000, start, 48_000, 1, is_complex=True, num_subchannels=1
    )
    writer.rf_write(values.reshape(-1, 2))
    writer.close()
    metadata = digital_rf.DigitalMetadataWriter(str(tmp_path / "rec" / "ch0" / "metadata"), 3600, 1, 48_000, 1, "md")
    metadata.write(start, {"center_frequencies": np.array([145.5e6])})
    expected = INTEGERS.astype(np.float32).view(np.complex64) / 32768
    for folder in ("rec", "rec/ch0"):
        recording = open_recording(tmp_path / folder)
        assert (recording.sample_rate_hz, recording.frequency_hz) == (48_000.0, 145.5e6)
        assert recording.start_time_unix_ns == START_NS
        np.testing.assert_array_equal(all_samples(recording, 777), expected)


def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "digital_rf", None)
    (tmp_path / "ch0").mkdir()
    (tmp_path / "ch0" / "drf_properties.h5").write_bytes(b"")
    with pytest.raises(
        RecordingFormatError, match=r"install digital_rf, with: pip install 'heimdall-pipelines\[formats\]'"
    ):
        open_recording(tmp_path)
