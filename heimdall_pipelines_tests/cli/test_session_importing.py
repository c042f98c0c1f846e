"""`heimdall session import`, `correct` and `export`: values per file, whose recording it is, corrections, SigMF out."""

import hashlib
import io
import json
import shlex

import numpy as np
import pytest
import sigmf

from heimdall_pipelines.formats.recording import open_recording
from heimdall_pipelines.formats.utc import unix_ns_from_iso
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.iq_objects import read_sidecar
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.session_revisions import is_due_for_extraction
from heimdall_pipelines.store.sessions import get_session, list_sessions
from heimdall_pipelines.store.stations import list_stations
from heimdall_pipelines_tests.sessions.support import noise, quiet

RATE_HZ = 48_000
NOON = "2024-05-01T12:00:00Z"
COMMON = ("--sample-rate", "48kHz", "--frequency", "145MHz", "--start", NOON)


def ns(text):
    return unix_ns_from_iso(text)


def npy(folder, name, key=1):
    np.save(folder / f"{name}.npy", 0.1 * noise(48_000, key))
    return folder / f"{name}.npy"


def sigmf_pair(folder, name, *, core=None, capture=None, annotations=(), key=1):
    (0.1 * noise(48_000, key)).tofile(folder / f"{name}.sigmf-data")
    meta = {
        "global": {"core:datatype": "cf32_le", "core:sample_rate": RATE_HZ, "core:version": "1.2.0"} | (core or {}),
        "captures": [{"core:sample_start": 0, "core:frequency": 145e6, "core:datetime": NOON} | (capture or {})],
        "annotations": list(annotations),
    }
    path = folder / f"{name}.sigmf-meta"
    path.write_text(json.dumps(meta))
    return path


def placed(path, rx_id, latitude=45.0):
    return ("--station", f"{path.name}={rx_id}", "--position", f"{path.name}={latitude},7,0")


def recordings(stores, slug=None):
    slug = slug or list_sessions(stores.database, 1)[0].slug
    session = get_session(stores.database, slug)
    return {recording.station.rx_id: recording for recording in list_recordings(stores.database, session.id)}


def done(outcome):
    code, out, err = outcome
    assert code == 0, err
    return out


def refused(outcome):
    code, _, err = outcome
    assert code != 0
    return " ".join(err.split())


def test_a_value_for_all_fills_only_what_a_file_does_not_state(heimdall, stores, tmp_path):
    knows = sigmf_pair(tmp_path, "knows", capture={"core:datetime": "2024-05-01T12:00:00.3Z"})
    plain = npy(tmp_path, "plain", 2)
    done(heimdall("session", "import", knows, plain, *placed(knows, "knows"), *placed(plain, "plain", 46.0), *COMMON))
    found = recordings(stores)
    assert found["knows"].start_time_unix_ns == ns("2024-05-01T12:00:00.3Z")
    assert found["plain"].start_time_unix_ns == ns(NOON)
    assert (found["knows"].time_source, found["plain"].time_source) == ("file", "given")


def test_each_file_may_have_its_own_values(heimdall, stores, tmp_path):
    a, b = tmp_path / "a.cs16", tmp_path / "b.bin"
    for path, key in ((a, 1), (b, 2)):
        np.rint(noise(96_000, key).view(np.float32) * 3000).astype("<i2").tofile(path)
    starts = ("--start", NOON, "--start", "b.bin=2024-05-01T12:00:00.5Z")
    rates = ("--sample-rate", "b.bin=48048", "--sample-rate", "48kHz")
    levels = ("--full-scale-dbm", "a.cs16=-10")
    more = (*starts, *rates, *levels, "--raw-format", "b.bin=cs16", "--frequency", "145000kHz")
    done(heimdall("session", "import", a, b, *placed(a, "rawa"), *placed(b, "rawb", 46.0), *more))
    found = recordings(stores)
    assert found["rawa"].start_time_unix_ns == ns(NOON)
    assert found["rawb"].start_time_unix_ns == ns("2024-05-01T12:00:00.5Z")
    assert (found["rawa"].sample_rate_hz, found["rawb"].sample_rate_hz) == (48_000.0, 48_048.0)
    assert [found[name].is_calibrated for name in ("rawa", "rawb")] == [True, False]


def test_a_value_that_a_file_states_is_overridden_for_that_file_only(heimdall, stores, tmp_path):
    path = sigmf_pair(tmp_path, "knows")
    command = ("session", "import", path, *placed(path, "knows"))
    error = refused(heimdall(*command, "--frequency", "146MHz"))
    assert "knows.sigmf-meta has 145000000 Hz itself; to override it: --frequency FILE=146000000" in error
    done(heimdall(*command, "--frequency", f"{path.name}=146MHz"))
    assert list_sessions(stores.database, 1)[0].frequency_hz == 146e6


