"""Benchmarks end what they start."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

PROJECT_FOLDER = Path(__file__).parents[1]


@pytest.mark.timeout(900)  # seconds where little else runs
def test_an_interrupted_benchmark_leaves_no_process():
    marker = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "datasets"],
        cwd=PROJECT_FOLDER,
        env=os.environ | {"HEIMDALL_TEST_MARKER": marker},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a script's & does
    ) as benchmark:
        assert benchmark.stderr is not None
        ready = next(line for line in benchmark.stderr if line.startswith("PostgreSQL"))
        folder = ready.split()[-1]
        started = psutil.Process(benchmark.pid).children(recursive=True)
        assert {"weed", "postgres"} <= {process.name() for process in started}
        benchmark.send_signal(signal.SIGTERM)
        benchmark.send_signal(signal.SIGINT)  # must not interrupt the servers' end
        benchmark.stderr.read()
    assert benchmark.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT)  # pending ones come in either order
    assert [process for process in started if process.is_running()] == []
    assert _marked(marker) == []
    assert not Path(folder).exists()


def _marked(marker: str) -> list[psutil.Process]:
    """Processes that inherited the environment variable."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HEIMDALL_TEST_MARKER") == marker:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
