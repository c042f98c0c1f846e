"""A deletion ends with nothing left, wherever it broke off before; what runs meanwhile leaves nothing either."""

import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import text

from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.sessions import deleting, importing
from heimdall_pipelines.sessions.deleting import delete_session, session_contents
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.alerts import list_alerts, note_evaluations
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.session_deletion import begin_deletion
from heimdall_pipelines.store.session_revisions import due_for_extraction
from heimdall_pipelines.store.sessions import SessionBeingDeletedError, SessionNotFoundError, get_session, list_sessions
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.alerts.support import LOG, evaluation
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options, quiet
from heimdall_pipelines_tests.tcp_link import TcpLink
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

# Every step that a deletion tells of, in their order: broken off before each, it has to be finished.
STEPS = [
    "marking",
    "removing its objects",
    "removing its partition",
    "deleting its rows",
    "removing objects that were stored meanwhile",
]

# The only thing that differs from a real deletion: it stops where the test wants it.
STOPPING_DELETION = """
import sys, time
from pathlib import Path
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores

session_id, step, reached = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def stop_here(line):
    if line.startswith(step):
        reached.touch()
        time.sleep(3600)

with open_stores(load_settings()) as stores:
    delete_session(stores, session_id, lambda _: None, stop_here)
"""


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        return connection.execute(text(statement), values)


def left(stores):
    """What there is of all sessions: rows by table, and objects."""
    tables = ("recording_sessions", "measurements", "measurement_features")
    rows = {table: execute(stores, f"SELECT count(*) FROM heimdall.{table}").scalar_one() for table in tables}
    return rows | {"objects": len(list(stores.objects.entries(stores.objects.raw_iq_bucket, "")))}


NOTHING = {"recording_sessions": 0, "measurements": 0, "measurement_features": 0, "objects": 0}


@pytest.fixture
def session_id(example_session):
    return example_session().session_id


def test_what_goes_is_said_before_and_nothing_is_left_after(stores, session_id):
    contents = session_contents(stores, session_id)
    assert (contents.num_stations, contents.num_segments, contents.num_objects) == (3, 12, 6)
    assert contents.size_bytes == sum(x.size_bytes for x in stores.objects.entries(stores.objects.raw_iq_bucket, ""))
    slug = get_session(stores.database, session_id).slug
    removed, told = [], []
    delete_session(stores, session_id, removed.append, told.append)
    assert left(stores) == NOTHING
    assert removed == [slug, str(session_id)] * 2
    assert all(line.startswith(step) for line, step in zip(told, STEPS, strict=True))


def test_alerts_that_were_open_of_it_are_closed_and_those_of_another_stay_open(stores, session_id, tmp_path):
    other = import_files(stores, npy_files(tmp_path, {"torino": noise(200_000)}), **npy_options()).session_id
    slugs = [get_session(stores.database, key).slug for key in (session_id, other)]
    note_evaluations(stores.database, LOG, [evaluation(no, partition=slug) for no, slug in enumerate(slugs, 1)])
    delete_session(stores, session_id, quiet, quiet)
    still_open = list_alerts(stores.database, 10, only_open=True)
    assert [overview.alert.partition for overview in still_open] == slugs[1:]
    closed, _ = reversed(list_alerts(stores.database, 10))
    assert (closed.alert.recovered_at, closed.alert.closed_at is None) == (None, False)


def test_the_partition_of_a_session_that_took_the_slug_stays(stores, session_id, example_recordings):
    slug, removed = get_session(stores.database, session_id).slug, []

    def import_again(line):
        if line.startswith("removing objects that were stored meanwhile"):
            assert import_files(stores, example_recordings).slug == slug

    delete_session(stores, session_id, removed.append, import_again)
    assert removed == [slug, str(session_id), str(session_id)]


def test_another_session_stays_as_it_is(stores, session_id, tmp_path):
    other = import_files(stores, npy_files(tmp_path, {"torino": noise(200_000)}), **npy_options()).session_id
    extract_session(stores, other, quiet)
    delete_session(stores, session_id, quiet, quiet)
    assert left(stores) == {"recording_sessions": 1, "measurements": 1, "measurement_features": 1, "objects": 2}
    assert list_recordings(stores.database, other)


@pytest.mark.parametrize("step", STEPS)
def test_servers_that_go_away_before_a_step_leave_a_deletion_that_is_finished_later(stores, settings, session_id, step):
    host, _, s3_port = settings.s3_endpoint.rpartition(":")
    with TcpLink(settings.pg_port) as postgres, TcpLink(int(s3_port)) as s3:

        def cut(line):
            if line.startswith(step):
                postgres.cut()
                s3.cut()

        ways = {"pg_port": postgres.port, "s3_endpoint": f"{host}:{s3.port}"}
        with open_stores(settings.model_copy(update=ways)) as through, pytest.raises(UnavailableError):
            delete_session(through, session_id, quiet, cut)
    is_marked = step != STEPS[0]
    if left(stores)["recording_sessions"]:
        assert [session.deletion_began_at is not None for session in list_sessions(stores.database)] == [is_marked]
    delete_session(stores, session_id, quiet, quiet)
    assert left(stores) == NOTHING


