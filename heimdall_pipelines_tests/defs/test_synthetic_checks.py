"""Checks of synthetic batches and datasets in Dagster, the jobs that validate and repair, and the weekly validation."""

import io
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import dagster as dg
import pytest

from heimdall_pipelines.datasets import repair
from heimdall_pipelines.datasets.findings import DATASET_CHECKS
from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs import outages, synthetic_checks, validation
from heimdall_pipelines.defs.partitions import SYNTHETIC_BATCHES, SYNTHETIC_DATASETS
from heimdall_pipelines.defs.synthetic import RAW_IQ_OBJECTS, add_partitions, synthetic_dataset_summary
from heimdall_pipelines.defs.synthetic_sensor import requested_synthetic_batches
from heimdall_pipelines.model.batches import partition_key
from heimdall_pipelines.model.checks import MAX_EXAMPLES
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.store.dataset_locks import shared_lock
from heimdall_pipelines.store.datasets import get_dataset, mark_dataset_deleted
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.session_deletion import begin_deletion
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines_tests.datasets.support import add, assert_agrees, execute, make, object_sizes, query
from heimdall_pipelines_tests.defs.support import BATCH_CHECKS, failed, last_words_of_batch, last_words_of_dataset
from heimdall_pipelines_tests.older_features import make_older
from heimdall_pipelines_tests.sealing import reseal
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options

MAKE, SUMMARISE = "make_synthetic_batches", "summarise_synthetic_dataset"
VALIDATE, REPAIR, EVERYTHING = "validate_synthetic_dataset", "repair_synthetic_dataset", "validate_everything"
ALL_PASS = dict.fromkeys(DATASET_CHECKS, "SUCCEEDED")


@pytest.fixture
def instance(environment):
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(autouse=True)
def _one_worker_and_no_patience(environment, monkeypatch):
    monkeypatch.setenv("HEIMDALL_WORKERS", "1")
    monkeypatch.setattr(outages, "OUTAGE_DELAY_S", 0.01)


@pytest.fixture
def short_session(stores, tmp_path):
    """Import a session of a second, without features; gives its id."""

    def make_session(number):
        folder = tmp_path / f"recording{number}"
        folder.mkdir()
        return import_files(
            stores, npy_files(folder, {"torino": noise(200_000, key=number)}), **npy_options()
        ).session_id

    return make_session


def run(instance, job, partition=None, config=None):
    if partition is not None:
        instance.add_dynamic_partitions(SYNTHETIC_BATCHES if "__" in partition else SYNTHETIC_DATASETS, [partition])
    return (
        build_definitions()
        .resolve_job_def(job)
        .execute_in_process(
            partition_key=partition,
            instance=instance,
            raise_on_error=False,
            run_config={"ops": config} if config else None,
        )
    )


def evaluations(result):
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def failed_in(result):
    """(partition, check) of each evaluation that failed."""
    return {(e.partition, e.check_name) for e in result.get_asset_check_evaluations() if not e.passed}


def values(evaluation):
    return {name: value.value for name, value in evaluation.metadata.items()}


def failure(result):
    (event,) = (event for event in result.all_events if event.is_step_failure)
    error = event.step_failure_data.error
    return (error.cause or error).message


def remove_objects(stores, dataset, *keys):
    bucket = stores.objects.synthetic_iq_bucket
    stores.objects.remove_keys(bucket, [f"synthetic/{dataset.id}/{key}" for key in keys])


def put_stranger(stores, prefix, bucket=None):
    location = ObjectLocation(bucket or stores.objects.synthetic_iq_bucket, f"{prefix}stranger.sigmf-data")
    stores.objects.put(location, io.BytesIO(b"x"), 1, "application/octet-stream")


def delete_feature_row(stores, sample_idx):
    execute(stores, "DELETE FROM heimdall.measurement_features WHERE sample_idx = :idx", idx=sample_idx)


# Checks and the data that they read


