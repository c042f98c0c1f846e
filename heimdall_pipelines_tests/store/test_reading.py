import uuid

import psycopg2
import pytest

from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.migrate import _migrations
from heimdall_pipelines.store.outages import DatabaseRefusedError, DatabaseUnavailableError, LackingRightError
from heimdall_pipelines.store.reading import Reader
from heimdall_pipelines.store.revision import newest_revision, revision_in
from heimdall_pipelines_tests.conftest import execute_on_server

SOME_ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")


def test_a_reader_gives_the_rows_that_the_database_gives(settings):
    query = (
        "SELECT %(id)s AS id, '{\"a\": 1.5}'::jsonb AS json, ARRAY['x', NULL] AS list, 2::numeric AS number,"
        " TIMESTAMPTZ '2026-01-31 12:00:00.5+01' AS time WHERE 1 = ANY(%(ones)s)"
    )
    parameters = {"id": SOME_ID, "ones": [1]}
    with Reader(settings) as reader, Database(settings) as database:
        (by_reader,), (by_database,) = (source.read(query, parameters) for source in (reader, database))
        assert by_reader._asdict() == by_database._asdict()
        assert by_reader.id == SOME_ID
        assert by_reader.json == {"a": 1.5}
        assert revision_in(reader.read) == revision_in(database.read) == newest_revision()


def test_the_newest_revision_is_alembics_head():
    assert newest_revision() == _migrations()[2]


def test_a_reader_cannot_write(settings):
    with Reader(settings) as reader, pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        reader.read("DELETE FROM heimdall.known_sources RETURNING id")


@pytest.mark.parametrize("kind", [Reader, Database])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"pg_port": 1}, DatabaseUnavailableError, "Connection refused"),
        ({"pg_password": "wrong"}, DatabaseRefusedError, "password authentication failed"),
        ({"pg_database": "nowhere"}, DatabaseRefusedError, "does not exist"),
    ],
)
def test_an_unreachable_database_is_named_without_its_password(settings, change, error, words, kind):
    with (
        kind(type(settings)(**settings.model_dump() | change)) as reader,
        pytest.raises(error, match=words) as caught,
    ):
        reader.read("SELECT 1")
    assert str(caught.value).startswith(f"PostgreSQL at {settings.pg_host}:")
    assert settings.pg_password.get_secret_value() not in str(caught.value) + repr(reader)


def test_a_connection_that_breaks_off_is_an_outage(settings):
    with Reader(settings) as reader:
        (row,) = reader.read("SELECT pg_backend_pid() AS pid")
        execute_on_server(settings, f"SELECT pg_terminate_backend({row.pid}, 60000)")  # it returns when that has ended
        with pytest.raises(DatabaseUnavailableError):
            reader.read("SELECT 1")


def test_a_lacking_right_names_the_role(settings):
    role = f"blind_{uuid.uuid4().hex[:8]}"
    execute_on_server(settings, f"CREATE ROLE {role} LOGIN PASSWORD 'blind'")
    try:
        own = type(settings)(**settings.model_dump() | {"pg_user": role, "pg_password": "blind"})
        with Reader(own) as reader, pytest.raises(LackingRightError, match=f"the role {role} .HEIMDALL_PG_USER."):
            reader.read("SELECT 1 FROM heimdall.synthetic_datasets")
    finally:
        execute_on_server(settings, f"DROP ROLE {role}")
