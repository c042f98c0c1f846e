"""Tests that start what tests start; test_interrupted.py runs this file alone and interrupts the first two of them."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from heimdall_pipelines_tests.held_port import held_port, is_listening
from heimdall_pipelines_tests.redis_server import RedisServer
from heimdall_pipelines_tests.run_guard import RUN_FOLDER
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

READY = "HEIMDALL_TEST_READY_FOLDER"
NO_DEFINITIONS = "import dagster\ndefinitions = dagster.Definitions()\n"


def wait_for_the_interruption(name: str) -> None:
    (Path(os.environ[READY]) / name).write_text(os.environ[RUN_FOLDER])
    threading.Event().wait()


def test_with_servers(stores):
    wait_for_the_interruption("servers")


def test_with_programs():
    with RedisServer():
        wait_for_the_interruption("programs")


def test_a_code_server_stops_on_sigterm(tmp_path):
    (tmp_path / "empty.py").write_text(NO_DEFINITIONS)
    port = held_port()
    command = ["dagster", "code-server", "start", "-f", tmp_path / "empty.py", "-h", "127.0.0.1", "-p", port]
    with subprocess.Popen([sys.executable, "-m", *map(str, command)]) as server:
        try:
            wait_for("the code server to listen", lambda: is_listening(port))
            server.send_signal(signal.SIGTERM)
            server.wait(TIMEOUT_S)
        finally:
            server.kill()
