"""Synthetic datasets in Dagster: asking, batches, the sensor and the summary, on a real instance and real stores."""

import base64
import re
import uuid

import dagster as dg
import pytest
import yaml

from heimdall_pipelines.datasets import workers
from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.datasets.repair import repair_dataset
from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs import outages, synthetic_sensor
from heimdall_pipelines.defs.partitions import SYNTHETIC_BATCHES, SYNTHETIC_DATASETS
from heimdall_pipelines.defs.synthetic import (
    ALL_CORES,
    BATCHES,
    MEASUREMENT_FEATURES,
    RAW_IQ_OBJECTS,
    add_partitions,
    batch_materializations,
    dataset_materialization,
    synthetic_batch,
    synthetic_dataset,
    synthetic_dataset_summary,
)
from heimdall_pipelines.defs.synthetic_config import SyntheticDatasetConfig
from heimdall_pipelines.defs.synthetic_sensor import requested_synthetic_batches
from heimdall_pipelines.model.batches import partition_key
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.datasets import find_dataset, get_dataset
from heimdall_pipelines.store.outages import DatabaseUnavailableError
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.datasets.support import (
    add,
    assert_agrees,
    assert_nothing_stored,
    execute,
    expand,
    make,
)

MAKE, SUMMARISE = "make_synthetic_batches", "summarise_synthetic_dataset"
UNFILLABLE = {"min_snr_db": 60.0}
INLINE_CHARACTERS = 1000  # longer Markdown is hidden behind a click


@pytest.fixture
def instance(environment):
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(autouse=True)
def _one_worker(environment, monkeypatch):
    monkeypatch.setenv("HEIMDALL_WORKERS", "1")


def ask(instance, name, **config):
    """Materialize synthetic/datasets with this run config, as the launchpad does."""
    instance.add_dynamic_partitions(SYNTHETIC_DATASETS, [name])
    return (
        build_definitions()
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            asset_selection=[synthetic_dataset.key],
            partition_key=name,
            run_config={"ops": {"synthetic__datasets": {"config": config}}} if config else None,
            instance=instance,
            raise_on_error=False,
        )
    )


def run_batch(instance, key, **tags):
    instance.add_dynamic_partitions(SYNTHETIC_BATCHES, [key])
    job = build_definitions().resolve_job_def(MAKE)
    return job.execute_in_process(partition_key=key, instance=instance, raise_on_error=False, tags=tags)


@pytest.mark.parametrize("asked", [BATCHES, RAW_IQ_OBJECTS])
def test_one_asset_of_a_batch_makes_and_records_all(instance, stores, asked):
    dataset = add(stores, "night", 2)
    add_partitions(instance, dataset)
    job = build_definitions().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(asset_selection=[asked], partition_key=partition_key("night", 0), instance=instance)
    assert result.success
    assert get_dataset(stores.database, "night").num_samples == 2
    for key in (BATCHES, RAW_IQ_OBJECTS, MEASUREMENT_FEATURES):
        assert instance.get_latest_materialization_event(key) is not None, key


def tick(instance, stores):
    context = dg.build_sensor_context(instance=instance, definitions=build_definitions())
    return requested_synthetic_batches(context, stores=stores)


def requests_of(result):
    """(job, partition) of each run that a tick requests."""
    return [] if isinstance(result, dg.SkipReason) else [(r.job_name, r.partition_key) for r in result.run_requests]


def batches_of(name, *numbers):
    return [(MAKE, partition_key(name, number)) for number in numbers]


def add_runs(instance, requests, status):
    for request in requests:
        run_id, tags = str(uuid.uuid4()), {"dagster/run_key": request.run_key}
        instance.add_run(dg.DagsterRun(job_name=request.job_name, run_id=run_id, tags=tags, status=status))


def failure(result):
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    error = failed.step_failure_data.error
    return (error.cause or error).message


def metadata_of(result, key):
    (materialization,) = [made for made in materializations(result) if made.asset_key == key]
    return {name: value.value for name, value in materialization.metadata.items()}


