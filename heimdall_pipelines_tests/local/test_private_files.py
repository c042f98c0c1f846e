"""What is below `.heimdall` is for its owner only: logs of runs, the daemon's output, credentials."""

import os
import stat

from heimdall_pipelines.cli.dev import _only_one
from heimdall_pipelines.cli.environment import dagster_home
from heimdall_pipelines.local.stack import Stack


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_logs_of_runs_are_in_a_private_folder(tmp_path):
    before = os.umask(0)
    try:
        home = tmp_path / "home"
        Stack(home).make_home()
        assert mode(home) in (0o700, 0o711)  # as root PostgreSQL's own user passes it
        (home / "dagster").mkdir(mode=0o777)  # of an earlier version
        assert mode(dagster_home(home)) == 0o700
        with _only_one(home):
            assert mode(home / "dev.lock") == 0o600
    finally:
        os.umask(before)
