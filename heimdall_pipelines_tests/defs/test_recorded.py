"""The main job, its checks and the sensor, on a real instance and real stores."""

import base64
import re
import uuid

import dagster as dg
import pytest
from sqlalchemy import text

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.recorded import (
    MAX_REQUESTS_PER_TICK,
    completed_recording_sessions,
    raw_iq_objects,
    recorded_measurement_features,
)
from heimdall_pipelines.model.position import StationDelay
from heimdall_pipelines.sessions import pictures
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.changes import changing
from heimdall_pipelines.store.outages import DatabaseUnavailableError
from heimdall_pipelines.store.session_deletion import begin_deletion
from heimdall_pipelines.store.sessions import SessionIdentity, get_session
from heimdall_pipelines.store.station_delays import add_delays
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.sessions.support import import_files

JOB = "extract_recorded_session"


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def session(environment, example_session):
    imported = example_session(extracted=False)
    return SessionIdentity(imported.session_id, imported.slug)


def run(instance, partition, job=JOB, **tags):
    instance.add_dynamic_partitions(RECORDING_SESSIONS, [partition])
    job = build_definitions().resolve_job_def(job)
    return job.execute_in_process(partition_key=partition, instance=instance, raise_on_error=False, tags=tags)


def tick(instance, stores):
    context = dg.build_sensor_context(instance=instance, definitions=build_definitions())
    return completed_recording_sessions(context, stores=stores)


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        return connection.execute(text(statement), values)


def add_completed(stores, number, first=0):
    """Sessions that are completed one after the other, the lowest number first."""
    sessions = [SessionIdentity(uuid.UUID(int=no), f"night-{no}") for no in range(first, first + number)]
    for session in sessions:
        execute(
            stores,
            "INSERT INTO heimdall.recording_sessions (id, slug, name, status, frequency_hz, bandwidth_hz)"
            " VALUES (:id, :slug, 's', 'completed', 1, 1)",
            **vars(session),
        )
    return sessions


def test_the_job_writes_rows_and_every_check_passes(instance, stores, session):
    result = run(instance, session.slug)
    assert result.success
    checks = result.get_asset_check_evaluations()
    assert {check.check_name: check.passed for check in checks} == dict.fromkeys(SESSION_CHECKS, True)
    assert {check.partition for check in checks} == {session.slug}
    rows = execute(stores, "SELECT count(*) FROM heimdall.measurement_features").scalar()
    assert rows == 12


def test_the_materialization_shows_numbers_a_table_and_a_small_picture(instance, session):
    run(instance, session.slug)
    key = dg.AssetKey(["recorded", "measurement_features"])
    metadata = instance.get_latest_materialization_event(key).asset_materialization.metadata
    assert metadata["rows"].value == 12
    assert (metadata["stations"].value, metadata["failed_stations"].value) == (3, "none")
    assert "| genova | 19." in metadata["heard"].value or "| genova | 20." in metadata["heard"].value
    (data,) = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)\)", metadata["spectrogram"].value)
    png = base64.b64decode(data)
    assert png.startswith(b"\x89PNG")
    assert len(png) < 100_000


@pytest.mark.fault("the picture of a session cannot be drawn")
def test_a_picture_that_fails_does_not_fail_the_run(instance, stores, session, monkeypatch, fault):
    def fail(report):
        raise ValueError(f"cannot parse {report.session.name}")

    monkeypatch.setattr(pictures, "spectrogram_png", fail)
    result = run(instance, session.slug)
    assert result.success
    key = dg.AssetKey(["recorded", "measurement_features"])
    metadata = instance.get_latest_materialization_event(key).asset_materialization.metadata
    assert metadata["spectrogram"].value.startswith("could not be drawn: ValueError: cannot parse ")
    warnings = [entry.message for entry in instance.all_logs(result.run_id) if "could not be drawn" in entry.message]
    assert len(warnings) == 1
    assert execute(stores, "SELECT count(*) FROM heimdall.measurement_features").scalar() == 12
    fault.record(
        detected_by="the run",
        result="the run succeeds with all rows; its log and the metadata state the reason in place of the picture",
    )


