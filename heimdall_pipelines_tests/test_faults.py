"""Outages, kills and rivals in the middle of an extraction: it ends complete or not at all, and says why."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import dagster as dg
import pytest
from sqlalchemy import text

from heimdall_pipelines.cli.extraction import RunFailedError, extract_now
from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs import outages, recorded
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.sessions import example, extraction
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store import iq_objects
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.migrate import migrate
from heimdall_pipelines.store.objects import ObjectLocation, ObjectsUnavailableError
from heimdall_pipelines.store.outages import DatabaseUnavailableError
from heimdall_pipelines.store.session_deletion import begin_deletion
from heimdall_pipelines.store.session_results import SupersededError
from heimdall_pipelines.store.session_revisions import SessionRevision, due_for_extraction
from heimdall_pipelines.store.sessions import SessionBeingDeletedError, SessionNotFoundError, get_session
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.sessions.support import import_files
from heimdall_pipelines_tests.tcp_link import TcpLink
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

EXAMPLE_ROWS = int(example.DURATION_S)  # its whole seconds
EXAMPLE_IQ_BYTES = len(example.STATIONS) * EXAMPLE_ROWS * example.NOMINAL_SAMPLE_RATE_HZ * 8

# The only thing that differs from a real run: it stops where the test wants it, rows already inserted.
STOPPING_EXTRACTION = """
import sys, time
from pathlib import Path
from heimdall_pipelines.sessions import extraction
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores

session_id, reached = sys.argv[1], Path(sys.argv[2])
extraction.ROWS_PER_INSERT = 1
extraction.PROGRESS_INTERVAL_S = -1.0

def stop_here(line):
    if line.startswith("5 of "):
        reached.touch()
        time.sleep(3600)

with open_stores(load_settings()) as stores:
    extraction.extract_session(stores, session_id, progress=stop_here)
"""


def execute(stores: Stores, statement: str, **values: object) -> list[dict[str, object]]:
    with stores.database.transaction() as connection:
        result = connection.execute(text(statement), values)
        return [dict(row._mapping) for row in result] if result.returns_rows else []


def stored(stores: Stores, session_id: str) -> dict[str, list[dict[str, object]]]:
    """Everything that an extraction writes of a session, ids included, without the time of writing."""
    features = execute(
        stores,
        "SELECT * FROM heimdall.measurement_features WHERE recording_session_id = :id ORDER BY segment_idx",
        id=session_id,
    )
    for row in features:
        del row["created_at"]
    metrics = execute(
        stores,
        "SELECT id, snr_db, signal_strength_dbm, frequency_offset_hz FROM heimdall.measurements"
        " WHERE recording_session_id = :id ORDER BY id",
        id=session_id,
    )
    return {"features": features, "metrics": metrics}


def run_job(session_id: str) -> dg.ExecuteInProcessResult:
    """A run of the main job, on a Dagster instance that no outage of the servers touches."""
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(RECORDING_SESSIONS, [session_id])
        return (
            build_definitions()
            .resolve_job_def("extract_recorded_session")
            .execute_in_process(partition_key=session_id, instance=instance, raise_on_error=False)
        )


def retries(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY for event in result.all_events)


def failure_messages(result: dg.ExecuteInProcessResult) -> list[str]:
    """Messages of the failed step, as the UI shows them one below the other."""
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    messages, error = [], failure.step_failure_data.error
    while error is not None:
        messages.append(error.message.strip())
        error = error.cause
    return messages


def assert_failed_for_an_outage(result: dg.ExecuteInProcessResult, named: str) -> None:
    """Retried as often as it may be; then the error's first words name the server, not a library."""
    assert not result.success
    assert retries(result) == outages.OUTAGE_RETRIES
    frame, reason, *_ = failure_messages(result)
    assert "Error occurred while executing op" in frame
    assert named in reason.partition(": ")[2][:60], reason
    assert "Traceback" not in reason


@pytest.fixture(autouse=True)
def _few_and_short_delays(monkeypatch):
    monkeypatch.setattr(outages, "OUTAGE_RETRIES", 3)
    monkeypatch.setattr(outages, "OUTAGE_DELAY_S", 0.01)


