"""Rows that were edited by hand into something that no version of heimdall writes."""

import pytest

from heimdall_pipelines.datasets.accepting import accept_dataset
from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.rf.feature_registry import STATISTICS
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.changes import list_changes
from heimdall_pipelines_tests.datasets.support import add, execute, make
from heimdall_pipelines_tests.sessions.support import import_files


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
