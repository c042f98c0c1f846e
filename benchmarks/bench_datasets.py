"""Synthetic datasets on the embedded stack: what storing adds to computing, how cost grows, what a second worker gives.

Compute means: the same samples drawn, synthesised and reduced to feature rows by the same workers, which are then
dropped. Upload means: the same objects put by as many connections, with nothing else to do. Both are timed in turn with
what they are compared with. Processor time is given beside wall time: it says which process to look at, and other work
on the machine changes it less.
"""

import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import psutil

from benchmarks.rounds import SMALL, Comparison, compare, timed
from benchmarks.stack import stores_and_workers
from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.datasets.generating import make_batch
from heimdall_pipelines.datasets.iq_files import iq_file
from heimdall_pipelines.datasets.requesting import request_dataset
from heimdall_pipelines.datasets.samples import Recipe, draw_sample, make_sample, sample_receptions
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.iq_objects import put_iq, sample_iq_location
from heimdall_pipelines.store.sample_rows import feature_row_json

NUM_WORKERS = 2
SAMPLES_PER_TASK = 10
ROUNDS = 2 if SMALL else 5
NUM_COMPARED = 20 if SMALL else 200
BATCH_SIZE = 50 if SMALL else 1000
NUM_BATCHES = 3 if SMALL else 10
NUM_FIRST_ROUNDS = 1 if SMALL else 3
NUM_IQ_RAW = 5 if SMALL else 50
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
        feature_row_json(task.recipe.dataset_id, make_sample(task.recipe, drawn))
    return len(task.sample_idxs)


def compute_all(recipe, first, num_samples, workers):
    """Compute samples with the workers."""
    starts = range(first, first + num_samples, SAMPLES_PER_TASK)
    tasks = [Compute(recipe, range(s, min(s + SAMPLES_PER_TASK, first + num_samples))) for s in starts]
    assert sum(result or 0 for result in workers.map(compute, tasks)) == num_samples


def store_all(stores, name, workers):
    """Make and store a dataset's missing batches."""
    dataset = request_dataset(stores, name, target_num_samples=None).dataset
    for span in dataset.grid.missing(list_batches(stores.database, dataset.id)):
        make_batch(stores, name, span.batch_no, workers)


def upload_s(stores, recipe, num_samples):
    """Seconds that storing the objects alone takes; they are made before, one after the other."""
    sites = recipe.sites
    drawn = draw_sample(recipe, 0, 1000)
    files = [
        iq_file(recipe, 0, site, heard.iq.copy())
        for site, heard in zip(sites, sample_receptions(recipe, drawn), strict=True)
    ]

    def put(sample_idx):
        for site, file in zip(sites, files, strict=True):
            location = sample_iq_location(stores.objects, "upload", sample_idx, site.rx_id)
            put_iq(stores.objects, location, io.BytesIO(file.data), len(file.data), file.sigmf)

    begun = time.perf_counter()
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
        list(threads.map(put, range(num_samples)))
    return time.perf_counter() - begun


def processor_s():
    """Seconds of processor so far, by process: this one, its workers, the servers."""
    own = psutil.Process()
    used: Counter[str] = Counter()
    for process in [own, *own.children(recursive=True)]:
        try:
            name = (
                "parent" if process == own else {"weed": "S3", "postgres": "PostgreSQL"}.get(process.name(), "workers")
            )
            used[name] += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return used


def using(used, work):
    """Seconds that work takes; its processor time is added to what was used."""
    before, begun = processor_s(), time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    used.update(processor_s() - before)
    return seconds


def processor_row(what, stored, computed, num_samples):
    """Row of the processor time of a stored sample, by process."""
    parts = ", ".join(f"{name} {1e3 * seconds / num_samples:.1f}" for name, seconds in sorted(stored.items()))
    total_s = stored.total()
    return what, 1e3 * total_s / num_samples, f"ms a sample: {parts}; {total_s / computed.total():.2f} times compute's"