@pytest.fixture
def in_small_steps(monkeypatch):
    """Rows are inserted, IQ is read, and progress is told in small steps, so that there is a middle."""
    monkeypatch.setattr(extraction, "ROWS_PER_INSERT", 1)
    monkeypatch.setattr(extraction, "PROGRESS_INTERVAL_S", -1.0)
    monkeypatch.setattr(iq_objects, "_BLOCK_SAMPLES", 2**14)
    monkeypatch.setattr(extraction, "MAX_SAMPLES", 2**14)


@pytest.fixture
def session_id(environment, stores, example_recordings) -> str:
    return str(import_files(stores, example_recordings).session_id)


@pytest.fixture
def s3_link(environment, settings, monkeypatch) -> Iterator[TcpLink]:
    """The way to the S3 store of what runs from now on (the fixture `stores` keeps the direct one)."""
    with TcpLink(int(settings.s3_endpoint.rpartition(":")[2])) as link:
        monkeypatch.setenv("HEIMDALL_S3_ENDPOINT", f"127.0.0.1:{link.port}")
        yield link


@pytest.fixture
def postgres_link(environment, settings, monkeypatch) -> Iterator[TcpLink]:
    """The way to PostgreSQL of what runs from now on."""
    with TcpLink(settings.pg_port) as link:
        monkeypatch.setenv("HEIMDALL_PG_PORT", str(link.port))
        yield link


def locations_of(stores: Stores, session_id: str) -> list[ObjectLocation]:
    return [recording.location for recording in list_recordings(stores.database, UUID(session_id))]


@pytest.fixture
def own_stores(own_servers) -> Iterator[Stores]:
    """Stores on the module's own servers; empty."""
    with open_stores(load_settings()) as opened:
        migrate(opened.database)
        execute(opened, "DELETE FROM heimdall.recording_sessions")
        yield opened


def during_extraction(monkeypatch, hook: Callable[[], None], segments: int = 5) -> None:
    """Let ``hook`` happen once, in the first run of the job that has extracted so many segments."""
    happened = threading.Event()

    def told(line: str) -> None:
        if line.startswith(f"{segments} of ") and not happened.is_set():
            happened.set()
            hook()

    monkeypatch.setattr(
        recorded, "extract_session", lambda stores, session_id, **_: extract_session(stores, session_id, progress=told)
    )


# The S3 store


@pytest.mark.slow
def test_without_s3_a_run_fails_naming_it_and_succeeds_once_it_is_back(own_servers, own_stores, example_recordings):
    session_id = str(import_files(own_stores, example_recordings).session_id)
    nothing = stored(own_stores, session_id)
    own_servers.kill_s3()
    result = run_job(session_id)
    assert_failed_for_an_outage(result, "S3 store at 127.0.0.1:")
    assert result.get_asset_check_evaluations() == []
    assert stored(own_stores, session_id) == nothing
    assert nothing["features"] == []
    own_servers.start_s3_again(locations_of(own_stores, session_id))
    result = run_job(session_id)
    assert result.success
    assert retries(result) == 0
    complete = stored(own_stores, session_id)
    assert len(complete["features"]) == EXAMPLE_ROWS
    own_servers.kill_s3()
    assert not run_job(session_id).success
    assert stored(own_stores, session_id) == complete
    own_servers.start_s3_again(locations_of(own_stores, session_id))


@pytest.mark.slow
def test_s3_that_goes_away_in_the_middle_leaves_the_rows_that_were_there(s3_link, stores, session_id, in_small_steps):
    def run_that_is_cut() -> dg.ExecuteInProcessResult:
        s3_link.cut_after(EXAMPLE_IQ_BYTES // 2)
        result = run_job(session_id)
        assert s3_link.is_cut
        s3_link.repair()
        return result

    nothing = stored(stores, session_id)
    assert_failed_for_an_outage(run_that_is_cut(), "S3 store at 127.0.0.1:")
    assert stored(stores, session_id) == nothing
    assert run_job(session_id).success
    complete = stored(stores, session_id)
    assert len(complete["features"]) == EXAMPLE_ROWS
    assert_failed_for_an_outage(run_that_is_cut(), "S3 store at 127.0.0.1:")
    assert stored(stores, session_id) == complete


@pytest.mark.slow
def test_an_outage_of_s3_that_ends_in_time_is_ridden_out(s3_link, stores, session_id, in_small_steps, monkeypatch):
    during_extraction(monkeypatch, s3_link.cut)
    attempt = recorded.extract_session

    def attempt_that_finds_s3_back_at_the_third(stores, session_id, **more):
        attempts.append(session_id)
        if len(attempts) == 3:
            s3_link.repair()
        return attempt(stores, session_id, **more)

    attempts: list[str] = []
    monkeypatch.setattr(recorded, "extract_session", attempt_that_finds_s3_back_at_the_third)
    result = run_job(session_id)
    assert result.success
    assert retries(result) == 2
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True] * len(SESSION_CHECKS)
    assert len(stored(stores, session_id)["features"]) == EXAMPLE_ROWS


