"""Benchmarks end what they start, and compare what they time in turn."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

from benchmarks.rounds import Comparison, compare
from heimdall_pipelines_tests import PROJECT_FOLDER


def test_a_disturbed_round_changes_neither_ratio_nor_median():
    # The third round came while something else ran: its ratio is 10, all others are 2.
    disturbed = Comparison(seconds=(2.0, 4.0, 20.0, 2.0, 2.0), beside=(1.0, 2.0, 2.0, 1.0, 1.0))
    assert disturbed.ratio == 2.0
    assert disturbed.quartiles == (2.0, 2.0, 2.0)
    assert disturbed.row("a", "times as long") == ("a", 2.0, "times as long (quartiles of 5 rounds: 2.00, 2.00, 2.00)")


def test_each_side_comes_first_in_every_second_round():
    calls = []

    def side(name, seconds):
        calls.append(name)
        return seconds

    compared = compare(lambda: side("a", 3.0), lambda: side("b", 2.0), 3)
    assert "".join(calls) == "abbaab"
    assert compared.ratio == 1.5


@pytest.mark.slow
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
        assert {"weed", "postgres"} <= {name_of(process) for process in started}
        benchmark.send_signal(signal.SIGTERM)
        benchmark.send_signal(signal.SIGINT)  # must not interrupt the servers' end
        benchmark.stderr.read()
    assert benchmark.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT)  # pending ones come in either order
    assert [process for process in started if process.is_running()] == []
    assert _marked(marker) == []
    assert not Path(folder).exists()


def name_of(process: psutil.Process) -> str | None:
    """A process's name; none of one that has ended since it was found, as PostgreSQL's workers do."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return None


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
