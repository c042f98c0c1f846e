"""What processes load before they do anything: it stays in their memory as long as they live."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.programs

FOR_SOME_RUNS = {"PIL", "apprise", "boto3", "celery", "matplotlib", "pandas", "redis"}
LOADED = "import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        # The code server, every run (an hour of recording too), and every worker.
        ("heimdall_pipelines.definitions", FOR_SOME_RUNS),
        # `heimdall session record`, which may take an hour, and most other commands.
        ("heimdall_pipelines.sessions.recording", FOR_SOME_RUNS | {"dagster"}),
    ],
)
def test_what_only_some_runs_need_is_not_loaded_by_all(module, heavy):
    answer = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)], capture_output=True, text=True, check=True
    )
    loaded = set(answer.stdout.split())
    assert "numpy" in loaded  # the list is that of what was loaded
    assert not loaded & heavy
