"""A folder that root's unprivileged user can reach, and the promise that nothing is left running in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from heimdall_pipelines_tests.run_guard import open_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """pytest's own tmp_path lies below a folder with mode 0700, which is a case of its own."""
    made = open_folder("local")
    yield made
    left = end_everything_in(made)
    shutil.rmtree(made)
    assert left == [], "the test left servers running"


def end_everything_in(folder: Path) -> list[str]:
    """End the servers that work below the folder, which only the test can have started, and name them."""
    left = []
    for process in psutil.process_iter():
        try:
            if process.name() in {"postgres", "weed"} and Path(process.cwd()).is_relative_to(folder):
                left.append(f"{process.name()} {process.pid}")
                process.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return left
