"""The services of docker-compose.yml run: from empty servers to a dataset that two workers made."""

import base64
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from heimdall_pipelines.store.database import Database
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.datasets.support import SMALL
from heimdall_pipelines_tests.deployment.services import TIMEOUT_S, Deployment
from heimdall_pipelines_tests.dev_server import runs
from heimdall_pipelines_tests.held_back import batches_held_back
from heimdall_pipelines_tests.held_port import held_port
from heimdall_pipelines_tests.test_synthetic_whole_way import ask_for_dataset
from heimdall_pipelines_tests.test_whole_way import LOCATION

pytestmark = [pytest.mark.programs, pytest.mark.slow]
BATCHES = 6
NIGHT = SMALL | {"target_num_samples": 2 * BATCHES, "batch_size": 2, "seed": 0, "dataset_type": "iq_raw"}
MAY_BE_WRITTEN = {"log", "dagster.yaml", "workspace.yaml", "tmp", "storage"}
ONE_SLOT_EACH = {"HEIMDALL_WORKER_SLOTS": "1", "HEIMDALL_MAX_CONCURRENT_RUNS": "2", "HEIMDALL_WORKERS": "1"}


@pytest.fixture(scope="module")
def deployment(module_deployment_settings, tmp_path_factory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    made = Deployment(module_deployment_settings, folder, num_workers=2, variables=ONE_SLOT_EACH)
    try:
        made.start()
        yield made
    finally:
        made.end_everything()


def test_from_empty_servers_all_get_healthy_and_the_code_is_loaded(deployment):
    assert "migrated from nothing" in deployment.log("migrate")
    shown = deployment.graphql("{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }")
    location = {"name": LOCATION["repositoryLocationName"], "loadStatus": "LOADED"}  # as on one machine
    assert shown == {"workspaceOrError": {"locationEntries": [location]}}


def test_a_killed_service_is_unhealthy_until_it_is_started_again(deployment):
    deployment.kill("redis")
    assert not deployment.is_healthy("redis")
    deployment.restart("redis")  # waits until it is healthy


def test_two_workers_make_a_dataset_that_was_asked_for_in_the_ui(deployment, module_deployment_settings):
    def runs_of(job: str) -> list[dict[str, Any]]:
        return [run for run in runs(deployment.address) if run["jobName"] == job]

    def has_a_batch(worker: str) -> bool:
        return any(run["runId"] in deployment.log(worker) for run in runs_of("make_synthetic_batches"))

    with Database(module_deployment_settings) as database, batches_held_back(database):  # or one makes them all
        ask_for_dataset(deployment.address, "night", NIGHT)
        for worker in ("worker-1", "worker-2"):
            deployment.wait_until(partial(has_a_batch, worker), f"{worker} to have a batch")

    def all_succeeded() -> bool:
        made, summed_up = (runs_of(job) for job in ("make_synthetic_batches", "summarise_synthetic_dataset"))
        return [run["status"] for run in made + summed_up] == ["SUCCESS"] * (BATCHES + 1)

    deployment.wait_until(all_succeeded, "the dataset to be made and summed up")
    deployment.run("heimdall", "dataset", "validate", "night")


def test_what_a_run_printed_is_found_by_the_webserver(deployment):
    run_id = next(run["runId"] for run in runs(deployment.address) if run["jobName"] == "make_synthetic_batches")
    events = deployment.graphql(
        "query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection"
        " { events { ... on LogsCapturedEvent { fileKey } } } } }",
        run=run_id,
    )["logsForRun"]["events"]
    (file_key,) = [event["fileKey"] for event in events if event]
    printed = deployment.graphql(
        "query ($key: [String!]!) { capturedLogs(logKey: $key) { stderr } }", key=[run_id, "compute_logs", file_key]
    )
    assert "STEP_START" in printed["capturedLogs"]["stderr"]


def test_the_proxy_lets_in_who_knows_the_password(deployment, tmp_path):
    if shutil.which("caddy") is None:
        pytest.skip("no caddy on this machine")
    hashed = subprocess.run(["caddy", "hash-password", "--plaintext", "open"], capture_output=True, check=True)
    proxy = f"127.0.0.1:{held_port()}"
    environment = {
        "HEIMDALL_PROXY_SITE": f"http://{proxy}",  # a name gets HTTPS, for which a port of its own would be asked
        "HEIMDALL_PROXY_USER": "somebody",
        "HEIMDALL_PROXY_PASSWORD_HASH": hashed.stdout.decode().strip(),
        "HEIMDALL_PROXY_UPSTREAM": deployment.address.removeprefix("http://"),
        "CADDY_ADMIN": f"127.0.0.1:{held_port()}",
        "HOME": str(tmp_path),
    }
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(PROJECT_FOLDER / "deploy" / "Caddyfile")]

    def status(password: str | None) -> int | None:
        request = urllib.request.Request(f"http://{proxy}/server_info")
        if password is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(f'somebody:{password}'.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            return None  # not there yet

    with subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL) as caddy:
        try:
            assert deployment.wait_until(lambda: status(None), "Caddy to answer", "webserver") == 401
            assert status("wrong") == 401
            assert status("open") == 200
        finally:
            caddy.kill()
    for lacking in ("HEIMDALL_PROXY_USER", "HEIMDALL_PROXY_PASSWORD_HASH"):
        refused = subprocess.run(command, env=os.environ | environment | {lacking: ""}, capture_output=True)
        assert b"cannot be empty" in refused.stderr, lacking


def test_only_the_writable_folders_are_written(deployment):
    """The containers' file systems are read-only, but for /tmp and storage, where files come and go."""
    for service in deployment.services.values():
        if service.name == "redis":
            continue
        others = [path for path in service.folder.iterdir() if path.name not in MAY_BE_WRITTEN]
        written = [path for other in others for path in (other, *other.rglob("*")) if path.is_file()]
        assert written == [], service.name


def test_all_stop_when_asked_and_are_unhealthy_then(deployment):
    deployment.stop_service("worker-2")
    assert not deployment.is_healthy("worker-2")  # worker-1 answers, and is not it
    deployment.stop()
    assert [name for name in deployment.services if deployment.processes(name)] == []
    assert [name for name in ("redis", "code", "webserver") if deployment.is_healthy(name)] == []
