"""The folder and the embedded stack that a benchmark has for itself, and the end of everything that it started."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

END_TIMEOUT_S = 30.0


@contextmanager
def nothing_left_running() -> Iterator[None]:
    """End every process that was started inside, also after Ctrl-C or SIGTERM, which then ends this process.

    The signal unwinds the benchmark, whose contexts stop their servers in order; what is left is ended here.
    """
    started: set[psutil.Process] = set()

    def unwind(signal_no: int, _: object) -> None:
        for number in previous:
            signal.signal(number, lambda *_: None)  # a second signal must not interrupt the servers' end
        started.update(psutil.Process().children(recursive=True))
        raise SystemExit(128 + signal_no)

    # Also where a script that started us in the background has SIGINT ignored.
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, unwind)
    try:
        yield
    finally:
        started.update(psutil.Process().children(recursive=True))
        _end(started)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end(processes: set[psutil.Process]) -> None:
    """End processes, by force where they do not end by SIGTERM."""
    left = [process for process in processes if process.is_running()]
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in left:
            try:
                end(process)
            except psutil.NoSuchProcess:
                continue
        _, left = psutil.wait_procs(left, timeout=END_TIMEOUT_S)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that any user may enter, PostgreSQL's too; it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="heimdall-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def memory_mb(field: str, process: int | str = "self") -> float:
    """Memory of a process by a field of its status on Linux, such as VmRSS or RssAnon; 0 of one that has ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:")), 0.0)


def peak_mb() -> float:
    """Peak memory of this process alone: on Linux ru_maxrss begins at that of the process that started it."""
    if Path("/proc/self/status").exists():
        return memory_mb("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # in bytes on macOS


def answer_of(module: str, environment: Mapping[str, str], what: str, *arguments: object) -> Any:
    """Run a benchmark's module in a process of its own, with a name and arguments as JSON: what it prints last."""
    command = [sys.executable, "-m", module, what, json.dumps(arguments)]
    ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{module} {what}: {ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


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
            print(f"PostgreSQL, S3 and {num_workers} workers run in {folder}", file=sys.stderr, flush=True)
            yield stores, workers
