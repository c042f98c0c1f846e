"""What digests find that no other check does, whose edits are whose, and edits that are taken over."""

import io
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from heimdall_pipelines.datasets.accepting import accept_dataset
from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.sessions.accepting import accept_session
from heimdall_pipelines.sessions.checks import SessionNotCompleteError, check_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.store.changes import list_changes
from heimdall_pipelines.store.committed_parameters import ParametersEditedError
from heimdall_pipelines.store.datasets import DatasetDeletedError, datasets_to_validate, mark_dataset_deleted
from heimdall_pipelines.store.digest_rows import seal_rows
from heimdall_pipelines.store.iq_objects import put_sidecar, sidecar_location
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.session_deletion import begin_deletion
from heimdall_pipelines.store.sessions import SessionBeingDeletedError, completed_sessions
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.datasets.support import add, execute, make
from heimdall_pipelines_tests.integrity import NAME, RX_IDS, Night, failed, night_of_module
from heimdall_pipelines_tests.sessions.support import quiet

SWAP_FEATURES = (
    "UPDATE heimdall.measurement_features f SET receiver_features = other.receiver_features"
    " FROM heimdall.measurement_features other WHERE f.recording_session_id = other.recording_session_id"
    " AND (f.segment_idx, other.segment_idx) IN ((3, 4), (4, 3))"
)
SWAP_OBJECTS = (
    "UPDATE heimdall.measurements m SET iq_data_location = other.iq_data_location, sha256 = other.sha256,"
    " etag = other.etag, sidecar_sha256 = other.sidecar_sha256 FROM heimdall.measurements other"
    " WHERE m.recording_session_id = other.recording_session_id AND m.id <> other.id AND m.websdr_station_id IN ({0})"
    " AND other.websdr_station_id IN ({0})"
).format("SELECT id FROM heimdall.websdr_stations WHERE rx_id IN ('torino', 'genova')")


@pytest.fixture(scope="module")
def _module(server_settings, _template) -> Iterator[Night]:
    with night_of_module(server_settings) as (_, made):
        yield made


@pytest.fixture
def night(_module) -> Night:
    _module.make_sound()
    return _module


@pytest.fixture
def session_id(example_session):
    return example_session(known_source="DCF77").session_id


def failed_of_session(stores: Stores, session_id) -> dict[str, list[str]]:
    return {x.name: x.examples for x in check_session(stores, session_id).outcomes if not x.passed}


def test_a_changed_sidecar_is_found_by_its_check_alone_and_regenerated(night):
    garbage, of_another = night.key(3, sidecar=True), night.key(5, 1, sidecar=True)
    night.put(garbage, b"garbage")
    night.put(of_another, night.read(night.key(5, 2, sidecar=True)))
    assert failed(night.validate()) == {
        "sidecars_as_committed": [
            f"sample {idx}: {key} was changed since it was stored: its SHA-256 differs"
            for idx, key in ((3, garbage), (5, of_another))
        ]
    }
    assert night.repair().to_regenerate == (3, 5)
    night.assert_sound()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("seed = 7", "seed is 7, the dataset was created with 20260101"),
        (
            "spec = jsonb_set(spec, '{tx_power_dbm}', '38.5')",
            "spec tx_power_dbm is 38.5, the dataset was created with 37.0",
        ),
        ("spec = '{}'", "spec is {}, the dataset was created with"),
        (
            "receivers = jsonb_set(receivers, '{0,latitude}', '45.5')",
            "receivers 0 latitude is 45.5, the dataset was created",
        ),
        ("receivers = '[]'", "number of receivers is 0, the dataset was created with 3"),
        ("dataset_type = 'iq_raw'", 'dataset_type is "iq_raw", the dataset was created with "feature_based"'),
        ("generator_version = 1", "generator_version is 1, the dataset was created with 2"),
    ],
)
def test_edited_parameters_fail_their_check_and_no_sample_is_doubted(night, change, says):
    night.execute(f"UPDATE heimdall.synthetic_datasets SET {change} WHERE id = :id")
    found = check_dataset(night.stores, NAME, seed=1)
    problems = {outcome.name: outcome.examples for outcome in found.outcomes.values() if not outcome.passed}
    assert list(problems) == ["parameters_as_created"]
    assert problems["parameters_as_created"][0].startswith(says)
    assert (found.to_regenerate, list(found.edited_parameters)) == (set(), [change.partition(" ")[0]])


