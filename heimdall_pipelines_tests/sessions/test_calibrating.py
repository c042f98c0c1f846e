"""Calibrations by a known source: kept, used where they hold, withdrawn, contradicted."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from heimdall_pipelines.sessions.calibrating import CalibrationOptions, NotCalibratableError, calibrate_session
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.clock_estimates import differing, station_clocks
from heimdall_pipelines.sessions.example import SOURCE
from heimdall_pipelines.sessions.locating import locate_session
from heimdall_pipelines.sessions.positions import locate_and_store
from heimdall_pipelines.sessions.session_position import LocateOptions
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.station_delays import (
    DelayNotFoundError,
    add_delays,
    delays_at,
    list_delays,
    withdraw_delays,
)
from heimdall_pipelines_tests.sessions.support import import_files, quiet
from heimdall_pipelines_tests.sessions.test_positions import arrivals_us, seven_stations
from heimdall_pipelines_tests.stored_positions import read_positions

RECORDINGS = os.environ.get("HEIMDALL_TEST_RECORDINGS")
SHIFT_NS = 30_000  # of one station's clock


@pytest.fixture
def example(example_session):
    """The example session: three stations with right clocks, a transmitter of known position."""
    return example_session(source=SOURCE).slug


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        return connection.execute(text(statement), values)


def make_torino_late(stores):
    """Its clock is 30 us ahead: the same samples bear a later time."""
    execute(
        stores,
        "UPDATE heimdall.measurements SET start_time_unix_ns = start_time_unix_ns + :shift WHERE websdr_station_id ="
        " (SELECT id FROM heimdall.websdr_stations WHERE rx_id = 'torino')",
        shift=SHIFT_NS,
    )


def failed(stores, slug):
    return {x.name: x for x in check_session(stores, slug).outcomes if not x.passed and x.name != "rows_as_committed"}


def test_a_calibration_finds_a_late_clock_and_later_sessions_use_it(stores, example):
    make_torino_late(stores)
    before = locate_session(stores, example, LocateOptions(), quiet)
    assert before.delays == ()
    found = calibrate_session(stores, example, CalibrationOptions(), quiet)
    delay_us = {delay.rx_id: delay.delay_us for delay in found.delays}
    assert sum(delay_us.values()) == pytest.approx(0.0, abs=1e-3)
    assert delay_us["torino"] - (delay_us["genova"] + delay_us["milano-baggio"]) / 2 == pytest.approx(30.0, abs=3.0)
    assert all(1.0 < delay.uncertainty_us < 5.0 for delay in found.delays)  # echoes of 3 us at each station
    assert "a delay that all its stations share is not seen" in found.notes
    after = locate_session(stores, example, LocateOptions(), quiet)
    assert {delay.session_slug for delay in after.delays} == {example}
    assert before.distance_to_source_km > 3.0
    assert after.distance_to_source_km < 1.0
    assert after.uncalibrated == before.fix
    without = locate_session(stores, example, LocateOptions(is_calibrated=False), quiet)
    assert without.fix == before.fix


def test_stored_positions_say_which_delays_they_rest_on(stores, example):
    calibrate_session(stores, example, CalibrationOptions(), quiet)
    locate_and_store(stores, example, quiet)
    whole = read_positions(stores.database, get_session(stores.database, example).id)[0]
    assert whole.delays_from == example
    assert set(whole.station_delays_us) == {"genova", "milano-baggio", "torino"}


def test_delays_hold_from_the_sessions_start_until_they_end(stores, example):
    start = get_session(stores.database, example).start_time
    calibrate_session(stores, example, CalibrationOptions(valid_to=start + timedelta(days=30)), quiet)
    rx_ids = ["genova", "milano-baggio", "torino"]

    def held(days):
        return len(delays_at(stores.database, start + timedelta(days=days), rx_ids))

    assert [held(-1), held(0), held(29), held(30)] == [0, 3, 3, 0]


def test_a_newer_calibration_is_used_and_a_withdrawn_one_is_not(stores, example):
    options = CalibrationOptions()
    first = calibrate_session(stores, example, options, quiet)
    make_torino_late(stores)
    second = calibrate_session(stores, example, options, quiet)
    # The kept delays of before are contradicted.
    assert [earlier.rx_id for earlier, *_ in second.contradicted] == ["torino"]
    assert len(list_delays(stores.database)) == 6
    start = get_session(stores.database, example).start_time

    def held():
        return {x.rx_id: x.delay_us for x in delays_at(stores.database, start, ["genova", "milano-baggio", "torino"])}

    assert held() == {x.rx_id: x.delay_us for x in second.delays}
    newest = max(list_delays(stores.database), key=lambda delay: delay.id)
    assert {x.rx_id for x in withdraw_delays(stores.database, newest.id)} == {"genova", "milano-baggio", "torino"}
    assert held() == {x.rx_id: x.delay_us for x in first.delays}
    with pytest.raises(DelayNotFoundError, match="heimdall station delays"):
        withdraw_delays(stores.database, newest.id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE heimdall.station_delays SET delay_us = 0",
        "UPDATE heimdall.station_delays SET valid_to = now() + interval '99 years'",
        "DELETE FROM heimdall.station_delays",
    ],
)
def test_kept_delays_are_neither_changed_nor_deleted(stores, example, statement):
    calibrate_session(stores, example, CalibrationOptions(), quiet)
    with pytest.raises(DatabaseError, match="a delay is withdrawn, not"):
        execute(stores, statement)


def test_delays_outlive_their_session(stores, example):
    calibrate_session(stores, example, CalibrationOptions(), quiet)
    execute(stores, "DELETE FROM heimdall.recording_sessions")
    assert {delay.session_slug for delay in list_delays(stores.database)} == {example}


def test_a_trial_keeps_nothing(stores, example):
    assert len(calibrate_session(stores, example, CalibrationOptions(is_kept=False), quiet).delays) == 3
    assert list_delays(stores.database) == []


def test_a_session_without_a_known_source_calibrates_nothing(stores, example_recordings):
    slug = import_files(stores, example_recordings).slug
    with pytest.raises(NotCalibratableError, match="only a transmitter of known position"):
        calibrate_session(stores, slug, CalibrationOptions(), quiet)


@pytest.mark.fault("a later session of a known source contradicts the delays that are kept")
def test_contradicted_delays_are_found(stores, example, fault):
    session = get_session(stores.database, example)
    calibration = calibrate_session(stores, example, CalibrationOptions(is_kept=False), quiet)
    wrong = [
        replace(x, session_slug="night-1", delay_us=x.delay_us + (40.0 if x.rx_id == "genova" else 0.0))
        for x in calibration.delays
    ]
    add_delays(stores.database, session.id, wrong)
    locate_and_store(stores, example, quiet)
    outcome = failed(stores, example)["station_delays_agree"]
    assert outcome.severity == "WARN"
    (problem,) = outcome.examples
    assert problem.startswith("genova: +")
    assert "night-1" in problem
    assert "station delays --withdraw" in outcome.repair
    fault.record(detected_by="`station_delays_agree`", result="WARN with the station, what is kept and what was found")


@pytest.mark.slow
@pytest.mark.fault("the clock of one station differs over several sessions of unknown transmitters")
def test_a_station_that_differs_over_many_sessions_is_named(stores, tmp_path, fault):
    places = [(44.6, 7.8), (45.3, 8.9), (44.8, 9.1), (45.4, 7.9), (45.0, 8.4), (44.7, 8.2), (45.2, 7.6), (44.9, 8.9)]
    for number, (lat, lon) in enumerate(places):
        folder = tmp_path / str(number)
        folder.mkdir()
        slug = seven_stations(stores, folder, arrivals_us(lat, lon, genova=25.0), seed=10 * number)
    found = station_clocks(stores)
    assert list(differing(found)) == ["genova"]
    others_us = [x.delay_us for rx_id, x in found.items() if rx_id != "genova"]
    assert found["genova"].delay_us - sum(others_us) / 6 == pytest.approx(25.0, abs=5.0)
    outcome = failed(stores, slug)["station_clocks_agree"]
    assert outcome.severity == "WARN"
    assert outcome.examples[0].startswith("genova: over 8 sessions its delay is +")
    fault.record(
        detected_by="`station_clocks_agree`, `heimdall station clocks`", result="WARN with the station's delay"
    )


@pytest.mark.skipif(RECORDINGS is None, reason="HEIMDALL_TEST_RECORDINGS does not name the real recordings")
def test_half_of_the_real_session_calibrates_the_other(stores):
    slug = import_files(stores, sorted(Path(RECORDINGS or "").glob("*.wav")), known_source="DCF77").slug
    found = calibrate_session(stores, slug, CalibrationOptions(until_s=14.0), quiet)
    assert max(abs(delay.delay_us) for delay in found.delays) > 10.0  # tens of microseconds
    assert any("over the radio horizon" in note for note in found.notes)
    second = locate_session(stores, slug, LocateOptions(from_s=14.0), quiet)
    assert second.distance_to_source_km is not None
    assert second.distance_to_source_km < 2.0
    without = locate_session(stores, slug, LocateOptions(from_s=14.0, is_calibrated=False), quiet)
    assert without.distance_to_source_km > 5.0