@pytest.mark.slow
def test_the_command_line_names_the_store_that_is_down(s3_link, stores, session_id, tmp_path, monkeypatch):
    (tmp_path / "dagster.yaml").touch()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    s3_link.cut()
    with pytest.raises(RunFailedError, match=r"^S3 store at 127\.0\.0\.1:"):
        extract_now(stores, get_session(stores.database, session_id))


# The checks


@pytest.mark.slow
@pytest.mark.parametrize("link", ["s3_link", "postgres_link"])
def test_an_outage_during_the_checks_is_neither_a_failed_nor_a_passed_check(
    request, link, stores, session_id, monkeypatch
):
    way = request.getfixturevalue(link)

    def check_when_it_is_cut(stores, session_id):
        way.cut()
        return validate_session(stores, session_id)

    monkeypatch.setattr(recorded, "validate_session", check_when_it_is_cut)
    result = run_job(session_id)
    named = "S3 store at 127.0.0.1:" if link == "s3_link" else "PostgreSQL at 127.0.0.1:"
    assert_failed_for_an_outage(result, named)
    assert result.get_asset_check_evaluations() == []
    assert len(stored(stores, session_id)["features"]) == EXAMPLE_ROWS
    assert get_session(stores.database, session_id).health_status == "unknown"


@pytest.mark.slow
@pytest.mark.parametrize("num_bytes", [100, 200_000])  # in the listing, in an object that is read again
def test_an_s3_outage_during_validation_keeps_the_previous_health(s3_link, stores, session_id, num_bytes):
    extract_session(stores, session_id)
    before = validate_session(stores, session_id)
    s3_link.cut_after(num_bytes)
    with open_stores(load_settings()) as through_link, pytest.raises(ObjectsUnavailableError):
        validate_session(through_link, session_id, checksums=True)
    session = get_session(stores.database, session_id)
    assert (session.health_status, session.last_validated_at) == ("healthy", before.validated_at)


# PostgreSQL


@pytest.mark.slow
def test_an_extraction_outlives_a_restart_of_postgres_in_its_middle(
    own_servers, own_stores, example_recordings, in_small_steps, monkeypatch
):
    session_id = str(import_files(own_stores, example_recordings).session_id)

    def restart() -> None:
        own_servers.kill_postgres()
        own_servers.start()

    during_extraction(monkeypatch, restart)
    result = run_job(session_id)
    assert result.success
    assert retries(result) == 1
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True] * len(SESSION_CHECKS)
    after_the_restart = stored(own_stores, session_id)
    assert len(after_the_restart["features"]) == EXAMPLE_ROWS
    assert run_job(session_id).success  # undisturbed, it makes the same rows
    assert stored(own_stores, session_id) == after_the_restart


@pytest.mark.slow
def test_postgres_that_stays_away_fails_the_run_and_keeps_the_rows_that_were_there(
    own_servers, own_stores, example_recordings, in_small_steps, monkeypatch
):
    session_id = str(import_files(own_stores, example_recordings).session_id)
    assert run_job(session_id).success
    before = stored(own_stores, session_id)
    during_extraction(monkeypatch, own_servers.kill_postgres)
    result = run_job(session_id)
    own_servers.start()
    assert_failed_for_an_outage(result, "PostgreSQL at 127.0.0.1:")
    assert DatabaseUnavailableError.__name__ in failure_messages(result)[1]
    assert stored(own_stores, session_id) == before


