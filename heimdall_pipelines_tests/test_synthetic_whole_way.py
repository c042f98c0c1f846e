"""The whole way of a synthetic dataset with a real daemon: asked for as in the UI, made by the sensor, cancelled."""

from dataclasses import dataclass

import psutil
import pytest

from heimdall_pipelines.datasets.workers import num_workers_wanted
from heimdall_pipelines_tests.datasets.support import SMALL
from heimdall_pipelines_tests.dev_server import DevFolder, ask_graphql, command_line, runs, wait_for
from heimdall_pipelines_tests.test_whole_way import LOCATION

pytestmark = [pytest.mark.programs, pytest.mark.slow]
MAKE, SUMMARISE = "make_synthetic_batches", "summarise_synthetic_dataset"
NIGHT = SMALL | {"target_num_samples": 5, "batch_size": 3, "seed": 0, "dataset_type": "iq_raw"}
ENDLESS = {"target_num_samples": 10_000, "batch_size": 10_000}  # minutes


@dataclass(frozen=True)
class WholeWay:
    """One running `heimdall dev` that was asked for a small dataset."""

    dev: DevFolder
    address: str

    def run(self, job: str, partition: str) -> dict | None:
        """The run of a job for a partition, if there is one."""
        found = [
            run
            for run in runs(self.address)
            if (run["jobName"], run["tags"].get("dagster/partition")) == (job, partition)
        ]
        assert len(found) <= 1
        return found[0] if found else None

    def ended(self, job: str, partition: str) -> dict:
        """That run, once it has ended."""
        wait_for(f"{job} of {partition} to start", lambda: self.run(job, partition))
        is_over = lambda: self.run(job, partition)["status"] in {"SUCCESS", "FAILURE", "CANCELED"}  # noqa: E731
        wait_for(f"{job} of {partition} to end", is_over)
        return self.run(job, partition)

    def workers(self) -> list[psutil.Process]:
        """Live processes that make samples."""
        return [p for p in self.dev.dagster_processes() if "heimdall_pipelines.datasets.workers" in command_line(p)]

    def counts(self, name: str) -> tuple[int, int, int, int]:
        """Target, committed, feature rows and IQ rows of a dataset."""
        (row,) = self.dev.rows(
            "SELECT target_num_samples, num_samples,"
            " (SELECT count(*) FROM heimdall.measurement_features WHERE dataset_id = d.id),"
            " (SELECT count(*) FROM heimdall.synthetic_iq_samples WHERE dataset_id = d.id)"
            " FROM heimdall.synthetic_datasets d WHERE name = %s",
            name,
        )
        return row


def add_partition(address: str, name: str) -> None:
    """What the UI does when somebody types a new partition."""
    added = ask_graphql(
        address,
        "mutation ($location: RepositorySelector!, $key: String!) { addDynamicPartition(repositorySelector: $location,"
        ' partitionsDefName: "synthetic_datasets", partitionKey: $key) { __typename } }',
        location=LOCATION,
        key=name,
    )
    assert added["addDynamicPartition"]["__typename"] == "AddDynamicPartitionSuccess"


def ask_for_dataset(address: str, name: str, config: dict) -> None:
    """What the UI does when synthetic/datasets is materialized from the launchpad."""
    add_partition(address, name)
    launched = ask_graphql(
        address,
        "mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename"
        " ... on PythonError { message } ... on RunConfigValidationInvalid { errors { message } } } }",
        params={
            "selector": LOCATION | {"jobName": "__ASSET_JOB", "assetSelection": [{"path": ["synthetic", "datasets"]}]},
            "runConfigData": {"ops": {"synthetic__datasets": {"config": config}}},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": name}]},
        },
    )["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched


def messages(address: str, run_id: str) -> list[str]:
    """What a run has logged so far."""
    logged = ask_graphql(
        address,
        "query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection {"
        " events { ... on MessageEvent { message } } } } }",
        id=run_id,
    )
    return [event["message"] for event in logged["logsForRun"]["events"]]


@pytest.fixture(scope="module")
def whole_way(running_dev) -> WholeWay:
    asked = WholeWay(running_dev.dev, running_dev.address)
    ask_for_dataset(asked.address, "night", NIGHT)
    assert asked.ended("__ASSET_JOB", "night")["status"] == "SUCCESS"
    return asked


def test_the_sensor_has_the_batches_made_and_counts_agree(whole_way):
    for partition in ("night__00000", "night__00001"):
        run = whole_way.ended(MAKE, partition)
        assert run["status"] == "SUCCESS"
        assert run["tags"]["dagster/sensor_name"] == "requested_synthetic_batches"
    assert whole_way.counts("night") == (5, 5, 5, 5)


def test_a_run_that_is_cancelled_ends_commits_nothing_and_leaves_no_process(whole_way):
    ask_for_dataset(whole_way.address, "endless", ENDLESS)
    wait_for("the long run", lambda: whole_way.run(MAKE, "endless__00000"))
    run_id = whole_way.run(MAKE, "endless__00000")["runId"]
    wait_for("samples that are made", lambda: any("samples/s" in line for line in messages(whole_way.address, run_id)))
    assert bool(whole_way.workers()) == (num_workers_wanted() > 1)
    terminated = ask_graphql(
        whole_way.address,
        "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }",
        id=run_id,
    )
    assert terminated["terminateRun"]["__typename"] == "TerminateRunSuccess"
    assert whole_way.ended(MAKE, "endless__00000")["status"] == "CANCELED"
    assert whole_way.workers() == []
    assert whole_way.counts("endless") == (10_000, 0, 0, 0)


def test_the_complete_dataset_is_summed_up(whole_way):
    assert whole_way.ended(SUMMARISE, "night")["status"] == "SUCCESS"
    assert whole_way.run(SUMMARISE, "endless") is None