@pytest.mark.parametrize("step", STEPS[1:])
def test_a_killed_deletion_is_finished_by_the_next(environment, stores, session_id, step, tmp_path):
    reached = tmp_path / "reached"
    with subprocess.Popen([sys.executable, "-c", STOPPING_DELETION, str(session_id), step, str(reached)]) as process:
        try:
            wait_for(
                "the deletion in its middle, or the end of its process",
                lambda: reached.exists() or process.poll() is not None,
            )
            assert process.poll() is None
        finally:
            process.kill()
    # What an older version, or an import whose connection broke, might still have put there.
    late = ObjectLocation(stores.objects.raw_iq_bucket, f"sessions/{session_id}/late.npy")
    stores.objects.put(late, io.BytesIO(b"x"), 1, "application/octet-stream")
    assert not session_contents(stores, session_id).is_empty
    delete_session(stores, session_id, quiet, quiet)
    assert left(stores) == NOTHING
    assert session_contents(stores, session_id).is_empty


def test_nothing_else_is_done_with_a_session_that_is_being_deleted(stores, session_id, example_recordings):
    execute(stores, "DELETE FROM heimdall.measurement_features")
    assert len(due_for_extraction(stores.database, limit=2)) == 1
    slug = get_session(stores.database, session_id).slug
    begin_deletion(stores.database, session_id)
    assert due_for_extraction(stores.database, limit=2) == []
    for act in (
        lambda: extract_session(stores, session_id, quiet),
        lambda: import_files(stores, example_recordings),
    ):
        with pytest.raises(SessionBeingDeletedError, match=f"finish it with: heimdall session delete {slug}"):
            act()
    delete_session(stores, session_id, quiet, quiet)
    assert import_files(stores, example_recordings).is_new


@pytest.fixture
def held_import(settings, stores, example_recordings, monkeypatch):
    """An import in a thread that waits when two objects are stored; gives its session, its future, and lets go."""
    monkeypatch.setattr(deleting, "_POLL_S", 0.02)
    reached, let_go = threading.Event(), threading.Event()
    put_iq, stored = importing.put_iq, []

    def put_and_hold(objects, location, *more):
        files = put_iq(objects, location, *more)
        stored.append(location)
        if len(stored) == 2:
            reached.set()
            assert let_go.wait(TIMEOUT_S)
        return files

    monkeypatch.setattr(importing, "put_iq", put_and_hold)

    def run():
        with open_stores(settings) as own:
            import_files(own, example_recordings)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            wait_for("the import in its middle, or its end", lambda: reached.is_set() or running.done())
            assert not running.done()
            (session,) = list_sessions(stores.database)
            yield session.id, running, let_go
        finally:
            let_go.set()


def test_an_import_of_a_session_that_is_being_deleted_fails_and_leaves_nothing(stores, held_import):
    session_id, running, let_go = held_import
    told = []
    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(delete_session, stores, session_id, quiet, told.append)
        wait_for(
            "the deletion to wait for the import, or its end",
            lambda: any(line.startswith("waiting for an import") for line in told) or deletion.done(),
        )
        assert not deletion.done()
        let_go.set()
        with pytest.raises(SessionBeingDeletedError):
            running.result(TIMEOUT_S)
        deletion.result(TIMEOUT_S)
    assert left(stores) == NOTHING


def test_an_import_whose_session_is_gone_takes_its_objects_away_again(stores, held_import):
    _, running, let_go = held_import
    execute(stores, "DELETE FROM heimdall.recording_sessions")
    let_go.set()
    with pytest.raises(SessionNotFoundError, match="was deleted while it was being completed"):
        running.result(TIMEOUT_S)
    assert left(stores) == NOTHING


def test_what_a_killed_import_left_is_deleted(stores, session_id):
    execute(stores, "DELETE FROM heimdall.measurements")
    execute(stores, "UPDATE heimdall.recording_sessions SET status = 'in_progress'")
    delete_session(stores, session_id, quiet, quiet)
    assert left(stores) == NOTHING


def test_objects_of_older_recordings_go_too_but_not_those_that_another_session_needs(stores, session_id, tmp_path):
    other = import_files(stores, npy_files(tmp_path, {"torino": noise(200_000)}), **npy_options()).session_id
    bucket = stores.objects.raw_iq_bucket
    own, shared = (ObjectLocation(bucket, f"2026/01/01/some-id/145500000/{name}.bin") for name in ("1", "2"))
    for location in (own, shared):
        stores.objects.put(location, io.BytesIO(b"12345678"), 8, "application/octet-stream")
    for session, rx_id, location in (
        (session_id, "genova", own),
        (session_id, "torino", shared),
        (other, "torino", shared),
    ):
        execute(
            stores,
            "UPDATE heimdall.measurements m SET iq_data_location = :location, iq_data_format = 'bin'"
            " FROM heimdall.websdr_stations w WHERE w.id = m.websdr_station_id AND w.rx_id = :rx_id"
            " AND m.recording_session_id = :session",
            location=str(location),
            rx_id=rx_id,
            session=session,
        )
    assert session_contents(stores, session_id).num_objects == 7
    delete_session(stores, session_id, quiet, quiet)
    keys = {entry.key for entry in stores.objects.entries(bucket, "")}
    assert keys == {shared.key, f"sessions/{other}/torino.sigmf-data", f"sessions/{other}/torino.sigmf-meta"}
    delete_session(stores, other, quiet, quiet)
    assert left(stores) == NOTHING


def test_deleting_an_unknown_session_changes_nothing(stores, session_id):
    before = left(stores)
    assert session_contents(stores, uuid4()).is_empty
    delete_session(stores, uuid4(), quiet, quiet)
    with pytest.raises(SessionNotFoundError, match=r"no session \.\./; see"):
        delete_session(stores, "../", quiet, quiet)
    assert left(stores) == before