def materializations(result):
    return [
        event.step_materialization_data.materialization
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION
    ]


# Asking


def test_a_dataset_is_asked_for_on_an_empty_deployment(instance, stores):
    result = ask(instance, "night", target_num_samples=25, seed=4, batch_size=10, dataset_type="iq_raw")
    assert result.success
    dataset = get_dataset(stores.database, "night")
    assert (dataset.target_num_samples, dataset.num_samples, dataset.seed) == (25, 0, 4)
    assert dataset.spec == DatasetSpec(batch_size=10, dataset_type="iq_raw")
    assert len(dataset.receivers) > 1, "the project's network was added"
    assert instance.get_dynamic_partitions(SYNTHETIC_BATCHES) == [partition_key("night", number) for number in range(3)]
    metadata = metadata_of(result, synthetic_dataset.key)
    assert (metadata["target"], metadata["committed"], metadata["batches"], metadata["seed"]) == (25, 0, 3, "4")
    assert 0.3 < metadata["acceptance"] < 0.5  # over terrain 38 % are, 1.5 % standard error
    assert metadata["terrain_tiles"] == 1
    assert "| too_few_receivers | " in metadata["rejections"]
    parameters = [row.split(" | ")[0].removeprefix("| ") for row in metadata["spec"].splitlines()[2:]]
    assert parameters == list(DatasetSpec.model_fields)
    assert "| dataset_type | iq_raw |" in metadata["spec"]
    assert "| adc_bits | null |" in metadata["spec"]
    assert all(len(value) < INLINE_CHARACTERS for value in metadata.values() if isinstance(value, str))


def test_zero_and_false_are_values(instance, stores):
    result = ask(instance, "zero", target_num_samples=1, seed=0, min_snr_db=0, inside_ratio=0, multipath=False)
    assert result.success
    dataset = get_dataset(stores.database, "zero")
    assert dataset.seed == 0
    assert dataset.spec == DatasetSpec(min_snr_db=0, inside_ratio=0, multipath=False)


def test_an_expansion_inherits_what_it_does_not_give(instance, stores):
    ask(instance, "night", target_num_samples=5, seed=4, batch_size=5, tx_power_dbm=40)
    before = get_dataset(stores.database, "night")
    assert ask(instance, "night", target_num_samples=15, tx_power_dbm=40).success
    after = get_dataset(stores.database, "night")
    assert after.target_num_samples == 15
    assert (after.id, after.spec, after.seed) == (before.id, before.spec, before.seed)
    assert len(instance.get_dynamic_partitions(SYNTHETIC_BATCHES)) == 3


def test_an_expansion_with_another_parameter_fails_and_says_which(instance, stores):
    ask(instance, "night", target_num_samples=5, tx_power_dbm=40)
    before = get_dataset(stores.database, "night")
    result = ask(instance, "night", target_num_samples=15, tx_power_dbm=37, multipath=False)
    assert not result.success
    assert "tx_power_dbm 37.0: the dataset has 40.0" in failure(result)
    assert "multipath False: the dataset has True" in failure(result)
    assert get_dataset(stores.database, "night") == before


@pytest.mark.parametrize("again", [{"target_num_samples": 5}, {}], ids=["the same total", "nothing at all"])
def test_asking_for_what_is_asked_for_already_changes_nothing(instance, stores, again):
    ask(instance, "night", target_num_samples=5)
    before = get_dataset(stores.database, "night")
    assert ask(instance, "night", **again).success
    assert get_dataset(stores.database, "night") == before


def test_a_value_that_is_not_allowed_fails_and_names_the_range(instance, stores):
    result = ask(instance, "night", target_num_samples=5, bandwidth_hz=13000, tx_power_dbm=99)
    assert not result.success
    assert "bandwidth_hz 13000: 12500 or 25000 is allowed" in failure(result)
    assert "tx_power_dbm 99.0: -30 to 70 is allowed" in failure(result)
    assert find_dataset(stores.database, "night") is None