@pytest.mark.slow
def test_checks_come_along_with_a_batch_and_say_what_they_compared(instance, stores):
    add(stores, "night", 3, batch_size=2)
    result = run(instance, MAKE, "night__00000")
    found = evaluations(result)
    assert {name: e.asset_key for name, e in found.items()} == BATCH_CHECKS
    assert all(e.passed and e.partition == "night__00000" for e in found.values())
    assert values(found["objects_agree"]) == {
        "objects": 6,
        "objects_expected": 6,
        "sidecars": 6,
        "checksums_compared": 0,
        "objects_without_row": 0,
        "problems": 0,
    }
    assert values(found["samples_without_gap"]) == {"samples": 2, "samples_committed": 2, "problems": 0}
    assert last_words_of_batch(instance, "night") == dict.fromkeys(BATCH_CHECKS, "SUCCEEDED")


@pytest.mark.slow
def test_checks_come_along_with_a_summary_and_keep_the_health(instance, stores):
    add(stores, "night", 3, batch_size=2)
    for batch_no in (0, 1):
        make(stores, "night", batch_no)
    result = run(instance, SUMMARISE, "night")
    found = evaluations(result)
    assert list(found) == list(DATASET_CHECKS)
    assert all(e.passed and e.partition == "night" for e in found.values())
    assert {e.asset_key for e in found.values()} == {synthetic_dataset_summary.key}
    assert values(found["counts_agree"]) == {
        "num_samples": 3,
        "feature_rows": 3,
        "in_batches": 3,
        "iq_rows": 3,
        "iq_rows_expected": 3,
        "target": 3,
        "batches_missing": 0,
        "problems": 0,
    }
    dataset = get_dataset(stores.database, "night")
    assert (dataset.health_status, dataset.last_validated_at is None) == ("healthy", False)


def test_checks_of_batch_and_dataset_find_a_fault_and_name_its_repair(instance, stores, monkeypatch):
    dataset = add(stores, "night", 3, batch_size=2)
    for batch_no in (0, 1):
        make(stores, "night", batch_no)
    check_batch = synthetic_checks.check_batch

    def lose_objects_first(*arguments):
        lost = ("0/coazze.sigmf-data", "0/milano-baggio.sigmf-data", "1/milano-baggio.sigmf-meta")
        remove_objects(stores, dataset, *lost)
        return check_batch(*arguments)

    monkeypatch.setattr(synthetic_checks, "check_batch", lose_objects_first)
    of_batch = run(instance, MAKE, "night__00000")
    of_dataset = run(instance, SUMMARISE, "night")
    assert of_batch.success, "the batch is made, its checks say that it is not well"
    assert failed_in(of_batch) == {("night__00000", "objects_agree")}
    assert failed_in(of_dataset) >= {("night", "objects_agree")}
    for result in (of_batch, of_dataset):
        reported = evaluations(result)["objects_agree"]
        assert values(reported)["problems"] == 2
        assert values(reported)["to_repair"] == "heimdall dataset repair night --apply"
        lines = values(reported)["examples"].splitlines()
        assert lines == [
            f"- sample 0: synthetic/{dataset.id}/0/milano-baggio.sigmf-data is missing",
            f"- sample 1: synthetic/{dataset.id}/1/milano-baggio.sigmf-meta is missing",
        ]
        assert reported.description == lines[0].removeprefix("- ")
        assert reported.severity is dg.AssetCheckSeverity.ERROR
    assert get_dataset(stores.database, "night").health_status == "critical"


def test_checks_of_batch_and_dataset_find_a_missing_row(instance, stores):
    add(stores, "night", 4, batch_size=2)
    for batch_no in (0, 1):
        make(stores, "night", batch_no)
    delete_feature_row(stores, 2)
    result = run(instance, VALIDATE, "night")
    assert failed_in(result) >= {
        ("night", "counts_agree"),
        ("night", "samples_without_gap"),
        ("night__00001", "samples_without_gap"),
    }
    assert not any(partition == "night__00000" for partition, _ in failed_in(result))


def test_of_many_problems_twenty_are_shown_and_all_counted(instance, stores):
    dataset = add(stores, "night", 10, batch_size=10)
    make(stores, "night")
    remove_objects(stores, dataset, *object_sizes(stores, dataset))
    reported = values(evaluations(run(instance, VALIDATE, "night"))["objects_agree"])
    assert reported["problems"] == 60
    assert reported["examples"].count("- sample ") == MAX_EXAMPLES


