"""A validation keeps a session's health, issues and size, and says what they come from."""

import io
import json
from uuid import uuid4

import pytest
from sqlalchemy import text

from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.sessions import validation
from heimdall_pipelines.sessions.checks import SESSION_CHECKS, SessionNotCompleteError
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.session_deletion import begin_deletion
from heimdall_pipelines.store.sessions import (
    SessionBeingDeletedError,
    SessionChangedError,
    SessionNotFoundError,
    get_session,
)
from heimdall_pipelines_tests.older_features import make_older
from heimdall_pipelines_tests.sealing import reseal
from heimdall_pipelines_tests.sessions.support import quiet

NUM_SEGMENTS = 12


@pytest.fixture
def imported(example_session):
    return example_session(extracted=False).session_id


@pytest.fixture
def session_id(example_session):
    return example_session().session_id


def slug_of(stores, session_id):
    return get_session(stores.database, session_id).slug


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        return connection.execute(text(statement), values)


def column(stores, name):
    with stores.database.transaction() as connection:
        found = connection.execute(text(f"SELECT {name} FROM heimdall.measurement_features ORDER BY segment_idx"))
        return list(found.scalars())


def feature_versions(stores):
    return set(column(stores, "feature_version"))


def receiver_features(stores):
    return column(stores, "receiver_features")


def kept(stores):
    with stores.database.transaction() as connection:
        return connection.execute(
            text(
                "SELECT health_status, validation_issues, last_validated_at, storage_size_bytes"
                " FROM heimdall.recording_sessions"
            )
        ).one()


def test_a_sound_session_is_healthy_and_its_bytes_are_those_of_objects_and_rows(stores, session_id):
    found = validate_session(stores, session_id, checksums=True)
    assert (found.health_status, found.num_affected, found.num_segments) == ("healthy", 0, NUM_SEGMENTS)
    assert kept(stores) == ("healthy", [], found.validated_at, found.storage_size_bytes)
    object_bytes = sum(entry.size_bytes for entry in stores.objects.entries(stores.objects.raw_iq_bucket, ""))
    row_bytes = found.storage_size_bytes - object_bytes
    assert 1_000 * NUM_SEGMENTS < row_bytes < 10_000 * NUM_SEGMENTS  # 3 stations, features of 4 numbers each


def test_a_session_of_an_older_feature_version_is_healthy(stores, session_id):
    make_older(stores)
    found = validate_session(stores, session_id, checksums=True)
    assert (found.health_status, found.num_affected) == ("healthy", 0)
    assert feature_versions(stores) == {1}


def test_an_extraction_brings_an_older_session_to_the_present_features(stores, session_id):
    present = receiver_features(stores)
    make_older(stores)
    assert receiver_features(stores) != present
    extract_session(stores, session_id, quiet)
    assert receiver_features(stores) == present
    assert feature_versions(stores) == {FEATURE_VERSION}


def test_a_row_that_is_not_of_its_feature_version_is_found(stores, session_id):
    make_older(stores)
    execute(stores, "UPDATE heimdall.measurement_features SET feature_version = 2 WHERE segment_idx = 3")
    reseal(stores)
    (failed,) = [outcome for outcome in validate_session(stores, session_id).outcomes if not outcome.passed]
    assert (failed.name, failed.examples[0]) == ("stations_in_every_segment", "segment 3: genova lacks cn0_dbhz")


def test_what_is_printed_as_json_can_be_read_again(stores, session_id):
    document = json.loads(json.dumps(validate_session(stores, session_id).to_json(), allow_nan=False))
    assert document["session_id"] == str(session_id)
    assert document["slug"] == slug_of(stores, session_id)
    assert document["health_status"] == "healthy"
    assert [check["check"] for check in document["checks"]] == list(SESSION_CHECKS)
    assert all(check["passed"] for check in document["checks"])


@pytest.mark.parametrize(
    ("damage", "num_affected", "num_segments", "health"),
    [
        # One of twelve is more than a twentieth; a problem each in several checks is one segment.
        (
            "UPDATE heimdall.measurement_features SET receiver_features = '[]', session_revision = 7"
            " WHERE segment_idx = 3",
            1,
            NUM_SEGMENTS,
            "critical",
        ),
        ("DELETE FROM heimdall.measurement_features WHERE segment_idx IN (3, 4)", 2, NUM_SEGMENTS, "critical"),
        ("UPDATE heimdall.recording_sessions SET name = name", 0, NUM_SEGMENTS, "healthy"),
        ("UPDATE heimdall.measurements SET samples_count = samples_count + 1", 12, NUM_SEGMENTS, "critical"),
        ("DELETE FROM heimdall.measurement_features", 0, 0, "critical"),
    ],
)
def test_each_segment_with_a_problem_counts_once(stores, session_id, damage, num_affected, num_segments, health):
    execute(stores, damage)
    found = validate_session(stores, session_id)
    assert (found.num_affected, found.num_segments, found.health_status) == (num_affected, num_segments, health)
    assert kept(stores).health_status == health


