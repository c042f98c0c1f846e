"""One real PostgreSQL and one real S3 server per test run; a database of its own and empty buckets per test."""

import gc
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psycopg2
import pytest
from hypothesis import HealthCheck

from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.settings import ENV_PREFIX, Settings, load_settings
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.migrate import migrate
from heimdall_pipelines.store.objects import ObjectStore
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.fault_table import Fault, FaultTable, fault_of
from heimdall_pipelines_tests.kernels import wait_until_compiled
from heimdall_pipelines_tests.own_servers import OwnServers
from heimdall_pipelines_tests.run_guard import end_on_signals, open_folder
from heimdall_pipelines_tests.scheduling import group, place
from heimdall_pipelines_tests.shared_stack import PROCESS, SharedStack
from heimdall_pipelines_tests.tcp_link import TcpLink

if TYPE_CHECKING:
    from heimdall_pipelines.sessions.importing import ImportReport
    from heimdall_pipelines_tests.dev_server import RunningDev
    from heimdall_pipelines_tests.remembered import Remembered

TEMPLATE = f"template_heimdall_{PROCESS}"
gc.disable()  # until the tests are collected, a third of whose time it would take
STACK, FAULTS = pytest.StashKey[SharedStack](), pytest.StashKey[FaultTable]()

# No limit of wall time: a busy machine may take seconds for a moment, and pytest's own timeout ends what never ends.
NO_HURRY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# No find of the moment fails a run; searching at length is for the other profile.
hypothesis.settings.register_profile("repeatable", derandomize=True, max_examples=25, **NO_HURRY)
hypothesis.settings.register_profile("search", max_examples=2000, **NO_HURRY)
hypothesis.settings.load_profile("repeatable")


STARTS_SERVERS = {"server_settings", "own_stack"}  # fixtures: every test gets PostgreSQL and S3 through one of them
NOT_FAST = ("programs", "slow", "long")


def pytest_configure(config):
    end_on_signals()
    config.stash[STACK], config.stash[FAULTS] = SharedStack(config), FaultTable()
    for plugin in (config.stash[STACK], config.stash[FAULTS]):
        config.pluginmanager.register(plugin)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what is fast, and begin with the files that take longest."""
    for item in items:
        if STARTS_SERVERS.isdisjoint(item.fixturenames) and not any(map(item.get_closest_marker, NOT_FAST)):
            item.add_marker("fast")
    items.sort(key=place)


def pytest_collection_finish():
    """Collect garbage from now on, and none of what the tests' modules and their imports are."""
    gc.enable()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class SharingFiles(LoadFileScheduling):
        _split_scope = staticmethod(group)

    return SharingFiles(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside():
    """Tests see no HEIMDALL_ variable of the machine but those that are meant for tests."""
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX) and not name.startswith(f"{ENV_PREFIX}TEST_"):
            del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _compiled_kernels(request):
    """Among the processes of pytest-xdist none compiles what another one does."""
    if hasattr(request.config, "workerinput"):
        wait_until_compiled()


@pytest.fixture(scope="session")
def server_settings(request) -> Settings:
    """Settings of the servers, with the default database and the buckets of this process."""
    environment = request.config.stash[STACK].start()
    buckets = {f"s3_bucket_{kind}_iq": f"test-{kind}-iq-{PROCESS}" for kind in ("raw", "synthetic")}
    own = {k.removeprefix(ENV_PREFIX).lower(): v for k, v in environment.items()}
    return load_settings(**own, **buckets, s3_sync="none")  # a power cut may have the objects of these


def _connected(settings: Settings, database: str) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(
        host=settings.pg_host,
        port=settings.pg_port,
        user=settings.pg_user,
        password=settings.pg_password.get_secret_value(),
        dbname=database,
    )
    connection.autocommit = True
    return connection


