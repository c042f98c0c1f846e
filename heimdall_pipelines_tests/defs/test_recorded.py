"""The main job, its checks and the sensor, on a real instance and real stores."""

import base64
import re
import uuid

import dagster as dg
import pytest
from sqlalchemy import text

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.recorded import MAX_REQUESTS_PER_TICK, completed_recording_sessions
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.database import DatabaseUnavailableError
from heimdall_pipelines.store.session_deletion import begin_deletion
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.sessions.support import import_files

JOB = "extract_recorded_session"


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def session_id(environment, stores, example_recordings):
    return str(import_files(stores, example_recordings).session_id)


def run(instance, session_id, job=JOB, **tags):
    instance.add_dynamic_partitions(RECORDING_SESSIONS, [session_id])
    job = build_definitions().resolve_job_def(job)
    return job.execute_in_process(partition_key=session_id, instance=instance, raise_on_error=False, tags=tags)


def tick(instance, stores):
    context = dg.build_sensor_context(instance=instance, definitions=build_definitions())
    return completed_recording_sessions(context, stores=stores)


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        return connection.execute(text(statement), values)


def add_completed(stores, number, first=0):
    """Sessions that are completed one after the other, the lowest number first."""
    ids = [uuid.UUID(int=first + index) for index in range(number)]
    for session_id in ids:
        execute(
            stores,
            "INSERT INTO heimdall.recording_sessions (id, name, status, frequency_hz, bandwidth_hz)"
            " VALUES (:id, 's', 'completed', 1, 1)",
            id=session_id,
        )
    return [str(session_id) for session_id in ids]


def test_the_job_writes_rows_and_every_check_passes(instance, stores, session_id):
    result = run(instance, session_id)
    assert result.success
    checks = result.get_asset_check_evaluations()
    assert {check.check_name: check.passed for check in checks} == dict.fromkeys(SESSION_CHECKS, True)
    assert {check.partition for check in checks} == {session_id}
    rows = execute(stores, "SELECT count(*) FROM heimdall.measurement_features").scalar()
    assert rows == 12


def test_the_materialization_shows_numbers_a_table_and_a_small_picture(instance, session_id):
    run(instance, session_id)
    key = dg.AssetKey(["recorded", "measurement_features"])
    metadata = instance.get_latest_materialization_event(key).asset_materialization.metadata
    assert metadata["rows"].value == 12
    assert (metadata["stations"].value, metadata["failed_stations"].value) == (3, "none")
    assert "| genova | 19." in metadata["heard"].value or "| genova | 20." in metadata["heard"].value
    (data,) = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)\)", metadata["spectrogram"].value)
    png = base64.b64decode(data)
    assert png.startswith(b"\x89PNG")
    assert len(png) < 100_000


def test_a_disagreement_is_a_failed_check_with_numbers_examples_and_what_to_do(instance, stores, session_id):
    execute(stores, "UPDATE heimdall.measurements SET samples_count = samples_count - 1")
    result = run(instance, session_id)
    assert result.success  # the checks speak, the run did what it could
    failed = {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}
    assert set(failed) == {"objects_agree", "stations_extracted"}
    objects = failed["objects_agree"]
    assert objects.severity is dg.AssetCheckSeverity.ERROR
    assert objects.metadata["problems"].value == 3
    assert "the header says 150014 samples, the session 150013" in objects.metadata["examples"].value
    assert "import or record the session again" in objects.metadata["to_mend"].value
    # Nothing at all could be extracted, which is more than a warning.
    assert failed["stations_extracted"].severity is dg.AssetCheckSeverity.ERROR


def test_a_completed_session_is_requested_once_with_its_partition_and_its_iq(instance, stores, session_id):
    result = tick(instance, stores)
    (request,) = result.run_requests
    assert (request.run_key, request.partition_key) == (f"{session_id}:1", session_id)
    (added,) = result.dynamic_partitions_requests
    assert added.partition_keys == [session_id]
    (event,) = result.asset_events
    assert event.partition == session_id
    assert len(event.metadata["objects"].value) == 3


def test_an_extracted_session_is_not_due(instance, stores, session_id):
    run(instance, session_id)
    assert isinstance(tick(instance, stores), dg.SkipReason)


def test_a_session_that_was_requested_is_not_requested_again_though_its_run_failed(instance, stores, session_id):
    execute(stores, "DELETE FROM heimdall.measurements")
    assert not run(instance, session_id, **{"dagster/run_key": f"{session_id}:1"}).success
    assert isinstance(tick(instance, stores), dg.SkipReason)


def test_a_session_that_is_completed_again_is_due_under_its_new_revision(instance, stores, session_id):
    run(instance, session_id, **{"dagster/run_key": f"{session_id}:1"})
    for status in ("in_progress", "completed"):
        execute(stores, "UPDATE heimdall.recording_sessions SET status = :status", status=status)
    assert [request.run_key for request in tick(instance, stores).run_requests] == [f"{session_id}:2"]


@pytest.mark.parametrize("status", ["pending", "in_progress", "failed"])
def test_only_completed_sessions_are_due(environment, instance, stores, status):
    add_completed(stores, 1)
    execute(stores, "UPDATE heimdall.recording_sessions SET status = :status", status=status)
    assert isinstance(tick(instance, stores), dg.SkipReason)


def test_a_tick_asks_for_at_most_a_hundred_runs_oldest_first(environment, instance, stores):
    ids = add_completed(stores, MAX_REQUESTS_PER_TICK + 20)
    assert [request.partition_key for request in tick(instance, stores).run_requests] == ids[:MAX_REQUESTS_PER_TICK]


def test_many_failed_sessions_do_not_stand_in_the_way_of_newer_ones(environment, instance, stores):
    old = add_completed(stores, 230)
    for session_id in old:
        tags = {"dagster/run_key": f"{session_id}:1"}
        instance.add_run(dg.DagsterRun(job_name=JOB, run_id=str(uuid.uuid4()), tags=tags))
    new = add_completed(stores, 2, first=1000)
    assert [request.partition_key for request in tick(instance, stores).run_requests] == new


def test_a_tick_that_cannot_look_fails_and_is_no_empty_answer(settings, instance):
    down = settings.model_copy(update={"pg_port": 1})
    with open_stores(down) as stores, pytest.raises(DatabaseUnavailableError):
        tick(instance, stores)


def test_the_validation_job_runs_the_checks_only_and_keeps_the_health(instance, stores, session_id):
    extract_session(stores, session_id)
    execute(stores, "UPDATE heimdall.measurement_features SET receiver_features = '[]' WHERE segment_idx = 3")
    result = run(instance, session_id, job="validate_recorded_session")
    assert result.success
    failed = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed == {"stations_in_every_segment"}
    assert {check.partition for check in result.get_asset_check_evaluations()} == {session_id}
    assert result.get_asset_materialization_events() == []
    assert get_session(stores.database, session_id).health_status == "critical"
    assert run(instance, session_id).success  # extracted again, it is well
    assert get_session(stores.database, session_id).health_status == "healthy"


def test_a_session_that_is_being_deleted_is_not_requested(instance, stores, session_id):
    begin_deletion(stores.database, session_id)
    assert isinstance(tick(instance, stores), dg.SkipReason)
    assert not run(instance, session_id).success
    assert execute(stores, "SELECT count(*) FROM heimdall.measurement_features").scalar() == 0
