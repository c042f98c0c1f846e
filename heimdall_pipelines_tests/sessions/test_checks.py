"""Each way in which rows, measurements and objects can disagree is found by the check that is meant for it."""

import io

import pytest
from sqlalchemy import text

from heimdall_pipelines.sessions.checks import SESSION_CHECKS, check_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.objects import ObjectStore, ObjectsUnavailableError
from heimdall_pipelines.store.sessions import list_recordings
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.sessions.support import import_files, quiet


@pytest.fixture
def session_id(stores, example_recordings):
    report = import_files(stores, example_recordings)
    extract_session(stores, report.session_id, quiet)
    return report.session_id


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        connection.execute(text(statement), values)


def failed(stores, session_id):
    """Names of the checks that fail, with their severity and first example."""
    return {x.name: (x.severity, x.examples[0]) for x in check_session(stores, session_id) if not x.passed}


def location_of(stores, session_id, rx_id):
    (recording,) = [r for r in list_recordings(stores.database, session_id) if r.station.rx_id == rx_id]
    return recording.location


def test_a_sound_session_passes_every_check_and_says_what_was_compared(stores, session_id):
    outcomes = check_session(stores, session_id)
    assert [outcome.name for outcome in outcomes] == list(SESSION_CHECKS)
    assert all(outcome.passed for outcome in outcomes)
    numbers = {outcome.name: outcome.numbers for outcome in outcomes}
    rows = numbers["segments_without_gap"]["rows"]
    assert numbers["segments_without_gap"]["segments_planned"] == rows
    assert numbers["stations_in_every_segment"] == {"entries": 3 * rows, "rows": rows, "stations": 3}
    assert numbers["objects_agree"] == {"objects": 3}
    assert numbers["numbers_in_range"]["numbers"] > 3 * rows * 3 * 10


def test_a_station_missing_in_a_row_is_found(stores, session_id):
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = receiver_features - 1,"
        " num_receivers_in_sample = 2, num_receivers_detected = 2 WHERE segment_idx = 3",
    )
    assert failed(stores, session_id) == {
        "stations_in_every_segment": ("ERROR", "segment 3: station milano-baggio is missing")
    }


def test_a_station_that_stands_twice_or_is_a_stranger_is_found(stores, session_id):
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = jsonb_set(receiver_features, '{0,rx_id}',"
        """ '"torino"') WHERE segment_idx = 0""",
    )
    (outcome,) = [x for x in check_session(stores, session_id) if not x.passed]
    assert outcome.examples == ["segment 0: station genova is missing", "segment 0: station torino stands twice"]


def test_an_entry_without_a_feature_is_found(stores, session_id):
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = receiver_features #- '{2,snr_db}'"
        " WHERE segment_idx = 0",
    )
    assert failed(stores, session_id) == {
        "stations_in_every_segment": ("ERROR", "segment 0: torino has neither all features nor an error")
    }


def test_counts_that_do_not_match_their_row_are_found(stores, session_id):
    execute(stores, "UPDATE heimdall.measurement_features SET num_receivers_detected = 1 WHERE segment_idx = 2")
    assert "1 of 3 receivers are noted, 3 of 3 are there" in failed(stores, session_id)["stations_in_every_segment"][1]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM heimdall.measurement_features WHERE segment_idx = 4", "segment 5 follows where 4 is expected"),
        (
            "DELETE FROM heimdall.measurement_features WHERE segment_idx >= 8",
            "8 rows are there, the extraction planned",
        ),
        (
            "UPDATE heimdall.measurement_features SET timestamp = timestamp + INTERVAL '1 ms' WHERE segment_idx = 4",
            r"segment 4 begins 1.001 s after the one before",
        ),
        (
            "UPDATE heimdall.measurement_features SET session_revision = 7 WHERE segment_idx = 4",
            "segment 4 is of revision 7, the session of 1",
        ),
        ("DELETE FROM heimdall.measurement_features", "there are no rows"),
    ],
)
def test_gaps_between_segments_are_found(stores, session_id, statement, words):
    execute(stores, statement)
    severity, example = failed(stores, session_id)["segments_without_gap"]
    assert severity == "ERROR"
    assert words in example


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("{0,snr_db,mean}", "1e9"),
        ("{1,confidence_score,max}", "1.5"),
        ("{2,zero_crossing_rate,min}", "-0.25"),
        ("{0,rssi_dbm,min}", "-1000"),
    ],
)
def test_numbers_out_of_range_are_found(stores, session_id, path, value):
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = jsonb_set(receiver_features,"
        " CAST(:path AS text[]), CAST(:value AS jsonb)) WHERE segment_idx = 1",
        path=path,
        value=value,
    )
    ((name, (severity, example)),) = failed(stores, session_id).items()
    assert (name, severity) == ("numbers_in_range", "ERROR")
    assert path.strip("{}").split(",")[1] in example


def test_a_deleted_object_is_found_by_name(stores, session_id):
    location = location_of(stores, session_id, "genova")
    stores.objects.remove(location.bucket, location.key)
    assert failed(stores, session_id) == {"objects_agree": ("ERROR", f"IQ file not found: {location}")}


def test_an_object_of_another_length_is_found(stores, session_id):
    location = location_of(stores, session_id, "genova")
    content = stores.objects.read(location, 0, 5000)
    stores.objects.put(location, io.BytesIO(content), len(content), "application/octet-stream")
    assert "truncated" in failed(stores, session_id)["objects_agree"][1]


def test_an_edited_samples_count_is_found(stores, session_id):
    execute(stores, "UPDATE heimdall.measurements SET samples_count = samples_count + 1")
    assert failed(stores, session_id)["objects_agree"][0] == "ERROR"


def test_a_failed_station_is_a_warning_and_no_disagreement(stores, session_id):
    location = location_of(stores, session_id, "genova")
    stores.objects.remove(location.bucket, location.key)
    extract_session(stores, session_id, quiet)
    found = failed(stores, session_id)
    assert found["stations_extracted"] == ("WARN", f"segment 0: genova: IQ file not found: {location}")
    assert set(found) == {"stations_extracted", "objects_agree"}


def test_nothing_extracted_at_all_is_an_error(stores, session_id):
    for rx_id in ("genova", "torino", "milano-baggio"):
        location = location_of(stores, session_id, rx_id)
        stores.objects.remove(location.bucket, location.key)
    extract_session(stores, session_id, quiet)
    assert failed(stores, session_id)["stations_extracted"][0] == "ERROR"


def test_of_many_problems_twenty_are_shown_and_all_are_counted(stores, session_id):
    execute(stores, "UPDATE heimdall.measurement_features SET receiver_features = '[]', num_receivers_detected = 0")
    (outcome,) = [x for x in check_session(stores, session_id) if x.name == "stations_in_every_segment"]
    assert len(outcome.examples) == 20
    assert outcome.num_problems > 30


def test_an_outage_of_the_object_store_raises(stores, settings, session_id):
    down = Stores(stores.database, ObjectStore(settings.model_copy(update={"s3_endpoint": "127.0.0.1:1"})))
    with pytest.raises(ObjectsUnavailableError):
        check_session(down, session_id)
