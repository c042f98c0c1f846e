"""Compiles the kernels of synthesis and extraction once: each process of a run would do so at the same time.

A fresh clone has none compiled. It takes twenty seconds of processor, and half a second where it is done already.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from heimdall_pipelines_tests.run_guard import RUN_FOLDER
from heimdall_pipelines_tests.waiting import wait_for


def start_compiling() -> subprocess.Popen[bytes]:
    """Begin, in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", __name__])


def wait_until_compiled() -> None:
    """Wait until that process has ended, whether it could or not."""
    wait_for("the kernels to be compiled", _sign().exists)


def _sign() -> Path:
    return Path(os.environ[RUN_FOLDER]) / "kernels-are-compiled"


def _compile() -> None:
    from heimdall_pipelines.terrain.ground import Ground
    from heimdall_pipelines.terrain.shipped import SHIPPED_TILE
    from heimdall_pipelines_tests.datasets.support import SMALL, recipe, sample_digest

    sample_digest(replace(recipe(**SMALL), ground=Ground((SHIPPED_TILE,))), 0)


if __name__ == "__main__":
    try:
        _compile()
    finally:
        _sign().touch()
