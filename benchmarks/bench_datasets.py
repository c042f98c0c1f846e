"""Synthetic datasets on the embedded stack: what storing adds to computing, how cost grows, what a second worker gives.

Compute means: the same samples drawn, synthesised and reduced to feature rows by the same workers, which are then
dropped. Upload means: the same objects put by as many connections, with nothing else to do.
"""

import io
import os
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.stack import stores_and_workers
from heimdall_pipelines.datasets.batches import missing_batches
from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.datasets.generating import make_batch
from heimdall_pipelines.datasets.iq_files import iq_file
from heimdall_pipelines.datasets.requesting import request_dataset
from heimdall_pipelines.datasets.samples import Recipe, draw_sample, hear_sample, make_sample
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.store.batches import feature_row_json, list_batches
from heimdall_pipelines.store.iq_objects import put_iq, sample_iq_location

NUM_WORKERS = 2
RUNS = 3
SAMPLES_PER_TASK = 10
NUM_COMPARED = 300
NUM_IQ_RAW = 50
UPLOADS_AT_ONCE = 4 * NUM_WORKERS
RAW = {"dataset_type": "iq_raw"}


@dataclass(frozen=True)
class Compute:
    """Some samples to be computed and dropped."""

    recipe: Recipe
    sample_idxs: range


def compute(task):
    """Everything of a sample but its storage; runs in the workers."""
    for sample_idx in task.sample_idxs:
        drawn = draw_sample(task.recipe, sample_idx, 1000)
        feature_row_json(task.recipe.dataset_id, task.recipe.dataset_id, make_sample(task.recipe, drawn))
    return len(task.sample_idxs)


def compute_s(recipe, first, num_samples, workers):
    """Seconds that the workers take to compute samples."""
    starts = range(first, first + num_samples, SAMPLES_PER_TASK)
    tasks = [Compute(recipe, range(s, min(s + SAMPLES_PER_TASK, first + num_samples))) for s in starts]
    begun = time.perf_counter()
    assert sum(result or 0 for result in workers.map(compute, tasks)) == num_samples
    return time.perf_counter() - begun


def store_s(stores, name, workers):
    """Seconds that making and storing a dataset's missing batches takes."""
    dataset = request_dataset(stores, name, target_num_samples=None).dataset
    begun = time.perf_counter()
    for span in missing_batches(dataset, list_batches(stores.database, dataset.id)):
        make_batch(stores, name, span.batch_no, workers)
    return time.perf_counter() - begun


def upload_s(stores, recipe, num_samples):
    """Seconds that storing the objects alone takes; they are made before, one after the other."""
    sites = recipe.sites
    drawn = draw_sample(recipe, 0, 1000)
    files = [
        iq_file(recipe, 0, site, heard.iq.copy()) for site, heard in zip(sites, hear_sample(recipe, drawn), strict=True)
    ]

    def put(sample_idx):
        for site, file in zip(sites, files, strict=True):
            location = sample_iq_location(stores.objects, "upload", sample_idx, site.rx_id)
            put_iq(stores.objects, location, io.BytesIO(file.npy), len(file.npy), file.sigmf)

    begun = time.perf_counter()
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
        list(threads.map(put, range(num_samples)))
    return time.perf_counter() - begun


def s3_server_s():
    """Seconds of processor that the S3 server has used so far."""
    servers = [child for child in psutil.Process().children() if child.name() == "weed"]
    return sum(sum(server.cpu_times()[:2]) for server in servers)


@contextmanager
def peak_memory_mb():
    """Peak memory of this process and its workers together, looked at every 50 ms; a list whose last entry it is."""
    found = [0.0]
    stop = threading.Event()

    def look():
        own = psutil.Process()
        while not stop.wait(0.05):
            total = 0
            for process in [own, *(child for child in own.children() if child.name().startswith("python"))]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            found.append(max(found[-1], total / 1e6))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        stop.set()
        watcher.join()


def measure(stores, workers):
    """Rows of what, how much, in which unit."""

    def ask(name, total, **parameters):
        return Recipe.of(request_dataset(stores, name, target_num_samples=total, parameters=parameters, seed=1).dataset)

    recipe = ask("warm", 120)
    store_s(stores, "warm", workers)

    with Workers(1) as alone:
        ratios = []
        for run in range(RUNS):
            one_s = compute_s(recipe, NUM_COMPARED * run, NUM_COMPARED, alone)
            ratios.append(one_s / compute_s(recipe, NUM_COMPARED * run, NUM_COMPARED, workers))
        yield (f"{NUM_WORKERS} workers over 1", statistics.median(ratios), "times as fast")

    ratios, no_iq, server_shares = [], [], []
    for run in range(RUNS):
        recipe = ask(f"thousand-{run}", 1000)
        pure_s = compute_s(recipe, 0, 1000, workers)
        server_before_s = s3_server_s()
        seconds = store_s(stores, f"thousand-{run}", workers)
        server_shares.append((s3_server_s() - server_before_s) / (os.cpu_count() * seconds))
        ratios.append(seconds / pure_s)
        ask(f"thousand-{run}", 2000)
        pure_s = compute_s(recipe, 1000, 1000, workers)
        no_iq.append(store_s(stores, f"thousand-{run}", workers) / pure_s)
        delete_dataset(stores, f"thousand-{run}")
    yield from [
        ("first 1000 samples x 7, stored", statistics.median(ratios), "times compute (100 of them with IQ)"),
        ("the S3 server's share of it", statistics.median(server_shares), "of all cores' time"),
        ("next 1000 samples x 7, stored", statistics.median(no_iq), "times compute (none with IQ)"),
    ]

    with peak_memory_mb() as peak_mb:
        for total in (100, 1000, 10_000):
            recipe = ask(f"grows-{total}", total)
            pure_s = compute_s(recipe, 0, total, workers) if total < 10_000 else None
            seconds = store_s(stores, f"grows-{total}", workers)
            yield (f"{total} samples x 7, stored", seconds, f"s, {seconds / total * 1e3:.1f} ms a sample")
            if pure_s is not None:
                yield (f"{total} samples x 7, compute", pure_s, f"s, {pure_s / total * 1e3:.1f} ms a sample")
            delete_dataset(stores, f"grows-{total}")
    yield ("feature_based batches", peak_mb[-1], "MB peak, all processes")

    ratios = []
    with peak_memory_mb() as peak_mb:
        for run in range(RUNS):
            recipe = ask(f"raw-{run}", NUM_IQ_RAW, **RAW)
            seconds = store_s(stores, f"raw-{run}", workers)
            alone_s = upload_s(stores, recipe, NUM_IQ_RAW)
            ratios.append(seconds / max(alone_s, compute_s(recipe, 0, NUM_IQ_RAW, workers)))
            delete_dataset(stores, f"raw-{run}")
    yield from [
        (f"iq_raw, {NUM_IQ_RAW} samples x 7, stored", seconds, "s"),
        (f"iq_raw, {NUM_IQ_RAW} samples x 7, stored", statistics.median(ratios), "times upload alone"),
        ("iq_raw batches", peak_mb[-1], "MB peak, all processes"),
    ]


def run() -> Iterator[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    with stores_and_workers(NUM_WORKERS) as (stores, workers):
        yield from measure(stores, workers)
