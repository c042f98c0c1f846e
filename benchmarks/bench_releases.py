"""Releases, exports, verification and loaders, beside what no such work can avoid.

Most samples of the large dataset are copies of a few by SQL: that changes no time of an export. Those that are
verified are real, since some are regenerated.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jupytext
import numpy as np
from nbclient import NotebookClient
from sqlalchemy import text

from benchmarks.rounds import NUM_ROUNDS, SMALL, compare, timed
from benchmarks.stack import scratch_folder, stores_and_workers
from heimdall_pipelines.datasets.generating import make_batch
from heimdall_pipelines.datasets.requesting import request_dataset
from heimdall_pipelines.learning.arrays import load_arrays
from heimdall_pipelines.learning.folder import ExportFolder
from heimdall_pipelines.learning.torch_data import FeatureDataset, IqDataset, stack
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.releasing import release_dataset
from heimdall_pipelines.releases.verifying import verify_export
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.releases import stored_iq_sums

NUM_WORKERS = 2
NUM_REAL = 60 if SMALL else 2000  # samples; a hundredth of them is regenerated
NUM_EXPORTED = 600 if SMALL else 20_000
NUM_OF_MEMORY = 600 if SMALL else 100_000
NUM_WITH_IQ = 5 if SMALL else 50
EXPORTS = 2 if SMALL else 5  # rounds
BATCH = 512
NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "learning.md"
# Exports in a process of its own and prints its peak memory in MB.
MEMORY = """
import sys
from pathlib import Path
from benchmarks.stack import peak_mb
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores
with open_stores(load_settings()) as stores:
    export_dataset(stores, sys.argv[1], Path(sys.argv[2]), force=True)