@pytest.mark.slow
def test_a_session_of_any_name_is_extracted_with_its_picture(environment, stores, instance, example_recordings):
    imported = import_files(stores, example_recordings, name="cost $x^{$")
    assert run(instance, imported.slug).success
    key = dg.AssetKey(["recorded", "measurement_features"])
    metadata = instance.get_latest_materialization_event(key).asset_materialization.metadata
    assert "data:image/png" in metadata["spectrogram"].value


def test_a_disagreement_is_a_failed_check_with_numbers_examples_and_what_to_do(instance, stores, session):
    execute(stores, "UPDATE heimdall.measurements SET samples_count = samples_count - 1")
    result = run(instance, session.slug)
    assert result.success  # the checks speak, the run did what it could
    failed = {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}
    assert set(failed) == {"objects_agree", "stations_extracted", "rows_as_committed"}
    objects = failed["objects_agree"]
    assert objects.severity is dg.AssetCheckSeverity.ERROR
    assert objects.metadata["problems"].value == 3
    assert "1200112 bytes are stored, 1200104 are expected" in objects.metadata["examples"].value
    assert "import or record the session again" in objects.metadata["to_repair"].value
    # Nothing at all could be extracted, which is more than a warning.
    assert failed["stations_extracted"].severity is dg.AssetCheckSeverity.ERROR


def test_a_completed_session_is_requested_once_with_its_partition_and_its_iq(instance, stores, session):
    result = tick(instance, stores)
    (request,) = result.run_requests
    assert (request.run_key, request.partition_key) == (f"{session.id}:1", session.slug)
    (added,) = result.dynamic_partitions_requests
    assert added.partition_keys == [session.slug]
    (event,) = result.asset_events
    assert event.partition == session.slug
    assert event.metadata["session_id"].value == str(session.id)
    assert len(event.metadata["objects"].value) == 3


def test_an_extracted_session_is_not_due(instance, stores, session):
    run(instance, session.slug)
    assert isinstance(tick(instance, stores), dg.SkipReason)


def test_a_session_that_was_requested_is_not_requested_again_though_its_run_failed(instance, stores, session):
    execute(stores, "DELETE FROM heimdall.measurements")
    assert not run(instance, session.slug, **{"dagster/run_key": f"{session.id}:1"}).success
    assert isinstance(tick(instance, stores), dg.SkipReason)


@pytest.mark.slow
def test_a_session_that_is_completed_again_is_due_under_its_new_revision(instance, stores, session):
    run(instance, session.slug, **{"dagster/run_key": f"{session.id}:1"})
    for status in ("in_progress", "completed"):
        execute(stores, "UPDATE heimdall.recording_sessions SET status = :status", status=status)
    assert [request.run_key for request in tick(instance, stores).run_requests] == [f"{session.id}:2"]


@pytest.mark.parametrize("status", ["pending", "in_progress", "failed"])
def test_only_completed_sessions_are_due(environment, instance, stores, status):
    add_completed(stores, 1)
    execute(stores, "UPDATE heimdall.recording_sessions SET status = :status", status=status)
    assert isinstance(tick(instance, stores), dg.SkipReason)


def test_a_tick_asks_for_at_most_a_hundred_runs_oldest_first(environment, instance, stores):
    slugs = [session.slug for session in add_completed(stores, MAX_REQUESTS_PER_TICK + 20)]
    assert [request.partition_key for request in tick(instance, stores).run_requests] == slugs[:MAX_REQUESTS_PER_TICK]


def test_sessions_to_be_located_count_among_the_hundred_of_a_tick(instance, stores, session):
    extract_session(stores, session.slug)
    slugs = [session.slug for session in add_completed(stores, MAX_REQUESTS_PER_TICK)]
    assert [request.partition_key for request in tick(instance, stores).run_requests] == slugs


def test_many_failed_sessions_do_not_stand_in_the_way_of_newer_ones(environment, instance, stores):
    old = add_completed(stores, 230)
    for session in old:
        tags = {"dagster/run_key": f"{session.id}:1"}
        instance.add_run(dg.DagsterRun(job_name=JOB, run_id=str(uuid.uuid4()), tags=tags))
    new = add_completed(stores, 2, first=1000)
    assert [request.partition_key for request in tick(instance, stores).run_requests] == [
        session.slug for session in new
    ]