@contextmanager
def peak_memory_mb(interval_s=0.05):
    """Peak memory of this process and its workers together, seen by looking often; a list whose last entry it is."""
    found = [0.0]
    stop = threading.Event()

    def look():
        own = psutil.Process()
        while not stop.wait(interval_s):
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
        parameters = {"batch_size": BATCH_SIZE} | parameters
        return Recipe.of(request_dataset(stores, name, target_num_samples=total, parameters=parameters, seed=1).dataset)

    recipe = ask("warm", 120)
    store_all(stores, "warm", workers)

    with Workers(1) as alone:
        yield compare(
            timed(lambda: compute_all(recipe, 0, NUM_COMPARED, alone)),
            timed(lambda: compute_all(recipe, 0, NUM_COMPARED, workers)),
            ROUNDS,
        ).row(f"{NUM_WORKERS} workers over 1", "times as fast")

    names = (f"first-{number}" for number in count())
    stored, computed = Counter(), Counter()

    def store_first():
        name = next(names)
        ask(name, BATCH_SIZE)
        seconds = using(stored, lambda: store_all(stores, name, workers))
        delete_dataset(stores, name)
        return seconds

    first = compare(
        store_first, lambda: using(computed, lambda: compute_all(recipe, 0, BATCH_SIZE, workers)), NUM_FIRST_ROUNDS
    )
    yield first.row(f"first {BATCH_SIZE} samples x 7, stored", "times compute")
    yield processor_row("the same, processor", stored, computed, BATCH_SIZE * NUM_FIRST_ROUNDS)

    with peak_memory_mb(interval_s=1.0) as peak_mb:  # looking takes 3 ms of processor
        recipe = ask("grows", NUM_BATCHES * BATCH_SIZE)
        batches, starts = count(), count(0, BATCH_SIZE)
        stored, computed = Counter(), Counter()
        whole = compare(
            lambda: using(stored, lambda: make_batch(stores, "grows", next(batches), workers)),
            lambda: using(computed, lambda: compute_all(recipe, next(starts), BATCH_SIZE, workers)),
            NUM_BATCHES,
        )
        delete_dataset(stores, "grows")
    total = NUM_BATCHES * BATCH_SIZE
    yield from [
        (f"{total} samples x 7, stored", sum(whole.seconds), f"s, {1e3 * sum(whole.seconds) / total:.1f} ms a sample"),
        (f"{total} samples x 7, compute", sum(whole.beside), f"s, {1e3 * sum(whole.beside) / total:.1f} ms a sample"),
        (f"{total} samples x 7, stored", sum(whole.seconds) / sum(whole.beside), "times compute, batch by batch"),
        processor_row("the same, processor", stored, computed, total),
        Comparison(whole.seconds[1:], whole.beside[1:]).row("its batches without IQ, stored", "times compute"),
        ("feature_based batches", peak_mb[-1], "MB peak, all processes"),
    ]

    names = (f"raw-{number}" for number in count())
    recipe = ask("raw", NUM_IQ_RAW, **RAW)

    def store_raw():
        name = next(names)
        ask(name, NUM_IQ_RAW, **RAW)
        seconds = using(Counter(), lambda: store_all(stores, name, workers))
        delete_dataset(stores, name)
        return seconds

    with peak_memory_mb() as peak_mb:
        raw = compare(
            store_raw,
            lambda: max(
                upload_s(stores, recipe, NUM_IQ_RAW),
                timed(lambda: compute_all(recipe, 0, NUM_IQ_RAW, workers), warm=0)(),
            ),
            ROUNDS,
        )
    yield from [
        (f"iq_raw, {NUM_IQ_RAW} samples x 7, stored", min(raw.seconds), "s"),
        raw.row("the same", "times the longer of upload and compute"),
        ("iq_raw batches", peak_mb[-1], "MB peak, all processes"),
    ]


def run() -> Iterator[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    with stores_and_workers(NUM_WORKERS) as (stores, workers):
        yield from measure(stores, workers)
