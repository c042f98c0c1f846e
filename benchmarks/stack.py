"""The folder and the embedded stack that a benchmark has for itself."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that any user may enter, PostgreSQL's too; it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="heimdall-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def stores_and_workers(num_workers):
    """Stores with the network's stations on a stack of its own, and workers that are ready."""
    # Imported here: processes of which memory is measured import this module for the folder.
    from heimdall_pipelines.datasets.workers import Workers
    from heimdall_pipelines.local.stack import Stack
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.stations.network import load_network, sync_network
    from heimdall_pipelines.store.migrate import migrate
    from heimdall_pipelines.store.stores import open_stores

    with scratch_folder() as folder, Stack(folder / "home").use() as environment:
        os.environ.update(environment)
        with open_stores(load_settings()) as stores, Workers(num_workers) as workers:
            migrate(stores.database)
            stores.objects.create_buckets()
            sync_network(stores.database, load_network())
            workers.start()
            yield stores, workers
