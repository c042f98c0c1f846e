"""Each way in which rows, measurements and objects can disagree is found by the check that is meant for it."""

import io

import pytest
from sqlalchemy import text

from heimdall_pipelines.sessions import checks, object_checks
from heimdall_pipelines.sessions.checks import SESSION_CHECKS, check_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.iq_objects import sidecar_location
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.objects import ObjectLocation, ObjectStore, ObjectsUnavailableError
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.sealing import reseal
from heimdall_pipelines_tests.sessions.support import quiet


@pytest.fixture
def session_id(example_session):
    return example_session().session_id


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        connection.execute(text(statement), values)


def failed(stores, session_id):
    """Names of the checks that fail, with their severity and first example."""
    return {x.name: (x.severity, x.examples[0]) for x in check_session(stores, session_id).outcomes if not x.passed}


def failed_as_edited(stores, session_id):
    """As `failed`, of rows that were edited: the check of their digests fails, too."""
    found = failed(stores, session_id)
    assert found.pop("rows_as_committed")[0] == "ERROR"
    return found


def location_of(stores, session_id, rx_id):
    (recording,) = [r for r in list_recordings(stores.database, session_id) if r.station.rx_id == rx_id]
    return recording.location


def test_a_sound_session_passes_every_check_and_says_what_was_compared(stores, session_id):
    outcomes = check_session(stores, session_id).outcomes
    assert [outcome.name for outcome in outcomes] == list(SESSION_CHECKS)
    assert all(outcome.passed for outcome in outcomes)
    numbers = {outcome.name: outcome.numbers for outcome in outcomes}
    rows = numbers["segments_without_gap"]["rows"]
    assert numbers["segments_without_gap"]["segments_planned"] == rows
    assert numbers["stations_in_every_segment"] == {"entries": 3 * rows, "rows": rows, "stations": 3}
    assert numbers["objects_agree"] == {"objects": 3, "sidecars": 3, "objects_listed": 6}
    assert numbers["numbers_in_range"]["numbers"] > 3 * rows * 3 * 10


def test_a_station_missing_in_a_row_is_found(stores, session_id):
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = receiver_features - 1,"
        " num_receivers_in_sample = 2, num_receivers_detected = 2 WHERE segment_idx = 3",
    )
    assert failed_as_edited(stores, session_id) == {
        "stations_in_every_segment": ("ERROR", "segment 3: station milano-baggio is missing"),
        "numbers_in_range": (
            "ERROR",
            "segment 3: time_differences are of 3 pairs, not the 1 of the receivers that detected",
        ),
    }


def test_a_station_that_stands_twice_or_is_a_stranger_is_found(stores, session_id):
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = jsonb_set(receiver_features, '{0,rx_id}',"
        """ '"torino"') WHERE segment_idx = 0""",
    )
    # The position is not that of the station; the pairs are those of genova.
    assert list(failed_as_edited(stores, session_id)) == [
        "stations_in_every_segment",
        "numbers_in_range",
        "features_are_current",
    ]
    (outcome,) = [x for x in check_session(stores, session_id).outcomes if x.name == "stations_in_every_segment"]
    assert outcome.examples == ["segment 0: station genova is missing", "segment 0: station torino is listed twice"]


def test_an_entry_without_a_feature_is_found(stores, session_id):
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = receiver_features #- '{2,snr_db}'"
        " WHERE segment_idx = 0",
    )
    assert failed_as_edited(stores, session_id) == {
        "stations_in_every_segment": ("ERROR", "segment 0: torino lacks snr_db")
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
    ((name, (severity, example)),) = failed_as_edited(stores, session_id).items()
    assert (name, severity) == ("numbers_in_range", "ERROR")
    assert path.strip("{}").split(",")[1] in example


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("jsonb_set(time_differences, '{0,tdoa_us}', '1e9')", "tdoa_us = 1000000000 is outside"),
        ("time_differences - 0", "time_differences are of 2 pairs, not the 3 of the receivers that detected"),
        ("NULL", "lacks time_differences"),
        ("'[1]'", "time_differences is malformed"),
    ],
)
def test_impossible_time_differences_are_found(stores, session_id, change, says):
    execute(stores, f"UPDATE heimdall.measurement_features SET time_differences = {change} WHERE segment_idx = 1")
    severity, example = failed_as_edited(stores, session_id)["numbers_in_range"]
    assert (severity, says in example) == ("ERROR", True), example


def test_a_triangle_that_does_not_close_is_found(stores, session_id):
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET time_differences = jsonb_set(time_differences, '{0,tdoa_us}',"
        " to_jsonb((time_differences #>> '{0,tdoa_us}')::float8 + 100)) WHERE segment_idx = 1",
    )
    ((name, (severity, example)),) = failed_as_edited(stores, session_id).items()
    assert (name, severity) == ("triangles_close", "WARN")
    assert example.startswith("segment 1: genova to milano-baggio to torino to genova: +")


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


