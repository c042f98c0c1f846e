"""PostgreSQL and S3 of a test module's own, which can be killed and come back on the same ports."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.settings import ENV_PREFIX, Settings, load_settings
from heimdall_pipelines_tests.run_guard import open_folder
from heimdall_pipelines_tests.waiting import TIMEOUT_S


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
