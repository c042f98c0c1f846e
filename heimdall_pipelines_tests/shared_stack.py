"""The servers of a test run: one stack, shared by all of its processes.

pytest-xdist runs the tests in several processes and has one more that hands them out. That one chooses the folder and
stops the servers; the first test that needs them starts them. Without xdist a single process does all of this.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines_tests.kernels import start_compiling
from heimdall_pipelines_tests.run_guard import RUN_FOLDER, RunGuard

# What stands in the names of databases and buckets: processes of the same run use the same servers.
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "main")
_KEY = "heimdall_run_folder"


class SharedStack:
    """A plugin of pytest that knows the folder of the run and its servers."""

    def __init__(self, config: pytest.Config) -> None:
        given = getattr(config, "workerinput", {}).get(_KEY)
        # pytest's own folders are closed to the unprivileged user that PostgreSQL runs as under root.
        folder = Path(given or tempfile.mkdtemp(prefix="heimdall-tests-")).resolve()
        folder.chmod(0o755)
        os.environ[RUN_FOLDER] = str(folder)
        self._folder = folder
        self._guard = RunGuard(folder) if given is None else None
        self._stack = Stack(folder / "home")
        self._compiling: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, str]:
        """Start the servers unless another process has, and give HEIMDALL_* that reach them."""
        return self._stack.start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give a process of xdist the folder."""
        node.workerinput[_KEY] = str(self._folder)
        self._compiling = self._compiling or start_compiling()

    def pytest_unconfigure(self) -> None:
        """Stop the servers when all processes have ended, and end what tests have left running."""
        if self._guard is None:
            return
        if self._compiling is not None:
            self._compiling.kill()
            self._compiling.wait()
        try:
            self._stack.stop()
        finally:
            left = self._guard.end()
        if left:
            print("", f"tests left {len(left)} processes running, which were ended:", *left, sep="\n")