def test_no_batch_is_made_of_edited_parameters(stores):
    add(stores, "night", 8, batch_size=5)
    make(stores, "night")
    execute(stores, "UPDATE heimdall.synthetic_datasets SET seed = seed + 1")
    with pytest.raises(ParametersEditedError, match="seed is 20260102, the dataset was created with 20260101"):
        make(stores, "night", 1)


def test_exchanged_objects_with_their_sums_are_found_by_the_rows(night):
    one, other = night.key(3), night.key(3, 1)
    contents = night.read(one), night.read(other)
    night.put(one, contents[1])
    night.put(other, contents[0])
    a, b = RX_IDS[:2]
    swapped = " || ".join(
        f"jsonb_build_object('{name}', iq_metadata->'{name}' || jsonb_build_object("
        f"'{a}', iq_metadata#>'{{{name},{b}}}', '{b}', iq_metadata#>'{{{name},{a}}}'))"
        for name in ("sha256", "etag")
    )
    night.execute(
        f"UPDATE heimdall.synthetic_iq_samples SET iq_metadata = iq_metadata || {swapped}"
        " WHERE dataset_id = :id AND sample_idx = 3"
    )
    problems = failed(night.validate())
    assert problems["rows_as_committed"] == ["sample 3: IQ row: iq_metadata is not as committed"]
    night.repair()
    night.assert_sound()


def test_a_row_replaced_with_its_digest_is_found_by_the_root(night):
    night.execute(
        "UPDATE heimdall.measurement_features SET overall_confidence = overall_confidence"
        ", error_message = 'x' WHERE dataset_id = :id AND sample_idx = 3"
    )
    with night.stores.database.transaction() as connection:
        seal_rows(connection, "measurement_features", "sample_idx = 3 AND dataset_id = :id", {"id": night.dataset.id})
    assert failed(night.validate()) == {
        "rows_as_committed": ["batch 0: its root is not that of its rows: a row was added, removed or replaced"]
    }


def test_a_dataset_marked_for_deletion_by_hand_is_still_validated(night):
    night.execute("UPDATE heimdall.synthetic_datasets SET deletion_began_at = now() WHERE id = :id")
    assert NAME in [dataset.name for dataset in datasets_to_validate(night.stores.database)]
    assert failed(night.validate()) == {"rows_as_committed": ["dataset: deletion_began_at is not as committed"]}
    night.execute("UPDATE heimdall.synthetic_datasets SET deletion_began_at = NULL WHERE id = :id")
    mark_dataset_deleted(night.stores.database, night.dataset)
    assert NAME not in [dataset.name for dataset in datasets_to_validate(night.stores.database)]
    with pytest.raises(DatasetDeletedError):
        night.validate()
    night.execute("UPDATE heimdall.synthetic_datasets SET deletion_began_at = NULL WHERE id = :id")
    assert failed(night.validate()) == {"rows_as_committed": ["dataset: deletion_began_at is not as committed"]}