print(peak_mb())
"""


def run() -> Iterator[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    with stores_and_workers(NUM_WORKERS) as (stores, workers), scratch_folder() as folder:
        yield from verifying(stores, workers, folder)
        yield from exporting(stores, folder)
        yield from iq(stores, workers, folder)
        yield from notebook(folder)


def made(stores, workers, name, num_samples, **parameters):
    """A dataset with all its samples; returns it and the seconds that they took."""
    dataset = request_dataset(stores, name, target_num_samples=num_samples, parameters=parameters, seed=1).dataset
    begun = time.perf_counter()
    for batch_no in range(dataset.grid.num_batches):
        make_batch(stores, name, batch_no, workers)
    return dataset, time.perf_counter() - begun


def verifying(stores, workers, folder):
    """Release and verification beside making the samples."""
    made(stores, workers, "warm", 20)
    dataset, making_s = made(stores, workers, "night", NUM_REAL)
    begun = time.perf_counter()
    release_dataset(stores, "night", force=True)
    releasing_s = time.perf_counter() - begun
    export_dataset(stores, "night@1", folder / "night", force=True)
    rows_s = timed(lambda: verify_export(folder / "night", share=0), EXPORTS)()
    begun = time.perf_counter()
    found = verify_export(folder / "night", share=0.01, seed=1, num_workers=NUM_WORKERS)
    verifying_s = time.perf_counter() - begun
    assert found.passed, found.problems
    yield "samples made", 1e3 * making_s / NUM_REAL, f"ms each, {NUM_REAL} with {dataset.dataset_type}"
    yield "release", 1e3 * releasing_s / NUM_REAL, "ms a sample"
    yield "verify, files and root", 1e3 * rows_s / NUM_REAL, "ms a sample"
    yield "verify of 1 %", verifying_s / making_s, "of the time of making all samples, limit 1.2"
    yield "its regeneration", (verifying_s - rows_s) / found.num_regenerated * NUM_REAL / making_s, "of making the same"


def exporting(stores, folder):
    """Export of features beside COPY, and its memory."""
    multiply(stores, "night", NUM_EXPORTED)
    release_dataset(stores, "night", version=2, force=True)
    dataset_id = request_dataset(stores, "night", target_num_samples=None).dataset.id

    def export_s():
        return export_once_s(stores, "night@2", folder / "large")

    def copy():
        with stores.database.transaction() as connection, (folder / "copy.txt").open("wb") as file:
            cursor = connection.connection.cursor()
            cursor.copy_expert(
                f"COPY (SELECT * FROM heimdall.measurement_features WHERE dataset_id = '{dataset_id}'"
                " ORDER BY sample_idx) TO STDOUT",
                file,
            )

    export_s()
    compared = compare(export_s, timed(copy), EXPORTS)
    yield compared.row(f"export of {NUM_EXPORTED} samples", "times COPY to a file, limit 3")
    yield "COPY", 1e3 * min(compared.beside) / NUM_EXPORTED, "ms a sample"
    yield from loading(folder / "large")
    multiply(stores, "night", NUM_OF_MEMORY)
    output = subprocess.run(
        [sys.executable, "-c", MEMORY, "night", str(folder / "largest")], check=True, capture_output=True, text=True
    ).stdout
    yield f"memory of an export of {NUM_OF_MEMORY}", float(output), "MB at most, limit 500"


def export_once_s(stores, name, folder, **more):
    """Seconds of an export, without the removal of the one before it."""
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.perf_counter()
    export_dataset(stores, name, folder, force=True, **more)
    return time.perf_counter() - begun


def multiply(stores, name, num_samples):
    """Copy a dataset's rows until it has so many samples."""
    dataset = request_dataset(stores, name, target_num_samples=None).dataset
    with stores.database.transaction() as connection:
        have = connection.execute(
            text("SELECT count(*) FROM heimdall.measurement_features WHERE dataset_id = :id"), {"id": dataset.id}
        ).scalar_one()
        others = {"id": "gen_random_uuid()", "sample_idx": f"sample_idx + k * {have}"}
        times = range(1, num_samples // have)
        _copy(connection, "measurement_features", others, dataset.id, times)
        last = connection.execute(
            text("SELECT max(batch_no) FROM heimdall.synthetic_batches WHERE dataset_id = :id"), {"id": dataset.id}
        ).scalar_one()
        others = {
            "batch_no": f"batch_no + k * {last + 1}",
            "first_sample_idx": f"first_sample_idx + k * {have}",
            "partition_key": f"partition_key || '-{have}-' || k",
        }
        _copy(connection, "synthetic_batches", others, dataset.id, times)


def _copy(connection, table, others, dataset_id, times):
    names = connection.execute(
        text("SELECT attname FROM pg_attribute WHERE attrelid = CAST(:name AS regclass) AND attnum > 0"),
        {"name": f"heimdall.{table}"},
    ).scalars()
    columns = list(names)
    chosen = ", ".join(others.get(name, name) for name in columns)
    connection.execute(
        text(
            f"INSERT INTO heimdall.{table} ({', '.join(columns)}) SELECT {chosen}"
            f" FROM heimdall.{table}, generate_series({times.start}, {times.stop - 1}) k WHERE dataset_id = :id"
        ),
        {"id": dataset_id},
    )


def loading(folder):
    """Batches of features beside indexing the same arrays."""
    arrays = load_arrays(ExportFolder.open(folder))
    data = FeatureDataset(arrays)
    columns = data.__getitems__(range(len(data)))
    order = np.random.default_rng(0).permutation(len(data))
    batches = [order[start : start + BATCH].tolist() for start in range(0, len(order), BATCH)]

    def load():
        for batch in batches:
            stack(data.__getitems__(batch))

    def index():
        for batch in batches:
            at = np.asarray(batch)
            for values in columns.values():
                values[at]

    compared = compare(timed(load), timed(index), NUM_ROUNDS)
    yield compared.row("loader of features", f"times indexing, batches of {BATCH}, limit 2")


def iq(stores, workers, folder):
    """IQ: export beside reading the objects, loader beside reading the files."""
    dataset, _ = made(stores, workers, "iq", NUM_WITH_IQ, dataset_type="iq_raw")
    with stores.database.transaction() as connection:
        stored = list(stored_iq_sums(connection, dataset.id, 0, NUM_WITH_IQ))
    bucket = stores.objects.synthetic_iq_bucket
    places = [(ObjectLocation(bucket, key), 8 * one.num_samples) for one in stored for key in one.keys.values()]

    def export_s():
        return export_once_s(stores, "iq", folder / "iq", iq="stored")

    def read():
        for location, size_bytes in places:
            stores.objects.read(location, 0, size_bytes)

    export_s()
    compared = compare(export_s, timed(read), EXPORTS)
    yield compared.row(f"export of IQ, {len(places)} objects", "times reading the objects, limit 1.43")
    size_mb = sum(size_bytes for _, size_bytes in places) / 1e6
    yield "reading the objects", size_mb / min(compared.beside), "MB/s"
    folder_of_export = ExportFolder.open(folder / "iq")
    data = IqDataset(folder_of_export, load_arrays(folder_of_export))
    rows = folder_of_export.table("iq", ["sample_idx", "num_samples", "shard", "offset_bytes"]).to_pylist()

    def load():
        for index in range(len(data)):
            data.__getitems__([index])

    def read_files():
        for row in rows:
            np.fromfile(folder / "iq" / row["shard"], "<c8", row["num_samples"], offset=row["offset_bytes"])

    compared = compare(timed(load), timed(read_files), 5 * EXPORTS)
    yield compared.row("loader of IQ", "times reading the files, limit 1.25")


def notebook(folder):
    """The notebook that trains a model, with its dataset, export and baselines."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        os.environ[name] = str(folder / name.lower())
    pages = jupytext.read(NOTEBOOK)
    begun = time.perf_counter()
    client = NotebookClient(pages, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    outputs = [json.dumps(cell.get("outputs", ())) for cell in pages.cells]
    assert any("robust TDoA" in output for output in outputs)
    yield "notebook of learning", time.perf_counter() - begun, "s, limit 120"
