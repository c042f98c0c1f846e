"""One real PostgreSQL and one real S3 server per test session; a database of its own and empty buckets per test."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.settings import ENV_PREFIX, Settings, load_settings
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.migrate import migrate
from heimdall_pipelines.store.objects import ObjectStore
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.fault_table import Fault, FaultTable, compare_or_write, fault_of
from heimdall_pipelines_tests.tcp_link import TcpLink

TEMPLATE = "template_heimdall"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside():
    """Tests see no HEIMDALL_ variable of the machine but those that are meant for tests."""
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX) and not name.startswith(f"{ENV_PREFIX}TEST_"):
            del os.environ[name]


@pytest.fixture(scope="session")
def stack_environment() -> Iterator[dict[str, str]]:
    """HEIMDALL_* of the servers of this test session."""
    # pytest's own folders are closed to the unprivileged user that PostgreSQL runs as under root.
    home = Path(tempfile.mkdtemp(prefix="heimdall-tests-"))
    home.chmod(0o755)
    stack = Stack(home / "home")
    try:
        yield stack.start()
    finally:
        stack.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def server_settings(stack_environment) -> Settings:
    """Settings of the servers, with the default database."""
    return load_settings(**{k.removeprefix(ENV_PREFIX).lower(): v for k, v in stack_environment.items()})


def execute_on_server(settings: Settings, statement: str, database: str = "postgres") -> None:
    """Run a statement outside any transaction, such as CREATE DATABASE."""
    connection = psycopg2.connect(
        host=settings.pg_host,
        port=settings.pg_port,
        user=settings.pg_user,
        password=settings.pg_password.get_secret_value(),
        dbname=database,
    )
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


@pytest.fixture(scope="session")
def _template(server_settings) -> str:
    """A migrated database that those of the tests are copied from (faster than migrating each)."""
    for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):  # a power cut may have these
        execute_on_server(server_settings, statement)
    execute_on_server(server_settings, f"CREATE DATABASE {TEMPLATE}")
    with Database(server_settings.model_copy(update={"pg_database": TEMPLATE})) as database:
        migrate(database)
    return TEMPLATE


@pytest.fixture
def empty_database_settings(server_settings) -> Iterator[Settings]:
    """Settings with an empty database of the test's own, and with buckets that are empty."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute_on_server(server_settings, f"CREATE DATABASE {name}")
    yield _own(server_settings, name)
    execute_on_server(server_settings, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(server_settings, _template) -> Iterator[Settings]:
    """Settings with a migrated database of the test's own, and with buckets that are emptied after it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute_on_server(server_settings, f"CREATE DATABASE {name} TEMPLATE {_template}")
    own = _own(server_settings, name)
    objects = ObjectStore(own)
    objects.create_buckets()
    yield own
    for bucket in (own.s3_bucket_raw_iq, own.s3_bucket_synthetic_iq):
        objects.remove(bucket, "")
    objects.close()
    execute_on_server(server_settings, f"DROP DATABASE {name} WITH (FORCE)")


def _own(server: Settings, name: str) -> Settings:
    # Buckets are shared by the tests of a session, one after the other: the first object in a new one takes 0.2 s.
    return server.model_copy(
        update={"pg_database": name, "s3_bucket_raw_iq": "test-raw-iq", "s3_bucket_synthetic_iq": "test-synthetic-iq"}
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """The HEIMDALL_* variables that say the same as these settings."""
    values = settings.model_dump(exclude={"home", "pg_bindir"}, exclude_none=True)
    secrets = {name: getattr(settings, name) for name in ("pg_password", "s3_secret_key", "alert_urls")}
    values |= {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    return {f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in values.items()}


@pytest.fixture
def stores(settings) -> Iterator[Stores]:
    """Both stores, empty."""
    with open_stores(settings) as opened:
        yield opened


@pytest.fixture
def environment(settings, monkeypatch) -> dict[str, str]:
    """The test's own settings in the environment of this process."""
    variables = environment_of(settings)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def link(settings, monkeypatch):
    """Lead what runs from now on to a server, named by the test, by a link that can be cut."""

    @contextmanager
    def opened(server):
        if server == "PostgreSQL":
            with TcpLink(settings.pg_port) as made:
                monkeypatch.setenv("HEIMDALL_PG_PORT", str(made.port))
                yield made
        else:
            host, _, port = settings.s3_endpoint.rpartition(":")
            with TcpLink(int(port)) as made:
                monkeypatch.setenv("HEIMDALL_S3_ENDPOINT", f"{host}:{made.port}")
                yield made

    return opened


@pytest.fixture(scope="session")
def real_recordings() -> list[Path]:
    """The real KiwiSDR recordings of DCF77."""
    folder = os.environ.get("HEIMDALL_TEST_RECORDINGS")
    if not folder:
        pytest.skip("HEIMDALL_TEST_RECORDINGS does not name the folder of the DCF77 recordings")
    return sorted(Path(folder).glob("*.wav"))


@pytest.fixture(scope="session")
def example_recordings(tmp_path_factory) -> list[Path]:
    """The made-up session of three stations whose delays, offsets and levels are known."""
    from heimdall_pipelines.sessions.example import write_example_recordings
    from heimdall_pipelines.stations.network import load_network

    return write_example_recordings(tmp_path_factory.mktemp("example"), load_network())


@pytest.fixture(scope="session")
def _fault_table(request) -> Iterator[FaultTable]:
    """What the tests of this run record of their faults; compared with docs/reliability.md when all have run."""
    table = FaultTable()
    yield table
    compare_or_write(table, request.session)


@pytest.fixture
def fault(request, _fault_table) -> Fault:
    """Records the line of a test that has the marker ``fault("title")``."""
    key = fault_of(request.node)
    assert key is not None, 'the marker fault("title") is missing'
    test_file, title = key
    return Fault(_fault_table, title, test_file)
