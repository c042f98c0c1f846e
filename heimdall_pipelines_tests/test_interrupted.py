"""An interrupted test run leaves no process, for each way to start and to interrupt it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heimdall_pipelines_tests import endless
from heimdall_pipelines_tests.endless import READY
from heimdall_pipelines_tests.run_guard import processes_of
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.programs
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", endless.__file__]
TWO_PROCESSES = ["--numprocesses", "2", "--dist", "load", "-k", "with"]


def ignore_sigint() -> None:
    """Do as a shell does for a command that ends with `&`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def press_ctrl_c(run: subprocess.Popen[bytes]) -> None:
    os.killpg(run.pid, signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interrupt", "is_sigint_ignored"),
    [
        pytest.param(press_ctrl_c, False, id="Ctrl-C"),
        pytest.param(subprocess.Popen.terminate, True, id="SIGTERM where SIGINT is ignored"),
        pytest.param(subprocess.Popen.kill, False, id="kill -9"),
    ],
)
def test_nothing_of_an_interrupted_run_is_left(
    tmp_path, interrupt: Callable[[subprocess.Popen[bytes]], None], is_sigint_ignored: bool
):
    with subprocess.Popen(
        [*PYTEST, *TWO_PROCESSES],
        env=os.environ | {READY: str(tmp_path)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=ignore_sigint if is_sigint_ignored else None,
    ) as run:
        ready = [tmp_path / name for name in ("servers", "programs")]

        def both_are_ready() -> bool:
            assert run.poll() is None, "it ended by itself"
            return all(file.exists() and file.read_text() for file in ready)

        wait_for("both tests to have started what they start", both_are_ready)
        (folder,) = {Path(file.read_text()) for file in ready}
        assert len(processes_of(folder)) > 5  # both processes of xdist, PostgreSQL's, S3, Redis
        interrupt(run)
        run.wait(TIMEOUT_S)
    if interrupt is subprocess.Popen.kill:
        wait_for("the guard", lambda: not folder.exists())
    assert processes_of(folder) == []
    assert not folder.exists()


@pytest.mark.slow
def test_a_code_server_stops_where_sigint_is_ignored():
    """Dagster gives SIGTERM the handler of SIGINT, which would be none."""
    subprocess.run([*PYTEST, "-k", "sigterm"], check=True, stdout=subprocess.DEVNULL, preexec_fn=ignore_sigint)