@pytest.mark.slow
def test_estimates_far_from_the_truth_are_a_warning(instance, stores):
    add(stores, "night", 3)
    make(stores, "night")
    for receiver in range(3):
        execute(
            stores,
            "UPDATE heimdall.measurement_features SET receiver_features = jsonb_set(receiver_features,"
            f" '{{{receiver},rssi_dbm,mean}}', to_jsonb((receiver_features -> {receiver} -> 'rssi_dbm' ->> 'mean')"
            "::float8 + 4))",
        )
    run(instance, SUMMARISE, "night")
    for reported in evaluations(run(instance, VALIDATE, "night")).values():
        is_warning = reported.check_name in ("estimates_agree_with_truth", "summary_is_current")
        assert reported.severity is (dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR)
    assert "estimates_agree_with_truth" in failed(last_words_of_dataset(instance, "night"))
    assert "estimates_agree_with_truth" in failed(last_words_of_batch(instance, "night"))


# Outages


CHECKED = {"make": (MAKE, "night__00000", "check_batch"), "summarise": (SUMMARISE, "night", "validate_dataset")}


@pytest.mark.slow
@pytest.mark.parametrize("what", CHECKED)
@pytest.mark.parametrize("server", ["PostgreSQL", "S3 store"])
def test_an_outage_during_checks_fails_the_run_without_results(instance, stores, link, monkeypatch, what, server):
    job, partition, looking = CHECKED[what]
    monkeypatch.setattr(outages, "OUTAGE_RETRIES", 1)
    add(stores, "night", 2)
    make(stores, "night")
    look = getattr(synthetic_checks, looking)
    with link(server) as way:

        def cut_and_look(*arguments, **more):
            way.cut()
            return look(*arguments, **more)

        monkeypatch.setattr(synthetic_checks, looking, cut_and_look)
        result = run(instance, job, partition)
    assert not result.success
    assert f"{server} at " in failure(result)
    assert result.get_asset_check_evaluations() == []
    assert get_dataset(stores.database, "night").last_validated_at is None


@pytest.mark.parametrize("server", ["PostgreSQL", "S3 store"])
def test_a_server_that_comes_back_is_asked_again_and_the_checks_pass(instance, stores, link, monkeypatch, server):
    add(stores, "night", 2)
    make(stores, "night")
    look, calls = synthetic_checks.validate_dataset, []
    with link(server) as way:

        def cut_at_first(*arguments, **more):
            calls.append(arguments)
            way.cut() if len(calls) == 1 else way.repair()
            return look(*arguments, **more)

        monkeypatch.setattr(synthetic_checks, "validate_dataset", cut_at_first)
        assert run(instance, VALIDATE, "night").success
    assert len(calls) == 2
    assert last_words_of_dataset(instance, "night") == ALL_PASS


# The job that validates


def test_the_validation_job_reads_objects_only_on_request(instance, stores):
    dataset = add(stores, "night", 2)
    make(stores, "night")
    changed = ObjectLocation(stores.objects.synthetic_iq_bucket, f"synthetic/{dataset.id}/1/milano-baggio.sigmf-data")
    size_bytes = object_sizes(stores, dataset)["1/milano-baggio.sigmf-data"]
    stores.objects.put(changed, io.BytesIO(bytes(size_bytes)), size_bytes, "application/octet-stream")
    # As if it was damaged below the store: its ETag is the same.
    execute(stores, "UPDATE heimdall.synthetic_iq_samples SET iq_metadata = iq_metadata - 'etag'")
    reseal(stores)

    quick = run(instance, VALIDATE, "night")
    assert ("night", "objects_agree") not in failed_in(quick)
    assert values(evaluations(quick)["samples_regenerate_identically"])["samples_regenerated"] == 1
    thorough = run(instance, VALIDATE, "night", {"validate": {"config": {"checksums": True}}})
    assert thorough.success
    assert ("night", "objects_agree") in failed_in(thorough)
    reported = [
        e for e in thorough.get_asset_check_evaluations() if (e.partition, e.check_name) == ("night", "objects_agree")
    ]
    assert "its SHA-256 differs" in values(reported[0])["examples"]


