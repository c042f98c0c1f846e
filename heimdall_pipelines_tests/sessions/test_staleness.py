"""Features know what they were computed from: what changes since is found, and they are extracted again."""

import pytest

from heimdall_pipelines.model.clock import stated_clock
from heimdall_pipelines.model.feature_inputs import FeatureInputs
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.correcting import Correction, correct_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.changes import changing
from heimdall_pipelines.store.session_digests import sealing_session
from heimdall_pipelines.store.session_inputs import is_stale, read_extraction, stale_sessions
from heimdall_pipelines_tests.datasets.support import execute, query
from heimdall_pipelines_tests.older_features import make_older
from heimdall_pipelines_tests.sessions.support import quiet

TORINO = "rx_id = 'torino'"


@pytest.fixture
def session_id(example_session):
    return example_session(known_source="DCF77").session_id


def move(stores, table="websdr_stations", where=TORINO, change="latitude = latitude + 0.01"):
    """Change a row as a command does: digests and roots follow."""
    (session,) = query(stores, "SELECT id FROM heimdall.recording_sessions")
    with (
        stores.database.transaction() as connection,
        sealing_session(connection, session["id"]),
        changing(connection, table, where, {}, reason="it was moved"),
    ):
        connection.exec_driver_sql(f"UPDATE heimdall.{table} SET {change} WHERE {where}")


def outcome(stores, session_id):
    (found,) = [one for one in check_session(stores, session_id).outcomes if one.name == "features_are_current"]
    return found


def test_features_carry_the_digest_of_their_inputs(stores, session_id):
    with stores.database.transaction() as connection:
        stored = read_extraction(connection, session_id)
    assert stored.inputs.sha256 == stored.inputs_sha256
    assert stored.inputs.position("torino") == (45.044, 7.672, 250.0)
    rows = query(stores, "SELECT extraction_metadata ->> 'inputs_sha256' AS sha256 FROM heimdall.measurement_features")
    assert {row["sha256"] for row in rows} == {stored.inputs_sha256}
    assert outcome(stores, session_id).passed
    assert stale_sessions(stores.database, limit=9, older_features=True) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("websdr_stations", TORINO, "latitude = 45.1"), "torino: latitude 45.044 -> 45.1"),
        (("websdr_stations", TORINO, "altitude_m = 10"), "torino: altitude_m 250 -> 10"),
        (("known_sources", "name = 'DCF77'", "latitude = 50"), "known_source latitude"),
        (("recording_sessions", "true", "bandwidth_hz = 6000"), "-> 6000"),
        (("measurements", "true", "passband_hz = 5000"), "genova: passband_hz none -> 5000"),
        (("measurements", "true", "time_source = 'arrival'"), "genova: time_source gnss -> arrival"),
        (("measurements", "true", "time_uncertainty_ns = 90000"), "genova: time_uncertainty_ns"),
    ],
)
def test_a_change_since_the_extraction_is_a_warning_that_says_what(stores, session_id, change, said):
    move(stores, *change)
    found = outcome(stores, session_id)
    assert found.severity == "WARN"
    assert any(said in example for example in found.examples), found.examples
    (stale,) = stale_sessions(stores.database, limit=9)
    assert any(said in line for line in stale.changes)
    assert stale.edited == ()


def test_an_extraction_makes_features_current_again(stores, session_id):
    move(stores)
    assert is_stale(stores.database, session_id)
    extract_session(stores, session_id, quiet)
    assert outcome(stores, session_id).passed
    assert not is_stale(stores.database, session_id)
    assert all(one.passed for one in check_session(stores, session_id, checksums=True).outcomes)


def test_a_station_edited_by_hand_is_no_reason_to_extract_again(stores, session_id):
    execute(stores, f"UPDATE heimdall.websdr_stations SET latitude = 45.1 WHERE {TORINO}")
    (stale,) = stale_sessions(stores.database, limit=9)
    assert stale.edited == ("station torino: latitude is not as committed",)


def test_features_of_an_older_version_stay_valid_and_are_extracted_on_request(stores, session_id):
    make_older(stores)
    execute(stores, "UPDATE heimdall.session_extractions SET inputs = jsonb_set(inputs, '{feature_version}', '1')")
    assert stale_sessions(stores.database, limit=9) == []
    (stale,) = stale_sessions(stores.database, limit=9, older_features=True)
    assert stale.changes == (f"feature_version 1 -> {FEATURE_VERSION}",)
    assert outcome(stores, session_id).numbers["rows_of_older_features"] == 12


def test_each_change_has_its_own_run(stores, session_id):
    keys = []
    for latitude in (45.1, 45.2, 45.1):
        move(stores, change=f"latitude = {latitude}")
        keys += [stale.run_key for stale in stale_sessions(stores.database, limit=9)]
    assert len(set(keys)) == 2
    assert keys[0] == keys[2]
    assert all(key.startswith(f"{session_id}:1:") for key in keys)


def test_a_station_that_moves_back_needs_no_extraction(stores, session_id):
    move(stores, change="latitude = 45.1")
    move(stores, change="latitude = 45.044")
    assert stale_sessions(stores.database, limit=9) == []


def test_a_station_that_moves_while_features_are_extracted_leaves_them_stale(stores, session_id):
    moved = []

    def at_first_progress(_line):
        if not moved:
            moved.append(move(stores))

    from heimdall_pipelines.sessions import extraction

    before, extraction.PROGRESS_INTERVAL_S = extraction.PROGRESS_INTERVAL_S, -1.0
    try:
        extract_session(stores, session_id, at_first_progress)
    finally:
        extraction.PROGRESS_INTERVAL_S = before
    assert moved
    assert not outcome(stores, session_id).passed


def test_a_corrected_clock_is_among_the_inputs_of_the_next_extraction(stores, session_id):
    correct_session(stores, session_id, Correction(clock={"torino": stated_clock("ntp:2ms")}))
    extract_session(stores, session_id, quiet)
    with stores.database.transaction() as connection:
        clocks = read_extraction(connection, session_id).inputs.values["clocks"]
    assert clocks["torino"] == {"time_source": "ntp", "time_uncertainty_ns": 2_000_000}
    assert clocks["genova"]["time_source"] == "gnss"
    assert outcome(stores, session_id).passed


def test_an_extraction_of_before_that_recorded_no_clocks_is_current(stores, session_id):
    execute(stores, "UPDATE heimdall.session_extractions SET inputs = inputs - 'clocks'")
    assert stale_sessions(stores.database, limit=9) == []
    assert not is_stale(stores.database, session_id)
    # What its clocks were is not known; everything else is compared as before.
    move(stores, "measurements", "true", "time_source = 'arrival'")
    assert stale_sessions(stores.database, limit=9) == []
    move(stores, change="latitude = 45.1")
    (stale,) = stale_sessions(stores.database, limit=9)
    assert stale.changes == ("torino: latitude 45.044 -> 45.1",)


def test_inputs_in_another_order_have_the_same_digest():
    one = FeatureInputs({"a": 1, "stations": {"x": {"b": 1.5, "c": None}, "y": {}}})
    other = FeatureInputs({"stations": {"y": {}, "x": {"c": None, "b": 1.5}}, "a": 1})
    assert one.sha256 == other.sha256
    assert one.changes(other) == []
