"""Checks and repair of datasets on the embedded stack: beside what making the samples takes, and what grows with them.

A million objects cannot be stored for this: `listing_server` plays the store that lists them, beside real rows. What
the store itself would take to list them is not in these figures.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
from sqlalchemy import text

from benchmarks.bench_datasets import peak_memory_mb
from benchmarks.stack import stores_and_workers
from heimdall_pipelines.datasets.checking_rows import check_rows
from heimdall_pipelines.datasets.checks import check_batch, check_dataset
from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.datasets.findings import DATASET_CHECKS, Findings
from heimdall_pipelines.datasets.generating import make_batch
from heimdall_pipelines.datasets.object_checks import check_objects
from heimdall_pipelines.datasets.repair import repair_dataset
from heimdall_pipelines.datasets.requesting import request_dataset
from heimdall_pipelines.datasets.samples import Recipe, draw_sample, make_sample
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.dataset_snapshot import open_snapshot
from heimdall_pipelines.store.iq_form import NEW_FORM
from heimdall_pipelines.store.iq_objects import dataset_iq_prefix
from heimdall_pipelines.store.stores import open_stores

NUM_WORKERS = 2
RUNS = 3
BATCH_SIZE = 100  # of a feature_based dataset: the first batch has IQ, the second none
NUM_RAW = 50
RAW = {"dataset_type": "iq_raw"}
NUM_RECEIVERS = 7
NUM_OBJECTS = (10_000, 100_000, 1_000_000)  # half of them sidecars


def seconds_of(call):
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def median_s(call):
    """Median duration of a call; the first makes it warm."""
    return statistics.median([seconds_of(call) for _ in range(1 + RUNS)][1:])


def ask(stores, name, total, **parameters):
    return request_dataset(stores, name, target_num_samples=total, parameters=parameters, seed=1).dataset


def rows_and_batches(stores, workers):
    """Checks beside making: batches with and without IQ, and the whole dataset."""
    name = "checked"
    recipe = Recipe.of(ask(stores, name, 2 * BATCH_SIZE, batch_size=BATCH_SIZE))

    def make_rows():
        for sample_idx in range(BATCH_SIZE):
            make_sample(recipe, draw_sample(recipe, sample_idx, 1000))

    def look_at_rows():
        with open_snapshot(stores.database, name) as look:
            found = Findings.begin(look.dataset, tuple(DATASET_CHECKS))
            check_rows(look, found, BATCH_SIZE, 2 * BATCH_SIZE, lambda _: None)

    no_iq_s = median_s(lambda: make_batch(stores, name, 1, workers))  # first: it makes the workers warm
    made_s = [statistics.median(seconds_of(lambda: make_batch(stores, name, 0, workers)) for _ in range(RUNS)), no_iq_s]
    looked_s = [median_s(lambda batch_no=batch_no: check_batch(stores, name, batch_no)) for batch_no in (0, 1)]
    dataset_s = median_s(lambda: check_dataset(stores, name, seed=1))
    rows_s = median_s(look_at_rows)
    thread_s = median_s(make_rows)
    delete_dataset(stores, name)
    per_sample = 1e3 / BATCH_SIZE
    return [
        ("check of rows", rows_s * per_sample, "ms a sample of 7 receivers"),
        ("check of rows", rows_s / thread_s, "times making them in one process, unstored"),
        ("check of a batch without IQ", looked_s[1] * per_sample, "ms a sample"),
        ("check of a batch without IQ", looked_s[1] / made_s[1], "times making and storing it, two workers"),
        ("check of a batch with IQ", looked_s[0] * per_sample, "ms a sample"),
        ("check of a batch with IQ", looked_s[0] / made_s[0], "times making and storing it, two workers"),
        ("check of the dataset, half with IQ", dataset_s * per_sample / 2, "ms a sample"),
        ("check of the dataset, half with IQ", dataset_s / sum(made_s), "times making and storing it, two workers"),
    ]


def repair_and_checksums(stores, workers):
    """Objects regenerated, and objects read."""
    name = "repaired"
    dataset = ask(stores, name, NUM_RAW, **RAW)
    made_s, read_s, repaired_s = [], [], []
    for _ in range(RUNS):
        made_s.append(seconds_of(lambda: make_batch(stores, name, 0, workers)))
        begun = time.perf_counter()
        found = check_dataset(stores, name, checksums=True, seed=1)
        read_s.append(time.perf_counter() - begun)
        assert all(outcome.passed for outcome in found.outcomes.values())
        stores.objects.remove(stores.objects.synthetic_iq_bucket, dataset_iq_prefix(dataset.id))
        begun = time.perf_counter()
        plan = repair_dataset(stores, name, workers)
        repaired_s.append(time.perf_counter() - begun)
        assert len(plan.to_regenerate) == NUM_RAW
    delete_dataset(stores, name)
    made, read, repaired = map(statistics.median, (made_s, read_s, repaired_s))
    return [
        ("repair: objects regenerated", NUM_RAW * NUM_RECEIVERS / repaired, "a second, each 1.6 MB and its sidecar"),
        ("repair of all samples", repaired / made, "times making them first"),
        ("validation with checksums", found.object_bytes / 1e6 / read, "MB/s read and compared"),
    ]


def list_rows(stores, name, num_samples):
    """Rows of a dataset whose objects are only listed; its truth is that of one real sample."""
    dataset = ask(stores, name, num_samples, **RAW)
    recipe = Recipe.of(dataset)
    with stores.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO heimdall.synthetic_iq_samples (dataset_id, sample_idx, timestamp, truth,"
                " receivers_metadata, iq_metadata, iq_storage_paths)"
                " SELECT CAST(:id AS uuid), i, now(), CAST(:truth AS jsonb), '[]', jsonb_build_object("
                " 'format', CAST(:format AS text), 'num_samples', CAST(:num_iq AS integer),"
                " 'sha256', objects.sha256, 'etag', objects.etag), objects.paths"
                " FROM generate_series(0, CAST(:num AS integer) - 1) AS i CROSS JOIN LATERAL ("
                "   SELECT jsonb_object_agg(rx_id, key) AS paths, jsonb_object_agg(rx_id, md5(key)) AS etag,"
                "   jsonb_object_agg(rx_id, md5(key) || md5(key)) AS sha256"
                "   FROM (SELECT rx_id, :prefix || i || '/' || rx_id || :suffix AS key"
                "   FROM unnest(CAST(:rx_ids AS text[])) AS rx_id) AS receivers) AS objects"
            ),
            {
                "id": str(dataset.id),
                "truth": json.dumps(make_sample(recipe, draw_sample(recipe, 0, 1000)).truth.to_json()),
                "num": num_samples,
                "num_iq": recipe.spec.num_iq_samples,
                "prefix": dataset_iq_prefix(dataset.id),
                "format": NEW_FORM.value,
                "suffix": NEW_FORM.suffix,
                "rx_ids": [site.rx_id for site in recipe.sites],
            },
        )
    with stores.database.transaction() as connection:
        connection.execute(text("ANALYZE heimdall.synthetic_iq_samples"))
    return recipe


@contextmanager
def listing_server(recipe, num_samples):
    """The address of a store that lists objects of this many samples."""
    num_bytes = NEW_FORM.object_bytes(recipe.spec.num_iq_samples)
    arguments = [dataset_iq_prefix(recipe.dataset_id), num_samples, num_bytes, *(site.rx_id for site in recipe.sites)]
    command = [sys.executable, "-m", "benchmarks.listing_server", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def look_at_objects(name):
    """Compare a dataset's objects with its rows in this process; what it took."""
    with open_stores(load_settings()) as stores, open_snapshot(stores.database, name) as look:
        found = Findings.begin(look.dataset, tuple(DATASET_CHECKS))
        before_mb = psutil.Process().memory_info().rss / 1e6
        begun = time.perf_counter()
        with peak_memory_mb() as peak_mb:  # the kernel's own peak begins with that of the parent
            check_objects(stores, look, found, lambda _: None, checksums=False)
        seconds = time.perf_counter() - begun
    outcome = found.outcomes["objects_agree"]
    assert outcome.passed, outcome.examples
    num_objects = outcome.numbers["objects"] + outcome.numbers["sidecars"]
    return {"num": num_objects, "seconds": seconds, "peak_mb": peak_mb[-1], "more_mb": peak_mb[-1] - before_mb}


def objects_beside_rows(stores):
    """The check of objects in a process of its own, so that its peak of memory is its own."""
    for num_objects in NUM_OBJECTS:
        name = f"listed-{num_objects}"
        num_samples = -(-num_objects // (2 * NUM_RECEIVERS))
        recipe = list_rows(stores, name, num_samples)
        with listing_server(recipe, num_samples) as endpoint:
            command = [sys.executable, "-m", "benchmarks.bench_checks", name]
            environment = os.environ | {"HEIMDALL_S3_ENDPOINT": endpoint}
            answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        looked = json.loads(answer.stdout.splitlines()[-1])
        assert looked["num"] >= num_objects
        what = f"{num_objects:,} objects beside rows"
        yield (what, looked["seconds"], "s, the listing played")
        yield (what, looked["peak_mb"], f"MB peak, {looked['more_mb']:.1f} more than before it began")


def run():
    """Measure: rows of what, how much, in which unit."""
    with stores_and_workers(NUM_WORKERS) as (stores, workers):
        yield from rows_and_batches(stores, workers)
        yield from repair_and_checksums(stores, workers)
        yield from objects_beside_rows(stores)


if __name__ == "__main__":
    print(json.dumps(look_at_objects(sys.argv[1])))