@pytest.mark.slow
def test_a_batch_that_failed_before_is_checked_again_after_its_repair(instance, stores):
    add(stores, "night", 3, batch_size=1)
    for batch_no in range(3):
        make(stores, "night", batch_no)
    delete_feature_row(stores, 1)
    run(instance, VALIDATE, "night")
    assert "samples_without_gap" in failed(last_words_of_batch(instance, "night", 1))
    make(stores, "night", 1)
    result = run(instance, VALIDATE, "night")
    assert {e.partition for e in result.get_asset_check_evaluations()} == {"night", "night__00001"}
    assert failed_in(result) == set()
    assert failed(last_words_of_batch(instance, "night", 1)) == set()


# The job that repairs


@pytest.fixture
def damaged(instance, stores):
    """A dataset of two batches, of which the first lacks an object; Dagster knows."""
    dataset = add(stores, "night", 4, batch_size=2)
    for batch_no in (0, 1):
        make(stores, "night", batch_no)
    remove_objects(stores, dataset, "1/milano-baggio.sigmf-data")
    run(instance, VALIDATE, "night")
    assert failed(last_words_of_batch(instance, "night", 0)) == {"objects_agree"}
    return dataset


def observation(result):
    (event,) = [e for e in result.all_events if e.event_type is dg.DagsterEventType.ASSET_OBSERVATION]
    return event.event_specific_data.asset_observation


@pytest.mark.slow
def test_a_repair_by_default_changes_nothing_and_shows_what_it_would_do(instance, stores, damaged):
    before = query(stores, "SELECT md5(f::text) AS row FROM heimdall.measurement_features f ORDER BY sample_idx")
    sizes = object_sizes(stores, damaged)
    result = run(instance, REPAIR, "night")
    assert result.success
    shown = observation(result)
    assert (shown.partition, shown.description) == ("night", "what a repair would do")
    assert "| samples regenerated | 1 |" in shown.metadata["planned"].value
    assert "1/milano-baggio.sigmf-data is missing" in shown.metadata["found"].value
    assert result.get_asset_check_evaluations() == []
    assert object_sizes(stores, damaged) == sizes
    after = query(stores, "SELECT md5(f::text) AS row FROM heimdall.measurement_features f ORDER BY sample_idx")
    assert after == before
    assert failed(last_words_of_batch(instance, "night", 0)) == {"objects_agree"}


@pytest.mark.slow
def test_after_a_repair_the_checks_of_dataset_and_batch_pass(instance, stores, damaged):
    result = run(instance, REPAIR, "night", {"repair": {"config": {"apply": True}}})
    assert result.success
    assert_agrees(stores, "night", range(4))
    shown = observation(result)
    assert shown.description == "repaired"
    assert "| samples regenerated | 1 |" in shown.metadata["done"].value
    assert last_words_of_dataset(instance, "night") == ALL_PASS
    assert failed(last_words_of_batch(instance, "night", 0)) == set()
    assert get_dataset(stores.database, "night").health_status == "healthy"
    again = run(instance, REPAIR, "night", {"repair": {"config": {"apply": True}}})
    assert "| samples regenerated | 0 |" in observation(again).metadata["done"].value


def test_a_repair_removes_objects_without_row_that_are_old_enough(instance, stores, damaged, monkeypatch):
    put_stranger(stores, f"synthetic/{damaged.id}/1/")
    shown = observation(run(instance, REPAIR, "night")).metadata["planned"].value
    assert "| orphans removed | 0 |" in shown
    assert "| young orphans kept | 1 |" in shown
    monkeypatch.setattr(repair, "MIN_ORPHAN_AGE", timedelta(0))
    assert "| orphans removed | 1 |" in observation(run(instance, REPAIR, "night")).metadata["planned"].value


def test_a_repair_refuses_while_a_batch_is_being_made(instance, stores, damaged):
    with shared_lock(stores.database, damaged.id):
        result = run(instance, REPAIR, "night", {"repair": {"config": {"apply": True}}})
    assert not result.success
    assert "dataset night is being written: a batch of it is being made" in failure(result)
    assert "try again when it has ended" in failure(result)
    assert "1/milano-baggio.sigmf-data" not in object_sizes(stores, damaged)


