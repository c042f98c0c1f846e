"""Old Dagster runs, deleted with their events by the schedule's job; Dagster's storage is a real PostgreSQL."""

import dagster as dg
import psycopg2
import pytest

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.retention import daily_run_expiry
from heimdall_pipelines.status.run_tags import RUN_KEY_TAG
from heimdall_pipelines_tests.defs.support import dagster_database, postgres_storage
from heimdall_pipelines_tests.shared_stack import PROCESS

FEATURES = dg.AssetKey(["recorded", "measurement_features"])
AGE_DAYS = 100


@dg.asset
def stations() -> None:
    pass


@dg.asset(key=FEATURES, partitions_def=dg.DynamicPartitionsDefinition(name=RECORDING_SESSIONS))
def features(context: dg.AssetExecutionContext) -> None:
    if "fails" in context.run.tags:
        raise RuntimeError("as the test wants it")


@dg.asset_check(asset=features)
def features_agree() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture(scope="module")
def dagster_settings(server_settings):
    with dagster_database(server_settings, f"dagster_of_run_retention_{PROCESS}") as made:
        yield made


@pytest.fixture(scope="module")
def shared_instance(dagster_settings):
    overrides = {"storage": postgres_storage(dagster_settings)}
    with dg.instance_for_test(overrides=overrides, set_dagster_home=False) as made:
        yield made


@pytest.fixture
def instance(shared_instance):
    yield shared_instance
    for run in shared_instance.get_runs():
        shared_instance.delete_run(run.run_id)
    shared_instance.wipe_assets([FEATURES, stations.key])


@pytest.fixture
def expire(instance, dagster_settings, environment, monkeypatch):
    """Make every run as old as AGE_DAYS, then execute the job; gives the ids of the runs that are left."""

    def execute(days):
        before = {run.run_id for run in instance.get_runs()}
        connection = psycopg2.connect(
            host=dagster_settings.pg_host,
            port=dagster_settings.pg_port,
            user=dagster_settings.pg_user,
            password=dagster_settings.pg_password.get_secret_value(),
            dbname=dagster_settings.pg_database,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(f"UPDATE runs SET create_timestamp = create_timestamp - interval '{AGE_DAYS} days'")
        connection.close()
        if days is not None:
            monkeypatch.setenv("HEIMDALL_RUN_RETENTION_DAYS", str(days))
        assert build_definitions().resolve_job_def("expire_runs").execute_in_process(instance=instance).success
        return before & {run.run_id for run in instance.get_runs()}

    return execute


def materialize(instance, assets, partition=None, **tags):
    if partition is not None:
        instance.add_dynamic_partitions(RECORDING_SESSIONS, [partition])
    outcome = dg.materialize(assets, instance=instance, partition_key=partition, raise_on_error=False, tags=tags)
    return outcome.run_id


@pytest.mark.slow
@pytest.mark.parametrize(("days", "is_deleted"), [(None, False), (AGE_DAYS + 1, False), (AGE_DAYS - 1, True)])
def test_runs_of_that_age_are_deleted_with_their_events(instance, expire, days, is_deleted):
    old, newest = (materialize(instance, [stations]) for _ in range(2))
    assert expire(days) == ({newest} if is_deleted else {old, newest})
    assert (instance.all_logs(old) == []) is is_deleted


@pytest.mark.slow
def test_the_newest_materialization_of_each_partition_is_kept(instance, expire):
    old, newest, other = (materialize(instance, [features], partition) for partition in ("a", "a", "b"))
    assert expire(1) == {newest, other}
    assert instance.get_materialized_partitions(FEATURES) == {"a", "b"}
    instance.delete_dynamic_partition(RECORDING_SESSIONS, "b")
    assert expire(1) == {newest}
    assert old != newest


@pytest.mark.slow
def test_a_failed_run_that_a_sensor_requested_is_kept(instance, expire):
    requested = materialize(instance, [features], "c", fails="yes", **{RUN_KEY_TAG: "c:1"})
    by_hand = materialize(instance, [features], "c", fails="yes")
    assert expire(1) == {requested}
    assert by_hand != requested


@pytest.mark.slow
def test_results_of_checks_outlive_their_runs(instance, expire):
    materialize(instance, [features, features_agree], "d")
    newest = materialize(instance, [features], "d")
    assert expire(1) == {newest}
    kept = instance.event_log_storage.get_latest_asset_check_execution_by_key([features_agree.check_key])
    assert kept[features_agree.check_key].status.value == "SUCCEEDED"


def test_the_schedule_starts_a_run_only_if_a_retention_is_set(settings):
    def tick(days):
        changed = settings.model_copy(update={"run_retention_days": days})
        return daily_run_expiry(dg.build_schedule_context(resources={"settings": changed}))

    assert "HEIMDALL_RUN_RETENTION_DAYS is not set" in tick(None).skip_message
    assert isinstance(tick(90), dg.RunRequest)
