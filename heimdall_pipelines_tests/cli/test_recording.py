"""`heimdall session record` and `heimdall station check`, from simulated."""

import pytest

from heimdall_pipelines.cli import session_recording
from heimdall_pipelines.cli.option_values import frequency_hz
from heimdall_pipelines.receivers.simulated_receivers import SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulator import run_simulated
from heimdall_pipelines.store.sessions import list_sessions
from heimdall_pipelines_tests.cli.conftest import TIMEOUT_S
from heimdall_pipelines_tests.receivers.support import FREQUENCY_HZ, synthetic
from heimdall_pipelines_tests.sessions.live import add_receivers

FREQUENCY = f"{FREQUENCY_HZ / 1e6:g}MHz"


@pytest.fixture
def two_stations(stores, patient_clients):
    with run_simulated(
        SimulatedKiwiSdr(synthetic(), speed=10.0), SimulatedKiwiSdr(synthetic("genova"), speed=10.0)
    ) as urls:
        for rx_id, url in zip(("a", "b"), urls, strict=True):
            add_receivers(stores, rx_id, url=url, timeout_seconds=TIMEOUT_S)
        yield


@pytest.mark.slow
def test_a_session_is_recorded_and_says_what_extracts_it(heimdall, stores, two_stations):
    add_receivers(stores, "gone", url="http://127.0.0.1:1", retry_count=0)
    # Long enough for GNSS fixes: by the times of arrival on a busy machine, they might have nothing in common.
    code, out, err = heimdall("session", "record", "--frequency", FREQUENCY, "--duration", 5, "--all-active")
    assert code == 0
    (session,) = list_sessions(stores.database)
    assert f"heimdall session extract {session.slug}" in out
    assert "failed: cannot be reached" in out
    assert "a: recorded, 60005 samples" in err
    assert heimdall("session", "extract", session.slug)[0] == 0
    assert "cannot be reached" in heimdall("session", "show", session.id)[1]


def test_a_session_that_no_station_recorded_is_exit_code_1_with_the_reason(heimdall, stores):
    add_receivers(stores, "gone", url="http://127.0.0.1:1", retry_count=0)
    code, out, _ = heimdall("session", "record", "--frequency", FREQUENCY, "--duration", 1, "--stations", "gone")
    assert code == 1
    assert "no station could be recorded: gone: cannot be reached" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--frequency", "77.5 apples", "--all-active"), "a number with its unit is expected"),
        (("--frequency", "-1kHz", "--all-active"), "a number with its unit is expected"),
        (("--frequency", "1kHz"), "either --stations a,b,c or --all-active"),
        (("--frequency", "1kHz", "--stations", "a", "--all-active"), "either --stations a,b,c or --all-active"),
        (("--frequency", "1kHz", "--stations", ","), "no station was given"),
        (("--frequency", "1kHz", "--stations", "a", "--duration", "-5"), "a duration of -5 s cannot be recorded"),
        (("--frequency", "1kHz", "--stations", "a,a"), "station a is given twice"),
        (("--frequency", "1kHz", "--stations", "x"), "unknown station x"),
    ],
)
def test_what_cannot_be_recorded_is_refused_and_leaves_no_session(heimdall, stores, arguments, words):
    add_receivers(stores, "a")
    code, _, err = heimdall("session", "record", *arguments)
    assert code != 0
    assert words in " ".join(err.replace("│", " ").split())
    assert list_sessions(stores.database) == []


def test_ctrl_c_closes_the_session_as_failed(heimdall, stores, two_stations, monkeypatch):
    def interrupted(line):
        if "connected" in line:
            raise KeyboardInterrupt

    monkeypatch.setattr(session_recording, "show_progress", interrupted)
    code, _, err = heimdall("session", "record", "--frequency", FREQUENCY, "--duration", 60, "--stations", "a,b")
    assert code == 130
    assert "closed as failed" in err
    assert [session.status for session in list_sessions(stores.database)] == ["failed"]


@pytest.mark.parametrize(
    ("words", "hertz"),
    [("77.5kHz", 77_500.0), ("145.5 MHz", 145_500_000.0), ("77500Hz", 77_500.0), ("0.0775mhz", 77_500.0)],
)
def test_a_frequency_is_read_with_its_unit(words, hertz):
    assert frequency_hz(words) == hertz


def test_station_check_shows_who_is_up_and_exit_code_1_who_is_not(heimdall, stores, two_stations):
    code, out, _ = heimdall("station", "check", "--all")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines() if "kiwisdr" in line] == [
        ["a", "yes", "kiwisdr"],
        ["b", "yes", "kiwisdr"],
    ]
    add_receivers(stores, "gone", url="http://127.0.0.1:1")
    code, out, _ = heimdall("station", "check", "gone", "a")
    assert code == 1
    assert "cannot be reached" in out
    assert heimdall("station", "check")[0] == 2