def test_a_repair_of_features_is_planned_then_done(instance, stores):
    add(stores, "night", 2)
    make(stores, "night")
    make_older(stores)
    planned = run(instance, REPAIR, "night", {"repair": {"config": {"features": True}}})
    assert "2 rows of version 1 would be brought to version" in observation(planned).metadata["planned"].value
    assert planned.get_asset_check_evaluations() == []
    done = run(instance, REPAIR, "night", {"repair": {"config": {"features": True, "apply": True}}})
    assert f"2 brought to version {FEATURE_VERSION}" in observation(done).metadata["done"].value
    assert last_words_of_dataset(instance, "night") == ALL_PASS
    (counted,) = query(stores, "SELECT min(feature_version) AS least FROM heimdall.measurement_features")
    assert counted["least"] == FEATURE_VERSION


@pytest.mark.parametrize(("job", "op"), [(VALIDATE, "validate"), (REPAIR, "repair")])
def test_what_is_unknown_or_being_deleted_is_neither_validated_nor_repaired(instance, stores, job, op):
    assert "unknown dataset absent; see: heimdall dataset list" in failure(run(instance, job, "absent"))
    mark_dataset_deleted(stores.database, add(stores, "night", 1))
    result = run(instance, job, "night")
    assert "finish it with: heimdall dataset delete night" in failure(result)
    assert get_dataset(stores.database, "night").last_validated_at is None


# Everything, once a week


@pytest.mark.slow
def test_everything_is_validated_but_what_is_being_deleted_and_leftovers_are_warned_of(
    instance, stores, short_session, capfd, monkeypatch
):
    for name in ("sound", "broken", "to_delete"):
        add(stores, name, 2)
        make(stores, name)
    delete_feature_row_of(stores, "broken")
    to_delete = get_dataset(stores.database, "to_delete")
    mark_dataset_deleted(stores.database, to_delete)
    session, doomed_session = short_session(1), short_session(2)
    begin_deletion(stores.database, doomed_session)
    put_stranger(stores, "synthetic/00000000-0000-0000-0000-000000000001/")
    put_stranger(stores, "sessions/00000000-0000-0000-0000-000000000002/", stores.objects.raw_iq_bucket)
    of_any_age = partial(validation.find_orphans, min_age=timedelta(0))
    with monkeypatch.context() as later:
        later.setattr(validation, "find_orphans", of_any_age)
        result = run(instance, EVERYTHING)
    assert result.success
    health = {name: get_dataset(stores.database, name).health_status for name in ("sound", "broken", "to_delete")}
    assert health == {"sound": "healthy", "broken": "critical", "to_delete": "unknown"}
    assert get_session(stores.database, session).health_status == "critical"  # it has no features
    assert get_session(stores.database, doomed_session).last_validated_at is None
    reported = {e.partition for e in result.get_asset_check_evaluations()}
    assert reported == {"sound", "broken", "broken__00000", get_session(stores.database, session).slug}
    assert last_words_of_dataset(instance, "sound") == ALL_PASS
    words = capfd.readouterr().err
    for place in (
        f"{stores.objects.synthetic_iq_bucket}/synthetic/00000000-0000-0000-0000-000000000001/: 1 orphan objects",
        f"{stores.objects.raw_iq_bucket}/sessions/00000000-0000-0000-0000-000000000002/: 1 orphan objects",
    ):
        assert place in words
    assert str(to_delete.id) not in words
    assert "heimdall db sweep --apply" in words
    run(instance, EVERYTHING)
    assert "db sweep" not in capfd.readouterr().err, "a deletion may be at work there"


def delete_feature_row_of(stores, name):
    execute(
        stores,
        "DELETE FROM heimdall.measurement_features WHERE sample_idx = 0 AND dataset_id ="
        " (SELECT id FROM heimdall.synthetic_datasets WHERE name = :name)",
        name=name,
    )


def mended_when_tried_again(monkeypatch, way):
    """Bring the server back before each try of the weekly run."""
    retried_after_outage = validation.retried_after_outage

    @contextmanager
    def repaired(context):
        way.repair()
        with retried_after_outage(context):
            yield

    monkeypatch.setattr(validation, "retried_after_outage", repaired)


