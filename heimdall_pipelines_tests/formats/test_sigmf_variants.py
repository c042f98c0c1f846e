"""SigMF as real writers have it: read with a note, or refused with the true reason."""

import hashlib
import json
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heimdall_pipelines.formats.iq_recording import GivenValues
from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording
from heimdall_pipelines.formats.sigmf_archive import expanded
from heimdall_pipelines.formats.sigmf_sidecar import merged_metadata, sigmf_meta

from .support import START_NS, all_samples, noise

START = "2017-11-27T10:41:56.038122299Z"
IQ = noise(10_000)


def write(folder, *, core=None, captures=None, without=(), data=None, **top):
    """A complete recording of 10,000 samples at 200 kHz, then changed."""
    (folder / "a.sigmf-data").write_bytes(IQ.tobytes() if data is None else data)
    meta = {
        "global": {"core:datatype": "cf32_le", "core:version": "1.2.0", "core:sample_rate": 200_000} | (core or {}),
        "captures": [{"core:sample_start": 0, "core:frequency": 145.5e6, "core:datetime": START}],
        "annotations": [],
    } | top
    if captures is not None:
        meta["captures"] = captures
    for part, key in without:
        target = {"global": meta["global"], "capture": meta["captures"][0], "top": meta}[part]
        del target[key]
    (folder / "a.sigmf-meta").write_text(json.dumps(meta))
    return folder / "a.sigmf-meta"


FIRST = {"core:sample_start": 0, "core:frequency": 145.5e6, "core:datetime": START}


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"without": [("top", "annotations")]}, "no annotations"),
        ({"without": [("global", "core:version")]}, "core:version"),
        ({"without": [("capture", "core:sample_start")]}, "core:sample_start"),
        ({"core": {"core:datatype": "cf32"}}, "no byte order"),
        ({"core": {"core:version": "v1.0.0"}}, "core:version"),
        ({"core": {"core:sample_rate": "200000"}}, "is text"),
        ({"core": {"core:extensions": "none"}}, "SigMF schema"),
        ({"annotations": [{"core:label": "without sample_start"}]}, "SigMF schema"),
        ({"captures": [FIRST | {"core:datetime": START.replace("T", " ")}]}, "taken as UTC"),
        ({"captures": [FIRST | {"core:datetime": START[:-1]}]}, "taken as UTC"),
        ({"captures": [FIRST | {"core:datetime": START[:-1] + "+00:00"}]}, "taken as UTC"),
        ({"captures": [FIRST | {"core:datetime": START[:-1] + "+00:00Z"}]}, "taken as UTC"),
    ],
)
def test_deviations_that_do_not_matter_to_the_samples_are_noted(tmp_path, change, note):
    recording = open_recording(write(tmp_path, **change))
    assert (recording.num_samples, recording.sample_rate_hz, recording.frequency_hz) == (10_000, 200e3, 145.5e6)
    assert recording.start_time_unix_ns == START_NS
    assert note in " ".join(recording.notes)
    np.testing.assert_array_equal(all_samples(recording), IQ)


def test_numbers_that_no_float_holds_are_kept_as_text(tmp_path):
    path = write(
        tmp_path, core={"x:gain": 123456.5}, annotations=[{"core:sample_start": 123456.5, "core:comment": "a"}]
    )
    path.write_text(path.read_text().replace("123456.5", "1e999"))
    recording = open_recording(path)
    ours = sigmf_meta(
        num_samples=recording.num_samples,
        sample_rate_hz=recording.sample_rate_hz,
        frequency_hz=recording.frequency_hz,
        start_time_unix_ns=recording.start_time_unix_ns,
        lat=45.0,
        lon=7.0,
        alt_m=0.0,
        description="import",
        recorder="heimdall-pipelines",
    )
    merged = json.loads(json.dumps(merged_metadata(ours, recording.source), allow_nan=False))
    assert merged["global"]["x:gain"] == "1e999"
    assert merged["annotations"] == [
        {"core:sample_start": 0, "core:comment": "a", "heimdall:sample_start_as_read": "1e999"}
    ]


def test_sound_metadata_have_no_notes(tmp_path):
    assert open_recording(write(tmp_path, core={"antenna:model": "loop"})).notes == ()


def test_core_offset_counts_before_the_file(tmp_path):
    meta = write(tmp_path, core={"core:offset": 500}, captures=[FIRST | {"core:sample_start": 500}])
    recording = open_recording(meta)
    np.testing.assert_array_equal(all_samples(recording), IQ)
    assert recording.source.first_sample == 500


def test_samples_before_the_first_capture_are_left_out(tmp_path):
    recording = open_recording(write(tmp_path, captures=[FIRST | {"core:sample_start": 100}]))
    np.testing.assert_array_equal(all_samples(recording), IQ[100:])
    assert recording.start_time_unix_ns == START_NS
    assert "those before it are left out" in recording.notes[0]


