"""Tests that start what tests start; test_interrupted.py runs this file alone and interrupts the first two of them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from heimdall_pipelines.local.ports import is_free
from heimdall_pipelines_tests.held_port import held_port
from heimdall_pipelines_tests.redis_server import RedisServer
from heimdall_pipelines_tests.run_guard import RUN_FOLDER
from heimdall_pipelines_tests.waiting import wait_for

READY = "HEIMDALL_TEST_READY_FOLDER"

definitions = dg.Definitions()


@contextmanager
def code_server() -> Iterator[subprocess.Popen[bytes]]:
    """Dagster's code server, as a deployment starts it, once it listens."""
    port = held_port()
    command = ["dagster", "code-server", "start", "-m", __name__, "-a", "definitions", "-h", "127.0.0.1", "-p", port]
    with subprocess.Popen([sys.executable, "-m", *map(str, command)]) as process:
        try:
            wait_for("the code server", lambda: not is_free(port))
            yield process
        finally:
            process.kill()


def wait_for_the_interruption(name: str) -> None:
    (Path(os.environ[READY]) / name).write_text(os.environ[RUN_FOLDER])
    threading.Event().wait()


def test_with_servers(stores):
    wait_for_the_interruption("servers")


def test_with_programs():
    with RedisServer(), code_server():
        wait_for_the_interruption("programs")


def test_a_code_server_stops_on_sigterm():
    with code_server() as server:
        server.send_signal(signal.SIGTERM)
        assert server.wait() is not None
