"""Rows that were edited by hand into something that no version of heimdall writes."""

import pytest

from heimdall_pipelines.datasets.accepting import accept_dataset
from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.rf.feature_registry import STATISTICS
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.positions import locate_and_store
from heimdall_pipelines.store.changes import list_changes
from heimdall_pipelines.store.positions import read_position_rows
from heimdall_pipelines_tests.datasets.support import add, execute, make
from heimdall_pipelines_tests.sessions.support import import_files, quiet


def examples(outcomes, check):
    (outcome,) = [outcome for outcome in outcomes if outcome.name == check]
    return outcome.examples


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_statistic_missing_in_a_sample_is_found(stores, statistic):
    add(stores, "night", 2)
    make(stores, "night", 0)
    execute(
        stores,
        "UPDATE heimdall.measurement_features"
        f" SET receiver_features = receiver_features #- '{{0,rssi_dbm,{statistic}}}' WHERE sample_idx = 1",
    )
    found = check_dataset(stores, "night")
    assert "sample 1: receiver_features of the feature row is malformed" in examples(
        found.outcomes.values(), "numbers_in_range"
    )


def test_a_statistic_missing_in_a_segment_is_found(stores, example_recordings):
    session = import_files(stores, example_recordings).session_id
    extract_session(stores, session)
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = receiver_features #- '{0,cn0_dbhz,mean}'"
        " WHERE segment_idx = 1",
    )
    problems = [example for outcome in check_session(stores, session).outcomes for example in outcome.examples]
    assert any("segment 1: receiver_features is malformed" in problem for problem in problems)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_lacks_is_accepted_and_noted_as_text(stores, number):
    add(stores, "night", 2)
    make(stores, "night", 0)
    execute(stores, f"UPDATE heimdall.measurement_features SET mean_snr_db = '{number}' WHERE sample_idx = 1")
    edits = list(accept_dataset(stores, "night", reason="a test"))
    assert edits[0] == "measurement_features, sample_idx 1: mean_snr_db is not as committed"
    assert {"mean_snr_db": str(float(number))} in [change.after for change in list_changes(stores.database)]


@pytest.mark.parametrize(
    "edited", ['{"notes": 5}', '{"notes": null}', '{"num_segments": null}', '{"num_segments": "x"}']
)
def test_metadata_of_a_segment_of_another_type_are_found(stores, example_recordings, edited):
    session = import_files(stores, example_recordings).session_id
    extract_session(stores, session)
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET extraction_metadata = extraction_metadata || CAST(:edited AS jsonb)"
        " WHERE segment_idx = 1",
        edited=edited,
    )
    assert "segment 1: extraction_metadata is malformed" in examples(
        check_session(stores, session).outcomes, "numbers_in_range"
    )


@pytest.mark.parametrize(
    ("column", "path", "value"),
    [
        ("receiver_features", "0,rx_lat", "95"),
        ("receiver_features", "0,rx_lon", "1e999"),
        ("receiver_features", "0,rx_alt_m", "true"),
        ("receiver_features", "0,rssi_dbm,std", "1e999"),
        ("time_differences", "0,std_us", "1e400"),
        ("truth", "receivers,0,delay_s", "1e400"),
        ("truth", "gdop", "-1e400"),
    ],
)
def test_a_number_of_a_sample_that_no_float_holds_or_no_place_has_is_found(stores, column, path, value):
    add(stores, "night", 2)
    make(stores, "night", 0)
    execute(
        stores,
        f"UPDATE heimdall.measurement_features SET {column} = jsonb_set({column}, '{{{path}}}', '{value}')"
        " WHERE sample_idx = 1",
    )
    outcomes = check_dataset(stores, "night").outcomes.values()
    assert f"sample 1: {column} of the feature row is malformed" in examples(outcomes, "numbers_in_range")


@pytest.mark.parametrize(
    "edited",
    [
        "time_differences = jsonb_set(time_differences, '{0,std_us}', '1e400')",
        """station_delays_us = '{"torino": 1e400}'""",
    ],
)
def test_a_number_of_a_position_that_no_float_holds_is_found(stores, example_recordings, edited):
    session = import_files(stores, example_recordings).session_id
    extract_session(stores, session)
    locate_and_store(stores, session, quiet)
    execute(stores, f"UPDATE heimdall.positions SET {edited} WHERE segment_idx IS NULL")
    with stores.database.transaction() as connection:
        assert next(read_position_rows(connection, session)).position is None
    assert not all(outcome.passed for outcome in check_session(stores, session).outcomes)


@pytest.mark.parametrize("location", ["x", "/x", "x/"])
def test_a_location_of_iq_that_is_none_is_found(stores, example_recordings, location):
    session = import_files(stores, example_recordings).session_id
    extract_session(stores, session)
    execute(
        stores,
        "UPDATE heimdall.measurements SET iq_data_location = :location"
        " WHERE websdr_station_id = (SELECT id FROM heimdall.websdr_stations WHERE rx_id = 'torino')",
        location=location,
    )
    problems = [example for outcome in check_session(stores, session).outcomes for example in outcome.examples]
    assert any("torino" in problem and "iq_data_location" in problem for problem in problems)
