"""The servers of a test run: one stack, shared by all of its processes.

pytest-xdist runs the tests in several processes and has one more that hands them out. That one chooses the folder and
stops the servers, also after Ctrl-C or the crash of a process; the first test that needs them starts them.
Without xdist a single process does all of this.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from heimdall_pipelines.local.stack import Stack

# What stands in the names of databases and buckets: processes of the same run use the same servers.
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "main")
_KEY = "heimdall_stack_home"


class SharedStack:
    """A plugin of pytest that knows the folder of the servers."""

    def __init__(self, config: pytest.Config) -> None:
        given = getattr(config, "workerinput", {}).get(_KEY)
        self._is_ours = given is None
        # pytest's own folders are closed to the unprivileged user that PostgreSQL runs as under root.
        self._folder = Path(given or tempfile.mkdtemp(prefix="heimdall-tests-"))
        if self._is_ours:
            self._folder.chmod(0o755)
        self._stack = Stack(self._folder / "home")

    def start(self) -> dict[str, str]:
        """Start the servers unless another process has, and give HEIMDALL_* that reach them."""
        return self._stack.start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a process of xdist the folder."""
        node.workerinput[_KEY] = str(self._folder)

    def pytest_unconfigure(self) -> None:
        """Stop the servers when all processes have ended."""
        if self._is_ours:
            try:
                self._stack.stop()
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)
