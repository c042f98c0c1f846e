"""Positions know what they rest on: sessions without any, or with other delays than hold now, are found."""

from datetime import timedelta

import pytest

from heimdall_pipelines.model.position import METHOD
from heimdall_pipelines.sessions import clock_estimates
from heimdall_pipelines.sessions.calibrating import CalibrationOptions, calibrate_session
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.clock_estimates import ClockEstimates
from heimdall_pipelines.sessions.example import SOURCE
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.positions import locate_and_store
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.stale_positions import is_position_stale, stale_positions
from heimdall_pipelines.store.station_delays import list_delays, withdraw_delays
from heimdall_pipelines_tests.datasets.support import execute
from heimdall_pipelines_tests.sealing import reseal
from heimdall_pipelines_tests.sessions.support import quiet
from heimdall_pipelines_tests.sessions.test_positions import arrivals_us, seven_stations


@pytest.fixture
def extracted(example_session):
    """The example session, extracted and not located, as versions left it that knew no positions."""
    return example_session(source=SOURCE).slug


@pytest.fixture
def located(stores, extracted):
    locate_and_store(stores, extracted, quiet)
    return extracted


def stale(stores, **options):
    return stale_positions(stores.database, limit=9, **options)


def current(stores, slug):
    (found,) = [one for one in check_session(stores, slug).outcomes if one.name == "positions_are_current"]
    return found


def test_a_session_of_before_positions_is_found_until_it_is_located(stores, extracted):
    (found,) = stale(stores)
    assert (found.slug, found.changes, found.edited) == (extracted, ("not located yet",), ())
    assert "not located yet" in current(stores, extracted).note
    locate_and_store(stores, extracted, quiet)
    assert stale(stores) == []
    assert not is_position_stale(stores.database, found.session_id)
    assert current(stores, extracted).passed


def test_a_session_that_cannot_be_located_is_not_found_again(stores, extracted):
    execute(stores, "UPDATE heimdall.measurements SET time_source = 'arrival'")
    assert locate_and_store(stores, extracted, quiet).reason is not None
    assert stale(stores) == []


@pytest.mark.fault("a calibration is added or withdrawn after a session was located")
def test_a_new_and_a_withdrawn_calibration_make_positions_stale(stores, located, fault):
    calibrate_session(stores, located, CalibrationOptions(), quiet)
    (found,) = stale(stores)
    assert [line.split(":")[0] for line in found.changes] == ["genova", "milano-baggio", "torino"]
    assert all(": delay none -> " in line for line in found.changes)
    outcome = current(stores, located)
    assert (outcome.passed, outcome.severity, outcome.num_problems) == (False, "WARN", 3)
    assert "session extract --stale" in outcome.repair
    locate_and_store(stores, located, quiet)
    assert (stale(stores), current(stores, located).passed) == ([], True)
    first_key = found.run_key
    withdraw_delays(stores.database, list_delays(stores.database)[0].id)
    (found,) = stale(stores)
    assert all(line.endswith("-> none") for line in found.changes)
    assert found.run_key != first_key
    assert not current(stores, located).passed
    locate_and_store(stores, located, quiet)
    assert (stale(stores), current(stores, located).passed) == ([], True)
    fault.record(
        detected_by="`positions_are_current`, the sensor",
        result="WARN with each station's delay before and now; the session is located again",
    )


def test_a_calibration_of_another_time_leaves_positions_current(stores, located):
    session = get_session(stores.database, located)
    calibrate_session(stores, located, CalibrationOptions(valid_from=session.start_time + timedelta(days=1)), quiet)
    assert stale(stores) == []
    assert current(stores, located).passed


def test_each_state_has_its_own_run_also_one_that_returns(stores, located):
    keys = []
    for _ in range(2):
        calibrate_session(stores, located, CalibrationOptions(), quiet)
        keys += [found.run_key for found in stale(stores)]
        locate_and_store(stores, located, quiet)
        withdraw_delays(stores.database, list_delays(stores.database)[0].id)
        keys += [found.run_key for found in stale(stores)]
        locate_and_store(stores, located, quiet)
    assert len(set(keys)) == 4


def test_features_that_are_extracted_again_are_located_again(stores, located):
    extract_session(stores, located, quiet)
    (found,) = stale(stores)
    assert found.changes == ("its features were extracted again",)


def test_an_older_method_is_located_again_on_request(stores, located):
    execute(stores, "UPDATE heimdall.positions SET method = 'earlier'")
    reseal(stores)
    assert stale(stores) == []
    (found,) = stale(stores, older_methods=True)
    assert found.changes == (f"method earlier -> {METHOD}",)
    outcome = current(stores, located)
    assert outcome.passed
    assert "earlier version" in outcome.note


def test_rows_that_were_edited_by_hand_are_said_so(stores, located):
    calibrate_session(stores, located, CalibrationOptions(), quiet)
    execute(stores, "UPDATE heimdall.positions SET latitude = latitude + 0.01 WHERE segment_idx IS NULL")
    (found,) = stale(stores)
    assert found.edited


def test_the_clocks_of_a_network_are_estimated_once_for_many_sessions(stores, tmp_path, monkeypatch):
    slugs = []
    for number, (lat, lon) in enumerate([(44.6, 7.8), (45.3, 8.9), (44.8, 9.1), (45.4, 7.9), (45.0, 8.4)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        slugs.append(seven_stations(stores, folder, arrivals_us(lat, lon, genova=25.0), seed=10 * number))
    calls = []
    solve = clock_estimates.estimate_delays
    monkeypatch.setattr(
        clock_estimates,
        "estimate_delays",
        lambda emissions, **more: calls.append(len(emissions)) or solve(emissions, **more),
    )
    clocks = ClockEstimates()
    for slug in slugs:
        outcomes = {x.name: x for x in validate_session(stores, slug, clocks=clocks).outcomes}
        assert outcomes["station_clocks_agree"].examples[0].startswith("genova: over 5 sessions its delay is +")
    assert calls == [5]
    # What changes meanwhile is not taken from before.
    execute(
        stores,
        "DELETE FROM heimdall.positions WHERE recording_session_id = :id",
        id=get_session(stores.database, slugs[0]).id,
    )
    outcomes = {x.name: x for x in validate_session(stores, slugs[1], clocks=clocks).outcomes}
    assert outcomes["station_clocks_agree"].numbers["emissions"] == 4
    assert calls == [5, 4]


def test_sessions_of_other_stations_are_estimated_apart():
    from heimdall_pipelines.rf.positioning import Receiver
    from heimdall_pipelines.rf.station_delays import Emission

    def emission(*names):
        return Emission(tuple(Receiver(name, 45.0, 8.0) for name in names), ())

    chain = [emission("a", "b"), emission("b", "c"), emission("x", "y")]
    assert clock_estimates._connected(chain, frozenset({"a"})) == chain[:2]
    assert clock_estimates._connected(chain, frozenset({"c"})) == chain[:2]
    assert clock_estimates._connected(chain, frozenset({"y"})) == chain[2:]
    assert clock_estimates._connected(chain, frozenset({"z"})) == []