def test_a_missing_or_empty_sidecar_is_found_by_name(stores, session_id):
    sidecar = sidecar_location(location_of(stores, session_id, "genova"))
    stores.objects.put(sidecar, io.BytesIO(), 0, "application/json")
    assert failed(stores, session_id) == {"objects_agree": ("ERROR", f"SigMF description is empty: {sidecar}")}
    stores.objects.remove(sidecar.bucket, sidecar.key)
    assert failed(stores, session_id) == {"objects_agree": ("ERROR", f"SigMF description not found: {sidecar}")}


def test_an_older_headerless_object_lies_elsewhere_and_has_no_sidecar(stores, session_id):
    genova = list_recordings(stores.database, session_id)[0]
    location, num_bytes = genova.location, 8 * genova.samples_count
    samples = stores.objects.read(location, stores.objects.size_bytes(location) - num_bytes, num_bytes)
    elsewhere = ObjectLocation(location.bucket, "2026/01/01/some-id/145500000/1767268800.bin")
    stores.objects.put(elsewhere, io.BytesIO(samples), len(samples), "application/octet-stream")
    for old in (location, sidecar_location(location)):
        stores.objects.remove(old.bucket, old.key)
    execute(
        stores,
        "UPDATE heimdall.measurements SET iq_data_location = :new, iq_data_format = 'bin', sha256 = NULL"
        " WHERE iq_data_location = :old",
        new=str(elsewhere),
        old=str(location),
    )
    reseal(stores)
    extract_session(stores, session_id, quiet)
    checked = check_session(stores, session_id, checksums=True)
    assert all(outcome.passed for outcome in checked.outcomes)
    (objects,) = [outcome for outcome in checked.outcomes if outcome.name == "objects_agree"]
    assert objects.numbers == {
        "objects_listed": 4,
        "objects": 3,
        "objects_without_checksum": 1,
        "checksums_compared": 2,
        "sidecars": 2,
    }
    stores.objects.remove(elsewhere.bucket, elsewhere.key)
    assert failed(stores, session_id) == {"objects_agree": ("ERROR", f"IQ file not found: {elsewhere}")}


def test_an_object_that_no_measurement_names_is_found(stores, session_id):
    stranger = ObjectLocation(stores.objects.raw_iq_bucket, f"sessions/{session_id}/stranger.npy")
    stores.objects.put(stranger, io.BytesIO(b"x"), 1, "application/octet-stream")
    assert failed(stores, session_id) == {
        "objects_agree": ("ERROR", f"{stranger}: an object that no measurement names")
    }


def test_other_bytes_of_the_same_length_are_found_by_etag_or_checksum(stores, session_id, monkeypatch):
    monkeypatch.setattr(object_checks, "READ_BYTES", 100_000)
    location = location_of(stores, session_id, "genova")
    content = bytearray(stores.objects.read(location, 0, stores.objects.size_bytes(location)))
    content[-1] ^= 1
    stores.objects.put(location, io.BytesIO(content), len(content), "application/octet-stream")
    changed = f"{location}: its bytes are not those that were stored (SHA-256 differs)"
    assert failed(stores, session_id) == {"objects_agree": ("ERROR", changed)}
    execute(stores, "UPDATE heimdall.measurements SET etag = NULL")  # as rows of before ETags were kept
    reseal(stores)
    assert failed(stores, session_id) == {}
    checked = check_session(stores, session_id, checksums=True)
    (outcome,) = [outcome for outcome in checked.outcomes if not outcome.passed]
    assert outcome.examples == [changed]
    assert outcome.numbers["checksums_compared"] == 3
    assert checked.num_affected == checked.num_segments == 12


def test_every_row_has_stations_that_recorded_nothing(stores, session_id):
    location = location_of(stores, session_id, "genova")
    for file in (location, sidecar_location(location)):
        stores.objects.remove(file.bucket, file.key)
    execute(
        stores,
        "UPDATE heimdall.measurements SET iq_data_location = NULL, error_message = 'it was off'"
        " WHERE iq_data_location = :location",
        location=str(location),
    )
    reseal(stores)
    extract_session(stores, session_id, quiet)
    assert failed(stores, session_id) == {"stations_extracted": ("WARN", "segment 0: genova: it was off")}
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = receiver_features - 0,"
        " num_receivers_in_sample = 2 WHERE segment_idx = 3",
    )
    assert failed(stores, session_id)["stations_in_every_segment"] == ("ERROR", "segment 3: station genova is missing")


def test_rows_replaced_while_read_are_seen_as_one_snapshot(stores, session_id, monkeypatch):
    read = checks.read_recordings

    def read_and_let_a_rival_delete_the_rows(connection, session):
        recordings = read(connection, session)
        execute(stores, "DELETE FROM heimdall.measurement_features")
        return recordings

    monkeypatch.setattr(checks, "read_recordings", read_and_let_a_rival_delete_the_rows)
    assert failed(stores, session_id) == {}


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
    (outcome,) = [x for x in check_session(stores, session_id).outcomes if x.name == "stations_in_every_segment"]
    assert len(outcome.examples) == 20
    assert outcome.num_problems > 30


def test_an_outage_of_the_object_store_raises(stores, settings, session_id):
    down = Stores(stores.database, ObjectStore(settings.model_copy(update={"s3_endpoint": "127.0.0.1:1"})))
    with pytest.raises(ObjectsUnavailableError):
        check_session(down, session_id)
