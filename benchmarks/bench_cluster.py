"""Runs of one trivial batch each: what a run costs beside the code server, and in two slots of a warm worker.

Real PostgreSQL, S3, Redis, code server and daemon on this machine. Throughput: from the first run's start to the last
one's end, shared among the runs.
"""

import os
import tempfile
import time
from pathlib import Path

import dagster as dg

from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.settings import ENV_PREFIX, load_settings
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.cluster.deployment import deployment
from heimdall_pipelines_tests.datasets.support import add

NUM_RUNS = int(os.environ.get("HEIMDALL_TEST_BENCH_RUNS", "100"))
NUM_SLOTS = 2
PATIENCE_S = 600


def run():
    """Yield (what, amount, unit)."""
    folder = Path(tempfile.mkdtemp(prefix="heimdall-bench-"))
    folder.chmod(0o755)
    stack = Stack(folder / "home")
    try:
        variables = stack.start()
        settings = load_settings(**{k.removeprefix(ENV_PREFIX).lower(): v for k, v in variables.items()})
        for launcher in ("local", "celery"):
            (folder / launcher).mkdir()
            with deployment(folder / launcher, settings, HEIMDALL_RUN_LAUNCHER=launcher) as made:
                if launcher == "celery":
                    made.start_worker("one", slots=NUM_SLOTS)
                yield f"a trivial run, {launcher}, two at once", seconds_per_run(made, launcher), "s"
    finally:
        stack.stop()


def seconds_per_run(made, name: str) -> float:
    """Have one batch per run made and give the time that each took of the whole."""
    filters = dg.RunsFilter(job_name="make_synthetic_batches", statuses=[dg.DagsterRunStatus.SUCCESS])
    with open_stores(made.settings) as stores, dg.DagsterInstance.get() as instance:
        add(stores, name, NUM_RUNS, batch_size=1)
        deadline = time.monotonic() + PATIENCE_S
        while instance.get_runs_count(filters) < NUM_RUNS:
            assert time.monotonic() < deadline, made.log("daemon")[-2000:]
            time.sleep(0.5)
        records = [record for record in instance.get_run_records(filters) if record.end_time is not None]
    # The first runs of each process load what the later ones find loaded, and the sensor still requests others.
    ends = sorted(record.end_time for record in records)[NUM_RUNS // 10 :]
    return (ends[-1] - ends[0]) / (len(ends) - 1)
