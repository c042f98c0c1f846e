"""The servers are waited for as long as they live: no time is too long, and an end is not waited for."""

import contextlib
import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from heimdall_pipelines.local import processes
from heimdall_pipelines.local.postgres import EmbeddedPostgres
from heimdall_pipelines.local.processes import LocalServerError, servers_of
from heimdall_pipelines_tests.dev_server import dev_folder, wait_for

PASSWORD = "correct-horse"


@pytest.fixture
def server():
    with dev_folder() as folder:
        made = EmbeddedPostgres(folder.home.parent / "postgres")
        made.start(PASSWORD)
        yield made, folder.home.parent / "postgres" / "data"
        for process in servers_of("postgres", folder.home.parent / "postgres" / "data"):
            with contextlib.suppress(psutil.NoSuchProcess):  # a server's workers come and go
                process.send_signal(signal.SIGCONT)
        made.stop()


@pytest.fixture
def waiting(server, monkeypatch, caplog):
    """A start that waits for a server which lives and does not answer."""
    made, data = server
    monkeypatch.setattr(processes, "PROGRESS_INTERVAL_S", 0.0)
    caplog.set_level(logging.WARNING)
    postmaster = min(servers_of("postgres", data), key=lambda process: process.create_time())
    postmaster.suspend()
    interrupted = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(made.start, PASSWORD, interrupted)
        wait_for("a line of progress", lambda: "waiting for postgres" in caplog.text)
        yield started, postmaster, interrupted
        interrupted.set()


@pytest.mark.slow
def test_a_server_that_answers_late_is_waited_for(server, waiting):
    started, postmaster, _ = waiting
    assert not started.done()
    postmaster.resume()
    assert started.result() == server[0].port()


@pytest.mark.slow
def test_a_server_that_ends_meanwhile_is_named_with_its_log(waiting):
    started, postmaster, _ = waiting
    postmaster.kill()
    with pytest.raises(LocalServerError, match=rf"postgres \(pid {postmaster.pid}\) ended while starting\nlast lines"):
        started.result()


@pytest.mark.slow
def test_the_wait_can_be_interrupted(waiting):
    started, _, interrupted = waiting
    interrupted.set()
    with pytest.raises(LocalServerError, match="interrupted"):
        started.result()
