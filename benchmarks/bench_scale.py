"""What a dataset of millions costs: datasets of growing size by the real path, fitted and carried on to 5,000,000.

Not part of `make bench`: it takes twenty minutes. `python -m benchmarks scale` runs it.

Three parts. (1) `heimdall dev` makes a few small batches, each in a run of its own: what a run leaves in Dagster's
tables. (2) Datasets grow as `--local` makes them, events and checks included: with one worker in two batch sizes, which
tell what is paid by the sample from what is paid by the batch; with a worker on each core to 100,000 samples, or as far
as `BUDGET_S` allows, which tells whether it stays a straight line. Processor time, rows, bytes. (3) Up to
100,000 partitions are added, and half of a dataset of 20,000 batches is entered as committed: what then costs time.

Processor time is that of this process, of PostgreSQL and of the S3 server together: other work on the machine does not
count, though it empties caches.
"""

import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import psutil
import psycopg2

from benchmarks.stack import peak_mb
from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.cli.dataset_making import make_missing, report_request
from heimdall_pipelines.cli.environment import servers, stores
from heimdall_pipelines.datasets.requesting import request_dataset
from heimdall_pipelines.datasets.summary import summarise_dataset
from heimdall_pipelines.defs.partitions import SYNTHETIC_BATCHES
from heimdall_pipelines.defs.synthetic import batch_keys, make_synthetic_batches
from heimdall_pipelines.defs.synthetic_sensor import requested_synthetic_batches
from heimdall_pipelines.local.ports import LOOPBACK, free_port
from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.stations.network import load_network, sync_network
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.datasets import get_dataset, list_datasets
from heimdall_pipelines_tests import PROJECT_FOLDER

BUDGET_S = 25 * 60  # of part (2); the next step is begun if it will end within
NUM_CORES = len(os.sched_getaffinity(0))
LARGE_BATCH_SIZE = 1000
GROWTH = {  # batch_size, workers, totals; the first total has all samples that keep their IQ
    "small": (50, 1, (150, 1150)),
    "large": (LARGE_BATCH_SIZE, 1, (1000, 3000, 6000)),
    "whole": (LARGE_BATCH_SIZE, NUM_CORES, (1000, 20_000, 40_000, 60_000, 80_000, 100_000)),
}
DEV_BATCHES, DEV_BATCH_SIZE = 10, 5
PARTITIONS = (1000, 10_000, 20_000, 50_000, 100_000)
VAST = 5_000_000
VAST_BATCHES = 20_000
ROWS_COPIED = (10, 30, 100)  # thousands
BATCH_SIZES = (250, 1000, 5000, 10_000)
TIMEOUT_S = 600.0
UI_PORTS = range(20_000, 22_000)
HEIMDALL = ("-c", "from heimdall_pipelines.cli import main; main()")
PARTITIONS_QUERY = """{ assetNodeOrError(assetKey: {path: ["synthetic", "batches"]}) { ... on AssetNode {
  partitionKeysByDimension { partitionKeys }
  assetPartitionStatuses { ... on DefaultPartitionStatuses { materializedPartitions failedPartitions } } } } }"""

Row = tuple[str, float, str]


@dataclass(frozen=True)
class Used:
    """What had been used at a moment, in all."""

    own_cpu_s: float
    postgres_cpu_s: float
    s3_cpu_s: float
    feature_rows: int
    feature_table_bytes: int
    feature_index_bytes: int
    wal_bytes: int
    events: int
    dagster_bytes: int

    @property
    def cpu_s(self) -> float:
        return self.own_cpu_s + self.postgres_cpu_s + self.s3_cpu_s


@dataclass(frozen=True)
class Step:
    """A dataset that grew: how far, and what that took."""

    num_samples: int
    num_batches: int
    wall_s: float
    used: dict[str, float]

    def per_sample(self, name: str) -> float:
        return self.used[name] / self.num_samples


@contextmanager
def connected(database: str) -> Iterator[Any]:
    settings = load_settings()
    with closing(
        psycopg2.connect(
            host=settings.pg_host,
            port=settings.pg_port,
            user=settings.pg_user,
            password=settings.pg_password.get_secret_value(),
            dbname=database,
        )
    ) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def ask(database: str, statement: str, *values: Any) -> Any:
    """The first row of an answer."""
    with connected(database) as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()


def server_cpu_s(pid: int) -> float:
    """Processor time of a server, its children and those that it has outlived."""
    server = psutil.Process(pid)
    total = sum(server.cpu_times()[:4])
    for child in server.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