def test_edits_of_a_dataset_are_listed_then_taken_over_and_noted(night):
    night.execute(
        "UPDATE heimdall.measurement_features SET error_message = 'x' WHERE dataset_id = :id AND sample_idx = 3"
    )
    night.execute("UPDATE heimdall.synthetic_batches SET stopped_reason = 'x' WHERE dataset_id = :id AND batch_no = 1")
    night.execute("DELETE FROM heimdall.synthetic_batches WHERE dataset_id = :id AND batch_no = 7")
    night.put(night.key(4, sidecar=True), b"{}")
    before = night.rows()
    listed = list(accept_dataset(night.stores, NAME, reason=None))
    assert night.rows() == before
    assert listed == [
        f"sidecars of sample 4 ({RX_IDS[0]}): their digests are not those of the IQ row",
        "measurement_features, sample_idx 3: error_message is not as committed",
        "synthetic_batches, batch_no 1: stopped_reason is not as committed",
    ]
    taken = list(accept_dataset(night.stores, NAME, reason="a test"))
    assert set(listed) <= set(taken)
    assert failed(night.validate(checksums=True)) == {}
    assert list(accept_dataset(night.stores, NAME, reason=None)) == []
    noted = {(change.table_name, change.reason) for change in list_changes(night.stores.database)}
    assert ("measurement_features", "edited by hand, accepted: a test") in noted
    assert {table for table, _ in noted} >= {"synthetic_iq_samples", "synthetic_batches", "synthetic_datasets"}


def test_parameters_that_are_taken_over_are_those_that_samples_are_checked_against(night):
    night.execute("UPDATE heimdall.synthetic_datasets SET seed = seed + 1 WHERE id = :id")
    assert "parameters: seed is 20260102" in "\n".join(accept_dataset(night.stores, NAME, reason="a test"))
    assert list(accept_dataset(night.stores, NAME, reason=None)) == []
    problems = failed(night.validate())
    assert not problems.keys() & {"parameters_as_created", "rows_as_committed"}
    assert "is not what the seed gives" in problems["truths_agree"][0]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (SWAP_FEATURES, "segment 3: receiver_features is not as committed"),
        (SWAP_OBJECTS, "iq_data_location, sha256, sidecar_sha256, etag are not as committed"),
        ("UPDATE heimdall.measurements SET start_time_unix_ns = start_time_unix_ns + 300", "start_time_unix_ns is"),
        ("UPDATE heimdall.measurements SET sha256 = NULL", "sha256 is not as committed"),
        ("UPDATE heimdall.measurement_features SET timestamp = timestamp + INTERVAL '1 h'", "timestamp is not as"),
        ("UPDATE heimdall.websdr_stations SET latitude = 46 WHERE rx_id = 'torino'", "station torino: latitude is"),
        ("UPDATE heimdall.known_sources SET longitude = 9 WHERE name = 'DCF77'", "source DCF77: longitude is not as"),
        ("UPDATE heimdall.measurement_features SET tx_latitude = tx_latitude + 0.1", "tx_latitude is not as committed"),
        (
            "DELETE FROM heimdall.measurements WHERE sha256 = (SELECT min(sha256) FROM heimdall.measurements)",
            "its root is",
        ),
        (
            "UPDATE heimdall.recording_sessions SET known_source_id = NULL",
            "session: known_source_id is not as committed",
        ),
        ("UPDATE heimdall.recording_sessions SET status = 'failed'", "session: status is not as committed"),
        ("UPDATE heimdall.recording_sessions SET deletion_began_at = now()", "session: deletion_began_at is not as"),
    ],
    ids=lambda value: value[:60] if value.startswith(("UPDATE", "DELETE")) else "",
)
def test_an_edit_of_a_session_is_found_and_taken_over(stores, session_id, statement, says):
    execute(stores, statement)
    examples = failed_of_session(stores, session_id)["rows_as_committed"]
    assert any(says in example for example in examples), examples
    assert session_id in [session.id for session in completed_sessions(stores.database)]
    assert validate_session(stores, session_id).health_status != "healthy"
    assert list(accept_session(stores, session_id, reason=None))
    list(accept_session(stores, session_id, reason="a test"))
    assert list(accept_session(stores, session_id, reason=None)) == []
    if "deletion" in statement:
        with pytest.raises(SessionBeingDeletedError):
            check_session(stores, session_id)
    elif "failed" in statement:
        with pytest.raises(SessionNotCompleteError):
            check_session(stores, session_id)
    else:
        assert "rows_as_committed" not in failed_of_session(stores, session_id)


