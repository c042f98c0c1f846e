"""`heimdall session calibrate`, `station delays`, `station clocks`, and what `session locate` says of delays."""

import re

import pytest
from sqlalchemy import text

from heimdall_pipelines.sessions.example import SOURCE
from heimdall_pipelines_tests.sessions.test_positions import arrivals_us, seven_stations


@pytest.fixture
def example(stores, example_session):
    """The example session, of a known transmitter; the clock of torino is 30 us ahead."""
    slug = example_session(source=SOURCE, extracted=False).slug
    with stores.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE heimdall.measurements SET start_time_unix_ns = start_time_unix_ns + 30000 WHERE"
                " websdr_station_id = (SELECT id FROM heimdall.websdr_stations WHERE rx_id = 'torino')"
            )
        )
    return slug


def test_a_session_calibrates_its_stations_and_locating_says_so(heimdall, example):
    code, out, err = heimdall("session", "calibrate", example)
    assert code == 0, err
    assert re.search(r"torino +\+(19|20|21)\.\d\d", out)  # two thirds of 30 us: relative to the mean of three
    assert "a delay that all its stations share is not seen" in out
    assert "kept for sessions from 2026-01-01 12:00:00 UTC on, without end" in out
    code, out, _ = heimdall("session", "locate", example, "--uncalibrated")
    assert code == 0
    assert f"delays are subtracted from the differences: calibrated by {example} on {SOURCE.name}" in out
    assert re.search(rf"known source {SOURCE.name}: [0-9]+ m away", out)
    assert re.search(rf"uncalibrated: .*known source {SOURCE.name}: [3-9]\.\d\d km away", out)


def test_a_trial_says_that_nothing_was_kept(heimdall, example):
    code, out, _ = heimdall("session", "calibrate", example, "--dry-run")
    assert (code, "nothing was kept (--dry-run)" in out) == (0, True)
    assert heimdall("station", "delays")[1].startswith("no station was calibrated")
    code, out, _ = heimdall("session", "locate", example, "--uncalibrated")
    assert "no calibration holds for these stations" in out


def test_delays_are_listed_and_withdrawn(heimdall, example):
    heimdall("session", "calibrate", example, "--valid-to", "2026-06-01")
    _, out, _ = heimdall("station", "delays")
    assert out.count(example) == 3
    assert "2026-06-01 00:00:00" in out
    code, out, _ = heimdall("station", "delays", "--withdraw", 1)
    assert code == 0
    assert out.startswith("withdrawn: genova (1), milano-baggio (2), torino (3), of the calibration by")
    assert heimdall("station", "delays")[1].count("withdrawn 20") == 3
    code, _, err = heimdall("station", "delays", "--withdraw", 1)
    assert (code, "no delay 1 is in use" in err) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--valid-from", "yesterday"), "a time is expected, such as"),
        (("--valid-to", "2020-01-01"), "the delays would never hold"),
        (("--bandwidth", 0), "a positive width is expected"),
        (("--from", 500), "no whole second from 500 to the end"),
    ],
)
def test_what_cannot_be_is_explained(heimdall, example, options, message):
    code, _, err = heimdall("session", "calibrate", example, *options)
    assert code in (1, 2)
    assert message in " ".join(err.split())


@pytest.mark.slow
def test_stations_whose_clock_differs_are_named(heimdall, stores, tmp_path):
    assert heimdall("station", "clocks")[1].startswith("no session has time differences")
    places = [(44.6, 7.8), (45.3, 8.9), (44.8, 9.1), (45.4, 7.9), (45.0, 8.4), (44.7, 8.2)]
    for number, (lat, lon) in enumerate(places):
        folder = tmp_path / str(number)
        folder.mkdir()
        seven_stations(stores, folder, arrivals_us(lat, lon, genova=25.0), seed=10 * number)
    code, out, _ = heimdall("station", "clocks")
    assert code == 1
    (line,) = [line for line in out.splitlines() if "differs" in line]
    assert line.split()[0] == "genova"
    assert out.count("agrees") == 6
    code, out, _ = heimdall("station", "clocks", "--sessions", 2)
    assert (code, "too few sessions: 5 are needed" in out) == (0, True)
