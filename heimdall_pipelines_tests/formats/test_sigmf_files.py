"""SigMF recordings, read, and sidecars for our own files."""

import json
import math

import numpy as np
import pytest
import sigmf
from sigmf import validate as sigmf_schema

from heimdall_pipelines.formats.npy import npy_header_bytes
from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording
from heimdall_pipelines.formats.sigmf_sidecar import sigmf_meta

from .support import START_NS, all_samples, noise

HEIMDALL = {"name": "heimdall", "version": "1.0.0", "optional": True}
START = "2017-11-27T10:41:56.038122299Z"


def write_pair(folder, data: bytes, *, core=None, captures=None, drop=(), data_name="a.sigmf-data"):
    """Write data and a complete .sigmf-meta, changed by `core` and `captures`."""
    (folder / data_name).write_bytes(data)
    whole = {"core:datatype": "cf32_le", "core:version": "1.2.0", "core:sample_rate": 200_000} | (core or {})
    first = {"core:sample_start": 0, "core:frequency": 145.5e6, "core:datetime": START}
    captures = [first] if captures is None else [first | capture for capture in captures]
    for key in drop:
        whole.pop(key, None)
        for capture in captures:
            capture.pop(key, None)
    meta = folder / "a.sigmf-meta"
    meta.write_text(json.dumps({"global": whole, "captures": captures, "annotations": []}))
    return meta


def test_a_recording_is_read_by_either_of_its_files(tmp_path):
    iq = noise(1000)
    geolocation = {"type": "Point", "coordinates": [9.0112, 50.0152, 123.0]}
    write_pair(tmp_path, iq.tobytes(), core={"core:hw": "KiwiSDR"}, captures=[{"core:geolocation": geolocation}])
    for suffix in ("meta", "data"):
        recording = open_recording(tmp_path / f"a.sigmf-{suffix}")
        assert recording.path == tmp_path / f"a.sigmf-{suffix}"
        assert (recording.format, recording.time_source, recording.num_samples) == ("sigmf", "file", 1000)
        assert (recording.sample_rate_hz, recording.frequency_hz) == (200_000.0, 145.5e6)
        assert recording.start_time_unix_ns == START_NS
        assert recording.position == (50.0152, 9.0112, 123.0)
        assert recording.receiver_name is None  # a model is no station
        np.testing.assert_array_equal(all_samples(recording), iq)


@pytest.mark.parametrize("order", ["_le", "_be"])
@pytest.mark.parametrize(
    ("name", "number", "lowest", "highest"),
    [
        ("cf32", "f4", -0.75, 0.75),
        ("cf64", "f8", -0.75, 0.75),
        ("ci32", "i4", -1.0, 1.0),
        ("ci16", "i2", -1.0, 32767 / 32768),
        ("ci8", "i1", -1.0, 127 / 128),
        ("cu16", "u2", -1.0, 1.0),
        ("cu8", "u1", -1.0, 1.0),
    ],
)
def test_every_complex_datatype_is_scaled_to_one(tmp_path, name, number, order, lowest, highest):
    dtype = np.dtype(("<" if order == "_le" else ">") + number)
    limits = np.array([-0.75, 0.75]) if dtype.kind == "f" else np.array([np.iinfo(dtype).min, np.iinfo(dtype).max])
    meta = write_pair(tmp_path, limits.astype(dtype).tobytes(), core={"core:datatype": name + order})
    recording = open_recording(meta)
    np.testing.assert_array_equal(all_samples(recording), np.array([lowest + 1j * highest], np.complex64))
    assert (recording.quantisation_step is None) == (dtype.kind == "f")


@pytest.mark.parametrize("name", ["ci8", "cu8"])
def test_single_bytes_need_no_byte_order(tmp_path, name):
    assert open_recording(write_pair(tmp_path, bytes(10), core={"core:datatype": name})).num_samples == 5


def test_header_and_trailer_of_a_nonconforming_dataset_are_left_out(tmp_path):
    iq = noise(100)
    meta = write_pair(
        tmp_path,
        b"header!" + iq.tobytes() + b"trailer",
        core={"core:dataset": "a.xyz", "core:trailing_bytes": 7},
        captures=[{"core:header_bytes": 7}],
        data_name="a.xyz",
    )
    np.testing.assert_array_equal(all_samples(open_recording(meta)), iq)