def test_postgres_that_breaks_off_without_a_run_raises_its_own_error(postgres_link, stores, session_id, in_small_steps):
    with open_stores(load_settings()) as through_link:
        with pytest.raises(DatabaseUnavailableError, match=r"^PostgreSQL at 127\.0\.0\.1:"):
            extract_session(through_link, session_id, progress=lambda _: postgres_link.cut())
        assert stored(stores, session_id)["features"] == []
        postgres_link.repair()
        assert extract_session(through_link, session_id).num_rows == EXAMPLE_ROWS


@pytest.mark.slow
def test_s3_that_breaks_off_without_a_run_raises_its_own_error(s3_link, stores, session_id, in_small_steps):
    with open_stores(load_settings()) as through_link:
        with pytest.raises(ObjectsUnavailableError, match=r"^S3 store at 127\.0\.0\.1:"):
            extract_session(through_link, session_id, progress=lambda _: s3_link.cut())
        assert stored(stores, session_id)["features"] == []
        s3_link.repair()
        assert extract_session(through_link, session_id).num_rows == EXAMPLE_ROWS


# A killed process


@pytest.mark.slow
def test_an_extraction_that_is_killed_leaves_nothing_and_again_makes_the_same_rows(
    environment, stores, session_id, tmp_path
):
    before = stored(stores, session_id)
    kill_in_the_middle(stores, session_id, tmp_path / "first")
    assert stored(stores, session_id) == before
    extract_session(stores, session_id)
    complete = stored(stores, session_id)
    assert len(complete["features"]) == EXAMPLE_ROWS
    kill_in_the_middle(stores, session_id, tmp_path / "second")
    assert stored(stores, session_id) == complete
    extract_session(stores, session_id)
    assert stored(stores, session_id) == complete


def kill_in_the_middle(stores: Stores, session_id: str, reached: Path) -> None:
    """Start an extraction as a process of its own and kill -9 it when some rows are inserted."""
    before = stored(stores, session_id)
    with subprocess.Popen([sys.executable, "-c", STOPPING_EXTRACTION, session_id, str(reached)]) as run:
        try:

            def stands_in_the_middle() -> bool:
                assert run.poll() is None
                return reached.exists()

            wait_for("the extraction to be in its middle", stands_in_the_middle)
            assert stored(stores, session_id) == before  # no partial result is visible
        finally:
            run.kill()


# Rivals


@contextlib.contextmanager
def held_in_the_middle(settings, session_id: str) -> Iterator[tuple[Future, threading.Event]]:
    """An extraction in a thread, with connections of its own, that waits in its middle until it is let go."""
    reached, let_go = threading.Event(), threading.Event()

    def hold(line: str) -> None:
        if line.startswith("5 of "):
            reached.set()
            assert let_go.wait(TIMEOUT_S)

    def extract():
        with open_stores(settings) as own:
            return extract_session(own, session_id, progress=hold)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(extract)
        try:
            wait_for("the extraction to be in its middle", lambda: reached.is_set() or running.done())
            yield running, let_go
        finally:
            let_go.set()


