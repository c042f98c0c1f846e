"""Reserved ports for servers that a test starts later, or stops and starts again."""

import socket
from contextlib import ExitStack

from heimdall_pipelines.local.ports import LOOPBACK, free_port, reserve

# No server of the project chooses from these, and they are not used for outgoing connections.
PORTS = range(22_800, 24_200)
_reservations = ExitStack()


def held_port(within: range = PORTS) -> int:
    """Choose a free port that no other process of the project chooses until this one ends."""
    return free_port(None, within, lambda port: reserve(port, _reservations))


def is_listening(port: int) -> bool:
    """Whether a server takes connections; in its way no more than any client."""
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == 0