@pytest.mark.parametrize("server", ["PostgreSQL", "S3 store"])
def test_after_an_outage_in_its_middle_it_goes_on_where_it_was(
    instance, stores, link, short_session, monkeypatch, server
):
    for name in ("first", "second"):
        add(stores, name, 1)
        make(stores, name)
    session = short_session(1)
    look, calls = validation.check_dataset, []
    with link(server) as way:

        def cut_at_second(stores, name, **more):
            calls.append(name)
            if len(calls) == 2:
                way.cut()
            return look(stores, name, **more)

        monkeypatch.setattr(validation, "check_dataset", cut_at_second)
        mended_when_tried_again(monkeypatch, way)
        assert run(instance, EVERYTHING).success
    assert calls == ["first", "second", "second"]
    assert {get_dataset(stores.database, name).health_status for name in ("first", "second")} == {"healthy"}
    assert get_session(stores.database, session).last_validated_at is not None


def test_an_outage_after_a_check_keeps_its_results(instance, stores, link, monkeypatch):
    add(stores, "night", 2)
    make(stores, "night")
    delete_feature_row(stores, 1)
    look, calls = synthetic_checks.check_batch, []
    with link("S3 store") as way:

        def cut_at_first(*arguments):
            calls.append(arguments)
            if len(calls) == 1:
                way.cut()
            return look(*arguments)

        monkeypatch.setattr(synthetic_checks, "check_batch", cut_at_first)
        mended_when_tried_again(monkeypatch, way)
        assert run(instance, EVERYTHING).success
    assert "samples_without_gap" in failed(last_words_of_dataset(instance, "night"))
    assert "samples_without_gap" in failed(last_words_of_batch(instance, "night"))


def test_a_dataset_deleted_during_its_check_does_not_stop_the_others(instance, stores, monkeypatch):
    for name in ("first", "second"):
        add(stores, name, 1)
        make(stores, name)
    look = validation.check_dataset

    def delete_first(own, name, **more):
        found = look(own, name, **more)
        execute(stores, "DELETE FROM heimdall.synthetic_datasets WHERE name = 'first'")
        return found

    monkeypatch.setattr(validation, "check_dataset", delete_first)
    result = run(instance, EVERYTHING)
    assert result.success
    assert {e.partition for e in result.get_asset_check_evaluations()} == {"second"}


def test_an_impossible_validation_fails_the_run_at_its_end(instance, stores, short_session):
    for name in ("first", "second"):
        add(stores, name, 1)
        make(stores, name)
    session = short_session(1)
    execute(
        stores,
        "UPDATE heimdall.synthetic_datasets SET spec = spec || '{\"colour\": \"red\"}' WHERE name = 'first'",
    )
    reseal(stores)  # as if another version had created it
    result = run(instance, EVERYTHING)
    assert not result.success
    assert "some datasets could not be checked: dataset first: this version cannot read its parameters" in failure(
        result
    )
    assert "colour" in failure(result)
    assert {e.partition for e in result.get_asset_check_evaluations()} == {
        "second",
        get_session(stores.database, session).slug,
    }
    assert get_dataset(stores.database, "first").last_validated_at is None


def test_the_weekly_validation_runs_by_itself_and_asks_for_one_run(instance):
    schedule = build_definitions().resolve_schedule_def("weekly_validation")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 * * 0", "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name == EVERYTHING
    with dg.build_schedule_context(instance=instance) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    assert (request.job_name or schedule.job_name) == EVERYTHING


# The sensor


def test_batches_of_a_dataset_that_is_being_deleted_are_not_requested(instance, stores):
    to_delete, complete = add(stores, "to_delete", 2, batch_size=1), add(stores, "complete", 1)
    make(stores, "complete")
    for dataset in (to_delete, complete):
        add_partitions(instance, dataset)
        mark_dataset_deleted(stores.database, dataset)
    add(stores, "night", 1)
    context = dg.build_sensor_context(instance=instance, definitions=build_definitions())
    result = requested_synthetic_batches(context, stores=stores)
    assert [request.partition_key for request in result.run_requests] == [partition_key("night", 0)]
    assert RAW_IQ_OBJECTS not in {event.asset_key for event in result.asset_events}
