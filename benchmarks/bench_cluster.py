"""Runs of one trivial batch each: what a run costs beside the code server, and in two slots of a warm worker.

Real PostgreSQL, S3, Redis, code server and daemon on this machine. Throughput: from the end of one of the first runs to
the last one's end, shared among the runs between. A run's own time is from its start to its end, in Dagster's words.
"""

import os
import statistics
import time

import dagster as dg

from benchmarks.stack import scratch_folder
from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.settings import ENV_PREFIX, load_settings
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.datasets.support import add
from heimdall_pipelines_tests.deployment.servers import empty_servers
from heimdall_pipelines_tests.deployment.services import FAST, Deployment
from heimdall_pipelines_tests.run_guard import RUN_FOLDER

NUM_RUNS = int(os.environ.get("HEIMDALL_TEST_BENCH_RUNS", "100"))
NUM_SLOTS = 2
VARIABLES = {
    "HEIMDALL_MAX_CONCURRENT_RUNS": "6",
    "HEIMDALL_MAX_GENERATION_RUNS": "2",
    "HEIMDALL_WORKER_SLOTS": str(NUM_SLOTS),
}
TIMEOUT_S = 1200


def run():
    """Yield (what, amount, unit)."""
    with scratch_folder() as folder, Stack(folder / "home").use() as variables:
        os.environ.setdefault(RUN_FOLDER, str(folder))  # where the test harness puts Redis
        settings = load_settings(**{k.removeprefix(ENV_PREFIX).lower(): v for k, v in variables.items()})
        for launcher in ("celery", "local"):
            with (
                empty_servers(settings) as own_databases,
                Deployment(
                    own_databases,
                    folder / launcher,
                    num_workers=int(launcher == "celery"),
                    variables=VARIABLES,
                    dagster_config=FAST,
                    services=("redis", "migrate", "code", "daemon", "worker"),
                    environment={"HEIMDALL_RUN_LAUNCHER": launcher, "HEIMDALL_WORKERS": "2"},
                ) as made,
                made.environment_of_this_process(),
            ):
                runs = trivial_runs(made, launcher)
            yield f"a trivial run, {launcher}, two at once", seconds_per_run(runs), "s"
            own = [run.end_time - run.start_time for run in sorted(runs, key=lambda run: run.start_time)]
            yield f"own time of a run, {launcher}", statistics.median(own[NUM_SLOTS:]), "s"
            if launcher == "celery":
                yield "the same, first run of a slot", statistics.mean(own[:NUM_SLOTS]), "s"


def trivial_runs(made, name: str) -> list[dg.RunRecord]:
    """Have one batch per run made and wait for all."""
    filters = dg.RunsFilter(job_name="make_synthetic_batches", statuses=[dg.DagsterRunStatus.SUCCESS])
    with open_stores(made.settings) as stores, dg.DagsterInstance.get() as instance:
        add(stores, name, NUM_RUNS, batch_size=1)
        deadline = time.monotonic() + TIMEOUT_S
        while instance.get_runs_count(filters) < NUM_RUNS:
            assert time.monotonic() < deadline, made.log("daemon")[-2000:]
            time.sleep(0.5)
        return list(instance.get_run_records(filters))


def seconds_per_run(runs: list[dg.RunRecord]) -> float:
    """Give the time that each took of the whole; the first ones of each process load what others find loaded."""
    ends = sorted(run.end_time for run in runs)[NUM_RUNS // 10 :]
    return (ends[-1] - ends[0]) / (len(ends) - 1)
