"""`heimdall dev` that is killed, and what the next one and `heimdall stop` make of it."""

import signal
import socket
from pathlib import Path

import psycopg2
import pytest
from typer.testing import CliRunner

from heimdall_pipelines.cli import app, dagster_dev
from heimdall_pipelines.cli import dev as dev_command
from heimdall_pipelines.cli.dagster_dev import DevFailedError
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.local.processes import is_alive
from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.sessions import example
from heimdall_pipelines.settings import ENV_PREFIX, load_settings
from heimdall_pipelines.store.migrate import migrate
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.dev_server import DevFolder, command_line, dev_folder, runs, wait_for
from heimdall_pipelines_tests.held_port import held_port
from heimdall_pipelines_tests.sessions.support import import_files

pytestmark = pytest.mark.programs
EXAMPLE_ROWS = int(example.DURATION_S)  # its whole seconds


@pytest.fixture(scope="module")
def dev():
    with dev_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def port() -> int:
    return held_port()


@pytest.mark.slow
def test_a_killed_dev_loses_no_data_and_no_run(dev, port, example_recordings):
    with Stack(dev.home).use() as environment:
        session_id = import_without_daemon(environment, example_recordings)
        # An extraction takes this lock: the run starts and waits for it.
        rival = connect(environment)
        rival.cursor().execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (session_id,))
        dev.start_dev(first_port=port)
    wait_for("the run of the session found at the start", lambda: waiting_backends(rival))

    dev.signal(signal.SIGKILL)
    left = dev.dagster_processes()
    assert any("dagster._daemon" in command_line(process) for process in left)
    assert any("spawn_main" in " ".join(command_line(process)) for process in left), "the process of the run"

    address = dev.start_dev(first_port=port)
    assert [process for process in left if is_alive(process)] == []
    rival.close()
    wait_for("the second run", lambda: {run["status"] for run in runs(address)} == {"FAILURE", "SUCCESS"})
    again, killed = runs(address)
    assert (killed["status"], again["status"]) == ("FAILURE", "SUCCESS")
    assert again["tags"]["dagster/parent_run_id"] == killed["runId"]
    assert number_of_rows(dev, session_id) == EXAMPLE_ROWS


@pytest.mark.slow
def test_stop_ends_what_a_killed_dev_left(dev, port):
    if dev.pid() is None:
        dev.start_dev(first_port=port)
    dev.signal(signal.SIGKILL)
    assert dev.dagster_processes() != []
    stopped = dev.run("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped" in stopped.stdout
    assert dev.processes() == []
    assert dev.run("stop").returncode == 0  # once more does no harm
    assert dev.processes() == []


def import_without_daemon(environment: dict[str, str], files: list[Path]) -> str:
    settings = load_settings(**{name.removeprefix(ENV_PREFIX).lower(): value for name, value in environment.items()})
    with open_stores(settings) as stores:
        migrate(stores.database)
        stores.objects.create_buckets()
        return str(import_files(stores, files).session_id)


def connect(environment: dict[str, str]) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(
        host=environment["HEIMDALL_PG_HOST"],
        port=environment["HEIMDALL_PG_PORT"],
        user=environment["HEIMDALL_PG_USER"],
        password=environment["HEIMDALL_PG_PASSWORD"],
        dbname=environment["HEIMDALL_PG_DATABASE"],
    )
    connection.autocommit = True
    return connection


def waiting_backends(connection: psycopg2.extensions.connection) -> list[tuple[int]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return cursor.fetchall()


def number_of_rows(dev: DevFolder, session_id: str) -> int:
    ((number,),) = dev.rows(
        "SELECT count(*) FROM heimdall.measurement_features WHERE recording_session_id = %s", session_id
    )
    return number


def test_a_start_in_progress_shows_no_address_of_an_earlier_one(tmp_path, monkeypatch):
    (tmp_path / "dev.lock").write_text('{"pid": 1, "address": "http://127.0.0.1:1"}')
    monkeypatch.setenv("HEIMDALL_HOME", str(tmp_path))
    shown = []

    def stop_here(home):
        shown.append(dev_command._running_address(home))
        raise HeimdallError("far enough")

    monkeypatch.setattr(dagster_dev, "end_remaining_processes", stop_here)
    with pytest.raises(HeimdallError, match="far enough"):
        dev_command.dev(dev_command.FIRST_PORT)
    assert shown == ["it is starting"]


def test_a_port_that_cannot_be_is_refused():
    refused = CliRunner().invoke(app, ["dev", "--port", "70000"])
    assert refused.exit_code == 2
    assert "65535" in refused.output


def test_where_no_port_is_free_the_error_says_so(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(dev_command, "LAST_PORT", port)
        with pytest.raises(DevFailedError, match=f"no free port from {port} to {port}"):
            dev_command._free_port(port)