def test_each_capture_may_have_a_header(tmp_path):
    data = b"h" * 24 + IQ[:4_000].tobytes() + b"k" * 8 + IQ[4_000:].tobytes()
    captures = [
        FIRST | {"core:header_bytes": 24},
        FIRST | {"core:sample_start": 4_000, "core:header_bytes": 8, "core:datetime": "2017-11-27T10:41:56.058122Z"},
    ]
    np.testing.assert_array_equal(all_samples(open_recording(write(tmp_path, captures=captures, data=data)), 999), IQ)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"captures": [FIRST, FIRST | {"core:sample_start": 50, "core:frequency": 1e6}]},
            "changes the frequency, from",
        ),
        ({"captures": [FIRST, FIRST | {"core:sample_start": 5_000}]}, "a gap"),
        ({"core": {"core:num_channels": 2}}, "only one channel"),
        ({"core": {"core:metadata_only": True}}, "metadata only"),
        ({"captures": [FIRST, {}]}, "capture 1 has no core:sample_start"),
        ({"captures": [FIRST | {"core:datetime": "2017-11-27T10:41:56+02:00"}]}, "is not a UTC instant.*give --start"),
        ({"captures": [FIRST | {"core:datetime": 5}]}, "is not a UTC instant"),
        ({"without": [("global", "core:datatype")]}, "no core:datatype"),
    ],
)
def test_what_one_recording_cannot_be_is_refused_with_the_true_reason(tmp_path, change, reason):
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(write(tmp_path, **change))


def test_a_datetime_is_not_needed_where_a_start_is_given(tmp_path):
    meta = write(tmp_path, captures=[FIRST | {"core:datetime": "yesterday"}])
    for given_start in ({"start_time_unix_ns": 10**18}, {"otherwise": GivenValues(start_time_unix_ns=10**18)}):
        recording = open_recording(meta, **given_start)
        assert (recording.start_time_unix_ns, recording.time_source) == (10**18, "given")
        assert "yesterday" in " ".join(recording.notes)


@pytest.mark.parametrize("folder", ["", "a/"])
def test_an_archive_is_read_where_it_lies(tmp_path, folder):
    write(tmp_path)
    with tarfile.open(tmp_path / "b.sigmf", "w") as archive:
        for part in ("meta", "data"):
            archive.add(tmp_path / f"a.sigmf-{part}", f"{folder}x.sigmf-{part}")
    recording = open_recording(tmp_path / "b.sigmf")
    np.testing.assert_array_equal(all_samples(recording, 777), IQ)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.sigmf-meta"], "not its .sigmf-data"),
        (["a.sigmf-data"], "holds 0 recordings"),
        (None, "not a SigMF archive"),
    ],
)
def test_an_archive_without_one_recording_is_refused(tmp_path, names, reason):
    write(tmp_path)
    (tmp_path / "b.sigmf").write_bytes(bytes(100) + b"x" * 1000)
    if names is not None:
        with tarfile.open(tmp_path / "b.sigmf", "w") as archive:
            for name in names:
                archive.add(tmp_path / name, name)
    with pytest.raises(RecordingFormatError, match=reason):
        open_recording(tmp_path / "b.sigmf")


def test_a_collection_names_its_recordings_and_their_hashes(tmp_path):
    meta = write(tmp_path)
    digest = hashlib.sha512(meta.read_bytes()).hexdigest()
    collection = tmp_path / "c.sigmf-collection"

    def holding(*streams):
        collection.write_text(json.dumps({"collection": {"core:version": "1.2.0", "core:streams": list(streams)}}))
        return collection

    assert expanded([holding({"name": "a", "hash": digest}), meta]) == [meta, meta]
    assert open_recording(collection).num_samples == 10_000
    with pytest.raises(RecordingFormatError, match="not the file whose hash"):
        expanded([holding({"name": "a", "hash": "0" * 128})])
    with pytest.raises(RecordingFormatError, match="is not a SigMF collection"):
        expanded([holding({"name": "../a"})])
    with pytest.raises(RecordingFormatError, match="cannot be opened"):
        expanded([holding({"name": "b"})])


def test_a_wrong_checksum_of_the_samples_is_found(tmp_path):
    right = hashlib.sha512(IQ.tobytes()).hexdigest()
    open_recording(write(tmp_path, core={"core:sha512": right})).digest.verify()
    wrong = open_recording(write(tmp_path, core={"core:sha512": "0" * 128}))
    with pytest.raises(RecordingFormatError, match="core:sha512 differs"):
        wrong.digest.verify()


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(["cf32_le", "cf32", "ci16_le", START, 0, 1, 5_000])
    | st.lists(st.integers(), max_size=2)
)
CORE = [
    "core:datatype",
    "core:sample_rate",
    "core:version",
    "core:num_channels",
    "core:offset",
    "core:dataset",
    "core:trailing_bytes",
    "core:sha512",
    "core:geolocation",
    "core:metadata_only",
    "core:extensions",
]
CAPTURE = [
    "core:sample_start",
    "core:frequency",
    "core:datetime",
    "core:header_bytes",
    "core:global_index",
    "core:geolocation",
]


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    core=st.dictionaries(st.sampled_from(CORE), VALUES, max_size=3),
    first=st.dictionaries(st.sampled_from(CAPTURE), VALUES, max_size=3),
    more=st.lists(st.dictionaries(st.sampled_from(CAPTURE), VALUES, max_size=3), max_size=2),
)
def test_no_metadata_crash_and_none_are_read_wrongly_without_a_note(tmp_path, core, first, more):
    meta = write(tmp_path, core=core, captures=[FIRST | first, *more])
    try:
        recording = open_recording(meta)
        samples = all_samples(recording)
    except RecordingFormatError:
        return
    assert recording.frequency_hz == pytest.approx(first.get("core:frequency") or 145.5e6) or recording.notes
    if recording.encoding == "cf32_le" and not recording.notes and not core.get("core:offset"):
        start = 0 if not first.get("core:header_bytes") else None
        assert start is None or samples.tobytes() in IQ.tobytes()