def test_an_invalid_partition_name_fails_with_the_rule(instance, stores):
    result = ask(instance, "Bad Name", target_num_samples=5)
    assert not result.success
    assert "dataset name 'Bad Name': a slug is expected" in failure(result)


def test_a_new_dataset_without_a_total_fails_and_says_so(instance):
    assert "target_num_samples is missing" in failure(ask(instance, "night"))


def test_the_run_config_is_in_step_with_the_parameters_of_a_dataset():
    fields = SyntheticDatasetConfig.to_fields_dict()
    assert set(fields) == {"target_num_samples", "seed", *DatasetSpec.model_fields}
    assert not any(field.is_required for field in fields.values())
    assert SyntheticDatasetConfig().parameters() == {}
    defaults = DatasetSpec().model_dump()
    assert SyntheticDatasetConfig(**defaults).parameters() == {n: v for n, v in defaults.items() if v is not None}
    for name, parameter in DatasetSpec.model_fields.items():
        assert fields[name].description.startswith(parameter.description)
    assert fields["max_gdop"].description.endswith("(default 10.0; more than 0, at most 1000)")
    assert fields["environment"].description.endswith("(default residential; city or residential or rural)")
    assert fields["multipath"].description.endswith("(default true)")


# Batches


def test_a_batch_run_materializes_three_assets_that_agree_with_what_is_stored(instance, stores):
    dataset = add(stores, "night", 5, batch_size=3)
    result = run_batch(instance, "night__00000")
    assert result.success
    assert_agrees(stores, "night", range(3))
    assert {m.asset_key for m in materializations(result)} == {BATCHES, RAW_IQ_OBJECTS, MEASUREMENT_FEATURES}
    assert {m.partition for m in materializations(result)} == {"night__00000"}
    batch = metadata_of(result, BATCHES)
    assert (batch["samples"], batch["made"], batch["generator_version"]) == (3, 3, GENERATOR_VERSION)
    (stored,) = list_batches(stores.database, dataset.id)
    assert batch["attempts"] == stored.attempts
    assert batch["acceptance"] == pytest.approx(3 / stored.attempts, abs=1e-4)
    assert batch["samples_per_s"] > 0
    iq = metadata_of(result, RAW_IQ_OBJECTS)
    assert (iq["objects"], iq["bucket"], iq["prefix"]) == (
        9,
        stores.objects.synthetic_iq_bucket,
        f"synthetic/{dataset.id}/",
    )
    assert metadata_of(result, MEASUREMENT_FEATURES) == {"rows": 3, "dataset_samples": 3, "dataset_target": 5}


@pytest.mark.slow
def test_processes_make_the_batch_and_are_gone_after_the_run(instance, stores, monkeypatch):
    monkeypatch.setenv("HEIMDALL_WORKERS", "2")
    started = []
    start = workers.Workers.start

    def start_and_note(self):
        start(self)
        started.extend(self._processes.values())

    monkeypatch.setattr(workers.Workers, "start", start_and_note)
    add(stores, "night", 3)
    assert run_batch(instance, "night__00000").success
    assert_agrees(stores, "night", range(3))
    assert started
    assert all(process.poll() is not None for process in started)


def test_batches_run_out_of_order_and_twice(instance, stores):
    add(stores, "night", 4, batch_size=2)
    for number in (1, 0, 1):
        assert run_batch(instance, partition_key("night", number)).success
    assert_agrees(stores, "night", range(4))


def test_the_run_of_a_stopped_batch_fails_with_its_reasons(instance, stores):
    dataset = add(stores, "night", 3, **UNFILLABLE)
    result = run_batch(instance, "night__00000")
    assert not result.success
    assert [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY] == []
    assert "night__00000 stopped (max_attempts)" in failure(result)
    assert re.search(r"too_few_receivers +\d+ +\d+\.\d%", failure(result))
    assert materializations(result) == []
    assert_nothing_stored(stores, dataset)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("night", "'night' is not a batch: DATASET__NNNNN is expected"),
        ("day__00000", "unknown dataset day"),
        ("night__00001", "dataset night has batches 0 to 0"),
    ],
)
def test_an_invalid_batch_partition_fails_with_the_reason(instance, stores, key, message):
    add(stores, "night", 3)
    assert message in failure(run_batch(instance, key))