def children_cpu_s() -> float:
    """Processor time of this process's children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def used(home: Path) -> Used:
    status = Stack(home).status()
    table, index, wal = ask(
        "heimdall",
        "SELECT pg_table_size('heimdall.measurement_features'), pg_indexes_size('heimdall.measurement_features'),"
        " pg_current_wal_lsn() - '0/0'::pg_lsn",
    )
    (dagster_bytes,) = ask(
        "dagster",
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname = 'public'",
    )
    return Used(
        own_cpu_s=time.process_time() + children_cpu_s(),
        postgres_cpu_s=server_cpu_s(status.postgres.pid),
        s3_cpu_s=server_cpu_s(status.s3.pid),
        feature_rows=ask("heimdall", "SELECT count(*) FROM heimdall.measurement_features")[0],
        feature_table_bytes=table,
        feature_index_bytes=index,
        wal_bytes=int(wal),
        events=ask("dagster", "SELECT count(*) FROM event_logs")[0],
        dagster_bytes=int(dagster_bytes),
    )


def grow(
    home: Path, opened: Any, instance: dg.DagsterInstance, name: str, batch_size: int, num_workers: int, total: int
) -> Step:
    """Create or expand a dataset and make what is missing, as `--local` does."""
    before, began = used(home), time.monotonic()
    outcome = request_dataset(opened, name, target_num_samples=total, parameters={"batch_size": batch_size}, seed=1)
    report_request(instance, outcome)
    make_missing(opened, instance, name, num_workers)
    wall_s, after = time.monotonic() - began, used(home)
    num_samples = total - outcome.num_samples_before
    names = [*Used.__dataclass_fields__, "cpu_s"]
    return Step(
        num_samples,
        math.ceil(num_samples / batch_size),
        wall_s,
        {name: getattr(after, name) - getattr(before, name) for name in names},
    )


def fit(steps: list[Step], name: str) -> tuple[float, float]:
    """What is used by the sample and by the batch; least squares of the relative error."""
    terms = np.array([(step.num_samples, step.num_batches) for step in steps], dtype=float)
    amounts = np.array([step.used[name] for step in steps])
    (by_sample, by_batch), *_ = np.linalg.lstsq(terms / amounts[:, None], np.ones(len(steps)))
    return float(by_sample), float(by_batch)


def cpu_of(home: Path, action: Callable[[], Any]) -> float:
    """Processor time of an action, here and in PostgreSQL."""
    server = Stack(home).status().postgres.pid
    before = time.process_time() + server_cpu_s(server)
    action()
    return time.process_time() + server_cpu_s(server) - before


@contextmanager
def running(home: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program beside this one, asked to end at the end."""
    with (home / "bench.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, cwd=PROJECT_FOLDER)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {TIMEOUT_S:.0f} s in vain for {what}")
        time.sleep(0.5)


def measure_runs(home: Path, opened: Any, instance: dg.DagsterInstance) -> Iterator[Row]:
    """What a batch leaves in Dagster's tables when the daemon makes it in a run of its own."""
    total = DEV_BATCHES * DEV_BATCH_SIZE
    asked = request_dataset(
        opened, "by-daemon", target_num_samples=total, parameters={"batch_size": DEV_BATCH_SIZE}, seed=1
    )
    report_request(instance, asked)
    before = used(home)
    done = dg.RunsFilter(job_name=make_synthetic_batches.name, statuses=[dg.DagsterRunStatus.SUCCESS])
    with running(home, *HEIMDALL, "dev", "--port", str(free_port(None, UI_PORTS))):
        wait_until("the batches of by-daemon", lambda: instance.get_runs_count(done) == DEV_BATCHES)
    after = used(home)
    num_events, event_bytes, num_runs = ask(
        "dagster",
        "SELECT count(*)::float, avg(pg_column_size(e.*))::float, count(DISTINCT e.run_id)::float FROM event_logs e"
        " JOIN runs r ON r.run_id = e.run_id WHERE r.pipeline_name = %s",
        make_synthetic_batches.name,
    )
    yield "events of a batch's run", num_events / num_runs, "rows of event_logs"
    yield "such a row", event_bytes, "bytes, without indexes"
    yield "all of Dagster's tables", (after.dagster_bytes - before.dagster_bytes) / num_runs, "bytes a batch's run"
    yield (
        "samples made by runs: processor",
        (after.postgres_cpu_s - before.postgres_cpu_s) / num_runs,
        "s of PostgreSQL",
    )