def execute_on_server(settings: Settings, statement: str, database: str = "postgres") -> None:
    """Run a statement outside any transaction."""
    with closing(_connected(settings, database)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


class Databases:
    """Makes and drops databases of one server, by one connection: a new one for each would cost as much again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = _connected(settings, "postgres")

    def execute(self, statement: str) -> None:
        if self._connection.closed:
            self._connection = _connected(self._settings, "postgres")
        with self._connection.cursor() as cursor:
            cursor.execute(statement)

    @contextmanager
    def copied(self, template: str) -> Iterator[Settings]:
        """Settings with a copy of a database, which is dropped in the end."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        # Copied as files, which takes half of what it takes through the log.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield self._settings.model_copy(update={"pg_database": name})
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def databases(server_settings) -> Iterator[Databases]:
    """Those of the servers, and nothing of them is meant to outlive a power cut."""
    with closing(Databases(server_settings)) as made:
        for statement in ("fsync = off", "full_page_writes = off"):
            made.execute(f"ALTER SYSTEM SET {statement}")
        made.execute("SELECT pg_reload_conf()")
        yield made


@pytest.fixture(scope="session")
def _template(server_settings, databases) -> str:
    """A migrated database that those of the tests are copied from (faster than migrating each)."""
    databases.execute(f"CREATE DATABASE {TEMPLATE}")
    with Database(server_settings.model_copy(update={"pg_database": TEMPLATE})) as database:
        migrate(database)
    return TEMPLATE


@pytest.fixture
def empty_database_settings(databases) -> Iterator[Settings]:
    """Settings with an empty database of the test's own, and with buckets that are empty."""
    with databases.copied("template1") as own:
        yield own


@pytest.fixture(scope="session")
def _objects(server_settings) -> Iterator[ObjectStore]:
    with closing(ObjectStore(server_settings)) as objects:
        yield objects


@pytest.fixture(scope="session")
def _each_probe_once() -> Iterator[None]:
    """Draw the thousand scenes before a dataset is created once for the same recipe: a second of processor time."""
    from heimdall_pipelines.datasets import requesting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requesting, "probe_acceptance", cache(requesting.probe_acceptance))
        yield


@pytest.fixture
def settings(databases, _template, _objects, _each_probe_once) -> Iterator[Settings]:
    """Settings with a migrated database of the test's own, and with buckets that are emptied after it."""
    with databases.copied(_template) as own:
        _objects.create_buckets()
        yield own
        # Emptied and kept for the next test: the first object in a new bucket takes 0.2 s.
        for bucket in (own.s3_bucket_raw_iq, own.s3_bucket_synthetic_iq):
            _objects.remove(bucket, "")


@pytest.fixture(scope="module")
def _database_of_module(server_settings, _template, _each_probe_once) -> Iterator[Settings]:
    from heimdall_pipelines_tests.datasets.support import database_of_module

    with database_of_module(server_settings) as own:
        yield own


@pytest.fixture
def module_settings(_database_of_module) -> Iterator[Settings]:
    """As `settings`, but with one database for all tests of a module, emptied after each: for tests of datasets."""
    from heimdall_pipelines_tests.datasets.support import empty

    yield _database_of_module
    empty(_database_of_module)


def environment_of(settings: Settings) -> dict[str, str]:
    """The HEIMDALL_* variables that say the same as these settings."""
    values = settings.model_dump(exclude={"home", "pg_bindir"}, exclude_none=True)
    secrets = {name: getattr(settings, name) for name in ("pg_password", "s3_secret_key", "alert_urls", "redis_url")}
    values |= {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    return {f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in values.items()}


@pytest.fixture
def stores(settings) -> Iterator[Stores]:
    """Both stores, empty."""
    with open_stores(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def remembered() -> "Remembered":
    """Rows and objects that tests begin with, made once and put back for each."""
    from heimdall_pipelines_tests.remembered import Remembered

    return Remembered()


@pytest.fixture
def example_session(stores, remembered, example_recordings) -> Callable[..., "ImportReport"]:
    """Puts the made-up session into the empty stores, as `example_in` says."""
    from heimdall_pipelines_tests.sessions.support import example_in

    return partial(example_in, stores, remembered, example_recordings)


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
def running_dev(example_recordings) -> Iterator["RunningDev"]:
    """One `heimdall dev` for the whole ways; the tests of test_whole_way.py, which come last, end it."""
    from heimdall_pipelines_tests.dev_server import started_with_a_session

    with started_with_a_session(example_recordings) as running:
        yield running


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """Servers of a module's own."""
    folder = open_folder("own")
    stack = Stack(folder / "home")
    try:
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_servers(own_stack, monkeypatch) -> OwnServers:
    """The same, to be killed and started again."""
    return OwnServers(own_stack, monkeypatch)


@pytest.fixture
def fault(request) -> Fault:
    """Records the line of a test that has the marker ``fault("title")``."""
    key = fault_of(request.node)
    assert key is not None, 'the marker fault("title") is missing'
    test_file, title = key
    return Fault(request.config.stash[FAULTS], title, test_file)
