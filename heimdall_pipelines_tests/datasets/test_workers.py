"""Processes that compute: every result, errors as they are, and nothing left running, whatever happens.

What the workers are given must be importable where they run and light: this module and what it imports.
"""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from heimdall_pipelines.datasets.workers import MAX_WORKERS, WorkerLostError, Workers, num_workers_wanted
from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.settings import SettingsError
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.programs


class TaskError(HeimdallError):
    """With two arguments, and a message made from them."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(number, why)
        self.number = number

    def __str__(self) -> str:
        return f"task {self.args[0]}: {self.args[1]}"


class UnportableError(Exception):
    """Holds what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class OneWayError(Exception):
    """Can be pickled but not regenerated."""

    def __init__(self, number: int, *, why: str) -> None:
        super().__init__(f"{number} {why}")


def squared(number: int) -> int:
    return number**2


def pid_of(_task: object) -> int:
    time.sleep(0.02)
    return os.getpid()


def failing(number: int) -> int:
    if number == 3:
        raise TaskError(number, "as asked for")
    return number


def failing_unportably(_number: int) -> None:
    raise UnportableError


def failing_one_way(_number: int) -> None:
    raise OneWayError(1, why="because")


def leaving(_number: int) -> None:
    sys.exit(3)


def a_lock(_number: int) -> object:
    return threading.Lock()