def test_a_tick_without_the_database_fails(settings, instance):
    down = settings.model_copy(update={"pg_port": 1})
    with open_stores(down) as stores, pytest.raises(DatabaseUnavailableError):
        tick(instance, stores)


@pytest.mark.slow
def test_the_validation_job_runs_the_checks_only_and_keeps_the_health(instance, stores, session):
    extract_session(stores, session.slug)
    execute(stores, "UPDATE heimdall.measurement_features SET receiver_features = '[]' WHERE segment_idx = 3")
    result = run(instance, session.slug, job="validate_recorded_session")
    assert result.success
    failed = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed == {"stations_in_every_segment", "numbers_in_range", "rows_as_committed"}
    assert {check.partition for check in result.get_asset_check_evaluations()} == {session.slug}
    assert result.get_asset_materialization_events() == []
    assert get_session(stores.database, session.slug).health_status == "critical"
    assert run(instance, session.slug).success  # extracted again, it is well
    assert get_session(stores.database, session.slug).health_status == "healthy"


def test_a_session_that_is_being_deleted_is_not_requested(instance, stores, session):
    begin_deletion(stores.database, session.id)
    assert isinstance(tick(instance, stores), dg.SkipReason)
    assert not run(instance, session.slug).success
    assert execute(stores, "SELECT count(*) FROM heimdall.measurement_features").scalar() == 0


# Instances of before there were slugs: partitions are called by the sessions' ids.


@pytest.fixture
def old_partition(instance, stores, session):
    """An extracted session as the version before left it: partition, materializations, checks and run key by its id."""
    partition = str(session.id)
    result = run(instance, partition, **{"dagster/run_key": f"{session.id}:1"})
    assert result.success
    instance.report_runless_asset_event(dg.AssetMaterialization(raw_iq_objects.key, partition=partition))
    return partition


def test_a_session_of_before_slugs_is_not_extracted_again(instance, stores, old_partition):
    assert isinstance(tick(instance, stores), dg.SkipReason)
    execute(stores, "DELETE FROM heimdall.measurement_features")  # as if its run had failed
    assert isinstance(tick(instance, stores), dg.SkipReason)
    assert instance.get_dynamic_partitions(RECORDING_SESSIONS) == [old_partition]


@pytest.mark.slow
def test_an_old_partition_keeps_its_history_beside_the_new_one(instance, stores, session, old_partition):
    assert run(instance, session.slug).success
    assert set(instance.get_dynamic_partitions(RECORDING_SESSIONS)) == {old_partition, session.slug}
    for asset in (recorded_measurement_features.key, raw_iq_objects.key):
        assert old_partition in instance.get_materialized_partitions(asset)
    assert session.slug in instance.get_materialized_partitions(recorded_measurement_features.key)


@pytest.mark.slow
@pytest.mark.parametrize("job", [JOB, "validate_recorded_session"])
def test_an_old_partition_is_run_as_any_other(instance, stores, old_partition, job):
    before = execute(stores, "SELECT array_agg(id ORDER BY id) FROM heimdall.measurement_features").scalar_one()
    result = run(instance, old_partition, job=job)
    assert result.success
    checks = result.get_asset_check_evaluations()
    assert {(check.partition, check.passed) for check in checks} == {(old_partition, True)}
    assert before == execute(stores, "SELECT array_agg(id ORDER BY id) FROM heimdall.measurement_features").scalar_one()


def test_the_weekly_validation_adds_the_slug_of_an_old_session(instance, session, old_partition):
    job = build_definitions().resolve_job_def("validate_everything")
    result = job.execute_in_process(instance=instance)
    assert {check.partition for check in result.get_asset_check_evaluations()} == {session.slug}
    assert set(instance.get_dynamic_partitions(RECORDING_SESSIONS)) == {old_partition, session.slug}


@pytest.mark.slow
def test_a_deletion_removes_the_old_partition_and_the_new(instance, stores, session, old_partition):
    assert run(instance, session.slug).success
    delete_session(
        stores, session.slug, lambda key: instance.delete_dynamic_partition(RECORDING_SESSIONS, key), lambda _: None
    )
    assert instance.get_dynamic_partitions(RECORDING_SESSIONS) == []


# Features whose inputs have changed


