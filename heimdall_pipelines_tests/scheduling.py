"""Which process of pytest-xdist gets which tests: those of a file stay together, as do files that share a server.

Dagster takes half a minute to start; the files named here use one that runs.
"""

from xdist.scheduler import LoadFileScheduling

_WITH = {
    "cluster/test_two_machines.py": "cluster/test_runs.py",  # the fixture cluster
    "test_synthetic_whole_way.py": "test_whole_way.py",  # the fixture running_dev
}
_FOLDER = "heimdall_pipelines_tests/"


class SharingFiles(LoadFileScheduling):
    """Hands out whole files."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        name = file.removeprefix(_FOLDER)
        return _WITH.get(name, name)
