"""PostgreSQL and S3 server of a module's own, which its tests may kill."""

import os
import signal
from collections.abc import Iterable
from functools import partial

import pytest

from heimdall_pipelines.local.ports import is_free
from heimdall_pipelines.local.seaweed import GRPC_OFFSET
from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.objects import ObjectLocation, ObjectsUnavailableError
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.waiting import wait_for


class OwnServers:
    """Servers that a test may kill; what runs from now on is sent to them."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stack = stack
        self._monkeypatch = monkeypatch
        self.start()

    def start(self) -> None:
        for name, value in self._stack.start().items():
            self._monkeypatch.setenv(name, value)

    def start_s3_again(self, locations: Iterable[ObjectLocation]) -> None:
        """Start S3, which after a kill may answer 500 for some seconds before objects can be read."""
        self.start()
        with open_stores(load_settings()) as opened:
            there = list(locations)
            wait_for("S3 to give objects again", lambda: all(map(partial(is_readable, opened), there)))

    def kill_s3(self) -> None:
        status = self._stack.status().s3
        os.kill(status.pid, signal.SIGKILL)
        # It ends thread by thread: it and its ports are gone some milliseconds apart.
        ports = (status.port, status.port + GRPC_OFFSET)
        wait_for("S3 to end", lambda: not self._stack.status().s3.running and all(map(is_free, ports)))

    def kill_postgres(self) -> None:
        status = self._stack.status().postgres
        os.kill(status.pid, signal.SIGKILL)
        wait_for("PostgreSQL to end", lambda: not self._stack.status().postgres.running and is_free(status.port))


def is_readable(stores: Stores, location: ObjectLocation) -> bool:
    try:
        return len(stores.objects.read(location, 0, 1)) == 1
    except ObjectsUnavailableError:
        return False
