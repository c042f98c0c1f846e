"""Slugs: valid for any name, unique in any order, and created by a migration for existing sessions."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic import command
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.migrate import _migrations, migrate
from heimdall_pipelines.store.recordings import RecordedSession, open_recording_session
from heimdall_pipelines.store.session_import import ImportedSession, begin_import
from heimdall_pipelines.store.session_slugs import SlugError, check_slug, default_session_name, session_slug
from heimdall_pipelines.store.sessions import SessionNotFoundError, get_session
from heimdall_pipelines_tests.alerts.support import LOG, evaluation
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

START = datetime(2017, 11, 27, 10, 41, 56, 999_999, tzinfo=UTC)
BASE = "20171127T104156Z-77500hz"
INSERT = (
    "INSERT INTO heimdall.recording_sessions (slug, name, frequency_hz, bandwidth_hz) VALUES (:slug, 's', 1, 1)"
    " RETURNING id"
)


@pytest.fixture
def database(stores):
    return stores.database


@pytest.fixture
def before_slugs(empty_database_settings):
    """A database as the revision before slugs left it."""
    with Database(empty_database_settings) as opened:
        config, script, _ = _migrations()
        with opened.transaction() as connection:
            connection.execute(text("CREATE SCHEMA heimdall"))
            config.attributes["connection"] = connection
            command.upgrade(config, script.get_revision("0007").down_revision)
        yield opened


def execute(database, statement, **values):
    with database.transaction() as connection:
        return connection.execute(text(statement), values)


def slugs(database):
    return execute(database, "SELECT slug FROM heimdall.recording_sessions ORDER BY created_at, id").scalars().all()


def recorded(slug):
    return RecordedSession(slug, "s", 77_500.0, 12_500.0, None, deadline_in_s=60.0)


def imported(slug, content="0" * 64):
    return ImportedSession(slug, "s", 77_500.0, 12_500.0, None, content)


@pytest.mark.parametrize(
    ("name", "known_source", "expected"),
    [
        ("DCF77", None, f"{BASE}-dcf77"),
        ("Zürich / Nord: Ærø ①", None, f"{BASE}-zurich-nord-r-1"),
        ("📡", None, BASE),
        ("../../etc/passwd", None, f"{BASE}-etc-passwd"),
        ("מקלט DCF77", None, f"{BASE}-dcf77"),
        ("x" * 300, None, f"{BASE}-{'x' * 40}"),
        (f"{'y' * 39} z", None, f"{BASE}-{'y' * 39}"),
        ("", None, BASE),
        (default_session_name(77_500.0, START), None, BASE),
        (default_session_name(77_500.0, START), "DCF77", f"{BASE}-dcf77"),
        ("night", "DCF77", f"{BASE}-night"),
    ],
)
def test_a_slug_is_made_of_start_frequency_and_name(name, known_source, expected):
    assert session_slug(START, 77_500.0, name, known_source) == expected


@pytest.mark.parametrize(
    ("frequency_hz", "expected"),
    [(0.0, "0hz"), (145_500_000.4, "145500000hz"), (1e300, "1e-300hz"), (1e12, f"1{'0' * 12}hz")],
)
def test_a_frequency_is_rounded_to_whole_hertz(frequency_hz, expected):
    assert session_slug(START, frequency_hz, "") == f"20171127T104156Z-{expected}"


def test_the_time_of_a_slug_is_utc():
    start = datetime(2017, 11, 27, 11, 41, 56, tzinfo=timezone(timedelta(hours=1)))
    assert session_slug(start, 77_500.0, "") == BASE


@given(
    start=st.datetimes(timezones=st.just(UTC)),
    frequency_hz=st.floats(min_value=0),
    name=st.text(st.characters(), max_size=400),
)
def test_any_name_gives_a_slug_that_is_valid(start, frequency_hz, name):
    assert check_slug(session_slug(start, frequency_hz, name))


INVALID = [
    "",
    "Night",
    "night_watch",
    "-night",
    "night-",
    "night--watch",
    "nächte",
    "night watch",
    "20171127T104156Z",
    "20171127T104156Z-",
    "2017T10Z-x",
    "night\n",
    "123e4567-e89b-12d3-a456-426614174000",
    "123e4567e89b12d3a456426614174000",
]


@pytest.mark.parametrize("slug", INVALID)
def test_a_malformed_slug_is_refused_by_code_and_database(database, slug):
    with pytest.raises(SlugError, match="malformed"):
        check_slug(slug)
    with pytest.raises(IntegrityError, match="recording_sessions_slug_check"):
        execute(database, INSERT, slug=slug)


def test_a_slug_that_is_given_leaves_room_for_a_number(database):
    check_slug("n" * 80)
    with pytest.raises(SlugError, match="at most 80 characters"):
        check_slug("n" * 81)
    execute(database, INSERT, slug="n" * 100)
    with pytest.raises(IntegrityError, match="recording_sessions_slug_check"):
        execute(database, INSERT, slug="n" * 101)


def test_a_taken_slug_is_followed_by_the_lowest_free_number(database):
    made = [open_recording_session(database, recorded("night")).slug for _ in range(3)]
    assert made == ["night", "night-2", "night-3"]
    execute(database, "DELETE FROM heimdall.recording_sessions WHERE slug = 'night-2'")
    assert begin_import(database, imported("night"))[0].slug == "night-2"


def test_an_import_that_is_taken_up_keeps_its_slug(database):
    first, _ = begin_import(database, imported("night"))
    again, is_completed = begin_import(database, imported("other"))
    assert (again, is_completed) == (first, False)
    assert slugs(database) == ["night"]


def is_waiting(database):
    return execute(
        database,
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query LIKE '%recording_sessions%')",
    ).scalar_one()


@pytest.mark.parametrize(
    "open_rival",
    [lambda d: open_recording_session(d, recorded("night")).slug, lambda d: begin_import(d, imported("night"))[0].slug],
)
@pytest.mark.parametrize(("ends", "expected"), [("commits", "night-2"), ("rolls back", "night")])
def test_two_connections_get_different_numbers(database, open_rival, ends, expected):
    """The rival finds the slug free, waits for the first to end, and tries the next number where it is taken."""
    with ThreadPoolExecutor(1) as pool:
        with database._engine.connect() as first:
            transaction = first.begin()
            first.execute(text(INSERT), {"slug": "night"})
            rival = pool.submit(open_rival, database)
            wait_for("the rival to wait, or its end", lambda: is_waiting(database) or rival.done())
            assert not rival.done()
            (transaction.commit if ends == "commits" else transaction.rollback)()
        assert rival.result(TIMEOUT_S) == expected


def test_many_at_once_get_a_number_each(database):
    number = 8
    at_once = threading.Barrier(number)

    def open_one(_):
        at_once.wait(TIMEOUT_S)
        return open_recording_session(database, recorded("night")).slug

    with ThreadPoolExecutor(number) as pool:
        made = list(pool.map(open_one, range(number)))
    assert sorted(made) == ["night", *(f"night-{no}" for no in range(2, number + 1))]


def test_a_slug_never_changes(database):
    execute(database, INSERT, slug="night")
    execute(database, "UPDATE heimdall.recording_sessions SET name = 'renamed', slug = slug")
    with pytest.raises(IntegrityError, match="the slug of session night never changes"):
        execute(database, "UPDATE heimdall.recording_sessions SET slug = 'day'")


def test_a_session_is_found_by_slug_and_by_id(database):
    session_id = execute(database, INSERT, slug="night").scalar_one()
    for key in ("night", session_id, str(session_id), str(session_id).upper()):
        assert get_session(database, key).id == session_id
    for key in ("Night", "night-2", "../", ""):
        with pytest.raises(SessionNotFoundError, match="heimdall session list"):
            get_session(database, key)


OLD_SESSION = (
    "INSERT INTO heimdall.recording_sessions"
    " (id, name, status, frequency_hz, bandwidth_hz, start_time, end_time, created_at, known_source_id)"
    " SELECT md5(no::text)::uuid, :name, 'completed', 77500, 12500, CAST(:start AS timestamptz),"
    " CAST(:start AS timestamptz), timestamptz '2017-11-28' + no * interval '1 s',"
    " (SELECT id FROM heimdall.known_sources) FROM generate_series(:first, :last) AS no"
)


def test_the_migration_fills_slugs_in_the_order_of_creation(before_slugs):
    execute(
        before_slugs,
        "INSERT INTO heimdall.known_sources (name, frequency_hz, latitude, longitude) VALUES ('DCF77', 77500, 50, 9)",
    )
    sessions = [
        ("night", START),
        ("night", START),
        ("night 2", START),
        ("Nacht 📡", START),
        (default_session_name(77_500.0, START), START),
        ("never began", None),
        ("far away", "infinity"),
        ("long ago", "0044-03-15 BC"),
    ]
    for no, (name, start) in enumerate(sessions):
        execute(before_slugs, OLD_SESSION, name=name, start=start, first=no, last=no)
    migrate(before_slugs)
    assert slugs(before_slugs) == [
        f"{BASE}-night",
        f"{BASE}-night-2",
        f"{BASE}-night-2-2",
        f"{BASE}-nacht",
        f"{BASE}-dcf77",
        "20171128T000005Z-77500hz-never-began",
        "20171128T000006Z-77500hz-far-away",
        "20171128T000007Z-77500hz-long-ago",
    ]
    revisions = execute(before_slugs, "SELECT DISTINCT revision FROM heimdall.recording_sessions").scalars().all()
    assert revisions == [1]  # no session became due by it


@pytest.mark.slow
def test_ten_thousand_equal_sessions_get_a_slug_each(before_slugs):
    execute(before_slugs, OLD_SESSION, name="night", start=START, first=1, last=10_000)
    migrate(before_slugs)
    made = slugs(before_slugs)
    assert made == [f"{BASE}-night", *(f"{BASE}-night-{no}" for no in range(2, 10_001))]
    assert open_recording_session(before_slugs, recorded(f"{BASE}-night")).slug == f"{BASE}-night-10001"


def test_the_migration_keeps_levels_and_open_incidents(before_slugs):
    execute(before_slugs, OLD_SESSION, name="night", start=START, first=1, last=1)
    session_id = execute(before_slugs, "SELECT id::text FROM heimdall.recording_sessions").scalar_one()
    execute(
        before_slugs,
        "INSERT INTO heimdall.websdr_stations (rx_id, name, latitude, longitude) VALUES ('torino', 'Torino', 45, 7)",
    )
    execute(
        before_slugs,
        "INSERT INTO heimdall.measurements (timestamp, recording_session_id, websdr_station_id, start_time_unix_ns,"
        " time_source, samples_count, full_scale_dbm, is_calibrated, signal_strength_db, error_message)"
        " SELECT now(), CAST(:id AS uuid), id, 0, 'given', 0, 0, true, -71.5, 'x' FROM heimdall.websdr_stations",
        id=session_id,
    )
    seen = evaluation(1, partition=session_id)
    execute(
        before_slugs,
        "INSERT INTO heimdall.alerts (kind, subject, severity, asset, check_name, partition, title, body, event_log,"
        " event_id, raised_at) VALUES ('failed_check', :subject, 'ERROR', :asset, :check, :partition,"
        " 'failed for ' || :partition, 'b', :log, 1, now())",
        subject=seen.subject,
        asset=seen.asset,
        check=seen.check_name,
        partition=session_id,
        log=LOG,
    )
    migrate(before_slugs)
    assert execute(before_slugs, "SELECT signal_strength_dbm FROM heimdall.measurements").scalar_one() == -71.5
    alert = execute(before_slugs, "SELECT subject, partition, title FROM heimdall.alerts").one()
    slug = f"{BASE}-night"
    assert tuple(alert) == (f"{seen.asset}:{seen.check_name}:{slug}", slug, f"failed for {slug}")
