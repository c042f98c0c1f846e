"""Whatever a file holds, a reader answers with a recording or RecordingFormatError, soon and in little memory."""

import contextlib
import json
import os
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heimdall_pipelines.formats.kiwi_chunks import BLOCK
from heimdall_pipelines.formats.kiwi_wav import kiwi_wav_name, write_kiwi_wav
from heimdall_pipelines.formats.npy import npy_header_bytes
from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording
from heimdall_pipelines.formats.sigmf_sidecar import sigmf_meta

from .support import GIVEN, START_NS, WAV_HEADER_BYTES, noise

PEAK_BYTES = 8 << 20
CPU_S = 10.0  # many times what it takes on a slow machine; of this process alone, whatever else it does
WAV_NAME = kiwi_wav_name(START_NS, 77_500.0, "X")
fuzzed = settings(
    max_examples=2 * settings().max_examples,  # of the profile
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def _measured_memory():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def read_or_refuse(path, **options) -> None:
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    before_s = time.process_time()
    with contextlib.suppress(RecordingFormatError):
        for block in open_recording(path, **options).blocks():
            assert np.isfinite(block.view(np.float32)).all()
    assert time.process_time() - before_s < CPU_S
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < PEAK_BYTES


@st.composite
def damaged(draw, valid: bytes, interesting: int, stride: int = 0):
    """Change, cut, repeat or insert bytes of a valid file, mostly where its headers are."""
    content = bytearray(valid)
    headers = st.integers(0, interesting - 1)
    if stride:
        headers = headers | st.builds(
            lambda block, byte: block * stride + WAV_HEADER_BYTES + byte,
            st.integers(0, len(valid) // stride - 1),
            st.integers(0, 25),
        )
    for _ in range(draw(st.integers(1, 4))):
        if not content:
            break
        at = min(draw(headers | st.integers(0, len(valid) - 1)), len(content) - 1)
        match draw(st.sampled_from(["change", "change", "cut", "drop", "insert"])):
            case "change":
                new = draw(st.binary(min_size=1, max_size=4) | st.sampled_from([b"\xff" * 4, bytes(4), b"\x80\0\0\0"]))
                content[at : at + len(new)] = new
            case "cut":
                del content[at:]
            case "drop":
                del content[at : at + draw(st.integers(1, 3000))]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=64))
    return bytes(content)


def valid_wav(folder) -> bytes:
    """Small but complete: one block a second, a fix every three."""
    path = folder / WAV_NAME
    write_kiwi_wav(
        path,
        noise(14 * 512),
        nominal_sample_rate_hz=512,
        true_sample_rate_hz=512.01,
        start_time_unix_ns=START_NS,
        fix_interval_s=3.0,
    )
    assert open_recording(path).time_source == "gnss"
    return path.read_bytes()


@pytest.mark.slow
@fuzzed
@given(data=st.data())
def test_any_damage_to_a_wav_is_survived(tmp_path, data):
    path = tmp_path / WAV_NAME
    content = data.draw(damaged(valid_wav(tmp_path), 80, BLOCK.itemsize))
    if data.draw(st.booleans()):
        content = content[:4] + bytes(4) + content[8:]  # no length in the header: the chunks alone decide
    path.write_bytes(content)
    read_or_refuse(path)


@pytest.mark.long
@fuzzed
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=40))
def test_any_time_stamps_are_survived(tmp_path, stamps):
    path = tmp_path / WAV_NAME
    valid = valid_wav(tmp_path)
    blocks = np.frombuffer(bytearray(valid[WAV_HEADER_BYTES:]), BLOCK)
    for block, (age_s, second, nanosecond) in zip(blocks, stamps, strict=False):
        block["stamp"] = (age_s, 0, second, nanosecond)
    path.write_bytes(valid[:WAV_HEADER_BYTES] + blocks.tobytes())
    read_or_refuse(path)