def test_given_values_complete_and_override_the_file(tmp_path):
    absent = ("core:sample_rate", "core:frequency", "core:datetime")
    meta = write_pair(tmp_path, noise(10).tobytes(), drop=absent)
    with pytest.raises(RecordingFormatError, match="give --sample-rate, --frequency, --start"):
        open_recording(meta)
    recording = open_recording(meta, sample_rate_hz=1e6, frequency_hz=7e6, start_time_unix_ns=START_NS + 1)
    assert (recording.sample_rate_hz, recording.frequency_hz) == (1e6, 7e6)
    meta = write_pair(tmp_path, noise(10).tobytes())
    recording = open_recording(meta, sample_rate_hz=1e6, frequency_hz=0.0, start_time_unix_ns=0)
    assert (recording.sample_rate_hz, recording.frequency_hz, recording.start_time_unix_ns) == (1e6, 0.0, 0)
    assert recording.time_source == "given"


def test_no_captures_mean_one_capture(tmp_path):
    meta = write_pair(tmp_path, noise(10).tobytes(), captures=[])
    recording = open_recording(meta, frequency_hz=7e6, start_time_unix_ns=START_NS)
    assert recording.num_samples == 10


def test_a_position_may_stand_in_the_global_object_and_lack_the_altitude(tmp_path):
    core = {"core:geolocation": {"type": "Point", "coordinates": [9, 50]}}
    assert open_recording(write_pair(tmp_path, noise(10).tobytes(), core=core)).position == (50.0, 9.0, 0.0)


def test_captures_without_a_gap_are_one_recording(tmp_path):
    captures = [{}, {"core:sample_start": 5_000, "core:datetime": "2017-11-27T10:41:56.063Z"}]
    iq = noise(10_000)
    np.testing.assert_array_equal(
        all_samples(open_recording(write_pair(tmp_path, iq.tobytes(), captures=captures))), iq
    )


@pytest.mark.parametrize(
    ("captures", "reason"),
    [
        ([{}, {"core:sample_start": 50, "core:datetime": "2017-11-27T10:41:57Z"}], "begins 0.96.* s off"),
        ([{}, {"core:sample_start": 50, "core:frequency": 1e6}], "changes the frequency"),
        ([{"core:global_index": 0}, {"core:sample_start": 50, "core:global_index": 51}], "samples are missing"),
        ([{}, {"core:sample_start": 100}], "fewer than its captures begin at"),
        ([{"core:datetime": "2017-11-27"}], "core:datetime .* is not a UTC instant"),
        ([{"core:geolocation": {"type": "Point", "coordinates": [9, 91]}}], "on Earth"),
        ([{"core:geolocation": {"type": "Point", "coordinates": [9, 10**400]}}], "on Earth"),
        ([{"core:header_bytes": 801}], "is truncated"),
        ([{"core:header_bytes": 3}], "ends within a sample"),
        ([{"core:header_bytes": 2**62}], "is truncated"),
        ([{"core:header_bytes": 2**63 - 1}], "whole number"),
    ],
)
def test_captures_that_are_no_one_recording_are_refused(tmp_path, captures, reason):
    meta = write_pair(tmp_path, noise(100).tobytes(), captures=captures)
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(meta)


@pytest.mark.parametrize(
    ("core", "reason"),
    [
        ({"core:datatype": "rf32_le"}, "real samples of this type are not supported"),
        ({"core:datatype": "cu32_le"}, "are not supported; supported are: .*cf32_le"),
        ({"core:datatype": "nonsense"}, "are not supported"),
        ({"core:datatype": None}, "has no core:datatype"),
        ({"core:num_channels": 2}, "only one channel"),
        ({"core:sample_rate": -1}, "--sample-rate"),
        ({"core:sample_rate": 0.001}, "--sample-rate"),
        ({"core:dataset": "../secret"}, "bare file name|violates the SigMF schema"),
        ({"core:dataset": "a/../../secret"}, "bare file name"),
        ({"core:dataset": "/etc/passwd"}, "bare file name|violates the SigMF schema"),
        ({"core:dataset": ".."}, "bare file name"),
        ({"core:dataset": "."}, "bare file name"),
        ({"core:dataset": ""}, "bare file name"),
        ({"core:dataset": "a\\b"}, "bare file name"),
        ({"core:dataset": "a\0b"}, "bare file name"),
        ({"core:dataset": "missing.npy"}, r"missing\.npy: cannot be opened"),
        ({"core:dataset": "x" * 300}, "cannot be opened"),
        ({"core:dataset": "\ud800"}, "cannot be opened"),
        ({"core:trailing_bytes": 10**6}, "is truncated"),
        ({"heimdall:num_samples": 101, "core:extensions": [HEIMDALL]}, "holds 100 samples, its metadata say 101"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path, core, reason):
    meta = write_pair(tmp_path, noise(100).tobytes(), core=core)
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(meta)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"global": {"core:sample_rate": NaN}}', "NaN is not a JSON number"),
        ("[]", "violates the SigMF schema"),
        ("{}", "is no SigMF"),
        (" " * (4 << 20) + "{}", "too long for metadata"),
    ],
)
def test_a_file_that_is_no_metadata_is_refused(tmp_path, text, reason):
    meta = tmp_path / "a.sigmf-meta"
    meta.write_text(text)
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(meta)