def test_an_outage_is_retried_and_then_fails_naming_the_server(instance, monkeypatch):
    monkeypatch.setenv("HEIMDALL_PG_PORT", "1")
    monkeypatch.setattr(outages, "OUTAGE_DELAY_S", 0.01)
    result = run_batch(instance, "night__00000")
    retries = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY]
    assert len(retries) == outages.OUTAGE_RETRIES
    assert "PostgreSQL at 127.0.0.1:1/" in failure(result)


def test_runs_that_use_all_cores_are_in_one_pool():
    concurrency = yaml.safe_load((PROJECT_FOLDER / "dagster.yaml").read_text())["concurrency"]
    assert synthetic_batch.op.pool == ALL_CORES
    assert concurrency["pools"] == {"granularity": "run", "default_limit": 1}


def test_results_of_the_command_line_appear_equally_in_dagster(instance, stores):
    dataset = add(stores, "night", 3)
    add_partitions(instance, dataset)
    add_partitions(instance, dataset)
    report = make(stores, "night")
    for event in (dataset_materialization(dataset, None), *batch_materializations(report)):
        instance.report_runless_asset_event(event)
    assert instance.get_dynamic_partitions(SYNTHETIC_DATASETS) == ["night"]
    assert instance.get_materialized_partitions(synthetic_dataset.key) == {"night"}
    for key in (BATCHES, RAW_IQ_OBJECTS, MEASUREMENT_FEATURES):
        assert instance.get_materialized_partitions(key) == {"night__00000"}


# The sensor


def test_missing_batches_are_requested_once_with_their_partitions(instance, stores):
    dataset = add(stores, "night", 5, batch_size=2)
    result = tick(instance, stores)
    assert requests_of(result) == batches_of("night", 0, 1, 2)
    assert [request.run_key for request in result.run_requests] == [
        f"{dataset.id}:{n}:{end}" for n, end in ((0, 2), (1, 4), (2, 5))
    ]
    datasets, batches = result.dynamic_partitions_requests
    assert datasets.partition_keys == ["night"]
    assert batches.partition_keys == [partition_key("night", number) for number in range(3)]
    (event,) = result.asset_events
    assert (event.asset_key, event.partition) == (synthetic_dataset.key, "night")
    add_partitions(instance, dataset)
    add_runs(instance, result.run_requests, dg.DagsterRunStatus.STARTING)
    again = tick(instance, stores)
    assert isinstance(again, dg.SkipReason)
    assert "3 runs that make batches are not finished; incomplete datasets: night" in again.skip_message


def test_results_are_recorded_in_dagster_once(instance, stores):
    add_partitions(instance, add(stores, "night", 2))
    result = tick(instance, stores)
    assert [request.partition_keys for request in result.dynamic_partitions_requests] == [[], []]
    assert result.asset_events == []


def test_a_dataset_generated_without_dagster_is_recorded(instance, stores):
    dataset = add(stores, "night", 2)
    make(stores, "night")
    add_runs(instance, tick(instance, stores).run_requests, dg.DagsterRunStatus.SUCCESS)
    result = tick(instance, stores)
    assert result.run_requests == []
    assert [request.partition_keys for request in result.dynamic_partitions_requests] == [["night"], ["night__00000"]]
    assert [event.partition for event in result.asset_events] == [dataset.name]


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_a_batch_whose_run_failed_or_was_cancelled_is_not_requested_again(instance, stores, status):
    add_partitions(instance, add(stores, "night", 5, batch_size=2))
    add_runs(instance, tick(instance, stores).run_requests[:2], status)
    result = tick(instance, stores)
    assert requests_of(result) == batches_of("night", 2)
    add_runs(instance, result.run_requests, status)
    assert "failed or were cancelled" in tick(instance, stores).skip_message


