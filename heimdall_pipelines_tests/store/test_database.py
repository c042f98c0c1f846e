import threading
import uuid

import pytest
from sqlalchemy import text

from heimdall_pipelines.store.database import Database
from heimdall_pipelines_tests.conftest import execute_on_server
from heimdall_pipelines_tests.waiting import wait_for


@pytest.fixture
def limited_settings(settings):
    """A role that may hold ten connections and no more."""
    role = f"limited_{uuid.uuid4().hex[:8]}"
    execute_on_server(settings, f"CREATE ROLE {role} LOGIN PASSWORD 'limited' CONNECTION LIMIT 10")
    execute_on_server(settings, f"GRANT USAGE ON SCHEMA heimdall TO {role}", settings.pg_database)
    execute_on_server(settings, f"GRANT SELECT ON ALL TABLES IN SCHEMA heimdall TO {role}", settings.pg_database)
    yield type(settings)(**settings.model_dump() | {"pg_user": role, "pg_password": "limited"})
    execute_on_server(settings, f"DROP OWNED BY {role}", settings.pg_database)
    execute_on_server(settings, f"DROP ROLE {role}")


def test_thirty_threads_work_within_a_role_limited_to_ten_connections(limited_settings):
    problems = []
    with Database(limited_settings) as database:
        together = threading.Barrier(30)

        def ask():
            try:
                together.wait()
                for _ in range(5):
                    with database.transaction() as connection:
                        connection.execute(text("SELECT pg_sleep(0.01) FROM heimdall.websdr_stations"))
            except Exception as error:
                problems.append(error)

        threads = [threading.Thread(target=ask) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_closing_leaves_no_connection_behind(settings):
    with Database(settings) as database, database.transaction() as connection:
        connection.execute(text("SELECT 1"))
    others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    with Database(settings) as observer:

        def look():
            with observer.transaction() as connection:
                return connection.execute(text(f"{others} AND pid <> pg_backend_pid()")).all()

        wait_for("the server to see that it is closed", lambda: look() == [])


def test_a_transaction_that_fails_keeps_nothing(stores):
    insert = "INSERT INTO heimdall.known_sources (name, frequency_hz, latitude, longitude) VALUES ('x', 1, 0, 0)"

    def insert_and_fail():
        with stores.database.transaction() as connection:
            connection.execute(text(insert))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        insert_and_fail()
    with stores.database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM heimdall.known_sources")).scalar() == 0


def test_a_connection_that_the_server_dropped_is_replaced(stores, settings):
    with stores.database.transaction() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    execute_on_server(settings, f"SELECT pg_terminate_backend({pid}, 60000)")  # it returns when that has ended
    with stores.database.transaction() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