@pytest.mark.parametrize(
    "twice",
    [
        ("--start", NOON, "--start", "2024-05-01T12:00:00.5Z"),
        ("--start", f"a.npy={NOON}", "--start", f"a.npy={NOON}"),
        ("--frequency", "145MHz", "--frequency", "146MHz"),
        ("--name", "one", "--name", "two"),
        ("--bandwidth", "1kHz", "--bandwidth", "2kHz"),
    ],
)
def test_an_option_given_twice_is_an_error(heimdall, tmp_path, twice):
    path = npy(tmp_path, "a")
    assert "is given" in refused(heimdall("session", "import", path, *placed(path, "a"), *twice))


def test_a_model_of_receiver_is_no_station(heimdall, tmp_path):
    place = {"core:geolocation": {"type": "Point", "coordinates": [11.58, 48.14, 520]}}
    path = sigmf_pair(tmp_path, "munich", core={"core:hw": "RTL-SDR Blog V3"}, capture=place)
    assert "give --station munich.sigmf-meta=rx_id" in refused(heimdall("session", "import", path))


def test_a_recording_made_elsewhere_than_at_its_station_is_refused(heimdall, stores, tmp_path):
    def at(name, longitude, latitude, key):
        place = {"core:geolocation": {"type": "Point", "coordinates": [longitude, latitude]}}
        return sigmf_pair(tmp_path, name, capture=place, key=key)

    munich, near, rome = at("munich", 11.58, 48.14, 1), at("near", 11.58, 48.145, 2), at("rome", 12.49, 41.9, 3)
    done(heimdall("session", "import", munich, "--station", "munich.sigmf-meta=portable"))
    done(heimdall("session", "import", near, "--station", "near.sigmf-meta=portable"))
    error = refused(heimdall("session", "import", rome, "--station", "rome.sigmf-meta=portable"))
    assert "41.90000, 12.49000" in error
    assert "48.14000, 11.58000" in error
    assert "name another station" in error
    done(heimdall("session", "import", rome, "--station", "rome.sigmf-meta=portable-rome"))
    stations = {station.rx_id: station for station in list_stations(stores.database)}
    assert (stations["portable-rome"].latitude, stations["portable-rome"].longitude) == (41.9, 12.49)


def test_a_position_for_a_known_station_says_how_to_change_it(heimdall, tmp_path):
    path = npy(tmp_path, "a")
    done(heimdall("session", "import", path, *placed(path, "a"), *COMMON))
    done(heimdall("session", "import", path, *placed(path, "a"), *COMMON))  # the same position
    error = refused(heimdall("session", "import", path, *placed(path, "a", 46.0), *COMMON))
    assert "has a position already, 45.00000, 7.00000, not 46.00000, 7.00000" in error
    assert "in SQL" in error


@pytest.mark.parametrize(
    ("other", "difference", "option"),
    [
        (("--frequency", "146MHz"), "the frequency is 145000000 Hz there, 146000000 Hz here", "--frequency 146000000"),
        (
            ("--sample-rate", "50kHz"),
            "the rate of again is 48000 Hz there, 50000 Hz here",
            "--sample-rate again=50000.0",
        ),
        (("--full-scale-dbm", "-20"), "uncalibrated there, -20 dBm here", "--full-scale-dbm again=-20"),
        (("--start", "2024-05-02T12:00:00Z"), "again starts at 2024-05-01T12", "--start again=2024-05-02T12:00:00.0"),
    ],
)
def test_the_same_samples_with_other_values_are_corrected(heimdall, stores, tmp_path, other, difference, option):
    path = npy(tmp_path, "again")
    values = dict(zip(COMMON[::2], COMMON[1::2], strict=True))
    done(heimdall("session", "import", path, *placed(path, "again"), *COMMON))
    slug = list_sessions(stores.database, 1)[0].slug
    extract_session(stores, slug, quiet)
    changed = [text for pair in (values | dict([other])).items() for text in pair]
    again = ("session", "import", path, "--station", "again.npy=again", *changed)
    error = refused(heimdall(*again))
    assert difference in error
    assert option in error
    assert f"heimdall session delete {slug}" in error
    command = shlex.split(error.partition("To correct the session: ")[2].partition(";")[0])
    assert "corrected" in done(heimdall(*command[1:]))
    session = get_session(stores.database, slug)
    assert session.revision == 2
    assert is_due_for_extraction(stores.database, session.id)
    assert "already imported" in done(heimdall(*again))  # now it is what was to be imported
    recording = recordings(stores, slug)["again"]
    sidecar = read_sidecar(stores.objects, recording.location)
    sigmf.SigMFFile(sidecar).validate()
    assert sidecar["captures"][0]["core:frequency"] == session.frequency_hz
    assert ns(sidecar["captures"][0]["core:datetime"]) == recording.start_time_unix_ns
    assert sidecar["global"]["core:sample_rate"] == recording.sample_rate_hz
    assert sidecar["global"]["heimdall:full_scale_dbm"] == recording.full_scale_dbm
    extract_session(stores, slug, quiet)
    assert "nothing changed" in done(heimdall(*command[1:]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sample-rate", "1kHz"), "outside 8 kHz to 2.4 MHz"),
        (("--bandwidth", "1MHz"), "give --bandwidth"),
        (("--start", "nobody=2024-05-02T12:00:00Z"), "nobody is not of this session"),
        (("--start", NOON, "--start", f"again={NOON}"), "given twice for again"),
        (("--frequency", "12 apples"), "a number with its unit"),
    ],
)
def test_a_correction_that_cannot_be_changes_nothing(heimdall, stores, tmp_path, options, words):
    path = npy(tmp_path, "again")
    done(heimdall("session", "import", path, *placed(path, "again"), *COMMON))
    slug = list_sessions(stores.database, 1)[0].slug
    assert words in refused(heimdall("session", "correct", slug, *options))
    assert get_session(stores.database, slug).revision == 1