def test_the_last_segment_deleted_with_its_count_is_found(stores, session_id):
    last = "(SELECT max(segment_idx) FROM heimdall.measurement_features)"
    execute(stores, f"DELETE FROM heimdall.measurement_features WHERE segment_idx = {last}")
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET extraction_metadata ="
        f" jsonb_set(extraction_metadata, '{{num_segments}}', to_jsonb({last} + 1))",
    )
    assert list(failed_of_session(stores, session_id)) == ["rows_as_committed"]


def test_a_changed_sidecar_and_a_flipped_bit_of_a_session_are_found_without_checksums(stores, session_id):
    recording = list_recordings(stores.database, session_id)[0]
    put_sidecar(stores.objects, recording.location, {"global": {}})
    assert failed_of_session(stores, session_id) == {
        "sidecars_as_committed": [
            f"{sidecar_location(recording.location)}: its bytes are not those that were stored (SHA-256 differs)"
        ]
    }
    assert "sidecar of" in "\n".join(accept_session(stores, session_id, reason="a test"))
    assert failed_of_session(stores, session_id) == {}
    size = stores.objects.size_bytes(recording.location)
    content = bytearray(stores.objects.read(recording.location, 0, size))
    content[-3] ^= 1
    _put(stores, recording.location, bytes(content))
    assert failed_of_session(stores, session_id) == {
        "objects_agree": [f"{recording.location}: its bytes are not those that were stored (SHA-256 differs)"]
    }


def test_an_extraction_restores_edited_features_but_hides_no_edit_of_a_measurement(stores, session_id):
    execute(stores, "UPDATE heimdall.measurement_features SET error_message = 'x' WHERE segment_idx = 2")
    execute(stores, "UPDATE heimdall.measurements SET time_source = 'arrival' WHERE time_uncertainty_ns IS NULL")
    edited = failed_of_session(stores, session_id)["rows_as_committed"]
    assert "segment 2: error_message is not as committed" in edited
    extract_session(stores, session_id, quiet)
    left = failed_of_session(stores, session_id).get("rows_as_committed", [])
    assert left == [problem for problem in edited if problem.startswith("measurement of")]


def test_a_session_being_deleted_is_not_validated(stores, session_id):
    begin_deletion(stores.database, session_id)
    assert completed_sessions(stores.database) == []
    with pytest.raises(SessionBeingDeletedError):
        check_session(stores, session_id)


def test_rows_of_before_digests_are_vouched_for_since_the_migration(stores, session_id):
    execute(stores, "UPDATE heimdall.recording_sessions SET digests_since = '2026-01-31 12:00:00+00'")
    (outcome,) = (x for x in check_session(stores, session_id).outcomes if x.name == "rows_as_committed")
    assert outcome.passed
    assert outcome.note == "rows of before 2026-01-31 12:00:00 UTC have the digests of what they were then"


def test_sidecars_of_before_their_checksums_are_counted_and_get_them(night):
    night.execute(
        "UPDATE heimdall.synthetic_iq_samples SET iq_metadata = iq_metadata - 'sidecar_sha256' WHERE dataset_id = :id"
    )
    list(accept_dataset(night.stores, NAME, reason="checksums removed"))  # adds them
    validation = validate_dataset(night.stores, NAME, seed=1)
    assert failed(validation) == {}
    with night.stores.database.transaction() as connection:
        num = connection.execute(
            text(
                "SELECT count(*) FROM heimdall.synthetic_iq_samples, jsonb_object_keys(iq_metadata->'sidecar_sha256')"
                " WHERE dataset_id = :id"
            ),
            {"id": night.dataset.id},
        ).scalar_one()
    assert num == 36


def _put(stores: Stores, location, content: bytes) -> None:
    stores.objects.put(location, io.BytesIO(content), len(content), "application/any")