def killing_itself(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def telling_and_sleeping(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(600)


def long_text(length: int) -> str:
    return "x" * length


def pids(workers: Workers) -> list[int]:
    return [process.pid for process in workers._processes.values()]


def running(found: list[int]) -> list[int]:
    return [pid for pid in found if is_running(pid)]


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    """For tests that leave them as they are."""
    with Workers(2) as workers:
        yield workers


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_result_comes_once(num_workers):
    with Workers(num_workers) as workers:
        results = [result for result in workers.map(squared, range(50)) if result is not None]
    assert sorted(results) == [number**2 for number in range(50)]


def test_a_single_worker_is_this_process():
    with Workers(1) as workers:
        assert set(workers.map(pid_of, range(3))) == {os.getpid()}
        assert pids(workers) == []


def test_several_workers_are_processes_that_share_the_work_and_are_kept_for_the_next():
    with Workers(2) as workers:
        workers.start()
        first = {pid for pid in workers.map(pid_of, range(60)) if pid}
        again = {pid for pid in workers.map(pid_of, range(60)) if pid}
        assert first == again == set(pids(workers))
        assert os.getpid() not in first
    assert running(list(first)) == []


def test_no_tasks_give_no_results(two):
    assert list(two.map(squared, [])) == []


def test_tasks_are_taken_as_workers_get_free(two):
    taken = []

    def tasks():
        for number in range(20):
            taken.append(number)
            yield number

    results = two.map(squared, tasks())
    while next(results) is None:
        pass
    assert len(taken) <= 4
    assert len([result for result in results if result is not None]) == 19


def test_tasks_and_results_may_be_longer_than_a_pipe_holds(two):
    long = 3_000_000
    assert [len(text) for text in two.map(long_text, [long] * 4) if text] == [long] * 4
    assert [length for length in two.map(len, ["y" * long] * 4) if length] == [long] * 4


def test_while_nothing_is_ready_none_is_given_so_that_somebody_may_look():
    with Workers(2) as workers:
        results = workers.map(time.sleep, [600])
        assert next(results) is None
        results.close()
        assert pids(workers) == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_of_the_function_is_raised_as_it_is(num_workers):
    with Workers(num_workers) as workers:
        with pytest.raises(TaskError, match="task 3: as asked for") as caught:
            list(workers.map(failing, range(10)))
        assert caught.value.number == 3
        assert pids(workers) == []


def test_an_error_from_a_worker_says_where_it_was_raised():
    with Workers(2) as workers, pytest.raises(TaskError) as caught:
        list(workers.map(failing, range(10)))
    assert "in failing" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("function", "named"), [(failing_unportably, "holds a lock"), (failing_one_way, "OneWayError: 1 because")]
)
def test_an_error_that_cannot_travel_comes_as_its_text(function, named):
    with Workers(2) as workers, pytest.raises(RuntimeError, match=named):
        list(workers.map(function, range(4)))


def test_a_result_that_cannot_travel_is_an_error_that_says_so():
    with Workers(2) as workers, pytest.raises(Exception, match="cannot pickle") as caught:
        list(workers.map(a_lock, [1]))
    assert not isinstance(caught.value, WorkerLostError)


def test_a_task_that_cannot_travel_is_an_error_and_ends_the_workers():
    with Workers(2) as workers:
        with pytest.raises(TypeError, match="cannot pickle"):
            list(workers.map(squared, [threading.Lock()]))
        assert pids(workers) == []


def test_a_function_that_workers_cannot_import_is_an_error_that_says_so(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def one(_number):\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    function = importlib.import_module("only_here").one
    with Workers(2) as workers, pytest.raises(ModuleNotFoundError, match="only_here"):
        list(workers.map(function, [1]))


def test_after_an_error_the_workers_can_be_used_again():
    with Workers(2) as workers:
        with pytest.raises(TaskError):
            list(workers.map(failing, range(10)))
        assert sorted(filter(None, workers.map(squared, [1, 2, 3]))) == [1, 4, 9]


def test_a_killed_worker_is_reported_and_the_others_end():
    with Workers(2) as workers:
        workers.start()
        found = pids(workers)
        with pytest.raises(WorkerLostError, match=r"worker process \d+ ended with exit code -9") as caught:
            list(workers.map(killing_itself, range(8)))
        assert isinstance(caught.value, UnavailableError)
        assert "HEIMDALL_WORKERS" in str(caught.value)
        assert running(found) == []


def test_a_killed_idle_worker_is_reported_too():
    with Workers(2) as workers:
        assert len([x for x in workers.map(squared, range(4)) if x is not None]) == 4
        found = pids(workers)
        os.kill(found[0], signal.SIGKILL)
        wait_for("the first worker to end", lambda: not running(found[:1]))
        with pytest.raises(WorkerLostError, match="exit code -9"):
            list(workers.map(squared, range(4)))
        assert running(found) == []


def test_a_function_that_leaves_its_process_is_a_lost_worker():
    with Workers(2) as workers, pytest.raises(WorkerLostError, match="exit code 3"):
        list(workers.map(leaving, range(2)))


def test_whatever_they_do_the_workers_end_with_the_context(tmp_path):
    marks = tmp_path / "pids"
    with Workers(2) as workers:
        results = workers.map(telling_and_sleeping, [str(marks)] * 4)
        while not marks.exists():
            assert next(results) is None
        found = pids(workers)
        assert len(running(found)) == 2
    assert running(found) == []


def test_an_interrupted_consumer_stops_the_workers():
    workers = Workers(2)
    workers.start()
    found = pids(workers)

    def consume() -> None:
        with workers:
            for _ in workers.map(pid_of, range(1000)):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert running(found) == []


def child_pids(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


WORK_FOR_EVER = """
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines_tests.datasets.test_workers import telling_and_sleeping, squared
import itertools, signal, sys
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell put the tests in the background
    with Workers(2) as workers:
        {loop}
"""
BUSY = "for _ in workers.map(squared, itertools.count()): print('made', flush=True)"


def test_workers_end_by_themselves_when_their_parent_is_killed():
    command = [sys.executable, "-c", WORK_FOR_EVER.format(loop=BUSY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "made\n"
        found = child_pids(parent.pid)
        assert len(found) == 2
        parent.kill()
    wait_for("the workers to end", lambda: not running(found))


def test_ctrl_c_ends_the_parent_which_ends_its_workers_even_if_they_are_busy(tmp_path):
    marks = tmp_path / "pids"
    loop = f"list(workers.map(telling_and_sleeping, [{str(marks)!r}] * 4))"
    with subprocess.Popen([sys.executable, "-c", WORK_FOR_EVER.format(loop=loop)], stderr=subprocess.PIPE) as parent:
        wait_for("two marks of the workers", lambda: marks.exists() and len(marks.read_text().split()) == 2)
        parent.send_signal(signal.SIGINT)
        _, errors = parent.communicate(timeout=TIMEOUT_S)
    assert b"KeyboardInterrupt" in errors
    assert errors.count(b"Traceback") == 1  # the workers are silent
    assert running([int(pid) for pid in marks.read_text().split()]) == []


def in_a_daemon(connection) -> None:
    with Workers(2) as workers:
        connection.send(sorted(filter(None, workers.map(squared, [1, 2, 3]))))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_daemonic_process_may_have_workers(method):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=in_a_daemon, args=(theirs,), daemon=True)
    process.start()
    assert ours.poll(TIMEOUT_S)
    assert ours.recv() == [1, 4, 9]
    process.join(TIMEOUT_S)
    assert process.exitcode == 0


def test_a_console_script_may_have_workers_and_is_not_run_again_by_them(tmp_path):
    script = tmp_path / "heimdall-like"
    script.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "from heimdall_pipelines.datasets.workers import Workers\n"
        "from heimdall_pipelines_tests.datasets.test_workers import squared\n"
        "print('started')\n"  # not guarded: an import of this main module prints it
        "with Workers(2) as workers:\n"
        "    print(sorted(filter(None, workers.map(squared, [1, 2, 3]))))\n"
    )
    script.chmod(0o755)
    paths = os.pathsep.join(path for path in sys.path if path)
    ran = subprocess.run(
        [str(script)], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert ran.stdout.splitlines() == ["started", "[1, 4, 9]"]


def test_a_worker_that_is_not_asked_holds_no_pipe_of_another():
    """Each ends when the parent closes its own pipe, though its brother lives."""
    with Workers(2) as workers:
        list(workers.map(squared, range(4)))
        (pipe, process), (_, other) = workers._processes.items()
        pipe.close()
        wait_for("the process to end", lambda: process.poll() is not None)
        assert process.returncode == 0
        assert other.poll() is None
        del workers._processes[pipe]


@pytest.mark.parametrize("number", [0, -1, MAX_WORKERS + 1])
def test_the_number_of_workers_has_its_range(number):
    with pytest.raises(ValueError, match=f"num_workers {number}: 1 to 24 are allowed"):
        Workers(number)


def test_the_number_of_workers_is_that_of_the_setting_or_of_the_cores(monkeypatch):
    assert 1 <= num_workers_wanted() <= MAX_WORKERS
    monkeypatch.setenv("HEIMDALL_WORKERS", "7")
    assert num_workers_wanted() == 7
    monkeypatch.setenv("HEIMDALL_WORKERS", "0")
    with pytest.raises(SettingsError, match="HEIMDALL_WORKERS"):
        num_workers_wanted()
