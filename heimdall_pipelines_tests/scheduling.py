"""Which process of pytest-xdist gets which tests, and in which order: long files first, what shares a server together.

Dagster takes half a minute to start; some files use one that runs.
"""

import pytest

# So that none of them is left over for the end; within a group in this order.
LONG_FILES = (
    "edits/test_soak.py",
    "deployment/test_killed_services.py",
    "deployment/test_killed_servers.py",
    "cluster/test_runs.py",
    "cluster/test_two_machines.py",
    "test_synthetic_whole_way.py",
    "test_whole_way.py",
    "deployment/test_deployment.py",
    "cli/test_dev.py",
    "cli/test_commands.py",
    "test_interrupted.py",
    "deployment/test_backup.py",
    "cluster/test_worker_command.py",
    "test_faults.py",
    "edits/test_edits.py",
    "test_integrity_outages.py",
    "test_integrity_faults.py",
    "test_integrity_rivals.py",
    "defs/test_synthetic_checks.py",
    "datasets/test_generating.py",
    "datasets/test_workers.py",
    "local/test_postgres.py",
    "local/test_stack.py",
)
_GROUP = {
    "cluster/test_two_machines.py": "cluster/test_runs.py",  # the fixture cluster
    "test_synthetic_whole_way.py": "test_whole_way.py",  # the fixture running_dev
}
_FOLDER = "heimdall_pipelines_tests/"


def place(item: pytest.Item) -> int:
    """By which tests are sorted."""
    name = _file(item.nodeid)
    return LONG_FILES.index(name) if name in LONG_FILES else len(LONG_FILES)


def group(nodeid: str) -> str:
    """What goes to one process."""
    name = _file(nodeid)
    return _GROUP.get(name, name)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0].removeprefix(_FOLDER)