def test_a_stopped_batch_is_not_requested_again(instance, stores):
    add_partitions(instance, add(stores, "night", 3, **UNFILLABLE))
    (request,) = tick(instance, stores).run_requests
    assert not run_batch(instance, request.partition_key, **{"dagster/run_key": request.run_key}).success
    assert isinstance(tick(instance, stores), dg.SkipReason)


def test_a_partly_filled_batch_is_requested_again_when_the_dataset_is_expanded(instance, stores):
    dataset = add(stores, "night", 3, batch_size=2)
    add_partitions(instance, dataset)
    for request in tick(instance, stores).run_requests:
        assert run_batch(instance, request.partition_key, **{"dagster/run_key": request.run_key}).success
    dataset = expand(stores, dataset, 5)
    result = tick(instance, stores)
    assert requests_of(result) == batches_of("night", 1, 2)
    assert result.dynamic_partitions_requests[1].partition_keys == ["night__00002"]
    for request in result.run_requests:
        assert run_batch(instance, request.partition_key, **{"dagster/run_key": request.run_key}).success
    assert_agrees(stores, "night", range(5))


def test_the_oldest_dataset_comes_first(instance, stores):
    for name in ("zulu", "alpha", "mike"):
        add(stores, name, 2, batch_size=1)
    assert [key for _, key in requests_of(tick(instance, stores))] == [
        f"{name}__0000{number}" for name in ("zulu", "alpha", "mike") for number in range(2)
    ]


def test_a_tick_requests_no_more_than_a_hundred_runs(instance, stores):
    add(stores, "night", 250, batch_size=1)
    assert requests_of(tick(instance, stores)) == batches_of("night", *range(100))


def test_no_more_than_a_hundred_runs_are_unfinished(instance, stores):
    add_partitions(instance, add(stores, "night", 250, batch_size=1))
    requests = tick(instance, stores).run_requests
    add_runs(instance, requests[:30], dg.DagsterRunStatus.SUCCESS)
    add_runs(instance, requests[30:90], dg.DagsterRunStatus.STARTING)
    add_runs(instance, requests[90:], dg.DagsterRunStatus.STARTED)
    assert requests_of(tick(instance, stores)) == batches_of("night", *range(100, 130))


def test_hundreds_of_failed_batches_do_not_hide_newer_ones(instance, stores, monkeypatch):
    add_partitions(instance, add(stores, "old", 230, batch_size=1))
    with monkeypatch.context() as unbounded:
        unbounded.setattr(synthetic_sensor, "MAX_REQUESTS_PER_TICK", 1000)
        unbounded.setattr(synthetic_sensor, "MAX_UNFINISHED_RUNS", 1000)
        add_runs(instance, tick(instance, stores).run_requests, dg.DagsterRunStatus.FAILURE)
    add(stores, "new", 2, batch_size=1)
    assert requests_of(tick(instance, stores)) == batches_of("new", 0, 1)


def test_a_complete_dataset_is_summed_up_once_for_each_total(instance, stores):
    dataset = add(stores, "night", 2)
    add(stores, "day", 2)
    for total in (2, 3):
        expand(stores, dataset, total)
        make(stores, "night")
        (summary,) = [r for r in tick(instance, stores).run_requests if r.job_name == SUMMARISE]
        assert (summary.partition_key, summary.run_key) == ("night", f"{dataset.id}:summary:{total}")
        add_runs(instance, [summary], dg.DagsterRunStatus.SUCCESS)
        assert requests_of(tick(instance, stores)) == batches_of("day", 0)


def test_a_dataset_of_another_generator_version_is_skipped_with_a_word(instance, stores, capsys):
    add_partitions(instance, add(stores, "old", 2, generator_version=GENERATOR_VERSION + 1))
    assert isinstance(tick(instance, stores), dg.SkipReason)
    assert f"old is skipped: its generator version is {GENERATOR_VERSION + 1}" in capsys.readouterr().err
    add(stores, "new", 2)
    assert requests_of(tick(instance, stores)) == batches_of("new", 0)