FIELD_DAY = {
    "core:author": "DL1ABC",
    "core:license": "https://creativecommons.org/licenses/by/4.0/",
    "core:hw": "Airspy HF+",
    "core:description": "field day",
    "core:recorder": "GNU Radio",
    "antenna:model": "loop",
    "core:extensions": [{"name": "antenna", "version": "1.0.0", "optional": True}],
}
BURST = {
    "core:sample_start": 1000,
    "core:sample_count": 2000,
    "core:freq_lower_edge": 144.99e6,
    "core:freq_upper_edge": 145.01e6,
    "core:label": "burst",
}


@pytest.mark.parametrize("options", [(), ("--archive",)])
def test_what_a_file_says_comes_through_and_out_again(heimdall, stores, tmp_path, options):
    checksum = hashlib.sha512((0.1 * noise(48_000, 1)).tobytes()).hexdigest()
    core = FIELD_DAY | {"core:sha512": checksum}
    path = sigmf_pair(tmp_path, "annot", core=core, capture={"capture_details:gain": 40.0}, annotations=[BURST])
    plain = npy(tmp_path, "plain", 2)
    done(heimdall("session", "import", path, plain, *placed(path, "annot"), *placed(plain, "plain", 46.0), *COMMON))
    sidecar = read_sidecar(stores.objects, recordings(stores)["annot"].location)
    slug = list_sessions(stores.database, 1)[0].slug
    done(heimdall("session", "export", slug, "-o", tmp_path / "out", *options))
    assert "already" in refused(heimdall("session", "export", slug, "-o", tmp_path / "out", *options))
    for meta in (sidecar, exported_meta(tmp_path / "out", options)):
        for key, value in FIELD_DAY.items():
            if key != "core:extensions":
                assert meta["global"][key] == value
        assert {entry["name"] for entry in meta["global"]["core:extensions"]} == {"antenna", "heimdall"}
        assert meta["captures"][0]["capture_details:gain"] == 40.0
        assert meta["annotations"] == [BURST]
    suffix = ".sigmf" if options else ".sigmf-meta"
    recording = open_recording(tmp_path / "out" / f"annot{suffix}")
    recording.digest.verify()
    np.testing.assert_array_equal(np.concatenate(list(recording.blocks())), 0.1 * noise(48_000, 1))
    assert (recording.receiver_name, recording.position) == ("annot", (45.0, 7.0, 0.0))
    read = sigmf.fromfile(tmp_path / "out" / f"annot{suffix}")
    assert read.sample_count == 48_000
    if not options:
        content = (tmp_path / "out" / "annot.sigmf-data").read_bytes()
        np.testing.assert_array_equal(np.frombuffer(content, "<c8"), 0.1 * noise(48_000, 1))  # no header
        assert "already imported" in done(heimdall("session", "import", tmp_path / "out" / f"{slug}.sigmf-collection"))


def exported_meta(folder, options):
    if not options:
        return json.loads((folder / "annot.sigmf-meta").read_text())
    import tarfile

    with tarfile.open(folder / "annot.sigmf") as archive:
        return json.load(io.TextIOWrapper(archive.extractfile("annot/annot.sigmf-meta")))


