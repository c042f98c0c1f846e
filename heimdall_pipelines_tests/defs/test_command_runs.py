"""Runs of commands end with their process, however that ends, and the daemon goes on."""

import os
import signal
import subprocess
import sys
import time

import dagster as dg
import pytest

from heimdall_pipelines.cluster.lost_runs import lost_runs
from heimdall_pipelines.defs import command_runs
from heimdall_pipelines.defs.command_runs import (
    HEARTBEAT_TIMEOUT_S,
    HeartbeatWatch,
    command_heartbeat,
    command_tags,
    end_lost_runs,
)
from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines.status.command_process import CommandProcess, parse_process, this_machine, this_process
from heimdall_pipelines.status.run_tags import PROCESS_TAG
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.sessions.support import import_files
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

STARTED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
ELSEWHERE = CommandProcess("elsewhere~00000000", 4711, "1")

# The only thing that differs from a real command: the extraction never ends.
ENDLESS_EXTRACTION = """
import signal, sys, time
from pathlib import Path
from heimdall_pipelines.cli import main
from heimdall_pipelines.defs import recorded

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, which may run the tests, has it ignored
sign = Path(sys.argv.pop())

def extract(*arguments, **options):
    sign.touch()
    while True:
        time.sleep(0.05)

recorded.extract_session = extract
main()
"""


@dg.job
def job() -> None:
    """Do nothing."""


@pytest.fixture
def instance(tmp_path):
    """In files: two threads that write do not wait for each other in memory."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def run_of(instance, process, status=STARTED):
    return instance.create_run_for_job(job, status=status, tags={PROCESS_TAG: str(process)}).run_id


def status(instance, run_id):
    return instance.get_run_by_id(run_id).status


@pytest.fixture
def dead():
    """A process of this machine that was killed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = CommandProcess(this_machine(), process.pid, command_process_start(process.pid))
    assert started.has_ended() is False
    process.kill()
    wait_for("the process to be a zombie", started.has_ended)  # which holds its pid
    process.wait()
    process.stdin.close()
    return started


def command_process_start(pid):
    from heimdall_pipelines.status.command_process import _started

    return _started(pid)


def test_a_process_is_known_by_more_than_its_pid(dead):
    assert this_process().has_ended() is False
    assert parse_process(str(this_process())) == this_process()
    assert CommandProcess(this_machine(), os.getpid(), "1").has_ended() is True
    assert dead.has_ended() is True
    assert ELSEWHERE.has_ended() is None
    assert [parse_process(tag) for tag in (None, "", "a/b", "a/b/c", "a/1/")] == [None] * 5


@pytest.mark.long
def test_runs_of_dead_commands_fail_with_the_reason_and_no_others(instance, dead):
    of_dead = [run_of(instance, dead, dg.DagsterRunStatus[name]) for name in ("NOT_STARTED", "STARTED", "CANCELING")]
    ended = run_of(instance, dead, dg.DagsterRunStatus.SUCCESS)
    living = [run_of(instance, this_process()), run_of(instance, ELSEWHERE)]
    of_daemon = instance.create_run_for_job(job, status=STARTED).run_id
    assert sorted(end_lost_runs(instance)) == sorted(of_dead)
    assert end_lost_runs(instance) == []
    assert {status(instance, run_id) for run_id in of_dead} == {FAILURE}
    assert {status(instance, run_id) for run_id in (*living, of_daemon)} == {STARTED}
    assert status(instance, ended) is dg.DagsterRunStatus.SUCCESS
    messages = [entry.message for entry in instance.all_logs(of_dead[0])]
    assert any(f"process {dead.pid} on " in message for message in messages)


@pytest.mark.long
def test_a_run_of_another_machine_fails_when_its_heartbeats_stop(instance, monkeypatch):
    monkeypatch.setattr(command_runs, "this_process", lambda: ELSEWHERE)
    lost = run_of(instance, ELSEWHERE)
    command_runs._store_heartbeat(instance, time.time())
    watch = HeartbeatWatch({})
    assert watch.end_lost_runs(instance, 1000.0) == []
    # The clock of the other machine does not matter, only that its heartbeat changes.
    for number in range(3):
        command_runs._store_heartbeat(instance, time.time() - 5000 - number)
        watch = HeartbeatWatch(watch.seen)
        assert watch.end_lost_runs(instance, 1000.0 + (number + 1) * HEARTBEAT_TIMEOUT_S) == []
    watch = HeartbeatWatch(watch.seen)
    assert watch.end_lost_runs(instance, 1000.0 + 4 * HEARTBEAT_TIMEOUT_S + 1) == [lost]
    assert status(instance, lost) is FAILURE


