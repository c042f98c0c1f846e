"""Ports for servers that a test starts later, or stops and starts again: nobody else takes them meanwhile."""

import socket
from contextlib import ExitStack

from heimdall_pipelines.local.ports import LOOPBACK, claim, free_port

# No server of the project chooses from these by itself, and the system hands them out to nobody.
PORTS = range(22_800, 24_200)
_claims = ExitStack()


def held_port(within: range = PORTS) -> int:
    """Choose a free port that no other process of the project chooses until this one ends."""
    return free_port(None, within, lambda port: claim(port, _claims))


def is_listening(port: int) -> bool:
    """Whether a server takes connections; in its way no more than any client."""
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == 0
