"""Servers for deployments: databases and buckets of their own, or whole servers, which can be killed and restarted."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil

from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.settings import ENV_PREFIX, Settings, load_settings
from heimdall_pipelines.store.objects import ObjectStore
from heimdall_pipelines_tests.conftest import execute_on_server
from heimdall_pipelines_tests.run_guard import open_folder
from heimdall_pipelines_tests.waiting import TIMEOUT_S


@contextmanager
def empty_servers(server: Settings) -> Iterator[Settings]:
    """Settings with two empty databases, and three buckets that do not exist yet; only these stay, empty."""
    name = f"deployment-{uuid.uuid4().hex[:12]}"
    own = server.model_copy(
        update={
            "pg_database": f"{name}-heimdall".replace("-", "_"),
            "pg_dagster_database": f"{name}-dagster".replace("-", "_"),
            "s3_bucket_raw_iq": f"{name}-raw-iq",
            "s3_bucket_synthetic_iq": f"{name}-synthetic-iq",
            "s3_bucket_compute_logs": f"{name}-compute-logs",
        }
    )
    databases = (own.pg_database, own.pg_dagster_database)
    for database in databases:
        execute_on_server(own, f"CREATE DATABASE {database}")
    try:
        yield own
        with closing(ObjectStore(own)) as objects:
            for bucket in (own.s3_bucket_raw_iq, own.s3_bucket_synthetic_iq, own.s3_bucket_compute_logs):
                objects.remove(bucket, "")
    finally:
        for database in databases:
            execute_on_server(own, f"DROP DATABASE {database} WITH (FORCE)")


class Servers:
    """A local stack for this test only."""

    def __init__(self, home: Path) -> None:
        self._stack = Stack(home)

    def start(self) -> Settings:
        """Start what does not run, and wait until it answers."""
        environment = self._stack.start()
        return load_settings(**{name.removeprefix(ENV_PREFIX).lower(): value for name, value in environment.items()})

    def kill(self, name: str) -> None:
        """End every process of a server, ``postgres`` or ``s3``, at once."""
        pid = getattr(self._stack.status(), name).pid
        assert pid is not None, f"{name} does not run"
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):  # a child may end with its parent
                process.kill()
        psutil.wait_procs(family, timeout=TIMEOUT_S)

    def stop(self) -> None:
        self._stack.stop()


@contextmanager
def own_servers() -> Iterator[Servers]:
    """Servers that do not run yet; at the end neither processes nor files are left of them."""
    folder = open_folder("servers")
    servers = Servers(folder / "home")
    try:
        yield servers
    finally:
        servers.stop()
        shutil.rmtree(folder)