def test_data_without_metadata_say_which_file_is_missing(tmp_path):
    (tmp_path / "a.sigmf-data").write_bytes(bytes(80))
    with pytest.raises(RecordingFormatError, match=r"a\.sigmf-meta: cannot be opened"):
        open_recording(tmp_path / "a.sigmf-data")


def test_data_that_contradict_their_metadata_are_refused(tmp_path):
    write_pair(tmp_path, noise(10).tobytes(), core={"core:dataset": "b.xyz"}, data_name="b.xyz")
    (tmp_path / "a.sigmf-data").write_bytes(bytes(80))
    with pytest.raises(RecordingFormatError, match=r"is not what a\.sigmf-meta describes: that is b\.xyz"):
        open_recording(tmp_path / "a.sigmf-data")


def test_an_empty_data_file_holds_no_samples(tmp_path):
    with pytest.raises(RecordingFormatError, match="fewer than its captures"):
        open_recording(write_pair(tmp_path, b""))


def own_meta(**changes) -> dict:
    arguments = {
        "dataset_name": "torino.npy",
        "header_bytes": 128,
        "num_samples": 1000,
        "sample_rate_hz": 200_000.0,
        "frequency_hz": 145_500_000.0,
        "start_time_unix_ns": START_NS,
        "lat": 45.07,
        "lon": 7.69,
        "alt_m": 240.0,
        "description": "synthetic sample 5",
        "recorder": "heimdall-pipelines 0.1.0",
    }
    return sigmf_meta(**(arguments | changes))


def test_our_sidecar_of_a_npy_file_is_valid_and_read_by_sigmf_itself(tmp_path):
    iq = noise(1000)
    np.save(tmp_path / "torino.npy", iq)
    meta = own_meta(extra={"dataset_id": "d", "truth": {"snr_db": 3.5}})
    sigmf_schema.validate(meta)
    path = tmp_path / "torino.sigmf-meta"
    path.write_text(json.dumps(meta))
    theirs = sigmf.fromfile(path)
    np.testing.assert_array_equal(theirs.read_samples(), iq)
    assert theirs.sample_rate == 200_000.0
    assert theirs.get_capture_info(0)["core:datetime"] == START
    ours = open_recording(path)
    np.testing.assert_array_equal(all_samples(ours), iq)
    assert (ours.start_time_unix_ns, ours.position) == (START_NS, (45.07, 7.69, 240.0))


def test_our_sidecar_declares_its_namespace():
    meta = own_meta(extra={"station": "x"})
    assert meta["global"]["heimdall:station"] == "x"
    assert [extension["name"] for extension in meta["global"]["core:extensions"]] == ["heimdall"]
    assert meta["captures"][0]["core:geolocation"] == {"type": "Point", "coordinates": [7.69, 45.07, 240.0]}


@pytest.mark.parametrize("change", [{"lat": math.nan}, {"sample_rate_hz": math.inf}, {"extra": {"snr_db": math.nan}}])
def test_our_sidecar_never_holds_what_json_cannot(change):
    with pytest.raises(ValueError, match="not JSON compliant"):
        own_meta(**change)


@pytest.mark.parametrize(("header_bytes", "datatype"), [(0, "cf32_le"), (64, "cf32_le"), (128, "ci16_le")])
def test_the_header_of_a_npy_file_is_never_read_as_samples(tmp_path, header_bytes, datatype):
    data = npy_header_bytes(1000) + noise(1000).tobytes()
    meta = write_pair(
        tmp_path,
        data,
        core={"core:dataset": "a.npy", "core:datatype": datatype},
        captures=[{"core:header_bytes": header_bytes}],
        data_name="a.npy",
    )
    with pytest.raises(RecordingFormatError, match="a header of 128 bytes before samples of complex64"):
        open_recording(meta)
