"""Two workers on machines of their own that share PostgreSQL, S3 and Redis alone work off one dataset."""

import os
import re
import subprocess

import dagster as dg
import pytest

from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.cluster.machines import Machine, two_machines
from heimdall_pipelines_tests.conftest import environment_of
from heimdall_pipelines_tests.datasets.support import (
    SMALL,
    database_of_module,
    feature_rows,
    iq_sha256,
    query,
)
from heimdall_pipelines_tests.dev_server import HEIMDALL, wait_for
from heimdall_pipelines_tests.held_back import batches_held_back

pytestmark = [pytest.mark.programs, pytest.mark.slow]
NAME = "of-two"
BATCHES = 6
REQUEST = [
    "dataset", "create", NAME, "--num-samples", str(2 * BATCHES), "--batch-size", "2", "--seed", "7",
    "--type", "iq_raw",
    *(word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))),
]  # fmt: skip


def heimdall(settings, *arguments: str) -> None:
    done = subprocess.run(
        [*HEIMDALL, *arguments],
        cwd=PROJECT_FOLDER,
        env=os.environ | environment_of(settings),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def contents(stores) -> tuple[dict[int, str], list[dict], dict[str, str]]:
    """Feature rows, truth of the IQ rows, and checksums of the objects; nothing that names the dataset's id."""
    dataset = get_dataset(stores.database, NAME)
    truth = query(
        stores,
        "SELECT sample_idx, truth, receivers_metadata, iq_metadata - 'etag' - 'sidecar_sha256' AS iq"
        " FROM heimdall.synthetic_iq_samples WHERE dataset_id = :id ORDER BY sample_idx",
        id=dataset.id,
    )
    return feature_rows(stores, dataset), truth, iq_sha256(stores, dataset)


@pytest.mark.usefixtures("_template")
def test_two_machines_work_off_one_dataset_and_make_the_bytes_that_one_makes(
    cluster, instance, cluster_stores, server_settings
):
    if cluster.is_running("one"):  # of other tests: it would take batches
        cluster.kill("one")
    with two_machines(cluster) as machines:
        try:
            for machine in machines:
                cluster.add_worker(machine.name, prefix=machine.prefix, **machine.environment)
            for machine in machines:
                cluster.wait_until_up(machine.name)

            def runs(*statuses: dg.DagsterRunStatus) -> set[str]:
                filters = dg.RunsFilter(job_name="make_synthetic_batches", statuses=statuses)
                found = instance.get_runs(filters)
                return {run.run_id for run in found if run.tags["dagster/partition"].startswith(f"{NAME}__")}

            def taken(machine: Machine) -> set[str]:
                return set(re.findall(r"execute_job\[(\S+)\] received", cluster.log(machine.name)))

            with batches_held_back(cluster_stores.database):  # or else a quick one could make them all
                heimdall(cluster.settings, *REQUEST)
                for machine in machines:
                    wait_for(f"a batch for {machine.name}", lambda machine=machine: runs() & taken(machine))
            made = wait_for(
                "all batches", lambda: found if len(found := runs(dg.DagsterRunStatus.SUCCESS)) == BATCHES else None
            )
        finally:
            for machine in machines:
                cluster.kill(machine.name)
    of_alpha, of_beta = (taken(machine) for machine in machines)
    assert not of_alpha & of_beta
    assert made <= of_alpha | of_beta

    with database_of_module(server_settings) as elsewhere:
        heimdall(elsewhere, *REQUEST, "--local")
        with open_stores(elsewhere) as stores:
            features, truth, objects = contents(stores)
    assert (features, truth, objects) == contents(cluster_stores)
    assert len(features) == 2 * BATCHES
    assert objects
