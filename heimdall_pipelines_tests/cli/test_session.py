"""`heimdall session validate`, `backfill` and `delete` as people type them."""

import io
import json
import os
import re
import signal
import subprocess
import sys

import dagster as dg
import pytest
import typer
from sqlalchemy import text

from heimdall_pipelines.cli import confirming
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.recorded import checked_asset
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.session_deletion import begin_deletion
from heimdall_pipelines.store.session_revisions import due_for_extraction
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines_tests.sealing import reseal
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options, quiet
from heimdall_pipelines_tests.waiting import TIMEOUT_S

UNKNOWN = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def session(example_session):
    """The slug of an extracted session."""
    return example_session().slug


@pytest.fixture
def short_session(stores, tmp_path):
    """Import a session of one second; each number gives another, by its slug."""

    def make(number):
        folder = tmp_path / f"recording{number}"
        folder.mkdir()
        files = npy_files(folder, {"torino": noise(200_000, key=number)})
        return import_files(stores, files, **npy_options()).slug

    return make


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        connection.execute(text(statement), values)


def id_of(stores, slug):
    return get_session(stores.database, slug).id


def due_slugs(stores):
    return [due.slug for due in due_for_extraction(stores.database, limit=9)]


def put_stranger(stores, session):
    location = ObjectLocation(stores.objects.raw_iq_bucket, f"sessions/{id_of(stores, session)}/stranger.npy")
    stores.objects.put(location, io.BytesIO(b"x"), 1, "application/octet-stream")
    return location


def evaluations(session):
    """What Dagster says of each check of a session: whether it passed."""
    found = {}
    with dg.DagsterInstance.get() as instance:
        for name in SESSION_CHECKS:
            key = dg.AssetCheckKey(checked_asset(name), name)
            for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=5):
                evaluation = record.event.dagster_event.event_specific_data
                if evaluation.partition == session:
                    found.setdefault(name, evaluation.passed)
    return found


def partitions():
    with dg.DagsterInstance.get() as instance:
        return instance.get_dynamic_partitions(RECORDING_SESSIONS)


# validate


@pytest.mark.slow
def test_a_healthy_session_exits_with_0_and_is_recorded(heimdall, session):
    code, out, _ = heimdall("session", "validate", session, "--checksums")
    assert (code, out.count(" passed ")) == (0, len(SESSION_CHECKS))
    assert f"session {session}" in out
    assert "healthy, 0 of 12 segments affected" in out
    assert "checksums_compared 3" in out
    assert evaluations(session) == dict.fromkeys(SESSION_CHECKS, True)
    assert re.search(rf"{session} .* extracted +healthy +\d{{4}}-\d\d-\d\d ", heimdall("session", "list")[1])
    assert "health healthy, validated 2" in heimdall("session", "show", session)[1]


@pytest.mark.slow
def test_a_session_may_be_validated_again_and_the_last_result_is_dagsters(heimdall, stores, session):
    heimdall("session", "extract", session)
    stranger = put_stranger(stores, session)
    for _ in range(2):
        assert heimdall("session", "validate", session)[0] == 1
    assert evaluations(session)["objects_agree"] is False
    stores.objects.remove(stranger.bucket, stranger.key)
    assert heimdall("session", "validate", "--all")[0] == 0
    assert evaluations(session) == dict.fromkeys(SESSION_CHECKS, True)


@pytest.mark.slow
def test_issues_exit_with_1_and_show_the_repair(heimdall, stores, session):
    stranger = put_stranger(stores, session)
    execute(stores, "UPDATE heimdall.measurement_features SET receiver_features = '[]' WHERE segment_idx < 2")
    code, out, _ = heimdall("session", "validate", session)
    assert code == 1
    assert f"  - {stranger}: an object that no measurement names" in out
    assert "  - segment 1: station torino is missing" in out
    assert f"  to repair: heimdall session extract {session}" in out
    assert "IQ of recordings cannot be regenerated" in out
    told = evaluations(session)
    failed = {name for name, passed in told.items() if not passed}
    assert failed == {"stations_in_every_segment", "numbers_in_range", "objects_agree", "rows_as_committed"}
    assert re.search(rf"{session} .* critical ", heimdall("session", "list")[1])


@pytest.mark.slow
def test_of_very_many_problems_twenty_are_printed(heimdall, stores, session):
    execute(stores, "UPDATE heimdall.measurement_features SET receiver_features = '[]'")
    _, out, _ = heimdall("session", "validate", session)
    assert out.count("  - segment ") == 20 + 12 + 12  # of stations, and twice the 12 rows that were edited
    assert "  and 28 more" in out  # 12 segments without 3 stations, and 12 whose counts do not match