def test_an_object_too_many_concerns_no_segment_and_is_a_warning(stores, session_id):
    stranger = ObjectLocation(stores.objects.raw_iq_bucket, f"sessions/{session_id}/stranger.npy")
    stores.objects.put(stranger, io.BytesIO(b"x"), 1, "application/octet-stream")
    found = validate_session(stores, session_id)
    assert (found.health_status, found.num_affected) == ("warning", 0)
    (issue,) = kept(stores).validation_issues
    assert issue["check"] == "objects_agree"
    assert issue["examples"] == [f"{stranger}: an object that no measurement names"]
    assert issue["repair"].endswith(f"heimdall session delete {slug_of(stores, session_id)}")


def test_missing_iq_affects_every_segment_and_cannot_be_regenerated(stores, session_id):
    location = list_recordings(stores.database, session_id)[0].location
    stores.objects.remove(location.bucket, location.key)
    found = validate_session(stores, session_id)
    assert (found.health_status, found.num_affected) == ("critical", NUM_SEGMENTS)
    (issue,) = kept(stores).validation_issues
    assert issue["repair"].startswith("IQ of recordings cannot be regenerated")


def test_due_features_are_an_issue_that_an_extraction_repairs(stores, imported):
    assert validate_session(stores, imported).health_status == "critical"
    issues = {issue["check"]: issue for issue in kept(stores).validation_issues}
    assert issues["stations_extracted"]["examples"] == ["nothing was extracted"]
    assert issues["stations_extracted"]["repair"] == f"heimdall session extract {slug_of(stores, imported)}"
    extract_session(stores, imported, quiet)
    assert validate_session(stores, imported).health_status == "healthy"
    assert kept(stores).validation_issues == []


def test_only_completed_sessions_can_be_validated(stores, imported):
    with pytest.raises(SessionNotFoundError, match="heimdall session list"):
        validate_session(stores, uuid4())
    execute(stores, "UPDATE heimdall.recording_sessions SET status = 'in_progress'")
    reseal(stores)
    with pytest.raises(SessionNotCompleteError, match="is in_progress: it can be checked only when it is completed"):
        validate_session(stores, imported)
    begin_deletion(stores.database, imported)
    slug = slug_of(stores, imported)
    with pytest.raises(SessionBeingDeletedError, match=f"finish it with: heimdall session delete {slug}"):
        validate_session(stores, imported)
    assert kept(stores)[:3] == ("unknown", [], None)


@pytest.mark.parametrize(
    ("meanwhile", "error", "words"),
    [
        ("DELETE FROM heimdall.recording_sessions", SessionNotFoundError, "was deleted while it was being validated"),
        (
            "UPDATE heimdall.recording_sessions SET deletion_began_at = now()",
            SessionBeingDeletedError,
            "is being deleted; finish it with",
        ),
        (
            "UPDATE heimdall.recording_sessions SET revision = 2",
            SessionChangedError,
            r"revision 1 was being validated \(now completed, revision 2\)",
        ),
    ],
)
def test_a_session_changed_during_validation_gets_no_health(stores, session_id, monkeypatch, meanwhile, error, words):
    check = validation.check_session

    def check_and_let_it_change(*arguments, **more):
        checked = check(*arguments, **more)
        execute(stores, meanwhile)
        return checked

    monkeypatch.setattr(validation, "check_session", check_and_let_it_change)
    with pytest.raises(error, match=words):
        validate_session(stores, session_id)
    assert execute(stores, "SELECT 1 FROM heimdall.recording_sessions WHERE health_status <> 'unknown'").first() is None


def test_the_health_is_read_with_the_session(stores, session_id):
    assert get_session(stores.database, session_id).health_status == "unknown"
    found = validate_session(stores, session_id)
    session = get_session(stores.database, session_id)
    assert (session.health_status, session.last_validated_at, session.storage_size_bytes) == (
        "healthy",
        found.validated_at,
        found.storage_size_bytes,
    )
