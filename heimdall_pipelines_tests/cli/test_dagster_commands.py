"""Dagster's own commands, `dagster` and `dg`, and GraphQL, on one running `heimdall dev`; then without it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heimdall_pipelines.local.ports import free_port
from heimdall_pipelines.settings import ENV_PREFIX
from heimdall_pipelines_tests.dev_server import (
    HEIMDALL,
    DevFolder,
    ask_graphql,
    command_line,
    dev_folder,
    runs,
    wait_for,
)
from heimdall_pipelines_tests.test_whole_way import LOCATION

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # each command loads Dagster twice
FIRST_PORTS = range(24_500, 24_600)
DATASET, BATCH = "night", "night__00000"
MAKE = "make_synthetic_batches"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
LAUNCH = """
mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
BACKFILL = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""


@dataclass(frozen=True)
class Running:
    """A running `heimdall dev` with one made batch, and a person's shell in a folder without any project."""

    dev: DevFolder
    address: str
    variables: dict[str, str]
    folder: Path

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of Dagster's commands as in that shell."""
        return subprocess.run(words, cwd=self.folder, env=self.variables, capture_output=True, text=True, check=False)

    def run_of(self, known: set[str], job: str) -> dict[str, Any]:
        """Wait until the run of the job that was not known before has ended, and give it."""

        def ended() -> dict[str, Any] | None:
            new = [run for run in runs(self.address) if run["runId"] not in known and run["jobName"] == job]
            return new[0] if new and new[0]["status"] in ENDED else None

        return wait_for(f"a run of {job} to end", ended)

    def stop_dev(self) -> None:
        """Leave the instance without servers, whichever test comes first."""
        if self.dev.pid() is not None:
            assert self.dev.signal(signal.SIGTERM) == 0

    def known(self) -> set[str]:
        return {run["runId"] for run in runs(self.address)}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with dev_folder() as dev:
        created = dev.run("dataset", "create", DATASET, "--num-samples", 2, "--local")
        assert created.returncode == 0, created.stderr
        address = dev.start_dev(first_port=free_port(None, FIRST_PORTS))
        folder = dev.home.parent / "elsewhere"
        folder.mkdir()
        yield Running(dev, address, evaluated_environment(dev, folder), folder)


def evaluated_environment(dev: DevFolder, folder: Path) -> dict[str, str]:
    """What a shell has in its environment after `eval "$(heimdall env)"`."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith((ENV_PREFIX, "DAGSTER_"))}
    script = 'eval "$("$@" env)"; env -0'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", *HEIMDALL],
        cwd=folder,
        env=outside | {"HEIMDALL_HOME": str(dev.home), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in shell.stdout.split("\0") if line)


def test_dev_starts_without_a_warning(running):
    until_ready = running.dev.output().partition("Dagster UI: ")[0]
    assert "Serving dagster-webserver" in until_ready
    for words in ("Warning", "WARNING", "superseded", "will not be used", "No cursor"):
        assert words not in until_ready, until_ready


def test_the_folder_of_dagster_has_copies_not_links(running):
    files = [path for path in running.dev.home.rglob("*") if path.is_symlink()]
    assert [path for path in files if not path.exists()] == []
    assert not (running.dev.home / "dagster" / "dagster.yaml").is_symlink()


def test_lists_of_both_command_lines_name_our_jobs(running):
    jobs = running.command("dagster", "job", "list")
    assert jobs.returncode == 0, jobs.stderr
    assert f"Job: {MAKE}" in jobs.stdout
    assets = running.command("dg", "list", "defs", "--json")
    assert assets.returncode == 0, assets.stderr
    assert "synthetic/batches" in assets.stdout


def test_a_job_that_the_command_line_launches_succeeds(running):
    known = running.known()
    tags = f'{{"dagster/partition": "{BATCH}"}}'
    launched = running.command("dagster", "job", "launch", "--job", MAKE, "--tags", tags)
    assert launched.returncode == 0, launched.stderr
    assert running.run_of(known, MAKE)["status"] == "SUCCESS"


def test_a_backfill_of_the_command_line_succeeds(running):
    known = running.known()
    backfill = running.command("dagster", "job", "backfill", "--job", MAKE, "--partitions", BATCH, "--noprompt")
    assert backfill.returncode == 0, backfill.stderr
    assert running.run_of(known, MAKE)["status"] == "SUCCESS"


def test_dg_materializes_one_asset_of_a_batch(running):
    made = running.command("dg", "launch", "--assets", "synthetic/batches", "--partition", BATCH)
    assert made.returncode == 0, made.stdout + made.stderr
    assert runs(running.address)[0]["status"] == "SUCCESS"


def test_a_run_of_one_asset_that_graphql_launches_succeeds(running):
    known = running.known()
    assets = [{"path": ["synthetic", "batches"]}]
    answer = ask_graphql(
        running.address,
        LAUNCH,
        params={
            "selector": LOCATION | {"jobName": "__ASSET_JOB", "assetSelection": assets},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": BATCH}]},
            "mode": "default",
        },
    )["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    assert running.run_of(known, "__ASSET_JOB")["status"] == "SUCCESS"


def test_a_backfill_of_one_asset_that_graphql_launches_succeeds(running):
    known = running.known()
    answer = ask_graphql(
        running.address,
        BACKFILL,
        params={"assetSelection": [{"path": ["synthetic", "raw_iq_objects"]}], "partitionNames": [BATCH]},
    )["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    assert running.run_of(known, "__ASSET_JOB")["status"] == "SUCCESS"


def test_dev_ends_when_a_process_of_it_ends_and_says_which(running):
    (daemon,) = [
        process
        for process in running.dev.dagster_processes()
        if "dagster._daemon" in command_line(process) and "run" in command_line(process)
    ]
    daemon.kill()
    wait_for("heimdall dev to end", lambda: running.dev.pid() is None)
    printed = running.dev.output()
    assert "Dagster ended unexpectedly" in printed
    assert "dagster-daemon process shut down unexpectedly" in printed.partition("Dagster ended unexpectedly")[2]
    assert running.dev.processes() == []


@pytest.mark.parametrize(
    "words",
    [
        ("dagster", "job", "launch", "--job", MAKE),
        ("dagster", "run", "list"),
        ("dg", "launch", "--assets", "synthetic/batches", "--partition", BATCH),
    ],
)
def test_without_servers_a_command_says_so_in_two_lines(running, words):
    running.stop_dev()
    refused = running.command(*words)
    assert refused.returncode != 0
    lines = (refused.stdout + refused.stderr).strip().splitlines()
    assert "cannot be opened" in lines[0]
    assert "Connection refused" in lines[0]
    assert "heimdall dev" in lines[1]
    assert len(lines) == 2, lines


def test_without_servers_env_says_how_to_start_them(running):
    running.stop_dev()
    refused = running.dev.run("env")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "heimdall dev" in refused.stderr


def test_a_shell_with_the_environment_can_start_the_servers_again(running):
    """The variables of the embedded servers do not pass for servers of somebody else."""
    listed = running.command(*HEIMDALL, "dataset", "list")
    assert listed.returncode == 0, listed.stderr
    assert DATASET in listed.stdout


def test_ctrl_c_during_the_start_ends_everything(running):
    running.stop_dev()
    before = running.dev.output().count("waiting for Dagster")
    running.dev.launch_dev(first_port=free_port(None, FIRST_PORTS))
    wait_for("a line of progress", lambda: running.dev.output().count("waiting for Dagster") > before)
    assert running.dev.signal(signal.SIGINT) == 0
    assert running.dev.processes() == []