def measure_growth(home: Path, opened: Any, instance: dg.DagsterInstance, steps: list[Step]) -> Iterator[Row]:
    """Datasets that grow as far as the time allows."""
    began = time.monotonic()
    for name, (batch_size, num_workers, totals) in GROWTH.items():
        last: Step | None = None
        made = 0
        for total in totals:
            if last is not None and made > totals[0]:  # two steps at least
                forecast_s = last.wall_s / last.num_samples * (total - made)
                if time.monotonic() - began + forecast_s > BUDGET_S:
                    break
            last = grow(home, opened, instance, name, batch_size, num_workers, total)
            if made:  # the first step has the IQ of 100 samples
                steps.append(last)
            label = f"{name} {made} to {total}"
            made = total
            yield f"{label}: wall", last.wall_s, "s"
            yield f"{label}: processor", last.per_sample("cpu_s") * 1e3, "ms a sample"
            for part in ("own", "postgres", "s3"):
                yield f"{label}: of it {part}", last.per_sample(f"{part}_cpu_s") * 1e3, "ms a sample"
            yield f"{label}: table", last.per_sample("feature_table_bytes"), "bytes a row"
            yield f"{label}: indexes", last.per_sample("feature_index_bytes"), "bytes a row"
            yield f"{label}: write-ahead log", last.per_sample("wal_bytes"), "bytes a row"
            yield f"{label}: events", last.used["events"] / last.num_batches, "a batch"
            yield f"{label}: Dagster's tables", last.used["dagster_bytes"] / last.num_batches, "bytes a batch"
            yield f"{label}: peak memory so far", peak_mb(), "MB"
            if batch_size == LARGE_BATCH_SIZE:
                summary_s = cpu_of(home, partial(summarise_dataset, opened.database, name))
                yield f"{name} {total}: summary", summary_s / total * 1e3, "ms of processor a sample"
                yield f"{name} {total}: peak memory with it", peak_mb(), "MB"


def measure_rows() -> Iterator[Row]:
    """Bytes of a feature row when there are many: rows that were made, copied under other indices."""
    with connected("heimdall") as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'heimdall'"
            " AND table_name = 'measurement_features' ORDER BY ordinal_position"
        )
        own = {"id": "gen_random_uuid()", "sample_idx": "sample_idx + 1000 * n"}
        columns = ", ".join(own.get(column, f"f.{column}") for (column,) in cursor.fetchall())
        # Unlogged: the write-ahead log of the rows that are made is measured elsewhere.
        cursor.execute("CREATE UNLOGGED TABLE copied (LIKE heimdall.measurement_features INCLUDING ALL)")
        done = 0
        for thousands in ROWS_COPIED:
            cursor.execute(
                f"INSERT INTO copied SELECT {columns} FROM heimdall.measurement_features f"
                " JOIN heimdall.synthetic_datasets d ON d.id = f.dataset_id AND d.name = 'large',"
                " generate_series(%s, %s) AS n WHERE sample_idx < 1000",
                (done, thousands - 1),
            )
            done = thousands
            for kind in ("relation", "table", "indexes"):
                cursor.execute(f"SELECT pg_{kind}_size('copied')::float / count(*), count(*) FROM copied")
                size, num = cursor.fetchone()
                yield f"{num} rows copied: {kind}", size, "bytes a row"
        cursor.execute("DROP TABLE copied")


def measure_backup(home: Path) -> Iterator[Row]:
    """pg_dump of the project's database, compressed as it does by default."""
    settings = load_settings()
    program = Path(psutil.Process(Stack(home).status().postgres.pid).exe()).with_name("pg_dump")
    target = home / "backup"
    before = psutil.Process().cpu_times()
    subprocess.run(
        [
            program,
            "-Fc",
            "-h",
            settings.pg_host,
            "-p",
            str(settings.pg_port),
            "-U",
            settings.pg_user,
            "-f",
            target,
            settings.pg_database,
        ],
        env=os.environ | {"PGPASSWORD": settings.pg_password.get_secret_value()},
        check=True,
    )
    after = psutil.Process().cpu_times()
    (rows,) = ask("heimdall", "SELECT count(*) FROM heimdall.measurement_features")
    yield "backup, pg_dump -Fc", target.stat().st_size / rows, "bytes a row"
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    yield "the same: processor of pg_dump", seconds / rows * 1e6, "us a row"


