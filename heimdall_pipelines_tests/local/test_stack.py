import io
import json
import logging
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
from minio import Minio

from heimdall_pipelines.local.account import UNPRIVILEGED_NAMES
from heimdall_pipelines.local.ports import is_free
from heimdall_pipelines.local.processes import LocalServerError
from heimdall_pipelines.local.seaweed import GRPC_OFFSET
from heimdall_pipelines.local.stack import Stack, _load_or_make_credentials
from heimdall_pipelines_tests.dev_server import wait_for
from heimdall_pipelines_tests.waiting import TIMEOUT_S

pytestmark = pytest.mark.programs

# Uses the stack, tells when it does, and leaves at the end of its input.
USER_PROGRAM = """
import encodings.idna, importlib.metadata, minio, os, sys, urllib3
from pathlib import Path
from heimdall_pipelines.local.stack import Stack

stack = Stack(Path(sys.argv[1]))
if len(sys.argv) > 2:  # all is imported: an interpreter below root's home cannot be read from here on
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[2]))
with stack.use() as environment:
    print(environment["HEIMDALL_PG_PORT"], environment["HEIMDALL_S3_ENDPOINT"], flush=True)
    sys.stdin.read()
print("left", flush=True)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def home(folder: Path) -> Path:
    return folder / ".heimdall"


@pytest.fixture
def stack(home: Path) -> Iterator[Stack]:
    stack = Stack(home)
    yield stack
    stack.stop()


@pytest.fixture
def users() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of USER_PROGRAM, ended if the test did not."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def enter(users: list[subprocess.Popen[str]], home: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USER_PROGRAM, str(home), *map(str, arguments)]
    root = Path(__file__).parents[2]
    user = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    users.append(user)
    return user


def leave(user: subprocess.Popen[str]) -> None:
    output, _ = user.communicate(timeout=TIMEOUT_S)
    assert output.strip().endswith("left")
    assert user.returncode == 0


def running(stack: Stack) -> tuple[bool, bool]:
    status = stack.status()
    return status.postgres.running, status.s3.running


def connect_postgres(environment: dict[str, str], database: str) -> psycopg2.extensions.connection:
    return psycopg2.connect(
        host=environment["HEIMDALL_PG_HOST"],
        port=environment["HEIMDALL_PG_PORT"],
        user=environment["HEIMDALL_PG_USER"],
        password=environment["HEIMDALL_PG_PASSWORD"],
        dbname=database,
    )


def connect_s3(environment: dict[str, str]) -> Minio:
    return Minio(
        environment["HEIMDALL_S3_ENDPOINT"],
        environment["HEIMDALL_S3_ACCESS_KEY"],
        environment["HEIMDALL_S3_SECRET_KEY"],
        secure=False,
    )


@pytest.mark.slow
def test_the_environment_reaches_both_databases_and_both_buckets_which_survive_a_restart(stack, home):
    with stack.use() as environment:
        for variable in ("HEIMDALL_PG_DATABASE", "HEIMDALL_PG_DAGSTER_DATABASE"):
            with closing(connect_postgres(environment, environment[variable])) as connection, connection.cursor() as c:
                c.execute("CREATE TABLE kept AS SELECT 42")
                connection.commit()
        assert {b.name for b in connect_s3(environment).list_buckets()} >= {"heimdall-raw-iq", "heimdall-synthetic-iq"}
        connect_s3(environment).put_object("heimdall-raw-iq", "kept", io.BytesIO(b"42"), 2)
        assert Stack(home).environment() == environment
    assert running(stack) == (False, False)
    assert Stack(home).environment() is None

    with Stack(home).use() as again:
        assert again == environment
        with closing(connect_postgres(again, again["HEIMDALL_PG_DATABASE"])) as connection, connection.cursor() as c:
            c.execute("SELECT * FROM kept")
            assert c.fetchone() == (42,)
        with connect_s3(again).get_object("heimdall-raw-iq", "kept") as response:
            assert response.read() == b"42"


@pytest.mark.slow
def test_the_space_of_removed_objects_is_returned_while_the_server_runs(stack):
    with stack.use() as environment:
        s3 = connect_s3(environment)
        s3.put_object("heimdall-raw-iq", "large", io.BytesIO(os.urandom(5_000_000)), 5_000_000)
        assert environment["HEIMDALL_S3_FOLDER"] == str(stack.objects_folder)
        s3.remove_object("heimdall-raw-iq", "large")
        assert stack.reclaim_space() == pytest.approx(5_000_000, rel=0.02)
    assert stack.reclaim_space() is None


@pytest.mark.slow
def test_credentials_are_for_the_owner_alone_and_show_nowhere_else(stack, home, caplog):
    caplog.set_level(logging.DEBUG)
    before = os.umask(0)
    try:
        with stack.use() as environment:
            status = stack.status()
            servers = [psutil.Process(status.postgres.pid), psutil.Process(status.s3.pid)]
            command_lines = " ".join(argument for process in servers for argument in process.cmdline())
    finally:
        os.umask(before)

    file = home / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    credentials = json.loads(file.read_text())
    assert set(credentials.values()) < set(environment.values())
    shown = [command_lines, caplog.text, repr(stack), repr(status), repr(_load_or_make_credentials(file))]
    # The access key is a user's name, which SeaweedFS logs and every S3 request carries in the clear.
    for secret in (credentials["pg_password"], credentials["s3_secret_key"]):
        assert len(secret) >= 40
        assert [text for text in shown if secret in text] == []
        others = [path for path in home.rglob("*") if path.is_file() and path != file]
        assert [path for path in others if secret.encode() in path.read_bytes()] == []


def test_damaged_credentials_are_reported_without_their_content(home):
    home.mkdir()
    (home / "credentials.json").write_text('{"pg_password": "hush"')
    with pytest.raises(LocalServerError, match="is damaged: restore it") as error:
        Stack(home).start()
    assert "hush" not in str(error.value)


@pytest.mark.slow
def test_modes_of_folders_above_stay_and_our_own_are_closed_to_listing(stack, home, folder):
    before = [(path, path.stat().st_mode) for path in [folder, *folder.parents]]
    with stack.use():
        pass
    assert [(path, path.stat().st_mode) for path in [folder, *folder.parents]] == before
    assert home.stat().st_mode & 0o066 == 0
    assert (home / "s3").stat().st_mode & 0o777 == 0o700
    assert (home / "postgres" / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_work_that_needs_no_s3_starts_both_servers_and_shares_them(stack, home):
    with stack.use(needs_s3=False) as first:
        assert running(stack) == (True, True)
        with Stack(home).use(needs_s3=False) as second:
            assert second == first == stack.environment()
        assert {b.name for b in connect_s3(first).list_buckets()} >= {"heimdall-raw-iq", "heimdall-synthetic-iq"}
    assert running(stack) == (False, False)


@pytest.mark.slow
def test_simultaneous_starts_share_the_servers_until_the_last_stop(stack, home, users):
    first, second = enter(users, home), enter(users, home)
    assert first.stdout.readline() == second.stdout.readline() != ""
    assert running(stack) == (True, True)

    leave(first)
    assert running(stack) == (True, True)
    leave(second)
    assert running(stack) == (False, False)


@pytest.mark.slow
def test_servers_of_a_killed_user_are_stopped_by_the_next(stack, home, users):
    user = enter(users, home)
    assert user.stdout.readline()
    before = stack.status()
    user.send_signal(signal.SIGKILL)
    user.wait()
    assert stack.status() == before

    with stack.use():
        assert stack.status() == before
    assert running(stack) == (False, False)


@pytest.mark.slow
def test_servers_that_were_killed_during_use_are_back_for_the_next_user(stack):
    with stack.use() as environment:
        postgres, s3 = stack.status().postgres, stack.status().s3
        for server in (postgres, s3):
            os.kill(server.pid, signal.SIGKILL)
        # They end thread by thread, and their ports are free a moment after they are gone.
        ports = (postgres.port, s3.port, s3.port + GRPC_OFFSET)
        wait_for("the servers to end", lambda: running(stack) == (False, False) and all(map(is_free, ports)))
    with stack.use() as again:
        assert again == environment


@pytest.mark.slow
def test_an_error_of_the_user_passes_and_the_servers_stop(stack):
    with pytest.raises(ZeroDivisionError), stack.use():
        _ = 1 / 0
    assert running(stack) == (False, False)


@pytest.mark.slow
def test_what_was_started_without_use_runs_on_until_stopped(stack, home):
    environment = stack.start()
    assert Stack(home).start() == environment
    assert running(stack) == (True, True)
    Stack(home).stop()
    assert running(stack) == (False, False)


def test_status_and_stop_of_a_folder_that_was_never_used_make_nothing(stack, home):
    assert running(stack) == (False, False)
    assert stack.status().postgres.port is None
    stack.stop()
    assert not home.exists()


@pytest.mark.slow
@needs_root
def test_an_ordinary_user_runs_everything_as_itself(home, users):
    ordinary = pwd.getpwnam(UNPRIVILEGED_NAMES[1])
    home.mkdir()
    os.chown(home, ordinary.pw_uid, ordinary.pw_gid)
    user = enter(users, home, ordinary.pw_uid, ordinary.pw_gid)
    assert user.stdout.readline()
    status = Stack(home).status()
    for pid in (status.postgres.pid, status.s3.pid):
        assert psutil.Process(pid).uids().real == ordinary.pw_uid
    leave(user)
    assert running(Stack(home)) == (False, False)


@needs_root
def test_the_folder_of_another_user_is_refused(home):
    home.mkdir()
    os.chown(home, pwd.getpwnam(UNPRIVILEGED_NAMES[1]).pw_uid, -1)
    with pytest.raises(LocalServerError, match="work here as that user"):
        Stack(home).start()