@pytest.mark.long
@fuzzed
@given(data=st.data())
def test_any_damage_to_a_npy_is_survived(tmp_path, data):
    path = tmp_path / "a.npy"
    path.write_bytes(data.draw(damaged(npy_header_bytes(50) + noise(50).tobytes(), 128)))
    read_or_refuse(path, **GIVEN)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of the literal that numpy evaluates
@fuzzed
@given(st.text(alphabet="{}[]()'\",: <>|cfiOV0123456789descrfortran_ordershapeTrueFalse\\x", max_size=120))
def test_any_npy_header_text_is_survived(tmp_path, text):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + noise(4).tobytes())
    read_or_refuse(path, **GIVEN)


def valid_meta() -> dict:
    meta = sigmf_meta(
        dataset_name="a.npy",
        header_bytes=128,
        num_samples=50,
        sample_rate_hz=200_000.0,
        frequency_hz=145.5e6,
        start_time_unix_ns=START_NS,
        lat=45.0,
        lon=7.0,
        alt_m=0.0,
        description="",
        recorder="",
    )
    meta["captures"].append({"core:sample_start": 25, "core:global_index": 25})
    return meta


texts = st.text(alphabet="az09:_/.\\\0 \u00e9\ud800", max_size=10)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["a.npy", "cu8", "rf32_le", "2017-11-27T10:41:56Z", "1.2.6"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=5,
)


@pytest.mark.long
@settings(fuzzed, max_examples=settings().max_examples)
@given(data=st.data())
def test_any_values_in_metadata_are_survived(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(npy_header_bytes(50) + noise(50).tobytes())
    meta = valid_meta()
    places = [(meta, key) for key in meta]
    places += [(part, key) for part in (meta["global"], *meta["captures"]) for key in part]
    places.append((meta, "core:foreign"))
    for _ in range(data.draw(st.integers(1, 3))):
        part, key = data.draw(st.sampled_from(places))
        if data.draw(st.booleans()):
            part[key] = data.draw(json_values)
        else:
            part.pop(key, None)
    path = tmp_path / "a.sigmf-meta"
    path.write_text(json.dumps(meta))
    read_or_refuse(path)


@pytest.mark.long
@fuzzed
@given(data=st.data())
def test_any_damage_to_the_text_of_metadata_is_survived(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(npy_header_bytes(50) + noise(50).tobytes())
    text = json.dumps(valid_meta()).encode()
    path = tmp_path / "a.sigmf-meta"
    path.write_bytes(data.draw(damaged(text, len(text))))
    read_or_refuse(path)


@pytest.mark.long
@fuzzed
@given(st.sampled_from(["a.wav", WAV_NAME, "a.npy", "a.sigmf-meta", "a.bin"]), st.binary(max_size=300))
def test_random_bytes_are_survived(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    read_or_refuse(path, **GIVEN)


@pytest.mark.long
def test_a_wav_cut_anywhere_in_its_first_blocks_is_refused(tmp_path):
    whole = valid_wav(tmp_path)
    path = tmp_path / WAV_NAME
    for length in range(WAV_HEADER_BYTES + BLOCK.itemsize + 40):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordingFormatError):
            open_recording(path)


@pytest.mark.long
def test_a_npy_cut_anywhere_is_refused(tmp_path):
    whole = npy_header_bytes(50) + noise(50).tobytes()
    path = tmp_path / "a.npy"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordingFormatError):
            open_recording(path, **GIVEN)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.npy", npy_header_bytes(10**15)),
        ("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
        (WAV_NAME, b"RIFF\xf0\xff\xff\xffWAVEfmt \xff\xff\xff\xff"),
        (WAV_NAME, b"RIFF\0\0\0\0WAVEkiwi\xff\xff\xff\x7f"),
        (WAV_NAME, b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x3f"),
        ("a.sigmf-meta", b'{"global": '),
    ],
)
def test_a_header_that_claims_gigabytes_allocates_none(tmp_path, name, start):
    path = tmp_path / name
    path.write_bytes(start)
    os.truncate(path, 3 << 30)  # sparse: the gigabytes may even be there
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    with pytest.raises(RecordingFormatError):
        open_recording(path, **GIVEN)
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < 32 << 20