def measure_partitions(home: Path, opened: Any, instance: dg.DagsterInstance) -> Iterator[Row]:
    """Up to 100,000 partitions, and a dataset of 20,000 batches of which half are committed."""
    size = VAST // VAST_BATCHES
    request_dataset(opened, "vast", target_num_samples=VAST, parameters={"batch_size": size}, seed=1)
    with connected("heimdall") as cursor:
        cursor.execute(
            "INSERT INTO heimdall.synthetic_batches (dataset_id, batch_no, first_sample_idx, num_samples,"
            " partition_key, attempts, generator_version)"
            " SELECT id, n, n * %(size)s, %(size)s, 'vast__' || lpad(n::text, 5, '0'), %(size)s, generator_version"
            " FROM heimdall.synthetic_datasets, generate_series(0, %(half)s - 1) AS n WHERE name = 'vast'",
            {"size": size, "half": VAST_BATCHES // 2},
        )
        cursor.execute("UPDATE heimdall.synthetic_datasets SET num_samples = %s WHERE name = 'vast'", (VAST // 2,))
    vast = get_dataset(opened.database, "vast")
    keys = [*batch_keys(vast), *(f"other__{n:05d}" for n in range(PARTITIONS[-1] - VAST_BATCHES))]
    port = free_port(None, UI_PORTS)
    address = f"http://{LOOPBACK}:{port}"
    workspace = str(PROJECT_FOLDER / "workspace.yaml")
    webserver = ("-m", "dagster_webserver", "-w", workspace, "-h", LOOPBACK, "-p", str(port))
    with running(home, *webserver) as served:
        wait_until("the webserver", lambda: answers(address))
        known = 0
        for num in PARTITIONS:
            added = keys[known:num]
            seconds = cpu_of(home, partial(instance.add_dynamic_partitions, SYNTHETIC_BATCHES, added))
            yield f"add {len(added)} partitions", seconds, "s of processor"
            known = num
            context = dg.build_sensor_context(instance=instance, resources={"stores": opened})
            yield (
                f"{num} partitions: tick",
                cpu_of(home, partial(requested_synthetic_batches, context)),
                "s of processor",
            )
            began, before = time.monotonic(), sum(psutil.Process(served.pid).cpu_times()[:2])
            page_bytes = len(graphql(address, PARTITIONS_QUERY))
            seconds = sum(psutil.Process(served.pid).cpu_times()[:2]) - before
            yield f"{num} partitions: UI's listing", time.monotonic() - began, f"s, {seconds:.2f} of the webserver"
            yield f"{num} partitions: UI's listing", page_bytes / 1e6, "MB"
    listing_s = cpu_of(home, lambda: vast.grid.missing(list_batches(opened.database, vast.id)))
    yield "missing of 20,000 batches, 10,000 there", listing_s, "s of processor"
    yield "list of datasets", cpu_of(home, lambda: list_datasets(opened.database)), "s of processor"


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=2):
            return True
    except OSError:
        return False


def graphql(address: str, query: str) -> bytes:
    body = json.dumps({"query": query}).encode()
    asked = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:
        page: bytes = answer.read()
    if b'"errors"' in page[:200]:
        raise RuntimeError(page[:500].decode())
    return page


def extrapolate(steps: list[Step]) -> Iterator[Row]:
    """Carry the fitted slopes on to a dataset of `VAST` samples."""
    large = [step for step in steps if step.num_samples / step.num_batches == LARGE_BATCH_SIZE]
    num_rows, num_batches = (sum(getattr(step, f"num_{what}") for step in large) for what in ("samples", "batches"))

    def total(name: str) -> float:
        return sum(step.used[name] for step in large)

    cpu_by_sample_s, cpu_by_batch_s = fit(steps, "cpu_s")
    yield "slope: processor", cpu_by_sample_s * 1e3, f"ms a sample, and {cpu_by_batch_s * 1e3:.0f} ms a batch"
    yield f"{VAST} samples: table", total("feature_table_bytes") / num_rows * VAST / 1e9, "GB"
    yield f"{VAST} samples: indexes", total("feature_index_bytes") / num_rows * VAST / 1e9, "GB"
    yield f"{VAST} samples: write-ahead log", total("wal_bytes") / num_rows * VAST / 1e9, "GB"
    for size in BATCH_SIZES:
        what, num = f"{VAST} in batches of {size}", VAST / size
        yield f"{what}: batches", num, "partitions"
        yield f"{what}: processor", (cpu_by_sample_s * VAST + cpu_by_batch_s * num) / 3600, "hours of one core"
        yield f"{what}: events, --local", total("events") / num_batches * num, "rows"
        yield f"{what}: Dagster, --local", total("dagster_bytes") / num_batches * num / 1e9, "GB"


def run() -> Iterator[Row]:
    """Measure: rows of what, how much, in which unit."""
    folder = Path(tempfile.mkdtemp(prefix="heimdall-scale-"))
    folder.chmod(0o755)
    os.environ["HEIMDALL_HOME"] = str(folder / "home")
    os.environ["HEIMDALL_WORKERS"] = "1"
    home = (folder / "home").resolve()
    steps: list[Step] = []
    try:
        with servers(), stores() as opened, dagster_instance() as instance:
            sync_network(opened.database, load_network())
            yield from measure_runs(home, opened, instance)
            yield from measure_growth(home, opened, instance, steps)
            yield from extrapolate(steps)
            yield from measure_rows()
            yield from measure_backup(home)
            yield from measure_partitions(home, opened, instance)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