@pytest.mark.slow
def test_json_is_one_document_on_standard_output(heimdall, stores, session, short_session):
    document = json.loads(heimdall("session", "validate", session, "--json")[1])
    assert (document["slug"], document["session_id"]) == (session, str(id_of(stores, session)))
    assert document["health_status"] == "healthy"
    short_session(1)
    code, out, _ = heimdall("session", "validate", "--all", "--json")
    assert code == 1
    assert [document["health_status"] for document in json.loads(out)] == ["healthy", "critical"]


@pytest.mark.parametrize("arguments", [(UNKNOWN,), ("12",), (UNKNOWN, "--json")])
def test_an_impossible_session_validation_exits_with_2(heimdall, arguments):
    code, out, err = heimdall("session", "validate", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Error: no")


@pytest.mark.parametrize("arguments", [("--all",), (UNKNOWN,)])
def test_an_outage_is_no_result_and_ends_with_2(heimdall, session, monkeypatch, arguments):
    monkeypatch.setenv("HEIMDALL_PG_PORT", "1")
    code, out, err = heimdall("session", "validate", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Error: PostgreSQL at 127.0.0.1:1/")


@pytest.mark.slow
def test_all_are_validated_but_those_in_progress_or_being_deleted(heimdall, stores, session, short_session):
    in_progress, to_delete = short_session(1), short_session(2)
    execute(
        stores, "UPDATE heimdall.recording_sessions SET status = 'in_progress' WHERE slug = :slug", slug=in_progress
    )
    reseal(stores)
    begin_deletion(stores.database, id_of(stores, to_delete))
    code, out, _ = heimdall("session", "validate", "--all")
    assert code == 0
    assert re.findall(r"session ([0-9A-Za-z-]+) ", out) == [session]
    code, _, err = heimdall("session", "validate", in_progress)
    assert (code, "is in_progress" in err) == (2, True)
    code, _, err = heimdall("session", "validate", to_delete)
    assert (code, f"heimdall session delete {to_delete}" in " ".join(err.split())) == (2, True)


def test_validating_neither_one_nor_all_is_a_wrong_command(heimdall):
    assert heimdall("session", "validate")[0] == 2
    assert heimdall("session", "validate", UNKNOWN, "--all")[0] == 2


@pytest.mark.slow
def test_every_command_takes_the_id_too(heimdall, stores, session):
    session_id = str(id_of(stores, session))
    shown = heimdall("session", "show", session_id)
    assert shown == heimdall("session", "show", session)
    assert f"session {session}, id {session_id}" in shown[1]
    for command in ("extract", "validate"):
        assert heimdall("session", command, session_id)[0] == 0
    assert heimdall("session", "backfill", "--after", session_id)[0] == 0
    assert partitions() == [session]
    assert heimdall("session", "delete", session_id, "--yes")[0] == 0
    assert partitions() == []


# backfill


@pytest.mark.slow
def test_due_sessions_are_extracted_oldest_first_and_then_no_longer_due(heimdall, stores, session, short_session):
    first, second = short_session(1), short_session(2)
    code, out, _ = heimdall("session", "backfill", "--dry-run")
    assert (code, re.findall(r"([0-9A-Za-z-]+): ", out)[:2]) == (0, [first, second])
    assert "found: 2; nothing was done" in out
    code, out, _ = heimdall("session", "backfill", "--limit", 1)
    assert (code, f"1 of 1: session {first}: done" in out) == (0, True)
    assert due_slugs(stores) == [second]
    assert "found: 1, done: 1, failed: 0" in heimdall("session", "backfill")[1]
    assert "found: 0, done: 0, failed: 0" in heimdall("session", "backfill")[1]
    assert partitions() == [first, second]
    assert get_session(stores.database, second).health_status == "healthy"


@pytest.mark.slow
def test_a_session_that_fails_does_not_stop_the_others(heimdall, stores, short_session):
    broken, sound = short_session(1), short_session(2)
    execute(stores, "DELETE FROM heimdall.measurements WHERE recording_session_id = :id", id=id_of(stores, broken))
    code, out, _ = heimdall("session", "backfill")
    assert code == 1
    assert f"2 of 2: session {sound}: done" in out
    assert "found: 2, done: 1, failed: 1" in out
    assert f"  - {broken}: session {broken} has no measurements" in out
    again = heimdall("session", "backfill", "--limit", 1)[1]
    assert "found: 1, done: 0, failed: 1" in again
    assert "found: 0" in heimdall("session", "backfill", "--limit", 1, "--after", broken)[1]
    assert heimdall("session", "backfill", "--after", UNKNOWN)[0] == 1


@pytest.mark.slow
def test_a_session_that_is_extracted_meanwhile_is_passed_over(heimdall, stores, short_session, monkeypatch):
    first, second = short_session(1), short_session(2)
    from heimdall_pipelines.cli import session_backfill

    extract_on = session_backfill.extract_on

    def extract_both(*arguments):
        extract_session(stores, second, quiet)
        return extract_on(*arguments)

    monkeypatch.setattr(session_backfill, "extract_on", extract_both)
    code, out, _ = heimdall("session", "backfill")
    assert (code, f"2 of 2: session {second}: extracted or deleted meanwhile" in out) == (0, True)
    assert "found: 2, done: 1, 1 extracted or deleted meanwhile, failed: 0" in out
    assert partitions() == [first]


# Stops in its second session, in the middle of Dagster's run, until it is interrupted.
STOPPING_BACKFILL = """
import signal, sys, time
from heimdall_pipelines import cli
from heimdall_pipelines.defs import recorded

extract, calls = recorded.extract_session, []

def extract_and_stop(*arguments, **more):
    calls.append(arguments)
    if len(calls) == 2:
        print("reached", file=sys.stderr, flush=True)
        time.sleep(3600)
    return extract(*arguments, **more)

recorded.extract_session = extract_and_stop
# What runs in the background of a shell ignores SIGINT, and what it starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["heimdall", "session", "backfill"]
cli.main()
"""


@pytest.mark.slow
def test_ctrl_c_keeps_finished_sessions_and_says_how_to_continue(heimdall, stores, short_session):
    ids = [short_session(number) for number in (1, 2, 3)]
    with subprocess.Popen(
        [sys.executable, "-c", STOPPING_BACKFILL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as process:
        try:
            while "reached" not in (line := process.stderr.readline()):
                assert line, "it ended before its second session"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "found: 3, done: 1, failed: 0" in out
    assert "To continue: heimdall session backfill" in err
    assert "Traceback" not in err
    assert due_slugs(stores) == ids[1:]
    assert heimdall("session", "backfill")[0] == 0
    assert due_for_extraction(stores.database, limit=9) == []


# delete


@pytest.mark.slow
def test_without_a_terminal_nothing_is_deleted_unless_yes_is_given(heimdall, stores, session):
    heimdall("session", "validate", session)
    code, _, err = heimdall("session", "delete", session)
    assert code == 1
    assert "with 3 stations, 12 feature rows and 6 objects of 3.6 MB was not deleted" in " ".join(err.split())
    assert partitions() == [session]
    code, out, _ = heimdall("session", "delete", session, "--yes")
    assert (code, f"deleted: session {session}" in out) == (0, True)
    assert partitions() == []
    assert list(stores.objects.entries(stores.objects.raw_iq_bucket, "")) == []
    code, _, err = heimdall("session", "delete", session, "--yes")
    assert (code, f"no session {session}" in err) == (1, True)
    code, _, err = heimdall("session", "delete", UNKNOWN, "--yes")
    assert (code, "no data of one" in err) == (1, True)


def test_a_deletion_warns_that_recordings_cannot_be_regenerated(heimdall, stores, session, monkeypatch):
    asked = []
    monkeypatch.setattr(confirming.sys.stdin, "isatty", lambda: True, raising=False)

    def answer_no(question, abort):
        asked.append(question)
        raise typer.Abort

    monkeypatch.setattr(typer, "confirm", answer_no)
    assert heimdall("session", "delete", session)[0] == 1
    assert asked[0].endswith("Recordings CANNOT be regenerated.")
    assert list_recordings(stores.database, get_session(stores.database, session).id)


def test_a_deletion_that_broke_off_shows_and_is_finished_by_the_same_command(heimdall, stores, session):
    begin_deletion(stores.database, id_of(stores, session))
    assert re.search(rf"{session} .* being deleted ", heimdall("session", "list")[1])
    assert f"heimdall session delete {session}" in heimdall("session", "show", session)[1]
    code, _, err = heimdall("session", "extract", session)
    assert (code, "is being deleted" in err) == (1, True)
    assert partitions() == []
    assert heimdall("session", "delete", session, "--yes")[0] == 0


@pytest.mark.slow
def test_what_is_left_of_a_session_without_rows_is_deleted_too(heimdall, stores, session):
    session_id = str(id_of(stores, session))
    execute(stores, "DELETE FROM heimdall.recording_sessions")
    code, out, _ = heimdall("session", "delete", session_id, "--yes")
    assert (code, "whose rows are gone already, with 0 stations, 0 feature rows and 6 objects" in out) == (0, True)
    assert list(stores.objects.entries(stores.objects.raw_iq_bucket, "")) == []
    for partition in (session_id, session):
        with dg.DagsterInstance.get() as instance:
            instance.add_dynamic_partitions(RECORDING_SESSIONS, [partition])
        assert heimdall("session", "delete", partition, "--yes")[0] == 0
        assert partitions() == []
    code, _, err = heimdall("session", "delete", session, "--yes")
    assert (code, f"no session {session}" in err) == (1, True)
