"""Commands as people type them."""

import re
import time
from functools import partial

import pytest

from heimdall_pipelines.cli import demo, demo_recording
from heimdall_pipelines.datasets.findings import DATASET_CHECKS
from heimdall_pipelines.receivers.signal_sources import SyntheticSource
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.stations.network import load_network
from heimdall_pipelines.store.stations import Station, list_stations
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.cli.conftest import TIMEOUT_S
from heimdall_pipelines_tests.conftest import environment_of


@pytest.fixture(autouse=True)
def _simulated_receivers(monkeypatch, patient_clients):
    """A demonstration whose receivers play faster than real ones, and begin together on a busy machine too."""
    began_ns = time.time_ns() // 10**10 * 10**10  # the transmission repeats every 10 s: the same samples each time
    monkeypatch.setattr(demo_recording, "SPEED", 20.0)
    monkeypatch.setattr(demo_recording, "SyntheticSource", partial(SyntheticSource, clock=lambda: began_ns))
    monkeypatch.setattr(demo_recording, "Station", partial(Station, timeout_seconds=TIMEOUT_S))


@pytest.fixture
def _short_demo(monkeypatch):
    """A demonstration whose dataset is small, for what is not about it."""
    monkeypatch.setattr(demo, "DATASET_TOTALS", (1, 2))


def imported(heimdall, files):
    code, out, err = heimdall("session", "import", *files)
    assert code == 0, err
    return re.search(r"imported: session (\S+)", out)[1]


@pytest.mark.slow
def test_a_second_migration_reports_that_nothing_changed(heimdall, empty_database_settings, monkeypatch):
    for name, value in environment_of(empty_database_settings).items():
        monkeypatch.setenv(name, value)
    assert heimdall("db", "migrate")[:2] == (0, "schema migrated from nothing to revision 0014\n")
    assert heimdall("db", "migrate")[:2] == (0, "the schema is already at revision 0014\n")


def test_stations_are_listed_added_and_disabled(heimdall):
    assert "milano-baggio" in heimdall("station", "list")[1]
    add = ("station", "add", "garden", "--latitude", "45.1", "--longitude", "7.2", "--frequency-range", "144-146")
    assert heimdall(*add)[:2] == (0, "station garden added\n")
    assert heimdall(*add)[0] == 1
    assert heimdall("station", "disable", "garden")[1] == "station garden is inactive\n"
    (line,) = [line for line in heimdall("station", "list")[1].splitlines() if line.split()[:1] == ["garden"]]
    assert line.split() == ["garden", "garden", "45.1000", "7.2000", "0", "1003", "10", "none", "144-146", "no"]
    assert heimdall("station", "enable", "garden")[1] == "station garden is active\n"


@pytest.mark.parametrize(
    ("options", "slug"),
    [
        (("--name", "[/b] 📡 Zürich/Nord"), "20260101T120000Z-7050000hz-b-zurich-nord"),
        (("--name", "[/b]", "--slug", "night-watch"), "night-watch"),
    ],
)
def test_a_session_of_any_name_is_shown_by_its_slug(heimdall, example_recordings, options, slug):
    for words in ("imported: session", "already imported: session"):
        code, out, err = heimdall("session", "import", *example_recordings, *options)
        assert (code, f"{words} {slug} ({options[1]})" in out) == (0, True), err
    assert re.search(rf"{slug} +{re.escape(options[1])} ", heimdall("session", "list")[1])
    assert f"{options[1]}: completed" in heimdall("session", "show", slug)[1]


def test_a_malformed_slug_is_refused_and_nothing_is_imported(heimdall, example_recordings):
    code, _, err = heimdall("session", "import", *example_recordings, "--slug", "Night watch")
    assert (code, "slug 'Night watch' is malformed" in err) == (1, True)
    assert "Night" not in heimdall("session", "list")[1]


def test_a_session_is_imported_listed_extracted_and_shown(heimdall, example_recordings):
    session_id = imported(heimdall, example_recordings)
    assert re.search(rf"{session_id} .*completed +1 +3 +12\.5 +0 +due", heimdall("session", "list")[1])
    code, out, _ = heimdall("session", "extract", session_id)
    assert code == 0
    assert out.count(" passed ") == len(SESSION_CHECKS)
    assert re.search(r"genova +12 +12 +19\.\d +60\.\d +-40\.0 +-2\.50", out)
    assert re.search(rf"{session_id} .* 12 +extracted", heimdall("session", "list")[1])
    assert re.search(r"torino +12 +12 +29\.\d", heimdall("session", "show", session_id)[1])
    assert "already imported" in heimdall("session", "import", *example_recordings)[1]


