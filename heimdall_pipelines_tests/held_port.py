"""Ports for servers that a test starts later, or stops and starts again: nobody else takes them meanwhile."""

from contextlib import ExitStack

from heimdall_pipelines.local.ports import claim, free_port

# No server of the project chooses from these by itself, and the system hands them out to nobody.
PORTS = range(22_800, 24_200)
_claims = ExitStack()


def held_port(within: range = PORTS) -> int:
    """Choose a free port that no other process of the project chooses until this one ends."""
    return free_port(None, within, lambda port: claim(port, _claims))