@pytest.mark.long
def test_a_living_command_sends_heartbeats_and_leaves_none_behind(instance, monkeypatch):
    monkeypatch.setattr(command_runs, "HEARTBEAT_INTERVAL_S", 0.01)
    with command_heartbeat(instance):
        first = wait_for("a heartbeat", lambda: command_runs._heartbeats(instance).get(str(this_process())))
        wait_for("another one", lambda: command_runs._heartbeats(instance).get(str(this_process())) != first)
    assert command_runs._heartbeats(instance) == {}


@pytest.mark.long
def test_the_sensor_fails_them_without_workers_too(instance, dead):
    lost = run_of(instance, dead)
    settings = LocalSettings(run_launcher="local")
    said = lost_runs(dg.build_sensor_context(instance=instance), settings=settings)
    assert said.skip_reason.skip_message == f"lost: {lost}"
    assert status(instance, lost) is FAILURE
    again = lost_runs(dg.build_sensor_context(instance=instance, cursor=said.cursor), settings=settings)
    assert "no run is lost" in again.skip_reason.skip_message


def test_dagster_does_not_retry_the_run_of_a_command():
    assert command_tags()["dagster/max_retries"] == "0"


@pytest.fixture
def extracting(environment, stores, example_recordings, tmp_path, monkeypatch):
    """Start `heimdall session extract` in processes of their own; gives them when they are in the middle."""
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(PROJECT_FOLDER / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("HEIMDALL_MAX_CONCURRENT_RUNS", "2")
    session = import_files(stores, example_recordings).slug
    started = []

    def start(number):
        signs = [tmp_path / f"began-{index}" for index in range(number)]
        for sign in signs:
            command = [sys.executable, "-c", ENDLESS_EXTRACTION, "session", "extract", session]
            output = (tmp_path / f"{sign.name}.log").open("wb")
            started.append(
                subprocess.Popen([*command, str(sign)], stdout=output, stderr=output, start_new_session=True)
            )
        wait_for("the extractions to be in the middle", lambda: all(sign.exists() for sign in signs))
        return started

    yield start
    for process in started:
        process.kill()
        process.wait()


def statuses(processes):
    """Statuses of the runs of these processes; other tests use the same database of Dagster."""
    pids = {process.pid for process in processes}
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs(dg.RunsFilter(job_name="extract_recorded_session"))
    return [run.status for run in runs if parse_process(run.tags[PROCESS_TAG]).pid in pids]


@pytest.mark.slow
@pytest.mark.programs
@pytest.mark.fault("kill -9 of `heimdall session extract`, as often as runs may be in progress")
def test_killed_commands_do_not_stop_the_queue(extracting, fault):
    processes = extracting(2)
    assert statuses(processes) == [STARTED, STARTED]
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT_S)
    with dg.DagsterInstance.get() as instance:
        assert statuses(processes) == [STARTED, STARTED]
        context = dg.build_sensor_context(instance=instance)
        lost_runs(context, settings=LocalSettings(run_launcher="local"))
    assert statuses(processes) == [FAILURE, FAILURE]
    fault.record(
        detected_by="the sensor `lost_runs`, or the next command on the machine: the process in the run's tag is gone",
        result="FAILURE with the process as reason, no retry; the queue goes on, and the session stays due",
    )


@pytest.mark.slow
@pytest.mark.programs
@pytest.mark.parametrize("kind", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT], ids=lambda kind: kind.name)
def test_a_command_whose_terminal_is_closed_ends_its_run(extracting, kind):
    (process,) = extracting(1)
    process.send_signal(kind)
    assert process.wait(TIMEOUT_S) not in (0, -signal.SIGKILL)
    (ended,) = statuses([process])
    assert ended in (FAILURE, dg.DagsterRunStatus.CANCELED)


@pytest.mark.slow
@pytest.mark.programs
def test_the_next_command_ends_the_runs_of_killed_ones(extracting, heimdall_here):
    (process,) = extracting(1)
    process.kill()
    process.wait()
    assert heimdall_here("session", "delete", "no-such-session", "--yes") == 1
    assert statuses([process]) == [FAILURE]


@pytest.fixture
def heimdall_here(monkeypatch):
    """Run the command line in this process, on the instance of DAGSTER_HOME; gives its exit code."""
    from heimdall_pipelines import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["heimdall", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    return run