@pytest.mark.slow
def test_the_demonstration_ends_well_and_does_so_again(heimdall, stores, tmp_path):
    (tmp_path / "dagster" / "dagster.yaml").symlink_to(PROJECT_FOLDER / "dagster.yaml")  # alerts need its storage
    for made in ("expanded: dataset demo from 50 to 70 samples", "dataset demo has 70 samples already"):
        code, out, err = heimdall("demo")
        assert code == 0, err
        sessions, dataset = out.split("A synthetic dataset")
        imported_session, recorded_session = sessions.split("A session from three simulated receivers")
        assert imported_session.count(" passed ") == len(SESSION_CHECKS)
        assert recorded_session.count(" passed ") == len(SESSION_CHECKS)
        assert re.findall(r"(demo-\d) +5 +5 +\d", recorded_session) == ["demo-1", "demo-2", "demo-3"]
        assert "known source: example-transmitter" in out
        assert re.search(r"known source example-transmitter: [0-9]+ m away", imported_session)
        assert re.search(
            r"\nThe session of the imported recordings: located at 45\.0\d+, 8\.\d+, \d+ m from ex", out[-400:]
        )
        assert made in out
        assert "70 of 70 samples; counted: 70 feature rows, 70 samples with IQ, 490 IQ objects\nthe counts agree" in out
        lost, repaired = dataset.split("dataset repair demo --apply\ndemo")
        assert re.search(r"objects_agree +failed \(ERROR\), 1 problem +", lost)
        assert "sample 0: synthetic/" in lost
        assert len(re.findall(r"objects_agree, demo\S*  .* open ", lost)) == 2
        assert "regenerated: 1 sample (0), rows and objects" in repaired
        assert repaired.count(" passed ") == len(DATASET_CHECKS)
        assert len(re.findall(r"objects_agree, demo\S*  .* recovered ", repaired)) == 2
    assert heimdall("session", "list")[1].count(" completed ") == 3  # one that was imported, and two recorded
    stations = list_stations(stores.database)
    assert {x for x in stations if not x.rx_id.startswith("demo-")} == set(load_network().stations)
    assert [x.rx_id for x in stations if not x.is_active] == ["demo-1", "demo-2", "demo-3"]


@pytest.mark.slow
@pytest.mark.usefixtures("_short_demo")
def test_the_demonstration_takes_a_folder_with_its_own_stations_file(heimdall, example_recordings, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    path = folder / example_recordings[0].name.replace("TORINO", "MY-KIWI")
    path.write_bytes(example_recordings[0].read_bytes())
    code, _, err = heimdall("demo", "--recordings", folder)
    assert code == 1
    assert "unknown station my-kiwi; give --position" in err
    (folder / "stations.yaml").write_text(
        "receivers_of_recordings: [{rx_id: my-kiwi, latitude: 45.1, longitude: 7.2, altitude_m: 250}]"
    )
    code, out, err = heimdall("demo", "--recordings", folder)
    assert code == 0, err
    assert re.search(r"my-kiwi +12 +12", out)


@pytest.mark.slow
@pytest.mark.usefixtures("_short_demo")
def test_the_demonstration_takes_the_real_recordings(heimdall, real_recordings):
    code, out, err = heimdall("demo", "--recordings", real_recordings[0].parent)
    assert code == 0, err
    assert "known source: DCF77" in out
    for rx_id in ("df0kl", "f1jek", "hb9ryz"):
        assert re.search(rf"{rx_id} +28 +28 ", out)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("session", "import", "nowhere.wav"), 1, "nowhere.wav"),
        (("session", "import", "{file}", "--station", "other.wav=torino"), 2, "FILE is one of"),
        (("session", "import", "{file}", "--position", "{file}=45"), 2, "latitude,longitude,altitude_m is expected"),
        (("session", "import", "{file}", "--start", "yesterday"), 2, "--start yesterday"),
        (("session", "import", "{file}", "--known-source", "DCF78"), 1, "unknown source DCF78; known are: DCF77"),
        (("session", "extract", "12"), 1, "no session 12; see: heimdall session list"),
        (("session", "show", "00000000-0000-0000-0000-000000000000"), 1, "heimdall session list"),
        (("station", "disable", "unknown"), 1, "unknown station unknown"),
        (("station", "add", "x", "--latitude", "91", "--longitude", "0"), 1, "latitude 91.0 is outside"),
        (
            ("station", "add", "x", "--latitude", "1", "--longitude", "0", "--frequency-range", "a-b"),
            2,
            "LOW-HIGH in MHz",
        ),
        (("demo", "--recordings", "/nonexistent/folder"), 1, "there is no such folder"),
    ],
)
def test_a_wrong_command_ends_with_one_message_and_no_traceback(heimdall, example_recordings, arguments, code, words):
    given = [argument.replace("{file}", str(example_recordings[0])) for argument in arguments]
    ended, out, err = heimdall(*given)
    shown = " ".join(re.sub(r"[│╭╰─╮╯]", " ", out + err).split())
    assert ended == code
    assert words in shown
    assert "Traceback" not in shown


def test_an_unreachable_server_is_one_message(heimdall, monkeypatch):
    monkeypatch.setenv("HEIMDALL_PG_PORT", "1")
    code, _, err = heimdall("station", "list")
    assert (code, err.startswith("Error: PostgreSQL at 127.0.0.1:1/")) == (1, True)


def test_a_missing_variable_is_named(heimdall, monkeypatch):
    monkeypatch.delenv("HEIMDALL_S3_SECRET_KEY")
    code, _, err = heimdall("session", "list")
    assert (code, "HEIMDALL_S3_SECRET_KEY is not set" in err) == (1, True)


def test_extracting_without_a_dagster_home_says_what_to_set(heimdall, example_recordings, monkeypatch):
    session_id = imported(heimdall, example_recordings)
    monkeypatch.delenv("DAGSTER_HOME")
    code, _, err = heimdall("session", "extract", session_id)
    assert (code, "$DAGSTER_HOME is not set" in " ".join(err.split())) == (1, True)


def test_a_npy_file_that_a_sidecar_describes_is_one_recording(tmp_path):
    for name in ("a.npy", "a.sigmf-meta", "b.npy", "notes.txt"):
        (tmp_path / name).touch()
    files, _ = demo._folder(tmp_path)
    assert [path.name for path in files] == ["a.sigmf-meta", "b.npy"]