def move_torino(stores, latitude):
    """Move a station as a command does: digests follow."""
    with (
        stores.database.transaction() as connection,
        changing(connection, "websdr_stations", "rx_id = 'torino'", {}, reason="it was moved"),
    ):
        connection.execute(
            text("UPDATE heimdall.websdr_stations SET latitude = :latitude WHERE rx_id = 'torino'"),
            {"latitude": latitude},
        )


@pytest.mark.slow
def test_a_session_whose_station_was_moved_is_requested_once_for_each_position(instance, stores, session):
    run(instance, session.slug, **{"dagster/run_key": f"{session.id}:1"})
    move_torino(stores, 45.1)
    (request,) = tick(instance, stores).run_requests
    assert (request.partition_key, request.run_key.startswith(f"{session.id}:1:")) == (session.slug, True)
    assert run(instance, session.slug, **{"dagster/run_key": request.run_key}).success
    assert isinstance(tick(instance, stores), dg.SkipReason)
    move_torino(stores, 45.2)
    assert [again.run_key for again in tick(instance, stores).run_requests] != [request.run_key]


@pytest.mark.slow
def test_a_session_whose_station_was_edited_by_hand_is_not_requested(instance, stores, session):
    run(instance, session.slug)
    execute(stores, "UPDATE heimdall.websdr_stations SET latitude = 45.1 WHERE rx_id = 'torino'")
    assert isinstance(tick(instance, stores), dg.SkipReason)


def test_a_session_that_is_requested_and_fails_is_not_requested_again_for_the_same_change(instance, stores, session):
    run(instance, session.slug)
    move_torino(stores, 45.1)
    (request,) = tick(instance, stores).run_requests
    failed = dg.DagsterRun(job_name=JOB, run_id=str(uuid.uuid4()), tags={"dagster/run_key": request.run_key})
    instance.add_run(failed)
    assert isinstance(tick(instance, stores), dg.SkipReason)


# Positions whose delays have changed, or that are missing


def requested(result):
    return [(request.job_name, request.partition_key) for request in result.run_requests]


def test_a_session_of_before_positions_is_located_once_without_an_extraction(instance, stores, session):
    extract_session(stores, session.slug)
    result = tick(instance, stores)
    assert requested(result) == [("locate_recorded_session", session.slug)]
    (request,) = result.run_requests
    assert request.run_key.startswith(f"{session.id}:1:positions:")
    rows = execute(stores, "SELECT array_agg(created_at) FROM heimdall.measurement_features").scalar_one()
    result = run(instance, session.slug, job="locate_recorded_session", **{"dagster/run_key": request.run_key})
    assert result.success
    assert execute(stores, "SELECT array_agg(created_at) FROM heimdall.measurement_features").scalar_one() == rows
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks["positions_are_current"]
    assert "features_are_current" not in checks
    assert isinstance(tick(instance, stores), dg.SkipReason)


def test_a_session_whose_extraction_is_under_way_is_not_located_beside_it(instance, stores, session):
    extract_session(stores, session.slug)  # the first of the run's assets
    running = dg.DagsterRun(
        job_name=JOB,
        run_id=str(uuid.uuid4()),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": session.slug},
    )
    instance.add_run(running)
    assert isinstance(tick(instance, stores), dg.SkipReason)


@pytest.mark.slow
def test_a_new_calibration_locates_the_sessions_that_it_touches(instance, stores, session):
    assert run(instance, session.slug).success
    start = get_session(stores.database, session.slug).start_time
    delays = [
        StationDelay(rx_id, delay_us, 1.0, start, None, "night-1", "a beacon", "")
        for rx_id, delay_us in (("genova", 4.0), ("milano-baggio", -1.0), ("torino", -3.0))
    ]
    add_delays(stores.database, session.id, delays)
    (request,) = tick(instance, stores).run_requests
    assert (request.job_name, request.partition_key) == ("locate_recorded_session", session.slug)
    assert run(instance, session.slug, job=request.job_name, **{"dagster/run_key": request.run_key}).success
    stored = execute(stores, "SELECT station_delays_us FROM heimdall.positions WHERE segment_idx IS NULL").scalar_one()
    assert stored == {"genova": 4.0, "milano-baggio": -1.0, "torino": -3.0}
    assert isinstance(tick(instance, stores), dg.SkipReason)