def is_waited_for(stores: Stores) -> bool:
    """Whether some session of this test's database waits for a lock."""
    (row,) = execute(
        stores,
        "SELECT count(*) AS waiting FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    return row["waiting"] > 0


def test_two_extractions_at_once_end_with_one_set_of_rows(settings, stores, session_id, in_small_steps):
    with held_in_the_middle(settings, session_id) as (first, let_go), ThreadPoolExecutor(1) as pool:
        with open_stores(settings) as own:
            second = pool.submit(extract_session, own, session_id, progress=lambda _: None)
            wait_for("the second to wait for the first", lambda: is_waited_for(stores) or second.done())
            assert not second.done()
            let_go.set()
            assert second.result(TIMEOUT_S).num_rows == EXAMPLE_ROWS
        assert first.result(TIMEOUT_S).num_rows == EXAMPLE_ROWS
    both = stored(stores, session_id)
    assert [row["segment_idx"] for row in both["features"]] == list(range(EXAMPLE_ROWS))
    extract_session(stores, session_id)
    assert stored(stores, session_id) == both


@pytest.mark.slow
@pytest.mark.parametrize("extracted_before", [False, True])
def test_a_session_completed_again_meanwhile_gets_no_row_of_the_revision_before(
    settings, stores, session_id, in_small_steps, extracted_before
):
    if extracted_before:
        extract_session(stores, session_id)
    before, slug = stored(stores, session_id), get_session(stores.database, session_id).slug
    with held_in_the_middle(settings, session_id) as (running, let_go):
        for status in ("in_progress", "completed"):
            execute(
                stores,
                "UPDATE heimdall.recording_sessions SET status = :status WHERE id = :id",
                status=status,
                id=session_id,
            )
        let_go.set()
        with pytest.raises(SupersededError, match=rf"{slug} .*\(now completed, revision 2\)"):
            running.result(TIMEOUT_S)
    assert stored(stores, session_id) == before
    assert due_for_extraction(stores.database, limit=2) == [SessionRevision(UUID(session_id), slug, 2)]
    result = run_job(session_id)
    assert result.success
    rows = stored(stores, session_id)["features"]
    assert [row["session_revision"] for row in rows] == [2] * EXAMPLE_ROWS
    assert due_for_extraction(stores.database, limit=2) == []


@pytest.mark.slow
def test_a_superseded_run_fails_at_once_without_retries(stores, session_id, in_small_steps, monkeypatch):
    def complete_again() -> None:
        for status in ("in_progress", "completed"):
            execute(stores, f"UPDATE heimdall.recording_sessions SET status = '{status}' WHERE id = '{session_id}'")

    during_extraction(monkeypatch, complete_again)
    result = run_job(session_id)
    assert not result.success
    assert retries(result) == 0
    assert SupersededError.__name__ in failure_messages(result)[1]


def test_a_session_deleted_before_its_first_rows_are_written_is_a_clear_error(
    settings, stores, session_id, monkeypatch
):
    monkeypatch.setattr(extraction, "PROGRESS_INTERVAL_S", -1.0)  # rows are inserted at the end only
    slug = get_session(stores.database, session_id).slug
    with held_in_the_middle(settings, session_id) as (running, let_go):
        execute(stores, "DELETE FROM heimdall.recording_sessions WHERE id = :id", id=session_id)
        let_go.set()
        with pytest.raises(SessionNotFoundError, match=rf"{slug} was deleted while it was being extracted"):
            running.result(TIMEOUT_S)
    assert stored(stores, session_id) == {"features": [], "metrics": []}


@pytest.mark.slow
def test_a_session_whose_deletion_begins_while_it_is_extracted_gets_no_rows(
    settings, stores, session_id, in_small_steps
):
    slug = get_session(stores.database, session_id).slug
    with held_in_the_middle(settings, session_id) as (running, let_go):
        with open_stores(settings) as own:
            begin_deletion(own.database, UUID(session_id))
        let_go.set()
        with pytest.raises(SessionBeingDeletedError, match=f"finish it with: heimdall session delete {slug}"):
            running.result(TIMEOUT_S)
    assert stored(stores, session_id)["features"] == []
    assert due_for_extraction(stores.database, limit=2) == []


def test_a_session_that_is_deleted_while_it_is_extracted_leaves_nothing(settings, stores, session_id, in_small_steps):
    with held_in_the_middle(settings, session_id) as (running, let_go), ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(delete_session, stores, session_id, lambda _: None, lambda _: None)
        with open_stores(settings) as observer:
            wait_for("the deletion to wait", lambda: is_waited_for(observer) or deleting.done())
        assert not deleting.done()
        let_go.set()
        with pytest.raises(SessionBeingDeletedError):
            running.result(TIMEOUT_S)
        deleting.result(TIMEOUT_S)
    assert stored(stores, session_id) == {"features": [], "metrics": []}
    assert list(stores.objects.entries(stores.objects.raw_iq_bucket, "")) == []


@pytest.mark.slow
def test_deleting_a_session_whose_rows_are_being_written_waits_and_leaves_nothing(
    settings, stores, session_id, in_small_steps
):
    with held_in_the_middle(settings, session_id) as (running, let_go), ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(execute, stores, "DELETE FROM heimdall.recording_sessions WHERE id = :id", id=session_id)
        with open_stores(settings) as observer:
            wait_for("the deletion to wait", lambda: is_waited_for(observer) or deleting.done())
        let_go.set()
        assert running.result(TIMEOUT_S).num_rows == EXAMPLE_ROWS
        deleting.result(TIMEOUT_S)
    assert stored(stores, session_id) == {"features": [], "metrics": []}
    with pytest.raises(SessionNotFoundError):
        extract_session(stores, session_id)