def test_a_wrong_checksum_in_a_file_is_refused(heimdall, tmp_path):
    path = sigmf_pair(tmp_path, "a", core={"core:sha512": "0" * 128})
    assert "core:sha512 differs" in refused(heimdall("session", "import", path, *placed(path, "a")))


def wide_recording(folder, rate_hz=2_400_000.0):
    """Half a second: a tone of -6 dB of full scale 20 kHz above the centre, and one outside the channel."""
    n = np.arange(int(rate_hz / 2))
    iq = 0.5 * np.exp(2j * np.pi * 20e3 / rate_hz * n) + 0.2 * np.exp(2j * np.pi * 700e3 / rate_hz * n)
    path = folder / "wide.cs16"
    np.rint(iq.astype(np.complex64).view(np.float32) * 32767).astype("<i2").tofile(path)
    return path


def test_a_wide_recording_is_decimated_to_the_channel(heimdall, stores, tmp_path):
    path = wide_recording(tmp_path, 10e6)
    command = ("session", "import", path, *placed(path, "wide"), "--frequency", "145MHz", "--start", NOON)
    assert "decimate it with --channel" in refused(heimdall(*command, "--sample-rate", "10MHz"))
    done(heimdall(*command, "--sample-rate", "10MHz", "--channel", "200kHz"))
    recording = recordings(stores)["wide"]
    assert (recording.sample_rate_hz, recording.quantisation_step) == (200e3, None)
    lead = (recording.start_time_unix_ns - ns(NOON)) * 10e6 / 1e9  # of the filter, in input samples
    assert lead == pytest.approx(650.0, abs=0.01)
    location = recording.location
    content = stores.objects.read(location, 0, stores.objects.size_bytes(location))
    iq = np.frombuffer(content, "<c8")
    times_s = lead / 10e6 + np.arange(iq.size) / 200e3
    np.testing.assert_allclose(iq, 0.5 * np.exp(2j * np.pi * 20e3 * times_s), atol=2e-4)
    assert "1301 taps" in " ".join(read_sidecar(stores.objects, location)["global"]["heimdall:notes"])


def test_inspect_tells_what_a_file_holds_and_how_to_import_it(heimdall, tmp_path):
    path = sigmf_pair(tmp_path, "knows", core={"core:version": "v1"})
    out = done(heimdall("session", "inspect", path))
    for words in ("sigmf, cf32_le", "48000 Hz", "145000000 Hz", "2024-05-01T12:00:00.000000000Z", "1.000 s", "problem"):
        assert words in out
    assert f"heimdall session import {path} --station=knows.sigmf-meta=…" in out
    assert out.count("|\n") == 24  # the spectrogram


def test_inspect_guesses_the_format_of_raw_samples(heimdall, tmp_path):
    wide = wide_recording(tmp_path)
    path = wide.rename(tmp_path / "capture.bin")
    out = done(heimdall("session", "inspect", path))
    assert "ci16 (guessed from its bytes)" in out
    assert "--raw-format ci16 --sample-rate …Hz --frequency …MHz --start" in out
    (tmp_path / "random.bin").write_bytes(np.random.default_rng(1).bytes(100_000))
    assert "give --raw-format" in refused(heimdall("session", "inspect", tmp_path / "random.bin"))
    assert "cs16" not in done(heimdall("session", "inspect", path, "--raw-format", "cs16")).partition("import with")[0]


def test_inspect_names_problems(heimdall, tmp_path):
    np.save(tmp_path / "constant.npy", np.full(48_000, 1e-5 + 1e-5j, np.complex64))
    np.save(tmp_path / "zero.npy", np.zeros(48_000, np.complex64))
    out = done(heimdall("session", "inspect", tmp_path / "constant.npy", tmp_path / "zero.npy"))
    assert "all samples are the same number" in out
    assert "are zero" in out


@pytest.mark.parametrize(
    ("text", "frequency_hz"),
    [("145MHz", 145e6), ("7050.1kHz", 7_050_100.0), ("77500", 77_500.0), ("77.5 kHz", 77_500.0)],
)
def test_frequencies_are_written_with_a_unit_or_in_hz(heimdall, stores, tmp_path, text, frequency_hz):
    path = npy(tmp_path, "a")
    done(heimdall("session", "import", path, *placed(path, "a"), *COMMON[:2], *COMMON[4:], "--frequency", text))
    assert list_sessions(stores.database, 1)[0].frequency_hz == frequency_hz
