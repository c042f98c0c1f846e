"""A real Dagster UI for tests, without a code location."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

from heimdall_pipelines_tests.held_port import held_port
from heimdall_pipelines_tests.waiting import wait_for


@contextmanager
def running_ui(folder, program="dagster_webserver"):
    """Run a UI on the instance of DAGSTER_HOME and yield its address; its log is in `folder`."""
    port = held_port()
    command = [program, "--empty-workspace", "-h", "127.0.0.1", "-p", str(port)]
    with (folder / "ui.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=os.environ
        )
        try:

            def answers():
                assert process.poll() is None, (folder / "ui.log").read_text()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info"):
                        return True
                except urllib.error.URLError:
                    return False

            wait_for("the UI", answers)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()