def test_without_datasets_the_tick_is_skipped_with_the_reason(instance, stores):
    assert tick(instance, stores).skip_message == "there is no dataset"


def test_a_deleted_dataset_can_be_requested_again(instance, stores):
    add(stores, "night", 2)
    add_runs(instance, tick(instance, stores).run_requests, dg.DagsterRunStatus.SUCCESS)
    execute(stores, "DELETE FROM heimdall.synthetic_datasets")
    add(stores, "night", 2)
    assert requests_of(tick(instance, stores)) == batches_of("night", 0)


def test_a_tick_without_the_database_fails(settings, instance):
    down = settings.model_copy(update={"pg_port": 1})
    with open_stores(down) as stores, pytest.raises(DatabaseUnavailableError):
        tick(instance, stores)


# The summary


def test_the_summary_shows_counts_tables_and_small_pictures(instance, stores):
    add(stores, "night", 4)
    make(stores, "night")
    add_partitions(instance, get_dataset(stores.database, "night"))
    result = build_definitions().resolve_job_def(SUMMARISE).execute_in_process(partition_key="night", instance=instance)
    metadata = metadata_of(result, synthetic_dataset_summary.key)
    counts = [metadata[name] for name in ("samples", "target", "iq_samples", "iq_objects")]
    assert counts == [4, 4, 4, 12]
    assert metadata["acceptance"] == pytest.approx(4 / metadata["attempts"], abs=1e-4)
    assert "| snr_db | dB | " in metadata["errors"]
    assert "- snr_db: " in metadata["compared"]
    for method in ("Cramer-Rao bound", "robust TDoA", "nearest neighbours, levels"):
        assert f"| {method} | in line of sight | " in metadata["baselines"]
    assert metadata["baselines_of"].startswith("all 4 samples")
    pictures = {name: value for name, value in metadata.items() if "data:image/png" in str(value)}
    assert len(pictures) >= 3
    for value in pictures.values():
        (data,) = re.findall(r"^!\[.+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)$", value)
        png = base64.b64decode(data)
        assert png.startswith(b"\x89PNG")
        assert len(png) < 100_000
    for name in metadata.keys() - pictures.keys():
        assert len(str(metadata[name])) < INLINE_CHARACTERS


def test_an_empty_dataset_has_a_summary(instance, stores):
    add_partitions(instance, add(stores, "night", 4))
    result = build_definitions().resolve_job_def(SUMMARISE).execute_in_process(partition_key="night", instance=instance)
    metadata = metadata_of(result, synthetic_dataset_summary.key)
    assert (metadata["samples"], metadata["target"], metadata["rejections"]) == (0, 4, "none")


@pytest.mark.slow
def test_a_dataset_whose_samples_have_changed_is_summarised_again_once(instance, stores):
    dataset = add(stores, "night", 2)
    make(stores, "night")
    add_partitions(instance, get_dataset(stores.database, "night"))
    job = build_definitions().resolve_job_def(SUMMARISE)
    tags = {"dagster/run_key": f"{dataset.id}:summary:2"}
    assert job.execute_in_process(partition_key="night", instance=instance, tags=tags).success
    assert isinstance(tick(instance, stores), dg.SkipReason)
    assert summary_is_current(stores) == []

    execute(stores, "UPDATE heimdall.synthetic_datasets SET seed = seed + 1")
    with workers.Workers(1) as one:
        repair_dataset(stores, "night", one, overwrite=True)
    (problem,) = summary_is_current(stores)
    assert "was computed from 2 samples that have changed since" in problem
    (summary,) = tick(instance, stores).run_requests
    assert summary.run_key.startswith(f"{dataset.id}:summary:2:")
    tags = {"dagster/run_key": summary.run_key}
    assert job.execute_in_process(partition_key="night", instance=instance, tags=tags).success
    assert isinstance(tick(instance, stores), dg.SkipReason)
    assert summary_is_current(stores) == []


def summary_is_current(stores):
    """Examples of the check."""
    return check_dataset(stores, "night").outcomes["summary_is_current"].examples
